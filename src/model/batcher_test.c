/* batcher_test.c - questions go first and together, ingest work is cut by tokens and
 * not starved, queues are bounded, and who leaves a batch or spoils it hurts nobody
 * else.
 *
 * The batcher is asked through the embedder, with nothing remembered unless a test says
 * so. */
#include "model/batcher.h"

#include "model/embedder_testing.h"

#include "base/fault.h"

/* What the embedder gives for texts one at a time. */
static void alone(mf_encoder *encoder, const mf_str *texts, size_t count, float *out) {
    mf_embedder *emb = open_embedder(encoder, 1, 0);
    for (size_t i = 0; i < count; i++) {
        must_encode(emb, MF_EMBED_QUESTION, texts + i, 1, out + i * DIM);
    }
    close_embedder(emb);
}

/* --- turns ------------------------------------------------------------------------ */

static void questions_that_wait_together_run_as_one_batch(void **state) {
    fixture *f = *state;
    static caller ingest;
    static caller questions[WORDS];
    float expected[WORDS * DIM];
    alone(f->encoder, words, WORDS, expected);
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    for (size_t i = 0; i < WORDS; i++) {
        start(&questions[i], emb, MF_EMBED_QUESTION, words + i, 1);
    }
    wait_for_queue(emb, MF_EMBED_QUESTION, WORDS);
    gate_allow(SIZE_MAX);
    for (size_t i = 0; i < WORDS; i++) {
        assert_int_equal(finish(&questions[i]), MF_OK);
        assert_memory_equal(questions[i].out, expected + i * DIM, DIM * sizeof(float));
    }
    assert_int_equal(finish(&ingest), MF_OK);
    mf_embedder_stats stats = stats_of(emb);
    assert_int_equal(the_gate.arrived, 2);
    assert_int_equal(the_gate.log[1].calls, WORDS);
    assert_int_equal(stats.question_batches, 1);
    assert_int_equal(stats.question_batch_max, WORDS);
    assert_int_equal(stats.coalesced, WORDS);
    assert_int_equal(stats.waiting_max[MF_EMBED_QUESTION], WORDS);
    assert_int_equal(stats.waiting[MF_EMBED_QUESTION], 0);
    assert_int_equal(stats.waits[MF_EMBED_QUESTION].count, WORDS);
    close_embedder(emb);
}

static void a_question_goes_before_ingest_work_that_waits(void **state) {
    fixture *f = *state;
    static caller ingest[3];
    static caller question;
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    gate_allow(0);
    start(&ingest[0], emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    start(&ingest[1], emb, MF_EMBED_INGEST, words, 1);
    start(&ingest[2], emb, MF_EMBED_INGEST, words, 1);
    wait_for_queue(emb, MF_EMBED_INGEST, 2);
    start(&question, emb, MF_EMBED_QUESTION, words, 1);
    wait_for_queue(emb, MF_EMBED_QUESTION, 1);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&question), MF_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(finish(&ingest[i]), MF_OK);
    }
    assert_int_equal(the_gate.log[1].cls, MF_EMBED_QUESTION);
    assert_int_equal(the_gate.log[2].cls, MF_EMBED_INGEST);
    close_embedder(emb);
}

static void ingest_leaves_a_lane_to_questions(void **state) {
    fixture *f = *state;
    static caller ingest[3];
    float out[DIM];
    mf_embedder *emb =
        open_embedder_with(f->encoder, mf_embedder_options_default(1)); /* 2 lanes */
    gate_allow(0);
    for (size_t i = 0; i < 3; i++) {
        start(&ingest[i], emb, MF_EMBED_INGEST, words, 1);
    }
    gate_wait_arrived(1);
    wait_for_queue(emb, MF_EMBED_INGEST, 2);
    assert_int_equal(stats_of(emb).lanes_busy, 1);
    static caller question;
    start(&question, emb, MF_EMBED_QUESTION, words, 1);
    gate_wait_arrived(2);
    assert_int_equal(the_gate.log[1].cls, MF_EMBED_QUESTION);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&question), MF_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(finish(&ingest[i]), MF_OK);
    }
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    close_embedder(emb);
}

/* Three callers with more questions than they ever get through at once, each as large
 * as a batch: two of them always wait. */
