/* memory_conn.c - versions, keys and rows of the memory backend. */
#include "store/memory/memory_conn.h"

#include "base/assert.h"

/* --- versions --- */

mf_tree *mf_view_open(mf_memory_conn *conn) {
    if (conn->in_transaction) {
        return mf_tree_ref(conn->root);
    }
    mf_mutex_lock(&conn->store->store_mu);
    mf_tree *view = mf_tree_ref(conn->store->committed);
    mf_mutex_unlock(&conn->store->store_mu);
    return view;
}

void mf_view_close(mf_tree *view) {
    mf_tree_unref(view);
}

/* --- keys --- */

static void key_add(mf_key *key, const void *bytes, size_t len) {
    if (len > sizeof key->bytes - key->len) {
        key->too_long = true;
    } else if (len > 0) {
        memcpy(key->bytes + key->len, bytes, len);
        key->len += len;
    }
}

void mf_key_start(mf_key *key, char table) {
    key->bytes[0] = table;
    key->len = 1;
    key->too_long = false;
}

void mf_key_id(mf_key *key, mf_uuid id) {
    key_add(key, id.b, MF_UUID_BYTES);
}

/* With the sign bit turned over, the order of bytes is the order of numbers. */
void mf_key_num(mf_key *key, int64_t num) {
    uint64_t bits = (uint64_t)num ^ (UINT64_C(1) << 63);
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(bits >> (56 - 8 * i));
    }
    key_add(key, bytes, sizeof bytes);
}

void mf_key_text(mf_key *key, mf_str text) {
    if (text.len > MF_MEMORY_NAME_MAX) {
        key->too_long = true;
    } else {
        key_add(key, text.p, text.len);
    }
}

mf_key mf_key_of_num(char table, int64_t num) {
    mf_key key;
    mf_key_start(&key, table);
    mf_key_num(&key, num);
    return key;
}

mf_key mf_key_of_id(char table, mf_uuid id) {
    mf_key key;
    mf_key_start(&key, table);
    mf_key_id(&key, id);
    return key;
}

mf_key mf_key_of_id_num(char table, mf_uuid id, int64_t num) {
    mf_key key = mf_key_of_id(table, id);
    mf_key_num(&key, num);
    return key;
}

mf_key mf_key_of_ids(char table, mf_uuid id, mf_uuid id2) {
    mf_key key = mf_key_of_id(table, id);
    mf_key_id(&key, id2);
    return key;
}

mf_key mf_key_of_text(char table, mf_str text) {
    mf_key key;
    mf_key_start(&key, table);
    mf_key_text(&key, text);
    return key;
}

mf_key mf_key_of_id_text(char table, mf_uuid id, mf_str text) {
    mf_key key = mf_key_of_id(table, id);
    mf_key_text(&key, text);
    return key;
}

int64_t mf_key_last_num(mf_str key) {
    MF_ASSERT(key.len > 8);
    uint64_t bits = 0;
    for (size_t i = key.len - 8; i < key.len; i++) {
        bits = bits << 8 | (unsigned char)key.p[i];
    }
    return (int64_t)(bits ^ (UINT64_C(1) << 63));
}

/* --- entries --- */

bool mf_memory_has(const mf_tree *view, const mf_key *key) {
    mf_entry entry;
    return !key->too_long && mf_tree_get(view, mf_key_view(key), &entry);
}

static bool get_fixed(const mf_tree *view, const mf_key *key, void *out, size_t size) {
    mf_entry entry;
    if (key->too_long || !mf_tree_get(view, mf_key_view(key), &entry)) {
        return false;
    }
    MF_ASSERT(entry.value.len == size);
    memcpy(out, entry.value.p, size);
    return true;
}

bool mf_memory_get_id(const mf_tree *view, const mf_key *key, mf_uuid *out) {
    return get_fixed(view, key, out->b, sizeof out->b);
}

bool mf_memory_get_num(const mf_tree *view, const mf_key *key, int64_t *out) {
    return get_fixed(view, key, out, sizeof *out);
}

static mf_rc put(mf_memory_conn *conn, const mf_key *key, mf_str part1, mf_str part2,
                 mf_err *err) {
    MF_ASSERT(conn->writer && conn->in_transaction);
    if (key->too_long) {
        return MF_FAIL(err, MF_E_LIMIT, "a name or key is longer than %d bytes",
                       (int)MF_MEMORY_NAME_MAX);
    }
    return mf_tree_put(&conn->root, mf_key_view(key), part1, part2, err);
}

