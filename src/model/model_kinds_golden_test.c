/* model_kinds_golden_test.c - tiny models of every supported kind, against the ids,
 * vectors and logits of the libraries that saved them (tools/golden/
 * make_model_goldens.py).
 *
 * ctest-label: golden */
#include "model/reranker.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "model/encoder_private.h"
#include "model/tokenizer_files.h"

#define MODELS MF_TEST_DATA_DIR "/golden/models/"

enum { ROWS_MAX = 256, DIM_MAX = 32, LABELS_MAX = 4, IDS_MAX = 64, FILE_MAX = 1 << 20 };

/* Vectors have norm 1; logits reach about 3. */
#define COSINE_MIN 0.999999
#define ERROR_MAX 2e-5

static const char *const encoders[] = {"bert-cased-cls-f16", "bert-max-bf16",
                                       "distilbert-mean",    "mpnet-mean",
                                       "xlm-roberta-mean",   "bert-unigram-mean"};
static const char *const rerankers[] = {"bert-rank", "distilbert-rank", "mpnet-rank",
                                        "xlm-roberta-rank"};
enum {
    ENCODERS = sizeof encoders / sizeof encoders[0],
    RERANKERS = sizeof rerankers / sizeof rerankers[0]
};

/* One model, opened, and what the reference makes of its texts. */
typedef struct world {
    yyjson_doc *doc;
    yyjson_val *rows;
    size_t count;
    mf_encoder *encoder;
    mf_encoder_info info;
    mf_lane *lane;
} world;

static const char *folder_of(const char *name, char path[512]) {
    (void)snprintf(path, 512, "%s%s", MODELS, name);
    return path;
}

/* Opening in int8 would leave a file in the source: what is tested is copied away. */
static void copy_file(const char *from, const char *to, const char *name) {
    char path[600];
    mf_buf bytes;
    mf_err err;
    mf_buf_init(&bytes, FILE_MAX);
    (void)snprintf(path, sizeof path, "%s/%s", from, name);
    if (mf_file_read(path, &bytes, NULL) == MF_OK) {
        (void)snprintf(path, sizeof path, "%s/%s", to, name);
        if (mf_file_write_atomic(path, mf_buf_view(&bytes), &err) != MF_OK) {
            fail_msg("%s", err.text);
        }
    }
    mf_buf_done(&bytes);
}

static const char *const files[] = {"config.json",
                                    "model.safetensors",
                                    "modules.json",
                                    "tokenizer.json",
                                    "vocab.txt",
                                    "tokenizer_config.json",
                                    "1_Pooling/config.json",
                                    "sentence_bert_config.json"};
enum { FILES = sizeof files / sizeof files[0] };

static void copy_model(const char *name, char to[64]) {
    char from[512];
    char pooling[96];
    (void)snprintf(to, 64, "/tmp/mf-model-kinds-XXXXXX");
    assert_non_null(mkdtemp(to));
    (void)snprintf(pooling, sizeof pooling, "%s/1_Pooling", to);
    assert_int_equal(mf_dir_make(pooling, NULL), MF_OK);
    for (size_t i = 0; i < FILES; i++) {
        copy_file(folder_of(name, from), to, files[i]);
    }
}

static void remove_model(const char *dir) {
    char path[600];
    for (size_t i = 0; i <= FILES; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir,
                       i < FILES ? files[i] : MF_PACK_FILE);
        (void)unlink(path); /* not every kind has it */
    }
    (void)snprintf(path, sizeof path, "%s/1_Pooling", dir);
    (void)rmdir(path);
    assert_int_equal(rmdir(dir), 0);
}

