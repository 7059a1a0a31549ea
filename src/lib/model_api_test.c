/* model_api_test.c - encoders as an embedder of the library meets them: through
 * memfuse/model.h alone.  (The small model that the tests run on is written by
 * tiny_model_testing.h.) */
#include "memfuse/model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "model/model_registry.h"
#include "model/tiny_model_testing.h"
#include "os/folder.h"

enum { DIM = TINY_HIDDEN, MANY = 500 };

typedef struct fixture {
    char dir[64];
    char error[MF_ENGINE_ERROR_TEXT];
    mf_model_text texts[MANY];
    char words[MANY][32];
} fixture;

static int make(void **state) {
    static const char *const known[] = {"red", "green", "blue", "cat", "dog", "runs"};
    static fixture f;
    tiny_model_make(f.dir);
    for (size_t i = 0; i < MANY; i++) {
        int n = snprintf(f.words[i], sizeof f.words[i], "%s %s %s", known[i % 6],
                         known[i / 6 % 6], known[i / 36 % 6]);
        f.texts[i] = (mf_model_text){f.words[i], (size_t)n};
    }
    *state = &f;
    return 0;
}

static int clean(void **state) {
    fixture *f = *state;
    assert_int_equal(mf_folder_remove(f->dir, NULL), MF_OK);
    mf_model_registry_process_reset();
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static mf_model *open_model(fixture *f, const char *precision, size_t threads,
                            size_t cached) {
    mf_model *model = NULL;
    mf_model_options options = mf_model_options_default();
    options.precision = precision;
    options.threads = threads;
    options.cache_count = cached;
    if (mf_model_open(f->dir, &options, &model, f->error) != 0) {
        fail_msg("%s", f->error);
    }
    return model;
}

static void must_embed(fixture *f, mf_model *model, const mf_model_text *texts,
                       size_t count, float *out) {
    if (mf_model_embed(model, texts, count, out, NULL, f->error) != 0) {
        fail_msg("%s", f->error);
    }
}

static bool is_code(int code, const char *name) {
    return strcmp(mf_engine_code_name(code), name) == 0;
}

/* --- vectors -----------------------------------------------------------------------
 */

static void vectors_have_length_one_and_the_order_of_their_texts(void **state) {
    fixture *f = *state;
    mf_model *model = open_model(f, NULL, 1, 0);
    static float all[MANY * DIM];
    float alone[DIM];
    assert_int_equal(mf_model_dim(model), DIM);
    must_embed(f, model, f->texts, MANY, all);
    for (size_t i = 0; i < MANY; i++) {
        double square = 0.0;
        for (size_t k = 0; k < DIM; k++) {
            square += (double)all[i * DIM + k] * (double)all[i * DIM + k];
        }
        assert_true(square > 0.9999 && square < 1.0001);
    }
    for (size_t i = 0; i < MANY; i += 37) {
        must_embed(f, model, &f->texts[i], 1, alone);
        assert_memory_equal(alone, all + i * DIM, sizeof alone);
    }
    mf_model_close(model);
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    fixture *f = *state;
    static float expected[MANY * DIM];
    static float found[MANY * DIM];
    mf_model *model = open_model(f, "fp32", 1, 0);
    must_embed(f, model, f->texts, MANY, expected);
    mf_model_close(model);
    for (size_t threads = 2; threads <= 5; threads++) {
        model = open_model(f, "fp32", threads, threads % 2 == 0 ? 100 : 0);
        memset(found, 0, sizeof found);
        must_embed(f, model, f->texts, MANY, found);
        assert_memory_equal(found, expected, sizeof found);
        mf_model_close(model);
    }
}

static void equal_texts_are_encoded_once(void **state) {
    fixture *f = *state;
    mf_model *model = open_model(f, NULL, 1, MF_MODEL_CACHE_DEFAULT);
    static float out[MANY * DIM];
    mf_model_stats stats;
    must_embed(f, model, f->texts, MANY, out); /* 216 different ones */
    must_embed(f, model, f->texts, MANY, out);
    mf_model_get_stats(model, &stats);
    assert_int_equal(stats.texts, 2 * MANY);
    assert_int_equal(stats.encoded, 216);
    assert_int_equal(stats.truncated, 0);
    mf_model_close(model);
}

static void long_texts_are_counted(void **state) {
    fixture *f = *state;
    mf_model *model = open_model(f, NULL, 2, 0);
    char text[] = "red red red red red red red red red red red red red red red red red "
                  "red red red red red red red red red red red red red red red red";
    mf_model_text texts[] = {{text, sizeof text - 1}, f->texts[0]};
    float out[2 * DIM];
    mf_model_stats stats;
    must_embed(f, model, texts, 2, out);
    mf_model_get_stats(model, &stats);
    assert_int_equal(stats.truncated, 1);
    mf_model_close(model);
}

static void no_text_and_empty_text_are_fine(void **state) {
    fixture *f = *state;
    mf_model *model = open_model(f, NULL, 2, 10);
    mf_model_text empty[] = {{NULL, 0}, {"", 0}};
    float out[2 * DIM];
    must_embed(f, model, NULL, 0, out);
    must_embed(f, model, empty, 2, out);
    assert_memory_equal(out, out + DIM, DIM * sizeof *out);
    mf_model_close(model);
}

static void refused_texts_are_named(void **state) {
    fixture *f = *state;
    static char big[MF_MODEL_TEXT_BYTES_MAX + 1];
    memset(big, 'x', sizeof big);
    const struct {
        mf_model_text text;
        const char *code;
        const char *said;
    } cases[] = {
        {{"ab\xFFz", 4}, "invalid", "byte 3 is not UTF-8"},
        {{"\xEF\xBF\xBD\xC3", 4}, "invalid", "byte 4 is not UTF-8"},
        {{"a\0b", 3}, "invalid", "byte 2 is a NUL"},
        {{big, sizeof big}, "too_large", "1048577 bytes long"},
    };
    mf_model *model = open_model(f, NULL, 2, 10);
    float out[2 * DIM];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_model_text texts[] = {f->texts[0], cases[i].text};
        int code = mf_model_check_text(&cases[i].text, f->error);
        assert_true(is_code(code, cases[i].code));
        assert_int_equal(strncmp(f->error, cases[i].said, strlen(cases[i].said)), 0);
        code = mf_model_embed(model, texts, 2, out, NULL, f->error);
        assert_true(is_code(code, cases[i].code));
        assert_non_null(strstr(f->error, "text 1: "));
        assert_non_null(strstr(f->error, cases[i].said));
    }
    assert_int_equal(mf_model_check_text(&f->texts[0], NULL), 0);
    mf_model_close(model);
}

