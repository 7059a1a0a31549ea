/* unigram.c - text to token ids the way sentencepiece's Unigram models do it.
 *
 * One pass over the text, one word open at a time:
 *
 *   grapheme --charsmap--> characters --blank: the word ends
 *                                     --else: its bytes are appended to the word
 *   word ends --> the best path through its pieces --> ids, until there is no room
 *
 * The order of steps is that of the reference (the tokenizers library: Precompiled,
 * then WhitespaceSplit and Metaspace, then Unigram).  It looks a grapheme of less than
 * six bytes up as a whole first, then character by character.
 *
 * The best path is found from left to right: best[n] is the largest sum of scores of
 * pieces that make up the first n bytes. */
#include "model/unigram.h"

#include <utf8proc.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/charsmap.h"
#include "model/piece_trie.h"
#include "model/tokenizer_files.h"
#include "model/vocab.h"
#include "text/utf8.h"

enum {
    WORD_MAX = MF_UNIGRAM_WORD_MAX,
    /* Of a word that fills the window, pieces that end this near the window's end wait
     * for what follows: more than four of the longest pieces. */
    OPEN_END = 1024,
    GRAPHEME_BYTES_MAX = 5, /* longer ones are looked up by character only */
    SPECIALS_MAX = 64,
    MARK = 0x2581, /* stands for the blank before a word */
    MARK_BYTES = 3,
    FIT_MARGIN = 2,
};

_Static_assert((int)OPEN_END > 4 * (int)MF_PIECE_TRIE_BYTES_MAX, "pieces are shorter");

/* What an unknown character costs more than the worst piece. */
#define UNKNOWN_PENALTY 10.0

typedef struct special {
    mf_str text; /* owned */
    int32_t id;
} special;

struct mf_unigram {
    mf_piece_trie *trie;
    mf_charsmap *map; /* NULL: characters stay as they are */
    double *scores;   /* [count] */
    size_t count;     /* pieces */
    size_t size;      /* ids, those of added tokens included */
    double unknown_score;
    int32_t unknown;
    mf_frame frame;
    special specials[SPECIALS_MAX];
    size_t special_count;
    bool special_first[256];
};

/* --- opening ---------------------------------------------------------------------- */

static mf_rc read_entry(yyjson_val *entry, size_t at, mf_str *piece, double *score,
                        mf_err *err) {
    *piece = mf_json_text(yyjson_arr_get(entry, 0));
    yyjson_val *number = yyjson_arr_get(entry, 1);
    if (yyjson_arr_size(entry) != 2 || piece->p == NULL || !yyjson_is_num(number)) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: vocabulary entry %zu is no [piece, score]", at);
    }
    *score = yyjson_get_num(number);
    if (!(*score >= -1e6 && *score <= 1e6)) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: the score of vocabulary entry %zu is outside "
                       "-1e6..1e6",
                       at);
    }
    return MF_OK;
}

/* `pieces` is room for all of them. */
static mf_rc read_entries(mf_unigram *u, yyjson_val *vocab, mf_str *pieces,
                          mf_err *err) {
    double least = 0.0;
    size_t i, count;
    yyjson_val *entry;
    yyjson_arr_foreach(vocab, i, count, entry) {
        MF_TRY(read_entry(entry, i, &pieces[i], &u->scores[i], err));
        least = i == 0 || u->scores[i] < least ? u->scores[i] : least;
    }
    u->unknown_score = least - UNKNOWN_PENALTY;
    return mf_piece_trie_open(pieces, u->count, &u->trie, err);
}

static mf_rc read_model(mf_unigram *u, yyjson_val *model, mf_err *err) {
    yyjson_val *vocab = yyjson_obj_get(model, "vocab");
    yyjson_val *unknown = yyjson_obj_get(model, "unk_id");
    u->count = yyjson_arr_size(vocab);
    if (u->count == 0 || u->count > MF_VOCAB_COUNT_MAX) {
        return MF_FAIL(
            err, MF_E_CORRUPT,
            "tokenizer.json: model.vocab has %zu entries, possible are 1..%d", u->count,
            MF_VOCAB_COUNT_MAX);
    }
    if (!yyjson_is_uint(unknown) || yyjson_get_uint(unknown) >= u->count) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: model.unk_id is outside 0..%zu", u->count - 1);
    }
    if (yyjson_is_true(yyjson_obj_get(model, "byte_fallback"))) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "tokenizer.json: model.byte_fallback is not built");
    }
    u->unknown = (int32_t)yyjson_get_uint(unknown);
    u->size = u->count;
    u->scores = mf_alloc_array(u->count, sizeof *u->scores);
    mf_str *pieces = mf_alloc_array(u->count, sizeof *pieces);
    mf_rc rc = u->scores == NULL || pieces == NULL
                   ? MF_FAIL(err, MF_E_NOMEM, "no memory for %zu pieces", u->count)
                   : read_entries(u, vocab, pieces, err);
    mf_free(pieces);
    return rc;
}

