/* encoder_config.c - reads and bounds the shape of a network of the BERT family.
 *
 * config.json is what transformers writes.  modules.json, sentence_bert_config.json and
 * 1_Pooling/config.json are of sentence-transformers, up to release 4 and from 5 on:
 * the older files name classes and modes in another way than the newer ones. */
#include "model/encoder_config.h"

#include <stdio.h>
#include <string.h>

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

static mf_rc parse_text(mf_str text, const char *file, mf_arena *arena,
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
    *out = yyjson_doc_get_root(doc);
    return MF_OK;
}

static mf_rc parse_object(mf_str text, const char *file, mf_arena *arena,
                          yyjson_val **out, mf_err *err) {
    yyjson_val *root = NULL;
    MF_TRY(parse_text(text, file, arena, &root, err));
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

/* --- config.json ------------------------------------------------------------------ */

/* What the keys of config.json are called.  DistilBERT has names of its own. */
typedef struct key_names {
    const char *hidden, *layers, *heads, *inner, *activation;
} key_names;

static const key_names plain_keys = {"hidden_size", "num_hidden_layers",
                                     "num_attention_heads", "intermediate_size",
                                     "hidden_act"};
static const key_names distilbert_keys = {"dim", "n_layers", "n_heads", "hidden_dim",
                                          "activation"};

static mf_rc read_kind(yyjson_val *root, mf_network *out, mf_err *err) {
    static const struct {
        const char *name;
        mf_network network;
    } kinds[] = {
        {"bert", MF_NETWORK_BERT},       {"distilbert", MF_NETWORK_DISTILBERT},
        {"mpnet", MF_NETWORK_MPNET},     {"xlm-roberta", MF_NETWORK_ROBERTA},
        {"roberta", MF_NETWORK_ROBERTA},
    };
    yyjson_val *value = yyjson_obj_get(root, "model_type");
    if (value == NULL) {
        *out = MF_NETWORK_BERT;
        return MF_OK;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (yyjson_equals_str(value, kinds[i].name)) {
            *out = kinds[i].network;
            return MF_OK;
        }
    }
    const char *name = yyjson_get_str(value);
    return MF_FAIL(err, MF_E_UNSUPPORTED,
                   "config.json: model_type '%.64s'; built are bert, distilbert, "
                   "mpnet, xlm-roberta and roberta",
                   name != NULL ? name : "");
}

/* Absent, null or the one value the network is built for. */
static mf_rc expect_text(yyjson_val *object, const char *key, const char *wanted,
                         mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, key);
    if (value != NULL && !yyjson_is_null(value) && !yyjson_equals_str(value, wanted)) {
        return MF_FAIL(err, MF_E_UNSUPPORTED, "config.json: only %s '%s' is supported",
                       key, wanted);
    }
    return MF_OK;
}

static mf_rc expect_off(yyjson_val *object, const char *key, mf_err *err) {
    if (yyjson_is_true(yyjson_obj_get(object, key))) {
        return MF_FAIL(err, MF_E_UNSUPPORTED, "config.json: %s is not supported", key);
    }
    return MF_OK;
}

/* A number that may be left out. */
static mf_rc get_size_or(yyjson_val *root, const bound *limits, size_t fallback,
                         size_t *out, mf_err *err) {
    if (yyjson_obj_get(root, limits->key) == NULL) {
        *out = fallback;
        return MF_OK;
    }
    return get_size(root, "config.json", limits, out, err);
}

static mf_rc read_sizes(yyjson_val *root, const key_names *keys,
                        mf_encoder_config *config, mf_err *err) {
    const struct {
        bound limits;
        size_t *to;
    } sizes[] = {
        {{keys->hidden, MF_LANES, MF_ENCODER_HIDDEN_MAX}, &config->hidden},
        {{keys->layers, 1, MF_ENCODER_LAYERS_MAX}, &config->layers},
        {{keys->heads, 1, MF_ENCODER_HEADS_MAX}, &config->heads},
        {{keys->inner, 1, MF_ENCODER_INNER_MAX}, &config->inner},
        {{"max_position_embeddings", 2, MF_ENCODER_POSITIONS_MAX}, &config->positions},
        {{"vocab_size", 1, MF_ENCODER_VOCAB_MAX}, &config->vocab},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        MF_TRY(get_size(root, "config.json", &sizes[i].limits, sizes[i].to, err));
    }
    return MF_OK;
}

