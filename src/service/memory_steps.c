/* memory_steps.c - what the memory guard can do in this service: let users leave, have
 * the store drop its cached pages, and commit what keeps users from leaving. */
#include "base/alloc.h"
#include "base/log.h"
#include "service/service_impl.h"

static void users_leave(void *ctx, size_t bytes, size_t *count) {
    mf_service *service = ctx;
    mf_registry_stats before;
    mf_registry_stats after;
    mf_registry_get_stats(service->registry, &before);
    (void)mf_registry_shrink(service->registry, bytes);
    mf_registry_get_stats(service->registry, &after);
    *count = (size_t)(after.left[MF_LEFT_PRESSURE] - before.left[MF_LEFT_PRESSURE]);
}

static size_t users_bytes(void *ctx) {
    mf_service *service = ctx;
    mf_registry_stats stats;
    mf_registry_get_stats(service->registry, &stats);
    return stats.bytes;
}

/* A server that nobody asks anything has nobody else to do it. */
static void idle_leave(void *ctx) {
    mf_service *service = ctx;
    mf_registry_trim(service->registry);
}

static mf_rc release_run(mf_conn *conn, void *ctx, mf_err *err) {
    (void)ctx;
    return conn->ops->release_memory(conn, err);
}

static void release_done(void *ctx, mf_rc rc, const mf_err *err) {
    (void)rc; /* another step will do */
    (void)err;
    mf_free(ctx);
}

/* The writer's turn comes when it comes: a store that hangs must not hang the guard. */
static void shrink_store(void *ctx) {
    mf_service *service = ctx;
    mf_conn_pool_release_memory(service->parts.readers);
    if (service->parts.background != NULL) {
        mf_conn_pool_release_memory(service->parts.background);
    }
    mf_write *op = mf_alloc(sizeof(*op));
    if (op != NULL) {
        *op = (mf_write){.run = release_run, .done = release_done, .ctx = op};
        if (mf_writer_submit(service->parts.writer, op, NULL) != MF_OK) {
            mf_free(op);
        }
    }
}

static void commit_all(void *ctx, int64_t deadline_ns) {
    mf_service *service = ctx;
    mf_err err = {0};
    mf_rc rc = mf_service_settle(service, deadline_ns, &err);
    if (rc != MF_OK && rc != MF_E_TIMEOUT) {
        mf_log_err(MF_LOG_WARN, "memory_commit_failed", &err);
    }
}

mf_rc mf_service_open_guard(mf_service *service, mf_err *err) {
    MF_TRY(mf_recent_open(&service->recent, err));
    mf_memory_guard_options options = {
        .settings = service->parts.settings,
        .caches = service->parts.caches,
        .model = service->parts.model,
        .recent = service->recent,
        .ops = {.users_leave = users_leave,
                .users_bytes = users_bytes,
                .idle_leave = idle_leave,
                .shrink_store = shrink_store,
                .commit = commit_all,
                .ctx = service},
    };
    return mf_memory_guard_open(&options, &service->guard, err);
}

mf_recent *mf_service_recent(mf_service *service) {
    return service->recent;
}

mf_cache_manager *mf_service_caches(mf_service *service) {
    return service->parts.caches;
}

mf_memory_guard *mf_service_memory_guard(mf_service *service) {
    return service->guard;
}
