/* user_settings_test.c - a user's own settings act, survive a restart and eviction,
 * leave with the user, and are refused when the table does not allow them. */
#include "base/mutex.h"
#include "service/service_testing.h"

static mf_user_change_setting change_of(const char *key, const char *value) {
    return (mf_user_change_setting){.key = mf_str_from(key),
                                    .value = value != NULL ? mf_str_from(value)
                                                           : MF_STR_NONE};
}

static void set(world *t, mf_str user, const char *key, const char *value) {
    mf_user_change_setting change = change_of(key, value);
    OK(mf_service_settings_change(t->service, user, &change, 1, &t->err));
}

static mf_user_setting show(world *t, mf_str user, const char *key) {
    mf_user_setting *rows;
    size_t count;
    OK(mf_service_settings_list(t->service, user, mf_str_from(key), t->arena, &rows,
                                &count, &t->err));
    assert_int_equal(count, 1);
    return rows[0];
}

/* A user with `count` messages that hold the word. */
static mf_str user_with(world *t, const char *name, mf_str agent, int count,
                        mf_str *session) {
    mf_str user = new_user(t, name);
    *session = new_session(t, user, agent, "s");
    for (int i = 0; i < count; i++) {
        (void)add_one(t, *session, "red cat");
    }
    return user;
}

static size_t default_results(world *t, mf_str user) {
    mf_query query = query_for(user, "cat");
    query.top_k = MF_TOP_K_OF_SETTINGS;
    return ask(t, query).count;
}

static void a_request_goes_before_the_user_and_the_user_before_all(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str agent = new_agent(t, "helper");
    mf_str session;
    mf_str ann = user_with(t, "ann", agent, 8, &session);
    mf_str bob = user_with(t, "bob", agent, 8, &session);
    assert_int_equal(default_results(t, ann), 5); /* everybody's */
    set(t, ann, "retrieval.top_k", "3");
    assert_int_equal(default_results(t, ann), 3);
    assert_int_equal(default_results(t, bob), 5);
    mf_query query = query_for(ann, "cat");
    query.top_k = 7;
    assert_int_equal(ask(t, query).count, 7);
    set(t, ann, "retrieval.top_k", NULL);
    assert_int_equal(default_results(t, ann), 5);
    set(t, ann, "retrieval.top_k", NULL); /* nothing to take away is fine */
    world_close(t);
}

static void layers_are_listed_with_their_sources(void **state) {
    (void)state;
    world *t =
        world_open((world_options){.no_model = true, .sets = {"retrieval.top_k=6"}});
    mf_str user = new_user(t, "ann");
    mf_user_setting row = show(t, user, "retrieval.top_k");
    assert_text(row.global, "6");
    assert_text(row.global_source, "--set");
    assert_text(row.by_default, "5");
    assert_null(row.own.p);
    assert_text(row.value, "6");
    set(t, user, "retrieval.top_k", "+9"); /* kept as the settings write it */
    row = show(t, user, "retrieval.top_k");
    assert_text(row.own, "9");
    assert_text(row.value, "9");
    assert_text(row.global, "6");
    mf_user_setting *rows;
    size_t count;
    OK(mf_service_settings_list(t->service, user, MF_STR_NONE, t->arena, &rows, &count,
                                &t->err));
    assert_true(count > 10);
    for (size_t i = 0; i < count; i++) {
        assert_false(mf_str_starts(rows[i].key, MF_STR("server.")));
    }
    world_close(t);
}

static void cached_answers_are_those_of_the_settings_in_force(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str session;
    mf_str user = user_with(t, "ann", new_agent(t, "helper"), 3, &session);
    mf_query query = query_for(user, "cat");
    float before = ask(t, query).rows[0].score;
    assert_int_equal(ask(t, query).source, MF_ANSWER_CACHED);
    set(t, user, "retrieval.neighbour_weight", "10");
    mf_results results = ask(t, query);
    assert_int_not_equal(results.source, MF_ANSWER_CACHED);
    set(t, user, "retrieval.neighbour_weight", NULL);
    results = ask(t, query);
    assert_true(results.rows[0].score == before);
    world_close(t);
}

static void windows_follow_the_users_limits(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str agent = new_agent(t, "helper");
    mf_str of_ann;
    mf_str of_bob;
    mf_str ann = user_with(t, "ann", agent, 5, &of_ann);
    (void)user_with(t, "bob", agent, 5, &of_bob);
    assert_int_equal(list_count(t, of_ann, MF_LIST_WINDOW), 5);
    set(t, ann, "buffer.round_buffer.max_size", "2");
    (void)add_one(t, of_ann, "red cat");
    assert_int_equal(list_count(t, of_ann, MF_LIST_WINDOW), 2);
    assert_int_equal(list_count(t, of_ann, MF_LIST_REST), 4);
    assert_int_equal(list_count(t, of_bob, MF_LIST_WINDOW), 5);
    world_close(t);
}

