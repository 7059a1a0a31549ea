/* lru.c - cache with a size limit, a byte limit and a time to live.
 *
 * A chained hash table, made once for `count_max` entries, whose nodes also hang on a
 * list from hottest to coldest.  A node carries its key behind itself and is allocated
 * before the lock is taken; nodes that leave are collected on a list and released after
 * it is given back.  So nothing is allocated, freed or called under the lock except
 * share().  The manager's budget is asked before the lock and told after it, so it
 * counts an entry from before it comes in until it is freed.
 *
 * Invariants, while the lock is free:
 *   1. A node is in the table and on the list, or in neither.
 *   2. count <= count_max, and bytes, the sum of the weights, <= bytes_max.
 *   3. node_bytes is the sum of the nodes' own sizes, keys included. */
#include "base/lru.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"

enum { BUCKETS_MIN = 8 };

typedef struct lru_node {
    struct lru_node *chain; /* next in the bucket, or on a list of nodes that left */
    struct lru_node *hotter;
    struct lru_node *colder;
    uint64_t hash;
    int64_t born_ns;
    size_t bytes;
    void *value;
    size_t key_len;
    char key[];
} lru_node;

struct mf_lru {
    /* constant after open */
    mf_lru_options options;
    size_t bucket_mask;
    mf_cache_ops ops;
    mf_cache_entry entry; /* the manager's */
    mf_mutex cache_mu;
    /* guarded by cache_mu */
    lru_node *hottest;
    lru_node *coldest;
    size_t count;
    size_t bytes;
    size_t node_bytes;
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t expirations;
    lru_node **buckets;
};

static void entry_stats(void *p, mf_cache_stats *out) {
    mf_lru_stats stats;
    mf_lru_get_stats(p, &stats);
    out->size = stats.size;
    out->max_size = stats.max_size;
    out->held_bytes = stats.held_bytes;
    out->hits = stats.hits;
    out->misses = stats.misses;
    out->evictions = stats.evictions;
    out->expirations = stats.expirations;
    out->ttl_ms = stats.ttl_ms;
}

static size_t entry_shrink(void *p, size_t count) {
    return mf_lru_shrink(p, count);
}

mf_rc mf_lru_open(const mf_lru_options *options, mf_lru **out, mf_err *err) {
    MF_ASSERT(options->release != NULL);
    MF_ASSERT(options->share != NULL);
    MF_ASSERT(options->count_max <= SIZE_MAX / 4);
    size_t bucket_count = BUCKETS_MIN;
    while (bucket_count < options->count_max) {
        bucket_count *= 2;
    }
    mf_lru *cache = mf_alloc_zero(1, sizeof *cache);
    lru_node **buckets = mf_alloc_zero(bucket_count, sizeof *buckets);
    if (cache == NULL || buckets == NULL) {
        mf_free(cache);
        mf_free(buckets);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for cache %s", options->name);
    }
    cache->options = *options;
    cache->bucket_mask = bucket_count - 1;
    cache->buckets = buckets;
    mf_mutex_init(&cache->cache_mu, MF_RANK_CACHE);
    cache->ops = (mf_cache_ops){options->name, entry_stats, entry_shrink};
    mf_cache_register(options->manager, &cache->entry, &cache->ops, cache);
    *out = cache;
    return MF_OK;
}

static lru_node **bucket_of(mf_lru *cache, uint64_t hash) {
    return &cache->buckets[(size_t)hash & cache->bucket_mask];
}

static lru_node *find_locked(mf_lru *cache, mf_str key, uint64_t hash)
    MF_REQUIRES(cache->cache_mu) {
    for (lru_node *node = *bucket_of(cache, hash); node != NULL; node = node->chain) {
        if (node->hash == hash && mf_str_eq((mf_str){node->key, node->key_len}, key)) {
            return node;
        }
    }
    return NULL;
}

