/* write_buffer_test.c - vectors wait until they are many or old, and come back when
 * they could not be committed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "buffer/write_buffer.h"

enum { DIM = 4 };

static mf_flush_policy policy_with(mf_flush_strategy strategy) {
    return (mf_flush_policy){.strategy = strategy,
                             .windows = strategy != MF_FLUSH_STRATEGY_IMMEDIATE,
                             .auto_flush = true,
                             .limits = {.tokens_max = 5, .rounds_max = 2},
                             .rounds_max = 2,
                             .bytes_max = 1 << 20,
                             .interval_ns = 100,
                             .idle_ns = 10000};
}

static mf_hybrid_state held_by(const mf_hybrid_buffer *buffer) {
    mf_hybrid_state held;
    mf_hybrid_buffer_get_state(buffer, &held);
    return held;
}

static mf_write_buffer_stats stats_of(const mf_write_buffer *buffer) {
    mf_write_buffer_stats stats;
    mf_write_buffer_get_stats(buffer, &stats);
    return stats;
}

static void make_known(mf_write_buffer *buffer, mf_uuid session,
                       mf_round_limits limits) {
    mf_round_buffer *rounds = mf_write_buffer_rounds(buffer);
    uint64_t ticket = mf_round_buffer_load_begin(rounds, session);
    assert_true(mf_round_buffer_load_end(rounds, session, ticket, NULL, 0, limits, 0));
}

static void put(mf_hybrid_buffer *buffer, int64_t num, mf_uuid round, size_t parts,
                int64_t now_ns) {
    static const float vectors[3 * DIM] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    static const mf_content_key keys[3] = {{{1}}, {{2}}, {{3}}};
    mf_hybrid_doc doc = {.kind = MF_DOC_MESSAGE, .num = num, .round_id = round};
    mf_hybrid_entry *entry;
    assert_int_equal(mf_hybrid_entry_new(&doc, vectors, keys, parts, DIM, &entry, NULL),
                     MF_OK);
    mf_hybrid_buffer_put(buffer, entry, now_ns);
}

static void vectors_are_held_in_order_and_counted(void **state) {
    (void)state;
    mf_hybrid_buffer *buffer;
    assert_int_equal(mf_hybrid_buffer_open(&buffer, NULL), MF_OK);
    assert_int_equal(held_by(buffer).chunks, 0);
    mf_uuid round = mf_uuid_new();
    put(buffer, 1, round, 1, 1000);
    size_t one = held_by(buffer).bytes;
    assert_true(one > DIM * sizeof(uint16_t));
    put(buffer, 2, round, 3, 1010); /* the same round */
    assert_int_equal(held_by(buffer).rounds, 1);
    assert_int_equal(held_by(buffer).chunks, 4);
    put(buffer, 3, mf_uuid_new(), 1, 1020);
    put(buffer, 4, MF_UUID_NONE, 1, 1030); /* knowledge is a round of its own */
    assert_int_equal(held_by(buffer).rounds, 3);
    assert_int_equal(held_by(buffer).since_ns, 1000);
    assert_true(mf_hybrid_buffer_holds(buffer, MF_DOC_MESSAGE, 2));
    assert_false(mf_hybrid_buffer_holds(buffer, MF_DOC_KNOWLEDGE, 2));
    assert_false(mf_hybrid_buffer_holds(buffer, MF_DOC_MESSAGE, 5));
    mf_hybrid_batch batch = mf_hybrid_buffer_take(buffer);
    assert_true(batch.bytes >= 4 * one);
    assert_int_equal(held_by(buffer).bytes, 0);
    mf_hybrid_buffer_give_back(buffer, &batch);
    assert_true(held_by(buffer).bytes >= 4 * one);
    mf_hybrid_buffer_close(buffer);
}

