/* timestamp_test.c - times are shown in one form and read in the usual ones. */
#include "text/timestamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"

static void known_moments_have_known_texts(void **state) {
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z"},
        {INT64_C(951868799999999), "2000-02-29T23:59:59.999999Z"},
        {INT64_C(951868800000000), "2000-03-01T00:00:00.000000Z"},
        {INT64_C(1756113243120417), "2025-08-25T09:14:03.120417Z"},
        {INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z"},
        {INT64_C(253402300799999999), "9999-12-31T23:59:59.999999Z"},
        {INT64_C(-62167219200000000), "0000-01-01T00:00:00.000000Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[MF_TIMESTAMP_TEXT + 1];
        mf_timestamp_format(rows[i].us, text);
        assert_string_equal(text, rows[i].text);
        int64_t us = 0;
        assert_true(mf_timestamp_parse(mf_str_from(rows[i].text), &us));
        assert_int_equal(us, rows[i].us);
    }
}

static void times_outside_the_years_0000_to_9999_are_clamped(void **state) {
    (void)state;
    char text[MF_TIMESTAMP_TEXT + 1];
    mf_timestamp_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    mf_timestamp_format(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000000Z");
}

static void every_accepted_form_names_the_same_moment(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } rows[] = {
        {"2026-01-02", INT64_C(1767312000000000)},
        {"2026-01-02T03:04", INT64_C(1767323040000000)},
        {"2026-01-02 03:04:05", INT64_C(1767323045000000)},
        {"2026-01-02T03:04:05Z", INT64_C(1767323045000000)},
        {"2026-01-02T03:04:05.5", INT64_C(1767323045500000)},
        {"2026-01-02T03:04:05.123456789Z", INT64_C(1767323045123456)},
        {"2026-01-02T05:04:05+02:00", INT64_C(1767323045000000)},
        {"2026-01-01T19:34:05-0730", INT64_C(1767323045000000)},
        {"2026-01-02T03:04-00:00", INT64_C(1767323040000000)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t us = 0;
        assert_true(mf_timestamp_parse(mf_str_from(rows[i].text), &us));
        assert_int_equal(us, rows[i].us);
    }
}

static void anything_else_is_refused(void **state) {
    (void)state;
    static const char *const rows[] = {
        "",
        "2026",
        "2026-1-2",
        "2026-02-30",
        "2025-02-29",
        "1900-02-29",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "2026-01-02T",
        "2026-01-02X03:04",
        "2026-01-02T24:00",
        "2026-01-02T03:60",
        "2026-01-02T03:04:60",
        "2026-01-02T03:04:05.",
        "2026-01-02T03:04:05.1234567890",
        "2026-01-02T03:04:05z",
        "2026-01-02T03:04:05+1",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05Z ",
        " 2026-01-02",
        "+026-01-02",
        "0000-01-01T00:00+00:01",
        "9999-12-31T23:59-00:01",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t us = 77;
        if (mf_timestamp_parse(mf_str_from(rows[i]), &us)) {
            fail_msg("'%s' was accepted", rows[i]);
        }
        assert_int_equal(us, 77);
    }
}

static void what_is_written_reads_back_equal(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 4711);
    printf("seed 4711\n");
    const uint64_t span = UINT64_C(253402300800000000) + UINT64_C(62167219200000000);
    for (int i = 0; i < 20000; i++) {
        int64_t us = (int64_t)mf_rng_below(&rng, span) - INT64_C(62167219200000000);
        char text[MF_TIMESTAMP_TEXT + 1];
        mf_timestamp_format(us, text);
        assert_int_equal(strlen(text), MF_TIMESTAMP_TEXT);
        int64_t back = 0;
        assert_true(mf_timestamp_parse(mf_str_from(text), &back));
        assert_int_equal(back, us);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_moments_have_known_texts),
        cmocka_unit_test(times_outside_the_years_0000_to_9999_are_clamped),
        cmocka_unit_test(every_accepted_form_names_the_same_moment),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(what_is_written_reads_back_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
