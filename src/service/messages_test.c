/* messages_test.c - messages of a session: order, window, edits, idempotency. */
#include "service/completion.h"
#include "service/service_testing.h"

typedef struct chat {
    world *t;
    mf_str user, agent, session;
} chat;

static chat chat_open(world_options options) {
    world *t = world_open(options);
    chat c = {.t = t, .user = new_user(t, "alice"), .agent = new_agent(t, "helper")};
    c.session = new_session(t, c.user, c.agent, "chat");
    return c;
}

static mf_message_row *list(world *t, mf_str session, mf_list_options options,
                            size_t *count) {
    mf_message_row *rows;
    OK(mf_service_messages_list(t->service, session, &options, t->arena, &rows, count,
                                &t->err));
    return rows;
}

/* The window and the rest are the whole, and the window is its end. */
static void check_parts(world *t, mf_str session) {
    size_t all_count;
    size_t window_count;
    size_t rest_count;
    mf_list_options options = {.limit = 100000};
    mf_message_row *all = list(t, session, options, &all_count);
    options.part = MF_LIST_REST;
    mf_message_row *rest = list(t, session, options, &rest_count);
    options.part = MF_LIST_WINDOW;
    mf_message_row *window = list(t, session, options, &window_count);
    assert_int_equal(rest_count + window_count, all_count);
    for (size_t i = 0; i < all_count; i++) {
        mf_message_row *part = i < rest_count ? &rest[i] : &window[i - rest_count];
        assert_true(mf_uuid_eq(all[i].id, part->id));
    }
}

static void a_listing_has_the_order_and_length_asked_for(void **state) {
    (void)state;
    chat c = chat_open((world_options){.no_model = true});
    world *t = c.t;
    mf_new_message round[3] = {{.role = MF_ROLE_USER, .content = MF_STR("one")},
                               {.role = MF_ROLE_ASSISTANT, .content = MF_STR("two")},
                               {.role = MF_ROLE_SYSTEM,
                                .content = MF_STR("three"),
                                .metadata = MF_STR("{\"a\":1}")}};
    mf_uuid ids[3];
    OK(mf_service_add_wait(t->service, c.session, round, 3, ids, &t->err));
    (void)add_one(t, c.session, "four");
    size_t count;
    mf_message_row *rows = list(t, c.session, (mf_list_options){.limit = 10}, &count);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < 3; i++) {
        assert_true(mf_uuid_eq(rows[i].id, ids[i]));
        assert_int_equal(rows[i].role, round[i].role);
        assert_true(mf_uuid_eq(rows[i].round_id, rows[0].round_id));
    }
    assert_text(rows[2].metadata, "{\"a\":1}");
    assert_null(rows[1].metadata.p);
    assert_false(mf_uuid_eq(rows[3].round_id, rows[0].round_id));
    rows =
        list(t, c.session, (mf_list_options){.limit = 1, .descending = true}, &count);
    assert_int_equal(count, 1);
    assert_text(rows[0].content, "four");
    rows = list(t, c.session, (mf_list_options){.limit = 10, .by_id = true}, &count);
    assert_int_equal(count, 4);
    for (size_t i = 1; i < 4; i++) {
        assert_true(memcmp(rows[i - 1].id.b, rows[i].id.b, MF_UUID_BYTES) < 0);
    }
    OK(mf_service_add_wait(t->service, c.session, NULL, 0, NULL, &t->err));
    assert_int_equal(list_count(t, c.session, MF_LIST_ALL), 4);
    world_close(t);
}

static void a_round_with_an_empty_message_stores_nothing(void **state) {
    (void)state;
    chat c = chat_open((world_options){.no_model = true});
    world *t = c.t;
    mf_new_message round[2] = {{.content = MF_STR("good")}, {.content = MF_STR("")}};
    mf_uuid ids[2];
    FAILS(MF_E_FORMAT,
          mf_service_add_wait(t->service, c.session, round, 2, ids, &t->err));
    assert_string_equal(t->err.field, "content");
    assert_int_equal(list_count(t, c.session, MF_LIST_ALL), 0);
    FAILS(MF_E_NOTFOUND,
          mf_service_add_wait(t->service, MF_STR("none"), round, 1, ids, &t->err));
    assert_blame(t, "session_id", "Session with ID 'none' not found");
    world_close(t);
}

