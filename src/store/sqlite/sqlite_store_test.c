/* sqlite_store_test.c - what is special to the SQLite backend: its file, its schema,
 * the plans of its statements, and what it makes of SQLite's failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "store/sqlite/migrate.h"
#include "store/sqlite/sqlite_conn.h"
#include "store/sqlite/sqlite_store.h"

typedef struct world {
    char dir[64];
    char path[96];
    mf_store *store;
    mf_conn *w;
    mf_err err;
} world;

static void ok(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}
#define OK(call) ok((call), &t->err, __LINE__)

static mf_rc open_file(world *t, mf_store **out) {
    mf_sqlite_options options = mf_sqlite_options_default(t->path);
    options.sync = MF_SYNC_OFF;
    return mf_sqlite_store_open(&options, out, &t->err);
}

static int setup(void **state) {
    static world place;
    world *t = &place;
    *t = (world){0};
    snprintf(t->dir, sizeof t->dir, P_tmpdir "/mf-sqlite-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->path, sizeof t->path, "%.63s/store.db", t->dir);
    *state = t;
    return 0;
}

static int teardown(void **state) {
    world *t = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    if (t->store != NULL) {
        t->store->ops->conn_close(t->w);
        t->store->ops->close(t->store);
    }
    for (size_t i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", t->path, suffixes[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(t->dir), 0);
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static void open_all(world *t) {
    OK(open_file(t, &t->store));
    OK(t->store->ops->conn_open(t->store, true, &t->w, &t->err));
}

static void run_sql(world *t, const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(t->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static mf_rc add_user(world *t, const char *name) {
    mf_named_row row = {.id = mf_uuid_new(), .name = mf_str_from(name)};
    return t->w->ops->user_insert(t->w, &row, &t->err);
}

static uint64_t users_in(world *t) {
    mf_store_counts counts = {0};
    OK(t->w->ops->counts(t->w, &counts, &t->err));
    return counts.users;
}

/* --- the file --- */

static void files_belong_to_their_owner_alone(void **state) {
    world *t = *state;
    open_all(t);
    OK(t->w->ops->begin(t->w, &t->err));
    OK(add_user(t, "u"));
    OK(t->w->ops->commit(t->w, &t->err));
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", t->path, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    mf_store_counts counts;
    OK(t->w->ops->counts(t->w, &counts, &t->err));
    assert_true(counts.bytes >= 4096);
}

static void data_is_there_after_reopening(void **state) {
    world *t = *state;
    open_all(t);
    OK(t->w->ops->begin(t->w, &t->err));
    OK(add_user(t, "kept"));
    OK(t->w->ops->commit(t->w, &t->err));
    OK(t->w->ops->begin(t->w, &t->err));
    OK(add_user(t, "not committed"));
    t->w->ops->rollback(t->w);
    t->store->ops->conn_close(t->w);
    t->store->ops->close(t->store);
    open_all(t);
    assert_int_equal(users_in(t), 1);
    OK(t->w->ops->verify(t->w, &t->err));
}

typedef struct saved_file {
    long size;
    unsigned char *bytes;
} saved_file;

static saved_file save(const char *path) {
    saved_file f = {0};
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    f.size = ftell(in);
    rewind(in);
    f.bytes = mf_alloc_zero(1, (size_t)f.size + 1);
    assert_non_null(f.bytes);
    assert_int_equal(fread(f.bytes, 1, (size_t)f.size, in), f.size);
    fclose(in);
    return f;
}

static void assert_refused_and_unchanged(world *t, mf_rc expected, const char *words) {
    saved_file before = save(t->path);
    mf_store *store = NULL;
    assert_int_equal(open_file(t, &store), expected);
    assert_null(store);
    assert_non_null(strstr(t->err.text, words));
    assert_non_null(strstr(t->err.text, t->path));
    saved_file after = save(t->path);
    assert_int_equal(after.size, before.size);
    assert_memory_equal(after.bytes, before.bytes, (size_t)before.size);
    mf_free(before.bytes);
    mf_free(after.bytes);
}

static void a_newer_schema_is_refused_and_left_alone(void **state) {
    world *t = *state;
    open_all(t);
    t->store->ops->conn_close(t->w);
    t->store->ops->close(t->store);
    t->store = NULL;
    run_sql(t, "PRAGMA user_version = 999");
    assert_refused_and_unchanged(t, MF_E_UNSUPPORTED, "schema is number 999");
}

