/* user_embed.c - from words to vectors: embedding, committing, searching.
 *
 * One slice of work: take the oldest documents without a vector, read their texts, cut
 * them into windows of the model, encode, put the vectors into the index (searchable
 * from here on) and into the hybrid buffer (committed later, many at a time).
 *
 * Texts can change while they are encoded.  The slice is linked into the user before
 * its texts are read; a change that replaces one marks it stale there, before it can
 * reach the index.  Vectors move in under the index's write lock after a look at those
 * marks, so vectors of an old text never land on a new one: either the mark is seen, or
 * the change is applied afterwards and drops them.  The store does the same by itself:
 * it refuses a chunk whose doc_updated_us is not the document's.
 *
 * Two threads may embed the same document, a worker and a query that cannot wait; both
 * results are the same and the second simply replaces the first. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "memory/chunks.h"
#include "service/lists.h"
#include "service/user_impl.h"

enum {
    SLICE_ARENA_MAX = 128 << 20,
    QUERY_DOCS_MAX = 16, /* what a query embeds by itself at most */
    QUERY_BYTES_MAX = 16 * 1024,
    SEARCH_TRIES = 3
};

/* A document of the slice with its text. */
typedef struct slice_doc {
    mf_hybrid_doc doc;
    mf_str text;
    mf_list *list;       /* it is cut with; NULL: by itself */
    bool missing;        /* its row is gone: deleted, the index not yet told */
    size_t first, parts; /* its windows among those of the slice */
    mf_hybrid_entry *entry;
} slice_doc;

typedef struct slice_work {
    mf_user *user;
    mf_slice *slice;
    mf_arena *arena;
    slice_doc *docs; /* [slice->count] */
    mf_str *windows; /* [window_count] */
    size_t window_count, windows_max;
    size_t dim;
    float *vectors;       /* [window_count, dim] */
    mf_content_key *keys; /* [window_count], in the arena */
} slice_work;

static void slice_begin(mf_user *user, mf_slice *slice, size_t keys_max) {
    slice->count = 0;
    memset(slice->stale, 0, sizeof slice->stale);
    mf_rwlock_read(&user->index_lock);
    if (user->index != NULL) {
        slice->count = mf_index_pending(user->index, slice->keys, keys_max);
    }
    mf_mutex_lock(&user->state_mu);
    slice->next = user->slices;
    user->slices = slice;
    mf_mutex_unlock(&user->state_mu);
    mf_rwlock_unlock_read(&user->index_lock);
}

static void slice_end(mf_user *user, mf_slice *slice) {
    mf_mutex_lock(&user->state_mu);
    mf_slice **link = &user->slices;
    while (*link != slice) {
        link = &(*link)->next;
    }
    *link = slice->next;
    mf_mutex_unlock(&user->state_mu);
}

/* --- texts --- */

static size_t nums_of(const mf_slice *slice, mf_doc_kind kind, int64_t *nums,
                      size_t *places) {
    size_t count = 0;
    for (size_t i = 0; i < slice->count; i++) {
        if (slice->keys[i].kind == kind) {
            nums[count] = slice->keys[i].num;
            places[count++] = i;
        }
    }
    return count;
}

/* Messages of one list mostly come together, so the list read last is tried first. */
static mf_rc read_lists(slice_work *w, mf_conn *conn, const mf_message_row *rows,
                        const size_t *places, size_t count, mf_err *err) {
    const mf_chunk_rules *rules = &w->user->parts->chunks;
    mf_list *list = NULL;
    for (size_t i = 0; i < count && rules->strategy != MF_CHUNK_TURN; i++) {
        if (rows[i].num == 0) {
            continue;
        }
        if (list == NULL || mf_list_find(list, rows[i].num) == list->count) {
            list = mf_arena_alloc_array(w->arena, 1, sizeof(*list));
            if (list == NULL) {
                return MF_FAIL(err, MF_E_NOMEM, "no memory for a list");
            }
            MF_TRY(
                mf_list_read(conn, w->user->id, &rows[i], rules, w->arena, list, err));
        }
        w->docs[places[i]].list = list;
    }
    return MF_OK;
}

