/* sqlite_upkeep.c - windows, backlog, idempotency records, counts and checks in SQLite.
 */
#include "store/sqlite/sqlite_conn.h"

#include <sys/stat.h>

#include "base/assert.h"

/* --- recent windows --- */

mf_rc mf_sqlite_window_close(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                             int64_t *through, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    if (mf_uuid_is_none(session_id)) {
        /* One row for all sessions takes the place of one for each. */
        MF_TRY(mf_sqlite_run_id(c, MF_SQL_USER_DELETE_WINDOWS, &user_id, NULL, err));
    }
    MF_TRY(mf_query_open(c, MF_SQL_WINDOW_CLOSE, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &session_id);
    mf_query_bind_int(&q, c->num_last);
    mf_rc rc = mf_query_run(&q, err);
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL_FIELD(err, rc, "user_id", "no such user");
    }
    MF_TRY(rc);
    if (sqlite3_changes64(c->db) == 0) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "session_id", "no such session");
    }
    *through = c->num_last;
    return MF_OK;
}

mf_rc mf_sqlite_window_closed(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                              int64_t *through, mf_err *err) {
    mf_query q;
    bool row = false;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_WINDOW_CLOSED, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &session_id);
    mf_rc rc = mf_query_step(&q, &row, err);
    if (rc == MF_OK) {
        MF_ASSERT(row); /* an aggregate has one */
        int64_t num = mf_query_int(&q, 0);
        rc = mf_query_check(&q, err);
        if (rc == MF_OK) {
            *through = num;
        }
    }
    mf_query_close(&q);
    return rc;
}

/* --- backlog --- */

mf_rc mf_sqlite_backlog_add(mf_conn *conn, mf_uuid user_id, mf_err *err) {
    MF_ASSERT(mf_sqlite_conn_of(conn)->in_transaction);
    mf_rc rc = mf_sqlite_run_id(mf_sqlite_conn_of(conn), MF_SQL_BACKLOG_ADD, &user_id,
                                NULL, err);
    return rc == MF_E_NOTFOUND ? MF_FAIL_FIELD(err, rc, "user_id", "no such user") : rc;
}

mf_rc mf_sqlite_backlog_remove(mf_conn *conn, mf_uuid user_id, mf_err *err) {
    MF_ASSERT(mf_sqlite_conn_of(conn)->in_transaction);
    return mf_sqlite_run_id(mf_sqlite_conn_of(conn), MF_SQL_BACKLOG_REMOVE, &user_id,
                            NULL, err);
}

static void read_id(mf_query *q, mf_arena *arena, void *out) {
    (void)arena; /* an id needs no memory of its own */
    *(mf_uuid *)out = mf_query_id(q, 0);
}

mf_rc mf_sqlite_backlog_list(mf_conn *conn, mf_arena *arena, mf_uuid **ids,
                             size_t *count, mf_err *err) {
    static const mf_shape shape = {"user", sizeof(mf_uuid), read_id};
    mf_query q;
    mf_rows list = mf_rows_of(arena, sizeof(mf_uuid));
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_BACKLOG_LIST, &q, err));
    MF_TRY(mf_query_all(&q, &shape, &list, err));
    *ids = list.rows;
    *count = list.count;
    return MF_OK;
}

/* --- idempotency --- */

typedef struct record {
    uint64_t fingerprint;
    mf_str reply;
} record;

static void read_record(mf_query *q, mf_arena *arena, void *out) {
    *(record *)out = (record){.fingerprint = (uint64_t)mf_query_int(q, 0),
                              .reply = mf_query_text(q, 1, arena)};
}

mf_rc mf_sqlite_idempotency_get(mf_conn *conn, mf_uuid user_id, mf_str key,
                                mf_arena *arena, uint64_t *fingerprint, mf_str *reply,
                                mf_err *err) {
    static const mf_shape shape = {"idempotency record", sizeof(record), read_record};
    mf_query q;
    record found;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_IDEMPOTENCY_GET, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_text(&q, key);
    MF_TRY(mf_query_one(&q, &shape, "key", arena, &found, err));
    *fingerprint = found.fingerprint;
    *reply = found.reply;
    return MF_OK;
}

