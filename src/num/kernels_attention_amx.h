/* kernels_attention_amx.h - private to num/: attention in bf16 by tile instructions.
 *
 * Included by kernels_avx512.c behind kernels_attention.h.  A tile is 16 rows of 16
 * words.  tdpbf16ps multiplies a tile of rows by a tile of columns, a chunk of MF_CHUNK
 * numbers each, and adds to a tile of floats in the order kernels_attention.h tells
 * (Intel's Software Developer's Manual, volume 2), so results are the same bits.
 *
 * Rows are queries, first times keys, then, softened to weights, times values.  What is
 * between the two products is the code of AVX-512. */
#include "num/tiles.h"

enum { TILE_SIDE = 16, TILE_WORDS = TILE_SIDE * TILE_SIDE };

_Static_assert((int)TILE_SIDE == (int)MF_LANES, "a vector is a row of a tile");
_Static_assert((int)TILE_SIDE == (int)MF_ATTENTION_ROWS, "the scratch has such blocks");

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, p, stride)                                                        \
    __asm__ volatile("tileloadd (%0, %1), %%tmm" #t                                    \
                     :                                                                 \
                     : "r"(p), "r"((stride) * sizeof(uint32_t))                        \
                     : "memory")
#define TILE_STORE(t, p, stride)                                                       \
    __asm__ volatile("tilestored %%tmm" #t ", (%0, %1)"                                \
                     :                                                                 \
                     : "r"(p), "r"((stride) * sizeof(uint32_t))                        \
                     : "memory")
