/* messages.c - listing, reading, editing and deleting the messages of a session.
 *
 * An edit is one write: it looks every id up, and only when all are there changes
 * anything.  What it means for the index is put together before the commit, where it
 * can still fail, and joins the user's queue of changes right after it. */
#include "base/clock.h"
#include "service/lists.h"
#include "service/service_impl.h"

typedef struct messages_call {
    mf_service *service;
    mf_user *user;
    mf_session_owner owner;
    mf_arena *arena;
    mf_uuid *ids;
    size_t count;
    const mf_new_message *texts;
    mf_message_range range;
    mf_message_row *rows;
    mf_change_block *block;
} messages_call;

static mf_rc ids_missing(mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "message_ids",
                         "Some message IDs were not found");
}

/* Ids as values, in arena memory; one that is no id is missing. */
static mf_rc parse_ids(messages_call *call, const mf_str *ids, size_t count,
                       mf_err *err) {
    call->count = count;
    call->ids = mf_arena_alloc_array(call->arena, count + 1, sizeof(call->ids[0]));
    call->rows = mf_arena_alloc_array(call->arena, count + 1, sizeof(call->rows[0]));
    if (call->ids == NULL || call->rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu ids", count);
    }
    for (size_t i = 0; i < count; i++) {
        if (!mf_uuid_parse(ids[i], &call->ids[i])) {
            return ids_missing(err);
        }
    }
    return MF_OK;
}

/* Fills call->rows; MF_E_NOTFOUND when any is missing. */
static mf_rc get_rows(messages_call *call, mf_conn *conn, mf_err *err) {
    MF_TRY(conn->ops->message_get(conn, call->owner.user_id, call->owner.id, call->ids,
                                  call->count, call->arena, call->rows, err));
    for (size_t i = 0; i < call->count; i++) {
        if (call->rows[i].num == 0) {
            return ids_missing(err);
        }
    }
    return MF_OK;
}

/* --- list --- */

static mf_rc list_read(mf_conn *conn, void *ctx, mf_err *err) {
    messages_call *call = ctx;
    return conn->ops->message_list(conn, call->owner.user_id, call->owner.id,
                                   &call->range, call->arena, &call->rows, &call->count,
                                   err);
}

/* The numbers the asked-for part of the session covers; *any is false for none. */
static mf_rc range_of(mf_service *service, messages_call *call, mf_list_part part,
                      bool *any, mf_err *err) {
    *any = true;
    if (part == MF_LIST_ALL) {
        return MF_OK;
    }
    mf_round_window window;
    MF_TRY(mf_user_window(call->user, call->owner.id, mf_service_deadline(service),
                          &window, err));
    if (part == MF_LIST_WINDOW) {
        call->range.num_from = window.first_num;
        *any = window.first_num != INT64_MAX;
    } else if (window.first_num != INT64_MAX) {
        call->range.num_to = window.first_num - 1;
    }
    return MF_OK;
}

static mf_rc do_messages_list(mf_service *service, mf_str session_id,
                              const mf_list_options *options, mf_arena *arena,
                              mf_message_row **rows, size_t *count, mf_err *err) {
    messages_call call = {.arena = arena};
    MF_TRY(mf_service_find_session_user(service, session_id, &call.owner, &call.user,
                                        err));
    call.range = (mf_message_range){.num_to = INT64_MAX,
                                    .by_id = options->by_id,
                                    .descending = options->descending,
                                    .limit = options->limit};
    bool any;
    mf_rc rc = range_of(service, &call, options->part, &any, err);
    if (rc == MF_OK && any) {
        rc = mf_service_read(service, mf_service_deadline(service), list_read, &call,
                             err);
    }
    mf_user_unref(call.user);
    if (rc == MF_OK) {
        *rows = call.rows;
        *count = call.count;
    }
    return rc;
}

mf_rc mf_service_messages_list(mf_service *service, mf_str session_id,
                               const mf_list_options *options, mf_arena *arena,
                               mf_message_row **rows, size_t *count, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_LIST);
    mf_rc rc = do_messages_list(service, session_id, options, arena, rows, count, err);
    mf_metrics_end(span, rc);
    return rc;
}

/* --- read --- */

static mf_rc read_read(mf_conn *conn, void *ctx, mf_err *err) {
    return get_rows(ctx, conn, err);
}

static mf_rc do_messages_read(mf_service *service, mf_str session_id, const mf_str *ids,
                              size_t count, mf_arena *arena, mf_message_row **rows,
                              mf_err *err) {
    messages_call call = {.arena = arena};
    MF_TRY(mf_service_find_session(service, session_id, &call.owner, err));
    MF_TRY(parse_ids(&call, ids, count, err));
    if (count > 0) {
        MF_TRY(mf_service_read(service, mf_service_deadline(service), read_read, &call,
                               err));
    }
    *rows = call.rows;
    return MF_OK;
}

mf_rc mf_service_messages_read(mf_service *service, mf_str session_id,
                               const mf_str *ids, size_t count, mf_arena *arena,
                               mf_message_row **rows, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_READ);
    mf_rc rc = do_messages_read(service, session_id, ids, count, arena, rows, err);
    mf_metrics_end(span, rc);
    return rc;
}

/* --- update and delete --- */

