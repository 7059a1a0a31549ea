/* tokenizer_golden_test.c - both tokenizers give the ids of their reference
 * implementations on every text of tests/data/golden.
 *
 * ctest-label: golden
 *
 * Needs the model folder and the rank file that tools/setup.sh puts in place; README.md
 * beside the data names its provenance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "model/token_counter.h"
#include "model/wordpiece.h"
#include "os/file.h"

enum {
    WINDOW = 256,
    IDS_MAX = 1 << 14,
    FIXTURE_BYTES_MAX = 16 << 20,
    LONGEST_IDS = 4096
};

typedef struct golden_line {
    mf_str text;
    yyjson_val *wordpiece, *o200k;
} golden_line;

typedef void (*line_check)(const void *tokenizer, const golden_line *line,
                           size_t number);

/* Calls `check` for every line of the fixture; returns how many there are. */
static size_t each_line(const char *name, const void *tokenizer, line_check check) {
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
        assert_true(yyjson_is_str(text));
        golden_line line = {.text = {yyjson_get_str(text), yyjson_get_len(text)},
                            .wordpiece = yyjson_obj_get(root, "wordpiece"),
                            .o200k = yyjson_obj_get(root, "o200k")};
        check(tokenizer, &line, ++count);
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

static void check_wordpiece(const void *tokenizer, const golden_line *line,
                            size_t number) {
    int32_t ids[WINDOW];
    uint32_t got[WINDOW];
    bool truncated = false;
    mf_noalloc_begin();
    size_t count = mf_wordpiece_encode(tokenizer, line->text, ids, WINDOW, &truncated);
    mf_noalloc_end();
    for (size_t i = 0; i < count; i++) {
        got[i] = (uint32_t)ids[i];
    }
    assert_ids(line->wordpiece, got, count, number);

    /* Without a window nothing is dropped, and the window is its beginning. */
    static int32_t all[IDS_MAX];
    bool more = false;
    size_t all_count = mf_wordpiece_encode(tokenizer, line->text, all, IDS_MAX, &more);
    assert_false(more);
    assert_int_equal(truncated, all_count > WINDOW);
    assert_memory_equal(ids, all, (count - 1) * sizeof *ids);
}

/* Cutting a text into windows loses no token. */
static void check_windows(const void *tokenizer, const golden_line *line,
                          size_t number) {
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

static void check_o200k(const void *tokenizer, const golden_line *line, size_t number) {
    static uint32_t ids[LONGEST_IDS];
    size_t count = mf_token_ids(tokenizer, line->text, ids, LONGEST_IDS);
    assert_true(count <= LONGEST_IDS);
    assert_ids(line->o200k, ids, count, number);
    assert_int_equal(mf_token_count(tokenizer, line->text), count);
}

static int open_wordpiece(void **state) {
    mf_err err;
    mf_wordpiece *wp = NULL;
    if (mf_wordpiece_open(MF_TEST_MODEL_DIR, &wp, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = wp;
    return 0;
}

static int close_wordpiece(void **state) {
    mf_wordpiece_close(*state);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static int open_counter(void **state) {
    mf_err err;
    mf_token_counter *counter = NULL;
    if (mf_token_counter_open(MF_TEST_RANKS_FILE, &counter, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = counter;
    return 0;
}

static int close_counter(void **state) {
    mf_token_counter_close(*state);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static void wordpiece_ids_equal_the_reference_on_written_texts(void **state) {
    assert_true(each_line("texts.jsonl", *state, check_wordpiece) >= 220);
}

static void wordpiece_ids_equal_the_reference_on_random_texts(void **state) {
    assert_int_equal(each_line("tokens.jsonl", *state, check_wordpiece), 2000);
}

static void windows_hold_every_token_of_the_text(void **state) {
    assert_true(each_line("texts.jsonl", *state, check_windows) >= 220);
    assert_int_equal(each_line("tokens.jsonl", *state, check_windows), 2000);
}

static void vocabulary_has_the_size_of_the_model(void **state) {
    assert_int_equal(mf_wordpiece_vocab_size(*state), 30522);
}

static void o200k_ids_equal_the_reference_on_written_texts(void **state) {
    assert_true(mf_token_counter_is_exact(*state));
    assert_true(each_line("texts.jsonl", *state, check_o200k) >= 220);
}

static void o200k_ids_equal_the_reference_on_random_texts(void **state) {
    assert_int_equal(each_line("tokens.jsonl", *state, check_o200k), 2000);
}

int main(void) {
    const struct CMUnitTest wordpiece[] = {
        cmocka_unit_test(wordpiece_ids_equal_the_reference_on_written_texts),
        cmocka_unit_test(wordpiece_ids_equal_the_reference_on_random_texts),
        cmocka_unit_test(windows_hold_every_token_of_the_text),
        cmocka_unit_test(vocabulary_has_the_size_of_the_model),
    };
    const struct CMUnitTest o200k[] = {
        cmocka_unit_test(o200k_ids_equal_the_reference_on_written_texts),
        cmocka_unit_test(o200k_ids_equal_the_reference_on_random_texts),
    };
    int failed = cmocka_run_group_tests(wordpiece, open_wordpiece, close_wordpiece);
    failed += cmocka_run_group_tests(o200k, open_counter, close_counter);
    return failed;
}
