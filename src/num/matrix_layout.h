/* matrix_layout.h - private to num/: what is inside an mf_matrix.
 *
 * Outputs are grouped into panels of MF_PANEL columns.  A panel holds, for input 0, 1,
 * 2, ..., the MF_PANEL weights that this input contributes to: a kernel walks it front
 * to back in one stream.  Columns beyond the last output are zero. */
#ifndef MF_NUM_MATRIX_LAYOUT_H
#define MF_NUM_MATRIX_LAYOUT_H

#include <stddef.h>

#include "num/matrix.h"

enum { MF_PANEL = 32 };

struct mf_matrix {
    size_t outputs;
    size_t inputs;
    size_t panel_count;
    float *panels; /* [panel_count, inputs, MF_PANEL], 64-byte aligned */
    float *bias;   /* [panel_count, MF_PANEL] */
};

static inline const float *mf_matrix_panel(const mf_matrix *matrix, size_t index) {
    return matrix->panels + index * matrix->inputs * MF_PANEL;
}

#endif
