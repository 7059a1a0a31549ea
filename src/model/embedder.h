/* embedder.h - the process's way to vectors: a pool of encoder lanes with two classes.
 *
 * One lane per thread that may encode at once.  A question takes a free lane before any
 * waiting ingest work does, and one lane is kept from ingest so that a question never
 * waits for more than one running ingest slice.  Identical short texts asked again are
 * answered from a bounded cache keyed by content hash.  Thread-safe. */
#ifndef MF_MODEL_EMBEDDER_H
#define MF_MODEL_EMBEDDER_H

#include "model/encoder.h"

typedef struct mf_embedder mf_embedder;

typedef enum mf_embed_class { MF_EMBED_QUESTION, MF_EMBED_INGEST } mf_embed_class;

typedef struct mf_embedder_options {
    size_t lane_count;      /* 1..64 */
    size_t cache_count_max; /* vectors kept by content hash; 0 switches the cache off */
} mf_embedder_options;

typedef struct mf_embedder_stats {
    size_t lane_count, lanes_busy;
    uint64_t texts, tokens_truncated_texts, cache_hits, cache_misses;
    uint64_t questions, ingest_slices;
    uint64_t busy_ns; /* time lanes spent encoding, summed */
} mf_embedder_stats;

/* Takes a reference on `enc`. */
MF_CHECKED mf_rc mf_embedder_open(mf_encoder *enc, const mf_embedder_options *options,
                                  mf_embedder **out, mf_err *err);
void mf_embedder_close(mf_embedder *emb); /* no call may be under way */
size_t mf_embedder_dim(const mf_embedder *emb);
const mf_encoder *mf_embedder_encoder(const mf_embedder *emb);

/* Waits for a lane until `deadline_ns`, then encodes as mf_lane_encode does.  Any
 * count: it is cut into slices of MF_ENCODE_BATCH_MAX texts at most, and the lane is
 * given back between slices of ingest work. */
MF_CHECKED mf_rc mf_embedder_encode(mf_embedder *emb, mf_embed_class cls,
                                    const mf_str *texts, size_t count,
                                    int64_t deadline_ns, float *out, mf_err *err);
void mf_embedder_get_stats(mf_embedder *emb, mf_embedder_stats *out);

#endif
