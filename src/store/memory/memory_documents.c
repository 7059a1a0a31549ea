/* memory_documents.c - messages, knowledge and their vectors in memory. */
#include "store/memory/memory_conn.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"

static const mf_text_field message_texts[] = {
    {offsetof(mf_message_row, content), false},
    {offsetof(mf_message_row, metadata), true},
};
static const mf_row_shape message_shape = {"message", sizeof(mf_message_row),
                                           message_texts, 2};
static const mf_text_field knowledge_texts[] = {
    {offsetof(mf_knowledge_row, content), false}};
static const mf_row_shape knowledge_shape = {"knowledge item", sizeof(mf_knowledge_row),
                                             knowledge_texts, 1};

/* --- what both kinds share --- */

typedef struct doc_table {
    char by_num, by_id;
    mf_doc_kind kind;
    const mf_row_shape *shape;
} doc_table;

static const doc_table messages = {'m', 'i', MF_DOC_MESSAGE, &message_shape};
static const doc_table knowledge = {'k', 'j', MF_DOC_KNOWLEDGE, &knowledge_shape};

static mf_key chunks_of_document(mf_uuid user_id, mf_doc_kind kind, int64_t num) {
    mf_key key = mf_key_of_id_num('c', user_id, kind);
    mf_key_num(&key, num);
    return key;
}

static bool num_of_id(const mf_tree *view, const doc_table *table, mf_uuid user_id,
                      mf_uuid id, int64_t *out) {
    mf_key key = mf_key_of_ids(table->by_id, user_id, id);
    return mf_memory_get_num(view, &key, out);
}

/* Fills rows[i] when there is one; leaves it zeroed otherwise. */
static mf_rc read_by_num(const mf_tree *view, const doc_table *table, mf_uuid user_id,
                         int64_t num, mf_arena *arena, void *out, mf_err *err) {
    mf_key key = mf_key_of_id_num(table->by_num, user_id, num);
    if (!mf_memory_has(view, &key)) {
        memset(out, 0, table->shape->size);
        return MF_OK;
    }
    return mf_memory_get_row(view, &key, table->shape, "num", arena, out, err);
}

/* By ids, or by nums when `ids` is NULL. */
static mf_rc get_many(mf_conn *conn, const doc_table *table, mf_uuid user_id,
                      const mf_uuid *ids, const int64_t *nums, size_t count,
                      mf_arena *arena, void *rows, mf_err *err) {
    if (count == 0) {
        return MF_OK;
    }
    void *got = mf_arena_alloc_array(arena, count, table->shape->size);
    if (got == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu rows", count);
    }
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < count && rc == MF_OK; i++) {
        int64_t num = ids == NULL ? nums[i] : 0;
        if (ids == NULL || num_of_id(view, table, user_id, ids[i], &num)) {
            rc = read_by_num(view, table, user_id, num, arena,
                             (char *)got + i * table->shape->size, err);
        }
    }
    mf_view_close(view);
    if (rc == MF_OK) {
        memcpy(rows, got, count * table->shape->size);
    }
    return rc;
}

/* The num of a user's document, for a change of it. */
static mf_rc need_num(mf_memory_conn *c, const doc_table *table, mf_uuid user_id,
                      mf_uuid id, int64_t *out, mf_err *err) {
    return num_of_id(c->root, table, user_id, id, out)
               ? MF_OK
               : MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such %s",
                               table->shape->what);
}

/* --- rows of vectors --- */

/* The vector is kept as the second text of the row. */
typedef struct chunk_value {
    mf_chunk_row row;
    mf_str vector;
} chunk_value;

static const mf_text_field chunk_texts[] = {
    {offsetof(chunk_value, row.model), false},
    {offsetof(chunk_value, vector), false},
};
static const mf_row_shape chunk_shape = {"chunk", sizeof(chunk_value), chunk_texts, 2};

static mf_key content_key(const mf_content_key *content, mf_str chunk_key) {
    mf_key key;
    mf_uuid bytes;
    mf_key_start(&key, 'h');
    _Static_assert(sizeof bytes.b == sizeof content->b, "a key is as long as an id");
    memcpy(bytes.b, content->b, sizeof bytes.b);
    mf_key_id(&key, bytes);
    mf_key_text(&key, mf_str_sub(chunk_key, 1, chunk_key.len)); /* without its letter */
    return key;
}

