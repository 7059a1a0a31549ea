/* user.c - life and state of one active user.
 *
 * The locks and what they are for:
 *
 *   index_lock  many searches side by side, or one change of the index
 *   state_mu    the queues and small buffers; held for a few instructions
 *
 * The writer thread takes only state_mu here.  A thread that needs both takes
 * index_lock first.  Nothing is read from the store and nothing is encoded under
 * either.
 *
 * The backlog note.  The store remembers which users owe embedding, and the note must
 * be there whenever they do.  Writes are numbered on the writer thread as they run.  A
 * commit of vectors may drop the note only if everything was embedded when it was put
 * together and no write has begun since: then `begun`, read in the same transaction,
 * still is the number that was `applied` when it looked.  After a failed commit nobody
 * knows what the store holds, so `noted` becomes unknown and the next write notes
 * again. */
#include "service/user.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "service/user_impl.h"

enum { TABLE_BYTES = 64 /* a user's place in the registry's map, roughly */ };

/* Keeps the largest value seen. */
static void keep_largest(atomic_size_t *peak, size_t value) {
    size_t seen = atomic_load(peak);
    while (seen < value && !atomic_compare_exchange_weak(peak, &seen, value)) {
    }
}

mf_rc mf_user_new(const mf_service_parts *parts, mf_user_totals *totals, mf_uuid id,
                  mf_user_overrides *own, mf_user **out, mf_err *err) {
    mf_user *user = mf_alloc_zero(1, sizeof(*user));
    if (user == NULL) {
        mf_user_overrides_unref(own);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a user's state");
    }
    mf_rc rc = mf_write_buffer_open(&user->buffer, err);
    if (rc != MF_OK) {
        mf_user_overrides_unref(own);
        mf_free(user);
        return rc;
    }
    user->id = id;
    user->parts = parts;
    user->totals = totals;
    atomic_init(&user->refs, 1);
    atomic_init(&user->gone, false);
    atomic_init(&user->noted, MF_NOTED_UNKNOWN);
    user->own = own;
    atomic_init(&user->has_own, own != NULL);
    atomic_init(&user->version, 0);
    atomic_init(&user->has_sessions, -1);
    atomic_init(&user->documents, 0);
    atomic_init(&user->vectors, 0);
    atomic_init(&user->bytes, 0);
    atomic_init(&user->pending, 0);
    atomic_init(&user->accounted, 0);
    mf_rwlock_init(&user->index_lock, MF_RANK_USER);
    mf_mutex_init(&user->state_mu, MF_RANK_USER_STATE);
    mf_cond_init(&user->state_changed);
    keep_largest(&totals->instances_peak, atomic_fetch_add(&totals->instances, 1) + 1);
    mf_user_account(user);
    *out = user;
    return MF_OK;
}

mf_user *mf_user_ref(mf_user *user) {
    atomic_fetch_add(&user->refs, 1);
    return user;
}

void mf_user_release_changes(mf_change *change) {
    while (change != NULL) {
        mf_change *next = change->next;
        change->release(change);
        change = next;
    }
}

_Static_assert(sizeof(mf_write_counts) == sizeof(uint64_t) * MF_WRITE_COUNT_WORDS,
               "the counts are numbers of 64 bits and nothing else");

static void add_to_totals(mf_user_totals *totals, const mf_write_counts *counts) {
    uint64_t words[MF_WRITE_COUNT_WORDS];
    memcpy(words, counts, sizeof words);
    for (size_t i = 0; i < MF_WRITE_COUNT_WORDS; i++) {
        atomic_fetch_add(&totals->counts[i], words[i]);
    }
}

void mf_user_totals_read(mf_user_totals *totals, mf_write_counts *out) {
    uint64_t words[MF_WRITE_COUNT_WORDS];
    for (size_t i = 0; i < MF_WRITE_COUNT_WORDS; i++) {
        words[i] = atomic_load(&totals->counts[i]);
    }
    memcpy(out, words, sizeof words);
}

void mf_user_unref(mf_user *user) {
    if (user == NULL || atomic_fetch_sub(&user->refs, 1) != 1) {
        return;
    }
    MF_ASSERT(user->slices == NULL);
    mf_write_buffer_stats stats;
    mf_write_buffer_get_stats(user->buffer, &stats);
    add_to_totals(user->totals, &stats.counts);
    if (user->answers != NULL) {
        mf_query_buffer_stats queries;
        mf_query_buffer_get_stats(user->answers, &queries);
        atomic_fetch_add(&user->totals->answers_evicted, queries.evictions);
        atomic_fetch_add(&user->totals->answers_expired, queries.expirations);
    }
    atomic_fetch_sub(&user->totals->instances, 1);
    atomic_fetch_sub(&user->totals->bytes, atomic_load(&user->accounted));
    mf_user_release_changes(user->first_change);
    mf_index_close(user->index);
    mf_write_buffer_close(user->buffer);
    mf_query_buffer_close(user->answers);
    mf_user_overrides_unref(user->own);
    mf_cond_done(&user->state_changed);
    mf_mutex_done(&user->state_mu);
    mf_rwlock_done(&user->index_lock);
    mf_free(user);
}

