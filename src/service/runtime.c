/* runtime.c - makes the shared parts, early or on first use.
 *
 * What is made on first use is made outside every lock and put in place with one
 * exchange; a thread that comes second with its own gives that back.  For the reranker
 * both would be views of one instance, because the weights come from the registry, so
 * nothing costly is ever made twice. */
#include "service/runtime.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/encoder_config.h"
#include "os/cpu.h"
#include "os/file.h"

enum {
    LLM_ANSWERS_MAX = 1000,
    LLM_ANSWER_BYTES_MAX = 8 << 20,
};

struct mf_runtime {
    /* constant after open */
    mf_settings *settings;
    mf_model_registry *models;
    mf_cache_manager *caches;
    mf_token_counter *tokens;
    mf_encoder *encoder;
    mf_embedder *embedder;
    char llm_key[MF_LLM_KEY_MAX];
    char llm_url[MF_LLM_URL_MAX]; /* of the environment; "" */
    int64_t open_ns;

    _Atomic(mf_ranker *) ranker; /* NULL until somebody needs it */
    _Atomic(mf_llm *) llm;
    atomic_bool llm_failed;
};

/* Who serves language models, where, and which variable has the key. */
static const struct llm_provider {
    const char *name, *base_url, *key_variable;
} providers[] = {
    {"openai", "https://api.openai.com/v1", "OPENAI_API_KEY"},
    {"xai", "https://api.x.ai/v1", "XAI_API_KEY"},
};

static const struct llm_provider *find_provider(const char *name) {
    for (size_t i = 0; i < sizeof providers / sizeof providers[0]; i++) {
        if (strcmp(providers[i].name, name) == 0) {
            return &providers[i];
        }
    }
    return NULL;
}

/* --- folders --- */

/* A path setting, or DATA/models/<name> when it is empty. */
static mf_rc model_path(const mf_config *c, const char *setting, const char *name,
                        char out[MF_PATH_MAX], mf_err *err) {
    if (setting[0] != '\0') {
        return mf_path_join(out, MF_PATH_MAX, ".", setting, err);
    }
    char folder[MF_PATH_MAX];
    MF_TRY(mf_path_join(folder, sizeof folder, c->server_data_dir, "models", err));
    return mf_path_join(out, MF_PATH_MAX, folder, name, err);
}

static mf_encoder_options encoder_options(const mf_config *c) {
    mf_encoder_options options = mf_encoder_options_default();
    /* The settings let no other name through. */
    bool known = mf_precision_from_name(c->model_precision, &options.precision);
    MF_ASSERT(known);
    options.dimensions = (size_t)c->model_dimensions;
    return options;
}

/* Whether opening a model has to make its 8-bit weights first. */
static bool must_pack(const char *folder, mf_precision precision) {
    char path[MF_PATH_MAX];
    return (precision == MF_PRECISION_AUTO || precision == MF_PRECISION_INT8) &&
           mf_path_join(path, sizeof path, folder, MF_PACK_FILE, NULL) == MF_OK &&
           !mf_file_exists(path);
}

static void tell(const mf_runtime_options *options, const char *step) {
    if (options->progress != NULL) {
        options->progress(options->progress_ctx, step);
    }
}

/* --- the encoder --- */

static mf_rc open_encoder(mf_runtime *runtime, const mf_runtime_options *options,
                          mf_err *err) {
    const mf_config *c = mf_settings_get(runtime->settings);
    char folder[MF_PATH_MAX];
    MF_TRY(model_path(c, c->model_dir, c->buffer_embedding_model, folder, err));
    if (!mf_file_exists(folder)) {
        if (c->model_dir[0] != '\0') {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "model.dir",
                                 "model.dir: there is no folder '%s'", folder);
        }
        return MF_OK;
    }
    mf_model_ask ask = {
        .dir = folder, .options = encoder_options(c), .check_files = true};
    if (must_pack(folder, ask.options.precision)) {
        tell(options, "packing the model in 8 bits, which takes some seconds once");
    }
    MF_TRY(mf_model_registry_get(runtime->models, &ask, &runtime->encoder, err));
    size_t threads =
        c->embedding_threads > 0 ? (size_t)c->embedding_threads : mf_cpu_count();
    mf_embedder_options lanes = mf_embedder_options_default(threads);
    lanes.question_queue_max = (size_t)c->embedding_question_queue;
    lanes.ingest_queue_max = (size_t)c->embedding_ingest_queue;
    lanes.cache_count_max = (size_t)c->embedding_cache_size;
    lanes.caches = runtime->caches;
    return mf_embedder_open(runtime->encoder, &lanes, &runtime->embedder, err);
}

static mf_rc open_tokens(mf_runtime *runtime, mf_err *err) {
    const mf_config *c = mf_settings_get(runtime->settings);
    char ranks[MF_PATH_MAX];
    MF_TRY(model_path(c, c->model_ranks_file, "o200k_base.tiktoken", ranks, err));
    return mf_token_counter_open(ranks, &runtime->tokens, err);
}

