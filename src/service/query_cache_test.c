/* query_cache_test.c - answers from the cache are those a search would give, whatever
 * was written in between. */
#include "base/rng.h"
#include "service/service_testing.h"

enum {
    SESSIONS = 1700,
    TURNS = 8, /* of a session */
    MANY = SESSIONS * TURNS,
    STEPS = 160,
    QUESTIONS = 8,
    DEPTH = 2000, /* more than is ever kept */
    LIVE_MAX = 64,
};

static const char *const words[] = {"red", "green", "blue", "cat", "dog", "runs"};

/* A service, its user, and the messages that a test changes. */
typedef struct memory {
    world *t;
    mf_str user, session;
    mf_str ids[LIVE_MAX];
    size_t id_count;
} memory;

static mf_str random_text(mf_rng *rng, char *out, size_t size) {
    size_t len = 0;
    for (uint64_t n = 1 + mf_rng_below(rng, 6); n > 0; n--) {
        len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? " " : "",
                                words[mf_rng_below(rng, 6)]);
    }
    return (mf_str){out, len};
}

static void fill(memory *s, size_t sessions, uint64_t seed) {
    world *t = s->t;
    mf_rng rng;
    mf_rng_init(&rng, seed);
    mf_str agent = new_agent(t, "filler");
    for (size_t i = 0; i < sessions; i++) {
        char texts[TURNS][64];
        mf_new_message round[TURNS];
        mf_uuid ids[TURNS];
        for (size_t k = 0; k < TURNS; k++) {
            round[k] = (mf_new_message){
                .role = MF_ROLE_USER,
                .content = random_text(&rng, texts[k], sizeof(texts[k])),
                .created_us = (int64_t)(i * TURNS + k + 1) * 1000000};
        }
        mf_str session = new_session(t, s->user, agent, NULL);
        OK(mf_service_add_wait(t->service, session, round, TURNS, ids, &t->err));
    }
    flush_all(t);
}

static memory open_memory(world_options options, size_t sessions) {
    memory s = {.t = world_open(options)};
    s.user = new_user(s.t, "alice");
    s.session = new_session(s.t, s.user, new_agent(s.t, "helper"), "live");
    fill(&s, sessions, 5);
    return s;
}

static void write_add(memory *s, mf_str text, int64_t created_us) {
    world *t = s->t;
    mf_new_message message = {.content = text, .created_us = created_us};
    mf_uuid id;
    OK(mf_service_add_wait(t->service, s->session, &message, 1, &id, &t->err));
    s->ids[s->id_count++] = id_text(t, id);
}

static void random_write(memory *s, mf_rng *rng, int step) {
    world *t = s->t;
    char text[64];
    mf_str content = random_text(rng, text, sizeof(text));
    uint64_t action = mf_rng_below(rng, 3);
    size_t at = s->id_count > 0 ? (size_t)mf_rng_below(rng, s->id_count) : 0;
    if (s->id_count == 0 || (action == 0 && s->id_count < LIVE_MAX)) {
        write_add(s, content, (int64_t)(MANY + step + 1) * 1000000);
    } else if (action == 1) {
        mf_new_message message = {.content = content};
        OK(mf_service_messages_update(t->service, s->session, &s->ids[at], &message, 1,
                                      &t->err));
    } else {
        OK(mf_service_messages_delete(t->service, s->session, &s->ids[at], 1, &t->err));
        s->ids[at] = s->ids[--s->id_count];
    }
}

/* Questions of the same words are near duplicates of each other: the tiny model knows
 * neither of these function words. */
static mf_query random_question(const memory *s, mf_rng *rng) {
    static const char *const texts[QUESTIONS] = {
        "red cat",  "where is the red cat?", "cat red", "the cat, is it red",
        "dog runs", "does the dog run?",     "blue",    "is it blue"};
    mf_query query = query_for(s->user, texts[mf_rng_below(rng, QUESTIONS)]);
    query.top_k = 1 + (int64_t)mf_rng_below(rng, 18);
    query.path = mf_rng_below(rng, 4) == 0 ? MF_PATH_VECTOR : MF_PATH_BLEND;
    return query;
}

