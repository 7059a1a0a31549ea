/* user_index_search.c - one score per document of the population, then the best few.
 *
 *   words of the query -- BM25 / what a perfect document could reach --> keyword part
 *   vector of the query -- cosine of the best part, calibrated --> dense part
 *
 *      base  = vector * dense + keyword * words
 *      total = base + neighbour * (base of each turn around it) + session * (best base
 *              in its session)
 *      score = logistic(total), which keeps the order and lies within 0..1
 *
 * Nothing is cut off on either side: a document with no word in common can win by its
 * cosine and the other way round.
 *
 * A document whose vector is still to come gets as its dense part what documents with
 * the same words have on average: the mean of the population plus a slope times its
 * keyword part.  So a fresh message that answers the question by its words is found at
 * once, and one that has nothing to do with it is neither raised nor sunk.
 *
 * A turn at the edge of its session, or a document that has no session, lacks
 * neighbours; each missing one counts as the population's mean, as if the talk had gone
 * on about anything.  Otherwise short sessions and knowledge would rank below long
 * ones. Knowledge is a session of its own, each item.
 *
 * Both means are taken over at most SAMPLE_MAX documents spread evenly.  So the score
 * of one document depends on its session and on the sample, and a few documents of a
 * large population are scored without a look at the others: mf_index_rescore runs the
 * same functions as mf_index_search, over the sessions of the documents it is given. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "index/user_index_impl.h"
#include "index/words.h"

/* Of all-MiniLM-L6-v2, measured with questions about dialogue: unrelated turns have a
 * cosine of 0 to 0.4, those that hold the answer 0.3 to 0.7.  What a cosine says grows
 * steeply: ((1 + c) / (1 + likely))^8 is 0.15 at 0.35 and 1 at `likely`. */
static const float cosine_likely = 0.7F;
/* A third of what a perfect document would reach says as much as a likely cosine. */
static const float keyword_scale = 3.0F;
/* How much of the dense part a keyword part of 1 foretells: their regression. */
static const float dense_per_keyword = 0.8F;
/* The logistic's middle and steepness: totals of noise lie near 0.5 and score 0.2, the
 * best answers of most questions between 2 and 3.5 and score 0.6 to 0.9. */
static const double score_middle = 1.75;
static const double score_steepness = 1.1;

enum {
    KIND_MESSAGE = 0, /* the other kind is knowledge */
    SPAN_MAX = 100,
    SAMPLE_MAX = 1024, /* documents the mean is taken over */
};

typedef struct ranked {
    float total;
    uint32_t slot;
} ranked;

typedef struct search {
    const mf_index *index;
    const mf_index_query *query;
    const mf_index_weights *weights;
    bool dense;          /* the query has a vector and the path uses it */
    float vector_weight; /* of the dense part in base; 0 unless `dense` */
    float keyword_weight;
    float keyword_share; /* times BM25 gives the keyword part */
    size_t population;   /* documents asked for */
    float expected;      /* dense part of one without vectors and shared words */
    float mean;          /* of base over the population's sample */
    float *bm25;         /* [slot] */
    float *cosine;       /* [slot] best part, or MF_VECTORS_UNSEEN; only if `dense` */
    float *base;         /* [count of a group] */
    float *total;        /* [count of a group] */
    float *window;       /* [span + count of a group + span] */
    ranked *heap;        /* [heap_max]; the top is the one that would leave next */
    size_t heap_count, heap_max;
} search;

mf_index_weights mf_index_weights_default(void) {
    return (mf_index_weights){.vector = 1.0,
                              .keyword = 1.0,
                              .neighbour = 0.4,
                              .neighbour_span = 2,
                              .session = 0.4,
                              .bm25_k1 = 0.9,
                              .bm25_b = 0.4};
}

/* --- the population --------------------------------------------------------------- */

