/* cmd_model.c - `memfuse model`: gets encoders, and tells which are at hand, what they
 * are and whether they are sound. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/lines.h"
#include "memfuse/model.h"

enum { SENTENCES_MAX = 32768 };

typedef struct model_options {
    const char *precision, *sentences, *hub, *revision, *name;
    bool hash, force;
} model_options;

typedef struct model_call {
    const cli_common *common;
    const model_options *options;
    const char *operand; /* NULL: none */
} model_call;

static double megabytes(yyjson_val *object, const char *key) {
    return yyjson_get_num(yyjson_obj_get(object, key)) / 1e6;
}

static unsigned long long whole(yyjson_val *object, const char *key) {
    return (unsigned long long)yyjson_get_uint(yyjson_obj_get(object, key));
}

static bool models_folder(const cli_common *common, char *out, size_t size) {
    char data[CLI_PATH_TEXT / 2];
    if (!cli_setting(common, "server.data_dir", data, sizeof data)) {
        return false;
    }
    (void)snprintf(out, size, "%s/models", data);
    return true;
}

/* --- list --------------------------------------------------------------------------
 */

static void print_model(yyjson_val *model) {
    if (!yyjson_get_bool(yyjson_obj_get(model, "usable"))) {
        (void)printf("%-28s %8.1f MB  not usable: %s\n", cli_text(model, "name"),
                     megabytes(model, "bytes"), cli_text(model, "problem"));
        return;
    }
    bool ranks = strcmp(cli_text(model, "task"), "rank") == 0;
    (void)printf("%-28s %8.1f MB  %s%s, %llu dimensions, %llu layers, window of %llu "
                 "tokens;",
                 cli_text(model, "name"), megabytes(model, "bytes"),
                 cli_text(model, "kind"), ranks ? " reranker" : "", whole(model, "dim"),
                 whole(model, "layers"), whole(model, "window"));
    size_t i = 0;
    size_t count = 0;
    yyjson_val *precision = NULL;
    yyjson_arr_foreach(yyjson_obj_get(model, "precisions"), i, count, precision) {
        (void)printf("%s %s", i > 0 ? "," : "", yyjson_get_str(precision));
    }
    (void)putchar('\n');
}

static int list(const model_call *call) {
    char folder[CLI_PATH_TEXT];
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    if (!models_folder(call->common, folder, sizeof folder)) {
        return CLI_FAILED;
    }
    if (mf_model_list(folder, &json, error) != 0) {
        cli_error("%s", error);
        return CLI_FAILED;
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    yyjson_val *models = yyjson_doc_get_root(doc);
    size_t i = 0;
    size_t count = 0;
    yyjson_val *model = NULL;
    if (call->common->json) {
        (void)printf("%s\n", json);
    } else if (yyjson_arr_size(models) == 0) {
        (void)printf("no model in %s; `memfuse model pull all-MiniLM-L6-v2` fetches "
                     "one\n",
                     folder);
    } else {
        yyjson_arr_foreach(models, i, count, model) {
            print_model(model);
        }
    }
    yyjson_doc_free(doc);
    mf_engine_free(json);
    return CLI_OK;
}

/* --- info --------------------------------------------------------------------------
 */

static void print_files(yyjson_val *files) {
    size_t i = 0;
    size_t count = 0;
    yyjson_val *file = NULL;
    (void)printf("files\n");
    yyjson_arr_foreach(files, i, count, file) {
        const char *sum = cli_text(file, "sha256");
        (void)printf("  %12llu  %-32s%s%s\n", whole(file, "bytes"),
                     cli_text(file, "name"), sum[0] != '\0' ? " sha256 " : "", sum);
    }
}

static void print_info(yyjson_val *info, yyjson_val *files) {
    (void)printf("%-12s %s\n%-12s %s\n", "name", cli_text(info, "name"), "folder",
                 cli_text(info, "path"));
    (void)printf("%-12s %llu layers, %llu heads, %llu wide, %llu inside, %s pooling\n",
                 "network", whole(info, "layers"), whole(info, "heads"),
                 whole(info, "dim"), whole(info, "inner"), cli_text(info, "pooling"));
    (void)printf("%-12s %llu in a window, %llu known\n", "tokens",
                 whole(info, "window"), whole(info, "vocab"));
    if (strcmp(cli_text(info, "task"), "rank") == 0) {
        (void)printf("%-12s of %llu numbers; a reranker gives no vectors\n", "ranks",
                     whole(info, "labels"));
    } else {
        (void)printf("%-12s %llu dimensions\n", "vectors", whole(info, "dim"));
    }
    (void)printf("%-12s %.1f million\n", "parameters", megabytes(info, "parameters"));
    (void)printf("%-12s %s on %s kernels, %.1f MB of weights, packed weights: %s\n",
                 "precision", cli_text(info, "precision"), cli_text(info, "kernel"),
                 megabytes(info, "weight_bytes"), cli_text(info, "packed"));
    (void)printf("%-12s in %.1f ms; the process then takes %.1f MB of memory\n",
                 "opened", yyjson_get_num(yyjson_obj_get(info, "open_ms")),
                 megabytes(info, "resident_bytes"));
    print_files(files);
}

/* The info with the files as its last member. */
static void print_info_json(yyjson_val *info, yyjson_val *files) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_val_mut_copy(doc, info);
    yyjson_mut_doc_set_root(doc, root);
    (void)yyjson_mut_obj_add_val(doc, root, "files", yyjson_val_mut_copy(doc, files));
    char *text = yyjson_mut_write(doc, 0, NULL);
    (void)printf("%s\n", text != NULL ? text : "null");
    free(text);
    yyjson_mut_doc_free(doc);
}

