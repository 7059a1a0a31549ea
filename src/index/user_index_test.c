/* user_index_test.c - what a search answers depends on the documents that are there and
 * on nothing that happened before. */
#include "index/user_index.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"

enum { DIM = 64, NUMS = 120, HITS = 300, WORDS_MAX = 8, PARTS_MAX = 3, SESSIONS = 5 };

static const char *const vocabulary[] = {
    "lobster", "violin", "garden", "Lisbon", "train",  "camera", "puppy",   "bridge",
    "soup",    "novel",  "winter", "ticket", "doctor", "guitar", "holiday", "river"};

typedef struct model_doc {
    bool here;
    mf_index_facts facts;
    char text[128];
    size_t part_count;
    float parts[PARTS_MAX * DIM];
} model_doc;

typedef struct model {
    model_doc docs[2][NUMS]; /* [kind][num] */
} model;

/* --- helpers --- */

static mf_uuid id_of(uint8_t family, uint64_t n) {
    mf_uuid id = MF_UUID_NONE;
    id.b[0] = family;
    id.b[15] = (uint8_t)(n + 1);
    return id;
}

static mf_index_facts message(int64_t num, uint64_t session, uint64_t agent) {
    return (mf_index_facts){.key = {0, num},
                            .session_id = id_of('s', session),
                            .agent_id = id_of('a', agent)};
}

static mf_index_facts knowledge(int64_t num) {
    return (mf_index_facts){.key = {1, num}};
}

static mf_index *open_index(void) {
    mf_index *index = NULL;
    assert_int_equal(mf_index_open(DIM, &index, NULL), MF_OK);
    return index;
}

static void add(mf_index *index, mf_index_facts facts, const char *words) {
    mf_index_doc *doc = NULL;
    assert_int_equal(mf_index_doc_prepare(&facts, mf_str_from(words), &doc, NULL),
                     MF_OK);
    assert_int_equal(mf_index_add(index, doc, NULL), MF_OK);
}

/* A unit vector along `axis`, leaning towards axis 0 by `lean`. */
static void set_axis(mf_index *index, mf_index_key key, size_t axis, float lean) {
    float vector[DIM] = {0};
    vector[axis] = sqrtf(1.0F - lean * lean);
    vector[0] += lean;
    assert_int_equal(mf_index_set_vectors(index, key, vector, 1, NULL), MF_OK);
}

static size_t find(const mf_index *index, const char *text, const float *vector,
                   mf_index_path path, mf_index_hit *hits) {
    mf_index_query query = {.text = mf_str_from(text),
                            .vector = vector,
                            .path = path,
                            .messages = true,
                            .knowledge = true,
                            .hits_max = HITS};
    mf_index_weights weights = mf_index_weights_default();
    size_t count = SIZE_MAX;
    assert_int_equal(mf_index_search(index, &query, &weights, hits, &count, NULL),
                     MF_OK);
    for (size_t i = 0; i < count; i++) {
        assert_true(hits[i].score >= 0.0F && hits[i].score <= 1.0F); /* and no NaN */
        assert_true(hits[i].keyword >= 0.0F && hits[i].keyword <= 1.0F);
        assert_true(hits[i].similarity >= -1.0F && hits[i].similarity <= 1.0F);
        assert_true(i == 0 || hits[i - 1].score >= hits[i].score);
    }
    return count;
}

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

static void random_text(mf_rng *rng, char *out, size_t size) {
    size_t len = 0;
    out[0] = '\0';
    for (uint64_t n = mf_rng_below(rng, WORDS_MAX + 1); n > 0; n--) {
        const char *word = vocabulary[mf_rng_below(rng, 1 + mf_rng_below(rng, 16))];
        len += (size_t)snprintf(out + len, size - len, "%s ", word);
    }
}

/* --- against a model --- */

static void model_set(model *m, mf_index *index, mf_rng *rng) {
    uint8_t kind = mf_rng_below(rng, 4) == 0;
    int64_t num = (int64_t)mf_rng_below(rng, NUMS);
    model_doc *doc = &m->docs[kind][num];
    doc->here = true;
    doc->part_count = 0;
    uint64_t session = mf_rng_below(rng, SESSIONS);
    doc->facts = kind == 0 ? message(num, session, session % 2) : knowledge(num);
    doc->facts.created_us = (int64_t)mf_rng_below(rng, 1000) * 86400000000;
    random_text(rng, doc->text, sizeof(doc->text));
    add(index, doc->facts, doc->text);
}

