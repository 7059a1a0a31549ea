/* sqlite_documents.c - messages, knowledge and their vectors in SQLite.
 *
 * `num` is given here and not by SQLite, because a rowid table reuses the number of a
 * deleted newest row, and AUTOINCREMENT would write its own table at every insert. */
#include "store/sqlite/sqlite_conn.h"

#include "base/alloc.h"
#include "base/assert.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "vectors are stored in little-endian byte order");

static void read_message(mf_query *q, mf_arena *arena, void *out) {
    int64_t role = mf_query_int(q, 5);
    if (role < MF_ROLE_USER || role > MF_ROLE_SYSTEM) {
        mf_query_corrupt(q);
    }
    *(mf_message_row *)out = (mf_message_row){
        .num = mf_query_int(q, 0),
        .id = mf_query_id(q, 1),
        .user_id = mf_query_id(q, 2),
        .session_id = mf_query_id(q, 3),
        .round_id = mf_query_id(q, 4),
        .role = (mf_role)role,
        .content = mf_query_packed_text(q, mf_query_int(q, 0), 6, 11, arena),
        .metadata = mf_query_text(q, 7, arena),
        .created_us = mf_query_int(q, 8),
        .updated_us = mf_query_int(q, 9),
        .revision = mf_query_int(q, 10)};
}

static void read_knowledge(mf_query *q, mf_arena *arena, void *out) {
    *(mf_knowledge_row *)out = (mf_knowledge_row){.num = mf_query_int(q, 0),
                                                  .id = mf_query_id(q, 1),
                                                  .user_id = mf_query_id(q, 2),
                                                  .content = mf_query_text(q, 3, arena),
                                                  .created_us = mf_query_int(q, 4),
                                                  .updated_us = mf_query_int(q, 5)};
}

static const mf_shape message_shape = {"message", sizeof(mf_message_row), read_message};
static const mf_shape knowledge_shape = {"knowledge item", sizeof(mf_knowledge_row),
                                         read_knowledge};

/* --- what both kinds share --- */

/* Deletes the vectors of the documents a statement returns by their num, and counts
 * those documents.  Runs the statement to its end and leaves it open. */
static mf_rc drop_chunks_of(mf_query *q, const mf_uuid *user_id, mf_doc_kind kind,
                            size_t *documents, mf_err *err) {
    bool found = false;
    MF_TRY(mf_query_step(q, &found, err));
    while (found) {
        int64_t num = mf_query_int(q, 0);
        mf_query drop;
        MF_TRY(mf_query_open(q->conn, MF_SQL_CHUNK_DELETE, &drop, err));
        mf_query_bind_id(&drop, user_id);
        mf_query_bind_int(&drop, kind);
        mf_query_bind_int(&drop, num);
        MF_TRY(mf_query_run(&drop, err));
        ++*documents;
        MF_TRY(mf_query_step(q, &found, err));
    }
    return MF_OK;
}

static mf_rc delete_by_id(mf_conn *conn, mf_sql sql, mf_doc_kind kind, mf_uuid user_id,
                          const mf_uuid *ids, size_t count, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, sql, &q, err));
    size_t deleted = 0;
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < count && rc == MF_OK; i++) {
        mf_query_bind_id(&q, &user_id);
        mf_query_bind_id(&q, &ids[i]);
        rc = drop_chunks_of(&q, &user_id, kind, &deleted, err);
        mf_query_again(&q);
    }
    mf_query_close(&q);
    return rc == MF_OK && deleted > 0 ? mf_sqlite_spend_nums(c, err) : rc;
}

/* The end of an update: `q` returns the num of the one document it changed, and is
 * closed. */
static mf_rc finish_update(mf_query *q, const mf_uuid *user_id, mf_doc_kind kind,
                           const mf_shape *shape, mf_err *err) {
    size_t changed = 0;
    mf_rc rc = drop_chunks_of(q, user_id, kind, &changed, err);
    mf_query_close(q);
    if (rc == MF_OK && changed == 0) {
        rc = MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such %s", shape->what);
    }
    return rc;
}

/* What a look-up of many documents asks for: ids or, when those are NULL, nums. */
typedef struct wanted {
    mf_sql sql;
    const mf_shape *shape;
    mf_uuid user_id;
    const mf_uuid *ids;
    const int64_t *nums;
    size_t count;
} wanted;

