/* encoder_weights.h - private to model/: where in a model file the tensors of an
 * encoder are.  All of them are seen row-major in fp32: those stored so point into the
 * mapped file, those stored in 16 bits are converted when they are looked up. */
#ifndef MF_MODEL_ENCODER_WEIGHTS_H
#define MF_MODEL_ENCODER_WEIGHTS_H

#include "model/encoder_config.h"
#include "model/safetensors.h"

typedef struct mf_norm {
    const float *gain; /* [hidden] */
    const float *bias; /* [hidden] */
} mf_norm;

typedef struct mf_linear_weights {
    const float *weights; /* [outputs, inputs] */
    const float *bias;    /* [outputs] */
} mf_linear_weights;

typedef struct mf_layer_weights {
    mf_linear_weights qkv[3]; /* hidden to hidden: query, key, value */
    mf_linear_weights out;    /* hidden to hidden */
    mf_linear_weights inner;  /* hidden to inner */
    mf_linear_weights outer;  /* inner to hidden */
    mf_norm attention_norm;
    mf_norm output_norm;
} mf_layer_weights;

/* The head of a reranker: works on the vector of the first token. */
typedef struct mf_head_weights {
    mf_linear_weights dense;      /* hidden to hidden */
    mf_linear_weights classifier; /* hidden to labels */
} mf_head_weights;

/* Converted tensors, in a list. */
typedef struct mf_converted mf_converted;

typedef struct mf_weights {
    const float *words;     /* [vocab, hidden] */
    const float *positions; /* [positions, hidden] */
    const float *types;     /* [types, hidden]; one row of zeros without types */
    const float *distances; /* [buckets, heads]; NULL without buckets */
    mf_norm input_norm;
    mf_layer_weights *layers; /* [config.layers] */
    mf_head_weights head;     /* empty without labels */
    mf_converted *converted;
} mf_weights;

/* Looks every tensor up and checks its type, shape and numbers.  MF_E_CORRUPT names
 * tensor and expectation; MF_E_NOMEM.  `out` is to be ended with mf_weights_done, also
 * after a failure; the file must stay open for as long as it is used. */
MF_CHECKED mf_rc mf_weights_get(const mf_safetensors *file,
                                const mf_encoder_config *config, mf_weights *out,
                                mf_err *err);
/* Frees what was converted of the layers' linear modules, which must not be used from
 * then on: their numbers are elsewhere by now. */
void mf_weights_drop_linear(mf_weights *weights, const mf_encoder_config *config);
void mf_weights_done(mf_weights *weights);

#endif
