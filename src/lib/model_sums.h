/* model_sums.h - private to lib/: SHA-256 of files, and the file SHA256SUMS of a model
 * folder.
 *
 * It has a line per file, "<64 hex digits>  <path below the folder>", as sha256sum
 * writes and checks them; lines that begin with # are comments. */
#ifndef MF_LIB_MODEL_SUMS_H
#define MF_LIB_MODEL_SUMS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#define MF_SUMS_FILE "SHA256SUMS"

enum {
    MF_SHA256_TEXT = 65, /* hex digits and a NUL */
    MF_SUMS_MAX = 1 << 20,
};

/* MF_E_NOTFOUND or MF_E_IO. */
MF_CHECKED mf_rc mf_sha256_file(const char *path, char out[MF_SHA256_TEXT],
                                mf_err *err);

/* Appends the folder's SHA256SUMS to `text`; nothing when it has none. */
MF_CHECKED mf_rc mf_sums_read(const char *dir, mf_buf *text, mf_err *err);

/* The next line that names a file; false at the end.  `*broken` is set when a line on
 * the way is neither that nor a comment. */
bool mf_sums_next(mf_str *rest, mf_str *sum, mf_str *name, bool *broken);

/* The sum of one file, or MF_STR_NONE. */
mf_str mf_sums_find(mf_str text, mf_str name);

#endif
