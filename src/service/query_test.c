/* query_test.c - questions: population, tags, flags, order, freshness, the cache. */
#include "base/rng.h"
#include "service/service_testing.h"

static void the_population_is_the_users_own(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str alice = new_user(t, "alice");
    mf_str bob = new_user(t, "bob");
    mf_str agent = new_agent(t, "helper");
    mf_str coder = new_agent(t, "coder");
    mf_str hers = new_session(t, alice, agent, "s");
    mf_str coded = new_session(t, alice, coder, "coded");
    mf_str his = new_session(t, bob, agent, "s");
    (void)add_one(t, hers, "red cat");
    (void)add_one(t, coded, "green cat");
    (void)add_one(t, his, "blue cat");
    mf_results results = ask(t, query_for(alice, "cat"));
    assert_int_equal(results.count, 2);
    assert_int_equal(place_of(&results, "blue cat"), -1);

    mf_query query = query_for(alice, "cat");
    query.agent_id = agent;
    results = ask(t, query);
    assert_int_equal(results.count, 1);
    assert_text(id_text(t, results.rows[0].agent_id), agent.p);
    query.session_id = coded; /* the asking session always counts */
    results = ask(t, query);
    assert_int_equal(results.count, 2);
    for (size_t i = 0; i < 2; i++) {
        bool in_coded = mf_str_eq(results.rows[i].session_name, MF_STR("coded"));
        assert_int_equal(results.rows[i].in_session, in_coded);
    }

    query.session_id = his;
    FAILS(MF_E_NOTFOUND,
          mf_service_query(t->service, &query, t->arena, &results, &t->err));
    assert_string_equal(t->err.field, "session_id");
    assert_true(mf_str_starts(mf_str_from(t->err.text), MF_STR("Session '")));
    query.session_id = MF_STR("?");
    FAILS(MF_E_NOTFOUND,
          mf_service_query(t->service, &query, t->arena, &results, &t->err));
    query.session_id = hers;
    query.agent_id = MF_STR("A");
    FAILS(MF_E_NOTFOUND,
          mf_service_query(t->service, &query, t->arena, &results, &t->err));
    assert_blame(t, "agent_id", "Agent 'A' not found");
    query.user_id = MF_STR("U");
    FAILS(MF_E_NOTFOUND,
          mf_service_query(t->service, &query, t->arena, &results, &t->err));
    assert_blame(t, "user_id", "User with ID 'U' not found");
    world_close(t);
}

