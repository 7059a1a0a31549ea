/* flush_test.c - what moves rounds and vectors on: each trigger, each strategy, each
 * way a flush can fail.  Nothing acknowledged is ever lost by any of them, and what a
 * flush empties stays empty. */
#include <sched.h>

#include "base/fault.h"
#include "base/mutex.h"
#include "service/service_testing.h"

typedef struct stage {
    world *t;
    mf_str user, agent, session;
} stage;

static stage stage_open(world_options options) {
    stage s = {.t = world_open(options)};
    s.user = new_user(s.t, "alice");
    s.agent = new_agent(s.t, "helper");
    s.session = new_session(s.t, s.user, s.agent, "s");
    return s;
}

static const char *const words[] = {"red", "green", "blue", "cat", "dog", "runs"};

/* Texts differ, so that each costs an encoding and is a vector of its own. */
static void add_many(world *t, mf_str session, int count) {
    for (int i = 0; i < count; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s %s n%d", words[i % 6], words[i / 6 % 6],
                       i);
        (void)add_one(t, session, text);
    }
}

/* Looks at the status until `reached` says so; fails the test after a minute. */
static mf_service_status wait_for(world *t, bool (*reached)(const mf_service_status *s),
                                  int line) {
    int64_t deadline_ns = mf_deadline_in_ms(60000);
    for (;;) {
        mf_service_status status = status_of(t);
        if (reached(&status)) {
            return status;
        }
        if (mf_now_ns() > deadline_ns) {
            fail_msg("line %d: it does not come to that", line);
        }
        (void)sched_yield();
    }
}
#define WAIT(reached) wait_for(t, (reached), __LINE__)

static bool all_embedded(const mf_service_status *s) {
    return s->embedding_pending == 0 && s->index_vectors >= s->store.messages &&
           s->flush.running == 0 && s->flush.queued == 0;
}

static mf_flush_result flush_user(world *t, mf_str user) {
    mf_flush_result result;
    OK(mf_service_flush(t->service, user, mf_deadline_in_ms(60000), &result, &t->err));
    return result;
}

/* Both parts of a session: disjoint, and together everything. */
static void check_parts(world *t, mf_str session, size_t window, size_t rest) {
    assert_int_equal(list_count(t, session, MF_LIST_WINDOW), window);
    assert_int_equal(list_count(t, session, MF_LIST_REST), rest);
    assert_int_equal(list_count(t, session, MF_LIST_ALL), window + rest);
}

/* --- a flush that somebody asks for --- */

static void a_flush_empties_the_windows_for_good(void **state) {
    (void)state;
    for (int model = 0; model < 2; model++) {
        stage s = stage_open((world_options){.sqlite = true, .no_model = model == 0});
        world *t = s.t;
        mf_str other = new_session(t, s.user, s.agent, "other");
        mf_str bob = new_user(t, "bob");
        mf_str of_bob = new_session(t, bob, s.agent, "s");
        add_many(t, s.session, 7);
        add_many(t, other, 2);
        add_many(t, of_bob, 2);
        check_parts(t, s.session, 5, 2);
        mf_flush_result result = flush_user(t, s.user);
        assert_int_equal(result.rounds_transferred, 5 + 2);
        assert_int_equal(
            status_of(t).buffers.counts.transfer_triggers[MF_TRANSFER_MANUAL], 1);
        if (model != 0) {
            assert_true(status_of(t).store.chunks >= 9);
            assert_true(result.vectors_committed <= 9);
        }
        for (int restarted = 0; restarted < 2; restarted++) {
            check_parts(t, s.session, 0, 7);
            check_parts(t, other, 0, 2);
            check_parts(t, of_bob, 2, 0);
            world_restart(t);
        }
        add_many(t, s.session, 3);
        check_parts(t, s.session, 3, 7);
        world_restart(t);
        check_parts(t, s.session, 3, 7);
        assert_int_equal(flush_user(t, s.user).rounds_transferred, 3);
        assert_int_equal(flush_user(t, s.user).rounds_transferred, 0);
        check_parts(t, s.session, 0, 10);
        assert_int_equal(mf_service_session_delete(t->service, s.session, &t->err),
                         MF_OK);
        (void)flush_user(t, s.user);
        world_close(t);
    }
}

static void a_flush_is_of_one_user(void **state) {
    (void)state;
    stage s = stage_open((world_options){.sqlite = true});
    world *t = s.t;
    mf_str bob = new_user(t, "bob");
    mf_str of_bob = new_session(t, bob, s.agent, "s");
    add_many(t, s.session, 2);
    add_many(t, of_bob, 3);
    (void)WAIT(all_embedded);
    mf_flush_result result = flush_user(t, s.user);
    assert_int_equal(result.vectors_committed, 2);
    mf_service_status status = status_of(t);
    assert_int_equal(status.store.chunks, 2);
    assert_int_equal(status.buffers.hybrid.chunks, 3);
    assert_int_equal(status.buffers.counts.flush_triggers[MF_FLUSH_MANUAL], 1);
    assert_int_equal(status.buffers.counts.flushed_chunks, 2);
    assert_true(status.hybrid_oldest_ms >= 0);
    check_parts(t, of_bob, 3, 0);
    world_close(t);
}

