/* user_load.c - a user's index: from the store, and kept up with what is committed.
 *
 *   COLD --first need--> LOADING --read from one fixed state--> LOADED
 *
 * The load reads sessions, messages, knowledge and chunks in one read transaction,
 * without any lock; the index it builds belongs to nobody else until it is published.
 * Changes committed meanwhile queue up (state is LOADING before the read begins, so
 * none is missed) and are applied like all others.  Some of them the snapshot already
 * has: adding a document that is there is skipped, replacing and removing are harmless
 * twice.
 *
 * An index that could not take a change, for want of memory, no longer tells the truth.
 * It is thrown away, and the next need loads it from the store. */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/map.h"
#include "num/half.h"
#include "service/user_impl.h"

enum {
    LOAD_ARENA_MAX = 512 << 20,
    SESSIONS_MAX = 1 << 26, /* of one user */
    DIM_WITHOUT_MODEL = 1,  /* such an index never gets a vector */
    READY_TRIES = 3,
    CHANGES_MANY = 256,
    DRAIN_MAX = 32 /* changes applied in one go */
};

typedef struct load {
    mf_user *user;
    mf_index *index;
    mf_map *sessions; /* session id -> mf_session_row */
    mf_str model;
    size_t dim;
    mf_index_key key; /* the document whose vectors are being gathered */
    float *vectors;   /* [vectors_max, dim] */
    size_t vectors_max;
    int32_t gathered; /* parts 0 .. gathered - 1 are there; -1: unusable */
} load;

static mf_rc add_document(load *l, const mf_index_facts *facts, mf_str text,
                          mf_err *err) {
    mf_index_doc *doc;
    MF_TRY(mf_index_doc_prepare(facts, text, &doc, err));
    return mf_index_add(l->index, doc, err);
}

static mf_rc load_message(void *ctx, const mf_message_row *row, mf_err *err) {
    load *l = ctx;
    const mf_session_row *session =
        mf_map_get(l->sessions, mf_uuid_key(&row->session_id));
    if (session == NULL) {
        return MF_FAIL(err, MF_E_CORRUPT, "message %lld belongs to no session",
                       (long long)row->num);
    }
    mf_index_facts facts = {
        .key = {.kind = MF_DOC_MESSAGE, .num = row->num},
        .session_id = row->session_id,
        .agent_id = session->agent_id,
        .created_us = row->created_us,
    };
    return add_document(l, &facts, row->content, err);
}

static mf_rc load_knowledge(void *ctx, const mf_knowledge_row *row, mf_err *err) {
    if (row->content.len == 0) {
        return MF_OK;
    }
    mf_index_facts facts = {.key = {.kind = MF_DOC_KNOWLEDGE, .num = row->num},
                            .created_us = row->created_us};
    return add_document(ctx, &facts, row->content, err);
}

static mf_rc reserve_vectors(load *l, size_t count, mf_err *err) {
    if (count <= l->vectors_max) {
        return MF_OK;
    }
    size_t bytes;
    float *grown = NULL;
    if (mf_mul_size(count * 2, l->dim * sizeof(float), &bytes)) {
        grown = mf_realloc(l->vectors, bytes);
    }
    if (grown == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu vectors", count);
    }
    l->vectors = grown;
    l->vectors_max = count * 2;
    return MF_OK;
}

/* Parts come in order; a document enters with its last one.  Vectors of another model
 * or way of cutting, or of a set that has gaps, are left out: the document is embedded
 * again. */
