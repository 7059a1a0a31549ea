/* runtime.h - tier 1: what the whole process shares besides its store.
 *
 * A mf_runtime belongs to one engine and is made by it (lib/engine.c); the heavy things
 * in it are shared beyond: models come from the process's registry
 * (model/model_registry.h), so that ten engines have one set of weights.
 *
 *   token counter, encoder, embedder   at open: the first write and the first question
 *                                      need them
 *   reranker                           at open when rerank.use_rerank and
 *                                      rerank.preload are on; on first use when only
 *                                      the former is; never when it is off
 *   language model's client            on first use, when llm.provider is set; it makes
 *                                      no connection before the first prompt
 *   further models                     at open, those model.preload names
 *
 * A missing encoder is not an error: memfuse then finds by words alone.  A damaged one
 * is, and so is a missing reranker that was asked for.
 *
 * What is handed out lives as long as the runtime.  Thread-safe. */
#ifndef MF_SERVICE_RUNTIME_H
#define MF_SERVICE_RUNTIME_H

#include "model/embedder.h"
#include "model/llm.h"
#include "model/model_registry.h"
#include "model/ranker.h"
#include "model/token_counter.h"
#include "text/config.h"

typedef struct mf_runtime mf_runtime;

typedef struct mf_runtime_options {
    mf_settings *settings;     /* outlives the runtime, as do the next two */
    mf_model_registry *models; /* NULL: the process's */
    mf_cache_manager *caches;  /* NULL: caches keep to their own limits only */
    char *const *environment;  /* like environ, for the language model's key and
                                  address; NULL: none.  Read at open only */
    void (*progress)(void *ctx, const char *step); /* told of slow steps; or NULL */
    void *progress_ctx;
} mf_runtime_options;

/* MF_E_INVAL naming the setting, MF_E_IO, MF_E_CORRUPT, MF_E_NOMEM. */
MF_CHECKED mf_rc mf_runtime_open(const mf_runtime_options *options, mf_runtime **out,
                                 mf_err *err);
void mf_runtime_close(
    mf_runtime *runtime); /* nobody uses anything of it; NULL is fine */

mf_token_counter *mf_runtime_tokens(mf_runtime *runtime);
mf_embedder *mf_runtime_embedder(mf_runtime *runtime); /* NULL: there is no model */
/* The reranker, loaded by the first who asks, whatever rerank.use_rerank says: whether
 * it is wanted is the caller's matter, since a user may override it.  MF_E_INVAL naming
 * rerank.model when there is none. */
MF_CHECKED mf_rc mf_runtime_ranker(mf_runtime *runtime, mf_ranker **out, mf_err *err);
/* NULL when it is off; and when it cannot be made, which is logged once. */
mf_llm *mf_runtime_llm(mf_runtime *runtime);

mf_model_registry *mf_runtime_models(mf_runtime *runtime);
/* Loads a model of DATA/models, or at a path with a slash, into the registry and pins
 * it; with the settings' precision and dimensions, or as a reranker if it is one.
 * MF_E_NOTFOUND, or what loading says. */
MF_CHECKED mf_rc mf_runtime_preload(mf_runtime *runtime, mf_str name, mf_err *err);

typedef struct mf_runtime_stats {
    int64_t open_ns; /* what mf_runtime_open took */
    mf_model_registry_stats models;
    bool has_ranker, has_llm; /* made */
    mf_ranker_stats ranker;
    mf_llm_stats llm;
} mf_runtime_stats;

void mf_runtime_get_stats(mf_runtime *runtime, mf_runtime_stats *out);

#endif
