/* encoder_config.c - reads and bounds the shape of a BERT network. */
#include "model/encoder_config.h"

#include "base/arena.h"
#include "base/buf.h"
#include "num/kernels.h"
#include "os/file.h"
#include "text/json.h"

/* Parsed values take a few times the bytes of their text. */
enum { ARENA_MAX = 64 << 20 };

typedef struct bound {
    const char *key;
    int64_t min;
    int64_t max;
} bound;

/* --- one file --------------------------------------------------------------------- */

static mf_rc parse_object(mf_str text, const char *file, mf_arena *arena,
                          yyjson_val **out, mf_err *err) {
    yyjson_doc *doc = NULL;
    mf_rc rc = mf_json_parse(text, arena, &doc, err);
    if (rc != MF_OK) {
        if (rc != MF_E_NOMEM) {
            rc = MF_E_CORRUPT;
            if (err != NULL) {
                err->rc = rc;
            }
        }
        return mf_err_wrap(err, rc, "%s", file);
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(root)) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s is not a JSON object", file);
    }
    *out = root;
    return MF_OK;
}

static mf_rc get_size(yyjson_val *object, const char *file, const bound *limits,
                      size_t *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, limits->key);
    if (!yyjson_is_int(value)) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s: %s must be a whole number", file,
                       limits->key);
    }
    bool in_range = yyjson_is_uint(value)
                        ? yyjson_get_uint(value) >= (uint64_t)limits->min &&
                              yyjson_get_uint(value) <= (uint64_t)limits->max
                        : false; /* the library keeps negative numbers apart */
    if (!in_range) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s: %s is outside %lld..%lld", file,
                       limits->key, (long long)limits->min, (long long)limits->max);
    }
    *out = (size_t)yyjson_get_uint(value);
    return MF_OK;
}

/* Absent or one of the texts the network is built for. */
static mf_rc expect_text(yyjson_val *object, const char *key, const char *wanted,
                         mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, key);
    if (value != NULL && !yyjson_equals_str(value, wanted)) {
        return MF_FAIL(err, MF_E_UNSUPPORTED, "config.json: only %s '%s' is supported",
                       key, wanted);
    }
    return MF_OK;
}

/* --- config.json ------------------------------------------------------------------ */

static mf_rc read_sizes(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    const struct {
        bound limits;
        size_t *to;
    } sizes[] = {
        {{"hidden_size", MF_LANES, MF_ENCODER_HIDDEN_MAX}, &config->hidden},
        {{"num_hidden_layers", 1, MF_ENCODER_LAYERS_MAX}, &config->layers},
        {{"num_attention_heads", 1, MF_ENCODER_HEADS_MAX}, &config->heads},
        {{"intermediate_size", 1, MF_ENCODER_INNER_MAX}, &config->inner},
        {{"max_position_embeddings", 2, MF_ENCODER_POSITIONS_MAX}, &config->positions},
        {{"vocab_size", 1, MF_ENCODER_VOCAB_MAX}, &config->vocab},
        {{"type_vocab_size", 1, MF_ENCODER_TYPES_MAX}, &config->types},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        MF_TRY(get_size(root, "config.json", &sizes[i].limits, sizes[i].to, err));
    }
    return MF_OK;
}

static mf_rc read_network(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    MF_TRY(expect_text(root, "model_type", "bert", err));
    MF_TRY(expect_text(root, "hidden_act", "gelu", err));
    MF_TRY(expect_text(root, "position_embedding_type", "absolute", err));
    MF_TRY(read_sizes(root, config, err));
    config->head_dim = config->hidden / config->heads;
    if (config->head_dim * config->heads != config->hidden ||
        config->head_dim % MF_LANES != 0 || config->head_dim > MF_HEAD_DIM_MAX) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "config.json: %zu numbers in %zu heads; a head must have a "
                       "multiple of %d, at most %d",
                       config->hidden, config->heads, MF_LANES, MF_HEAD_DIM_MAX);
    }
    yyjson_val *epsilon = yyjson_obj_get(root, "layer_norm_eps");
    double value = yyjson_is_num(epsilon) ? yyjson_get_num(epsilon) : 0.0;
    if (!(value >= 1e-30 && value <= 1e-2)) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "config.json: layer_norm_eps must be a number in 1e-30..0.01");
    }
    config->epsilon = (float)value;
    return MF_OK;
}

/* --- 1_Pooling/config.json -------------------------------------------------------- */

