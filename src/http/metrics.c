/* metrics.c - GET /metrics: the same figures as GET /status and more, for Prometheus.
 *
 * A page tells every family, also those that have no sample yet, so that what can be
 * watched is seen at once (and docs/metrics.md can be made from it). */
#include "base/alloc.h"
#include "base/clock.h"
#include "http/handlers.h"
#include "http/prometheus.h"
#include "http/status.h"
#include "os/process.h"

enum { PAGE_MAX = 16 << 20, ERRORS_SHOWN_MAX = 200 };

/* --- the rows of status.def --- */

static const char *type_of(mf_stat_kind kind) {
    return kind == MF_STAT_COUNTER ? "counter" : "gauge";
}

/* Rows tell family and labels in one text, as they are printed. */
static void add_rows(mf_buf *out, const mf_service_status *s) {
    uint64_t values[MF_STAT_ROWS];
    mf_str family = MF_STR_NONE;
    mf_stat_read(s, values);
    for (size_t i = 0; i < MF_STAT_ROWS; i++) {
        const mf_stat_row *row = &mf_stat_rows[i];
        mf_str rest = mf_str_from(row->metric);
        mf_str name = mf_str_split(&rest, '{');
        if (!mf_str_eq(name, family)) {
            (void)mf_buf_printf(out, "# HELP %.*s %s\n# TYPE %.*s %s\n",
                                MF_STR_ARGS(name), row->help, MF_STR_ARGS(name),
                                type_of(row->kind));
            family = name;
        }
        if (mf_stat_is_here(row, s)) {
            (void)mf_buf_printf(out, "%s %.12g\n", row->metric,
                                (double)values[i] / row->unit);
        }
    }
}

static void add_info(mf_prometheus *page, const mf_service_status *s) {
    mf_label version = {"version", MF_VERSION};
    mf_prometheus_family(page, "memfuse_build_info", "gauge", "The program; always 1");
    mf_prometheus_count(page, &version, 1, 1);
    mf_prometheus_family(page, "memfuse_model_info", "gauge",
                         "The encoder that is loaded; always 1");
    if (s->has_model) {
        mf_label labels[] = {{"name", s->model.name},
                             {"precision", s->model.precision},
                             {"kernel", s->model.kernel}};
        mf_prometheus_count(page, labels, 3, 1);
    }
}

/* --- operations --- */

typedef struct operation_figure {
    const char *family, *type, *help;
    size_t offset; /* in mf_operation_stats */
} operation_figure;

static void add_operations(mf_prometheus *page, mf_metrics *metrics) {
#define FIGURE(name) offsetof(mf_operation_stats, name)
    static const operation_figure figures[] = {
        {"memfuse_operations_started_total", "counter", "Operations begun",
         FIGURE(started)},
        {"memfuse_operations_failed_total", "counter",
         "Operations that ended in a failure of the server's side (5xx)",
         FIGURE(failed)},
        {"memfuse_operations_refused_total", "counter",
         "Operations whose answer is no: unknown ids, bad input (4xx)",
         FIGURE(refused)},
        {"memfuse_operations_in_flight", "gauge", "Operations under way",
         FIGURE(in_flight)},
    };
#undef FIGURE
    mf_operation_stats stats[MF_OPERATION_COUNT];
    for (mf_operation at = 0; at < MF_OPERATION_COUNT; at++) {
        mf_metrics_get(metrics, at, &stats[at]);
    }
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const operation_figure *f = &figures[i];
        mf_prometheus_family(page, f->family, f->type, f->help);
        for (size_t at = 0; at < MF_OPERATION_COUNT; at++) {
            mf_label label = {"operation", stats[at].name};
            const char *bytes = (const char *)&stats[at];
            mf_prometheus_count(page, &label, 1,
                                *(const uint64_t *)(const void *)(bytes + f->offset));
        }
    }
    mf_prometheus_family(page, "memfuse_operation_duration_seconds", "histogram",
                         "How long operations took");
    for (mf_operation at = 0; at < MF_OPERATION_COUNT; at++) {
        mf_label label = {"operation", mf_operation_name(at)};
        mf_prometheus_histogram(page, &label, 1, mf_metrics_histogram(metrics, at));
    }
}

