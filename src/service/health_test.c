/* health_test.c - each indicator is healthy, outside or an alert where its settings
 * say, unknown without traffic, and looks at the recent past only. */
#include "service/health.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int64_t now_ns;

static int64_t test_time(void *ctx) {
    (void)ctx;
    return now_ns;
}

static const mf_clock test_clock = {test_time, test_time, NULL};

typedef struct bench {
    mf_metrics *metrics;
    mf_config config;
    mf_health_reading readings[MF_HEALTH_COUNT];
} bench;

static void open_bench(bench *b) {
    now_ns = 0;
    mf_clock_set(&test_clock);
    mf_config_defaults(&b->config);
    assert_int_equal(mf_metrics_open(&b->metrics, NULL), MF_OK);
}

static void close_bench(bench *b) {
    mf_metrics_close(b->metrics);
    mf_clock_set(NULL);
}

static void record(bench *b, mf_operation op, int count, int64_t ms) {
    for (int i = 0; i < count; i++) {
        mf_metrics_record(b->metrics, op, ms * MF_NS_PER_MS, MF_OK);
    }
}

static mf_health_reading *look(bench *b, mf_health_indicator at, uint64_t bytes) {
    mf_health_read(b->metrics, &b->config, bytes, b->readings);
    return &b->readings[at];
}

static void expect(bench *b, mf_health_indicator at, uint64_t bytes,
                   mf_health_state state) {
    const mf_health_reading *r = look(b, at, bytes);
    if (r->state != state) {
        fail_msg("%s is %s at %f, not %s", r->name, mf_health_state_name(r->state),
                 r->value, mf_health_state_name(state));
    }
}

static void a_quiet_server_is_no_alert(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    for (int minute = 0; minute < 10; minute++) {
        now_ns += (int64_t)60 * MF_NS_PER_S;
        mf_health_read(b.metrics, &b.config, 1 << 20, b.readings);
        for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
            assert_true(b.readings[i].state <= MF_HEALTH_STATE_HEALTHY);
        }
        assert_int_equal(mf_health_worst(b.readings), MF_HEALTH_STATE_HEALTHY);
    }
    close_bench(&b);
}

static void transfers_are_judged_by_the_minute(void **state) {
    (void)state;
    static const struct {
        int transfers;
        mf_health_state state;
    } cases[] = {
        {0, MF_HEALTH_STATE_OUTSIDE},   {9, MF_HEALTH_STATE_OUTSIDE},
        {10, MF_HEALTH_STATE_HEALTHY},  {100, MF_HEALTH_STATE_HEALTHY},
        {101, MF_HEALTH_STATE_OUTSIDE}, {500, MF_HEALTH_STATE_OUTSIDE},
        {501, MF_HEALTH_STATE_ALERT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench b;
        open_bench(&b);
        record(&b, MF_OPERATION_ADD, 20, 1);
        record(&b, MF_OPERATION_TRANSFER, cases[i].transfers, 1);
        now_ns = (int64_t)60 * MF_NS_PER_S;
        expect(&b, MF_HEALTH_TRANSFERS, 0, cases[i].state);
        close_bench(&b);
    }
}

static void a_burst_in_the_first_second_is_no_rate(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    record(&b, MF_OPERATION_ADD, 500, 1);
    record(&b, MF_OPERATION_TRANSFER, 100, 1);
    now_ns = MF_NS_PER_S;
    expect(&b, MF_HEALTH_TRANSFERS, 0, MF_HEALTH_STATE_UNKNOWN);
    now_ns = (int64_t)60 * MF_NS_PER_S;
    expect(&b, MF_HEALTH_TRANSFERS, 0, MF_HEALTH_STATE_HEALTHY);
    close_bench(&b);
}

static void buffer_memory_is_judged_as_it_is_now(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    expect(&b, MF_HEALTH_BUFFER_MEMORY, 0, MF_HEALTH_STATE_HEALTHY);
    expect(&b, MF_HEALTH_BUFFER_MEMORY, UINT64_C(50) << 20, MF_HEALTH_STATE_HEALTHY);
    expect(&b, MF_HEALTH_BUFFER_MEMORY, UINT64_C(51) << 20, MF_HEALTH_STATE_OUTSIDE);
    expect(&b, MF_HEALTH_BUFFER_MEMORY, UINT64_C(101) << 20, MF_HEALTH_STATE_ALERT);
    close_bench(&b);
}

static void query_latency_is_that_of_95_in_100(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    record(&b, MF_OPERATION_QUERY, 9, 900);
    expect(&b, MF_HEALTH_QUERY_LATENCY, 0, MF_HEALTH_STATE_UNKNOWN);
    record(&b, MF_OPERATION_QUERY, 1, 900);
    expect(&b, MF_HEALTH_QUERY_LATENCY, 0, MF_HEALTH_STATE_ALERT);
    record(&b, MF_OPERATION_QUERY, 290, 20); /* the ten are 3 in 100 now */
    expect(&b, MF_HEALTH_QUERY_LATENCY, 0, MF_HEALTH_STATE_HEALTHY);
    record(&b, MF_OPERATION_QUERY, 100, 200);
    expect(&b, MF_HEALTH_QUERY_LATENCY, 0, MF_HEALTH_STATE_OUTSIDE);
    now_ns = (int64_t)180 * MF_NS_PER_S; /* over and forgotten */
    expect(&b, MF_HEALTH_QUERY_LATENCY, 0, MF_HEALTH_STATE_UNKNOWN);
    close_bench(&b);
}

static void a_low_hit_rate_is_the_alert(void **state) {
    (void)state;
    static const struct {
        int cached;
        mf_health_state state;
    } cases[] = {{49, MF_HEALTH_STATE_ALERT},
                 {50, MF_HEALTH_STATE_OUTSIDE},
                 {79, MF_HEALTH_STATE_OUTSIDE},
                 {80, MF_HEALTH_STATE_HEALTHY},
                 {100, MF_HEALTH_STATE_HEALTHY}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench b;
        open_bench(&b);
        record(&b, MF_OPERATION_QUERY, 19, 1);
        expect(&b, MF_HEALTH_CACHE_HIT_RATE, 0, MF_HEALTH_STATE_UNKNOWN);
        record(&b, MF_OPERATION_QUERY, 81, 1);
        record(&b, MF_OPERATION_QUERY_CACHED, cases[i].cached, 1);
        expect(&b, MF_HEALTH_CACHE_HIT_RATE, 0, cases[i].state);
        close_bench(&b);
    }
}

static void ranges_are_settings(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    b.config.health_query_latency_high = 5;
    b.config.health_query_latency_alert = 10;
    record(&b, MF_OPERATION_QUERY, 10, 20);
    expect(&b, MF_HEALTH_QUERY_LATENCY, 0, MF_HEALTH_STATE_ALERT);
    assert_int_equal(mf_health_worst(b.readings), MF_HEALTH_STATE_ALERT);
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_server_is_no_alert),
        cmocka_unit_test(transfers_are_judged_by_the_minute),
        cmocka_unit_test(a_burst_in_the_first_second_is_no_rate),
        cmocka_unit_test(buffer_memory_is_judged_as_it_is_now),
        cmocka_unit_test(query_latency_is_that_of_95_in_100),
        cmocka_unit_test(a_low_hit_rate_is_the_alert),
        cmocka_unit_test(ranges_are_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
