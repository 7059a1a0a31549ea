/* contract_test.c - what store.h promises, asked of every backend.
 *
 * ctest-label: contract
 *
 * The same tests run over SQLite, memory, tracing around SQLite and a disarmed faulty
 * store around memory.  Each starts with an empty store, its writer inside a
 * transaction and one reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "store/faulty.h"
#include "store/memory/memory_store.h"
#include "store/sqlite/sqlite_store.h"
#include "store/store.h"
#include "store/trace.h"

typedef enum backend {
    SQLITE,
    MEMORY,
    TRACED_SQLITE,
    FAULTY_MEMORY,
    BACKEND_COUNT
} backend;
static backend tested;

typedef struct world {
    char dir[64];
    char path[96];
    mf_store *store;
    mf_conn *w, *r;
    mf_arena *arena;
    mf_err err;
    int64_t now_us;
    size_t live_before;
} world;

#define OK(call) ok((call), &t->err, __LINE__)
#define FAILS(expected, call) fails((expected), (call), __LINE__)
static void ok(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}
static void fails(mf_rc expected, mf_rc rc, int line) {
    if (rc != expected) {
        fail_msg("line %d: %s instead of %s", line, mf_rc_name(rc),
                 mf_rc_name(expected));
    }
}

/* --- the world --- */

static bool on_disk(void) {
    return tested == SQLITE || tested == TRACED_SQLITE;
}

static void open_store(world *t) {
    mf_store *inner = NULL;
    mf_sqlite_options options = mf_sqlite_options_default(t->path);
    options.sync = MF_SYNC_OFF; /* durability is proven by the power-cut test */
    if (on_disk()) {
        OK(mf_sqlite_store_open(&options, &inner, &t->err));
    } else {
        OK(mf_memory_store_open(&inner, &t->err));
    }
    t->store = inner;
    if (tested == TRACED_SQLITE) {
        OK(mf_trace_store_open(inner, &t->store, &t->err));
    } else if (tested == FAULTY_MEMORY) {
        OK(mf_faulty_store_open(inner, &t->store, &t->err));
    }
    OK(t->store->ops->conn_open(t->store, true, &t->w, &t->err));
    OK(t->store->ops->conn_open(t->store, false, &t->r, &t->err));
}

static void close_store(world *t) {
    t->store->ops->conn_close(t->r);
    t->store->ops->conn_close(t->w);
    t->store->ops->close(t->store);
}

/* Closes it within its transaction, whose work is lost, and opens it again; a store in
 * memory stays open. */
static void close_store_again(world *t) {
    if (on_disk()) {
        t->w->ops->rollback(t->w);
        close_store(t);
        open_store(t);
        OK(t->w->ops->begin(t->w, &t->err));
    }
}

