/* cmd_status.c - `memfuse status`: what is stored and how it runs. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

void cli_print_values(yyjson_val *object, const char *prefix) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *key = NULL;
    yyjson_val *value = NULL;
    yyjson_obj_foreach(object, i, count, key, value) {
        char name[256];
        (void)snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] ? "." : "",
                       yyjson_get_str(key));
        if (yyjson_is_obj(value)) {
            cli_print_values(value, name);
        } else if (yyjson_is_str(value)) {
            (void)printf("%-32s %s\n", name, yyjson_get_str(value));
        } else if (yyjson_is_bool(value)) {
            (void)printf("%-32s %s\n", name, yyjson_get_bool(value) ? "yes" : "no");
        } else if (yyjson_is_real(value)) {
            (void)printf("%-32s %.3f\n", name, yyjson_get_real(value));
        } else if (yyjson_is_num(value)) {
            (void)printf("%-32s %lld\n", name, (long long)yyjson_get_sint(value));
        }
    }
}

/* What is a table is shown as one, behind the rest. */
static void print_status(yyjson_val *data) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *key = NULL;
    yyjson_val *value = NULL;
    yyjson_mut_doc *rest = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *kept = yyjson_mut_obj(rest);
    yyjson_mut_doc_set_root(rest, kept);
    yyjson_obj_foreach(data, i, count, key, value) {
        const char *name = yyjson_get_str(key);
        if (strcmp(name, "operations") != 0 && strcmp(name, "health") != 0) {
            (void)yyjson_mut_obj_add_val(rest, kept, name,
                                         yyjson_val_mut_copy(rest, value));
        }
    }
    yyjson_doc *shown = yyjson_mut_doc_imut_copy(rest, NULL);
    cli_print_values(yyjson_doc_get_root(shown), "");
    yyjson_doc_free(shown);
    yyjson_mut_doc_free(rest);
    cli_print_operations(data);
    cli_print_health(data);
}

static int print_metrics(mf_engine *engine) {
    char error[MF_ENGINE_ERROR_TEXT];
    char *page = NULL;
    size_t len = 0;
    int status = 0;
    if (mf_engine_call(engine, "GET", "/metrics", NULL, 0, &status, &page, &len,
                       error) != 0) {
        cli_error("%s", error);
        return CLI_FAILED;
    }
    bool good = status == 200 && fwrite(page, 1, len, stdout) == len;
    mf_engine_free(page);
    if (!good) {
        cli_error("the metrics could not be read (status %d)", status);
    }
    return good ? CLI_OK : CLI_FAILED;
}

/* Only a running server is worth watching; its page can be made without one. */
static int show_running(const cli_common *common, bool watch, double every_s) {
    mf_engine *engine = cli_open(common, watch ? MF_ENGINE_ATTACHED : MF_ENGINE_AUTO);
    if (engine == NULL) {
        return CLI_FAILED;
    }
    int code = watch ? cli_watch(common, engine, every_s) : print_metrics(engine);
    mf_engine_close(engine);
    return code;
}

int cmd_status(cli_common *common, int argc, char **argv) {
    const char *watch = NULL;
    bool metrics = false;
    const cli_option options[] = {
        {.name = "watch",
         .value = "[=SECONDS]",
         .text = &watch,
         .help = "show what a running server does, every 2 seconds or as told"},
        {.name = "metrics",
         .flag = &metrics,
         .help = "print the page for Prometheus (GET /metrics)"},
        {.name = NULL}};
    int exit_code = CLI_OK;
    double every_s = 0;
    if (cli_parse(cli_find_command("status"), options, common, argc, argv, &exit_code) <
        0) {
        return exit_code;
    }
    if (watch != NULL && !cli_watch_seconds(watch, &every_s)) {
        return CLI_USAGE;
    }
    if (watch != NULL || metrics) {
        return show_running(common, watch != NULL, every_s);
    }
    mf_engine *engine = cli_open(common, MF_ENGINE_AUTO);
    if (engine == NULL) {
        return CLI_FAILED;
    }
    yyjson_doc *reply = cli_call(engine, "GET", "/api/v1/status", NULL);
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    } else if (reply != NULL) {
        (void)printf("%-32s %s\n", "memfuse",
                     mf_engine_is_attached(engine)
                         ? "running"
                         : "not running; opened for this command");
        print_status(cli_data(reply));
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}
