/* postings_test.c - frequencies, lengths and scores are exact after any history. */
#include "index/postings.h"

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

enum { SLOTS = 60, VOCABULARY = 40, TERMS_MAX = 12 };

static const mf_bm25 bm25 = {1.2, 0.75};

typedef struct model_doc {
    bool here;
    uint64_t terms[TERMS_MAX];
    size_t count;
    uint32_t length;
} model_doc;

static uint64_t term_hash(uint64_t word) {
    return (word + 1) * 0x9E3779B97F4A7C15ULL;
}

static model_doc random_doc(mf_rng *rng) {
    model_doc doc = {.here = true};
    doc.length = (uint32_t)mf_rng_below(rng, TERMS_MAX + 1);
    for (size_t i = 0; i < doc.length; i++) { /* low words are common */
        uint64_t below = 1 + mf_rng_below(rng, VOCABULARY);
        doc.terms[i] = term_hash(mf_rng_below(rng, below));
    }
    doc.count = mf_terms_pack(doc.terms, doc.length);
    return doc;
}

static unsigned frequency_in(const model_doc *doc, uint64_t hash) {
    for (size_t i = 0; i < doc->count; i++) {
        if (doc->terms[i] >> 8 == hash >> 8) {
            return (unsigned)(doc->terms[i] & 255);
        }
    }
    return 0;
}

static void assert_matches(const mf_postings *p, const model_doc *docs) {
    double count = 0;
    double length = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        count += docs[i].here;
        length += docs[i].here ? docs[i].length : 0;
    }
    assert_int_equal(p->doc_count, (size_t)count);
    assert_int_equal(p->length_sum, (size_t)length);
    double average = length > 0 ? length / count : 1;
    for (uint64_t word = 0; word < VOCABULARY; word++) {
        uint64_t term = term_hash(word);
        size_t frequency = 0;
        for (size_t i = 0; i < SLOTS; i++) {
            frequency += docs[i].here && frequency_in(&docs[i], term) > 0;
        }
        assert_int_equal(mf_postings_frequency(p, term), frequency);
        mf_terms_pack(&term, 1);
        float scores[SLOTS] = {0};
        double attainable = mf_postings_score(p, &term, 1, bm25, scores);
        double idf =
            log(1 + (count - (double)frequency + 0.5) / ((double)frequency + 0.5));
        assert_true(count == 0 || fabs(attainable - idf * 2.2) < 1e-9);
        for (size_t i = 0; i < SLOTS; i++) {
            double tf = docs[i].here ? frequency_in(&docs[i], term) : 0;
            double norm = 1.2 * (0.25 + 0.75 * docs[i].length / average);
            double expected = tf > 0 ? idf * tf * 2.2 / (tf + norm) : 0;
            assert_true(fabs((double)scores[i] - expected) < 1e-5);
        }
    }
}

static void random_history_leaves_exact_statistics(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_rng rng;
    mf_rng_init(&rng, 3);
    mf_postings p = {0};
    static model_doc docs[SLOTS];
    for (size_t round = 0; round < 3000; round++) {
        uint32_t slot = (uint32_t)mf_rng_below(&rng, SLOTS);
        if (docs[slot].here) {
            mf_postings_remove(&p, slot, docs[slot].terms, docs[slot].count,
                               docs[slot].length);
            docs[slot].here = false;
        } else {
            docs[slot] = random_doc(&rng);
            assert_int_equal(mf_postings_add(&p, slot, docs[slot].terms,
                                             docs[slot].count, docs[slot].length, NULL),
                             MF_OK);
        }
        if (round % 50 == 0) {
            assert_matches(&p, docs);
        }
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        if (docs[slot].here) {
            mf_postings_remove(&p, slot, docs[slot].terms, docs[slot].count,
                               docs[slot].length);
        }
    }
    assert_int_equal(p.term_count, 0);
    assert_int_equal(p.list_bytes, 0);
    assert_int_equal(p.doc_count, 0);
    assert_int_equal(p.length_sum, 0);
    mf_postings_done(&p);
    assert_int_equal(mf_alloc_live(), live);
}

static void packing_counts_and_sorts(void **state) {
    (void)state;
    uint64_t terms[] = {0x500, 0x300, 0x511, 0x3FF, 0x300, 0x7};
    assert_int_equal(mf_terms_pack(terms, 6), 3);
    assert_true(terms[0] == 0x101); /* a hash of 0 becomes 1 */
    assert_true(terms[1] == 0x303);
    assert_true(terms[2] == 0x502);
    assert_int_equal(mf_terms_pack(terms, 0), 0);
    static uint64_t many[1000];
    for (size_t i = 0; i < 1000; i++) {
        many[i] = 0xABCD00;
    }
    assert_int_equal(mf_terms_pack(many, 1000), 1);
    assert_true(many[0] == 0xABCDFF); /* stops at 255 */
}

static void a_failed_addition_leaves_no_trace(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_rng rng;
        mf_rng_init(&rng, 5);
        mf_postings p = {0};
        static model_doc docs[SLOTS];
        memset(docs, 0, sizeof(docs));
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            model_doc doc = random_doc(&rng);
            mf_rc rc =
                mf_postings_add(&p, slot, doc.terms, doc.count, doc.length, NULL);
            if (rc == MF_OK) {
                docs[slot] = doc;
            } else {
                assert_int_equal(rc, MF_E_NOMEM);
                assert_matches(&p, docs);
            }
        }
        assert_matches(&p, docs);
        mf_postings_done(&p);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static void an_empty_index_scores_nothing(void **state) {
    (void)state;
    mf_postings p = {0};
    uint64_t term = 0x101;
    float score = 0.0F;
    assert_true(mf_postings_score(&p, &term, 1, bm25, &score) == 0.0);
    assert_true(score == 0.0F);
    assert_int_equal(mf_postings_frequency(&p, term), 0);
    mf_postings_done(&p);
}

static void a_word_asked_twice_counts_twice(void **state) {
    (void)state;
    mf_postings p = {0};
    uint64_t doc[] = {0x100, 0x200};
    size_t count = mf_terms_pack(doc, 2);
    assert_int_equal(mf_postings_add(&p, 0, doc, count, 2, NULL), MF_OK);
    uint64_t once[] = {0x100};
    uint64_t twice[] = {0x100, 0x100};
    float a = 0.0F;
    float b = 0.0F;
    double most = mf_postings_score(&p, once, mf_terms_pack(once, 1), bm25, &a);
    double most2 = mf_postings_score(&p, twice, mf_terms_pack(twice, 2), bm25, &b);
    assert_true(fabs(2 * most - most2) < 1e-9);
    assert_true(fabsf(2 * a - b) < 1e-6F);
    mf_postings_done(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_history_leaves_exact_statistics),
        cmocka_unit_test(packing_counts_and_sorts),
        cmocka_unit_test(a_failed_addition_leaves_no_trace),
        cmocka_unit_test(an_empty_index_scores_nothing),
        cmocka_unit_test(a_word_asked_twice_counts_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
