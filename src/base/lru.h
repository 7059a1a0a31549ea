/* lru.h - cache with a size limit, a byte limit and a time to live.
 *
 * Thread-safe.  A hit makes the entry the most recently used but does not renew its
 * age; an entry older than the time to live is removed when met and counts as a miss.
 * Values are opaque pointers with a release function; `get` hands out a value through
 * a copy function run under the lock, so an eviction cannot pull it away.
 *
 * With a manager (base/cache_manager.h) the cache is one of those that share its byte
 * budget: it is registered while it is open, and an entry the budget has no room for
 * makes room among its own coldest, or is not kept. */
#ifndef MF_BASE_LRU_H
#define MF_BASE_LRU_H

#include <stdint.h>

#include "base/cache_manager.h"
#include "base/err.h"
#include "base/str.h"

typedef struct mf_lru mf_lru;

typedef struct mf_lru_options {
    const char *name;          /* for the statistics; static storage */
    mf_cache_manager *manager; /* NULL: none; outlives the cache */
    size_t count_max;
    size_t bytes_max;             /* sum of the weights given to put */
    int64_t ttl_ms;               /* <= 0: entries do not age */
    void (*release)(void *value); /* called outside the lock */
    void *(*share)(void *value);  /* adds a reference; called under the lock */
} mf_lru_options;

typedef struct mf_lru_stats {
    const char *name;
    size_t size, max_size, bytes, bytes_max;
    size_t held_bytes; /* the weights, and the keys and book-keeping beside them */
    uint64_t hits, misses, evictions, expirations;
    int64_t ttl_ms;
} mf_lru_stats;

MF_CHECKED mf_rc mf_lru_open(const mf_lru_options *options, mf_lru **out, mf_err *err);
void mf_lru_close(mf_lru *cache);
void *mf_lru_get(mf_lru *cache, mf_str key); /* share()d value, or NULL */
/* Takes the value in any case: kept, or released at once when it alone is over a limit
 * or memory or the manager's budget is short (a cache that cannot keep is not an
 * error).  An earlier value of
 * the key leaves either way.  Making room counts as evictions, replacing does not. */
void mf_lru_put(mf_lru *cache, mf_str key, void *value, size_t bytes);
void mf_lru_remove(mf_lru *cache, mf_str key);
void mf_lru_clear(mf_lru *cache);                  /* keeps the hit and miss counts */
size_t mf_lru_shrink(mf_lru *cache, size_t count); /* drops the coldest; how many */
void mf_lru_get_stats(mf_lru *cache, mf_lru_stats *out);

#endif