static void add_waits(mf_prometheus *page, const mf_service_status *s) {
    mf_prometheus_family(page, "memfuse_embedder_wait_seconds", "summary",
                         "How long work waited for a lane of the encoder");
    if (s->has_model) {
        mf_prometheus_summary(page, &(mf_label){"class", "question"}, 1,
                              &s->embedder.waits[MF_EMBED_QUESTION]);
        mf_prometheus_summary(page, &(mf_label){"class", "ingest"}, 1,
                              &s->embedder.waits[MF_EMBED_INGEST]);
    }
    mf_prometheus_family(page, "memfuse_llm_request_seconds", "summary",
                         "How long requests to the language model took");
    if (s->runtime.has_llm) {
        mf_prometheus_summary(page, NULL, 0, &s->runtime.llm.request_ns);
    }
    mf_prometheus_family(page, "memfuse_job_run_seconds", "summary",
                         "How long runs of background jobs took");
    mf_prometheus_summary(page, NULL, 0, &s->jobs.run_ns);
    mf_prometheus_family(page, "memfuse_pool_wait_seconds", "summary",
                         "How long those waited who had to wait for a connection");
    mf_prometheus_summary(page, &(mf_label){"pool", "foreground"}, 1,
                          &s->readers.wait_ns);
    mf_prometheus_summary(page, &(mf_label){"pool", "background"}, 1,
                          &s->background_readers.wait_ns);
}

/* --- caches --- */

static void add_caches(mf_prometheus *page, const mf_cache_manager_stats *s) {
    static const struct {
        const char *family, *type, *help;
    } figures[] = {
        {"memfuse_cache_entries", "gauge", "Entries of a cache"},
        {"memfuse_cache_entries_max", "gauge", "Most entries it may have"},
        {"memfuse_cache_held_bytes", "gauge", "Memory of its entries"},
        {"memfuse_cache_hits_total", "counter", "Look-ups that found an entry"},
        {"memfuse_cache_misses_total", "counter", "Look-ups that found none"},
        {"memfuse_cache_evictions_total", "counter", "Entries that made room"},
        {"memfuse_cache_expirations_total", "counter", "Entries that grew too old"},
    };
    for (size_t f = 0; f < sizeof figures / sizeof figures[0]; f++) {
        mf_prometheus_family(page, figures[f].family, figures[f].type, figures[f].help);
        for (size_t i = 0; i < s->name_count; i++) {
            const mf_cache_stats *c = &s->names[i];
            const uint64_t values[] = {c->size,   c->max_size,  c->held_bytes, c->hits,
                                       c->misses, c->evictions, c->expirations};
            mf_prometheus_count(page, &(mf_label){"cache", c->name}, 1, values[f]);
        }
    }
}

/* --- health --- */

static void add_health(mf_prometheus *page, const mf_service_status *s) {
    mf_prometheus_family(page, "memfuse_health_state", "gauge",
                         "Health indicators: 0 unknown (too little happens to tell), "
                         "1 healthy, 2 outside the healthy range, 3 alert");
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        mf_label label = {"indicator", s->health[i].name};
        mf_prometheus_count(page, &label, 1, (uint64_t)s->health[i].state);
    }
    mf_prometheus_family(page, "memfuse_health_value", "gauge",
                         "What the indicators show, while they are known");
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        mf_label label = {"indicator", s->health[i].name};
        if (s->health[i].state != MF_HEALTH_STATE_UNKNOWN) {
            mf_prometheus_real(page, &label, 1, s->health[i].value);
        }
    }
    mf_prometheus_family(page, "memfuse_health_bound", "gauge",
                         "The indicators' ranges as set: healthy from low to high, and "
                         "the threshold of an alert");
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        const mf_health_reading *r = &s->health[i];
        mf_label labels[] = {{"indicator", r->name}, {"bound", "low"}};
        mf_prometheus_real(page, labels, 2, r->low);
        labels[1].value = "high";
        mf_prometheus_real(page, labels, 2, r->high);
        labels[1].value = "alert";
        mf_prometheus_real(page, labels, 2, r->alert);
    }
}

