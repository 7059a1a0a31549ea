/* str_test.c - views of text: comparing, cutting, searching, reading numbers. */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S(text) mf_str_from(text)

static void from_null_is_empty(void **state) {
    (void)state;
    assert_int_equal(mf_str_from(NULL).len, 0);
    assert_int_equal(mf_str_from("ab").len, 2);
    assert_int_equal(MF_STR("abc").len, 3);
}

static void equality_looks_at_bytes_not_pointers(void **state) {
    (void)state;
    assert_true(mf_str_eq(MF_STR_NONE, MF_STR("")));
    assert_true(mf_str_eq(MF_STR("a\0b"), MF_STR("a\0b")));
    assert_false(mf_str_eq(MF_STR("a\0b"), MF_STR("a\0c")));
    assert_false(mf_str_eq(MF_STR("ab"), MF_STR("abc")));
    assert_true(mf_str_eq_ignore_case(MF_STR("Content-Type"), MF_STR("CONTENT-tYPE")));
    assert_false(mf_str_eq_ignore_case(MF_STR("["), MF_STR("{")));
    assert_false(mf_str_eq_ignore_case(MF_STR("\xC3\x84"), MF_STR("\xC3\xA4")));
    assert_false(mf_str_eq_ignore_case(MF_STR("a"), MF_STR("ab")));
}

