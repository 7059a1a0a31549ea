/* restart_test.c - what is in memory can go at any time: nothing is lost, nothing
 * visible changes, and no vector in the store is made twice. */
#include "service/service_testing.h"

enum { MESSAGES = 12 };

static const char *const words[] = {"red", "green", "blue", "cat", "dog", "runs"};

static size_t backlog_length(world *t) {
    mf_conn *conn;
    mf_uuid *ids;
    size_t count;
    OK(mf_conn_acquire(t->readers, mf_deadline_in_ms(10000), &conn, &t->err));
    OK(conn->ops->backlog_list(conn, t->arena, &ids, &count, &t->err));
    mf_conn_release(t->readers, conn, MF_OK);
    return count;
}

static void add_numbered(world *t, mf_str session, int from, int count) {
    for (int i = from; i < from + count; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s %s n%d", words[i % 6], words[i / 6 % 6],
                       i);
        (void)add_one(t, session, text);
    }
}

static void check_numbered(world *t, mf_str user, int count) {
    for (int i = 0; i < count; i++) {
        char text[64];
        char number[16];
        (void)snprintf(text, sizeof text, "%s %s n%d", words[i % 6], words[i / 6 % 6],
                       i);
        (void)snprintf(number, sizeof number, "n%d", i);
        mf_query query = query_for(user, number);
        query.path = MF_PATH_KEYWORD;
        mf_results results = ask(t, query);
        assert_int_equal(results.count, 1);
        assert_text(results.rows[0].content, text);
    }
}

static void committed_vectors_are_not_made_again(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_str user = new_user(t, "alice");
    mf_str agent = new_agent(t, "helper");
    mf_str session = new_session(t, user, agent, "s");
    mf_str fact = MF_STR("blue dog");
    mf_uuid fact_id;
    add_numbered(t, session, 0, MESSAGES);
    OK(mf_service_knowledge_add(t->service, user, &fact, 1, &fact_id, &t->err));
    flush_all(t);
    assert_int_equal(status_of(t).store.chunks, MESSAGES + 1);
    assert_true(status_of(t).flush_operations > 0);
    assert_int_equal(backlog_length(t), 0);
    mf_query query = query_for(user, "red cat");
    query.top_k = 100;
    mf_results before = ask(t, query);
    world_restart(t);
    mf_results after = ask(t, query);
    flush_all(t);
    assert_int_equal(status_of(t).embedder.texts, 1); /* the question */
    assert_int_equal(after.count, MESSAGES + 1);
    for (size_t i = 0; i < after.count; i++) {
        assert_true(mf_uuid_eq(after.rows[i].id, before.rows[i].id));
        assert_true(after.rows[i].similarity != 0);
        assert_true(after.rows[i].score - before.rows[i].score < 1e-3F &&
                    before.rows[i].score - after.rows[i].score < 1e-3F);
    }
    check_numbered(t, user, MESSAGES);
    world_close(t);
}

/* Vectors of another length cannot be compared: they are left alone and made again. */
static void vectors_of_other_dimensions_are_made_again(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    add_numbered(t, session, 0, MESSAGES);
    flush_all(t);
    t->options.dimensions = TINY_HIDDEN / 2;
    world_restart(t);
    assert_int_equal(status_of(t).model.dim, TINY_HIDDEN / 2);
    mf_query query = query_for(user, "red cat");
    query.top_k = 100;
    (void)ask(t, query);
    flush_all(t);
    assert_int_equal(status_of(t).embedder.texts, MESSAGES + 1); /* and the question */
    assert_int_equal(status_of(t).store.chunks, MESSAGES);
    world_restart(t);
    mf_results results = ask(t, query);
    flush_all(t);
    assert_int_equal(status_of(t).embedder.texts, 1);
    assert_int_equal(results.count, MESSAGES);
    for (size_t i = 0; i < results.count; i++) {
        assert_true(results.rows[i].similarity != 0);
    }
    world_close(t);
}

static void a_clean_stop_commits_what_was_embedded(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "red cat");
    (void)ask(t, query_for(user, "cat")); /* gives it its vector */
    world_restart(t);
    assert_int_equal(status_of(t).store.chunks, 1);
    world_close(t);
}

static void embedding_owed_is_taken_up_at_start(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true, .faulty = true});
    mf_str user = new_user(t, "alice");
    mf_str other = new_user(t, "bob");
    mf_str agent = new_agent(t, "helper");
    mf_str session = new_session(t, user, agent, "s");
    mf_str others = new_session(t, other, agent, "s");
    /* As after a crash: messages are there, none of their vectors. */
    mf_faulty_store_arm(t->store, "chunk_put", 0, UINT64_MAX, MF_E_FULL);
    add_numbered(t, session, 0, MESSAGES);
    add_numbered(t, others, 0, 1);
    world_restart(t);
    flush_all(t);
    assert_int_equal(status_of(t).store.chunks, MESSAGES + 1);
    assert_int_equal(status_of(t).embedding_pending, 0);
    assert_int_equal(backlog_length(t), 0);
    check_numbered(t, user, MESSAGES);
    check_numbered(t, other, 1);
    world_close(t);
}

