/* lru_test.c - a cache keeps the entries used last, within its limits and its time to
 * live, and no value is released while somebody has it or twice. */
#include "base/lru.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, STEPS = 4000, MODEL_KEYS = 24 };

/* A counted value, as caches of real things hold them. */
typedef struct counted {
    atomic_int refs;
    int number;
} counted;

static atomic_int values_alive;

static counted *counted_new(int number) {
    counted *value = mf_alloc(sizeof *value);
    assert_non_null(value);
    atomic_init(&value->refs, 1);
    value->number = number;
    atomic_fetch_add(&values_alive, 1);
    return value;
}

static void counted_release(void *p) {
    counted *value = p;
    if (atomic_fetch_sub(&value->refs, 1) == 1) {
        atomic_fetch_sub(&values_alive, 1);
        mf_free(value);
    }
}

static void *counted_share(void *p) {
    atomic_fetch_add(&((counted *)p)->refs, 1);
    return p;
}

static int64_t now_ns;

static int64_t test_time(void *ctx) {
    (void)ctx;
    return now_ns;
}

static const mf_clock test_clock = {test_time, test_time, NULL};

static mf_lru *cache_of(size_t count_max, size_t bytes_max, int64_t ttl_ms) {
    mf_lru_options options = {.name = "test",
                              .count_max = count_max,
                              .bytes_max = bytes_max,
                              .ttl_ms = ttl_ms,
                              .release = counted_release,
                              .share = counted_share};
    mf_lru *cache = NULL;
    assert_int_equal(mf_lru_open(&options, &cache, NULL), MF_OK);
    return cache;
}

static void put(mf_lru *cache, const char *key, int number, size_t bytes) {
    mf_lru_put(cache, mf_str_from(key), counted_new(number), bytes);
}

/* The number of the value under the key, or -1. */
static int get(mf_lru *cache, const char *key) {
    counted *value = mf_lru_get(cache, mf_str_from(key));
    if (value == NULL) {
        return -1;
    }
    int number = value->number;
    counted_release(value);
    return number;
}

static mf_lru_stats stats_of(mf_lru *cache) {
    mf_lru_stats stats;
    mf_lru_get_stats(cache, &stats);
    return stats;
}

static void close_and_check(mf_lru *cache) {
    mf_lru_close(cache);
    assert_int_equal(atomic_load(&values_alive), 0);
}

static void the_entry_unused_longest_leaves_first(void **state) {
    (void)state;
    mf_lru *cache = cache_of(3, 1000, 0);
    put(cache, "a", 1, 1);
    put(cache, "b", 2, 1);
    put(cache, "c", 3, 1);
    assert_int_equal(get(cache, "a"), 1); /* now b is the coldest */
    put(cache, "d", 4, 1);
    assert_int_equal(get(cache, "b"), -1);
    assert_int_equal(get(cache, "a"), 1);
    assert_int_equal(get(cache, "c"), 3);
    assert_int_equal(get(cache, "d"), 4);
    mf_lru_stats stats = stats_of(cache);
    assert_string_equal(stats.name, "test");
    assert_int_equal(stats.size, 3);
    assert_int_equal(stats.max_size, 3);
    assert_int_equal(stats.hits, 4);
    assert_int_equal(stats.misses, 1);
    assert_int_equal(stats.evictions, 1);
    close_and_check(cache);
    mf_lru_close(NULL);
}

static void the_byte_limit_evicts_as_many_as_it_takes(void **state) {
    (void)state;
    mf_lru *cache = cache_of(100, 100, 0);
    put(cache, "a", 1, 40);
    put(cache, "b", 2, 40);
    put(cache, "c", 3, 20);
    assert_int_equal(stats_of(cache).bytes, 100);
    put(cache, "d", 4, 70);
    assert_int_equal(get(cache, "a"), -1);
    assert_int_equal(get(cache, "b"), -1);
    assert_int_equal(get(cache, "c"), 3);
    assert_int_equal(stats_of(cache).bytes, 90);
    assert_int_equal(stats_of(cache).evictions, 2);
    put(cache, "e", 5, 100);
    assert_int_equal(stats_of(cache).size, 1);
    close_and_check(cache);
}

