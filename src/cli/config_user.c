/* config_user.c - `memfuse config --user NAME`: the settings of one user, in layers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_TEXT = 512, KEY_TEXT = 256 };

/* --set gives settings to the user, but for the folder of the data, which --data makes
 * one of. */
static bool is_place(const char *set) {
    return strncmp(set, "server.data_dir=", strlen("server.data_dir=")) == 0;
}

static mf_engine *open_for(const cli_common *common) {
    cli_common places = *common;
    places.set_count = 0;
    for (size_t i = 0; i < common->set_count; i++) {
        if (is_place(common->sets[i])) {
            places.sets[places.set_count++] = common->sets[i];
        }
    }
    return cli_open(&places, MF_ENGINE_AUTO);
}

/* The body of a change: {"key": "value", ..., "key": null}; NULL when nothing changes,
 * or after telling what is wrong with it, which *bad says. */
static yyjson_mut_doc *changes_of(const cli_common *common,
                                  const cli_user_config *wanted, bool *bad) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    for (size_t i = 0; i < common->set_count; i++) {
        const char *value = strchr(common->sets[i], '=');
        if (is_place(common->sets[i])) {
            continue;
        }
        if (value == NULL) {
            cli_error("--set %s: a setting is KEY=VALUE", common->sets[i]);
            *bad = true;
            continue;
        }
        yyjson_mut_val *key =
            yyjson_mut_strncpy(doc, common->sets[i], (size_t)(value - common->sets[i]));
        (void)yyjson_mut_obj_put(root, key, yyjson_mut_strcpy(doc, value + 1));
    }
    for (size_t i = 0; i < wanted->unset_count; i++) {
        (void)yyjson_mut_obj_put(root, yyjson_mut_strcpy(doc, wanted->unsets[i]),
                                 yyjson_mut_null(doc));
    }
    if (*bad || yyjson_mut_obj_size(root) == 0) {
        yyjson_mut_doc_free(doc);
        return NULL;
    }
    return doc;
}

static void print_one(yyjson_val *row) {
    const char *own = yyjson_get_str(yyjson_obj_get(row, "user"));
    const char *parameter = yyjson_get_str(yyjson_obj_get(row, "request_parameter"));
    (void)printf("%s\n  value    %s\n  request  %s%s\n  user     %s\n  global   %s\n"
                 "  from     %s\n  default  %s\n  allowed  %s\n  %s\n",
                 cli_text(row, "key"), cli_text(row, "value"),
                 parameter != NULL ? "parameter " : "no parameter",
                 parameter != NULL ? parameter : "", own != NULL ? own : "-",
                 cli_text(row, "global"), cli_text(row, "global_source"),
                 cli_text(row, "default"), cli_text(row, "range"),
                 cli_text(row, "help"));
}

static int print_rows(yyjson_val *rows, const char *wanted) {
    size_t i = 0;
    size_t count = 0;
    size_t found = 0;
    yyjson_val *row = NULL;
    if (wanted == NULL) {
        (void)printf("%-32s %-12s %-12s %-20s %s\n", "setting", "value", "user",
                     "global", "request");
    }
    yyjson_arr_foreach(rows, i, count, row) {
        const char *own = yyjson_get_str(yyjson_obj_get(row, "user"));
        if (wanted == NULL) {
            char global[KEY_TEXT];
            (void)snprintf(global, sizeof global, "%s (%s)", cli_text(row, "global"),
                           cli_text(row, "global_source"));
            (void)printf("%-32s %-12s %-12s %-20s %s\n", cli_text(row, "key"),
                         cli_text(row, "value"), own != NULL ? own : "-", global,
                         cli_text(row, "request_parameter"));
        } else if (strcmp(wanted, cli_text(row, "key")) == 0) {
            print_one(row);
            found++;
        }
    }
    if (wanted != NULL && found == 0) {
        cli_error("'%s' is no setting a user may have of its own; `memfuse config "
                  "--user NAME` lists those",
                  wanted);
        return CLI_USAGE;
    }
    return CLI_OK;
}

int cli_config_of_user(const cli_common *common, const cli_user_config *wanted) {
    bool bad = false;
    yyjson_mut_doc *changes = changes_of(common, wanted, &bad);
    mf_engine *engine = bad ? NULL : open_for(common);
    char id[CLI_ID_MAX];
    int code = bad ? CLI_USAGE : CLI_FAILED;
    if (engine != NULL && cli_user_id(engine, wanted->user, false, id)) {
        char path[PATH_TEXT];
        (void)snprintf(path, sizeof path, "/api/v1/users/%s/settings", id);
        yyjson_doc *reply =
            cli_call(engine, changes != NULL ? "PUT" : "GET", path, changes);
        if (reply != NULL && common->json) {
            cli_print_json(reply);
            code = CLI_OK;
        } else if (reply != NULL) {
            code = print_rows(yyjson_obj_get(cli_data(reply), "settings"), wanted->key);
        }
        yyjson_doc_free(reply);
    }
    yyjson_mut_doc_free(changes);
    mf_engine_close(engine);
    return code;
}
