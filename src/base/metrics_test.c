/* metrics_test.c - operations are counted by how they end, and their recent past slides
 * along with the monotonic clock. */
#include "base/metrics.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, EACH = 5000 };

static int64_t now_ns;

static int64_t test_time(void *ctx) {
    (void)ctx;
    return now_ns;
}

static const mf_clock test_clock = {test_time, test_time, NULL};

static mf_metrics *metrics_at_zero(void) {
    now_ns = 0;
    mf_clock_set(&test_clock);
    mf_metrics *m = NULL;
    assert_int_equal(mf_metrics_open(&m, NULL), MF_OK);
    return m;
}

static void done(mf_metrics *m) {
    mf_metrics_close(m);
    mf_clock_set(NULL);
}

static void run(mf_metrics *m, mf_operation op, int64_t duration_ns, mf_rc rc) {
    mf_span span = mf_metrics_begin(m, op);
    now_ns += duration_ns;
    mf_metrics_end(span, rc);
}

static void operations_count_by_how_they_end(void **state) {
    (void)state;
    mf_metrics *m = metrics_at_zero();
    run(m, MF_OPERATION_ADD, 1000, MF_OK);
    run(m, MF_OPERATION_ADD, 2000, MF_E_NOTFOUND);
    run(m, MF_OPERATION_ADD, 3000, MF_E_IO);
    run(m, MF_OPERATION_ADD, 4000, MF_E_BUSY);
    mf_span open = mf_metrics_begin(m, MF_OPERATION_ADD);
    mf_operation_stats s;
    mf_metrics_get(m, MF_OPERATION_ADD, &s);
    assert_string_equal(s.name, "add");
    assert_int_equal(s.started, 5);
    assert_int_equal(s.finished, 4);
    assert_int_equal(s.refused, 1);
    assert_int_equal(s.failed, 2);
    assert_int_equal(s.in_flight, 1);
    assert_int_equal(s.latency.sum, 10000);
    assert_int_equal(s.latency.max, 4000);
    mf_metrics_end(open, MF_OK);
    mf_metrics_get(m, MF_OPERATION_ADD, &s);
    assert_int_equal(s.in_flight, 0);
    mf_metrics_get(m, MF_OPERATION_QUERY, &s); /* another is not touched */
    assert_int_equal(s.started, 0);
    done(m);
}

static void nothing_is_recorded_without_metrics(void **state) {
    (void)state;
    mf_metrics_end(mf_metrics_begin(NULL, MF_OPERATION_ADD), MF_OK);
    mf_metrics_record(NULL, MF_OPERATION_ADD, 1, MF_OK);
    assert_null(mf_metrics_errors(NULL));
}

static uint64_t recent_count(mf_metrics *m) {
    mf_operation_recent r;
    mf_metrics_get_recent(m, MF_OPERATION_TRANSFER, &r);
    return r.latency.count;
}

static void the_recent_past_is_this_minute_and_the_one_before(void **state) {
    (void)state;
    mf_metrics *m = metrics_at_zero();
    int64_t second = MF_NS_PER_S;
    mf_operation_recent r;
    for (int i = 0; i < 10; i++) { /* seconds 0..9 */
        mf_metrics_record(m, MF_OPERATION_TRANSFER, 5000, MF_OK);
        now_ns += second;
    }
    mf_metrics_get_recent(m, MF_OPERATION_TRANSFER, &r);
    assert_int_equal(r.latency.count, 10);
    assert_true(r.seconds > 9.9 && r.seconds < 10.1);
    now_ns = 70 * second;
    mf_metrics_record(m, MF_OPERATION_TRANSFER, 9000000, MF_E_IO);
    mf_metrics_get_recent(m, MF_OPERATION_TRANSFER, &r);
    assert_int_equal(r.latency.count, 11);
    assert_int_equal(r.failed, 1);
    assert_true(r.seconds > 69.9 && r.seconds < 70.1);
    now_ns = 119 * second;
    assert_int_equal(recent_count(m), 11);
    now_ns = 121 * second; /* the first minute is over and gone */
    mf_metrics_get_recent(m, MF_OPERATION_TRANSFER, &r);
    assert_int_equal(r.latency.count, 1);
    assert_true(r.seconds > 60.9 && r.seconds < 61.1);
    assert_true(r.latency.p50 > 8700000 && r.latency.p50 < 9300000);
    now_ns = 181 * second;
    assert_int_equal(recent_count(m), 0);
    done(m);
}

