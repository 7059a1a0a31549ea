/* router_test.c - paths and methods find their route, and the documents follow the
 * table. */
#include "http/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "http/openapi.h"
#include "text/json.h"

static int open_arena(void **state) {
    mf_arena *arena = NULL;
    if (mf_arena_new(8 << 20, &arena, NULL) != MF_OK) {
        return -1;
    }
    *state = arena;
    return 0;
}

static int close_arena(void **state) {
    mf_arena_free(*state);
    return 0;
}

static mf_match match(void **state, const char *method, const char *path) {
    mf_match out;
    assert_true(mf_route_match(mf_str_from(method), mf_str_from(path), *state, &out));
    return out;
}

static void known_paths_find_their_pattern(void **state) {
    static const struct {
        const char *method, *path, *pattern, *first, *second;
    } rows[] = {
        {"GET", "/api/v1/health", "/health", "", ""},
        {"GET", "/api/v1/health/", "/health", "", ""},
        {"HEAD", "/api/v1/users", "/users", "", ""},
        {"GET", "/api/v1/users/abc", "/users/{user_id}", "abc", ""},
        {"GET", "/api/v1/users/a%2Fb/", "/users/{user_id}", "a/b", ""},
        {"DELETE", "/api/v1/users/u/api-keys/k", "/users/{user_id}/api-keys/{key_id}",
         "u", "k"},
        {"POST", "/api/v1/users/u/query/", "/users/{user_id}/query", "u", ""},
        {"PUT", "/api/v1/sessions/s/messages", "/sessions/{session_id}/messages", "s",
         ""},
        {"POST", "/api/v1/sessions/s/messages/read",
         "/sessions/{session_id}/messages/read", "s", ""},
        {"GET", "/api/v1/chunks/stats", "/chunks/stats", "", ""},
        {"GET", "/docs", "/docs", "", ""},
        {"GET", "/api/v1/docs", "/docs", "", ""},
        {"GET", "/openapi.json", "/openapi.json", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_match m = match(state, rows[i].method, rows[i].path);
        assert_non_null(m.route);
        assert_string_equal(m.route->pattern, rows[i].pattern);
        assert_true(mf_str_eq(m.params[0], mf_str_from(rows[i].first)));
        assert_true(mf_str_eq(m.params[1], mf_str_from(rows[i].second)));
    }
}

static void other_paths_find_nothing(void **state) {
    static const char *const rows[] = {
        "",
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1//",
        "/users",
        "/health",
        "/api/v1/users//",
        "/api/v2/users",
        "/api/v1/Users",
        "/api/v1/users/u/nope",
        "/api/v1/users//query",
        "/api/v1/a/b/c/d/e/f/g/h",
        "users",
        "/api/v1x/users",
        "/api/v1/users/../users",
        "/api/v1/%75sers",
        "*",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_match m = match(state, "GET", rows[i]);
        if (m.route != NULL || m.allow[0] != '\0') {
            fail_msg("'%s' was found", rows[i]);
        }
    }
}

static void a_wrong_method_is_told_the_right_ones(void **state) {
    mf_match m = match(state, "PATCH", "/api/v1/users");
    assert_null(m.route);
    assert_string_equal(m.allow, "GET, HEAD, POST, OPTIONS");
    m = match(state, "GET", "/api/v1/users/u/query");
    assert_null(m.route);
    assert_string_equal(m.allow, "POST, OPTIONS");
    m = match(state, "get", "/api/v1/users");
    assert_null(m.route);
    m = match(state, "POST", "/api/v1/sessions/s/messages");
    assert_string_equal(m.allow, "GET, HEAD, POST, PUT, DELETE, OPTIONS");
}

static void every_reference_points_to_a_schema(yyjson_val *value, yyjson_val *root) {
    size_t at;
    size_t max;
    yyjson_val *key;
    yyjson_val *child;
    if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, at, max, child) {
            every_reference_points_to_a_schema(child, root);
        }
    }
    if (yyjson_is_obj(value)) {
        yyjson_obj_foreach(value, at, max, key, child) {
            if (yyjson_equals_str(key, "$ref")) {
                const char *pointer = yyjson_get_str(child);
                assert_non_null(pointer);
                assert_int_equal(pointer[0], '#');
                if (yyjson_ptr_get(root, pointer + 1) == NULL) {
                    fail_msg("%s does not exist", pointer);
                }
            } else {
                every_reference_points_to_a_schema(child, root);
            }
        }
    }
}

