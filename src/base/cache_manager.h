/* cache_manager.h - all caches of the process under one byte budget.
 *
 * Whoever makes a cache registers it under a name; an mf_lru does so itself when its
 * options name a manager.  Caches of one name (each user has a cache of answers) count
 * as one in the statistics.  The budget is compared with what the entries of the caches
 * hold, which the caches report as it changes, and never with the size of the process:
 * a budget that the rest of the process can use up would empty the caches for nothing.
 *
 * There are two bounds.  Above the threshold, a share of the budget, a cleanup drops
 * the coldest half of every cache.  At the budget itself an entry is refused until its
 * own cache has made room for it, so the budget holds at every moment, also when no
 * cleanup has come round yet.
 *
 * Thread-safe.  Functions of the caches are called without a lock of the manager. */
#ifndef MF_BASE_CACHE_MANAGER_H
#define MF_BASE_CACHE_MANAGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct mf_cache_manager mf_cache_manager;

enum { MF_CACHE_NAMES_MAX = 32 }; /* different names; more is a bug */

/* Statistics of one cache, or the sums over all of one name.  Whoever shows them uses
 * the names size, max_size, hits, misses, hit_rate and ttl_seconds. */
typedef struct mf_cache_stats {
    const char *name;
    size_t caches; /* of this name */
    size_t size, max_size;
    size_t held_bytes; /* by the entries, with keys and book-keeping */
    uint64_t hits, misses, evictions, expirations;
    int64_t ttl_ms; /* <= 0: entries do not age */
} mf_cache_stats;

/* hits / (hits + misses), rounded to three decimals; 0 without a request. */
double mf_cache_hit_rate(uint64_t hits, uint64_t misses);

/* How the manager speaks to a cache. */
typedef struct mf_cache_ops {
    const char *name; /* static storage */
    /* Fills all but `name` and `caches`. */
    void (*get_stats)(void *cache, mf_cache_stats *out);
    size_t (*shrink)(void *cache, size_t count); /* drops the coldest; how many */
} mf_cache_ops;

/* A registration, in the cache's own memory.  Its fields are the manager's. */
typedef struct mf_cache_entry {
    mf_cache_manager *manager;
    const mf_cache_ops *ops;
    void *cache;
    struct mf_cache_entry *prev, *next;
    size_t pins; /* calls under way on other threads */
    size_t slot; /* of the name */
} mf_cache_entry;

/* `budget_bytes` 0 keeps nothing; `threshold_percent` is 1..100. */
MF_CHECKED mf_rc mf_cache_manager_open(size_t budget_bytes, unsigned threshold_percent,
                                       mf_cache_manager **out, mf_err *err);
void mf_cache_manager_close(mf_cache_manager *manager); /* no cache is registered */
void mf_cache_manager_set_budget(mf_cache_manager *manager, size_t budget_bytes,
                                 unsigned threshold_percent);
/* `notify(ctx)` is called, by the thread that caused it, when the caches come to hold
 * more than the threshold.  It must be quick and touch no cache.  NULL: nobody.  Set
 * before the first entry and taken back after the last, or while no cache is in use. */
void mf_cache_manager_watch(mf_cache_manager *manager, void (*notify)(void *ctx),
                            void *ctx);

/* `manager` NULL: the cache stands alone, and every other call is allowed and does
 * nothing (a take succeeds). */
void mf_cache_register(mf_cache_manager *manager, mf_cache_entry *entry,
                       const mf_cache_ops *ops, void *cache);
/* Waits for calls under way on the cache.  What it still holds is to be given back
 * before or after. */
void mf_cache_unregister(mf_cache_entry *entry);

/* An entry of `bytes` wants in: false when the budget has no room for it. */
bool mf_cache_take(mf_cache_entry *entry, size_t bytes);
void mf_cache_give(mf_cache_entry *entry, size_t bytes); /* it left */

typedef struct mf_cache_cleanup {
    size_t entries; /* dropped */
    size_t before_bytes, after_bytes;
} mf_cache_cleanup;

/* Drops the coldest half, rounded up, of every cache. */
void mf_cache_manager_cleanup(mf_cache_manager *manager, mf_cache_cleanup *out);
/* The same, if the caches hold more than the threshold; whether they did.  `*out` is
 * set only then. */
bool mf_cache_manager_cleanup_if_needed(mf_cache_manager *manager,
                                        mf_cache_cleanup *out);

size_t mf_cache_manager_held_bytes(const mf_cache_manager *manager);

typedef struct mf_cache_manager_stats {
    size_t held_bytes, held_bytes_max; /* now, and the most there ever were */
    size_t budget_bytes, threshold_bytes;
    size_t size; /* entries of all caches */
    uint64_t hits, misses;
    uint64_t cleanups, cleaned_entries;
    uint64_t refusals; /* entries not kept because the budget was spent */
    size_t name_count;
    mf_cache_stats names[MF_CACHE_NAMES_MAX]; /* in the order of first registration */
} mf_cache_manager_stats;

/* Figures of caches in use are each right, but not all from the same moment. */
void mf_cache_manager_get_stats(mf_cache_manager *manager, mf_cache_manager_stats *out);

#endif
