/* wordpiece_test.c - words are cut the way BERT cuts them, settings of the model folder
 * are honoured, and a damaged folder is refused with the place of the damage.
 *
 * Works on small vocabularies written to a temporary folder; what the real model's
 * tokenizer does to real text is the matter of tokenizer_golden_test.c. */
#include "model/wordpiece.h"

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

enum { IDS_MAX = 512 };

/* Line n is id n. */
static const char *const names[] = {
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##aff",
    "##able",
    "##a",
    "want",
    "##want",
    "##ed",
    "runn",
    "##ing",
    ",",
    ".",
    "[",
    "]",
    "cls",
    "ecole",
    "\u00e9cole",
    "Ecole",
    "\u4e2d",
    "##\u4e2d",
    "a",
    "i",
    "i\u0307",
    "x",
    "x\U0001d165\u302e",
};
enum { NAME_COUNT = sizeof names / sizeof names[0] };

/* --- a model folder that lives as long as a test --- */

typedef struct folder {
    char path[64];
} folder;

static int make_folder(void **state) {
    static folder dir;
    (void)snprintf(dir.path, sizeof dir.path, "/tmp/mf-wordpiece-XXXXXX");
    if (mkdtemp(dir.path) == NULL) {
        return -1;
    }
    *state = &dir;
    return 0;
}

static void put_file(const folder *dir, const char *name, mf_str bytes) {
    char path[MF_PATH_MAX];
    mf_err err;
    assert_int_equal(mf_path_join(path, sizeof path, dir->path, name, &err), MF_OK);
    assert_int_equal(mf_file_write_atomic(path, bytes, &err), MF_OK);
}

static void remove_file(const folder *dir, const char *name) {
    char path[MF_PATH_MAX];
    assert_int_equal(mf_path_join(path, sizeof path, dir->path, name, NULL), MF_OK);
    (void)unlink(path); /* it may not be there */
}

static int remove_folder(void **state) {
    folder *dir = *state;
    remove_file(dir, "vocab.txt");
    remove_file(dir, "tokenizer.json");
    remove_file(dir, "tokenizer_config.json");
    (void)rmdir(dir->path);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static void put_vocab(const folder *dir) {
    char text[1024];
    size_t len = 0;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s\n", names[i]);
    }
    put_file(dir, "vocab.txt", (mf_str){text, len});
}

static mf_wordpiece *must_open(const folder *dir) {
    mf_wordpiece *wp = NULL;
    mf_err err;
    if (mf_wordpiece_open(dir->path, &wp, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return wp;
}

static mf_wordpiece *open_with(const folder *dir, const char *tokenizer_json,
                               const char *config_json) {
    put_vocab(dir);
    if (tokenizer_json != NULL) {
        put_file(dir, "tokenizer.json", mf_str_from(tokenizer_json));
    }
    if (config_json != NULL) {
        put_file(dir, "tokenizer_config.json", mf_str_from(config_json));
    }
    return must_open(dir);
}

/* Opening fails with `rc` and a text that names `what`, and gives nothing out. */
static void assert_refused(const folder *dir, mf_rc rc, const char *what) {
    mf_wordpiece *wp = NULL;
    mf_err err = {0};
    assert_int_equal(mf_wordpiece_open(dir->path, &wp, &err), rc);
    assert_null(wp);
    if (strstr(err.text, what) == NULL) {
        fail_msg("'%s' does not name '%s'", err.text, what);
    }
    assert_int_equal(mf_alloc_live(), 0);
}

/* `expected` is the names of the pieces between [CLS] and [SEP], with single blanks. */
static void assert_pieces(const mf_wordpiece *wp, mf_str text, const char *expected) {
    int32_t ids[IDS_MAX];
    char got[2048] = "";
    bool truncated = true;
    size_t count = mf_wordpiece_encode(wp, text, ids, IDS_MAX, &truncated);
    assert_false(truncated);
    assert_true(count >= 2);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[count - 1], 3);
    size_t len = 0;
    for (size_t i = 1; i + 1 < count; i++) {
        assert_in_range(ids[i], 0, NAME_COUNT - 1);
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%s", i > 1 ? " " : "",
                                names[ids[i]]);
    }
    assert_string_equal(got, expected);
}

/* --- cutting --- */

