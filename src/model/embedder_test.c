/* embedder_test.c - vectors are those of a lane, equal texts are encoded once wherever
 * they come from, keys tell models apart, and a source is trusted only as far as it
 * makes sense. */
#include "model/embedder.h"

#include <math.h>

#include "model/embedder_testing.h"

#include "base/fault.h"
#include "num/half.h"

/* What a lane gives, in half precision. */
static void expected_vectors(mf_encoder *encoder, const mf_str *texts, size_t count,
                             float *out) {
    mf_lane *lane = NULL;
    uint16_t half[DIM];
    assert_int_equal(mf_lane_open(encoder, &lane, NULL), MF_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(
            mf_lane_encode(lane, texts + i, 1, MF_NEVER, out + i * DIM, NULL, NULL),
            MF_OK);
        mf_half_from_float(out + i * DIM, half, DIM);
        mf_half_to_float(half, out + i * DIM, DIM);
    }
    mf_lane_close(lane);
}

static void vectors_are_those_of_a_lane_in_half_precision(void **state) {
    fixture *f = *state;
    float expected[WORDS * DIM];
    float out[WORDS * DIM];
    expected_vectors(f->encoder, words, WORDS, expected);
    for (size_t cached = 0; cached <= 2; cached++) {
        mf_embedder *emb = open_embedder(f->encoder, 1, cached);
        assert_int_equal(mf_embedder_dim(emb), DIM);
        assert_ptr_equal(mf_embedder_encoder(emb), f->encoder);
        for (int repeat = 0; repeat < 2; repeat++) {
            memset(out, 0, sizeof out);
            must_encode(emb, MF_EMBED_INGEST, words, WORDS, out);
            assert_memory_equal(out, expected, sizeof out);
            memset(out, 0, sizeof out);
            must_encode(emb, MF_EMBED_QUESTION, words, WORDS, out);
            assert_memory_equal(out, expected, sizeof out);
        }
        close_embedder(emb);
    }
}

static void exact_vectors_are_those_of_a_lane_to_the_bit(void **state) {
    fixture *f = *state;
    mf_lane *lane = NULL;
    float expected[WORDS * DIM];
    float out[WORDS * DIM];
    mf_embedder_options options = mf_embedder_options_default(1);
    options.cache_count_max = 10;
    options.exact = true;
    assert_int_equal(mf_lane_open(f->encoder, &lane, NULL), MF_OK);
    assert_int_equal(mf_lane_encode(lane, words, WORDS, MF_NEVER, expected, NULL, NULL),
                     MF_OK);
    mf_lane_close(lane);
    mf_embedder *emb = open_embedder_with(f->encoder, options);
    for (int repeat = 0; repeat < 2; repeat++) { /* encoded, then remembered */
        memset(out, 0, sizeof out);
        must_encode(emb, MF_EMBED_QUESTION, words, WORDS, out);
        assert_memory_equal(out, expected, sizeof out);
    }
    assert_int_equal(stats_of(emb).encoded, WORDS);
    close_embedder(emb);
}

static void any_number_of_texts_can_be_asked_for(void **state) {
    fixture *f = *state;
    enum { MANY = MF_ENCODE_BATCH_MAX * 2 + 3 };
    static mf_str texts[MANY];
    static float out[MANY * DIM];
    float expected[WORDS * DIM];
    mf_embedder *emb = open_embedder(f->encoder, 2, 0);
    expected_vectors(f->encoder, words, WORDS, expected);
    for (size_t i = 0; i < MANY; i++) {
        texts[i] = words[i * 7 % WORDS];
    }
    for (mf_embed_class cls = MF_EMBED_QUESTION; cls <= MF_EMBED_INGEST; cls++) {
        memset(out, 0, sizeof out);
        must_encode(emb, cls, texts, MANY, out);
        for (size_t i = 0; i < MANY; i++) {
            assert_memory_equal(out + i * DIM, expected + i * 7 % WORDS * DIM,
                                DIM * sizeof *out);
        }
    }
    must_encode(emb, MF_EMBED_INGEST, texts, 0, out);
    close_embedder(emb);
}

