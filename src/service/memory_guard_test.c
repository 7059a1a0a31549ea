/* memory_guard_test.c - room is made in order and only when it is needed, work is
 * refused between its two levels, and the cleanup service does what its settings say.
 * Memory here is a figure that the steps change. */
#include "service/memory_guard.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/lru.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MB = 1 << 20, BUDGET_MB = 100, THREADS = 4, STEPS = 2000 };

static _Atomic int64_t now_ns;

static int64_t test_time(void *ctx) {
    (void)ctx;
    return now_ns;
}

static int64_t test_wall(void *ctx) {
    (void)ctx;
    return 1234567;
}

static const mf_clock test_clock = {test_time, test_wall, NULL};

/* Megabytes of a pretended process. */
typedef struct world {
    mf_settings *settings;
    mf_cache_manager *caches;
    mf_memory_guard *guard;
    mf_lru *cache; /* each entry stands for a megabyte */
    atomic_int other_mb, users_mb, pinned_mb, store_mb;
    atomic_int leave_calls, store_calls, commit_calls;
    atomic_size_t last_leave_bytes;
    atomic_bool own_is_more;
} world;

static size_t cache_mb(world *w) {
    mf_lru_stats stats;
    mf_lru_get_stats(w->cache, &stats);
    return stats.size;
}

static void measure(void *ctx, mf_memory_figures *out) {
    world *w = ctx;
    size_t used = (size_t)(atomic_load(&w->other_mb) + atomic_load(&w->users_mb) +
                           atomic_load(&w->pinned_mb) + atomic_load(&w->store_mb)) +
                  cache_mb(w);
    bool own = atomic_load(&w->own_is_more);
    out->own_bytes = own ? used * MB : 0;
    out->private_bytes = own ? 0 : used * MB;
    out->resident_bytes = (used + 50) * MB;
}

static void users_leave(void *ctx, size_t bytes, size_t *count) {
    world *w = ctx;
    atomic_fetch_add(&w->leave_calls, 1);
    atomic_store(&w->last_leave_bytes, bytes);
    int wanted = (int)((bytes + MB - 1) / MB);
    int have = atomic_load(&w->users_mb);
    int leaving = wanted < have ? wanted : have;
    atomic_fetch_sub(&w->users_mb, leaving);
    *count = (size_t)leaving;
}

static size_t users_bytes(void *ctx) {
    return (size_t)atomic_load(&((world *)ctx)->users_mb) * MB;
}

static void shrink_store(void *ctx) {
    world *w = ctx;
    atomic_fetch_add(&w->store_calls, 1);
    atomic_store(&w->store_mb, 0);
}

/* Users held by what waits to be committed become free. */
static void commit(void *ctx, int64_t deadline_ns) {
    world *w = ctx;
    assert_true(deadline_ns > now_ns);
    atomic_fetch_add(&w->commit_calls, 1);
    atomic_fetch_add(&w->users_mb, atomic_exchange(&w->pinned_mb, 0));
}

static void release(void *value) {
    (void)value;
}

static void *share(void *value) {
    return value;
}

static mf_rc guard_open(world *w, mf_err *err) {
    const mf_memory_guard_options options = {
        .settings = w->settings,
        .caches = w->caches,
        .ops = {measure, users_leave, users_bytes, shrink_store, commit, w, NULL},
    };
    MF_TRY(mf_memory_guard_open(&options, &w->guard, err));
    mf_rc rc = mf_memory_guard_start(w->guard, err);
    if (rc != MF_OK) {
        mf_memory_guard_close(w->guard);
        w->guard = NULL;
    }
    return rc;
}

