/* meaning_test.c - with the real encoder, a question finds what was meant.
 *
 * ctest-label: golden */
#include "service/service_testing.h"

static void a_question_finds_the_fact_without_sharing_its_words(void **state) {
    (void)state;
    world *t =
        world_open((world_options){.sqlite = true, .model_dir = MF_TEST_MODEL_DIR});
    mf_str user = new_user(t, "alice");
    mf_str agent = new_agent(t, "helper");
    mf_str session = new_session(t, user, agent, "s");
    static const char *const texts[] = {
        "I moved to Lisbon in March.", "My dog is called Bello.",
        "The printer is out of paper again.", "We had soup for lunch.",
        "I work as a nurse in the children's hospital."};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        (void)add_one(t, session, texts[i]);
    }
    mf_results results = ask(t, query_for(user, "In which city does she live now?"));
    assert_int_equal(place_of(&results, texts[0]), 0);
    results = ask(t, query_for(user, "What is her occupation?"));
    assert_int_equal(place_of(&results, texts[4]), 0);
    results = ask(t, query_for(user, "name of the pet"));
    assert_int_equal(place_of(&results, texts[1]), 0);
    flush_all(t);
    world_restart(t);
    results = ask(t, query_for(user, "name of the pet"));
    assert_int_equal(place_of(&results, texts[1]), 0);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_finds_the_fact_without_sharing_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