/* Removes the chunk of this key, if there is one, and the way to it by its content. */
static mf_rc remove_chunk(mf_memory_conn *c, mf_str chunk_key, mf_err *err) {
    mf_entry entry;
    chunk_value value;
    if (!mf_tree_get(c->root, chunk_key, &entry)) {
        return MF_OK;
    }
    MF_TRY(mf_memory_read_row(entry.value, &chunk_shape, NULL, &value, err));
    if (!mf_content_key_is_none(&value.row.content)) {
        mf_key by_content = content_key(&value.row.content, chunk_key);
        MF_TRY(mf_memory_remove(c, &by_content, err));
    }
    return mf_tree_remove(&c->root, chunk_key, err);
}

/* Those whose keys start with `prefix`: of a document, or of a user. */
static mf_rc remove_chunks(mf_memory_conn *c, const mf_key *prefix, mf_err *err) {
    mf_walk walk = mf_walk_start(c->root, prefix);
    while (mf_walk_next(&walk)) {
        mf_key key = {.len = walk.entry.key.len};
        memcpy(key.bytes, walk.entry.key.p, key.len);
        MF_TRY(remove_chunk(c, mf_key_view(&key), err));
        walk = mf_walk_start(c->root, prefix); /* the tree has changed under the walk */
    }
    return MF_OK;
}

/* --- messages --- */

static mf_key session_key(mf_uuid user_id, mf_uuid session_id, int64_t num) {
    mf_key key = mf_key_of_ids('l', user_id, session_id);
    mf_key_num(&key, num);
    return key;
}

static mf_rc insert_one(mf_memory_conn *c, const mf_message_row *row, int64_t num,
                        mf_err *err) {
    mf_session_row session;
    mf_rc rc = mf_memory_session_get(&c->base, row->session_id, NULL, &session, err);
    if (rc == MF_E_NOTFOUND ||
        (rc == MF_OK && !mf_uuid_eq(session.user_id, row->user_id))) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "session_id",
                             "the user has no such place for it");
    }
    MF_TRY(rc);
    mf_key by_id = mf_key_of_ids(messages.by_id, row->user_id, row->id);
    if (mf_memory_has(c->root, &by_id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "id", "the id is taken");
    }
    mf_message_row stored = *row;
    stored.num = num;
    stored.revision = 0;
    mf_key by_num = mf_key_of_id_num(messages.by_num, row->user_id, num);
    mf_key by_session = session_key(row->user_id, row->session_id, num);
    MF_TRY(mf_memory_put_row(c, &by_num, &message_shape, &stored, err));
    MF_TRY(mf_memory_put_num(c, &by_id, num, err));
    return mf_memory_put_mark(c, &by_session, err);
}

mf_rc mf_memory_message_insert(mf_conn *conn, mf_message_row *rows, size_t count,
                               mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    int64_t first = c->store->num_last + 1;
    for (size_t i = 0; i < count; i++) {
        MF_TRY(insert_one(c, &rows[i], ++c->store->num_last, err));
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].num = first + (int64_t)i;
    }
    return MF_OK;
}

static int id_order(const void *a, const void *b) {
    const mf_message_row *x = a;
    const mf_message_row *y = b;
    return memcmp(x->id.b, y->id.b, sizeof x->id.b);
}

static void reverse(mf_message_row *rows, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        mf_message_row row = rows[i];
        rows[i] = rows[count - 1 - i];
        rows[count - 1 - i] = row;
    }
}

/* Messages of a session by rising or falling num, at most `limit`. */
static mf_rc collect(const mf_tree *view, mf_uuid user_id, mf_uuid session_id,
                     const mf_message_range *range, bool descending, size_t limit,
                     mf_rows *list, mf_err *err) {
    mf_key at =
        session_key(user_id, session_id, descending ? range->num_to : range->num_from);
    mf_key session = mf_key_of_ids('l', user_id, session_id);
    mf_entry entry;
    bool (*next)(const mf_tree *, mf_str, bool, mf_entry *) =
        descending ? mf_tree_before : mf_tree_after;
    bool found = next(view, mf_key_view(&at), true, &entry);
    while (found && list->count < limit &&
           mf_str_starts(entry.key, mf_key_view(&session))) {
        int64_t num = mf_key_last_num(entry.key);
        if (num < range->num_from || num > range->num_to) {
            break;
        }
        mf_message_row *row = mf_rows_add(list);
        if (row == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of messages");
        }
        MF_TRY(read_by_num(view, &messages, user_id, num, list->arena, row, err));
        found = next(view, entry.key, false, &entry);
    }
    return MF_OK;
}

