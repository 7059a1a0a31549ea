/* conn_manager.c - the stores of a process by their URLs, each opened once.
 *
 * The list of URLs only grows: an entry is put at its head when its URL is first asked
 * for and stays until the manager closes.  So readers walk it without a lock, and an
 * entry's store and pools are good once `ready` is seen set (it is stored after them).
 *
 *   asked --> entry, opening --ok--> ready            (never changes again)
 *                 ^    |
 *                 |    +--failed--> idle: the next to ask opens
 *                 +-----------------------+
 *
 * `manager_mu` guards the marks; opening itself happens without it, and those who wait
 * do so on the condition, each until its own deadline. */
#include "store/conn_manager.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/mutex.h"

typedef struct entry {
    /* constant once in the list */
    struct entry *next;
    char *url;
    /* written before `ready` is set */
    mf_store *store;
    mf_conn_pool *pools[MF_CONN_USE_COUNT];
    atomic_bool ready;
    bool opening; /* guarded by manager_mu */
    /* how the newest opening ended; guarded by manager_mu */
    uint64_t attempts;
    mf_rc rc;
    mf_err err;
} entry;

struct mf_conn_manager {
    mf_conn_manager_options options; /* constant after open */
    _Atomic(entry *) first;
    mf_mutex manager_mu;
    mf_cond ended;           /* an opening did */
    uint64_t opened, shared; /* guarded by manager_mu */
};

const char *mf_conn_use_name(mf_conn_use use) {
    return use == MF_CONN_FOREGROUND ? "foreground" : "background";
}

mf_rc mf_conn_manager_open(const mf_conn_manager_options *options,
                           mf_conn_manager **out, mf_err *err) {
    mf_conn_manager *manager = mf_alloc_zero(1, sizeof *manager);
    if (manager == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the connections");
    }
    manager->options = *options;
    atomic_init(&manager->first, NULL);
    mf_mutex_init(&manager->manager_mu, MF_RANK_POOL);
    mf_cond_init(&manager->ended);
    *out = manager;
    return MF_OK;
}

static void close_parts(entry *e) {
    for (int use = 0; use < MF_CONN_USE_COUNT; use++) {
        mf_conn_pool_close(e->pools[use]);
        e->pools[use] = NULL;
    }
    if (e->store != NULL) {
        e->store->ops->close(e->store);
        e->store = NULL;
    }
}

static void free_entry(entry *e) {
    close_parts(e);
    mf_free(e->url);
    mf_free(e);
}

void mf_conn_manager_close(mf_conn_manager *manager) {
    if (manager == NULL) {
        return;
    }
    entry *e = atomic_load(&manager->first);
    while (e != NULL) {
        entry *next = e->next;
        free_entry(e);
        e = next;
    }
    mf_cond_done(&manager->ended);
    mf_mutex_done(&manager->manager_mu);
    mf_free(manager);
}

static entry *find(mf_conn_manager *manager, mf_str url) {
    entry *e = atomic_load(&manager->first);
    while (e != NULL && !mf_str_eq(mf_str_from(e->url), url)) {
        e = e->next;
    }
    return e;
}

/* The entry of a URL, made if there is none. */
static mf_rc need_entry(mf_conn_manager *manager, mf_str url, entry **out,
                        mf_err *err) {
    entry *made = mf_alloc_zero(1, sizeof *made);
    if (made != NULL) {
        made->url = mf_strndup(url.p, url.len);
        atomic_init(&made->ready, false);
    }
    if (made == NULL || made->url == NULL) {
        mf_free(made);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a store");
    }
    mf_mutex_lock(&manager->manager_mu);
    entry *e = find(manager, url);
    if (e == NULL) {
        made->next = atomic_load(&manager->first);
        atomic_store(&manager->first, made);
        e = made;
        made = NULL;
    }
    mf_mutex_unlock(&manager->manager_mu);
    if (made != NULL) {
        free_entry(made); /* another was quicker */
    }
    *out = e;
    return MF_OK;
}

