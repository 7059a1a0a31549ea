/* user_settings.c - a user's own settings: kept in memory, listed, changed.
 *
 * A change is one write: it is checked against the table before, written, and what the
 * store then holds is read back in the same transaction; after the commit the user gets
 * that in the place of what it had.  So the two can never differ, and two changes at
 * once end as the store has them. */
#include "service/user_settings.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "service/service_impl.h"
#include "service/user_impl.h"

enum { SETTINGS_ARENA_MAX = 4 << 20 };

typedef struct own_setting {
    mf_str key, value; /* in the same block */
} own_setting;

struct mf_user_overrides {
    atomic_size_t refs;
    size_t bytes;
    const mf_config *base;
    mf_config values; /* base with the rows */
    size_t count;
    own_setting rows[]; /* and their texts behind them */
};

/* --- the object --- */

static mf_user_overrides *overrides_new(const mf_config *base, const own_setting *rows,
                                        size_t count) {
    size_t texts = 0;
    for (size_t i = 0; i < count; i++) {
        texts += rows[i].key.len + rows[i].value.len;
    }
    size_t bytes = sizeof(mf_user_overrides) + count * sizeof(rows[0]) + texts;
    mf_user_overrides *made = mf_alloc(bytes);
    if (made == NULL) {
        return NULL;
    }
    atomic_init(&made->refs, 1);
    made->bytes = bytes;
    made->base = base;
    made->values = *base;
    made->count = 0;
    char *at = (char *)(made->rows + count);
    for (size_t i = 0; i < count; i++) {
        if (!mf_config_set_user(&made->values, rows[i].key, rows[i].value)) {
            continue; /* not allowed any more */
        }
        own_setting *row = &made->rows[made->count++];
        row->key = (mf_str){at, rows[i].key.len};
        memcpy(at, rows[i].key.p, rows[i].key.len);
        at += rows[i].key.len;
        row->value = (mf_str){at, rows[i].value.len};
        if (rows[i].value.len > 0) {
            memcpy(at, rows[i].value.p, rows[i].value.len);
        }
        at += rows[i].value.len;
    }
    return made;
}

static mf_rc read_rows(mf_conn *conn, mf_uuid user_id, const mf_config *base,
                       mf_arena *arena, mf_user_overrides **out, mf_err *err) {
    mf_user_setting_row *rows;
    size_t count;
    own_setting own[MF_USER_SETTINGS_MAX];
    MF_TRY(conn->ops->user_setting_list(conn, user_id, arena, &rows, &count, err));
    count = count < MF_USER_SETTINGS_MAX ? count : MF_USER_SETTINGS_MAX;
    for (size_t i = 0; i < count; i++) {
        own[i] = (own_setting){.key = rows[i].key, .value = rows[i].value};
    }
    *out = NULL;
    if (count > 0) {
        *out = overrides_new(base, own, count);
        return *out != NULL
                   ? MF_OK
                   : MF_FAIL(err, MF_E_NOMEM, "no memory for a user's settings");
    }
    return MF_OK;
}

mf_rc mf_user_overrides_read(mf_conn *conn, mf_uuid user_id, const mf_config *base,
                             mf_user_overrides **out, mf_err *err) {
    mf_arena *arena;
    MF_TRY(mf_arena_new(SETTINGS_ARENA_MAX, &arena, err));
    mf_rc rc = read_rows(conn, user_id, base, arena, out, err);
    mf_arena_free(arena);
    return rc;
}

mf_user_overrides *mf_user_overrides_over(const mf_user_overrides *overrides,
                                          const mf_config *base) {
    return overrides_new(base, overrides->rows, overrides->count);
}

mf_user_overrides *mf_user_overrides_ref(mf_user_overrides *overrides) {
    atomic_fetch_add(&overrides->refs, 1);
    return overrides;
}

void mf_user_overrides_unref(mf_user_overrides *overrides) {
    if (overrides != NULL && atomic_fetch_sub(&overrides->refs, 1) == 1) {
        mf_free(overrides);
    }
}

const mf_config *mf_user_overrides_config(const mf_user_overrides *overrides) {
    return &overrides->values;
}

const mf_config *mf_user_overrides_base(const mf_user_overrides *overrides) {
    return overrides->base;
}

size_t mf_user_overrides_bytes(const mf_user_overrides *overrides) {
    return overrides != NULL ? overrides->bytes : 0;
}

mf_str mf_user_overrides_find(const mf_user_overrides *overrides, mf_str key) {
    for (size_t i = 0; overrides != NULL && i < overrides->count; i++) {
        if (mf_str_eq(overrides->rows[i].key, key)) {
            return overrides->rows[i].value;
        }
    }
    return MF_STR_NONE;
}

/* --- listing --- */

/* What a request may say instead. */
static const struct request_parameter {
    const char *key, *name;
} request_parameters[] = {
    {"retrieval.top_k", "top_k"},
    {"buffer.query.default_sort_by", "sort_by"},
    {"buffer.query.default_order", "order"},
};

