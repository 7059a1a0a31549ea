/* sqlite_store.c - the default backend: opening, connections, transactions.
 *
 * The operations themselves are in sqlite_directory.c (users, agents, sessions, keys),
 * sqlite_documents.c (messages, knowledge, chunks), sqlite_jobs.c (background jobs) and
 * sqlite_upkeep.c (backlog, idempotency, counts, checks); sqlite_texts.c compresses old
 * messages.
 *
 * Invariants
 *   1. At most one connection writes.
 *   2. After a flush failed no transaction begins and nothing is flushed again: the
 *      kernel may have dropped the pages it could not write and report the next flush
 * of the same file as good.  Opening the store again reads what the disk really holds.
 *   3. `num` grows: the writer counts on from the highest number in the tables and in
 *      meta.num_high, which every delete raises in its own transaction. */
#include "store/sqlite/sqlite_store.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/fault.h"
#include "os/file.h"
#include "store/sqlite/migrate.h"
#include "store/sqlite/sqlite_conn.h"

static const mf_store_ops sqlite_ops;

mf_sqlite_options mf_sqlite_options_default(const char *path) {
    return (mf_sqlite_options){.path = path,
                               .sync = MF_SYNC_FULL,
                               .cache_bytes = 64 << 20,
                               .busy_timeout_ms = 5000};
}

/* --- the store --- */

static void store_close(mf_store *base) {
    mf_sqlite_store *store = (mf_sqlite_store *)base;
    if (store != NULL) {
        MF_ASSERT(!atomic_load(&store->writer_open));
        mf_text_codec_close(store->texts);
        mf_free(store->path);
        mf_free(store);
    }
}

/* Write-ahead logging is a property of the file; it stays once set. */
static mf_rc set_wal(sqlite3 *db, mf_err *err) {
    sqlite3_stmt *st = NULL;
    int code = sqlite3_prepare_v2(db, "PRAGMA journal_mode = WAL", -1, &st, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(st);
    }
    mf_rc rc = MF_OK;
    if (code != SQLITE_ROW) {
        rc = mf_sqlite_fail(db, code, err, "switch to write-ahead logging");
    } else if (sqlite3_stricmp((const char *)sqlite3_column_text(st, 0), "wal") != 0) {
        rc =
            MF_FAIL(err, MF_E_UNSUPPORTED,
                    "the folder does not allow write-ahead logging (a network share?)");
    }
    (void)sqlite3_finalize(st); /* repeats the failure of the step */
    return rc;
}

static int64_t number_of(sqlite3 *db, const char *sql) {
    sqlite3_stmt *st = NULL;
    int64_t value = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW) {
        value = sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_finalize(st); /* a failure counts as nothing to do */
    return value;
}

/* Gives back what packed texts have saved inside the pages, once that is a quarter of
 * the file.  It needs as much room again; if it fails the file stays as it was, and the
 * next opening tries again. */
static void rewrite_when_sparse(sqlite3 *db) {
    enum { SHARE = 4 };
    int64_t saved = number_of(db, "SELECT value FROM meta WHERE name = 'packed_saved'");
    int64_t bytes =
        number_of(db, "SELECT page_count * page_size FROM pragma_page_count(), "
                      "pragma_page_size()");
    if (saved <= bytes / SHARE ||
        sqlite3_exec(db, "VACUUM", NULL, NULL, NULL) != SQLITE_OK) {
        return;
    }
    (void)sqlite3_exec(db, "UPDATE meta SET value = 0 WHERE name = 'packed_saved'",
                       NULL, NULL, NULL); /* else it is only done once more */
}

