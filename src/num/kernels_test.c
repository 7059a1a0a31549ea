/* kernels_test.c - every variant this machine can run is near the formulas of the
 * books, all agree bit by bit (in linear layers of floats, all but plain C), and no row
 * depends on its neighbours. */
#include "num/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "num/pool.h"

enum { SEED = 4711 };

static mf_rng rng;

static int seed_rng(void **state) {
    (void)state;
    mf_rng_init(&rng, SEED);
    print_message("seed %d\n", SEED);
    return 0;
}

/* `count` numbers in [-size, size]. */
static float *random_floats(size_t count, double size) {
    float *v = mf_alloc_aligned(64, (count + 1) * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < count; i++) {
        v[i] = (float)((mf_rng_unit(&rng) * 2.0 - 1.0) * size);
    }
    return v;
}

static float *blank_floats(size_t count) {
    float *v = mf_alloc_aligned(64, (count + 1) * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i <= count; i++) {
        v[i] = 1234.5F; /* to see what is not written, and the one behind the end */
    }
    return v;
}

static void assert_near(const float *a, const float *b, size_t count, float tolerance) {
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(a[i] - b[i]) <= tolerance * fmaxf(1.0F, fabsf(b[i])))) {
            fail_msg("number %zu of %zu: %.9g, expected %.9g", i, count, (double)a[i],
                     (double)b[i]);
        }
    }
}

/* Calls `check` with each table but the reference, in rising order. */
#define EACH_VECTOR_TABLE(table)                                                       \
    for (mf_cpu_level level_ = MF_CPU_AVX2; level_ < MF_CPU_LEVEL_COUNT; level_++)     \
        for (const mf_kernels *table = mf_kernels_at(level_); table != NULL;           \
             table = NULL)

static const mf_kernels *reference(void) {
    return mf_kernels_at(MF_CPU_SCALAR);
}

static void the_best_table_is_the_highest_level(void **state) {
    (void)state;
    assert_ptr_equal(mf_kernels_best(), mf_kernels_at(mf_cpu_best()));
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        const mf_kernels *table = mf_kernels_at(level);
        assert_int_equal(table != NULL, mf_cpu_has(level));
        if (table != NULL) {
            assert_int_equal(table->level, level);
            print_message("can run %s\n", mf_cpu_level_name(level));
        }
    }
}

/* --- linear layer ----------------------------------------------------------------- */

typedef struct layer {
    mf_matrix *matrix;
    size_t rows, outputs, inputs;
    float *weights, *bias, *x, *residual;
} layer;

static layer make_layer(size_t rows, size_t outputs, size_t inputs) {
    layer l = {.rows = rows, .outputs = outputs, .inputs = inputs};
    assert_int_equal(mf_matrix_new(outputs, inputs, &l.matrix, NULL), MF_OK);
    l.weights = random_floats(outputs * inputs, 2.0 / sqrt((double)inputs));
    l.bias = random_floats(outputs, 1.0);
    l.x = random_floats(rows * inputs, 2.0);
    l.residual = random_floats(rows * outputs, 1.0);
    size_t first_part = outputs / 3; /* in two parts, the seam inside a panel */
    mf_matrix_set(l.matrix, 0, first_part, l.weights, l.bias);
    mf_matrix_set(l.matrix, first_part, outputs - first_part,
                  l.weights + first_part * inputs, l.bias + first_part);
    return l;
}

static void free_layer(layer *l) {
    mf_matrix_free(l->matrix);
    mf_free(l->weights);
    mf_free(l->bias);
    mf_free(l->x);
    mf_free(l->residual);
}

static float *run_layer(const mf_kernels *table, const layer *l, size_t first,
                        size_t rows, mf_epilogue epilogue) {
    float *y = blank_floats(rows * l->outputs);
    table->linear(&(mf_linear_call){
        .matrix = l->matrix,
        .x = l->x + first * l->inputs,
        .rows = rows,
        .epilogue = epilogue,
        .residual =
            epilogue == MF_EPILOGUE_ADD ? l->residual + first * l->outputs : NULL,
        .y = y,
    });
    assert_true(y[rows * l->outputs] == 1234.5F);
    return y;
}

