/* encoder_pack.h - private to model/: a model's weights with 8 bits each, in one image.
 *
 * The image is what inference reads and what is kept in a file beside the model, so
 * that the next start maps it and is ready (docs/formats/encoder-cache.md).  It holds
 * everything the network needs: layers and word table in 8 bits, the rest in fp32. */
#ifndef MF_MODEL_ENCODER_PACK_H
#define MF_MODEL_ENCODER_PACK_H

#include "base/str.h"
#include "model/encoder_calibration.h"
#include "model/encoder_weights.h"
#include "num/matrix8.h"
#include "os/file_stamp.h"

/* The model file an image was made from. */
typedef struct mf_pack_source {
    mf_file_stamp stamp;
    uint64_t hash[2]; /* XXH3-128 of its bytes, low half first */
} mf_pack_source;

/* A norm whose result goes into a linear layer in 8 bits.  A few channels of it are
 * many times larger than the rest, and would leave the rest few of the 255 steps.  So
 * each channel is multiplied by `shrink` before it is quantised, and the weights it
 * meets are divided by it: large channels borrow precision from their weights (the idea
 * of SmoothQuant, Xiao et al. 2022). */
typedef struct mf_norm8 {
    mf_norm exact;
    const float *shrink; /* [hidden] */
} mf_norm8;

/* What is known beforehand of a text's first token where it goes into a linear layer,
 * and what the layer makes of it.  Only the rest is quantised. */
typedef struct mf_first8 {
    const float *known; /* [inputs] */
    const float *bias;  /* [outputs], zeros up to a whole MF_PANEL8: the matrix's, and
                         * the exact weights times `known` */
} mf_first8;

typedef struct mf_layer8 {
    mf_matrix8 qkv;   /* hidden to 3 * hidden: queries, keys, values */
    mf_matrix8 out;   /* hidden to hidden */
    mf_matrix8 inner; /* hidden to inner */
    mf_matrix8 outer; /* inner to hidden */
    mf_norm8 attention_norm;
    mf_norm8 output_norm;
    mf_first8 first_qkv;
    mf_first8 first_inner;
    mf_first8 first_outer;
    const float *qkv_shrink; /* of the norm before this layer */
} mf_layer8;

/* An image seen as weights.  Borrows the image, owns `layers`. */
typedef struct mf_pack {
    const int8_t *words;      /* [vocab, hidden] */
    const float *word_scales; /* [vocab]: weight = scale * word */
    const float *positions;   /* [positions, hidden]: position plus type 0 */
    const float *type_steps;  /* [hidden]: type 1 less type 0; zeros without it */
    const float *distances;   /* [buckets, heads] */
    mf_head_weights head;     /* of a reranker, in fp32 */
    mf_norm8 input_norm;
    mf_layer8 *layers; /* [config.layers] */
    mf_pack_source source;
    float agreement; /* least cosine to fp32 over the sentences of the check at open */
} mf_pack;

/* Bytes of the image of a model. */
size_t mf_pack_bytes(const mf_encoder_config *config);

/* Fills *out with what goes into layer number `layer`; called for each in order. */
typedef mf_rc mf_pack_observe(void *context, size_t layer, mf_calibration *out,
                              mf_err *err);

/* How an image is made. */
typedef struct mf_pack_work {
    mf_cpu_level level; /* whose kernels do the arithmetic */
    mf_pack_observe *observe;
    void *context; /* for `observe` */
} mf_pack_work;

/* Writes the image of mf_pack_bytes() bytes, zero before and aligned for cache lines.
 * It can be opened once it is sealed, and sealed again with other facts.  MF_E_NOMEM,
 * or what `observe` fails with. */
MF_CHECKED mf_rc mf_pack_build(const mf_encoder_config *config,
                               const mf_weights *weights, const mf_pack_work *work,
                               void *image, mf_err *err);
void mf_pack_seal(void *image, const mf_pack_source *source, float agreement);

/* Sees `bytes`, aligned for cache lines, as weights: after checking format, version,
 * size, shape, checksum, and that no number is a NaN or an infinity.  MF_E_CORRUPT for
 * anything else, MF_E_NOMEM.  The image is borrowed until mf_pack_done. */
MF_CHECKED mf_rc mf_pack_open(const mf_encoder_config *config, mf_str bytes,
                              mf_pack *out, mf_err *err);
void mf_pack_done(
    mf_pack *pack); /* the image stays the caller's; an empty pack is fine */

#endif