static void world_open_at(world *w, const char *name, const char *dir,
                          mf_cpu_level level, const mf_encoder_options *options) {
    char path[600];
    mf_err err;
    mf_buf text;
    *w = (world){0};
    mf_buf_init(&text, FILE_MAX);
    (void)snprintf(path, sizeof path, "%s%s/reference.json", MODELS, name);
    assert_int_equal(mf_file_read(path, &text, NULL), MF_OK);
    w->doc = yyjson_read(text.p, text.len, 0);
    mf_buf_done(&text);
    bool ranks = options->task == MF_TASK_RANK;
    w->rows = yyjson_obj_get(yyjson_doc_get_root(w->doc), ranks ? "pairs" : "texts");
    w->count = yyjson_arr_size(w->rows);
    assert_in_range(w->count, 20, ROWS_MAX);
    if (mf_encoder_open_at(dir, level, options, &w->encoder, &err) != MF_OK ||
        mf_lane_open(w->encoder, &w->lane, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    mf_encoder_get_info(w->encoder, &w->info);
}

static void world_open(world *w, const char *name, mf_model_task task) {
    char dir[512];
    const mf_encoder_options options = {.precision = MF_PRECISION_FP32, .task = task};
    world_open_at(w, name, folder_of(name, dir), mf_cpu_best(), &options);
}

static void world_close(world *w) {
    mf_lane_close(w->lane);
    (void)mf_encoder_unref(w->encoder);
    yyjson_doc_free(w->doc);
}

static mf_str text_of(yyjson_val *row, const char *key) {
    return mf_json_text(yyjson_obj_get(row, key));
}

static void read_floats(yyjson_val *list, float *out, size_t count) {
    assert_int_equal(yyjson_arr_size(list), count);
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)yyjson_get_num(yyjson_arr_get(list, i));
    }
}

static void check_ids(const world *w, const char *name, size_t row, const int32_t *ids,
                      size_t count) {
    yyjson_val *wanted = yyjson_obj_get(yyjson_arr_get(w->rows, row), "ids");
    bool equal = yyjson_arr_size(wanted) == count;
    for (size_t i = 0; equal && i < count; i++) {
        equal = yyjson_get_int(yyjson_arr_get(wanted, i)) == ids[i];
    }
    if (!equal) {
        for (size_t i = 0; i < count; i++) {
            print_error("%d ", ids[i]);
        }
        fail_msg("%s row %zu: %zu ids, expected %s", name, row, count,
                 yyjson_val_write(wanted, 0, NULL));
    }
}

