/* query_buffer_test.c - an answer is found for the very question and version it is of,
 * candidates for one much like it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/rng.h"
#include "buffer/query_buffer.h"

enum { DIM = 4, THREADS = 4, ROUNDS = 3000, VERSIONS = 6 };

static mf_query_buffer *open_buffer(size_t answers_max) {
    mf_query_buffer *buffer = NULL;
    assert_int_equal(mf_query_buffer_open(answers_max, 60000, NULL, &buffer, NULL),
                     MF_OK);
    return buffer;
}

/* The first hit carries the number 7 wherever there is one. */
static bool get(mf_query_buffer *buffer, const mf_query_key *key, uint64_t version,
                size_t hits_max, size_t *count) {
    mf_arena *arena;
    mf_index_hit *hits;
    assert_int_equal(mf_arena_new(1 << 20, &arena, NULL), MF_OK);
    bool found =
        mf_query_buffer_get(buffer, key, version, hits_max, arena, &hits, count);
    if (found && *count > 0) {
        assert_int_equal(hits[0].facts.key.num, 7);
    }
    mf_arena_free(arena);
    return found;
}

static bool get_like(mf_query_buffer *buffer, const mf_query_key *key,
                     const mf_question *question, uint64_t version, size_t hits_max,
                     size_t *count) {
    mf_arena *arena;
    mf_index_key *keys;
    assert_int_equal(mf_arena_new(1 << 20, &arena, NULL), MF_OK);
    bool found = mf_query_buffer_get_like(buffer, key, question, 0.9, version, hits_max,
                                          arena, &keys, count);
    for (size_t i = 0; found && i < *count; i++) {
        assert_int_equal(keys[i].num, 7 + i);
        assert_int_equal(keys[i].kind, i % 2);
    }
    mf_arena_free(arena);
    return found;
}

static mf_query_key a_key(void) {
    return (mf_query_key){.text = MF_STR("cat"),
                          .user_id = mf_uuid_new(),
                          .session_id = mf_uuid_new(),
                          .agent_id = mf_uuid_new(),
                          .path = MF_PATH_BLEND,
                          .messages = true,
                          .knowledge = true,
                          .settings = 9};
}

enum { FILTERS = 7 };

/* `key` with one thing changed in each. */
static void change_filters(const mf_query_key *key, mf_query_key others[FILTERS]) {
    for (size_t i = 0; i < FILTERS; i++) {
        others[i] = *key;
    }
    others[0].user_id = mf_uuid_new();
    others[1].session_id = MF_UUID_NONE;
    others[2].agent_id = MF_UUID_NONE;
    others[3].path = MF_PATH_VECTOR;
    others[4].messages = false;
    others[5].knowledge = false;
    others[6].settings = 10;
}

static void make_hits(mf_index_hit *hits, size_t count) {
    memset(hits, 0, count * sizeof(*hits));
    for (size_t i = 0; i < count; i++) {
        hits[i].facts.key = (mf_index_key){(uint8_t)(i % 2), 7 + (int64_t)i};
    }
}

static void every_part_of_the_question_counts(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_query_buffer *buffer = open_buffer(10);
    mf_query_key key = a_key();
    mf_index_hit hits[2];
    size_t count;
    make_hits(hits, 2);
    assert_false(get(buffer, &key, 1, 5, &count));
    mf_query_buffer_put(buffer, &key, 1, hits, 2, MF_QUERY_ALL);
    assert_true(get(buffer, &key, 1, 5, &count));
    assert_int_equal(count, 2);
    assert_false(get(buffer, &key, 2, 5, &count));
    assert_false(get(buffer, &key, 0, 5, &count));
    mf_query_key others[FILTERS];
    change_filters(&key, others);
    for (size_t i = 0; i < FILTERS; i++) {
        assert_false(get(buffer, &others[i], 1, 5, &count));
    }
    mf_query_key other = key;
    other.text = MF_STR("cats");
    assert_false(get(buffer, &other, 1, 5, &count));
    mf_query_buffer_put(buffer, &key, 2, NULL, 0, MF_QUERY_ALL); /* replaces */
    assert_false(get(buffer, &key, 1, 5, &count));
    assert_true(get(buffer, &key, 2, 5, &count));
    assert_int_equal(count, 0);
    mf_query_buffer_close(buffer);
    assert_int_equal(mf_alloc_live(), live);
}

static void an_answer_serves_as_many_as_it_was_made_for(void **state) {
    (void)state;
    mf_query_buffer *buffer = open_buffer(10);
    mf_query_key key = a_key();
    mf_index_hit hits[5];
    size_t count = 0;
    make_hits(hits, 5);
    mf_query_buffer_put(buffer, &key, 1, hits, 5, 5);
    assert_true(get(buffer, &key, 1, 3, &count));
    assert_int_equal(count, 3);
    assert_true(get(buffer, &key, 1, 5, &count));
    assert_int_equal(count, 5);
    assert_false(get(buffer, &key, 1, 6, &count));
    mf_query_buffer_put(buffer, &key, 1, hits, 5, MF_QUERY_ALL);
    assert_true(get(buffer, &key, 1, 6, &count));
    assert_int_equal(count, 5);
    mf_query_buffer_close(buffer);
}

