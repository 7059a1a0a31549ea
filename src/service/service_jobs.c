/* service_jobs.c - the background queue of a service: its kinds, and what an operator
 * may ask of it. */
#include <string.h>

#include "base/assert.h"
#include "os/cpu.h"
#include "service/purge.h"
#include "service/service.h"
#include "service/service_impl.h"

enum { WORKERS_DEFAULT = 3 };

static size_t worker_count(const mf_config *config) {
    size_t cores = mf_cpu_count();
    if (config->background_workers > 0) {
        return (size_t)config->background_workers;
    }
    return cores < WORKERS_DEFAULT ? cores : WORKERS_DEFAULT;
}

static mf_rc register_kinds(mf_service *service, mf_err *err) {
    const mf_service_parts *parts = &service->parts;
    mf_job_kind purge = mf_purge_kind();
    MF_TRY(mf_jobs_register(service->jobs, &purge, err));
    mf_compress_init(&service->compress, parts->settings);
    if (strcmp(mf_settings_get(parts->settings)->store_compression, "off") != 0) {
        mf_job_kind compress = mf_compress_kind(&service->compress);
        MF_TRY(mf_jobs_register(service->jobs, &compress, err));
    }
    for (size_t i = 0; i < parts->job_kind_count; i++) {
        MF_TRY(mf_jobs_register(service->jobs, &parts->job_kinds[i], err));
    }
    return MF_OK;
}

mf_rc mf_service_open_jobs(mf_service *service, mf_err *err) {
    const mf_config *config = mf_settings_get(service->parts.settings);
    mf_jobs_options options = {.store = service->parts.store,
                               .writer = service->parts.writer,
                               .readers = service->parts.background,
                               .workers_max = worker_count(config),
                               .lease_ms = config->background_lease_ms};
    MF_TRY(mf_jobs_open(&options, &service->jobs, err));
    MF_TRY(register_kinds(service, err));
    return mf_jobs_start(service->jobs, err);
}

typedef struct list_read {
    mf_job_filter filter;
    mf_arena *arena;
    mf_job_row *rows;
    size_t count;
} list_read;

static mf_rc read_list(mf_conn *conn, void *ctx, mf_err *err) {
    list_read *l = ctx;
    return conn->ops->job_list(conn, &l->filter, l->arena, &l->rows, &l->count, err);
}

mf_rc mf_service_jobs_list(mf_service *service, const mf_jobs_query *query,
                           mf_arena *arena, mf_job_row **rows, size_t *count,
                           mf_err *err) {
    list_read l = {
        .filter = {.kind = query->kind, .num_to = INT64_MAX, .limit = query->limit},
        .arena = arena};
    mf_job_state state;
    if (query->state.p != NULL) {
        if (!mf_job_state_parse(query->state, &state)) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "state",
                                 "state must be 'open', 'running' or 'dead'");
        }
        l.filter.states = 1U << state;
    }
    if (query->user_id.p != NULL) {
        mf_user *user;
        MF_TRY(mf_service_find_user(service, query->user_id, &user, err));
        mf_user_unref(user);
        bool good = mf_uuid_parse(query->user_id, &l.filter.user_id);
        MF_ASSERT(good); /* it named a user */
    }
    MF_TRY(mf_service_read(service, mf_service_deadline(service), read_list, &l, err));
    *rows = l.rows;
    *count = l.count;
    return MF_OK;
}

static mf_rc job_missing(mf_str id, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "job_id", "Job with ID '%.*s' not found",
                         MF_STR_ARGS(id));
}

static mf_rc by_id(mf_service *service, mf_str id,
                   mf_rc (*act)(mf_jobs *, mf_uuid, mf_err *), mf_err *err) {
    mf_uuid uuid;
    if (!mf_uuid_parse(id, &uuid)) {
        return job_missing(id, err);
    }
    mf_rc rc = act(service->jobs, uuid, err);
    if (rc == MF_E_NOTFOUND) {
        return job_missing(id, err);
    }
    return rc == MF_E_BUSY ? MF_FAIL_FIELD(err, rc, "job_id",
                                           "The job is running: try again when it ends")
                           : rc;
}

mf_rc mf_service_job_retry(mf_service *service, mf_str id, mf_err *err) {
    return by_id(service, id, mf_jobs_retry, err);
}

mf_rc mf_service_job_drop(mf_service *service, mf_str id, mf_err *err) {
    return by_id(service, id, mf_jobs_drop, err);
}

mf_rc mf_service_job_counts(mf_service *service, mf_arena *arena, mf_job_counts **rows,
                            size_t *count, mf_err *err) {
    return mf_jobs_get_counts(service->jobs, arena, rows, count, err);
}
