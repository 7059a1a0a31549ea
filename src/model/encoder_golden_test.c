/* encoder_golden_test.c - the real model against the vectors of the reference
 * implementation (tests/data/golden/README.md).
 *
 * ctest-label: golden */
#include "model/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#define XXH_STATIC_LINKING_ONLY /* the state on the stack */
#include <xxhash.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "model/encoder_private.h"
#include "os/file.h"

enum { DIM = 384, TEXTS_MAX = 4096, TEXTS_FOR_RANKING = 100, FILE_MAX = 64 << 20 };

/* Sanitizers and emulators slow the kernels down many times: their builds take every
 * n-th text. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SLOW
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) ||                   \
    defined(MF_TEST_SLOW)
#define SLOW
#endif
#if defined(SLOW)
enum { STEP = 16, SCALAR_TEXTS = 2 };
#else
enum { STEP = 1, SCALAR_TEXTS = 6 };
#endif

typedef struct golden {
    yyjson_doc *lines[TEXTS_MAX];
    mf_str texts[TEXTS_MAX];
    float *vectors; /* [count, DIM] */
    size_t count;
    mf_encoder *encoder; /* fp32 */
    mf_lane *lane;
    mf_encoder *encoder8;
    mf_lane *lane8;
    mf_encoder *encoder16; /* bf16 */
    mf_lane *lane16;
} golden;

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        fail_msg("%s", err->text);
    }
}

static void load_texts(golden *g) {
    mf_err err;
    mf_buf file;
    mf_buf_init(&file, FILE_MAX);
    must(mf_file_read(MF_TEST_DATA_DIR "/golden/texts.jsonl", &file, &err), &err);
    mf_str rest = mf_buf_view(&file);
    for (size_t n = 0; rest.len > 0; n++) {
        mf_str line = mf_str_split(&rest, '\n');
        if (n % STEP != 0) {
            continue;
        }
        assert_true(g->count < TEXTS_MAX);
        yyjson_doc *doc = yyjson_read(line.p, line.len, 0);
        assert_non_null(doc);
        yyjson_val *text = yyjson_obj_get(yyjson_doc_get_root(doc), "text");
        g->texts[g->count] = (mf_str){yyjson_get_str(text), yyjson_get_len(text)};
        g->lines[g->count] = doc;
        g->count++;
    }
    mf_buf_clear(&file);
    must(mf_file_read(MF_TEST_DATA_DIR "/golden/vectors.f32", &file, &err), &err);
    g->vectors = mf_alloc_array(g->count * DIM, sizeof(float));
    assert_non_null(g->vectors);
    assert_true(file.len >= ((g->count - 1) * STEP + 1) * DIM * sizeof(float));
    for (size_t i = 0; i < g->count; i++) {
        memcpy(g->vectors + i * DIM, file.p + i * STEP * DIM * sizeof(float),
               DIM * sizeof(float));
    }
    mf_buf_done(&file);
}

static void open_as(mf_precision precision, mf_cpu_level level, mf_encoder **encoder,
                    mf_lane **lane) {
    const mf_encoder_options options = {.precision = precision};
    mf_err err;
    must(mf_encoder_open_at(MF_TEST_MODEL_DIR, level, &options, encoder, &err), &err);
    must(mf_lane_open(*encoder, lane, &err), &err);
}

static int open_all(void **state) {
    static golden g;
    load_texts(&g);
    open_as(MF_PRECISION_FP32, mf_cpu_best(), &g.encoder, &g.lane);
    open_as(MF_PRECISION_INT8, mf_cpu_best(), &g.encoder8, &g.lane8);
    open_as(MF_PRECISION_BF16, mf_cpu_best(), &g.encoder16, &g.lane16);
    mf_encoder_info info;
    mf_encoder_get_info(g.encoder, &info);
    print_message("%zu texts, model %s, kernels %s\n", g.count, info.name, info.kernel);
    *state = &g;
    return 0;
}