static bool group_wanted(const mf_docs_group *group, const mf_index_query *query) {
    if (group->count == 0) {
        return false;
    }
    if (group->kind != KIND_MESSAGE) {
        return query->knowledge; /* it belongs to no agent and stays in */
    }
    if (!query->messages) {
        return false;
    }
    return mf_uuid_is_none(query->agent_id) ||
           mf_uuid_eq(group->agent_id, query->agent_id) ||
           (!mf_uuid_is_none(query->session_also) &&
            mf_uuid_eq(group->session_id, query->session_also));
}

/* --- base: the parts of a score --- */

/* BM25 of every document that shares a word, added to `bm25`; or, when there are
 * `slots`, of these documents alone. */
static mf_rc score_words(search *s, const uint32_t *slots, size_t slot_count,
                         mf_err *err) {
    const mf_postings *postings = &s->index->postings;
    mf_terms terms = {0};
    mf_rc rc = mf_words_cut(s->query->text, &terms, err);
    if (rc == MF_OK) {
        size_t count = mf_terms_pack(terms.hashes, terms.count);
        mf_bm25 bm25 = {s->weights->bm25_k1, s->weights->bm25_b};
        double attainable =
            slots == NULL
                ? mf_postings_score(postings, terms.hashes, count, bm25, s->bm25)
                : mf_postings_score_some(postings, terms.hashes, count, bm25, slots,
                                         slot_count, s->bm25);
        s->keyword_share = attainable > 0.0 ? (float)(1.0 / attainable) : 0.0F;
    }
    mf_terms_done(&terms);
    return rc;
}

static float keyword_part(const search *s, uint32_t slot) {
    float part = s->bm25[slot] * s->keyword_share;
    return part < 1.0F ? part : 1.0F; /* sums round */
}

static float dense_part(float cosine) {
    float x = (1.0F + cosine) / (1.0F + cosine_likely);
    float x2 = x * x;
    float x4 = x2 * x2;
    return x4 * x4;
}

/* The dense part of a document, by its cosine or by what its words foretell. */
static float dense_of(const search *s, uint32_t slot, float words) {
    if (s->dense && s->cosine[slot] > MF_VECTORS_UNSEEN) {
        return dense_part(s->cosine[slot]);
    }
    return dense_per_keyword * words + s->expected;
}

static float base_of(const search *s, uint32_t slot) {
    float words = keyword_part(s, slot);
    return s->vector_weight * dense_of(s, slot, words) + s->keyword_weight * words;
}

static void blend_group(const search *s, const mf_docs_group *group, float *base) {
    for (uint32_t i = 0; i < group->count; i++) {
        base[i] = base_of(s, group->slots[i]);
    }
}

/* --- the population's mean, from a sample ----------------------------------------- */

/* One document of each `stride` in a row, so SAMPLE_MAX at most.  Which one differs
 * from one row to the next, or a rhythm in the lengths of sessions could make it the
 * opening turn every time.  Writes the slots; returns how many. */
static size_t sample(const search *s, uint32_t *slots) {
    const mf_docs *docs = &s->index->docs;
    size_t stride = (s->population + SAMPLE_MAX - 1) / SAMPLE_MAX;
    size_t count = 0;
    size_t first = 0; /* position of the group's first document */
    size_t next = 0;  /* position of the next one to take */
    for (uint32_t g = 0; g < docs->group_count; g++) {
        const mf_docs_group *group = &docs->groups[g];
        if (!group_wanted(group, s->query)) {
            continue;
        }
        for (; next < first + group->count; count++) {
            slots[count] = group->slots[next - first];
            uint64_t scattered = (uint64_t)(count + 1) * 0x9E3779B97F4A7C15ULL;
            next = (count + 1) * stride + (size_t)((scattered >> 32) % stride);
        }
        first += group->count;
    }
    return count;
}

