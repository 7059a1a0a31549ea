/* encoder_config.h - private to model/: what the JSON files of a model folder say about
 * the shape of its network.  Every number is checked against a bound before it sizes
 * anything. */
#ifndef MF_MODEL_ENCODER_CONFIG_H
#define MF_MODEL_ENCODER_CONFIG_H

#include "base/err.h"
#include "base/str.h"

enum {
    MF_ENCODER_HIDDEN_MAX = 4096,
    MF_ENCODER_LAYERS_MAX = 64,
    MF_ENCODER_HEADS_MAX = 128,
    MF_ENCODER_INNER_MAX = 16384,
    MF_ENCODER_POSITIONS_MAX = 8192,
    MF_ENCODER_VOCAB_MAX = 1 << 20,
    MF_ENCODER_TYPES_MAX = 16,
    MF_ENCODER_JSON_MAX = 1 << 20, /* bytes in one file */
};

typedef enum mf_pooling { MF_POOLING_MEAN, MF_POOLING_CLS } mf_pooling;

typedef struct mf_encoder_config {
    size_t hidden; /* numbers per token; a multiple of MF_LANES */
    size_t layers;
    size_t heads;
    size_t head_dim;  /* hidden / heads; a multiple of MF_LANES */
    size_t inner;     /* width of the feed-forward layer */
    size_t positions; /* rows of the position table */
    size_t vocab;     /* rows of the word table */
    size_t types;     /* rows of the token type table */
    size_t window;    /* tokens in one text, 2..positions */
    float epsilon;    /* of layer norm */
    mf_pooling pooling;
} mf_encoder_config;

/* The texts of config.json, sentence_bert_config.json (max_seq_length; the window is
 * all positions without it) and 1_Pooling/config.json (mean or first token; mean
 * without it).  An absent file is MF_STR_NONE, which only config.json must not be.
 * MF_E_CORRUPT names file, key and allowed range; MF_E_UNSUPPORTED names the network
 * part that is not built. */
MF_CHECKED mf_rc mf_encoder_config_parse(mf_str config, mf_str sentence, mf_str pooling,
                                         mf_encoder_config *out, mf_err *err);

/* The same, reading the files of the folder `dir`.  Also MF_E_IO and MF_E_NOMEM. */
MF_CHECKED mf_rc mf_encoder_config_read(const char *dir, mf_encoder_config *out,
                                        mf_err *err);

#endif
