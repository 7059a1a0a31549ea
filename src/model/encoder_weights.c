/* encoder_weights.c - the names the tensors of a network have in its checkpoints.
 *
 * A checkpoint of the bare network has names like "embeddings.LayerNorm.bias"; one with
 * a task head puts the network's name in front, "bert.embeddings.LayerNorm.bias".
 * Tensors that are not asked for, such as position ids or the head of a training task,
 * are left alone. */
#include "model/encoder_weights.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { TENSOR_NAME_MAX = 128 };

struct mf_converted {
    mf_converted *next;
    bool linear; /* of a layer's linear module */
    float values[];
};

typedef struct tensor_names {
    const char *prefix; /* of a checkpoint with a task head */
    const char *layer;  /* in front of a layer's number */
    const char *qkv[3];
    const char *out, *inner, *outer;
    const char *attention_norm, *output_norm;
    /* The head; "^" stands for the prefix, if there is one. */
    const char *dense, *classifier;
} tensor_names;

static const tensor_names network_names[] = {
    [MF_NETWORK_BERT] = {.prefix = "bert.",
                         .layer = "encoder.layer.",
                         .qkv = {"attention.self.query", "attention.self.key",
                                 "attention.self.value"},
                         .out = "attention.output.dense",
                         .inner = "intermediate.dense",
                         .outer = "output.dense",
                         .attention_norm = "attention.output.LayerNorm",
                         .output_norm = "output.LayerNorm",
                         .dense = "^pooler.dense",
                         .classifier = "classifier"},
    [MF_NETWORK_DISTILBERT] = {.prefix = "distilbert.",
                               .layer = "transformer.layer.",
                               .qkv = {"attention.q_lin", "attention.k_lin",
                                       "attention.v_lin"},
                               .out = "attention.out_lin",
                               .inner = "ffn.lin1",
                               .outer = "ffn.lin2",
                               .attention_norm = "sa_layer_norm",
                               .output_norm = "output_layer_norm",
                               .dense = "pre_classifier",
                               .classifier = "classifier"},
    [MF_NETWORK_MPNET] = {.prefix = "mpnet.",
                          .layer = "encoder.layer.",
                          .qkv = {"attention.attn.q", "attention.attn.k",
                                  "attention.attn.v"},
                          .out = "attention.attn.o",
                          .inner = "intermediate.dense",
                          .outer = "output.dense",
                          .attention_norm = "attention.LayerNorm",
                          .output_norm = "output.LayerNorm",
                          .dense = "classifier.dense",
                          .classifier = "classifier.out_proj"},
    [MF_NETWORK_ROBERTA] = {.prefix = "roberta.",
                            .layer = "encoder.layer.",
                            .qkv = {"attention.self.query", "attention.self.key",
                                    "attention.self.value"},
                            .out = "attention.output.dense",
                            .inner = "intermediate.dense",
                            .outer = "output.dense",
                            .attention_norm = "attention.output.LayerNorm",
                            .output_norm = "output.LayerNorm",
                            .dense = "classifier.dense",
                            .classifier = "classifier.out_proj"},
};

/* Where tensors come from and where converted ones are noted. */
typedef struct source {
    const mf_safetensors *file;
    const tensor_names *names;
    const char *prefix; /* "", or that of the names */
    mf_weights *weights;
    bool linear;
} source;

/* `count` floats in the list; NULL: no memory. */
static float *add_converted(source *from, size_t count) {
    size_t bytes;
    if (!mf_mul_size(count, sizeof(float), &bytes) ||
        !mf_add_size(bytes, sizeof(mf_converted), &bytes)) {
        return NULL;
    }
    mf_converted *made = mf_alloc(bytes);
    if (made == NULL) {
        return NULL;
    }
    made->linear = from->linear;
    made->next = from->weights->converted;
    from->weights->converted = made;
    return made->values;
}

/* The tensor "<prefix><module>.<part>" of `rows` x `columns`, or of `rows` numbers when
 * `columns` is 0. */
static mf_rc get(source *from, const char *module, const char *part, size_t rows,
                 size_t columns, const float **out, mf_err *err) {
    char name[TENSOR_NAME_MAX];
    int len = snprintf(name, sizeof name, "%s%s.%s", from->prefix, module, part);
    MF_ASSERT(len > 0 && len < TENSOR_NAME_MAX);
    const size_t shape[2] = {rows, columns};
    size_t rank = columns == 0 ? 1 : 2;
    if (!mf_safetensors_is_16bit(from->file, name)) {
        return mf_safetensors_get_f32(from->file, name, shape, rank, out, err);
    }
    /* Before memory is asked for, the shape is known to be that of the file. */
    MF_TRY(mf_safetensors_expect(from->file, name, shape, rank, err));
    float *values = add_converted(from, columns == 0 ? rows : rows * columns);
    if (values == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for tensor '%s'", name);
    }
    *out = values;
    return mf_safetensors_convert(from->file, name, values, err);
}

static mf_rc get_norm(source *from, const char *module, size_t width, mf_norm *out,
                      mf_err *err) {
    MF_TRY(get(from, module, "weight", width, 0, &out->gain, err));
    return get(from, module, "bias", width, 0, &out->bias, err);
}

