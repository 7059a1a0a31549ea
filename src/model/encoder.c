/* encoder.c - opens a model folder.
 *
 * For fp32, embedding tables and norms are used where the model file is mapped.  The
 * weights of the linear layers are copied into the order the kernels read
 * (num/matrix.h), after which the mapping is cooled: of the file, only the rows of
 * words that occur come back into memory.  For bf16 it is the same, with copies rounded
 * to half the size (num/matrix16.h).
 *
 * For int8 the packed weights are all there is (encoder_cache.h); the model file is
 * only looked at to see that they are its. */
#include "model/encoder.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "model/encoder_cache.h"
#include "model/encoder_private.h"

/* --- parts of some kinds of models ------------------------------------------------ */

static mf_rc make_matrix(const mf_linear_weights *from, size_t count, size_t outputs,
                         size_t inputs, mf_matrix **out, mf_err *err);

/* The table of distances and the head, which are fp32 in every precision. */
static mf_rc make_extras(mf_encoder *enc, const float *distances,
                         const mf_head_weights *head, mf_err *err) {
    const mf_encoder_config *config = &enc->config;
    if (config->buckets > 0 && enc->relative == NULL) {
        MF_TRY(mf_relative_make(config, distances, &enc->relative, err));
    }
    if (config->labels > 0 && enc->classes == NULL) {
        MF_TRY(make_matrix(&head->dense, 1, config->hidden, config->hidden, &enc->dense,
                           err));
        MF_TRY(make_matrix(&head->classifier, 1, config->labels, config->hidden,
                           &enc->classes, err));
    }
    return MF_OK;
}

static void drop_extras(mf_encoder *enc) {
    mf_free(enc->relative);
    mf_matrix_free(enc->dense);
    mf_matrix_free(enc->classes);
}

/* --- fp32 and bf16 ---------------------------------------------------------------- */

/* Makes a matrix of `count` linear modules stacked, each from `inputs` to `outputs`. */
static mf_rc make_matrix(const mf_linear_weights *from, size_t count, size_t outputs,
                         size_t inputs, mf_matrix **out, mf_err *err) {
    MF_TRY(mf_matrix_new(count * outputs, inputs, out, err));
    for (size_t i = 0; i < count; i++) {
        mf_matrix_set(*out, i * outputs, outputs, from[i].weights, from[i].bias);
    }
    return MF_OK;
}

static mf_rc make_layers(mf_encoder *enc, mf_err *err) {
    size_t hidden = enc->config.hidden;
    size_t wide = enc->config.inner;
    enc->layers = mf_alloc_zero(enc->config.layers, sizeof *enc->layers);
    if (enc->layers == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu layers", enc->config.layers);
    }
    for (size_t i = 0; i < enc->config.layers; i++) {
        const mf_layer_weights *from = &enc->weights.layers[i];
        mf_layer *to = &enc->layers[i];
        MF_TRY(make_matrix(from->qkv, 3, hidden, hidden, &to->qkv, err));
        MF_TRY(make_matrix(&from->out, 1, hidden, hidden, &to->out, err));
        MF_TRY(make_matrix(&from->inner, 1, wide, hidden, &to->inner, err));
        MF_TRY(make_matrix(&from->outer, 1, hidden, wide, &to->outer, err));
    }
    return MF_OK;
}

/* The same in bf16. */
static mf_rc make_matrix16(const mf_linear_weights *from, size_t count, size_t outputs,
                           size_t inputs, mf_matrix16 **out, mf_err *err) {
    MF_TRY(mf_matrix16_new(count * outputs, inputs, out, err));
    for (size_t i = 0; i < count; i++) {
        mf_matrix16_set(*out, i * outputs, outputs, from[i].weights, from[i].bias);
    }
    return MF_OK;
}

static mf_rc make_layers16(mf_encoder *enc, mf_err *err) {
    size_t hidden = enc->config.hidden;
    size_t wide = enc->config.inner;
    enc->layers16 = mf_alloc_zero(enc->config.layers, sizeof *enc->layers16);
    if (enc->layers16 == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu layers", enc->config.layers);
    }
    for (size_t i = 0; i < enc->config.layers; i++) {
        const mf_layer_weights *from = &enc->weights.layers[i];
        mf_layer16 *to = &enc->layers16[i];
        MF_TRY(make_matrix16(from->qkv, 3, hidden, hidden, &to->qkv, err));
        MF_TRY(make_matrix16(&from->out, 1, hidden, hidden, &to->out, err));
        MF_TRY(make_matrix16(&from->inner, 1, wide, hidden, &to->inner, err));
        MF_TRY(make_matrix16(&from->outer, 1, hidden, wide, &to->outer, err));
    }
    return MF_OK;
}

