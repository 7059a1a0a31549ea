/* wordpiece.c - text to token ids the way BERT's uncased tokenizer does it.
 *
 * One pass over the bytes, one word open at a time:
 *
 *   byte --ASCII table--> letter: lower case, into the word
 *                         blank: word ends        punctuation: word ends, is a word
 * itself
 *        --else--> decode, clean up, CJK, NFD, drop marks, lower case, then the same
 *                  three ways for each resulting character
 *   word ends --> vocab.c cuts it into pieces --> ids, until there is no more room
 *
 * Most of a text is shorter than that: words of at most 12 ASCII letters and digits.
 * take_plain_word() reads 16 bytes at once, finds the end of the word among them, puts
 * it in lower case as one number and looks that number up; only a word that is not a
 * piece as a whole, or goes on behind, takes the way above.
 *
 * The order of steps is that of the reference (BertNormalizer, BertPreTokenizer). Since
 * every step works on single characters, doing them character by character gives the
 * same result as doing them text by text; only the canonical order of combining marks
 * looks further, and append() keeps it within the open word.
 *
 * Which characters are dropped, blank, punctuation or marks comes from
 * bert_unicode.def, which freezes the reference's answers: the Unicode library of the
 * machine is newer than the reference's tables and would split some words elsewhere.
 * Decompositions and lower case do not change between versions and come from utf8proc.
 *
 * Special tokens are found in the raw text before anything else is done to it. */
#include "model/wordpiece.h"

#include <utf8proc.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/tokenizer_files.h"
#include "model/vocab.h"
#include "os/file.h"
#include "text/utf8.h"

enum {
    WORD_BYTES_MAX = MF_WORDPIECE_WORD_MAX * 4,
    PLAIN_BYTES = 16,    /* read at once */
    DECOMPOSED_MAX = 18, /* code points one character decomposes into, and more */
    BMP_SIZE = 0x10000,
};

_Static_assert((int)WORD_BYTES_MAX <= (int)MF_VOCAB_WORD_MAX,
               "a word fits in what vocab.c cuts");
_Static_assert((int)PLAIN_BYTES == (int)MF_PIECE_SLACK, "a key may be built of a read");

typedef enum char_class {
    CLASS_LETTER,
    CLASS_BLANK,
    CLASS_PUNCT,
    CLASS_DROP,
    CLASS_MARK,
    CLASS_NOT_ASCII /* of a byte only */
} char_class;

typedef struct special {
    mf_str text; /* owned */
    int32_t id;
    bool any_case; /* found in lower-cased text: "[unk]" is "[UNK]" */
} special;

typedef struct flags {
    bool clean_text;
    bool handle_cjk;
    bool lowercase;
    bool strip_accents;
    bool strip_accents_given; /* otherwise as `lowercase` */
} flags;

struct mf_wordpiece {
    mf_vocab *vocab;
    int32_t unk, cls, sep;
    size_t sep_count, second_type; /* of pairs, as in mf_frame */
    flags flags;
    special specials[MF_WORDPIECE_SPECIALS_MAX];
    size_t special_count;
    bool special_first[256]; /* some special token starts with this byte */
    uint8_t byte_class[256];
    char byte_lower[128];
    int32_t punct_ids[128]; /* of the words that are one ASCII punctuation mark */
    bool plain_words;       /* take_plain_word() gives what the general way would */
    uint64_t plain_lower;   /* set in each byte of a plain word: 0x20s or nothing */
    uint8_t bmp_class[BMP_SIZE]; /* by code point */
};

/* --- character classes --- */

typedef struct class_range {
    uint32_t first, last;
    char_class class;
} class_range;

static const class_range class_ranges[] = {
#define MF_BERT(first, last, class) {first, last, CLASS_##class},
#include "model/bert_unicode.def"
#undef MF_BERT
};
enum { CLASS_RANGE_COUNT = sizeof class_ranges / sizeof class_ranges[0] };

static char_class class_by_search(uint32_t code) {
    size_t low = 0;
    size_t high = CLASS_RANGE_COUNT;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (code > class_ranges[mid].last) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < CLASS_RANGE_COUNT && code >= class_ranges[low].first
               ? class_ranges[low].class
               : CLASS_LETTER;
}

