/* kernels8_test.c - sums of 8-bit products are the same integers in every variant, what
 * surrounds them keeps its stated errors, and no row depends on its neighbours. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "num/kernels.h"

enum { SEED = 815 };

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

static void *must_alloc(size_t bytes) {
    void *block = mf_alloc_aligned(64, bytes + 64);
    assert_non_null(block);
    memset(block, 0, bytes + 64);
    return block;
}

static float random_float(double size) {
    return (float)((mf_rng_unit(&rng) * 2.0 - 1.0) * size);
}

static float *random_floats(size_t count, double size) {
    float *v = must_alloc(count * sizeof *v);
    for (size_t i = 0; i < count; i++) {
        v[i] = random_float(size);
    }
    return v;
}

/* --- integer sums ----------------------------------------------------------------- */

/* A layer whose weights and activations are whole numbers, and all scales 1: results
 * are the sums themselves. */
typedef struct whole_layer {
    size_t rows, outputs, inputs;
    float *weights;
    uint8_t *q;
    float *ones;
    void *image;
    mf_coding8 coding;
} whole_layer;

static whole_layer make_whole(size_t rows, size_t outputs, size_t inputs,
                              mf_coding8 coding, bool extreme) {
    whole_layer l = {.rows = rows, .outputs = outputs, .inputs = inputs};
    size_t stride = mf_stride8(inputs);
    float *bias = must_alloc(outputs * sizeof *bias);
    l.coding = coding;
    l.weights = must_alloc(outputs * inputs * sizeof *l.weights);
    l.q = must_alloc(rows * stride);
    l.ones = must_alloc((rows + 1) * sizeof *l.ones);
    l.image = must_alloc(mf_matrix8_bytes(outputs, inputs));
    for (size_t i = 0; i < outputs * inputs; i++) {
        bool edge = extreme || i % inputs == 0; /* 127 occurs: the scale is 1 */
        int64_t value = (int64_t)mf_rng_below(&rng, 255) - 127;
        l.weights[i] = edge ? (i / inputs % 2 == 0 ? 127.0F : -127.0F) : (float)value;
    }
    for (size_t row = 0; row < rows; row++) {
        uint8_t low = coding == MF_CODING_CENTRED ? 1 : 0;
        l.ones[row] = 1.0F;
        for (size_t k = 0; k < inputs; k++) {
            uint8_t any = (uint8_t)(low + mf_rng_below(&rng, 256U - low));
            l.q[row * stride + k] = extreme ? (row % 2 == 0 ? 255 : low) : any;
        }
    }
    mf_matrix8_set(
        l.image, outputs, inputs,
        &(mf_matrix8_part){
            .count = outputs, .weights = l.weights, .bias = bias, .coding = coding});
    mf_free(bias);
    return l;
}

static void free_whole(whole_layer *l) {
    mf_free(l->weights);
    mf_free(l->q);
    mf_free(l->ones);
    mf_free(l->image);
}

static void check_whole(const whole_layer *l) {
    mf_matrix8 matrix = mf_matrix8_view(l->image, l->outputs, l->inputs);
    size_t count = l->rows * l->outputs;
    float *y = must_alloc(count * sizeof *y);
    EACH_TABLE(table) {
        y[count] = 1234.5F;
        table->linear8(&(mf_linear8_call){
            .matrix = &matrix, .x = {l->q, l->ones}, .rows = l->rows, .y = y});
        assert_true(y[count] == 1234.5F);
        for (size_t row = 0; row < l->rows; row++) {
            for (size_t n = 0; n < l->outputs; n++) {
                int64_t sum = 0;
                int64_t weight_sum = 0;
                for (size_t k = 0; k < l->inputs; k++) {
                    int64_t w = (int64_t)l->weights[n * l->inputs + k];
                    int64_t a = l->q[row * mf_stride8(l->inputs) + k];
                    sum += w * (l->coding == MF_CODING_CENTRED ? a - 128 : a);
                    weight_sum += w;
                }
                double expected = (double)(float)sum;
                if (l->coding == MF_CODING_GELU) { /* the bias takes it back */
                    float bias = (float)((double)MF_GELU_LOW * (double)weight_sum);
                    expected = (double)fmaf((float)sum, 1.0F, bias);
                }
                if ((double)y[row * l->outputs + n] != expected) {
                    fail_msg("%s: row %zu output %zu of %zu x %zu: %.9g, not %.9g",
                             mf_cpu_level_name(table->level), row, n, l->outputs,
                             l->inputs, (double)y[row * l->outputs + n], expected);
                }
            }
        }
    }
    mf_free(y);
}

