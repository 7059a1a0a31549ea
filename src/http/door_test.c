/* door_test.c - every route says what the API promises, without a socket in between. */
#include "http/door.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "http/door_testing.h"
#include "store/memory/memory_store.h"
#include "text/json.h"

/* --- asking --- */

typedef struct client {
    mf_testing parts;
    mf_arena *arena; /* of the request in hand and its reply */
    mf_mutex answer_mu;
    mf_cond answered;
    bool done; /* guarded by answer_mu */
    mf_http_reply reply;
    yyjson_val *root;      /* of the reply's body; NULL when it is no JSON */
    mf_http_request extra; /* headers and such for the following requests */
} client;

static void start(client *c, const char *const *sets, size_t count) {
    mf_err err = {0};
    *c = (client){0};
    mf_store *store = NULL;
    if (mf_memory_store_open(&store, &err) != MF_OK ||
        mf_testing_open(&c->parts, store, sets, count, &err) != MF_OK ||
        mf_arena_new(256 << 20, &c->arena, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    mf_mutex_init(&c->answer_mu, MF_RANK_LEAF);
    mf_cond_init(&c->answered);
}

static void stop(client *c) {
    mf_arena_free(c->arena);
    mf_cond_done(&c->answered);
    mf_mutex_done(&c->answer_mu);
    mf_testing_close(&c->parts);
    assert_int_equal(mf_alloc_live(), 0);
}

static void answer(void *ctx, const mf_http_reply *reply) {
    client *c = ctx;
    mf_mutex_lock(&c->answer_mu);
    assert_false(c->done); /* once, not more */
    c->reply = *reply;
    c->done = true;
    mf_cond_signal(&c->answered);
    mf_mutex_unlock(&c->answer_mu);
}

static const mf_str *header(const client *c, const char *name) {
    for (size_t i = 0; i < c->reply.header_count; i++) {
        if (strcmp(c->reply.headers[i].name, name) == 0) {
            return &c->reply.headers[i].value;
        }
    }
    return NULL;
}

/* The five keys, in agreement with the status; `detail` only where it belongs. */
static void check_envelope(const client *c) {
    static const char *const keys[] = {"status", "code", "data", "message", "errors"};
    yyjson_val *root = c->root;
    int status = c->reply.status;
    bool good = status < 400;
    for (size_t i = 0; i < 5; i++) {
        assert_non_null(yyjson_obj_get(root, keys[i]));
    }
    bool has_detail = yyjson_obj_get(root, "detail") != NULL;
    assert_int_equal(yyjson_obj_size(root), has_detail ? 6 : 5);
    assert_int_equal(yyjson_get_int(yyjson_obj_get(root, "code")), status);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "status")),
                        good ? "success" : "error");
    assert_true(yyjson_is_str(yyjson_obj_get(root, "message")));
    yyjson_val *errors = yyjson_obj_get(root, "errors");
    if (good) {
        assert_true(yyjson_is_obj(yyjson_obj_get(root, "data")));
        assert_true(yyjson_is_null(errors));
        assert_false(has_detail);
        return;
    }
    assert_true(yyjson_is_null(yyjson_obj_get(root, "data")));
    assert_true(yyjson_arr_size(errors) >= 1);
    size_t at;
    size_t max;
    yyjson_val *item;
    yyjson_arr_foreach(errors, at, max, item) {
        assert_int_equal(yyjson_obj_size(item), 2);
        assert_true(yyjson_get_len(yyjson_obj_get(item, "field")) > 0);
        assert_true(yyjson_get_len(yyjson_obj_get(item, "message")) > 0);
    }
    assert_int_equal(yyjson_is_arr(yyjson_obj_get(root, "detail")), status == 422);
}

/* `target` is a path with an optional query, below /api/v1. */
static int ask_bytes(client *c, const char *method, const char *target, mf_str body) {
    char path[2048];
    mf_arena_reset(c->arena);
    (void)snprintf(path, sizeof path, "/api/v1%s", target);
    mf_str rest = mf_arena_str(c->arena, mf_str_from(path));
    mf_http_request request = c->extra;
    request.method = mf_str_from(method);
    request.path = mf_str_split(&rest, '?');
    request.query = rest;
    request.body = body;
    request.deadline_ns = mf_deadline_in_ms(60000);
    request.arena = c->arena;
    c->done = false;
    c->root = NULL;
    mf_door_handle(c->parts.door, &request, answer, c);
    mf_mutex_lock(&c->answer_mu);
    while (!c->done) {
        assert_true(
            mf_cond_wait(&c->answered, &c->answer_mu, mf_deadline_in_ms(60000)));
    }
    mf_mutex_unlock(&c->answer_mu);
    if (strcmp(c->reply.content_type, "application/json") == 0 &&
        c->reply.body.len > 0) {
        yyjson_doc *doc = NULL;
        assert_int_equal(mf_json_parse(c->reply.body, c->arena, &doc, NULL), MF_OK);
        c->root = yyjson_doc_get_root(doc);
    }
    return c->reply.status;
}

static int ask(client *c, const char *method, const char *target, const char *body) {
    int status = ask_bytes(c, method, target, mf_str_from(body));
    if (c->root != NULL) {
        check_envelope(c);
    }
    return status;
}

/* A path of keys and indexes into the reply: "data.users.0.id". */
static yyjson_val *at(const client *c, const char *path) {
    yyjson_val *value = c->root;
    mf_str rest = mf_str_from(path);
    while (rest.len > 0) {
        mf_str part = mf_str_split(&rest, '.');
        int64_t index;
        value = mf_str_to_i64(part, &index) ? yyjson_arr_get(value, (size_t)index)
                                            : yyjson_obj_getn(value, part.p, part.len);
    }
    return value;
}

static const char *text_at(const client *c, const char *path) {
    const char *text = yyjson_get_str(at(c, path));
    if (text == NULL) {
        fail_msg("no text at %s in %.*s", path, MF_STR_ARGS(c->reply.body));
    }
    return text;
}

static void keep(const client *c, const char *path, char out[64]) {
    (void)snprintf(out, 64, "%s", text_at(c, path));
}

static void assert_keys(yyjson_val *object, const char *names) {
    mf_str rest = mf_str_from(names);
    size_t count = 0;
    while (rest.len > 0) {
        mf_str name = mf_str_split(&rest, ' ');
        if (yyjson_obj_getn(object, name.p, name.len) == NULL) {
            fail_msg("the key %.*s is missing", MF_STR_ARGS(name));
        }
        count++;
    }
    assert_int_equal(yyjson_obj_size(object), count);
}

/* A user, an agent and a session of theirs. */
typedef struct world {
    char user[64], agent[64], session[64];
} world;

static void make_user(client *c, const char *name, char id[64]) {
    char body[256];
    (void)snprintf(body, sizeof body, "{\"name\":\"%s\"}", name);
    assert_int_equal(ask(c, "POST", "/users", body), 201);
    keep(c, "data.user.id", id);
}

static void make_session(client *c, world *w, const char *name) {
    char body[512];
    (void)snprintf(body, sizeof body,
                   "{\"user_id\":\"%s\",\"agent_id\":\"%s\",\"name\":\"%s\"}", w->user,
                   w->agent, name);
    assert_int_equal(ask(c, "POST", "/sessions", body), 201);
    keep(c, "data.session.id", w->session);
}

static void make_world(client *c, world *w) {
    make_user(c, "alice", w->user);
    assert_int_equal(ask(c, "POST", "/agents", "{\"name\":\"agent_default\"}"), 201);
    keep(c, "data.agent.id", w->agent);
    make_session(c, w, "trip");
}

static const char *path_of(const char *fmt, const char *id) {
    static char path[512];
    (void)snprintf(path, sizeof path, fmt, id);
    return path;
}

/* --- the general part --- */

static void health_is_small_and_tells_no_secrets(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    assert_int_equal(ask(&c, "GET", "/health", ""), 200);
    assert_true(c.reply.body.len < 300);
    assert_keys(at(&c, "data"), "status config version");
    assert_int_equal(yyjson_obj_size(at(&c, "data.config")), 0);
    assert_string_equal(text_at(&c, "data.version"), MF_VERSION);
    assert_string_equal(text_at(&c, "message"), "Server is healthy");
    assert_int_equal(ask(&c, "GET", "/health/", ""), 200);
    mf_http_request r = {.method = MF_STR("GET"), .path = MF_STR("/api/v1/health/")};
    assert_true(mf_door_is_instant(c.parts.door, &r));
    r.path = MF_STR("/api/v1/users");
    assert_false(mf_door_is_instant(c.parts.door, &r));
    stop(&c);
}

