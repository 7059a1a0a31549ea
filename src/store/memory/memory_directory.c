/* memory_directory.c - users, agents, sessions, keys and upkeep in memory. */
#include "store/memory/memory_conn.h"

#include <stddef.h>

#include "base/assert.h"

/* --- users and agents: one shape, two sets of tables --- */

typedef struct named_value {
    int64_t seq;
    mf_named_row row;
} named_value;

static const mf_text_field named_texts[] = {
    {offsetof(named_value, row.name), false},
    {offsetof(named_value, row.description), true},
};

typedef struct named_table {
    char by_id, by_seq, by_name;
    mf_row_shape shape;
} named_table;

static const named_table users = {
    'u', 'U', 'n', {"user", sizeof(named_value), named_texts, 2}};
static const named_table agents = {
    'a', 'A', 'o', {"agent", sizeof(named_value), named_texts, 2}};

static mf_rc named_put(mf_memory_conn *c, const named_table *table,
                       const named_value *value, mf_err *err) {
    mf_key id = mf_key_of_id(table->by_id, value->row.id);
    mf_key seq = mf_key_of_num(table->by_seq, value->seq);
    mf_key name = mf_key_of_text(table->by_name, value->row.name);
    MF_TRY(mf_memory_put_row(c, &id, &table->shape, value, err));
    MF_TRY(mf_memory_put_id(c, &seq, value->row.id, err));
    return mf_memory_put_id(c, &name, value->row.id, err);
}

static mf_rc named_insert(mf_conn *conn, const named_table *table,
                          const mf_named_row *row, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key id = mf_key_of_id(table->by_id, row->id);
    mf_key name = mf_key_of_text(table->by_name, row->name);
    if (mf_memory_has(c->root, &name) || mf_memory_has(c->root, &id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "name", "the name is taken");
    }
    named_value value = {.seq = ++c->store->seq_last, .row = *row};
    return named_put(c, table, &value, err);
}

static mf_rc named_read(const mf_tree *view, const named_table *table, mf_uuid id,
                        const char *field, mf_arena *arena, mf_named_row *out,
                        mf_err *err) {
    mf_key key = mf_key_of_id(table->by_id, id);
    named_value value;
    MF_TRY(mf_memory_get_row(view, &key, &table->shape, field, arena, &value, err));
    *out = value.row;
    return MF_OK;
}

static mf_rc named_get(mf_conn *conn, const named_table *table, mf_uuid id,
                       mf_arena *arena, mf_named_row *out, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rc rc = named_read(view, table, id, "id", arena, out, err);
    mf_view_close(view);
    return rc;
}

static mf_rc named_find(mf_conn *conn, const named_table *table, mf_str name,
                        mf_arena *arena, mf_named_row *out, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_key key = mf_key_of_text(table->by_name, name);
    mf_uuid id = MF_UUID_NONE;
    (void)mf_memory_get_id(view, &key, &id); /* nobody has the id "none" */
    mf_rc rc = named_read(view, table, id, "name", arena, out, err);
    mf_view_close(view);
    return rc;
}

static mf_rc named_list(mf_conn *conn, const named_table *table, mf_arena *arena,
                        mf_named_row **rows, size_t *count, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_named_row));
    mf_key prefix;
    mf_key_start(&prefix, table->by_seq);
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_uuid id;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        mf_named_row *row = mf_rows_add(&list);
        rc = row == NULL ? MF_FAIL(err, MF_E_NOMEM, "no memory for a list of %ss",
                                   table->shape.what)
                         : named_read(view, table, id, "id", arena, row, err);
    }
    mf_view_close(view);
    if (rc == MF_OK) {
        *rows = list.rows;
        *count = list.count;
    }
    return rc;
}

