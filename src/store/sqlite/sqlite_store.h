/* sqlite_store.h - the default backend: one SQLite file in WAL mode.
 *
 * Opening creates the file (0600) or brings its schema up to date by the numbered
 * migrations of sql/sqlite/, which are compiled in; a schema newer than this program is
 * refused and nothing is written.  Only one writer connection at a time; the caller
 * holds the data directory's lock file. */
#ifndef MF_STORE_SQLITE_SQLITE_STORE_H
#define MF_STORE_SQLITE_SQLITE_STORE_H

#include "store/store.h"

typedef enum mf_sync_mode {
    MF_SYNC_FULL = 0, /* an acknowledged write survives a power cut */
    MF_SYNC_NORMAL,   /* a power cut may lose the newest writes, never corrupts */
    MF_SYNC_OFF       /* tests and throw-away data only */
} mf_sync_mode;

typedef struct mf_sqlite_options {
    const char *path; /* the database file */
    mf_sync_mode sync;
    int64_t cache_bytes; /* page cache of the writer; readers take a sixteenth each */
    int64_t busy_timeout_ms;
} mf_sqlite_options;

mf_sqlite_options mf_sqlite_options_default(const char *path);
MF_CHECKED mf_rc mf_sqlite_store_open(const mf_sqlite_options *options, mf_store **out,
                                      mf_err *err);

#endif
