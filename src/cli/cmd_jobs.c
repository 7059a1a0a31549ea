/* cmd_jobs.c - `memfuse jobs`: the work of the background, and what to do about jobs
 * that were given up. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH_TEXT = 1024, VALUE_TEXT = 400, PAGE = 100 };

typedef struct jobs_options {
    const char *state, *kind, *user, *limit;
    bool all, yes;
} jobs_options;

static void add_parameter(char path[PATH_TEXT], const char *key, const char *value) {
    char encoded[VALUE_TEXT];
    size_t len = strlen(path);
    if (value != NULL) {
        cli_url_encode(value, encoded, sizeof encoded);
        (void)snprintf(path + len, PATH_TEXT - len, "&%s=%s", key, encoded);
    }
}

static yyjson_doc *get_jobs(mf_engine *engine, const jobs_options *o, const char *state,
                            const char *limit) {
    char path[PATH_TEXT] = "/api/v1/admin/jobs?limit=";
    char id[CLI_ID_MAX];
    (void)snprintf(path + strlen(path), sizeof path - strlen(path), "%.20s", limit);
    add_parameter(path, "state", state);
    add_parameter(path, "kind", o->kind);
    if (o->user != NULL) {
        if (!cli_user_id(engine, o->user, false, id)) {
            return NULL;
        }
        add_parameter(path, "user_id", id);
    }
    return cli_call(engine, "GET", path, NULL);
}

static void print_job(yyjson_val *job) {
    const char *user = cli_text(job, "user_id");
    const char *error = cli_text(job, "error");
    (void)printf("%s  %-7s  %-10s  %.19s  failures %lld  user %s%s%s\n",
                 cli_text(job, "id"), cli_text(job, "state"), cli_text(job, "kind"),
                 cli_text(job, "due_at"),
                 (long long)yyjson_get_sint(yyjson_obj_get(job, "failures")),
                 user[0] != '\0' ? user : "-", error[0] != '\0' ? "  " : "", error);
}

static int list_jobs(mf_engine *engine, const cli_common *common,
                     const jobs_options *o) {
    yyjson_doc *reply =
        get_jobs(engine, o, o->state, o->limit != NULL ? o->limit : "20");
    if (reply == NULL) {
        return CLI_FAILED;
    }
    if (common->json) {
        cli_print_json(reply);
    } else {
        yyjson_val *jobs = yyjson_obj_get(cli_data(reply), "jobs");
        size_t i = 0;
        size_t count = 0;
        yyjson_val *job = NULL;
        yyjson_arr_foreach(jobs, i, count, job) {
            print_job(job);
        }
    }
    yyjson_doc_free(reply);
    return CLI_OK;
}

/* One job; false after telling why. */
static bool act_on(mf_engine *engine, const char *id, bool drops) {
    char path[PATH_TEXT];
    char encoded[VALUE_TEXT];
    cli_url_encode(id, encoded, sizeof encoded);
    (void)snprintf(path, sizeof path, "/api/v1/admin/jobs/%s%s", encoded,
                   drops ? "" : "/retry");
    yyjson_doc *reply = cli_call(engine, drops ? "DELETE" : "POST", path, NULL);
    bool done = reply != NULL;
    yyjson_doc_free(reply);
    return done;
}

static size_t dead_count(yyjson_doc *reply) {
    size_t dead = 0;
    size_t i = 0;
    size_t count = 0;
    yyjson_val *kind = NULL;
    yyjson_arr_foreach(yyjson_obj_get(cli_data(reply), "kinds"), i, count, kind) {
        dead += (size_t)yyjson_get_uint(yyjson_obj_get(kind, "dead"));
    }
    return dead;
}

/* The dead ones the options name, a page at a time, since each leaves the list; no more
 * than there were, because one that is retried may die again. */
static int act_on_all(mf_engine *engine, const jobs_options *o, bool drops,
                      size_t *count) {
    char limit[8];
    (void)snprintf(limit, sizeof limit, "%d", (int)PAGE);
    size_t page = PAGE;
    size_t total = SIZE_MAX;
    while (page == PAGE && *count < total) {
        yyjson_doc *reply = get_jobs(engine, o, "dead", limit);
        if (reply == NULL) {
            return CLI_FAILED;
        }
        yyjson_val *jobs = yyjson_obj_get(cli_data(reply), "jobs");
        size_t i = 0;
        yyjson_val *job = NULL;
        bool good = true;
        page = yyjson_arr_size(jobs);
        total = total == SIZE_MAX ? dead_count(reply) : total;
        size_t max = 0;
        yyjson_arr_foreach(jobs, i, max, job) {
            good = good && act_on(engine, cli_text(job, "id"), drops);
            *count += good;
        }
        yyjson_doc_free(reply);
        if (!good) {
            return CLI_FAILED;
        }
    }
    return CLI_OK;
}

static int act(mf_engine *engine, const cli_common *common, const jobs_options *o,
               bool drops, char **ids, int id_count) {
    size_t count = 0;
    int code = CLI_OK;
    if (drops && !cli_confirm(o->all ? "Drop all dead jobs that match, for ever?"
                                     : "Drop the jobs for ever?",
                              o->yes)) {
        return CLI_FAILED;
    }
    if (o->all) {
        code = act_on_all(engine, o, drops, &count);
    }
    for (int i = 0; i < id_count && code == CLI_OK; i++) {
        code = act_on(engine, ids[i], drops) ? CLI_OK : CLI_FAILED;
        count += code == CLI_OK;
    }
    const char *verb = drops ? "dropped" : "retried";
    if (common->json) {
        (void)printf("{\"%s\":%zu}\n", verb, count);
    } else {
        (void)printf("%s %zu\n", verb, count);
    }
    return code;
}

int cmd_jobs(cli_common *common, int argc, char **argv) {
    jobs_options o = {.state = NULL};
    const cli_option options[] = {
        {.name = "state",
         .value = "STATE",
         .text = &o.state,
         .help = "list only jobs that are open, running or dead"},
        {.name = "kind", .value = "KIND", .text = &o.kind, .help = "only of this kind"},
        {.name = "user",
         .letter = 'u',
         .value = "NAME",
         .text = &o.user,
         .help = "only of this user"},
        {.name = "limit",
         .value = "N",
         .text = &o.limit,
         .help = "list at most so many, 100 at most (default 20)"},
        {.name = "all",
         .flag = &o.all,
         .help = "retry or drop every dead job of that kind and user"},
        {.name = "yes", .letter = 'y', .flag = &o.yes, .help = "drop without asking"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("jobs"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    int count = argc - operands;
    const char *verb = count > 0 ? argv[operands] : "list";
    bool lists = strcmp(verb, "list") == 0 && count <= 1 && !o.all;
    bool drops = strcmp(verb, "drop") == 0;
    bool acts = (drops || strcmp(verb, "retry") == 0) && o.all == (count == 1) &&
                o.state == NULL && o.limit == NULL;
    if (!lists && !acts) {
        cli_error(
            "usage: memfuse jobs list [--state STATE] [--kind KIND] [--user NAME] "
            "[--limit N] | retry ID... | drop ID... | retry|drop --all [--kind "
            "KIND] [--user NAME]");
        return CLI_USAGE;
    }
    mf_engine *engine = cli_open(common, MF_ENGINE_AUTO);
    if (engine == NULL) {
        return CLI_FAILED;
    }
    int code = lists ? list_jobs(engine, common, &o)
                     : act(engine, common, &o, drops, argv + operands + 1, count - 1);
    mf_engine_close(engine);
    return code;
}
