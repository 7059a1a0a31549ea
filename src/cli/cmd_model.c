/* cmd_model.c - `memfuse model`: which encoders are at hand and whether they are
 * sound. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_TEXT = CLI_PATH_TEXT };

static int show(const cli_common *common, const char *dir) {
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    if (mf_engine_model_info(dir, &json, error) != 0) {
        cli_error("%s", error);
        return CLI_FAILED;
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    yyjson_val *info = yyjson_doc_get_root(doc);
    if (common->json) {
        (void)printf("%s\n", json);
    } else {
        (void)printf("%s: sound; %lld dimensions, %lld layers, window of %lld tokens, "
                     "%.1f MB of "
                     "weights, %s on %s kernels\n",
                     cli_text(info, "name"),
                     (long long)yyjson_get_sint(yyjson_obj_get(info, "dim")),
                     (long long)yyjson_get_sint(yyjson_obj_get(info, "layers")),
                     (long long)yyjson_get_sint(yyjson_obj_get(info, "window")),
                     yyjson_get_num(yyjson_obj_get(info, "weight_bytes")) / 1e6,
                     cli_text(info, "precision"), cli_text(info, "kernel"));
    }
    yyjson_doc_free(doc);
    mf_engine_free(json);
    return CLI_OK;
}

static int list(const cli_common *common) {
    char data[PATH_TEXT / 4];
    char folder[PATH_TEXT / 2];
    if (!cli_setting(common, "server.data_dir", data, sizeof data)) {
        return CLI_FAILED;
    }
    (void)snprintf(folder, sizeof folder, "%s/models", data);
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *names = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, names);
    for (int i = 0; i < count; i++) {
        char config[PATH_TEXT];
        (void)snprintf(config, sizeof config, "%s/%s/config.json", folder,
                       entries[i]->d_name);
        FILE *probe = fopen(config, "r");
        if (probe != NULL) {
            (void)fclose(probe);
            (void)yyjson_mut_arr_add_strcpy(doc, names, entries[i]->d_name);
            if (!common->json) {
                (void)printf("%s\n", entries[i]->d_name);
            }
        }
        free(entries[i]);
    }
    free(entries);
    if (common->json) {
        char *text = yyjson_mut_write(doc, 0, NULL);
        (void)printf("%s\n", text != NULL ? text : "[]");
        free(text);
    } else if (yyjson_mut_arr_size(names) == 0) {
        (void)printf("no model in %s; `make serve` fetches one\n", folder);
    }
    yyjson_mut_doc_free(doc);
    return CLI_OK;
}

int cmd_model(cli_common *common, int argc, char **argv) {
    const cli_option none[] = {{.name = NULL}};
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("model"), none, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    int count = argc - operands;
    const char *verb = count > 0 ? argv[operands] : "list";
    if (strcmp(verb, "list") == 0 && count <= 1) {
        return list(common);
    }
    if ((strcmp(verb, "info") != 0 && strcmp(verb, "verify") != 0) || count > 2) {
        cli_error("usage: memfuse model list | info [DIR] | verify [DIR]");
        return CLI_USAGE;
    }
    char dir[PATH_TEXT];
    if (count == 2) {
        (void)snprintf(dir, sizeof dir, "%s", argv[operands + 1]);
    } else if (!cli_model_dir(common, NULL, dir, sizeof dir)) {
        return CLI_FAILED;
    }
    return show(common, dir);
}
