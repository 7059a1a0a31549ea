/* charsmap.c - reads a sentencepiece character table and looks characters up. */
#include "model/charsmap.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "text/utf8.h"

enum { LENGTH_BYTES = 4, UNIT_BYTES = 4, BASE64_MAX = 32 << 20 };

struct mf_charsmap {
    uint8_t *bytes; /* the decoded whole */
    const uint8_t *trie;
    size_t unit_count;
    mf_str texts;
};

/* --- base64 ----------------------------------------------------------------------- */

static int digit_of(char c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits make three bytes; the last group may end in one or two '='.  false for
 * anything else. */
static bool decode(mf_str text, uint8_t *out, size_t *len) {
    size_t at = 0;
    if (text.len % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i += 4) {
        uint32_t group = 0;
        size_t padding = 0;
        for (size_t k = 0; k < 4; k++) {
            char c = text.p[i + k];
            bool pad = c == '=' && i + 4 == text.len && k >= 2;
            int digit = pad ? 0 : digit_of(c);
            if (digit < 0 || (padding > 0 && !pad)) {
                return false;
            }
            padding += pad;
            group = group << 6 | (uint32_t)digit;
        }
        for (size_t k = 0; k < 3 - padding; k++) {
            out[at++] = (uint8_t)(group >> (16 - 8 * k));
        }
    }
    *len = at;
    return true;
}

/* --- opening ---------------------------------------------------------------------- */

static uint32_t read_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static mf_rc split(mf_charsmap *map, size_t len, mf_err *err) {
    size_t trie_bytes = len < LENGTH_BYTES ? 0 : read_u32(map->bytes);
    if (len < LENGTH_BYTES || trie_bytes % UNIT_BYTES != 0 || trie_bytes == 0 ||
        trie_bytes > len - LENGTH_BYTES) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "precompiled_charsmap: a trie of %zu bytes in a table of %zu",
                       trie_bytes, len);
    }
    map->trie = map->bytes + LENGTH_BYTES;
    map->unit_count = trie_bytes / UNIT_BYTES;
    size_t texts_at = LENGTH_BYTES + trie_bytes;
    map->texts = (mf_str){(const char *)map->bytes + texts_at, len - texts_at};
    if (!mf_utf8_valid(map->texts)) {
        return MF_FAIL(err, MF_E_CORRUPT, "precompiled_charsmap: texts are not UTF-8");
    }
    return MF_OK;
}

mf_rc mf_charsmap_open(mf_str base64, mf_charsmap **out, mf_err *err) {
    if (base64.len == 0 || base64.len > BASE64_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "precompiled_charsmap has %zu bytes, possible are 1..%d",
                       base64.len, BASE64_MAX);
    }
    mf_charsmap *map = mf_alloc_zero(1, sizeof *map);
    if (map != NULL) {
        map->bytes = mf_alloc(base64.len);
    }
    if (map == NULL || map->bytes == NULL) {
        mf_charsmap_close(map);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of characters");
    }
    size_t len = 0;
    mf_rc rc = decode(base64, map->bytes, &len)
                   ? split(map, len, err)
                   : MF_FAIL(err, MF_E_CORRUPT, "precompiled_charsmap is not base64");
    if (rc != MF_OK) {
        mf_charsmap_close(map);
        return rc;
    }
    *out = map;
    return MF_OK;
}

void mf_charsmap_close(mf_charsmap *map) {
    if (map != NULL) {
        mf_free(map->bytes);
        mf_free(map);
    }
}

/* --- searching -------------------------------------------------------------------- */

static uint32_t unit_at(const mf_charsmap *map, size_t at) {
    return read_u32(map->trie + at * UNIT_BYTES);
}

/* How far away the children of a unit are: 22 bits, shifted by 8 if bit 9 is set. */
static size_t offset_of(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & (1U << 9)) >> 6);
}

/* The text at `at`, up to its NUL. */
static mf_str text_at(const mf_charsmap *map, size_t at) {
    if (at >= map->texts.len) {
        return MF_STR("");
    }
    const char *start = map->texts.p + at;
    const char *end = memchr(start, '\0', map->texts.len - at);
    size_t len = end == NULL ? map->texts.len - at : (size_t)(end - start);
    return (mf_str){start, len};
}

mf_str mf_charsmap_find(const mf_charsmap *map, mf_str chunk) {
    size_t node = offset_of(unit_at(map, 0));
    for (size_t i = 0; i < chunk.len && chunk.p[i] != '\0'; i++) {
        uint8_t label = (uint8_t)chunk.p[i];
        node ^= label;
        if (node >= map->unit_count) {
            return MF_STR_NONE;
        }
        uint32_t unit = unit_at(map, node);
        if ((unit & (1U << 31 | 0xFF)) != label) {
            return MF_STR_NONE;
        }
        node ^= offset_of(unit);
        if ((unit & 1U << 8) != 0) {
            return node < map->unit_count
                       ? text_at(map, unit_at(map, node) & ~(1U << 31))
                       : MF_STR_NONE;
        }
    }
    return MF_STR_NONE;
}