/* What only some of the networks have. */
static mf_rc read_extras(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    const bound types = {"type_vocab_size", 1, MF_ENCODER_TYPES_MAX};
    const bound padding = {"pad_token_id", 0, 8};
    const bound buckets = {"relative_attention_num_buckets", 4, MF_ENCODER_BUCKETS_MAX};
    if (config->network == MF_NETWORK_MPNET) {
        config->position_first = 2;
        MF_TRY(get_size_or(root, &buckets, 32, &config->buckets, err));
        if (config->buckets % 2 != 0) {
            return MF_FAIL(err, MF_E_CORRUPT, "config.json: %s must be even",
                           buckets.key);
        }
    } else if (config->network == MF_NETWORK_ROBERTA) {
        MF_TRY(get_size_or(root, &padding, 1, &config->position_first, err));
        config->position_first++;
        MF_TRY(get_size(root, "config.json", &types, &config->types, err));
    } else if (config->network == MF_NETWORK_BERT) {
        MF_TRY(get_size(root, "config.json", &types, &config->types, err));
    }
    if (config->positions < config->position_first + 2) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "config.json: max_position_embeddings is outside %zu..%d",
                       config->position_first + 2, MF_ENCODER_POSITIONS_MAX);
    }
    return MF_OK;
}

static mf_rc read_epsilon(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    yyjson_val *epsilon = yyjson_obj_get(root, "layer_norm_eps");
    double value = yyjson_is_num(epsilon) ? yyjson_get_num(epsilon) : 0.0;
    if (config->network == MF_NETWORK_DISTILBERT) {
        value = 1e-12; /* fixed in that network */
    }
    if (!(value >= 1e-30 && value <= 1e-2)) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "config.json: layer_norm_eps must be a number in 1e-30..0.01");
    }
    config->epsilon = (float)value;
    return MF_OK;
}

/* A reranker is told by its class; the count of labels is that of their names, of which
 * the library writes none for its default of two. */
static mf_rc read_labels(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    yyjson_val *class = yyjson_arr_get_first(yyjson_obj_get(root, "architectures"));
    mf_str name = mf_str_from(yyjson_get_str(class));
    const bound limits = {"num_labels", 1, MF_ENCODER_LABELS_MAX};
    if (!mf_str_ends(name, MF_STR("ForSequenceClassification"))) {
        return MF_OK;
    }
    yyjson_val *names = yyjson_obj_get(root, "id2label");
    if (!yyjson_is_obj(names)) {
        return get_size_or(root, &limits, 2, &config->labels, err);
    }
    config->labels = yyjson_obj_size(names);
    if (config->labels < 1 || config->labels > MF_ENCODER_LABELS_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "config.json: id2label has %zu entries, possible are 1..%d",
                       config->labels, MF_ENCODER_LABELS_MAX);
    }
    return MF_OK;
}

static mf_rc read_network(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    MF_TRY(read_kind(root, &config->network, err));
    bool distilled = config->network == MF_NETWORK_DISTILBERT;
    const key_names *keys = distilled ? &distilbert_keys : &plain_keys;
    MF_TRY(expect_text(root, keys->activation, "gelu", err));
    MF_TRY(expect_text(root, "position_embedding_type", "absolute", err));
    MF_TRY(expect_off(root, "is_decoder", err));
    MF_TRY(expect_off(root, "add_cross_attention", err));
    MF_TRY(read_sizes(root, keys, config, err));
    MF_TRY(read_extras(root, config, err));
    config->head_dim = config->hidden / config->heads;
    if (config->head_dim * config->heads != config->hidden ||
        config->head_dim % MF_LANES != 0 || config->head_dim > MF_HEAD_DIM_MAX) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "config.json: %zu numbers in %zu heads; a head must have a "
                       "multiple of %d, at most %d",
                       config->hidden, config->heads, MF_LANES, MF_HEAD_DIM_MAX);
    }
    MF_TRY(read_epsilon(root, config, err));
    return read_labels(root, config, err);
}