/* Sets `expected` and `mean`, given the parts of the documents in the sample. */
static void take_mean(search *s, const uint32_t *slots, size_t count) {
    double dense = 0.0; /* of those with vectors */
    double words = 0.0;
    double words_unseen = 0.0;
    size_t unseen = 0;
    for (size_t i = 0; i < count; i++) {
        double part = (double)keyword_part(s, slots[i]);
        words += part;
        if (s->dense && s->cosine[slots[i]] > MF_VECTORS_UNSEEN) {
            dense += (double)dense_part(s->cosine[slots[i]]);
        } else {
            words_unseen += part;
            unseen++;
        }
    }
    double expected = 0.0;
    if (unseen < count) {
        double foretold = (double)dense_per_keyword * (words - words_unseen);
        expected = (dense - foretold) / (double)(count - unseen);
    }
    dense += expected * (double)unseen + (double)dense_per_keyword * words_unseen;
    double sum = (double)s->vector_weight * dense + (double)s->keyword_weight * words;
    s->expected = (float)expected;
    s->mean = count > 0 ? (float)(sum / (double)count) : 0.0F;
}

static size_t population_of(const mf_index *index, const mf_index_query *query) {
    size_t count = 0;
    for (uint32_t g = 0; g < index->docs.group_count; g++) {
        const mf_docs_group *group = &index->docs.groups[g];
        count += group_wanted(group, query) ? group->count : 0;
    }
    return count;
}

/* --- the best few ----------------------------------------------------------------- */

/* Does `a` come before `b` in the answer?  A total order: keys are unique. */
static bool ranks_before(const search *s, ranked a, ranked b) {
    if (a.total > b.total || a.total < b.total) {
        return a.total > b.total;
    }
    mf_index_key x = s->index->docs.slots[a.slot].doc->facts.key;
    mf_index_key y = s->index->docs.slots[b.slot].doc->facts.key;
    return x.num != y.num ? x.num > y.num : x.kind < y.kind;
}

/* The heap's top is the one that would leave next: it comes last in the answer. */
static void sift_down(const search *s, ranked *heap, size_t count, size_t at) {
    for (;;) {
        size_t last = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++) {
            last = ranks_before(s, heap[last], heap[child]) ? child : last;
        }
        if (last == at) {
            return;
        }
        ranked swap = heap[at];
        heap[at] = heap[last];
        heap[last] = swap;
        at = last;
    }
}

static void offer(search *s, ranked one) {
    ranked *heap = s->heap;
    if (s->heap_count == s->heap_max) {
        if (ranks_before(s, one, heap[0])) {
            heap[0] = one;
            sift_down(s, heap, s->heap_count, 0);
        }
        return;
    }
    size_t at = s->heap_count++;
    while (at > 0 && ranks_before(s, heap[(at - 1) / 2], one)) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = one;
}

/* Offers a whole group; most of its documents fail the first comparison. */
static void offer_all(search *s, const mf_docs_group *group, const float *totals) {
    for (uint32_t i = 0; i < group->count; i++) {
        if (s->heap_count < s->heap_max || totals[i] >= s->heap[0].total) {
            offer(s, (ranked){totals[i], group->slots[i]});
        }
    }
}

/* --- total: what surrounds a document --- */

/* A document without a session: all its neighbours are missing. */
static float total_alone(const search *s, float base) {
    float around = (float)(s->weights->neighbour * 2 * s->weights->neighbour_span);
    float own = 1.0F + (float)s->weights->session;
    return own * base + around * s->mean;
}

/* Of count >= 1 values.  Lanes, because each comparison waits for the one before it. */
static float largest(const float *values, size_t count) {
    enum { LANES = 8 };
    float best[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        best[lane] = values[0];
    }
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            float value = values[i + lane];
            best[lane] = value > best[lane] ? value : best[lane];
        }
    }
    for (; i < count; i++) {
        best[0] = values[i] > best[0] ? values[i] : best[0];
    }
    for (size_t lane = 1; lane < LANES; lane++) {
        best[0] = best[lane] > best[0] ? best[lane] : best[0];
    }
    return best[0];
}

