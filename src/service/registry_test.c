/* registry_test.c - active users are made once, found by all, and leave by count,
 * bytes, idleness, pressure and deletion, never while somebody holds them. */
#include "base/mutex.h"
#include "service/memory_guard.h"
#include "service/registry.h"
#include "service/service_testing.h"

#include <sched.h>

enum { THREADS = 64, MANY = 10000 };

typedef struct table {
    world *t; /* only for its parts */
    mf_service_parts parts;
    mf_user_totals totals;
    mf_registry *registry;
    atomic_int checks;
    atomic_int fails_left; /* checks that say MF_E_NOTFOUND */
    atomic_bool closed;    /* a check waits until it is not */
    mf_err err;
} table;

static _Atomic int64_t now_ns; /* the memory guard reads it too */

static int64_t test_time(void *ctx) {
    (void)ctx;
    return now_ns;
}

static const mf_clock test_clock = {test_time, test_time, NULL};

static void table_open(table *b, const char *set_1, const char *set_2) {
    *b = (table){0};
    b->t = world_open((world_options){.no_model = true, .sets = {set_1, set_2}});
    b->parts = (mf_service_parts){.store = b->t->store,
                                  .writer = b->t->writer,
                                  .readers = b->t->readers,
                                  .tokens = b->t->tokens,
                                  .settings = b->t->settings};
    world *t = b->t;
    OK(mf_registry_open(&b->parts, &b->totals, &b->registry, &b->err));
}

/* Whatever happened: nobody is left, and no byte is still accounted. */
static void table_close(table *b) {
    mf_registry_close(b->registry);
    assert_int_equal(atomic_load(&b->totals.instances), 0);
    assert_int_equal(atomic_load(&b->totals.bytes), 0);
    world_close(b->t);
}

static mf_uuid uuid_of(unsigned number) {
    mf_uuid id = {{1}};
    id.b[8] = (uint8_t)(number >> 16);
    id.b[9] = (uint8_t)(number >> 8);
    id.b[15] = (uint8_t)number;
    return id;
}

static mf_rc exists(void *ctx, mf_uuid id, mf_user_overrides **own, mf_err *err) {
    table *b = ctx;
    (void)own;
    (void)id;
    atomic_fetch_add(&b->checks, 1);
    while (atomic_load(&b->closed)) {
        (void)sched_yield();
    }
    if (atomic_load(&b->fails_left) > 0) {
        atomic_fetch_sub(&b->fails_left, 1);
        return MF_FAIL(err, MF_E_NOTFOUND, "there is no such user");
    }
    return MF_OK;
}

static mf_user *get(table *b, unsigned number) {
    world *t = b->t;
    mf_user *user = NULL;
    OK(mf_registry_get(b->registry, uuid_of(number), exists, b, MF_NEVER, &user,
                       &t->err));
    return user;
}

static void touch(table *b, unsigned number) {
    mf_user_unref(get(b, number));
}

static bool is_active(table *b, unsigned number) {
    bool found = false;
    mf_user *user = mf_registry_find(b->registry, uuid_of(number));
    found = user != NULL;
    mf_user_unref(user);
    return found;
}

static mf_registry_stats stats_of(table *b) {
    mf_registry_stats stats;
    mf_registry_get_stats(b->registry, &stats);
    return stats;
}

static void a_user_is_checked_and_made_once_and_then_found(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    assert_null(mf_registry_find(b.registry, uuid_of(7)));
    mf_user *first = get(&b, 7);
    mf_user *second = get(&b, 7);
    assert_ptr_equal(first, second);
    assert_int_equal(atomic_load(&b.checks), 1);
    mf_registry_stats stats = stats_of(&b);
    assert_int_equal(stats.count, 1);
    assert_int_equal(stats.instances, 1);
    assert_int_equal(stats.created, 1);
    assert_int_equal(stats.hits, 1);
    assert_int_equal(stats.bytes, mf_user_bytes(first));
    mf_user_unref(first);
    mf_user_unref(second);
    table_close(&b);
}