static void words_are_cut_into_the_longest_pieces(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_int_equal(mf_wordpiece_vocab_size(wp), NAME_COUNT);
    assert_pieces(wp, MF_STR("unaffable wanted running"),
                  "un ##aff ##able want ##ed runn ##ing");
    assert_pieces(wp, MF_STR("unwanted"), "un ##want ##ed");
    assert_pieces(wp, MF_STR("UNwanted,want."), "un ##want ##ed , want .");
    assert_pieces(wp, MF_STR(""), "");
    assert_pieces(wp, MF_STR_NONE, "");
    assert_pieces(wp, MF_STR(" \t\r\n \xC2\xA0 "), "");
    mf_wordpiece_close(wp);
}

static void a_word_with_a_rest_nobody_knows_is_unknown_as_a_whole(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("wantq want"), "[UNK] want");
    assert_pieces(wp, MF_STR("qwant"), "[UNK]");
    assert_pieces(wp, MF_STR("aff"), "[UNK]"); /* known inside a word only */
    assert_pieces(wp, MF_STR("!"), "[UNK]");
    mf_wordpiece_close(wp);
}

static void a_word_of_more_than_100_characters_is_unknown(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    char text[512];
    for (size_t chars = 99; chars <= 102; chars++) {
        memset(text, 'a', chars);
        int32_t ids[IDS_MAX];
        size_t count =
            mf_wordpiece_encode(wp, (mf_str){text, chars}, ids, IDS_MAX, NULL);
        assert_int_equal(count, chars <= 100 ? chars + 2 : 3);
        assert_int_equal(ids[1], chars <= 100 ? 24 : 1);
    }
    /* Characters are counted after accents are gone, and bytes do not matter. */
    for (size_t i = 0; i < 100; i++) {
        memcpy(text + 3 * i, "a\xCC\x81", 3);
    }
    int32_t ids[IDS_MAX];
    assert_int_equal(mf_wordpiece_encode(wp, (mf_str){text, 300}, ids, IDS_MAX, NULL),
                     102);
    mf_wordpiece_close(wp);
}

static void accents_case_and_control_characters_do_not_matter(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("\u00c9cole"), "ecole");
    assert_pieces(wp, MF_STR("E\u0301COLE"), "ecole");
    assert_pieces(wp, MF_STR("e\0co\x07le"), "ecole");
    assert_pieces(wp, MF_STR("eco\u200ble"), "ecole");
    assert_pieces(wp, MF_STR("\u0130"), "i");
    mf_wordpiece_close(wp);
}

static void bytes_that_are_not_utf8_vanish_like_replacement_characters(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("wa\xFFnt \xE4\xB8 wa\xEF\xBF\xBDnt \xC3"), "want want");
    assert_pieces(wp, MF_STR("\x80"), "");
    mf_wordpiece_close(wp);
}

static void ideographs_are_words_of_their_own(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("want\u4e2d\u4e2dwant"), "want \u4e2d \u4e2d want");
    mf_wordpiece_close(wp);
}

/* The reference knows the block from 2B820 on as words from 2B920 on only. */
static void the_gap_in_the_ranges_of_ideographs_is_kept(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("a\U0002b81f"), "a [UNK]");
    assert_pieces(wp, MF_STR("a\U0002b820"), "[UNK]");
    assert_pieces(wp, MF_STR("a\U0002b920"), "a [UNK]");
    mf_wordpiece_close(wp);
}

static void marks_that_stay_are_put_in_canonical_order(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("x\u302e\U0001d165"), "x\U0001d165\u302e");
    assert_pieces(wp, MF_STR("x\U0001d165\u302e"), "x\U0001d165\u302e");
    mf_wordpiece_close(wp);
}

static void names_of_special_tokens_in_the_text_become_them(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    assert_pieces(wp, MF_STR("want[MASK]want [SEP]"), "want [MASK] want [SEP]");
    assert_pieces(wp, MF_STR("[cls] [CLS] [CLS"), "[ cls ] [CLS] [ cls");
    mf_wordpiece_close(wp);
}

static void what_does_not_fit_is_dropped_and_told(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    mf_str text = MF_STR("unaffable want");
    int32_t all[IDS_MAX];
    assert_int_equal(mf_wordpiece_encode(wp, text, all, IDS_MAX, NULL), 6);
    for (size_t ids_max = 2; ids_max <= 8; ids_max++) {
        int32_t ids[9];
        memset(ids, 0x55, sizeof ids);
        bool truncated = ids_max >= 6;
        size_t count = mf_wordpiece_encode(wp, text, ids, ids_max, &truncated);
        assert_int_equal(truncated, ids_max < 6);
        assert_int_equal(count, ids_max < 6 ? ids_max : 6);
        assert_memory_equal(ids, all, (count - 1) * sizeof *ids);
        assert_int_equal(ids[count - 1], 3);
        assert_int_equal(ids[count], 0x55555555);
    }
    int32_t two[2];
    bool truncated = true;
    assert_int_equal(mf_wordpiece_encode(wp, MF_STR("  "), two, 2, &truncated), 2);
    assert_false(truncated);
    mf_wordpiece_close(wp);
}

