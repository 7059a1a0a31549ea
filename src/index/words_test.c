/* words_test.c - which texts share terms, and which do not. */
#include "index/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"

static mf_terms cut(const char *text) {
    mf_terms terms = {0};
    mf_err err;
    assert_int_equal(mf_words_cut(mf_str_from(text), &terms, &err), MF_OK);
    return terms;
}

/* The two texts give the same terms in the same order. */
static void assert_same(const char *a, const char *b) {
    mf_terms x = cut(a);
    mf_terms y = cut(b);
    bool same =
        x.count == y.count &&
        (x.count == 0 || memcmp(x.hashes, y.hashes, x.count * sizeof(*x.hashes)) == 0);
    mf_terms_done(&x);
    mf_terms_done(&y);
    if (!same) {
        print_error("'%s' and '%s' differ\n", a, b);
    }
    assert_true(same);
}

static size_t count_of(const char *text) {
    mf_terms terms = cut(text);
    size_t count = terms.count;
    mf_terms_done(&terms);
    return count;
}

typedef struct text_pair {
    const char *a, *b;
} text_pair;

static void texts_that_mean_the_same_words_give_the_same_terms(void **state) {
    (void)state;
    static const text_pair same[] = {
        {"Hello, World!", "hello world"},
        {"running dogs", "run dog"},
        {"Café", "cafe"},
        {"Cafe\xCC\x81", "café"}, /* combining acute */
        {"ÜBER straße", "uber strasse"},
        {"Ana's dog", "Ana dog"},
        {"Ana\xE2\x80\x99s dog", "Ana dog"}, /* typographic apostrophe */
        {"I don't swim", "swim"},
        {"you've I'm she'll he'd they're swim", "swim"},
        {"'quoted' words'", "quoted words"},
        {"\xEF\xBC\xA1\xEF\xBC\xA2\xEF\xBC\xA3", "abc"}, /* full-width letters */
        {"co\xC2\xADoperate", "cooperate"},              /* soft hyphen */
        {"$1,000", "1000"},
        {"1,234,567", "1234567"},
        {"ΣΊΣΥΦΟΣ", "σισυφοσ"},
        {"the of and", ""},
        {"", "   \t\n...!?"},
        {"e-mail", "e mail"},
        {"a\xE2\x80\x8B"
         "bc",
         "bc"}, /* zero-width blank */
    };
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_same(same[i].a, same[i].b);
    }
}

static void words_that_differ_give_different_terms(void **state) {
    (void)state;
    static const text_pair differ[] = {
        {"cat", "car"},       {"8", "9"},
        {"10,20", "1020"},    {"May 8,2023", "May 82023"},
        {"привет", "привед"}, {"हिन्दी", "हन्द"},
    };
    for (size_t i = 0; i < sizeof(differ) / sizeof(differ[0]); i++) {
        mf_terms x = cut(differ[i].a);
        mf_terms y = cut(differ[i].b);
        bool same = x.count == y.count &&
                    memcmp(x.hashes, y.hashes, x.count * sizeof(*x.hashes)) == 0;
        mf_terms_done(&x);
        mf_terms_done(&y);
        assert_false(same);
    }
}

static void identifiers_give_the_whole_and_the_parts(void **state) {
    (void)state;
    assert_same("getUserName", "getusername get user name");
    assert_same("get_user_name", "getusername get user name");
    assert_same("HTTPServer", "httpserver http server");
    assert_same("__init__", "init");
    assert_same("MAX_TOKENS", "maxtokens max tokens");
    assert_same("O'Brien", "obrien o brien");
    assert_same("LGBTQ", "lgbtq");
    assert_same("utf8Valid", "utf8valid utf8 valid");
}

static void scripts_without_blanks_give_characters_and_pairs(void **state) {
    (void)state;
    assert_int_equal(count_of("\xE4\xB8\xAD"), 1);                         /* one */
    assert_int_equal(count_of("\xE4\xB8\xAD\xE6\x96\x87"), 3);             /* 2 + 1 */
    assert_int_equal(count_of("\xE4\xB8\xAD\xE6\x96\x87\xE5\xAD\x97"), 5); /* 3 + 2 */
    assert_int_equal(count_of("\xE4\xB8\xAD \xE6\x96\x87"),
                     2); /* no pair over a blank */
    assert_int_equal(count_of("\xE4\xB8\xAD"
                              "abc"
                              "\xE6\x96\x87"),
                     3);
    assert_int_equal(count_of("\xED\x95\x9C\xEA\xB5\xAD"), 3); /* Hangul */
    assert_int_equal(count_of("\xE3\x81\x8C"), 1); /* a voiced kana is one */
}

