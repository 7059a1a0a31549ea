/* words.c - a small state machine over code points.
 *
 * Each code point is put into a class; letters and digits are folded into the buffer of
 * the word under way, everything else ends it.  While a word grows, the places where an
 * identifier could be cut are remembered, and when it ends it is given out whole and,
 * if there were such places, in parts. */
#include "index/words.h"

#include <utf8proc.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "index/porter.h"
#include "index/stop_words.h"

enum {
    WORD_PARTS_MAX = 16,
    FOLDED_MAX =
        24, /* code points one code point can become; Unicode's longest is 18 */
};

typedef enum char_class {
    CLASS_OTHER,  /* ends a word */
    CLASS_LETTER, /* lower case, or a script without case */
    CLASS_UPPER,
    CLASS_DIGIT,
    CLASS_MARK,    /* belongs to the letter before */
    CLASS_IGNORED, /* soft hyphens, joiners: as if they were not there */
    CLASS_APOSTROPHE,
    CLASS_UNDERSCORE,
    CLASS_DENSE, /* a letter of a script without blanks */
} char_class;

typedef struct cutter {
    mf_terms *terms;
    bool failed;                  /* an allocation did */
    char word[MF_WORD_BYTES_MAX]; /* folded */
    size_t len;
    size_t part_starts[WORD_PARTS_MAX]; /* offsets in `word`, rising; the first is 0 */
    size_t part_count;
    size_t last_start;     /* where the newest character begins */
    size_t tail_start;     /* behind the newest apostrophe, 0: none */
    char_class before;     /* of the newest character of the word */
    uint32_t dense_before; /* 0: the character before was not dense */
} cutter;

typedef struct code_range {
    uint32_t first, last;
} code_range;

void mf_terms_done(mf_terms *terms) {
    mf_free(terms->hashes);
    *terms = (mf_terms){0};
}

static void give(cutter *c, uint64_t hash) {
    mf_terms *terms = c->terms;
    if (terms->count == terms->capacity) {
        size_t capacity = terms->capacity == 0 ? 32 : terms->capacity * 2;
        uint64_t *hashes = mf_realloc(terms->hashes, capacity * sizeof(*hashes));
        if (hashes == NULL) {
            c->failed = true;
            return;
        }
        terms->hashes = hashes;
        terms->capacity = capacity;
    }
    terms->hashes[terms->count++] = hash;
}

static bool all_lower_ascii(mf_str word) {
    for (size_t i = 0; i < word.len; i++) {
        if (word.p[i] < 'a' || word.p[i] > 'z') {
            return false;
        }
    }
    return true;
}

static uint64_t hash_bytes(const void *bytes, size_t len) {
    uint64_t hash = XXH3_64bits(bytes, len);
    return hash == 0 ? 1 : hash;
}

uint64_t mf_words_hash(mf_str word) {
    char letters[MF_WORD_BYTES_MAX];
    if (word.len > sizeof(letters)) {
        word.len = sizeof(letters);
    }
    if (!all_lower_ascii(word)) {
        return hash_bytes(word.p, word.len);
    }
    if (mf_stop_word(word)) {
        return 0;
    }
    memcpy(letters, word.p, word.len);
    return hash_bytes(letters, mf_porter_stem(letters, word.len));
}

static void give_word(cutter *c, size_t from, size_t to) {
    uint64_t hash = mf_words_hash((mf_str){c->word + from, to - from});
    if (hash != 0) {
        give(c, hash);
    }
}

/* Cuts the part behind an apostrophe off where it is a contraction or a possessive.
 * False: the word is a negation such as "don't", which is a stop word as a whole. */
static bool cut_tail(cutter *c) {
    mf_str tail = {c->word + c->tail_start, c->len - c->tail_start};
    static const char *const tails[] = {"s", "m", "d", "re", "ve", "ll"};
    if (mf_str_eq(tail, MF_STR("t")) && c->word[c->tail_start - 1] == 'n') {
        return false;
    }
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        if (mf_str_eq(tail, mf_str_from(tails[i]))) {
            c->len = c->tail_start;
            break;
        }
    }
    return true;
}

static void end_word(cutter *c) {
    if (c->len > 0 && (c->tail_start == 0 || c->tail_start >= c->len || cut_tail(c))) {
        while (c->part_count > 1 && c->part_starts[c->part_count - 1] >= c->len) {
            c->part_count--; /* lay in the tail that was cut, or is empty */
        }
        give_word(c, 0, c->len);
        for (size_t i = 0; c->part_count > 1 && i < c->part_count; i++) {
            size_t to = i + 1 < c->part_count ? c->part_starts[i + 1] : c->len;
            give_word(c, c->part_starts[i], to);
        }
    }
    c->len = 0;
    c->part_count = 1;
    c->tail_start = 0;
    c->before = CLASS_OTHER;
}

static void begin_part(cutter *c, size_t at) {
    if (at > c->part_starts[c->part_count - 1] && c->part_count < WORD_PARTS_MAX) {
        c->part_starts[c->part_count++] = at;
    }
}

static void append(cutter *c, const char *bytes, size_t len) {
    if (len <= sizeof(c->word) - c->len) {
        memcpy(c->word + c->len, bytes, len);
        c->len += len;
    }
}

/* Adds what `code` folds to.  Latin, Greek and Cyrillic accents go; marks that carry
 * meaning in other scripts stay. */
