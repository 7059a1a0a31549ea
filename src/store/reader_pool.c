/* reader_pool.c - reader connections, opened on demand and kept, bounded in number.
 *
 * The connection given back last is handed out first: its page cache is the warmest.
 * Opening one reads the disk, so it happens outside the lock; the place is taken before
 * and given back if opening fails. */
#include "store/reader_pool.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutex.h"

struct mf_reader_pool {
    mf_store *store; /* constant after open */
    size_t connections_max;
    mf_mutex pool_mu;
    mf_cond returned;
    /* guarded by pool_mu */
    mf_conn **idle; /* [connections_max], `idle_count` of them in use */
    size_t idle_count;
    size_t open; /* idle, handed out or being opened */
    uint64_t acquired, waited, timeouts;
};

mf_rc mf_reader_pool_open(mf_store *store, size_t connections_max, mf_reader_pool **out,
                          mf_err *err) {
    MF_ASSERT(connections_max > 0);
    mf_reader_pool *pool = mf_alloc_zero(1, sizeof *pool);
    if (pool != NULL) {
        pool->idle = mf_alloc_array(connections_max, sizeof(mf_conn *));
    }
    if (pool == NULL || pool->idle == NULL) {
        mf_free(pool);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu reader connections",
                       connections_max);
    }
    pool->store = store;
    pool->connections_max = connections_max;
    mf_mutex_init(&pool->pool_mu, MF_RANK_POOL);
    mf_cond_init(&pool->returned);
    *out = pool;
    return MF_OK;
}

void mf_reader_pool_close(mf_reader_pool *pool) {
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

/* Takes an idle connection, or a place for a new one (*out stays NULL).  false: neither
 * came free in time. */
static bool take_place(mf_reader_pool *pool, int64_t deadline_ns, mf_conn **out) {
    mf_mutex_lock(&pool->pool_mu);
    bool in_time = true;
    if (pool->idle_count == 0 && pool->open == pool->connections_max) {
        pool->waited++;
    }
    while (in_time && pool->idle_count == 0 && pool->open == pool->connections_max) {
        in_time = mf_cond_wait(&pool->returned, &pool->pool_mu, deadline_ns);
    }
    bool got = true;
    if (pool->idle_count > 0) {
        *out = pool->idle[--pool->idle_count];
    } else if (pool->open < pool->connections_max) {
        pool->open++;
    } else {
        got = false;
        pool->timeouts++;
    }
    pool->acquired += got;
    mf_mutex_unlock(&pool->pool_mu);
    return got;
}

static void give_place_back(mf_reader_pool *pool) {
    mf_mutex_lock(&pool->pool_mu);
    pool->open--;
    pool->acquired--;
    mf_cond_signal(&pool->returned);
    mf_mutex_unlock(&pool->pool_mu);
}

mf_rc mf_reader_acquire(mf_reader_pool *pool, int64_t deadline_ns, mf_conn **out,
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
    }
    *out = conn;
    return MF_OK;
}

void mf_reader_release(mf_reader_pool *pool, mf_conn *conn) {
    if (conn == NULL) {
        return;
    }
    mf_mutex_lock(&pool->pool_mu);
    MF_ASSERT(pool->idle_count < pool->open);
    pool->idle[pool->idle_count++] = conn;
    mf_cond_signal(&pool->returned);
    mf_mutex_unlock(&pool->pool_mu);
}

void mf_reader_pool_get_stats(mf_reader_pool *pool, mf_reader_pool_stats *out) {
    mf_mutex_lock(&pool->pool_mu);
    *out = (mf_reader_pool_stats){.open = pool->open,
                                  .busy = pool->open - pool->idle_count,
                                  .connections_max = pool->connections_max,
                                  .acquired = pool->acquired,
                                  .waited = pool->waited,
                                  .timeouts = pool->timeouts};
    mf_mutex_unlock(&pool->pool_mu);
}
