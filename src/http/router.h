/* router.h - which route a method and path mean.
 *
 * The table is routes.def; it never changes, so everything here is safe from any
 * thread. */
#ifndef MF_HTTP_ROUTER_H
#define MF_HTTP_ROUTER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

typedef struct mf_call mf_call;

enum {
    MF_ROUTE_OPEN = 1,
    MF_ROUTE_ADMIN = 2,
    MF_ROUTE_LATER = 4,
    MF_ROUTE_AGENT = 8,
    MF_ROUTE_BARE = 16,
    MF_ROUTE_INSTANT = 32,
    MF_ROUTE_ALWAYS = 64
};

enum { MF_ROUTE_PARAMS_MAX = 2, MF_ROUTE_ALLOW_MAX = 64 };

typedef struct mf_route {
    const char *method;
    const char *pattern;
    mf_rc (*handler)(mf_call *call, mf_err *err);
    unsigned flags;
    const char *parameters; /* names of query parameters, separated by blanks */
    const char *body;       /* schema of the request's body, or "" */
    const char *data;       /* schema of the reply's data: "Schema", "key:Schema",
                               "key:[Schema]", or "" */
    int success;
    const char *summary;
} mf_route;

typedef struct mf_match {
    const mf_route *route;              /* NULL: no route for this method */
    mf_str params[MF_ROUTE_PARAMS_MAX]; /* decoded, in arena memory */
    char allow[MF_ROUTE_ALLOW_MAX]; /* methods of the path; "" for an unknown path */
} mf_match;

extern const mf_route mf_routes[];
extern const size_t mf_route_count;

/* `path` is still percent-encoded.  HEAD finds the route of GET.  false: out of
 * memory. */
bool mf_route_match(mf_str method, mf_str path, mf_arena *arena, mf_match *out);

/* The table as Markdown, for docs/http-api.md. */
void mf_routes_markdown(mf_buf *out);

#endif
