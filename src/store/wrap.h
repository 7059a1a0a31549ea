/* wrap.h - for trace.c and faulty.c: a store around another store.
 *
 * The wrapper's connections hold the inner ones; operations are numbered in the order
 * of ops.def. */
#ifndef MF_STORE_WRAP_H
#define MF_STORE_WRAP_H

#include "store/store.h"

typedef enum mf_op {
#define MF_STORE_CALL(op, params, args) MF_OP_##op,
#include "store/ops.def"
#undef MF_STORE_CALL
    MF_OP_conn_open,
    MF_OP_COUNT
} mf_op;

const char *mf_op_name(mf_op op);

typedef struct mf_wrap_conn {
    mf_conn base;
    mf_conn *inner;
} mf_wrap_conn;

static inline mf_conn *mf_wrap_inner(mf_conn *conn) {
    return ((mf_wrap_conn *)conn)->inner;
}

/* Opens a connection of `inner` and puts one of `outer` around it. */
MF_CHECKED mf_rc mf_wrap_conn_open(mf_store *outer, mf_store *inner, bool writer,
                                   mf_conn **out, mf_err *err);
/* The operations that return nothing pass straight through. */
void mf_wrap_conn_close(mf_conn *conn);
void mf_wrap_rollback(mf_conn *conn);
void mf_wrap_savepoint_undo(mf_conn *conn);
void mf_wrap_read_end(mf_conn *conn);

#endif