static void total_in_session(search *s, size_t count) {
    const float *base = s->base;
    size_t span = (size_t)s->weights->neighbour_span;
    float *restrict total = s->total;
    float *restrict window = s->window;
    for (size_t i = 0; i < span; i++) {
        window[i] = s->mean;
        window[span + count + i] = s->mean;
    }
    memcpy(window + span, base, count * sizeof(*window));
    memset(total, 0, count * sizeof(*total));
    for (size_t d = 1; d <= span; d++) {
        for (size_t i = 0; i < count; i++) {
            total[i] += window[span + i - d] + window[span + i + d];
        }
    }
    float share = (float)s->weights->neighbour;
    float session = (float)s->weights->session * largest(base, count);
    for (size_t i = 0; i < count; i++) {
        total[i] = window[span + i] + share * total[i] + session;
    }
}

/* From the base of each document of the group to its total. */
static void total_group(search *s, const mf_docs_group *group) {
    if (group->kind == KIND_MESSAGE) {
        total_in_session(s, group->count);
        return;
    }
    for (uint32_t i = 0; i < group->count; i++) {
        s->total[i] = total_alone(s, s->base[i]);
    }
}

/* Scores the whole population. */
static void rank(search *s) {
    const mf_docs *docs = &s->index->docs;
    for (uint32_t g = 0; g < docs->group_count; g++) {
        const mf_docs_group *group = &docs->groups[g];
        if (group_wanted(group, s->query)) {
            blend_group(s, group, s->base);
            total_group(s, group);
            offer_all(s, group, s->total);
        }
    }
}

/* --- the whole --- */

static mf_index_hit hit_of(const search *s, ranked one) {
    float cosine = s->dense ? s->cosine[one.slot] : MF_VECTORS_UNSEEN;
    double score =
        1.0 / (1.0 + exp(-score_steepness * ((double)one.total - score_middle)));
    return (mf_index_hit){
        .facts = s->index->docs.slots[one.slot].doc->facts,
        .score = (float)score,
        .similarity =
            cosine > MF_VECTORS_UNSEEN ? fminf(fmaxf(cosine, -1.0F), 1.0F) : 0.0F,
        .keyword = keyword_part(s, one.slot),
    };
}

static size_t unload_heap(search *s, mf_index_hit *hits) {
    size_t count = s->heap_count;
    while (s->heap_count > 0) { /* the last one comes off first */
        hits[--s->heap_count] = hit_of(s, s->heap[0]);
        s->heap[0] = s->heap[s->heap_count];
        sift_down(s, s->heap, s->heap_count, 0);
    }
    return count;
}

static mf_rc run(search *s, mf_index_hit *hits, size_t *count, mf_err *err) {
    memset(s->bm25, 0, s->index->docs.slot_count * sizeof(*s->bm25));
    MF_TRY(score_words(s, NULL, 0, err));
    if (s->dense) {
        MF_TRY(mf_vectors_score(&s->index->vectors, s->query->vector, s->cosine,
                                s->index->docs.slot_count, err));
    }
    uint32_t slots[SAMPLE_MAX];
    take_mean(s, slots, sample(s, slots));
    rank(s);
    *count = unload_heap(s, hits);
    return MF_OK;
}

static mf_rc check_query(const mf_index *index, const mf_index_query *query,
                         const mf_index_weights *weights, mf_err *err) {
    MF_ASSERT(weights->neighbour_span >= 0 && weights->neighbour_span <= SPAN_MAX);
    for (size_t i = 0; query->vector != NULL && i < index->vectors.dim; i++) {
        if (!isfinite(query->vector[i])) {
            return MF_FAIL(err, MF_E_INVAL, "value %zu of a vector is not a number", i);
        }
    }
    return MF_OK;
}

static search search_for(const mf_index *index, const mf_index_query *query,
                         const mf_index_weights *weights, size_t population) {
    bool dense = query->vector != NULL && query->path != MF_PATH_KEYWORD;
    bool words = !dense || query->path != MF_PATH_VECTOR;
    return (search){
        .index = index,
        .query = query,
        .weights = weights,
        .dense = dense,
        .vector_weight = dense ? (float)weights->vector : 0.0F,
        .keyword_weight = words ? (float)weights->keyword * keyword_scale : 0.0F,
        .population = population,
        .heap_max = query->hits_max < population ? query->hits_max : population,
    };
}

