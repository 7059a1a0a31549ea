/* bpe_split.c - cuts text into the pieces that byte-pair encodings take one by one.
 *
 * A backtracking matcher would try every way to share letters between the two classes
 * of o200k_base's alternative 1.  The outcome can be computed instead.  Let R be the
 * longest run of characters that may stand in the first class (upper).  If a lower-case
 * letter follows R, the second class takes it and what comes after.  If not, the second
 * class must take the last character of R that belongs to both classes, and since only
 * pure upper case follows that one, the match ends there.  Without such a character
 * there is no match, and alternative 2 takes R.
 *
 * Most pieces are a word of ASCII letters behind a blank.  Those are found eight bytes
 * at a time before anything else is tried; whatever touches a byte of 128 or more takes
 * the general way. */
#include "model/bpe_split.h"

#include "base/assert.h"
#include "text/utf8.h"

typedef enum kind {
    KIND_SYMBOL,
    KIND_UPPER, /* Lu Lt */
    KIND_LOWER, /* Ll */
    KIND_BOTH,  /* Lm Lo: letters of either class */
    KIND_MARK,  /* M: of either class too, but no letter */
    KIND_DIGIT, /* N */
    KIND_BLANK, /* \s but for the next two */
    KIND_LINE_END
} kind;

enum { TABLE_SIZE = 0x20000 };

/* Ranges of indices are an extension that gcc and clang share. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
static const uint8_t kind_table[TABLE_SIZE] = {
#define MF_KIND(first, last, kind) [first... last] = KIND_##kind,
#define MF_KIND_HIGH(first, last, kind)
#include "model/split_unicode.def"
#undef MF_KIND
#undef MF_KIND_HIGH
};
#pragma GCC diagnostic pop

static const struct {
    uint32_t first, last;
    kind kind;
} high_ranges[] = {
#define MF_KIND(first, last, kind)
#define MF_KIND_HIGH(first, last, kind) {first, last, KIND_##kind},
#include "model/split_unicode.def"
#undef MF_KIND
#undef MF_KIND_HIGH
};

static kind kind_of(uint32_t code) {
    if (code < TABLE_SIZE) {
        return (kind)kind_table[code];
    }
    for (size_t i = 0; i < sizeof high_ranges / sizeof high_ranges[0]; i++) {
        if (code >= high_ranges[i].first && code <= high_ranges[i].last) {
            return high_ranges[i].kind;
        }
    }
    return KIND_SYMBOL;
}

/* The kind of the character at `at`; moves `at` behind it. */
static inline kind take(mf_str text, size_t *at) {
    uint8_t byte = (uint8_t)text.p[*at];
    if (byte < 0x80) {
        *at += 1;
        return (kind)kind_table[byte];
    }
    return kind_of(mf_utf8_next_lossy(text, at));
}

/* The offset behind the longest run at `at` whose kinds are all in `set`. */
static size_t skip(mf_str text, size_t at, unsigned set) {
    while (at < text.len) {
        size_t next = at;
        if (!(set & 1u << take(text, &next))) {
            break;
        }
        at = next;
    }
    return at;
}

#define SET(kind) (1u << (kind))
enum {
    SET_EITHER = SET(KIND_BOTH) | SET(KIND_MARK),
    SET_FIRST = SET(KIND_UPPER) | SET_EITHER,
    SET_SECOND = SET(KIND_LOWER) | SET_EITHER,
    SET_PREFIX = SET(KIND_SYMBOL) | SET(KIND_MARK) | SET(KIND_BLANK),
    SET_SYMBOLS = SET(KIND_SYMBOL) | SET(KIND_MARK),
    SET_WHITE = SET(KIND_BLANK) | SET(KIND_LINE_END),
    SET_LETTERS = SET(KIND_UPPER) | SET(KIND_LOWER) | SET(KIND_BOTH),
};

/* --- words of ASCII letters --- */

#define EACH UINT64_C(0x0101010101010101)
#define TOPS (EACH * 0x80)

