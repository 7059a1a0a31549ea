/* flush_stats.h - what the flush manager (flush_manager.h) tells of itself. */
#ifndef MF_SERVICE_FLUSH_STATS_H
#define MF_SERVICE_FLUSH_STATS_H

#include <stddef.h>
#include <stdint.h>

/* A flush is one turn of a user with a worker: a slice embedded, or vectors committed,
 * or both.  A failed one is tried again until it succeeds. */
typedef struct mf_flush_stats {
    size_t workers;
    size_t queued, queue_max; /* users who wait for a worker; room before delay */
    size_t running;           /* users with a worker */
    size_t waiting;           /* users who wait for their time */
    size_t retrying;          /* of those, after a failure */
    uint64_t delayed;         /* users who came when the queue was full */
    uint64_t done, failed, retried;
    uint64_t window_flushes, window_failures; /* users whose windows were emptied */
} mf_flush_stats;

#endif
