/* batcher.c - two queues, some lanes, and the thread of whoever is first in line.
 *
 *   NEW --queued--> QUEUED --a lane takes it--> RUNNING --vectors, or an error--> ENDED
 *                     |                            |                                ^
 *                     +--- deadline, called off, --+--------------------------------+
 *                          taken back
 *
 * There are no threads here.  The thread whose piece is first in its queue, and only
 * that one, may take a lane for it; so a lane never waits for a thread that works on
 * something else.  Each thread sleeps on a condition of its own piece, and whatever
 * could let somebody go on ends in wake_next_locked(), also a wait that was given up: a
 * wake-up is passed on, never lost.
 *
 * A batch copies the token numbers of its pieces, and vectors are handed out under the
 * lock to the pieces that are still there, so a piece can leave at any moment without
 * anybody waiting for it.
 *
 * A lane looks at the latest deadline of its batch and at the slot's stop flag, which
 * the last piece to leave sets. */
#include "model/batcher.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "model/encoder_private.h"
#include "num/half.h"

struct mf_batch_slot {
    mf_lane *lane;
    int32_t *ids;    /* [tokens_max] */
    size_t *lengths; /* [MF_ENCODE_BATCH_MAX] */
    float *vectors;  /* [MF_ENCODE_BATCH_MAX, dim] */
    uint16_t *halves;
    atomic_bool stop; /* nobody is left who wants the vectors */
    /* of the batch under way; members guarded by pool_mu, the rest is its leader's */
    mf_embed_class cls;
    mf_piece *members;
    size_t calls, texts, tokens;
    int64_t deadline_ns;
};

typedef struct piece_queue {
    mf_piece *first, *last;
    size_t count, count_max, limit;
} piece_queue;

struct mf_batcher {
    /* constant after open */
    mf_encoder *encoder; /* one reference */
    mf_embedder_options options;
    size_t dim, row_bytes; /* of a vector that is handed out */
    mf_batch_slot *slots;  /* [options.lane_count] */

    mf_histogram waits[MF_EMBED_CLASSES]; /* nanoseconds for a lane; by themselves */

    mf_mutex pool_mu; /* guards all below */
    mf_cond room;     /* the queue of ingest work is no longer full */
    mf_batch_slot **free;
    size_t free_count;
    piece_queue queues[MF_EMBED_CLASSES];
    size_t ingest_busy;
    size_t question_run; /* question batches begun while ingest work could have */
    bool stopping;
    mf_embedder_stats stats;
};

/* --- open and close --------------------------------------------------------------- */

static mf_rc open_slot(mf_batcher *b, mf_batch_slot *s, mf_err *err) {
    size_t values = MF_ENCODE_BATCH_MAX * b->dim;
    MF_TRY(mf_lane_open(b->encoder, &s->lane, err));
    atomic_init(&s->stop, false);
    mf_lane_stop_on(s->lane, &s->stop);
    s->ids = mf_alloc_array(s->lane->tokens_max, sizeof *s->ids);
    s->lengths = mf_alloc_array(MF_ENCODE_BATCH_MAX, sizeof *s->lengths);
    s->vectors = mf_alloc_array(values, sizeof *s->vectors);
    s->halves = mf_alloc_array(values, sizeof *s->halves);
    if (s->ids == NULL || s->lengths == NULL || s->vectors == NULL ||
        s->halves == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the batches of a lane");
    }
    return MF_OK;
}

static mf_rc open_slots(mf_batcher *b, mf_err *err) {
    size_t count = b->options.lane_count;
    b->slots = mf_alloc_zero(count, sizeof *b->slots);
    b->free = mf_alloc_zero(count, sizeof *b->free);
    if (b->slots == NULL || b->free == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu lanes", count);
    }
    for (size_t i = 0; i < count; i++) {
        MF_TRY(open_slot(b, &b->slots[i], err));
        b->free[b->free_count++] = &b->slots[i];
    }
    return MF_OK;
}

