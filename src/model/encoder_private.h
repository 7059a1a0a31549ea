/* encoder_private.h - private to model/: inside an encoder and its lanes.
 *
 * The forward pass is that of BERT (Devlin et al. 2018), post-norm:
 *
 *   x = norm(word + position + type)
 *   per layer:  x = norm(x + out(attention(qkv(x))))
 *               x = norm(x + outer(gelu(inner(x)))) */
#ifndef MF_MODEL_ENCODER_PRIVATE_H
#define MF_MODEL_ENCODER_PRIVATE_H

#include <stdatomic.h>

#include "model/encoder.h"
#include "model/encoder_config.h"
#include "model/encoder_pack.h"
#include "model/encoder_weights.h"
#include "model/safetensors.h"
#include "num/kernels.h"
#include "os/file.h"

#define MF_MODEL_FILE "model.safetensors"

/* The least cosine to fp32 that `auto` takes int8 for. */
#define MF_AGREEMENT_MIN 0.99F

enum {
    /* A lane takes texts through all layers in groups of about this many tokens: enough
     * to use each weight many times, few enough for the activations to stay in the
     * second cache. */
    MF_GROUP_TOKENS = 96,
};

typedef struct mf_layer {
    mf_matrix *qkv;   /* hidden to 3 * hidden: queries, keys, values */
    mf_matrix *out;   /* hidden to hidden */
    mf_matrix *inner; /* hidden to inner */
    mf_matrix *outer; /* inner to hidden */
} mf_layer;

struct mf_encoder {
    atomic_size_t refs;
    /* constant after open */
    mf_encoder_info info;
    mf_encoder_config config;
    const mf_kernels *kernels;
    mf_wordpiece *tokenizer;
    mf_precision precision; /* what runs: FP32 or INT8 */
    /* for fp32, else empty */
    mf_safetensors *file;
    mf_weights weights; /* in the mapped file */
    mf_layer *layers;   /* [config.layers] */
    /* for int8, else empty */
    mf_pack pack;        /* in one of the next two */
    mf_file_view mapped; /* the cache file */
    void *image;         /* or memory, where no file could be written */
};

struct mf_lane {
    mf_encoder *encoder; /* one reference */
    size_t tokens_max;   /* tokens in one group */
    int32_t *ids;        /* [tokens_max + window]: a group, and the text behind it */
    size_t *lengths;     /* [MF_ENCODE_BATCH_MAX] tokens of each text of the group */
    float *block;        /* one allocation behind the pointers below */
    float *x;            /* [tokens_max, hidden] */
    float *qkv;          /* [tokens_max, 3 * hidden] */
    float *context;      /* [tokens_max, hidden] */
    float *sum;          /* [MF_GROUP_TOKENS, hidden]: a residual sum before its norm */
    float *inner;        /* [MF_GROUP_TOKENS, inner] */
    float *scratch;      /* of the attention kernel */
    float *peaks; /* where fp32 notes magnitudes, for mf_pack_build; NULL: nowhere */
    mf_rows8 x8;  /* [tokens_max, hidden], as are the next two what fp32 has */
    mf_rows8 context8; /* [MF_GROUP_TOKENS, hidden] */
    mf_rows8 inner8;   /* [MF_GROUP_TOKENS, inner] */
};

/* mf_encoder_open with the kernels of one processor level, which mf_cpu_has() must
 * allow: for tests and benchmarks. */
MF_CHECKED mf_rc mf_encoder_open_at(const char *dir, mf_cpu_level level,
                                    const mf_encoder_options *options, mf_encoder **out,
                                    mf_err *err);

/* One group through the network: `count` texts whose token ids follow each other in
 * `ids`, text i having lengths[i] of them, 1..window.  Ids are below config.vocab, and
 * all lengths together at most lane->tokens_max.  Writes `out` [count, hidden].
 * MF_E_TIMEOUT, or MF_E_CORRUPT for weights that lead to no finite vector. */
MF_CHECKED mf_rc mf_lane_encode_ids(mf_lane *lane, const int32_t *ids,
                                    const size_t *lengths, size_t count,
                                    int64_t deadline_ns, float *out, mf_err *err);

/* The forward pass of one layer in 8 bits (encoder_lane8.c), as the functions of
 * encoder_lane.c do it in fp32. */
void mf_lane_embed8(mf_lane *lane, const int32_t *ids, const size_t *lengths,
                    size_t count, size_t tokens);
void mf_lane_qkv8(mf_lane *lane, const mf_layer8 *layer, size_t tokens);
void mf_lane_feed_forward8(mf_lane *lane, const mf_layer8 *layer, size_t first,
                           size_t rows);

#endif
