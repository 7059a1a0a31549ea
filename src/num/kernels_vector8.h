/* kernels_vector8.h - private to num/: the 8-bit vector kernels, written once.
 *
 * Included by every vector variant behind kernels_vector.h, whose rules hold here too.
 * Each also defines, for MF_LANES sums of 32 bits side by side:
 *
 *   vi, vf_from_vi              the sums, turning them into floats
 *   vi_start                    where they start: offsets, and what activations of
 *                               another zero make up for with the sums of weights
 *   act8, act8_load             four activations, the same for every lane
 *   wgt8, wgt8_load             four weights for each lane, 64 bytes of a panel
 *   DOT8(sum, act, wgt)         adds the four products of each lane to `sum`
 *   store_u8                    the nearest whole numbers, 0..255, as MF_LANES bytes
 *   TILE8_ROWS, TILE8_VECS      rows and vectors of a tile
 *
 * Sums are integers, so their order does not matter: every variant, plain C included,
 * has the same sums.  What follows them is in floats and in one order. */
#include "num/matrix8.h"

_Static_assert(MF_PANEL8 % (TILE8_VECS * MF_LANES) == 0, "a panel is a row of tiles");
_Static_assert(MF_STRIDE8 % MF_STEP8 == 0, "a row of activations is whole steps");

enum { CACHE_LINE = 64 };

/* --- linear layer ----------------------------------------------------------------- */

/* The formula of kernels_variants.h. */
INLINE vf gelu8(vf x) {
    vf c = vf_max(vf_min(x, vf_set(MF_GELU8_END)), vf_set(-MF_GELU8_END));
    vf t = vf_fma(vf_mul(c, c), vf_set(MF_GELU8_TO_T), vf_set(-1.0F));
    vf p = vf_set(mf_gelu8_terms[MF_GELU8_TERMS - 1]);
    UNROLL
    for (int i = MF_GELU8_TERMS - 2; i >= 0; i--) {
        p = vf_fma(p, t, vf_set(mf_gelu8_terms[i]));
    }
    return vf_fma(x, vf_mul(c, p), vf_mul(x, vf_set(0.5F)));
}

/* Some rows of activations against TILE8_VECS vectors of one panel. */
typedef struct tile8_call {
    const uint8_t *q; /* rows q_stride apart */
    size_t q_stride;
    const float *row_scales;
    size_t steps;          /* of MF_STEP8 inputs */
    const int8_t *weights; /* in the panel, at the first column of the tile */
    const float *scales;   /* of these columns, as are the next three */
    const float *bias;
    const int32_t *offsets;
    const int32_t *sums;
    const bool *apart;       /* of these rows, or NULL, as in mf_linear8_call ... */
    const float *apart_bias; /* ... of these columns */
    const float *residual;   /* rows y_stride apart; NULL without MF_EPILOGUE_ADD */
    float *y;
    size_t y_stride;
    const int8_t *next; /* what to fetch into the second cache meanwhile ... */
    size_t next_step;   /* ... moving on by this many bytes per step */
} tile8_call;

/* The bias of a row, where rows with `apart` have another one. */
INLINE const float *bias_of(size_t row, const float *bias, const bool *apart,
                            const float *apart_bias) {
    return apart != NULL && apart[row] ? apart_bias : bias;
}

/* From a vector of sums to results; `residual` matters for MF_EPILOGUE_ADD only. */
INLINE vf result8(mf_epilogue epilogue, vi sum, vf scale, vf bias,
                  const float *residual) {
    vf value = vf_fma(vf_from_vi(sum), scale, bias);
    if (epilogue == MF_EPILOGUE_GELU) {
        return gelu8(value);
    }
    return epilogue == MF_EPILOGUE_ADD ? vf_add(value, vf_load(residual)) : value;
}

