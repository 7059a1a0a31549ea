/* memory_admin_test.c - replies tell what memory they took, the administrator sees and
 * frees it, and work is refused when the budget is spent. */
#include "http/memory_monitor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/door_testing.h"
#include "store/memory/memory_store.h"
#include "text/json.h"

enum { MB = 1 << 20 };

typedef struct client {
    mf_testing parts;
    mf_arena *arena;
    mf_http_reply reply;
    yyjson_val *data;
} client;

static void start(client *c, const char *const *sets, size_t count) {
    mf_err err = {0};
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    *c = (client){.arena = NULL};
    mf_store *store = NULL;
    if (mf_memory_store_open(&store, &err) != MF_OK ||
        mf_testing_open(&c->parts, store, sets, count, &err) != MF_OK ||
        mf_arena_new(64 * MB, &c->arena, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
}

static void stop(client *c) {
    mf_arena_free(c->arena);
    mf_testing_close(&c->parts);
    assert_int_equal(mf_alloc_live(), 0);
}

static void keep(void *ctx, const mf_http_reply *reply) {
    ((client *)ctx)->reply = *reply;
}

/* For routes that answer on this thread.  The status. */
static int ask(client *c, const char *method, const char *path, const char *query,
               const char *body) {
    mf_arena_reset(c->arena);
    const mf_http_request request = {.method = mf_str_from(method),
                                     .path = mf_str_from(path),
                                     .query = mf_str_from(query),
                                     .body = mf_str_from(body),
                                     .trusted = true,
                                     .deadline_ns = MF_NEVER,
                                     .arena = c->arena};
    c->data = NULL;
    mf_door_handle(c->parts.door, &request, keep, c);
    yyjson_doc *doc = NULL;
    if (mf_json_parse(c->reply.body, c->arena, &doc, NULL) == MF_OK) {
        c->data = yyjson_obj_get(yyjson_doc_get_root(doc), "data");
    }
    return c->reply.status;
}

static const char *header(const client *c, const char *name) {
    for (size_t i = 0; i < c->reply.header_count; i++) {
        if (strcmp(c->reply.headers[i].name, name) == 0) {
            return c->reply.headers[i].value.p;
        }
    }
    return NULL;
}

/* The value at a dotted path below the reply's data. */
static yyjson_val *at(const client *c, const char *path) {
    yyjson_val *value = c->data;
    mf_str rest = mf_str_from(path);
    while (rest.len > 0) {
        mf_str key = mf_str_split(&rest, '.');
        value = yyjson_obj_getn(value, key.p, key.len);
    }
    if (value == NULL) {
        fail_msg("the reply has no %s", path);
    }
    return value;
}

static void check(client *c) {
    mf_memory_guard *guard = mf_service_memory_guard(c->parts.service);
    assert_int_equal(mf_memory_guard_check(guard, MF_NEVER, NULL), MF_OK);
}

/* A number with exactly two decimals. */
static double two_decimals(const char *text) {
    assert_non_null(text);
    const char *dot = strchr(text, '.');
    assert_non_null(dot);
    assert_int_equal(strlen(dot), 3);
    char *end = NULL;
    double value = strtod(text, &end);
    assert_int_equal(*end, '\0');
    return value;
}

static void every_reply_tells_memory_and_time(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    static const struct {
        const char *method, *path;
        int status;
    } rows[] = {{"GET", "/api/v1/health", 200},
                {"GET", "/api/v1/users", 200},
                {"GET", "/api/v1/users/nobody", 404},
                {"PATCH", "/api/v1/users", 405},
                {"GET", "/nowhere", 404}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(ask(&c, rows[i].method, rows[i].path, "", ""), rows[i].status);
        assert_true(two_decimals(header(&c, "X-Memory-Usage-MB")) >= 0.0);
        (void)two_decimals(header(&c, "X-Memory-Delta-MB"));
        assert_true(two_decimals(header(&c, "X-Request-Duration-MS")) >= 0.0);
    }
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "", ""), 200);
    assert_int_equal(yyjson_get_uint(at(&c, "monitor.total_requests")), 5);
    stop(&c);
}

static void switched_off_it_says_and_counts_nothing(void **state) {
    (void)state;
    client c;
    const char *const sets[] = {"memory.monitor=false"};
    start(&c, sets, 1);
    assert_int_equal(ask(&c, "GET", "/api/v1/users", "", ""), 200);
    assert_null(header(&c, "X-Memory-Usage-MB"));
    assert_null(header(&c, "X-Memory-Delta-MB"));
    assert_null(header(&c, "X-Request-Duration-MS"));
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "", ""), 200);
    assert_int_equal(yyjson_get_uint(at(&c, "monitor.total_requests")), 0);
    assert_false(yyjson_get_bool(at(&c, "monitor.enabled")));
    stop(&c);
}

