/* jobs_test.c - what is enqueued runs, in order, at least once, and nothing else does.
 *
 * The store is the memory backend inside the faulty wrapper.  Where time matters it is
 * the test's: a turn of its hand and a wake stand for the wait. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mutex.h"
#include "service/jobs.h"
#include "store/faulty.h"
#include "store/memory/memory_store.h"

enum { USERS_MAX = 16, RUNS_MAX = 8192, LEASE_MS = 60000 };

typedef struct world {
    mf_store *store;
    mf_writer *writer;
    mf_conn_pool *readers;
    mf_jobs *jobs;
    mf_arena *arena;
    mf_err err;
    size_t live_before;
    mf_uuid users[USERS_MAX];

    mf_mutex world_mu;
    mf_cond changed;
    /* guarded by world_mu */
    int fail_next;          /* the next so many runs fail */
    bool hold;              /* runs wait until this is false, or they are called off */
    int runs, inside, peak; /* begun; under way now, and at most */
    int of_user[RUNS_MAX];  /* for each run: the user's number */
    int number[RUNS_MAX];   /* and the job's, as its payload says */
} world;

#define OK(call) ok_at((call), &t->err, __LINE__)
static void ok_at(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}

/* --- the test's time --- */

static atomic_llong hand_ns;

static int64_t hand_mono(void *ctx) {
    (void)ctx;
    return atomic_load(&hand_ns);
}

/* The time of day leaps about; it must not matter. */
static int64_t hand_wall(void *ctx) {
    (void)ctx;
    static atomic_int calls;
    int64_t now_us = INT64_C(1700000000000000) + atomic_load(&hand_ns) / MF_NS_PER_US;
    return atomic_fetch_add(&calls, 1) % 2 == 0
               ? now_us
               : now_us - INT64_C(400) * 24 * 3600 * 1000000;
}

static const mf_clock hand_clock = {hand_mono, hand_wall, NULL};

static void take_the_clock(void) {
    atomic_store(&hand_ns, INT64_C(1000) * MF_NS_PER_S);
    mf_clock_set(&hand_clock);
}

static void pass(world *t, int64_t ms) {
    atomic_fetch_add(&hand_ns, ms * MF_NS_PER_MS);
    mf_jobs_wake(t->jobs);
}

/* --- the handler --- */

static int number_of(mf_str payload) {
    int64_t number = -1;
    (void)mf_str_to_i64(payload, &number); /* -1: not one of put's */
    return (int)number;
}

static mf_rc note_run(void *ctx, const mf_job_run *run, mf_err *err) {
    world *t = ctx;
    mf_rc rc = MF_OK;
    mf_mutex_lock(&t->world_mu);
    assert_true(t->runs < RUNS_MAX);
    t->number[t->runs] = number_of(run->job->payload);
    t->of_user[t->runs] = -1;
    for (int i = 0; i < USERS_MAX; i++) {
        if (mf_uuid_eq(t->users[i], run->job->user_id)) {
            t->of_user[t->runs] = i;
        }
    }
    t->runs++;
    t->inside++;
    t->peak = t->inside > t->peak ? t->inside : t->peak;
    mf_cond_broadcast(&t->changed);
    while (t->hold && !atomic_load(run->stop)) {
        mf_mutex_unlock(&t->world_mu); /* a handler looks at its stop flag */
        sched_yield();
        mf_mutex_lock(&t->world_mu);
    }
    bool called_off = t->hold;
    bool fails = !called_off && t->fail_next > 0;
    t->fail_next -= fails;
    t->inside--;
    mf_mutex_unlock(&t->world_mu);
    if (called_off) {
        rc = MF_FAIL(err, MF_E_STOPPING, "called off");
    } else if (fails) {
        rc = MF_FAIL(err, MF_E_TIMEOUT, "no luck with %s", "it");
    }
    return rc;
}

/* --- the world --- */

static mf_rc insert_users(mf_conn *conn, void *ctx, mf_err *err) {
    world *t = ctx;
    for (int i = 0; i < USERS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "u%d", i);
        t->users[i] = mf_uuid_new();
        mf_named_row row = {.id = t->users[i], .name = mf_str_from(name)};
        MF_TRY(conn->ops->user_insert(conn, &row, err));
    }
    return MF_OK;
}

