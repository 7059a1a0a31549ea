/* rerank.h - the reranker's word on the best hits of a search. */
#ifndef MF_SERVICE_RERANK_H
#define MF_SERVICE_RERANK_H

#include "service/service_impl.h"

typedef struct mf_rerank_call {
    mf_uuid user_id;
    mf_str question;
    int64_t deadline_ns;
    size_t hits_max; /* how many are wanted in the end */
} mf_rerank_call;

/* Reads the texts of the hits, scores each with the question, and keeps the best
 * `hits_max` with their new scores (0..1), falling; equal ones newest first.  Without a
 * reranker, or when it fails, the hits keep their scores and the first `hits_max` stay:
 * a query is not refused for that, but the failure is counted and logged. */
void mf_rerank_hits(mf_service *service, const mf_rerank_call *call, mf_arena *arena,
                    mf_index_hit *hits, size_t *count);

#endif
