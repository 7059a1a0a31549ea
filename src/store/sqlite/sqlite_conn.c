/* sqlite_conn.c - one SQLite connection: its settings, its statements, its errors.
 *
 * SQLite gives up a whole transaction by itself after some failures (a full disk, an
 * I/O error, no memory).  What was done before is gone then, although the caller may
 * only have wanted to undo one step.  The connection therefore notices this after every
 * failed step, remembers why in `lost`, and fails everything up to and including the
 * commit, so that no part of the transaction is ever taken for done. */
#include "store/sqlite/sqlite_conn.h"

#include <stddef.h>

#include "base/assert.h"

static const char *const sql_text[MF_SQL_COUNT] = {
#define MF_SQL(name, scope, text) text,
#include "store/sqlite/statements.def"
#undef MF_SQL
};

static mf_rc rc_of_constraint(int code) {
    switch (code) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return MF_E_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return MF_E_NOTFOUND;
    default:
        return MF_E_INVAL;
    }
}

static mf_rc rc_of(int code) {
    if (code == SQLITE_IOERR_NOMEM) {
        return MF_E_NOMEM;
    }
    switch (code & 0xff) {
    case SQLITE_FULL:
        return MF_E_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return MF_E_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return MF_E_BUSY;
    case SQLITE_NOMEM:
        return MF_E_NOMEM;
    case SQLITE_TOOBIG:
        return MF_E_LIMIT;
    case SQLITE_CONSTRAINT:
        return rc_of_constraint(code);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return MF_E_IO;
    default:
        return MF_E_INTERNAL;
    }
}

mf_rc mf_sqlite_fail(sqlite3 *db, int code, mf_err *err, const char *what) {
    return MF_FAIL_SYS(err, rc_of(code), code, "SQLite cannot %s: %s", what,
                       db == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(db));
}

/* --- opening --- */

/* After each commit: moves the log into the database once it is long.  SQLite's own
 * hook would do the same but forgets failures; a failed flush here makes the store
 * refuse further writes, because the next flush could report success for pages that
 * never reached the disk.  The commit itself stands, so the hook reports success. */
