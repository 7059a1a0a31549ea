/* encoding_test.c - an encoding is its split rules and its ranks together.  The golden
 * test compares ids with the reference. */
#include "model/encoding.h"

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

/* All 256 single bytes and three words, in a temporary file. */
static int make_ranks(void **state) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/mf-encoding-XXXXXX");
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
    (void)mf_buf_add_str(&file, MF_STR("aGVsbG8= 256\nIHdvcmxk 257\naXQncw== 258\n"));
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

static mf_encoding *must_open(mf_encoding_kind kind, const char *path) {
    mf_encoding *encoding = NULL;
    mf_err err;
    if (mf_encoding_open(kind, path, &encoding, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return encoding;
}

static void pieces_are_cut_before_they_are_encoded(void **state) {
    mf_encoding *o200k = must_open(MF_ENCODING_O200K_BASE, *state);
    mf_encoding *cl100k = must_open(MF_ENCODING_CL100K_BASE, *state);
    uint32_t ids[8] = {0};
    assert_int_equal(mf_encoding_token_count(o200k), 259);
    assert_int_equal(mf_encoding_ids(o200k, MF_STR("hello world!"), ids, 8), 3);
    assert_int_equal(ids[0], 256);
    assert_int_equal(ids[1], 257);
    assert_int_equal(ids[2], '!');
    /* Only one of the two keeps a contraction with its word. */
    assert_int_equal(mf_encoding_ids(o200k, MF_STR("it's"), NULL, 0), 1);
    assert_int_equal(mf_encoding_ids(cl100k, MF_STR("it's"), NULL, 0), 4);
    mf_encoding_close(o200k);
    mf_encoding_close(cl100k);
}

static void empty_text_and_broken_bytes_are_fine(void **state) {
    mf_encoding *encoding = must_open(MF_ENCODING_CL100K_BASE, *state);
    uint32_t ids[4];
    assert_int_equal(mf_encoding_ids(encoding, MF_STR_NONE, NULL, 0), 0);
    assert_int_equal(mf_encoding_ids(encoding, MF_STR("\xFF\xC3"), ids, 4), 2);
    assert_int_equal(ids[0], 0xFF);
    assert_int_equal(ids[1], 0xC3);
    mf_encoding_close(encoding);
}

static void ids_beyond_the_room_are_counted_not_written(void **state) {
    mf_encoding *encoding = must_open(MF_ENCODING_O200K_BASE, *state);
    for (size_t room = 0; room <= 4; room++) {
        uint32_t ids[5] = {9, 9, 9, 9, 9};
        static const uint32_t all[4] = {256, 257, '!', '?'};
        mf_str text = MF_STR("hello world!?");
        assert_int_equal(mf_encoding_ids(encoding, text, ids, room), 4);
        assert_memory_equal(ids, all, room * sizeof *ids);
        assert_int_equal(ids[room], 9);
    }
    mf_encoding_close(encoding);
}

static void names_stand_for_kinds(void **state) {
    (void)state;
    for (int kind = 0; kind < MF_ENCODING_COUNT; kind++) {
        mf_encoding_kind found = MF_ENCODING_COUNT;
        assert_true(
            mf_encoding_from_name(mf_encoding_name((mf_encoding_kind)kind), &found));
        assert_int_equal(found, kind);
    }
    mf_encoding_kind found = MF_ENCODING_COUNT;
    assert_false(mf_encoding_from_name("o200k", &found));
    assert_false(mf_encoding_from_name("", &found));
    assert_int_equal(found, MF_ENCODING_COUNT);
}

static void opening_survives_each_failed_allocation(void **state) {
    MF_EACH_FAULT("alloc", n) {
        mf_encoding *encoding = NULL;
        mf_err err = {0};
        mf_rc rc = mf_encoding_open(MF_ENCODING_O200K_BASE, *state, &encoding, &err);
        if (rc == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(encoding);
        }
        mf_encoding_close(encoding);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_ranks, remove_ranks)
    const struct CMUnitTest tests[] = {
        TEST(pieces_are_cut_before_they_are_encoded),
        TEST(empty_text_and_broken_bytes_are_fine),
        TEST(ids_beyond_the_room_are_counted_not_written),
        TEST(names_stand_for_kinds),
        TEST(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