mf_rc mf_memory_message_list(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                             const mf_message_range *range, mf_arena *arena,
                             mf_message_row **rows, size_t *count, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_message_row));
    bool by_num = !range->by_id;
    mf_rc rc = collect(view, user_id, session_id, range, by_num && range->descending,
                       by_num ? range->limit : SIZE_MAX, &list, err);
    mf_view_close(view);
    if (rc != MF_OK) {
        return rc;
    }
    if (range->by_id && list.count > 0) {
        qsort(list.rows, list.count, sizeof(mf_message_row), id_order);
        if (range->descending) {
            reverse(list.rows, list.count);
        }
    }
    *rows = list.rows;
    *count = list.count < range->limit ? list.count : range->limit;
    return MF_OK;
}

mf_rc mf_memory_message_get(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                            const mf_uuid *ids, size_t count, mf_arena *arena,
                            mf_message_row *rows, mf_err *err) {
    MF_TRY(get_many(conn, &messages, user_id, ids, NULL, count, arena, rows, err));
    if (!mf_uuid_is_none(session_id)) {
        for (size_t i = 0; i < count; i++) {
            if (!mf_uuid_eq(rows[i].session_id, session_id)) {
                rows[i] = (mf_message_row){0};
            }
        }
    }
    return MF_OK;
}

mf_rc mf_memory_message_get_by_num(mf_conn *conn, mf_uuid user_id, const int64_t *nums,
                                   size_t count, mf_arena *arena, mf_message_row *rows,
                                   mf_err *err) {
    return get_many(conn, &messages, user_id, NULL, nums, count, arena, rows, err);
}

mf_rc mf_memory_message_update(mf_conn *conn, const mf_message_row *row, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    int64_t num = 0;
    mf_message_row stored;
    MF_TRY(need_num(c, &messages, row->user_id, row->id, &num, err));
    MF_TRY(read_by_num(c->root, &messages, row->user_id, num, NULL, &stored, err));
    stored.role = row->role;
    stored.content = row->content;
    stored.updated_us = row->updated_us;
    mf_key key = mf_key_of_id_num(messages.by_num, row->user_id, num);
    mf_key chunks = chunks_of_document(row->user_id, MF_DOC_MESSAGE, num);
    MF_TRY(mf_memory_put_row(c, &key, &message_shape, &stored, err));
    return remove_chunks(c, &chunks, err);
}

static mf_rc touch_message(mf_memory_conn *c, mf_uuid user_id, int64_t num,
                           mf_err *err) {
    mf_message_row stored;
    MF_TRY(read_by_num(c->root, &messages, user_id, num, NULL, &stored, err));
    if (stored.num == 0) {
        return MF_OK;
    }
    stored.revision++;
    mf_key key = mf_key_of_id_num(messages.by_num, user_id, num);
    mf_key chunks = chunks_of_document(user_id, MF_DOC_MESSAGE, num);
    MF_TRY(mf_memory_put_row(c, &key, &message_shape, &stored, err));
    return remove_chunks(c, &chunks, err);
}

mf_rc mf_memory_message_touch(mf_conn *conn, mf_uuid user_id, const int64_t *nums,
                              size_t count, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    for (size_t i = 0; i < count; i++) {
        MF_TRY(touch_message(c, user_id, nums[i], err));
    }
    return MF_OK;
}

static mf_rc delete_message(mf_memory_conn *c, mf_uuid user_id, int64_t num,
                            mf_err *err) {
    mf_message_row row;
    MF_TRY(read_by_num(c->root, &messages, user_id, num, NULL, &row, err));
    mf_key by_num = mf_key_of_id_num(messages.by_num, user_id, num);
    mf_key by_id = mf_key_of_ids(messages.by_id, user_id, row.id);
    mf_key by_session = session_key(user_id, row.session_id, num);
    mf_key chunks = chunks_of_document(user_id, MF_DOC_MESSAGE, num);
    MF_TRY(mf_memory_remove(c, &by_num, err));
    MF_TRY(mf_memory_remove(c, &by_id, err));
    MF_TRY(mf_memory_remove(c, &by_session, err));
    return remove_chunks(c, &chunks, err);
}

