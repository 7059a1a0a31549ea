/* utf8_test.c - validation follows table 3-7 of the Unicode standard to the byte, and
 * decoding is the inverse of encoding for every code point. */
#include "text/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { SEED = 20251120 };

static bool is_scalar(uint32_t code) {
    return code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
}

/* Table 3-7: the well-formed sequences, a range for each byte. */
static const struct row {
    size_t len;
    uint8_t low[4], high[4];
} table_3_7[] = {
    {1, {0x00}, {0x7F}},
    {2, {0xC2, 0x80}, {0xDF, 0xBF}},
    {3, {0xE0, 0xA0, 0x80}, {0xE0, 0xBF, 0xBF}},
    {3, {0xE1, 0x80, 0x80}, {0xEC, 0xBF, 0xBF}},
    {3, {0xED, 0x80, 0x80}, {0xED, 0x9F, 0xBF}},
    {3, {0xEE, 0x80, 0x80}, {0xEF, 0xBF, 0xBF}},
    {4, {0xF0, 0x90, 0x80, 0x80}, {0xF0, 0xBF, 0xBF, 0xBF}},
    {4, {0xF1, 0x80, 0x80, 0x80}, {0xF3, 0xBF, 0xBF, 0xBF}},
    {4, {0xF4, 0x80, 0x80, 0x80}, {0xF4, 0x8F, 0xBF, 0xBF}},
};

static bool in_table(const uint8_t *bytes, size_t len) {
    for (size_t r = 0; r < sizeof table_3_7 / sizeof table_3_7[0]; r++) {
        const struct row *row = &table_3_7[r];
        bool fits = row->len == len;
        for (size_t i = 0; fits && i < len; i++) {
            fits = bytes[i] >= row->low[i] && bytes[i] <= row->high[i];
        }
        if (fits) {
            return true;
        }
    }
    return false;
}

/* Whether `bytes` is a row of sequences of the table: the rule told without
 * cleverness. */
static bool valid_by_table(const uint8_t *bytes, size_t len) {
    size_t at = 0;
    while (at < len) {
        size_t n = 1;
        while (n <= 4 && (at + n > len || !in_table(bytes + at, n))) {
            n++;
        }
        if (n > 4) {
            return false;
        }
        at += n;
    }
    return true;
}

/* The values at which some range of the table begins or ends, and their neighbours. */
static const uint8_t edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFC, 0xFF};
enum { EDGE_COUNT = sizeof edges };

static void all_sequences_of_edge_bytes_follow_the_table(void **state) {
    (void)state;
    size_t valid = 0;
    for (size_t len = 1; len <= 4; len++) {
        size_t total = 1;
        for (size_t i = 0; i < len; i++) {
            total *= EDGE_COUNT;
        }
        for (size_t n = 0; n < total; n++) {
            uint8_t bytes[4];
            size_t digits = n;
            for (size_t i = 0; i < len; i++) {
                bytes[i] = edges[digits % EDGE_COUNT];
                digits /= EDGE_COUNT;
            }
            bool expected = valid_by_table(bytes, len);
            valid += expected;
            if (mf_utf8_valid((mf_str){(const char *)bytes, len}) != expected) {
                fail_msg("%zu bytes: %02x %02x %02x %02x", len, bytes[0], bytes[1],
                         bytes[2], bytes[3]);
            }
        }
    }
    assert_true(valid > 100);
}

static void every_pair_of_bytes_follows_the_table(void **state) {
    (void)state;
    for (unsigned n = 0; n < 65536; n++) {
        uint8_t bytes[2] = {(uint8_t)(n >> 8), (uint8_t)n};
        assert_int_equal(mf_utf8_valid((mf_str){(const char *)bytes, 2}),
                         valid_by_table(bytes, 2));
    }
}

static void every_code_point_makes_the_round_trip(void **state) {
    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        if (!is_scalar(code)) {
            continue;
        }
        char bytes[4];
        size_t len = mf_utf8_put(code, bytes);
        mf_str text = {bytes, len};
        size_t at = 0;
        size_t lossy_at = 0;
        assert_true(mf_utf8_valid(text));
        assert_int_equal(mf_utf8_next(text, &at), code);
        assert_int_equal(at, len);
        assert_int_equal(mf_utf8_next_lossy(text, &lossy_at), code);
        assert_int_equal(lossy_at, len);
        assert_int_equal(mf_utf8_count(text), 1);
        assert_int_equal(len, 1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF));
    }
}

