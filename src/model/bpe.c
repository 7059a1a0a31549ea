/* bpe.c - reads a rank file into the tables that bpe_merge.c encodes with. */
#include "model/bpe.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/bpe_private.h"
#include "os/file.h"

enum {
    FILE_BYTES_MAX = 64 << 20, /* of a rank file */
    WRONG_TEXT = 96,
};

_Static_assert((int)MF_BPE_TOKENS_MAX <= (int)MF_PIECE_COUNT_MAX &&
                   (int)MF_BPE_TOKEN_BYTES_MAX <= (int)MF_PIECE_BYTES_MAX,
               "every token fits in the table");

/* Enters the newest token; the one with the same bytes when there is one already. */
static uint32_t enter(mf_bpe *bpe, uint32_t token) {
    const uint8_t *p = bpe->bytes + bpe->offsets[token];
    size_t len = bpe->offsets[token + 1] - bpe->offsets[token];
    if (len > 2) {
        return mf_piece_add(&bpe->table, bpe->offsets[token], len, token);
    }
    uint32_t *place = len == 1 ? &bpe->one[p[0]] : &bpe->two[p[0] | p[1] << 8];
    uint32_t known = *place;
    if (known == MF_BPE_NO_TOKEN) {
        *place = token;
    }
    return known;
}

/* --- loading --- */

/* Value of a base64 digit; 255 for any other byte. */
static void fill_base64(uint8_t values[256]) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(values, 255, 256);
    for (uint8_t i = 0; i < 64; i++) {
        values[(uint8_t)digits[i]] = i;
    }
}

/* Decodes padded base64 into `out`, which has room for 3 bytes per 4 digits.  0 when
 * `text` is empty or not in canonical form. */
static size_t decode_base64(const uint8_t values[256], mf_str text, uint8_t *out) {
    if (text.len == 0 || text.len % 4 != 0) {
        return 0;
    }
    size_t pad = text.p[text.len - 1] != '=' ? 0 : text.p[text.len - 2] != '=' ? 1 : 2;
    size_t digits = text.len - pad;
    size_t len = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < digits; i++) {
        uint8_t value = values[(uint8_t)text.p[i]];
        if (value == 255) {
            return 0;
        }
        bits = bits << 6 | value;
        if (i % 4 > 0) {
            out[len++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    uint32_t unused = pad == 0 ? 0 : pad == 1 ? bits & 0x3 : bits & 0xF;
    return unused == 0 ? len : 0;
}

static uint32_t rank_of(const mf_bpe *bpe, size_t token) {
    return token < bpe->gap ? (uint32_t)token : bpe->ranks[token];
}

/* The next token with its rank.  The ranks are written from the first gap on. */
static void add_rank(mf_bpe *bpe, uint32_t rank) {
    size_t token = bpe->count++;
    if (bpe->gap == token && rank == token) {
        bpe->gap++;
    } else {
        bpe->ranks[token] = rank;
    }
}

/* One line of the file without its end.  False, with what is wrong and what is expected
 * in `wrong`. */
static bool read_line(mf_bpe *bpe, const uint8_t values[256], mf_str line,
                      char wrong[WRONG_TEXT]) {
    mf_str digits = mf_str_split(&line, ' ');
    uint32_t offset = bpe->offsets[bpe->count];
    size_t len = decode_base64(values, digits, bpe->bytes + offset);
    if (len == 0) {
        (void)snprintf(wrong, WRONG_TEXT,
                       "not a base64 token; a line is \"base64 rank\"");
        return false;
    }
    if (len > MF_BPE_TOKEN_BYTES_MAX) {
        (void)snprintf(wrong, WRONG_TEXT, "token too long: %zu bytes, at most %d", len,
                       MF_BPE_TOKEN_BYTES_MAX);
        return false;
    }
    int64_t rank;
    if (!mf_str_to_i64(line, &rank) || rank < 0 || rank >= MF_BPE_TOKENS_MAX) {
        (void)snprintf(wrong, WRONG_TEXT, "not a rank; expected a number from 0 to %d",
                       MF_BPE_TOKENS_MAX - 1);
        return false;
    }
    if (bpe->count > 0 && rank <= rank_of(bpe, bpe->count - 1)) {
        (void)snprintf(wrong, WRONG_TEXT, "ranks do not rise; expected more than %u",
                       rank_of(bpe, bpe->count - 1));
        return false;
    }
    bpe->offsets[bpe->count + 1] = offset + (uint32_t)len;
    uint32_t known = enter(bpe, (uint32_t)bpe->count);
    if (known != MF_BPE_NO_TOKEN) {
        (void)snprintf(wrong, WRONG_TEXT, "repeated token; it is on line %u too",
                       known + 1);
        return false;
    }
    add_rank(bpe, (uint32_t)rank);
    return true;
}

static mf_rc read_lines(mf_bpe *bpe, mf_str text, const char *path, mf_err *err) {
    uint8_t values[256];
    fill_base64(values);
    size_t number = 0;
    while (text.len > 0) {
        number++;
        mf_str line = mf_str_split(&text, '\n');
        char wrong[WRONG_TEXT];
        if (!read_line(bpe, values, line, wrong)) {
            return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: %s", path, number, wrong);
        }
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (bpe->one[byte] == MF_BPE_NO_TOKEN) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "'%s' line %zu: ends without a token for byte %u", path,
                           number, byte);
        }
    }
    return MF_OK;
}

