/* metrics_test.c - what the service does is counted under the name of the operation,
 * once, whichever way it ends; a failing look-up is left alone and its log kept short.
 */
#include "base/metrics.h"

#include "service/service_testing.h"

static mf_operation_stats figures(world *t, mf_operation operation) {
    mf_operation_stats stats;
    mf_metrics_get(mf_service_metrics(t->service), operation, &stats);
    return stats;
}

static void each_operation_is_counted_under_its_name(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_str id = add_one(t, session, "red cat");
    assert_int_equal(list_count(t, session, MF_LIST_ALL), 1);
    mf_message_row *rows;
    OK(mf_service_messages_read(t->service, session, &id, 1, t->arena, &rows, &t->err));
    mf_new_message text = {.content = MF_STR("green cat")};
    OK(mf_service_messages_update(t->service, session, &id, &text, 1, &t->err));
    mf_uuid item;
    OK(mf_service_knowledge_add(t->service, user, &(mf_str){"a dog", 5}, 1, &item,
                                &t->err));
    flush_all(t);
    (void)ask(t, query_for(user, "cat"));
    OK(mf_service_messages_delete(t->service, session, &id, 1, &t->err));

    static const struct {
        mf_operation operation;
        uint64_t finished;
    } expected[] = {
        {MF_OPERATION_ADD, 1},         {MF_OPERATION_LIST, 1},
        {MF_OPERATION_READ, 1},        {MF_OPERATION_UPDATE, 1},
        {MF_OPERATION_DELETE, 1},      {MF_OPERATION_KNOWLEDGE, 1},
        {MF_OPERATION_FLUSH, 1},       {MF_OPERATION_QUERY, 1},
        {MF_OPERATION_USER_CREATE, 1}, {MF_OPERATION_USER_LOAD, 1},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        mf_operation_stats s = figures(t, expected[i].operation);
        if (s.finished != expected[i].finished || s.in_flight != 0 || s.failed != 0) {
            fail_msg("%s: %d finished, %d in flight, %d failed", s.name,
                     (int)s.finished, (int)s.in_flight, (int)s.failed);
        }
        assert_true(s.latency.max > 0);
    }
    assert_true(figures(t, MF_OPERATION_EMBED).finished >= 1);
    assert_true(figures(t, MF_OPERATION_COMMIT).finished >= 1);
    assert_true(figures(t, MF_OPERATION_USER_LOOKUP).finished >= 4);
    world_close(t);
}

static void an_answer_from_the_cache_counts_twice(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str user = new_user(t, "alice");
    (void)add_one(t, new_session(t, user, new_agent(t, "helper"), "s"), "red cat");
    flush_all(t);
    assert_int_not_equal(ask(t, query_for(user, "cat")).source, MF_ANSWER_CACHED);
    assert_int_equal(figures(t, MF_OPERATION_QUERY_CACHED).finished, 0);
    assert_int_equal(ask(t, query_for(user, "cat")).source, MF_ANSWER_CACHED);
    assert_int_equal(figures(t, MF_OPERATION_QUERY).finished, 2);
    assert_int_equal(figures(t, MF_OPERATION_QUERY_CACHED).finished, 1);
    world_close(t);
}

static void refusals_and_failures_are_told_apart(void **state) {
    (void)state;
    world *t = world_open((world_options){.faulty = true, .no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_new_message message = {.content = MF_STR("red cat")};
    mf_uuid id;
    FAILS(MF_E_NOTFOUND, mf_service_add_wait(t->service, user, &message, 1, &id,
                                             &t->err)); /* a user is no session */
    mf_faulty_store_arm(t->store, "message_insert", 0, 1, MF_E_IO);
    FAILS(MF_E_IO, mf_service_add_wait(t->service, session, &message, 1, &id, &t->err));
    mf_faulty_store_disarm(t->store);
    mf_operation_stats s = figures(t, MF_OPERATION_ADD);
    assert_int_equal(s.started, 2);
    assert_int_equal(s.finished, 2);
    assert_int_equal(s.refused, 1);
    assert_int_equal(s.failed, 1);
    world_close(t);
}

static void rounds_that_leave_a_window_count_as_a_transfer(void **state) {
    (void)state;
    world *t = world_open(
        (world_options){.no_model = true, .sets = {"buffer.round_buffer.max_size=2"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    for (int i = 0; i < 6; i++) {
        (void)add_one(t, session, "red cat");
    }
    uint64_t transfers = figures(t, MF_OPERATION_TRANSFER).finished;
    assert_in_range(transfers, 1, 4);
    world_close(t);
}

static mf_breaker_stats breaker_of(world *t, const char *name) {
    mf_breaker_stats all[MF_METRICS_BREAKERS_MAX];
    size_t count = mf_metrics_breakers(mf_service_metrics(t->service), all,
                                       MF_METRICS_BREAKERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].name, name) == 0) {
            return all[i];
        }
    }
    fail_msg("there is no breaker %s", name);
    return all[0];
}

static void failing_lookups_of_vectors_are_left_alone(void **state) {
    (void)state;
    enum { TEXTS = 12 };
    world *t = world_open((world_options){.faulty = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_faulty_store_arm(t->store, "chunk_find", 0, UINT64_MAX / 2, MF_E_IO);
    for (int i = 0; i < TEXTS; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "cat number %d", i);
        (void)add_one(t, session, text);
        flush_all(t);
    }
    mf_breaker_stats s = breaker_of(t, "vector_lookup");
    assert_int_equal(s.state, MF_BREAKER_OPEN);
    assert_true(s.refused > 0);
    assert_int_equal(mf_faulty_store_fired(t->store), s.failures);
    assert_true(s.failures < TEXTS); /* the store was asked no more */
    mf_faulty_store_disarm(t->store);
    assert_int_equal(status_of(t).store.chunks, TEXTS); /* nothing went missing */
    mf_error_cache_stats errors;
    mf_error_cache_get_stats(mf_metrics_errors(mf_service_metrics(t->service)),
                             &errors);
    assert_int_equal(errors.total, s.failures);
    assert_int_equal(errors.processed, 1); /* one line of the log for all of them */
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_is_counted_under_its_name),
        cmocka_unit_test(an_answer_from_the_cache_counts_twice),
        cmocka_unit_test(refusals_and_failures_are_told_apart),
        cmocka_unit_test(rounds_that_leave_a_window_count_as_a_transfer),
        cmocka_unit_test(failing_lookups_of_vectors_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