static mf_rc prepare_file(mf_sqlite_store *store, mf_err *err) {
    if (!mf_file_exists(store->path)) {
        /* Made here and not by SQLite so that it is the owner's alone; SQLite gives its
         * log and its index the same mode. */
        MF_TRY(mf_file_write_atomic(store->path, MF_STR(""), err));
    }
    sqlite3 *db = NULL;
    MF_TRY(mf_sqlite_db_open(store, true, &db, err));
    mf_rc rc = mf_sqlite_check_file(db, store->path, err);
    if (rc == MF_OK) {
        rc = set_wal(db, err);
    } else {
        /* A refused file stays as it is: closing must not tidy up its log. */
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    if (rc == MF_OK) {
        rc = mf_sqlite_migrate(db, store->path, err);
    }
    if (rc == MF_OK) {
        rewrite_when_sparse(db);
    }
    (void)sqlite3_close(db); /* every statement on it is finalized */
    return rc;
}

mf_rc mf_sqlite_store_open(const mf_sqlite_options *options, mf_store **out,
                           mf_err *err) {
    mf_sqlite_store *store = mf_alloc_zero(1, sizeof *store);
    if (store != NULL) {
        store->path = mf_strndup(options->path, strlen(options->path));
    }
    if (store == NULL || store->path == NULL) {
        mf_free(store);
        return MF_FAIL(err, MF_E_NOMEM, "no memory to open '%s'", options->path);
    }
    store->base.ops = &sqlite_ops;
    store->options = *options;
    store->options.path = store->path;
    atomic_init(&store->writer_open, false);
    atomic_init(&store->flush_failed, false);
    mf_rc rc = mf_text_codec_open(&store->texts, err);
    if (rc == MF_OK) {
        rc = prepare_file(store, err);
    }
    if (rc != MF_OK) {
        store_close(&store->base);
        return rc;
    }
    *out = &store->base;
    return MF_OK;
}

/* --- connections --- */

static void conn_close(mf_conn *base) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    if (conn == NULL) {
        return;
    }
    for (int i = 0; i < MF_SQL_COUNT; i++) {
        (void)sqlite3_finalize(conn->statements[i]); /* repeats a reported failure */
    }
    mf_text_lane_close(conn->texts);
    if (conn->db != NULL) {
        if (atomic_load(&conn->store->flush_failed)) {
            (void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1,
                                    NULL);
        }
        int code = sqlite3_close(conn->db);
        MF_ASSERT(code == SQLITE_OK);
    }
    if (conn->writer) {
        atomic_store(&conn->store->writer_open, false);
    }
    mf_free(conn);
}

static mf_rc read_num_last(mf_sqlite_conn *conn, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_NUM_LAST, &q, err));
    bool row = false;
    mf_rc rc = mf_query_step(&q, &row, err);
    if (rc == MF_OK) {
        conn->num_last = mf_query_int(&q, 0);
    }
    mf_query_close(&q);
    return rc;
}

static mf_rc conn_open(mf_store *base, bool writer, mf_conn **out, mf_err *err) {
    mf_sqlite_store *store = (mf_sqlite_store *)base;
    if (writer && atomic_exchange(&store->writer_open, true)) {
        return MF_FAIL(err, MF_E_BUSY, "the store has a writer already");
    }
    mf_sqlite_conn *conn = mf_alloc_zero(1, sizeof *conn);
    if (conn == NULL) {
        if (writer) {
            atomic_store(&store->writer_open, false);
        }
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a connection");
    }
    conn->base = (mf_conn){.ops = &sqlite_ops, .store = base};
    conn->store = store;
    conn->writer = writer;
    mf_rc rc = mf_sqlite_db_open(store, writer, &conn->db, err);
    if (rc == MF_OK && writer) {
        rc = read_num_last(conn, err);
    }
    if (rc != MF_OK) {
        conn_close(&conn->base);
        return rc;
    }
    *out = &conn->base;
    return MF_OK;
}

/* --- transactions --- */

static mf_rc refuse_after_flush_failure(mf_err *err) {
    return MF_FAIL(err, MF_E_IO,
                   "an earlier write could not be flushed to disk; the store must be "
                   "opened again");
}

