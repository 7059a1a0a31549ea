/* conn_pool.c - reading connections, opened on demand and kept, bounded in number.
 *
 * The connection given back last is handed out first: its page cache is the warmest.
 * Opening and closing one takes time, so both happen outside the lock; the place is
 * taken before and given back if opening fails. */
#include "store/conn_pool.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"

struct mf_conn_pool {
    mf_store *store; /* constant after open */
    size_t connections_max;
    mf_mutex pool_mu;
    mf_cond returned;
    /* guarded by pool_mu */
    mf_conn **idle; /* [connections_max], `idle_count` of them in use */
    size_t idle_count;
    size_t open; /* idle, handed out or being opened */
    size_t dead; /* closed and not replaced yet */
    uint64_t acquired, waited, timeouts, created, replaced;

    mf_histogram wait_ns;
};

mf_rc mf_conn_pool_open(mf_store *store, size_t connections_max, mf_conn_pool **out,
                        mf_err *err) {
    MF_ASSERT(connections_max > 0);
    mf_conn_pool *pool = mf_alloc_zero(1, sizeof *pool);
    if (pool != NULL) {
        pool->idle = mf_alloc_array(connections_max, sizeof(mf_conn *));
    }
    if (pool == NULL || pool->idle == NULL) {
        mf_free(pool);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu connections",
                       connections_max);
    }
    pool->store = store;
    pool->connections_max = connections_max;
    mf_mutex_init(&pool->pool_mu, MF_RANK_POOL);
    mf_cond_init(&pool->returned);
    *out = pool;
    return MF_OK;
}

void mf_conn_pool_close(mf_conn_pool *pool) {
    if (pool == NULL) {
        return;
    }
    MF_ASSERT(pool->open == pool->idle_count);
    for (size_t i = 0; i < pool->idle_count; i++) {
        pool->store->ops->conn_close(pool->idle[i]);
    }
    mf_cond_done(&pool->returned);
    mf_mutex_done(&pool->pool_mu);
    mf_free(pool->idle);
    mf_free(pool);
}

/* Waits for a connection or a place; false when neither came free in time. */
static bool wait_for_place_locked(mf_conn_pool *pool, int64_t deadline_ns)
    MF_REQUIRES(pool->pool_mu) {
    int64_t start_ns = mf_now_ns();
    bool in_time = true;
    pool->waited++;
    while (in_time && pool->idle_count == 0 && pool->open == pool->connections_max) {
        in_time = mf_cond_wait(&pool->returned, &pool->pool_mu, deadline_ns);
    }
    mf_histogram_record(&pool->wait_ns, (uint64_t)(mf_now_ns() - start_ns));
    return pool->idle_count > 0 || pool->open < pool->connections_max;
}

/* Takes an idle connection, or a place for a new one (*out stays NULL). */
static bool take_place(mf_conn_pool *pool, int64_t deadline_ns, mf_conn **out) {
    mf_mutex_lock(&pool->pool_mu);
    bool got = pool->idle_count > 0 || pool->open < pool->connections_max ||
               wait_for_place_locked(pool, deadline_ns);
    if (!got) {
        pool->timeouts++;
    } else if (pool->idle_count > 0) {
        *out = pool->idle[--pool->idle_count];
    } else {
        pool->open++;
    }
    pool->acquired += got;
    mf_mutex_unlock(&pool->pool_mu);
    return got;
}

static void give_place_back(mf_conn_pool *pool) {
    mf_mutex_lock(&pool->pool_mu);
    pool->open--;
    pool->acquired--;
    mf_cond_signal(&pool->returned);
    mf_mutex_unlock(&pool->pool_mu);
}

static void count_created(mf_conn_pool *pool) {
    mf_mutex_lock(&pool->pool_mu);
    pool->created++;
    if (pool->dead > 0) {
        pool->dead--;
        pool->replaced++;
    }
    mf_mutex_unlock(&pool->pool_mu);
}

