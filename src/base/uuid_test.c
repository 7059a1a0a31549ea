/* uuid_test.c - ids differ, sort by time, are of version 4, and come back from their
 * text. */
#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void new_ids_carry_version_and_variant_and_differ(void **state) {
    (void)state;
    mf_uuid last = MF_UUID_NONE;
    for (int i = 0; i < 1000; i++) {
        mf_uuid id = mf_uuid_new();
        assert_int_equal(id.b[6] >> 4, 4);
        assert_int_equal(id.b[8] >> 6, 2);
        assert_false(mf_uuid_eq(id, last));
        assert_false(mf_uuid_is_none(id));
        last = id;
    }
}

static int64_t second_wall_us(void *ctx) {
    int64_t *us = ctx;
    return *us += 1000000;
}

static int64_t stopped_mono_ns(void *ctx) {
    (void)ctx;
    return 0;
}

static void later_ids_sort_behind_earlier_ones(void **state) {
    (void)state;
    int64_t us = 1700000000000000;
    mf_clock clock = {stopped_mono_ns, second_wall_us, &us};
    mf_clock_set(&clock);
    mf_uuid last = MF_UUID_NONE;
    for (int i = 0; i < 1000; i++) {
        mf_uuid id = mf_uuid_new();
        assert_true(memcmp(last.b, id.b, sizeof id.b) < 0);
        last = id;
    }
    mf_clock_set(NULL);
}

static void text_comes_back_as_the_same_id(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        mf_uuid id = mf_uuid_new();
        char text[MF_UUID_TEXT + 1];
        mf_uuid_format(id, text);
        assert_int_equal(strlen(text), MF_UUID_TEXT);
        mf_uuid back = MF_UUID_NONE;
        assert_true(mf_uuid_parse(mf_str_from(text), &back));
        assert_true(mf_uuid_eq(id, back));
    }
}

static void format_is_lower_case_in_five_groups(void **state) {
    (void)state;
    mf_uuid id = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA,
                   0x98, 0x76, 0x54, 0x32, 0x10}};
    char text[MF_UUID_TEXT + 1];
    mf_uuid_format(id, text);
    assert_string_equal(text, "01234567-89ab-cdef-fedc-ba9876543210");
    mf_uuid_format(MF_UUID_NONE, text);
    assert_string_equal(text, "00000000-0000-0000-0000-000000000000");
}

static void only_the_canonical_shape_is_parsed(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool ok;
    } rows[] = {
        {"01234567-89ab-cdef-fedc-ba9876543210", true},
        {"01234567-89AB-cdEF-FEDC-BA9876543210", true},
        {"00000000-0000-0000-0000-000000000000", true},
        {"", false},
        {"0123456789abcdeffedcba9876543210", false},
        {"{01234567-89ab-cdef-fedc-ba9876543210}", false},
        {"01234567-89ab-cdef-fedc-ba987654321", false},
        {"01234567-89ab-cdef-fedc-ba98765432100", false},
        {"01234567-89ab-cdef-fedc-ba987654321g", false},
        {"0123456-789ab-cdef-fedc-ba9876543210", false},
        {"01234567089ab0cdef0fedc0ba9876543210", false},
        {" 1234567-89ab-cdef-fedc-ba9876543210", false},
        {"01234567-89ab-cdef-fedc-ba98765432 0", false},
        {"01234567-89ab-cdef-fedc-ba98765432--", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_uuid id = {{0xAA}};
        assert_int_equal(mf_uuid_parse(mf_str_from(rows[i].text), &id), rows[i].ok);
        if (!rows[i].ok) {
            assert_int_equal(id.b[0], 0xAA);
        }
    }
    mf_uuid id;
    assert_false(mf_uuid_parse(MF_STR_NONE, &id));
}

static void key_views_the_sixteen_bytes(void **state) {
    (void)state;
    mf_uuid id = mf_uuid_new();
    mf_str key = mf_uuid_key(&id);
    assert_int_equal(key.len, MF_UUID_BYTES);
    assert_memory_equal(key.p, id.b, MF_UUID_BYTES);
    assert_true(mf_uuid_is_none(MF_UUID_NONE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_ids_carry_version_and_variant_and_differ),
        cmocka_unit_test(later_ids_sort_behind_earlier_ones),
        cmocka_unit_test(text_comes_back_as_the_same_id),
        cmocka_unit_test(format_is_lower_case_in_five_groups),
        cmocka_unit_test(only_the_canonical_shape_is_parsed),
        cmocka_unit_test(key_views_the_sixteen_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
