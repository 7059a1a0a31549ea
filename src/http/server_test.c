/* server_test.c - what raw clients, good and rude, see on the wire.
 *
 * Each test opens a server of its own on a free port of the loopback, over a service
 * that keeps everything in memory.  Where a test waits, it waits for something the
 * server does, within the time-out of its socket. */
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "http/door_testing.h"
#include "store/memory/memory_store.h"

enum { WAIT_MS = 20000, REPLY_MAX = 256 * 1024 };

typedef struct fixture {
    mf_testing parts;
    mf_server *server;
    int port;
} fixture;

static int port_in(const char *address) {
    int64_t port = 0;
    assert_true(mf_str_to_i64(mf_str_from(strrchr(address, ':') + 1), &port));
    return (int)port;
}

static void start(fixture *f, const char *const *sets, size_t count) {
    mf_err err = {0};
    char bound[MF_SERVER_ADDRESS_TEXT];
    *f = (fixture){0};
    mf_store *store = NULL;
    if (mf_memory_store_open(&store, &err) != MF_OK ||
        mf_testing_open(&f->parts, store, sets, count, &err) != MF_OK ||
        mf_server_open(f->parts.door, f->parts.settings, &f->server, &err) != MF_OK ||
        mf_server_listen(f->server, MF_STR("127.0.0.1:0"), bound, &err) != MF_OK ||
        mf_server_start(f->server, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    f->port = port_in(bound);
}

static void stop(fixture *f) {
    mf_server_close(f->server, mf_deadline_in_ms(5000));
    mf_testing_close(&f->parts);
}

/* --- a raw client --- */

static int dial(const fixture *f) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)f->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval wait = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say_bytes(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        bytes += n;
        len -= (size_t)n;
    }
}

static void say(int fd, const char *text) {
    say_bytes(fd, text, strlen(text));
}

typedef struct reply {
    char bytes[REPLY_MAX];
    size_t len;
    int status;
    const char *body;
    size_t body_len;
    size_t segments; /* how many reads it took */
} reply;

/* True when `r` holds a whole reply; fills in its parts. */
static bool is_whole(reply *r, bool head_only) {
    r->bytes[r->len] = '\0';
    const char *end = strstr(r->bytes, "\r\n\r\n");
    if (end == NULL || sscanf(r->bytes, "HTTP/1.1 %d", &r->status) != 1) {
        return false;
    }
    const char *length = strcasestr(r->bytes, "content-length:");
    r->body = end + 4;
    r->body_len = head_only || length == NULL || length > end
                      ? 0
                      : (size_t)strtoul(length + strlen("content-length:"), NULL, 10);
    return (size_t)(r->bytes + r->len - r->body) >= r->body_len;
}

/* Reads one reply.  `r->bytes` may hold the beginning already (pipelining).  false when
 * the connection ended first. */
static bool hear_as(int fd, reply *r, bool head_only) {
    r->segments = 0;
    while (!is_whole(r, head_only)) {
        ssize_t n = recv(fd, r->bytes + r->len, sizeof r->bytes - 1 - r->len, 0);
        if (n <= 0) {
            assert_true(n == 0 || errno == ECONNRESET);
            return false;
        }
        r->len += (size_t)n;
        r->segments++;
    }
    return true;
}

static void hear(int fd, reply *r) {
    r->len = 0;
    assert_true(hear_as(fd, r, false));
}

/* Moves what came behind the first reply to the front. */
static void next_reply(reply *r) {
    size_t used = (size_t)(r->body - r->bytes) + r->body_len;
    memmove(r->bytes, r->bytes + used, r->len - used);
    r->len -= used;
}

static bool is_closed(int fd) {
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    assert_true(n >= 0 || errno == ECONNRESET);
    return n <= 0;
}

static void post(int fd, const char *path, const char *body, reply *r) {
    char head[512];
    (void)snprintf(
        head, sizeof head,
        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n",
        path, strlen(body));
    char *whole = mf_alloc(strlen(head) + strlen(body) + 1);
    assert_non_null(whole);
    memcpy(whole, head, strlen(head));
    memcpy(whole + strlen(head), body, strlen(body) + 1);
    say(fd, whole);
    mf_free(whole);
    hear(fd, r);
}