static double cosine(const float *a, const float *b, size_t dim) {
    double ab = 0.0;
    double aa = 0.0;
    double bb = 0.0;
    for (size_t i = 0; i < dim; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static double largest_error(const float *a, const float *b, size_t count) {
    double most = 0.0;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    }
    return most;
}

/* --- sentence encoders ------------------------------------------------------------ */

static void every_encoder_gets_the_reference_ids(void **state) {
    (void)state;
    for (size_t k = 0; k < ENCODERS; k++) {
        world w;
        int32_t ids[IDS_MAX];
        world_open(&w, encoders[k], MF_TASK_ENCODE);
        for (size_t row = 0; row < w.count; row++) {
            mf_str text = text_of(yyjson_arr_get(w.rows, row), "text");
            size_t count = mf_model_tokenizer_encode(mf_encoder_tokenizer(w.encoder),
                                                     text, ids, w.info.window, NULL);
            check_ids(&w, encoders[k], row, ids, count);
        }
        world_close(&w);
    }
}

/* All rows in calls of `batch` texts, into out [count, dim]. */
static void encode_rows(world *w, size_t batch, float *out) {
    mf_err err;
    for (size_t at = 0; at < w->count; at += batch) {
        mf_str texts[MF_ENCODE_BATCH_MAX];
        size_t take = w->count - at < batch ? w->count - at : batch;
        for (size_t i = 0; i < take; i++) {
            texts[i] = text_of(yyjson_arr_get(w->rows, at + i), "text");
        }
        if (mf_lane_encode(w->lane, texts, take, MF_NEVER, out + at * w->info.dim, NULL,
                           &err) != MF_OK) {
            fail_msg("%s", err.text);
        }
    }
}

static void every_encoder_gets_the_reference_vectors(void **state) {
    (void)state;
    static float vectors[ROWS_MAX * DIM_MAX];
    for (size_t k = 0; k < ENCODERS; k++) {
        world w;
        double lowest = 1.0;
        double error = 0.0;
        world_open(&w, encoders[k], MF_TASK_ENCODE);
        assert_int_equal(w.info.dim, DIM_MAX);
        encode_rows(&w, MF_ENCODE_BATCH_MAX, vectors);
        for (size_t row = 0; row < w.count; row++) {
            float wanted[DIM_MAX];
            const float *found = vectors + row * DIM_MAX;
            read_floats(yyjson_obj_get(yyjson_arr_get(w.rows, row), "vector"), wanted,
                        DIM_MAX);
            lowest = fmin(lowest, cosine(found, wanted, DIM_MAX));
            error = fmax(error, largest_error(found, wanted, DIM_MAX));
        }
        print_message("%-20s %zu texts, cosine at least 1 - %.1e, error %.1e\n",
                      encoders[k], w.count, 1.0 - lowest, error);
        assert_true(lowest >= COSINE_MIN);
        assert_true(error <= ERROR_MAX);
        world_close(&w);
    }
}

static void fewer_dimensions_are_the_first_ones_of_norm_1(void **state) {
    (void)state;
    enum { FEW = 12 };
    static float whole[ROWS_MAX * DIM_MAX];
    static float few[ROWS_MAX * DIM_MAX];
    char dir[512];
    world w;
    mf_encoder_options options = {.precision = MF_PRECISION_FP32, .dimensions = FEW};
    world_open(&w, "mpnet-mean", MF_TASK_ENCODE);
    encode_rows(&w, MF_ENCODE_BATCH_MAX, whole);
    world_close(&w);
    world_open_at(&w, "mpnet-mean", folder_of("mpnet-mean", dir), mf_cpu_best(),
                  &options);
    assert_int_equal(w.info.dim, FEW);
    encode_rows(&w, MF_ENCODE_BATCH_MAX, few);
    for (size_t row = 0; row < w.count; row++) {
        double norm = 0.0;
        for (size_t i = 0; i < FEW; i++) {
            norm += pow((double)few[row * FEW + i], 2.0);
        }
        assert_true(fabs(norm - 1.0) < 1e-6);
        assert_true(cosine(few + row * FEW, whole + row * DIM_MAX, FEW) > 0.9999999);
    }
    world_close(&w);
}

/* --- rerankers -------------------------------------------------------------------- */

/* All rows, those with one query and at most `batch` at a time in one call. */
static size_t score_rows(world *w, size_t batch, float *out) {
    size_t truncated = 0;
    for (size_t at = 0; at < w->count;) {
        mf_str query = text_of(yyjson_arr_get(w->rows, at), "query");
        mf_str texts[MF_ENCODE_BATCH_MAX];
        size_t take = 0;
        size_t cut = 0;
        mf_err err;
        while (at + take < w->count && take < batch &&
               mf_str_eq(text_of(yyjson_arr_get(w->rows, at + take), "query"), query)) {
            texts[take] = text_of(yyjson_arr_get(w->rows, at + take), "text");
            take++;
        }
        if (mf_lane_score(w->lane, query, texts, take, MF_NEVER,
                          out + at * w->info.labels, &cut, &err) != MF_OK) {
            fail_msg("%s", err.text);
        }
        truncated += cut;
        at += take;
    }
    return truncated;
}

static void every_reranker_gets_the_reference_ids_and_types(void **state) {
    (void)state;
    for (size_t k = 0; k < RERANKERS; k++) {
        world w;
        world_open(&w, rerankers[k], MF_TASK_RANK);
        for (size_t row = 0; row < w.count; row++) {
            int32_t query_ids[IDS_MAX];
            int32_t text_ids[IDS_MAX];
            int32_t ids[IDS_MAX];
            mf_pair_query query;
            size_t second = 0;
            bool cut = false;
            yyjson_val *pair = yyjson_arr_get(w.rows, row);
            mf_pair_begin(w.encoder, text_of(pair, "query"), query_ids, &query);
            size_t count = mf_pair_encode(w.encoder, &query, text_of(pair, "text"),
                                          text_ids, ids, &second, &cut);
            check_ids(&w, rerankers[k], row, ids, count);
            const mf_token_group group = {.lengths = &count, .seconds = &second};
            for (size_t i = 0; i < count; i++) {
                yyjson_val *type = yyjson_arr_get(yyjson_obj_get(pair, "types"), i);
                assert_int_equal(yyjson_get_int(type),
                                 mf_group_type(w.encoder, &group, 0, i));
            }
        }
        world_close(&w);
    }
}

static void every_reranker_gets_the_reference_logits(void **state) {
    (void)state;
    static float logits[ROWS_MAX * LABELS_MAX];
    static const size_t labels[RERANKERS] = {1, 2, 3, 1};
    for (size_t k = 0; k < RERANKERS; k++) {
        world w;
        double error = 0.0;
        world_open(&w, rerankers[k], MF_TASK_RANK);
        assert_int_equal(w.info.labels, labels[k]);
        size_t truncated = score_rows(&w, MF_ENCODE_BATCH_MAX, logits);
        for (size_t row = 0; row < w.count; row++) {
            float wanted[LABELS_MAX];
            read_floats(yyjson_obj_get(yyjson_arr_get(w.rows, row), "logits"), wanted,
                        w.info.labels);
            error = fmax(error, largest_error(logits + row * w.info.labels, wanted,
                                              w.info.labels));
        }
        print_message("%-20s %zu pairs, %zu cut, error %.1e\n", rerankers[k], w.count,
                      truncated, error);
        assert_true(error <= ERROR_MAX);
        assert_in_range(truncated, 5, w.count - 1);
        world_close(&w);
    }
}

/* --- every precision and kernel --------------------------------------------------- */

static size_t results_of(world *w, mf_model_task task, size_t batch, float *out) {
    if (task == MF_TASK_RANK) {
        (void)score_rows(w, batch, out);
        return w->count * w->info.labels;
    }
    encode_rows(w, batch, out);
    return w->count * w->info.dim;
}

static void check_kind(const char *name, mf_model_task task, mf_precision precision) {
    static float together[ROWS_MAX * DIM_MAX];
    static float alone[ROWS_MAX * DIM_MAX];
    char dir[64];
    const mf_encoder_options options = {.precision = precision, .task = task};
    world w;
    copy_model(name, dir);
    for (int again = 0; again < 2; again++) { /* int8: made, then mapped */
        world_open_at(&w, name, dir, mf_cpu_best(), &options);
        size_t count = results_of(&w, task, MF_ENCODE_BATCH_MAX, together);
        assert_int_equal(results_of(&w, task, 1, alone), count);
        assert_memory_equal(alone, together, count * sizeof *alone);
        world_close(&w);
    }
    remove_model(dir);
}

static void every_kind_has_the_same_bits_alone_and_in_any_batch(void **state) {
    (void)state;
    for (mf_precision p = MF_PRECISION_FP32; p <= MF_PRECISION_INT8; p++) {
        for (size_t k = 0; k < ENCODERS; k++) {
            check_kind(encoders[k], MF_TASK_ENCODE, p);
        }
        for (size_t k = 0; k < RERANKERS; k++) {
            check_kind(rerankers[k], MF_TASK_RANK, p);
        }
    }
}

/* Random weights of 32 numbers are rounded worse than real ones; still, int8 must point
 * the same way. */
static void check_int8(const char *name, mf_model_task task, double *worst) {
    static float rough[ROWS_MAX * DIM_MAX];
    char dir[64];
    const mf_encoder_options options = {.precision = MF_PRECISION_INT8, .task = task};
    world w;
    copy_model(name, dir);
    world_open_at(&w, name, dir, mf_cpu_best(), &options);
    assert_string_equal(w.info.precision, "int8");
    (void)results_of(&w, task, MF_ENCODE_BATCH_MAX, rough);
    bool ranks = task == MF_TASK_RANK;
    size_t width = ranks ? w.info.labels : w.info.dim;
    for (size_t row = 0; row < w.count; row++) {
        float wanted[DIM_MAX];
        read_floats(
            yyjson_obj_get(yyjson_arr_get(w.rows, row), ranks ? "logits" : "vector"),
            wanted, width);
        const float *found = rough + row * width;
        *worst = ranks ? fmax(*worst, largest_error(found, wanted, width))
                       : fmin(*worst, cosine(found, wanted, width));
    }
    world_close(&w);
    remove_model(dir);
}

static void int8_stays_near_the_reference_in_every_kind(void **state) {
    (void)state;
    for (size_t k = 0; k < ENCODERS; k++) {
        double lowest = 1.0;
        check_int8(encoders[k], MF_TASK_ENCODE, &lowest);
        print_message("%-20s int8: cosine at least %.4f\n", encoders[k], lowest);
        assert_true(lowest >= 0.98);
    }
    for (size_t k = 0; k < RERANKERS; k++) {
        double error = 0.0;
        check_int8(rerankers[k], MF_TASK_RANK, &error);
        print_message("%-20s int8: logits within %.3f\n", rerankers[k], error);
        assert_true(error <= 0.5);
    }
}

static void every_kernel_set_gives_the_reference(void **state) {
    (void)state;
    static float found[ROWS_MAX * DIM_MAX];
    char dir[512];
    const mf_encoder_options options = {.precision = MF_PRECISION_FP32};
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        world w;
        if (!mf_cpu_has(level)) {
            continue;
        }
        world_open_at(&w, "mpnet-mean", folder_of("mpnet-mean", dir), level, &options);
        encode_rows(&w, MF_ENCODE_BATCH_MAX, found);
        for (size_t row = 0; row < w.count; row++) {
            float wanted[DIM_MAX];
            read_floats(yyjson_obj_get(yyjson_arr_get(w.rows, row), "vector"), wanted,
                        DIM_MAX);
            assert_true(largest_error(found + row * DIM_MAX, wanted, DIM_MAX) <=
                        ERROR_MAX);
        }
        world_close(&w);
    }
}

