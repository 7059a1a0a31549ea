/* cache_manager.c - all caches of the process under one byte budget.
 *
 * The bytes held are one atomic number, changed by the caches as entries come and go,
 * so that the check against the budget costs an addition and no walk.  Registrations
 * hang on a list.  A walk pins the registration it is at and calls the cache without
 * the lock; unregistering waits for the pins, so a cache is never called after it went,
 * and a registration that is pinned stays on the list, so the walk finds its next.
 * New ones come in at the front, where a walk has been already: every walk ends. */
#include "base/cache_manager.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"

enum { PERCENT_MAX = 100 };

struct mf_cache_manager {
    atomic_size_t held_bytes;
    atomic_size_t held_bytes_max;
    atomic_size_t budget_bytes;
    atomic_size_t threshold_bytes;
    atomic_ullong cleanups;
    atomic_ullong cleaned_entries;
    atomic_ullong refusals;
    /* set while no cache is in use */
    void (*notify)(void *ctx);
    void *notify_ctx;
    mf_mutex entries_mu;
    mf_cond unpinned;
    /* guarded by entries_mu */
    mf_cache_entry *first;
    size_t name_count;
    const char *names[MF_CACHE_NAMES_MAX];
    size_t name_users[MF_CACHE_NAMES_MAX];
};

double mf_cache_hit_rate(uint64_t hits, uint64_t misses) {
    const double thousand = 1000;
    if (hits + misses == 0) {
        return 0;
    }
    double rate = (double)hits / ((double)hits + (double)misses);
    return (double)(int)(rate * thousand + 0.5) / thousand;
}

mf_rc mf_cache_manager_open(size_t budget_bytes, unsigned threshold_percent,
                            mf_cache_manager **out, mf_err *err) {
    mf_cache_manager *manager = mf_alloc_zero(1, sizeof *manager);
    if (manager == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the cache manager");
    }
    mf_mutex_init(&manager->entries_mu, MF_RANK_LEAF);
    mf_cond_init(&manager->unpinned);
    mf_cache_manager_set_budget(manager, budget_bytes, threshold_percent);
    *out = manager;
    return MF_OK;
}

void mf_cache_manager_close(mf_cache_manager *manager) {
    if (manager == NULL) {
        return;
    }
    MF_ASSERT(manager->first == NULL);
    mf_cond_done(&manager->unpinned);
    mf_mutex_done(&manager->entries_mu);
    mf_free(manager);
}

void mf_cache_manager_set_budget(mf_cache_manager *manager, size_t budget_bytes,
                                 unsigned threshold_percent) {
    MF_ASSERT(threshold_percent >= 1 && threshold_percent <= PERCENT_MAX);
    atomic_store(&manager->budget_bytes, budget_bytes);
    atomic_store(&manager->threshold_bytes,
                 budget_bytes / PERCENT_MAX * threshold_percent +
                     budget_bytes % PERCENT_MAX * threshold_percent / PERCENT_MAX);
}

void mf_cache_manager_watch(mf_cache_manager *manager, void (*notify)(void *ctx),
                            void *ctx) {
    manager->notify_ctx = ctx;
    manager->notify = notify;
}

/* --- registrations ---------------------------------------------------------------- */

static size_t slot_locked(mf_cache_manager *manager, const char *name)
    MF_REQUIRES(manager->entries_mu) {
    for (size_t i = 0; i < manager->name_count; i++) {
        if (strcmp(manager->names[i], name) == 0) {
            return i;
        }
    }
    MF_ASSERT(manager->name_count < MF_CACHE_NAMES_MAX);
    manager->names[manager->name_count] = name;
    return manager->name_count++;
}

void mf_cache_register(mf_cache_manager *manager, mf_cache_entry *entry,
                       const mf_cache_ops *ops, void *cache) {
    *entry = (mf_cache_entry){.manager = manager, .ops = ops, .cache = cache};
    if (manager == NULL) {
        return;
    }
    mf_mutex_lock(&manager->entries_mu);
    entry->slot = slot_locked(manager, ops->name);
    manager->name_users[entry->slot]++;
    entry->next = manager->first;
    if (entry->next != NULL) {
        entry->next->prev = entry;
    }
    manager->first = entry;
    mf_mutex_unlock(&manager->entries_mu);
}

void mf_cache_unregister(mf_cache_entry *entry) {
    mf_cache_manager *manager = entry->manager;
    if (manager == NULL) {
        return;
    }
    mf_mutex_lock(&manager->entries_mu);
    while (entry->pins > 0) {
        (void)mf_cond_wait(&manager->unpinned, &manager->entries_mu, MF_NEVER);
    }
    *(entry->prev != NULL ? &entry->prev->next : &manager->first) = entry->next;
    if (entry->next != NULL) {
        entry->next->prev = entry->prev;
    }
    manager->name_users[entry->slot]--;
    mf_mutex_unlock(&manager->entries_mu);
}

/* The step of a walk: lets go of `at` (NULL at the start) and pins the one behind it.
 */
