/* kernels_amx.h - private to num/: the linear layer of 8 bits by tile instructions.
 *
 * Included by kernels_avx512.c behind kernels_vector8.h: sums come from tiles, and what
 * follows them is the very code of AVX-512, so results are the same bits.
 *
 * A panel of weights is read as it lies: 16 steps of MF_STEP8 inputs, for 16 outputs,
 * are a tile.  So are up to 16 rows of activations and 64 of their inputs.  Rows are
 * cut into tiles of one height, which makes one configuration do for a call: the last
 * tile begins earlier if need be, and computes some rows again that are not stored
 * again.
 *
 * Sums become results when a block of one or two tiles of rows has met a panel.  Doing
 * that during the products of the next block gains nothing: tile instructions take one
 * of the two ports that wide vector instructions need.  Nor does fetching weights
 * ahead: the processor sees the pattern by itself. */
#include "num/tiles.h"

enum {
    TILE_INPUTS = 64, /* inputs in a tile */
    TILE_STEPS = 16,  /* rows of a tile of weights */
    TILE_OUTPUTS = 16,
    PANEL_ROW = MF_PANEL8 * MF_STEP8, /* bytes of a step of a panel */
    BLOCK_ROWS = 2 * (int)MF_TILE_ROWS,
    PANEL_VECS = MF_PANEL8 / MF_LANES,
};

_Static_assert(TILE_STEPS == (int)MF_TILE_ROWS, "weights fill the rows of a tile");
_Static_assert(TILE_INPUTS == (int)MF_TILE_BYTES, "activations fill a row of a tile");
_Static_assert(TILE_OUTPUTS == (int)MF_LANES, "a row of sums is a vector");
_Static_assert(MF_STRIDE8 % TILE_INPUTS == 0, "rows of activations are whole tiles");

/* Sums in registers 0..3, activations in 4 and 5, weights in 6 and 7.  Like the other
 * statements with "memory", this one keeps its place among what C code reads and
 * writes. */
static void configure_tiles(size_t height) {
    mf_tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < MF_TILES; i++) {
        shapes.row_bytes[i] = MF_TILE_BYTES;
        shapes.rows[i] = i < 6 ? (uint8_t)height : MF_TILE_ROWS;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}

/* --- products --------------------------------------------------------------------- */

/* One or two tiles of rows against a panel. */
typedef struct tile_block {
    const uint8_t *q[2]; /* first row of each tile, rows q_stride apart */
    size_t q_stride;
    const int8_t *weights;
    size_t whole;           /* tiles of inputs in `weights` */
    const int8_t *rest;     /* one more, padded with zeros; NULL: none */
    const int32_t *offsets; /* every row of sums begins with them: a stride of 0 */
    int32_t *sums[2];       /* [height, MF_PANEL8] of each tile of rows */
} tile_block;

/* Two tiles of activations with two of weights. */
INLINE void multiply_2x2(const uint8_t *q0, const uint8_t *q1, size_t q_stride,
                         const int8_t *weights) {
    __asm__ volatile("tileloadd (%0, %2), %%tmm4\n\t"
                     "tileloadd (%3, %4), %%tmm6\n\t"
                     "tdpbusd %%tmm6, %%tmm4, %%tmm0\n\t"
                     "tileloadd 64(%3, %4), %%tmm7\n\t"
                     "tdpbusd %%tmm7, %%tmm4, %%tmm1\n\t"
                     "tileloadd (%1, %2), %%tmm5\n\t"
                     "tdpbusd %%tmm6, %%tmm5, %%tmm2\n\t"
                     "tdpbusd %%tmm7, %%tmm5, %%tmm3"
                     :
                     : "r"(q0), "r"(q1), "r"(q_stride), "r"(weights),
                       "r"((size_t)PANEL_ROW));
}

/* One tile of activations with four of weights. */
INLINE void multiply_1x4(const uint8_t *q, size_t q_stride, const int8_t *weights) {
    __asm__ volatile("tileloadd (%0, %1), %%tmm4\n\t"
                     "tileloadd (%2, %3), %%tmm6\n\t"
                     "tdpbusd %%tmm6, %%tmm4, %%tmm0\n\t"
                     "tileloadd 64(%2, %3), %%tmm7\n\t"
                     "tdpbusd %%tmm7, %%tmm4, %%tmm1\n\t"
                     "tileloadd 128(%2, %3), %%tmm6\n\t"
                     "tdpbusd %%tmm6, %%tmm4, %%tmm2\n\t"
                     "tileloadd 192(%2, %3), %%tmm7\n\t"
                     "tdpbusd %%tmm7, %%tmm4, %%tmm3"
                     :
                     : "r"(q), "r"(q_stride), "r"(weights), "r"((size_t)PANEL_ROW));
}

