/* tokenizer_golden_test.c - the tokenizers give the ids of their reference
 * implementations on every text of tests/data/golden and on its fuzzed bytes.
 *
 * ctest-label: golden
 *
 * Needs the model folder and the rank files that tools/setup.sh puts in place;
 * README.md beside the data names its provenance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "model/encoding.h"
#include "model/token_counter.h"
#include "model/wordpiece.h"
#include "os/file.h"

enum {
    WINDOW = 256,
    IDS_MAX = 1 << 14,
    FIXTURE_BYTES_MAX = 16 << 20,
    LONGEST_IDS = 4096,
    FUZZ_BYTES_MAX = 2 << 20, /* of one input */
    FUZZ_COUNT = 542
};

/* The tokenizer under test, and the member of a line with what it should give. */
typedef struct fixture {
    mf_wordpiece *wordpiece;
    mf_encoding *encoding;
    const char *name;
} fixture;

typedef struct golden_line {
    yyjson_val *root;
    mf_str text;
} golden_line;

typedef void (*line_check)(const fixture *f, const golden_line *line, size_t number);

/* Calls `check` for every line of the fixture; returns how many there are. */
static size_t each_line(const char *name, const fixture *f, line_check check) {
    mf_err err;
    mf_buf file;
    mf_buf_init(&file, FIXTURE_BYTES_MAX);
    char path[MF_PATH_MAX];
    assert_int_equal(
        mf_path_join(path, sizeof path, MF_TEST_DATA_DIR "/golden", name, &err), MF_OK);
    assert_int_equal(mf_file_read(path, &file, &err), MF_OK);
    mf_str rest = mf_buf_view(&file);
    size_t count = 0;
    while (rest.len > 0) {
        mf_str json = mf_str_split(&rest, '\n');
        yyjson_doc *doc = yyjson_read(json.p, json.len, YYJSON_READ_NOFLAG);
        yyjson_val *root = yyjson_doc_get_root(doc);
        yyjson_val *text = yyjson_obj_get(root, "text");
        golden_line line = {.root = root,
                            .text = {yyjson_get_str(text), yyjson_get_len(text)}};
        check(f, &line, ++count);
        yyjson_doc_free(doc);
    }
    mf_buf_done(&file);
    return count;
}

/* Names the first difference; `got` is how ids come out of either tokenizer. */
static void assert_ids(yyjson_val *expected, const uint32_t *got, size_t count,
                       size_t number) {
    size_t i = 0;
    size_t n;
    yyjson_val *value;
    assert_true(yyjson_is_arr(expected));
    if (yyjson_arr_size(expected) != count) {
        fail_msg("line %zu: %zu ids instead of %zu", number, count,
                 yyjson_arr_size(expected));
    }
    yyjson_arr_foreach(expected, i, n, value) {
        if (yyjson_get_uint(value) != got[i]) {
            fail_msg("line %zu: id %zu is %u instead of %u", number, i, got[i],
                     (unsigned)yyjson_get_uint(value));
        }
    }
}

static void check_wordpiece(const fixture *f, const golden_line *line, size_t number) {
    const mf_wordpiece *tokenizer = f->wordpiece;
    int32_t ids[WINDOW];
    uint32_t got[WINDOW];
    bool truncated = false;
    mf_noalloc_begin();
    size_t count = mf_wordpiece_encode(tokenizer, line->text, ids, WINDOW, &truncated);
    mf_noalloc_end();
    for (size_t i = 0; i < count; i++) {
        got[i] = (uint32_t)ids[i];
    }
    assert_ids(yyjson_obj_get(line->root, f->name), got, count, number);

    /* Without a window nothing is dropped, and the window is its beginning. */
    static int32_t all[IDS_MAX];
    bool more = false;
    size_t all_count = mf_wordpiece_encode(tokenizer, line->text, all, IDS_MAX, &more);
    assert_false(more);
    assert_int_equal(truncated, all_count > WINDOW);
    assert_memory_equal(ids, all, (count - 1) * sizeof *ids);
}

/* Cutting a text into windows loses no token. */
static void check_windows(const fixture *f, const golden_line *line, size_t number) {
    const mf_wordpiece *tokenizer = f->wordpiece;
    static int32_t all[IDS_MAX];
    int32_t ids[WINDOW];
    size_t all_count = mf_wordpiece_encode(tokenizer, line->text, all, IDS_MAX, NULL);
    size_t seen = 1;
    for (size_t at = 0; at < line->text.len;) {
        mf_str rest = mf_str_sub(line->text, at, line->text.len - at);
        size_t len = mf_wordpiece_fit(tokenizer, rest, 110);
        bool truncated = true;
        size_t count = mf_wordpiece_encode(tokenizer, mf_str_sub(rest, 0, len), ids,
                                           110, &truncated);
        if (len == 0 || truncated) {
            fail_msg("line %zu: window at %zu", number, at);
        }
        assert_true(seen + count - 2 < all_count);
        assert_memory_equal(all + seen, ids + 1, (count - 2) * sizeof *ids);
        seen += count - 2;
        at += len;
    }
    assert_int_equal(seen + 1, all_count);
}