mf_rc mf_sqlite_begin(mf_conn *base, mf_err *err) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    MF_ASSERT(conn->writer);
    MF_ASSERT(!conn->in_transaction);
    if (atomic_load(&conn->store->flush_failed)) {
        return refuse_after_flush_failure(err);
    }
    MF_TRY(mf_sqlite_run(conn, MF_SQL_BEGIN_WRITE, err));
    conn->in_transaction = true;
    conn->lost = MF_OK;
    return MF_OK;
}

static void end_transaction(mf_sqlite_conn *conn) {
    conn->in_transaction = false;
    conn->lost = MF_OK;
    if (!sqlite3_get_autocommit(conn->db)) {
        mf_sqlite_try_run(conn, MF_SQL_ROLLBACK);
    }
}

static mf_rc commit_now(mf_sqlite_conn *conn, mf_err *err) {
    if (MF_FAULT("store.commit.before")) {
        return MF_FAIL(err, MF_E_IO, "fault store.commit.before");
    }
    MF_TRY(mf_sqlite_run(conn, MF_SQL_COMMIT, err));
    if (MF_FAULT("store.commit.after")) {
        return MF_FAIL(err, MF_E_IO, "fault store.commit.after");
    }
    return MF_OK;
}

mf_rc mf_sqlite_commit(mf_conn *base, mf_err *err) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    MF_ASSERT(conn->in_transaction);
    mf_rc rc = commit_now(conn, err);
    if (rc == MF_E_IO) {
        atomic_store(&conn->store->flush_failed, true);
    }
    end_transaction(conn);
    return rc;
}

static void rollback(mf_conn *base) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    MF_ASSERT(conn->in_transaction);
    end_transaction(conn);
}

mf_rc mf_sqlite_savepoint(mf_conn *base, mf_err *err) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    MF_ASSERT(conn->writer && conn->in_transaction);
    return mf_sqlite_run(conn, MF_SQL_SAVEPOINT_SET, err);
}

mf_rc mf_sqlite_savepoint_keep(mf_conn *base, mf_err *err) {
    return mf_sqlite_run(mf_sqlite_conn_of(base), MF_SQL_SAVEPOINT_KEEP, err);
}

static void savepoint_undo(mf_conn *base) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    if (conn->lost != MF_OK) {
        return; /* undone with everything else */
    }
    mf_rc rc = mf_sqlite_run(conn, MF_SQL_SAVEPOINT_UNDO, NULL);
    if (rc == MF_OK) {
        rc = mf_sqlite_run(conn, MF_SQL_SAVEPOINT_KEEP,
                           NULL); /* drops the mark itself */
    }
    if (rc != MF_OK && conn->lost == MF_OK) {
        conn->lost = rc; /* what could not be undone must not be committed */
    }
}

mf_rc mf_sqlite_read_begin(mf_conn *base, mf_err *err) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    MF_ASSERT(!conn->writer && !conn->in_transaction);
    MF_TRY(mf_sqlite_run(conn, MF_SQL_BEGIN_READ, err));
    /* SQLite chooses the state at the first read, so one is made now. */
    mf_rc rc = mf_sqlite_run(conn, MF_SQL_TOUCH, err);
    if (rc != MF_OK) {
        mf_sqlite_let_go(conn, true);
        return rc;
    }
    conn->in_transaction = true;
    return MF_OK;
}

static void read_end(mf_conn *base) {
    mf_sqlite_conn *conn = mf_sqlite_conn_of(base);
    MF_ASSERT(!conn->writer && conn->in_transaction);
    conn->in_transaction = false;
    conn->lost = MF_OK;
    mf_sqlite_let_go(conn, true);
}

static const mf_store_ops sqlite_ops = {
    .name = "sqlite",
    .close = store_close,
    .conn_open = conn_open,
    .conn_close = conn_close,
    .rollback = rollback,
    .savepoint_undo = savepoint_undo,
    .read_end = read_end,
#define MF_STORE_CALL(op, params, args) .op = mf_sqlite_##op,
#include "store/ops.def"
#undef MF_STORE_CALL
};
