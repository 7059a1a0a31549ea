/* service_test.c - a service answers what was told to it: the way through
 * everything. */
#include "service/service_testing.h"

static void what_was_added_is_found_from_another_session(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str user = new_user(t, "alice");
    mf_str agent = new_agent(t, "helper");
    mf_str first = new_session(t, user, agent, "first");
    mf_str second = new_session(t, user, agent, "second");
    (void)add_one(t, first, "the red cat runs");
    mf_query query = query_for(user, "cat");
    query.session_id = second;
    mf_results results = ask(t, query);
    assert_int_equal(place_of(&results, "the red cat runs"), 0);
    assert_false(results.rows[0].in_session);
    assert_text(results.rows[0].session_name, "first");
    assert_true(results.rows[0].score > 0 && results.rows[0].score <= 1);
    assert_true(results.rows[0].similarity != 0); /* it had its vector already */
    assert_true(results.user_has_sessions);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_found_from_another_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