/* Working memory of a search whose largest group is `group_max`; *block is freed by the
 * caller in any case. */
static mf_rc reserve(search *s, uint32_t group_max, void **block, mf_err *err) {
    size_t slots = s->index->docs.slot_count;
    size_t span = (size_t)s->weights->neighbour_span;
    size_t group = group_max;
    size_t floats = 2 * slots + 3 * group + 2 * span;
    size_t bytes = s->heap_max * sizeof(ranked) + floats * sizeof(float);
    *block = mf_alloc(bytes);
    if (*block == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to search %zu documents", slots);
    }
    s->heap = *block;
    s->bm25 = (float *)(s->heap + s->heap_max);
    s->cosine = s->bm25 + slots;
    s->base = s->cosine + slots;
    s->total = s->base + group;
    s->window = s->total + group;
    return MF_OK;
}

static uint32_t largest_group(const mf_index *index, const mf_index_query *query) {
    uint32_t most = 0;
    for (uint32_t g = 0; g < index->docs.group_count; g++) {
        const mf_docs_group *group = &index->docs.groups[g];
        if (group->count > most && group_wanted(group, query)) {
            most = group->count;
        }
    }
    return most;
}

mf_rc mf_index_search(const mf_index *index, const mf_index_query *query,
                      const mf_index_weights *weights, mf_index_hit *hits,
                      size_t *count, mf_err *err) {
    MF_TRY(check_query(index, query, weights, err));
    search s = search_for(index, query, weights, population_of(index, query));
    if (s.heap_max == 0) {
        *count = 0;
        return MF_OK;
    }
    void *block;
    mf_rc rc = reserve(&s, largest_group(index, query), &block, err);
    if (rc == MF_OK) {
        rc = run(&s, hits, count, err);
    }
    mf_free(block);
    return rc;
}

/* --- a few documents --- */

/* A document to score, found by its group and then in the group's order. */
typedef struct pick {
    uint32_t group, slot;
    int64_t num;
} pick;

typedef struct picks {
    pick list[MF_INDEX_RESCORE_MAX];
    size_t count;
    uint32_t slots_max; /* most documents to look at */
    uint32_t group_max; /* of the largest session among them */
} picks;

static int compare_picks(const void *a, const void *b) {
    const pick *x = a;
    const pick *y = b;
    if (x->group != y->group) {
        return x->group < y->group ? -1 : 1;
    }
    return (x->num > y->num) - (x->num < y->num);
}

static bool in_session(const mf_docs_group *group) {
    return group->kind == KIND_MESSAGE;
}

/* The documents that are still here and asked for, each once, group by group. */
static void pick_documents(const mf_index *index, const mf_index_query *query,
                           const mf_index_key *keys, size_t key_count, picks *out) {
    const mf_docs *docs = &index->docs;
    *out = (picks){.slots_max = SAMPLE_MAX};
    size_t found = 0;
    for (size_t i = 0; i < key_count; i++) {
        uint32_t slot = mf_docs_find(docs, keys[i]);
        if (slot != MF_DOCS_NONE &&
            group_wanted(&docs->groups[docs->slots[slot].group], query)) {
            out->list[found++] = (pick){docs->slots[slot].group, slot, keys[i].num};
        }
    }
    qsort(out->list, found, sizeof(out->list[0]), compare_picks);
    for (size_t i = 0; i < found; i++) {
        const pick *one = &out->list[i];
        const pick *before = out->count > 0 ? &out->list[out->count - 1] : NULL;
        if (before != NULL && before->slot == one->slot) {
            continue;
        }
        const mf_docs_group *group = &docs->groups[one->group];
        if (!in_session(group)) {
            out->slots_max++;
        } else if (before == NULL || before->group != one->group) {
            out->slots_max += group->count;
            out->group_max =
                out->group_max > group->count ? out->group_max : group->count;
        }
        out->list[out->count++] = *one;
    }
}

/* Slots whose parts the picks need: their whole sessions, and single knowledge items.
 */