static char_class class_of(const mf_wordpiece *wp, uint32_t code) {
    return code < BMP_SIZE ? (char_class)wp->bmp_class[code] : class_by_search(code);
}

/* The ideographs the reference puts blanks around.  Its last but one range begins at
 * 2B920, not at the start of the block (2B820), and ids have to follow it. */
static bool is_cjk(uint32_t code) {
    return code >= 0x3400 && ((code >= 0x4E00 && code <= 0x9FFF) || code <= 0x4DBF ||
                              (code >= 0xF900 && code <= 0xFAFF) ||
                              (code >= 0x20000 && code <= 0x2A6DF) ||
                              (code >= 0x2A700 && code <= 0x2B81F) ||
                              (code >= 0x2B920 && code <= 0x2CEAF) ||
                              (code >= 0x2F800 && code <= 0x2FA1F));
}

/* Characters that clean-up would drop stay when clean-up is off: as blanks if they are
 * white space, else as part of a word. */
static char_class without_clean_up(uint32_t code, char_class class) {
    if (class != CLASS_DROP) {
        return class;
    }
    return (code >= 0x09 && code <= 0x0D) || code == 0x85 ? CLASS_BLANK : CLASS_LETTER;
}

static void fill_tables(mf_wordpiece *wp) {
    for (size_t r = 0; r < CLASS_RANGE_COUNT; r++) {
        const class_range *range = &class_ranges[r];
        for (uint32_t code = range->first; code <= range->last && code < BMP_SIZE;
             code++) {
            wp->bmp_class[code] = (uint8_t)range->class;
        }
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        char_class class = class_of(wp, byte);
        if (!wp->flags.clean_text) {
            class = without_clean_up(byte, class);
        }
        wp->byte_class[byte] = (uint8_t)(byte < 128 ? class : CLASS_NOT_ASCII);
    }
    for (int byte = 0; byte < 128; byte++) {
        bool upper = wp->flags.lowercase && byte >= 'A' && byte <= 'Z';
        wp->byte_lower[byte] = (char)(upper ? byte + ('a' - 'A') : byte);
        mf_piece_key one = {.low = (uint64_t)byte, .len = 1};
        int32_t id = mf_vocab_find_word(wp->vocab, one);
        wp->punct_ids[byte] = id >= 0 ? id : wp->unk;
    }
    /* Digits have the bit that makes a letter lower case. */
    wp->plain_lower = wp->flags.lowercase ? UINT64_C(0x2020202020202020) : 0;
    /* A special token that begins with a letter may stand inside a word. */
    wp->plain_words = true;
    for (int byte = 0; byte < 128; byte++) {
        bool plain = (byte >= '0' && byte <= '9') ||
                     ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
        bool letter = wp->byte_class[byte] == CLASS_LETTER;
        wp->plain_words = wp->plain_words && !(plain && wp->special_first[byte]);
        wp->plain_words = wp->plain_words && plain == letter;
    }
}

/* --- settings --- */

static void set_flag(yyjson_val *object, const char *key, bool *flag) {
    yyjson_val *value = yyjson_obj_get(object, key);
    if (yyjson_is_bool(value)) {
        *flag = yyjson_get_bool(value);
    }
}

/* null means "as lowercase", so the value alone does not tell. */
static void set_strip_accents(yyjson_val *object, flags *f) {
    yyjson_val *value = yyjson_obj_get(object, "strip_accents");
    if (yyjson_is_bool(value)) {
        f->strip_accents = yyjson_get_bool(value);
        f->strip_accents_given = true;
    }
}

