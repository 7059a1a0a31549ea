/* model_api.c - an open encoder behind include/memfuse/model.h: its threads, and the
 * calls that share them.
 *
 * A call is a job: texts, and a mark up to where they are taken.  The calling thread
 * takes slices of its own job; helper threads, one fewer than the model has threads,
 * take slices of whatever job has some left.  So a single text wakes nobody, many texts
 * use every core, and several callers share them.  The lanes belong to the embedder
 * (model/embedder.h), which also knows the vectors of texts seen before.
 *
 * jobs_mu guards the list and everything in it; it is not held while encoding. */
#include "memfuse/model.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "lib/reply.h"
#include "model/embedder.h"
#include "model/encoder_config.h"
#include "model/model_registry.h"
#include "model/safetensors.h"
#include "os/cpu.h"
#include "os/file.h"
#include "text/utf8.h"

enum {
    SLICE_TEXTS = 16, /* taken at a time */
    PATH_TEXT_MAX = 4096,
};

_Static_assert((int)MF_MODEL_TEXT_BYTES_MAX == (int)MF_ENCODE_BYTES_MAX,
               "the public bound is the encoder's");
_Static_assert((int)SLICE_TEXTS <= (int)MF_ENCODE_BATCH_MAX, "one call takes a slice");

typedef struct job {
    const mf_model_text *texts; /* constant */
    size_t count;
    float *out;
    struct job *next; /* the rest is guarded by jobs_mu */
    size_t taken;     /* texts given out */
    size_t done;      /* texts whose vectors are there */
    size_t running;   /* threads at work on it */
    mf_rc rc;         /* the first failure; no slice is taken after it */
    mf_err err;
} job;

struct mf_model {
    /* constant after open */
    char path[PATH_TEXT_MAX];
    mf_encoder *encoder;
    mf_embedder *embedder; /* NULL: a reranker */
    size_t dim;
    bool ranks; /* a reranker: no vectors */
    size_t thread_count;
    int64_t open_ns;       /* what opening took */
    size_t resident_bytes; /* of the process, after it */
    mf_mutex jobs_mu;
    mf_cond work;     /* a job has texts to take, or the model closes */
    mf_cond finished; /* a thread has left a job */
    job *jobs;        /* guarded by jobs_mu, as is the next */
    bool closing;
    mf_thread helpers[MF_MODEL_THREADS_MAX];
};

/* --- slices ------------------------------------------------------------------------
 */

static bool has_work_locked(const job *j) {
    return j->rc == MF_OK && j->taken < j->count;
}

static mf_rc encode_slice(mf_model *model, const job *j, size_t first, size_t count,
                          mf_err *err) {
    mf_str texts[SLICE_TEXTS];
    for (size_t i = 0; i < count; i++) {
        texts[i] = (mf_str){j->texts[first + i].p, j->texts[first + i].len};
    }
    const mf_embed_call call = {.cls = MF_EMBED_INGEST, .deadline_ns = MF_NEVER};
    return mf_embedder_encode(model->embedder, &call, texts, count, NULL,
                              j->out + first * model->dim, err);
}

/* Takes a slice of the job and encodes it, without the lock meanwhile. */
static void run_slice_locked(mf_model *model, job *j) MF_REQUIRES(model->jobs_mu) {
    size_t first = j->taken;
    size_t count = j->count - first < SLICE_TEXTS ? j->count - first : SLICE_TEXTS;
    mf_err err;
    j->taken += count;
    j->running++;
    mf_mutex_unlock(&model->jobs_mu);
    mf_rc rc = encode_slice(model, j, first, count, &err);
    mf_mutex_lock(&model->jobs_mu);
    j->running--;
    if (rc == MF_OK) {
        j->done += count;
    } else if (j->rc == MF_OK) {
        j->rc = rc;
        j->err = err;
    }
}

static void help(void *ctx) {
    mf_model *model = ctx;
    mf_mutex_lock(&model->jobs_mu);
    while (!model->closing) {
        job *j = model->jobs;
        while (j != NULL && !has_work_locked(j)) {
            j = j->next;
        }
        if (j == NULL) {
            (void)mf_cond_wait(&model->work, &model->jobs_mu, MF_NEVER);
        } else {
            run_slice_locked(model, j);
            mf_cond_broadcast(&model->finished);
        }
    }
    mf_mutex_unlock(&model->jobs_mu);
}