static int checkpoint_when_long(void *ctx, sqlite3 *db, const char *schema, int pages) {
    /* A page changed by many commits is moved once per checkpoint, so a longer log
     * saves writes; 16 MiB of it is still read in a moment after a crash. */
    enum { CHECKPOINT_PAGES = 4000 };
    mf_sqlite_store *store = ctx;
    if (pages < CHECKPOINT_PAGES || atomic_load(&store->flush_failed)) {
        return SQLITE_OK;
    }
    int code =
        sqlite3_wal_checkpoint_v2(db, schema, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if ((code & 0xff) == SQLITE_IOERR && code != SQLITE_IOERR_NOMEM) {
        atomic_store(&store->flush_failed, true);
    }
    return SQLITE_OK;
}

static const char *sync_name(mf_sync_mode mode) {
    switch (mode) {
    case MF_SYNC_NORMAL:
        return "NORMAL";
    case MF_SYNC_OFF:
        return "OFF";
    case MF_SYNC_FULL:
        break;
    }
    return "FULL";
}

/* Before the first look at the file: these touch no page of it. */
static int set_up(sqlite3 *db, mf_sqlite_store *store, bool writer) {
    enum { READER_SHARE = 16, KIB = 1024 };
    int64_t timeout = store->options.busy_timeout_ms;
    int code = sqlite3_extended_result_codes(db, 1);
    if (code == SQLITE_OK) {
        code = sqlite3_busy_timeout(db, timeout > INT32_MAX ? INT32_MAX : (int)timeout);
    }
    int64_t cache = store->options.cache_bytes / (writer ? 1 : READER_SHARE);
    char pragmas[256];
    sqlite3_snprintf((int)sizeof pragmas, pragmas,
                     "PRAGMA synchronous = %s; PRAGMA secure_delete = ON;"
                     "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
                     "PRAGMA page_size = 4096; PRAGMA cache_size = -%lld;",
                     sync_name(store->options.sync), (long long)(cache / KIB));
    if (code == SQLITE_OK) {
        code = sqlite3_exec(db, pragmas, NULL, NULL, NULL);
    }
    if (code == SQLITE_OK && writer) {
        (void)sqlite3_wal_hook(db, checkpoint_when_long, store);
    }
    return code;
}

mf_rc mf_sqlite_db_open(mf_sqlite_store *store, bool writer, sqlite3 **out,
                        mf_err *err) {
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                (writer ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
    int code = sqlite3_open_v2(store->path, &db, flags, NULL);
    if (code == SQLITE_OK) {
        code = set_up(db, store, writer);
    }
    if (code != SQLITE_OK) {
        mf_rc rc = mf_sqlite_fail(db, code, err, "open the database");
        (void)sqlite3_close(db); /* nothing was prepared on it */
        return mf_err_wrap(err, rc, "%s", store->path);
    }
    *out = db;
    return MF_OK;
}

/* --- statements --- */

static mf_rc fail_step(mf_sqlite_conn *conn, int code, mf_err *err, mf_sql sql) {
    mf_rc rc = rc_of(code);
    if (conn->in_transaction && conn->lost == MF_OK &&
        sqlite3_get_autocommit(conn->db)) {
        conn->lost = rc;
    }
    char what[48];
    const char *text = sql_text[sql];
    int words = 0;
    size_t len = 0;
    while (text[len] != '\0' && len < sizeof what - 1 && text[len] != '(') {
        words += text[len] == ' ';
        if (words == 3) {
            break;
        }
        what[len] = text[len];
        len++;
    }
    what[len] = '\0';
    return mf_sqlite_fail(conn->db, code, err, what);
}

mf_rc mf_query_open(mf_sqlite_conn *conn, mf_sql sql, mf_query *q, mf_err *err) {
    *q = (mf_query){.conn = conn, .sql = sql};
    if (conn->lost != MF_OK && conn->in_transaction) {
        return MF_FAIL(err, conn->lost,
                       "the transaction was given up by an earlier failure");
    }
    sqlite3_stmt **slot = &conn->statements[sql];
    if (*slot == NULL) {
        int code = sqlite3_prepare_v3(conn->db, sql_text[sql], -1,
                                      SQLITE_PREPARE_PERSISTENT, slot, NULL);
        if (code != SQLITE_OK) {
            return fail_step(conn, code, err, sql);
        }
    }
    /* A callback must not call its own operation. */
    MF_ASSERT(!sqlite3_stmt_busy(*slot));
    q->st = *slot;
    return MF_OK;
}

void mf_query_close(mf_query *q) {
    /* Repeats the failure of the last step, which was reported there. */
    (void)sqlite3_reset(q->st);
    q->st = NULL;
}

void mf_query_again(mf_query *q) {
    (void)sqlite3_reset(q->st); /* as above */
    q->bound = 0;
}

static void bound(mf_query *q, int code) {
    if (q->bind_rc == SQLITE_OK) {
        q->bind_rc = code;
    }
}

void mf_query_bind_bytes(mf_query *q, const void *bytes, size_t size) {
    bound(q, sqlite3_bind_blob64(q->st, ++q->bound, bytes, size, SQLITE_STATIC));
}

void mf_query_bind_id(mf_query *q, const mf_uuid *id) {
    mf_query_bind_bytes(q, id->b, MF_UUID_BYTES);
}

void mf_query_bind_int(mf_query *q, int64_t value) {
    bound(q, sqlite3_bind_int64(q->st, ++q->bound, value));
}

void mf_query_bind_size(mf_query *q, size_t value) {
    mf_query_bind_int(q, value > (size_t)INT64_MAX ? INT64_MAX : (int64_t)value);
}

void mf_query_bind_text(mf_query *q, mf_str text) {
    mf_query_bind_text_opt(q, text.p == NULL ? MF_STR("") : text);
}

void mf_query_bind_text_opt(mf_query *q, mf_str text) {
    bound(q, text.p == NULL ? sqlite3_bind_null(q->st, ++q->bound)
                            : sqlite3_bind_text64(q->st, ++q->bound, text.p, text.len,
                                                  SQLITE_STATIC, SQLITE_UTF8));
}

mf_rc mf_query_step(mf_query *q, bool *row, mf_err *err) {
    if (q->bind_rc != SQLITE_OK) {
        return fail_step(q->conn, q->bind_rc, err, q->sql);
    }
    int code = sqlite3_step(q->st);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return fail_step(q->conn, code, err, q->sql);
    }
    *row = code == SQLITE_ROW;
    return MF_OK;
}

mf_rc mf_query_run(mf_query *q, mf_err *err) {
    bool row = true;
    mf_rc rc = MF_OK;
    while (rc == MF_OK && row) {
        rc = mf_query_step(q, &row, err);
    }
    mf_query_close(q);
    return rc;
}

/* --- columns --- */

void mf_query_corrupt(mf_query *q) {
    if (q->read_rc == MF_OK) {
        q->read_rc = MF_E_CORRUPT;
    }
}

int64_t mf_query_int(mf_query *q, int column) {
    return sqlite3_column_int64(q->st, column);
}

mf_str mf_query_bytes(mf_query *q, int column) {
    const char *p = sqlite3_column_blob(q->st, column);
    return (mf_str){p, (size_t)sqlite3_column_bytes(q->st, column)};
}

mf_uuid mf_query_id(mf_query *q, int column) {
    mf_uuid id = MF_UUID_NONE;
    mf_str bytes = mf_query_bytes(q, column);
    if (bytes.len == MF_UUID_BYTES) {
        memcpy(id.b, bytes.p, MF_UUID_BYTES);
    } else {
        mf_query_corrupt(q);
    }
    return id;
}

mf_str mf_query_text(mf_query *q, int column, mf_arena *arena) {
    if (sqlite3_column_type(q->st, column) == SQLITE_NULL) {
        return MF_STR_NONE;
    }
    const char *p = (const char *)sqlite3_column_text(q->st, column);
    mf_str text = {p, (size_t)sqlite3_column_bytes(q->st, column)};
    if (p != NULL && arena != NULL) {
        text = mf_arena_str(arena, text);
    }
    if (text.p == NULL && q->read_rc == MF_OK) {
        q->read_rc = MF_E_NOMEM;
    }
    return text;
}

mf_rc mf_query_check(mf_query *q, mf_err *err) {
    switch (q->read_rc) {
    case MF_OK:
        return MF_OK;
    case MF_E_NOMEM:
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a stored row");
    default:
        if (q->bad_num != 0) {
            return MF_FAIL(err, q->read_rc, "the text of message %lld cannot be read",
                           (long long)q->bad_num);
        }
        return MF_FAIL(err, q->read_rc,
                       "a stored row holds a value of the wrong shape");
    }
}

/* --- rows --- */

mf_rc mf_query_one(mf_query *q, const mf_shape *shape, const char *field,
                   mf_arena *arena, void *out, mf_err *err) {
    _Alignas(max_align_t) char row[MF_SHAPE_SIZE_MAX];
    MF_ASSERT(shape->size <= sizeof row);
    bool found = false;
    mf_rc rc = mf_query_step(q, &found, err);
    if (rc == MF_OK && found) {
        shape->read(q, arena, row);
        rc = mf_query_check(q, err);
    } else if (rc == MF_OK) {
        rc = MF_FAIL_FIELD(err, MF_E_NOTFOUND, field, "no such %s", shape->what);
    }
    mf_query_close(q);
    if (rc == MF_OK) {
        memcpy(out, row, shape->size);
    }
    return rc;
}

mf_rc mf_query_all(mf_query *q, const mf_shape *shape, mf_rows *rows, mf_err *err) {
    MF_ASSERT(rows->size == shape->size);
    bool found = true;
    mf_rc rc = MF_OK;
    while (rc == MF_OK && (rc = mf_query_step(q, &found, err)) == MF_OK && found) {
        void *row = mf_rows_add(rows);
        if (row == NULL) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for a list of %ss", shape->what);
        } else {
            shape->read(q, rows->arena, row);
            rc = mf_query_check(q, err);
        }
    }
    mf_query_close(q);
    return rc;
}