/* Weights are where they were saved by another library, or in several files. */
static mf_rc other_weights(const char *path, mf_err *err) {
    static const char *const others[] = {"model.safetensors.index.json",
                                         "pytorch_model.bin", "model.onnx"};
    mf_str folder = mf_str_from(path);
    folder.len -= sizeof MF_MODEL_FILE - 1;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char other[MF_PATH_MAX];
        (void)snprintf(other, sizeof other, "%.*s%s", MF_STR_ARGS(folder), others[i]);
        if (mf_file_exists(other)) {
            return MF_FAIL(
                err, MF_E_UNSUPPORTED,
                "'%s' is not read; the weights are expected in one " MF_MODEL_FILE,
                other);
        }
    }
    return MF_FAIL(err, MF_E_IO, "there is no '%s'", path);
}

/* `precision` is FP32 or BF16. */
static mf_rc load_floats(mf_encoder *enc, const char *path, mf_precision precision,
                         mf_err *err) {
    mf_err problem;
    mf_rc rc = mf_safetensors_open(path, &enc->file, &problem);
    if (rc == MF_E_NOTFOUND) {
        return other_weights(path, err);
    }
    if (rc != MF_OK) {
        return MF_FAIL_SYS(err, rc, problem.sys, "%s", problem.text);
    }
    MF_TRY(mf_weights_get(enc->file, &enc->config, &enc->weights, err));
    MF_TRY(precision == MF_PRECISION_BF16 ? make_layers16(enc, err)
                                          : make_layers(enc, err));
    MF_TRY(make_extras(enc, enc->weights.distances, &enc->weights.head, err));
    mf_safetensors_cool(enc->file);
    enc->precision = precision;
    return MF_OK;
}

static void drop_floats(mf_encoder *enc) {
    for (size_t i = 0; enc->layers != NULL && i < enc->config.layers; i++) {
        mf_matrix_free(enc->layers[i].qkv);
        mf_matrix_free(enc->layers[i].out);
        mf_matrix_free(enc->layers[i].inner);
        mf_matrix_free(enc->layers[i].outer);
    }
    mf_free(enc->layers);
    enc->layers = NULL;
    for (size_t i = 0; enc->layers16 != NULL && i < enc->config.layers; i++) {
        mf_matrix16_free(enc->layers16[i].qkv);
        mf_matrix16_free(enc->layers16[i].out);
        mf_matrix16_free(enc->layers16[i].inner);
        mf_matrix16_free(enc->layers16[i].outer);
    }
    mf_free(enc->layers16);
    enc->layers16 = NULL;
    mf_weights_done(&enc->weights);
    mf_safetensors_close(enc->file);
    enc->file = NULL;
}

/* --- precision -------------------------------------------------------------------- */

static const char *const precision_names[] = {"auto", "fp32", "int8", "bf16"};

mf_encoder_options mf_encoder_options_default(void) {
    return (mf_encoder_options){.precision = MF_PRECISION_AUTO, .task = MF_TASK_ENCODE};
}

bool mf_precision_from_name(const char *name, mf_precision *out) {
    for (mf_precision p = MF_PRECISION_AUTO; p <= MF_PRECISION_BF16; p++) {
        if (mf_str_eq(mf_str_from(name), mf_str_from(precision_names[p]))) {
            *out = p;
            return true;
        }
    }
    return false;
}

/* Decides between the weights that are there and lets the others go. */
static void settle(mf_encoder *enc, mf_precision wanted, const char *packed) {
    if (wanted == MF_PRECISION_INT8 || enc->pack.agreement >= MF_AGREEMENT_MIN) {
        drop_floats(enc);
        enc->precision = MF_PRECISION_INT8;
        enc->info.packed = packed;
    } else {
        mf_encoder_cache_drop(enc);
        if (enc->layers != NULL) {
            mf_weights_drop_linear(&enc->weights, &enc->config);
        }
    }
}

static mf_rc open_floats(mf_encoder *enc, const char *path, mf_precision precision,
                         mf_err *err) {
    MF_TRY(load_floats(enc, path, precision, err));
    mf_weights_drop_linear(&enc->weights, &enc->config);
    return MF_OK;
}

static mf_rc load_network(mf_encoder *enc, const char *dir, mf_precision wanted,
                          mf_err *err) {
    char path[MF_PATH_MAX];
    mf_file_stamp stamp;
    MF_TRY(mf_path_join(path, sizeof path, dir, MF_MODEL_FILE, err));
    if (wanted == MF_PRECISION_AUTO && enc->kernels->level == MF_CPU_SCALAR) {
        wanted = MF_PRECISION_FP32;
    }
    if (wanted == MF_PRECISION_FP32 || wanted == MF_PRECISION_BF16) {
        return open_floats(enc, path, wanted, err);
    }
    if (mf_encoder_cache_load(enc, dir)) {
        settle(enc, wanted, "mapped");
        return enc->precision == MF_PRECISION_INT8
                   ? make_extras(enc, enc->pack.distances, &enc->pack.head, err)
                   : open_floats(enc, path, MF_PRECISION_FP32, err);
    }
    /* A missing file is told by load_floats, as is everything else wrong with it. */
    bool stamped = mf_file_stamp_get(path, &stamp, NULL) == MF_OK;
    MF_TRY(load_floats(enc, path, MF_PRECISION_FP32, err));
    if (!stamped) {
        return MF_FAIL(err, MF_E_IO, "'%s' appeared while it was read", path);
    }
    MF_TRY(mf_encoder_cache_make(enc, dir, &stamp, err));
    settle(enc, wanted, "made");
    return MF_OK;
}

