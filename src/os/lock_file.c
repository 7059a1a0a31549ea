/* lock_file.c - one process at a time.
 *
 * Open file description locks (fcntl F_OFD_SETLK) rather than flock: both belong to the
 * open file, but only these can be asked about without being taken.  With flock, a
 * client looking for the server would have to take the lock for a moment, and a server
 * starting in that moment would be refused. */
#include "os/lock_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "os/file.h"

struct mf_lock_file {
    int fd;
};

static struct flock whole_file(short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

static mf_rc fail_sys(mf_err *err, const char *what, const char *path) {
    int sys = errno;
    char reason[128];
    return MF_FAIL_SYS(err, mf_rc_from_errno(sys), sys, "cannot %s lock file '%s': %s",
                       what, path, strerror_r(sys, reason, sizeof reason));
}

/* Reads at most MF_LOCK_TEXT_MAX bytes; empty on failure. */
static mf_str read_text(int fd, char *text) {
    ssize_t n = pread(fd, text, MF_LOCK_TEXT_MAX, 0);
    return (mf_str){text, n > 0 ? (size_t)n : 0};
}

/* The new text first, then the cut: a reader never meets an empty file in between. */
static mf_rc write_text(int fd, mf_str lines, mf_err *err) {
    char text[MF_LOCK_TEXT_MAX + 1];
    int n = snprintf(text, sizeof text, "pid %ld\n%.*s", (long)getpid(),
                     MF_STR_ARGS(lines));
    if (n < 0 || n > MF_LOCK_TEXT_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "a lock file holds at most %d bytes",
                       MF_LOCK_TEXT_MAX);
    }
    errno = EIO; /* what a fault point and a write cut short tell */
    bool written = !MF_FAULT("lock_file.write") &&
                   pwrite(fd, text, (size_t)n, 0) == n && ftruncate(fd, n) == 0;
    if (!written) {
        return MF_FAIL_SYS(err, mf_rc_from_errno(errno), errno,
                           "cannot write the text of a lock file");
    }
    return MF_OK;
}

static mf_rc fail_locked(int fd, const char *path, mf_err *err) {
    char text[MF_LOCK_TEXT_MAX];
    mf_str rest = read_text(fd, text);
    mf_str first = mf_str_split(&rest, '\n');
    int64_t pid = 0;
    if (mf_str_starts(first, MF_STR("pid ")) &&
        mf_str_to_i64(mf_str_sub(first, 4, first.len), &pid)) {
        return MF_FAIL(err, MF_E_LOCKED, "'%s' is held by process %lld", path,
                       (long long)pid);
    }
    return MF_FAIL(err, MF_E_LOCKED, "'%s' is held by another process", path);
}

mf_rc mf_lock_file_open(const char *path, mf_lock_file **out, mf_err *err) {
    mf_lock_file *lock = mf_alloc(sizeof *lock);
    if (lock == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for lock file '%s'", path);
    }
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    mf_rc rc = MF_OK;
    struct flock want = whole_file(F_WRLCK);
    if (lock->fd < 0) {
        rc = fail_sys(err, "open", path);
    } else if (fcntl(lock->fd, F_OFD_SETLK, &want) != 0) {
        rc = errno == EAGAIN || errno == EACCES ? fail_locked(lock->fd, path, err)
                                                : fail_sys(err, "lock", path);
    } else {
        rc = write_text(lock->fd, MF_STR_NONE, err);
        if (rc != MF_OK) {
            rc = mf_err_wrap(err, rc, "'%s'", path);
        }
    }
    if (rc != MF_OK) {
        mf_lock_file_close(lock);
        return rc;
    }
    *out = lock;
    return MF_OK;
}

void mf_lock_file_close(mf_lock_file *lock) {
    if (lock == NULL) {
        return;
    }
    if (lock->fd >= 0) {
        close(lock->fd);
    }
    mf_free(lock);
}

mf_rc mf_lock_file_set_text(mf_lock_file *lock, mf_str lines, mf_err *err) {
    return write_text(lock->fd, lines, err);
}

mf_rc mf_lock_file_read_text(const char *path, mf_buf *out, mf_err *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC); /* asking about a write lock needs both */
    if (fd < 0) {
        return fail_sys(err, "open", path);
    }
    mf_rc rc = MF_OK;
    struct flock ask = whole_file(F_WRLCK);
    if (fcntl(fd, F_OFD_GETLK, &ask) != 0) {
        rc = fail_sys(err, "ask about", path);
    } else if (ask.l_type == F_UNLCK) {
        rc = MF_FAIL(err, MF_E_NOTFOUND, "nobody holds '%s'", path);
    } else {
        char text[MF_LOCK_TEXT_MAX];
        rc = mf_buf_add_str(out, read_text(fd, text));
        if (rc != MF_OK) {
            rc = MF_FAIL(err, rc, "no room for the text of '%s'", path);
        }
    }
    close(fd);
    return rc;
}
