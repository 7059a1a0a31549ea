/* calls.c - opening the engine and talking to it in JSON. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { PATH_MAX_TEXT = 4096, ENCODED_MAX = 3072 };

void cli_error(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)fputs("memfuse: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

/* The line is overwritten by the next step, and taken away at the end. */
static void show_step(void *ctx, const char *step) {
    (void)ctx;
    (void)fprintf(stderr, "\r\033[K%s ...", step);
}

mf_engine *cli_open(const cli_common *common, mf_engine_mode mode) {
    mf_engine_options options = mf_engine_options_default();
    bool shown = !common->quiet && isatty(STDERR_FILENO) == 1;
    options.progress = shown ? show_step : NULL;
    options.mode = mode;
    options.config_file = common->config_file;
    options.sets = common->sets;
    options.set_count = common->set_count;
    char error[MF_ENGINE_ERROR_TEXT];
    mf_engine *engine = NULL;
    int rc = mf_engine_open(&options, &engine, error);
    if (shown) {
        (void)fputs("\r\033[K", stderr);
    }
    if (rc != 0) {
        cli_error("%s", error);
        return NULL;
    }
    return engine;
}

yyjson_val *cli_data(yyjson_doc *reply) {
    return yyjson_obj_get(yyjson_doc_get_root(reply), "data");
}

const char *cli_text(yyjson_val *object, const char *key) {
    const char *text = yyjson_get_str(yyjson_obj_get(object, key));
    return text != NULL ? text : "";
}

static void tell_failure(yyjson_val *root) {
    yyjson_val *first = yyjson_arr_get_first(yyjson_obj_get(root, "errors"));
    const char *message = yyjson_get_str(yyjson_obj_get(root, "message"));
    const char *detail = yyjson_get_str(yyjson_obj_get(first, "message"));
    const char *field = yyjson_get_str(yyjson_obj_get(first, "field"));
    if (detail != NULL && message != NULL && strcmp(detail, message) != 0) {
        cli_error("%s (%s: %s)", message, field ? field : "", detail);
    } else {
        cli_error("%s", message != NULL ? message : "the server gave no reason");
    }
}

static yyjson_doc *call(mf_engine *engine, const char *method, const char *path,
                        yyjson_mut_doc *body, bool *missing) {
    char error[MF_ENGINE_ERROR_TEXT];
    size_t body_len = 0;
    char *body_text = body != NULL ? yyjson_mut_write(body, 0, &body_len) : NULL;
    int status = 0;
    char *reply = NULL;
    size_t reply_len = 0;
    int rc = mf_engine_call(engine, method, path, body_text, body_len, &status, &reply,
                            &reply_len, error);
    free(body_text);
    if (rc != 0) {
        cli_error("%s", error);
        return NULL;
    }
    yyjson_doc *doc = yyjson_read(reply, reply_len, 0);
    mf_engine_free(reply);
    if (doc != NULL && status < 400) {
        return doc;
    }
    if (missing != NULL && status == 404) {
        *missing = true;
    } else {
        tell_failure(yyjson_doc_get_root(doc));
    }
    yyjson_doc_free(doc);
    return NULL;
}

yyjson_doc *cli_call(mf_engine *engine, const char *method, const char *path,
                     yyjson_mut_doc *body) {
    return call(engine, method, path, body, NULL);
}

yyjson_doc *cli_call_find(mf_engine *engine, const char *path, bool *missing) {
    *missing = false;
    return call(engine, "GET", path, NULL, missing);
}

void cli_print_json(yyjson_doc *reply) {
    size_t len = 0;
    char *text = yyjson_val_write(cli_data(reply), 0, &len);
    (void)printf("%s\n", text != NULL ? text : "null");
    free(text);
}