/* --- routes --- */

static void add_routes(mf_prometheus *page, const mf_door *door) {
    static const char *const classes[MF_STATUS_CLASSES] = {"1xx", "2xx", "3xx", "4xx",
                                                           "5xx"};
    mf_prometheus_family(page, "memfuse_http_requests_total", "counter",
                         "Requests answered, by route and class of status");
    for (size_t i = 0; i <= mf_route_count; i++) {
        const mf_route *route = i < mf_route_count ? &mf_routes[i] : NULL;
        for (size_t class = 0; class < MF_STATUS_CLASSES; class ++) {
            uint64_t answered = atomic_load(&door->figures[i].answered[class]);
            mf_label labels[] = {{"method", route != NULL ? route->method : "none"},
                                 {"route", route != NULL ? route->pattern : "none"},
                                 {"status", classes[class]}};
            if (answered > 0) {
                mf_prometheus_count(page, labels, 3, answered);
            }
        }
    }
    mf_prometheus_family(page, "memfuse_http_request_duration_seconds", "histogram",
                         "How long requests took, from the door's first look to the "
                         "finished reply");
    for (size_t i = 0; i < mf_route_count; i++) {
        mf_label labels[] = {{"method", mf_routes[i].method},
                             {"route", mf_routes[i].pattern}};
        if (mf_histogram_count(&door->figures[i].duration) > 0) {
            mf_prometheus_histogram(page, labels, 2, &door->figures[i].duration);
        }
    }
}

/* --- errors and breakers --- */

static mf_rc add_errors(mf_prometheus *page, mf_error_cache *errors, mf_arena *arena,
                        mf_err *err) {
    mf_error_cache_stats s;
    mf_error_cache_get_stats(errors, &s);
    mf_prometheus_family(page, "memfuse_errors_noted_total", "counter",
                         "Errors noted, the same ones again too");
    mf_prometheus_count(page, NULL, 0, s.total);
    mf_prometheus_family(page, "memfuse_errors_suppressed_total", "counter",
                         "Of them, those only counted: the same had just been logged");
    mf_prometheus_count(page, NULL, 0, s.suppressed);
    mf_prometheus_family(page, "memfuse_error_kinds", "gauge", "Kinds of errors known");
    mf_prometheus_count(page, NULL, 0, s.size);
    mf_prometheus_family(page, "memfuse_error_kinds_evicted_total", "counter",
                         "Kinds of errors forgotten to make room");
    mf_prometheus_count(page, NULL, 0, s.evicted);
    mf_prometheus_family(page, "memfuse_errors_total", "counter",
                         "Errors by operation and code, of the kinds seen last");
    mf_error_kind *kinds = mf_arena_alloc_array(arena, ERRORS_SHOWN_MAX, sizeof *kinds);
    if (kinds == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the metrics");
    }
    size_t count = mf_error_cache_list(errors, kinds, ERRORS_SHOWN_MAX);
    for (size_t i = 0; i < count; i++) {
        mf_label labels[] = {{"operation", kinds[i].operation},
                             {"code", mf_rc_name(kinds[i].rc)}};
        mf_prometheus_count(page, labels, 2, kinds[i].count);
    }
    return MF_OK;
}