INLINE void finish8(const tile8_call *call, mf_epilogue epilogue, size_t row, size_t v,
                    vi sum) {
    size_t column = v * MF_LANES;
    size_t at = row * call->y_stride + column;
    vf scale = vf_mul(vf_set(call->row_scales[row]), vf_load(call->scales + column));
    const float *bias = bias_of(row, call->bias, call->apart, call->apart_bias);
    const float *residual = epilogue == MF_EPILOGUE_ADD ? call->residual + at : NULL;
    vf_store(call->y + at,
             result8(epilogue, sum, scale, vf_load(bias + column), residual));
}

INLINE void tile8(size_t rows, mf_epilogue epilogue, const tile8_call *call) {
    vi sums[TILE8_ROWS][TILE8_VECS];
    const uint8_t *triples[(TILE8_ROWS + 2) / 3];
    const size_t stride = call->q_stride;
    const int8_t *weights = call->weights;
    const int8_t *next = call->next;
    const size_t next_step = call->next_step;
    const size_t steps = call->steps;
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        if (row % 3 == 0) {
            triples[row / 3] = call->q + row * stride;
        }
        UNROLL
        for (size_t v = 0; v < TILE8_VECS; v++) {
            sums[row][v] =
                vi_start(call->offsets + v * MF_LANES, call->sums + v * MF_LANES);
        }
    }
    for (size_t step = 0; step < steps; step++, next += next_step) {
        wgt8 w[TILE8_VECS];
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + CACHE_LINE, 0, 2);
        UNROLL
        for (size_t v = 0; v < TILE8_VECS; v++) {
            w[v] = wgt8_load(weights + v * MF_LANES * MF_STEP8);
        }
        weights += MF_PANEL8 * MF_STEP8;
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            act8 a = act8_load(triples[row / 3] + (row % 3) * stride + step * MF_STEP8);
            UNROLL
            for (size_t v = 0; v < TILE8_VECS; v++) {
                DOT8(sums[row][v], a, w[v]);
            }
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        UNROLL
        for (size_t v = 0; v < TILE8_VECS; v++) {
            finish8(call, epilogue, row, v, sums[row][v]);
        }
    }
}

typedef void tile8_function(const tile8_call *call);

/* One function per number of rows and epilogue: constants of an epilogue must not take
 * registers from the loop of another. */
#define TILE8(rows)                                                                    \
    static __attribute__((noinline)) void tile8_##rows##_none(const tile8_call *c) {   \
        tile8(rows, MF_EPILOGUE_NONE, c);                                              \
    }                                                                                  \
    static __attribute__((noinline)) void tile8_##rows##_gelu(const tile8_call *c) {   \
        tile8(rows, MF_EPILOGUE_GELU, c);                                              \
    }                                                                                  \
    static __attribute__((noinline)) void tile8_##rows##_add(const tile8_call *c) {    \
        tile8(rows, MF_EPILOGUE_ADD, c);                                               \
    }
TILE8(1)
TILE8(2)
TILE8(3)
TILE8(4)
#if TILE8_ROWS == 6
TILE8(5)
TILE8(6)
#endif

