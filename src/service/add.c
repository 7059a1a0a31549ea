/* add.c - storing a round.
 *
 *   caller's thread    session and user found, tokens counted, everything copied
 *   writer thread      run: rows, backlog note, idempotency record: one undo point
 *                      (group commit with whoever else was waiting)
 *                      done: window, index queue, version; then the caller's answer
 *
 * The copy is a change block: its texts feed the insert and then, without another copy,
 * the index.  An answer is given only after the commit, and by then the round is in the
 * user's queue of changes, so whoever sees the answer finds the round.
 *
 * Idempotency.  A key belongs to a user.  Its record, written in the same undo point as
 * the rows, holds a fingerprint of the request and the ids it got; a repetition reads
 * it in the same serial order as all writes, so two at once cannot both insert. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/uuid.h"
#include "service/completion.h"
#include "service/service_impl.h"

enum { KEY_MAX = 256, REPLY_ARENA_MAX = 16 << 20 };

/* Records are kept for a day, and swept once an hour by a write that has a key
 * anyway. */
static const int64_t KEEP_US = INT64_C(24) * 3600 * 1000000;
static const int64_t SWEEP_US = INT64_C(3600) * 1000000;

/* What the caller asks for; borrowed for the call. */
typedef struct add_request {
    mf_str session_id;
    const mf_new_message *messages;
    size_t count;
    mf_str key; /* empty: none */
    mf_add_fn done;
    void *ctx;
    mf_span span;
} add_request;

typedef struct add_op {
    mf_write write;
    mf_service *service;
    mf_user *user;
    mf_session_owner owner;
    mf_add_fn done;
    void *done_ctx;
    mf_change_block *block; /* texts, metadata and key live in it */
    mf_message_row *rows;   /* [count] */
    mf_uuid *ids;           /* [count]; what is answered */
    size_t count;
    size_t tokens;
    mf_str key;
    uint64_t fingerprint;
    int64_t now_us;
    bool replayed;
    uint64_t number;
    mf_span span; /* ends when the caller is told */
} add_op;

/* --- idempotency --- */

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t pair[2] = {a, b};
    return mf_str_hash((mf_str){(const char *)pair, sizeof pair});
}

