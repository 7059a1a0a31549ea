/* map_test.c - a map agrees with a naive list through random use, keeps its bound, and
 * survives each failed allocation unchanged. */
#include "base/map.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { KEYS = 300, STEPS = 60000, MODEL_MAX = 200 };

static const uint64_t seed = 20240607;

/* The naive model: one place per possible key. */
typedef struct model {
    void *values[KEYS];
    size_t count;
} model;

/* Keys of 0 to 40 bytes, on both sides of what fits into an entry. */
static mf_str key_text(size_t i, char *text) {
    static const char tail[] = "0123456789012345678901234567890123456";
    int n = i == 0 ? 0 : snprintf(text, 64, "%zu%.*s", i, (int)(i % 37), tail);
    return (mf_str){text, (size_t)n};
}

static void check_against_model(const mf_map *map, const model *m) {
    assert_int_equal(mf_map_count(map), m->count);
    char text[64];
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(mf_map_get(map, key_text(i, text)), m->values[i]);
    }
    size_t cursor = 0;
    size_t met = 0;
    mf_str key;
    void *value = NULL;
    while (mf_map_next(map, &cursor, &key, &value)) {
        assert_ptr_equal(mf_map_get(map, key), value);
        met++;
    }
    assert_int_equal(met, m->count);
}

static void random_use_agrees_with_a_naive_model(void **state) {
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    static char values[STEPS];
    model m = {0};
    mf_rng rng;
    mf_rng_init(&rng, seed);
    size_t live = mf_alloc_live();
    mf_map *map = NULL;
    assert_int_equal(mf_map_new(MODEL_MAX, &map, NULL), MF_OK);
    for (size_t step = 0; step < STEPS; step++) {
        char text[64];
        size_t i = (size_t)mf_rng_below(&rng, KEYS);
        mf_str key = key_text(i, text);
        bool fill = step / 5000 % 2 == 0; /* grows and shrinks in turn */
        if (mf_rng_below(&rng, 10) < (fill ? 7u : 3u)) {
            void *old = &old;
            mf_rc rc = mf_map_put(map, key, &values[step], &old);
            if (m.values[i] == NULL && m.count == MODEL_MAX) {
                assert_int_equal(rc, MF_E_LIMIT);
                assert_ptr_equal(old, &old);
            } else {
                assert_int_equal(rc, MF_OK);
                assert_ptr_equal(old, m.values[i]);
                m.count += m.values[i] == NULL;
                m.values[i] = &values[step];
            }
        } else {
            assert_ptr_equal(mf_map_remove(map, key), m.values[i]);
            m.count -= m.values[i] != NULL;
            m.values[i] = NULL;
        }
        if (step % 997 == 0) {
            check_against_model(map, &m);
        }
    }
    check_against_model(map, &m);
    mf_map_free(map);
    assert_int_equal(mf_alloc_live(), live);
}

static void empty_map_has_nothing(void **state) {
    (void)state;
    mf_map *map = NULL;
    assert_int_equal(mf_map_new(1, &map, NULL), MF_OK);
    size_t cursor = 0;
    mf_str key;
    void *value = NULL;
    assert_null(mf_map_get(map, MF_STR("a")));
    assert_null(mf_map_remove(map, MF_STR("a")));
    assert_false(mf_map_next(map, &cursor, &key, &value));
    mf_map_free(map);
    mf_map_free(NULL);
}

static void keys_are_copied_and_compared_as_bytes(void **state) {
    (void)state;
    mf_map *map = NULL;
    int one = 1;
    int two = 2;
    assert_int_equal(mf_map_new(10, &map, NULL), MF_OK);
    char bytes[] = "a\0b";
    assert_int_equal(mf_map_put(map, (mf_str){bytes, 3}, &one, NULL), MF_OK);
    assert_int_equal(mf_map_put(map, MF_STR_NONE, &two, NULL), MF_OK);
    bytes[0] = 'x';
    assert_ptr_equal(mf_map_get(map, MF_STR("a\0b")), &one);
    assert_null(mf_map_get(map, MF_STR("a")));
    assert_ptr_equal(mf_map_get(map, MF_STR("")), &two);
    mf_map_free(map);
}

static void full_map_refuses_new_keys_and_replaces_old_ones(void **state) {
    (void)state;
    mf_map *map = NULL;
    int one = 1;
    int two = 2;
    void *old = NULL;
    assert_int_equal(mf_map_new(1, &map, NULL), MF_OK);
    assert_int_equal(mf_map_put(map, MF_STR("a"), &one, NULL), MF_OK);
    assert_int_equal(mf_map_put(map, MF_STR("b"), &two, NULL), MF_E_LIMIT);
    assert_int_equal(mf_map_put(map, MF_STR("a"), &two, &old), MF_OK);
    assert_ptr_equal(old, &one);
    assert_ptr_equal(mf_map_get(map, MF_STR("a")), &two);
    assert_null(mf_map_get(map, MF_STR("b")));
    mf_map_free(map);
}

static void each_failed_allocation_leaves_the_map_as_it_was(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_map *map = NULL;
        mf_err err;
        if (mf_map_new(100, &map, &err) != MF_OK) {
            assert_true(mf_fault_fired());
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(map);
            continue;
        }
        int value = 0;
        char text[64];
        size_t put = 0;
        for (size_t i = 1; i <= 40; i++) {
            size_t before = mf_map_count(map);
            void *old = &value;
            mf_rc rc = mf_map_put(map, key_text(i, text), &value, &old);
            if (rc == MF_OK) {
                put++;
                assert_null(old);
            } else {
                assert_int_equal(rc, MF_E_NOMEM);
                assert_true(mf_fault_fired());
                assert_int_equal(mf_map_count(map), before);
                assert_null(mf_map_get(map, key_text(i, text)));
                assert_ptr_equal(old, &value);
            }
        }
        assert_int_equal(put, mf_fault_fired() ? 39 : 40);
        assert_int_equal(mf_map_count(map), put);
        mf_map_free(map);
        assert_int_equal(mf_alloc_live(), live);
    }
    assert_int_equal(mf_alloc_live(), live);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use_agrees_with_a_naive_model),
        cmocka_unit_test(empty_map_has_nothing),
        cmocka_unit_test(keys_are_copied_and_compared_as_bytes),
        cmocka_unit_test(full_map_refuses_new_keys_and_replaces_old_ones),
        cmocka_unit_test(each_failed_allocation_leaves_the_map_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
