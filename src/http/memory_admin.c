/* memory_admin.c - what memory is used for, and how to get some back.
 *
 * The names of the fields are those of the parts' statistics: caches tell size,
 * max_size, hits, misses, hit_rate and ttl_seconds, bounded collections name,
 * current_size, max_size, total_items_added and usage_percentage. */
#include <math.h>

#include "base/clock.h"
#include "http/handlers.h"

static const int64_t MS_PER_S = 1000;

static double rounded(double value, double steps) {
    return round(value * steps) / steps;
}

/* Two decimals, as in the headers. */
static void put_mb(mf_call *call, yyjson_mut_val *object, const char *key,
                   size_t bytes) {
    const double megabyte = 1 << 20;
    const double hundredths = 100;
    mf_put_real(call, object, key, rounded((double)bytes / megabyte, hundredths));
}

static void put_percentage(mf_call *call, yyjson_mut_val *object, double value) {
    const double tenths = 10;
    mf_put_real(call, object, "memory_usage_percentage", rounded(value, tenths));
}

/* --- statistics ------------------------------------------------------------------- */

static void put_guard(mf_call *call, yyjson_mut_val *data,
                      const mf_memory_guard_stats *s) {
    yyjson_mut_val *guard = mf_put_object(call, data, "budget");
    put_mb(call, guard, "budget_mb", s->budget_bytes);
    put_mb(call, guard, "used_mb", s->used_bytes);
    put_mb(call, guard, "used_mb_max", s->used_bytes_max);
    put_mb(call, guard, "allocated_mb", s->figures.own_bytes);
    put_mb(call, guard, "private_mb", s->figures.private_bytes);
    put_mb(call, guard, "resident_mb", s->figures.resident_bytes);
    put_mb(call, guard, "model_allocated_mb", s->model.own_bytes);
    put_mb(call, guard, "model_private_mb", s->model.private_bytes);
    mf_put_bool(call, guard, "refusing", s->refusing);
    mf_put_u64(call, guard, "refused", s->refused);
    mf_put_u64(call, guard, "reliefs", s->reliefs);
    mf_put_u64(call, guard, "users_left", s->users_left);
    mf_put_u64(call, guard, "cache_entries_dropped", s->entries_dropped);
    mf_put_u64(call, guard, "commits_hurried", s->commits);
}

static void put_cleanup(mf_call *call, yyjson_mut_val *data,
                        const mf_memory_guard_stats *s) {
    const double whole = 100;
    yyjson_mut_val *cleanup = mf_put_object(call, data, "cleanup");
    mf_put_bool(call, cleanup, "running", s->running);
    put_mb(call, cleanup, "current_memory_mb", s->used_bytes);
    put_mb(call, cleanup, "memory_threshold_mb", s->threshold_bytes);
    put_percentage(call, cleanup,
                   (double)s->used_bytes * whole / (double)s->threshold_bytes);
    mf_put_i64(call, cleanup, "cleanup_interval_seconds", s->interval_s);
    mf_put_u64(call, cleanup, "total_cleanups", s->cleanups);
    if (s->last_cleanup_us != 0) {
        mf_put_time(call, cleanup, "last_cleanup", s->last_cleanup_us);
    } else {
        mf_put_null(call, cleanup, "last_cleanup");
    }
    mf_put_bool(call, cleanup, "memory_pressure", s->pressure);
}

static void put_monitor(mf_call *call, yyjson_mut_val *data) {
    const double hundredths = 100;
    mf_memory_monitor_stats s;
    mf_memory_monitor_get_stats(&call->door->monitor,
                                mf_service_memory_guard(call->door->service),
                                call->config, &s);
    yyjson_mut_val *monitor = mf_put_object(call, data, "monitor");
    mf_put_bool(call, monitor, "enabled", call->config->memory_monitor);
    mf_put_real(call, monitor, "current_memory_mb",
                rounded(s.current_memory_mb, hundredths));
    mf_put_real(call, monitor, "memory_limit_mb", s.memory_limit_mb);
    put_percentage(call, monitor, s.memory_usage_percentage);
    mf_put_u64(call, monitor, "total_requests", s.total_requests);
    mf_put_u64(call, monitor, "high_memory_requests_count",
               s.high_memory_requests_count);
    yyjson_mut_val *list = mf_put_array(call, monitor, "recent_high_memory_requests");
    for (size_t i = 0; i < s.recent_count; i++) {
        const mf_memory_record *r = &s.recent[i];
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_str(call, item, "endpoint", mf_str_from(r->endpoint));
        mf_put_str(call, item, "method", mf_str_from(r->method));
        mf_put_real(call, item, "memory_mb", rounded(r->memory_mb, hundredths));
        mf_put_real(call, item, "memory_delta_mb",
                    rounded(r->memory_delta_mb, hundredths));
        mf_put_real(call, item, "duration_ms", rounded(r->duration_ms, hundredths));
        mf_put_time(call, item, "timestamp", r->timestamp_us);
        mf_put_u64(call, item, "request_count", r->request_count);
    }
}