/* --- modules.json ----------------------------------------------------------------- */

static const char modules_file[] = "modules.json";

typedef struct modules {
    bool pooling;
    char folder[64]; /* of the pooling's config.json */
} modules;

/* A folder's name goes into a path: it must lead nowhere else. */
static mf_rc set_folder(modules *found, mf_str path, mf_err *err) {
    bool plain = path.len > 0 && path.len < sizeof found->folder && path.p[0] != '.';
    for (size_t i = 0; plain && i < path.len; i++) {
        plain = path.p[i] > ' ' && path.p[i] != '/' && path.p[i] != '\\';
    }
    if (!plain) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "%s: the path of Pooling is no plain name of a folder",
                       modules_file);
    }
    memcpy(found->folder, path.p, path.len);
    found->folder[path.len] = '\0';
    return MF_OK;
}

static mf_rc read_module(yyjson_val *module, modules *found, mf_err *err) {
    yyjson_val *type = yyjson_obj_get(module, "type");
    yyjson_val *place = yyjson_obj_get(module, "path");
    if (!yyjson_is_str(type) || !yyjson_is_str(place)) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s: a module lacks type or path",
                       modules_file);
    }
    mf_str name = {yyjson_get_str(type), yyjson_get_len(type)};
    mf_str path = {yyjson_get_str(place), yyjson_get_len(place)};
    for (size_t i = name.len; i-- > 0;) {
        if (name.p[i] == '.') { /* the class is what follows the last dot */
            name = mf_str_sub(name, i + 1, name.len);
            break;
        }
    }
    if (mf_str_eq(name, MF_STR("Transformer"))) {
        if (path.len > 0) {
            return MF_FAIL(err, MF_E_UNSUPPORTED,
                           "%s: the Transformer is in '%.*s', expected in the folder "
                           "itself",
                           modules_file, MF_STR_ARGS(path));
        }
        return MF_OK;
    }
    if (mf_str_eq(name, MF_STR("Pooling"))) {
        found->pooling = true;
        return set_folder(found, path, err);
    }
    if (mf_str_eq(name, MF_STR("Normalize"))) {
        return MF_OK; /* vectors always are */
    }
    return MF_FAIL(err, MF_E_UNSUPPORTED,
                   "%s: a %.*s module; built are Transformer, Pooling and Normalize",
                   modules_file, MF_STR_ARGS(name));
}

/* Without the file: a pooling in the folder it usually has. */
static mf_rc read_modules(mf_str text, mf_arena *arena, modules *found, mf_err *err) {
    *found = (modules){.pooling = true, .folder = "1_Pooling"};
    if (text.p == NULL) {
        return MF_OK;
    }
    yyjson_val *root = NULL;
    MF_TRY(parse_text(text, modules_file, arena, &root, err));
    if (!yyjson_is_arr(root) || yyjson_arr_size(root) == 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s is not a list of modules", modules_file);
    }
    found->pooling = false;
    yyjson_arr_iter iter = yyjson_arr_iter_with(root);
    for (yyjson_val *module; (module = yyjson_arr_iter_next(&iter)) != NULL;) {
        MF_TRY(read_module(module, found, err));
    }
    return MF_OK;
}

/* --- the pooling's config.json ---------------------------------------------------- */

static const char pooling_file[] = "Pooling/config.json";

