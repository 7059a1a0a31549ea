/* conn_pool.h - reading connections of one store for one use, opened on demand, kept,
 * and bounded in number.
 *
 * No connection is looked at before it is handed out: who finds one dead says so when
 * giving it back, and the pool opens another in its place.  Acquiring an idle
 * connection is a few instructions under a lock.
 *
 * Safe from any thread; a connection serves one at a time. */
#ifndef MF_STORE_CONN_POOL_H
#define MF_STORE_CONN_POOL_H

#include "base/histogram.h"
#include "store/store.h"

typedef struct mf_conn_pool mf_conn_pool;

typedef struct mf_conn_pool_stats {
    size_t open, busy, connections_max;
    uint64_t acquired, waited, timeouts;
    uint64_t created, replaced;   /* connections opened; of them for dead ones */
    mf_histogram_summary wait_ns; /* of those that waited */
} mf_conn_pool_stats;

/* The store outlives the pool. */
MF_CHECKED mf_rc mf_conn_pool_open(mf_store *store, size_t connections_max,
                                   mf_conn_pool **out, mf_err *err);
void mf_conn_pool_close(mf_conn_pool *pool); /* every connection must be back */
/* A connection for this thread's use; waits until `deadline_ns` when all are busy
 * (MF_E_TIMEOUT). */
MF_CHECKED mf_rc mf_conn_acquire(mf_conn_pool *pool, int64_t deadline_ns, mf_conn **out,
                                 mf_err *err);
/* `rc` is how its use ended: one that is mf_conn_rc_is_dead closes the connection.
 * NULL is fine. */
void mf_conn_release(mf_conn_pool *pool, mf_conn *conn, mf_rc rc);
/* Does this failure mean that the connection is of no more use? */
bool mf_conn_rc_is_dead(mf_rc rc);

/* Acquires, fixes one state (read_begin), reads, and gives back.  A connection found
 * dead before `read` was called is replaced once, unseen by the caller; after that the
 * failure is told, because `read` may have done a part of its work. */
MF_CHECKED mf_rc mf_conn_read(mf_conn_pool *pool, int64_t deadline_ns,
                              mf_rc (*read)(mf_conn *, void *ctx, mf_err *), void *ctx,
                              mf_err *err);
/* Memory is short: every connection nobody has in hand gives back what it can do
 * without. */
void mf_conn_pool_release_memory(mf_conn_pool *pool);
void mf_conn_pool_get_stats(mf_conn_pool *pool, mf_conn_pool_stats *out);

#endif