static mf_rc load_chunk(void *ctx, const mf_chunk_row *row, mf_err *err) {
    load *l = ctx;
    if (row->part == 0) {
        l->key = (mf_index_key){.kind = (uint8_t)row->kind, .num = row->num};
        l->gathered = 0;
    }
    bool fits = l->gathered == row->part && l->key.num == row->num &&
                l->key.kind == row->kind && row->dim == l->dim &&
                mf_str_eq(row->model, l->model);
    if (!fits) {
        l->gathered = -1;
        return MF_OK;
    }
    MF_TRY(reserve_vectors(l, (size_t)row->part + 1, err));
    mf_half_to_float(row->vector, l->vectors + (size_t)row->part * l->dim, l->dim);
    l->gathered++;
    if (l->gathered < row->part_count || !mf_index_has(l->index, l->key)) {
        return MF_OK;
    }
    mf_rc rc =
        mf_index_set_vectors(l->index, l->key, l->vectors, (size_t)l->gathered, err);
    return rc == MF_E_INVAL ? MF_OK : rc; /* damaged vectors: embed again */
}

static mf_rc load_sessions(load *l, mf_conn *conn, mf_arena *arena, mf_err *err) {
    mf_session_row *rows;
    size_t count;
    MF_TRY(conn->ops->session_list(conn, l->user->id, MF_UUID_NONE, arena, &rows,
                                   &count, err));
    MF_TRY(mf_map_new(SESSIONS_MAX, &l->sessions, err));
    for (size_t i = 0; i < count; i++) {
        mf_rc rc = mf_map_put(l->sessions, mf_uuid_key(&rows[i].id), &rows[i], NULL);
        if (rc != MF_OK) {
            return MF_FAIL(err, rc, "no room for %zu sessions", count);
        }
    }
    mf_user_learn_has_sessions(l->user, count > 0);
    return MF_OK;
}

static mf_rc load_all(load *l, mf_conn *conn, mf_arena *arena, mf_err *err) {
    mf_uuid user_id = l->user->id;
    MF_TRY(load_sessions(l, conn, arena, err));
    MF_TRY(conn->ops->message_scan(conn, user_id, load_message, l, err));
    MF_TRY(conn->ops->knowledge_scan(conn, user_id, load_knowledge, l, err));
    if (l->user->parts->embedder == NULL) {
        return MF_OK;
    }
    return conn->ops->chunk_scan(conn, user_id, load_chunk, l, err);
}

/* Builds the index from one fixed state of the store. */
static mf_rc read_index(mf_user *user, int64_t deadline_ns, mf_index **out,
                        mf_err *err) {
    const mf_service_parts *parts = user->parts;
    load l = {.user = user, .gathered = -1, .dim = DIM_WITHOUT_MODEL};
    if (parts->embedder != NULL) {
        l.model = mf_str_from(parts->vectors_from);
        l.dim = mf_embedder_dim(parts->embedder);
    }
    mf_arena *arena;
    mf_conn *conn = NULL;
    MF_TRY(mf_arena_new(LOAD_ARENA_MAX, &arena, err));
    mf_rc rc = mf_index_open(l.dim, &l.index, err);
    if (rc == MF_OK) {
        rc = mf_conn_acquire(parts->readers, deadline_ns, &conn, err);
    }
    if (rc == MF_OK) {
        rc = conn->ops->read_begin(conn, err);
        if (rc == MF_OK) {
            rc = load_all(&l, conn, arena, err);
            conn->ops->read_end(conn);
        }
        mf_conn_release(parts->readers, conn, rc);
    }
    mf_map_free(l.sessions);
    mf_free(l.vectors);
    mf_arena_free(arena);
    if (rc != MF_OK) {
        mf_index_close(l.index);
        return rc;
    }
    *out = l.index;
    return MF_OK;
}

void mf_user_publish(mf_user *user) {
    const mf_index *index = user->index;
    atomic_store(&user->documents, index != NULL ? mf_index_count(index) : 0);
    atomic_store(&user->vectors, index != NULL ? mf_index_vector_count(index) : 0);
    atomic_store(&user->bytes, index != NULL ? mf_index_bytes(index) : 0);
    atomic_store(&user->pending, index != NULL ? mf_index_pending_count(index) : 0);
    mf_user_account(user);
}

static mf_change *take_changes_locked(mf_user *user) MF_REQUIRES(user->state_mu) {
    mf_change *changes = user->first_change;
    user->first_change = NULL;
    user->last_change = NULL;
    user->change_count = 0;
    user->change_bytes = 0;
    return changes;
}

