/* wrap_test.c - the tracing store counts, the faulty store fails what it is told to and
 * leaves the caller's outputs alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "store/faulty.h"
#include "store/memory/memory_store.h"
#include "store/trace.h"

enum { GUARD = 0x5a, OPS_MAX = 96 };

typedef struct world {
    mf_store *faulty, *trace; /* trace around faulty around memory */
    mf_conn *w, *r;
    mf_arena *arena;
    mf_err err;
} world;

static void ok(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}
#define OK(call) ok((call), &t->err, __LINE__)

static int setup(void **state) {
    static world place;
    world *t = &place;
    *t = (world){0};
    mf_store *inner = NULL;
    OK(mf_memory_store_open(&inner, &t->err));
    OK(mf_faulty_store_open(inner, &t->faulty, &t->err));
    OK(mf_trace_store_open(t->faulty, &t->trace, &t->err));
    OK(t->trace->ops->conn_open(t->trace, true, &t->w, &t->err));
    OK(t->trace->ops->conn_open(t->trace, false, &t->r, &t->err));
    OK(mf_arena_new(1 << 20, &t->arena, &t->err));
    *state = t;
    return 0;
}

static int teardown(void **state) {
    world *t = *state;
    t->w->ops->conn_close(t->w);
    t->r->ops->conn_close(t->r);
    t->trace->ops->close(t->trace);
    mf_arena_free(t->arena);
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static mf_trace_row row_of(world *t, const char *op) {
    mf_trace_row rows[OPS_MAX];
    size_t count = mf_trace_store_rows(t->trace, rows, OPS_MAX);
    assert_true(count <= OPS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].op, op) == 0) {
            return rows[i];
        }
    }
    fail_msg("no row for %s", op);
    return rows[0];
}

static void trace_counts_calls_and_failures_by_operation(void **state) {
    world *t = *state;
    mf_named_row row = {.id = mf_uuid_new(), .name = MF_STR("u")};
    OK(t->w->ops->begin(t->w, &t->err));
    OK(t->w->ops->user_insert(t->w, &row, &t->err));
    assert_int_equal(t->w->ops->user_insert(t->w, &row, &t->err), MF_E_EXISTS);
    OK(t->w->ops->commit(t->w, &t->err));
    assert_int_equal(row_of(t, "user_insert").calls, 2);
    assert_int_equal(row_of(t, "user_insert").failures, 1);
    assert_int_equal(row_of(t, "commit").calls, 1);
    assert_int_equal(row_of(t, "conn_open").calls, 2);
    assert_int_equal(row_of(t, "verify").calls, 0);
    mf_trace_row first;
    assert_true(mf_trace_store_rows(t->trace, &first, 1) >
                1); /* writes one, tells all */
    assert_string_equal(first.op, "begin");
}

static void faulty_skips_then_fails_then_lets_pass(void **state) {
    world *t = *state;
    mf_store_counts counts;
    mf_faulty_store_arm(t->faulty, "counts", 2, 3, MF_E_CORRUPT);
    static const mf_rc expected[] = {MF_OK,        MF_OK,        MF_E_CORRUPT,
                                     MF_E_CORRUPT, MF_E_CORRUPT, MF_OK};
    for (size_t i = 0; i < 6; i++) {
        OK(t->r->ops->verify(t->r, &t->err)); /* another operation is left alone */
        assert_int_equal(t->r->ops->counts(t->r, &counts, &t->err), expected[i]);
    }
    assert_int_equal(mf_faulty_store_fired(t->faulty), 3);
    mf_faulty_store_arm(t->faulty, "*", 0, 1, MF_E_BUSY);
    assert_int_equal(t->r->ops->verify(t->r, &t->err), MF_E_BUSY);
    assert_int_equal(t->err.rc, MF_E_BUSY);
    mf_faulty_store_arm(t->faulty, "*", 0, 1, MF_E_BUSY);
    mf_faulty_store_disarm(t->faulty);
    OK(t->r->ops->verify(t->r, &t->err));
}

static void a_commit_told_to_fail_loses_its_transaction(void **state) {
    world *t = *state;
    mf_named_row row = {.id = mf_uuid_new(), .name = MF_STR("u")};
    mf_faulty_store_arm(t->faulty, "commit", 0, 1, MF_E_FULL);
    OK(t->w->ops->begin(t->w, &t->err));
    OK(t->w->ops->user_insert(t->w, &row, &t->err));
    assert_int_equal(t->w->ops->commit(t->w, &t->err), MF_E_FULL);
    OK(t->w->ops->begin(t->w, &t->err)); /* the old one is gone */
    mf_store_counts counts;
    OK(t->w->ops->counts(t->w, &counts, &t->err));
    assert_int_equal(counts.users, 0);
    t->w->ops->rollback(t->w);
}

