/* histogram_test.c - percentiles stay within the stated error of the exact ones, and
 * nothing is lost between threads. */
#include "base/histogram.h"

#include <stdlib.h>

#include "base/mutex.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { DRAWS = 20000, THREADS = 4, EACH = 20000 };

static mf_histogram h, other;

static void near(uint64_t got, uint64_t exact) {
    uint64_t off = got > exact ? got - exact : exact - got;
    if (off * 32 > exact) {
        fail_msg("%llu is more than 1/32 from %llu", (unsigned long long)got,
                 (unsigned long long)exact);
    }
}

static void an_empty_one_is_all_zero(void **state) {
    (void)state;
    mf_histogram_reset(&h);
    mf_histogram_summary s;
    mf_histogram_get_summary(&h, &s);
    assert_int_equal(s.count, 0);
    assert_int_equal(s.p50, 0);
    assert_int_equal(s.p999, 0);
    assert_int_equal(s.max, 0);
}

static void a_single_value_is_found_everywhere(void **state) {
    (void)state;
    for (uint64_t value = 0; value < UINT64_C(1) << 40;
         value = value < 40 ? value + 1 : value * 3 / 2 + 1) {
        mf_histogram_reset(&h);
        mf_histogram_record(&h, value);
        near(mf_histogram_percentile(&h, 0), value);
        near(mf_histogram_percentile(&h, 0.5), value);
        near(mf_histogram_percentile(&h, 1), value);
        assert_int_equal(mf_histogram_count(&h), 1);
    }
}

static void every_edge_of_a_step_is_within_the_error(void **state) {
    (void)state;
    for (unsigned bit = 0; bit < MF_HISTOGRAM_VALUE_BITS; bit++) {
        for (uint64_t part = 0; part < 16; part++) {
            uint64_t edge = (UINT64_C(1) << bit) + (part << bit) / 16;
            uint64_t values[] = {edge, edge - 1};
            for (size_t i = 0; i < 2; i++) {
                mf_histogram_reset(&h);
                mf_histogram_record(&h, values[i]);
                mf_histogram_record(&h, UINT64_C(1) << 50); /* hides the exact max */
                near(mf_histogram_percentile(&h, 0.5), values[i]);
            }
        }
    }
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void percentiles_agree_with_sorting(void **state) {
    (void)state;
    static uint64_t values[DRAWS];
    mf_rng rng;
    mf_rng_init(&rng, 4711);
    mf_histogram_reset(&h);
    uint64_t sum = 0;
    for (size_t i = 0; i < DRAWS; i++) { /* from nanoseconds to minutes */
        values[i] = mf_rng_next(&rng) >> (27 + mf_rng_below(&rng, 30));
        sum += values[i];
        mf_histogram_record(&h, values[i]);
    }
    qsort(values, DRAWS, sizeof values[0], by_value);
    mf_histogram_summary s;
    mf_histogram_get_summary(&h, &s);
    near(s.p50, values[DRAWS / 2 - 1]);
    near(s.p90, values[DRAWS / 10 * 9 - 1]);
    near(s.p99, values[DRAWS / 100 * 99 - 1]);
    near(s.p999, values[DRAWS / 1000 * 999 - 1]);
    assert_true(s.count == DRAWS);
    assert_true(s.sum == sum);
    assert_true(s.max == values[DRAWS - 1]);
}

static void numbers_beyond_the_range_are_told_as_the_largest(void **state) {
    (void)state;
    mf_histogram_reset(&h);
    mf_histogram_record(&h, UINT64_C(1) << 45);
    mf_histogram_record(&h, UINT64_MAX >> 1);
    assert_true(mf_histogram_percentile(&h, 0.99) == UINT64_MAX >> 1);
}

static void merging_is_recording_both(void **state) {
    (void)state;
    mf_histogram_reset(&h);
    mf_histogram_reset(&other);
    for (uint64_t i = 1; i <= 1000; i++) {
        mf_histogram_record(i % 2 == 0 ? &h : &other, i * 1000);
    }
    mf_histogram_merge(&h, &other);
    mf_histogram_summary s;
    mf_histogram_get_summary(&h, &s);
    assert_int_equal(s.count, 1000);
    assert_int_equal(s.sum, 1000 * 1001 / 2 * 1000);
    assert_int_equal(s.max, 1000000);
    near(s.p50, 500000);
}

static void since_a_mark_only_the_new_counts(void **state) {
    (void)state;
    static mf_histogram_mark mark;
    mf_histogram_reset(&h);
    for (uint64_t i = 0; i < 100; i++) {
        mf_histogram_record(&h, 1000000);
    }
    mf_histogram_take_mark(&h, &mark);
    mf_histogram_summary s;
    mf_histogram_get_summary_since(&h, &mark, &s);
    assert_int_equal(s.count, 0);
    assert_int_equal(s.p99, 0);
    for (uint64_t i = 1; i <= 100; i++) {
        mf_histogram_record(&h, i * 1000);
    }
    mf_histogram_get_summary_since(&h, &mark, &s);
    assert_int_equal(s.count, 100);
    assert_int_equal(s.sum, 5050000);
    near(s.p50, 50000);
    near(s.p95, 95000);
    near(s.max, 100000);
}

static void cumulated_counts_rise_to_the_total(void **state) {
    (void)state;
    mf_histogram_reset(&h);
    for (uint64_t i = 1; i <= 1000; i++) {
        mf_histogram_record(&h, i * 1000);
    }
    static const uint64_t bounds[] = {500, 100000, 500000, 2000000};
    uint64_t below[4];
    assert_int_equal(mf_histogram_cumulate(&h, bounds, 4, below), 1000);
    assert_int_equal(below[0], 0);
    assert_in_range(below[1], 96, 104);
    assert_in_range(below[2], 484, 516);
    assert_int_equal(below[3], 1000);
}

static void record_many(void *arg) {
    (void)arg;
    for (uint64_t i = 0; i < EACH; i++) {
        mf_histogram_record(&h, i % 100);
    }
}

static void threads_lose_nothing(void **state) {
    (void)state;
    mf_histogram_reset(&h);
    mf_thread threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (mf_thread){.started = false};
        assert_int_equal(mf_thread_start(&threads[i], "test", record_many, NULL, NULL),
                         MF_OK);
    }
    for (int i = 0; i < 20; i++) { /* reading meanwhile harms nothing */
        assert_true(mf_histogram_percentile(&h, 0.5) < 100);
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_histogram_summary s;
    mf_histogram_get_summary(&h, &s);
    assert_int_equal(s.count, THREADS * EACH);
    assert_int_equal(s.sum, (uint64_t)THREADS * EACH / 100 * 4950);
    assert_int_equal(s.max, 99);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_is_all_zero),
        cmocka_unit_test(a_single_value_is_found_everywhere),
        cmocka_unit_test(every_edge_of_a_step_is_within_the_error),
        cmocka_unit_test(percentiles_agree_with_sorting),
        cmocka_unit_test(numbers_beyond_the_range_are_told_as_the_largest),
        cmocka_unit_test(merging_is_recording_both),
        cmocka_unit_test(since_a_mark_only_the_new_counts),
        cmocka_unit_test(cumulated_counts_rise_to_the_total),
        cmocka_unit_test(threads_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