static size_t count_lines(mf_str text) {
    size_t lines = 0;
    while (text.len > 0) {
        (void)mf_str_split(&text, '\n'); /* only how many there are matters */
        lines++;
    }
    return lines;
}

static mf_rc make_room(mf_bpe *bpe, mf_str text, const char *path, mf_err *err) {
    size_t lines = count_lines(text);
    if (lines > MF_BPE_TOKENS_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: too many tokens; at most %d",
                       path, lines, MF_BPE_TOKENS_MAX);
    }
    bpe->bytes = mf_alloc(text.len / 4 * 3 + 3); /* what all of it would decode to */
    bpe->offsets = mf_alloc_array(lines + 1, sizeof *bpe->offsets);
    bpe->ranks = mf_alloc_array(lines, sizeof *bpe->ranks);
    if (bpe->bytes == NULL || bpe->offsets == NULL || bpe->ranks == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the ranks");
    }
    bpe->offsets[0] = 0;
    memset(bpe->one, 0xFF, sizeof bpe->one); /* MF_BPE_NO_TOKEN */
    memset(bpe->two, 0xFF, sizeof bpe->two);
    return mf_piece_table_init(&bpe->table, lines, bpe->bytes, err);
}

static mf_rc load(mf_bpe *bpe, mf_str text, const char *path, mf_err *err) {
    MF_TRY(make_room(bpe, text, path, err));
    return read_lines(bpe, text, path, err);
}

mf_rc mf_bpe_open(const char *path, mf_bpe **out, mf_err *err) {
    mf_file_view file;
    MF_TRY(mf_file_map(path, &file, err));
    if (file.size > FILE_BYTES_MAX) {
        mf_file_unmap(&file);
        return MF_FAIL(err, MF_E_CORRUPT, "'%s' is larger than %d bytes", path,
                       FILE_BYTES_MAX);
    }
    mf_bpe *bpe = mf_alloc_zero(1, sizeof *bpe);
    mf_rc rc = bpe != NULL
                   ? load(bpe, (mf_str){(const char *)file.p, file.size}, path, err)
                   : MF_FAIL(err, MF_E_NOMEM, "no memory for the ranks");
    mf_file_unmap(&file);
    if (rc != MF_OK) {
        mf_bpe_close(bpe);
        return rc;
    }
    *out = bpe;
    return MF_OK;
}

void mf_bpe_close(mf_bpe *bpe) {
    if (bpe == NULL) {
        return;
    }
    mf_piece_table_done(&bpe->table);
    mf_free(bpe->ranks);
    mf_free(bpe->offsets);
    mf_free(bpe->bytes);
    mf_free(bpe);
}

size_t mf_bpe_token_count(const mf_bpe *bpe) {
    return bpe->count;
}

mf_str mf_bpe_token(const mf_bpe *bpe, uint32_t id) {
    size_t token = id;
    if (id >= bpe->gap) {
        size_t low = bpe->gap;
        size_t high = bpe->count;
        while (low < high) {
            size_t mid = (low + high) / 2;
            if (bpe->ranks[mid] < id) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        if (low == bpe->count || bpe->ranks[low] != id) {
            return MF_STR_NONE;
        }
        token = low;
    }
    return (mf_str){(const char *)bpe->bytes + bpe->offsets[token],
                    bpe->offsets[token + 1] - bpe->offsets[token]};
}
