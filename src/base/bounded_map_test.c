/* bounded_map_test.c - a map keeps the keys used last, never more than its bound, and
 * agrees with a trivial one under random use. */
#include "base/bounded_map.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { KEY_MAX = 8, THREADS = 4, STEPS = 4000, MODEL_MAX = 6, MODEL_KEYS = 16 };

static mf_bounded_map *map_of(size_t max) {
    const mf_bounded_map_options options = {"test", max, KEY_MAX, sizeof(int)};
    mf_bounded_map *map = NULL;
    assert_int_equal(mf_bounded_map_open(&options, &map, NULL), MF_OK);
    return map;
}

static bool set(mf_bounded_map *map, const char *key, int value) {
    return mf_bounded_map_set(map, mf_str_from(key), &value);
}

static int get(mf_bounded_map *map, const char *key) {
    int value = -1;
    bool found = mf_bounded_map_get(map, mf_str_from(key), &value);
    assert_int_equal(found, value != -1);
    return value;
}

static mf_bounded_stats stats_of(mf_bounded_map *map) {
    mf_bounded_stats stats;
    mf_bounded_map_get_stats(map, &stats);
    return stats;
}

static void the_key_unused_longest_leaves(void **state) {
    (void)state;
    mf_bounded_map *map = map_of(3);
    assert_true(set(map, "a", 1));
    assert_true(set(map, "b", 2));
    assert_true(set(map, "c", 3));
    assert_int_equal(get(map, "a"), 1); /* reading uses */
    assert_true(set(map, "b", 20));     /* and so does writing */
    assert_true(set(map, "d", 4));
    assert_int_equal(get(map, "c"), -1);
    assert_int_equal(get(map, "a"), 1);
    assert_int_equal(get(map, "b"), 20);
    assert_int_equal(get(map, "d"), 4);
    assert_int_equal(mf_bounded_map_size(map), 3);
    mf_bounded_map_close(map);
    mf_bounded_map_close(NULL);
}

static void statistics_count_new_keys_only(void **state) {
    (void)state;
    mf_bounded_map *map = map_of(8);
    assert_true(set(map, "a", 1));
    assert_true(set(map, "a", 2));
    assert_true(set(map, "b", 2));
    mf_bounded_stats stats = stats_of(map);
    assert_string_equal(stats.name, "test");
    assert_int_equal(stats.current_size, 2);
    assert_int_equal(stats.max_size, 8);
    assert_int_equal(stats.total_items_added, 2);
    assert_true(stats.usage_percentage == 25.0);
    mf_bounded_map_clear(map);
    assert_int_equal(get(map, "a"), -1);
    assert_true(set(map, "a", 3));
    assert_int_equal(get(map, "a"), 3);
    assert_int_equal(stats_of(map).total_items_added, 3);
    assert_int_equal(stats_of(map).current_size, 1);
    mf_bounded_map_close(map);
}

static void a_key_too_long_is_refused(void **state) {
    (void)state;
    mf_bounded_map *map = map_of(2);
    assert_true(set(map, "12345678", 1));
    assert_false(set(map, "123456789", 2));
    assert_int_equal(get(map, "12345678"), 1);
    assert_int_equal(get(map, "123456789"), -1);
    assert_true(set(map, "", 5)); /* an empty one is a key */
    assert_int_equal(get(map, ""), 5);
    mf_bounded_map_close(map);
}

static void add_to(void *value, const void *arg) {
    *(int *)value += *(const int *)arg;
}

static void an_update_starts_from_zero_also_in_a_used_place(void **state) {
    (void)state;
    mf_bounded_map *map = map_of(1);
    int two = 2;
    assert_true(mf_bounded_map_update(map, MF_STR("a"), add_to, &two));
    assert_true(mf_bounded_map_update(map, MF_STR("a"), add_to, &two));
    assert_int_equal(get(map, "a"), 4);
    assert_true(mf_bounded_map_update(map, MF_STR("b"), add_to, &two));
    assert_int_equal(get(map, "b"), 2);
    assert_false(mf_bounded_map_update(map, MF_STR("123456789"), add_to, &two));
    mf_bounded_map_close(map);
}