mf_rc mf_memory_message_delete(mf_conn *conn, mf_uuid user_id, const mf_uuid *ids,
                               size_t count, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    for (size_t i = 0; i < count; i++) {
        int64_t num = 0;
        if (num_of_id(c->root, &messages, user_id, ids[i], &num)) {
            MF_TRY(delete_message(c, user_id, num, err));
        }
    }
    return MF_OK;
}

mf_rc mf_memory_remove_messages_of_session(mf_memory_conn *conn, mf_uuid user_id,
                                           mf_uuid session_id, mf_err *err) {
    mf_key prefix = mf_key_of_ids('l', user_id, session_id);
    mf_walk walk = mf_walk_start(conn->root, &prefix);
    while (mf_walk_next(&walk)) {
        MF_TRY(delete_message(conn, user_id, mf_key_last_num(walk.entry.key), err));
        walk = mf_walk_start(conn->root,
                             &prefix); /* the tree has changed under the walk */
    }
    return MF_OK;
}

mf_rc mf_memory_message_scan(mf_conn *conn, mf_uuid user_id, mf_message_fn each,
                             void *ctx, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_key prefix = mf_key_of_id(messages.by_num, user_id);
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_message_row row;
        rc = mf_memory_read_row(walk.entry.value, &message_shape, NULL, &row, err);
        if (rc == MF_OK) {
            rc = each(ctx, &row, err);
        }
    }
    mf_view_close(view);
    return rc;
}

/* --- knowledge --- */

mf_rc mf_memory_knowledge_insert(mf_conn *conn, mf_knowledge_row *rows, size_t count,
                                 mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    int64_t first = c->store->num_last + 1;
    for (size_t i = 0; i < count; i++) {
        mf_knowledge_row stored = rows[i];
        stored.num = ++c->store->num_last;
        mf_key user = mf_key_of_id('u', stored.user_id);
        mf_key by_id = mf_key_of_ids(knowledge.by_id, stored.user_id, stored.id);
        mf_key by_num = mf_key_of_id_num(knowledge.by_num, stored.user_id, stored.num);
        if (!mf_memory_has(c->root, &user)) {
            return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
        }
        if (mf_memory_has(c->root, &by_id)) {
            return MF_FAIL_FIELD(err, MF_E_EXISTS, "id", "the id is taken");
        }
        MF_TRY(mf_memory_put_row(c, &by_num, &knowledge_shape, &stored, err));
        MF_TRY(mf_memory_put_num(c, &by_id, stored.num, err));
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].num = first + (int64_t)i;
    }
    return MF_OK;
}

mf_rc mf_memory_knowledge_scan(mf_conn *conn, mf_uuid user_id, mf_knowledge_fn each,
                               void *ctx, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_key prefix = mf_key_of_id(knowledge.by_num, user_id);
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_knowledge_row row;
        rc = mf_memory_read_row(walk.entry.value, &knowledge_shape, NULL, &row, err);
        if (rc == MF_OK) {
            rc = each(ctx, &row, err);
        }
    }
    mf_view_close(view);
    return rc;
}

static mf_rc add_to_list(void *ctx, const mf_knowledge_row *row, mf_err *err) {
    mf_rows *list = ctx;
    mf_str content = mf_arena_str(list->arena, row->content);
    mf_knowledge_row *copy = content.p == NULL ? NULL : mf_rows_add(list);
    if (copy == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of knowledge items");
    }
    *copy = *row;
    copy->content = content;
    return MF_OK;
}