/* Puts `index` (NULL: none) in the place of the one there, and the state with it. */
static void replace_index(mf_user *user, mf_index *index) {
    mf_change *dropped = NULL;
    mf_rwlock_write(&user->index_lock);
    mf_index *old = user->index;
    user->index = index;
    mf_user_publish(user);
    mf_mutex_lock(&user->state_mu);
    if (index == NULL) {
        dropped = take_changes_locked(user); /* the next load reads them */
    }
    user->state = index != NULL ? MF_USER_LOADED : MF_USER_COLD;
    mf_cond_broadcast(&user->state_changed);
    mf_mutex_unlock(&user->state_mu);
    mf_rwlock_unlock_write(&user->index_lock);
    mf_index_close(old);
    mf_user_release_changes(dropped);
}

/* LOADED when it returns MF_OK, by this thread's work or another's. */
static mf_rc ensure_loaded(mf_user *user, int64_t deadline_ns, mf_err *err) {
    mf_mutex_lock(&user->state_mu);
    while (user->state == MF_USER_LOADING) {
        if (!mf_cond_wait(&user->state_changed, &user->state_mu, deadline_ns) &&
            user->state == MF_USER_LOADING) {
            mf_mutex_unlock(&user->state_mu);
            return MF_FAIL(err, MF_E_TIMEOUT, "the user's index is still being loaded");
        }
    }
    bool mine = user->state == MF_USER_COLD;
    if (mine) {
        user->state = MF_USER_LOADING;
    }
    mf_mutex_unlock(&user->state_mu);
    if (!mine) {
        return MF_OK;
    }
    mf_index *index = NULL;
    mf_span span = mf_metrics_begin(user->parts->metrics, MF_OPERATION_USER_LOAD);
    mf_rc rc = read_index(user, deadline_ns, &index, err);
    mf_metrics_end(span, rc);
    replace_index(user, index);
    return rc;
}

static mf_rc apply_document(mf_user *user, const mf_change *change,
                            const mf_change_doc *doc, mf_index_doc *prepared,
                            mf_err *err) {
    mf_index_key key = doc->facts.key;
    bool here = mf_index_has(user->index, key);
    if (change->kind == MF_CHANGE_REMOVE || prepared == NULL) {
        (void)mf_index_remove(user->index, key);
        return MF_OK;
    }
    if (change->kind == MF_CHANGE_ADD && here) {
        mf_index_doc_free(prepared); /* the load has read it already */
        return MF_OK;
    }
    return mf_index_add(user->index, prepared, err);
}

/* Under the index lock.  Takes the prepared documents in any case. */
static mf_rc apply_prepared(mf_user *user, const mf_change *change,
                            mf_index_doc **prepared, mf_err *err) {
    if (change->kind == MF_CHANGE_REMOVE_SESSION) {
        (void)mf_index_remove_session(user->index, change->session_id);
        return MF_OK;
    }
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < change->count; i++) {
        mf_index_doc *doc = prepared[i];
        prepared[i] = NULL;
        if (rc == MF_OK) {
            rc = apply_document(user, change, &change->docs[i], doc, err);
        } else {
            mf_index_doc_free(doc);
        }
    }
    for (size_t i = 0; i < change->touched_count; i++) {
        mf_index_drop_vectors(user->index, (mf_index_key){.kind = MF_DOC_MESSAGE,
                                                          .num = change->touched[i]});
    }
    return rc;
}

