/* sqlite_directory.c - users, agents, sessions and API keys in SQLite. */
#include "store/sqlite/sqlite_conn.h"

#include "base/assert.h"

static mf_rc need_changed(int64_t changed, mf_err *err, const char *field,
                          const char *what) {
    return changed > 0 ? MF_OK
                       : MF_FAIL_FIELD(err, MF_E_NOTFOUND, field, "no such %s", what);
}

/* Says which field a constraint complained about, when the caller's words allow it. */
static mf_rc blame(mf_rc rc, mf_err *err, mf_rc if_rc, const char *field,
                   const char *text) {
    return rc == if_rc ? MF_FAIL_FIELD(err, rc, field, "%s", text) : rc;
}

/* --- users and agents: one shape, two tables --- */

typedef struct named_table {
    mf_shape shape;
    mf_sql insert, get, find, list, update;
} named_table;

static void read_named(mf_query *q, mf_arena *arena, void *out) {
    *(mf_named_row *)out = (mf_named_row){.id = mf_query_id(q, 0),
                                          .name = mf_query_text(q, 1, arena),
                                          .description = mf_query_text(q, 2, arena),
                                          .created_us = mf_query_int(q, 3),
                                          .updated_us = mf_query_int(q, 4)};
}

static const named_table users = {
    .shape = {"user", sizeof(mf_named_row), read_named},
    .insert = MF_SQL_USER_INSERT,
    .get = MF_SQL_USER_GET,
    .find = MF_SQL_USER_FIND,
    .list = MF_SQL_USER_LIST,
    .update = MF_SQL_USER_UPDATE,
};
static const named_table agents = {
    .shape = {"agent", sizeof(mf_named_row), read_named},
    .insert = MF_SQL_AGENT_INSERT,
    .get = MF_SQL_AGENT_GET,
    .find = MF_SQL_AGENT_FIND,
    .list = MF_SQL_AGENT_LIST,
    .update = MF_SQL_AGENT_UPDATE,
};

static mf_rc named_insert(mf_conn *conn, const named_table *table,
                          const mf_named_row *row, mf_err *err) {
    mf_query q;
    MF_ASSERT(mf_sqlite_conn_of(conn)->in_transaction);
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), table->insert, &q, err));
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_text(&q, row->name);
    mf_query_bind_text_opt(&q, row->description);
    mf_query_bind_int(&q, row->created_us);
    mf_query_bind_int(&q, row->updated_us);
    return blame(mf_query_run(&q, err), err, MF_E_EXISTS, "name", "the name is taken");
}

static mf_rc named_get(mf_conn *conn, const named_table *table, mf_uuid id,
                       mf_arena *arena, mf_named_row *out, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), table->get, &q, err));
    mf_query_bind_id(&q, &id);
    return mf_query_one(&q, &table->shape, "id", arena, out, err);
}

static mf_rc named_find(mf_conn *conn, const named_table *table, mf_str name,
                        mf_arena *arena, mf_named_row *out, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), table->find, &q, err));
    mf_query_bind_text(&q, name);
    return mf_query_one(&q, &table->shape, "name", arena, out, err);
}

static mf_rc named_list(mf_conn *conn, const named_table *table, mf_arena *arena,
                        mf_named_row **rows, size_t *count, mf_err *err) {
    mf_query q;
    mf_rows list = mf_rows_of(arena, sizeof(mf_named_row));
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), table->list, &q, err));
    MF_TRY(mf_query_all(&q, &table->shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

static mf_rc named_update(mf_conn *conn, const named_table *table,
                          const mf_named_row *row, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, table->update, &q, err));
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_text(&q, row->name);
    mf_query_bind_text_opt(&q, row->description);
    mf_query_bind_int(&q, row->updated_us);
    mf_rc rc = mf_query_run(&q, err);
    if (rc != MF_OK) {
        return blame(rc, err, MF_E_EXISTS, "name", "the name is taken");
    }
    return need_changed(sqlite3_changes64(c->db), err, "id", table->shape.what);
}

