/* encoder_cache_test.c - the file of packed weights is used when it is whole and of
 * this model, replaced when it is not, and done without where it cannot be written. */
#include "model/encoder_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
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

static void pack_path(const char *dir, char path[128]) {
    (void)snprintf(path, 128, "%s/%s", dir, MF_PACK_FILE);
}

/* Opens in int8 and closes again; tells whether a file served, and gives a vector. */
static bool open_from_file(const char *dir, float out[DIM]) {
    const mf_encoder_options options = {.precision = MF_PRECISION_INT8};
    const mf_str text = MF_STR("red cats runs");
    mf_encoder *encoder = NULL;
    mf_lane *lane = NULL;
    mf_err err;
    if (mf_encoder_open(dir, &options, &encoder, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    bool mapped = encoder->mapped.size > 0;
    assert_true(mapped == (encoder->image == NULL));
    assert_null(encoder->file); /* fp32 is gone either way */
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    assert_int_equal(mf_lane_encode(lane, &text, 1, MF_NEVER, out, NULL, NULL), MF_OK);
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
    return mapped;
}

static mf_file_stamp stamp_of(const char *dir) {
    char path[128];
    mf_file_stamp stamp;
    pack_path(dir, path);
    assert_int_equal(mf_file_stamp_get(path, &stamp, NULL), MF_OK);
    return stamp;
}

static void the_file_is_made_once_and_then_used(void **state) {
    char path[128];
    float made[DIM];
    float used[DIM];
    pack_path(*state, path);
    assert_false(mf_file_exists(path));
    assert_true(open_from_file(*state, made));
    mf_file_stamp first = stamp_of(*state);
    assert_true(open_from_file(*state, used));
    mf_file_stamp second = stamp_of(*state);
    assert_true(mf_file_stamp_eq(&first, &second));
    assert_memory_equal(made, used, sizeof made);
}

static void fp32_neither_needs_nor_makes_it(void **state) {
    const mf_encoder_options options = {.precision = MF_PRECISION_FP32};
    char path[128];
    mf_encoder *encoder = NULL;
    pack_path(*state, path);
    assert_int_equal(mf_encoder_open(*state, &options, &encoder, NULL), MF_OK);
    assert_false(mf_file_exists(path));
    (void)mf_encoder_unref(encoder);
}

static void read_pack(const char *dir, mf_buf *bytes) {
    char path[128];
    pack_path(dir, path);
    mf_buf_init(bytes, 1 << 20);
    assert_int_equal(mf_file_read(path, bytes, NULL), MF_OK);
}

static void write_pack(const char *dir, mf_str bytes) {
    char path[128];
    pack_path(dir, path);
    assert_int_equal(mf_file_write_atomic(path, bytes, NULL), MF_OK);
}

/* Every cut and every changed byte is noticed, and repaired by the next open. */
static void a_damaged_file_is_replaced_by_a_good_one(void **state) {
    float good[DIM];
    float again[DIM];
    mf_buf whole;
    mf_buf repaired;
    assert_true(open_from_file(*state, good));
    read_pack(*state, &whole);
    for (size_t at = 0; at < whole.len; at += 1 + whole.len / 40) {
        bool cut = at % 2 == 0;
        char kept = whole.p[at];
        whole.p[at] = (char)(kept ^ 0x10);
        write_pack(*state, cut ? (mf_str){whole.p, at} : mf_buf_view(&whole));
        whole.p[at] = kept;
        assert_true(open_from_file(*state, again));
        assert_memory_equal(good, again, sizeof good);
        read_pack(*state, &repaired);
        assert_int_equal(repaired.len, whole.len);
        assert_memory_equal(repaired.p, whole.p, whole.len);
        mf_buf_done(&repaired);
    }
    mf_buf_done(&whole);
}

/* Writes the model file anew, one weight changed or none. */
static void touch_model(const char *dir, bool change) {
    char path[128];
    mf_buf bytes;
    (void)snprintf(path, sizeof path, "%s/%s", dir, MF_MODEL_FILE);
    mf_buf_init(&bytes, 1 << 21);
    assert_int_equal(mf_file_read(path, &bytes, NULL), MF_OK);
    if (change) { /* the sign of the last weight */
        bytes.p[bytes.len - 1] = (char)(bytes.p[bytes.len - 1] ^ 0x80);
    }
    assert_int_equal(mf_file_write_atomic(path, mf_buf_view(&bytes), NULL), MF_OK);
    mf_buf_done(&bytes);
}

static void
a_model_only_copied_keeps_its_file_and_a_changed_one_does_not(void **state) {
    float before[DIM];
    float after[DIM];
    assert_true(open_from_file(*state, before));
    mf_file_stamp first = stamp_of(*state);
    touch_model(*state, false);
    assert_true(open_from_file(*state, after));
    mf_file_stamp second = stamp_of(*state);
    assert_true(mf_file_stamp_eq(&first, &second));
    assert_memory_equal(before, after, sizeof before);
    touch_model(*state, true);
    assert_true(open_from_file(*state, after));
    second = stamp_of(*state);
    assert_false(mf_file_stamp_eq(&first, &second));
    assert_memory_not_equal(before, after, sizeof before);
}

static void a_file_does_not_outlive_its_model(void **state) {
    const mf_encoder_options options = {.precision = MF_PRECISION_INT8};
    char path[128];
    float out[DIM];
    mf_encoder *encoder = NULL;
    assert_true(open_from_file(*state, out));
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)*state, MF_MODEL_FILE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mf_encoder_open(*state, &options, &encoder, NULL), MF_E_IO);
    assert_null(encoder);
}