static mf_rc read_messages(slice_work *w, mf_conn *conn, mf_err *err) {
    int64_t nums[MF_SLICE_MAX];
    size_t places[MF_SLICE_MAX];
    size_t count = nums_of(w->slice, MF_DOC_MESSAGE, nums, places);
    if (count == 0) {
        return MF_OK;
    }
    mf_message_row *rows = mf_arena_alloc_array(w->arena, count, sizeof(*rows));
    if (rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu messages", count);
    }
    MF_TRY(conn->ops->message_get_by_num(conn, w->user->id, nums, count, w->arena, rows,
                                         err));
    for (size_t i = 0; i < count; i++) {
        w->docs[places[i]] = (slice_doc){
            .doc = {.kind = MF_DOC_MESSAGE,
                    .num = nums[i],
                    .updated_us = rows[i].updated_us,
                    .revision = rows[i].revision,
                    .round_id = rows[i].round_id},
            .text = rows[i].content,
            .missing = rows[i].num == 0,
        };
    }
    return read_lists(w, conn, rows, places, count, err);
}

static mf_rc read_knowledge(slice_work *w, mf_conn *conn, mf_err *err) {
    int64_t nums[MF_SLICE_MAX];
    size_t places[MF_SLICE_MAX];
    size_t count = nums_of(w->slice, MF_DOC_KNOWLEDGE, nums, places);
    if (count == 0) {
        return MF_OK;
    }
    mf_knowledge_row *rows = mf_arena_alloc_array(w->arena, count, sizeof(*rows));
    if (rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu knowledge items", count);
    }
    MF_TRY(conn->ops->knowledge_get_by_num(conn, w->user->id, nums, count, w->arena,
                                           rows, err));
    for (size_t i = 0; i < count; i++) {
        w->docs[places[i]] = (slice_doc){
            .doc = {.kind = MF_DOC_KNOWLEDGE,
                    .num = nums[i],
                    .updated_us = rows[i].updated_us},
            .text = rows[i].content,
            .missing = rows[i].num == 0,
        };
    }
    return MF_OK;
}

static mf_rc read_texts(slice_work *w, int64_t deadline_ns, mf_err *err) {
    w->docs = mf_arena_alloc_array(w->arena, w->slice->count, sizeof(w->docs[0]));
    if (w->docs == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a slice");
    }
    mf_conn *conn;
    MF_TRY(mf_conn_acquire(w->user->parts->background, deadline_ns, &conn, err));
    mf_rc rc = conn->ops->read_begin(conn, err);
    if (rc == MF_OK) {
        rc = read_messages(w, conn, err);
        if (rc == MF_OK) {
            rc = read_knowledge(w, conn, err);
        }
        conn->ops->read_end(conn);
    }
    mf_conn_release(w->user->parts->background, conn, rc);
    return rc;
}

static size_t list_bytes(const mf_list *list) {
    size_t bytes = 0;
    for (size_t i = 0; i < list->count; i++) {
        bytes += list->rows[i].content.len;
    }
    return bytes;
}

/* Of what is encoded: neighbours that share a list share its windows. */
static size_t text_bytes(const slice_work *w) {
    const mf_list *last = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < w->slice->count; i++) {
        const slice_doc *d = &w->docs[i];
        if (d->list == NULL) {
            bytes += d->text.len;
        } else if (d->list != last) {
            bytes += list_bytes(d->list);
        }
        last = d->list;
    }
    return bytes;
}

/* --- vectors --- */

