/* reader_pool.h - reader connections, opened on demand and kept, bounded in number. */
#ifndef MF_STORE_READER_POOL_H
#define MF_STORE_READER_POOL_H

#include "store/store.h"

typedef struct mf_reader_pool mf_reader_pool;

typedef struct mf_reader_pool_stats {
    size_t open, busy, connections_max;
    uint64_t acquired, waited, timeouts;
} mf_reader_pool_stats;

MF_CHECKED mf_rc mf_reader_pool_open(mf_store *store, size_t connections_max,
                                     mf_reader_pool **out, mf_err *err);
void mf_reader_pool_close(mf_reader_pool *pool); /* every connection must be back */
/* A connection for this thread's use; waits until `deadline_ns` when all are busy
 * (MF_E_TIMEOUT). */
MF_CHECKED mf_rc mf_reader_acquire(mf_reader_pool *pool, int64_t deadline_ns,
                                   mf_conn **out, mf_err *err);
void mf_reader_release(mf_reader_pool *pool, mf_conn *conn); /* NULL is fine */
void mf_reader_pool_get_stats(mf_reader_pool *pool, mf_reader_pool_stats *out);

#endif
