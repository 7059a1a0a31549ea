/* rerank.c - hits of a search, ordered by a model that reads question and text
 * together.
 *
 * The index compares numbers made of each text alone; a reranker sees both at once and
 * judges better, but takes a run of the network per text.  So it only gets the best
 * few, and what it says is kept with the cached answer: a question asked again costs
 * nothing more. */
#include "service/rerank.h"

#include <stdlib.h>

#include "base/log.h"

typedef struct texts {
    const mf_rerank_call *call;
    mf_arena *arena;
    const mf_index_hit *hits;
    size_t count;
    mf_str *of; /* [count]; .p NULL: deleted since the search */
} texts;

static mf_rc read_texts(mf_conn *conn, void *ctx, mf_err *err) {
    texts *t = ctx;
    int64_t *nums = mf_arena_alloc_array(t->arena, t->count * 2 + 1, sizeof(*nums));
    mf_message_row *messages =
        mf_arena_alloc_array(t->arena, t->count + 1, sizeof(*messages));
    mf_knowledge_row *knowledge =
        mf_arena_alloc_array(t->arena, t->count + 1, sizeof(*knowledge));
    if (nums == NULL || messages == NULL || knowledge == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu texts", t->count);
    }
    size_t m = 0;
    size_t k = 0;
    for (size_t i = 0; i < t->count; i++) {
        const mf_index_key *key = &t->hits[i].facts.key;
        *(key->kind == MF_DOC_MESSAGE ? &nums[m++] : &nums[t->count + k++]) = key->num;
    }
    mf_uuid user_id = t->call->user_id;
    if (m > 0) {
        MF_TRY(conn->ops->message_get_by_num(conn, user_id, nums, m, t->arena, messages,
                                             err));
    }
    if (k > 0) {
        MF_TRY(conn->ops->knowledge_get_by_num(conn, user_id, nums + t->count, k,
                                               t->arena, knowledge, err));
    }
    m = 0;
    k = 0;
    for (size_t i = 0; i < t->count; i++) {
        t->of[i] = t->hits[i].facts.key.kind == MF_DOC_MESSAGE ? messages[m++].content
                                                               : knowledge[k++].content;
    }
    return MF_OK;
}

static int by_score_falling(const void *a, const void *b) {
    const mf_index_hit *x = a;
    const mf_index_hit *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return (x->facts.key.num < y->facts.key.num) -
           (x->facts.key.num > y->facts.key.num);
}

static mf_rc score(mf_service *service, const mf_rerank_call *call, mf_arena *arena,
                   mf_index_hit *hits, size_t count, mf_err *err) {
    mf_ranker *ranker;
    MF_TRY(mf_runtime_ranker(service->parts.runtime, &ranker, err));
    texts t = {.call = call, .arena = arena, .hits = hits, .count = count};
    t.of = mf_arena_alloc_array(arena, count, sizeof(t.of[0]));
    float *scores = mf_arena_alloc_array(arena, count, sizeof(*scores));
    if (t.of == NULL || scores == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu scores", count);
    }
    MF_TRY(mf_service_read(service, call->deadline_ns, read_texts, &t, err));
    MF_TRY(mf_ranker_score(ranker, call->question, t.of, count, call->deadline_ns,
                           scores, err));
    for (size_t i = 0; i < count; i++) {
        hits[i].score = scores[i];
    }
    qsort(hits, count, sizeof(hits[0]), by_score_falling);
    return MF_OK;
}

void mf_rerank_hits(mf_service *service, const mf_rerank_call *call, mf_arena *arena,
                    mf_index_hit *hits, size_t *count) {
    mf_err err = {0};
    if (service->parts.runtime != NULL && *count > 0) {
        if (score(service, call, arena, hits, *count, &err) == MF_OK) {
            atomic_fetch_add(&service->reranked, 1);
            atomic_store(&service->rerank_failing, false);
        } else {
            atomic_fetch_add(&service->rerank_failures, 1);
            if (!atomic_exchange(&service->rerank_failing, true)) {
                mf_log_err(MF_LOG_WARN, "rerank_failed", &err); /* until it works */
            }
        }
    }
    *count = *count < call->hits_max ? *count : call->hits_max;
}
