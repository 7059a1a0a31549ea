/* str.c - borrowed text.  Every function takes NULL for an empty string, which memcmp
 * and memmem do not, so lengths are looked at first. */
#include "base/str.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/assert.h"

enum { NUMBER_TEXT_MAX = 512 }; /* a longer run of characters is no number of ours */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

mf_str mf_str_from(const char *text) {
    return text != NULL ? (mf_str){text, strlen(text)} : MF_STR_NONE;
}

bool mf_str_eq(mf_str a, mf_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool mf_str_eq_ignore_case(mf_str a, mf_str b) {
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.p[i]) != lower(b.p[i])) {
            return false;
        }
    }
    return true;
}

int mf_str_cmp(mf_str a, mf_str b) {
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common > 0 ? memcmp(a.p, b.p, common) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

bool mf_str_starts(mf_str s, mf_str prefix) {
    return s.len >= prefix.len && mf_str_eq((mf_str){s.p, prefix.len}, prefix);
}

bool mf_str_ends(mf_str s, mf_str suffix) {
    return s.len >= suffix.len &&
           mf_str_eq(mf_str_sub(s, s.len - suffix.len, suffix.len), suffix);
}

mf_str mf_str_sub(mf_str s, size_t from, size_t len) {
    if (from > s.len) {
        from = s.len;
    }
    if (len > s.len - from) {
        len = s.len - from;
    }
    return (mf_str){from > 0 ? s.p + from : s.p, len};
}

mf_str mf_str_trim(mf_str s) {
    while (s.len > 0 && is_blank(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.p[s.len - 1])) {
        s.len--;
    }
    return s;
}

size_t mf_str_find(mf_str s, mf_str needle, size_t from) {
    if (from > s.len || needle.len > s.len - from) {
        return SIZE_MAX;
    }
    if (needle.len == 0) {
        return from;
    }
    const char *hit = memmem(s.p + from, s.len - from, needle.p, needle.len);
    return hit != NULL ? (size_t)(hit - s.p) : SIZE_MAX;
}

mf_str mf_str_split(mf_str *rest, char separator) {
    mf_str part = *rest;
    const char *cut = part.len > 0 ? memchr(part.p, separator, part.len) : NULL;
    if (cut == NULL) {
        *rest = MF_STR_NONE;
        return part;
    }
    part.len = (size_t)(cut - part.p);
    *rest = (mf_str){cut + 1, rest->len - part.len - 1};
    return part;
}

bool mf_str_to_i64(mf_str s, int64_t *out) {
    size_t i = s.len > 0 && (s.p[0] == '-' || s.p[0] == '+') ? 1 : 0;
    if (i == s.len) {
        return false;
    }
    bool negative = i > 0 && s.p[0] == '-';
    int64_t value = 0;
    for (; i < s.len; i++) {
        if (!is_digit(s.p[i])) {
            return false;
        }
        /* Summed downwards for negative numbers: INT64_MIN has no positive partner. */
        int64_t digit = negative ? '0' - s.p[i] : s.p[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

static size_t skip_digits(mf_str s, size_t i) {
    while (i < s.len && is_digit(s.p[i])) {
        i++;
    }
    return i;
}

static size_t skip_sign(mf_str s, size_t i) {
    return i < s.len && (s.p[i] == '-' || s.p[i] == '+') ? i + 1 : i;
}

/* [sign] digits [. digits] [e [sign] digits], with a digit on one side of the point:
 * what strtod takes, less blanks, hexadecimal, infinity and nan. */
static bool is_decimal(mf_str s) {
    size_t start = skip_sign(s, 0);
    size_t i = skip_digits(s, start);
    size_t digits = i - start;
    if (i < s.len && s.p[i] == '.') {
        size_t end = skip_digits(s, i + 1);
        digits += end - i - 1;
        i = end;
    }
    if (digits == 0) {
        return false;
    }
    if (i < s.len && lower(s.p[i]) == 'e') {
        size_t first = skip_sign(s, i + 1);
        i = skip_digits(s, first);
        return i > first && i == s.len;
    }
    return i == s.len;
}

static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale;

static void c_locale_make(void) {
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    MF_ASSERT(c_locale != (locale_t)0);
}

bool mf_str_to_double(mf_str s, double *out) {
    char text[NUMBER_TEXT_MAX];
    if (s.len >= sizeof text || !is_decimal(s)) {
        return false;
    }
    memcpy(text, s.p, s.len);
    text[s.len] = '\0';
    pthread_once(&c_locale_once, c_locale_make);
    double value = strtod_l(text, NULL, c_locale);
    if (!isfinite(value)) {
        return false;
    }
    *out = value;
    return true;
}

uint64_t mf_str_hash(mf_str s) {
    return XXH3_64bits(s.len > 0 ? s.p : "", s.len);
}