static int setup(void **state) {
    static world place;
    world *t = &place;
    *t = (world){0};
    t->live_before = mf_alloc_live();
    snprintf(t->dir, sizeof t->dir, P_tmpdir "/mf-contract-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    snprintf(t->path, sizeof t->path, "%.63s/store.db", t->dir);
    OK(mf_arena_new((size_t)256 << 20, &t->arena, &t->err));
    open_store(t);
    OK(t->w->ops->begin(t->w, &t->err));
    *state = t;
    return 0;
}

static int teardown(void **state) {
    world *t = *state;
    t->w->ops->rollback(t->w);
    close_store(t);
    mf_arena_free(t->arena);
    unlink(t->path);
    rmdir(t->dir);
    assert_int_equal(mf_alloc_live(), t->live_before);
    return 0;
}

static void commit(world *t) {
    OK(t->w->ops->commit(t->w, &t->err));
    OK(t->w->ops->begin(t->w, &t->err));
}

/* --- making rows --- */

static mf_uuid make_user(world *t, const char *name) {
    mf_named_row row = {.id = mf_uuid_new(), .name = mf_str_from(name)};
    row.created_us = row.updated_us = ++t->now_us;
    OK(t->w->ops->user_insert(t->w, &row, &t->err));
    return row.id;
}

static mf_uuid make_agent(world *t, const char *name) {
    mf_named_row row = {.id = mf_uuid_new(), .name = mf_str_from(name)};
    row.created_us = row.updated_us = ++t->now_us;
    OK(t->w->ops->agent_insert(t->w, &row, &t->err));
    return row.id;
}

static mf_uuid make_session(world *t, mf_uuid user, mf_uuid agent, const char *name) {
    mf_session_row row = {.id = mf_uuid_new(),
                          .user_id = user,
                          .agent_id = agent,
                          .name = mf_str_from(name)};
    row.created_us = row.updated_us = ++t->now_us;
    OK(t->w->ops->session_insert(t->w, &row, &t->err));
    return row.id;
}

static mf_message_row message_of(world *t, mf_uuid user, mf_uuid session,
                                 const char *text) {
    mf_message_row row = {.id = mf_uuid_new(),
                          .user_id = user,
                          .session_id = session,
                          .round_id = mf_uuid_new(),
                          .role = MF_ROLE_ASSISTANT,
                          .content = mf_str_from(text)};
    row.created_us = row.updated_us = ++t->now_us;
    return row;
}

static mf_message_row make_message(world *t, mf_uuid user, mf_uuid session,
                                   const char *text) {
    mf_message_row row = message_of(t, user, session, text);
    OK(t->w->ops->message_insert(t->w, &row, 1, &t->err));
    return row;
}

static mf_knowledge_row make_knowledge(world *t, mf_uuid user, const char *text) {
    mf_knowledge_row row = {
        .id = mf_uuid_new(), .user_id = user, .content = mf_str_from(text)};
    row.created_us = row.updated_us = ++t->now_us;
    OK(t->w->ops->knowledge_insert(t->w, &row, 1, &t->err));
    return row;
}

static const uint16_t some_vector[4] = {0x3c00, 0xbc00, 0x0001, 0x7bff};

static void put_chunk(world *t, mf_uuid user, mf_doc_kind kind, int64_t num,
                      int64_t doc_updated_us, int32_t part) {
    mf_chunk_row row = {.kind = kind,
                        .num = num,
                        .part = part,
                        .part_count = 2,
                        .doc_updated_us = doc_updated_us,
                        .model = MF_STR("mini"),
                        .vector = some_vector,
                        .dim = 4};
    OK(t->w->ops->chunk_put(t->w, user, &row, &t->err));
}

typedef struct seen {
    size_t count;
    int64_t nums[64];
    mf_doc_kind kinds[64];
    int32_t parts[64];
    char first_text[64];
    size_t stop_after; /* 0: never */
} seen;

static mf_rc see(seen *s, int64_t num, mf_doc_kind kind, int32_t part, mf_err *err) {
    if (s->count < 64) {
        s->nums[s->count] = num;
        s->kinds[s->count] = kind;
        s->parts[s->count] = part;
    }
    s->count++;
    return s->stop_after != 0 && s->count == s->stop_after
               ? MF_FAIL(err, MF_E_TIMEOUT, "enough")
               : MF_OK;
}

static mf_rc see_chunk(void *ctx, const mf_chunk_row *row, mf_err *err) {
    assert_true(mf_str_eq(row->model, MF_STR("mini")));
    assert_int_equal(row->dim, 4);
    assert_memory_equal(row->vector, some_vector, sizeof some_vector);
    return see(ctx, row->num, row->kind, row->part, err);
}

static mf_rc see_message(void *ctx, const mf_message_row *row, mf_err *err) {
    seen *s = ctx;
    if (s->count == 0) {
        snprintf(s->first_text, sizeof s->first_text, "%.*s",
                 MF_STR_ARGS(row->content));
    }
    return see(s, row->num, MF_DOC_MESSAGE, 0, err);
}

static mf_rc see_knowledge(void *ctx, const mf_knowledge_row *row, mf_err *err) {
    return see(ctx, row->num, MF_DOC_KNOWLEDGE, 0, err);
}

static seen chunks_of(world *t, mf_conn *conn, mf_uuid user) {
    seen s = {0};
    OK(conn->ops->chunk_scan(conn, user, see_chunk, &s, &t->err));
    return s;
}

static mf_store_counts counts_of(world *t, mf_conn *conn) {
    mf_store_counts counts = {0};
    OK(conn->ops->counts(conn, &counts, &t->err));
    return counts;
}

static const mf_message_range everything = {.num_to = INT64_MAX, .limit = 1000};

static mf_message_row *list(world *t, mf_conn *conn, mf_uuid user, mf_uuid session,
                            mf_message_range range, size_t *count) {
    mf_message_row *rows = NULL;
    OK(conn->ops->message_list(conn, user, session, &range, t->arena, &rows, count,
                               &t->err));
    return rows;
}

/* --- the table --- */

static void every_operation_is_there(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->store->ops;
    assert_non_null(ops->name);
    assert_true(ops->close && ops->conn_open && ops->conn_close && ops->rollback &&
                ops->savepoint_undo && ops->read_end);
    size_t count = 7;
#define MF_STORE_CALL(op, params, args)                                                \
    assert_true(ops->op != NULL);                                                      \
    count++;
#include "store/ops.def"
#undef MF_STORE_CALL
    assert_int_equal(count * sizeof(void *), sizeof *ops);
}

/* --- users and agents --- */

static void user_is_stored_found_and_listed_oldest_first(void **state) {
    world *t = *state;
    mf_named_row late = {.id = mf_uuid_new(),
                         .name = MF_STR("zoe"),
                         .description = MF_STR("likes \"quotes\"; -- and 'these'"),
                         .created_us = 900,
                         .updated_us = 901};
    OK(t->w->ops->user_insert(t->w, &late, &t->err));
    mf_uuid second = make_user(t, "adam"); /* an earlier clock, a later creation */
    mf_named_row got;
    OK(t->w->ops->user_get(t->w, late.id, t->arena, &got, &t->err));
    assert_true(mf_uuid_eq(got.id, late.id));
    assert_true(mf_str_eq(got.name, late.name));
    assert_true(mf_str_eq(got.description, late.description));
    assert_int_equal(got.created_us, 900);
    assert_int_equal(got.updated_us, 901);
    OK(t->w->ops->user_find(t->w, MF_STR("adam"), t->arena, &got, &t->err));
    assert_true(mf_uuid_eq(got.id, second));
    assert_null(got.description.p);
    mf_named_row *rows = NULL;
    size_t count = 0;
    OK(t->w->ops->user_list(t->w, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 2);
    assert_true(mf_uuid_eq(rows[0].id, late.id));
    assert_true(mf_uuid_eq(rows[1].id, second));
}

static void names_are_unique_byte_by_byte(void **state) {
    world *t = *state;
    static const char *const names[] = {"Ann",      "ann",
                                        "ann ",     "",
                                        "\u00e9",   "e\u0301",
                                        "日本",     "x'); DROP TABLE users;--",
                                        "a+b&c/%#", "\xf0\x9f\x98\x80"};
    mf_uuid ids[10];
    for (size_t i = 0; i < 10; i++) {
        ids[i] = make_user(t, names[i]);
    }
    for (size_t i = 0; i < 10; i++) {
        mf_named_row row = {.id = mf_uuid_new(), .name = mf_str_from(names[i])};
        FAILS(MF_E_EXISTS, t->w->ops->user_insert(t->w, &row, &t->err));
        assert_string_equal(t->err.field, "name");
        OK(t->w->ops->user_find(t->w, mf_str_from(names[i]), t->arena, &row, &t->err));
        assert_true(mf_uuid_eq(row.id, ids[i]));
    }
}

static void user_update_changes_what_it_says(void **state) {
    world *t = *state;
    mf_uuid id = make_user(t, "old");
    make_user(t, "taken");
    mf_named_row row = {
        .id = id, .name = MF_STR("new"), .description = MF_STR("d"), .updated_us = 77};
    OK(t->w->ops->user_update(t->w, &row, &t->err));
    mf_named_row got;
    OK(t->w->ops->user_find(t->w, MF_STR("new"), t->arena, &got, &t->err));
    assert_true(mf_uuid_eq(got.id, id));
    assert_int_equal(got.created_us, 1);
    assert_int_equal(got.updated_us, 77);
    FAILS(MF_E_NOTFOUND,
          t->w->ops->user_find(t->w, MF_STR("old"), t->arena, &got, &t->err));
    row.description = MF_STR_NONE; /* same name, no description any more */
    OK(t->w->ops->user_update(t->w, &row, &t->err));
    OK(t->w->ops->user_get(t->w, id, t->arena, &got, &t->err));
    assert_null(got.description.p);
    row.name = MF_STR("taken");
    FAILS(MF_E_EXISTS, t->w->ops->user_update(t->w, &row, &t->err));
    row = (mf_named_row){.id = mf_uuid_new(), .name = MF_STR("nobody")};
    FAILS(MF_E_NOTFOUND, t->w->ops->user_update(t->w, &row, &t->err));
}

static void unknown_ids_and_names_are_not_found(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_named_row named = {.created_us = -5};
    mf_session_row session = {.created_us = -5};
    mf_api_key_row key = {.created_us = -5};
    mf_uuid id = mf_uuid_new();
    FAILS(MF_E_NOTFOUND, ops->user_get(t->w, id, t->arena, &named, &t->err));
    FAILS(MF_E_NOTFOUND, ops->user_find(t->w, MF_STR("x"), t->arena, &named, &t->err));
    FAILS(MF_E_NOTFOUND, ops->user_delete(t->w, id, &t->err));
    FAILS(MF_E_NOTFOUND, ops->agent_get(t->w, id, t->arena, &named, &t->err));
    FAILS(MF_E_NOTFOUND, ops->agent_find(t->w, MF_STR("x"), t->arena, &named, &t->err));
    FAILS(MF_E_NOTFOUND, ops->agent_delete(t->w, id, &t->err));
    FAILS(MF_E_NOTFOUND, ops->session_get(t->w, id, t->arena, &session, &t->err));
    FAILS(MF_E_NOTFOUND,
          ops->session_find(t->w, id, MF_STR("x"), t->arena, &session, &t->err));
    FAILS(MF_E_NOTFOUND, ops->session_find(t->w, MF_UUID_NONE, MF_STR("x"), t->arena,
                                           &session, &t->err));
    FAILS(MF_E_NOTFOUND, ops->session_rename(t->w, id, id, MF_STR("x"), 1, &t->err));
    FAILS(MF_E_NOTFOUND, ops->session_delete(t->w, id, id, &t->err));
    FAILS(MF_E_NOTFOUND, ops->api_key_get(t->w, id, t->arena, &key, &t->err));
    FAILS(MF_E_NOTFOUND, ops->api_key_delete(t->w, id, id, &t->err));
    assert_int_equal(named.created_us, -5);
    assert_int_equal(session.created_us, -5);
    assert_int_equal(key.created_us, -5);
}

static void agents_behave_as_users_do(void **state) {
    world *t = *state;
    mf_uuid first = make_agent(t, "one");
    mf_uuid second = make_agent(t, "two");
    make_user(t, "one"); /* another table */
    mf_named_row row = {.id = mf_uuid_new(), .name = MF_STR("one")};
    FAILS(MF_E_EXISTS, t->w->ops->agent_insert(t->w, &row, &t->err));
    row = (mf_named_row){.id = first, .name = MF_STR("three"), .updated_us = 5};
    OK(t->w->ops->agent_update(t->w, &row, &t->err));
    mf_named_row got;
    OK(t->w->ops->agent_find(t->w, MF_STR("three"), t->arena, &got, &t->err));
    assert_true(mf_uuid_eq(got.id, first));
    OK(t->w->ops->agent_get(t->w, second, t->arena, &got, &t->err));
    assert_true(mf_str_eq(got.name, MF_STR("two")));
    mf_named_row *rows = NULL;
    size_t count = 0;
    OK(t->w->ops->agent_list(t->w, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 2);
    assert_true(mf_uuid_eq(rows[0].id, first));
    OK(t->w->ops->agent_delete(t->w, first, &t->err));
    FAILS(MF_E_NOTFOUND, t->w->ops->agent_get(t->w, first, t->arena, &got, &t->err));
}

/* --- sessions --- */

static void session_needs_a_user_and_an_agent(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid agent = make_agent(t, "a");
    mf_session_row row = {.id = mf_uuid_new(),
                          .user_id = mf_uuid_new(),
                          .agent_id = agent,
                          .name = MF_STR("s")};
    FAILS(MF_E_NOTFOUND, t->w->ops->session_insert(t->w, &row, &t->err));
    assert_string_equal(t->err.field, "user_id");
    row.user_id = user;
    row.agent_id = mf_uuid_new();
    FAILS(MF_E_NOTFOUND, t->w->ops->session_insert(t->w, &row, &t->err));
    assert_string_equal(t->err.field, "agent_id");
    assert_int_equal(counts_of(t, t->w).sessions, 0);
}

static void session_name_is_unique_within_its_user_only(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid of_ann = make_session(t, ann, agent, "chat");
    mf_uuid of_bob = make_session(t, bob, agent, "chat");
    mf_session_row row = {
        .id = mf_uuid_new(), .user_id = ann, .agent_id = agent, .name = MF_STR("chat")};
    FAILS(MF_E_EXISTS, t->w->ops->session_insert(t->w, &row, &t->err));
    OK(t->w->ops->session_find(t->w, bob, MF_STR("chat"), t->arena, &row, &t->err));
    assert_true(mf_uuid_eq(row.id, of_bob));
    OK(t->w->ops->session_find(t->w, MF_UUID_NONE, MF_STR("chat"), t->arena, &row,
                               &t->err));
    assert_true(mf_uuid_eq(row.id, of_ann)); /* the oldest */
    OK(t->w->ops->session_get(t->w, of_bob, t->arena, &row, &t->err));
    assert_true(mf_uuid_eq(row.user_id, bob));
    assert_true(mf_uuid_eq(row.agent_id, agent));
    assert_true(mf_str_eq(row.name, MF_STR("chat")));
}

static void sessions_are_listed_newest_first_and_filtered(void **state) {
    world *t = *state;
    mf_uuid users[2] = {make_user(t, "u0"), make_user(t, "u1")};
    mf_uuid agents[2] = {make_agent(t, "a0"), make_agent(t, "a1")};
    mf_uuid ids[8];
    for (size_t i = 0; i < 8; i++) {
        char name[8];
        snprintf(name, sizeof name, "s%zu", i);
        t->now_us = 1000 - (int64_t)i; /* the clock runs backwards; creation counts */
        ids[i] = make_session(t, users[i & 1], agents[i >> 1 & 1], name);
    }
    static const size_t expected[2][2][8] = {{{7, 6, 5, 4, 3, 2, 1, 0}, {7, 6, 3, 2}},
                                             {{7, 5, 3, 1}, {7, 3}}};
    static const size_t lengths[2][2] = {{8, 4}, {4, 2}};
    for (size_t u = 0; u < 2; u++) {
        for (size_t a = 0; a < 2; a++) {
            mf_session_row *rows = NULL;
            size_t count = 0;
            OK(t->w->ops->session_list(t->w, u ? users[1] : MF_UUID_NONE,
                                       a ? agents[1] : MF_UUID_NONE, t->arena, &rows,
                                       &count, &t->err));
            assert_int_equal(count, lengths[u][a]);
            for (size_t i = 0; i < count; i++) {
                assert_true(mf_uuid_eq(rows[i].id, ids[expected[u][a][i]]));
            }
        }
    }
}

static void session_rename_is_for_its_owner(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid id = make_session(t, ann, agent, "one");
    make_session(t, ann, agent, "two");
    FAILS(MF_E_NOTFOUND,
          t->w->ops->session_rename(t->w, bob, id, MF_STR("x"), 9, &t->err));
    FAILS(MF_E_EXISTS,
          t->w->ops->session_rename(t->w, ann, id, MF_STR("two"), 9, &t->err));
    OK(t->w->ops->session_rename(t->w, ann, id, MF_STR("one"), 9, &t->err));
    OK(t->w->ops->session_rename(t->w, ann, id, MF_STR("three"), 10, &t->err));
    mf_session_row row;
    OK(t->w->ops->session_find(t->w, ann, MF_STR("three"), t->arena, &row, &t->err));
    assert_true(mf_uuid_eq(row.id, id));
    assert_int_equal(row.updated_us, 10);
    FAILS(MF_E_NOTFOUND,
          t->w->ops->session_find(t->w, ann, MF_STR("one"), t->arena, &row, &t->err));
    FAILS(MF_E_NOTFOUND, t->w->ops->session_delete(t->w, bob, id, &t->err));
}

/* --- messages --- */

static void message_keeps_every_field(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row row =
        message_of(t, user, session, "It's \"quoted\"\n\\ and \xe2\x82\xac");
    row.metadata = MF_STR("{\"k\":[1,2]}");
    row.created_us = -62135596800000000; /* the year 1 */
    row.updated_us = INT64_MAX;
    row.role = MF_ROLE_SYSTEM;
    mf_message_row plain = message_of(t, user, session, "");
    mf_message_row rows[2] = {row, plain};
    OK(t->w->ops->message_insert(t->w, rows, 2, &t->err));
    assert_true(rows[0].num > 0 && rows[1].num > rows[0].num);
    commit(t);
    mf_message_row got[2];
    mf_uuid ids[2] = {rows[0].id, rows[1].id};
    OK(t->r->ops->message_get(t->r, user, session, ids, 2, t->arena, got, &t->err));
    assert_int_equal(got[0].num, rows[0].num);
    assert_true(mf_uuid_eq(got[0].id, row.id) && mf_uuid_eq(got[0].user_id, user));
    assert_true(mf_uuid_eq(got[0].session_id, session));
    assert_true(mf_uuid_eq(got[0].round_id, row.round_id));
    assert_int_equal(got[0].role, MF_ROLE_SYSTEM);
    assert_true(mf_str_eq(got[0].content, row.content));
    assert_true(mf_str_eq(got[0].metadata, row.metadata));
    assert_int_equal(got[0].created_us, row.created_us);
    assert_int_equal(got[0].updated_us, row.updated_us);
    assert_null(got[1].metadata.p);
    assert_int_equal(got[1].content.len, 0);
}

static void message_needs_a_session_of_its_own_user(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid session = make_session(t, ann, make_agent(t, "a"), "s");
    mf_message_row row = message_of(t, bob, session, "not mine");
    row.num = -3;
    FAILS(MF_E_NOTFOUND, t->w->ops->message_insert(t->w, &row, 1, &t->err));
    assert_string_equal(t->err.field, "session_id");
    assert_int_equal(row.num, -3);
    row = message_of(t, ann, mf_uuid_new(), "nowhere");
    FAILS(MF_E_NOTFOUND, t->w->ops->message_insert(t->w, &row, 1, &t->err));
    row = make_message(t, ann, session, "mine");
    FAILS(MF_E_EXISTS, t->w->ops->message_insert(t->w, &row, 1, &t->err));
    assert_string_equal(t->err.field, "id");
    assert_int_equal(counts_of(t, t->w).messages, 1);
    OK(t->w->ops->message_insert(t->w, NULL, 0, &t->err));
}

static void the_same_message_id_of_two_users_are_two_messages(void **state) {
    world *t = *state;
    mf_uuid agent = make_agent(t, "a");
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_message_row of_ann =
        make_message(t, ann, make_session(t, ann, agent, "s"), "hers");
    mf_message_row of_bob = message_of(t, bob, make_session(t, bob, agent, "s"), "his");
    of_bob.id = of_ann.id;
    OK(t->w->ops->message_insert(t->w, &of_bob, 1, &t->err));
    mf_message_row got;
    OK(t->w->ops->message_get(t->w, bob, MF_UUID_NONE, &of_ann.id, 1, t->arena, &got,
                              &t->err));
    assert_true(mf_str_eq(got.content, MF_STR("his")));
    OK(t->w->ops->message_delete(t->w, bob, &of_ann.id, 1, &t->err));
    OK(t->w->ops->message_get(t->w, ann, MF_UUID_NONE, &of_ann.id, 1, t->arena, &got,
                              &t->err));
    assert_true(mf_str_eq(got.content, MF_STR("hers")));
}

static void messages_are_listed_by_range_order_and_limit(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid session = make_session(t, user, agent, "s");
    mf_uuid other = make_session(t, user, agent, "other");
    mf_message_row rows[6];
    for (size_t i = 0; i < 6; i++) {
        rows[i] = make_message(t, user, session, "m");
        make_message(t, user, other, "between");
    }
    size_t count = 0;
    mf_message_row *got = list(t, t->w, user, session, everything, &count);
    assert_int_equal(count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(got[i].num, rows[i].num);
    }
    mf_message_range range = {rows[1].num, rows[4].num, false, true, 3};
    got = list(t, t->w, user, session, range, &count);
    assert_int_equal(count, 3);
    assert_int_equal(got[0].num, rows[4].num);
    assert_int_equal(got[2].num, rows[2].num);
    range = (mf_message_range){rows[4].num + 1, INT64_MAX, false, false, SIZE_MAX};
    got = list(t, t->w, user, session, range, &count);
    assert_int_equal(count, 1);
    assert_int_equal(got[0].num, rows[5].num);
    range = (mf_message_range){rows[5].num + 1, INT64_MAX, false, true, 5};
    list(t, t->w, user, session, range, &count);
    assert_int_equal(count, 0);
    range = (mf_message_range){0, INT64_MAX, false, false, 0};
    list(t, t->w, user, session, range, &count);
    assert_int_equal(count, 0);
}

static void messages_are_listed_by_id_text(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row rows[20];
    for (size_t i = 0; i < 20; i++) {
        rows[i] = make_message(t, user, session, "m");
    }
    for (size_t down = 0; down < 2; down++) {
        mf_message_range range = {rows[2].num, rows[17].num, true, down == 1, 15};
        size_t count = 0;
        mf_message_row *got = list(t, t->w, user, session, range, &count);
        assert_int_equal(count, 15);
        for (size_t i = 1; i < count; i++) {
            char a[MF_UUID_TEXT + 1];
            char b[MF_UUID_TEXT + 1];
            mf_uuid_format(got[i - 1].id, a);
            mf_uuid_format(got[i].id, b);
            assert_true(down == 1 ? strcmp(a, b) > 0 : strcmp(a, b) < 0);
        }
    }
}

static void look_ups_say_zero_for_what_is_missing(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid session = make_session(t, user, agent, "s");
    mf_uuid elsewhere = make_session(t, user, agent, "e");
    mf_message_row one = make_message(t, user, session, "one");
    mf_message_row two = make_message(t, user, elsewhere, "two");
    mf_uuid ids[4] = {one.id, mf_uuid_new(), two.id, one.id};
    mf_message_row got[4];
    OK(t->w->ops->message_get(t->w, user, MF_UUID_NONE, ids, 4, t->arena, got,
                              &t->err));
    assert_int_equal(got[0].num, one.num);
    assert_int_equal(got[1].num, 0);
    assert_int_equal(got[2].num, two.num);
    assert_int_equal(got[3].num, one.num);
    OK(t->w->ops->message_get(t->w, user, session, ids, 4, t->arena, got, &t->err));
    assert_int_equal(got[0].num, one.num);
    assert_int_equal(got[2].num, 0);
    int64_t nums[3] = {two.num, two.num + 1000, one.num};
    OK(t->w->ops->message_get_by_num(t->w, user, nums, 3, t->arena, got, &t->err));
    assert_true(mf_str_eq(got[0].content, MF_STR("two")));
    assert_int_equal(got[1].num, 0);
    assert_true(mf_str_eq(got[2].content, MF_STR("one")));
}

static void nothing_of_a_user_is_reached_with_another_users_id(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid session = make_session(t, ann, make_agent(t, "a"), "s");
    mf_message_row message = make_message(t, ann, session, "secret");
    mf_knowledge_row item = make_knowledge(t, ann, "secret");
    put_chunk(t, ann, MF_DOC_MESSAGE, message.num, message.updated_us, 0);
    OK(ops->idempotency_put(t->w, ann, MF_STR("k"), 1, MF_STR("r"), 1, &t->err));
    size_t count = 99;
    list(t, t->w, bob, session, everything, &count);
    assert_int_equal(count, 0);
    mf_message_row got;
    OK(ops->message_get(t->w, bob, MF_UUID_NONE, &message.id, 1, t->arena, &got,
                        &t->err));
    assert_int_equal(got.num, 0);
    OK(ops->message_get_by_num(t->w, bob, &message.num, 1, t->arena, &got, &t->err));
    assert_int_equal(got.num, 0);
    mf_knowledge_row got_item;
    OK(ops->knowledge_get(t->w, bob, &item.id, 1, t->arena, &got_item, &t->err));
    assert_int_equal(got_item.num, 0);
    OK(ops->knowledge_get_by_num(t->w, bob, &item.num, 1, t->arena, &got_item,
                                 &t->err));
    assert_int_equal(got_item.num, 0);
    mf_message_row change = message;
    change.user_id = bob;
    FAILS(MF_E_NOTFOUND, ops->message_update(t->w, &change, &t->err));
    mf_knowledge_row item_change = item;
    item_change.user_id = bob;
    FAILS(MF_E_NOTFOUND, ops->knowledge_update(t->w, &item_change, &t->err));
    OK(ops->message_delete(t->w, bob, &message.id, 1, &t->err));
    OK(ops->knowledge_delete(t->w, bob, &item.id, 1, &t->err));
    put_chunk(t, bob, MF_DOC_MESSAGE, message.num, message.updated_us, 1);
    seen s = {0};
    OK(ops->message_scan(t->w, bob, see_message, &s, &t->err));
    OK(ops->knowledge_scan(t->w, bob, see_knowledge, &s, &t->err));
    assert_int_equal(s.count + chunks_of(t, t->w, bob).count, 0);
    uint64_t fingerprint = 0;
    mf_str reply;
    FAILS(MF_E_NOTFOUND, ops->idempotency_get(t->w, bob, MF_STR("k"), t->arena,
                                              &fingerprint, &reply, &t->err));
    OK(ops->user_delete(t->w, bob, &t->err));
    mf_store_counts counts = counts_of(t, t->w);
    assert_int_equal(counts.messages, 1);
    assert_int_equal(counts.knowledge, 1);
    assert_int_equal(counts.chunks, 1);
}

static void message_update_changes_the_text_and_drops_its_vectors(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row row = message_of(t, user, session, "before");
    row.metadata = MF_STR("{}");
    OK(t->w->ops->message_insert(t->w, &row, 1, &t->err));
    mf_message_row other = make_message(t, user, session, "other");
    put_chunk(t, user, MF_DOC_MESSAGE, row.num, row.updated_us, 0);
    put_chunk(t, user, MF_DOC_MESSAGE, row.num, row.updated_us, 1);
    put_chunk(t, user, MF_DOC_MESSAGE, other.num, other.updated_us, 0);
    mf_message_row change = {.id = row.id,
                             .user_id = user,
                             .role = MF_ROLE_USER,
                             .content = MF_STR("after"),
                             .updated_us = 5000};
    OK(t->w->ops->message_update(t->w, &change, &t->err));
    mf_message_row got;
    OK(t->w->ops->message_get(t->w, user, session, &row.id, 1, t->arena, &got,
                              &t->err));
    assert_int_equal(got.num, row.num);
    assert_int_equal(got.role, MF_ROLE_USER);
    assert_true(mf_str_eq(got.content, MF_STR("after")));
    assert_true(mf_str_eq(got.metadata, MF_STR("{}")));
    assert_int_equal(got.created_us, row.created_us);
    assert_int_equal(got.updated_us, 5000);
    seen s = chunks_of(t, t->w, user);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.nums[0], other.num);
    change.id = mf_uuid_new();
    FAILS(MF_E_NOTFOUND, t->w->ops->message_update(t->w, &change, &t->err));
}

static void message_delete_takes_the_vectors_along(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row rows[3];
    for (size_t i = 0; i < 3; i++) {
        rows[i] = make_message(t, user, session, "m");
        put_chunk(t, user, MF_DOC_MESSAGE, rows[i].num, rows[i].updated_us, 0);
    }
    mf_uuid gone[3] = {rows[0].id, mf_uuid_new(), rows[2].id};
    OK(t->w->ops->message_delete(t->w, user, gone, 3, &t->err));
    size_t count = 0;
    mf_message_row *left = list(t, t->w, user, session, everything, &count);
    assert_int_equal(count, 1);
    assert_int_equal(left[0].num, rows[1].num);
    seen s = chunks_of(t, t->w, user);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.nums[0], rows[1].num);
    mf_message_row next = make_message(t, user, session, "next");
    assert_true(next.num > rows[2].num); /* never given twice */
    OK(t->w->ops->verify(t->w, &t->err));
}

static void giving_memory_back_changes_nothing(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    (void)make_message(t, user, session, "kept");
    OK(t->w->ops->release_memory(t->w, &t->err)); /* inside the transaction as well */
    size_t count = 0;
    (void)list(t, t->w, user, session, everything, &count);
    assert_int_equal(count, 1);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void scans_rise_over_all_sessions_and_stop_when_told(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid sessions[2] = {make_session(t, user, agent, "s0"),
                           make_session(t, user, agent, "s1")};
    for (size_t i = 0; i < 30; i++) {
        make_message(t, user, sessions[i * 7 % 2], i == 0 ? "first" : "m");
    }
    commit(t);
    seen s = {0};
    OK(t->r->ops->message_scan(t->r, user, see_message, &s, &t->err));
    assert_int_equal(s.count, 30);
    assert_string_equal(s.first_text, "first");
    for (size_t i = 1; i < s.count; i++) {
        assert_true(s.nums[i] > s.nums[i - 1]);
    }
    s = (seen){.stop_after = 7};
    FAILS(MF_E_TIMEOUT, t->r->ops->message_scan(t->r, user, see_message, &s, &t->err));
    assert_int_equal(s.count, 7);
    assert_string_equal(t->err.text, "enough");
    s = (seen){0}; /* the connection is fit for the next call */
    OK(t->r->ops->message_scan(t->r, user, see_message, &s, &t->err));
    assert_int_equal(s.count, 30);
}

static void ten_thousand_messages_go_in_and_out_in_one_call(void **state) {
    enum { N = 10000 };
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row *rows = mf_arena_alloc_array(t->arena, N, sizeof *rows);
    mf_message_row *got = mf_arena_alloc_array(t->arena, N, sizeof *got);
    mf_uuid *ids = mf_arena_alloc_array(t->arena, N, sizeof *ids);
    for (size_t i = 0; i < N; i++) {
        rows[i] = message_of(t, user, session, "one of many");
        ids[N - 1 - i] = rows[i].id;
    }
    OK(t->w->ops->message_insert(t->w, rows, N, &t->err));
    commit(t);
    OK(t->r->ops->message_get(t->r, user, session, ids, N, t->arena, got, &t->err));
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(got[i].num, rows[N - 1 - i].num);
        assert_true(i == 0 || rows[i].num == rows[i - 1].num + 1);
    }
    OK(t->w->ops->message_delete(t->w, user, ids, N, &t->err));
    assert_int_equal(counts_of(t, t->w).messages, 0);
}

static void a_megabyte_of_text_is_kept(void **state) {
    enum { SIZE = 1 << 20 };
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    char *text = mf_arena_alloc(t->arena, SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        text[i] = (char)('a' + i * i % 26);
    }
    mf_message_row row = message_of(t, user, session, "");
    row.content = (mf_str){text, SIZE};
    OK(t->w->ops->message_insert(t->w, &row, 1, &t->err));
    commit(t);
    mf_message_row got;
    OK(t->r->ops->message_get(t->r, user, session, &row.id, 1, t->arena, &got,
                              &t->err));
    assert_true(mf_str_eq(got.content, row.content));
    mf_arena *small = NULL;
    OK(mf_arena_new(SIZE / 2, &small, &t->err));
    got.num = -1;
    FAILS(MF_E_NOMEM, t->r->ops->message_get(t->r, user, session, &row.id, 1, small,
                                             &got, &t->err));
    assert_int_equal(got.num, -1);
    mf_arena_free(small);
}

static void text_with_a_nul_byte_is_kept_whole(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_knowledge_row row = {
        .id = mf_uuid_new(), .user_id = user, .content = {"a\0b", 3}};
    OK(t->w->ops->knowledge_insert(t->w, &row, 1, &t->err));
    mf_knowledge_row got;
    OK(t->w->ops->knowledge_get(t->w, user, &row.id, 1, t->arena, &got, &t->err));
    assert_int_equal(got.content.len, 3);
    assert_memory_equal(got.content.p, "a\0b", 3);
}

/* --- knowledge --- */

static void knowledge_behaves_as_messages_do(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid user = make_user(t, "u");
    mf_knowledge_row rows[3];
    for (size_t i = 0; i < 3; i++) {
        rows[i] = make_knowledge(t, user, "fact");
        put_chunk(t, user, MF_DOC_KNOWLEDGE, rows[i].num, rows[i].updated_us, 0);
    }
    mf_knowledge_row nobody = {
        .id = mf_uuid_new(), .user_id = mf_uuid_new(), .num = -1};
    FAILS(MF_E_NOTFOUND, ops->knowledge_insert(t->w, &nobody, 1, &t->err));
    assert_string_equal(t->err.field, "user_id");
    assert_int_equal(nobody.num, -1);
    FAILS(MF_E_EXISTS, ops->knowledge_insert(t->w, &rows[0], 1, &t->err));
    mf_knowledge_row change = {
        .id = rows[1].id, .user_id = user, .content = MF_STR("new"), .updated_us = 99};
    OK(ops->knowledge_update(t->w, &change, &t->err));
    OK(ops->knowledge_delete(t->w, user, &rows[0].id, 1, &t->err));
    mf_knowledge_row *got = NULL;
    size_t count = 0;
    OK(ops->knowledge_list(t->w, user, t->arena, &got, &count, &t->err));
    assert_int_equal(count, 2);
    assert_int_equal(got[0].num, rows[1].num);
    assert_true(mf_str_eq(got[0].content, MF_STR("new")));
    assert_int_equal(got[0].updated_us, 99);
    assert_int_equal(got[0].created_us, rows[1].created_us);
    assert_int_equal(got[1].num, rows[2].num);
    seen s = {0};
    OK(ops->knowledge_scan(t->w, user, see_knowledge, &s, &t->err));
    assert_int_equal(s.count, 2);
    s = chunks_of(t, t->w, user);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.nums[0], rows[2].num);
    mf_knowledge_row found[2];
    mf_uuid ids[2] = {rows[0].id, rows[2].id};
    OK(ops->knowledge_get(t->w, user, ids, 2, t->arena, found, &t->err));
    assert_int_equal(found[0].num, 0);
    assert_int_equal(found[1].num, rows[2].num);
    int64_t nums[2] = {rows[1].num, rows[0].num};
    OK(ops->knowledge_get_by_num(t->w, user, nums, 2, t->arena, found, &t->err));
    assert_true(mf_str_eq(found[0].content, MF_STR("new")));
    assert_int_equal(found[1].num, 0);
    change.id = rows[0].id;
    FAILS(MF_E_NOTFOUND, ops->knowledge_update(t->w, &change, &t->err));
}