static void the_window_is_the_newest_rounds_of_its_session(void **state) {
    (void)state;
    chat c = chat_open((world_options){.no_model = true,
                                       .sets = {"buffer.round_buffer.max_size=3",
                                                "buffer.round_buffer.max_tokens=20"}});
    world *t = c.t;
    mf_str other = new_session(t, c.user, c.agent, "other");
    for (int i = 0; i < 5; i++) {
        (void)add_one(t, c.session, "red");
        (void)add_one(t, other, "a word"); /* of no concern to the first */
        check_parts(t, c.session);
    }
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 3);
    assert_int_equal(list_count(t, c.session, MF_LIST_REST), 2);
    assert_int_equal(list_count(t, other, MF_LIST_WINDOW), 3);
    (void)add_one(t, c.session,
                  "ten words that make thirteen tokens by the estimate of it");
    check_parts(t, c.session);
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 3);
    (void)add_one(t, c.session,
                  "ten words that make thirteen tokens by the estimate of it");
    check_parts(t, c.session);
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 1);
    (void)add_one(
        t, c.session,
        "a round that is larger than the window takes in at all goes straight "
        "through it and leaves it empty for whatever is to come next");
    check_parts(t, c.session);
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 0);
    (void)add_one(t, c.session, "red");
    check_parts(t, c.session);
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 1);
    world_close(t);
}

static void without_the_buffer_the_window_is_empty(void **state) {
    (void)state;
    chat c =
        chat_open((world_options){.no_model = true, .sets = {"buffer.enabled=false"}});
    world *t = c.t;
    (void)add_one(t, c.session, "red");
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 0);
    assert_int_equal(list_count(t, c.session, MF_LIST_REST), 1);
    assert_int_equal(list_count(t, c.session, MF_LIST_ALL), 1);
    world_close(t);
}

static void edits_keep_the_window_right(void **state) {
    (void)state;
    chat c = chat_open(
        (world_options){.no_model = true, .sets = {"buffer.round_buffer.max_size=2"}});
    world *t = c.t;
    mf_str ids[4];
    for (size_t i = 0; i < 4; i++) {
        ids[i] = add_one(t, c.session, "red");
    }
    OK(mf_service_messages_delete(t->service, c.session, &ids[3], 1, &t->err));
    check_parts(t, c.session);
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 2);
    OK(mf_service_messages_delete(t->service, c.session, &ids[0], 3, &t->err));
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 0);
    (void)add_one(t, c.session, "red");
    assert_int_equal(list_count(t, c.session, MF_LIST_WINDOW), 1);
    world_close(t);
}

static void reading_gives_all_or_nothing(void **state) {
    (void)state;
    chat c = chat_open((world_options){.no_model = true});
    world *t = c.t;
    mf_str elsewhere = new_session(t, c.user, c.agent, "elsewhere");
    mf_str ids[3] = {add_one(t, c.session, "one"), add_one(t, c.session, "two"),
                     add_one(t, elsewhere, "three")};
    mf_str wanted[3] = {ids[1], ids[0], ids[1]};
    mf_message_row *rows;
    OK(mf_service_messages_read(t->service, c.session, wanted, 3, t->arena, &rows,
                                &t->err));
    assert_text(rows[0].content, "two");
    assert_text(rows[1].content, "one");
    assert_text(rows[2].content, "two");
    FAILS(MF_E_NOTFOUND,
          mf_service_messages_read(t->service, c.session, ids, 3, t->arena, &rows,
                                   &t->err)); /* of elsewhere */
    assert_blame(t, "message_ids", "Some message IDs were not found");
    ids[1] = MF_STR("no id");
    FAILS(MF_E_NOTFOUND, mf_service_messages_read(t->service, c.session, ids, 2,
                                                  t->arena, &rows, &t->err));
    OK(mf_service_messages_read(t->service, c.session, NULL, 0, t->arena, &rows,
                                &t->err));
    world_close(t);
}

