/* token_cache.c - a counter behind a cache.
 *
 * A value is the count itself, in the place of a pointer and one higher, so that it is
 * never NULL: nothing is allocated for it, shared or released. */
#include "buffer/token_cache.h"

#include "base/alloc.h"
#include "base/content_key.h"
#include "base/rng.h"

enum { ENTRY_BYTES = 128 }; /* roughly, of one text remembered */

struct mf_token_cache {
    const mf_token_counter *counter;
    mf_lru *counts; /* NULL: nothing is remembered */
    mf_content_key secret;
};

static void *share_count(void *value) {
    return value;
}

static void release_count(void *value) {
    (void)value; /* it is a number */
}

mf_rc mf_token_cache_open(const mf_token_counter *counter, size_t texts_max,
                          mf_cache_manager *caches, mf_token_cache **out, mf_err *err) {
    mf_token_cache *cache = mf_alloc_zero(1, sizeof(*cache));
    if (cache == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a token cache");
    }
    cache->counter = counter;
    mf_random_bytes(cache->secret.b, sizeof cache->secret.b);
    mf_lru_options options = {
        .name = "token_counts",
        .manager = caches,
        .count_max = texts_max,
        .bytes_max = texts_max * ENTRY_BYTES,
        .release = release_count,
        .share = share_count,
    };
    mf_rc rc = texts_max > 0 ? mf_lru_open(&options, &cache->counts, err) : MF_OK;
    if (rc != MF_OK) {
        mf_token_cache_close(cache);
        return rc;
    }
    *out = cache;
    return MF_OK;
}

void mf_token_cache_close(mf_token_cache *cache) {
    if (cache == NULL) {
        return;
    }
    mf_lru_close(cache->counts);
    mf_free(cache);
}

size_t mf_token_cache_count(mf_token_cache *cache, mf_str text) {
    if (cache->counts == NULL || text.len < MF_TOKEN_CACHE_BYTES_MIN) {
        return mf_token_count(cache->counter, text);
    }
    mf_content_key name = mf_content_key_of(&cache->secret, text);
    mf_str key = {(const char *)name.b, sizeof name.b};
    void *value = mf_lru_get(cache->counts, key);
    if (value != NULL) {
        return (size_t)(uintptr_t)value - 1;
    }
    size_t tokens = mf_token_count(cache->counter, text);
    mf_lru_put(cache->counts, key, (void *)(uintptr_t)(tokens + 1), ENTRY_BYTES);
    return tokens;
}

bool mf_token_cache_is_exact(const mf_token_cache *cache) {
    return mf_token_counter_is_exact(cache->counter);
}

void mf_token_cache_get_stats(mf_token_cache *cache, mf_lru_stats *out) {
    *out = (mf_lru_stats){.name = "token_counts"};
    if (cache->counts != NULL) {
        mf_lru_get_stats(cache->counts, out);
    }
}
