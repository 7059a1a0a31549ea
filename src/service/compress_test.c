/* compress_test.c - a run packs what is cold, can be called off and goes on, and nobody
 * who reads or writes meanwhile sees a difference. */
#include "service/compress.h"
#include "service/service_testing.h"

enum { SESSIONS = 3, LISTS = 60, LIST = 4 };

typedef struct talk {
    mf_str user, sessions[SESSIONS];
} talk;

static const world_options options = {
    .sqlite = true,
    .no_model = true,
    .sets = {"store.compress_after_messages=0", "store.compress_after_s=0"}};

static void add_texts(world *t, const talk *told) {
    static const char *const words[] = {"the ", "trip ", "to Japan ", "in May ",
                                        "we ",  "will ", "think ",    "about it "};
    for (size_t s = 0; s < SESSIONS; s++) {
        for (size_t n = 0; n < LISTS; n++) {
            mf_new_message messages[LIST];
            mf_uuid ids[LIST];
            for (size_t i = 0; i < LIST; i++) {
                mf_str text = mf_arena_printf(t->arena, "%zu.%zu.%zu ", s, n, i);
                char long_text[700];
                memcpy(long_text, text.p, text.len);
                size_t len = text.len;
                for (size_t k = n * 7 + i; len < 600; k = k * 31 + 11) {
                    memcpy(long_text + len, words[k % 8], strlen(words[k % 8]));
                    len += strlen(words[k % 8]);
                }
                messages[i] = (mf_new_message){
                    .role = MF_ROLE_USER,
                    .content = mf_arena_str(t->arena, (mf_str){long_text, len})};
            }
            OK(mf_service_add_wait(t->service, told->sessions[s], messages, LIST, ids,
                                   &t->err));
        }
    }
}

static talk open_talk(world *t) {
    talk told = {.user = new_user(t, "u")};
    mf_str agent = new_agent(t, "a");
    for (size_t s = 0; s < SESSIONS; s++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%zu", s);
        told.sessions[s] = new_session(t, told.user, agent, name);
    }
    add_texts(t, &told);
    return told;
}

/* All texts of the session, one behind the other. */
static mf_str told_in(world *t, mf_str session) {
    mf_list_options list = {.limit = SIZE_MAX};
    mf_message_row *rows;
    size_t count;
    OK(mf_service_messages_list(t->service, session, &list, t->arena, &rows, &count,
                                &t->err));
    mf_buf all;
    mf_buf_init(&all, (size_t)64 << 20);
    for (size_t i = 0; i < count; i++) {
        mf_rc rc = mf_buf_add_str(&all, rows[i].content);
        assert_int_equal(rc, MF_OK);
    }
    mf_str copy = mf_arena_str(t->arena, mf_buf_view(&all));
    mf_buf_done(&all);
    return copy;
}

static mf_rc run_once(world *t, mf_compress *compress, const atomic_bool *stop) {
    mf_job_kind kind = mf_compress_kind(compress);
    mf_arena *arena;
    OK(mf_arena_new(WORLD_ARENA_MAX, &arena, &t->err));
    mf_job_run run = {
        .stop = stop, .readers = t->readers, .writer = t->writer, .arena = arena};
    mf_rc rc = kind.run(kind.ctx, &run, &t->err);
    mf_arena_free(arena);
    return rc;
}

static mf_rc verify(mf_conn *conn, void *ctx, mf_err *err) {
    (void)ctx;
    return conn->ops->verify(conn, err);
}

static void a_run_packs_what_is_cold_and_reads_stay_the_same(void **state) {
    (void)state;
    world *t = world_open(options);
    talk told = open_talk(t);
    atomic_bool stop = false;
    mf_compress compress;
    mf_compress_stats stats;
    mf_str before[SESSIONS];
    for (size_t s = 0; s < SESSIONS; s++) {
        before[s] = told_in(t, told.sessions[s]);
    }
    mf_compress_init(&compress, t->settings);
    OK(run_once(t, &compress, &stop));
    mf_compress_get_stats(&compress, &stats);
    assert_int_equal(stats.runs, 1);
    assert_int_equal(stats.trained, 1);
    assert_int_equal(stats.messages, SESSIONS * LISTS * LIST);
    assert_int_equal(stats.packed, stats.messages);
    assert_true(stats.bytes_after * 2 < stats.bytes_before);
    for (size_t s = 0; s < SESSIONS; s++) {
        assert_true(mf_str_eq(told_in(t, told.sessions[s]), before[s]));
    }
    OK(mf_writer_run(t->writer, verify, NULL, &t->err));
    OK(run_once(t, &compress, &stop)); /* nothing is left */
    mf_compress_get_stats(&compress, &stats);
    assert_int_equal(stats.messages, SESSIONS * LISTS * LIST);
    assert_int_equal(stats.trained, 1);
    world_restart(t);
    mf_results results = ask(t, query_for(told.user, "trip to Japan in May"));
    assert_int_equal(results.count, 10);
    for (size_t s = 0; s < SESSIONS; s++) {
        assert_true(mf_str_eq(told_in(t, told.sessions[s]), before[s]));
    }
    world_close(t);
}