static mf_rc add_special(mf_wordpiece *wp, mf_str text, int32_t id, bool any_case,
                         mf_err *err) {
    if (text.len == 0) {
        return MF_OK;
    }
    for (size_t i = 0; i < wp->special_count; i++) {
        if (mf_str_eq(wp->specials[i].text, text)) {
            return MF_OK;
        }
    }
    if (wp->special_count == MF_WORDPIECE_SPECIALS_MAX) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "the tokenizer has more than %d special tokens",
                       MF_WORDPIECE_SPECIALS_MAX);
    }
    char *copy = mf_strndup(text.p, text.len);
    if (copy == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a special token");
    }
    wp->specials[wp->special_count++] = (special){{copy, text.len}, id, any_case};
    wp->special_first[(uint8_t)text.p[0]] = true;
    char first = text.p[0];
    if (any_case &&
        ((first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z'))) {
        wp->special_first[(uint8_t)first ^ 0x20] = true;
    }
    return MF_OK;
}

/* The added tokens of tokenizer.json.  They are looked for in the text as it is, or, if
 * they say so, in the text after its letters were made small. */
static mf_rc add_listed_specials(mf_wordpiece *wp, yyjson_val *list, mf_err *err) {
    size_t i, count;
    yyjson_val *token;
    yyjson_arr_foreach(list, i, count, token) {
        mf_str text = mf_json_text(yyjson_obj_get(token, "content"));
        bool normalized = false;
        bool single_word = false;
        set_flag(token, "normalized", &normalized);
        set_flag(token, "single_word", &single_word);
        if (text.p == NULL) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "tokenizer.json: an added token has no content");
        }
        int32_t id = mf_vocab_find(wp->vocab, text);
        if (single_word || id < 0) {
            return MF_FAIL(
                err, MF_E_UNSUPPORTED,
                "tokenizer.json: added token '%.*s' is a single word or not in "
                "vocab.txt",
                MF_STR_ARGS(mf_str_sub(text, 0, 64)));
        }
        MF_TRY(add_special(wp, text, id, normalized && wp->flags.lowercase, err));
    }
    return MF_OK;
}

static mf_rc check_kind(yyjson_val *root, mf_err *err) {
    mf_str model = mf_json_text(yyjson_obj_get(yyjson_obj_get(root, "model"), "type"));
    mf_str normalizer =
        mf_json_text(yyjson_obj_get(yyjson_obj_get(root, "normalizer"), "type"));
    /* Older files leave the model's type out. */
    if ((model.p != NULL && !mf_str_eq(model, MF_STR("WordPiece"))) ||
        !mf_str_eq(normalizer, MF_STR("BertNormalizer"))) {
        return MF_FAIL(
            err, MF_E_UNSUPPORTED,
            "tokenizer.json: model '%.*s' with normalizer '%.*s'; known are WordPiece "
            "with BertNormalizer, and Unigram",
            MF_STR_ARGS(mf_str_sub(model, 0, 32)),
            MF_STR_ARGS(mf_str_sub(normalizer, 0, 32)));
    }
    return MF_OK;
}

/* The two facts about pieces that are built in. */
static mf_rc check_model(yyjson_val *root, mf_err *err) {
    yyjson_val *model = yyjson_obj_get(root, "model");
    yyjson_val *prefix = yyjson_obj_get(model, "continuing_subword_prefix");
    yyjson_val *most = yyjson_obj_get(model, "max_input_chars_per_word");
    if ((prefix != NULL && !yyjson_equals_str(prefix, "##")) ||
        (most != NULL &&
         (!yyjson_is_uint(most) || yyjson_get_uint(most) != MF_WORDPIECE_WORD_MAX))) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "tokenizer.json: only continuing_subword_prefix '##' and "
                       "max_input_chars_per_word %d are built",
                       MF_WORDPIECE_WORD_MAX);
    }
    return MF_OK;
}

static void read_flags(mf_wordpiece *wp, const mf_tokenizer_files *files) {
    yyjson_val *normalizer = yyjson_obj_get(mf_tokenizer_root(files), "normalizer");
    yyjson_val *config = mf_tokenizer_config_root(files);
    set_flag(normalizer, "clean_text", &wp->flags.clean_text);
    set_flag(normalizer, "handle_chinese_chars", &wp->flags.handle_cjk);
    set_flag(normalizer, "lowercase", &wp->flags.lowercase);
    set_strip_accents(normalizer, &wp->flags);
    set_flag(config, "do_lower_case", &wp->flags.lowercase);
    set_flag(config, "tokenize_chinese_chars", &wp->flags.handle_cjk);
    set_strip_accents(config, &wp->flags);
    if (!wp->flags.strip_accents_given) {
        wp->flags.strip_accents = wp->flags.lowercase;
    }
}