static void open_jobs(world *t, size_t workers_max) {
    mf_jobs_options options = {.store = t->store,
                               .writer = t->writer,
                               .readers = t->readers,
                               .workers_max = workers_max,
                               .lease_ms = LEASE_MS};
    mf_job_kind kind = {.name = "note", .run = note_run, .ctx = t, .priority = 2};
    OK(mf_jobs_open(&options, &t->jobs, &t->err));
    OK(mf_jobs_register(t->jobs, &kind, &t->err));
}

static void start_jobs(world *t, size_t workers_max) {
    open_jobs(t, workers_max);
    OK(mf_jobs_start(t->jobs, &t->err));
}

static int setup(void **state) {
    static world place;
    world *t = &place;
    mf_store *inner = NULL;
    const mf_writer_options writer = {.queue_max = 256, .group_max = 64};
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    *t = (world){.live_before = mf_alloc_live()};
    mf_mutex_init(&t->world_mu, MF_RANK_LEAF);
    mf_cond_init(&t->changed);
    OK(mf_memory_store_open(&inner, &t->err));
    OK(mf_faulty_store_open(inner, &t->store, &t->err));
    OK(mf_writer_open(t->store, &writer, &t->writer, &t->err));
    OK(mf_conn_pool_open(t->store, 4, &t->readers, &t->err));
    OK(mf_arena_new(64 << 20, &t->arena, &t->err));
    OK(mf_writer_run(t->writer, insert_users, t, &t->err));
    *state = t;
    return 0;
}

static int teardown(void **state) {
    world *t = *state;
    mf_jobs_close(t->jobs);
    mf_clock_set(NULL);
    mf_conn_pool_close(t->readers);
    mf_writer_close(t->writer);
    t->store->ops->close(t->store);
    mf_arena_free(t->arena);
    mf_cond_done(&t->changed);
    mf_mutex_done(&t->world_mu);
    assert_int_equal(mf_alloc_live(), t->live_before);
    return 0;
}

/* --- short ways --- */

typedef struct put_op {
    world *t;
    int user, number, priority;
    const char *key;
    mf_rc fail_with;
    bool added;
} put_op;

static mf_rc put_run(mf_conn *conn, void *ctx, mf_err *err) {
    put_op *op = ctx;
    char payload[16];
    (void)snprintf(payload, sizeof payload, "%d", op->number);
    mf_new_job job = {.user_id = op->t->users[op->user],
                      .kind = "note",
                      .key = op->key != NULL ? mf_str_from(op->key) : MF_STR_NONE,
                      .payload = mf_str_from(payload),
                      .priority = op->priority};
    MF_TRY(mf_jobs_enqueue(op->t->jobs, conn, &job, &op->added, err));
    return op->fail_with == MF_OK ? MF_OK : MF_FAIL(err, op->fail_with, "as told");
}

static void put(world *t, int user, int number) {
    put_op op = {.t = t, .user = user, .number = number, .priority = -1};
    OK(mf_writer_run(t->writer, put_run, &op, &t->err));
    mf_jobs_wake(t->jobs);
}

static void wait_for_user(world *t, int user) {
    OK(mf_jobs_wait_user(t->jobs, t->users[user], MF_NEVER, &t->err));
}

/* For those who wait by the test's clock, and may begin to at any moment. */
static void wait_for_user_as_time_passes(world *t, int user) {
    while (mf_jobs_wait_user(t->jobs, t->users[user], 0, &t->err) == MF_E_TIMEOUT) {
        pass(t, 1000);
        sched_yield();
    }
    wait_for_user(t, user);
}

static void wait_for_runs(world *t, int runs) {
    mf_mutex_lock(&t->world_mu);
    while (t->runs < runs) {
        mf_cond_wait(&t->changed, &t->world_mu, MF_NEVER);
    }
    mf_mutex_unlock(&t->world_mu);
}

static void set_hold(world *t, bool hold) {
    mf_mutex_lock(&t->world_mu);
    t->hold = hold;
    mf_mutex_unlock(&t->world_mu);
}

static void set_failures(world *t, int count) {
    mf_mutex_lock(&t->world_mu);
    t->fail_next = count;
    mf_mutex_unlock(&t->world_mu);
}

static mf_jobs_stats stats_of(world *t) {
    mf_jobs_stats stats;
    OK(mf_jobs_get_stats(t->jobs, &stats, &t->err));
    return stats;
}

typedef struct list_read {
    world *t;
    mf_job_row *rows;
    size_t count;
} list_read;