static void surrogates_and_overlong_forms_are_refused(void **state) {
    (void)state;
    assert_false(mf_utf8_valid(MF_STR("\xED\xA0\x80")));     /* U+D800 */
    assert_false(mf_utf8_valid(MF_STR("\xED\xBF\xBF")));     /* U+DFFF */
    assert_false(mf_utf8_valid(MF_STR("\xC0\x80")));         /* U+0000 in two bytes */
    assert_false(mf_utf8_valid(MF_STR("\xE0\x9F\xBF")));     /* U+07FF in three */
    assert_false(mf_utf8_valid(MF_STR("\xF0\x8F\xBF\xBF"))); /* U+FFFF in four */
    assert_false(mf_utf8_valid(MF_STR("\xF4\x90\x80\x80"))); /* U+110000 */
    assert_false(mf_utf8_valid(MF_STR("\xF8\x88\x80\x80\x80"))); /* five bytes */
}

static void empty_text_and_nul_bytes_are_valid(void **state) {
    (void)state;
    assert_true(mf_utf8_valid(MF_STR_NONE));
    assert_int_equal(mf_utf8_count(MF_STR_NONE), 0);
    assert_int_equal(mf_utf8_prefix(MF_STR_NONE, 3).len, 0);
    assert_true(mf_utf8_valid(MF_STR("a\0b\0")));
    assert_int_equal(mf_utf8_count(MF_STR("a\0b\0")), 4);
}

/* A damaged byte is found wherever it stands relative to the blocks that are
 * skipped. */
static void damage_is_found_at_every_offset(void **state) {
    (void)state;
    static const mf_str inserts[] = {
        {"\x80", 1}, {"\xFF", 1}, {"\xC3", 1}, {"\xE2\x82", 2}, {"\xF0\x9F\x98", 3}};
    for (size_t len = 1; len <= 160; len++) {
        for (size_t n = 0; n < sizeof inserts / sizeof inserts[0]; n++) {
            char text[160];
            memset(text, 'x', sizeof text);
            assert_true(mf_utf8_valid((mf_str){text, len}));
            mf_str bad = inserts[n];
            for (size_t at = 0; at + bad.len <= len; at++) {
                memset(text, 'x', sizeof text);
                memcpy(text + at, bad.p, bad.len);
                assert_false(mf_utf8_valid((mf_str){text, len}));
            }
        }
    }
}

/* Random valid text, in memory of exactly its size so that a sanitizer sees
 * overreads. */
static void counts_and_prefixes_agree_with_decoding(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, SEED);
    print_message("seed %d\n", SEED);
    for (int round = 0; round < 300; round++) {
        char text[400];
        size_t ends[100];
        size_t len = 0;
        size_t count = (size_t)mf_rng_below(&rng, 100);
        for (size_t i = 0; i < count;) {
            uint64_t below = mf_rng_below(&rng, 4) == 0 ? 0x110000 : 0x100;
            uint32_t code = (uint32_t)mf_rng_below(&rng, below);
            if (is_scalar(code)) {
                len += mf_utf8_put(code, text + len);
                ends[i++] = len;
            }
        }
        char *exact = mf_alloc(len);
        assert_non_null(exact);
        memcpy(exact, text, len);
        mf_str whole = {exact, len};
        assert_true(mf_utf8_valid(whole));
        assert_int_equal(mf_utf8_count(whole), count);
        size_t fits = 0; /* characters that end within bytes_max */
        for (size_t bytes_max = 0; bytes_max <= len + 2; bytes_max++) {
            while (fits < count && ends[fits] <= bytes_max) {
                fits++;
            }
            mf_str prefix = mf_utf8_prefix(whole, bytes_max);
            assert_ptr_equal(prefix.p, exact);
            assert_int_equal(prefix.len, fits > 0 ? ends[fits - 1] : 0);
        }
        mf_free(exact);
    }
}

static void damaged_bytes_decode_to_the_replacement_one_by_one(void **state) {
    (void)state;
    mf_str text = MF_STR("a\xE2\x82z\xED\xA0\x80\xC3\xA9\xF0\x9F\x98");
    static const uint32_t expected[] = {'a',    0xFFFD, 0xFFFD, 'z',    0xFFFD, 0xFFFD,
                                        0xFFFD, 0xE9,   0xFFFD, 0xFFFD, 0xFFFD};
    size_t at = 0;
    size_t n = 0;
    while (at < text.len) {
        assert_true(n < sizeof expected / sizeof expected[0]);
        assert_int_equal(mf_utf8_next_lossy(text, &at), expected[n++]);
    }
    assert_int_equal(n, sizeof expected / sizeof expected[0]);
    assert_int_equal(at, text.len);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_sequences_of_edge_bytes_follow_the_table),
        cmocka_unit_test(every_pair_of_bytes_follows_the_table),
        cmocka_unit_test(every_code_point_makes_the_round_trip),
        cmocka_unit_test(surrogates_and_overlong_forms_are_refused),
        cmocka_unit_test(empty_text_and_nul_bytes_are_valid),
        cmocka_unit_test(damage_is_found_at_every_offset),
        cmocka_unit_test(counts_and_prefixes_agree_with_decoding),
        cmocka_unit_test(damaged_bytes_decode_to_the_replacement_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