static void list_add_locked(mf_lru *cache, lru_node *node)
    MF_REQUIRES(cache->cache_mu) {
    node->hotter = NULL;
    node->colder = cache->hottest;
    if (cache->hottest != NULL) {
        cache->hottest->hotter = node;
    } else {
        cache->coldest = node;
    }
    cache->hottest = node;
}

static void list_cut_locked(mf_lru *cache, lru_node *node)
    MF_REQUIRES(cache->cache_mu) {
    *(node->hotter != NULL ? &node->hotter->colder : &cache->hottest) = node->colder;
    *(node->colder != NULL ? &node->colder->hotter : &cache->coldest) = node->hotter;
}

static size_t node_size(const lru_node *node) {
    return sizeof *node + node->key_len;
}

/* Takes the node out of the cache and puts it on the list of those that left. */
static void leave_locked(mf_lru *cache, lru_node *node, lru_node **left)
    MF_REQUIRES(cache->cache_mu) {
    lru_node **link = bucket_of(cache, node->hash);
    while (*link != node) {
        link = &(*link)->chain;
    }
    *link = node->chain;
    list_cut_locked(cache, node);
    cache->count--;
    cache->bytes -= node->bytes;
    cache->node_bytes -= node_size(node);
    node->chain = *left;
    *left = node;
}

/* Drops from the cold end until at most `count_max` entries of `bytes_max` are left. */
static size_t evict_locked(mf_lru *cache, size_t count_max, size_t bytes_max,
                           lru_node **left) MF_REQUIRES(cache->cache_mu) {
    size_t dropped = 0;
    while (cache->coldest != NULL &&
           (cache->count > count_max || cache->bytes > bytes_max)) {
        leave_locked(cache, cache->coldest, left);
        dropped++;
    }
    cache->evictions += dropped;
    return dropped;
}

static void release_all(mf_lru *cache, lru_node *left) {
    while (left != NULL) {
        lru_node *next = left->chain;
        size_t held = left->bytes + node_size(left);
        cache->options.release(left->value);
        mf_free(left);
        mf_cache_give(&cache->entry, held);
        left = next;
    }
}

static bool too_old(const mf_lru *cache, const lru_node *node, int64_t now_ns) {
    return cache->options.ttl_ms > 0 &&
           (now_ns - node->born_ns) / MF_NS_PER_MS >= cache->options.ttl_ms;
}

void mf_lru_close(mf_lru *cache) {
    if (cache == NULL) {
        return;
    }
    mf_cache_unregister(&cache->entry);
    mf_lru_clear(cache);
    mf_mutex_done(&cache->cache_mu);
    mf_free(cache->buckets);
    mf_free(cache);
}

void *mf_lru_get(mf_lru *cache, mf_str key) {
    uint64_t hash = mf_str_hash(key);
    int64_t now_ns = mf_now_ns();
    lru_node *left = NULL;
    void *value = NULL;
    mf_mutex_lock(&cache->cache_mu);
    lru_node *node = find_locked(cache, key, hash);
    if (node != NULL && too_old(cache, node, now_ns)) {
        leave_locked(cache, node, &left);
        cache->expirations++;
        node = NULL;
    }
    if (node != NULL) {
        cache->hits++;
        list_cut_locked(cache, node);
        list_add_locked(cache, node);
        value = cache->options.share(node->value);
    } else {
        cache->misses++;
    }
    mf_mutex_unlock(&cache->cache_mu);
    release_all(cache, left);
    return value;
}

static lru_node *node_new(const mf_lru *cache, mf_str key, void *value, size_t bytes) {
    size_t size = 0;
    if (cache->options.count_max == 0 || bytes > cache->options.bytes_max ||
        !mf_add_size(sizeof(lru_node), key.len, &size)) {
        return NULL;
    }
    lru_node *node = mf_alloc(size);
    if (node != NULL) {
        *node = (lru_node){.hash = mf_str_hash(key),
                           .born_ns = mf_now_ns(),
                           .bytes = bytes,
                           .value = value,
                           .key_len = key.len};
        if (key.len > 0) {
            memcpy(node->key, key.p, key.len);
        }
    }
    return node;
}