/* Makes room for one more document's windows. */
static mf_rc reserve_windows(slice_work *w, mf_err *err) {
    size_t needed = w->window_count + MF_CHUNKS_MAX;
    if (needed <= w->windows_max) {
        return MF_OK;
    }
    mf_str *grown = mf_arena_alloc_array(w->arena, needed * 2, sizeof(*grown));
    if (grown == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu windows", needed);
    }
    if (w->window_count > 0) {
        memcpy(grown, w->windows, w->window_count * sizeof(*grown));
    }
    w->windows = grown;
    w->windows_max = needed * 2;
    return MF_OK;
}

static mf_rc cut_one(slice_work *w, slice_doc *d, const mf_model_tokenizer *wp,
                     size_t window, mf_err *err) {
    mf_str *parts = w->windows + w->window_count;
    if (d->list == NULL) {
        return mf_chunks_cut(wp, window, d->text, parts, MF_CHUNKS_MAX, &d->parts, err);
    }
    const mf_chunk_rules *rules = &w->user->parts->chunks;
    MF_TRY(mf_list_cut(d->list, rules, wp, window, w->arena, err));
    return mf_chunk_list_texts(&d->list->chunks, rules, wp, window, d->list->before,
                               d->list->before_count, mf_list_find(d->list, d->doc.num),
                               w->arena, parts, MF_CHUNKS_MAX, &d->parts, err);
}

static mf_rc cut_windows(slice_work *w, mf_err *err) {
    const mf_encoder *encoder = mf_embedder_encoder(w->user->parts->embedder);
    mf_encoder_info info;
    mf_encoder_get_info(encoder, &info);
    for (size_t i = 0; i < w->slice->count; i++) {
        slice_doc *d = &w->docs[i];
        if (d->missing) {
            continue;
        }
        MF_TRY(reserve_windows(w, err));
        MF_TRY(cut_one(w, d, mf_encoder_tokenizer(encoder), info.window, err));
        d->first = w->window_count;
        w->window_count += d->parts;
    }
    return MF_OK;
}

static mf_rc encode_windows(slice_work *w, mf_embed_class cls, int64_t deadline_ns,
                            const atomic_bool *stop, mf_err *err) {
    size_t values;
    if (!mf_mul_size(w->window_count, w->dim, &values) ||
        (w->vectors = mf_alloc_array(values, sizeof(float))) == NULL ||
        (w->keys = mf_arena_alloc_array(w->arena, w->window_count,
                                        sizeof(w->keys[0]))) == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu vectors", w->window_count);
    }
    mf_embed_call call = {
        .cls = cls, .documents = true, .deadline_ns = deadline_ns, .cancel = stop};
    MF_TRY(mf_embedder_encode(w->user->parts->embedder, &call, w->windows,
                              w->window_count, w->keys, w->vectors, err));
    for (size_t i = 0; i < w->slice->count; i++) {
        slice_doc *d = &w->docs[i];
        if (!d->missing) {
            MF_TRY(mf_hybrid_entry_new(&d->doc, w->vectors + d->first * w->dim,
                                       w->keys + d->first, d->parts, w->dim, &d->entry,
                                       err));
        }
    }
    return MF_OK;
}

/* Under the index's write lock.  What cannot go in is left with its entry freed. */
static mf_rc install_document(slice_work *w, size_t i, bool stale, mf_err *err) {
    slice_doc *d = &w->docs[i];
    mf_index_key key = w->slice->keys[i];
    mf_rc rc = MF_OK;
    bool kept = false;
    if (!stale && d->missing) {
        (void)mf_index_remove(w->user->index, key);
    } else if (!stale) {
        rc = mf_index_set_vectors(w->user->index, key, w->vectors + d->first * w->dim,
                                  d->parts, err);
        kept = rc == MF_OK;
        rc = rc == MF_E_NOTFOUND ? MF_OK : rc; /* removed meanwhile */
    }
    if (!kept) {
        mf_hybrid_entry_free(d->entry);
        d->entry = NULL;
    }
    return rc;
}

