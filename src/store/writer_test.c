/* writer_test.c - group commit keeps order, isolates failures, reports once, and
 * refuses after a flush failed.
 *
 * The store underneath is the memory backend inside the faulty wrapper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "store/faulty.h"
#include "store/memory/memory_store.h"
#include "store/writer.h"

typedef struct world {
    mf_store *store;
    mf_writer *writer;
    mf_arena *arena;
    mf_err err;
    mf_uuid user;
    size_t live_before;
} world;

static void ok(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}
#define OK(call) ok((call), &t->err, __LINE__)

static mf_rc insert_user(mf_conn *conn, void *ctx, mf_err *err) {
    mf_named_row row = {.id = *(mf_uuid *)ctx, .name = MF_STR("u")};
    return conn->ops->user_insert(conn, &row, err);
}

static void open_writer(world *t, size_t queue_max, size_t group_max) {
    mf_writer_options options = {queue_max, group_max};
    OK(mf_writer_open(t->store, &options, &t->writer, &t->err));
}

static int setup(void **state) {
    static world place;
    world *t = &place;
    mf_store *inner = NULL;
    *t = (world){.live_before = mf_alloc_live()};
    OK(mf_memory_store_open(&inner, &t->err));
    OK(mf_faulty_store_open(inner, &t->store, &t->err));
    OK(mf_arena_new((size_t)64 << 20, &t->arena, &t->err));
    open_writer(t, 64, 16);
    t->user = mf_uuid_new();
    OK(mf_writer_run(t->writer, insert_user, &t->user, &t->err));
    *state = t;
    return 0;
}

static int teardown(void **state) {
    world *t = *state;
    mf_writer_close(t->writer);
    t->store->ops->close(t->store);
    mf_arena_free(t->arena);
    assert_int_equal(mf_alloc_live(), t->live_before);
    return 0;
}

/* --- operations that remember what became of them --- */

enum { PLAN_MAX = 64 };

typedef struct gate {
    mf_mutex gate_mu;
    mf_cond changed;
    bool open, reached; /* guarded by gate_mu */
} gate;

typedef struct board {
    mf_mutex board_mu;
    mf_cond changed;
    /* guarded by board_mu */
    size_t done;
    size_t order[PLAN_MAX];
    mf_rc rcs[PLAN_MAX];
} board;

typedef struct op {
    mf_write write;
    world *t;
    board *board;
    gate *gate; /* unless NULL the operation waits here */
    size_t index;
    mf_rc fail_with;
    int64_t num;
    size_t done_count;
} op;

static mf_rc op_run(mf_conn *conn, void *ctx, mf_err *err) {
    op *o = ctx;
    if (o->gate != NULL) {
        mf_mutex_lock(&o->gate->gate_mu);
        o->gate->reached = true;
        mf_cond_signal(&o->gate->changed);
        while (!o->gate->open) {
            mf_cond_wait(&o->gate->changed, &o->gate->gate_mu, MF_NEVER);
        }
        mf_mutex_unlock(&o->gate->gate_mu);
    }
    mf_knowledge_row row = {
        .id = mf_uuid_new(), .user_id = o->t->user, .content = MF_STR("k")};
    MF_TRY(conn->ops->knowledge_insert(conn, &row, 1, err));
    o->num = row.num;
    return o->fail_with == MF_OK ? MF_OK : MF_FAIL(err, o->fail_with, "as planned");
}

static void op_done(void *ctx, mf_rc rc, const mf_err *err) {
    op *o = ctx;
    board *b = o->board;
    mf_mutex_lock(&b->board_mu);
    assert_true(rc == MF_OK || err->rc == rc);
    o->done_count++;
    b->order[b->done] = o->index;
    b->rcs[o->index] = rc;
    b->done++;
    mf_cond_signal(&b->changed);
    mf_mutex_unlock(&b->board_mu);
}

static void board_init(board *b) {
    *b = (board){0};
    mf_mutex_init(&b->board_mu, MF_RANK_LEAF);
    mf_cond_init(&b->changed);
}

static void board_wait(board *b, size_t count) {
    mf_mutex_lock(&b->board_mu);
    while (b->done < count) {
        mf_cond_wait(&b->changed, &b->board_mu, MF_NEVER);
    }
    mf_mutex_unlock(&b->board_mu);
}

static void board_done(board *b) {
    mf_cond_done(&b->changed);
    mf_mutex_done(&b->board_mu);
}

static void gate_init(gate *g) {
    *g = (gate){0};
    mf_mutex_init(&g->gate_mu, MF_RANK_LEAF);
    mf_cond_init(&g->changed);
}

