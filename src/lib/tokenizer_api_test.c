/* tokenizer_api_test.c - the public tokenizers give what the modules below give, keep
 * their promises about room, and say in a sentence what is wrong. */
#include "memfuse/tokenizer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"

enum { THREADS = 4, ROUNDS = 200, ROOM = 64 };

static mf_tokenizer *must_open(const char *encoding) {
    mf_tokenizer *tokenizer = NULL;
    char error[MF_ENGINE_ERROR_TEXT] = "";
    const char *ranks = encoding != NULL && strcmp(encoding, "cl100k_base") == 0
                            ? MF_TEST_CL100K_FILE
                            : MF_TEST_RANKS_FILE;
    int code = encoding != NULL
                   ? mf_tokenizer_open_encoding(encoding, ranks, &tokenizer, error)
                   : mf_tokenizer_open_model(MF_TEST_MODEL_DIR, &tokenizer, error);
    if (code != 0) {
        fail_msg("%s", error);
    }
    return tokenizer;
}

static void every_listed_encoding_opens_and_gives_its_bytes_back(void **state) {
    (void)state;
    static const char text[] = "It's 12345 \xE4\xB8\xAD\xE6\x96\x87 \xFF\n\n";
    size_t listed = 0;
    for (const char *const *name = mf_tokenizer_encodings(); *name != NULL; name++) {
        mf_tokenizer *tokenizer = must_open(*name);
        assert_true(mf_tokenizer_size(tokenizer) > 100000);
        uint32_t ids[ROOM];
        size_t count = mf_tokenizer_encode(tokenizer, text, sizeof text - 1, ids, ROOM);
        assert_in_range(count, 5, sizeof text - 1);
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            size_t len = 0;
            const char *bytes = mf_tokenizer_token(tokenizer, ids[i], &len);
            assert_non_null(bytes);
            assert_memory_equal(bytes, text + at, len);
            at += len;
        }
        assert_int_equal(at, sizeof text - 1);
        size_t len = 1;
        assert_null(mf_tokenizer_token(tokenizer, UINT32_MAX, &len));
        assert_int_equal(len, 0);
        mf_tokenizer_close(tokenizer);
        listed++;
    }
    assert_int_equal(listed, 2);
    assert_int_equal(mf_alloc_live(), 0);
}

static void wordpiece_counts_its_frame_and_names_its_tokens(void **state) {
    (void)state;
    mf_tokenizer *tokenizer = must_open(NULL);
    assert_int_equal(mf_tokenizer_size(tokenizer), 30522);
    uint32_t ids[ROOM];
    assert_int_equal(mf_tokenizer_encode(tokenizer, "unaffable", 9, ids, ROOM), 5);
    static const char *const names[] = {"[CLS]", "una", "##ffa", "##ble", "[SEP]"};
    for (size_t i = 0; i < 5; i++) {
        size_t len = 0;
        const char *name = mf_tokenizer_token(tokenizer, ids[i], &len);
        assert_int_equal(len, strlen(names[i]));
        assert_memory_equal(name, names[i], len);
    }
    size_t len = 1;
    assert_null(mf_tokenizer_token(tokenizer, 30522, &len));
    assert_null(mf_tokenizer_token(tokenizer, UINT32_MAX, &len));
    assert_int_equal(len, 0);
    mf_tokenizer_close(tokenizer);
}

static void the_count_does_not_depend_on_the_room(void **state) {
    (void)state;
    static const char *const encodings[] = {"o200k_base", NULL};
    for (size_t e = 0; e < 2; e++) {
        mf_tokenizer *tokenizer = must_open(encodings[e]);
        static const char text[] = "unaffable, unwanted, unsung";
        size_t len = sizeof text - 1;
        uint32_t all[ROOM];
        size_t count = mf_tokenizer_encode(tokenizer, text, len, all, ROOM);
        assert_true(count > 4);
        assert_int_equal(mf_tokenizer_encode(tokenizer, text, len, NULL, 0), count);
        for (size_t room = 1; room <= count; room++) {
            uint32_t ids[ROOM];
            memset(ids, 0x55, sizeof ids);
            assert_int_equal(mf_tokenizer_encode(tokenizer, text, len, ids, room),
                             count);
            assert_int_equal(ids[room], 0x55555555);
            if (room == count) {
                assert_memory_equal(ids, all, count * sizeof *ids);
            }
        }
        mf_tokenizer_close(tokenizer);
    }
}

static void what_cannot_be_opened_is_told(void **state) {
    (void)state;
    mf_tokenizer *tokenizer = NULL;
    char error[MF_ENGINE_ERROR_TEXT];
    int code =
        mf_tokenizer_open_encoding("r50k_base", MF_TEST_RANKS_FILE, &tokenizer, error);
    assert_string_equal(mf_engine_code_name(code), "invalid");
    assert_non_null(strstr(error, "r50k_base"));
    assert_non_null(strstr(error, "cl100k_base"));
    code =
        mf_tokenizer_open_encoding("o200k_base", "/nowhere/ranks", &tokenizer, error);
    assert_string_equal(mf_engine_code_name(code), "not_found");
    assert_non_null(strstr(error, "/nowhere/ranks"));
    code = mf_tokenizer_open_model("/nowhere", &tokenizer, error);
    assert_string_equal(mf_engine_code_name(code), "io");
    assert_non_null(strstr(error, "/nowhere/vocab.txt"));
    assert_int_not_equal(mf_tokenizer_open_model("/nowhere", &tokenizer, NULL), 0);
    assert_null(tokenizer);
    mf_tokenizer_close(NULL);
    assert_int_equal(mf_alloc_live(), 0);
}

static void opening_survives_each_failed_allocation(void **state) {
    (void)state;
    MF_EACH_FAULT("alloc", n) {
        mf_tokenizer *tokenizer = NULL;
        char error[MF_ENGINE_ERROR_TEXT] = "";
        int code = mf_tokenizer_open_encoding("cl100k_base", MF_TEST_CL100K_FILE,
                                              &tokenizer, error);
        if (code != 0) {
            assert_string_equal(mf_engine_code_name(code), "no_memory");
            assert_null(tokenizer);
            assert_true(error[0] != '\0');
        }
        mf_tokenizer_close(tokenizer);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

static void *encode_again_and_again(void *arg) {
    const mf_tokenizer *tokenizer = arg;
    static const char text[] = "several threads share one tokenizer";
    uint32_t first[ROOM];
    size_t count = mf_tokenizer_encode(tokenizer, text, sizeof text - 1, first, ROOM);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t ids[ROOM];
        bool same =
            mf_tokenizer_encode(tokenizer, text, sizeof text - 1, ids, ROOM) == count &&
            memcmp(ids, first, count * sizeof *ids) == 0;
        if (!same) {
            return arg;
        }
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state) {
    (void)state;
    mf_tokenizer *tokenizer = must_open("o200k_base");
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, encode_again_and_again, tokenizer), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed = tokenizer;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    mf_tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_listed_encoding_opens_and_gives_its_bytes_back),
        cmocka_unit_test(wordpiece_counts_its_frame_and_names_its_tokens),
        cmocka_unit_test(the_count_does_not_depend_on_the_room),
        cmocka_unit_test(what_cannot_be_opened_is_told),
        cmocka_unit_test(opening_survives_each_failed_allocation),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