static void order_is_by_bytes_then_by_length(void **state) {
    (void)state;
    const char *rising[] = {"", "A", "a", "aa", "ab", "b", "\x7F", "\xC3\xA4"};
    for (size_t i = 0; i < sizeof rising / sizeof rising[0]; i++) {
        for (size_t k = 0; k < sizeof rising / sizeof rising[0]; k++) {
            int order = mf_str_cmp(S(rising[i]), S(rising[k]));
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
    }
}

static void prefixes_and_suffixes_are_found(void **state) {
    (void)state;
    assert_true(mf_str_starts(MF_STR("memory"), MF_STR("mem")));
    assert_true(mf_str_starts(MF_STR("memory"), MF_STR_NONE));
    assert_false(mf_str_starts(MF_STR("me"), MF_STR("mem")));
    assert_true(mf_str_ends(MF_STR("a.json"), MF_STR(".json")));
    assert_true(mf_str_ends(MF_STR_NONE, MF_STR("")));
    assert_false(mf_str_ends(MF_STR("json"), MF_STR(".json")));
}

static void sub_is_clamped(void **state) {
    (void)state;
    mf_str s = MF_STR("hello");
    assert_true(mf_str_eq(mf_str_sub(s, 1, 3), MF_STR("ell")));
    assert_true(mf_str_eq(mf_str_sub(s, 3, SIZE_MAX), MF_STR("lo")));
    assert_int_equal(mf_str_sub(s, 9, 2).len, 0);
    assert_int_equal(mf_str_sub(MF_STR_NONE, 1, 1).len, 0);
}

static void trim_takes_white_space_from_both_ends(void **state) {
    (void)state;
    assert_true(mf_str_eq(mf_str_trim(MF_STR(" \t\r\n\v\f a b \n")), MF_STR("a b")));
    assert_int_equal(mf_str_trim(MF_STR(" \n ")).len, 0);
    assert_int_equal(mf_str_trim(MF_STR_NONE).len, 0);
    assert_true(mf_str_eq(mf_str_trim(MF_STR("\xC2\xA0")), MF_STR("\xC2\xA0")));
}

static void find_gives_the_first_position_from_there(void **state) {
    (void)state;
    mf_str s = MF_STR("abcabc");
    assert_int_equal(mf_str_find(s, MF_STR("bc"), 0), 1);
    assert_int_equal(mf_str_find(s, MF_STR("bc"), 2), 4);
    assert_true(mf_str_find(s, MF_STR("bc"), 5) == SIZE_MAX);
    assert_true(mf_str_find(s, MF_STR("abcabca"), 0) == SIZE_MAX);
    assert_int_equal(mf_str_find(s, MF_STR_NONE, 6), 6);
    assert_true(mf_str_find(s, MF_STR_NONE, 7) == SIZE_MAX);
    assert_int_equal(mf_str_find(MF_STR_NONE, MF_STR_NONE, 0), 0);
}

static void split_walks_through_all_parts(void **state) {
    (void)state;
    const char *parts[] = {"a", "", "bc", ""};
    mf_str rest = MF_STR("a,,bc,");
    size_t n = 0;
    while (rest.p != NULL) {
        mf_str part = mf_str_split(&rest, ',');
        assert_true(n < 4);
        assert_true(mf_str_eq(part, S(parts[n])));
        n++;
    }
    assert_int_equal(n, 4);
    assert_int_equal(mf_str_split(&rest, ',').len, 0);
}

static void whole_numbers_are_read_exactly_or_not_at_all(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } rows[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"+7", true, 7},
        {"007", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+", false, 0},
        {"--1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"0x10", false, 0},
        {"1a", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = 42;
        assert_int_equal(mf_str_to_i64(S(rows[i].text), &value), rows[i].ok);
        assert_int_equal(value, rows[i].ok ? rows[i].value : 42);
    }
    int64_t value = 0;
    assert_true(mf_str_to_i64((mf_str){"123456", 3}, &value));
    assert_int_equal(value, 123);
    assert_false(mf_str_to_i64(MF_STR_NONE, &value));
}

static void decimal_numbers_are_read_whole_and_finite(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        double value;
    } rows[] = {
        {"0", true, 0.0},
        {"-1.5", true, -1.5},
        {"+.5", true, 0.5},
        {"5.", true, 5.0},
        {"1e3", true, 1000.0},
        {"1E-2", true, 0.01},
        {"1.7976931348623157e308", true, 1.7976931348623157e308},
        {"1e-400", true, 0.0},
        {"1e309", false, 0.0},
        {"inf", false, 0.0},
        {"nan", false, 0.0},
        {"0x1p3", false, 0.0},
        {"", false, 0.0},
        {".", false, 0.0},
        {"-", false, 0.0},
        {"1e", false, 0.0},
        {"1e+", false, 0.0},
        {"1 ", false, 0.0},
        {" 1", false, 0.0},
        {"1,5", false, 0.0},
        {"1.2.3", false, 0.0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double value = 42.0;
        assert_int_equal(mf_str_to_double(S(rows[i].text), &value), rows[i].ok);
        assert_true(value == (rows[i].ok ? rows[i].value : 42.0));
    }
    char digits[600];
    memset(digits, '1', sizeof digits);
    double value = 0.0;
    assert_false(mf_str_to_double((mf_str){digits, sizeof digits}, &value));
    assert_true(mf_str_to_double((mf_str){digits, 300}, &value));
    assert_false(mf_str_to_double(MF_STR_NONE, &value));
}

static void hash_is_the_published_xxh3(void **state) {
    (void)state;
    /* The empty input's value is in the published test vectors of XXH3. */
    assert_true(mf_str_hash(MF_STR_NONE) == 0x2D06800538D394C2u);
    assert_true(mf_str_hash(MF_STR("a")) != mf_str_hash(MF_STR("b")));
    assert_true(mf_str_hash((mf_str){"abc", 2}) == mf_str_hash(MF_STR("ab")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_null_is_empty),
        cmocka_unit_test(equality_looks_at_bytes_not_pointers),
        cmocka_unit_test(order_is_by_bytes_then_by_length),
        cmocka_unit_test(prefixes_and_suffixes_are_found),
        cmocka_unit_test(sub_is_clamped),
        cmocka_unit_test(trim_takes_white_space_from_both_ends),
        cmocka_unit_test(find_gives_the_first_position_from_there),
        cmocka_unit_test(split_walks_through_all_parts),
        cmocka_unit_test(whole_numbers_are_read_exactly_or_not_at_all),
        cmocka_unit_test(decimal_numbers_are_read_whole_and_finite),
        cmocka_unit_test(hash_is_the_published_xxh3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
