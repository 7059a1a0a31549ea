/* bpe_test.c - pieces are merged as the definition of byte-pair encoding has it, and a
 * damaged rank file is refused with the line of the damage.
 *
 * The merges are compared with a naive encoder written straight from the definition, on
 * small random tables, where joins that undo one another's neighbours are frequent. */
#include "model/bpe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"
#include "os/file.h"

enum { SEED = 20251120, TOKENS_MAX = 2000, TOKEN_BYTES_MAX = 8, PIECE_MAX = 5000 };

/* A rank table as a list: token n has rank n; the first 256 are the single bytes. */
typedef struct table {
    uint8_t bytes[TOKENS_MAX][TOKEN_BYTES_MAX];
    size_t lengths[TOKENS_MAX];
    size_t count;
} table;

static size_t table_find(const table *t, const uint8_t *p, size_t len) {
    for (size_t i = 0; i < t->count; i++) {
        if (t->lengths[i] == len && memcmp(t->bytes[i], p, len) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static void table_add(table *t, const void *p, size_t len) {
    assert_true(t->count < TOKENS_MAX && len <= TOKEN_BYTES_MAX);
    if (table_find(t, p, len) == SIZE_MAX) {
        memcpy(t->bytes[t->count], p, len);
        t->lengths[t->count++] = len;
    }
}

static void table_start(table *t) {
    t->count = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        table_add(t, &one, 1);
    }
}

/* The definition: join the leftmost neighbours of lowest rank until none join. */
static size_t naive_encode(const table *t, mf_str piece, uint32_t *ids) {
    const uint8_t *p = (const uint8_t *)piece.p;
    static size_t starts[PIECE_MAX + 1];
    static size_t ranks[PIECE_MAX]; /* of each part joined with the next */
    size_t count = piece.len;
    size_t whole = table_find(t, p, piece.len);
    if (whole != SIZE_MAX) {
        ids[0] = (uint32_t)whole;
        return 1;
    }
    for (size_t i = 0; i <= piece.len; i++) {
        starts[i] = i;
        if (i + 2 <= piece.len) {
            ranks[i] = table_find(t, p + i, 2);
        }
    }
    for (;;) {
        size_t where = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            where = ranks[i] < ranks[where] ? i : where;
        }
        if (count < 2 || ranks[where] == SIZE_MAX) {
            break;
        }
        memmove(starts + where + 1, starts + where + 2,
                (count - where - 1) * sizeof *starts);
        memmove(ranks + where, ranks + where + 1, (count - where - 1) * sizeof *ranks);
        count--;
        for (size_t i = where > 0 ? where - 1 : 0; i <= where && i + 1 < count; i++) {
            ranks[i] = table_find(t, p + starts[i], starts[i + 2] - starts[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        ids[i] = (uint32_t)table_find(t, p + starts[i], starts[i + 1] - starts[i]);
    }
    return count;
}

/* --- rank files --- */

static int make_path(void **state) {
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/mf-bpe-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) {
        return -1;
    }
    (void)close(fd);
    *state = path;
    return 0;
}

static int remove_path(void **state) {
    (void)unlink(*state);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static void add_line(mf_buf *file, const uint8_t *p, size_t len, size_t rank) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)p[i] << 16;
        bits |= i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0;
        bits |= i + 2 < len ? (uint32_t)p[i + 2] : 0;
        char quad[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                        i + 1 < len ? digits[bits >> 6 & 63] : '=',
                        i + 2 < len ? digits[bits & 63] : '='};
        (void)mf_buf_add(file, quad, 4); /* `failed` tells at the end */
    }
    (void)mf_buf_printf(file, " %zu\n", rank);
}

static void put_table(const char *path, const table *t, const char *tail) {
    mf_buf file;
    mf_buf_init(&file, 1 << 20);
    for (size_t i = 0; i < t->count; i++) {
        add_line(&file, t->bytes[i], t->lengths[i], i);
    }
    (void)mf_buf_add_str(&file, mf_str_from(tail));
    assert_int_equal(file.failed, MF_OK);
    assert_int_equal(mf_file_write_atomic(path, mf_buf_view(&file), NULL), MF_OK);
    mf_buf_done(&file);
}

static mf_bpe *must_open(const char *path, const table *t) {
    put_table(path, t, "");
    mf_bpe *bpe = NULL;
    mf_err err;
    if (mf_bpe_open(path, &bpe, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(mf_bpe_token_count(bpe), t->count);
    return bpe;
}

static void assert_same(const table *t, const mf_bpe *bpe, mf_str piece) {
    static uint32_t expected[PIECE_MAX];
    static uint32_t got[PIECE_MAX];
    size_t count = naive_encode(t, piece, expected);
    assert_int_equal(mf_bpe_encode(bpe, piece, piece.len, got, PIECE_MAX), count);
    assert_memory_equal(got, expected, count * sizeof *got);
    assert_int_equal(mf_bpe_encode(bpe, piece, piece.len, NULL, 0), count);
}

static size_t encode(const mf_bpe *bpe, mf_str piece, uint32_t *ids, size_t ids_max) {
    return mf_bpe_encode(bpe, piece, piece.len, ids, ids_max);
}

/* --- tests --- */

static void the_lowest_rank_is_joined_first(void **state) {
    table t;
    table_start(&t);
    table_add(&t, "bc", 2);
    table_add(&t, "ab", 2);
    table_add(&t, "abc", 3);
    table_add(&t, "abcd", 4);
    mf_bpe *bpe = must_open(*state, &t);
    uint32_t ids[8];
    /* "abcx": bc first, then a + bc. */
    assert_int_equal(encode(bpe, MF_STR("abcx"), ids, 8), 2);
    assert_int_equal(ids[0], 258);
    assert_int_equal(ids[1], 'x');
    /* A whole piece is its token, although no merge leads there. */
    assert_int_equal(encode(bpe, MF_STR("abcd"), ids, 8), 1);
    assert_int_equal(ids[0], 259);
    assert_int_equal(encode(bpe, MF_STR(""), ids, 8), 0);
    mf_bpe_close(bpe);
}

static void among_equals_the_leftmost_is_joined(void **state) {
    table t;
    table_start(&t);
    table_add(&t, "aa", 2);
    mf_bpe *bpe = must_open(*state, &t);
    uint32_t ids[200];
    for (size_t len = 3; len < 200; len += 2) {
        char text[200];
        memset(text, 'a', len);
        assert_int_equal(encode(bpe, (mf_str){text, len}, ids, 200), len / 2 + 1);
        assert_int_equal(ids[0], 256);
        assert_int_equal(ids[len / 2], 'a');
    }
    mf_bpe_close(bpe);
}

static void random_pieces_are_merged_as_defined(void **state) {
    mf_rng rng;
    mf_rng_init(&rng, SEED);
    print_message("seed %d\n", SEED);
    for (int round = 0; round < 12; round++) {
        table t;
        table_start(&t);
        size_t letters = 2 + (size_t)mf_rng_below(&rng, 3);
        for (int i = 0; i < 100; i++) {
            char token[TOKEN_BYTES_MAX];
            size_t len = 2 + (size_t)mf_rng_below(&rng, TOKEN_BYTES_MAX - 1);
            for (size_t k = 0; k < len; k++) {
                token[k] = (char)('a' + mf_rng_below(&rng, letters));
            }
            table_add(&t, token, len);
        }
        mf_bpe *bpe = must_open(*state, &t);
        for (int n = 0; n < 60; n++) {
            /* Short ones are merged by looking, those beyond 128 bytes with a heap, and
             * those beyond 1024 in windows. */
            char text[PIECE_MAX];
            size_t len = n < 50   ? 1 + (size_t)mf_rng_below(&rng, 40)
                         : n < 57 ? 120 + (size_t)mf_rng_below(&rng, 180)
                                  : 1000 + (size_t)mf_rng_below(&rng, 4000);
            for (size_t k = 0; k < len; k++) {
                text[k] = (char)('a' + mf_rng_below(&rng, letters));
            }
            assert_same(&t, bpe, (mf_str){text, len});
        }
        mf_bpe_close(bpe);
    }
}

static void ids_beyond_the_room_are_counted_not_written(void **state) {
    table t;
    table_start(&t);
    mf_bpe *bpe = must_open(*state, &t);
    uint32_t ids[4] = {7, 7, 7, 7};
    assert_int_equal(encode(bpe, MF_STR("xyzzy"), ids, 2), 5);
    assert_int_equal(ids[0], 'x');
    assert_int_equal(ids[1], 'y');
    assert_int_equal(ids[2], 7);
    mf_bpe_close(bpe);
}

static void ranks_may_leave_gaps(void **state) {
    table t;
    table_start(&t);
    put_table(*state, &t, "YWI= 300\nYWJj 1048575\n");
    mf_bpe *bpe = NULL;
    uint32_t ids[2];
    assert_int_equal(mf_bpe_open(*state, &bpe, NULL), MF_OK);
    assert_int_equal(encode(bpe, MF_STR("ab"), ids, 2), 1);
    assert_int_equal(ids[0], 300);
    assert_int_equal(encode(bpe, MF_STR("abc"), ids, 2), 1);
    assert_int_equal(ids[0], 1048575);
    mf_bpe_close(bpe);
}

static void a_long_run_is_exact_and_takes_no_memory(void **state) {
    table t;
    table_start(&t);
    table_add(&t, "aa", 2);
    table_add(&t, "aaaa", 4);
    mf_bpe *bpe = must_open(*state, &t);
    size_t len = (1 << 20) + 7;
    char *text = mf_alloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    mf_noalloc_begin();
    assert_int_equal(encode(bpe, (mf_str){text, len}, NULL, 0), len / 4 + 2);
    mf_noalloc_end();
    mf_free(text);
    mf_bpe_close(bpe);
}

/* Every pair of neighbours in the text is another one, and the later it stands, the
 * lower its rank: which bytes are joined is decided at the far end. */
static void make_chain(table *t, uint8_t *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        /* Steps of 1, then of 3, and so on around the bytes. */
        text[i] = i == 0 ? 0 : (uint8_t)(text[i - 1] + 1 + (i - 1) / 256 * 2);
    }
    table_start(t);
    for (size_t i = len - 1; i > 0; i--) {
        table_add(t, text + i - 1, 2);
    }
    assert_int_equal(t->count, 256 + len - 1);
}

static void joins_decided_from_afar_are_found(void **state) {
    table t;
    uint8_t text[1501];
    for (size_t len = 1500; len <= 1501; len++) {
        make_chain(&t, text, len);
        mf_bpe *bpe = must_open(*state, &t);
        assert_same(&t, bpe, (mf_str){(const char *)text, len});
        mf_bpe_close(bpe);
    }
}

static void without_memory_for_that_the_bytes_are_still_all_there(void **state) {
    table t;
    uint8_t text[1501];
    make_chain(&t, text, sizeof text);
    mf_bpe *bpe = must_open(*state, &t);
    mf_str piece = {(const char *)text, sizeof text};
    uint32_t ids[1501];
    mf_fault_arm("alloc", 0, true);
    size_t count = encode(bpe, piece, ids, 1501);
    mf_fault_disarm();
    assert_in_range(count, 751, 760);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        mf_str token = mf_bpe_token(bpe, ids[i]);
        assert_true(mf_str_eq(mf_str_sub(piece, at, token.len), token));
        at += token.len;
    }
    assert_int_equal(at, sizeof text);
    mf_bpe_close(bpe);
}

static void tokens_give_their_bytes_back(void **state) {
    table t;
    table_start(&t);
    put_table(*state, &t, "YWI= 300\nYWJj 301\nYWJjZA== 1048575\n");
    mf_bpe *bpe = NULL;
    assert_int_equal(mf_bpe_open(*state, &bpe, NULL), MF_OK);
    assert_true(mf_str_eq(mf_bpe_token(bpe, 'x'), MF_STR("x")));
    assert_true(mf_str_eq(mf_bpe_token(bpe, 0), MF_STR("\0")));
    assert_true(mf_str_eq(mf_bpe_token(bpe, 300), MF_STR("ab")));
    assert_true(mf_str_eq(mf_bpe_token(bpe, 301), MF_STR("abc")));
    assert_true(mf_str_eq(mf_bpe_token(bpe, 1048575), MF_STR("abcd")));
    static const uint32_t nobody[] = {256, 299, 302, 1048574, 1048576, UINT32_MAX};
    for (size_t i = 0; i < sizeof nobody / sizeof nobody[0]; i++) {
        assert_int_equal(mf_bpe_token(bpe, nobody[i]).len, 0);
    }
    mf_bpe_close(bpe);
}

static void damaged_rank_files_are_refused_with_their_line(void **state) {
    table t;
    table_start(&t);
    static const struct {
        const char *tail, *what;
    } rows[] = {
        {"YWI=\n", "line 257: not a rank"},
        {"YWI= \n", "line 257: not a rank"},
        {"YWI= x\n", "line 257: not a rank"},
        {"YWI= -1\n", "line 257: not a rank"},
        {"YWI= 256 \n", "line 257: not a rank"},
        {"YWI= 1048576\n", "line 257: not a rank"},
        {"YWI= 256\nYWJj 256\n", "line 258: ranks do not rise"},
        {"YWI= 256\nYWI= 257\n", "line 258: repeated token"},
        {"YWJj 256\nYWJj 257\n", "line 258: repeated token"},
        {"YQ== 256\n", "line 257: repeated token"},
        {"\n", "line 257: not a base64 token"},
        {" 256\n", "line 257: not a base64 token"},
        {"YWI 256\n", "line 257: not a base64 token"},
        {"YW=I 256\n", "line 257: not a base64 token"},
        {"Y=== 256\n", "line 257: not a base64 token"},
        {"==== 256\n", "line 257: not a base64 token"},
        {"YWJ= 256\n", "line 257: not a base64 token"}, /* unused bits are not zero */
        {"YR== 256\n", "line 257: not a base64 token"},
        {"Y*I= 256\n", "line 257: not a base64 token"},
        {"YWI= 256\r\n", "line 257: not a rank"},
        {"YWI= 1e3\n", "expected a number from 0 to 1048575"},
        {"YWI= 99999999999999999999\n", "line 257: not a rank"},
        {"YWI= 300\nYWJj 299\n", "line 258: ranks do not rise; expected more than 300"},
        {"YWI= 255\n", "line 257: ranks do not rise; expected more than 255"},
        {"YWJjZGVmZ2hpamtsbW4= 256\nYWJjZGVmZ2hpamtsbW4= 257\n",
         "line 258: repeated token; it is on line 257 too"},
        {"nonsens!", "line 257: not a base64 token; a line is \"base64 rank\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_table(*state, &t, rows[i].tail);
        mf_bpe *bpe = NULL;
        mf_err err = {0};
        assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_E_CORRUPT);
        assert_null(bpe);
        if (strstr(err.text, rows[i].what) == NULL) {
            fail_msg("row %zu: '%s' does not say '%s'", i, err.text, rows[i].what);
        }
    }
}

static void nul_bytes_and_endless_lines_are_refused(void **state) {
    table t;
    table_start(&t);
    mf_buf file;
    mf_buf_init(&file, 1 << 22);
    for (size_t i = 0; i < t.count; i++) {
        add_line(&file, t.bytes[i], t.lengths[i], i);
    }
    size_t sound = file.len;
    static const char tails[][9] = {"YW\0= 256\n", "YWI= \0005\n", "YWI=\000256\n"};
    mf_bpe *bpe = NULL;
    mf_err err = {0};
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        file.len = sound;
        (void)mf_buf_add(&file, tails[i], sizeof tails[i]); /* `failed` tells */
        assert_int_equal(mf_file_write_atomic(*state, mf_buf_view(&file), NULL), MF_OK);
        assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_E_CORRUPT);
        assert_non_null(strstr(err.text, "line 257: not a"));
    }
    file.len = sound;
    for (int i = 0; i < 1 << 18; i++) {
        (void)mf_buf_add_str(&file, MF_STR("AAAA")); /* as above */
    }
    assert_int_equal(file.failed, MF_OK);
    assert_int_equal(mf_file_write_atomic(*state, mf_buf_view(&file), NULL), MF_OK);
    assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_E_CORRUPT);
    assert_non_null(strstr(err.text, "line 257: token too long: 786432 bytes"));
    assert_null(bpe);
    mf_buf_done(&file);
}