static void a_flushed_user_that_left_memory_stays_flushed(void **state) {
    (void)state;
    stage s =
        stage_open((world_options){.no_model = true, .sets = {"user.active_max=1"}});
    world *t = s.t;
    mf_str bob = new_user(t, "bob");
    mf_str of_bob = new_session(t, bob, s.agent, "s");
    add_many(t, s.session, 4);
    (void)flush_user(t, s.user);
    for (int i = 0; i < 3; i++) {
        add_many(t, of_bob, 1);
        check_parts(t, s.session, (size_t)i, 4);
        add_many(t, s.session, 1);
    }
    check_parts(t, of_bob, 3, 0);
    world_close(t);
}

/* An edit makes a window unknown; what is read again is still behind the flush. */
static void edits_do_not_bring_flushed_rounds_back(void **state) {
    (void)state;
    stage s = stage_open((world_options){.no_model = true});
    world *t = s.t;
    mf_str id = add_one(t, s.session, "red cat");
    add_many(t, s.session, 2);
    (void)flush_user(t, s.user);
    add_many(t, s.session, 2);
    mf_new_message message = {.content = MF_STR("green dog")};
    OK(mf_service_messages_update(t->service, s.session, &id, &message, 1, &t->err));
    check_parts(t, s.session, 2, 3);
    OK(mf_service_messages_delete(t->service, s.session, &id, 1, &t->err));
    check_parts(t, s.session, 2, 2);
    world_close(t);
}

/* --- strategies and triggers --- */

static bool size_commits(const mf_service_status *s) {
    return s->buffers.counts.flush_triggers[MF_FLUSH_SIZE] > 0;
}
static bool time_commits(const mf_service_status *s) {
    return s->buffers.counts.flush_triggers[MF_FLUSH_TIME] > 0;
}
static bool idle_commits(const mf_service_status *s) {
    return s->buffers.counts.flush_triggers[MF_FLUSH_IDLE] > 0;
}
static bool leaving_commits(const mf_service_status *s) {
    return s->buffers.counts.flush_triggers[MF_FLUSH_LEAVING] > 0;
}
static bool time_transfers(const mf_service_status *s) {
    return s->buffers.counts.transfer_triggers[MF_TRANSFER_TIME] > 0 &&
           s->buffers.round.rounds == 0 && s->flush.window_flushes > 0;
}
static bool idle_transfers(const mf_service_status *s) {
    return s->buffers.counts.transfer_triggers[MF_TRANSFER_IDLE] > 0 &&
           s->buffers.round.rounds == 0;
}
static bool all_committed(const mf_service_status *s) {
    return s->store.messages > 0 && s->store.chunks == s->store.messages;
}

static void hybrid_moves_rounds_by_size_and_vectors_by_size_or_time(void **state) {
    (void)state;
    stage s = stage_open((world_options){.sqlite = true});
    world *t = s.t;
    add_many(t, s.session, 5);
    (void)WAIT(all_embedded);
    mf_service_status status = status_of(t);
    assert_int_equal(status.buffers.hybrid.rounds, 5);
    assert_int_equal(status.buffers.counts.flushes, 0);
    assert_int_equal(status.buffers.counts.transfers, 0);
    add_many(t, s.session, 1);
    status = WAIT(size_commits);
    assert_int_equal(status.buffers.counts.transfer_triggers[MF_TRANSFER_SIZE_LIMIT],
                     1);
    assert_int_equal(status.buffers.counts.flush_triggers[MF_FLUSH_TIME], 0);
    check_parts(t, s.session, 5, 1);
    world_close(t);

    s = stage_open(
        (world_options){.sqlite = true, .sets = {"buffer.flush_interval_ms=10"}});
    t = s.t;
    add_many(t, s.session, 2);
    (void)WAIT(time_commits);
    (void)WAIT(all_committed);
    check_parts(t, s.session, 2, 0); /* time commits vectors, and leaves windows */
    world_close(t);
}