static mf_rc read_pooling(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    static const char prefix[] = "pooling_mode_";
    static const char file[] = "1_Pooling/config.json";
    size_t modes = 0;
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        mf_str name = {yyjson_get_str(key), yyjson_get_len(key)};
        if (!mf_str_starts(name, mf_str_from(prefix)) ||
            !yyjson_is_true(yyjson_obj_iter_get_val(key))) {
            continue;
        }
        modes++;
        mf_str mode = mf_str_sub(name, sizeof prefix - 1, name.len);
        if (mf_str_eq(mode, MF_STR("cls_token"))) {
            config->pooling = MF_POOLING_CLS;
        } else if (mf_str_eq(mode, MF_STR("mean_tokens"))) {
            config->pooling = MF_POOLING_MEAN;
        } else {
            return MF_FAIL(err, MF_E_UNSUPPORTED, "%s: '%.*s' is not supported", file,
                           MF_STR_ARGS(name));
        }
    }
    if (modes != 1) {
        return MF_FAIL(err, MF_E_UNSUPPORTED, "%s: exactly one mode must be on", file);
    }
    yyjson_val *dim = yyjson_obj_get(root, "word_embedding_dimension");
    if (dim != NULL &&
        (!yyjson_is_uint(dim) || yyjson_get_uint(dim) != config->hidden)) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "%s: word_embedding_dimension is not hidden_size (%zu)", file,
                       config->hidden);
    }
    return MF_OK;
}

/* --- all together ----------------------------------------------------------------- */

static mf_rc parse_all(mf_str config_text, mf_str sentence_text, mf_str pooling_text,
                       mf_arena *arena, mf_encoder_config *config, mf_err *err) {
    static const char sentence_file[] = "sentence_bert_config.json";
    yyjson_val *root = NULL;
    MF_TRY(parse_object(config_text, "config.json", arena, &root, err));
    MF_TRY(read_network(root, config, err));
    config->window = config->positions;
    if (sentence_text.p != NULL) {
        const bound window = {"max_seq_length", 2, (int64_t)config->positions};
        MF_TRY(parse_object(sentence_text, sentence_file, arena, &root, err));
        MF_TRY(get_size(root, sentence_file, &window, &config->window, err));
    }
    config->pooling = MF_POOLING_MEAN;
    if (pooling_text.p != NULL) {
        MF_TRY(parse_object(pooling_text, "1_Pooling/config.json", arena, &root, err));
        MF_TRY(read_pooling(root, config, err));
    }
    return MF_OK;
}

mf_rc mf_encoder_config_parse(mf_str config, mf_str sentence, mf_str pooling,
                              mf_encoder_config *out, mf_err *err) {
    mf_arena *arena = NULL;
    MF_TRY(mf_arena_new(ARENA_MAX, &arena, err));
    mf_encoder_config parsed = {0};
    mf_rc rc = parse_all(config, sentence, pooling, arena, &parsed, err);
    if (rc == MF_OK) {
        *out = parsed;
    }
    mf_arena_free(arena);
    return rc;
}

/* Reads a file that may be absent unless `required`; *out is MF_STR_NONE for an absent
 * one and a view of `buf` otherwise. */
static mf_rc read_text(const char *dir, const char *name, bool required, mf_buf *buf,
                       mf_str *out, mf_err *err) {
    char path[MF_PATH_MAX];
    MF_TRY(mf_path_join(path, sizeof path, dir, name, err));
    mf_err problem;
    mf_rc rc = mf_file_read(path, buf, &problem);
    if (rc == MF_E_NOTFOUND && !required) {
        *out = MF_STR_NONE;
        return MF_OK;
    }
    if (rc != MF_OK) {
        rc = rc == MF_E_NOTFOUND ? MF_E_IO : rc == MF_E_LIMIT ? MF_E_CORRUPT : rc;
        return MF_FAIL_SYS(err, rc, problem.sys, "%s", problem.text);
    }
    *out = buf->len == 0 ? MF_STR("") : mf_buf_view(buf);
    return MF_OK;
}

mf_rc mf_encoder_config_read(const char *dir, mf_encoder_config *out, mf_err *err) {
    enum { FILES = 3 };
    static const char *const names[FILES] = {"config.json", "sentence_bert_config.json",
                                             "1_Pooling/config.json"};
    mf_buf bufs[FILES];
    mf_str texts[FILES];
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < FILES; i++) {
        mf_buf_init(&bufs[i], MF_ENCODER_JSON_MAX);
    }
    for (size_t i = 0; i < FILES && rc == MF_OK; i++) {
        rc = read_text(dir, names[i], i == 0, &bufs[i], &texts[i], err);
    }
    if (rc == MF_OK) {
        rc = mf_encoder_config_parse(texts[0], texts[1], texts[2], out, err);
    }
    for (size_t i = 0; i < FILES; i++) {
        mf_buf_done(&bufs[i]);
    }
    return rc;
}