/* The definition, in double precision. */
static void check_reference(const layer *l, mf_epilogue epilogue, const float *y) {
    for (size_t row = 0; row < l->rows; row++) {
        for (size_t n = 0; n < l->outputs; n++) {
            double sum = (double)l->bias[n];
            for (size_t k = 0; k < l->inputs; k++) {
                sum += (double)l->x[row * l->inputs + k] *
                       (double)l->weights[n * l->inputs + k];
            }
            if (epilogue == MF_EPILOGUE_GELU) {
                sum = sum / 2.0 * (1.0 + erf(sum / sqrt(2.0)));
            } else if (epilogue == MF_EPILOGUE_ADD) {
                sum += (double)l->residual[row * l->outputs + n];
            }
            float expected = (float)sum;
            assert_near(&y[row * l->outputs + n], &expected, 1, 1e-5F);
        }
    }
}

static void check_layer(size_t rows, size_t outputs, size_t inputs) {
    layer l = make_layer(rows, outputs, inputs);
    for (mf_epilogue e = MF_EPILOGUE_NONE; e <= MF_EPILOGUE_ADD; e++) {
        float *expected = run_layer(reference(), &l, 0, rows, e);
        float *first = NULL;
        check_reference(&l, e, expected);
        EACH_VECTOR_TABLE(table) {
            float *y = run_layer(table, &l, 0, rows, e);
            assert_near(y, expected, rows * outputs, 2e-6F);
            if (first == NULL) {
                first = y;
                continue;
            }
            assert_memory_equal(y, first, rows * outputs * sizeof *y);
            mf_free(y);
        }
        mf_free(first);
        mf_free(expected);
    }
    free_layer(&l);
}

static void linear_layers_of_odd_sizes_agree(void **state) {
    (void)state;
    static const size_t rows[] = {1, 2, 3, 5, 6, 7, 11, 12, 13, 25};
    static const size_t outputs[] = {1, 31, 32, 33, 64, 100};
    static const size_t inputs[] = {1, 2, 15, 48};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (size_t n = 0; n < sizeof outputs / sizeof outputs[0]; n++) {
            for (size_t k = 0; k < sizeof inputs / sizeof inputs[0]; k++) {
                check_layer(rows[r], outputs[n], inputs[k]);
            }
        }
    }
    check_layer(0, 8, 8);
    check_layer(9, 384, 384);
    check_layer(4, 96, 1536);
}

