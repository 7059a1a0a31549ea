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

int cmd_status(cli_common *common, int argc, char **argv) {
    const cli_option none[] = {{.name = NULL}};
    int exit_code = CLI_OK;
    if (cli_parse(cli_find_command("status"), none, common, argc, argv, &exit_code) <
        0) {
        return exit_code;
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
        cli_print_values(cli_data(reply), "");
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}
