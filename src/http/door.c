/* door.c - the HTTP API as a function: a request in, a reply out, no sockets.
 *
 * Every request passes the same gates in the same order, cheap and general ones first:
 *
 *   Host     a browser tricked by a foreign name that resolves to this machine (only
 *            while no key protects the data)                                      403
 *   Origin   a page of a foreign origin                                           403
 *   route    unknown path, wrong method                                      404, 405
 *   drain    the server is stopping, or the request's time is over; not for health  503
 *   memory   the budget is spent; not for health, deletions and administration     503
 *   rate     too many requests from one address                                   429
 *   key      missing or wrong, or not an administrator's                     401, 403
 *   type     a form or plain text, which browsers send anywhere unasked           415
 *
 * and then its handler.  Requests that did not come over TCP are trusted: they skip
 * Host, Origin, rate and key. */
#include "http/door.h"

#include <arpa/inet.h>
#include <inttypes.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "http/call.h"
#include "http/openapi.h"
#include "text/utf8.h"

enum { REQUEST_ID_MAX = 128 };

mf_rc mf_door_open(mf_service *service, mf_settings *settings, mf_door **out,
                   mf_err *err) {
    mf_door *door = mf_alloc_zero(1, sizeof *door);
    if (door == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the HTTP door");
    }
    door->figures = mf_alloc_zero(mf_route_count + 1, sizeof *door->figures);
    if (door->figures == NULL) {
        mf_free(door);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the HTTP door");
    }
    door->service = service;
    door->settings = settings;
    mf_rc rc = mf_openapi_build(&door->openapi, err);
    if (rc != MF_OK) {
        mf_free(door->figures);
        mf_free(door);
        return rc;
    }
    rc = mf_memory_monitor_init(&door->monitor, err);
    if (rc != MF_OK) {
        mf_openapi_free(&door->openapi);
        mf_free(door->figures);
        mf_free(door);
        return rc;
    }
    mf_rate_limit_init(&door->rate_limit);
    mf_random_bytes(&door->id_prefix, sizeof door->id_prefix);
    *out = door;
    return MF_OK;
}

void mf_door_close(mf_door *door) {
    if (door == NULL) {
        return;
    }
    mf_rate_limit_done(&door->rate_limit);
    mf_memory_monitor_done(&door->monitor);
    mf_openapi_free(&door->openapi);
    mf_free(door->figures);
    mf_free(door);
}

void mf_door_drain(mf_door *door) {
    atomic_store(&door->draining, true);
}

bool mf_door_is_instant(const mf_door *door, const mf_http_request *request) {
    (void)door;
    mf_str path = request->path;
    if (mf_str_ends(path, MF_STR("/"))) {
        path.len--;
    }
    return mf_str_eq(path, MF_STR("/api/v1/health")) &&
           (mf_str_eq(request->method, MF_STR("GET")) ||
            mf_str_eq(request->method, MF_STR("HEAD")));
}

void mf_door_failure(const mf_err *err, mf_arena *arena, mf_http_reply *out) {
    mf_call call = {.request.arena = arena};
    mf_call_fail(&call, err);
    mf_call_header(&call, "X-Content-Type-Options", MF_STR("nosniff"));
    *out = call.reply;
}

/* --- the request id --- */

static bool is_good_id(mf_str id) {
    for (size_t i = 0; i < id.len; i++) {
        if (id.p[i] <= ' ' || id.p[i] > '~') {
            return false;
        }
    }
    return id.len > 0 && id.len <= REQUEST_ID_MAX;
}

static void set_request_id(mf_call *call) {
    if (!is_good_id(call->request.request_id)) {
        mf_door *door = call->door;
        uint64_t n = atomic_fetch_add(&door->id_next, 1);
        call->request.request_id = mf_arena_printf(
            call->request.arena, "%016" PRIx64 "-%" PRIx64, door->id_prefix, n);
    }
}

/* --- Host and Origin --- */