static mf_cache_entry *walk_on(mf_cache_manager *manager, mf_cache_entry *at) {
    mf_mutex_lock(&manager->entries_mu);
    mf_cache_entry *next = at != NULL ? at->next : manager->first;
    if (at != NULL && --at->pins == 0) {
        mf_cond_broadcast(&manager->unpinned);
    }
    if (next != NULL) {
        next->pins++;
    }
    mf_mutex_unlock(&manager->entries_mu);
    return next;
}

/* --- bytes ------------------------------------------------------------------------ */

static void raise_max(mf_cache_manager *manager, size_t held) {
    size_t most = atomic_load(&manager->held_bytes_max);
    while (held > most &&
           !atomic_compare_exchange_weak(&manager->held_bytes_max, &most, held)) {
    }
}

bool mf_cache_take(mf_cache_entry *entry, size_t bytes) {
    mf_cache_manager *manager = entry->manager;
    if (manager == NULL) {
        return true;
    }
    size_t budget = atomic_load(&manager->budget_bytes);
    size_t held = atomic_load(&manager->held_bytes);
    do {
        if (bytes > budget || held > budget - bytes) {
            atomic_fetch_add(&manager->refusals, 1);
            return false;
        }
    } while (!atomic_compare_exchange_weak(&manager->held_bytes, &held, held + bytes));
    raise_max(manager, held + bytes);
    size_t threshold = atomic_load(&manager->threshold_bytes);
    if (manager->notify != NULL && held <= threshold && held + bytes > threshold) {
        manager->notify(manager->notify_ctx);
    }
    return true;
}

void mf_cache_give(mf_cache_entry *entry, size_t bytes) {
    if (entry->manager != NULL) {
        size_t before = atomic_fetch_sub(&entry->manager->held_bytes, bytes);
        MF_ASSERT(before >= bytes);
    }
}

size_t mf_cache_manager_held_bytes(const mf_cache_manager *manager) {
    return atomic_load(&manager->held_bytes);
}

/* --- cleanup ---------------------------------------------------------------------- */

void mf_cache_manager_cleanup(mf_cache_manager *manager, mf_cache_cleanup *out) {
    mf_cache_cleanup done = {.before_bytes = mf_cache_manager_held_bytes(manager)};
    mf_cache_entry *at = NULL;
    while ((at = walk_on(manager, at)) != NULL) {
        mf_cache_stats stats = {0};
        at->ops->get_stats(at->cache, &stats);
        if (stats.size > 0) {
            done.entries += at->ops->shrink(at->cache, (stats.size + 1) / 2);
        }
    }
    done.after_bytes = mf_cache_manager_held_bytes(manager);
    atomic_fetch_add(&manager->cleanups, 1);
    atomic_fetch_add(&manager->cleaned_entries, done.entries);
    *out = done;
}

bool mf_cache_manager_cleanup_if_needed(mf_cache_manager *manager,
                                        mf_cache_cleanup *out) {
    if (mf_cache_manager_held_bytes(manager) <=
        atomic_load(&manager->threshold_bytes)) {
        return false;
    }
    mf_cache_manager_cleanup(manager, out);
    return true;
}

/* --- statistics ------------------------------------------------------------------- */

static void names_begin(mf_cache_manager *manager, mf_cache_manager_stats *out) {
    mf_mutex_lock(&manager->entries_mu);
    out->name_count = manager->name_count;
    for (size_t i = 0; i < manager->name_count; i++) {
        out->names[i].name = manager->names[i];
        out->names[i].caches = manager->name_users[i];
    }
    mf_mutex_unlock(&manager->entries_mu);
}

static void names_add(mf_cache_manager_stats *out, size_t slot,
                      const mf_cache_stats *one) {
    mf_cache_stats *sum = &out->names[slot];
    sum->size += one->size;
    sum->max_size += one->max_size;
    sum->held_bytes += one->held_bytes;
    sum->hits += one->hits;
    sum->misses += one->misses;
    sum->evictions += one->evictions;
    sum->expirations += one->expirations;
    sum->ttl_ms = one->ttl_ms;
    out->size += one->size;
    out->hits += one->hits;
    out->misses += one->misses;
}

void mf_cache_manager_get_stats(mf_cache_manager *manager,
                                mf_cache_manager_stats *out) {
    *out = (mf_cache_manager_stats){
        .held_bytes = mf_cache_manager_held_bytes(manager),
        .held_bytes_max = atomic_load(&manager->held_bytes_max),
        .budget_bytes = atomic_load(&manager->budget_bytes),
        .threshold_bytes = atomic_load(&manager->threshold_bytes),
        .cleanups = atomic_load(&manager->cleanups),
        .cleaned_entries = atomic_load(&manager->cleaned_entries),
        .refusals = atomic_load(&manager->refusals),
    };
    names_begin(manager, out);
    mf_cache_entry *at = NULL;
    while ((at = walk_on(manager, at)) != NULL) {
        mf_cache_stats one = {0};
        at->ops->get_stats(at->cache, &one);
        if (at->slot < out->name_count) {
            names_add(out, at->slot, &one);
        }
    }
}