static void what_could_not_be_committed_comes_back_in_front(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_write_buffer *buffer;
    assert_int_equal(mf_write_buffer_open(&buffer, NULL), MF_OK);
    mf_hybrid_buffer *hybrid = mf_write_buffer_hybrid(buffer);
    put(hybrid, 1, mf_uuid_new(), 1, 1000);
    put(hybrid, 2, mf_uuid_new(), 2, 1001);
    mf_hybrid_batch batch = mf_write_buffer_flush_all(buffer);
    assert_int_equal(batch.chunks, 3);
    assert_false(mf_hybrid_buffer_holds(hybrid, MF_DOC_MESSAGE, 1));
    put(hybrid, 3, mf_uuid_new(), 1, 2000); /* came in meanwhile */
    mf_write_buffer_flushed(buffer, &batch, MF_FLUSH_TIME, false);
    assert_null(batch.first);
    assert_int_equal(held_by(hybrid).chunks, 4);
    assert_int_equal(held_by(hybrid).since_ns, 1000);
    assert_int_equal(stats_of(buffer).counts.flushes, 0);
    assert_int_equal(stats_of(buffer).counts.flush_failures, 1);
    batch = mf_write_buffer_flush_all(buffer);
    mf_write_buffer_flushed(buffer, &batch, MF_FLUSH_TIME, true);
    mf_write_counts counts = stats_of(buffer).counts;
    assert_int_equal(counts.flushes, 1);
    assert_int_equal(counts.flush_triggers[MF_FLUSH_TIME], 1);
    assert_int_equal(counts.flushed_chunks, 4);
    assert_int_equal(stats_of(buffer).hybrid.chunks, 0);
    batch = mf_write_buffer_flush_all(buffer);
    mf_write_buffer_flushed(buffer, &batch, MF_FLUSH_MANUAL, true); /* nothing */
    assert_int_equal(stats_of(buffer).counts.flushes, 1);
    assert_int_equal(stats_of(buffer).counts.flush_triggers[MF_FLUSH_MANUAL], 0);
    mf_write_buffer_close(buffer);
    assert_int_equal(mf_alloc_live(), live);
}

static void rounds_are_counted_as_they_pass(void **state) {
    (void)state;
    mf_write_buffer *buffer;
    assert_int_equal(mf_write_buffer_open(&buffer, NULL), MF_OK);
    mf_flush_policy policy = policy_with(MF_FLUSH_STRATEGY_HYBRID);
    mf_flush_policy bypass = policy_with(MF_FLUSH_STRATEGY_IMMEDIATE);
    mf_write_round round = {mf_uuid_new(), {.first_num = 1, .tokens = 2}};
    mf_write_outcome outcome;
    mf_write_buffer_add(buffer, &round, &bypass, 0, &outcome);
    assert_int_equal(outcome.window.rounds, 0);
    make_known(buffer, round.session_id, policy.limits);
    for (int i = 0; i < 4; i++) {
        mf_write_buffer_add(buffer, &round, &policy, 0, &outcome);
        assert_int_equal(outcome.transfer_triggered, i >= 2);
    }
    round.round.tokens = 6; /* more than a window: takes the window along */
    mf_write_buffer_add(buffer, &round, &policy, 0, &outcome);
    assert_true(outcome.transfer_triggered);
    assert_int_equal(outcome.window.rounds, 0);
    round.round.tokens = 2;
    mf_write_buffer_add(buffer, &round, &policy, 0, &outcome);
    assert_int_equal(mf_write_buffer_close_window(buffer, round.session_id,
                                                  MF_TRANSFER_SESSION_CHANGE),
                     1);
    mf_write_buffer_add(buffer, &round, &policy, 0, &outcome);
    assert_int_equal(
        mf_write_buffer_close_window(buffer, MF_UUID_NONE, MF_TRANSFER_MANUAL), 1);
    assert_int_equal(
        mf_write_buffer_close_window(buffer, MF_UUID_NONE, MF_TRANSFER_IDLE), 0);
    mf_write_counts counts = stats_of(buffer).counts;
    assert_int_equal(counts.writes, 8);
    assert_int_equal(counts.transfers, 8);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_IMMEDIATE], 1);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_TOKEN_LIMIT], 2);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_SIZE_LIMIT], 0);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_OVERSIZED], 1);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_SESSION_CHANGE], 1);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_MANUAL], 1);
    assert_int_equal(counts.transfer_triggers[MF_TRANSFER_IDLE], 0);
    mf_write_buffer_close(buffer);
}

/* Rounds of a few sessions, added one by one to one buffer and as batches to another.
 */
