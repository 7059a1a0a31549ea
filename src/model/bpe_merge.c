/* bpe_merge.c - the tokens of a piece.
 *
 * A piece that is a token as a whole is one search; that settles nine of ten.  The rest
 * is merged: up to SMALL_MAX bytes by looking for the lowest rank each round, quadratic
 * but without any set-up; more bytes with a heap of candidate pairs, where an entry
 * whose pair has changed since is recognised when it comes up and dropped.
 *
 * Long pieces are merged in windows, so that the heap stays in the fastest memory and
 * its logarithm constant.  What makes that exact:
 *
 *   Call two neighbouring tokens stable if merging their joined bytes, and nothing
 *   else, gives the two again.  A sequence of tokens, each of them what its own bytes
 *   merge to, is the encoding of its text exactly if all neighbours are stable.
 *
 * Merges within a stretch do not depend on what is outside it, as long as none crosses
 * its ends: the lowest pair of the whole, when it is in the stretch, is the lowest of
 * the stretch.  Suppose all neighbours are stable and yet merges cross boundaries
 * between tokens.  Take the first that does: until then nothing crossed the ends of the
 * two tokens it joins, so it would cross in their joined bytes alone, and they were not
 * stable.  The other direction is the same thought.
 *
 * So a window begins where the last token kept ends; its tokens are kept but for those
 * near its far end, where more bytes might change them; and the seam is checked.  With
 * the tables in use no seam is ever found unstable.  Should one be, the piece is done
 * again with windows sixteen times as long, until one holds all of it. */
#include "model/bpe.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "model/bpe_private.h"

#define NO_TOKEN MF_BPE_NO_TOKEN

enum {
    SMALL_MAX = 128,
    WINDOW = 1024,     /* bytes of the first windows */
    WINDOW_TAIL = 256, /* at its end, from which no token is kept: two long tokens */
    WINDOW_GROWTH = 16,
    WINDOW_MAX = 1 << 30,
    LANES = 4, /* the search for the lowest is done in steps of this many */
};

_Static_assert(WINDOW >= 2 * MF_BPE_TOKEN_BYTES_MAX, "two tokens fit in a window");
_Static_assert(MF_BPE_TOKENS_MAX <= 1 << 23 && SMALL_MAX <= 256,
               "a token and a place fit in 31 bits");

typedef struct sink {
    const mf_bpe *bpe;
    const uint8_t *end; /* of what may be read */
    uint32_t *ids;
    size_t max, count;
} sink;

static inline void put(sink *out, uint32_t token) {
    if (out->count < out->max) {
        out->ids[out->count] = token < out->bpe->gap ? token : out->bpe->ranks[token];
    }
    out->count++;
}

static inline uint32_t find_two(const mf_bpe *bpe, const uint8_t *p) {
    return bpe->two[p[0] | p[1] << 8];
}

/* The token of these bytes, of which there are at least two. */
static inline uint32_t find(const sink *out, const uint8_t *p, size_t len) {
    return len == 2 ? find_two(out->bpe, p)
                    : mf_piece_find(&out->bpe->table, p, len, (size_t)(out->end - p));
}

/* --- short pieces --- */

/* Parts are known by their first byte. */
typedef struct small {
    int32_t pairs[SMALL_MAX + LANES]; /* what the part joins to with the next, * 256 +
                                       * its place; INT32_MAX: nothing */
    uint32_t tokens[SMALL_MAX];
    uint8_t next[SMALL_MAX]; /* first byte of the part behind */
    uint8_t prev[SMALL_MAX]; /* of the part before */
} small;

static inline int32_t small_pair(const sink *out, const uint8_t *p, size_t from,
                                 size_t end) {
    uint32_t token = find(out, p + from, end - from);
    return token == NO_TOKEN ? INT32_MAX : (int32_t)(token << 8 | (uint32_t)from);
}