mf_rc mf_sqlite_user_insert(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_insert(conn, &users, row, err);
}
mf_rc mf_sqlite_user_get(mf_conn *conn, mf_uuid id, mf_arena *arena, mf_named_row *out,
                         mf_err *err) {
    return named_get(conn, &users, id, arena, out, err);
}
mf_rc mf_sqlite_user_find(mf_conn *conn, mf_str name, mf_arena *arena,
                          mf_named_row *out, mf_err *err) {
    return named_find(conn, &users, name, arena, out, err);
}
mf_rc mf_sqlite_user_list(mf_conn *conn, mf_arena *arena, mf_named_row **rows,
                          size_t *count, mf_err *err) {
    return named_list(conn, &users, arena, rows, count, err);
}
mf_rc mf_sqlite_user_update(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_update(conn, &users, row, err);
}

mf_rc mf_sqlite_agent_insert(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_insert(conn, &agents, row, err);
}
mf_rc mf_sqlite_agent_get(mf_conn *conn, mf_uuid id, mf_arena *arena, mf_named_row *out,
                          mf_err *err) {
    return named_get(conn, &agents, id, arena, out, err);
}
mf_rc mf_sqlite_agent_find(mf_conn *conn, mf_str name, mf_arena *arena,
                           mf_named_row *out, mf_err *err) {
    return named_find(conn, &agents, name, arena, out, err);
}
mf_rc mf_sqlite_agent_list(mf_conn *conn, mf_arena *arena, mf_named_row **rows,
                           size_t *count, mf_err *err) {
    return named_list(conn, &agents, arena, rows, count, err);
}
mf_rc mf_sqlite_agent_update(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_update(conn, &agents, row, err);
}

mf_rc mf_sqlite_user_delete(mf_conn *conn, mf_uuid id, mf_err *err) {
    /* Children before parents, so that the foreign keys check each step. */
    static const mf_sql steps[] = {
        MF_SQL_USER_DELETE_CHUNKS,    MF_SQL_USER_DELETE_MESSAGES,
        MF_SQL_USER_DELETE_KNOWLEDGE, MF_SQL_USER_DELETE_SESSIONS,
        MF_SQL_USER_DELETE_BACKLOG,   MF_SQL_USER_DELETE_IDEMPOTENCY,
        MF_SQL_USER_DELETE_JOBS,      MF_SQL_USER_DELETE_API_KEYS,
        MF_SQL_USER_DELETE_WINDOWS,   MF_SQL_USER_DELETE_SETTINGS,
        MF_SQL_USER_DELETE,
    };
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    MF_TRY(mf_sqlite_spend_nums(c, err));
    int64_t changed = 0;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        MF_TRY(mf_sqlite_run_id(c, steps[i], &id, &changed, err));
    }
    return need_changed(changed, err, "id", "user");
}

/* --- sessions --- */

static void read_session(mf_query *q, mf_arena *arena, void *out) {
    *(mf_session_row *)out = (mf_session_row){.id = mf_query_id(q, 0),
                                              .user_id = mf_query_id(q, 1),
                                              .agent_id = mf_query_id(q, 2),
                                              .name = mf_query_text(q, 3, arena),
                                              .created_us = mf_query_int(q, 4),
                                              .updated_us = mf_query_int(q, 5)};
}

static const mf_shape session_shape = {"session", sizeof(mf_session_row), read_session};

static mf_rc row_exists(mf_sqlite_conn *conn, mf_sql sql, const mf_uuid *id,
                        bool *exists, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, sql, &q, err));
    mf_query_bind_id(&q, id);
    mf_rc rc = mf_query_step(&q, exists, err);
    mf_query_close(&q);
    return rc;
}

/* A foreign key failed: was it the user or the agent? */
static mf_rc blame_parent(mf_sqlite_conn *conn, const mf_session_row *row,
                          mf_err *err) {
    bool user_exists = false;
    MF_TRY(row_exists(conn, MF_SQL_USER_GET, &row->user_id, &user_exists, err));
    return user_exists ? MF_FAIL_FIELD(err, MF_E_NOTFOUND, "agent_id", "no such agent")
                       : MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
}

mf_rc mf_sqlite_session_insert(mf_conn *conn, const mf_session_row *row, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_SESSION_INSERT, &q, err));
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_id(&q, &row->user_id);
    mf_query_bind_id(&q, &row->agent_id);
    mf_query_bind_text(&q, row->name);
    mf_query_bind_int(&q, row->created_us);
    mf_query_bind_int(&q, row->updated_us);
    mf_rc rc = mf_query_run(&q, err);
    if (rc == MF_E_NOTFOUND) {
        return blame_parent(c, row, err);
    }
    return blame(rc, err, MF_E_EXISTS, "name", "the user has a session of that name");
}

