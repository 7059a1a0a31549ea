/* kernels16_test.c - products of bf16 numbers give the same bits in every variant, and
 * are those of rounded numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"
#include "num/kernels.h"

enum { SEED = 1616, MARK = 77 };

static mf_rng rng;

static int seed_rng(void **state) {
    (void)state;
    mf_rng_init(&rng, SEED);
    print_message("seed %d\n", SEED);
    return 0;
}

#define EACH_TABLE(table)                                                              \
    for (mf_cpu_level level_ = MF_CPU_SCALAR; level_ < MF_CPU_LEVEL_COUNT; level_++)   \
        for (const mf_kernels *table = mf_kernels_at(level_); table != NULL;           \
             table = NULL)

static float *new_floats(size_t count) {
    float *v = mf_alloc_aligned(64, (count + 1) * sizeof *v);
    assert_non_null(v);
    v[count] = MARK; /* to see what is written behind the end */
    return v;
}

static float *random_floats(size_t count, double size) {
    float *v = new_floats(count);
    for (size_t i = 0; i < count; i++) {
        v[i] = (float)((mf_rng_unit(&rng) * 2.0 - 1.0) * size);
    }
    return v;
}

/* --- rounding --------------------------------------------------------------------- */

static float rounded(float v) {
    uint32_t bits = mf_bits16(v);
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void floats_are_rounded_to_the_nearest_and_ties_to_even(void **state) {
    (void)state;
    static const float cases[][2] = {
        {0.0F, 0.0F},
        {1.0F, 1.0F},
        {-1.0F, -1.0F},
        {0x1.01p0F, 0x1.00p0F},     /* a tie, down to even */
        {0x1.03p0F, 0x1.04p0F},     /* a tie, up to even */
        {0x1.010002p0F, 0x1.02p0F}, /* above a tie */
        {0x1.02fffep0F, 0x1.02p0F}, /* below one */
        {-0x1.03p0F, -0x1.04p0F},
        {0x1.ffp-1F, 0x1.00p0F},    /* into the next power of two */
        {0x1.fep127F, 0x1.fep127F}, /* the largest */
        {0x1.ffp127F, INFINITY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(rounded(cases[i][0]) == cases[i][1]);
    }
    for (int i = 0; i < 10000; i++) {
        float v = (float)(mf_rng_unit(&rng) * 1000.0 - 500.0);
        assert_true(fabsf(rounded(v) - v) <= fabsf(v) * 0x1p-8F);
        assert_true(rounded(rounded(v)) == rounded(v));
    }
}

/* --- layers ----------------------------------------------------------------------- */

typedef struct layer {
    size_t rows, outputs, inputs;
    float *weights, *bias, *x, *residual;
    mf_matrix16 *matrix;
} layer;

static layer make_layer(size_t rows, size_t outputs, size_t inputs) {
    layer l = {.rows = rows, .outputs = outputs, .inputs = inputs};
    l.weights = random_floats(outputs * inputs, 2.0 / sqrt((double)inputs));
    l.bias = random_floats(outputs, 1.0);
    l.x = random_floats(rows * inputs, 2.0);
    l.residual = random_floats(rows * outputs, 1.0);
    assert_int_equal(mf_matrix16_new(outputs, inputs, &l.matrix, NULL), MF_OK);
    size_t first = outputs / 3; /* in two parts, the seam inside a panel */
    mf_matrix16_set(l.matrix, 0, first, l.weights, l.bias);
    mf_matrix16_set(l.matrix, first, outputs - first, l.weights + first * inputs,
                    l.bias + first);
    return l;
}

static void free_layer(layer *l) {
    mf_free(l->weights);
    mf_free(l->bias);
    mf_free(l->x);
    mf_free(l->residual);
    mf_matrix16_free(l->matrix);
}

static float *run_layer(const mf_kernels *table, const layer *l, size_t first,
                        size_t rows, mf_epilogue epilogue) {
    size_t cells = rows * mf_stride16(l->inputs);
    float *x = new_floats(cells);
    float *y = new_floats(rows * l->outputs);
    table->round16(l->x + first * l->inputs, rows, l->inputs, x);
    assert_true(x[cells] == MARK);
    table->linear16(&(mf_linear16_call){
        .matrix = l->matrix,
        .x = x,
        .rows = rows,
        .epilogue = epilogue,
        .residual =
            epilogue == MF_EPILOGUE_ADD ? l->residual + first * l->outputs : NULL,
        .y = y,
    });
    assert_true(y[rows * l->outputs] == MARK);
    mf_free(x);
    return y;
}

/* The definition, of rounded numbers, in double precision. */
static void check_values(const layer *l, mf_epilogue epilogue, const float *y) {
    for (size_t row = 0; row < l->rows; row++) {
        for (size_t n = 0; n < l->outputs; n++) {
            double sum = (double)l->bias[n];
            for (size_t k = 0; k < l->inputs; k++) {
                sum += (double)rounded(l->x[row * l->inputs + k]) *
                       (double)rounded(l->weights[n * l->inputs + k]);
            }
            if (epilogue == MF_EPILOGUE_GELU) {
                sum = sum / 2.0 * (1.0 + erf(sum / sqrt(2.0)));
            } else if (epilogue == MF_EPILOGUE_ADD) {
                sum += (double)l->residual[row * l->outputs + n];
            }
            double error = fabs((double)y[row * l->outputs + n] - sum);
            assert_true(error <= 1e-5 * fmax(1.0, fabs(sum)));
        }
    }
}

static void check_layer(size_t rows, size_t outputs, size_t inputs) {
    layer l = make_layer(rows, outputs, inputs);
    size_t bytes = rows * outputs * sizeof(float);
    for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
        float *before = NULL;
        EACH_TABLE(table) {
            float *y = run_layer(table, &l, 0, rows, e);
            check_values(&l, e, y);
            /* Plain C has another erf. */
            bool same = e != MF_EPILOGUE_GELU || level_ > MF_CPU_NEON;
            if (before != NULL && same) {
                assert_memory_equal(y, before, bytes);
            }
            mf_free(before);
            before = level_ == MF_CPU_SCALAR && e == MF_EPILOGUE_GELU ? NULL : y;
            if (before == NULL) {
                mf_free(y);
            }
        }
        mf_free(before);
    }
    free_layer(&l);
}

static void layers_of_all_shapes_are_exact_and_the_same_bits_everywhere(void **state) {
    (void)state;
    static const size_t rows[] = {0, 1, 2, 5, 6, 7, 12, 13, 25};
    static const size_t outputs[] = {1, 31, 32, 33, 100};
    static const size_t inputs[] = {1, 2, 3, 16, 47, 64};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (size_t n = 0; n < sizeof outputs / sizeof outputs[0]; n++) {
            for (size_t k = 0; k < sizeof inputs / sizeof inputs[0]; k++) {
                check_layer(rows[r], outputs[n], inputs[k]);
            }
        }
    }
    check_layer(9, 64, 1536);
}

