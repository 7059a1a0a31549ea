/* kernels_vector.h - private to num/: the vector kernels, written once.
 *
 * A variant defines a vector of MF_LANES floats and what else kernels_rows.h and
 * kernels_attention.h ask for, then includes this file.  It also defines how much fits
 * in its registers:
 *
 *   TILE_ROWS, TILE_VECS   rows and vectors of a tile of the linear layer
 *
 * That does not change a result: each output has one accumulator, and its products are
 * added in rising order of the input.
 *
 * Loops over tile rows and vectors have constant bounds after inlining and are unrolled
 * completely, which keeps the accumulators in registers. */
#include "num/kernels_rows.h"

#include "num/kernels_attention.h"
#include "num/matrix_layout.h"

_Static_assert(MF_PANEL % (TILE_VECS * MF_LANES) == 0, "a panel is a row of tiles");

/* --- functions of one vector ------------------------------------------------------ */

/* The formula of kernels_variants.h. */
INLINE vf gelu(vf x) {
    vf c = vf_mul(x, vf_set(MF_ROOT_HALF));
    c = vf_max(vf_min(c, vf_set(MF_GELU_END)), vf_set(-MF_GELU_END));
    vf t = vf_fma(vf_mul(c, c), vf_set(MF_GELU_TO_T), vf_set(-1.0F));
    vf p = vf_set(mf_gelu_terms[MF_GELU_TERMS - 1]);
    UNROLL
    for (int i = MF_GELU_TERMS - 2; i >= 0; i--) {
        p = vf_fma(p, t, vf_set(mf_gelu_terms[i]));
    }
    vf half = vf_mul(x, vf_set(0.5F));
    return vf_fma(half, vf_mul(c, p), half);
}

/* --- linear layer ----------------------------------------------------------------- */

/* Some rows of x against TILE_VECS vectors of one panel. */
typedef struct tile_call {
    const float *x; /* [rows, inputs] */
    size_t inputs;
    const float *weights; /* in the panel, at the first column of the tile */
    const float *bias;    /* of these columns */
    float *y;             /* result, rows y_stride apart */
    size_t y_stride;
    const float *next; /* what to fetch into the second cache meanwhile ... */
    size_t next_step;  /* ... moving on by this many floats per input */
} tile_call;

/* Weights do not fit in the second cache all together, so every panel comes from
 * further away.  While one is worked on, the next is fetched: each block of rows
 * fetches its share.  Two lines per input keep up even when there is one block only.
 *
 * Rows are reached from one pointer per three of them: fewer pointers than a processor
 * has registers. */
INLINE void tile(size_t rows, const tile_call *call) {
    vf sums[TILE_ROWS][TILE_VECS];
    const float *triples[(TILE_ROWS + 2) / 3];
    const float *weights = call->weights;
    const float *next = call->next;
    const size_t inputs = call->inputs;
    const size_t next_step = call->next_step;
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        if (row % 3 == 0) {
            triples[row / 3] = call->x + row * inputs;
        }
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            sums[row][v] = vf_load(call->bias + v * MF_LANES);
        }
    }
    for (size_t k = 0; k < inputs; k++, next += next_step) {
        vf w[TILE_VECS];
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + MF_LANES, 0, 2);
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            w[v] = vf_load(weights + k * MF_PANEL + v * MF_LANES);
        }
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            vf a = vf_set(triples[row / 3][(row % 3) * inputs + k]);
            UNROLL
            for (size_t v = 0; v < TILE_VECS; v++) {
                sums[row][v] = vf_fma(a, w[v], sums[row][v]);
            }
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < TILE_VECS; v++) {
            vf_store(call->y + row * call->y_stride + v * MF_LANES, sums[row][v]);
        }
    }
}

typedef void tile_function(const tile_call *call);

#define TILE(rows)                                                                     \
    static __attribute__((noinline)) void tile_##rows(const tile_call *call) {         \
        tile(rows, call);                                                              \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#if TILE_ROWS == 12
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#endif

static tile_function *const tiles[TILE_ROWS + 1] = {
    NULL,   tile_1, tile_2, tile_3,  tile_4,  tile_5,  tile_6,
#if TILE_ROWS == 12
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
#endif
};

/* Applies the epilogue to `width` columns of freshly computed rows, still in the first
 * cache.  `y` and `residual` point at the first element. */
