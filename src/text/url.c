/* url.c - percent-encoding and query strings.
 *
 * Decoding never fails on odd input: names reach the server through clients that forget
 * to encode, and a kept escape finds the right thing more often than an error does. */
#include "text/url.h"

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

mf_str mf_url_decode(mf_str text, bool plus_is_blank, mf_arena *arena) {
    char *out = mf_arena_alloc(arena, text.len + 1);
    if (out == NULL) {
        return MF_STR_NONE;
    }
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (c == '%' && text.len - i > 2) {
            int high = hex_value(text.p[i + 1]);
            int low = hex_value(text.p[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (char)(high << 4 | low);
                i += 2;
            }
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return (mf_str){out, n};
}

static bool is_unreserved(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == '~';
}

mf_str mf_url_encode(mf_str text, mf_arena *arena) {
    static const char digits[] = "0123456789ABCDEF";
    if (text.len > (SIZE_MAX - 1) / 3) {
        return MF_STR_NONE;
    }
    char *out = mf_arena_alloc(arena, text.len * 3 + 1);
    if (out == NULL) {
        return MF_STR_NONE;
    }
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (is_unreserved(c)) {
            out[n++] = c;
        } else {
            out[n++] = '%';
            out[n++] = digits[(uint8_t)c >> 4];
            out[n++] = digits[(uint8_t)c & 15];
        }
    }
    out[n] = '\0';
    return (mf_str){out, n};
}

bool mf_url_query_raw(mf_str query, mf_str name, mf_str *value) {
    while (query.len > 0) {
        mf_str pair = mf_str_split(&query, '&');
        mf_str rest = pair;
        mf_str key = mf_str_split(&rest, '=');
        if (mf_str_eq(key, name)) {
            *value = rest;
            return true;
        }
    }
    return false;
}
