/* tokenizer_test.c - a tokenizer.json gives its kind of tokenizer or is refused by the
 * part that is wrong.  Ids of real files are compared in model_kinds_golden_test.c. */
#include "model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fault.h"
#include "model/unigram.h"
#include "os/file.h"

#define SPLIT                                                                          \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{"       \
    "\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"add_prefix_space\":true}]}"
#define ADDED                                                                          \
    "[{\"id\":0,\"content\":\"<s>\"},{\"id\":1,\"content\":\"</s>\"},"                 \
    "{\"id\":9,\"content\":\"<mask>\"}]"
#define VOCAB                                                                          \
    "[[\"<s>\",0.0],[\"</s>\",0.0],[\"<unk>\",0.0],[\"\\u2581\",-2.0],[\"a\",-3.0],"   \
    "[\"b\",-3.5],[\"ab\",-4.0],[\"\\u2581a\",-3.5],[\"\\u4e2d\",-4.0]]"
#define UNIGRAM(vocab, model, normalizer, splitter, added, more)                       \
    "{\"added_tokens\":" added ",\"normalizer\":" normalizer                           \
    ",\"pre_tokenizer\":" splitter                                                     \
    ",\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":" vocab model "}" more    \
    "}"
#define GOOD UNIGRAM(VOCAB, "", "null", SPLIT, ADDED, "")

#define WORDS "{\"[UNK]\":0,\"<s>\":1,\"</s>\":2,\"red\":3,\"##s\":4,\"Red\":6,\".\":7}"
#define PIECES(vocab, more)                                                            \
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":" vocab      \
    "},\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true}" more "}"
#define ROBERTA                                                                        \
    ",\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"</s>\",2],"        \
    "\"cls\":[\"<s>\",1]},\"added_tokens\":[{\"id\":5,\"content\":\"<MASK>\","         \
    "\"normalized\":true}]"

static char folder[64];