static void sums_are_the_same_integers_in_every_variant(void **state) {
    (void)state;
    static const size_t rows[] = {1, 2, 3, 4, 5, 6, 7, 11, 13};
    static const size_t outputs[] = {1, 15, 16, 63, 64, 65, 130};
    static const size_t inputs[] = {1, 3, 4, 5, 48, 67};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (size_t n = 0; n < sizeof outputs / sizeof outputs[0]; n++) {
            for (size_t k = 0; k < sizeof inputs / sizeof inputs[0]; k++) {
                mf_coding8 coding =
                    (r + n + k) % 2 == 0 ? MF_CODING_CENTRED : MF_CODING_GELU;
                whole_layer l =
                    make_whole(rows[r], outputs[n], inputs[k], coding, false);
                check_whole(&l);
                free_whole(&l);
            }
        }
    }
}

/* Every product at its largest: instructions that add 8-bit products in 16 bits would
 * saturate. */
static void the_largest_products_do_not_saturate(void **state) {
    (void)state;
    static const size_t inputs[] = {4, 384, 512, 1536, MF_MATRIX8_INPUTS_MAX};
    for (size_t k = 0; k < sizeof inputs / sizeof inputs[0]; k++) {
        for (mf_coding8 c = MF_CODING_CENTRED; c <= MF_CODING_GELU; c++) {
            whole_layer l = make_whole(7, 66, inputs[k], c, true);
            check_whole(&l);
            free_whole(&l);
        }
    }
}

/* --- layers of real numbers ------------------------------------------------------- */

typedef struct layer {
    size_t rows, outputs, inputs;
    float *weights, *bias, *x, *factors, *residual, *apart_bias;
    bool *apart; /* of rows; NULL: none */
    void *image;
    mf_matrix8 matrix;
} layer;

static layer make_layer(size_t rows, size_t outputs, size_t inputs) {
    layer l = {.rows = rows, .outputs = outputs, .inputs = inputs};
    l.weights = random_floats(outputs * inputs, 2.0 / sqrt((double)inputs));
    l.bias = random_floats(outputs, 1.0);
    l.x = random_floats(rows * inputs, 2.0);
    l.factors = random_floats(inputs, 1.0);
    l.residual = random_floats(rows * outputs, 1.0);
    l.apart_bias = random_floats(outputs + MF_PANEL8, 1.0);
    l.image = must_alloc(mf_matrix8_bytes(outputs, inputs));
    for (size_t k = 0; k < inputs; k++) {
        l.factors[k] = 1.0F + 0.5F * l.factors[k];
    }
    size_t first_part = outputs / 3; /* in two parts, the seam inside a panel */
    for (int part = 0; part < 2; part++) {
        size_t first = part == 0 ? 0 : first_part;
        mf_matrix8_set(
            l.image, outputs, inputs,
            &(mf_matrix8_part){.first = first,
                               .count = part == 0 ? first_part : outputs - first_part,
                               .weights = l.weights + first * inputs,
                               .bias = l.bias + first,
                               .factors = l.factors});
    }
    l.matrix = mf_matrix8_view(l.image, outputs, inputs);
    return l;
}

static void free_layer(layer *l) {
    mf_free(l->weights);
    mf_free(l->bias);
    mf_free(l->x);
    mf_free(l->factors);
    mf_free(l->residual);
    mf_free(l->apart_bias);
    mf_free(l->apart);
    mf_free(l->image);
}

static float *run_layer(const mf_kernels *table, const layer *l, size_t first,
                        size_t rows, mf_epilogue epilogue) {
    mf_rows8 x = {must_alloc(rows * mf_stride8(l->inputs)),
                  must_alloc((rows + 1) * sizeof(float))};
    float *y = must_alloc((rows * l->outputs + 1) * sizeof *y);
    y[rows * l->outputs] = 1234.5F;
    table->quantize(l->x + first * l->inputs, rows, l->inputs, MF_CODING_CENTRED, &x);
    table->linear8(&(mf_linear8_call){
        .matrix = &l->matrix,
        .x = x,
        .rows = rows,
        .epilogue = epilogue,
        .residual =
            epilogue == MF_EPILOGUE_ADD ? l->residual + first * l->outputs : NULL,
        .y = y,
        .apart = l->apart == NULL ? NULL : l->apart + first,
        .apart_bias = l->apart == NULL ? NULL : l->apart_bias,
    });
    assert_true(y[rows * l->outputs] == 1234.5F);
    mf_free(x.q);
    mf_free(x.scales);
    return y;
}