static mf_rc read_list(mf_conn *conn, void *ctx, mf_err *err) {
    list_read *l = ctx;
    mf_job_filter all = {.num_to = INT64_MAX, .limit = 10000};
    return conn->ops->job_list(conn, &all, l->t->arena, &l->rows, &l->count, err);
}

static list_read list_jobs(world *t) {
    list_read l = {.t = t};
    OK(mf_conn_read(t->readers, MF_NEVER, read_list, &l, &t->err));
    return l;
}

/* Waits until a figure that workers change is there; they need no help for it. */
#define UNTIL(condition)                                                               \
    while (!(condition)) {                                                             \
        sched_yield();                                                                 \
    }

/* --- running --- */

static void a_job_runs_once_and_is_gone(void **state) {
    world *t = *state;
    start_jobs(t, 2);
    assert_int_equal(stats_of(t).workers, 0); /* nothing to do, nobody there */
    put(t, 3, 42);
    wait_for_user(t, 3);
    assert_int_equal(t->runs, 1);
    assert_int_equal(t->number[0], 42);
    assert_int_equal(t->of_user[0], 3);
    assert_int_equal(list_jobs(t).count, 0);
    mf_jobs_stats stats = stats_of(t);
    assert_int_equal(stats.queued, 1);
    assert_int_equal(stats.done, 1);
    assert_int_equal(stats.failed + stats.retried + stats.died + stats.put_back, 0);
    assert_int_equal(stats.run_ns.count, 1);
    assert_int_equal(stats.open + stats.running + stats.dead, 0);
    assert_true(stats.workers >= 1);
}

static void each_user_keeps_its_order_under_many_workers(void **state) {
    enum { WORKERS = 5, EACH = 60 };
    world *t = *state;
    start_jobs(t, WORKERS);
    for (int i = 0; i < EACH; i++) {
        for (int user = 0; user < USERS_MAX; user++) {
            put(t, user, i);
        }
    }
    for (int user = 0; user < USERS_MAX; user++) {
        wait_for_user(t, user);
    }
    int next[USERS_MAX] = {0};
    assert_int_equal(t->runs, EACH * USERS_MAX);
    for (int i = 0; i < t->runs; i++) {
        assert_int_equal(t->number[i], next[t->of_user[i]]);
        next[t->of_user[i]]++;
    }
    assert_true(t->peak <= WORKERS);
    assert_int_equal(stats_of(t).done, EACH * USERS_MAX);
    assert_true(stats_of(t).workers <= WORKERS);
}

static void workers_are_as_many_as_there_is_work_for(void **state) {
    world *t = *state;
    start_jobs(t, 4);
    set_hold(t, true);
    for (int user = 0; user < 8; user++) {
        put(t, user, user);
    }
    wait_for_runs(t, 4); /* all at once */
    mf_jobs_stats stats = stats_of(t);
    assert_int_equal(stats.workers, 4);
    assert_int_equal(stats.running, 4);
    assert_int_equal(stats.open, 4);
    set_hold(t, false);
    for (int user = 0; user < 8; user++) {
        wait_for_user(t, user);
    }
    assert_int_equal(t->peak, 4);
}

static void a_failed_operation_leaves_no_job(void **state) {
    world *t = *state;
    start_jobs(t, 2);
    put_op op = {.t = t, .priority = -1, .fail_with = MF_E_INVAL};
    assert_int_equal(mf_writer_run(t->writer, put_run, &op, &t->err), MF_E_INVAL);
    mf_faulty_store_arm(t->store, "commit", 0, 1, MF_E_FULL);
    op.fail_with = MF_OK;
    assert_int_equal(mf_writer_run(t->writer, put_run, &op, &t->err), MF_E_FULL);
    mf_jobs_wake(t->jobs);
    put(t, 1, 7);
    wait_for_user(t, 1);
    assert_int_equal(t->runs, 1);
    assert_int_equal(list_jobs(t).count, 0);
}

static void a_key_admits_one_open_job(void **state) {
    world *t = *state;
    start_jobs(t, 1);
    set_hold(t, true);
    const bool added[] = {true, true, false}; /* the first runs already */
    for (int i = 0; i < 3; i++) {
        put_op op = {.t = t, .number = i, .priority = -1, .key = "k"};
        OK(mf_writer_run(t->writer, put_run, &op, &t->err));
        assert_int_equal(op.added, added[i]);
        mf_jobs_wake(t->jobs);
        wait_for_runs(t, 1);
    }
    set_hold(t, false);
    wait_for_user(t, 0);
    assert_int_equal(t->runs, 2);
    assert_int_equal(stats_of(t).queued, 2);
}