static void world_open(world *w, const char *const *sets, size_t set_count) {
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    *w = (world){.settings = NULL};
    now_ns = 1000 * (int64_t)MF_NS_PER_S;
    mf_clock_set(&test_clock);
    const mf_config_sources sources = {.sets = sets, .set_count = set_count};
    mf_err err = {0};
    if (mf_settings_open(&sources, &w->settings, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(mf_cache_manager_open(SIZE_MAX, 100, &w->caches, NULL), MF_OK);
    const mf_lru_options lru = {.name = "megabytes",
                                .manager = w->caches,
                                .count_max = 1000,
                                .bytes_max = SIZE_MAX,
                                .release = release,
                                .share = share};
    assert_int_equal(mf_lru_open(&lru, &w->cache, NULL), MF_OK);
}

static void world_start(world *w) {
    mf_err err = {0};
    if (guard_open(w, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
}

static const char *const small[] = {"memory.budget_mb=100"};

static void world_close(world *w) {
    mf_memory_guard_close(w->guard);
    mf_lru_close(w->cache);
    mf_cache_manager_close(w->caches);
    mf_settings_close(w->settings);
    mf_clock_set(NULL);
}

static void fill_cache(world *w, int megabytes) {
    static int next;
    for (int i = 0; i < megabytes; i++) {
        next++;
        mf_lru_put(w->cache, (mf_str){(const char *)&next, sizeof next}, w, 1);
    }
}

static void check(world *w) {
    assert_int_equal(mf_memory_guard_check(w->guard, MF_NEVER, NULL), MF_OK);
}

/* With the first look of the cleanup service behind it. */
static void world_open_small(world *w) {
    world_open(w, small, 1);
    world_start(w);
    check(w);
}

static mf_memory_guard_stats stats_of(world *w) {
    mf_memory_guard_stats stats;
    mf_memory_guard_get_stats(w->guard, &stats);
    return stats;
}

static bool admitted(world *w, size_t bytes) {
    return mf_memory_guard_admit(w->guard, now_ns, bytes, NULL) == MF_OK;
}

static void below_nine_tenths_nothing_happens(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    fill_cache(&w, 40);
    atomic_store(&w.users_mb, 45);
    check(&w);
    assert_int_equal(cache_mb(&w), 40);
    assert_int_equal(atomic_load(&w.leave_calls), 0);
    mf_memory_guard_stats stats = stats_of(&w);
    assert_int_equal(stats.reliefs, 0);
    assert_int_equal(stats.used_bytes, 85 * (size_t)MB);
    assert_int_equal(stats.budget_bytes, BUDGET_MB * (size_t)MB);
    assert_int_equal(stats.figures.resident_bytes, 135 * (size_t)MB);
    assert_true(stats.running);
    assert_false(stats.refusing);
    world_close(&w);
}

static void caches_shrink_before_users_leave(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    fill_cache(&w, 40);
    atomic_store(&w.users_mb, 51);
    check(&w);
    assert_int_equal(cache_mb(&w), 20);
    assert_int_equal(atomic_load(&w.leave_calls), 0); /* 71 is enough */
    assert_int_equal(stats_of(&w).entries_dropped, 20);
    assert_int_equal(stats_of(&w).used_bytes_max, 91 * (size_t)MB);
    world_close(&w);
}

static void users_leave_as_far_as_needed(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    fill_cache(&w, 4);
    atomic_store(&w.users_mb, 91);
    check(&w);
    assert_int_equal(cache_mb(&w), 2);
    assert_int_equal(atomic_load(&w.leave_calls), 1);
    assert_int_equal(atomic_load(&w.last_leave_bytes), 13 * (size_t)MB);
    assert_int_equal(atomic_load(&w.users_mb), 78);
    assert_int_equal(atomic_load(&w.commit_calls), 0);
    assert_int_equal(stats_of(&w).users_left, 13);
    assert_int_equal(stats_of(&w).reliefs, 1);
    world_close(&w);
}

static void the_store_drops_its_pages_before_anything_is_hurried(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.store_mb, 25);
    atomic_store(&w.other_mb, 70);
    check(&w);
    assert_int_equal(atomic_load(&w.store_calls), 1);
    assert_int_equal(atomic_load(&w.commit_calls), 0);
    assert_int_equal(stats_of(&w).used_bytes, 70 * (size_t)MB);
    world_close(&w);
}

static void what_waits_is_committed_so_that_its_users_can_leave(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.pinned_mb, 95);
    check(&w);
    assert_int_equal(atomic_load(&w.commit_calls), 1);
    assert_int_equal(atomic_load(&w.users_mb), 80);
    assert_int_equal(stats_of(&w).commits, 1);
    assert_false(stats_of(&w).refusing);
    world_close(&w);
}

static void the_caches_are_emptied_last(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.other_mb, 79);
    fill_cache(&w, 16);
    check(&w);
    assert_int_equal(cache_mb(&w), 0);
    assert_int_equal(stats_of(&w).entries_dropped, 16);
    assert_true(admitted(&w, 0));
    world_close(&w);
}

static void work_is_refused_until_there_is_room_again(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.other_mb, 94);
    check(&w);
    assert_true(admitted(&w, 0)); /* nothing can leave, but there is room */
    atomic_store(&w.other_mb, 97);
    check(&w);
    mf_err err = {0};
    assert_int_equal(mf_memory_guard_admit(w.guard, now_ns, 0, &err), MF_E_NOMEM);
    assert_int_equal(mf_rc_http_status(err.rc), 503);
    assert_true(mf_rc_can_retry(err.rc));
    assert_non_null(strstr(err.text, "memory.budget_mb"));
    atomic_store(&w.other_mb, 93); /* between the levels: still full */
    check(&w);
    assert_false(admitted(&w, 0));
    atomic_store(&w.other_mb, 91);
    check(&w);
    assert_true(admitted(&w, 0));
    assert_int_equal(stats_of(&w).refused, 2);
    world_close(&w);
}

