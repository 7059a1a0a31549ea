/* json_test.c - the reader takes RFC 8259 and nothing more, within its bounds. */
#include "text/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"

static int open_arena(void **state) {
    mf_arena *arena = NULL;
    if (mf_arena_new(64 << 20, &arena, NULL) != MF_OK) {
        return -1;
    }
    *state = arena;
    return 0;
}

static int close_arena(void **state) {
    mf_arena_free(*state);
    return 0;
}

static void well_formed_texts_are_read(void **state) {
    static const char *const rows[] = {
        "{}",
        "[]",
        "null",
        " true ",
        "-0",
        "1e308",
        "0.5",
        "18446744073709551615",
        "9223372036854775808",
        "\"\"",
        "\"\\ud83d\\ude00\"",
        "\"\\u0000\"",
        "{\"a\":1,\"b\":1}",
        "{\"a\":{\"b\":1},\"b\":{\"a\":1}}",
        "\"\xf0\x9f\x98\x80\"",
        "[[],[[]]]",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yyjson_doc *doc = NULL;
        mf_err err = {0};
        if (mf_json_parse(mf_str_from(rows[i]), *state, &doc, &err) != MF_OK) {
            fail_msg("'%s': %s", rows[i], err.text);
        }
        assert_non_null(yyjson_doc_get_root(doc));
    }
}

static void malformed_texts_are_refused(void **state) {
    static const char *const rows[] = {
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "01",
        "+1",
        ".5",
        "1.",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "nul",
        "true false",
        "{} x",
        "// c\n1",
        "/* c */1",
        "\"a",
        "\"\t\"",
        "\"\\x41\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\xff\"",
        "\"\xc0\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\xef\xbb\xbf{}",
        "{\"a\":1,\"a\":2}",
        "{\"x\":[{\"k\":1,\"\\u006b\":2}]}",
        "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,"
        "\"j\":1,\"k\":1,\"l\":1,\"m\":1,\"b\":1}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yyjson_doc *doc = NULL;
        mf_err err = {0};
        if (mf_json_parse(mf_str_from(rows[i]), *state, &doc, &err) != MF_E_FORMAT) {
            fail_msg("'%s' was accepted", rows[i]);
        }
        assert_null(doc);
        assert_true(strlen(err.text) > 0);
    }
}

static void a_nul_byte_between_values_is_refused(void **state) {
    yyjson_doc *doc = NULL;
    assert_int_equal(mf_json_parse(MF_STR("{}\0"), *state, &doc, NULL), MF_E_FORMAT);
    assert_int_equal(mf_json_parse(MF_STR("[1\0]"), *state, &doc, NULL), MF_E_FORMAT);
}

static void an_error_names_byte_and_line(void **state) {
    yyjson_doc *doc = NULL;
    mf_err err = {0};
    assert_int_equal(mf_json_parse(MF_STR("{\n\"a\": x}"), *state, &doc, &err),
                     MF_E_FORMAT);
    assert_non_null(strstr(err.text, "byte 7"));
    assert_non_null(strstr(err.text, "line 2"));
}

static mf_rc parse_nested(mf_arena *arena, size_t depth, bool closed) {
    mf_buf text;
    mf_buf_init(&text, 4 << 20);
    for (size_t i = 0; i < depth; i++) {
        (void)mf_buf_add(&text, "[", 1);
    }
    for (size_t i = 0; i < depth && closed; i++) {
        (void)mf_buf_add(&text, "]", 1);
    }
    assert_int_equal(text.failed, MF_OK);
    yyjson_doc *doc = NULL;
    mf_rc rc = mf_json_parse(mf_buf_view(&text), arena, &doc, NULL);
    mf_buf_done(&text);
    return rc;
}

static void sixty_four_levels_pass_and_one_more_does_not(void **state) {
    assert_int_equal(parse_nested(*state, MF_JSON_DEPTH_MAX - 1, true), MF_OK);
    assert_int_equal(parse_nested(*state, MF_JSON_DEPTH_MAX, true), MF_OK);
    assert_int_equal(parse_nested(*state, MF_JSON_DEPTH_MAX + 1, true), MF_E_FORMAT);
    size_t before = mf_arena_used(*state);
    assert_int_equal(parse_nested(*state, 1000000, false), MF_E_FORMAT);
    assert_int_equal(mf_arena_used(*state), before);
}

static void brackets_in_strings_do_not_count_as_depth(void **state) {
    mf_buf text;
    mf_buf_init(&text, 1 << 20);
    (void)mf_buf_add_str(&text, MF_STR("[\"\\\\\",\"\\\""));
    for (size_t i = 0; i < 200; i++) {
        (void)mf_buf_add(&text, "[{", 2);
    }
    (void)mf_buf_add_str(&text, MF_STR("\"]"));
    yyjson_doc *doc = NULL;
    assert_int_equal(mf_json_parse(mf_buf_view(&text), *state, &doc, NULL), MF_OK);
    mf_buf_done(&text);
}

static void too_many_values_are_refused_before_they_cost_memory(void **state) {
    mf_buf text;
    mf_buf_init(&text, 8 << 20);
    (void)mf_buf_add(&text, "[1", 2);
    for (size_t i = 0; i < 1048577; i++) {
        (void)mf_buf_add(&text, ",1", 2);
    }
    (void)mf_buf_add(&text, "]", 1);
    assert_int_equal(text.failed, MF_OK);
    size_t before = mf_arena_used(*state);
    yyjson_doc *doc = NULL;
    assert_int_equal(mf_json_parse(mf_buf_view(&text), *state, &doc, NULL),
                     MF_E_FORMAT);
    assert_int_equal(mf_arena_used(*state), before);
    mf_buf_done(&text);
}