static void ingest_work_gets_its_turn_from_endless_questions(void **state) {
    fixture *f = *state;
    enum { TEXTS = 60 };
    static char spaces[TEXTS][LONG_BYTES];
    static mf_str texts[TEXTS];
    static caller questions[3];
    static caller ingest;
    for (size_t i = 0; i < TEXTS; i++) {
        texts[i] = long_text(spaces[i], i);
    }
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    gate_allow(0);
    for (size_t i = 0; i < 3; i++) {
        start(&questions[i], emb, MF_EMBED_QUESTION, texts, TEXTS);
    }
    gate_wait_arrived(1);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    wait_for_queue(emb, MF_EMBED_INGEST, 1);
    for (size_t passed = 1; passed <= MF_QUESTION_RUN + 1; passed++) {
        wait_for_queue(emb, MF_EMBED_QUESTION, 2);
        gate_allow(passed);
        gate_wait_arrived(passed + 1);
    }
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&ingest), MF_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(finish(&questions[i]), MF_OK);
    }
    for (size_t i = 0; i <= MF_QUESTION_RUN; i++) {
        assert_int_equal(the_gate.log[i].cls, MF_EMBED_QUESTION);
    }
    assert_int_equal(the_gate.log[MF_QUESTION_RUN + 1].cls, MF_EMBED_INGEST);
    close_embedder(emb);
}

static void work_is_cut_by_tokens(void **state) {
    fixture *f = *state;
    enum { TEXTS = 64 };
    static char spaces[TEXTS][LONG_BYTES];
    static mf_str texts[TEXTS];
    static float out[TEXTS * DIM];
    for (size_t i = 0; i < TEXTS; i++) {
        texts[i] = long_text(spaces[i], i);
        texts[i].len = i % 2 == 0 ? texts[i].len : 4;
    }
    for (mf_embed_class cls = MF_EMBED_QUESTION; cls <= MF_EMBED_INGEST; cls++) {
        mf_embedder *emb = open_embedder(f->encoder, 1, 0);
        must_encode(emb, cls, texts, TEXTS, out);
        size_t sum = 0;
        assert_true(the_gate.arrived > 4);
        for (size_t i = 0; i < the_gate.arrived; i++) {
            bool last = i + 1 == the_gate.arrived;
            assert_true(the_gate.log[i].tokens <= MF_GROUP_TOKENS);
            assert_true(last || the_gate.log[i].tokens > MF_GROUP_TOKENS - TINY_WINDOW);
            sum += the_gate.log[i].texts;
        }
        assert_true(sum <= TEXTS); /* equal ones of a batch run once */
        assert_int_equal(stats_of(emb).encoded, sum);
        close_embedder(emb);
    }
}

/* --- bounds ----------------------------------------------------------------------- */

static void a_question_is_refused_at_once_when_too_many_wait(void **state) {
    fixture *f = *state;
    static caller ingest;
    static caller question;
    float out[DIM];
    mf_err err;
    mf_embedder_options options = mf_embedder_options_default(1);
    options.lane_count = 1;
    options.question_queue_max = 1;
    mf_embedder *emb = open_embedder_with(f->encoder, options);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    start(&question, emb, MF_EMBED_QUESTION, words, 1);
    wait_for_queue(emb, MF_EMBED_QUESTION, 1);
    assert_int_equal(encode(emb, MF_EMBED_QUESTION, words, 1, MF_NEVER, out, &err),
                     MF_E_BUSY);
    assert_int_equal(stats_of(emb).refused, 1);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&question), MF_OK);
    assert_int_equal(finish(&ingest), MF_OK);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    close_embedder(emb);
}

static void ingest_work_waits_for_room_and_is_not_lost(void **state) {
    fixture *f = *state;
    enum { CALLERS = 6 };
    static caller ingest[CALLERS];
    float expected[DIM];
    alone(f->encoder, words, 1, expected);
    mf_embedder_options options = mf_embedder_options_default(1);
    options.lane_count = 1;
    options.ingest_queue_max = 1;
    mf_embedder *emb = open_embedder_with(f->encoder, options);
    gate_allow(0);
    for (size_t i = 0; i < CALLERS; i++) {
        start(&ingest[i], emb, MF_EMBED_INGEST, words, 1);
    }
    gate_wait_arrived(1);
    wait_for_queue(emb, MF_EMBED_INGEST, 1);
    assert_int_equal(encode(emb, MF_EMBED_INGEST, words, 1, 1, expected, NULL),
                     MF_E_TIMEOUT); /* of a deadline long past */
    gate_allow(SIZE_MAX);
    for (size_t i = 0; i < CALLERS; i++) {
        assert_int_equal(finish(&ingest[i]), MF_OK);
        assert_memory_equal(ingest[i].out, expected, sizeof expected);
    }
    assert_int_equal(stats_of(emb).waiting_max[MF_EMBED_INGEST], 1);
    assert_int_equal(stats_of(emb).refused, 0);
    close_embedder(emb);
}

