/* matrix8.h - the weights of one linear layer as 8-bit integers.
 *
 * Each output has a scale of its own: weight = scale * q with q in -127..127.  All
 * parts of a matrix lie in one image, which can be written to a file and used where it
 * is mapped:
 *
 *   panels    int8   [N, K, 64, 4]  N = outputs / 64, K = inputs / 4, both rounded up
 *   scales    float  [64 N]
 *   bias      float  [64 N]
 *   offsets   int32  [64 N]
 *   sums      int32  [64 N]   of each output's q
 *
 * A panel holds 64 outputs.  Four inputs of one output lie side by side: that is what
 * one lane of a dot-product instruction takes.  Outputs and inputs that only fill up
 * are zero in every part.
 *
 * Activations come as bytes 0..255, in one of two codings, and a matrix is made for one
 * of them: sums of products start at `offsets`, and what a coding adds to every number
 * is taken back there or in the bias.  Instructions that want signed activations take
 * them as a - 128 and need `sums` to make up for it. */
#ifndef MF_NUM_MATRIX8_H
#define MF_NUM_MATRIX8_H

#include <stddef.h>
#include <stdint.h>

#include "num/rounding.h"

enum {
    MF_PANEL8 = 64,       /* outputs in a panel */
    MF_STEP8 = 4,         /* inputs that lie side by side */
    MF_IMAGE8_ALIGN = 64, /* an image begins at a multiple of this many bytes */
    MF_MATRIX8_INPUTS_MAX = 1 << 14, /* no sum leaves the range of int32_t */
};

/* How a byte q stands for a number, with a scale per row. */
typedef enum mf_coding8 {
    MF_CODING_CENTRED, /* scale * (q - 128), q in 1..255 */
    MF_CODING_GELU,    /* scale * q + MF_GELU_LOW: GELU's lowest result is -0.16997 */
} mf_coding8;

#define MF_GELU_LOW (-0.171F) /* and the kernels' is within 1.2e-4 of it */

/* An image seen as a matrix; borrows it. */
typedef struct mf_matrix8 {
    size_t outputs;
    size_t inputs;
    const int8_t *panels;
    const float *scales;
    const float *bias;
    const int32_t *offsets;
    const int32_t *sums;
} mf_matrix8;

/* Bytes of an image, a multiple of MF_IMAGE8_ALIGN.  Outputs are
 * 1..MF_MATRIX_SIDE_MAX, inputs 1..MF_MATRIX8_INPUTS_MAX. */
size_t mf_matrix8_bytes(size_t outputs, size_t inputs);

typedef struct mf_matrix8_part {
    size_t first;          /* output */
    size_t count;          /* outputs */
    const float *weights;  /* [count, inputs], row-major and finite */
    const float *bias;     /* [count] */
    const float *factors;  /* [inputs]: activations come divided by these; NULL: by 1 */
    mf_coding8 coding;     /* of the activations */
    mf_rounding *rounding; /* of `inputs`, prepared with the same factors; NULL: each
                            * weight goes to the nearest step */
} mf_matrix8_part;

/* Quantises some outputs into `image`, which was all zero before the first call. */
void mf_matrix8_set(void *image, size_t outputs, size_t inputs,
                    const mf_matrix8_part *part);

mf_matrix8 mf_matrix8_view(const void *image, size_t outputs, size_t inputs);

/* One row of `width` numbers as out[i] = q in -127..127 with v[i] = scale * q, nearly;
 * returns the scale. */
float mf_quantize_row8(const float *v, size_t width, int8_t *out);

#endif