/* --- chunks --- */

static void chunks_come_in_order_and_are_replaced(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row one = make_message(t, user, session, "1");
    mf_knowledge_row item = make_knowledge(t, user, "k");
    mf_message_row two = make_message(t, user, session, "2");
    put_chunk(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0);
    put_chunk(t, user, MF_DOC_MESSAGE, two.num, two.updated_us, 1);
    put_chunk(t, user, MF_DOC_MESSAGE, two.num, two.updated_us, 0);
    put_chunk(t, user, MF_DOC_MESSAGE, one.num, one.updated_us, 0);
    put_chunk(t, user, MF_DOC_MESSAGE, one.num, one.updated_us, 0);
    commit(t);
    seen s = chunks_of(t, t->r, user);
    assert_int_equal(s.count, 4);
    const int64_t nums[4] = {one.num, two.num, two.num, item.num};
    const int32_t parts[4] = {0, 0, 1, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(s.nums[i], nums[i]);
        assert_int_equal(s.parts[i], parts[i]);
        assert_int_equal(s.kinds[i], i == 3 ? MF_DOC_KNOWLEDGE : MF_DOC_MESSAGE);
    }
    s = (seen){.stop_after = 2};
    FAILS(MF_E_TIMEOUT, t->r->ops->chunk_scan(t->r, user, see_chunk, &s, &t->err));
    assert_int_equal(s.count, 2);
}

