/* breaker_test.c - a breaker opens on failures, refuses while open, and lets exactly
 * one probe find out whether the dependency is back. */
#include "base/breaker.h"

#include <stdatomic.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { COOLDOWN = 1000, THREADS = 4, STEPS = 3000 };

static const mf_breaker_options in_row = {
    .name = "test", .failures_max = 3, .cooldown_ns = COOLDOWN};
static const mf_breaker_options by_rate = {.name = "test",
                                           .failures_max = 1000,
                                           .window = 10,
                                           .rate_percent = 50,
                                           .cooldown_ns = COOLDOWN};

static mf_breaker_ticket allowed(mf_breaker *b, int64_t now_ns) {
    mf_breaker_ticket ticket;
    assert_true(mf_breaker_allow(b, now_ns, &ticket));
    return ticket;
}

static void refused(mf_breaker *b, int64_t now_ns) {
    mf_breaker_ticket ticket;
    assert_false(mf_breaker_allow(b, now_ns, &ticket));
}

static mf_breaker_stats stats_of(mf_breaker *b, int64_t now_ns) {
    mf_breaker_stats stats;
    mf_breaker_get_stats(b, now_ns, &stats);
    return stats;
}

static void fail_calls(mf_breaker *b, int times, int64_t now_ns) {
    for (int i = 0; i < times; i++) {
        mf_breaker_failure(b, allowed(b, now_ns), now_ns);
    }
}

static void failures_in_a_row_open_it_for_the_cooldown(void **state) {
    (void)state;
    mf_breaker b;
    mf_breaker_init(&b, &in_row);
    fail_calls(&b, 2, 0);
    mf_breaker_success(&b, allowed(&b, 0)); /* the row begins anew */
    fail_calls(&b, 2, 0);
    assert_int_equal(stats_of(&b, 0).state, MF_BREAKER_CLOSED);
    fail_calls(&b, 1, 10);
    assert_int_equal(stats_of(&b, 10).state, MF_BREAKER_OPEN);
    assert_int_equal(stats_of(&b, 10).retry_after_ns, COOLDOWN);
    refused(&b, 10);
    refused(&b, 10 + COOLDOWN - 1);
    assert_int_equal(stats_of(&b, 20).refused, 2);
    (void)allowed(&b, 10 + COOLDOWN);
    mf_breaker_done(&b);
}

static void half_open_lets_one_probe_through_and_its_success_closes(void **state) {
    (void)state;
    mf_breaker b;
    mf_breaker_init(&b, &in_row);
    fail_calls(&b, 3, 0);
    mf_breaker_ticket probe = allowed(&b, COOLDOWN);
    assert_int_equal(stats_of(&b, COOLDOWN).state, MF_BREAKER_HALF_OPEN);
    refused(&b, COOLDOWN);
    refused(&b, COOLDOWN + 1);
    mf_breaker_success(&b, probe);
    assert_int_equal(stats_of(&b, COOLDOWN).state, MF_BREAKER_CLOSED);
    fail_calls(&b, 2, COOLDOWN); /* old failures are forgotten */
    assert_int_equal(stats_of(&b, COOLDOWN).state, MF_BREAKER_CLOSED);
    assert_int_equal(stats_of(&b, COOLDOWN).probes, 1);
    mf_breaker_done(&b);
}

static void a_failed_probe_opens_it_again(void **state) {
    (void)state;
    mf_breaker b;
    mf_breaker_init(&b, &in_row);
    fail_calls(&b, 3, 0);
    mf_breaker_failure(&b, allowed(&b, COOLDOWN), COOLDOWN + 5);
    assert_int_equal(stats_of(&b, COOLDOWN + 5).state, MF_BREAKER_OPEN);
    refused(&b, COOLDOWN + 5 + COOLDOWN - 1);
    mf_breaker_success(&b, allowed(&b, COOLDOWN + 5 + COOLDOWN));
    assert_int_equal(stats_of(&b, 0).opened, 2);
    assert_int_equal(stats_of(&b, 0).state, MF_BREAKER_CLOSED);
    mf_breaker_done(&b);
}

