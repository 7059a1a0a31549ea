/* url_test.c - escapes are undone once, odd ones are kept, and parameters are found. */
#include "text/url.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int open_arena(void **state) {
    mf_arena *arena = NULL;
    if (mf_arena_new(1 << 20, &arena, NULL) != MF_OK) {
        return -1;
    }
    *state = arena;
    return 0;
}

static int close_arena(void **state) {
    mf_arena_free(*state);
    return 0;
}

static void assert_text(mf_str got, mf_str want) {
    assert_non_null(got.p);
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.p, want.p, want.len);
}

static void escapes_are_decoded_and_odd_ones_are_kept(void **state) {
    static const struct {
        const char *raw, *form, *literal;
    } rows[] = {
        {"", "", ""},
        {"plain", "plain", "plain"},
        {"Jane%20Doe", "Jane Doe", "Jane Doe"},
        {"a+b", "a b", "a+b"},
        {"a%2Bb", "a+b", "a+b"},
        {"100%25", "100%", "100%"},
        {"100%", "100%", "100%"},
        {"%4", "%4", "%4"},
        {"%4g", "%4g", "%4g"},
        {"%g4", "%g4", "%g4"},
        {"%%41", "%A", "%A"},
        {"%2541", "%41", "%41"},
        {"Zo%c3%AB", "Zo\xc3\xab", "Zo\xc3\xab"},
        {"a/b?c", "a/b?c", "a/b?c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_str raw = mf_str_from(rows[i].raw);
        assert_text(mf_url_decode(raw, true, *state), mf_str_from(rows[i].form));
        assert_text(mf_url_decode(raw, false, *state), mf_str_from(rows[i].literal));
    }
    assert_text(mf_url_decode(MF_STR("a%00b"), false, *state), MF_STR("a\0b"));
}

static void every_byte_survives_encoding_and_decoding(void **state) {
    char bytes[256];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)i;
    }
    mf_str all = {bytes, sizeof bytes};
    mf_str encoded = mf_url_encode(all, *state);
    assert_non_null(encoded.p);
    assert_text(mf_url_decode(encoded, true, *state), all);
    assert_text(mf_url_decode(encoded, false, *state), all);
    assert_text(mf_url_encode(MF_STR("aZ9-_.~"), *state), MF_STR("aZ9-_.~"));
    assert_text(mf_url_encode(MF_STR("a b&c/\xc3\xab"), *state),
                MF_STR("a%20b%26c%2F%C3%AB"));
}

static void a_parameter_is_found_by_its_exact_name(void **state) {
    (void)state;
    static const struct {
        const char *query, *name, *value; /* value NULL: absent */
    } rows[] = {
        {"", "a", NULL},        {"a=1", "a", "1"},
        {"a=1&b=2", "b", "2"},  {"a=1&a=2", "a", "1"},
        {"aa=1&a=2", "a", "2"}, {"a", "a", ""},
        {"a=", "a", ""},        {"&&b=3&", "b", "3"},
        {"a=1=2", "a", "1=2"},  {"name=a%26b", "name", "a%26b"},
        {"A=1", "a", NULL},     {"b=a=1", "a", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_str value = MF_STR("untouched");
        bool found = mf_url_query_raw(mf_str_from(rows[i].query),
                                      mf_str_from(rows[i].name), &value);
        assert_int_equal(found, rows[i].value != NULL);
        assert_true(
            mf_str_eq(value, found ? mf_str_from(rows[i].value) : MF_STR("untouched")));
    }
}

static void a_full_arena_gives_no_text(void **state) {
    (void)state;
    mf_arena *small = NULL;
    assert_int_equal(mf_arena_new(64, &small, NULL), MF_OK);
    char long_text[100] = {0};
    mf_str text = {long_text, sizeof long_text};
    assert_null(mf_url_decode(text, true, small).p);
    assert_null(mf_url_encode(text, small).p);
    mf_arena_free(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_are_decoded_and_odd_ones_are_kept),
        cmocka_unit_test(every_byte_survives_encoding_and_decoding),
        cmocka_unit_test(a_parameter_is_found_by_its_exact_name),
        cmocka_unit_test(a_full_arena_gives_no_text),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
