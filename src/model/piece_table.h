/* piece_table.h - which number belongs to these bytes: the vocabulary of a tokenizer as
 * a hash table.
 *
 * Tokenizers ask this once or more for every word, and almost every answer is about a
 * few bytes.  So a piece of at most 12 bytes stands in its slot whole, as a number: one
 * cache line settles the question, and comparing is comparing numbers.  Longer pieces
 * have a hash in their slot, and their bytes are compared where the owner keeps them.
 *
 * Chains are settled by taking the next slot.  Tables are filled in the order of the
 * vocabulary, which has frequent pieces first, so these sit where the search begins. A
 * table is up to four fifths full, and a search for what is not there would follow a
 * chain to its end; a byte of flags per slot answers nine in ten of those at once.
 *
 * The keys are fixed once loaded, so no text can lengthen the chains.  Immutable after
 * the last mf_piece_add; any number of threads may search it. */
#ifndef MF_MODEL_PIECE_TABLE_H
#define MF_MODEL_PIECE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

enum {
    MF_PIECE_BYTES_MAX = 1023,    /* of one piece */
    MF_PIECE_COUNT_MAX = 1 << 20, /* pieces, and one more than the largest value */
    MF_PIECE_INLINE_MAX = 12,     /* bytes that stand in the slot itself */
    MF_PIECE_SLACK = 16,          /* readable bytes that make building a key cheap */
};

#define MF_PIECE_NONE UINT32_MAX

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the first byte of a piece is the lowest byte of its key");

/* The first 8 and the next 4 bytes as numbers, zero behind the end. */
typedef struct mf_piece_key {
    uint64_t low;
    uint32_t high;
    uint32_t len;
} mf_piece_key;

typedef struct mf_piece_slot {
    uint64_t low;       /* of the key, or hash * 1024 + length of a longer piece */
    uint32_t high;      /* of the key, or where a longer piece begins in `base` */
    uint32_t value_len; /* value * 256 + length, 255 for a longer piece; 0: free */
} mf_piece_slot;

typedef struct mf_piece_table {
    const uint8_t *base; /* borrowed: holds the bytes of longer pieces */
    mf_piece_slot *slots;
    uint8_t *flags; /* [slots] bit f: a piece with f behind its home's bits is there */
    size_t mask;    /* slots - 1, a power of two of them */
    unsigned shift; /* brings a hash to home * 8 + f */
    size_t len_max; /* the longest piece */
} mf_piece_table;

/* Room for up to `count` pieces; `base` is where longer ones are.  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_piece_table_init(mf_piece_table *table, size_t count,
                                     const uint8_t *base, mf_err *err);
void mf_piece_table_done(mf_piece_table *table); /* zeroed and done ones are fine */

/* Enters the `len` bytes at base + offset (1 to MF_PIECE_BYTES_MAX) with `value` (below
 * MF_PIECE_COUNT_MAX).  MF_PIECE_NONE, or the value of the same piece entered before,
 * which then stays. */
uint32_t mf_piece_add(mf_piece_table *table, uint32_t offset, size_t len,
                      uint32_t value);

/* The value of a piece beyond MF_PIECE_INLINE_MAX bytes, or MF_PIECE_NONE. */
uint32_t mf_piece_find_long(const mf_piece_table *table, const uint8_t *p, size_t len);

/* --- the search, inline because it is the innermost loop of three tokenizers --- */

static inline uint64_t mf_piece_load(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline uint64_t mf_piece_load_u32(const uint8_t *p) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* The key of 1 to MF_PIECE_INLINE_MAX bytes, cut out of two words that may hold
 * anything behind them. */
static inline mf_piece_key mf_piece_key_of_words(uint64_t low, uint64_t high,
                                                 size_t len) {
    uint64_t low_mask = len >= 8 ? UINT64_MAX : ~(UINT64_MAX << 8 * len);
    uint64_t high_mask = len > 8 ? ~(UINT64_MAX << 8 * (len - 8)) : 0;
    return (mf_piece_key){low & low_mask, (uint32_t)(high & high_mask), (uint32_t)len};
}

/* The same of bytes in memory, of which `readable` >= len may be read. */
static inline mf_piece_key mf_piece_key_of(const uint8_t *p, size_t len,
                                           size_t readable) {
    if (__builtin_expect(readable >= MF_PIECE_SLACK, 1)) {
        return mf_piece_key_of_words(mf_piece_load(p), mf_piece_load_u32(p + 8), len);
    }
    if (len >= 8) { /* the two reads overlap */
        uint64_t end = mf_piece_load_u32(p + len - 4);
        return (mf_piece_key){mf_piece_load(p), (uint32_t)(end >> 8 * (12 - len)),
                              (uint32_t)len};
    }
    if (len >= 4) {
        uint64_t end = mf_piece_load_u32(p + len - 4) >> 8 * (8 - len);
        return (mf_piece_key){mf_piece_load_u32(p) | end << 32, 0, (uint32_t)len};
    }
    uint64_t low = p[0];
    low |= len > 1 ? (uint64_t)p[1] << 8 : 0;
    low |= len > 2 ? (uint64_t)p[2] << 16 : 0;
    return (mf_piece_key){low, 0, (uint32_t)len};
}

static inline uint64_t mf_piece_hash(mf_piece_key key) {
    uint64_t hash = key.low * UINT64_C(0x9E3779B97F4A7C15);
    hash ^= ((uint64_t)key.len << 32 | key.high) * UINT64_C(0xD6E8FEB86659FD93);
    return (hash ^ hash >> 32) * UINT64_C(0xC2B2AE3D27D4EB4F);
}

/* The value of a short piece, or MF_PIECE_NONE. */
static inline uint32_t mf_piece_find_key(const mf_piece_table *table,
                                         mf_piece_key key) {
    uint64_t spot = mf_piece_hash(key) >> table->shift;
    size_t at = (size_t)(spot >> 3);
    if (!(table->flags[at] >> (spot & 7) & 1)) {
        return MF_PIECE_NONE;
    }
    for (;; at = (at + 1) & table->mask) {
        const mf_piece_slot *slot = &table->slots[at];
        if (slot->low == key.low && slot->high == key.high &&
            (slot->value_len & 255) == key.len) {
            return slot->value_len >> 8;
        }
        if (slot->value_len == 0) {
            return MF_PIECE_NONE;
        }
    }
}

/* The value of any piece of at least one byte, or MF_PIECE_NONE.  `readable` bytes, at
 * least `len`, may be read at p. */
static inline uint32_t mf_piece_find(const mf_piece_table *table, const uint8_t *p,
                                     size_t len, size_t readable) {
    return len <= MF_PIECE_INLINE_MAX
               ? mf_piece_find_key(table, mf_piece_key_of(p, len, readable))
               : mf_piece_find_long(table, p, len);
}

#endif