static bool same_row(const mf_result *a, const mf_result *b) {
    return a->score == b->score && a->similarity == b->similarity &&
           a->keyword == b->keyword && mf_str_eq(a->content, b->content) &&
           a->created_us == b->created_us;
}

static void check_same(const mf_results *answer, const mf_results *truth) {
    assert_true(answer->count <= truth->count);
    for (size_t i = 0; i < answer->count; i++) {
        assert_true(same_row(&answer->rows[i], &truth->rows[i]));
    }
}

/* Each is in the truth with this very score, and they come in its order.  What ranks
 * below the end of the truth is out of its reach; returns how many are not. */
static size_t check_scores(const mf_results *answer, const mf_results *truth) {
    size_t at = 0;
    for (size_t i = 0; i < answer->count; i++) {
        if (truth->count == DEPTH &&
            answer->rows[i].score <= truth->rows[DEPTH - 1].score) {
            return i;
        }
        while (at < truth->count && !same_row(&answer->rows[i], &truth->rows[at])) {
            at++;
        }
        assert_true(at < truth->count);
        at++;
    }
    return answer->count;
}

/* A question too deep to be kept is always searched: that is the truth. */
static size_t check_question(memory *s, mf_rng *rng) {
    world *t = s->t;
    mf_arena *arena;
    mf_results answer;
    mf_results truth;
    OK(mf_arena_new(WORLD_ARENA_MAX, &arena, &t->err));
    mf_query query = random_question(s, rng);
    size_t top_k = (size_t)query.top_k;
    OK(mf_service_query(t->service, &query, arena, &answer, &t->err));
    query.top_k = DEPTH;
    OK(mf_service_query(t->service, &query, arena, &truth, &t->err));
    assert_true(truth.source == MF_ANSWER_SEARCHED);
    assert_int_equal(answer.count, top_k < truth.count ? top_k : truth.count);
    size_t checked = answer.count;
    if (answer.source == MF_ANSWER_SEARCHED) {
        check_same(&answer, &truth);
    } else {
        checked = check_scores(&answer, &truth);
    }
    mf_arena_free(arena);
    return checked;
}

static void run_random(const char *threshold, size_t sessions, uint64_t seed,
                       mf_service_status *out) {
    mf_rng rng;
    print_message("seed %llu\n", (unsigned long long)seed);
    mf_rng_init(&rng, seed);
    memory s = open_memory(
        (world_options){.sets = {threshold, "retrieval.top_k_max=10000"}}, sessions);
    size_t checked = 0;
    for (int step = 0; step < STEPS; step++) {
        if (mf_rng_below(&rng, 8) == 0) {
            random_write(&s, &rng, step);
        }
        checked += check_question(&s, &rng);
    }
    assert_true(checked > 4 * STEPS);
    *out = status_of(s.t);
    assert_int_equal(out->queries, 2 * STEPS);
    assert_int_equal(out->cache_hits + out->similar_hits + out->cache_misses,
                     2 * STEPS);
    mf_operation_stats similar;
    mf_metrics_get(mf_service_metrics(s.t->service), MF_OPERATION_QUERY_SIMILAR,
                   &similar);
    assert_int_equal(similar.finished, out->similar_hits);
    world_close(s.t);
}

static void answers_survive_no_write_in_a_small_memory(void **state) {
    (void)state;
    mf_service_status status;
    run_random("buffer.query.similar_threshold=0.01", 6, 11, &status);
    assert_true(status.cache_hits > 0 && status.cache_misses > 0);
    assert_int_equal(status.similar_hits, 0); /* a search is the cheaper one */
}

