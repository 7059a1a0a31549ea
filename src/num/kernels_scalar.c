/* kernels_scalar.c - the kernels in plain C, for every processor.
 *
 * Norms, attention and 8-bit coding are those of all variants, with a vector that is an
 * array; linear layers are loops of their own.  Everything of a forward pass in 8 bits
 * has the same bits as in the vector variants.  Linear layers of floats have not: they
 * multiply and add in two roundings, since one costs several times as much where the
 * processor has no instruction for it. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "num/kernels_variants.h"
#include "num/matrix16_layout.h"
#include "num/matrix_layout.h"

#define ATTENTION_ROWS 2
#define ATTENTION_VECS 1
#define INLINE static inline
#define UNROLL

/* --- vectors ---------------------------------------------------------------------- */

typedef struct vf {
    float lane[MF_LANES];
} vf;

/* A vector whose lane i is `expression`. */
#define LANES(type, expression)                                                        \
    type result_;                                                                      \
    for (size_t i = 0; i < MF_LANES; i++) {                                            \
        result_.lane[i] = (expression);                                                \
    }                                                                                  \
    return result_

static inline vf vf_load(const float *p) {
    LANES(vf, p[i]);
}

static inline void vf_store(float *p, vf a) {
    memcpy(p, a.lane, sizeof a.lane);
}

static inline vf vf_set(float a) {
    LANES(vf, a);
}

static inline vf vf_add(vf a, vf b) {
    LANES(vf, a.lane[i] + b.lane[i]);
}

static inline vf vf_sub(vf a, vf b) {
    LANES(vf, a.lane[i] - b.lane[i]);
}

static inline vf vf_mul(vf a, vf b) {
    LANES(vf, a.lane[i] * b.lane[i]);
}

/* a b + c, rounded once.  Without an instruction for it: the product is exact in a
 * double.  The sum is made odd in its last bit if it is not exact (the error is Knuth's
 * two-sum), so that the second rounding cannot mistake it for half-way (Boldo and
 * Melquiond 2008). */
