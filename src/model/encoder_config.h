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
    MF_ENCODER_POSITIONS_MAX = 8194,
    MF_ENCODER_VOCAB_MAX = 1 << 20,
    MF_ENCODER_TYPES_MAX = 16,
    MF_ENCODER_BUCKETS_MAX = 1024,
    MF_ENCODER_LABELS_MAX = 256,
    MF_ENCODER_JSON_MAX = 1 << 20, /* bytes in one file */
};

/* The networks differ in the names of their tensors, in where positions begin, in token
 * types, in MPNet's bias for the distance of two tokens, and in the head of rerankers.
 */
typedef enum mf_network {
    MF_NETWORK_BERT,
    MF_NETWORK_DISTILBERT,
    MF_NETWORK_MPNET,
    MF_NETWORK_ROBERTA, /* XLM-R too */
} mf_network;

/* How the tokens' vectors become one: their mean, the first one, or the largest of each
 * number. */
typedef enum mf_pooling { MF_POOLING_MEAN, MF_POOLING_CLS, MF_POOLING_MAX } mf_pooling;

typedef struct mf_encoder_config {
    mf_network network;
    size_t hidden; /* numbers per token; a multiple of MF_LANES */
    size_t layers;
    size_t heads;
    size_t head_dim;       /* hidden / heads; a multiple of MF_LANES */
    size_t inner;          /* width of the feed-forward layer */
    size_t positions;      /* rows of the position table */
    size_t position_first; /* the row of a text's first token */
    size_t vocab;          /* rows of the word table */
    size_t types;          /* rows of the token type table; 0: there is none */
    size_t buckets;        /* rows of the table of distances; 0: there is none */
    size_t labels;         /* numbers a reranker gives; 0: a sentence encoder */
    size_t window;         /* tokens in one text, 2..positions - position_first */
    float epsilon;         /* of layer norm */
    mf_pooling pooling;
} mf_encoder_config;

/* The texts of a folder's files; an absent one is MF_STR_NONE, which only config.json
 * must not be. */
typedef struct mf_encoder_texts {
    mf_str config;    /* config.json */
    mf_str modules;   /* modules.json: the steps of a sentence encoder */
    mf_str sentence;  /* sentence_bert_config.json: max_seq_length */
    mf_str pooling;   /* 1_Pooling/config.json: mean, cls or max; mean without it */
    mf_str tokenizer; /* tokenizer_config.json: model_max_length */
} mf_encoder_texts;

/* The window is max_seq_length; without it what the position table has room for, or
 * model_max_length if that is less.  MF_E_CORRUPT names file, key and allowed range;
 * MF_E_UNSUPPORTED names the network part that is not built. */
MF_CHECKED mf_rc mf_encoder_config_parse(const mf_encoder_texts *texts,
                                         mf_encoder_config *out, mf_err *err);

/* The same, reading the files of the folder `dir`.  Also MF_E_IO and MF_E_NOMEM. */
MF_CHECKED mf_rc mf_encoder_config_read(const char *dir, mf_encoder_config *out,
                                        mf_err *err);

#endif