static void an_unknown_user_is_told_and_not_kept(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    atomic_store(&b.fails_left, 1);
    mf_user *user = NULL;
    mf_err err;
    assert_int_equal(
        mf_registry_get(b.registry, uuid_of(1), exists, &b, MF_NEVER, &user, &err),
        MF_E_NOTFOUND);
    assert_string_equal(err.text, "there is no such user");
    assert_null(user);
    assert_int_equal(stats_of(&b).failed, 1);
    assert_int_equal(stats_of(&b).count, 0);
    touch(&b, 1); /* the next one asks again */
    assert_int_equal(atomic_load(&b.checks), 2);
    table_close(&b);
}

/* --- one creation for many --- */

typedef struct getter {
    table *b;
    mf_user *user;
    mf_rc rc;
    mf_err err;
} getter;

static void run_getter(void *arg) {
    getter *g = arg;
    g->rc = mf_registry_get(g->b->registry, uuid_of(3), exists, g->b, MF_NEVER,
                            &g->user, &g->err);
}

/* Starts all, lets the first check go on when all others wait for it. */
static void run_getters(table *b, getter *getters) {
    world *t = b->t;
    mf_thread threads[THREADS] = {0};
    atomic_store(&b->closed, true);
    for (int i = 0; i < THREADS; i++) {
        getters[i] = (getter){.b = b};
        OK(mf_thread_start(&threads[i], "getter", run_getter, &getters[i], &b->err));
    }
    while (stats_of(b).coalesced < THREADS - 1) {
        (void)sched_yield();
    }
    atomic_store(&b->closed, false);
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
}

static void threads_that_ask_for_a_cold_user_make_one(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    getter getters[THREADS];
    run_getters(&b, getters);
    assert_int_equal(atomic_load(&b.checks), 1);
    assert_int_equal(stats_of(&b).created, 1);
    assert_int_equal(stats_of(&b).instances_peak, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(getters[i].rc, MF_OK);
        assert_ptr_equal(getters[i].user, getters[0].user);
        mf_user_unref(getters[i].user);
    }
    table_close(&b);
}

static void threads_that_wait_for_a_failure_get_it_too(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    atomic_store(&b.fails_left, 1);
    getter getters[THREADS];
    run_getters(&b, getters);
    assert_int_equal(atomic_load(&b.checks), 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(getters[i].rc, MF_E_NOTFOUND);
        assert_string_equal(getters[i].err.text, "there is no such user");
    }
    table_close(&b);
}

/* Deletes the user between its check and its entry, and lets the next check fail. */
static mf_rc exists_then_deleted(void *ctx, mf_uuid id, mf_user_overrides **own,
                                 mf_err *err) {
    table *b = ctx;
    (void)own;
    if (atomic_fetch_add(&b->checks, 1) == 0) {
        mf_registry_drop(b->registry, id);
        return MF_OK;
    }
    return MF_FAIL(err, MF_E_NOTFOUND, "there is no such user");
}

static void a_user_deleted_while_it_is_made_does_not_come_back(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    mf_user *user = NULL;
    assert_int_equal(mf_registry_get(b.registry, uuid_of(1), exists_then_deleted, &b,
                                     MF_NEVER, &user, NULL),
                     MF_E_NOTFOUND);
    assert_int_equal(atomic_load(&b.checks), 2);
    assert_int_equal(stats_of(&b).count, 0);
    table_close(&b);
}

static void a_deleted_user_is_gone_for_who_holds_it(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    mf_user *user = get(&b, 1);
    mf_registry_drop(b.registry, uuid_of(1));
    assert_true(mf_user_is_gone(user));
    assert_false(is_active(&b, 1));
    mf_registry_stats stats = stats_of(&b);
    assert_int_equal(stats.left[MF_LEFT_DELETED], 1);
    assert_int_equal(stats.count, 0);
    assert_int_equal(stats.instances, 1); /* somebody holds it still */
    mf_user_unref(user);
    assert_int_equal(stats_of(&b).instances, 0);
    table_close(&b);
}

/* --- leaving --- */