static void flags_and_bounds_shape_the_answer(void **state) {
    (void)state;
    world *t = world_open((world_options){.sets = {"retrieval.top_k_max=3"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_str fact = MF_STR("the cat runs");
    mf_uuid fact_id;
    mf_results results = ask(t, query_for(user, "cat"));
    assert_int_equal(results.count, 0);
    assert_true(results.user_has_sessions);
    OK(mf_service_knowledge_add(t->service, user, &fact, 1, &fact_id, &t->err));
    for (int i = 0; i < 5; i++) {
        (void)add_one(t, session, "a red cat");
    }
    results = ask(t, query_for(user, "cat"));
    assert_int_equal(results.count, 3); /* top_k_max */
    mf_query query = query_for(user, "cat");
    query.messages = false;
    results = ask(t, query);
    assert_int_equal(results.count, 1);
    assert_int_equal(results.rows[0].kind, MF_DOC_KNOWLEDGE);
    assert_true(mf_uuid_eq(results.rows[0].id, fact_id));
    assert_true(mf_uuid_is_none(results.rows[0].session_id));
    assert_null(results.rows[0].session_name.p);
    query.knowledge = false;
    assert_int_equal(ask(t, query).count, 0);
    query.messages = true;
    results = ask(t, query);
    assert_int_equal(place_of(&results, "the cat runs"), -1);
    query.top_k = 0;
    assert_int_equal(ask(t, query).count, 0);
    query.top_k = -1;
    assert_int_equal(ask(t, query).count, 0);
    query.top_k = 2;
    assert_int_equal(ask(t, query).count, 2);
    query.text = MF_STR("");
    assert_int_equal(ask(t, query).count, 0);
    query.text = MF_STR("?!");
    (void)ask(t, query); /* no words at all is still an answer */
    query.text = MF_STR("cat");
    query.path = MF_PATH_VECTOR;
    results = ask(t, query);
    assert_int_equal(results.count, 2);
    query.path = MF_PATH_KEYWORD;
    results = ask(t, query);
    assert_int_equal(results.count, 2);
    for (size_t i = 0; i < results.count; i++) {
        assert_true(results.rows[i].score >= 0 && results.rows[i].score <= 1);
    }
    world_close(t);
}

static void results_are_ordered_as_the_settings_say(void **state) {
    (void)state;
    static const char *const orders[][2] = {
        {"buffer.query.default_sort_by=score", "buffer.query.default_order=desc"},
        {"buffer.query.default_sort_by=score", "buffer.query.default_order=asc"},
        {"buffer.query.default_sort_by=timestamp", "buffer.query.default_order=desc"},
        {"buffer.query.default_sort_by=timestamp", "buffer.query.default_order=asc"}};
    for (size_t o = 0; o < 4; o++) {
        world *t = world_open((world_options){.sets = {orders[o][0], orders[o][1]}});
        mf_str user = new_user(t, "alice");
        mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
        static const char *const texts[] = {"red cat", "dog", "green cat runs", "blue"};
        for (size_t i = 0; i < 4; i++) {
            mf_new_message message = {.content = mf_str_from(texts[i]),
                                      .created_us = 1000 + (int64_t)i};
            mf_uuid id;
            OK(mf_service_add_wait(t->service, session, &message, 1, &id, &t->err));
        }
        flush_all(t);
        for (int again = 0; again < 2; again++) { /* the second is a cached one */
            mf_results results = ask(t, query_for(user, "red cat"));
            assert_int_equal(results.count, 4);
            assert_int_equal(results.source == MF_ANSWER_CACHED, again == 1);
            for (size_t i = 1; i < 4; i++) {
                const mf_result *a = &results.rows[o % 2 == 0 ? i - 1 : i];
                const mf_result *b = &results.rows[o % 2 == 0 ? i : i - 1];
                assert_true(o < 2 ? a->score >= b->score
                                  : a->created_us > b->created_us);
            }
        }
        mf_query query = query_for(user, "red cat"); /* its own order comes first */
        query.sort_by = o < 2 ? MF_SORT_TIMESTAMP : MF_SORT_SCORE;
        query.order = o % 2 == 0 ? MF_ORDER_ASC : MF_ORDER_DESC;
        mf_results results = ask(t, query);
        assert_true(results.source == MF_ANSWER_CACHED);
        for (size_t i = 1; i < 4; i++) {
            const mf_result *a = &results.rows[o % 2 == 1 ? i - 1 : i];
            const mf_result *b = &results.rows[o % 2 == 1 ? i : i - 1];
            assert_true(o >= 2 ? a->score >= b->score : a->created_us > b->created_us);
        }
        world_close(t);
    }
}

static void without_a_model_words_decide(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "I moved to Lisbon in March");
    (void)add_one(t, session, "the weather is fine");
    mf_query query = query_for(user, "When did I move to Lisbon?");
    for (int path = MF_PATH_BLEND; path <= MF_PATH_KEYWORD; path++) {
        query.path = (mf_index_path)path;
        mf_results results = ask(t, query);
        assert_int_equal(place_of(&results, "I moved to Lisbon in March"), 0);
        assert_int_equal(place_of(&results, "the weather is fine"), -1);
    }
    assert_false(status_of(t).has_model);
    flush_all(t);
    world_close(t);
}

static void an_adapters_prompt_is_understood(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "My sister lives in Oslo");
    (void)add_one(t, session, "The harvest of grapes was poor");
    mf_results results =
        ask(t, query_for(user, "User: how were the grapes?\\nAssistant: poor this year"
                               "\\nUser: where does my sister live?"));
    assert_int_equal(place_of(&results, "My sister lives in Oslo"), 0);
    world_close(t);
}

static void a_repeated_question_is_answered_from_the_cache(void **state) {
    (void)state;
    world *t = world_open((world_options){.sets = {"buffer.query.max_size=2"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "red cat");
    flush_all(t); /* a vector that arrives later would make the answer old */
    mf_results first = ask(t, query_for(user, "cat"));
    assert_false(first.source == MF_ANSWER_CACHED);
    mf_results again = ask(t, query_for(user, "cat"));
    assert_true(again.source == MF_ANSWER_CACHED);
    assert_int_equal(again.count, first.count);
    assert_true(mf_uuid_eq(again.rows[0].id, first.rows[0].id));
    assert_true(again.rows[0].score == first.rows[0].score);
    mf_query other = query_for(user, "cat");
    other.session_id = session;
    assert_false(ask(t, other).source == MF_ANSWER_CACHED);
    (void)add_one(t, session, "green cat");
    again = ask(t, query_for(user, "cat"));
    assert_false(again.source == MF_ANSWER_CACHED);
    assert_int_equal(again.count, 2);
    (void)add_one(t, session, "blue cat");
    assert_int_equal(ask(t, query_for(user, "cat")).count, 3);
    assert_false(ask(t, query_for(user, "cat")).source ==
                 MF_ANSWER_CACHED); /* longer than max_size */
    mf_service_status status = status_of(t);
    assert_int_equal(status.cache_hits, 1);
    assert_int_equal(status.queries, 6);
    world_close(t);
}

static void knowledge_is_added_read_changed_and_found(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str alice = new_user(t, "alice");
    mf_str bob = new_user(t, "bob");
    mf_str texts[3] = {MF_STR("red cat"), MF_STR(""), MF_STR("green dog")};
    mf_uuid ids[3];
    OK(mf_service_knowledge_add(t->service, alice, texts, 3, ids, &t->err));
    OK(mf_service_knowledge_add(t->service, alice, NULL, 0, NULL, &t->err));
    mf_knowledge_row *rows;
    size_t count;
    OK(mf_service_knowledge_list(t->service, alice, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 3);
    mf_results results = ask(t, query_for(alice, "cat"));
    assert_int_equal(results.count, 2); /* the empty one is not searched */
    assert_int_equal(place_of(&results, "red cat"), 0);

    mf_str asked[4] = {id_text(t, ids[2]), MF_STR("x"), id_text(t, ids[0]), alice};
    OK(mf_service_knowledge_read(t->service, alice, asked, 4, t->arena, &rows, &count,
                                 &t->err));
    assert_int_equal(count, 2);
    assert_text(rows[0].content, "green dog");
    assert_text(rows[1].content, "red cat");
    OK(mf_service_knowledge_read(t->service, bob, asked, 4, t->arena, &rows, &count,
                                 &t->err));
    assert_int_equal(count, 0); /* another user's */

    bool done[4];
    mf_str fresh[4] = {MF_STR("blue runs"), MF_STR("y"), MF_STR(""), MF_STR("z")};
    OK(mf_service_knowledge_update(t->service, alice, asked, fresh, 4, done, &t->err));
    assert_true(done[0] && !done[1] && done[2] && !done[3]);
    results = ask(t, query_for(alice, "blue"));
    assert_int_equal(results.count, 1); /* the other became empty */
    assert_text(results.rows[0].content, "blue runs");
    asked[1] = id_text(t, ids[1]);
    fresh[1] = MF_STR("cats");
    OK(mf_service_knowledge_update(t->service, alice, asked, fresh, 2, done, &t->err));
    results = ask(t, query_for(alice, "cats"));
    assert_int_equal(place_of(&results, "cats"), 0); /* an empty one got a text */
    OK(mf_service_knowledge_delete(t->service, bob, asked, 2, done, &t->err));
    assert_true(!done[0] && !done[1]);
    OK(mf_service_knowledge_delete(t->service, alice, asked, 1, done, &t->err));
    assert_true(done[0]);
    results = ask(t, query_for(alice, "blue"));
    assert_int_equal(place_of(&results, "blue runs"), -1);
    FAILS(MF_E_NOTFOUND,
          mf_service_knowledge_add(t->service, MF_STR("u"), texts, 1, ids, &t->err));
    assert_blame(t, "user_id", "User with ID 'u' not found");
    FAILS(MF_E_NOTFOUND, mf_service_knowledge_list(t->service, MF_STR("u"), t->arena,
                                                   &rows, &count, &t->err));
    FAILS(MF_E_NOTFOUND, mf_service_knowledge_read(t->service, MF_STR("u"), asked, 1,
                                                   t->arena, &rows, &count, &t->err));
    FAILS(MF_E_NOTFOUND, mf_service_knowledge_update(t->service, MF_STR("u"), asked,
                                                     fresh, 1, done, &t->err));
    FAILS(MF_E_NOTFOUND, mf_service_knowledge_delete(t->service, MF_STR("u"), asked, 1,
                                                     done, &t->err));
    world_close(t);
}

static void chunks_show_the_parts_of_messages(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "red cat");
    char text[6 * 50 + 1];
    for (size_t i = 0; i < 50; i++) {
        memcpy(text + 6 * i, "green ", 7);
    }
    (void)add_one(t, session, text);
    flush_all(t);
    mf_chunk_view *rows;
    size_t count;
    OK(mf_service_chunks_list(t->service, session, MF_STR_NONE, t->arena, &rows, &count,
                              &t->err));
    assert_true(count > 2);
    assert_text(rows[0].content, "red cat");
    assert_true(rows[0].embedded && rows[0].part_count == 1);
    for (size_t i = 1; i < count; i++) {
        assert_int_equal(rows[i].part, i - 1);
        assert_int_equal(rows[i].part_count, count - 1);
    }
    size_t of_round;
    mf_chunk_view *round_rows;
    OK(mf_service_chunks_list(t->service, MF_STR_NONE, id_text(t, rows[1].round_id),
                              t->arena, &round_rows, &of_round, &t->err));
    assert_int_equal(of_round, count - 1);
    FAILS(MF_E_NOTFOUND, mf_service_chunks_list(t->service, MF_STR_NONE, user, t->arena,
                                                &rows, &count, &t->err));
    assert_string_equal(t->err.field, "round_id");
    FAILS(MF_E_NOTFOUND, mf_service_chunks_list(t->service, MF_STR("s"), MF_STR_NONE,
                                                t->arena, &rows, &count, &t->err));
    world_close(t);
}

/* --- the cache against the truth --- */

enum { DOCS_MAX = 40, STEPS = 300 };

typedef struct truth {
    mf_str ids[DOCS_MAX];
    const char *texts[DOCS_MAX];
    size_t count;
} truth;

static const char *const words[] = {"red", "green", "blue", "cat", "dog", "runs"};

static void random_write(world *t, mf_str session, truth *all, mf_rng *rng) {
    const char *text = words[mf_rng_below(rng, 6)];
    uint64_t action = mf_rng_below(rng, 3);
    if (all->count == 0 || (action == 0 && all->count < DOCS_MAX)) {
        all->ids[all->count] = add_one(t, session, text);
        all->texts[all->count++] = text;
        return;
    }
    size_t at = (size_t)mf_rng_below(rng, all->count);
    if (action == 1) {
        mf_new_message message = {.content = mf_str_from(text)};
        OK(mf_service_messages_update(t->service, session, &all->ids[at], &message, 1,
                                      &t->err));
        all->texts[at] = text;
        return;
    }
    OK(mf_service_messages_delete(t->service, session, &all->ids[at], 1, &t->err));
    all->count--;
    all->ids[at] = all->ids[all->count];
    all->texts[at] = all->texts[all->count];
}

static void check_answer(world *t, mf_str user, const truth *all, const char *word) {
    mf_query query = query_for(user, word);
    query.path = MF_PATH_KEYWORD;
    query.top_k = DOCS_MAX;
    mf_results results = ask(t, query);
    size_t expected = 0;
    for (size_t i = 0; i < all->count; i++) {
        expected += strcmp(all->texts[i], word) == 0 ? 1 : 0;
    }
    assert_int_equal(results.count, expected);
    for (size_t i = 0; i < results.count; i++) {
        assert_text(results.rows[i].content, word);
    }
}

static void cached_answers_are_never_stale(void **state) {
    (void)state;
    static const uint64_t seed = 20251;
    world *t = world_open((world_options){.sets = {"buffer.query.max_size=40"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_rng rng;
    truth all = {0};
    print_message("seed %llu\n", (unsigned long long)seed);
    mf_rng_init(&rng, seed);
    for (int step = 0; step < STEPS; step++) {
        if (mf_rng_below(&rng, 2) == 0) {
            random_write(t, session, &all, &rng);
        }
        check_answer(t, user, &all, words[mf_rng_below(&rng, 6)]);
    }
    assert_true(status_of(t).cache_hits > 0);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_population_is_the_users_own),
        cmocka_unit_test(flags_and_bounds_shape_the_answer),
        cmocka_unit_test(results_are_ordered_as_the_settings_say),
        cmocka_unit_test(without_a_model_words_decide),
        cmocka_unit_test(an_adapters_prompt_is_understood),
        cmocka_unit_test(a_repeated_question_is_answered_from_the_cache),
        cmocka_unit_test(knowledge_is_added_read_changed_and_found),
        cmocka_unit_test(chunks_show_the_parts_of_messages),
        cmocka_unit_test(cached_answers_are_never_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
