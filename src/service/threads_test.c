/* threads_test.c - many callers at once see one consistent memory. */
#include "base/mutex.h"
#include "service/completion.h"
#include "service/service_testing.h"

enum { THREADS = 6, STEPS = 40, USERS = 3 };

typedef struct caller {
    world *t;
    mf_arena *arena;
    int number;
    mf_str user, session;
    int kept; /* messages it added and did not delete */
    int failed;
} caller;

static mf_str text_of(mf_arena *arena, mf_uuid id) {
    char text[MF_UUID_TEXT + 1];
    mf_uuid_format(id, text);
    return mf_arena_str(arena, mf_str_from(text));
}

/* Adds a text only this step has, finds it, changes it, and deletes every third. */
static int one_step(caller *c, int step) {
    mf_service *service = c->t->service;
    char text[64];
    char changed[64];
    mf_err err;
    mf_uuid id;
    mf_results results;
    (void)snprintf(text, sizeof text, "red cat a%dx%d", c->number, step);
    (void)snprintf(changed, sizeof changed, "green dog b%dx%d", c->number, step);
    mf_new_message message = {.content = mf_str_from(text)};
    mf_query query = query_for(c->user, strrchr(text, ' ') + 1);
    query.path = MF_PATH_KEYWORD;
    if (mf_service_add_wait(service, c->session, &message, 1, &id, &err) != MF_OK ||
        mf_service_query(service, &query, c->arena, &results, &err) != MF_OK ||
        place_of(&results, text) != 0) {
        return 1;
    }
    mf_str id_str = text_of(c->arena, id);
    message.content = mf_str_from(changed);
    if (mf_service_messages_update(service, c->session, &id_str, &message, 1, &err) !=
            MF_OK ||
        mf_service_query(service, &query, c->arena, &results, &err) != MF_OK ||
        results.count != 0) {
        return 1;
    }
    query.text = mf_str_from(strrchr(changed, ' ') + 1);
    query.path = MF_PATH_BLEND;
    if (mf_service_query(service, &query, c->arena, &results, &err) != MF_OK ||
        place_of(&results, changed) < 0) {
        return 1;
    }
    if (step % 3 == 0) {
        return mf_service_messages_delete(service, c->session, &id_str, 1, &err) !=
               MF_OK;
    }
    c->kept++;
    return 0;
}

static void run_caller(void *arg) {
    caller *c = arg;
    for (int step = 0; step < STEPS; step++) {
        c->failed += one_step(c, step);
        mf_arena_reset(c->arena);
    }
}

static void run_callers(world *t, const mf_str *users, const mf_str *sessions) {
    caller callers[THREADS] = {0};
    mf_thread threads[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (caller){.t = t,
                              .number = i,
                              .user = users[i % USERS],
                              .session = sessions[i % USERS]};
        OK(mf_arena_new(WORLD_ARENA_MAX, &callers[i].arena, &t->err));
    }
    for (int i = 0; i < THREADS; i++) {
        OK(mf_thread_start(&threads[i], "caller", run_caller, &callers[i], &t->err));
    }
    int kept = 0;
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(callers[i].failed, 0);
        kept += callers[i].kept;
        mf_arena_free(callers[i].arena);
    }
    flush_all(t);
    mf_service_status status = status_of(t);
    assert_int_equal(status.store.messages, kept);
    assert_int_equal(status.store.chunks, kept);
}

static void many_threads(world_options options) {
    world *t = world_open(options);
    mf_str agent = new_agent(t, "helper");
    mf_str users[USERS];
    mf_str sessions[USERS];
    for (int u = 0; u < USERS; u++) {
        char name[16];
        (void)snprintf(name, sizeof name, "user%d", u);
        users[u] = new_user(t, name);
        sessions[u] = new_session(t, users[u], agent, "s");
    }
    run_callers(t, users, sessions);
    world_close(t);
}

static void everybody_finds_what_it_just_wrote(void **state) {
    (void)state;
    many_threads((world_options){0});
}

static void everybody_finds_it_while_users_come_and_go(void **state) {
    (void)state;
    many_threads((world_options){.sqlite = true, .sets = {"user.active_max=1"}});
}

/* --- the first question of a user, asked by many --- */

typedef struct asker {
    world *t;
    mf_str user;
    mf_arena *arena;
    size_t found;
} asker;

static void run_asker(void *arg) {
    asker *a = arg;
    mf_query query = query_for(a->user, "cat");
    mf_results results = {0};
    query.top_k = 100;
    if (mf_service_query(a->t->service, &query, a->arena, &results, NULL) == MF_OK) {
        a->found = results.count;
    }
}