static size_t picked_slots(const search *s, const picks *p, uint32_t *slots) {
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++) {
        const pick *one = &p->list[i];
        const mf_docs_group *group = &s->index->docs.groups[one->group];
        if (!in_session(group)) {
            slots[count++] = one->slot;
        } else if (i == 0 || p->list[i - 1].group != one->group) {
            memcpy(slots + count, group->slots, group->count * sizeof(*slots));
            count += group->count;
        }
    }
    return count;
}

/* Scores the picks of one session, `list[0 .. count - 1]`; both are in order of num. */
static void rank_picks(search *s, const pick *list, size_t count) {
    const mf_docs_group *group = &s->index->docs.groups[list[0].group];
    blend_group(s, group, s->base);
    total_group(s, group);
    size_t next = 0;
    for (uint32_t i = 0; i < group->count && next < count; i++) {
        if (group->slots[i] == list[next].slot) {
            offer(s, (ranked){s->total[i], list[next].slot});
            next++;
        }
    }
}

static void rank_listed(search *s, const picks *p) {
    for (size_t i = 0, end; i < p->count; i = end) {
        uint32_t group = p->list[i].group;
        for (end = i + 1; end < p->count && p->list[end].group == group; end++) {
        }
        if (in_session(&s->index->docs.groups[group])) {
            rank_picks(s, &p->list[i], end - i);
            continue;
        }
        for (size_t k = i; k < end; k++) {
            uint32_t slot = p->list[k].slot;
            offer(s, (ranked){total_alone(s, base_of(s, slot)), slot});
        }
    }
}

static mf_rc score_parts(search *s, const uint32_t *slots, size_t count, mf_err *err) {
    MF_TRY(score_words(s, slots, count, err));
    return s->dense ? mf_vectors_score_some(&s->index->vectors, s->query->vector, slots,
                                            count, s->cosine, err)
                    : MF_OK;
}

static mf_rc run_listed(search *s, const picks *p, mf_index_hit *hits, size_t *count,
                        mf_err *err) {
    uint32_t *slots = mf_alloc_array(p->slots_max, sizeof(*slots));
    if (slots == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to score %zu documents", p->count);
    }
    size_t sampled = sample(s, slots);
    mf_rc rc = score_parts(s, slots, sampled, err);
    if (rc == MF_OK) {
        take_mean(s, slots, sampled);
        rc = score_parts(s, slots, picked_slots(s, p, slots), err);
    }
    if (rc == MF_OK) {
        rank_listed(s, p);
        *count = unload_heap(s, hits);
    }
    mf_free(slots);
    return rc;
}

mf_rc mf_index_rescore(const mf_index *index, const mf_index_query *query,
                       const mf_index_weights *weights, const mf_index_key *keys,
                       size_t key_count, mf_index_hit *hits, size_t *count,
                       bool *cheaper, mf_err *err) {
    MF_ASSERT(key_count <= MF_INDEX_RESCORE_MAX);
    MF_TRY(check_query(index, query, weights, err));
    search s = search_for(index, query, weights, population_of(index, query));
    picks listed;
    pick_documents(index, query, keys, key_count, &listed);
    *cheaper = s.population / MF_INDEX_RESCORE_COST > listed.slots_max;
    if (!*cheaper || listed.count == 0 || s.heap_max == 0) {
        *count = 0;
        return MF_OK;
    }
    void *block;
    mf_rc rc = reserve(&s, listed.group_max, &block, err);
    if (rc == MF_OK) {
        rc = run_listed(&s, &listed, hits, count, err);
    }
    mf_free(block);
    return rc;
}

mf_rc mf_index_words_key(mf_str text, uint64_t *key, mf_err *err) {
    mf_terms terms = {0};
    MF_TRY(mf_words_cut(text, &terms, err));
    size_t count = mf_terms_pack(terms.hashes, terms.count);
    *key = mf_str_hash(
        (mf_str){(const char *)terms.hashes, count * sizeof(terms.hashes[0])});
    mf_terms_done(&terms);
    return MF_OK;
}