static void a_database_of_another_program_is_refused(void **state) {
    world *t = *state;
    run_sql(t, "CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1)");
    assert_refused_and_unchanged(t, MF_E_UNSUPPORTED, "another program");
}

static void a_file_that_is_no_database_is_refused(void **state) {
    world *t = *state;
    FILE *out = fopen(t->path, "wb");
    assert_non_null(out);
    for (int i = 0; i < 2000; i++) {
        fputs("not a database\n", out);
    }
    fclose(out);
    assert_refused_and_unchanged(t, MF_E_CORRUPT, "not a database");
}

static void an_empty_file_becomes_a_store(void **state) {
    world *t = *state;
    fclose(fopen(t->path, "wb"));
    open_all(t);
    assert_int_equal(users_in(t), 0);
}

static void a_missing_folder_is_an_io_error(void **state) {
    world *t = *state;
    mf_sqlite_options options =
        mf_sqlite_options_default("/nonexistent/folder/store.db");
    mf_store *store = NULL;
    mf_rc rc = mf_sqlite_store_open(&options, &store, &t->err);
    assert_true(rc == MF_E_IO || rc == MF_E_NOTFOUND);
    assert_null(store);
}

static void migrations_are_numbered_without_gaps(void **state) {
    (void)state;
    assert_true(mf_sqlite_migration_count >= 1);
    for (int i = 0; i < mf_sqlite_migration_count; i++) {
        assert_int_equal(mf_sqlite_migrations[i].number, i + 1);
        assert_true(strlen(mf_sqlite_migrations[i].sql) > 0);
    }
}

/* A file as the first schema left it: its data stays, its vectors have no key, and new
 * ones are found. */
static void a_file_of_the_first_schema_is_brought_up_to_date(void **state) {
    world *t = *state;
    run_sql(t, mf_sqlite_migrations[0].sql);
    run_sql(t, "PRAGMA application_id = 1296452947; PRAGMA user_version = 1;"
               "INSERT INTO users VALUES(1, x'000102030405060708090a0b0c0d0e0f', 'u',"
               " NULL, 1, 1);"
               "INSERT INTO knowledge VALUES(5, x'000102030405060708090a0b0c0d0e0f',"
               " x'100102030405060708090a0b0c0d0e0f', 'text', 1, 1);"
               "INSERT INTO models VALUES(1, 'mini', 2);"
               "INSERT INTO chunks VALUES(x'000102030405060708090a0b0c0d0e0f', 1, 5, 0,"
               " 1, 1, 1, x'003c0000')");
    open_all(t);
    mf_store_counts counts = {0};
    OK(t->w->ops->counts(t->w, &counts, &t->err));
    assert_int_equal(counts.users, 1);
    assert_int_equal(counts.chunks, 1);
    const mf_content_key keys[] = {{{0}}, {{1}}};
    const uint16_t vector[2] = {0, 0x3c00};
    uint16_t got[2][2];
    bool found[2] = {false, false};
    mf_uuid user;
    for (uint8_t i = 0; i < MF_UUID_BYTES; i++) {
        user.b[i] = i;
    }
    mf_chunk_row row = {.kind = MF_DOC_KNOWLEDGE,
                        .num = 5,
                        .part_count = 1,
                        .doc_updated_us = 1,
                        .model = MF_STR("mini"),
                        .vector = vector,
                        .dim = 2,
                        .content = keys[1]};
    OK(t->w->ops->chunk_find(t->w, keys, 2, 2, got[0], found, &t->err));
    assert_false(found[0] || found[1]);
    OK(t->w->ops->begin(t->w, &t->err));
    OK(t->w->ops->chunk_put(t->w, user, &row, &t->err));
    OK(t->w->ops->commit(t->w, &t->err));
    OK(t->w->ops->chunk_find(t->w, keys, 2, 2, got[0], found, &t->err));
    assert_true(!found[0] && found[1]);
    assert_memory_equal(got[1], vector, sizeof vector);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void a_missing_content_secret_is_corrupt(void **state) {
    world *t = *state;
    open_all(t);
    run_sql(t, "DELETE FROM secrets");
    mf_content_key secret;
    assert_int_equal(t->w->ops->content_secret(t->w, &secret, &t->err), MF_E_CORRUPT);
}

/* --- the statements --- */

typedef enum scope { TENANT, DIRECTORY, STORE } scope;
static const struct {
    const char *name;
    scope scope;
    const char *text;
} statements[] = {
#define MF_SQL(name, scope, text) {#name, scope, text},
#include "store/sqlite/statements.def"
#undef MF_SQL
};

static void explain(sqlite3 *db, const char *name, const char *text) {
    char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", text);
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", name, sqlite3_errmsg(db));
    }
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(st, 3);
        if (strncmp(step, "SCAN", 4) == 0 && strstr(step, "CONSTANT ROW") == NULL) {
            fail_msg("%s reads a whole table: %s", name, step);
        }
    }
    sqlite3_finalize(st);
    sqlite3_free(sql);
}

