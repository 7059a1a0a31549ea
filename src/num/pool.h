/* pool.h - from the vectors of a text's tokens to the one vector of the text.
 *
 * One variant only, in plain C: this is a thousandth of the work of a forward pass.
 * Sums run in the order of the rows. */
#ifndef MF_NUM_POOL_H
#define MF_NUM_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* out[i] = the mean of column i of x [rows, width]; rows is at least 1. */
void mf_pool_mean(const float *x, size_t rows, size_t width, float *out);

/* out[i] = the largest of column i of x [rows, width]; rows is at least 1. */
void mf_pool_max(const float *x, size_t rows, size_t width, float *out);

/* Scales `v` to L2 norm 1.  false, with `v` as it was, when its norm is zero or not
 * finite. */
MF_CHECKED bool mf_normalize(float *v, size_t width);

#endif