static void fill_doc(messages_call *call, size_t i) {
    const mf_message_row *row = &call->rows[i];
    call->block->docs[i].facts = (mf_index_facts){
        .key = {.kind = MF_DOC_MESSAGE, .num = row->num},
        .session_id = call->owner.id,
        .agent_id = call->owner.agent_id,
        .created_us = row->created_us,
    };
}

/* Later than before, whatever the clock says: a vector made from the old text must not
 * look as if it were of the new one. */
static int64_t next_time_us(int64_t old_us) {
    int64_t now_us = mf_wall_us();
    return now_us > old_us ? now_us : old_us + 1;
}

/* The vectors of messages that were cut together with these no longer hold. */
static mf_rc touch_around(messages_call *call, mf_conn *conn, mf_err *err) {
    int64_t *nums;
    size_t count;
    MF_TRY(mf_lists_touch(conn, call->owner.user_id, call->rows, call->count,
                          &call->service->parts.chunks, &nums, &count, err));
    mf_change_block_touch(call->block, nums, count);
    return MF_OK;
}

static mf_rc update_run(mf_conn *conn, void *ctx, mf_err *err) {
    messages_call *call = ctx;
    MF_TRY(get_rows(call, conn, err));
    MF_TRY(touch_around(call, conn, err));
    for (size_t i = 0; i < call->count; i++) {
        mf_message_row *row = &call->rows[i];
        row->role = call->texts[i].role;
        row->content = call->texts[i].content;
        row->updated_us = next_time_us(row->updated_us);
        MF_TRY(conn->ops->message_update(conn, row, err));
        fill_doc(call, i);
    }
    return MF_OK;
}

static mf_rc delete_run(mf_conn *conn, void *ctx, mf_err *err) {
    messages_call *call = ctx;
    MF_TRY(get_rows(call, conn, err));
    MF_TRY(touch_around(call, conn, err));
    for (size_t i = 0; i < call->count; i++) {
        fill_doc(call, i);
    }
    return conn->ops->message_delete(conn, call->owner.user_id, call->ids, call->count,
                                     err);
}

static void edit_applied(void *ctx) {
    messages_call *call = ctx;
    mf_user_forget_window(call->user, call->owner.id);
    mf_user_change(call->user, &call->block->change);
    call->block = NULL;
}

/* Finds session and user, makes room for the change, runs the write. */
static mf_rc edit(mf_service *service, mf_str session_id, messages_call *call,
                  const mf_str *ids, size_t count, const mf_task *like, mf_err *err) {
    MF_TRY(mf_service_find_session_user(service, session_id, &call->owner, &call->user,
                                        err));
    mf_rc rc = mf_arena_new(MF_SERVICE_ARENA_MAX, &call->arena, err);
    if (rc == MF_OK) {
        rc = parse_ids(call, ids, count, err);
    }
    size_t bytes = 0;
    for (size_t i = 0; call->texts != NULL && i < count; i++) {
        bytes += call->texts[i].content.len;
    }
    if (rc == MF_OK && count > 0) {
        rc = mf_change_block_new(call->texts != NULL ? MF_CHANGE_REPLACE
                                                     : MF_CHANGE_REMOVE,
                                 count, bytes, &call->block, err);
    }
    if (rc == MF_OK && count > 0) {
        for (size_t i = 0; call->texts != NULL && i < count; i++) {
            call->block->docs[i].text =
                mf_change_block_text(call->block, call->texts[i].content);
        }
        mf_task task = *like;
        /* What was cut together with deleted messages is cut anew. */
        task.owes |= service->parts.chunks.strategy != MF_CHUNK_TURN;
        task.user = call->user;
        task.applied = edit_applied;
        task.ctx = call;
        rc = mf_service_write(service, &task, err);
    }
    mf_change_block_free(call->block);
    mf_arena_free(call->arena);
    mf_user_unref(call->user);
    return rc;
}

static mf_rc do_messages_update(mf_service *service, mf_str session_id,
                                const mf_str *ids, const mf_new_message *messages,
                                size_t count, mf_err *err) {
    for (size_t i = 0; i < count; i++) {
        if (messages[i].content.len == 0) {
            return MF_FAIL_FIELD(err, MF_E_FORMAT, "content",
                                 "Message %zu has no content", i);
        }
    }
    messages_call call = {.service = service, .texts = messages};
    mf_task task = {.owes = true, .forgets = true, .run = update_run};
    return edit(service, session_id, &call, ids, count, &task, err);
}

mf_rc mf_service_messages_update(mf_service *service, mf_str session_id,
                                 const mf_str *ids, const mf_new_message *messages,
                                 size_t count, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_UPDATE);
    mf_rc rc = do_messages_update(service, session_id, ids, messages, count, err);
    mf_metrics_end(span, rc);
    return rc;
}

static mf_rc do_messages_delete(mf_service *service, mf_str session_id,
                                const mf_str *ids, size_t count, mf_err *err) {
    messages_call call = {.service = service};
    mf_task task = {.forgets = true, .run = delete_run};
    return edit(service, session_id, &call, ids, count, &task, err);
}

mf_rc mf_service_messages_delete(mf_service *service, mf_str session_id,
                                 const mf_str *ids, size_t count, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_DELETE);
    mf_rc rc = do_messages_delete(service, session_id, ids, count, err);
    mf_metrics_end(span, rc);
    return rc;
}