static void size_based_waits_for_size_alone(void **state) {
    (void)state;
    stage s = stage_open((world_options){
        .sqlite = true,
        .sets = {"buffer.flush.strategy=size_based", "buffer.flush_interval_ms=10"}});
    world *t = s.t;
    add_many(t, s.session, 5);
    (void)WAIT(all_embedded);
    int64_t until_ns = mf_now_ns() + INT64_C(30) * MF_NS_PER_MS;
    while (mf_now_ns() < until_ns) { /* three intervals */
        assert_int_equal(status_of(t).buffers.counts.flushes, 0);
    }
    add_many(t, s.session, 1);
    (void)WAIT(size_commits);
    (void)WAIT(all_committed);
    assert_int_equal(status_of(t).buffers.counts.flush_triggers[MF_FLUSH_TIME], 0);
    check_parts(t, s.session, 5, 1);
    world_close(t);
}

static void time_based_waits_for_time_alone(void **state) {
    (void)state;
    stage s = stage_open(
        (world_options){.sqlite = true, .sets = {"buffer.flush.strategy=time_based"}});
    world *t = s.t;
    add_many(t, s.session, 12);
    (void)WAIT(all_embedded);
    assert_int_equal(status_of(t).buffers.counts.flushes, 0);
    assert_int_equal(status_of(t).buffers.counts.transfers, 0);
    check_parts(t, s.session, 12, 0); /* however many there are */
    world_restart(t);
    check_parts(t, s.session, 12, 0);
    world_close(t);

    s = stage_open((world_options){
        .sqlite = true,
        .sets = {"buffer.flush.strategy=time_based", "buffer.flush_interval_ms=20"}});
    t = s.t;
    mf_str other = new_session(t, s.user, s.agent, "other");
    add_many(t, s.session, 3);
    add_many(t, other, 2);
    (void)WAIT(time_transfers);
    (void)WAIT(all_committed);
    mf_service_status status = status_of(t);
    assert_true(status.flush.window_flushes > 0);
    assert_int_equal(status.buffers.counts.transfers, 5);
    assert_int_equal(status.buffers.counts.flush_triggers[MF_FLUSH_SIZE], 0);
    check_parts(t, s.session, 0, 3);
    world_restart(t);
    check_parts(t, s.session, 0, 3);
    check_parts(t, other, 0, 2);
    world_close(t);
}

static void immediate_holds_nothing(void **state) {
    (void)state;
    static const char *const sets[] = {"buffer.flush.strategy=immediate",
                                       "buffer.enabled=false"};
    for (size_t i = 0; i < 2; i++) {
        stage s = stage_open((world_options){.sqlite = true, .sets = {sets[i]}});
        world *t = s.t;
        add_many(t, s.session, 3);
        check_parts(t, s.session, 0, 3);
        mf_service_status status = WAIT(all_committed);
        assert_true(status.buffers.counts.flush_triggers[MF_FLUSH_IMMEDIATE] > 0);
        assert_int_equal(status.buffers.counts.flushes,
                         status.buffers.counts.flush_triggers[MF_FLUSH_IMMEDIATE]);
        assert_int_equal(status.buffers.counts.transfer_triggers[MF_TRANSFER_IMMEDIATE],
                         3);
        assert_int_equal(status.buffers.round.rounds, 0);
        assert_int_equal(flush_user(t, s.user).rounds_transferred, 0);
        check_parts(t, s.session, 0, 3);
        world_close(t);
    }
}

static void an_idle_user_is_flushed_under_every_strategy(void **state) {
    (void)state;
    static const char *const sets[] = {
        "buffer.flush.strategy=hybrid", "buffer.flush.strategy=size_based",
        "buffer.flush.strategy=time_based", "buffer.hybrid_buffer.auto_flush=false"};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        stage s = stage_open((world_options){
            .sqlite = true, .sets = {sets[i], "buffer.flush.idle_timeout_ms=20"}});
        world *t = s.t;
        add_many(t, s.session, 3);
        (void)WAIT(idle_transfers);
        (void)WAIT(all_committed);
        (void)WAIT(idle_commits);
        check_parts(t, s.session, 0, 3);
        world_restart(t);
        check_parts(t, s.session, 0, 3);
        world_close(t);
    }
}

static void without_a_model_windows_are_emptied_all_the_same(void **state) {
    (void)state;
    stage s = stage_open(
        (world_options){.no_model = true, .sets = {"buffer.flush.idle_timeout_ms=20"}});
    world *t = s.t;
    add_many(t, s.session, 3);
    (void)WAIT(idle_transfers);
    check_parts(t, s.session, 0, 3);
    assert_int_equal(status_of(t).flush.workers, 1);
    world_close(t);
}

