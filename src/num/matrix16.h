/* matrix16.h - the weights of one linear layer in bf16.
 *
 * A bf16 number is the upper half of a float: its sign, its exponent and 8 significant
 * bits.  Weights are rounded to the nearest, ties to even.  They lie in panels as those
 * of num/matrix.h do, with two inputs of an output side by side: what one lane of a
 * dot-product instruction takes.  The layout is private to num/. */
#ifndef MF_NUM_MATRIX16_H
#define MF_NUM_MATRIX16_H

#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "num/matrix.h"

typedef struct mf_matrix16 mf_matrix16;

/* A finite float as the nearest bf16 number, given as a float's bits whose lower half
 * is zero.  The largest floats, from 3.3962e38 on, become infinite. */
static inline uint32_t mf_bits16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
}

/* An all-zero matrix taking `inputs` numbers to `outputs` numbers, both
 * 1..MF_MATRIX_SIDE_MAX.  MF_E_NOMEM.  Free it with mf_matrix16_free. */
MF_CHECKED mf_rc mf_matrix16_new(size_t outputs, size_t inputs, mf_matrix16 **out,
                                 mf_err *err);
void mf_matrix16_free(mf_matrix16 *matrix); /* NULL is fine */

/* Rounds `count` outputs in, starting at output `first`: `weights` is [count, inputs],
 * row-major, one row per output; `bias` has `count` entries and stays in fp32. */
void mf_matrix16_set(mf_matrix16 *matrix, size_t first, size_t count,
                     const float *weights, const float *bias);

size_t mf_matrix16_bytes(const mf_matrix16 *matrix); /* memory held */

#endif