static void every_tenant_statement_names_its_user_and_uses_a_key(void **state) {
    world *t = *state;
    open_all(t);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(t->path, &db), SQLITE_OK);
    size_t tenant = 0;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (statements[i].scope != TENANT) {
            continue;
        }
        tenant++;
        if (strstr(statements[i].text, "user_id") == NULL) {
            fail_msg("%s does not name user_id", statements[i].name);
        }
        if (strncmp(statements[i].text, "SELECT", 6) == 0 &&
            strstr(statements[i].text, "user_id = ?1") == NULL) {
            fail_msg("%s does not ask for one user", statements[i].name);
        }
        explain(db, statements[i].name, statements[i].text);
    }
    assert_true(tenant > 30);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* A delete checks the tables that refer to the row; each needs an index for that. */
static void every_foreign_key_has_an_index_on_its_child(void **state) {
    world *t = *state;
    open_all(t);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(t->path, &db), SQLITE_OK);
    static const char *const lookups[] = {
        "SELECT 1 FROM sessions WHERE user_id = ?1",
        "SELECT 1 FROM sessions WHERE agent_id = ?1",
        "SELECT 1 FROM messages WHERE user_id = ?1 AND session_id = ?2",
        "SELECT 1 FROM knowledge WHERE user_id = ?1",
        "SELECT 1 FROM chunks WHERE user_id = ?1",
        "SELECT 1 FROM backlog WHERE user_id = ?1",
        "SELECT 1 FROM windows WHERE user_id = ?1",
        "SELECT 1 FROM user_settings WHERE user_id = ?1",
        "SELECT 1 FROM idempotency WHERE user_id = ?1",
        "SELECT 1 FROM api_keys WHERE user_id = ?1",
        "SELECT 1 FROM jobs WHERE user_id = ?1",
    };
    for (size_t i = 0; i < sizeof lookups / sizeof lookups[0]; i++) {
        explain(db, lookups[i], lookups[i]);
    }
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void settings_hold_on_every_connection(void **state) {
    world *t = *state;
    open_all(t);
    mf_conn *r = NULL;
    OK(t->store->ops->conn_open(t->store, false, &r, &t->err));
    static const struct {
        const char *pragma;
        int64_t value;
    } settings[] = {{"PRAGMA foreign_keys", 1},
                    {"PRAGMA secure_delete", 1},
                    {"PRAGMA temp_store", 2},
                    {"PRAGMA page_size", 4096},
                    {"PRAGMA application_id", MF_SQLITE_APPLICATION_ID}};
    for (size_t i = 0; i < 2 * sizeof settings / sizeof settings[0]; i++) {
        sqlite3 *db = mf_sqlite_conn_of(i % 2 == 0 ? t->w : r)->db;
        sqlite3_stmt *st = NULL;
        assert_int_equal(sqlite3_prepare_v2(db, settings[i / 2].pragma, -1, &st, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int64(st, 0), settings[i / 2].value);
        sqlite3_finalize(st);
    }
    assert_int_equal(sqlite3_db_readonly(mf_sqlite_conn_of(r)->db, "main"), 1);
    t->store->ops->conn_close(r);
}

/* --- packed texts --- */

static void close_all(world *t) {
    t->store->ops->conn_close(t->w);
    t->store->ops->close(t->store);
    t->store = NULL;
}

/* A user with one message of `text`, which is packed. */
static mf_message_row add_packed(world *t, mf_arena *arena, mf_str text) {
    mf_named_row user = {.id = mf_uuid_new(), .name = MF_STR("u")};
    mf_named_row agent = {.id = mf_uuid_new(), .name = MF_STR("a")};
    mf_session_row session = {.id = mf_uuid_new(),
                              .user_id = user.id,
                              .agent_id = agent.id,
                              .name = MF_STR("s")};
    mf_message_row row = {.id = mf_uuid_new(),
                          .user_id = user.id,
                          .session_id = session.id,
                          .content = text};
    mf_text_limits limits = {.made_before_us = INT64_MAX, .bytes_max = 1};
    mf_text_slice slice;
    const mf_store_ops *ops = t->w->ops;
    OK(ops->begin(t->w, &t->err));
    OK(ops->user_insert(t->w, &user, &t->err));
    OK(ops->agent_insert(t->w, &agent, &t->err));
    OK(ops->session_insert(t->w, &session, &t->err));
    OK(ops->message_insert(t->w, &row, 1, &t->err));
    OK(ops->commit(t->w, &t->err));
    OK(ops->begin(t->w, &t->err));
    OK(ops->text_compress(t->w, &limits, &slice, &t->err));
    OK(ops->commit(t->w, &t->err));
    assert_int_equal(slice.packed, 1);
    mf_message_row got;
    OK(ops->message_get_by_num(t->w, user.id, &row.num, 1, arena, &got, &t->err));
    assert_true(mf_str_eq(got.content, text));
    return row;
}

static mf_str repeated(mf_arena *arena, size_t times) {
    char *text = mf_arena_alloc(arena, times * 16);
    assert_non_null(text);
    for (size_t i = 0; i < times; i++) {
        memcpy(text + i * 16, "correct horse b.", 16);
    }
    return (mf_str){text, times * 16};
}

static mf_rc ignore_message(void *ctx, const mf_message_row *row, mf_err *err) {
    (void)ctx;
    (void)row;
    (void)err;
    return MF_OK;
}

static void a_damaged_packed_text_is_corrupt_and_names_its_message(void **state) {
    world *t = *state;
    static const char *const damages[] = {
        "UPDATE messages SET packed = zeroblob(length(packed))",
        "UPDATE messages SET packed = substr(packed, 1, length(packed) - 1)",
        "UPDATE messages SET packed = x''",
        "UPDATE messages SET packed_len = packed_len + 1",
        "UPDATE messages SET packed_len = -1",
        "UPDATE messages SET packed_len = 4611686018427387904",
        "UPDATE messages SET packed_len = NULL",
        "UPDATE messages SET packed_with = 12345",
        "UPDATE messages SET packed_with = -1",
    };
    mf_arena *arena;
    OK(mf_arena_new(1 << 20, &arena, &t->err));
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        open_all(t);
        mf_message_row row = add_packed(t, arena, repeated(arena, 20));
        OK(t->w->ops->verify(t->w, &t->err));
        run_sql(t, damages[i]);
        mf_message_row got = {.num = 77};
        char text[64];
        snprintf(text, sizeof text, "the text of message %lld cannot be read",
                 (long long)row.num);
        assert_int_equal(t->w->ops->message_get_by_num(t->w, row.user_id, &row.num, 1,
                                                       arena, &got, &t->err),
                         MF_E_CORRUPT);
        assert_string_equal(t->err.text, text);
        assert_int_equal(got.num, 77);
        assert_int_equal(
            t->w->ops->message_scan(t->w, row.user_id, ignore_message, NULL, &t->err),
            MF_E_CORRUPT);
        assert_int_equal(t->w->ops->verify(t->w, &t->err), MF_E_CORRUPT);
        assert_string_equal(t->err.text, text);
        close_all(t);
        unlink(t->path);
    }
    mf_arena_free(arena);
}

