/* cmd_add.c - `memfuse add`: one message, from the operands or from standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_TEXT = 256 };

/* The operands joined by blanks, or all of standard input for "-" or none.  free it. */
static char *read_text(int argc, char **argv, size_t *len) {
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (out == NULL) {
        return NULL;
    }
    if (argc == 0 || (argc == 1 && strcmp(argv[0], "-") == 0)) {
        char block[65536];
        for (size_t n; (n = fread(block, 1, sizeof block, stdin)) > 0;) {
            (void)fwrite(block, 1, n, out);
        }
    }
    for (int i = 0; i < argc && !(argc == 1 && strcmp(argv[0], "-") == 0); i++) {
        (void)fprintf(out, "%s%s", i > 0 ? " " : "", argv[i]);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    while (*len > 0 && text[*len - 1] == '\n') { /* the line end of an echo or a file */
        text[--*len] = '\0';
    }
    return text;
}

static yyjson_doc *post_message(mf_engine *engine, const char *session_id,
                                const char *role, const char *text, size_t len) {
    yyjson_mut_doc *body = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(body);
    yyjson_mut_doc_set_root(body, root);
    yyjson_mut_val *messages = yyjson_mut_obj_add_arr(body, root, "messages");
    yyjson_mut_val *message = yyjson_mut_arr_add_obj(body, messages);
    (void)yyjson_mut_obj_add_str(body, message, "role", role);
    (void)yyjson_mut_obj_add_strn(body, message, "content", text, len);
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path, "/api/v1/sessions/%s/messages", session_id);
    yyjson_doc *reply = cli_call(engine, "POST", path, body);
    yyjson_mut_doc_free(body);
    return reply;
}

int cmd_add(cli_common *common, int argc, char **argv) {
    const char *user = NULL;
    const char *agent = "agent_default";
    const char *session = "default";
    const char *role = "user";
    const cli_option options[] = {
        {.name = "user",
         .letter = 'u',
         .value = "NAME",
         .text = &user,
         .help = "whose memory (needed)"},
        {.name = "session",
         .letter = 's',
         .value = "NAME",
         .text = &session,
         .help = "session, made when missing (default: default)"},
        {.name = "agent",
         .letter = 'a',
         .value = "NAME",
         .text = &agent,
         .help = "agent of a new session (default: agent_default)"},
        {.name = "role",
         .letter = 'r',
         .value = "ROLE",
         .text = &role,
         .help = "user, assistant or system (default: user)"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("add"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    if (user == NULL) {
        cli_error("--user is missing: whose memory is it?");
        return CLI_USAGE;
    }
    size_t len = 0;
    char *text = read_text(argc - operands, argv + operands, &len);
    mf_engine *engine = text != NULL ? cli_open(common, MF_ENGINE_AUTO) : NULL;
    char user_id[CLI_ID_MAX];
    char agent_id[CLI_ID_MAX];
    char session_id[CLI_ID_MAX];
    yyjson_doc *reply = NULL;
    if (engine != NULL && cli_user_id(engine, user, true, user_id) &&
        cli_agent_id(engine, agent, true, agent_id) &&
        cli_session_id(engine, user_id, agent_id, session, true, session_id)) {
        reply = post_message(engine, session_id, role, text, len);
    }
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    } else if (reply != NULL) {
        yyjson_val *ids = yyjson_obj_get(cli_data(reply), "message_ids");
        const char *id = yyjson_get_str(yyjson_arr_get_first(ids));
        (void)printf("%s\n", id != NULL ? id : "");
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    free(text);
    return code;
}