static void gate_wait_reached(gate *g) {
    mf_mutex_lock(&g->gate_mu);
    while (!g->reached) {
        mf_cond_wait(&g->changed, &g->gate_mu, MF_NEVER);
    }
    mf_mutex_unlock(&g->gate_mu);
}

static void gate_open(gate *g) {
    mf_mutex_lock(&g->gate_mu);
    g->open = true;
    mf_cond_signal(&g->changed);
    mf_mutex_unlock(&g->gate_mu);
}

static void gate_done(gate *g) {
    mf_cond_done(&g->changed);
    mf_mutex_done(&g->gate_mu);
}

static void op_init(op *o, world *t, board *b, size_t index) {
    *o = (op){.t = t, .board = b, .index = index};
    o->write = (mf_write){op_run, op_done, o};
}

static mf_rc count_knowledge(mf_conn *conn, void *ctx, mf_err *err) {
    mf_store_counts counts;
    MF_TRY(conn->ops->counts(conn, &counts, err));
    *(uint64_t *)ctx = counts.knowledge;
    return MF_OK;
}

static uint64_t committed_knowledge(world *t) {
    mf_conn *conn = NULL;
    mf_store_counts counts = {0};
    OK(t->store->ops->conn_open(t->store, false, &conn, &t->err));
    OK(conn->ops->counts(conn, &counts, &t->err));
    t->store->ops->conn_close(conn);
    return counts.knowledge;
}

/* --- the writer --- */

static void operations_run_and_report_in_the_order_handed_in(void **state) {
    enum { N = 40 };
    world *t = *state;
    board b;
    gate g;
    op ops[N];
    board_init(&b);
    gate_init(&g);
    for (size_t i = 0; i < N; i++) {
        op_init(&ops[i], t, &b, i);
        ops[i].gate = i == 0 ? &g : NULL;
        OK(mf_writer_submit(t->writer, &ops[i].write, &t->err));
    }
    gate_wait_reached(&g);
    assert_int_equal(committed_knowledge(t), 0);
    gate_open(&g);
    board_wait(&b, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(b.order[i], i);
        assert_int_equal(b.rcs[i], MF_OK);
        assert_int_equal(ops[i].done_count, 1);
        assert_true(i == 0 || ops[i].num > ops[i - 1].num);
    }
    assert_int_equal(committed_knowledge(t), N);
    mf_writer_stats stats;
    mf_writer_get_stats(t->writer, &stats);
    assert_int_equal(stats.operations, N + 1);
    assert_int_equal(stats.failures, 0);
    assert_true(stats.group_largest > 1 && stats.group_largest <= 16);
    assert_true(stats.commits < N); /* they shared commits */
    gate_done(&g);
    board_done(&b);
}

static void a_failing_operation_changes_nothing_and_disturbs_nobody(void **state) {
    enum { N = 9 };
    world *t = *state;
    board b;
    gate g;
    op ops[N];
    board_init(&b);
    gate_init(&g);
    for (size_t i = 0; i < N; i++) {
        op_init(&ops[i], t, &b, i);
        ops[i].gate = i == 0 ? &g : NULL;
        ops[i].fail_with = i % 3 == 1 ? MF_E_INVAL : MF_OK;
        OK(mf_writer_submit(t->writer, &ops[i].write, &t->err));
    }
    gate_open(&g);
    board_wait(&b, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(b.rcs[i], i % 3 == 1 ? MF_E_INVAL : MF_OK);
    }
    assert_int_equal(committed_knowledge(t), 6);
    gate_done(&g);
    board_done(&b);
}

static void a_full_queue_refuses_and_leaves_the_operation_to_its_owner(void **state) {
    world *t = *state;
    mf_writer_close(t->writer);
    open_writer(t, 2, 4);
    board b;
    gate g;
    op ops[4];
    board_init(&b);
    gate_init(&g);
    for (size_t i = 0; i < 4; i++) {
        op_init(&ops[i], t, &b, i);
    }
    ops[0].gate = &g;
    OK(mf_writer_submit(t->writer, &ops[0].write, &t->err));
    gate_wait_reached(&g); /* the thread is busy, the queue empty */
    OK(mf_writer_submit(t->writer, &ops[1].write, &t->err));
    OK(mf_writer_submit(t->writer, &ops[2].write, &t->err));
    assert_int_equal(mf_writer_submit(t->writer, &ops[3].write, &t->err), MF_E_BUSY);
    mf_writer_stats stats;
    mf_writer_get_stats(t->writer, &stats);
    assert_int_equal(stats.queue.depth, 2);
    assert_int_equal(stats.queue.refused, 1);
    gate_open(&g);
    board_wait(&b, 3);
    assert_int_equal(ops[3].done_count, 0);
    gate_done(&g);
    board_done(&b);
}

