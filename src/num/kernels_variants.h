/* kernels_variants.h - private to num/: the tables behind mf_kernels_at, and the layout
 * of the attention scratch they share.
 *
 * The scratch holds the keys of one head, transposed to [head_dim, padded tokens] so
 * that a query meets MF_ATTENTION_STEP keys at once, then the score rows of up to
 * MF_ATTENTION_ROWS queries.  In bf16 it holds one or, of short texts, a few heads with
 * their values, then blocks of queries. */
#ifndef MF_NUM_KERNELS_VARIANTS_H
#define MF_NUM_KERNELS_VARIANTS_H

#include "num/kernels.h"

/* A row of activations whose range is below this counts as zero: its factor to 8 bits
 * would overflow. */
#define MF_TINY8 1e-30F
/* Whole numbers to each side of a centred row's zero, and above a GELU row's. */
#define MF_CENTRED_MAX 127.0F
#define MF_GELU_MAX 255.0F

/* GELU, x / 2 (1 + erf(c)) with c = x / sqrt 2: erf(c) is c P(t) on [-3.9, 3.9], beyond
 * which it is 1 to half a unit of float precision; P is a Chebyshev fit of degree 14 in
 * t = 2 (c / 3.9)^2 - 1.  Absolute error of erf, rounding included: below 3e-7.  Every
 * variant uses it where a sum of bf16 products is rounded next, so that they agree. */
enum { MF_GELU_TERMS = 15 };
#define MF_ROOT_HALF 0.70710678F
#define MF_GELU_END 3.9F
#define MF_GELU_TO_T 1.314924359e-01F /* 2 / 3.9^2 */
static const float mf_gelu_terms[MF_GELU_TERMS] = {
    3.625839949e-01F, -1.810115129e-01F, 1.346885264e-01F, -1.095148548e-01F,
    9.071464092e-02F, -7.400824130e-02F, 5.761618167e-02F, -4.173383489e-02F,
    3.002080694e-02F, -2.226450667e-02F, 1.220243704e-02F, -3.365928307e-03F,
    2.961378545e-03F, -4.085471388e-03F, 1.606646925e-03F,
};

/* GELU for a result that is quantised next: x (1/2 + c P(t)), with c = x cut off at 3.8
 * to both sides and t = 2 (c / 3.8)^2 - 1.  P is the polynomial of degree 6 whose
 * largest error, as an error of GELU, is least: 1.1e-4 inside and 5e-5 |x| beyond.
 * Every variant uses it. */
enum { MF_GELU8_TERMS = 7 };
#define MF_GELU8_END 3.8F
#define MF_GELU8_TO_T (2.0F / (MF_GELU8_END * MF_GELU8_END))
static const float mf_gelu8_terms[MF_GELU8_TERMS] = {
    1.847528095e-01F, -8.703897712e-02F, 5.513432221e-02F, -3.362422112e-02F,
    2.073942903e-02F, -1.268138983e-02F, 4.285508673e-03F,
};

enum {
    MF_ATTENTION_STEP = 32,
    MF_ATTENTION_ROWS = 16,
    MF_ATTENTION_BLOCKS = 4, /* of as many rows, worked on at once by tiles */
    MF_CHUNK = 32,           /* numbers of one step of a dot product in bf16 */
};

static inline size_t mf_attention_padded(size_t tokens) {
    return (tokens + MF_ATTENTION_STEP - 1) / MF_ATTENTION_STEP * MF_ATTENTION_STEP;
}

/* Floats of scratch for the keys and values of one head in bf16, and for a block of
 * MF_ATTENTION_ROWS queries: the queries, their scores, weights and results. */
static inline size_t mf_attention_head(size_t tokens, size_t head_dim) {
    size_t dim = (head_dim + MF_CHUNK - 1) / MF_CHUNK * MF_CHUNK;
    return mf_attention_padded(tokens) * dim;
}

static inline size_t mf_attention_block(size_t tokens, size_t head_dim) {
    size_t dim = (head_dim + MF_CHUNK - 1) / MF_CHUNK * MF_CHUNK;
    return MF_ATTENTION_ROWS * 2 * (mf_attention_padded(tokens) + dim);
}

/* What every key adds to the score of a query, from the first key on; NULL: nothing. */
static inline const float *mf_attention_relative(const mf_attention_call *call,
                                                 size_t head, size_t token) {
    if (call->relative == NULL) {
        return NULL;
    }
    size_t span = call->relative_span;
    return call->relative + head * (2 * span - 1) + span - 1 - token;
}

extern const mf_kernels mf_kernels_scalar;
extern const mf_kernels mf_kernels_neon;
extern const mf_kernels mf_kernels_avx2;
extern const mf_kernels mf_kernels_avx512;
extern const mf_kernels mf_kernels_avx512_bf16; /* with mf_cpu_has_bf16() */
extern const mf_kernels mf_kernels_amx;

#endif
