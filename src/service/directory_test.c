/* directory_test.c - users, agents, sessions and keys: what each call gives and
 * refuses. */
#include "service/service_testing.h"

static const char nobody[] = "00000000-0000-4000-8000-000000000000";

static void names_are_unique_and_kept_as_sent(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    static const char *const names[] = {"Zo\xC3\xAB", "a+b&c/d%#", " blank ", "alice",
                                        "Alice"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mf_str id = new_user(t, names[i]);
        mf_named_row row;
        OK(mf_service_named_find(t->service, MF_NAMED_USER, mf_str_from(names[i]),
                                 t->arena, &row, &t->err));
        assert_text(row.name, names[i]);
        assert_text(id, id_text(t, row.id).p);
        assert_null(row.description.p);
        assert_true(row.created_us == row.updated_us && row.created_us > 0);
    }
    mf_named_row row;
    FAILS(MF_E_EXISTS,
          mf_service_named_create(t->service, MF_NAMED_USER, MF_STR("alice"),
                                  MF_STR_NONE, t->arena, &row, &t->err));
    assert_blame(t, "name", "User with name 'alice' already exists");
    FAILS(MF_E_FORMAT, mf_service_named_create(t->service, MF_NAMED_USER, MF_STR(""),
                                               MF_STR_NONE, t->arena, &row, &t->err));
    mf_named_row *rows;
    size_t count;
    OK(mf_service_named_list(t->service, MF_NAMED_USER, t->arena, &rows, &count,
                             &t->err));
    assert_int_equal(count, 5);
    (void)new_agent(t, "alice"); /* agents have names of their own */
    FAILS(MF_E_EXISTS,
          mf_service_named_create(t->service, MF_NAMED_AGENT, MF_STR("alice"),
                                  MF_STR_NONE, t->arena, &row, &t->err));
    assert_blame(t, "name", "Agent with name 'alice' already exists");
    world_close(t);
}

static void unknown_names_and_ids_are_told_in_the_contracts_words(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_named_row row;
    FAILS(MF_E_NOTFOUND, mf_service_named_find(t->service, MF_NAMED_USER, MF_STR("bob"),
                                               t->arena, &row, &t->err));
    assert_blame(t, "name", "User with name 'bob' not found");
    FAILS(MF_E_NOTFOUND, mf_service_named_get(t->service, MF_NAMED_USER, MF_STR("x"),
                                              t->arena, &row, &t->err));
    assert_blame(t, "user_id", "User with ID 'x' not found");
    FAILS(MF_E_NOTFOUND,
          mf_service_named_get(t->service, MF_NAMED_AGENT, mf_str_from(nobody),
                               t->arena, &row, &t->err));
    assert_blame(t, "agent_id",
                 "Agent with ID '00000000-0000-4000-8000-000000000000' not found");
    FAILS(MF_E_NOTFOUND,
          mf_service_named_update(t->service, MF_NAMED_AGENT, mf_str_from(nobody),
                                  MF_STR("n"), MF_STR_NONE, t->arena, &row, &t->err));
    FAILS(MF_E_NOTFOUND, mf_service_named_delete(t->service, MF_NAMED_USER,
                                                 mf_str_from(nobody), &t->err));
    assert_string_equal(t->err.field, "user_id");
    mf_session_row session;
    FAILS(MF_E_NOTFOUND,
          mf_service_session_get(t->service, MF_STR("7"), t->arena, &session, &t->err));
    assert_blame(t, "session_id", "Session with ID '7' not found");
    FAILS(MF_E_NOTFOUND, mf_service_session_find(t->service, MF_STR("s"), MF_STR_NONE,
                                                 t->arena, &session, &t->err));
    assert_blame(t, "name", "Session with name 's' not found");
    FAILS(MF_E_NOTFOUND, mf_service_session_find(t->service, MF_STR("s"), MF_STR("u"),
                                                 t->arena, &session, &t->err));
    assert_blame(t, "name", "Session with name 's' not found for user 'u'");
    mf_session_row *rows;
    size_t count;
    FAILS(MF_E_NOTFOUND,
          mf_service_session_list(t->service, mf_str_from(nobody), MF_STR_NONE,
                                  t->arena, &rows, &count, &t->err));
    assert_string_equal(t->err.field, "user_id");
    FAILS(MF_E_NOTFOUND, mf_service_session_list(t->service, MF_STR_NONE, MF_STR("no"),
                                                 t->arena, &rows, &count, &t->err));
    assert_blame(t, "agent_id", "Agent with ID 'no' not found");
    world_close(t);
}