static void put(const char *name, const char *text) {
    char path[128];
    mf_err err;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (text == NULL) {
        (void)unlink(path); /* it may not be there */
    } else if (mf_file_write_atomic(path, mf_str_from(text), &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
}

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/mf-tokenizer-test-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state) {
    (void)state;
    put("tokenizer.json", NULL);
    put("tokenizer_config.json", NULL);
    return rmdir(folder) == 0 && mf_alloc_live() == 0 ? 0 : -1;
}

static mf_model_tokenizer *open_with(const char *json) {
    mf_model_tokenizer *t = NULL;
    mf_err err;
    put("tokenizer.json", json);
    if (mf_model_tokenizer_open(folder, &t, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return t;
}

static void expect_ids(const mf_model_tokenizer *t, const char *text,
                       const char *wanted) {
    int32_t ids[64];
    char found[512] = "";
    size_t at = 0;
    size_t count = mf_model_tokenizer_encode(t, mf_str_from(text), ids, 64, NULL);
    for (size_t i = 0; i < count; i++) {
        at += (size_t)snprintf(found + at, sizeof found - at, i == 0 ? "%d" : " %d",
                               ids[i]);
    }
    if (strcmp(found, wanted) != 0) {
        fail_msg("'%s': %s, expected %s", text, found, wanted);
    }
}

static void the_best_sum_of_scores_wins(void **state) {
    (void)state;
    mf_model_tokenizer *t = open_with(GOOD);
    assert_int_equal(mf_model_tokenizer_vocab_size(t), 10);
    expect_ids(t, "", "0 1");
    expect_ids(t, " \t\n", "0 1");
    expect_ids(t, "a", "0 7 1");
    expect_ids(t, "ab", "0 3 6 1"); /* -6 before -7 */
    expect_ids(t, "  b \xE3\x80\x80 a ", "0 3 5 7 1");
    expect_ids(t,
               "a\xE2\x96\x81"
               "a",
               "0 7 7 1");
    mf_model_tokenizer_close(t);
}

static void neighbouring_unknown_characters_share_a_token(void **state) {
    (void)state;
    mf_model_tokenizer *t = open_with(GOOD);
    expect_ids(t, "xyz", "0 3 2 1");
    expect_ids(t, "xaz y", "0 3 2 4 2 3 2 1");
    expect_ids(t, "\xFFx", "0 3 2 1");
    mf_model_tokenizer_close(t);
}

static void names_of_special_tokens_become_them(void **state) {
    (void)state;
    mf_model_tokenizer *t = open_with(GOOD);
    expect_ids(t, "a<mask>b", "0 7 9 3 5 1");
    expect_ids(t, "</s>", "0 1 1");
    expect_ids(t, "<MASK>", "0 3 2 1");
    mf_frame frame = mf_model_tokenizer_frame(t);
    assert_int_equal(frame.sep_count, 2);
    assert_int_equal(frame.second_type, 0);
    mf_model_tokenizer_close(t);
}

/* Much longer than what is cut together, and without a blank. */
static void long_words_are_cut_as_if_they_were_short(void **state) {
    (void)state;
    enum { TIMES = 5000 };
    static char text[TIMES * 5];
    static int32_t ids[TIMES * 2 + 8];
    bool truncated = true;
    mf_model_tokenizer *t = open_with(GOOD);
    for (size_t i = 0; i < TIMES; i++) {
        memcpy(text + i * 5,
               "\xE4\xB8\xAD"
               "ab",
               5);
    }
    size_t count = mf_model_tokenizer_encode(t, (mf_str){text, sizeof text}, ids,
                                             sizeof ids / sizeof ids[0], &truncated);
    assert_int_equal(count, 2 * TIMES + 3);
    assert_false(truncated);
    assert_int_equal(ids[1], 3);
    for (size_t i = 0; i < TIMES; i++) {
        assert_int_equal(ids[2 + 2 * i], 8);
        assert_int_equal(ids[3 + 2 * i], 6);
    }
    assert_int_equal(mf_model_tokenizer_pieces(t, (mf_str){text, sizeof text}, NULL,
                                               SIZE_MAX, &truncated),
                     count - 2);
    mf_model_tokenizer_close(t);
}

static void windows_end_behind_words_or_inside_one_that_is_too_long(void **state) {
    (void)state;
    mf_model_tokenizer *t = open_with(GOOD);
    assert_int_equal(mf_model_tokenizer_fit(t, MF_STR("a a a a"), 5), 5);
    assert_int_equal(mf_model_tokenizer_fit(t, MF_STR("a a a"), 5), 5);
    assert_int_equal(mf_model_tokenizer_fit(t, MF_STR("a aaaaaaaaaaaa"), 6), 1);
    size_t part = mf_model_tokenizer_fit(t, MF_STR("babababababababababababa"), 12);
    assert_in_range(part, 4, 20);
    assert_int_equal(mf_model_tokenizer_fit(t, MF_STR("\xE4\xB8\xAD\xE4\xB8\xAD"), 3),
                     3);
    mf_model_tokenizer_close(t);
}

static void a_wrong_unigram_file_is_refused_by_its_part(void **state) {
    (void)state;
    static const struct {
        const char *json;
        mf_rc rc;
        const char *clue;
    } cases[] = {
        {UNIGRAM("[]", "", "null", SPLIT, ADDED, ""), MF_E_CORRUPT, "0 entries"},
        {UNIGRAM("{\"a\":1}", "", "null", SPLIT, ADDED, ""), MF_E_CORRUPT, "0 entries"},
        {UNIGRAM("[[\"a\",1],[\"b\"],[\"c\",1]]", "", "null", SPLIT, ADDED, ""),
         MF_E_CORRUPT, "entry 1 is no [piece, score]"},
        {UNIGRAM("[[\"a\",1],[\"b\",\"1\"],[\"c\",1]]", "", "null", SPLIT, ADDED, ""),
         MF_E_CORRUPT, "entry 1 is no [piece, score]"},
        {UNIGRAM("[[\"a\",1],[\"b\",-1e300],[\"c\",1]]", "", "null", SPLIT, ADDED, ""),
         MF_E_CORRUPT, "score of vocabulary entry 1"},
        {UNIGRAM("[[\"a\",1],[\"b\",1],[\"a\",1]]", "", "null", SPLIT, ADDED, ""),
         MF_E_CORRUPT, "entries 0 and 2 are equal"},
        {UNIGRAM("[[\"a\",1],[\"\",1],[\"c\",1]]", "", "null", SPLIT, ADDED, ""),
         MF_E_CORRUPT, "entry 1 is empty"},
        {UNIGRAM("[[\"a\",1],[\"b\",1]]", "", "null", SPLIT, ADDED, ""), MF_E_CORRUPT,
         "unk_id is outside 0..1"},
        {UNIGRAM(VOCAB, ",\"byte_fallback\":true", "null", SPLIT, ADDED, ""),
         MF_E_UNSUPPORTED, "byte_fallback"},
        {UNIGRAM(VOCAB, "", "{\"type\":\"NFKC\"}", SPLIT, ADDED, ""), MF_E_UNSUPPORTED,
         "normalizer 'NFKC'"},
        {UNIGRAM(VOCAB, "",
                 "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}", SPLIT,
                 ADDED, ""),
         MF_E_CORRUPT, "not base64"},
        {UNIGRAM(VOCAB, "",
                 "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}",
                 SPLIT, ADDED, ""),
         MF_E_CORRUPT, "a trie of"},
        {UNIGRAM(VOCAB, "", "{\"type\":\"Precompiled\"}", SPLIT, ADDED, ""),
         MF_E_CORRUPT, "precompiled_charsmap has 0 bytes"},
        {UNIGRAM(VOCAB, "", "null", "{\"type\":\"Metaspace\"}", ADDED, ""),
         MF_E_UNSUPPORTED, "pre_tokenizer"},
        {UNIGRAM(VOCAB, "", "null", SPLIT, "[{\"id\":0}]", ""), MF_E_CORRUPT,
         "lacks content or id"},
        {UNIGRAM(VOCAB, "", "null", SPLIT,
                 "[{\"id\":4,\"content\":\"a\",\"single_word\":true}]", ""),
         MF_E_UNSUPPORTED, "single word"},
        {UNIGRAM("[[\"a\",1],[\"b\",1],[\"c\",1]]", "", "null", SPLIT, "[]", ""),
         MF_E_CORRUPT, "no special token '<s>'"},
        {UNIGRAM(VOCAB, "", "null", SPLIT, ADDED,
                 ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}"),
         MF_E_UNSUPPORTED, "post_processor"},
        {"{\"model\":{\"type\":\"BPE\"},\"normalizer\":null}", MF_E_UNSUPPORTED,
         "model 'BPE'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_model_tokenizer *t = NULL;
        mf_err err = {0};
        put("tokenizer.json", cases[i].json);
        mf_rc rc = mf_model_tokenizer_open(folder, &t, &err);
        if (rc != cases[i].rc || strstr(err.text, cases[i].clue) == NULL) {
            fail_msg("case %zu, expected '%s': %s, %s", i, cases[i].clue,
                     mf_rc_name(rc), err.text);
        }
        assert_null(t);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

/* No vocab.txt: pieces, special tokens and their arrangement are in the one file. */
static void word_pieces_come_from_tokenizer_json_alone(void **state) {
    (void)state;
    mf_model_tokenizer *t = open_with(PIECES(WORDS, ROBERTA));
    assert_int_equal(mf_model_tokenizer_vocab_size(t), 8);
    expect_ids(t, "reds Red .", "1 3 4 3 7 2");
    expect_ids(t, "red<mask>red", "1 3 5 3 2");
    expect_ids(t, "red<MASK>", "1 3 5 2");
    assert_int_equal(mf_model_tokenizer_frame(t).sep_count, 2);
    assert_int_equal(mf_model_tokenizer_frame(t).second_type, 0);
    mf_model_tokenizer_close(t);
}

static void tokenizer_config_has_the_last_word(void **state) {
    (void)state;
    put("tokenizer_config.json", "{\"do_lower_case\":false,\"cls_token\":\"</s>\","
                                 "\"sep_token\":{\"content\":\"<s>\"}}");
    mf_model_tokenizer *t = open_with(PIECES(WORDS, ROBERTA));
    expect_ids(t, "red Red", "2 3 6 1");
    mf_model_tokenizer_close(t);
}

static void a_wrong_vocabulary_in_tokenizer_json_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *clue;
    } cases[] = {
        {PIECES("{}", ""), "not an object of entries"},
        {PIECES("[\"a\"]", ""), "not an object of entries"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":3,\"a\":4}", ""), "outside 0..3"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":3,\"a\":3}", ""),
         "'a' and '[SEP]' have the same id"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":3,\"[UNK]\":0}", ""),
         "no entry has the id 2"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":-1}", ""), "outside 0..1"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1.5}", ""), "outside 0..1"},
        {PIECES("{\"[UNK]\":0,\"a\\nb\":1}", ""), "holds the end of a line"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"\":3}", ""), "empty entry"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"[SEP]\":3}", ""), "repeats"},
        {PIECES("{\"[UNK]\":0,\"[CLS]\":1,\"a\":2}", ""), "'[SEP]'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_model_tokenizer *t = NULL;
        mf_err err = {0};
        put("tokenizer.json", cases[i].json);
        assert_int_equal(mf_model_tokenizer_open(folder, &t, &err), MF_E_CORRUPT);
        if (strstr(err.text, cases[i].clue) == NULL) {
            fail_msg("case %zu, expected '%s': %s", i, cases[i].clue, err.text);
        }
        assert_null(t);
    }
}

