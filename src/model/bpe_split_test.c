/* bpe_split_test.c - text is cut where the regular expressions of o200k_base and
 * cl100k_base cut it, alternative by alternative.  The golden test compares many more
 * texts. */
#include "model/bpe_split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"

enum { SEED = 20251120 };

typedef size_t (*split)(mf_str text);

/* The pieces of a text with a bar between them must be `expected`. */
static void assert_cut_by(split piece_of, const char *text, const char *expected) {
    char got[512];
    size_t len = 0;
    for (mf_str rest = mf_str_from(text); rest.len > 0;) {
        size_t piece = piece_of(rest);
        assert_in_range(piece, 1, rest.len);
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%.*s",
                                len > 0 ? "|" : "", (int)piece, rest.p);
        rest = mf_str_sub(rest, piece, rest.len - piece);
    }
    got[len] = '\0';
    assert_string_equal(got, expected);
}

static void assert_cut(const char *text, const char *expected) {
    assert_cut_by(mf_split_o200k, text, expected);
}

static void assert_cl100k(const char *text, const char *expected) {
    assert_cut_by(mf_split_cl100k, text, expected);
}

static void words_take_one_blank_or_symbol_before_them(void **state) {
    (void)state;
    assert_cut("hello world", "hello| world");
    assert_cut("(hello) [x", "(hello|)| [|x");
    assert_cut("a  b", "a| | b");
    assert_cut("\tword\nword", "\tword|\n|word");
    assert_cut("caf\u00e9 \u00fcber", "caf\u00e9| \u00fcber");
}

static void case_changes_cut_words(void **state) {
    (void)state;
    assert_cut("camelCaseName", "camel|Case|Name");
    assert_cut("HTTPServer", "HTTPServer");
    assert_cut("USA", "USA");
    assert_cut("ABc", "ABc");
    assert_cut("aB", "a|B");
    assert_cut("\u01c5x", "\u01c5x"); /* title case counts as upper */
}

static void letters_without_case_go_with_either(void **state) {
    (void)state;
    assert_cut("\u4e2d\u6587abc", "\u4e2d\u6587abc");
    assert_cut("abc\u4e2dABC", "abc\u4e2d|ABC");
    assert_cut("\u4e2dABC",
               "\u4e2d|ABC"); /* the match has to end in the second class */
    assert_cut("AB\u4e2dCD", "AB\u4e2d|CD");
    assert_cut("\u02b0A", "\u02b0|A");
}

static void marks_are_prefix_letter_and_symbol(void **state) {
    (void)state;
    assert_cut("e\u0301a", "e\u0301a");
    assert_cut("\u0301a", "\u0301a");
    assert_cut("\u0301AB", "\u0301|AB");
    assert_cut("\u0301", "\u0301");
    assert_cut("!\u0301", "!\u0301");
    assert_cut(" \u0301!", " \u0301|!");
    assert_cut("!!\u0301", "!!\u0301");
}

static void contractions_stay_with_their_word(void **state) {
    (void)state;
    assert_cut("it's we'll I'd", "it's| we'll| I'd");
    assert_cut("IT'S WE'LL they'Re", "IT'S| WE'LL| they'Re");
    assert_cut("it'sx don'tt", "it's|x| don't|t");
    assert_cut("we'l we're've", "we|'l| we're|'ve");
    assert_cut("x'\u017f", "x'\u017f"); /* the long s is an s when case is ignored */
    assert_cut("x'q x' x'", "x|'q| x|'| x|'");
    assert_cut("5's", "5|'s");
}

static void digits_come_in_threes(void **state) {
    (void)state;
    assert_cut("1234567", "123|456|7");
    assert_cut("12 34", "12| |34");
    assert_cut("a1b22", "a|1|b|22");
    assert_cut("\u0661\u0662\u0663\u0664", "\u0661\u0662\u0663|\u0664");
    assert_cut("\u00bd\u2163", "\u00bd\u2163");
}