static void append_folded(cutter *c, uint32_t code) {
    utf8proc_int32_t folded[FOLDED_MAX];
    int boundary = 0;
    utf8proc_ssize_t count = utf8proc_decompose_char(
        (utf8proc_int32_t)code, folded, FOLDED_MAX,
        UTF8PROC_CASEFOLD | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    if (count < 0 || count > FOLDED_MAX) {
        return;
    }
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        if (folded[i] >= 0x300 && folded[i] <= 0x36F) {
            continue;
        }
        utf8proc_uint8_t bytes[4];
        utf8proc_ssize_t len = utf8proc_encode_char(folded[i], bytes);
        append(c, (const char *)bytes, (size_t)len);
    }
}

static void add_to_word(cutter *c, char_class cls, uint32_t code) {
    bool after_small = c->before == CLASS_LETTER || c->before == CLASS_DIGIT;
    if (cls == CLASS_UPPER && after_small) {
        begin_part(c, c->len); /* get|User */
    } else if (cls == CLASS_LETTER && c->before == CLASS_UPPER) {
        begin_part(c, c->last_start); /* HTTP|Server: the capital starts the part */
    }
    c->last_start = c->len;
    if (code < 0x80) {
        char letter = (char)(cls == CLASS_UPPER ? code + ('a' - 'A') : code);
        append(c, &letter, 1);
    } else {
        append_folded(c, code);
    }
    c->before = cls;
}

static void add_dense(cutter *c, uint32_t code) {
    uint32_t pair[2] = {c->dense_before, code};
    end_word(c);
    give(c, hash_bytes(&pair[1], sizeof(pair[1])));
    if (pair[0] != 0) {
        give(c, hash_bytes(pair, sizeof(pair)));
    }
    c->dense_before = code;
}

static bool is_dense(uint32_t code) {
    static const code_range ranges[] = {
        {0x0E00, 0x0EFF},                   /* Thai, Lao */
        {0x1000, 0x109F},                   /* Burmese */
        {0x1100, 0x11FF},                   /* Hangul jamo */
        {0x1780, 0x17FF},                   /* Khmer */
        {0x3005, 0x3007}, {0x3040, 0x30FF}, /* kana */
        {0x3130, 0x318F},                   /* Hangul compatibility jamo */
        {0x31F0, 0x31FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, /* ideographs */
        {0xAC00, 0xD7AF},                                     /* Hangul syllables */
        {0xF900, 0xFAFF}, {0xFF66, 0xFFDC}, {0x20000, 0x3FFFF},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (code <= ranges[i].last) {
            return code >= ranges[i].first;
        }
    }
    return false;
}

static char_class class_of_ascii(uint32_t code) {
    if (code >= 'a' && code <= 'z') {
        return CLASS_LETTER;
    }
    if (code >= 'A' && code <= 'Z') {
        return CLASS_UPPER;
    }
    if (code >= '0' && code <= '9') {
        return CLASS_DIGIT;
    }
    return code == '\''  ? CLASS_APOSTROPHE
           : code == '_' ? CLASS_UNDERSCORE
                         : CLASS_OTHER;
}

static char_class class_of(uint32_t code) {
    if (code < 0x80) {
        return class_of_ascii(code);
    }
    if (code == 0x2019 || code == 0x02BC) {
        return CLASS_APOSTROPHE;
    }
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return CLASS_UPPER;
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return is_dense(code) ? CLASS_DENSE : CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return is_dense(code) ? CLASS_DENSE : CLASS_DIGIT;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return is_dense(code) ? CLASS_DENSE : CLASS_MARK;
    case UTF8PROC_CATEGORY_CF:
        return code == 0x200B ? CLASS_OTHER
                              : CLASS_IGNORED; /* 200B is a hidden blank */
    default:
        return CLASS_OTHER;
    }
}

/* Is the comma at `at` the kind found in "1,000"? */
static bool groups_digits(mf_str text, size_t at) {
    size_t digits = 0;
    while (at + 1 + digits < text.len && text.p[at + 1 + digits] >= '0' &&
           text.p[at + 1 + digits] <= '9') {
        digits++;
    }
    return digits == 3;
}

static void take(cutter *c, char_class cls, uint32_t code) {
    if (cls != CLASS_DENSE && cls != CLASS_IGNORED) {
        c->dense_before = 0;
    }
    switch (cls) {
    case CLASS_LETTER:
    case CLASS_UPPER:
    case CLASS_DIGIT:
        add_to_word(c, cls, code);
        break;
    case CLASS_MARK:
        if (c->len > 0) {
            append_folded(c, code);
        }
        break;
    case CLASS_APOSTROPHE:
        c->tail_start = c->len;
        break;
    case CLASS_UNDERSCORE:
        if (c->len > 0) {
            begin_part(c, c->len);
        }
        c->before = CLASS_UNDERSCORE;
        break;
    case CLASS_DENSE:
        add_dense(c, code);
        break;
    case CLASS_IGNORED:
        break;
    case CLASS_OTHER:
        end_word(c);
        break;
    }
}

mf_rc mf_words_cut(mf_str text, mf_terms *terms, mf_err *err) {
    cutter c = {.terms = terms, .part_count = 1};
    for (size_t at = 0; at < text.len && !c.failed;) {
        uint32_t code = (unsigned char)text.p[at];
        size_t len = 1;
        if (code >= 0x80) {
            utf8proc_int32_t decoded = -1;
            utf8proc_ssize_t taken =
                utf8proc_iterate((const utf8proc_uint8_t *)text.p + at,
                                 (utf8proc_ssize_t)(text.len - at), &decoded);
            code = taken > 0 ? (uint32_t)decoded : ' ';
            len = taken > 0 ? (size_t)taken : 1;
        }
        if (code != ',' || c.before != CLASS_DIGIT || !groups_digits(text, at)) {
            take(&c, class_of(code), code);
        }
        at += len;
    }
    end_word(&c);
    return c.failed ? MF_FAIL(err, MF_E_NOMEM, "no memory for the words of a text")
                    : MF_OK;
}
