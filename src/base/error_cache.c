/* error_cache.c - the same error again is counted, not processed again.
 *
 * A table of fixed size: nodes on chains by hash, and on a list from the kind seen last
 * to the one not seen for longest.  Nodes are named by their index, and index 0 stands
 * for none, so zeroed memory is an empty table. */
#include "base/error_cache.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/str.h"

typedef struct node {
    size_t chain;        /* next with the same hash */
    size_t newer, older; /* by the time last seen */
    int64_t processed_ns;
    mf_error_kind kind;
} node;

struct mf_error_cache {
    /* constant after open */
    size_t count_max;
    int64_t ttl_ns;
    mf_mutex errors_mu; /* guards all below */
    size_t count;       /* nodes 1..count are in use */
    size_t newest, oldest;
    uint64_t total, processed, evicted;
    node *nodes;    /* [count_max + 1] */
    size_t *chains; /* [count_max] */
};

mf_rc mf_error_cache_open(size_t count_max, int64_t ttl_ns, mf_error_cache **out,
                          mf_err *err) {
    MF_ASSERT(count_max >= 1);
    MF_ASSERT(ttl_ns > 0);
    mf_error_cache *cache = mf_alloc_zero(1, sizeof *cache);
    node *nodes = mf_alloc_zero(count_max + 1, sizeof *nodes);
    size_t *chains = mf_alloc_zero(count_max, sizeof *chains);
    if (cache == NULL || nodes == NULL || chains == NULL) {
        mf_free(cache);
        mf_free(nodes);
        mf_free(chains);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of %zu errors",
                       count_max);
    }
    cache->count_max = count_max;
    cache->ttl_ns = ttl_ns;
    cache->nodes = nodes;
    cache->chains = chains;
    mf_mutex_init(&cache->errors_mu, MF_RANK_LEAF);
    *out = cache;
    return MF_OK;
}

void mf_error_cache_close(mf_error_cache *cache) {
    if (cache == NULL) {
        return;
    }
    mf_mutex_done(&cache->errors_mu);
    mf_free(cache->nodes);
    mf_free(cache->chains);
    mf_free(cache);
}

static mf_str name_of(const char *operation) {
    mf_str name = mf_str_from(operation);
    return mf_str_sub(name, 0, MF_ERROR_OPERATION_MAX - 1);
}

static size_t *chain_of(mf_error_cache *cache, mf_str name, mf_rc rc) {
    return &cache->chains[(mf_str_hash(name) + (uint64_t)rc) % cache->count_max];
}

static size_t find_locked(mf_error_cache *cache, mf_str name, mf_rc rc)
    MF_REQUIRES(cache->errors_mu) {
    size_t at = *chain_of(cache, name, rc);
    while (at != 0 &&
           (cache->nodes[at].kind.rc != rc ||
            !mf_str_eq(mf_str_from(cache->nodes[at].kind.operation), name))) {
        at = cache->nodes[at].chain;
    }
    return at;
}

static void unlist_locked(mf_error_cache *cache, size_t at)
    MF_REQUIRES(cache->errors_mu) {
    node *n = &cache->nodes[at];
    *(n->newer != 0 ? &cache->nodes[n->newer].older : &cache->newest) = n->older;
    *(n->older != 0 ? &cache->nodes[n->older].newer : &cache->oldest) = n->newer;
}

static void list_first_locked(mf_error_cache *cache, size_t at)
    MF_REQUIRES(cache->errors_mu) {
    node *n = &cache->nodes[at];
    n->newer = 0;
    n->older = cache->newest;
    *(n->older != 0 ? &cache->nodes[n->older].newer : &cache->oldest) = at;
    cache->newest = at;
}

/* Takes the kind not seen for longest out of its chain and the list. */
static size_t evict_locked(mf_error_cache *cache) MF_REQUIRES(cache->errors_mu) {
    size_t at = cache->oldest;
    const mf_error_kind *kind = &cache->nodes[at].kind;
    size_t *link = chain_of(cache, mf_str_from(kind->operation), kind->rc);
    while (*link != at) {
        link = &cache->nodes[*link].chain;
    }
    *link = cache->nodes[at].chain;
    unlist_locked(cache, at);
    cache->evicted++;
    return at;
}

static size_t insert_locked(mf_error_cache *cache, mf_str name, mf_rc rc,
                            int64_t now_ns) MF_REQUIRES(cache->errors_mu) {
    size_t at = cache->count < cache->count_max ? ++cache->count : evict_locked(cache);
    node *n = &cache->nodes[at];
    *n = (node){.kind = {.rc = rc, .first_ns = now_ns}};
    memcpy(n->kind.operation, name.p, name.len);
    size_t *chain = chain_of(cache, name, rc);
    n->chain = *chain;
    *chain = at;
    list_first_locked(cache, at);
    return at;
}

bool mf_error_cache_note(mf_error_cache *cache, const char *operation,
                         const mf_err *err, int64_t now_ns, uint64_t *silent) {
    mf_str name = name_of(operation);
    mf_mutex_lock(&cache->errors_mu);
    size_t at = find_locked(cache, name, err->rc);
    bool fresh = at == 0;
    if (fresh) {
        at = insert_locked(cache, name, err->rc, now_ns);
    } else {
        unlist_locked(cache, at);
        list_first_locked(cache, at);
    }
    node *n = &cache->nodes[at];
    bool process = fresh || now_ns - n->processed_ns >= cache->ttl_ns;
    cache->total++;
    n->kind.count++;
    n->kind.last_ns = now_ns;
    if (process) {
        cache->processed++;
        if (silent != NULL) {
            *silent = n->kind.silent;
        }
        n->kind.silent = 0;
        n->processed_ns = now_ns;
        (void)snprintf(n->kind.text, sizeof n->kind.text, "%.*s",
                       (int)sizeof n->kind.text - 1, err->text); /* cut on purpose */
    } else {
        n->kind.silent++;
    }
    mf_mutex_unlock(&cache->errors_mu);
    return process;
}

void mf_error_cache_log(mf_error_cache *cache, mf_log_level level,
                        const char *operation, const mf_err *err) {
    uint64_t silent = 0;
    if (cache != NULL &&
        !mf_error_cache_note(cache, operation, err, mf_now_ns(), &silent)) {
        return;
    }
    if (silent == 0) {
        mf_log_err(level, operation, err);
        return;
    }
    mf_log(level, operation, "code=%s sys=%d at=%s:%d more_of_same=%llu text=%s",
           mf_rc_name(err->rc), err->sys, err->file, err->line,
           (unsigned long long)silent, err->text);
}

size_t mf_error_cache_list(mf_error_cache *cache, mf_error_kind *out, size_t max) {
    size_t count = 0;
    mf_mutex_lock(&cache->errors_mu);
    for (size_t at = cache->newest; at != 0 && count < max;
         at = cache->nodes[at].older) {
        out[count++] = cache->nodes[at].kind;
    }
    mf_mutex_unlock(&cache->errors_mu);
    return count;
}

void mf_error_cache_get_stats(mf_error_cache *cache, mf_error_cache_stats *out) {
    mf_mutex_lock(&cache->errors_mu);
    *out = (mf_error_cache_stats){
        .size = cache->count,
        .max_size = cache->count_max,
        .ttl_ms = cache->ttl_ns / MF_NS_PER_MS,
        .total = cache->total,
        .processed = cache->processed,
        .suppressed = cache->total - cache->processed,
        .evicted = cache->evicted,
    };
    mf_mutex_unlock(&cache->errors_mu);
}