static inline int32_t lowest(const int32_t *pairs, size_t count) {
    int32_t best[LANES] = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};
    for (size_t i = 0; i < count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            int32_t pair = pairs[i + lane];
            best[lane] = pair < best[lane] ? pair : best[lane];
        }
    }
    int32_t a = best[0] < best[1] ? best[0] : best[1];
    int32_t b = best[2] < best[3] ? best[2] : best[3];
    return a < b ? a : b;
}

/* Merges 2 to SMALL_MAX bytes; the parts begin at 0 and follow `next` up to len. */
static void merge_small(const sink *out, small *m, const uint8_t *p, size_t len) {
    const mf_bpe *bpe = out->bpe;
    for (size_t i = 0; i < len; i++) {
        m->tokens[i] = bpe->one[p[i]];
        m->next[i] = (uint8_t)(i + 1);
        m->prev[i] = (uint8_t)(i - 1);
    }
    for (size_t i = 0; i + 1 < len; i++) {
        uint32_t token = find_two(bpe, p + i);
        m->pairs[i] =
            token == NO_TOKEN ? INT32_MAX : (int32_t)(token << 8 | (uint32_t)i);
    }
    for (size_t i = len - 1; i < len - 1 + LANES; i++) {
        m->pairs[i] = INT32_MAX;
    }
    for (int32_t best; (best = lowest(m->pairs, len - 1)) != INT32_MAX;) {
        size_t at = (size_t)best & 255;
        size_t gone = m->next[at];
        size_t behind = m->next[gone];
        m->tokens[at] = (uint32_t)best >> 8;
        m->next[at] = (uint8_t)behind;
        m->pairs[gone] = INT32_MAX;
        m->pairs[at] = INT32_MAX;
        if (behind < len) {
            m->prev[behind] = (uint8_t)at;
            m->pairs[at] = small_pair(out, p, at, m->next[behind]);
        }
        if (at > 0) {
            m->pairs[m->prev[at]] = small_pair(out, p, m->prev[at], behind);
        }
    }
}

static void encode_small(sink *out, const uint8_t *p, size_t len) {
    small m;
    merge_small(out, &m, p, len);
    for (size_t at = 0; at < len; at = m.next[at]) {
        put(out, m.tokens[at]);
    }
}

/* --- windows of long pieces --- */

/* Parts are known by their first byte here too. */
typedef struct merge {
    const sink *out;
    const uint8_t *p;
    uint32_t len;
    uint32_t *next; /* first byte of the part behind; len for the last part */
    uint32_t *prev; /* first byte of the part before; len for the first part */
    uint32_t *tokens;
    uint32_t *pairs; /* what the part joins to with the next; NO_TOKEN: nothing */
    uint64_t *heap;  /* [2 len] pair << 32 | first byte; the lowest on top */
    size_t heap_count;
} merge;

/* What a window of n bytes takes, in words of 64 bits. */
#define MERGE_WORDS(n) (4 * (size_t)(n))

static merge merge_in(const sink *out, uint64_t *block, size_t bytes_max) {
    uint32_t *words = (uint32_t *)(block + 2 * bytes_max);
    return (merge){.out = out,
                   .next = words,
                   .prev = words + bytes_max,
                   .tokens = words + 2 * bytes_max,
                   .pairs = words + 3 * bytes_max,
                   .heap = block};
}

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
        behind < m->len ? find(m->out, m->p + at, m->next[behind] - at) : NO_TOKEN;
    if (m->pairs[at] != NO_TOKEN) {
        heap_push(m, heap_entry(m, at));
    }
}

