/* kernels_vector16.h - private to num/: the vector kernels with bf16 products, written
 * once.
 *
 * Included behind kernels_vector.h, whose rules hold here too.  The including file also
 * defines, for MF_LANES words at p, each a pair of bf16 numbers:
 *
 *   pairs_low(p), pairs_high(p)   the numbers of the lower or upper halves, as floats
 *
 * A product of two bf16 numbers fits in a float, so a multiply-add of floats does what
 * the instruction vdpbf16ps does with half a pair.  The instruction takes the upper
 * half first and then the lower one, each with a rounding of its own; so does
 * everything here.  Activations are floats with a lower half of zero, already
 * converted, unless the table has the instruction and packs them in pairs. */
#include "num/matrix16_layout.h"

/* Some rows of x against TILE_VECS vectors of one panel. */
typedef struct tile16_call {
    const float *x; /* rows x_stride apart */
    size_t x_stride;
    size_t pairs;
    const uint32_t *weights; /* in the panel, at the first column of the tile */
    const float *bias;       /* of these columns */
    float *y;                /* result, rows y_stride apart */
    size_t y_stride;
    const uint32_t *next; /* what to fetch into the second cache meanwhile ... */
    size_t next_step;     /* ... moving on by this many words per pair */
} tile16_call;

/* Adds the products of one half of each pair; `half` is 0 for the lower one. */
INLINE void add_half(size_t rows, size_t half, const uint32_t *weights,
                     const float *const *triples, size_t stride, size_t pair,
                     vf sums[TILE_ROWS][TILE_VECS]) {
    vf w[TILE_VECS];
    UNROLL
    for (size_t v = 0; v < TILE_VECS; v++) {
        const uint32_t *p = weights + v * MF_LANES;
        w[v] = half == 1 ? pairs_high(p) : pairs_low(p);
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        vf a = vf_set(triples[row / 3][(row % 3) * stride + 2 * pair + half]);
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            sums[row][v] = vf_fma(a, w[v], sums[row][v]);
        }
    }
}

INLINE void tile16(size_t rows, const tile16_call *call) {
    vf sums[TILE_ROWS][TILE_VECS];
    const float *triples[(TILE_ROWS + 2) / 3];
    const uint32_t *weights = call->weights;
    const uint32_t *next = call->next;
    const size_t stride = call->x_stride;
    const size_t pairs = call->pairs;
    const size_t next_step = call->next_step;
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        if (row % 3 == 0) {
            triples[row / 3] = call->x + row * stride;
        }
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            sums[row][v] = vf_load(call->bias + v * MF_LANES);
        }
    }
    for (size_t pair = 0; pair < pairs; pair++, next += next_step) {
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + MF_LANES, 0, 2);
        add_half(rows, 1, weights, triples, stride, pair, sums);
        add_half(rows, 0, weights, triples, stride, pair, sums);
        weights += MF_PANEL;
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            vf_store(call->y + row * call->y_stride + v * MF_LANES, sums[row][v]);
        }
    }
}

typedef void tile16_function(const tile16_call *call);

#define TILE16(rows)                                                                   \
    static __attribute__((noinline)) void tile16_##rows(const tile16_call *call) {     \
        tile16(rows, call);                                                            \
    }
TILE16(1)
TILE16(2)
TILE16(3)
TILE16(4)
TILE16(5)
TILE16(6)
#if TILE_ROWS == 12
TILE16(7)
TILE16(8)
TILE16(9)
TILE16(10)
TILE16(11)
TILE16(12)
#endif

static tile16_function *const tiles16[TILE_ROWS + 1] = {
    NULL,     tile16_1, tile16_2, tile16_3,  tile16_4,  tile16_5,  tile16_6,
#if TILE_ROWS == 12
    tile16_7, tile16_8, tile16_9, tile16_10, tile16_11, tile16_12,
#endif
};

/* A block of rows that meets one panel. */
typedef struct panel_block16 {
    tile16_function *const *tiles; /* by their number of rows */
    size_t panel;
    size_t first; /* row */
    size_t rows;
    const uint32_t *next; /* as in tile16_call */
    size_t next_step;
} panel_block16;