static void a_change_of_session_empties_the_one_before_if_asked(void **state) {
    (void)state;
    for (int on = 0; on < 2; on++) {
        stage s = stage_open((world_options){
            .sqlite = true,
            .no_model = true,
            .sets = {on != 0
                         ? "buffer.round_buffer.transfer_on_session_change=true"
                         : "buffer.round_buffer.transfer_on_session_change=false"}});
        world *t = s.t;
        mf_str other = new_session(t, s.user, s.agent, "other");
        mf_str bob = new_user(t, "bob");
        mf_str of_bob = new_session(t, bob, s.agent, "s");
        add_many(t, s.session, 2);
        add_many(t, of_bob, 1); /* another user changes nothing */
        check_parts(t, s.session, 2, 0);
        add_many(t, other, 3);
        for (int restarted = 0; restarted < 2; restarted++) {
            check_parts(t, s.session, on != 0 ? 0 : 2, on != 0 ? 2 : 0);
            check_parts(t, other, 3, 0);
            check_parts(t, of_bob, 1, 0);
            if (restarted == 0) {
                assert_int_equal(
                    status_of(t)
                        .buffers.counts.transfer_triggers[MF_TRANSFER_SESSION_CHANGE],
                    (uint64_t)on);
                world_restart(t);
            }
        }
        add_many(t, other, 1);
        add_many(t, s.session, 1);
        check_parts(t, s.session, on != 0 ? 1 : 3, on != 0 ? 2 : 0);
        check_parts(t, other, on != 0 ? 0 : 4, on != 0 ? 4 : 0);
        world_close(t);
    }
}

static void vectors_wait_for_a_flush_when_told_to(void **state) {
    (void)state;
    stage s =
        stage_open((world_options){.sqlite = true,
                                   .sets = {"buffer.hybrid_buffer.auto_flush=false",
                                            "buffer.flush_interval_ms=10"}});
    world *t = s.t;
    add_many(t, s.session, 9);
    (void)WAIT(all_embedded);
    mf_service_status status = status_of(t);
    assert_int_equal(status.buffers.hybrid.rounds, 9);
    assert_int_equal(status.buffers.counts.flushes, 0);
    mf_query query = query_for(s.user, "red red n0");
    mf_results results = ask(t, query); /* and can be found meanwhile */
    assert_true(results.count > 0 && results.rows[0].similarity > 0.9F);
    assert_true(results.rows[0].buffered);
    assert_int_equal(flush_user(t, s.user).vectors_committed, 9);
    world_close(t);
}

static void more_bytes_than_allowed_are_committed_whatever_the_settings(void **state) {
    (void)state;
    stage s =
        stage_open((world_options){.sqlite = true,
                                   .sets = {"buffer.hybrid_buffer.auto_flush=false",
                                            "buffer.hybrid_buffer.max_bytes=4096"}});
    world *t = s.t;
    for (int i = 0; i < 40; i++) {
        add_many(t, s.session, 4);
    }
    mf_service_status status = WAIT(size_commits);
    assert_true(status.buffers.counts.flushed_chunks > 0);
    (void)WAIT(all_embedded);
    assert_true(status_of(t).buffers.hybrid.bytes <= 4096);
    world_close(t);
}

static void a_user_who_must_leave_is_committed_first(void **state) {
    (void)state;
    stage s =
        stage_open((world_options){.sqlite = true, .sets = {"user.active_max=1"}});
    world *t = s.t;
    mf_str bob = new_user(t, "bob");
    mf_str of_bob = new_session(t, bob, s.agent, "s");
    add_many(t, s.session, 1);
    add_many(t, of_bob, 1);
    (void)WAIT(leaving_commits);
    check_parts(t, s.session, 1, 0);
    world_close(t);
}

/* --- several rounds at once --- */

typedef struct batch_answer {
    mf_mutex answer_mu;
    mf_cond answered;
    bool done; /* guarded by answer_mu, like the rest */
    mf_rc rc;
    mf_err err;
    size_t count;
    mf_uuid ids[16];
    size_t window_rounds;
    bool transfer_triggered;
} batch_answer;

static void take_answer(void *ctx, mf_rc rc, const mf_add_result *result,
                        const mf_err *err) {
    batch_answer *answer = ctx;
    mf_mutex_lock(&answer->answer_mu);
    answer->rc = rc;
    if (rc == MF_OK) {
        answer->count = result->count;
        memcpy(answer->ids, result->message_ids, result->count * sizeof(mf_uuid));
        answer->window_rounds = result->window_rounds;
        answer->transfer_triggered = result->transfer_triggered;
    } else {
        answer->err = *err;
    }
    answer->done = true;
    mf_cond_signal(&answer->answered);
    mf_mutex_unlock(&answer->answer_mu);
}

static batch_answer add_batch(world *t, const mf_new_round *rounds, size_t count) {
    batch_answer answer = {0};
    mf_mutex_init(&answer.answer_mu, MF_RANK_LEAF);
    mf_cond_init(&answer.answered);
    mf_service_add_batch(t->service, rounds, count, take_answer, &answer);
    mf_mutex_lock(&answer.answer_mu);
    while (!answer.done) {
        (void)mf_cond_wait(&answer.answered, &answer.answer_mu, MF_NEVER);
    }
    mf_mutex_unlock(&answer.answer_mu);
    mf_cond_done(&answer.answered);
    mf_mutex_done(&answer.answer_mu);
    return answer;
}