static void put_cache(mf_call *call, yyjson_mut_val *caches, const mf_cache_stats *s) {
    yyjson_mut_val *cache = mf_put_object(call, caches, s->name);
    mf_put_u64(call, cache, "size", s->size);
    mf_put_u64(call, cache, "max_size", s->max_size);
    mf_put_u64(call, cache, "hits", s->hits);
    mf_put_u64(call, cache, "misses", s->misses);
    mf_put_real(call, cache, "hit_rate", mf_cache_hit_rate(s->hits, s->misses));
    mf_put_i64(call, cache, "ttl_seconds", s->ttl_ms > 0 ? s->ttl_ms / MS_PER_S : 0);
    mf_put_u64(call, cache, "bytes", s->held_bytes);
    mf_put_u64(call, cache, "evictions", s->evictions);
    mf_put_u64(call, cache, "expirations", s->expirations);
    mf_put_u64(call, cache, "instances", s->caches);
}

static mf_rc put_caches(mf_call *call, yyjson_mut_val *data, mf_err *err) {
    mf_cache_manager *manager = mf_service_caches(call->door->service);
    yyjson_mut_val *object = mf_put_object(call, data, "cache_stats");
    if (manager == NULL) {
        return MF_OK;
    }
    mf_cache_manager_stats *s = mf_arena_alloc_array(call->request.arena, 1, sizeof *s);
    if (s == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the statistics");
    }
    mf_cache_manager_get_stats(manager, s);
    put_mb(call, object, "memory_usage_mb", s->held_bytes);
    put_mb(call, object, "memory_usage_mb_max", s->held_bytes_max);
    put_mb(call, object, "memory_limit_mb", s->budget_bytes);
    put_mb(call, object, "memory_threshold_mb", s->threshold_bytes);
    mf_put_u64(call, object, "size", s->size);
    mf_put_u64(call, object, "hits", s->hits);
    mf_put_u64(call, object, "misses", s->misses);
    mf_put_real(call, object, "hit_rate", mf_cache_hit_rate(s->hits, s->misses));
    mf_put_u64(call, object, "cleanups", s->cleanups);
    mf_put_u64(call, object, "cleaned_entries", s->cleaned_entries);
    mf_put_u64(call, object, "refusals", s->refusals);
    yyjson_mut_val *caches = mf_put_object(call, object, "caches");
    for (size_t i = 0; i < s->name_count; i++) {
        put_cache(call, caches, &s->names[i]);
    }
    return MF_OK;
}

static void put_collection(mf_call *call, yyjson_mut_val *collections,
                           const mf_bounded_stats *s) {
    yyjson_mut_val *object = mf_put_object(call, collections, s->name);
    mf_put_str(call, object, "name", mf_str_from(s->name));
    mf_put_u64(call, object, "current_size", s->current_size);
    mf_put_u64(call, object, "max_size", s->max_size);
    mf_put_u64(call, object, "total_items_added", s->total_items_added);
    mf_put_real(call, object, "usage_percentage", s->usage_percentage);
}

static void put_collections(mf_call *call, yyjson_mut_val *data) {
    mf_recent_stats s;
    mf_bounded_stats records;
    mf_recent_get_stats(mf_service_recent(call->door->service), &s);
    mf_bounded_list_get_stats(call->door->monitor.records, &records);
    yyjson_mut_val *collections = mf_put_object(call, data, "collections");
    put_collection(call, collections, &s.requests);
    put_collection(call, collections, &s.errors);
    put_collection(call, collections, &s.performance);
    put_collection(call, collections, &s.agents);
    put_collection(call, collections, &records);
}

/* --- the newest entries ------------------------------------------------------------
 */

static mf_rc room_for(mf_call *call, size_t count, size_t size, void **out,
                      mf_err *err) {
    *out = mf_arena_alloc_array(call->request.arena, count, size);
    return *out != NULL ? MF_OK : MF_FAIL(err, MF_E_NOMEM, "no memory for the entries");
}

static mf_rc put_requests(mf_call *call, yyjson_mut_val *recent, size_t count,
                          mf_err *err) {
    const double hundredths = 100;
    void *room;
    MF_TRY(room_for(call, count, sizeof(mf_recent_request), &room, err));
    const mf_recent_request *r = room;
    count = mf_recent_requests(mf_service_recent(call->door->service), room, count);
    yyjson_mut_val *list = mf_put_array(call, recent, "requests");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_str(call, item, "endpoint", mf_str_from(r[i].endpoint));
        mf_put_str(call, item, "method", mf_str_from(r[i].method));
        mf_put_real(call, item, "duration_ms", rounded(r[i].duration_ms, hundredths));
        mf_put_i64(call, item, "status_code", r[i].status_code);
        mf_put_time(call, item, "timestamp", r[i].timestamp_us);
    }
    return MF_OK;
}

