/* bench_api_test.c - the benchmark of the encoder tells every figure it promises, and
 * none of them is out of this world.  How large they are is the machine's business. */
#include "memfuse/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "lib/bench_texts.h"
#include "model/tiny_model_testing.h"
#include "num/cpu.h"
#include "text/json.h"
#include "text/utf8.h"

static char dir[64];

static int make_model(void **state) {
    (void)state;
    tiny_model_make(dir);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    tiny_model_remove(dir);
    return 0;
}

/* The least that still measures everything. */
static mf_bench_options quick(void) {
    mf_bench_options options = mf_bench_options_default();
    options.model_dir = dir;
    options.repeats = 3;
    options.slice_ms = 1;
    return options;
}

static yyjson_doc *measured(const mf_bench_options *options) {
    char error[MF_ENGINE_ERROR_TEXT] = "";
    char *json = NULL;
    if (mf_bench_encoder(options, &json, error) != 0) {
        fail_msg("%s", error);
    }
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    assert_non_null(doc);
    mf_engine_free(json);
    return doc;
}

static double figure(yyjson_doc *doc, const char *key) {
    yyjson_val *value = yyjson_obj_get(yyjson_doc_get_root(doc), key);
    if (!yyjson_is_num(value)) {
        fail_msg("%s is no number", key);
    }
    return yyjson_get_num(value);
}

static bool is_null(yyjson_doc *doc, const char *key) {
    return yyjson_is_null(yyjson_obj_get(yyjson_doc_get_root(doc), key));
}

static const char *text_of(yyjson_doc *doc, const char *key) {
    return yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), key));
}

static void every_key_is_there_and_in_order(void **state) {
    (void)state;
    static const char *const keys[] = {
        "precision",       "tokens_per_s", "texts_per_s",
        "gflops",          "peak_gflops",  "peak_fraction",
        "cosine_min",      "query_p50_us", "query_cold_p50_us",
        "threads_2_ratio", "query_tokens", "tile_peak_gflops",
        "cosine_mean",     "model",        "kernel",
        "open_ms",         "rss_mb",       "texts",
        "tokens_per_text", "repeats",      "slice_ms",
        "spread"};
    mf_bench_options options = quick();
    yyjson_doc *doc = measured(&options);
    yyjson_val *key = NULL;
    yyjson_val *value = NULL;
    size_t i = 0;
    size_t count = 0;
    yyjson_obj_foreach(yyjson_doc_get_root(doc), i, count, key, value) {
        assert_true(i < sizeof keys / sizeof keys[0]);
        assert_string_equal(yyjson_get_str(key), keys[i]);
    }
    assert_int_equal(count, sizeof keys / sizeof keys[0]);
    yyjson_doc_free(doc);
}

static void a_figure_lies_within_its_spread(void **state) {
    (void)state;
    mf_bench_options options = quick();
    yyjson_doc *doc = measured(&options);
    yyjson_val *spread = yyjson_obj_get(yyjson_doc_get_root(doc), "spread");
    yyjson_val *key = NULL;
    yyjson_val *pair = NULL;
    size_t i = 0;
    size_t count = 0;
    yyjson_obj_foreach(spread, i, count, key, pair) {
        double low = yyjson_get_num(yyjson_arr_get_first(pair));
        double high = yyjson_get_num(yyjson_arr_get_last(pair));
        double middle = figure(doc, yyjson_get_str(key));
        assert_int_equal(yyjson_arr_size(pair), 2);
        assert_true(0.0 < low && low <= middle && middle <= high);
    }
    assert_true(count >= 5);
    yyjson_doc_free(doc);
}

static void every_precision_and_kernel_is_measured_as_asked(void **state) {
    (void)state;
    static const char *const precisions[] = {"fp32", "bf16", "int8"};
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        for (size_t p = 0; mf_cpu_has(level) && p < 3; p++) {
            mf_bench_options options = quick();
            options.precision = precisions[p];
            options.kernel = mf_cpu_level_name(level);
            yyjson_doc *doc = measured(&options);
            bool tiles = level == MF_CPU_AMX && p == 2;
            assert_string_equal(text_of(doc, "precision"), precisions[p]);
            assert_string_equal(text_of(doc, "kernel"), options.kernel);
            assert_int_equal(is_null(doc, "peak_gflops"), level == MF_CPU_SCALAR);
            assert_int_equal(is_null(doc, "tile_peak_gflops"), !tiles);
            assert_true(figure(doc, "cosine_min") <= figure(doc, "cosine_mean"));
            assert_true(figure(doc, "cosine_min") > (p == 0 ? 0.9999 : 0.9));
            assert_true(figure(doc, "cosine_mean") < 1.0001);
            yyjson_doc_free(doc);
        }
    }
}

static void texts_of_the_caller_are_what_is_encoded(void **state) {
    (void)state;
    static const char *const texts[] = {"red cat", "green dog runs", "blue"};
    mf_bench_options options = quick();
    options.texts = texts;
    options.text_count = 3;
    yyjson_doc *doc = measured(&options);
    assert_int_equal((int)figure(doc, "texts"), 3);
    assert_true(figure(doc, "tokens_per_text") == 4.0); /* with [CLS] and [SEP] */
    yyjson_doc_free(doc);
}

