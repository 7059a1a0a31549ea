/* attach.h - a line to the process that serves a data directory.
 *
 * The server writes where it listens into its lock file; a client reads it there and
 * speaks HTTP over the local socket beside it (mode 0600, so only the owner gets in),
 * or over TCP when there is no socket.  Thread-safe: calls take turns. */
#ifndef MF_LIB_ATTACH_H
#define MF_LIB_ATTACH_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct mf_attach mf_attach;

/* Waits until `deadline_ns` for a server that holds the lock but does not answer yet.
 * MF_E_NOTFOUND when nobody serves. */
MF_CHECKED mf_rc mf_attach_open(const char *lock_path, int64_t deadline_ns,
                                mf_attach **out, mf_err *err);
void mf_attach_close(mf_attach *attach);
/* `*reply` is NUL-terminated and the caller's (mf_free). */
MF_CHECKED mf_rc mf_attach_call(mf_attach *attach, const char *method,
                                const char *path_and_query, mf_str body, int *status,
                                char **reply, size_t *reply_len, mf_err *err);

#endif