/* Half a step of activations and half a step of weights, at random, over all inputs. */
static void check_values(const layer *l, mf_epilogue epilogue, const float *y) {
    for (size_t row = 0; row < l->rows; row++) {
        for (size_t n = 0; n < l->outputs; n++) {
            bool apart = l->apart != NULL && l->apart[row];
            double sum = (double)(apart ? l->apart_bias : l->bias)[n];
            for (size_t k = 0; k < l->inputs; k++) {
                sum += (double)l->x[row * l->inputs + k] * (double)l->factors[k] *
                       (double)l->weights[n * l->inputs + k];
            }
            if (epilogue == MF_EPILOGUE_GELU) {
                sum = sum / 2.0 * (1.0 + erf(sum / sqrt(2.0)));
            } else if (epilogue == MF_EPILOGUE_ADD) {
                sum += (double)l->residual[row * l->outputs + n];
            }
            assert_true(fabs((double)y[row * l->outputs + n] - sum) < 0.09);
        }
    }
}

static void layers_are_near_the_exact_ones_with_every_epilogue(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{9, 100, 48}, {3, 64, 384}, {1, 5, 3}, {0, 8, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        layer l = make_layer(sizes[i][0], sizes[i][1], sizes[i][2]);
        for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
            float *first = NULL;
            EACH_TABLE(table) {
                float *y = run_layer(table, &l, 0, l.rows, e);
                check_values(&l, e, y);
                if (first == NULL) {
                    first = y;
                    continue;
                }
                assert_memory_equal(y, first, l.rows * l.outputs * sizeof *y);
                mf_free(y);
            }
            mf_free(first);
        }
        free_layer(&l);
    }
}

/* Tiles are cut along rows, inputs and outputs: every number of rows up to more than
 * two tiles, inputs that fill no whole tile, and a last panel of few outputs. */
static void vector_tables_agree_bit_by_bit_for_every_number_of_rows(void **state) {
    (void)state;
    enum { ROWS = 40 };
    static const size_t sizes[][2] = {{70, 40}, {64, 64}, {130, 100}, {17, 200}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        layer l = make_layer(ROWS, sizes[i][0], sizes[i][1]);
        for (size_t rows = 1; rows <= ROWS; rows++) {
            for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
                float *first = NULL;
                EACH_TABLE(table) {
                    if (table->level == MF_CPU_SCALAR) {
                        continue;
                    }
                    float *y = run_layer(table, &l, ROWS - rows, rows, e);
                    if (first != NULL) {
                        assert_memory_equal(y, first, rows * l.outputs * sizeof *y);
                    }
                    mf_free(first);
                    first = y;
                }
                mf_free(first);
            }
        }
        free_layer(&l);
    }
}

/* The residual may be the very rows that the results replace. */
static void adding_in_place_adds_once(void **state) {
    (void)state;
    layer l = make_layer(37, 70, 64);
    size_t count = l.rows * l.outputs;
    mf_rows8 x = {must_alloc(l.rows * mf_stride8(l.inputs)),
                  must_alloc(l.rows * sizeof(float))};
    float *y = must_alloc(count * sizeof *y);
    EACH_TABLE(table) {
        float *apart = run_layer(table, &l, 0, l.rows, MF_EPILOGUE_ADD);
        memcpy(y, l.residual, count * sizeof *y);
        table->quantize(l.x, l.rows, l.inputs, MF_CODING_CENTRED, &x);
        table->linear8(&(mf_linear8_call){.matrix = &l.matrix,
                                          .x = x,
                                          .rows = l.rows,
                                          .epilogue = MF_EPILOGUE_ADD,
                                          .residual = y,
                                          .y = y});
        assert_memory_equal(y, apart, count * sizeof *y);
        mf_free(apart);
    }
    mf_free(x.q);
    mf_free(x.scales);
    mf_free(y);
    free_layer(&l);
}