static void a_lost_or_abandoned_probe_is_replaced(void **state) {
    (void)state;
    mf_breaker b;
    mf_breaker_init(&b, &in_row);
    fail_calls(&b, 3, 0);
    mf_breaker_ticket lost = allowed(&b, COOLDOWN);
    refused(&b, 2 * COOLDOWN - 1);
    mf_breaker_ticket second = allowed(&b, 2 * COOLDOWN);
    mf_breaker_success(&b, lost); /* too late to count */
    assert_int_equal(stats_of(&b, 2 * COOLDOWN).state, MF_BREAKER_HALF_OPEN);
    mf_breaker_abandon(&b, second, 2 * COOLDOWN);
    mf_breaker_ticket third = allowed(&b, 2 * COOLDOWN);
    refused(&b, 2 * COOLDOWN);
    mf_breaker_success(&b, third);
    assert_int_equal(stats_of(&b, 2 * COOLDOWN).state, MF_BREAKER_CLOSED);
    mf_breaker_done(&b);
}

static void calls_from_before_it_opened_decide_nothing(void **state) {
    (void)state;
    mf_breaker b;
    mf_breaker_init(&b, &in_row);
    mf_breaker_ticket slow_good = allowed(&b, 0);
    mf_breaker_ticket slow_bad = allowed(&b, 0);
    fail_calls(&b, 3, 0);
    mf_breaker_success(&b, slow_good);
    assert_int_equal(stats_of(&b, 0).state, MF_BREAKER_OPEN);
    mf_breaker_ticket probe = allowed(&b, COOLDOWN);
    mf_breaker_failure(&b, slow_bad, COOLDOWN);
    assert_int_equal(stats_of(&b, COOLDOWN).state, MF_BREAKER_HALF_OPEN);
    mf_breaker_success(&b, probe);
    assert_int_equal(stats_of(&b, COOLDOWN).state, MF_BREAKER_CLOSED);
    mf_breaker_done(&b);
}

static void a_full_window_with_half_its_calls_failed_opens_it(void **state) {
    (void)state;
    mf_breaker b;
    mf_breaker_init(&b, &by_rate);
    fail_calls(&b, 5, 0); /* five of five, but the window is not full */
    assert_int_equal(stats_of(&b, 0).state, MF_BREAKER_CLOSED);
    for (int i = 0; i < 4; i++) {
        mf_breaker_success(&b, allowed(&b, 0));
    }
    for (int i = 0; i < 12; i++) { /* four of ten at most from here on */
        mf_breaker_success(&b, allowed(&b, 0));
    }
    for (int i = 0; i < 4; i++) {
        mf_breaker_failure(&b, allowed(&b, 0), 0);
        mf_breaker_success(&b, allowed(&b, 0));
    }
    assert_int_equal(stats_of(&b, 0).state, MF_BREAKER_CLOSED);
    mf_breaker_failure(&b, allowed(&b, 0), 0);
    assert_int_equal(stats_of(&b, 0).state, MF_BREAKER_OPEN);
    mf_breaker_done(&b);
}

/* Threads meet a breaker that is open and due: one of them gets through. */
typedef struct race {
    mf_breaker b;
    atomic_int let_through;
} race;

static void try_once(void *arg) {
    race *r = arg;
    for (int i = 0; i < STEPS; i++) {
        mf_breaker_ticket ticket;
        if (mf_breaker_allow(&r->b, COOLDOWN, &ticket)) {
            atomic_fetch_add(&r->let_through, 1);
        }
    }
}

static void many_threads_get_one_probe_between_them(void **state) {
    (void)state;
    race r;
    atomic_init(&r.let_through, 0);
    mf_breaker_init(&r.b, &in_row);
    fail_calls(&r.b, 3, 0);
    mf_thread threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (mf_thread){.started = false};
        assert_int_equal(mf_thread_start(&threads[i], "test", try_once, &r, NULL),
                         MF_OK);
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    assert_int_equal(atomic_load(&r.let_through), 1);
    assert_int_equal(stats_of(&r.b, COOLDOWN).refused, THREADS * STEPS - 1);
    mf_breaker_done(&r.b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_a_row_open_it_for_the_cooldown),
        cmocka_unit_test(half_open_lets_one_probe_through_and_its_success_closes),
        cmocka_unit_test(a_failed_probe_opens_it_again),
        cmocka_unit_test(a_lost_or_abandoned_probe_is_replaced),
        cmocka_unit_test(calls_from_before_it_opened_decide_nothing),
        cmocka_unit_test(a_full_window_with_half_its_calls_failed_opens_it),
        cmocka_unit_test(many_threads_get_one_probe_between_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