static void close_finishes_what_was_accepted(void **state) {
    enum { N = 20 };
    world *t = *state;
    board b;
    gate g;
    op ops[N];
    board_init(&b);
    gate_init(&g);
    for (size_t i = 0; i < N; i++) {
        op_init(&ops[i], t, &b, i);
        ops[i].gate = i == 0 ? &g : NULL;
        OK(mf_writer_submit(t->writer, &ops[i].write, &t->err));
    }
    gate_open(&g);
    mf_writer_close(t->writer);
    t->writer = NULL;
    assert_int_equal(b.done, N);
    assert_int_equal(committed_knowledge(t), N);
    gate_done(&g);
    board_done(&b);
}

/* Hands in operations from the writer's own thread, which takes none meanwhile: one may
 * fit into the queue of one, then it is full until close stops it. */
typedef struct latecomer {
    world *t;
    mf_write write;
    op late[2];
    size_t accepted;
    mf_rc last_rc;
} latecomer;

static mf_rc hand_in_until_refused(mf_conn *conn, void *ctx, mf_err *err) {
    (void)conn;
    latecomer *l = ctx;
    do {
        l->last_rc = mf_writer_submit(l->t->writer, &l->late[l->accepted].write, err);
        l->accepted += l->last_rc == MF_OK;
    } while (l->last_rc == MF_OK || l->last_rc == MF_E_BUSY);
    return MF_OK;
}

static void ignore_done(void *ctx, mf_rc rc, const mf_err *err) {
    (void)ctx;
    (void)rc;
    (void)err;
}

static void stopping_writer_refuses_new_operations(void **state) {
    world *t = *state;
    mf_writer_close(t->writer);
    open_writer(t, 1, 1);
    board b;
    board_init(&b);
    latecomer l = {.t = t};
    op_init(&l.late[0], t, &b, 0);
    op_init(&l.late[1], t, &b, 1);
    l.write = (mf_write){hand_in_until_refused, ignore_done, &l};
    OK(mf_writer_submit(t->writer, &l.write, &t->err));
    mf_writer_close(t->writer);
    t->writer = NULL;
    assert_int_equal(l.last_rc, MF_E_STOPPING);
    assert_int_equal(l.late[0].done_count, l.accepted);
    assert_int_equal(b.done, l.accepted);
    board_done(&b);
}

static void a_failed_flush_fails_the_group_and_every_later_write(void **state) {
    world *t = *state;
    mf_faulty_store_arm(t->store, "commit", 0, 1, MF_E_IO);
    uint64_t count = 0;
    assert_int_equal(mf_writer_run(t->writer, count_knowledge, &count, &t->err),
                     MF_E_IO);
    board b;
    op o;
    board_init(&b);
    op_init(&o, t, &b, 0);
    assert_int_equal(mf_writer_submit(t->writer, &o.write, &t->err), MF_E_IO);
    assert_int_equal(o.done_count, 0);
    mf_writer_stats stats;
    mf_writer_get_stats(t->writer, &stats);
    assert_true(stats.failed);
    assert_int_equal(stats.commit_failures, 1);
    assert_int_equal(committed_knowledge(t), 0);
    board_done(&b);
}

static void
writes_waiting_behind_a_failed_flush_are_refused_with_a_report(void **state) {
    enum { N = 30 }; /* two groups of at most 16 */
    world *t = *state;
    board b;
    gate g;
    op ops[N];
    board_init(&b);
    gate_init(&g);
    mf_faulty_store_arm(t->store, "commit", 0, 1, MF_E_IO);
    for (size_t i = 0; i < N; i++) {
        op_init(&ops[i], t, &b, i);
        ops[i].gate = i == 0 ? &g : NULL;
        ops[i].fail_with = i == 1 ? MF_E_INVAL : MF_OK;
        OK(mf_writer_submit(t->writer, &ops[i].write, &t->err));
    }
    gate_open(&g);
    board_wait(&b, N);
    for (size_t i = 0; i < N; i++) {
        assert_true(b.rcs[i] == MF_E_IO || (i == 1 && b.rcs[i] == MF_E_INVAL));
    }
    assert_int_equal(committed_knowledge(t), 0);
    gate_done(&g);
    board_done(&b);
}

