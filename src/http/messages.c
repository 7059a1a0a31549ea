/* messages.c - the messages of a session.
 *
 * A body is checked completely before the service hears of it, so that a refused
 * request has stored nothing.  Adding answers from the thread that made the round
 * durable: a thousand waiting writers need no thousand threads here. */
#include "http/messages.h"

#include <stdio.h>

#include "http/handlers.h"

static mf_rc refuse(mf_call *call, const char *type, const char *parent,
                    const char *key, const char *why, mf_err *err) {
    char field[MF_ERR_FIELD_MAX];
    (void)snprintf(field, sizeof field, "%s%s%s", parent, parent[0] != '\0' ? "." : "",
                   key);
    return mf_call_invalid(call, type, field, err, "%s %s", field, why);
}

static mf_rc read_role(mf_call *call, yyjson_val *object, const char *field,
                       mf_role *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, "role");
    if (value == NULL) {
        return refuse(call, "missing", field, "role", "is required", err);
    }
    mf_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (text.p == NULL || !mf_role_parse(text, out)) {
        return refuse(call, "enum", field, "role",
                      "must be 'user', 'assistant' or 'system'", err);
    }
    return MF_OK;
}

static mf_rc read_content(mf_call *call, yyjson_val *object, const char *field,
                          mf_str *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, "content");
    if (value == NULL) {
        return refuse(call, "missing", field, "content", "is required", err);
    }
    mf_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (text.p == NULL) {
        return refuse(call, "string_type", field, "content", "must be a string", err);
    }
    if (text.len == 0) {
        return refuse(call, "string_too_short", field, "content",
                      "must have at least 1 character", err);
    }
    if (text.len > MF_TEXT_BYTES_MAX) {
        return refuse(call, "string_too_long", field, "content",
                      "must have at most 4194304 bytes", err);
    }
    if (memchr(text.p, '\0', text.len) != NULL) {
        return refuse(call, "string_type", field, "content", "must not contain U+0000",
                      err);
    }
    *out = text;
    return MF_OK;
}

static mf_rc read_metadata(mf_call *call, yyjson_val *object, const char *field,
                           mf_str *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, "metadata");
    *out = MF_STR_NONE;
    if (value == NULL || yyjson_is_null(value)) {
        return MF_OK;
    }
    if (!yyjson_is_obj(value)) {
        return refuse(call, "object_type", field, "metadata", "must be an object", err);
    }
    if (yyjson_obj_size(value) > MF_METADATA_KEYS_MAX) {
        return refuse(call, "too_long", field, "metadata", "must have at most 64 keys",
                      err);
    }
    yyjson_alc alc;
    mf_json_arena_alc(call->request.arena, &alc);
    size_t len = 0;
    char *text = yyjson_val_write_opts(value, YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
    if (text == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    if (len > MF_METADATA_BYTES_MAX) {
        return refuse(call, "too_long", field, "metadata",
                      "must have at most 16384 bytes", err);
    }
    *out = (mf_str){text, len};
    if (mf_str_find(*out, MF_STR("\\u0000"), 0) != SIZE_MAX) {
        return refuse(call, "string_type", field, "metadata", "must not contain U+0000",
                      err);
    }
    return MF_OK;
}

mf_rc mf_message_read(mf_call *call, yyjson_val *object, const char *field,
                      mf_new_message *out, mf_err *err) {
    if (!yyjson_is_obj(object)) {
        return mf_call_invalid(call, "object_type", field, err, "%s must be an object",
                               field);
    }
    out->created_us = 0;
    MF_TRY(read_role(call, object, field, &out->role, err));
    MF_TRY(read_content(call, object, field, &out->content, err));
    return read_metadata(call, object, field, &out->metadata, err);
}

static mf_rc read_messages(mf_call *call, const char *key, mf_new_message **out,
                           size_t *count, mf_err *err) {
    yyjson_val *array = NULL;
    MF_TRY(mf_call_array(call, key, &array, err));
    size_t n = yyjson_arr_size(array);
    mf_new_message *messages =
        mf_arena_alloc_array(call->request.arena, n + 1, sizeof *messages);
    if (messages == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    size_t at;
    size_t max;
    yyjson_val *item;
    yyjson_arr_foreach(array, at, max, item) {
        char field[MF_ERR_FIELD_MAX];
        (void)snprintf(field, sizeof field, "%s.%zu", key, at);
        MF_TRY(mf_message_read(call, item, field, &messages[at], err));
    }
    *out = messages;
    *count = n;
    return MF_OK;
}

static void put_messages(mf_call *call, const mf_message_row *rows, size_t count) {
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "messages");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_uuid(call, item, "id", rows[i].id);
        mf_put_uuid(call, item, "session_id", rows[i].session_id);
        mf_put_str(call, item, "role", mf_str_from(mf_role_name(rows[i].role)));
        mf_put_str(call, item, "content", rows[i].content);
        mf_put_time(call, item, "created_at", rows[i].created_us);
        mf_put_time(call, item, "updated_at", rows[i].updated_us);
        if (rows[i].metadata.p != NULL) {
            mf_put_raw(call, item, "metadata", rows[i].metadata);
        }
    }
}