static void unknown_paths_and_methods_get_the_envelope_with_detail(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    assert_int_equal(ask(&c, "GET", "/nope", ""), 404);
    assert_string_equal(text_at(&c, "detail"), "Not Found");
    assert_int_equal(ask(&c, "PATCH", "/users", "{}"), 405);
    assert_string_equal(text_at(&c, "detail"), "Method Not Allowed");
    assert_true(mf_str_eq(*header(&c, "Allow"), MF_STR("GET, HEAD, POST, OPTIONS")));
    assert_int_equal(ask(&c, "HEAD", "/users", ""), 200);
    assert_int_equal(ask(&c, "GET", "/users/%ff", ""), 400);
    assert_int_equal(ask(&c, "GET", "/users/a%00b", ""), 400);
    stop(&c);
}

/* One row: what is asked, and the status, field and kind of its refusal. */
typedef struct refusal {
    const char *method, *target, *body;
    int status;
    const char *field, *kind; /* kind NULL: no detail list */
} refusal;

static void bodies_are_checked_before_anything_is_done(void **state) {
    (void)state;
    static const refusal rows[] = {
        {"POST", "/users", "", 422, "body", "missing"},
        {"POST", "/users", "nonsense", 422, "body", "json_invalid"},
        {"POST", "/users", "{\"name\":\"x\"", 422, "body", "json_invalid"},
        {"POST", "/users", "[]", 422, "body", "object_type"},
        {"POST", "/users", "{\"name\":\"a\",\"name\":\"b\"}", 422, "body",
         "json_invalid"},
        {"POST", "/users", "{\"name\":\"\xff\"}", 422, "body", "json_invalid"},
        {"POST", "/users", "{\"name\":\"\\ud800\"}", 422, "body", "json_invalid"},
        {"POST", "/users", "{\"name\":\"a\\u0000b\"}", 422, "name", "string_type"},
        {"POST", "/users", "{}", 422, "name", "missing"},
        {"POST", "/users", "{\"name\":null}", 422, "name", "string_type"},
        {"POST", "/users", "{\"name\":\"\"}", 422, "name", "string_too_short"},
        {"POST", "/users", "{\"name\":5}", 422, "name", "string_type"},
        {"POST", "/users", "{\"name\":\"x\",\"description\":1}", 422, "description",
         "string_type"},
        {"PUT", "/users/u", "{\"name\":\"\"}", 422, "name", "string_too_short"},
        {"POST", "/agents", "{}", 422, "name", "missing"},
        {"POST", "/sessions", "{}", 422, "user_id", "missing"},
        {"POST", "/sessions", "{\"user_id\":\"u\"}", 422, "agent_id", "missing"},
        {"POST", "/sessions", "{\"user_id\":\"u\",\"agent_id\":\"a\",\"name\":\"\"}",
         422, "name", "string_too_short"},
        {"POST", "/sessions", "{\"user_id\":\"u\",\"agent_id\":\"a\"}", 404, "user_id",
         NULL},
        {"POST", "/sessions/s/messages", "{}", 422, "messages", "missing"},
        {"POST", "/sessions/s/messages", "{\"messages\":{}}", 422, "messages",
         "list_type"},
        {"POST", "/sessions/s/messages", "{\"messages\":[1]}", 422, "messages.0",
         "object_type"},
        {"POST", "/sessions/s/messages", "{\"messages\":[{\"content\":\"x\"}]}", 422,
         "messages.0.role", "missing"},
        {"POST", "/sessions/s/messages",
         "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", 422,
         "messages.0.role", "enum"},
        {"POST", "/sessions/s/messages", "{\"messages\":[{\"role\":\"user\"}]}", 422,
         "messages.0.content", "missing"},
        {"POST", "/sessions/s/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", 422,
         "messages.0.content", "string_type"},
        {"POST", "/sessions/s/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}", 422,
         "messages.0.content", "string_too_short"},
        {"POST", "/sessions/s/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
         "\"x\"}]}]}",
         422, "messages.0.content", "string_type"},
        {"POST", "/sessions/s/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"metadata\":[]}]}", 422,
         "messages.0.metadata", "object_type"},
        {"POST", "/sessions/s/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 404, "session_id",
         NULL},
        {"POST", "/sessions/s/messages/read", "{\"message_ids\":[1]}", 422,
         "message_ids.0", "string_type"},
        {"PUT", "/sessions/s/messages", "{\"message_ids\":[\"x\"],\"new_messages\":[]}",
         400, "new_messages", NULL},
        {"DELETE", "/sessions/s/messages", "", 422, "body", "missing"},
        {"GET", "/sessions/s/messages?limit=", "", 400, "limit", NULL},
        {"GET", "/sessions/s/messages?limit=x", "", 400, "limit", NULL},
        {"GET", "/sessions/s/messages?limit=0", "", 400, "limit", NULL},
        {"GET", "/sessions/s/messages?limit=-1&sort_by=x", "", 400, "limit", NULL},
        {"GET", "/sessions/s/messages?sort_by=x&order=x", "", 400, "sort_by", NULL},
        {"GET", "/sessions/s/messages?order=DESC&buffer_only=x", "", 400, "order",
         NULL},
        {"GET", "/sessions/s/messages?buffer_only=", "", 400, "buffer_only", NULL},
        {"GET", "/sessions/s/messages?limit=500", "", 404, "session_id", NULL},
        {"GET", "/sessions/s/messages?limit=99999999999999999999", "", 404,
         "session_id", NULL},
        {"POST", "/users/u/query", "{}", 422, "query", "missing"},
        {"POST", "/users/u/query", "{\"query\":5}", 422, "query", "string_type"},
        {"POST", "/users/u/query", "{\"query\":\"\",\"top_k\":\"x\"}", 422, "top_k",
         "int_parsing"},
        {"POST", "/users/u/query", "{\"query\":\"\",\"store_type\":\"hybrid\"}", 422,
         "store_type", "enum"},
        {"POST", "/users/u/query", "{\"query\":\"\",\"store_type\":7}", 422,
         "store_type", "enum"},
        {"POST", "/users/u/query", "{\"query\":\"\",\"include_messages\":\"x\"}", 422,
         "include_messages", "bool_parsing"},
        {"POST", "/users/u/query", "{\"query\":\"\"}", 404, "user_id", NULL},
        {"POST", "/users/u/knowledge", "{\"knowledge\":[null]}", 422, "knowledge.0",
         "string_type"},
        {"PUT", "/users/u/knowledge",
         "{\"knowledge_ids\":[\"a\"],\"new_knowledge\":[]}", 400, "new_knowledge",
         NULL},
        {"POST", "/users/u/api-keys", "{\"user_id\":\"v\"}", 422, "user_id",
         "value_error"},
        {"POST", "/users/u/api-keys", "{\"key\":\"mine\"}", 400, "key", NULL},
        {"POST", "/users/u/api-keys", "{\"expires_at\":\"soon\"}", 422, "expires_at",
         "datetime_parsing"},
        {"POST", "/users/u/api-keys", "", 404, "user_id", NULL},
        {"GET", "/chunks/stats", "", 422, "user_id", "missing"},
        {"GET", "/sessions/s/chunks?store_type=x", "", 400, "store_type", NULL},
        {"GET", "/users?name=%ff", "", 400, "name", NULL},
        {"POST", "/users/u/flush?timeout_ms=x", "", 400, "timeout_ms", NULL},
    };
    client c;
    start(&c, NULL, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int status = ask(&c, rows[i].method, rows[i].target, rows[i].body);
        if (status != rows[i].status ||
            strcmp(text_at(&c, "errors.0.field"), rows[i].field) != 0) {
            fail_msg("%s %s %s: %d %.*s", rows[i].method, rows[i].target, rows[i].body,
                     status, MF_STR_ARGS(c.reply.body));
        }
        if (rows[i].kind != NULL) {
            assert_string_equal(text_at(&c, "detail.0.type"), rows[i].kind);
            assert_keys(at(&c, "detail.0"), "loc msg type");
        }
    }
    assert_int_equal(
        ask(&c, "POST", "/sessions/s/messages",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":1}]}"),
        422);
    assert_string_equal(text_at(&c, "detail.0.loc.0"), "body");
    assert_string_equal(text_at(&c, "detail.0.loc.1"), "messages");
    assert_int_equal(yyjson_get_int(at(&c, "detail.0.loc.2")), 1);
    assert_string_equal(text_at(&c, "detail.0.loc.3"), "role");
    stop(&c);
}