static void a_batch_is_stored_in_order_or_not_at_all(void **state) {
    (void)state;
    for (int on = 0; on < 2; on++) {
        stage s = stage_open((world_options){
            .sqlite = true,
            .no_model = true,
            .sets = {on != 0 ? "buffer.round_buffer.transfer_on_session_change=true"
                             : "buffer.round_buffer.max_size=5"}});
        world *t = s.t;
        mf_str other = new_session(t, s.user, s.agent, "other");
        mf_str of_bob = new_session(t, new_user(t, "bob"), s.agent, "s");
        mf_new_message texts[4] = {{.content = MF_STR("one")},
                                   {.content = MF_STR("two")},
                                   {.content = MF_STR("three")},
                                   {.content = MF_STR("four")}};
        mf_new_round rounds[3] = {
            {s.session, texts, 2}, {other, texts + 2, 1}, {s.session, texts + 3, 1}};
        batch_answer answer = add_batch(t, rounds, 3);
        assert_int_equal(answer.rc, MF_OK);
        assert_int_equal(answer.count, 4);
        assert_int_equal(status_of(t).total_writes, 3);
        assert_int_equal(status_of(t).buffers.counts.batches[MF_BATCH_GROUPED],
                         on == 0);
        for (size_t i = 0; i < 4; i++) {
            mf_message_row *row;
            mf_str id = id_text(t, answer.ids[i]);
            OK(mf_service_messages_read(t->service, i == 2 ? other : s.session, &id, 1,
                                        t->arena, &row, &t->err));
            assert_true(mf_str_eq(row->content, texts[i].content));
        }
        for (int restarted = 0; restarted < 2; restarted++) {
            check_parts(t, s.session, on != 0 ? 1 : 3, on != 0 ? 2 : 0);
            check_parts(t, other, on != 0 ? 0 : 1, on != 0 ? 1 : 0);
            world_restart(t);
        }
        mf_query query = query_for(s.user, "three");
        assert_int_equal(ask(t, query).count, 1);

        rounds[1].session_id = of_bob;
        assert_int_equal(add_batch(t, rounds, 3).rc, MF_E_INVAL);
        rounds[1].session_id = MF_STR("nope");
        answer = add_batch(t, rounds, 3);
        assert_int_equal(answer.rc, MF_E_NOTFOUND);
        assert_string_equal(answer.err.field, "session_id");
        rounds[1].session_id = other;
        rounds[1].count = 0;
        assert_int_equal(add_batch(t, rounds, 3).rc, MF_E_INVAL);
        assert_int_equal(status_of(t).store.messages, 4);
        world_close(t);
    }
}

static void a_failing_batch_leaves_nothing(void **state) {
    (void)state;
    stage s = stage_open((world_options){
        .sqlite = true,
        .faulty = true,
        .no_model = true,
        .sets = {"buffer.round_buffer.transfer_on_session_change=true"}});
    world *t = s.t;
    mf_str other = new_session(t, s.user, s.agent, "other");
    mf_new_message text = {.content = MF_STR("one")};
    mf_new_round rounds[2] = {{s.session, &text, 1}, {other, &text, 1}};
    static const char *const ops[] = {"message_insert", "window_close", "commit"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        mf_faulty_store_arm(t->store, ops[i], i == 0 ? 1 : 0, 1, MF_E_FULL);
        assert_int_equal(add_batch(t, rounds, 2).rc, MF_E_FULL);
        mf_faulty_store_disarm(t->store);
        check_parts(t, s.session, 0, 0);
        check_parts(t, other, 0, 0);
    }
    assert_int_equal(add_batch(t, rounds, 2).rc, MF_OK);
    check_parts(t, s.session, 0, 1);
    check_parts(t, other, 1, 0);
    world_close(t);
}

/* --- what goes wrong --- */

/* A worker gives up between its steps: nothing is lost and nothing is done twice. */
static void a_worker_stopped_between_its_steps_loses_nothing(void **state) {
    (void)state;
    static const char *const points[] = {"flush.embedded", "flush.taken",
                                         "flush.committed"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        for (uint64_t nth = 0; nth < 2; nth++) {
            stage s = stage_open((world_options){.sqlite = true});
            world *t = s.t;
            mf_fault_arm(points[i], nth, false);
            add_many(t, s.session, 8);
            flush_all(t);
            (void)flush_user(t, s.user);
            mf_service_status status = status_of(t);
            assert_true(nth > 0 || mf_fault_fired());
            assert_int_equal(status.flush.failed, mf_fault_fired() ? 1 : 0);
            assert_int_equal(status.flush.retried, status.flush.failed);
            mf_fault_disarm();
            assert_int_equal(status.store.chunks, 8);
            assert_int_equal(status.flush.retrying, 0);
            world_restart(t);
            assert_int_equal(list_count(t, s.session, MF_LIST_ALL), 8);
            flush_all(t);
            assert_int_equal(status_of(t).store.chunks, 8);
            world_close(t);
        }
    }
}