/* --- deadlines -------------------------------------------------------------------- */

static void a_passed_deadline_is_a_timeout_and_frees_the_lane(void **state) {
    fixture *f = *state;
    float out[DIM];
    mf_err err;
    mf_embedder *emb = open_embedder(f->encoder, 1, 4);
    assert_int_equal(
        encode(emb, MF_EMBED_QUESTION, words, 1, mf_now_ns() - 1, out, &err),
        MF_E_TIMEOUT);
    mf_embedder_stats stats = stats_of(emb);
    assert_int_equal(stats.lanes_busy, 0);
    assert_int_equal(stats.expired, 1);
    assert_int_equal(stats.encoded, 0);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    close_embedder(emb);
}

static void a_question_gives_up_at_its_deadline(void **state) {
    fixture *f = *state;
    static caller ingest;
    float out[DIM];
    mf_err err;
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    int64_t soon_ns = mf_now_ns() + MF_NS_PER_MS;
    assert_int_equal(encode(emb, MF_EMBED_QUESTION, words, 1, soon_ns, out, &err),
                     MF_E_TIMEOUT);
    assert_int_equal(stats_of(emb).waiting[MF_EMBED_QUESTION], 0);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&ingest), MF_OK);
    must_encode(emb, MF_EMBED_QUESTION, words, 1, out);
    close_embedder(emb);
}

/* Time as the test wants it. */
static atomic_llong test_ns;

static int64_t tell_test_ns(void *ctx) {
    (void)ctx;
    return atomic_load(&test_ns);
}

static int64_t tell_test_us(void *ctx) {
    (void)ctx;
    return 1;
}

static const mf_clock test_clock = {tell_test_ns, tell_test_us, NULL};

/* Starts two questions with these deadlines, which share a batch, and puts the clock
 * past the first deadline while the batch is about to run. */
static void run_past_deadline(fixture *f, int64_t first_ns, int64_t second_ns,
                              caller pair[2], mf_embedder_stats *stats) {
    static caller ingest;
    const int64_t hour_ns = 3600 * (int64_t)MF_NS_PER_S;
    atomic_store(&test_ns, 0);
    mf_clock_set(&test_clock);
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    start_until(&pair[0], emb, MF_EMBED_QUESTION, words, 1, first_ns);
    wait_for_queue(emb, MF_EMBED_QUESTION, 1);
    start_until(&pair[1], emb, MF_EMBED_QUESTION, words + 1, 1, second_ns);
    wait_for_queue(emb, MF_EMBED_QUESTION, 2);
    gate_allow(1);
    gate_wait_arrived(2);
    atomic_store(&test_ns, hour_ns + 1);
    gate_allow(SIZE_MAX);
    (void)finish(&pair[0]);
    (void)finish(&pair[1]);
    assert_int_equal(finish(&ingest), MF_OK);
    *stats = stats_of(emb);
    close_embedder(emb);
    mf_clock_set(NULL);
}

static void one_members_deadline_does_not_end_the_batch(void **state) {
    fixture *f = *state;
    static caller pair[2];
    float expected[2 * DIM];
    mf_embedder_stats stats;
    alone(f->encoder, words, 2, expected);
    run_past_deadline(f, 3600 * (int64_t)MF_NS_PER_S, MF_NEVER, pair, &stats);
    assert_int_equal(pair[1].rc, MF_OK);
    assert_memory_equal(pair[1].out, expected + DIM, DIM * sizeof(float));
}