/* Opens with one thread, the least there is, so that memory tells of the model. */
static int read_info(const char *dir, const char *precision, char **json, char *error) {
    mf_model *model = NULL;
    mf_model_options options = mf_model_options_default();
    options.precision = precision;
    options.threads = 1;
    options.cache_count = 0;
    int code = mf_model_open(dir, &options, &model, error);
    if (code == 0) {
        code = mf_model_info(model, json, error);
    }
    mf_model_close(model);
    return code;
}

static int info(const model_call *call) {
    char dir[CLI_PATH_TEXT];
    char precision[64] = "";
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    char *files_json = NULL;
    if (!cli_model_dir(call->common, call->operand, dir, sizeof dir) ||
        !cli_setting(call->common, "model.precision", precision, sizeof precision)) {
        return CLI_FAILED;
    }
    const char *wanted = call->options->precision;
    int code = read_info(dir, wanted != NULL ? wanted : precision, &json, error);
    if (code == 0) {
        code = mf_model_files(dir, call->options->hash, &files_json, error);
    }
    if (code != 0) {
        cli_error("%s", error);
    } else {
        yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
        yyjson_doc *files = yyjson_read(files_json, strlen(files_json), 0);
        (call->common->json ? print_info_json : print_info)(yyjson_doc_get_root(doc),
                                                            yyjson_doc_get_root(files));
        if (!call->common->json && call->operand == NULL) {
            cli_model_print_memory(call->common);
        }
        yyjson_doc_free(doc);
        yyjson_doc_free(files);
    }
    mf_engine_free(json);
    mf_engine_free(files_json);
    return code == 0 ? CLI_OK : CLI_FAILED;
}

/* --- verify ------------------------------------------------------------------------
 */

typedef struct watcher {
    cli_meter meter;
    const char *unit;
    double scale; /* of what is counted, to the unit */
} watcher;

static int watch(void *ctx, const char *what, uint64_t done, uint64_t total) {
    watcher *w = ctx;
    double scaled = (double)done / w->scale;
    cli_meter_draw(&w->meter, what, scaled, w->unit, (double)done, (double)total);
    return cli_is_interrupted();
}

static void print_verified(yyjson_val *report) {
    yyjson_val *files = yyjson_obj_get(report, "files");
    yyjson_val *limits = yyjson_obj_get(report, "limits");
    size_t i = 0;
    size_t count = 0;
    yyjson_val *one = NULL;
    if (whole(files, "checked") == 0) {
        (void)printf("files       no checksums are recorded for this folder\n");
    } else {
        (void)printf("files       %llu against SHA256SUMS, %zu wrong\n",
                     whole(files, "checked"),
                     yyjson_arr_size(yyjson_obj_get(files, "wrong")));
    }
    yyjson_arr_foreach(yyjson_obj_get(files, "wrong"), i, count, one) {
        (void)printf("            %s differs or is missing\n", yyjson_get_str(one));
    }
    (void)printf("tensors     %llu, sound and finite\n", whole(report, "tensors"));
    yyjson_arr_foreach(yyjson_obj_get(report, "precisions"), i, count, one) {
        (void)printf("%-11s against fp32 on %llu sentences: cosine %.4f least, %.4f on "
                     "average, recall@10 %.3f%s\n",
                     cli_text(one, "precision"), whole(one, "sentences"),
                     yyjson_get_num(yyjson_obj_get(one, "cosine_min")),
                     yyjson_get_num(yyjson_obj_get(one, "cosine_mean")),
                     yyjson_get_num(yyjson_obj_get(one, "recall_at_10")),
                     yyjson_get_bool(yyjson_obj_get(one, "passed")) ? ""
                                                                    : "  TOO LITTLE");
    }
    (void)printf("limits      cosine %.3f and %.3f, recall@10 %.2f\n",
                 yyjson_get_num(yyjson_obj_get(limits, "cosine_min")),
                 yyjson_get_num(yyjson_obj_get(limits, "cosine_mean")),
                 yyjson_get_num(yyjson_obj_get(limits, "recall_at_10")));
    (void)printf("%s: %s\n", cli_text(report, "name"),
                 yyjson_get_bool(yyjson_obj_get(report, "passed")) ? "sound"
                                                                   : "NOT sound");
}