static uint64_t load_u64(const char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* The top bit of each byte of `word` that is between `first` and `last`, which are
 * ASCII.  Adding to seven bits what brings `first` to 128 sets the top bit of it and of
 * all above. */
static uint64_t bytes_between(uint64_t word, char first, char last) {
    uint64_t low = word & ~TOPS;
    return (low + EACH * (uint64_t)(128 - first)) &
           ~(low + EACH * (uint64_t)(127 - last)) & ~word & TOPS;
}

/* How many bytes from the lowest on have their top bit in `tops`; 8 for all. */
static size_t leading_bytes(uint64_t tops) {
    uint64_t others = ~tops & TOPS;
    return others == 0 ? 8 : (size_t)__builtin_ctzll(others) / 8;
}

/* The offset behind the run of ASCII letters between `first` and `last`, and, with
 * `any_case`, of those that differ in case from them. */
static inline size_t skip_ascii(mf_str text, size_t at, char first, char last,
                                bool any_case) {
    uint64_t fold = any_case ? EACH * 0x20 : 0;
    while (text.len - at >= 8) {
        uint64_t word = load_u64(text.p + at);
        size_t n = leading_bytes(bytes_between(word | fold, first, last));
        at += n;
        if (n < 8) {
            return at;
        }
    }
    for (; at < text.len; at++) {
        char c = (char)(text.p[at] | (any_case ? 0x20 : 0));
        if (c < first || c > last) {
            break;
        }
    }
    return at;
}

/* Whether a word of ASCII letters may end at `at`: no accent or further letter is in
 * sight. */
static inline bool ascii_at(mf_str text, size_t at) {
    return at == text.len || (uint8_t)text.p[at] < 0x80;
}

/* Where the letters of a word behind the first byte, or with it, may begin: the first
 * byte is ASCII.  False when no word begins here. */
static inline bool word_start(mf_str text, size_t *at) {
    kind first = (kind)kind_table[(uint8_t)text.p[0]];
    *at = (SET_PREFIX >> first) & 1;
    return first != KIND_DIGIT && first != KIND_LINE_END;
}

/* --- the general way --- */

/* The offset behind "'s", "'LL" and the like at `at`, or `at`. */
static size_t skip_contraction(mf_str text, size_t at) {
    mf_str rest = mf_str_sub(text, at, text.len - at);
    if (rest.len < 2 || rest.p[0] != '\'') {
        return at;
    }
    char first = (char)(rest.p[1] | 0x20);
    char second = rest.len > 2 ? (char)(rest.p[2] | 0x20) : '\0';
    switch (first) {
    case 's':
    case 't':
    case 'm':
    case 'd':
        return at + 2;
    case 'r':
    case 'v':
        return second == 'e' ? at + 3 : at;
    case 'l':
        return second == 'l' ? at + 3 : at;
    default:
        /* Ignoring case, the long s (U+017F) is an s. */
        return mf_str_starts(rest, MF_STR("'\xC5\xBF")) ? at + 3 : at;
    }
}

/* Where the letters of o200k_base's alternative 1 end when they begin at `at`; 0: no
 * match. */
static size_t match_mixed(mf_str text, size_t at) {
    size_t both_end = 0; /* behind the last character of both classes in the run */
    while (at < text.len) {
        size_t next = at;
        kind k = take(text, &next);
        if (k == KIND_LOWER) {
            return skip(text, next, SET_SECOND);
        }
        if (!(SET_FIRST & SET(k))) {
            break;
        }
        at = next;
        if (SET_EITHER & SET(k)) {
            both_end = at;
        }
    }
    return both_end;
}

/* Alternatives 1 and 2 of o200k_base; 0: no match.  `first` is the kind of the
 * character at 0, which ends at `first_end`. */
static size_t match_letters(mf_str text, kind first, size_t first_end) {
    bool prefix = SET_PREFIX & SET(first);
    bool bare = (SET_FIRST | SET_SECOND) & SET(first);
    size_t end = prefix ? match_mixed(text, first_end) : 0;
    if (end == 0 && bare) {
        end = match_mixed(text, 0);
    }
    if (end == 0) {
        size_t from = prefix ? first_end : 0;
        end = skip(text, from, SET_FIRST);
        if (end == from) {
            return 0;
        }
    }
    return skip_contraction(text, end);
}

/* Alternative 3 of both: up to three digits, of which `first_end` ends the first. */
static size_t match_digits(mf_str text, size_t first_end) {
    size_t end = first_end;
    for (int n = 1; n < 3 && end < text.len; n++) {
        size_t next = end;
        if (take(text, &next) != KIND_DIGIT) {
            break;
        }
        end = next;
    }
    return end;
}

/* Alternative 4, with `slashes` among what may follow; 0: no match. */
static size_t match_symbols(mf_str text, bool slashes) {
    size_t from = text.p[0] == ' ';
    size_t end = skip(text, from, SET_SYMBOLS);
    if (end == from) {
        return 0;
    }
    while (end < text.len && (text.p[end] == '\r' || text.p[end] == '\n' ||
                              (slashes && text.p[end] == '/'))) {
        end++;
    }
    return end;
}

/* Alternatives 5 to 7 of o200k_base: text begins with white space. */
static size_t match_white(mf_str text) {
    size_t at = 0;
    size_t last_start = 0;   /* of the last white character */
    size_t line_end_end = 0; /* behind the last line end in the run */
    while (at < text.len) {
        size_t next = at;
        kind k = take(text, &next);
        if (!(SET_WHITE & SET(k))) {
            break;
        }
        last_start = at;
        at = next;
        if (k == KIND_LINE_END) {
            line_end_end = at;
        }
    }
    if (line_end_end > 0) {
        return line_end_end;
    }
    /* The last blank before a word belongs to the word. */
    return at < text.len && last_start > 0 ? last_start : at;
}

/* A piece that begins with a prefix or a letter of ASCII and ends at ASCII; 0: none, or
 * not to be told without looking further. */
static inline size_t o200k_ascii_word(mf_str text) {
    size_t at;
    if ((uint8_t)text.p[0] >= 0x80 || !word_start(text, &at)) {
        return 0;
    }
    size_t upper_end = skip_ascii(text, at, 'A', 'Z', false);
    size_t end = skip_ascii(text, upper_end, 'a', 'z', false);
    if (end == at || !ascii_at(text, end)) {
        return 0;
    }
    return end < text.len && text.p[end] == '\'' ? skip_contraction(text, end) : end;
}

size_t mf_split_o200k(mf_str text) {
    MF_DEBUG_ASSERT(text.len > 0);
    size_t word_end = o200k_ascii_word(text);
    if (word_end > 0) {
        return word_end;
    }
    size_t first_end = 0;
    kind first = take(text, &first_end);
    if (first == KIND_DIGIT) {
        return match_digits(text, first_end);
    }
    size_t end = first == KIND_LINE_END ? 0 : match_letters(text, first, first_end);
    if (end == 0 && (SET_SYMBOLS & SET(first) || text.p[0] == ' ')) {
        end = match_symbols(text, true);
    }
    return end > 0 ? end : match_white(text);
}

/* --- cl100k_base --- */

static inline size_t cl100k_ascii_word(mf_str text) {
    size_t at;
    if ((uint8_t)text.p[0] >= 0x80 || !word_start(text, &at)) {
        return 0;
    }
    size_t end = skip_ascii(text, at, 'a', 'z', true);
    return end == at || !ascii_at(text, end) ? 0 : end;
}

/* Alternatives 5 to 8: text begins with white space. */
static size_t cl100k_white(mf_str text) {
    size_t at = skip(text, 0, SET_WHITE);
    return at == text.len ? at : match_white(text);
}

size_t mf_split_cl100k(mf_str text) {
    MF_DEBUG_ASSERT(text.len > 0);
    size_t end = text.p[0] == '\'' ? skip_contraction(text, 0) : 0;
    if (end == 0) {
        end = cl100k_ascii_word(text);
    }
    if (end > 0) {
        return end;
    }
    size_t first_end = 0;
    kind first = take(text, &first_end);
    if (first == KIND_DIGIT) {
        return match_digits(text, first_end);
    }
    size_t from = SET_PREFIX & SET(first) ? first_end : 0;
    end = skip(text, from, SET_LETTERS);
    if (end > from) {
        return end;
    }
    end = SET_SYMBOLS & SET(first) || text.p[0] == ' ' ? match_symbols(text, false) : 0;
    return end > 0 ? end : cl100k_white(text);
}