/* Lets the coldest leave until their nodes and weights come to `bytes`. */
static void make_room(mf_lru *cache, size_t bytes) {
    lru_node *left = NULL;
    mf_mutex_lock(&cache->cache_mu);
    size_t held = cache->bytes + cache->node_bytes;
    size_t keep = held > bytes ? held - bytes : 0;
    while (cache->coldest != NULL && cache->bytes + cache->node_bytes > keep) {
        leave_locked(cache, cache->coldest, &left);
        cache->evictions++;
    }
    mf_mutex_unlock(&cache->cache_mu);
    release_all(cache, left);
}

/* Room for the node in the manager's budget, if need be at the cost of others here. */
static bool has_budget(mf_lru *cache, const lru_node *node) {
    size_t wanted = node->bytes + node_size(node);
    if (mf_cache_take(&cache->entry, wanted)) {
        return true;
    }
    make_room(cache, wanted);
    return mf_cache_take(&cache->entry, wanted);
}

void mf_lru_put(mf_lru *cache, mf_str key, void *value, size_t bytes) {
    lru_node *node = node_new(cache, key, value, bytes);
    if (node != NULL && !has_budget(cache, node)) {
        mf_free(node);
        node = NULL;
    }
    if (node == NULL) {
        /* The value there is out of date even though the new one cannot be kept. */
        mf_lru_remove(cache, key);
        cache->options.release(value);
        return;
    }
    lru_node *left = NULL;
    mf_mutex_lock(&cache->cache_mu);
    lru_node *old = find_locked(cache, key, node->hash);
    if (old != NULL) {
        leave_locked(cache, old, &left);
    }
    (void)evict_locked(cache, cache->options.count_max - 1,
                       cache->options.bytes_max - bytes, &left);
    lru_node **bucket = bucket_of(cache, node->hash);
    node->chain = *bucket;
    *bucket = node;
    list_add_locked(cache, node);
    cache->count++;
    cache->bytes += bytes;
    cache->node_bytes += node_size(node);
    mf_mutex_unlock(&cache->cache_mu);
    release_all(cache, left);
}

void mf_lru_remove(mf_lru *cache, mf_str key) {
    uint64_t hash = mf_str_hash(key);
    lru_node *left = NULL;
    mf_mutex_lock(&cache->cache_mu);
    lru_node *node = find_locked(cache, key, hash);
    if (node != NULL) {
        leave_locked(cache, node, &left);
    }
    mf_mutex_unlock(&cache->cache_mu);
    release_all(cache, left);
}

void mf_lru_clear(mf_lru *cache) {
    lru_node *left = NULL;
    mf_mutex_lock(&cache->cache_mu);
    while (cache->coldest != NULL) {
        leave_locked(cache, cache->coldest, &left);
    }
    mf_mutex_unlock(&cache->cache_mu);
    release_all(cache, left);
}

size_t mf_lru_shrink(mf_lru *cache, size_t count) {
    lru_node *left = NULL;
    mf_mutex_lock(&cache->cache_mu);
    size_t keep = cache->count > count ? cache->count - count : 0;
    size_t dropped = evict_locked(cache, keep, SIZE_MAX, &left);
    mf_mutex_unlock(&cache->cache_mu);
    release_all(cache, left);
    return dropped;
}

void mf_lru_get_stats(mf_lru *cache, mf_lru_stats *out) {
    mf_mutex_lock(&cache->cache_mu);
    *out = (mf_lru_stats){.name = cache->options.name,
                          .size = cache->count,
                          .max_size = cache->options.count_max,
                          .bytes = cache->bytes,
                          .bytes_max = cache->options.bytes_max,
                          .held_bytes = cache->bytes + cache->node_bytes,
                          .hits = cache->hits,
                          .misses = cache->misses,
                          .evictions = cache->evictions,
                          .expirations = cache->expirations,
                          .ttl_ms = cache->options.ttl_ms};
    mf_mutex_unlock(&cache->cache_mu);
}
