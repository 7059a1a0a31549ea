/* server.c - sockets in front of the door, on libmicrohttpd.
 *
 *   loop thread (one per address)      worker threads            any thread
 *   read request, gather body --box--> mf_door_handle ........> reply ready
 *        ^       suspend                                           |
 *        +----------------------- resume --------------------------+
 *
 * A connection is suspended while its request is worked on, so a loop thread never
 * waits. What a request needs lives in an exchange: arena, body, reply.  Exchanges are
 * kept for reuse, so a warm request allocates next to nothing here.
 *
 * A body whose announced length is too large is refused at once, after taking off the
 * socket what the client has sent already (conns.h); that table also cuts connections
 * whose requests take too long.
 *
 * Who owns what: an exchange belongs to the loop thread until it is pushed into the
 * box, to the door until its reply is there, and to the loop thread again until the
 * request is completed. */
#include "http/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/mutex.h"
#include "http/conns.h"
#include "http/listen.h"

enum {
    WORKERS_PER_CORE = 4,
    WORKERS_MAX = 256,
    POOL_BYTES = 32 * 1024, /* request line and headers of one connection */
    EXCHANGES_KEPT_MAX = 256,
    BODY_KEPT_MAX = 64 * 1024,    /* a larger buffer is given back after the request */
    ARENA_SPARE_BYTES = 64 << 20, /* of an arena, on top of the body's share */
    ARENA_PER_BODY_BYTE = 6,      /* text, parsed values, checked copies */
    BODIES_PER_MAX = 8            /* bodies of full size held at the same time */
};
static const uint64_t DROPPED_BYTES_MAX = UINT64_C(1) << 30;

typedef struct exchange {
    struct exchange *next; /* in the list of spare ones */
    mf_server *server;
    mf_conn_state *conn;
    struct MHD_Connection *connection;
    mf_arena *arena;
    mf_buf body;
    mf_str uri;        /* copied to the arena */
    bool started;      /* the head was seen */
    bool length_known; /* announced, and reserved at once */
    mf_rc refused;     /* why the rest of a gathered body is dropped, or MF_OK */
    bool closing;      /* the connection ends with this reply */
    bool ready;        /* `reply` may be sent */
    uint64_t dropped;
    size_t reserved; /* of the server's body_bytes */
    mf_http_request request;
    mf_http_reply reply; /* in the arena, or static */
} exchange;

typedef struct listener {
    mf_listen_socket socket;
    struct MHD_Daemon *daemon;
} listener;

struct mf_server {
    mf_door *door;
    mf_settings *settings;
    listener listeners[MF_SERVER_LISTEN_MAX];
    size_t listener_count;
    mf_mailbox *box; /* exchanges for the workers */
    mf_thread workers[WORKERS_MAX];
    size_t worker_count;
    mf_conns *conns;
    atomic_bool closing;
    atomic_size_t body_bytes; /* held for bodies, all requests together */

    mf_mutex spare_mu;
    exchange *spare;    /* guarded by spare_mu */
    size_t spare_count; /* guarded by spare_mu */

    _Atomic uint64_t requests, refused_busy, too_large;
};

static const mf_config *config_of(const mf_server *server) {
    return mf_settings_get(server->settings);
}

/* --- exchanges --- */

static void exchange_free(exchange *x) {
    if (x != NULL) {
        mf_arena_free(x->arena);
        mf_buf_done(&x->body);
        mf_free(x);
    }
}

static exchange *exchange_new(mf_server *server) {
    exchange *x = mf_alloc_zero(1, sizeof *x);
    size_t arena_max =
        (size_t)config_of(server)->server_body_max * ARENA_PER_BODY_BYTE +
        ARENA_SPARE_BYTES;
    if (x == NULL || mf_arena_new(arena_max, &x->arena, NULL) != MF_OK) {
        exchange_free(x);
        return NULL;
    }
    mf_buf_init(&x->body, (size_t)config_of(server)->server_body_max);
    x->server = server;
    return x;
}