static mf_rc read_normalizer(mf_unigram *u, yyjson_val *normalizer, mf_err *err) {
    if (normalizer == NULL || yyjson_is_null(normalizer)) {
        return MF_OK;
    }
    mf_str type = mf_json_text(yyjson_obj_get(normalizer, "type"));
    yyjson_val *list = yyjson_obj_get(normalizer, "normalizers");
    if (mf_str_eq(type, MF_STR("Sequence")) && yyjson_arr_size(list) == 1) {
        normalizer = yyjson_arr_get_first(list);
        type = mf_json_text(yyjson_obj_get(normalizer, "type"));
    }
    if (!mf_str_eq(type, MF_STR("Precompiled"))) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "tokenizer.json: normalizer '%.*s' with Unigram; built is "
                       "Precompiled alone",
                       MF_STR_ARGS(mf_str_sub(type, 0, 32)));
    }
    mf_str table = mf_json_text(yyjson_obj_get(normalizer, "precompiled_charsmap"));
    mf_rc rc = mf_charsmap_open(table, &u->map, err);
    return rc == MF_OK ? rc : mf_err_wrap(err, rc, "tokenizer.json");
}

/* {"type":"Metaspace","replacement":U+2581}, in front of every word. */
static bool is_metaspace(yyjson_val *step) {
    yyjson_val *scheme = yyjson_obj_get(step, "prepend_scheme");
    yyjson_val *older = yyjson_obj_get(step, "add_prefix_space");
    yyjson_val *cuts = yyjson_obj_get(step, "split");
    bool always = scheme != NULL ? yyjson_equals_str(scheme, "always")
                                 : older == NULL || yyjson_is_true(older);
    return yyjson_equals_str(yyjson_obj_get(step, "type"), "Metaspace") &&
           yyjson_equals_str(yyjson_obj_get(step, "replacement"), "\xE2\x96\x81") &&
           always && !yyjson_is_false(cuts);
}

static mf_rc check_pre_tokenizer(yyjson_val *splitter, mf_err *err) {
    yyjson_val *list = yyjson_obj_get(splitter, "pretokenizers");
    yyjson_val *first = yyjson_arr_get_first(list);
    if (yyjson_equals_str(yyjson_obj_get(splitter, "type"), "Sequence") &&
        yyjson_arr_size(list) == 2 &&
        yyjson_equals_str(yyjson_obj_get(first, "type"), "WhitespaceSplit") &&
        is_metaspace(yyjson_arr_get(list, 1))) {
        return MF_OK;
    }
    return MF_FAIL(err, MF_E_UNSUPPORTED,
                   "tokenizer.json: pre_tokenizer with Unigram; built is the sequence "
                   "of WhitespaceSplit and Metaspace before every word");
}

static mf_rc add_special(mf_unigram *u, yyjson_val *token, mf_err *err) {
    mf_str text = mf_json_text(yyjson_obj_get(token, "content"));
    yyjson_val *id = yyjson_obj_get(token, "id");
    if (text.len == 0 || !yyjson_is_uint(id) ||
        yyjson_get_uint(id) >= MF_VOCAB_COUNT_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: an added token lacks content or id");
    }
    if (u->special_count == SPECIALS_MAX ||
        yyjson_is_true(yyjson_obj_get(token, "single_word"))) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "tokenizer.json: added token '%.*s' is a single word or more "
                       "than the %dth",
                       MF_STR_ARGS(mf_str_sub(text, 0, 64)), SPECIALS_MAX);
    }
    char *copy = mf_strndup(text.p, text.len);
    if (copy == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a special token");
    }
    special *s = &u->specials[u->special_count++];
    *s = (special){{copy, text.len}, (int32_t)yyjson_get_uint(id)};
    u->special_first[(uint8_t)text.p[0]] = true;
    u->size = (size_t)s->id + 1 > u->size ? (size_t)s->id + 1 : u->size;
    return MF_OK;
}