static mf_rc find_special(mf_wordpiece *wp, mf_str name, int32_t *id, mf_err *err) {
    *id = mf_vocab_find(wp->vocab, name);
    if (*id < 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "the vocabulary has no special token '%.*s'",
                       MF_STR_ARGS(name));
    }
    return add_special(wp, name, *id, false, err);
}

static mf_rc name_specials(mf_wordpiece *wp, const mf_tokenizer_files *files,
                           mf_err *err) {
    mf_special_names names = {MF_STR("[UNK]"), MF_STR("[CLS]"), MF_STR("[SEP]"), 1, 1};
    static const char *const others[][2] = {{"pad_token", "[PAD]"},
                                            {"mask_token", "[MASK]"}};
    MF_TRY(mf_special_names_get(files, &names, err));
    MF_TRY(find_special(wp, names.unk, &wp->unk, err));
    MF_TRY(find_special(wp, names.first, &wp->cls, err));
    MF_TRY(find_special(wp, names.sep, &wp->sep, err));
    wp->sep_count = names.sep_count;
    wp->second_type = names.second_type;
    for (size_t i = 0; i < 2; i++) {
        yyjson_val *value =
            yyjson_obj_get(mf_tokenizer_config_root(files), others[i][0]);
        mf_str name = mf_json_text(
            yyjson_is_obj(value) ? yyjson_obj_get(value, "content") : value);
        name = name.len > 0 ? name : mf_str_from(others[i][1]);
        int32_t id = mf_vocab_find(wp->vocab, name);
        if (id >= 0) {
            MF_TRY(add_special(wp, name, id, false, err));
        }
    }
    return MF_OK;
}

/* vocab.txt or, where there is none, the vocabulary of tokenizer.json. */
static mf_rc open_vocab(const char *dir, const mf_tokenizer_files *files,
                        mf_vocab **out, mf_err *err) {
    char path[MF_PATH_MAX];
    MF_TRY(mf_path_join(path, sizeof path, dir, "vocab.txt", err));
    if (files->tokenizer == NULL || mf_file_exists(path)) {
        return mf_vocab_open(path, out, err);
    }
    mf_buf lines;
    mf_buf_init(&lines, MF_VOCAB_BYTES_MAX);
    mf_rc rc = mf_tokenizer_vocab_lines(files, &lines, err);
    if (rc == MF_OK) {
        rc = mf_vocab_from_lines(mf_buf_view(&lines), "tokenizer.json", out, err);
    }
    mf_buf_done(&lines);
    return rc;
}

static mf_rc load(mf_wordpiece *wp, const char *dir, const mf_tokenizer_files *files,
                  mf_err *err) {
    yyjson_val *root = mf_tokenizer_root(files);
    if (root != NULL) {
        MF_TRY(check_kind(root, err));
        MF_TRY(check_model(root, err));
    }
    MF_TRY(open_vocab(dir, files, &wp->vocab, err));
    wp->flags = (flags){.clean_text = true, .handle_cjk = true, .lowercase = true};
    read_flags(wp, files);
    MF_TRY(add_listed_specials(wp, yyjson_obj_get(root, "added_tokens"), err));
    MF_TRY(name_specials(wp, files, err));
    fill_tables(wp);
    return MF_OK;
}

mf_rc mf_wordpiece_open_files(const char *model_dir, const mf_tokenizer_files *files,
                              mf_wordpiece **out, mf_err *err) {
    mf_wordpiece *wp = mf_alloc_zero(1, sizeof *wp);
    if (wp == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a tokenizer");
    }
    mf_rc rc = load(wp, model_dir, files, err);
    if (rc != MF_OK) {
        mf_wordpiece_close(wp);
        return rc;
    }
    *out = wp;
    return MF_OK;
}

mf_rc mf_wordpiece_open(const char *model_dir, mf_wordpiece **out, mf_err *err) {
    mf_tokenizer_files files;
    mf_rc rc = mf_tokenizer_files_read(model_dir, &files, err);
    if (rc == MF_OK) {
        rc = mf_wordpiece_open_files(model_dir, &files, out, err);
    }
    mf_tokenizer_files_done(&files);
    return rc == MF_OK ? rc : mf_err_wrap(err, rc, "tokenizer of '%s'", model_dir);
}

