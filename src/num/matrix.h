/* matrix.h - the weights of one linear layer, laid out for the kernels.
 *
 * A linear layer computes y = x W^T + bias for each row of x.  Kernels want W in the
 * order they read it, so it is rearranged once when a model is opened.  The layout is
 * private to num/.  Weights of 8 bits are another type, num/matrix8.h: they meet other
 * activations, and a mix-up does not compile. */
#ifndef MF_NUM_MATRIX_H
#define MF_NUM_MATRIX_H

#include "base/err.h"

typedef struct mf_matrix mf_matrix;

enum { MF_MATRIX_SIDE_MAX = 1 << 16 }; /* inputs and outputs of one layer */

/* An all-zero matrix taking `inputs` numbers to `outputs` numbers, both
 * 1..MF_MATRIX_SIDE_MAX.  MF_E_NOMEM.  Free it with mf_matrix_free. */
MF_CHECKED mf_rc mf_matrix_new(size_t outputs, size_t inputs, mf_matrix **out,
                               mf_err *err);
void mf_matrix_free(mf_matrix *matrix); /* NULL is fine */

/* Copies `count` outputs in, starting at output `first`: `weights` is [count, inputs],
 * row-major, one row per output; `bias` has `count` entries. */
void mf_matrix_set(mf_matrix *matrix, size_t first, size_t count, const float *weights,
                   const float *bias);

size_t mf_matrix_outputs(const mf_matrix *matrix);
size_t mf_matrix_inputs(const mf_matrix *matrix);
size_t mf_matrix_bytes(const mf_matrix *matrix); /* memory held */

#endif
