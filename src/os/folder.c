/* folder.c - see folder.h. */
#include "os/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"

static mf_rc fail_sys(mf_err *err, int sys, const char *what, const char *path) {
    char reason[128];
    return MF_FAIL_SYS(err, mf_rc_from_errno(sys), sys, "cannot %s '%s': %s", what,
                       path, strerror_r(sys, reason, sizeof reason));
}

/* --- listing -----------------------------------------------------------------------
 */

typedef struct listing {
    mf_folder_entry *entries;
    size_t count;
    size_t room;
} listing;

static int by_name(const void *a, const void *b) {
    return strcmp(((const mf_folder_entry *)a)->name,
                  ((const mf_folder_entry *)b)->name);
}

static mf_rc add_entry(listing *list, mf_arena *arena, const char *name,
                       const struct stat *info, mf_err *err) {
    if (list->count == MF_FOLDER_ENTRIES_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "more than %d names in one folder",
                       MF_FOLDER_ENTRIES_MAX);
    }
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 32 : 2 * list->room;
        mf_folder_entry *more = mf_arena_alloc_array(arena, room, sizeof *more);
        if (more == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory to list a folder");
        }
        if (list->count > 0) {
            memcpy(more, list->entries, list->count * sizeof *more);
        }
        list->entries = more;
        list->room = room;
    }
    mf_str kept = mf_arena_str(arena, mf_str_from(name));
    if (kept.p == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to list a folder");
    }
    list->entries[list->count++] = (mf_folder_entry){
        .name = kept.p,
        .is_folder = S_ISDIR(info->st_mode),
        .bytes = S_ISREG(info->st_mode) ? (uint64_t)info->st_size : 0};
    return MF_OK;
}

mf_rc mf_folder_list(const char *path, mf_arena *arena, const mf_folder_entry **entries,
                     size_t *count, mf_err *err) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return fail_sys(err, errno, "open folder", path);
    }
    listing list = {.count = 0};
    mf_rc rc = MF_OK;
    for (struct dirent *one; rc == MF_OK && (one = readdir(dir)) != NULL;) {
        struct stat info;
        if (one->d_name[0] != '.' && fstatat(dirfd(dir), one->d_name, &info, 0) == 0 &&
            (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))) {
            rc = add_entry(&list, arena, one->d_name, &info, err);
        }
    }
    (void)closedir(dir); /* it was only read */
    if (rc != MF_OK) {
        return rc;
    }
    if (list.count > 0) {
        qsort(list.entries, list.count, sizeof *list.entries, by_name);
    }
    *entries = list.entries;
    *count = list.count;
    return MF_OK;
}

/* --- removing ----------------------------------------------------------------------
 */

static mf_rc remove_within(int parent, const char *name, int depth, mf_err *err) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return MF_OK;
    }
    if (errno != EISDIR && errno != EPERM) {
        return fail_sys(err, errno, "remove", name);
    }
    if (depth == MF_FOLDER_DEPTH_MAX) {
        return MF_FAIL(err, MF_E_IO, "cannot remove '%s': more than %d folders deep",
                       name, MF_FOLDER_DEPTH_MAX);
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        mf_rc rc = fail_sys(err, errno, "open folder", name);
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    mf_rc rc = MF_OK;
    for (struct dirent *one; rc == MF_OK && (one = readdir(dir)) != NULL;) {
        if (strcmp(one->d_name, ".") != 0 && strcmp(one->d_name, "..") != 0) {
            rc = remove_within(fd, one->d_name, depth + 1, err);
        }
    }
    (void)closedir(dir);
    if (rc == MF_OK && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        rc = fail_sys(err, errno, "remove folder", name);
    }
    return rc;
}

mf_rc mf_folder_remove(const char *path, mf_err *err) {
    return remove_within(AT_FDCWD, path, 0, err);
}

/* --- replacing ---------------------------------------------------------------------
 */

static mf_rc sync_parent(const char *path, mf_err *err) {
    char parent[MF_PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash != NULL) {
        size_t len = slash > path ? (size_t)(slash - path) : 1;
        if (len >= sizeof parent) {
            return MF_FAIL(err, MF_E_LIMIT, "a path is longer than %d bytes",
                           MF_PATH_MAX);
        }
        memcpy(parent, path, len);
        parent[len] = '\0';
    }
    return mf_folder_sync(parent, err);
}

/* For file systems without exchange: the old one steps aside. */
static mf_rc replace_in_steps(const char *from, const char *to, mf_err *err) {
    char aside[MF_PATH_MAX];
    int n = snprintf(aside, sizeof aside, "%s.old", from);
    if (n < 0 || (size_t)n >= sizeof aside) {
        return MF_FAIL(err, MF_E_LIMIT, "a path is longer than %d bytes", MF_PATH_MAX);
    }
    if (rename(to, aside) != 0) {
        return fail_sys(err, errno, "move aside", to);
    }
    if (rename(from, to) != 0) {
        mf_rc rc = fail_sys(err, errno, "move into place", to);
        (void)rename(aside, to); /* back again; what failed first is told */
        return rc;
    }
    return rename(aside, from) == 0 ? MF_OK : fail_sys(err, errno, "rename", aside);
}

mf_rc mf_folder_replace(const char *from, const char *to, mf_err *err) {
    bool there = mf_file_exists(to);
    if (!there && rename(from, to) != 0) {
        return fail_sys(err, errno, "move into place", to);
    }
    if (there && renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) != 0) {
        if (errno != EINVAL && errno != ENOSYS) {
            return fail_sys(err, errno, "replace", to);
        }
        MF_TRY(replace_in_steps(from, to, err));
    }
    MF_TRY(sync_parent(to, err));
    return there ? mf_folder_remove(from, err) : MF_OK;
}

mf_rc mf_folder_sync(const char *path, mf_err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail_sys(err, errno, "open folder", path);
    }
    mf_rc rc = fsync(fd) == 0 ? MF_OK : fail_sys(err, errno, "sync folder", path);
    (void)close(fd); /* it was only synced */
    return rc;
}
