/* vec_scan_test.c - all variants of the int8 scan give the same integers, and the
 * quantiser keeps its promises. */
#include "num/vec_scan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { SEED = 20260101, ROWS_MAX = 11 };

static void fill(mf_rng *rng, int8_t *v, size_t len, bool extremes) {
    for (size_t i = 0; i < len; i++) {
        if (extremes) {
            v[i] = mf_rng_below(rng, 2) == 0 ? -127 : 127;
        } else {
            v[i] = (int8_t)((int)mf_rng_below(rng, 255) - 127);
        }
    }
}

static void check_variants(mf_rng *rng, size_t dim, size_t gap, bool extremes) {
    size_t stride = dim + gap;
    int8_t *query = mf_alloc(dim);
    int8_t *rows = mf_alloc(stride * ROWS_MAX);
    assert_non_null(query);
    assert_non_null(rows);
    fill(rng, query, dim, extremes);
    fill(rng, rows, stride * ROWS_MAX, extremes);
    for (size_t count = 0; count <= ROWS_MAX; count++) {
        for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
            if (!mf_cpu_has(level)) {
                continue;
            }
            int32_t out[ROWS_MAX + 1];
            out[count] = -77;
            mf_scan_i8_at(level, query, rows, stride, count, dim, out);
            assert_int_equal(out[count], -77);
            for (size_t r = 0; r < count; r++) {
                int64_t expected = 0;
                for (size_t i = 0; i < dim; i++) {
                    expected += (int64_t)query[i] * rows[r * stride + i];
                }
                assert_true(out[r] == expected);
            }
        }
    }
    mf_free(query);
    mf_free(rows);
}

static void every_variant_gives_the_exact_sums(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, SEED);
    print_message("seed %d\n", SEED);
    static const size_t dims[] = {64, 128, 384, 768, 1024, 4096};
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        check_variants(&rng, dims[d], 0, false);
        check_variants(&rng, dims[d], 3, false);
        check_variants(&rng, dims[d], 64, true);
    }
}

static void the_largest_sums_do_not_overflow(void **state) {
    (void)state;
    size_t dim = MF_SCAN_DIM_MAX;
    int8_t *query = mf_alloc(dim);
    assert_non_null(query);
    memset(query, 127, dim);
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        if (mf_cpu_has(level)) {
            int32_t out = 0;
            mf_scan_i8_at(level, query, query, dim, 1, dim, &out);
            assert_int_equal(out, (int32_t)dim * 127 * 127);
        }
    }
    mf_free(query);
}

static void the_default_variant_is_one_of_them(void **state) {
    (void)state;
    int8_t query[64] = {3, -4};
    int8_t row[64] = {5, 6};
    int32_t out = 0;
    mf_scan_i8(query, row, 64, 1, 64, &out);
    assert_int_equal(out, -9);
}

static void quantising_is_off_by_half_a_step_at_most(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, SEED);
    for (size_t dim = 1; dim <= 130; dim++) {
        float v[130];
        int8_t out[192];
        float largest = 0.0F;
        for (size_t i = 0; i < dim; i++) {
            v[i] = (float)(mf_rng_unit(&rng) - 0.5);
            largest = fmaxf(largest, fabsf(v[i]));
        }
        float scale = 0.0F;
        memset(out, 99, sizeof out);
        mf_quantize_i8(v, dim, mf_scan_dim(dim), out, &scale);
        assert_float_equal(scale, largest / 127.0F, 1e-9);
        int reached = 0;
        for (size_t i = 0; i < dim; i++) {
            assert_true(out[i] >= -127);
            assert_true(fabsf((float)out[i] * scale - v[i]) <= 0.5001F * scale);
            reached |= out[i] == 127 || out[i] == -127;
        }
        assert_true(reached);
        for (size_t i = dim; i < mf_scan_dim(dim); i++) {
            assert_int_equal(out[i], 0);
        }
    }
}

static void a_vanishing_vector_quantises_to_zero(void **state) {
    (void)state;
    float v[3] = {0.0F, -1e-38F, 1e-40F};
    int8_t out[64] = {1, 2, 3, 4};
    float scale = 5.0F;
    mf_quantize_i8(v, 3, 64, out, &scale);
    assert_true(scale == 0.0F);
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(out[i], 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_gives_the_exact_sums),
        cmocka_unit_test(the_largest_sums_do_not_overflow),
        cmocka_unit_test(the_default_variant_is_one_of_them),
        cmocka_unit_test(quantising_is_off_by_half_a_step_at_most),
        cmocka_unit_test(a_vanishing_vector_quantises_to_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
