/* listen.h - listening sockets from their names. */
#ifndef MF_HTTP_LISTEN_H
#define MF_HTTP_LISTEN_H

#include "base/err.h"
#include "base/str.h"

enum { MF_LISTEN_SOCKETS_MAX = 8, MF_LISTEN_TEXT = 128 };

typedef struct mf_listen_socket {
    int fd;                    /* bound, listening, not blocking */
    char text[MF_LISTEN_TEXT]; /* "127.0.0.1:8000", "[::1]:8000" or a path */
    bool is_unix;              /* `text` is the path, removed by mf_listen_refuse */
} mf_listen_socket;

/* Opens the one or more sockets that "HOST:PORT" means: an address, a name, or
 * localhost for both loopbacks (only one where the machine lacks the other).  With port
 * 0 all get the same free port.  `bound` receives the address with its port. MF_E_INVAL
 * for a malformed address, MF_E_IO otherwise, naming it. */
MF_CHECKED mf_rc mf_listen_tcp(mf_str address,
                               mf_listen_socket out[MF_LISTEN_SOCKETS_MAX],
                               size_t *count, char bound[MF_LISTEN_TEXT], mf_err *err);
/* A socket in the file system, mode 0600.  One left behind by a dead process is
 * replaced. */
MF_CHECKED mf_rc mf_listen_unix(const char *path, mf_listen_socket *out, mf_err *err);
/* New connections are refused from now on, while the descriptor stays open for a thread
 * that still polls it.  May be called again, as may mf_listen_close, which does it too.
 */
void mf_listen_refuse(mf_listen_socket *socket_made);
void mf_listen_close(mf_listen_socket *socket_made);

#endif