static void a_full_disk_fails_the_group_but_not_the_next(void **state) {
    world *t = *state;
    uint64_t count = 0;
    mf_faulty_store_arm(t->store, "commit", 0, 1, MF_E_FULL);
    assert_int_equal(mf_writer_run(t->writer, count_knowledge, &count, &t->err),
                     MF_E_FULL);
    OK(mf_writer_run(t->writer, count_knowledge, &count, &t->err));
    mf_faulty_store_arm(t->store, "begin", 0, 1, MF_E_BUSY);
    assert_int_equal(mf_writer_run(t->writer, count_knowledge, &count, &t->err),
                     MF_E_BUSY);
    mf_faulty_store_arm(t->store, "savepoint", 0, 1, MF_E_NOMEM);
    assert_int_equal(mf_writer_run(t->writer, count_knowledge, &count, &t->err),
                     MF_E_NOMEM);
    mf_faulty_store_arm(t->store, "savepoint_keep", 0, 1, MF_E_NOMEM);
    assert_int_equal(mf_writer_run(t->writer, count_knowledge, &count, &t->err),
                     MF_E_NOMEM);
    OK(mf_writer_run(t->writer, count_knowledge, &count, &t->err));
    mf_writer_stats stats;
    mf_writer_get_stats(t->writer, &stats);
    assert_false(stats.failed);
}

typedef struct client {
    world *t;
    mf_thread thread;
    size_t acked;
    bool in_order;
} client;

typedef struct add {
    world *t;
    int64_t num;
} add;

static mf_rc add_run(mf_conn *conn, void *ctx, mf_err *err) {
    add *a = ctx;
    mf_knowledge_row row = {
        .id = mf_uuid_new(), .user_id = a->t->user, .content = MF_STR("k")};
    MF_TRY(conn->ops->knowledge_insert(conn, &row, 1, err));
    a->num = row.num;
    return MF_OK;
}

static void client_main(void *arg) {
    client *c = arg;
    int64_t newest = 0;
    c->in_order = true;
    for (size_t i = 0; i < 200; i++) {
        add a = {c->t, 0};
        mf_err err;
        if (mf_writer_run(c->t->writer, add_run, &a, &err) == MF_OK) {
            c->acked++;
            c->in_order = c->in_order && a.num > newest;
            newest = a.num;
        }
    }
}

static void many_threads_lose_nothing(void **state) {
    enum { N = 8 };
    world *t = *state;
    client clients[N];
    for (size_t i = 0; i < N; i++) {
        clients[i] = (client){.t = t};
        OK(mf_thread_start(&clients[i].thread, "client", client_main, &clients[i],
                           &t->err));
    }
    size_t acked = 0;
    for (size_t i = 0; i < N; i++) {
        mf_thread_join(&clients[i].thread);
        acked += clients[i].acked;
        assert_true(clients[i].in_order);
    }
    assert_int_equal(acked, N * 200); /* 8 threads never fill a queue of 64 */
    assert_int_equal(committed_knowledge(t), acked);
}

static void open_survives_each_failure(void **state) {
    world *t = *state;
    mf_writer_close(t->writer);
    t->writer = NULL;
    mf_writer_options options = {8, 4};
    MF_EACH_FAULT("alloc", n) {
        size_t live = mf_alloc_live();
        mf_writer *writer = NULL;
        mf_rc rc = mf_writer_open(t->store, &options, &writer, &t->err);
        assert_true(rc == MF_OK ? writer != NULL : writer == NULL && rc == MF_E_NOMEM);
        mf_writer_close(writer);
        assert_int_equal(mf_alloc_live(), live);
    }
    mf_faulty_store_arm(t->store, "conn_open", 0, 1, MF_E_IO);
    mf_writer *writer = NULL;
    assert_int_equal(mf_writer_open(t->store, &options, &writer, &t->err), MF_E_IO);
    assert_null(writer);
    mf_writer_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(operations_run_and_report_in_the_order_handed_in),
        TEST(a_failing_operation_changes_nothing_and_disturbs_nobody),
        TEST(a_full_queue_refuses_and_leaves_the_operation_to_its_owner),
        TEST(close_finishes_what_was_accepted),
        TEST(stopping_writer_refuses_new_operations),
        TEST(a_failed_flush_fails_the_group_and_every_later_write),
        TEST(writes_waiting_behind_a_failed_flush_are_refused_with_a_report),
        TEST(a_full_disk_fails_the_group_but_not_the_next),
        TEST(many_threads_lose_nothing),
        TEST(open_survives_each_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