static void the_delta_is_what_a_request_left_allocated(void **state) {
    (void)state;
    client c;
    const char *const sets[] = {"memory.monitor_limit_mb=1"};
    start(&c, sets, 1);
    mf_memory_monitor monitor = {.records = NULL};
    assert_int_equal(mf_memory_monitor_init(&monitor, NULL), MF_OK);
    size_t before = mf_memory_monitor_begin();
    void *held = mf_alloc(3 * MB);
    mf_memory_record record = {.endpoint = "/x", .method = "GET", .duration_ms = 7};
    mf_memory_monitor_end(&monitor, mf_service_memory_guard(c.parts.service),
                          mf_settings_get(c.parts.settings), before, &record);
    assert_true(record.memory_delta_mb > 2.9 && record.memory_delta_mb < 3.5);
    assert_true(record.memory_mb > 3.0);
    assert_int_equal(record.request_count, 1);
    mf_free(held);
    mf_memory_monitor_done(&monitor);
    stop(&c);
}

static void the_last_50_requests_above_the_limit_are_recorded(void **state) {
    (void)state;
    client c;
    const char *const sets[] = {"memory.monitor_limit_mb=8"};
    start(&c, sets, 1);
    assert_int_equal(ask(&c, "GET", "/api/v1/users", "", ""), 200);
    void *held = mf_alloc(40 * MB);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(ask(&c, "GET", "/api/v1/users/nobody", "", ""), 404);
    }
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "", ""), 200);
    assert_true(yyjson_get_uint(at(&c, "monitor.high_memory_requests_count")) >= 60);
    assert_true(yyjson_get_real(at(&c, "monitor.memory_limit_mb")) == 8.0);
    assert_true(yyjson_get_real(at(&c, "monitor.memory_usage_percentage")) > 400.0);
    yyjson_val *recent = at(&c, "monitor.recent_high_memory_requests");
    assert_int_equal(yyjson_arr_size(recent), 5);
    yyjson_val *newest = yyjson_arr_get_first(recent);
    static const char *const keys[] = {"endpoint",        "method",      "memory_mb",
                                       "memory_delta_mb", "duration_ms", "timestamp",
                                       "request_count"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_non_null(yyjson_obj_get(newest, keys[i]));
    }
    assert_int_equal(yyjson_obj_size(newest), 7);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(newest, "endpoint")),
                        "/users/{user_id}");
    assert_int_equal(yyjson_get_uint(yyjson_obj_get(newest, "request_count")), 61);
    const char *size = "collections.high_memory_requests.current_size";
    assert_int_equal(yyjson_get_uint(at(&c, size)), 50);
    assert_int_equal(ask(&c, "POST", "/api/v1/admin/memory/reset", "", ""), 200);
    mf_free(held);
    check(&c);
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "", ""), 200);
    assert_true(yyjson_get_uint(at(&c, "monitor.total_requests")) <= 1);
    assert_true(yyjson_get_uint(at(&c, size)) <= 1);
    stop(&c);
}

static void all_statistics_are_there_by_their_names(void **state) {
    (void)state;
    static const char *const paths[] = {
        "budget.budget_mb",
        "budget.used_mb",
        "budget.allocated_mb",
        "budget.private_mb",
        "budget.resident_mb",
        "budget.model_allocated_mb",
        "budget.model_private_mb",
        "budget.refusing",
        "cleanup.running",
        "cleanup.current_memory_mb",
        "cleanup.memory_threshold_mb",
        "cleanup.memory_usage_percentage",
        "cleanup.cleanup_interval_seconds",
        "cleanup.total_cleanups",
        "cleanup.last_cleanup",
        "cleanup.memory_pressure",
        "monitor.current_memory_mb",
        "monitor.memory_limit_mb",
        "monitor.memory_usage_percentage",
        "monitor.total_requests",
        "monitor.high_memory_requests_count",
        "monitor.recent_high_memory_requests",
        "cache_stats.memory_usage_mb",
        "cache_stats.memory_limit_mb",
        "cache_stats.caches.sessions.size",
        "cache_stats.caches.sessions.max_size",
        "cache_stats.caches.sessions.hits",
        "cache_stats.caches.sessions.misses",
        "cache_stats.caches.sessions.hit_rate",
        "cache_stats.caches.sessions.ttl_seconds",
        "collections.requests.name",
        "collections.requests.current_size",
        "collections.requests.max_size",
        "collections.requests.total_items_added",
        "collections.requests.usage_percentage",
        "collections.errors.max_size",
        "collections.performance.max_size",
        "collections.agents.max_size",
    };
    client c;
    start(&c, NULL, 0);
    check(&c);
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "", ""), 200);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        (void)at(&c, paths[i]);
    }
    assert_true(yyjson_is_null(at(&c, "cleanup.last_cleanup")));
    assert_true(yyjson_get_bool(at(&c, "cleanup.running")));
    assert_int_equal(yyjson_get_int(at(&c, "cleanup.cleanup_interval_seconds")), 300);
    assert_int_equal(yyjson_get_int(at(&c, "collections.requests.max_size")), 1000);
    assert_int_equal(yyjson_get_int(at(&c, "collections.errors.max_size")), 500);
    assert_int_equal(yyjson_get_int(at(&c, "collections.performance.max_size")), 200);
    assert_true(yyjson_get_real(at(&c, "budget.budget_mb")) == 400.0);
    stop(&c);
}

