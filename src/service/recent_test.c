/* recent_test.c - the collector keeps the newest of each kind within its bounds. */
#include "service/recent.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int64_t wall_us;

static int64_t test_time(void *ctx) {
    (void)ctx;
    return wall_us;
}

static const mf_clock test_clock = {test_time, test_time, NULL};

static mf_recent *open_recent(void) {
    mf_recent *recent = NULL;
    wall_us = 1000;
    mf_clock_set(&test_clock);
    assert_int_equal(mf_recent_open(&recent, NULL), MF_OK);
    return recent;
}

static void close_recent(mf_recent *recent) {
    mf_recent_close(recent);
    mf_clock_set(NULL);
}

static void each_kind_keeps_its_own_number(void **state) {
    (void)state;
    mf_recent *recent = open_recent();
    for (int i = 0; i < 1200; i++) {
        wall_us++;
        mf_recent_add_request(recent, &(mf_recent_request){.endpoint = "/users",
                                                           .method = "GET",
                                                           .duration_ms = i,
                                                           .status_code = 200});
        mf_recent_add_error(recent, "busy", "/users", "a queue is full");
        mf_recent_add_performance(recent, "memory_freed_mb", i, "forced");
        mf_recent_see_agent(recent, mf_uuid_new());
    }
    mf_recent_stats stats;
    mf_recent_get_stats(recent, &stats);
    assert_int_equal(stats.requests.current_size, 1000);
    assert_int_equal(stats.errors.current_size, 500);
    assert_int_equal(stats.performance.current_size, 200);
    assert_int_equal(stats.agents.current_size, 100);
    assert_int_equal(stats.requests.total_items_added, 1200);
    assert_int_equal(stats.agents.total_items_added, 1200);
    assert_true(stats.errors.usage_percentage == 100.0);
    mf_recent_request requests[2];
    assert_int_equal(mf_recent_requests(recent, requests, 2), 2);
    assert_true(requests[0].duration_ms == 1199.0);
    assert_int_equal(requests[0].timestamp_us, wall_us);
    assert_int_equal(requests[1].timestamp_us, wall_us - 1);
    mf_recent_performance figure;
    assert_int_equal(mf_recent_performance_figures(recent, &figure, 1), 1);
    assert_string_equal(figure.metric_name, "memory_freed_mb");
    mf_recent_clear(recent);
    mf_recent_get_stats(recent, &stats);
    assert_int_equal(stats.requests.current_size + stats.errors.current_size +
                         stats.performance.current_size + stats.agents.current_size,
                     0);
    close_recent(recent);
}

static void an_agent_is_counted_as_often_as_it_is_seen(void **state) {
    (void)state;
    mf_recent *recent = open_recent();
    mf_uuid a = mf_uuid_new();
    mf_uuid b = mf_uuid_new();
    mf_recent_see_agent(recent, a);
    mf_recent_see_agent(recent, b);
    wall_us = 5000;
    mf_recent_see_agent(recent, a);
    mf_recent_agent agents[3];
    assert_int_equal(mf_recent_agents(recent, agents, 3), 2);
    assert_true(mf_uuid_eq(agents[0].agent_id, a));
    assert_int_equal(agents[0].requests, 2);
    assert_int_equal(agents[0].timestamp_us, 5000);
    assert_int_equal(agents[1].requests, 1);
    close_recent(recent);
}

static void a_long_message_is_cut(void **state) {
    (void)state;
    mf_recent *recent = open_recent();
    char text[400];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    mf_recent_add_error(recent, "io", "-", text);
    mf_recent_error error;
    assert_int_equal(mf_recent_errors(recent, &error, 1), 1);
    assert_int_equal(strlen(error.message), MF_RECENT_MESSAGE_MAX - 1);
    close_recent(recent);
    mf_recent_add_error(NULL, "io", "-", text); /* nobody keeps it */
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_recent *recent = NULL;
        mf_err err;
        if (mf_recent_open(&recent, &err) != MF_OK) {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(recent);
        }
        mf_recent_close(recent);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_keeps_its_own_number),
        cmocka_unit_test(an_agent_is_counted_as_often_as_it_is_seen),
        cmocka_unit_test(a_long_message_is_cut),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