static mf_rc install(slice_work *w, mf_err *err) {
    mf_user *user = w->user;
    bool stale[MF_SLICE_MAX];
    mf_rc rc = MF_OK;
    mf_rwlock_write(&user->index_lock);
    mf_mutex_lock(&user->state_mu);
    memcpy(stale, w->slice->stale, sizeof stale);
    mf_mutex_unlock(&user->state_mu);
    for (size_t i = 0; user->index != NULL && i < w->slice->count && rc == MF_OK; i++) {
        rc = install_document(w, i, stale[i], err);
    }
    bool here = user->index != NULL;
    mf_user_publish(user);
    mf_rwlock_unlock_write(&user->index_lock);
    if (rc != MF_OK || !here) {
        return rc;
    }
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&user->state_mu);
    for (size_t i = 0; i < w->slice->count; i++) {
        if (w->docs[i].entry != NULL) {
            mf_hybrid_buffer_put(mf_write_buffer_hybrid(user->buffer), w->docs[i].entry,
                                 now_ns);
            w->docs[i].entry = NULL;
        }
    }
    mf_mutex_unlock(&user->state_mu);
    mf_user_account(user);
    atomic_fetch_add(&user->version, 1);
    return MF_OK;
}

static mf_rc embed_slice(slice_work *w, size_t bytes_max, mf_embed_class cls,
                         int64_t deadline_ns, const atomic_bool *stop, mf_err *err) {
    MF_TRY(mf_arena_new(SLICE_ARENA_MAX, &w->arena, err));
    MF_TRY(read_texts(w, deadline_ns, err));
    if (bytes_max > 0 && text_bytes(w) > bytes_max) {
        return MF_OK;
    }
    MF_TRY(cut_windows(w, err));
    MF_TRY(encode_windows(w, cls, deadline_ns, stop, err));
    return install(w, err);
}

static void slice_work_done(slice_work *w) {
    for (size_t i = 0; w->docs != NULL && i < w->slice->count; i++) {
        mf_hybrid_entry_free(w->docs[i].entry);
    }
    mf_free(w->vectors);
    mf_arena_free(w->arena);
}

static mf_rc embed_once(mf_user *user, size_t keys_max, size_t bytes_max,
                        mf_embed_class cls, int64_t deadline_ns,
                        const atomic_bool *stop, bool *more, mf_err *err) {
    mf_slice slice;
    mf_rc rc = MF_OK;
    slice_begin(user, &slice, keys_max);
    if (slice.count > 0) {
        slice_work w = {.user = user,
                        .slice = &slice,
                        .dim = mf_embedder_dim(user->parts->embedder)};
        mf_span span = mf_metrics_begin(user->parts->metrics, MF_OPERATION_EMBED);
        rc = embed_slice(&w, bytes_max, cls, deadline_ns, stop, err);
        mf_metrics_end(span, rc);
        slice_work_done(&w);
    }
    slice_end(user, &slice);
    *more = atomic_load(&user->pending) > 0;
    return rc;
}

mf_rc mf_user_embed(mf_user *user, size_t keys_max, size_t bytes_max,
                    mf_embed_class cls, int64_t deadline_ns, const atomic_bool *stop,
                    bool *more, mf_err *err) {
    mf_rc rc = embed_once(user, keys_max, bytes_max, cls, deadline_ns, stop, more, err);
    if (rc == MF_E_NOMEM && keys_max > 1) {
        /* Too large together; one at a time they may fit. */
        rc = embed_once(user, 1, bytes_max, cls, deadline_ns, stop, more, err);
    }
    return rc;
}

/* --- committing --- */

/* A batch on its way to the store.  Two hold it: the writer, until it is done, and the
 * thread that waits, until then or until its patience ends; the last one frees it. */
