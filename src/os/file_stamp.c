/* file_stamp.c - size, time and number of a file. */
#include "os/file_stamp.h"

#include <errno.h>
#include <sys/stat.h>

#include "os/file.h"

mf_rc mf_file_stamp_get(const char *path, mf_file_stamp *out, mf_err *err) {
    struct stat st;
    if (stat(path, &st) != 0) {
        int sys = errno;
        return MF_FAIL_SYS(err, mf_rc_from_errno(sys), sys, "cannot look at '%s'",
                           path);
    }
    *out = (mf_file_stamp){
        .bytes = (uint64_t)st.st_size,
        .modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
        .inode = (uint64_t)st.st_ino,
    };
    return MF_OK;
}

bool mf_file_stamp_eq(const mf_file_stamp *a, const mf_file_stamp *b) {
    return a->bytes == b->bytes && a->modified_ns == b->modified_ns &&
           a->inode == b->inode;
}