/* --- preloading --- */

/* What the folder is, so that a reranker is opened as one. */
static mf_model_task task_of(const char *folder) {
    mf_encoder_config config;
    return mf_encoder_config_read(folder, &config, NULL) == MF_OK && config.labels > 0
               ? MF_TASK_RANK
               : MF_TASK_ENCODE;
}

mf_rc mf_runtime_preload(mf_runtime *runtime, mf_str name, mf_err *err) {
    const mf_config *c = mf_settings_get(runtime->settings);
    char text[MF_PATH_MAX];
    char folder[MF_PATH_MAX];
    if (name.len == 0 || name.len >= sizeof text) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "model", "a model needs a name");
    }
    (void)snprintf(text, sizeof text, "%.*s", MF_STR_ARGS(name));
    bool is_path = strchr(text, '/') != NULL;
    MF_TRY(model_path(c, is_path ? text : "", text, folder, err));
    if (!mf_file_exists(folder)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "model", "there is no model '%s'",
                             text);
    }
    mf_model_ask ask = {
        .dir = folder, .options = encoder_options(c), .check_files = true};
    ask.options.task = task_of(folder);
    if (ask.options.task == MF_TASK_RANK) {
        ask.options.dimensions = 0;
    }
    return mf_model_registry_preload(runtime->models, &ask, err);
}

static mf_rc preload_all(mf_runtime *runtime, const mf_runtime_options *options,
                         mf_err *err) {
    const mf_config *c = mf_settings_get(runtime->settings);
    mf_str rest = mf_str_from(c->model_preload);
    while (rest.len > 0) {
        mf_str name = mf_str_trim(mf_str_split(&rest, ','));
        if (name.len > 0) {
            tell(options, "preloading models");
            mf_rc rc = mf_runtime_preload(runtime, name, err);
            if (rc != MF_OK) {
                return mf_err_wrap(err, rc, "model.preload");
            }
        }
    }
    if (c->rerank_use_rerank && c->rerank_preload) {
        tell(options, "loading the reranker");
        mf_ranker *ranker;
        MF_TRY(mf_runtime_ranker(runtime, &ranker, err));
    }
    return MF_OK;
}

/* --- the reranker --- */

static mf_rc make_ranker(mf_runtime *runtime, mf_ranker **out, mf_err *err) {
    const mf_config *c = mf_settings_get(runtime->settings);
    char folder[MF_PATH_MAX];
    bool is_path = strchr(c->rerank_model, '/') != NULL;
    MF_TRY(model_path(c, is_path ? c->rerank_model : "", c->rerank_model, folder, err));
    if (!mf_file_exists(folder)) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "rerank.model",
                             "rerank.model: there is no folder '%s'; `memfuse model "
                             "pull` fetches models",
                             folder);
    }
    mf_model_ask ask = {
        .dir = folder,
        .options = {.precision = encoder_options(c).precision, .task = MF_TASK_RANK},
        .check_files = true};
    mf_encoder *encoder;
    MF_TRY(mf_model_registry_get(runtime->models, &ask, &encoder, err));
    size_t lanes = mf_cpu_count();
    mf_rc rc = mf_ranker_open(
        encoder, lanes < MF_RANKER_LANES_MAX ? lanes : MF_RANKER_LANES_MAX, out, err);
    (void)mf_encoder_unref(encoder); /* the ranker has its own reference */
    return rc;
}

mf_rc mf_runtime_ranker(mf_runtime *runtime, mf_ranker **out, mf_err *err) {
    mf_ranker *ranker = atomic_load(&runtime->ranker);
    if (ranker == NULL) {
        mf_ranker *made;
        MF_TRY(make_ranker(runtime, &made, err));
        if (atomic_compare_exchange_strong(&runtime->ranker, &ranker, made)) {
            ranker = made;
        } else {
            mf_ranker_close(made); /* another thread was first */
        }
    }
    *out = ranker;
    return MF_OK;
}

/* --- the language model --- */

static void copy_variable(char *const *environment, const char *name, char *out,
                          size_t size) {
    size_t len = strlen(name);
    for (char *const *e = environment; e != NULL && *e != NULL; e++) {
        if (strncmp(*e, name, len) == 0 && (*e)[len] == '=') {
            (void)snprintf(out, size, "%s", *e + len + 1);
        }
    }
}

/* The environment is read once: it may change, and the key is not to be looked for
 * again. */
static void read_environment(mf_runtime *runtime, char *const *environment) {
    const mf_config *c = mf_settings_get(runtime->settings);
    const struct llm_provider *provider = find_provider(c->llm_provider);
    if (provider != NULL) {
        copy_variable(environment, provider->key_variable, runtime->llm_key,
                      sizeof runtime->llm_key);
    }
    copy_variable(environment, "OPENAI_BASE_URL", runtime->llm_url,
                  sizeof runtime->llm_url);
}