/* --- common statements --- */

mf_rc mf_sqlite_run(mf_sqlite_conn *conn, mf_sql sql, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, sql, &q, err));
    return mf_query_run(&q, err);
}

void mf_sqlite_try_run(mf_sqlite_conn *conn, mf_sql sql) {
    mf_rc rc = mf_sqlite_run(conn, sql, NULL);
    (void)rc; /* nothing can be lost; what is wrong shows up at the next begin */
}

mf_rc mf_sqlite_run_id(mf_sqlite_conn *conn, mf_sql sql, const mf_uuid *id,
                       int64_t *changed, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, sql, &q, err));
    mf_query_bind_id(&q, id);
    MF_TRY(mf_query_run(&q, err));
    if (changed != NULL) {
        *changed = sqlite3_changes64(conn->db);
    }
    return MF_OK;
}

mf_rc mf_sqlite_spend_nums(mf_sqlite_conn *conn, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_NUM_HIGH_RAISE, &q, err));
    mf_query_bind_int(&q, conn->num_last);
    return mf_query_run(&q, err);
}

/* --- transactions --- */

mf_rc mf_sqlite_hold(mf_sqlite_conn *conn, bool *opened, mf_err *err) {
    *opened = false;
    if (!conn->in_transaction) {
        MF_TRY(mf_sqlite_run(conn, MF_SQL_BEGIN_READ, err));
        *opened = true;
    }
    return MF_OK;
}

void mf_sqlite_let_go(mf_sqlite_conn *conn, bool opened) {
    if (opened) {
        mf_sqlite_try_run(conn, MF_SQL_COMMIT);
    }
}
