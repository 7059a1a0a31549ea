/* token_counter_test.c - exact with ranks, an honest estimate without, and never a
 * guess from a damaged file. */
#include "model/token_counter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "os/file.h"

/* All 256 single bytes and two words, in a temporary file. */
static int make_ranks(void **state) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/mf-ranks-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) {
        return -1;
    }
    (void)close(fd);
    mf_buf file;
    mf_buf_init(&file, 1 << 16);
    for (unsigned byte = 0; byte < 256; byte++) {
        (void)mf_buf_printf(&file, "%c%c== %u\n", digits[byte >> 2],
                            digits[byte << 4 & 63],
                            byte); /* `failed` tells at the end */
    }
    (void)mf_buf_add_str(&file, MF_STR("aGVsbG8= 256\nIHdvcmxk 257\n")); /* as above */
    mf_rc rc = file.failed;
    if (rc == MF_OK) {
        rc = mf_file_write_atomic(path, mf_buf_view(&file), NULL);
    }
    mf_buf_done(&file);
    *state = path;
    return rc == MF_OK ? 0 : -1;
}

static int remove_ranks(void **state) {
    (void)unlink(*state);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static mf_token_counter *must_open(const char *path) {
    mf_token_counter *counter = NULL;
    mf_err err;
    if (mf_token_counter_open(path, &counter, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return counter;
}

static void ranks_give_exact_counts(void **state) {
    mf_token_counter *counter = must_open(*state);
    assert_true(mf_token_counter_is_exact(counter));
    assert_int_equal(mf_token_count(counter, MF_STR("hello world!")), 3);
    assert_int_equal(mf_token_count(counter, MF_STR("")), 0);
    assert_int_equal(mf_token_count(counter, MF_STR_NONE), 0);
    assert_int_equal(mf_token_count(counter, MF_STR("\xFF\xC3")), 2);
    mf_token_counter_close(counter);
}

static void without_ranks_it_estimates_and_says_so(void **state) {
    (void)state;
    const char *paths[] = {NULL, "/nonexistent/o200k_base.tiktoken"};
    for (size_t i = 0; i < 2; i++) {
        mf_token_counter *counter = must_open(paths[i]);
        assert_false(mf_token_counter_is_exact(counter));
        assert_int_equal(mf_token_count(counter, MF_STR("hello world")), 3);
        mf_token_counter_close(counter);
    }
}

static void the_estimate_is_1_3_per_word_and_cjk_character(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t count;
    } rows[] = {
        {"", 0},
        {" \t\n\u00a0\u3000", 0},
        {"word", 2},
        {"one two three four five six seven eight nine ten", 13},
        {"  many   blanks\n\nbetween  ", 4},
        {"\u4e2d\u6587\u5b57", 4},
        {"\u4e2d a\u6587b", 6}, /* four units: two ideographs, two words they cut */
        {"\u304b\u306a\ud55c\uad6d", 6},
        {"don't, stop!", 3},
    };
    mf_token_counter *counter = must_open(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(mf_token_count(counter, mf_str_from(rows[i].text)),
                         rows[i].count);
    }
    mf_token_counter_close(counter);
}

static void a_damaged_file_is_no_reason_to_estimate(void **state) {
    mf_token_counter *counter = NULL;
    mf_err err = {0};
    assert_int_equal(mf_file_write_atomic(*state, MF_STR("AA== 0\nnonsense\n"), &err),
                     MF_OK);
    assert_int_equal(mf_token_counter_open(*state, &counter, &err), MF_E_CORRUPT);
    assert_null(counter);
    assert_non_null(strstr(err.text, "line 2"));
    assert_int_equal(mf_token_counter_open("/", &counter, &err), MF_E_IO);
    assert_null(counter);
}

static void opening_survives_each_failed_allocation(void **state) {
    MF_EACH_FAULT("alloc", n) {
        mf_token_counter *counter = NULL;
        mf_err err = {0};
        if (mf_token_counter_open(*state, &counter, &err) == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(counter);
        }
        mf_token_counter_close(counter);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_ranks, remove_ranks)
    const struct CMUnitTest tests[] = {
        TEST(ranks_give_exact_counts),
        TEST(without_ranks_it_estimates_and_says_so),
        TEST(the_estimate_is_1_3_per_word_and_cjk_character),
        TEST(a_damaged_file_is_no_reason_to_estimate),
        TEST(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
