/* conn_manager_test.c - a store is opened once however many ask at once, its pools are
 * bounded and apart, and a dead connection is replaced by whoever meets it.
 *
 * The stores are the memory backend inside the faulty wrapper. */
#include <sched.h>
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
#include "store/conn_manager.h"
#include "store/faulty.h"
#include "store/memory/memory_store.h"

enum { CALLERS = 6 };
static const mf_str url_a = {"memory:a", 8};
static const mf_str url_b = {"memory:b", 8};

typedef struct world {
    mf_conn_manager *manager;
    mf_store *store;    /* of url_a, once it is open */
    atomic_int opened;  /* calls of the factory */
    atomic_int failing; /* the next so many fail */
    atomic_int waiters; /* it waits until so many share the opening */
    mf_err err;
    size_t live_before;
} world;

static void ok(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}
#define OK(call) ok((call), &t->err, __LINE__)

static mf_rc open_memory(void *ctx, mf_str url, mf_store **out, mf_err *err) {
    world *t = ctx;
    mf_conn_manager_stats stats = {0};
    atomic_fetch_add(&t->opened, 1);
    while (stats.shared < (uint64_t)atomic_load(&t->waiters)) {
        sched_yield();
        mf_conn_manager_get_stats(t->manager, &stats);
    }
    if (atomic_load(&t->failing) > 0) {
        atomic_fetch_sub(&t->failing, 1);
        return MF_FAIL(err, MF_E_IO, "cannot open %.*s", MF_STR_ARGS(url));
    }
    mf_store *inner = NULL;
    MF_TRY(mf_memory_store_open(&inner, err));
    return mf_faulty_store_open(inner, out, err);
}

static int setup(void **state) {
    static world place;
    world *t = &place;
    *t = (world){.live_before = mf_alloc_live()};
    mf_conn_manager_options options = {
        .store_open = open_memory,
        .ctx = t,
        .connections_max = {[MF_CONN_FOREGROUND] = 2, [MF_CONN_BACKGROUND] = 1},
    };
    OK(mf_conn_manager_open(&options, &t->manager, &t->err));
    *state = t;
    return 0;
}

static int teardown(void **state) {
    world *t = *state;
    mf_conn_manager_close(t->manager);
    mf_conn_manager_close(NULL);
    assert_int_equal(mf_alloc_live(), t->live_before);
    return 0;
}

static mf_conn_pool *pool_of(world *t, mf_str url, mf_conn_use use) {
    mf_conn_pool *pool = NULL;
    OK(mf_conn_manager_pool(t->manager, url, use, MF_NEVER, &pool, &t->err));
    if (mf_str_eq(url, url_a)) {
        OK(mf_conn_manager_store(t->manager, url, MF_NEVER, &t->store, &t->err));
    }
    return pool;
}

static mf_conn_pool_stats stats_of(mf_conn_pool *pool) {
    mf_conn_pool_stats stats;
    mf_conn_pool_get_stats(pool, &stats);
    return stats;
}

/* --- stores --- */

typedef struct caller {
    world *t;
    mf_thread thread;
    mf_conn_pool *pool;
    mf_rc rc;
    mf_err err;
} caller;

static void caller_main(void *arg) {
    caller *c = arg;
    c->rc = mf_conn_manager_pool(c->t->manager, url_a, MF_CONN_FOREGROUND, MF_NEVER,
                                 &c->pool, &c->err);
}

static void all_ask_at_once(world *t, caller callers[CALLERS]) {
    atomic_store(&t->waiters, CALLERS - 1);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.t = t};
        OK(mf_thread_start(&callers[i].thread, "caller", caller_main, &callers[i],
                           &t->err));
    }
    for (int i = 0; i < CALLERS; i++) {
        mf_thread_join(&callers[i].thread);
    }
    atomic_store(&t->waiters, 0);
}

static void first_callers_share_one_opening(void **state) {
    world *t = *state;
    caller callers[CALLERS];
    all_ask_at_once(t, callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, MF_OK);
        assert_ptr_equal(callers[i].pool, callers[0].pool);
    }
    assert_int_equal(atomic_load(&t->opened), 1);
    assert_ptr_equal(pool_of(t, url_a, MF_CONN_FOREGROUND), callers[0].pool);
    mf_conn_manager_stats stats;
    mf_conn_manager_get_stats(t->manager, &stats);
    assert_int_equal(stats.urls, 1);
    assert_int_equal(stats.opened, 1);
    assert_int_equal(stats.shared, CALLERS - 1);
}

static void a_failed_opening_is_told_to_all_and_not_kept(void **state) {
    world *t = *state;
    caller callers[CALLERS];
    atomic_store(&t->failing, 1);
    all_ask_at_once(t, callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, MF_E_IO);
        assert_string_equal(callers[i].err.text, "cannot open memory:a");
        assert_null(callers[i].pool);
    }
    assert_int_equal(atomic_load(&t->opened), 1);
    assert_non_null(pool_of(t, url_a, MF_CONN_BACKGROUND));
    assert_int_equal(atomic_load(&t->opened), 2);
}

