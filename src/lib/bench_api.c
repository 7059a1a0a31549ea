/* bench_api.c - include/memfuse/bench.h: checks the options, measures, and tells the
 * result as JSON. */
#include "memfuse/bench.h"

#include <string.h>

#include "base/alloc.h"
#include "lib/bench_encoder.h"
#include "lib/bench_texts.h"
#include "lib/reply.h"
#include "text/utf8.h"

mf_bench_options mf_bench_options_default(void) {
    return (mf_bench_options){.repeats = MF_BENCH_REPEATS_DEFAULT,
                              .slice_ms = MF_BENCH_SLICE_MS_DEFAULT};
}

/* --- what there is ---------------------------------------------------------------- */

const char *const *mf_bench_kernels(void) {
    static _Thread_local const char *names[MF_CPU_LEVEL_COUNT + 1];
    size_t count = 0;
    for (mf_cpu_level level = MF_CPU_LEVEL_COUNT; level-- > MF_CPU_SCALAR + 1;) {
        if (mf_cpu_has(level)) {
            names[count++] = mf_cpu_level_name(level);
        }
    }
    if (count == 0) {
        names[count++] = mf_cpu_level_name(MF_CPU_SCALAR);
    }
    names[count] = NULL;
    return names;
}

const char *const *mf_bench_precisions(void) {
    static const char *const names[] = {"int8", "bf16", "fp32", NULL};
    return names;
}

/* --- options ---------------------------------------------------------------------- */

static mf_rc level_from_name(const char *name, mf_cpu_level *out, mf_err *err) {
    if (name == NULL) {
        *out = mf_cpu_best();
        return MF_OK;
    }
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        if (strcmp(name, mf_cpu_level_name(level)) == 0) {
            *out = level;
            return mf_cpu_has(level)
                       ? MF_OK
                       : MF_FAIL(err, MF_E_UNSUPPORTED,
                                 "this processor does not run '%s' kernels", name);
        }
    }
    return MF_FAIL_FIELD(err, MF_E_INVAL, "kernel", "there are no kernels named '%s'",
                         name);
}

static mf_rc read_options(const mf_bench_options *options, mf_bench_plan *plan,
                          mf_err *err) {
    plan->dir = options->model_dir;
    plan->repeats = options->repeats;
    plan->slice_ns = (int64_t)options->slice_ms * 1000000;
    plan->progress = options->progress;
    plan->progress_ctx = options->progress_ctx;
    if (options->repeats < 1 || options->repeats > MF_BENCH_REPEATS_MAX) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "repeats", "repeats must be 1 to %d",
                             MF_BENCH_REPEATS_MAX);
    }
    if (options->slice_ms < 1 || options->slice_ms > MF_BENCH_SLICE_MS_MAX) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "slice_ms",
                             "a repeat must take 1 to %d ms", MF_BENCH_SLICE_MS_MAX);
    }
    if (options->precision != NULL &&
        !mf_precision_from_name(options->precision, &plan->precision)) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "precision", "there is no precision '%s'",
                             options->precision);
    }
    return level_from_name(options->kernel, &plan->level, err);
}

/* The caller's texts, or the built-in ones in memory behind the array. */
static mf_rc gather_texts(const mf_bench_options *options, mf_bench_plan *plan,
                          mf_str **owned, mf_err *err) {
    bool built_in = options->texts == NULL;
    size_t count = built_in ? MF_BENCH_MESSAGES : options->text_count;
    size_t extra = built_in ? (size_t)MF_BENCH_MESSAGES * MF_BENCH_MESSAGE_BYTES : 0;
    if (count == 0) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "texts", "there is no text to encode");
    }
    mf_str *texts = mf_alloc(count * sizeof *texts + extra);
    if (texts == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu texts", count);
    }
    *owned = texts;
    plan->texts = texts;
    plan->text_count = count;
    if (built_in) {
        mf_bench_messages(texts, (char *)(texts + count));
        return MF_OK;
    }
    for (size_t i = 0; i < count; i++) {
        texts[i] = mf_str_from(options->texts[i]);
        if (!mf_utf8_valid(texts[i])) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "texts", "text %zu is not UTF-8", i);
        }
    }
    return MF_OK;
}

/* --- the result ------------------------------------------------------------------- */