static void model_set_vectors(model *m, mf_index *index, mf_rng *rng) {
    uint8_t kind = mf_rng_below(rng, 4) == 0;
    int64_t num = (int64_t)mf_rng_below(rng, NUMS);
    model_doc *doc = &m->docs[kind][num];
    size_t part_count = 1 + mf_rng_below(rng, PARTS_MAX);
    float parts[PARTS_MAX * DIM];
    for (size_t i = 0; i < part_count; i++) {
        random_unit(rng, parts + i * DIM);
    }
    mf_index_key key = {kind, num};
    mf_rc rc = mf_index_set_vectors(index, key, parts, part_count, NULL);
    assert_int_equal(rc, doc->here ? MF_OK : MF_E_NOTFOUND);
    if (doc->here) {
        doc->part_count = part_count;
        memcpy(doc->parts, parts, sizeof(parts));
    }
}

static void model_remove(model *m, mf_index *index, mf_rng *rng) {
    uint8_t kind = mf_rng_below(rng, 4) == 0;
    int64_t num = (int64_t)mf_rng_below(rng, NUMS);
    assert_int_equal(mf_index_remove(index, (mf_index_key){kind, num}),
                     m->docs[kind][num].here);
    m->docs[kind][num].here = false;
}

static void model_remove_session(model *m, mf_index *index, mf_rng *rng) {
    mf_uuid session = id_of('s', mf_rng_below(rng, SESSIONS));
    size_t expected = 0;
    for (size_t i = 0; i < NUMS; i++) {
        if (m->docs[0][i].here && mf_uuid_eq(m->docs[0][i].facts.session_id, session)) {
            m->docs[0][i].here = false;
            expected++;
        }
    }
    assert_int_equal(mf_index_remove_session(index, session), expected);
}

static mf_index *fresh_from(const model *m) {
    mf_index *index = open_index();
    for (size_t kind = 2; kind-- > 0;) {
        for (size_t i = 0; i < NUMS; i++) {
            const model_doc *doc = &m->docs[kind][i];
            if (doc->here) {
                add(index, doc->facts, doc->text);
                if (doc->part_count > 0) {
                    assert_int_equal(mf_index_set_vectors(index, doc->facts.key,
                                                          doc->parts, doc->part_count,
                                                          NULL),
                                     MF_OK);
                }
            }
        }
    }
    return index;
}

static const mf_index_hit *hit_for(const mf_index_hit *hits, size_t count,
                                   mf_index_key key) {
    for (size_t i = 0; i < count; i++) {
        if (hits[i].facts.key.num == key.num && hits[i].facts.key.kind == key.kind) {
            return &hits[i];
        }
    }
    return NULL;
}

/* Cosine of the best part, in floating point. */
static double similarity_of(const model_doc *doc, const float *query) {
    double best = doc->part_count > 0 ? -2.0 : 0.0;
    for (size_t part = 0; part < doc->part_count; part++) {
        double cosine = 0;
        for (size_t i = 0; i < DIM; i++) {
            cosine += (double)doc->parts[part * DIM + i] * (double)query[i];
        }
        best = fmax(best, cosine);
    }
    return best;
}

static void compare(const model *m, const mf_index *index, mf_rng *rng) {
    static mf_index_hit hits[HITS];
    static mf_index_hit expected[HITS];
    char text[128];
    float vector[DIM];
    random_text(rng, text, sizeof(text));
    random_unit(rng, vector);
    mf_index_path path = (mf_index_path)mf_rng_below(rng, 3);
    mf_index *fresh = fresh_from(m);
    size_t count = find(index, text, vector, path, hits);
    assert_int_equal(count, find(fresh, text, vector, path, expected));
    assert_int_equal(count, mf_index_count(index));
    assert_int_equal(mf_index_count(fresh), mf_index_count(index));
    assert_int_equal(mf_index_vector_count(fresh), mf_index_vector_count(index));
    assert_int_equal(mf_index_pending_count(fresh), mf_index_pending_count(index));
    for (size_t i = 0; i < count; i++) {
        mf_index_key key = expected[i].facts.key;
        const model_doc *doc = &m->docs[key.kind][key.num];
        const mf_index_hit *hit = hit_for(hits, count, key);
        assert_non_null(hit);
        assert_true(doc->here && mf_index_has(index, key));
        assert_memory_equal(&hit->facts.session_id, &doc->facts.session_id,
                            sizeof(mf_uuid));
        assert_int_equal(hit->facts.created_us, doc->facts.created_us);
        assert_true(fabsf(hit->score - expected[i].score) < 1e-5F);
        assert_true(fabsf(hit->keyword - expected[i].keyword) < 1e-5F);
        double similarity = path == MF_PATH_KEYWORD ? 0.0 : similarity_of(doc, vector);
        assert_true(fabs((double)hit->similarity - similarity) < 0.02);
        assert_true(fabsf(hits[i].score - expected[i].score) < 1e-5F);
    }
    mf_index_close(fresh);
}