mf_rc mf_sqlite_session_get(mf_conn *conn, mf_uuid id, mf_arena *arena,
                            mf_session_row *out, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_SESSION_GET, &q, err));
    mf_query_bind_id(&q, &id);
    return mf_query_one(&q, &session_shape, "id", arena, out, err);
}

mf_rc mf_sqlite_session_find(mf_conn *conn, mf_uuid user_id, mf_str name,
                             mf_arena *arena, mf_session_row *out, mf_err *err) {
    bool any = mf_uuid_is_none(user_id);
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn),
                         any ? MF_SQL_SESSION_FIND_ANY : MF_SQL_SESSION_FIND, &q, err));
    if (!any) {
        mf_query_bind_id(&q, &user_id);
    }
    mf_query_bind_text(&q, name);
    return mf_query_one(&q, &session_shape, "name", arena, out, err);
}

mf_rc mf_sqlite_session_list(mf_conn *conn, mf_uuid user_id, mf_uuid agent_id,
                             mf_arena *arena, mf_session_row **rows, size_t *count,
                             mf_err *err) {
    static const mf_sql choices[2][2] = {
        {MF_SQL_SESSION_LIST, MF_SQL_SESSION_LIST_AGENT},
        {MF_SQL_SESSION_LIST_USER, MF_SQL_SESSION_LIST_BOTH},
    };
    bool of_user = !mf_uuid_is_none(user_id);
    bool of_agent = !mf_uuid_is_none(agent_id);
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), choices[of_user][of_agent], &q, err));
    if (of_user) {
        mf_query_bind_id(&q, &user_id);
    }
    if (of_agent) {
        mf_query_bind_id(&q, &agent_id);
    }
    mf_rows list = mf_rows_of(arena, sizeof(mf_session_row));
    MF_TRY(mf_query_all(&q, &session_shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

mf_rc mf_sqlite_session_rename(mf_conn *conn, mf_uuid user_id, mf_uuid id, mf_str name,
                               int64_t updated_us, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_SESSION_RENAME, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &id);
    mf_query_bind_text(&q, name);
    mf_query_bind_int(&q, updated_us);
    mf_rc rc = mf_query_run(&q, err);
    if (rc != MF_OK) {
        return blame(rc, err, MF_E_EXISTS, "name",
                     "the user has a session of that name");
    }
    return need_changed(sqlite3_changes64(c->db), err, "id", "session");
}

mf_rc mf_sqlite_session_delete(mf_conn *conn, mf_uuid user_id, mf_uuid id,
                               mf_err *err) {
    static const mf_sql steps[] = {MF_SQL_SESSION_DELETE_CHUNKS,
                                   MF_SQL_SESSION_DELETE_MESSAGES, MF_SQL_WINDOW_DELETE,
                                   MF_SQL_SESSION_DELETE};
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    MF_TRY(mf_sqlite_spend_nums(c, err));
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        mf_query q;
        MF_TRY(mf_query_open(c, steps[i], &q, err));
        mf_query_bind_id(&q, &user_id);
        mf_query_bind_id(&q, &id);
        MF_TRY(mf_query_run(&q, err));
    }
    return need_changed(sqlite3_changes64(c->db), err, "id", "session");
}

/* The oldest session that is left of an agent. */
static mf_rc next_session_of_agent(mf_sqlite_conn *conn, const mf_uuid *agent_id,
                                   mf_session_row *out, bool *found, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_AGENT_SESSIONS, &q, err));
    mf_query_bind_id(&q, agent_id);
    mf_rc rc = mf_query_step(&q, found, err);
    if (rc == MF_OK && *found) {
        read_session(&q, NULL, out);
        out->name = MF_STR_NONE; /* it does not outlive the query */
        rc = mf_query_check(&q, err);
    }
    mf_query_close(&q);
    return rc;
}

mf_rc mf_sqlite_agent_delete(mf_conn *conn, mf_uuid id, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_session_row session = {0};
    bool found = false;
    MF_TRY(next_session_of_agent(c, &id, &session, &found, err));
    while (found) {
        MF_TRY(mf_sqlite_session_delete(conn, session.user_id, session.id, err));
        MF_TRY(next_session_of_agent(c, &id, &session, &found, err));
    }
    int64_t changed = 0;
    MF_TRY(mf_sqlite_run_id(c, MF_SQL_AGENT_DELETE, &id, &changed, err));
    return need_changed(changed, err, "id", "agent");
}

