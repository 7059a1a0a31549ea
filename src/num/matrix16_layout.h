/* matrix16_layout.h - private to num/: what is inside an mf_matrix16.
 *
 * As matrix_layout.h, with pairs of inputs: a panel holds, for inputs 0 and 1, 2 and 3,
 * ..., the weights of its MF_PANEL outputs, the even input in the lower half of a word.
 * An input that only fills up a pair has weights of zero. */
#ifndef MF_NUM_MATRIX16_LAYOUT_H
#define MF_NUM_MATRIX16_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "num/matrix16.h"
#include "num/matrix_layout.h"

struct mf_matrix16 {
    size_t outputs;
    size_t inputs;
    size_t pairs; /* of inputs */
    size_t panel_count;
    uint32_t *panels; /* [panel_count, pairs, MF_PANEL], 64-byte aligned */
    float *bias;      /* [panel_count, MF_PANEL] */
};

static inline const uint32_t *mf_matrix16_panel(const mf_matrix16 *matrix,
                                                size_t index) {
    return matrix->panels + index * matrix->pairs * MF_PANEL;
}

#endif
