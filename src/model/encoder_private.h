/* encoder_private.h - private to model/: inside an encoder and its lanes.
 *
 * The forward pass is that of BERT (Devlin et al. 2018), post-norm; MPNet (Song et al.
 * 2020) adds to attention a bias for the distance of two tokens:
 *
 *   x = norm(word + position + type)
 *   per layer:  x = norm(x + out(attention(qkv(x))))
 *               x = norm(x + outer(gelu(inner(x)))) */
#ifndef MF_MODEL_ENCODER_PRIVATE_H
#define MF_MODEL_ENCODER_PRIVATE_H

#include <stdatomic.h>

#include "model/encoder.h"
#include "model/encoder_calibration.h"
#include "model/encoder_config.h"
#include "model/encoder_pack.h"
#include "model/encoder_weights.h"
#include "model/reranker.h"
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
    /* Of these, so many at a time take what follows attention in 8 bits. */
    MF_SLICE8_TOKENS = 48,
};

typedef struct mf_layer {
    mf_matrix *qkv;   /* hidden to 3 * hidden: queries, keys, values */
    mf_matrix *out;   /* hidden to hidden */
    mf_matrix *inner; /* hidden to inner */
    mf_matrix *outer; /* inner to hidden */
} mf_layer;

/* The same in bf16. */
typedef struct mf_layer16 {
    mf_matrix16 *qkv;
    mf_matrix16 *out;
    mf_matrix16 *inner;
    mf_matrix16 *outer;
} mf_layer16;

struct mf_encoder {
    atomic_size_t refs;
    /* constant after open */
    mf_encoder_info info;
    mf_encoder_config config;
    const mf_kernels *kernels;
    mf_model_tokenizer *tokenizer;
    mf_frame frame;     /* the tokenizer's */
    size_t pair_type;   /* row of the type table for the second text of a pair */
    size_t dim;         /* numbers of a vector that are given, 1..hidden */
    float *relative;    /* [heads, 2 * window - 1], as mf_attention_call; NULL: none */
    mf_matrix *dense;   /* the head of a reranker, NULL without: hidden to hidden, */
    mf_matrix *classes; /* hidden to labels */
    mf_precision precision; /* what runs: any but AUTO */
    /* for fp32 and bf16, else empty */
    mf_safetensors *file;
    mf_weights weights;   /* in the mapped file */
    mf_layer *layers;     /* [config.layers]; fp32 */
    mf_layer16 *layers16; /* [config.layers]; bf16 */
    /* for int8, else empty */
    mf_pack pack;        /* in one of the next two */
    mf_file_view mapped; /* the cache file */
    void *image;         /* or memory, where no file could be written */
};

_Static_assert(MF_SLICE8_TOKENS <= MF_GROUP_TOKENS, "buffers are for a group");

struct mf_lane {
    mf_encoder *encoder; /* one reference */
    size_t tokens_max;   /* tokens in one group */
    int32_t *ids;        /* [tokens_max + window]: a group, and the text behind it */
    size_t *lengths;     /* [MF_ENCODE_BATCH_MAX] tokens of each text of the group */
    size_t *seconds;     /* [MF_ENCODE_BATCH_MAX] of each pair, where its B begins */
    bool *first; /* [tokens_max] of int8: whether a token is the first of its text */
    int32_t *pair_ids; /* [2 * window] of a reranker: the two texts of a pair */
    float *block;      /* one allocation behind the pointers below */
    float *x;          /* [tokens_max, hidden] */
    float *qkv;        /* [tokens_max, 3 * hidden] */
    float *context;    /* [tokens_max, hidden] */
    float *sum;        /* [MF_GROUP_TOKENS, hidden]: a residual sum before its norm */
    float *inner;      /* [MF_GROUP_TOKENS, inner] */
    float *scratch;    /* of the attention kernel */
    mf_calibration *calibration; /* borrowed; sees what fp32 layers take in, or NULL */
    mf_rows8 x8;       /* [tokens_max, hidden], as are the next two what fp32 has */
    mf_rows8 context8; /* [MF_GROUP_TOKENS, hidden] */
    mf_rows8 inner8;   /* [MF_GROUP_TOKENS, inner] */
    float *x16;        /* what a linear layer takes, rounded: any of the rows above */

    const atomic_bool *stop; /* ends the work when set; NULL: nobody can */
};