static void equal_texts_are_encoded_once(void **state) {
    fixture *f = *state;
    const mf_str texts[] = {words[0], words[1], words[0], words[0]};
    float out[4 * DIM];
    mf_embedder *emb = open_embedder(f->encoder, 1, 10);
    must_encode(emb, MF_EMBED_INGEST, texts, 4, out);
    mf_embedder_stats stats = stats_of(emb);
    assert_int_equal(stats.texts, 4);
    assert_int_equal(stats.encoded, 2);
    assert_int_equal(stats.memory_hits, 2);
    assert_int_equal(stats.ingest_slices, 1);
    assert_memory_equal(out, out + 2 * DIM, DIM * sizeof *out);
    assert_memory_equal(out, out + 3 * DIM, DIM * sizeof *out);
    must_encode(emb, MF_EMBED_QUESTION, texts, 4, out);
    stats = stats_of(emb);
    assert_int_equal(stats.encoded, 2);
    assert_int_equal(stats.memory_hits, 6);
    assert_int_equal(stats.questions, 1);
    assert_int_equal(stats.lane_count, 1);
    assert_int_equal(stats.lanes_busy, 0);
    close_embedder(emb);
}

static void a_text_that_is_being_encoded_is_waited_for(void **state) {
    fixture *f = *state;
    static caller callers[4];
    mf_embedder *emb = open_embedder(f->encoder, 4, 10);
    gate_allow(0);
    start(&callers[0], emb, MF_EMBED_INGEST, words, 2);
    gate_wait_arrived(1);
    start(&callers[1], emb, MF_EMBED_INGEST, words + 1, 2);
    start(&callers[2], emb, MF_EMBED_QUESTION, words, 1);
    start(&callers[3], emb, MF_EMBED_QUESTION, words + 1, 1);
    gate_allow(SIZE_MAX);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(finish(&callers[i]), MF_OK);
    }
    mf_embedder_stats stats = stats_of(emb);
    assert_int_equal(stats.encoded, 3);
    assert_int_equal(stats.memory_hits, 3);
    assert_memory_equal(callers[2].out, callers[0].out, DIM * sizeof(float));
    assert_memory_equal(callers[3].out, callers[1].out, DIM * sizeof(float));
    close_embedder(emb);
}

static void a_question_takes_its_text_from_ingest_work_that_only_waits(void **state) {
    fixture *f = *state;
    static caller busy;
    static caller ingest;
    static caller question;
    mf_embedder *emb = open_embedder(f->encoder, 1, 10);
    gate_allow(0);
    start(&busy, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    start(&ingest, emb, MF_EMBED_INGEST, words + 1, 3);
    wait_for_queue(emb, MF_EMBED_INGEST, 1);
    start(&question, emb, MF_EMBED_QUESTION, words + 1, 1);
    wait_for_queue(emb, MF_EMBED_QUESTION, 1);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&question), MF_OK);
    assert_int_equal(finish(&ingest), MF_OK);
    assert_int_equal(finish(&busy), MF_OK);
    assert_memory_equal(question.out, ingest.out, DIM * sizeof(float));
    assert_int_equal(stats_of(emb).encoded, 4);
    assert_int_equal(the_gate.log[1].cls, MF_EMBED_QUESTION);
    assert_int_equal(the_gate.log[2].cls, MF_EMBED_INGEST);
    assert_int_equal(the_gate.log[2].texts, 2);
    close_embedder(emb);
}

