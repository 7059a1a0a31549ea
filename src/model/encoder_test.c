/* encoder_test.c - opening refuses damaged models by name, and a lane keeps its bounds.
 * Works on a tiny model; encoder_golden_test.c checks the numbers of a real one. */
#include "model/encoder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "model/encoder_private.h"
#include "model/tiny_model_testing.h"

enum { DIM = TINY_HIDDEN };

static int make_model(void **state) {
    static char dir[64];
    tiny_model_make(dir);
    *state = dir;
    return 0;
}

static int remove_model(void **state) {
    tiny_model_remove(*state);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static mf_encoder *must_open_as(const char *dir, mf_precision precision) {
    mf_encoder_options options = {.precision = precision};
    mf_encoder *encoder = NULL;
    mf_err err;
    if (mf_encoder_open(dir, &options, &encoder, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return encoder;
}

static mf_encoder *must_open(const char *dir) {
    return must_open_as(dir, MF_PRECISION_FP32);
}

/* Opening fails with `rc`, naming `clue`, and leaves the output alone. */
static void expect_refusal(const char *dir, mf_rc rc, const char *clue) {
    for (mf_precision p = MF_PRECISION_AUTO; p <= MF_PRECISION_BF16; p++) {
        mf_encoder_options options = {.precision = p};
        mf_encoder *encoder = NULL;
        mf_err err;
        assert_int_equal(mf_encoder_open(dir, &options, &encoder, &err), rc);
        assert_null(encoder);
        if (strstr(err.text, clue) == NULL) {
            fail_msg("no '%s' in: %s", clue, err.text);
        }
    }
}

static void info_tells_the_shape_of_the_model(void **state) {
    char path[80];
    (void)snprintf(path, sizeof path, "%s//", (const char *)*state);
    mf_encoder *encoder = must_open(path);
    mf_encoder_info info;
    mf_encoder_get_info(encoder, &info);
    assert_string_equal(info.name, strrchr(*state, '/') + 1);
    assert_int_equal(info.dim, DIM);
    assert_int_equal(info.layers, TINY_LAYERS);
    assert_int_equal(info.heads, 2);
    assert_int_equal(info.window, TINY_WINDOW);
    assert_string_equal(info.precision, "fp32");
    assert_string_equal(info.kernel, mf_cpu_level_name(mf_cpu_best()));
    assert_true(info.weight_bytes >
                (TINY_VOCAB + TINY_POSITIONS) * DIM * sizeof(float));
    assert_int_equal(mf_model_tokenizer_vocab_size(mf_encoder_tokenizer(encoder)),
                     TINY_VOCAB);
    (void)mf_encoder_unref(encoder);
    assert_null(mf_encoder_unref(NULL));
}

static void a_lane_keeps_its_encoder_alive(void **state) {
    mf_encoder *encoder = must_open(*state);
    mf_lane *lane = NULL;
    float out[DIM];
    const mf_str text = MF_STR("red cats");
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    assert_null(mf_encoder_unref(encoder));
    assert_int_equal(mf_lane_encode(lane, &text, 1, MF_NEVER, out, NULL, NULL), MF_OK);
    mf_lane_close(lane);
    mf_lane_close(NULL);
}

static void each_missing_or_damaged_tensor_is_named(void **state) {
    static const char *const tensors[] = {
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.attention.self.key.bias",
        "encoder.layer.1.attention.self.value.weight",
        "encoder.layer.1.attention.output.dense.weight",
        "encoder.layer.0.attention.output.LayerNorm.weight",
        "encoder.layer.1.intermediate.dense.weight",
        "encoder.layer.1.output.dense.bias",
        "encoder.layer.1.output.LayerNorm.bias",
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        tiny_damage damage = {.tensor = tensors[i], .how = TINY_MISSING};
        tiny_weights(*state, &damage);
        expect_refusal(*state, MF_E_CORRUPT, tensors[i]);
        damage.how = TINY_NAN;
        tiny_weights(*state, &damage);
        expect_refusal(*state, MF_E_CORRUPT, tensors[i]);
    }
}

static void a_wrong_shape_is_told_with_the_expected_one(void **state) {
    static const tiny_damage damage = {
        .tensor = "encoder.layer.1.intermediate.dense.weight", .how = TINY_TRANSPOSED};
    tiny_weights(*state, &damage);
    expect_refusal(*state, MF_E_CORRUPT, "is F32 [32, 48], expected F32 [48, 32]");
}

static void names_with_the_prefix_of_a_task_head_load_too(void **state) {
    static const tiny_damage prefixed = {.prefix = "bert."};
    static const tiny_damage none = {0};
    const mf_str text = MF_STR("green dogs");
    float vectors[2][DIM];
    for (int i = 0; i < 2; i++) {
        tiny_weights(*state, i == 0 ? &none : &prefixed);
        mf_encoder *encoder = must_open(*state);
        mf_lane *lane = NULL;
        assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
        assert_int_equal(
            mf_lane_encode(lane, &text, 1, MF_NEVER, vectors[i], NULL, NULL), MF_OK);
        mf_lane_close(lane);
        (void)mf_encoder_unref(encoder);
    }
    assert_memory_equal(vectors[0], vectors[1], sizeof vectors[0]);
}

static void missing_and_mismatched_files_are_refused(void **state) {
    char path[512];
    expect_refusal("/nonexistent/model", MF_E_IO, "/nonexistent/model");
    tiny_file(*state, "config.json", MF_STR("{"));
    expect_refusal(*state, MF_E_CORRUPT, "config.json");
    tiny_file(*state, "config.json", mf_str_from(tiny_config));
    tiny_file(*state, "vocab.txt",
              MF_STR("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n"
                     "d\ne\nf\ng\none too many\n"));
    expect_refusal(*state, MF_E_CORRUPT, "13 entries");
    tiny_file(*state, "vocab.txt", mf_str_from(tiny_vocab));
    (void)snprintf(path, sizeof path, "%s/model.safetensors", (const char *)*state);
    assert_int_equal(unlink(path), 0);
    expect_refusal(*state, MF_E_IO, "model.safetensors");
    tiny_file(*state, "model.safetensors.index.json", MF_STR("{}"));
    expect_refusal(*state, MF_E_UNSUPPORTED, "model.safetensors.index.json");
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json",
                   (const char *)*state);
    assert_int_equal(unlink(path), 0);
    tiny_file(*state, "model.safetensors", MF_STR("short"));
    expect_refusal(*state, MF_E_CORRUPT, "model.safetensors");
}

static void a_call_beyond_its_bounds_is_refused(void **state) {
    mf_encoder *encoder = must_open(*state);
    mf_lane *lane = NULL;
    mf_str texts[MF_ENCODE_BATCH_MAX + 1];
    static float out[(MF_ENCODE_BATCH_MAX + 1) * DIM];
    mf_err err;
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    for (size_t i = 0; i <= MF_ENCODE_BATCH_MAX; i++) {
        texts[i] = MF_STR("blue cat runs");
    }
    assert_int_equal(
        mf_lane_encode(lane, texts, MF_ENCODE_BATCH_MAX + 1, MF_NEVER, out, NULL, &err),
        MF_E_LIMIT);
    char *text = mf_alloc_zero(1, MF_ENCODE_BYTES_MAX + 1);
    assert_non_null(text);
    texts[1] = (mf_str){text, MF_ENCODE_BYTES_MAX + 1};
    assert_int_equal(mf_lane_encode(lane, texts, 2, MF_NEVER, out, NULL, &err),
                     MF_E_LIMIT);
    assert_non_null(strstr(err.text, "text 1"));
    texts[1].len--;
    assert_int_equal(mf_lane_encode(lane, texts, 2, MF_NEVER, out, NULL, &err), MF_OK);
    mf_free(text);
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
}

/* Texts of every length from none to beyond the window, so that groups of all fillings
 * and texts longer than a group's rest occur. */
static void mix_lengths(mf_str texts[MF_ENCODE_BATCH_MAX]) {
    static char words[4 * 64];
    for (size_t i = 0; i < sizeof words; i++) {
        words[i] = "cat dog red runs"[i % 16];
    }
    for (size_t i = 0; i < MF_ENCODE_BATCH_MAX; i++) {
        texts[i] = (mf_str){words, i * 29 % 64 * 4};
    }
}

static void check_mixed_lengths(const char *dir, mf_precision precision) {
    mf_encoder *encoder = must_open_as(dir, precision);
    mf_lane *lane = NULL;
    mf_str texts[MF_ENCODE_BATCH_MAX];
    static float together[MF_ENCODE_BATCH_MAX * DIM];
    float alone[DIM];
    size_t truncated = 0;
    mix_lengths(texts);
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    assert_int_equal(mf_lane_encode(lane, texts, MF_ENCODE_BATCH_MAX, MF_NEVER,
                                    together, &truncated, NULL),
                     MF_OK);
    size_t truncated_alone = 0;
    for (size_t i = 0; i < MF_ENCODE_BATCH_MAX; i++) {
        size_t one = 0;
        assert_int_equal(
            mf_lane_encode(lane, &texts[i], 1, MF_NEVER, alone, &one, NULL), MF_OK);
        assert_memory_equal(alone, together + i * DIM, sizeof alone);
        truncated_alone += one;
    }
    assert_true(truncated > 0);
    assert_int_equal(truncated, truncated_alone);
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
}

static void mixed_lengths_have_the_same_bits_alone_and_together(void **state) {
    check_mixed_lengths(*state, MF_PRECISION_FP32);
    check_mixed_lengths(*state, MF_PRECISION_INT8);
    check_mixed_lengths(*state, MF_PRECISION_BF16);
}

/* The whole forward pass in 8 bits, by the kernels of every level, plain C included. */
static void int8_gives_the_same_vectors_on_every_processor(void **state) {
    const mf_encoder_options options = {.precision = MF_PRECISION_INT8};
    mf_str texts[MF_ENCODE_BATCH_MAX];
    static float first[MF_ENCODE_BATCH_MAX * DIM];
    static float vectors[MF_ENCODE_BATCH_MAX * DIM];
    mix_lengths(texts);
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        mf_encoder *encoder = NULL;
        mf_lane *lane = NULL;
        if (!mf_cpu_has(level)) {
            continue;
        }
        assert_int_equal(mf_encoder_open_at(*state, level, &options, &encoder, NULL),
                         MF_OK);
        assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
        assert_int_equal(mf_lane_encode(lane, texts, MF_ENCODE_BATCH_MAX, MF_NEVER,
                                        level == MF_CPU_SCALAR ? first : vectors, NULL,
                                        NULL),
                         MF_OK);
        if (level != MF_CPU_SCALAR) {
            assert_memory_equal(vectors, first, sizeof first);
        }
        mf_lane_close(lane);
        (void)mf_encoder_unref(encoder);
    }
}

/* Answers each question about the time with the next number. */
static int64_t counting_ns(void *ctx) {
    int64_t *count = ctx;
    return (*count)++;
}

static int64_t counting_us(void *ctx) {
    (void)ctx;
    return 0;
}

static void a_deadline_is_noticed_before_each_layer(void **state) {
    mf_encoder *encoder = must_open(*state);
    mf_lane *lane = NULL;
    int64_t count = 0;
    const mf_clock clock = {counting_ns, counting_us, &count};
    const mf_str text = MF_STR("green cat");
    float out[DIM];
    mf_err err;
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    mf_clock_set(&clock);
    for (int64_t layer = 0; layer <= TINY_LAYERS; layer++) {
        count = 0;
        mf_rc rc = mf_lane_encode(lane, &text, 1, layer, out, NULL, &err);
        assert_int_equal(rc, layer < TINY_LAYERS ? MF_E_TIMEOUT : MF_OK);
    }
    mf_clock_set(NULL);
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
}

static void precision_is_chosen_by_name(void **state) {
    (void)state;
    mf_precision p = MF_PRECISION_INT8;
    assert_false(mf_precision_from_name("fp16", &p));
    assert_false(mf_precision_from_name("", &p));
    assert_int_equal(p, MF_PRECISION_INT8);
    assert_true(mf_precision_from_name("auto", &p));
    assert_int_equal(p, MF_PRECISION_AUTO);
    assert_true(mf_precision_from_name("fp32", &p));
    assert_int_equal(p, MF_PRECISION_FP32);
    assert_true(mf_precision_from_name("bf16", &p));
    assert_int_equal(p, MF_PRECISION_BF16);
    assert_true(mf_precision_from_name("int8", &p));
    assert_int_equal(p, MF_PRECISION_INT8);
    assert_int_equal(mf_encoder_options_default().precision, MF_PRECISION_AUTO);
}

static void info_tells_the_precision_that_runs(void **state) {
    static const char *const expected[] = {NULL, "fp32", "int8", "bf16"};
    size_t bytes[4];
    for (mf_precision p = MF_PRECISION_FP32; p <= MF_PRECISION_BF16; p++) {
        mf_encoder *encoder = must_open_as(*state, p);
        mf_encoder_info info;
        mf_encoder_get_info(encoder, &info);
        assert_string_equal(info.precision, expected[p]);
        bytes[p] = info.weight_bytes;
        (void)mf_encoder_unref(encoder);
    }
    assert_true(bytes[MF_PRECISION_BF16] < bytes[MF_PRECISION_FP32]);
    assert_true(bytes[MF_PRECISION_INT8] < bytes[MF_PRECISION_FP32]);
}

/* A failed allocation is told, or it only cost the cache file. */
static void open_survives_each_failed_allocation(void **state) {
    size_t live = mf_alloc_live();
    for (mf_precision p = MF_PRECISION_FP32; p <= MF_PRECISION_BF16; p++) {
        mf_encoder_options options = {.precision = p};
        MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
            mf_encoder *encoder = NULL;
            mf_lane *lane = NULL;
            mf_err err;
            tiny_model_forget_pack(*state);
            mf_rc rc = mf_encoder_open(*state, &options, &encoder, &err);
            if (rc == MF_OK) {
                rc = mf_lane_open(encoder, &lane, &err);
            }
            if (rc == MF_OK) {
                assert_true(!mf_fault_fired() || p == MF_PRECISION_INT8);
            } else {
                assert_int_equal(rc, MF_E_NOMEM);
                assert_null(lane);
            }
            mf_lane_close(lane);
            (void)mf_encoder_unref(encoder);
            assert_int_equal(mf_alloc_live(), live);
        }
    }
}

int main(void) {
#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, make_model, remove_model)
    const struct CMUnitTest tests[] = {
        WITH_MODEL(info_tells_the_shape_of_the_model),
        WITH_MODEL(a_lane_keeps_its_encoder_alive),
        WITH_MODEL(each_missing_or_damaged_tensor_is_named),
        WITH_MODEL(a_wrong_shape_is_told_with_the_expected_one),
        WITH_MODEL(names_with_the_prefix_of_a_task_head_load_too),
        WITH_MODEL(missing_and_mismatched_files_are_refused),
        WITH_MODEL(a_call_beyond_its_bounds_is_refused),
        WITH_MODEL(mixed_lengths_have_the_same_bits_alone_and_together),
        WITH_MODEL(int8_gives_the_same_vectors_on_every_processor),
        WITH_MODEL(a_deadline_is_noticed_before_each_layer),
        cmocka_unit_test(precision_is_chosen_by_name),
        WITH_MODEL(info_tells_the_precision_that_runs),
        WITH_MODEL(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
