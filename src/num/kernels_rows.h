/* kernels_rows.h - private to num/: norms and 8-bit coding of rows, written once.
 *
 * Every variant, plain C included, defines a vector of MF_LANES floats, `vf`, and then
 * includes this file:
 *
 *   vf_load, vf_store, vf_set         from and to memory; one number in all lanes
 *   vf_add, vf_sub, vf_mul            lane by lane, rounded once each ...
 *   vf_fma(a, b, c)                   ... as is a b + c
 *   vf_max, vf_abs
 *   vf_max_abs(a, b)                  the larger of a, which is not negative, and |b|
 *   vf_round                          to the nearest whole number, half to even
 *   vf_sum, vf_highest                one number of all lanes; sums add halves until
 *                                     one lane is left
 *   vf_sums(v, out), vf_highests      those of MF_LANES vectors, which are used up
 *   store_u8(p, a)                    the nearest whole numbers, 0..255, as bytes
 *   store_u8_four(p, v)               the same of four vectors
 *   store_centred_four(p, v)          of four vectors, -127..127, plus 128
 *
 * A variant holds a vf in one register, in several, or in memory, but every lane goes
 * through the same operations in the same order, so all give the same bits. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "num/kernels_variants.h"

#ifndef INLINE /* plain C has its own, since it keeps vectors in memory */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { FOUR = 4 * MF_LANES };

/* --- 8-bit coding ----------------------------------------------------------------- */

/* The factor from numbers of magnitude `range` to whole ones up to `most`. */
INLINE float coding_factor(float range, float most) {
    return range < MF_TINY8 ? 0.0F : most / range;
}

/* And the scale back. */
INLINE float coding_scale(float range, float most) {
    return range < MF_TINY8 ? 0.0F : range / most;
}

/* The largest of v's magnitudes.  Four at a time: each waits for the one before it. */
static float largest_magnitude(const float *v, size_t width) {
    vf most[4] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            most[j] = vf_max_abs(most[j], vf_load(v + i + j * MF_LANES));
        }
    }
    for (; i + MF_LANES <= width; i += MF_LANES) {
        most[0] = vf_max_abs(most[0], vf_load(v + i));
    }
    float largest =
        vf_highest(vf_max(vf_max(most[0], most[1]), vf_max(most[2], most[3])));
    for (; i < width; i++) {
        largest = fmaxf(largest, fabsf(v[i]));
    }
    return largest;
}

/* The largest of v's numbers and MF_GELU_LOW. */
static float largest_gelu(const float *v, size_t width) {
    vf low = vf_set(MF_GELU_LOW);
    vf most[4] = {low, low, low, low};
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            most[j] = vf_max(most[j], vf_load(v + i + j * MF_LANES));
        }
    }
    for (; i + MF_LANES <= width; i += MF_LANES) {
        most[0] = vf_max(most[0], vf_load(v + i));
    }
    float largest =
        vf_highest(vf_max(vf_max(most[0], most[1]), vf_max(most[2], most[3])));
    for (; i < width; i++) {
        largest = fmaxf(largest, v[i]);
    }
    return largest;
}

static void code_centred(const float *v, size_t width, float factor, uint8_t *out) {
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        vf q[4];
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            q[j] = vf_mul(vf_load(v + i + j * MF_LANES), vf_set(factor));
        }
        store_centred_four(out + i, q);
    }
    for (; i < width; i++) {
        out[i] = (uint8_t)(128 + lrintf(v[i] * factor));
    }
}

/* Fewer than four vectors. */
static void code_gelu_some(const float *v, size_t count, float factor, float shift,
                           uint8_t *out) {
    float some[FOUR] = {0};
    uint8_t bytes[FOUR];
    vf q[4];
    memcpy(some, v, count * sizeof *v);
    for (size_t j = 0; j < 4; j++) {
        q[j] = vf_fma(vf_load(some + j * MF_LANES), vf_set(factor), vf_set(shift));
    }
    store_u8_four(bytes, q);
    memcpy(out, bytes, count);
}

static void code_gelu(const float *v, size_t width, float factor, uint8_t *out) {
    float shift = -MF_GELU_LOW * factor;
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        vf q[4];
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            q[j] = vf_fma(vf_load(v + i + j * MF_LANES), vf_set(factor), vf_set(shift));
        }
        store_u8_four(out + i, q);
    }
    if (i < width) {
        code_gelu_some(v + i, width - i, factor, shift, out + i);
    }
}

static void quantize(const float *x, size_t rows, size_t width, mf_coding8 coding,
                     const mf_rows8 *out) {
    size_t stride = mf_stride8(width);
    for (size_t row = 0; row < rows; row++, x += width) {
        uint8_t *q = out->q + row * stride;
        if (coding == MF_CODING_CENTRED) {
            float range = largest_magnitude(x, width);
            code_centred(x, width, coding_factor(range, MF_CENTRED_MAX), q);
            out->scales[row] = coding_scale(range, MF_CENTRED_MAX);
        } else {
            float range = largest_gelu(x, width) - MF_GELU_LOW;
            code_gelu(x, width, coding_factor(range, MF_GELU_MAX), q);
            out->scales[row] = coding_scale(range, MF_GELU_MAX);
        }
    }
}

/* --- layer norm ------------------------------------------------------------------- */

/* Up to MF_LANES rows take each step together, so that sums over lanes, square roots
 * and divisions of one row need not wait for those of another. */
typedef struct norm_call {
    size_t rows, width;
    const float *gain;
    const float *bias;
    const float *shrink; /* NULL: nothing in 8 bits */
    float epsilon;
} norm_call;

