/* tokenizer_fuzz.c - any bytes as tokenizer.json, and any text to a Unigram tokenizer.
 *
 * The first byte says what the rest is: 'j' a tokenizer.json, anything else a text for
 * the fixed tokenizer below.  Ids stay within the vocabulary, the bound is kept, what
 * is counted is what is written, and windows make headway. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/tokenizer.h"
#include "os/file.h"

enum { IDS_MAX = 4096, FEW = 7, WINDOWS = 12 };

/* The table makes a full-width A an "a", "e" with an acute accent one character, and
 * takes a soft hyphen away: as sentencepiece 0.2.3 compiles these three rules. */
static const char fixed_json[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\"},{\"id\":1,\"content\":\"</s>\"},"
    "{\"id\":15,\"content\":\"<mask>\"}],\"normalizer\":{\"type\":\"Precompiled\","
    "\"precompiled_charsmap\":"
    "\"AAQAAACQAQBlPAMAzAACAIEdAAADAACArQ0AAAAAAIC8uAIAoQUAAAEAAIAL"
    "AAAACgAAAA0AAAAMAAAADwAAAA4AAAARAAAAEAAAABMAAAASAAAAFQAAABQA"
    "AAAXAAAAFgAAABkAAAAYAAAAGwAAABoAAAAdAAAAHAAAAB8AAAAeAAAAIQAA"
    "ACAAAAAjAAAAIgAAACUAAAAkAAAAJwAAACYAAAApAAAAKAAAACsAAAAqAAAA"
    "LQAAACwAAAAvAAAALgAAADEAAAAwAAAAMwAAADIAAAA1AAAANAAAADcAAAA2"
    "AAAAOQAAADgAAAA7AAAAOgAAAD0AAAA8AAAAPwAAAD4AAABBAAAAQAAAAEMA"
    "AABCAAAARQAAAEQAAABHAAAARgAAAEkAAABIAAAASwAAAEoAAABNAAAATAAA"
    "AE8AAABOAAAAUQAAAFAAAABTAAAAUgAAAFUAAABUAAAAVwAAAFYAAABZAAAA"
    "WAAAAFsAAABaAAAAXQAAAFwAAABfAAAAXgAAAGEAAABgAAAAYwAAAGIAAABl"
    "AAAAZAAAAGcAAABmAAAAaQAAAGgAAABrAAAAagAAAG0AAABsAAAAbwAAAG4A"
    "AABxAAAAcAAAAHMAAAByAAAAdQAAAHQAAAB3AAAAdgAAAHkAAAB4AAAAewAA"
    "AHoAAAB9AAAAfAAAAH8AAAB+AAAAgQAAAIAAAACDAAAAggAAAIUAAACEAAAA"
    "hwAAAIYAAACJAAAAiAAAAIsAAADvwAAAjQAAAIwAAACPAAAAjgAAAJEAAACQ"
    "AAAAkwAAAJIAAACVAAAAlAAAAJcAAACWAAAAmQAAAJgAAACbAAAAmgAAAJ0A"
    "AACcAAAAnwAAAJ4AAAChAAAAoAAAAKMAAACiAAAApQAAAKQAAADCOAAApgAA"
    "AKkAAACoAAAAqwAAAKoAAACtAAAArAAAAK8AAACuAAAAsQAAALAAAACzAAAA"
    "sgAAALUAAAC0AAAAtwAAALYAAAC5AAAAuAAAALsAAAC6AAAAvQAAALwAAAC/"
    "AAAAvgAAAMEAAADAAAAAwwAAAMIAAADFAAAAxAAAAMcAAADGAAAAyQAAAMgA"
    "AADLAAAAygAAAM0AAADMAAAAzwAAAM4AAADRAAAA0AAAANMAAADSAAAA1QAA"
    "ANQAAADXAAAA1gAAANkAAADYAAAA2wAAANoAAADdAAAA3AAAAN8AAADeAAAA"
    "4QAAAOAAAADjAAAA4gAAAOUAAADkAAAA5wAAAOYAAADpAAAA6AAAAOsAAADq"
    "AAAA7QAAAOwAAADvAAAA7gAAAPEAAADwAAAA8wAAAPIAAAD1AAAA9AAAAPcA"
    "AAD2AAAA+QAAAPgAAAD7AAAA+gAAAP0AAAD8AAAA/wAAAP4AAAAAYQDDqQA=\"},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
    "\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\","
    "\"prepend_scheme\":\"always\"}]},\"model\":{\"type\":\"Unigram\",\"unk_id\":2,"
    "\"vocab\":[[\"<s>\",0.0],[\"</s>\",0.0],[\"<unk>\",0.0],[\"\\u2581\",-2.0],"
    "[\"a\",-3.0],[\"b\",-3.5],[\"ab\",-4.0],[\"\\u2581a\",-3.2],[\"ba\",-5.0],"
    "[\"\\u00e9\",-4.0],[\"aba\",-6.0],[\"\\u4e2d\",-5.0],[\"\\u4e2d\\u4e2d\",-6.5],"
    "[\"1\",-4.0],[\".\",-4.5]]}}";

static char folder[] = "/tmp/mf-tokenizer-fuzz-XXXXXX";
static mf_model_tokenizer *fixed; /* made once, lives as long as the process */

static void put_file(const void *bytes, size_t size) {
    char path[MF_PATH_MAX];
    MF_ASSERT(mf_path_join(path, sizeof path, folder, "tokenizer.json", NULL) == MF_OK);
    FILE *file = fopen(path, "wb");
    MF_ASSERT(file != NULL);
    MF_ASSERT(fwrite(bytes, 1, size, file) == size);
    MF_ASSERT(fclose(file) == 0);
}

/* The first windows of a text; each may look at a whole long word. */
static void check_windows(const mf_model_tokenizer *t, mf_str text) {
    size_t at = 0;
    for (int i = 0; i < WINDOWS && at < text.len; i++) {
        mf_str rest = mf_str_sub(text, at, text.len - at);
        size_t len = mf_model_tokenizer_fit(t, rest, FEW);
        MF_ASSERT(len > 0 && len <= rest.len);
        at += len;
    }
}

static void check_text(const mf_model_tokenizer *t, mf_str text) {
    static int32_t all[IDS_MAX];
    int32_t few[FEW];
    bool truncated = false;
    bool ignored = false;
    size_t count = mf_model_tokenizer_encode(t, text, all, IDS_MAX, &truncated);
    MF_ASSERT(count >= 2 && count <= IDS_MAX);
    for (size_t i = 0; i < count; i++) {
        MF_ASSERT(all[i] >= 0 && (size_t)all[i] < mf_model_tokenizer_vocab_size(t));
    }
    if (!truncated) {
        MF_ASSERT(mf_model_tokenizer_pieces(t, text, NULL, SIZE_MAX, &ignored) ==
                  count - 2);
    }
    size_t part = mf_model_tokenizer_encode(t, text, few, FEW, &truncated);
    MF_ASSERT(part == (count < FEW ? count : FEW) && truncated == (count > FEW));
    for (size_t i = 0; i + 1 < part; i++) {
        MF_ASSERT(few[i] == all[i]);
    }
    check_windows(t, text);
}

static void check_file(const uint8_t *bytes, size_t size) {
    put_file(bytes, size);
    mf_model_tokenizer *t = NULL;
    mf_err err;
    size_t live = mf_alloc_live();
    mf_rc rc = mf_model_tokenizer_open(folder, &t, &err);
    if (rc == MF_OK) {
        check_text(t,
                   MF_STR("aba Ab, <mask> \xEF\xBC\xA1 e\xCC\x81 \xE4\xB8\xAD\xFF."));
        mf_model_tokenizer_close(t);
    } else {
        MF_ASSERT(t == NULL && err.text[0] != '\0');
        MF_ASSERT(rc == MF_E_CORRUPT || rc == MF_E_UNSUPPORTED || rc == MF_E_IO);
    }
    MF_ASSERT(mf_alloc_live() == live);
}

static void remove_folder(void) {
    char path[MF_PATH_MAX];
    mf_model_tokenizer_close(fixed);
    MF_ASSERT(mf_path_join(path, sizeof path, folder, "tokenizer.json", NULL) == MF_OK);
    (void)remove(path); /* at exit: nothing more to be done about it */
    (void)remove(folder);
}

static void start(void) {
    mf_err err;
    MF_ASSERT(mkdtemp(folder) != NULL);
    put_file(fixed_json, sizeof fixed_json - 1);
    MF_ASSERT(mf_model_tokenizer_open(folder, &fixed, &err) == MF_OK);
    MF_ASSERT(atexit(remove_folder) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (fixed == NULL) {
        start();
    }
    if (size > 0 && data[0] == 'j') {
        check_file(data + 1, size - 1);
    } else if (size > 0) {
        check_text(fixed, (mf_str){(const char *)data + 1, size - 1});
    } else {
        check_text(fixed, MF_STR_NONE);
    }
    return 0;
}