typedef struct watch {
    uint64_t done;
    uint64_t total;
    uint64_t give_up_at;
} watch;

static int watch_step(void *ctx, const char *what, uint64_t done, uint64_t total) {
    watch *w = ctx;
    assert_non_null(what);
    assert_int_equal(done, w->done + 1);
    w->done = done;
    w->total = total;
    return done == w->give_up_at;
}

static void progress_goes_step_by_step_to_its_total(void **state) {
    (void)state;
    watch w = {.give_up_at = 0};
    mf_bench_options options = quick();
    options.progress = watch_step;
    options.progress_ctx = &w;
    yyjson_doc_free(measured(&options));
    assert_int_equal(w.done, w.total);
}

/* Calls that must fail: the named code, a sentence with `part`, nothing else touched.
 */
static void refused(const mf_bench_options *options, const char *code,
                    const char *part) {
    char error[MF_ENGINE_ERROR_TEXT] = "";
    char untouched[] = "as it was";
    char *json = untouched;
    size_t live = mf_alloc_live();
    int rc = mf_bench_encoder(options, &json, error);
    assert_string_equal(mf_engine_code_name(rc), code);
    if (strstr(error, part) == NULL) {
        fail_msg("'%s' lacks '%s'", error, part);
    }
    assert_ptr_equal(json, untouched);
    assert_int_equal(mf_alloc_live(), live);
}

static void a_caller_may_give_up_at_any_step(void **state) {
    (void)state;
    for (uint64_t at = 1; at <= 4; at++) {
        watch w = {.give_up_at = at};
        mf_bench_options options = quick();
        options.progress = watch_step;
        options.progress_ctx = &w;
        refused(&options, "stopping", "gave up");
        assert_int_equal(w.done, at);
    }
}

static void what_cannot_be_measured_is_refused(void **state) {
    (void)state;
    static const char *const bad_text[] = {"red", "\xff"};
    mf_bench_options options = quick();
    options.precision = "int3";
    refused(&options, "invalid", "int3");
    options = quick();
    options.kernel = "abacus";
    refused(&options, "invalid", "abacus");
    options = quick();
    options.repeats = 0;
    refused(&options, "invalid", "repeats");
    options.repeats = MF_BENCH_REPEATS_MAX + 1;
    refused(&options, "invalid", "repeats");
    options = quick();
    options.slice_ms = 0;
    refused(&options, "invalid", "ms");
    options = quick();
    options.texts = bad_text;
    refused(&options, "invalid", "no text");
    options.text_count = 2;
    refused(&options, "invalid", "text 1 is not UTF-8");
    options = quick();
    options.model_dir = "/nowhere/at/all";
    refused(&options, "io", "/nowhere/at/all");
}

static void what_is_listed_can_be_measured(void **state) {
    (void)state;
    size_t kernels = 0;
    for (const char *const *kernel = mf_bench_kernels(); *kernel != NULL; kernel++) {
        mf_bench_options options = quick();
        options.kernel = *kernel;
        options.repeats = 1;
        yyjson_doc_free(measured(&options));
        kernels++;
    }
    assert_true(kernels > 0);
    for (const char *const *name = mf_bench_precisions(); *name != NULL; name++) {
        mf_bench_options options = quick();
        options.precision = *name;
        options.repeats = 1;
        yyjson_doc *doc = measured(&options);
        assert_string_equal(text_of(doc, "precision"), *name);
        yyjson_doc_free(doc);
    }
}

static void the_built_in_texts_are_sound_and_always_the_same(void **state) {
    (void)state;
    char *bytes = mf_alloc(2 * (size_t)MF_BENCH_MESSAGES * MF_BENCH_MESSAGE_BYTES);
    mf_str first[MF_BENCH_MESSAGES];
    mf_str second[MF_BENCH_MESSAGES];
    mf_str varied[MF_BENCH_VARIED_MAX];
    assert_non_null(bytes);
    mf_bench_messages(first, bytes);
    mf_bench_messages(second, bytes + MF_BENCH_MESSAGES * MF_BENCH_MESSAGE_BYTES);
    for (size_t i = 0; i < MF_BENCH_MESSAGES; i++) {
        assert_true(first[i].len > 0 && mf_utf8_valid(first[i]));
        assert_true(mf_str_eq(first[i], second[i]));
    }
    size_t count = mf_bench_varied(varied);
    assert_true(count >= 32 && count <= MF_BENCH_VARIED_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_true(mf_utf8_valid(varied[i]));
    }
    mf_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_there_and_in_order),
        cmocka_unit_test(a_figure_lies_within_its_spread),
        cmocka_unit_test(every_precision_and_kernel_is_measured_as_asked),
        cmocka_unit_test(texts_of_the_caller_are_what_is_encoded),
        cmocka_unit_test(progress_goes_step_by_step_to_its_total),
        cmocka_unit_test(a_caller_may_give_up_at_any_step),
        cmocka_unit_test(what_cannot_be_measured_is_refused),
        cmocka_unit_test(what_is_listed_can_be_measured),
        cmocka_unit_test(the_built_in_texts_are_sound_and_always_the_same),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
