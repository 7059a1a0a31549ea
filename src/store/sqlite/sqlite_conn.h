/* sqlite_conn.h - inside the SQLite backend: a connection, its statements, its errors.
 *
 * A statement of statements.def is prepared on first use and kept until the connection
 * closes.  mf_query is one use of it: bind in order, step, read columns, close.
 * Problems met while binding or reading are remembered and reported by the next step or
 * by mf_query_check, so a run of calls is checked once. */
#ifndef MF_STORE_SQLITE_SQLITE_CONN_H
#define MF_STORE_SQLITE_SQLITE_CONN_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "store/rows.h"
#include "store/sqlite/sqlite_store.h"
#include "store/sqlite/text_codec.h"

typedef enum mf_sql {
#define MF_SQL(name, scope, text) MF_SQL_##name,
#include "store/sqlite/statements.def"
#undef MF_SQL
    MF_SQL_COUNT
} mf_sql;

typedef struct mf_sqlite_store {
    mf_store base;
    char *path;
    mf_sqlite_options options; /* its path points to the one above */
    mf_text_codec *texts;
    atomic_bool writer_open;
    atomic_bool
        flush_failed; /* what the disk holds is unknown: no transaction begins */
} mf_sqlite_store;

typedef struct mf_sqlite_conn {
    mf_conn base;
    mf_sqlite_store *store;
    sqlite3 *db;
    bool writer;
    bool in_transaction; /* between begin and commit, or read_begin and read_end */
    mf_rc lost;          /* why SQLite gave up the open transaction; MF_OK: it stands */
    int64_t num_last;    /* writer: the newest num given */
    mf_text_lane *texts; /* made by the first packed text */
    sqlite3_stmt *statements[MF_SQL_COUNT];
} mf_sqlite_conn;

static inline mf_sqlite_conn *mf_sqlite_conn_of(mf_conn *conn) {
    return (mf_sqlite_conn *)conn;
}

/* Opens a connection to the file, which exists, with every setting made. */
MF_CHECKED mf_rc mf_sqlite_db_open(mf_sqlite_store *store, bool writer, sqlite3 **out,
                                   mf_err *err);
/* Reports SQLite's newest error on `db`, naming what was tried. */
mf_rc mf_sqlite_fail(sqlite3 *db, int code, mf_err *err, const char *what);

typedef struct mf_query {
    mf_sqlite_conn *conn;
    sqlite3_stmt *st;
    mf_sql sql;
    int bound;       /* parameters bound so far */
    int bind_rc;     /* the first failure of a bind */
    mf_rc read_rc;   /* the first failure of a column */
    int64_t bad_num; /* whose packed text failed; 0: something else did */
} mf_query;

/* MF_OK: `q` is ready for its parameters, and must be closed. */
MF_CHECKED mf_rc mf_query_open(mf_sqlite_conn *conn, mf_sql sql, mf_query *q,
                               mf_err *err);
void mf_query_close(mf_query *q);
/* Back to before the first step, for another round of parameters. */
void mf_query_again(mf_query *q);

/* Each binds the next parameter; the memory is borrowed until close or again. */
void mf_query_bind_id(mf_query *q, const mf_uuid *id);
void mf_query_bind_int(mf_query *q, int64_t value);
void mf_query_bind_size(mf_query *q, size_t value);    /* clamped to INT64_MAX */
void mf_query_bind_text(mf_query *q, mf_str text);     /* .p NULL is the empty text */
void mf_query_bind_text_opt(mf_query *q, mf_str text); /* .p NULL is NULL */
void mf_query_bind_bytes(mf_query *q, const void *bytes, size_t size);

/* *row: a row is there to be read; false at the end. */
MF_CHECKED mf_rc mf_query_step(mf_query *q, bool *row, mf_err *err);
/* For statements without rows: runs to the end and closes, also on failure. */
MF_CHECKED mf_rc mf_query_run(mf_query *q, mf_err *err);

/* Columns of the present row.  Text is copied to `arena`, or valid until the next step
 * when `arena` is NULL. */
mf_uuid mf_query_id(mf_query *q, int column);
int64_t mf_query_int(mf_query *q, int column);
mf_str mf_query_text(mf_query *q, int column, mf_arena *arena); /* .p NULL for NULL */
mf_str mf_query_bytes(mf_query *q, int column); /* until the next step */
/* The text of message `num`: that of `content` or, when the three columns from `packed`
 * on hold a frame, what that unpacks to.  Without an arena it is valid until the next
 * such text of the connection. */
mf_str mf_query_packed_text(mf_query *q, int64_t num, int content, int packed,
                            mf_arena *arena);
/* For readers of rows that find a value no memfuse writes. */
void mf_query_corrupt(mf_query *q);
/* Did every column of the row read well?  MF_E_CORRUPT or MF_E_NOMEM. */
MF_CHECKED mf_rc mf_query_check(mf_query *q, mf_err *err);

/* Statement without parameters and rows. */
MF_CHECKED mf_rc mf_sqlite_run(mf_sqlite_conn *conn, mf_sql sql, mf_err *err);
/* The same for the end of a transaction that holds nothing to keep. */
void mf_sqlite_try_run(mf_sqlite_conn *conn, mf_sql sql);
/* Statement whose one parameter is an id; *changed, unless NULL, is the rows
 * touched. */
MF_CHECKED mf_rc mf_sqlite_run_id(mf_sqlite_conn *conn, mf_sql sql, const mf_uuid *id,
                                  int64_t *changed, mf_err *err);

/* One fixed state over the several statements of one call, unless a transaction is open
 * already.  *opened is handed to the end. */
MF_CHECKED mf_rc mf_sqlite_hold(mf_sqlite_conn *conn, bool *opened, mf_err *err);
void mf_sqlite_let_go(mf_sqlite_conn *conn, bool opened);

/* Notes, in the same transaction as a delete, that every num given so far is spent. */
MF_CHECKED mf_rc mf_sqlite_spend_nums(mf_sqlite_conn *conn, mf_err *err);

/* Every packed text unpacks to what it should: MF_E_CORRUPT naming the first that does
 * not. */
MF_CHECKED mf_rc mf_sqlite_check_texts(mf_sqlite_conn *conn, mf_err *err);

/* How a row of one kind is read; `size` is at most MF_SHAPE_SIZE_MAX. */
typedef struct mf_shape {
    const char *what;
    size_t size;
    void (*read)(mf_query *q, mf_arena *arena, void *out);
} mf_shape;
enum { MF_SHAPE_SIZE_MAX = 256 };

/* Both take a query whose parameters are bound, and close it.  One row, or
 * MF_E_NOTFOUND that blames `field`; all rows, added to `rows`. */
MF_CHECKED mf_rc mf_query_one(mf_query *q, const mf_shape *shape, const char *field,
                              mf_arena *arena, void *out, mf_err *err);
MF_CHECKED mf_rc mf_query_all(mf_query *q, const mf_shape *shape, mf_rows *rows,
                              mf_err *err);

/* The operations, by file. */
#define MF_STORE_CALL(op, params, args)                                                \
    mf_rc mf_sqlite_##op(mf_conn *conn, MF_STORE_LIST params mf_err *err);
#include "store/ops.def"
#undef MF_STORE_CALL

#endif
