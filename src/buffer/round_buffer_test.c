/* round_buffer_test.c - a window is its session's newest rounds within the limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/rng.h"
#include "buffer/round_buffer.h"

static const mf_round_limits limits = {.tokens_max = 10, .rounds_max = 3};

static mf_round_buffer *open_buffer(size_t sessions_max) {
    mf_round_buffer *buffer = NULL;
    assert_int_equal(mf_round_buffer_open(sessions_max, &buffer, NULL), MF_OK);
    return buffer;
}

static void make_known(mf_round_buffer *buffer, mf_uuid session) {
    uint64_t ticket = mf_round_buffer_load_begin(buffer, session);
    assert_true(mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits, 0));
}

static void a_window_equals_the_newest_rounds_that_fit(void **state) {
    (void)state;
    enum { ROUNDS = 400 };
    static const uint64_t seed = 5;
    mf_round_buffer *buffer = open_buffer(4);
    mf_uuid session = mf_uuid_new();
    mf_round all[ROUNDS];
    mf_rng rng;
    print_message("seed %llu\n", (unsigned long long)seed);
    mf_rng_init(&rng, seed);
    make_known(buffer, session);
    size_t before = 0;
    size_t tokens_before = 0;
    for (size_t n = 0; n < ROUNDS; n++) {
        all[n] = (mf_round){.first_num = (int64_t)n + 1,
                            .tokens = (size_t)mf_rng_below(&rng, 13)};
        mf_round_window window;
        mf_round_transfer moved;
        assert_true(mf_round_buffer_add(buffer, session, &all[n], 1, limits, 0, &window,
                                        &moved));
        size_t rounds = 0;
        size_t tokens = 0;
        while (rounds <= n && rounds < limits.rounds_max &&
               tokens + all[n - rounds].tokens <= limits.tokens_max) {
            tokens += all[n - rounds].tokens;
            rounds++;
        }
        assert_int_equal(window.rounds, rounds);
        assert_int_equal(window.tokens, tokens);
        assert_int_equal(window.first_num,
                         rounds > 0 ? all[n + 1 - rounds].first_num : INT64_MAX);
        assert_int_equal(moved.rounds, before + 1 - rounds);
        mf_transfer_cause cause = all[n].tokens > limits.tokens_max
                                      ? MF_TRANSFER_OVERSIZED
                                  : tokens_before + all[n].tokens > limits.tokens_max
                                      ? MF_TRANSFER_TOKEN_LIMIT
                                      : MF_TRANSFER_SIZE_LIMIT;
        assert_int_equal(moved.cause, moved.rounds > 0 ? cause : MF_TRANSFER_NONE);
        mf_round_state held;
        mf_round_buffer_get_state(buffer, &held);
        assert_int_equal(held.rounds, rounds);
        assert_int_equal(held.tokens, tokens);
        assert_int_equal(held.windows, rounds > 0 ? 1 : 0);
        tokens_before = tokens;
        before = rounds;
    }
    mf_round_buffer_close(buffer);
}

static void what_is_not_known_stays_so(void **state) {
    (void)state;
    mf_round_buffer *buffer = open_buffer(4);
    mf_uuid session = mf_uuid_new();
    mf_round round = {.first_num = 1, .tokens = 1};
    mf_round_window window;
    mf_round_transfer moved;
    assert_false(mf_round_buffer_get(buffer, session, limits, &window));
    assert_false(
        mf_round_buffer_add(buffer, session, &round, 1, limits, 0, &window, &moved));
    make_known(buffer, session);
    assert_true(mf_round_buffer_get(buffer, session, limits, &window));
    assert_int_equal(window.first_num, INT64_MAX);
    mf_round_limits other = {.tokens_max = 11, .rounds_max = 3};
    assert_false(mf_round_buffer_get(buffer, session, other, &window));
    mf_round_buffer_forget(buffer, session);
    assert_false(mf_round_buffer_get(buffer, session, limits, &window));
    mf_round_buffer_close(buffer);
}

static void a_load_that_missed_a_change_is_refused(void **state) {
    (void)state;
    mf_round_buffer *buffer = open_buffer(4);
    mf_uuid session = mf_uuid_new();
    mf_round round = {.first_num = 1, .tokens = 1};
    mf_round_window window;
    mf_round_transfer moved;
    uint64_t ticket = mf_round_buffer_load_begin(buffer, session);
    assert_false(
        mf_round_buffer_add(buffer, session, &round, 1, limits, 0, &window, &moved));
    assert_false(mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits, 0));
    ticket = mf_round_buffer_load_begin(buffer, session);
    mf_round_buffer_forget(buffer, session);
    assert_false(mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits, 0));
    uint64_t first = mf_round_buffer_load_begin(buffer, session);
    uint64_t second = mf_round_buffer_load_begin(buffer, session);
    assert_false(mf_round_buffer_load_end(buffer, session, first, NULL, 0, limits, 0));
    assert_true(
        mf_round_buffer_load_end(buffer, session, second, &round, 1, limits, 0));
    assert_true(mf_round_buffer_get(buffer, session, limits, &window));
    assert_int_equal(window.rounds, 1);
    mf_round_buffer_close(buffer);
}

static void the_longest_unused_session_leaves_first(void **state) {
    (void)state;
    mf_round_buffer *buffer = open_buffer(2);
    mf_uuid sessions[3] = {mf_uuid_new(), mf_uuid_new(), mf_uuid_new()};
    mf_round_window window;
    make_known(buffer, sessions[0]);
    make_known(buffer, sessions[1]);
    assert_true(mf_round_buffer_get(buffer, sessions[0], limits, &window));
    make_known(buffer, sessions[2]);
    assert_true(mf_round_buffer_get(buffer, sessions[0], limits, &window));
    assert_false(mf_round_buffer_get(buffer, sessions[1], limits, &window));
    mf_round_buffer_close(buffer);
}

static void short_memory_only_forgets(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    bool fired = true;
    for (uint64_t n = 0; fired; n++) {
        mf_round_buffer *buffer = NULL;
        mf_uuid session = mf_uuid_new();
        mf_round_window window;
        mf_round_transfer moved;
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc = mf_round_buffer_open(4, &buffer, NULL);
        if (rc == MF_OK) {
            uint64_t ticket = mf_round_buffer_load_begin(buffer, session);
            (void)mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits, 0);
            mf_round round = {.first_num = 1, .tokens = 1};
            bool known = mf_round_buffer_add(buffer, session, &round, 1, limits, 0,
                                             &window, &moved);
            assert_int_equal(known,
                             mf_round_buffer_get(buffer, session, limits, &window));
        }
        fired = mf_fault_fired();
        mf_fault_disarm();
        mf_round_buffer_close(buffer);
        assert_int_equal(mf_alloc_live(), live);
    }
}

static mf_round_state state_of(const mf_round_buffer *buffer) {
    mf_round_state held;
    mf_round_buffer_get_state(buffer, &held);
    return held;
}

static void a_closed_window_is_empty_and_a_load_that_missed_it_refused(void **state) {
    (void)state;
    mf_round_buffer *buffer = open_buffer(4);
    mf_uuid sessions[3] = {mf_uuid_new(), mf_uuid_new(), mf_uuid_new()};
    mf_round round = {.first_num = 1, .tokens = 1};
    mf_round_window window;
    mf_round_transfer moved;
    for (int i = 0; i < 2; i++) {
        make_known(buffer, sessions[i]);
        for (int n = 0; n < 2; n++) {
            assert_true(mf_round_buffer_add(buffer, sessions[i], &round, 1, limits, 7,
                                            &window, &moved));
        }
    }
    uint64_t ticket = mf_round_buffer_load_begin(buffer, sessions[2]);
    assert_int_equal(mf_round_buffer_empty(buffer, sessions[0]), 2);
    assert_int_equal(mf_round_buffer_empty(buffer, sessions[0]), 0);
    assert_int_equal(mf_round_buffer_empty(buffer, mf_uuid_new()), 0);
    assert_true(mf_round_buffer_get(buffer, sessions[0], limits, &window));
    assert_int_equal(window.first_num, INT64_MAX);
    assert_int_equal(state_of(buffer).windows, 1);
    assert_int_equal(mf_round_buffer_empty_all(buffer), 2);
    assert_int_equal(state_of(buffer).rounds, 0);
    assert_false(
        mf_round_buffer_load_end(buffer, sessions[2], ticket, &round, 1, limits, 0));
    assert_true(mf_round_buffer_add(buffer, sessions[0], &round, 1, limits, 7, &window,
                                    &moved));
    assert_int_equal(window.rounds, 1);
    mf_round_buffer_close(buffer);
}

static void the_age_of_a_window_is_that_of_its_first_round(void **state) {
    (void)state;
    mf_round_buffer *buffer = open_buffer(4);
    mf_uuid early = mf_uuid_new();
    mf_uuid late = mf_uuid_new();
    mf_uuid found[2];
    mf_round round = {.first_num = 1, .tokens = 1};
    mf_round_window window;
    mf_round_transfer moved;
    make_known(buffer, early);
    make_known(buffer, late);
    assert_int_equal(state_of(buffer).since_ns, INT64_MAX);
    for (int64_t at = 10; at < 13; at++) {
        assert_true(
            mf_round_buffer_add(buffer, early, &round, 1, limits, at, &window, &moved));
    }
    assert_true(
        mf_round_buffer_add(buffer, late, &round, 1, limits, 20, &window, &moved));
    assert_int_equal(state_of(buffer).since_ns, 10);
    assert_int_equal(mf_round_buffer_older(buffer, 9, found, 2), 0);
    assert_int_equal(mf_round_buffer_older(buffer, 10, found, 2), 1);
    assert_true(mf_uuid_eq(found[0], early));
    assert_int_equal(mf_round_buffer_older(buffer, 20, found, 2), 2);
    assert_int_equal(mf_round_buffer_older(buffer, 20, found, 1), 1);
    (void)mf_round_buffer_empty(buffer, early);
    assert_int_equal(state_of(buffer).since_ns, 20);
    assert_true(
        mf_round_buffer_add(buffer, early, &round, 1, limits, 30, &window, &moved));
    assert_int_equal(mf_round_buffer_older(buffer, 29, found, 2), 1);
    mf_round_buffer_close(buffer);
}

/* However rounds are grouped into calls, the window is the same. */
static void many_rounds_in_one_call_are_as_many_calls(void **state) {
    (void)state;
    enum { TRIALS = 300, ROUNDS_MAX = 9 };
    static const uint64_t seed = 11;
    mf_rng rng;
    print_message("seed %llu\n", (unsigned long long)seed);
    mf_rng_init(&rng, seed);
    mf_round_buffer *one = open_buffer(1);
    mf_round_buffer *many = open_buffer(1);
    mf_uuid session = mf_uuid_new();
    make_known(one, session);
    make_known(many, session);
    int64_t num = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        mf_round rounds[ROUNDS_MAX];
        size_t count = 1 + (size_t)mf_rng_below(&rng, ROUNDS_MAX);
        size_t left = 0;
        mf_round_window a;
        mf_round_window b;
        mf_round_transfer moved;
        for (size_t i = 0; i < count; i++) {
            rounds[i] = (mf_round){.first_num = ++num,
                                   .tokens = (size_t)mf_rng_below(&rng, 13)};
            assert_true(mf_round_buffer_add(one, session, &rounds[i], 1, limits, 0, &a,
                                            &moved));
            left += moved.rounds;
        }
        assert_true(
            mf_round_buffer_add(many, session, rounds, count, limits, 0, &b, &moved));
        assert_int_equal(a.first_num, b.first_num);
        assert_int_equal(a.rounds, b.rounds);
        assert_int_equal(a.tokens, b.tokens);
        assert_int_equal(moved.rounds, left);
    }
    mf_round_buffer_close(one);
    mf_round_buffer_close(many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_equals_the_newest_rounds_that_fit),
        cmocka_unit_test(what_is_not_known_stays_so),
        cmocka_unit_test(a_load_that_missed_a_change_is_refused),
        cmocka_unit_test(the_longest_unused_session_leaves_first),
        cmocka_unit_test(a_closed_window_is_empty_and_a_load_that_missed_it_refused),
        cmocka_unit_test(the_age_of_a_window_is_that_of_its_first_round),
        cmocka_unit_test(many_rounds_in_one_call_are_as_many_calls),
        cmocka_unit_test(short_memory_only_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
