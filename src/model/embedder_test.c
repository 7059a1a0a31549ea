/* embedder_test.c - the pool answers as a lane does, keeps a lane for questions,
 * encodes equal texts once, and can be used from many threads. */
#include "model/embedder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "model/tiny_model_testing.h"

enum { DIM = TINY_HIDDEN };

typedef struct fixture {
    char dir[64];
    mf_encoder *encoder;
} fixture;

static int open_model(void **state) {
    static fixture f;
    mf_err err;
    mf_encoder_options options = mf_encoder_options_default();
    tiny_model_make(f.dir);
    if (mf_encoder_open(f.dir, &options, &f.encoder, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = &f;
    return 0;
}

static int close_model(void **state) {
    fixture *f = *state;
    (void)mf_encoder_unref(f->encoder);
    tiny_model_remove(f->dir);
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static mf_embedder *open_embedder(mf_encoder *encoder, size_t lanes, size_t cached) {
    mf_embedder *emb = NULL;
    mf_err err;
    mf_embedder_options options = {.lane_count = lanes, .cache_count_max = cached};
    if (mf_embedder_open(encoder, &options, &emb, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return emb;
}

static void must_encode(mf_embedder *emb, mf_embed_class cls, const mf_str *texts,
                        size_t count, float *out) {
    mf_err err;
    if (mf_embedder_encode(emb, cls, texts, count, MF_NEVER, out, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
}

static const mf_str words[] = {
    {"red", 3}, {"green cat", 9}, {"", 0}, {"blue dog runs", 13}, {"dogs", 4},
};
enum { WORDS = sizeof words / sizeof words[0] };

static void vectors_are_those_of_a_lane(void **state) {
    fixture *f = *state;
    mf_lane *lane = NULL;
    float expected[WORDS * DIM];
    float out[WORDS * DIM];
    assert_int_equal(mf_lane_open(f->encoder, &lane, NULL), MF_OK);
    assert_int_equal(mf_lane_encode(lane, words, WORDS, MF_NEVER, expected, NULL, NULL),
                     MF_OK);
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
        mf_embedder_close(emb);
    }
    mf_lane_close(lane);
}

static void any_number_of_texts_is_cut_into_slices(void **state) {
    fixture *f = *state;
    enum { MANY = MF_ENCODE_BATCH_MAX * 2 + 3 };
    static mf_str texts[MANY];
    static float out[MANY * DIM];
    float expected[WORDS * DIM];
    mf_embedder *emb = open_embedder(f->encoder, 2, 0);
    must_encode(emb, MF_EMBED_QUESTION, words, WORDS, expected);
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
    mf_embedder_close(emb);
}

static void equal_texts_are_encoded_once(void **state) {
    fixture *f = *state;
    const mf_str texts[] = {words[0], words[1], words[0], words[0]};
    float out[4 * DIM];
    mf_embedder_stats stats;
    mf_embedder *emb = open_embedder(f->encoder, 1, 10);
    must_encode(emb, MF_EMBED_INGEST, texts, 4, out);
    mf_embedder_get_stats(emb, &stats);
    assert_int_equal(stats.texts, 4);
    assert_int_equal(stats.cache_misses, 2);
    assert_int_equal(stats.cache_hits, 2);
    assert_int_equal(stats.ingest_slices, 1);
    assert_memory_equal(out, out + 2 * DIM, DIM * sizeof *out);
    assert_memory_equal(out, out + 3 * DIM, DIM * sizeof *out);
    must_encode(emb, MF_EMBED_QUESTION, texts, 4, out);
    mf_embedder_get_stats(emb, &stats);
    assert_int_equal(stats.cache_misses, 2);
    assert_int_equal(stats.cache_hits, 6);
    assert_int_equal(stats.questions, 1);
    assert_int_equal(stats.lane_count, 1);
    assert_int_equal(stats.lanes_busy, 0);
    mf_embedder_close(emb);
}

static void truncated_texts_are_counted(void **state) {
    fixture *f = *state;
    static char text[4 * TINY_WINDOW];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = "red "[i % 4];
    }
    const mf_str texts[] = {words[0], {text, sizeof text}};
    float out[2 * DIM];
    mf_embedder_stats stats;
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    must_encode(emb, MF_EMBED_INGEST, texts, 2, out);
    mf_embedder_get_stats(emb, &stats);
    assert_int_equal(stats.tokens_truncated_texts, 1);
    mf_embedder_close(emb);
}

static void bounds_are_refused_by_name(void **state) {
    fixture *f = *state;
    mf_embedder *emb = NULL;
    mf_err err;
    mf_embedder_options options = {.lane_count = 0};
    assert_int_equal(mf_embedder_open(f->encoder, &options, &emb, &err), MF_E_INVAL);
    options.lane_count = 65;
    assert_int_equal(mf_embedder_open(f->encoder, &options, &emb, &err), MF_E_INVAL);
    assert_non_null(strstr(err.text, "lane_count"));
    assert_null(emb);
    emb = open_embedder(f->encoder, 1, 0);
    char *long_text = mf_alloc_zero(1, MF_ENCODE_BYTES_MAX + 1);
    assert_non_null(long_text);
    const mf_str texts[] = {words[0], {long_text, MF_ENCODE_BYTES_MAX + 1}};
    float out[2 * DIM];
    assert_int_equal(
        mf_embedder_encode(emb, MF_EMBED_INGEST, texts, 2, MF_NEVER, out, &err),
        MF_E_LIMIT);
    assert_non_null(strstr(err.text, "text 1"));
    mf_free(long_text);
    mf_embedder_close(emb);
}

static void a_passed_deadline_is_a_timeout_and_frees_the_lane(void **state) {
    fixture *f = *state;
    float out[DIM];
    mf_err err;
    mf_embedder_stats stats;
    mf_embedder *emb = open_embedder(f->encoder, 1, 4);
    assert_int_equal(mf_embedder_encode(emb, MF_EMBED_QUESTION, words, 1,
                                        mf_now_ns() - 1, out, &err),
                     MF_E_TIMEOUT);
    mf_embedder_get_stats(emb, &stats);
    assert_int_equal(stats.lanes_busy, 0);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    mf_embedder_close(emb);
}

/* --- a lane held up at will ------------------------------------------------------- */

/* A clock that stops whoever asks it on a marked thread: the lane looks at the time
 * between layers, so this holds a lane inside its work without any waiting for time. */
typedef struct gate {
    mf_mutex mu;
    mf_cond changed;
    size_t inside; /* guarded by mu, as is open */
    bool open;
} gate;

static gate the_gate;
static _Thread_local bool held_at_gate;

static int64_t gated_ns(void *ctx) {
    (void)ctx;
    if (held_at_gate) {
        mf_mutex_lock(&the_gate.mu);
        the_gate.inside++;
        mf_cond_broadcast(&the_gate.changed);
        while (!the_gate.open) {
            (void)mf_cond_wait(&the_gate.changed, &the_gate.mu, MF_NEVER);
        }
        mf_mutex_unlock(&the_gate.mu);
        held_at_gate = false;
    }
    return 1000;
}

static int64_t gated_us(void *ctx) {
    (void)ctx;
    return 1;
}

static const mf_clock gated_clock = {gated_ns, gated_us, NULL};

static void gate_init(void) {
    mf_mutex_init(&the_gate.mu, MF_RANK_LEAF);
    mf_cond_init(&the_gate.changed);
    the_gate.inside = 0;
    the_gate.open = false;
    mf_clock_set(&gated_clock);
}

static void gate_wait_inside(size_t count) {
    mf_mutex_lock(&the_gate.mu);
    while (the_gate.inside < count) {
        (void)mf_cond_wait(&the_gate.changed, &the_gate.mu, MF_NEVER);
    }
    mf_mutex_unlock(&the_gate.mu);
}

static void gate_open(void) {
    mf_mutex_lock(&the_gate.mu);
    the_gate.open = true;
    mf_cond_broadcast(&the_gate.changed);
    mf_mutex_unlock(&the_gate.mu);
}

static void gate_done(void) {
    mf_clock_set(NULL);
    mf_cond_done(&the_gate.changed);
    mf_mutex_done(&the_gate.mu);
}

typedef struct caller {
    mf_thread thread;
    mf_embedder *emb;
    mf_embed_class cls;
    bool held;
    mf_rc rc;
    float out[DIM];
} caller;

static void call(void *arg) {
    caller *c = arg;
    held_at_gate = c->held;
    c->rc = mf_embedder_encode(c->emb, c->cls, words, 1, MF_NEVER, c->out, NULL);
}

static void start(caller *c, mf_embedder *emb, mf_embed_class cls, bool held) {
    mf_err err;
    *c = (caller){.emb = emb, .cls = cls, .held = held, .rc = MF_E_INTERNAL};
    assert_int_equal(mf_thread_start(&c->thread, "caller", call, c, &err), MF_OK);
}

static void a_question_finds_a_lane_while_ingest_fills_all_it_may(void **state) {
    fixture *f = *state;
    mf_embedder *emb = open_embedder(f->encoder, 2, 0);
    mf_embedder_stats stats;
    caller ingest[3];
    float out[DIM];
    gate_init();
    start(&ingest[0], emb, MF_EMBED_INGEST, true);
    gate_wait_inside(1);
    start(&ingest[1], emb, MF_EMBED_INGEST, true);
    start(&ingest[2], emb, MF_EMBED_INGEST, false);
    for (int i = 0; i < 20; i++) {
        must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    }
    mf_embedder_get_stats(emb, &stats);
    assert_int_equal(stats.lanes_busy, 1);
    assert_int_equal(stats.ingest_slices, 0);
    gate_open();
    for (size_t i = 0; i < 3; i++) {
        mf_thread_join(&ingest[i].thread);
        assert_int_equal(ingest[i].rc, MF_OK);
        assert_memory_equal(ingest[i].out, out, sizeof out);
    }
    gate_done();
    mf_embedder_close(emb);
}

static void a_question_gives_up_at_its_deadline(void **state) {
    fixture *f = *state;
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    caller ingest;
    float out[DIM];
    mf_err err;
    gate_init();
    start(&ingest, emb, MF_EMBED_INGEST, true);
    gate_wait_inside(1);
    /* In the past also for the system's clock, on which condition variables wait. */
    assert_int_equal(mf_embedder_encode(emb, MF_EMBED_QUESTION, words, 1, 1, out, &err),
                     MF_E_TIMEOUT);
    gate_open();
    mf_thread_join(&ingest.thread);
    assert_int_equal(ingest.rc, MF_OK);
    gate_done();
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    mf_embedder_close(emb);
}

/* --- many threads ----------------------------------------------------------------- */

typedef struct crowd {
    mf_embedder *emb;
    const float *expected;
    atomic_uint next;
    atomic_uint wrong;
} crowd;

static void crowd_member(void *arg) {
    crowd *c = arg;
    unsigned id = atomic_fetch_add(&c->next, 1);
    float out[WORDS * DIM];
    for (unsigned round = 0; round < 12; round++) {
        size_t first = (id + round) % WORDS;
        size_t count = 1 + (id * 3 + round) % (WORDS - first);
        mf_embed_class cls =
            (id + round) % 3 == 0 ? MF_EMBED_QUESTION : MF_EMBED_INGEST;
        mf_rc rc =
            mf_embedder_encode(c->emb, cls, words + first, count, MF_NEVER, out, NULL);
        bool same = rc == MF_OK && memcmp(out, c->expected + first * DIM,
                                          count * DIM * sizeof *out) == 0;
        if (!same) {
            (void)atomic_fetch_add(&c->wrong, 1);
        }
    }
}

static void threads_share_lanes_and_cache(void **state) {
    fixture *f = *state;
    enum { THREADS = 6 };
    float expected[WORDS * DIM];
    for (size_t lanes = 1; lanes <= 3; lanes++) {
        mf_embedder *emb = open_embedder(f->encoder, lanes, lanes - 1);
        must_encode(emb, MF_EMBED_QUESTION, words, WORDS, expected);
        crowd c = {.emb = emb, .expected = expected};
        mf_thread threads[THREADS];
        for (size_t i = 0; i < THREADS; i++) {
            assert_int_equal(
                mf_thread_start(&threads[i], "crowd", crowd_member, &c, NULL), MF_OK);
        }
        for (size_t i = 0; i < THREADS; i++) {
            mf_thread_join(&threads[i]);
        }
        assert_int_equal(atomic_load(&c.wrong), 0);
        mf_embedder_stats stats;
        mf_embedder_get_stats(emb, &stats);
        assert_int_equal(stats.lanes_busy, 0);
        assert_int_equal(stats.texts, stats.cache_hits + stats.cache_misses);
        mf_embedder_close(emb);
    }
}

static void open_survives_each_failed_allocation(void **state) {
    fixture *f = *state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_embedder *emb = NULL;
        mf_err err;
        mf_embedder_options options = {.lane_count = 2, .cache_count_max = 4};
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_those_of_a_lane),
        cmocka_unit_test(any_number_of_texts_is_cut_into_slices),
        cmocka_unit_test(equal_texts_are_encoded_once),
        cmocka_unit_test(truncated_texts_are_counted),
        cmocka_unit_test(bounds_are_refused_by_name),
        cmocka_unit_test(a_passed_deadline_is_a_timeout_and_frees_the_lane),
        cmocka_unit_test(a_question_finds_a_lane_while_ingest_fills_all_it_may),
        cmocka_unit_test(a_question_gives_up_at_its_deadline),
        cmocka_unit_test(threads_share_lanes_and_cache),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
