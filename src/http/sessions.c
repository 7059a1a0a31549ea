/* sessions.c - conversations: each belongs to a user and an agent. */
#include "http/handlers.h"

static void put_session(mf_call *call, yyjson_mut_val *object,
                        const mf_session_row *row) {
    mf_put_uuid(call, object, "id", row->id);
    mf_put_uuid(call, object, "user_id", row->user_id);
    mf_put_uuid(call, object, "agent_id", row->agent_id);
    mf_put_str(call, object, "name", row->name);
    mf_put_time(call, object, "created_at", row->created_us);
    mf_put_time(call, object, "updated_at", row->updated_us);
}

static mf_rc answer_one(mf_call *call, const mf_session_row *row, int status,
                        const char *message) {
    put_session(call, mf_put_object(call, mf_call_data(call), "session"), row);
    return mf_call_ok(call, status, message);
}

typedef struct finder {
    mf_str user_id;
    mf_session_row row;
} finder;

static mf_rc find_session(mf_call *call, mf_str name, void *ctx, mf_err *err) {
    finder *f = ctx;
    return mf_service_session_find(call->door->service, name, f->user_id,
                                   call->request.arena, &f->row, err);
}

/* Without an administrator's rights the filter is the caller, and no other user
 * exists. */
static mf_rc restrict_user(mf_call *call, mf_str *user_id, mf_err *err) {
    if (call->admin) {
        return MF_OK;
    }
    if (user_id->len > 0) {
        return mf_call_own_user(call, *user_id, err);
    }
    char text[MF_UUID_TEXT + 1];
    mf_uuid_format(call->caller, text);
    *user_id = mf_arena_str(call->request.arena, mf_str_from(text));
    return user_id->p != NULL ? MF_OK
                              : MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
}

mf_rc mf_handle_sessions_list(mf_call *call, mf_err *err) {
    mf_str agent_id;
    finder f = {0};
    mf_session_row *rows = &f.row;
    size_t count = 1;
    bool by_name = false;
    MF_TRY(mf_call_parameter(call, "user_id", &f.user_id, err));
    MF_TRY(mf_call_parameter(call, "agent_id", &agent_id, err));
    MF_TRY(restrict_user(call, &f.user_id, err));
    MF_TRY(mf_call_find_by_name(call, find_session, &f, &by_name, err));
    if (!by_name) {
        MF_TRY(mf_service_session_list(call->door->service, f.user_id, agent_id,
                                       call->request.arena, &rows, &count, err));
    }
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "sessions");
    for (size_t i = 0; i < count; i++) {
        put_session(call, mf_add_object(call, list), &rows[i]);
    }
    return mf_call_ok(call, 200,
                      by_name ? "Session retrieved successfully"
                              : "Sessions retrieved successfully");
}

mf_rc mf_handle_session_create(mf_call *call, mf_err *err) {
    const mf_text_rule id_rule = {
        .required = true, .blank = true, .bytes_max = MF_NAME_BYTES_MAX};
    const mf_text_rule name_rule = {.bytes_max = MF_NAME_BYTES_MAX};
    mf_str user_id;
    mf_str agent_id;
    mf_str name;
    mf_session_row row;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_text(call, "user_id", id_rule, &user_id, err));
    MF_TRY(mf_call_text(call, "agent_id", id_rule, &agent_id, err));
    MF_TRY(mf_call_text(call, "name", name_rule, &name, err));
    MF_TRY(mf_call_own_user(call, user_id, err));
    MF_TRY(mf_service_session_create(call->door->service, user_id, agent_id, name,
                                     call->request.arena, &row, err));
    return answer_one(call, &row, 201, "Session created successfully");
}

mf_rc mf_handle_session_get(mf_call *call, mf_err *err) {
    mf_session_row row;
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_session_get(call->door->service, call->params[0],
                                  call->request.arena, &row, err));
    return answer_one(call, &row, 200, "Session retrieved successfully");
}

mf_rc mf_handle_session_update(mf_call *call, mf_err *err) {
    const mf_text_rule name_rule = {.bytes_max = MF_NAME_BYTES_MAX};
    mf_str name;
    mf_session_row row;
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_text(call, "name", name_rule, &name, err));
    if (name.p == NULL) {
        MF_TRY(mf_service_session_get(call->door->service, call->params[0],
                                      call->request.arena, &row, err));
    } else {
        MF_TRY(mf_service_session_rename(call->door->service, call->params[0], name,
                                         call->request.arena, &row, err));
    }
    return answer_one(call, &row, 200, "Session updated successfully");
}

mf_rc mf_handle_session_delete(mf_call *call, mf_err *err) {
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_session_delete(call->door->service, call->params[0], err));
    mf_put_str(call, mf_call_data(call), "session_id", call->params[0]);
    return mf_call_ok(call, 200, "Session deleted successfully");
}
