/* metrics.h - what every operation costs, and how often it fails.
 *
 * One mf_metrics serves the process; whoever does an operation of operations.def
 * brackets it with mf_metrics_begin and mf_metrics_end.  Recording takes two looks at
 * the clock and a few relaxed additions to atomics: no lock, no allocation, no wait
 * (once a minute the first to come takes a copy of the histogram).  A NULL mf_metrics
 * records nothing, so parts that are used alone need none.
 *
 * Every operation also has a recent past, of one to two minutes: what was recorded
 * since the beginning of the minute before this one, on the monotonic clock.  Health
 * indicators (service/health.h) look at it.
 *
 * It also keeps what has no better owner and is shown together: the errors seen
 * (error_cache.h) and the circuit breakers of the process (breaker.h). */
#ifndef MF_BASE_METRICS_H
#define MF_BASE_METRICS_H

#include "base/breaker.h"
#include "base/error_cache.h"
#include "base/histogram.h"

typedef enum mf_operation {
#define MF_OPERATION(name, wire, what) MF_OPERATION_##name,
#include "base/operations.def"
#undef MF_OPERATION
    MF_OPERATION_COUNT
} mf_operation;

enum { MF_METRICS_EPOCH_S = 60, MF_METRICS_BREAKERS_MAX = 16 };

typedef struct mf_metrics mf_metrics;

/* MF_E_NOMEM. */
MF_CHECKED mf_rc mf_metrics_open(mf_metrics **out, mf_err *err);
void mf_metrics_close(mf_metrics *metrics); /* its breakers are gone by then */

const char *mf_operation_name(mf_operation operation);
const char *mf_operation_meaning(mf_operation operation);

typedef struct mf_span {
    mf_metrics *metrics;
    mf_operation operation;
    int64_t started_ns;
} mf_span;

mf_span mf_metrics_begin(mf_metrics *metrics, mf_operation operation);
/* A result whose HTTP status would be 5xx counts as failed, another that is not MF_OK
 * as refused: the operation did its work and the answer is no. */
void mf_metrics_end(mf_span span, mf_rc rc);
/* Both at once, of something that has taken `duration_ns`. */
void mf_metrics_record(mf_metrics *metrics, mf_operation operation, int64_t duration_ns,
                       mf_rc rc);

typedef struct mf_operation_stats {
    const char *name;
    uint64_t started, finished, failed, refused; /* finished includes the other two */
    uint64_t in_flight;
    mf_histogram_summary latency; /* nanoseconds, since the start */
} mf_operation_stats;
void mf_metrics_get(mf_metrics *metrics, mf_operation operation,
                    mf_operation_stats *out);
const mf_histogram *mf_metrics_histogram(const mf_metrics *metrics,
                                         mf_operation operation);

typedef struct mf_operation_recent {
    double seconds;               /* how long the recent past is by now */
    uint64_t failed;              /* in it */
    mf_histogram_summary latency; /* of it, in nanoseconds; .count ended in it */
} mf_operation_recent;
void mf_metrics_get_recent(mf_metrics *metrics, mf_operation operation,
                           mf_operation_recent *out);

/* The errors of the process; NULL for NULL, which mf_error_cache_log understands. */
mf_error_cache *mf_metrics_errors(mf_metrics *metrics);

/* A breaker is shown from here until it is removed, by whoever made it.  More than
 * MF_METRICS_BREAKERS_MAX are not shown. */
void mf_metrics_add_breaker(mf_metrics *metrics, mf_breaker *breaker);
void mf_metrics_remove_breaker(mf_metrics *metrics, mf_breaker *breaker);
/* Returns how many were put into out[0..max). */
size_t mf_metrics_breakers(mf_metrics *metrics, mf_breaker_stats *out, size_t max);

/* How long it took from the start of the process's work until it could serve. */
void mf_metrics_set_startup(mf_metrics *metrics, int64_t duration_ns);
int64_t mf_metrics_startup_ns(const mf_metrics *metrics);

#endif
