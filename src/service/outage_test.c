/* outage_test.c - the store fails for a while and comes back, the wall clock jumps:
 * nothing acknowledged is lost, nothing refused appears, order is kept. */
#include <sched.h>
#include <stdatomic.h>

#include "base/mutex.h"
#include "service/service_testing.h"

enum { WRITERS = 4, OUTAGES = 6, ADDS_BETWEEN = 16 };
enum { ADDS_MAX = 2 * OUTAGES * ADDS_BETWEEN };

/* One thread that adds to a session of its own, whatever comes of it. */
typedef struct adder {
    world *t;
    mf_str session;
    mf_thread thread;
    mf_uuid kept[ADDS_MAX]; /* acknowledged, in order */
    int count, refused;
    struct pace *pace;
} adder;

/* Adds that may be begun, and those that have ended. */
typedef struct pace {
    atomic_int allowed, begun, ended;
    atomic_bool stop;
} pace;

/* true when one more add may begin; waits for it. */
static bool begin(pace *p) {
    for (int n = atomic_load(&p->begun); !atomic_load(&p->stop);
         n = atomic_load(&p->begun)) {
        if (n >= atomic_load(&p->allowed)) {
            (void)sched_yield();
        } else if (atomic_compare_exchange_weak(&p->begun, &n, n + 1)) {
            return true;
        }
    }
    return false;
}

static void run_adder(void *arg) {
    adder *a = arg;
    mf_err err;
    while (begin(a->pace)) {
        mf_new_message message = {.content = MF_STR("red cat")};
        mf_uuid id;
        mf_rc rc =
            mf_service_add_wait(a->t->service, a->session, &message, 1, &id, &err);
        if (rc == MF_OK) {
            a->kept[a->count++] = id;
        } else {
            a->refused++;
        }
        atomic_fetch_add(&a->pace->ended, 1);
    }
}

/* Lets so many adds begin, and returns when all but the last few have ended. */
static void let_pass(pace *p, int count) {
    int allowed = atomic_fetch_add(&p->allowed, count) + count;
    while (atomic_load(&p->ended) < allowed - WRITERS + 1) {
        (void)sched_yield();
    }
}

static void check_adder(const adder *a) {
    world *t = a->t;
    mf_message_row *rows;
    size_t count;
    mf_list_options options = {.limit = ADDS_MAX + 1, .part = MF_LIST_ALL};
    OK(mf_service_messages_list(t->service, a->session, &options, t->arena, &rows,
                                &count, &t->err));
    assert_int_equal(count, a->count);
    for (size_t i = 0; i < count; i++) {
        assert_true(mf_uuid_eq(rows[i].id, a->kept[i]));
    }
}

/* An operation that fails for everybody until it is mended, again and again, while
 * threads write and the background embeds and commits. */
static void outages_of(const char *op, bool reaches_writes) {
    static adder adders[WRITERS];
    static pace p;
    p = (pace){.stop = false};
    world *t = world_open((world_options){
        .sqlite = true, .faulty = true, .sets = {"buffer.hybrid_buffer.max_size=1"}});
    mf_str user = new_user(t, "alice");
    mf_str agent = new_agent(t, "helper");
    for (int i = 0; i < WRITERS; i++) {
        adders[i] =
            (adder){.t = t, .session = new_session(t, user, agent, NULL), .pace = &p};
        OK(mf_thread_start(&adders[i].thread, "adder", run_adder, &adders[i], &t->err));
    }
    for (int i = 0; i < OUTAGES; i++) {
        mf_faulty_store_arm(t->store, op, 0, UINT64_MAX, MF_E_FULL);
        let_pass(&p, ADDS_BETWEEN);
        mf_faulty_store_disarm(t->store);
        let_pass(&p, ADDS_BETWEEN);
    }
    atomic_store(&p.stop, true);
    size_t kept = 0;
    int refused = 0;
    for (int i = 0; i < WRITERS; i++) {
        mf_thread_join(&adders[i].thread);
        kept += (size_t)adders[i].count;
        refused += adders[i].refused;
    }
    assert_true(kept > 0);
    assert_int_equal(refused > 0, reaches_writes);
    flush_all(t);
    for (int restarted = 0; restarted < 2; restarted++) {
        for (int i = 0; i < WRITERS; i++) {
            check_adder(&adders[i]);
        }
        mf_service_status status = status_of(t);
        assert_int_equal(status.store.messages, kept);
        assert_int_equal(status.store.chunks, kept);
        assert_int_equal(status.embedding_pending, 0);
        world_restart(t);
    }
    world_close(t);
}

