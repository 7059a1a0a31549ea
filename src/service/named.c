/* named.c - users and agents: names with a description.
 *
 * The two differ in three ways only: which store calls serve them, what messages call
 * them, and what a deletion takes along.  A deleted user takes its own state out of
 * memory; a deleted agent takes its sessions out of the indexes of the users that are
 * active. */
#include "base/clock.h"
#include "service/service_impl.h"

typedef struct named_ops {
    const char *label; /* as messages call it */
    const char *id_field;
    mf_rc (*insert)(mf_conn *, const mf_named_row *, mf_err *);
    mf_rc (*get)(mf_conn *, mf_uuid, mf_arena *, mf_named_row *, mf_err *);
    mf_rc (*find)(mf_conn *, mf_str, mf_arena *, mf_named_row *, mf_err *);
    mf_rc (*list)(mf_conn *, mf_arena *, mf_named_row **, size_t *, mf_err *);
    mf_rc (*update)(mf_conn *, const mf_named_row *, mf_err *);
    mf_rc (*remove)(mf_conn *, mf_uuid, mf_err *);
} named_ops;

static named_ops ops_of(mf_named which, const mf_conn *conn) {
    const mf_store_ops *o = conn->ops;
    if (which == MF_NAMED_USER) {
        return (named_ops){"User",       "user_id",    o->user_insert, o->user_get,
                           o->user_find, o->user_list, o->user_update, o->user_delete};
    }
    return (named_ops){"Agent",       "agent_id",    o->agent_insert, o->agent_get,
                       o->agent_find, o->agent_list, o->agent_update, o->agent_delete};
}

typedef struct named_call {
    mf_service *service;
    mf_named which;
    mf_uuid id;
    mf_str name, description; /* as given; .p NULL in an update keeps the old value */
    mf_arena *arena;
    mf_named_row row;
    mf_named_row *rows;
    size_t count;
    mf_change_block **removals; /* of an agent's sessions */
    mf_uuid *removal_users;
    size_t removal_count;
} named_call;

static mf_rc name_taken(const char *label, mf_str name, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_EXISTS, "name", "%s with name '%.*s' already exists",
                         label, MF_STR_ARGS(name));
}

static mf_rc id_missing(mf_named which, mf_str id, mf_err *err) {
    return which == MF_NAMED_USER ? mf_service_user_missing(id, err)
                                  : mf_service_agent_missing(id, err);
}

static mf_rc name_check(mf_str name, mf_err *err) {
    return name.len > 0 ? MF_OK
                        : MF_FAIL_FIELD(err, MF_E_FORMAT, "name",
                                        "A name needs at least one character");
}

/* --- create --- */

static mf_rc create_run(mf_conn *conn, void *ctx, mf_err *err) {
    named_call *call = ctx;
    named_ops ops = ops_of(call->which, conn);
    mf_rc rc = ops.insert(conn, &call->row, err);
    return rc == MF_E_EXISTS ? name_taken(ops.label, call->row.name, err) : rc;
}

/* The caller's text, in its arena; absent stays absent. */
static mf_rc keep_text(mf_arena *arena, mf_str text, mf_str *out, mf_err *err) {
    *out = MF_STR_NONE;
    if (text.p != NULL) {
        *out = mf_arena_str(arena, text);
        if (out->p == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a text of %zu bytes",
                           text.len);
        }
    }
    return MF_OK;
}

mf_rc mf_service_named_create(mf_service *service, mf_named which, mf_str name,
                              mf_str description, mf_arena *arena, mf_named_row *out,
                              mf_err *err) {
    MF_TRY(name_check(name, err));
    int64_t now_us = mf_wall_us();
    named_call call = {.which = which};
    call.row =
        (mf_named_row){.id = mf_uuid_new(), .created_us = now_us, .updated_us = now_us};
    MF_TRY(keep_text(arena, name, &call.row.name, err));
    MF_TRY(keep_text(arena, description, &call.row.description, err));
    mf_task task = {.run = create_run, .ctx = &call};
    MF_TRY(mf_service_write(service, &task, err));
    *out = call.row;
    return MF_OK;
}

