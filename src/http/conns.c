/* conns.c - the connections of a server: what each is doing, and since when.
 *
 * The library does not tell when a request's first byte arrives, only when its head is
 * complete.  But the kernel knows when data arrived last, and data that came after the
 * last reply can only belong to a new request: that is how slow heads are found.
 *
 * A socket is shut down only under conns_mu and only while its connection is listed, so
 * its number cannot mean another connection by then.  A connection is resumed without
 * the lock: it cannot end before it is resumed, so the pointer stays good. */
#include "http/conns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"

enum {
    HEAD_TIMEOUT_MS = 10000,
    KERNEL_GRAIN_MS = 20, /* the kernel counts in steps of a few milliseconds */
    DISCARD_TICK_MS = 10,
    DISCARD_QUIET_MS = 250, /* a client that sends nothing this long is waiting */
    DISCARD_MS_MAX = 5000,
    DISCARD_READS_MAX = 16, /* of READ_BYTES, in one look */
    READ_BYTES = 64 * 1024,
    TICK_MS_MAX = 500,
    TICKS_PER_TIMEOUT = 8,
    RESUMES_MAX = 32, /* connections let go of in one look */
    SUSPENDED_POLL_MS = 5
};
static const uint64_t DISCARD_BYTES_MAX = UINT64_C(1) << 30;

struct mf_conns {
    mf_settings *settings;
    void (*resume)(void *connection);
    mf_thread reaper;
    _Atomic uint64_t cut_count;
    mf_mutex conns_mu;
    mf_cond changed;
    /* Guarded by conns_mu. */
    mf_conn_state *first;
    size_t count, discard_count;
    size_t requests_open; /* from the head of a request to the end of its reply */
    bool draining, discard_ended, stopping;
};

static int64_t ms_to_ns(int64_t ms) {
    return ms * MF_NS_PER_MS;
}

static int64_t timeout_ns_of(const mf_conns *conns) {
    return ms_to_ns(mf_settings_get(conns->settings)->server_request_timeout_ms);
}

/* --- the list --- */

static void name_peer(mf_conn_state *conn, const struct sockaddr *address) {
    const void *whole = address;
    const void *bytes = NULL;
    if (address != NULL && address->sa_family == AF_INET) {
        bytes = &((const struct sockaddr_in *)whole)->sin_addr;
    } else if (address != NULL && address->sa_family == AF_INET6) {
        bytes = &((const struct sockaddr_in6 *)whole)->sin6_addr;
    }
    if (bytes != NULL &&
        inet_ntop(address->sa_family, bytes, conn->peer, sizeof conn->peer) != NULL) {
        conn->peer_len = strlen(conn->peer);
    }
}

static bool is_unix_socket(int fd) {
    struct sockaddr_storage own = {0};
    socklen_t len = sizeof own;
    return getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
           own.ss_family == AF_UNIX;
}

mf_conn_state *mf_conns_add(mf_conns *conns, int fd, void *connection,
                            const struct sockaddr *address) {
    mf_conn_state *conn = mf_alloc_zero(1, sizeof *conn);
    if (conn == NULL) {
        return NULL;
    }
    conn->fd = fd;
    conn->connection = connection;
    conn->is_unix = is_unix_socket(fd);
    name_peer(conn, address);
    conn->idle_since_ns = mf_now_ns();
    mf_mutex_lock(&conns->conns_mu);
    conn->next = conns->first;
    if (conn->next != NULL) {
        conn->next->previous = conn;
    }
    conns->first = conn;
    conns->count++;
    mf_mutex_unlock(&conns->conns_mu);
    return conn;
}

void mf_conns_remove(mf_conns *conns, mf_conn_state *conn) {
    if (conn == NULL) {
        return;
    }
    mf_mutex_lock(&conns->conns_mu);
    if (conn->previous != NULL) {
        conn->previous->next = conn->next;
    } else {
        conns->first = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->previous = conn->previous;
    }
    conns->count--;
    mf_mutex_unlock(&conns->conns_mu);
    mf_free(conn);
}

size_t mf_conns_count(mf_conns *conns) {
    mf_mutex_lock(&conns->conns_mu);
    size_t count = conns->count;
    mf_mutex_unlock(&conns->conns_mu);
    return count;
}

uint64_t mf_conns_cut_count(const mf_conns *conns) {
    return atomic_load(&conns->cut_count);
}

/* --- phases --- */

int64_t mf_conns_begin(mf_conns *conns, mf_conn_state *conn) {
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&conns->conns_mu);
    int64_t start_ns = conn->head_since_ns != 0 ? conn->head_since_ns : now_ns;
    int64_t deadline_ns = start_ns + timeout_ns_of(conns);
    conn->deadline_ns = deadline_ns;
    conn->phase = MF_CONN_BODY;
    conns->requests_open++;
    mf_mutex_unlock(&conns->conns_mu);
    return deadline_ns;
}

