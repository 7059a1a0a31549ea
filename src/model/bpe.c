/* bpe.c - byte-pair encoding with a tiktoken rank table.
 *
 * A piece that is a token as a whole is one hash probe; that settles nine of ten
 * pieces. Up to SMALL_MAX bytes the rest is merged by scanning for the lowest rank each
 * round, quadratic but without any set-up, on the stack.  Longer pieces use a heap of
 * candidate pairs; an entry whose pair has changed since is recognised when it comes up
 * and dropped, so nothing has to be searched in the heap.
 *
 * Both loops ask one question: which token are these bytes?  One and two bytes answer
 * from direct tables, which are most of the questions; longer ones from an
 * open-addressing table of {tag, token}.  Its keys are the decoded token bytes, fixed
 * once loaded, so no text can lengthen its chains. */
#include "model/bpe.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "os/file.h"

#define NO_TOKEN UINT32_MAX

enum {
    SMALL_MAX = 128,           /* bytes of a piece merged on the stack */
    FILE_BYTES_MAX = 64 << 20, /* of a rank file */
};

typedef struct slot {
    uint32_t tag;
    uint32_t token; /* NO_TOKEN: free */
} slot;

struct mf_bpe {
    uint8_t *bytes;    /* of all tokens, one behind the other */
    uint32_t *offsets; /* [count + 1] token t is bytes[offsets[t] .. offsets[t + 1]) */
    uint32_t *ranks;   /* [count] rising: the order of tokens is the order of ranks */
    size_t count;
    size_t len_max; /* the longest token */
    slot *slots;
    size_t slot_mask;
    uint32_t one[256];
    uint32_t two[65536]; /* by first byte * 256 + second */
};

/* --- bytes to token --- */

static uint64_t load_u64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static uint64_t load_u32(const uint8_t *p) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

/* Of at least three bytes; the reads at both ends overlap when they have to. */
static uint64_t hash_bytes(const uint8_t *p, size_t len) {
    uint64_t hash = (uint64_t)len * UINT64_C(0xD6E8FEB86659FD93);
    if (len < 4) {
        return mix(hash, (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16);
    }
    if (len <= 8) {
        return mix(hash, load_u32(p) | load_u32(p + len - 4) << 32);
    }
    size_t at = 0;
    for (; at + 8 < len; at += 8) {
        hash = mix(hash, load_u64(p + at));
    }
    return mix(hash, load_u64(p + len - 8));
}

static size_t token_len(const mf_bpe *bpe, uint32_t token) {
    return bpe->offsets[token + 1] - bpe->offsets[token];
}

/* The slot of these bytes, or the free one where they would go. */
static slot *probe(const mf_bpe *bpe, const uint8_t *p, size_t len, uint64_t hash) {
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = (size_t)hash;; i++) {
        slot *s = &bpe->slots[i & bpe->slot_mask];
        if (s->token == NO_TOKEN ||
            (s->tag == tag && token_len(bpe, s->token) == len &&
             memcmp(bpe->bytes + bpe->offsets[s->token], p, len) == 0)) {
            return s;
        }
    }
}

static uint32_t find(const mf_bpe *bpe, const uint8_t *p, size_t len) {
    if (len == 2) {
        return bpe->two[p[0] << 8 | p[1]];
    }
    if (len == 1) {
        return bpe->one[p[0]];
    }
    return len > bpe->len_max ? NO_TOKEN
                              : probe(bpe, p, len, hash_bytes(p, len))->token;
}

/* Enters the newest token; false when its bytes are there already. */
static bool enter(mf_bpe *bpe, uint32_t token) {
    const uint8_t *p = bpe->bytes + bpe->offsets[token];
    size_t len = token_len(bpe, token);
    uint32_t *place;
    if (len == 1) {
        place = &bpe->one[p[0]];
    } else if (len == 2) {
        place = &bpe->two[p[0] << 8 | p[1]];
    } else {
        uint64_t hash = hash_bytes(p, len);
        slot *s = probe(bpe, p, len, hash);
        if (s->token == NO_TOKEN) {
            s->tag = (uint32_t)(hash >> 32);
        }
        place = &s->token;
    }
    if (*place != NO_TOKEN) {
        return false;
    }
    *place = token;
    bpe->len_max = len > bpe->len_max ? len : bpe->len_max;
    return true;
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

/* One line of the file without its end; `*last_rank` is -1 before the first. */
static const char *read_line(mf_bpe *bpe, const uint8_t values[256], mf_str line,
                             int64_t *last_rank) {
    if (bpe->count == MF_BPE_TOKENS_MAX) {
        return "too many tokens";
    }
    mf_str digits = mf_str_split(&line, ' ');
    uint32_t offset = bpe->offsets[bpe->count];
    size_t len = decode_base64(values, digits, bpe->bytes + offset);
    if (len == 0) {
        return "not a base64 token";
    }
    if (len > MF_BPE_TOKEN_BYTES_MAX) {
        return "token too long";
    }
    int64_t rank;
    if (!mf_str_to_i64(line, &rank) || rank < 0 || rank >= MF_BPE_TOKENS_MAX) {
        return "not a rank";
    }
    if (rank <= *last_rank) {
        return "ranks do not rise";
    }
    *last_rank = rank;
    uint32_t token = (uint32_t)bpe->count;
    bpe->ranks[token] = (uint32_t)rank;
    bpe->offsets[token + 1] = offset + (uint32_t)len;
    bpe->count++;
    return enter(bpe, token) ? NULL : "repeated token";
}

static mf_rc read_lines(mf_bpe *bpe, mf_str text, const char *path, mf_err *err) {
    uint8_t values[256];
    fill_base64(values);
    int64_t last_rank = -1;
    size_t number = 0;
    while (text.len > 0) {
        number++;
        mf_str line = mf_str_split(&text, '\n');
        const char *wrong = read_line(bpe, values, line, &last_rank);
        if (wrong != NULL) {
            return MF_FAIL(err, MF_E_CORRUPT, "'%s' line %zu: %s", path, number, wrong);
        }
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (bpe->one[byte] == NO_TOKEN) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "'%s' line %zu: ends without a token for byte %u", path,
                           number, byte);
        }
    }
    return MF_OK;
}