static void a_store_that_fails_and_comes_back_has_everything_in_order(void **state) {
    (void)state;
    stage s = stage_open((world_options){.sqlite = true, .faulty = true});
    world *t = s.t;
    add_many(t, s.session, 3);
    (void)WAIT(all_embedded);
    mf_faulty_store_arm(t->store, "begin", 0, 3, MF_E_FULL);
    mf_flush_result result;
    int refused = 0; /* the flush's own write may meet the failure, and tells so */
    while (mf_service_flush(t->service, s.user, mf_deadline_in_ms(60000), &result,
                            &t->err) != MF_OK) {
        assert_int_equal(t->err.rc, MF_E_FULL);
        refused++;
    }
    assert_true(refused <= 3);
    mf_faulty_store_disarm(t->store);
    add_many(t, s.session, 3);
    (void)flush_user(t, s.user);
    assert_int_equal(status_of(t).store.chunks, 6);
    mf_list_options options = {.limit = 100};
    mf_message_row *rows;
    size_t count;
    OK(mf_service_messages_list(t->service, s.session, &options, t->arena, &rows,
                                &count, &t->err));
    assert_int_equal(count, 6);
    for (size_t i = 1; i < count; i++) {
        assert_true(rows[i - 1].num < rows[i].num);
    }
    world_close(t);
}

static void windows_that_could_not_be_emptied_are_emptied_later(void **state) {
    (void)state;
    stage s = stage_open((world_options){.sqlite = true,
                                         .faulty = true,
                                         .no_model = true,
                                         .sets = {"buffer.flush.idle_timeout_ms=20"}});
    world *t = s.t;
    mf_faulty_store_arm(t->store, "window_close", 0, 2, MF_E_FULL);
    add_many(t, s.session, 3);
    mf_service_status status = WAIT(idle_transfers);
    assert_int_equal(mf_faulty_store_fired(t->store), 2);
    assert_int_equal(status.flush.window_failures, 2);
    check_parts(t, s.session, 0, 3);
    world_close(t);
}

/* --- a store that does not answer --- */

typedef struct gate {
    mf_write write;
    mf_mutex gate_mu;
    mf_cond gate_cond;
    bool entered, open, done; /* guarded by gate_mu */
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
    gate *g = ctx;
    (void)rc;
    (void)err;
    mf_mutex_lock(&g->gate_mu);
    g->done = true;
    mf_cond_broadcast(&g->gate_cond);
    mf_mutex_unlock(&g->gate_mu);
}

/* The writer stands still from here until gate_open. */
static void gate_close(world *t, gate *g) {
    *g = (gate){.write = {.run = gate_run, .done = gate_done}};
    g->write.ctx = g;
    mf_mutex_init(&g->gate_mu, MF_RANK_LEAF);
    mf_cond_init(&g->gate_cond);
    OK(mf_writer_submit(t->writer, &g->write, &t->err));
    mf_mutex_lock(&g->gate_mu);
    while (!g->entered) {
        (void)mf_cond_wait(&g->gate_cond, &g->gate_mu, MF_NEVER);
    }
    mf_mutex_unlock(&g->gate_mu);
}

static void gate_open(gate *g) {
    mf_mutex_lock(&g->gate_mu);
    g->open = true;
    mf_cond_broadcast(&g->gate_cond);
    while (!g->done) {
        (void)mf_cond_wait(&g->gate_cond, &g->gate_mu, MF_NEVER);
    }
    mf_mutex_unlock(&g->gate_mu);
    mf_cond_done(&g->gate_cond);
    mf_mutex_done(&g->gate_mu);
}

static bool two_failed(const mf_service_status *s) {
    return s->flush.failed >= 2;
}

