/* vector_reuse_test.c - a text is encoded once, whoever stores it and also after a
 * restart, and not a moment longer than somebody has it stored. */
#include "service/service_testing.h"

typedef struct place {
    mf_str user, session;
} place;

static place new_place(world *t, const char *name) {
    place p = {.user = new_user(t, name)};
    p.session = new_session(t, p.user, new_agent(t, name), name);
    return p;
}

/* Stores a text and waits until its vector is committed. */
static mf_str store(world *t, place p, const char *text) {
    mf_str id = add_one(t, p.session, text);
    flush_all(t);
    return id;
}

static mf_embedder_stats figures(world *t) {
    return status_of(t).embedder;
}

static const bool backends[] = {false, true};

static void the_same_text_of_two_users_is_encoded_once(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        world *t = world_open((world_options){.sqlite = backends[i]});
        place ann = new_place(t, "ann");
        place bob = new_place(t, "bob");
        (void)store(t, ann, "the red cat runs");
        (void)store(t, bob, "the red cat runs");
        assert_int_equal(figures(t).encoded, 1);
        assert_int_equal(figures(t).memory_hits, 1);
        mf_uuid item;
        OK(mf_service_knowledge_add(t->service, bob.user, &MF_STR("the red cat runs"),
                                    1, &item, &t->err));
        flush_all(t);
        assert_int_equal(figures(t).encoded, 1);
        assert_int_equal(status_of(t).store.chunks, 3);
        world_close(t);
    }
}

static void a_text_stored_before_a_restart_is_not_encoded_again(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    place ann = new_place(t, "ann");
    (void)store(t, ann, "the red cat runs");
    mf_results before = ask(t, query_for(ann.user, "red dogs"));
    assert_int_equal(before.count, 1);
    world_restart(t);
    place bob = new_place(t, "bob");
    (void)store(t, bob, "the red cat runs");
    assert_int_equal(figures(t).store_hits, 1);
    assert_int_equal(figures(t).encoded, 0);
    /* A vector found is the vector that was made, to the bit: it scores the same. */
    mf_results after = ask(t, query_for(bob.user, "red dogs"));
    assert_int_equal(after.count, 1);
    assert_true(after.rows[0].similarity == before.rows[0].similarity);
    assert_int_equal(figures(t).encoded, 1); /* the question, which is not stored */
    mf_results loaded = ask(t, query_for(ann.user, "red dogs"));
    assert_true(loaded.rows[0].similarity == before.rows[0].similarity);
    world_close(t);
}

static void a_text_of_several_parts_is_found_part_by_part(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    char text[4 * 60 + 1] = "";
    for (size_t i = 0; i < 60; i++) {
        memcpy(text + 4 * i, i % 3 == 0 ? "red " : i % 7 == 0 ? "cat " : "dog ", 4);
    }
    place ann = new_place(t, "ann");
    (void)store(t, ann, text);
    uint64_t parts = figures(t).encoded;
    assert_true(parts > 1);
    world_restart(t);
    (void)store(t, new_place(t, "bob"), text);
    assert_int_equal(figures(t).store_hits, parts);
    assert_int_equal(figures(t).encoded, 0);
    world_close(t);
}

static void an_edit_to_a_known_text_encodes_nothing(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        world *t = world_open((world_options){.sqlite = backends[i]});
        place ann = new_place(t, "ann");
        place bob = new_place(t, "bob");
        mf_str id = store(t, ann, "green dogs");
        (void)store(t, bob, "the red cat runs");
        assert_int_equal(figures(t).encoded, 2);
        mf_new_message message = {.role = MF_ROLE_USER,
                                  .content = MF_STR("the red cat runs")};
        OK(mf_service_messages_update(t->service, ann.session, &id, &message, 1,
                                      &t->err));
        flush_all(t);
        assert_int_equal(figures(t).encoded, 2);
        assert_int_equal(figures(t).store_hits, 1);
        /* Nobody has the old text any more. */
        (void)store(t, bob, "green dogs");
        assert_int_equal(figures(t).encoded, 3);
        world_close(t);
    }
}

static void delete_message(world *t, place p, mf_str id) {
    OK(mf_service_messages_delete(t->service, p.session, &id, 1, &t->err));
}

static void delete_session(world *t, place p, mf_str id) {
    (void)id;
    OK(mf_service_session_delete(t->service, p.session, &t->err));
}

static void delete_user(world *t, place p, mf_str id) {
    (void)id;
    OK(mf_service_named_delete(t->service, MF_NAMED_USER, p.user, &t->err));
}

