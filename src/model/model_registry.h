/* model_registry.h - one instance of each model for all who use it.
 *
 * A model is megabytes of weights and takes a second or more to load the first time;
 * it never changes after that and any number of threads may share it (encoder.h).  So
 * there is one instance per folder, task, precision and number of dimensions, however
 * many engines, models of the C API and users there are in the process.
 *
 * Whoever needs a model looks for it in this order:
 *
 *   1. What it holds.  A component keeps its reference: the embedder its encoder, the
 *      reranker its own.  Nobody comes here twice for one thing.
 *   2. The registry, by what was asked for (`hits`): one look into a map.
 *   3. A load under way (`shared_loads`): the thread waits and takes its outcome.
 *   4. An instance that turns out to be the same (`aliases`): a folder under another
 *      path, "auto" where the answer is int8, all dimensions by their number.
 *   5. A new instance, registered (`loads`).
 *   6. A new instance outside the registry (`outside`), when the table is full of
 *      models in use or memory for its row is short: it works, but nobody shares it,
 *      so it is told in the log as a warning.
 *
 * In terms of a runtime with factories and component caches: 2 is the runtime, 3 and 4
 * the factory's cache, 1 the component's cache (looked at first because it costs a
 * pointer), 6 the last resort.
 *
 * Instances stay, also unused, until cleared: the next engine finds them.  A folder
 * whose files were replaced is loaded anew by whoever asks with `check_files`; those
 * who have the old instance keep it.
 *
 * Thread-safe.  Loading happens outside every lock. */
#ifndef MF_MODEL_MODEL_REGISTRY_H
#define MF_MODEL_MODEL_REGISTRY_H

#include "model/encoder.h"

typedef struct mf_model_registry mf_model_registry;

enum { MF_MODELS_MAX = 16 }; /* instances registered at once */

MF_CHECKED mf_rc mf_model_registry_open(mf_model_registry **out, mf_err *err);
/* Gives up its references; instances in use live on with their users. */
void mf_model_registry_close(mf_model_registry *registry);

/* The one that everything in the process shares, made on first use; NULL when memory is
 * short. */
mf_model_registry *mf_model_registry_process(void);
/* For tests, so that each starts clean, and before an orderly end of the process:
 * closes the shared one.  Nobody may use it meanwhile; who has an instance keeps it. */
void mf_model_registry_process_reset(void);

typedef struct mf_model_ask {
    const char *dir; /* a relative one means what it meant when it was first used */
    mf_encoder_options options;
    bool check_files; /* look whether the files are still those the instance is of */
} mf_model_ask;

/* A reference to the instance (mf_encoder_unref), loaded if need be; errors of
 * mf_encoder_open.  A failure is not remembered. */
MF_CHECKED mf_rc mf_model_registry_get(mf_model_registry *registry,
                                       const mf_model_ask *ask, mf_encoder **out,
                                       mf_err *err);
/* Loads it if need be and pins it: it does not leave for want of room. */
MF_CHECKED mf_rc mf_model_registry_preload(mf_model_registry *registry,
                                           const mf_model_ask *ask, mf_err *err);

typedef struct mf_model_instance {
    char dir[1024]; /* the real path, cut if longer */
    mf_model_task task;
    mf_encoder_info info;
    size_t users; /* references besides the registry's */
    bool pinned;  /* preloaded */
    uint64_t hits;
    int64_t load_ns;
} mf_model_instance;

/* Fills up to `max` rows, oldest first; how many there are. */
size_t mf_model_registry_info(mf_model_registry *registry, mf_model_instance *out,
                              size_t max);

typedef struct mf_model_cleared {
    size_t released, released_bytes; /* weights of those nobody used */
    size_t stayed, stayed_bytes;     /* of those in use */
} mf_model_cleared;

/* Lets every instance go that nobody uses, preloaded ones too. */
void mf_model_registry_clear(mf_model_registry *registry, mf_model_cleared *out);

typedef struct mf_model_registry_stats {
    size_t expected; /* instances registered */
    size_t actual;   /* encoders alive in the process; more than expected: outside */
    size_t bytes;    /* weights of those registered */
    uint64_t hits, shared_loads, aliases, loads, outside, failed;
    uint64_t released; /* cleared, replaced or left for room */
    int64_t load_ns;   /* all loads together */
} mf_model_registry_stats;

void mf_model_registry_get_stats(mf_model_registry *registry,
                                 mf_model_registry_stats *out);

#endif