/* mf_encoder_open with the kernels of one processor level, which mf_cpu_has() must
 * allow: for tests and benchmarks. */
MF_CHECKED mf_rc mf_encoder_open_at(const char *dir, mf_cpu_level level,
                                    const mf_encoder_options *options, mf_encoder **out,
                                    mf_err *err);

/* One group through the network: `count` texts whose token ids follow each other in
 * `ids`, text i having lengths[i] of them, 1..window.  Ids are below config.vocab, and
 * all lengths together at most lane->tokens_max.  Writes `out` [count, enc->dim].
 * MF_E_TIMEOUT, MF_E_STOPPING, or MF_E_CORRUPT for weights that lead to no finite
 * vector. */
MF_CHECKED mf_rc mf_lane_encode_ids(mf_lane *lane, const int32_t *ids,
                                    const size_t *lengths, size_t count,
                                    int64_t deadline_ns, float *out, mf_err *err);

/* Texts whose token ids follow each other. */
typedef struct mf_token_group {
    const int32_t *ids;
    const size_t *lengths; /* [count] */
    const size_t *seconds; /* [count] tokens before B of each pair; NULL: no pairs */
    size_t count;
    size_t tokens; /* the sum of the lengths */
} mf_token_group;

/* The row of the type table for token `at` of text `text`. */
static inline size_t mf_group_type(const mf_encoder *enc, const mf_token_group *group,
                                   size_t text, size_t at) {
    return group->seconds != NULL && at >= group->seconds[text] ? enc->pair_type : 0;
}

/* What a lane makes of up to MF_ENCODE_BATCH_MAX texts: vectors [count, enc->dim], or
 * logits [count, config.labels].  A vector can be asked of pairs too. */
typedef struct mf_lane_job {
    const mf_str *query; /* the first text of every pair; NULL: texts alone */
    const mf_str *texts;
    size_t count;
    bool logits;
    int64_t deadline_ns;
} mf_lane_job;

/* As mf_lane_encode and mf_lane_score, whatever the folder was opened for. */
MF_CHECKED mf_rc mf_lane_run(mf_lane *lane, const mf_lane_job *job, float *out,
                             size_t *truncated, mf_err *err);

/* reranker.c: the token ids of a question, cut to what a pair can take; and of a pair,
 * at most `window`.  `second` receives how many ids stand before the text's. */
typedef struct mf_pair_query {
    mf_str text;
    int32_t *ids;
    size_t count;
    bool cut; /* the question has more tokens than a pair takes */
} mf_pair_query;
void mf_pair_begin(const mf_encoder *enc, mf_str query, int32_t *ids,
                   mf_pair_query *out);
size_t mf_pair_encode(const mf_encoder *enc, const mf_pair_query *query, mf_str text,
                      int32_t *text_ids, int32_t *out, size_t *second, bool *cut);
/* Logits of a group that has gone through all layers. */
MF_CHECKED mf_rc mf_lane_classify(mf_lane *lane, const mf_token_group *group,
                                  float *logits, mf_err *err);

/* encoder_relative.c: the distances' bias, spread over all distances in a window;
 * MF_E_NOMEM. */
MF_CHECKED mf_rc mf_relative_make(const mf_encoder_config *config,
                                  const float *distances, float **out, mf_err *err);

/* The parts of the forward pass in fp32: from ids to lane->x, and one layer of it. */
void mf_lane_embed32(mf_lane *lane, const mf_token_group *group);
void mf_lane_layer32(mf_lane *lane, size_t index, size_t tokens, const size_t *lengths,
                     size_t count);

/* The forward pass of one layer in 8 bits (encoder_lane8.c), as the functions of
 * encoder_lane.c do it in fp32. */
void mf_lane_embed8(mf_lane *lane, const mf_token_group *group);
void mf_lane_qkv8(mf_lane *lane, const mf_layer8 *layer, size_t tokens);
void mf_lane_feed_forward8(mf_lane *lane, const mf_layer8 *layer, size_t first,
                           size_t rows);

/* The same in bf16 (encoder_lane16.c), for layer `index`. */
void mf_lane_qkv16(mf_lane *lane, size_t index, size_t tokens);
void mf_lane_feed_forward16(mf_lane *lane, size_t index, size_t first, size_t rows);

#endif