static mf_rc find_id(const mf_unigram *u, mf_str name, int32_t *id, mf_err *err) {
    *id = mf_piece_trie_find(u->trie, name);
    for (size_t i = 0; *id < 0 && i < u->special_count; i++) {
        if (mf_str_eq(u->specials[i].text, name)) {
            *id = u->specials[i].id;
        }
    }
    return *id >= 0 ? MF_OK
                    : MF_FAIL(err, MF_E_CORRUPT,
                              "the vocabulary has no special token '%.*s'",
                              MF_STR_ARGS(mf_str_sub(name, 0, 64)));
}

static mf_rc load(mf_unigram *u, const mf_tokenizer_files *files, mf_err *err) {
    yyjson_val *root = mf_tokenizer_root(files);
    mf_special_names names = {MF_STR("<unk>"), MF_STR("<s>"), MF_STR("</s>"), 2, 0};
    MF_TRY(read_model(u, yyjson_obj_get(root, "model"), err));
    MF_TRY(read_normalizer(u, yyjson_obj_get(root, "normalizer"), err));
    MF_TRY(check_pre_tokenizer(yyjson_obj_get(root, "pre_tokenizer"), err));
    size_t i, count;
    yyjson_val *token;
    yyjson_arr_foreach(yyjson_obj_get(root, "added_tokens"), i, count, token) {
        MF_TRY(add_special(u, token, err));
    }
    MF_TRY(mf_special_names_get(files, &names, err));
    MF_TRY(find_id(u, names.first, &u->frame.first, err));
    u->frame.sep_count = names.sep_count;
    u->frame.second_type = names.second_type;
    return find_id(u, names.sep, &u->frame.sep, err);
}

mf_rc mf_unigram_open(const mf_tokenizer_files *files, mf_unigram **out, mf_err *err) {
    mf_unigram *u = mf_alloc_zero(1, sizeof *u);
    if (u == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a tokenizer");
    }
    mf_rc rc = load(u, files, err);
    if (rc != MF_OK) {
        mf_unigram_close(u);
        return rc;
    }
    *out = u;
    return MF_OK;
}

void mf_unigram_close(mf_unigram *u) {
    if (u == NULL) {
        return;
    }
    for (size_t i = 0; i < u->special_count; i++) {
        mf_free((void *)(uintptr_t)u->specials[i].text.p);
    }
    mf_piece_trie_close(u->trie);
    mf_charsmap_close(u->map);
    mf_free(u->scores);
    mf_free(u);
}

size_t mf_unigram_vocab_size(const mf_unigram *u) {
    return u->size;
}

mf_frame mf_unigram_frame(const mf_unigram *u) {
    return u->frame;
}

/* --- one pass over a text --------------------------------------------------------- */

/* A piece of the open word. */
typedef struct cut_piece {
    int32_t id;
    uint32_t end; /* bytes of the word up to its end */
} cut_piece;

typedef struct run {
    const mf_unigram *u;
    int32_t *ids; /* NULL: they are only counted */
    size_t count, max;
    bool full;         /* something did not fit: the pass ends */
    size_t fit_end;    /* offset behind the last word that fitted whole */
    size_t part_end;   /* offset behind the last piece that fitted with some margin */
    bool last_unknown; /* the open word's last piece so far is the unknown token */
    size_t len;        /* bytes of the open word; 0: none is open */
    char word[WORD_MAX];
    uint32_t
        sources[WORD_MAX]; /* of each byte: the text's offset behind its character */
    double best[WORD_MAX + 1];
    int32_t ids_at[WORD_MAX + 1];     /* of the last piece of the best path to here */
    uint32_t starts_at[WORD_MAX + 1]; /* where that piece begins */
    cut_piece pieces[WORD_MAX];
} run;

