/* cache_manager_test.c - caches share one budget, a cleanup halves each of them, and no
 * cache is called after it went. */
#include "base/cache_manager.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/lru.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, STEPS = 3000, VALUE_BYTES = 100 };

static void release(void *value) {
    mf_free(value);
}

/* Copies, so that whoever gets one owns it. */
static void *share(void *value) {
    int *copy = mf_alloc(sizeof *copy);
    assert_non_null(copy);
    *copy = *(int *)value;
    return copy;
}

static mf_lru *cache_of(mf_cache_manager *manager, const char *name, size_t count_max) {
    mf_lru_options options = {.name = name,
                              .manager = manager,
                              .count_max = count_max,
                              .bytes_max = SIZE_MAX,
                              .ttl_ms = 5000,
                              .release = release,
                              .share = share};
    mf_lru *cache = NULL;
    assert_int_equal(mf_lru_open(&options, &cache, NULL), MF_OK);
    return cache;
}

static void put(mf_lru *cache, int key) {
    int *value = mf_alloc(sizeof *value);
    assert_non_null(value);
    *value = key;
    mf_lru_put(cache, (mf_str){(const char *)&key, sizeof key}, value, VALUE_BYTES);
}

static bool has(mf_lru *cache, int key) {
    int *value = mf_lru_get(cache, (mf_str){(const char *)&key, sizeof key});
    bool found = value != NULL;
    if (found) {
        assert_int_equal(*value, key);
    }
    mf_free(value);
    return found;
}

static mf_cache_manager *manager_of(size_t budget, unsigned percent) {
    mf_cache_manager *manager = NULL;
    assert_int_equal(mf_cache_manager_open(budget, percent, &manager, NULL), MF_OK);
    return manager;
}

static mf_cache_manager_stats stats_of(mf_cache_manager *manager) {
    mf_cache_manager_stats stats;
    mf_cache_manager_get_stats(manager, &stats);
    return stats;
}

/* What one entry made by put() costs. */
static size_t entry_bytes(void) {
    mf_cache_manager *manager = manager_of(1 << 20, 80);
    mf_lru *cache = cache_of(manager, "one", 4);
    put(cache, 1);
    size_t bytes = mf_cache_manager_held_bytes(manager);
    mf_lru_close(cache);
    mf_cache_manager_close(manager);
    assert_true(bytes > VALUE_BYTES);
    return bytes;
}

static void hit_rate_has_three_decimals_and_is_0_without_requests(void **state) {
    (void)state;
    assert_true(mf_cache_hit_rate(0, 0) == 0.0);
    assert_true(mf_cache_hit_rate(0, 7) == 0.0);
    assert_true(mf_cache_hit_rate(7, 0) == 1.0);
    assert_true(mf_cache_hit_rate(2, 1) == 0.667);
    assert_true(mf_cache_hit_rate(1, 2) == 0.333);
}

static void a_cleanup_drops_the_coldest_half_of_every_cache(void **state) {
    (void)state;
    mf_cache_manager *manager = manager_of(1 << 20, 80);
    mf_lru *odd = cache_of(manager, "odd", 10);
    mf_lru *even = cache_of(manager, "even", 10);
    mf_lru *empty = cache_of(manager, "empty", 10);
    for (int i = 0; i < 5; i++) {
        put(odd, i);
    }
    for (int i = 0; i < 4; i++) {
        put(even, i);
    }
    assert_true(has(even, 0)); /* 1 and 2 are the coldest now */
    mf_cache_cleanup done;
    mf_cache_manager_cleanup(manager, &done);
    assert_int_equal(done.entries, 3 + 2);
    assert_int_equal(done.before_bytes, 9 * entry_bytes());
    assert_int_equal(done.after_bytes, 4 * entry_bytes());
    assert_false(has(odd, 2));
    assert_true(has(odd, 3));
    assert_true(has(odd, 4));
    assert_false(has(even, 1));
    assert_false(has(even, 2));
    assert_true(has(even, 0));
    assert_true(has(even, 3));
    mf_lru_close(odd);
    mf_lru_close(even);
    mf_lru_close(empty);
    assert_int_equal(mf_cache_manager_held_bytes(manager), 0);
    mf_cache_manager_close(manager);
}