typedef struct kept_chunk {
    size_t count;
    mf_chunk_row row;
    uint16_t vector[8];
    char model[16];
} kept_chunk;

static mf_rc keep_chunk(void *ctx, const mf_chunk_row *row, mf_err *err) {
    (void)err;
    kept_chunk *kept = ctx;
    kept->count++;
    kept->row = *row;
    memcpy(kept->vector, row->vector, row->dim * sizeof row->vector[0]);
    snprintf(kept->model, sizeof kept->model, "%.*s", MF_STR_ARGS(row->model));
    return MF_OK;
}

static void a_chunk_of_another_model_takes_the_place_of_the_old_one(void **state) {
    world *t = *state;
    static const uint16_t longer[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    mf_uuid user = make_user(t, "u");
    mf_knowledge_row item = make_knowledge(t, user, "k");
    put_chunk(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0);
    mf_chunk_row row = {.kind = MF_DOC_KNOWLEDGE,
                        .num = item.num,
                        .part_count = 1,
                        .doc_updated_us = item.updated_us,
                        .model = MF_STR("maxi"),
                        .vector = longer,
                        .dim = 8};
    OK(t->w->ops->chunk_put(t->w, user, &row, &t->err));
    kept_chunk kept = {0};
    OK(t->w->ops->chunk_scan(t->w, user, keep_chunk, &kept, &t->err));
    assert_int_equal(kept.count, 1);
    assert_string_equal(kept.model, "maxi");
    assert_int_equal(kept.row.dim, 8);
    assert_int_equal(kept.row.part_count, 1);
    assert_int_equal(kept.row.doc_updated_us, item.updated_us);
    assert_memory_equal(kept.vector, longer, sizeof longer);
}

static void a_stale_chunk_stores_nothing_and_succeeds(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row message = make_message(t, user, session, "m");
    mf_knowledge_row item = make_knowledge(t, user, "k");
    put_chunk(t, user, MF_DOC_MESSAGE, message.num, message.updated_us + 1, 0);
    put_chunk(t, user, MF_DOC_MESSAGE, item.num, item.updated_us,
              0); /* the wrong kind */
    put_chunk(t, user, MF_DOC_KNOWLEDGE, message.num, message.updated_us, 0);
    put_chunk(t, user, MF_DOC_KNOWLEDGE, item.num + 50, item.updated_us, 0);
    put_chunk(t, mf_uuid_new(), MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0);
    OK(t->w->ops->knowledge_delete(t->w, user, &item.id, 1, &t->err));
    put_chunk(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0);
    assert_int_equal(counts_of(t, t->w).chunks, 0);
}

static mf_rc put_part(world *t, mf_uuid user, const mf_message_row *message,
                      int64_t revision, int32_t part, int32_t part_count) {
    mf_chunk_row row = {.kind = MF_DOC_MESSAGE,
                        .num = message->num,
                        .part = part,
                        .part_count = part_count,
                        .doc_updated_us = message->updated_us,
                        .doc_revision = revision,
                        .model = MF_STR("mini"),
                        .vector = some_vector,
                        .dim = 4};
    return t->w->ops->chunk_put(t->w, user, &row, &t->err);
}

static void a_touched_message_loses_its_chunks_and_refuses_older_ones(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid stranger = make_user(t, "v");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row one = make_message(t, user, session, "1");
    mf_message_row two = make_message(t, user, session, "2");
    OK(put_part(t, user, &one, 0, 0, 1));
    OK(put_part(t, user, &two, 0, 0, 1));
    int64_t nums[] = {one.num, two.num + 9}; /* one that is not there */
    OK(t->w->ops->message_touch(t->w, user, nums, 2, &t->err));
    OK(t->w->ops->message_touch(t->w, stranger, &two.num, 1, &t->err));
    seen s = chunks_of(t, t->w, user);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.nums[0], two.num);
    OK(put_part(t, user, &one, 0, 0, 1)); /* of before */
    assert_int_equal(chunks_of(t, t->w, user).count, 1);
    mf_message_row got;
    OK(t->w->ops->message_get_by_num(t->w, user, &one.num, 1, t->arena, &got, &t->err));
    assert_int_equal(got.revision, 1);
    assert_int_equal(got.updated_us, one.updated_us);
    assert_true(mf_str_eq(got.content, MF_STR("1")));
    OK(put_part(t, user, &one, 1, 0, 1));
    assert_int_equal(chunks_of(t, t->w, user).count, 2);
    got.content = MF_STR("1b");
    got.updated_us++;
    OK(t->w->ops->message_update(t->w, &got, &t->err)); /* which keeps the revision */
    OK(put_part(t, user, &got, 0, 0, 1));
    assert_int_equal(chunks_of(t, t->w, user).count, 1);
    OK(put_part(t, user, &got, 1, 0, 1));
    assert_int_equal(chunks_of(t, t->w, user).count, 2);
}

static void the_last_part_takes_those_behind_it_away(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    mf_message_row one = make_message(t, user, session, "1");
    mf_message_row two = make_message(t, user, session, "2");
    for (int32_t part = 0; part < 4; part++) {
        OK(put_part(t, user, &one, 0, part, 4));
        OK(put_part(t, user, &two, 0, part, 4));
    }
    OK(put_part(t, user, &one, 1, 1, 2)); /* a stale one takes nothing */
    assert_int_equal(chunks_of(t, t->w, user).count, 8);
    OK(put_part(t, user, &one, 0, 0, 2));
    assert_int_equal(chunks_of(t, t->w, user).count, 8);
    OK(put_part(t, user, &one, 0, 1, 2));
    seen s = chunks_of(t, t->w, user);
    assert_int_equal(s.count, 6);
    assert_int_equal(s.nums[2], two.num);
}

/* --- cold texts --- */

enum { COLD = 700 };

typedef struct cold_world {
    mf_uuid user, session;
    mf_message_row rows[COLD];
    bool gone[COLD];
} cold_world;

static void make_cold(world *t, cold_world *cold) {
    static const char *const words[] = {"the ", "trip ", "to Japan ", "in May ",
                                        "we ",  "will ", "think ",    "about it "};
    cold->user = make_user(t, "u");
    cold->session = make_session(t, cold->user, make_agent(t, "a"), "s");
    for (size_t i = 0; i < COLD; i++) {
        char text[1200];
        size_t len = (size_t)snprintf(text, sizeof text, "number %zu: ", i * 7919);
        size_t wanted = i % 50 == 0 ? len : i % 3 == 0 ? 100 : 1000;
        for (size_t n = i; len < wanted; n = n * 31 + 7) {
            const char *word = words[n % 8];
            memcpy(text + len, word, strlen(word));
            len += strlen(word);
        }
        text[len] = '\0';
        mf_str copy = mf_arena_str(t->arena, (mf_str){text, len});
        cold->rows[i] = make_message(t, cold->user, cold->session, copy.p);
    }
}

static mf_text_slice compress_all(world *t, int64_t newest_kept,
                                  int64_t made_before_us) {
    mf_text_limits limits = {.newest_kept = newest_kept,
                             .made_before_us = made_before_us,
                             .bytes_max = 8192};
    mf_text_slice sum = {.more = true};
    for (int i = 0; i < 1000 && sum.more; i++) {
        mf_text_slice slice;
        OK(t->w->ops->text_compress(t->w, &limits, &slice, &t->err));
        /* One message may go beyond the bound, and no more. */
        assert_in_range(slice.bytes_before, 0, 8192 + 1200);
        sum.messages += slice.messages;
        sum.packed += slice.packed;
        sum.bytes_before += slice.bytes_before;
        sum.bytes_after += slice.bytes_after;
        sum.more = slice.more;
    }
    assert_false(sum.more);
    return sum;
}

static void assert_row(const mf_message_row *got, const mf_message_row *expected) {
    assert_int_equal(got->num, expected->num);
    assert_true(mf_uuid_eq(got->id, expected->id));
    assert_int_equal(got->role, expected->role);
    assert_int_equal(got->updated_us, expected->updated_us);
    if (!mf_str_eq(got->content, expected->content)) {
        fail_msg("message %lld has changed", (long long)got->num);
    }
}

typedef struct cold_scan {
    const cold_world *cold;
    size_t next;
} cold_scan;

static mf_rc see_cold(void *ctx, const mf_message_row *row, mf_err *err) {
    cold_scan *s = ctx;
    (void)err; /* an assertion says more */
    while (s->cold->gone[s->next]) {
        s->next++;
    }
    assert_row(row, &s->cold->rows[s->next++]);
    return MF_OK;
}

/* On both connections and by every way to read. */
static void assert_cold(world *t, const cold_world *cold) {
    mf_conn *conns[] = {t->w, t->r};
    for (size_t c = 0; c < 2; c++) {
        mf_conn *conn = conns[c];
        cold_scan s = {.cold = cold};
        OK(conn->ops->message_scan(conn, cold->user, see_cold, &s, &t->err));
        size_t count = 0;
        mf_message_row *rows =
            list(t, conn, cold->user, cold->session, everything, &count);
        size_t n = 0;
        for (size_t i = 0; i < COLD; i++) {
            mf_message_row one[2];
            OK(conn->ops->message_get(conn, cold->user, cold->session,
                                      &cold->rows[i].id, 1, t->arena, &one[0],
                                      &t->err));
            OK(conn->ops->message_get_by_num(conn, cold->user, &cold->rows[i].num, 1,
                                             t->arena, &one[1], &t->err));
            if (cold->gone[i]) {
                assert_int_equal(one[0].num + one[1].num, 0);
                continue;
            }
            assert_row(&one[0], &cold->rows[i]);
            assert_row(&one[1], &cold->rows[i]);
            assert_row(&rows[n++], &cold->rows[i]);
        }
        assert_int_equal(n, count);
    }
}

static void train(world *t, bool first) {
    mf_str dictionary;
    OK(t->r->ops->text_train(t->r, t->arena, &dictionary, &t->err));
    assert_int_equal(dictionary.p != NULL, first && on_disk());
    if (dictionary.p != NULL) {
        OK(t->w->ops->text_dictionary_add(t->w, dictionary, &t->err));
    }
}

static void compressed_texts_read_back_byte_for_byte(void **state) {
    world *t = *state;
    static cold_world cold;
    cold = (cold_world){0};
    make_cold(t, &cold);
    commit(t);
    train(t, true);
    mf_text_slice sum = compress_all(t, 0, INT64_MAX);
    if (on_disk()) {
        assert_int_equal(sum.messages, COLD);
        assert_in_range(sum.packed, COLD * 9 / 10, COLD);
        assert_true(sum.bytes_after * 2 < sum.bytes_before);
    } else {
        assert_int_equal(sum.messages + sum.packed + sum.bytes_before, 0);
    }
    assert_cold(t, &cold); /* the reader does not see it yet */
    commit(t);
    assert_cold(t, &cold);
    OK(t->w->ops->verify(t->w, &t->err));
    train(t, false); /* the one there is still good */
    assert_int_equal(compress_all(t, 0, INT64_MAX).messages, 0);
    close_store_again(t);
    assert_cold(t, &cold);
}

