/* model_verify.c - whether a model folder is what it should be: files against their
 * checksums, every tensor, and each packed precision against fp32.
 *
 * Precisions are compared on texts of the caller or on the built-in ones.  The limits
 * are those that docs/encoder.md promises. */
#include "memfuse/model.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "lib/bench_texts.h"
#include "lib/model_sums.h"
#include "lib/reply.h"
#include "model/agreement.h"
#include "model/encoder_config.h"
#include "model/safetensors.h"
#include "os/file.h"

static const double COSINE_MIN = 0.99;
static const double COSINE_MEAN = 0.995;
static const double RECALL_AT_10 = 0.97;

enum { NEAREST = 10 };

/* What is compared with fp32. */
static const char *const lesser_precisions[] = {"int8", "bf16"};
enum { LESSER = sizeof lesser_precisions / sizeof lesser_precisions[0] };

typedef struct verify {
    const char *dir;
    const mf_model_verify_options *options;
    mf_reply reply;
    yyjson_mut_val *root;
    mf_str *texts; /* to compare on */
    size_t text_count;
    char *bytes; /* of the built-in texts */
    mf_encoder *exact;
    bool ranks; /* a reranker: there are no vectors to compare */
    bool passed;
} verify;

/* --- files -------------------------------------------------------------------------
 */

static mf_rc tell_step(const verify *v, const char *what, uint64_t done, uint64_t total,
                       mf_err *err) {
    const mf_model_progress *progress = &v->options->progress;
    if (progress->step != NULL &&
        progress->step(progress->ctx, what, done, total) != 0) {
        return MF_FAIL(err, MF_E_STOPPING, "given up while checking");
    }
    return MF_OK;
}

static mf_rc check_sums(verify *v, mf_str sums, mf_err *err) {
    yyjson_mut_doc *doc = v->reply.doc;
    yyjson_mut_val *files = yyjson_mut_obj_add_obj(doc, v->root, "files");
    yyjson_mut_val *wrong = yyjson_mut_arr(doc);
    uint64_t checked = 0;
    bool broken = false;
    mf_str sum;
    mf_str name;
    while (mf_sums_next(&sums, &sum, &name, &broken)) {
        char path[MF_PATH_MAX];
        char file[MF_PATH_MAX];
        char found[MF_SHA256_TEXT];
        (void)snprintf(file, sizeof file, "%.*s", MF_STR_ARGS(name));
        MF_TRY(mf_path_join(path, sizeof path, v->dir, file, err));
        MF_TRY(tell_step(v, file, 0, 0, err));
        checked++;
        if (mf_sha256_file(path, found, NULL) != MF_OK ||
            !mf_str_eq(sum, mf_str_from(found))) {
            (void)yyjson_mut_arr_add_strcpy(doc, wrong, file);
        }
    }
    if (broken) {
        (void)yyjson_mut_arr_add_str(doc, wrong, MF_SUMS_FILE);
    }
    v->passed = yyjson_mut_arr_size(wrong) == 0;
    (void)yyjson_mut_obj_add_uint(doc, files, "checked", checked);
    (void)yyjson_mut_obj_add_val(doc, files, "wrong", wrong);
    return MF_OK;
}

static mf_rc check_files(verify *v, mf_err *err) {
    mf_buf sums;
    mf_buf_init(&sums, MF_SUMS_MAX);
    mf_rc rc = mf_sums_read(v->dir, &sums, err);
    if (rc == MF_OK) {
        rc = check_sums(v, mf_buf_view(&sums), err);
    }
    mf_buf_done(&sums);
    return rc;
}

/* --- tensors -----------------------------------------------------------------------
 */

/* Opening in fp32 reads every tensor: its type, its shape, and that it is finite. */
static mf_rc check_tensors(verify *v, mf_err *err) {
    char path[MF_PATH_MAX];
    mf_safetensors *file = NULL;
    mf_encoder_config config;
    mf_encoder_options options = {.precision = MF_PRECISION_FP32};
    MF_TRY(tell_step(v, "tensors", 0, 0, err));
    mf_rc rc = mf_encoder_config_read(v->dir, &config, err);
    if (rc != MF_OK) {
        return mf_err_wrap(err, rc, "loading model '%s'", v->dir);
    }
    v->ranks = config.labels > 0;
    options.task = v->ranks ? MF_TASK_RANK : MF_TASK_ENCODE;
    MF_TRY(mf_encoder_open(v->dir, &options, &v->exact, err));
    MF_TRY(mf_path_join(path, sizeof path, v->dir, "model.safetensors", err));
    MF_TRY(mf_safetensors_open(path, &file, err));
    (void)yyjson_mut_obj_add_uint(v->reply.doc, v->root, "tensors",
                                  mf_safetensors_count(file));
    mf_safetensors_close(file);
    return MF_OK;
}

/* --- precisions --------------------------------------------------------------------
 */

static mf_rc take_given(verify *v, mf_err *err) {
    v->text_count = v->options->sentence_count;
    v->texts = mf_alloc_array(v->text_count, sizeof *v->texts);
    if (v->texts == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu sentences", v->text_count);
    }
    for (size_t i = 0; i < v->text_count; i++) {
        const mf_model_text *given = &v->options->sentences[i];
        v->texts[i] = (mf_str){given->p, given->len};
    }
    return MF_OK;
}

