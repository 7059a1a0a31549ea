/* status.c - GET /status: every figure the server tells about itself, as JSON.
 *
 * Figures that are one number each come from status.def, which GET /metrics uses too;
 * what has a shape of its own (percentiles, lists) is put together here. */
#include "http/status.h"

#include "base/clock.h"
#include "http/handlers.h"
#include "text/utf8.h"

const mf_stat_row mf_stat_rows[] = {
#define MF_STAT(group, field, kind, metric, unit, value, help)                         \
    {group, field, MF_STAT_##kind, metric, unit, help},
#include "http/status.def"
#undef MF_STAT
};

_Static_assert(sizeof mf_stat_rows / sizeof mf_stat_rows[0] == MF_STAT_ROWS,
               "each row has a number");

void mf_stat_read(const mf_service_status *s, uint64_t out[MF_STAT_ROWS]) {
    size_t i = 0;
#define MF_STAT(group, field, kind, metric, unit, value, help)                         \
    out[i++] = (uint64_t)(value);
#include "http/status.def"
#undef MF_STAT
}

bool mf_stat_is_here(const mf_stat_row *row, const mf_service_status *s) {
    mf_str group = mf_str_from(row->group);
    bool of_model =
        mf_str_eq(group, MF_STR("model")) || mf_str_starts(group, MF_STR("embedder"));
    return s->has_model || !of_model;
}

/* The object at a dotted path, made where it is missing; `path` is static. */
static yyjson_mut_val *group_at(mf_call *call, yyjson_mut_val *object, mf_str path) {
    while (path.len > 0) {
        mf_str name = mf_str_split(&path, '.');
        yyjson_mut_val *inner = yyjson_mut_obj_getn(object, name.p, name.len);
        if (inner == NULL) {
            mf_str key = mf_arena_str(call->request.arena, name);
            inner = mf_put_object(call, object, key.p != NULL ? key.p : "");
        }
        object = inner;
    }
    return object;
}

static void put_rows(mf_call *call, yyjson_mut_val *data, const mf_service_status *s) {
    uint64_t values[MF_STAT_ROWS];
    mf_stat_read(s, values);
    for (size_t i = 0; i < MF_STAT_ROWS; i++) {
        const mf_stat_row *row = &mf_stat_rows[i];
        if (!mf_stat_is_here(row, s)) {
            continue;
        }
        yyjson_mut_val *group = group_at(call, data, mf_str_from(row->group));
        if (row->kind == MF_STAT_FLAG) {
            mf_put_bool(call, group, row->field, values[i] != 0);
        } else {
            mf_put_u64(call, group, row->field, values[i]);
        }
    }
}

/* --- what is no single number --- */

static void put_waits(mf_call *call, yyjson_mut_val *queue,
                      const mf_histogram_summary *waits) {
    mf_put_u64(call, queue, "wait_p50_us", waits->p50 / MF_NS_PER_US);
    mf_put_u64(call, queue, "wait_p99_us", waits->p99 / MF_NS_PER_US);
    mf_put_u64(call, queue, "wait_max_us", waits->max / MF_NS_PER_US);
}

static void put_texts(mf_call *call, yyjson_mut_val *data, const mf_service_status *s) {
    mf_put_str(call, group_at(call, data, MF_STR("store")), "synchronous",
               mf_str_from(call->config->store_synchronous));
    mf_put_u64(call, group_at(call, data, MF_STR("readers")), "wait_p99_us",
               s->readers.wait_ns.p99 / MF_NS_PER_US);
    mf_put_u64(call, group_at(call, data, MF_STR("background_readers")), "wait_p99_us",
               s->background_readers.wait_ns.p99 / MF_NS_PER_US);
    if (s->runtime.has_llm) {
        yyjson_mut_val *llm = group_at(call, data, MF_STR("runtime.llm"));
        mf_str model =
            mf_arena_str(call->request.arena, mf_str_from(s->runtime.llm.model));
        mf_put_str(call, llm, "model", model);
        put_waits(call, mf_put_object(call, llm, "request"),
                  &s->runtime.llm.request_ns);
    }
    mf_put_str(call, data, "token_counter",
               s->exact_tokens ? MF_STR("exact") : MF_STR("estimate"));
    if (!s->has_model) {
        mf_put_null(call, data, "model");
        mf_put_null(call, data, "embedder");
        return;
    }
    yyjson_mut_val *model = group_at(call, data, MF_STR("model"));
    mf_str name = mf_arena_str(call->request.arena, mf_str_from(s->model.name));
    mf_put_str(call, model, "name", name);
    mf_put_str(call, model, "precision", mf_str_from(s->model.precision));
    mf_put_str(call, model, "kernel", mf_str_from(s->model.kernel));
    put_waits(call, group_at(call, data, MF_STR("embedder.question_queue")),
              &s->embedder.waits[MF_EMBED_QUESTION]);
    put_waits(call, group_at(call, data, MF_STR("embedder.ingest_queue")),
              &s->embedder.waits[MF_EMBED_INGEST]);
}

static double rounded(double value) {
    return (double)(int64_t)(value * 1000 + 0.5) / 1000;
}

static void put_recent(mf_call *call, yyjson_mut_val *object, mf_metrics *metrics,
                       mf_operation at) {
    mf_operation_recent s;
    mf_metrics_get_recent(metrics, at, &s);
    mf_put_real(call, object, "seconds", rounded(s.seconds));
    mf_put_u64(call, object, "count", s.latency.count);
    mf_put_u64(call, object, "failed", s.failed);
    mf_put_u64(call, object, "p50_us", s.latency.p50 / MF_NS_PER_US);
    mf_put_u64(call, object, "p95_us", s.latency.p95 / MF_NS_PER_US);
    mf_put_u64(call, object, "p99_us", s.latency.p99 / MF_NS_PER_US);
}

static void put_operations(mf_call *call, yyjson_mut_val *data, mf_metrics *metrics) {
    yyjson_mut_val *all = mf_put_object(call, data, "operations");
    for (mf_operation at = 0; at < MF_OPERATION_COUNT; at++) {
        mf_operation_stats s;
        mf_metrics_get(metrics, at, &s);
        yyjson_mut_val *one = mf_put_object(call, all, s.name);
        mf_put_u64(call, one, "started", s.started);
        mf_put_u64(call, one, "finished", s.finished);
        mf_put_u64(call, one, "failed", s.failed);
        mf_put_u64(call, one, "refused", s.refused);
        mf_put_u64(call, one, "in_flight", s.in_flight);
        mf_put_u64(call, one, "p50_us", s.latency.p50 / MF_NS_PER_US);
        mf_put_u64(call, one, "p90_us", s.latency.p90 / MF_NS_PER_US);
        mf_put_u64(call, one, "p99_us", s.latency.p99 / MF_NS_PER_US);
        mf_put_u64(call, one, "p999_us", s.latency.p999 / MF_NS_PER_US);
        mf_put_u64(call, one, "max_us", s.latency.max / MF_NS_PER_US);
        mf_put_u64(call, one, "sum_us", s.latency.sum / MF_NS_PER_US);
        put_recent(call, mf_put_object(call, one, "recent"), metrics, at);
    }
}

size_t mf_status_breakers(mf_metrics *metrics, const mf_service_status *s,
                          mf_breaker_stats out[MF_STATUS_BREAKERS_MAX]) {
    size_t count = mf_metrics_breakers(metrics, out, MF_METRICS_BREAKERS_MAX);
    if (s->runtime.has_llm) {
        out[count++] = s->runtime.llm.breaker;
    }
    return count;
}

static void put_breakers(mf_call *call, yyjson_mut_val *data,
                         const mf_service_status *status, mf_metrics *metrics) {
    mf_breaker_stats rows[MF_STATUS_BREAKERS_MAX];
    size_t count = mf_status_breakers(metrics, status, rows);
    yyjson_mut_val *all = mf_put_object(call, data, "breakers");
    for (size_t i = 0; i < count; i++) {
        const mf_breaker_stats *s = &rows[i];
        yyjson_mut_val *one = mf_put_object(call, all, s->name);
        mf_put_str(call, one, "state", mf_str_from(mf_breaker_state_name(s->state)));
        mf_put_u64(call, one, "failures_in_row", s->failures_in_row);
        mf_put_u64(call, one, "successes", s->successes);
        mf_put_u64(call, one, "failures", s->failures);
        mf_put_u64(call, one, "refused", s->refused);
        mf_put_u64(call, one, "opened", s->opened);
        mf_put_u64(call, one, "probes", s->probes);
        mf_put_i64(call, one, "retry_after_ms", s->retry_after_ns / MF_NS_PER_MS);
    }
}

/* What a component does failed in the last one to two minutes, or it did not. */
static mf_str recent_health(mf_metrics *metrics, mf_operation operation) {
    mf_operation_recent recent;
    mf_metrics_get_recent(metrics, operation, &recent);
    return recent.failed > 0 ? MF_STR("failing") : MF_STR("healthy");
}

/* The components' figures under the names that the design gives them. */
static void put_components(mf_call *call, yyjson_mut_val *data,
                           const mf_service_status *s, mf_metrics *metrics) {
    mf_operation_stats queries;
    mf_metrics_get(metrics, MF_OPERATION_QUERY, &queries);
    yyjson_mut_val *query = group_at(call, data, MF_STR("query"));
    yyjson_mut_val *latency = mf_put_object(call, query, "query_latency");
    mf_put_u64(call, latency, "p50_us", queries.latency.p50 / MF_NS_PER_US);
    mf_put_u64(call, latency, "p95_us", queries.latency.p95 / MF_NS_PER_US);
    mf_put_u64(call, latency, "p99_us", queries.latency.p99 / MF_NS_PER_US);
    mf_put_u64(call, latency, "max_us", queries.latency.max / MF_NS_PER_US);
    yyjson_mut_val *write = group_at(call, data, MF_STR("write"));
    yyjson_mut_val *health = mf_put_object(call, write, "component_health");
    mf_put_str(call, health, "writer",
               s->writer.failed ? MF_STR("failed") : MF_STR("healthy"));
    mf_put_str(call, health, "round_buffer", recent_health(metrics, MF_OPERATION_ADD));
    mf_put_str(call, health, "hybrid_buffer",
               recent_health(metrics, MF_OPERATION_COMMIT));
    mf_put_str(call, health, "flush_manager",
               s->flush.retrying > 0 ? MF_STR("degraded") : MF_STR("healthy"));
}

/* Every cache of the process by its name, with the names its figures have everywhere.
 */
static void put_caches(mf_call *call, yyjson_mut_val *data,
                       const mf_cache_manager_stats *s) {
    yyjson_mut_val *all = mf_put_object(call, data, "caches");
    for (size_t i = 0; i < s->name_count; i++) {
        const mf_cache_stats *c = &s->names[i];
        yyjson_mut_val *one = mf_put_object(call, all, c->name);
        mf_put_u64(call, one, "caches", c->caches);
        mf_put_u64(call, one, "size", c->size);
        mf_put_u64(call, one, "max_size", c->max_size);
        mf_put_u64(call, one, "held_bytes", c->held_bytes);
        mf_put_u64(call, one, "hits", c->hits);
        mf_put_u64(call, one, "misses", c->misses);
        mf_put_real(call, one, "hit_rate", mf_cache_hit_rate(c->hits, c->misses));
        mf_put_u64(call, one, "evictions", c->evictions);
        mf_put_u64(call, one, "expirations", c->expirations);
        mf_put_i64(call, one, "ttl_seconds", c->ttl_ms > 0 ? c->ttl_ms / 1000 : 0);
    }
}

static void put_health(mf_call *call, yyjson_mut_val *data,
                       const mf_health_reading readings[MF_HEALTH_COUNT]) {
    yyjson_mut_val *all = mf_put_object(call, data, "health");
    mf_put_str(call, all, "state",
               mf_str_from(mf_health_state_name(mf_health_worst(readings))));
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        const mf_health_reading *r = &readings[i];
        yyjson_mut_val *one = mf_put_object(call, all, r->name);
        mf_put_str(call, one, "state", mf_str_from(mf_health_state_name(r->state)));
        if (r->state == MF_HEALTH_STATE_UNKNOWN) {
            mf_put_null(call, one, "value");
        } else {
            mf_put_real(call, one, "value", rounded(r->value));
        }
        mf_put_real(call, one, "healthy_low", r->low);
        mf_put_real(call, one, "healthy_high", r->high);
        mf_put_real(call, one, r->alert_below ? "alert_below" : "alert_above",
                    r->alert);
        mf_put_u64(call, one, "samples", r->samples);
        mf_put_u64(call, one, "samples_min", r->samples_min);
        mf_put_str(call, one, "unit", mf_str_from(r->unit));
    }
}