static void an_edit_writes_plain_and_is_compressed_again(void **state) {
    world *t = *state;
    static cold_world cold;
    cold = (cold_world){0};
    make_cold(t, &cold);
    commit(t);
    train(t, true);
    (void)compress_all(t, 0, INT64_MAX);
    for (size_t i = 0; i < COLD; i += 40) {
        mf_message_row *row = &cold.rows[i];
        row->content = mf_arena_printf(t->arena, "edited: %.*s and the trip to Japan",
                                       MF_STR_ARGS(cold.rows[i + 1].content));
        row->updated_us++;
        OK(t->w->ops->message_update(t->w, row, &t->err));
    }
    OK(t->w->ops->message_delete(t->w, cold.user, &cold.rows[40].id, 1, &t->err));
    OK(t->w->ops->message_delete(t->w, cold.user, &cold.rows[41].id, 1, &t->err));
    cold.gone[40] = cold.gone[41] = true;
    commit(t);
    assert_cold(t, &cold);
    mf_text_slice again = compress_all(t, 0, INT64_MAX);
    assert_int_equal(again.packed, on_disk() ? COLD / 40 : 0);
    commit(t);
    assert_cold(t, &cold);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void young_and_newest_messages_stay_plain(void **state) {
    world *t = *state;
    static cold_world cold;
    cold = (cold_world){0};
    make_cold(t, &cold);
    assert_int_equal(compress_all(t, 0, 0).messages, 0); /* made long ago: none */
    assert_int_equal(compress_all(t, COLD, INT64_MAX).messages, 0);
    mf_text_slice sum = compress_all(t, COLD - 100, INT64_MAX);
    assert_int_equal(sum.messages, on_disk() ? 100 : 0);
    sum = compress_all(t, 0, INT64_MAX); /* without a dictionary, too */
    assert_int_equal(sum.messages, on_disk() ? COLD - 100 : 0);
    commit(t);
    assert_cold(t, &cold);
    mf_str no_dictionary = MF_STR("nothing of the kind");
    mf_rc rc = t->w->ops->text_dictionary_add(t->w, no_dictionary, &t->err);
    assert_int_equal(rc, on_disk() ? MF_E_CORRUPT : MF_OK);
}

/* --- chunks by content --- */

/* One vector of four equal numbers for the key that starts with `key`. */
static void put_content(world *t, mf_uuid user, mf_doc_kind kind, int64_t num,
                        int64_t doc_updated_us, int32_t part, uint8_t key,
                        uint16_t number) {
    const uint16_t vector[4] = {number, number, number, number};
    mf_chunk_row row = {.kind = kind,
                        .num = num,
                        .part = part,
                        .part_count = part + 1,
                        .doc_updated_us = doc_updated_us,
                        .model = MF_STR("mini"),
                        .vector = vector,
                        .dim = 4,
                        .content = {{key}}};
    OK(t->w->ops->chunk_put(t->w, user, &row, &t->err));
}

/* The number stored under a key, or -1. */
static int find_content(world *t, mf_conn *conn, uint8_t key) {
    const mf_content_key wanted = {{key}};
    uint16_t vector[4] = {7, 7, 7, 7};
    bool found = false;
    OK(conn->ops->chunk_find(conn, &wanted, 1, 4, vector, &found, &t->err));
    assert_true(found || vector[0] == 7);
    assert_int_equal(vector[0], vector[3]);
    return found ? vector[0] : -1;
}

static void vectors_are_found_by_their_content_whoever_has_it(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid session = make_session(t, ann, make_agent(t, "a"), "s");
    mf_message_row message = make_message(t, ann, session, "m");
    mf_knowledge_row item = make_knowledge(t, bob, "k");
    put_content(t, ann, MF_DOC_MESSAGE, message.num, message.updated_us, 0, 1, 101);
    put_content(t, ann, MF_DOC_MESSAGE, message.num, message.updated_us, 1, 2, 102);
    put_content(t, bob, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0, 3, 103);
    put_chunk(t, bob, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 1); /* no key */
    assert_int_equal(find_content(t, t->r, 1), -1); /* not committed */
    assert_int_equal(find_content(t, t->w, 1), 101);
    commit(t);
    const mf_content_key keys[] = {{{3}}, {{9}}, {{0}}, {{1}}, {{2}}};
    uint16_t vectors[5][4] = {{0}};
    bool found[5] = {false};
    OK(ops->chunk_find(t->r, keys, 5, 4, vectors[0], found, &t->err));
    assert_true(found[0] && !found[1] && !found[2] && found[3] && found[4]);
    assert_int_equal(vectors[0][2], 103);
    assert_int_equal(vectors[1][2], 0);
    assert_int_equal(vectors[3][2], 101);
    assert_int_equal(vectors[4][2], 102);
    bool none = false;
    uint16_t other[8];
    OK(ops->chunk_find(t->r, keys, 1, 8, other, &none, &t->err));
    assert_false(none); /* of another length */
    OK(ops->chunk_find(t->r, keys, 0, 4, vectors[0], found, &t->err));
    assert_int_equal(chunks_of(t, t->r, mf_uuid_new()).count, 0);
}

static void a_replaced_vector_is_no_longer_found(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_knowledge_row item = make_knowledge(t, user, "k");
    put_content(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0, 1, 101);
    put_content(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0, 2, 102);
    assert_int_equal(find_content(t, t->w, 1), -1);
    assert_int_equal(find_content(t, t->w, 2), 102);
    put_content(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0, 0, 103);
    assert_int_equal(find_content(t, t->w, 2), -1);
    assert_int_equal(find_content(t, t->w, 0), -1);
    commit(t);
    put_content(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0, 4, 104);
    t->w->ops->rollback(t->w);
    OK(t->w->ops->begin(t->w, &t->err));
    assert_int_equal(find_content(t, t->w, 4), -1);
}

/* One text of two users under one key: found as long as one of them has it. */
static void deleting_the_last_owner_of_a_text_forgets_its_vector(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid agents[2] = {make_agent(t, "a0"), make_agent(t, "a1")};
    mf_uuid users[2] = {make_user(t, "ann"), make_user(t, "bob")};
    mf_uuid sessions[2];
    mf_message_row messages[2];
    mf_knowledge_row items[2];
    for (uint8_t i = 0; i < 2; i++) {
        sessions[i] = make_session(t, users[i], agents[i], "s");
        messages[i] = make_message(t, users[i], sessions[i], "m");
        items[i] = make_knowledge(t, users[i], "k");
    }
    for (int way = 0; way < 5; way++) {
        for (size_t i = 0; i < 2; i++) {
            put_content(t, users[i], MF_DOC_MESSAGE, messages[i].num,
                        messages[i].updated_us, 0, 1, 101);
            put_content(t, users[i], MF_DOC_KNOWLEDGE, items[i].num,
                        items[i].updated_us, 0, 2, 102);
        }
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(find_content(t, t->w, 1), 101);
            OK(ops->savepoint(t->w, &t->err));
            mf_message_row edited = messages[i];
            edited.content = MF_STR("other");
            edited.updated_us++;
            switch (way) {
            case 0:
                OK(ops->message_delete(t->w, users[i], &messages[i].id, 1, &t->err));
                break;
            case 1:
                OK(ops->message_update(t->w, &edited, &t->err));
                break;
            case 2:
                OK(ops->session_delete(t->w, users[i], sessions[i], &t->err));
                break;
            case 3:
                OK(ops->agent_delete(t->w, agents[i], &t->err));
                break;
            default:
                OK(ops->user_delete(t->w, users[i], &t->err));
                break;
            }
            /* Keep the first loss, so that the second is the last. */
            if (i == 0) {
                OK(ops->savepoint_keep(t->w, &t->err));
            }
        }
        assert_int_equal(find_content(t, t->w, 1), -1);
        assert_int_equal(find_content(t, t->w, 2), way == 4 ? -1 : 102);
        ops->savepoint_undo(t->w);
        assert_int_equal(find_content(t, t->w, 1), 101);
        assert_int_equal(find_content(t, t->w, 2), 102);
        ops->rollback(t->w);
        OK(ops->begin(t->w, &t->err));
        for (uint8_t i = 0; i < 2; i++) { /* nothing was committed */
            char name[2] = {(char)('0' + i), '\0'};
            agents[i] = make_agent(t, name);
            users[i] = make_user(t, name);
            sessions[i] = make_session(t, users[i], agents[i], "s");
            messages[i] = make_message(t, users[i], sessions[i], "m");
            items[i] = make_knowledge(t, users[i], "k");
        }
    }
    put_content(t, users[0], MF_DOC_KNOWLEDGE, items[0].num, items[0].updated_us, 0, 2,
                102);
    mf_knowledge_row changed = items[0];
    changed.content = MF_STR("other");
    changed.updated_us++;
    OK(ops->knowledge_update(t->w, &changed, &t->err));
    assert_int_equal(find_content(t, t->w, 2), -1);
    put_content(t, users[0], MF_DOC_KNOWLEDGE, items[0].num, changed.updated_us, 0, 2,
                102);
    OK(ops->knowledge_delete(t->w, users[0], &items[0].id, 1, &t->err));
    assert_int_equal(find_content(t, t->w, 2), -1);
    OK(ops->verify(t->w, &t->err));
}

static void the_content_secret_stays_and_is_the_stores_own(void **state) {
    world *t = *state;
    mf_content_key first = MF_CONTENT_KEY_NONE;
    mf_content_key again = MF_CONTENT_KEY_NONE;
    OK(t->r->ops->content_secret(t->r, &first, &t->err));
    assert_false(mf_content_key_is_none(&first));
    OK(t->w->ops->content_secret(t->w, &again, &t->err));
    assert_true(mf_content_key_eq(&first, &again));
    if (on_disk()) {
        t->w->ops->rollback(t->w);
        close_store(t);
        open_store(t);
        OK(t->w->ops->begin(t->w, &t->err));
        OK(t->r->ops->content_secret(t->r, &again, &t->err));
        assert_true(mf_content_key_eq(&first, &again));
    }
    mf_store *other = NULL;
    mf_conn *conn = NULL;
    OK(mf_memory_store_open(&other, &t->err));
    OK(other->ops->conn_open(other, false, &conn, &t->err));
    OK(other->ops->content_secret(conn, &again, &t->err));
    assert_false(mf_content_key_eq(&first, &again));
    other->ops->conn_close(conn);
    other->ops->close(other);
}

/* --- recent windows --- */

static int64_t closed_through(world *t, mf_uuid user, mf_uuid session) {
    int64_t through = -1;
    OK(t->w->ops->window_closed(t->w, user, session, &through, &t->err));
    return through;
}

static void closed_windows_are_remembered_by_session_and_by_user(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid one = make_session(t, ann, agent, "one");
    mf_uuid two = make_session(t, ann, agent, "two");
    int64_t through = 0;
    assert_int_equal(closed_through(t, ann, one), 0);
    mf_message_row first = make_message(t, ann, one, "m");
    OK(ops->window_close(t->w, ann, one, &through, &t->err));
    assert_int_equal(through, first.num);
    mf_message_row second = make_message(t, ann, two, "m");
    assert_true(second.num > through);
    assert_int_equal(closed_through(t, ann, one), first.num);
    assert_int_equal(closed_through(t, ann, two), 0);
    OK(ops->window_close(t->w, ann, MF_UUID_NONE, &through, &t->err));
    assert_int_equal(through, second.num);
    assert_int_equal(closed_through(t, ann, one), second.num);
    assert_int_equal(closed_through(t, ann, two), second.num);
    assert_int_equal(closed_through(t, bob, two), 0);
    mf_message_row third = make_message(t, ann, one, "m");
    OK(ops->window_close(t->w, ann, one, &through, &t->err));
    assert_int_equal(closed_through(t, ann, one), third.num);
    assert_int_equal(closed_through(t, ann, two), second.num);
    FAILS(MF_E_NOTFOUND, ops->window_close(t->w, bob, one, &through, &t->err));
    assert_string_equal(t->err.field, "session_id");
    FAILS(MF_E_NOTFOUND,
          ops->window_close(t->w, mf_uuid_new(), MF_UUID_NONE, &through, &t->err));
    assert_string_equal(t->err.field, "user_id");
    OK(ops->session_delete(t->w, ann, one, &t->err));
    assert_int_equal(closed_through(t, ann, one), second.num);
    OK(ops->user_delete(t->w, ann, &t->err));
    assert_int_equal(closed_through(t, ann, two), 0);
    OK(ops->verify(t->w, &t->err));
}

/* --- backlog, idempotency, keys --- */

static void backlog_is_a_set_of_users(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    OK(t->w->ops->backlog_add(t->w, ann, &t->err));
    OK(t->w->ops->backlog_add(t->w, bob, &t->err));
    OK(t->w->ops->backlog_add(t->w, ann, &t->err));
    FAILS(MF_E_NOTFOUND, t->w->ops->backlog_add(t->w, mf_uuid_new(), &t->err));
    mf_uuid *ids = NULL;
    size_t count = 0;
    OK(t->w->ops->backlog_list(t->w, t->arena, &ids, &count, &t->err));
    assert_int_equal(count, 2);
    OK(t->w->ops->backlog_remove(t->w, ann, &t->err));
    OK(t->w->ops->backlog_remove(t->w, ann, &t->err));
    OK(t->w->ops->backlog_list(t->w, t->arena, &ids, &count, &t->err));
    assert_int_equal(count, 1);
    assert_true(mf_uuid_eq(ids[0], bob));
}

static void a_keyed_reply_is_given_once_and_purged_by_age(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid user = make_user(t, "u");
    mf_uuid other = make_user(t, "other");
    OK(ops->idempotency_put(t->w, user, MF_STR("Key"), UINT64_MAX - 3,
                            MF_STR("{\"a\":1}"), 100, &t->err));
    OK(ops->idempotency_put(t->w, user, MF_STR("key"), 7, MF_STR(""), 200, &t->err));
    OK(ops->idempotency_put(t->w, other, MF_STR("Key"), 8, MF_STR("x"), 200, &t->err));
    FAILS(MF_E_EXISTS, ops->idempotency_put(t->w, user, MF_STR("Key"), 9, MF_STR("y"),
                                            300, &t->err));
    FAILS(MF_E_NOTFOUND, ops->idempotency_put(t->w, mf_uuid_new(), MF_STR("Key"), 9,
                                              MF_STR("y"), 300, &t->err));
    uint64_t fingerprint = 0;
    mf_str reply = MF_STR_NONE;
    OK(ops->idempotency_get(t->w, user, MF_STR("Key"), t->arena, &fingerprint, &reply,
                            &t->err));
    assert_true(fingerprint == UINT64_MAX - 3);
    assert_true(mf_str_eq(reply, MF_STR("{\"a\":1}")));
    OK(ops->idempotency_purge(t->w, 200, &t->err));
    FAILS(MF_E_NOTFOUND, ops->idempotency_get(t->w, user, MF_STR("Key"), t->arena,
                                              &fingerprint, &reply, &t->err));
    OK(ops->idempotency_get(t->w, user, MF_STR("key"), t->arena, &fingerprint, &reply,
                            &t->err));
    assert_int_equal(fingerprint, 7);
    assert_int_equal(reply.len, 0);
}