mf_rc mf_batcher_open(mf_encoder *enc, const mf_embedder_options *options,
                      mf_batcher **out, mf_err *err) {
    mf_batcher *b = mf_alloc_zero(1, sizeof *b);
    if (b == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the batcher");
    }
    mf_encoder_info info;
    mf_encoder_get_info(enc, &info);
    b->encoder = mf_encoder_ref(enc);
    b->options = *options;
    b->dim = info.dim;
    b->row_bytes = info.dim * (options->exact ? sizeof(float) : sizeof(uint16_t));
    b->queues[MF_EMBED_QUESTION].limit = options->question_queue_max;
    b->queues[MF_EMBED_INGEST].limit = options->ingest_queue_max;
    mf_mutex_init(&b->pool_mu, MF_RANK_POOL);
    mf_cond_init(&b->room);
    mf_rc rc = open_slots(b, err);
    if (rc != MF_OK) {
        mf_batcher_close(b);
        return rc;
    }
    *out = b;
    return MF_OK;
}

void mf_batcher_close(mf_batcher *b) {
    if (b == NULL) {
        return;
    }
    for (size_t i = 0; b->slots != NULL && i < b->options.lane_count; i++) {
        mf_batch_slot *s = &b->slots[i];
        MF_ASSERT(s->members == NULL);
        mf_lane_close(s->lane);
        mf_free(s->ids);
        mf_free(s->lengths);
        mf_free(s->vectors);
        mf_free(s->halves);
    }
    mf_free(b->slots);
    mf_free(b->free);
    mf_cond_done(&b->room);
    mf_mutex_done(&b->pool_mu);
    (void)mf_encoder_unref(b->encoder); /* always NULL */
    mf_free(b);
}

void mf_piece_init(mf_piece *piece) {
    piece->state = MF_PIECE_NEW;
    piece->prev = NULL;
    piece->next = NULL;
    piece->slot = NULL;
    piece->alone = false;
    piece->given_back = false;
    piece->rc = MF_OK;
    mf_cond_init(&piece->changed);
}

void mf_piece_done(mf_piece *piece) {
    mf_cond_done(&piece->changed);
}

/* --- queues ----------------------------------------------------------------------- */

static void queue_unlink_locked(mf_batcher *b, mf_piece *piece)
    MF_REQUIRES(b->pool_mu) {
    piece_queue *q = &b->queues[piece->cls];
    *(piece->prev != NULL ? &piece->prev->next : &q->first) = piece->next;
    *(piece->next != NULL ? &piece->next->prev : &q->last) = piece->prev;
    piece->prev = NULL;
    piece->next = NULL;
    q->count--;
    if (piece->cls == MF_EMBED_INGEST) {
        mf_cond_signal(&b->room);
    }
}

/* Behind `place`, or in front of all when that is NULL. */
static void queue_insert_locked(mf_batcher *b, mf_piece *place, mf_piece *piece)
    MF_REQUIRES(b->pool_mu) {
    piece_queue *q = &b->queues[piece->cls];
    piece->state = MF_PIECE_QUEUED;
    piece->prev = place;
    piece->next = place != NULL ? place->next : q->first;
    *(place != NULL ? &place->next : &q->first) = piece;
    *(piece->next != NULL ? &piece->next->prev : &q->last) = piece;
    q->count++;
    q->count_max = q->count > q->count_max ? q->count : q->count_max;
}

static void member_unlink(mf_piece *piece) {
    mf_batch_slot *s = piece->slot;
    *(piece->prev != NULL ? &piece->prev->next : &s->members) = piece->next;
    if (piece->next != NULL) {
        piece->next->prev = piece->prev;
    }
    piece->prev = NULL;
    piece->next = NULL;
    piece->slot = NULL;
    if (s->members == NULL) {
        atomic_store(&s->stop, true);
    }
}

/* Takes the piece from wherever it is, and tells its caller. */
static void end_piece_locked(mf_batcher *b, mf_piece *piece, mf_rc rc)
    MF_REQUIRES(b->pool_mu) {
    if (piece->state == MF_PIECE_QUEUED) {
        queue_unlink_locked(b, piece);
    } else if (piece->state == MF_PIECE_RUNNING) {
        member_unlink(piece);
    }
    piece->state = MF_PIECE_ENDED;
    piece->rc = rc;
    mf_cond_signal(&piece->changed);
}

static void expire_locked(mf_batcher *b, mf_piece *piece) MF_REQUIRES(b->pool_mu) {
    bool running = piece->state == MF_PIECE_RUNNING;
    end_piece_locked(b, piece,
                     MF_FAIL(&piece->err, MF_E_TIMEOUT,
                             running ? "encoding took longer than the deadline allows"
                                     : "no encoder lane became free in time"));
    b->stats.expired++;
}