typedef struct commit_op {
    mf_write write;
    mf_user *user;
    mf_hybrid_batch batch;
    mf_str model;
    mf_flush_trigger trigger;
    bool owes_nothing; /* when the batch was taken, at write number `seen` */
    uint64_t seen;
    int64_t begun_ns;
    bool done, abandoned; /* guarded by the user's state_mu, like the two below */
    mf_rc rc;
    mf_err err;
} commit_op;

static mf_rc commit_run(mf_conn *conn, void *ctx, mf_err *err) {
    commit_op *op = ctx;
    mf_user *user = op->user;
    MF_TRY(mf_hybrid_batch_write(&op->batch, conn, user->id, op->model, err));
    if (op->owes_nothing && user->begun == op->seen) {
        MF_TRY(conn->ops->backlog_remove(conn, user->id, err));
        atomic_store(&user->noted, MF_NOTED_NO);
    }
    return MF_OK;
}

/* The user's thread that waits may go on, and with it the user, as soon as the lock is
 * given back. */
static void commit_done(void *ctx, mf_rc rc, const mf_err *err) {
    commit_op *op = ctx;
    mf_user *user = op->user;
    if (rc != MF_OK) {
        atomic_store(&user->noted, MF_NOTED_UNKNOWN);
    }
    if (op->batch.first != NULL) {
        mf_metrics_record(user->parts->metrics, MF_OPERATION_COMMIT,
                          mf_now_ns() - op->begun_ns, rc);
    }
    mf_mutex_lock(&user->state_mu);
    mf_write_buffer_flushed(user->buffer, &op->batch, op->trigger, rc == MF_OK);
    user->committing = false;
    op->done = true;
    op->rc = rc;
    if (rc != MF_OK) {
        op->err = *err;
    }
    bool abandoned = op->abandoned;
    mf_cond_broadcast(&user->state_changed);
    mf_mutex_unlock(&user->state_mu);
    if (abandoned) {
        mf_free(op);
    }
}

/* Takes the vectors that wait, and looks whether anything else is owed.  One batch of a
 * user is under way at a time, so that they are committed in order. */
static mf_rc commit_take(commit_op *op, int64_t deadline_ns, mf_err *err) {
    mf_user *user = op->user;
    bool in_time = true;
    mf_mutex_lock(&user->state_mu);
    while (user->committing && in_time) {
        in_time = mf_cond_wait(&user->state_changed, &user->state_mu, deadline_ns);
    }
    bool busy = user->committing;
    mf_mutex_unlock(&user->state_mu);
    if (busy) {
        return MF_FAIL(err, MF_E_TIMEOUT, "an earlier flush is still under way");
    }
    mf_rwlock_read(&user->index_lock);
    bool all = user->index != NULL && mf_index_pending_count(user->index) == 0;
    mf_mutex_lock(&user->state_mu);
    op->batch = mf_write_buffer_flush_all(user->buffer);
    op->owes_nothing = all && user->state == MF_USER_LOADED && !user->draining &&
                       user->first_change == NULL && user->slices == NULL;
    op->seen = user->applied;
    user->committing = true;
    mf_mutex_unlock(&user->state_mu);
    mf_rwlock_unlock_read(&user->index_lock);
    return MF_OK;
}

static mf_rc commit_wait(commit_op *op, int64_t deadline_ns, mf_err *err) {
    mf_user *user = op->user;
    bool in_time = true;
    mf_mutex_lock(&user->state_mu);
    while (!op->done && in_time) {
        in_time = mf_cond_wait(&user->state_changed, &user->state_mu, deadline_ns);
    }
    bool done = op->done;
    op->abandoned = !done;
    mf_mutex_unlock(&user->state_mu);
    if (!done) {
        return MF_FAIL(err, MF_E_TIMEOUT,
                       "the store has not committed a flush in time");
    }
    mf_rc rc = op->rc;
    if (rc != MF_OK && err != NULL) {
        *err = op->err;
    }
    mf_free(op);
    return rc;
}

