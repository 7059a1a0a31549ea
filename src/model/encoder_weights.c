/* encoder_weights.c - the names BERT's tensors have in Hugging Face checkpoints. */
#include "model/encoder_weights.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { TENSOR_NAME_MAX = 128 };

/* Where tensors come from. */
typedef struct source {
    const mf_safetensors *file;
    const char *prefix; /* "" or "bert.": checkpoints with a task head have it */
} source;

/* The tensor "<prefix><module>.<part>" of `rows` x `columns`, or of `rows` numbers when
 * `columns` is 0. */
static mf_rc get(const source *from, const char *module, const char *part, size_t rows,
                 size_t columns, const float **out, mf_err *err) {
    char name[TENSOR_NAME_MAX];
    int len = snprintf(name, sizeof name, "%s%s.%s", from->prefix, module, part);
    MF_ASSERT(len > 0 && len < TENSOR_NAME_MAX);
    const size_t shape[2] = {rows, columns};
    return mf_safetensors_get_f32(from->file, name, shape, columns == 0 ? 1 : 2, out,
                                  err);
}

static mf_rc get_norm(const source *from, const char *module, size_t width,
                      mf_norm *out, mf_err *err) {
    MF_TRY(get(from, module, "weight", width, 0, &out->gain, err));
    return get(from, module, "bias", width, 0, &out->bias, err);
}

static mf_rc get_linear(const source *from, size_t layer, const char *part,
                        size_t outputs, size_t inputs, mf_linear_weights *out,
                        mf_err *err) {
    char module[TENSOR_NAME_MAX];
    (void)snprintf(module, sizeof module, "encoder.layer.%zu.%s", layer, part);
    MF_TRY(get(from, module, "weight", outputs, inputs, &out->weights, err));
    return get(from, module, "bias", outputs, 0, &out->bias, err);
}

static mf_rc get_layer(const source *from, const mf_encoder_config *config, size_t i,
                       mf_layer_weights *layer, mf_err *err) {
    static const char *const qkv[] = {"attention.self.query", "attention.self.key",
                                      "attention.self.value"};
    size_t hidden = config->hidden;
    size_t wide = config->inner;
    char norm[TENSOR_NAME_MAX];
    for (size_t part = 0; part < 3; part++) {
        MF_TRY(get_linear(from, i, qkv[part], hidden, hidden, &layer->qkv[part], err));
    }
    MF_TRY(get_linear(from, i, "attention.output.dense", hidden, hidden, &layer->out,
                      err));
    MF_TRY(get_linear(from, i, "intermediate.dense", wide, hidden, &layer->inner, err));
    MF_TRY(get_linear(from, i, "output.dense", hidden, wide, &layer->outer, err));
    (void)snprintf(norm, sizeof norm, "encoder.layer.%zu.attention.output.LayerNorm",
                   i);
    MF_TRY(get_norm(from, norm, hidden, &layer->attention_norm, err));
    (void)snprintf(norm, sizeof norm, "encoder.layer.%zu.output.LayerNorm", i);
    return get_norm(from, norm, hidden, &layer->output_norm, err);
}

mf_rc mf_weights_get(const mf_safetensors *file, const mf_encoder_config *config,
                     mf_weights *out, mf_err *err) {
    const char *word_table = "bert.embeddings.word_embeddings.weight";
    source from = {file, mf_safetensors_has(file, word_table) ? "bert." : ""};
    *out = (mf_weights){0};
    out->layers = mf_alloc_zero(config->layers, sizeof *out->layers);
    if (out->layers == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu layers", config->layers);
    }
    MF_TRY(get(&from, "embeddings.word_embeddings", "weight", config->vocab,
               config->hidden, &out->words, err));
    MF_TRY(get(&from, "embeddings.position_embeddings", "weight", config->positions,
               config->hidden, &out->positions, err));
    MF_TRY(get(&from, "embeddings.token_type_embeddings", "weight", config->types,
               config->hidden, &out->types, err));
    MF_TRY(
        get_norm(&from, "embeddings.LayerNorm", config->hidden, &out->input_norm, err));
    for (size_t i = 0; i < config->layers; i++) {
        MF_TRY(get_layer(&from, config, i, &out->layers[i], err));
    }
    return MF_OK;
}

void mf_weights_done(mf_weights *weights) {
    mf_free(weights->layers);
    *weights = (mf_weights){0};
}
