/* kernels_scalar.c - the reference: each formula as it stands in the books.
 *
 * Attention is softmax(Q K^T / sqrt(head_dim)) V (Vaswani et al. 2017); layer norm is
 * Ba et al. 2016; GELU with the exact erf is Hendrycks and Gimpel 2016. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "num/kernels_variants.h"
#include "num/matrix16_layout.h"
#include "num/matrix_layout.h"

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

static void layer_norm(const float *x, size_t rows, size_t width, const float *gain,
                       const float *bias, float epsilon, float *y) {
    for (size_t row = 0; row < rows; row++, x += width, y += width) {
        float sum = 0.0F;
        for (size_t i = 0; i < width; i++) {
            sum += x[i];
        }
        float mean = sum / (float)width;
        float squares = 0.0F;
        for (size_t i = 0; i < width; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        float factor = 1.0F / sqrtf(squares / (float)width + epsilon);
        for (size_t i = 0; i < width; i++) {
            y[i] = (x[i] - mean) * factor * gain[i] + bias[i];
        }
    }
}

/* One query against every key and value of its text, for one head. */
static void attend(const mf_attention_call *call, size_t head, size_t token,
                   float *scores) {
    size_t dim = call->head_dim;
    size_t hidden = call->heads * dim;
    const float *query = call->qkv + token * 3 * hidden + head * dim;
    const float *keys = call->qkv + hidden + head * dim;
    const float *values = call->qkv + 2 * hidden + head * dim;
    const float *relative = mf_attention_relative(call, head, token);
    float scale = 1.0F / sqrtf((float)dim);
    float largest = -INFINITY;
    for (size_t j = 0; j < call->tokens; j++) {
        float dot = 0.0F;
        for (size_t d = 0; d < dim; d++) {
            dot += query[d] * keys[j * 3 * hidden + d];
        }
        scores[j] = dot * scale + (relative == NULL ? 0.0F : relative[j]);
        largest = fmaxf(largest, scores[j]);
    }
    float sum = 0.0F;
    float *context = call->context + token * hidden + head * dim;
    memset(context, 0, dim * sizeof *context);
    for (size_t j = 0; j < call->tokens; j++) {
        float weight = expf(scores[j] - largest);
        sum += weight;
        for (size_t d = 0; d < dim; d++) {
            context[d] += weight * values[j * 3 * hidden + d];
        }
    }
    for (size_t d = 0; d < dim; d++) {
        context[d] /= sum;
    }
}

static void attention(const mf_attention_call *call) {
    for (size_t head = 0; head < call->heads; head++) {
        for (size_t token = 0; token < call->tokens; token++) {
            attend(call, head, token, call->scratch);
        }
    }
}

/* --- 8-bit products --------------------------------------------------------------- */

/* A row of `width` numbers in [low, low + range] as whole numbers up to `most`, plus
 * `zero`; returns the scale. */
static float quantize_row(const float *v, size_t width, float low, float range,
                          float most, long zero, uint8_t *out) {
    bool tiny = range < MF_TINY8;
    float factor = tiny ? 0.0F : most / range;
    for (size_t i = 0; i < width; i++) {
        out[i] = (uint8_t)(zero + lrintf((v[i] - low) * factor));
    }
    return tiny ? 0.0F : range / most;
}

static void quantize(const float *x, size_t rows, size_t width, mf_coding8 coding,
                     const mf_rows8 *out) {
    for (size_t row = 0; row < rows; row++, x += width) {
        uint8_t *q = out->q + row * mf_stride8(width);
        float highest = MF_GELU_LOW;
        float largest = 0.0F;
        for (size_t i = 0; i < width; i++) {
            highest = fmaxf(highest, x[i]);
            largest = fmaxf(largest, fabsf(x[i]));
        }
        out->scales[row] =
            coding == MF_CODING_CENTRED
                ? quantize_row(x, width, 0.0F, largest, MF_CENTRED_MAX, 128, q)
                : quantize_row(x, width, MF_GELU_LOW, highest - MF_GELU_LOW,
                               MF_GELU_MAX, 0, q);
    }
}

static void layer_norm8(const float *x, size_t rows, size_t width, const float *gain,
                        const float *bias, const float *shrink, float epsilon, float *y,
                        const mf_rows8 *out) {
    size_t stride = mf_stride8(width);
    layer_norm(x, rows, width, gain, bias, epsilon, y);
    for (size_t row = 0; row < rows; row++, y += width) {
        uint8_t *q = out->q + row * stride;
        float largest = 0.0F;
        for (size_t i = 0; i < width; i++) {
            largest = fmaxf(largest, fabsf(y[i] * shrink[i]));
        }
        bool tiny = largest < MF_TINY8;
        float factor = tiny ? 0.0F : MF_CENTRED_MAX / largest;
        for (size_t i = 0; i < width; i++) {
            q[i] = (uint8_t)(128 + lrintf(y[i] * shrink[i] * factor));
        }
        out->scales[row] = tiny ? 0.0F : largest / MF_CENTRED_MAX;
    }
}

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
    float t = fmaf(c * c, MF_GELU8_TO_T, -1.0F);
    float p = mf_gelu8_terms[MF_GELU8_TERMS - 1];
    for (int i = MF_GELU8_TERMS - 2; i >= 0; i--) {
        p = fmaf(p, t, mf_gelu8_terms[i]);
    }
    return fmaf(x, c * p, x * 0.5F);
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
            for (size_t n = 0; n < width; n++) {
                float scale = call->x.scales[row] * matrix->scales[first + n];
                float value =
                    fmaf((float)(int32_t)sums[n], scale, matrix->bias[first + n]);
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

static float from_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void round16(const float *x, size_t rows, size_t width, float *out) {
    size_t stride = mf_stride16(width);
    for (size_t row = 0; row < rows; row++, x += width, out += stride) {
        memset(out, 0, stride * sizeof *out);
        for (size_t i = 0; i < width; i++) {
            out[i] = from_bits(mf_bits16(x[i]));
        }
    }
}

/* One row against one output, whose words are MF_PANEL apart. */
static float dot16(const float *x, const uint32_t *words, size_t pairs, float sum) {
    for (size_t pair = 0; pair < pairs; pair++, words += MF_PANEL) {
        sum = fmaf(x[2 * pair + 1], from_bits(*words & 0xFFFF0000), sum);
        sum = fmaf(x[2 * pair], from_bits(*words << 16), sum);
    }
    return sum;
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
            call->y[at] = apply(call->epilogue, value, residual);
        }
    }
}

static bool all_finite(const float *v, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(v[i])) {
            return false;
        }
    }
    return true;
}

const mf_kernels mf_kernels_scalar = {
    .level = MF_CPU_SCALAR,
    .linear = linear,
    .layer_norm = layer_norm,
    .attention = attention,
    .quantize = quantize,
    .layer_norm8 = layer_norm8,
    .linear8 = linear8,
    .round16 = round16,
    .linear16 = linear16,
    .all_finite = all_finite,
};
