/* fault_test.c - a point fails at the hit it was armed for, and nowhere else. */
#include "base/fault.h"

#include "base/test_death.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void unarmed_points_never_fail(void **state) {
    (void)state;
    mf_fault_disarm();
    for (int i = 0; i < 100; i++) {
        assert_false(mf_fault_hit("a"));
    }
    mf_fault_arm("a", 0, true);
    assert_false(mf_fault_hit("b"));
    assert_false(mf_fault_fired());
    mf_fault_disarm();
    assert_false(mf_fault_hit("a"));
}

static void a_point_fails_once_at_its_hit(void **state) {
    (void)state;
    mf_fault_arm("a", 2, false);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(mf_fault_hit("a"), i == 2);
        assert_int_equal(mf_fault_fired(), i >= 2);
    }
    mf_fault_disarm();
    assert_true(mf_fault_fired()); /* since the last arm */
}

static void for_ever_fails_from_its_hit_on(void **state) {
    (void)state;
    mf_fault_arm("a", 3, true);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(mf_fault_hit("a"), i >= 3);
    }
    mf_fault_disarm();
}

static void points_count_apart_and_arming_again_starts_over(void **state) {
    (void)state;
    mf_fault_arm("a", 1, false);
    mf_fault_arm("b", 0, false);
    assert_false(mf_fault_hit("a"));
    assert_true(mf_fault_hit("b"));
    assert_true(mf_fault_hit("a"));
    mf_fault_arm("a", 1, false);
    assert_false(mf_fault_fired());
    assert_false(mf_fault_hit("a"));
    assert_true(mf_fault_hit("a"));
    mf_fault_disarm();
}

static void each_fault_visits_every_hit_and_one_clean_run(void **state) {
    (void)state;
    size_t runs = 0;
    size_t failures = 0;
    MF_EACH_FAULT("a", n) {
        assert_int_equal(n, runs);
        for (size_t i = 0; i < 4; i++) {
            bool hit = mf_fault_hit("a");
            assert_int_equal(hit, i == n);
            failures += hit;
        }
        runs++;
    }
    assert_int_equal(runs, 5);
    assert_int_equal(failures, 4);
    assert_false(mf_fault_hit("a")); /* disarmed afterwards */
}

static const char *env_value;

static void hit_three_times(void) {
    (void)setenv("MEMFUSE_FAULT", env_value, 1);
    mf_fault_setup_from_env();
    for (int i = 0; i < 3; i++) {
        if (mf_fault_hit("store.commit")) {
            _exit(10 + i);
        }
    }
}

static int status_with_env(const char *value) {
    env_value = value;
    return mf_test_child_status(hit_three_times);
}

static void environment_arms_each_action(void **state) {
    (void)state;
    int status = status_with_env("store.commit:1:fail");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 11);
    status = status_with_env("store.commit:2:kill");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = status_with_env("store.commit:0:exit");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == MF_FAULT_EXIT_STATUS);
    assert_int_equal(status_with_env("store.commit:0:delay"), 0);
    assert_int_equal(status_with_env("store.other:0:kill"), 0);
    assert_int_equal(status_with_env(""), 0);
}

static void malformed_environment_aborts(void **state) {
    (void)state;
    const char *values[] = {"a",
                            "a:0",
                            "a:0:",
                            "a:0:boom",
                            "a:x:fail",
                            ":0:fail",
                            "a:-1:fail",
                            "a:0:fail:1",
                            "a-name-longer-than-any-point-has-in-this-program:0:fail"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        env_value = values[i];
        assert_true(mf_test_aborts(hit_three_times));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unarmed_points_never_fail),
        cmocka_unit_test(a_point_fails_once_at_its_hit),
        cmocka_unit_test(for_ever_fails_from_its_hit_on),
        cmocka_unit_test(points_count_apart_and_arming_again_starts_over),
        cmocka_unit_test(each_fault_visits_every_hit_and_one_clean_run),
        cmocka_unit_test(environment_arms_each_action),
        cmocka_unit_test(malformed_environment_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
