/* server.h - sockets in front of the door, on libmicrohttpd.
 *
 * One listening socket per address, each with its own epoll thread; a bounded queue and
 * a pool of worker threads run the door.  A request is suspended while it is worked on
 * and resumed with a complete reply, which leaves in one write.  Bodies are bounded,
 * requests have a total deadline that counts a slow client's time too, and a stop
 * finishes what is under way. */
#ifndef MF_HTTP_SERVER_H
#define MF_HTTP_SERVER_H

#include "http/door.h"

typedef struct mf_server mf_server;

enum { MF_SERVER_LISTEN_MAX = 16, MF_SERVER_ADDRESS_TEXT = 128 };

typedef struct mf_server_stats {
    uint64_t requests, refused_busy, timeouts, too_large;
    size_t connections, queue_depth, queue_depth_max;
} mf_server_stats;

/* Opens the sockets without listening yet: mf_server_listen adds addresses. */
MF_CHECKED mf_rc mf_server_open(mf_door *door, mf_settings *settings, mf_server **out,
                                mf_err *);
/* "ADDR:PORT", "[V6]:PORT", "localhost:PORT" (both loopbacks; with port 0 both get the
 * same free port).  `bound`, unless NULL, receives the address in use with its real
 * port. MF_E_IO names the address (in use, not permitted, ...). */
MF_CHECKED mf_rc mf_server_listen(mf_server *server, mf_str address,
                                  char bound[MF_SERVER_ADDRESS_TEXT], mf_err *err);
/* A Unix socket, mode 0600, whose callers are trusted. */
MF_CHECKED mf_rc mf_server_listen_unix(mf_server *server, const char *path,
                                       mf_err *err);
/* Starts answering; until then connections wait in the listen queue. */
MF_CHECKED mf_rc mf_server_start(mf_server *server, mf_err *err);
/* Refuses new work, waits up to `deadline_ns` for requests under way, closes. */
void mf_server_close(mf_server *server, int64_t deadline_ns);
void mf_server_get_stats(mf_server *server, mf_server_stats *out);

#endif