void mf_conns_work(mf_conns *conns, mf_conn_state *conn) {
    mf_mutex_lock(&conns->conns_mu);
    conn->phase = MF_CONN_WORK;
    mf_mutex_unlock(&conns->conns_mu);
}

void mf_conns_reply(mf_conns *conns, mf_conn_state *conn) {
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&conns->conns_mu);
    conn->phase = MF_CONN_REPLY;
    conn->deadline_ns = now_ns + timeout_ns_of(conns);
    mf_mutex_unlock(&conns->conns_mu);
}

void mf_conns_end(mf_conns *conns, mf_conn_state *conn, bool begun) {
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&conns->conns_mu);
    conn->phase = MF_CONN_IDLE;
    conn->idle_since_ns = now_ns;
    conn->head_since_ns = 0;
    conns->requests_open -= begun;
    if (conns->draining && conns->requests_open == 0) {
        mf_cond_broadcast(&conns->changed);
    }
    mf_mutex_unlock(&conns->conns_mu);
}

bool mf_conns_discard(mf_conns *conns, mf_conn_state *conn, uint64_t length) {
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&conns->conns_mu);
    bool begun = !conns->discard_ended;
    if (begun) {
        conn->phase = MF_CONN_DISCARD;
        conn->discard_left = length < DISCARD_BYTES_MAX ? length : DISCARD_BYTES_MAX;
        conn->discard_quiet_ns = now_ns + ms_to_ns(DISCARD_QUIET_MS);
        conn->discard_end_ns = now_ns + ms_to_ns(DISCARD_MS_MAX);
        conns->discard_count++;
        mf_cond_broadcast(&conns->changed);
    }
    mf_mutex_unlock(&conns->conns_mu);
    return begun;
}

/* --- the reaper --- */

/* When the last byte arrived, by the kernel's account; 0 when it does not tell. */
static int64_t last_byte_ns(int fd, int64_t now_ns) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) {
        return 0;
    }
    return now_ns - ms_to_ns(info.tcpi_last_data_recv);
}

static bool head_is_overdue(mf_conn_state *conn, int64_t timeout_ns, int64_t now_ns) {
    if (conn->head_since_ns == 0 && !conn->is_unix) {
        int64_t last_ns = last_byte_ns(conn->fd, now_ns);
        if (last_ns > conn->idle_since_ns + ms_to_ns(KERNEL_GRAIN_MS)) {
            conn->head_since_ns = last_ns;
        }
    }
    int64_t head_max_ns = ms_to_ns(HEAD_TIMEOUT_MS);
    head_max_ns = head_max_ns < timeout_ns ? head_max_ns : timeout_ns;
    return conn->head_since_ns != 0 && now_ns - conn->head_since_ns > head_max_ns;
}

/* Takes what has arrived off the socket; true when the reply may go out. */
static bool discard(mf_conn_state *conn, int64_t now_ns) {
    char bytes[READ_BYTES];
    for (int i = 0; i < DISCARD_READS_MAX; i++) {
        ssize_t n = recv(conn->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n <= 0) {
            return true;
        }
        uint64_t taken = (uint64_t)n;
        conn->discard_quiet_ns = now_ns + ms_to_ns(DISCARD_QUIET_MS);
        conn->discard_left -= taken < conn->discard_left ? taken : conn->discard_left;
        if (conn->discard_left == 0) {
            return true;
        }
    }
    return now_ns > conn->discard_quiet_ns || now_ns > conn->discard_end_ns;
}

/* True when the connection is to be resumed. */
static bool look_at(mf_conns *conns, mf_conn_state *conn, int64_t timeout_ns,
                    int64_t now_ns) MF_REQUIRES(conns->conns_mu);

static bool look_at(mf_conns *conns, mf_conn_state *conn, int64_t timeout_ns,
                    int64_t now_ns) {
    bool overdue = false;
    switch (conn->phase) {
    case MF_CONN_IDLE:
        overdue = head_is_overdue(conn, timeout_ns, now_ns);
        break;
    case MF_CONN_BODY:
    case MF_CONN_REPLY:
        overdue = now_ns > conn->deadline_ns;
        break;
    case MF_CONN_DISCARD:
        if (!discard(conn, now_ns) && !conns->discard_ended) {
            return false;
        }
        conn->phase = MF_CONN_REPLY;
        conn->deadline_ns = now_ns + timeout_ns;
        conns->discard_count--;
        return true;
    case MF_CONN_WORK: /* the door keeps the deadline */
        break;
    }
    if (overdue && !conn->cut) {
        conn->cut = true;
        atomic_fetch_add(&conns->cut_count, 1);
        (void)shutdown(conn->fd, SHUT_RDWR); /* fails only if the client has left */
    }
    return false;
}