static void a_piece_of_work_larger_than_the_room_is_refused_alone(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.other_mb, 50);
    check(&w);
    assert_true(admitted(&w, 50 * (size_t)MB));
    assert_false(admitted(&w, 51 * (size_t)MB));
    assert_false(admitted(&w, SIZE_MAX));
    assert_true(admitted(&w, 1));
    assert_false(stats_of(&w).refusing);
    world_close(&w);
}

static void a_request_finds_out_before_the_thread_does(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    mf_memory_guard_stop(w.guard);
    atomic_store(&w.other_mb, 99);
    assert_true(admitted(&w, 0)); /* the last look is recent */
    now_ns += 21 * (int64_t)MF_NS_PER_MS;
    assert_false(admitted(&w, 0));
    assert_true(stats_of(&w).refusing);
    world_close(&w);
}

static void room_that_cannot_be_made_is_not_tried_for_all_the_time(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.other_mb, 95);
    check(&w);
    assert_int_equal(stats_of(&w).reliefs, 1);
    for (int i = 0; i < 10; i++) {
        fill_cache(&w, 1);
        check(&w);
    }
    assert_int_equal(stats_of(&w).reliefs, 1);
    assert_int_equal(cache_mb(&w), 10);
    now_ns += 1001 * (int64_t)MF_NS_PER_MS;
    check(&w);
    assert_int_equal(stats_of(&w).reliefs, 2);
    now_ns += 1001 * (int64_t)MF_NS_PER_MS; /* the pause has doubled */
    check(&w);
    assert_int_equal(stats_of(&w).reliefs, 2);
    now_ns += 1000 * (int64_t)MF_NS_PER_MS;
    check(&w);
    assert_int_equal(stats_of(&w).reliefs, 3);
    atomic_store(&w.other_mb, 10);
    check(&w);
    atomic_store(&w.other_mb, 95);
    check(&w);
    assert_int_equal(stats_of(&w).reliefs, 4);
    world_close(&w);
}

static void the_larger_of_the_two_figures_counts(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    atomic_store(&w.own_is_more, true);
    atomic_store(&w.users_mb, 91);
    check(&w);
    assert_int_equal(atomic_load(&w.users_mb), 80);
    world_close(&w);
}

static void the_cleanup_service_looks_at_once_and_then_by_its_interval(void **state) {
    (void)state;
    world w;
    const char *const sets[] = {"memory.budget_mb=100",
                                "memory.cleanup_threshold_mb=50",
                                "memory.cleanup_interval_s=300"};
    world_open(&w, sets, 3);
    fill_cache(&w, 20);
    atomic_store(&w.users_mb, 60);
    world_start(&w);
    check(&w);
    mf_memory_guard_stats stats = stats_of(&w);
    assert_int_equal(stats.cleanups, 1);
    assert_int_equal(stats.last_cleanup_us, 1234567);
    assert_int_equal(cache_mb(&w), 10);
    assert_int_equal(atomic_load(&w.users_mb), 40); /* down to the threshold */
    assert_false(stats.pressure);
    atomic_store(&w.users_mb, 45);
    now_ns += 299 * (int64_t)MF_NS_PER_S;
    check(&w);
    assert_int_equal(stats_of(&w).cleanups, 1);
    assert_true(stats_of(&w).pressure);
    now_ns += 2 * (int64_t)MF_NS_PER_S;
    check(&w);
    assert_int_equal(stats_of(&w).cleanups, 2);
    atomic_store(&w.users_mb, 45); /* exactly 50: not above */
    now_ns += 301 * (int64_t)MF_NS_PER_S;
    check(&w);
    assert_int_equal(stats_of(&w).cleanups, 2);
    world_close(&w);
}

static void a_forced_cleanup_halves_whatever_is_used_and_reports(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    fill_cache(&w, 10);
    atomic_store(&w.users_mb, 20);
    mf_memory_cleanup done;
    assert_int_equal(mf_memory_guard_cleanup(w.guard, MF_NEVER, &done, NULL), MF_OK);
    assert_true(done.forced);
    assert_int_equal(done.before_bytes, 30 * (size_t)MB);
    assert_int_equal(done.after_bytes, 15 * (size_t)MB);
    assert_int_equal(done.objects_collected, 5 + 10);
    assert_int_equal(done.cleanup_count, 1);
    assert_true(done.duration_ns >= 0);
    assert_int_equal(mf_memory_guard_cleanup(w.guard, MF_NEVER, &done, NULL), MF_OK);
    assert_int_equal(done.cleanup_count, 2);
    assert_int_equal(stats_of(&w).cleanups, 2);
    mf_memory_guard_stop(w.guard);
    assert_int_equal(mf_memory_guard_cleanup(w.guard, MF_NEVER, &done, NULL),
                     MF_E_STOPPING);
    assert_false(stats_of(&w).running);
    world_close(&w);
}

