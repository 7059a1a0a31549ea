/* add.c - storing a round, or several of one user together.
 *
 *   caller's thread    session and user found, tokens counted, everything copied
 *   writer thread      run: rows, backlog note, jobs of the layers, idempotency record:
 *                      one undo point (group commit with whoever else was waiting)
 *                      done: windows, index queue, version; then the caller's answer
 *
 * The copy is a change block: its texts feed the insert and then, without another copy,
 * the index.  An answer is given only after the commit, and by then the round is in the
 * user's queue of changes, so whoever sees the answer finds the round.
 *
 * Several rounds are one operation: all are stored or none, they enter the windows as a
 * batch, and the index queue as one change.
 *
 * Idempotency.  A key belongs to a user.  Its record, written in the same undo point as
 * the rows, holds a fingerprint of the request and the ids it got; a repetition reads
 * it in the same serial order as all writes, so two at once cannot both insert. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/uuid.h"
#include "service/completion.h"
#include "service/service_impl.h"

enum { KEY_MAX = 256, REPLY_ARENA_MAX = 16 << 20 };

/* What the caller asks for; borrowed for the call.  Only a single round has a key. */
typedef struct add_request {
    const mf_new_round *rounds;
    size_t round_count;
    mf_str key; /* empty: none */
    mf_add_fn done;
    void *ctx;
    mf_span span;
} add_request;

typedef struct add_round {
    mf_session_owner owner;
    size_t first, count; /* its rows */
    size_t tokens;
    mf_uuid closed; /* session whose window its coming closed, or none */
} add_round;

typedef struct add_op {
    mf_write write;
    mf_service *service;
    mf_user *user;
    mf_uuid user_id;
    mf_add_fn done;
    void *done_ctx;
    add_round *rounds;       /* [round_count] */
    mf_write_round *entries; /* [round_count]; what the windows are told */
    size_t round_count;
    add_round only; /* the two above, when there is one */
    mf_write_round only_entry;
    mf_change_block *block; /* texts, metadata and key live in it */
    mf_message_row *rows;   /* [count] */
    mf_uuid *ids;           /* [count]; what is answered */
    size_t count;
    mf_str key;
    uint64_t fingerprint;
    int64_t now_us;
    bool replayed;
    bool background_queued;
    uint64_t number;
    mf_span span; /* ends when the caller is told */
} add_op;

/* --- idempotency --- */

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t pair[2] = {a, b};
    return mf_str_hash((mf_str){(const char *)pair, sizeof pair});
}

static uint64_t fingerprint_of(mf_uuid session_id, const mf_new_round *round) {
    uint64_t print = mf_str_hash(mf_uuid_key(&session_id));
    for (size_t i = 0; i < round->count; i++) {
        const mf_new_message *m = &round->messages[i];
        print = mix(print, (uint64_t)m->role);
        print = mix(print, mf_str_hash(m->content));
        print = mix(print, m->metadata.p != NULL ? mf_str_hash(m->metadata) : 0);
        print = mix(print, (uint64_t)m->created_us);
    }
    return print;
}

/* The record's text: the ids one behind the other. */
static mf_rc write_record(const add_op *op, mf_conn *conn, mf_arena *arena,
                          mf_err *err) {
    char *text = mf_arena_alloc(arena, op->count * MF_UUID_TEXT + 1);
    if (text == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu ids", op->count);
    }
    for (size_t i = 0; i < op->count; i++) {
        mf_uuid_format(op->ids[i], text + i * MF_UUID_TEXT);
    }
    mf_str reply = {text, op->count * MF_UUID_TEXT};
    return conn->ops->idempotency_put(conn, op->user_id, op->key, op->fingerprint,
                                      reply, op->now_us, err);
}