/* Looks at all connections, or only at those being emptied. */
static void look_around(mf_conns *conns, bool all, int64_t timeout_ns, int64_t now_ns)
    MF_REQUIRES(conns->conns_mu);

static void look_around(mf_conns *conns, bool all, int64_t timeout_ns, int64_t now_ns) {
    void *ready[RESUMES_MAX];
    size_t count = 0;
    for (mf_conn_state *conn = conns->first; conn != NULL && count < RESUMES_MAX;
         conn = conn->next) {
        if ((all || conn->phase == MF_CONN_DISCARD) &&
            look_at(conns, conn, timeout_ns, now_ns)) {
            ready[count++] = conn->connection;
        }
    }
    mf_mutex_unlock(&conns->conns_mu);
    for (size_t i = 0; i < count; i++) {
        conns->resume(ready[i]);
    }
    mf_mutex_lock(&conns->conns_mu);
}

static void run_reaper(void *arg) {
    mf_conns *conns = arg;
    int64_t looked_ns = 0;
    mf_mutex_lock(&conns->conns_mu);
    while (!conns->stopping) {
        int64_t now_ns = mf_now_ns();
        int64_t timeout_ns = timeout_ns_of(conns);
        int64_t tick_ns = timeout_ns / TICKS_PER_TIMEOUT;
        tick_ns = tick_ns < ms_to_ns(TICK_MS_MAX) ? tick_ns : ms_to_ns(TICK_MS_MAX);
        bool all = now_ns - looked_ns >= tick_ns;
        if (all || conns->discard_count > 0) {
            look_around(conns, all, timeout_ns, now_ns);
            looked_ns = all ? now_ns : looked_ns;
        }
        int64_t wake_ns = conns->discard_count > 0 ? now_ns + ms_to_ns(DISCARD_TICK_MS)
                                                   : looked_ns + tick_ns;
        if (!conns->stopping) {
            (void)mf_cond_wait(&conns->changed, &conns->conns_mu, wake_ns);
        }
    }
    mf_mutex_unlock(&conns->conns_mu);
}

/* --- life --- */

mf_rc mf_conns_open(mf_settings *settings, void (*resume)(void *connection),
                    mf_conns **out, mf_err *err) {
    mf_conns *conns = mf_alloc_zero(1, sizeof *conns);
    if (conns == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the table of connections");
    }
    conns->settings = settings;
    conns->resume = resume;
    mf_mutex_init(&conns->conns_mu, MF_RANK_LEAF);
    mf_cond_init(&conns->changed);
    mf_rc rc = mf_thread_start(&conns->reaper, "mf-reaper", run_reaper, conns, err);
    if (rc != MF_OK) {
        mf_cond_done(&conns->changed);
        mf_mutex_done(&conns->conns_mu);
        mf_free(conns);
        return rc;
    }
    *out = conns;
    return MF_OK;
}

void mf_conns_drain(mf_conns *conns, int64_t deadline_ns) {
    mf_mutex_lock(&conns->conns_mu);
    conns->draining = true;
    while (conns->requests_open > 0 &&
           mf_cond_wait(&conns->changed, &conns->conns_mu, deadline_ns)) {
    }
    conns->discard_ended = true;
    mf_cond_broadcast(&conns->changed);
    mf_mutex_unlock(&conns->conns_mu);
}

void mf_conns_wait_for_suspended(mf_conns *conns) {
    bool suspended = true;
    mf_mutex_lock(&conns->conns_mu);
    while (suspended) {
        suspended = false;
        for (mf_conn_state *conn = conns->first; conn != NULL; conn = conn->next) {
            suspended = suspended || conn->phase == MF_CONN_WORK ||
                        conn->phase == MF_CONN_DISCARD;
        }
        if (suspended) {
            (void)mf_cond_wait(&conns->changed, &conns->conns_mu,
                               mf_now_ns() + ms_to_ns(SUSPENDED_POLL_MS));
        }
    }
    mf_mutex_unlock(&conns->conns_mu);
}

void mf_conns_close(mf_conns *conns) {
    if (conns == NULL) {
        return;
    }
    mf_mutex_lock(&conns->conns_mu);
    conns->stopping = true;
    mf_cond_broadcast(&conns->changed);
    mf_mutex_unlock(&conns->conns_mu);
    mf_thread_join(&conns->reaper);
    MF_ASSERT(conns->first == NULL);
    mf_cond_done(&conns->changed);
    mf_mutex_done(&conns->conns_mu);
    mf_free(conns);
}
