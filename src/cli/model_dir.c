/* model_dir.c - finds the folder of the model that a command means. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

bool cli_setting(const cli_common *common, const char *key, char *out, size_t size) {
    mf_engine_options options = mf_engine_options_default();
    options.config_file = common->config_file;
    options.sets = common->sets;
    options.set_count = common->set_count;
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    if (mf_engine_settings(&options, &json, error) != 0) {
        cli_error("%s", error);
        return false;
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, count, row) {
        if (strcmp(cli_text(row, "key"), key) == 0) {
            (void)snprintf(out, size, "%s", cli_text(row, "value"));
        }
    }
    yyjson_doc_free(doc);
    mf_engine_free(json);
    return true;
}

/* DATA/models/NAME. */
static bool named_dir(const cli_common *common, const char *name, char *out,
                      size_t size) {
    char data[CLI_PATH_TEXT / 4];
    if (!cli_setting(common, "server.data_dir", data, sizeof data)) {
        return false;
    }
    (void)snprintf(out, size, "%s/models/%s", data, name);
    return true;
}

bool cli_model_dir(const cli_common *common, const char *model, char *out,
                   size_t size) {
    char name[CLI_PATH_TEXT / 4];
    if (model != NULL && strchr(model, '/') == NULL && strcmp(model, ".") != 0 &&
        strcmp(model, "..") != 0) {
        return named_dir(common, model, out, size);
    }
    if (model != NULL) {
        (void)snprintf(out, size, "%s", model);
        return true;
    }
    if (!cli_setting(common, "model.dir", out, size)) {
        return false;
    }
    return out[0] != '\0' ||
           (cli_setting(common, "buffer.hybrid_buffer.embedding_model", name,
                        sizeof name) &&
            named_dir(common, name, out, size));
}
