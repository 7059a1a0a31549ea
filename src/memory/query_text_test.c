/* query_text_test.c - bare questions pass, joined turns are split and the last one
 * leads. */
#include "memory/query_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"

static mf_arena *arena;

static int open_arena(void **state) {
    (void)state;
    return mf_arena_new(1 << 20, &arena, NULL) != MF_OK;
}

static int free_arena(void **state) {
    (void)state;
    mf_arena_free(arena);
    return mf_alloc_live() != 0;
}

static mf_query_text clean(const char *text) {
    mf_query_text out;
    mf_arena_reset(arena);
    assert_int_equal(mf_query_text_clean(arena, mf_str_from(text), &out, NULL), MF_OK);
    return out;
}

static void assert_text(mf_str text, const char *expected) {
    if (!mf_str_eq(text, mf_str_from(expected))) {
        print_error("got '%.*s', not '%s'\n", MF_STR_ARGS(text), expected);
        fail();
    }
}

static size_t times(mf_str text, const char *needle) {
    size_t count = 0;
    size_t at = 0;
    while ((at = mf_str_find(text, mf_str_from(needle), at)) != SIZE_MAX) {
        count++;
        at++;
    }
    return count;
}

static void bare_questions_pass_unchanged(void **state) {
    (void)state;
    static const char *const bare[] = {
        "",
        "Where did I move?",
        "  blanks  around ",
        "what does printf(\"a\\n\") print",
        "is C:\\new\\names a folder",
        "first line\nsecond line",
        "the user: is it a role here?",
        "Users: how many",
    };
    for (size_t i = 0; i < sizeof(bare) / sizeof(bare[0]); i++) {
        mf_query_text out = clean(bare[i]);
        assert_text(out.encoder, bare[i]);
        assert_text(out.words, bare[i]);
    }
}

static void one_turn_loses_its_role(void **state) {
    (void)state;
    assert_text(clean("User: Where did I move?").encoder, "Where did I move?");
    assert_text(clean("user:Where did I move?").words, "Where did I move?");
    assert_text(clean("User: ").encoder, "");
    assert_text(clean("User:\\nAssistant:\\n").words, "");
}

static void the_last_turn_comes_first_and_counts_most(void **state) {
    (void)state;
    mf_query_text out = clean("User: I like boats.\\nAssistant: Which ones?\\nUser: "
                              "Sailing ones. And where?");
    assert_text(out.encoder, "Sailing ones. And where?\nWhich ones?\nI like boats.");
    assert_int_equal(times(out.words, "Sailing"), MF_QUERY_LAST_WEIGHT);
    assert_int_equal(times(out.words, "boats"), 1);
    assert_int_equal(times(out.words, "User:"), 0);
    assert_int_equal(times(out.words, "\\n"), 0);
}

static void line_breaks_separate_turns_as_well(void **state) {
    (void)state;
    mf_query_text out =
        clean("System: Be kind.\nUser: Hi\nAssistant: Hello\nUser: Why?");
    assert_text(out.encoder, "Why?\nHello\nHi\nBe kind.");
    assert_text(clean("no role\\nUser: Why?").encoder, "Why?\nno role");
}

static void a_backslash_n_inside_a_turn_stays(void **state) {
    (void)state;
    mf_query_text out = clean("User: a\\nb\\nAssistant: c\\nUser: d\\ne?");
    assert_text(out.encoder, "d\\ne?\nc\na\\nb");
}

static void a_long_last_turn_leaves_no_room_for_history(void **state) {
    (void)state;
    char text[600] = "User: oldest words\\nUser: ";
    size_t from = strlen(text);
    for (size_t i = from; i < from + 300; i++) {
        text[i] = i % 6 == 5 ? ' ' : 'q';
    }
    mf_query_text out = clean(text);
    assert_int_equal(times(out.encoder, "oldest"), 0);
    assert_int_equal(times(out.words, "oldest"), 1);
}

static void long_history_is_bounded(void **state) {
    (void)state;
    enum { TURNS = 200, SIZE = TURNS * 40 };
    char *text = mf_alloc(SIZE);
    assert_non_null(text);
    size_t len = 0;
    for (size_t i = 0; i < TURNS; i++) {
        memcpy(text + len, "User: some words of an old turn\\n", 33);
        len += 33;
    }
    memcpy(text + len, "User: lobster?", 15);
    mf_query_text out = clean(text);
    assert_true(mf_str_starts(out.encoder, MF_STR("lobster?\nsome words")));
    assert_true(out.encoder.len <= MF_QUERY_ENCODER_FILL + MF_QUERY_TURNS_MAX);
    assert_int_equal(times(out.words, "lobster?"), MF_QUERY_LAST_WEIGHT);
    assert_true(out.words.len <=
                MF_QUERY_WORDS_HISTORY + MF_QUERY_TURNS_MAX + 9 * MF_QUERY_LAST_WEIGHT);
    mf_free(text);
}

static void history_is_cut_between_characters(void **state) {
    (void)state;
    char text[400] = "User: ";
    size_t len = 6;
    for (size_t i = 0; i < 100; i++) {
        memcpy(text + len, "\xE4\xB8\xAD", 3);
        len += 3;
    }
    memcpy(text + len, "\\nUser: x", 10);
    mf_query_text out = clean(text);
    assert_int_equal(out.encoder.len % 3, 2); /* x, line break, whole characters */
}

static void a_full_arena_is_reported(void **state) {
    (void)state;
    mf_arena *small = NULL;
    assert_int_equal(mf_arena_new(64, &small, NULL), MF_OK);
    mf_query_text out = {MF_STR("kept"), MF_STR("kept")};
    mf_err err;
    assert_int_equal(mf_query_text_clean(
                         small,
                         MF_STR("User: a long enough turn to need some memory\\nUser: "
                                "and one more of these turns"),
                         &out, &err),
                     MF_E_NOMEM);
    assert_text(out.words, "kept");
    mf_arena_free(small);
}

static void random_mixtures_never_break_it(void **state) {
    (void)state;
    static const char *const pieces[] = {"User:",   "Assistant: ", "\\n", "\n",
                                         "System:", "a",           " ",   "\\",
                                         "n",       "\xC3\xA9"};
    mf_rng rng;
    mf_rng_init(&rng, 77);
    for (size_t round = 0; round < 20000; round++) {
        char text[200];
        size_t len = 0;
        for (uint64_t n = mf_rng_below(&rng, 15); n > 0; n--) {
            const char *piece = pieces[mf_rng_below(&rng, 10)];
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
        }
        text[len] = '\0';
        mf_query_text out = clean(text);
        assert_true(out.encoder.len <= out.words.len);
        assert_true(out.words.len <= MF_QUERY_LAST_WEIGHT * (len + 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bare_questions_pass_unchanged),
        cmocka_unit_test(one_turn_loses_its_role),
        cmocka_unit_test(the_last_turn_comes_first_and_counts_most),
        cmocka_unit_test(line_breaks_separate_turns_as_well),
        cmocka_unit_test(a_backslash_n_inside_a_turn_stays),
        cmocka_unit_test(a_long_last_turn_leaves_no_room_for_history),
        cmocka_unit_test(long_history_is_bounded),
        cmocka_unit_test(history_is_cut_between_characters),
        cmocka_unit_test(a_full_arena_is_reported),
        cmocka_unit_test(random_mixtures_never_break_it),
    };
    return cmocka_run_group_tests(tests, open_arena, free_arena);
}
