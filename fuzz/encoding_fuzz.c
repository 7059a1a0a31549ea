/* token_counter_fuzz.c - any text against a small rank table, and any bytes as a rank
 * file.
 *
 * The first byte says what the rest is: 'r' a rank file, anything else a text.  The
 * tokens of a text, put one behind the other, are the text. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/token_counter.h"

enum { IDS_MAX = 1 << 16, BYTE_COUNT = 256 };

/* Behind the single bytes, with the base64 of each. */
static const struct {
    const char *token, *base64;
} words[] = {
    {"ab", "YWI="}, {"aa", "YWE="},  {"abab", "YWJhYg=="}, {" a", "IGE="},
    {"  ", "ICA="}, {"baa", "YmFh"}, {"==", "PT0="},       {"ababa", "YWJhYmE="},
    {"bb", "YmI="}, {"bba", "YmJh"}, {"aab", "YWFi"},      {"\xE4\xB8", "5Lg="},
};
enum { WORD_COUNT = sizeof words / sizeof words[0] };

static char path[] = "/tmp/mf-token-fuzz-XXXXXX";
static mf_token_counter *fixed; /* made once, lives as long as the process */

static void check_text(mf_str text) {
    static uint32_t ids[IDS_MAX];
    size_t count = mf_token_ids(fixed, text, ids, IDS_MAX);
    MF_ASSERT(count <= text.len);
    MF_ASSERT(mf_token_count(fixed, text) == count);
    size_t at = 0;
    for (size_t i = 0; i < count && i < IDS_MAX; i++) {
        MF_ASSERT(ids[i] < BYTE_COUNT + WORD_COUNT);
        char byte = (char)(uint8_t)ids[i];
        mf_str token = ids[i] < BYTE_COUNT
                           ? (mf_str){&byte, 1}
                           : mf_str_from(words[ids[i] - BYTE_COUNT].token);
        MF_ASSERT(mf_str_eq(mf_str_sub(text, at, token.len), token));
        at += token.len;
    }
    MF_ASSERT(at == text.len || count > IDS_MAX);
}

static void put_file(const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    MF_ASSERT(file != NULL);
    MF_ASSERT(fwrite(bytes, 1, size, file) == size);
    MF_ASSERT(fclose(file) == 0);
}

static void check_ranks(const uint8_t *bytes, size_t size) {
    put_file(bytes, size);
    mf_token_counter *counter = NULL;
    mf_err err;
    size_t live = mf_alloc_live();
    if (mf_token_counter_open(path, &counter, &err) == MF_OK) {
        mf_str text = MF_STR("abab  aab == \xE4\xB8\xAD");
        MF_ASSERT(mf_token_counter_is_exact(counter));
        MF_ASSERT(mf_token_count(counter, text) <= text.len);
        mf_token_counter_close(counter);
    } else {
        MF_ASSERT(counter == NULL && err.rc == MF_E_CORRUPT);
    }
    MF_ASSERT(mf_alloc_live() == live);
}

static void stop(void) {
    mf_token_counter_close(fixed);
    (void)remove(path); /* at exit: nothing more to be done about it */
}

static void start(void) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int fd = mkstemp(path);
    MF_ASSERT(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    MF_ASSERT(file != NULL);
    for (unsigned byte = 0; byte < BYTE_COUNT; byte++) {
        (void)fprintf(file, "%c%c== %u\n", digits[byte >> 2], digits[byte << 4 & 63],
                      byte);
    }
    for (unsigned i = 0; i < WORD_COUNT; i++) {
        (void)fprintf(file, "%s %u\n", words[i].base64, BYTE_COUNT + i);
    }
    MF_ASSERT(fclose(file) == 0);
    MF_ASSERT(mf_token_counter_open(path, &fixed, NULL) == MF_OK);
    MF_ASSERT(mf_token_counter_is_exact(fixed));
    MF_ASSERT(atexit(stop) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (fixed == NULL) {
        start();
    }
    if (size > 0 && data[0] == 'r') {
        check_ranks(data + 1, size - 1);
    } else if (size > 0) {
        check_text((mf_str){(const char *)data + 1, size - 1});
    }
    return 0;
}