static void a_batch_whose_members_are_all_late_stops_between_layers(void **state) {
    fixture *f = *state;
    static caller pair[2];
    mf_embedder_stats stats;
    int64_t hour_ns = 3600 * (int64_t)MF_NS_PER_S;
    run_past_deadline(f, hour_ns, hour_ns, pair, &stats);
    assert_int_equal(pair[0].rc, MF_E_TIMEOUT);
    assert_int_equal(pair[1].rc, MF_E_TIMEOUT);
    assert_int_equal(stats.expired, 2);
    assert_int_equal(stats.retried, 0);
    assert_int_equal(stats.lanes_busy, 0);
}

/* --- calling off ------------------------------------------------------------------ */

static void a_waiting_call_can_be_called_off(void **state) {
    fixture *f = *state;
    static caller ingest;
    static caller pair[2];
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    start(&pair[0], emb, MF_EMBED_QUESTION, words, 1);
    start(&pair[1], emb, MF_EMBED_QUESTION, words, 1);
    wait_for_queue(emb, MF_EMBED_QUESTION, 2);
    cancel(&pair[0]);
    assert_int_equal(finish(&pair[0]), MF_E_STOPPING); /* while the lane is held */
    assert_int_equal(stats_of(emb).waiting[MF_EMBED_QUESTION], 1);
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&pair[1]), MF_OK);
    assert_int_equal(finish(&ingest), MF_OK);
    assert_int_equal(stats_of(emb).cancelled, 1);
    close_embedder(emb);
}

/* Whoever of a running batch is called off, its leader or another, the others get their
 * vectors; and one that does not lead need not wait for the batch. */
static void a_member_of_a_running_batch_can_be_called_off(void **state) {
    fixture *f = *state;
    static caller ingest;
    static caller members[3];
    float expected[3 * DIM];
    alone(f->encoder, words, 3, expected);
    for (size_t out = 0; out < 3; out++) {
        mf_embedder *emb = open_embedder(f->encoder, 1, 0);
        gate_allow(0);
        start(&ingest, emb, MF_EMBED_INGEST, words, 1);
        gate_wait_arrived(1);
        for (size_t i = 0; i < 3; i++) {
            start(&members[i], emb, MF_EMBED_QUESTION, words + i, 1);
            wait_for_queue(emb, MF_EMBED_QUESTION, i + 1);
        }
        gate_allow(1);
        gate_wait_arrived(2);
        assert_int_equal(the_gate.log[1].calls, 3);
        cancel(&members[out]);
        if (out > 0) {
            assert_int_equal(finish(&members[out]), MF_E_STOPPING);
        }
        gate_allow(SIZE_MAX);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(finish(&members[i]), i == out ? MF_E_STOPPING : MF_OK);
            if (i != out) {
                assert_memory_equal(members[i].out, expected + i * DIM,
                                    DIM * sizeof(float));
            }
        }
        assert_int_equal(finish(&ingest), MF_OK);
        assert_int_equal(stats_of(emb).lanes_busy, 0);
        close_embedder(emb);
    }
}

static void a_lane_stops_when_nobody_wants_its_vectors(void **state) {
    fixture *f = *state;
    static caller call;
    float out[DIM];
    mf_embedder *emb = open_embedder(f->encoder, 1, 0);
    for (mf_embed_class cls = MF_EMBED_QUESTION; cls <= MF_EMBED_INGEST; cls++) {
        size_t before = the_gate.arrived;
        gate_allow(before);
        start(&call, emb, cls, words, WORDS);
        gate_wait_arrived(before + 1);
        cancel(&call);
        gate_allow(SIZE_MAX);
        assert_int_equal(finish(&call), MF_E_STOPPING);
        assert_int_equal(stats_of(emb).encoded, cls); /* by the run below */
        must_encode(emb, cls, words, 1, out);
    }
    assert_int_equal(stats_of(emb).cancelled, 2);
    close_embedder(emb);
}

static void a_call_that_begins_called_off_does_not_run(void **state) {
    fixture *f = *state;
    float out[DIM];
    const atomic_bool off = true;
    for (size_t cached = 0; cached <= 1; cached++) {
        mf_embedder *emb = open_embedder(f->encoder, 1, cached);
        for (mf_embed_class cls = MF_EMBED_QUESTION; cls <= MF_EMBED_INGEST; cls++) {
            mf_embed_call call = {.cls = cls, .deadline_ns = MF_NEVER, .cancel = &off};
            assert_int_equal(mf_embedder_encode(emb, &call, words, 1, NULL, out, NULL),
                             MF_E_STOPPING);
        }
        assert_int_equal(the_gate.arrived, 0);
        close_embedder(emb);
    }
}

