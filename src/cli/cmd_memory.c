/* cmd_memory.c - `memfuse memory`: what memory is used for, and how to get some back.
 */
#include <string.h>

#include "cli/cli.h"

int cmd_memory(cli_common *common, int argc, char **argv) {
    static const struct {
        const char *verb, *method, *path;
    } verbs[] = {
        {"stats", "GET", "/api/v1/admin/memory"},
        {"cleanup", "POST", "/api/v1/admin/memory/cleanup"},
        {"reset", "POST", "/api/v1/admin/memory/reset"},
    };
    const cli_option none[] = {{.name = NULL}};
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("memory"), none, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    const char *asked = argc > operands ? argv[operands] : "stats";
    size_t verb = 0;
    while (verb < sizeof verbs / sizeof verbs[0] &&
           strcmp(asked, verbs[verb].verb) != 0) {
        verb++;
    }
    if (verb == sizeof verbs / sizeof verbs[0] || argc - operands > 1) {
        cli_error("usage: memfuse memory stats | cleanup | reset");
        return CLI_USAGE;
    }
    mf_engine *engine = cli_open(common, MF_ENGINE_AUTO);
    if (engine == NULL) {
        return CLI_FAILED;
    }
    yyjson_doc *reply = cli_call(engine, verbs[verb].method, verbs[verb].path, NULL);
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    } else if (reply != NULL) {
        cli_print_values(cli_data(reply), "");
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}