void cli_url_encode(const char *text, char *out, size_t size) {
    static const char KEPT[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                               "0123456789-_.~";
    size_t n = 0;
    for (; *text != '\0' && n + 4 < size; text++) {
        if (strchr(KEPT, *text) != NULL) {
            out[n++] = *text;
        } else {
            (void)snprintf(out + n, 4, "%%%02X", (unsigned)(unsigned char)*text);
            n += 3;
        }
    }
    out[n] = '\0';
}

static bool keep_id(yyjson_val *row, char id[CLI_ID_MAX]) {
    (void)snprintf(id, CLI_ID_MAX, "%s", cli_text(row, "id"));
    return id[0] != '\0';
}

/* Looks `plural` up by `query`; creates it with `body` when missing and body is
 * given. */
static bool find_or_create(mf_engine *engine, const char *singular, const char *query,
                           const char *name, yyjson_mut_doc *body,
                           char id[CLI_ID_MAX]) {
    char path[PATH_MAX_TEXT];
    char list[32];
    (void)snprintf(list, sizeof list, "%ss", singular);
    (void)snprintf(path, sizeof path, "/api/v1/%s?%s", list, query);
    bool missing = false;
    yyjson_doc *reply = cli_call_find(engine, path, &missing);
    yyjson_val *row = yyjson_arr_get_first(yyjson_obj_get(cli_data(reply), list));
    if (missing && body == NULL) {
        cli_error("there is no %s '%s'", singular, name);
        return false;
    }
    if (missing) {
        (void)snprintf(path, sizeof path, "/api/v1/%s", list);
        reply = cli_call(engine, "POST", path, body);
        row = yyjson_obj_get(cli_data(reply), singular);
    }
    bool ok = reply != NULL && keep_id(row, id);
    yyjson_doc_free(reply);
    return ok;
}

static bool named_id(mf_engine *engine, const char *singular, const char *name,
                     bool create, char id[CLI_ID_MAX]) {
    char encoded[ENCODED_MAX];
    char query[ENCODED_MAX + 8];
    cli_url_encode(name, encoded, sizeof encoded);
    (void)snprintf(query, sizeof query, "name=%s", encoded);
    yyjson_mut_doc *body = NULL;
    if (create) {
        body = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(body);
        yyjson_mut_doc_set_root(body, root);
        (void)yyjson_mut_obj_add_str(body, root, "name", name);
    }
    bool ok = find_or_create(engine, singular, query, name, body, id);
    yyjson_mut_doc_free(body);
    return ok;
}

bool cli_user_id(mf_engine *engine, const char *name, bool create,
                 char id[CLI_ID_MAX]) {
    return named_id(engine, "user", name, create, id);
}

bool cli_agent_id(mf_engine *engine, const char *name, bool create,
                  char id[CLI_ID_MAX]) {
    return named_id(engine, "agent", name, create, id);
}

bool cli_session_id(mf_engine *engine, const char *user_id, const char *agent_id,
                    const char *name, bool create, char id[CLI_ID_MAX]) {
    char encoded[ENCODED_MAX];
    char query[ENCODED_MAX + CLI_ID_MAX + 24];
    cli_url_encode(name, encoded, sizeof encoded);
    (void)snprintf(query, sizeof query, "name=%s&user_id=%s", encoded, user_id);
    yyjson_mut_doc *body = NULL;
    if (create) {
        body = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(body);
        yyjson_mut_doc_set_root(body, root);
        (void)yyjson_mut_obj_add_str(body, root, "user_id", user_id);
        (void)yyjson_mut_obj_add_str(body, root, "agent_id", agent_id);
        (void)yyjson_mut_obj_add_str(body, root, "name", name);
    }
    bool ok = find_or_create(engine, "session", query, name, body, id);
    yyjson_mut_doc_free(body);
    return ok;
}

bool cli_confirm(const char *question, bool yes) {
    if (yes) {
        return true;
    }
    if (!isatty(STDIN_FILENO)) {
        cli_error("%s Say --yes to confirm.", question);
        return false;
    }
    (void)fprintf(stderr, "%s [y/N] ", question);
    char answer[16] = "";
    return fgets(answer, sizeof answer, stdin) != NULL &&
           (answer[0] == 'y' || answer[0] == 'Y');
}

void cli_progress(const cli_common *common, const char *what, size_t done,
                  size_t total) {
    enum { WIDTH = 30 };
    if (common->quiet || !isatty(STDERR_FILENO)) {
        return;
    }
    if (total == 0) {
        (void)fprintf(stderr, "\r%s %zu", what, done);
        return;
    }
    int filled = (int)(WIDTH * (done < total ? done : total) / total);
    (void)fprintf(stderr, "\r%s [%.*s%.*s] %3zu %%", what, filled,
                  "##############################", WIDTH - filled,
                  "..............................", 100 * done / total);
}

void cli_progress_end(const cli_common *common) {
    if (!common->quiet && isatty(STDERR_FILENO)) {
        (void)fputc('\n', stderr);
    }
}