static void call_off_locked(mf_batcher *b, mf_piece *piece) MF_REQUIRES(b->pool_mu) {
    end_piece_locked(b, piece,
                     MF_FAIL(&piece->err, MF_E_STOPPING, "encoding was called off"));
    b->stats.cancelled++;
}

/* --- turns ------------------------------------------------------------------------ */

/* Which class a free lane is for; false when there is no lane or nothing to do. */
static bool next_class_locked(const mf_batcher *b, mf_embed_class *out)
    MF_REQUIRES(b->pool_mu) {
    bool questions = b->queues[MF_EMBED_QUESTION].first != NULL;
    bool ingest = b->queues[MF_EMBED_INGEST].first != NULL &&
                  b->ingest_busy < b->options.ingest_lanes_max;
    if (questions && !(ingest && b->question_run >= MF_QUESTION_RUN)) {
        *out = MF_EMBED_QUESTION;
    } else {
        *out = MF_EMBED_INGEST;
    }
    return b->free_count > 0 && (questions || ingest);
}

static void wake_next_locked(mf_batcher *b) MF_REQUIRES(b->pool_mu) {
    mf_embed_class cls;
    if (next_class_locked(b, &cls)) {
        mf_cond_signal(&b->queues[cls].first->changed);
    }
}

static void note_wait(mf_batcher *b, const mf_piece *piece, int64_t now_ns) {
    int64_t waited_ns = now_ns > piece->queued_ns ? now_ns - piece->queued_ns : 0;
    mf_histogram_record(&b->waits[piece->cls], (uint64_t)waited_ns);
}

static bool fits(const mf_batch_slot *s, const mf_piece *piece) {
    return s->calls == 0 || (!piece->alone && !s->members->alone &&
                             s->tokens + piece->tokens <= MF_GROUP_TOKENS &&
                             s->texts + piece->count <= MF_ENCODE_BATCH_MAX);
}

static void join_batch_locked(mf_batcher *b, mf_batch_slot *s, mf_piece *piece)
    MF_REQUIRES(b->pool_mu) {
    MF_ASSERT(s->tokens + piece->tokens <= s->lane->tokens_max);
    memcpy(s->ids + s->tokens, piece->ids, piece->tokens * sizeof *s->ids);
    memcpy(s->lengths + s->texts, piece->lengths, piece->count * sizeof *s->lengths);
    queue_unlink_locked(b, piece);
    piece->state = MF_PIECE_RUNNING;
    piece->slot = s;
    piece->row = s->texts;
    piece->next = s->members;
    if (s->members != NULL) {
        s->members->prev = piece;
    }
    s->members = piece;
    s->calls++;
    s->texts += piece->count;
    s->tokens += piece->tokens;
    s->deadline_ns =
        piece->deadline_ns > s->deadline_ns ? piece->deadline_ns : s->deadline_ns;
}

static void count_batch_locked(mf_batcher *b, const mf_batch_slot *s)
    MF_REQUIRES(b->pool_mu) {
    if (s->cls == MF_EMBED_INGEST) {
        b->stats.ingest_slices++;
        b->ingest_busy++;
        b->question_run = 0;
        return;
    }
    b->stats.question_batches++;
    b->stats.coalesced += s->calls > 1 ? s->calls : 0;
    b->stats.question_batch_max =
        s->calls > b->stats.question_batch_max ? s->calls : b->stats.question_batch_max;
    bool held_back = b->queues[MF_EMBED_INGEST].first != NULL &&
                     b->ingest_busy < b->options.ingest_lanes_max;
    b->question_run = held_back ? b->question_run + 1 : 0;
}

/* A lane for this piece and those behind it, or NULL when it is not its turn.  Pieces
 * whose time is over end here and take no lane's time. */
