/* encoder.c - opens a BERT model folder.
 *
 * Embedding tables and norms are used where the file is mapped.  The weights of the
 * linear layers are copied into the order the kernels read (num/matrix.h), after which
 * the mapping is cooled: of the file, only the rows of words that occur come back into
 * memory. */
#include "model/encoder.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/encoder_private.h"
#include "os/file.h"

enum { TENSOR_NAME_MAX = 128 };

/* --- tensors ---------------------------------------------------------------------- */

/* Where tensors come from while a model is opened. */
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

/* Makes a matrix of `count` linear modules stacked, each from `inputs` to `outputs`. */
static mf_rc get_linear(const source *from, size_t layer, const char *const *modules,
                        size_t count, size_t outputs, size_t inputs, mf_matrix **out,
                        mf_err *err) {
    for (size_t i = 0; i < count; i++) {
        char module[TENSOR_NAME_MAX];
        const float *weights = NULL;
        const float *bias = NULL;
        (void)snprintf(module, sizeof module, "encoder.layer.%zu.%s", layer,
                       modules[i]);
        MF_TRY(get(from, module, "weight", outputs, inputs, &weights, err));
        MF_TRY(get(from, module, "bias", outputs, 0, &bias, err));
        if (i == 0) { /* memory only for what the file really holds */
            MF_TRY(mf_matrix_new(count * outputs, inputs, out, err));
        }
        mf_matrix_set(*out, i * outputs, outputs, weights, bias);
    }
    return MF_OK;
}

static mf_rc load_layer(const source *from, const mf_encoder_config *config,
                        size_t index, mf_layer *layer, mf_err *err) {
    static const char *const qkv[] = {"attention.self.query", "attention.self.key",
                                      "attention.self.value"};
    static const char *const out[] = {"attention.output.dense"};
    static const char *const inner[] = {"intermediate.dense"};
    static const char *const outer[] = {"output.dense"};
    size_t hidden = config->hidden;
    size_t wide = config->inner;
    char norm[TENSOR_NAME_MAX];
    MF_TRY(get_linear(from, index, qkv, 3, hidden, hidden, &layer->qkv, err));
    MF_TRY(get_linear(from, index, out, 1, hidden, hidden, &layer->out, err));
    MF_TRY(get_linear(from, index, inner, 1, wide, hidden, &layer->inner, err));
    MF_TRY(get_linear(from, index, outer, 1, hidden, wide, &layer->outer, err));
    (void)snprintf(norm, sizeof norm, "encoder.layer.%zu.attention.output.LayerNorm",
                   index);
    MF_TRY(get_norm(from, norm, hidden, &layer->attention_norm, err));
    (void)snprintf(norm, sizeof norm, "encoder.layer.%zu.output.LayerNorm", index);
    return get_norm(from, norm, hidden, &layer->output_norm, err);
}

static mf_rc load_weights(mf_encoder *enc, mf_err *err) {
    const mf_encoder_config *config = &enc->config;
    const char *word_table = "bert.embeddings.word_embeddings.weight";
    source from = {enc->file, mf_safetensors_has(enc->file, word_table) ? "bert." : ""};
    MF_TRY(get(&from, "embeddings.word_embeddings", "weight", config->vocab,
               config->hidden, &enc->words, err));
    MF_TRY(get(&from, "embeddings.position_embeddings", "weight", config->positions,
               config->hidden, &enc->positions, err));
    MF_TRY(get(&from, "embeddings.token_type_embeddings", "weight", config->types,
               config->hidden, &enc->types, err));
    MF_TRY(
        get_norm(&from, "embeddings.LayerNorm", config->hidden, &enc->input_norm, err));
    for (size_t i = 0; i < config->layers; i++) {
        MF_TRY(load_layer(&from, config, i, &enc->layers[i], err));
    }
    mf_safetensors_cool(enc->file);
    return MF_OK;
}

/* --- opening ---------------------------------------------------------------------- */

static size_t weight_bytes(const mf_encoder *enc) {
    const mf_encoder_config *config = &enc->config;
    size_t rows = config->vocab + config->positions + config->types;
    size_t bytes = rows * config->hidden * sizeof(float);
    for (size_t i = 0; i < config->layers; i++) {
        const mf_layer *layer = &enc->layers[i];
        bytes += mf_matrix_bytes(layer->qkv) + mf_matrix_bytes(layer->out) +
                 mf_matrix_bytes(layer->inner) + mf_matrix_bytes(layer->outer);
    }
    return bytes;
}

