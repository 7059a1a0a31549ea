/* registry_stats.h - what the table of active users (registry.h) tells of itself. */
#ifndef MF_SERVICE_REGISTRY_STATS_H
#define MF_SERVICE_REGISTRY_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Why a user left. */
typedef enum mf_user_leaving {
    MF_LEFT_COUNT,    /* more users than user.active_max */
    MF_LEFT_BYTES,    /* more bytes than user.active_bytes_max */
    MF_LEFT_IDLE,     /* nobody asked for user.idle_timeout_s */
    MF_LEFT_PRESSURE, /* mf_registry_shrink */
    MF_LEFT_DELETED,
    MF_LEFT_COUNT_OF
} mf_user_leaving;

const char *mf_user_leaving_name(mf_user_leaving cause); /* "count", "bytes", ... */

typedef struct mf_registry_stats {
    size_t count, count_max; /* users in the table: instances expected */
    size_t instances,
        instances_peak; /* users alive, those that left but are held too */
    size_t bytes, bytes_max, bytes_peak; /* of all instances */
    int64_t idle_timeout_s;
    uint64_t hits;      /* look-ups that found an active user */
    uint64_t created;   /* users made active */
    uint64_t coalesced; /* requests that waited for another's creation */
    uint64_t failed;    /* creations that failed, for the unknown users too */
    uint64_t left[MF_LEFT_COUNT_OF];
    uint64_t bytes_freed; /* by all that left */
} mf_registry_stats;

#endif