/* Words and stems are cut before the lock is taken; under it documents only move in. */
static mf_rc apply_change(mf_user *user, const mf_change *change, mf_err *err) {
    mf_index_doc **prepared = mf_alloc_zero(change->count + 1, sizeof(*prepared));
    if (prepared == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to index %zu documents",
                       change->count);
    }
    mf_rc rc = MF_OK;
    bool has_text = change->kind == MF_CHANGE_ADD || change->kind == MF_CHANGE_REPLACE;
    for (size_t i = 0; has_text && i < change->count && rc == MF_OK; i++) {
        if (change->docs[i].text.len > 0) {
            rc = mf_index_doc_prepare(&change->docs[i].facts, change->docs[i].text,
                                      &prepared[i], err);
        }
    }
    if (rc == MF_OK) {
        mf_rwlock_write(&user->index_lock);
        MF_ASSERT(user->index != NULL); /* only the draining thread throws it away */
        rc = apply_prepared(user, change, prepared, err);
        mf_user_publish(user);
        mf_rwlock_unlock_write(&user->index_lock);
    }
    for (size_t i = 0; i < change->count; i++) {
        mf_index_doc_free(prepared[i]);
    }
    mf_free(prepared);
    return rc;
}

/* Cuts the oldest changes off the queue, a bounded number of them. */
static mf_change *take_some_locked(mf_user *user) MF_REQUIRES(user->state_mu) {
    mf_change *first = user->first_change;
    mf_change *last = first;
    size_t taken = 1;
    size_t bytes = first->bytes;
    while (last->next != NULL && taken < DRAIN_MAX) {
        last = last->next;
        bytes += last->bytes;
        taken++;
    }
    user->first_change = last->next;
    if (user->first_change == NULL) {
        user->last_change = NULL;
    }
    user->change_count -= taken;
    user->change_bytes -= bytes;
    last->next = NULL;
    return first;
}

/* Applies some of the changes that wait; *more tells whether to go on. */
static mf_rc drain_some(mf_user *user, bool *more, mf_err *err) {
    mf_mutex_lock(&user->state_mu);
    while (user->draining) {
        (void)mf_cond_wait(&user->state_changed, &user->state_mu, INT64_MAX);
    }
    *more = user->state == MF_USER_LOADED && user->first_change != NULL;
    mf_change *changes = *more ? take_some_locked(user) : NULL;
    user->draining = *more;
    mf_mutex_unlock(&user->state_mu);
    if (!*more) {
        return MF_OK;
    }
    mf_rc rc = MF_OK;
    for (mf_change *change = changes; change != NULL && rc == MF_OK;
         change = change->next) {
        rc = apply_change(user, change, err);
    }
    if (rc != MF_OK) {
        replace_index(user, NULL);
    }
    mf_mutex_lock(&user->state_mu);
    user->draining = false;
    mf_cond_broadcast(&user->state_changed);
    mf_mutex_unlock(&user->state_mu);
    mf_user_release_changes(changes);
    return rc;
}

/* A bounded number at a time, each applied before the next is taken: a query that comes
 * while a background worker is at it takes over after a moment, at its own priority. */
mf_rc mf_user_drain(mf_user *user, mf_err *err) {
    mf_mutex_lock(&user->state_mu);
    size_t rounds = user->change_count / DRAIN_MAX + 1; /* later ones are not ours */
    mf_mutex_unlock(&user->state_mu);
    bool more = true;
    for (size_t i = 0; i < rounds && more; i++) {
        MF_TRY(drain_some(user, &more, err));
    }
    return MF_OK;
}

void mf_user_keep_up(mf_user *user) {
    mf_mutex_lock(&user->state_mu);
    bool many = user->change_count >= CHANGES_MANY && !user->draining &&
                user->state == MF_USER_LOADED;
    mf_mutex_unlock(&user->state_mu);
    if (many) {
        mf_rc rc = mf_user_drain(user, NULL);
        (void)rc; /* a failure means a new load, not a lost write */
    }
}

mf_rc mf_user_ready(mf_user *user, int64_t deadline_ns, mf_err *err) {
    mf_rc rc = MF_OK;
    for (int i = 0; i < READY_TRIES; i++) {
        MF_TRY(ensure_loaded(user, deadline_ns, err));
        rc = mf_user_drain(user, err);
        if (rc == MF_OK) {
            return MF_OK;
        }
    }
    return rc;
}