static void answers_survive_no_write_in_a_large_memory(void **state) {
    (void)state;
    mf_service_status status;
    run_random("buffer.query.similar_threshold=0.01", SESSIONS, 12, &status);
    assert_true(status.cache_hits > 0 && status.cache_misses > 0);
    assert_true(status.similar_hits > 0);
    assert_true(status.answers_bytes > 0);
}

static void near_duplicates_need_words_and_a_close_vector(void **state) {
    (void)state;
    memory s = open_memory(
        (world_options){.sets = {"buffer.query.similar_threshold=0.01"}}, SESSIONS);
    world *t = s.t;
    mf_results first = ask(t, query_for(s.user, "red cat"));
    assert_true(first.source == MF_ANSWER_SEARCHED);
    mf_results like = ask(t, query_for(s.user, "the red cat?"));
    assert_true(like.source == MF_ANSWER_SIMILAR);
    assert_int_equal(like.count, first.count);
    assert_true(ask(t, query_for(s.user, "the red cat?")).source == MF_ANSWER_CACHED);
    assert_true(ask(t, query_for(s.user, "red dog")).source == MF_ANSWER_SEARCHED);
    mf_query other = query_for(s.user, "a red cat");
    other.session_id = s.session; /* another filter */
    assert_true(ask(t, other).source == MF_ANSWER_SEARCHED);
    (void)add_one(t, s.session, "red cat");
    assert_true(ask(t, query_for(s.user, "a red cat")).source == MF_ANSWER_SEARCHED);
    world_close(t);
}

static void a_threshold_of_zero_switches_near_duplicates_off(void **state) {
    (void)state;
    memory s = open_memory(
        (world_options){.sets = {"buffer.query.similar_threshold=0"}}, SESSIONS);
    (void)ask(s.t, query_for(s.user, "red cat"));
    assert_true(ask(s.t, query_for(s.user, "the red cat")).source ==
                MF_ANSWER_SEARCHED);
    assert_int_equal(status_of(s.t).similar_hits, 0);
    world_close(s.t);
}

static void one_answer_serves_every_smaller_question(void **state) {
    (void)state;
    memory s = open_memory((world_options){0}, 3);
    mf_query query = query_for(s.user, "red cat");
    query.top_k = 4;
    mf_results four = ask(s.t, query);
    query.top_k = 15; /* buffer.query.max_size */
    mf_results all = ask(s.t, query);
    assert_true(all.source == MF_ANSWER_CACHED);
    assert_int_equal(all.count, 15);
    check_same(&four, &all);
    query.top_k = 16;
    assert_true(ask(s.t, query).source == MF_ANSWER_SEARCHED);
    assert_true(ask(s.t, query).source == MF_ANSWER_SEARCHED); /* too large to keep */
    world_close(s.t);
}

static void the_statistics_of_users_that_left_stay(void **state) {
    (void)state;
    world *t = world_open(
        (world_options){.sets = {"buffer.query.cache_size=1", "user.active_max=1"}});
    mf_str alice = new_user(t, "alice");
    (void)add_one(t, new_session(t, alice, new_agent(t, "helper"), "s"), "red cat");
    flush_all(t);
    (void)ask(t, query_for(alice, "red"));
    (void)ask(t, query_for(alice, "cat"));
    assert_int_equal(status_of(t).answers_evicted, 1);
    mf_str bob = new_user(t, "bob");
    (void)ask(t, query_for(bob, "red"));
    (void)ask(t, query_for(bob, "red"));
    mf_service_status status = status_of(t);
    assert_int_equal(status.answers_evicted, 1);
    assert_int_equal(status.cache_hits, 1);
    assert_int_equal(status.cache_misses, 3);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_survive_no_write_in_a_small_memory),
        cmocka_unit_test(answers_survive_no_write_in_a_large_memory),
        cmocka_unit_test(near_duplicates_need_words_and_a_close_vector),
        cmocka_unit_test(a_threshold_of_zero_switches_near_duplicates_off),
        cmocka_unit_test(one_answer_serves_every_smaller_question),
        cmocka_unit_test(the_statistics_of_users_that_left_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
