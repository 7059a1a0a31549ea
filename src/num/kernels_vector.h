/* kernels_vector.h - private to num/: the vector kernels, written once.
 *
 * kernels_avx2.c and kernels_avx512.c each define a vector of MF_LANES floats, `vf`,
 * with its operations, then include this file.  AVX-512 holds a vf in one register and
 * AVX2 in two, but every lane goes through the same operations in the same order, so
 * both give the same bits.  They also define how much fits in their registers:
 *
 *   TILE_ROWS, TILE_VECS   rows and vectors of a tile of the linear layer
 *   ATTENTION_ROWS         queries of one attention step, at most MF_ATTENTION_ROWS
 *
 * None of these changes a result: each output has one accumulator, and its products are
 * added in rising order of the input.
 *
 * Loops over tile rows and vectors have constant bounds after inlining and are unrolled
 * completely, which keeps the accumulators in registers. */
#include <math.h>
#include <string.h>

#include "num/kernels_variants.h"
#include "num/matrix_layout.h"

_Static_assert(MF_PANEL % (TILE_VECS * MF_LANES) == 0, "a panel is a row of tiles");
_Static_assert(MF_ATTENTION_STEP == 2 * MF_LANES, "attention works on two vectors");
_Static_assert(ATTENTION_ROWS <= MF_ATTENTION_ROWS, "the scratch holds the score rows");

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE vf vf_abs(vf a) {
    return vf_max(a, vf_sub(vf_set(0.0F), a));
}

/* --- functions of one vector ------------------------------------------------------ */

/* erf(c) is c * P(c^2) on [-3.9, 3.9], beyond which it is 1 to half a unit of float
 * precision; P is a Chebyshev fit of degree 14 in t = 2 (c / 3.9)^2 - 1.  Absolute
 * error of the result, rounding included: below 3e-7. */
INLINE vf gelu(vf x) {
    static const float P[] = {
        3.625839949e-01F, -1.810115129e-01F, 1.346885264e-01F, -1.095148548e-01F,
        9.071464092e-02F, -7.400824130e-02F, 5.761618167e-02F, -4.173383489e-02F,
        3.002080694e-02F, -2.226450667e-02F, 1.220243704e-02F, -3.365928307e-03F,
        2.961378545e-03F, -4.085471388e-03F, 1.606646925e-03F,
    };
    vf c = vf_mul(x, vf_set(0.70710678F));
    c = vf_max(vf_min(c, vf_set(3.9F)), vf_set(-3.9F));
    vf t = vf_fma(vf_mul(c, c), vf_set(1.314924359e-01F), vf_set(-1.0F));
    vf p = vf_set(P[14]);
    UNROLL
    for (int i = 13; i >= 0; i--) {
        p = vf_fma(p, t, vf_set(P[i]));
    }
    vf half = vf_mul(x, vf_set(0.5F));
    return vf_fma(half, vf_mul(c, p), half);
}

/* e^x for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by a polynomial, 2^n by the
 * exponent bits.  ln 2 is split in two so that r is exact.  Relative error below 1e-7;
 * x below -87 gives e^-87, about 1e-38. */
INLINE vf exp_negative(vf x) {
    x = vf_max(x, vf_set(-87.0F));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504F)));
    vf r = vf_fma(n, vf_set(-0.693359375F), x);
    r = vf_fma(n, vf_set(2.12194440e-4F), r);
    vf p = vf_set(1.394869993e-03F);
    p = vf_fma(p, r, vf_set(8.375212550e-03F));
    p = vf_fma(p, r, vf_set(4.166621715e-02F));
    p = vf_fma(p, r, vf_set(1.666641384e-01F));
    p = vf_fma(p, r, vf_set(0.5F));
    p = vf_fma(p, r, vf_set(1.0F));
    p = vf_fma(p, r, vf_set(1.0F));
    return vf_mul(p, vf_power_of_two(n));
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

/* A block against a last panel with unused columns, by way of buffers as wide as a
 * panel. */
