/* piece_table_test.c - a table answers for every piece it was given, whatever its
 * length and whatever stands behind it in memory, and for no other. */
#include "model/piece_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"

enum { SEED = 20251121, COUNT = 3000, BYTES = 64 };

/* Piece n is `lengths[n]` bytes at n * BYTES; short ones are frequent. */
typedef struct pieces {
    uint8_t bytes[COUNT * BYTES + MF_PIECE_SLACK];
    size_t lengths[COUNT];
} pieces;

static pieces *make_pieces(void) {
    static pieces made;
    mf_rng rng;
    mf_rng_init(&rng, SEED);
    for (size_t i = 0; i < COUNT; i++) {
        made.lengths[i] = 1 + mf_rng_below(&rng, i % 3 == 0 ? 40 : 14);
        for (size_t k = 0; k < BYTES; k++) {
            /* Zero bytes too: a piece is not what its zero-padded key looks like. */
            made.bytes[i * BYTES + k] = (uint8_t)mf_rng_below(&rng, 4);
        }
    }
    return &made;
}

/* The first piece with these bytes. */
static uint32_t naive_find(const pieces *all, size_t count, const uint8_t *p,
                           size_t len) {
    for (size_t i = 0; i < count; i++) {
        if (all->lengths[i] == len && memcmp(all->bytes + i * BYTES, p, len) == 0) {
            return (uint32_t)i;
        }
    }
    return MF_PIECE_NONE;
}

static void pieces_are_found_as_a_list_would_find_them(void **state) {
    (void)state;
    print_message("seed %d\n", SEED);
    pieces *all = make_pieces();
    mf_piece_table table;
    assert_int_equal(mf_piece_table_init(&table, COUNT, all->bytes, NULL), MF_OK);
    for (size_t i = 0; i < COUNT; i++) {
        uint32_t known = naive_find(all, i, all->bytes + i * BYTES, all->lengths[i]);
        assert_int_equal(
            mf_piece_add(&table, (uint32_t)(i * BYTES), all->lengths[i], (uint32_t)i),
            known);
    }
    for (size_t i = 0; i < COUNT; i++) {
        const uint8_t *p = all->bytes + i * BYTES;
        for (size_t len = 1; len <= 20; len++) {
            uint32_t expected = naive_find(all, COUNT, p, len);
            assert_int_equal(mf_piece_find(&table, p, len, BYTES), expected);
            assert_int_equal(mf_piece_find(&table, p, len, len), expected);
        }
    }
    mf_piece_table_done(&table);
    mf_piece_table_done(&table); /* twice is fine */
    assert_int_equal(mf_alloc_live(), 0);
}

static void a_key_does_not_depend_on_what_stands_behind_it(void **state) {
    (void)state;
    for (size_t len = 1; len <= MF_PIECE_INLINE_MAX; len++) {
        uint8_t bytes[32];
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (uint8_t)(0xA0 + i);
        }
        mf_piece_key wide = mf_piece_key_of(bytes, len, sizeof bytes);
        mf_piece_key tight = mf_piece_key_of(bytes, len, len);
        memset(bytes + len, 0, sizeof bytes - len);
        mf_piece_key zeroes = mf_piece_key_of(bytes, len, sizeof bytes);
        assert_memory_equal(&wide, &tight, sizeof wide);
        assert_memory_equal(&wide, &zeroes, sizeof wide);
    }
}

static void an_empty_table_has_nothing(void **state) {
    (void)state;
    static const uint8_t bytes[32] = {0};
    mf_piece_table table;
    assert_int_equal(mf_piece_table_init(&table, 0, bytes, NULL), MF_OK);
    for (size_t len = 1; len <= 32; len++) {
        assert_int_equal(mf_piece_find(&table, bytes, len, 32), MF_PIECE_NONE);
    }
    mf_piece_table_done(&table);
}

static void without_memory_there_is_no_table(void **state) {
    (void)state;
    mf_piece_table table = {.slots = NULL};
    mf_err err = {0};
    mf_fault_arm("alloc", 0, false);
    mf_rc rc = mf_piece_table_init(&table, 10, NULL, &err);
    mf_fault_disarm();
    assert_int_equal(rc, MF_E_NOMEM);
    mf_piece_table_done(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_found_as_a_list_would_find_them),
        cmocka_unit_test(a_key_does_not_depend_on_what_stands_behind_it),
        cmocka_unit_test(an_empty_table_has_nothing),
        cmocka_unit_test(without_memory_there_is_no_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
