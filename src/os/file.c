/* file.c - files and folders. */
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"

enum { READ_PIECE = 64 * 1024 };

mf_rc mf_rc_from_errno(int sys) {
    switch (sys) {
    case ENOENT:
    case ENOTDIR:
        return MF_E_NOTFOUND;
    case ENOSPC:
    case EDQUOT:
        return MF_E_FULL;
    case ENOMEM:
        return MF_E_NOMEM;
    default:
        return MF_E_IO;
    }
}

static mf_rc fail_sys(mf_err *err, int sys, const char *what, const char *path) {
    char reason[128];
    return MF_FAIL_SYS(err, mf_rc_from_errno(sys), sys, "cannot %s '%s': %s", what,
                       path, strerror_r(sys, reason, sizeof reason));
}

/* True when the armed point fires; errno then tells of a failing disk. */
static bool faulty(const char *point) {
    (void)point; /* release builds have no points */
    if (MF_FAULT(point)) {
        errno = EIO;
        return true;
    }
    return false;
}

static int open_path(const char *path, int flags) {
    return faulty("file.open") ? -1 : open(path, flags | O_CLOEXEC);
}

mf_rc mf_file_read(const char *path, mf_buf *out, mf_err *err) {
    int fd = open_path(path, O_RDONLY);
    if (fd < 0) {
        return fail_sys(err, errno, "open", path);
    }
    mf_rc rc = MF_OK;
    size_t len_before = out->len;
    char piece[READ_PIECE];
    for (;;) {
        ssize_t n = faulty("file.read") ? -1 : read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = fail_sys(err, errno, "read", path);
            break;
        }
        if (n == 0) {
            break;
        }
        rc = mf_buf_add(out, piece, (size_t)n);
        if (rc != MF_OK) {
            rc = rc == MF_E_LIMIT ? MF_FAIL(err, rc, "'%s' is larger than %zu bytes",
                                            path, out->bytes_max)
                                  : MF_FAIL(err, rc, "no memory to read '%s'", path);
            break;
        }
    }
    if (rc != MF_OK) {
        out->len = len_before;
        out->failed = MF_OK;
        if (out->p != NULL) {
            out->p[len_before] = '\0';
        }
    }
    close(fd);
    return rc;
}

mf_rc mf_file_map(const char *path, mf_file_view *out, mf_err *err) {
    int fd = open_path(path, O_RDONLY);
    if (fd < 0) {
        return fail_sys(err, errno, "open", path);
    }
    mf_rc rc = MF_OK;
    struct stat st;
    void *p = NULL;
    if (fstat(fd, &st) != 0) {
        rc = fail_sys(err, errno, "look at", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = MF_FAIL(err, MF_E_IO, "'%s' is not a regular file", path);
    } else if (st.st_size > 0) {
        p = faulty("file.map")
                ? MAP_FAILED
                : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            rc = fail_sys(err, errno, "map", path);
        }
    }
    if (rc == MF_OK) {
        *out = (mf_file_view){p, (size_t)st.st_size};
    }
    close(fd); /* the mapping keeps the file */
    return rc;
}

void mf_file_unmap(mf_file_view *view) {
    if (view == NULL || view->p == NULL) {
        return;
    }
    /* munmap takes a plain pointer; nothing is written through it. */
    (void)munmap((void *)(uintptr_t)view->p, view->size);
    *view = (mf_file_view){NULL, 0};
}

/* Writes all of the bytes; false with errno on failure. */
static bool write_all(int fd, mf_str bytes) {
    while (bytes.len > 0) {
        ssize_t n = faulty("file.write") ? -1 : write(fd, bytes.p, bytes.len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            bytes = mf_str_sub(bytes, (size_t)n, bytes.len);
        }
    }
    return true;
}

static bool sync_fd(int fd) {
    return !faulty("file.sync") && fsync(fd) == 0;
}

