/* door.h - the HTTP API as a function: a request in, a reply out, no sockets.
 *
 * The door knows the routes (routes.def), reads and checks bodies, calls service/ and
 * writes the envelope.  The socket side (server.h) and the library's in-process calls
 * both go through mf_door_handle, so what is tested here is what is served. */
#ifndef MF_HTTP_DOOR_H
#define MF_HTTP_DOOR_H

#include "base/arena.h"
#include "service/service.h"

typedef struct mf_door mf_door;

typedef struct mf_http_request {
    mf_str method; /* "GET", ... */
    mf_str path;   /* raw, still percent-encoded, without the query */
    mf_str query;  /* raw, without '?' */
    mf_str body;
    mf_str authorization; /* header values; empty when absent */
    mf_str x_api_key;
    mf_str idempotency_key;
    mf_str content_type;
    mf_str origin;
    mf_str host;       /* checked against foreign names unless trusted; may be empty */
    mf_str request_id; /* X-Request-Id, or made by the server; echoed */
    mf_str peer;       /* address of the caller, for the rate limit; empty: none */
    bool trusted;      /* the local socket or in-process: no key needed, no limit */
    int64_t deadline_ns;
    mf_arena *arena; /* lives, like every view above, until `done` has returned */
} mf_http_request;

enum { MF_HTTP_HEADERS_MAX = 16 };

typedef struct mf_http_reply {
    int status;
    const char *content_type;
    mf_str body; /* in the request's arena, or static */
    struct {
        const char *name;
        mf_str value;
    } headers[MF_HTTP_HEADERS_MAX];
    size_t header_count;
} mf_http_reply;

typedef void (*mf_reply_fn)(void *ctx, const mf_http_reply *reply);

MF_CHECKED mf_rc mf_door_open(mf_service *service, mf_settings *settings, mf_door **out,
                              mf_err *err);
void mf_door_close(mf_door *door);

/* True for a request that answers without waiting for anything (health): the socket
 * side serves it on the spot even when every worker is busy. */
bool mf_door_is_instant(const mf_door *door, const mf_http_request *request);
/* `done` is called exactly once, from any thread, possibly before this returns; `reply`
 * is valid for the call only. */
void mf_door_handle(mf_door *door, const mf_http_request *request, mf_reply_fn done,
                    void *ctx);
/* A reply for failures found before there is a request to handle (too large, too slow,
 * queue full); in arena memory. */
void mf_door_failure(const mf_err *err, mf_arena *arena, mf_http_reply *out);

/* New requests get 503 with Retry-After from now on; health stays 200. */
void mf_door_drain(mf_door *door);

#endif