static void the_description_is_json_and_complete(void **state) {
    mf_str text = MF_STR_NONE;
    yyjson_doc *doc = NULL;
    mf_err err = {0};
    assert_int_equal(mf_openapi_build(&text, NULL), MF_OK);
    if (mf_json_parse(text, *state, &doc, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "openapi")), "3.1.0");
    yyjson_val *paths = yyjson_obj_get(root, "paths");
    size_t operations = 0;
    size_t at;
    size_t max;
    yyjson_val *key;
    yyjson_val *path;
    yyjson_obj_foreach(paths, at, max, key, path) {
        operations += yyjson_obj_size(path);
    }
    assert_int_equal(operations, mf_route_count);
    every_reference_points_to_a_schema(root, root);
    mf_openapi_free(&text);
}

/* Every parameter a route names is described: none gets lost by a misspelling. */
static void every_query_parameter_is_described(void **state) {
    mf_str text = MF_STR_NONE;
    yyjson_doc *doc = NULL;
    assert_int_equal(mf_openapi_build(&text, NULL), MF_OK);
    assert_int_equal(mf_json_parse(text, *state, &doc, NULL), MF_OK);
    yyjson_val *paths = yyjson_obj_get(yyjson_doc_get_root(doc), "paths");
    for (size_t i = 0; i < mf_route_count; i++) {
        const mf_route *route = &mf_routes[i];
        char path[128];
        (void)snprintf(path, sizeof path, "/api/v1%s", route->pattern);
        size_t at;
        size_t max;
        yyjson_val *key;
        yyjson_val *operation;
        yyjson_obj_foreach(yyjson_obj_get(paths, path), at, max, key, operation) {
            mf_str method = {yyjson_get_str(key), yyjson_get_len(key)};
            if (!mf_str_eq_ignore_case(method, mf_str_from(route->method))) {
                continue;
            }
            size_t wanted = 0;
            for (const char *p = route->pattern; *p != '\0'; p++) {
                wanted += *p == '{';
            }
            mf_str rest = mf_str_from(route->parameters);
            while (rest.len > 0) {
                (void)mf_str_split(&rest, ' ');
                wanted++;
            }
            assert_int_equal(yyjson_arr_size(yyjson_obj_get(operation, "parameters")),
                             wanted);
        }
    }
    mf_openapi_free(&text);
}

static void the_reference_page_shows_this_very_table(void **state) {
    (void)state;
    mf_buf table;
    mf_buf_init(&table, 1 << 20);
    mf_routes_markdown(&table);
    assert_int_equal(table.failed, MF_OK);
    FILE *file = fopen(MF_TEST_DATA_DIR "/../../docs/http-api.md", "rb");
    assert_non_null(file);
    mf_buf page;
    mf_buf_init(&page, 1 << 20);
    char bytes[4096];
    size_t n;
    while ((n = fread(bytes, 1, sizeof bytes, file)) > 0) {
        (void)mf_buf_add(&page, bytes, n);
    }
    assert_int_equal(fclose(file), 0);
    if (mf_str_find(mf_buf_view(&page), mf_buf_view(&table), 0) == SIZE_MAX) {
        fail_msg("docs/http-api.md lacks this table:\n%s", table.p);
    }
    mf_buf_done(&page);
    mf_buf_done(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_paths_find_their_pattern),
        cmocka_unit_test(other_paths_find_nothing),
        cmocka_unit_test(a_wrong_method_is_told_the_right_ones),
        cmocka_unit_test(the_description_is_json_and_complete),
        cmocka_unit_test(every_query_parameter_is_described),
        cmocka_unit_test(the_reference_page_shows_this_very_table),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