static void candidates_need_words_filters_version_and_closeness(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    static const float along[DIM] = {1, 0, 0, 0};
    static const float near[DIM] = {0.95F, 0.3122499F, 0, 0};
    static const float far[DIM] = {0.8F, 0.6F, 0, 0};
    mf_query_buffer *buffer = open_buffer(10);
    mf_query_key key = a_key();
    mf_index_hit hits[20];
    size_t count = 0;
    make_hits(hits, 20);
    mf_question question = {.words = 5, .vector = along, .dim = DIM};
    assert_false(get_like(buffer, &key, &question, 1, 2, &count));
    mf_query_buffer_put_like(buffer, &key, &question, 1, hits, 20, 20);
    question.vector = near;
    mf_query_key other_text = key;
    other_text.text = MF_STR("the cat");
    assert_true(get_like(buffer, &other_text, &question, 1, 2, &count));
    assert_int_equal(count, 2 * MF_QUERY_CANDIDATES);
    assert_true(get_like(buffer, &key, &question, 1, 5, &count));
    assert_int_equal(count, 20);
    assert_false(get_like(buffer, &key, &question, 1, 6, &count)); /* too few */
    assert_false(get_like(buffer, &key, &question, 2, 2, &count));
    mf_query_key others[FILTERS];
    change_filters(&key, others);
    for (size_t i = 0; i < FILTERS; i++) {
        assert_false(get_like(buffer, &others[i], &question, 1, 2, &count));
    }
    question.words = 6;
    assert_false(get_like(buffer, &key, &question, 1, 2, &count));
    question = (mf_question){.words = 5, .vector = far, .dim = DIM};
    assert_false(get_like(buffer, &key, &question, 1, 2, &count));
    question = (mf_question){.words = 5, .vector = along, .dim = DIM - 1};
    assert_false(get_like(buffer, &key, &question, 1, 2, &count)); /* another model */
    question.dim = DIM;
    mf_query_buffer_put_like(buffer, &key, &question, 1, hits, 3, MF_QUERY_ALL);
    assert_true(get_like(buffer, &key, &question, 1, 50, &count));
    assert_int_equal(count, 3); /* there are no more */
    mf_query_buffer_close(buffer);
    assert_int_equal(mf_alloc_live(), live);
}

static void a_newer_version_drops_what_is_older(void **state) {
    (void)state;
    mf_query_buffer *buffer = open_buffer(10);
    mf_query_key key = a_key();
    mf_index_hit hits[1];
    make_hits(hits, 1);
    mf_query_buffer_put(buffer, &key, 1, hits, 1, 1);
    key.text = MF_STR("dog");
    mf_query_buffer_put(buffer, &key, 1, hits, 1, 1);
    mf_query_buffer_stats stats;
    mf_query_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.answers, 2);
    mf_query_buffer_put(buffer, &key, 2, hits, 1, 1);
    mf_query_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.answers, 1);
    assert_int_equal(stats.evictions, 0); /* nobody could have used them */
    mf_query_buffer_close(buffer);
}

static void statistics_count_what_happens(void **state) {
    (void)state;
    mf_query_buffer *buffer = NULL;
    assert_int_equal(mf_query_buffer_open(2, 1, NULL, &buffer, NULL), MF_OK);
    size_t empty = mf_query_buffer_bytes(buffer);
    mf_query_key key = a_key();
    mf_index_hit hits[1];
    make_hits(hits, 1);
    const char *texts[3] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        key.text = mf_str_from(texts[i]);
        mf_query_buffer_put(buffer, &key, 1, hits, 1, 1);
    }
    assert_true(mf_query_buffer_bytes(buffer) > empty);
    int64_t until = mf_now_ns() + 2 * MF_NS_PER_MS;
    while (mf_now_ns() < until) { /* past the time to live */
    }
    size_t count;
    assert_false(get(buffer, &key, 1, 1, &count));
    mf_query_buffer_count(buffer, MF_ANSWER_CACHED);
    mf_query_buffer_count(buffer, MF_ANSWER_SIMILAR);
    mf_query_buffer_count(buffer, MF_ANSWER_SIMILAR);
    mf_query_buffer_count(buffer, MF_ANSWER_SEARCHED);
    mf_query_buffer_stats stats;
    mf_query_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.cache_hits, 1);
    assert_int_equal(stats.similar_hits, 2);
    assert_int_equal(stats.cache_misses, 1);
    assert_int_equal(stats.evictions, 1);
    assert_int_equal(stats.expirations, 1);
    assert_int_equal(stats.answers, 1);
    assert_int_equal(stats.candidates, 0);
    assert_true(stats.bytes > 0);
    mf_query_buffer_close(buffer);
}

