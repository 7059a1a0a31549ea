/* faults_test.c - each call of the store fails once; whatever was asked for then either
 * happened or did not, the caller is told the truth, and the next try works. */
#include "base/fault.h"
#include "service/service_testing.h"

typedef struct stage {
    world *t;
    mf_str user, agent, session;
    size_t count; /* messages there are */
} stage;

static stage stage_open(bool model) {
    world *t =
        world_open((world_options){.sqlite = true, .faulty = true, .no_model = !model});
    stage s = {.t = t, .user = new_user(t, "alice"), .agent = new_agent(t, "helper")};
    s.session = new_session(t, s.user, s.agent, "s");
    return s;
}

/* Both roads to the messages tell the same: the listing and the index. */
static void check_count(const stage *s) {
    world *t = s->t;
    mf_query query = query_for(s->user, "cat");
    query.top_k = 1000;
    query.path = MF_PATH_KEYWORD;
    assert_int_equal(list_count(t, s->session, MF_LIST_ALL), s->count);
    assert_int_equal(ask(t, query).count, s->count);
}

static void a_failing_write_changes_nothing(void **state) {
    (void)state;
    static const char *const ops[] = {"begin",          "savepoint",   "savepoint_keep",
                                      "message_insert", "backlog_add", "commit"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        stage s = stage_open(true);
        world *t = s.t;
        if (strcmp(ops[i], "backlog_add") != 0) {
            (void)add_one(t, s.session, "red cat");
            s.count++;
            flush_all(t);
        }
        mf_new_message message = {.content = MF_STR("green cat")};
        mf_uuid id;
        mf_faulty_store_arm(t->store, ops[i], 0, 1, MF_E_FULL);
        mf_rc rc =
            mf_service_add_wait(t->service, s.session, &message, 1, &id, &t->err);
        if (rc == MF_OK) { /* a background commit met the fault, or nothing calls it */
            s.count++;
        } else {
            assert_int_equal(rc, MF_E_FULL);
        }
        mf_faulty_store_disarm(t->store);
        check_count(&s);
        (void)add_one(t, s.session, "blue cat");
        s.count++;
        check_count(&s);
        flush_all(t);
        assert_int_equal(status_of(t).store.chunks, s.count);
        world_restart(t);
        check_count(&s);
        world_close(t);
    }
}

static void a_failing_edit_changes_nothing(void **state) {
    (void)state;
    static const char *const ops[] = {"message_get", "message_update", "message_delete",
                                      "commit"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        stage s = stage_open(false);
        world *t = s.t;
        mf_str ids[2] = {add_one(t, s.session, "red cat"),
                         add_one(t, s.session, "green cat")};
        s.count = 2;
        check_count(&s);
        mf_new_message texts[2] = {{.content = MF_STR("a dog")},
                                   {.content = MF_STR("a dog")}};
        /* The second of the two fails, after the first was changed. */
        uint64_t skip = strcmp(ops[i], "message_update") == 0 ? 1 : 0;
        mf_faulty_store_arm(t->store, ops[i], skip, 1, MF_E_FULL);
        mf_rc rc =
            mf_service_messages_update(t->service, s.session, ids, texts, 2, &t->err);
        if (rc == MF_OK) {
            FAILS(MF_E_FULL,
                  mf_service_messages_delete(t->service, s.session, ids, 2, &t->err));
            OK(mf_service_messages_update(
                t->service, s.session, ids,
                (mf_new_message[2]){{.content = MF_STR("cat")},
                                    {.content = MF_STR("cat")}},
                2, &t->err));
        }
        assert_int_equal(mf_faulty_store_fired(t->store), 1);
        mf_faulty_store_disarm(t->store);
        check_count(&s);
        OK(mf_service_messages_delete(t->service, s.session, ids, 2, &t->err));
        s.count = 0;
        check_count(&s);
        world_close(t);
    }
}

static void a_failing_read_is_told_and_the_next_works(void **state) {
    (void)state;
    static const char *const ops[] = {"session_list",       "message_scan",
                                      "knowledge_scan",     "chunk_scan",
                                      "message_get_by_num", "session_get"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        stage s = stage_open(true);
        world *t = s.t;
        (void)add_one(t, s.session, "red cat");
        s.count++;
        flush_all(t);
        world_restart(t); /* nothing of the user is in memory */
        mf_faulty_store_arm(t->store, ops[i], 0, 1, MF_E_IO);
        mf_query query = query_for(s.user, "cat");
        mf_results results;
        mf_rc rc = mf_service_query(t->service, &query, t->arena, &results, &t->err);
        assert_int_equal(rc, MF_E_IO);
        assert_int_equal(mf_faulty_store_fired(t->store), 1);
        mf_faulty_store_disarm(t->store);
        check_count(&s);
        world_close(t);
    }
}

