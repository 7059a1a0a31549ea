/* kernels_variants.h - private to num/: the tables behind mf_kernels_at, and the layout
 * of the attention scratch they share.
 *
 * The scratch holds the keys of one head, transposed to [head_dim, padded tokens] so
 * that a query meets MF_ATTENTION_STEP keys at once, then the score rows of up to
 * MF_ATTENTION_ROWS queries. */
#ifndef MF_NUM_KERNELS_VARIANTS_H
#define MF_NUM_KERNELS_VARIANTS_H

#include "num/kernels.h"

/* A row of activations whose range is below this counts as zero: its factor to 8 bits
 * would overflow. */
#define MF_TINY8 1e-30F
/* Whole numbers to each side of a centred row's zero, and above a GELU row's. */
#define MF_CENTRED_MAX 127.0F
#define MF_GELU_MAX 255.0F

enum { MF_ATTENTION_STEP = 32, MF_ATTENTION_ROWS = 8 };

static inline size_t mf_attention_padded(size_t tokens) {
    return (tokens + MF_ATTENTION_STEP - 1) / MF_ATTENTION_STEP * MF_ATTENTION_STEP;
}

extern const mf_kernels mf_kernels_scalar;
extern const mf_kernels mf_kernels_avx2;
extern const mf_kernels mf_kernels_avx512;

#endif