static void a_batch_leaves_the_windows_its_rounds_leave(void **state) {
    (void)state;
    enum { TRIALS = 200, SESSIONS = 3, BATCH_MAX = 200 };
    static const uint64_t seed = 3;
    mf_rng rng;
    print_message("seed %llu\n", (unsigned long long)seed);
    mf_rng_init(&rng, seed);
    mf_write_buffer *single;
    mf_write_buffer *batched;
    assert_int_equal(mf_write_buffer_open(&single, NULL), MF_OK);
    assert_int_equal(mf_write_buffer_open(&batched, NULL), MF_OK);
    mf_flush_policy policy = policy_with(MF_FLUSH_STRATEGY_HYBRID);
    mf_uuid sessions[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = mf_uuid_new();
        make_known(single, sessions[i], policy.limits);
        make_known(batched, sessions[i], policy.limits);
    }
    int64_t num = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        mf_write_round rounds[BATCH_MAX];
        uint64_t most = trial % 20 == 0 ? BATCH_MAX : 5;
        size_t count = 1 + (size_t)mf_rng_below(&rng, most);
        uint64_t of = 1 + mf_rng_below(&rng, SESSIONS);
        mf_write_outcome outcome;
        for (size_t i = 0; i < count; i++) {
            rounds[i] = (mf_write_round){
                sessions[mf_rng_below(&rng, of)],
                {.first_num = ++num, .tokens = (size_t)mf_rng_below(&rng, 7)}};
            mf_write_buffer_add(single, &rounds[i], &policy, num, &outcome);
        }
        mf_write_buffer_add_batch(batched, rounds, count, &policy, num, &outcome);
        for (int i = 0; i < SESSIONS; i++) {
            mf_round_window a;
            mf_round_window b;
            assert_true(mf_round_buffer_get(mf_write_buffer_rounds(single), sessions[i],
                                            policy.limits, &a));
            assert_true(mf_round_buffer_get(mf_write_buffer_rounds(batched),
                                            sessions[i], policy.limits, &b));
            assert_int_equal(a.first_num, b.first_num);
            assert_int_equal(a.rounds, b.rounds);
            assert_int_equal(a.tokens, b.tokens);
        }
    }
    mf_write_counts one = stats_of(single).counts;
    mf_write_counts many = stats_of(batched).counts;
    assert_int_equal(one.writes, many.writes);
    assert_int_equal(one.transfers, many.transfers);
    assert_true(many.batches[MF_BATCH_SEQUENTIAL] > 0);
    assert_true(many.batches[MF_BATCH_GROUPED] > 0);
    assert_true(many.batches[MF_BATCH_BULK] > 0);
    assert_int_equal(many.batches[MF_BATCH_SEQUENTIAL] +
                         many.batches[MF_BATCH_GROUPED] + many.batches[MF_BATCH_BULK],
                     TRIALS);
    mf_write_buffer_close(single);
    mf_write_buffer_close(batched);
}

static void the_kind_of_batch_follows_from_its_rounds(void **state) {
    (void)state;
    mf_write_buffer *buffer;
    assert_int_equal(mf_write_buffer_open(&buffer, NULL), MF_OK);
    mf_flush_policy policy = policy_with(MF_FLUSH_STRATEGY_HYBRID);
    mf_uuid a = mf_uuid_new();
    mf_uuid b = mf_uuid_new();
    mf_write_outcome outcome;
    static const uint64_t expected[3][MF_BATCH_STRATEGIES] = {
        {1, 0, 0}, {1, 1, 0}, {1, 1, 1}};
    mf_write_round batches[3][3] = {
        {{a, {1, 3}}, {a, {2, 3}}, {a, {3, 4}}}, /* 10 tokens: twice 5, not more */
        {{a, {4, 1}}, {b, {5, 1}}, {a, {6, 1}}},
        {{b, {7, 4}}, {b, {8, 4}}, {b, {9, 4}}}};
    for (int i = 0; i < 3; i++) {
        mf_write_buffer_add_batch(buffer, batches[i], 3, &policy, 0, &outcome);
        assert_memory_equal(stats_of(buffer).counts.batches, expected[i],
                            sizeof expected[i]);
    }
    assert_int_equal(batches[1][1].round.first_num, 6); /* by session */
    assert_int_equal(batches[1][2].round.first_num, 5);
    mf_write_buffer_close(buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_held_in_order_and_counted),
        cmocka_unit_test(what_could_not_be_committed_comes_back_in_front),
        cmocka_unit_test(rounds_are_counted_as_they_pass),
        cmocka_unit_test(a_batch_leaves_the_windows_its_rounds_leave),
        cmocka_unit_test(the_kind_of_batch_follows_from_its_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