/* Syncs the folder that holds `path`, so that a rename inside it survives. */
static mf_rc sync_folder_of(const char *path, mf_err *err) {
    char folder[MF_PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash != NULL) {
        size_t len = slash > path ? (size_t)(slash - path) : 1;
        memcpy(folder, path, len);
        folder[len] = '\0';
    }
    int fd = open_path(folder, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fail_sys(err, errno, "open", folder);
    }
    mf_rc rc = sync_fd(fd) ? MF_OK : fail_sys(err, errno, "sync", folder);
    close(fd);
    return rc;
}

mf_rc mf_file_write_atomic(const char *path, mf_str bytes, mf_err *err) {
    char temporary[MF_PATH_MAX];
    int n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary) {
        return MF_FAIL(err, MF_E_LIMIT, "a path is longer than %d bytes", MF_PATH_MAX);
    }
    int fd = faulty("file.open") ? -1 : mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        return fail_sys(err, errno, "write", path);
    }
    mf_rc rc = MF_OK;
    if (!write_all(fd, bytes)) {
        rc = fail_sys(err, errno, "write", path);
    } else if (!sync_fd(fd)) {
        rc = fail_sys(err, errno, "sync", path);
    }
    if (close(fd) != 0 && rc == MF_OK) {
        rc = fail_sys(err, errno, "write", path);
    }
    if (rc == MF_OK && (faulty("file.rename") || rename(temporary, path) != 0)) {
        rc = fail_sys(err, errno, "replace", path);
    }
    if (rc != MF_OK) {
        (void)unlink(temporary); /* what went wrong before is what the caller hears */
        return rc;
    }
    return sync_folder_of(path, err);
}

mf_rc mf_dir_make(const char *path, mf_err *err) {
    char part[MF_PATH_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof part) {
        return MF_FAIL(err, len == 0 ? MF_E_INVAL : MF_E_LIMIT,
                       "a folder's path has %zu bytes, allowed are 1 to %d", len,
                       MF_PATH_MAX - 1);
    }
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return fail_sys(err, errno, "make folder", part);
        }
    }
    struct stat st;
    if (stat(path, &st) != 0) {
        return fail_sys(err, errno, "look at", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        return MF_FAIL_SYS(err, MF_E_IO, ENOTDIR, "'%s' is in the way: not a folder",
                           path);
    }
    return MF_OK;
}

mf_rc mf_path_join(char *out, size_t out_size, const char *dir, const char *name,
                   mf_err *err) {
    size_t dir_len = name[0] == '/' ? 0 : strlen(dir);
    while (dir_len > 1 && dir[dir_len - 1] == '/') {
        dir_len--;
    }
    bool slash = dir_len > 0 && dir[dir_len - 1] != '/';
    size_t name_len = strlen(name);
    if (dir_len + slash + name_len >= out_size) {
        return MF_FAIL(err, MF_E_LIMIT, "the path to '%.100s' is too long", name);
    }
    memcpy(out, dir, dir_len);
    if (slash) {
        out[dir_len++] = '/';
    }
    memcpy(out + dir_len, name, name_len + 1);
    return MF_OK;
}

bool mf_file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* The first `count` figures of statm, in pages: address space, resident, shared.  false
 * when they cannot be had. */
static bool read_statm(int64_t pages[], size_t count) {
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;
    if (fd >= 0) {
        close(fd);
    }
    mf_str rest = {text, n > 0 ? (size_t)n : 0};
    for (size_t i = 0; i < count; i++) {
        if (!mf_str_to_i64(mf_str_split(&rest, ' '), &pages[i]) || pages[i] < 0) {
            return false;
        }
    }
    return true;
}

static size_t page_bytes(void) {
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (size_t)bytes : 0;
}

size_t mf_process_rss_bytes(void) {
    int64_t pages[2];
    return read_statm(pages, 2) ? (size_t)pages[1] * page_bytes() : 0;
}

size_t mf_process_private_bytes(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    int64_t pages[3];
    if (!read_statm(pages, 3) || pages[1] < pages[2]) {
        return 0;
    }
    return (size_t)(pages[1] - pages[2]) * page_bytes();
#endif
}