static mf_rc read_record(add_op *op, mf_str reply, uint64_t fingerprint, mf_err *err) {
    if (fingerprint != op->fingerprint) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "idempotency_key",
                             "This idempotency key was used with another request");
    }
    bool whole = reply.len == op->count * MF_UUID_TEXT;
    for (size_t i = 0; i < op->count && whole; i++) {
        whole = mf_uuid_parse(mf_str_sub(reply, i * MF_UUID_TEXT, MF_UUID_TEXT),
                              &op->ids[i]);
    }
    if (!whole) {
        return MF_FAIL(err, MF_E_CORRUPT, "an idempotency record is damaged");
    }
    op->replayed = true;
    return MF_OK;
}

/* --- on the writer thread --- */

static mf_rc insert_round(add_op *op, add_round *round, mf_conn *conn, mf_err *err) {
    MF_TRY(
        mf_user_change_session(op->user, conn, round->owner.id, &round->closed, err));
    mf_rc rc =
        conn->ops->message_insert(conn, op->rows + round->first, round->count, err);
    if (rc == MF_E_NOTFOUND) {
        char id[MF_UUID_TEXT + 1];
        mf_uuid_format(round->owner.id, id);
        return mf_service_session_missing(mf_str_from(id), err);
    }
    return rc;
}

static mf_rc insert_rows(add_op *op, mf_conn *conn, mf_err *err) {
    for (size_t i = 0; i < op->round_count; i++) {
        MF_TRY(insert_round(op, &op->rounds[i], conn, err));
    }
    return MF_OK;
}

static mf_rc run_keyed(add_op *op, mf_conn *conn, mf_arena *arena, mf_err *err) {
    uint64_t fingerprint;
    mf_str reply;
    mf_rc rc = conn->ops->idempotency_get(conn, op->user_id, op->key, arena,
                                          &fingerprint, &reply, err);
    if (rc == MF_OK) {
        return read_record(op, reply, fingerprint, err);
    }
    if (rc != MF_E_NOTFOUND) {
        return rc;
    }
    MF_TRY(insert_rows(op, conn, err));
    return write_record(op, conn, arena, err);
}

/* What others have to do about the round: vectors, and the layers over it. */
static mf_rc note_owed(add_op *op, mf_conn *conn, mf_err *err) {
    MF_TRY(mf_jobs_enqueue_add(op->service->jobs, conn, op->rows, op->count,
                               &op->background_queued, err));
    return mf_user_note_backlog(op->user, conn, err);
}

static mf_rc add_run(mf_conn *conn, void *ctx, mf_err *err) {
    add_op *op = ctx;
    op->number = mf_user_write_begin(op->user);
    if (op->key.len == 0) {
        MF_TRY(insert_rows(op, conn, err));
        return note_owed(op, conn, err);
    }
    mf_arena *arena;
    MF_TRY(mf_arena_new(REPLY_ARENA_MAX, &arena, err));
    mf_rc rc = run_keyed(op, conn, arena, err);
    mf_arena_free(arena);
    if (rc != MF_OK || op->replayed) {
        return rc;
    }
    return note_owed(op, conn, err);
}

static void op_free(add_op *op) {
    mf_change_block_free(op->block);
    mf_free(op->rows);
    mf_free(op->ids);
    if (op->round_count != 1) {
        mf_free(op->rounds);
        mf_free(op->entries);
    }
    mf_user_unref(op->user);
    mf_free(op);
}

/* The committed rounds enter the windows, in the order of the closings between them. */
static void fill_windows(add_op *op, mf_add_result *result) {
    size_t from = 0;
    for (size_t i = 0; i <= op->round_count; i++) {
        bool closes = i < op->round_count && !mf_uuid_is_none(op->rounds[i].closed);
        if ((closes || i == op->round_count) && i > from) {
            mf_write_outcome outcome;
            mf_user_add_rounds(op->user, op->entries + from, i - from, &outcome);
            result->transfer_triggered |= outcome.transfer_triggered;
            result->window_rounds = outcome.window.rounds;
            result->window_tokens = outcome.window.tokens;
            from = i;
        }
        if (closes) {
            size_t left = mf_user_window_closed(op->user, op->rounds[i].closed,
                                                MF_TRANSFER_SESSION_CHANGE);
            result->transfer_triggered |= left > 0;
        }
    }
}