static void update_keeps_what_is_not_given(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str id = new_user(t, "carol");
    (void)new_user(t, "dave");
    mf_named_row row;
    OK(mf_service_named_update(t->service, MF_NAMED_USER, id, MF_STR_NONE,
                               MF_STR("a person"), t->arena, &row, &t->err));
    assert_text(row.name, "carol");
    assert_text(row.description, "a person");
    OK(mf_service_named_update(t->service, MF_NAMED_USER, id, MF_STR("Carol"),
                               MF_STR_NONE, t->arena, &row, &t->err));
    assert_text(row.name, "Carol");
    assert_text(row.description, "a person");
    FAILS(MF_E_EXISTS,
          mf_service_named_update(t->service, MF_NAMED_USER, id, MF_STR("dave"),
                                  MF_STR_NONE, t->arena, &row, &t->err));
    assert_blame(t, "name", "User with name 'dave' already exists");
    FAILS(MF_E_FORMAT,
          mf_service_named_update(t->service, MF_NAMED_USER, id, MF_STR(""),
                                  MF_STR_NONE, t->arena, &row, &t->err));
    OK(mf_service_named_get(t->service, MF_NAMED_USER, id, t->arena, &row, &t->err));
    assert_text(row.name, "Carol");
    world_close(t);
}

static void sessions_have_names_unique_per_user(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str alice = new_user(t, "alice");
    mf_str bob = new_user(t, "bob");
    mf_str agent = new_agent(t, "helper");
    mf_str trip = new_session(t, alice, agent, "trip");
    (void)new_session(t, bob, agent, "trip");
    mf_session_row row;
    FAILS(MF_E_EXISTS,
          mf_service_session_create(t->service, alice, agent, MF_STR("trip"), t->arena,
                                    &row, &t->err));
    assert_blame(t, "name", "Session with name 'trip' already exists for this user");
    OK(mf_service_session_find(t->service, MF_STR("trip"), bob, t->arena, &row,
                               &t->err));
    assert_text(id_text(t, row.user_id), bob.p);
    OK(mf_service_session_find(t->service, MF_STR("trip"), MF_STR_NONE, t->arena, &row,
                               &t->err));
    assert_text(id_text(t, row.id), trip.p); /* the oldest of anybody */
    FAILS(MF_E_FORMAT, mf_service_session_create(t->service, alice, agent, MF_STR(""),
                                                 t->arena, &row, &t->err));
    FAILS(MF_E_NOTFOUND,
          mf_service_session_create(t->service, MF_STR("?"), agent, MF_STR_NONE,
                                    t->arena, &row, &t->err));
    assert_blame(t, "user_id", "User with ID '?' not found");
    FAILS(MF_E_NOTFOUND,
          mf_service_session_create(t->service, alice, mf_str_from(nobody), MF_STR_NONE,
                                    t->arena, &row, &t->err));
    assert_string_equal(t->err.field, "agent_id");
    FAILS(MF_E_NOTFOUND,
          mf_service_session_create(t->service, alice, MF_STR("!"), MF_STR_NONE,
                                    t->arena, &row, &t->err));
    world_close(t);
}

static void a_session_without_a_name_gets_one(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str agent = new_agent(t, "helper");
    mf_session_row row;
    OK(mf_service_session_create(t->service, user, agent, MF_STR_NONE, t->arena, &row,
                                 &t->err));
    assert_true(mf_str_starts(row.name, MF_STR("alice-helper-")));
    assert_int_equal(row.name.len, strlen("alice-helper-") + 8);
    mf_session_row other;
    OK(mf_service_session_create(t->service, user, agent, MF_STR_NONE, t->arena, &other,
                                 &t->err));
    assert_false(mf_str_eq(row.name, other.name));
    mf_session_row *rows;
    size_t count;
    OK(mf_service_session_list(t->service, user, agent, t->arena, &rows, &count,
                               &t->err));
    assert_int_equal(count, 2);
    assert_true(mf_uuid_eq(rows[0].id, other.id)); /* newest first */
    world_close(t);
}

static void a_session_is_renamed(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str agent = new_agent(t, "helper");
    mf_str session = new_session(t, user, agent, "old");
    (void)new_session(t, user, agent, "taken");
    mf_session_row row;
    OK(mf_service_session_rename(t->service, session, MF_STR("new"), t->arena, &row,
                                 &t->err));
    assert_text(row.name, "new");
    OK(mf_service_session_rename(t->service, session, MF_STR_NONE, t->arena, &row,
                                 &t->err));
    assert_text(row.name, "new");
    FAILS(MF_E_EXISTS, mf_service_session_rename(t->service, session, MF_STR("taken"),
                                                 t->arena, &row, &t->err));
    assert_blame(t, "name", "Session with name 'taken' already exists for this user");
    (void)add_one(t, session, "red cat");
    OK(mf_service_session_rename(t->service, session, MF_STR("newest"), t->arena, &row,
                                 &t->err));
    mf_results results = ask(t, query_for(user, "cat"));
    assert_text(results.rows[0].session_name, "newest");
    world_close(t);
}