void mf_wordpiece_close(mf_wordpiece *wp) {
    if (wp == NULL) {
        return;
    }
    for (size_t i = 0; i < wp->special_count; i++) {
        mf_free((void *)(uintptr_t)wp->specials[i].text.p);
    }
    mf_vocab_close(wp->vocab);
    mf_free(wp);
}

size_t mf_wordpiece_vocab_size(const mf_wordpiece *wp) {
    return mf_vocab_count(wp->vocab);
}

/* --- one pass over a text --- */

typedef struct run {
    const mf_wordpiece *wp;
    int32_t *ids; /* NULL: only the places of the words are wanted */
    size_t count, max;
    bool full;      /* something did not fit: the pass ends */
    size_t fit_end; /* offset behind the last word that fitted whole */
    size_t words;
    size_t chars; /* of the open word; counted one beyond the limit and no further */
    size_t len;   /* its bytes */
    char word[WORD_BYTES_MAX + MF_VOCAB_WORD_SLACK];
} run;

/* One id; there is room for it. */
static inline void emit_one(run *r, int32_t id, size_t end) {
    if (r->ids != NULL) {
        r->ids[r->count] = id;
    }
    r->count++;
    r->fit_end = end;
    r->words++;
}

static void emit(run *r, const int32_t *ids, size_t count, size_t end) {
    if (count == 1 && r->count < r->max) {
        emit_one(r, ids[0], end);
        return;
    }
    size_t room = r->max - r->count;
    size_t taken = count < room ? count : room;
    if (r->ids != NULL) {
        for (size_t i = 0; i < taken; i++) {
            r->ids[r->count + i] = ids[i];
        }
    }
    r->count += taken;
    r->full = taken < count;
    if (!r->full || r->words == 0) {
        r->fit_end = end;
    }
    r->words++;
}

/* Ends the open word, if there is one; `end` is the offset behind it. */
static void end_word(run *r, size_t end) {
    if (r->chars == 0 || r->full) {
        return;
    }
    int32_t ids[WORD_BYTES_MAX];
    size_t count = 0;
    if (r->chars <= MF_WORDPIECE_WORD_MAX) {
        count = mf_vocab_cut(r->wp->vocab, (mf_str){r->word, r->len}, ids);
    }
    if (count == 0) {
        ids[0] = r->wp->unk;
        count = 1;
    }
    emit(r, ids, count, end);
    r->chars = 0;
    r->len = 0;
}

/* Where in the word a mark of combining class `order` belongs: behind the last
 * character that is a base or has no higher class. */
static size_t canonical_place(const run *r, int order) {
    size_t place = r->len;
    while (place > 0) {
        size_t at = place - 1;
        while (at > 0 && ((uint8_t)r->word[at] & 0xC0) == 0x80) {
            at--;
        }
        size_t next = at;
        uint32_t code = mf_utf8_next((mf_str){r->word, r->len}, &next);
        if (utf8proc_get_property((utf8proc_int32_t)code)->combining_class <= order) {
            break;
        }
        place = at;
    }
    return place;
}

static void append(run *r, uint32_t code) {
    if (r->chars >= MF_WORDPIECE_WORD_MAX) {
        r->chars = MF_WORDPIECE_WORD_MAX + 1;
        return;
    }
    char bytes[4];
    size_t len = mf_utf8_put(code, bytes);
    size_t place = r->len;
    if (code >= 0x80 && r->wp->flags.strip_accents) {
        int order = utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
        place = order == 0 ? r->len : canonical_place(r, order);
    }
    memmove(r->word + place + len, r->word + place, r->len - place);
    memcpy(r->word + place, bytes, len);
    r->len += len;
    r->chars++;
}

/* A character after clean-up, decomposition and lower case; it stood at start..end. */
static void take_final(run *r, uint32_t code, size_t start, size_t end) {
    char_class class = class_of(r->wp, code);
    if (!r->wp->flags.clean_text) {
        class = without_clean_up(code, class);
    }
    if (class == CLASS_BLANK) {
        end_word(r, start);
    } else if (class == CLASS_PUNCT) {
        end_word(r, start);
        append(r, code);
        end_word(r, end);
    } else {
        append(r, code);
    }
}

