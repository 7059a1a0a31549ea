/* settings.c - the settings in which a user differs from everybody else. */
#include "http/handlers.h"

static void put_setting(mf_call *call, yyjson_mut_val *item,
                        const mf_user_setting *row) {
    mf_put_str(call, item, "key", row->key);
    mf_put_str(call, item, "value", row->value);
    mf_put_str(call, item, "layer",
               row->own.p != NULL ? MF_STR("user") : MF_STR("global"));
    mf_put_str(call, item, "global", row->global);
    mf_put_str(call, item, "global_source", row->global_source);
    if (row->own.p != NULL) {
        mf_put_str(call, item, "user", row->own);
    } else {
        mf_put_null(call, item, "user");
    }
    if (row->parameter.p != NULL) {
        mf_put_str(call, item, "request_parameter", row->parameter);
    } else {
        mf_put_null(call, item, "request_parameter");
    }
    mf_put_str(call, item, "default", row->by_default);
    mf_put_str(call, item, "type", row->type);
    mf_put_str(call, item, "range", row->range);
    mf_put_str(call, item, "help", row->help);
}

/* All settings that may differ, or the one of `key`. */
static mf_rc show(mf_call *call, mf_str key, const char *message, mf_err *err) {
    mf_user_setting *rows = NULL;
    size_t count = 0;
    MF_TRY(mf_service_settings_list(call->door->service, call->params[0], key,
                                    call->request.arena, &rows, &count, err));
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_str(call, data, "user_id", call->params[0]);
    if (key.len > 0) {
        put_setting(call, mf_put_object(call, data, "setting"), &rows[0]);
        return mf_call_ok(call, 200, message);
    }
    yyjson_mut_val *list = mf_put_array(call, data, "settings");
    for (size_t i = 0; i < count; i++) {
        put_setting(call, mf_add_object(call, list), &rows[i]);
    }
    return mf_call_ok(call, 200, message);
}

/* A JSON value as a settings file would have it. */
static mf_rc text_of(mf_call *call, yyjson_val *value, const char *field, mf_str *out,
                     mf_err *err) {
    if (yyjson_is_str(value)) {
        *out = (mf_str){yyjson_get_str(value), yyjson_get_len(value)};
        return MF_OK;
    }
    if (yyjson_is_bool(value)) {
        *out = yyjson_get_bool(value) ? MF_STR("true") : MF_STR("false");
        return MF_OK;
    }
    if (!yyjson_is_num(value)) {
        return mf_call_invalid(call, "value_error", field, err,
                               "%s must be a string, a number or a boolean", field);
    }
    *out = yyjson_is_sint(value) ? mf_arena_printf(call->request.arena, "%lld",
                                                   (long long)yyjson_get_sint(value))
           : yyjson_is_uint(value)
               ? mf_arena_printf(call->request.arena, "%llu",
                                 (unsigned long long)yyjson_get_uint(value))
               : mf_arena_printf(call->request.arena, "%.15g", yyjson_get_real(value));
    return out->p != NULL ? MF_OK : MF_FAIL(err, MF_E_NOMEM, "no memory for a setting");
}

mf_rc mf_handle_settings_list(mf_call *call, mf_err *err) {
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    return show(call, MF_STR_NONE, "Settings retrieved successfully", err);
}

mf_rc mf_handle_setting_get(mf_call *call, mf_err *err) {
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    return show(call, call->params[1], "Setting retrieved successfully", err);
}

mf_rc mf_handle_setting_put(mf_call *call, mf_err *err) {
    mf_user_change_setting change = {.key = call->params[1]};
    MF_TRY(mf_call_read_body(call, err));
    yyjson_val *value = yyjson_obj_get(call->body, "value");
    if (value == NULL) {
        return mf_call_invalid(call, "missing", "value", err, "value is required");
    }
    MF_TRY(text_of(call, value, "value", &change.value, err));
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_settings_change(call->door->service, call->params[0], &change, 1,
                                      err));
    return show(call, change.key, "Setting changed", err);
}

mf_rc mf_handle_setting_delete(mf_call *call, mf_err *err) {
    mf_user_change_setting change = {.key = call->params[1]};
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_settings_change(call->door->service, call->params[0], &change, 1,
                                      err));
    return show(call, change.key, "Setting is everybody's again", err);
}

/* {"key": value, ...}, all or nothing; null takes a value away. */
mf_rc mf_handle_settings_put(mf_call *call, mf_err *err) {
    MF_TRY(mf_call_read_body(call, err));
    size_t count = yyjson_obj_size(call->body);
    mf_user_change_setting *changes =
        mf_arena_alloc_array(call->request.arena, count + 1, sizeof(*changes));
    if (changes == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu settings", count);
    }
    size_t i = 0;
    size_t max = 0;
    yyjson_val *key = NULL;
    yyjson_val *value = NULL;
    yyjson_obj_foreach(call->body, i, max, key, value) {
        changes[i].key = (mf_str){yyjson_get_str(key), yyjson_get_len(key)};
        if (!yyjson_is_null(value)) {
            MF_TRY(text_of(call, value, changes[i].key.p, &changes[i].value, err));
        }
    }
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_settings_change(call->door->service, call->params[0], changes,
                                      count, err));
    return show(call, MF_STR_NONE, "Settings changed", err);
}

mf_rc mf_handle_settings_delete(mf_call *call, mf_err *err) {
    mf_user_setting *rows = NULL;
    size_t count = 0;
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_settings_list(call->door->service, call->params[0], MF_STR_NONE,
                                    call->request.arena, &rows, &count, err));
    mf_user_change_setting *changes =
        mf_arena_alloc_array(call->request.arena, count + 1, sizeof(*changes));
    if (changes == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu settings", count);
    }
    for (size_t i = 0; i < count; i++) {
        changes[i].key = rows[i].key;
    }
    MF_TRY(mf_service_settings_change(call->door->service, call->params[0], changes,
                                      count, err));
    return show(call, MF_STR_NONE, "Settings are everybody's again", err);
}
