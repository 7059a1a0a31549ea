/* matrix.c - rearranges weights into panels (matrix_layout.h). */
#include "num/matrix.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/matrix_layout.h"

enum { CACHE_LINE = 64 };

mf_rc mf_matrix_new(size_t outputs, size_t inputs, mf_matrix **out, mf_err *err) {
    MF_ASSERT(outputs > 0 && outputs <= MF_MATRIX_SIDE_MAX);
    MF_ASSERT(inputs > 0 && inputs <= MF_MATRIX_SIDE_MAX);
    size_t panel_count = (outputs + MF_PANEL - 1) / MF_PANEL;
    size_t width = panel_count * MF_PANEL;
    mf_matrix *matrix = mf_alloc_zero(1, sizeof *matrix);
    if (matrix == NULL) {
        goto no_memory;
    }
    matrix->outputs = outputs;
    matrix->inputs = inputs;
    matrix->panel_count = panel_count;
    /* One line more than the panels take: kernels fetch ahead past the end. */
    matrix->panels =
        mf_alloc_aligned(CACHE_LINE, width * inputs * sizeof(float) + CACHE_LINE);
    matrix->bias = mf_alloc_aligned(CACHE_LINE, width * sizeof(float));
    if (matrix->panels == NULL || matrix->bias == NULL) {
        goto no_memory;
    }
    if (outputs < width) { /* the columns mf_matrix_set never reaches */
        size_t last = (panel_count - 1) * MF_PANEL;
        memset(matrix->panels + last * inputs, 0, MF_PANEL * inputs * sizeof(float));
        memset(matrix->bias + last, 0, MF_PANEL * sizeof(float));
    }
    *out = matrix;
    return MF_OK;

no_memory:
    mf_matrix_free(matrix);
    return MF_FAIL(err, MF_E_NOMEM, "no memory for a layer of %zu x %zu weights",
                   outputs, inputs);
}

void mf_matrix_free(mf_matrix *matrix) {
    if (matrix != NULL) {
        mf_free(matrix->panels);
        mf_free(matrix->bias);
        mf_free(matrix);
    }
}

/* Columns first..first+count of one panel from as many rows of `weights`. */
static void fill_panel(float *panel, size_t inputs, size_t first, size_t count,
                       const float *weights) {
    for (size_t k = 0; k < inputs; k++) {
        float *line = panel + k * MF_PANEL + first;
        for (size_t column = 0; column < count; column++) {
            line[column] = weights[column * inputs + k];
        }
    }
}

void mf_matrix_set(mf_matrix *matrix, size_t first, size_t count, const float *weights,
                   const float *bias) {
    MF_ASSERT(first <= matrix->outputs && count <= matrix->outputs - first);
    size_t inputs = matrix->inputs;
    for (size_t done = 0; done < count;) {
        size_t panel = (first + done) / MF_PANEL;
        size_t column = (first + done) % MF_PANEL;
        size_t take = MF_PANEL - column;
        take = take < count - done ? take : count - done;
        fill_panel(matrix->panels + panel * inputs * MF_PANEL, inputs, column, take,
                   weights + done * inputs);
        done += take;
    }
    memcpy(matrix->bias + first, bias, count * sizeof *bias);
}

size_t mf_matrix_outputs(const mf_matrix *matrix) {
    return matrix->outputs;
}

size_t mf_matrix_inputs(const mf_matrix *matrix) {
    return matrix->inputs;
}

size_t mf_matrix_bytes(const mf_matrix *matrix) {
    size_t width = matrix->panel_count * MF_PANEL;
    return sizeof *matrix + (matrix->inputs + 1) * width * sizeof(float);
}