static mf_rc named_update(mf_conn *conn, const named_table *table,
                          const mf_named_row *row, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key id = mf_key_of_id(table->by_id, row->id);
    mf_key name = mf_key_of_text(table->by_name, row->name);
    named_value value;
    MF_TRY(mf_memory_get_row(c->root, &id, &table->shape, "id", NULL, &value, err));
    mf_uuid holder = row->id;
    (void)mf_memory_get_id(c->root, &name, &holder); /* not found: free to take */
    if (!mf_uuid_eq(holder, row->id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "name", "the name is taken");
    }
    mf_key old_name = mf_key_of_text(table->by_name, value.row.name);
    MF_TRY(mf_memory_remove(c, &old_name, err));
    value.row.name = row->name;
    value.row.description = row->description;
    value.row.updated_us = row->updated_us;
    return named_put(c, table, &value, err);
}

static mf_rc named_delete(mf_memory_conn *c, const named_table *table, mf_uuid id,
                          mf_err *err) {
    mf_key key = mf_key_of_id(table->by_id, id);
    named_value value;
    MF_TRY(mf_memory_get_row(c->root, &key, &table->shape, "id", NULL, &value, err));
    mf_key name = mf_key_of_text(table->by_name, value.row.name);
    mf_key seq = mf_key_of_num(table->by_seq, value.seq);
    MF_TRY(mf_memory_remove(c, &name, err));
    MF_TRY(mf_memory_remove(c, &seq, err));
    return mf_memory_remove(c, &key, err);
}

mf_rc mf_memory_user_insert(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_insert(conn, &users, row, err);
}
mf_rc mf_memory_user_get(mf_conn *conn, mf_uuid id, mf_arena *arena, mf_named_row *out,
                         mf_err *err) {
    return named_get(conn, &users, id, arena, out, err);
}
mf_rc mf_memory_user_find(mf_conn *conn, mf_str name, mf_arena *arena,
                          mf_named_row *out, mf_err *err) {
    return named_find(conn, &users, name, arena, out, err);
}
mf_rc mf_memory_user_list(mf_conn *conn, mf_arena *arena, mf_named_row **rows,
                          size_t *count, mf_err *err) {
    return named_list(conn, &users, arena, rows, count, err);
}
mf_rc mf_memory_user_update(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_update(conn, &users, row, err);
}

mf_rc mf_memory_agent_insert(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_insert(conn, &agents, row, err);
}
mf_rc mf_memory_agent_get(mf_conn *conn, mf_uuid id, mf_arena *arena, mf_named_row *out,
                          mf_err *err) {
    return named_get(conn, &agents, id, arena, out, err);
}
mf_rc mf_memory_agent_find(mf_conn *conn, mf_str name, mf_arena *arena,
                           mf_named_row *out, mf_err *err) {
    return named_find(conn, &agents, name, arena, out, err);
}
mf_rc mf_memory_agent_list(mf_conn *conn, mf_arena *arena, mf_named_row **rows,
                           size_t *count, mf_err *err) {
    return named_list(conn, &agents, arena, rows, count, err);
}
mf_rc mf_memory_agent_update(mf_conn *conn, const mf_named_row *row, mf_err *err) {
    return named_update(conn, &agents, row, err);
}

/* --- sessions --- */

typedef struct session_value {
    int64_t seq;
    mf_session_row row;
} session_value;

static const mf_text_field session_texts[] = {
    {offsetof(session_value, row.name), false}};
static const mf_row_shape session_shape = {"session", sizeof(session_value),
                                           session_texts, 1};

/* The entries of a session besides its row. */
typedef struct session_keys {
    mf_key by_seq, by_name, by_user, by_agent;
} session_keys;

static session_keys keys_of_session(const session_value *value) {
    const mf_session_row *row = &value->row;
    return (session_keys){.by_seq = mf_key_of_num('S', value->seq),
                          .by_name = mf_key_of_id_text('t', row->user_id, row->name),
                          .by_user = mf_key_of_id_num('p', row->user_id, value->seq),
                          .by_agent = mf_key_of_id_num('q', row->agent_id, value->seq)};
}