static mf_rc set_pooling(mf_str mode, mf_encoder_config *config, mf_err *err) {
    static const struct {
        const char *name, *older;
        mf_pooling pooling;
    } modes[] = {
        {"mean", "mean_tokens", MF_POOLING_MEAN},
        {"cls", "cls_token", MF_POOLING_CLS},
        {"max", "max_tokens", MF_POOLING_MAX},
    };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (mf_str_eq(mode, mf_str_from(modes[i].name)) ||
            mf_str_eq(mode, mf_str_from(modes[i].older))) {
            config->pooling = modes[i].pooling;
            return MF_OK;
        }
    }
    return MF_FAIL(err, MF_E_UNSUPPORTED,
                   "%s: pooling_mode '%.*s'; built are mean, cls and max", pooling_file,
                   MF_STR_ARGS(mode));
}

/* One switch per mode, as older releases write it. */
static mf_rc read_switches(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    static const char prefix[] = "pooling_mode_";
    size_t modes = 0;
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        mf_str name = {yyjson_get_str(key), yyjson_get_len(key)};
        if (mf_str_starts(name, mf_str_from(prefix)) &&
            yyjson_is_true(yyjson_obj_iter_get_val(key))) {
            modes++;
            MF_TRY(set_pooling(mf_str_sub(name, sizeof prefix - 1, name.len), config,
                               err));
        }
    }
    return modes == 1 ? MF_OK
                      : MF_FAIL(err, MF_E_UNSUPPORTED,
                                "%s: exactly one mode must be on", pooling_file);
}

static mf_rc read_pooling(yyjson_val *root, mf_encoder_config *config, mf_err *err) {
    yyjson_val *mode = yyjson_obj_get(root, "pooling_mode");
    if (mode == NULL) {
        MF_TRY(read_switches(root, config, err));
    } else if (yyjson_is_str(mode)) {
        mf_str name = {yyjson_get_str(mode), yyjson_get_len(mode)};
        MF_TRY(set_pooling(name, config, err));
    } else {
        return MF_FAIL(err, MF_E_UNSUPPORTED, "%s: exactly one mode must be on",
                       pooling_file);
    }
    static const char *const widths[] = {"embedding_dimension",
                                         "word_embedding_dimension"};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        yyjson_val *dim = yyjson_obj_get(root, widths[i]);
        if (dim != NULL &&
            (!yyjson_is_uint(dim) || yyjson_get_uint(dim) != config->hidden)) {
            return MF_FAIL(err, MF_E_CORRUPT, "%s: %s is not hidden_size (%zu)",
                           pooling_file, widths[i], config->hidden);
        }
    }
    return MF_OK;
}

/* --- all together ----------------------------------------------------------------- */

/* model_max_length is an absurdly large number where nobody set it. */
static mf_rc read_window(const mf_encoder_texts *texts, mf_arena *arena,
                         mf_encoder_config *config, mf_err *err) {
    static const char sentence_file[] = "sentence_bert_config.json";
    yyjson_val *root = NULL;
    size_t room = config->positions - config->position_first;
    config->window = room;
    if (texts->tokenizer.p != NULL) {
        MF_TRY(
            parse_object(texts->tokenizer, "tokenizer_config.json", arena, &root, err));
        yyjson_val *most = yyjson_obj_get(root, "model_max_length");
        if (yyjson_is_uint(most) && yyjson_get_uint(most) >= 2 &&
            yyjson_get_uint(most) < room) {
            config->window = (size_t)yyjson_get_uint(most);
        }
    }
    if (texts->sentence.p != NULL) {
        const bound window = {"max_seq_length", 2, (int64_t)room};
        MF_TRY(parse_object(texts->sentence, sentence_file, arena, &root, err));
        yyjson_val *value = yyjson_obj_get(root, window.key);
        if (value != NULL && !yyjson_is_null(value)) {
            MF_TRY(get_size(root, sentence_file, &window, &config->window, err));
        }
    }
    return MF_OK;
}

