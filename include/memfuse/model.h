/* model.h - sentence encoders as a library: texts in, vectors out, and the folders the
 * encoders live in.
 *
 * An mf_model is a loaded encoder (a Hugging Face folder, docs/models.md) with threads
 * of its own.  It does not need an mf_engine, nor a data directory.
 *
 *     mf_model *model = NULL;
 *     char error[MF_ENGINE_ERROR_TEXT];
 *     mf_model_options options = mf_model_options_default();
 *     if (mf_model_open("data/models/all-MiniLM-L6-v2", &options, &model, error) == 0)
 * { mf_model_text text = {"a bird in the hand", 18}; float *vector =
 * malloc(mf_model_dim(model) * sizeof *vector); if (mf_model_embed(model, &text, 1,
 * vector, NULL, error) == 0) ...
 *
 * Threads: every function may be called from any thread, and one model by many at once;
 * mf_model_close must be the last call on it.  The library never prints, exits or
 * touches signals.
 *
 * Errors: functions that return int give 0 on success.  Otherwise they give a code
 * (mf_engine_code_name) and, in `error` (at least MF_ENGINE_ERROR_TEXT bytes, or NULL),
 * one sentence that says what is wrong; results are then untouched, except for vectors,
 * which may hold anything.
 *
 * A `char **json` receives a NUL-terminated JSON text, to be freed with
 * mf_engine_free.  Byte counts are plain bytes, times milliseconds. */
#ifndef MEMFUSE_MODEL_H
#define MEMFUSE_MODEL_H

#include <stdint.h>

#include "memfuse/memfuse.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mf_model mf_model;

enum {
    MF_MODEL_THREADS_MAX = 63,
    MF_MODEL_TEXT_BYTES_MAX = 1 << 20, /* bytes in one text */
    MF_MODEL_CACHE_DEFAULT = 10000,
    MF_MODEL_CACHE_MAX = 10000000,
};

typedef struct mf_model_options {
    const char *precision; /* "auto", "int8", "bf16" or "fp32": model.precision;
                              NULL: auto */
    size_t dimensions;  /* floats of a vector that are kept, the first ones, for models
                           trained for that; 0: all */
    size_t threads;     /* that encode, 1..MF_MODEL_THREADS_MAX; 0: one per core */
    size_t cache_count; /* vectors kept by the hash of their text, so that equal texts
                           are encoded once; at most MF_MODEL_CACHE_MAX; 0: none */
} mf_model_options;

MF_API mf_model_options mf_model_options_default(void);

/* UTF-8, borrowed for the call; need not end in a NUL. */
typedef struct mf_model_text {
    const char *p;
    size_t len; /* bytes */
} mf_model_text;

/* What a long call tells while it runs: `step` is called on the calling thread, every
 * now and then, with `done` of `total` (0: not known) units of `what` ("texts", or a
 * file's name with its bytes).  It is quick and calls nothing of the same model.  A
 * result other than 0 gives the call up, which then fails with the code named
 * "stopping". */
typedef struct mf_model_progress {
    int (*step)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *ctx;
} mf_model_progress;

/* The weights of a model are held once per process: every mf_model and mf_engine that
 * opens the same folder with the same precision and dimensions shares them, so the
 * second open takes no time and no memory for them.  They stay when the last is closed,
 * for the next; mf_models_clear gives them back.  A folder whose files were replaced is
 * read anew by the next open.
 *
 * Opens the folder `dir` and checks every tensor before first use.  Unless fp32 is
 * asked for, the packed weights are made once, which takes some seconds, and
 * kept in the folder if it can be written.  A reranker can be opened, for what
 * mf_model_info tells, but gives no vectors.  Codes: "io", "corrupt" (names the file
 * and what was expected of it), "unsupported", "invalid" (an option), "no_memory". */
MF_API int mf_model_open(const char *dir, const mf_model_options *options,
                         mf_model **out, char *error);
MF_API void mf_model_close(mf_model *model); /* NULL is fine */

/* Floats in a vector. */
MF_API size_t mf_model_dim(const mf_model *model);

/* What is known of an open model: a JSON object {name, path, task, dim, labels, layers,
 * heads, inner, window, vocab, pooling, parameters, precision, kernel, packed, threads,
 * weight_bytes, open_ms, resident_bytes}.  `task` is "encode" or, for rerankers, which
 * give `labels` numbers and no vector, "rank".  `packed` tells where the weights came
 * from: "none" (fp32 as published), "mapped" (the packed file) or "made" (packed just
 * now); resident_bytes is the memory of the whole process when the model had been
 * opened. */
MF_API int mf_model_info(const mf_model *model, char **json, char *error);

/* Whether mf_model_embed takes the text: "invalid" when it is not UTF-8 or holds a NUL,
 * "too_large" beyond MF_MODEL_TEXT_BYTES_MAX. */
MF_API int mf_model_check_text(const mf_model_text *text, char *error);

/* Writes the vector of each text into `out`, row-major [count, dim], each of length 1,
 * in the order of the texts.  A text gives the same bits alone, among others and on any
 * number of threads; an empty one gives the vector of no words.  Words beyond the
 * model's window are left out (mf_model_get_stats counts such texts).  More than a few
 * texts are shared among the model's threads, the calling one included.  Codes: those
 * of mf_model_check_text, naming the text by its number from 0; "invalid" for a
 * reranker; "stopping"; "no_memory".  `progress` may be NULL. */