static void deleting_takes_along_what_belongs_to_it(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    mf_str user = new_user(t, "alice");
    mf_str other = new_user(t, "bob");
    mf_str agent = new_agent(t, "helper");
    mf_str second_agent = new_agent(t, "coder");
    mf_str gone = new_session(t, user, agent, "gone");
    mf_str by_coder = new_session(t, user, second_agent, "coder's");
    mf_str kept = new_session(t, other, agent, "kept");
    (void)add_one(t, gone, "red cat");
    (void)add_one(t, by_coder, "green dog");
    (void)add_one(t, kept, "blue dog");
    mf_results results = ask(t, query_for(user, "cat dog"));
    assert_int_equal(results.count, 2);

    OK(mf_service_session_delete(t->service, gone, &t->err));
    results = ask(t, query_for(user, "cat dog"));
    assert_int_equal(results.count, 1);
    mf_new_message message = {.content = MF_STR("late")};
    mf_uuid id;
    FAILS(MF_E_NOTFOUND,
          mf_service_add_wait(t->service, gone, &message, 1, &id, &t->err));
    assert_string_equal(t->err.field, "session_id");
    FAILS(MF_E_NOTFOUND, mf_service_session_delete(t->service, gone, &t->err));

    OK(mf_service_named_delete(t->service, MF_NAMED_AGENT, second_agent, &t->err));
    results = ask(t, query_for(user, "cat dog"));
    assert_int_equal(results.count, 0);
    assert_false(results.user_has_sessions);
    FAILS(MF_E_NOTFOUND,
          mf_service_add_wait(t->service, by_coder, &message, 1, &id, &t->err));

    OK(mf_service_named_delete(t->service, MF_NAMED_USER, user, &t->err));
    mf_query query = query_for(user, "cat");
    FAILS(MF_E_NOTFOUND,
          mf_service_query(t->service, &query, t->arena, &results, &t->err));
    assert_string_equal(t->err.field, "user_id");
    FAILS(MF_E_NOTFOUND,
          mf_service_named_delete(t->service, MF_NAMED_USER, user, &t->err));
    results = ask(t, query_for(other, "dog"));
    assert_int_equal(results.count, 1);
    flush_all(t);
    assert_int_equal(status_of(t).store.messages, 1);
    world_close(t);
}

static void a_key_opens_its_owners_door_only(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str other = new_user(t, "bob");
    char secret[MF_API_KEY_TEXT_MAX];
    mf_api_key_row row;
    OK(mf_service_api_key_create(t->service, user, MF_STR("laptop"), MF_STR_NONE, 0,
                                 secret, t->arena, &row, &t->err));
    assert_int_equal(strlen(secret), 79);
    assert_int_equal(strncmp(secret, "mf_", 3), 0);
    mf_uuid owner;
    OK(mf_service_authenticate(t->service, mf_str_from(secret), &owner, &t->err));
    assert_text(id_text(t, owner), user.p);

    for (size_t i = 0; i < strlen(secret); i++) {
        char wrong[MF_API_KEY_TEXT_MAX];
        memcpy(wrong, secret, sizeof wrong);
        wrong[i] = wrong[i] == '1' ? '2' : '1';
        FAILS(MF_E_AUTH,
              mf_service_authenticate(t->service, mf_str_from(wrong), &owner, &t->err));
        assert_blame(t, "api_key", "Invalid API key");
    }
    FAILS(MF_E_AUTH, mf_service_authenticate(t->service, MF_STR(""), &owner, &t->err));
    FAILS(MF_E_AUTH,
          mf_service_authenticate(t->service, (mf_str){secret, strlen(secret) - 1},
                                  &owner, &t->err));

    mf_api_key_row *rows;
    size_t count;
    OK(mf_service_api_key_list(t->service, user, t->arena, &rows, &count, &t->err));
    assert_int_equal(count, 1);
    assert_text(rows[0].name, "laptop");
    mf_str key_id = id_text(t, row.id);
    FAILS(MF_E_NOTFOUND, mf_service_api_key_delete(t->service, other, key_id, &t->err));
    assert_string_equal(t->err.field, "key_id");
    FAILS(MF_E_NOTFOUND,
          mf_service_api_key_delete(t->service, user, MF_STR("k"), &t->err));
    OK(mf_service_api_key_delete(t->service, user, key_id, &t->err));
    FAILS(MF_E_AUTH,
          mf_service_authenticate(t->service, mf_str_from(secret), &owner, &t->err));

    OK(mf_service_api_key_create(t->service, user, MF_STR_NONE, MF_STR("{}"), 1, secret,
                                 t->arena, &row, &t->err)); /* expired in 1970 */
    FAILS(MF_E_AUTH,
          mf_service_authenticate(t->service, mf_str_from(secret), &owner, &t->err));
    FAILS(MF_E_NOTFOUND,
          mf_service_api_key_create(t->service, MF_STR("-"), MF_STR_NONE, MF_STR_NONE,
                                    0, secret, t->arena, &row, &t->err));
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique_and_kept_as_sent),
        cmocka_unit_test(unknown_names_and_ids_are_told_in_the_contracts_words),
        cmocka_unit_test(update_keeps_what_is_not_given),
        cmocka_unit_test(sessions_have_names_unique_per_user),
        cmocka_unit_test(a_session_without_a_name_gets_one),
        cmocka_unit_test(a_session_is_renamed),
        cmocka_unit_test(deleting_takes_along_what_belongs_to_it),
        cmocka_unit_test(a_key_opens_its_owners_door_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
