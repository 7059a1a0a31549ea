/* retry_test.c - every policy of the table waits longer each time, never longer than it
 * says, and gives up when it says. */
#include "base/retry.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void every_policy_has_sane_figures(void **state) {
    (void)state;
    for (int i = 0; i < MF_RETRY_COUNT; i++) {
        const mf_retry_row *row = mf_retry_get((mf_retry_policy)i);
        assert_non_null(row->name);
        assert_true(row->first_ms > 0);
        assert_true(row->cap_ms >= row->first_ms);
        assert_in_range(row->factor, 2, 10);
        assert_in_range(row->jitter_percent, 1, 100);
    }
}

static void waits_grow_to_the_cap_and_stay_there(void **state) {
    (void)state;
    for (int i = 0; i < MF_RETRY_COUNT; i++) {
        mf_retry_policy policy = (mf_retry_policy)i;
        const mf_retry_row *row = mf_retry_get(policy);
        int64_t cap_ns = row->cap_ms * MF_NS_PER_MS;
        int64_t last_ns = mf_retry_delay_ns(policy, 1, NULL);
        assert_int_equal(last_ns, row->first_ms * MF_NS_PER_MS);
        assert_int_equal(mf_retry_delay_ns(policy, 0, NULL), last_ns);
        for (unsigned n = 2; n < 40; n++) {
            int64_t delay_ns = mf_retry_delay_ns(policy, n, NULL);
            assert_true(delay_ns == cap_ns || delay_ns == last_ns * row->factor);
            last_ns = delay_ns;
        }
        assert_int_equal(last_ns, cap_ns);
        assert_int_equal(mf_retry_delay_ns(policy, UINT32_MAX, NULL), cap_ns);
    }
}

static void jitter_only_shortens_and_spreads(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 20261121);
    for (int i = 0; i < MF_RETRY_COUNT; i++) {
        mf_retry_policy policy = (mf_retry_policy)i;
        int64_t full_ns = mf_retry_delay_ns(policy, 3, NULL);
        int64_t least_ns =
            full_ns - full_ns / 100 * mf_retry_get(policy)->jitter_percent;
        int64_t low_ns = INT64_MAX;
        int64_t high_ns = 0;
        for (int draw = 0; draw < 1000; draw++) {
            int64_t delay_ns = mf_retry_delay_ns(policy, 3, &rng);
            low_ns = delay_ns < low_ns ? delay_ns : low_ns;
            high_ns = delay_ns > high_ns ? delay_ns : high_ns;
        }
        assert_true(low_ns >= least_ns);
        assert_true(high_ns <= full_ns);
        /* A thousand draws come near both ends. */
        assert_true(high_ns - low_ns > (full_ns - least_ns) / 10 * 9);
    }
}

static void the_last_try_of_the_table_is_the_last(void **state) {
    (void)state;
    for (int i = 0; i < MF_RETRY_COUNT; i++) {
        mf_retry_policy policy = (mf_retry_policy)i;
        unsigned tries = mf_retry_get(policy)->tries;
        if (tries == 0) {
            assert_true(mf_retry_allowed(policy, UINT32_MAX));
        } else {
            assert_true(mf_retry_allowed(policy, tries - 1));
            assert_false(mf_retry_allowed(policy, tries));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_has_sane_figures),
        cmocka_unit_test(waits_grow_to_the_cap_and_stay_there),
        cmocka_unit_test(jitter_only_shortens_and_spreads),
        cmocka_unit_test(the_last_try_of_the_table_is_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