/* The one who is waited for gives up: the waiting call encodes by itself. */
static void a_text_whose_encoding_is_called_off_is_encoded_by_who_waits(void **state) {
    fixture *f = *state;
    static caller first;
    static caller second;
    mf_embedder *emb = open_embedder(f->encoder, 2, 10);
    gate_allow(0);
    start(&first, emb, MF_EMBED_QUESTION, words, 1);
    gate_wait_arrived(1);
    start(&second, emb, MF_EMBED_QUESTION, words, 1);
    cancel(&first);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&first), MF_E_STOPPING);
    assert_int_equal(finish(&second), MF_OK);
    assert_int_equal(stats_of(emb).encoded, 1);
    close_embedder(emb);
}

static void truncated_texts_are_counted(void **state) {
    fixture *f = *state;
    static char text[4 * TINY_WINDOW];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = "red "[i % 4];
    }
    const mf_str texts[] = {words[0], {text, sizeof text}};
    float out[2 * DIM];
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    must_encode(emb, MF_EMBED_INGEST, texts, 2, out);
    assert_int_equal(stats_of(emb).truncated, 1);
    close_embedder(emb);
}

static void bounds_are_refused_by_name(void **state) {
    fixture *f = *state;
    mf_embedder *emb = NULL;
    mf_err err;
    mf_embedder_options options = mf_embedder_options_default(1);
    options.lane_count = 0;
    assert_int_equal(mf_embedder_open(f->encoder, &options, &emb, &err), MF_E_INVAL);
    options.lane_count = MF_EMBED_LANES_MAX + 1;
    assert_int_equal(mf_embedder_open(f->encoder, &options, &emb, &err), MF_E_INVAL);
    assert_non_null(strstr(err.text, "lane_count"));
    options.lane_count = 2;
    options.ingest_lanes_max = 3;
    assert_int_equal(mf_embedder_open(f->encoder, &options, &emb, &err), MF_E_INVAL);
    assert_non_null(strstr(err.text, "ingest_lanes_max"));
    options = mf_embedder_options_default(1);
    options.question_queue_max = 0;
    assert_int_equal(mf_embedder_open(f->encoder, &options, &emb, &err), MF_E_INVAL);
    assert_null(emb);
    emb = open_embedder(f->encoder, 1, 0);
    char *bytes = mf_alloc_zero(1, MF_ENCODE_BYTES_MAX + 1);
    assert_non_null(bytes);
    const mf_str texts[] = {words[0], {bytes, MF_ENCODE_BYTES_MAX + 1}};
    float out[2 * DIM];
    assert_int_equal(encode(emb, MF_EMBED_INGEST, texts, 2, MF_NEVER, out, &err),
                     MF_E_LIMIT);
    assert_non_null(strstr(err.text, "text 1"));
    mf_free(bytes);
    close_embedder(emb);
}

/* Texts of every length up to the window of the real model, which is longer than a
 * group, in one call: pieces hold what fits and no more. */
