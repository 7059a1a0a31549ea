/* o200k_split.c - cuts text into the pieces that o200k_base encodes one by one.
 *
 * A backtracking matcher would try every way to share letters between the two classes
 * of alternative 1.  The outcome can be computed instead.  Let R be the longest run of
 * characters that may stand in the first class (upper).  If a lower-case letter follows
 * R, the second class takes it and what comes after.  If not, the second class must
 * take the last character of R that belongs to both classes, and since only pure upper
 * case follows that one, the match ends there.  Without such a character there is no
 * match, and alternative 2 takes R. */
#include "model/o200k_split.h"

#include <utf8proc.h>

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

static kind kind_of_category(utf8proc_category_t category) {
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return KIND_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return KIND_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return KIND_BOTH;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return KIND_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return KIND_DIGIT;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return KIND_BLANK;
    default:
        return KIND_SYMBOL;
    }
}

static kind ascii_kind(uint8_t byte) {
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') {
        return byte & 0x20 ? KIND_LOWER : KIND_UPPER;
    }
    if (byte >= '0' && byte <= '9') {
        return KIND_DIGIT;
    }
    if (byte == '\n' || byte == '\r') {
        return KIND_LINE_END;
    }
    return byte == ' ' || (byte >= '\t' && byte <= '\r') ? KIND_BLANK : KIND_SYMBOL;
}

/* The kind of the character at `at`; moves `at` behind it. */
static kind take(mf_str text, size_t *at) {
    uint8_t byte = (uint8_t)text.p[*at];
    if (byte < 0x80) {
        *at += 1;
        return ascii_kind(byte);
    }
    uint32_t code = mf_utf8_next_lossy(text, at);
    return code == 0x85 ? KIND_BLANK /* next line: white space of category Cc */
                        : kind_of_category(utf8proc_category((utf8proc_int32_t)code));
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
};

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

/* Where the letters of alternative 1 end when they begin at `at`; 0: no match. */
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

/* Alternatives 1 and 2; 0: no match.  `first` is the kind of the character at 0, which
 * ends at `first_end`. */
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

/* Alternative 3: up to three digits, of which `first_end` ends the first. */
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

/* Alternative 4; 0: no match. */
static size_t match_symbols(mf_str text) {
    size_t from = text.p[0] == ' ';
    size_t end = skip(text, from, SET_SYMBOLS);
    if (end == from) {
        return 0;
    }
    while (end < text.len &&
           (text.p[end] == '\r' || text.p[end] == '\n' || text.p[end] == '/')) {
        end++;
    }
    return end;
}

/* Alternatives 5 to 7: text begins with white space. */
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

size_t mf_o200k_piece(mf_str text) {
    MF_DEBUG_ASSERT(text.len > 0);
    size_t first_end = 0;
    kind first = take(text, &first_end);
    if (first == KIND_DIGIT) {
        return match_digits(text, first_end);
    }
    size_t end = first == KIND_LINE_END ? 0 : match_letters(text, first, first_end);
    if (end == 0 && (SET_SYMBOLS & SET(first) || text.p[0] == ' ')) {
        end = match_symbols(text);
    }
    return end > 0 ? end : match_white(text);
}