static void an_update_changes_everything_or_nothing(void **state) {
    (void)state;
    chat c = chat_open((world_options){0});
    world *t = c.t;
    mf_str ids[2] = {add_one(t, c.session, "red cat"),
                     add_one(t, c.session, "green dog")};
    mf_new_message texts[2] = {{.role = MF_ROLE_ASSISTANT, .content = MF_STR("blue")},
                               {.role = MF_ROLE_USER, .content = MF_STR("runs")}};
    mf_results results = ask(t, query_for(c.user, "cat"));
    assert_int_equal(place_of(&results, "red cat"), 0);

    mf_str wrong[2] = {ids[0], c.session};
    FAILS(MF_E_NOTFOUND,
          mf_service_messages_update(t->service, c.session, wrong, texts, 2, &t->err));
    assert_blame(t, "message_ids", "Some message IDs were not found");
    mf_message_row *rows;
    OK(mf_service_messages_read(t->service, c.session, ids, 2, t->arena, &rows,
                                &t->err));
    assert_text(rows[0].content, "red cat");
    int64_t created_us = rows[0].created_us;
    int64_t updated_us = rows[0].updated_us;

    OK(mf_service_messages_update(t->service, c.session, ids, texts, 2, &t->err));
    OK(mf_service_messages_read(t->service, c.session, ids, 2, t->arena, &rows,
                                &t->err));
    assert_text(rows[0].content, "blue");
    assert_int_equal(rows[0].role, MF_ROLE_ASSISTANT);
    assert_int_equal(rows[0].created_us, created_us);
    assert_true(rows[0].updated_us > updated_us);
    mf_query query = query_for(c.user, "cat");
    query.path = MF_PATH_KEYWORD;
    results = ask(t, query);
    assert_int_equal(results.count, 0); /* the old words are gone */
    query.text = MF_STR("blue");
    results = ask(t, query);
    assert_int_equal(place_of(&results, "blue"), 0);
    results = ask(t, query_for(c.user, "blue"));
    assert_int_equal(place_of(&results, "blue"), 0);
    assert_true(results.rows[0].similarity != 0); /* and has a new vector */

    texts[0].content = MF_STR("");
    FAILS(MF_E_FORMAT,
          mf_service_messages_update(t->service, c.session, ids, texts, 2, &t->err));
    OK(mf_service_messages_update(t->service, c.session, NULL, NULL, 0, &t->err));
    world_close(t);
}

static void deleting_is_all_or_nothing(void **state) {
    (void)state;
    chat c = chat_open((world_options){0});
    world *t = c.t;
    mf_str ids[3] = {add_one(t, c.session, "red cat"),
                     add_one(t, c.session, "green dog"),
                     MF_STR("00000000-0000-4000-8000-000000000000")};
    assert_int_equal(ask(t, query_for(c.user, "cat")).count, 2);
    FAILS(MF_E_NOTFOUND,
          mf_service_messages_delete(t->service, c.session, ids, 3, &t->err));
    assert_int_equal(list_count(t, c.session, MF_LIST_ALL), 2);
    mf_str twice[2] = {ids[0], ids[0]};
    OK(mf_service_messages_delete(t->service, c.session, twice, 2, &t->err));
    assert_int_equal(list_count(t, c.session, MF_LIST_ALL), 1);
    mf_results results = ask(t, query_for(c.user, "cat"));
    assert_int_equal(results.count, 1);
    assert_text(results.rows[0].content, "green dog");
    FAILS(MF_E_NOTFOUND,
          mf_service_messages_delete(t->service, c.session, ids, 1, &t->err));
    world_close(t);
}

/* --- idempotency --- */

typedef struct answer {
    mf_completion completion;
    mf_uuid ids[4];
    size_t count;
    bool replayed, transfer;
    size_t window_rounds, window_tokens;
} answer;

