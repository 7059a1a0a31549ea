/* err.h - one result code, one fixed-size error report.
 *
 * Every fallible function returns mf_rc and takes `mf_err *err` last; NULL is allowed
 * and means "I do not need the text".  The report lives in the caller's memory, so an
 * error can be told even when allocation fails.  An error is raised once, where it is
 * found, with MF_FAIL; a layer that knows more adds it with mf_err_wrap on the way out.
 * On success `*err` is left as it was. */
#ifndef MF_BASE_ERR_H
#define MF_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

typedef enum mf_rc {
#define MF_RC(name, wire, status, retry, meaning) MF_##name,
#include "base/rc.def"
#undef MF_RC
    MF_RC_COUNT
} mf_rc;

enum { MF_ERR_TEXT_MAX = 384, MF_ERR_FIELD_MAX = 64 };

typedef struct mf_err {
    mf_rc rc;
    int sys;          /* errno or the backend's own code, 0 if none */
    const char *file; /* where it was raised; static storage */
    int line;
    char field[MF_ERR_FIELD_MAX]; /* the request field or setting to blame, or "" */
    char text[MF_ERR_TEXT_MAX];   /* one sentence for a person, NUL-terminated */
} mf_err;

#define MF_CHECKED __attribute__((warn_unused_result))
#define MF_PRINTF(fmt_index, first) __attribute__((format(printf, fmt_index, first)))

/* Fills `err` (unless NULL) and returns `rc`, so `return MF_FAIL(err, MF_E_IO,
 * ...)`. */
#define MF_FAIL(err, rc, ...)                                                          \
    mf_err_set((err), (rc), 0, NULL, __FILE__, __LINE__, __VA_ARGS__)
#define MF_FAIL_SYS(err, rc, sys, ...)                                                 \
    mf_err_set((err), (rc), (sys), NULL, __FILE__, __LINE__, __VA_ARGS__)
#define MF_FAIL_FIELD(err, rc, field, ...)                                             \
    mf_err_set((err), (rc), 0, (field), __FILE__, __LINE__, __VA_ARGS__)
/* Passes a failure up: `MF_TRY(mf_x(...))` returns the code from this function. */
#define MF_TRY(call)                                                                   \
    do {                                                                               \
        mf_rc mf_try_rc_ = (call);                                                     \
        if (mf_try_rc_ != MF_OK) {                                                     \
            return mf_try_rc_;                                                         \
        }                                                                              \
    } while (0)

mf_rc mf_err_set(mf_err *err, mf_rc rc, int sys, const char *field, const char *file,
                 int line, const char *fmt, ...) MF_PRINTF(7, 8);
/* Puts "<context>: " in front of the text already there.  Returns `rc`. */
mf_rc mf_err_wrap(mf_err *err, mf_rc rc, const char *fmt, ...) MF_PRINTF(3, 4);

const char *mf_rc_name(mf_rc rc); /* the wire name */
int mf_rc_http_status(mf_rc rc);
bool mf_rc_can_retry(mf_rc rc);
const char *mf_rc_meaning(mf_rc rc);

#endif