static void a_cleanup_runs_only_above_the_threshold(void **state) {
    (void)state;
    size_t one = entry_bytes();
    mf_cache_manager *manager = manager_of(10 * one, 80);
    mf_lru *cache = cache_of(manager, "c", 100);
    mf_cache_cleanup done = {.entries = 99};
    for (int i = 0; i < 8; i++) {
        put(cache, i);
        assert_false(mf_cache_manager_cleanup_if_needed(manager, &done));
    }
    assert_int_equal(done.entries, 99);
    put(cache, 8);
    assert_true(mf_cache_manager_cleanup_if_needed(manager, &done));
    assert_int_equal(done.entries, 5);
    assert_int_equal(mf_cache_manager_held_bytes(manager), 4 * one);
    /* A lower budget counts at once. */
    mf_cache_manager_set_budget(manager, 4 * one, 50);
    assert_true(mf_cache_manager_cleanup_if_needed(manager, &done));
    assert_false(mf_cache_manager_cleanup_if_needed(manager, &done));
    mf_cache_manager_stats stats = stats_of(manager);
    assert_int_equal(stats.cleanups, 2);
    assert_int_equal(stats.cleaned_entries, 5 + 2);
    assert_int_equal(stats.threshold_bytes, 2 * one);
    mf_lru_close(cache);
    mf_cache_manager_close(manager);
}

static void at_the_budget_a_cache_makes_room_in_itself(void **state) {
    (void)state;
    size_t one = entry_bytes();
    mf_cache_manager *manager = manager_of(4 * one, 100);
    mf_lru *full = cache_of(manager, "full", 100);
    mf_lru *late = cache_of(manager, "late", 100);
    for (int i = 0; i < 6; i++) {
        put(full, i);
        assert_true(mf_cache_manager_held_bytes(manager) <= 4 * one);
    }
    assert_false(has(full, 0));
    assert_false(has(full, 1));
    assert_true(has(full, 2));
    assert_true(has(full, 5));
    put(late, 1); /* has nothing of its own to give */
    assert_false(has(late, 1));
    assert_true(has(full, 2));
    assert_true(stats_of(manager).refusals > 0);
    assert_int_equal(stats_of(manager).held_bytes_max, 4 * one);
    mf_lru_close(full);
    put(late, 1);
    assert_true(has(late, 1));
    mf_lru_close(late);
    mf_cache_manager_close(manager);
}

static void a_budget_of_0_keeps_nothing_and_a_huge_one_everything(void **state) {
    (void)state;
    mf_cache_manager *manager = manager_of(0, 80);
    mf_lru *cache = cache_of(manager, "c", 10);
    put(cache, 1);
    assert_false(has(cache, 1));
    mf_cache_manager_set_budget(manager, SIZE_MAX, 100);
    assert_int_equal(stats_of(manager).threshold_bytes, SIZE_MAX);
    put(cache, 1);
    assert_true(has(cache, 1));
    mf_lru_close(cache);
    mf_cache_manager_close(manager);
}

static void caches_of_one_name_count_as_one(void **state) {
    (void)state;
    mf_cache_manager *manager = manager_of(1 << 20, 80);
    mf_lru *first = cache_of(manager, "query", 10);
    mf_lru *other = cache_of(manager, "sessions", 20);
    mf_lru *second = cache_of(manager, "query", 10);
    put(first, 1);
    put(second, 1);
    put(second, 2);
    put(other, 1);
    assert_true(has(first, 1));
    assert_true(has(second, 2));
    assert_false(has(second, 3));
    mf_cache_manager_stats stats = stats_of(manager);
    assert_int_equal(stats.name_count, 2);
    const mf_cache_stats *query = &stats.names[0];
    assert_string_equal(query->name, "query");
    assert_int_equal(query->caches, 2);
    assert_int_equal(query->size, 3);
    assert_int_equal(query->max_size, 20);
    assert_int_equal(query->hits, 2);
    assert_int_equal(query->misses, 1);
    assert_int_equal(query->ttl_ms, 5000);
    assert_int_equal(query->held_bytes, 3 * entry_bytes());
    assert_string_equal(stats.names[1].name, "sessions");
    assert_int_equal(stats.names[1].size, 1);
    assert_int_equal(stats.size, 4);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.misses, 1);
    assert_int_equal(stats.held_bytes, 4 * entry_bytes());
    mf_lru_close(first);
    mf_lru_close(second);
    assert_int_equal(stats_of(manager).names[0].caches, 0);
    mf_lru_close(other);
    mf_cache_manager_close(manager);
}

static int notices;

static void notice(void *ctx) {
    assert_ptr_equal(ctx, &notices);
    notices++;
}