static mf_rc session_put(mf_memory_conn *c, const session_value *value, mf_err *err) {
    mf_key key = mf_key_of_id('s', value->row.id);
    session_keys keys = keys_of_session(value);
    MF_TRY(mf_memory_put_row(c, &key, &session_shape, value, err));
    MF_TRY(mf_memory_put_id(c, &keys.by_seq, value->row.id, err));
    MF_TRY(mf_memory_put_id(c, &keys.by_name, value->row.id, err));
    MF_TRY(mf_memory_put_id(c, &keys.by_user, value->row.id, err));
    return mf_memory_put_id(c, &keys.by_agent, value->row.id, err);
}

static mf_rc session_read(const mf_tree *view, mf_uuid id, const char *field,
                          mf_arena *arena, session_value *out, mf_err *err) {
    mf_key key = mf_key_of_id('s', id);
    return mf_memory_get_row(view, &key, &session_shape, field, arena, out, err);
}

mf_rc mf_memory_session_insert(mf_conn *conn, const mf_session_row *row, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key user = mf_key_of_id(users.by_id, row->user_id);
    mf_key agent = mf_key_of_id(agents.by_id, row->agent_id);
    mf_key id = mf_key_of_id('s', row->id);
    mf_key name = mf_key_of_id_text('t', row->user_id, row->name);
    if (!mf_memory_has(c->root, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    if (!mf_memory_has(c->root, &agent)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "agent_id", "no such agent");
    }
    if (mf_memory_has(c->root, &name) || mf_memory_has(c->root, &id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "name",
                             "the user has a session of that name");
    }
    session_value value = {.seq = ++c->store->seq_last, .row = *row};
    return session_put(c, &value, err);
}

mf_rc mf_memory_session_get(mf_conn *conn, mf_uuid id, mf_arena *arena,
                            mf_session_row *out, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    session_value value;
    mf_rc rc = session_read(view, id, "id", arena, &value, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *out = value.row;
    }
    return rc;
}

/* The oldest session of a name: a directory look-up, and rare, so it walks them all. */
static mf_uuid oldest_of_name(const mf_tree *view, mf_str name) {
    mf_key prefix;
    mf_key_start(&prefix, 'S');
    mf_walk walk = mf_walk_start(view, &prefix);
    while (mf_walk_next(&walk)) {
        mf_uuid id;
        session_value value;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        if (session_read(view, id, "id", NULL, &value, NULL) == MF_OK &&
            mf_str_eq(value.row.name, name)) {
            return id;
        }
    }
    return MF_UUID_NONE;
}

mf_rc mf_memory_session_find(mf_conn *conn, mf_uuid user_id, mf_str name,
                             mf_arena *arena, mf_session_row *out, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_uuid id = MF_UUID_NONE;
    if (mf_uuid_is_none(user_id)) {
        id = oldest_of_name(view, name);
    } else {
        mf_key key = mf_key_of_id_text('t', user_id, name);
        (void)mf_memory_get_id(view, &key, &id); /* no session has the id "none" */
    }
    session_value value;
    mf_rc rc = session_read(view, id, "name", arena, &value, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *out = value.row;
    }
    return rc;
}

static void reverse(mf_session_row *rows, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        mf_session_row row = rows[i];
        rows[i] = rows[count - 1 - i];
        rows[count - 1 - i] = row;
    }
}

/* The sessions an index leads to, of one agent unless that is none, rising. */
static mf_rc collect_sessions(const mf_tree *view, const mf_key *prefix,
                              mf_uuid agent_id, mf_rows *list, mf_err *err) {
    mf_walk walk = mf_walk_start(view, prefix);
    while (mf_walk_next(&walk)) {
        mf_uuid id;
        session_value value;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        MF_TRY(session_read(view, id, "id", list->arena, &value, err));
        if (!mf_uuid_is_none(agent_id) && !mf_uuid_eq(agent_id, value.row.agent_id)) {
            continue;
        }
        mf_session_row *row = mf_rows_add(list);
        if (row == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of sessions");
        }
        *row = value.row;
    }
    return MF_OK;
}