static void take_lowered(run *r, uint32_t code, size_t start, size_t end) {
    if (!r->wp->flags.lowercase) {
        take_final(r, code, start, end);
    } else if (code == 0x130) {
        /* The one character whose lower case is two: i and a dot above. */
        take_final(r, 'i', start, end);
        take_final(r, 0x307, start, end);
    } else {
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        take_final(r, lower, start, end);
    }
}

static void take_decomposed(run *r, uint32_t code, size_t start, size_t end) {
    if (!r->wp->flags.strip_accents) {
        take_lowered(r, code, start, end);
        return;
    }
    utf8proc_int32_t parts[DECOMPOSED_MAX];
    int boundary = 0;
    utf8proc_ssize_t count = utf8proc_decompose_char(
        (utf8proc_int32_t)code, parts, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, &boundary);
    MF_ASSERT(count <= DECOMPOSED_MAX);
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        uint32_t part = (uint32_t)parts[i];
        if (class_of(r->wp, part) != CLASS_MARK) {
            take_lowered(r, part, start, end);
        }
    }
}

/* The character at `start`, not ASCII; returns the offset behind it. */
static size_t take_unicode(run *r, mf_str text, size_t start) {
    size_t end = start;
    uint32_t code = mf_utf8_next_lossy(text, &end);
    if (r->wp->flags.clean_text) {
        char_class class = class_of(r->wp, code);
        if (class == CLASS_DROP) {
            return end;
        }
        if (class == CLASS_BLANK) {
            end_word(r, start);
            return end;
        }
    }
    if (r->wp->flags.handle_cjk && is_cjk(code)) {
        end_word(r, start);
        take_decomposed(r, code, start, end);
        end_word(r, end);
    } else {
        take_decomposed(r, code, start, end);
    }
    return end;
}

/* The longest special token at `at`, or NULL. */
static const special *special_at(const mf_wordpiece *wp, mf_str text, size_t at) {
    mf_str rest = mf_str_sub(text, at, text.len - at);
    const special *best = NULL;
    for (size_t i = 0; i < wp->special_count; i++) {
        const special *s = &wp->specials[i];
        bool here =
            s->any_case
                ? mf_str_eq_ignore_case(mf_str_sub(rest, 0, s->text.len), s->text)
                : mf_str_starts(rest, s->text);
        if (here && (best == NULL || s->text.len > best->text.len)) {
            best = s;
        }
    }
    return best;
}

static size_t take_special(run *r, const special *s, size_t at) {
    end_word(r, at);
    if (!r->full) {
        emit(r, &s->id, 1, at + s->text.len);
    }
    return at + s->text.len;
}

/* Takes the character at `at`, of an ASCII class; returns the offset behind it. */
static size_t take_ascii(run *r, char_class class, char byte, size_t at) {
    switch (class) {
    case CLASS_LETTER:
        if (r->chars < MF_WORDPIECE_WORD_MAX) {
            r->word[r->len++] = r->wp->byte_lower[(uint8_t)byte];
            r->chars++;
        } else {
            r->chars = MF_WORDPIECE_WORD_MAX + 1;
        }
        break;
    case CLASS_BLANK:
        end_word(r, at);
        break;
    case CLASS_PUNCT:
        end_word(r, at);
        if (!r->full) {
            emit(r, &r->wp->punct_ids[(uint8_t)byte], 1, at + 1);
        }
        break;
    default: /* dropped */
        break;
    }
    return at + 1;
}

/* The top bit of each byte that is an ASCII letter or digit.  Adding to seven bits what
 * brings the first wanted one to 128 sets the top bit of it and of all above. */
static uint64_t plain_bits(uint64_t word) {
    const uint64_t each = UINT64_C(0x0101010101010101);
    uint64_t low = word & (each * 0x7F);
    uint64_t lower = low | each * 0x20;
    uint64_t letters = (lower + each * (128 - 'a')) & ~(lower + each * (127 - 'z'));
    uint64_t digits = (low + each * (128 - '0')) & ~(low + each * (127 - '9'));
    return (letters | digits) & ~word & (each * 0x80);
}