/* llm.base_url, else OPENAI_BASE_URL for that provider, else the provider's own. */
static const char *llm_base_url(const mf_runtime *runtime, const mf_config *c,
                                const struct llm_provider *provider) {
    if (c->llm_base_url[0] != '\0') {
        return c->llm_base_url;
    }
    bool is_openai = strcmp(provider->name, "openai") == 0;
    return is_openai && runtime->llm_url[0] != '\0' ? runtime->llm_url
                                                    : provider->base_url;
}

static mf_rc make_llm(mf_runtime *runtime, const mf_config *c,
                      const struct llm_provider *provider, mf_llm **out, mf_err *err) {
    mf_llm_options options = {
        .base_url = llm_base_url(runtime, c, provider),
        .model = c->llm_model,
        .api_key = runtime->llm_key,
        .timeout_ms = (int64_t)(c->llm_timeout * 1000.0),
        .cache_ttl_ms = c->llm_cache_ttl * 1000,
        .cache_count_max = LLM_ANSWERS_MAX,
        .cache_bytes_max = LLM_ANSWER_BYTES_MAX,
        .caches = runtime->caches,
    };
    return mf_llm_open(&options, out, err);
}

mf_llm *mf_runtime_llm(mf_runtime *runtime) {
    mf_llm *llm = atomic_load(&runtime->llm);
    const mf_config *c = mf_settings_get(runtime->settings);
    const struct llm_provider *provider = find_provider(c->llm_provider);
    if (llm != NULL || provider == NULL) {
        return llm;
    }
    mf_llm *made;
    mf_err err = {0};
    if (make_llm(runtime, c, provider, &made, &err) != MF_OK) {
        if (!atomic_exchange(&runtime->llm_failed, true)) {
            mf_log_err(MF_LOG_WARN, "no_language_model", &err);
        }
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&runtime->llm, &llm, made)) {
        mf_llm_close(made); /* another thread was first */
        return llm;
    }
    return made;
}

/* --- life --- */

static mf_rc open_parts(mf_runtime *runtime, const mf_runtime_options *options,
                        mf_err *err) {
    const mf_config *c = mf_settings_get(runtime->settings);
    if (runtime->models == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the table of models");
    }
    read_environment(runtime, options->environment);
    if (find_provider(c->llm_provider) != NULL) { /* told at start, not at first use */
        mf_llm *checked;
        MF_TRY(make_llm(runtime, c, find_provider(c->llm_provider), &checked, err));
        mf_llm_close(checked);
    }
    MF_TRY(open_tokens(runtime, err));
    MF_TRY(open_encoder(runtime, options, err));
    return preload_all(runtime, options, err);
}

mf_rc mf_runtime_open(const mf_runtime_options *options, mf_runtime **out,
                      mf_err *err) {
    int64_t start_ns = mf_now_ns();
    mf_runtime *runtime = mf_alloc_zero(1, sizeof *runtime);
    if (runtime == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the runtime");
    }
    runtime->settings = options->settings;
    runtime->models =
        options->models != NULL ? options->models : mf_model_registry_process();
    runtime->caches = options->caches;
    mf_rc rc = open_parts(runtime, options, err);
    if (rc != MF_OK) {
        mf_runtime_close(runtime);
        return rc;
    }
    runtime->open_ns = mf_now_ns() - start_ns;
    *out = runtime;
    return MF_OK;
}

void mf_runtime_close(mf_runtime *runtime) {
    if (runtime == NULL) {
        return;
    }
    mf_llm_close(atomic_load(&runtime->llm));
    mf_ranker_close(atomic_load(&runtime->ranker));
    mf_embedder_close(runtime->embedder);
    (void)mf_encoder_unref(runtime->encoder); /* always NULL */
    mf_token_counter_close(runtime->tokens);
    explicit_bzero(runtime->llm_key, sizeof runtime->llm_key);
    mf_free(runtime);
}

mf_token_counter *mf_runtime_tokens(mf_runtime *runtime) {
    return runtime->tokens;
}

mf_embedder *mf_runtime_embedder(mf_runtime *runtime) {
    return runtime->embedder;
}

mf_model_registry *mf_runtime_models(mf_runtime *runtime) {
    return runtime->models;
}

void mf_runtime_get_stats(mf_runtime *runtime, mf_runtime_stats *out) {
    mf_ranker *ranker = atomic_load(&runtime->ranker);
    mf_llm *llm = atomic_load(&runtime->llm);
    *out = (mf_runtime_stats){.open_ns = runtime->open_ns,
                              .has_ranker = ranker != NULL,
                              .has_llm = llm != NULL};
    mf_model_registry_get_stats(runtime->models, &out->models);
    if (ranker != NULL) {
        mf_ranker_get_stats(ranker, &out->ranker);
    }
    if (llm != NULL) {
        mf_llm_get_stats(llm, &out->llm);
    }
}