/* "name:80" and "[::1]:80" without the port, a dot at the end, or the brackets. */
static mf_str host_name(mf_str host) {
    if (mf_str_starts(host, MF_STR("["))) {
        size_t end = mf_str_find(host, MF_STR("]"), 0);
        return end == SIZE_MAX ? host : mf_str_sub(host, 1, end - 1);
    }
    mf_str name = mf_str_split(&host, ':');
    if (mf_str_ends(name, MF_STR("."))) {
        name.len--;
    }
    return name;
}

static bool is_loopback(mf_str name) {
    char text[INET6_ADDRSTRLEN];
    if (mf_str_eq_ignore_case(name, MF_STR("localhost"))) {
        return true;
    }
    if (name.len >= sizeof text) {
        return false;
    }
    memcpy(text, name.p, name.len);
    text[name.len] = '\0';
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* The names the server was told to listen on are its own. */
static bool is_own_name(const mf_config *config, mf_str name) {
    mf_str rest = mf_str_from(config->server_listen);
    while (rest.len > 0) {
        mf_str one = mf_str_trim(mf_str_split(&rest, ','));
        if (mf_str_eq_ignore_case(host_name(one), name)) {
            return true;
        }
    }
    return mf_str_eq_ignore_case(mf_str_from(config->server_host), name);
}

static mf_rc check_host(const mf_call *call, mf_err *err) {
    mf_str host = call->request.host;
    if (call->config->server_api_key_validation || host.len == 0) {
        return MF_OK;
    }
    mf_str name = host_name(host);
    if (is_loopback(name) || is_own_name(call->config, name)) {
        return MF_OK;
    }
    return MF_FAIL_FIELD(err, MF_E_DENIED, "host",
                         "this server answers to localhost only, not to '%.*s'",
                         MF_STR_ARGS(mf_str_sub(host, 0, 64)));
}

static bool is_listed(const char *origins, mf_str origin) {
    mf_str rest = mf_str_from(origins);
    while (rest.len > 0) {
        mf_str one = mf_str_trim(mf_str_split(&rest, ','));
        if (mf_str_eq(one, MF_STR("*")) || mf_str_eq_ignore_case(one, origin)) {
            return true;
        }
    }
    return false;
}

/* The page came from this very server. */
static bool is_same_origin(mf_str origin, mf_str host) {
    mf_str http = MF_STR("http://");
    return mf_str_starts(origin, http) && host.len > 0 &&
           mf_str_eq_ignore_case(mf_str_sub(origin, http.len, origin.len), host);
}

static mf_rc check_origin(mf_call *call, mf_err *err) {
    mf_str origin = call->request.origin;
    if (origin.len == 0 || is_same_origin(origin, call->request.host)) {
        return MF_OK;
    }
    if (mf_str_eq(origin, MF_STR("null")) ||
        !is_listed(call->config->server_cors_origins, origin)) {
        return MF_FAIL_FIELD(err, MF_E_DENIED, "origin",
                             "pages of this origin may not call this server "
                             "(setting server.cors_origins)");
    }
    mf_call_header(call, "Access-Control-Allow-Origin", origin);
    mf_call_header(call, "Access-Control-Expose-Headers",
                   MF_STR("X-Request-Id, Retry-After, X-Memory-Usage-MB, "
                          "X-Memory-Delta-MB, X-Request-Duration-MS"));
    mf_call_header(call, "Vary", MF_STR("Origin"));
    return MF_OK;
}

/* --- route --- */

static mf_rc find_route(mf_call *call, char allow[MF_ROUTE_ALLOW_MAX], mf_err *err) {
    mf_match match;
    if (!mf_route_match(call->request.method, call->request.path, call->request.arena,
                        &match)) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    call->route = match.route;
    memcpy(call->params, match.params, sizeof call->params);
    memcpy(allow, match.allow, sizeof match.allow);
    if (allow[0] == '\0') {
        call->detail = "Not Found";
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "path",
                             "there is nothing at this path");
    }
    for (size_t i = 0; i < MF_ROUTE_PARAMS_MAX; i++) {
        mf_str param = call->params[i];
        if (!mf_utf8_valid(param) ||
            (param.len > 0 && memchr(param.p, '\0', param.len) != NULL)) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "path",
                                 "the path is not valid UTF-8");
        }
    }
    return MF_OK;
}

