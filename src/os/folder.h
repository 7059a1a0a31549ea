/* folder.h - what is in a folder; taking one away, putting one in another's place.
 *
 * Safe from any thread, as far as the folders themselves are left alone meanwhile. */
#ifndef MF_OS_FOLDER_H
#define MF_OS_FOLDER_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum { MF_FOLDER_ENTRIES_MAX = 4096, MF_FOLDER_DEPTH_MAX = 8 };

typedef struct mf_folder_entry {
    const char *name;
    bool is_folder;
    uint64_t bytes; /* of a file */
} mf_folder_entry;

/* The files and folders in `path`, sorted by name; links count as what they lead to,
 * names that begin with a dot are left out, and so is what is neither file nor folder.
 * Everything given out is memory of `arena`.  MF_E_NOTFOUND, MF_E_IO, MF_E_NOMEM, or
 * MF_E_LIMIT beyond MF_FOLDER_ENTRIES_MAX. */
MF_CHECKED mf_rc mf_folder_list(const char *path, mf_arena *arena,
                                const mf_folder_entry **entries, size_t *count,
                                mf_err *err);

/* Removes the folder with all that is in it, which may be MF_FOLDER_DEPTH_MAX folders
 * deep; links are removed, not followed.  One that is not there is fine.  MF_E_IO, with
 * what could be removed gone. */
MF_CHECKED mf_rc mf_folder_remove(const char *path, mf_err *err);

/* Puts the folder `from` in the place of `to`, in the same file system, and removes
 * what was there.  Whoever opens `to` meanwhile finds the old or the new one, except,
 * where the file system cannot exchange two names, for a moment none.  MF_E_IO; before
 * anything was changed, or with the new one in place and the old one under the name
 * `from`. */
MF_CHECKED mf_rc mf_folder_replace(const char *from, const char *to, mf_err *err);

/* Syncs the folder itself, so that names made in it survive the power. */
MF_CHECKED mf_rc mf_folder_sync(const char *path, mf_err *err);

#endif
