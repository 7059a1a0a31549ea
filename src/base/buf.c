/* buf.c - a growing byte buffer with a maximum.  It doubles, and stops doubling at the
 * maximum; one byte more than the capacity is allocated for the NUL. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { FIRST_CAPACITY = 64 };

void mf_buf_init(mf_buf *buf, size_t bytes_max) {
    MF_ASSERT(bytes_max < SIZE_MAX);
    *buf = (mf_buf){.bytes_max = bytes_max};
}

void mf_buf_done(mf_buf *buf) {
    if (buf == NULL) {
        return;
    }
    mf_free(buf->p);
    *buf = (mf_buf){.bytes_max = buf->bytes_max};
}

void mf_buf_clear(mf_buf *buf) {
    buf->len = 0;
    buf->failed = MF_OK;
    if (buf->p != NULL) {
        buf->p[0] = '\0';
    }
}

/* Room for `more` bytes behind the ones there. */
static mf_rc reserve(mf_buf *buf, size_t more) {
    if (buf->failed != MF_OK) {
        return buf->failed;
    }
    if (more > buf->bytes_max - buf->len) {
        return buf->failed = MF_E_LIMIT;
    }
    size_t need = buf->len + more;
    if (buf->p != NULL && need <= buf->capacity) {
        return MF_OK;
    }
    size_t capacity = buf->capacity > 0 ? buf->capacity : FIRST_CAPACITY;
    while (capacity < need && capacity <= buf->bytes_max / 2) {
        capacity *= 2;
    }
    if (capacity < need || capacity > buf->bytes_max) {
        capacity = buf->bytes_max;
    }
    char *grown = mf_realloc(buf->p, capacity + 1);
    if (grown == NULL) {
        return buf->failed = MF_E_NOMEM;
    }
    buf->p = grown;
    buf->capacity = capacity;
    return MF_OK;
}

mf_rc mf_buf_add(mf_buf *buf, const void *bytes, size_t len) {
    MF_TRY(reserve(buf, len));
    if (len > 0) {
        memcpy(buf->p + buf->len, bytes, len);
    }
    buf->len += len;
    buf->p[buf->len] = '\0';
    return MF_OK;
}

mf_rc mf_buf_add_str(mf_buf *buf, mf_str text) {
    return mf_buf_add(buf, text.p, text.len);
}

mf_rc mf_buf_printf(mf_buf *buf, const char *fmt, ...) {
    /* Most pieces fit into what is there already; the others are formatted twice. */
    MF_TRY(reserve(buf, 0));
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(buf->p + buf->len, buf->capacity - buf->len + 1, fmt, args);
    va_end(args);
    mf_rc rc = MF_OK;
    if (n < 0) {
        rc = buf->failed = MF_E_LIMIT; /* longer than an int can count */
    } else if ((size_t)n > buf->capacity - buf->len) {
        rc = reserve(buf, (size_t)n);
        if (rc == MF_OK) {
            (void)vsnprintf(buf->p + buf->len, (size_t)n + 1, fmt, again);
        }
    }
    va_end(again);
    if (rc == MF_OK) {
        buf->len += (size_t)n;
    }
    buf->p[buf->len] = '\0'; /* a failed try may have written behind the end */
    return rc;
}

mf_str mf_buf_view(const mf_buf *buf) {
    return (mf_str){buf->p, buf->len};
}

char *mf_buf_take(mf_buf *buf, size_t *len) {
    char *bytes = buf->p;
    if (len != NULL) {
        *len = buf->len;
    }
    *buf = (mf_buf){.bytes_max = buf->bytes_max};
    return bytes;
}