/* The one that opens is held until somebody shares, so this one is surely second. */
static void waiting_for_an_opening_ends_at_the_deadline(void **state) {
    world *t = *state;
    caller first = {.t = t};
    atomic_store(&t->waiters, 1);
    OK(mf_thread_start(&first.thread, "caller", caller_main, &first, &t->err));
    while (atomic_load(&t->opened) == 0) {
        sched_yield();
    }
    mf_conn_pool *pool = NULL;
    mf_rc rc =
        mf_conn_manager_pool(t->manager, url_a, MF_CONN_FOREGROUND, 0, &pool, &t->err);
    mf_thread_join(&first.thread);
    assert_int_equal(first.rc, MF_OK);
    /* It may have become ready between the start of the wait and its end. */
    assert_true(rc == MF_E_TIMEOUT || rc == MF_OK);
    assert_int_equal(rc == MF_OK, pool != NULL);
}

static void urls_are_apart_and_so_are_uses(void **state) {
    world *t = *state;
    mf_conn_pool *front = pool_of(t, url_a, MF_CONN_FOREGROUND);
    mf_conn_pool *back = pool_of(t, url_a, MF_CONN_BACKGROUND);
    mf_conn_pool *other = pool_of(t, url_b, MF_CONN_FOREGROUND);
    mf_conn *conns[3] = {0};
    assert_true(front != back && front != other);
    OK(mf_conn_acquire(back, MF_NEVER, &conns[0], &t->err));
    assert_int_equal(mf_conn_acquire(back, 0, &conns[1], &t->err), MF_E_TIMEOUT);
    /* The background is all busy; requests do not notice. */
    OK(mf_conn_acquire(front, 0, &conns[1], &t->err));
    OK(mf_conn_acquire(front, 0, &conns[2], &t->err));
    assert_int_equal(stats_of(front).waited, 0);
    assert_int_equal(stats_of(back).timeouts, 1);
    mf_store *store = NULL;
    OK(mf_conn_manager_store(t->manager, url_b, MF_NEVER, &store, &t->err));
    assert_ptr_not_equal(store, t->store);
    mf_conn_release(back, conns[0], MF_OK);
    mf_conn_release(front, conns[1], MF_OK);
    mf_conn_release(front, conns[2], MF_OK);
    assert_string_equal(mf_conn_use_name(MF_CONN_FOREGROUND), "foreground");
    assert_string_equal(mf_conn_use_name(MF_CONN_BACKGROUND), "background");
}

static void asking_survives_each_failed_allocation(void **state) {
    world *t = *state;
    MF_EACH_FAULT("alloc", n) {
        mf_conn_pool *pool = NULL;
        mf_err err;
        mf_rc rc = mf_conn_manager_pool(t->manager, url_a, MF_CONN_FOREGROUND, MF_NEVER,
                                        &pool, &err);
        if (rc != MF_OK) {
            assert_int_equal(rc, MF_E_NOMEM);
            assert_null(pool);
        }
    }
    assert_non_null(pool_of(t, url_a, MF_CONN_FOREGROUND));
}

/* --- pools --- */

static void pool_keeps_connections_and_times_out_when_all_are_busy(void **state) {
    world *t = *state;
    mf_conn_pool *pool = pool_of(t, url_a, MF_CONN_FOREGROUND);
    mf_conn *a = NULL;
    mf_conn *b = NULL;
    mf_conn *c = NULL;
    OK(mf_conn_acquire(pool, MF_NEVER, &a, &t->err));
    OK(mf_conn_acquire(pool, MF_NEVER, &b, &t->err));
    assert_int_equal(mf_conn_acquire(pool, mf_now_ns(), &c, &t->err), MF_E_TIMEOUT);
    assert_null(c);
    mf_conn_release(pool, a, MF_OK);
    OK(mf_conn_acquire(pool, MF_NEVER, &c, &t->err));
    assert_ptr_equal(c, a);
    mf_conn_pool_stats stats = stats_of(pool);
    assert_int_equal(stats.open, 2);
    assert_int_equal(stats.busy, 2);
    assert_int_equal(stats.connections_max, 2);
    assert_int_equal(stats.acquired, 3);
    assert_int_equal(stats.waited, 1);
    assert_int_equal(stats.wait_ns.count, 1);
    assert_int_equal(stats.timeouts, 1);
    assert_int_equal(stats.created, 2);
    assert_int_equal(stats.replaced, 0);
    mf_conn_release(pool, b, MF_E_TIMEOUT); /* not the connection's fault */
    mf_conn_release(pool, c, MF_OK);
    mf_conn_release(pool, NULL, MF_OK);
    assert_int_equal(stats_of(pool).open, 2);
}