static void higher_priority_goes_first(void **state) {
    world *t = *state;
    open_jobs(t, 1);
    const int priorities[] = {1, 3, 0, 4};
    for (int i = 0; i < 4; i++) {
        put_op op = {.t = t, .user = i, .number = i, .priority = priorities[i]};
        OK(mf_writer_run(t->writer, put_run, &op, &t->err));
    }
    OK(mf_jobs_start(t->jobs, &t->err));
    wait_for_runs(t, 4);
    const int expected[] = {3, 1, 0, 2};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(t->number[i], expected[i]);
    }
}

static void a_very_long_queue_of_one_user_lets_others_pass(void **state) {
    enum { LONG = 3000 };
    world *t = *state;
    open_jobs(t, 2);
    for (int i = 0; i < LONG; i++) {
        put_op op = {.t = t, .number = i, .priority = -1};
        OK(mf_writer_run(t->writer, put_run, &op, &t->err));
    }
    put_op other = {.t = t, .user = 1, .number = LONG, .priority = -1};
    OK(mf_writer_run(t->writer, put_run, &other, &t->err));
    OK(mf_jobs_start(t->jobs, &t->err));
    wait_for_user(t, 1);
    wait_for_user(t, 0);
    assert_int_equal(t->runs, LONG + 1);
    int next = 0;
    int place_of_other = LONG;
    for (int i = 0; i < t->runs; i++) {
        if (t->of_user[i] == 1) {
            place_of_other = i;
        } else {
            assert_int_equal(t->number[i], next++);
        }
    }
    assert_true(place_of_other < LONG / 2);
}

/* --- failing --- */

static void a_failing_job_is_tried_four_times_and_then_dead(void **state) {
    world *t = *state;
    take_the_clock();
    for (int failures = 1; failures <= 4; failures++) {
        bool dies = failures == 4;
        mf_jobs_close(t->jobs);
        start_jobs(t, 1);
        set_failures(t, failures);
        int before = t->runs;
        put(t, 0, failures);
        for (int run = 1; run <= failures; run++) {
            wait_for_runs(t, before + run);
            UNTIL(stats_of(t).failed == (uint64_t)run && stats_of(t).running == 0);
            if (run < failures) {
                mf_job_row row = list_jobs(t).rows[0];
                assert_int_equal(row.state, MF_JOB_OPEN);
                assert_int_equal(row.failures, run);
                mf_jobs_wake(t->jobs); /* its time has not come */
                assert_int_equal(stats_of(t).open, 1);
                assert_int_equal(t->runs, before + run);
            }
            pass(t, 60000);
        }
        if (dies) {
            mf_job_row row = list_jobs(t).rows[0];
            assert_int_equal(row.state, MF_JOB_DEAD);
            assert_int_equal(row.failures, 4);
            assert_true(mf_str_eq(row.error, MF_STR("no luck with it")));
        } else {
            wait_for_user(t, 0);
            assert_int_equal(list_jobs(t).count, 0);
        }
        assert_int_equal(t->runs, before + failures + !dies);
        assert_int_equal(stats_of(t).retried, dies ? 3 : failures);
        assert_int_equal(stats_of(t).died, dies);
    }
}

static void a_dead_job_is_retried_or_dropped_by_hand(void **state) {
    world *t = *state;
    take_the_clock();
    open_jobs(t, 1);
    mf_job_kind once = {.name = "once", .run = note_run, .ctx = t, .tries_max = 1};
    OK(mf_jobs_register(t->jobs, &once, &t->err));
    OK(mf_jobs_start(t->jobs, &t->err));
    set_failures(t, 8);
    put(t, 0, 1);
    put(t, 0, 2); /* behind the first */
    for (int run = 1; run <= 8; run++) {
        wait_for_runs(t, run);
        UNTIL(stats_of(t).failed >= (uint64_t)run && stats_of(t).running == 0);
        pass(t, 60000);
    }
    list_read dead = list_jobs(t);
    assert_int_equal(dead.count, 2);
    assert_int_equal(stats_of(t).dead, 2);
    wait_for_user(t, 0); /* the dead keep nobody waiting */
    OK(mf_jobs_retry(t->jobs, dead.rows[1].id, &t->err));
    wait_for_user(t, 0);
    assert_int_equal(t->number[8], 2);
    OK(mf_jobs_drop(t->jobs, dead.rows[0].id, &t->err));
    assert_int_equal(list_jobs(t).count, 0);
    assert_int_equal(mf_jobs_retry(t->jobs, dead.rows[0].id, &t->err), MF_E_NOTFOUND);
    assert_int_equal(mf_jobs_drop(t->jobs, mf_uuid_new(), &t->err), MF_E_NOTFOUND);
}