static void long_and_short_texts_share_a_call(void **state) {
    (void)state;
    enum { TEXTS = 40, WORD_BYTES = 4, WORDS_MAX = 320 };
    static char bytes[WORD_BYTES * WORDS_MAX];
    mf_encoder_options options = mf_encoder_options_default();
    mf_encoder *encoder = NULL;
    mf_encoder_info info;
    mf_err err;
    mf_str texts[TEXTS];
    if (mf_encoder_open(MF_TEST_MODEL_DIR, &options, &encoder, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    mf_encoder_get_info(encoder, &info);
    assert_true(info.window > MF_GROUP_TOKENS);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = "sea "[i % WORD_BYTES];
    }
    for (size_t i = 0; i < TEXTS; i++) {
        texts[i] = (mf_str){bytes, i % 3 == 0 ? sizeof bytes - WORD_BYTES * i
                                              : WORD_BYTES * (i + 1)};
    }
    float *together = mf_alloc_array(TEXTS * info.dim, sizeof *together);
    float *single = mf_alloc_array(info.dim, sizeof *single);
    assert_non_null(together);
    assert_non_null(single);
    mf_embedder *emb = open_embedder(encoder, 1, 0);
    must_encode(emb, MF_EMBED_INGEST, texts, TEXTS, together);
    for (size_t i = 0; i < TEXTS; i += 7) {
        must_encode(emb, MF_EMBED_QUESTION, texts + i, 1, single);
        assert_memory_equal(single, together + i * info.dim, info.dim * sizeof *single);
    }
    close_embedder(emb);
    mf_free(together);
    mf_free(single);
    (void)mf_encoder_unref(encoder);
}

/* --- keys ------------------------------------------------------------------------- */

static mf_content_key key_in(mf_embedder *emb, mf_str text) {
    mf_embed_call call = {.cls = MF_EMBED_QUESTION, .deadline_ns = MF_NEVER};
    mf_content_key key = MF_CONTENT_KEY_NONE;
    float out[DIM];
    assert_int_equal(mf_embedder_encode(emb, &call, &text, 1, &key, out, NULL), MF_OK);
    assert_false(mf_content_key_is_none(&key));
    return key;
}

static mf_rc find_nothing(void *ctx, const mf_content_key *keys, size_t count,
                          size_t dim, uint16_t *vectors, bool *found,
                          int64_t deadline_ns, mf_err *err) {
    (void)ctx, (void)keys, (void)count, (void)dim;
    (void)vectors, (void)found, (void)deadline_ns, (void)err;
    return MF_OK;
}

/* The key of a text under one secret, computed with another precision or model. */
static mf_content_key key_under(mf_encoder *encoder, const mf_content_key *secret,
                                mf_str text) {
    const mf_vector_source source = {.secret = *secret, .find = find_nothing};
    mf_embedder *emb = open_embedder(encoder, 1, 4);
    mf_embedder_set_source(emb, &source);
    mf_content_key key = key_in(emb, text);
    close_embedder(emb);
    return key;
}

static void keys_depend_on_text_secret_model_and_precision(void **state) {
    fixture *f = *state;
    const mf_content_key secret = {{7}};
    const mf_content_key other_secret = {{8}};
    mf_encoder *encoders[2];
    const mf_precision precisions[] = {MF_PRECISION_FP32, MF_PRECISION_INT8};
    for (size_t i = 0; i < 2; i++) {
        mf_encoder_options options = {.precision = precisions[i]};
        assert_int_equal(mf_encoder_open(f->dir, &options, &encoders[i], NULL), MF_OK);
    }
    mf_content_key key = key_under(encoders[0], &secret, words[0]);
    mf_content_key again = key_under(encoders[0], &secret, words[0]);
    assert_true(mf_content_key_eq(&key, &again));
    const mf_content_key others[] = {
        key_under(encoders[0], &secret, words[1]),
        key_under(encoders[0], &other_secret, words[0]),
        key_under(encoders[1], &secret, words[0]),
    };
    for (size_t i = 0; i < 3; i++) {
        assert_false(mf_content_key_eq(&key, &others[i]));
        (void)mf_encoder_unref(i < 2 ? encoders[i] : NULL);
    }
}

static void without_a_source_keys_cannot_be_foreseen(void **state) {
    fixture *f = *state;
    mf_embedder *emb = open_embedder(f->encoder, 1, 4);
    mf_content_key one = key_in(emb, words[0]);
    close_embedder(emb);
    emb = open_embedder(f->encoder, 1, 4);
    mf_content_key two = key_in(emb, words[0]);
    assert_false(mf_content_key_eq(&one, &two));
    close_embedder(emb);
}

/* --- source ----------------------------------------------------------------------- */

/* Knows one vector for whatever it is asked. */
typedef struct known {
    uint16_t vector[DIM];
    mf_rc rc;
    size_t calls, keys;
} known;

static mf_rc find_known(void *ctx, const mf_content_key *keys, size_t count, size_t dim,
                        uint16_t *vectors, bool *found, int64_t deadline_ns,
                        mf_err *err) {
    known *k = ctx;
    (void)keys, (void)deadline_ns, (void)err;
    assert_int_equal(dim, DIM);
    k->calls++;
    k->keys += count;
    for (size_t i = 0; i < count; i++) {
        memcpy(vectors + i * dim, k->vector, sizeof k->vector);
        found[i] = true;
    }
    return k->rc;
}

static mf_embedder *open_with_source(mf_encoder *encoder, known *k) {
    mf_embedder *emb = open_embedder(encoder, 1, 10);
    const mf_vector_source source = {.secret = {{1}}, .find = find_known, .ctx = k};
    mf_embedder_set_source(emb, &source);
    return emb;
}

static void documents_known_to_the_source_are_not_encoded(void **state) {
    fixture *f = *state;
    known k = {.rc = MF_OK};
    float expected[DIM] = {[3] = -1.0F};
    float out[WORDS * DIM];
    mf_half_from_float(expected, k.vector, DIM);
    mf_embedder *emb = open_with_source(f->encoder, &k);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out); /* asks nobody */
    assert_int_equal(k.calls, 0);
    must_encode(emb, MF_EMBED_INGEST, words, WORDS, out);
    assert_int_equal(k.calls, 1); /* one look-up for all */
    assert_int_equal(k.keys, WORDS - 1);
    for (size_t i = 1; i < WORDS; i++) {
        assert_memory_equal(out + i * DIM, expected, sizeof expected);
    }
    must_encode(emb, MF_EMBED_INGEST, words, WORDS, out); /* in memory now */
    assert_int_equal(k.calls, 1);
    mf_embedder_stats stats = stats_of(emb);
    assert_int_equal(stats.encoded, 1);
    assert_int_equal(stats.store_hits, WORDS - 1);
    assert_int_equal(stats.memory_hits, WORDS + 1);
    assert_int_equal(stats.texts, 2 * WORDS + 1);
    close_embedder(emb);
}