static mf_rc fail_method(mf_call *call, const char *allow, mf_err *err) {
    call->status = 405;
    call->detail = "Method Not Allowed";
    mf_call_header(call, "Allow",
                   mf_arena_str(call->request.arena, mf_str_from(allow)));
    return MF_FAIL_FIELD(err, MF_E_INVAL, "method", "this path allows %s", allow);
}

static void answer_options(mf_call *call, const char *allow) {
    mf_str methods = mf_arena_str(call->request.arena, mf_str_from(allow));
    mf_call_header(call, "Allow", methods);
    if (call->request.origin.len > 0) {
        mf_call_header(call, "Access-Control-Allow-Methods", methods);
        mf_call_header(
            call, "Access-Control-Allow-Headers",
            MF_STR("Authorization, Content-Type, Idempotency-Key, X-API-Key, "
                   "X-Request-Id"));
        mf_call_header(call, "Access-Control-Max-Age", MF_STR("600"));
    }
    call->reply.status = 204;
    call->reply.content_type = "application/json";
    call->reply.body = MF_STR("");
}

/* --- rate, key, type --- */

static mf_rc check_rate(mf_call *call, mf_err *err) {
    int64_t per_minute = call->config->server_rate_limit;
    if (per_minute == 0 || call->request.peer.len == 0) {
        return MF_OK;
    }
    int wait_s = mf_rate_limit_take(&call->door->rate_limit, call->request.peer,
                                    per_minute, call->started_ns);
    if (wait_s == 0) {
        return MF_OK;
    }
    call->retry_after_s = wait_s;
    return MF_FAIL(err, MF_E_RATE, "Rate limit exceeded");
}

static mf_rc find_key(const mf_call *call, mf_str *key, mf_err *err) {
    const char *why = "Missing API key";
    mf_str header = call->request.authorization;
    mf_str scheme = mf_str_split(&header, ' ');
    mf_str value = mf_str_trim(header);
    if (call->request.authorization.len > 0) {
        if (mf_str_eq_ignore_case(scheme, MF_STR("Bearer")) && value.len > 0) {
            *key = value;
            return MF_OK;
        }
        why = "Invalid API key format";
    } else if (call->request.x_api_key.len > 0) {
        *key = call->request.x_api_key;
        return MF_OK;
    }
    return MF_FAIL_FIELD(err, MF_E_AUTH, "api_key", "Authentication failed: %s", why);
}

static mf_rc check_key(mf_call *call, mf_err *err) {
    call->admin = call->request.trusted || !call->config->server_api_key_validation;
    if (call->admin || (call->route->flags & MF_ROUTE_OPEN) != 0) {
        return MF_OK;
    }
    mf_str key = MF_STR_NONE;
    MF_TRY(find_key(call, &key, err));
    mf_rc rc = mf_service_authenticate(call->door->service, key, &call->caller, err);
    if (rc == MF_E_AUTH) {
        return MF_FAIL_FIELD(err, rc, "api_key",
                             "Authentication failed: Invalid API key");
    }
    if (rc == MF_OK && (call->route->flags & MF_ROUTE_ADMIN) != 0) {
        return MF_FAIL_FIELD(err, MF_E_DENIED, "api_key",
                             "only an administrator may do this");
    }
    return rc;
}

