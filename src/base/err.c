/* err.c - fills error reports and looks codes up in rc.def.
 *
 * Texts are cut at a character boundary: they end up in JSON answers, where half a
 * UTF-8 sequence would make the whole answer unreadable. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WRAPPED_MIN = 8 }; /* a shorter rest of the wrapped text tells nobody anything */

typedef struct rc_row {
    const char *name;
    int status;
    bool retry;
    const char *meaning;
} rc_row;

static const rc_row rc_rows[MF_RC_COUNT] = {
#define MF_RC(name, wire, status, retry, meaning) {wire, status, retry, meaning},
#include "base/rc.def"
#undef MF_RC
};

static const rc_row *row_of(mf_rc rc) {
    return (unsigned)rc < MF_RC_COUNT ? &rc_rows[rc] : &rc_rows[MF_E_INTERNAL];
}

/* Removes a UTF-8 sequence cut short at the end of `text`. */
static void drop_partial_char(char *text) {
    size_t len = strlen(text);
    size_t back = 0;
    while (back < 3 && back < len &&
           ((unsigned char)text[len - 1 - back] & 0xC0) == 0x80) {
        back++;
    }
    if (back == len) {
        return;
    }
    unsigned char lead = (unsigned char)text[len - 1 - back];
    size_t want = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (back < want) {
        text[len - 1 - back] = '\0';
    }
}

static void format_text(char *out, size_t size, const char *fmt, va_list args)
    MF_PRINTF(3, 0);

static void format_text(char *out, size_t size, const char *fmt, va_list args) {
    int n = vsnprintf(out, size, fmt, args);
    if (n < 0) {
        out[0] = '\0';
    } else if ((size_t)n >= size) {
        drop_partial_char(out);
    }
}

static void copy_cut(char *out, size_t size, const char *text) {
    size_t len = strlen(text);
    size_t fits = len < size ? len : size - 1;
    memcpy(out, text, fits);
    out[fits] = '\0';
    if (fits < len) {
        drop_partial_char(out);
    }
}

mf_rc mf_err_set(mf_err *err, mf_rc rc, int sys, const char *field, const char *file,
                 int line, const char *fmt, ...) {
    if (err == NULL) {
        return rc;
    }
    /* Formatted aside first: the arguments may point into the report itself. */
    char text[MF_ERR_TEXT_MAX];
    char blamed[MF_ERR_FIELD_MAX];
    va_list args;
    va_start(args, fmt);
    format_text(text, sizeof text, fmt, args);
    va_end(args);
    copy_cut(blamed, sizeof blamed, field != NULL ? field : "");
    err->rc = rc;
    err->sys = sys;
    err->file = file;
    err->line = line;
    memcpy(err->field, blamed, sizeof blamed);
    memcpy(err->text, text, sizeof text);
    return rc;
}

mf_rc mf_err_wrap(mf_err *err, mf_rc rc, const char *fmt, ...) {
    if (err == NULL) {
        return rc;
    }
    char text[MF_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    format_text(text, sizeof text, fmt, args);
    va_end(args);
    size_t len = strlen(text);
    if (len + WRAPPED_MIN < sizeof text) { /* else the context alone fills the report */
        memcpy(text + len, ": ", 3);
        copy_cut(text + len + 2, sizeof text - len - 2, err->text);
    }
    err->rc = rc;
    memcpy(err->text, text, sizeof text);
    return rc;
}

const char *mf_rc_name(mf_rc rc) {
    return row_of(rc)->name;
}

int mf_rc_http_status(mf_rc rc) {
    return row_of(rc)->status;
}

bool mf_rc_can_retry(mf_rc rc) {
    return row_of(rc)->retry;
}

const char *mf_rc_meaning(mf_rc rc) {
    return row_of(rc)->meaning;
}