static void caches_over_their_own_budget_are_cleaned_at_once(void **state) {
    (void)state;
    world w;
    const char *const sets[] = {"memory.cache_budget_mb=0"};
    world_open(&w, sets, 1);
    fill_cache(&w, 20); /* the manager's budget still is what the test gave it */
    world_start(&w);
    check(&w);
    assert_int_equal(cache_mb(&w), 0);
    assert_int_equal(atomic_load(&w.leave_calls), 0);
    world_close(&w);
}

static void settings_out_of_bounds_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "memory.budget_mb=0",
        "memory.budget_mb=-1",
        "memory.budget_mb=31",
        "memory.budget_mb=99999999999",
        "memory.cleanup_interval_s=0",
        "memory.cleanup_threshold_mb=0",
        "memory.cache_budget_mb=-1",
        "memory.cache_pressure_percent=0",
        "memory.cache_pressure_percent=101",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const mf_config_sources sources = {.sets = &bad[i], .set_count = 1};
        mf_settings *settings = NULL;
        mf_err err = {0};
        assert_int_equal(mf_settings_open(&sources, &settings, &err), MF_E_INVAL);
        mf_str key = mf_str_from(bad[i]);
        key = mf_str_split(&key, '=');
        assert_true(mf_str_find(mf_str_from(err.text), key, 0) != SIZE_MAX);
    }
    /* The largest there are work. */
    const char *const huge[] = {"memory.budget_mb=1048576",
                                "memory.cleanup_threshold_mb=1048576",
                                "memory.cache_budget_mb=1048576"};
    world w;
    world_open(&w, huge, 3);
    world_start(&w);
    check(&w);
    assert_true(admitted(&w, (size_t)1 << 39));
    assert_int_equal(stats_of(&w).threshold_bytes, ((size_t)1 << 40) / 100 * 85);
    world_close(&w);
}

static void ask(void *p) {
    world *w = p;
    for (int i = 0; i < STEPS; i++) {
        mf_rc rc = mf_memory_guard_admit(w->guard, (int64_t)i * MF_NS_PER_S, 10, NULL);
        assert_true(rc == MF_OK || rc == MF_E_NOMEM);
        (void)mf_memory_guard_used(w->guard, (size_t)i);
        if (i % 100 == 0) {
            mf_memory_cleanup done;
            atomic_store(&w->users_mb, i % 200);
            assert_int_equal(mf_memory_guard_cleanup(w->guard, MF_NEVER, &done, NULL),
                             MF_OK);
        }
        (void)stats_of(w);
    }
}

static void threads_may_ask_and_clean_at_the_same_time(void **state) {
    (void)state;
    world w;
    world_open_small(&w);
    mf_thread threads[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&threads[i], "ask", ask, &w, NULL), MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_memory_guard_stats stats = stats_of(&w);
    assert_true(stats.cleanups >= STEPS / 100);
    world_close(&w);
}

static void open_survives_faults(void **state) {
    (void)state;
    world w;
    world_open(&w, small, 1);
    static const char *const faults[] = {MF_FAULT_ALLOC, MF_FAULT_THREAD_START};
    for (size_t i = 0; i < 2; i++) {
        MF_EACH_FAULT(faults[i], n) {
            mf_err err = {0};
            w.guard = NULL;
            if (guard_open(&w, &err) != MF_OK) {
                assert_int_equal(err.rc, MF_E_NOMEM);
                assert_null(w.guard);
            }
            mf_memory_guard_close(w.guard);
        }
    }
    w.guard = NULL;
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(below_nine_tenths_nothing_happens),
        cmocka_unit_test(caches_shrink_before_users_leave),
        cmocka_unit_test(users_leave_as_far_as_needed),
        cmocka_unit_test(the_store_drops_its_pages_before_anything_is_hurried),
        cmocka_unit_test(what_waits_is_committed_so_that_its_users_can_leave),
        cmocka_unit_test(the_caches_are_emptied_last),
        cmocka_unit_test(work_is_refused_until_there_is_room_again),
        cmocka_unit_test(a_piece_of_work_larger_than_the_room_is_refused_alone),
        cmocka_unit_test(a_request_finds_out_before_the_thread_does),
        cmocka_unit_test(room_that_cannot_be_made_is_not_tried_for_all_the_time),
        cmocka_unit_test(the_larger_of_the_two_figures_counts),
        cmocka_unit_test(the_cleanup_service_looks_at_once_and_then_by_its_interval),
        cmocka_unit_test(a_forced_cleanup_halves_whatever_is_used_and_reports),
        cmocka_unit_test(caches_over_their_own_budget_are_cleaned_at_once),
        cmocka_unit_test(settings_out_of_bounds_are_refused),
        cmocka_unit_test(threads_may_ask_and_clean_at_the_same_time),
        cmocka_unit_test(open_survives_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
