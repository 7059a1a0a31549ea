/* kernels.h - the arithmetic of a transformer encoder, in fp32 and with 8-bit products.
 *
 * One table of functions per processor level.  Each kernel is written once, in headers
 * over vectors of MF_LANES floats that every level defines, so that all tables give the
 * same bits.  Only linear layers differ: with 8-bit products they share their sums,
 * which are integers, and what follows them; of floats, those of plain C round products
 * and sums one by one, and agree with the others to about 1e-6 relative.
 *
 * Two promises hold for every table:
 *   1. A row of a result depends on that row's inputs alone, never on how many rows are
 *      computed with it: sums run in one fixed order whatever the shape of the batch.
 *   2. No function allocates, and none keeps state: any number of threads may call.
 *
 * All matrices are row-major; a "row" is one token.  Inputs must be finite. */
#ifndef MF_NUM_KERNELS_H
#define MF_NUM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "num/cpu.h"
#include "num/matrix.h"
#include "num/matrix16.h"
#include "num/matrix8.h"

enum {
    MF_LANES = 16,         /* widths of layer_norm and attention heads: a multiple */
    MF_HEAD_DIM_MAX = 256, /* numbers per attention head */
    MF_STRIDE8 = 64,       /* rows of 8-bit activations begin at multiples of this */
};

/* What happens to a linear layer's result before it is stored. */
typedef enum mf_epilogue {
    MF_EPILOGUE_NONE,
    MF_EPILOGUE_GELU, /* y = x/2 (1 + erf(x / sqrt 2)); erf within 3e-7 absolute */
    MF_EPILOGUE_ADD,  /* y = x + residual */
} mf_epilogue;

typedef struct mf_linear_call {
    const mf_matrix *matrix;
    const float *x; /* [rows, inputs] */
    size_t rows;
    mf_epilogue epilogue;
    const float
        *residual; /* [rows, outputs] for MF_EPILOGUE_ADD, may be y; else NULL */
    float *y;      /* [rows, outputs]; must not overlap x */
} mf_linear_call;

/* Rows of activations as 8-bit integers, coded as num/matrix8.h says.  Each row has a
 * scale of its own, from its largest number, so that a token's numbers do not depend on
 * the tokens beside it. */
typedef struct mf_rows8 {
    uint8_t *q;    /* rows mf_stride8(width) bytes apart, 64-byte aligned */
    float *scales; /* one per row */
} mf_rows8;

static inline size_t mf_stride8(size_t width) {
    return (width + MF_STRIDE8 - 1) / MF_STRIDE8 * MF_STRIDE8;
}

typedef struct mf_linear8_call {
    const mf_matrix8 *matrix;
    mf_rows8 x; /* [rows, inputs]; only read */
    size_t rows;
    mf_epilogue epilogue;
    const float
        *residual; /* [rows, outputs] for MF_EPILOGUE_ADD, may be y; else NULL */
    float *y;      /* [rows, outputs] */
    /* Rows that get another bias than the matrix's; both NULL where none does. */
    const bool *apart;       /* [rows] */
    const float *apart_bias; /* [outputs], and zeros up to a whole MF_PANEL8 */
} mf_linear8_call;

/* Floats from one row of rounded activations to the next: pairs and whole lines. */
static inline size_t mf_stride16(size_t width) {
    return (width + MF_LANES - 1) / MF_LANES * MF_LANES;
}

typedef struct mf_linear16_call {
    const mf_matrix16 *matrix;
    const float *x; /* [rows, inputs], as round16 of the same table leaves them */
    size_t rows;
    mf_epilogue epilogue;
    const float
        *residual; /* [rows, outputs] for MF_EPILOGUE_ADD, may be y; else NULL */
    float *y;      /* [rows, outputs]; must not overlap x */
} mf_linear16_call;

/* Self-attention of one text: its tokens look at each other and at nothing else. */
typedef struct mf_attention_call {
    const float *qkv; /* [tokens, 3 * heads * head_dim]: queries, keys, values */
    size_t tokens;    /* at least 1 */
    size_t heads;
    size_t head_dim; /* a multiple of MF_LANES up to MF_HEAD_DIM_MAX */
    float *context;  /* [tokens, heads * head_dim]; must not overlap qkv */
    float *scratch;  /* mf_attention_scratch() floats, 64-byte aligned */
    /* NULL, or [heads, 2 * relative_span - 1]: what the distance of a key from a query
     * adds to their score, once that is divided by sqrt(head_dim).  Key k and query q
     * of head h get relative[h][relative_span - 1 + k - q]; tokens <= relative_span. */
    const float *relative;
    size_t relative_span;
} mf_attention_call;

typedef struct mf_kernels {
    mf_cpu_level level;
    void (*linear)(const mf_linear_call *call);
    /* Each row of x [rows, width] to mean 0 and variance 1, times `gain`, plus `bias`;
     * in place is fine (y == x).  `width` is a multiple of MF_LANES. */
    void (*layer_norm)(const float *x, size_t rows, size_t width, const float *gain,
                       const float *bias, float epsilon, float *y);
    void (*attention)(const mf_attention_call *call);
    /* As `attention`, with queries, keys, values and weights rounded to bf16, of 8
     * significant bits, and weights to 8e-5 relative before that; sums are floats.
     * The same bits in every table. */
    void (*attention16)(const mf_attention_call *call);
    /* The rows of x [rows, width] as 8-bit integers. */
    void (*quantize)(const float *x, size_t rows, size_t width, mf_coding8 coding,
                     const mf_rows8 *out);
    /* layer_norm into y; and y's rows, number i times shrink[i], as 8-bit integers,
     * centred, into `out`. */
    void (*layer_norm8)(const float *x, size_t rows, size_t width, const float *gain,
                        const float *bias, const float *shrink, float epsilon, float *y,
                        const mf_rows8 *out);
    /* As `linear`.  Sums of products are integers, the same ones in every table; GELU
     * is within 1.2e-4 absolute, or 6e-5 |x| where that is more: less than a step of
     * 8 bits. */
    void (*linear8)(const mf_linear8_call *call);
    /* The rows of x [rows, width] rounded to bf16, to the nearest, ties to even, for
     * linear16.  `out` has rows mf_stride16(width) floats apart; what is in them is the
     * table's own. */
    void (*round16)(const float *x, size_t rows, size_t width, float *out);
    /* As `linear`, with weights and activations in bf16 and sums in fp32.  Each sum
     * begins with the bias; of two inputs side by side the odd one is added first, then
     * the even one, rounded each time.  So every table gives the same bits before the
     * epilogue, unless a product or a sum is below 1.2e-38: the instruction for bf16
     * takes such numbers as zero. */
    void (*linear16)(const mf_linear16_call *call);
    bool (*all_finite)(const float *v, size_t count); /* no NaN, no infinity */
} mf_kernels;

/* The best table of this processor; always the same one. */
const mf_kernels *mf_kernels_best(void);
/* The table of one level, NULL when this processor cannot run it. */
const mf_kernels *mf_kernels_at(mf_cpu_level level);

/* Floats of scratch for texts of up to `tokens_max` tokens. */
size_t mf_attention_scratch(size_t tokens_max, size_t head_dim);

#endif
