/* mutex_test.c - locks exclude, ranks only rise, conditions wake, threads start
 * clean. */
#include "base/mutex.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/test_death.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 5000 };

typedef struct shared_count {
    mf_mutex count_mu;
    long count; /* guarded by count_mu */
} shared_count;

static void count_up(void *arg) {
    shared_count *shared = arg;
    for (int i = 0; i < ROUNDS; i++) {
        mf_mutex_lock(&shared->count_mu);
        shared->count++;
        mf_mutex_unlock(&shared->count_mu);
    }
}

static void start_all(mf_thread *threads, void (*run)(void *), void *arg) {
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (mf_thread){.started = false};
        assert_int_equal(mf_thread_start(&threads[i], "test", run, arg, NULL), MF_OK);
    }
}

static void join_all(mf_thread *threads) {
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
}

static void mutex_lets_one_thread_in_at_a_time(void **state) {
    (void)state;
    shared_count shared = {.count = 0};
    mf_thread threads[THREADS];
    mf_mutex_init(&shared.count_mu, MF_RANK_USER);
    start_all(threads, count_up, &shared);
    join_all(threads);
    assert_int_equal(shared.count, (long)THREADS * ROUNDS);
    mf_mutex_done(&shared.count_mu);
}

typedef struct shared_pair {
    mf_rwlock pair_lock;
    long a, b; /* guarded by pair_lock: always equal */
    atomic_long torn;
} shared_pair;

static void read_and_write_pair(void *arg) {
    shared_pair *pair = arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 8 == 0) {
            mf_rwlock_write(&pair->pair_lock);
            pair->a++;
            pair->b++;
            mf_rwlock_unlock_write(&pair->pair_lock);
        } else {
            mf_rwlock_read(&pair->pair_lock);
            if (pair->a != pair->b) {
                atomic_fetch_add(&pair->torn, 1);
            }
            mf_rwlock_unlock_read(&pair->pair_lock);
        }
    }
}

static void readers_never_see_half_a_write(void **state) {
    (void)state;
    shared_pair pair = {.a = 0};
    mf_thread threads[THREADS];
    mf_rwlock_init(&pair.pair_lock, MF_RANK_CACHE);
    start_all(threads, read_and_write_pair, &pair);
    join_all(threads);
    assert_int_equal(atomic_load(&pair.torn), 0);
    assert_int_equal(pair.a, (long)THREADS * ROUNDS / 8);
    mf_rwlock_done(&pair.pair_lock);
}

typedef struct turns {
    mf_mutex turn_mu;
    mf_cond turned;
    int turn; /* guarded by turn_mu; even: the test's, odd: the thread's */
} turns;

static void take_odd_turns(void *arg) {
    turns *t = arg;
    mf_mutex_lock(&t->turn_mu);
    while (t->turn < 100) {
        if (t->turn % 2 == 1) {
            t->turn++;
            mf_cond_signal(&t->turned);
        } else {
            (void)mf_cond_wait(&t->turned, &t->turn_mu, MF_NEVER);
        }
    }
    mf_mutex_unlock(&t->turn_mu);
}

static void two_threads_take_turns_by_signals(void **state) {
    (void)state;
    turns t = {.turn = 0};
    mf_mutex_init(&t.turn_mu, MF_RANK_LEAF);
    mf_cond_init(&t.turned);
    mf_thread thread = {.started = false};
    assert_int_equal(mf_thread_start(&thread, "turns", take_odd_turns, &t, NULL),
                     MF_OK);
    mf_mutex_lock(&t.turn_mu);
    while (t.turn < 100) {
        if (t.turn % 2 == 0) {
            t.turn++;
            mf_cond_broadcast(&t.turned);
        } else {
            (void)mf_cond_wait(&t.turned, &t.turn_mu, mf_deadline_in_ms(10000));
        }
    }
    mf_cond_broadcast(&t.turned);
    mf_mutex_unlock(&t.turn_mu);
    mf_thread_join(&thread);
    assert_int_equal(t.turn, 100);
    mf_cond_done(&t.turned);
    mf_mutex_done(&t.turn_mu);
}

static int64_t frozen_mono(void *ctx) {
    (void)ctx;
    return 5;
}

static void a_wait_ends_at_its_deadline(void **state) {
    (void)state;
    mf_mutex mu;
    mf_cond cond;
    mf_mutex_init(&mu, MF_RANK_LEAF);
    mf_cond_init(&cond);
    mf_mutex_lock(&mu);
    assert_false(mf_cond_wait(&cond, &mu, mf_now_ns()));
    assert_false(mf_cond_wait(&cond, &mu, INT64_MIN));
    int64_t soon = mf_deadline_in_ms(1);
    while (mf_cond_wait(&cond, &mu, soon)) {
    }
    /* On a clock that stands still the wait is as long as what was left on it. */
    const mf_clock frozen = {frozen_mono, frozen_mono, NULL};
    mf_clock_set(&frozen);
    while (mf_cond_wait(&cond, &mu, 6)) {
    }
    mf_clock_set(NULL);
    mf_mutex_unlock(&mu);
    mf_cond_done(&cond);
    mf_mutex_done(&mu);
}