/* --- refusals --------------------------------------------------------------------- */

static void a_folder_for_the_other_task_is_refused(void **state) {
    (void)state;
    char dir[512];
    mf_err err;
    mf_encoder *encoder = NULL;
    mf_encoder_options options = {.precision = MF_PRECISION_FP32};
    assert_int_equal(
        mf_encoder_open(folder_of("bert-rank", dir), &options, &encoder, &err),
        MF_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "expected a sentence encoder"));
    options.task = MF_TASK_RANK;
    assert_int_equal(
        mf_encoder_open(folder_of("mpnet-mean", dir), &options, &encoder, &err),
        MF_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "expected a reranker"));
    options = (mf_encoder_options){.precision = MF_PRECISION_FP32, .dimensions = 33};
    assert_int_equal(
        mf_encoder_open(folder_of("mpnet-mean", dir), &options, &encoder, &err),
        MF_E_INVAL);
    assert_non_null(strstr(err.text, "33 dimensions"));
    assert_null(encoder);
}

/* Gives a tensor of the copied model another name, of the same length. */
static void rename_tensor(const char *dir, const char *name) {
    char path[600];
    mf_buf bytes;
    mf_err err;
    mf_buf_init(&bytes, FILE_MAX);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(mf_file_read(path, &bytes, &err), MF_OK);
    char quoted[160];
    (void)snprintf(quoted, sizeof quoted, "\"%s\"", name);
    size_t at = mf_str_find(mf_buf_view(&bytes), mf_str_from(quoted), 0);
    assert_true(at < bytes.len);
    bytes.p[at + strlen(name)] = '?';
    assert_int_equal(mf_file_write_atomic(path, mf_buf_view(&bytes), &err), MF_OK);
    mf_buf_done(&bytes);
}