static void narrow_panel(const mf_linear_call *call, const panel_block *block) {
    size_t stride = call->matrix->outputs;
    size_t at = block->first * stride + block->panel * MF_PANEL;
    size_t bytes = (stride - block->panel * MF_PANEL) * sizeof(float);
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
            if (last && matrix->outputs % MF_PANEL != 0) {
                narrow_panel(call, &block);
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

/* --- layer norm ------------------------------------------------------------------- */

typedef struct moments {
    vf mean;
    vf factor; /* one over the standard deviation */
} moments;

/* Four sums side by side: each addition waits for the one before it. */
INLINE moments row_moments(const float *x, size_t width, float epsilon) {
    vf sums[4] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    vf squares[4] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    size_t fours = width / (4 * MF_LANES) * (4 * MF_LANES);
    for (size_t i = 0; i < fours; i += 4 * MF_LANES) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            sums[j] = vf_add(sums[j], vf_load(x + i + j * MF_LANES));
        }
    }
    for (size_t i = fours; i < width; i += MF_LANES) {
        sums[0] = vf_add(sums[0], vf_load(x + i));
    }
    vf sum = vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3]));
    vf mean = vf_set(vf_sum(sum) / (float)width);
    for (size_t i = 0; i < fours; i += 4 * MF_LANES) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            vf off = vf_sub(vf_load(x + i + j * MF_LANES), mean);
            squares[j] = vf_fma(off, off, squares[j]);
        }
    }
    for (size_t i = fours; i < width; i += MF_LANES) {
        vf off = vf_sub(vf_load(x + i), mean);
        squares[0] = vf_fma(off, off, squares[0]);
    }
    vf square = vf_add(vf_add(squares[0], squares[1]), vf_add(squares[2], squares[3]));
    float variance = vf_sum(square) / (float)width;
    return (moments){mean, vf_set(1.0F / sqrtf(variance + epsilon))};
}

INLINE vf normed(const float *x, moments m, const float *gain, const float *bias) {
    vf scaled = vf_mul(vf_sub(vf_load(x), m.mean), m.factor);
    return vf_fma(scaled, vf_load(gain), vf_load(bias));
}

static void layer_norm(const float *x, size_t rows, size_t width, const float *gain,
                       const float *bias, float epsilon, float *y) {
    for (size_t row = 0; row < rows; row++, x += width, y += width) {
        moments m = row_moments(x, width, epsilon);
        for (size_t i = 0; i < width; i += MF_LANES) {
            vf_store(y + i, normed(x + i, m, gain + i, bias + i));
        }
    }
}

/* --- attention -------------------------------------------------------------------- */

/* keys [tokens, stride] to keys_t [dim, padded]; columns beyond the last token zero. */
static void transpose_keys(const float *keys, size_t stride, size_t tokens, size_t dim,
                           float *keys_t, size_t padded) {
    for (size_t d = 0; d < dim; d++) {
        float *line = keys_t + d * padded;
        for (size_t j = 0; j < tokens; j++) {
            line[j] = keys[j * stride + d];
        }
        for (size_t j = tokens; j < padded; j++) {
            line[j] = 0.0F;
        }
    }
}

/* scores[row] = scale * (query row . every key), for `rows` queries that lie `stride`
 * apart. */
INLINE void score_rows(size_t rows, const float *queries, size_t stride, float scale,
                       const float *keys_t, size_t padded, size_t dim, float *scores) {
    for (size_t j = 0; j < padded; j += MF_ATTENTION_STEP) {
        vf sums[ATTENTION_ROWS][2];
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            sums[row][0] = vf_set(0.0F);
            sums[row][1] = vf_set(0.0F);
        }
        for (size_t d = 0; d < dim; d++) {
            vf k0 = vf_load(keys_t + d * padded + j);
            vf k1 = vf_load(keys_t + d * padded + j + MF_LANES);
            UNROLL
            for (size_t row = 0; row < rows; row++) {
                vf q = vf_set(queries[row * stride + d]);
                sums[row][0] = vf_fma(q, k0, sums[row][0]);
                sums[row][1] = vf_fma(q, k1, sums[row][1]);
            }
        }
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            float *place = scores + row * padded + j;
            vf_store(place, vf_mul(sums[row][0], vf_set(scale)));
            vf_store(place + MF_LANES, vf_mul(sums[row][1], vf_set(scale)));
        }
    }
}

/* Adds to the scores of one query what the distances of its keys add. */
static void add_relative(const float *relative, size_t tokens, float *scores) {
    size_t j = 0;
    for (; j + MF_LANES <= tokens; j += MF_LANES) {
        vf_store(scores + j, vf_add(vf_load(scores + j), vf_load(relative + j)));
    }
    for (; j < tokens; j++) {
        scores[j] += relative[j];
    }
}

/* Turns rows of scores into e^(score - largest), and gives one over their sums.
 * Padding up to a whole vector is given a score so low that it adds nothing.  Rows go
 * side by side: each step of one waits for the step before it. */