static void random_history_answers_as_a_fresh_index(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_rng rng;
    mf_rng_init(&rng, 2024);
    static model m;
    mf_index *index = open_index();
    for (size_t round = 0; round < 6000; round++) {
        uint64_t dice = mf_rng_below(&rng, 100);
        if (dice < 45) {
            model_set(&m, index, &rng);
        } else if (dice < 75) {
            model_set_vectors(&m, index, &rng);
        } else if (dice < 99) {
            model_remove(&m, index, &rng);
        } else {
            model_remove_session(&m, index, &rng);
        }
        if (round % 40 == 0) {
            compare(&m, index, &rng);
        }
    }
    mf_index_close(index);
    assert_int_equal(mf_alloc_live(), live);
}

/* --- order and population --- */

static void the_document_with_the_words_comes_first(void **state) {
    (void)state;
    mf_index *index = open_index();
    add(index, message(1, 1, 1), "I moved to Lisbon in March");
    add(index, message(2, 2, 1), "The soup was cold");
    add(index, knowledge(1), "Violins have four strings");
    static mf_index_hit hits[HITS];
    assert_int_equal(find(index, "who moved to lisbon?", NULL, MF_PATH_BLEND, hits), 3);
    assert_int_equal(hits[0].facts.key.num, 1);
    assert_int_equal(hits[0].facts.key.kind, 0);
    assert_true(hits[0].keyword > 0.3F && hits[1].keyword == 0.0F);
    assert_true(hits[0].score > hits[1].score);
    find(index, "the string of a violin", NULL, MF_PATH_KEYWORD, hits);
    assert_int_equal(hits[0].facts.key.kind, 1);
    mf_index_close(index);
}

static void the_date_of_a_message_is_found_by_its_words(void **state) {
    (void)state;
    mf_index *index = open_index();
    mf_index_facts facts = message(1, 1, 1);
    facts.created_us = 1683504000000000; /* 2023-05-08 */
    add(index, facts, "soup");
    facts = message(2, 2, 1);
    facts.created_us = 1686268800000000; /* 2023-06-09 */
    add(index, facts, "soup");
    static mf_index_hit hits[HITS];
    find(index, "on 8 May 2023", NULL, MF_PATH_BLEND, hits);
    assert_int_equal(hits[0].facts.key.num, 1);
    find(index, "June", NULL, MF_PATH_BLEND, hits);
    assert_int_equal(hits[0].facts.key.num, 2);
    assert_true(hits[1].keyword == 0.0F);
    mf_index_close(index);
}

static void ties_are_answered_newest_first(void **state) {
    (void)state;
    static mf_index_hit hits[HITS];
    static const char *const empties[] = {"", "the of and you", "unheard", "?!"};
    mf_index *index = open_index();
    for (int64_t num = 1; num <= 50; num++) {
        int64_t shuffled = num * 37 % 101;
        add(index, message(shuffled, (uint64_t)shuffled % 3, 1), "same words");
    }
    for (size_t q = 0; q < 4; q++) {
        assert_int_equal(find(index, empties[q], NULL, MF_PATH_BLEND, hits), 50);
        for (size_t i = 1; i < 50; i++) {
            assert_true(hits[i - 1].facts.key.num > hits[i].facts.key.num);
        }
    }
    mf_index_query query = {
        .text = MF_STR(""), .messages = true, .knowledge = true, .hits_max = 7};
    mf_index_weights weights = mf_index_weights_default();
    size_t count;
    mf_index_hit few[7];
    assert_int_equal(mf_index_search(index, &query, &weights, few, &count, NULL),
                     MF_OK);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(few[i].facts.key.num, hits[i].facts.key.num);
    }
    mf_index_close(index);
}

static size_t population(const mf_index *index, mf_index_query query) {
    static mf_index_hit hits[HITS];
    mf_index_weights weights = mf_index_weights_default();
    size_t count;
    assert_int_equal(mf_index_search(index, &query, &weights, hits, &count, NULL),
                     MF_OK);
    return count;
}

