/* named.c - users and agents: both are a name with a description.
 *
 * The two kinds of routes share these handlers; the AGENT flag of a route tells them
 * apart. */
#include "http/handlers.h"

typedef struct kind {
    mf_named which;
    const char *one, *many, *id;
    const char *listed, *found, *created, *updated, *deleted;
} kind;

static const kind *kind_of(const mf_call *call) {
    static const kind user = {MF_NAMED_USER,
                              "user",
                              "users",
                              "user_id",
                              "Users retrieved successfully",
                              "User retrieved successfully",
                              "User created successfully",
                              "User updated successfully",
                              "User deleted successfully"};
    static const kind agent = {MF_NAMED_AGENT,
                               "agent",
                               "agents",
                               "agent_id",
                               "Agents retrieved successfully",
                               "Agent retrieved successfully",
                               "Agent created successfully",
                               "Agent updated successfully",
                               "Agent deleted successfully"};
    return (call->route->flags & MF_ROUTE_AGENT) != 0 ? &agent : &user;
}

static void put_named(mf_call *call, yyjson_mut_val *object, const mf_named_row *row) {
    mf_put_uuid(call, object, "id", row->id);
    mf_put_str(call, object, "name", row->name);
    mf_put_str(call, object, "description", row->description);
    mf_put_time(call, object, "created_at", row->created_us);
    mf_put_time(call, object, "updated_at", row->updated_us);
}

static mf_rc answer_one(mf_call *call, const mf_named_row *row, int status,
                        const char *message) {
    put_named(call, mf_put_object(call, mf_call_data(call), kind_of(call)->one), row);
    return mf_call_ok(call, status, message);
}

/* A user that is not the caller's own does not exist for it. */
static bool is_visible(const mf_call *call, const mf_named_row *row) {
    return call->admin || kind_of(call)->which == MF_NAMED_AGENT ||
           mf_uuid_eq(row->id, call->caller);
}

static mf_rc find_named(mf_call *call, mf_str name, void *ctx, mf_err *err) {
    mf_named_row row;
    MF_TRY(mf_service_named_find(call->door->service, kind_of(call)->which, name,
                                 call->request.arena, &row, err));
    if (!is_visible(call, &row)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "name",
                             "User with name '%.*s' not found", MF_STR_ARGS(name));
    }
    *(mf_named_row *)ctx = row;
    return MF_OK;
}

mf_rc mf_handle_named_list(mf_call *call, mf_err *err) {
    const kind *k = kind_of(call);
    mf_named_row one;
    mf_named_row *rows = &one;
    size_t count = 1;
    bool by_name = false;
    MF_TRY(mf_call_find_by_name(call, find_named, &one, &by_name, err));
    if (!by_name) {
        MF_TRY(mf_service_named_list(call->door->service, k->which, call->request.arena,
                                     &rows, &count, err));
    }
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), k->many);
    for (size_t i = 0; i < count; i++) {
        if (is_visible(call, &rows[i])) {
            put_named(call, mf_add_object(call, list), &rows[i]);
        }
    }
    return mf_call_ok(call, 200, by_name ? k->found : k->listed);
}

static mf_rc read_fields(mf_call *call, bool name_required, mf_str *name,
                         mf_str *description, mf_err *err) {
    const mf_text_rule name_rule = {.required = name_required,
                                    .bytes_max = MF_NAME_BYTES_MAX};
    const mf_text_rule text_rule = {.blank = true, .bytes_max = MF_TEXT_BYTES_MAX};
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_text(call, "name", name_rule, name, err));
    return mf_call_text(call, "description", text_rule, description, err);
}

mf_rc mf_handle_named_create(mf_call *call, mf_err *err) {
    const kind *k = kind_of(call);
    mf_str name;
    mf_str description;
    mf_named_row row;
    MF_TRY(read_fields(call, true, &name, &description, err));
    MF_TRY(mf_service_named_create(call->door->service, k->which, name, description,
                                   call->request.arena, &row, err));
    return answer_one(call, &row, 201, k->created);
}

static mf_rc check_owner(mf_call *call, mf_err *err) {
    return kind_of(call)->which == MF_NAMED_USER
               ? mf_call_own_user(call, call->params[0], err)
               : MF_OK;
}

mf_rc mf_handle_named_get(mf_call *call, mf_err *err) {
    const kind *k = kind_of(call);
    mf_named_row row;
    MF_TRY(check_owner(call, err));
    MF_TRY(mf_service_named_get(call->door->service, k->which, call->params[0],
                                call->request.arena, &row, err));
    return answer_one(call, &row, 200, k->found);
}

mf_rc mf_handle_named_update(mf_call *call, mf_err *err) {
    const kind *k = kind_of(call);
    mf_str name;
    mf_str description;
    mf_named_row row;
    MF_TRY(check_owner(call, err));
    MF_TRY(read_fields(call, false, &name, &description, err));
    MF_TRY(mf_service_named_update(call->door->service, k->which, call->params[0], name,
                                   description, call->request.arena, &row, err));
    return answer_one(call, &row, 200, k->updated);
}

mf_rc mf_handle_named_delete(mf_call *call, mf_err *err) {
    const kind *k = kind_of(call);
    MF_TRY(check_owner(call, err));
    MF_TRY(
        mf_service_named_delete(call->door->service, k->which, call->params[0], err));
    mf_put_str(call, mf_call_data(call), k->id, call->params[0]);
    return mf_call_ok(call, 200, k->deleted);
}
