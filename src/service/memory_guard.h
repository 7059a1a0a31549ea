/* memory_guard.h - keeps the process within memory.budget_mb.
 *
 * What counts is the larger of two figures: what memfuse has allocated itself, and the
 * memory of the process that is not mapped from files (which takes in SQLite, the
 * sockets' library and what the allocator has not given back).  The model's weights are
 * left out of both: they are a fixed price, known beforehand.
 *
 * Above nine tenths of the budget the guard makes room in steps, until four fifths are
 * kept: the caches lose their coldest half; users nobody works on leave memory; the
 * store drops its pages; vectors that wait are committed, so that more users may leave;
 * the caches lose the rest.
 * Freed pages go back to the system after each.  If that is not enough, new work is
 * refused before the budget is reached, until there is room again; the two levels lie
 * apart, so that it does not flutter.
 *
 * The guard's thread looks at the figures twice a second, and a request that finds the
 * last look older than 20 ms looks again and wakes it: however fast users come, they do
 * not outrun it.  The same thread is the cleanup service: every
 * memory.cleanup_interval_s, beginning at once, it cleans up if more than
 * memory.cleanup_threshold_mb are used.
 *
 * Safe from any thread. */
#ifndef MF_SERVICE_MEMORY_GUARD_H
#define MF_SERVICE_MEMORY_GUARD_H

#include "base/cache_manager.h"
#include "service/recent.h"
#include "text/config.h"

typedef struct mf_memory_guard mf_memory_guard;

typedef struct mf_memory_figures {
    size_t own_bytes;      /* allocated through base/alloc */
    size_t private_bytes;  /* of the process, without mapped files; 0: unknown */
    size_t resident_bytes; /* with them; for show */
} mf_memory_figures;

/* Of this process, now. */
void mf_memory_figures_take(mf_memory_figures *out);
/* How much more they are now; what shrank counts as unchanged. */
mf_memory_figures mf_memory_figures_since(const mf_memory_figures *before);

/* What the guard can do about it.  All are called on its thread, without locks. */
typedef struct mf_memory_ops {
    /* Also called by requests: a few microseconds.  NULL: the process's figures. */
    void (*measure)(void *ctx, mf_memory_figures *out);
    /* Lets unused users leave, least recently used first, until `bytes` are free or
     * none is left; *count receives how many left. */
    void (*users_leave)(void *ctx, size_t bytes, size_t *count);
    size_t (*users_bytes)(void *ctx); /* that active users hold */
    /* Has the store drop what only makes it faster; may go on after it returned. */
    void (*shrink_store)(void *ctx);
    /* Commits what waits in memory, until the deadline at most. */
    void (*commit)(void *ctx, int64_t deadline_ns);
    void *ctx;
    /* Lets those leave that nobody asked for in a long time; at every look, whether or
     * not memory is short.  NULL: nobody does. */
    void (*idle_leave)(void *ctx);
} mf_memory_ops;

typedef struct mf_memory_guard_options {
    mf_settings *settings;    /* borrowed, as is `caches` */
    mf_cache_manager *caches; /* NULL: none */
    mf_memory_figures model;  /* what loading the model added; left out */
    mf_recent *recent;        /* gets what cleanups freed; NULL: nobody */
    mf_memory_ops ops;
} mf_memory_guard_options;

/* While nobody uses the caches yet.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_memory_guard_open(const mf_memory_guard_options *options,
                                      mf_memory_guard **out, mf_err *err);
/* Starts the thread mf-memory: from now on the ops are called. */
MF_CHECKED mf_rc mf_memory_guard_start(mf_memory_guard *guard, mf_err *err);
/* Ends the thread: the ops are not called any more.  Everything else goes on, only that
 * nobody makes room. */
void mf_memory_guard_stop(mf_memory_guard *guard); /* NULL is fine */
/* The caches are not used any more by now. */
void mf_memory_guard_close(mf_memory_guard *guard); /* NULL is fine */

/* May new work begin that will need about `bytes`?  MF_E_NOMEM (503, to be tried again)
 * when the budget has no room for it.  `now_ns` is the monotonic time. */
MF_CHECKED mf_rc mf_memory_guard_admit(mf_memory_guard *guard, int64_t now_ns,
                                       size_t bytes, mf_err *err);
/* The bytes used by now, from the last look and what was allocated since: `live_bytes`
 * is mf_alloc_live_bytes(). */
size_t mf_memory_guard_used(const mf_memory_guard *guard, size_t live_bytes);

typedef struct mf_memory_cleanup {
    bool forced;
    size_t before_bytes, after_bytes;
    size_t objects_collected; /* cache entries dropped, and users that left */
    int64_t duration_ns;
    uint64_t cleanup_count; /* with this one */
} mf_memory_cleanup;

/* Cleans up now whatever is used: every cache, and the users nobody works on, lose the
 * coldest half.  Waits for it.  MF_E_TIMEOUT, MF_E_STOPPING. */
MF_CHECKED mf_rc mf_memory_guard_cleanup(mf_memory_guard *guard, int64_t deadline_ns,
                                         mf_memory_cleanup *out, mf_err *err);
/* Has the thread look at everything now, and waits until it did. */
MF_CHECKED mf_rc mf_memory_guard_check(mf_memory_guard *guard, int64_t deadline_ns,
                                       mf_err *err);

typedef struct mf_memory_guard_stats {
    bool running;
    mf_memory_figures figures; /* of the last look */
    size_t used_bytes, used_bytes_max;
    mf_memory_figures model;
    size_t budget_bytes, threshold_bytes;
    int64_t interval_s;
    uint64_t cleanups;       /* by the interval or forced */
    int64_t last_cleanup_us; /* wall clock; 0: none yet */
    bool pressure;           /* more than the threshold is used */
    bool refusing;           /* new work is refused */
    uint64_t refused;        /* pieces of work */
    uint64_t reliefs;        /* times room was made because of the budget */
    uint64_t users_left, entries_dropped;
    uint64_t commits; /* asked for so that users may leave */
} mf_memory_guard_stats;
void mf_memory_guard_get_stats(mf_memory_guard *guard, mf_memory_guard_stats *out);

#endif