static void filters_choose_the_population(void **state) {
    (void)state;
    mf_index *index = open_index();
    for (int64_t num = 0; num < 10; num++) {
        add(index, message(num, 1, 1), "soup"); /* session 1 of agent 1 */
    }
    for (int64_t num = 10; num < 14; num++) {
        add(index, message(num, 2, 2), "soup"); /* session 2 of agent 2 */
    }
    add(index, knowledge(1), "soup");
    mf_index_query q = {.text = MF_STR("soup"), .hits_max = HITS};
    assert_int_equal(population(index, q), 0);
    q.messages = true;
    assert_int_equal(population(index, q), 14);
    q.knowledge = true;
    assert_int_equal(population(index, q), 15);
    q.session_also = id_of('s', 2); /* without an agent it changes nothing */
    assert_int_equal(population(index, q), 15);
    q.agent_id = id_of('a', 1);
    q.session_also = MF_UUID_NONE;
    assert_int_equal(population(index, q), 11); /* knowledge stays in */
    q.session_also = id_of('s', 2);
    assert_int_equal(population(index, q), 15);
    q.session_also = id_of('s', 9);
    q.agent_id = id_of('a', 2);
    assert_int_equal(population(index, q), 5);
    q.knowledge = false;
    q.agent_id = id_of('a', 9);
    assert_int_equal(population(index, q), 0);
    q = (mf_index_query){.messages = true, .hits_max = 0};
    assert_int_equal(population(index, q), 0);
    mf_index_close(index);
}

/* --- vectors and words together --- */

static void a_close_vector_wins_without_a_shared_word(void **state) {
    (void)state;
    mf_index *index = open_index();
    static mf_index_hit hits[HITS];
    float query[DIM] = {1.0F};
    for (int64_t num = 1; num <= 5; num++) {
        add(index, message(num, (uint64_t)num, 1), vocabulary[num]);
        set_axis(index, (mf_index_key){0, num}, (size_t)num, num == 3 ? 0.8F : 0.1F);
    }
    assert_int_equal(find(index, "crustacean", query, MF_PATH_BLEND, hits), 5);
    assert_int_equal(hits[0].facts.key.num, 3);
    assert_true(fabsf(hits[0].similarity - 0.8F) < 0.02F);
    find(index, vocabulary[1], query, MF_PATH_VECTOR,
         hits); /* the word does not count */
    assert_int_equal(hits[0].facts.key.num, 3);
    find(index, vocabulary[1], query, MF_PATH_KEYWORD, hits); /* the vector does not */
    assert_int_equal(hits[0].facts.key.num, 1);
    assert_true(hits[0].similarity == 0.0F);
    mf_index_close(index);
}

static void a_document_without_a_vector_is_neither_lost_nor_raised(void **state) {
    (void)state;
    mf_index *index = open_index();
    static mf_index_hit hits[HITS];
    float query[DIM] = {1.0F};
    for (int64_t num = 1; num <= 9; num++) {
        add(index, message(num, (uint64_t)num, 1), num == 9 ? "my lobster" : "my soup");
        if (num < 8) {
            set_axis(index, (mf_index_key){0, num}, (size_t)num,
                     num == 4 ? 0.5F : 0.05F * (float)num);
        }
    }
    /* 8 has nothing to do with the question, 9 holds its word; both lack vectors. */
    assert_int_equal(find(index, "lobster", query, MF_PATH_BLEND, hits), 9);
    assert_int_equal(hits[0].facts.key.num, 9);
    const mf_index_hit *plain = hit_for(hits, 9, (mf_index_key){0, 8});
    const mf_index_hit *least = hit_for(hits, 9, (mf_index_key){0, 1});
    const mf_index_hit *close = hit_for(hits, 9, (mf_index_key){0, 4});
    assert_true(plain->score < close->score && plain->score > least->score);
    mf_index_close(index);
}

static void the_turns_around_an_answer_are_raised(void **state) {
    (void)state;
    mf_index *index = open_index();
    static mf_index_hit hits[HITS];
    for (int64_t num = 20; num > 0; num--) { /* added in falling order */
        add(index, message(num, num <= 10 ? 1 : 2, 1), num == 5 ? "lobster" : "soup");
    }
    assert_int_equal(find(index, "lobster", NULL, MF_PATH_BLEND, hits), 20);
    assert_int_equal(hits[0].facts.key.num, 5);
    static const int64_t then[] = {7, 6, 4,
                                   3}; /* within two turns; ties newest first */
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(hits[1 + i].facts.key.num, then[i]);
    }
    /* Removing a turn between makes the next one a neighbour. */
    assert_true(mf_index_remove(index, (mf_index_key){0, 6}));
    find(index, "lobster", NULL, MF_PATH_BLEND, hits);
    assert_int_equal(hits[1].facts.key.num, 8);
    /* The rest of that session comes before the other one. */
    for (size_t i = 5; i < 9; i++) {
        assert_true(hits[i].facts.key.num <= 10);
    }
    mf_index_close(index);
}