static mf_rc take_built_in(verify *v, mf_err *err) {
    v->texts =
        mf_alloc_array(MF_BENCH_MESSAGES + MF_BENCH_VARIED_MAX, sizeof *v->texts);
    v->bytes = mf_alloc_array(MF_BENCH_MESSAGES, MF_BENCH_MESSAGE_BYTES);
    if (v->texts == NULL || v->bytes == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for sentences");
    }
    mf_bench_messages(v->texts, v->bytes);
    v->text_count = MF_BENCH_MESSAGES + mf_bench_varied(v->texts + MF_BENCH_MESSAGES);
    return MF_OK;
}

static bool tell_texts(void *ctx, size_t done, size_t total) {
    return tell_step(ctx, "sentences", done, total, NULL) == MF_OK;
}

static mf_rc compare(verify *v, const char *precision, yyjson_mut_val *rows,
                     mf_err *err) {
    mf_encoder_options options = mf_encoder_options_default();
    mf_encoder *other = NULL;
    mf_agreement found;
    bool known = mf_precision_from_name(precision, &options.precision);
    MF_ASSERT(known);
    MF_TRY(mf_encoder_open(v->dir, &options, &other, err));
    mf_agreement_call call = {.exact = v->exact,
                              .other = other,
                              .texts = v->texts,
                              .count = v->text_count,
                              .nearest = NEAREST,
                              .progress = tell_texts,
                              .context = v};
    mf_rc rc = mf_agreement_measure(&call, &found, err);
    (void)mf_encoder_unref(other); /* always NULL */
    MF_TRY(rc);
    bool passed = found.cosine_min >= COSINE_MIN && found.cosine_mean >= COSINE_MEAN &&
                  found.recall >= RECALL_AT_10;
    v->passed = v->passed && passed;
    yyjson_mut_doc *doc = v->reply.doc;
    yyjson_mut_val *row = yyjson_mut_arr_add_obj(doc, rows);
    (void)yyjson_mut_obj_add_str(doc, row, "precision", precision);
    (void)yyjson_mut_obj_add_uint(doc, row, "sentences", v->text_count);
    (void)yyjson_mut_obj_add_real(doc, row, "cosine_min", found.cosine_min);
    (void)yyjson_mut_obj_add_real(doc, row, "cosine_mean", found.cosine_mean);
    (void)yyjson_mut_obj_add_real(doc, row, "recall_at_10", found.recall);
    (void)yyjson_mut_obj_add_bool(doc, row, "passed", passed);
    return MF_OK;
}

static mf_rc check_precisions(verify *v, mf_err *err) {
    MF_TRY(v->options->sentence_count > 0 ? take_given(v, err) : take_built_in(v, err));
    yyjson_mut_doc *doc = v->reply.doc;
    yyjson_mut_val *rows = yyjson_mut_obj_add_arr(doc, v->root, "precisions");
    for (size_t i = 0; i < LESSER && !v->ranks; i++) {
        MF_TRY(compare(v, lesser_precisions[i], rows, err));
    }
    yyjson_mut_val *limits = yyjson_mut_obj_add_obj(doc, v->root, "limits");
    (void)yyjson_mut_obj_add_real(doc, limits, "cosine_min", COSINE_MIN);
    (void)yyjson_mut_obj_add_real(doc, limits, "cosine_mean", COSINE_MEAN);
    (void)yyjson_mut_obj_add_real(doc, limits, "recall_at_10", RECALL_AT_10);
    return MF_OK;
}

/* --- all of it ---------------------------------------------------------------------
 */

static mf_rc check_all(verify *v, mf_err *err) {
    MF_TRY(mf_reply_begin(&v->reply, err));
    v->root = yyjson_mut_obj(v->reply.doc);
    yyjson_mut_doc_set_root(v->reply.doc, v->root);
    MF_TRY(check_files(v, err));
    MF_TRY(check_tensors(v, err));
    MF_TRY(check_precisions(v, err));
    mf_encoder_info info;
    mf_encoder_get_info(v->exact, &info);
    (void)yyjson_mut_obj_add_strcpy(v->reply.doc, v->root, "name", info.name);
    (void)yyjson_mut_obj_add_strcpy(v->reply.doc, v->root, "path", v->dir);
    (void)yyjson_mut_obj_add_bool(v->reply.doc, v->root, "passed", v->passed);
    return MF_OK;
}

mf_model_verify_options mf_model_verify_options_default(void) {
    return (mf_model_verify_options){.sentences = NULL};
}

int mf_model_verify(const char *dir, const mf_model_verify_options *options,
                    char **json, char *error) {
    mf_err err = {0};
    verify v = {.dir = dir, .options = options};
    mf_rc rc = check_all(&v, &err);
    if (rc == MF_OK) {
        rc = mf_reply_end(&v.reply, json, &err);
    }
    (void)mf_encoder_unref(v.exact); /* always NULL */
    mf_free(v.texts);
    mf_free(v.bytes);
    mf_reply_done(&v.reply);
    return mf_reply_error(&err, rc, error);
}