/* --- read --- */

static mf_rc get_read(mf_conn *conn, void *ctx, mf_err *err) {
    named_call *call = ctx;
    return ops_of(call->which, conn).get(conn, call->id, call->arena, &call->row, err);
}

mf_rc mf_service_named_get(mf_service *service, mf_named which, mf_str id,
                           mf_arena *arena, mf_named_row *out, mf_err *err) {
    mf_user_data *data = service->user_data;
    uint64_t stamp = mf_user_data_directory(data);
    named_call call = {.which = which, .arena = arena};
    if (!mf_uuid_parse(id, &call.id)) {
        return id_missing(which, id, err);
    }
    if (which == MF_NAMED_USER && mf_user_data_get_user(data, call.id, arena, out)) {
        return MF_OK;
    }
    mf_rc rc =
        mf_service_read(service, mf_service_deadline(service), get_read, &call, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? id_missing(which, id, err) : rc;
    }
    if (which == MF_NAMED_USER) {
        mf_user_data_put_user(data, stamp, &call.row);
    }
    *out = call.row;
    return MF_OK;
}

static mf_rc find_read(mf_conn *conn, void *ctx, mf_err *err) {
    named_call *call = ctx;
    named_ops ops = ops_of(call->which, conn);
    mf_rc rc = ops.find(conn, call->name, call->arena, &call->row, err);
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL_FIELD(err, rc, "name", "%s with name '%.*s' not found",
                             ops.label, MF_STR_ARGS(call->name));
    }
    return rc;
}

mf_rc mf_service_named_find(mf_service *service, mf_named which, mf_str name,
                            mf_arena *arena, mf_named_row *out, mf_err *err) {
    mf_user_data *data = service->user_data;
    uint64_t stamp = mf_user_data_directory(data);
    if (which == MF_NAMED_USER && mf_user_data_find_user(data, name, arena, out)) {
        return MF_OK;
    }
    named_call call = {.which = which, .name = name, .arena = arena};
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), find_read, &call, err));
    if (which == MF_NAMED_USER) {
        mf_user_data_put_user(data, stamp, &call.row);
    }
    *out = call.row;
    return MF_OK;
}

static mf_rc list_read(mf_conn *conn, void *ctx, mf_err *err) {
    named_call *call = ctx;
    return ops_of(call->which, conn)
        .list(conn, call->arena, &call->rows, &call->count, err);
}

mf_rc mf_service_named_list(mf_service *service, mf_named which, mf_arena *arena,
                            mf_named_row **rows, size_t *count, mf_err *err) {
    named_call call = {.which = which, .arena = arena};
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), list_read, &call, err));
    *rows = call.rows;
    *count = call.count;
    return MF_OK;
}

/* --- update --- */

static mf_rc update_run(mf_conn *conn, void *ctx, mf_err *err) {
    named_call *call = ctx;
    named_ops ops = ops_of(call->which, conn);
    MF_TRY(ops.get(conn, call->id, call->arena, &call->row, err));
    if (call->name.p != NULL) {
        MF_TRY(keep_text(call->arena, call->name, &call->row.name, err));
    }
    if (call->description.p != NULL) {
        MF_TRY(keep_text(call->arena, call->description, &call->row.description, err));
    }
    call->row.updated_us = mf_wall_us();
    mf_rc rc = ops.update(conn, &call->row, err);
    return rc == MF_E_EXISTS ? name_taken(ops.label, call->row.name, err) : rc;
}

static void update_applied(void *ctx) {
    named_call *call = ctx;
    if (call->which == MF_NAMED_USER) {
        mf_user_data_directory_changed(call->service->user_data);
    }
}

