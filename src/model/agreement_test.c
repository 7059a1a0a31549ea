/* agreement_test.c - an encoder agrees with itself, and the figures for another are
 * those of a plain comparison of all with all. */
#include "model/agreement.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "model/encoder_private.h"
#include "model/tiny_model_testing.h"

/* More texts than are laid out at a time. */
enum { TEXTS = 1100, WORDS = 4, TEXT_BYTES = 6 * WORDS, DIM = TINY_HIDDEN };
enum { NEAREST = 5 };

typedef struct bench {
    char dir[64];
    mf_encoder *exact;
    mf_encoder *other;
    char bytes[TEXTS][TEXT_BYTES];
    mf_str texts[TEXTS];
} bench;

/* Text number n: the digits of n, to base 6, as words. */
static void make_texts(bench *b) {
    static const char *const words[] = {"red", "green", "blue", "cat", "dog", "runs"};
    for (size_t i = 0; i < TEXTS; i++) {
        size_t rest = i;
        int len = 0;
        for (size_t word = 0; word < WORDS; word++, rest /= 6) {
            len += snprintf(b->bytes[i] + len, TEXT_BYTES - (size_t)len, "%s%s",
                            word == 0 ? "" : " ", words[rest % 6]);
        }
        b->texts[i] = (mf_str){b->bytes[i], (size_t)len};
    }
}

static mf_encoder *must_open(const char *dir, mf_precision precision) {
    const mf_encoder_options options = {.precision = precision};
    mf_encoder *encoder = NULL;
    assert_int_equal(mf_encoder_open(dir, &options, &encoder, NULL), MF_OK);
    return encoder;
}

static int set_up(void **state) {
    static bench b;
    make_texts(&b);
    tiny_model_make(b.dir);
    b.exact = must_open(b.dir, MF_PRECISION_FP32);
    b.other = must_open(b.dir, MF_PRECISION_INT8);
    *state = &b;
    return 0;
}

static int tear_down(void **state) {
    bench *b = *state;
    (void)mf_encoder_unref(b->exact);
    (void)mf_encoder_unref(b->other);
    tiny_model_remove(b->dir);
    return mf_alloc_live() == 0 ? 0 : -1;
}