/* --- progress ----------------------------------------------------------------------
 */

typedef struct listener {
    pthread_t caller;
    uint64_t last, calls;
    uint64_t stop_at; /* gives up at so many texts or more */
} listener;

static int listen_to(void *ctx, const char *what, uint64_t done, uint64_t total) {
    listener *l = ctx;
    assert_string_equal(what, "texts");
    assert_int_equal(total, MANY);
    assert_true(done >= l->last && done <= total);
    assert_true(pthread_equal(pthread_self(), l->caller));
    l->last = done;
    l->calls++;
    return done >= l->stop_at;
}

static void progress_is_told_by_the_calling_thread_up_to_the_end(void **state) {
    fixture *f = *state;
    static float out[MANY * DIM];
    for (size_t threads = 1; threads <= 3; threads++) {
        mf_model *model = open_model(f, NULL, threads, 0);
        listener l = {.caller = pthread_self(), .stop_at = MANY + 1};
        mf_model_progress progress = {.step = listen_to, .ctx = &l};
        assert_int_equal(
            mf_model_embed(model, f->texts, MANY, out, &progress, f->error), 0);
        assert_int_equal(l.last, MANY);
        assert_true(l.calls >= 1);
        mf_model_close(model);
    }
}

static void a_call_can_be_given_up(void **state) {
    fixture *f = *state;
    static float out[MANY * DIM];
    for (size_t threads = 1; threads <= 3; threads++) {
        mf_model *model = open_model(f, NULL, threads, 0);
        listener l = {.caller = pthread_self(), .stop_at = 1};
        mf_model_progress progress = {.step = listen_to, .ctx = &l};
        int code = mf_model_embed(model, f->texts, MANY, out, &progress, f->error);
        assert_true(is_code(code, "stopping"));
        assert_non_null(strstr(f->error, "given up"));
        assert_int_equal(l.calls, 1);
        must_embed(f, model, f->texts, MANY, out); /* the model is as it was */
        mf_model_close(model);
    }
}