static void a_connection_that_cannot_open_gives_its_place_back(void **state) {
    world *t = *state;
    mf_conn_pool *pool = pool_of(t, url_a, MF_CONN_BACKGROUND);
    mf_conn *conn = NULL;
    mf_faulty_store_arm(t->store, "conn_open", 0, 2, MF_E_IO);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mf_conn_acquire(pool, mf_now_ns(), &conn, &t->err), MF_E_IO);
        assert_null(conn);
    }
    OK(mf_conn_acquire(pool, mf_now_ns(), &conn, &t->err));
    mf_conn_release(pool, conn, MF_OK);
    assert_int_equal(stats_of(pool).acquired, 1);
}

static mf_rc count_calls(mf_conn *conn, void *ctx, mf_err *err) {
    mf_store_counts counts;
    ++*(int *)ctx;
    return conn->ops->counts(conn, &counts, err);
}

static void a_dead_connection_is_replaced_by_who_meets_it(void **state) {
    world *t = *state;
    mf_conn_pool *pool = pool_of(t, url_a, MF_CONN_FOREGROUND);
    int calls = 0;
    OK(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err));
    /* Dead before anything was read: nobody notices. */
    mf_faulty_store_arm(t->store, "read_begin", 0, 1, MF_E_IO);
    OK(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err));
    assert_int_equal(calls, 2);
    assert_int_equal(stats_of(pool).created, 2);
    assert_int_equal(stats_of(pool).replaced, 1);
    /* Dead on the way: the reader is told, the next has a new one. */
    mf_faulty_store_arm(t->store, "counts", 0, 1, MF_E_IO);
    assert_int_equal(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err),
                     MF_E_IO);
    assert_int_equal(calls, 3);
    assert_int_equal(stats_of(pool).open, 0);
    OK(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err));
    assert_int_equal(stats_of(pool).created, 3);
    assert_int_equal(stats_of(pool).replaced, 2);
    /* Twice in a row is more than bad luck. */
    mf_faulty_store_arm(t->store, "read_begin", 0, 2, MF_E_IO);
    assert_int_equal(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err),
                     MF_E_IO);
    assert_int_equal(calls, 4);
    /* Other failures leave the connection as it is. */
    OK(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err));
    mf_faulty_store_arm(t->store, "counts", 0, 1, MF_E_NOMEM);
    assert_int_equal(mf_conn_read(pool, MF_NEVER, count_calls, &calls, &t->err),
                     MF_E_NOMEM);
    assert_int_equal(stats_of(pool).open, 1);
}

typedef struct borrower {
    mf_conn_pool *pool;
    mf_thread thread;
    int reads, failures;
} borrower;

static void borrower_main(void *arg) {
    borrower *b = arg;
    for (int i = 0; i < 300; i++) {
        mf_err err;
        b->failures +=
            mf_conn_read(b->pool, MF_NEVER, count_calls, &b->reads, &err) != MF_OK;
    }
}

static void many_threads_share_few_connections_some_of_which_die(void **state) {
    world *t = *state;
    mf_conn_pool *pool = pool_of(t, url_a, MF_CONN_FOREGROUND);
    borrower borrowers[CALLERS];
    int failures = 0;
    mf_faulty_store_arm(t->store, "counts", 50, 20, MF_E_IO);
    for (int i = 0; i < CALLERS; i++) {
        borrowers[i] = (borrower){.pool = pool};
        OK(mf_thread_start(&borrowers[i].thread, "borrower", borrower_main,
                           &borrowers[i], &t->err));
    }
    for (int i = 0; i < CALLERS; i++) {
        mf_thread_join(&borrowers[i].thread);
        assert_int_equal(borrowers[i].reads, 300);
        failures += borrowers[i].failures;
    }
    mf_conn_pool_stats stats = stats_of(pool);
    assert_int_equal(failures, 20);
    assert_int_equal(stats.busy, 0);
    assert_true(stats.open <= 2);
    assert_int_equal(stats.acquired, 300 * CALLERS);
    assert_true(stats.replaced <= 20 && stats.created <= 2 + stats.replaced);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(first_callers_share_one_opening),
        TEST(a_failed_opening_is_told_to_all_and_not_kept),
        TEST(waiting_for_an_opening_ends_at_the_deadline),
        TEST(urls_are_apart_and_so_are_uses),
        TEST(asking_survives_each_failed_allocation),
        TEST(pool_keeps_connections_and_times_out_when_all_are_busy),
        TEST(a_connection_that_cannot_open_gives_its_place_back),
        TEST(a_dead_connection_is_replaced_by_who_meets_it),
        TEST(many_threads_share_few_connections_some_of_which_die),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