static mf_rc open_entry(mf_conn_manager *manager, entry *e, mf_err *err) {
    const mf_conn_manager_options *o = &manager->options;
    mf_rc rc = o->store_open(o->ctx, mf_str_from(e->url), &e->store, err);
    for (int use = 0; use < MF_CONN_USE_COUNT && rc == MF_OK; use++) {
        rc = mf_conn_pool_open(e->store, o->connections_max[use], &e->pools[use], err);
    }
    if (rc != MF_OK) {
        close_parts(e);
    }
    return rc;
}

/* Waits for the opening under way and takes its outcome. */
static mf_rc share_opening_locked(mf_conn_manager *manager, entry *e,
                                  int64_t deadline_ns, mf_err *err)
    MF_REQUIRES(manager->manager_mu) {
    uint64_t attempts = e->attempts;
    bool in_time = true;
    manager->shared++;
    while (in_time && e->attempts == attempts) {
        in_time = mf_cond_wait(&manager->ended, &manager->manager_mu, deadline_ns);
    }
    if (e->attempts == attempts) {
        return MF_FAIL(err, MF_E_TIMEOUT, "the store is still being opened");
    }
    if (e->rc != MF_OK && err != NULL) {
        *err = e->err;
    }
    return e->rc;
}

/* Opens the entry, or shares the opening by another thread. */
static mf_rc make_ready(mf_conn_manager *manager, entry *e, int64_t deadline_ns,
                        mf_err *err) {
    mf_rc rc = MF_OK;
    bool mine = false;
    mf_mutex_lock(&manager->manager_mu);
    if (!atomic_load(&e->ready)) { /* looked at again: it may be so by now */
        mine = !e->opening;
        if (mine) {
            e->opening = true;
            manager->opened++;
        } else {
            rc = share_opening_locked(manager, e, deadline_ns, err);
        }
    }
    mf_mutex_unlock(&manager->manager_mu);
    if (!mine) {
        return rc;
    }
    mf_err failure = {0};
    rc = open_entry(manager, e, &failure);
    mf_mutex_lock(&manager->manager_mu);
    if (rc == MF_OK) {
        atomic_store(&e->ready, true);
    }
    e->opening = false;
    e->rc = rc;
    e->err = failure;
    e->attempts++;
    mf_cond_broadcast(&manager->ended);
    mf_mutex_unlock(&manager->manager_mu);
    if (rc != MF_OK && err != NULL) {
        *err = failure;
    }
    return rc;
}

static mf_rc get_ready(mf_conn_manager *manager, mf_str url, int64_t deadline_ns,
                       entry **out, mf_err *err) {
    entry *e = find(manager, url);
    if (e == NULL) {
        MF_TRY(need_entry(manager, url, &e, err));
    }
    if (!atomic_load(&e->ready)) {
        MF_TRY(make_ready(manager, e, deadline_ns, err));
    }
    *out = e;
    return MF_OK;
}

mf_rc mf_conn_manager_pool(mf_conn_manager *manager, mf_str url, mf_conn_use use,
                           int64_t deadline_ns, mf_conn_pool **out, mf_err *err) {
    entry *e;
    MF_TRY(get_ready(manager, url, deadline_ns, &e, err));
    *out = e->pools[use];
    return MF_OK;
}

mf_rc mf_conn_manager_store(mf_conn_manager *manager, mf_str url, int64_t deadline_ns,
                            mf_store **out, mf_err *err) {
    entry *e;
    MF_TRY(get_ready(manager, url, deadline_ns, &e, err));
    *out = e->store;
    return MF_OK;
}

void mf_conn_manager_get_stats(mf_conn_manager *manager, mf_conn_manager_stats *out) {
    size_t urls = 0;
    for (entry *e = atomic_load(&manager->first); e != NULL; e = e->next) {
        urls += atomic_load(&e->ready);
    }
    mf_mutex_lock(&manager->manager_mu);
    *out = (mf_conn_manager_stats){
        .urls = urls, .opened = manager->opened, .shared = manager->shared};
    mf_mutex_unlock(&manager->manager_mu);
}