/* False once the limit was changed by a reload after the exchange was made. */
static bool has_limit_in_force(const exchange *x) {
    return x->body.bytes_max == (size_t)config_of(x->server)->server_body_max;
}

static exchange *exchange_take(mf_server *server) {
    mf_mutex_lock(&server->spare_mu);
    exchange *x = server->spare;
    if (x != NULL) {
        server->spare = x->next;
        server->spare_count--;
    }
    mf_mutex_unlock(&server->spare_mu);
    if (x != NULL && !has_limit_in_force(x)) {
        exchange_free(x);
        x = NULL;
    }
    return x != NULL ? x : exchange_new(server);
}

static void exchange_give(exchange *x) {
    mf_server *server = x->server;
    atomic_fetch_sub(&server->body_bytes, x->reserved);
    mf_arena_reset(x->arena);
    mf_buf_clear(&x->body);
    if (x->body.capacity > BODY_KEPT_MAX) {
        size_t bytes_max = x->body.bytes_max;
        mf_buf_done(&x->body);
        mf_buf_init(&x->body, bytes_max);
    }
    *x = (exchange){.server = server, .arena = x->arena, .body = x->body};
    bool fits = has_limit_in_force(x);
    mf_mutex_lock(&server->spare_mu);
    bool keep = fits && server->spare_count < EXCHANGES_KEPT_MAX;
    if (keep) {
        x->next = server->spare;
        server->spare = x;
        server->spare_count++;
    }
    mf_mutex_unlock(&server->spare_mu);
    if (!keep) {
        exchange_free(x);
    }
}

/* Sets memory aside for `size` bytes of a body; false when the bodies of all requests
 * together would take too much. */
static bool reserve(exchange *x, size_t size) {
    mf_server *server = x->server;
    size_t most = (size_t)config_of(server)->server_body_max * BODIES_PER_MAX;
    size_t held = atomic_fetch_add(&server->body_bytes, size);
    if (held > most || size > most - held) {
        atomic_fetch_sub(&server->body_bytes, size);
        return false;
    }
    x->reserved += size;
    return true;
}

/* --- connections --- */

static void on_connection(void *cls, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode code) {
    mf_server *server = cls;
    if (code != MHD_CONNECTION_NOTIFY_STARTED) {
        mf_conns_remove(server->conns, *slot);
        *slot = NULL;
        return;
    }
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    /* Requests of one that cannot be listed are refused. */
    *slot = mf_conns_add(server->conns, fd != NULL ? fd->connect_fd : -1, connection,
                         address != NULL ? address->client_addr : NULL);
}

static mf_conn_state *conn_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

static void resume(void *connection) {
    MHD_resume_connection(connection);
}

/* --- the head of a request --- */

/* Called with the target as sent, before the library decodes and splits it. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *connection) {
    mf_server *server = cls;
    exchange *x = exchange_take(server);
    if (x == NULL) {
        return NULL;
    }
    x->connection = connection;
    x->conn = conn_of(connection);
    x->uri = mf_arena_str(x->arena, mf_str_from(uri));
    if (x->conn == NULL || x->uri.p == NULL) {
        exchange_give(x);
        return NULL;
    }
    return x;
}

/* "http://host/path" is as good as "/path". */
static mf_str without_authority(mf_str uri) {
    size_t scheme = mf_str_find(uri, MF_STR("://"), 0);
    if (mf_str_starts(uri, MF_STR("/")) || scheme == SIZE_MAX) {
        return uri;
    }
    size_t path = mf_str_find(uri, MF_STR("/"), scheme + 3);
    return path == SIZE_MAX ? MF_STR("/") : mf_str_sub(uri, path, uri.len);
}

typedef struct head {
    exchange *x;
    size_t lengths, hosts, codings;
    bool expects, good, malformed;
    mf_str length;
} head;

/* The library passes on "Content-Length : 5" under a name with a blank, which somebody
 * else may read as a length; the body behind it would be another request to us. */