/* Sums into y, and then their epilogue, while they are in the first cache. */
static void run_tiles16(const mf_linear16_call *call, const panel_block16 *block,
                        const float *residual, float *y, size_t y_stride) {
    const mf_matrix16 *matrix = call->matrix;
    size_t stride = mf_stride16(matrix->inputs);
    for (size_t n = 0; n < MF_PANEL; n += TILE_VECS * MF_LANES) {
        block->tiles[block->rows](&(tile16_call){
            .x = call->x + block->first * stride,
            .x_stride = stride,
            .pairs = matrix->pairs,
            .weights = mf_matrix16_panel(matrix, block->panel) + n,
            .bias = matrix->bias + block->panel * MF_PANEL + n,
            .y = y + n,
            .y_stride = y_stride,
            .next = block->next,
            .next_step = block->next_step,
        });
    }
    if (call->epilogue != MF_EPILOGUE_NONE) {
        finish(&(mf_linear_call){.epilogue = call->epilogue}, y, residual, block->rows,
               MF_PANEL, y_stride);
    }
}

/* A block by way of buffers, as buffered_panel. */
static void buffered_panel16(const mf_linear16_call *call, const panel_block16 *block) {
    size_t stride = call->matrix->outputs;
    size_t at = block->first * stride + block->panel * MF_PANEL;
    size_t rest = stride - block->panel * MF_PANEL;
    size_t bytes = (rest < MF_PANEL ? rest : MF_PANEL) * sizeof(float);
    float wide[TILE_ROWS * MF_PANEL];
    float residual[TILE_ROWS * MF_PANEL] = {0};
    for (size_t row = 0; call->residual != NULL && row < block->rows; row++) {
        memcpy(residual + row * MF_PANEL, call->residual + at + row * stride, bytes);
    }
    run_tiles16(call, block, residual, wide, MF_PANEL);
    for (size_t row = 0; row < block->rows; row++) {
        memcpy(call->y + at + row * stride, wide + row * MF_PANEL, bytes);
    }
}

static void linear16_by(const mf_linear16_call *call, tile16_function *const *by_rows) {
    const mf_matrix16 *matrix = call->matrix;
    size_t blocks = (call->rows + TILE_ROWS - 1) / TILE_ROWS;
    if (blocks == 0) {
        return;
    }
    for (size_t panel = 0; panel < matrix->panel_count; panel++) {
        bool last = panel + 1 == matrix->panel_count;
        panel_block16 block = {
            .tiles = by_rows,
            .panel = panel,
            .next = mf_matrix16_panel(matrix, last ? panel : panel + 1),
            .next_step = MF_PANEL / (blocks < MF_PANEL ? blocks : MF_PANEL),
        };
        for (size_t i = 0; i < blocks; i++) {
            block.rows = (call->rows - block.first) / (blocks - i);
            size_t at = block.first * matrix->outputs + panel * MF_PANEL;
            if (call->residual == call->y ||
                (last && matrix->outputs % MF_PANEL != 0)) {
                buffered_panel16(call, &block);
            } else {
                run_tiles16(call, &block,
                            call->residual == NULL ? NULL : call->residual + at,
                            call->y + at, matrix->outputs);
            }
            block.first += block.rows;
            if (i + 1 < MF_PANEL) { /* with more blocks the last ones fetch again */
                block.next += block.next_step * matrix->pairs;
            }
        }
    }
}

static void linear16(const mf_linear16_call *call) {
    linear16_by(call, tiles16);
}

static void round16(const float *x, size_t rows, size_t width, float *out) {
    size_t stride = mf_stride16(width);
    for (size_t row = 0; row < rows; row++, x += width, out += stride) {
        for (size_t i = 0; i < width; i++) {
            uint32_t bits = mf_bits16(x[i]);
            memcpy(out + i, &bits, sizeof bits);
        }
        for (size_t i = width; i < stride; i++) {
            out[i] = 0.0F;
        }
    }
}