/* --- threads -----------------------------------------------------------------------
 */

typedef struct caller {
    fixture *f;
    mf_model *model;
    const float *expected;
    size_t first;
    int wrong;
} caller;

static void *call_often(void *arg) {
    caller *c = arg;
    enum { TEXTS = 60 };
    float out[TEXTS * DIM];
    for (size_t round = 0; round < 5; round++) {
        size_t first = (c->first + round * 31) % (MANY - TEXTS);
        if (mf_model_embed(c->model, c->f->texts + first, TEXTS, out, NULL, NULL) !=
                0 ||
            memcmp(out, c->expected + first * DIM, sizeof out) != 0) {
            c->wrong++;
        }
    }
    return NULL;
}

static void many_callers_share_a_model(void **state) {
    fixture *f = *state;
    enum { CALLERS = 4 };
    static float expected[MANY * DIM];
    caller callers[CALLERS];
    pthread_t threads[CALLERS];
    mf_model *model = open_model(f, "fp32", 3, 20);
    must_embed(f, model, f->texts, MANY, expected);
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i] = (caller){f, model, expected, i * 97, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(callers[i].wrong, 0);
    }
    mf_model_close(model);
}

/* --- opening and info --------------------------------------------------------------
 */

static void wrong_options_and_folders_are_refused(void **state) {
    fixture *f = *state;
    mf_model *model = NULL;
    mf_model_options options = mf_model_options_default();
    options.precision = "int4";
    assert_true(is_code(mf_model_open(f->dir, &options, &model, f->error), "invalid"));
    assert_non_null(strstr(f->error, "int4"));
    options = mf_model_options_default();
    options.threads = MF_MODEL_THREADS_MAX + 1;
    assert_true(is_code(mf_model_open(f->dir, &options, &model, f->error), "invalid"));
    options = mf_model_options_default();
    options.cache_count = MF_MODEL_CACHE_MAX + 1;
    assert_true(is_code(mf_model_open(f->dir, &options, &model, f->error), "invalid"));
    options = mf_model_options_default();
    assert_int_not_equal(mf_model_open("/nonexistent", &options, &model, f->error), 0);
    assert_non_null(strstr(f->error, "/nonexistent"));
    assert_null(model);
    mf_model_close(NULL);
}

static yyjson_doc *parse(char *json) {
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    assert_non_null(doc);
    mf_engine_free(json);
    return doc;
}

static const char *text_of(yyjson_val *object, const char *key) {
    return yyjson_get_str(yyjson_obj_get(object, key));
}

static uint64_t count_of(yyjson_val *object, const char *key) {
    return yyjson_get_uint(yyjson_obj_get(object, key));
}

