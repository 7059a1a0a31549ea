/* router.c - which route a method and path mean.
 *
 * The path is cut at its slashes before anything is decoded, so an encoded slash stays
 * inside its part.  Forty patterns of at most four parts are compared one after the
 * other: that is a few hundred nanoseconds, less than any cleverness would save. */
#include "http/router.h"

#include <stdio.h>

#include "http/handlers.h"
#include "text/url.h"

#define OPEN MF_ROUTE_OPEN
#define ADMIN MF_ROUTE_ADMIN
#define LATER MF_ROUTE_LATER
#define AGENT MF_ROUTE_AGENT
#define BARE MF_ROUTE_BARE
#define INSTANT MF_ROUTE_INSTANT
#define ALWAYS MF_ROUTE_ALWAYS
const mf_route mf_routes[] = {
#define MF_ROUTE(method, pattern, handler, flags, parameters, body, data, success,     \
                 summary)                                                              \
    {#method, pattern, mf_handle_##handler, flags, parameters, body, data,             \
     success, summary},
#include "http/routes.def"
#undef MF_ROUTE
};
#undef OPEN
#undef ADMIN
#undef LATER
#undef AGENT
#undef BARE
#undef INSTANT
#undef ALWAYS

const size_t mf_route_count = sizeof mf_routes / sizeof mf_routes[0];

enum { PARTS_MAX = 6 };

typedef struct parts {
    mf_str part[PARTS_MAX];
    size_t count;
} parts;

/* "/a/b/" and "/a/b" have the parts a and b; false when there are too many, or none. */
static bool split_path(mf_str path, parts *out) {
    out->count = 0;
    if (path.len == 0 || path.p[0] != '/') {
        return false;
    }
    mf_str rest = mf_str_sub(path, 1, path.len);
    if (mf_str_ends(rest, MF_STR("/"))) {
        rest.len--;
    }
    while (rest.p != NULL) {
        if (out->count == PARTS_MAX) {
            return false;
        }
        out->part[out->count++] = mf_str_split(&rest, '/');
    }
    return out->count > 0;
}

static bool is_param(mf_str part) {
    return part.len > 0 && part.p[0] == '{';
}

static bool fits(const parts *pattern, const parts *path) {
    if (pattern->count != path->count) {
        return false;
    }
    for (size_t i = 0; i < path->count; i++) {
        bool same = is_param(pattern->part[i])
                        ? path->part[i].len > 0
                        : mf_str_eq(pattern->part[i], path->part[i]);
        if (!same) {
            return false;
        }
    }
    return true;
}

static bool take_params(const parts *pattern, const parts *path, mf_arena *arena,
                        mf_match *out) {
    size_t n = 0;
    for (size_t i = 0; i < path->count; i++) {
        if (is_param(pattern->part[i])) {
            mf_str value = mf_url_decode(path->part[i], false, arena);
            if (value.p == NULL) {
                return false;
            }
            out->params[n++] = value;
        }
    }
    return true;
}

static void add_allow(char *allow, const char *method) {
    size_t len = strlen(allow);
    const char *and_head = strcmp(method, "GET") == 0 ? ", HEAD" : "";
    (void)snprintf(allow + len, MF_ROUTE_ALLOW_MAX - len, "%s%s%s", len > 0 ? ", " : "",
                   method, and_head);
}

bool mf_route_match(mf_str method, mf_str path, mf_arena *arena, mf_match *out) {
    *out = (mf_match){0};
    mf_str prefix = MF_STR("/api/v1");
    bool bare = !mf_str_starts(path, MF_STR("/api/v1/"));
    if (!bare) {
        path = mf_str_sub(path, prefix.len, path.len);
    }
    parts asked;
    if (!split_path(path, &asked)) {
        return true;
    }
    mf_str wanted = mf_str_eq(method, MF_STR("HEAD")) ? MF_STR("GET") : method;
    for (size_t i = 0; i < mf_route_count; i++) {
        const mf_route *route = &mf_routes[i];
        parts pattern;
        if ((bare && (route->flags & MF_ROUTE_BARE) == 0) ||
            !split_path(mf_str_from(route->pattern), &pattern) ||
            !fits(&pattern, &asked)) {
            continue;
        }
        add_allow(out->allow, route->method);
        if (mf_str_eq(wanted, mf_str_from(route->method))) {
            out->route = route;
            if (!take_params(&pattern, &asked, arena, out)) {
                return false;
            }
        }
    }
    if (out->allow[0] != '\0') {
        add_allow(out->allow, "OPTIONS");
    }
    return true;
}

void mf_routes_markdown(mf_buf *out) {
    (void)mf_buf_printf(out,
                        "| Method and path | Success | Key needed | What it does |\n"
                        "|---|---|---|---|\n");
    for (size_t i = 0; i < mf_route_count; i++) {
        const mf_route *route = &mf_routes[i];
        const char *key = (route->flags & MF_ROUTE_OPEN)    ? "no"
                          : (route->flags & MF_ROUTE_ADMIN) ? "administrator"
                                                            : "yes";
        (void)mf_buf_printf(out, "| %s `/api/v1%s` | %d | %s | %s |\n", route->method,
                            route->pattern, route->success, key, route->summary);
    }
}