static void the_least_recently_used_leaves_first(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.active_max=3", NULL);
    mf_clock_set(&test_clock);
    for (unsigned i = 1; i <= 3; i++) {
        now_ns = i;
        touch(&b, i);
    }
    now_ns = 4;
    touch(&b, 1); /* now 2 is the oldest */
    now_ns = 5;
    touch(&b, 4);
    mf_registry_trim(b.registry);
    assert_false(is_active(&b, 2));
    assert_true(is_active(&b, 1) && is_active(&b, 3) && is_active(&b, 4));
    assert_int_equal(stats_of(&b).left[MF_LEFT_COUNT], 1);
    mf_clock_set(NULL);
    table_close(&b);
}

static void a_user_in_use_stays_whatever_the_bound(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.active_max=1", NULL);
    mf_user *held = get(&b, 1);
    touch(&b, 2);
    touch(&b, 3);
    mf_registry_trim(b.registry);
    assert_true(is_active(&b, 1));
    assert_int_equal(stats_of(&b).count, 1);
    assert_int_equal(mf_registry_shrink(b.registry, SIZE_MAX), 0);
    mf_user_unref(held);
    assert_true(mf_registry_shrink(b.registry, 1) > 0);
    assert_int_equal(stats_of(&b).count, 0);
    table_close(&b);
}

/* Makes the user larger by a window of `rounds` rounds. */
static void fatten(table *b, unsigned number, size_t rounds) {
    mf_user *user = get(b, number);
    mf_uuid session = uuid_of(number + 1000);
    mf_write_outcome outcome;
    mf_write_round round = {session, {.first_num = 1, .tokens = 0}};
    mf_user_new_window(user, session);
    for (size_t i = 0; i < rounds; i++) {
        mf_user_add_rounds(user, &round, 1, &outcome);
    }
    mf_user_unref(user);
}

static void users_leave_when_all_hold_too_many_bytes(void **state) {
    (void)state;
    enum { USERS = 20, ROUNDS = 10000 };
    table b;
    table_open(&b, "user.active_bytes_max=1048576",
               "buffer.round_buffer.max_size=10000");

    for (unsigned i = 0; i < USERS; i++) {
        fatten(&b, i, ROUNDS);
        mf_registry_trim(b.registry);

        assert_true(stats_of(&b).bytes <= 1048576);
    }
    mf_registry_stats stats = stats_of(&b);
    assert_true(stats.count >= 2 && stats.count < USERS);
    assert_int_equal(stats.left[MF_LEFT_BYTES], USERS - stats.count);
    assert_true(stats.bytes >= stats.count * ROUNDS * sizeof(mf_round));
    assert_true(is_active(&b, USERS - 1));
    table_close(&b);
}

static void one_user_over_the_byte_bound_stays_alone(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.active_bytes_max=1048576",
               "buffer.round_buffer.max_size=10000");
    fatten(&b, 1, 10);
    for (unsigned s = 0; s < 8; s++) { /* eight sessions of 160 kB */
        mf_user *user = get(&b, 2);
        mf_uuid session = uuid_of(5000 + s);
        mf_write_outcome outcome;
        mf_user_new_window(user, session);
        for (int i = 0; i < 10000; i++) {
            mf_write_round round = {session, {.first_num = 1, .tokens = 0}};
            mf_user_add_rounds(user, &round, 1, &outcome);
        }
        mf_user_unref(user);
    }
    mf_registry_trim(b.registry);
    mf_registry_stats stats = stats_of(&b);
    assert_int_equal(stats.count, 1);
    assert_true(stats.bytes > stats.bytes_max);
    assert_true(is_active(&b, 2));
    table_close(&b);
}