static void windows_end_behind_whole_words(void **state) {
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    mf_str text = MF_STR("want unaffable, want");
    static const size_t expected[] = {0, 0, 0, 4, 4, 4, 14, 15, 20, 20};
    for (size_t ids_max = 3; ids_max < sizeof expected / sizeof expected[0];
         ids_max++) {
        assert_int_equal(mf_wordpiece_fit(wp, text, ids_max), expected[ids_max]);
    }
    /* A first word that does not fit is given whole. */
    assert_int_equal(mf_wordpiece_fit(wp, MF_STR(" unaffable want"), 3), 10);
    assert_int_equal(mf_wordpiece_fit(wp, MF_STR("   "), 3), 3);
    assert_int_equal(mf_wordpiece_fit(wp, MF_STR(""), 3), 0);
    assert_int_equal(mf_wordpiece_fit(wp, MF_STR("\u4e2d\u4e2d"), 3), 3);
    assert_int_equal(mf_wordpiece_fit(wp, MF_STR("[MASK][MASK]"), 3), 6);
    mf_wordpiece_close(wp);
}

/* Words near the end of a text are read byte by byte, the others many bytes at once. */
static void blanks_behind_a_text_change_nothing(void **state) {
    static const char *const parts[] = {
        "want", "WANTED", "unaffable",     "runn",   "\u00e9", "e\u0301", " ", " ",
        ",",    "\x07",   "aaaaaaaaaaaaa", "\u4e2d", "[MASK]", "\xFF",    "9", "\n"};
    mf_wordpiece *wp = open_with(*state, NULL, NULL);
    mf_rng rng;
    mf_rng_init(&rng, 20251121);
    for (int round = 0; round < 5000; round++) {
        char text[256] = "";
        size_t len = 0;
        for (size_t n = mf_rng_below(&rng, 8); n > 0; n--) {
            size_t part = mf_rng_below(&rng, sizeof parts / sizeof parts[0]);
            len += (size_t)snprintf(text + len, sizeof text - len, "%s", parts[part]);
        }
        int32_t ids[IDS_MAX];
        int32_t more_ids[IDS_MAX];
        size_t count = mf_wordpiece_encode(wp, (mf_str){text, len}, ids, IDS_MAX, NULL);
        memset(text + len, ' ', 32);
        assert_int_equal(
            mf_wordpiece_encode(wp, (mf_str){text, len + 32}, more_ids, IDS_MAX, NULL),
            count);
        assert_memory_equal(ids, more_ids, count * sizeof *ids);
    }
    mf_wordpiece_close(wp);
}

/* --- settings --- */

#define BERT_JSON(flags, more)                                                         \
    "{\"model\":{\"type\":\"WordPiece\"},\"normalizer\":{\"type\":"                    \
    "\"BertNormalizer\"" flags "}" more "}"

static void lower_case_can_be_switched_off(void **state) {
    mf_wordpiece *wp = open_with(*state, BERT_JSON(",\"lowercase\":false", ""), NULL);
    assert_pieces(wp, MF_STR("Ecole ecole \u00e9cole WANT"),
                  "Ecole ecole \u00e9cole [UNK]");
    mf_wordpiece_close(wp);
}

static void accents_can_be_kept(void **state) {
    mf_wordpiece *wp =
        open_with(*state, BERT_JSON(",\"strip_accents\":false", ""), NULL);
    assert_pieces(wp, MF_STR("\u00c9cole ecole \u0130"), "\u00e9cole ecole i\u0307");
    mf_wordpiece_close(wp);
}

static void ideographs_can_stay_in_their_word(void **state) {
    mf_wordpiece *wp =
        open_with(*state, BERT_JSON(",\"handle_chinese_chars\":false", ""), NULL);
    assert_pieces(wp, MF_STR("a\u4e2d"), "a ##\u4e2d");
    mf_wordpiece_close(wp);
}

static void clean_up_can_be_switched_off(void **state) {
    mf_wordpiece *wp = open_with(*state, BERT_JSON(",\"clean_text\":false", ""), NULL);
    assert_pieces(wp,
                  MF_STR("wa\x07nt want\x0Bwant a\xC2\x85"
                         "a"),
                  "[UNK] want want a a");
    mf_wordpiece_close(wp);
}