static void a_run_called_off_is_gone_on_with(void **state) {
    (void)state;
    world *t = world_open(options);
    talk told = open_talk(t);
    atomic_bool stop = true;
    mf_compress compress;
    mf_compress_stats stats;
    mf_compress_init(&compress, t->settings);
    assert_int_equal(run_once(t, &compress, &stop), MF_E_STOPPING);
    mf_compress_get_stats(&compress, &stats);
    assert_int_equal(stats.runs, 0);
    assert_int_equal(stats.packed, 0);
    atomic_store(&stop, false);
    OK(run_once(t, &compress, &stop));
    add_texts(t, &told);
    OK(run_once(t, &compress, &stop));
    mf_compress_get_stats(&compress, &stats);
    assert_int_equal(stats.runs, 2);
    assert_int_equal(stats.messages, 2 * SESSIONS * LISTS * LIST);
    world_close(t);
}

static void an_edited_message_is_packed_again(void **state) {
    (void)state;
    world *t = world_open(options);
    talk told = open_talk(t);
    atomic_bool stop = false;
    mf_compress compress;
    mf_compress_stats stats;
    mf_compress_init(&compress, t->settings);
    mf_str id = add_one(t, told.sessions[0], "a short one");
    OK(run_once(t, &compress, &stop));
    mf_compress_get_stats(&compress, &stats);
    uint64_t packed = stats.packed;
    mf_new_message message = {
        .role = MF_ROLE_USER,
        .content = MF_STR("the trip to Japan in May, we will think about it, "
                          "about the trip to Japan in May")};
    OK(mf_service_messages_update(t->service, told.sessions[0], &id, &message, 1,
                                  &t->err));
    OK(run_once(t, &compress, &stop));
    mf_compress_get_stats(&compress, &stats);
    assert_int_equal(stats.packed, packed + 1);
    mf_message_row *rows;
    OK(mf_service_messages_read(t->service, told.sessions[0], &id, 1, t->arena, &rows,
                                &t->err));
    assert_true(mf_str_eq(rows[0].content, message.content));
    world_close(t);
}

static void newest_and_young_messages_stay_plain(void **state) {
    (void)state;
    world_options young = options;
    young.sets[0] = "store.compress_after_s=3600";
    young.sets[1] = "store.compress_after_messages=0";
    world_options newest = options;
    newest.sets[0] = "store.compress_after_messages=100000";
    const world_options cases[] = {young, newest};
    for (size_t i = 0; i < 2; i++) {
        world *t = world_open(cases[i]);
        (void)open_talk(t);
        atomic_bool stop = false;
        mf_compress compress;
        mf_compress_stats stats;
        mf_compress_init(&compress, t->settings);
        OK(run_once(t, &compress, &stop));
        mf_compress_get_stats(&compress, &stats);
        assert_int_equal(stats.runs, 1);
        assert_int_equal(stats.messages, 0);
        world_close(t);
    }
}

static void a_store_in_memory_has_nothing_to_pack(void **state) {
    (void)state;
    world_options memory = options;
    memory.sqlite = false;
    world *t = world_open(memory);
    (void)open_talk(t);
    atomic_bool stop = false;
    mf_compress compress;
    mf_compress_stats stats;
    mf_compress_init(&compress, t->settings);
    OK(run_once(t, &compress, &stop));
    mf_compress_get_stats(&compress, &stats);
    assert_int_equal(stats.runs, 1);
    assert_int_equal(stats.messages + stats.trained, 0);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_packs_what_is_cold_and_reads_stay_the_same),
        cmocka_unit_test(a_run_called_off_is_gone_on_with),
        cmocka_unit_test(an_edited_message_is_packed_again),
        cmocka_unit_test(newest_and_young_messages_stay_plain),
        cmocka_unit_test(a_store_in_memory_has_nothing_to_pack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