static void apply_rounds(add_op *op, mf_add_result *result) {
    for (size_t i = 0; i < op->round_count; i++) {
        const add_round *round = &op->rounds[i];
        op->entries[i] = (mf_write_round){
            .session_id = round->owner.id,
            .round = {.first_num = op->rows[round->first].num, .tokens = round->tokens},
        };
    }
    fill_windows(op, result);
    for (size_t i = 0; i < op->count; i++) {
        op->block->docs[i].facts.key.num = op->rows[i].num;
    }
    mf_user_change(op->user, &op->block->change);
    op->block = NULL;
}

static void add_done(void *ctx, mf_rc rc, const mf_err *err) {
    add_op *op = ctx;
    mf_service *service = op->service;
    mf_add_result result = {
        .message_ids = op->ids, .count = op->count, .replayed = op->replayed};
    bool stored = rc == MF_OK && !op->replayed;
    if (stored) {
        apply_rounds(op, &result);
        result.background_queued = op->background_queued;
    }
    mf_user_write_end(op->user, op->number, rc);
    mf_user_data_written(service->user_data, mf_user_id(op->user));
    if (stored) {
        mf_flush_manager_wake(service->flusher, op->user);
    }
    if (stored && op->background_queued) {
        mf_jobs_wake(service->jobs);
    }
    mf_metrics_end(op->span, rc);
    op->done(op->done_ctx, rc, rc == MF_OK ? &result : NULL, err);
    op_free(op);
    mf_service_write_leave(service);
}

/* --- on the caller's thread --- */

static mf_rc check_request(const add_request *request, mf_err *err) {
    if (request->key.len > KEY_MAX) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "idempotency_key",
                             "An idempotency key has at most %d bytes", KEY_MAX);
    }
    for (size_t r = 0; r < request->round_count; r++) {
        const mf_new_round *round = &request->rounds[r];
        if (round->count == 0 && request->round_count > 1) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "messages",
                                 "Round %zu has no message", r);
        }
        for (size_t i = 0; i < round->count; i++) {
            if (round->messages[i].content.len == 0) {
                return MF_FAIL_FIELD(err, MF_E_FORMAT, "content",
                                     "Message %zu has no content", i);
            }
        }
    }
    return MF_OK;
}

static size_t text_bytes(const add_request *request) {
    size_t bytes = request->key.len;
    for (size_t r = 0; r < request->round_count; r++) {
        const mf_new_round *round = &request->rounds[r];
        for (size_t i = 0; i < round->count; i++) {
            bytes += round->messages[i].content.len + round->messages[i].metadata.len;
        }
    }
    return bytes;
}

static void fill_message(add_op *op, const mf_session_owner *owner, size_t i,
                         const mf_new_message *message, mf_uuid round_id) {
    mf_message_row *row = &op->rows[i];
    int64_t at_us = message->created_us != 0 ? message->created_us : op->now_us;
    op->ids[i] = mf_uuid_new();
    *row = (mf_message_row){
        .id = op->ids[i],
        .user_id = op->user_id,
        .session_id = owner->id,
        .round_id = round_id,
        .role = message->role,
        .content = mf_change_block_text(op->block, message->content),
        .created_us = at_us,
        .updated_us = at_us,
    };
    if (message->metadata.p != NULL) {
        row->metadata = mf_change_block_text(op->block, message->metadata);
    }
    op->block->docs[i] = (mf_change_doc){
        .facts = {.key = {.kind = MF_DOC_MESSAGE},
                  .session_id = owner->id,
                  .agent_id = owner->agent_id,
                  .created_us = at_us},
        .text = row->content,
    };
}