mf_rc mf_service_named_update(mf_service *service, mf_named which, mf_str id,
                              mf_str name, mf_str description, mf_arena *arena,
                              mf_named_row *out, mf_err *err) {
    named_call call = {.service = service,
                       .which = which,
                       .name = name,
                       .description = description,
                       .arena = arena};
    if (name.p != NULL) {
        MF_TRY(name_check(name, err));
    }
    if (!mf_uuid_parse(id, &call.id)) {
        return id_missing(which, id, err);
    }
    mf_task task = {.run = update_run, .applied = update_applied, .ctx = &call};
    mf_rc rc = mf_service_write(service, &task, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? id_missing(which, id, err) : rc;
    }
    *out = call.row;
    return MF_OK;
}

/* --- delete --- */

/* An agent's sessions belong to many users; what each index must forget is prepared
 * before the deletion, because afterwards nothing may fail. */
static mf_rc prepare_removals(named_call *call, mf_conn *conn, mf_err *err) {
    mf_session_row *rows;
    size_t count;
    MF_TRY(conn->ops->session_list(conn, MF_UUID_NONE, call->id, call->arena, &rows,
                                   &count, err));
    call->removals = mf_arena_alloc_array(call->arena, count + 1, sizeof(void *));
    call->removal_users =
        mf_arena_alloc_array(call->arena, count + 1, sizeof(call->removal_users[0]));
    if (call->removals == NULL || call->removal_users == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to remove %zu sessions", count);
    }
    for (size_t i = 0; i < count; i++) {
        MF_TRY(mf_change_block_new(MF_CHANGE_REMOVE_SESSION, 0, 0, &call->removals[i],
                                   err));
        call->removals[i]->change.session_id = rows[i].id;
        call->removal_users[i] = rows[i].user_id;
        call->removal_count = i + 1;
    }
    return MF_OK;
}

static mf_rc delete_run(mf_conn *conn, void *ctx, mf_err *err) {
    named_call *call = ctx;
    if (call->which == MF_NAMED_AGENT) {
        MF_TRY(prepare_removals(call, conn, err));
    }
    return ops_of(call->which, conn).remove(conn, call->id, err);
}

static void apply_removal(mf_service *service, mf_uuid user_id,
                          mf_change_block *block) {
    mf_user *user = mf_registry_find(service->registry, user_id);
    if (user == NULL) {
        mf_change_block_free(block); /* not active: it will load what is left */
        return;
    }
    mf_user_forget_window(user, block->change.session_id);
    mf_user_set_has_sessions(user, -1);
    mf_user_change(user, &block->change);
    mf_user_unref(user);
}

static void delete_applied(void *ctx) {
    named_call *call = ctx;
    mf_service_drop_sessions(call->service);
    if (call->which == MF_NAMED_USER) {
        mf_user_data_directory_changed(call->service->user_data);
        mf_registry_drop(call->service->registry, call->id);
    }
    for (size_t i = 0; i < call->removal_count; i++) {
        apply_removal(call->service, call->removal_users[i], call->removals[i]);
    }
    call->removal_count = 0;
}

mf_rc mf_service_named_delete(mf_service *service, mf_named which, mf_str id,
                              mf_err *err) {
    named_call call = {.service = service, .which = which};
    if (!mf_uuid_parse(id, &call.id)) {
        return id_missing(which, id, err);
    }
    MF_TRY(mf_arena_new(MF_SERVICE_ARENA_MAX, &call.arena, err));
    mf_task task = {
        .forgets = true, .run = delete_run, .applied = delete_applied, .ctx = &call};
    mf_rc rc = mf_service_write(service, &task, err);
    for (size_t i = 0; i < call.removal_count; i++) {
        mf_change_block_free(call.removals[i]); /* it failed: nobody took them */
    }
    mf_arena_free(call.arena);
    return rc == MF_E_NOTFOUND ? id_missing(which, id, err) : rc;
}