static void a_very_long_word_counts_by_its_beginning(void **state) {
    (void)state;
    char word[1000];
    memset(word, 'q', sizeof(word));
    word[sizeof(word) - 1] = '\0';
    assert_int_equal(count_of(word), 1);
    word[MF_WORD_BYTES_MAX + 10] = '\0';
    char other[1000];
    memset(other, 'q', sizeof(other));
    other[sizeof(other) - 1] = '\0';
    assert_same(word, other);
}

static void bytes_that_are_not_utf8_separate_words(void **state) {
    (void)state;
    assert_same("cat\xFF\xFE"
                "dog",
                "cat dog");
    assert_same("cat\xC3", "cat");
    assert_same("\xE4\xB8", "");
}

static void one_megabyte_is_cut_without_loss(void **state) {
    (void)state;
    enum { WORDS = 1 << 17 }; /* of 8 bytes with the blank */
    char *text = mf_alloc(WORDS * 8);
    assert_non_null(text);
    for (size_t i = 0; i < WORDS; i++) {
        memcpy(text + i * 8, "lobster ", 8);
    }
    mf_terms terms = {0};
    assert_int_equal(mf_words_cut((mf_str){text, WORDS * 8}, &terms, NULL), MF_OK);
    assert_int_equal(terms.count, WORDS);
    mf_terms_done(&terms);
    mf_free(text);
}

static void random_bytes_never_break_the_cutter(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 11);
    for (size_t round = 0; round < 20000; round++) {
        char bytes[64];
        size_t len = mf_rng_below(&rng, sizeof(bytes) + 1);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (char)mf_rng_below(&rng, 256);
        }
        mf_terms terms = {0};
        assert_int_equal(mf_words_cut((mf_str){bytes, len}, &terms, NULL), MF_OK);
        for (size_t i = 0; i < terms.count; i++) {
            assert_true(terms.hashes[i] != 0);
        }
        mf_terms_done(&terms);
    }
}

static void a_failed_allocation_is_reported(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_terms terms = {0};
        mf_err err = {0};
        mf_rc rc = mf_words_cut(
            MF_STR("cats dogs birds fish trees boats cars planes trains houses rivers "
                   "lakes hills roads towns farms shops schools parks woods fields "
                   "clouds storms winds rains snows suns moons stars nights days weeks "
                   "months years spring summer autumn winter"),
            &terms, &err);
        if (rc == MF_OK) {
            assert_false(mf_fault_fired());
            assert_int_equal(terms.count, 38);
        } else {
            assert_int_equal(rc, MF_E_NOMEM);
            assert_int_equal(err.rc, MF_E_NOMEM);
        }
        mf_terms_done(&terms);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static void the_hash_of_a_word_is_the_one_a_text_gives(void **state) {
    (void)state;
    mf_terms terms = cut("Lobsters");
    assert_int_equal(terms.count, 1);
    assert_true(terms.hashes[0] == mf_words_hash(MF_STR("lobster")));
    assert_true(mf_words_hash(MF_STR("the")) == 0);
    mf_terms_done(&terms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_mean_the_same_words_give_the_same_terms),
        cmocka_unit_test(words_that_differ_give_different_terms),
        cmocka_unit_test(identifiers_give_the_whole_and_the_parts),
        cmocka_unit_test(scripts_without_blanks_give_characters_and_pairs),
        cmocka_unit_test(a_very_long_word_counts_by_its_beginning),
        cmocka_unit_test(bytes_that_are_not_utf8_separate_words),
        cmocka_unit_test(one_megabyte_is_cut_without_loss),
        cmocka_unit_test(random_bytes_never_break_the_cutter),
        cmocka_unit_test(a_failed_allocation_is_reported),
        cmocka_unit_test(the_hash_of_a_word_is_the_one_a_text_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