static bool is_header_name(mf_str name) {
    for (size_t i = 0; i < name.len; i++) {
        if (name.p[i] <= ' ' || name.p[i] > '~') {
            return false;
        }
    }
    return name.len > 0;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                 const char *value) {
    (void)kind;
    head *h = cls;
    mf_http_request *r = &h->x->request;
    const struct {
        const char *name;
        mf_str *to;
        size_t *count;
    } known[] = {
        {"content-length", &h->length, &h->lengths},
        {"host", &r->host, &h->hosts},
        {"authorization", &r->authorization, NULL},
        {"x-api-key", &r->x_api_key, NULL},
        {"idempotency-key", &r->idempotency_key, NULL},
        {"content-type", &r->content_type, NULL},
        {"origin", &r->origin, NULL},
        {"x-request-id", &r->request_id, NULL},
    };
    mf_str name = mf_str_from(key);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (mf_str_eq_ignore_case(name, mf_str_from(known[i].name))) {
            *known[i].to = mf_arena_str(h->x->arena, mf_str_from(value));
            h->good = h->good && known[i].to->p != NULL;
            if (known[i].count != NULL) {
                (*known[i].count)++;
            }
            return MHD_YES;
        }
    }
    h->malformed = h->malformed || !is_header_name(name);
    if (mf_str_eq_ignore_case(name, MF_STR("transfer-encoding"))) {
        h->codings++;
        h->malformed = h->malformed ||
                       !mf_str_eq_ignore_case(mf_str_from(value), MF_STR("chunked"));
    }
    h->expects = h->expects || mf_str_eq_ignore_case(name, MF_STR("expect"));
    return MHD_YES;
}

static void fill_request(exchange *x, const char *method) {
    mf_http_request *r = &x->request;
    mf_str rest = without_authority(x->uri);
    r->method = mf_arena_str(x->arena, mf_str_from(method));
    r->path = mf_str_split(&rest, '?');
    r->query = rest;
    r->peer = (mf_str){x->conn->peer, x->conn->peer_len};
    r->trusted = x->conn->is_unix;
    r->arena = x->arena;
    r->deadline_ns = mf_conns_begin(x->server->conns, x->conn);
}

static void set_failure(exchange *x, mf_rc rc, const char *text) {
    mf_err err = {0};
    (void)MF_FAIL(&err, rc, "%s", text);
    mf_door_failure(&err, x->arena, &x->reply);
    x->ready = true;
}

static enum MHD_Result send_reply(exchange *x);

static enum MHD_Result refuse_head(exchange *x, const char *why) {
    set_failure(x, MF_E_INVAL, why);
    x->closing = true;
    return send_reply(x);
}

/* A body that will not be read: whatever is under way is taken off the socket first, so
 * that the client gets to see the reply in x->reply. */
static enum MHD_Result refuse_body(exchange *x, uint64_t length, bool expects) {
    x->closing = true;
    if (expects) {
        return send_reply(x); /* the client waits for leave to send */
    }
    MHD_suspend_connection(x->connection);
    if (!mf_conns_discard(x->server->conns, x->conn, length)) {
        MHD_resume_connection(x->connection);
    }
    return MHD_YES;
}