static size_t char_bytes(char first) {
    uint8_t byte = (uint8_t)first;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* A path that ends with the piece start..end is compared with the best one there. */
static void offer(run *r, size_t start, size_t end, int32_t id, double score) {
    double sum = r->best[start] + score;
    if (r->ids_at[end] < 0 || sum > r->best[end]) {
        r->best[end] = sum;
        r->ids_at[end] = id;
        r->starts_at[end] = (uint32_t)start;
    }
}

/* Best paths to all ends of characters of the open word. */
static void find_paths(run *r) {
    const mf_unigram *u = r->u;
    r->best[0] = 0.0;
    for (size_t i = 1; i <= r->len; i++) {
        r->ids_at[i] = -1;
    }
    for (size_t start = 0; start < r->len;) {
        size_t width = char_bytes(r->word[start]);
        bool single = false;
        uint32_t node = 0;
        for (size_t end = start; end < r->len;) {
            node = mf_piece_trie_step(u->trie, node, r->word[end++]);
            if (node == 0) {
                break;
            }
            int32_t id = mf_piece_trie_id(u->trie, node);
            if (id >= 0) {
                offer(r, start, end, id, u->scores[id]);
                single = single || end - start == width;
            }
        }
        if (!single) {
            offer(r, start, start + width, u->unknown, u->unknown_score);
        }
        start += width;
    }
}

/* The pieces of the best path, in order. */
static size_t gather_pieces(run *r) {
    size_t first = WORD_MAX;
    for (size_t end = r->len; end > 0; end = r->starts_at[end]) {
        MF_ASSERT(r->ids_at[end] >= 0 && first > 0);
        r->pieces[--first] = (cut_piece){r->ids_at[end], (uint32_t)end};
    }
    size_t count = WORD_MAX - first;
    memmove(r->pieces, r->pieces + first, count * sizeof *r->pieces);
    return count;
}

static void emit(run *r, int32_t id, size_t source_end) {
    if (r->count == r->max) {
        r->full = true;
        return;
    }
    if (r->ids != NULL) {
        r->ids[r->count] = id;
    }
    r->count++;
    if (r->count + FIT_MARGIN <= r->max) {
        r->part_end = source_end;
    }
}

/* Hands out the open word's pieces that end within its first `settled` bytes; returns
 * how many bytes that were. */
static size_t emit_pieces(run *r, size_t settled) {
    find_paths(r);
    size_t count = gather_pieces(r);
    size_t done = 0;
    for (size_t i = 0; i < count && r->pieces[i].end <= settled && !r->full; i++) {
        bool unknown = r->pieces[i].id == r->u->unknown;
        done = r->pieces[i].end;
        if (!unknown || !r->last_unknown) { /* neighbours share one */
            emit(r, r->pieces[i].id, r->sources[done - 1]);
        }
        r->last_unknown = unknown;
    }
    return done;
}

/* Ends the open word, if there is one. */
static void end_word(run *r) {
    if (r->len == 0 || r->full) {
        return;
    }
    size_t end = r->sources[r->len - 1];
    (void)emit_pieces(r, r->len);
    if (!r->full) {
        r->fit_end = end;
    }
    r->len = 0;
    r->last_unknown = false;
}

/* Makes room in a word that fills the window. */
static void spill(run *r) {
    size_t done = emit_pieces(r, WORD_MAX - OPEN_END);
    MF_ASSERT(done > 0 || r->full);
    r->len -= done;
    memmove(r->word, r->word + done, r->len);
    memmove(r->sources, r->sources + done, r->len * sizeof *r->sources);
}

static void append(run *r, uint32_t code, size_t source_end) {
    char bytes[4];
    size_t len = mf_utf8_put(code, bytes);
    if (r->len + len > WORD_MAX) {
        spill(r);
    }
    for (size_t i = 0; i < len; i++) {
        r->word[r->len] = bytes[i];
        r->sources[r->len++] = (uint32_t)source_end;
    }
}

static bool is_blank(uint32_t code) {
    return code == ' ' || (code >= 0x09 && code <= 0x0D) || code == 0x85 ||
           code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

/* A character after the table. */
static void take(run *r, uint32_t code, size_t source_end) {
    if (r->full) {
        return;
    }
    if (is_blank(code)) {
        end_word(r);
        return;
    }
    if (code == MARK) {
        end_word(r);
    } else if (r->len == 0) {
        append(r, MARK, source_end);
    }
    append(r, code, source_end);
}

static void take_text(run *r, mf_str text, size_t source_end) {
    for (size_t at = 0; at < text.len;) {
        take(r, mf_utf8_next_lossy(text, &at), source_end);
    }
}

static const special *special_at(const mf_unigram *u, mf_str text, size_t at) {
    const special *best = NULL;
    if (!u->special_first[(uint8_t)text.p[at]]) {
        return NULL;
    }
    mf_str rest = mf_str_sub(text, at, text.len - at);
    for (size_t i = 0; i < u->special_count; i++) {
        const special *s = &u->specials[i];
        if (mf_str_starts(rest, s->text) &&
            (best == NULL || s->text.len > best->text.len)) {
            best = s;
        }
    }
    return best;
}

/* The end of the grapheme at `at`: it stops at a special token too. */
static size_t grapheme_end(const mf_unigram *u, mf_str text, size_t at) {
    utf8proc_int32_t state = 0;
    size_t end = at;
    uint32_t code = mf_utf8_next_lossy(text, &end);
    while (end < text.len) {
        size_t next = end;
        uint32_t following = mf_utf8_next_lossy(text, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)code,
                                             (utf8proc_int32_t)following, &state) ||
            special_at(u, text, end) != NULL) {
            break;
        }
        code = following;
        end = next;
    }
    return end;
}