static mf_rc read_buffer_only(mf_call *call, mf_list_part *out, mf_err *err) {
    mf_str text;
    MF_TRY(mf_call_parameter(call, "buffer_only", &text, err));
    if (text.p == NULL) {
        return MF_OK;
    }
    if (mf_str_eq_ignore_case(text, MF_STR("true"))) {
        *out = MF_LIST_WINDOW;
    } else if (mf_str_eq_ignore_case(text, MF_STR("false"))) {
        *out = MF_LIST_REST;
    } else {
        call->status_message = "Invalid buffer_only parameter";
        return MF_FAIL_FIELD(err, MF_E_INVAL, "buffer_only",
                             "buffer_only must be 'true' or 'false'");
    }
    return MF_OK;
}

mf_rc mf_handle_messages_list(mf_call *call, mf_err *err) {
    static const char *const sorts[] = {"timestamp", "id", NULL};
    static const char *const orders[] = {"desc", "asc", NULL};
    size_t sort = 0;
    size_t order = 0;
    mf_list_options options = {.limit = 20, .part = MF_LIST_ALL};
    MF_TRY(mf_call_limit(call, &options.limit, err));
    MF_TRY(mf_call_choice(call, "sort_by", sorts, &sort, err));
    MF_TRY(mf_call_choice(call, "order", orders, &order, err));
    MF_TRY(read_buffer_only(call, &options.part, err));
    options.by_id = sort == 1;
    options.descending = order == 0;
    mf_message_row *rows = NULL;
    size_t count = 0;
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_messages_list(call->door->service, call->params[0], &options,
                                    call->request.arena, &rows, &count, err));
    put_messages(call, rows, count);
    return mf_call_ok(call, 200, "Messages retrieved successfully");
}

static void added(void *ctx, mf_rc rc, const mf_add_result *result, const mf_err *err) {
    mf_call *call = ctx;
    if (rc != MF_OK) {
        mf_call_fail(call, err);
        mf_call_end(call);
        return;
    }
    yyjson_mut_val *data = mf_call_data(call);
    yyjson_mut_val *ids = mf_put_array(call, data, "message_ids");
    for (size_t i = 0; i < result->count; i++) {
        mf_add_uuid(call, ids, result->message_ids[i]);
    }
    mf_put_bool(call, data, "transfer_triggered", result->transfer_triggered);
    mf_put_bool(call, data, "background_queued", result->background_queued);
    mf_put_u64(call, data, "total_messages", result->count);
    yyjson_mut_val *status = mf_put_object(call, data, "buffer_status");
    mf_put_u64(call, status, "rounds", result->window_rounds);
    mf_put_u64(call, status, "tokens", result->window_tokens);
    if (result->replayed) {
        mf_call_header(call, "Idempotent-Replayed", MF_STR("true"));
    }
    (void)mf_call_ok(call, 201, "Messages added successfully");
    mf_call_end(call);
}

static mf_rc check_idempotency_key(mf_str key, mf_err *err) {
    bool good = key.len <= MF_IDEMPOTENCY_BYTES_MAX;
    for (size_t i = 0; i < key.len && good; i++) {
        good = key.p[i] >= ' ' && key.p[i] <= '~';
    }
    return good ? MF_OK
                : MF_FAIL_FIELD(
                      err, MF_E_INVAL, "idempotency-key",
                      "Idempotency-Key must be up to %d printable ASCII characters",
                      MF_IDEMPOTENCY_BYTES_MAX);
}

mf_rc mf_handle_messages_add(mf_call *call, mf_err *err) {
    mf_new_message *messages = NULL;
    size_t count = 0;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(read_messages(call, "messages", &messages, &count, err));
    MF_TRY(check_idempotency_key(call->request.idempotency_key, err));
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    mf_service_add(call->door->service, call->params[0], messages, count,
                   call->request.idempotency_key, added, call);
    return MF_OK;
}

mf_rc mf_handle_messages_read(mf_call *call, mf_err *err) {
    mf_str *ids = NULL;
    size_t count = 0;
    mf_message_row *rows = NULL;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_texts(call, "message_ids", MF_NAME_BYTES_MAX, &ids, &count, err));
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_messages_read(call->door->service, call->params[0], ids, count,
                                    call->request.arena, &rows, err));
    put_messages(call, rows, count);
    return mf_call_ok(call, 200, "Messages read successfully");
}

static void put_ids(mf_call *call, const mf_str *ids, size_t count) {
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "message_ids");
    for (size_t i = 0; i < count; i++) {
        mf_add_str(call, list, ids[i]);
    }
}

mf_rc mf_handle_messages_update(mf_call *call, mf_err *err) {
    mf_str *ids = NULL;
    size_t id_count = 0;
    mf_new_message *messages = NULL;
    size_t count = 0;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_texts(call, "message_ids", MF_NAME_BYTES_MAX, &ids, &id_count, err));
    MF_TRY(read_messages(call, "new_messages", &messages, &count, err));
    if (count != id_count) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "new_messages",
                             "new_messages must have as many items as message_ids");
    }
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_messages_update(call->door->service, call->params[0], ids,
                                      messages, count, err));
    put_ids(call, ids, count);
    return mf_call_ok(call, 200, "Messages updated successfully");
}

mf_rc mf_handle_messages_delete(mf_call *call, mf_err *err) {
    mf_str *ids = NULL;
    size_t count = 0;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_texts(call, "message_ids", MF_NAME_BYTES_MAX, &ids, &count, err));
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_messages_delete(call->door->service, call->params[0], ids, count,
                                      err));
    put_ids(call, ids, count);
    return mf_call_ok(call, 200, "Messages deleted successfully");
}
