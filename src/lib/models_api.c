/* models_api.c - the process's table of models behind include/memfuse/model.h. */
#include "base/clock.h"
#include "lib/reply.h"
#include "memfuse/model.h"
#include "model/encoder_config.h"
#include "model/model_registry.h"

static mf_rc shared(mf_model_registry **out, mf_err *err) {
    *out = mf_model_registry_process();
    return *out != NULL ? MF_OK
                        : MF_FAIL(err, MF_E_NOMEM, "no memory for the table of models");
}

static void add_instance(yyjson_mut_doc *doc, yyjson_mut_val *list,
                         const mf_model_instance *row) {
    yyjson_mut_val *model = yyjson_mut_arr_add_obj(doc, list);
    (void)yyjson_mut_obj_add_strcpy(doc, model, "name", row->info.name);
    (void)yyjson_mut_obj_add_strcpy(doc, model, "path", row->dir);
    (void)yyjson_mut_obj_add_str(doc, model, "task",
                                 row->task == MF_TASK_RANK ? "rank" : "encode");
    (void)yyjson_mut_obj_add_str(doc, model, "precision", row->info.precision);
    (void)yyjson_mut_obj_add_uint(doc, model, "dim", row->info.dim);
    (void)yyjson_mut_obj_add_uint(doc, model, "weight_bytes", row->info.weight_bytes);
    (void)yyjson_mut_obj_add_uint(doc, model, "users", row->users);
    (void)yyjson_mut_obj_add_bool(doc, model, "preloaded", row->pinned);
    (void)yyjson_mut_obj_add_uint(doc, model, "hits", row->hits);
    (void)yyjson_mut_obj_add_real(doc, model, "load_ms",
                                  (double)row->load_ns / MF_NS_PER_MS);
}

static mf_rc fill_info(mf_model_registry *models, mf_reply *reply) {
    mf_model_instance rows[MF_MODELS_MAX];
    mf_model_registry_stats s;
    yyjson_mut_doc *doc = reply->doc;
    size_t count = mf_model_registry_info(models, rows, MF_MODELS_MAX);
    mf_model_registry_get_stats(models, &s);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "models");
    for (size_t i = 0; i < count; i++) {
        add_instance(doc, list, &rows[i]);
    }
    (void)yyjson_mut_obj_add_uint(doc, root, "expected", s.expected);
    (void)yyjson_mut_obj_add_uint(doc, root, "actual", s.actual);
    (void)yyjson_mut_obj_add_uint(doc, root, "bytes", s.bytes);
    (void)yyjson_mut_obj_add_uint(doc, root, "hits", s.hits);
    (void)yyjson_mut_obj_add_uint(doc, root, "shared_loads", s.shared_loads);
    (void)yyjson_mut_obj_add_uint(doc, root, "aliases", s.aliases);
    (void)yyjson_mut_obj_add_uint(doc, root, "loads", s.loads);
    (void)yyjson_mut_obj_add_uint(doc, root, "outside", s.outside);
    (void)yyjson_mut_obj_add_uint(doc, root, "failed", s.failed);
    (void)yyjson_mut_obj_add_uint(doc, root, "released", s.released);
    return MF_OK;
}

static mf_rc fill_cleared(mf_model_registry *models, mf_reply *reply) {
    mf_model_cleared cleared;
    yyjson_mut_doc *doc = reply->doc;
    mf_model_registry_clear(models, &cleared);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    (void)yyjson_mut_obj_add_uint(doc, root, "released", cleared.released);
    (void)yyjson_mut_obj_add_uint(doc, root, "released_bytes", cleared.released_bytes);
    (void)yyjson_mut_obj_add_uint(doc, root, "stayed", cleared.stayed);
    (void)yyjson_mut_obj_add_uint(doc, root, "stayed_bytes", cleared.stayed_bytes);
    return MF_OK;
}

static int answer(mf_rc (*fill)(mf_model_registry *, mf_reply *), char **json,
                  char *error) {
    mf_err err = {0};
    mf_reply reply = {.arena = NULL};
    mf_model_registry *models = NULL;
    mf_rc rc = shared(&models, &err);
    if (rc == MF_OK) {
        rc = mf_reply_begin(&reply, &err);
    }
    if (rc == MF_OK) {
        rc = fill(models, &reply);
    }
    if (rc == MF_OK && json != NULL) {
        rc = mf_reply_end(&reply, json, &err);
    }
    mf_reply_done(&reply);
    return mf_reply_error(&err, rc, error);
}

int mf_models_info(char **json, char *error) {
    return answer(fill_info, json, error);
}

int mf_models_clear(char **json, char *error) {
    return answer(fill_cleared, json, error);
}

static mf_rc preload(const char *dir, const mf_model_options *options, mf_err *err) {
    mf_model_registry *models = NULL;
    mf_encoder_config config;
    mf_model_ask ask = {
        .dir = dir, .options = mf_encoder_options_default(), .check_files = true};
    MF_TRY(shared(&models, err));
    mf_rc rc = mf_encoder_config_read(dir, &config, err);
    if (rc != MF_OK) {
        return mf_err_wrap(err, rc, "loading model '%s'", dir);
    }
    if (options->precision != NULL &&
        !mf_precision_from_name(options->precision, &ask.options.precision)) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "precision", "there is no precision '%s'",
                             options->precision);
    }
    ask.options.task = config.labels > 0 ? MF_TASK_RANK : MF_TASK_ENCODE;
    ask.options.dimensions = options->dimensions;
    return mf_model_registry_preload(models, &ask, err);
}

int mf_models_preload(const char *dir, const mf_model_options *options, char *error) {
    mf_err err = {0};
    mf_rc rc = preload(dir, options, &err);
    return mf_reply_error(&err, rc, error);
}