/* One character by itself through the table; returns the offset behind it. */
static size_t take_char(run *r, mf_str text, size_t at) {
    size_t end = at;
    char bytes[4];
    uint32_t code = mf_utf8_next_lossy(text, &end);
    mf_str one = {bytes, mf_utf8_put(code, bytes)};
    mf_str found = r->u->map == NULL ? MF_STR_NONE : mf_charsmap_find(r->u->map, one);
    if (found.p != NULL) {
        take_text(r, found, end);
    } else {
        take(r, code, end);
    }
    return end;
}

/* The grapheme at `at`; returns the offset behind it. */
static size_t take_grapheme(run *r, mf_str text, size_t at) {
    const mf_unigram *u = r->u;
    bool ascii = (uint8_t)text.p[at] < 0x80 && text.p[at] != '\r' &&
                 (at + 1 == text.len || (uint8_t)text.p[at + 1] < 0x80);
    size_t end = ascii ? at + 1 : grapheme_end(u, text, at);
    mf_str whole = mf_str_sub(text, at, end - at);
    if (u->map != NULL && whole.len <= GRAPHEME_BYTES_MAX) {
        mf_str found = mf_charsmap_find(u->map, whole);
        if (found.p != NULL) {
            take_text(r, found, end);
            return end;
        }
    }
    while (at < end) {
        at = take_char(r, text, at);
    }
    return end;
}

static void run_text(run *r, mf_str text) {
    size_t at = 0;
    while (at < text.len && !r->full) {
        const special *s = special_at(r->u, text, at);
        if (s == NULL) {
            at = take_grapheme(r, text, at);
            continue;
        }
        end_word(r);
        at += s->text.len;
        if (!r->full) {
            emit(r, s->id, at);
        }
        if (!r->full) {
            r->fit_end = at;
        }
    }
    end_word(r);
}

static void run_begin(run *r, const mf_unigram *u, int32_t *ids, size_t max) {
    r->u = u;
    r->ids = ids;
    r->count = 0;
    r->max = max;
    r->full = false;
    r->fit_end = 0;
    r->part_end = 0;
    r->last_unknown = false;
    r->len = 0;
}

size_t mf_unigram_pieces(const mf_unigram *u, mf_str text, int32_t *ids, size_t ids_max,
                         bool *truncated) {
    run r; /* large: only the head of it is set */
    run_begin(&r, u, ids, ids_max);
    run_text(&r, text);
    *truncated = r.full;
    return r.count;
}

/* A character's end at or behind `at`. */
static size_t at_least_one(mf_str text, size_t at) {
    size_t end = 0;
    if (at == 0) {
        (void)mf_utf8_next_lossy(text, &end);
    }
    return at > 0 ? at : end;
}

size_t mf_unigram_fit(const mf_unigram *u, mf_str text, size_t ids_max) {
    MF_ASSERT(ids_max >= 3);
    run r;
    run_begin(&r, u, NULL, ids_max - 2);
    run_text(&r, text);
    if (!r.full) {
        return text.len;
    }
    return r.fit_end > 0 ? r.fit_end : at_least_one(text, r.part_end);
}
