/* sessions.c - sessions: created, found, renamed, deleted.
 *
 * Names are unique per user.  A session without a given name gets one of its user's
 * name, its agent's name and eight random digits; the store refuses a name that is
 * taken, and another is drawn. */
#include "base/clock.h"
#include "base/rng.h"
#include "service/service_impl.h"

enum { NAME_TRIES = 16 };

typedef struct session_call {
    mf_service *service;
    mf_user *user;
    mf_arena *arena;
    mf_uuid id, user_id, agent_id;
    mf_str name;
    mf_str user_text, agent_text; /* the ids as they came, for messages */
    mf_session_row row;
    mf_session_row *rows;
    size_t count;
    mf_change_block *removal;
} session_call;

static mf_rc name_taken(mf_str name, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_EXISTS, "name",
                         "Session with name '%.*s' already exists for this user",
                         MF_STR_ARGS(name));
}

/* --- create --- */

static mf_rc insert_made_name(session_call *call, mf_conn *conn, mf_err *err) {
    mf_named_row user;
    mf_named_row agent;
    MF_TRY(conn->ops->user_get(conn, call->user_id, call->arena, &user, err));
    MF_TRY(conn->ops->agent_get(conn, call->agent_id, call->arena, &agent, err));
    mf_rc rc = MF_E_EXISTS;
    for (int i = 0; i < NAME_TRIES && rc == MF_E_EXISTS; i++) {
        uint32_t number;
        mf_random_bytes(&number, sizeof number);
        call->row.name =
            mf_arena_printf(call->arena, "%.*s-%.*s-%08x", MF_STR_ARGS(user.name),
                            MF_STR_ARGS(agent.name), number);
        if (call->row.name.p == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a session's name");
        }
        rc = conn->ops->session_insert(conn, &call->row, err);
    }
    return rc;
}

static mf_rc create_run(mf_conn *conn, void *ctx, mf_err *err) {
    session_call *call = ctx;
    mf_named_row agent;
    mf_rc rc = conn->ops->agent_get(conn, call->agent_id, call->arena, &agent, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? mf_service_agent_missing(call->agent_text, err)
                                   : rc;
    }
    rc = call->name.p != NULL ? conn->ops->session_insert(conn, &call->row, err)
                              : insert_made_name(call, conn, err);
    if (rc == MF_E_NOTFOUND) {
        return mf_service_user_missing(call->user_text, err);
    }
    return rc == MF_E_EXISTS ? name_taken(call->row.name, err) : rc;
}

static void create_applied(void *ctx) {
    session_call *call = ctx;
    mf_user_set_has_sessions(call->user, 1);
    mf_user_new_window(call->user, call->row.id);
}

mf_rc mf_service_session_create(mf_service *service, mf_str user_id, mf_str agent_id,
                                mf_str name, mf_arena *arena, mf_session_row *out,
                                mf_err *err) {
    if (name.p != NULL && name.len == 0) {
        return MF_FAIL_FIELD(err, MF_E_FORMAT, "name",
                             "A name needs at least one character");
    }
    session_call call = {.service = service,
                         .arena = arena,
                         .name = name,
                         .user_text = user_id,
                         .agent_text = agent_id};
    MF_TRY(mf_service_find_user(service, user_id, &call.user, err));
    mf_rc rc = MF_OK;
    if (!mf_uuid_parse(agent_id, &call.agent_id)) {
        rc = mf_service_agent_missing(agent_id, err);
    }
    call.user_id = mf_user_id(call.user);
    int64_t now_us = mf_wall_us();
    call.row = (mf_session_row){.id = mf_uuid_new(),
                                .user_id = call.user_id,
                                .agent_id = call.agent_id,
                                .created_us = now_us,
                                .updated_us = now_us};
    if (rc == MF_OK && name.p != NULL) {
        call.row.name = mf_arena_str(arena, name);
        if (call.row.name.p == NULL) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for a session's name");
        }
    }
    if (rc == MF_OK) {
        mf_task task = {.user = call.user,
                        .run = create_run,
                        .applied = create_applied,
                        .ctx = &call};
        rc = mf_service_write(service, &task, err);
    }
    mf_user_unref(call.user);
    if (rc == MF_OK) {
        *out = call.row;
    }
    return rc;
}

/* --- read --- */

static mf_rc get_read(mf_conn *conn, void *ctx, mf_err *err) {
    session_call *call = ctx;
    return conn->ops->session_get(conn, call->id, call->arena, &call->row, err);
}

mf_rc mf_service_session_get(mf_service *service, mf_str id, mf_arena *arena,
                             mf_session_row *out, mf_err *err) {
    session_call call = {.arena = arena};
    if (!mf_uuid_parse(id, &call.id)) {
        return mf_service_session_missing(id, err);
    }
    mf_rc rc =
        mf_service_read(service, mf_service_deadline(service), get_read, &call, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? mf_service_session_missing(id, err) : rc;
    }
    *out = call.row;
    return MF_OK;
}

/* An id to filter by, or none.  false for what cannot be anybody's id; the store's none
 * id is one of these. */
static bool parse_filter(mf_str text, mf_uuid *out) {
    return text.len == 0 || (mf_uuid_parse(text, out) && !mf_uuid_is_none(*out));
}

static mf_rc find_read(mf_conn *conn, void *ctx, mf_err *err) {
    session_call *call = ctx;
    return conn->ops->session_find(conn, call->user_id, call->name, call->arena,
                                   &call->row, err);
}