/* A text cut to fit may end inside a character. */
static mf_str shown(const char *text) {
    return mf_utf8_prefix(mf_str_from(text), MF_ERROR_TEXT_MAX - 5);
}

/* The errors seen last, newest first. */
static void put_errors(mf_call *call, yyjson_mut_val *data, mf_metrics *metrics) {
    enum { SHOWN_MAX = 20 };
    mf_error_cache *errors = mf_metrics_errors(metrics);
    mf_error_cache_stats s;
    mf_error_cache_get_stats(errors, &s);
    yyjson_mut_val *all = mf_put_object(call, data, "errors");
    mf_put_u64(call, all, "size", s.size);
    mf_put_u64(call, all, "max_size", s.max_size);
    mf_put_i64(call, all, "ttl_seconds", s.ttl_ms / 1000);
    mf_put_u64(call, all, "total", s.total);
    mf_put_u64(call, all, "processed", s.processed);
    mf_put_u64(call, all, "suppressed", s.suppressed);
    mf_put_u64(call, all, "evicted", s.evicted);
    yyjson_mut_val *list = mf_put_array(call, all, "recent");
    mf_error_kind *kinds =
        mf_arena_alloc_array(call->request.arena, SHOWN_MAX, sizeof *kinds);
    if (kinds == NULL) {
        call->spent = true;
        return;
    }
    size_t count = mf_error_cache_list(errors, kinds, SHOWN_MAX);
    int64_t now_ns = mf_now_ns();
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *one = mf_add_object(call, list);
        mf_put_str(call, one, "operation", mf_str_from(kinds[i].operation));
        mf_put_str(call, one, "code", mf_str_from(mf_rc_name(kinds[i].rc)));
        mf_put_u64(call, one, "count", kinds[i].count);
        mf_put_i64(call, one, "seconds_ago", (now_ns - kinds[i].last_ns) / MF_NS_PER_S);
        mf_put_str(call, one, "text", shown(kinds[i].text));
    }
}

mf_rc mf_handle_status(mf_call *call, mf_err *err) {
    mf_service_status status;
    mf_metrics *metrics = mf_service_metrics(call->door->service);
    MF_TRY(mf_service_get_status(call->door->service, &status, err));
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_str(call, data, "version", MF_STR(MF_VERSION));
    put_rows(call, data, &status);
    put_texts(call, data, &status);
    put_components(call, data, &status, metrics);
    put_caches(call, data, &status.caches);
    put_health(call, data, status.health);
    put_operations(call, data, metrics);
    put_breakers(call, data, &status, metrics);
    put_errors(call, data, metrics);
    return mf_call_ok(call, 200, "Status retrieved successfully");
}