static mf_rc get_linear(source *from, const char *module, size_t outputs, size_t inputs,
                        mf_linear_weights *out, mf_err *err) {
    MF_TRY(get(from, module, "weight", outputs, inputs, &out->weights, err));
    return get(from, module, "bias", outputs, 0, &out->bias, err);
}

/* "encoder.layer.3.output.dense" */
static const char *in_layer(char out[TENSOR_NAME_MAX], const source *from, size_t layer,
                            const char *part) {
    (void)snprintf(out, TENSOR_NAME_MAX, "%s%zu.%s", from->names->layer, layer, part);
    return out;
}

static mf_rc get_layer(source *from, const mf_encoder_config *config, size_t i,
                       mf_layer_weights *layer, mf_err *err) {
    const tensor_names *names = from->names;
    size_t hidden = config->hidden;
    size_t wide = config->inner;
    char name[TENSOR_NAME_MAX];
    from->linear = true;
    for (size_t part = 0; part < 3; part++) {
        MF_TRY(get_linear(from, in_layer(name, from, i, names->qkv[part]), hidden,
                          hidden, &layer->qkv[part], err));
    }
    MF_TRY(get_linear(from, in_layer(name, from, i, names->out), hidden, hidden,
                      &layer->out, err));
    MF_TRY(get_linear(from, in_layer(name, from, i, names->inner), wide, hidden,
                      &layer->inner, err));
    MF_TRY(get_linear(from, in_layer(name, from, i, names->outer), hidden, wide,
                      &layer->outer, err));
    from->linear = false;
    MF_TRY(get_norm(from, in_layer(name, from, i, names->attention_norm), hidden,
                    &layer->attention_norm, err));
    return get_norm(from, in_layer(name, from, i, names->output_norm), hidden,
                    &layer->output_norm, err);
}

static mf_rc get_embeddings(source *from, const mf_encoder_config *config,
                            mf_weights *out, mf_err *err) {
    size_t hidden = config->hidden;
    MF_TRY(get(from, "embeddings.word_embeddings", "weight", config->vocab, hidden,
               &out->words, err));
    MF_TRY(get(from, "embeddings.position_embeddings", "weight", config->positions,
               hidden, &out->positions, err));
    if (config->types > 0) {
        MF_TRY(get(from, "embeddings.token_type_embeddings", "weight", config->types,
                   hidden, &out->types, err));
    } else {
        float *zeros = add_converted(from, hidden);
        if (zeros == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a row of zeros");
        }
        for (size_t i = 0; i < hidden; i++) {
            zeros[i] = 0.0F;
        }
        out->types = zeros;
    }
    if (config->buckets > 0) {
        MF_TRY(get(from, "encoder.relative_attention_bias", "weight", config->buckets,
                   config->heads, &out->distances, err));
    }
    return get_norm(from, "embeddings.LayerNorm", hidden, &out->input_norm, err);
}

static mf_rc get_head(source *from, const mf_encoder_config *config,
                      mf_head_weights *out, mf_err *err) {
    source bare = *from;
    bare.prefix = "";
    const char *dense = from->names->dense;
    bool prefixed = dense[0] == '^';
    size_t hidden = config->hidden;
    MF_TRY(get_linear(prefixed ? from : &bare, prefixed ? dense + 1 : dense, hidden,
                      hidden, &out->dense, err));
    return get_linear(&bare, from->names->classifier, config->labels, hidden,
                      &out->classifier, err);
}

mf_rc mf_weights_get(const mf_safetensors *file, const mf_encoder_config *config,
                     mf_weights *out, mf_err *err) {
    const tensor_names *names = &network_names[config->network];
    char word_table[TENSOR_NAME_MAX];
    (void)snprintf(word_table, sizeof word_table, "%sembeddings.word_embeddings.weight",
                   names->prefix);
    source from = {.file = file,
                   .names = names,
                   .prefix = mf_safetensors_has(file, word_table) ? names->prefix : "",
                   .weights = out};
    *out = (mf_weights){0};
    out->layers = mf_alloc_zero(config->layers, sizeof *out->layers);
    if (out->layers == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu layers", config->layers);
    }
    MF_TRY(get_embeddings(&from, config, out, err));
    for (size_t i = 0; i < config->layers; i++) {
        MF_TRY(get_layer(&from, config, i, &out->layers[i], err));
    }
    return config->labels > 0 ? get_head(&from, config, &out->head, err) : MF_OK;
}

void mf_weights_drop_linear(mf_weights *weights, const mf_encoder_config *config) {
    for (mf_converted **at = &weights->converted; *at != NULL;) {
        mf_converted *here = *at;
        if (here->linear) {
            *at = here->next;
            mf_free(here);
        } else {
            at = &here->next;
        }
    }
    for (size_t i = 0; i < config->layers; i++) {
        mf_layer_weights *layer = &weights->layers[i];
        *layer = (mf_layer_weights){.attention_norm = layer->attention_norm,
                                    .output_norm = layer->output_norm};
    }
}

void mf_weights_done(mf_weights *weights) {
    while (weights->converted != NULL) {
        mf_converted *next = weights->converted->next;
        mf_free(weights->converted);
        weights->converted = next;
    }
    mf_free(weights->layers);
    *weights = (mf_weights){0};
}
