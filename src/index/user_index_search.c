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
 * ones. Knowledge is a session of its own, each item. */
#include <math.h>
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
    float mean;          /* of base over the population */
    float *bm25;         /* [slot] */
    float *cosine;       /* [slot] best part, or MF_VECTORS_UNSEEN; only if `dense` */
    float *base;   /* [position]: wanted groups one after another, each in order */
    float *total;  /* [count of a group] */
    float *window; /* [span + count of a group + span] */
    ranked *heap;  /* [heap_max]; the top is the one that would leave next */
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

static mf_rc score_words(search *s, mf_err *err) {
    memset(s->bm25, 0, s->index->docs.slot_count * sizeof(*s->bm25));
    mf_terms terms = {0};
    mf_rc rc = mf_words_cut(s->query->text, &terms, err);
    if (rc == MF_OK) {
        size_t count = mf_terms_pack(terms.hashes, terms.count);
        mf_bm25 bm25 = {s->weights->bm25_k1, s->weights->bm25_b};
        double attainable =
            mf_postings_score(&s->index->postings, terms.hashes, count, bm25, s->bm25);
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

/* Over documents of the population, with vectors and without. */
typedef struct part_sums {
    double dense; /* of those with */
    double words, words_unseen;
    size_t count, unseen;
} part_sums;

/* Writes the base of each document of the group, as far as it is known: one without
 * vectors still lacks what expect_unseen adds.  Sums within a group are kept apart from
 * those over all of them: that rounds less, and float adds faster. */
static void blend_group(const search *s, const mf_docs_group *group, float *base,
                        part_sums *sums) {
    float vector = s->vector_weight;
    float keyword = s->keyword_weight;
    float dense_sum = 0.0F;
    float words_sum = 0.0F;
    float unseen_sum = 0.0F;
    for (uint32_t i = 0; i < group->count; i++) {
        uint32_t slot = group->slots[i];
        float words = keyword_part(s, slot);
        float dense = dense_per_keyword * words;
        words_sum += words;
        if (s->dense && s->cosine[slot] > MF_VECTORS_UNSEEN) {
            dense = dense_part(s->cosine[slot]);
            dense_sum += dense;
        } else {
            unseen_sum += words;
            sums->unseen++;
        }
        base[i] = vector * dense + keyword * words;
    }
    sums->dense += (double)dense_sum;
    sums->words += (double)words_sum;
    sums->words_unseen += (double)unseen_sum;
    sums->count += group->count;
}

static void expect_unseen(const search *s, const mf_docs_group *group, float *base,
                          float expected) {
    for (uint32_t i = 0; i < group->count; i++) {
        if (s->cosine[group->slots[i]] <= MF_VECTORS_UNSEEN) {
            base[i] += s->vector_weight * expected;
        }
    }
}

/* Fills `base` and its mean. */
static void blend(search *s) {
    const mf_docs *docs = &s->index->docs;
    part_sums sums = {0};
    for (uint32_t g = 0; g < docs->group_count; g++) {
        if (group_wanted(&docs->groups[g], s->query)) {
            blend_group(s, &docs->groups[g], s->base + sums.count, &sums);
        }
    }
    double expected = 0.0;
    if (s->dense && sums.unseen > 0 && sums.unseen < sums.count) {
        double foretold = (double)dense_per_keyword * (sums.words - sums.words_unseen);
        expected = (sums.dense - foretold) / (double)(sums.count - sums.unseen);
        float *base = s->base;
        for (uint32_t g = 0; g < docs->group_count; g++) {
            if (group_wanted(&docs->groups[g], s->query)) {
                expect_unseen(s, &docs->groups[g], base, (float)expected);
                base += docs->groups[g].count;
            }
        }
    }
    double dense = sums.dense + expected * (double)sums.unseen +
                   (double)dense_per_keyword * sums.words_unseen;
    double sum =
        (double)s->vector_weight * dense + (double)s->keyword_weight * sums.words;
    s->mean = sums.count > 0 ? (float)(sum / (double)sums.count) : 0.0F;
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

/* Documents without a session: all their neighbours are missing. */
static void total_alone(search *s, const mf_docs_group *group, const float *base) {
    float around = (float)(s->weights->neighbour * 2 * s->weights->neighbour_span);
    float own = 1.0F + (float)s->weights->session;
    for (uint32_t i = 0; i < group->count; i++) {
        s->total[i] = own * base[i] + around * s->mean;
    }
    offer_all(s, group, s->total);
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

static void total_in_session(search *s, const mf_docs_group *group, const float *base) {
    size_t span = (size_t)s->weights->neighbour_span;
    size_t count = group->count;
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
    offer_all(s, group, total);
}

static void rank(search *s) {
    const mf_docs *docs = &s->index->docs;
    const float *base = s->base;
    for (uint32_t g = 0; g < docs->group_count; g++) {
        const mf_docs_group *group = &docs->groups[g];
        if (group_wanted(group, s->query)) {
            if (group->kind == KIND_MESSAGE) {
                total_in_session(s, group, base);
            } else {
                total_alone(s, group, base);
            }
            base += group->count;
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

static mf_rc run(search *s, mf_index_hit *hits, size_t *count, mf_err *err) {
    MF_TRY(score_words(s, err));
    if (s->dense) {
        MF_TRY(mf_vectors_score(&s->index->vectors, s->query->vector, s->cosine,
                                s->index->docs.slot_count, err));
    }
    blend(s);
    rank(s);
    *count = s->heap_count;
    while (s->heap_count > 0) { /* the last one comes off first */
        hits[--s->heap_count] = hit_of(s, s->heap[0]);
        s->heap[0] = s->heap[s->heap_count];
        sift_down(s, s->heap, s->heap_count, 0);
    }
    return MF_OK;
}

static search search_for(const mf_index *index, const mf_index_query *query,
                         const mf_index_weights *weights) {
    bool dense = query->vector != NULL && query->path != MF_PATH_KEYWORD;
    bool words = !dense || query->path != MF_PATH_VECTOR;
    return (search){
        .index = index,
        .query = query,
        .weights = weights,
        .dense = dense,
        .vector_weight = dense ? (float)weights->vector : 0.0F,
        .keyword_weight = words ? (float)weights->keyword * keyword_scale : 0.0F,
        .heap_max =
            query->hits_max < index->docs.count ? query->hits_max : index->docs.count,
    };
}

mf_rc mf_index_search(const mf_index *index, const mf_index_query *query,
                      const mf_index_weights *weights, mf_index_hit *hits,
                      size_t *count, mf_err *err) {
    MF_ASSERT(weights->neighbour_span >= 0 && weights->neighbour_span <= SPAN_MAX);
    for (size_t i = 0; query->vector != NULL && i < index->vectors.dim; i++) {
        if (!isfinite(query->vector[i])) {
            return MF_FAIL(err, MF_E_INVAL, "value %zu of a vector is not a number", i);
        }
    }
    search s = search_for(index, query, weights);
    if (s.heap_max == 0) {
        *count = 0;
        return MF_OK;
    }
    size_t slots = index->docs.slot_count;
    size_t docs = index->docs.count;
    size_t span = (size_t)weights->neighbour_span;
    float *floats = mf_alloc_array(2 * slots + 3 * docs + 2 * span, sizeof(*floats));
    s.heap = mf_alloc_array(s.heap_max, sizeof(*s.heap));
    mf_rc rc = MF_OK;
    if (floats == NULL || s.heap == NULL) {
        rc = MF_FAIL(err, MF_E_NOMEM, "no memory to search %zu documents", docs);
    } else {
        s.bm25 = floats;
        s.cosine = s.bm25 + slots;
        s.base = s.cosine + slots;
        s.total = s.base + docs;
        s.window = s.total + docs;
        rc = run(&s, hits, count, err);
    }
    mf_free(floats);
    mf_free(s.heap);
    return rc;
}
