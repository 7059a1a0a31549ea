/* postings.c - one open-addressing table from term to a sorted list of postings.
 *
 * Most terms of a user occur once or twice, so a list of up to two postings lives
 * inside its table entry.  Lists are kept sorted by slot: removal finds its posting by
 * binary search and closes the gap, which needs no tombstones, no compaction and no
 * second pass.  The gap costs a memmove, at worst 400 KB for a term in each of 100,000
 * documents; new documents mostly get the highest slot and are appended.
 *
 * Entries leave the table by moving later ones back, so probing never crosses
 * graves. */
#include "index/postings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { INLINE_MAX = 2, TABLE_MIN = 64, LENGTHS_MIN = 64, TF_BITS = 8, TF_MASK = 255 };

struct mf_posting_list {
    uint64_t hash; /* 56 bits shifted up by TF_BITS; 0: free entry */
    union {
        uint32_t here[INLINE_MAX]; /* capacity == 0 */
        uint32_t *apart;           /* owned; capacity > INLINE_MAX */
    } at;
    uint32_t count, capacity;
};

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

size_t mf_terms_pack(uint64_t *hashes, size_t count) {
    if (count == 0) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        hashes[i] = hashes[i] >> TF_BITS == 0 ? 1ULL << TF_BITS
                                              : hashes[i] & ~(uint64_t)TF_MASK;
    }
    qsort(hashes, count, sizeof(*hashes), compare_u64);
    size_t packed = 0;
    for (size_t i = 0; i < count; i++) {
        if (packed > 0 && (hashes[packed - 1] ^ hashes[i]) <= TF_MASK) {
            hashes[packed - 1] += (hashes[packed - 1] & TF_MASK) < MF_POSTINGS_TF_MAX;
        } else {
            hashes[packed++] = hashes[i] + 1;
        }
    }
    return packed;
}

void mf_postings_done(mf_postings *p) {
    for (size_t i = 0; i < p->table_size; i++) {
        if (p->table[i].hash != 0 && p->table[i].capacity > 0) {
            mf_free(p->table[i].at.apart);
        }
    }
    mf_free(p->table);
    mf_free(p->lengths);
    *p = (mf_postings){0};
}

/* XXH3 bits are good as they are; the low ones of the 56 pick the entry. */
static size_t home_of(const mf_postings *p, uint64_t hash) {
    return (size_t)(hash >> TF_BITS) & (p->table_size - 1);
}

/* The entry of `hash`, or the free one where it belongs.  The table is never full. */
static mf_posting_list *entry_of(const mf_postings *p, uint64_t hash) {
    size_t at = home_of(p, hash);
    while (p->table[at].hash != 0 && p->table[at].hash != hash) {
        at = (at + 1) & (p->table_size - 1);
    }
    return &p->table[at];
}

static const uint32_t *items_of(const mf_posting_list *list) {
    return list->capacity > 0 ? list->at.apart : list->at.here;
}

static uint32_t *items_for_change(mf_posting_list *list) {
    return list->capacity > 0 ? list->at.apart : list->at.here;
}

/* Room for `more` terms at a load of at most 3/4. */
static mf_rc reserve_terms(mf_postings *p, size_t more, mf_err *err) {
    size_t size = p->table_size == 0 ? TABLE_MIN : p->table_size;
    while ((p->term_count + more) > size / 4 * 3) {
        size *= 2;
    }
    if (size == p->table_size) {
        return MF_OK;
    }
    mf_posting_list *table = mf_alloc_zero(size, sizeof(*table));
    if (table == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of %zu terms", size);
    }
    mf_postings grown = *p;
    grown.table = table;
    grown.table_size = size;
    for (size_t i = 0; i < p->table_size; i++) {
        if (p->table[i].hash != 0) {
            *entry_of(&grown, p->table[i].hash) = p->table[i];
        }
    }
    mf_free(p->table);
    *p = grown;
    return MF_OK;
}

static mf_rc reserve_slot(mf_postings *p, uint32_t slot, mf_err *err) {
    if (slot < p->slots_max) {
        return MF_OK;
    }
    size_t slots_max = p->slots_max == 0 ? LENGTHS_MIN : p->slots_max;
    while (slots_max <= slot) {
        slots_max += slots_max / 2;
    }
    uint32_t *lengths = mf_realloc(p->lengths, slots_max * sizeof(*lengths));
    if (lengths == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu document lengths",
                       slots_max);
    }
    p->lengths = lengths;
    p->slots_max = slots_max;
    return MF_OK;
}