static void a_value_over_a_limit_is_released_and_drops_its_forerunner(void **state) {
    (void)state;
    mf_lru *cache = cache_of(10, 100, 0);
    put(cache, "a", 1, 10);
    put(cache, "b", 2, 10);
    put(cache, "a", 3, 101);
    assert_int_equal(get(cache, "a"), -1); /* the old value would be out of date */
    assert_int_equal(get(cache, "b"), 2);
    assert_int_equal(atomic_load(&values_alive), 1);
    close_and_check(cache);
    cache = cache_of(0, 100, 0);
    put(cache, "a", 1, 1);
    assert_int_equal(get(cache, "a"), -1);
    close_and_check(cache);
}

static void replacing_counts_the_new_weight_and_is_no_eviction(void **state) {
    (void)state;
    mf_lru *cache = cache_of(2, 100, 0);
    put(cache, "a", 1, 90);
    put(cache, "b", 2, 5);
    put(cache, "a", 3, 95);
    assert_int_equal(get(cache, "a"), 3);
    assert_int_equal(get(cache, "b"), 2);
    assert_int_equal(stats_of(cache).bytes, 100);
    assert_int_equal(stats_of(cache).evictions, 0);
    close_and_check(cache);
}

static void age_runs_from_the_put_whatever_is_read(void **state) {
    (void)state;
    mf_clock_set(&test_clock);
    now_ns = 1000;
    mf_lru *cache = cache_of(10, 100, 50);
    put(cache, "a", 1, 1);
    now_ns += 49 * (int64_t)MF_NS_PER_MS;
    assert_int_equal(get(cache, "a"), 1); /* a hit does not renew the age */
    now_ns += MF_NS_PER_MS - 1;
    assert_int_equal(get(cache, "a"), 1);
    now_ns += 1;
    assert_int_equal(stats_of(cache).size, 1);
    assert_int_equal(get(cache, "a"), -1);
    mf_lru_stats stats = stats_of(cache);
    assert_int_equal(stats.size, 0);
    assert_int_equal(stats.bytes, 0);
    assert_int_equal(stats.expirations, 1);
    assert_int_equal(stats.evictions, 0);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.misses, 1);
    assert_int_equal(stats.ttl_ms, 50);
    put(cache, "a", 2, 1);
    now_ns += 49 * (int64_t)MF_NS_PER_MS;
    put(cache, "a", 3, 1); /* a put does */
    now_ns += 49 * (int64_t)MF_NS_PER_MS;
    assert_int_equal(get(cache, "a"), 3);
    close_and_check(cache);
    cache = cache_of(10, 100, 0);
    put(cache, "a", 1, 1);
    now_ns = INT64_MAX;
    assert_int_equal(get(cache, "a"), 1);
    close_and_check(cache);
    mf_clock_set(NULL);
}

static void a_value_in_use_outlives_its_entry(void **state) {
    (void)state;
    mf_lru *cache = cache_of(1, 100, 0);
    put(cache, "a", 1, 1);
    counted *held = mf_lru_get(cache, MF_STR("a"));
    put(cache, "b", 2, 1);
    assert_int_equal(get(cache, "a"), -1);
    mf_lru_close(cache);
    assert_int_equal(atomic_load(&values_alive), 1);
    assert_int_equal(held->number, 1);
    counted_release(held);
    assert_int_equal(atomic_load(&values_alive), 0);
}

