/* bounded_list_test.c - a list keeps the newest items in order, never more than its
 * bound, and none is torn by threads. */
#include "base/bounded_list.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BOUND = 4, THREADS = 4, STEPS = 5000 };

static mf_bounded_list *list_of(size_t max) {
    mf_bounded_list *list = NULL;
    assert_int_equal(mf_bounded_list_open("numbers", max, sizeof(int), &list, NULL),
                     MF_OK);
    return list;
}

static void append(mf_bounded_list *list, int number) {
    mf_bounded_list_append(list, &number);
}

static void a_full_list_lets_the_oldest_leave(void **state) {
    (void)state;
    mf_bounded_list *list = list_of(BOUND);
    int all[BOUND];
    assert_int_equal(mf_bounded_list_get_all(list, all), 0);
    for (int i = 1; i <= 3; i++) {
        append(list, i);
    }
    assert_int_equal(mf_bounded_list_get_all(list, all), 3);
    assert_int_equal(all[0], 1);
    assert_int_equal(all[2], 3);
    for (int i = 4; i <= 10; i++) {
        append(list, i);
        assert_int_equal(mf_bounded_list_size(list), BOUND);
    }
    assert_int_equal(mf_bounded_list_get_all(list, all), BOUND);
    for (int i = 0; i < BOUND; i++) {
        assert_int_equal(all[i], 7 + i);
    }
    mf_bounded_list_close(list);
    mf_bounded_list_close(NULL);
}

static void recent_items_come_newest_first(void **state) {
    (void)state;
    mf_bounded_list *list = list_of(BOUND);
    int recent[10] = {0};
    for (int i = 1; i <= 6; i++) {
        append(list, i);
    }
    assert_int_equal(mf_bounded_list_get_recent(list, recent, 2), 2);
    assert_int_equal(recent[0], 6);
    assert_int_equal(recent[1], 5);
    assert_int_equal(recent[2], 0);
    assert_int_equal(mf_bounded_list_get_recent(list, recent, 10), BOUND);
    assert_int_equal(recent[3], 3);
    assert_int_equal(mf_bounded_list_get_recent(list, recent, 0), 0);
    mf_bounded_list_close(list);
}

static void many_at_once_leave_the_last_ones(void **state) {
    (void)state;
    mf_bounded_list *list = list_of(BOUND);
    const int many[] = {1, 2, 3, 4, 5, 6, 7};
    int all[BOUND];
    mf_bounded_list_extend(list, many, 2);
    assert_int_equal(mf_bounded_list_size(list), 2);
    mf_bounded_list_extend(list, many, 7);
    assert_int_equal(mf_bounded_list_get_all(list, all), BOUND);
    assert_int_equal(all[0], 4);
    assert_int_equal(all[3], 7);
    mf_bounded_stats stats;
    mf_bounded_list_get_stats(list, &stats);
    assert_int_equal(stats.total_items_added, 9);
    mf_bounded_list_close(list);
}

static void statistics_tell_use_to_one_decimal(void **state) {
    (void)state;
    mf_bounded_list *list = list_of(3);
    mf_bounded_stats stats;
    mf_bounded_list_get_stats(list, &stats);
    assert_string_equal(stats.name, "numbers");
    assert_int_equal(stats.current_size, 0);
    assert_int_equal(stats.max_size, 3);
    assert_int_equal(stats.total_items_added, 0);
    assert_true(stats.usage_percentage == 0.0);
    append(list, 1);
    mf_bounded_list_get_stats(list, &stats);
    assert_true(stats.usage_percentage == 33.3);
    append(list, 2);
    mf_bounded_list_get_stats(list, &stats);
    assert_true(stats.usage_percentage == 66.7);
    for (int i = 0; i < 10; i++) {
        append(list, i);
    }
    mf_bounded_list_get_stats(list, &stats);
    assert_true(stats.usage_percentage == 100.0);
    assert_int_equal(stats.total_items_added, 12);
    mf_bounded_list_clear(list);
    mf_bounded_list_get_stats(list, &stats);
    assert_int_equal(stats.current_size, 0);
    assert_int_equal(stats.total_items_added, 12);
    append(list, 77);
    int one = 0;
    assert_int_equal(mf_bounded_list_get_all(list, &one), 1);
    assert_int_equal(one, 77);
    mf_bounded_list_close(list);
}

typedef struct pair {
    uint64_t number, twice;
} pair;

static void write_pairs(void *p) {
    for (uint64_t i = 0; i < STEPS; i++) {
        pair item = {i, 2 * i};
        mf_bounded_list_append(p, &item);
    }
}

static void read_pairs(void *p) {
    for (int i = 0; i < STEPS / 10; i++) {
        pair items[BOUND];
        size_t count = mf_bounded_list_get_recent(p, items, BOUND);
        for (size_t k = 0; k < count; k++) {
            assert_int_equal(items[k].twice, 2 * items[k].number);
        }
    }
}

static void no_item_is_torn_by_threads(void **state) {
    (void)state;
    mf_bounded_list *list = NULL;
    assert_int_equal(mf_bounded_list_open("pairs", BOUND, sizeof(pair), &list, NULL),
                     MF_OK);
    mf_thread threads[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&threads[i], "pairs",
                                         i % 2 == 0 ? write_pairs : read_pairs, list,
                                         NULL),
                         MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_bounded_stats stats;
    mf_bounded_list_get_stats(list, &stats);
    assert_int_equal(stats.total_items_added, STEPS * THREADS / 2);
    mf_bounded_list_close(list);
}

static void open_says_when_it_cannot(void **state) {
    (void)state;
    mf_err err;
    mf_bounded_list *list = NULL;
    assert_int_equal(mf_bounded_list_open("huge", SIZE_MAX / 2, 8, &list, &err),
                     MF_E_LIMIT);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        list = NULL;
        if (mf_bounded_list_open("few", 2, 8, &list, &err) != MF_OK) {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(list);
        }
        mf_bounded_list_close(list);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_list_lets_the_oldest_leave),
        cmocka_unit_test(recent_items_come_newest_first),
        cmocka_unit_test(many_at_once_leave_the_last_ones),
        cmocka_unit_test(statistics_tell_use_to_one_decimal),
        cmocka_unit_test(no_item_is_torn_by_threads),
        cmocka_unit_test(open_says_when_it_cannot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