static mf_rc look_up(mf_sqlite_conn *conn, const wanted *want, mf_arena *arena,
                     void *rows, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, want->sql, &q, err));
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < want->count && rc == MF_OK; i++) {
        bool found = false;
        mf_query_bind_id(&q, &want->user_id);
        if (want->ids != NULL) {
            mf_query_bind_id(&q, &want->ids[i]);
        } else {
            mf_query_bind_int(&q, want->nums[i]);
        }
        rc = mf_query_step(&q, &found, err);
        if (rc == MF_OK && found) {
            want->shape->read(&q, arena, (char *)rows + i * want->shape->size);
            rc = mf_query_check(&q, err);
        }
        mf_query_again(&q);
    }
    mf_query_close(&q);
    return rc;
}

/* Fills `rows` in one fixed state.  They are collected in the arena first, so that a
 * failure half way leaves the caller's rows as they were. */
static mf_rc get_many(mf_conn *conn, const wanted *want, mf_arena *arena, void *rows,
                      mf_err *err) {
    if (want->count == 0) {
        return MF_OK;
    }
    void *got = mf_arena_alloc_array(arena, want->count, want->shape->size);
    if (got == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu %ss", want->count,
                       want->shape->what);
    }
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    bool opened = false;
    MF_TRY(mf_sqlite_hold(c, &opened, err));
    mf_rc rc = look_up(c, want, arena, got, err);
    mf_sqlite_let_go(c, opened);
    if (rc == MF_OK) {
        memcpy(rows, got, want->count * want->shape->size);
    }
    return rc;
}

/* --- messages --- */

static void bind_message(mf_query *q, const mf_message_row *row, int64_t num) {
    mf_query_bind_int(q, num);
    mf_query_bind_id(q, &row->id);
    mf_query_bind_id(q, &row->user_id);
    mf_query_bind_id(q, &row->session_id);
    mf_query_bind_id(q, &row->round_id);
    mf_query_bind_int(q, row->role);
    mf_query_bind_text(q, row->content);
    mf_query_bind_text_opt(q, row->metadata);
    mf_query_bind_int(q, row->created_us);
    mf_query_bind_int(q, row->updated_us);
}

static mf_rc blame_insert(mf_rc rc, const char *parent, mf_err *err) {
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL_FIELD(err, rc, parent, "the user has no such place for it");
    }
    return rc == MF_E_EXISTS ? MF_FAIL_FIELD(err, rc, "id", "the id is taken") : rc;
}

mf_rc mf_sqlite_message_insert(mf_conn *conn, mf_message_row *rows, size_t count,
                               mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_MESSAGE_INSERT, &q, err));
    int64_t first = c->num_last + 1;
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < count && rc == MF_OK; i++) {
        bool row = false;
        bind_message(&q, &rows[i], ++c->num_last);
        rc = mf_query_step(&q, &row, err);
        mf_query_again(&q);
    }
    mf_query_close(&q);
    if (rc != MF_OK) {
        return blame_insert(rc, "session_id", err);
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].num = first + (int64_t)i;
    }
    return MF_OK;
}

mf_rc mf_sqlite_message_list(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                             const mf_message_range *range, mf_arena *arena,
                             mf_message_row **rows, size_t *count, mf_err *err) {
    static const mf_sql choices[2][2] = {
        {MF_SQL_MESSAGE_LIST_UP, MF_SQL_MESSAGE_LIST_DOWN},
        {MF_SQL_MESSAGE_LIST_ID_UP, MF_SQL_MESSAGE_LIST_ID_DOWN},
    };
    mf_query q;
    mf_rows list = mf_rows_of(arena, sizeof(mf_message_row));
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn),
                         choices[range->by_id][range->descending], &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &session_id);
    mf_query_bind_int(&q, range->num_from);
    mf_query_bind_int(&q, range->num_to);
    mf_query_bind_size(&q, range->limit);
    MF_TRY(mf_query_all(&q, &message_shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

mf_rc mf_sqlite_message_get(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                            const mf_uuid *ids, size_t count, mf_arena *arena,
                            mf_message_row *rows, mf_err *err) {
    wanted want = {.sql = MF_SQL_MESSAGE_GET,
                   .shape = &message_shape,
                   .user_id = user_id,
                   .ids = ids,
                   .count = count};
    MF_TRY(get_many(conn, &want, arena, rows, err));
    if (!mf_uuid_is_none(session_id)) {
        for (size_t i = 0; i < count; i++) {
            if (!mf_uuid_eq(rows[i].session_id, session_id)) {
                rows[i] = (mf_message_row){0};
            }
        }
    }
    return MF_OK;
}

mf_rc mf_sqlite_message_get_by_num(mf_conn *conn, mf_uuid user_id, const int64_t *nums,
                                   size_t count, mf_arena *arena, mf_message_row *rows,
                                   mf_err *err) {
    wanted want = {.sql = MF_SQL_MESSAGE_GET_BY_NUM,
                   .shape = &message_shape,
                   .user_id = user_id,
                   .nums = nums,
                   .count = count};
    return get_many(conn, &want, arena, rows, err);
}

mf_rc mf_sqlite_message_update(mf_conn *conn, const mf_message_row *row, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_MESSAGE_UPDATE, &q, err));
    mf_query_bind_id(&q, &row->user_id);
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_int(&q, row->role);
    mf_query_bind_text(&q, row->content);
    mf_query_bind_int(&q, row->updated_us);
    MF_TRY(finish_update(&q, &row->user_id, MF_DOC_MESSAGE, &message_shape, err));
    MF_TRY(mf_query_open(c, MF_SQL_TEXT_AGAIN_ADD, &q, err));
    mf_query_bind_id(&q, &row->user_id);
    mf_query_bind_id(&q, &row->id);
    return mf_query_run(&q, err);
}