static mf_rc check_content_type(mf_call *call, mf_err *err) {
    static const char *const refused[] = {"application/x-www-form-urlencoded",
                                          "multipart/form-data", "text/plain"};
    mf_str rest = call->request.content_type;
    mf_str type = mf_str_trim(mf_str_split(&rest, ';'));
    if (call->request.body.len == 0) {
        return MF_OK;
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (mf_str_eq_ignore_case(type, mf_str_from(refused[i]))) {
            call->status = 415;
            return MF_FAIL_FIELD(err, MF_E_INVAL, "content-type",
                                 "send the body with Content-Type: application/json");
        }
    }
    return MF_OK;
}

/* Deletions and flushes free memory, and who runs the server must get in. */
static mf_rc check_memory(const mf_call *call, mf_err *err) {
    enum { PER_BODY_BYTE = 6 }; /* parsed values, checked copies, rows */
    const unsigned spared = MF_ROUTE_INSTANT | MF_ROUTE_ALWAYS;
    if ((call->route->flags & spared) != 0 ||
        mf_str_eq(call->request.method, MF_STR("DELETE"))) {
        return MF_OK;
    }
    return mf_memory_guard_admit(mf_service_memory_guard(call->door->service),
                                 call->started_ns,
                                 call->request.body.len * PER_BODY_BYTE, err);
}

/* All gates behind the route's; MF_OK: the handler may run. */
static mf_rc pass_gates(mf_call *call, mf_err *err) {
    bool instant = (call->route->flags & MF_ROUTE_INSTANT) != 0;
    if (!instant && atomic_load(&call->door->draining)) {
        return MF_FAIL(err, MF_E_STOPPING, "the server is shutting down");
    }
    if (!instant && call->started_ns > call->request.deadline_ns) {
        return MF_FAIL(err, MF_E_TIMEOUT, "the request waited too long for its turn");
    }
    MF_TRY(check_memory(call, err));
    if (!instant && !call->request.trusted) {
        MF_TRY(check_rate(call, err));
    }
    MF_TRY(check_key(call, err));
    return check_content_type(call, err);
}

/* True when the reply stands in the call; false when the handler has passed it on. */
static bool answer(mf_call *call, mf_err *err) {
    char allow[MF_ROUTE_ALLOW_MAX];
    mf_rc rc = call->request.trusted ? MF_OK : check_host(call, err);
    if (rc == MF_OK && !call->request.trusted) {
        rc = check_origin(call, err);
    }
    if (rc == MF_OK) {
        rc = find_route(call, allow, err);
    }
    if (rc == MF_OK && call->route == NULL) {
        if (mf_str_eq(call->request.method, MF_STR("OPTIONS"))) {
            answer_options(call, allow);
            return true;
        }
        rc = fail_method(call, allow, err);
    }
    if (rc == MF_OK) {
        rc = pass_gates(call, err);
    }
    bool later = false;
    if (rc == MF_OK) {
        later = (call->route->flags & MF_ROUTE_LATER) != 0;
        rc = call->route->handler(call, err);
    }
    if (rc != MF_OK) {
        if (err->rc != rc) {
            (void)MF_FAIL(err, rc, "%s",
                          mf_rc_meaning(rc)); /* reported without a text */
        }
        mf_call_fail(call, err);
        return true;
    }
    return !later;
}

void mf_door_handle(mf_door *door, const mf_http_request *request, mf_reply_fn done,
                    void *ctx) {
    mf_call *call = mf_arena_alloc_array(request->arena, 1, sizeof *call);
    mf_call spare = {0};
    bool lacking = call == NULL;
    call = lacking ? &spare : call;
    call->door = door;
    call->request = *request;
    call->config = mf_settings_get(door->settings);
    call->started_ns = mf_now_ns();
    call->memory_before = call->config->memory_monitor ? mf_memory_monitor_begin() : 0;
    call->done = done;
    call->done_ctx = ctx;
    mf_err err = {0};
    if (lacking) {
        (void)MF_FAIL(&err, MF_E_NOMEM, "no memory for the request");
        mf_call_fail(call, &err);
        mf_call_end(call);
        return;
    }
    set_request_id(call);
    if (answer(call, &err)) {
        mf_call_end(call);
    }
}