static mf_batch_slot *take_batch_locked(mf_batcher *b, mf_piece *piece)
    MF_REQUIRES(b->pool_mu) {
    mf_embed_class cls;
    piece_queue *q = &b->queues[piece->cls];
    if (piece->state != MF_PIECE_QUEUED || q->first != piece ||
        !next_class_locked(b, &cls) || cls != piece->cls) {
        return NULL;
    }
    int64_t now_ns = mf_now_ns();
    mf_batch_slot *s = b->free[b->free_count - 1];
    atomic_store(&s->stop, false);
    s->cls = cls;
    s->calls = 0;
    s->texts = 0;
    s->tokens = 0;
    s->deadline_ns = INT64_MIN;
    while (q->first != NULL && (q->first->deadline_ns <= now_ns || fits(s, q->first))) {
        mf_piece *next = q->first;
        if (next->deadline_ns <= now_ns) {
            expire_locked(b, next);
        } else {
            note_wait(b, next, now_ns);
            join_batch_locked(b, s, next);
        }
        if (piece->state == MF_PIECE_ENDED) {
            break; /* its own time was over, so it does no work for others */
        }
    }
    if (s->calls > 0) {
        b->free_count--;
        count_batch_locked(b, s);
    }
    wake_next_locked(b);
    return s->calls > 0 ? s : NULL;
}

/* --- one batch -------------------------------------------------------------------- */

/* Without the lock: the slot is its leader's, and nobody touches the rows. */
static mf_rc run_batch(mf_batcher *b, mf_batch_slot *s, mf_err *err) {
    if (b->options.watch != NULL) {
        b->options.watch(b->options.watch_ctx,
                         &(mf_embed_batch){s->cls, s->calls, s->texts, s->tokens});
    }
    mf_noalloc_begin();
    mf_rc rc = mf_lane_encode_ids(s->lane, s->ids, s->lengths, s->texts, s->deadline_ns,
                                  s->vectors, err);
    if (rc == MF_OK && !b->options.exact) {
        mf_half_from_float(s->vectors, s->halves, s->texts * b->dim);
    }
    mf_noalloc_end();
    return rc;
}

static void deliver_locked(mf_batcher *b, mf_batch_slot *s) MF_REQUIRES(b->pool_mu) {
    const char *rows =
        b->options.exact ? (const char *)s->vectors : (const char *)s->halves;
    while (s->members != NULL) {
        mf_piece *piece = s->members;
        memcpy(piece->out, rows + piece->row * b->row_bytes,
               piece->count * b->row_bytes);
        end_piece_locked(b, piece, MF_OK);
    }
}

/* Pieces of a batch that failed: back to the front, each to run by itself, unless it
 * was by itself already or simply came too late. */
static void fail_locked(mf_batcher *b, mf_batch_slot *s, mf_rc rc, const mf_err *err)
    MF_REQUIRES(b->pool_mu) {
    bool again = s->calls > 1 && rc != MF_E_TIMEOUT;
    while (s->members != NULL) {
        mf_piece *piece = s->members;
        if (again) {
            member_unlink(piece);
            piece->alone = true;
            queue_insert_locked(b, NULL, piece);
            b->stats.retried++;
        } else {
            b->stats.expired += rc == MF_E_TIMEOUT ? 1 : 0;
            piece->err = *err;
            end_piece_locked(b, piece, rc);
        }
    }
}

static void lead_batch(mf_batcher *b, mf_batch_slot *s) {
    mf_err err = {0};
    int64_t start_ns = mf_now_ns();
    mf_rc rc = run_batch(b, s, &err);
    int64_t busy_ns = mf_now_ns() - start_ns;
    mf_mutex_lock(&b->pool_mu);
    if (rc == MF_OK) {
        deliver_locked(b, s);
    } else {
        fail_locked(b, s, rc, &err);
    }
    b->free[b->free_count++] = s;
    b->ingest_busy -= s->cls == MF_EMBED_INGEST ? 1 : 0;
    b->stats.busy_ns += (uint64_t)busy_ns;
    wake_next_locked(b);
    mf_mutex_unlock(&b->pool_mu);
}

/* --- calls ------------------------------------------------------------------------ */

static bool is_called_off(const mf_batcher *b, const mf_piece *piece) {
    return b->stopping || (piece->cancel != NULL && atomic_load(piece->cancel));
}