static void finish(const mf_linear_call *call, float *y, const float *residual,
                   size_t rows, size_t width, size_t stride) {
    for (size_t row = 0; row < rows; row++) {
        float *line = y + row * stride;
        for (size_t n = 0; n < width; n += MF_LANES) {
            vf value = vf_load(line + n);
            if (call->epilogue == MF_EPILOGUE_GELU) {
                value = gelu(value);
            } else {
                value = vf_add(value, vf_load(residual + row * stride + n));
            }
            vf_store(line + n, value);
        }
    }
}

/* A block of rows that meets one panel. */
typedef struct panel_block {
    size_t panel;
    size_t first; /* row */
    size_t rows;
    const float *next; /* as in tile_call */
    size_t next_step;
} panel_block;

static void run_tiles(const mf_linear_call *call, const panel_block *block, float *y,
                      size_t y_stride) {
    const mf_matrix *matrix = call->matrix;
    tile_call work = {
        .x = call->x + block->first * matrix->inputs,
        .inputs = matrix->inputs,
        .y_stride = y_stride,
        .next = block->next,
        .next_step = block->next_step,
    };
    for (size_t n = 0; n < MF_PANEL; n += TILE_VECS * MF_LANES) {
        work.weights = mf_matrix_panel(matrix, block->panel) + n;
        work.bias = matrix->bias + block->panel * MF_PANEL + n;
        work.y = y + n;
        tiles[block->rows](&work);
    }
}

/* A block against a panel without unused columns. */
static void whole_panel(const mf_linear_call *call, const panel_block *block) {
    size_t stride = call->matrix->outputs;
    size_t at = block->first * stride + block->panel * MF_PANEL;
    run_tiles(call, block, call->y + at, stride);
    if (call->epilogue != MF_EPILOGUE_NONE) {
        const float *residual = call->residual == NULL ? NULL : call->residual + at;
        finish(call, call->y + at, residual, block->rows, MF_PANEL, stride);
    }
}

/* A block by way of buffers as wide as a panel: against a last panel with unused
 * columns, or where y holds a residual that is still needed. */
static void buffered_panel(const mf_linear_call *call, const panel_block *block) {
    size_t stride = call->matrix->outputs;
    size_t at = block->first * stride + block->panel * MF_PANEL;
    size_t rest = stride - block->panel * MF_PANEL;
    size_t bytes = (rest < MF_PANEL ? rest : MF_PANEL) * sizeof(float);
    float wide[TILE_ROWS * MF_PANEL];
    float residual[TILE_ROWS * MF_PANEL] = {0};
    run_tiles(call, block, wide, MF_PANEL);
    if (call->epilogue == MF_EPILOGUE_ADD) {
        for (size_t row = 0; row < block->rows; row++) {
            memcpy(residual + row * MF_PANEL, call->residual + at + row * stride,
                   bytes);
        }
    }
    if (call->epilogue != MF_EPILOGUE_NONE) {
        finish(call, wide, residual, block->rows, MF_PANEL, MF_PANEL);
    }
    for (size_t row = 0; row < block->rows; row++) {
        memcpy(call->y + at + row * stride, wide + row * MF_PANEL, bytes);
    }
}

/* Rows are cut into nearly equal blocks: a last block of one row would leave most of
 * the arithmetic units idle. */
static void linear(const mf_linear_call *call) {
    const mf_matrix *matrix = call->matrix;
    size_t blocks = (call->rows + TILE_ROWS - 1) / TILE_ROWS;
    if (blocks == 0) {
        return;
    }
    for (size_t panel = 0; panel < matrix->panel_count; panel++) {
        bool last = panel + 1 == matrix->panel_count;
        panel_block block = {
            .panel = panel,
            .next = mf_matrix_panel(matrix, last ? panel : panel + 1),
            .next_step = MF_PANEL / (blocks < MF_PANEL ? blocks : MF_PANEL),
        };
        for (size_t i = 0; i < blocks; i++) {
            block.rows = (call->rows - block.first) / (blocks - i);
            if (call->residual == call->y ||
                (last && matrix->outputs % MF_PANEL != 0)) {
                buffered_panel(call, &block);
            } else {
                whole_panel(call, &block);
            }
            block.first += block.rows;
            if (i + 1 < MF_PANEL) { /* with more blocks the last ones fetch again */
                block.next += block.next_step * matrix->inputs;
            }
        }
    }
}
