/* cmd_bench.c - `memfuse bench encoder`: how fast this machine turns texts into
 * vectors, beside what its processor could do. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "memfuse/bench.h"

/* --- texts ------------------------------------------------------------------------ */

/* A file cut into lines. */
typedef struct text_lines {
    char *bytes;
    const char **lines; /* into bytes */
    size_t count;
} text_lines;

static void lines_done(text_lines *texts) {
    free(texts->bytes);
    free((void *)texts->lines);
}

/* The whole file up to its end, with a NUL behind it; NULL after telling why. */
static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    size_t capacity = 0;
    if (file == NULL) {
        cli_error("cannot open '%s'", path);
        return NULL;
    }
    if (getdelim(&bytes, &capacity, '\0', file) <= 0 || fgetc(file) != EOF) {
        cli_error("'%s' is empty, holds a NUL, or cannot be read", path);
        free(bytes);
        bytes = NULL;
    }
    (void)fclose(file); /* it was only read */
    return bytes;
}

/* One text per line, empty lines left out. */
static bool read_texts(const char *path, text_lines *out) {
    out->bytes = read_file(path);
    if (out->bytes == NULL) {
        return false;
    }
    size_t lines_max = 1;
    for (const char *p = out->bytes; (p = strchr(p, '\n')) != NULL; p++) {
        lines_max++;
    }
    out->lines = calloc(lines_max, sizeof *out->lines);
    if (out->lines == NULL) {
        cli_error("no memory for '%s'", path);
        return false;
    }
    for (char *rest = out->bytes; rest != NULL;) {
        const char *line = strsep(&rest, "\n");
        if (line[0] != '\0') {
            out->lines[out->count++] = line;
        }
    }
    if (out->count == 0) {
        cli_error("'%s' holds no text", path);
    }
    return out->count > 0;
}

/* --- printing --------------------------------------------------------------------- */

typedef struct row {
    const char *key;
    const char *what;
    const char *unit;
    double scale;
} row;

static const row rows[] = {
    {"tokens_per_s", "tokens", "a second", 1.0},
    {"texts_per_s", "texts", "a second", 1.0},
    {"gflops", "linear layers", "Gop/s", 1.0},
    {"peak_gflops", "register loop, the limit", "Gop/s", 1.0},
    {"peak_fraction", "share of the limit", "%", 100.0},
    {"tile_peak_gflops", "limit of the tile registers", "Gop/s", 1.0},
    {"query_p50_us", "question", "us", 1.0},
    {"query_cold_p50_us", "question, caches cold", "us", 1.0},
    {"threads_2_ratio", "two threads beside one", "times", 1.0},
    {"open_ms", "opening the model", "ms", 1.0},
    {"rss_mb", "memory of the process", "MB", 1.0},
};

static void print_row(yyjson_val *result, const row *r) {
    yyjson_val *value = yyjson_obj_get(result, r->key);
    yyjson_val *pair = yyjson_obj_get(yyjson_obj_get(result, "spread"), r->key);
    if (!yyjson_is_num(value)) {
        return; /* this machine has none */
    }
    (void)printf("  %-28s %10.2f %s", r->what, yyjson_get_num(value) * r->scale,
                 r->unit);
    if (pair != NULL) {
        (void)printf("  (%.2f .. %.2f)",
                     yyjson_get_num(yyjson_arr_get_first(pair)) * r->scale,
                     yyjson_get_num(yyjson_arr_get_last(pair)) * r->scale);
    }
    (void)putchar('\n');
}

static void print_result(const char *json) {
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    yyjson_val *result = yyjson_doc_get_root(doc);
    (void)printf("%s, %s, %s kernels\n", cli_text(result, "model"),
                 cli_text(result, "precision"), cli_text(result, "kernel"));
    (void)printf("one thread; median of %lld repeats (lowest .. highest)\n",
                 (long long)yyjson_get_sint(yyjson_obj_get(result, "repeats")));
    (void)printf("%lld texts of %.1f tokens on average, a question of %lld\n",
                 (long long)yyjson_get_sint(yyjson_obj_get(result, "texts")),
                 yyjson_get_num(yyjson_obj_get(result, "tokens_per_text")),
                 (long long)yyjson_get_sint(yyjson_obj_get(result, "query_tokens")));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        print_row(result, &rows[i]);
    }
    (void)printf("  %-28s %10.5f least, %.5f on average\n", "cosine to fp32",
                 yyjson_get_num(yyjson_obj_get(result, "cosine_min")),
                 yyjson_get_num(yyjson_obj_get(result, "cosine_mean")));
    yyjson_doc_free(doc);
}

/* --- the command ------------------------------------------------------------------ */

