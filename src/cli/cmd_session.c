/* cmd_session.c - `memfuse session`: list a user's sessions, read one, delete one. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_TEXT = 256 };

static yyjson_doc *list_sessions(mf_engine *engine, const cli_common *common,
                                 const char *user_id) {
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path, "/api/v1/sessions?user_id=%s", user_id);
    yyjson_doc *reply = cli_call(engine, "GET", path, NULL);
    if (reply == NULL || common->json) {
        return reply;
    }
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(yyjson_obj_get(cli_data(reply), "sessions"), i, count, row) {
        (void)printf("%s  %.19s  %s\n", cli_text(row, "id"),
                     cli_text(row, "created_at"), cli_text(row, "name"));
    }
    return reply;
}

static yyjson_doc *list_messages(mf_engine *engine, const cli_common *common,
                                 const char *session_id, const char *limit) {
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path,
                   "/api/v1/sessions/%s/messages?order=desc&limit=%.20s", session_id,
                   limit);
    yyjson_doc *reply = cli_call(engine, "GET", path, NULL);
    if (reply == NULL || common->json) {
        return reply;
    }
    yyjson_val *messages = yyjson_obj_get(cli_data(reply), "messages");
    for (size_t i = yyjson_arr_size(messages);
         i-- > 0;) { /* newest last, as in a chat */
        yyjson_val *row = yyjson_arr_get(messages, i);
        (void)printf("%.19s  %s: %s\n", cli_text(row, "created_at"),
                     cli_text(row, "role"), cli_text(row, "content"));
    }
    return reply;
}

static yyjson_doc *delete_session(mf_engine *engine, const char *session_id,
                                  const char *name, bool yes) {
    char question[512];
    (void)snprintf(question, sizeof question,
                   "Delete session '%.300s' with all its messages?", name);
    if (!cli_confirm(question, yes)) {
        return NULL;
    }
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path, "/api/v1/sessions/%s", session_id);
    return cli_call(engine, "DELETE", path, NULL);
}

int cmd_session(cli_common *common, int argc, char **argv) {
    const char *user = NULL;
    const char *limit = "20";
    bool yes = false;
    const cli_option options[] = {
        {.name = "user",
         .letter = 'u',
         .value = "NAME",
         .text = &user,
         .help = "whose sessions (needed)"},
        {.name = "limit",
         .letter = 'n',
         .value = "N",
         .text = &limit,
         .help = "newest messages shown, at most 100 (default: 20)"},
        {.name = "yes", .letter = 'y', .flag = &yes, .help = "delete without asking"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("session"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    int count = argc - operands;
    const char *verb = count > 0 ? argv[operands] : "list";
    bool lists = strcmp(verb, "list") == 0 && count <= 1;
    bool reads = strcmp(verb, "messages") == 0 && count == 2;
    bool deletes = strcmp(verb, "delete") == 0 && count == 2;
    if (user == NULL || (!lists && !reads && !deletes)) {
        cli_error("usage: memfuse session --user NAME list | messages SESSION | delete "
                  "SESSION");
        return CLI_USAGE;
    }
    mf_engine *engine = cli_open(common, MF_ENGINE_AUTO);
    char user_id[CLI_ID_MAX];
    char session_id[CLI_ID_MAX];
    yyjson_doc *reply = NULL;
    if (engine != NULL && cli_user_id(engine, user, false, user_id)) {
        const char *name = lists ? "" : argv[operands + 1];
        if (lists) {
            reply = list_sessions(engine, common, user_id);
        } else if (cli_session_id(engine, user_id, "", name, false, session_id)) {
            reply = reads ? list_messages(engine, common, session_id, limit)
                          : delete_session(engine, session_id, name, yes);
        }
    }
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}
