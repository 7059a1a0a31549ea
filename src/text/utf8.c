/* utf8.c - UTF-8: validation at the door, decoding behind it.
 *
 * Nearly all text is ASCII or has long runs of it, so validation skips such runs 32
 * bytes at a time and counting works on 8 bytes at once; both load whole words with
 * memcpy, which the compiler turns into plain loads on any alignment.
 *
 * The rule for everything else is table 3-7 of the Unicode standard.  Only the second
 * byte of a sequence has a range that depends on the first; third and fourth bytes are
 * always 80..BF.  sequence_len() is the one place that knows this. */
#include "text/utf8.h"

#include "base/assert.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)

static uint64_t load_u64(const char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static bool is_tail(uint8_t byte) {
    return (byte & 0xC0) == 0x80;
}

/* Length of the well-formed sequence of two to four bytes at `p`, of which `left` bytes
 * exist; 0 when there is none.  The first byte is not ASCII. */
static size_t sequence_len(const uint8_t *p, size_t left) {
    uint8_t first = p[0];
    if (first < 0xC2 || first > 0xF4) {
        return 0; /* a tail byte, an overlong form, or beyond U+10FFFF */
    }
    size_t len = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (len > left) {
        return 0;
    }
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (!is_tail(p[i])) {
            return 0;
        }
    }
    return len;
}

/* How many bytes from `at` on are ASCII, in steps of 32: a lower bound. */
static size_t ascii_blocks(mf_str text, size_t at) {
    size_t from = at;
    while (text.len - at >= 32) {
        const char *p = text.p + at;
        uint64_t bits =
            load_u64(p) | load_u64(p + 8) | load_u64(p + 16) | load_u64(p + 24);
        if (bits & HIGH_BITS) {
            break;
        }
        at += 32;
    }
    return at - from;
}

bool mf_utf8_valid(mf_str text) {
    size_t at = 0;
    while (at < text.len) {
        at += ascii_blocks(text, at);
        /* One stretch byte by byte, then try blocks again. */
        size_t stop = text.len - at > 32 ? at + 32 : text.len;
        while (at < stop) {
            const uint8_t *p = (const uint8_t *)text.p + at;
            size_t len = *p < 0x80 ? 1 : sequence_len(p, text.len - at);
            if (len == 0) {
                return false;
            }
            at += len;
        }
    }
    return true;
}

/* The code point of a well-formed sequence of `len` bytes. */
static uint32_t decode(const uint8_t *p, size_t len) {
    switch (len) {
    case 1:
        return p[0];
    case 2:
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    case 3:
        return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    default:
        return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 |
               (p[3] & 0x3Fu);
    }
}

uint32_t mf_utf8_next(mf_str text, size_t *at) {
    MF_DEBUG_ASSERT(*at < text.len);
    const uint8_t *p = (const uint8_t *)text.p + *at;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    MF_DEBUG_ASSERT(len == 1 || sequence_len(p, text.len - *at) == len);
    *at += len;
    return decode(p, len);
}

uint32_t mf_utf8_next_lossy(mf_str text, size_t *at) {
    MF_DEBUG_ASSERT(*at < text.len);
    const uint8_t *p = (const uint8_t *)text.p + *at;
    size_t len = p[0] < 0x80 ? 1 : sequence_len(p, text.len - *at);
    if (len == 0) {
        *at += 1;
        return MF_UTF8_REPLACEMENT;
    }
    *at += len;
    return decode(p, len);
}

size_t mf_utf8_put(uint32_t code, char out[4]) {
    MF_DEBUG_ASSERT(code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF));
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t first_mark[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80u | (code & 0x3Fu));
        code >>= 6;
    }
    out[0] = (char)(first_mark[len] | code);
    return len;
}

size_t mf_utf8_count(mf_str text) {
    size_t tails = 0;
    size_t at = 0;
    for (; text.len - at >= 8; at += 8) {
        uint64_t word = load_u64(text.p + at);
        /* A tail byte has its top bit set and the next one clear. */
        uint64_t tail_bits = word & ~(word << 1) & HIGH_BITS;
        tails += (size_t)__builtin_popcountll(tail_bits);
    }
    for (; at < text.len; at++) {
        tails += is_tail((uint8_t)text.p[at]);
    }
    return text.len - tails;
}

mf_str mf_utf8_prefix(mf_str text, size_t bytes_max) {
    if (text.len <= bytes_max) {
        return text;
    }
    size_t len = bytes_max;
    while (len > 0 && is_tail((uint8_t)text.p[len])) {
        len--;
    }
    return (mf_str){text.p, len};
}