static void foreign_hosts_origins_and_forms_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *host, *origin, *type;
        int status;
    } rows[] = {
        {"localhost:8000", "", "application/json", 201},
        {"LOCALHOST", "", "application/json; charset=utf-8", 201},
        {"localhost.", "", "", 201},
        {"127.0.0.1:8000", "", "application/octet-stream", 201},
        {"127.8.9.1", "", "", 201},
        {"[::1]:8000", "", "", 201},
        {"", "", "", 201},
        {"evil.example", "", "", 403},
        {"localhost.evil.example", "", "", 403},
        {"2130706433", "", "", 403},
        {"10.0.0.1:8000", "", "", 403},
        {"[::2]", "", "", 403},
        {"[::1", "", "", 403},
        {"localhost:8000", "http://localhost:8000", "", 201},
        {"localhost:8000", "https://app.example", "", 201},
        {"localhost:8000", "http://localhost:3000", "", 403},
        {"localhost:8000", "http://evil.example", "", 403},
        {"localhost:8000", "null", "", 403},
        {"localhost", "", "application/x-www-form-urlencoded", 415},
        {"localhost", "", "Text/Plain;charset=utf-8", 415},
        {"localhost", "", "multipart/form-data; boundary=x", 415},
    };
    static const char *const sets[] = {
        "server.cors_origins=https://other.example, https://app.example"};
    client c;
    start(&c, sets, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[64];
        (void)snprintf(body, sizeof body, "{\"name\":\"user %zu\"}", i);
        c.extra = (mf_http_request){.host = mf_str_from(rows[i].host),
                                    .origin = mf_str_from(rows[i].origin),
                                    .content_type = mf_str_from(rows[i].type)};
        int status = ask(&c, "POST", "/users", body);
        if (status != rows[i].status) {
            fail_msg("row %zu: %d", i, status);
        }
    }
    c.extra = (mf_http_request){.host = MF_STR("evil.example"), .trusted = true};
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    stop(&c);
}

static void names_the_server_listens_on_are_its_own(void **state) {
    (void)state;
    static const char *const sets[] = {"server.listen=127.0.0.1:0, memory.local:8000"};
    client c;
    start(&c, sets, 1);
    c.extra.host = MF_STR("Memory.Local:8000");
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    c.extra.host = MF_STR("other.local:8000");
    assert_int_equal(ask(&c, "GET", "/users", ""), 403);
    stop(&c);
}

static void browsers_of_listed_origins_get_what_they_need(void **state) {
    (void)state;
    static const char *const sets[] = {"server.cors_origins=https://app.example"};
    client c;
    start(&c, sets, 1);
    c.extra.host = MF_STR("localhost");
    c.extra.origin = MF_STR("https://app.example");
    assert_int_equal(ask(&c, "OPTIONS", "/users", ""), 204);
    assert_true(mf_str_eq(*header(&c, "Access-Control-Allow-Origin"), c.extra.origin));
    assert_true(mf_str_eq(*header(&c, "Access-Control-Allow-Methods"),
                          MF_STR("GET, HEAD, POST, OPTIONS")));
    assert_true(mf_str_eq(*header(&c, "Access-Control-Max-Age"), MF_STR("600")));
    assert_null(header(&c, "Access-Control-Allow-Credentials"));
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_true(mf_str_eq(*header(&c, "Vary"), MF_STR("Origin")));
    c.extra.origin = MF_STR("https://evil.example");
    assert_int_equal(ask(&c, "OPTIONS", "/users", ""), 403);
    assert_int_equal(ask(&c, "GET", "/health", ""), 403);
    c.extra.origin = MF_STR("");
    assert_int_equal(ask(&c, "OPTIONS", "/users", ""), 204);
    assert_null(header(&c, "Access-Control-Allow-Origin"));
    stop(&c);
}

static void one_address_over_its_rate_waits_and_others_do_not(void **state) {
    (void)state;
    static const char *const sets[] = {"server.rate_limit_per_minute=3"};
    client c;
    start(&c, sets, 1);
    c.extra.peer = MF_STR("10.0.0.1");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    }
    assert_int_equal(ask(&c, "GET", "/users", ""), 429);
    assert_string_equal(text_at(&c, "message"), "Rate limit exceeded");
    int64_t seconds = 0;
    assert_true(mf_str_to_i64(*header(&c, "Retry-After"), &seconds));
    assert_true(seconds >= 1 && seconds <= 20);
    assert_int_equal(ask(&c, "GET", "/health", ""), 200);
    c.extra.peer = MF_STR("10.0.0.2");
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    stop(&c);
}

static void a_draining_door_refuses_all_but_health(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    mf_door_drain(c.parts.door);
    assert_int_equal(ask(&c, "GET", "/users", ""), 503);
    assert_true(mf_str_eq(*header(&c, "Retry-After"), MF_STR("1")));
    assert_int_equal(ask(&c, "GET", "/health", ""), 200);
    stop(&c);
}

static void the_description_and_its_page_are_served(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    assert_int_equal(ask_bytes(&c, "GET", "/openapi.json", MF_STR("")), 200);
    assert_string_equal(text_at(&c, "openapi"), "3.1.0");
    assert_int_equal(ask_bytes(&c, "GET", "/docs", MF_STR("")), 200);
    assert_non_null(header(&c, "Content-Security-Policy"));
    assert_true(mf_str_starts(c.reply.body, MF_STR("<!doctype html>")));
    assert_int_equal(mf_str_find(c.reply.body, MF_STR("http://"), 0), SIZE_MAX);
    assert_int_equal(mf_str_find(c.reply.body, MF_STR("https://"), 0), SIZE_MAX);
    stop(&c);
}

/* --- users, agents, sessions --- */

static void names_of_all_kinds_are_found_again(void **state) {
    (void)state;
    static const struct {
        const char *json,
            *query; /* the name in a body, and as clients put it into a URL */
    } rows[] = {
        {"Jane Doe", "Jane%20Doe"},
        {"Jane  Doe", "Jane++Doe"},
        {"a+b", "a+b"},
        {"c+d", "c%2Bd"},
        {"a&b", "a&b"},
        {"a&b=c&d", "a&b=c&d"},
        {"100%", "100%25"},
        {"50%", "50%"},
        {"a/b?c", "a/b?c"},
        {"Zo\xc3\xab", "Zo%C3%AB"},
        {"\xe6\x9e\x97", "\xe6\x9e\x97"},
        {"\\ud83d\\ude00", "%F0%9F%98%80"},
        {" ", "%20"},
        {"p+q&r s", "p+q&r%20s"},
        {"Tom & Jerry", "Tom+&+Jerry"},
    };
    client c;
    start(&c, NULL, 0);
    static const char *const kinds[] = {"user", "agent"};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            char id[64];
            char body[256];
            char target[256];
            char member[64];
            (void)snprintf(target, sizeof target, "/%ss", kinds[k]);
            (void)snprintf(body, sizeof body, "{\"name\":\"%s\"}", rows[i].json);
            assert_int_equal(ask(&c, "POST", target, body), 201);
            (void)snprintf(member, sizeof member, "data.%s.id", kinds[k]);
            keep(&c, member, id);
            (void)snprintf(target, sizeof target, "/%ss?name=%s", kinds[k],
                           rows[i].query);
            assert_int_equal(ask(&c, "GET", target, ""), 200);
            (void)snprintf(member, sizeof member, "data.%ss", kinds[k]);
            assert_int_equal(yyjson_arr_size(at(&c, member)), 1);
            (void)snprintf(member, sizeof member, "data.%ss.0.id", kinds[k]);
            assert_string_equal(text_at(&c, member), id);
            (void)snprintf(target, sizeof target, "/%ss", kinds[k]);
            assert_int_equal(ask(&c, "POST", target, body), 400);
            assert_non_null(strstr(text_at(&c, "message"), "already exists"));
            assert_string_equal(text_at(&c, "errors.0.field"), "name");
        }
    }
    stop(&c);
}