static mf_rc name_missing(mf_str name, mf_str user_id, mf_err *err) {
    if (user_id.len > 0) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "name",
                             "Session with name '%.*s' not found for user '%.*s'",
                             MF_STR_ARGS(name), MF_STR_ARGS(user_id));
    }
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "name",
                         "Session with name '%.*s' not found", MF_STR_ARGS(name));
}

mf_rc mf_service_session_find(mf_service *service, mf_str name, mf_str user_id,
                              mf_arena *arena, mf_session_row *out, mf_err *err) {
    session_call call = {.arena = arena, .name = name};
    if (!parse_filter(user_id, &call.user_id)) {
        return name_missing(name, user_id, err);
    }
    mf_rc rc =
        mf_service_read(service, mf_service_deadline(service), find_read, &call, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? name_missing(name, user_id, err) : rc;
    }
    *out = call.row;
    return MF_OK;
}

static mf_rc list_read(mf_conn *conn, void *ctx, mf_err *err) {
    session_call *call = ctx;
    mf_named_row named;
    mf_rc rc = MF_OK;
    if (!mf_uuid_is_none(call->user_id)) {
        rc = conn->ops->user_get(conn, call->user_id, call->arena, &named, err);
        if (rc != MF_OK) {
            return rc == MF_E_NOTFOUND ? mf_service_user_missing(call->user_text, err)
                                       : rc;
        }
    }
    if (!mf_uuid_is_none(call->agent_id)) {
        rc = conn->ops->agent_get(conn, call->agent_id, call->arena, &named, err);
        if (rc != MF_OK) {
            return rc == MF_E_NOTFOUND ? mf_service_agent_missing(call->agent_text, err)
                                       : rc;
        }
    }
    return conn->ops->session_list(conn, call->user_id, call->agent_id, call->arena,
                                   &call->rows, &call->count, err);
}

mf_rc mf_service_session_list(mf_service *service, mf_str user_id, mf_str agent_id,
                              mf_arena *arena, mf_session_row **rows, size_t *count,
                              mf_err *err) {
    session_call call = {.arena = arena, .user_text = user_id, .agent_text = agent_id};
    if (!parse_filter(user_id, &call.user_id)) {
        return mf_service_user_missing(user_id, err);
    }
    if (!parse_filter(agent_id, &call.agent_id)) {
        return mf_service_agent_missing(agent_id, err);
    }
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), list_read, &call, err));
    *rows = call.rows;
    *count = call.count;
    return MF_OK;
}

/* --- rename and delete --- */

static mf_rc rename_run(mf_conn *conn, void *ctx, mf_err *err) {
    session_call *call = ctx;
    mf_rc rc = MF_OK;
    if (call->name.p != NULL) {
        rc = conn->ops->session_rename(conn, call->user_id, call->id, call->name,
                                       mf_wall_us(), err);
    }
    if (rc == MF_OK) {
        rc = conn->ops->session_get(conn, call->id, call->arena, &call->row, err);
    }
    return rc == MF_E_EXISTS ? name_taken(call->name, err) : rc;
}

mf_rc mf_service_session_rename(mf_service *service, mf_str id, mf_str name,
                                mf_arena *arena, mf_session_row *out, mf_err *err) {
    if (name.p != NULL && name.len == 0) {
        return MF_FAIL_FIELD(err, MF_E_FORMAT, "name",
                             "A name needs at least one character");
    }
    session_call call = {.arena = arena, .name = name};
    mf_session_owner owner;
    MF_TRY(mf_service_find_session_user(service, id, &owner, &call.user, err));
    call.id = owner.id;
    call.user_id = owner.user_id;
    mf_task task = {.user = call.user, .run = rename_run, .ctx = &call};
    mf_rc rc = mf_service_write(service, &task, err);
    mf_user_unref(call.user);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? mf_service_session_missing(id, err) : rc;
    }
    *out = call.row;
    return MF_OK;
}

static mf_rc delete_run(mf_conn *conn, void *ctx, mf_err *err) {
    session_call *call = ctx;
    return conn->ops->session_delete(conn, call->user_id, call->id, err);
}

static void delete_applied(void *ctx) {
    session_call *call = ctx;
    mf_service_drop_sessions(call->service);
    mf_user_forget_window(call->user, call->id);
    mf_user_set_has_sessions(call->user, -1);
    mf_user_change(call->user, &call->removal->change);
    call->removal = NULL;
}

mf_rc mf_service_session_delete(mf_service *service, mf_str id, mf_err *err) {
    session_call call = {.service = service};
    mf_session_owner owner;
    MF_TRY(mf_service_find_session_user(service, id, &owner, &call.user, err));
    call.id = owner.id;
    call.user_id = owner.user_id;
    mf_rc rc = mf_change_block_new(MF_CHANGE_REMOVE_SESSION, 0, 0, &call.removal, err);
    if (rc == MF_OK) {
        call.removal->change.session_id = owner.id;
        mf_task task = {.user = call.user,
                        .forgets = true,
                        .run = delete_run,
                        .applied = delete_applied,
                        .ctx = &call};
        rc = mf_service_write(service, &task, err);
    }
    mf_change_block_free(call.removal);
    mf_user_unref(call.user);
    return rc == MF_E_NOTFOUND ? mf_service_session_missing(id, err) : rc;
}
