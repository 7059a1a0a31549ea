/* piece_table.c - which number belongs to these bytes: filling the table, and the
 * pieces that do not fit in a slot. */
#include "model/piece_table.h"

#include "base/alloc.h"
#include "base/assert.h"

enum {
    LONG = 255, /* the length of a slot whose piece stands elsewhere */
    LEN_BITS = 10,
};

_Static_assert(MF_PIECE_BYTES_MAX < 1 << LEN_BITS, "a length fits beside the hash");
_Static_assert(sizeof(mf_piece_slot) == 16, "four slots to a cache line");

mf_rc mf_piece_table_init(mf_piece_table *table, size_t count, const uint8_t *base,
                          mf_err *err) {
    MF_ASSERT(count <= MF_PIECE_COUNT_MAX);
    unsigned bits = 4;
    while ((size_t)4 << bits < count * 5 + 4) { /* at most four fifths in use */
        bits++;
    }
    size_t slots = (size_t)1 << bits;
    mf_piece_slot *block = mf_alloc_zero(slots, sizeof *block + sizeof *table->flags);
    if (block == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu pieces", count);
    }
    *table = (mf_piece_table){.base = base,
                              .slots = block,
                              .flags = (uint8_t *)(block + slots),
                              .mask = slots - 1,
                              .shift = 64 - bits - 3};
    return MF_OK;
}

void mf_piece_table_done(mf_piece_table *table) {
    mf_free(table->slots);
    *table = (mf_piece_table){.slots = NULL};
}

/* Of more than MF_PIECE_INLINE_MAX bytes. */
static uint64_t hash_long(const uint8_t *p, size_t len) {
    uint64_t hash = len * UINT64_C(0xD6E8FEB86659FD93);
    for (size_t at = 0; at < len; at += 8) {
        /* The last word overlaps the one before. */
        uint64_t word = mf_piece_load(p + (at + 8 <= len ? at : len - 8));
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    return hash * UINT64_C(0xC2B2AE3D27D4EB4F);
}

/* What stands in the slot of a long piece. */
static uint64_t low_of_long(uint64_t hash, size_t len) {
    return hash << LEN_BITS | len;
}

uint32_t mf_piece_find_long(const mf_piece_table *table, const uint8_t *p, size_t len) {
    if (len > table->len_max) {
        return MF_PIECE_NONE;
    }
    uint64_t hash = hash_long(p, len);
    uint64_t spot = hash >> table->shift;
    size_t at = (size_t)(spot >> 3);
    if (!(table->flags[at] >> (spot & 7) & 1)) {
        return MF_PIECE_NONE;
    }
    for (;; at = (at + 1) & table->mask) {
        const mf_piece_slot *slot = &table->slots[at];
        if (slot->value_len == 0) {
            return MF_PIECE_NONE;
        }
        if (slot->low == low_of_long(hash, len) && (slot->value_len & 255) == LONG &&
            memcmp(table->base + slot->high, p, len) == 0) {
            return slot->value_len >> 8;
        }
    }
}

static bool same(const mf_piece_table *table, const mf_piece_slot *a,
                 const mf_piece_slot *b, size_t len) {
    return a->low == b->low && (a->value_len & 255) == (b->value_len & 255) &&
           ((a->value_len & 255) == LONG
                ? memcmp(table->base + a->high, table->base + b->high, len) == 0
                : a->high == b->high);
}

uint32_t mf_piece_add(mf_piece_table *table, uint32_t offset, size_t len,
                      uint32_t value) {
    MF_ASSERT(len > 0 && len <= MF_PIECE_BYTES_MAX);
    MF_ASSERT(value < MF_PIECE_COUNT_MAX);
    const uint8_t *p = table->base + offset;
    mf_piece_slot made;
    uint64_t hash;
    if (len <= MF_PIECE_INLINE_MAX) {
        mf_piece_key key = mf_piece_key_of(p, len, len);
        hash = mf_piece_hash(key);
        made = (mf_piece_slot){key.low, key.high, value << 8 | key.len};
    } else {
        hash = hash_long(p, len);
        made = (mf_piece_slot){low_of_long(hash, len), offset, value << 8 | LONG};
    }
    uint64_t spot = hash >> table->shift;
    size_t at = (size_t)(spot >> 3);
    table->flags[at] |= (uint8_t)(1u << (spot & 7));
    for (; table->slots[at].value_len != 0; at = (at + 1) & table->mask) {
        if (same(table, &table->slots[at], &made, len)) {
            return table->slots[at].value_len >> 8;
        }
    }
    table->slots[at] = made;
    table->len_max = len > table->len_max ? len : table->len_max;
    return MF_PIECE_NONE;
}