static void info_tells_the_model_and_how_it_runs(void **state) {
    fixture *f = *state;
    static const char *const packed[] = {"made", "mapped"};
    for (size_t i = 0; i < 2; i++) {
        char *json = NULL;
        mf_model *model = open_model(f, "int8", 2, 0);
        assert_int_equal(mf_model_info(model, &json, f->error), 0);
        yyjson_doc *doc = parse(json);
        yyjson_val *info = yyjson_doc_get_root(doc);
        assert_string_equal(text_of(info, "path"), f->dir);
        assert_string_equal(text_of(info, "name"), f->dir + strlen("/tmp/"));
        assert_string_equal(text_of(info, "precision"), "int8");
        assert_string_equal(text_of(info, "pooling"), "mean");
        assert_string_equal(text_of(info, "packed"), packed[i]);
        assert_int_equal(count_of(info, "dim"), TINY_HIDDEN);
        assert_int_equal(count_of(info, "layers"), TINY_LAYERS);
        assert_int_equal(count_of(info, "heads"), 2);
        assert_int_equal(count_of(info, "inner"), TINY_INNER);
        assert_int_equal(count_of(info, "window"), TINY_WINDOW);
        assert_int_equal(count_of(info, "vocab"), TINY_VOCAB);
        /* 46 rows of tables and their norm; per layer 4 x 32 x 33, 32 x 48 + 48,
         * 48 x 32 + 32 and two norms. */
        assert_int_equal(count_of(info, "parameters"), 46 * 32 + 64 + 2 * 7504);
        assert_int_equal(count_of(info, "threads"), 2);
        assert_true(count_of(info, "resident_bytes") > 1 << 20);
        assert_true(yyjson_get_real(yyjson_obj_get(info, "open_ms")) > 0.0);
        yyjson_doc_free(doc);
        mf_model_close(model);
        assert_int_equal(mf_models_clear(NULL, f->error), 0); /* the next one loads */
    }
}

static uint64_t shared_count(fixture *f, const char *key) {
    char *json = NULL;
    assert_int_equal(mf_models_info(&json, f->error), 0);
    yyjson_doc *doc = parse(json);
    uint64_t count = count_of(yyjson_doc_get_root(doc), key);
    yyjson_doc_free(doc);
    return count;
}

static void models_of_one_folder_share_their_weights(void **state) {
    fixture *f = *state;
    enum { MODELS = 10 };
    mf_model *models[MODELS];
    models[0] = open_model(f, "fp32", 1, 0);
    size_t one = mf_alloc_live_bytes();
    models[1] = open_model(f, "fp32", 1, 0);
    size_t another = mf_alloc_live_bytes() - one; /* threads, lanes, no weights */
    for (int i = 2; i < MODELS; i++) {
        models[i] = open_model(f, "fp32", 1, 0);
    }
    size_t all = mf_alloc_live_bytes();
    size_t expected = one + (MODELS - 1) * another;
    assert_true(all > expected - expected / 100 && all < expected + expected / 100);
    assert_true(another < one / 2);
    assert_int_equal(shared_count(f, "actual"), 1);
    assert_int_equal(shared_count(f, "loads"), 1);
    assert_int_equal(shared_count(f, "hits"), MODELS - 1);
    char *json = NULL;
    assert_int_equal(mf_models_clear(&json, f->error), 0);
    yyjson_doc *doc = parse(json);
    assert_int_equal(count_of(yyjson_doc_get_root(doc), "stayed"), 1);
    assert_int_equal(count_of(yyjson_doc_get_root(doc), "released"), 0);
    yyjson_doc_free(doc);
    for (int i = 0; i < MODELS; i++) {
        mf_model_close(models[i]);
    }
    assert_int_equal(shared_count(f, "actual"), 1); /* for the next one */
    assert_int_equal(mf_models_clear(NULL, f->error), 0);
    assert_int_equal(shared_count(f, "actual"), 0);
}

static void a_preloaded_model_is_there_when_it_is_opened(void **state) {
    fixture *f = *state;
    mf_model_options options = mf_model_options_default();
    options.precision = "fp32";
    assert_int_equal(mf_models_preload(f->dir, &options, f->error), 0);
    mf_model_close(open_model(f, "fp32", 1, 0));
    assert_int_equal(shared_count(f, "loads"), 1);
    assert_int_equal(shared_count(f, "hits"), 1);
    options.precision = "fp64";
    assert_true(is_code(mf_models_preload(f->dir, &options, f->error), "invalid"));
    assert_int_not_equal(mf_models_preload("/nonexistent", &options, f->error), 0);
}