static void fill_info(mf_encoder *enc, const char *dir) {
    mf_encoder_info *info = &enc->info;
    mf_str path = mf_str_from(dir);
    while (path.len > 1 && path.p[path.len - 1] == '/') {
        path.len--;
    }
    size_t start = path.len;
    while (start > 0 && path.p[start - 1] != '/') {
        start--;
    }
    mf_str name = mf_str_sub(path, start, path.len);
    (void)snprintf(info->name, sizeof info->name, "%.*s", MF_STR_ARGS(name));
    info->dim = enc->config.hidden;
    info->layers = enc->config.layers;
    info->heads = enc->config.heads;
    info->window = enc->config.window;
    info->weight_bytes = weight_bytes(enc);
    info->precision = "fp32";
    info->kernel = mf_cpu_level_name(enc->kernels->level);
}

static mf_rc load(mf_encoder *enc, const char *dir, mf_err *err) {
    char path[MF_PATH_MAX];
    MF_TRY(mf_encoder_config_read(dir, &enc->config, err));
    MF_TRY(mf_wordpiece_open(dir, &enc->tokenizer, err));
    if (mf_wordpiece_vocab_size(enc->tokenizer) > enc->config.vocab) {
        return MF_FAIL(err, MF_E_CORRUPT, "vocab.txt has %zu entries, config.json %zu",
                       mf_wordpiece_vocab_size(enc->tokenizer), enc->config.vocab);
    }
    enc->layers = mf_alloc_zero(enc->config.layers, sizeof *enc->layers);
    if (enc->layers == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu layers", enc->config.layers);
    }
    MF_TRY(mf_path_join(path, sizeof path, dir, "model.safetensors", err));
    mf_err problem;
    mf_rc rc = mf_safetensors_open(path, &enc->file, &problem);
    if (rc != MF_OK) {
        rc = rc == MF_E_NOTFOUND ? MF_E_IO : rc;
        return MF_FAIL_SYS(err, rc, problem.sys, "%s", problem.text);
    }
    MF_TRY(load_weights(enc, err));
    fill_info(enc, dir);
    return MF_OK;
}

static void destroy(mf_encoder *enc) {
    for (size_t i = 0; enc->layers != NULL && i < enc->config.layers; i++) {
        mf_matrix_free(enc->layers[i].qkv);
        mf_matrix_free(enc->layers[i].out);
        mf_matrix_free(enc->layers[i].inner);
        mf_matrix_free(enc->layers[i].outer);
    }
    mf_free(enc->layers);
    mf_safetensors_close(enc->file);
    mf_wordpiece_close(enc->tokenizer);
    mf_free(enc);
}

mf_rc mf_encoder_open_at(const char *dir, mf_cpu_level level, mf_encoder **out,
                         mf_err *err) {
    mf_encoder *enc = mf_alloc_zero(1, sizeof *enc);
    if (enc == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for model '%s'", dir);
    }
    atomic_init(&enc->refs, 1);
    enc->kernels = mf_kernels_at(level);
    MF_ASSERT(enc->kernels != NULL);
    mf_rc rc = load(enc, dir, err);
    if (rc != MF_OK) {
        destroy(enc);
        return mf_err_wrap(err, rc, "loading model '%s'", dir);
    }
    *out = enc;
    return MF_OK;
}

mf_rc mf_encoder_open(const char *dir, mf_encoder **out, mf_err *err) {
    return mf_encoder_open_at(dir, mf_cpu_best(), out, err);
}

mf_encoder *mf_encoder_ref(mf_encoder *enc) {
    size_t before = atomic_fetch_add(&enc->refs, 1);
    MF_ASSERT(before > 0);
    return enc;
}

mf_encoder *mf_encoder_unref(mf_encoder *enc) {
    if (enc != NULL && atomic_fetch_sub(&enc->refs, 1) == 1) {
        destroy(enc);
    }
    return NULL;
}

void mf_encoder_get_info(const mf_encoder *enc, mf_encoder_info *out) {
    *out = enc->info;
}

const mf_wordpiece *mf_encoder_tokenizer(const mf_encoder *enc) {
    return enc->tokenizer;
}