/* Sizes everything by the file: a line takes at least "QQ== 0" and its end. */
static mf_rc make_room(mf_bpe *bpe, size_t file_size, mf_err *err) {
    size_t tokens_max = file_size / 7 + 1;
    tokens_max = tokens_max < MF_BPE_TOKENS_MAX ? tokens_max : MF_BPE_TOKENS_MAX;
    size_t slot_count = 16;
    while (slot_count <= tokens_max) {
        slot_count *= 2;
    }
    bpe->slot_mask = slot_count - 1;
    bpe->bytes = mf_alloc(file_size);
    bpe->offsets = mf_alloc_array(tokens_max + 1, sizeof *bpe->offsets);
    bpe->ranks = mf_alloc_array(tokens_max, sizeof *bpe->ranks);
    bpe->slots = mf_alloc_array(slot_count, sizeof *bpe->slots);
    if (bpe->bytes == NULL || bpe->offsets == NULL || bpe->ranks == NULL ||
        bpe->slots == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the ranks");
    }
    bpe->offsets[0] = 0;
    for (size_t i = 0; i < slot_count; i++) {
        bpe->slots[i].token = NO_TOKEN;
    }
    memset(bpe->one, 0xFF, sizeof bpe->one); /* NO_TOKEN */
    memset(bpe->two, 0xFF, sizeof bpe->two);
    return MF_OK;
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
    mf_rc rc = bpe != NULL ? make_room(bpe, file.size, err)
                           : MF_FAIL(err, MF_E_NOMEM, "no memory for the ranks");
    if (rc == MF_OK) {
        rc = read_lines(bpe, (mf_str){(const char *)file.p, file.size}, path, err);
    }
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
    mf_free(bpe->slots);
    mf_free(bpe->ranks);
    mf_free(bpe->offsets);
    mf_free(bpe->bytes);
    mf_free(bpe);
}

size_t mf_bpe_token_count(const mf_bpe *bpe) {
    return bpe->count;
}

/* --- merging --- */

typedef struct sink {
    const mf_bpe *bpe;
    uint32_t *ids;
    size_t max, count;
} sink;

static void put(sink *out, uint32_t token) {
    if (out->count < out->max) {
        out->ids[out->count] = out->bpe->ranks[token];
    }
    out->count++;
}

/* At most SMALL_MAX bytes.  Part i is the token of bytes starts[i] .. starts[i + 1],
 * and pairs[i] what it joins to with part i + 1. */
static void encode_small(sink *out, const uint8_t *p, size_t len) {
    const mf_bpe *bpe = out->bpe;
    uint32_t tokens[SMALL_MAX];
    uint32_t pairs[SMALL_MAX];
    size_t starts[SMALL_MAX + 1];
    size_t count = len;
    for (size_t i = 0; i < len; i++) {
        tokens[i] = bpe->one[p[i]];
        pairs[i] = i + 1 < len ? find(bpe, p + i, 2) : NO_TOKEN;
        starts[i] = i;
    }
    starts[len] = len;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < count; i++) {
            best = pairs[i] < pairs[best] ? i : best;
        }
        if (pairs[best] == NO_TOKEN) {
            break;
        }
        tokens[best] = pairs[best];
        count--;
        size_t moved = count - best - 1; /* parts behind the one that goes away */
        memmove(tokens + best + 1, tokens + best + 2, moved * sizeof *tokens);
        memmove(pairs + best + 1, pairs + best + 2, moved * sizeof *pairs);
        memmove(starts + best + 1, starts + best + 2, (moved + 1) * sizeof *starts);
        for (size_t i = best > 0 ? best - 1 : 0; i <= best; i++) {
            pairs[i] = i + 1 < count
                           ? find(bpe, p + starts[i], starts[i + 2] - starts[i])
                           : NO_TOKEN;
        }
    }
    for (size_t i = 0; i < count; i++) {
        put(out, tokens[i]);
    }
}