/* The rows set apart in some pattern, and everything else as before: near the exact
 * results, and the same bits in every variant. */
static void rows_set_apart_get_the_other_bias(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{1, 64, 64},  {7, 70, 40},    {16, 130, 67},
                                      {23, 17, 48}, {37, 192, 100}, {50, 64, 384}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        layer l = make_layer(sizes[i][0], sizes[i][1], sizes[i][2]);
        l.apart = must_alloc(l.rows * sizeof *l.apart);
        for (size_t row = 0; row < l.rows; row++) {
            l.apart[row] = row == 0 || mf_rng_below(&rng, 3) == 0;
        }
        for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
            float *first = NULL;
            EACH_TABLE(table) {
                float *y = run_layer(table, &l, 0, l.rows, e);
                check_values(&l, e, y);
                if (first != NULL) {
                    assert_memory_equal(y, first, l.rows * l.outputs * sizeof *y);
                }
                mf_free(first);
                first = y;
            }
            mf_free(first);
        }
        free_layer(&l);
    }
}

static void a_row_has_the_same_bits_alone_and_among_others(void **state) {
    (void)state;
    enum { ROWS = 23, OUTPUTS = 70, INPUTS = 40 };
    layer l = make_layer(ROWS, OUTPUTS, INPUTS);
    EACH_TABLE(table) {
        for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
            float *all = run_layer(table, &l, 0, ROWS, e);
            for (size_t count = 1; count <= 13; count++) {
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

/* Whole numbers that need no scaling go through a layer of one input, with weight 1 and
 * scale x / q, to reach GELU exactly. */
static void gelu_stays_within_its_stated_error(void **state) {
    (void)state;
    enum { ROWS = 8001 };
    const float one = 1.0F;
    const float zero = 0.0F;
    void *image = must_alloc(mf_matrix8_bytes(1, 1));
    mf_rows8 x = {must_alloc((size_t)ROWS * MF_STRIDE8),
                  must_alloc(ROWS * sizeof(float))};
    float *y = must_alloc(ROWS * sizeof *y);
    mf_matrix8_set(image, 1, 1,
                   &(mf_matrix8_part){.count = 1, .weights = &one, .bias = &zero});
    mf_matrix8 matrix = mf_matrix8_view(image, 1, 1);
    for (size_t i = 0; i < ROWS; i++) {
        x.q[i * MF_STRIDE8] = 129;
        x.scales[i] = ((float)i - 4000.0F) / 320.0F; /* -12.5..12.5 */
    }
    EACH_TABLE(table) {
        table->linear8(&(mf_linear8_call){.matrix = &matrix,
                                          .x = x,
                                          .rows = ROWS,
                                          .epilogue = MF_EPILOGUE_GELU,
                                          .y = y});
        for (size_t i = 0; i < ROWS; i++) {
            double v = (double)x.scales[i];
            double exact = v / 2.0 * (1.0 + erf(v / sqrt(2.0)));
            double allowed = fmax(1.2e-4, 6e-5 * fabs(v));
            if (fabs((double)y[i] - exact) > allowed) {
                fail_msg("%s: gelu(%.9g) = %.9g, expected %.9g",
                         mf_cpu_level_name(table->level), v, (double)y[i], exact);
            }
        }
    }
    mf_free(image);
    mf_free(x.q);
    mf_free(x.scales);
    mf_free(y);
}

/* --- activations ------------------------------------------------------------------ */

static void check_row(const float *v, size_t width, mf_coding8 coding, float scale,
                      const uint8_t *q) {
    for (size_t i = 0; i < width; i++) {
        double value = coding == MF_CODING_CENTRED
                           ? (double)scale * (q[i] - 128)
                           : (double)scale * q[i] + (double)MF_GELU_LOW;
        assert_true(fabs(value - (double)v[i]) <=
                    0.5001 * (double)scale + 1e-6 * fabs((double)v[i]));
        assert_true(coding == MF_CODING_GELU || q[i] >= 1);
    }
}

static void quantised_rows_are_within_half_a_step_and_equal_everywhere(void **state) {
    (void)state;
    static const size_t widths[] = {1, 15, 16, 17, 48, 384, 1000};
    enum { ROWS = 5 };
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        size_t width = widths[w];
        size_t stride = mf_stride8(width);
        float *v = random_floats(ROWS * width, 3.0);
        memset(v, 0, width * sizeof *v); /* a row of zeros */
        mf_rows8 first = {must_alloc(ROWS * stride), must_alloc(ROWS * sizeof(float))};
        mf_rows8 rows = {must_alloc(ROWS * stride), must_alloc(ROWS * sizeof(float))};
        for (mf_coding8 c = MF_CODING_CENTRED; c <= MF_CODING_GELU; c++) {
            for (size_t i = 0; c == MF_CODING_GELU && i < ROWS * width; i++) {
                v[i] = fmaxf(v[i], MF_GELU_LOW);
            }
            mf_kernels_at(MF_CPU_SCALAR)->quantize(v, ROWS, width, c, &first);
            for (size_t row = 0; row < ROWS; row++) {
                check_row(v + row * width, width, c, first.scales[row],
                          first.q + row * stride);
            }
            EACH_TABLE(table) {
                table->quantize(v, ROWS, width, c, &rows);
                assert_memory_equal(rows.q, first.q, ROWS * stride);
                assert_memory_equal(rows.scales, first.scales, ROWS * sizeof(float));
            }
        }
        mf_free(v);
        mf_free(first.q);
        mf_free(first.scales);
        mf_free(rows.q);
        mf_free(rows.scales);
    }
}

static void check_norm8(size_t width) {
    enum { ROWS = 19 };
    size_t stride = mf_stride8(width);
    float *x = random_floats(ROWS * width, 3.0);
    float *gain = random_floats(width, 2.0);
    float *bias = random_floats(width, 1.0);
    float *shrink = random_floats(width, 1.0);
    float *exact = must_alloc(ROWS * width * sizeof *exact);
    float *shrunk = must_alloc(ROWS * width * sizeof *shrunk);
    float *y = must_alloc(ROWS * width * sizeof *y);
    mf_rows8 rows = {must_alloc(ROWS * stride), must_alloc(ROWS * sizeof(float))};
    mf_rows8 wanted = {must_alloc(ROWS * stride), must_alloc(ROWS * sizeof(float))};
    mf_kernels_at(MF_CPU_SCALAR)->layer_norm(x, ROWS, width, gain, bias, 1e-12F, exact);
    for (size_t i = 0; i < ROWS * width; i++) {
        shrunk[i] = exact[i] * shrink[i % width];
    }
    mf_kernels_at(MF_CPU_SCALAR)
        ->quantize(shrunk, ROWS, width, MF_CODING_CENTRED, &wanted);
    EACH_TABLE(table) {
        table->layer_norm8(x, ROWS, width, gain, bias, shrink, 1e-12F, y, &rows);
        assert_memory_equal(y, exact, ROWS * width * sizeof *y);
        assert_memory_equal(rows.q, wanted.q, ROWS * stride);
        assert_memory_equal(rows.scales, wanted.scales, ROWS * sizeof(float));
    }
    mf_free(x);
    mf_free(gain);
    mf_free(bias);
    mf_free(shrink);
    mf_free(exact);
    mf_free(shrunk);
    mf_free(y);
    mf_free(rows.q);
    mf_free(rows.scales);
    mf_free(wanted.q);
    mf_free(wanted.scales);
}

static void a_norm_in_8_bits_is_the_norm_then_8_bits_in_every_variant(void **state) {
    (void)state;
    static const size_t widths[] = {16, 96, 112, 384};
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        check_norm8(widths[w]);
    }
    assert_int_equal(mf_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_the_same_integers_in_every_variant),
        cmocka_unit_test(the_largest_products_do_not_saturate),
        cmocka_unit_test(layers_are_near_the_exact_ones_with_every_epilogue),
        cmocka_unit_test(vector_tables_agree_bit_by_bit_for_every_number_of_rows),
        cmocka_unit_test(adding_in_place_adds_once),
        cmocka_unit_test(rows_set_apart_get_the_other_bias),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_among_others),
        cmocka_unit_test(gelu_stays_within_its_stated_error),
        cmocka_unit_test(quantised_rows_are_within_half_a_step_and_equal_everywhere),
        cmocka_unit_test(a_norm_in_8_bits_is_the_norm_then_8_bits_in_every_variant),
    };
    return cmocka_run_group_tests(tests, seed_rng, NULL);
}