static int close_all(void **state) {
    golden *g = *state;
    mf_lane_close(g->lane);
    (void)mf_encoder_unref(g->encoder);
    mf_lane_close(g->lane8);
    (void)mf_encoder_unref(g->encoder8);
    mf_lane_close(g->lane16);
    (void)mf_encoder_unref(g->encoder16);
    for (size_t i = 0; i < g->count; i++) {
        yyjson_doc_free(g->lines[i]);
    }
    mf_free(g->vectors);
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static double cosine(const float *a, const float *b) {
    double product = 0.0;
    double aa = 0.0;
    double bb = 0.0;
    for (size_t i = 0; i < DIM; i++) {
        product += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    assert_true(fabs(aa - 1.0) < 1e-5);
    return product / sqrt(aa * bb);
}

/* All texts through one lane, `batch` at a time. */
static float *encode_all(golden *g, mf_lane *lane, size_t count, size_t batch) {
    mf_err err;
    float *out = mf_alloc_array(count * DIM, sizeof *out);
    assert_non_null(out);
    for (size_t at = 0; at < count; at += batch) {
        size_t take = count - at < batch ? count - at : batch;
        must(mf_lane_encode(lane, g->texts + at, take, MF_NEVER, out + at * DIM, NULL,
                            &err),
             &err);
    }
    return out;
}

static void check_cosines(const golden *g, const float *vectors, double floor,
                          double mean_floor) {
    double lowest = 1.0;
    double sum = 0.0;
    for (size_t i = 0; i < g->count; i++) {
        double value = cosine(vectors + i * DIM, g->vectors + i * DIM);
        lowest = value < lowest ? value : lowest;
        sum += value;
        if (value < floor) {
            print_error("text %zu: '%.*s'\n", i, MF_STR_ARGS(g->texts[i]));
        }
    }
    double mean = sum / (double)g->count;
    print_message("cosine at least 1 - %.2e, mean 1 - %.2e\n", 1.0 - lowest,
                  1.0 - mean);
    assert_true(lowest >= floor);
    assert_true(mean >= mean_floor);
}

static void texts_get_the_reference_vectors(void **state) {
    golden *g = *state;
    float *vectors = encode_all(g, g->lane, g->count, MF_ENCODE_BATCH_MAX);
    check_cosines(g, vectors, 0.999999, 0.999999);
    mf_free(vectors);
}

static void reference_ids_give_the_reference_vectors(void **state) {
    golden *g = *state;
    mf_err err;
    float *vectors = mf_alloc_array(g->count * DIM, sizeof *vectors);
    assert_non_null(vectors);
    for (size_t i = 0; i < g->count; i++) {
        yyjson_val *list =
            yyjson_obj_get(yyjson_doc_get_root(g->lines[i]), "wordpiece");
        int32_t ids[512];
        size_t length = yyjson_arr_size(list);
        assert_in_range(length, 2, 512);
        for (size_t k = 0; k < length; k++) {
            ids[k] = (int32_t)yyjson_get_int(yyjson_arr_get(list, k));
        }
        must(mf_lane_encode_ids(g->lane, ids, &length, 1, MF_NEVER, vectors + i * DIM,
                                &err),
             &err);
    }
    check_cosines(g, vectors, 0.999999, 0.999999);
    mf_free(vectors);
}

static void int8_keeps_its_cosine_to_the_reference(void **state) {
    golden *g = *state;
    float *vectors = encode_all(g, g->lane8, g->count, MF_ENCODE_BATCH_MAX);
    check_cosines(g, vectors, 0.99, 0.995);
    mf_free(vectors);
}

static void bf16_keeps_its_cosine_to_the_reference(void **state) {
    golden *g = *state;
    float *vectors = encode_all(g, g->lane16, g->count, MF_ENCODE_BATCH_MAX);
    check_cosines(g, vectors, 0.9990, 0.9999);
    mf_free(vectors);
}

static double dot(const float *a, const float *b) {
    double sum = 0.0;
    for (size_t i = 0; i < DIM; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* The NEAR rows nearest to row `query`, itself left out, in no order. */
enum { NEAR = 10 };
static void nearest(const float *vectors, size_t count, size_t query,
                    size_t rows[NEAR]) {
    double scores[NEAR];
    size_t kept = 0;
    for (size_t row = 0; row < count; row++) {
        double score = dot(vectors + query * DIM, vectors + row * DIM);
        if (row == query || (kept == NEAR && score <= scores[NEAR - 1])) {
            continue;
        }
        size_t at = kept < NEAR ? kept++ : NEAR - 1;
        for (; at > 0 && scores[at - 1] < score; at--) {
            scores[at] = scores[at - 1];
            rows[at] = rows[at - 1];
        }
        scores[at] = score;
        rows[at] = row;
    }
}

/* Of the ten golden texts nearest to each by the reference's vectors, int8 finds nearly
 * all.  The texts were not written to be alike: many of the ten are nearly as far as
 * the eleventh. */
static void int8_finds_the_neighbours_of_the_reference(void **state) {
    golden *g = *state;
    size_t found = 0;
    if (g->count < TEXTS_FOR_RANKING) {
        print_message("too few texts in this build\n");
        return;
    }
    float *vectors = encode_all(g, g->lane8, g->count, MF_ENCODE_BATCH_MAX);
    for (size_t query = 0; query < g->count; query++) {
        size_t exact[NEAR];
        size_t rough[NEAR];
        nearest(g->vectors, g->count, query, exact);
        nearest(vectors, g->count, query, rough);
        for (size_t i = 0; i < (size_t)NEAR * NEAR; i++) {
            found += exact[i / NEAR] == rough[i % NEAR];
        }
    }
    double recall = (double)found / (double)(g->count * NEAR);
    print_message("recall@10 of int8: %.4f\n", recall);
    assert_true(recall >= 0.965);
    mf_free(vectors);
}

/* What runs several times runs these texts only, where it is slow. */
static size_t some_texts(const golden *g) {
    return g->count < 64 ? g->count : 64;
}

static void check_batches(golden *g, mf_lane *lane, size_t count) {
    static const size_t batches[] = {5, MF_ENCODE_BATCH_MAX};
    float *alone = encode_all(g, lane, count, 1);
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        float *together = encode_all(g, lane, count, batches[b]);
        assert_memory_equal(alone, together, count * DIM * sizeof *alone);
        mf_free(together);
    }
    mf_free(alone);
}

static void a_text_has_the_same_bits_alone_and_in_any_batch(void **state) {
    golden *g = *state;
    check_batches(g, g->lane, g->count);
    check_batches(g, g->lane8, g->count);
    check_batches(g, g->lane16, some_texts(g));
}

/* All variants run the same operations in the same order, but for the linear layers of
 * fp32 in plain C, which round products of their own. */
static void check_level(golden *g, mf_precision precision, mf_cpu_level level) {
    mf_encoder *encoder = NULL;
    mf_lane *lane = NULL;
    bool scalar = level == MF_CPU_SCALAR;
    bool fp32 = precision == MF_PRECISION_FP32;
    mf_lane *best_lane = fp32                             ? g->lane
                         : precision == MF_PRECISION_INT8 ? g->lane8
                                                          : g->lane16;
    open_as(precision, level, &encoder, &lane);
    size_t count = scalar                           ? SCALAR_TEXTS
                   : precision == MF_PRECISION_BF16 ? some_texts(g)
                                                    : g->count;
    float *best = encode_all(g, best_lane, count, MF_ENCODE_BATCH_MAX);
    float *vectors = encode_all(g, lane, count, MF_ENCODE_BATCH_MAX);
    for (size_t i = 0; scalar && fp32 && i < count * DIM; i++) {
        assert_true(fabsf(vectors[i] - best[i]) < 2e-6F);
    }
    if (!scalar || !fp32) {
        assert_memory_equal(vectors, best, count * DIM * sizeof *best);
    }
    mf_free(vectors);
    mf_free(best);
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
}

static void every_kernel_set_gives_the_same_vectors(void **state) {
    golden *g = *state;
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        if (mf_cpu_has(level) && level != mf_cpu_best()) {
            check_level(g, MF_PRECISION_FP32, level);
            check_level(g, MF_PRECISION_INT8, level);
            check_level(g, MF_PRECISION_BF16, level);
        }
    }
}

/* The bits of int8 vectors, of the golden texts that every build looks at: packing the
 * model and encoding with it must give them on each processor with vector kernels. */
static void int8_gives_the_same_bits_on_every_machine(void **state) {
    golden *g = *state;
    enum { EVERY = 16 };
    const uint64_t expected = 0xa38dd2277efe6ccc;
    XXH3_state_t hash;
    if (mf_cpu_best() == MF_CPU_SCALAR) {
        return; /* its fp32 pass, which packing goes by, rounds in another way */
    }
    assert_int_equal(XXH3_64bits_reset(&hash), XXH_OK);
    float *vectors = encode_all(g, g->lane8, g->count, MF_ENCODE_BATCH_MAX);
    for (size_t i = 0; i < g->count; i += EVERY / STEP) {
        assert_int_equal(
            XXH3_64bits_update(&hash, vectors + i * DIM, DIM * sizeof *vectors),
            XXH_OK);
    }
    mf_free(vectors);
    assert_int_equal(XXH3_64bits_digest(&hash), expected);
}

static void this_model_runs_in_int8_by_itself(void **state) {
    (void)state;
    mf_encoder *encoder = NULL;
    mf_lane *lane = NULL;
    mf_encoder_info info;
    open_as(MF_PRECISION_AUTO, mf_cpu_best(), &encoder, &lane);
    mf_encoder_get_info(encoder, &info);
    assert_string_equal(info.precision,
                        mf_cpu_best() == MF_CPU_SCALAR ? "fp32" : "int8");
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
}

static void texts_beyond_the_window_are_counted(void **state) {
    golden *g = *state;
    static char words[6 * 300];
    for (size_t i = 0; i < sizeof words; i++) {
        words[i] = "hello "[i % 6];
    }
    const mf_str long_text = {words, sizeof words};
    const mf_str fits = {words, (size_t)6 * 254}; /* and [CLS] and [SEP]: 256 */
    const mf_str texts[] = {MF_STR("short"), long_text, fits, long_text};
    float out[4 * DIM];
    size_t truncated = 99;
    mf_err err;
    must(mf_lane_encode(g->lane, texts, 4, MF_NEVER, out, &truncated, &err), &err);
    assert_int_equal(truncated, 2);
    /* What is dropped has no influence. */
    assert_memory_equal(out + DIM, out + 2 * DIM, DIM * sizeof *out);
    must(mf_lane_encode(g->lane, texts, 1, MF_NEVER, out, &truncated, &err), &err);
    assert_int_equal(truncated, 0);
    must(mf_lane_encode(g->lane, texts, 0, MF_NEVER, out, &truncated, &err), &err);
    assert_int_equal(truncated, 0);
}

static void a_passed_deadline_stops_and_leaves_the_lane_usable(void **state) {
    golden *g = *state;
    mf_err err;
    float before[DIM];
    float after[DIM];
    size_t truncated = 7;
    const mf_str text = MF_STR("the quick brown fox");
    must(mf_lane_encode(g->lane, &text, 1, MF_NEVER, before, NULL, &err), &err);
    assert_int_equal(
        mf_lane_encode(g->lane, &text, 1, mf_now_ns() - 1, after, &truncated, &err),
        MF_E_TIMEOUT);
    assert_int_equal(err.rc, MF_E_TIMEOUT);
    assert_int_equal(truncated, 7);
    must(mf_lane_encode(g->lane, &text, 1, MF_NEVER, after, NULL, &err), &err);
    assert_memory_equal(before, after, sizeof before);
}

static void similar_texts_are_nearer_than_others(void **state) {
    golden *g = *state;
    mf_err err;
    const mf_str texts[] = {MF_STR("How do I bake sourdough bread?"),
                            MF_STR("A recipe for a sourdough loaf"),
                            MF_STR("The train to Hamburg is late")};
    float out[3 * DIM];
    must(mf_lane_encode(g->lane, texts, 3, MF_NEVER, out, NULL, &err), &err);
    double near = cosine(out, out + DIM);
    assert_true(near > 0.6);
    assert_true(cosine(out, out + 2 * DIM) < 0.2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_ids_give_the_reference_vectors),
        cmocka_unit_test(texts_get_the_reference_vectors),
        cmocka_unit_test(int8_keeps_its_cosine_to_the_reference),
        cmocka_unit_test(bf16_keeps_its_cosine_to_the_reference),
        cmocka_unit_test(int8_finds_the_neighbours_of_the_reference),
        cmocka_unit_test(int8_gives_the_same_bits_on_every_machine),
        cmocka_unit_test(this_model_runs_in_int8_by_itself),
        cmocka_unit_test(a_text_has_the_same_bits_alone_and_in_any_batch),
        cmocka_unit_test(every_kernel_set_gives_the_same_vectors),
        cmocka_unit_test(texts_beyond_the_window_are_counted),
        cmocka_unit_test(a_passed_deadline_stops_and_leaves_the_lane_usable),
        cmocka_unit_test(similar_texts_are_nearer_than_others),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