static void a_file_without_all_bytes_is_refused(void **state) {
    table t;
    table_start(&t);
    t.count = 255;
    mf_err err = {0};
    mf_bpe *bpe = NULL;
    put_table(*state, &t, "");
    assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_E_CORRUPT);
    assert_non_null(strstr(err.text, "line 255"));
    assert_non_null(strstr(err.text, "byte 255"));
    t.count = 0;
    put_table(*state, &t, "");
    assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_E_CORRUPT);
    assert_null(bpe);
}

static void a_token_of_more_than_512_bytes_is_refused(void **state) {
    table t;
    table_start(&t);
    mf_buf tail;
    mf_buf_init(&tail, 1 << 16);
    uint8_t token[MF_BPE_TOKEN_BYTES_MAX + 1];
    memset(token, 'q', sizeof token);
    add_line(&tail, token, sizeof token, 256);
    mf_err err = {0};
    mf_bpe *bpe = NULL;
    put_table(*state, &t, tail.p);
    assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_E_CORRUPT);
    assert_non_null(strstr(err.text, "line 257: token too long"));
    mf_buf_clear(&tail);
    add_line(&tail, token, MF_BPE_TOKEN_BYTES_MAX, 256);
    put_table(*state, &t, tail.p);
    assert_int_equal(mf_bpe_open(*state, &bpe, &err), MF_OK);
    assert_int_equal(
        encode(bpe, (mf_str){(const char *)token, sizeof token - 1}, NULL, 0), 1);
    mf_bpe_close(bpe);
    mf_buf_done(&tail);
}

