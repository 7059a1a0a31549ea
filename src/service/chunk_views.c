/* chunk_views.c - the chunks messages were cut into, for inspection.
 *
 * With the strategy turn they are the parts of a message that fit the encoder's window,
 * with the others what the strategy makes of a list.
 *
 * Chunks are cut when asked for, by the functions that cut them for embedding, so
 * there is nothing to store and nothing that can differ.  A round has no directory of
 * its own: finding one by id alone walks over the users' messages, which is fine for a
 * tool that people use by hand. */
#include <string.h>

#include "memory/chunks.h"
#include "service/lists.h"
#include "service/service_impl.h"

typedef struct chunks_call {
    mf_service *service;
    mf_arena *arena;
    mf_user *user;
    mf_uuid user_id, session_id, round_id;
    bool found;
    mf_message_row *messages;
    size_t message_count;
    mf_index_key *pending; /* rising num within a kind */
    size_t pending_count;
    mf_chunk_view *views;
    size_t view_count, view_max;
} chunks_call;

static mf_rc list_read(mf_conn *conn, void *ctx, mf_err *err) {
    chunks_call *call = ctx;
    mf_message_range range = {.num_to = INT64_MAX, .limit = SIZE_MAX};
    return conn->ops->message_list(conn, call->user_id, call->session_id, &range,
                                   call->arena, &call->messages, &call->message_count,
                                   err);
}

/* Stops the scan at the first message of the round. */
static mf_rc look_at(void *ctx, const mf_message_row *row, mf_err *err) {
    chunks_call *call = ctx;
    (void)err; /* the code is the message: found */
    if (!mf_uuid_eq(row->round_id, call->round_id)) {
        return MF_OK;
    }
    call->found = true;
    call->user_id = row->user_id;
    call->session_id = row->session_id;
    return MF_E_EXISTS;
}

static mf_rc find_round(mf_conn *conn, void *ctx, mf_err *err) {
    chunks_call *call = ctx;
    mf_named_row *users;
    size_t count;
    MF_TRY(conn->ops->user_list(conn, call->arena, &users, &count, err));
    for (size_t i = 0; i < count && !call->found; i++) {
        mf_rc rc = conn->ops->message_scan(conn, users[i].id, look_at, call, err);
        if (rc != MF_OK && !call->found) {
            return rc;
        }
    }
    return MF_OK;
}

static bool is_pending(const chunks_call *call, int64_t num) {
    for (size_t i = 0; i < call->pending_count; i++) {
        if (call->pending[i].num == num && call->pending[i].kind == MF_DOC_MESSAGE) {
            return true;
        }
    }
    return false;
}

static mf_rc cut_message(const chunks_call *call, mf_str content,
                         mf_str parts[MF_CHUNKS_MAX], size_t *count, mf_err *err) {
    const mf_embedder *embedder = call->service->parts.embedder;
    if (embedder == NULL) {
        parts[0] = content;
        *count = 1;
        return MF_OK;
    }
    const mf_encoder *encoder = mf_embedder_encoder(embedder);
    mf_encoder_info info;
    mf_encoder_get_info(encoder, &info);
    return mf_chunks_cut(mf_encoder_tokenizer(encoder), info.window, content, parts,
                         MF_CHUNKS_MAX, count, err);
}

static mf_rc reserve_views(chunks_call *call, size_t more, mf_err *err) {
    if (call->view_count + more <= call->view_max) {
        return MF_OK;
    }
    size_t room = (call->view_count + more) * 2;
    mf_chunk_view *grown = mf_arena_alloc_array(call->arena, room, sizeof(*grown));
    if (grown == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu chunks", room);
    }
    if (call->view_count > 0) {
        memcpy(grown, call->views, call->view_count * sizeof(*grown));
    }
    call->views = grown;
    call->view_max = room;
    return MF_OK;
}

static mf_rc add_views(chunks_call *call, const mf_message_row *row, mf_err *err) {
    mf_str parts[MF_CHUNKS_MAX];
    size_t count;
    MF_TRY(cut_message(call, row->content, parts, &count, err));
    MF_TRY(reserve_views(call, count, err));
    bool embedded =
        call->service->parts.embedder != NULL && !is_pending(call, row->num);
    for (size_t i = 0; i < count; i++) {
        call->views[call->view_count++] = (mf_chunk_view){
            .message_id = row->id,
            .round_id = row->round_id,
            .session_id = row->session_id,
            .message_count = 1,
            .part = (int32_t)i,
            .part_count = (int32_t)count,
            .content = parts[i],
            .created_us = row->created_us,
            .embedded = embedded,
        };
    }
    return MF_OK;
}