mf_uuid mf_user_id(const mf_user *user) {
    return user->id;
}

void mf_user_set_gone(mf_user *user) {
    atomic_store(&user->gone, true);
}

bool mf_user_is_gone(const mf_user *user) {
    return atomic_load(&user->gone);
}

/* --- settings --- */

/* The user's own settings over what is in force now: made anew after a reload. */
static mf_user_overrides *own_over(mf_user *user, mf_user_overrides *own,
                                   const mf_config *base) {
    mf_user_overrides *made = mf_user_overrides_over(own, base);
    if (made == NULL) {
        return own; /* memory is short: those of before the reload will do */
    }
    mf_user_overrides *old = NULL;
    mf_mutex_lock(&user->state_mu);
    if (user->own == own) {
        old = user->own;
        user->own = mf_user_overrides_ref(made);
    }
    mf_mutex_unlock(&user->state_mu);
    mf_user_overrides_unref(old);
    mf_user_overrides_unref(own);
    return made;
}

mf_user_config mf_user_config_hold(mf_user *user) {
    const mf_config *base = mf_settings_get(user->parts->settings);
    mf_user_overrides *own = NULL;
    if (atomic_load(&user->has_own)) {
        mf_mutex_lock(&user->state_mu);
        own = user->own != NULL ? mf_user_overrides_ref(user->own) : NULL;
        mf_mutex_unlock(&user->state_mu);
    }
    if (own != NULL && mf_user_overrides_base(own) != base) {
        own = own_over(user, own, base);
    }
    return (mf_user_config){
        .config = own != NULL ? mf_user_overrides_config(own) : base, .held = own};
}

void mf_user_config_release(mf_user_config *config) {
    mf_user_overrides_unref(config->held);
    *config = (mf_user_config){0};
}

void mf_user_set_overrides(mf_user *user, mf_user_overrides *own) {
    mf_mutex_lock(&user->state_mu);
    mf_user_overrides *old = user->own;
    user->own = own;
    atomic_store(&user->has_own, own != NULL);
    mf_mutex_unlock(&user->state_mu);
    mf_user_overrides_unref(old);
    mf_user_account(user);
}

/* --- writes --- */

uint64_t mf_user_write_begin(mf_user *user) {
    return ++user->begun;
}

mf_rc mf_user_note_backlog(mf_user *user, mf_conn *conn, mf_err *err) {
    if (user->parts->embedder == NULL || atomic_load(&user->noted) == MF_NOTED_YES) {
        return MF_OK;
    }
    MF_TRY(conn->ops->backlog_add(conn, user->id, err));
    atomic_store(&user->noted, MF_NOTED_YES);
    return MF_OK;
}

static bool outdates(const mf_change *change, mf_index_key key) {
    for (size_t d = 0; change->kind == MF_CHANGE_REPLACE && d < change->count; d++) {
        const mf_index_key *other = &change->docs[d].facts.key;
        if (other->num == key.num && other->kind == key.kind) {
            return true;
        }
    }
    for (size_t d = 0; key.kind == MF_DOC_MESSAGE && d < change->touched_count; d++) {
        if (change->touched[d] == key.num) {
            return true;
        }
    }
    return false;
}

/* A slice holds texts read before this change: what it replaces is stale there. */
static void mark_stale(mf_user *user, const mf_change *change) {
    for (mf_slice *slice = user->slices; slice != NULL; slice = slice->next) {
        for (size_t i = 0; i < slice->count; i++) {
            slice->stale[i] |= outdates(change, slice->keys[i]);
        }
    }
}

void mf_user_change(mf_user *user, mf_change *change) {
    change->next = NULL;
    mf_mutex_lock(&user->state_mu);
    bool wanted = user->state != MF_USER_COLD;
    if (wanted) {
        mark_stale(user, change);
        if (user->last_change == NULL) {
            user->first_change = change;
        } else {
            user->last_change->next = change;
        }
        user->last_change = change;
        user->change_count++;
        user->change_bytes += change->bytes;
    }
    mf_mutex_unlock(&user->state_mu);
    atomic_fetch_add(&user->version, 1);
    if (!wanted) {
        change->release(change); /* a later load finds it in the store */
    }
}

void mf_user_write_end(mf_user *user, uint64_t number, mf_rc rc) {
    if (rc != MF_OK) {
        atomic_store(&user->noted, MF_NOTED_UNKNOWN);
        user->written = MF_UUID_NONE; /* perhaps nothing was */
    }
    mf_mutex_lock(&user->state_mu);
    user->applied = number;
    mf_mutex_unlock(&user->state_mu);
    atomic_fetch_add(&user->version, 1);
}