static int show_step(void *ctx, const char *what, uint64_t done, uint64_t total) {
    cli_progress(ctx, what, (size_t)done, (size_t)total);
    return 0;
}

/* A number in first..last; false for anything else. */
static bool number(const char *text, double first, double last, double *out) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= first && value <= last)) {
        return false;
    }
    *out = value;
    return true;
}

static int measure(cli_common *common, const mf_bench_options *options) {
    char error[MF_ENGINE_ERROR_TEXT];
    char *json = NULL;
    int rc = mf_bench_encoder(options, &json, error);
    cli_progress_end(common);
    if (rc != 0) {
        cli_error("%s", error);
        return CLI_FAILED;
    }
    if (common->json) {
        (void)printf("%s\n", json);
    } else {
        print_result(json);
    }
    mf_engine_free(json);
    return CLI_OK;
}

/* What `name` stands for: all of `names`, or itself. */
static const char *const *choices(const char *name, const char *const *names,
                                  const char *one[2]) {
    if (name != NULL && strcmp(name, "all") == 0) {
        return names;
    }
    one[0] = name; /* NULL, the default, is a choice as well */
    one[1] = NULL;
    return one;
}

static int measure_all(cli_common *common, mf_bench_options *options) {
    const char *one_precision[2];
    const char *one_kernel[2];
    const char *const *precision =
        choices(options->precision, mf_bench_precisions(), one_precision);
    const char *const *kernels =
        choices(options->kernel, mf_bench_kernels(), one_kernel);
    int code = CLI_OK;
    do {
        const char *const *kernel = kernels;
        options->precision = *precision;
        do {
            options->kernel = *kernel;
            code = measure(common, options);
        } while (code == CLI_OK && *kernel != NULL && *++kernel != NULL);
    } while (code == CLI_OK && *precision != NULL && *++precision != NULL);
    return code;
}

static int run(cli_common *common, const char *model, const char *texts_file,
               mf_bench_options *options) {
    char dir[CLI_PATH_TEXT];
    text_lines texts = {.count = 0};
    if (!cli_model_dir(common, model, dir, sizeof dir)) {
        return CLI_FAILED;
    }
    options->model_dir = dir;
    options->progress = show_step;
    options->progress_ctx = common;
    int code = CLI_FAILED;
    if (texts_file == NULL || read_texts(texts_file, &texts)) {
        options->texts = texts.lines;
        options->text_count = texts.count;
        code = measure_all(common, options);
    }
    lines_done(&texts);
    return code;
}

int cmd_bench(cli_common *common, int argc, char **argv) {
    mf_bench_options options = mf_bench_options_default();
    const char *model = NULL;
    const char *texts_file = NULL;
    const char *seconds_text = "0.2";
    const char *repeats_text = "9";
    const cli_option rows_of_options[] = {
        {.name = "model",
         .letter = 'm',
         .value = "MODEL",
         .text = &model,
         .help = "a name in DATA/models, or a folder (default: model.dir)"},
        {.name = "precision",
         .letter = 'p',
         .value = "NAME",
         .text = &options.precision,
         .help = "auto, fp32, bf16, int8 or all (default: auto)"},
        {.name = "kernel",
         .letter = 'k',
         .value = "NAME",
         .text = &options.kernel,
         .help = "scalar, avx2, avx512, amx or all (default: the best)"},
        {.name = "texts",
         .letter = 't',
         .value = "FILE",
         .text = &texts_file,
         .help = "encode these, one per line (default: built-in messages)"},
        {.name = "repeats",
         .letter = 'r',
         .value = "N",
         .text = &repeats_text,
         .help = "measure so often (default: 9)"},
        {.name = "seconds",
         .letter = 's',
         .value = "S",
         .text = &seconds_text,
         .help = "processor time of one repeat (default: 0.2)"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands = cli_parse(cli_find_command("bench"), rows_of_options, common, argc,
                             argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    double repeats = 0.0;
    double seconds = 0.0;
    if (argc - operands != 1 || strcmp(argv[operands], "encoder") != 0) {
        cli_error("usage: memfuse bench encoder");
        return CLI_USAGE;
    }
    if (!number(repeats_text, 1.0, MF_BENCH_REPEATS_MAX, &repeats) ||
        !number(seconds_text, 0.001, MF_BENCH_SLICE_MS_MAX / 1e3, &seconds)) {
        cli_error("--repeats is 1 to %d, --seconds 0.001 to %d", MF_BENCH_REPEATS_MAX,
                  MF_BENCH_SLICE_MS_MAX / 1000);
        return CLI_USAGE;
    }
    options.repeats = (unsigned)repeats;
    options.slice_ms = (unsigned)(seconds * 1e3);
    return run(common, model, texts_file, &options);
}