static void remove_clear_and_shrink_drop_what_they_say(void **state) {
    (void)state;
    mf_lru *cache = cache_of(10, 100, 0);
    const char *keys[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++) {
        put(cache, keys[i], i, 2);
    }
    mf_lru_remove(cache, MF_STR("c"));
    mf_lru_remove(cache, MF_STR("none"));
    assert_int_equal(stats_of(cache).size, 4);
    assert_int_equal(stats_of(cache).evictions, 0);
    assert_int_equal(mf_lru_shrink(cache, 2), 2); /* a and b are the coldest */
    assert_int_equal(get(cache, "b"), -1);
    assert_int_equal(get(cache, "d"), 3);
    assert_int_equal(stats_of(cache).evictions, 2);
    assert_int_equal(stats_of(cache).bytes, 4);
    assert_int_equal(mf_lru_shrink(cache, 0), 0);
    mf_lru_clear(cache);
    mf_lru_stats stats = stats_of(cache);
    assert_int_equal(stats.size, 0);
    assert_int_equal(stats.bytes, 0);
    assert_int_equal(stats.hits, 1);
    assert_int_equal(stats.misses, 1);
    put(cache, "f", 1, 2);
    assert_int_equal(mf_lru_shrink(cache, 99), 1);
    close_and_check(cache);
}

static void keys_are_bytes_of_any_length(void **state) {
    (void)state;
    mf_lru *cache = cache_of(10, 100, 0);
    mf_lru_put(cache, MF_STR_NONE, counted_new(1), 1);
    mf_lru_put(cache, MF_STR("a\0b"), counted_new(2), 1);
    mf_lru_put(cache, MF_STR("a\0c"), counted_new(3), 1);
    assert_int_equal(stats_of(cache).size, 3);
    counted *value = mf_lru_get(cache, MF_STR("a\0b"));
    assert_int_equal(value->number, 2);
    counted_release(value);
    assert_int_equal(get(cache, ""), 1);
    close_and_check(cache);
}

/* The naive model: keys from coldest to hottest. */
typedef struct model {
    int keys[MODEL_KEYS];
    int numbers[MODEL_KEYS];
    size_t weights[MODEL_KEYS];
    size_t count;
} model;

static size_t model_find(const model *m, int key) {
    size_t i = 0;
    while (i < m->count && m->keys[i] != key) {
        i++;
    }
    return i;
}

static void model_cut(model *m, size_t at) {
    m->count--;
    for (size_t i = at; i < m->count; i++) {
        m->keys[i] = m->keys[i + 1];
        m->numbers[i] = m->numbers[i + 1];
        m->weights[i] = m->weights[i + 1];
    }
}

static void model_add(model *m, int key, int number, size_t weight) {
    m->keys[m->count] = key;
    m->numbers[m->count] = number;
    m->weights[m->count++] = weight;
}

static size_t model_bytes(const model *m) {
    size_t sum = 0;
    for (size_t i = 0; i < m->count; i++) {
        sum += m->weights[i];
    }
    return sum;
}

static void random_use_agrees_with_a_naive_model(void **state) {
    (void)state;
    const uint64_t seed = 77;
    print_message("seed %llu\n", (unsigned long long)seed);
    mf_rng rng;
    mf_rng_init(&rng, seed);
    model m = {.count = 0};
    mf_lru *cache = cache_of(8, 60, 0);
    for (int step = 0; step < 50000; step++) {
        int key = (int)mf_rng_below(&rng, MODEL_KEYS);
        char text[16];
        (void)snprintf(text, sizeof text, "%d", key);
        size_t at = model_find(&m, key);
        uint64_t action = mf_rng_below(&rng, 10);
        if (action < 5) {
            int number = at < m.count ? m.numbers[at] : -1;
            assert_int_equal(get(cache, text), number);
            if (at < m.count) {
                size_t weight = m.weights[at];
                model_cut(&m, at);
                model_add(&m, key, number, weight);
            }
        } else if (action < 9) {
            size_t weight = (size_t)mf_rng_below(&rng, 20);
            put(cache, text, step, weight);
            if (at < m.count) {
                model_cut(&m, at);
            }
            model_add(&m, key, step, weight);
            while (m.count > 8 || model_bytes(&m) > 60) {
                model_cut(&m, 0);
            }
        } else {
            mf_lru_remove(cache, mf_str_from(text));
            if (at < m.count) {
                model_cut(&m, at);
            }
        }
        mf_lru_stats stats = stats_of(cache);
        assert_int_equal(stats.size, m.count);
        assert_int_equal(stats.bytes, model_bytes(&m));
        assert_int_equal(atomic_load(&values_alive), m.count);
    }
    close_and_check(cache);
}

