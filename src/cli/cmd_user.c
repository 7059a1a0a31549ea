/* cmd_user.c - `memfuse user`: list, create, rename, delete. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_TEXT = 256 };

static yyjson_doc *list_users(mf_engine *engine, const cli_common *common) {
    yyjson_doc *reply = cli_call(engine, "GET", "/api/v1/users", NULL);
    if (reply == NULL || common->json) {
        return reply;
    }
    yyjson_val *users = yyjson_obj_get(cli_data(reply), "users");
    size_t i = 0;
    size_t count = 0;
    yyjson_val *user = NULL;
    yyjson_arr_foreach(users, i, count, user) {
        (void)printf("%s  %.19s  %s\n", cli_text(user, "id"),
                     cli_text(user, "created_at"), cli_text(user, "name"));
    }
    return reply;
}

static yyjson_doc *send_name(mf_engine *engine, const char *method, const char *path,
                             const char *name) {
    yyjson_mut_doc *body = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(body);
    yyjson_mut_doc_set_root(body, root);
    (void)yyjson_mut_obj_add_str(body, root, "name", name);
    yyjson_doc *reply = cli_call(engine, method, path, body);
    yyjson_mut_doc_free(body);
    return reply;
}

static yyjson_doc *delete_user(mf_engine *engine, const char *name, bool yes) {
    char id[CLI_ID_MAX];
    char question[512];
    (void)snprintf(question, sizeof question,
                   "Delete user '%.300s' with all sessions, messages and knowledge?",
                   name);
    if (!cli_user_id(engine, name, false, id) || !cli_confirm(question, yes)) {
        return NULL;
    }
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path, "/api/v1/users/%s", id);
    return cli_call(engine, "DELETE", path, NULL);
}

static yyjson_doc *rename_user(mf_engine *engine, const char *name,
                               const char *new_name) {
    char id[CLI_ID_MAX];
    if (!cli_user_id(engine, name, false, id)) {
        return NULL;
    }
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path, "/api/v1/users/%s", id);
    return send_name(engine, "PUT", path, new_name);
}

int cmd_user(cli_common *common, int argc, char **argv) {
    bool yes = false;
    const cli_option options[] = {
        {.name = "yes", .letter = 'y', .flag = &yes, .help = "delete without asking"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("user"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    int count = argc - operands;
    const char *verb = count > 0 ? argv[operands] : "list";
    bool lists = strcmp(verb, "list") == 0 && count <= 1;
    bool creates = strcmp(verb, "create") == 0 && count == 2;
    bool renames = strcmp(verb, "rename") == 0 && count == 3;
    bool deletes = strcmp(verb, "delete") == 0 && count == 2;
    if (!lists && !creates && !renames && !deletes) {
        cli_error(
            "usage: memfuse user list | create NAME | rename NAME NEW | delete NAME");
        return CLI_USAGE;
    }
    mf_engine *engine = cli_open(common, MF_ENGINE_AUTO);
    if (engine == NULL) {
        return CLI_FAILED;
    }
    yyjson_doc *reply =
        lists     ? list_users(engine, common)
        : creates ? send_name(engine, "POST", "/api/v1/users", argv[operands + 1])
        : renames ? rename_user(engine, argv[operands + 1], argv[operands + 2])
                  : delete_user(engine, argv[operands + 1], yes);
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    } else if (creates && reply != NULL) {
        (void)printf("%s\n", cli_text(yyjson_obj_get(cli_data(reply), "user"), "id"));
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}