INLINE void soften(size_t rows, float *scores, size_t stride, size_t tokens,
                   float inverse[ATTENTION_ROWS]) {
    size_t padded = (tokens + MF_LANES - 1) / MF_LANES * MF_LANES;
    vf largest[ATTENTION_ROWS];
    vf sums[ATTENTION_ROWS];
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        for (size_t j = tokens; j < padded; j++) {
            scores[row * stride + j] = -INFINITY;
        }
        largest[row] = vf_load(scores + row * stride);
        sums[row] = vf_set(0.0F);
    }
    for (size_t j = MF_LANES; j < padded; j += MF_LANES) {
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            largest[row] = vf_max(largest[row], vf_load(scores + row * stride + j));
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        largest[row] = vf_set(vf_highest(largest[row]));
    }
    for (size_t j = 0; j < padded; j += MF_LANES) {
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            float *place = scores + row * stride + j;
            vf weight = exp_negative(vf_sub(vf_load(place), largest[row]));
            vf_store(place, weight);
            sums[row] = vf_add(sums[row], weight);
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        inverse[row] = 1.0F / vf_sum(sums[row]);
    }
}

/* context[row] = inverse[row] * (weights[row] . values), MF_LANES columns at a time. */
INLINE void mix_values(size_t rows, const float *weights, size_t padded,
                       const float *inverse, const float *values, size_t stride,
                       size_t tokens, float *context, size_t context_stride) {
    vf sums[ATTENTION_ROWS];
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        sums[row] = vf_set(0.0F);
    }
    for (size_t j = 0; j < tokens; j++) {
        vf value = vf_load(values + j * stride);
        UNROLL
        for (size_t row = 0; row < rows; row++) {
            sums[row] = vf_fma(vf_set(weights[row * padded + j]), value, sums[row]);
        }
    }
    UNROLL
    for (size_t row = 0; row < rows; row++) {
        vf_store(context + row * context_stride,
                 vf_mul(sums[row], vf_set(inverse[row])));
    }
}

/* `rows` queries of one head, from `token` on, against the keys in the scratch. */
INLINE void attend(size_t rows, const mf_attention_call *call, size_t head,
                   size_t token) {
    size_t dim = call->head_dim;
    size_t hidden = call->heads * dim;
    size_t stride = 3 * hidden;
    size_t padded = mf_attention_padded(call->tokens);
    float *scores = call->scratch + dim * padded;
    const float *queries = call->qkv + token * stride + head * dim;
    const float *values = call->qkv + 2 * hidden + head * dim;
    float *context = call->context + token * hidden + head * dim;
    float inverse[ATTENTION_ROWS];
    float scale = 1.0F / sqrtf((float)dim);
    score_rows(rows, queries, stride, scale, call->scratch, padded, dim, scores);
    for (size_t row = 0; call->relative != NULL && row < rows; row++) {
        add_relative(mf_attention_relative(call, head, token + row), call->tokens,
                     scores + row * padded);
    }
    soften(rows, scores, padded, call->tokens, inverse);
    for (size_t d = 0; d < dim; d += MF_LANES) {
        mix_values(rows, scores, padded, inverse, values + d, stride, call->tokens,
                   context + d, hidden);
    }
}

typedef void attend_function(const mf_attention_call *call, size_t head, size_t token);

#define ATTEND(rows)                                                                   \
    static __attribute__((noinline)) void attend_##rows(const mf_attention_call *call, \
                                                        size_t head, size_t token) {   \
        attend(rows, call, head, token);                                               \
    }
ATTEND(1)
ATTEND(2)
#if ATTENTION_ROWS == 6
ATTEND(3)
ATTEND(4)
ATTEND(5)
ATTEND(6)
#endif

static attend_function *const attends[ATTENTION_ROWS + 1] = {
    NULL,     attend_1, attend_2,
#if ATTENTION_ROWS == 6
    attend_3, attend_4, attend_5, attend_6,
#endif
};

static void attention(const mf_attention_call *call) {
    size_t hidden = call->heads * call->head_dim;
    for (size_t head = 0; head < call->heads; head++) {
        transpose_keys(call->qkv + hidden + head * call->head_dim, 3 * hidden,
                       call->tokens, call->head_dim, call->scratch,
                       mf_attention_padded(call->tokens));
        for (size_t token = 0; token < call->tokens; token += ATTENTION_ROWS) {
            size_t rest = call->tokens - token;
            attends[rest < ATTENTION_ROWS ? rest : ATTENTION_ROWS](call, head, token);
        }
    }
}

/* --- weights ---------------------------------------------------------------------- */

/* x - x is 0 for a finite number and NaN for all others, and NaN survives addition. */
static bool all_finite(const float *v, size_t count) {
    vf sum = vf_set(0.0F);
    size_t i = 0;
    for (; i + MF_LANES <= count; i += MF_LANES) {
        vf x = vf_load(v + i);
        sum = vf_add(sum, vf_sub(x, x));
    }
    float rest = 0.0F;
    for (; i < count; i++) {
        rest += v[i] - v[i];
    }
    return vf_sum(sum) + rest == 0.0F;
}