/* A long piece under work.  Parts are known by their first byte. */
typedef struct merge {
    const mf_bpe *bpe;
    const uint8_t *p;
    uint32_t len;
    uint32_t *next;   /* [len] first byte of the part behind; len for the last part */
    uint32_t *prev;   /* [len] first byte of the part before; len for the first part */
    uint32_t *tokens; /* [len] */
    uint32_t *pairs; /* [len] what the part joins to with the next; NO_TOKEN: nothing */
    uint64_t *heap;  /* [2 len] pair << 32 | first byte; the lowest on top */
    size_t heap_count;
} merge;

static uint64_t heap_entry(const merge *m, uint32_t at) {
    return (uint64_t)m->pairs[at] << 32 | at;
}

static void heap_sink(merge *m, size_t at) {
    uint64_t entry = m->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= m->heap_count) {
            break;
        }
        child += child + 1 < m->heap_count && m->heap[child + 1] < m->heap[child];
        if (m->heap[child] >= entry) {
            break;
        }
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = entry;
}

static void heap_push(merge *m, uint64_t entry) {
    size_t at = m->heap_count++;
    while (at > 0 && m->heap[(at - 1) / 2] > entry) {
        m->heap[at] = m->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    m->heap[at] = entry;
}

static uint64_t heap_pop(merge *m) {
    uint64_t top = m->heap[0];
    m->heap[0] = m->heap[--m->heap_count];
    if (m->heap_count > 0) {
        heap_sink(m, 0);
    }
    return top;
}

/* Looks again at what the part at `at` joins to. */
static void renew_pair(merge *m, uint32_t at) {
    uint32_t behind = m->next[at];
    m->pairs[at] =
        behind < m->len ? find(m->bpe, m->p + at, m->next[behind] - at) : NO_TOKEN;
    if (m->pairs[at] != NO_TOKEN) {
        heap_push(m, heap_entry(m, at));
    }
}

static void start_merge(merge *m) {
    for (uint32_t i = 0; i < m->len; i++) {
        m->next[i] = i + 1;
        m->prev[i] = i > 0 ? i - 1 : m->len;
        m->tokens[i] = m->bpe->one[m->p[i]];
        m->pairs[i] = i + 1 < m->len ? find(m->bpe, m->p + i, 2) : NO_TOKEN;
        if (m->pairs[i] != NO_TOKEN) {
            m->heap[m->heap_count++] = heap_entry(m, i);
        }
    }
    for (size_t i = m->heap_count / 2; i > 0; i--) {
        heap_sink(m, i - 1);
    }
}

/* Every merge takes one entry out and puts at most two in, and there are fewer merges
 * than bytes: the heap never holds more than 2 len entries. */
static void merge_all(merge *m) {
    while (m->heap_count > 0) {
        uint64_t top = heap_pop(m);
        uint32_t at = (uint32_t)top;
        if (top != heap_entry(m, at)) {
            continue; /* the pair has changed since */
        }
        uint32_t gone = m->next[at];
        uint32_t behind = m->next[gone];
        m->tokens[at] = m->pairs[at];
        m->pairs[gone] = NO_TOKEN;
        m->next[at] = behind;
        if (behind < m->len) {
            m->prev[behind] = at;
        }
        renew_pair(m, at);
        if (m->prev[at] < m->len) {
            renew_pair(m, m->prev[at]);
        }
    }
}

/* false: no memory, nothing done. */
static bool encode_long(sink *out, const uint8_t *p, size_t len) {
    size_t per_byte = 4 * sizeof(uint32_t) + 2 * sizeof(uint64_t);
    uint64_t *block = mf_alloc_array(len, per_byte);
    if (block == NULL) {
        return false;
    }
    uint32_t *words = (uint32_t *)(block + 2 * len);
    merge m = {.bpe = out->bpe,
               .p = p,
               .len = (uint32_t)len,
               .next = words,
               .prev = words + len,
               .tokens = words + 2 * len,
               .pairs = words + 3 * len,
               .heap = block};
    start_merge(&m);
    merge_all(&m);
    for (uint32_t at = 0; at < m.len; at = m.next[at]) {
        put(out, m.tokens[at]);
    }
    mf_free(block);
    return true;
}

static void encode_slice(sink *out, const uint8_t *p, size_t len) {
    uint32_t whole = find(out->bpe, p, len);
    if (whole != NO_TOKEN) {
        put(out, whole);
    } else if (len <= SMALL_MAX) {
        encode_small(out, p, len);
    } else if (!encode_long(out, p, len)) {
        for (size_t at = 0; at < len; at += SMALL_MAX) {
            encode_small(out, p + at, len - at < SMALL_MAX ? len - at : SMALL_MAX);
        }
    }
}

size_t mf_bpe_encode(const mf_bpe *bpe, mf_str piece, uint32_t *ids, size_t ids_max) {
    sink out = {.bpe = bpe, .ids = ids, .max = ids_max};
    const uint8_t *p = (const uint8_t *)piece.p;
    for (size_t at = 0; at < piece.len; at += MF_BPE_PIECE_MAX) {
        size_t left = piece.len - at;
        encode_slice(&out, p + at, left < MF_BPE_PIECE_MAX ? left : MF_BPE_PIECE_MAX);
    }
    return out.count;
}