mf_rc mf_user_commit(mf_user *user, mf_flush_trigger trigger, int64_t deadline_ns,
                     mf_err *err) {
    commit_op *op = mf_alloc_zero(1, sizeof(*op));
    if (op == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a flush");
    }
    op->user = user;
    op->trigger = trigger;
    op->begun_ns = mf_now_ns();
    op->write = (mf_write){.run = commit_run, .done = commit_done, .ctx = op};
    op->model = mf_str_from(user->parts->vectors_from);
    mf_rc rc = commit_take(op, deadline_ns, err);
    if (rc != MF_OK) {
        mf_free(op);
        return rc;
    }
    bool note_goes = op->owes_nothing && atomic_load(&user->noted) == MF_NOTED_YES;
    mf_err refused = {0};
    if (op->batch.first == NULL && !note_goes) {
        commit_done(op, MF_OK, NULL); /* nothing to write */
    } else if (MF_FAULT("flush.taken")) {
        rc = MF_FAIL(&refused, MF_E_IO, "fault flush.taken");
    } else {
        rc = mf_writer_submit(user->parts->writer, &op->write, &refused);
    }
    if (rc != MF_OK) {
        commit_done(op, rc, &refused);
    }
    rc = commit_wait(op, deadline_ns, err);
    mf_user_account(user);
    return rc;
}

/* --- one turn of a worker --- */

static mf_flush_due vectors_due(mf_user *user) {
    mf_flush_policy policy = mf_user_policy(user);
    mf_hybrid_state held;
    mf_mutex_lock(&user->state_mu);
    mf_hybrid_buffer_get_state(mf_write_buffer_hybrid(user->buffer), &held);
    mf_flush_due due = mf_flush_vectors_due(&policy, &held, user->written_ns);
    mf_mutex_unlock(&user->state_mu);
    return due;
}

static mf_rc commit_due(mf_user *user, mf_flush_due due, mf_flush_trigger forced,
                        mf_err *err) {
    const mf_config *config = mf_settings_get(user->parts->settings);
    mf_flush_trigger trigger = due.due_ns <= mf_now_ns() ? due.trigger : forced;
    return mf_user_commit(user, trigger,
                          mf_deadline_in_ms(config->buffer_flush_timeout_ms), err);
}

static mf_rc work_once(mf_user *user, mf_flush_trigger forced, const atomic_bool *stop,
                       bool *more, mf_err *err) {
    MF_TRY(mf_user_ready(user, mf_deadline_in_ms(-1), err));
    mf_flush_due due = vectors_due(user);
    if (due.due_ns == INT64_MIN) {
        /* Full, for instance because the store failed: nothing is added until it is
         * empty again. */
        MF_TRY(commit_due(user, due, forced, err));
    }
    MF_TRY(mf_user_embed(user, MF_SLICE_MAX, 0, MF_EMBED_INGEST, mf_deadline_in_ms(-1),
                         stop, more, err));
    if (MF_FAULT("flush.embedded")) {
        return MF_FAIL(err, MF_E_IO, "fault flush.embedded");
    }
    due = vectors_due(user);
    bool note_only =
        due.due_ns == INT64_MAX && !*more && atomic_load(&user->noted) == MF_NOTED_YES;
    if (forced != MF_FLUSH_NONE || note_only || due.due_ns <= mf_now_ns()) {
        MF_TRY(commit_due(user, due, forced, err));
    }
    if (MF_FAULT("flush.committed")) {
        return MF_FAIL(err, MF_E_IO, "fault flush.committed");
    }
    return MF_OK;
}

/* A deleted user is done, unless the writer still has something of it. */
static mf_work_result work_of_gone(mf_user *user) {
    mf_mutex_lock(&user->state_mu);
    bool committing = user->committing;
    mf_mutex_unlock(&user->state_mu);
    user->failures += committing ? 1 : 0;
    return (mf_work_result){.due_ns = INT64_MAX,
                            .failures = committing ? user->failures : 0};
}

