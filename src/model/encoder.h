/* encoder.h - text in, unit-length vectors out.
 *
 * An mf_encoder is a loaded sentence encoder of the BERT family (Hugging Face layout:
 * config.json, model.safetensors, tokenizer.json or vocab.txt; docs/models.md says
 * which kinds are built), or a reranker (reranker.h).  It never changes after open and
 * any number of threads may share it.  Everything inference does change lives in an
 * mf_lane, which serves one thread at a time.  Lanes are costly to make and cheap to
 * keep.
 *
 * Weights and activations of the linear layers are fp32 or, with a precision of int8,
 * 8-bit integers: a quarter of the memory, several times the speed, and vectors whose
 * cosine to the exact ones is about 0.99 or better (docs/encoder.md).  In between is
 * bf16: half the memory and a cosine above 0.999.  Vectors of the three are close
 * enough to be searched together, but not equal.  For int8 the weights are converted
 * once and kept in a file beside the model, MF_PACK_FILE; for bf16 they are converted
 * at open.
 *
 * Batches are packed: the texts' tokens are concatenated, attention runs within each
 * text, nothing is padded; a text gives the same bits alone and in any batch. */
#ifndef MF_MODEL_ENCODER_H
#define MF_MODEL_ENCODER_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "model/tokenizer.h"

enum {
    MF_ENCODE_BATCH_MAX = 64,      /* texts in one call */
    MF_ENCODE_BYTES_MAX = 1 << 20, /* bytes in one text */
};

#define MF_PACK_FILE "int8.mfpack"

typedef enum mf_precision {
    MF_PRECISION_AUTO, /* int8 where it is fast and agrees with fp32, else fp32 */
    MF_PRECISION_FP32,
    MF_PRECISION_INT8,
    MF_PRECISION_BF16,
} mf_precision;

/* What a folder is opened for. */
typedef enum mf_model_task {
    MF_TASK_ENCODE, /* a sentence encoder: a text to a vector */
    MF_TASK_RANK,   /* a cross-encoder: a question and a text to numbers, reranker.h */
} mf_model_task;

typedef struct mf_encoder_options {
    mf_precision precision;
    mf_model_task task;
    /* Only the first so many numbers of a vector, brought to norm 1 again, as models
     * trained for that allow ("Matryoshka", Kusupati et al. 2022).  0: all of them. */
    size_t dimensions;
} mf_encoder_options;

typedef struct mf_encoder mf_encoder;
typedef struct mf_lane mf_lane;

typedef struct mf_encoder_info {
    char name[64]; /* last component of the folder's path */
    size_t dim;    /* D: floats in a vector */
    size_t labels; /* numbers a reranker gives; 0: a sentence encoder */
    size_t layers, heads,
        window; /* window: tokens in one text, [CLS] and [SEP] included */
    size_t weight_bytes;
    const char *precision; /* what runs: "fp32", "int8" or "bf16" */
    const char *kernel;    /* "avx512", "avx2" or "scalar" */
    const char *packed; /* where the weights came from: "none" (as published), "mapped"
                           (a packed file) or "made" (packed at this open) */
} mf_encoder_info;

mf_encoder_options mf_encoder_options_default(void); /* AUTO, ENCODE, all numbers */
/* "auto", "fp32", "int8" or "bf16"; false, with `out` as it was, for anything else. */
MF_CHECKED bool mf_precision_from_name(const char *name, mf_precision *out);

/* Maps the model in `dir` and checks every tensor's name, type, shape and extent before
 * first use.  MF_E_IO, MF_E_CORRUPT (names tensor and expectation), MF_E_UNSUPPORTED (a
 * part that is not built, or a folder for the other task), MF_E_INVAL (more dimensions
 * than there are) or MF_E_NOMEM.  The caller gets one reference.
 *
 * Unless fp32 or bf16 is asked for, the packed weights are mapped if the file is whole
 * and of this model; otherwise they are made, compared with fp32 on a few sentences,
 * and written, which takes some tenths of a second once.  A folder that cannot be
 * written only makes this happen at every open. */
MF_CHECKED mf_rc mf_encoder_open(const char *dir, const mf_encoder_options *options,
                                 mf_encoder **out, mf_err *err);
mf_encoder *mf_encoder_ref(mf_encoder *enc);
mf_encoder *mf_encoder_unref(mf_encoder *enc); /* takes NULL; always returns NULL */
/* Encoders open in the whole process. */
size_t mf_encoder_alive(void);
void mf_encoder_get_info(const mf_encoder *enc, mf_encoder_info *out);
const mf_model_tokenizer *mf_encoder_tokenizer(const mf_encoder *enc);

MF_CHECKED mf_rc mf_lane_open(mf_encoder *enc, mf_lane **out, mf_err *err);
void mf_lane_close(mf_lane *lane);
/* From now on encoding also ends when `*stop` is true, with MF_E_STOPPING: it is looked
 * at between layers, as the deadline is.  NULL: never.  The flag outlives the lane. */
void mf_lane_stop_on(mf_lane *lane, const atomic_bool *stop);

/* Encodes `count` UTF-8 texts, borrowed for the call, into `out`: row-major [count, D],
 * each row of L2 norm 1 (an empty text gives the vector of its two special tokens).
 * Tokens beyond the model's window are dropped; `*truncated`, unless NULL, receives how
 * many texts that happened to.  MF_E_INVAL (a reranker), MF_E_LIMIT (a bound above) or
 * MF_E_TIMEOUT (`deadline_ns`, monotonic clock, looked at between layers).  After an
 * error `out` holds nothing of use and the lane is ready for the next call. */
MF_CHECKED mf_rc mf_lane_encode(mf_lane *lane, const mf_str *texts, size_t count,
                                int64_t deadline_ns, float *out, size_t *truncated,
                                mf_err *err);

#endif