static void the_residual_may_lie_where_the_results_go(void **state) {
    (void)state;
    static const size_t outputs[] = {31, 32, 64, 100};
    for (size_t n = 0; n < sizeof outputs / sizeof outputs[0]; n++) {
        enum { ROWS = 13 };
        layer l = make_layer(ROWS, outputs[n], 48);
        size_t count = ROWS * outputs[n];
        for (mf_cpu_level at = MF_CPU_SCALAR; at < MF_CPU_LEVEL_COUNT; at++) {
            const mf_kernels *table = mf_kernels_at(at);
            if (table == NULL) {
                continue;
            }
            float *apart = run_layer(table, &l, 0, ROWS, MF_EPILOGUE_ADD);
            float *y = blank_floats(count);
            memcpy(y, l.residual, count * sizeof *y);
            table->linear(&(mf_linear_call){.matrix = l.matrix,
                                            .x = l.x,
                                            .rows = ROWS,
                                            .epilogue = MF_EPILOGUE_ADD,
                                            .residual = y,
                                            .y = y});
            assert_memory_equal(y, apart, count * sizeof *y);
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
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        const mf_kernels *table = mf_kernels_at(level);
        for (mf_epilogue e = MF_EPILOGUE_NONE; table != NULL && e <= MF_EPILOGUE_ADD;
             e++) {
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

/* A layer of one input with weight 1 and bias 0 applies the epilogue to x. */
static void gelu_stays_within_its_stated_error(void **state) {
    (void)state;
    enum { POINTS = 40001 };
    const float one = 1.0F;
    const float zero = 0.0F;
    mf_matrix *matrix = NULL;
    float *x = blank_floats(POINTS);
    float *y = blank_floats(POINTS);
    assert_int_equal(mf_matrix_new(1, 1, &matrix, NULL), MF_OK);
    mf_matrix_set(matrix, 0, 1, &one, &zero);
    for (size_t i = 0; i < POINTS; i++) {
        x[i] = ((float)i - 20000.0F) / 1600.0F; /* -12.5..12.5 */
    }
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        const mf_kernels *table = mf_kernels_at(level);
        if (table == NULL) {
            continue;
        }
        table->linear(&(mf_linear_call){.matrix = matrix,
                                        .x = x,
                                        .rows = POINTS,
                                        .epilogue = MF_EPILOGUE_GELU,
                                        .y = y});
        for (size_t i = 0; i < POINTS; i++) {
            double exact = (double)x[i] / 2.0 * (1.0 + erf((double)x[i] / sqrt(2.0)));
            /* erf to 3e-7, times x / 2, and half a unit of rounding. */
            double allowed = 1.5e-7 * fabs((double)x[i]) + 6e-8 * fabs(exact);
            if (fabs((double)y[i] - exact) > allowed) {
                fail_msg("%s: gelu(%.9g) = %.9g, expected %.9g",
                         mf_cpu_level_name(level), (double)x[i], (double)y[i], exact);
            }
        }
    }
    mf_matrix_free(matrix);
    mf_free(x);
    mf_free(y);
}

static void a_matrix_tells_its_size(void **state) {
    (void)state;
    mf_matrix *matrix = NULL;
    assert_int_equal(mf_matrix_new(33, 7, &matrix, NULL), MF_OK);
    assert_int_equal(mf_matrix_outputs(matrix), 33);
    assert_int_equal(mf_matrix_inputs(matrix), 7);
    assert_true(mf_matrix_bytes(matrix) >= (size_t)33 * 8 * sizeof(float));
    mf_matrix_free(matrix);
    mf_matrix_free(NULL);
    assert_int_equal(mf_alloc_live(), 0);
}

/* --- layer norm ------------------------------------------------------------------- */

/* Ba et al. 2016, in double precision. */
static void book_layer_norm(const float *x, size_t width, const float *gain,
                            const float *bias, float *y) {
    double mean = 0.0;
    double variance = 0.0;
    for (size_t i = 0; i < width; i++) {
        mean += (double)x[i] / (double)width;
    }
    for (size_t i = 0; i < width; i++) {
        double off = (double)x[i] - mean;
        variance += off * off / (double)width;
    }
    for (size_t i = 0; i < width; i++) {
        double scaled = ((double)x[i] - mean) / sqrt(variance + 1e-12);
        y[i] = (float)(scaled * (double)gain[i] + (double)bias[i]);
    }
}

static void check_layer_norm(size_t width) {
    enum { ROWS = 21 };
    float *x = random_floats(ROWS * width, 3.0);
    float *gain = random_floats(width, 2.0);
    float *bias = random_floats(width, 1.0);
    float *expected = blank_floats(ROWS * width);
    float *first = blank_floats(ROWS * width);
    for (size_t i = 0; i < width; i++) {
        x[i] = 7.0F; /* a row without variance */
        x[width + i] += 100.0F;
    }
    for (size_t row = 0; row < ROWS; row++) {
        book_layer_norm(x + row * width, width, gain, bias, expected + row * width);
    }
    reference()->layer_norm(x, ROWS, width, gain, bias, 1e-12F, first);
    assert_near(first, expected, ROWS * width, 2e-5F);
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        const mf_kernels *table = mf_kernels_at(level);
        if (table == NULL) {
            continue;
        }
        float *y = blank_floats(ROWS * width);
        table->layer_norm(x, ROWS, width, gain, bias, 1e-12F, y);
        assert_memory_equal(y, first, ROWS * width * sizeof *y);
        assert_true(y[ROWS * width] == 1234.5F);
        float *alone = blank_floats(width);
        table->layer_norm(x + 18 * width, 1, width, gain, bias, 1e-12F, alone);
        assert_memory_equal(alone, y + 18 * width, width * sizeof *y);
        mf_free(alone);
        memcpy(y, x, ROWS * width * sizeof *y); /* in place */
        table->layer_norm(y, ROWS, width, gain, bias, 1e-12F, y);
        assert_memory_equal(y, first, ROWS * width * sizeof *y);
        mf_free(y);
    }
    mf_free(x);
    mf_free(gain);
    mf_free(bias);
    mf_free(expected);
    mf_free(first);
}

static void layer_norms_agree(void **state) {
    (void)state;
    static const size_t widths[] = {16, 32, 48, 80, 384, 1024};
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        check_layer_norm(widths[w]);
    }
}

/* --- attention -------------------------------------------------------------------- */

/* softmax(Q K^T / sqrt(head_dim) + relative) V as it stands in the books (Vaswani et
 * al. 2017), in double precision. */
static void book_attention(const mf_attention_call *call, float *context) {
    size_t dim = call->head_dim;
    size_t hidden = call->heads * dim;
    double *weights = mf_alloc_array(call->tokens, sizeof *weights);
    assert_non_null(weights);
    for (size_t at = 0; at < call->heads * call->tokens; at++) {
        size_t head = at / call->tokens;
        size_t query = at % call->tokens;
        const float *q = call->qkv + query * 3 * hidden + head * dim;
        double largest = -INFINITY;
        double sum = 0.0;
        for (size_t key = 0; key < call->tokens; key++) {
            const float *k = call->qkv + key * 3 * hidden + hidden + head * dim;
            double dot = 0.0;
            for (size_t d = 0; d < dim; d++) {
                dot += (double)q[d] * (double)k[d];
            }
            weights[key] = dot / sqrt((double)dim);
            if (call->relative != NULL) {
                size_t span = call->relative_span;
                size_t place = head * (2 * span - 1) + span - 1 + key - query;
                weights[key] += (double)call->relative[place];
            }
            largest = fmax(largest, weights[key]);
        }
        for (size_t key = 0; key < call->tokens; key++) {
            weights[key] = exp(weights[key] - largest);
            sum += weights[key];
        }
        for (size_t d = 0; d < dim; d++) {
            const float *v = call->qkv + 2 * hidden + head * dim + d;
            double mixed = 0.0;
            for (size_t key = 0; key < call->tokens; key++) {
                mixed += weights[key] * (double)v[key * 3 * hidden];
            }
            context[query * hidden + head * dim + d] = (float)(mixed / sum);
        }
    }
    mf_free(weights);
}

typedef struct attention_shape {
    size_t tokens, heads, head_dim;
    size_t span; /* of relative scores; 0: none */
} attention_shape;

/* Rounded to the 8 significant bits of bf16, half-way numbers away from zero. */
static void round_to_bf16(float *v, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bits = (bits + 0x8000) & 0xFFFF0000;
        memcpy(&v[i], &bits, sizeof bits);
    }
}

