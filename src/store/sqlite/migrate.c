/* migrate.c - brings a database file up to the schema this program knows. */
#include "store/sqlite/migrate.h"

static mf_rc read_number(sqlite3 *db, const char *sql, int64_t *out, mf_err *err) {
    sqlite3_stmt *st = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(st);
    }
    mf_rc rc = MF_OK;
    if (code == SQLITE_ROW) {
        *out = sqlite3_column_int64(st, 0);
    } else {
        rc = mf_sqlite_fail(db, code, err, sql);
    }
    (void)sqlite3_finalize(st); /* repeats the failure of the step */
    return rc;
}

static mf_rc check_numbers(sqlite3 *db, mf_err *err) {
    int64_t application = 0;
    int64_t version = 0;
    int64_t objects = 0;
    MF_TRY(read_number(db, "PRAGMA application_id", &application, err));
    MF_TRY(read_number(db, "PRAGMA user_version", &version, err));
    MF_TRY(read_number(db, "SELECT count(*) FROM sqlite_master", &objects, err));
    bool empty = application == 0 && version == 0 && objects == 0;
    if (application != MF_SQLITE_APPLICATION_ID && !empty) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "this database belongs to another program");
    }
    if (version < 0 || version > mf_sqlite_migration_count) {
        return MF_FAIL(
            err, MF_E_UNSUPPORTED,
            "the data was written by a newer memfuse: its schema is number %lld, "
            "this program knows up to %d",
            (long long)version, mf_sqlite_migration_count);
    }
    return MF_OK;
}

mf_rc mf_sqlite_check_file(sqlite3 *db, const char *path, mf_err *err) {
    mf_rc rc = check_numbers(db, err);
    return rc == MF_OK ? MF_OK : mf_err_wrap(err, rc, "%s", path);
}

/* One migration and the number that records it, in one transaction. */
static int apply(sqlite3 *db, const mf_sqlite_migration *migration) {
    char stamp[128];
    sqlite3_snprintf((int)sizeof stamp, stamp,
                     "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
                     (int)MF_SQLITE_APPLICATION_ID, migration->number);
    int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_exec(db, migration->sql, NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_exec(db, stamp, NULL, NULL, NULL);
    }
    return code;
}

mf_rc mf_sqlite_migrate(sqlite3 *db, const char *path, mf_err *err) {
    int64_t version = 0;
    MF_TRY(read_number(db, "PRAGMA user_version", &version, err));
    for (int i = (int)version; i < mf_sqlite_migration_count; i++) {
        const mf_sqlite_migration *migration = &mf_sqlite_migrations[i];
        int code = apply(db, migration);
        if (code != SQLITE_OK) {
            /* Closing the connection rolls back what was begun. */
            char what[96];
            sqlite3_snprintf((int)sizeof what, what, "run migration %s",
                             migration->name);
            mf_rc rc = mf_sqlite_fail(db, code, err, what);
            return mf_err_wrap(err, rc, "%s", path);
        }
    }
    return MF_OK;
}