static void a_reranker_is_told_about_and_gives_no_vectors(void **state) {
    fixture *f = *state;
    mf_model *model = NULL;
    char *json = NULL;
    float vector[64];
    const mf_model_text text = {"hello", 5};
    mf_model_options options = mf_model_options_default();
    options.precision = "fp32";
    assert_int_equal(mf_model_open(MF_TEST_DATA_DIR "/golden/models/bert-rank",
                                   &options, &model, f->error),
                     0);
    assert_int_equal(mf_model_info(model, &json, f->error), 0);
    yyjson_doc *doc = parse(json);
    assert_string_equal(text_of(yyjson_doc_get_root(doc), "task"), "rank");
    assert_true(
        is_code(mf_model_embed(model, &text, 1, vector, NULL, f->error), "invalid"));
    mf_model_stats stats;
    mf_model_get_stats(model, &stats);
    assert_int_equal(stats.texts, 0);
    yyjson_doc_free(doc);
    mf_model_close(model);
}

static void open_survives_each_failed_allocation(void **state) {
    fixture *f = *state;
    float out[DIM];
    mf_model_options options = mf_model_options_default();
    options.precision = "int8";
    options.threads = 2;
    mf_model_close(open_model(f, "int8", 1, 0)); /* packs, which has tests of its own */
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_model *model = NULL;
        int code = mf_model_open(f->dir, &options, &model, f->error);
        if (code == 0) {
            mf_fault_disarm();
            must_embed(f, model, f->texts, 1, out);
        } else {
            assert_true(is_code(code, "no_memory"));
            assert_null(model);
        }
        mf_model_close(model);
        mf_model_registry_process_reset();
        assert_int_equal(mf_alloc_live(), 0);
    }
}

static void open_survives_a_thread_that_does_not_start(void **state) {
    fixture *f = *state;
    mf_model_options options = mf_model_options_default();
    options.threads = 4;
    for (uint64_t nth = 0; nth < 3; nth++) {
        mf_model *model = NULL;
        mf_fault_arm(MF_FAULT_THREAD_START, nth, false);
        assert_true(
            is_code(mf_model_open(f->dir, &options, &model, f->error), "no_memory"));
        assert_true(mf_fault_fired());
        mf_fault_disarm();
        assert_null(model);
        mf_model_registry_process_reset();
        assert_int_equal(mf_alloc_live(), 0);
    }
}

/* --- folders -----------------------------------------------------------------------
 */

static void files_are_listed_with_size_and_sum(void **state) {
    fixture *f = *state;
    char path[128];
    char *json = NULL;
    (void)snprintf(path, sizeof path, "%s/1_Pooling", f->dir);
    assert_int_equal(mf_dir_make(path, NULL), MF_OK);
    tiny_file(f->dir, "1_Pooling/config.json", MF_STR("{}"));
    tiny_file(f->dir, "SHA256SUMS",
              MF_STR("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
                     "  1_Pooling/config.json\n"));
    for (int hash = 0; hash <= 1; hash++) {
        assert_int_equal(mf_model_files(f->dir, hash, &json, f->error), 0);
        yyjson_doc *doc = parse(json);
        yyjson_val *files = yyjson_doc_get_root(doc);
        yyjson_val *last = yyjson_arr_get_last(files);
        assert_int_equal(yyjson_arr_size(files), 6);
        assert_string_equal(text_of(last, "name"), "1_Pooling/config.json");
        assert_int_equal(count_of(last, "bytes"), 2);
        assert_non_null(text_of(last, "recorded"));
        assert_null(text_of(yyjson_arr_get_first(files), "recorded"));
        if (hash) {
            assert_string_equal(text_of(last, "sha256"), text_of(last, "recorded"));
        } else {
            assert_true(yyjson_is_null(yyjson_obj_get(last, "sha256")));
        }
        yyjson_doc_free(doc);
    }
    assert_true(is_code(mf_model_files("/nonexistent", 0, &json, NULL), "not_found"));
}