mf_rc mf_memory_session_list(mf_conn *conn, mf_uuid user_id, mf_uuid agent_id,
                             mf_arena *arena, mf_session_row **rows, size_t *count,
                             mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_session_row));
    mf_key prefix;
    mf_key_start(&prefix, 'S');
    if (!mf_uuid_is_none(user_id)) {
        prefix = mf_key_of_id('p', user_id);
    } else if (!mf_uuid_is_none(agent_id)) {
        prefix = mf_key_of_id('q', agent_id);
    }
    mf_rc rc = collect_sessions(view, &prefix, agent_id, &list, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        reverse(list.rows, list.count);
        *rows = list.rows;
        *count = list.count;
    }
    return rc;
}

/* A session's value, when it is this user's. */
static mf_rc session_of_user(mf_memory_conn *c, mf_uuid user_id, mf_uuid id,
                             session_value *out, mf_err *err) {
    session_value value;
    MF_TRY(session_read(c->root, id, "id", NULL, &value, err));
    if (!mf_uuid_eq(value.row.user_id, user_id)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such session");
    }
    *out = value;
    return MF_OK;
}

mf_rc mf_memory_session_rename(mf_conn *conn, mf_uuid user_id, mf_uuid id, mf_str name,
                               int64_t updated_us, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    session_value value;
    MF_TRY(session_of_user(c, user_id, id, &value, err));
    mf_key taken = mf_key_of_id_text('t', user_id, name);
    mf_uuid holder = id;
    (void)mf_memory_get_id(c->root, &taken, &holder); /* not found: free to take */
    if (!mf_uuid_eq(holder, id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "name",
                             "the user has a session of that name");
    }
    mf_key old_name = keys_of_session(&value).by_name;
    MF_TRY(mf_memory_remove(c, &old_name, err));
    value.row.name = name;
    value.row.updated_us = updated_us;
    return session_put(c, &value, err);
}

mf_rc mf_memory_session_delete(mf_conn *conn, mf_uuid user_id, mf_uuid id,
                               mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    session_value value;
    MF_TRY(session_of_user(c, user_id, id, &value, err));
    session_keys keys = keys_of_session(&value);
    mf_key key = mf_key_of_id('s', id);
    mf_key window = mf_key_of_ids('w', user_id, id);
    MF_TRY(mf_memory_remove_messages_of_session(c, user_id, id, err));
    MF_TRY(mf_memory_remove(c, &window, err));
    MF_TRY(mf_memory_remove(c, &keys.by_seq, err));
    MF_TRY(mf_memory_remove(c, &keys.by_name, err));
    MF_TRY(mf_memory_remove(c, &keys.by_user, err));
    MF_TRY(mf_memory_remove(c, &keys.by_agent, err));
    return mf_memory_remove(c, &key, err);
}

/* Deletes every session an index leads to. */
static mf_rc delete_sessions(mf_conn *conn, const mf_key *prefix, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    mf_walk walk = mf_walk_start(c->root, prefix);
    while (mf_walk_next(&walk)) {
        mf_uuid id;
        session_value value;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        MF_TRY(session_read(c->root, id, "id", NULL, &value, err));
        MF_TRY(mf_memory_session_delete(conn, value.row.user_id, id, err));
        walk = mf_walk_start(c->root, prefix); /* the tree has changed under the walk */
    }
    return MF_OK;
}

mf_rc mf_memory_agent_delete(mf_conn *conn, mf_uuid id, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key sessions = mf_key_of_id('q', id);
    MF_TRY(delete_sessions(conn, &sessions, err));
    return named_delete(c, &agents, id, err);
}

