/* wrap.c - what stores around other stores share. */
#include "store/wrap.h"

#include "base/alloc.h"

const char *mf_op_name(mf_op op) {
    static const char *const names[MF_OP_COUNT] = {
#define MF_STORE_CALL(op, params, args) [MF_OP_##op] = #op,
#include "store/ops.def"
#undef MF_STORE_CALL
        [MF_OP_conn_open] = "conn_open",
    };
    return names[op];
}

mf_rc mf_wrap_conn_open(mf_store *outer, mf_store *inner, bool writer, mf_conn **out,
                        mf_err *err) {
    mf_wrap_conn *conn = mf_alloc_zero(1, sizeof *conn);
    if (conn == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a connection");
    }
    mf_rc rc = inner->ops->conn_open(inner, writer, &conn->inner, err);
    if (rc != MF_OK) {
        mf_free(conn);
        return rc;
    }
    conn->base = (mf_conn){.ops = outer->ops, .store = outer};
    *out = &conn->base;
    return MF_OK;
}

void mf_wrap_conn_close(mf_conn *conn) {
    if (conn != NULL) {
        mf_conn *inner = mf_wrap_inner(conn);
        inner->ops->conn_close(inner);
        mf_free(conn);
    }
}

void mf_wrap_rollback(mf_conn *conn) {
    mf_conn *inner = mf_wrap_inner(conn);
    inner->ops->rollback(inner);
}

void mf_wrap_savepoint_undo(mf_conn *conn) {
    mf_conn *inner = mf_wrap_inner(conn);
    inner->ops->savepoint_undo(inner);
}

void mf_wrap_read_end(mf_conn *conn) {
    mf_conn *inner = mf_wrap_inner(conn);
    inner->ops->read_end(inner);
}
