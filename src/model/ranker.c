/* ranker.c - lanes of a reranker, lent out one call at a time. */
#include "model/ranker.h"

#include <math.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "model/reranker.h"
#include "text/utf8.h"

enum { LABELS_MAX = 2 };

struct mf_ranker {
    mf_encoder *encoder; /* constant after open */
    size_t labels, lanes_max;
    mf_mutex lanes_mu; /* guards the lanes */
    mf_cond lane_free;
    mf_lane *idle[MF_RANKER_LANES_MAX];
    size_t idle_count, lane_count; /* lane_count: idle, lent and being made */
    atomic_ullong calls, pairs, failed, busy_ns;
};

mf_rc mf_ranker_open(mf_encoder *enc, size_t lanes_max, mf_ranker **out, mf_err *err) {
    MF_ASSERT(lanes_max >= 1 && lanes_max <= MF_RANKER_LANES_MAX);
    mf_encoder_info info;
    mf_encoder_get_info(enc, &info);
    if (info.labels < 1 || info.labels > LABELS_MAX) {
        return MF_FAIL(
            err, MF_E_UNSUPPORTED,
            "model '%s' gives %zu numbers for a pair; a reranker with one or "
            "two is needed",
            info.name, info.labels);
    }
    mf_ranker *ranker = mf_alloc_zero(1, sizeof *ranker);
    if (ranker == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a reranker");
    }
    ranker->encoder = mf_encoder_ref(enc);
    ranker->labels = info.labels;
    ranker->lanes_max = lanes_max;
    mf_mutex_init(&ranker->lanes_mu, MF_RANK_POOL);
    mf_cond_init(&ranker->lane_free);
    *out = ranker;
    return MF_OK;
}

void mf_ranker_close(mf_ranker *ranker) {
    if (ranker == NULL) {
        return;
    }
    MF_ASSERT(ranker->idle_count == ranker->lane_count);
    for (size_t i = 0; i < ranker->idle_count; i++) {
        mf_lane_close(ranker->idle[i]);
    }
    mf_cond_done(&ranker->lane_free);
    mf_mutex_done(&ranker->lanes_mu);
    (void)mf_encoder_unref(ranker->encoder); /* always NULL */
    mf_free(ranker);
}

static void give_lane(mf_ranker *ranker, mf_lane *lane) {
    mf_mutex_lock(&ranker->lanes_mu);
    if (lane != NULL) {
        ranker->idle[ranker->idle_count++] = lane;
    } else {
        ranker->lane_count--; /* it could not be made */
    }
    mf_cond_signal(&ranker->lane_free);
    mf_mutex_unlock(&ranker->lanes_mu);
}

static mf_rc take_lane(mf_ranker *ranker, int64_t deadline_ns, mf_lane **out,
                       mf_err *err) {
    bool in_time = true;
    mf_mutex_lock(&ranker->lanes_mu);
    while (ranker->idle_count == 0 && ranker->lane_count == ranker->lanes_max &&
           in_time) {
        in_time = mf_cond_wait(&ranker->lane_free, &ranker->lanes_mu, deadline_ns);
    }
    bool idle = ranker->idle_count > 0;
    bool make = !idle && ranker->lane_count < ranker->lanes_max;
    if (idle) {
        *out = ranker->idle[--ranker->idle_count];
    }
    ranker->lane_count += make ? 1 : 0;
    mf_mutex_unlock(&ranker->lanes_mu);
    if (idle) {
        return MF_OK;
    }
    if (!make) {
        return MF_FAIL(err, MF_E_TIMEOUT, "the reranker is busy");
    }
    mf_rc rc = mf_lane_open(ranker->encoder, out, err);
    if (rc != MF_OK) {
        give_lane(ranker, NULL);
    }
    return rc;
}

static float probability(const float *logits, size_t labels) {
    float x = labels == 1 ? logits[0] : logits[1] - logits[0];
    return 1.0F / (1.0F + expf(-x));
}

static mf_rc score_batch(mf_ranker *ranker, mf_lane *lane, mf_str query,
                         const mf_str *texts, size_t count, int64_t deadline_ns,
                         float *scores, mf_err *err) {
    float logits[MF_ENCODE_BATCH_MAX * LABELS_MAX];
    mf_str cut[MF_ENCODE_BATCH_MAX];
    for (size_t i = 0; i < count; i++) { /* far beyond any window */
        cut[i] = texts[i].len > MF_ENCODE_BYTES_MAX
                     ? mf_utf8_prefix(texts[i], MF_ENCODE_BYTES_MAX)
                     : texts[i];
    }
    MF_TRY(mf_lane_score(lane, query, cut, count, deadline_ns, logits, NULL, err));
    for (size_t i = 0; i < count; i++) {
        scores[i] = probability(logits + i * ranker->labels, ranker->labels);
    }
    return MF_OK;
}

mf_rc mf_ranker_score(mf_ranker *ranker, mf_str query, const mf_str *texts,
                      size_t count, int64_t deadline_ns, float *scores, mf_err *err) {
    mf_lane *lane;
    atomic_fetch_add(&ranker->calls, 1);
    mf_rc rc = take_lane(ranker, deadline_ns, &lane, err);
    if (rc != MF_OK) {
        atomic_fetch_add(&ranker->failed, 1);
        return rc;
    }
    if (query.len > MF_ENCODE_BYTES_MAX) {
        query = mf_utf8_prefix(query, MF_ENCODE_BYTES_MAX);
    }
    int64_t start_ns = mf_now_ns();
    for (size_t at = 0; at < count && rc == MF_OK; at += MF_ENCODE_BATCH_MAX) {
        size_t some =
            count - at < MF_ENCODE_BATCH_MAX ? count - at : MF_ENCODE_BATCH_MAX;
        rc = score_batch(ranker, lane, query, texts + at, some, deadline_ns,
                         scores + at, err);
    }
    atomic_fetch_add(&ranker->busy_ns, (uint64_t)(mf_now_ns() - start_ns));
    give_lane(ranker, lane);
    atomic_fetch_add(rc == MF_OK ? &ranker->pairs : &ranker->failed,
                     rc == MF_OK ? count : 1);
    return rc;
}

void mf_ranker_get_stats(mf_ranker *ranker, mf_ranker_stats *out) {
    *out = (mf_ranker_stats){.calls = atomic_load(&ranker->calls),
                             .pairs = atomic_load(&ranker->pairs),
                             .failed = atomic_load(&ranker->failed),
                             .busy_ns = atomic_load(&ranker->busy_ns),
                             .lanes_max = ranker->lanes_max};
    mf_mutex_lock(&ranker->lanes_mu);
    out->lanes = ranker->lane_count;
    mf_mutex_unlock(&ranker->lanes_mu);
}