static void a_connection_found_dead_before_its_read_is_replaced_unseen(void **state) {
    (void)state;
    stage s = stage_open(true);
    world *t = s.t;
    (void)add_one(t, s.session, "red cat");
    s.count++;
    flush_all(t);
    world_restart(t);
    mf_faulty_store_arm(t->store, "read_begin", 0, 1, MF_E_IO);
    mf_query query = query_for(s.user, "cat");
    mf_results results;
    OK(mf_service_query(t->service, &query, t->arena, &results, &t->err));
    assert_int_equal(results.count, 1);
    assert_int_equal(mf_faulty_store_fired(t->store), 1);
    mf_faulty_store_disarm(t->store);
    check_count(&s);
    world_close(t);
}

static void background_work_that_fails_is_done_again(void **state) {
    (void)state;
    static const char *const ops[] = {"chunk_put", "backlog_remove",
                                      "message_get_by_num", "commit"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        stage s = stage_open(true);
        world *t = s.t;
        for (; s.count < 4; s.count++) {
            (void)add_one(t, s.session, "red cat");
        }
        mf_faulty_store_arm(t->store, ops[i], 0, 2, MF_E_FULL);
        flush_all(t);
        mf_faulty_store_disarm(t->store);
        flush_all(t);
        assert_int_equal(status_of(t).store.chunks, s.count);
        assert_int_equal(status_of(t).embedding_pending, 0);
        check_count(&s);
        world_close(t);
    }
}

static void a_flush_ends_at_its_deadline(void **state) {
    (void)state;
    stage s = stage_open(true);
    world *t = s.t;
    mf_faulty_store_arm(t->store, "chunk_put", 0, UINT64_MAX, MF_E_FULL);
    (void)add_one(t, s.session, "red cat");
    FAILS(MF_E_TIMEOUT,
          mf_service_flush(t->service, s.user, mf_now_ns(), NULL, &t->err));
    mf_faulty_store_disarm(t->store);
    OK(mf_service_flush(t->service, s.user, mf_deadline_in_ms(60000), NULL, &t->err));
    assert_int_equal(status_of(t).store.chunks, 1);
    FAILS(MF_E_NOTFOUND, mf_service_flush(t->service, MF_STR("u"), mf_deadline_in_ms(1),
                                          NULL, &t->err));
    world_close(t);
}

/* The n-th allocation fails, for every n an add makes. */
static void short_memory_fails_an_add_or_not(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    stage s = {.t = t, .user = new_user(t, "alice"), .agent = new_agent(t, "helper")};
    s.session = new_session(t, s.user, s.agent, "s");
    check_count(&s);
    size_t refused = 0;
    bool fired = true;
    for (uint64_t n = 0; fired; n++) {
        mf_new_message message = {.content = MF_STR("red cat")};
        mf_uuid id;
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc =
            mf_service_add_wait(t->service, s.session, &message, 1, &id, &t->err);
        fired = mf_fault_fired();
        mf_fault_disarm();
        assert_true(rc == MF_OK || rc == MF_E_NOMEM);
        s.count += rc == MF_OK ? 1 : 0;
        refused += rc == MF_E_NOMEM ? 1 : 0;
        check_count(&s);
    }
    assert_true(refused > 0);
    world_close(t);
}

/* The same for a question whose user has to be loaded first. */
static void short_memory_fails_a_question_or_not(void **state) {
    (void)state;
    world *t =
        world_open((world_options){.no_model = true, .sets = {"user.active_max=1"}});
    stage s = {.t = t, .user = new_user(t, "alice"), .agent = new_agent(t, "helper")};
    s.session = new_session(t, s.user, s.agent, "s");
    for (; s.count < 3; s.count++) {
        (void)add_one(t, s.session, "red cat");
    }
    /* Made last: by then the writer thread has let go of alice. */
    mf_str other = new_user(t, "bob");
    size_t refused = 0;
    bool fired = true;
    for (uint64_t n = 0; fired; n++) {
        mf_query query = query_for(s.user, "cat");
        mf_results results;
        (void)ask(t, query_for(other, "cat")); /* drives alice out of memory */
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc = mf_service_query(t->service, &query, t->arena, &results, &t->err);
        fired = mf_fault_fired();
        mf_fault_disarm();
        assert_true(rc == MF_OK || rc == MF_E_NOMEM);
        assert_true(rc != MF_OK || results.count == s.count);
        refused += rc == MF_E_NOMEM ? 1 : 0;
    }
    assert_true(refused > 10);
    check_count(&s);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failing_write_changes_nothing),
        cmocka_unit_test(a_failing_edit_changes_nothing),
        cmocka_unit_test(a_failing_read_is_told_and_the_next_works),
        cmocka_unit_test(a_connection_found_dead_before_its_read_is_replaced_unseen),
        cmocka_unit_test(background_work_that_fails_is_done_again),
        cmocka_unit_test(a_flush_ends_at_its_deadline),
        cmocka_unit_test(short_memory_fails_an_add_or_not),
        cmocka_unit_test(short_memory_fails_a_question_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