static void settings_belong_to_a_user(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_user_setting_row row = {MF_STR("b.key"), MF_STR("1"), 10};
    mf_user_setting_row *rows = NULL;
    size_t count = 1;
    OK(ops->user_setting_list(t->w, ann, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 0);
    OK(ops->user_setting_put(t->w, ann, &row, &t->err));
    row = (mf_user_setting_row){MF_STR("a.key"), MF_STR("x y"), 11};
    OK(ops->user_setting_put(t->w, ann, &row, &t->err));
    row = (mf_user_setting_row){MF_STR("b.key"), MF_STR("2"), 12}; /* in its place */
    OK(ops->user_setting_put(t->w, ann, &row, &t->err));
    OK(ops->user_setting_list(t->w, ann, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 2);
    assert_true(mf_str_eq(rows[0].key, MF_STR("a.key")));
    assert_true(mf_str_eq(rows[0].value, MF_STR("x y")));
    assert_true(mf_str_eq(rows[1].value, MF_STR("2")));
    assert_int_equal(rows[1].updated_us, 12);
    FAILS(MF_E_NOTFOUND, ops->user_setting_put(t->w, mf_uuid_new(), &row, &t->err));
    assert_string_equal(t->err.field, "user_id");
    FAILS(MF_E_NOTFOUND, ops->user_setting_delete(t->w, bob, MF_STR("b.key"), &t->err));
    OK(ops->user_setting_delete(t->w, ann, MF_STR("b.key"), &t->err));
    FAILS(MF_E_NOTFOUND, ops->user_setting_delete(t->w, ann, MF_STR("b.key"), &t->err));
    assert_string_equal(t->err.field, "key");
    OK(ops->user_setting_put(t->w, bob, &row, &t->err));
    OK(ops->user_delete(t->w, ann, &t->err));
    OK(ops->user_setting_list(t->w, ann, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 0);
    OK(ops->user_setting_list(t->w, bob, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 1);
    OK(ops->verify(t->w, &t->err));
}

static void api_keys_belong_to_a_user(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_api_key_row rows[2] = {{.id = mf_uuid_new(),
                               .user_id = ann,
                               .name = MF_STR("laptop"),
                               .permissions = MF_STR("[\"read\"]"),
                               .created_us = 5,
                               .expires_us = 10},
                              {.id = mf_uuid_new(), .user_id = ann, .created_us = 1}};
    memset(rows[0].hash, 0xa5, sizeof rows[0].hash);
    for (size_t i = 0; i < 2; i++) {
        OK(ops->api_key_insert(t->w, &rows[i], &t->err));
    }
    FAILS(MF_E_EXISTS, ops->api_key_insert(t->w, &rows[0], &t->err));
    mf_api_key_row stray = {.id = mf_uuid_new(), .user_id = mf_uuid_new()};
    FAILS(MF_E_NOTFOUND, ops->api_key_insert(t->w, &stray, &t->err));
    assert_string_equal(t->err.field, "user_id");
    mf_api_key_row got;
    OK(ops->api_key_get(t->w, rows[0].id, t->arena, &got, &t->err));
    assert_true(mf_uuid_eq(got.user_id, ann));
    assert_true(mf_str_eq(got.name, MF_STR("laptop")));
    assert_true(mf_str_eq(got.permissions, MF_STR("[\"read\"]")));
    assert_memory_equal(got.hash, rows[0].hash, sizeof got.hash);
    assert_int_equal(got.expires_us, 10);
    mf_api_key_row *all = NULL;
    size_t count = 0;
    OK(ops->api_key_list(t->w, ann, t->arena, &all, &count, &t->err));
    assert_int_equal(count, 2);
    assert_true(mf_uuid_eq(all[0].id, rows[0].id)); /* by creation, not by clock */
    assert_null(all[1].name.p);
    assert_null(all[1].permissions.p);
    FAILS(MF_E_NOTFOUND, ops->api_key_delete(t->w, bob, rows[0].id, &t->err));
    OK(ops->api_key_delete(t->w, ann, rows[0].id, &t->err));
    FAILS(MF_E_NOTFOUND, ops->api_key_get(t->w, rows[0].id, t->arena, &got, &t->err));
    OK(ops->api_key_list(t->w, bob, t->arena, &all, &count, &t->err));
    assert_int_equal(count, 0);
}

/* --- jobs --- */

enum { JOB_NOW_US = 1000000 };

static mf_job_row job_of(mf_uuid user, const char *kind, const char *key) {
    return (mf_job_row){.id = mf_uuid_new(),
                        .user_id = user,
                        .kind = mf_str_from(kind),
                        .key = key != NULL ? mf_str_from(key) : MF_STR_NONE,
                        .payload = MF_STR("{}"),
                        .priority = MF_JOB_PRIORITY_NORMAL,
                        .created_us = JOB_NOW_US,
                        .due_us = JOB_NOW_US};
}

static mf_uuid put_job(world *t, mf_uuid user, const char *kind, int priority,
                       int64_t due_us) {
    mf_job_row row = job_of(user, kind, NULL);
    bool added = false;
    row.priority = priority;
    row.due_us = due_us;
    OK(t->w->ops->job_put(t->w, &row, &added, &t->err));
    assert_true(added);
    return row.id;
}

typedef struct claimed {
    mf_job_row *rows;
    size_t count;
    int64_t next_due_us;
} claimed;

static claimed claim_jobs(world *t, size_t count_max, int64_t now_us) {
    static const mf_str kinds[] = {{"embed", 5}, {"facts", 5}};
    mf_job_claim ask = {.kinds = kinds,
                        .kind_count = 2,
                        .now_us = now_us,
                        .lease_us = now_us + 1000,
                        .count_max = count_max};
    claimed got = {0};
    OK(t->w->ops->job_claim(t->w, &ask, t->arena, &got.rows, &got.count,
                            &got.next_due_us, &t->err));
    return got;
}

static mf_job_row get_job(world *t, mf_uuid id) {
    mf_job_row row;
    OK(t->w->ops->job_get(t->w, id, t->arena, &row, &t->err));
    return row;
}

static size_t count_jobs(world *t, mf_conn *conn, mf_job_filter filter) {
    mf_job_row *rows;
    size_t count;
    filter.num_to = filter.num_to == 0 ? INT64_MAX : filter.num_to;
    filter.limit = filter.limit == 0 ? 1000 : filter.limit;
    OK(conn->ops->job_list(conn, &filter, t->arena, &rows, &count, &t->err));
    for (size_t i = 1; i < count; i++) {
        assert_true(rows[i].num > rows[i - 1].num);
    }
    return count;
}

static void end_job(world *t, const mf_job_row *row) {
    OK(t->w->ops->job_done(t->w, row->user_id, row->id, row->runs, &t->err));
}

static void a_job_keeps_every_field(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_job_row row = job_of(user, "facts", "k");
    row.payload = MF_STR("{\"messages\":[1,2]}");
    row.priority = 3;
    row.due_us = JOB_NOW_US + 5;
    bool added = false;
    OK(t->w->ops->job_put(t->w, &row, &added, &t->err));
    assert_true(added);
    mf_job_row got = get_job(t, row.id);
    assert_true(mf_uuid_eq(got.user_id, user));
    assert_true(mf_str_eq(got.kind, row.kind));
    assert_true(mf_str_eq(got.key, row.key));
    assert_true(mf_str_eq(got.payload, row.payload));
    assert_null(got.error.p);
    assert_int_equal(got.state, MF_JOB_OPEN);
    assert_int_equal(got.priority, 3);
    assert_int_equal(got.runs + got.failures + got.lost, 0);
    assert_int_equal(got.created_us, JOB_NOW_US);
    assert_int_equal(got.due_us, JOB_NOW_US + 5);
    mf_job_row nobodys = job_of(MF_UUID_NONE, "embed", NULL);
    OK(t->w->ops->job_put(t->w, &nobodys, &added, &t->err));
    assert_null(get_job(t, nobodys.id).key.p);
    FAILS(MF_E_EXISTS, t->w->ops->job_put(t->w, &nobodys, &added, &t->err));
    mf_job_row stranger = job_of(mf_uuid_new(), "facts", NULL);
    FAILS(MF_E_NOTFOUND, t->w->ops->job_put(t->w, &stranger, &added, &t->err));
    FAILS(MF_E_NOTFOUND,
          t->w->ops->job_get(t->w, mf_uuid_new(), t->arena, &got, &t->err));
}

static void a_job_over_a_bound_is_refused(void **state) {
    world *t = *state;
    static char long_text[MF_JOB_PAYLOAD_MAX + 1];
    memset(long_text, 'x', sizeof long_text);
    mf_job_row rows[5];
    for (size_t i = 0; i < 5; i++) {
        rows[i] = job_of(MF_UUID_NONE, "facts", NULL);
    }
    rows[0].kind = MF_STR("");
    rows[1].kind = (mf_str){long_text, MF_JOB_KIND_MAX + 1};
    rows[2].key = (mf_str){long_text, MF_JOB_KEY_MAX + 1};
    rows[3].payload = (mf_str){long_text, sizeof long_text};
    rows[4].priority = MF_JOB_PRIORITY_MAX + 1;
    static const char *const fields[] = {"kind", "kind", "key", "payload", "priority"};
    bool added = false;
    for (size_t i = 0; i < 5; i++) {
        FAILS(MF_E_LIMIT, t->w->ops->job_put(t->w, &rows[i], &added, &t->err));
        assert_string_equal(t->err.field, fields[i]);
    }
    rows[3].payload.len = MF_JOB_PAYLOAD_MAX;
    OK(t->w->ops->job_put(t->w, &rows[3], &added, &t->err));
    assert_int_equal(get_job(t, rows[3].id).payload.len, MF_JOB_PAYLOAD_MAX);
    assert_int_equal(count_jobs(t, t->w, (mf_job_filter){0}), 1);
}

static void a_key_admits_one_open_job(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    struct {
        mf_uuid user;
        const char *kind, *key;
        bool added;
    } cases[] = {
        {ann, "facts", "k", true},  {ann, "facts", "k", false},
        {ann, "facts", "kk", true}, {ann, "embed", "k", true},
        {bob, "facts", "k", true},  {MF_UUID_NONE, "facts", "k", true},
        {ann, "facts", NULL, true}, {ann, "facts", NULL, true},
        {bob, "facts", "k", false}, {MF_UUID_NONE, "facts", "k", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_job_row row = job_of(cases[i].user, cases[i].kind, cases[i].key);
        bool added = !cases[i].added;
        OK(t->w->ops->job_put(t->w, &row, &added, &t->err));
        assert_int_equal(added, cases[i].added);
    }
    claimed got = claim_jobs(t, 10, JOB_NOW_US);
    assert_int_equal(got.count, 4);
    /* Ann's job "k" runs now: what comes after it may need another. */
    mf_job_row again = job_of(ann, "facts", "k");
    bool added = false;
    OK(t->w->ops->job_put(t->w, &again, &added, &t->err));
    assert_true(added);
    OK(t->w->ops->job_put(t->w,
                          &(mf_job_row){.id = mf_uuid_new(),
                                        .user_id = ann,
                                        .kind = MF_STR("facts"),
                                        .key = MF_STR("k")},
                          &added, &t->err));
    assert_false(added);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void claims_go_by_priority_and_then_by_age(void **state) {
    world *t = *state;
    mf_uuid users[4];
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        users[i] = make_user(t, names[i]);
    }
    mf_uuid low = put_job(t, users[0], "facts", 0, 10);
    mf_uuid late = put_job(t, users[1], "facts", 2, 30);
    mf_uuid early = put_job(t, users[2], "embed", 2, 20);
    mf_uuid high = put_job(t, users[3], "facts", 4, 40);
    (void)put_job(t, users[0], "other", 4, 1); /* a kind nobody asks for */
    (void)put_job(t, users[0], "embed", 4, 5000);
    const mf_uuid expected[] = {high, early, late, low};
    for (size_t i = 0; i < 4; i++) {
        claimed got = claim_jobs(t, 1, 100);
        assert_int_equal(got.count, 1);
        assert_true(mf_uuid_eq(got.rows[0].id, expected[i]));
        assert_int_equal(got.rows[0].state, MF_JOB_RUNNING);
        assert_int_equal(got.rows[0].runs, 1);
        assert_int_equal(got.rows[0].lease_us, 1100);
        assert_int_equal(got.next_due_us, i < 3 ? 100 : 5000);
    }
    claimed got = claim_jobs(t, 1, 100);
    assert_int_equal(got.count, 0);
    assert_int_equal(got.next_due_us, 5000);
}

static void a_lane_runs_one_at_a_time_in_order(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid jobs[3];
    jobs[0] = put_job(t, ann, "facts", 0, 50);
    jobs[1] = put_job(t, ann, "facts", 4, 10); /* younger: it waits all the same */
    jobs[2] = put_job(t, ann, "facts", 0, 20);
    (void)put_job(t, ann, "embed", 0, 60);
    (void)put_job(t, bob, "facts", 0, 60);
    assert_int_equal(claim_jobs(t, 10, 40).count, 0);
    claimed first = claim_jobs(t, 10, 100);
    assert_int_equal(first.count, 3);
    assert_true(mf_uuid_eq(first.rows[0].id, jobs[0]));
    /* A failure keeps its place: nobody overtakes it. */
    mf_job_return failure = {.due_us = 200, .failed = true, .error = MF_STR("no luck")};
    OK(t->w->ops->job_fail(t->w, ann, jobs[0], 1, &failure, &t->err));
    assert_int_equal(get_job(t, jobs[0]).failures, 1);
    assert_true(mf_str_eq(get_job(t, jobs[0]).error, MF_STR("no luck")));
    claimed none = claim_jobs(t, 10, 150);
    assert_int_equal(none.count, 0);
    assert_int_equal(none.next_due_us, 200);
    claimed second = claim_jobs(t, 10, 200);
    assert_int_equal(second.count, 1);
    assert_int_equal(second.rows[0].runs, 2);
    /* A dead one lets the next pass. */
    mf_job_return death = {.due_us = 200, .failed = true, .dead = true};
    OK(t->w->ops->job_fail(t->w, ann, jobs[0], 2, &death, &t->err));
    assert_int_equal(get_job(t, jobs[0]).state, MF_JOB_DEAD);
    assert_true(mf_str_eq(get_job(t, jobs[0]).error, MF_STR("no luck")));
    claimed third = claim_jobs(t, 10, 200);
    assert_int_equal(third.count, 1);
    assert_true(mf_uuid_eq(third.rows[0].id, jobs[1]));
    end_job(t, &third.rows[0]);
    claimed fourth = claim_jobs(t, 10, 200);
    assert_int_equal(fourth.count, 1);
    assert_true(mf_uuid_eq(fourth.rows[0].id, jobs[2]));
    OK(t->w->ops->verify(t->w, &t->err));
}

static void a_claim_that_was_lost_ends_nothing(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid id = put_job(t, ann, "facts", 0, 50);
    mf_job_return back = {.due_us = 60};
    FAILS(MF_E_NOTFOUND, ops->job_done(t->w, ann, id, 0, &t->err)); /* not claimed */
    (void)claim_jobs(t, 1, 100);
    FAILS(MF_E_NOTFOUND, ops->job_done(t->w, bob, id, 1, &t->err));
    FAILS(MF_E_NOTFOUND, ops->job_renew(t->w, ann, id, 2, 9000, &t->err));
    OK(ops->job_renew(t->w, ann, id, 1, 9000, &t->err));
    assert_int_equal(claim_jobs(t, 1, 8999).count, 0); /* renewed */
    claimed again = claim_jobs(t, 1, 9001);
    assert_int_equal(again.count, 1);
    assert_int_equal(again.rows[0].runs, 2);
    assert_int_equal(again.rows[0].lost, 1);
    assert_int_equal(again.rows[0].failures, 0);
    assert_true(again.rows[0].error.len > 0);
    FAILS(MF_E_NOTFOUND, ops->job_done(t->w, ann, id, 1, &t->err));
    FAILS(MF_E_NOTFOUND, ops->job_fail(t->w, ann, id, 1, &back, &t->err));
    OK(ops->job_fail(t->w, ann, id, 2, &back, &t->err));
    assert_int_equal(get_job(t, id).failures, 0); /* only put back */
    end_job(t, &claim_jobs(t, 1, 100).rows[0]);
    mf_job_row got;
    FAILS(MF_E_NOTFOUND, ops->job_get(t->w, id, t->arena, &got, &t->err));
}

static void recovery_gives_every_running_job_back(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid id = put_job(t, ann, "facts", 0, 50);
    (void)put_job(t, bob, "facts", 0, 50);
    size_t count = 99;
    OK(t->w->ops->job_recover(t->w, &count, &t->err));
    assert_int_equal(count, 0);
    for (int lost = 1; lost <= MF_JOB_LOST_MAX; lost++) {
        assert_int_equal(claim_jobs(t, 10, 100).count, 2);
        OK(t->w->ops->job_recover(t->w, &count, &t->err));
        assert_int_equal(count, 2);
        assert_int_equal(get_job(t, id).lost, lost);
    }
    /* What takes the process along each time is not tried for ever. */
    assert_int_equal(get_job(t, id).state, MF_JOB_DEAD);
    assert_int_equal(claim_jobs(t, 10, 100).count, 0);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void a_clock_set_back_delays_nothing(void **state) {
    world *t = *state;
    const int64_t day_us = INT64_C(24) * 3600 * 1000000;
    mf_uuid ann = make_user(t, "ann");
    (void)put_job(t, ann, "facts", 0, 100 + day_us);
    assert_int_equal(claim_jobs(t, 1, 100).count, 0);
    assert_int_equal(claim_jobs(t, 1, 99).count, 1);
}

static void a_dead_job_is_retried_in_its_old_place_or_dropped(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid first = put_job(t, ann, "facts", 0, 50);
    mf_uuid second = put_job(t, ann, "facts", 0, 50);
    mf_uuid third = put_job(t, ann, "facts", 0, 50);
    mf_job_return death = {.due_us = 50, .failed = true, .dead = true};
    (void)claim_jobs(t, 1, 100);
    FAILS(MF_E_BUSY, ops->job_retry(t->w, ann, first, 100, &t->err));
    FAILS(MF_E_BUSY, ops->job_drop(t->w, ann, first, &t->err));
    OK(ops->job_fail(t->w, ann, first, 1, &death, &t->err));
    FAILS(MF_E_NOTFOUND, ops->job_retry(t->w, mf_uuid_new(), first, 100, &t->err));
    FAILS(MF_E_NOTFOUND, ops->job_drop(t->w, ann, mf_uuid_new(), &t->err));
    OK(ops->job_retry(t->w, ann, first, 100, &t->err));
    assert_int_equal(get_job(t, first).failures, 0);
    OK(ops->verify(t->w, &t->err));
    claimed got = claim_jobs(t, 10, 100);
    assert_int_equal(got.count, 1);
    assert_true(mf_uuid_eq(got.rows[0].id, first));
    OK(ops->job_fail(t->w, ann, first, 2, &death, &t->err));
    got = claim_jobs(t, 10, 100); /* the second runs while the first is retried */
    OK(ops->job_retry(t->w, ann, first, 100, &t->err));
    assert_int_equal(claim_jobs(t, 10, 100).count, 0);
    end_job(t, &got.rows[0]);
    OK(ops->job_drop(t->w, ann, first, &t->err));
    got = claim_jobs(t, 10, 100);
    assert_int_equal(got.count, 1);
    assert_true(mf_uuid_eq(got.rows[0].id, third));
    FAILS(MF_E_NOTFOUND, ops->job_retry(t->w, ann, second, 100, &t->err));
    OK(ops->verify(t->w, &t->err));
}

static void jobs_are_listed_and_counted(void **state) {
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    mf_uuid dead = put_job(t, ann, "facts", 0, 50);
    (void)put_job(t, ann, "facts", 3, 70);
    (void)put_job(t, ann, "embed", 0, 60);
    mf_uuid last = put_job(t, bob, "facts", 0, 80);
    mf_job_return death = {.due_us = 50, .failed = true, .dead = true};
    mf_job_row first = claim_jobs(t, 1, 55).rows[0];
    OK(t->w->ops->job_fail(t->w, ann, dead, first.runs, &death, &t->err));
    assert_int_equal(claim_jobs(t, 1, 65).count, 1); /* "embed" */
    commit(t);
    mf_conn *r = t->r;
    assert_int_equal(count_jobs(t, r, (mf_job_filter){0}), 4);
    assert_int_equal(count_jobs(t, r, (mf_job_filter){.limit = 3}), 3);
    assert_int_equal(count_jobs(t, r, (mf_job_filter){.user_id = ann}), 3);
    assert_int_equal(count_jobs(t, r, (mf_job_filter){.kind = MF_STR("facts")}), 3);
    assert_int_equal(
        count_jobs(t, r, (mf_job_filter){.user_id = bob, .kind = MF_STR("embed")}), 0);
    assert_int_equal(count_jobs(t, r, (mf_job_filter){.states = 1U << MF_JOB_DEAD}), 1);
    assert_int_equal(count_jobs(t, r, (mf_job_filter){.states = 1U << MF_JOB_OPEN}), 2);
    mf_job_filter live = {.states = 1U << MF_JOB_OPEN | 1U << MF_JOB_RUNNING};
    assert_int_equal(count_jobs(t, r, live), 3);
    live.num_to = get_job(t, last).num - 1;
    assert_int_equal(count_jobs(t, r, live), 2);
    mf_job_counts *counts;
    size_t kinds;
    OK(r->ops->job_counts(r, t->arena, &counts, &kinds, &t->err));
    assert_int_equal(kinds, 2);
    assert_true(mf_str_eq(counts[0].kind, MF_STR("embed")));
    assert_int_equal(counts[0].running, 1);
    assert_true(counts[0].oldest_due_us == INT64_MAX);
    assert_int_equal(counts[1].open, 2);
    assert_int_equal(counts[1].dead, 1);
    assert_int_equal(counts[1].oldest_due_us, 70);
}

static void a_very_long_queue_is_claimed_from_quickly(void **state) {
    enum { LONG = 20000 };
    world *t = *state;
    mf_uuid ann = make_user(t, "ann");
    mf_uuid bob = make_user(t, "bob");
    for (int i = 0; i < LONG; i++) {
        (void)put_job(t, ann, "facts", i % (MF_JOB_PRIORITY_MAX + 1), i);
    }
    mf_uuid bobs = put_job(t, bob, "facts", 0, LONG);
    assert_int_equal(claim_jobs(t, 1, LONG).count, 1);
    claimed got = claim_jobs(t, 10, LONG);
    assert_int_equal(got.count, 1);
    assert_true(mf_uuid_eq(got.rows[0].id, bobs));
    assert_int_equal(count_jobs(t, t->w, (mf_job_filter){.limit = 10}), 10);
    OK(t->w->ops->user_delete(t->w, ann, &t->err));
    assert_int_equal(count_jobs(t, t->w, (mf_job_filter){0}), 1);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void job_states_and_cut_errors_read_back(void **state) {
    (void)state;
    mf_job_state got = MF_JOB_OPEN;
    for (int i = MF_JOB_OPEN; i <= MF_JOB_DEAD; i++) {
        assert_true(
            mf_job_state_parse(mf_str_from(mf_job_state_name((mf_job_state)i)), &got));
        assert_int_equal(got, i);
    }
    assert_false(mf_job_state_parse(MF_STR("Open"), &got));
    char text[MF_JOB_ERROR_MAX + 8];
    memset(text, 'x', sizeof text);
    text[MF_JOB_ERROR_MAX - 1] = '\xc3'; /* a letter of two bytes across the bound */
    text[MF_JOB_ERROR_MAX] = '\xa4';
    assert_int_equal(mf_job_error_cut((mf_str){text, sizeof text}).len,
                     MF_JOB_ERROR_MAX - 1);
    assert_int_equal(mf_job_error_cut((mf_str){text, 5}).len, 5);
    assert_null(mf_job_error_cut(MF_STR_NONE).p);
}

/* --- deletes --- */

/* A user with something in every table. */
static mf_uuid make_full_user(world *t, const char *name, mf_uuid agents[2]) {
    mf_uuid user = make_user(t, name);
    for (size_t i = 0; i < 2; i++) {
        mf_uuid session = make_session(t, user, agents[i], i == 0 ? "s0" : "s1");
        for (size_t j = 0; j < 3; j++) {
            mf_message_row row = make_message(t, user, session, "m");
            put_chunk(t, user, MF_DOC_MESSAGE, row.num, row.updated_us, 0);
        }
    }
    mf_knowledge_row item = make_knowledge(t, user, "k");
    put_chunk(t, user, MF_DOC_KNOWLEDGE, item.num, item.updated_us, 0);
    mf_api_key_row key = {.id = mf_uuid_new(), .user_id = user};
    OK(t->w->ops->api_key_insert(t->w, &key, &t->err));
    OK(t->w->ops->backlog_add(t->w, user, &t->err));
    OK(t->w->ops->idempotency_put(t->w, user, MF_STR("k"), 1, MF_STR("r"), 1, &t->err));
    for (int i = 0; i < 3; i++) { /* one runs, one is next, one is behind it */
        mf_job_row job = job_of(user, i == 0 ? "embed" : "facts", "k");
        bool added;
        OK(t->w->ops->job_put(t->w, &job, &added, &t->err));
        if (i == 0) {
            assert_int_equal(claim_jobs(t, 1, JOB_NOW_US).count, 1);
        }
    }
    return user;
}

static void user_delete_leaves_nothing_behind(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->w->ops;
    mf_uuid agents[2] = {make_agent(t, "a0"), make_agent(t, "a1")};
    mf_uuid ann = make_full_user(t, "ann", agents);
    mf_uuid bob = make_full_user(t, "bob", agents);
    OK(ops->user_delete(t->w, ann, &t->err));
    mf_store_counts counts = counts_of(t, t->w);
    assert_int_equal(counts.users, 1);
    assert_int_equal(counts.agents, 2);
    assert_int_equal(counts.sessions, 2);
    assert_int_equal(counts.messages, 6);
    assert_int_equal(counts.knowledge, 1);
    assert_int_equal(counts.chunks, 7);
    assert_int_equal(count_jobs(t, t->w, (mf_job_filter){.user_id = ann}), 0);
    assert_int_equal(count_jobs(t, t->w, (mf_job_filter){.user_id = bob}), 2);
    mf_uuid *owing = NULL;
    mf_api_key_row *keys = NULL;
    size_t count = 0;
    OK(ops->backlog_list(t->w, t->arena, &owing, &count, &t->err));
    assert_int_equal(count, 1);
    assert_true(mf_uuid_eq(owing[0], bob));
    OK(ops->api_key_list(t->w, ann, t->arena, &keys, &count, &t->err));
    assert_int_equal(count, 0);
    uint64_t fingerprint = 0;
    mf_str reply;
    FAILS(MF_E_NOTFOUND, ops->idempotency_get(t->w, ann, MF_STR("k"), t->arena,
                                              &fingerprint, &reply, &t->err));
    OK(ops->user_delete(t->w, bob, &t->err));
    counts = counts_of(t, t->w);
    assert_int_equal(counts.users + counts.sessions + counts.messages +
                         counts.knowledge + counts.chunks,
                     0);
    OK(ops->verify(t->w, &t->err));
    make_user(t, "ann"); /* the name is free again */
}

static void session_delete_takes_its_messages_and_vectors(void **state) {
    world *t = *state;
    mf_uuid agents[2] = {make_agent(t, "a0"), make_agent(t, "a1")};
    mf_uuid user = make_full_user(t, "u", agents);
    mf_session_row session;
    OK(t->w->ops->session_find(t->w, user, MF_STR("s0"), t->arena, &session, &t->err));
    OK(t->w->ops->session_delete(t->w, user, session.id, &t->err));
    mf_store_counts counts = counts_of(t, t->w);
    assert_int_equal(counts.sessions, 1);
    assert_int_equal(counts.messages, 3);
    assert_int_equal(counts.chunks, 4);
    OK(t->w->ops->verify(t->w, &t->err));
}

static void agent_delete_takes_its_sessions_of_every_user(void **state) {
    world *t = *state;
    mf_uuid agents[2] = {make_agent(t, "a0"), make_agent(t, "a1")};
    make_full_user(t, "ann", agents);
    make_full_user(t, "bob", agents);
    OK(t->w->ops->agent_delete(t->w, agents[0], &t->err));
    mf_store_counts counts = counts_of(t, t->w);
    assert_int_equal(counts.users, 2);
    assert_int_equal(counts.agents, 1);
    assert_int_equal(counts.sessions, 2);
    assert_int_equal(counts.messages, 6);
    assert_int_equal(counts.chunks, 8);
    OK(t->w->ops->verify(t->w, &t->err));
}

/* --- transactions and connections --- */

static void reader_sees_what_is_committed_and_no_more(void **state) {
    world *t = *state;
    make_user(t, "one");
    assert_int_equal(counts_of(t, t->r).users, 0);
    assert_int_equal(counts_of(t, t->w).users, 1);
    commit(t);
    assert_int_equal(counts_of(t, t->r).users, 1);
    OK(t->r->ops->read_begin(t->r, &t->err));
    make_user(t, "two");
    commit(t);
    assert_int_equal(counts_of(t, t->r).users, 1); /* as it was at read_begin */
    t->r->ops->read_end(t->r);
    assert_int_equal(counts_of(t, t->r).users, 2);
}

static void rollback_undoes_everything(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "kept");
    commit(t);
    make_user(t, "lost");
    OK(t->w->ops->user_delete(t->w, user, &t->err));
    t->w->ops->rollback(t->w);
    assert_int_equal(counts_of(t, t->w).users, 1);
    OK(t->w->ops->begin(t->w, &t->err));
    mf_named_row row;
    OK(t->w->ops->user_find(t->w, MF_STR("kept"), t->arena, &row, &t->err));
}

static void savepoints_nest_and_undo_only_their_own(void **state) {
    world *t = *state;
    make_user(t, "one");
    OK(t->w->ops->savepoint(t->w, &t->err));
    make_user(t, "two");
    OK(t->w->ops->savepoint(t->w, &t->err));
    make_user(t, "three");
    t->w->ops->savepoint_undo(t->w);
    assert_int_equal(counts_of(t, t->w).users, 2);
    OK(t->w->ops->savepoint(t->w, &t->err));
    make_user(t, "four");
    OK(t->w->ops->savepoint_keep(t->w, &t->err));
    assert_int_equal(counts_of(t, t->w).users, 3);
    t->w->ops->savepoint_undo(t->w); /* takes the kept inner one along */
    assert_int_equal(counts_of(t, t->w).users, 1);
    commit(t);
    assert_int_equal(counts_of(t, t->r).users, 1);
}

static void a_failed_change_is_undone_by_its_savepoint(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    OK(t->w->ops->savepoint(t->w, &t->err));
    mf_message_row rows[3] = {message_of(t, user, session, "1"),
                              message_of(t, user, session, "2"),
                              message_of(t, user, mf_uuid_new(), "nowhere")};
    FAILS(MF_E_NOTFOUND, t->w->ops->message_insert(t->w, rows, 3, &t->err));
    assert_int_equal(rows[0].num, 0);
    t->w->ops->savepoint_undo(t->w);
    assert_int_equal(counts_of(t, t->w).messages, 0);
    OK(t->w->ops->message_insert(t->w, rows, 2, &t->err));
    assert_int_equal(counts_of(t, t->w).messages, 2);
}

static void there_is_one_writer_at_a_time(void **state) {
    world *t = *state;
    mf_conn *second = NULL;
    FAILS(MF_E_BUSY, t->store->ops->conn_open(t->store, true, &second, &t->err));
    assert_null(second);
    OK(t->store->ops->conn_open(t->store, false, &second, &t->err));
    t->store->ops->conn_close(second);
    t->store->ops->conn_close(NULL);
}

static void numbers_are_never_given_twice(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid agent = make_agent(t, "a");
    mf_uuid session = make_session(t, user, agent, "s");
    int64_t newest = 0;
    for (int round = 0; round < 4; round++) {
        mf_message_row message = make_message(t, user, session, "m");
        mf_knowledge_row item = make_knowledge(t, user, "k");
        assert_true(message.num > newest);
        newest = item.num > message.num ? item.num : message.num;
        if (round == 0) {
            OK(t->w->ops->message_delete(t->w, user, &message.id, 1, &t->err));
            OK(t->w->ops->knowledge_delete(t->w, user, &item.id, 1, &t->err));
        } else if (round == 1) {
            OK(t->w->ops->session_delete(t->w, user, session, &t->err));
            OK(t->w->ops->knowledge_delete(t->w, user, &item.id, 1, &t->err));
            session = make_session(t, user, agent, "s");
        } else {
            OK(t->w->ops->user_delete(t->w, user, &t->err));
            user = make_user(t, "u");
            session = make_session(t, user, agent, "s");
        }
        commit(t);
        if (on_disk()) {
            t->w->ops->rollback(t->w);
            close_store(t);
            open_store(t);
            OK(t->w->ops->begin(t->w, &t->err));
        }
    }
}

static void each_failed_allocation_is_told_and_undone(void **state) {
    world *t = *state;
    mf_uuid user = make_user(t, "u");
    mf_uuid session = make_session(t, user, make_agent(t, "a"), "s");
    size_t failures = 0;
    MF_EACH_FAULT("alloc", n) {
        mf_message_row rows[2] = {message_of(t, user, session, "one"),
                                  message_of(t, user, session, "two")};
        mf_job_row job = job_of(user, "facts", "k");
        mf_rc rc = t->w->ops->savepoint(t->w, &t->err);
        if (rc == MF_OK) {
            bool added;
            rc = t->w->ops->job_put(t->w, &job, &added, &t->err);
            rc = rc != MF_OK ? rc : t->w->ops->message_insert(t->w, rows, 2, &t->err);
            t->w->ops->savepoint_undo(t->w);
        }
        if (rc != MF_OK) {
            FAILS(MF_E_NOMEM, rc);
            assert_int_equal(rows[0].num, 0);
            failures++;
        }
    }
    OK(t->w->ops->verify(t->w, &t->err));
    assert_int_equal(counts_of(t, t->w).messages, 0);
    assert_int_equal(count_jobs(t, t->w, (mf_job_filter){0}), 0);
    assert_true(on_disk() || failures > 0);
}

static void role_names_read_back(void **state) {
    (void)state;
    mf_role role = MF_ROLE_USER;
    for (int i = MF_ROLE_USER; i <= MF_ROLE_SYSTEM; i++) {
        assert_true(mf_role_parse(mf_str_from(mf_role_name((mf_role)i)), &role));
        assert_int_equal(role, i);
    }
    assert_false(mf_role_parse(MF_STR("User"), &role));
    assert_false(mf_role_parse(MF_STR(""), &role));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    static const char *const names[BACKEND_COUNT] = {"sqlite", "memory",
                                                     "trace(sqlite)", "faulty(memory)"};
    const struct CMUnitTest tests[] = {
        TEST(every_operation_is_there),
        TEST(user_is_stored_found_and_listed_oldest_first),
        TEST(names_are_unique_byte_by_byte),
        TEST(user_update_changes_what_it_says),
        TEST(unknown_ids_and_names_are_not_found),
        TEST(agents_behave_as_users_do),
        TEST(session_needs_a_user_and_an_agent),
        TEST(session_name_is_unique_within_its_user_only),
        TEST(sessions_are_listed_newest_first_and_filtered),
        TEST(session_rename_is_for_its_owner),
        TEST(message_keeps_every_field),
        TEST(message_needs_a_session_of_its_own_user),
        TEST(the_same_message_id_of_two_users_are_two_messages),
        TEST(messages_are_listed_by_range_order_and_limit),
        TEST(messages_are_listed_by_id_text),
        TEST(look_ups_say_zero_for_what_is_missing),
        TEST(nothing_of_a_user_is_reached_with_another_users_id),
        TEST(message_update_changes_the_text_and_drops_its_vectors),
        TEST(message_delete_takes_the_vectors_along),
        TEST(giving_memory_back_changes_nothing),
        TEST(scans_rise_over_all_sessions_and_stop_when_told),
        TEST(ten_thousand_messages_go_in_and_out_in_one_call),
        TEST(a_megabyte_of_text_is_kept),
        TEST(text_with_a_nul_byte_is_kept_whole),
        TEST(knowledge_behaves_as_messages_do),
        TEST(chunks_come_in_order_and_are_replaced),
        TEST(a_chunk_of_another_model_takes_the_place_of_the_old_one),
        TEST(a_stale_chunk_stores_nothing_and_succeeds),
        TEST(a_touched_message_loses_its_chunks_and_refuses_older_ones),
        TEST(the_last_part_takes_those_behind_it_away),
        TEST(compressed_texts_read_back_byte_for_byte),
        TEST(an_edit_writes_plain_and_is_compressed_again),
        TEST(young_and_newest_messages_stay_plain),
        TEST(vectors_are_found_by_their_content_whoever_has_it),
        TEST(a_replaced_vector_is_no_longer_found),
        TEST(deleting_the_last_owner_of_a_text_forgets_its_vector),
        TEST(the_content_secret_stays_and_is_the_stores_own),
        TEST(closed_windows_are_remembered_by_session_and_by_user),
        TEST(backlog_is_a_set_of_users),
        TEST(a_keyed_reply_is_given_once_and_purged_by_age),
        TEST(settings_belong_to_a_user),
        TEST(api_keys_belong_to_a_user),
        TEST(a_job_keeps_every_field),
        TEST(a_job_over_a_bound_is_refused),
        TEST(a_key_admits_one_open_job),
        TEST(claims_go_by_priority_and_then_by_age),
        TEST(a_lane_runs_one_at_a_time_in_order),
        TEST(a_claim_that_was_lost_ends_nothing),
        TEST(recovery_gives_every_running_job_back),
        TEST(a_clock_set_back_delays_nothing),
        TEST(a_dead_job_is_retried_in_its_old_place_or_dropped),
        TEST(jobs_are_listed_and_counted),
        TEST(a_very_long_queue_is_claimed_from_quickly),
        TEST(job_states_and_cut_errors_read_back),
        TEST(user_delete_leaves_nothing_behind),
        TEST(session_delete_takes_its_messages_and_vectors),
        TEST(agent_delete_takes_its_sessions_of_every_user),
        TEST(reader_sees_what_is_committed_and_no_more),
        TEST(rollback_undoes_everything),
        TEST(savepoints_nest_and_undo_only_their_own),
        TEST(a_failed_change_is_undone_by_its_savepoint),
        TEST(there_is_one_writer_at_a_time),
        TEST(numbers_are_never_given_twice),
        TEST(each_failed_allocation_is_told_and_undone),
        TEST(role_names_read_back),
    };
    int failed = 0;
    for (int i = 0; i < BACKEND_COUNT; i++) {
        tested = (backend)i;
        failed += cmocka_run_group_tests_name(names[i], tests, NULL, NULL);
    }
    return failed;
}
