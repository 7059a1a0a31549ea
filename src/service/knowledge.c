/* knowledge.c - a user's knowledge: texts without a session.
 *
 * The rules are kinder than for messages: an id that is unknown, or another user's, is
 * left out instead of refusing the request, and an empty text is kept but not
 * indexed. */
#include <string.h>

#include "base/clock.h"
#include "service/service_impl.h"

typedef struct knowledge_call {
    mf_user *user;
    mf_uuid user_id;
    mf_str user_text;
    mf_arena *arena;
    mf_uuid *ids;
    const mf_str *texts;
    size_t count;
    mf_knowledge_row *rows;
    bool *done;
    mf_change_block *block;
} knowledge_call;

static size_t texts_bytes(const mf_str *texts, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += texts[i].len;
    }
    return bytes;
}

static void fill_doc(knowledge_call *call, size_t at, const mf_knowledge_row *row,
                     mf_str text) {
    call->block->docs[at] = (mf_change_doc){
        .facts = {.key = {.kind = MF_DOC_KNOWLEDGE, .num = row->num},
                  .created_us = row->created_us},
        .text = mf_change_block_text(call->block, text),
    };
}

static void change_applied(void *ctx) {
    knowledge_call *call = ctx;
    mf_user_change(call->user, &call->block->change);
    call->block = NULL;
}

/* --- add --- */

static mf_rc add_run(mf_conn *conn, void *ctx, mf_err *err) {
    knowledge_call *call = ctx;
    mf_named_row user;
    mf_rc rc = conn->ops->user_get(conn, call->user_id, call->arena, &user, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? mf_service_user_missing(call->user_text, err) : rc;
    }
    MF_TRY(conn->ops->knowledge_insert(conn, call->rows, call->count, err));
    for (size_t i = 0; i < call->count; i++) {
        fill_doc(call, i, &call->rows[i], call->texts[i]);
    }
    return MF_OK;
}

static mf_rc add_rows(mf_service *service, knowledge_call *call, mf_err *err) {
    int64_t now_us = mf_wall_us();
    call->rows = mf_arena_alloc_array(call->arena, call->count, sizeof(call->rows[0]));
    if (call->rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu items", call->count);
    }
    for (size_t i = 0; i < call->count; i++) {
        call->rows[i] = (mf_knowledge_row){.id = mf_uuid_new(),
                                           .user_id = call->user_id,
                                           .content = call->texts[i],
                                           .created_us = now_us,
                                           .updated_us = now_us};
    }
    MF_TRY(mf_change_block_new(MF_CHANGE_ADD, call->count,
                               texts_bytes(call->texts, call->count), &call->block,
                               err));
    mf_task task = {.user = call->user,
                    .owes = true,
                    .run = add_run,
                    .applied = change_applied,
                    .ctx = call};
    return mf_service_write(service, &task, err);
}

static mf_rc do_knowledge_add(mf_service *service, mf_str user_id, const mf_str *texts,
                              size_t count, mf_uuid *ids, mf_err *err) {
    knowledge_call call = {.texts = texts, .count = count, .user_text = user_id};
    MF_TRY(mf_service_find_user(service, user_id, &call.user, err));
    call.user_id = mf_user_id(call.user);
    mf_user_keep_up(call.user);
    mf_rc rc = mf_arena_new(MF_SERVICE_ARENA_MAX, &call.arena, err);
    if (rc == MF_OK && count > 0) {
        rc = add_rows(service, &call, err);
        for (size_t i = 0; i < count && rc == MF_OK; i++) {
            ids[i] = call.rows[i].id;
        }
    }
    mf_change_block_free(call.block);
    mf_arena_free(call.arena);
    mf_user_unref(call.user);
    return rc;
}

mf_rc mf_service_knowledge_add(mf_service *service, mf_str user_id, const mf_str *texts,
                               size_t count, mf_uuid *ids, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_KNOWLEDGE);
    mf_rc rc = do_knowledge_add(service, user_id, texts, count, ids, err);
    mf_metrics_end(span, rc);
    return rc;
}

/* --- list and read --- */

static mf_rc list_read(mf_conn *conn, void *ctx, mf_err *err) {
    knowledge_call *call = ctx;
    return conn->ops->knowledge_list(conn, call->user_id, call->arena, &call->rows,
                                     &call->count, err);
}

static mf_rc do_knowledge_list(mf_service *service, mf_str user_id, mf_arena *arena,
                               mf_knowledge_row **rows, size_t *count, mf_err *err) {
    knowledge_call call = {.arena = arena};
    MF_TRY(mf_service_find_user(service, user_id, &call.user, err));
    call.user_id = mf_user_id(call.user);
    mf_user_unref(call.user);
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), list_read, &call, err));
    *rows = call.rows;
    *count = call.count;
    return MF_OK;
}

mf_rc mf_service_knowledge_list(mf_service *service, mf_str user_id, mf_arena *arena,
                                mf_knowledge_row **rows, size_t *count, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_KNOWLEDGE);
    mf_rc rc = do_knowledge_list(service, user_id, arena, rows, count, err);
    mf_metrics_end(span, rc);
    return rc;
}

/* Ids as values; what is no id becomes the none id, which nobody has. */
static mf_rc parse_ids(knowledge_call *call, const mf_str *ids, size_t count,
                       mf_err *err) {
    call->count = count;
    call->ids = mf_arena_alloc_array(call->arena, count + 1, sizeof(call->ids[0]));
    call->rows = mf_arena_alloc_array(call->arena, count + 1, sizeof(call->rows[0]));
    if (call->ids == NULL || call->rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu ids", count);
    }
    for (size_t i = 0; i < count; i++) {
        if (!mf_uuid_parse(ids[i], &call->ids[i])) {
            call->ids[i] = MF_UUID_NONE;
        }
    }
    return MF_OK;
}