static void a_gap_of_hours_leaves_no_recent_past(void **state) {
    (void)state;
    mf_metrics *m = metrics_at_zero();
    mf_metrics_record(m, MF_OPERATION_TRANSFER, 1, MF_E_IO);
    now_ns = INT64_C(7200) * MF_NS_PER_S;
    mf_metrics_record(m, MF_OPERATION_TRANSFER, 1, MF_OK);
    mf_operation_recent r;
    mf_metrics_get_recent(m, MF_OPERATION_TRANSFER, &r);
    assert_int_equal(r.latency.count, 1);
    assert_int_equal(r.failed, 0);
    mf_operation_stats s;
    mf_metrics_get(m, MF_OPERATION_TRANSFER, &s);
    assert_int_equal(s.finished, 2);
    done(m);
}

static void record_many(void *arg) {
    for (int i = 0; i < EACH; i++) {
        mf_metrics_record(arg, MF_OPERATION_QUERY, i, i % 10 == 0 ? MF_E_IO : MF_OK);
    }
}

static void threads_lose_no_operation(void **state) {
    (void)state;
    mf_metrics *m = NULL;
    assert_int_equal(mf_metrics_open(&m, NULL), MF_OK);
    mf_thread threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (mf_thread){.started = false};
        assert_int_equal(mf_thread_start(&threads[i], "test", record_many, m, NULL),
                         MF_OK);
    }
    mf_operation_recent r;
    for (int i = 0; i < 20; i++) { /* reading meanwhile harms nothing */
        mf_metrics_get_recent(m, MF_OPERATION_QUERY, &r);
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_operation_stats s;
    mf_metrics_get(m, MF_OPERATION_QUERY, &s);
    assert_int_equal(s.finished, THREADS * EACH);
    assert_int_equal(s.failed, THREADS * EACH / 10);
    assert_int_equal(s.in_flight, 0);
    mf_metrics_close(m);
}

static void breakers_are_shown_while_they_exist(void **state) {
    (void)state;
    mf_metrics *m = metrics_at_zero();
    mf_breaker a, b;
    mf_breaker_init(
        &a, &(mf_breaker_options){.name = "a", .failures_max = 1, .cooldown_ns = 10});
    mf_breaker_init(
        &b, &(mf_breaker_options){.name = "b", .failures_max = 1, .cooldown_ns = 10});
    mf_metrics_add_breaker(m, &a);
    mf_metrics_add_breaker(m, &b);
    mf_breaker_stats stats[4];
    assert_int_equal(mf_metrics_breakers(m, stats, 4), 2);
    mf_metrics_remove_breaker(m, &a);
    assert_int_equal(mf_metrics_breakers(m, stats, 4), 1);
    assert_string_equal(stats[0].name, "b");
    mf_metrics_remove_breaker(m, &b);
    mf_breaker_done(&a);
    mf_breaker_done(&b);
    done(m);
}

static void recording_allocates_nothing(void **state) {
    (void)state;
    mf_metrics *m = metrics_at_zero();
    mf_noalloc_begin();
    run(m, MF_OPERATION_QUERY, INT64_C(200) * MF_NS_PER_S, MF_OK);
    run(m, MF_OPERATION_QUERY, 1, MF_E_IO);
    mf_noalloc_end();
    done(m);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_metrics *m = NULL;
        mf_err err;
        if (mf_metrics_open(&m, &err) == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(m);
        }
        mf_metrics_close(m);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_count_by_how_they_end),
        cmocka_unit_test(nothing_is_recorded_without_metrics),
        cmocka_unit_test(the_recent_past_is_this_minute_and_the_one_before),
        cmocka_unit_test(a_gap_of_hours_leaves_no_recent_past),
        cmocka_unit_test(threads_lose_no_operation),
        cmocka_unit_test(breakers_are_shown_while_they_exist),
        cmocka_unit_test(recording_allocates_nothing),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