/* What was compressed is not left behind in the file as it was. */
static void a_packed_text_leaves_no_plain_copy_in_the_file(void **state) {
    world *t = *state;
    mf_arena *arena;
    OK(mf_arena_new(1 << 20, &arena, &t->err));
    open_all(t);
    (void)add_packed(t, arena, repeated(arena, 20));
    close_all(t); /* moves the log into the file */
    FILE *file = fopen(t->path, "rb");
    assert_non_null(file);
    char *bytes = mf_alloc(1 << 20);
    assert_non_null(bytes);
    size_t len = fread(bytes, 1, 1 << 20, file);
    (void)fclose(file);
    assert_true(len > 4096);
    size_t copies = 0;
    mf_str needle = MF_STR("correct horse b.");
    for (size_t at = 0; at + needle.len <= len; at++) {
        copies += memcmp(bytes + at, needle.p, needle.len) == 0;
    }
    assert_in_range(copies, 0, 1); /* the frame spells it once */
    mf_free(bytes);
    mf_arena_free(arena);
    open_all(t);
}

static off_t file_size(const world *t) {
    struct stat st;
    assert_int_equal(stat(t->path, &st), 0);
    return st.st_size;
}

/* Many texts that pack well: the file is written anew when it is opened next. */
static void opening_gives_back_what_packing_saved(void **state) {
    world *t = *state;
    mf_arena *arena;
    mf_text_slice slice = {.more = true};
    mf_text_limits limits = {.made_before_us = INT64_MAX, .bytes_max = 1 << 20};
    OK(mf_arena_new(8 << 20, &arena, &t->err));
    open_all(t);
    mf_message_row row = add_packed(t, arena, repeated(arena, 20));
    const mf_store_ops *ops = t->w->ops;
    OK(ops->begin(t->w, &t->err));
    for (int i = 0; i < 2000; i++) {
        row.id = mf_uuid_new();
        row.content = repeated(arena, 60);
        OK(ops->message_insert(t->w, &row, 1, &t->err));
    }
    OK(ops->commit(t->w, &t->err));
    OK(ops->begin(t->w, &t->err));
    while (slice.more) {
        OK(ops->text_compress(t->w, &limits, &slice, &t->err));
    }
    OK(ops->commit(t->w, &t->err));
    close_all(t);
    off_t before = file_size(t);
    open_all(t);
    mf_message_row got;
    OK(t->w->ops->message_get_by_num(t->w, row.user_id, &row.num, 1, arena, &got,
                                     &t->err));
    assert_true(mf_str_eq(got.content, repeated(arena, 60)));
    OK(t->w->ops->verify(t->w, &t->err));
    close_all(t);
    off_t after = file_size(t);
    assert_true(after * 2 < before);
    open_all(t); /* once is enough */
    close_all(t);
    assert_int_equal(file_size(t), after);
    open_all(t);
    mf_arena_free(arena);
}

