/* encoding_fuzz.c - any text against a small rank table under the split rules of each
 * byte-pair encoding, and any bytes as a rank file.
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
#include "model/encoding.h"

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
static mf_encoding
    *fixed[MF_ENCODING_COUNT]; /* made once, live as long as the process */

static void check_text(const mf_encoding *encoding, mf_str text) {
    static uint32_t ids[IDS_MAX];
    size_t count = mf_encoding_ids(encoding, text, ids, IDS_MAX);
    MF_ASSERT(count <= text.len);
    MF_ASSERT(mf_encoding_ids(encoding, text, NULL, 0) == count);
    size_t at = 0;
    for (size_t i = 0; i < count && i < IDS_MAX; i++) {
        MF_ASSERT(ids[i] < BYTE_COUNT + WORD_COUNT);
        char byte = (char)(uint8_t)ids[i];
        mf_str token = ids[i] < BYTE_COUNT
                           ? (mf_str){&byte, 1}
                           : mf_str_from(words[ids[i] - BYTE_COUNT].token);
        MF_ASSERT(mf_str_eq(mf_str_sub(text, at, token.len), token));
        MF_ASSERT(mf_str_eq(mf_encoding_token(encoding, ids[i]), token));
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
    mf_encoding *encoding = NULL;
    mf_err err;
    size_t live = mf_alloc_live();
    if (mf_encoding_open(MF_ENCODING_O200K_BASE, path, &encoding, &err) == MF_OK) {
        mf_str text = MF_STR("abab  aab == \xE4\xB8\xAD");
        MF_ASSERT(mf_encoding_ids(encoding, text, NULL, 0) <= text.len);
        mf_encoding_close(encoding);
    } else {
        MF_ASSERT(encoding == NULL && err.rc == MF_E_CORRUPT);
        MF_ASSERT(strstr(err.text, "line") != NULL ||
                  strstr(err.text, "larger") != NULL);
    }
    MF_ASSERT(mf_alloc_live() == live);
}

static void stop(void) {
    for (int kind = 0; kind < MF_ENCODING_COUNT; kind++) {
        mf_encoding_close(fixed[kind]);
    }
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
    for (int kind = 0; kind < MF_ENCODING_COUNT; kind++) {
        mf_rc rc = mf_encoding_open((mf_encoding_kind)kind, path, &fixed[kind], NULL);
        MF_ASSERT(rc == MF_OK);
    }
    MF_ASSERT(atexit(stop) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (fixed[0] == NULL) {
        start();
    }
    if (size > 0 && data[0] == 'r') {
        check_ranks(data + 1, size - 1);
    } else if (size > 0) {
        /* Exactly as long as the text, so that a read behind it is seen. */
        char *copy = mf_alloc(size - 1);
        MF_ASSERT(copy != NULL);
        memcpy(copy, data + 1, size - 1);
        for (int kind = 0; kind < MF_ENCODING_COUNT; kind++) {
            check_text(fixed[kind], (mf_str){copy, size - 1});
        }
        mf_free(copy);
    }
    return 0;
}