static uint64_t fingerprint_of(mf_uuid session_id, const mf_new_message *messages,
                               size_t count) {
    uint64_t print = mf_str_hash(mf_uuid_key(&session_id));
    for (size_t i = 0; i < count; i++) {
        const mf_new_message *m = &messages[i];
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
    return conn->ops->idempotency_put(conn, op->owner.user_id, op->key, op->fingerprint,
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

static mf_rc sweep_records(add_op *op, mf_conn *conn, mf_err *err) {
    mf_service *service = op->service;
    if (op->now_us - service->purged_us < SWEEP_US) {
        return MF_OK;
    }
    MF_TRY(conn->ops->idempotency_purge(conn, op->now_us - KEEP_US, err));
    service->purged_us = op->now_us;
    return MF_OK;
}

/* --- on the writer thread --- */

static mf_rc insert_rows(add_op *op, mf_conn *conn, mf_err *err) {
    mf_rc rc = conn->ops->message_insert(conn, op->rows, op->count, err);
    if (rc == MF_E_NOTFOUND) {
        char id[MF_UUID_TEXT + 1];
        mf_uuid_format(op->owner.id, id);
        return mf_service_session_missing(mf_str_from(id), err);
    }
    return rc;
}

static mf_rc run_keyed(add_op *op, mf_conn *conn, mf_arena *arena, mf_err *err) {
    uint64_t fingerprint;
    mf_str reply;
    mf_rc rc = conn->ops->idempotency_get(conn, op->owner.user_id, op->key, arena,
                                          &fingerprint, &reply, err);
    if (rc == MF_OK) {
        return read_record(op, reply, fingerprint, err);
    }
    if (rc != MF_E_NOTFOUND) {
        return rc;
    }
    MF_TRY(insert_rows(op, conn, err));
    MF_TRY(write_record(op, conn, arena, err));
    return sweep_records(op, conn, err);
}

static mf_rc add_run(mf_conn *conn, void *ctx, mf_err *err) {
    add_op *op = ctx;
    op->number = mf_user_write_begin(op->user);
    if (op->key.len == 0) {
        MF_TRY(insert_rows(op, conn, err));
        return mf_user_note_backlog(op->user, conn, err);
    }
    mf_arena *arena;
    MF_TRY(mf_arena_new(REPLY_ARENA_MAX, &arena, err));
    mf_rc rc = run_keyed(op, conn, arena, err);
    mf_arena_free(arena);
    if (rc != MF_OK || op->replayed) {
        return rc;
    }
    return mf_user_note_backlog(op->user, conn, err);
}

static void op_free(add_op *op) {
    mf_change_block_free(op->block);
    mf_free(op->rows);
    mf_free(op->ids);
    mf_user_unref(op->user);
    mf_free(op);
}

/* The committed round enters the window and the queue for the index. */
static void apply_round(add_op *op, mf_add_result *result) {
    mf_write_outcome outcome;
    mf_round round = {.first_num = op->rows[0].num, .tokens = op->tokens};
    mf_user_add_round(op->user, op->owner.id, &round, &outcome);
    result->transfer_triggered = outcome.transfer_triggered;
    result->window_rounds = outcome.window.rounds;
    result->window_tokens = outcome.window.tokens;
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
        apply_round(op, &result);
    }
    mf_user_write_end(op->user, op->number, rc);
    if (stored && service->pool != NULL) {
        mf_flush_manager_wake(service->pool, op->user);
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
    for (size_t i = 0; i < request->count; i++) {
        if (request->messages[i].content.len == 0) {
            return MF_FAIL_FIELD(err, MF_E_FORMAT, "content",
                                 "Message %zu has no content", i);
        }
    }
    return MF_OK;
}

static size_t text_bytes(const add_request *request) {
    size_t bytes = request->key.len;
    for (size_t i = 0; i < request->count; i++) {
        bytes += request->messages[i].content.len + request->messages[i].metadata.len;
    }
    return bytes;
}

static void fill_message(add_op *op, size_t i, const mf_new_message *message,
                         mf_uuid round_id) {
    mf_message_row *row = &op->rows[i];
    int64_t at_us = message->created_us != 0 ? message->created_us : op->now_us;
    op->ids[i] = mf_uuid_new();
    *row = (mf_message_row){
        .id = op->ids[i],
        .user_id = op->owner.user_id,
        .session_id = op->owner.id,
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
                  .session_id = op->owner.id,
                  .agent_id = op->owner.agent_id,
                  .created_us = at_us},
        .text = row->content,
    };
}

static mf_rc op_fill(add_op *op, const add_request *request, mf_err *err) {
    size_t count = request->count;
    MF_TRY(mf_change_block_new(MF_CHANGE_ADD, count, text_bytes(request), &op->block,
                               err));
    op->rows = mf_alloc_array(count, sizeof(op->rows[0]));
    op->ids = mf_alloc_array(count, sizeof(op->ids[0]));
    if (op->rows == NULL || op->ids == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu messages", count);
    }
    op->block->change.session_id = op->owner.id;
    mf_uuid round_id = mf_uuid_new();
    bool counting = mf_settings_get(op->service->parts.settings)->buffer_enabled;
    for (size_t i = 0; i < count; i++) {
        const mf_new_message *message = &request->messages[i];
        fill_message(op, i, message, round_id);
        if (counting) {
            op->tokens += mf_token_count(op->service->parts.tokens, message->content);
        }
    }
    op->key = mf_change_block_text(op->block, request->key);
    if (request->key.len > 0) {
        op->fingerprint = fingerprint_of(op->owner.id, request->messages, count);
    }
    return MF_OK;
}

/* Hands the round to the writer.  Takes the reference to `user`, also on failure. */
static mf_rc op_submit(mf_service *service, const mf_session_owner *owner,
                       mf_user *user, const add_request *request, mf_err *err) {
    add_op *op = mf_alloc_zero(1, sizeof(*op));
    if (op == NULL) {
        mf_user_unref(user);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a write");
    }
    op->service = service;
    op->owner = *owner;
    op->user = user;
    op->count = request->count;
    op->span = request->span;
    op->done = request->done;
    op->done_ctx = request->ctx;
    op->now_us = mf_wall_us();
    op->write = (mf_write){.run = add_run, .done = add_done, .ctx = op};
    mf_rc rc = op_fill(op, request, err);
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

/* MF_OK: the writer calls `done`, or has done so already, unless `*empty`: there is
 * nothing to store. */
static mf_rc add(mf_service *service, const add_request *request, bool *empty,
                 mf_err *err) {
    mf_session_owner owner;
    mf_user *user;
    MF_TRY(check_request(request, err));
    MF_TRY(
        mf_service_find_session_user(service, request->session_id, &owner, &user, err));
    *empty = request->count == 0;
    if (*empty) {
        mf_user_unref(user);
        return MF_OK;
    }
    mf_user_keep_up(user);
    mf_round_window window;
    mf_rc rc =
        mf_user_window(user, owner.id, mf_service_deadline(service), &window, NULL);
    (void)rc; /* it makes the window known for the answer, which can do without */
    return op_submit(service, &owner, user, request, err);
}

void mf_service_add(mf_service *service, mf_str session_id,
                    const mf_new_message *messages, size_t count,
                    mf_str idempotency_key, mf_add_fn done, void *ctx) {
    add_request request = {
        .session_id = session_id,
        .messages = messages,
        .count = count,
        .key = idempotency_key,
        .done = done,
        .ctx = ctx,
        .span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_ADD)};
    mf_err err = {0};
    bool empty = false;
    mf_rc rc = add(service, &request, &empty, &err);
    if (rc != MF_OK) {
        mf_metrics_end(request.span, rc);
        done(ctx, rc, NULL, &err);
    } else if (empty) {
        mf_metrics_end(request.span, rc);
        mf_add_result nothing = {0};
        done(ctx, MF_OK, &nothing, NULL);
    }
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
