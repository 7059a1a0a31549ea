/* retry.h - how long to wait after a failure, and when to give up.
 *
 * One table (retry.def) has a named policy for everything that is tried again.  The
 * wait grows exponentially to a bound; jitter is taken away, never added, so no wait is
 * longer than the table says.  Delays are durations: add them to mf_now_ns(), never to
 * the time of day.  Pure functions, safe from any thread. */
#ifndef MF_BASE_RETRY_H
#define MF_BASE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

typedef enum mf_retry_policy {
#define MF_RETRY(name, wire, tries, first_ms, factor, cap_ms, jitter, what)            \
    MF_RETRY_##name,
#include "base/retry.def"
#undef MF_RETRY
    MF_RETRY_COUNT
} mf_retry_policy;

typedef struct mf_retry_row {
    const char *name;
    unsigned tries; /* 0: without end */
    int64_t first_ms;
    unsigned factor;
    int64_t cap_ms;
    unsigned jitter_percent; /* 0..100 */
    const char *what;
} mf_retry_row;

const mf_retry_row *mf_retry_get(mf_retry_policy policy);
/* Whether there is another try after `failures` of them in a row. */
bool mf_retry_allowed(mf_retry_policy policy, unsigned failures);
/* The wait after the `failures`-th failure in a row (counted from 1; 0 counts as 1), in
 * nanoseconds: between (100 - jitter) % and 100 % of min(cap, first * factor^(n-1)).
 * `rng` NULL: all of it. */
int64_t mf_retry_delay_ns(mf_retry_policy policy, unsigned failures, mf_rng *rng);

#endif
