/* assert_test.c - a failed assertion ends the process, after the hook had its turn. */
#include "base/assert.h"

#include "base/test_death.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { HOOK_STATUS = 7 };

static void exit_in_hook(const char *condition, const char *file, int line) {
    (void)file;
    _exit(condition[0] == '1' && line > 0 ? HOOK_STATUS : 1);
}

static void fail_in_hook(const char *condition, const char *file, int line) {
    (void)condition;
    (void)file;
    MF_ASSERT(line < 0);
}

static void fail_check(void) {
    MF_ASSERT(1 == 2);
}

static void pass_check(void) {
    MF_ASSERT(2 == 2);
}

static void fail_with_exiting_hook(void) {
    mf_assert_set_hook(exit_in_hook);
    fail_check();
}

static void fail_with_failing_hook(void) {
    mf_assert_set_hook(fail_in_hook);
    fail_check();
}

static void false_condition_aborts(void **state) {
    (void)state;
    assert_true(mf_test_aborts(fail_check));
}

static void true_condition_does_nothing(void **state) {
    (void)state;
    assert_int_equal(mf_test_child_status(pass_check), 0);
}

static void hook_runs_first(void **state) {
    (void)state;
    int status = mf_test_child_status(fail_with_exiting_hook);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), HOOK_STATUS);
}

static void assertion_failing_in_the_hook_still_aborts(void **state) {
    (void)state;
    assert_true(mf_test_aborts(fail_with_failing_hook));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(false_condition_aborts),
        cmocka_unit_test(true_condition_does_nothing),
        cmocka_unit_test(hook_runs_first),
        cmocka_unit_test(assertion_failing_in_the_hook_still_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