/* --- opening ---------------------------------------------------------------------- */

static size_t weight_bytes(const mf_encoder *enc) {
    const mf_encoder_config *config = &enc->config;
    if (enc->precision == MF_PRECISION_INT8) {
        return mf_pack_bytes(config);
    }
    size_t rows = config->vocab + config->positions + config->types;
    size_t bytes = rows * config->hidden * sizeof(float);
    for (size_t i = 0; i < config->layers; i++) {
        if (enc->precision == MF_PRECISION_BF16) {
            const mf_layer16 *layer = &enc->layers16[i];
            bytes += mf_matrix16_bytes(layer->qkv) + mf_matrix16_bytes(layer->out) +
                     mf_matrix16_bytes(layer->inner) + mf_matrix16_bytes(layer->outer);
            continue;
        }
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
    info->dim = enc->dim;
    info->labels = enc->config.labels;
    info->layers = enc->config.layers;
    info->heads = enc->config.heads;
    info->window = enc->config.window;
    info->weight_bytes = weight_bytes(enc);
    info->precision = precision_names[enc->precision];
    info->kernel = mf_cpu_level_name(enc->kernels->level);
}

static mf_rc check_task(const mf_encoder_config *config,
                        const mf_encoder_options *options, mf_err *err) {
    bool ranks = config->labels > 0;
    if (ranks != (options->task == MF_TASK_RANK)) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       ranks ? "the folder holds a reranker (its class is one for "
                               "sequence classification), expected a sentence encoder"
                             : "the folder holds a sentence encoder, expected a "
                               "reranker (a class for sequence classification)");
    }
    if (ranks && config->window < MF_RERANK_WINDOW_MIN) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "a window of %zu tokens, a reranker needs at least %d",
                       config->window, MF_RERANK_WINDOW_MIN);
    }
    if (options->dimensions > config->hidden || (ranks && options->dimensions > 0)) {
        return MF_FAIL(err, MF_E_INVAL,
                       "%zu dimensions asked for, the model's vectors have %zu",
                       options->dimensions, ranks ? 0 : config->hidden);
    }
    return MF_OK;
}

static mf_rc load_tokenizer(mf_encoder *enc, const char *dir, mf_err *err) {
    MF_TRY(mf_model_tokenizer_open(dir, &enc->tokenizer, err));
    size_t entries = mf_model_tokenizer_vocab_size(enc->tokenizer);
    if (entries > enc->config.vocab) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "the tokenizer has %zu entries, config.json %zu", entries,
                       enc->config.vocab);
    }
    enc->frame = mf_model_tokenizer_frame(enc->tokenizer);
    enc->pair_type = enc->config.types > 1 ? enc->frame.second_type : 0;
    return MF_OK;
}

static mf_rc load(mf_encoder *enc, const char *dir, const mf_encoder_options *options,
                  mf_err *err) {
    MF_TRY(mf_encoder_config_read(dir, &enc->config, err));
    MF_TRY(check_task(&enc->config, options, err));
    MF_TRY(load_tokenizer(enc, dir, err));
    enc->dim = enc->config.hidden; /* precisions are compared on all numbers */
    enc->info.packed = "none";
    MF_TRY(load_network(enc, dir, options->precision, err));
    enc->dim = options->dimensions > 0 ? options->dimensions : enc->config.hidden;
    fill_info(enc, dir);
    return MF_OK;
}

static atomic_size_t encoders_alive;

size_t mf_encoder_alive(void) {
    return atomic_load(&encoders_alive);
}

static void destroy(mf_encoder *enc) {
    atomic_fetch_sub(&encoders_alive, 1);
    drop_floats(enc);
    drop_extras(enc);
    mf_encoder_cache_drop(enc);
    mf_model_tokenizer_close(enc->tokenizer);
    mf_free(enc);
}

mf_rc mf_encoder_open_at(const char *dir, mf_cpu_level level,
                         const mf_encoder_options *options, mf_encoder **out,
                         mf_err *err) {
    mf_encoder *enc = mf_alloc_zero(1, sizeof *enc);
    if (enc == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for model '%s'", dir);
    }
    atomic_init(&enc->refs, 1);
    atomic_fetch_add(&encoders_alive, 1);
    enc->kernels = mf_kernels_at(level);
    MF_ASSERT(enc->kernels != NULL);
    mf_rc rc = load(enc, dir, options, err);
    if (rc != MF_OK) {
        destroy(enc);
        return mf_err_wrap(err, rc, "loading model '%s'", dir);
    }
    *out = enc;
    return MF_OK;
}

mf_rc mf_encoder_open(const char *dir, const mf_encoder_options *options,
                      mf_encoder **out, mf_err *err) {
    return mf_encoder_open_at(dir, mf_cpu_best(), options, out, err);
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

const mf_model_tokenizer *mf_encoder_tokenizer(const mf_encoder *enc) {
    return enc->tokenizer;
}