static void sums_2x2(const tile_block *b) {
    const size_t sums_stride = MF_PANEL8 * sizeof(int32_t);
    for (size_t n = 0; n < MF_PANEL8; n += 2 * TILE_OUTPUTS) {
        const int8_t *weights = b->weights + n * MF_STEP8;
        __asm__ volatile(
            "tileloadd (%0, %1), %%tmm0\n\ttileloadd 64(%0, %1), %%tmm1\n\t"
            "tileloadd (%0, %1), %%tmm2\n\ttileloadd 64(%0, %1), %%tmm3"
            :
            : "r"(b->offsets + n), "r"((size_t)0)
            : "memory");
        for (size_t k = 0; k < b->whole; k++) {
            multiply_2x2(b->q[0] + k * TILE_INPUTS, b->q[1] + k * TILE_INPUTS,
                         b->q_stride, weights + k * TILE_STEPS * PANEL_ROW);
        }
        if (b->rest != NULL) {
            multiply_2x2(b->q[0] + b->whole * TILE_INPUTS,
                         b->q[1] + b->whole * TILE_INPUTS, b->q_stride,
                         b->rest + n * MF_STEP8);
        }
        __asm__ volatile(
            "tilestored %%tmm0, (%0, %2)\n\ttilestored %%tmm1, 64(%0, %2)\n\t"
            "tilestored %%tmm2, (%1, %2)\n\ttilestored %%tmm3, 64(%1, %2)"
            :
            : "r"(b->sums[0] + n), "r"(b->sums[1] + n), "r"(sums_stride)
            : "memory");
    }
}

static void sums_1x4(const tile_block *b) {
    const size_t sums_stride = MF_PANEL8 * sizeof(int32_t);
    __asm__ volatile("tileloadd (%0, %1), %%tmm0\n\ttileloadd 64(%0, %1), %%tmm1\n\t"
                     "tileloadd 128(%0, %1), %%tmm2\n\ttileloadd 192(%0, %1), %%tmm3"
                     :
                     : "r"(b->offsets), "r"((size_t)0)
                     : "memory");
    for (size_t k = 0; k < b->whole; k++) {
        multiply_1x4(b->q[0] + k * TILE_INPUTS, b->q_stride,
                     b->weights + k * TILE_STEPS * PANEL_ROW);
    }
    if (b->rest != NULL) {
        multiply_1x4(b->q[0] + b->whole * TILE_INPUTS, b->q_stride, b->rest);
    }
    __asm__ volatile("tilestored %%tmm0, (%0, %1)\n\ttilestored %%tmm1, 64(%0, %1)\n\t"
                     "tilestored %%tmm2, 128(%0, %1)\n\ttilestored %%tmm3, 192(%0, %1)"
                     :
                     : "r"(b->sums[0]), "r"(sums_stride)
                     : "memory");
}

/* --- results ---------------------------------------------------------------------- */

/* A block of sums on its way to results. */
typedef struct finish_call {
    mf_epilogue epilogue;
    const int32_t *sums; /* [rows, MF_PANEL8] */
    size_t rows;
    const float *row_scales;
    const float *scales; /* of the panel's columns */
    const float *bias;
    const bool *apart;       /* of the rows, or NULL, as in mf_linear8_call ... */
    const float *apart_bias; /* ... of the panel's columns */
    const float *residual;   /* rows y_stride apart; NULL without MF_EPILOGUE_ADD */
    float *y;
    size_t y_stride;
} finish_call;

INLINE void finish_rows(const finish_call *call, mf_epilogue epilogue) {
    vf scales[PANEL_VECS];
    const finish_call c = *call;
    UNROLL
    for (size_t v = 0; v < PANEL_VECS; v++) {
        scales[v] = vf_load(c.scales + v * MF_LANES);
    }
    for (size_t row = 0; row < c.rows; row++) {
        vf row_scale = vf_set(c.row_scales[row]);
        const float *biases = bias_of(row, c.bias, c.apart, c.apart_bias);
        UNROLL
        for (size_t v = 0; v < PANEL_VECS; v++) {
            size_t at = row * c.y_stride + v * MF_LANES;
            vi sum = _mm512_loadu_si512(c.sums + row * MF_PANEL8 + v * MF_LANES);
            vf scale = vf_mul(row_scale, scales[v]);
            vf bias = vf_load(biases + v * MF_LANES);
            const float *residual =
                epilogue == MF_EPILOGUE_ADD ? c.residual + at : NULL;
            vf_store(c.y + at, result8(epilogue, sum, scale, bias, residual));
        }
    }
}

static __attribute__((noinline)) void finish_none(const finish_call *call) {
    finish_rows(call, MF_EPILOGUE_NONE);
}

static __attribute__((noinline)) void finish_gelu(const finish_call *call) {
    finish_rows(call, MF_EPILOGUE_GELU);
}

static __attribute__((noinline)) void finish_add(const finish_call *call) {
    finish_rows(call, MF_EPILOGUE_ADD);
}

