/* memory_store.c - opening, connections and transactions of the memory backend.
 *
 * A transaction is a version of the tree that nobody else has seen; commit puts it in
 * the place of the newest one, rollback drops it, and a savepoint is one more reference
 * to keep.  Readers hold the version they began with, so nobody ever waits for anybody
 * longer than it takes to copy a pointer. */
#include "store/memory/memory_store.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"
#include "store/memory/memory_conn.h"

static const mf_store_ops memory_ops;

static void store_close(mf_store *base) {
    mf_memory_store *store = (mf_memory_store *)base;
    if (store != NULL) {
        MF_ASSERT(!store->writer_open);
        mf_tree_unref(store->committed);
        mf_mutex_done(&store->store_mu);
        mf_free(store);
    }
}

mf_rc mf_memory_store_open(mf_store **out, mf_err *err) {
    mf_memory_store *store = mf_alloc_zero(1, sizeof *store);
    if (store == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a store");
    }
    store->base.ops = &memory_ops;
    mf_random_bytes(store->content_secret.b, sizeof store->content_secret.b);
    mf_mutex_init(&store->store_mu, MF_RANK_STORE);
    *out = &store->base;
    return MF_OK;
}

static mf_rc conn_open(mf_store *base, bool writer, mf_conn **out, mf_err *err) {
    mf_memory_store *store = (mf_memory_store *)base;
    mf_memory_conn *conn = mf_alloc_zero(1, sizeof *conn);
    if (conn == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a connection");
    }
    mf_mutex_lock(&store->store_mu);
    bool free_place = !writer || !store->writer_open;
    store->writer_open = store->writer_open || writer;
    mf_mutex_unlock(&store->store_mu);
    if (!free_place) {
        mf_free(conn);
        return MF_FAIL(err, MF_E_BUSY, "the store has a writer already");
    }
    conn->base = (mf_conn){.ops = &memory_ops, .store = base};
    conn->store = store;
    conn->writer = writer;
    *out = &conn->base;
    return MF_OK;
}

static void end_transaction(mf_memory_conn *conn) {
    while (conn->savepoint_count > 0) {
        mf_tree_unref(conn->savepoints[--conn->savepoint_count]);
    }
    mf_tree_unref(conn->root);
    conn->root = NULL;
    conn->in_transaction = false;
}

static void conn_close(mf_conn *base) {
    mf_memory_conn *conn = mf_memory_conn_of(base);
    if (conn == NULL) {
        return;
    }
    end_transaction(conn);
    if (conn->writer) {
        mf_mutex_lock(&conn->store->store_mu);
        conn->store->writer_open = false;
        mf_mutex_unlock(&conn->store->store_mu);
    }
    mf_free(conn->savepoints);
    mf_free(conn);
}

static void start_transaction(mf_memory_conn *conn) {
    MF_ASSERT(!conn->in_transaction);
    conn->root = mf_view_open(conn);
    conn->in_transaction = true;
}

mf_rc mf_memory_begin(mf_conn *base, mf_err *err) {
    (void)err; /* nothing can go wrong */
    MF_ASSERT(mf_memory_conn_of(base)->writer);
    start_transaction(mf_memory_conn_of(base));
    return MF_OK;
}

mf_rc mf_memory_commit(mf_conn *base, mf_err *err) {
    (void)err; /* nothing can go wrong */
    mf_memory_conn *conn = mf_memory_conn_of(base);
    MF_ASSERT(conn->writer && conn->in_transaction);
    mf_mutex_lock(&conn->store->store_mu);
    mf_tree *before = conn->store->committed;
    conn->store->committed = conn->root;
    mf_mutex_unlock(&conn->store->store_mu);
    conn->root = before; /* released with the transaction */
    end_transaction(conn);
    return MF_OK;
}

static void rollback(mf_conn *base) {
    MF_ASSERT(mf_memory_conn_of(base)->in_transaction);
    end_transaction(mf_memory_conn_of(base));
}

mf_rc mf_memory_savepoint(mf_conn *base, mf_err *err) {
    enum { FIRST_CAPACITY = 8 };
    mf_memory_conn *conn = mf_memory_conn_of(base);
    MF_ASSERT(conn->writer && conn->in_transaction);
    if (conn->savepoint_count == conn->savepoint_capacity) {
        size_t capacity = conn->savepoint_capacity == 0 ? FIRST_CAPACITY
                                                        : conn->savepoint_capacity * 2;
        mf_tree **more = mf_realloc(conn->savepoints, capacity * sizeof(mf_tree *));
        if (more == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for an undo point");
        }
        conn->savepoints = more;
        conn->savepoint_capacity = capacity;
    }
    conn->savepoints[conn->savepoint_count++] = mf_tree_ref(conn->root);
    return MF_OK;
}

mf_rc mf_memory_savepoint_keep(mf_conn *base, mf_err *err) {
    (void)err; /* nothing can go wrong */
    mf_memory_conn *conn = mf_memory_conn_of(base);
    MF_ASSERT(conn->savepoint_count > 0);
    mf_tree_unref(conn->savepoints[--conn->savepoint_count]);
    return MF_OK;
}

static void savepoint_undo(mf_conn *base) {
    mf_memory_conn *conn = mf_memory_conn_of(base);
    MF_ASSERT(conn->savepoint_count > 0);
    mf_tree_unref(conn->root);
    conn->root = conn->savepoints[--conn->savepoint_count];
}

mf_rc mf_memory_read_begin(mf_conn *base, mf_err *err) {
    (void)err; /* nothing can go wrong */
    MF_ASSERT(!mf_memory_conn_of(base)->writer);
    start_transaction(mf_memory_conn_of(base));
    return MF_OK;
}

static void read_end(mf_conn *base) {
    mf_memory_conn *conn = mf_memory_conn_of(base);
    MF_ASSERT(!conn->writer && conn->in_transaction);
    end_transaction(conn);
}

static const mf_store_ops memory_ops = {
    .name = "memory",
    .close = store_close,
    .conn_open = conn_open,
    .conn_close = conn_close,
    .rollback = rollback,
    .savepoint_undo = savepoint_undo,
    .read_end = read_end,
#define MF_STORE_CALL(op, params, args) .op = mf_memory_##op,
#include "store/ops.def"
#undef MF_STORE_CALL
};