static mf_rc parse_all(const mf_encoder_texts *texts, mf_arena *arena,
                       mf_encoder_config *config, mf_err *err) {
    yyjson_val *root = NULL;
    modules found;
    MF_TRY(parse_object(texts->config, "config.json", arena, &root, err));
    MF_TRY(read_network(root, config, err));
    MF_TRY(read_window(texts, arena, config, err));
    MF_TRY(read_modules(texts->modules, arena, &found, err));
    if (config->labels > 0 && texts->modules.p != NULL && found.pooling) {
        config->labels = 0; /* its head is left over from training */
    }
    if (config->labels == 0 && !found.pooling) {
        return MF_FAIL(err, MF_E_UNSUPPORTED, "%s has no Pooling", modules_file);
    }
    config->pooling = config->labels > 0 ? MF_POOLING_CLS : MF_POOLING_MEAN;
    if (config->labels == 0 && texts->pooling.p != NULL) {
        MF_TRY(parse_object(texts->pooling, pooling_file, arena, &root, err));
        MF_TRY(read_pooling(root, config, err));
    }
    return MF_OK;
}

mf_rc mf_encoder_config_parse(const mf_encoder_texts *texts, mf_encoder_config *out,
                              mf_err *err) {
    mf_arena *arena = NULL;
    MF_TRY(mf_arena_new(ARENA_MAX, &arena, err));
    mf_encoder_config parsed = {0};
    mf_rc rc = parse_all(texts, arena, &parsed, err);
    if (rc == MF_OK) {
        *out = parsed;
    }
    mf_arena_free(arena);
    return rc;
}

/* --- files ------------------------------------------------------------------------ */

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

/* The folder of the pooling, from modules.json. */
static mf_rc find_pooling(mf_str text, modules *found, mf_err *err) {
    mf_arena *arena = NULL;
    MF_TRY(mf_arena_new(ARENA_MAX, &arena, err));
    mf_rc rc = read_modules(text, arena, found, err);
    mf_arena_free(arena);
    return rc;
}

/* The files of a folder, each with the memory for its text. */
enum { FILE_CONFIG, FILE_MODULES, FILE_SENTENCE, FILE_POOLING, FILE_TOKENIZER, FILES };

static mf_rc read_files(const char *dir, mf_buf bufs[FILES], mf_encoder_texts *texts,
                        mf_err *err) {
    /* Named after the network; only one is there. */
    static const char *const sentence_files[] = {
        "sentence_bert_config.json", "sentence_roberta_config.json",
        "sentence_distilbert_config.json", "sentence_xlm-roberta_config.json"};
    modules found;
    char pooling[sizeof found.folder + sizeof "/config.json"];
    MF_TRY(
        read_text(dir, "config.json", true, &bufs[FILE_CONFIG], &texts->config, err));
    MF_TRY(
        read_text(dir, modules_file, false, &bufs[FILE_MODULES], &texts->modules, err));
    MF_TRY(find_pooling(texts->modules, &found, err));
    (void)snprintf(pooling, sizeof pooling, "%s/config.json", found.folder);
    if (found.pooling) {
        MF_TRY(
            read_text(dir, pooling, false, &bufs[FILE_POOLING], &texts->pooling, err));
    }
    for (size_t i = 0; i < sizeof sentence_files / sizeof sentence_files[0] &&
                       texts->sentence.p == NULL;
         i++) {
        MF_TRY(read_text(dir, sentence_files[i], false, &bufs[FILE_SENTENCE],
                         &texts->sentence, err));
    }
    return read_text(dir, "tokenizer_config.json", false, &bufs[FILE_TOKENIZER],
                     &texts->tokenizer, err);
}

mf_rc mf_encoder_config_read(const char *dir, mf_encoder_config *out, mf_err *err) {
    mf_buf bufs[FILES];
    mf_encoder_texts texts = {0};
    for (size_t i = 0; i < FILES; i++) {
        mf_buf_init(&bufs[i], MF_ENCODER_JSON_MAX);
    }
    mf_rc rc = read_files(dir, bufs, &texts, err);
    if (rc == MF_OK) {
        rc = mf_encoder_config_parse(&texts, out, err);
    }
    for (size_t i = 0; i < FILES; i++) {
        mf_buf_done(&bufs[i]);
    }
    return rc;
}