static void a_running_job_is_neither_retried_nor_dropped(void **state) {
    world *t = *state;
    start_jobs(t, 1);
    set_hold(t, true);
    put(t, 0, 1);
    wait_for_runs(t, 1);
    mf_uuid id = list_jobs(t).rows[0].id;
    assert_int_equal(mf_jobs_retry(t->jobs, id, &t->err), MF_E_BUSY);
    assert_int_equal(mf_jobs_drop(t->jobs, id, &t->err), MF_E_BUSY);
    set_hold(t, false);
    wait_for_user(t, 0);
    assert_int_equal(t->runs, 1);
}

static void a_store_that_fails_for_a_minute_loses_nothing(void **state) {
    static const char *const ops[] = {"*", "job_claim", "job_done", "commit", "begin"};
    world *t = *state;
    take_the_clock();
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        mf_jobs_close(t->jobs);
        start_jobs(t, 2);
        int before = t->runs;
        set_hold(t, true);
        put(t, 0, 0);
        wait_for_runs(t, before + 1);
        for (int number = 1; number < 5; number++) {
            put(t, 0, number);
        }
        uint64_t fired = mf_faulty_store_fired(t->store);
        mf_faulty_store_arm(t->store, ops[i], 0, UINT64_MAX, MF_E_FULL);
        set_hold(t, false);
        for (int second = 0; second < 60 || mf_faulty_store_fired(t->store) < fired + 5;
             second++) {
            pass(t, 1000);
            sched_yield();
        }
        mf_faulty_store_disarm(t->store);
        wait_for_user_as_time_passes(t, 0);
        assert_int_equal(t->runs, before + 5);
        for (int number = 0; number < 5; number++) {
            assert_int_equal(t->number[before + number], number);
        }
        assert_int_equal(list_jobs(t).count, 0);
    }
}

/* --- dying and stopping --- */

typedef struct claim_op {
    mf_arena *arena;
    size_t count;
} claim_op;

/* As a process does that dies then. */
static mf_rc claim_run(mf_conn *conn, void *ctx, mf_err *err) {
    claim_op *op = ctx;
    mf_str kind = MF_STR("note");
    mf_job_claim claim = {.kinds = &kind,
                          .kind_count = 1,
                          .now_us = mf_wall_us() + 1000000,
                          .lease_us = INT64_MAX,
                          .count_max = 10};
    mf_job_row *rows;
    int64_t next;
    return conn->ops->job_claim(conn, &claim, op->arena, &rows, &op->count, &next, err);
}

static void what_a_dead_process_was_running_runs_again_at_once(void **state) {
    world *t = *state;
    open_jobs(t, 2);
    for (int user = 0; user < 3; user++) {
        put_op op = {.t = t, .user = user, .number = user, .priority = -1};
        OK(mf_writer_run(t->writer, put_run, &op, &t->err));
    }
    claim_op claim = {.arena = t->arena};
    OK(mf_writer_run(t->writer, claim_run, &claim, &t->err));
    assert_int_equal(claim.count, 3);
    OK(mf_jobs_start(t->jobs, &t->err));
    for (int user = 0; user < 3; user++) {
        wait_for_user(t, user);
    }
    assert_int_equal(t->runs, 3);
    assert_int_equal(stats_of(t).recovered, 3);
}