static void finish_block(const finish_call *call) {
    if (call->epilogue == MF_EPILOGUE_GELU) {
        finish_gelu(call);
    } else if (call->epilogue == MF_EPILOGUE_ADD) {
        finish_add(call);
    } else {
        finish_none(call);
    }
}

/* The same for a last panel with only `width` columns in use. */
static void finish_narrow(const finish_call *call, size_t width) {
    float y[BLOCK_ROWS * MF_PANEL8];
    float residual[BLOCK_ROWS * MF_PANEL8] = {0};
    finish_call wide = *call;
    wide.residual = residual;
    wide.y = y;
    wide.y_stride = MF_PANEL8;
    for (size_t row = 0; call->residual != NULL && row < call->rows; row++) {
        memcpy(residual + row * MF_PANEL8, call->residual + row * call->y_stride,
               width * sizeof(float));
    }
    finish_block(&wide);
    for (size_t row = 0; row < call->rows; row++) {
        memcpy(call->y + row * call->y_stride, y + row * MF_PANEL8,
               width * sizeof(float));
    }
}

/* --- the layer -------------------------------------------------------------------- */

/* How a call is cut. */
typedef struct tile_plan {
    size_t count;  /* tiles of rows */
    size_t height; /* rows of each */
    size_t depth;  /* bytes of an output in a panel */
    size_t panels;
} tile_plan;

static tile_plan plan_tiles(const mf_linear8_call *call) {
    size_t count = (call->rows + MF_TILE_ROWS - 1) / MF_TILE_ROWS;
    return (tile_plan){
        .count = count,
        .height = (call->rows + count - 1) / count,
        .depth = (call->matrix->inputs + MF_STEP8 - 1) / MF_STEP8 * MF_STEP8,
        .panels = (call->matrix->outputs + MF_PANEL8 - 1) / MF_PANEL8,
    };
}

/* All rows against one panel, whose last inputs are in `rest` unless that is NULL. */
static void run_panel(const mf_linear8_call *call, const tile_plan *plan, size_t panel,
                      const int8_t *rest) {
    const mf_matrix8 *matrix = call->matrix;
    size_t stride = mf_stride8(matrix->inputs);
    size_t column = panel * MF_PANEL8;
    size_t width = matrix->outputs - column;
    size_t last = call->rows - plan->height; /* where the last tile begins */
    size_t done = 0;
    _Alignas(CACHE_LINE) int32_t sums[BLOCK_ROWS * MF_PANEL8];
    for (size_t tile = 0; tile < plan->count; tile += 2) {
        bool pair = tile + 1 < plan->count;
        size_t first = done < last ? done : last;
        size_t second = first + plan->height < last ? first + plan->height : last;
        size_t end = (pair ? second : first) + plan->height;
        size_t at = done * matrix->outputs + column;
        tile_block block = {
            .q = {call->x.q + first * stride, call->x.q + second * stride},
            .q_stride = stride,
            .weights = matrix->panels + column * plan->depth,
            .whole = plan->depth / TILE_INPUTS,
            .rest = rest,
            .offsets = matrix->offsets + column,
            .sums = {sums, sums + (second - first) * MF_PANEL8},
        };
        if (pair) {
            sums_2x2(&block);
        } else {
            sums_1x4(&block);
        }
        finish_call finish = {
            .epilogue = call->epilogue,
            .sums = sums + (done - first) * MF_PANEL8,
            .rows = end - done,
            .row_scales = call->x.scales + done,
            .scales = matrix->scales + column,
            .bias = matrix->bias + column,
            .apart = call->apart == NULL ? NULL : call->apart + done,
            .apart_bias = call->apart == NULL ? NULL : call->apart_bias + column,
            .residual = call->residual == NULL ? NULL : call->residual + at,
            .y = call->y + at,
            .y_stride = matrix->outputs,
        };
        if (width < MF_PANEL8) {
            finish_narrow(&finish, width);
        } else {
            finish_block(&finish);
        }
        done = end;
    }
}

static void linear8_tiles(const mf_linear8_call *call) {
    const mf_matrix8 *matrix = call->matrix;
    _Alignas(CACHE_LINE) int8_t rest[TILE_STEPS * PANEL_ROW] = {0};
    if (call->rows == 0) {
        return;
    }
    tile_plan plan = plan_tiles(call);
    size_t rest_bytes = plan.depth % TILE_INPUTS * MF_PANEL8;
    configure_tiles(plan.height);
    for (size_t panel = 0; panel < plan.panels; panel++) {
        const int8_t *end = matrix->panels + (panel + 1) * MF_PANEL8 * plan.depth;
        memcpy(rest, end - rest_bytes, rest_bytes);
        run_panel(call, &plan, panel, rest_bytes == 0 ? NULL : rest);
    }
    __asm__ volatile("tilerelease" : : : "memory");
}