static void recent_entries_come_last_used_first(void **state) {
    (void)state;
    mf_bounded_map *map = map_of(4);
    assert_true(set(map, "a", 1));
    assert_true(set(map, "b", 2));
    assert_true(set(map, "c", 3));
    assert_int_equal(get(map, "a"), 1);
    char keys[3][KEY_MAX];
    int values[3];
    assert_int_equal(mf_bounded_map_get_recent(map, keys, values, 2), 2);
    assert_int_equal(values[0], 1);
    assert_int_equal(values[1], 3);
    assert_memory_equal(keys[0], "a\0\0\0\0\0\0\0", KEY_MAX);
    assert_memory_equal(keys[1], "c\0\0\0\0\0\0\0", KEY_MAX);
    assert_int_equal(mf_bounded_map_get_recent(map, NULL, values, 3), 3);
    assert_int_equal(values[2], 2);
    mf_bounded_map_close(map);
}

/* The same thing, as simple as can be: entries in order of use, hottest first. */
typedef struct model {
    int keys[MODEL_MAX], values[MODEL_MAX];
    int count;
} model;

static int model_find(const model *m, int key) {
    for (int i = 0; i < m->count; i++) {
        if (m->keys[i] == key) {
            return i;
        }
    }
    return -1;
}

static void model_use(model *m, int key, int value) {
    int at = model_find(m, key);
    if (at < 0) {
        at = m->count < MODEL_MAX ? m->count++ : MODEL_MAX - 1;
    }
    for (; at > 0; at--) {
        m->keys[at] = m->keys[at - 1];
        m->values[at] = m->values[at - 1];
    }
    m->keys[0] = key;
    m->values[0] = value;
}

static void random_use_agrees_with_the_model(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 20);
    mf_bounded_map *map = map_of(MODEL_MAX);
    model m = {.count = 0};
    for (int step = 0; step < STEPS; step++) {
        int key = (int)mf_rng_below(&rng, MODEL_KEYS);
        char name[KEY_MAX + 1];
        (void)snprintf(name, sizeof name, "k%d", key);
        if (mf_rng_below(&rng, 500) == 0) {
            mf_bounded_map_clear(map);
            m.count = 0;
        } else if (mf_rng_below(&rng, 2) == 0) {
            assert_true(set(map, name, step));
            model_use(&m, key, step);
        } else {
            int at = model_find(&m, key);
            assert_int_equal(get(map, name), at < 0 ? -1 : m.values[at]);
            if (at >= 0) {
                model_use(&m, key, m.values[at]);
            }
        }
        assert_int_equal(mf_bounded_map_size(map), m.count);
    }
    mf_bounded_map_close(map);
}

static void count_up(void *p) {
    const int one = 1;
    for (int i = 0; i < STEPS; i++) {
        const char *key = i % 2 == 0 ? "even" : "odd";
        assert_true(mf_bounded_map_update(p, mf_str_from(key), add_to, &one));
        (void)get(p, "even");
    }
}

static void updates_of_threads_all_count(void **state) {
    (void)state;
    mf_bounded_map *map = map_of(2);
    mf_thread threads[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&threads[i], "count", count_up, map, NULL),
                         MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    assert_int_equal(get(map, "even"), THREADS * STEPS / 2);
    assert_int_equal(get(map, "odd"), THREADS * STEPS / 2);
    mf_bounded_map_close(map);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    const mf_bounded_map_options options = {"test", 4, KEY_MAX, sizeof(int)};
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_bounded_map *map = NULL;
        mf_err err;
        if (mf_bounded_map_open(&options, &map, &err) != MF_OK) {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(map);
        }
        mf_bounded_map_close(map);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_unused_longest_leaves),
        cmocka_unit_test(statistics_count_new_keys_only),
        cmocka_unit_test(a_key_too_long_is_refused),
        cmocka_unit_test(an_update_starts_from_zero_also_in_a_used_place),
        cmocka_unit_test(recent_entries_come_last_used_first),
        cmocka_unit_test(random_use_agrees_with_the_model),
        cmocka_unit_test(updates_of_threads_all_count),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
