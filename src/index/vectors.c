/* vectors.c - rows in blocks, removal by moving the last row into the gap.
 *
 * Rows live in blocks of 1,024, so that growing copies no rows but those of a small
 * first block.  Beside each row stand its scale, the slot it belongs to and the next
 * row of the same document.  The chain is what lets any row move: whoever points to it
 * is found by walking the few rows of its owner.
 *
 * Invariants: rows 0 .. row_count-1 are in use and no others; each is on the chain of
 * exactly one slot, its owner. */
#include "index/vectors.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/vec_scan.h"

enum { BLOCK_ROWS = 1024, FIRST_ROWS_MIN = 8, SLOTS_MIN = 64, ROW_ALIGN = 64 };

struct mf_vector_block {
    int8_t *rows;  /* owned; [capacity, dim_padded] */
    float *scales; /* owned; the three arrays below share its allocation */
    uint32_t *owners;
    uint32_t *nexts;
    size_t capacity; /* BLOCK_ROWS for all but the first */
};

void mf_vectors_init(mf_vectors *v, size_t dim) {
    MF_ASSERT(dim >= 1 && dim <= MF_SCAN_DIM_MAX);
    *v = (mf_vectors){.dim = dim, .dim_padded = mf_scan_dim(dim)};
}

static void block_done(mf_vector_block *block) {
    mf_free(block->rows);
    mf_free(block->scales);
    *block = (mf_vector_block){0};
}

void mf_vectors_done(mf_vectors *v) {
    for (size_t i = 0; i < v->block_count; i++) {
        block_done(&v->blocks[i]);
    }
    mf_free(v->blocks);
    mf_free(v->heads);
    *v = (mf_vectors){0};
}

static bool block_init(const mf_vectors *v, size_t capacity, mf_vector_block *out) {
    mf_vector_block block = {.capacity = capacity};
    block.rows = mf_alloc_aligned(ROW_ALIGN, capacity * v->dim_padded);
    block.scales = mf_alloc_array(capacity, sizeof(float) + 2 * sizeof(uint32_t));
    if (block.rows == NULL || block.scales == NULL) {
        block_done(&block);
        return false;
    }
    block.owners = (uint32_t *)(void *)(block.scales + capacity);
    block.nexts = block.owners + capacity;
    *out = block;
    return true;
}

static mf_vector_block *block_of(const mf_vectors *v, size_t row) {
    return &v->blocks[row / BLOCK_ROWS];
}

static size_t rows_max(const mf_vectors *v) {
    return v->block_count == 0 ? 0
                               : (v->block_count - 1) * BLOCK_ROWS +
                                     v->blocks[v->block_count - 1].capacity;
}

/* Makes the first block larger, up to BLOCK_ROWS. */
static bool grow_first(mf_vectors *v, size_t capacity) {
    mf_vector_block old = v->blocks[0];
    mf_vector_block grown;
    if (!block_init(v, capacity, &grown)) {
        return false;
    }
    memcpy(grown.rows, old.rows, v->row_count * v->dim_padded);
    memcpy(grown.scales, old.scales, v->row_count * sizeof(*old.scales));
    memcpy(grown.owners, old.owners, v->row_count * sizeof(*old.owners));
    memcpy(grown.nexts, old.nexts, v->row_count * sizeof(*old.nexts));
    block_done(&old);
    v->blocks[0] = grown;
    return true;
}

static bool push_block(mf_vectors *v, size_t capacity) {
    if (v->block_count == v->blocks_max) {
        size_t blocks_max = v->blocks_max == 0 ? 1 : v->blocks_max * 2;
        mf_vector_block *blocks = mf_realloc(v->blocks, blocks_max * sizeof(*blocks));
        if (blocks == NULL) {
            return false;
        }
        v->blocks = blocks;
        v->blocks_max = blocks_max;
    }
    if (!block_init(v, capacity, &v->blocks[v->block_count])) {
        return false;
    }
    v->block_count++;
    return true;
}

static bool reserve_rows(mf_vectors *v, size_t rows) {
    while (rows_max(v) < rows) {
        bool first = v->block_count <= 1 && rows_max(v) < BLOCK_ROWS;
        size_t capacity = BLOCK_ROWS;
        if (first) {
            capacity = v->block_count == 0 ? FIRST_ROWS_MIN : v->blocks[0].capacity;
            while (capacity < rows && capacity < BLOCK_ROWS) {
                capacity *= 2;
            }
        }
        bool grown = first && v->block_count == 1 ? grow_first(v, capacity)
                                                  : push_block(v, capacity);
        if (!grown) {
            return false;
        }
    }
    return true;
}

static bool reserve_slot(mf_vectors *v, uint32_t slot) {
    if (slot < v->slots_max) {
        return true;
    }
    size_t slots_max = v->slots_max == 0 ? SLOTS_MIN : v->slots_max;
    while (slots_max <= slot) {
        slots_max += slots_max / 2;
    }
    uint32_t *heads = mf_realloc(v->heads, slots_max * sizeof(*heads));
    if (heads == NULL) {
        return false;
    }
    for (size_t i = v->slots_max; i < slots_max; i++) {
        heads[i] = MF_VECTORS_NONE;
    }
    v->heads = heads;
    v->slots_max = slots_max;
    return true;
}

/* The place that holds `row` on the chain of its owner. */
static uint32_t *link_to(const mf_vectors *v, size_t row) {
    uint32_t *link = &v->heads[block_of(v, row)->owners[row % BLOCK_ROWS]];
    while (*link != row) {
        MF_ASSERT(*link != MF_VECTORS_NONE);
        link = &block_of(v, *link)->nexts[*link % BLOCK_ROWS];
    }
    return link;
}

