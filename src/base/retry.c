/* retry.c - how long to wait after a failure, and when to give up.
 *
 * The power is taken step by step and stops at the cap, so no number of failures can
 * overflow it.  Jitter is spread evenly over the last part of the wait: the simplest
 * kind that keeps apart callers who failed at the same moment and still leaves a
 * dependency alone for most of the wait. */
#include "base/retry.h"

#include "base/assert.h"
#include "base/clock.h"

static const mf_retry_row rows[] = {
#define MF_RETRY(name, wire, tries, first_ms, factor, cap_ms, jitter, what)            \
    {wire, tries, first_ms, factor, cap_ms, jitter, what},
#include "base/retry.def"
#undef MF_RETRY
};

const mf_retry_row *mf_retry_get(mf_retry_policy policy) {
    MF_ASSERT((unsigned)policy < MF_RETRY_COUNT);
    return &rows[policy];
}

bool mf_retry_allowed(mf_retry_policy policy, unsigned failures) {
    const mf_retry_row *row = mf_retry_get(policy);
    return row->tries == 0 || failures < row->tries;
}

int64_t mf_retry_delay_ns(mf_retry_policy policy, unsigned failures, mf_rng *rng) {
    const mf_retry_row *row = mf_retry_get(policy);
    int64_t delay_ms = row->first_ms;
    for (unsigned i = 1; i < failures && delay_ms < row->cap_ms; i++) {
        delay_ms *= row->factor;
    }
    delay_ms = delay_ms < row->cap_ms ? delay_ms : row->cap_ms;
    int64_t delay_ns = delay_ms * MF_NS_PER_MS;
    int64_t jitter_ns = delay_ns / 100 * row->jitter_percent;
    if (rng != NULL && jitter_ns > 0) {
        delay_ns -= (int64_t)mf_rng_below(rng, (uint64_t)jitter_ns + 1);
    }
    return delay_ns;
}
