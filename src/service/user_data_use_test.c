/* user_data_use_test.c - what the user-data caches save a service, and that nobody gets
 * to see what was true before a write. */
#include "service/service_testing.h"

enum { TRIES = 10000 };

static mf_named_row get(world *t, mf_str id) {
    mf_named_row row = {.created_us = 0};
    OK(mf_service_named_get(t->service, MF_NAMED_USER, id, t->arena, &row, &t->err));
    return row;
}

static uint64_t reads(world *t) {
    mf_conn_pool_stats stats;
    mf_conn_pool_get_stats(t->readers, &stats);
    return stats.acquired;
}

static void a_user_asked_for_again_costs_no_read(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    (void)get(t, user);
    uint64_t before = reads(t);
    assert_text(get(t, user).name, "alice");
    mf_named_row row;
    OK(mf_service_named_find(t->service, MF_NAMED_USER, MF_STR("alice"), t->arena, &row,
                             &t->err));
    assert_text(id_text(t, row.id), user.p);
    assert_int_equal(reads(t), before);
    world_close(t);
}

static void a_renamed_or_deleted_user_is_not_seen_as_it_was(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_named_row row = get(t, user);
    OK(mf_service_named_update(t->service, MF_NAMED_USER, user, MF_STR("bob"),
                               MF_STR_NONE, t->arena, &row, &t->err));
    assert_text(get(t, user).name, "bob");
    FAILS(MF_E_NOTFOUND,
          mf_service_named_find(t->service, MF_NAMED_USER, MF_STR("alice"), t->arena,
                                &row, &t->err));
    OK(mf_service_named_delete(t->service, MF_NAMED_USER, user, &t->err));
    FAILS(MF_E_NOTFOUND, mf_service_named_get(t->service, MF_NAMED_USER, user, t->arena,
                                              &row, &t->err));
    FAILS(MF_E_NOTFOUND, mf_service_named_find(t->service, MF_NAMED_USER, MF_STR("bob"),
                                               t->arena, &row, &t->err));
    world_close(t);
}

static void counts_are_taken_anew_after_a_write_only(void **state) {
    (void)state;
    world *t = world_open((world_options){.no_model = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    assert_int_equal(status_of(t).store.messages, 0);
    uint64_t before = reads(t);
    assert_int_equal(status_of(t).store.sessions, 1);
    uint64_t cached = reads(t) - before;
    (void)add_one(t, session, "one more");
    before = reads(t);
    assert_int_equal(status_of(t).store.messages, 1);
    assert_int_equal(reads(t) - before, cached + 1);
    world_close(t);
}

static void flushing_a_user_again_does_not_load_it(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "my parrot is red");
    OK(mf_service_flush(t->service, user, mf_deadline_in_ms(60000), NULL, &t->err));
    /* It leaves as soon as the worker that embedded it has let go of it. */
    for (int i = 0; i < TRIES && status_of(t).users.count > 0; i++) {
        mf_memory_cleanup done;
        OK(mf_memory_guard_cleanup(mf_service_memory_guard(t->service), MF_NEVER, &done,
                                   &t->err));
    }
    assert_int_equal(status_of(t).users.count, 0);
    OK(mf_service_flush(t->service, user, mf_deadline_in_ms(60000), NULL, &t->err));
    assert_int_equal(status_of(t).index_documents, 0);
    (void)add_one(t, session, "and so is the cat");
    OK(mf_service_flush(t->service, user, mf_deadline_in_ms(60000), NULL, &t->err));
    assert_int_equal(status_of(t).store.chunks, 2);
    assert_int_equal(status_of(t).embedding_pending, 0);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_asked_for_again_costs_no_read),
        cmocka_unit_test(a_renamed_or_deleted_user_is_not_seen_as_it_was),
        cmocka_unit_test(counts_are_taken_anew_after_a_write_only),
        cmocka_unit_test(flushing_a_user_again_does_not_load_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