static void knowledge_and_a_lone_message_with_the_same_words_score_alike(void **state) {
    (void)state;
    mf_index *index = open_index();
    static mf_index_hit hits[HITS];
    add(index, knowledge(3), "lobster tail");
    add(index, message(7, 1, 1), "lobster tail");
    for (int64_t num = 10; num < 20; num++) {
        add(index, message(num, 2, 1), "soup bowl");
    }
    find(index, "lobster", NULL, MF_PATH_BLEND, hits);
    assert_int_equal(hits[0].facts.key.num, 7); /* newest first */
    assert_int_equal(hits[1].facts.key.num, 3);
    assert_true(fabsf(hits[0].score - hits[1].score) < 1e-6F);
    mf_index_close(index);
}

/* --- keeping house --- */

static void dropped_vectors_leave_the_words_and_are_asked_for_again(void **state) {
    (void)state;
    mf_index *index = open_index();
    mf_index_key keys[4];
    add(index, message(1, 1, 1), "soup");
    add(index, message(2, 1, 1), "bread");
    set_axis(index, (mf_index_key){0, 1}, 1, 0.0F);
    set_axis(index, (mf_index_key){0, 2}, 1, 0.0F);
    mf_index_drop_vectors(index, (mf_index_key){0, 1});
    mf_index_drop_vectors(index, (mf_index_key){0, 7}); /* not here */
    assert_int_equal(mf_index_vector_count(index), 1);
    assert_int_equal(mf_index_count(index), 2);
    assert_int_equal(mf_index_pending(index, keys, 4), 1);
    assert_int_equal(keys[0].num, 1);
    mf_index_drop_vectors(index, (mf_index_key){0, 1}); /* twice */
    assert_int_equal(mf_index_pending_count(index), 1);
    set_axis(index, (mf_index_key){0, 1}, 1, 0.0F);
    assert_int_equal(mf_index_pending_count(index), 0);
    assert_int_equal(mf_index_vector_count(index), 2);
    mf_index_close(index);
}

static void pending_lists_those_without_vectors_in_order(void **state) {
    (void)state;
    mf_index *index = open_index();
    mf_index_key keys[8];
    for (int64_t num = 1; num <= 5; num++) {
        add(index, message(num, 1, 1), "soup");
    }
    set_axis(index, (mf_index_key){0, 1}, 1, 0.0F);
    set_axis(index, (mf_index_key){0, 3}, 1, 0.0F);
    assert_int_equal(mf_index_pending_count(index), 3);
    assert_int_equal(mf_index_pending(index, keys, 8), 3);
    assert_int_equal(keys[0].num, 2);
    assert_int_equal(keys[1].num, 4);
    assert_int_equal(keys[2].num, 5);
    assert_int_equal(mf_index_pending(index, keys, 2), 2);
    add(index, message(3, 1, 1), "other words"); /* replaced: its vector is gone */
    assert_int_equal(mf_index_vector_count(index), 1);
    assert_true(mf_index_remove(index, (mf_index_key){0, 2}));
    assert_int_equal(mf_index_pending(index, keys, 8), 3);
    assert_int_equal(keys[0].num, 4);
    assert_int_equal(keys[2].num, 3);
    assert_false(mf_index_remove(index, (mf_index_key){0, 2}));
    assert_false(mf_index_has(index, (mf_index_key){1, 3})); /* another kind */
    assert_int_equal(mf_index_remove_session(index, MF_UUID_NONE), 0);
    mf_index_close(index);
}

static void bad_vectors_are_refused(void **state) {
    (void)state;
    mf_index *index = open_index();
    add(index, message(1, 1, 1), "soup");
    float vector[DIM] = {1.0F};
    mf_index_key key = {0, 1};
    mf_err err;
    assert_int_equal(mf_index_set_vectors(index, key, vector, 0, &err), MF_E_INVAL);
    vector[5] = NAN;
    assert_int_equal(mf_index_set_vectors(index, key, vector, 1, &err), MF_E_INVAL);
    vector[5] = INFINITY;
    assert_int_equal(mf_index_set_vectors(index, key, vector, 1, &err), MF_E_INVAL);
    mf_index_query query = {.vector = vector, .messages = true, .hits_max = 1};
    mf_index_weights weights = mf_index_weights_default();
    mf_index_hit hit;
    size_t count = 77;
    assert_int_equal(mf_index_search(index, &query, &weights, &hit, &count, &err),
                     MF_E_INVAL);
    assert_int_equal(count, 77);
    assert_int_equal(mf_index_pending_count(index), 1);
    mf_index *none = NULL;
    assert_int_equal(mf_index_open(0, &none, &err), MF_E_INVAL);
    assert_null(none);
    mf_index_close(NULL);
    mf_index_doc_free(NULL);
    mf_index_close(index);
}