static void stopping_calls_off_what_waits_runs_and_comes(void **state) {
    fixture *f = *state;
    static caller callers[4];
    float out[DIM];
    mf_embedder *emb = open_embedder(f->encoder, 1, 10);
    gate_allow(0);
    start(&callers[0], emb, MF_EMBED_INGEST, words, 1);
    gate_wait_arrived(1);
    start(&callers[1], emb, MF_EMBED_INGEST, words + 1, 1);
    wait_for_queue(emb, MF_EMBED_INGEST, 1);
    start(&callers[2], emb, MF_EMBED_QUESTION, words + 2, 1);
    wait_for_queue(emb, MF_EMBED_QUESTION, 1);
    start(&callers[3], emb, MF_EMBED_QUESTION, words, 1); /* waits for the first */
    mf_embedder_stop(emb);
    for (size_t i = 1; i < 4; i++) {
        assert_int_equal(finish(&callers[i]), MF_E_STOPPING);
    }
    gate_allow(SIZE_MAX);
    assert_int_equal(finish(&callers[0]), MF_E_STOPPING);
    assert_int_equal(encode(emb, MF_EMBED_QUESTION, words, 1, MF_NEVER, out, NULL),
                     MF_E_STOPPING);
    close_embedder(emb);
}

/* --- errors ----------------------------------------------------------------------- */