static void settings_survive_eviction_and_restart_and_go_with_the_user(void **state) {
    (void)state;
    world *t = world_open((world_options){
        .no_model = true, .sqlite = true, .sets = {"user.active_max=1"}});
    mf_str agent = new_agent(t, "helper");
    mf_str session;
    mf_str ann = user_with(t, "ann", agent, 8, &session);
    mf_str bob = user_with(t, "bob", agent, 8, &session);
    set(t, ann, "retrieval.top_k", "2");
    assert_int_equal(default_results(t, bob), 5); /* ann leaves memory */
    assert_int_equal(status_of(t).users.count, 1);
    assert_int_equal(default_results(t, ann), 2);
    world_restart(t);
    assert_int_equal(default_results(t, ann), 2);
    assert_int_equal(default_results(t, bob), 5);
    OK(mf_service_named_delete(t->service, MF_NAMED_USER, ann, &t->err));
    mf_user_change_setting change = change_of("retrieval.top_k", "3");
    FAILS(MF_E_NOTFOUND,
          mf_service_settings_change(t->service, ann, &change, 1, &t->err));
    world_close(t);
}

static void what_the_table_does_not_allow_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *field, *message;
    } rows[] = {
        {"retrieval.top_k", "0", "retrieval.top_k",
         "retrieval.top_k is '0'; allowed: 1 to 1000"},
        {"retrieval.top_k", "-99999999999999999999", "retrieval.top_k",
         "retrieval.top_k is '-99999999999999999999'; allowed: 1 to 1000"},
        {"retrieval.top_k", "", "retrieval.top_k",
         "retrieval.top_k is ''; allowed: 1 to 1000"},
        {"retrieval.bm25_b", "nan", "retrieval.bm25_b",
         "retrieval.bm25_b is 'nan'; allowed: 0 to 1"},
        {"retrieval.topk", "3", "retrieval.topk",
         "settings: unknown setting 'retrieval.topk'; did you mean 'retrieval.top_k'?"},
        {"server.port", "1", "server.port",
         "server.port is the same for all users; set it for all of them"},
        {"buffer.query.default_order", "up", "buffer.query.default_order",
         "buffer.query.default_order is 'up'; allowed: one of desc|asc"},
    };
    world *t = world_open((world_options){.no_model = true});
    mf_str session;
    mf_str user = user_with(t, "ann", new_agent(t, "helper"), 8, &session);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        /* The good one before it must not be kept either. */
        mf_user_change_setting changes[] = {change_of("retrieval.top_k", "2"),
                                            change_of(rows[i].key, rows[i].value)};
        FAILS(MF_E_INVAL,
              mf_service_settings_change(t->service, user, changes, 2, &t->err));
        assert_blame(t, rows[i].field, rows[i].message);
    }
    assert_int_equal(default_results(t, user), 5);
    world_close(t);
}

/* --- many at once --- */

enum { THREADS = 4, STEPS = 60 };

typedef struct changer {
    world *t;
    mf_arena *arena;
    mf_str user;
    int number, failed;
} changer;

static void run_changer(void *arg) {
    changer *c = arg;
    for (int i = 0; i < STEPS; i++) {
        char value[8];
        (void)snprintf(value, sizeof value, "%d", 1 + (c->number + i) % 8);
        mf_user_change_setting change = change_of("retrieval.top_k", value);
        mf_query query = query_for(c->user, "cat");
        mf_results results = {0};
        query.top_k = MF_TOP_K_OF_SETTINGS;
        c->failed += mf_service_settings_change(c->t->service, c->user, &change, 1,
                                                NULL) != MF_OK;
        c->failed +=
            mf_service_query(c->t->service, &query, c->arena, &results, NULL) != MF_OK;
        c->failed += results.count < 1 || results.count > 8;
        if (c->number == 0 && i % 7 == 0) {
            c->failed += mf_settings_reload(c->t->settings, NULL, NULL) != MF_OK;
        }
        mf_arena_reset(c->arena);
    }
}

static void settings_change_under_queries(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str session;
    mf_str user = user_with(t, "ann", new_agent(t, "helper"), 8, &session);
    changer changers[THREADS];
    mf_thread threads[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        changers[i] = (changer){.t = t, .user = user, .number = i};
        OK(mf_arena_new(WORLD_ARENA_MAX, &changers[i].arena, &t->err));
        OK(mf_thread_start(&threads[i], "changer", run_changer, &changers[i], &t->err));
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(changers[i].failed, 0);
        mf_arena_free(changers[i].arena);
    }
    mf_user_setting row = show(t, user, "retrieval.top_k");
    int64_t last = 0; /* memory and store agree on who was last */
    assert_true(mf_str_to_i64(row.own, &last));
    assert_int_equal(default_results(t, user), last);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_before_the_user_and_the_user_before_all),
        cmocka_unit_test(layers_are_listed_with_their_sources),
        cmocka_unit_test(cached_answers_are_those_of_the_settings_in_force),
        cmocka_unit_test(windows_follow_the_users_limits),
        cmocka_unit_test(settings_survive_eviction_and_restart_and_go_with_the_user),
        cmocka_unit_test(what_the_table_does_not_allow_is_refused_by_name),
        cmocka_unit_test(settings_change_under_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
