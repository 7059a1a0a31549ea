/* trace.c - a store around a store that counts calls and time per operation.
 *
 * ops.def makes one function per operation.  The counters are atomic, so any number of
 * connections count into the same rows; failures are logged at debug, by code and
 * without any stored text. */
#include "store/trace.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/wrap.h"

typedef struct trace_store {
    mf_store base;
    mf_store *inner;
    struct {
        atomic_uint_fast64_t calls, failures, total_ns;
    } rows[MF_OP_COUNT];
} trace_store;

static mf_rc note(mf_store *base, mf_op op, int64_t start_ns, mf_rc rc) {
    trace_store *store = (trace_store *)base;
    atomic_fetch_add(&store->rows[op].calls, 1);
    atomic_fetch_add(&store->rows[op].total_ns, (uint64_t)(mf_now_ns() - start_ns));
    if (rc != MF_OK) {
        atomic_fetch_add(&store->rows[op].failures, 1);
        mf_log(MF_LOG_DEBUG, "store call failed", "op=%s rc=%s", mf_op_name(op),
               mf_rc_name(rc));
    }
    return rc;
}

#define MF_STORE_CALL(op, params, args)                                                \
    static mf_rc trace_##op(mf_conn *conn, MF_STORE_LIST params mf_err *err) {         \
        mf_conn *inner = mf_wrap_inner(conn);                                          \
        int64_t start_ns = mf_now_ns();                                                \
        return note(conn->store, MF_OP_##op, start_ns,                                 \
                    inner->ops->op(inner, MF_STORE_LIST args err));                    \
    }
#include "store/ops.def"
#undef MF_STORE_CALL

static mf_rc trace_conn_open(mf_store *base, bool writer, mf_conn **out, mf_err *err) {
    int64_t start_ns = mf_now_ns();
    return note(
        base, MF_OP_conn_open, start_ns,
        mf_wrap_conn_open(base, ((trace_store *)base)->inner, writer, out, err));
}

static void trace_close(mf_store *base) {
    trace_store *store = (trace_store *)base;
    if (store != NULL) {
        store->inner->ops->close(store->inner);
        mf_free(store);
    }
}

static const mf_store_ops trace_ops = {
    .name = "trace",
    .close = trace_close,
    .conn_open = trace_conn_open,
    .conn_close = mf_wrap_conn_close,
    .rollback = mf_wrap_rollback,
    .savepoint_undo = mf_wrap_savepoint_undo,
    .read_end = mf_wrap_read_end,
#define MF_STORE_CALL(op, params, args) .op = trace_##op,
#include "store/ops.def"
#undef MF_STORE_CALL
};

mf_rc mf_trace_store_open(mf_store *inner, mf_store **out, mf_err *err) {
    trace_store *store = mf_alloc_zero(1, sizeof *store);
    if (store == NULL) {
        inner->ops->close(inner);
        return MF_FAIL(err, MF_E_NOMEM, "no memory to trace a store");
    }
    store->base.ops = &trace_ops;
    store->inner = inner;
    *out = &store->base;
    return MF_OK;
}

size_t mf_trace_store_rows(mf_store *trace, mf_trace_row *rows, size_t rows_max) {
    trace_store *store = (trace_store *)trace;
    for (size_t i = 0; i < MF_OP_COUNT && i < rows_max; i++) {
        rows[i] = (mf_trace_row){.op = mf_op_name((mf_op)i),
                                 .calls = atomic_load(&store->rows[i].calls),
                                 .failures = atomic_load(&store->rows[i].failures),
                                 .total_ns = atomic_load(&store->rows[i].total_ns)};
    }
    return MF_OP_COUNT;
}