static void a_forced_cleanup_reports_and_is_remembered(void **state) {
    (void)state;
    static const char *const keys[] = {
        "forced",          "memory_before_mb",  "memory_after_mb",
        "memory_freed_mb", "objects_collected", "duration_seconds",
        "cleanup_count"};
    client c;
    start(&c, NULL, 0);
    assert_int_equal(ask(&c, "POST", "/api/v1/admin/memory/cleanup", "", ""), 200);
    assert_int_equal(yyjson_obj_size(c.data), 7);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        (void)at(&c, keys[i]);
    }
    assert_true(yyjson_get_bool(at(&c, "forced")));
    assert_int_equal(yyjson_get_uint(at(&c, "cleanup_count")), 1);
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "recent=5", ""), 200);
    assert_int_equal(yyjson_get_uint(at(&c, "cleanup.total_cleanups")), 1);
    assert_true(yyjson_is_str(at(&c, "cleanup.last_cleanup")));
    yyjson_val *figure = yyjson_arr_get_first(at(&c, "recent.performance"));
    assert_string_equal(yyjson_get_str(yyjson_obj_get(figure, "metric_name")),
                        "memory_freed_mb");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(figure, "tags")), "forced");
    stop(&c);
}

static void requests_are_remembered_by_route_and_nothing_else(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    assert_int_equal(ask(&c, "GET", "/api/v1/users/very-secret", "", ""), 404);
    assert_int_equal(ask(&c, "GET", "/very-secret", "", ""), 404);
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "recent=10", ""), 200);
    assert_true(mf_str_find(c.reply.body, MF_STR("very-secret"), 0) == SIZE_MAX);
    yyjson_val *requests = at(&c, "recent.requests");
    assert_int_equal(yyjson_arr_size(requests), 2);
    yyjson_val *first = yyjson_arr_get(requests, 1);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(first, "endpoint")),
                        "/users/{user_id}");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(first, "method")), "GET");
    assert_int_equal(yyjson_get_int(yyjson_obj_get(first, "status_code")), 404);
    assert_non_null(yyjson_obj_get(first, "duration_ms"));
    assert_non_null(yyjson_obj_get(first, "timestamp"));
    yyjson_val *error = yyjson_arr_get(at(&c, "recent.errors"), 1);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(error, "error_type")),
                        "not_found");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(error, "endpoint")),
                        "/users/{user_id}");
    assert_non_null(yyjson_obj_get(error, "message"));
    static const char *const bad[] = {"recent=0", "recent=-1", "recent=1001",
                                      "recent=x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", bad[i], ""), 400);
    }
    stop(&c);
}

static void a_spent_budget_refuses_new_work_and_nothing_else(void **state) {
    (void)state;
    client c;
    const char *const sets[] = {"memory.budget_mb=64"};
    start(&c, sets, 1);
    const char *create = "{\"name\":\"ann\"}";
    void *held = mf_alloc_zero(1, 80 * MB);
    check(&c);
    static const struct {
        const char *method, *path;
    } refused[] = {{"POST", "/api/v1/users"},
                   {"GET", "/api/v1/users"},
                   {"POST", "/api/v1/users/u/query"},
                   {"POST", "/api/v1/sessions/s/messages"}};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(ask(&c, refused[i].method, refused[i].path, "", create), 503);
        assert_string_equal(header(&c, "Retry-After"), "1");
        assert_true(mf_str_find(c.reply.body, MF_STR("memory.budget_mb"), 0) !=
                    SIZE_MAX);
    }
    assert_int_equal(ask(&c, "GET", "/api/v1/health", "", ""), 200);
    assert_int_equal(ask(&c, "DELETE", "/api/v1/users/u", "", ""), 404);
    assert_int_equal(ask(&c, "POST", "/api/v1/users/u/flush", "", ""), 404);
    assert_int_equal(ask(&c, "GET", "/api/v1/status", "", ""), 200);
    assert_int_equal(ask(&c, "GET", "/api/v1/admin/memory", "", ""), 200);
    assert_true(yyjson_get_bool(at(&c, "budget.refusing")));
    assert_int_equal(yyjson_get_uint(at(&c, "budget.refused")), 4);
    assert_true(yyjson_get_real(at(&c, "budget.used_mb")) >= 80.0);
    mf_free(held);
    check(&c);
    assert_int_equal(ask(&c, "POST", "/api/v1/users", "", create), 201);
    stop(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reply_tells_memory_and_time),
        cmocka_unit_test(switched_off_it_says_and_counts_nothing),
        cmocka_unit_test(the_delta_is_what_a_request_left_allocated),
        cmocka_unit_test(the_last_50_requests_above_the_limit_are_recorded),
        cmocka_unit_test(all_statistics_are_there_by_their_names),
        cmocka_unit_test(a_forced_cleanup_reports_and_is_remembered),
        cmocka_unit_test(requests_are_remembered_by_route_and_nothing_else),
        cmocka_unit_test(a_spent_budget_refuses_new_work_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