static void a_stop_calls_off_what_runs_and_puts_it_back(void **state) {
    world *t = *state;
    start_jobs(t, 2);
    set_hold(t, true);
    put(t, 0, 1);
    put(t, 1, 2);
    put(t, 1, 3);
    wait_for_runs(t, 2);
    mf_jobs_stop(t->jobs);
    list_read left = list_jobs(t);
    assert_int_equal(left.count, 3);
    for (size_t i = 0; i < left.count; i++) {
        assert_int_equal(left.rows[i].state, MF_JOB_OPEN);
        assert_int_equal(left.rows[i].failures + left.rows[i].lost, 0);
    }
    assert_int_equal(stats_of(t).put_back, 2);
    put(t, 2, 4); /* enqueuing is still fine; nobody works */
    assert_int_equal(mf_jobs_wait_user(t->jobs, t->users[2], MF_NEVER, &t->err),
                     MF_E_STOPPING);
    mf_jobs_close(t->jobs);
    set_hold(t, false);
    start_jobs(t, 2);
    for (int user = 0; user < 3; user++) {
        wait_for_user(t, user);
    }
    assert_int_equal(t->runs, 6);
    assert_int_equal(stats_of(t).recovered, 0);
}

static void an_end_that_cannot_be_noted_before_the_stop_runs_again(void **state) {
    world *t = *state;
    start_jobs(t, 1);
    set_hold(t, true);
    put(t, 0, 1);
    wait_for_runs(t, 1);
    mf_faulty_store_arm(t->store, "job_done", 0, UINT64_MAX, MF_E_FULL);
    set_hold(t, false);
    UNTIL(mf_faulty_store_fired(t->store) > 0);
    mf_jobs_close(t->jobs);
    t->jobs = NULL;
    assert_int_equal(list_jobs(t).rows[0].state, MF_JOB_RUNNING);
    mf_faulty_store_disarm(t->store);
    start_jobs(t, 1);
    wait_for_user(t, 0);
    assert_int_equal(t->runs, 2);
    assert_int_equal(stats_of(t).recovered, 1);
}

static void a_long_run_keeps_its_lease(void **state) {
    world *t = *state;
    take_the_clock();
    start_jobs(t, 2);
    set_hold(t, true);
    put(t, 0, 1);
    wait_for_runs(t, 1);
    for (int i = 1; i <= 20; i++) { /* five leases long */
        pass(t, LEASE_MS / 4);
        put(t, i % 2 + 1, i);
        UNTIL(stats_of(t).workers == 2);
        set_hold(t, i % 3 != 0); /* now and then somebody comes to an end */
        UNTIL(stats_of(t).store_failing == false);
    }
    set_hold(t, false);
    for (int user = 0; user < 3; user++) {
        wait_for_user(t, user);
    }
    assert_int_equal(t->runs, 21); /* nothing ran twice */
}

/* --- waiting, coming again, following adds --- */

static void waiting_is_for_what_the_user_had_and_ends_at_the_deadline(void **state) {
    world *t = *state;
    start_jobs(t, 1);
    wait_for_user(t, 0); /* nothing to wait for */
    set_hold(t, true);
    put(t, 0, 1);
    put(t, 1, 2);
    wait_for_runs(t, 1);
    wait_for_user(t, 2);
    assert_int_equal(mf_jobs_wait_user(t->jobs, t->users[0], 0, &t->err), MF_E_TIMEOUT);
    assert_int_equal(mf_jobs_wait_user(t->jobs, t->users[1], 0, &t->err), MF_E_TIMEOUT);
    set_hold(t, false);
    wait_for_user(t, 1);
    assert_int_equal(t->runs, 2);
}

static void a_periodic_job_comes_again_and_is_one(void **state) {
    enum { EVERY_MS = 3600000 };
    world *t = *state;
    take_the_clock();
    for (int start = 0; start < 2; start++) {
        open_jobs(t, 2);
        mf_job_kind hourly = {
            .name = "hourly", .run = note_run, .ctx = t, .every_ms = EVERY_MS};
        OK(mf_jobs_register(t->jobs, &hourly, &t->err));
        OK(mf_jobs_start(t->jobs, &t->err));
        int before = t->runs;
        assert_int_equal(list_jobs(t).count, 1);
        for (int i = 1; i <= 3; i++) {
            pass(t, EVERY_MS);
            wait_for_runs(t, before + i);
            UNTIL(stats_of(t).done == (uint64_t)i);
            UNTIL(list_jobs(t).rows[0].state == MF_JOB_OPEN);
            assert_int_equal(list_jobs(t).count, 1);
            assert_true(mf_uuid_is_none(list_jobs(t).rows[0].user_id));
        }
        pass(t, EVERY_MS / 2);
        mf_jobs_close(t->jobs);
        t->jobs = NULL;
        assert_int_equal(t->runs, before + 3);
    }
}

