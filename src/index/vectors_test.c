/* vectors_test.c - each document keeps exactly its own vectors, whatever moves
 * around. */
#include "index/vectors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"

enum { DIM = 100, SLOTS = 500, PARTS_MAX = 5 };

typedef struct model_doc {
    size_t count;
    float parts[PARTS_MAX][DIM];
} model_doc;

static void random_unit(mf_rng *rng, float *out) {
    double sum = 0;
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)(mf_rng_unit(rng) - 0.5);
        sum += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)((double)out[i] / sqrt(sum));
    }
}

static void assert_matches(const mf_vectors *v, const model_doc *docs, mf_rng *rng) {
    float query[DIM];
    random_unit(rng, query);
    static float best[SLOTS];
    assert_int_equal(mf_vectors_score(v, query, best, SLOTS, NULL), MF_OK);
    size_t rows = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const model_doc *doc = &docs[slot];
        rows += doc->count;
        assert_int_equal(mf_vectors_has(v, slot), doc->count > 0);
        double expected = (double)MF_VECTORS_UNSEEN;
        for (size_t part = 0; part < doc->count; part++) {
            double cosine = 0;
            for (size_t i = 0; i < DIM; i++) {
                cosine += (double)doc->parts[part][i] * (double)query[i];
            }
            expected = fmax(expected, cosine);
        }
        assert_true(fabs((double)best[slot] - expected) < 0.01);
    }
    assert_int_equal(v->row_count, rows);
}

static void set_random(mf_vectors *v, model_doc *doc, uint32_t slot, mf_rng *rng) {
    doc->count = 1 + mf_rng_below(rng, PARTS_MAX);
    for (size_t part = 0; part < doc->count; part++) {
        random_unit(rng, doc->parts[part]);
    }
    assert_int_equal(mf_vectors_set(v, slot, doc->parts[0], doc->count, NULL), MF_OK);
}

static void random_history_keeps_every_document_with_its_own(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_rng rng;
    mf_rng_init(&rng, 21);
    mf_vectors v;
    mf_vectors_init(&v, DIM);
    static model_doc docs[SLOTS];
    for (size_t round = 0; round < 6000; round++) {
        uint32_t slot = (uint32_t)mf_rng_below(&rng, SLOTS);
        if (mf_rng_below(&rng, 3) == 0) {
            mf_vectors_clear(&v, slot);
            docs[slot].count = 0;
        } else {
            set_random(&v, &docs[slot], slot, &rng);
        }
        if (round % 200 == 0) {
            assert_matches(&v, docs, &rng);
        }
    }
    assert_matches(&v, docs, &rng);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        mf_vectors_clear(&v, slot);
    }
    assert_int_equal(v.row_count, 0);
    assert_in_range(v.block_count, 0, 2); /* the rest was given back */
    mf_vectors_done(&v);
    assert_int_equal(mf_alloc_live(), live);
}

static void more_parts_than_a_block_holds_are_replaced_by_as_many(void **state) {
    (void)state;
    enum { PARTS = 3000 };
    mf_rng rng;
    mf_rng_init(&rng, 22);
    float *parts = mf_alloc_array(PARTS, DIM * sizeof(float));
    assert_non_null(parts);
    for (size_t i = 0; i < PARTS; i++) {
        random_unit(&rng, parts + i * DIM);
    }
    mf_vectors v;
    mf_vectors_init(&v, DIM);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(mf_vectors_set(&v, 7, parts, PARTS, NULL), MF_OK);
        assert_int_equal(v.row_count, PARTS);
        float best[8];
        assert_int_equal(mf_vectors_score(&v, parts + 2999 * DIM, best, 8, NULL),
                         MF_OK);
        assert_true(fabsf(best[7] - 1.0F) < 0.01F);
    }
    mf_vectors_done(&v);
    mf_free(parts);
}

static void a_failed_allocation_leaves_what_was_there(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_rng rng;
        mf_rng_init(&rng, 23);
        mf_vectors v;
        mf_vectors_init(&v, DIM);
        static model_doc docs[SLOTS];
        memset(docs, 0, sizeof(docs));
        for (uint32_t slot = 0; slot < SLOTS; slot += 3) {
            model_doc doc = {.count = PARTS_MAX};
            for (size_t part = 0; part < PARTS_MAX; part++) {
                random_unit(&rng, doc.parts[part]);
            }
            mf_rc rc = mf_vectors_set(&v, slot, doc.parts[0], doc.count, NULL);
            if (rc == MF_OK) {
                docs[slot] = doc;
            } else {
                assert_int_equal(rc, MF_E_NOMEM);
            }
        }
        float query[DIM];
        random_unit(&rng, query);
        static float best[SLOTS];
        mf_rc rc = mf_vectors_score(&v, query, best, SLOTS, NULL);
        assert_true(rc == MF_OK || rc == MF_E_NOMEM);
        if (mf_fault_fired()) { /* it fires once: what follows can allocate */
            assert_matches(&v, docs, &rng);
        }
        mf_vectors_done(&v);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static void zero_vectors_have_a_cosine_of_zero(void **state) {
    (void)state;
    mf_vectors v;
    mf_vectors_init(&v, DIM);
    float zeros[DIM] = {0};
    float best[1];
    assert_int_equal(mf_vectors_set(&v, 0, zeros, 1, NULL), MF_OK);
    assert_int_equal(mf_vectors_score(&v, zeros, best, 1, NULL), MF_OK);
    assert_true(best[0] == 0.0F);
    mf_vectors_done(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_history_keeps_every_document_with_its_own),
        cmocka_unit_test(more_parts_than_a_block_holds_are_replaced_by_as_many),
        cmocka_unit_test(a_failed_allocation_leaves_what_was_there),
        cmocka_unit_test(zero_vectors_have_a_cosine_of_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