static mf_agreement must_measure(const mf_agreement_call *call) {
    mf_agreement result = {0};
    mf_err err;
    if (mf_agreement_measure(call, &result, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return result;
}

static void an_encoder_agrees_with_itself(void **state) {
    bench *b = *state;
    mf_agreement a = must_measure(&(mf_agreement_call){.exact = b->exact,
                                                       .other = b->exact,
                                                       .texts = b->texts,
                                                       .count = TEXTS,
                                                       .nearest = 10});
    assert_true(a.cosine_min > 1.0 - 1e-5 && a.cosine_min < 1.0 + 1e-5);
    assert_true(a.cosine_mean > 1.0 - 1e-6 && a.cosine_mean < 1.0 + 1e-6);
    assert_true(a.recall == 1.0);
}

static void encode(mf_encoder *encoder, const mf_str *texts, float vectors[][DIM]) {
    mf_lane *lane = NULL;
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    for (size_t i = 0; i < TEXTS; i++) {
        assert_int_equal(
            mf_lane_encode(lane, texts + i, 1, MF_NEVER, vectors[i], NULL, NULL),
            MF_OK);
    }
    mf_lane_close(lane);
}

static double dot(const float *a, const float *b) {
    double sum = 0.0;
    for (size_t i = 0; i < DIM; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* Scores of all texts with `text`, which gets one below all others, and the score of
 * the one that is number NEAREST in falling order. */
static double score_all(float vectors[][DIM], size_t text, double scores[TEXTS]) {
    double best[NEAREST] = {-2.0, -2.0, -2.0, -2.0, -2.0};
    for (size_t i = 0; i < TEXTS; i++) {
        scores[i] = i == text ? -2.0 : dot(vectors[text], vectors[i]);
        double score = scores[i];
        for (size_t k = 0; k < NEAREST; k++) {
            double other = best[k];
            bool better = score > other;
            best[k] = better ? score : other;
            score = better ? other : score;
        }
    }
    return best[NEAREST - 1];
}

static double plain_recall(float exact[][DIM], float other[][DIM]) {
    static double wanted[TEXTS];
    static double found[TEXTS];
    size_t common = 0;
    for (size_t text = 0; text < TEXTS; text++) {
        double least_wanted = score_all(exact, text, wanted);
        double least_found = score_all(other, text, found);
        for (size_t i = 0; i < TEXTS; i++) {
            common += wanted[i] >= least_wanted && found[i] >= least_found;
        }
    }
    return (double)common / (double)(TEXTS * NEAREST);
}

static void the_figures_are_those_of_a_plain_comparison(void **state) {
    bench *b = *state;
    static float exact[TEXTS][DIM];
    static float other[TEXTS][DIM];
    mf_agreement a = must_measure(&(mf_agreement_call){.exact = b->exact,
                                                       .other = b->other,
                                                       .texts = b->texts,
                                                       .count = TEXTS,
                                                       .nearest = NEAREST});
    encode(b->exact, b->texts, exact);
    encode(b->other, b->texts, other);
    double sum = 0.0;
    double least = 2.0;
    for (size_t i = 0; i < TEXTS; i++) {
        double cosine = dot(exact[i], other[i]);
        sum += cosine;
        least = cosine < least ? cosine : least;
    }
    assert_true(a.cosine_min == least);
    assert_true(dot(exact[a.worst], other[a.worst]) == least);
    assert_true(a.cosine_mean == sum / (double)TEXTS);
    /* Scores are floats there: texts that are equally near but for rounding may change
     * places. */
    double recall = plain_recall(exact, other);
    print_message("recall %.4f, counted plainly %.4f\n", a.recall, recall);
    assert_true(recall < 0.999); /* else the comparison says nothing */
    assert_true(a.recall > recall - 0.002 && a.recall < recall + 0.002);
}

static void few_texts_have_few_neighbours(void **state) {
    bench *b = *state;
    mf_agreement a = must_measure(&(mf_agreement_call){.exact = b->exact,
                                                       .other = b->other,
                                                       .texts = b->texts,
                                                       .count = 3,
                                                       .nearest = 10});
    assert_true(a.recall == 1.0);
}

static void bounds_are_kept(void **state) {
    bench *b = *state;
    const mf_agreement_call good = {.exact = b->exact,
                                    .other = b->other,
                                    .texts = b->texts,
                                    .count = 2,
                                    .nearest = 1};
    mf_agreement_call calls[] = {good, good, good, good};
    mf_agreement untouched = {.recall = 7.0};
    calls[0].count = 1;
    calls[1].count = MF_AGREEMENT_TEXTS_MAX + 1;
    calls[2].nearest = 0;
    calls[3].nearest = MF_AGREEMENT_NEAREST_MAX + 1;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        assert_int_equal(mf_agreement_measure(&calls[i], &untouched, NULL), MF_E_INVAL);
    }
    assert_true(untouched.recall == 7.0);
    (void)must_measure(&good);
}

static bool stop_at_second_call(void *context, size_t done, size_t total) {
    size_t *calls = context;
    assert_true(done <= total);
    return ++*calls < 2;
}

static void whoever_is_told_of_progress_may_stop_it(void **state) {
    bench *b = *state;
    size_t calls = 0;
    mf_agreement out;
    assert_int_equal(
        mf_agreement_measure(&(mf_agreement_call){.exact = b->exact,
                                                  .other = b->other,
                                                  .texts = b->texts,
                                                  .count = TEXTS,
                                                  .nearest = 10,
                                                  .progress = stop_at_second_call,
                                                  .context = &calls},
                             &out, NULL),
        MF_E_STOPPING);
    assert_int_equal(calls, 2);
}

static void each_failed_allocation_is_told(void **state) {
    bench *b = *state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_agreement out = {.recall = 7.0};
        size_t live = mf_alloc_live();
        mf_rc rc = mf_agreement_measure(&(mf_agreement_call){.exact = b->exact,
                                                             .other = b->other,
                                                             .texts = b->texts,
                                                             .count = 3,
                                                             .nearest = 1},
                                        &out, NULL);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        assert_true((out.recall == 7.0) == (rc != MF_OK));
        assert_int_equal(mf_alloc_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_encoder_agrees_with_itself),
        cmocka_unit_test(the_figures_are_those_of_a_plain_comparison),
        cmocka_unit_test(few_texts_have_few_neighbours),
        cmocka_unit_test(bounds_are_kept),
        cmocka_unit_test(whoever_is_told_of_progress_may_stop_it),
        cmocka_unit_test(each_failed_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
