/* memory_conn.h - inside the memory backend: versions, keys and rows.
 *
 * The whole store is one tree (tree.h).  A key is a letter naming a table, then ids (16
 * bytes), numbers (8 bytes, most significant first) and at most one text at the end, so
 * the entries of a table or of a user lie together and in order:
 *
 *   u user -> row            U seq -> user         n name -> user
 *   a agent -> row           A seq -> agent        o name -> agent
 *   s session -> row         S seq -> session      t user name -> session
 *   p user seq -> session    q agent seq -> session
 *   m user num -> row        i user id -> num      l user session num -> nothing
 *   k user num -> row        j user id -> num
 *   c user kind num part -> row   h content user kind num part -> nothing
 *   b user -> nothing        d user key -> record
 *   w user session -> num (session none: of all of them)
 *   z user key -> setting
 *   y key -> row             Y user seq -> key
 *   g job -> row             G num -> job          v user num -> job
 *   e user kind num -> job   x user kind -> job    f user kind key num -> job
 *   r kind priority due num -> job                 W lease num -> job
 *
 * A row's value is its struct, then its texts one after the other; the struct's text
 * pointers mean only "there is one" until the row is read. */
#ifndef MF_STORE_MEMORY_MEMORY_CONN_H
#define MF_STORE_MEMORY_MEMORY_CONN_H

#include "base/buf.h"
#include "base/mutex.h"
#include "store/memory/memory_store.h"
#include "store/memory/tree.h"
#include "store/rows.h"

typedef struct mf_memory_store {
    mf_store base;
    mf_mutex store_mu;
    /* guarded by store_mu */
    mf_tree *committed;
    bool writer_open;
    /* constant after open */
    mf_content_key content_secret;
    /* owned by the writer connection; they only grow */
    int64_t num_last, seq_last;
} mf_memory_store;

typedef struct mf_memory_conn {
    mf_conn base;
    mf_memory_store *store;
    bool writer;
    bool in_transaction;  /* between begin and commit, or read_begin and read_end */
    mf_tree *root;        /* the transaction's version; one reference */
    mf_tree **savepoints; /* [savepoint_capacity], a reference each */
    size_t savepoint_count, savepoint_capacity;
} mf_memory_conn;

static inline mf_memory_conn *mf_memory_conn_of(mf_conn *conn) {
    return (mf_memory_conn *)conn;
}

/* The version a call reads: the open transaction's, else the newest committed one. */
mf_tree *mf_view_open(mf_memory_conn *conn);
void mf_view_close(mf_tree *view);

/* --- keys --- */

typedef struct mf_key {
    size_t len;
    bool too_long; /* a text did not fit: MF_E_LIMIT */
    char bytes[1 + 4 * MF_UUID_BYTES + MF_MEMORY_NAME_MAX];
} mf_key;

void mf_key_start(mf_key *key, char table);
void mf_key_id(mf_key *key, mf_uuid id);
void mf_key_num(mf_key *key, int64_t num);
void mf_key_text(mf_key *key, mf_str text);
static inline mf_str mf_key_view(const mf_key *key) {
    return (mf_str){key->bytes, key->len};
}
/* The usual forms. */
mf_key mf_key_of_num(char table, int64_t num);
mf_key mf_key_of_id(char table, mf_uuid id);
mf_key mf_key_of_id_num(char table, mf_uuid id, int64_t num);
mf_key mf_key_of_ids(char table, mf_uuid id, mf_uuid id2);
mf_key mf_key_of_text(char table, mf_str text);
mf_key mf_key_of_id_text(char table, mf_uuid id, mf_str text);
/* The number a key ends with. */
int64_t mf_key_last_num(mf_str key);

bool mf_memory_has(const mf_tree *view, const mf_key *key);
/* A look-up in an index: the id or number it leads to. */
bool mf_memory_get_id(const mf_tree *view, const mf_key *key, mf_uuid *out);
bool mf_memory_get_num(const mf_tree *view, const mf_key *key, int64_t *out);
MF_CHECKED mf_rc mf_memory_put_id(mf_memory_conn *conn, const mf_key *key, mf_uuid id,
                                  mf_err *err);
MF_CHECKED mf_rc mf_memory_put_num(mf_memory_conn *conn, const mf_key *key, int64_t num,
                                   mf_err *err);
MF_CHECKED mf_rc mf_memory_put_mark(mf_memory_conn *conn, const mf_key *key,
                                    mf_err *err);
MF_CHECKED mf_rc mf_memory_remove(mf_memory_conn *conn, const mf_key *key, mf_err *err);
/* Removes every entry whose key starts with `prefix`. */
MF_CHECKED mf_rc mf_memory_remove_all(mf_memory_conn *conn, const mf_key *prefix,
                                      mf_err *err);

/* A walk over the keys that start with a prefix, rising. */
typedef struct mf_walk {
    const mf_tree *view;
    mf_key prefix;
    mf_entry entry; /* where it stands */
    bool started;
} mf_walk;
mf_walk mf_walk_start(const mf_tree *view, const mf_key *prefix);
bool mf_walk_next(mf_walk *walk);

/* --- rows --- */

typedef struct mf_text_field {
    size_t offset; /* of an mf_str in the row */
    bool optional; /* a .p of NULL is kept; else it is the empty text */
} mf_text_field;

typedef struct mf_row_shape {
    const char *what;
    size_t size;
    const mf_text_field *texts;
    size_t text_count;
} mf_row_shape;

MF_CHECKED mf_rc mf_memory_put_row(mf_memory_conn *conn, const mf_key *key,
                                   const mf_row_shape *shape, const void *row,
                                   mf_err *err);
/* Reads a row's value; its texts are copied to `arena`, or point into the entry when
 * that is NULL. */
MF_CHECKED mf_rc mf_memory_read_row(mf_str value, const mf_row_shape *shape,
                                    mf_arena *arena, void *out, mf_err *err);
/* Look-up and read; MF_E_NOTFOUND blames `field`. */
MF_CHECKED mf_rc mf_memory_get_row(const mf_tree *view, const mf_key *key,
                                   const mf_row_shape *shape, const char *field,
                                   mf_arena *arena, void *out, mf_err *err);

/* Parts of one file another needs. */
MF_CHECKED mf_rc mf_memory_remove_documents_of_user(mf_memory_conn *conn,
                                                    mf_uuid user_id, mf_err *err);
MF_CHECKED mf_rc mf_memory_remove_messages_of_session(mf_memory_conn *conn,
                                                      mf_uuid user_id,
                                                      mf_uuid session_id, mf_err *err);

MF_CHECKED mf_rc mf_memory_remove_jobs_of_user(mf_memory_conn *conn, mf_uuid user_id,
                                               mf_err *err);

/* The operations, by file. */
#define MF_STORE_CALL(op, params, args)                                                \
    mf_rc mf_memory_##op(mf_conn *conn, MF_STORE_LIST params mf_err *err);
#include "store/ops.def"
#undef MF_STORE_CALL

#endif
