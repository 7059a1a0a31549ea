/* encoder_weights.h - private to model/: where in a model file the tensors of a BERT
 * encoder are.  Everything points into the mapped file, row-major, in fp32. */
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

typedef struct mf_weights {
    const float *words;     /* [vocab, hidden] */
    const float *positions; /* [positions, hidden] */
    const float *types;     /* [types, hidden]; every token is of type 0 */
    mf_norm input_norm;
    mf_layer_weights *layers; /* [config.layers] */
} mf_weights;

/* Looks every tensor up and checks its type, shape and numbers.  MF_E_CORRUPT names
 * tensor and expectation; MF_E_NOMEM.  `out` is to be ended with mf_weights_done, also
 * after a failure; the file must stay open for as long as it is used. */
MF_CHECKED mf_rc mf_weights_get(const mf_safetensors *file,
                                const mf_encoder_config *config, mf_weights *out,
                                mf_err *err);
void mf_weights_done(mf_weights *weights);

#endif