static void a_flush_gives_up_waiting_and_is_done_later(void **state) {
    (void)state;
    stage s = stage_open((world_options){
        .sqlite = true,
        .sets = {"buffer.flush.timeout_ms=10", "buffer.flush_interval_ms=10"}});
    world *t = s.t;
    add_many(t, s.session, 1);
    flush_all(t);
    gate g;
    gate_close(t, &g);
    mf_query query = query_for(s.user, "red");
    query.top_k = 100;
    /* Questions go on, and a worker that waited in vain comes back for another try. */
    mf_new_message text = {.content = MF_STR("green dog")};
    mf_new_round round = {s.session, &text, 1};
    batch_answer answer = {0};
    mf_mutex_init(&answer.answer_mu, MF_RANK_LEAF);
    mf_cond_init(&answer.answered);
    mf_service_add_batch(t->service, &round, 1, take_answer, &answer);
    assert_int_equal(ask(t, query).count, 1);
    gate_open(&g);
    mf_mutex_lock(&answer.answer_mu);
    while (!answer.done) {
        (void)mf_cond_wait(&answer.answered, &answer.answer_mu, MF_NEVER);
    }
    mf_mutex_unlock(&answer.answer_mu);
    mf_cond_done(&answer.answered);
    mf_mutex_done(&answer.answer_mu);
    (void)WAIT(all_embedded);
    flush_all(t);
    assert_int_equal(status_of(t).store.chunks, 2);
    world_close(t);

    s = stage_open((world_options){
        .sqlite = true,
        .sets = {"buffer.flush.timeout_ms=10", "buffer.flush_interval_ms=400"}});
    t = s.t;
    add_many(t, s.session, 2);
    (void)WAIT(all_embedded);
    if (status_of(t).buffers.hybrid.chunks == 2) { /* the interval is not over yet */
        gate_close(t, &g);
        mf_service_status status = WAIT(two_failed);
        assert_int_equal(status.store.chunks, 0);
        assert_int_equal(status.flush.retrying + status.flush.running, 1);
        gate_open(&g);
    }
    (void)WAIT(all_committed);
    flush_all(t);
    assert_int_equal(status_of(t).buffers.counts.flushed_chunks, 2);
    world_close(t);
}

static void closing_waits_for_a_flush_that_was_given_up(void **state) {
    (void)state;
    stage s = stage_open((world_options){
        .sqlite = true,
        .sets = {"buffer.flush.timeout_ms=10", "buffer.flush.strategy=size_based"}});
    world *t = s.t;
    add_many(t, s.session, 2);
    (void)WAIT(all_embedded);
    gate g;
    gate_close(t, &g);
    FAILS(MF_E_TIMEOUT, mf_service_settle(t->service, mf_deadline_in_ms(50), &t->err));
    gate_open(&g);
    world_restart(t);
    assert_int_equal(status_of(t).store.chunks, 2);
    world_close(t);
}

enum { BURST = 24 };

/* One write to each session, all committed together: their users are woken at once. */
static void add_at_once(world *t, const mf_str sessions[BURST]) {
    gate g;
    gate_close(t, &g);
    batch_answer answers[BURST] = {0};
    mf_new_message text = {.content = MF_STR("red cat")};
    for (int i = 0; i < BURST; i++) {
        mf_mutex_init(&answers[i].answer_mu, MF_RANK_LEAF);
        mf_cond_init(&answers[i].answered);
        mf_new_round round = {sessions[i], &text, 1};
        mf_service_add_batch(t->service, &round, 1, take_answer, &answers[i]);
    }
    gate_open(&g);
    for (int i = 0; i < BURST; i++) {
        mf_mutex_lock(&answers[i].answer_mu);
        while (!answers[i].done) {
            (void)mf_cond_wait(&answers[i].answered, &answers[i].answer_mu, MF_NEVER);
        }
        mf_mutex_unlock(&answers[i].answer_mu);
        mf_cond_done(&answers[i].answered);
        mf_mutex_done(&answers[i].answer_mu);
        assert_int_equal(answers[i].rc, MF_OK);
    }
}

static void users_beyond_the_queue_are_delayed_and_served(void **state) {
    (void)state;
    enum { BURSTS_MAX = 100 };
    stage s = stage_open((world_options){
        .sqlite = true, .sets = {"buffer.flush.queue_max=1", "embedding.threads=1"}});
    world *t = s.t;
    mf_str sessions[BURST];
    for (int i = 0; i < BURST; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "user%d", i);
        sessions[i] = new_session(t, new_user(t, name), s.agent, "s");
    }
    size_t bursts = 0;
    do { /* on a busy machine the worker may keep up with a burst */
        add_at_once(t, sessions);
        bursts++;
    } while (status_of(t).flush.delayed == 0 && bursts < BURSTS_MAX);
    flush_all(t);
    mf_service_status status = status_of(t);
    assert_int_equal(status.store.chunks, bursts * BURST);
    assert_int_equal(status.flush.queue_max, 1);
    assert_true(status.flush.delayed > 0);
    assert_int_equal(status.flush.queued, 0);
    world_close(t);
}

/* --- many at once --- */

enum { WRITERS = 64, ROUNDS_EACH = 6 };

typedef struct writer_thread {
    world *t;
    mf_str user, session;
    int number, failed;
} writer_thread;

static void run_writer(void *arg) {
    writer_thread *w = arg;
    for (int i = 0; i < ROUNDS_EACH; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "red cat w%dx%d", w->number, i);
        mf_new_message message = {.content = mf_str_from(text)};
        mf_uuid id;
        w->failed += mf_service_add_wait(w->t->service, w->session, &message, 1, &id,
                                         NULL) != MF_OK;
        if (w->number % 16 == 0) {
            w->failed +=
                mf_service_flush(w->t->service, w->user, mf_deadline_in_ms(60000), NULL,
                                 NULL) != MF_OK;
        }
    }
}