static void check_encoding(const fixture *f, const golden_line *line, size_t number) {
    static uint32_t ids[LONGEST_IDS];
    mf_noalloc_begin();
    size_t count = mf_encoding_ids(f->encoding, line->text, ids, LONGEST_IDS);
    mf_noalloc_end();
    assert_true(count <= LONGEST_IDS);
    assert_ids(yyjson_obj_get(line->root, f->name), ids, count, number);
    assert_int_equal(mf_encoding_ids(f->encoding, line->text, NULL, 0), count);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        mf_str token = mf_encoding_token(f->encoding, ids[i]);
        assert_true(token.len > 0);
        assert_true(mf_str_eq(mf_str_sub(line->text, at, token.len), token));
        at += token.len;
    }
    assert_int_equal(at, line->text.len);
}

/* --- fuzzed inputs --- */

static size_t decode_base64(yyjson_val *value, uint8_t *out) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *text = yyjson_get_str(value);
    assert_non_null(text);
    size_t len = 0;
    uint32_t bits = 0;
    for (size_t i = 0; text[i] != '\0' && text[i] != '='; i++) {
        const char *digit = strchr(digits, text[i]);
        assert_non_null(digit);
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (i % 4 > 0) {
            out[len++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    return len;
}

/* The input of a line in one of its three forms (tools/golden/make_fuzz.py). */
static mf_str fuzz_input(yyjson_val *root, uint8_t *out) {
    static uint8_t unit[FUZZ_BYTES_MAX];
    size_t len = 0;
    if (yyjson_obj_get(root, "bytes") != NULL) {
        len = decode_base64(yyjson_obj_get(root, "bytes"), out);
    } else if (yyjson_obj_get(root, "unit") != NULL) {
        size_t unit_len = decode_base64(yyjson_obj_get(root, "unit"), unit);
        size_t times = yyjson_get_uint(yyjson_obj_get(root, "times"));
        assert_true(unit_len * times <= FUZZ_BYTES_MAX);
        for (; times > 0; times--, len += unit_len) {
            memcpy(out + len, unit, unit_len);
        }
    } else {
        size_t letters = decode_base64(yyjson_obj_get(root, "alphabet"), unit);
        uint64_t seed =
            strtoull(yyjson_get_str(yyjson_obj_get(root, "seed")), NULL, 10);
        size_t size = yyjson_get_uint(yyjson_obj_get(root, "size"));
        assert_true(letters > 0 && size <= FUZZ_BYTES_MAX);
        for (; len < size; len++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            out[len] = unit[(seed >> 33) % letters];
        }
    }
    return (mf_str){(const char *)out, len};
}

/* FNV-1a over the ids as four bytes each, lowest first. */
static void assert_hash(yyjson_val *expected, const uint32_t *ids, size_t count,
                        size_t number) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < count; i++) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
            hash = (hash ^ (ids[i] >> shift & 255)) * UINT64_C(0x100000001B3);
        }
    }
    char text[24];
    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    const char *wanted = yyjson_get_str(yyjson_arr_get(expected, 1));
    size_t wanted_count = yyjson_get_uint(yyjson_arr_get(expected, 0));
    if (wanted == NULL || count != wanted_count || strcmp(text, wanted) != 0) {
        fail_msg("line %zu: %zu ids of hash %s instead of %zu of %s", number, count,
                 text, wanted_count, wanted != NULL ? wanted : "none");
    }
}

static void check_fuzz(const fixture *f, const golden_line *line, size_t number) {
    static uint8_t input[FUZZ_BYTES_MAX];
    static uint32_t ids[FUZZ_BYTES_MAX + 2];
    mf_str bytes = fuzz_input(line->root, input);
    size_t count;
    mf_noalloc_begin();
    if (f->encoding != NULL) {
        count = mf_encoding_ids(f->encoding, bytes, ids, FUZZ_BYTES_MAX);
    } else {
        static int32_t signed_ids[FUZZ_BYTES_MAX + 2];
        bool truncated = true;
        count = mf_wordpiece_encode(f->wordpiece, bytes, signed_ids, FUZZ_BYTES_MAX + 2,
                                    &truncated);
        assert_false(truncated);
        memcpy(ids, signed_ids, count * sizeof *ids);
    }
    mf_noalloc_end();
    assert_hash(yyjson_obj_get(line->root, f->name), ids, count, number);
}

