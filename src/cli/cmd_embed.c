/* cmd_embed.c - `memfuse embed`: lines of text in, their vectors out, in the same
 * order.
 *
 * Lines are taken in batches: as many as are there, at least one.  So a file keeps
 * every core busy, and a program that writes a line and waits for its vector gets it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/lines.h"
#include "cli/vectors_out.h"
#include "memfuse/model.h"

enum { BATCH_TEXTS = 1024 };

typedef struct embed_options {
    const char *model, *precision, *dimensions, *threads, *input, *output, *format;
} embed_options;

typedef struct embedding {
    const cli_common *common;
    const embed_options *options;
    mf_model *model;
    line_reader in;
    vectors_out out;
    cli_meter meter;
    mf_model_text texts[BATCH_TEXTS];
    float *vectors;
    size_t texts_before, bytes_before; /* of the running batch */
} embedding;

/* --- options -----------------------------------------------------------------------
 */

static bool ends_with(const char *text, const char *end) {
    size_t len = strlen(text);
    return len >= strlen(end) && strcmp(text + len - strlen(end), end) == 0;
}

/* false after telling why. */
static bool choose_npy(const embed_options *o, bool *npy) {
    *npy = o->format != NULL ? strcmp(o->format, "npy") == 0
                             : o->output != NULL && ends_with(o->output, ".npy");
    if (o->format != NULL && !*npy && strcmp(o->format, "jsonl") != 0) {
        cli_error("--format %s: choose jsonl or npy", o->format);
        return false;
    }
    if (*npy && (o->output == NULL || strcmp(o->output, "-") == 0) &&
        isatty(STDOUT_FILENO)) {
        cli_error("a NumPy file is nothing for a terminal; give --output FILE");
        return false;
    }
    return true;
}

/* A number from 0 to `max`; no text is 0.  false after telling why. */
static bool read_number(const char *option, const char *text, size_t max, size_t *out) {
    char *end = NULL;
    errno = 0;
    unsigned long value = text != NULL ? strtoul(text, &end, 10) : 0;
    if (text != NULL &&
        (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > max)) {
        cli_error("--%s %s: a number from 0 to %zu is wanted", option, text, max);
        return false;
    }
    *out = value;
    return true;
}

/* --- work --------------------------------------------------------------------------
 */

static int open_model(embedding *e, size_t threads, size_t dimensions) {
    char dir[CLI_PATH_TEXT];
    char precision[64] = "";
    char setting[64] = "";
    char error[MF_ENGINE_ERROR_TEXT];
    mf_model_options options = mf_model_options_default();
    if (!cli_model_dir(e->common, e->options->model, dir, sizeof dir) ||
        !cli_setting(e->common, "model.precision", precision, sizeof precision) ||
        !cli_setting(e->common, "model.dimensions", setting, sizeof setting)) {
        return CLI_FAILED;
    }
    options.threads = threads;
    options.dimensions =
        e->options->dimensions != NULL ? dimensions : strtoul(setting, NULL, 10);
    options.precision =
        e->options->precision != NULL ? e->options->precision : precision;
    int code = mf_model_open(dir, &options, &e->model, error);
    if (code == 0) {
        return CLI_OK;
    }
    cli_error("%s", error);
    return strcmp(mf_engine_code_name(code), "invalid") == 0 ? CLI_USAGE : CLI_FAILED;
}

static int draw(void *ctx, const char *what, uint64_t done, uint64_t total) {
    embedding *e = ctx;
    (void)what;
    double bytes = (double)(e->in.consumed - e->bytes_before);
    cli_meter_draw(&e->meter, "embedding", (double)(e->texts_before + done), "texts",
                   (double)e->bytes_before + bytes * (double)done / (double)total,
                   (double)e->in.total);
    return cli_is_interrupted();
}

/* false after telling why, or when a signal came. */
static bool embed_lines(embedding *e) {
    char error[MF_ENGINE_ERROR_TEXT];
    mf_model_progress progress = {.step = draw, .ctx = e};
    for (size_t count = 0;;) {
        e->texts_before = e->in.lines;
        e->bytes_before = e->in.consumed;
        if (!lines_next(&e->in, e->texts, BATCH_TEXTS, &count) ||
            cli_is_interrupted()) {
            return false;
        }
        if (count == 0) {
            return vectors_finish(&e->out);
        }
        if (mf_model_embed(e->model, e->texts, count, e->vectors, &progress, error) !=
            0) {
            if (!cli_is_interrupted()) {
                cli_error("%s: after line %zu: %s", e->in.name, e->texts_before, error);
            }
            return false;
        }
        cli_meter_end(&e->meter); /* lines on a terminal do not mix with it */
        if (!vectors_add(&e->out, e->vectors, count)) {
            return false;
        }
    }
}

