/* file_stamp.h - tells whether a file is still the one seen before. */
#ifndef MF_OS_FILE_STAMP_H
#define MF_OS_FILE_STAMP_H

#include <stdint.h>

#include "base/err.h"

/* Equal stamps: nobody has written or replaced the file in between, unless on purpose
 * without a trace.  Different ones: perhaps only copied or touched. */
typedef struct mf_file_stamp {
    uint64_t bytes;
    int64_t modified_ns; /* wall clock */
    uint64_t inode;
} mf_file_stamp;

/* MF_E_NOTFOUND or MF_E_IO. */
MF_CHECKED mf_rc mf_file_stamp_get(const char *path, mf_file_stamp *out, mf_err *err);
bool mf_file_stamp_eq(const mf_file_stamp *a, const mf_file_stamp *b);

#endif