static void tokenizer_config_wins_over_tokenizer_json(void **state) {
    mf_wordpiece *wp = open_with(*state, BERT_JSON(",\"lowercase\":true", ""),
                                 "{\"do_lower_case\":false,\"strip_accents\":null,"
                                 "\"tokenize_chinese_chars\":false,"
                                 "\"mask_token\":{\"content\":\"want\"}}");
    assert_pieces(wp, MF_STR("Ecole wantx a\u4e2d"), "Ecole want x a ##\u4e2d");
    mf_wordpiece_close(wp);
}

static void added_tokens_of_tokenizer_json_are_found_in_text(void **state) {
    mf_wordpiece *wp = open_with(
        *state,
        BERT_JSON("", ",\"added_tokens\":[{\"content\":\"runn\",\"normalized\":false},"
                      "{\"content\":\"un\",\"normalized\":false}]"),
        NULL);
    assert_pieces(wp, MF_STR("xrunnx"), "x runn x");
    mf_wordpiece_close(wp);
}

static void settings_that_cannot_be_honoured_are_refused(void **state) {
    folder *dir = *state;
    static const struct {
        const char *json;
        mf_rc rc;
        const char *what;
    } rows[] = {
        {"", MF_E_CORRUPT, "tokenizer.json"},
        {"{\"normalizer\":", MF_E_CORRUPT, "tokenizer.json"},
        {"[]", MF_E_CORRUPT, "tokenizer.json"},
        {"{}", MF_E_UNSUPPORTED, "BertNormalizer"},
        {"{\"model\":{\"type\":\"BPE\"},\"normalizer\":{\"type\":\"BertNormalizer\"}}",
         MF_E_UNSUPPORTED, "BPE"},
        {"{\"model\":{\"type\":\"WordPiece\"},\"normalizer\":{\"type\":\"NFC\"}}",
         MF_E_UNSUPPORTED, "NFC"},
        {BERT_JSON("", ",\"added_tokens\":[{\"content\":\"nowhere\"}]"),
         MF_E_UNSUPPORTED, "nowhere"},
        {"{\"model\":{\"continuing_subword_prefix\":\"@@\"},\"normalizer\":{\"type\":"
         "\"BertNormalizer\"}}",
         MF_E_UNSUPPORTED, "continuing_subword_prefix"},
        {"{\"model\":{\"max_input_chars_per_word\":200},\"normalizer\":{\"type\":"
         "\"BertNormalizer\"}}",
         MF_E_UNSUPPORTED, "max_input_chars_per_word"},
        {BERT_JSON("", ",\"post_processor\":{\"type\":\"ByteLevel\"}"),
         MF_E_UNSUPPORTED, "ByteLevel"},
        {BERT_JSON("", ",\"added_tokens\":[{\"content\":\"un\",\"single_word\":true}]"),
         MF_E_UNSUPPORTED, "un"},
        {BERT_JSON("", ",\"added_tokens\":[{}]"), MF_E_CORRUPT, "content"},
    };
    put_vocab(dir);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_file(dir, "tokenizer.json", mf_str_from(rows[i].json));
        assert_refused(dir, rows[i].rc, rows[i].what);
    }
    remove_file(dir, "tokenizer.json");
    put_file(dir, "tokenizer_config.json", MF_STR("null"));
    assert_refused(dir, MF_E_CORRUPT, "tokenizer_config.json");
    put_file(dir, "tokenizer_config.json", MF_STR("{\"cls_token\":\"<s>\"}"));
    assert_refused(dir, MF_E_CORRUPT, "<s>");
}

/* --- vocabularies --- */

#define SPECIALS "[UNK]\n[CLS]\n[SEP]\n"