static mf_rc op_make_room(add_op *op, const add_request *request, mf_err *err) {
    if (op->round_count == 1) {
        op->rounds = &op->only;
        op->entries = &op->only_entry;
    } else {
        op->rounds = mf_alloc_zero(op->round_count, sizeof(op->rounds[0]));
        op->entries = mf_alloc_zero(op->round_count, sizeof(op->entries[0]));
    }
    op->rows = mf_alloc_array(op->count, sizeof(op->rows[0]));
    op->ids = mf_alloc_array(op->count, sizeof(op->ids[0]));
    if (op->rounds == NULL || op->entries == NULL || op->rows == NULL ||
        op->ids == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu messages", op->count);
    }
    return mf_change_block_new(MF_CHANGE_ADD, op->count, text_bytes(request),
                               &op->block, err);
}

static void fill_round(add_op *op, add_round *round, const mf_new_round *from) {
    mf_uuid round_id = mf_uuid_new();
    bool counting = mf_user_has_windows(op->user);
    round->count = from->count;
    for (size_t i = 0; i < from->count; i++) {
        const mf_new_message *message = &from->messages[i];
        fill_message(op, &round->owner, round->first + i, message, round_id);
        if (counting) {
            round->tokens +=
                mf_token_cache_count(op->service->parts.token_cache, message->content);
        }
    }
}

/* Everything is copied.  `owners` are those of the rounds' sessions. */
static mf_rc op_fill(add_op *op, const add_request *request,
                     const mf_session_owner *owners, mf_err *err) {
    MF_TRY(op_make_room(op, request, err));
    op->block->change.session_id = owners[0].id;
    size_t first = 0;
    for (size_t i = 0; i < op->round_count; i++) {
        op->rounds[i].owner = owners[i];
        op->rounds[i].first = first;
        fill_round(op, &op->rounds[i], &request->rounds[i]);
        first += request->rounds[i].count;
    }
    op->key = mf_change_block_text(op->block, request->key);
    if (request->key.len > 0) {
        op->fingerprint = fingerprint_of(owners[0].id, &request->rounds[0]);
    }
    return MF_OK;
}

static size_t message_count(const add_request *request) {
    size_t count = 0;
    for (size_t i = 0; i < request->round_count; i++) {
        count += request->rounds[i].count;
    }
    return count;
}

/* Hands the rounds to the writer.  Takes the reference to `user`, also on failure. */
static mf_rc op_submit(mf_service *service, const mf_session_owner *owners,
                       mf_user *user, const add_request *request, mf_err *err) {
    add_op *op = mf_alloc_zero(1, sizeof(*op));
    if (op == NULL) {
        mf_user_unref(user);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a write");
    }
    op->service = service;
    op->user = user;
    op->user_id = owners[0].user_id;
    op->round_count = request->round_count;
    op->count = message_count(request);
    op->span = request->span;
    op->done = request->done;
    op->done_ctx = request->ctx;
    op->now_us = mf_wall_us();
    op->write = (mf_write){.run = add_run, .done = add_done, .ctx = op};
    mf_rc rc = op_fill(op, request, owners, err);
    if (rc == MF_OK) {
        rc = mf_service_write_enter(service, err);
    }
    if (rc == MF_OK) {
        rc = mf_writer_submit(service->parts.writer, &op->write, err);
        if (rc != MF_OK) {
            mf_service_write_leave(service);
        }
    }
    if (rc != MF_OK) {
        op_free(op);
    }
    return rc;
}

/* The owners of the rounds' sessions, all one user's, and a reference to that user. */
static mf_rc find_owners(mf_service *service, const add_request *request,
                         mf_session_owner *owners, mf_user **user, mf_err *err) {
    for (size_t i = 1; i < request->round_count; i++) {
        MF_TRY(mf_service_find_session(service, request->rounds[i].session_id,
                                       &owners[i], err));
    }
    mf_user *found;
    MF_TRY(mf_service_find_session_user(service, request->rounds[0].session_id,
                                        &owners[0], &found, err));
    for (size_t i = 1; i < request->round_count; i++) {
        if (!mf_uuid_eq(owners[i].user_id, owners[0].user_id)) {
            mf_user_unref(found);
            return MF_FAIL_FIELD(err, MF_E_INVAL, "session_id",
                                 "The sessions of one batch belong to one user");
        }
    }
    *user = found;
    return MF_OK;
}