/* Takes the last row out of its place and puts it at `row`, which is on no chain. */
static void fill_gap(mf_vectors *v, size_t row) {
    size_t last = --v->row_count;
    if (last == row) {
        return;
    }
    *link_to(v, last) = (uint32_t)row;
    mf_vector_block *from = block_of(v, last);
    mf_vector_block *to = block_of(v, row);
    size_t i = last % BLOCK_ROWS;
    size_t j = row % BLOCK_ROWS;
    memcpy(to->rows + j * v->dim_padded, from->rows + i * v->dim_padded, v->dim_padded);
    to->scales[j] = from->scales[i];
    to->owners[j] = from->owners[i];
    to->nexts[j] = from->nexts[i];
}

static void drop_rows(mf_vectors *v, uint32_t slot) {
    while (mf_vectors_has(v, slot)) {
        size_t row = v->heads[slot];
        v->heads[slot] = block_of(v, row)->nexts[row % BLOCK_ROWS];
        fill_gap(v, row);
    }
}

mf_rc mf_vectors_set(mf_vectors *v, uint32_t slot, const float *vectors, size_t count,
                     mf_err *err) {
    MF_ASSERT(count > 0);
    size_t rows;
    if (!mf_add_size(v->row_count, count, &rows) || rows >= MF_VECTORS_NONE) {
        return MF_FAIL(err, MF_E_LIMIT, "an index holds fewer than 2^32 vectors");
    }
    if (!reserve_rows(v, rows) || !reserve_slot(v, slot)) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu vectors", count);
    }
    drop_rows(v, slot);
    for (size_t i = count;
         i-- > 0;) { /* backwards: the chain then begins with part 0 */
        size_t row = v->row_count++;
        mf_vector_block *block = block_of(v, row);
        size_t at = row % BLOCK_ROWS;
        mf_quantize_i8(vectors + i * v->dim, v->dim, v->dim_padded,
                       block->rows + at * v->dim_padded, &block->scales[at]);
        block->owners[at] = slot;
        block->nexts[at] = v->heads[slot];
        v->heads[slot] = (uint32_t)row;
    }
    return MF_OK;
}

void mf_vectors_clear(mf_vectors *v, uint32_t slot) {
    drop_rows(v, slot);
    /* Blocks beyond the one after the last row in use go back; one is kept so that a
     * document replaced at a block's edge does not allocate each time. */
    size_t keep = (v->row_count + BLOCK_ROWS - 1) / BLOCK_ROWS + 1;
    while (v->block_count > keep) {
        block_done(&v->blocks[--v->block_count]);
    }
}

bool mf_vectors_has(const mf_vectors *v, uint32_t slot) {
    return slot < v->slots_max && v->heads[slot] != MF_VECTORS_NONE;
}

mf_rc mf_vectors_score(const mf_vectors *v, const float *query, float *best,
                       size_t slot_count, mf_err *err) {
    for (size_t i = 0; i < slot_count; i++) {
        best[i] = MF_VECTORS_UNSEEN;
    }
    int8_t *codes = mf_alloc_aligned(ROW_ALIGN, v->dim_padded);
    if (codes == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a query of %zu values", v->dim);
    }
    float query_scale;
    mf_quantize_i8(query, v->dim, v->dim_padded, codes, &query_scale);
    int32_t dots[BLOCK_ROWS];
    for (size_t row = 0; row < v->row_count; row += BLOCK_ROWS) {
        const mf_vector_block *block = block_of(v, row);
        size_t left = v->row_count - row;
        size_t count = left < BLOCK_ROWS ? left : BLOCK_ROWS;
        mf_scan_i8(codes, block->rows, v->dim_padded, count, v->dim_padded, dots);
        for (size_t i = 0; i < count; i++) {
            float cosine = (float)dots[i] * (block->scales[i] * query_scale);
            uint32_t slot = block->owners[i];
            best[slot] = cosine > best[slot] ? cosine : best[slot];
        }
    }
    mf_free(codes);
    return MF_OK;
}

static float best_part(const mf_vectors *v, uint32_t slot, const int8_t *codes,
                       float query_scale) {
    float best = MF_VECTORS_UNSEEN;
    uint32_t row = slot < v->slots_max ? v->heads[slot] : MF_VECTORS_NONE;
    while (row != MF_VECTORS_NONE) {
        const mf_vector_block *block = block_of(v, row);
        size_t at = row % BLOCK_ROWS;
        int32_t dot;
        mf_scan_i8(codes, block->rows + at * v->dim_padded, v->dim_padded, 1,
                   v->dim_padded, &dot);
        float cosine = (float)dot * (block->scales[at] * query_scale);
        best = cosine > best ? cosine : best;
        row = block->nexts[at];
    }
    return best;
}

mf_rc mf_vectors_score_some(const mf_vectors *v, const float *query,
                            const uint32_t *slots, size_t count, float *best,
                            mf_err *err) {
    int8_t *codes = mf_alloc_aligned(ROW_ALIGN, v->dim_padded);
    if (codes == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a query of %zu values", v->dim);
    }
    float query_scale;
    mf_quantize_i8(query, v->dim, v->dim_padded, codes, &query_scale);
    for (size_t i = 0; i < count; i++) {
        best[slots[i]] = best_part(v, slots[i], codes, query_scale);
    }
    mf_free(codes);
    return MF_OK;
}

size_t mf_vectors_bytes(const mf_vectors *v) {
    size_t per_row = v->dim_padded + sizeof(float) + 2 * sizeof(uint32_t);
    return rows_max(v) * per_row + v->blocks_max * sizeof(*v->blocks) +
           v->slots_max * sizeof(*v->heads);
}
