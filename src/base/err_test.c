/* err_test.c - an error report is filled once, wrapped on the way out, and never holds
 * half a character. */
#include "base/err.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void fail_fills_every_part_of_the_report(void **state) {
    (void)state;
    mf_err err;
    memset(&err, 0x5A, sizeof err);
    int line = __LINE__ + 1;
    mf_rc rc = MF_FAIL_SYS(&err, MF_E_IO, 5, "cannot read '%s'", "a.txt");
    assert_int_equal(rc, MF_E_IO);
    assert_int_equal(err.rc, MF_E_IO);
    assert_int_equal(err.sys, 5);
    assert_int_equal(err.line, line);
    assert_non_null(strstr(err.file, "err_test.c"));
    assert_string_equal(err.field, "");
    assert_string_equal(err.text, "cannot read 'a.txt'");
}

static void field_names_what_is_to_blame(void **state) {
    (void)state;
    mf_err err;
    mf_rc rc = MF_FAIL_FIELD(&err, MF_E_INVAL, "top_k", "%d is too many", 9);
    assert_int_equal(rc, MF_E_INVAL);
    assert_string_equal(err.field, "top_k");
    assert_string_equal(err.text, "9 is too many");
}

static void report_is_optional(void **state) {
    (void)state;
    assert_int_equal(MF_FAIL(NULL, MF_E_BUSY, "full"), MF_E_BUSY);
    assert_int_equal(mf_err_wrap(NULL, MF_E_BUSY, "outer"), MF_E_BUSY);
}

static void wrap_puts_the_context_in_front(void **state) {
    (void)state;
    mf_err err;
    (void)MF_FAIL_SYS(&err, MF_E_IO, 5, "short read");
    int line = err.line;
    assert_int_equal(mf_err_wrap(&err, MF_E_CORRUPT, "loading '%s'", "m"),
                     MF_E_CORRUPT);
    assert_string_equal(err.text, "loading 'm': short read");
    assert_int_equal(err.rc, MF_E_CORRUPT);
    assert_int_equal(err.sys, 5);
    assert_int_equal(err.line, line); /* still where it was raised */
}

static void report_may_be_its_own_argument(void **state) {
    (void)state;
    mf_err err;
    (void)MF_FAIL_FIELD(&err, MF_E_IO, "name", "inner");
    (void)MF_FAIL_FIELD(&err, MF_E_IO, err.field, "outer of %s", err.text);
    assert_string_equal(err.text, "outer of inner");
    assert_string_equal(err.field, "name");
}

static void long_texts_are_cut_between_characters(void **state) {
    (void)state;
    /* Three-byte characters behind 0, 1 and 2 letters: the limit falls at each
     * place. */
    for (size_t pad = 0; pad < 3; pad++) {
        char text[600] = "";
        memset(text, 'x', pad);
        for (size_t i = pad; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xE2\x82\xAC", 4);
        }
        mf_err err;
        (void)MF_FAIL_FIELD(&err, MF_E_INVAL, text, "%s", text);
        size_t len = strlen(err.text);
        assert_in_range(len, MF_ERR_TEXT_MAX - 3, MF_ERR_TEXT_MAX - 1);
        assert_int_equal((len - pad) % 3, 0);
        assert_int_equal((strlen(err.field) - pad) % 3, 0);
        (void)mf_err_wrap(&err, MF_E_INVAL, "%s", text);
        assert_int_equal((strlen(err.text) - pad) % 3, 0);
        (void)MF_FAIL(&err, MF_E_INVAL, "%s", text);
        (void)mf_err_wrap(&err, MF_E_INVAL, "ab");
        assert_memory_equal(err.text, "ab: ", 4);
        assert_int_equal((strlen(err.text) - 4 - pad) % 3, 0);
    }
}

static mf_rc tries(mf_rc first) {
    MF_TRY(first);
    return MF_E_BUSY;
}

static void try_passes_failures_up_and_successes_on(void **state) {
    (void)state;
    assert_int_equal(tries(MF_E_IO), MF_E_IO);
    assert_int_equal(tries(MF_OK), MF_E_BUSY);
}

static void every_code_has_a_distinct_name_and_a_status(void **state) {
    (void)state;
    for (mf_rc a = MF_OK; a < MF_RC_COUNT; a++) {
        assert_true(strlen(mf_rc_name(a)) > 0);
        assert_true(strlen(mf_rc_meaning(a)) > 0);
        assert_in_range(mf_rc_http_status(a), 200, 599);
        for (mf_rc b = MF_OK; b < a; b++) {
            assert_string_not_equal(mf_rc_name(a), mf_rc_name(b));
        }
    }
    assert_string_equal(mf_rc_name(MF_E_BUSY), "busy");
    assert_int_equal(mf_rc_http_status(MF_E_BUSY), 503);
    assert_true(mf_rc_can_retry(MF_E_BUSY));
    assert_false(mf_rc_can_retry(MF_E_INVAL));
}

static void unknown_codes_are_told_as_bugs(void **state) {
    (void)state;
    assert_string_equal(mf_rc_name((mf_rc)999), "internal");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_fills_every_part_of_the_report),
        cmocka_unit_test(field_names_what_is_to_blame),
        cmocka_unit_test(report_is_optional),
        cmocka_unit_test(wrap_puts_the_context_in_front),
        cmocka_unit_test(report_may_be_its_own_argument),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(try_passes_failures_up_and_successes_on),
        cmocka_unit_test(every_code_has_a_distinct_name_and_a_status),
        cmocka_unit_test(unknown_codes_are_told_as_bugs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
