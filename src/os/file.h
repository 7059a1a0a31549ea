/* file.h - files and folders: read whole, map, replace atomically.
 *
 * Paths are NUL-terminated and at most MF_PATH_MAX bytes with the NUL.  Everything made
 * here is readable by its owner only.  Safe from any thread.  A missing file is
 * MF_E_NOTFOUND, a full disk MF_E_FULL, other refusals MF_E_IO with errno in err->sys.
 * Fault points: file.open, file.read, file.map, file.write, file.sync, file.rename. */
#ifndef MF_OS_FILE_H
#define MF_OS_FILE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { MF_PATH_MAX = 4096 };

/* A file seen as memory, read-only.  An empty file gives NULL and 0. */
typedef struct mf_file_view {
    const unsigned char *p;
    size_t size;
} mf_file_view;

/* Appends the whole file to `out`, whose bytes_max bounds it: MF_E_LIMIT beyond.  On
 * failure `out` is as it was, apart from its capacity. */
MF_CHECKED mf_rc mf_file_read(const char *path, mf_buf *out, mf_err *err);

/* Maps a regular file.  It must not be cut short by anyone while it is mapped. */
MF_CHECKED mf_rc mf_file_map(const char *path, mf_file_view *out, mf_err *err);
void mf_file_unmap(
    mf_file_view *view); /* leaves the view empty; NULL and empty are fine */

/* Puts `bytes` in the place of the file: a temporary file in the same folder, synced,
 * renamed, the folder synced.  A reader or a crash sees the old file or the new one.
 * After a failure the old one is in place, except when syncing the folder failed: then
 * the new one is, and may be lost with the power. */
MF_CHECKED mf_rc mf_file_write_atomic(const char *path, mf_str bytes, mf_err *err);

/* Makes the folder and its missing parents, mode 0700.  One already there is fine. */
MF_CHECKED mf_rc mf_dir_make(const char *path, mf_err *err);

/* Writes "<dir>/<name>" with one slash between; an absolute `name` stands alone.
 * MF_E_LIMIT when it does not fit. */
MF_CHECKED mf_rc mf_path_join(char *out, size_t out_size, const char *dir,
                              const char *name, mf_err *err);

bool mf_file_exists(const char *path); /* anything at all: file, folder or socket */

size_t mf_process_rss_bytes(void); /* memory of this process in RAM; 0 when unknown */
/* The part of it that is this process's own, without mapped files: what the kernel
 * cannot take back.  0 when unknown, and under a sanitizer, whose own memory would
 * count. */
size_t mf_process_private_bytes(void);

mf_rc mf_rc_from_errno(int sys); /* the code for a failed file call */

#endif