mf_rc mf_memory_user_delete(mf_conn *conn, mf_uuid id, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key sessions = mf_key_of_id('p', id);
    mf_key backlog = mf_key_of_id('b', id);
    mf_key windows = mf_key_of_id('w', id);
    mf_key records = mf_key_of_id('d', id);
    mf_key settings = mf_key_of_id('z', id);
    mf_key key_list = mf_key_of_id('Y', id);
    MF_TRY(delete_sessions(conn, &sessions, err));
    MF_TRY(mf_memory_remove_documents_of_user(c, id, err));
    MF_TRY(mf_memory_remove_jobs_of_user(c, id, err));
    MF_TRY(mf_memory_remove(c, &backlog, err));
    MF_TRY(mf_memory_remove_all(c, &windows, err));
    MF_TRY(mf_memory_remove_all(c, &records, err));
    MF_TRY(mf_memory_remove_all(c, &settings, err));
    mf_walk walk = mf_walk_start(c->root, &key_list);
    while (mf_walk_next(&walk)) {
        mf_uuid key_id;
        memcpy(key_id.b, walk.entry.value.p, sizeof key_id.b);
        MF_TRY(mf_memory_api_key_delete(conn, id, key_id, err));
        walk = mf_walk_start(c->root, &key_list);
    }
    return named_delete(c, &users, id, err);
}

/* --- recent windows --- */

mf_rc mf_memory_window_close(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                             int64_t *through, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key user = mf_key_of_id(users.by_id, user_id);
    mf_key at = mf_key_of_ids('w', user_id, session_id);
    if (!mf_memory_has(c->root, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    if (mf_uuid_is_none(session_id)) {
        mf_key all = mf_key_of_id('w', user_id);
        MF_TRY(mf_memory_remove_all(c, &all, err));
    } else {
        session_value value;
        mf_rc rc = session_of_user(c, user_id, session_id, &value, err);
        if (rc != MF_OK) {
            return rc == MF_E_NOTFOUND
                       ? MF_FAIL_FIELD(err, rc, "session_id", "no such session")
                       : rc;
        }
    }
    MF_TRY(mf_memory_put_num(c, &at, c->store->num_last, err));
    *through = c->store->num_last;
    return MF_OK;
}

mf_rc mf_memory_window_closed(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                              int64_t *through, mf_err *err) {
    (void)err; /* nothing can go wrong */
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_key of_session = mf_key_of_ids('w', user_id, session_id);
    mf_key of_all = mf_key_of_ids('w', user_id, MF_UUID_NONE);
    int64_t session_num = 0;
    int64_t all_num = 0;
    (void)mf_memory_get_num(view, &of_session, &session_num); /* 0 when not there */
    (void)mf_memory_get_num(view, &of_all, &all_num);
    mf_view_close(view);
    *through = session_num > all_num ? session_num : all_num;
    return MF_OK;
}

/* --- backlog --- */

mf_rc mf_memory_backlog_add(mf_conn *conn, mf_uuid user_id, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key user = mf_key_of_id(users.by_id, user_id);
    mf_key key = mf_key_of_id('b', user_id);
    if (!mf_memory_has(c->root, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    return mf_memory_put_mark(c, &key, err);
}

mf_rc mf_memory_backlog_remove(mf_conn *conn, mf_uuid user_id, mf_err *err) {
    mf_key key = mf_key_of_id('b', user_id);
    return mf_memory_remove(mf_memory_conn_of(conn), &key, err);
}

mf_rc mf_memory_backlog_list(mf_conn *conn, mf_arena *arena, mf_uuid **ids,
                             size_t *count, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_uuid));
    mf_key prefix;
    mf_key_start(&prefix, 'b');
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_uuid *id = mf_rows_add(&list);
        if (id == NULL) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for a list of users");
        } else {
            memcpy(id->b, walk.entry.key.p + 1, sizeof id->b);
        }
    }
    mf_view_close(view);
    if (rc == MF_OK) {
        *ids = list.rows;
        *count = list.count;
    }
    return rc;
}

/* --- idempotency --- */

typedef struct record_value {
    uint64_t fingerprint;
    int64_t created_us;
    mf_str reply;
} record_value;

static const mf_text_field record_texts[] = {{offsetof(record_value, reply), false}};
static const mf_row_shape record_shape = {"idempotency record", sizeof(record_value),
                                          record_texts, 1};