/* MF_OK: the writer calls `done`, or has done so already, unless `*empty`: there is
 * nothing to store. */
static mf_rc add(mf_service *service, const add_request *request,
                 mf_session_owner *owners, bool *empty, mf_err *err) {
    mf_user *user = NULL;
    MF_TRY(check_request(request, err));
    MF_TRY(find_owners(service, request, owners, &user, err));
    *empty = message_count(request) == 0;
    if (*empty) {
        mf_user_unref(user);
        return MF_OK;
    }
    mf_user_keep_up(user);
    for (size_t i = 0; i < request->round_count; i++) {
        mf_round_window window;
        mf_rc rc = mf_user_window(user, owners[i].id, mf_service_deadline(service),
                                  &window, NULL);
        (void)rc; /* it makes the window known for the answer, which can do without */
    }
    return op_submit(service, owners, user, request, err);
}

static void add_request_run(mf_service *service, add_request *request,
                            mf_session_owner *owners) {
    request->span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_ADD);
    mf_err err = {0};
    bool empty = false;
    mf_rc rc = add(service, request, owners, &empty, &err);
    if (rc != MF_OK) {
        mf_metrics_end(request->span, rc);
        request->done(request->ctx, rc, NULL, &err);
    } else if (empty) {
        mf_metrics_end(request->span, rc);
        mf_add_result nothing = {0};
        request->done(request->ctx, MF_OK, &nothing, NULL);
    }
}

void mf_service_add(mf_service *service, mf_str session_id,
                    const mf_new_message *messages, size_t count,
                    mf_str idempotency_key, mf_add_fn done, void *ctx) {
    mf_new_round round = {
        .session_id = session_id, .messages = messages, .count = count};
    add_request request = {.rounds = &round,
                           .round_count = 1,
                           .key = idempotency_key,
                           .done = done,
                           .ctx = ctx};
    mf_session_owner owner;
    add_request_run(service, &request, &owner);
}

void mf_service_add_batch(mf_service *service, const mf_new_round *rounds, size_t count,
                          mf_add_fn done, void *ctx) {
    MF_ASSERT(count > 0);
    add_request request = {
        .rounds = rounds, .round_count = count, .done = done, .ctx = ctx};
    mf_session_owner *owners = mf_alloc_array(count, sizeof(*owners));
    if (owners == NULL) {
        mf_err err = {0};
        done(ctx, MF_FAIL(&err, MF_E_NOMEM, "no memory for %zu rounds", count), NULL,
             &err);
        return;
    }
    add_request_run(service, &request, owners);
    mf_free(owners);
}

typedef struct add_waiter {
    mf_completion completion;
    mf_uuid *ids;
} add_waiter;

static void waiter_done(void *ctx, mf_rc rc, const mf_add_result *result,
                        const mf_err *err) {
    add_waiter *waiter = ctx;
    if (rc == MF_OK && result->count > 0) {
        memcpy(waiter->ids, result->message_ids, result->count * sizeof(mf_uuid));
    }
    mf_completion_finish(&waiter->completion, rc, err);
}

mf_rc mf_service_add_wait(mf_service *service, mf_str session_id,
                          const mf_new_message *messages, size_t count, mf_uuid *ids,
                          mf_err *err) {
    add_waiter waiter = {.ids = ids};
    mf_completion_init(&waiter.completion);
    mf_service_add(service, session_id, messages, count, MF_STR_NONE, waiter_done,
                   &waiter);
    return mf_completion_wait(&waiter.completion, err);
}