static void a_megabyte_of_text_is_one_document(void **state) {
    (void)state;
    enum { BYTES = 1 << 20 };
    char *text = mf_alloc(BYTES);
    assert_non_null(text);
    for (size_t i = 0; i < BYTES; i++) {
        text[i] = i % 7 == 6 ? ' ' : (char)('a' + (i * i / 7 + i) % 26);
    }
    memcpy(text + BYTES / 2, " lobster ", 9);
    mf_index *index = open_index();
    mf_index_facts facts = message(1, 1, 1);
    mf_index_doc *doc = NULL;
    assert_int_equal(mf_index_doc_prepare(&facts, (mf_str){text, BYTES}, &doc, NULL),
                     MF_OK);
    assert_int_equal(mf_index_add(index, doc, NULL), MF_OK);
    add(index, message(2, 2, 1), "soup");
    static mf_index_hit hits[HITS];
    find(index, "lobster", NULL, MF_PATH_BLEND, hits);
    assert_int_equal(hits[0].facts.key.num, 1);
    mf_free(text);
    mf_index_close(index);
}

static void bytes_held_follow_the_documents(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    size_t live_bytes = mf_alloc_live_bytes();
    mf_index *index = open_index();
    size_t empty = mf_index_bytes(index);
    for (int64_t num = 0; num < 2000; num++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "word%d common other%d", (int)num,
                       (int)num % 7);
        add(index, message(num, (uint64_t)num % 10, 1), text);
        set_axis(index, (mf_index_key){0, num}, (size_t)num % DIM, 0.1F);
    }
    size_t full = mf_index_bytes(index);
    size_t held = mf_alloc_live_bytes() - live_bytes;
    assert_true(full > empty + 2000 * DIM);
    assert_true(full < held && held < full + full / 2); /* the C library rounds up */
    for (uint64_t session = 0; session < 10; session++) {
        assert_int_equal(mf_index_remove_session(index, id_of('s', session)), 200);
    }
    assert_int_equal(mf_index_count(index), 0);
    assert_int_equal(mf_index_vector_count(index), 0);
    assert_int_equal(mf_index_pending_count(index), 0);
    assert_true(mf_index_bytes(index) < full - 2000 * DIM / 2);
    mf_index_close(index);
    assert_int_equal(mf_alloc_live(), live);
}

/* The replaced document, its vector and its neighbour, or the new one: never
 * neither. */
static void check_after_fault(mf_index *index, mf_rc added, mf_rc vectors) {
    static mf_index_hit hits[HITS];
    assert_int_equal(mf_index_count(index), 2);
    assert_int_equal(mf_index_vector_count(index), vectors == MF_OK ? 3
                                                   : added == MF_OK ? 0
                                                                    : 1);
    assert_int_equal(find(index, "lobster", NULL, MF_PATH_BLEND, hits), 2);
    assert_int_equal(hits[0].facts.key.num, added == MF_OK ? 2 : 1);
}