mf_rc mf_conn_acquire(mf_conn_pool *pool, int64_t deadline_ns, mf_conn **out,
                      mf_err *err) {
    mf_conn *conn = NULL;
    if (!take_place(pool, deadline_ns, &conn)) {
        return MF_FAIL(err, MF_E_TIMEOUT, "all %zu reader connections are busy",
                       pool->connections_max);
    }
    if (conn == NULL) {
        mf_rc rc = pool->store->ops->conn_open(pool->store, false, &conn, err);
        if (rc != MF_OK) {
            give_place_back(pool);
            return rc;
        }
        count_created(pool);
    }
    *out = conn;
    return MF_OK;
}

/* A full disk, a lack of memory or a lock held too long pass; a damaged page is damaged
 * for every connection. */
bool mf_conn_rc_is_dead(mf_rc rc) {
    return rc == MF_E_IO;
}

void mf_conn_release(mf_conn_pool *pool, mf_conn *conn, mf_rc rc) {
    if (conn == NULL) {
        return;
    }
    bool dead = mf_conn_rc_is_dead(rc);
    if (dead) {
        pool->store->ops->conn_close(conn);
    }
    mf_mutex_lock(&pool->pool_mu);
    MF_ASSERT(pool->idle_count < pool->open);
    if (dead) {
        pool->open--;
        pool->dead++;
    } else {
        pool->idle[pool->idle_count++] = conn;
    }
    mf_cond_signal(&pool->returned);
    mf_mutex_unlock(&pool->pool_mu);
}

/* *begun tells whether the connection was good enough to begin. */
static mf_rc read_once(mf_conn_pool *pool, int64_t deadline_ns,
                       mf_rc (*read)(mf_conn *, void *, mf_err *), void *ctx,
                       bool *begun, mf_err *err) {
    mf_conn *conn;
    MF_TRY(mf_conn_acquire(pool, deadline_ns, &conn, err));
    mf_rc rc = conn->ops->read_begin(conn, err);
    *begun = rc == MF_OK;
    if (rc == MF_OK) {
        rc = read(conn, ctx, err);
        conn->ops->read_end(conn);
    }
    mf_conn_release(pool, conn, rc);
    return rc;
}

mf_rc mf_conn_read(mf_conn_pool *pool, int64_t deadline_ns,
                   mf_rc (*read)(mf_conn *, void *, mf_err *), void *ctx, mf_err *err) {
    bool begun = false;
    mf_err failure = {0};
    mf_rc rc = read_once(pool, deadline_ns, read, ctx, &begun, &failure);
    if (!begun && mf_conn_rc_is_dead(rc)) {
        rc = read_once(pool, deadline_ns, read, ctx, &begun, &failure);
    }
    if (rc != MF_OK && err != NULL) {
        *err = failure;
    }
    return rc;
}

/* Without the lock nobody but this thread may touch them: they count as handed out
 * meanwhile. */
void mf_conn_pool_release_memory(mf_conn_pool *pool) {
    mf_conn **taken = mf_alloc_array(pool->connections_max, sizeof(mf_conn *));
    if (taken == NULL) {
        return; /* the other steps may help */
    }
    mf_mutex_lock(&pool->pool_mu);
    size_t count = pool->idle_count;
    memcpy(taken, pool->idle, count * sizeof(mf_conn *));
    pool->idle_count = 0;
    mf_mutex_unlock(&pool->pool_mu);
    for (size_t i = 0; i < count; i++) {
        mf_rc rc = taken[i]->ops->release_memory(taken[i], NULL);
        mf_conn_release(pool, taken[i], rc);
    }
    mf_free(taken);
}

void mf_conn_pool_get_stats(mf_conn_pool *pool, mf_conn_pool_stats *out) {
    mf_mutex_lock(&pool->pool_mu);
    *out = (mf_conn_pool_stats){.open = pool->open,
                                .busy = pool->open - pool->idle_count,
                                .connections_max = pool->connections_max,
                                .acquired = pool->acquired,
                                .waited = pool->waited,
                                .timeouts = pool->timeouts,
                                .created = pool->created,
                                .replaced = pool->replaced};
    mf_mutex_unlock(&pool->pool_mu);
    mf_histogram_get_summary(&pool->wait_ns, &out->wait_ns);
}