/* --- failures of SQLite --- */

/* Lets the file grow by so many pages; 0 lifts the limit. */
static void limit_pages(world *t, int more) {
    sqlite3 *db = mf_sqlite_conn_of(t->w)->db;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA page_count", -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int pages = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %d",
             more == 0 ? 1 << 30 : pages + more);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void a_full_disk_takes_the_transaction_along_and_says_so(void **state) {
    world *t = *state;
    open_all(t);
    char *text = mf_alloc_zero(1, 100000);
    assert_non_null(text);
    memset(text, 'x', 99999);
    limit_pages(t, 2);
    OK(t->w->ops->begin(t->w, &t->err));
    OK(add_user(t, "small"));
    OK(t->w->ops->savepoint(t->w, &t->err));
    assert_int_equal(add_user(t, text), MF_E_FULL);
    t->w->ops->savepoint_undo(t->w);
    mf_rc rc = t->w->ops->commit(t->w, &t->err);
    assert_true(rc == MF_OK || rc == MF_E_FULL);
    assert_int_equal(users_in(t), rc == MF_OK ? 1 : 0); /* all of it or nothing */
    limit_pages(t, 0);
    OK(t->w->ops->begin(t->w, &t->err)); /* a full disk is no reason to stop for good */
    OK(add_user(t, text));
    OK(t->w->ops->commit(t->w, &t->err));
    OK(t->w->ops->verify(t->w, &t->err));
    mf_free(text);
}

static void a_failed_commit_refuses_every_later_begin(void **state) {
    world *t = *state;
    open_all(t);
    mf_fault_arm("store.commit.before", 0, false);
    OK(t->w->ops->begin(t->w, &t->err));
    OK(add_user(t, "u"));
    assert_int_equal(t->w->ops->commit(t->w, &t->err), MF_E_IO);
    mf_fault_disarm();
    assert_int_equal(users_in(t), 0); /* reading goes on */
    assert_int_equal(t->w->ops->begin(t->w, &t->err), MF_E_IO);
    t->store->ops->conn_close(t->w);
    OK(t->store->ops->conn_open(t->store, true, &t->w, &t->err));
    assert_int_equal(t->w->ops->begin(t->w, &t->err),
                     MF_E_IO); /* the store, not the conn */
    t->store->ops->conn_close(t->w);
    t->store->ops->close(t->store);
    open_all(t);
    OK(t->w->ops->begin(t->w, &t->err));
    t->w->ops->rollback(t->w);
}

