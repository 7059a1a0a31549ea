/* conn_manager.h - the stores of a process by their URLs, each opened once, with pools
 * of connections.
 *
 * A URL is whatever the factory understands ("sqlite:/path/store.db", "memory:"); this
 * file knows no backend.  The first who asks for one opens its store; others who ask at
 * the same time wait for that one and share the outcome, and nobody who asks for
 * another URL waits.  From then on asking is a look at a list without a lock.  A
 * failure is not kept: the next to ask tries again.
 *
 * Each store has two pools, so that background work, however much there is, never takes
 * a connection from a request.
 *
 * Safe from any thread. */
#ifndef MF_STORE_CONN_MANAGER_H
#define MF_STORE_CONN_MANAGER_H

#include "store/conn_pool.h"

typedef struct mf_conn_manager mf_conn_manager;

typedef enum mf_conn_use {
    MF_CONN_FOREGROUND, /* somebody waits for the answer */
    MF_CONN_BACKGROUND,
    MF_CONN_USE_COUNT
} mf_conn_use;

const char *mf_conn_use_name(mf_conn_use use); /* "foreground", "background" */

typedef struct mf_conn_manager_options {
    /* Opens the store of a URL; called once for each, without a lock.  The manager
     * closes it. */
    mf_rc (*store_open)(void *ctx, mf_str url, mf_store **out, mf_err *err);
    void *ctx;
    size_t connections_max[MF_CONN_USE_COUNT]; /* of each pool; 1 or more */
} mf_conn_manager_options;

MF_CHECKED mf_rc mf_conn_manager_open(const mf_conn_manager_options *options,
                                      mf_conn_manager **out, mf_err *err);
/* Closes pools and stores; every connection, also the writers', must be back. */
void mf_conn_manager_close(mf_conn_manager *manager);

/* Both live as long as the manager.  MF_E_TIMEOUT when another thread's opening of that
 * URL takes longer than `deadline_ns`; whatever the factory gives. */
MF_CHECKED mf_rc mf_conn_manager_pool(mf_conn_manager *manager, mf_str url,
                                      mf_conn_use use, int64_t deadline_ns,
                                      mf_conn_pool **out, mf_err *err);
MF_CHECKED mf_rc mf_conn_manager_store(mf_conn_manager *manager, mf_str url,
                                       int64_t deadline_ns, mf_store **out,
                                       mf_err *err);

typedef struct mf_conn_manager_stats {
    size_t urls;     /* open */
    uint64_t opened; /* stores opened; more than `urls` only after failures */
    uint64_t shared; /* who waited for another's opening */
} mf_conn_manager_stats;

void mf_conn_manager_get_stats(mf_conn_manager *manager, mf_conn_manager_stats *out);

#endif
