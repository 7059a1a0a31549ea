/* conns.h - the connections of a server: what each is doing, and since when.
 *
 * libmicrohttpd's own time-out starts anew with every byte, which a client that sends
 * one byte a second can live on for ever.  So every connection is listed here with the
 * phase of its request, and a thread, the reaper, looks at all of them a few times a
 * second and shuts down the sockets of those whose request is older than
 * server.request_timeout_ms.
 *
 * Safe from any thread; a connection's own functions are called by whoever has its
 * request in hand. */
#ifndef MF_HTTP_CONNS_H
#define MF_HTTP_CONNS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/str.h"
#include "text/config.h"

typedef struct mf_conns mf_conns;

typedef enum mf_conn_phase {
    MF_CONN_IDLE,    /* between requests, or reading a request's head */
    MF_CONN_BODY,    /* reading the body */
    MF_CONN_DISCARD, /* suspended; the reaper takes an unwanted body off the socket */
    MF_CONN_WORK,    /* suspended; the door has the request */
    MF_CONN_REPLY    /* sending */
} mf_conn_phase;

typedef struct mf_conn_state {
    /* Constant. */
    void *connection; /* what `resume` gets */
    int fd;
    bool is_unix;
    size_t peer_len;
    char peer[INET6_ADDRSTRLEN]; /* without its port */
    /* Guarded by the table's conns_mu. */
    struct mf_conn_state *next, *previous;
    mf_conn_phase phase;
    int64_t idle_since_ns; /* start, or end of the last reply */
    int64_t head_since_ns; /* first byte of the next request was seen; 0: not yet */
    int64_t deadline_ns;
    int64_t discard_quiet_ns, discard_end_ns;
    uint64_t discard_left;
    bool cut; /* its socket was shut down */
} mf_conn_state;

/* Starts the reaper.  `resume` lets a suspended connection go on; it is called without
 * locks.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_conns_open(mf_settings *settings, void (*resume)(void *connection),
                               mf_conns **out, mf_err *err);
/* Every connection must have been removed. */
void mf_conns_close(mf_conns *conns);

/* Lists a connection; NULL when memory is short.  `address` may be NULL. */
mf_conn_state *mf_conns_add(mf_conns *conns, int fd, void *connection,
                            const struct sockaddr *address);
/* To be called before the socket is closed; NULL is fine. */
void mf_conns_remove(mf_conns *conns, mf_conn_state *conn);

/* The life of a request: its head has been read (gives its deadline), the door has it,
 * its reply is being sent, it is over. */
int64_t mf_conns_begin(mf_conns *conns, mf_conn_state *conn);
void mf_conns_work(mf_conns *conns, mf_conn_state *conn);
void mf_conns_reply(mf_conns *conns, mf_conn_state *conn);
void mf_conns_end(mf_conns *conns, mf_conn_state *conn, bool begun);

/* A client that is sending a body nobody wants would see a broken connection instead of
 * the refusal.  For a connection that is suspended already: takes up to `length` bytes
 * off its socket, as long as the client keeps sending, then resumes it.  false when the
 * server is closing: the caller resumes it. */
bool mf_conns_discard(mf_conns *conns, mf_conn_state *conn, uint64_t length);

/* Waits until no request is under way, at most until `deadline_ns`; no discard begins
 * or goes on afterwards. */
void mf_conns_drain(mf_conns *conns, int64_t deadline_ns);
/* Waits until no connection is suspended.  Work under way has a deadline of its own,
 * and a write that was accepted ends with its commit. */
void mf_conns_wait_for_suspended(mf_conns *conns);

size_t mf_conns_count(mf_conns *conns);
uint64_t mf_conns_cut_count(const mf_conns *conns);

#endif