static enum MHD_Result on_head(exchange *x, const char *method, const char *version) {
    mf_server *server = x->server;
    head h = {.x = x, .good = true};
    x->started = true;
    atomic_fetch_add(&server->requests, 1);
    fill_request(x, method);
    (void)MHD_get_connection_values(x->connection, MHD_HEADER_KIND, on_header, &h);
    if (!h.good || x->request.method.p == NULL) {
        set_failure(x, MF_E_NOMEM, "no memory for the request");
        x->closing = true;
        return send_reply(x);
    }
    if (h.lengths > 1 || h.hosts > 1 || h.codings > 1 ||
        (h.lengths > 0 && h.codings > 0)) {
        return refuse_head(x, "contradicting headers");
    }
    if (h.malformed) {
        return refuse_head(x, "a header that is malformed or not supported");
    }
    if (h.hosts == 0 && strcmp(version, MHD_HTTP_VERSION_1_1) == 0) {
        return refuse_head(x, "the Host header is missing");
    }
    int64_t length = 0;
    if (h.lengths > 0 && (h.length.len == 0 || h.length.p[0] < '0' ||
                          h.length.p[0] > '9' || !mf_str_to_i64(h.length, &length))) {
        return refuse_head(x, "the Content-Length is not a number");
    }
    if (length > config_of(server)->server_body_max) {
        atomic_fetch_add(&server->too_large, 1);
        set_failure(x, MF_E_LIMIT, "the body is larger than server.body_max_bytes");
        return refuse_body(x, (uint64_t)length, h.expects);
    }
    if (!reserve(x, (size_t)length)) {
        atomic_fetch_add(&server->refused_busy, 1);
        set_failure(x, MF_E_BUSY, "too many large requests at the same time");
        return refuse_body(x, (uint64_t)length, h.expects);
    }
    x->length_known = h.lengths > 0;
    return MHD_YES;
}

/* --- the body --- */

/* A chunked body has no announced length, and a reply is only possible behind its end:
 * what is too much is read and dropped, within bounds. */
static enum MHD_Result on_body(exchange *x, const char *bytes, size_t *len) {
    size_t size = *len;
    *len = 0;
    if (x->refused == MF_OK && size > x->body.bytes_max - x->body.len) {
        x->refused = MF_E_LIMIT;
    }
    if (x->refused == MF_OK && !x->length_known && !reserve(x, size)) {
        x->refused = MF_E_BUSY;
    }
    if (x->refused == MF_OK) {
        x->refused = mf_buf_add(&x->body, bytes, size);
    }
    x->dropped += x->refused != MF_OK ? size : 0;
    return x->dropped <= DROPPED_BYTES_MAX ? MHD_YES : MHD_NO;
}

static enum MHD_Result refuse_gathered(exchange *x) {
    if (x->refused == MF_E_LIMIT) {
        atomic_fetch_add(&x->server->too_large, 1);
        set_failure(x, MF_E_LIMIT, "the body is larger than server.body_max_bytes");
    } else {
        atomic_fetch_add(&x->server->refused_busy, 1);
        set_failure(x, x->refused, "too many large requests at the same time");
    }
    x->closing = true;
    return send_reply(x);
}

/* --- work --- */

static void keep_reply(void *ctx, const mf_http_reply *reply) {
    exchange *x = ctx;
    x->reply = *reply; /* its parts are static or in the arena, which stays */
    x->ready = true;
}

static void finish_work(void *ctx, const mf_http_reply *reply) {
    keep_reply(ctx, reply);
    exchange *x = ctx;
    MHD_resume_connection(x->connection); /* the loop thread takes over at once */
}

static enum MHD_Result on_complete(exchange *x) {
    mf_server *server = x->server;
    if (x->refused != MF_OK) {
        return refuse_gathered(x);
    }
    x->request.body = mf_buf_view(&x->body);
    if (mf_door_is_instant(server->door, &x->request)) {
        mf_door_handle(server->door, &x->request, keep_reply, x);
        return send_reply(x);
    }
    mf_conns_work(server->conns, x->conn);
    MHD_suspend_connection(x->connection);
    mf_rc rc = mf_mailbox_push(server->box, x);
    if (rc != MF_OK) {
        atomic_fetch_add(&server->refused_busy, 1);
        set_failure(x, rc,
                    rc == MF_E_BUSY ? "too many requests are waiting"
                                    : "the server is shutting down");
        MHD_resume_connection(x->connection);
    }
    return MHD_YES;
}

static void run_worker(void *arg) {
    mf_server *server = arg;
    void *item = NULL;
    while (mf_mailbox_take(server->box, &item, 1, MF_NEVER) == 1) {
        exchange *x = item;
        mf_door_handle(server->door, &x->request, finish_work, x);
    }
}