/* The lines of the file, all of them kept in memory: `bytes` holds them. */
static bool read_sentences(const char *path, mf_model_text **texts, char ***kept,
                           size_t *count) {
    line_reader in;
    bool ok = lines_open(&in, path);
    *texts = calloc(SENTENCES_MAX, sizeof **texts);
    *kept = calloc(SENTENCES_MAX, sizeof **kept);
    ok = ok && *texts != NULL && *kept != NULL;
    for (size_t n = 1; ok && n > 0 && *count < SENTENCES_MAX;) {
        ok = lines_next(&in, *texts + *count, SENTENCES_MAX - *count, &n);
        for (size_t i = 0; ok && i < n; i++) {
            mf_model_text *text = &(*texts)[*count];
            char *copy = malloc(text->len + 1);
            ok = copy != NULL;
            if (ok) {
                memcpy(copy, text->p, text->len);
                text->p = (*kept)[(*count)++] = copy;
            }
        }
    }
    lines_close(&in);
    if (ok && *count < 2) {
        cli_error("%s: at least two sentences are wanted", path);
    }
    return ok && *count >= 2;
}

static int verify_with(const model_call *call, const char *dir,
                       const mf_model_text *texts, size_t count) {
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    watcher w = {.unit = "texts", .scale = 1.0};
    cli_meter_start(&w.meter, call->common);
    cli_catch_signals();
    mf_model_verify_options options = mf_model_verify_options_default();
    options.sentences = texts;
    options.sentence_count = count;
    options.progress = (mf_model_progress){.step = watch, .ctx = &w};
    int code = mf_model_verify(dir, &options, &json, error);
    cli_meter_end(&w.meter);
    if (code != 0) {
        cli_error("%s", error);
        return CLI_FAILED;
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    yyjson_val *report = yyjson_doc_get_root(doc);
    bool passed = yyjson_get_bool(yyjson_obj_get(report, "passed"));
    if (call->common->json) {
        (void)printf("%s\n", json);
    } else {
        print_verified(report);
    }
    yyjson_doc_free(doc);
    mf_engine_free(json);
    return passed ? CLI_OK : CLI_FAILED;
}

static int verify(const model_call *call) {
    char dir[CLI_PATH_TEXT];
    mf_model_text *texts = NULL;
    char **kept = NULL;
    size_t count = 0;
    int code = CLI_FAILED;
    if (cli_model_dir(call->common, call->operand, dir, sizeof dir) &&
        (call->options->sentences == NULL ||
         read_sentences(call->options->sentences, &texts, &kept, &count))) {
        code = verify_with(call, dir, texts, count);
    }
    for (size_t i = 0; i < count; i++) {
        free(kept[i]);
    }
    free(kept);
    free(texts);
    if (cli_is_interrupted()) {
        cli_die_as_asked();
    }
    return code;
}

/* --- pull --------------------------------------------------------------------------
 */

/* --hub, else the setting if somebody set it, else HF_ENDPOINT, which users of other
 * programs have set already. */
static bool find_hub(const model_call *call, char *out, size_t size) {
    if (call->options->hub != NULL) {
        (void)snprintf(out, size, "%s", call->options->hub);
        return true;
    }
    if (!cli_setting(call->common, "model.hub", out, size)) {
        return false;
    }
    const char *endpoint = getenv("HF_ENDPOINT");
    if (endpoint != NULL && endpoint[0] != '\0' &&
        strcmp(out, MF_MODEL_HUB_DEFAULT) == 0) {
        (void)snprintf(out, size, "%s", endpoint);
    }
    return true;
}

static int pull(const model_call *call) {
    char folder[CLI_PATH_TEXT];
    char hub[CLI_PATH_TEXT];
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    if (call->operand == NULL) {
        cli_error("usage: memfuse model pull OWNER/NAME (or NAME, or URL)");
        return CLI_USAGE;
    }
    if (!models_folder(call->common, folder, sizeof folder) ||
        !find_hub(call, hub, sizeof hub)) {
        return CLI_FAILED;
    }
    watcher w = {.unit = "MB", .scale = 1e6};
    cli_meter_start(&w.meter, call->common);
    cli_catch_signals();
    mf_model_pull_options options = mf_model_pull_options_default();
    options.models = folder;
    options.hub = hub;
    options.revision = call->options->revision;
    options.name = call->options->name;
    options.replace = call->options->force;
    options.ca_file = getenv("SSL_CERT_FILE"); /* as OpenSSL's own programs have it */
    options.progress = (mf_model_progress){.step = watch, .ctx = &w};
    int code = mf_model_pull(call->operand, &options, &json, error);
    cli_meter_end(&w.meter);
    if (code != 0) {
        const char *name = mf_engine_code_name(code);
        bool resumes = strcmp(name, "io") == 0 || strcmp(name, "stopping") == 0;
        cli_error("%s%s", error,
                  strcmp(name, "exists") == 0 ? "; --force replaces it"
                  : resumes ? "; the same command, once more, goes on from here"
                            : "");
        if (cli_is_interrupted()) {
            cli_die_as_asked();
        }
        return strcmp(name, "invalid") == 0 ? CLI_USAGE : CLI_FAILED;
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    yyjson_val *result = yyjson_doc_get_root(doc);
    if (call->common->json) {
        (void)printf("%s\n", json);
    } else {
        (void)printf("%s: %llu files, %.1f MB, from %s at %s\n",
                     cli_text(result, "path"), whole(result, "files"),
                     megabytes(result, "bytes"), cli_text(result, "source"),
                     cli_text(result, "commit"));
    }
    yyjson_doc_free(doc);
    mf_engine_free(json);
    return CLI_OK;
}

/* --- the command -------------------------------------------------------------------
 */

/* The same as `memfuse bench encoder --model MODEL`. */
static int bench(const model_call *call) {
    char words[][16] = {"bench", "encoder", "--model", "--precision"};
    char model[CLI_PATH_TEXT];
    char precision[64];
    char *arguments[8];
    int count = 0;
    cli_common common = *call->common;
    arguments[count++] = words[0];
    arguments[count++] = words[1];
    if (call->operand != NULL) {
        (void)snprintf(model, sizeof model, "%s", call->operand);
        arguments[count++] = words[2];
        arguments[count++] = model;
    }
    if (call->options->precision != NULL) {
        (void)snprintf(precision, sizeof precision, "%s", call->options->precision);
        arguments[count++] = words[3];
        arguments[count++] = precision;
    }
    arguments[count] = NULL;
    return cmd_bench(&common, count, arguments);
}

static int preload(const model_call *call) {
    return cli_model_preload(call->common, call->operand);
}

static int clear(const model_call *call) {
    return cli_model_clear(call->common);
}

static const struct {
    const char *name;
    int (*run)(const model_call *call);
    int operands_max;
} verbs[] = {{"list", list, 0},  {"info", info, 1},       {"verify", verify, 1},
             {"pull", pull, 1},  {"preload", preload, 1}, {"clear", clear, 0},
             {"bench", bench, 1}};

static int run_verb(const cli_common *common, const model_options *o, int count,
                    char **operands) {
    const char *verb = count > 0 ? operands[0] : "list";
    model_call call = {
        .common = common, .options = o, .operand = count > 1 ? operands[1] : NULL};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, verb) == 0 && count - 1 <= verbs[i].operands_max) {
            return verbs[i].run(&call);
        }
    }
    cli_error("usage: memfuse model list | info [MODEL] | verify [MODEL] | pull NAME | "
              "preload MODEL | clear | bench [MODEL]");
    return CLI_USAGE;
}

int cmd_model(cli_common *common, int argc, char **argv) {
    model_options o = {.hash = false};
    const cli_option options[] = {
        {.name = "precision",
         .letter = 'p',
         .value = "NAME",
         .text = &o.precision,
         .help = "info, bench: instead of the setting model.precision"},
        {.name = "sha256",
         .flag = &o.hash,
         .help = "info: read every file for its checksum"},
        {.name = "sentences",
         .letter = 's',
         .value = "FILE",
         .text = &o.sentences,
         .help = "verify: compare precisions on these lines"},
        {.name = "hub",
         .value = "URL",
         .text = &o.hub,
         .help = "pull: from here (default: model.hub, or HF_ENDPOINT)"},
        {.name = "revision",
         .letter = 'r',
         .value = "NAME",
         .text = &o.revision,
         .help = "pull: branch, tag or commit (default: main)"},
        {.name = "name",
         .letter = 'n',
         .value = "NAME",
         .text = &o.name,
         .help = "pull: of the folder made (default: the model's)"},
        {.name = "force",
         .letter = 'f',
         .flag = &o.force,
         .help = "pull: replace a model that is there"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("model"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    return run_verb(common, &o, argc - operands, argv + operands);
}
