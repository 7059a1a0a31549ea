/* stop_words_test.c - the list finds each of its words and nothing else. */
#include "index/stop_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void function_words_are_stop_words(void **state) {
    (void)state;
    static const char *const yes[] = {"a",          "about",  "did",      "i",
                                      "is",         "itself", "the",      "us",
                                      "what",       "who",    "you",      "ourselves",
                                      "themselves", "would",  "yourself", "yourselves"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        assert_true(mf_stop_word(mf_str_from(yes[i])));
    }
}

static void words_that_carry_a_fact_are_not(void **state) {
    (void)state;
    static const char *const no[] = {"",      "no", "not",    "before",
                                     "after", "aa", "yours2", "zebra",
                                     "thex",  "th", "first",  "against"};
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        assert_false(mf_stop_word(mf_str_from(no[i])));
    }
}

static void every_word_of_the_list_can_be_found(void **state) {
    (void)state;
    assert_true(mf_stop_words_check());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(function_words_are_stop_words),
        cmocka_unit_test(words_that_carry_a_fact_are_not),
        cmocka_unit_test(every_word_of_the_list_can_be_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