typedef struct attention_case {
    mf_attention_call call;
    size_t count;         /* numbers of a context */
    size_t scratch_count; /* floats */
    float *qkv, *relative;
} attention_case;

/* Numbers up to `size` in queries, keys and values. */
static attention_case make_attention(attention_shape shape, double size) {
    attention_case c = {
        .count = shape.tokens * shape.heads * shape.head_dim,
        .scratch_count = mf_attention_scratch(shape.tokens, shape.head_dim),
        .relative = random_floats(shape.heads * 2 * shape.span, 4.0),
    };
    c.qkv = random_floats(3 * c.count, size);
    c.call = (mf_attention_call){
        .qkv = c.qkv,
        .tokens = shape.tokens,
        .heads = shape.heads,
        .head_dim = shape.head_dim,
        .scratch = blank_floats(c.scratch_count),
        .relative = shape.span == 0 ? NULL : c.relative,
        .relative_span = shape.span,
    };
    return c;
}

static void free_attention(attention_case *c) {
    mf_free(c->qkv);
    mf_free(c->relative);
    mf_free(c->call.scratch);
}

/* Every table gives the same bits, near those of the books. */
static void check_case(attention_case *c, bool bf16, float tolerance) {
    float *expected = blank_floats(c->count);
    float *first = NULL;
    book_attention(&c->call, expected);
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        const mf_kernels *table = mf_kernels_at(level);
        if (table == NULL) {
            continue;
        }
        float *context = blank_floats(c->count);
        c->call.context = context;
        (bf16 ? table->attention16 : table->attention)(&c->call);
        assert_true(context[c->count] == 1234.5F);
        assert_true(c->call.scratch[c->scratch_count] == 1234.5F);
        assert_near(context, expected, c->count, tolerance);
        if (first == NULL) {
            first = context;
            continue;
        }
        assert_memory_equal(context, first, c->count * sizeof *context);
        mf_free(context);
    }
    mf_free(first);
    mf_free(expected);
}