/* Makes the numbers of one word so large that no finite vector comes of it. */
static void poison(const char *dir, size_t word) {
    char path[128];
    float row[TINY_HIDDEN];
    uint64_t header = 0;
    for (size_t i = 0; i < TINY_HIDDEN; i++) {
        row[i] = i % 2 == 0 ? 3e38F : -3e38F;
    }
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fread(&header, sizeof header, 1, file), 1);
    long at = (long)(sizeof header + header + word * sizeof row);
    assert_int_equal(fseek(file, at, SEEK_SET), 0); /* the words come first */
    assert_int_equal(fwrite(row, sizeof row, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void an_error_stays_with_the_call_that_caused_it(void **state) {
    (void)state;
    enum { DOG = 9 };
    static caller ingest;
    static caller calls[3];
    const mf_str texts[] = {words[0], words[3], words[1]}; /* the second has a dog */
    mf_encoder_options precise = {.precision = MF_PRECISION_FP32};
    mf_encoder *encoder = NULL;
    mf_err err;
    char dir[64];
    float expected[3 * DIM];
    tiny_model_make(dir);
    poison(dir, DOG);
    assert_int_equal(mf_encoder_open(dir, &precise, &encoder, &err), MF_OK);
    alone(encoder, texts, 1, expected);
    alone(encoder, texts + 2, 1, expected + 2 * DIM);
    mf_embedder *emb = open_embedder(encoder, 1, 10);
    gate_allow(0);
    start(&ingest, emb, MF_EMBED_INGEST, words + 2, 1);
    gate_wait_arrived(1);
    for (size_t i = 0; i < 3; i++) {
        start(&calls[i], emb, MF_EMBED_QUESTION, texts + i, 1);
        wait_for_queue(emb, MF_EMBED_QUESTION, i + 1);
    }
    gate_allow(SIZE_MAX);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(finish(&calls[i]), i == 1 ? MF_E_CORRUPT : MF_OK);
        if (i != 1) {
            assert_memory_equal(calls[i].out, expected + i * DIM, DIM * sizeof(float));
        }
    }
    assert_int_equal(finish(&ingest), MF_OK);
    assert_int_equal(the_gate.log[1].calls, 3);
    assert_int_equal(the_gate.arrived, 5); /* each of the three by itself */
    assert_int_equal(stats_of(emb).retried, 3);
    close_embedder(emb);
    (void)mf_encoder_unref(encoder);
    tiny_model_remove(dir);
}

/* --- many threads ----------------------------------------------------------------- */

enum { CROWD = 6 };

typedef struct crowd {
    mf_embedder *emb;
    const float *expected;
    atomic_uint next;
    atomic_uint wrong;
    atomic_bool off[CROWD];
} crowd;

/* Calls of both classes; some come with a deadline too close, some are called off by
 * whoever runs next to them. */
static void crowd_member(void *arg) {
    crowd *c = arg;
    unsigned id = atomic_fetch_add(&c->next, 1);
    float out[WORDS * DIM];
    for (unsigned round = 0; round < 30; round++) {
        size_t first = (id + round) % WORDS;
        size_t count = 1 + (id * 3 + round) % (WORDS - first);
        bool hasty = (id + round) % 7 == 0;
        atomic_bool *mine = &c->off[id];
        mf_embed_call call = {
            .cls = (id + round) % 3 == 0 ? MF_EMBED_QUESTION : MF_EMBED_INGEST,
            .documents = round % 2 == 0,
            .deadline_ns = hasty ? mf_now_ns() + 20 * MF_NS_PER_US : MF_NEVER,
            .cancel = round % 4 == 1 ? &c->off[(id + 1) % CROWD] : NULL,
        };
        if (round % 5 == 2) {
            atomic_store(mine, true);
            mf_embedder_cancel(c->emb, mine);
            atomic_store(mine, false);
        } else if (round % 11 == 3) {
            mf_embedder_forget(c->emb);
        }
        mf_rc rc =
            mf_embedder_encode(c->emb, &call, words + first, count, NULL, out, NULL);
        bool right = rc == MF_OK && memcmp(out, c->expected + first * DIM,
                                           count * DIM * sizeof *out) == 0;
        right = right || (rc == MF_E_TIMEOUT && hasty) ||
                (rc == MF_E_STOPPING && call.cancel != NULL);
        if (!right) {
            (void)atomic_fetch_add(&c->wrong, 1);
        }
    }
}

static void threads_share_lanes_and_memory(void **state) {
    fixture *f = *state;
    float expected[WORDS * DIM];
    alone(f->encoder, words, WORDS, expected);
    for (size_t lanes = 1; lanes <= 3; lanes++) {
        mf_embedder *emb = open_embedder(f->encoder, lanes, lanes - 1);
        crowd c = {.emb = emb, .expected = expected};
        mf_thread threads[CROWD];
        for (size_t i = 0; i < CROWD; i++) {
            assert_int_equal(
                mf_thread_start(&threads[i], "crowd", crowd_member, &c, NULL), MF_OK);
        }
        for (size_t i = 0; i < CROWD; i++) {
            mf_thread_join(&threads[i]);
        }
        assert_int_equal(atomic_load(&c.wrong), 0);
        mf_embedder_stats stats = stats_of(emb);
        assert_int_equal(stats.lanes_busy, 0);
        assert_int_equal(stats.waiting[0] + stats.waiting[1], 0);
        assert_int_equal(stats.texts, stats.memory_hits + stats.encoded);
        close_embedder(emb);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_that_wait_together_run_as_one_batch),
        cmocka_unit_test(a_question_goes_before_ingest_work_that_waits),
        cmocka_unit_test(ingest_leaves_a_lane_to_questions),
        cmocka_unit_test(ingest_work_gets_its_turn_from_endless_questions),
        cmocka_unit_test(work_is_cut_by_tokens),
        cmocka_unit_test(a_question_is_refused_at_once_when_too_many_wait),
        cmocka_unit_test(ingest_work_waits_for_room_and_is_not_lost),
        cmocka_unit_test(a_passed_deadline_is_a_timeout_and_frees_the_lane),
        cmocka_unit_test(a_question_gives_up_at_its_deadline),
        cmocka_unit_test(one_members_deadline_does_not_end_the_batch),
        cmocka_unit_test(a_batch_whose_members_are_all_late_stops_between_layers),
        cmocka_unit_test(a_waiting_call_can_be_called_off),
        cmocka_unit_test(a_member_of_a_running_batch_can_be_called_off),
        cmocka_unit_test(a_lane_stops_when_nobody_wants_its_vectors),
        cmocka_unit_test(a_call_that_begins_called_off_does_not_run),
        cmocka_unit_test(stopping_calls_off_what_waits_runs_and_comes),
        cmocka_unit_test(an_error_stays_with_the_call_that_caused_it),
        cmocka_unit_test(threads_share_lanes_and_memory),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