/* --- the reply --- */

static void add_headers(struct MHD_Response *response, const mf_http_reply *reply) {
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  reply->content_type);
    for (size_t i = 0; i < reply->header_count; i++) {
        char value[512];
        mf_str text = reply->headers[i].value;
        if (text.p != NULL && text.len < sizeof value) {
            memcpy(value, text.p, text.len);
            value[text.len] = '\0';
            (void)MHD_add_response_header(response, reply->headers[i].name, value);
        }
    }
}

static enum MHD_Result send_reply(exchange *x) {
    mf_server *server = x->server;
    /* The library never writes to the body, though its parameter lacks the const. */
    union {
        const char *shared;
        void *bare;
    } body = {x->reply.body.p};
    struct MHD_Response *response = MHD_create_response_from_buffer(
        x->reply.body.len, body.bare, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        return MHD_NO;
    }
    add_headers(response, &x->reply);
    if (x->closing || atomic_load(&server->closing)) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    mf_conns_reply(server->conns, x->conn);
    enum MHD_Result queued =
        MHD_queue_response(x->connection, (unsigned)x->reply.status, response);
    MHD_destroy_response(response);
    return queued;
}

/* Called for the head, for each piece of the body, at the body's end, and after each
 * resume. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *bytes, size_t *len,
                                  void **slot) {
    (void)cls;
    (void)connection;
    (void)url;
    exchange *x = *slot;
    if (x == NULL) {
        return MHD_NO; /* no memory for it */
    }
    if (x->ready) {
        return send_reply(x);
    }
    if (!x->started) {
        return on_head(x, method, version);
    }
    return *len > 0 ? on_body(x, bytes, len) : on_complete(x);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code) {
    (void)connection;
    (void)code;
    mf_server *server = cls;
    exchange *x = *slot;
    *slot = NULL;
    if (x == NULL) {
        return;
    }
    mf_conns_end(server->conns, x->conn, x->started);
    exchange_give(x);
}

/* --- life --- */

mf_rc mf_server_open(mf_door *door, mf_settings *settings, mf_server **out,
                     mf_err *err) {
    mf_server *server = mf_alloc_zero(1, sizeof *server);
    if (server == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the HTTP server");
    }
    server->door = door;
    server->settings = settings;
    mf_rc rc =
        mf_mailbox_open((size_t)config_of(server)->server_queue_max, &server->box, err);
    if (rc == MF_OK) {
        rc = mf_conns_open(settings, resume, &server->conns, err);
    }
    if (rc != MF_OK) {
        mf_mailbox_close(server->box);
        mf_free(server);
        return rc;
    }
    mf_mutex_init(&server->spare_mu, MF_RANK_LEAF);
    *out = server;
    return MF_OK;
}