static void a_user_deleted_while_it_owes_leaves_nothing(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_str agent = new_agent(t, "helper");
    for (int i = 0; i < 10; i++) {
        mf_str user = new_user(t, "alice");
        mf_str session = new_session(t, user, agent, "s");
        add_numbered(t, session, 0, MESSAGES);
        OK(mf_service_named_delete(t->service, MF_NAMED_USER, user, &t->err));
    }
    flush_all(t);
    mf_service_status status = status_of(t);
    assert_int_equal(status.store.messages, 0);
    assert_int_equal(status.store.chunks, 0);
    assert_int_equal(backlog_length(t), 0);
    world_restart(t);
    flush_all(t);
    world_close(t);
}

static void the_window_is_the_same_after_a_restart(void **state) {
    (void)state;
    world *t =
        world_open((world_options){.sqlite = true,
                                   .no_model = true,
                                   .sets = {"buffer.round_buffer.max_size=4",
                                            "buffer.round_buffer.max_tokens=30"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    static const char *const texts[] = {
        "one",
        "two words",
        "now three words",
        "this is a text of rather more words",
        "six",
        ("a text that alone is longer than everything a window of thirty tokens "
         "can hold, however generously one counts the words that are in it"),
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        (void)add_one(t, session, texts[i]);
        size_t window = list_count(t, session, MF_LIST_WINDOW);
        world_restart(t);
        assert_int_equal(list_count(t, session, MF_LIST_WINDOW), window);
        assert_int_equal(list_count(t, session, MF_LIST_REST), i + 1 - window);
    }
    world_close(t);
}

static void users_that_leave_memory_lose_nothing(void **state) {
    (void)state;
    enum { USERS = 9, ROUNDS = 4 };
    world *t =
        world_open((world_options){.sqlite = true, .sets = {"user.active_max=2"}});
    mf_str agent = new_agent(t, "helper");
    mf_str users[USERS];
    mf_str sessions[USERS];
    for (int u = 0; u < USERS; u++) {
        char name[16];
        (void)snprintf(name, sizeof name, "user%d", u);
        users[u] = new_user(t, name);
        sessions[u] = new_session(t, users[u], agent, "s");
    }
    for (int r = 0; r < ROUNDS; r++) {
        for (int u = 0; u < USERS; u++) {
            add_numbered(t, sessions[u], r, 1);
            check_numbered(t, users[u], r + 1);
        }
    }
    flush_all(t);
    for (int u = 0; u < USERS; u++) {
        check_numbered(t, users[u], ROUNDS);
        assert_int_equal(list_count(t, sessions[u], MF_LIST_WINDOW), ROUNDS);
    }
    flush_all(t);
    mf_service_status status = status_of(t);
    assert_true(status.users.count <= 2);
    assert_int_equal(status.store.chunks, USERS * ROUNDS);
    assert_int_equal(status.total_writes, USERS * ROUNDS);
    world_close(t);
}

static void a_text_replaced_while_it_is_embedded_gets_its_own_vector(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    for (int i = 0; i < 30; i++) {
        mf_str id = add_one(t, session, words[i % 6]);
        mf_new_message message = {.content = MF_STR("green dog")};
        OK(mf_service_messages_update(t->service, session, &id, &message, 1, &t->err));
    }
    flush_all(t);
    mf_query query = query_for(user, "green dog");
    query.top_k = 100;
    for (int restarted = 0; restarted < 2; restarted++) {
        mf_results results = ask(t, query);
        assert_int_equal(results.count, 30);
        for (size_t i = 0; i < results.count; i++) {
            assert_true(results.rows[i].similarity > 0.99F);
        }
        world_restart(t);
    }
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(committed_vectors_are_not_made_again),
        cmocka_unit_test(vectors_of_other_dimensions_are_made_again),
        cmocka_unit_test(a_clean_stop_commits_what_was_embedded),
        cmocka_unit_test(embedding_owed_is_taken_up_at_start),
        cmocka_unit_test(a_user_deleted_while_it_owes_leaves_nothing),
        cmocka_unit_test(the_window_is_the_same_after_a_restart),
        cmocka_unit_test(users_that_leave_memory_lose_nothing),
        cmocka_unit_test(a_text_replaced_while_it_is_embedded_gets_its_own_vector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