static mf_rc add_list_views(chunks_call *call, const mf_message_row *rows, size_t count,
                            mf_err *err) {
    const mf_chunk_rules *rules = &call->service->parts.chunks;
    bool has_model = call->service->parts.embedder != NULL;
    mf_list list = {.rows = rows, .count = count};
    MF_TRY(mf_list_cut(&list, rules, NULL, 0, call->arena, err));
    MF_TRY(reserve_views(call, list.chunks.chunk_count, err));
    for (size_t i = 0; i < list.chunks.chunk_count; i++) {
        mf_chunk_view view = {.round_id = rows[0].round_id,
                              .session_id = rows[0].session_id,
                              .part = (int32_t)i,
                              .part_count = (int32_t)list.chunks.chunk_count,
                              .embedded = has_model};
        MF_TRY(mf_chunk_list_show(&list.chunks, rules, i, call->arena, &view.content,
                                  err));
        for (size_t line = 0; line < count; line++) {
            if (!mf_chunk_list_holds(&list.chunks, i, line)) {
                continue;
            }
            if (view.message_count++ == 0) {
                view.message_id = rows[line].id;
                view.created_us = rows[line].created_us;
            }
            view.embedded = view.embedded && !is_pending(call, rows[line].num);
        }
        call->views[call->view_count++] = view;
    }
    return MF_OK;
}

static mf_rc add_lists(chunks_call *call, mf_err *err) {
    for (size_t at = 0; at < call->message_count;) {
        const mf_message_row *rows = call->messages + at;
        size_t length = mf_list_length(rows, call->message_count - at);
        if (mf_uuid_is_none(call->round_id) ||
            mf_uuid_eq(rows[0].round_id, call->round_id)) {
            MF_TRY(add_list_views(call, rows, length, err));
        }
        at += length;
    }
    return MF_OK;
}

static mf_rc round_missing(mf_str id, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "round_id",
                         "Round with ID '%.*s' not found", MF_STR_ARGS(id));
}

/* Session and user of what was asked for. */
static mf_rc resolve(chunks_call *call, mf_str session_id, mf_str round_id,
                     mf_err *err) {
    mf_service *service = call->service;
    if (session_id.len > 0) {
        mf_session_owner owner;
        MF_TRY(mf_service_find_session_user(service, session_id, &owner, &call->user,
                                            err));
        call->user_id = owner.user_id;
        call->session_id = owner.id;
        return MF_OK;
    }
    if (!mf_uuid_parse(round_id, &call->round_id)) {
        return round_missing(round_id, err);
    }
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), find_round, call, err));
    if (!call->found) {
        return round_missing(round_id, err);
    }
    mf_rc rc = mf_service_find_user_by_id(service, call->user_id, &call->user, err);
    return rc == MF_E_NOTFOUND ? round_missing(round_id, err) : rc;
}

static mf_rc collect(chunks_call *call, mf_err *err) {
    mf_service *service = call->service;
    int64_t deadline_ns = mf_service_deadline(service);
    MF_TRY(mf_user_pending(call->user, deadline_ns, call->arena, &call->pending,
                           &call->pending_count, err));
    MF_TRY(mf_service_read(service, deadline_ns, list_read, call, err));
    if (service->parts.chunks.strategy != MF_CHUNK_TURN) {
        return add_lists(call, err);
    }
    for (size_t i = 0; i < call->message_count; i++) {
        const mf_message_row *row = &call->messages[i];
        if (mf_uuid_is_none(call->round_id) ||
            mf_uuid_eq(row->round_id, call->round_id)) {
            MF_TRY(add_views(call, row, err));
        }
    }
    return MF_OK;
}

const char *mf_service_chunk_strategy(const mf_service *service) {
    return mf_chunk_strategy_name(service->parts.chunks.strategy);
}

mf_rc mf_service_chunks_list(mf_service *service, mf_str session_id, mf_str round_id,
                             mf_arena *arena, mf_chunk_view **rows, size_t *count,
                             mf_err *err) {
    chunks_call call = {.service = service, .arena = arena};
    MF_TRY(resolve(&call, session_id, round_id, err));
    mf_rc rc = collect(&call, err);
    mf_user_unref(call.user);
    if (rc == MF_OK) {
        *rows = call.views;
        *count = call.view_count;
    }
    return rc;
}