static void symbols_take_line_ends_and_slashes_behind_them(void **state) {
    (void)state;
    assert_cut("!!\n\nx", "!!\n\n|x");
    assert_cut(" ==/\r\n//x", " ==/\r\n//|x");
    assert_cut("\t==", "\t|==");
    assert_cut("a.b", "a|.b");
    assert_cut("\U0001f600\U0001f600", "\U0001f600\U0001f600");
}

static void white_space_ends_with_its_last_line_end(void **state) {
    (void)state;
    assert_cut("a \n\n  b", "a| \n\n| | b");
    assert_cut("  \r\n", "  \r\n");
    assert_cut("a   ", "a|   ");
    assert_cut("a   1", "a|  | |1");
    assert_cut(" ", " ");
    assert_cut("\u00a0\u3000x", "\u00a0|\u3000x");
    assert_cut("a\xC2\x85\xC2\x85", "a|\xC2\x85\xC2\x85");
}

static void damaged_bytes_are_symbols(void **state) {
    (void)state;
    assert_cut("a\xFF\xFE"
               "b",
               "a|\xFF\xFE|b");
    assert_cut("\xC3", "\xC3");
    assert_cut(" \x80\n", " \x80\n");
}

static void words_longer_than_a_read_are_one_piece(void **state) {
    (void)state;
    assert_cut(" abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ",
               " abcdefghijklmnopqrstuvwxyz| ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    assert_cut("ABCDEFGHIJKLMabcdefghijklmN", "ABCDEFGHIJKLMabcdefghijklm|N");
    assert_cut("abcdefgh\u00e9 ABCDEFGH\u00c9", "abcdefgh\u00e9| ABCDEFGH\u00c9");
    assert_cl100k("ABCDEFGHIJKLMabcdefghijklmN", "ABCDEFGHIJKLMabcdefghijklmN");
    assert_cl100k("abcdefgh\u00e9 ABCDEFGH\u0301", "abcdefgh\u00e9| ABCDEFGH|\u0301");
}

/* Characters of a Unicode version that libraries at hand may not have. */
static void young_characters_have_the_kind_of_the_reference(void **state) {
    (void)state;
    assert_cut("\u1c89\u1c8a", "\u1c89\u1c8a"); /* upper, lower */
    assert_cut("a\ua7cb", "a|\ua7cb");          /* upper */
    assert_cut("a\u0897", "a\u0897");           /* a mark */
    assert_cut("a\U00010d40", "a|\U00010d40");  /* a digit */
    assert_cut("a\U0002ebf0", "a\U0002ebf0");   /* an ideograph */
    assert_cut("a\U0010ffff\U000e0100", "a|\U0010ffff\U000e0100");
}

/* --- cl100k_base --- */

static void cl100k_words_keep_their_case_changes_and_lose_contractions(void **state) {
    (void)state;
    assert_cl100k("hello World, (iPhone)", "hello| World|,| (|iPhone|)");
    assert_cl100k("camelCaseName XMLHttp", "camelCaseName| XMLHttp");
    assert_cl100k("it's we'LL x'\u017f 'tis", "it|'s| we|'LL| x|'\u017f| '|tis");
    assert_cl100k("'tis 'q 'l 're", "'t|is| '|q| '|l| '|re");
    assert_cl100k("\tword\nword", "\tword|\n|word");
    assert_cl100k("\u4e2dABC abc\u4e2d", "\u4e2dABC| abc\u4e2d");
    assert_cl100k("\u01c5x caf\u00e9", "\u01c5x| caf\u00e9");
}

static void cl100k_marks_are_symbols_that_may_lead_a_word(void **state) {
    (void)state;
    assert_cl100k("e\u0301a", "e|\u0301a");
    assert_cl100k("\u0301a", "\u0301a");
    assert_cl100k("\u0301\u0301a", "\u0301\u0301|a");
    assert_cl100k("a\u0301", "a|\u0301");
}

static void cl100k_symbols_take_line_ends_but_no_slashes(void **state) {
    (void)state;
    assert_cl100k("!!\n\nx", "!!\n\n|x");
    assert_cl100k("=\r\n//x", "=\r\n|//|x");
    assert_cl100k("1234567", "123|456|7");
    assert_cl100k("a\xFF\xFE"
                  "b",
                  "a|\xFF\xFE|b");
}

static void cl100k_white_space_at_the_end_is_one_piece(void **state) {
    (void)state;
    assert_cl100k("a \n\n  b", "a| \n\n| | b");
    assert_cl100k("a \n\n  ", "a| \n\n  ");
    assert_cl100k("  \n", "  \n");
    assert_cl100k("a   1", "a|  | |1");
    assert_cl100k("a 1", "a| |1");
    assert_cl100k("\n\n1", "\n\n|1");
    assert_cl100k("\u00a0\u3000x", "\u00a0|\u3000x");
}

/* Any bytes at all are cut into pieces that follow one another, and what stands behind
 * a piece's end has no part in it but for its first characters: the way for the last
 * bytes of a text gives what the others give. */
static void random_bytes_are_cut_without_a_gap(split piece_of) {
    static const char alphabet[] = "aB1 \n'\r/.\xCC\x81\xE4\xB8\xAD\xFF\xC2\xA0s";
    mf_rng rng;
    mf_rng_init(&rng, SEED);
    print_message("seed %d\n", SEED);
    for (int round = 0; round < 20000; round++) {
        char text[24];
        size_t len = 1 + (size_t)mf_rng_below(&rng, sizeof text);
        for (size_t i = 0; i < len; i++) {
            text[i] = alphabet[mf_rng_below(&rng, sizeof alphabet - 1)];
        }
        mf_str rest = {text, len};
        while (rest.len > 0) {
            size_t piece = piece_of(rest);
            assert_in_range(piece, 1, rest.len);
            rest = mf_str_sub(rest, piece, rest.len - piece);
        }
        char more[sizeof text + 15];
        memcpy(more, text, len);
        memcpy(more + len, "=\n=\n=\n=\n=\n=\n=\n=", 15);
        size_t piece = piece_of((mf_str){text, len});
        if (piece < len && (unsigned char)text[piece] < 0x80 && text[piece] > ' ') {
            assert_int_equal(piece_of((mf_str){more, len + 15}), piece);
        }
    }
}

static void random_bytes_are_cut_by_o200k(void **state) {
    (void)state;
    random_bytes_are_cut_without_a_gap(mf_split_o200k);
}

static void random_bytes_are_cut_by_cl100k(void **state) {
    (void)state;
    random_bytes_are_cut_without_a_gap(mf_split_cl100k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_take_one_blank_or_symbol_before_them),
        cmocka_unit_test(case_changes_cut_words),
        cmocka_unit_test(letters_without_case_go_with_either),
        cmocka_unit_test(marks_are_prefix_letter_and_symbol),
        cmocka_unit_test(contractions_stay_with_their_word),
        cmocka_unit_test(digits_come_in_threes),
        cmocka_unit_test(symbols_take_line_ends_and_slashes_behind_them),
        cmocka_unit_test(white_space_ends_with_its_last_line_end),
        cmocka_unit_test(damaged_bytes_are_symbols),
        cmocka_unit_test(words_longer_than_a_read_are_one_piece),
        cmocka_unit_test(young_characters_have_the_kind_of_the_reference),
        cmocka_unit_test(cl100k_words_keep_their_case_changes_and_lose_contractions),
        cmocka_unit_test(cl100k_marks_are_symbols_that_may_lead_a_word),
        cmocka_unit_test(cl100k_symbols_take_line_ends_but_no_slashes),
        cmocka_unit_test(cl100k_white_space_at_the_end_is_one_piece),
        cmocka_unit_test(random_bytes_are_cut_by_o200k),
        cmocka_unit_test(random_bytes_are_cut_by_cl100k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