/* How many of the 16 bytes at p are letters or digits, from the first on. */
static size_t plain_len(uint64_t low, uint64_t high) {
    const uint64_t all = UINT64_C(0x8080808080808080);
    uint64_t others = ~plain_bits(low) & all;
    if (others != 0) {
        return (size_t)__builtin_ctzll(others) / 8;
    }
    others = ~plain_bits(high) & all;
    return others != 0 ? 8 + (size_t)__builtin_ctzll(others) / 8 : PLAIN_BYTES;
}

/* Takes the letters and digits at `at`, where no word is open and PLAIN_BYTES can be
 * read, if they are a word that ends among these bytes and there is room for an id.
 * Returns the offset behind it, or `at`: nothing is taken.  A word that is no piece as
 * a whole is left open, complete but for what may follow. */
static inline size_t take_plain_word(run *r, mf_str text, size_t at) {
    const uint8_t *p = (const uint8_t *)text.p + at;
    uint64_t low = mf_piece_load(p);
    uint64_t high = mf_piece_load(p + 8);
    size_t len = plain_len(low, high);
    if (len == 0) {
        return at;
    }
    low |= r->wp->plain_lower;
    high |= r->wp->plain_lower;
    /* What follows a whole word must be ASCII: an accent or a letter would be part of
     * it. */
    if (len <= MF_PIECE_INLINE_MAX && p[len] < 0x80 && r->count < r->max &&
        r->wp->byte_class[p[len]] != CLASS_DROP) {
        mf_piece_key key = mf_piece_key_of_words(low, high, len);
        int32_t id = mf_vocab_find_word(r->wp->vocab, key);
        if (id >= 0) {
            emit_one(r, id, at + len);
            return at + len;
        }
    }
    memcpy(r->word, &low, sizeof low);
    memcpy(r->word + sizeof low, &high, sizeof high);
    r->len = len;
    r->chars = len;
    return at + len;
}

static void run_text(run *r, mf_str text) {
    const mf_wordpiece *wp = r->wp;
    size_t at = 0;
    while (at < text.len && !r->full) {
        if (wp->plain_words && r->chars == 0 && text.len - at >= PLAIN_BYTES) {
            at = take_plain_word(r, text, at);
            if (at == text.len) {
                break;
            }
        }
        uint8_t byte = (uint8_t)text.p[at];
        const special *s = wp->special_first[byte] ? special_at(wp, text, at) : NULL;
        if (s != NULL) {
            at = take_special(r, s, at);
        } else if (byte < 0x80) {
            at = take_ascii(r, (char_class)wp->byte_class[byte], (char)byte, at);
        } else {
            at = take_unicode(r, text, at);
        }
    }
    end_word(r, text.len);
}

size_t mf_wordpiece_pieces(const mf_wordpiece *wp, mf_str text, int32_t *ids,
                           size_t ids_max, bool *truncated) {
    run r = {.wp = wp, .ids = ids, .max = ids_max};
    run_text(&r, text);
    *truncated = r.full;
    return r.count;
}

mf_frame mf_wordpiece_frame(const mf_wordpiece *wp) {
    return (mf_frame){wp->cls, wp->sep, wp->sep_count, wp->second_type};
}

size_t mf_wordpiece_encode(const mf_wordpiece *wp, mf_str text, int32_t *ids,
                           size_t ids_max, bool *truncated) {
    MF_ASSERT(ids_max >= 2);
    bool cut = false;
    size_t count = mf_wordpiece_pieces(wp, text, ids + 1, ids_max - 2, &cut);
    ids[0] = wp->cls;
    ids[count + 1] = wp->sep;
    if (truncated != NULL) {
        *truncated = cut;
    }
    return count + 2;
}

size_t mf_wordpiece_count(const mf_wordpiece *wp, mf_str text) {
    run r = {.wp = wp, .ids = NULL, .max = SIZE_MAX - 2};
    run_text(&r, text);
    return r.count + 2;
}

mf_str mf_wordpiece_token(const mf_wordpiece *wp, int32_t id) {
    return mf_vocab_entry(wp->vocab, id);
}

size_t mf_wordpiece_fit(const mf_wordpiece *wp, mf_str text, size_t ids_max) {
    MF_ASSERT(ids_max >= 3);
    run r = {.wp = wp, .ids = NULL, .max = ids_max - 2};
    run_text(&r, text);
    return r.full ? r.fit_end : text.len;
}