/* Plain C is left out: its products in fp32 are rounded otherwise. */
static void vectors_of_every_size_make_the_same_file(void **state) {
    const mf_encoder_options options = {.precision = MF_PRECISION_INT8};
    mf_buf first = {0};
    for (mf_cpu_level level = MF_CPU_NEON; level < MF_CPU_LEVEL_COUNT; level++) {
        mf_encoder *encoder = NULL;
        mf_buf bytes;
        if (!mf_cpu_has(level)) {
            continue;
        }
        tiny_model_forget_pack(*state);
        assert_int_equal(mf_encoder_open_at(*state, level, &options, &encoder, NULL),
                         MF_OK);
        (void)mf_encoder_unref(encoder);
        read_pack(*state, &bytes);
        if (first.len == 0) {
            first = bytes;
            continue;
        }
        assert_int_equal(bytes.len, first.len);
        assert_memory_equal(bytes.p, first.p, first.len);
        mf_buf_done(&bytes);
    }
    if (first.len > 0) {
        mf_buf_done(&first);
    }
}

/* A folder in the file's place: nobody, not even root, can put a file there. */
static void without_a_file_the_weights_stay_in_memory(void **state) {
    char path[128];
    float kept[DIM];
    float mapped[DIM];
    pack_path(*state, path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(open_from_file(*state, kept));
    assert_int_equal(rmdir(path), 0);
    assert_true(open_from_file(*state, mapped));
    assert_memory_equal(kept, mapped, sizeof kept);
}

/* Reading and writing fail at every point in turn: opening works or says why. */
static void failing_files_cost_the_file_at_most(void **state) {
    static const char *const points[] = {"file.open", "file.map", "file.write",
                                         "file.sync", "file.rename"};
    float good[DIM];
    assert_true(open_from_file(*state, good));
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        MF_EACH_FAULT(points[i], n) {
            const mf_encoder_options options = {.precision = MF_PRECISION_INT8};
            mf_encoder *encoder = NULL;
            tiny_model_forget_pack(*state);
            size_t live = mf_alloc_live();
            mf_rc rc = mf_encoder_open(*state, &options, &encoder, NULL);
            assert_true((rc == MF_OK) == (encoder != NULL));
            (void)mf_encoder_unref(encoder);
            assert_int_equal(mf_alloc_live(), live);
        }
    }
    float after[DIM];
    (void)open_from_file(*state, after); /* whether a file was left is not the point */
    assert_memory_equal(good, after, sizeof good);
}

static void auto_takes_what_the_comparison_allows(void **state) {
    const mf_encoder_options automatic = mf_encoder_options_default();
    mf_encoder *encoder = NULL;
    float out[DIM];
    assert_true(open_from_file(*state, out));
    assert_int_equal(mf_encoder_open(*state, &automatic, &encoder, NULL), MF_OK);
    bool fast = mf_cpu_best() != MF_CPU_SCALAR;
    assert_int_equal(encoder->precision, fast ? MF_PRECISION_INT8 : MF_PRECISION_FP32);
    mf_pack_source source = encoder->pack.source;
    (void)mf_encoder_unref(encoder);
    if (!fast) {
        return;
    }
    /* The same file, telling of a poor comparison. */
    mf_buf bytes;
    read_pack(*state, &bytes);
    mf_pack_seal(bytes.p, &source, 0.98F);
    write_pack(*state, mf_buf_view(&bytes));
    mf_buf_done(&bytes);
    assert_int_equal(mf_encoder_open(*state, &automatic, &encoder, NULL), MF_OK);
    assert_int_equal(encoder->precision, MF_PRECISION_FP32);
    assert_int_equal(encoder->mapped.size, 0);
    (void)mf_encoder_unref(encoder);
    assert_true(open_from_file(*state, out)); /* asked for, int8 runs all the same */
}

int main(void) {
#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, make_model, remove_model)
    const struct CMUnitTest tests[] = {
        WITH_MODEL(the_file_is_made_once_and_then_used),
        WITH_MODEL(fp32_neither_needs_nor_makes_it),
        WITH_MODEL(a_damaged_file_is_replaced_by_a_good_one),
        WITH_MODEL(a_model_only_copied_keeps_its_file_and_a_changed_one_does_not),
        WITH_MODEL(a_file_does_not_outlive_its_model),
        WITH_MODEL(vectors_of_every_size_make_the_same_file),
        WITH_MODEL(without_a_file_the_weights_stay_in_memory),
        WITH_MODEL(failing_files_cost_the_file_at_most),
        WITH_MODEL(auto_takes_what_the_comparison_allows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