mf_rc mf_memory_idempotency_get(mf_conn *conn, mf_uuid user_id, mf_str key,
                                mf_arena *arena, uint64_t *fingerprint, mf_str *reply,
                                mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_key at = mf_key_of_id_text('d', user_id, key);
    record_value value;
    mf_rc rc = mf_memory_get_row(view, &at, &record_shape, "key", arena, &value, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *fingerprint = value.fingerprint;
        *reply = value.reply;
    }
    return rc;
}

mf_rc mf_memory_idempotency_put(mf_conn *conn, mf_uuid user_id, mf_str key,
                                uint64_t fingerprint, mf_str reply, int64_t now_us,
                                mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key user = mf_key_of_id(users.by_id, user_id);
    mf_key at = mf_key_of_id_text('d', user_id, key);
    if (!mf_memory_has(c->root, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    if (mf_memory_has(c->root, &at)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "key", "the key was answered already");
    }
    record_value value = {fingerprint, now_us, reply};
    return mf_memory_put_row(c, &at, &record_shape, &value, err);
}

mf_rc mf_memory_idempotency_purge(mf_conn *conn, int64_t older_than_us, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_tree *view = mf_view_open(c); /* stands still while records go */
    mf_key prefix;
    mf_key_start(&prefix, 'd');
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        record_value value;
        rc = mf_memory_read_row(walk.entry.value, &record_shape, NULL, &value, err);
        if (rc == MF_OK && value.created_us < older_than_us) {
            rc = mf_tree_remove(&c->root, walk.entry.key, err);
        }
    }
    mf_view_close(view);
    return rc;
}

/* --- settings of a user --- */

static const mf_text_field user_setting_texts[] = {
    {offsetof(mf_user_setting_row, key), false},
    {offsetof(mf_user_setting_row, value), false},
};
static const mf_row_shape user_setting_shape = {"setting", sizeof(mf_user_setting_row),
                                                user_setting_texts, 2};

mf_rc mf_memory_user_setting_put(mf_conn *conn, mf_uuid user_id,
                                 const mf_user_setting_row *row, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key user = mf_key_of_id(users.by_id, user_id);
    mf_key at = mf_key_of_id_text('z', user_id, row->key);
    if (!mf_memory_has(c->root, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    return mf_memory_put_row(c, &at, &user_setting_shape, row, err);
}

mf_rc mf_memory_user_setting_delete(mf_conn *conn, mf_uuid user_id, mf_str key,
                                    mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key at = mf_key_of_id_text('z', user_id, key);
    if (!mf_memory_has(c->root, &at)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "key", "no such setting");
    }
    return mf_memory_remove(c, &at, err);
}

mf_rc mf_memory_user_setting_list(mf_conn *conn, mf_uuid user_id, mf_arena *arena,
                                  mf_user_setting_row **rows, size_t *count,
                                  mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_user_setting_row));
    mf_key prefix = mf_key_of_id('z', user_id);
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_user_setting_row *row = mf_rows_add(&list);
        rc = row != NULL ? mf_memory_read_row(walk.entry.value, &user_setting_shape,
                                              arena, row, err)
                         : MF_FAIL(err, MF_E_NOMEM, "no memory for a list of settings");
    }
    mf_view_close(view);
    if (rc == MF_OK) {
        *rows = list.rows;
        *count = list.count;
    }
    return rc;
}

/* --- API keys --- */

typedef struct api_key_value {
    int64_t seq;
    mf_api_key_row row;
} api_key_value;

static const mf_text_field api_key_texts[] = {
    {offsetof(api_key_value, row.name), true},
    {offsetof(api_key_value, row.permissions), true},
};
static const mf_row_shape api_key_shape = {"API key", sizeof(api_key_value),
                                           api_key_texts, 2};

static mf_rc api_key_read(const mf_tree *view, mf_uuid id, mf_arena *arena,
                          api_key_value *out, mf_err *err) {
    mf_key key = mf_key_of_id('y', id);
    return mf_memory_get_row(view, &key, &api_key_shape, "id", arena, out, err);
}