/* --- open and close ----------------------------------------------------------------
 */

mf_model_options mf_model_options_default(void) {
    return (mf_model_options){.cache_count = MF_MODEL_CACHE_DEFAULT};
}

static mf_rc read_options(mf_model *model, const mf_model_options *options,
                          mf_encoder_options *encoder, mf_err *err) {
    *encoder = mf_encoder_options_default();
    encoder->task = model->ranks ? MF_TASK_RANK : MF_TASK_ENCODE;
    encoder->dimensions = options->dimensions;
    if (options->precision != NULL &&
        !mf_precision_from_name(options->precision, &encoder->precision)) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "precision", "there is no precision '%s'",
                             options->precision);
    }
    if (options->threads > MF_MODEL_THREADS_MAX) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "threads",
                             "%zu threads, allowed are 0 (one per core) to %d",
                             options->threads, MF_MODEL_THREADS_MAX);
    }
    if (options->cache_count > MF_MODEL_CACHE_MAX) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "cache_count",
                             "a cache of %zu vectors, allowed are at most %d",
                             options->cache_count, MF_MODEL_CACHE_MAX);
    }
    size_t threads = options->threads > 0 ? options->threads : mf_cpu_count();
    model->thread_count =
        threads < MF_MODEL_THREADS_MAX ? threads : MF_MODEL_THREADS_MAX;
    return MF_OK;
}

static mf_rc open_parts(mf_model *model, const char *dir,
                        const mf_model_options *options, mf_err *err) {
    mf_encoder_options encoder;
    mf_encoder_config config;
    mf_model_registry *models = mf_model_registry_process();
    if (models == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the table of models");
    }
    MF_TRY(mf_path_join(model->path, sizeof model->path, "", dir, err));
    mf_rc rc = mf_encoder_config_read(dir, &config, err);
    if (rc != MF_OK) {
        return mf_err_wrap(err, rc, "loading model '%s'", dir);
    }
    model->ranks = config.labels > 0;
    MF_TRY(read_options(model, options, &encoder, err));
    mf_model_ask ask = {.dir = dir, .options = encoder, .check_files = true};
    MF_TRY(mf_model_registry_get(models, &ask, &model->encoder, err));
    mf_encoder_info info;
    mf_encoder_get_info(model->encoder, &info);
    model->dim = info.dim;
    if (model->ranks) {
        return MF_OK; /* there is nothing to embed with */
    }
    mf_embedder_options lanes = mf_embedder_options_default(model->thread_count);
    lanes.lane_count = model->thread_count; /* there are no questions to keep one for */
    lanes.cache_count_max = options->cache_count;
    lanes.exact = true;
    MF_TRY(mf_embedder_open(model->encoder, &lanes, &model->embedder, err));
    for (size_t i = 0; i + 1 < model->thread_count; i++) {
        MF_TRY(mf_thread_start(&model->helpers[i], "mf-model", help, model, err));
    }
    return MF_OK;
}

int mf_model_open(const char *dir, const mf_model_options *options, mf_model **out,
                  char *error) {
    mf_err err = {0};
    int64_t start_ns = mf_now_ns();
    mf_model *model = mf_alloc_zero(1, sizeof *model);
    if (model == NULL) {
        return mf_reply_error(&err, MF_FAIL(&err, MF_E_NOMEM, "out of memory"), error);
    }
    mf_mutex_init(&model->jobs_mu, MF_RANK_LEAF);
    mf_cond_init(&model->work);
    mf_cond_init(&model->finished);
    mf_rc rc = open_parts(model, dir, options, &err);
    if (rc != MF_OK) {
        mf_model_close(model);
        return mf_reply_error(&err, rc, error);
    }
    model->open_ns = mf_now_ns() - start_ns;
    model->resident_bytes = mf_process_rss_bytes();
    *out = model;
    return 0;
}