static void models_of_a_folder_are_listed(void **state) {
    fixture *f = *state;
    char models[128];
    char link[160];
    char *json = NULL;
    (void)snprintf(models, sizeof models, "%s/models", f->dir);
    assert_int_equal(mf_model_list(models, &json, f->error), 0);
    assert_string_equal(json, "[]");
    mf_engine_free(json);
    assert_int_equal(mf_dir_make(models, NULL), MF_OK);
    tiny_file(models, "ranks.txt", MF_STR("no model"));
    (void)snprintf(link, sizeof link, "%s/broken", models);
    assert_int_equal(mf_dir_make(link, NULL), MF_OK);
    tiny_file(link, "config.json", MF_STR("{\"model_type\":\"bert\"}"));
    (void)snprintf(link, sizeof link, "%s/tiny", models);
    assert_int_equal(symlink(f->dir, link), 0);
    mf_model_close(open_model(f, "int8", 1, 0)); /* leaves its packed weights */
    assert_int_equal(mf_model_list(models, &json, f->error), 0);
    yyjson_doc *doc = parse(json);
    yyjson_val *broken = yyjson_arr_get_first(yyjson_doc_get_root(doc));
    yyjson_val *tiny = yyjson_arr_get_last(yyjson_doc_get_root(doc));
    assert_int_equal(yyjson_arr_size(yyjson_doc_get_root(doc)), 2);
    assert_string_equal(text_of(broken, "name"), "broken");
    assert_false(yyjson_get_bool(yyjson_obj_get(broken, "usable")));
    assert_non_null(text_of(broken, "problem"));
    assert_string_equal(text_of(tiny, "name"), "tiny");
    assert_string_equal(text_of(tiny, "kind"), "bert");
    assert_true(yyjson_get_bool(yyjson_obj_get(tiny, "usable")));
    assert_int_equal(count_of(tiny, "dim"), TINY_HIDDEN);
    assert_int_equal(count_of(tiny, "window"), TINY_WINDOW);
    yyjson_val *precisions = yyjson_obj_get(tiny, "precisions");
    assert_int_equal(yyjson_arr_size(precisions), 2);
    assert_string_equal(yyjson_get_str(yyjson_arr_get(precisions, 0)), "fp32");
    assert_string_equal(yyjson_get_str(yyjson_arr_get(precisions, 1)), "int8");
    yyjson_doc_free(doc);
}

static void listing_survives_each_failed_allocation(void **state) {
    fixture *f = *state;
    char models[128];
    (void)snprintf(models, sizeof models, "%s/models/one", f->dir);
    assert_int_equal(mf_dir_make(models, NULL), MF_OK);
    tiny_file(models, "config.json", mf_str_from(tiny_config));
    tiny_file(models, "model.safetensors", MF_STR("x"));
    (void)snprintf(models, sizeof models, "%s/models", f->dir);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        char *json = NULL;
        int code = mf_model_list(models, &json, f->error);
        assert_true(code == 0 || (is_code(code, "no_memory") && json == NULL));
        mf_engine_free(json);
        mf_model_registry_process_reset();
        assert_int_equal(mf_alloc_live(), 0);
    }
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        char *json = NULL;
        int code = mf_model_files(f->dir, 0, &json, f->error);
        assert_true(code == 0 || (is_code(code, "no_memory") && json == NULL));
        mf_engine_free(json);
        mf_model_registry_process_reset();
        assert_int_equal(mf_alloc_live(), 0);
    }
}

/* --- verifying ---------------------------------------------------------------------
 */

static yyjson_doc *verify(fixture *f, size_t sentences) {
    char *json = NULL;
    mf_model_verify_options options = mf_model_verify_options_default();
    options.sentences = f->texts;
    options.sentence_count = sentences;
    if (mf_model_verify(f->dir, &options, &json, f->error) != 0) {
        fail_msg("%s", f->error);
    }
    return parse(json);
}