static void add_breakers(mf_prometheus *page, const mf_service_status *s,
                         mf_metrics *metrics) {
    mf_breaker_stats rows[MF_STATUS_BREAKERS_MAX];
    size_t count = mf_status_breakers(metrics, s, rows);
    mf_prometheus_family(page, "memfuse_breaker_state", "gauge",
                         "Circuit breakers: 0 closed, 1 open, 2 half open");
    for (size_t i = 0; i < count; i++) {
        mf_label label = {"dependency", rows[i].name};
        mf_prometheus_count(page, &label, 1, (uint64_t)rows[i].state);
    }
    static const struct {
        const char *family, *help;
        size_t offset;
    } figures[] = {
        {"memfuse_breaker_successes_total", "Calls of a dependency that succeeded",
         offsetof(mf_breaker_stats, successes)},
        {"memfuse_breaker_failures_total", "Calls of a dependency that failed",
         offsetof(mf_breaker_stats, failures)},
        {"memfuse_breaker_refused_total", "Calls left out to spare a dependency",
         offsetof(mf_breaker_stats, refused)},
        {"memfuse_breaker_opened_total", "How often a breaker opened",
         offsetof(mf_breaker_stats, opened)},
    };
    for (size_t f = 0; f < sizeof figures / sizeof figures[0]; f++) {
        mf_prometheus_family(page, figures[f].family, "counter", figures[f].help);
        for (size_t i = 0; i < count; i++) {
            mf_label label = {"dependency", rows[i].name};
            const char *bytes = (const char *)&rows[i];
            mf_prometheus_count(
                page, &label, 1,
                *(const uint64_t *)(const void *)(bytes + figures[f].offset));
        }
    }
}

/* --- the process, under the names that Prometheus's own clients use --- */

static void add_one(mf_prometheus *page, const char *family, const char *type,
                    const char *help, double value) {
    mf_prometheus_family(page, family, type, help);
    mf_prometheus_real(page, NULL, 0, value);
}

static void add_process(mf_prometheus *page) {
    mf_process_stats s;
    mf_process_get_stats(&s);
    add_one(page, "process_cpu_seconds_total", "counter",
            "Processor time of all threads, user and system", s.cpu_seconds);
    add_one(page, "process_start_time_seconds", "gauge",
            "When the process started, seconds since 1970", s.start_seconds);
    add_one(page, "process_resident_memory_bytes", "gauge", "Memory in RAM",
            (double)s.rss_bytes);
    add_one(page, "process_virtual_memory_bytes", "gauge", "Address space in use",
            (double)s.virtual_bytes);
    add_one(page, "process_open_fds", "gauge", "File descriptors open",
            (double)s.open_fds);
    add_one(page, "process_max_fds", "gauge", "Most file descriptors allowed",
            (double)s.fds_max);
    add_one(page, "process_threads", "gauge", "Threads", (double)s.threads);
    add_one(page, "memfuse_heap_blocks", "gauge", "Blocks of memory allocated",
            (double)mf_alloc_live());
    add_one(page, "memfuse_heap_bytes", "gauge", "Their usable bytes",
            (double)mf_alloc_live_bytes());
}

static mf_rc write_page(mf_call *call, mf_buf *text, mf_err *err) {
    mf_service_status status;
    mf_metrics *metrics = mf_service_metrics(call->door->service);
    mf_prometheus page = {.out = text};
    MF_TRY(mf_service_get_status(call->door->service, &status, err));
    add_info(&page, &status);
    add_rows(text, &status);
    add_operations(&page, metrics);
    add_caches(&page, &status.caches);
    add_health(&page, &status);
    add_waits(&page, &status);
    add_routes(&page, call->door);
    MF_TRY(add_errors(&page, mf_metrics_errors(metrics), call->request.arena, err));
    add_breakers(&page, &status, metrics);
    add_process(&page);
    return text->failed != MF_OK
               ? MF_FAIL(err, text->failed, "the metrics do not fit into memory")
               : MF_OK;
}

mf_rc mf_handle_metrics(mf_call *call, mf_err *err) {
    mf_buf text;
    mf_buf_init(&text, PAGE_MAX);
    mf_rc rc = write_page(call, &text, err);
    mf_str body = MF_STR_NONE;
    if (rc == MF_OK) {
        body = mf_arena_str(call->request.arena, mf_buf_view(&text));
        rc = body.p == NULL ? MF_FAIL(err, MF_E_NOMEM, "no memory for the metrics")
                            : MF_OK;
    }
    mf_buf_done(&text);
    return rc == MF_OK ? mf_call_plain(call, MF_PROMETHEUS_TYPE, body) : rc;
}