#define TILE_DOT(sum, rows, columns)                                                   \
    __asm__ volatile("tdpbf16ps %%tmm" #columns ", %%tmm" #rows ", %%tmm" #sum ::)

/* A block of queries of one head, and where its parts are. */
typedef struct block16 {
    head16 head;
    size_t token; /* its first query */
    size_t rows;
    uint32_t *queries;     /* pairs, a tile per chunk of dimensions */
    float *scores;         /* [TILE_SIDE, padded] */
    uint32_t *weights;     /* pairs, a tile per chunk of keys */
    float *context;        /* [TILE_SIDE, dim] */
    float sums[TILE_SIDE]; /* of each row's weights */
} block16;

static block16 block16_at(const head16 *h, size_t token, float *scratch) {
    size_t rest = h->call->tokens - token;
    float *scores = scratch + h->chunks * TILE_WORDS;
    float *weights = scores + TILE_SIDE * h->padded;
    return (block16){
        .head = *h,
        .token = token,
        .rows = rest < TILE_SIDE ? rest : TILE_SIDE,
        .queries = (uint32_t *)(void *)scratch,
        .scores = scores,
        .weights = (uint32_t *)(void *)weights,
        .context = weights + TILE_SIDE / 2 * h->padded,
    };
}

static void pack_keys(const head16 *h) {
    for (size_t first = 0; first < h->call->tokens; first += MF_LANES) {
        for (size_t chunk = 0; chunk < h->chunks; chunk++) {
            vp square[MF_LANES];
            turn_keys(h, first, chunk, square);
            UNROLL
            for (size_t i = 0; i < MF_LANES; i++) {
                vp_store(h->keys + (chunk * PAIRS + i) * h->padded + first, square[i]);
            }
        }
    }
}

static void pack_values(const head16 *h) {
    size_t tokens = h->call->tokens;
    uint32_t *to = h->values;
    for (size_t first = 0; first < h->padded; first += MF_CHUNK) {
        for (size_t i = 0; i < PAIRS; i++, to += h->dim) {
            const float *from = h->values_in + (first + i) * h->stride;
            bool one = first + i < tokens;
            bool two = first + i + PAIRS < tokens;
            for (size_t d = 0; d < h->dim; d += MF_LANES) {
                vf low = one ? vf_load(from + d) : vf_set(0.0F);
                vf high = two ? vf_load(from + PAIRS * h->stride + d) : vf_set(0.0F);
                vp_store(to + d, vp_pack(low, high));
            }
        }
    }
}

static void pack_queries(const block16 *b) {
    const head16 *h = &b->head;
    const float *query = h->queries + b->token * h->stride;
    for (size_t row = 0; row < b->rows; row++, query += h->stride) {
        for (size_t chunk = 0; chunk < h->chunks; chunk++) {
            vp_store(b->queries + chunk * TILE_WORDS + row * TILE_SIDE,
                     chunk_of(query, h->dim, chunk));
        }
    }
}

/* Scores of a block of queries and all keys, up to two tiles of keys at a time. */
static void score_tiles(const block16 *b) {
    const head16 *h = &b->head;
    for (size_t j = 0; j < h->call->tokens; j += 2 * TILE_SIDE) {
        bool two = j + TILE_SIDE < h->call->tokens;
        TILE_ZERO(0);
        TILE_ZERO(1);
        for (size_t chunk = 0; chunk < h->chunks; chunk++) {
            const uint32_t *keys = h->keys + chunk * PAIRS * h->padded + j;
            if (j == 0 || h->chunks > 1) {
                TILE_LOAD(4, b->queries + chunk * TILE_WORDS, TILE_SIDE);
            }
            TILE_LOAD(5, keys, h->padded);
            TILE_DOT(0, 4, 5);
            if (two) {
                TILE_LOAD(6, keys + TILE_SIDE, h->padded);
                TILE_DOT(1, 4, 6);
            }
        }
        TILE_STORE(0, b->scores + j, h->padded);
        if (two) {
            TILE_STORE(1, b->scores + j + TILE_SIDE, h->padded);
        }
    }
}

/* Weighted sums of the values, up to two tiles of dimensions at a time. */
static void mix_tiles(const block16 *b) {
    const head16 *h = &b->head;
    for (size_t d = 0; d < h->dim; d += 2 * TILE_SIDE) {
        bool two = d + TILE_SIDE < h->dim;
        TILE_ZERO(2);
        TILE_ZERO(3);
        for (size_t chunk = 0; chunk < h->padded / MF_CHUNK; chunk++) {
            const uint32_t *values = h->values + chunk * PAIRS * h->dim + d;
            TILE_LOAD(4, b->weights + chunk * TILE_WORDS, TILE_SIDE);
            TILE_LOAD(5, values, h->dim);
            TILE_DOT(2, 4, 5);
            if (two) {
                TILE_LOAD(6, values + TILE_SIDE, h->dim);
                TILE_DOT(3, 4, 6);
            }
        }
        TILE_STORE(2, b->context + d, h->dim);
        if (two) {
            TILE_STORE(3, b->context + d + TILE_SIDE, h->dim);
        }
    }
}

static void soften_block(block16 *b) {
    soften_rows(&b->head, b->token, b->rows, b->scores, b->weights, TILE_WORDS,
                b->sums);
}

static void store_context(const block16 *b) {
    const head16 *h = &b->head;
    size_t hidden = h->call->heads * h->dim;
    float *context = h->call->context + b->token * hidden + h->head * h->dim;
    for (size_t row = 0; row < b->rows; row++, context += hidden) {
        vf inverse = vf_set(1.0F / b->sums[row]);
        for (size_t d = 0; d < h->dim; d += MF_LANES) {
            vf mixed = vf_load(b->context + row * h->dim + d);
            vf_store(context + d, vf_mul(mixed, inverse));
        }
    }
}

/* Blocks go through each step together: a block alone would wait for every step of its
 * own.  Rows beyond the last query are whatever the scratch held: rows do not meet. */
static void attend_blocks(block16 *blocks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        pack_queries(&blocks[i]);
        score_tiles(&blocks[i]);
    }
    for (size_t i = 0; i < count; i++) {
        soften_block(&blocks[i]);
    }
    for (size_t i = 0; i < count; i++) {
        mix_tiles(&blocks[i]);
    }
    for (size_t i = 0; i < count; i++) {
        store_context(&blocks[i]);
    }
}

static const mf_tile_shapes whole_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/* Short texts take several heads at once, to have a few blocks. */
static void attention16_tiles(const mf_attention_call *call) {
    block16 blocks[MF_ATTENTION_BLOCKS];
    size_t of_head = (call->tokens + TILE_SIDE - 1) / TILE_SIDE;
    size_t heads = of_head < MF_ATTENTION_BLOCKS ? MF_ATTENTION_BLOCKS / of_head : 1;
    size_t head_words = mf_attention_head(call->tokens, call->head_dim);
    size_t block_words = mf_attention_block(call->tokens, call->head_dim);
    float *scratch = call->scratch + heads * head_words;
    size_t count = 0;
    __asm__ volatile("ldtilecfg %0" ::"m"(whole_tiles));
    for (size_t head = 0; head < call->heads; head++) {
        bool last = head + 1 == call->heads || head % heads == heads - 1;
        head16 h = head16_at(call, head, call->scratch + head % heads * head_words);
        pack_keys(&h);
        pack_values(&h);
        for (size_t token = 0; token < call->tokens; token += TILE_SIDE) {
            blocks[count] = block16_at(&h, token, scratch + count * block_words);
            count++;
            if (count == MF_ATTENTION_BLOCKS ||
                (last && token + TILE_SIDE >= call->tokens)) {
                attend_blocks(blocks, count);
                count = 0;
            }
        }
    }
    __asm__ volatile("tilerelease" ::);
}