static void what_is_no_unit_vector_is_encoded_anew(void **state) {
    fixture *f = *state;
    static const float bad[][DIM] = {{0}, {0.5F}, {2.0F}, {NAN, 1.0F}, {INFINITY}};
    float expected[DIM];
    float out[DIM];
    expected_vectors(f->encoder, words, 1, expected);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        known k = {.rc = MF_OK};
        mf_half_from_float(bad[i], k.vector, DIM);
        mf_embedder *emb = open_with_source(f->encoder, &k);
        must_encode(emb, MF_EMBED_INGEST, words, 1, out);
        assert_memory_equal(out, expected, sizeof out);
        assert_int_equal(stats_of(emb).store_hits, 0);
        close_embedder(emb);
    }
}

static void a_source_that_fails_costs_an_encoding_and_no_more(void **state) {
    fixture *f = *state;
    known k = {.rc = MF_E_IO};
    float expected[WORDS * DIM];
    float out[WORDS * DIM];
    expected_vectors(f->encoder, words, WORDS, expected);
    mf_embedder *emb = open_with_source(f->encoder, &k);
    must_encode(emb, MF_EMBED_INGEST, words, WORDS, out);
    assert_memory_equal(out, expected, sizeof out);
    assert_int_equal(stats_of(emb).store_failures, 1);
    assert_int_equal(stats_of(emb).encoded, WORDS);
    close_embedder(emb);
}

static void forgotten_documents_leave_memory_and_questions_stay(void **state) {
    fixture *f = *state;
    float out[2 * DIM];
    mf_embedder *emb = open_embedder(f->encoder, 1, 10);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    must_encode(emb, MF_EMBED_INGEST, words, 2, out);
    assert_int_equal(stats_of(emb).encoded, 2);
    mf_embedder_forget(emb);
    must_encode(emb, MF_EMBED_INGEST, words, 2, out);
    assert_int_equal(stats_of(emb).encoded, 3);
    close_embedder(emb);
}