MF_API int mf_model_embed(mf_model *model, const mf_model_text *texts, size_t count,
                          float *out, const mf_model_progress *progress, char *error);

typedef struct mf_model_stats {
    uint64_t texts;     /* given to mf_model_embed */
    uint64_t encoded;   /* run through the network; the rest was known or repeated */
    uint64_t truncated; /* of those encoded, longer than the window */
} mf_model_stats;

MF_API void mf_model_get_stats(mf_model *model, mf_model_stats *out);

/* --- what the process holds --------------------------------------------------------
 */

/* The models in memory, oldest first: a JSON object {models: [{name, path, task,
 * precision, dim, weight_bytes, users, preloaded, hits, load_ms}], expected, actual,
 * bytes, hits, shared_loads, aliases, loads, outside, failed, released}.  `users` are
 * those who have it open; `actual` more than `expected` means that a model is held more
 * than once; `outside` counts those that found no place in the table. */
MF_API int mf_models_info(char **json, char *error);
/* Loads a model before it is needed and keeps it until mf_models_clear.  Codes as
 * mf_model_open; of `options`, precision and dimensions count. */
MF_API int mf_models_preload(const char *dir, const mf_model_options *options,
                             char *error);
/* Gives back the memory of all models that nobody has open: a JSON object {released,
 * released_bytes, stayed, stayed_bytes}; NULL: not wanted. */
MF_API int mf_models_clear(char **json, char *error);

/* --- folders -----------------------------------------------------------------------
 */

/* The models in the folder `models` (DATA/models): a JSON array, by name, of {name,
 * path, kind, task, dim, layers, window, bytes, precisions, usable, problem}.  `kind`
 * is the model_type of config.json; `bytes` is all files; `precisions` are "fp32" and
 * those whose packed weights are there; `problem` says why a folder is not usable, else
 * null.  Only small files are read.  A missing folder holds no model. */
MF_API int mf_model_list(const char *models, char **json, char *error);

/* The files of the model folder `dir`: a JSON array, by name, of {name, bytes, sha256,
 * recorded}.  With `hash` other than 0 all of them are read for their `sha256`, else it
 * is null.  `recorded` is what the folder's SHA256SUMS says, or null. */
MF_API int mf_model_files(const char *dir, int hash, char **json, char *error);

#define MF_MODEL_HUB_DEFAULT "https://huggingface.co"

typedef struct mf_model_pull_options {
    const char
        *models;     /* folder that receives the model: DATA/models; made if missing */
    const char *hub; /* "http(s)://HOST[/PATH]"; NULL: MF_MODEL_HUB_DEFAULT */
    const char *revision; /* branch, tag or commit; NULL: main, or what the URL names */
    const char *name; /* of the folder made; NULL: the last part of the model's name */
    int replace;      /* other than 0: takes the place of a folder already there */
    const char *ca_file; /* PEM certificates to trust with HTTPS; NULL: the system\'s */
    mf_model_progress progress; /* step NULL: silent */
} mf_model_pull_options;

MF_API mf_model_pull_options mf_model_pull_options_default(void);

/* Downloads a model from a hub that speaks as Hugging Face's does.  `model` is
 * "OWNER/NAME", "NAME" (of the owner sentence-transformers), or the URL of the model's
 * page, which names the hub as well.
 *
 * Files are fetched into a folder beside the destination, one commit for all of them.
 * A file cut short is continued by the next call.  The model moves into place at once
 * and only when it is whole: sizes and SHA-256 are those the hub gives, the network is
 * one that memfuse runs, and every tensor is there and finite.  Packed weights are made
 * on the way.  SHA256SUMS in the folder keeps what was received.
 *
 * `json` (NULL: not wanted) receives {name, path, source, commit, files, bytes}.
 * Codes: "invalid" (a name or URL), "exists", "not_found" (the hub knows no such model
 * or revision), "io" (the hub is out of reach, or the disk), "corrupt", "unsupported",
 * "too_large", "locked" (another pull is at work), "stopping". */
MF_API int mf_model_pull(const char *model, const mf_model_pull_options *options,
                         char **json, char *error);

typedef struct mf_model_verify_options {
    const mf_model_text *sentences; /* to compare precisions on; none: a built-in set */
    size_t sentence_count;
    mf_model_progress progress; /* step NULL: silent */
} mf_model_verify_options;

MF_API mf_model_verify_options mf_model_verify_options_default(void);

/* Checks the model folder `dir` and tells how far each packed precision agrees with
 * fp32: a JSON object {name, path, passed, files: {checked, wrong: [names]}, tensors,
 * precisions: [{precision, sentences, cosine_min, cosine_mean, recall_at_10, passed}],
 * limits: {cosine_min, cosine_mean, recall_at_10}}.  A reranker gives no vectors: its
 * `precisions` are empty.  `passed` is whether all of it is
 * as it should be.  The call fails as mf_model_open does when the model cannot be
 * opened at all. */
MF_API int mf_model_verify(const char *dir, const mf_model_verify_options *options,
                           char **json, char *error);

#ifdef __cplusplus
}
#endif

#endif
