/* piece_trie_test.c - every piece is found, nothing else is, and a bad vocabulary is
 * refused by the entry that is wrong. */
#include "model/piece_trie.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"

static mf_piece_trie *must_open(const mf_str *pieces, size_t count) {
    mf_piece_trie *trie = NULL;
    mf_err err;
    if (mf_piece_trie_open(pieces, count, &trie, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return trie;
}

static void pieces_are_found_and_their_beginnings_are_not(void **state) {
    (void)state;
    const mf_str pieces[] = {MF_STR("b"), MF_STR("abc"), MF_STR("a"), MF_STR("abd"),
                             MF_STR("\xE4\xB8\xAD")};
    mf_piece_trie *trie = must_open(pieces, 5);
    for (int32_t i = 0; i < 5; i++) {
        assert_int_equal(mf_piece_trie_find(trie, pieces[i]), i);
    }
    static const char *const others[] = {"", "ab", "c", "abcd", "\xE4", "\xE4\xB8"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(mf_piece_trie_find(trie, mf_str_from(others[i])), -1);
    }
    uint32_t node = mf_piece_trie_step(trie, 0, 'a');
    assert_int_equal(mf_piece_trie_id(trie, node), 2);
    node = mf_piece_trie_step(trie, node, 'b');
    assert_int_equal(mf_piece_trie_id(trie, node), -1);
    assert_int_equal(mf_piece_trie_step(trie, node, 'x'), 0);
    mf_piece_trie_close(trie);
    mf_piece_trie_close(NULL);
    assert_int_equal(mf_alloc_live(), 0);
}

/* Numbers written out share beginnings in all ways. */
static void a_large_vocabulary_is_found_whole(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static char texts[COUNT][8];
    static mf_str pieces[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "%zu", i * 7 % COUNT);
        pieces[i] = mf_str_from(texts[i]);
    }
    mf_piece_trie *trie = must_open(pieces, COUNT);
    for (int32_t i = 0; i < COUNT; i++) {
        assert_int_equal(mf_piece_trie_find(trie, pieces[i]), i);
    }
    assert_int_equal(mf_piece_trie_find(trie, MF_STR("20000")), -1);
    mf_piece_trie_close(trie);
}

static void bad_entries_are_refused_by_number(void **state) {
    (void)state;
    static char large[MF_PIECE_TRIE_BYTES_MAX + 2];
    memset(large, 'a', sizeof large - 1);
    const struct {
        mf_str second;
        const char *clue;
    } cases[] = {
        {MF_STR(""), "entry 1 is empty"},
        {MF_STR("x"), "entries"},
        {MF_STR("\xE4\xB8"), "entry 1 is not UTF-8"},
        {mf_str_from(large), "entry 1 is too long"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const mf_str pieces[] = {MF_STR("x"), cases[i].second, MF_STR("y")};
        mf_piece_trie *trie = NULL;
        mf_err err;
        assert_int_equal(mf_piece_trie_open(pieces, 3, &trie, &err), MF_E_CORRUPT);
        assert_non_null(strstr(err.text, cases[i].clue));
        assert_null(trie);
    }
    large[MF_PIECE_TRIE_BYTES_MAX] = '\0';
    const mf_str longest = mf_str_from(large);
    mf_piece_trie *trie = must_open(&longest, 1);
    assert_int_equal(mf_piece_trie_find(trie, longest), 0);
    mf_piece_trie_close(trie);
}

static void opening_survives_each_failed_allocation(void **state) {
    (void)state;
    const mf_str pieces[] = {MF_STR("a"), MF_STR("b")};
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_piece_trie *trie = NULL;
        mf_rc rc = mf_piece_trie_open(pieces, 2, &trie, NULL);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        mf_piece_trie_close(trie);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_found_and_their_beginnings_are_not),
        cmocka_unit_test(a_large_vocabulary_is_found_whole),
        cmocka_unit_test(bad_entries_are_refused_by_number),
        cmocka_unit_test(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
