/* matrix16.c - rounds weights and rearranges them into panels (matrix16_layout.h). */
#include "num/matrix16.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "num/matrix16_layout.h"

enum { CACHE_LINE = 64 };

mf_rc mf_matrix16_new(size_t outputs, size_t inputs, mf_matrix16 **out, mf_err *err) {
    MF_ASSERT(outputs > 0 && outputs <= MF_MATRIX_SIDE_MAX);
    MF_ASSERT(inputs > 0 && inputs <= MF_MATRIX_SIDE_MAX);
    size_t pairs = (inputs + 1) / 2;
    size_t width = (outputs + MF_PANEL - 1) / MF_PANEL * MF_PANEL;
    mf_matrix16 *matrix = mf_alloc_zero(1, sizeof *matrix);
    if (matrix == NULL) {
        goto no_memory;
    }
    matrix->outputs = outputs;
    matrix->inputs = inputs;
    matrix->pairs = pairs;
    matrix->panel_count = width / MF_PANEL;
    /* One line more than the panels take: kernels fetch ahead past the end. */
    matrix->panels =
        mf_alloc_aligned(CACHE_LINE, width * pairs * sizeof(uint32_t) + CACHE_LINE);
    matrix->bias = mf_alloc_aligned(CACHE_LINE, width * sizeof(float));
    if (matrix->panels == NULL || matrix->bias == NULL) {
        goto no_memory;
    }
    memset(matrix->panels, 0, width * pairs * sizeof(uint32_t));
    memset(matrix->bias, 0, width * sizeof(float));
    *out = matrix;
    return MF_OK;

no_memory:
    mf_matrix16_free(matrix);
    return MF_FAIL(err, MF_E_NOMEM, "no memory for a layer of %zu x %zu weights",
                   outputs, inputs);
}

void mf_matrix16_free(mf_matrix16 *matrix) {
    if (matrix != NULL) {
        mf_free(matrix->panels);
        mf_free(matrix->bias);
        mf_free(matrix);
    }
}

void mf_matrix16_set(mf_matrix16 *matrix, size_t first, size_t count,
                     const float *weights, const float *bias) {
    MF_ASSERT(first <= matrix->outputs && count <= matrix->outputs - first);
    size_t inputs = matrix->inputs;
    for (size_t i = 0; i < count; i++, weights += inputs) {
        size_t panel = (first + i) / MF_PANEL;
        size_t column = (first + i) % MF_PANEL;
        uint32_t *cell = matrix->panels + panel * matrix->pairs * MF_PANEL + column;
        size_t k = 0;
        for (; k + 2 <= inputs; k += 2, cell += MF_PANEL) {
            *cell = mf_bits16(weights[k]) >> 16 | mf_bits16(weights[k + 1]);
        }
        if (k < inputs) {
            *cell = mf_bits16(weights[k]) >> 16;
        }
    }
    memcpy(matrix->bias + first, bias, count * sizeof *bias);
}

size_t mf_matrix16_bytes(const mf_matrix16 *matrix) {
    size_t width = matrix->panel_count * MF_PANEL;
    return sizeof *matrix + (matrix->pairs + 1) * width * sizeof(uint32_t);
}