mf_rc mf_memory_knowledge_list(mf_conn *conn, mf_uuid user_id, mf_arena *arena,
                               mf_knowledge_row **rows, size_t *count, mf_err *err) {
    mf_rows list = mf_rows_of(arena, sizeof(mf_knowledge_row));
    MF_TRY(mf_memory_knowledge_scan(conn, user_id, add_to_list, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

mf_rc mf_memory_knowledge_get(mf_conn *conn, mf_uuid user_id, const mf_uuid *ids,
                              size_t count, mf_arena *arena, mf_knowledge_row *rows,
                              mf_err *err) {
    return get_many(conn, &knowledge, user_id, ids, NULL, count, arena, rows, err);
}

mf_rc mf_memory_knowledge_get_by_num(mf_conn *conn, mf_uuid user_id,
                                     const int64_t *nums, size_t count, mf_arena *arena,
                                     mf_knowledge_row *rows, mf_err *err) {
    return get_many(conn, &knowledge, user_id, NULL, nums, count, arena, rows, err);
}

mf_rc mf_memory_knowledge_update(mf_conn *conn, const mf_knowledge_row *row,
                                 mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    int64_t num = 0;
    mf_knowledge_row stored;
    MF_TRY(need_num(c, &knowledge, row->user_id, row->id, &num, err));
    MF_TRY(read_by_num(c->root, &knowledge, row->user_id, num, NULL, &stored, err));
    stored.content = row->content;
    stored.updated_us = row->updated_us;
    mf_key key = mf_key_of_id_num(knowledge.by_num, row->user_id, num);
    mf_key chunks = chunks_of_document(row->user_id, MF_DOC_KNOWLEDGE, num);
    MF_TRY(mf_memory_put_row(c, &key, &knowledge_shape, &stored, err));
    return remove_chunks(c, &chunks, err);
}

mf_rc mf_memory_knowledge_delete(mf_conn *conn, mf_uuid user_id, const mf_uuid *ids,
                                 size_t count, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    for (size_t i = 0; i < count; i++) {
        int64_t num = 0;
        if (!num_of_id(c->root, &knowledge, user_id, ids[i], &num)) {
            continue;
        }
        mf_key by_num = mf_key_of_id_num(knowledge.by_num, user_id, num);
        mf_key by_id = mf_key_of_ids(knowledge.by_id, user_id, ids[i]);
        mf_key chunks = chunks_of_document(user_id, MF_DOC_KNOWLEDGE, num);
        MF_TRY(mf_memory_remove(c, &by_num, err));
        MF_TRY(mf_memory_remove(c, &by_id, err));
        MF_TRY(remove_chunks(c, &chunks, err));
    }
    return MF_OK;
}

mf_rc mf_memory_remove_documents_of_user(mf_memory_conn *conn, mf_uuid user_id,
                                         mf_err *err) {
    static const char tables[] = {'m', 'i', 'l', 'k', 'j'};
    mf_key chunks = mf_key_of_id('c', user_id);
    MF_TRY(remove_chunks(conn, &chunks, err));
    for (size_t i = 0; i < sizeof tables; i++) {
        mf_key prefix = mf_key_of_id(tables[i], user_id);
        MF_TRY(mf_memory_remove_all(conn, &prefix, err));
    }
    return MF_OK;
}

/* --- cold texts: they stay as they are --- */

mf_rc mf_memory_text_train(mf_conn *conn, mf_arena *arena, mf_str *dictionary,
                           mf_err *err) {
    (void)conn;
    (void)arena;
    (void)err; /* it cannot fail */
    *dictionary = MF_STR_NONE;
    return MF_OK;
}

mf_rc mf_memory_text_dictionary_add(mf_conn *conn, mf_str dictionary, mf_err *err) {
    MF_ASSERT(mf_memory_conn_of(conn)->in_transaction);
    (void)dictionary;
    (void)err; /* it cannot fail */
    return MF_OK;
}

mf_rc mf_memory_text_compress(mf_conn *conn, const mf_text_limits *limits,
                              mf_text_slice *out, mf_err *err) {
    MF_ASSERT(mf_memory_conn_of(conn)->in_transaction);
    (void)limits;
    (void)err; /* it cannot fail */
    *out = (mf_text_slice){0};
    return MF_OK;
}

/* --- chunks --- */

/* When the document as the vector saw it is still there. */
static bool is_current(const mf_tree *view, mf_uuid user_id, const mf_chunk_row *row) {
    mf_message_row message = {0};
    mf_knowledge_row item = {0};
    mf_rc rc = MF_OK;
    if (row->kind == MF_DOC_MESSAGE) {
        rc = read_by_num(view, &messages, user_id, row->num, NULL, &message, NULL);
        return rc == MF_OK && message.num != 0 &&
               message.updated_us == row->doc_updated_us &&
               message.revision == row->doc_revision;
    }
    rc = read_by_num(view, &knowledge, user_id, row->num, NULL, &item, NULL);
    return rc == MF_OK && item.num != 0 && item.updated_us == row->doc_updated_us &&
           row->doc_revision == 0;
}

/* Removes what follows the document's last part. */
static mf_rc remove_behind(mf_memory_conn *c, mf_uuid user_id, const mf_chunk_row *row,
                           mf_err *err) {
    for (int32_t part = row->part + 1;; part++) {
        mf_key key = chunks_of_document(user_id, row->kind, row->num);
        mf_key_num(&key, part);
        if (!mf_memory_has(c->root, &key)) {
            return MF_OK;
        }
        MF_TRY(remove_chunk(c, mf_key_view(&key), err));
    }
}

mf_rc mf_memory_chunk_put(mf_conn *conn, mf_uuid user_id, const mf_chunk_row *row,
                          mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    if (!is_current(c->root, user_id, row)) {
        return MF_OK;
    }
    mf_key key = chunks_of_document(user_id, row->kind, row->num);
    mf_key_num(&key, row->part);
    chunk_value value = {
        .row = *row,
        .vector = {(const char *)row->vector, row->dim * sizeof row->vector[0]},
    };
    value.row.vector = NULL;
    MF_TRY(remove_chunk(c, mf_key_view(&key), err));
    if (!mf_content_key_is_none(&row->content)) {
        mf_key by_content = content_key(&row->content, mf_key_view(&key));
        MF_TRY(mf_memory_put_mark(c, &by_content, err));
    }
    MF_TRY(mf_memory_put_row(c, &key, &chunk_shape, &value, err));
    return row->part + 1 == row->part_count ? remove_behind(c, user_id, row, err)
                                            : MF_OK;
}

/* The key of a chunk with this content, for the first entry found. */
static bool chunk_of_content(const mf_tree *view, const mf_content_key *content,
                             mf_key *out) {
    mf_key prefix = content_key(content, MF_STR("c"));
    mf_walk walk = mf_walk_start(view, &prefix);
    if (!mf_walk_next(&walk)) {
        return false;
    }
    mf_key_start(out, 'c');
    mf_key_text(out, mf_str_sub(walk.entry.key, prefix.len, walk.entry.key.len));
    return true;
}

mf_rc mf_memory_chunk_find(mf_conn *conn, const mf_content_key *keys, size_t count,
                           size_t dim, uint16_t *vectors, bool *found, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < count && rc == MF_OK; i++) {
        mf_key key;
        chunk_value value;
        if (!chunk_of_content(view, &keys[i], &key)) {
            continue;
        }
        rc = mf_memory_get_row(view, &key, &chunk_shape, "content", NULL, &value, err);
        if (rc == MF_OK && value.row.dim == dim && dim > 0) {
            memcpy(vectors + i * dim, value.vector.p, value.vector.len);
            found[i] = true;
        }
    }
    mf_view_close(view);
    return rc;
}

mf_rc mf_memory_content_secret(mf_conn *conn, mf_content_key *out, mf_err *err) {
    (void)err; /* it cannot fail */
    *out = mf_memory_conn_of(conn)->store->content_secret;
    return MF_OK;
}

/* The row of an entry; its vector is copied to where its numbers are aligned. */
static mf_rc read_chunk(mf_str entry, uint16_t **space, size_t *capacity,
                        mf_chunk_row *out, mf_err *err) {
    chunk_value value;
    MF_TRY(mf_memory_read_row(entry, &chunk_shape, NULL, &value, err));
    if (value.row.dim > *capacity) {
        uint16_t *more = mf_realloc(*space, value.vector.len);
        if (more == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a vector");
        }
        *space = more;
        *capacity = value.row.dim;
    }
    if (value.row.dim > 0) {
        memcpy(*space, value.vector.p, value.vector.len);
    }
    *out = value.row;
    out->vector = *space;
    out->content = MF_CONTENT_KEY_NONE;
    return MF_OK;
}

mf_rc mf_memory_chunk_scan(mf_conn *conn, mf_uuid user_id, mf_chunk_fn each, void *ctx,
                           mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_key prefix = mf_key_of_id('c', user_id);
    mf_walk walk = mf_walk_start(view, &prefix);
    uint16_t *space = NULL;
    size_t capacity = 0;
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_chunk_row row;
        rc = read_chunk(walk.entry.value, &space, &capacity, &row, err);
        if (rc == MF_OK) {
            rc = each(ctx, &row, err);
        }
    }
    mf_view_close(view);
    mf_free(space);
    return rc;
}