static mf_rc add_sockets(mf_server *server, mf_listen_socket *sockets, size_t count,
                         mf_err *err) {
    if (server->listener_count + count > MF_SERVER_LISTEN_MAX) {
        for (size_t i = 0; i < count; i++) {
            mf_listen_close(&sockets[i]);
        }
        return MF_FAIL(err, MF_E_LIMIT, "at most %d addresses can be listened on",
                       MF_SERVER_LISTEN_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        server->listeners[server->listener_count++].socket = sockets[i];
    }
    return MF_OK;
}

mf_rc mf_server_listen(mf_server *server, mf_str address,
                       char bound[MF_SERVER_ADDRESS_TEXT], mf_err *err) {
    mf_listen_socket sockets[MF_LISTEN_SOCKETS_MAX];
    size_t count = 0;
    char text[MF_SERVER_ADDRESS_TEXT];
    MF_TRY(mf_listen_tcp(address, sockets, &count, text, err));
    MF_TRY(add_sockets(server, sockets, count, err));
    if (bound != NULL) {
        memcpy(bound, text, sizeof text);
    }
    return MF_OK;
}

mf_rc mf_server_listen_unix(mf_server *server, const char *path, mf_err *err) {
    mf_listen_socket socket_made;
    MF_TRY(mf_listen_unix(path, &socket_made, err));
    return add_sockets(server, &socket_made, 1, err);
}

static void on_library_log(void *cls, const char *fmt, va_list args) {
    (void)cls;
    char text[256];
    if (mf_log_enabled(MF_LOG_DEBUG)) {
        (void)vsnprintf(text, sizeof text, fmt, args);
        mf_log(MF_LOG_DEBUG, "http.library", "text=%s", text);
    }
}

static mf_rc start_daemon(mf_server *server, listener *l, mf_err *err) {
    const mf_config *config = config_of(server);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_TURBO | MHD_USE_ERROR_LOG;
    l->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER,
        on_library_log, NULL, MHD_OPTION_LISTEN_SOCKET, l->socket.fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)config->server_connections_max,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)config->server_idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_END);
    if (l->daemon == NULL) {
        return MF_FAIL_SYS(err, MF_E_IO, errno, "cannot serve on %s", l->socket.text);
    }
    return MF_OK;
}

mf_rc mf_server_start(mf_server *server, mf_err *err) {
    int64_t wanted = config_of(server)->server_workers;
    if (wanted == 0) {
        wanted = sysconf(_SC_NPROCESSORS_ONLN) * WORKERS_PER_CORE;
    }
    size_t count = wanted < WORKERS_MAX ? (size_t)wanted : WORKERS_MAX;
    while (server->worker_count < count) {
        MF_TRY(mf_thread_start(&server->workers[server->worker_count], "mf-worker",
                               run_worker, server, err));
        server->worker_count++;
    }
    for (size_t i = 0; i < server->listener_count; i++) {
        MF_TRY(start_daemon(server, &server->listeners[i], err));
    }
    return MF_OK;
}

static void stop_listening(mf_server *server) {
    for (size_t i = 0; i < server->listener_count; i++) {
        listener *l = &server->listeners[i];
        if (l->daemon != NULL) {
            (void)MHD_quiesce_daemon(l->daemon);
        }
        mf_listen_refuse(&l->socket);
    }
}

static void stop_threads(mf_server *server) {
    mf_mailbox_stop(server->box);
    for (size_t i = 0; i < server->worker_count; i++) {
        mf_thread_join(&server->workers[i]);
    }
    mf_conns_wait_for_suspended(server->conns);
    for (size_t i = 0; i < server->listener_count; i++) {
        if (server->listeners[i].daemon != NULL) {
            MHD_stop_daemon(server->listeners[i].daemon);
        }
        /* Not before: the daemon's thread takes the socket out of its set only once it
         * wakes up. */
        mf_listen_close(&server->listeners[i].socket);
    }
}

void mf_server_close(mf_server *server, int64_t deadline_ns) {
    if (server == NULL) {
        return;
    }
    mf_door_drain(server->door);
    atomic_store(&server->closing, true);
    stop_listening(server);
    mf_conns_drain(server->conns, deadline_ns);
    stop_threads(server);
    mf_conns_close(server->conns);
    while (server->spare != NULL) {
        exchange *x = server->spare;
        server->spare = x->next;
        exchange_free(x);
    }
    mf_mailbox_close(server->box);
    mf_mutex_done(&server->spare_mu);
    mf_free(server);
}

void mf_server_get_stats(mf_server *server, mf_server_stats *out) {
    mf_mailbox_stats queue;
    mf_mailbox_get_stats(server->box, &queue);
    *out = (mf_server_stats){
        .requests = atomic_load(&server->requests),
        .refused_busy = atomic_load(&server->refused_busy),
        .timeouts = mf_conns_cut_count(server->conns),
        .too_large = atomic_load(&server->too_large),
        .queue_depth = queue.depth,
        .queue_depth_max = queue.depth_max,
    };
    out->connections = mf_conns_count(server->conns);
}
