/* clock_test.c - the process follows the clock put in place; deadlines never wrap. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

typedef struct fixed_time {
    int64_t mono_ns;
    int64_t wall_us;
} fixed_time;

static int64_t fixed_mono(void *ctx) {
    return ((fixed_time *)ctx)->mono_ns;
}

static int64_t fixed_wall(void *ctx) {
    return ((fixed_time *)ctx)->wall_us;
}

static void system_time_never_goes_back(void **state) {
    (void)state;
    int64_t last = mf_now_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = mf_now_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void wall_clock_counts_microseconds_since_1970(void **state) {
    (void)state;
    int64_t us = mf_wall_us();
    assert_true(us > INT64_C(1600000000000000)); /* the year 2020 */
    assert_true(us < INT64_C(7000000000000000)); /* the year 2191 */
}

static void another_clock_takes_over_until_restored(void **state) {
    (void)state;
    fixed_time time = {.mono_ns = 77, .wall_us = 88};
    const mf_clock clock = {fixed_mono, fixed_wall, &time};
    mf_clock_set(&clock);
    assert_int_equal(mf_now_ns(), 77);
    assert_int_equal(mf_now_coarse_ns(), 77);
    assert_int_equal(mf_wall_us(), 88);
    mf_clock_set(NULL);
    assert_int_not_equal(mf_wall_us(), 88);
}

static void deadlines_add_up_and_saturate(void **state) {
    (void)state;
    fixed_time time = {.mono_ns = 1000};
    const mf_clock clock = {fixed_mono, fixed_wall, &time};
    mf_clock_set(&clock);
    assert_int_equal(mf_deadline_in_ms(0), 1000);
    assert_int_equal(mf_deadline_in_ms(5), 5001000);
    assert_true(mf_deadline_in_ms(-1) == MF_NEVER);
    assert_true(mf_deadline_in_ms(INT64_MAX) == MF_NEVER);
    assert_true(mf_deadline_in_ms(INT64_MAX / MF_NS_PER_MS) ==
                MF_NEVER - 775807 + 1000);
    time.mono_ns = INT64_MAX - 10;
    assert_true(mf_deadline_in_ms(1) == MF_NEVER);
    mf_clock_set(NULL);
}

static void the_coarse_clock_is_the_same_clock_a_tick_behind(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        int64_t before = mf_now_coarse_ns();
        int64_t exact = mf_now_ns();
        assert_true(before <= exact);
        assert_true(mf_now_coarse_ns() >= before);
    }
    assert_true(mf_now_ns() - mf_now_coarse_ns() < MF_NS_PER_S);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(system_time_never_goes_back),
        cmocka_unit_test(wall_clock_counts_microseconds_since_1970),
        cmocka_unit_test(another_clock_takes_over_until_restored),
        cmocka_unit_test(deadlines_add_up_and_saturate),
        cmocka_unit_test(the_coarse_clock_is_the_same_clock_a_tick_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