/* Puts the piece in its queue, or ends it. */
static void enter_locked(mf_batcher *b, mf_piece *piece) MF_REQUIRES(b->pool_mu) {
    piece_queue *q = &b->queues[piece->cls];
    bool in_time = true;
    while (piece->cls == MF_EMBED_INGEST && q->count >= q->limit && in_time &&
           !is_called_off(b, piece)) {
        in_time = mf_cond_wait(&b->room, &b->pool_mu, piece->deadline_ns);
    }
    if (piece->given_back) {
        end_piece_locked(b, piece, MF_OK);
    } else if (is_called_off(b, piece)) {
        call_off_locked(b, piece);
    } else if (q->count < q->limit) {
        queue_insert_locked(b, q->last, piece);
    } else if (piece->cls == MF_EMBED_INGEST) {
        expire_locked(b, piece);
    } else {
        b->stats.refused++;
        end_piece_locked(b, piece,
                         MF_FAIL(&piece->err, MF_E_BUSY,
                                 "%zu questions wait to be encoded already", q->count));
    }
}

mf_rc mf_batcher_run(mf_batcher *b, mf_piece *piece, bool *given_back, mf_err *err) {
    piece->queued_ns = mf_now_ns();
    mf_mutex_lock(&b->pool_mu);
    enter_locked(b, piece);
    while (piece->state != MF_PIECE_ENDED) {
        mf_batch_slot *s = take_batch_locked(b, piece);
        if (s != NULL) {
            mf_mutex_unlock(&b->pool_mu);
            lead_batch(b, s);
            mf_mutex_lock(&b->pool_mu);
        } else if (piece->state != MF_PIECE_ENDED &&
                   !mf_cond_wait(&piece->changed, &b->pool_mu, piece->deadline_ns) &&
                   piece->state != MF_PIECE_ENDED) {
            expire_locked(b, piece);
            wake_next_locked(b);
        }
    }
    mf_rc rc = piece->rc;
    *given_back = piece->given_back;
    mf_mutex_unlock(&b->pool_mu);
    if (rc != MF_OK && err != NULL) {
        *err = piece->err;
    }
    return rc;
}

bool mf_batcher_take_back(mf_batcher *b, mf_piece *piece) {
    mf_mutex_lock(&b->pool_mu);
    bool waiting = piece->state == MF_PIECE_NEW || piece->state == MF_PIECE_QUEUED;
    if (waiting) {
        piece->given_back = true;
    }
    if (piece->state == MF_PIECE_QUEUED) {
        end_piece_locked(b, piece, MF_OK);
        wake_next_locked(b);
    }
    mf_mutex_unlock(&b->pool_mu);
    return waiting;
}

/* `flag` NULL: every piece. */
static void call_off_all_locked(mf_batcher *b, const atomic_bool *flag)
    MF_REQUIRES(b->pool_mu) {
    for (size_t cls = 0; cls < MF_EMBED_CLASSES; cls++) {
        for (mf_piece *p = b->queues[cls].first, *next; p != NULL; p = next) {
            next = p->next;
            if (flag == NULL || p->cancel == flag) {
                call_off_locked(b, p);
            }
        }
    }
    for (size_t i = 0; i < b->options.lane_count; i++) {
        for (mf_piece *p = b->slots[i].members, *next; p != NULL; p = next) {
            next = p->next;
            if (flag == NULL || p->cancel == flag) {
                call_off_locked(b, p);
            }
        }
    }
    mf_cond_broadcast(&b->room);
    wake_next_locked(b);
}

void mf_batcher_cancel(mf_batcher *b, const atomic_bool *flag) {
    mf_mutex_lock(&b->pool_mu);
    call_off_all_locked(b, flag);
    mf_mutex_unlock(&b->pool_mu);
}

void mf_batcher_stop(mf_batcher *b) {
    mf_mutex_lock(&b->pool_mu);
    b->stopping = true;
    call_off_all_locked(b, NULL);
    mf_mutex_unlock(&b->pool_mu);
}

/* --- figures ---------------------------------------------------------------------- */

void mf_batcher_get_stats(mf_batcher *b, mf_embedder_stats *out) {
    mf_mutex_lock(&b->pool_mu);
    *out = b->stats;
    out->lane_count = b->options.lane_count;
    out->lanes_busy = b->options.lane_count - b->free_count;
    for (size_t cls = 0; cls < MF_EMBED_CLASSES; cls++) {
        out->waiting[cls] = b->queues[cls].count;
        out->waiting_max[cls] = b->queues[cls].count_max;
    }
    mf_mutex_unlock(&b->pool_mu);
    for (size_t cls = 0; cls < MF_EMBED_CLASSES; cls++) {
        mf_histogram_get_summary(&b->waits[cls], &out->waits[cls]);
    }
}