/* --- settings of a user --- */

static void read_user_setting(mf_query *q, mf_arena *arena, void *out) {
    *(mf_user_setting_row *)out =
        (mf_user_setting_row){.key = mf_query_text(q, 0, arena),
                              .value = mf_query_text(q, 1, arena),
                              .updated_us = mf_query_int(q, 2)};
}

static const mf_shape user_setting_shape = {"setting", sizeof(mf_user_setting_row),
                                            read_user_setting};

mf_rc mf_sqlite_user_setting_put(mf_conn *conn, mf_uuid user_id,
                                 const mf_user_setting_row *row, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_USER_SETTING_PUT, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_text(&q, row->key);
    mf_query_bind_text(&q, row->value);
    mf_query_bind_int(&q, row->updated_us);
    return blame(mf_query_run(&q, err), err, MF_E_NOTFOUND, "user_id", "no such user");
}

mf_rc mf_sqlite_user_setting_delete(mf_conn *conn, mf_uuid user_id, mf_str key,
                                    mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_USER_SETTING_DELETE, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_text(&q, key);
    MF_TRY(mf_query_run(&q, err));
    return need_changed(sqlite3_changes64(c->db), err, "key", "setting");
}

mf_rc mf_sqlite_user_setting_list(mf_conn *conn, mf_uuid user_id, mf_arena *arena,
                                  mf_user_setting_row **rows, size_t *count,
                                  mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_USER_SETTING_LIST, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_rows list = mf_rows_of(arena, sizeof(mf_user_setting_row));
    MF_TRY(mf_query_all(&q, &user_setting_shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

/* --- API keys --- */

static void read_api_key(mf_query *q, mf_arena *arena, void *out) {
    mf_api_key_row row = {.id = mf_query_id(q, 0),
                          .user_id = mf_query_id(q, 1),
                          .name = mf_query_text(q, 2, arena),
                          .permissions = mf_query_text(q, 4, arena),
                          .created_us = mf_query_int(q, 5),
                          .expires_us = mf_query_int(q, 6)};
    mf_str hash = mf_query_bytes(q, 3);
    if (hash.len == sizeof row.hash) {
        memcpy(row.hash, hash.p, sizeof row.hash);
    } else {
        mf_query_corrupt(q);
    }
    *(mf_api_key_row *)out = row;
}

static const mf_shape api_key_shape = {"API key", sizeof(mf_api_key_row), read_api_key};

mf_rc mf_sqlite_api_key_insert(mf_conn *conn, const mf_api_key_row *row, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_API_KEY_INSERT, &q, err));
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_id(&q, &row->user_id);
    mf_query_bind_text_opt(&q, row->name);
    mf_query_bind_bytes(&q, row->hash, sizeof row->hash);
    mf_query_bind_text_opt(&q, row->permissions);
    mf_query_bind_int(&q, row->created_us);
    mf_query_bind_int(&q, row->expires_us);
    mf_rc rc = mf_query_run(&q, err);
    rc = blame(rc, err, MF_E_NOTFOUND, "user_id", "no such user");
    return blame(rc, err, MF_E_EXISTS, "id", "the key's id is taken");
}

mf_rc mf_sqlite_api_key_get(mf_conn *conn, mf_uuid id, mf_arena *arena,
                            mf_api_key_row *out, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_API_KEY_GET, &q, err));
    mf_query_bind_id(&q, &id);
    return mf_query_one(&q, &api_key_shape, "id", arena, out, err);
}

mf_rc mf_sqlite_api_key_list(mf_conn *conn, mf_uuid user_id, mf_arena *arena,
                             mf_api_key_row **rows, size_t *count, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_API_KEY_LIST, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_rows list = mf_rows_of(arena, sizeof(mf_api_key_row));
    MF_TRY(mf_query_all(&q, &api_key_shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

mf_rc mf_sqlite_api_key_delete(mf_conn *conn, mf_uuid user_id, mf_uuid id,
                               mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_API_KEY_DELETE, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &id);
    MF_TRY(mf_query_run(&q, err));
    return need_changed(sqlite3_changes64(c->db), err, "id", "API key");
}
