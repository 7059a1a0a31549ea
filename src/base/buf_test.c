/* buf_test.c - a buffer grows to its maximum, not beyond, and remembers a failure. */
#include "base/buf.h"

#include "base/alloc.h"
#include "base/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void appends_add_up_with_a_nul_behind(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 1000);
    assert_int_equal(mf_buf_view(&buf).len, 0);
    assert_int_equal(mf_buf_add(&buf, "ab", 2), MF_OK);
    assert_int_equal(mf_buf_add_str(&buf, MF_STR("cd")), MF_OK);
    assert_int_equal(mf_buf_add_str(&buf, MF_STR_NONE), MF_OK);
    assert_int_equal(mf_buf_printf(&buf, "-%d", 42), MF_OK);
    assert_string_equal(buf.p, "abcd-42");
    assert_int_equal(buf.len, 7);
    mf_buf_done(&buf);
    assert_null(buf.p);
}

static void going_beyond_the_maximum_fails_and_adds_nothing(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 10);
    assert_int_equal(mf_buf_add(&buf, "0123456789", 10), MF_OK);
    assert_int_equal(mf_buf_add(&buf, "x", 1), MF_E_LIMIT);
    assert_string_equal(buf.p, "0123456789");
    assert_int_equal(buf.failed, MF_E_LIMIT);
    assert_int_equal(mf_buf_add(&buf, "", 0), MF_E_LIMIT); /* sticky */
    mf_buf_clear(&buf);
    assert_int_equal(buf.failed, MF_OK);
    assert_int_equal(mf_buf_printf(&buf, "%s", "01234567890"), MF_E_LIMIT);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.p, "");
    mf_buf_clear(&buf);
    assert_int_equal(mf_buf_printf(&buf, "%s", "0123456789"), MF_OK);
    assert_string_equal(buf.p, "0123456789");
    assert_true(buf.capacity <= 10);
    mf_buf_done(&buf);
}

static void a_maximum_of_zero_holds_nothing(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 0);
    assert_int_equal(mf_buf_add(&buf, "", 0), MF_OK);
    assert_int_equal(mf_buf_add(&buf, "x", 1), MF_E_LIMIT);
    mf_buf_done(&buf);
}

static void every_length_of_printf_comes_out_whole(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 100000);
    size_t want = 0;
    for (int width = 1; width <= 300; width++) {
        assert_int_equal(mf_buf_printf(&buf, "%*d", width, 7), MF_OK);
        want += (size_t)width;
        assert_int_equal(buf.len, want);
        assert_int_equal(buf.p[want - 1], '7');
        assert_int_equal(buf.p[want], 0);
    }
    mf_buf_done(&buf);
}

static void take_moves_the_bytes_out(void **state) {
    (void)state;
    mf_buf buf;
    mf_buf_init(&buf, 100);
    size_t len = 9;
    assert_null(mf_buf_take(&buf, &len));
    assert_int_equal(len, 0);
    assert_int_equal(mf_buf_add_str(&buf, MF_STR("abc")), MF_OK);
    char *bytes = mf_buf_take(&buf, &len);
    assert_int_equal(len, 3);
    assert_string_equal(bytes, "abc");
    assert_int_equal(mf_buf_add_str(&buf, MF_STR("d")), MF_OK);
    assert_string_equal(buf.p, "d");
    mf_free(bytes);
    mf_buf_done(&buf);
}

static void failed_growth_keeps_what_was_there(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    char big[500];
    memset(big, 'x', sizeof big);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_buf buf;
        mf_buf_init(&buf, 2000);
        mf_rc first = mf_buf_add_str(&buf, MF_STR("first"));
        mf_rc second = mf_buf_add(&buf, big, sizeof big);
        mf_rc third = mf_buf_printf(&buf, "%900d", 1);
        if (mf_fault_fired()) {
            assert_int_equal(third, MF_E_NOMEM);
            assert_int_equal(buf.failed, MF_E_NOMEM);
            assert_int_equal(buf.len, first != MF_OK    ? 0u
                                      : second != MF_OK ? 5u
                                                        : 505u);
            mf_buf_clear(&buf);
            assert_int_equal(mf_buf_add(&buf, big, sizeof big), MF_OK);
        } else {
            assert_int_equal(n, 3);
            assert_int_equal(buf.len, 1405);
        }
        mf_buf_done(&buf);
        assert_int_equal(mf_alloc_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_add_up_with_a_nul_behind),
        cmocka_unit_test(going_beyond_the_maximum_fails_and_adds_nothing),
        cmocka_unit_test(a_maximum_of_zero_holds_nothing),
        cmocka_unit_test(every_length_of_printf_comes_out_whole),
        cmocka_unit_test(take_moves_the_bytes_out),
        cmocka_unit_test(failed_growth_keeps_what_was_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
