/* memory_monitor.h - what memory is used around each request.
 *
 * Every reply tells the memory used as it ends (X-Memory-Usage-MB), how much more is
 * allocated than when it began (X-Memory-Delta-MB: of the whole process, so requests
 * side by side see each other), and how long it took (X-Request-Duration-MS).  Requests
 * that end with more in use than memory.monitor_limit_mb are recorded, the last 50 of
 * them.  Switched off by memory.monitor: no headers, no counting.
 *
 * It reads the allocator's counts, twice per request, and never /proc.  Thread-safe. */
#ifndef MF_HTTP_MEMORY_MONITOR_H
#define MF_HTTP_MEMORY_MONITOR_H

#include "base/bounded_list.h"
#include "service/memory_guard.h"
#include "text/config.h"

enum { MF_MONITOR_RECORDS = 50, MF_MONITOR_SHOWN = 5 };

typedef struct mf_memory_record {
    const char *endpoint; /* the route's pattern */
    const char *method;
    double memory_mb, memory_delta_mb, duration_ms;
    int64_t timestamp_us;
    uint64_t request_count; /* the request's number, counted since the start */
} mf_memory_record;

typedef struct mf_memory_monitor {
    mf_bounded_list *records; /* of mf_memory_record */
    _Atomic uint64_t requests, high;
} mf_memory_monitor;

MF_CHECKED mf_rc mf_memory_monitor_init(mf_memory_monitor *monitor, mf_err *err);
void mf_memory_monitor_done(mf_memory_monitor *monitor); /* zeroed is fine */

size_t mf_memory_monitor_begin(void); /* what mf_memory_monitor_end wants as `before` */
/* Fills all of *record but what it comes with: endpoint, method and duration_ms. */
void mf_memory_monitor_end(mf_memory_monitor *monitor, const mf_memory_guard *guard,
                           const mf_config *config, size_t before,
                           mf_memory_record *record);
void mf_memory_monitor_reset(mf_memory_monitor *monitor); /* records and counters */

typedef struct mf_memory_monitor_stats {
    double current_memory_mb, memory_limit_mb, memory_usage_percentage;
    uint64_t total_requests, high_memory_requests_count;
    size_t recent_count;
    mf_memory_record recent[MF_MONITOR_SHOWN]; /* newest first */
} mf_memory_monitor_stats;
void mf_memory_monitor_get_stats(mf_memory_monitor *monitor,
                                 const mf_memory_guard *guard, const mf_config *config,
                                 mf_memory_monitor_stats *out);

#endif