mf_rc mf_sqlite_idempotency_put(mf_conn *conn, mf_uuid user_id, mf_str key,
                                uint64_t fingerprint, mf_str reply, int64_t now_us,
                                mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_IDEMPOTENCY_PUT, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_text(&q, key);
    mf_query_bind_int(&q, (int64_t)fingerprint);
    mf_query_bind_text(&q, reply);
    mf_query_bind_int(&q, now_us);
    mf_rc rc = mf_query_run(&q, err);
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL_FIELD(err, rc, "user_id", "no such user");
    }
    return rc == MF_E_EXISTS
               ? MF_FAIL_FIELD(err, rc, "key", "the key was answered already")
               : rc;
}

mf_rc mf_sqlite_idempotency_purge(mf_conn *conn, int64_t older_than_us, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_IDEMPOTENCY_PURGE, &q, err));
    mf_query_bind_int(&q, older_than_us);
    return mf_query_run(&q, err);
}

/* --- counts and checks --- */

static uint64_t size_of(const char *path, const char *suffix) {
    char *full = sqlite3_mprintf("%s%s", path, suffix);
    struct stat st;
    uint64_t size = 0;
    if (full != NULL && stat(full, &st) == 0) {
        size = (uint64_t)st.st_size;
    }
    sqlite3_free(full);
    return size;
}

static void read_counts(mf_query *q, mf_arena *arena, void *out) {
    (void)arena; /* numbers only */
    *(mf_store_counts *)out =
        (mf_store_counts){.users = (uint64_t)mf_query_int(q, 0),
                          .agents = (uint64_t)mf_query_int(q, 1),
                          .sessions = (uint64_t)mf_query_int(q, 2),
                          .messages = (uint64_t)mf_query_int(q, 3),
                          .knowledge = (uint64_t)mf_query_int(q, 4),
                          .chunks = (uint64_t)mf_query_int(q, 5)};
}

mf_rc mf_sqlite_counts(mf_conn *conn, mf_store_counts *out, mf_err *err) {
    static const mf_shape shape = {"count", sizeof(mf_store_counts), read_counts};
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_COUNTS, &q, err));
    MF_TRY(mf_query_one(&q, &shape, "", NULL, out, err));
    out->bytes = size_of(c->store->path, "") + size_of(c->store->path, "-wal");
    return MF_OK;
}

static mf_rc check_pages(mf_sqlite_conn *conn, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_INTEGRITY_CHECK, &q, err));
    bool found = false;
    mf_rc rc = mf_query_step(&q, &found, err);
    if (rc == MF_OK) {
        mf_str first = found ? mf_query_text(&q, 0, NULL) : MF_STR("no answer");
        if (!mf_str_eq(first, MF_STR("ok"))) {
            rc =
                MF_FAIL(err, MF_E_CORRUPT, "integrity check: %.*s", MF_STR_ARGS(first));
        }
    }
    mf_query_close(&q);
    return rc;
}

static mf_rc check_keys(mf_sqlite_conn *conn, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_FOREIGN_KEY_CHECK, &q, err));
    bool found = false;
    mf_rc rc = mf_query_step(&q, &found, err);
    if (rc == MF_OK && found) {
        mf_str table = mf_query_text(&q, 0, NULL);
        rc = MF_FAIL(err, MF_E_CORRUPT, "a row of table %.*s has no parent",
                     MF_STR_ARGS(table));
    }
    mf_query_close(&q);
    return rc;
}

mf_rc mf_sqlite_release_memory(mf_conn *conn, mf_err *err) {
    (void)err; /* always MF_OK: what is in use simply stays */
    (void)sqlite3_db_release_memory(mf_sqlite_conn_of(conn)->db);
    return MF_OK;
}

mf_rc mf_sqlite_verify(mf_conn *conn, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_TRY(check_pages(c, err));
    MF_TRY(check_keys(c, err));
    return mf_sqlite_check_texts(c, err);
}
