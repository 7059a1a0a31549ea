/* flush_policy_test.c - what each strategy and trigger means, as a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "buffer/flush_policy.h"

static mf_flush_policy policy_of(const char *const *sets, size_t count) {
    mf_config_sources sources = {.sets = sets, .set_count = count};
    mf_settings *settings;
    assert_int_equal(mf_settings_open(&sources, &settings, NULL), MF_OK);
    mf_flush_policy policy = mf_flush_policy_of(mf_settings_get(settings));
    mf_settings_close(settings);
    return policy;
}

static mf_flush_policy policy_for(const char *strategy) {
    const char *sets[] = {
        strategy, "buffer.flush_interval_ms=100", "buffer.flush.idle_timeout_ms=1000",
        "buffer.hybrid_buffer.max_bytes=5000", "buffer.hybrid_buffer.max_size=3"};
    return policy_of(sets, sizeof sets / sizeof sets[0]);
}

static const int64_t ms = MF_NS_PER_MS;

static void vectors_are_due_as_the_strategy_says(void **state) {
    (void)state;
    static const struct {
        const char *strategy;
        size_t rounds, bytes;
        int64_t written_ms; /* the oldest vector came in at 10 */
        int64_t due_ms;     /* -1: at once */
        mf_flush_trigger trigger;
    } cases[] = {
        {"buffer.flush.strategy=hybrid", 3, 50, 0, 110, MF_FLUSH_TIME},
        {"buffer.flush.strategy=hybrid", 4, 50, 0, -1, MF_FLUSH_SIZE},
        {"buffer.flush.strategy=hybrid", 1, 5001, 0, -1, MF_FLUSH_SIZE},
        {"buffer.flush.strategy=hybrid", 1, 5000, 0, 110, MF_FLUSH_TIME},
        {"buffer.flush.strategy=size_based", 3, 50, 0, 1010, MF_FLUSH_IDLE},
        {"buffer.flush.strategy=size_based", 3, 50, 70, 1070, MF_FLUSH_IDLE},
        {"buffer.flush.strategy=size_based", 4, 50, 70, -1, MF_FLUSH_SIZE},
        {"buffer.flush.strategy=time_based", 4, 50, 70, 110, MF_FLUSH_TIME},
        {"buffer.flush.strategy=time_based", 4, 5001, 70, -1, MF_FLUSH_SIZE},
        {"buffer.flush.strategy=immediate", 1, 50, 70, -1, MF_FLUSH_IMMEDIATE},
        {"buffer.enabled=false", 1, 50, 70, -1, MF_FLUSH_IMMEDIATE},
        {"buffer.hybrid_buffer.auto_flush=false", 4, 50, 70, 1070, MF_FLUSH_IDLE},
        {"buffer.hybrid_buffer.auto_flush=false", 4, 5001, 70, -1, MF_FLUSH_SIZE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mf_flush_policy policy = policy_for(cases[i].strategy);
        mf_hybrid_state held = {.chunks = 9,
                                .rounds = cases[i].rounds,
                                .bytes = cases[i].bytes,
                                .since_ns = 10 * ms};
        mf_flush_due due =
            mf_flush_vectors_due(&policy, &held, cases[i].written_ms * ms);
        int64_t expected = cases[i].due_ms < 0 ? INT64_MIN : cases[i].due_ms * ms;
        if (due.due_ns != expected || due.trigger != cases[i].trigger) {
            fail_msg("case %zu: due %lld by %s", i, (long long)due.due_ns,
                     mf_flush_trigger_name(due.trigger));
        }
        mf_hybrid_state nothing = {0};
        due = mf_flush_vectors_due(&policy, &nothing, 0);
        assert_true(due.due_ns == INT64_MAX && due.trigger == MF_FLUSH_NONE);
    }
}

static void windows_are_due_by_time_or_when_the_user_is_idle(void **state) {
    (void)state;
    mf_round_state held = {.rounds = 1, .windows = 1, .since_ns = 10 * ms};
    mf_round_state nothing = {.since_ns = INT64_MAX};
    mf_flush_policy hybrid = policy_for("buffer.flush.strategy=hybrid");
    mf_flush_policy timed = policy_for("buffer.flush.strategy=time_based");
    mf_flush_due due = mf_flush_windows_due(&hybrid, &held, 70 * ms);
    assert_true(due.due_ns == 1070 * ms && due.trigger == MF_FLUSH_IDLE);
    due = mf_flush_windows_due(&timed, &held, 70 * ms);
    assert_true(due.due_ns == 110 * ms && due.trigger == MF_FLUSH_TIME);
    due = mf_flush_windows_due(&timed, &nothing, 70 * ms);
    assert_true(due.due_ns == INT64_MAX && due.trigger == MF_FLUSH_NONE);
}

static void strategies_decide_what_a_window_can_hold(void **state) {
    (void)state;
    mf_flush_policy policy = policy_for("buffer.flush.strategy=size_based");
    assert_true(policy.windows);
    assert_int_equal(policy.limits.tokens_max, 800);
    assert_int_equal(policy.limits.rounds_max, 5);
    policy = policy_for("buffer.flush.strategy=time_based");
    assert_true(policy.windows);
    assert_true(policy.limits.tokens_max > 100000 && policy.limits.rounds_max > 1000);
    assert_false(policy_for("buffer.flush.strategy=immediate").windows);
    assert_false(policy_for("buffer.enabled=false").windows);
}

/* The largest settings and the latest moments do not overflow. */
static void far_times_stay_far(void **state) {
    (void)state;
    const char *sets[] = {"buffer.flush_interval_ms=86400000",
                          "buffer.flush.idle_timeout_ms=86400000"};
    mf_flush_policy policy = policy_of(sets, 2);
    mf_hybrid_state held = {.chunks = 1, .rounds = 1, .since_ns = INT64_MAX - 5};
    assert_true(mf_flush_vectors_due(&policy, &held, INT64_MAX).due_ns == INT64_MAX);
    mf_round_state windows = {.rounds = 1, .since_ns = INT64_MAX - 5};
    assert_true(mf_flush_windows_due(&policy, &windows, 0).due_ns == INT64_MAX);
}

static void settings_out_of_bounds_are_refused_by_name(void **state) {
    (void)state;
    static const char *const sets[] = {
        "buffer.flush.queue_max=0",
        "buffer.flush.timeout_ms=-1",
        "buffer.flush.idle_timeout_ms=0",
        "buffer.flush.idle_timeout_ms=86400001",
        "buffer.flush.strategy=sometimes",
        "buffer.hybrid_buffer.max_bytes=0",
        "buffer.flush.batch_write_threshold=0",
        "buffer.flush.batch_write_threshold=99999999999999999999",
        "buffer.round_buffer.token_cache_size=-1",
        "buffer.round_buffer.max_size=0"};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        mf_config_sources sources = {.sets = &sets[i], .set_count = 1};
        mf_settings *settings = NULL;
        mf_err err = {0};
        assert_int_not_equal(mf_settings_open(&sources, &settings, &err), MF_OK);
        const char *end = strchr(sets[i], '=');
        char key[64] = {0};
        memcpy(key, sets[i], (size_t)(end - sets[i]));
        assert_non_null(strstr(err.text, key));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_due_as_the_strategy_says),
        cmocka_unit_test(windows_are_due_by_time_or_when_the_user_is_idle),
        cmocka_unit_test(strategies_decide_what_a_window_can_hold),
        cmocka_unit_test(far_times_stay_far),
        cmocka_unit_test(settings_out_of_bounds_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