static void a_missing_tensor_is_named_in_every_kind(void **state) {
    (void)state;
    static const struct {
        const char *model, *tensor;
    } cases[] = {
        {"bert-cased-cls-f16", "encoder.layer.1.attention.self.key.weight"},
        {"bert-max-bf16", "bert.embeddings.token_type_embeddings.weight"},
        {"distilbert-mean", "transformer.layer.0.attention.out_lin.bias"},
        {"distilbert-mean", "transformer.layer.1.output_layer_norm.weight"},
        {"mpnet-mean", "encoder.relative_attention_bias.weight"},
        {"mpnet-mean", "encoder.layer.0.attention.attn.o.weight"},
        {"xlm-roberta-mean", "embeddings.position_embeddings.weight"},
        {"bert-rank", "bert.pooler.dense.weight"},
        {"bert-rank", "classifier.bias"},
        {"distilbert-rank", "pre_classifier.weight"},
        {"mpnet-rank", "classifier.out_proj.weight"},
        {"xlm-roberta-rank", "classifier.dense.bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[64];
        char wanted[160];
        mf_err err;
        mf_encoder *encoder = NULL;
        bool ranks = strstr(cases[i].model, "rank") != NULL;
        const mf_encoder_options options = {.precision = MF_PRECISION_INT8,
                                            .task =
                                                ranks ? MF_TASK_RANK : MF_TASK_ENCODE};
        copy_model(cases[i].model, dir);
        rename_tensor(dir, cases[i].tensor);
        (void)snprintf(wanted, sizeof wanted, "tensor '%s' is missing, expected F",
                       cases[i].tensor);
        assert_int_equal(mf_encoder_open(dir, &options, &encoder, &err), MF_E_CORRUPT);
        if (strstr(err.text, wanted) == NULL) {
            fail_msg("expected '%s': %s", wanted, err.text);
        }
        assert_null(encoder);
        remove_model(dir);
    }
}

static void a_lane_of_the_other_task_refuses_the_call(void **state) {
    (void)state;
    world w;
    mf_err err;
    float out[DIM_MAX];
    const mf_str text = MF_STR("fox");
    world_open(&w, "bert-rank", MF_TASK_RANK);
    assert_int_equal(mf_lane_encode(w.lane, &text, 1, MF_NEVER, out, NULL, &err),
                     MF_E_INVAL);
    assert_non_null(strstr(err.text, "reranker"));
    assert_int_equal(mf_lane_score(w.lane, text, &text, 1, 0, out, NULL, &err),
                     MF_E_TIMEOUT);
    world_close(&w);
    world_open(&w, "mpnet-mean", MF_TASK_ENCODE);
    assert_int_equal(mf_lane_score(w.lane, text, &text, 1, MF_NEVER, out, NULL, &err),
                     MF_E_INVAL);
    assert_non_null(strstr(err.text, "sentence encoder"));
    world_close(&w);
}

static void opening_survives_each_failed_allocation(void **state) {
    (void)state;
    static const char *const names[] = {"bert-cased-cls-f16", "xlm-roberta-rank"};
    for (size_t k = 0; k < 2; k++) {
        char dir[512];
        const mf_encoder_options options = {.precision = MF_PRECISION_FP32,
                                            .task =
                                                k == 0 ? MF_TASK_ENCODE : MF_TASK_RANK};
        size_t live = mf_alloc_live();
        MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
            mf_encoder *encoder = NULL;
            mf_lane *lane = NULL;
            mf_err err;
            mf_rc rc =
                mf_encoder_open(folder_of(names[k], dir), &options, &encoder, &err);
            if (rc == MF_OK) {
                rc = mf_lane_open(encoder, &lane, &err);
            }
            assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
            mf_lane_close(lane);
            (void)mf_encoder_unref(encoder);
            assert_int_equal(mf_alloc_live(), live);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoder_gets_the_reference_ids),
        cmocka_unit_test(every_encoder_gets_the_reference_vectors),
        cmocka_unit_test(fewer_dimensions_are_the_first_ones_of_norm_1),
        cmocka_unit_test(every_reranker_gets_the_reference_ids_and_types),
        cmocka_unit_test(every_reranker_gets_the_reference_logits),
        cmocka_unit_test(every_kind_has_the_same_bits_alone_and_in_any_batch),
        cmocka_unit_test(int8_stays_near_the_reference_in_every_kind),
        cmocka_unit_test(every_kernel_set_gives_the_reference),
        cmocka_unit_test(a_folder_for_the_other_task_is_refused),
        cmocka_unit_test(a_missing_tensor_is_named_in_every_kind),
        cmocka_unit_test(a_lane_of_the_other_task_refuses_the_call),
        cmocka_unit_test(opening_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