typedef struct crowd {
    mf_lru *cache;
    atomic_uint_fast64_t next_seed;
    atomic_int wrong;
} crowd;

/* Each key's value carries the key's number, so a mix-up would show. */
static void use_cache(void *arg) {
    crowd *c = arg;
    mf_rng rng;
    mf_rng_init(&rng, atomic_fetch_add(&c->next_seed, 1));
    for (int step = 0; step < STEPS; step++) {
        int key = (int)mf_rng_below(&rng, 40);
        mf_str name = {(const char *)&key, sizeof key};
        uint64_t action = mf_rng_below(&rng, 100);
        if (action < 60) {
            counted *value = mf_lru_get(c->cache, name);
            if (value != NULL) {
                if (value->number != key) {
                    atomic_fetch_add(&c->wrong, 1);
                }
                counted_release(value);
            }
        } else if (action < 95) {
            counted *value = mf_alloc(sizeof *value);
            if (value != NULL) {
                atomic_init(&value->refs, 1);
                value->number = key;
                atomic_fetch_add(&values_alive, 1);
                mf_lru_put(c->cache, name, value, 1);
            }
        } else if (action < 98) {
            mf_lru_remove(c->cache, name);
        } else {
            (void)mf_lru_shrink(c->cache, 3);
        }
    }
}

static void many_threads_share_a_cache(void **state) {
    (void)state;
    crowd c = {.cache = cache_of(16, 1000, 0), .next_seed = 1};
    mf_thread threads[THREADS] = {{.started = false}};
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&threads[i], "lru", use_cache, &c, NULL),
                         MF_OK);
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    assert_int_equal(atomic_load(&c.wrong), 0);
    mf_lru_stats stats = stats_of(c.cache);
    assert_true(stats.size <= 16);
    assert_true(stats.hits > 0 && stats.misses > 0 && stats.evictions > 0);
    assert_int_equal(atomic_load(&values_alive), stats.size);
    close_and_check(c.cache);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_lru_options options = {.name = "test",
                                  .count_max = 100,
                                  .bytes_max = 100,
                                  .release = counted_release,
                                  .share = counted_share};
        mf_lru *cache = NULL;
        mf_err err;
        if (mf_lru_open(&options, &cache, &err) != MF_OK) {
            assert_true(mf_fault_fired());
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(cache);
        }
        assert_in_range(n, 0, 2);
        mf_lru_close(cache);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static void a_put_without_memory_releases_both_values(void **state) {
    (void)state;
    mf_lru *cache = cache_of(10, 100, 0);
    put(cache, "a", 1, 1);
    put(cache, "b", 2, 1);
    counted *value = counted_new(3);
    mf_fault_arm(MF_FAULT_ALLOC, 0, false);
    mf_lru_put(cache, MF_STR("a"), value, 1);
    assert_true(mf_fault_fired());
    mf_fault_disarm();
    assert_int_equal(get(cache, "a"), -1);
    assert_int_equal(get(cache, "b"), 2);
    assert_int_equal(atomic_load(&values_alive), 1);
    put(cache, "a", 4, 1); /* the next try works */
    assert_int_equal(get(cache, "a"), 4);
    close_and_check(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_entry_unused_longest_leaves_first),
        cmocka_unit_test(the_byte_limit_evicts_as_many_as_it_takes),
        cmocka_unit_test(a_value_over_a_limit_is_released_and_drops_its_forerunner),
        cmocka_unit_test(replacing_counts_the_new_weight_and_is_no_eviction),
        cmocka_unit_test(age_runs_from_the_put_whatever_is_read),
        cmocka_unit_test(a_value_in_use_outlives_its_entry),
        cmocka_unit_test(remove_clear_and_shrink_drop_what_they_say),
        cmocka_unit_test(keys_are_bytes_of_any_length),
        cmocka_unit_test(random_use_agrees_with_a_naive_model),
        cmocka_unit_test(many_threads_share_a_cache),
        cmocka_unit_test(open_survives_each_failed_allocation),
        cmocka_unit_test(a_put_without_memory_releases_both_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