static void first_questions_share_a_load_and_miss_nothing(void **state) {
    (void)state;
    enum { MESSAGES = 50 };
    world *t = world_open((world_options){.sqlite = true});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    for (int i = 0; i < MESSAGES; i++) {
        (void)add_one(t, session, "red cat");
    }
    flush_all(t);
    world_restart(t);
    asker askers[THREADS];
    mf_thread threads[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        askers[i] = (asker){.t = t, .user = user};
        OK(mf_arena_new(WORLD_ARENA_MAX, &askers[i].arena, &t->err));
        OK(mf_thread_start(&threads[i], "asker", run_asker, &askers[i], &t->err));
    }
    size_t added = 0;
    for (; added < 5; added++) {
        (void)add_one(t, session, "green cat"); /* while the load may be under way */
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
        assert_true(askers[i].found >= MESSAGES && askers[i].found <= MESSAGES + added);
        mf_arena_free(askers[i].arena);
    }
    mf_query query = query_for(user, "cat");
    query.top_k = 100;
    assert_int_equal(ask(t, query).count, MESSAGES + added);
    world_close(t);
}

/* --- a writer that cannot keep up --- */

typedef struct gate {
    mf_mutex gate_mu;
    mf_cond gate_cond;
    bool entered, open; /* guarded by gate_mu */
} gate;

static mf_rc gate_run(mf_conn *conn, void *ctx, mf_err *err) {
    gate *g = ctx;
    (void)conn;
    (void)err;
    mf_mutex_lock(&g->gate_mu);
    g->entered = true;
    mf_cond_broadcast(&g->gate_cond);
    while (!g->open) {
        (void)mf_cond_wait(&g->gate_cond, &g->gate_mu, MF_NEVER);
    }
    mf_mutex_unlock(&g->gate_mu);
    return MF_OK;
}

static void gate_done(void *ctx, mf_rc rc, const mf_err *err) {
    (void)ctx;
    (void)rc;
    (void)err;
}

typedef struct tally {
    mf_mutex tally_mu;
    mf_cond tally_cond;
    int stored, busy, other; /* guarded by tally_mu */
} tally;

static void count_answer(void *ctx, mf_rc rc, const mf_add_result *result,
                         const mf_err *err) {
    tally *counts = ctx;
    (void)result;
    (void)err;
    mf_mutex_lock(&counts->tally_mu);
    *(rc == MF_OK       ? &counts->stored
      : rc == MF_E_BUSY ? &counts->busy
                        : &counts->other) += 1;
    mf_cond_signal(&counts->tally_cond);
    mf_mutex_unlock(&counts->tally_mu);
}

/* Waits until so many answers came; returns how many of them were of a stored round. */
static int wait_for_answers(tally *counts, int answers) {
    mf_mutex_lock(&counts->tally_mu);
    while (counts->stored + counts->busy + counts->other < answers) {
        (void)mf_cond_wait(&counts->tally_cond, &counts->tally_mu, MF_NEVER);
    }
    int stored = counts->stored;
    mf_mutex_unlock(&counts->tally_mu);
    return stored;
}

static void open_gate(gate *g) {
    mf_mutex_lock(&g->gate_mu);
    g->open = true;
    mf_cond_broadcast(&g->gate_cond);
    mf_mutex_unlock(&g->gate_mu);
}

static void a_full_queue_is_told_and_loses_nothing(void **state) {
    (void)state;
    enum { ADDS = 20, ROOM = 4 };
    world *t = world_open((world_options){.no_model = true, .queue_max = ROOM});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    gate g = {0};
    tally counts = {0};
    mf_mutex_init(&g.gate_mu, MF_RANK_LEAF);
    mf_cond_init(&g.gate_cond);
    mf_mutex_init(&counts.tally_mu, MF_RANK_LEAF);
    mf_cond_init(&counts.tally_cond);
    mf_write block = {.run = gate_run, .done = gate_done, .ctx = &g};
    OK(mf_writer_submit(t->writer, &block, &t->err));
    mf_mutex_lock(&g.gate_mu);
    while (!g.entered) {
        (void)mf_cond_wait(&g.gate_cond, &g.gate_mu, MF_NEVER);
    }
    mf_mutex_unlock(&g.gate_mu);
    for (int i = 0; i < ADDS; i++) {
        mf_new_message message = {.content = MF_STR("red cat")};
        mf_service_add(t->service, session, &message, 1, MF_STR_NONE, count_answer,
                       &counts);
    }
    /* Those refused know at once; none is told it is stored before it is durable. */
    assert_int_equal(wait_for_answers(&counts, ADDS - ROOM), 0);
    open_gate(&g);
    assert_int_equal(wait_for_answers(&counts, ADDS), ROOM);
    assert_int_equal(counts.busy, ADDS - ROOM);
    assert_int_equal(list_count(t, session, MF_LIST_ALL), ROOM);
    assert_int_equal(ask(t, query_for(user, "cat")).count, ROOM);
    world_close(t);
    mf_cond_done(&g.gate_cond);
    mf_mutex_done(&g.gate_mu);
    mf_cond_done(&counts.tally_cond);
    mf_mutex_done(&counts.tally_mu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_finds_what_it_just_wrote),
        cmocka_unit_test(everybody_finds_it_while_users_come_and_go),
        cmocka_unit_test(first_questions_share_a_load_and_miss_nothing),
        cmocka_unit_test(a_full_queue_is_told_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