mf_rc mf_sqlite_message_touch(mf_conn *conn, mf_uuid user_id, const int64_t *nums,
                              size_t count, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_MESSAGE_TOUCH, &q, err));
    size_t touched = 0;
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < count && rc == MF_OK; i++) {
        mf_query_bind_id(&q, &user_id);
        mf_query_bind_int(&q, nums[i]);
        rc = drop_chunks_of(&q, &user_id, MF_DOC_MESSAGE, &touched, err);
        mf_query_again(&q);
    }
    mf_query_close(&q);
    return rc;
}

mf_rc mf_sqlite_message_delete(mf_conn *conn, mf_uuid user_id, const mf_uuid *ids,
                               size_t count, mf_err *err) {
    return delete_by_id(conn, MF_SQL_MESSAGE_DELETE, MF_DOC_MESSAGE, user_id, ids,
                        count, err);
}

static mf_rc scan_one(mf_query *rows, const mf_uuid *user_id, int64_t num,
                      mf_message_fn each, void *ctx, mf_err *err) {
    mf_message_row row;
    bool found = false;
    mf_query_bind_id(rows, user_id);
    mf_query_bind_int(rows, num);
    MF_TRY(mf_query_step(rows, &found, err));
    if (!found) {
        return MF_FAIL(err, MF_E_CORRUPT, "an index names a message that is not there");
    }
    read_message(rows, NULL, &row);
    MF_TRY(mf_query_check(rows, err));
    return each(ctx, &row, err);
}

/* The index by id, which already groups a user's messages, gives the nums; SQLite sorts
 * those small numbers and the rows follow by key.  Sorting whole rows would copy every
 * text, and an index by num would cost each insert a further page. */
static mf_rc scan_in_order(mf_sqlite_conn *conn, const mf_uuid *user_id,
                           mf_message_fn each, void *ctx, mf_err *err) {
    mf_query nums;
    mf_query rows;
    MF_TRY(mf_query_open(conn, MF_SQL_MESSAGE_NUMS, &nums, err));
    mf_rc rc = mf_query_open(conn, MF_SQL_MESSAGE_SCAN, &rows, err);
    if (rc != MF_OK) {
        mf_query_close(&nums);
        return rc;
    }
    mf_query_bind_id(&nums, user_id);
    bool found = true;
    while (rc == MF_OK && (rc = mf_query_step(&nums, &found, err)) == MF_OK && found) {
        rc = scan_one(&rows, user_id, mf_query_int(&nums, 0), each, ctx, err);
        mf_query_again(&rows);
    }
    mf_query_close(&rows);
    mf_query_close(&nums);
    return rc;
}

mf_rc mf_sqlite_message_scan(mf_conn *conn, mf_uuid user_id, mf_message_fn each,
                             void *ctx, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    bool opened = false;
    MF_TRY(mf_sqlite_hold(c, &opened, err));
    mf_rc rc = scan_in_order(c, &user_id, each, ctx, err);
    mf_sqlite_let_go(c, opened);
    return rc;
}

/* --- knowledge --- */

mf_rc mf_sqlite_knowledge_insert(mf_conn *conn, mf_knowledge_row *rows, size_t count,
                                 mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_KNOWLEDGE_INSERT, &q, err));
    int64_t first = c->num_last + 1;
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < count && rc == MF_OK; i++) {
        bool row = false;
        mf_query_bind_int(&q, ++c->num_last);
        mf_query_bind_id(&q, &rows[i].id);
        mf_query_bind_id(&q, &rows[i].user_id);
        mf_query_bind_text(&q, rows[i].content);
        mf_query_bind_int(&q, rows[i].created_us);
        mf_query_bind_int(&q, rows[i].updated_us);
        rc = mf_query_step(&q, &row, err);
        mf_query_again(&q);
    }
    mf_query_close(&q);
    if (rc != MF_OK) {
        return blame_insert(rc, "user_id", err);
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].num = first + (int64_t)i;
    }
    return MF_OK;
}