static void a_report_tells_agreement_and_checksums(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = verify(f, 40);
    yyjson_val *report = yyjson_doc_get_root(doc);
    yyjson_val *int8 = yyjson_arr_get_first(yyjson_obj_get(report, "precisions"));
    assert_string_equal(text_of(int8, "precision"), "int8");
    assert_int_equal(count_of(int8, "sentences"), 40);
    double least = yyjson_get_real(yyjson_obj_get(int8, "cosine_min"));
    double mean = yyjson_get_real(yyjson_obj_get(int8, "cosine_mean"));
    double recall = yyjson_get_real(yyjson_obj_get(int8, "recall_at_10"));
    assert_true(least > 0.9 && least <= mean && mean <= 1.0001);
    assert_true(recall > 0.5 && recall <= 1.0);
    bool agrees = least >= 0.99 && mean >= 0.995 && recall >= 0.97;
    assert_int_equal(yyjson_get_bool(yyjson_obj_get(int8, "passed")), agrees);
    assert_int_equal(yyjson_get_bool(yyjson_obj_get(report, "passed")), agrees);
    assert_int_equal(count_of(yyjson_obj_get(report, "files"), "checked"), 0);
    assert_int_equal(count_of(report, "tensors"), 5 + 16 * TINY_LAYERS);
    yyjson_doc_free(doc);
}

static void a_file_that_differs_from_its_checksum_fails_the_report(void **state) {
    fixture *f = *state;
    tiny_file(f->dir, "SHA256SUMS",
              MF_STR("# a comment\n"
                     "0000000000000000000000000000000000000000000000000000000000000000"
                     "  vocab.txt\n"
                     "0000000000000000000000000000000000000000000000000000000000000000"
                     "  missing.json\n"));
    yyjson_doc *doc = verify(f, 20);
    yyjson_val *report = yyjson_doc_get_root(doc);
    yyjson_val *files = yyjson_obj_get(report, "files");
    yyjson_val *wrong = yyjson_obj_get(files, "wrong");
    assert_false(yyjson_get_bool(yyjson_obj_get(report, "passed")));
    assert_int_equal(count_of(files, "checked"), 2);
    assert_string_equal(yyjson_get_str(yyjson_arr_get(wrong, 0)), "vocab.txt");
    assert_string_equal(yyjson_get_str(yyjson_arr_get(wrong, 1)), "missing.json");
    yyjson_doc_free(doc);
}

static void a_model_that_does_not_open_cannot_be_verified(void **state) {
    fixture *f = *state;
    static const tiny_damage damage = {"embeddings.LayerNorm.weight", TINY_NAN, NULL};
    char *json = NULL;
    mf_model_verify_options options = mf_model_verify_options_default();
    tiny_weights(f->dir, &damage);
    int code = mf_model_verify(f->dir, &options, &json, f->error);
    assert_true(is_code(code, "corrupt"));
    assert_non_null(strstr(f->error, "embeddings.LayerNorm.weight"));
    assert_null(json);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(vectors_have_length_one_and_the_order_of_their_texts),
        CASE(any_number_of_threads_gives_the_same_bits),
        CASE(equal_texts_are_encoded_once),
        CASE(long_texts_are_counted),
        CASE(no_text_and_empty_text_are_fine),
        CASE(refused_texts_are_named),
        CASE(progress_is_told_by_the_calling_thread_up_to_the_end),
        CASE(a_call_can_be_given_up),
        CASE(many_callers_share_a_model),
        CASE(wrong_options_and_folders_are_refused),
        CASE(info_tells_the_model_and_how_it_runs),
        CASE(models_of_one_folder_share_their_weights),
        CASE(a_preloaded_model_is_there_when_it_is_opened),
        CASE(a_reranker_is_told_about_and_gives_no_vectors),
        CASE(open_survives_each_failed_allocation),
        CASE(open_survives_a_thread_that_does_not_start),
        CASE(files_are_listed_with_size_and_sum),
        CASE(models_of_a_folder_are_listed),
        CASE(listing_survives_each_failed_allocation),
        CASE(a_report_tells_agreement_and_checksums),
        CASE(a_file_that_differs_from_its_checksum_fails_the_report),
        CASE(a_model_that_does_not_open_cannot_be_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