static void keep_answer(void *ctx, mf_rc rc, const mf_add_result *result,
                        const mf_err *err) {
    answer *a = ctx;
    if (rc == MF_OK) {
        a->count = result->count;
        a->replayed = result->replayed;
        a->transfer = result->transfer_triggered;
        a->window_rounds = result->window_rounds;
        a->window_tokens = result->window_tokens;
        for (size_t i = 0; i < result->count; i++) {
            a->ids[i] = result->message_ids[i];
        }
    }
    mf_completion_finish(&a->completion, rc, err);
}

static mf_rc add_keyed(world *t, mf_str session, const char *first, mf_str key,
                       answer *out) {
    mf_new_message round[2] = {{.content = mf_str_from(first)},
                               {.content = MF_STR("reply")}};
    *out = (answer){0};
    mf_completion_init(&out->completion);
    mf_service_add(t->service, session, round, 2, key, keep_answer, out);
    return mf_completion_wait(&out->completion, &t->err);
}

static void a_repeated_key_has_no_second_effect(void **state) {
    (void)state;
    chat c = chat_open((world_options){.no_model = true, .sqlite = true});
    world *t = c.t;
    mf_str other = new_session(t, c.user, c.agent, "other");
    answer first;
    answer again;
    OK(add_keyed(t, c.session, "hello", MF_STR("key-1"), &first));
    assert_false(first.replayed);
    OK(add_keyed(t, c.session, "hello", MF_STR("key-1"), &again));
    assert_true(again.replayed);
    assert_int_equal(again.count, 2);
    assert_memory_equal(again.ids, first.ids, 2 * sizeof(mf_uuid));
    FAILS(MF_E_INVAL, add_keyed(t, c.session, "other text", MF_STR("key-1"), &again));
    assert_string_equal(t->err.field, "idempotency_key");
    FAILS(MF_E_INVAL, add_keyed(t, other, "hello", MF_STR("key-1"), &again));
    world_restart(t);
    OK(add_keyed(t, c.session, "hello", MF_STR("key-1"), &again));
    assert_true(again.replayed);
    OK(add_keyed(t, c.session, "hello", MF_STR("key-2"), &again));
    assert_false(again.replayed);
    assert_int_equal(list_count(t, c.session, MF_LIST_ALL), 4);
    char long_key[300];
    memset(long_key, 'k', sizeof long_key);
    FAILS(MF_E_INVAL, add_keyed(t, c.session, "hello",
                                (mf_str){long_key, sizeof long_key}, &again));
    world_close(t);
}

static void an_add_tells_about_the_window(void **state) {
    (void)state;
    chat c = chat_open(
        (world_options){.no_model = true, .sets = {"buffer.round_buffer.max_size=2"}});
    world *t = c.t;
    answer a;
    OK(add_keyed(t, c.session, "one", MF_STR_NONE, &a));
    assert_int_equal(a.window_rounds, 1);
    assert_true(a.window_tokens > 0);
    OK(add_keyed(t, c.session, "two", MF_STR_NONE, &a));
    assert_false(a.transfer);
    OK(add_keyed(t, c.session, "three", MF_STR_NONE, &a));
    assert_true(a.transfer);
    assert_int_equal(a.window_rounds, 2);
    mf_service_status status = status_of(t);
    assert_int_equal(status.total_writes, 3);
    assert_int_equal(status.total_transfers, 1);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listing_has_the_order_and_length_asked_for),
        cmocka_unit_test(a_round_with_an_empty_message_stores_nothing),
        cmocka_unit_test(the_window_is_the_newest_rounds_of_its_session),
        cmocka_unit_test(without_the_buffer_the_window_is_empty),
        cmocka_unit_test(edits_keep_the_window_right),
        cmocka_unit_test(reading_gives_all_or_nothing),
        cmocka_unit_test(an_update_changes_everything_or_nothing),
        cmocka_unit_test(deleting_is_all_or_nothing),
        cmocka_unit_test(a_repeated_key_has_no_second_effect),
        cmocka_unit_test(an_add_tells_about_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