/* What is encoded while something is forgotten is not remembered: it may be just that.
 */
static void
a_document_under_way_when_documents_are_forgotten_is_not_kept(void **state) {
    fixture *f = *state;
    static caller ingest;
    float out[DIM];
    mf_embedder *emb = open_embedder(f->encoder, 1, 10);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    mf_embedder_forget(emb);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&ingest), MF_OK);
    must_encode(emb, MF_EMBED_INGEST, words, 1, out);
    assert_int_equal(stats_of(emb).encoded, 2);
    close_embedder(emb);
}

static void an_import_does_not_wash_out_questions(void **state) {
    fixture *f = *state;
    float out[DIM];
    char space[LONG_BYTES];
    mf_embedder *emb = open_embedder(f->encoder, 1, 2);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    for (size_t i = 0; i < 10; i++) {
        mf_str text = long_text(space, i);
        must_encode(emb, MF_EMBED_INGEST, &text, 1, out);
    }
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    assert_int_equal(stats_of(emb).encoded, 11);
    close_embedder(emb);
}

static void open_survives_each_failed_allocation(void **state) {
    fixture *f = *state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_embedder *emb = NULL;
        mf_err err;
        mf_embedder_options options = mf_embedder_options_default(1);
        options.cache_count_max = 4;
        mf_rc rc = mf_embedder_open(f->encoder, &options, &emb, &err);
        if (rc == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(rc, MF_E_NOMEM);
            assert_null(emb);
        }
        mf_embedder_close(emb);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static void a_call_survives_each_failed_allocation(void **state) {
    fixture *f = *state;
    float expected[WORDS * DIM];
    float out[WORDS * DIM];
    expected_vectors(f->encoder, words, WORDS, expected);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_fault_disarm();
        mf_embedder *emb = open_embedder(f->encoder, 1, 10);
        size_t live = mf_alloc_live();
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc = encode(emb, MF_EMBED_INGEST, words, WORDS, MF_NEVER, out, NULL);
        bool fired = mf_fault_fired();
        if (rc == MF_OK) { /* a vector that cannot be remembered is no failure */
            assert_memory_equal(out, expected, sizeof out);
            assert_true(mf_alloc_live() >= live);
        } else {
            assert_true(fired);
            assert_int_equal(rc, MF_E_NOMEM);
            assert_int_equal(mf_alloc_live(), live);
        }
        close_embedder(emb);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_those_of_a_lane_in_half_precision),
        cmocka_unit_test(exact_vectors_are_those_of_a_lane_to_the_bit),
        cmocka_unit_test(any_number_of_texts_can_be_asked_for),
        cmocka_unit_test(equal_texts_are_encoded_once),
        cmocka_unit_test(a_text_that_is_being_encoded_is_waited_for),
        cmocka_unit_test(a_question_takes_its_text_from_ingest_work_that_only_waits),
        cmocka_unit_test(a_text_whose_encoding_is_called_off_is_encoded_by_who_waits),
        cmocka_unit_test(truncated_texts_are_counted),
        cmocka_unit_test(bounds_are_refused_by_name),
        cmocka_unit_test(long_and_short_texts_share_a_call),
        cmocka_unit_test(keys_depend_on_text_secret_model_and_precision),
        cmocka_unit_test(without_a_source_keys_cannot_be_foreseen),
        cmocka_unit_test(documents_known_to_the_source_are_not_encoded),
        cmocka_unit_test(what_is_no_unit_vector_is_encoded_anew),
        cmocka_unit_test(a_source_that_fails_costs_an_encoding_and_no_more),
        cmocka_unit_test(forgotten_documents_leave_memory_and_questions_stay),
        cmocka_unit_test(a_document_under_way_when_documents_are_forgotten_is_not_kept),
        cmocka_unit_test(an_import_does_not_wash_out_questions),
        cmocka_unit_test(open_survives_each_failed_allocation),
        cmocka_unit_test(a_call_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