static mf_rc get_rows(mf_conn *conn, void *ctx, mf_err *err) {
    knowledge_call *call = ctx;
    if (call->count == 0) {
        return MF_OK;
    }
    return conn->ops->knowledge_get(conn, call->user_id, call->ids, call->count,
                                    call->arena, call->rows, err);
}

static mf_rc do_knowledge_read(mf_service *service, mf_str user_id, const mf_str *ids,
                               size_t count, mf_arena *arena, mf_knowledge_row **rows,
                               size_t *found, mf_err *err) {
    knowledge_call call = {.arena = arena};
    MF_TRY(mf_service_find_user(service, user_id, &call.user, err));
    call.user_id = mf_user_id(call.user);
    mf_user_unref(call.user);
    MF_TRY(parse_ids(&call, ids, count, err));
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), get_rows, &call, err));
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (call.rows[i].num != 0) {
            call.rows[kept++] = call.rows[i];
        }
    }
    *rows = call.rows;
    *found = kept;
    return MF_OK;
}

mf_rc mf_service_knowledge_read(mf_service *service, mf_str user_id, const mf_str *ids,
                                size_t count, mf_arena *arena, mf_knowledge_row **rows,
                                size_t *found, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_KNOWLEDGE);
    mf_rc rc = do_knowledge_read(service, user_id, ids, count, arena, rows, found, err);
    mf_metrics_end(span, rc);
    return rc;
}

/* --- update and delete --- */

static mf_rc update_run(mf_conn *conn, void *ctx, mf_err *err) {
    knowledge_call *call = ctx;
    MF_TRY(get_rows(conn, call, err));
    size_t changed = 0;
    int64_t now_us = mf_wall_us();
    for (size_t i = 0; i < call->count; i++) {
        mf_knowledge_row *row = &call->rows[i];
        call->done[i] = row->num != 0;
        if (!call->done[i]) {
            continue;
        }
        row->content = call->texts[i];
        row->updated_us = now_us > row->updated_us ? now_us : row->updated_us + 1;
        MF_TRY(conn->ops->knowledge_update(conn, row, err));
        fill_doc(call, changed++, row, call->texts[i]);
    }
    call->block->change.count = changed;
    return MF_OK;
}

static mf_rc delete_run(mf_conn *conn, void *ctx, mf_err *err) {
    knowledge_call *call = ctx;
    MF_TRY(get_rows(conn, call, err));
    size_t removed = 0;
    for (size_t i = 0; i < call->count; i++) {
        call->done[i] = call->rows[i].num != 0;
        if (call->done[i]) {
            fill_doc(call, removed, &call->rows[i], MF_STR_NONE);
            call->ids[removed++] = call->ids[i];
        }
    }
    call->block->change.count = removed;
    return conn->ops->knowledge_delete(conn, call->user_id, call->ids, removed, err);
}

static mf_rc edit(mf_service *service, mf_str user_id, knowledge_call *call,
                  const mf_str *ids, size_t count, bool *done, mf_err *err) {
    bool update = call->texts != NULL;
    MF_TRY(mf_service_find_user(service, user_id, &call->user, err));
    call->user_id = mf_user_id(call->user);
    mf_rc rc = mf_arena_new(MF_SERVICE_ARENA_MAX, &call->arena, err);
    if (rc == MF_OK) {
        rc = parse_ids(call, ids, count, err);
    }
    if (rc == MF_OK) {
        call->done = mf_arena_alloc_array(call->arena, count + 1, sizeof(bool));
        rc = call->done != NULL
                 ? mf_change_block_new(
                       update ? MF_CHANGE_REPLACE : MF_CHANGE_REMOVE, count,
                       update ? texts_bytes(call->texts, count) : 0, &call->block, err)
                 : MF_FAIL(err, MF_E_NOMEM, "no memory for %zu items", count);
    }
    if (rc == MF_OK && count > 0) {
        mf_task task = {.user = call->user,
                        .owes = update,
                        .forgets = true,
                        .run = update ? update_run : delete_run,
                        .applied = change_applied,
                        .ctx = call};
        rc = mf_service_write(service, &task, err);
    }
    if (rc == MF_OK && count > 0) {
        memcpy(done, call->done, count * sizeof(bool));
    }
    mf_change_block_free(call->block);
    mf_arena_free(call->arena);
    mf_user_unref(call->user);
    return rc;
}

static mf_rc do_knowledge_update(mf_service *service, mf_str user_id, const mf_str *ids,
                                 const mf_str *texts, size_t count, bool *done,
                                 mf_err *err) {
    knowledge_call call = {.texts = texts};
    return edit(service, user_id, &call, ids, count, done, err);
}

mf_rc mf_service_knowledge_update(mf_service *service, mf_str user_id,
                                  const mf_str *ids, const mf_str *texts, size_t count,
                                  bool *done, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_KNOWLEDGE);
    mf_rc rc = do_knowledge_update(service, user_id, ids, texts, count, done, err);
    mf_metrics_end(span, rc);
    return rc;
}

static mf_rc do_knowledge_delete(mf_service *service, mf_str user_id, const mf_str *ids,
                                 size_t count, bool *done, mf_err *err) {
    knowledge_call call = {0};
    return edit(service, user_id, &call, ids, count, done, err);
}

mf_rc mf_service_knowledge_delete(mf_service *service, mf_str user_id,
                                  const mf_str *ids, size_t count, bool *done,
                                  mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_KNOWLEDGE);
    mf_rc rc = do_knowledge_delete(service, user_id, ids, count, done, err);
    mf_metrics_end(span, rc);
    return rc;
}