static void idle_users_leave_after_the_time_out(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.idle_timeout_s=100", NULL);
    mf_clock_set(&test_clock);
    now_ns = 1000LL * MF_NS_PER_S;
    touch(&b, 1);
    mf_user *held = get(&b, 2);
    now_ns += 60LL * MF_NS_PER_S;
    touch(&b, 3);
    mf_registry_trim(b.registry);
    assert_int_equal(stats_of(&b).count, 3);
    now_ns += 60LL * MF_NS_PER_S;
    mf_registry_trim(
        b.registry); /* 1 and 2 were last asked for 120 s ago, 3 60 s ago */
    mf_registry_stats stats = stats_of(&b);
    assert_int_equal(stats.count, 2);
    assert_int_equal(stats.left[MF_LEFT_IDLE], 1);
    mf_user_unref(held);
    now_ns += 100LL * MF_NS_PER_S;
    mf_registry_trim(b.registry);
    assert_int_equal(stats_of(&b).count, 0);
    mf_clock_set(NULL);
    table_close(&b);
}

static int64_t in_an_hour(void *ctx) {
    return mf_clock_system()->mono_ns(ctx) + 3600LL * MF_NS_PER_S;
}

static int64_t wall_now(void *ctx) {
    return mf_clock_system()->wall_us(ctx);
}

static void idle_users_leave_a_service_that_nobody_asks(void **state) {
    (void)state;
    static const mf_clock later = {in_an_hour, wall_now, NULL};
    world *t = world_open(
        (world_options){.no_model = true, .sets = {"user.idle_timeout_s=600"}});
    mf_str user = new_user(t, "ann");
    (void)new_session(t, user, new_agent(t, "a"), "s");
    assert_int_equal(status_of(t).users.count, 1);
    mf_memory_guard *guard = mf_service_memory_guard(t->service);
    OK(mf_memory_guard_check(guard, MF_NEVER, &t->err));
    assert_int_equal(status_of(t).users.count, 1);
    mf_clock_set(&later);
    OK(mf_memory_guard_check(guard, MF_NEVER, &t->err));
    mf_registry_stats stats = status_of(t).users;
    mf_clock_set(NULL);
    assert_int_equal(stats.count, 0);
    assert_int_equal(stats.left[MF_LEFT_IDLE], 1);
    world_close(t);
}

static void without_a_time_out_nobody_is_idle(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.idle_timeout_s=0", NULL);
    mf_clock_set(&test_clock);
    now_ns = 1;
    touch(&b, 1);
    now_ns = INT64_MAX - 1;
    mf_registry_trim(b.registry);
    assert_int_equal(stats_of(&b).count, 1);
    mf_clock_set(NULL);
    table_close(&b);
}

static void pressure_frees_what_was_asked_for_and_no_more(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    for (unsigned i = 0; i < 100; i++) {
        touch(&b, i);
    }
    size_t before = stats_of(&b).bytes;
    size_t freed = mf_registry_shrink(b.registry, before / 2);
    mf_registry_stats stats = stats_of(&b);
    assert_int_equal(stats.bytes, before - freed);
    assert_true(freed >= before / 2 && freed < before / 2 + before / 50);
    assert_int_equal(stats.left[MF_LEFT_PRESSURE], 100 - stats.count);
    assert_int_equal(stats.bytes_freed, freed);
    table_close(&b);
}

/* The bytes a user says it has are those the heap gives out for it. */
static void bytes_accounted_are_close_to_bytes_allocated(void **state) {
    (void)state;
    table b;
    table_open(&b, NULL, NULL);
    touch(&b, 99999);
    size_t live = mf_alloc_live_bytes();
    size_t accounted = stats_of(&b).bytes;
    for (unsigned i = 0; i < 1000; i++) {
        fatten(&b, i, 5);
    }
    live = mf_alloc_live_bytes() - live;
    accounted = stats_of(&b).bytes - accounted;
    assert_true(accounted > live * 3 / 4 && accounted < live * 3 / 2);
    table_close(&b);
}

static void ten_thousand_users_touched_once_leave_no_trace(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.active_max=50", NULL);
    size_t peak = 0;
    for (unsigned i = 0; i < MANY; i++) {
        touch(&b, i);
        mf_registry_trim(b.registry);
        size_t bytes = mf_alloc_live_bytes();
        peak = i == 200 ? bytes : i > 200 && bytes > peak + (64 << 10) ? 0 : peak;
        assert_true(i < 200 || peak > 0); /* flat after the first two hundred */
    }
    mf_registry_stats stats = stats_of(&b);
    assert_int_equal(stats.count, 50);
    assert_int_equal(stats.created, MANY);
    assert_int_equal(stats.left[MF_LEFT_COUNT], MANY - 50);
    assert_true(is_active(&b, MANY - 1));
    table_close(&b);
}