typedef struct moments {
    float mean[MF_LANES];
    float factor[MF_LANES]; /* one over the standard deviation */
} moments;

/* The lanes' sums of a row, or of the squares of its distances from `mean`.  Four sums
 * side by side: each addition waits for the one before it. */
INLINE vf row_sum(const float *x, size_t width) {
    vf sums[4] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            sums[j] = vf_add(sums[j], vf_load(x + i + j * MF_LANES));
        }
    }
    for (; i < width; i += MF_LANES) {
        sums[0] = vf_add(sums[0], vf_load(x + i));
    }
    return vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3]));
}

INLINE vf row_squares(const float *x, size_t width, vf mean) {
    vf sums[4] = {vf_set(0.0F), vf_set(0.0F), vf_set(0.0F), vf_set(0.0F)};
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            vf off = vf_sub(vf_load(x + i + j * MF_LANES), mean);
            sums[j] = vf_fma(off, off, sums[j]);
        }
    }
    for (; i < width; i += MF_LANES) {
        vf off = vf_sub(vf_load(x + i), mean);
        sums[0] = vf_fma(off, off, sums[0]);
    }
    return vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3]));
}

static void find_moments(const norm_call *call, const float *x, moments *m) {
    vf sums[MF_LANES];
    float width = (float)call->width;
    for (size_t row = 0; row < MF_LANES; row++) {
        sums[row] = row < call->rows ? row_sum(x + row * call->width, call->width)
                                     : vf_set(0.0F);
    }
    vf_sums(sums, m->mean);
    for (size_t row = 0; row < MF_LANES; row++) {
        m->mean[row] /= width;
    }
    for (size_t row = 0; row < MF_LANES; row++) {
        sums[row] = row < call->rows ? row_squares(x + row * call->width, call->width,
                                                   vf_set(m->mean[row]))
                                     : vf_set(0.0F);
    }
    vf_sums(sums, m->factor);
    for (size_t row = 0; row < MF_LANES; row++) {
        m->factor[row] = 1.0F / sqrtf(m->factor[row] / width + call->epsilon);
    }
}

/* One row to y.  Returns, if there is a `shrink`, the lanes' largest magnitudes of y
 * times shrink. */
INLINE vf norm_row(const norm_call *call, const float *x, float mean, float factor,
                   float *y) {
    vf most = vf_set(0.0F);
    for (size_t i = 0; i < call->width; i += MF_LANES) {
        vf scaled = vf_mul(vf_sub(vf_load(x + i), vf_set(mean)), vf_set(factor));
        vf value = vf_fma(scaled, vf_load(call->gain + i), vf_load(call->bias + i));
        vf_store(y + i, value);
        if (call->shrink != NULL) {
            most = vf_max_abs(most, vf_mul(value, vf_load(call->shrink + i)));
        }
    }
    return most;
}

/* y times shrink, centred. */
static void code_shrunk(const float *y, const float *shrink, size_t width, float factor,
                        uint8_t *out) {
    size_t i = 0;
    for (; i + FOUR <= width; i += FOUR) {
        vf q[4];
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            size_t at = i + j * MF_LANES;
            q[j] =
                vf_mul(vf_mul(vf_load(y + at), vf_load(shrink + at)), vf_set(factor));
        }
        store_centred_four(out + i, q);
    }
    for (; i < width; i += MF_LANES) {
        vf q = vf_mul(vf_mul(vf_load(y + i), vf_load(shrink + i)), vf_set(factor));
        store_u8(out + i, vf_add(vf_round(q), vf_set(128.0F)));
    }
}

static void layer_norm(const float *x, size_t rows, size_t width, const float *gain,
                       const float *bias, float epsilon, float *y) {
    for (size_t first = 0; first < rows; first += MF_LANES) {
        moments m;
        norm_call call = {
            .width = width, .gain = gain, .bias = bias, .epsilon = epsilon};
        call.rows = rows - first < MF_LANES ? rows - first : MF_LANES;
        find_moments(&call, x, &m);
        for (size_t row = 0; row < call.rows; row++, x += width, y += width) {
            (void)norm_row(&call, x, m.mean[row], m.factor[row], y);
        }
    }
}

static void layer_norm8(const float *x, size_t rows, size_t width, const float *gain,
                        const float *bias, const float *shrink, float epsilon, float *y,
                        const mf_rows8 *out) {
    size_t stride = mf_stride8(width);
    for (size_t first = 0; first < rows; first += MF_LANES) {
        moments m;
        vf most[MF_LANES];
        float ranges[MF_LANES];
        norm_call call = {.width = width,
                          .gain = gain,
                          .bias = bias,
                          .shrink = shrink,
                          .epsilon = epsilon};
        call.rows = rows - first < MF_LANES ? rows - first : MF_LANES;
        find_moments(&call, x + first * width, &m);
        for (size_t row = 0; row < MF_LANES; row++) {
            size_t at = (first + row) * width;
            most[row] = row < call.rows ? norm_row(&call, x + at, m.mean[row],
                                                   m.factor[row], y + at)
                                        : vf_set(0.0F);
        }
        vf_highests(most, ranges);
        for (size_t row = 0; row < call.rows; row++) {
            size_t at = first + row;
            code_shrunk(y + at * width, shrink, width,
                        coding_factor(ranges[row], MF_CENTRED_MAX),
                        out->q + at * stride);
            out->scales[at] = coding_scale(ranges[row], MF_CENTRED_MAX);
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