static void crossing_the_threshold_is_told_once(void **state) {
    (void)state;
    size_t one = entry_bytes();
    mf_cache_manager *manager = manager_of(10 * one, 50);
    mf_cache_manager_watch(manager, notice, &notices);
    mf_lru *cache = cache_of(manager, "c", 100);
    for (int i = 0; i < 5; i++) {
        put(cache, i);
    }
    assert_int_equal(notices, 0);
    put(cache, 5);
    put(cache, 6);
    assert_int_equal(notices, 1);
    mf_cache_cleanup done;
    assert_true(mf_cache_manager_cleanup_if_needed(manager, &done));
    for (int i = 10; i < 13; i++) {
        put(cache, i);
    }
    assert_int_equal(notices, 2);
    mf_lru_close(cache);
    mf_cache_manager_close(manager);
}

/* A cache that is no mf_lru: it counts what it is told. */
typedef struct adapter {
    mf_cache_entry entry;
    size_t size;
} adapter;

static void adapter_stats(void *cache, mf_cache_stats *out) {
    out->size = ((adapter *)cache)->size;
    out->max_size = 100;
    out->held_bytes = ((adapter *)cache)->size * 10;
}

static size_t adapter_shrink(void *cache, size_t count) {
    adapter *a = cache;
    a->size -= count;
    mf_cache_give(&a->entry, count * 10);
    return count;
}

static void a_cache_of_another_kind_takes_part_through_its_functions(void **state) {
    (void)state;
    static const mf_cache_ops ops = {"other", adapter_stats, adapter_shrink};
    mf_cache_manager *manager = manager_of(100, 80);
    adapter a = {.size = 0};
    mf_cache_register(manager, &a.entry, &ops, &a);
    while (mf_cache_take(&a.entry, 10)) {
        a.size++;
    }
    assert_int_equal(a.size, 10);
    mf_cache_cleanup done;
    assert_true(mf_cache_manager_cleanup_if_needed(manager, &done));
    assert_int_equal(a.size, 5);
    assert_int_equal(done.after_bytes, 50);
    mf_cache_give(&a.entry, 50);
    mf_cache_unregister(&a.entry);
    mf_cache_manager_close(manager);
    /* Without a manager nothing is refused. */
    mf_cache_register(NULL, &a.entry, &ops, &a);
    assert_true(mf_cache_take(&a.entry, SIZE_MAX));
    mf_cache_give(&a.entry, SIZE_MAX);
    mf_cache_unregister(&a.entry);
}

/* Each thread opens, fills and closes caches while others clean up and count. */
static void churn(void *p) {
    mf_cache_manager *manager = p;
    for (int i = 0; i < STEPS / 100; i++) {
        mf_lru *cache = cache_of(manager, i % 2 == 0 ? "even" : "odd", 50);
        for (int k = 0; k < 100; k++) {
            put(cache, k);
            (void)has(cache, k / 2);
        }
        mf_lru_close(cache);
    }
}

static void clean(void *p) {
    mf_cache_manager *manager = p;
    for (int i = 0; i < STEPS / 10; i++) {
        mf_cache_cleanup done;
        (void)mf_cache_manager_cleanup_if_needed(manager, &done);
        mf_cache_manager_cleanup(manager, &done);
        mf_cache_manager_stats stats = stats_of(manager);
        assert_true(stats.held_bytes <= stats.budget_bytes);
    }
}

static void caches_come_and_go_while_others_are_cleaned(void **state) {
    (void)state;
    mf_cache_manager *manager = manager_of(60 * entry_bytes(), 50);
    mf_thread threads[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&threads[i], "churn",
                                         i % 2 == 0 ? churn : clean, manager, NULL),
                         MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_cache_manager_stats stats = stats_of(manager);
    assert_int_equal(stats.held_bytes, 0);
    assert_true(stats.held_bytes_max <= stats.budget_bytes);
    mf_cache_manager_close(manager);
}

static void open_survives_a_failed_allocation(void **state) {
    (void)state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_cache_manager *manager = NULL;
        mf_err err;
        if (mf_cache_manager_open(1, 1, &manager, &err) != MF_OK) {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(manager);
        }
        mf_cache_manager_close(manager);
    }
    mf_cache_manager_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hit_rate_has_three_decimals_and_is_0_without_requests),
        cmocka_unit_test(a_cleanup_drops_the_coldest_half_of_every_cache),
        cmocka_unit_test(a_cleanup_runs_only_above_the_threshold),
        cmocka_unit_test(at_the_budget_a_cache_makes_room_in_itself),
        cmocka_unit_test(a_budget_of_0_keeps_nothing_and_a_huge_one_everything),
        cmocka_unit_test(caches_of_one_name_count_as_one),
        cmocka_unit_test(crossing_the_threshold_is_told_once),
        cmocka_unit_test(a_cache_of_another_kind_takes_part_through_its_functions),
        cmocka_unit_test(caches_come_and_go_while_others_are_cleaned),
        cmocka_unit_test(open_survives_a_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