/* --- all at once --- */

enum { STORM_THREADS = 6, STORM_STEPS = 4000, STORM_USERS = 40 };

typedef struct stormer {
    table *b;
    unsigned number;
    int failed;
} stormer;

/* Touches, holds, deletes, shrinks and sweeps; who holds a user finds it whole. */
static void run_stormer(void *arg) {
    stormer *s = arg;
    table *b = s->b;
    unsigned seed = s->number * 7919 + 1;
    for (int i = 0; i < STORM_STEPS; i++) {
        seed = seed * 1103515245U + 12345U;
        unsigned number = (seed >> 8) % STORM_USERS;
        mf_user *user = NULL;
        mf_rc rc = mf_registry_get(b->registry, uuid_of(number), exists, b, MF_NEVER,
                                   &user, NULL);
        mf_uuid id = uuid_of(number);
        s->failed += rc != MF_OK || !mf_uuid_eq(mf_user_id(user), id) ? 1 : 0;
        if (i % 50 == 0) {
            mf_registry_drop(b->registry, id);
            s->failed += mf_user_is_gone(user) ? 0 : 1;
        }
        mf_user_unref(user);
        if (i % 10 == 0) {
            mf_registry_trim(b->registry);
        }
        if (i % 300 == 0) {
            (void)mf_registry_shrink(b->registry, 4096);
            (void)mf_registry_sweep(b->registry, mf_now_ns() - 1000);
        }
    }
}

static void users_come_and_go_under_many_threads(void **state) {
    (void)state;
    table b;
    table_open(&b, "user.active_max=10", NULL);
    world *t = b.t;
    stormer stormers[STORM_THREADS];
    mf_thread threads[STORM_THREADS] = {0};
    for (unsigned i = 0; i < STORM_THREADS; i++) {
        stormers[i] = (stormer){.b = &b, .number = i};
        OK(mf_thread_start(&threads[i], "stormer", run_stormer, &stormers[i], &b.err));
    }
    for (int i = 0; i < STORM_THREADS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(stormers[i].failed, 0);
    }
    mf_registry_trim(b.registry);
    mf_registry_stats stats = stats_of(&b);
    uint64_t left = 0;
    for (int i = 0; i < MF_LEFT_COUNT_OF; i++) {
        left += stats.left[i];
    }
    assert_int_equal(stats.created - left, stats.count);
    assert_int_equal(stats.instances, stats.count);
    assert_true(stats.count <= 10);
    table_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_is_checked_and_made_once_and_then_found),
        cmocka_unit_test(an_unknown_user_is_told_and_not_kept),
        cmocka_unit_test(threads_that_ask_for_a_cold_user_make_one),
        cmocka_unit_test(threads_that_wait_for_a_failure_get_it_too),
        cmocka_unit_test(a_user_deleted_while_it_is_made_does_not_come_back),
        cmocka_unit_test(a_deleted_user_is_gone_for_who_holds_it),
        cmocka_unit_test(the_least_recently_used_leaves_first),
        cmocka_unit_test(a_user_in_use_stays_whatever_the_bound),
        cmocka_unit_test(users_leave_when_all_hold_too_many_bytes),
        cmocka_unit_test(one_user_over_the_byte_bound_stays_alone),
        cmocka_unit_test(idle_users_leave_after_the_time_out),
        cmocka_unit_test(idle_users_leave_a_service_that_nobody_asks),
        cmocka_unit_test(without_a_time_out_nobody_is_idle),
        cmocka_unit_test(pressure_frees_what_was_asked_for_and_no_more),
        cmocka_unit_test(bytes_accounted_are_close_to_bytes_allocated),
        cmocka_unit_test(ten_thousand_users_touched_once_leave_no_trace),
        cmocka_unit_test(users_come_and_go_under_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