static void a_very_long_question_is_not_kept(void **state) {
    (void)state;
    static char text[1 << 20];
    mf_query_buffer *buffer = open_buffer(10);
    size_t count;
    mf_query_key key = {.text = {text, sizeof text}};
    mf_query_buffer_put(buffer, &key, 1, NULL, 0, MF_QUERY_ALL);
    assert_false(get(buffer, &key, 1, 1, &count));
    mf_query_buffer_close(buffer);
}

static void short_memory_keeps_nothing_and_harms_nothing(void **state) {
    (void)state;
    static const float vector[DIM] = {1};
    size_t live = mf_alloc_live();
    bool fired = true;
    for (uint64_t n = 0; fired; n++) {
        mf_query_buffer *buffer = NULL;
        mf_index_hit hits[1];
        make_hits(hits, 1);
        mf_query_key key = {.text = MF_STR("cat")};
        mf_question question = {.vector = vector, .dim = DIM};
        size_t count;
        mf_fault_arm(MF_FAULT_ALLOC, n, false);
        mf_rc rc = mf_query_buffer_open(10, 60000, NULL, &buffer, NULL);
        if (rc == MF_OK) {
            mf_query_buffer_put(buffer, &key, 1, hits, 1, 1);
            mf_query_buffer_put_like(buffer, &key, &question, 1, hits, 1, MF_QUERY_ALL);
        }
        fired = mf_fault_fired();
        mf_fault_disarm();
        assert_int_equal(rc, rc == MF_OK ? MF_OK : MF_E_NOMEM);
        if (rc == MF_OK) {
            bool kept = get(buffer, &key, 1, 1, &count);
            bool listed = get_like(buffer, &key, &question, 1, 1, &count);
            assert_true((kept && listed) || fired);
        }
        mf_query_buffer_close(buffer);
        assert_int_equal(mf_alloc_live(), live);
    }
}

/* --- many threads ----------------------------------------------------------------- */

typedef struct worker {
    mf_query_buffer *buffer;
    const mf_query_key *key;
    uint64_t seed;
    size_t wrong, found;
} worker;

/* What is put at a version holds that version's number, so a value of another one
 * shows. */
static void *put_and_get(void *ctx) {
    worker *w = ctx;
    static const float vector[DIM] = {1};
    static const char *const texts[] = {"cat", "dog", "red", "blue"};
    mf_rng rng;
    mf_rng_init(&rng, w->seed);
    mf_arena *arena = NULL;
    if (mf_arena_new(1 << 20, &arena, NULL) != MF_OK) {
        w->wrong++;
        return NULL;
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        mf_query_key key = *w->key;
        uint64_t word = mf_rng_below(&rng, 4);
        uint64_t version = i * VERSIONS / ROUNDS + mf_rng_below(&rng, 2);
        key.text = mf_str_from(texts[word]);
        mf_question question = {.words = word, .vector = vector, .dim = DIM};
        mf_index_hit made = {.facts.key.num = (int64_t)(version * 10 + word)};
        mf_index_hit *hits;
        mf_index_key *keys;
        size_t count;
        if (mf_rng_below(&rng, 2) == 0) {
            mf_query_buffer_put(w->buffer, &key, version, &made, 1, 1);
            mf_query_buffer_put_like(w->buffer, &key, &question, version, &made, 1,
                                     MF_QUERY_ALL);
        }
        if (mf_query_buffer_get(w->buffer, &key, version, 1, arena, &hits, &count)) {
            w->found++;
            w->wrong += hits[0].facts.key.num != made.facts.key.num;
        }
        if (mf_query_buffer_get_like(w->buffer, &key, &question, 0.9, version, 1, arena,
                                     &keys, &count)) {
            w->wrong += keys[0].num != made.facts.key.num;
        }
        mf_query_buffer_count(w->buffer, MF_ANSWER_SEARCHED);
        mf_arena_reset(arena);
    }
    mf_arena_free(arena);
    return NULL;
}

static void threads_and_versions_never_mix_answers(void **state) {
    (void)state;
    mf_query_buffer *buffer = open_buffer(3); /* small: evictions too */
    mf_query_key key = a_key();
    worker workers[THREADS];
    pthread_t threads[THREADS];
    size_t found = 0;
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){.buffer = buffer, .key = &key, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, put_and_get, &workers[i]),
                         0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
        found += workers[i].found;
    }
    assert_true(found > 0);
    mf_query_buffer_stats stats;
    mf_query_buffer_get_stats(buffer, &stats);
    assert_int_equal(stats.cache_misses, THREADS * ROUNDS);
    assert_true(stats.answers <= 3 && stats.candidates <= 3);
    mf_query_buffer_close(buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_the_question_counts),
        cmocka_unit_test(an_answer_serves_as_many_as_it_was_made_for),
        cmocka_unit_test(candidates_need_words_filters_version_and_closeness),
        cmocka_unit_test(a_newer_version_drops_what_is_older),
        cmocka_unit_test(statistics_count_what_happens),
        cmocka_unit_test(a_very_long_question_is_not_kept),
        cmocka_unit_test(short_memory_keeps_nothing_and_harms_nothing),
        cmocka_unit_test(threads_and_versions_never_mix_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