typedef struct add_op {
    world *t;
    mf_message_row rows[2];
    bool queued;
} add_op;

static mf_rc add_run(mf_conn *conn, void *ctx, mf_err *err) {
    add_op *op = ctx;
    return mf_jobs_enqueue_add(op->t->jobs, conn, op->rows, 2, &op->queued, err);
}

static add_op add_of(world *t, int user) {
    add_op op = {.t = t};
    for (int i = 0; i < 2; i++) {
        op.rows[i] = (mf_message_row){
            .num = 70 + i, .user_id = t->users[user], .session_id = t->users[6]};
    }
    return op;
}

static void kinds_that_follow_adds_get_a_job_for_each(void **state) {
    world *t = *state;
    open_jobs(t, 1);
    add_op op = add_of(t, 5);
    OK(mf_writer_run(t->writer, add_run, &op, &t->err));
    assert_false(op.queued); /* nobody follows */
    assert_int_equal(list_jobs(t).count, 0);
    mf_job_kind layer = {
        .name = "layer", .run = note_run, .ctx = t, .follows_adds = true};
    OK(mf_jobs_register(t->jobs, &layer, &t->err));
    assert_true(mf_jobs_has(t->jobs, "layer"));
    assert_false(mf_jobs_has(t->jobs, "lay"));
    OK(mf_writer_run(t->writer, add_run, &op, &t->err));
    assert_true(op.queued);
    mf_job_row row = list_jobs(t).rows[0];
    assert_true(mf_uuid_eq(row.user_id, t->users[5]));
    assert_true(mf_str_find(row.payload, MF_STR("\"first\":70,\"count\":2}"), 0) !=
                SIZE_MAX);
    OK(mf_jobs_start(t->jobs, &t->err));
    wait_for_user(t, 5);
    assert_int_equal(t->runs, 1);
}

static void opening_survives_each_failed_allocation(void **state) {
    world *t = *state;
    mf_jobs_options options = {.store = t->store,
                               .writer = t->writer,
                               .readers = t->readers,
                               .workers_max = 1,
                               .lease_ms = LEASE_MS};
    MF_EACH_FAULT("alloc", n) {
        mf_jobs *jobs = NULL;
        mf_err err;
        mf_rc rc = mf_jobs_open(&options, &jobs, &err);
        if (rc == MF_OK) {
            rc = mf_jobs_start(jobs, &err);
        }
        assert_true(rc == MF_OK || rc == MF_E_NOMEM);
        mf_jobs_close(jobs);
    }
}

/* Another thread makes it work later. */
static void a_worker_that_cannot_start_is_started_by_the_next_wake(void **state) {
    world *t = *state;
    start_jobs(t, 1);
    mf_fault_arm("thread.start", 0, 1);
    put(t, 0, 1);
    assert_true(mf_fault_fired());
    mf_fault_disarm();
    assert_int_equal(stats_of(t).workers, 0);
    assert_int_equal(stats_of(t).open, 1);
    mf_jobs_wake(t->jobs);
    wait_for_user(t, 0);
    assert_int_equal(t->runs, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_job_runs_once_and_is_gone),
        TEST(each_user_keeps_its_order_under_many_workers),
        TEST(workers_are_as_many_as_there_is_work_for),
        TEST(a_failed_operation_leaves_no_job),
        TEST(a_key_admits_one_open_job),
        TEST(higher_priority_goes_first),
        TEST(a_very_long_queue_of_one_user_lets_others_pass),
        TEST(a_failing_job_is_tried_four_times_and_then_dead),
        TEST(a_dead_job_is_retried_or_dropped_by_hand),
        TEST(a_running_job_is_neither_retried_nor_dropped),
        TEST(a_store_that_fails_for_a_minute_loses_nothing),
        TEST(what_a_dead_process_was_running_runs_again_at_once),
        TEST(a_stop_calls_off_what_runs_and_puts_it_back),
        TEST(an_end_that_cannot_be_noted_before_the_stop_runs_again),
        TEST(a_long_run_keeps_its_lease),
        TEST(waiting_is_for_what_the_user_had_and_ends_at_the_deadline),
        TEST(a_periodic_job_comes_again_and_is_one),
        TEST(kinds_that_follow_adds_get_a_job_for_each),
        TEST(opening_survives_each_failed_allocation),
        TEST(a_worker_that_cannot_start_is_started_by_the_next_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
