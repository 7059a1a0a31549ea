/* api_keys.c - keys that grant a user's data to whoever holds one.
 *
 * A key is shown once, in the reply that makes it; afterwards it is eight asterisks. */
#include "http/handlers.h"
#include "text/timestamp.h"

static void put_key(mf_call *call, yyjson_mut_val *object, const mf_api_key_row *row,
                    mf_str secret) {
    mf_put_uuid(call, object, "id", row->id);
    mf_put_uuid(call, object, "user_id", row->user_id);
    mf_put_str(call, object, "name", row->name);
    mf_put_str(call, object, "key", secret);
    if (row->permissions.p != NULL) {
        mf_put_raw(call, object, "permissions", row->permissions);
    } else {
        mf_put_null(call, object, "permissions");
    }
    mf_put_time(call, object, "created_at", row->created_us);
    if (row->expires_us != 0) {
        mf_put_time(call, object, "expires_at", row->expires_us);
    } else {
        mf_put_null(call, object, "expires_at");
    }
}

mf_rc mf_handle_api_keys_list(mf_call *call, mf_err *err) {
    mf_api_key_row *rows = NULL;
    size_t count = 0;
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_api_key_list(call->door->service, call->params[0],
                                   call->request.arena, &rows, &count, err));
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "api_keys");
    for (size_t i = 0; i < count; i++) {
        put_key(call, mf_add_object(call, list), &rows[i], MF_STR("********"));
    }
    return mf_call_ok(call, 200, "API keys retrieved successfully");
}

typedef struct key_request {
    mf_str name, permissions;
    int64_t expires_us;
} key_request;

static mf_rc read_permissions(mf_call *call, mf_str *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(call->body, "permissions");
    if (value == NULL || yyjson_is_null(value)) {
        return MF_OK;
    }
    if (!yyjson_is_obj(value)) {
        return mf_call_invalid(call, "object_type", "permissions", err,
                               "permissions must be an object");
    }
    yyjson_alc alc;
    mf_json_arena_alc(call->request.arena, &alc);
    size_t len = 0;
    char *text = yyjson_val_write_opts(value, YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
    if (text == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    *out = (mf_str){text, len};
    if (len > MF_METADATA_BYTES_MAX ||
        mf_str_find(*out, MF_STR("\\u0000"), 0) != SIZE_MAX) {
        return mf_call_invalid(call, "value_error", "permissions", err,
                               "permissions must have at most %d bytes and no U+0000",
                               MF_METADATA_BYTES_MAX);
    }
    return MF_OK;
}

static mf_rc read_key_request(mf_call *call, key_request *out, mf_err *err) {
    const mf_text_rule rule = {.blank = true, .bytes_max = MF_NAME_BYTES_MAX};
    mf_str user_id;
    mf_str key;
    mf_str expires;
    MF_TRY(mf_call_text(call, "user_id", rule, &user_id, err));
    MF_TRY(mf_call_text(call, "name", rule, &out->name, err));
    MF_TRY(mf_call_text(call, "key", rule, &key, err));
    MF_TRY(mf_call_text(call, "expires_at", rule, &expires, err));
    MF_TRY(read_permissions(call, &out->permissions, err));
    if (user_id.p != NULL && !mf_str_eq(user_id, call->params[0])) {
        return mf_call_invalid(call, "value_error", "user_id", err,
                               "user_id contradicts the path");
    }
    if (key.p != NULL) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "key", "keys are made by the server");
    }
    if (expires.p != NULL && !mf_timestamp_parse(expires, &out->expires_us)) {
        return mf_call_invalid(call, "datetime_parsing", "expires_at", err,
                               "expires_at must be an ISO 8601 time");
    }
    return MF_OK;
}

mf_rc mf_handle_api_key_create(mf_call *call, mf_err *err) {
    key_request asked = {0};
    mf_api_key_row row;
    char *secret = mf_arena_alloc(call->request.arena, MF_API_KEY_TEXT_MAX);
    if (secret == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    MF_TRY(mf_call_read_optional_body(call, err));
    if (call->body != NULL) {
        MF_TRY(read_key_request(call, &asked, err));
    }
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_api_key_create(call->door->service, call->params[0], asked.name,
                                     asked.permissions, asked.expires_us, secret,
                                     call->request.arena, &row, err));
    put_key(call, mf_put_object(call, mf_call_data(call), "api_key"), &row,
            mf_str_from(secret));
    return mf_call_ok(call, 200, "API key created successfully");
}

mf_rc mf_handle_api_key_delete(mf_call *call, mf_err *err) {
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_api_key_delete(call->door->service, call->params[0],
                                     call->params[1], err));
    mf_put_str(call, mf_call_data(call), "key_id", call->params[1]);
    return mf_call_ok(call, 200, "API key deleted successfully");
}