typedef struct thread_facts {
    char name[32];
    bool all_blocked;
} thread_facts;

static void look_at_thread(void *arg) {
    thread_facts *facts = arg;
    sigset_t blocked;
    (void)pthread_getname_np(pthread_self(), facts->name, sizeof facts->name);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    facts->all_blocked = sigismember(&blocked, SIGINT) == 1 &&
                         sigismember(&blocked, SIGTERM) == 1 &&
                         sigismember(&blocked, SIGUSR2) == 1;
}

static void a_thread_has_its_name_and_no_signals(void **state) {
    (void)state;
    thread_facts facts = {.all_blocked = false};
    mf_thread thread = {.started = false};
    assert_int_equal(mf_thread_start(&thread, "a-name-too-long-by-far", look_at_thread,
                                     &facts, NULL),
                     MF_OK);
    mf_thread_join(&thread);
    assert_false(thread.started);
    assert_string_equal(facts.name, "a-name-too-long");
    assert_true(facts.all_blocked);
    sigset_t own;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &own), 0);
    assert_int_equal(sigismember(&own, SIGTERM), 0); /* the starter's mask is back */
    mf_thread_join(&thread);                         /* joining again does nothing */
}

static void a_thread_that_cannot_start_is_told_and_leaks_nothing(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    const char *points[] = {MF_FAULT_ALLOC, MF_FAULT_THREAD_START};
    for (size_t i = 0; i < 2; i++) {
        MF_EACH_FAULT(points[i], n) {
            thread_facts facts;
            mf_err err;
            mf_thread thread = {.started = false};
            if (mf_thread_start(&thread, "t", look_at_thread, &facts, &err) != MF_OK) {
                assert_true(mf_fault_fired());
                assert_int_equal(err.rc, MF_E_NOMEM);
                assert_false(thread.started);
            }
            mf_thread_join(&thread);
            assert_in_range(n, 0, 1);
            assert_int_equal(mf_alloc_live(), live);
        }
    }
}

#ifdef MF_DEBUG
static mf_mutex low_mu;
static mf_mutex high_mu;
static mf_rwlock high_lock;

static void init_ranked(void) {
    mf_mutex_init(&low_mu, MF_RANK_REGISTRY);
    mf_mutex_init(&high_mu, MF_RANK_STORE);
    mf_rwlock_init(&high_lock, MF_RANK_STORE);
}

MF_TSA(no_thread_safety_analysis)
static void lock_downwards(void) {
    init_ranked();
    mf_mutex_lock(&high_mu);
    mf_mutex_lock(&low_mu);
}

MF_TSA(no_thread_safety_analysis)
static void lock_equal_rank(void) {
    init_ranked();
    mf_mutex_lock(&high_mu);
    mf_rwlock_read(&high_lock);
}

MF_TSA(no_thread_safety_analysis)
static void lock_twice(void) {
    init_ranked();
    mf_mutex_lock(&low_mu);
    mf_mutex_lock(&low_mu);
}

MF_TSA(no_thread_safety_analysis)
static void unlock_not_held(void) {
    init_ranked();
    mf_mutex_unlock(&low_mu);
}

MF_TSA(no_thread_safety_analysis)
static void wait_without_holding(void) {
    init_ranked();
    mf_cond cond;
    mf_cond_init(&cond);
    (void)mf_cond_wait(&cond, &low_mu, MF_NEVER);
}

static void wrong_use_of_locks_aborts(void **state) {
    (void)state;
    assert_true(mf_test_aborts(lock_downwards));
    assert_true(mf_test_aborts(lock_equal_rank));
    assert_true(mf_test_aborts(lock_twice));
    assert_true(mf_test_aborts(unlock_not_held));
    assert_true(mf_test_aborts(wait_without_holding));
}

static void rising_ranks_may_be_given_back_in_any_order(void **state) {
    (void)state;
    init_ranked();
    for (int i = 0; i < 100; i++) {
        mf_mutex_lock(&low_mu);
        mf_rwlock_write(&high_lock);
        mf_mutex_unlock(&low_mu);
        mf_rwlock_unlock_write(&high_lock);
        mf_mutex_lock(&low_mu);
        mf_mutex_lock(&high_mu);
        mf_mutex_unlock(&high_mu);
        mf_mutex_unlock(&low_mu);
    }
    mf_mutex_done(&low_mu);
    mf_mutex_done(&high_mu);
    mf_rwlock_done(&high_lock);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutex_lets_one_thread_in_at_a_time),
        cmocka_unit_test(readers_never_see_half_a_write),
        cmocka_unit_test(two_threads_take_turns_by_signals),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
        cmocka_unit_test(a_thread_has_its_name_and_no_signals),
        cmocka_unit_test(a_thread_that_cannot_start_is_told_and_leaks_nothing),
#ifdef MF_DEBUG
        cmocka_unit_test(wrong_use_of_locks_aborts),
        cmocka_unit_test(rising_ranks_may_be_given_back_in_any_order),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