static void each_failed_allocation_leaves_the_index_whole(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_index *index = NULL;
        mf_rc opened = mf_index_open(DIM, &index, NULL);
        if (opened != MF_OK) {
            assert_int_equal(opened, MF_E_NOMEM);
            assert_null(index);
            continue;
        }
        static const char long_text[] =
            "garden violin camera puppy bridge novel winter ticket doctor guitar river "
            "spoon knife plate cup glass table chair lamp carpet window door key lock";
        static const char *const texts[] = {"lobster tail", "soup bowl", long_text};
        mf_rc rcs[3] = {MF_OK, MF_OK, MF_OK};
        mf_rc vectors = MF_E_NOTFOUND;
        float parts[3 * DIM] = {1.0F};
        for (size_t i = 0; i < 3; i++) { /* the third replaces the first, elsewhere */
            mf_index_facts facts = message(i == 1 ? 2 : 1, i == 2 ? 9 : 1, 1);
            mf_index_doc *doc = NULL;
            rcs[i] = mf_index_doc_prepare(&facts, mf_str_from(texts[i]), &doc, NULL);
            if (rcs[i] == MF_OK) {
                rcs[i] = mf_index_add(index, doc, NULL);
            }
            if (i == 0 && rcs[0] == MF_OK) {
                rcs[0] = mf_index_set_vectors(index, facts.key, parts, 1, NULL);
            } else if (i == 2) {
                vectors = mf_index_set_vectors(index, facts.key, parts, 3, NULL);
            }
        }
        if (rcs[0] == MF_OK && rcs[1] == MF_OK && mf_fault_fired()) {
            check_after_fault(index, rcs[2], vectors);
        }
        mf_index_close(index);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static void a_search_without_memory_says_so(void **state) {
    (void)state;
    mf_index *index = open_index();
    add(index, message(1, 1, 1), "lobster");
    set_axis(index, (mf_index_key){0, 1}, 1, 0.1F);
    float vector[DIM] = {1.0F};
    mf_index_query query = {
        .text = MF_STR("lobster"), .vector = vector, .messages = true, .hits_max = 3};
    mf_index_weights weights = mf_index_weights_default();
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_index_hit hits[3];
        size_t count = 99;
        mf_err err = {0};
        mf_rc rc = mf_index_search(index, &query, &weights, hits, &count, &err);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        assert_int_equal(count, mf_fault_fired() ? 99 : 1);
        assert_int_equal(mf_alloc_live(), live);
    }
    mf_index_close(index);
}

/* --- a few of many ---------------------------------------------------------------- */

enum { MANY = 16000, MANY_SESSIONS = 1500, LISTED = 60 };

/* A ninth is knowledge; some have no vector, some were removed. */
static mf_index *large_index(mf_rng *rng) {
    mf_index *index = open_index();
    for (int64_t num = 0; num < MANY; num++) {
        mf_index_facts facts =
            num % 9 == 0 ? knowledge(num)
                         : message(num, mf_rng_below(rng, 250), (uint64_t)num % 3);
        facts.session_id.b[1] = (uint8_t)(mf_rng_below(rng, MANY_SESSIONS) / 250);
        char text[128];
        random_text(rng, text, sizeof(text));
        add(index, facts, text);
        float vector[DIM];
        random_unit(rng, vector);
        if (num % 11 != 0) {
            assert_int_equal(mf_index_set_vectors(index, facts.key, vector, 1, NULL),
                             MF_OK);
        }
        if (num % 13 == 0) {
            assert_true(mf_index_remove(index, facts.key));
        }
    }
    return index;
}

static mf_index_query random_query(mf_rng *rng, char *text, size_t size,
                                   float *vector) {
    random_text(rng, text, size);
    random_unit(rng, vector);
    mf_index_query query = {.text = mf_str_from(text),
                            .vector = vector,
                            .path = (mf_index_path)mf_rng_below(rng, 3),
                            .messages = true,
                            .knowledge = mf_rng_below(rng, 3) > 0,
                            .hits_max = 1 + mf_rng_below(rng, LISTED)};
    return query;
}

/* The listed documents in the order and with the scores of the whole search. */
static void check_listed(const mf_index *index, const mf_index_query *query,
                         const mf_index_key *keys) {
    static mf_index_hit all[MANY];
    mf_index_hit few[LISTED];
    mf_index_weights weights = mf_index_weights_default();
    mf_index_query whole = *query;
    whole.hits_max = MANY;
    size_t all_count = 0;
    size_t few_count = 0;
    bool cheaper = false;
    assert_int_equal(mf_index_search(index, &whole, &weights, all, &all_count, NULL),
                     MF_OK);
    assert_int_equal(mf_index_rescore(index, query, &weights, keys, LISTED, few,
                                      &few_count, &cheaper, NULL),
                     MF_OK);
    assert_true(cheaper);
    size_t next = 0;
    for (size_t i = 0; i < all_count && next < query->hits_max; i++) {
        bool listed = false;
        for (size_t k = 0; k < LISTED; k++) {
            listed |= keys[k].num == all[i].facts.key.num &&
                      keys[k].kind == all[i].facts.key.kind;
        }
        if (listed) {
            assert_true(next < few_count);
            assert_int_equal(few[next].facts.key.num, all[i].facts.key.num);
            assert_true(few[next].score == all[i].score); /* to the bit */
            assert_true(few[next].similarity == all[i].similarity);
            assert_true(few[next].keyword == all[i].keyword);
            next++;
        }
    }
    assert_int_equal(next, few_count);
}

