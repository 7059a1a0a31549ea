/* rounding_test.c - rounded with regard to each other, weights give outputs that are
 * nearer to the exact ones than weights rounded one by one. */
#include "num/rounding.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"
#include "num/matrix8.h"

enum { WIDTH = 70, ROWS = 1100, SOURCES = 12, OUTPUTS = MF_ROUNDING_OUTPUTS };

typedef struct sample {
    float rows[ROWS][WIDTH];
    float weights[OUTPUTS][WIDTH];
    float factors[WIDTH];
    float scales[OUTPUTS];
} sample;

static float noise(mf_rng *rng) {
    return (float)(mf_rng_unit(rng) - 0.5);
}

/* Inputs that a few sources drive, and a little noise of their own. */
static void make_sample(sample *s) {
    static float mix[SOURCES][WIDTH];
    mf_rng rng;
    mf_rng_init(&rng, 5);
    for (size_t i = 0; i < (size_t)SOURCES * WIDTH; i++) {
        mix[i / WIDTH][i % WIDTH] = noise(&rng);
    }
    for (size_t row = 0; row < ROWS; row++) {
        float sources[SOURCES];
        for (size_t i = 0; i < SOURCES; i++) {
            sources[i] = noise(&rng);
        }
        for (size_t k = 0; k < WIDTH; k++) {
            s->rows[row][k] = 0.05F * noise(&rng);
            for (size_t i = 0; i < SOURCES; i++) {
                s->rows[row][k] += sources[i] * mix[i][k];
            }
        }
    }
    for (size_t k = 0; k < WIDTH; k++) {
        s->factors[k] = 1.0F + 0.5F * noise(&rng);
        for (size_t n = 0; n < OUTPUTS; n++) {
            s->weights[n][k] = noise(&rng);
        }
    }
    for (size_t n = 0; n < OUTPUTS; n++) {
        int8_t q[WIDTH];
        s->scales[n] = mf_quantize_row8(s->weights[n], WIDTH, q);
    }
}

/* The squared error of all outputs over all rows; inputs are divided by the factors. */
static double output_error(const sample *s, const int8_t *q) {
    double sum = 0.0;
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t n = 0; n < OUTPUTS; n++) {
            double error = 0.0;
            for (size_t k = 0; k < WIDTH; k++) {
                double weight = (double)s->weights[n][k];
                error += (weight - (double)s->scales[n] * q[k * OUTPUTS + n]) *
                         (double)s->rows[row][k] / (double)s->factors[k];
            }
            sum += error * error;
        }
    }
    return sum;
}

static void put_weights(const sample *s, mf_rounding *rounding) {
    float *weights = mf_rounding_weights(rounding);
    for (size_t k = 0; k < WIDTH; k++) {
        for (size_t n = 0; n < OUTPUTS; n++) {
            weights[k * OUTPUTS + n] = s->weights[n][k];
        }
    }
}

static void round_sample(const sample *s, mf_rounding *rounding, size_t rows) {
    for (size_t row = 0; row < rows; row++) {
        mf_rounding_note(rounding, s->rows[row]);
    }
    mf_rounding_prepare(rounding, s->factors);
    put_weights(s, rounding);
    mf_rounding_run(rounding, s->scales);
}

static void errors_of_weights_make_up_for_each_other(void **state) {
    (void)state;
    static sample s;
    int8_t nearest[WIDTH * OUTPUTS];
    mf_rounding *rounding = NULL;
    make_sample(&s);
    assert_int_equal(mf_rounding_new(mf_cpu_best(), WIDTH, &rounding, NULL), MF_OK);
    round_sample(&s, rounding, ROWS);
    for (size_t i = 0; i < (size_t)WIDTH * OUTPUTS; i++) {
        float weight = s.weights[i % OUTPUTS][i / OUTPUTS];
        nearest[i] = (int8_t)lrintf(weight / s.scales[i % OUTPUTS]);
    }
    double plain = output_error(&s, nearest);
    double rounded = output_error(&s, mf_rounding_result(rounding));
    print_message("error %.4g instead of %.4g\n", rounded, plain);
    assert_true(rounded < 0.15 * plain);
    mf_rounding_free(rounding);
}

static void without_inputs_each_weight_goes_to_the_nearest_step(void **state) {
    (void)state;
    static sample s;
    mf_rounding *rounding = NULL;
    make_sample(&s);
    assert_int_equal(mf_rounding_new(mf_cpu_best(), WIDTH, &rounding, NULL), MF_OK);
    round_sample(&s, rounding, 0);
    const int8_t *q = mf_rounding_result(rounding);
    for (size_t i = 0; i < (size_t)WIDTH * OUTPUTS; i++) {
        float weight = s.weights[i % OUTPUTS][i / OUTPUTS];
        assert_true(fabsf(weight - s.scales[i % OUTPUTS] * q[i]) <=
                    0.5001F * s.scales[i % OUTPUTS]);
    }
    mf_rounding_free(rounding);
}

static void a_reset_forgets_everything(void **state) {
    (void)state;
    static sample s;
    int8_t first[WIDTH * OUTPUTS];
    mf_rounding *rounding = NULL;
    make_sample(&s);
    assert_int_equal(mf_rounding_new(mf_cpu_best(), WIDTH, &rounding, NULL), MF_OK);
    round_sample(&s, rounding, 700);
    memcpy(first, mf_rounding_result(rounding), sizeof first);
    mf_rounding_reset(rounding);
    round_sample(&s, rounding, ROWS);
    assert_memory_not_equal(first, mf_rounding_result(rounding), sizeof first);
    mf_rounding_reset(rounding);
    round_sample(&s, rounding, 700);
    assert_memory_equal(first, mf_rounding_result(rounding), sizeof first);
    mf_rounding_free(rounding);
}

static void each_failed_allocation_is_told(void **state) {
    (void)state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_rounding *rounding = NULL;
        mf_rc rc = mf_rounding_new(mf_cpu_best(), WIDTH, &rounding, NULL);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        assert_true((rounding != NULL) == (rc == MF_OK));
        mf_rounding_free(rounding);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_of_weights_make_up_for_each_other),
        cmocka_unit_test(without_inputs_each_weight_goes_to_the_nearest_step),
        cmocka_unit_test(a_reset_forgets_everything),
        cmocka_unit_test(each_failed_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