static inline float fused(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
    return fmaf(a, b, c);
#else
    double product = (double)a * (double)b;
    double sum = product + (double)c;
    double added = sum - product;
    double error = (product - (sum - added)) + ((double)c - added);
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (error != 0.0 && (bits & 1) == 0) {
        bits += (error > 0.0) == (sum > 0.0) ? 1 : -1;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
#endif
}

static inline vf vf_fma(vf a, vf b, vf c) {
    LANES(vf, fused(a.lane[i], b.lane[i], c.lane[i]));
}

static inline vf vf_max(vf a, vf b) {
    LANES(vf, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}

static inline vf vf_abs(vf a) {
    LANES(vf, fabsf(a.lane[i]));
}

static inline vf vf_max_abs(vf a, vf b) {
    return vf_max(a, vf_abs(b));
}

static inline vf vf_round(vf a) {
    LANES(vf, rintf(a.lane[i]));
}

static inline vf vf_power_of_two(vf n) {
    LANES(vf, ldexpf(1.0F, (int)n.lane[i]));
}

static inline vf vf_fraction(vf a) {
    LANES(vf, a.lane[i] - rintf(a.lane[i]));
}

static inline vf vf_scale(vf a, vf n) {
    LANES(vf, ldexpf(a.lane[i], (int)n.lane[i]));
}

static inline vf vf_cut(vf a, size_t count, float rest) {
    LANES(vf, i < count ? a.lane[i] : rest);
}

static inline float vf_sum(vf a) {
    for (size_t half = MF_LANES / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            a.lane[i] += a.lane[i + half];
        }
    }
    return a.lane[0];
}

static inline float vf_highest(vf a) {
    float highest = a.lane[0];
    for (size_t i = 1; i < MF_LANES; i++) {
        highest = a.lane[i] > highest ? a.lane[i] : highest;
    }
    return highest;
}

static inline void vf_sums(vf v[MF_LANES], float *out) {
    for (size_t i = 0; i < MF_LANES; i++) {
        out[i] = vf_sum(v[i]);
    }
}

static inline void vf_highests(vf v[MF_LANES], float *out) {
    for (size_t i = 0; i < MF_LANES; i++) {
        out[i] = vf_highest(v[i]);
    }
}

static inline void store_u8(uint8_t *p, vf a) {
    for (size_t i = 0; i < MF_LANES; i++) {
        p[i] = (uint8_t)lrintf(a.lane[i]);
    }
}

static inline void store_u8_four(uint8_t *p, const vf v[4]) {
    for (size_t i = 0; i < 4; i++) {
        store_u8(p + i * MF_LANES, v[i]);
    }
}

static inline void store_centred_four(uint8_t *p, const vf v[4]) {
    for (size_t i = 0; i < 4; i++) {
        store_u8(p + i * MF_LANES, vf_add(vf_round(v[i]), vf_set(128.0F)));
    }
}

typedef struct vp {
    uint32_t lane[MF_LANES];
} vp;

static inline vp vp_load(const uint32_t *p) {
    LANES(vp, p[i]);
}

static inline void vp_store(uint32_t *p, vp a) {
    memcpy(p, a.lane, sizeof a.lane);
}

static inline vp vp_zero(void) {
    LANES(vp, 0);
}

static inline uint32_t bits_of(float a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}

static inline vp vp_pack(vf low, vf high) {
    LANES(vp, (bits_of(low.lane[i]) + 0x8000) >> 16 |
                  ((bits_of(high.lane[i]) + 0x8000) & 0xFFFF0000));
}

static inline vf vp_low(vp a) {
    LANES(vf, float_of(a.lane[i] << 16));
}

static inline vf vp_high(vp a) {
    LANES(vf, float_of(a.lane[i] & 0xFFFF0000));
}

static inline void vp_transpose(vp square[MF_LANES]) {
    for (size_t i = 1; i < MF_LANES; i++) {
        for (size_t j = 0; j < i; j++) {
            uint32_t kept = square[i].lane[j];
            square[i].lane[j] = square[j].lane[i];
            square[j].lane[i] = kept;
        }
    }
}

#include "num/kernels_rows.h"

#include "num/kernels_attention.h"

/* --- linear layers ---------------------------------------------------------------- */

static float apply(mf_epilogue epilogue, float value, const float *residual) {
    switch (epilogue) {
    case MF_EPILOGUE_GELU:
        return 0.5F * value * (1.0F + erff(value * 0.70710678F));
    case MF_EPILOGUE_ADD:
        return value + *residual;
    case MF_EPILOGUE_NONE:
        break;
    }
    return value;
}

static void linear(const mf_linear_call *call) {
    const mf_matrix *matrix = call->matrix;
    for (size_t panel = 0; panel < matrix->panel_count; panel++) {
        const float *weights = mf_matrix_panel(matrix, panel);
        size_t first = panel * MF_PANEL;
        size_t width = matrix->outputs - first;
        width = width < MF_PANEL ? width : MF_PANEL;
        for (size_t row = 0; row < call->rows; row++) {
            const float *x = call->x + row * matrix->inputs;
            float sums[MF_PANEL];
            memcpy(sums, matrix->bias + first, sizeof sums);
            for (size_t k = 0; k < matrix->inputs; k++) {
                for (size_t n = 0; n < MF_PANEL; n++) {
                    sums[n] += x[k] * weights[k * MF_PANEL + n];
                }
            }
            size_t at = row * matrix->outputs + first;
            for (size_t n = 0; n < width; n++) {
                const float *residual =
                    call->residual == NULL ? NULL : call->residual + at + n;
                call->y[at + n] = apply(call->epilogue, sums[n], residual);
            }
        }
    }
}

/* --- 8-bit products --------------------------------------------------------------- */

/* One row against one panel.  A sum may pass the range of int32_t on its way, never at
 * its end, so it is kept unsigned. */
static void panel_sums(const mf_matrix8 *matrix, size_t panel, const uint8_t *q,
                       uint32_t sums[MF_PANEL8]) {
    size_t depth = (matrix->inputs + MF_STEP8 - 1) / MF_STEP8 * MF_STEP8;
    const int8_t *weights = matrix->panels + panel * MF_PANEL8 * depth;
    for (size_t n = 0; n < MF_PANEL8; n++) {
        sums[n] = (uint32_t)matrix->offsets[panel * MF_PANEL8 + n];
    }
    for (size_t k = 0; k < depth; k += MF_STEP8, weights += MF_PANEL8 * MF_STEP8) {
        for (size_t n = 0; n < MF_PANEL8; n++) {
            int32_t sum = 0;
            for (size_t i = 0; i < MF_STEP8; i++) {
                sum += (int32_t)q[k + i] * (int32_t)weights[n * MF_STEP8 + i];
            }
            sums[n] += (uint32_t)sum;
        }
    }
}

/* The formula of kernels_variants.h. */
static float gelu8(float x) {
    float c = fmaxf(fminf(x, MF_GELU8_END), -MF_GELU8_END);
    float t = fused(c * c, MF_GELU8_TO_T, -1.0F);
    float p = mf_gelu8_terms[MF_GELU8_TERMS - 1];
    for (int i = MF_GELU8_TERMS - 2; i >= 0; i--) {
        p = fused(p, t, mf_gelu8_terms[i]);
    }
    return fused(x, c * p, x * 0.5F);
}

static void linear8(const mf_linear8_call *call) {
    const mf_matrix8 *matrix = call->matrix;
    for (size_t first = 0; first < matrix->outputs; first += MF_PANEL8) {
        size_t width = matrix->outputs - first;
        width = width < MF_PANEL8 ? width : MF_PANEL8;
        for (size_t row = 0; row < call->rows; row++) {
            uint32_t sums[MF_PANEL8];
            panel_sums(matrix, first / MF_PANEL8,
                       call->x.q + row * mf_stride8(matrix->inputs), sums);
            size_t at = row * matrix->outputs + first;
            bool apart = call->apart != NULL && call->apart[row];
            const float *bias = (apart ? call->apart_bias : matrix->bias) + first;
            for (size_t n = 0; n < width; n++) {
                float scale = call->x.scales[row] * matrix->scales[first + n];
                float value = fused((float)(int32_t)sums[n], scale, bias[n]);
                const float *residual =
                    call->residual == NULL ? NULL : call->residual + at + n;
                call->y[at + n] = call->epilogue == MF_EPILOGUE_GELU
                                      ? gelu8(value)
                                      : apply(call->epilogue, value, residual);
            }
        }
    }
}

/* --- bf16 products ---------------------------------------------------------------- */

static void round16(const float *x, size_t rows, size_t width, float *out) {
    size_t stride = mf_stride16(width);
    for (size_t row = 0; row < rows; row++, x += width, out += stride) {
        memset(out, 0, stride * sizeof *out);
        for (size_t i = 0; i < width; i++) {
            out[i] = float_of(mf_bits16(x[i]));
        }
    }
}

/* One row against one output, whose words are MF_PANEL apart. */
static float dot16(const float *x, const uint32_t *words, size_t pairs, float sum) {
    for (size_t pair = 0; pair < pairs; pair++, words += MF_PANEL) {
        sum = fused(x[2 * pair + 1], float_of(*words & 0xFFFF0000), sum);
        sum = fused(x[2 * pair], float_of(*words << 16), sum);
    }
    return sum;
}

/* The formula of kernels_variants.h. */
static float gelu(float x) {
    float c = fmaxf(fminf(x * MF_ROOT_HALF, MF_GELU_END), -MF_GELU_END);
    float t = fused(c * c, MF_GELU_TO_T, -1.0F);
    float p = mf_gelu_terms[MF_GELU_TERMS - 1];
    for (int i = MF_GELU_TERMS - 2; i >= 0; i--) {
        p = fused(p, t, mf_gelu_terms[i]);
    }
    return fused(x * 0.5F, c * p, x * 0.5F);
}

static void linear16(const mf_linear16_call *call) {
    const mf_matrix16 *matrix = call->matrix;
    size_t stride = mf_stride16(matrix->inputs);
    for (size_t n = 0; n < matrix->outputs; n++) {
        const uint32_t *words = mf_matrix16_panel(matrix, n / MF_PANEL) + n % MF_PANEL;
        for (size_t row = 0; row < call->rows; row++) {
            size_t at = row * matrix->outputs + n;
            float value =
                dot16(call->x + row * stride, words, matrix->pairs, matrix->bias[n]);
            const float *residual = call->residual == NULL ? NULL : call->residual + at;
            call->y[at] = call->epilogue == MF_EPILOGUE_GELU
                              ? gelu(value)
                              : apply(call->epilogue, value, residual);
        }
    }
}

const mf_kernels mf_kernels_scalar = {
    .level = MF_CPU_SCALAR,
    .linear = linear,
    .layer_norm = layer_norm,
    .attention = attention,
    .attention16 = attention16,
    .quantize = quantize,
    .layer_norm8 = layer_norm8,
    .linear8 = linear8,
    .round16 = round16,
    .linear16 = linear16,
    .all_finite = all_finite,
};
