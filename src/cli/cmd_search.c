/* cmd_search.c - `memfuse search`: ask a user's memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { QUERY_MAX = 65536, PATH_TEXT = 256 };

typedef struct search {
    const char *user, *session, *agent, *path, *top_k, *sort, *order;
} search;

static bool join(char *out, size_t size, int argc, char **argv) {
    size_t n = 0;
    for (int i = 0; i < argc; i++) {
        int added = snprintf(out + n, size - n, "%s%s", i > 0 ? " " : "", argv[i]);
        if (added < 0 || (size_t)added >= size - n) {
            cli_error("the question is longer than %zu bytes", size - 1);
            return false;
        }
        n += (size_t)added;
    }
    return true;
}

static void print_results(yyjson_val *results) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *row = NULL;
    yyjson_arr_foreach(results, i, count, row) {
        yyjson_val *meta = yyjson_obj_get(row, "metadata");
        const char *role = cli_text(row, "role");
        (void)printf("%zu. %.3f  %.19s  %s%s%s\n   %s\n", i + 1,
                     yyjson_get_num(yyjson_obj_get(row, "score")),
                     cli_text(row, "created_at"),
                     role[0] ? role : cli_text(row, "type"),
                     cli_text(meta, "session_name")[0] ? " in " : "",
                     cli_text(meta, "session_name"), cli_text(row, "content"));
    }
    if (count == 0) {
        (void)printf("nothing found\n");
    }
}

static yyjson_doc *ask(mf_engine *engine, const search *s, const char *question,
                       long top_k) {
    char user_id[CLI_ID_MAX];
    char agent_id[CLI_ID_MAX];
    char session_id[CLI_ID_MAX];
    if (!cli_user_id(engine, s->user, false, user_id) ||
        (s->agent != NULL && !cli_agent_id(engine, s->agent, false, agent_id)) ||
        (s->session != NULL &&
         !cli_session_id(engine, user_id, "", s->session, false, session_id))) {
        return NULL;
    }
    yyjson_mut_doc *body = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(body);
    yyjson_mut_doc_set_root(body, root);
    (void)yyjson_mut_obj_add_str(body, root, "query", question);
    (void)yyjson_mut_obj_add_int(body, root, "top_k", top_k);
    if (s->session != NULL) {
        (void)yyjson_mut_obj_add_str(body, root, "session_id", session_id);
    }
    if (s->agent != NULL) {
        (void)yyjson_mut_obj_add_str(body, root, "agent_id", agent_id);
    }
    if (s->path != NULL) {
        (void)yyjson_mut_obj_add_str(body, root, "store_type", s->path);
    }
    if (s->sort != NULL) {
        (void)yyjson_mut_obj_add_str(body, root, "sort_by", s->sort);
    }
    if (s->order != NULL) {
        (void)yyjson_mut_obj_add_str(body, root, "order", s->order);
    }
    char path[PATH_TEXT];
    (void)snprintf(path, sizeof path, "/api/v1/users/%s/query", user_id);
    yyjson_doc *reply = cli_call(engine, "POST", path, body);
    yyjson_mut_doc_free(body);
    return reply;
}

int cmd_search(cli_common *common, int argc, char **argv) {
    search s = {.top_k = "5"};
    const cli_option options[] = {
        {.name = "user",
         .letter = 'u',
         .value = "NAME",
         .text = &s.user,
         .help = "whose memory (needed)"},
        {.name = "top-k",
         .letter = 'k',
         .value = "N",
         .text = &s.top_k,
         .help = "most results (default: 5)"},
        {.name = "session",
         .letter = 's',
         .value = "NAME",
         .text = &s.session,
         .help = "tag results as in or outside this session"},
        {.name = "agent",
         .letter = 'a',
         .value = "NAME",
         .text = &s.agent,
         .help = "only sessions of this agent"},
        {.name = "by",
         .value = "vector|keyword",
         .text = &s.path,
         .help = "one way of finding (default: both)"},
        {.name = "sort",
         .value = "score|timestamp",
         .text = &s.sort,
         .help = "what the results are ordered by (default: as set)"},
        {.name = "order",
         .value = "desc|asc",
         .text = &s.order,
         .help = "best or newest first, or last (default: as set)"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("search"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    char *end = NULL;
    errno = 0;
    long top_k = strtol(s.top_k, &end, 10);
    if (s.user == NULL || operands == argc || end == s.top_k || *end != '\0' ||
        errno != 0) {
        cli_error(s.user == NULL     ? "--user is missing: whose memory is it?"
                  : operands == argc ? "what is the question?"
                                     : "--top-k needs a number");
        return CLI_USAGE;
    }
    static char question[QUERY_MAX];
    if (!join(question, sizeof question, argc - operands, argv + operands)) {
        return CLI_USAGE;
    }
    mf_engine *engine = cli_open(common, MF_ENGINE_AUTO);
    yyjson_doc *reply = engine != NULL ? ask(engine, &s, question, top_k) : NULL;
    if (reply != NULL && common->json) {
        cli_print_json(reply);
    } else if (reply != NULL) {
        print_results(yyjson_obj_get(cli_data(reply), "results"));
    }
    int code = reply != NULL ? CLI_OK : CLI_FAILED;
    yyjson_doc_free(reply);
    mf_engine_close(engine);
    return code;
}