static mf_str parameter_of(const char *key) {
    size_t count = sizeof request_parameters / sizeof request_parameters[0];
    for (size_t i = 0; i < count; i++) {
        if (strcmp(request_parameters[i].key, key) == 0) {
            return mf_str_from(request_parameters[i].name);
        }
    }
    return MF_STR_NONE;
}

typedef struct list_call {
    mf_user_overrides *own; /* NULL: none */
    mf_str key;             /* the only one wanted; empty: all */
    mf_arena *arena;
    mf_user_setting *rows;
    size_t count;
    bool full; /* memory is short */
} list_call;

static mf_str keep(list_call *call, mf_str text) {
    mf_str copy = mf_arena_str(call->arena, text);
    call->full |= copy.p == NULL;
    return copy;
}

static void list_row(void *ctx, const mf_setting_info *info) {
    list_call *call = ctx;
    mf_str key = mf_str_from(info->key);
    if (!info->per_user || call->count == MF_USER_SETTINGS_MAX ||
        (call->key.len > 0 && !mf_str_eq(call->key, key))) {
        return;
    }
    mf_str own = mf_user_overrides_find(call->own, key);
    mf_user_setting *row = &call->rows[call->count++];
    *row = (mf_user_setting){.key = key, /* of the table */
                             .type = mf_str_from(info->type),
                             .help = mf_str_from(info->help),
                             .by_default = mf_str_from(info->def),
                             .parameter = parameter_of(info->key),
                             .range = keep(call, mf_str_from(info->range)),
                             .global = keep(call, mf_str_from(info->value)),
                             .global_source = keep(call, mf_str_from(info->source)),
                             .own = own.p != NULL ? keep(call, own) : MF_STR_NONE};
    row->value = own.p != NULL ? row->own : row->global;
}

mf_rc mf_service_settings_list(mf_service *service, mf_str user_id, mf_str key,
                               mf_arena *arena, mf_user_setting **rows, size_t *count,
                               mf_err *err) {
    list_call call = {.key = key, .arena = arena};
    mf_user *user;
    if (key.len > 0) {
        MF_TRY(mf_config_check_user(key, MF_STR_NONE, NULL, err));
    }
    call.rows = mf_arena_alloc_array(arena, MF_USER_SETTINGS_MAX, sizeof(call.rows[0]));
    if (call.rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of settings");
    }
    MF_TRY(mf_service_find_user(service, user_id, &user, err));
    mf_user_config config = mf_user_config_hold(user);
    call.own = config.held;
    mf_settings_each(service->parts.settings, list_row, &call);
    mf_user_config_release(&config);
    mf_user_unref(user);
    if (call.full) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of settings");
    }
    *rows = call.rows;
    *count = call.count;
    return MF_OK;
}

/* --- changing --- */

typedef struct change_call {
    mf_user *user;
    const mf_user_change_setting *changes;
    size_t count;
    mf_user_overrides *made; /* what the user has after the commit */
} change_call;

static mf_rc change_one(mf_conn *conn, mf_uuid user_id,
                        const mf_user_change_setting *change, mf_err *err) {
    if (change->value.p == NULL) {
        mf_rc rc = conn->ops->user_setting_delete(conn, user_id, change->key, err);
        return rc == MF_E_NOTFOUND ? MF_OK : rc; /* it is as everybody's already */
    }
    char normal[MF_CONFIG_TEXT_MAX];
    MF_TRY(mf_config_check_user(change->key, change->value, normal, err));
    mf_user_setting_row row = {
        .key = change->key, .value = mf_str_from(normal), .updated_us = mf_wall_us()};
    mf_rc rc = conn->ops->user_setting_put(conn, user_id, &row, err);
    return rc;
}

static mf_rc change_run(mf_conn *conn, void *ctx, mf_err *err) {
    change_call *call = ctx;
    mf_uuid user_id = mf_user_id(call->user);
    for (size_t i = 0; i < call->count; i++) {
        MF_TRY(change_one(conn, user_id, &call->changes[i], err));
    }
    const mf_config *base = mf_settings_get(call->user->parts->settings);
    return mf_user_overrides_read(conn, user_id, base, &call->made, err);
}

static void change_applied(void *ctx) {
    change_call *call = ctx;
    mf_user_set_overrides(call->user, call->made);
    call->made = NULL;
}

mf_rc mf_service_settings_change(mf_service *service, mf_str user_id,
                                 const mf_user_change_setting *changes, size_t count,
                                 mf_err *err) {
    char normal[MF_CONFIG_TEXT_MAX];
    for (size_t i = 0; i < count; i++) {
        MF_TRY(mf_config_check_user(changes[i].key, changes[i].value, normal, err));
    }
    change_call call = {.changes = changes, .count = count};
    MF_TRY(mf_service_find_user(service, user_id, &call.user, err));
    mf_task task = {
        .user = call.user, .run = change_run, .applied = change_applied, .ctx = &call};
    mf_rc rc = mf_service_write(service, &task, err);
    mf_user_overrides_unref(call.made); /* of a write that failed */
    mf_user_unref(call.user);
    return rc == MF_E_NOTFOUND ? mf_service_user_missing(user_id, err) : rc;
}