static void users_live_and_die(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.users")), 0);
    assert_int_equal(ask(&c, "GET", "/users?name=alice", ""), 404);
    assert_string_equal(text_at(&c, "message"), "User with name 'alice' not found");
    assert_string_equal(text_at(&c, "errors.0.field"), "name");
    assert_int_equal(ask(&c, "GET", "/users?name=", ""), 200);
    char id[64];
    char other[64];
    make_user(&c, "alice", id);
    make_user(&c, "bob", other);
    const char *path = path_of("/users/%s", id);
    assert_int_equal(ask(&c, "GET", path, ""), 200);
    assert_keys(at(&c, "data"), "user");
    assert_keys(at(&c, "data.user"), "id name description created_at updated_at");
    assert_int_equal(ask(&c, "PUT", path, "{\"name\":null,\"description\":\"d\"}"),
                     200);
    assert_string_equal(text_at(&c, "data.user.name"), "alice");
    assert_string_equal(text_at(&c, "data.user.description"), "d");
    assert_int_equal(ask(&c, "PUT", path, "{\"name\":\"bob\"}"), 400);
    assert_int_equal(ask(&c, "PUT", path, "{\"name\":\"carol\",\"description\":null}"),
                     200);
    assert_string_equal(text_at(&c, "data.user.description"), "d");
    assert_int_equal(ask(&c, "DELETE", path, ""), 200);
    assert_string_equal(text_at(&c, "data.user_id"), id);
    assert_int_equal(ask(&c, "DELETE", path, ""), 404);
    assert_string_equal(text_at(&c, "errors.0.field"), "user_id");
    assert_int_equal(ask(&c, "GET", "/users/not-an-id", ""), 404);
    assert_string_equal(text_at(&c, "message"), "User with ID 'not-an-id' not found");
    stop(&c);
}