static void opening_survives_each_failed_allocation(void **state) {
    table t;
    table_start(&t);
    put_table(*state, &t, "");
    size_t failures = 0;
    MF_EACH_FAULT("alloc", n) {
        mf_bpe *bpe = NULL;
        mf_err err = {0};
        if (mf_bpe_open(*state, &bpe, &err) == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(bpe);
            failures++;
        }
        mf_bpe_close(bpe);
        assert_int_equal(mf_alloc_live(), 0);
    }
    assert_int_equal(failures, 5);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_path, remove_path)
    const struct CMUnitTest tests[] = {
        TEST(the_lowest_rank_is_joined_first),
        TEST(among_equals_the_leftmost_is_joined),
        TEST(random_pieces_are_merged_as_defined),
        TEST(ids_beyond_the_room_are_counted_not_written),
        TEST(ranks_may_leave_gaps),
        TEST(a_long_run_is_exact_and_takes_no_memory),
        TEST(joins_decided_from_afar_are_found),
        TEST(without_memory_for_that_the_bytes_are_still_all_there),
        TEST(tokens_give_their_bytes_back),
        TEST(damaged_rank_files_are_refused_with_their_line),
        TEST(nul_bytes_and_endless_lines_are_refused),
        TEST(a_file_without_all_bytes_is_refused),
        TEST(a_token_of_more_than_512_bytes_is_refused),
        TEST(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