static bool untouched(const void *p, size_t size) {
    const unsigned char *bytes = p;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != GUARD) {
            return false;
        }
    }
    return true;
}

/* Every operation that hands something out, told to fail, hands out nothing. */
static void failing_operations_leave_outputs_untouched(void **state) {
    world *t = *state;
    const mf_store_ops *ops = t->r->ops;
    union {
        mf_named_row named;
        mf_session_row session;
        mf_message_row message;
        mf_knowledge_row item;
        mf_api_key_row key;
        mf_store_counts counts;
        struct {
            void *rows;
            size_t count;
            uint64_t fingerprint;
            mf_str reply;
            int64_t num;
        } list;
    } out;
    mf_uuid id = mf_uuid_new();
    mf_message_range range = {.num_to = INT64_MAX, .limit = 1};
    int64_t num = 1;
    mf_conn *conn = NULL;
    mf_faulty_store_arm(t->faulty, "*", 0, UINT64_MAX, MF_E_IO);
    memset(&out, GUARD, sizeof out);
    mf_err *e = &t->err;
    mf_arena *a = t->arena;
#define STAYS(call)                                                                    \
    assert_int_equal((call), MF_E_IO);                                                 \
    assert_true(untouched(&out, sizeof out))
    STAYS(ops->user_get(t->r, id, a, &out.named, e));
    STAYS(ops->user_find(t->r, MF_STR("x"), a, &out.named, e));
    STAYS(ops->user_list(t->r, a, (mf_named_row **)&out.list.rows, &out.list.count, e));
    STAYS(ops->agent_get(t->r, id, a, &out.named, e));
    STAYS(ops->agent_find(t->r, MF_STR("x"), a, &out.named, e));
    STAYS(
        ops->agent_list(t->r, a, (mf_named_row **)&out.list.rows, &out.list.count, e));
    STAYS(ops->session_get(t->r, id, a, &out.session, e));
    STAYS(ops->session_find(t->r, id, MF_STR("x"), a, &out.session, e));
    STAYS(ops->session_list(t->r, id, id, a, (mf_session_row **)&out.list.rows,
                            &out.list.count, e));
    STAYS(ops->message_list(t->r, id, id, &range, a, (mf_message_row **)&out.list.rows,
                            &out.list.count, e));
    STAYS(ops->message_get(t->r, id, id, &id, 1, a, &out.message, e));
    STAYS(ops->message_get_by_num(t->r, id, &num, 1, a, &out.message, e));
    STAYS(ops->knowledge_list(t->r, id, a, (mf_knowledge_row **)&out.list.rows,
                              &out.list.count, e));
    STAYS(ops->knowledge_get(t->r, id, &id, 1, a, &out.item, e));
    STAYS(ops->knowledge_get_by_num(t->r, id, &num, 1, a, &out.item, e));
    STAYS(ops->window_close(t->w, id, id, &out.list.num, e));
    STAYS(ops->window_closed(t->r, id, id, &out.list.num, e));
    STAYS(ops->backlog_list(t->r, a, (mf_uuid **)&out.list.rows, &out.list.count, e));
    STAYS(ops->idempotency_get(t->r, id, MF_STR("k"), a, &out.list.fingerprint,
                               &out.list.reply, e));
    STAYS(ops->api_key_get(t->r, id, a, &out.key, e));
    STAYS(ops->user_setting_list(t->r, id, a, (mf_user_setting_row **)&out.list.rows,
                                 &out.list.count, e));
    STAYS(ops->api_key_list(t->r, id, a, (mf_api_key_row **)&out.list.rows,
                            &out.list.count, e));
    STAYS(ops->counts(t->r, &out.counts, e));
    STAYS(ops->message_insert(t->w, &out.message, 1, e));
    STAYS(ops->knowledge_insert(t->w, &out.item, 1, e));
#undef STAYS
    assert_int_equal(t->trace->ops->conn_open(t->trace, false, &conn, e), MF_E_IO);
    assert_null(conn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(trace_counts_calls_and_failures_by_operation),
        TEST(faulty_skips_then_fails_then_lets_pass),
        TEST(a_commit_told_to_fail_loses_its_transaction),
        TEST(failing_operations_leave_outputs_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