/* In the order of mf_bench_figure. */
static const char *const figure_keys[] = {
    "tokens_per_s",    "texts_per_s",      "gflops",       "peak_gflops",
    "peak_fraction",   "tile_peak_gflops", "query_p50_us", "query_cold_p50_us",
    "threads_2_ratio", "open_ms",
};
_Static_assert(sizeof figure_keys / sizeof figure_keys[0] == MF_BENCH_FIGURES,
               "every figure has a key");

static void add_figures(const mf_bench_report *report, yyjson_mut_doc *doc,
                        yyjson_mut_val *root, mf_bench_figure first,
                        mf_bench_figure end) {
    for (mf_bench_figure i = first; i < end; i++) {
        const mf_bench_spread *figure = &report->figures[i];
        if (figure->measured) {
            (void)yyjson_mut_obj_add_real(doc, root, figure_keys[i], figure->median);
        } else {
            (void)yyjson_mut_obj_add_null(doc, root, figure_keys[i]);
        }
    }
}

static void add_spread(const mf_bench_report *report, yyjson_mut_doc *doc,
                       yyjson_mut_val *root) {
    yyjson_mut_val *spread = yyjson_mut_obj_add_obj(doc, root, "spread");
    for (size_t i = 0; i < MF_BENCH_FIGURES; i++) {
        const mf_bench_spread *figure = &report->figures[i];
        if (figure->measured) {
            yyjson_mut_val *pair = yyjson_mut_obj_add_arr(doc, spread, figure_keys[i]);
            (void)yyjson_mut_arr_add_real(doc, pair, figure->low);
            (void)yyjson_mut_arr_add_real(doc, pair, figure->high);
        }
    }
}

static void fill(const mf_bench_report *report, const mf_bench_plan *plan,
                 yyjson_mut_doc *doc) {
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    double tokens_per_text = (double)report->tokens / (double)plan->text_count;
    (void)yyjson_mut_obj_add_str(doc, root, "precision", report->info.precision);
    add_figures(report, doc, root, MF_BENCH_TOKENS_PER_S, MF_BENCH_TILE_PEAK);
    (void)yyjson_mut_obj_add_real(doc, root, "cosine_min", report->cosine_min);
    add_figures(report, doc, root, MF_BENCH_QUERY_US, MF_BENCH_OPEN_MS);
    (void)yyjson_mut_obj_add_uint(doc, root, "query_tokens", report->query_tokens);
    add_figures(report, doc, root, MF_BENCH_TILE_PEAK, MF_BENCH_QUERY_US);
    (void)yyjson_mut_obj_add_real(doc, root, "cosine_mean", report->cosine_mean);
    (void)yyjson_mut_obj_add_strcpy(doc, root, "model", report->info.name);
    (void)yyjson_mut_obj_add_str(doc, root, "kernel", report->info.kernel);
    add_figures(report, doc, root, MF_BENCH_OPEN_MS, MF_BENCH_FIGURES);
    (void)yyjson_mut_obj_add_real(doc, root, "rss_mb", report->rss_mb);
    (void)yyjson_mut_obj_add_uint(doc, root, "texts", plan->text_count);
    (void)yyjson_mut_obj_add_real(doc, root, "tokens_per_text", tokens_per_text);
    (void)yyjson_mut_obj_add_uint(doc, root, "repeats", plan->repeats);
    (void)yyjson_mut_obj_add_int(doc, root, "slice_ms", plan->slice_ns / 1000000);
    add_spread(report, doc, root);
}

int mf_bench_encoder(const mf_bench_options *options, char **json, char *error) {
    mf_err err = {0};
    mf_bench_plan plan = {.precision = MF_PRECISION_AUTO};
    mf_bench_report report;
    mf_reply reply = {.arena = NULL};
    mf_str *texts = NULL;
    mf_rc rc = read_options(options, &plan, &err);
    if (rc == MF_OK) {
        rc = gather_texts(options, &plan, &texts, &err);
    }
    if (rc == MF_OK) {
        rc = mf_bench_run(&plan, &report, &err);
    }
    if (rc == MF_OK) {
        rc = mf_reply_begin(&reply, &err);
    }
    if (rc == MF_OK) {
        fill(&report, &plan, reply.doc);
        rc = mf_reply_end(&reply, json, &err);
    }
    mf_reply_done(&reply);
    mf_free(texts);
    return mf_reply_error(&err, rc, error);
}