static mf_rc put_errors(mf_call *call, yyjson_mut_val *recent, size_t count,
                        mf_err *err) {
    void *room;
    MF_TRY(room_for(call, count, sizeof(mf_recent_error), &room, err));
    const mf_recent_error *e = room;
    count = mf_recent_errors(mf_service_recent(call->door->service), room, count);
    yyjson_mut_val *list = mf_put_array(call, recent, "errors");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_str(call, item, "error_type", mf_str_from(e[i].error_type));
        mf_put_str(call, item, "message", mf_str_from(e[i].message));
        mf_put_str(call, item, "endpoint", mf_str_from(e[i].endpoint));
        mf_put_time(call, item, "timestamp", e[i].timestamp_us);
    }
    return MF_OK;
}

static mf_rc put_performance(mf_call *call, yyjson_mut_val *recent, size_t count,
                             mf_err *err) {
    const double hundredths = 100;
    void *room;
    MF_TRY(room_for(call, count, sizeof(mf_recent_performance), &room, err));
    const mf_recent_performance *p = room;
    count = mf_recent_performance_figures(mf_service_recent(call->door->service), room,
                                          count);
    yyjson_mut_val *list = mf_put_array(call, recent, "performance");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_str(call, item, "metric_name", mf_str_from(p[i].metric_name));
        mf_put_real(call, item, "value", rounded(p[i].value, hundredths));
        mf_put_str(call, item, "tags", mf_str_from(p[i].tags));
        mf_put_time(call, item, "timestamp", p[i].timestamp_us);
    }
    return MF_OK;
}

static mf_rc put_agents(mf_call *call, yyjson_mut_val *recent, size_t count,
                        mf_err *err) {
    void *room;
    MF_TRY(room_for(call, count, sizeof(mf_recent_agent), &room, err));
    const mf_recent_agent *a = room;
    count = mf_recent_agents(mf_service_recent(call->door->service), room, count);
    yyjson_mut_val *list = mf_put_array(call, recent, "agents");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_uuid(call, item, "agent_id", a[i].agent_id);
        mf_put_u64(call, item, "requests", a[i].requests);
        mf_put_time(call, item, "timestamp", a[i].timestamp_us);
    }
    return MF_OK;
}

static mf_rc put_recent(mf_call *call, yyjson_mut_val *data, mf_err *err) {
    mf_str text;
    int64_t count = 0;
    MF_TRY(mf_call_parameter(call, "recent", &text, err));
    if (text.p == NULL) {
        return MF_OK;
    }
    if (!mf_str_to_i64(text, &count) || count < 1 || count > MF_RECENT_REQUESTS) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "recent",
                             "recent must be a number from 1 to %d",
                             MF_RECENT_REQUESTS);
    }
    yyjson_mut_val *recent = mf_put_object(call, data, "recent");
    MF_TRY(put_requests(call, recent, (size_t)count, err));
    MF_TRY(put_errors(call, recent, (size_t)count, err));
    MF_TRY(put_performance(call, recent, (size_t)count, err));
    return put_agents(call, recent, (size_t)count, err);
}

/* --- the routes ------------------------------------------------------------------- */

mf_rc mf_handle_memory_stats(mf_call *call, mf_err *err) {
    mf_memory_guard_stats guard;
    mf_memory_guard_get_stats(mf_service_memory_guard(call->door->service), &guard);
    yyjson_mut_val *data = mf_call_data(call);
    put_guard(call, data, &guard);
    put_cleanup(call, data, &guard);
    put_monitor(call, data);
    MF_TRY(put_caches(call, data, err));
    put_collections(call, data);
    MF_TRY(put_recent(call, data, err));
    return mf_call_ok(call, 200, "Memory statistics retrieved successfully");
}

mf_rc mf_handle_memory_cleanup(mf_call *call, mf_err *err) {
    const double microseconds = 1e6;
    mf_memory_cleanup done;
    MF_TRY(mf_memory_guard_cleanup(mf_service_memory_guard(call->door->service),
                                   call->request.deadline_ns, &done, err));
    yyjson_mut_val *data = mf_call_data(call);
    size_t freed =
        done.before_bytes > done.after_bytes ? done.before_bytes - done.after_bytes : 0;
    mf_put_bool(call, data, "forced", done.forced);
    put_mb(call, data, "memory_before_mb", done.before_bytes);
    put_mb(call, data, "memory_after_mb", done.after_bytes);
    put_mb(call, data, "memory_freed_mb", freed);
    mf_put_u64(call, data, "objects_collected", done.objects_collected);
    mf_put_real(call, data, "duration_seconds",
                rounded((double)done.duration_ns / (double)MF_NS_PER_S, microseconds));
    mf_put_u64(call, data, "cleanup_count", done.cleanup_count);
    return mf_call_ok(call, 200, "Memory cleaned up");
}

mf_rc mf_handle_memory_reset(mf_call *call, mf_err *err) {
    (void)err;
    mf_memory_monitor_reset(&call->door->monitor);
    mf_recent_clear(mf_service_recent(call->door->service));
    mf_put_bool(call, mf_call_data(call), "reset", true);
    return mf_call_ok(call, 200, "Records of requests dropped");
}
