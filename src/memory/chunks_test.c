/* chunks_test.c - parts cover the text in order, fit the window and end where they
 * should.
 *
 * The vocabulary is made here: every letter is a piece, so a word of n letters has n
 * ids and windows can be counted by hand. */
#include "memory/chunks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

static char folder[] = "/tmp/mf_chunks_XXXXXX";

static int make_vocabulary(void **state) {
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/vocab.txt", folder);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return -1;
    }
    (void)fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n.\n!\n?\n\xE3\x80\x82\n", file);
    for (char letter = 'a'; letter <= 'z'; letter++) {
        (void)fprintf(file, "%c\n##%c\n", letter, letter);
    }
    if (fclose(file) != 0) {
        return -1;
    }
    mf_model_tokenizer *wp = NULL;
    mf_err err;
    if (mf_model_tokenizer_open(folder, &wp, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = wp;
    return 0;
}

static int drop_vocabulary(void **state) {
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/vocab.txt", folder);
    mf_model_tokenizer_close(*state);
    return unlink(path) != 0 || rmdir(folder) != 0;
}

static size_t cut(const mf_model_tokenizer *wp, size_t window, mf_str text,
                  mf_str *parts) {
    size_t count = 0;
    assert_int_equal(
        mf_chunks_cut(wp, window, text, parts, MF_CHUNKS_MAX, &count, NULL), MF_OK);
    assert_in_range(count, 1, MF_CHUNKS_MAX);
    return count;
}

static void assert_part(mf_str part, const char *expected) {
    assert_int_equal(part.len, strlen(expected));
    assert_memory_equal(part.p, expected, part.len);
}

static void a_short_text_is_one_part(void **state) {
    mf_str parts[MF_CHUNKS_MAX];
    assert_int_equal(cut(*state, 10, MF_STR("  abc de \n"), parts), 1);
    assert_part(parts[0], "abc de");
}

static void a_blank_text_is_one_empty_part(void **state) {
    mf_str parts[MF_CHUNKS_MAX];
    assert_int_equal(cut(*state, 10, MF_STR(" \n\t "), parts), 1);
    assert_int_equal(parts[0].len, 0);
    assert_int_equal(cut(*state, 10, MF_STR_NONE, parts), 1);
    assert_int_equal(parts[0].len, 0);
}

static void windows_end_behind_words(void **state) {
    mf_str parts[MF_CHUNKS_MAX];
    /* 8 ids inside each window of 10 */
    assert_int_equal(cut(*state, 10, MF_STR("abcd efgh ijkl mnop q"), parts), 3);
    assert_part(parts[0], "abcd efgh");
    assert_part(parts[1], "ijkl mnop");
    assert_part(parts[2], "q");
}

static void a_sentence_that_ends_late_in_the_window_ends_the_part(void **state) {
    mf_str parts[MF_CHUNKS_MAX];
    assert_int_equal(cut(*state, 14, MF_STR("abcd efgh. ijk lmn opq rst"), parts), 2);
    assert_part(parts[0], "abcd efgh.");
    assert_part(parts[1], "ijk lmn opq rst");
    /* one that ends early does not */
    assert_int_equal(cut(*state, 14, MF_STR("ab. cdef ghij kl mno"), parts), 2);
    assert_part(parts[0], "ab. cdef ghij");
    assert_int_equal(cut(*state, 14, MF_STR("abcd efgh\nijk lmn opq rst"), parts), 2);
    assert_part(parts[0], "abcd efgh");
}

static void what_does_not_fit_in_the_parts_is_left_out(void **state) {
    mf_str parts[2];
    size_t count = 0;
    assert_int_equal(mf_chunks_cut(*state, 10, MF_STR("abcd efgh ijkl mnop q"), parts,
                                   2, &count, NULL),
                     MF_OK);
    assert_int_equal(count, 2);
    assert_part(parts[1], "ijkl mnop");
}

static void impossible_windows_are_refused(void **state) {
    mf_str part;
    size_t count = 7;
    mf_err err;
    assert_int_equal(mf_chunks_cut(*state, 2, MF_STR("a"), &part, 1, &count, &err),
                     MF_E_INVAL);
    assert_int_equal(mf_chunks_cut(*state, 10, MF_STR("a"), &part, 0, &count, &err),
                     MF_E_INVAL);
    assert_int_equal(count, 7);
}

static void random_texts_are_covered_in_order_within_the_window(void **state) {
    mf_rng rng;
    mf_rng_init(&rng, 99);
    static const char alphabet[] = "abc  .\n!?  xyz";
    for (size_t round = 0; round < 2000; round++) {
        char bytes[400];
        size_t len = mf_rng_below(&rng, sizeof(bytes));
        for (size_t i = 0; i < len; i++) {
            bytes[i] = alphabet[mf_rng_below(&rng, sizeof(alphabet) - 1)];
        }
        mf_str text = {bytes, len};
        mf_str parts[MF_CHUNKS_MAX];
        size_t window = 12 + mf_rng_below(&rng, 40);
        size_t count = cut(*state, window, text, parts);
        const char *at = bytes;
        for (size_t i = 0; i < count && parts[0].len > 0; i++) {
            assert_true(parts[i].len > 0);
            assert_true(parts[i].p >= at);
            for (; at < parts[i].p; at++) {
                assert_true(*at == ' ' || *at == '\n'); /* nothing else is skipped */
            }
            at = parts[i].p + parts[i].len;
            int32_t ids[64];
            bool truncated = false;
            (void)mf_model_tokenizer_encode(*state, parts[i], ids, window, &truncated);
            assert_false(truncated);
        }
    }
}

static void a_megabyte_without_a_blank_makes_progress(void **state) {
    enum { BYTES = 1 << 20 };
    char *text = mf_alloc(BYTES);
    assert_non_null(text);
    memset(text, 'z', BYTES);
    mf_str parts[MF_CHUNKS_MAX];
    (void)cut(*state, 256, (mf_str){text, BYTES}, parts);
    assert_true(parts[0].len > 0 && parts[0].p == text);
    mf_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_text_is_one_part),
        cmocka_unit_test(a_blank_text_is_one_empty_part),
        cmocka_unit_test(windows_end_behind_words),
        cmocka_unit_test(a_sentence_that_ends_late_in_the_window_ends_the_part),
        cmocka_unit_test(what_does_not_fit_in_the_parts_is_left_out),
        cmocka_unit_test(impossible_windows_are_refused),
        cmocka_unit_test(random_texts_are_covered_in_order_within_the_window),
        cmocka_unit_test(a_megabyte_without_a_blank_makes_progress),
    };
    return cmocka_run_group_tests(tests, make_vocabulary, drop_vocabulary);
}