/* --- small reads --- */

uint64_t mf_user_version(const mf_user *user) {
    return atomic_load(&user->version);
}

mf_query_buffer *mf_user_answers(mf_user *user) {
    const mf_config *config = mf_settings_get(user->parts->settings);
    if (config->buffer_query_cache_size == 0) {
        return NULL;
    }
    mf_mutex_lock(&user->state_mu);
    mf_query_buffer *answers = user->answers;
    mf_mutex_unlock(&user->state_mu);
    if (answers != NULL) {
        return answers;
    }
    mf_query_buffer *made;
    if (mf_query_buffer_open((size_t)config->buffer_query_cache_size,
                             config->buffer_query_ttl_ms, user->parts->caches, &made,
                             NULL) != MF_OK) {
        return NULL; /* a cache that cannot be had is not an error */
    }
    mf_mutex_lock(&user->state_mu);
    if (user->answers == NULL) {
        user->answers = made;
        made = NULL;
    }
    answers = user->answers;
    mf_mutex_unlock(&user->state_mu);
    mf_query_buffer_close(made);
    return answers;
}

size_t mf_user_bytes(const mf_user *user) {
    return atomic_load(&user->accounted);
}

/* Two threads may do this at once: each puts its sum in the place of the one before it
 * and adds the difference to the total, so the total is the sum of what stands there.
 */
void mf_user_account(mf_user *user) {
    size_t bytes = sizeof(*user) + TABLE_BYTES + atomic_load(&user->bytes);
    mf_mutex_lock(&user->state_mu);
    bytes += mf_write_buffer_bytes(user->buffer) + user->change_bytes +
             mf_user_overrides_bytes(user->own);
    mf_query_buffer *answers = user->answers;
    mf_mutex_unlock(&user->state_mu);
    bytes += answers != NULL ? mf_query_buffer_bytes(answers) : 0;
    size_t before = atomic_exchange(&user->accounted, bytes);
    size_t total =
        atomic_fetch_add(&user->totals->bytes, bytes - before) + (bytes - before);
    if (bytes > before) {
        keep_largest(&user->totals->bytes_peak, total);
    }
}

size_t mf_user_documents(const mf_user *user) {
    return atomic_load(&user->documents);
}

bool mf_user_owes(mf_user *user) {
    mf_hybrid_state held;
    mf_mutex_lock(&user->state_mu);
    mf_hybrid_buffer_get_state(mf_write_buffer_hybrid(user->buffer), &held);
    mf_mutex_unlock(&user->state_mu);
    return held.chunks > 0 || atomic_load(&user->pending) > 0;
}

bool mf_user_holds(mf_user *user, const mf_index_facts *facts) {
    mf_flush_policy policy = mf_user_policy(user);
    mf_round_window window;
    mf_mutex_lock(&user->state_mu);
    bool held = mf_hybrid_buffer_holds(mf_write_buffer_hybrid(user->buffer),
                                       (mf_doc_kind)facts->key.kind, facts->key.num);
    if (!held && policy.windows && facts->key.kind == MF_DOC_MESSAGE) {
        held = mf_round_buffer_get(mf_write_buffer_rounds(user->buffer),
                                   facts->session_id, policy.limits, &window) &&
               facts->key.num >= window.first_num;
    }
    mf_mutex_unlock(&user->state_mu);
    return held;
}

int mf_user_has_sessions(const mf_user *user) {
    return atomic_load(&user->has_sessions);
}

void mf_user_set_has_sessions(mf_user *user, int has) {
    atomic_store(&user->has_sessions, has);
}

void mf_user_learn_has_sessions(mf_user *user, bool has) {
    int unknown = -1;
    (void)atomic_compare_exchange_strong(&user->has_sessions, &unknown, has ? 1 : 0);
}

void mf_user_set_noted(mf_user *user) {
    int unknown = MF_NOTED_UNKNOWN;
    (void)atomic_compare_exchange_strong(&user->noted, &unknown, MF_NOTED_YES);
}

void mf_user_get_stats(mf_user *user, mf_user_stats *out) {
    *out = (mf_user_stats){
        .documents = atomic_load(&user->documents),
        .vectors = atomic_load(&user->vectors),
        .bytes = atomic_load(&user->bytes),
        .pending = atomic_load(&user->pending),
    };
    mf_mutex_lock(&user->state_mu);
    mf_write_buffer_get_stats(user->buffer, &out->buffers);
    out->buffer_bytes = mf_write_buffer_bytes(user->buffer);
    mf_query_buffer *answers = user->answers;
    mf_mutex_unlock(&user->state_mu);
    if (answers != NULL) {
        mf_query_buffer_get_stats(answers, &out->queries);
        out->buffer_bytes += out->queries.bytes;
    }
}
