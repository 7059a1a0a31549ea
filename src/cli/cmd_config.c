/* cmd_config.c - `memfuse config`: the settings table in force, in four forms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static void print_table(yyjson_val *rows, const char *key) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(rows, i, count, row) {
        if (key == NULL) {
            (void)printf("%-38s %-20s %s\n", cli_text(row, "key"),
                         cli_text(row, "value"), cli_text(row, "source"));
        } else if (strcmp(key, cli_text(row, "key")) == 0) {
            (void)printf(
                "%s\n  value    %s\n  from     %s\n  default  %s\n  allowed  %s\n"
                "  reload   %s\n  %s\n",
                key, cli_text(row, "value"), cli_text(row, "source"),
                cli_text(row, "default"), cli_text(row, "range"),
                yyjson_get_bool(yyjson_obj_get(row, "reloadable")) ? "yes"
                                                                   : "needs a restart",
                cli_text(row, "help"));
        }
    }
}

static bool is_quoted(yyjson_val *row) {
    const char *type = cli_text(row, "type");
    return strcmp(type, "text") == 0 || strcmp(type, "choice") == 0;
}

/* Opens the mappings that lead to `key` and were not open for the key before it. */
static size_t print_yaml_path(const char *key, const char *before) {
    size_t depth = 0;
    const char *part = key;
    for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1, depth++) {
        size_t upto = (size_t)(dot - key) + 1;
        if (strncmp(key, before, upto) != 0) {
            (void)printf("%s%*s%.*s:\n", depth == 0 && before[0] ? "\n" : "",
                         (int)(2 * depth), "", (int)(dot - part), part);
        }
    }
    (void)part;
    return depth;
}

static void print_yaml(yyjson_val *rows) {
    (void)printf(
        "# Every setting of memfuse with its default; `memfuse config --format yaml`\n"
        "# writes this file.  Copy what you change into a file of your own and pass "
        "it\n"
        "# with --config: it overlays these.\n\n");
    const char *before = "";
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(rows, i, count, row) {
        const char *key = cli_text(row, "key");
        size_t depth = print_yaml_path(key, before);
        const char *quote = is_quoted(row) ? "\"" : "";
        (void)printf("%*s# %s; %s\n%*s%s: %s%s%s\n", (int)(2 * depth), "",
                     cli_text(row, "help"), cli_text(row, "range"), (int)(2 * depth),
                     "", strrchr(key, '.') + 1, quote, cli_text(row, "value"), quote);
        before = key;
    }
}

static void print_markdown(yyjson_val *rows) {
    (void)printf(
        "# Settings\n\nEvery setting, from `src/text/config.def` (`make docs` writes "
        "this "
        "page).  Sources, later ones\nwinning: defaults, the file given with "
        "`--config`, "
        "the environment (`MEMFUSE_` and the key in\ncapitals with dots as "
        "underscores), "
        "`--set key=value`.  A reload (SIGHUP, or `POST\n/api/v1/admin/reload`) takes "
        "effect for those marked so, all or nothing.  A user may have a value of its "
        "own "
        "where it says\n\"per user\" (`memfuse config --user NAME --set "
        "key=value`).\n\n"
        "| Key | Default | Allowed | Reload | What |\n|---|---|---|---|---|\n");
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(rows, i, count, row) {
        (void)printf("| `%s` | `%s` | ", cli_text(row, "key"),
                     cli_text(row, "default"));
        for (const char *c = cli_text(row, "range"); *c != '\0'; c++) {
            (void)printf(*c == '|' ? ", " : "%c", *c);
        }
        bool own = yyjson_get_bool(yyjson_obj_get(row, "per_user"));
        (void)printf(" | %s%s | %s |\n",
                     yyjson_get_bool(yyjson_obj_get(row, "reloadable")) ? "yes" : "",
                     own ? ", per user" : "", cli_text(row, "help"));
    }
}

static bool has_key(yyjson_val *rows, const char *key) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(rows, i, count, row) {
        if (strcmp(cli_text(row, "key"), key) == 0) {
            return true;
        }
    }
    return false;
}

int cmd_config(cli_common *common, int argc, char **argv) {
    const char *format = "table";
    cli_user_config of_user = {.user = NULL};
    const cli_option options[] = {
        {.name = "format",
         .letter = 'f',
         .value = "FORM",
         .text = &format,
         .help = "table, json, yaml or markdown (default: table)"},
        {.name = "user",
         .letter = 'u',
         .value = "NAME",
         .text = &of_user.user,
         .help = "the settings of this user, in layers; --set then gives it a setting"},
        {.name = "unset",
         .value = "KEY",
         .text = of_user.unsets,
         .count = &of_user.unset_count,
         .help = "with --user: takes a setting of its own away; may be repeated"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("config"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    const char *key = operands < argc ? argv[operands] : NULL;
    if (of_user.user != NULL) {
        of_user.key = key;
        return cli_config_of_user(common, &of_user);
    }
    if (of_user.unset_count > 0) {
        cli_error("--unset needs --user NAME: whose setting?");
        return CLI_USAGE;
    }
    mf_engine_options engine_options = mf_engine_options_default();
    engine_options.config_file = common->config_file;
    engine_options.sets = common->sets;
    engine_options.set_count = common->set_count;
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    if (mf_engine_settings(&engine_options, &json, error) != 0) {
        cli_error("%s", error);
        return CLI_FAILED;
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    yyjson_val *rows = yyjson_doc_get_root(doc);
    int code = CLI_OK;
    if (key != NULL && !has_key(rows, key)) {
        cli_error("there is no setting '%s'; `memfuse config` lists them", key);
        code = CLI_USAGE;
    } else if (common->json || strcmp(format, "json") == 0) {
        (void)printf("%s\n", json);
    } else if (strcmp(format, "yaml") == 0) {
        print_yaml(rows);
    } else if (strcmp(format, "markdown") == 0) {
        print_markdown(rows);
    } else if (strcmp(format, "table") == 0) {
        print_table(rows, key);
    } else {
        cli_error("--format %s: choose table, json, yaml or markdown", format);
        code = CLI_USAGE;
    }
    yyjson_doc_free(doc);
    mf_engine_free(json);
    return code;
}