void mf_model_close(mf_model *model) {
    if (model == NULL) {
        return;
    }
    mf_mutex_lock(&model->jobs_mu);
    MF_ASSERT(model->jobs == NULL);
    model->closing = true;
    mf_cond_broadcast(&model->work);
    mf_mutex_unlock(&model->jobs_mu);
    for (size_t i = 0; i + 1 < model->thread_count; i++) {
        mf_thread_join(&model->helpers[i]);
    }
    mf_embedder_close(model->embedder);
    (void)mf_encoder_unref(model->encoder); /* always NULL */
    mf_cond_done(&model->work);
    mf_cond_done(&model->finished);
    mf_mutex_done(&model->jobs_mu);
    mf_free(model);
}

size_t mf_model_dim(const mf_model *model) {
    return model->dim;
}

/* --- embedding ---------------------------------------------------------------------
 */

/* Where the bytes stop being UTF-8, which they are not to the end. */
static size_t find_bad_byte(mf_str text) {
    size_t at = 0;
    while (at < text.len) {
        size_t start = at;
        uint32_t code = mf_utf8_next_lossy(text, &at);
        /* U+FFFD itself has three bytes. */
        if (code == MF_UTF8_REPLACEMENT && at == start + 1) {
            return start;
        }
    }
    return text.len;
}

static mf_rc check_text(mf_str text, mf_err *err) {
    if (text.len > MF_MODEL_TEXT_BYTES_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "%zu bytes long, allowed are %d", text.len,
                       MF_MODEL_TEXT_BYTES_MAX);
    }
    const char *nul = text.len > 0 ? memchr(text.p, '\0', text.len) : NULL;
    if (nul != NULL) {
        return MF_FAIL(err, MF_E_INVAL, "byte %td is a NUL, which is no text",
                       nul - text.p + 1);
    }
    if (!mf_utf8_valid(text)) {
        return MF_FAIL(err, MF_E_INVAL, "byte %zu is not UTF-8",
                       find_bad_byte(text) + 1);
    }
    return MF_OK;
}

int mf_model_check_text(const mf_model_text *text, char *error) {
    mf_err err = {0};
    mf_rc rc = check_text((mf_str){text->p, text->len}, &err);
    return mf_reply_error(&err, rc, error);
}

static void leave_list_locked(mf_model *model, const job *j) {
    job **at = &model->jobs;
    while (*at != j) {
        at = &(*at)->next;
    }
    *at = j->next;
}

/* Tells the caller how far its job is, without the lock meanwhile. */
static void tell_locked(mf_model *model, job *j, const mf_model_progress *progress)
    MF_REQUIRES(model->jobs_mu) {
    size_t done = j->done;
    mf_mutex_unlock(&model->jobs_mu);
    int stop = progress->step(progress->ctx, "texts", done, j->count);
    mf_mutex_lock(&model->jobs_mu);
    if (stop && j->rc == MF_OK) {
        j->rc = MF_FAIL(&j->err, MF_E_STOPPING, "given up after %zu of %zu texts", done,
                        j->count);
    }
}

static void run_job(mf_model *model, job *j, const mf_model_progress *progress) {
    bool watched = progress != NULL && progress->step != NULL;
    mf_mutex_lock(&model->jobs_mu);
    j->next = model->jobs;
    model->jobs = j;
    if (j->count > SLICE_TEXTS) {
        mf_cond_broadcast(&model->work);
    }
    while (has_work_locked(j)) {
        run_slice_locked(model, j);
        if (watched && has_work_locked(j)) {
            tell_locked(model, j, progress);
        }
    }
    while (j->running > 0) {
        (void)mf_cond_wait(&model->finished, &model->jobs_mu, MF_NEVER);
    }
    leave_list_locked(model, j);
    if (watched && j->rc == MF_OK) {
        tell_locked(model, j, progress);
    }
    mf_mutex_unlock(&model->jobs_mu);
}

int mf_model_embed(mf_model *model, const mf_model_text *texts, size_t count,
                   float *out, const mf_model_progress *progress, char *error) {
    mf_err err = {0};
    if (model->ranks) {
        return mf_reply_error(&err,
                              MF_FAIL(&err, MF_E_INVAL,
                                      "'%s' is a reranker: it gives no vectors",
                                      model->path),
                              error);
    }
    for (size_t i = 0; i < count; i++) {
        mf_rc rc = check_text((mf_str){texts[i].p, texts[i].len}, &err);
        if (rc != MF_OK) {
            return mf_reply_error(&err, mf_err_wrap(&err, rc, "text %zu", i), error);
        }
    }
    job j = {.texts = texts, .count = count, .out = out};
    run_job(model, &j, progress);
    return mf_reply_error(&j.err, j.rc, error);
}