mf_work_result mf_user_work(mf_user *user, mf_flush_trigger forced,
                            const atomic_bool *stop) {
    if (mf_user_is_gone(user)) {
        return work_of_gone(user);
    }
    mf_err err = {0};
    bool more = false;
    mf_rc rc = work_once(user, forced, stop, &more, &err);
    if (rc == MF_OK) {
        user->failures = 0;
        return (mf_work_result){.due_ns = more ? INT64_MIN : vectors_due(user).due_ns};
    }
    if (rc != MF_E_STOPPING) {
        mf_error_cache_log(mf_metrics_errors(user->parts->metrics), MF_LOG_WARN,
                           "flush_failed", &err);
    }
    user->failures++;
    return (mf_work_result){.due_ns = INT64_MAX, .failures = user->failures};
}

/* --- searching --- */

/* What was said a moment ago gets its vectors before the search.  A failure is not the
 * question's: it goes ahead with words, and the workers try again. */
static void embed_recent(mf_user *user, int64_t deadline_ns) {
    size_t pending = atomic_load(&user->pending);
    bool more;
    if (user->parts->embedder != NULL && pending > 0 && pending <= QUERY_DOCS_MAX) {
        mf_rc rc = mf_user_embed(user, QUERY_DOCS_MAX, QUERY_BYTES_MAX,
                                 MF_EMBED_QUESTION, deadline_ns, NULL, &more, NULL);
        (void)rc; /* as said above */
    }
}

mf_rc mf_user_search(mf_user *user, const mf_index_query *query,
                     const mf_index_weights *weights, int64_t deadline_ns,
                     mf_index_hit *hits, size_t *count, uint64_t *version,
                     mf_err *err) {
    for (int i = 0; i < SEARCH_TRIES; i++) {
        MF_TRY(mf_user_ready(user, deadline_ns, err));
        if (query->vector != NULL) {
            embed_recent(user, deadline_ns);
        }
        /* A change is queued before it raises the version, so what this reads is all
         * applied by the drain that follows. */
        uint64_t seen = mf_user_version(user);
        MF_TRY(mf_user_ready(user, deadline_ns, err));
        mf_rwlock_read(&user->index_lock);
        bool here = user->index != NULL;
        mf_rc rc = MF_OK;
        if (here) {
            rc = mf_index_search(user->index, query, weights, hits, count, err);
        }
        mf_rwlock_unlock_read(&user->index_lock);
        if (here) {
            *version = seen;
            return rc;
        }
    }
    return MF_FAIL(err, MF_E_BUSY, "the user's index is short of memory");
}

mf_rc mf_user_rescore(mf_user *user, const mf_index_query *query,
                      const mf_index_weights *weights, const mf_index_key *keys,
                      size_t key_count, mf_index_hit *hits, size_t *count, bool *done,
                      mf_err *err) {
    mf_rc rc = MF_OK;
    *done = false;
    mf_rwlock_read(&user->index_lock);
    if (user->index != NULL) {
        rc = mf_index_rescore(user->index, query, weights, keys, key_count, hits, count,
                              done, err);
    }
    mf_rwlock_unlock_read(&user->index_lock);
    return rc;
}

mf_rc mf_user_pending(mf_user *user, int64_t deadline_ns, mf_arena *arena,
                      mf_index_key **keys, size_t *count, mf_err *err) {
    MF_TRY(mf_user_ready(user, deadline_ns, err));
    size_t room = atomic_load(&user->pending);
    mf_index_key *found = mf_arena_alloc_array(arena, room + 1, sizeof(*found));
    if (found == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu keys", room);
    }
    size_t got = 0;
    mf_rwlock_read(&user->index_lock);
    if (user->index != NULL) {
        got = mf_index_pending(user->index, found, room);
    }
    mf_rwlock_unlock_read(&user->index_lock);
    *keys = found;
    *count = got;
    return MF_OK;
}
