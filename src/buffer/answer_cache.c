/* answer_cache.c - versioned values on base/lru.
 *
 * A value is an immutable counted block: a reader holds its own reference while it
 * copies, so leaving the cache pulls nothing away. */
#include "buffer/answer_cache.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

typedef struct block {
    atomic_size_t refs;
    uint64_t version;
    size_t len;
    char bytes[];
} block;

typedef struct answer_cache {
    mf_lru *blocks;
    atomic_ullong newest; /* version put last, but for races: a hint what to drop */
} answer_cache;

static void block_release(void *value) {
    block *b = value;
    if (atomic_fetch_sub(&b->refs, 1) == 1) {
        mf_free(b);
    }
}

static void *block_share(void *value) {
    block *b = value;
    atomic_fetch_add(&b->refs, 1);
    return b;
}

static bool cache_get(void *self, mf_str key, uint64_t version, mf_arena *arena,
                      mf_str *value) {
    answer_cache *cache = self;
    block *found = mf_lru_get(cache->blocks, key);
    if (found == NULL) {
        return false;
    }
    char *copy = NULL;
    if (found->version == version) {
        copy = mf_arena_alloc(arena, found->len + 1);
    }
    if (copy != NULL) {
        memcpy(copy, found->bytes, found->len);
        *value = (mf_str){copy, found->len};
    }
    block_release(found);
    return copy != NULL;
}

static void cache_put(void *self, mf_str key, uint64_t version, mf_str value) {
    answer_cache *cache = self;
    unsigned long long newest = atomic_load(&cache->newest);
    if (newest < version &&
        atomic_compare_exchange_strong(&cache->newest, &newest, version)) {
        mf_lru_clear(cache->blocks);
    }
    size_t size = sizeof(block) + value.len;
    block *made = value.len <= MF_ANSWER_BYTES_MAX ? mf_alloc(size) : NULL;
    if (made == NULL) {
        mf_lru_remove(cache->blocks, key);
        return;
    }
    atomic_init(&made->refs, 1);
    made->version = version;
    made->len = value.len;
    if (value.len > 0) {
        memcpy(made->bytes, value.p, value.len);
    }
    mf_lru_put(cache->blocks, key, made, size);
}

static void cache_close(void *self) {
    answer_cache *cache = self;
    if (cache != NULL) {
        mf_lru_close(cache->blocks);
        mf_free(cache);
    }
}

static const mf_answer_level_ops ops = {cache_get, cache_put, cache_close};

mf_rc mf_answer_cache_open(const char *name, size_t values_max, int64_t ttl_ms,
                           mf_cache_manager *caches, mf_answer_level *out,
                           mf_err *err) {
    answer_cache *cache = mf_alloc_zero(1, sizeof(*cache));
    if (cache == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a cache of answers");
    }
    atomic_init(&cache->newest, 0);
    mf_lru_options options = {
        .name = name,
        .manager = caches,
        .count_max = values_max,
        .bytes_max = SIZE_MAX,
        .ttl_ms = ttl_ms,
        .release = block_release,
        .share = block_share,
    };
    if (!mf_mul_size(values_max, MF_ANSWER_BYTES_MAX, &options.bytes_max)) {
        options.bytes_max = SIZE_MAX;
    }
    mf_rc rc = mf_lru_open(&options, &cache->blocks, err);
    if (rc != MF_OK) {
        mf_free(cache);
        return rc;
    }
    *out = (mf_answer_level){&ops, cache};
    return MF_OK;
}

void mf_answer_cache_get_stats(const mf_answer_level *level, mf_lru_stats *out) {
    const answer_cache *cache = level->self;
    mf_lru_get_stats(cache->blocks, out);
}