void mf_model_get_stats(mf_model *model, mf_model_stats *out) {
    mf_embedder_stats stats = {0};
    if (model->embedder != NULL) {
        mf_embedder_get_stats(model->embedder, &stats);
    }
    *out = (mf_model_stats){
        .texts = stats.texts, .encoded = stats.encoded, .truncated = stats.truncated};
}

/* --- info --------------------------------------------------------------------------
 */

static const char *const pooling_names[] = {
    [MF_POOLING_MEAN] = "mean", [MF_POOLING_CLS] = "cls", [MF_POOLING_MAX] = "max"};

/* Numbers in all tensors of the model's file. */
static mf_rc count_parameters(const mf_model *model, size_t *out, mf_err *err) {
    char path[MF_PATH_MAX];
    mf_safetensors *file = NULL;
    MF_TRY(mf_path_join(path, sizeof path, model->path, "model.safetensors", err));
    MF_TRY(mf_safetensors_open(path, &file, err));
    *out = mf_safetensors_numbers(file);
    mf_safetensors_close(file);
    return MF_OK;
}

static mf_rc fill_info(const mf_model *model, yyjson_mut_doc *doc, mf_err *err) {
    mf_encoder_info info;
    mf_encoder_config config;
    size_t parameters = 0;
    mf_encoder_get_info(model->encoder, &info);
    MF_TRY(mf_encoder_config_read(model->path, &config, err));
    MF_TRY(count_parameters(model, &parameters, err));
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    (void)yyjson_mut_obj_add_strcpy(doc, root, "name", info.name);
    (void)yyjson_mut_obj_add_str(doc, root, "path", model->path);
    (void)yyjson_mut_obj_add_str(doc, root, "task", model->ranks ? "rank" : "encode");
    (void)yyjson_mut_obj_add_uint(doc, root, "dim", info.dim);
    (void)yyjson_mut_obj_add_uint(doc, root, "labels", info.labels);
    (void)yyjson_mut_obj_add_uint(doc, root, "layers", info.layers);
    (void)yyjson_mut_obj_add_uint(doc, root, "heads", info.heads);
    (void)yyjson_mut_obj_add_uint(doc, root, "inner", config.inner);
    (void)yyjson_mut_obj_add_uint(doc, root, "window", info.window);
    (void)yyjson_mut_obj_add_uint(doc, root, "vocab", config.vocab);
    (void)yyjson_mut_obj_add_str(doc, root, "pooling", pooling_names[config.pooling]);
    (void)yyjson_mut_obj_add_uint(doc, root, "parameters", parameters);
    (void)yyjson_mut_obj_add_str(doc, root, "precision", info.precision);
    (void)yyjson_mut_obj_add_str(doc, root, "kernel", info.kernel);
    (void)yyjson_mut_obj_add_str(doc, root, "packed", info.packed);
    (void)yyjson_mut_obj_add_uint(doc, root, "threads", model->thread_count);
    (void)yyjson_mut_obj_add_uint(doc, root, "weight_bytes", info.weight_bytes);
    (void)yyjson_mut_obj_add_real(doc, root, "open_ms",
                                  (double)model->open_ns / MF_NS_PER_MS);
    (void)yyjson_mut_obj_add_uint(doc, root, "resident_bytes", model->resident_bytes);
    return MF_OK;
}

int mf_model_info(const mf_model *model, char **json, char *error) {
    mf_err err = {0};
    mf_reply reply = {.arena = NULL};
    mf_rc rc = mf_reply_begin(&reply, &err);
    if (rc == MF_OK) {
        rc = fill_info(model, reply.doc, &err);
    }
    if (rc == MF_OK) {
        rc = mf_reply_end(&reply, json, &err);
    }
    mf_reply_done(&reply);
    return mf_reply_error(&err, rc, error);
}