static bool grow_list(mf_postings *p, mf_posting_list *list) {
    uint32_t capacity = list->capacity == 0 ? INLINE_MAX * 2 : list->capacity;
    capacity = list->capacity == 0 ? capacity : capacity + capacity / 2;
    uint32_t *items;
    if (list->capacity == 0) {
        items = mf_alloc_array(capacity, sizeof(*items));
        if (items != NULL) {
            memcpy(items, list->at.here, sizeof(list->at.here));
        }
    } else {
        items = mf_realloc(list->at.apart, capacity * sizeof(*items));
    }
    if (items == NULL) {
        return false;
    }
    p->list_bytes += (capacity - list->capacity) * sizeof(*items);
    list->at.apart = items;
    list->capacity = capacity;
    return true;
}

/* First position whose slot is not below `slot`. */
static uint32_t position_of(const mf_posting_list *list, uint32_t slot) {
    const uint32_t *items = items_of(list);
    uint32_t low = 0;
    uint32_t high = list->count;
    if (high > 0 && items[high - 1] >> TF_BITS < slot) {
        return high; /* the common case: a new document at the end */
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (items[middle] >> TF_BITS < slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The table has room for a new term. */
static bool insert_posting(mf_postings *p, uint64_t term, uint32_t slot) {
    uint64_t hash = term & ~(uint64_t)TF_MASK;
    mf_posting_list *list = entry_of(p, hash);
    bool full = list->count == (list->capacity > 0 ? list->capacity : INLINE_MAX);
    if (list->hash != 0 && full && !grow_list(p, list)) {
        return false;
    }
    if (list->hash == 0) {
        list->hash = hash;
        p->term_count++;
    }
    uint32_t at = position_of(list, slot);
    uint32_t *items = items_for_change(list);
    memmove(items + at + 1, items + at, (list->count - at) * sizeof(*items));
    items[at] = slot << TF_BITS | (uint32_t)(term & TF_MASK);
    list->count++;
    return true;
}

/* Frees the entry at `hole` and moves back those that probed past it. */
static void drop_entry(mf_postings *p, size_t hole) {
    size_t mask = p->table_size - 1;
    for (size_t at = (hole + 1) & mask; p->table[at].hash != 0; at = (at + 1) & mask) {
        size_t home = home_of(p, p->table[at].hash);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            p->table[hole] = p->table[at];
            hole = at;
        }
    }
    p->table[hole] = (mf_posting_list){0};
    p->term_count--;
}

static void erase_posting(mf_postings *p, uint64_t term, uint32_t slot) {
    mf_posting_list *list = entry_of(p, term & ~(uint64_t)TF_MASK);
    MF_ASSERT(list->hash != 0);
    uint32_t at = position_of(list, slot);
    uint32_t *items = items_for_change(list);
    MF_ASSERT(at < list->count && items[at] >> TF_BITS == slot);
    list->count--;
    memmove(items + at, items + at + 1, (list->count - at) * sizeof(*items));
    if (list->capacity > 0 && list->count <= INLINE_MAX / 2) {
        p->list_bytes -= list->capacity * sizeof(*items);
        uint32_t here[INLINE_MAX] = {0};
        memcpy(here, items, list->count * sizeof(*items));
        mf_free(items);
        memcpy(list->at.here, here, sizeof(here));
        list->capacity = 0;
    }
    if (list->count == 0) {
        drop_entry(p, (size_t)(list - p->table));
    }
}

mf_rc mf_postings_add(mf_postings *p, uint32_t slot, const uint64_t *terms,
                      size_t count, uint32_t length, mf_err *err) {
    MF_ASSERT(slot < MF_POSTINGS_SLOTS_MAX);
    MF_TRY(reserve_terms(p, count, err));
    MF_TRY(reserve_slot(p, slot, err));
    for (size_t i = 0; i < count; i++) {
        if (!insert_posting(p, terms[i], slot)) {
            while (i > 0) {
                erase_posting(p, terms[--i], slot);
            }
            return MF_FAIL(err, MF_E_NOMEM, "no memory for the words of a document");
        }
    }
    p->lengths[slot] = length;
    p->length_sum += length;
    p->doc_count++;
    return MF_OK;
}

void mf_postings_remove(mf_postings *p, uint32_t slot, const uint64_t *terms,
                        size_t count, uint32_t length) {
    MF_ASSERT(slot < p->slots_max && p->lengths[slot] == length && p->doc_count > 0);
    for (size_t i = 0; i < count; i++) {
        erase_posting(p, terms[i], slot);
    }
    p->length_sum -= length;
    p->doc_count--;
}

/* What one question needs of the collection.  Lucene's form of idf, which stays
 * positive for words in more than half the documents; the rest as in Robertson and
 * Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009. */
typedef struct bm25_scale {
    double docs, k1;
    float fixed, per_term; /* the norm of a document is fixed + per_term * length */
} bm25_scale;

static bm25_scale scale_of(const mf_postings *p, mf_bm25 bm25) {
    double docs = (double)p->doc_count;
    double average = p->length_sum > 0 ? (double)p->length_sum / docs : 1.0;
    return (bm25_scale){.docs = docs,
                        .k1 = bm25.k1,
                        .fixed = (float)(bm25.k1 * (1.0 - bm25.b)),
                        .per_term = (float)(bm25.k1 * bm25.b / average)};
}

/* The documents with `term`, NULL when there are none; *most is what the term can add
 * to a score at best. */
static const mf_posting_list *list_of(const mf_postings *p, uint64_t term,
                                      bm25_scale scale, double *most) {
    const mf_posting_list *list =
        p->table_size == 0 ? NULL : entry_of(p, term & ~(uint64_t)TF_MASK);
    double in_docs = list == NULL ? 0.0 : (double)list->count;
    double idf = log(1.0 + (scale.docs - in_docs + 0.5) / (in_docs + 0.5));
    *most = idf * (scale.k1 + 1.0) * (double)(term & TF_MASK);
    return in_docs > 0.0 ? list : NULL;
}

static float term_score(const mf_postings *p, uint32_t item, bm25_scale scale,
                        float most) {
    float tf = (float)(item & TF_MASK);
    float norm = scale.fixed + scale.per_term * (float)p->lengths[item >> TF_BITS];
    return most * tf / (tf + norm);
}

double mf_postings_score(const mf_postings *p, const uint64_t *terms, size_t count,
                         mf_bm25 bm25, float *scores) {
    if (p->doc_count == 0) {
        return 0.0;
    }
    bm25_scale scale = scale_of(p, bm25);
    double attainable = 0.0;
    for (size_t i = 0; i < count; i++) {
        double most;
        const mf_posting_list *list = list_of(p, terms[i], scale, &most);
        attainable += most;
        const uint32_t *items = list == NULL ? NULL : items_of(list);
        for (size_t n = 0; list != NULL && n < list->count; n++) {
            scores[items[n] >> TF_BITS] += term_score(p, items[n], scale, (float)most);
        }
    }
    return attainable;
}

/* As position_of, looking from `from` on in steps that double: short when one slot
 * asked for lies not far behind the other. */
static uint32_t position_after(const mf_posting_list *list, uint32_t from,
                               uint32_t slot) {
    const uint32_t *items = items_of(list);
    uint32_t low = from;
    uint32_t step = 1;
    while (low + step < list->count && items[low + step] >> TF_BITS < slot) {
        low += step;
        step *= 2;
    }
    uint32_t high = low + step < list->count ? low + step : list->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (items[middle] >> TF_BITS < slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Adds what one term gives to each of the documents that has it. */
static void score_listed(const mf_postings *p, const mf_posting_list *list,
                         bm25_scale scale, float most, const uint32_t *slots,
                         size_t slot_count, float *scores) {
    const uint32_t *items = items_of(list);
    uint32_t at = 0;
    for (size_t n = 0; n < slot_count; n++) {
        bool rises = n > 0 && slots[n] > slots[n - 1];
        at = position_after(list, rises ? at : 0, slots[n]);
        if (at < list->count && items[at] >> TF_BITS == slots[n]) {
            scores[slots[n]] += term_score(p, items[at], scale, most);
        }
    }
}

double mf_postings_score_some(const mf_postings *p, const uint64_t *terms, size_t count,
                              mf_bm25 bm25, const uint32_t *slots, size_t slot_count,
                              float *scores) {
    for (size_t i = 0; i < slot_count; i++) {
        scores[slots[i]] = 0.0F;
    }
    if (p->doc_count == 0) {
        return 0.0;
    }
    bm25_scale scale = scale_of(p, bm25);
    double attainable = 0.0;
    for (size_t i = 0; i < count; i++) {
        double most;
        const mf_posting_list *list = list_of(p, terms[i], scale, &most);
        attainable += most;
        if (list != NULL) {
            score_listed(p, list, scale, (float)most, slots, slot_count, scores);
        }
    }
    return attainable;
}

size_t mf_postings_frequency(const mf_postings *p, uint64_t term) {
    return p->table_size == 0 ? 0 : entry_of(p, term & ~(uint64_t)TF_MASK)->count;
}

size_t mf_postings_bytes(const mf_postings *p) {
    return p->table_size * sizeof(*p->table) + p->slots_max * sizeof(*p->lengths) +
           p->list_bytes;
}