static void check_attention(attention_shape shape, double size, float tolerance) {
    attention_case c = make_attention(shape, size);
    check_case(&c, false, tolerance);
    free_attention(&c);
}

/* Of numbers that are bf16 already only the weights are rounded, by half a step of
 * 2^-8 at most: values up to `size` leave that much of them. */
static void check_attention16(attention_shape shape, double size) {
    attention_case c = make_attention(shape, size);
    round_to_bf16(c.qkv, 3 * c.count);
    check_case(&c, true, (float)size * (1.0F / 512.0F + 2.2e-4F));
    free_attention(&c);
}

static void attention_over_odd_lengths_agrees(void **state) {
    (void)state;
    for (size_t tokens = 1; tokens <= 70; tokens++) {
        check_attention((attention_shape){tokens, 3, 32, 0}, 1.0, 2e-6F);
    }
    check_attention((attention_shape){256, 2, 32, 0}, 1.0, 2e-6F);
    check_attention((attention_shape){19, 2, 16, 0}, 1.0, 2e-6F);
    check_attention((attention_shape){33, 1, 48, 0}, 1.0, 2e-6F);
    check_attention((attention_shape){7, 2, MF_HEAD_DIM_MAX, 0}, 1.0, 2e-6F);
}

static void attention_in_bf16_stays_within_its_stated_error(void **state) {
    (void)state;
    for (size_t tokens = 1; tokens <= 70; tokens++) {
        check_attention16((attention_shape){tokens, 3, 32, 0}, 1.0);
        check_attention16((attention_shape){tokens, 2, 32, tokens + 3}, 1.0);
    }
    check_attention16((attention_shape){256, 12, 32, 0}, 1.0);
    check_attention16((attention_shape){100, 2, 16, 0}, 1.0);
    check_attention16((attention_shape){33, 3, 48, 0}, 1.0);
    check_attention16((attention_shape){81, 2, 64, 128}, 1.0);
    check_attention16((attention_shape){7, 2, MF_HEAD_DIM_MAX, 0}, 1.0);
}

/* Numbers of all sizes, not representable ones too: the bits are still the same. */
static void attention_in_bf16_has_the_same_bits_everywhere(void **state) {
    (void)state;
    static const double sizes[] = {1e-20, 1e-4, 3.0, 30.0, 1e4};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t tokens = 1; tokens <= 50; tokens += 7) {
            attention_case c =
                make_attention((attention_shape){tokens, 2, 32, 0}, sizes[i]);
            check_case(&c, true, INFINITY);
            free_attention(&c);
        }
    }
}

static void attention_adds_what_distances_add(void **state) {
    (void)state;
    for (size_t tokens = 1; tokens <= 40; tokens++) {
        check_attention((attention_shape){tokens, 3, 32, tokens}, 1.0, 4e-6F);
        check_attention((attention_shape){tokens, 2, 32, 50}, 1.0, 4e-6F);
    }
    check_attention((attention_shape){200, 2, 64, 256}, 1.0, 4e-6F);
}

/* Scores hundreds apart: most weight on one token, nothing overflows.  Rounding of a
 * score counts in full in its exponential, so less agreement is to be had. */