static void a_few_documents_get_the_scores_of_a_whole_search(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 77);
    mf_index *index = large_index(&rng);
    for (int round = 0; round < 60; round++) {
        char text[128];
        float vector[DIM];
        mf_index_query query = random_query(&rng, text, sizeof(text), vector);
        mf_index_key keys[LISTED];
        for (size_t i = 0; i < LISTED; i++) {
            int64_t num = (int64_t)mf_rng_below(&rng, MANY); /* some are gone */
            keys[i] = (mf_index_key){num % 9 == 0, num};
        }
        keys[1] = keys[0]; /* one named twice is one */
        check_listed(index, &query, keys);
    }
    mf_index_close(index);
}

static void a_search_of_everything_is_named_the_cheaper_one(void **state) {
    (void)state;
    mf_index *index = open_index();
    for (int64_t num = 0; num < 200; num++) {
        add(index, message(num, 1, 1), "lobster");
    }
    mf_index_query query = {.text = MF_STR("lobster"), .messages = true, .hits_max = 5};
    mf_index_weights weights = mf_index_weights_default();
    mf_index_key key = {0, 7};
    mf_index_hit hits[5];
    size_t count = 99;
    bool cheaper = true;
    assert_int_equal(mf_index_rescore(index, &query, &weights, &key, 1, hits, &count,
                                      &cheaper, NULL),
                     MF_OK);
    assert_false(cheaper);
    assert_int_equal(count, 0);
    mf_index_close(index);
}

static void rescoring_without_memory_says_so(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 3);
    mf_index *index = large_index(&rng);
    char text[128];
    float vector[DIM];
    mf_index_query query = random_query(&rng, text, sizeof(text), vector);
    query.path = MF_PATH_BLEND;
    query.hits_max = 3;
    mf_index_weights weights = mf_index_weights_default();
    mf_index_key keys[2] = {{0, 1}, {0, 2}};
    size_t live = mf_alloc_live();
    MF_EACH_FAULT("alloc", n) {
        mf_index_hit hits[3];
        size_t count = 99;
        bool cheaper = false;
        mf_rc rc = mf_index_rescore(index, &query, &weights, keys, 2, hits, &count,
                                    &cheaper, NULL);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        assert_int_equal(count, mf_fault_fired() ? 99 : 2);
        assert_int_equal(mf_alloc_live(), live);
    }
    mf_index_close(index);
}

static uint64_t words_key(const char *text) {
    uint64_t key = 0;
    assert_int_equal(mf_index_words_key(mf_str_from(text), &key, NULL), MF_OK);
    return key;
}

static void the_same_words_have_the_same_key(void **state) {
    (void)state;
    assert_true(words_key("Where did the lobster run?") ==
                words_key("the LOBSTER, where does it run"));
    assert_true(words_key("lobster violin") == words_key("violins lobster"));
    assert_true(words_key("lobster") != words_key("violin"));
    assert_true(words_key("lobster") != words_key("lobster lobster"));
    assert_true(words_key("?!") == words_key(""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_history_answers_as_a_fresh_index),
        cmocka_unit_test(the_document_with_the_words_comes_first),
        cmocka_unit_test(the_date_of_a_message_is_found_by_its_words),
        cmocka_unit_test(ties_are_answered_newest_first),
        cmocka_unit_test(filters_choose_the_population),
        cmocka_unit_test(a_close_vector_wins_without_a_shared_word),
        cmocka_unit_test(a_document_without_a_vector_is_neither_lost_nor_raised),
        cmocka_unit_test(the_turns_around_an_answer_are_raised),
        cmocka_unit_test(knowledge_and_a_lone_message_with_the_same_words_score_alike),
        cmocka_unit_test(dropped_vectors_leave_the_words_and_are_asked_for_again),
        cmocka_unit_test(pending_lists_those_without_vectors_in_order),
        cmocka_unit_test(bad_vectors_are_refused),
        cmocka_unit_test(a_megabyte_of_text_is_one_document),
        cmocka_unit_test(bytes_held_follow_the_documents),
        cmocka_unit_test(each_failed_allocation_leaves_the_index_whole),
        cmocka_unit_test(a_search_without_memory_says_so),
        cmocka_unit_test(a_few_documents_get_the_scores_of_a_whole_search),
        cmocka_unit_test(a_search_of_everything_is_named_the_cheaper_one),
        cmocka_unit_test(rescoring_without_memory_says_so),
        cmocka_unit_test(the_same_words_have_the_same_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