static void sessions_live_and_die(void **state) {
    (void)state;
    client c;
    world w;
    char body[512];
    char target[512];
    start(&c, NULL, 0);
    make_world(&c, &w);
    (void)snprintf(body, sizeof body,
                   "{\"user_id\":\"%s\",\"agent_id\":\"%s\",\"name\":null}", w.user,
                   w.agent);
    assert_int_equal(ask(&c, "POST", "/sessions", body), 201);
    assert_keys(at(&c, "data.session"),
                "id user_id agent_id name created_at updated_at");
    assert_true(strncmp(text_at(&c, "data.session.name"), "alice-agent_default-", 20) ==
                0);
    (void)snprintf(body, sizeof body,
                   "{\"user_id\":\"%s\",\"agent_id\":\"%s\",\"name\":\"trip\"}", w.user,
                   w.agent);
    assert_int_equal(ask(&c, "POST", "/sessions", body), 400);
    assert_string_equal(text_at(&c, "message"),
                        "Session with name 'trip' already exists for this user");
    (void)snprintf(target, sizeof target, "/sessions?name=trip&user_id=%s", w.user);
    assert_int_equal(ask(&c, "GET", target, ""), 200);
    assert_string_equal(text_at(&c, "data.sessions.0.id"), w.session);
    (void)snprintf(target, sizeof target, "/sessions?name=nope&user_id=%s", w.user);
    assert_int_equal(ask(&c, "GET", target, ""), 404);
    assert_non_null(strstr(text_at(&c, "message"), "for user"));
    assert_int_equal(ask(&c, "GET", "/sessions?name=trip&user_id=unknown", ""), 404);
    assert_string_equal(text_at(&c, "errors.0.field"), "name");
    (void)snprintf(target, sizeof target, "/sessions?user_id=%s&agent_id=%s", w.user,
                   w.agent);
    assert_int_equal(ask(&c, "GET", target, ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.sessions")), 2);
    assert_string_equal(text_at(&c, "data.sessions.1.id"),
                        w.session); /* newest first */
    assert_int_equal(ask(&c, "GET", "/sessions?agent_id=nope", ""), 404);
    assert_string_equal(text_at(&c, "errors.0.field"), "agent_id");
    const char *path = path_of("/sessions/%s", w.session);
    assert_int_equal(ask(&c, "PUT", path, "{\"name\":null}"), 200);
    assert_string_equal(text_at(&c, "data.session.name"), "trip");
    assert_int_equal(ask(&c, "PUT", path, "{\"name\":\"a & b\"}"), 200);
    assert_int_equal(ask(&c, "GET", "/sessions?name=a%20&%20b", ""), 200);
    assert_int_equal(ask(&c, "DELETE", path, ""), 200);
    assert_string_equal(text_at(&c, "data.session_id"), w.session);
    assert_int_equal(ask(&c, "GET", path, ""), 404);
    stop(&c);
}

/* --- messages --- */

static void add_turn(client *c, const world *w, const char *question,
                     const char *reply) {
    char body[1024];
    (void)snprintf(body, sizeof body,
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"},"
                   "{\"role\":\"assistant\",\"content\":\"%s\"}]}",
                   question, reply);
    assert_int_equal(ask(c, "POST", path_of("/sessions/%s/messages", w->session), body),
                     201);
    assert_int_equal(yyjson_arr_size(at(c, "data.message_ids")), 2);
}

static void messages_come_back_in_both_orders(void **state) {
    (void)state;
    client c;
    world w;
    char first[64];
    char last[64];
    start(&c, NULL, 0);
    make_world(&c, &w);
    add_turn(&c, &w, "one", "two");
    keep(&c, "data.message_ids.0", first);
    add_turn(&c, &w, "three", "four \\ud83d\\ude00");
    keep(&c, "data.message_ids.1", last);
    assert_int_equal(ask(&c, "GET", path_of("/sessions/%s/messages", w.session), ""),
                     200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.messages")), 4);
    assert_string_equal(text_at(&c, "data.messages.0.id"), last);
    assert_string_equal(text_at(&c, "data.messages.0.content"),
                        "four \xf0\x9f\x98\x80");
    assert_string_equal(text_at(&c, "data.messages.3.id"), first);
    assert_keys(at(&c, "data.messages.0"),
                "id session_id role content created_at updated_at");
    assert_int_equal(ask(&c, "GET",
                         path_of("/sessions/%s/messages?order=asc&limit=1", w.session),
                         ""),
                     200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.messages")), 1);
    assert_string_equal(text_at(&c, "data.messages.0.id"), first);
    assert_int_equal(
        ask(&c, "GET", path_of("/sessions/%s/messages/?limit=1", w.session), ""), 200);
    assert_string_equal(text_at(&c, "data.messages.0.id"), last);
    assert_int_equal(
        ask(&c, "GET", path_of("/sessions/%s/messages?sort_by=id&order=asc", w.session),
            ""),
        200);
    for (size_t i = 1; i < 4; i++) {
        char a[64];
        char b[64];
        (void)snprintf(a, sizeof a, "data.messages.%zu.id", i - 1);
        (void)snprintf(b, sizeof b, "data.messages.%zu.id", i);
        assert_true(strcmp(text_at(&c, a), text_at(&c, b)) < 0);
    }
    stop(&c);
}

static void the_window_and_the_rest_are_disjoint_and_complete(void **state) {
    (void)state;
    client c;
    world w;
    enum { ROUNDS = 9 };
    start(&c, NULL, 0);
    make_world(&c, &w);
    for (int i = 0; i < ROUNDS; i++) {
        char question[32];
        (void)snprintf(question, sizeof question, "question %d", i);
        add_turn(&c, &w, question, "answer");
    }
    char ids[ROUNDS * 2][64];
    size_t count = 0;
    static const char *const parts[] = {"true", "False"};
    for (size_t p = 0; p < 2; p++) {
        char target[256];
        (void)snprintf(target, sizeof target,
                       "/sessions/%s/messages?limit=100&buffer_only=%s", w.session,
                       parts[p]);
        assert_int_equal(ask(&c, "GET", target, ""), 200);
        size_t n = yyjson_arr_size(at(&c, "data.messages"));
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++) {
            char member[64];
            (void)snprintf(member, sizeof member, "data.messages.%zu.id", i);
            assert_true(count < ROUNDS * 2);
            keep(&c, member, ids[count++]);
        }
    }
    assert_int_equal(count, ROUNDS * 2);
    assert_int_equal(
        ask(&c, "GET", path_of("/sessions/%s/messages?limit=100", w.session), ""), 200);
    for (size_t i = 0; i < count;
         i++) { /* one after the other they are the whole list */
        char member[64];
        (void)snprintf(member, sizeof member, "data.messages.%zu.id", i);
        assert_string_equal(text_at(&c, member), ids[i]);
    }
    stop(&c);
}

static void messages_are_read_updated_and_deleted_all_or_none(void **state) {
    (void)state;
    client c;
    world w;
    char first[64];
    char second[64];
    char body[512];
    start(&c, NULL, 0);
    make_world(&c, &w);
    add_turn(&c, &w, "I moved to Lisbon", "nice");
    keep(&c, "data.message_ids.0", first);
    keep(&c, "data.message_ids.1", second);
    char messages[128];
    char reading[160];
    (void)snprintf(messages, sizeof messages, "/sessions/%s/messages", w.session);
    (void)snprintf(reading, sizeof reading, "%s/read", messages);
    (void)snprintf(body, sizeof body, "{\"message_ids\":[\"%s\",\"%s\"]}", second,
                   first);
    assert_int_equal(ask(&c, "POST", reading, body), 200);
    assert_string_equal(text_at(&c, "data.messages.0.id"), second);
    assert_string_equal(text_at(&c, "data.messages.1.id"), first);
    assert_int_equal(ask(&c, "POST", reading, "{\"message_ids\":[]}"), 200);
    (void)snprintf(body, sizeof body, "{\"message_ids\":[\"%s\",\"unknown\"]}", first);
    assert_int_equal(ask(&c, "POST", reading, body), 404);
    assert_string_equal(text_at(&c, "message"), "Some message IDs were not found");
    assert_int_equal(ask(&c, "DELETE", messages, body), 404);
    (void)snprintf(body, sizeof body,
                   "{\"message_ids\":[\"%s\"],\"new_messages\":[{\"role\":\"user\","
                   "\"content\":\"I moved to Porto\"}]}",
                   first);
    assert_int_equal(ask(&c, "PUT", messages, body), 200);
    assert_string_equal(text_at(&c, "data.message_ids.0"), first);
    world other = w;
    make_session(&c, &other, "another");
    (void)snprintf(body, sizeof body, "{\"message_ids\":[\"%s\"]}", first);
    assert_int_equal(
        ask(&c, "POST", path_of("/sessions/%s/messages/read", other.session), body),
        404);
    assert_int_equal(ask(&c, "POST", reading, body), 200);
    assert_string_equal(text_at(&c, "data.messages.0.content"), "I moved to Porto");
    assert_int_equal(ask(&c, "DELETE", messages, body), 200);
    assert_string_equal(text_at(&c, "data.message_ids.0"), first);
    assert_int_equal(ask(&c, "POST", reading, body), 404);
    assert_int_equal(ask(&c, "POST", messages, "{\"messages\":[]}"), 201);
    assert_int_equal(yyjson_arr_size(at(&c, "data.message_ids")), 0);
    stop(&c);
}

static void metadata_is_returned_only_where_it_was_sent(void **state) {
    (void)state;
    client c;
    world w;
    start(&c, NULL, 0);
    make_world(&c, &w);
    const char *path = path_of("/sessions/%s/messages", w.session);
    assert_int_equal(
        ask(&c, "POST", path,
            "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"extra\":1,"
            "\"metadata\":"
            "{\"a\":[1,{\"b\":\"\xc3\xa9\"}]}},{\"role\":\"system\",\"content\":\"y\","
            "\"metadata\":null}]}"),
        201);
    assert_int_equal(
        ask(&c, "GET", path_of("/sessions/%s/messages?order=asc", w.session), ""), 200);
    assert_string_equal(text_at(&c, "data.messages.0.metadata.a.1.b"), "\xc3\xa9");
    assert_null(at(&c, "data.messages.1.metadata"));
    stop(&c);
}

static void a_keyed_repetition_changes_nothing(void **state) {
    (void)state;
    client c;
    world w;
    char first[64];
    start(&c, NULL, 0);
    make_world(&c, &w);
    c.extra.idempotency_key = MF_STR("key 1");
    add_turn(&c, &w, "one", "two");
    keep(&c, "data.message_ids.0", first);
    assert_null(header(&c, "Idempotent-Replayed"));
    add_turn(&c, &w, "one", "two");
    assert_string_equal(text_at(&c, "data.message_ids.0"), first);
    assert_true(mf_str_eq(*header(&c, "Idempotent-Replayed"), MF_STR("true")));
    assert_int_equal(ask(&c, "POST", path_of("/sessions/%s/messages", w.session),
                         "{\"messages\":[{\"role\":\"user\",\"content\":\"other\"}]}"),
                     400);
    c.extra.idempotency_key = MF_STR("caf\xc3\xa9");
    assert_int_equal(ask(&c, "POST", path_of("/sessions/%s/messages", w.session),
                         "{\"messages\":[{\"role\":\"user\",\"content\":\"other\"}]}"),
                     400);
    c.extra.idempotency_key = MF_STR_NONE;
    assert_int_equal(ask(&c, "GET", path_of("/sessions/%s/messages", w.session), ""),
                     200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.messages")), 2);
    stop(&c);
}

static void ten_thousand_messages_pass_in_one_call_and_one_more_does_not(void **state) {
    (void)state;
    enum { MOST = 10000 };
    static const char *const sets[] = {"buffer.enabled=false"};
    client c;
    world w;
    start(&c, sets, 1);
    make_world(&c, &w);
    for (size_t extra = 0; extra <= 1; extra++) {
        mf_buf body;
        mf_buf_init(&body, 4 << 20);
        (void)mf_buf_add_str(&body, MF_STR("{\"messages\":["));
        for (size_t i = 0; i < MOST + extra; i++) {
            (void)mf_buf_printf(&body, "%s{\"role\":\"user\",\"content\":\"m%zu\"}",
                                i > 0 ? "," : "", i);
        }
        (void)mf_buf_add_str(&body, MF_STR("]}"));
        assert_int_equal(body.failed, MF_OK);
        int status = ask_bytes(&c, "POST", path_of("/sessions/%s/messages", w.session),
                               mf_buf_view(&body));
        assert_int_equal(status, extra == 0 ? 201 : 422);
        mf_buf_done(&body);
    }
    stop(&c);
}

/* --- knowledge and query --- */

static void knowledge_skips_what_it_does_not_know(void **state) {
    (void)state;
    client c;
    world w;
    char first[64];
    char body[256];
    start(&c, NULL, 0);
    make_world(&c, &w);
    char knowledge[128];
    (void)snprintf(knowledge, sizeof knowledge, "/users/%s/knowledge", w.user);
    assert_int_equal(ask(&c, "POST", knowledge, "{\"knowledge\":[]}"), 201);
    assert_int_equal(
        ask(&c, "POST", knowledge, "{\"knowledge\":[\"tea is hot\",\"\"]}"), 201);
    assert_int_equal(yyjson_arr_size(at(&c, "data.knowledge_ids")), 2);
    keep(&c, "data.knowledge_ids.0", first);
    assert_int_equal(ask(&c, "GET", knowledge, ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.knowledge")), 2);
    assert_keys(at(&c, "data.knowledge.0"), "id user_id content created_at updated_at");
    (void)snprintf(body, sizeof body, "{\"knowledge_ids\":[\"unknown\",\"%s\"]}",
                   first);
    char reading[160];
    (void)snprintf(reading, sizeof reading, "%s/read", knowledge);
    assert_int_equal(ask(&c, "POST", reading, body), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.knowledge")), 1);
    (void)snprintf(
        body, sizeof body,
        "{\"knowledge_ids\":[\"%s\",\"unknown\"],\"new_knowledge\":[\"tea is cold\","
        "\"b\",\"surplus\"]}",
        first);
    assert_int_equal(ask(&c, "PUT", knowledge, body), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.knowledge_ids")), 1);
    (void)snprintf(body, sizeof body, "{\"knowledge_ids\":[\"unknown\",\"%s\"]}",
                   first);
    assert_int_equal(ask(&c, "DELETE", knowledge, body), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.knowledge_ids")), 1);
    assert_int_equal(ask(&c, "DELETE", knowledge, body), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.knowledge_ids")), 0);
    assert_int_equal(ask(&c, "GET", "/users/unknown/knowledge", ""), 404);
    stop(&c);
}

static int ask_query(client *c, const world *w, const char *rest) {
    char body[512];
    (void)snprintf(body, sizeof body, "{\"query\":\"Where is Lisbon?\"%s}", rest);
    return ask(c, "POST", path_of("/users/%s/query", w->user), body);
}

static void results_have_the_promised_form_and_scope(void **state) {
    (void)state;
    client c;
    world w;
    char rest[256];
    start(&c, NULL, 0);
    make_world(&c, &w);
    assert_int_equal(ask_query(&c, &w, ""), 200);
    assert_string_equal(text_at(&c, "message"), "Found 0 results");
    add_turn(&c, &w, "I moved to Lisbon in March", "Lovely");
    world later = w;
    make_session(&c, &later, "later");
    (void)snprintf(
        rest, sizeof rest,
        ",\"session_id\":\"%s\",\"agent_id\":\"%s\",\"top_k\":5,\"store_type\":null,"
        "\"include_messages\":true,\"include_knowledge\":true,\"metadata\":{}",
        later.session, w.agent);
    assert_int_equal(ask_query(&c, &later, rest), 200);
    assert_keys(at(&c, "data"), "results total");
    assert_int_equal(yyjson_get_int(at(&c, "data.total")),
                     yyjson_arr_size(at(&c, "data.results")));
    assert_keys(at(&c, "data.results.0"),
                "id content score type role created_at updated_at metadata");
    assert_string_equal(text_at(&c, "data.results.0.content"),
                        "I moved to Lisbon in March");
    assert_string_equal(text_at(&c, "data.results.0.type"), "message");
    assert_string_equal(text_at(&c, "data.results.0.role"), "user");
    assert_string_equal(text_at(&c, "data.results.0.metadata.scope"), "cross_session");
    assert_string_equal(text_at(&c, "data.results.0.metadata.session_id"), w.session);
    assert_string_equal(text_at(&c, "data.results.0.metadata.session_name"), "trip");
    assert_string_equal(text_at(&c, "data.results.0.metadata.agent_id"), w.agent);
    assert_string_equal(text_at(&c, "data.results.0.metadata.user_id"), w.user);
    assert_int_equal(yyjson_get_int(at(&c, "data.results.0.metadata.level")), 0);
    assert_keys(at(&c, "data.results.0.metadata.retrieval"),
                "source similarity store_type");
    double score = yyjson_get_num(at(&c, "data.results.0.score"));
    assert_true(score > 0.0 && score <= 1.0);
    (void)snprintf(rest, sizeof rest, ",\"session_id\":\"%s\"", w.session);
    assert_int_equal(ask_query(&c, &w, rest), 200);
    assert_string_equal(text_at(&c, "data.results.0.metadata.scope"), "in_session");
    assert_int_equal(ask_query(&c, &w, ""), 200);
    assert_true(yyjson_is_null(at(&c, "data.results.0.metadata.scope")));
    stop(&c);
}

static void queries_heed_their_switches(void **state) {
    (void)state;
    static const struct {
        const char *rest;
        int status;
        bool messages, knowledge;
    } rows[] = {
        {"", 200, true, true},
        {",\"include_messages\":false", 200, false, true},
        {",\"include_knowledge\":\"false\"", 200, true, false},
        {",\"include_messages\":0,\"include_knowledge\":0", 200, false, false},
        {",\"top_k\":-1", 200, false, false},
        {",\"top_k\":0", 200, false, false},
        {",\"top_k\":100000", 200, true, true},
        {",\"top_k\":\"10\"", 200, true, true},
        {",\"store_type\":\"keyword\"", 200, true, true},
        {",\"store_type\":\"graph\"", 200, true, true},
        {",\"session_id\":\"nope\"", 404, false, false},
        {",\"agent_id\":\"nope\"", 404, false, false},
    };
    client c;
    world w;
    start(&c, NULL, 0);
    make_world(&c, &w);
    add_turn(&c, &w, "I moved to Lisbon in March", "Lovely");
    assert_int_equal(ask(&c, "POST", path_of("/users/%s/knowledge", w.user),
                         "{\"knowledge\":[\"Lisbon is in Portugal\"]}"),
                     201);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool messages = false;
        bool knowledge = false;
        assert_int_equal(ask_query(&c, &w, rows[i].rest), rows[i].status);
        size_t n;
        size_t max;
        yyjson_val *item;
        yyjson_arr_foreach(at(&c, "data.results"), n, max, item) {
            bool known = yyjson_equals_str(yyjson_obj_get(item, "type"), "knowledge");
            knowledge = knowledge || known;
            messages = messages || !known;
            assert_int_equal(yyjson_is_null(yyjson_obj_get(item, "role")), known);
        }
        if (messages != rows[i].messages || knowledge != rows[i].knowledge) {
            fail_msg("row %zu: %.*s", i, MF_STR_ARGS(c.reply.body));
        }
    }
    char lonely[64];
    make_user(&c, "lonely", lonely);
    assert_int_equal(
        ask(&c, "POST", path_of("/users/%s/query", lonely), "{\"query\":\"\"}"), 200);
    assert_string_equal(text_at(&c, "message"), "No sessions found for query");
    stop(&c);
}

static void chunks_can_be_inspected(void **state) {
    (void)state;
    client c;
    world w;
    start(&c, NULL, 0);
    make_world(&c, &w);
    add_turn(&c, &w, "one", "two");
    assert_int_equal(ask(&c, "GET", path_of("/sessions/%s/chunks", w.session), ""),
                     200);
    assert_keys(at(&c, "data"), "chunks total_count session_id store_type");
    assert_int_equal(yyjson_get_int(at(&c, "data.total_count")), 2);
    assert_keys(at(&c, "data.chunks.0"), "chunk_id content metadata");
    assert_string_equal(text_at(&c, "data.chunks.0.content"), "two");
    char round[64];
    keep(&c, "data.chunks.0.metadata.round_id", round);
    assert_int_equal(
        ask(&c, "GET", path_of("/rounds/%s/chunks?order=asc&limit=1", round), ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.chunks")), 1);
    assert_string_equal(text_at(&c, "data.chunks.0.content"), "one");
    assert_string_equal(text_at(&c, "data.round_id"), round);
    assert_int_equal(ask(&c, "GET", path_of("/chunks/stats?user_id=%s", w.user), ""),
                     200);
    assert_int_equal(yyjson_get_int(at(&c, "data.total_chunks")), 2);
    assert_int_equal(ask(&c, "GET", "/sessions/nope/chunks", ""), 404);
    assert_int_equal(ask(&c, "GET", "/rounds/nope/chunks", ""), 404);
    assert_int_equal(ask(&c, "GET", "/chunks/stats?user_id=nope", ""), 404);
    stop(&c);
}

/* --- keys
 *
 *
 * ------------------------------------------------------------------------------------------
 */

static const char *const keyed[] = {"server.api_key_validation=true"};

static void a_key_is_shown_once_and_can_be_revoked(void **state) {
    (void)state;
    client c;
    world w;
    char id[64];
    char secret[MF_API_KEY_TEXT_MAX];
    start(&c, keyed, 1);
    c.extra.trusted = true;
    make_world(&c, &w);
    assert_int_equal(ask(&c, "POST", path_of("/users/%s/api-keys", w.user), ""), 200);
    assert_keys(at(&c, "data.api_key"),
                "id user_id name key permissions created_at expires_at");
    keep(&c, "data.api_key.id", id);
    (void)snprintf(secret, sizeof secret, "%s", text_at(&c, "data.api_key.key"));
    assert_int_equal(ask(&c, "POST", path_of("/users/%s/api-keys/", w.user),
                         "{\"name\":\"laptop\",\"permissions\":{\"read\":true},"
                         "\"expires_at\":\"2999-01-01T00:00:00Z\"}"),
                     200);
    assert_true(yyjson_get_bool(at(&c, "data.api_key.permissions.read")));
    assert_int_equal(ask(&c, "GET", path_of("/users/%s/api-keys", w.user), ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.api_keys")), 2);
    assert_string_equal(text_at(&c, "data.api_keys.0.key"), "********");

    c.extra = (mf_http_request){.x_api_key = mf_str_from(secret)};
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    c.extra = (mf_http_request){.trusted = true};
    char target[256];
    (void)snprintf(target, sizeof target, "/users/%s/api-keys/%s", w.user, id);
    assert_int_equal(ask(&c, "DELETE", target, ""), 200);
    assert_string_equal(text_at(&c, "data.key_id"), id);
    assert_int_equal(ask(&c, "DELETE", target, ""), 404);
    assert_string_equal(text_at(&c, "errors.0.field"), "key_id");
    c.extra = (mf_http_request){.x_api_key = mf_str_from(secret)};
    assert_int_equal(ask(&c, "GET", "/users", ""), 401);
    stop(&c);
}

static void without_a_good_key_only_open_routes_answer(void **state) {
    (void)state;
    static const struct {
        const char *authorization, *message;
    } rows[] = {
        {"", "Authentication failed: Missing API key"},
        {"Basic abc", "Authentication failed: Invalid API key format"},
        {"Bearer", "Authentication failed: Invalid API key format"},
        {"Bearer  ", "Authentication failed: Invalid API key format"},
        {"Bearer wrong", "Authentication failed: Invalid API key"},
    };
    client c;
    start(&c, keyed, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        c.extra.authorization = mf_str_from(rows[i].authorization);
        assert_int_equal(ask(&c, "GET", "/users", ""), 401);
        assert_string_equal(text_at(&c, "message"), rows[i].message);
        assert_string_equal(text_at(&c, "errors.0.field"), "api_key");
        assert_true(mf_str_eq(*header(&c, "WWW-Authenticate"), MF_STR("Bearer")));
        assert_int_equal(ask(&c, "GET", "/health", ""), 200);
        assert_int_equal(ask_bytes(&c, "GET", "/openapi.json", MF_STR("")), 200);
    }
    stop(&c);
}

static void a_key_opens_its_owners_data_and_no_other(void **state) {
    (void)state;
    client c;
    world alice;
    world bob;
    char secret[MF_API_KEY_TEXT_MAX + 8];
    char body[512];
    start(&c, keyed, 1);
    c.extra.trusted = true;
    make_world(&c, &alice);
    make_user(&c, "bob", bob.user);
    memcpy(bob.agent, alice.agent, sizeof bob.agent);
    make_session(&c, &bob, "secret plans");
    add_turn(&c, &bob, "the plan is Lisbon", "ok");
    char bobs_message[64];
    keep(&c, "data.message_ids.0", bobs_message);
    assert_int_equal(ask(&c, "GET", path_of("/sessions/%s/chunks", bob.session), ""),
                     200);
    char bobs_round[64];
    keep(&c, "data.chunks.0.metadata.round_id", bobs_round);
    assert_int_equal(ask(&c, "POST", path_of("/users/%s/api-keys", alice.user), ""),
                     200);
    (void)snprintf(secret, sizeof secret, "Bearer %s", text_at(&c, "data.api_key.key"));
    c.extra = (mf_http_request){.authorization = mf_str_from(secret)};

    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.users")), 1);
    assert_int_equal(ask(&c, "GET", "/users?name=alice", ""), 200);
    assert_int_equal(ask(&c, "GET", "/sessions", ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.sessions")), 1);
    assert_int_equal(ask(&c, "GET", path_of("/sessions?user_id=%s", alice.user), ""),
                     200);
    add_turn(&c, &alice, "hello", "hi");
    assert_int_equal(ask_query(&c, &alice, ""), 200);
    assert_int_equal(yyjson_get_int(at(&c, "data.total")), 0);
    assert_int_equal(ask(&c, "POST", "/agents", "{\"name\":\"helper\"}"), 201);

    (void)snprintf(body, sizeof body, "{\"message_ids\":[\"%s\"]}", bobs_message);
    const struct {
        const char *method, *format, *id, *body;
        int status;
    } rows[] = {
        {"GET", "/users?name=bob%s", "", "", 404},
        {"GET", "/users/%s", bob.user, "", 404},
        {"PUT", "/users/%s", bob.user, "{\"name\":\"x\"}", 404},
        {"DELETE", "/users/%s", bob.user, "", 404},
        {"POST", "/users/%s/query", bob.user, "{\"query\":\"plan\"}", 404},
        {"GET", "/users/%s/knowledge", bob.user, "", 404},
        {"POST", "/users/%s/knowledge", bob.user, "{\"knowledge\":[\"x\"]}", 404},
        {"POST", "/users/%s/knowledge/read", bob.user, "{\"knowledge_ids\":[]}", 404},
        {"PUT", "/users/%s/knowledge", bob.user,
         "{\"knowledge_ids\":[],\"new_knowledge\":[]}", 404},
        {"DELETE", "/users/%s/knowledge", bob.user, "{\"knowledge_ids\":[]}", 404},
        {"GET", "/users/%s/api-keys", bob.user, "", 404},
        {"POST", "/users/%s/api-keys", bob.user, "", 404},
        {"DELETE", "/users/%s/api-keys/k", bob.user, "", 404},
        {"POST", "/users/%s/flush", bob.user, "", 404},
        {"GET", "/sessions?user_id=%s", bob.user, "", 404},
        {"GET", "/sessions?name=secret%%20plans%s", "", "", 404},
        {"GET", "/sessions/%s", bob.session, "", 404},
        {"PUT", "/sessions/%s", bob.session, "{\"name\":\"x\"}", 404},
        {"DELETE", "/sessions/%s", bob.session, "", 404},
        {"GET", "/sessions/%s/messages", bob.session, "", 404},
        {"POST", "/sessions/%s/messages", bob.session, "{\"messages\":[]}", 404},
        {"POST", "/sessions/%s/messages/read", bob.session, body, 404},
        {"DELETE", "/sessions/%s/messages", bob.session, body, 404},
        {"GET", "/sessions/%s/chunks", bob.session, "", 404},
        {"GET", "/rounds/%s/chunks", bobs_round, "", 404},
        {"GET", "/chunks/stats?user_id=%s", bob.user, "", 404},
        {"POST", "/users%s", "", "{\"name\":\"new\"}", 403},
        {"PUT", "/agents/%s", alice.agent, "{\"name\":\"x\"}", 403},
        {"DELETE", "/agents/%s", alice.agent, "", 403},
        {"GET", "/status%s", "", "", 403},
        {"POST", "/import%s", "", "{}", 403},
        {"POST", "/admin/reload%s", "", "", 403},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char target[256];
        (void)snprintf(target, sizeof target, rows[i].format, rows[i].id);
        int status = ask(&c, rows[i].method, target, rows[i].body);
        if (status != rows[i].status) {
            fail_msg("%s %s: %d", rows[i].method, target, status);
        }
    }
    (void)snprintf(body, sizeof body, "{\"user_id\":\"%s\",\"agent_id\":\"%s\"}",
                   bob.user, bob.agent);
    assert_int_equal(ask(&c, "POST", "/sessions", body), 404);
    c.extra = (mf_http_request){.trusted = true};
    assert_int_equal(ask(&c, "GET", path_of("/sessions/%s/messages", bob.session), ""),
                     200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.messages")), 2);
    stop(&c);
}

/* --- running it
 *
 *
 * --------------------------------------------------------------------------------------
 */

static void an_import_stores_rounds_by_names(void **state) {
    (void)state;
    static const char lines[] =
        "{\"user\":\"ann\",\"session\":\"s1\",\"role\":\"user\",\"content\":\"one\","
        "\"created_at\":\"2020-01-02T03:04:05Z\",\"round\":1}\n"
        "{\"user\":\"ann\",\"session\":\"s1\",\"role\":\"assistant\",\"content\":"
        "\"two\","
        "\"round\":1}\r\n"
        "\n"
        "{\"user\":\"ann\",\"session\":\"s1\",\"role\":\"user\",\"content\":\"three\","
        "\"round\":\"x\",\"metadata\":{\"k\":1}}\n"
        "{\"user\":\"ann\",\"session\":\"s2\",\"agent\":\"helper\",\"role\":\"user\","
        "\"content\":\"four\"}\n"
        "{\"user\":\"ben\",\"session\":\"s1\",\"role\":\"user\",\"content\":\"five\"}";
    client c;
    start(&c, NULL, 0);
    c.extra.content_type = MF_STR("application/x-ndjson");
    assert_int_equal(ask(&c, "POST", "/import", lines), 200);
    assert_int_equal(yyjson_get_int(at(&c, "data.imported")), 5);
    assert_int_equal(yyjson_get_int(at(&c, "data.users")), 2);
    assert_int_equal(yyjson_get_int(at(&c, "data.sessions")), 3);
    assert_int_equal(ask(&c, "GET", "/agents?name=helper", ""), 200);
    assert_int_equal(ask(&c, "GET", "/users?name=ann", ""), 200);
    char user[64];
    keep(&c, "data.users.0.id", user);
    assert_int_equal(ask(&c, "GET", path_of("/sessions?name=s1&user_id=%s", user), ""),
                     200);
    char session[64];
    keep(&c, "data.sessions.0.id", session);
    assert_int_equal(
        ask(&c, "GET", path_of("/sessions/%s/messages?order=asc", session), ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.messages")), 3);
    assert_string_equal(text_at(&c, "data.messages.0.created_at"),
                        "2020-01-02T03:04:05.000000Z");
    assert_string_equal(text_at(&c, "data.messages.2.content"), "three");
    assert_int_equal(
        ask(&c, "GET", path_of("/sessions/%s/chunks?order=asc", session), ""), 200);
    char round[64];
    keep(&c, "data.chunks.0.metadata.round_id", round);
    assert_string_equal(text_at(&c, "data.chunks.1.metadata.round_id"), round);
    assert_string_not_equal(text_at(&c, "data.chunks.2.metadata.round_id"), round);
    assert_int_equal(ask(&c, "POST", "/import", lines),
                     200); /* the names exist by now */
    stop(&c);
}

static void an_import_with_one_bad_line_stores_nothing(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{}",
        "nonsense",
        "[]",
        "{\"user\":\"x\",\"session\":\"s\",\"role\":\"user\"}",
        "{\"user\":\"x\",\"session\":\"s\",\"role\":\"user\",\"content\":\"c\","
        "\"created_at\":\"now\"}",
        "{\"user\":\"\",\"session\":\"s\",\"role\":\"user\",\"content\":\"c\"}",
    };
    client c;
    start(&c, NULL, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char body[512];
        (void)snprintf(
            body, sizeof body,
            "{\"user\":\"ann\",\"session\":\"s\",\"role\":\"user\",\"content\":\"c\"}\n"
            "%s\n",
            bad[i]);
        assert_int_equal(ask(&c, "POST", "/import", body), 422);
        assert_non_null(strstr(text_at(&c, "message"), "line 2"));
    }
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.users")), 0);
    stop(&c);
}

static void the_server_tells_its_state_and_takes_orders(void **state) {
    (void)state;
    client c;
    world w;
    start(&c, NULL, 0);
    make_world(&c, &w);
    add_turn(&c, &w, "one", "two");
    assert_int_equal(
        ask(&c, "POST", path_of("/users/%s/flush?timeout_ms=20000", w.user), ""), 200);
    assert_string_equal(text_at(&c, "data.user_id"), w.user);
    assert_int_equal(ask(&c, "POST", "/users/nope/flush", ""), 404);
    assert_int_equal(ask(&c, "GET", "/status", ""), 200);
    assert_int_equal(yyjson_get_int(at(&c, "data.store.messages")), 2);
    assert_string_equal(text_at(&c, "data.token_counter"), "estimate");
    assert_int_equal(ask(&c, "POST", "/admin/reload", ""), 200);
    assert_int_equal(yyjson_arr_size(at(&c, "data.changed")), 0);
    stop(&c);
}

static void request_ids_are_echoed_or_made(void **state) {
    (void)state;
    client c;
    start(&c, NULL, 0);
    c.extra.request_id = MF_STR("abc-1");
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_true(mf_str_eq(*header(&c, "X-Request-Id"), MF_STR("abc-1")));
    c.extra.request_id = MF_STR("a\r\nSet-Cookie: x");
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_int_equal(mf_str_find(*header(&c, "X-Request-Id"), MF_STR("Cookie"), 0),
                     SIZE_MAX);
    char made[64];
    (void)snprintf(made, sizeof made, "%.*s", MF_STR_ARGS(*header(&c, "X-Request-Id")));
    assert_int_equal(ask(&c, "GET", "/users", ""), 200);
    assert_false(mf_str_eq(*header(&c, "X-Request-Id"), mf_str_from(made)));
    assert_true(mf_str_eq(*header(&c, "X-Content-Type-Options"), MF_STR("nosniff")));
    stop(&c);
}

static void a_spent_arena_still_gets_an_envelope(void **state) {
    (void)state;
    client c;
    world w;
    start(&c, NULL, 0);
    make_world(&c, &w);
    add_turn(&c, &w, "one", "two");
    char path[256];
    (void)snprintf(path, sizeof path, "/api/v1/sessions/%s/messages", w.session);
    bool refused = false;
    bool answered = false;
    for (size_t bytes = 64; bytes < 64 * 1024; bytes += 256) {
        mf_arena *whole = c.arena;
        mf_arena *small = NULL;
        assert_int_equal(mf_arena_new(bytes, &small, NULL), MF_OK);
        mf_http_request request = {.method = MF_STR("GET"),
                                   .path = mf_str_from(path),
                                   .deadline_ns = mf_deadline_in_ms(60000),
                                   .arena = small};
        c.done = false;
        mf_door_handle(c.parts.door, &request, answer, &c);
        assert_true(c.done);
        assert_true(c.reply.status == 503 || c.reply.status == 200);
        refused = refused || c.reply.status == 503;
        answered = answered || c.reply.status == 200;
        yyjson_doc *doc = NULL;
        mf_arena_reset(whole);
        assert_int_equal(mf_json_parse(c.reply.body, whole, &doc, NULL), MF_OK);
        c.root = yyjson_doc_get_root(doc);
        check_envelope(&c);
        mf_arena_free(small);
    }
    assert_true(refused);
    assert_true(answered);
    stop(&c);
}

static void the_same_failure_again_is_counted_and_logged_once(void **state) {
    (void)state;
    enum { TIMES = 20 };
    client c;
    start(&c, NULL, 0);
    mf_door_drain(c.parts.door);
    for (int i = 0; i < TIMES; i++) {
        assert_int_equal(ask(&c, "GET", "/users", NULL), 503);
    }
    assert_int_equal(ask(&c, "GET", "/agents", NULL), 503);
    mf_error_cache *errors = mf_metrics_errors(mf_service_metrics(c.parts.service));
    mf_error_cache_stats stats;
    mf_error_kind kinds[4];
    mf_error_cache_get_stats(errors, &stats);
    assert_int_equal(stats.total, TIMES + 1);
    assert_int_equal(stats.processed, 2);
    assert_int_equal(mf_error_cache_list(errors, kinds, 4), 2);
    assert_string_equal(kinds[0].operation, "GET /agents");
    assert_string_equal(kinds[1].operation, "GET /users");
    assert_int_equal(kinds[1].rc, MF_E_STOPPING);
    assert_int_equal(kinds[1].count, TIMES);
    assert_string_equal(kinds[1].text, "the server is shutting down");
    stop(&c);
}

static void opening_survives_each_failed_allocation(void **state) {
    (void)state;
    const mf_config_sources sources = {0};
    mf_settings *settings = NULL;
    assert_int_equal(mf_settings_open(&sources, &settings, NULL), MF_OK);
    size_t before = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_door *door = NULL;
        mf_err err = {0};
        /* Opening does not call the service. */
        if (mf_door_open(NULL, settings, &door, &err) != MF_OK) {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(door);
        }
        mf_door_close(door);
        assert_int_equal(mf_alloc_live(), before);
    }
    mf_settings_close(settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_is_small_and_tells_no_secrets),
        cmocka_unit_test(unknown_paths_and_methods_get_the_envelope_with_detail),
        cmocka_unit_test(bodies_are_checked_before_anything_is_done),
        cmocka_unit_test(foreign_hosts_origins_and_forms_are_refused),
        cmocka_unit_test(names_the_server_listens_on_are_its_own),
        cmocka_unit_test(browsers_of_listed_origins_get_what_they_need),
        cmocka_unit_test(one_address_over_its_rate_waits_and_others_do_not),
        cmocka_unit_test(a_draining_door_refuses_all_but_health),
        cmocka_unit_test(the_description_and_its_page_are_served),
        cmocka_unit_test(names_of_all_kinds_are_found_again),
        cmocka_unit_test(users_live_and_die),
        cmocka_unit_test(sessions_live_and_die),
        cmocka_unit_test(messages_come_back_in_both_orders),
        cmocka_unit_test(the_window_and_the_rest_are_disjoint_and_complete),
        cmocka_unit_test(messages_are_read_updated_and_deleted_all_or_none),
        cmocka_unit_test(metadata_is_returned_only_where_it_was_sent),
        cmocka_unit_test(a_keyed_repetition_changes_nothing),
        cmocka_unit_test(ten_thousand_messages_pass_in_one_call_and_one_more_does_not),
        cmocka_unit_test(knowledge_skips_what_it_does_not_know),
        cmocka_unit_test(results_have_the_promised_form_and_scope),
        cmocka_unit_test(queries_heed_their_switches),
        cmocka_unit_test(chunks_can_be_inspected),
        cmocka_unit_test(a_key_is_shown_once_and_can_be_revoked),
        cmocka_unit_test(without_a_good_key_only_open_routes_answer),
        cmocka_unit_test(a_key_opens_its_owners_data_and_no_other),
        cmocka_unit_test(an_import_stores_rounds_by_names),
        cmocka_unit_test(an_import_with_one_bad_line_stores_nothing),
        cmocka_unit_test(the_server_tells_its_state_and_takes_orders),
        cmocka_unit_test(request_ids_are_echoed_or_made),
        cmocka_unit_test(a_spent_arena_still_gets_an_envelope),
        cmocka_unit_test(the_same_failure_again_is_counted_and_logged_once),
        cmocka_unit_test(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
