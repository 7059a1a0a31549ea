/* model_memory.c - `memfuse model info|preload|clear` of a running server: the models
 * it has in memory. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static double number(yyjson_val *object, const char *key) {
    return yyjson_get_num(yyjson_obj_get(object, key));
}

static void print_models(yyjson_val *data) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *model = NULL;
    (void)printf("in memory of the running server\n");
    yyjson_arr_foreach(yyjson_obj_get(data, "models"), i, count, model) {
        (void)printf("  %-28s %-6s %8.1f MB  used by %.0f, found %.0f times, loaded in "
                     "%.1f ms%s\n",
                     cli_text(model, "name"), cli_text(model, "precision"),
                     number(model, "weight_bytes") / 1e6, number(model, "users"),
                     number(model, "hits"), number(model, "load_ms"),
                     yyjson_get_bool(yyjson_obj_get(model, "preloaded")) ? ", preloaded"
                                                                         : "");
    }
    (void)printf(
        "  instances: %.0f expected, %.0f actual; %.0f loads, %.0f not shared\n",
        number(data, "expected"), number(data, "actual"), number(data, "loads"),
        number(data, "outside"));
}

void cli_model_print_memory(const cli_common *common) {
    char error[MF_ENGINE_ERROR_TEXT];
    mf_engine *engine = NULL;
    mf_engine_options options = mf_engine_options_default();
    options.mode = MF_ENGINE_ATTACHED;
    options.config_file = common->config_file;
    options.sets = common->sets;
    options.set_count = common->set_count;
    if (mf_engine_open(&options, &engine, error) != 0) {
        return; /* no server runs, and nobody said one did */
    }
    yyjson_doc *reply = cli_call(engine, "GET", "/api/v1/admin/models", NULL);
    if (reply != NULL) {
        print_models(cli_data(reply));
    }
    yyjson_doc_free(reply);
    mf_engine_close(engine);
}

static int change(const cli_common *common, const char *path, yyjson_mut_doc *body) {
    mf_engine *engine = cli_open(common, MF_ENGINE_ATTACHED);
    yyjson_doc *reply = engine != NULL ? cli_call(engine, "POST", path, body) : NULL;
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    } else if (reply != NULL) {
        yyjson_val *data = cli_data(reply);
        if (yyjson_obj_get(data, "stayed") != NULL) {
            (void)printf("released %.0f (%.1f MB), in use %.0f (%.1f MB)\n",
                         number(data, "released"), number(data, "released_bytes") / 1e6,
                         number(data, "stayed"), number(data, "stayed_bytes") / 1e6);
        }
        print_models(data);
    }
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}

int cli_model_preload(const cli_common *common, const char *model) {
    if (model == NULL) {
        cli_error("usage: memfuse model preload MODEL");
        return CLI_USAGE;
    }
    yyjson_mut_doc *body = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(body);
    yyjson_mut_doc_set_root(body, root);
    (void)yyjson_mut_obj_add_str(body, root, "model", model);
    int code = change(common, "/api/v1/admin/models/preload", body);
    yyjson_mut_doc_free(body);
    return code;
}

int cli_model_clear(const cli_common *common) {
    return change(common, "/api/v1/admin/models/clear", NULL);
}
