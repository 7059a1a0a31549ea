/* rate_limit_test.c - a bucket empties, fills with time, and is each address's own. */
#include "http/rate_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"

static mf_rate_limit limit;

static int init(void **state) {
    (void)state;
    mf_rate_limit_init(&limit);
    return 0;
}

static int done(void **state) {
    (void)state;
    mf_rate_limit_done(&limit);
    return 0;
}

static const int64_t START_NS = 5 * (int64_t)MF_NS_PER_S;

static void a_minutes_worth_may_come_at_once_and_no_more(void **state) {
    (void)state;
    for (int i = 0; i < 60; i++) {
        assert_int_equal(mf_rate_limit_take(&limit, MF_STR("10.0.0.1"), 60, START_NS),
                         0);
    }
    assert_int_equal(mf_rate_limit_take(&limit, MF_STR("10.0.0.1"), 60, START_NS), 1);
    assert_int_equal(mf_rate_limit_take(&limit, MF_STR("10.0.0.2"), 60, START_NS), 0);
}

static void tokens_come_back_with_time_up_to_the_limit(void **state) {
    (void)state;
    int64_t now_ns = START_NS;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(mf_rate_limit_take(&limit, MF_STR("a"), 6, now_ns), 0);
    }
    assert_int_equal(mf_rate_limit_take(&limit, MF_STR("a"), 6, now_ns), 10);
    now_ns += 4 * (int64_t)MF_NS_PER_S;
    assert_int_equal(mf_rate_limit_take(&limit, MF_STR("a"), 6, now_ns), 6);
    now_ns += 7 * (int64_t)MF_NS_PER_S;
    assert_int_equal(mf_rate_limit_take(&limit, MF_STR("a"), 6, now_ns), 0);
    now_ns += 3600 * (int64_t)MF_NS_PER_S;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(mf_rate_limit_take(&limit, MF_STR("a"), 6, now_ns), 0);
    }
    assert_int_not_equal(mf_rate_limit_take(&limit, MF_STR("a"), 6, now_ns), 0);
}

static void many_addresses_only_ever_forget_debts(void **state) {
    (void)state;
    assert_int_equal(mf_rate_limit_take(&limit, MF_STR("busy"), 1, START_NS), 0);
    for (int i = 0; i < 100000; i++) {
        char address[32];
        int len = snprintf(address, sizeof address, "10.%d.%d.%d", i >> 16,
                           i >> 8 & 255, i & 255);
        mf_str peer = {address, (size_t)len};
        assert_int_equal(mf_rate_limit_take(&limit, peer, 1, START_NS + i), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_minutes_worth_may_come_at_once_and_no_more,
                                        init, done),
        cmocka_unit_test_setup_teardown(tokens_come_back_with_time_up_to_the_limit,
                                        init, done),
        cmocka_unit_test_setup_teardown(many_addresses_only_ever_forget_debts, init,
                                        done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
