/* rounding_variants.h - private to num/: the variants behind rounding.c. */
#ifndef MF_NUM_ROUNDING_VARIANTS_H
#define MF_NUM_ROUNDING_VARIANTS_H

#include <stddef.h>

#include "num/rounding.h"

enum {
    MF_ROUNDING_ROWS = 4,  /* rows of a matrix that a loop takes together */
    MF_ROUNDING_STEP = 16, /* rows begin at multiples of this many floats */
};

/* Takes MF_ROUNDING_ROWS rows, `last` and those before it, `stride` floats apart, times
 * their shares out of the first `count` numbers of `to`: the last row first.  The rest
 * of the last step is read and written as well. */
typedef void mf_rounding_take_out_function(float *to, const float *last, size_t stride,
                                           const float shares[MF_ROUNDING_ROWS],
                                           size_t count);

/* What the errors [count, MF_ROUNDING_OUTPUTS] of earlier inputs come to at the inputs
 * of MF_ROUNDING_ROWS rows of shares: owed [MF_ROUNDING_ROWS, MF_ROUNDING_OUTPUTS]. */
typedef void
mf_rounding_owed_function(const float *shares, size_t stride, const float *errors,
                          size_t count,
                          float owed[MF_ROUNDING_ROWS * MF_ROUNDING_OUTPUTS]);

mf_rounding_take_out_function mf_rounding_take_out_plain;
mf_rounding_take_out_function mf_rounding_take_out_avx2;
mf_rounding_take_out_function mf_rounding_take_out_avx512;
mf_rounding_owed_function mf_rounding_owed_plain;
mf_rounding_owed_function mf_rounding_owed_avx2;
mf_rounding_owed_function mf_rounding_owed_avx512;

#endif