static void opening_survives_each_failed_allocation(void **state) {
    (void)state;
    static const char *const both[] = {GOOD, PIECES(WORDS, ROBERTA)};
    for (size_t i = 0; i < 2; i++) {
        put("tokenizer.json", both[i]);
        MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
            mf_model_tokenizer *t = NULL;
            mf_err err;
            mf_rc rc = mf_model_tokenizer_open(folder, &t, &err);
            assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
            mf_model_tokenizer_close(t);
            assert_int_equal(mf_alloc_live(), 0);
        }
    }
}

int main(void) {
#define IN_FOLDER(test)                                                                \
    cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_best_sum_of_scores_wins),
        IN_FOLDER(neighbouring_unknown_characters_share_a_token),
        IN_FOLDER(names_of_special_tokens_become_them),
        IN_FOLDER(long_words_are_cut_as_if_they_were_short),
        IN_FOLDER(windows_end_behind_words_or_inside_one_that_is_too_long),
        IN_FOLDER(a_wrong_unigram_file_is_refused_by_its_part),
        IN_FOLDER(word_pieces_come_from_tokenizer_json_alone),
        IN_FOLDER(tokenizer_config_has_the_last_word),
        IN_FOLDER(a_wrong_vocabulary_in_tokenizer_json_is_refused),
        IN_FOLDER(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