static void (*const deletions[])(world *t, place p, mf_str id) = {
    delete_message, delete_session, delete_user};

static void a_deleted_text_is_forgotten_with_its_last_owner(void **state) {
    (void)state;
    for (size_t way = 0; way < 6; way++) {
        world *t = world_open((world_options){.sqlite = way >= 3});
        void (*const remove)(world *, place, mf_str) = deletions[way % 3];
        place ann = new_place(t, "ann");
        place bob = new_place(t, "bob");
        mf_str anns = store(t, ann, "the red cat runs");
        mf_str bobs = store(t, bob, "the red cat runs");
        assert_int_equal(figures(t).encoded, 1);
        remove(t, ann, anns);
        (void)store(t, new_place(t, "cleo"), "green dogs");
        mf_str again = store(t, bob, "the red cat runs"); /* bob still has it */
        assert_int_equal(figures(t).encoded, 2);
        assert_int_equal(figures(t).store_hits, 1);
        if (deletions[way % 3] == delete_message) {
            remove(t, bob, again);
        }
        remove(t, bob, bobs);
        (void)store(t, new_place(t, "dora"), "the red cat runs");
        assert_int_equal(figures(t).encoded, 3);
        assert_int_equal(figures(t).store_hits, 1);
        world_close(t);
    }
}

static void vectors_of_another_precision_are_not_used(void **state) {
    (void)state;
    world *t =
        world_open((world_options){.sqlite = true, .precision = MF_PRECISION_FP32});
    place ann = new_place(t, "ann");
    (void)store(t, ann, "the red cat runs");
    t->options.precision = MF_PRECISION_INT8;
    world_restart(t);
    (void)store(t, new_place(t, "bob"), "the red cat runs");
    assert_int_equal(figures(t).store_hits, 0);
    assert_int_equal(figures(t).encoded, 1);
    t->options.precision = MF_PRECISION_FP32;
    world_restart(t);
    (void)store(t, new_place(t, "cleo"), "the red cat runs");
    assert_int_equal(figures(t).store_hits, 1);
    assert_int_equal(figures(t).encoded, 0);
    world_close(t);
}

/* The key depends on a secret of the store: what somebody works out with another one,
 * here another store's, leads nowhere. */
static void a_key_of_another_store_finds_nothing(void **state) {
    (void)state;
    const mf_str text = MF_STR("the red cat runs");
    mf_content_key keys[2];
    for (size_t i = 0; i < 2; i++) {
        world *t = world_open((world_options){.sqlite = true});
        (void)store(t, new_place(t, "ann"), "the red cat runs");
        mf_embed_call call = {.cls = MF_EMBED_INGEST, .deadline_ns = MF_NEVER};
        float out[TINY_HIDDEN];
        uint16_t vector[TINY_HIDDEN];
        bool found[2] = {false, false};
        mf_conn *conn;
        OK(mf_embedder_encode(t->embedder, &call, &text, 1, &keys[i], out, &t->err));
        OK(mf_conn_acquire(t->readers, MF_NEVER, &conn, &t->err));
        OK(conn->ops->chunk_find(conn, &keys[i], 1, TINY_HIDDEN, vector, &found[0],
                                 &t->err));
        OK(conn->ops->chunk_find(conn, &keys[0], 1, TINY_HIDDEN, vector, &found[1],
                                 &t->err));
        mf_conn_release(t->readers, conn, MF_OK);
        assert_true(found[0]);
        assert_int_equal(found[1], i == 0);
        world_close(t);
    }
}

static void what_the_store_cannot_tell_is_encoded(void **state) {
    (void)state;
    world *t = world_open((world_options){.faulty = true});
    place ann = new_place(t, "ann");
    mf_faulty_store_arm(t->store, "chunk_find", 0, 1, MF_E_IO);
    (void)store(t, ann, "the red cat runs");
    assert_int_equal(figures(t).store_failures, 1);
    assert_int_equal(figures(t).encoded, 1);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_text_of_two_users_is_encoded_once),
        cmocka_unit_test(a_text_stored_before_a_restart_is_not_encoded_again),
        cmocka_unit_test(a_text_of_several_parts_is_found_part_by_part),
        cmocka_unit_test(an_edit_to_a_known_text_encodes_nothing),
        cmocka_unit_test(a_deleted_text_is_forgotten_with_its_last_owner),
        cmocka_unit_test(vectors_of_another_precision_are_not_used),
        cmocka_unit_test(a_key_of_another_store_finds_nothing),
        cmocka_unit_test(what_the_store_cannot_tell_is_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