static void tell_truncated(const embedding *e, const mf_model_stats *stats) {
    char *json = NULL;
    if (e->common->quiet || stats->truncated == 0 ||
        mf_model_info(e->model, &json, NULL) != 0) {
        return;
    }
    yyjson_doc *info = yyjson_read(json, strlen(json), 0);
    yyjson_val *window = yyjson_obj_get(yyjson_doc_get_root(info), "window");
    cli_error("%llu of %zu texts are longer than the model's window of %llu tokens; "
              "what is beyond it does not count",
              (unsigned long long)stats->truncated, e->out.count,
              (unsigned long long)yyjson_get_uint(window));
    yyjson_doc_free(info);
    mf_engine_free(json);
}

static void tell_result(const embedding *e, const mf_model_stats *stats) {
    tell_truncated(e, stats);
    if (e->out.place == NULL) {
        return; /* standard output is the vectors' */
    }
    if (e->common->json) {
        (void)printf(
            "{\"texts\":%zu,\"dim\":%zu,\"encoded\":%llu,\"truncated\":%llu}\n",
            e->out.count, e->out.dim, (unsigned long long)stats->encoded,
            (unsigned long long)stats->truncated);
    } else if (!e->common->quiet) {
        (void)printf("%zu vectors of %zu numbers\n", e->out.count, e->out.dim);
    }
}

static int run(embedding *e, bool npy, size_t threads, size_t dimensions) {
    if (!lines_open(&e->in, e->options->input)) {
        return CLI_FAILED;
    }
    int code = open_model(e, threads, dimensions);
    if (code != CLI_OK) {
        return code;
    }
    size_t dim = mf_model_dim(e->model);
    e->vectors = calloc(BATCH_TEXTS, dim * sizeof *e->vectors);
    if (e->vectors == NULL) {
        cli_error("out of memory for %d vectors", BATCH_TEXTS);
        return CLI_FAILED;
    }
    if (!vectors_open(&e->out, e->options->output, npy, dim)) {
        return CLI_FAILED;
    }
    cli_meter_start(&e->meter, e->common);
    bool ok = embed_lines(e);
    cli_meter_end(&e->meter);
    if (ok) {
        mf_model_stats stats;
        mf_model_get_stats(e->model, &stats);
        tell_result(e, &stats);
    }
    return ok ? CLI_OK : CLI_FAILED;
}

int cmd_embed(cli_common *common, int argc, char **argv) {
    embed_options o = {.model = NULL};
    const cli_option options[] = {
        {.name = "input",
         .letter = 'i',
         .value = "FILE",
         .text = &o.input,
         .help = "a text per line (default: standard input)"},
        {.name = "output",
         .letter = 'o',
         .value = "FILE",
         .text = &o.output,
         .help = "where vectors go (default: standard output)"},
        {.name = "format",
         .letter = 'f',
         .value = "FORM",
         .text = &o.format,
         .help = "jsonl, an array per line, or npy (default: jsonl; npy for FILE.npy)"},
        {.name = "model",
         .letter = 'm',
         .value = "DIR|NAME",
         .text = &o.model,
         .help = "encoder (default: that of the settings)"},
        {.name = "precision",
         .letter = 'p',
         .value = "NAME",
         .text = &o.precision,
         .help = "as the setting model.precision, which is the default"},
        {.name = "dimensions",
         .value = "N",
         .text = &o.dimensions,
         .help = "keep the first N numbers (default: model.dimensions; 0: all)"},
        {.name = "threads",
         .letter = 't',
         .value = "N",
         .text = &o.threads,
         .help = "that encode (default: one per core)"},
        {.name = NULL},
    };
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("embed"), options, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    bool npy = false;
    size_t threads = 0;
    size_t dimensions = 0;
    if (operands < argc) {
        cli_error("embed takes no operand, but got '%s'; texts are lines of standard "
                  "input or of --input FILE",
                  argv[operands]);
        return CLI_USAGE;
    }
    if (!choose_npy(&o, &npy) ||
        !read_number("threads", o.threads, MF_MODEL_THREADS_MAX, &threads) ||
        !read_number("dimensions", o.dimensions, SIZE_MAX, &dimensions)) {
        return CLI_USAGE;
    }
    embedding *e = calloc(1, sizeof *e);
    if (e == NULL) {
        cli_error("out of memory");
        return CLI_FAILED;
    }
    e->common = common;
    e->options = &o;
    cli_catch_signals();
    int code = run(e, npy, threads, dimensions);
    mf_model_close(e->model);
    vectors_close(&e->out);
    lines_close(&e->in);
    free(e->vectors);
    free(e);
    if (cli_is_interrupted()) {
        cli_die_as_asked();
    }
    return code;
}