static void a_spent_arena_is_reported_as_such(void **state) {
    (void)state;
    mf_arena *small = NULL;
    assert_int_equal(mf_arena_new(256, &small, NULL), MF_OK);
    char text[600];
    memset(text, ' ', sizeof text);
    text[0] = '1';
    yyjson_doc *doc = NULL;
    assert_int_equal(mf_json_parse((mf_str){text, sizeof text}, small, &doc, NULL),
                     MF_E_NOMEM);
    mf_arena_free(small);
}

static yyjson_val *object(mf_arena *arena, const char *text) {
    yyjson_doc *doc = NULL;
    assert_int_equal(mf_json_parse(mf_str_from(text), arena, &doc, NULL), MF_OK);
    return yyjson_doc_get_root(doc);
}

static void text_members_are_strict(void **state) {
    yyjson_val *o =
        object(*state, "{\"s\":\"Zo\xc3\xab\",\"e\":\"\",\"n\":null,\"i\":1,"
                       "\"z\":\"a\\u0000b\"}");
    mf_str out = MF_STR_NONE;
    assert_int_equal(mf_json_get_str(o, "s", true, &out, NULL), MF_OK);
    assert_true(mf_str_eq(out, MF_STR("Zo\xc3\xab")));
    assert_int_equal(mf_json_get_str(o, "e", true, &out, NULL), MF_OK);
    assert_non_null(out.p);
    assert_int_equal(out.len, 0);
    assert_int_equal(mf_json_get_str(o, "n", false, &out, NULL), MF_OK);
    assert_null(out.p);
    assert_int_equal(mf_json_get_str(o, "absent", false, &out, NULL), MF_OK);
    assert_null(out.p);
    static const char *const bad[] = {"n", "absent", "i", "z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mf_err err = {0};
        assert_int_equal(mf_json_get_str(o, bad[i], true, &out, &err), MF_E_FORMAT);
        assert_string_equal(err.field, bad[i]);
    }
}

static void integers_come_as_numbers_or_digits(void **state) {
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } rows[] = {
        {"{\"k\":7}", true, 7},
        {"{\"k\":-7}", true, -7},
        {"{\"k\":7.0}", true, 7},
        {"{\"k\":1e3}", true, 1000},
        {"{\"k\":\"42\"}", true, 42},
        {"{\"k\":null}", true, -99},
        {"{}", true, -99},
        {"{\"k\":9223372036854775807}", true, INT64_MAX},
        {"{\"k\":9223372036854775808}", false, 0},
        {"{\"k\":-9223372036854775808}", true, INT64_MIN},
        {"{\"k\":1e300}", false, 0},
        {"{\"k\":7.5}", false, 0},
        {"{\"k\":\"7.5\"}", false, 0},
        {"{\"k\":\"\"}", false, 0},
        {"{\"k\":true}", false, 0},
        {"{\"k\":[]}", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t out = -99;
        mf_rc rc = mf_json_get_i64(object(*state, rows[i].text), "k", &out, NULL);
        assert_int_equal(rc, rows[i].ok ? MF_OK : MF_E_FORMAT);
        assert_int_equal(out, rows[i].ok ? rows[i].value : -99);
    }
}

static void booleans_come_as_words_or_bits(void **state) {
    static const struct {
        const char *text;
        int value; /* -1: refused, -2: left alone */
    } rows[] = {
        {"{\"k\":true}", 1},  {"{\"k\":false}", 0},    {"{\"k\":1}", 1},
        {"{\"k\":0}", 0},     {"{\"k\":\"true\"}", 1}, {"{\"k\":\"False\"}", 0},
        {"{\"k\":\"1\"}", 1}, {"{\"k\":null}", -2},    {"{}", -2},
        {"{\"k\":2}", -1},    {"{\"k\":-1}", -1},      {"{\"k\":\"maybe\"}", -1},
        {"{\"k\":\"\"}", -1}, {"{\"k\":{}}", -1},      {"{\"k\":0.5}", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int before = 0; before <= 1; before++) {
            bool out = before;
            mf_rc rc = mf_json_get_bool(object(*state, rows[i].text), "k", &out, NULL);
            assert_int_equal(rc, rows[i].value == -1 ? MF_E_FORMAT : MF_OK);
            assert_int_equal(out, rows[i].value < 0 ? before : rows[i].value);
        }
    }
}

static void a_document_is_written_compactly(void **state) {
    yyjson_alc alc;
    mf_json_arena_alc(*state, &alc);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(&alc);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    assert_true(yyjson_mut_obj_add_str(doc, root, "a", "x\"\n"));
    assert_true(yyjson_mut_obj_add_null(doc, root, "b"));
    mf_str text = mf_json_write(doc, *state);
    assert_true(mf_str_eq(text, MF_STR("{\"a\":\"x\\\"\\n\",\"b\":null}")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_texts_are_read),
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(a_nul_byte_between_values_is_refused),
        cmocka_unit_test(an_error_names_byte_and_line),
        cmocka_unit_test(sixty_four_levels_pass_and_one_more_does_not),
        cmocka_unit_test(brackets_in_strings_do_not_count_as_depth),
        cmocka_unit_test(too_many_values_are_refused_before_they_cost_memory),
        cmocka_unit_test(a_spent_arena_is_reported_as_such),
        cmocka_unit_test(text_members_are_strict),
        cmocka_unit_test(integers_come_as_numbers_or_digits),
        cmocka_unit_test(booleans_come_as_words_or_bits),
        cmocka_unit_test(a_document_is_written_compactly),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