mf_rc mf_sqlite_knowledge_list(mf_conn *conn, mf_uuid user_id, mf_arena *arena,
                               mf_knowledge_row **rows, size_t *count, mf_err *err) {
    mf_query q;
    mf_rows list = mf_rows_of(arena, sizeof(mf_knowledge_row));
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_KNOWLEDGE_LIST, &q, err));
    mf_query_bind_id(&q, &user_id);
    MF_TRY(mf_query_all(&q, &knowledge_shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

mf_rc mf_sqlite_knowledge_get(mf_conn *conn, mf_uuid user_id, const mf_uuid *ids,
                              size_t count, mf_arena *arena, mf_knowledge_row *rows,
                              mf_err *err) {
    wanted want = {.sql = MF_SQL_KNOWLEDGE_GET,
                   .shape = &knowledge_shape,
                   .user_id = user_id,
                   .ids = ids,
                   .count = count};
    return get_many(conn, &want, arena, rows, err);
}

mf_rc mf_sqlite_knowledge_get_by_num(mf_conn *conn, mf_uuid user_id,
                                     const int64_t *nums, size_t count, mf_arena *arena,
                                     mf_knowledge_row *rows, mf_err *err) {
    wanted want = {.sql = MF_SQL_KNOWLEDGE_GET_BY_NUM,
                   .shape = &knowledge_shape,
                   .user_id = user_id,
                   .nums = nums,
                   .count = count};
    return get_many(conn, &want, arena, rows, err);
}

mf_rc mf_sqlite_knowledge_update(mf_conn *conn, const mf_knowledge_row *row,
                                 mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_KNOWLEDGE_UPDATE, &q, err));
    mf_query_bind_id(&q, &row->user_id);
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_text(&q, row->content);
    mf_query_bind_int(&q, row->updated_us);
    return finish_update(&q, &row->user_id, MF_DOC_KNOWLEDGE, &knowledge_shape, err);
}

mf_rc mf_sqlite_knowledge_delete(mf_conn *conn, mf_uuid user_id, const mf_uuid *ids,
                                 size_t count, mf_err *err) {
    return delete_by_id(conn, MF_SQL_KNOWLEDGE_DELETE, MF_DOC_KNOWLEDGE, user_id, ids,
                        count, err);
}

mf_rc mf_sqlite_knowledge_scan(mf_conn *conn, mf_uuid user_id, mf_knowledge_fn each,
                               void *ctx, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_KNOWLEDGE_SCAN, &q, err));
    mf_query_bind_id(&q, &user_id);
    bool found = true;
    mf_rc rc = MF_OK;
    while (rc == MF_OK && (rc = mf_query_step(&q, &found, err)) == MF_OK && found) {
        mf_knowledge_row row;
        read_knowledge(&q, NULL, &row);
        rc = mf_query_check(&q, err);
        if (rc == MF_OK) {
            rc = each(ctx, &row, err);
        }
    }
    mf_query_close(&q);
    return rc;
}

/* --- chunks --- */

static mf_rc drop_parts_behind(mf_sqlite_conn *conn, const mf_uuid *user_id,
                               const mf_chunk_row *row, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_CHUNK_DELETE_BEHIND, &q, err));
    mf_query_bind_id(&q, user_id);
    mf_query_bind_int(&q, row->kind);
    mf_query_bind_int(&q, row->num);
    mf_query_bind_int(&q, row->part);
    return mf_query_run(&q, err);
}