#define TILE8_ROW(rows)                                                                \
    { tile8_##rows##_none, tile8_##rows##_gelu, tile8_##rows##_add }
static tile8_function *const tiles8[TILE8_ROWS][MF_EPILOGUE_ADD + 1] = {
    TILE8_ROW(1), TILE8_ROW(2), TILE8_ROW(3), TILE8_ROW(4),
#if TILE8_ROWS == 6
    TILE8_ROW(5), TILE8_ROW(6),
#endif
};

/* A block of rows that meets one panel. */
typedef struct panel_block8 {
    size_t panel;
    size_t first; /* row */
    size_t rows;
    const int8_t *next; /* as in tile8_call */
    size_t next_step;
} panel_block8;

static void run_tiles8(const mf_linear8_call *call, const panel_block8 *block,
                       const float *residual, float *y, size_t y_stride) {
    const mf_matrix8 *matrix = call->matrix;
    size_t stride = mf_stride8(matrix->inputs);
    size_t steps = (matrix->inputs + MF_STEP8 - 1) / MF_STEP8;
    for (size_t n = 0; n < MF_PANEL8; n += TILE8_VECS * MF_LANES) {
        size_t column = block->panel * MF_PANEL8 + n;
        tiles8[block->rows - 1][call->epilogue](&(tile8_call){
            .q = call->x.q + block->first * stride,
            .q_stride = stride,
            .row_scales = call->x.scales + block->first,
            .steps = steps,
            .weights = matrix->panels + block->panel * MF_PANEL8 * MF_STEP8 * steps +
                       n * MF_STEP8,
            .scales = matrix->scales + column,
            .bias = matrix->bias + column,
            .offsets = matrix->offsets + column,
            .sums = matrix->sums + column,
            .apart = call->apart == NULL ? NULL : call->apart + block->first,
            .apart_bias = call->apart == NULL ? NULL : call->apart_bias + column,
            .residual = residual == NULL ? NULL : residual + n,
            .y = y + n,
            .y_stride = y_stride,
            .next = block->next,
            .next_step = block->next_step,
        });
    }
}

/* A block against a last panel with unused columns, by way of buffers as wide as a
 * panel. */
static void narrow_panel8(const mf_linear8_call *call, const panel_block8 *block) {
    size_t stride = call->matrix->outputs;
    size_t at = block->first * stride + block->panel * MF_PANEL8;
    size_t bytes = (stride - block->panel * MF_PANEL8) * sizeof(float);
    float wide[TILE8_ROWS * MF_PANEL8];
    float residual[TILE8_ROWS * MF_PANEL8] = {0};
    for (size_t row = 0; call->residual != NULL && row < block->rows; row++) {
        memcpy(residual + row * MF_PANEL8, call->residual + at + row * stride, bytes);
    }
    run_tiles8(call, block, residual, wide, MF_PANEL8);
    for (size_t row = 0; row < block->rows; row++) {
        memcpy(call->y + at + row * stride, wide + row * MF_PANEL8, bytes);
    }
}

/* Weights that do not fit in the second cache come from further away: while a panel is
 * worked on, the next one is fetched, each block of rows fetching its share. */
static void plan_fetch(panel_block8 *block, const mf_matrix8 *matrix, size_t index,
                       size_t blocks, size_t panel_bytes) {
    bool last = (block->panel + 1) * MF_PANEL8 >= matrix->outputs;
    size_t steps = panel_bytes / (MF_PANEL8 * MF_STEP8);
    size_t shares = blocks < CACHE_LINE ? blocks : CACHE_LINE;
    block->next_step = MF_PANEL8 * MF_STEP8 / shares;
    block->next = matrix->panels + (block->panel + (last ? 0 : 1)) * panel_bytes +
                  index % shares * block->next_step * steps;
}

static void linear8(const mf_linear8_call *call) {
    const mf_matrix8 *matrix = call->matrix;
    size_t blocks = (call->rows + TILE8_ROWS - 1) / TILE8_ROWS;
    size_t panels = (matrix->outputs + MF_PANEL8 - 1) / MF_PANEL8;
    size_t panel_bytes =
        (matrix->inputs + MF_STEP8 - 1) / MF_STEP8 * MF_STEP8 * MF_PANEL8;
    for (size_t panel = 0; panel < panels; panel++) {
        bool narrow = (panel + 1) * MF_PANEL8 > matrix->outputs;
        panel_block8 block = {.panel = panel};
        for (size_t i = 0; i < blocks; i++) {
            block.rows = (call->rows - block.first) / (blocks - i);
            plan_fetch(&block, matrix, i, blocks, panel_bytes);
            size_t at = block.first * matrix->outputs + panel * MF_PANEL8;
            if (narrow) {
                narrow_panel8(call, &block);
            } else {
                const float *residual =
                    call->residual == NULL ? NULL : call->residual + at;
                run_tiles8(call, &block, residual, call->y + at, matrix->outputs);
            }
            block.first += block.rows;
        }
    }
}