/* Sums whose roundings differ with the order of additions. */
static void the_odd_input_of_a_pair_is_added_first(void **state) {
    (void)state;
    const float weights[] = {-0x1p24F, 1.0F}; /* after 2^24, adding 1 changes nothing */
    const float bias = 0x1p24F;
    const float x[] = {1.0F, 1.0F};
    mf_matrix16 *matrix = NULL;
    assert_int_equal(mf_matrix16_new(1, 2, &matrix, NULL), MF_OK);
    mf_matrix16_set(matrix, 0, 1, weights, &bias);
    EACH_TABLE(table) {
        float cells[MF_LANES];
        float y = MARK;
        table->round16(x, 1, 2, cells);
        table->linear16(
            &(mf_linear16_call){.matrix = matrix, .x = cells, .rows = 1, .y = &y});
        assert_true(y == 0.0F);
    }
    mf_matrix16_free(matrix);
}

static void the_residual_may_lie_where_the_results_go(void **state) {
    (void)state;
    static const size_t outputs[] = {31, 32, 64, 100};
    for (size_t n = 0; n < sizeof outputs / sizeof outputs[0]; n++) {
        enum { ROWS = 13, INPUTS = 48 };
        layer l = make_layer(ROWS, outputs[n], INPUTS);
        size_t count = ROWS * outputs[n];
        EACH_TABLE(table) {
            float *apart = run_layer(table, &l, 0, ROWS, MF_EPILOGUE_ADD);
            float *x = new_floats(ROWS * mf_stride16(INPUTS));
            float *y = new_floats(count);
            table->round16(l.x, ROWS, INPUTS, x);
            memcpy(y, l.residual, count * sizeof *y);
            table->linear16(&(mf_linear16_call){.matrix = l.matrix,
                                                .x = x,
                                                .rows = ROWS,
                                                .epilogue = MF_EPILOGUE_ADD,
                                                .residual = y,
                                                .y = y});
            assert_memory_equal(y, apart, count * sizeof *y);
            mf_free(x);
            mf_free(y);
            mf_free(apart);
        }
        free_layer(&l);
    }
}

static void a_row_has_the_same_bits_alone_and_among_others(void **state) {
    (void)state;
    enum { ROWS = 29, OUTPUTS = 70, INPUTS = 40 };
    layer l = make_layer(ROWS, OUTPUTS, INPUTS);
    EACH_TABLE(table) {
        for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
            float *all = run_layer(table, &l, 0, ROWS, e);
            for (size_t count = 1; count <= 14; count++) {
                for (size_t first = 0; first + count <= ROWS; first += count) {
                    float *some = run_layer(table, &l, first, count, e);
                    assert_memory_equal(some, all + first * OUTPUTS,
                                        count * OUTPUTS * sizeof *some);
                    mf_free(some);
                }
            }
            mf_free(all);
        }
    }
    free_layer(&l);
}

static void a_matrix_survives_each_failed_allocation(void **state) {
    (void)state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_matrix16 *matrix = NULL;
        mf_err err;
        if (mf_matrix16_new(40, 30, &matrix, &err) == MF_OK) {
            assert_false(mf_fault_fired());
            assert_true(mf_matrix16_bytes(matrix) >= 40 * 30 * 2);
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(matrix);
        }
        mf_matrix16_free(matrix);
    }
    assert_int_equal(mf_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_are_rounded_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(layers_of_all_shapes_are_exact_and_the_same_bits_everywhere),
        cmocka_unit_test(the_odd_input_of_a_pair_is_added_first),
        cmocka_unit_test(the_residual_may_lie_where_the_results_go),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_among_others),
        cmocka_unit_test(a_matrix_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, seed_rng, NULL);
}
