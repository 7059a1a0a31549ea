/* completion.h - one thread waits for what another finishes. */
#ifndef MF_SERVICE_COMPLETION_H
#define MF_SERVICE_COMPLETION_H

#include "base/mutex.h"

typedef struct mf_completion {
    mf_mutex done_mu;
    mf_cond done_cond;
    bool done; /* guarded by done_mu, like the two below */
    mf_rc rc;
    mf_err err;
} mf_completion;

static inline void mf_completion_init(mf_completion *completion) {
    mf_mutex_init(&completion->done_mu, MF_RANK_LEAF);
    mf_cond_init(&completion->done_cond);
    completion->done = false;
    completion->rc = MF_OK;
    completion->err = (mf_err){0};
}

/* The last touch of the finishing thread: the waiter may free the completion as soon as
 * this returns. */
static inline void mf_completion_finish(mf_completion *completion, mf_rc rc,
                                        const mf_err *err) {
    mf_mutex_lock(&completion->done_mu);
    completion->rc = rc;
    if (rc != MF_OK && err != NULL) {
        completion->err = *err;
    }
    completion->done = true;
    mf_cond_signal(&completion->done_cond);
    mf_mutex_unlock(&completion->done_mu);
}

/* Waits, releases the completion, and returns the result.  There is no deadline: what
 * was handed over has a fate, and the caller must know it. */
static inline mf_rc mf_completion_wait(mf_completion *completion, mf_err *err) {
    mf_mutex_lock(&completion->done_mu);
    while (!completion->done) {
        (void)mf_cond_wait(&completion->done_cond, &completion->done_mu, INT64_MAX);
    }
    mf_mutex_unlock(&completion->done_mu);
    mf_rc rc = completion->rc;
    if (rc != MF_OK && err != NULL) {
        *err = completion->err;
    }
    mf_cond_done(&completion->done_cond);
    mf_mutex_done(&completion->done_mu);
    return rc;
}

#endif