static void a_lock_held_by_another_process_is_busy(void **state) {
    world *t = *state;
    mf_sqlite_options options = mf_sqlite_options_default(t->path);
    options.busy_timeout_ms = 1;
    OK(mf_sqlite_store_open(&options, &t->store, &t->err));
    OK(t->store->ops->conn_open(t->store, true, &t->w, &t->err));
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(t->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(t->w->ops->begin(t->w, &t->err), MF_E_BUSY);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    OK(t->w->ops->begin(t->w, &t->err));
    t->w->ops->rollback(t->w);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static mf_rc ignore_chunk(void *ctx, const mf_chunk_row *row, mf_err *err) {
    (void)ctx;
    (void)row;
    (void)err;
    return MF_OK;
}

static void values_no_memfuse_writes_are_corrupt(void **state) {
    world *t = *state;
    open_all(t);
    run_sql(
        t,
        "INSERT INTO users(id, name, created_us, updated_us) VALUES"
        " (x'00112233445566778899aabbccddeeff', 'good', 0, 0), (x'01', 'bad', 0, 0);"
        "INSERT INTO models(model_id, name, dim) VALUES(1, 'm', 4);"
        "INSERT INTO chunks VALUES(x'00112233445566778899aabbccddeeff', 0, 1, 0, 1, 0,"
        " 1, x'000000', NULL)");
    mf_arena *arena = NULL;
    mf_named_row row;
    mf_uuid good;
    assert_true(mf_uuid_parse(MF_STR("00112233-4455-6677-8899-aabbccddeeff"), &good));
    OK(mf_arena_new(1 << 16, &arena, &t->err));
    assert_int_equal(t->w->ops->user_find(t->w, MF_STR("bad"), arena, &row, &t->err),
                     MF_E_CORRUPT);
    assert_int_equal(t->w->ops->chunk_scan(t->w, good, ignore_chunk, NULL, &t->err),
                     MF_E_CORRUPT);
    OK(t->w->ops->verify(t->w, &t->err));                /* the pages are sound */
    run_sql(t, "DELETE FROM users WHERE name = 'good'"); /* keys are off on this one */
    assert_int_equal(t->w->ops->verify(t->w, &t->err), MF_E_CORRUPT);
    assert_non_null(strstr(t->err.text, "chunks"));
    mf_arena_free(arena);
}

static void deleted_words_leave_the_file(void **state) {
    world *t = *state;
    open_all(t);
    static const char canary[] = "CANARY-4711-CANARY";
    OK(t->w->ops->begin(t->w, &t->err));
    mf_named_row row = {.id = mf_uuid_new(), .name = mf_str_from(canary)};
    OK(t->w->ops->user_insert(t->w, &row, &t->err));
    OK(t->w->ops->commit(t->w, &t->err));
    OK(t->w->ops->begin(t->w, &t->err));
    OK(t->w->ops->user_delete(t->w, row.id, &t->err));
    OK(t->w->ops->commit(t->w, &t->err));
    t->store->ops->conn_close(t->w); /* moves the log into the file and removes it */
    t->store->ops->close(t->store);
    t->store = NULL;
    saved_file f = save(t->path);
    assert_null(memmem(f.bytes, (size_t)f.size, canary, sizeof canary - 1));
    mf_free(f.bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(files_belong_to_their_owner_alone),
        TEST(data_is_there_after_reopening),
        TEST(a_newer_schema_is_refused_and_left_alone),
        TEST(a_database_of_another_program_is_refused),
        TEST(a_file_that_is_no_database_is_refused),
        TEST(an_empty_file_becomes_a_store),
        TEST(a_missing_folder_is_an_io_error),
        TEST(migrations_are_numbered_without_gaps),
        TEST(a_file_of_the_first_schema_is_brought_up_to_date),
        TEST(a_missing_content_secret_is_corrupt),
        TEST(every_tenant_statement_names_its_user_and_uses_a_key),
        TEST(every_foreign_key_has_an_index_on_its_child),
        TEST(settings_hold_on_every_connection),
        TEST(a_full_disk_takes_the_transaction_along_and_says_so),
        TEST(a_failed_commit_refuses_every_later_begin),
        TEST(a_lock_held_by_another_process_is_busy),
        TEST(values_no_memfuse_writes_are_corrupt),
        TEST(deleted_words_leave_the_file),
        TEST(a_damaged_packed_text_is_corrupt_and_names_its_message),
        TEST(a_packed_text_leaves_no_plain_copy_in_the_file),
        TEST(opening_gives_back_what_packing_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