static void merge_start(merge *m) {
    const mf_bpe *bpe = m->out->bpe;
    m->heap_count = 0;
    for (uint32_t i = 0; i < m->len; i++) {
        m->next[i] = i + 1;
        m->prev[i] = i > 0 ? i - 1 : m->len;
        m->tokens[i] = bpe->one[m->p[i]];
        m->pairs[i] = i + 1 < m->len ? find_two(bpe, m->p + i) : NO_TOKEN;
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
static void merge_bytes(merge *m, const uint8_t *p, size_t len) {
    m->p = p;
    m->len = (uint32_t)len;
    merge_start(m);
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

/* Whether two tokens, of `left` bytes at p and `right` bytes behind them, are stable.
 */
static bool is_stable(const sink *out, const uint8_t *p, size_t left, size_t right) {
    size_t len = left + right;
    if (len <= SMALL_MAX) {
        small m;
        merge_small(out, &m, p, len);
        return m.next[0] == left && m.next[left] == len;
    }
    uint64_t block[MERGE_WORDS(WINDOW)];
    merge m = merge_in(out, block, WINDOW);
    merge_bytes(&m, p, len);
    return m.next[0] == left && m.next[left] == len;
}

/* The seam in front of a window: the last token kept, and the pair of tokens that was
 * found stable most recently. */
typedef struct seam {
    size_t left_len;
    uint32_t left, stable_left, stable_right;
} seam;

/* Whether the token kept last and the first of the window at p are stable. */
static bool seam_holds(seam *s, const merge *m, const uint8_t *p) {
    uint32_t right = m->tokens[0];
    if (s->left != s->stable_left || right != s->stable_right) {
        if (!is_stable(m->out, p - s->left_len, s->left_len, m->next[0])) {
            return false;
        }
        s->stable_left = s->left;
        s->stable_right = right;
    }
    return true;
}

/* Encodes in windows of up to `window` bytes, for which `block` has room.  False at an
 * unstable seam, unless these are to be taken as they are. */
static bool encode_windows(sink *out, const uint8_t *p, size_t len, size_t window,
                           uint64_t *block, bool take_any_seam) {
    merge m = merge_in(out, block, window);
    seam s = {.stable_left = NO_TOKEN};
    for (size_t at = 0; at < len;) {
        bool to_the_end = len - at <= window;
        size_t n = to_the_end ? len - at : window;
        /* Rules and padding repeat: then the work is done already. */
        if (at == 0 || n != m.len || memcmp(p + at, m.p, n) != 0) {
            merge_bytes(&m, p + at, n);
        }
        if (at > 0 && !take_any_seam && !seam_holds(&s, &m, p + at)) {
            return false;
        }
        size_t keep = to_the_end ? n : n - WINDOW_TAIL;
        size_t part = 0;
        while (part < n && (part == 0 || m.next[part] <= keep)) {
            put(out, m.tokens[part]);
            s.left = m.tokens[part];
            s.left_len = m.next[part] - part;
            part = m.next[part];
        }
        at += part;
    }
    return true;
}

static void encode_long(sink *out, const uint8_t *p, size_t len) {
    uint64_t small_block[MERGE_WORDS(WINDOW)];
    size_t start = out->count;
    if (encode_windows(out, p, len, WINDOW, small_block, false)) {
        return;
    }
    for (size_t window = WINDOW; window < len && window < WINDOW_MAX;) {
        window = window * WINDOW_GROWTH < len ? window * WINDOW_GROWTH : len;
        window = window < WINDOW_MAX ? window : WINDOW_MAX;
        uint64_t *block = mf_alloc_array(window, MERGE_WORDS(sizeof *block));
        if (block == NULL) {
            break;
        }
        out->count = start;
        bool done = encode_windows(out, p, len, window, block, false);
        mf_free(block);
        if (done) {
            return;
        }
    }
    out->count = start;
    (void)encode_windows(out, p, len, WINDOW, small_block, true); /* cannot fail */
}

size_t mf_bpe_encode(const mf_bpe *bpe, mf_str text, size_t len, uint32_t *ids,
                     size_t ids_max) {
    MF_DEBUG_ASSERT(len <= text.len);
    const uint8_t *p = (const uint8_t *)text.p;
    sink out = {.bpe = bpe, .end = p + text.len, .ids = ids, .max = ids_max};
    if (len <= 1) {
        if (len == 1) {
            put(&out, bpe->one[p[0]]);
        }
        return out.count;
    }
    uint32_t whole = find(&out, p, len);
    if (whole != NO_TOKEN) {
        put(&out, whole);
    } else if (len <= SMALL_MAX) {
        encode_small(&out, p, len);
    } else {
        encode_long(&out, p, len);
    }
    return out.count;
}
