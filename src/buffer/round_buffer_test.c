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
    assert_true(mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits));
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
    for (size_t n = 0; n < ROUNDS; n++) {
        all[n] = (mf_round){.first_num = (int64_t)n + 1,
                            .tokens = (size_t)mf_rng_below(&rng, 13)};
        mf_round_window window;
        size_t moved;
        assert_true(
            mf_round_buffer_add(buffer, session, &all[n], limits, &window, &moved));
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
        assert_int_equal(moved, before + 1 - rounds);
        assert_int_equal(mf_round_buffer_rounds(buffer), rounds);
        assert_int_equal(mf_round_buffer_tokens(buffer), tokens);
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
    size_t moved;
    assert_false(mf_round_buffer_get(buffer, session, limits, &window));
    assert_false(mf_round_buffer_add(buffer, session, &round, limits, &window, &moved));
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
    size_t moved;
    uint64_t ticket = mf_round_buffer_load_begin(buffer, session);
    assert_false(mf_round_buffer_add(buffer, session, &round, limits, &window, &moved));
    assert_false(mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits));
    ticket = mf_round_buffer_load_begin(buffer, session);
    mf_round_buffer_forget(buffer, session);
    assert_false(mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits));
    uint64_t first = mf_round_buffer_load_begin(buffer, session);
    uint64_t second = mf_round_buffer_load_begin(buffer, session);
    assert_false(mf_round_buffer_load_end(buffer, session, first, NULL, 0, limits));
    assert_true(mf_round_buffer_load_end(buffer, session, second, &round, 1, limits));
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
        size_t moved;
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc = mf_round_buffer_open(4, &buffer, NULL);
        if (rc == MF_OK) {
            uint64_t ticket = mf_round_buffer_load_begin(buffer, session);
            (void)mf_round_buffer_load_end(buffer, session, ticket, NULL, 0, limits);
            mf_round round = {.first_num = 1, .tokens = 1};
            bool known =
                mf_round_buffer_add(buffer, session, &round, limits, &window, &moved);
            assert_int_equal(known,
                             mf_round_buffer_get(buffer, session, limits, &window));
        }
        fired = mf_fault_fired();
        mf_fault_disarm();
        mf_round_buffer_close(buffer);
        assert_int_equal(mf_alloc_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_equals_the_newest_rounds_that_fit),
        cmocka_unit_test(what_is_not_known_stays_so),
        cmocka_unit_test(a_load_that_missed_a_change_is_refused),
        cmocka_unit_test(the_longest_unused_session_leaves_first),
        cmocka_unit_test(short_memory_only_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