static void attention_survives_extreme_scores(void **state) {
    (void)state;
    check_attention((attention_shape){40, 2, 32, 0}, 12.0, 1e-3F);
    check_attention((attention_shape){40, 2, 32, 64}, 12.0, 1e-3F);
}

/* With one token the context is that token's value. */
static void a_lone_token_attends_to_itself(void **state) {
    (void)state;
    enum { DIM = 32 };
    float *qkv = random_floats(3 * DIM, 1.0);
    float *scratch = blank_floats(mf_attention_scratch(1, DIM));
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        float context[DIM];
        if (mf_kernels_at(level) != NULL) {
            mf_kernels_at(level)->attention(&(mf_attention_call){.qkv = qkv,
                                                                 .tokens = 1,
                                                                 .heads = 1,
                                                                 .head_dim = DIM,
                                                                 .context = context,
                                                                 .scratch = scratch});
            assert_memory_equal(context, qkv + 2 * DIM, sizeof context);
        }
    }
    mf_free(qkv);
    mf_free(scratch);
}

/* --- the rest --------------------------------------------------------------------- */

static void one_bad_number_anywhere_is_found(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    enum { COUNT = 37 };
    float *v = random_floats(COUNT, 3e38);
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        const mf_kernels *table = mf_kernels_at(level);
        for (size_t count = 0; table != NULL && count <= COUNT; count++) {
            assert_true(table->all_finite(v, count));
            for (size_t at = 0; at < count; at++) {
                float kept = v[at];
                v[at] = bad[at % 3];
                assert_false(table->all_finite(v, count));
                v[at] = kept;
            }
        }
    }
    mf_free(v);
}

static void pooling_is_the_mean_of_the_rows(void **state) {
    (void)state;
    const float x[3][2] = {{1.0F, -2.0F}, {2.0F, 0.5F}, {6.0F, 0.0F}};
    float out[2];
    mf_pool_mean(x[0], 3, 2, out);
    assert_float_equal(out[0], 3.0F, 1e-6);
    assert_float_equal(out[1], -0.5F, 1e-6);
    mf_pool_mean(x[1], 1, 2, out);
    assert_memory_equal(out, x[1], sizeof out);
}

static void normalising_gives_norm_one_or_refuses(void **state) {
    (void)state;
    float v[3] = {3.0F, 0.0F, -4.0F};
    float huge[2] = {3e38F, 3e38F};
    float zero[2] = {0.0F, -0.0F};
    float bad[2] = {1.0F, NAN};
    assert_true(mf_normalize(v, 3));
    assert_float_equal(v[0], 0.6F, 1e-7);
    assert_float_equal(v[2], -0.8F, 1e-7);
    assert_true(mf_normalize(huge, 2));
    assert_float_equal(huge[0], 0.70710678F, 1e-7);
    assert_false(mf_normalize(zero, 2));
    assert_false(mf_normalize(bad, 2));
    assert_true(bad[0] == 1.0F);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_table_is_the_highest_level),
        cmocka_unit_test(linear_layers_of_odd_sizes_agree),
        cmocka_unit_test(the_residual_may_lie_where_the_results_go),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_among_others),
        cmocka_unit_test(gelu_stays_within_its_stated_error),
        cmocka_unit_test(a_matrix_tells_its_size),
        cmocka_unit_test(layer_norms_agree),
        cmocka_unit_test(attention_over_odd_lengths_agrees),
        cmocka_unit_test(attention_in_bf16_stays_within_its_stated_error),
        cmocka_unit_test(attention_in_bf16_has_the_same_bits_everywhere),
        cmocka_unit_test(attention_adds_what_distances_add),
        cmocka_unit_test(attention_survives_extreme_scores),
        cmocka_unit_test(a_lone_token_attends_to_itself),
        cmocka_unit_test(one_bad_number_anywhere_is_found),
        cmocka_unit_test(pooling_is_the_mean_of_the_rows),
        cmocka_unit_test(normalising_gives_norm_one_or_refuses),
    };
    return cmocka_run_group_tests(tests, seed_rng, NULL);
}
