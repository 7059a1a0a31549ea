/* migrate.h - brings a database file up to the schema this program knows.
 *
 * The schema's number is SQLite's user_version, the file's mark as a memfuse store its
 * application_id.  Migration N takes a file from N - 1 to N in one transaction. */
#ifndef MF_STORE_SQLITE_MIGRATE_H
#define MF_STORE_SQLITE_MIGRATE_H

#include "store/sqlite/sqlite_conn.h"

enum { MF_SQLITE_APPLICATION_ID = 0x4d464d53 }; /* "MFMS" */

typedef struct mf_sqlite_migration {
    int number;       /* 1, 2, ... without gaps */
    const char *name; /* of its file */
    const char *sql;
} mf_sqlite_migration;

/* Made at build time from sql/sqlite/NNNN_name.sql. */
extern const mf_sqlite_migration mf_sqlite_migrations[];
extern const int mf_sqlite_migration_count;

/* Looks at the file without writing: MF_E_UNSUPPORTED when it is another program's
 * database or has a newer schema. */
MF_CHECKED mf_rc mf_sqlite_check_file(sqlite3 *db, const char *path, mf_err *err);
/* Runs the migrations that are missing.  The file has passed the check. */
MF_CHECKED mf_rc mf_sqlite_migrate(sqlite3 *db, const char *path, mf_err *err);

#endif