static const char HEALTH[] = "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
static reply r; /* large, and one at a time */

/* --- manners --- */

static void forty_requests_use_one_connection_and_one_segment_each(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    for (int i = 0; i < 20; i++) {
        say(fd, HEALTH);
        hear(fd, &r);
        assert_int_equal(r.status, 200);
        assert_int_equal(r.segments, 1);
        assert_true(r.len < 450);
        say(fd, "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n");
        hear(fd, &r);
        assert_int_equal(r.status, 200);
        assert_int_equal(r.segments, 1);
    }
    mf_server_stats stats;
    mf_server_get_stats(f.server, &stats);
    assert_int_equal(stats.requests, 40);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void head_is_get_without_the_body(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    say(fd, "HEAD /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n");
    r.len = 0;
    assert_true(hear_as(fd, &r, true));
    assert_int_equal(r.status, 200);
    assert_non_null(strcasestr(r.bytes, "content-length: "));
    assert_string_equal(r.body, "");
    say(fd, HEALTH);
    hear(fd, &r); /* nothing of a body lies in between */
    assert_int_equal(r.status, 200);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void pipelined_requests_are_answered_in_order(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    say(fd, "GET /api/v1/nope HTTP/1.1\r\nHost: localhost\r\n\r\n"
            "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            "PATCH /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n"
            "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n");
    static const int wanted[] = {404, 200, 405, 200};
    r.len = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_true(hear_as(fd, &r, false));
        assert_int_equal(r.status, wanted[i]);
        next_reply(&r);
    }
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void a_chunked_body_is_put_together(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    say(fd, "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
            "chunked\r\n\r\n"
            "8\r\n{\"name\":\r\n");
    say(fd, "9\r\n\"chunked\"\r\n1\r\n}\r\n0\r\n\r\n");
    hear(fd, &r);
    assert_int_equal(r.status, 201);
    assert_non_null(strstr(r.body, "\"name\":\"chunked\""));
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void a_client_that_expects_continue_gets_it(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    say(fd, "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            "Content-Length: 12\r\n\r\n");
    r.len = 0;
    assert_true(hear_as(fd, &r, true));
    assert_int_equal(r.status, 100);
    say(fd, "{\"name\":\"x\"}");
    hear(fd, &r);
    assert_int_equal(r.status, 201);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void an_absolute_target_means_its_path(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    say(fd, "GET http://localhost/api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void a_megabyte_survives_byte_for_byte(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    enum { SIZE = 1000000 };
    char *body = mf_alloc(SIZE + 64);
    assert_non_null(body);
    int head = snprintf(body, 64, "{\"name\":\"big\",\"description\":\"");
    for (int i = 0; i < SIZE; i++) {
        body[head + i] = (char)('a' + i % 26);
    }
    memcpy(body + head + SIZE, "\"}", 3);
    char request[256];
    (void)snprintf(
        request, sizeof request,
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
        strlen(body));
    say(fd, request);
    say(fd, body);
    char *back = mf_alloc(SIZE + 4096);
    assert_non_null(back);
    size_t len = 0;
    while (len < SIZE + 300) {
        ssize_t n = recv(fd, back + len, SIZE + 4095 - len, 0);
        assert_true(n > 0);
        len += (size_t)n;
        back[len] = '\0';
        if (strstr(back + (len > 20 ? len - 20 : 0), "\"errors\":null}") != NULL) {
            break;
        }
    }
    const char *text = strstr(back, "\"description\":\"");
    assert_non_null(text);
    assert_memory_equal(text + strlen("\"description\":\""), body + head, SIZE);
    mf_free(back);
    mf_free(body);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void request_ids_are_echoed_when_harmless(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    say(fd,
        "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: abc-1\r\n\r\n");
    hear(fd, &r);
    assert_non_null(strstr(r.bytes, "X-Request-Id: abc-1\r\n"));
    say(fd,
        "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a b\r\n\r\n");
    hear(fd, &r);
    assert_null(strstr(r.bytes, "X-Request-Id: a b"));
    assert_non_null(strstr(r.bytes, "X-Request-Id: "));
    assert_int_equal(close(fd), 0);
    stop(&f);
}

/* --- limits --- */

static const char *const small_bodies[] = {"server.body_max_bytes=1024"};

static void a_body_of_the_limit_passes_and_one_byte_more_does_not(void **state) {
    (void)state;
    fixture f;
    start(&f, small_bodies, 1);
    char body[1100];
    for (size_t extra = 0; extra <= 1; extra++) {
        int fd = dial(&f);
        size_t size = 1024 + extra;
        memset(body, ' ', size);
        memcpy(body, "{\"name\":\"x\"}", 12);
        body[size] = '\0';
        post(fd, "/api/v1/users", body, &r);
        assert_int_equal(r.status, extra == 0 ? 201 : 413);
        if (extra == 1) {
            assert_non_null(strstr(r.body, "\"code\":413,\"data\":null"));
            assert_non_null(strcasestr(r.bytes, "connection: close"));
            assert_true(is_closed(fd));
        }
        assert_int_equal(close(fd), 0);
    }
    stop(&f);
}

static void a_sender_of_far_too_much_still_sees_the_413(void **state) {
    (void)state;
    fixture f;
    start(&f, small_bodies, 1);
    int fd = dial(&f);
    enum { PIECE = 64 * 1024, PIECES = 64 };
    char head[128];
    (void)snprintf(
        head, sizeof head,
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
        PIECE * PIECES);
    say(fd, head);
    char *piece = mf_alloc_zero(1, PIECE);
    assert_non_null(piece);
    for (int i = 0; i < PIECES; i++) {
        say_bytes(fd, piece, PIECE);
    }
    mf_free(piece);
    hear(fd, &r);
    assert_int_equal(r.status, 413);
    assert_true(is_closed(fd));
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void an_announced_length_is_refused_before_it_is_sent(void **state) {
    (void)state;
    fixture f;
    start(&f, small_bodies, 1);
    static const char *const extra[] = {"", "Expect: 100-continue\r\n"};
    for (size_t i = 0; i < 2; i++) {
        int fd = dial(&f);
        char head[256];
        (void)snprintf(
            head, sizeof head,
            "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: "
            "99999999999\r\n\r\n",
            extra[i]);
        say(fd, head);
        hear(fd, &r);
        assert_int_equal(r.status, 413);
        assert_int_equal(close(fd), 0);
    }
    stop(&f);
}

static void a_chunked_body_over_the_limit_is_refused_at_its_end(void **state) {
    (void)state;
    fixture f;
    start(&f, small_bodies, 1);
    int fd = dial(&f);
    say(fd, "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
            "chunked\r\n\r\n");
    char chunk[1024];
    memset(chunk, 'x', sizeof chunk);
    for (int i = 0; i < 8; i++) {
        say(fd, "400\r\n");
        say_bytes(fd, chunk, sizeof chunk);
        say(fd, "\r\n");
    }
    say(fd, "0\r\n\r\n");
    hear(fd, &r);
    assert_int_equal(r.status, 413);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void hostile_heads_get_an_error_or_no_answer_but_never_two(void **state) {
    (void)state;
    static const char *const rows[] = {
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{\"name\":\"x\"}",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n"
        "Content-Length: 13\r\n\r\n{\"name\":\"x\"}",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        "+5\r\n\r\n12345",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        "5x\r\n\r\n12345",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length : "
        "12\r\n\r\n{\"name\":\"x\"}",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\n: 12\r\n\r\n",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked, chunked\r\n\r\n0\r\n\r\n",
        "GET /api/v1/users HTTP/1.1\r\n\r\n",
        "GET /api/v1/users HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET\r\n\r\n",
        "\r\n\r\n\r\n\r\nGARBAGE\r\n\r\n",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\n"
        "ffffffffffffffffff\r\nx",
        "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\n"
        "zz\r\n",
    };
    fixture f;
    start(&f, NULL, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int fd = dial(&f);
        say(fd, rows[i]);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        r.len = 0;
        if (hear_as(fd, &r, false)) {
            if (r.status < 400) {
                fail_msg("row %zu: status %d", i, r.status);
            }
            assert_true(is_closed(fd));
        }
        assert_int_equal(close(fd), 0);
    }
    int fd = dial(&f);
    say(fd, HEALTH);
    hear(fd, &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void headers_over_the_limit_are_refused(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    int fd = dial(&f);
    char filler[1025];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    (void)send(fd, "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\n", 45,
               MSG_NOSIGNAL);
    for (int i = 0; i < 64; i++) {
        char line[1100];
        int len = snprintf(line, sizeof line, "X-%d: %s\r\n", i, filler);
        if (send(fd, line, (size_t)len, MSG_NOSIGNAL) < 0) {
            break; /* refused already */
        }
    }
    (void)send(fd, "\r\n", 2, MSG_NOSIGNAL);
    r.len = 0;
    if (hear_as(fd, &r, false)) {
        assert_true(r.status >= 400 && r.status < 500);
    }
    assert_int_equal(close(fd), 0);
    stop(&f);
}

/* --- time
 *
 *
 * ------------------------------------------------------------------------------------
 */

static const char *const hasty[] = {"server.request_timeout_ms=300"};

/* Sends a byte every few milliseconds until the server has enough of it. */
static void drip_until_cut(int fd) {
    int64_t end_ns = mf_deadline_in_ms(WAIT_MS);
    for (;;) {
        assert_true(mf_now_ns() < end_ns);
        if (send(fd, "x", 1, MSG_NOSIGNAL) < 0) {
            break;
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) == 1) {
            char byte;
            assert_true(recv(fd, &byte, 1, 0) <= 0);
            break;
        }
    }
    assert_int_equal(close(fd), 0);
}

static void a_dripping_body_is_cut_off(void **state) {
    (void)state;
    fixture f;
    start(&f, hasty, 1);
    int fd = dial(&f);
    say(fd, "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            "100000\r\n\r\n");
    drip_until_cut(fd);
    mf_server_stats stats;
    mf_server_get_stats(f.server, &stats);
    assert_int_equal(stats.timeouts, 1);
    stop(&f);
}

static void dripping_headers_are_cut_off_on_new_and_on_kept_connections(void **state) {
    (void)state;
    fixture f;
    start(&f, hasty, 1);
    for (int kept = 0; kept <= 1; kept++) {
        int fd = dial(&f);
        if (kept == 1) {
            say(fd, HEALTH);
            hear(fd, &r);
        }
        say(fd, "GET /api/v1/users HTTP/1.1\r\nX: ");
        drip_until_cut(fd);
    }
    stop(&f);
}

static void an_idle_connection_outlives_the_request_timeout(void **state) {
    (void)state;
    fixture f;
    start(&f, hasty, 1);
    int idle = dial(&f);
    say(idle, HEALTH);
    hear(idle, &r);
    int dripping = dial(&f); /* its end proves that the time-out has passed for both */
    say(dripping, "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                  "9999\r\n\r\n");
    drip_until_cut(dripping);
    say(idle, HEALTH);
    hear(idle, &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(close(idle), 0);
    stop(&f);
}

/* --- load and stop --- */

/* Makes a user, an agent and a session; gives the id of the session. */
static void make_session(int fd, char id[MF_UUID_TEXT + 1]) {
    char user[MF_UUID_TEXT + 1];
    char agent[MF_UUID_TEXT + 1];
    char body[256];
    post(fd, "/api/v1/users", "{\"name\":\"u\"}", &r);
    assert_int_equal(sscanf(strstr(r.body, "\"id\":\"") + 6, "%36s", user), 1);
    post(fd, "/api/v1/agents", "{\"name\":\"a\"}", &r);
    assert_int_equal(sscanf(strstr(r.body, "\"id\":\"") + 6, "%36s", agent), 1);
    (void)snprintf(body, sizeof body, "{\"user_id\":\"%s\",\"agent_id\":\"%s\"}", user,
                   agent);
    post(fd, "/api/v1/sessions", body, &r);
    assert_int_equal(r.status, 201);
    assert_int_equal(sscanf(strstr(r.body, "\"id\":\"") + 6, "%36s", id), 1);
}

/* A write that holds up the writer thread until it is let go, and with it every worker
 * that waits for a commit. */
typedef struct roadblock {
    mf_mutex block_mu;
    mf_cond changed;
    bool reached, open; /* guarded by block_mu */
    bool finished;      /* guarded by block_mu */
} roadblock;

static mf_rc block_run(mf_conn *conn, void *ctx, mf_err *err) {
    (void)conn;
    (void)err;
    roadblock *b = ctx;
    mf_mutex_lock(&b->block_mu);
    b->reached = true;
    mf_cond_broadcast(&b->changed);
    while (!b->open) {
        (void)mf_cond_wait(&b->changed, &b->block_mu, MF_NEVER);
    }
    mf_mutex_unlock(&b->block_mu);
    return MF_OK;
}

static void block_done(void *ctx, mf_rc rc, const mf_err *err) {
    (void)rc;
    (void)err;
    roadblock *b = ctx;
    mf_mutex_lock(&b->block_mu);
    b->finished = true;
    mf_cond_broadcast(&b->changed);
    mf_mutex_unlock(&b->block_mu);
}

static void block_writer(fixture *f, roadblock *b, mf_write *op) {
    *b = (roadblock){0};
    mf_mutex_init(&b->block_mu, MF_RANK_LEAF);
    mf_cond_init(&b->changed);
    *op = (mf_write){block_run, block_done, b};
    assert_int_equal(mf_writer_submit(f->parts.writer, op, NULL), MF_OK);
    mf_mutex_lock(&b->block_mu);
    while (!b->reached) {
        assert_true(
            mf_cond_wait(&b->changed, &b->block_mu, mf_deadline_in_ms(WAIT_MS)));
    }
    mf_mutex_unlock(&b->block_mu);
}

static void unblock_writer(roadblock *b) {
    mf_mutex_lock(&b->block_mu);
    b->open = true;
    mf_cond_broadcast(&b->changed);
    while (!b->finished) {
        assert_true(
            mf_cond_wait(&b->changed, &b->block_mu, mf_deadline_in_ms(WAIT_MS)));
    }
    mf_mutex_unlock(&b->block_mu);
    mf_cond_done(&b->changed);
    mf_mutex_done(&b->block_mu);
}

static const char CREATE_USER[] =
    "POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"
    "{\"name\":\"x\"}";

/* Polls until `count` writes wait behind the one that blocks: their requests have
 * reached a worker and got through the door. */
static void wait_for_writes(fixture *f, size_t count) {
    int64_t end_ns = mf_deadline_in_ms(WAIT_MS);
    mf_writer_stats stats;
    do {
        assert_true(mf_now_ns() < end_ns);
        mf_writer_get_stats(f->parts.writer, &stats);
    } while (stats.queue.depth != count);
}

/* Polls until `depth` requests wait for a worker. */
static void wait_for_queue(fixture *f, size_t depth) {
    int64_t end_ns = mf_deadline_in_ms(WAIT_MS);
    mf_server_stats stats;
    do {
        assert_true(mf_now_ns() < end_ns);
        mf_server_get_stats(f->server, &stats);
    } while (stats.queue_depth != depth);
}

static void a_full_queue_answers_503_at_once_and_health_still_200(void **state) {
    (void)state;
    static const char *const sets[] = {"server.workers=1", "server.queue_max=1"};
    fixture f;
    start(&f, sets, 2);
    roadblock b;
    mf_write op;
    block_writer(&f, &b, &op);
    int working = dial(&f);
    say(working, CREATE_USER);
    wait_for_writes(&f, 1);
    int waiting = dial(&f);
    say(waiting, CREATE_USER);
    wait_for_queue(&f, 1);
    int refused = dial(&f);
    say(refused, CREATE_USER);
    hear(refused, &r);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.bytes, "Retry-After: 1\r\n"));
    assert_non_null(strstr(r.body, "\"status\":\"error\",\"code\":503,\"data\":null"));
    say(refused, HEALTH);
    hear(refused, &r);
    assert_int_equal(r.status, 200);
    unblock_writer(&b);
    hear(working, &r);
    assert_int_equal(r.status, 201);
    hear(waiting, &r);
    assert_int_equal(r.status, 400); /* the name is taken by now */
    assert_int_equal(close(working), 0);
    assert_int_equal(close(waiting), 0);
    assert_int_equal(close(refused), 0);
    stop(&f);
}

static void close_server(void *arg) {
    fixture *f = arg;
    mf_server_close(f->server, mf_deadline_in_ms(WAIT_MS));
}

/* A stop begins by closing the listening socket. */
static void wait_until_nobody_listens(const fixture *f) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)f->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int64_t end_ns = mf_deadline_in_ms(WAIT_MS);
    bool listening = true;
    while (listening) {
        assert_true(mf_now_ns() < end_ns);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fd >= 0);
        listening = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
        assert_int_equal(close(fd), 0);
    }
}

static void a_stop_finishes_what_is_under_way_and_refuses_the_rest(void **state) {
    (void)state;
    static const char *const sets[] = {"server.workers=2"};
    fixture f;
    start(&f, sets, 1);
    int kept = dial(&f);
    char session[MF_UUID_TEXT + 1];
    make_session(kept, session);
    roadblock b;
    mf_write op;
    block_writer(&f, &b, &op);
    int working = dial(&f);
    char body[128];
    char request[512];
    (void)snprintf(body, sizeof body,
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"last words\"}]}");
    (void)snprintf(request, sizeof request,
                   "POST /api/v1/sessions/%s/messages HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Length: %zu\r\n\r\n%s",
                   session, strlen(body), body);
    say(working, request);
    wait_for_writes(&f, 1);

    mf_thread closer = {0};
    assert_int_equal(mf_thread_start(&closer, "closer", close_server, &f, NULL), MF_OK);
    wait_until_nobody_listens(&f);
    say(kept, "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(kept, &r);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.bytes, "Retry-After: "));
    assert_non_null(strcasestr(r.bytes, "connection: close"));
    unblock_writer(&b);
    hear(working, &r);
    assert_int_equal(r.status, 201);
    mf_thread_join(&closer);
    assert_true(is_closed(working));
    assert_int_equal(close(working), 0);
    assert_int_equal(close(kept), 0);
    mf_testing_close(&f.parts);
}

typedef struct hammer {
    fixture *f;
    char session[MF_UUID_TEXT + 1];
    int good;
} hammer;

static void run_hammer(void *arg) {
    enum { ROUNDS = 50 };
    hammer *h = arg;
    reply *mine = mf_alloc(sizeof *mine);
    assert_non_null(mine);
    int fd = dial(h->f);
    char path[128];
    (void)snprintf(path, sizeof path, "/api/v1/sessions/%s/messages", h->session);
    for (int i = 0; i < ROUNDS; i++) {
        post(fd, path,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]}", mine);
        h->good += mine->status == 201;
        say(fd, HEALTH);
        hear(fd, mine);
        h->good += mine->status == 200;
    }
    assert_int_equal(close(fd), 0);
    mf_free(mine);
}

static void many_clients_at_once_all_get_their_own_reply(void **state) {
    (void)state;
    enum { CLIENTS = 8 };
    fixture f;
    start(&f, NULL, 0);
    hammer hammers[CLIENTS];
    mf_thread threads[CLIENTS] = {0};
    int fd = dial(&f);
    char session[MF_UUID_TEXT + 1];
    make_session(fd, session);
    for (size_t i = 0; i < CLIENTS; i++) {
        hammers[i] = (hammer){.f = &f};
        memcpy(hammers[i].session, session, sizeof session);
        assert_int_equal(
            mf_thread_start(&threads[i], "hammer", run_hammer, &hammers[i], NULL),
            MF_OK);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(hammers[i].good, 100);
    }
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void a_connection_broken_at_any_byte_leaves_nothing_behind(void **state) {
    (void)state;
    fixture f;
    start(&f, NULL, 0);
    for (size_t cut = 1; cut < sizeof CREATE_USER - 1; cut += 3) {
        int fd = dial(&f);
        say_bytes(fd, CREATE_USER, cut);
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
        assert_int_equal(close(fd), 0);
    }
    int fd = dial(&f);
    int64_t end_ns = mf_deadline_in_ms(WAIT_MS);
    mf_server_stats stats;
    do {
        say(fd, HEALTH);
        hear(fd, &r);
        mf_server_get_stats(f.server, &stats);
        assert_true(mf_now_ns() < end_ns);
    } while (stats.connections > 1);
    assert_int_equal(close(fd), 0);
    stop(&f);
}

static void the_local_socket_is_served_without_host_or_key(void **state) {
    (void)state;
    static const char *const sets[] = {"server.api_key_validation=true"};
    char folder[] = "/tmp/mf-server-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    mf_testing parts;
    mf_server *server = NULL;
    char bound[MF_SERVER_ADDRESS_TEXT];
    mf_store *store = NULL;
    assert_int_equal(mf_memory_store_open(&store, NULL), MF_OK);
    assert_int_equal(mf_testing_open(&parts, store, sets, 1, NULL), MF_OK);
    assert_int_equal(mf_server_open(parts.door, parts.settings, &server, NULL), MF_OK);
    assert_int_equal(mf_server_listen_unix(server, address.sun_path, NULL), MF_OK);
    assert_int_equal(mf_server_listen(server, MF_STR("127.0.0.1:0"), bound, NULL),
                     MF_OK);
    assert_int_equal(mf_server_start(server, NULL), MF_OK);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    say(fd, "GET /api/v1/users HTTP/1.1\r\nHost: anything\r\n\r\n");
    hear(fd, &r);
    assert_int_equal(r.status, 200);
    fixture f = {.port = port_in(bound)};
    int remote = dial(&f);
    say(remote, "GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(remote, &r);
    assert_int_equal(r.status, 401);
    assert_non_null(strstr(r.bytes, "WWW-Authenticate: Bearer\r\n"));
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(remote), 0);
    mf_server_close(server, mf_deadline_in_ms(1000));
    mf_testing_close(&parts);
    assert_int_equal(access(address.sun_path, F_OK), -1);
    assert_int_equal(rmdir(folder), 0);
}

static void a_server_closed_before_its_start_lets_go_of_everything(void **state) {
    (void)state;
    mf_testing parts;
    mf_server *server = NULL;
    mf_store *store = NULL;
    assert_int_equal(mf_memory_store_open(&store, NULL), MF_OK);
    assert_int_equal(mf_testing_open(&parts, store, NULL, 0, NULL), MF_OK);
    assert_int_equal(mf_server_open(parts.door, parts.settings, &server, NULL), MF_OK);
    assert_int_equal(mf_server_listen(server, MF_STR("localhost:0"), NULL, NULL),
                     MF_OK);
    mf_server_close(server, 0);
    mf_server_close(NULL, 0);
    mf_testing_close(&parts);
}

static int nothing_leaks(void **state) {
    (void)state;
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

#define CASE(name) cmocka_unit_test_teardown(name, nothing_leaks)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(forty_requests_use_one_connection_and_one_segment_each),
        CASE(head_is_get_without_the_body),
        CASE(pipelined_requests_are_answered_in_order),
        CASE(a_chunked_body_is_put_together),
        CASE(a_client_that_expects_continue_gets_it),
        CASE(an_absolute_target_means_its_path),
        CASE(a_megabyte_survives_byte_for_byte),
        CASE(request_ids_are_echoed_when_harmless),
        CASE(a_body_of_the_limit_passes_and_one_byte_more_does_not),
        CASE(a_sender_of_far_too_much_still_sees_the_413),
        CASE(an_announced_length_is_refused_before_it_is_sent),
        CASE(a_chunked_body_over_the_limit_is_refused_at_its_end),
        CASE(hostile_heads_get_an_error_or_no_answer_but_never_two),
        CASE(headers_over_the_limit_are_refused),
        CASE(a_dripping_body_is_cut_off),
        CASE(dripping_headers_are_cut_off_on_new_and_on_kept_connections),
        CASE(an_idle_connection_outlives_the_request_timeout),
        CASE(a_full_queue_answers_503_at_once_and_health_still_200),
        CASE(a_stop_finishes_what_is_under_way_and_refuses_the_rest),
        CASE(many_clients_at_once_all_get_their_own_reply),
        CASE(a_connection_broken_at_any_byte_leaves_nothing_behind),
        CASE(the_local_socket_is_served_without_host_or_key),
        CASE(a_server_closed_before_its_start_lets_go_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