static void damaged_vocabularies_are_refused_with_their_line(void **state) {
    folder *dir = *state;
    static const struct {
        const char *text;
        const char *what;
    } rows[] = {
        {"", "line 0"},
        {"\n", "line 1: empty"},
        {SPECIALS "a\n\nb\n", "line 5: empty"},
        {SPECIALS "a\n\r\n", "line 5: empty"},
        {SPECIALS "a\nb\na\n", "line 6: repeats line 4"},
        {SPECIALS "##a\na\n##a", "line 6: repeats line 4"},
        {SPECIALS "\xFF\n", "line 4: not UTF-8"},
        {SPECIALS "##\xA9\n", "line 4: not UTF-8"},
        {"[CLS]\n[SEP]\na\n", "[UNK]"},
        {"[UNK]\n[SEP]\na\n", "[CLS]"},
        {"[UNK]\n[CLS]\na\n", "[SEP]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_file(dir, "vocab.txt", mf_str_from(rows[i].text));
        assert_refused(dir, MF_E_CORRUPT, rows[i].what);
    }
}

static void nul_bytes_and_endless_entries_are_refused(void **state) {
    folder *dir = *state;
    put_file(dir, "vocab.txt", MF_STR(SPECIALS "a\nb\0c\n"));
    assert_refused(dir, MF_E_CORRUPT, "line 5: a NUL byte");
    char text[1100] = SPECIALS;
    size_t start = strlen(text);
    memset(text + start, 'x', 1024);
    put_file(dir, "vocab.txt", (mf_str){text, start + 1024});
    assert_refused(dir, MF_E_CORRUPT, "line 4: longer than 1023 bytes");
    put_file(dir, "vocab.txt", (mf_str){text, start + 1023});
    mf_wordpiece_close(must_open(dir));
}

static void a_vocabulary_of_too_many_entries_is_refused(void **state) {
    folder *dir = *state;
    mf_buf text;
    mf_buf_init(&text, 32 << 20);
    for (int i = 0; i <= 1 << 20; i++) {
        (void)mf_buf_printf(&text, "%x\n", (unsigned)i); /* `failed` tells at the end */
    }
    assert_int_equal(text.failed, MF_OK);
    put_file(dir, "vocab.txt", mf_buf_view(&text));
    mf_buf_done(&text);
    assert_refused(dir, MF_E_CORRUPT, "line 1048577");
}

static void a_missing_folder_is_an_io_error(void **state) {
    assert_refused(*state, MF_E_IO, "vocab.txt");
}

static void windows_line_ends_and_a_missing_last_one_are_fine(void **state) {
    put_file(*state, "vocab.txt", MF_STR("[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\n##b"));
    mf_wordpiece *wp = must_open(*state);
    int32_t ids[8];
    assert_int_equal(mf_wordpiece_vocab_size(wp), 5);
    assert_int_equal(mf_wordpiece_encode(wp, MF_STR("ab"), ids, 8, NULL), 4);
    assert_int_equal(ids[1], 3);
    assert_int_equal(ids[2], 4);
    mf_wordpiece_close(wp);
}

static void opening_survives_each_failed_allocation(void **state) {
    folder *dir = *state;
    put_vocab(dir);
    put_file(dir, "tokenizer.json",
             MF_STR(BERT_JSON("", ",\"added_tokens\":[{\"content\":\"runn\"}]")));
    put_file(dir, "tokenizer_config.json", MF_STR("{\"do_lower_case\":true}"));
    size_t failures = 0;
    MF_EACH_FAULT("alloc", n) {
        mf_wordpiece *wp = NULL;
        mf_err err = {0};
        if (mf_wordpiece_open(dir->path, &wp, &err) == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(wp);
            failures++;
        }
        mf_wordpiece_close(wp);
        assert_int_equal(mf_alloc_live(), 0);
    }
    assert_true(failures >= 6);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(words_are_cut_into_the_longest_pieces),
        TEST(a_word_with_a_rest_nobody_knows_is_unknown_as_a_whole),
        TEST(a_word_of_more_than_100_characters_is_unknown),
        TEST(accents_case_and_control_characters_do_not_matter),
        TEST(bytes_that_are_not_utf8_vanish_like_replacement_characters),
        TEST(ideographs_are_words_of_their_own),
        TEST(the_gap_in_the_ranges_of_ideographs_is_kept),
        TEST(marks_that_stay_are_put_in_canonical_order),
        TEST(names_of_special_tokens_in_the_text_become_them),
        TEST(what_does_not_fit_is_dropped_and_told),
        TEST(windows_end_behind_whole_words),
        TEST(blanks_behind_a_text_change_nothing),
        TEST(lower_case_can_be_switched_off),
        TEST(accents_can_be_kept),
        TEST(ideographs_can_stay_in_their_word),
        TEST(clean_up_can_be_switched_off),
        TEST(tokenizer_config_wins_over_tokenizer_json),
        TEST(added_tokens_of_tokenizer_json_are_found_in_text),
        TEST(settings_that_cannot_be_honoured_are_refused),
        TEST(damaged_vocabularies_are_refused_with_their_line),
        TEST(nul_bytes_and_endless_entries_are_refused),
        TEST(a_vocabulary_of_too_many_entries_is_refused),
        TEST(a_missing_folder_is_an_io_error),
        TEST(windows_line_ends_and_a_missing_last_one_are_fine),
        TEST(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
