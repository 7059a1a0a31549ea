/* charsmap_test.c - a table as sentencepiece compiles it replaces what it says, and a
 * damaged one is refused or leaves characters alone. */
#include "model/charsmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

/* Compiled by sentencepiece 0.2.3 from: U+FF21 to "a"; "e" U+0301 to U+00E9; U+00AD to
 * nothing. */
static const char table[] =
    "AAQAAACQAQBlPAMAzAACAIEdAAADAACArQ0AAAAAAIC8uAIAoQUAAAEAAIALAAAACgAAAA"
    "0AAAAMAAAADwAAAA4AAAARAAAAEAAAABMAAAASAAAAFQAAABQAAAAXAAAAFgAAABkAAAAY"
    "AAAAGwAAABoAAAAdAAAAHAAAAB8AAAAeAAAAIQAAACAAAAAjAAAAIgAAACUAAAAkAAAAJw"
    "AAACYAAAApAAAAKAAAACsAAAAqAAAALQAAACwAAAAvAAAALgAAADEAAAAwAAAAMwAAADIA"
    "AAA1AAAANAAAADcAAAA2AAAAOQAAADgAAAA7AAAAOgAAAD0AAAA8AAAAPwAAAD4AAABBAA"
    "AAQAAAAEMAAABCAAAARQAAAEQAAABHAAAARgAAAEkAAABIAAAASwAAAEoAAABNAAAATAAA"
    "AE8AAABOAAAAUQAAAFAAAABTAAAAUgAAAFUAAABUAAAAVwAAAFYAAABZAAAAWAAAAFsAAA"
    "BaAAAAXQAAAFwAAABfAAAAXgAAAGEAAABgAAAAYwAAAGIAAABlAAAAZAAAAGcAAABmAAAA"
    "aQAAAGgAAABrAAAAagAAAG0AAABsAAAAbwAAAG4AAABxAAAAcAAAAHMAAAByAAAAdQAAAH"
    "QAAAB3AAAAdgAAAHkAAAB4AAAAewAAAHoAAAB9AAAAfAAAAH8AAAB+AAAAgQAAAIAAAACD"
    "AAAAggAAAIUAAACEAAAAhwAAAIYAAACJAAAAiAAAAIsAAADvwAAAjQAAAIwAAACPAAAAjg"
    "AAAJEAAACQAAAAkwAAAJIAAACVAAAAlAAAAJcAAACWAAAAmQAAAJgAAACbAAAAmgAAAJ0A"
    "AACcAAAAnwAAAJ4AAAChAAAAoAAAAKMAAACiAAAApQAAAKQAAADCOAAApgAAAKkAAACoAA"
    "AAqwAAAKoAAACtAAAArAAAAK8AAACuAAAAsQAAALAAAACzAAAAsgAAALUAAAC0AAAAtwAA"
    "ALYAAAC5AAAAuAAAALsAAAC6AAAAvQAAALwAAAC/AAAAvgAAAMEAAADAAAAAwwAAAMIAAA"
    "DFAAAAxAAAAMcAAADGAAAAyQAAAMgAAADLAAAAygAAAM0AAADMAAAAzwAAAM4AAADRAAAA"
    "0AAAANMAAADSAAAA1QAAANQAAADXAAAA1gAAANkAAADYAAAA2wAAANoAAADdAAAA3AAAAN"
    "8AAADeAAAA4QAAAOAAAADjAAAA4gAAAOUAAADkAAAA5wAAAOYAAADpAAAA6AAAAOsAAADq"
    "AAAA7QAAAOwAAADvAAAA7gAAAPEAAADwAAAA8wAAAPIAAAD1AAAA9AAAAPcAAAD2AAAA+Q"
    "AAAPgAAAD7AAAA+gAAAP0AAAD8AAAA/wAAAP4AAAAAYQDDqQA=";

static mf_charsmap *must_open(mf_str base64) {
    mf_charsmap *map = NULL;
    mf_err err;
    if (mf_charsmap_open(base64, &map, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return map;
}

static void expect(const mf_charsmap *map, const char *chunk, const char *wanted) {
    mf_str found = mf_charsmap_find(map, mf_str_from(chunk));
    assert_true((wanted == NULL) == (found.p == NULL));
    assert_true(mf_str_eq(found, mf_str_from(wanted)));
}

static void entries_lead_to_their_texts(void **state) {
    (void)state;
    mf_charsmap *map = must_open(mf_str_from(table));
    expect(map, "\xEF\xBC\xA1", "a");
    expect(map, "e\xCC\x81", "\xC3\xA9");
    expect(map, "e\xCC\x81\xCC\x81", "\xC3\xA9"); /* what it begins with */
    expect(map, "\xC2\xAD", "");
    expect(map, "e", NULL);
    expect(map, "\xEF\xBC\xA2", NULL);
    expect(map, "", NULL);
    mf_charsmap_close(map);
    mf_charsmap_close(NULL);
    assert_int_equal(mf_alloc_live(), 0);
}

static void what_is_no_table_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *base64, *clue;
    } cases[] = {
        {"", "0 bytes"},
        {"A", "not base64"},
        {"AAA*", "not base64"},
        {"A===", "not base64"},
        {"AA=A", "not base64"},
        {"AAAA", "a trie of 0"},
        {"AAAAAA==", "a trie of 0"},
        {"AwAAAAAAAAA=", "a trie of 3"},
        {"CAAAAAAAAAA=", "a trie of 8 bytes in a table of 8"},
        {"BAAAAAAAAAD/", "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_charsmap *map = NULL;
        mf_err err = {0};
        assert_int_equal(mf_charsmap_open(mf_str_from(cases[i].base64), &map, &err),
                         MF_E_CORRUPT);
        if (strstr(err.text, cases[i].clue) == NULL) {
            fail_msg("case %zu: %s", i, err.text);
        }
        assert_null(map);
    }
    assert_int_equal(mf_alloc_live(), 0);
}

/* Any digit of the table may be another one: no search leaves the table. */
static void damaged_tables_stay_within_their_bounds(void **state) {
    (void)state;
    static char damaged[sizeof table];
    for (size_t i = 0; i < sizeof table - 1; i++) {
        mf_charsmap *map = NULL;
        memcpy(damaged, table, sizeof table);
        damaged[i] = damaged[i] == '/' ? 'A' : '/';
        if (mf_charsmap_open(mf_str_from(damaged), &map, NULL) != MF_OK) {
            continue;
        }
        for (int byte = 1; byte < 256; byte++) {
            char chunk[] = {(char)byte, '\xCC', '\x81', '\0'};
            (void)mf_charsmap_find(map, mf_str_from(chunk));
        }
        mf_charsmap_close(map);
    }
    assert_int_equal(mf_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_lead_to_their_texts),
        cmocka_unit_test(what_is_no_table_is_refused),
        cmocka_unit_test(damaged_tables_stay_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