static void one_user_writes_from_many_threads_and_is_flushed(void **state) {
    (void)state;
    stage s = stage_open((world_options){
        .sqlite = true,
        .sets = {"buffer.flush_interval_ms=10", "buffer.flush.idle_timeout_ms=10"}});
    world *t = s.t;
    writer_thread writers[WRITERS] = {0};
    mf_thread threads[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++) {
        writers[i] =
            (writer_thread){.t = t, .user = s.user, .session = s.session, .number = i};
        OK(mf_thread_start(&threads[i], "writer", run_writer, &writers[i], &t->err));
    }
    for (int i = 0; i < WRITERS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(writers[i].failed, 0);
    }
    (void)flush_user(t, s.user);
    mf_service_status status = status_of(t);
    assert_int_equal(status.store.messages, WRITERS * ROUNDS_EACH);
    assert_int_equal(status.store.chunks, WRITERS * ROUNDS_EACH);
    assert_int_equal(status.total_writes, WRITERS * ROUNDS_EACH);
    check_parts(t, s.session, 0, WRITERS * ROUNDS_EACH);
    world_close(t);
}

/* --- a wall clock that jumps --- */

static int64_t wall_us = INT64_C(1700000000) * 1000000;

static int64_t real_mono(void *ctx) {
    (void)ctx;
    return mf_clock_system()->mono_ns(mf_clock_system()->ctx);
}

static int64_t jumping_wall(void *ctx) {
    (void)ctx;
    return wall_us;
}

static void a_jumping_wall_clock_changes_stamps_only(void **state) {
    (void)state;
    static const mf_clock jumping = {.mono_ns = real_mono, .wall_us = jumping_wall};
    mf_clock_set(&jumping);
    stage s = stage_open((world_options){.sqlite = true});
    world *t = s.t;
    for (int i = 0; i < 8; i++) {
        wall_us += (i % 2 == 0 ? -1 : 1) * INT64_C(86400) * 1000000 * (i + 1) * 30;
        add_many(t, s.session, 1);
    }
    check_parts(t, s.session, 5, 3);
    mf_service_status status = status_of(t);
    assert_int_equal(status.buffers.counts.transfer_triggers[MF_TRANSFER_IDLE], 0);
    assert_int_equal(status.buffers.counts.transfer_triggers[MF_TRANSFER_TIME], 0);
    assert_int_equal(status.buffers.counts.flush_triggers[MF_FLUSH_TIME], 0);
    (void)flush_user(t, s.user);
    assert_int_equal(status_of(t).store.chunks, 8);
    check_parts(t, s.session, 0, 8);
    world_close(t);
    mf_clock_set(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_empties_the_windows_for_good),
        cmocka_unit_test(a_flush_is_of_one_user),
        cmocka_unit_test(a_flushed_user_that_left_memory_stays_flushed),
        cmocka_unit_test(edits_do_not_bring_flushed_rounds_back),
        cmocka_unit_test(hybrid_moves_rounds_by_size_and_vectors_by_size_or_time),
        cmocka_unit_test(size_based_waits_for_size_alone),
        cmocka_unit_test(time_based_waits_for_time_alone),
        cmocka_unit_test(immediate_holds_nothing),
        cmocka_unit_test(an_idle_user_is_flushed_under_every_strategy),
        cmocka_unit_test(without_a_model_windows_are_emptied_all_the_same),
        cmocka_unit_test(a_change_of_session_empties_the_one_before_if_asked),
        cmocka_unit_test(vectors_wait_for_a_flush_when_told_to),
        cmocka_unit_test(more_bytes_than_allowed_are_committed_whatever_the_settings),
        cmocka_unit_test(a_user_who_must_leave_is_committed_first),
        cmocka_unit_test(a_batch_is_stored_in_order_or_not_at_all),
        cmocka_unit_test(a_failing_batch_leaves_nothing),
        cmocka_unit_test(a_worker_stopped_between_its_steps_loses_nothing),
        cmocka_unit_test(a_store_that_fails_and_comes_back_has_everything_in_order),
        cmocka_unit_test(windows_that_could_not_be_emptied_are_emptied_later),
        cmocka_unit_test(a_flush_gives_up_waiting_and_is_done_later),
        cmocka_unit_test(closing_waits_for_a_flush_that_was_given_up),
        cmocka_unit_test(users_beyond_the_queue_are_delayed_and_served),
        cmocka_unit_test(one_user_writes_from_many_threads_and_is_flushed),
        cmocka_unit_test(a_jumping_wall_clock_changes_stamps_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
