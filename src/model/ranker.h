/* ranker.h - a reranker that many threads share: how well texts answer a question.
 *
 * Lanes (encoder.h) serve one thread at a time; a ranker makes them as they are needed,
 * up to a bound, keeps them, and lets callers wait for one.  Thread-safe. */
#ifndef MF_MODEL_RANKER_H
#define MF_MODEL_RANKER_H

#include "model/encoder.h"

typedef struct mf_ranker mf_ranker;

enum { MF_RANKER_LANES_MAX = 64 };

/* Takes a reference on `enc`, a reranker with one label (its score) or two (the second
 * is "it matches"): MF_E_UNSUPPORTED for others, MF_E_NOMEM.  `lanes_max` is
 * 1..MF_RANKER_LANES_MAX. */
MF_CHECKED mf_rc mf_ranker_open(mf_encoder *enc, size_t lanes_max, mf_ranker **out,
                                mf_err *err);
void mf_ranker_close(mf_ranker *ranker); /* no call may be under way; NULL is fine */

/* scores [count]: the probability, 0..1, that a text answers `query`; any number of
 * texts.  MF_E_TIMEOUT at `deadline_ns` (also while no lane is free), MF_E_NOMEM, or
 * what mf_lane_score says. */
MF_CHECKED mf_rc mf_ranker_score(mf_ranker *ranker, mf_str query, const mf_str *texts,
                                 size_t count, int64_t deadline_ns, float *scores,
                                 mf_err *err);

typedef struct mf_ranker_stats {
    uint64_t calls, pairs, failed;
    uint64_t busy_ns; /* spent scoring, by all lanes together */
    size_t lanes, lanes_max;
} mf_ranker_stats;

void mf_ranker_get_stats(mf_ranker *ranker, mf_ranker_stats *out);

#endif
