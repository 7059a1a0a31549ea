/* lock_file.h - one process at a time, and a note of which one it is.
 *
 * The lock belongs to the open file, not to the process, so a second open in the same
 * process is refused too.  The kernel drops it when the owner ends, however it ends; a
 * file left behind means nothing.  Its text is "pid <number>" on the first line, then
 * whatever lines the owner set, such as the address it serves.  Any thread may call,
 * but one handle is used by one thread at a time.  Fault point: lock_file.write. */
#ifndef MF_OS_LOCK_FILE_H
#define MF_OS_LOCK_FILE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

typedef struct mf_lock_file mf_lock_file;

enum { MF_LOCK_TEXT_MAX = 1024 }; /* bytes of the whole text */

/* Makes the file if needed and takes the lock without waiting.  MF_E_LOCKED names the
 * owner's pid in the text; else MF_E_IO, MF_E_NOTFOUND (no such folder), MF_E_NOMEM. */
MF_CHECKED mf_rc mf_lock_file_open(const char *path, mf_lock_file **out, mf_err *err);
/* Lets the lock go.  The file stays: removing it would let two owners hold two files of
 * one name. */
void mf_lock_file_close(mf_lock_file *lock);

/* Replaces the lines behind the first.  MF_E_LIMIT beyond MF_LOCK_TEXT_MAX in all. */
MF_CHECKED mf_rc mf_lock_file_set_text(mf_lock_file *lock, mf_str lines, mf_err *err);

/* For a client that looks for the running owner: appends the text to `out`.
 * MF_E_NOTFOUND when there is no file or nobody holds the lock.  Does not disturb an
 * owner that is just starting. */
MF_CHECKED mf_rc mf_lock_file_read_text(const char *path, mf_buf *out, mf_err *err);

#endif