mf_rc mf_sqlite_chunk_put(mf_conn *conn, mf_uuid user_id, const mf_chunk_row *row,
                          mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_MODEL_ADD, &q, err));
    mf_query_bind_text(&q, row->model);
    mf_query_bind_size(&q, row->dim);
    MF_TRY(mf_query_run(&q, err));
    MF_TRY(mf_query_open(c,
                         row->kind == MF_DOC_MESSAGE ? MF_SQL_CHUNK_PUT_MESSAGE
                                                     : MF_SQL_CHUNK_PUT_KNOWLEDGE,
                         &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_int(&q, row->num);
    mf_query_bind_int(&q, row->part);
    mf_query_bind_int(&q, row->part_count);
    mf_query_bind_int(&q, row->doc_updated_us);
    mf_query_bind_text(&q, row->model);
    mf_query_bind_size(&q, row->dim);
    mf_query_bind_bytes(&q, row->vector, row->dim * sizeof row->vector[0]);
    bool has_content = !mf_content_key_is_none(&row->content);
    mf_query_bind_bytes(&q, has_content ? row->content.b : NULL, sizeof row->content.b);
    mf_query_bind_int(&q, row->doc_revision);
    MF_TRY(mf_query_run(&q, err));
    bool stored = sqlite3_changes64(c->db) > 0;
    return stored && row->part + 1 == row->part_count
               ? drop_parts_behind(c, &user_id, row, err)
               : MF_OK;
}

static mf_rc find_one(mf_query *q, const mf_content_key *key, size_t dim,
                      uint16_t *vector, bool *found, mf_err *err) {
    bool row = false;
    mf_query_bind_bytes(q, key->b, sizeof key->b);
    MF_TRY(mf_query_step(q, &row, err));
    if (row) {
        mf_str bytes = mf_query_bytes(q, 0);
        MF_TRY(mf_query_check(q, err));
        if (bytes.len == dim * sizeof *vector && dim > 0) {
            memcpy(vector, bytes.p, bytes.len);
            *found = true;
        }
    }
    mf_query_again(q);
    return MF_OK;
}

mf_rc mf_sqlite_chunk_find(mf_conn *conn, const mf_content_key *keys, size_t count,
                           size_t dim, uint16_t *vectors, bool *found, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    mf_query q;
    bool opened = false;
    MF_TRY(mf_sqlite_hold(c, &opened, err));
    mf_rc rc = mf_query_open(c, MF_SQL_CHUNK_FIND, &q, err);
    if (rc == MF_OK) {
        for (size_t i = 0; i < count && rc == MF_OK; i++) {
            rc = find_one(&q, &keys[i], dim, vectors + i * dim, &found[i], err);
        }
        mf_query_close(&q);
    }
    mf_sqlite_let_go(c, opened);
    return rc;
}

mf_rc mf_sqlite_content_secret(mf_conn *conn, mf_content_key *out, mf_err *err) {
    mf_query q;
    bool row = false;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_CONTENT_SECRET, &q, err));
    mf_rc rc = mf_query_step(&q, &row, err);
    mf_str bytes = rc == MF_OK && row ? mf_query_bytes(&q, 0) : MF_STR_NONE;
    if (rc == MF_OK && bytes.len == sizeof out->b) {
        memcpy(out->b, bytes.p, sizeof out->b);
    } else if (rc == MF_OK) {
        rc = MF_FAIL(err, MF_E_CORRUPT, "the secret of the content keys is missing");
    }
    mf_query_close(&q);
    return rc;
}

/* A vector copied to where its numbers are aligned; grows with the longest seen. */
typedef struct vector_space {
    uint16_t *p;
    size_t capacity;
} vector_space;

static mf_rc read_chunk(mf_query *q, vector_space *space, mf_chunk_row *out,
                        mf_err *err) {
    mf_str bytes = mf_query_bytes(q, 7);
    size_t dim = (size_t)mf_query_int(q, 6);
    if (bytes.len % sizeof(uint16_t) != 0 || bytes.len / sizeof(uint16_t) != dim) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "a stored vector does not have its model's size");
    }
    if (dim > space->capacity) {
        uint16_t *more = mf_realloc(space->p, bytes.len);
        if (more == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a vector of %zu numbers",
                           dim);
        }
        *space = (vector_space){more, dim};
    }
    if (dim > 0) {
        memcpy(space->p, bytes.p, bytes.len);
    }
    *out = (mf_chunk_row){.kind = (mf_doc_kind)mf_query_int(q, 0),
                          .num = mf_query_int(q, 1),
                          .part = (int32_t)mf_query_int(q, 2),
                          .part_count = (int32_t)mf_query_int(q, 3),
                          .doc_updated_us = mf_query_int(q, 4),
                          .model = mf_query_text(q, 5, NULL),
                          .vector = space->p,
                          .dim = dim};
    return mf_query_check(q, err);
}

mf_rc mf_sqlite_chunk_scan(mf_conn *conn, mf_uuid user_id, mf_chunk_fn each, void *ctx,
                           mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_CHUNK_SCAN, &q, err));
    mf_query_bind_id(&q, &user_id);
    vector_space space = {0};
    bool found = true;
    mf_rc rc = MF_OK;
    while (rc == MF_OK && (rc = mf_query_step(&q, &found, err)) == MF_OK && found) {
        mf_chunk_row row;
        rc = read_chunk(&q, &space, &row, err);
        if (rc == MF_OK) {
            rc = each(ctx, &row, err);
        }
    }
    mf_query_close(&q);
    mf_free(space.p);
    return rc;
}
