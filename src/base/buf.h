/* buf.h - a growing byte buffer with a maximum.
 *
 * Created with the most it may hold; going beyond is MF_E_LIMIT, never a larger
 * allocation.  `failed` is sticky: a run of appends can be checked once at the end. */
#ifndef MF_BASE_BUF_H
#define MF_BASE_BUF_H

#include "base/err.h"
#include "base/str.h"

typedef struct mf_buf {
    char *p; /* owned; a NUL is kept behind the last byte */
    size_t len;
    size_t capacity;
    size_t bytes_max;
    mf_rc failed; /* MF_OK, MF_E_LIMIT or MF_E_NOMEM */
} mf_buf;

void mf_buf_init(mf_buf *buf, size_t bytes_max);
void mf_buf_done(mf_buf *buf);
void mf_buf_clear(mf_buf *buf); /* keeps the memory, forgets `failed` */
mf_rc mf_buf_add(mf_buf *buf, const void *bytes,
                 size_t len); /* may be ignored: see failed */
mf_rc mf_buf_add_str(mf_buf *buf, mf_str text);
mf_rc mf_buf_printf(mf_buf *buf, const char *fmt, ...) MF_PRINTF(2, 3);
mf_str mf_buf_view(const mf_buf *buf);
/* Moves the bytes out (mf_free them); the buffer is empty again.  NULL when nothing was
 * ever added.  `len` may be NULL. */
char *mf_buf_take(mf_buf *buf, size_t *len);

#endif
