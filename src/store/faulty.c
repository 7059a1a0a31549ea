/* faulty.c - a store around a store that makes chosen calls fail.
 *
 * A call that fails does not reach the inner store, with one exception: a failed commit
 * rolls the inner transaction back, because the contract says it is gone. */
#include "store/faulty.h"

#include "base/alloc.h"
#include "base/mutex.h"
#include "store/wrap.h"

enum { OP_NAME_MAX = 32 };

typedef struct faulty_store {
    mf_store base;
    mf_store *inner;
    mf_mutex plan_mu;
    /* guarded by plan_mu */
    char op[OP_NAME_MAX]; /* "*" for any, "" when disarmed */
    uint64_t skip, count; /* calls still to let pass, then still to fail */
    mf_rc rc;
    uint64_t fired;
} faulty_store;

static mf_rc plan_call(mf_store *base, mf_op op, mf_err *err) {
    faulty_store *store = (faulty_store *)base;
    mf_rc rc = MF_OK;
    mf_mutex_lock(&store->plan_mu);
    if (strcmp(store->op, "*") == 0 || strcmp(store->op, mf_op_name(op)) == 0) {
        if (store->skip > 0) {
            store->skip--;
        } else if (store->count > 0) {
            store->count--;
            store->fired++;
            rc = store->rc;
        }
    }
    mf_mutex_unlock(&store->plan_mu);
    return rc == MF_OK ? MF_OK
                       : MF_FAIL(err, rc, "%s was told to fail", mf_op_name(op));
}

static void forget_transaction(mf_conn *conn, mf_op op) {
    if (op == MF_OP_commit) {
        mf_wrap_rollback(conn);
    }
}

#define MF_STORE_CALL(op, params, args)                                                \
    static mf_rc faulty_##op(mf_conn *conn, MF_STORE_LIST params mf_err *err) {        \
        mf_conn *inner = mf_wrap_inner(conn);                                          \
        mf_rc rc = plan_call(conn->store, MF_OP_##op, err);                            \
        if (rc != MF_OK) {                                                             \
            forget_transaction(conn, MF_OP_##op);                                      \
            return rc;                                                                 \
        }                                                                              \
        return inner->ops->op(inner, MF_STORE_LIST args err);                          \
    }
#include "store/ops.def"
#undef MF_STORE_CALL

static mf_rc faulty_conn_open(mf_store *base, bool writer, mf_conn **out, mf_err *err) {
    MF_TRY(plan_call(base, MF_OP_conn_open, err));
    return mf_wrap_conn_open(base, ((faulty_store *)base)->inner, writer, out, err);
}

static void faulty_close(mf_store *base) {
    faulty_store *store = (faulty_store *)base;
    if (store != NULL) {
        store->inner->ops->close(store->inner);
        mf_mutex_done(&store->plan_mu);
        mf_free(store);
    }
}

static const mf_store_ops faulty_ops = {
    .name = "faulty",
    .close = faulty_close,
    .conn_open = faulty_conn_open,
    .conn_close = mf_wrap_conn_close,
    .rollback = mf_wrap_rollback,
    .savepoint_undo = mf_wrap_savepoint_undo,
    .read_end = mf_wrap_read_end,
#define MF_STORE_CALL(op, params, args) .op = faulty_##op,
#include "store/ops.def"
#undef MF_STORE_CALL
};

mf_rc mf_faulty_store_open(mf_store *inner, mf_store **out, mf_err *err) {
    faulty_store *store = mf_alloc_zero(1, sizeof *store);
    if (store == NULL) {
        inner->ops->close(inner);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a faulty store");
    }
    store->base.ops = &faulty_ops;
    store->inner = inner;
    mf_mutex_init(&store->plan_mu, MF_RANK_LEAF);
    *out = &store->base;
    return MF_OK;
}

void mf_faulty_store_arm(mf_store *faulty, const char *op, uint64_t skip,
                         uint64_t count, mf_rc rc) {
    faulty_store *store = (faulty_store *)faulty;
    size_t len = strnlen(op, OP_NAME_MAX - 1);
    mf_mutex_lock(&store->plan_mu);
    memcpy(store->op, op, len);
    store->op[len] = '\0';
    store->skip = skip;
    store->count = count;
    store->rc = rc;
    mf_mutex_unlock(&store->plan_mu);
}

void mf_faulty_store_disarm(mf_store *faulty) {
    mf_faulty_store_arm(faulty, "", 0, 0, MF_OK);
}

uint64_t mf_faulty_store_fired(mf_store *faulty) {
    faulty_store *store = (faulty_store *)faulty;
    mf_mutex_lock(&store->plan_mu);
    uint64_t fired = store->fired;
    mf_mutex_unlock(&store->plan_mu);
    return fired;
}