/* --- fixtures --- */

static int open_wordpiece(void **state) {
    static fixture f;
    mf_err err;
    f = (fixture){.name = "wordpiece"};
    if (mf_wordpiece_open(MF_TEST_MODEL_DIR, &f.wordpiece, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = &f;
    return 0;
}

static int open_encoding(void **state, mf_encoding_kind kind, const char *ranks) {
    static fixture f;
    mf_err err;
    f = (fixture){.name = mf_encoding_name(kind)};
    if (mf_encoding_open(kind, ranks, &f.encoding, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = &f;
    return 0;
}

static int open_o200k(void **state) {
    return open_encoding(state, MF_ENCODING_O200K_BASE, MF_TEST_RANKS_FILE);
}

static int open_cl100k(void **state) {
    return open_encoding(state, MF_ENCODING_CL100K_BASE, MF_TEST_CL100K_FILE);
}

static int close_fixture(void **state) {
    fixture *f = *state;
    mf_wordpiece_close(f->wordpiece);
    mf_encoding_close(f->encoding);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static void wordpiece_ids_equal_the_reference_on_written_texts(void **state) {
    assert_true(each_line("texts.jsonl", *state, check_wordpiece) >= 220);
}

static void wordpiece_ids_equal_the_reference_on_random_texts(void **state) {
    assert_int_equal(each_line("tokens.jsonl", *state, check_wordpiece), 2000);
}

static void ids_equal_the_reference_on_fuzzed_bytes(void **state) {
    assert_int_equal(each_line("fuzz.jsonl", *state, check_fuzz), FUZZ_COUNT);
}

static void windows_hold_every_token_of_the_text(void **state) {
    assert_true(each_line("texts.jsonl", *state, check_windows) >= 220);
    assert_int_equal(each_line("tokens.jsonl", *state, check_windows), 2000);
}

static void vocabulary_has_the_size_of_the_model(void **state) {
    const fixture *f = *state;
    assert_int_equal(mf_wordpiece_vocab_size(f->wordpiece), 30522);
}

static void ids_equal_the_reference_on_written_texts(void **state) {
    assert_true(each_line("texts.jsonl", *state, check_encoding) >= 220);
}

static void ids_equal_the_reference_on_random_texts(void **state) {
    assert_int_equal(each_line("tokens.jsonl", *state, check_encoding), 2000);
}

static void counts_are_those_of_o200k(void **state) {
    const fixture *f = *state;
    mf_err err;
    mf_token_counter *counter = NULL;
    assert_int_equal(mf_token_counter_open(MF_TEST_RANKS_FILE, &counter, &err), MF_OK);
    assert_true(mf_token_counter_is_exact(counter));
    mf_str text = MF_STR("The count of a buffer's tokens: \u4e2d\u6587, 12345!\n\n");
    assert_int_equal(mf_token_count(counter, text),
                     mf_encoding_ids(f->encoding, text, NULL, 0));
    mf_token_counter_close(counter);
}

int main(void) {
    const struct CMUnitTest wordpiece[] = {
        cmocka_unit_test(wordpiece_ids_equal_the_reference_on_written_texts),
        cmocka_unit_test(wordpiece_ids_equal_the_reference_on_random_texts),
        cmocka_unit_test(ids_equal_the_reference_on_fuzzed_bytes),
        cmocka_unit_test(windows_hold_every_token_of_the_text),
        cmocka_unit_test(vocabulary_has_the_size_of_the_model),
    };
    const struct CMUnitTest o200k[] = {
        cmocka_unit_test(ids_equal_the_reference_on_written_texts),
        cmocka_unit_test(ids_equal_the_reference_on_random_texts),
        cmocka_unit_test(ids_equal_the_reference_on_fuzzed_bytes),
        cmocka_unit_test(counts_are_those_of_o200k),
    };
    const struct CMUnitTest cl100k[] = {
        cmocka_unit_test(ids_equal_the_reference_on_written_texts),
        cmocka_unit_test(ids_equal_the_reference_on_random_texts),
        cmocka_unit_test(ids_equal_the_reference_on_fuzzed_bytes),
    };
    int failed = cmocka_run_group_tests(wordpiece, open_wordpiece, close_fixture);
    failed += cmocka_run_group_tests(o200k, open_o200k, close_fixture);
    failed += cmocka_run_group_tests(cl100k, open_cl100k, close_fixture);
    return failed;
}
