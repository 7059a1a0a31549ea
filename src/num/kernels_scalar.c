/* kernels_scalar.c - the reference: each formula as it stands in the books.
 *
 * Attention is softmax(Q K^T / sqrt(head_dim)) V (Vaswani et al. 2017); layer norm is
 * Ba et al. 2016; GELU with the exact erf is Hendrycks and Gimpel 2016. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "num/kernels_variants.h"
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
    float scale = 1.0F / sqrtf((float)dim);
    float largest = -INFINITY;
    for (size_t j = 0; j < call->tokens; j++) {
        float dot = 0.0F;
        for (size_t d = 0; d < dim; d++) {
            dot += query[d] * keys[j * 3 * hidden + d];
        }
        scores[j] = dot * scale;
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
    .all_finite = all_finite,
};