static void a_store_that_cannot_insert_for_a_while_loses_nothing(void **state) {
    (void)state;
    outages_of("message_insert", true);
}

static void a_store_that_cannot_commit_for_a_while_loses_nothing(void **state) {
    (void)state;
    outages_of("commit", true);
}

static void a_store_that_takes_no_vectors_for_a_while_gets_them_later(void **state) {
    (void)state;
    outages_of("chunk_put", false);
}

static void a_store_that_does_nothing_for_a_while_loses_nothing(void **state) {
    (void)state;
    outages_of("*", true);
}

/* --- the wall clock --- */

static atomic_llong wall_offset_us;

static int64_t real_mono_ns(void *ctx) {
    (void)ctx;
    return mf_clock_system()->mono_ns(NULL);
}

static int64_t moved_wall_us(void *ctx) {
    (void)ctx;
    return mf_clock_system()->wall_us(NULL) + atomic_load(&wall_offset_us);
}

static const mf_clock moved_clock = {real_mono_ns, moved_wall_us, NULL};

enum { DAY_S = 86400, JUMPS = 6 };

static void jump(int i) {
    static const int64_t days[JUMPS] = {0, 3650, -3650, 1, -1, 0};
    atomic_store(&wall_offset_us, days[i] * DAY_S * 1000000);
}

static void a_jump_of_the_wall_clock_changes_nothing_but_stamps(void **state) {
    (void)state;
    world *t = world_open((world_options){
        .sqlite = true,
        .sets = {"buffer.round_buffer.max_size=3", "user.idle_timeout_s=3600"}});
    mf_clock_set(&moved_clock);
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_str ids[JUMPS];
    for (int i = 0; i < JUMPS; i++) {
        char text[32];
        jump(i);
        (void)snprintf(text, sizeof text, "red cat w%d", i);
        ids[i] = add_one(t, session, text);
        flush_all(t); /* a vector that arrives makes answers old */
        mf_query query = query_for(user, strrchr(text, ' ') + 1);
        query.path = MF_PATH_KEYWORD;
        assert_int_equal(ask(t, query).count, 1);
        jump((i + 1) % JUMPS);
        mf_results again = ask(t, query);
        assert_int_equal(again.count, 1);
        assert_int_equal(again.source, MF_ANSWER_CACHED);
        assert_int_equal(status_of(t).users.count, 1);
        assert_int_equal(list_count(t, session, MF_LIST_WINDOW), i < 3 ? i + 1 : 3);
    }
    for (int restarted = 0; restarted < 2; restarted++) {
        mf_message_row *rows;
        size_t count;
        mf_list_options options = {.limit = 100, .part = MF_LIST_ALL};
        OK(mf_service_messages_list(t->service, session, &options, t->arena, &rows,
                                    &count, &t->err));
        assert_int_equal(count, JUMPS);
        for (int i = 0; i < JUMPS; i++) {
            assert_true(mf_str_eq(id_text(t, rows[i].id), ids[i]));
        }
        assert_int_equal(status_of(t).store.chunks, JUMPS);
        world_restart(t);
    }
    mf_clock_set(NULL);
    world_close(t);
}

/* A text edited while the clock stands years earlier is the newer one all the same. */
static void an_edit_dated_before_its_text_wins(void **state) {
    (void)state;
    world *t = world_open((world_options){.sqlite = true});
    mf_clock_set(&moved_clock);
    atomic_store(&wall_offset_us, 0);
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    mf_str id = add_one(t, session, "red cat");
    flush_all(t);
    atomic_store(&wall_offset_us, -(int64_t)3650 * DAY_S * 1000000);
    mf_new_message message = {.content = MF_STR("green dog")};
    OK(mf_service_messages_update(t->service, session, &id, &message, 1, &t->err));
    flush_all(t);
    for (int restarted = 0; restarted < 2; restarted++) {
        mf_results results = ask(t, query_for(user, "green dog"));
        assert_int_equal(results.count, 1);
        assert_text(results.rows[0].content, "green dog");
        assert_true(results.rows[0].similarity > 0.99F);
        world_restart(t);
    }
    mf_clock_set(NULL);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_cannot_insert_for_a_while_loses_nothing),
        cmocka_unit_test(a_store_that_cannot_commit_for_a_while_loses_nothing),
        cmocka_unit_test(a_store_that_takes_no_vectors_for_a_while_gets_them_later),
        cmocka_unit_test(a_store_that_does_nothing_for_a_while_loses_nothing),
        cmocka_unit_test(a_jump_of_the_wall_clock_changes_nothing_but_stamps),
        cmocka_unit_test(an_edit_dated_before_its_text_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
