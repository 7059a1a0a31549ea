/* wordpiece_fuzz.c - any text against a small vocabulary, and any bytes as a vocabulary
 * or as settings.
 *
 * The first byte says what the rest is: 'v' vocab.txt, 'j' tokenizer.json, 'c'
 * tokenizer_config.json, anything else a text.  Ids stay within the vocabulary, the
 * bound is kept, and windows hold every id of the whole text. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/wordpiece.h"
#include "os/file.h"

enum { IDS_MAX = 4096, WINDOW = 103 };

static const char vocabulary[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nab\n##b\nc\n##cab\ne\n##e\n,\n.\n'\n"
    "\xE4\xB8\xAD\n##\xCE\xB1\n\xCE\xB1\n1\n##1\n[\n]\n";

static char folder[] = "/tmp/mf-wordpiece-fuzz-XXXXXX";
static mf_wordpiece *fixed; /* made once, lives as long as the process */

static void put_file(const char *name, const void *bytes, size_t size) {
    char path[MF_PATH_MAX];
    MF_ASSERT(mf_path_join(path, sizeof path, folder, name, NULL) == MF_OK);
    if (bytes == NULL) {
        (void)remove(path); /* it may not be there */
        return;
    }
    FILE *file = fopen(path, "wb");
    MF_ASSERT(file != NULL);
    MF_ASSERT(fwrite(bytes, 1, size, file) == size);
    MF_ASSERT(fclose(file) == 0);
}

static void check_text(const mf_wordpiece *wp, mf_str text) {
    static int32_t all[IDS_MAX];
    int32_t ids[WINDOW];
    bool truncated = false;
    size_t count = mf_wordpiece_encode(wp, text, all, IDS_MAX, &truncated);
    MF_ASSERT(count >= 2 && count <= IDS_MAX);
    for (size_t i = 0; i < count; i++) {
        MF_ASSERT(all[i] >= 0 && (size_t)all[i] < mf_wordpiece_vocab_size(wp));
    }
    if (truncated) {
        return;
    }
    size_t seen = 1;
    for (size_t at = 0; at < text.len;) {
        mf_str rest = mf_str_sub(text, at, text.len - at);
        size_t len = mf_wordpiece_fit(wp, rest, WINDOW);
        MF_ASSERT(len > 0 && len <= rest.len);
        size_t n =
            mf_wordpiece_encode(wp, mf_str_sub(rest, 0, len), ids, WINDOW, &truncated);
        MF_ASSERT(!truncated);
        MF_ASSERT(seen + n - 2 < count);
        MF_ASSERT(memcmp(all + seen, ids + 1, (n - 2) * sizeof *ids) == 0);
        seen += n - 2;
        at += len;
    }
    MF_ASSERT(seen + 1 == count);
}

static void check_file(const char *name, const uint8_t *bytes, size_t size) {
    put_file(name, bytes, size);
    mf_wordpiece *wp = NULL;
    mf_err err;
    size_t live = mf_alloc_live();
    if (mf_wordpiece_open(folder, &wp, &err) == MF_OK) {
        check_text(wp, MF_STR("abca Cab, [MASK] \xC3\x81\xE4\xB8\xAD\xFF."));
        mf_wordpiece_close(wp);
    } else {
        MF_ASSERT(wp == NULL && err.text[0] != '\0');
    }
    MF_ASSERT(mf_alloc_live() == live);
    put_file("vocab.txt", vocabulary, sizeof vocabulary - 1);
    put_file("tokenizer.json", NULL, 0);
    put_file("tokenizer_config.json", NULL, 0);
}

static void remove_folder(void) {
    mf_wordpiece_close(fixed);
    put_file("vocab.txt", NULL, 0);
    (void)remove(folder); /* at exit: nothing more to be done about it */
}

static void start(void) {
    MF_ASSERT(mkdtemp(folder) != NULL);
    put_file("vocab.txt", vocabulary, sizeof vocabulary - 1);
    MF_ASSERT(mf_wordpiece_open(folder, &fixed, NULL) == MF_OK);
    MF_ASSERT(atexit(remove_folder) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (fixed == NULL) {
        start();
    }
    if (size == 0) {
        check_text(fixed, MF_STR_NONE);
        return 0;
    }
    switch (data[0]) {
    case 'v':
        check_file("vocab.txt", data + 1, size - 1);
        break;
    case 'j':
        check_file("tokenizer.json", data + 1, size - 1);
        break;
    case 'c':
        check_file("tokenizer_config.json", data + 1, size - 1);
        break;
    default: {
        /* Exactly as long as the text, so that a read behind it is seen. */
        char *copy = mf_alloc(size - 1);
        MF_ASSERT(copy != NULL);
        memcpy(copy, data + 1, size - 1);
        check_text(fixed, (mf_str){copy, size - 1});
        mf_free(copy);
        break;
    }
    }
    return 0;
}