mf_rc mf_memory_api_key_insert(mf_conn *conn, const mf_api_key_row *row, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_key user = mf_key_of_id(users.by_id, row->user_id);
    mf_key id = mf_key_of_id('y', row->id);
    if (!mf_memory_has(c->root, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    if (mf_memory_has(c->root, &id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "id", "the key's id is taken");
    }
    api_key_value value = {.seq = ++c->store->seq_last, .row = *row};
    mf_key of_user = mf_key_of_id_num('Y', row->user_id, value.seq);
    MF_TRY(mf_memory_put_row(c, &id, &api_key_shape, &value, err));
    return mf_memory_put_id(c, &of_user, row->id, err);
}

mf_rc mf_memory_api_key_get(mf_conn *conn, mf_uuid id, mf_arena *arena,
                            mf_api_key_row *out, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    api_key_value value;
    mf_rc rc = api_key_read(view, id, arena, &value, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *out = value.row;
    }
    return rc;
}

mf_rc mf_memory_api_key_list(mf_conn *conn, mf_uuid user_id, mf_arena *arena,
                             mf_api_key_row **rows, size_t *count, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_api_key_row));
    mf_key prefix = mf_key_of_id('Y', user_id);
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_uuid id;
        api_key_value value;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        rc = api_key_read(view, id, arena, &value, err);
        mf_api_key_row *row = rc == MF_OK ? mf_rows_add(&list) : NULL;
        if (row != NULL) {
            *row = value.row;
        } else if (rc == MF_OK) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for a list of API keys");
        }
    }
    mf_view_close(view);
    if (rc == MF_OK) {
        *rows = list.rows;
        *count = list.count;
    }
    return rc;
}

mf_rc mf_memory_api_key_delete(mf_conn *conn, mf_uuid user_id, mf_uuid id,
                               mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    api_key_value value;
    MF_TRY(api_key_read(c->root, id, NULL, &value, err));
    if (!mf_uuid_eq(value.row.user_id, user_id)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such API key");
    }
    mf_key key = mf_key_of_id('y', id);
    mf_key of_user = mf_key_of_id_num('Y', user_id, value.seq);
    MF_TRY(mf_memory_remove(c, &of_user, err));
    return mf_memory_remove(c, &key, err);
}

/* --- counts and checks --- */

static uint64_t count_table(const mf_tree *view, char table) {
    mf_key prefix;
    mf_key_start(&prefix, table);
    mf_walk walk = mf_walk_start(view, &prefix);
    uint64_t count = 0;
    while (mf_walk_next(&walk)) {
        count++;
    }
    return count;
}

mf_rc mf_memory_counts(mf_conn *conn, mf_store_counts *out, mf_err *err) {
    (void)err; /* nothing can go wrong */
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    *out = (mf_store_counts){.users = count_table(view, 'u'),
                             .agents = count_table(view, 'a'),
                             .sessions = count_table(view, 's'),
                             .messages = count_table(view, 'm'),
                             .knowledge = count_table(view, 'k'),
                             .chunks = count_table(view, 'c')};
    mf_view_close(view);
    return MF_OK;
}

/* Everything in here is data. */
mf_rc mf_memory_release_memory(mf_conn *conn, mf_err *err) {
    (void)conn;
    (void)err;
    return MF_OK;
}

/* Each row has exactly one entry in each of its indexes, so the tables must be as
 * long. */
mf_rc mf_memory_verify(mf_conn *conn, mf_err *err) {
    static const char groups[][5] = {"uUn", "aAo", "sStp", "sq",
                                     "mil", "kj",  "yY",   "gGv"};
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0] && rc == MF_OK; i++) {
        uint64_t rows = count_table(view, groups[i][0]);
        for (const char *index = groups[i] + 1; *index != '\0' && rc == MF_OK;
             index++) {
            if (count_table(view, *index) != rows) {
                rc = MF_FAIL(err, MF_E_CORRUPT, "table %c and index %c differ",
                             groups[i][0], *index);
            }
        }
    }
    mf_view_close(view);
    return rc;
}