mf_rc mf_memory_put_id(mf_memory_conn *conn, const mf_key *key, mf_uuid id,
                       mf_err *err) {
    return put(conn, key, mf_uuid_key(&id), MF_STR_NONE, err);
}

mf_rc mf_memory_put_num(mf_memory_conn *conn, const mf_key *key, int64_t num,
                        mf_err *err) {
    return put(conn, key, (mf_str){(const char *)&num, sizeof num}, MF_STR_NONE, err);
}

mf_rc mf_memory_put_mark(mf_memory_conn *conn, const mf_key *key, mf_err *err) {
    return put(conn, key, MF_STR_NONE, MF_STR_NONE, err);
}

mf_rc mf_memory_remove(mf_memory_conn *conn, const mf_key *key, mf_err *err) {
    MF_ASSERT(conn->writer && conn->in_transaction);
    return key->too_long ? MF_OK : mf_tree_remove(&conn->root, mf_key_view(key), err);
}

mf_rc mf_memory_remove_all(mf_memory_conn *conn, const mf_key *prefix, mf_err *err) {
    MF_ASSERT(conn->writer && conn->in_transaction);
    mf_entry entry;
    while (mf_tree_after(conn->root, mf_key_view(prefix), true, &entry) &&
           mf_str_starts(entry.key, mf_key_view(prefix))) {
        MF_TRY(mf_tree_remove(&conn->root, entry.key, err));
    }
    return MF_OK;
}

mf_walk mf_walk_start(const mf_tree *view, const mf_key *prefix) {
    return (mf_walk){.view = view, .prefix = *prefix};
}

bool mf_walk_next(mf_walk *walk) {
    mf_str prefix = mf_key_view(&walk->prefix);
    mf_str from = walk->started ? walk->entry.key : prefix;
    bool found = mf_tree_after(walk->view, from, !walk->started, &walk->entry);
    walk->started = true;
    return found && mf_str_starts(walk->entry.key, prefix);
}

/* --- rows --- */

enum { ROW_SIZE_MAX = 256 };

static mf_str *text_of(void *row, const mf_text_field *field) {
    return (mf_str *)(void *)((char *)row + field->offset);
}

mf_rc mf_memory_put_row(mf_memory_conn *conn, const mf_key *key,
                        const mf_row_shape *shape, const void *row, mf_err *err) {
    static const char present[] = "";
    _Alignas(max_align_t) char copy[ROW_SIZE_MAX];
    MF_ASSERT(shape->size <= sizeof copy);
    memcpy(copy, row, shape->size);
    mf_buf texts;
    mf_buf_init(&texts, SIZE_MAX - 1);
    for (size_t i = 0; i < shape->text_count; i++) {
        mf_str *text = text_of(copy, &shape->texts[i]);
        (void)mf_buf_add_str(&texts, *text); /* remembered in texts.failed */
        if (text->p != NULL || !shape->texts[i].optional) {
            text->p = present;
        }
    }
    mf_rc rc =
        texts.failed != MF_OK
            ? MF_FAIL(err, MF_E_NOMEM, "no memory for a %s", shape->what)
            : put(conn, key, (mf_str){copy, shape->size}, mf_buf_view(&texts), err);
    mf_buf_done(&texts);
    return rc;
}

mf_rc mf_memory_read_row(mf_str value, const mf_row_shape *shape, mf_arena *arena,
                         void *out, mf_err *err) {
    _Alignas(max_align_t) char row[ROW_SIZE_MAX];
    MF_ASSERT(shape->size <= sizeof row && value.len >= shape->size);
    memcpy(row, value.p, shape->size);
    const char *at = value.p + shape->size;
    for (size_t i = 0; i < shape->text_count; i++) {
        mf_str *text = text_of(row, &shape->texts[i]);
        if (text->p == NULL) {
            continue;
        }
        text->p = at;
        at += text->len;
        if (arena != NULL) {
            *text = mf_arena_str(arena, *text);
        }
        if (text->p == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a %s", shape->what);
        }
    }
    memcpy(out, row, shape->size);
    return MF_OK;
}

mf_rc mf_memory_get_row(const mf_tree *view, const mf_key *key,
                        const mf_row_shape *shape, const char *field, mf_arena *arena,
                        void *out, mf_err *err) {
    mf_entry entry;
    if (key->too_long || !mf_tree_get(view, mf_key_view(key), &entry)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, field, "no such %s", shape->what);
    }
    return mf_memory_read_row(entry.value, shape, arena, out, err);
}
