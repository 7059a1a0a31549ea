/* runtime_test.c - the shared parts are made when they are needed or told to, once, and
 * not at all when they are off; a reranker that is on decides the order of a query. */
#include "service/runtime.h"

#include "service/service_testing.h"

#define RANKER_DIR MF_TEST_DATA_DIR "/golden/models/bert-rank"

enum { PATH_TEXT = 256, SETS_MAX = 8 };

typedef struct fixture {
    char model_dir[64];
    char dir_set[PATH_TEXT];
    mf_settings *settings;
    mf_model_registry *models;
    mf_runtime *runtime;
    mf_err err;
    size_t live;
} fixture;

/* A runtime over the tiny model with these settings; `expected` is what opening
 * gives. */
static fixture *fixture_new(const char *const *sets, char *const *environment,
                            mf_rc expected) {
    static fixture f;
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    f = (fixture){.live = mf_alloc_live()};
    tiny_model_make(f.model_dir);
    (void)snprintf(f.dir_set, sizeof f.dir_set, "model.dir=%s", f.model_dir);
    const char *all[SETS_MAX] = {f.dir_set, "model.precision=fp32",
                                 "server.data_dir=/nonexistent"};
    size_t count = 3;
    while (sets != NULL && *sets != NULL) {
        all[count++] = *sets++;
    }
    mf_config_sources sources = {.sets = all, .set_count = count};
    assert_int_equal(mf_settings_open(&sources, &f.settings, &f.err), MF_OK);
    assert_int_equal(mf_model_registry_open(&f.models, &f.err), MF_OK);
    mf_runtime_options options = {
        .settings = f.settings, .models = f.models, .environment = environment};
    assert_int_equal(mf_runtime_open(&options, &f.runtime, &f.err), expected);
    return &f;
}

static void fixture_free(fixture *f) {
    mf_runtime_close(f->runtime);
    mf_model_registry_close(f->models);
    mf_settings_close(f->settings);
    tiny_model_remove(f->model_dir);
    assert_int_equal(mf_alloc_live(), f->live);
}

static mf_runtime_stats stats_of(fixture *f) {
    mf_runtime_stats stats;
    mf_runtime_get_stats(f->runtime, &stats);
    return stats;
}

static void nothing_is_made_that_is_off(void **state) {
    (void)state;
    fixture *f = fixture_new(NULL, NULL, MF_OK);
    assert_non_null(mf_runtime_embedder(f->runtime));
    assert_non_null(mf_runtime_tokens(f->runtime));
    assert_null(mf_runtime_llm(f->runtime));
    mf_runtime_stats stats = stats_of(f);
    assert_false(stats.has_ranker);
    assert_false(stats.has_llm);
    assert_int_equal(stats.models.loads, 1);
    assert_true(stats.open_ns > 0);
    fixture_free(f);
}

static void a_reranker_is_made_at_first_use_or_when_told(void **state) {
    (void)state;
    const char *lazy[] = {"rerank.use_rerank=true", "rerank.preload=false",
                          "rerank.model=" RANKER_DIR, NULL};
    fixture *f = fixture_new(lazy, NULL, MF_OK);
    assert_false(stats_of(f).has_ranker);
    mf_ranker *first;
    mf_ranker *second;
    assert_int_equal(mf_runtime_ranker(f->runtime, &first, &f->err), MF_OK);
    assert_int_equal(mf_runtime_ranker(f->runtime, &second, &f->err), MF_OK);
    assert_ptr_equal(first, second);
    assert_int_equal(stats_of(f).models.loads, 2);
    fixture_free(f);
    lazy[1] = "rerank.preload=true";
    f = fixture_new(lazy, NULL, MF_OK);
    assert_true(stats_of(f).has_ranker);
    fixture_free(f);
}

static void a_missing_reranker_is_named(void **state) {
    (void)state;
    const char *sets[] = {"rerank.use_rerank=true", "rerank.model=none-such", NULL};
    fixture *f = fixture_new(sets, NULL, MF_E_INVAL);
    assert_string_equal(f->err.field, "rerank.model");
    fixture_free(f);
    sets[0] = "rerank.use_rerank=false"; /* skipped when off */
    f = fixture_new(sets, NULL, MF_OK);
    fixture_free(f);
}

static void models_that_are_named_are_preloaded(void **state) {
    (void)state;
    const char *sets[] = {"model.preload= " RANKER_DIR " ,", NULL};
    fixture *f = fixture_new(sets, NULL, MF_OK);
    mf_model_instance rows[4];
    assert_int_equal(mf_model_registry_info(f->models, rows, 4), 2);
    assert_true(rows[1].pinned);
    assert_int_equal(rows[1].task, MF_TASK_RANK);
    assert_int_equal(rows[1].users, 0);
    fixture_free(f);
    const char *missing[] = {"model.preload=none-such", NULL};
    f = fixture_new(missing, NULL, MF_E_NOTFOUND);
    assert_non_null(
        strstr(f->err.text, "model.preload: there is no model 'none-such'"));
    fixture_free(f);
}

static void a_language_model_is_made_without_a_connection(void **state) {
    (void)state;
    const char *sets[] = {"llm.provider=openai", NULL};
    char key[] = "OPENAI_API_KEY=sk-secret";
    char url[] = "OPENAI_BASE_URL=http://127.0.0.1:9/v1";
    char *environment[] = {key, url, NULL};
    fixture *f = fixture_new(sets, environment, MF_OK);
    assert_false(stats_of(f).has_llm);
    mf_llm *llm = mf_runtime_llm(f->runtime);
    assert_non_null(llm);
    assert_ptr_equal(llm, mf_runtime_llm(f->runtime));
    mf_runtime_stats stats = stats_of(f);
    assert_true(stats.has_llm);
    assert_string_equal(stats.llm.base_url, "http://127.0.0.1:9/v1");
    assert_string_equal(stats.llm.model, "gpt-4o-mini");
    assert_int_equal(stats.llm.requests, 0);
    fixture_free(f);
}

static void a_language_model_that_cannot_work_is_told_at_start(void **state) {
    (void)state;
    const char *sets[] = {"llm.provider=openai", "llm.base_url=nonsense", NULL};
    fixture *f = fixture_new(sets, NULL, MF_E_INVAL);
    assert_string_equal(f->err.field, "llm.base_url");
    fixture_free(f);
}

/* Ten engines' worth of runtimes have one set of weights. */
static void runtimes_share_their_models(void **state) {
    (void)state;
    enum { RUNTIMES = 10 };
    fixture *f = fixture_new(NULL, NULL, MF_OK);
    mf_runtime *others[RUNTIMES];
    size_t alive = mf_encoder_alive();
    size_t one = mf_alloc_live_bytes();
    for (int i = 0; i < RUNTIMES; i++) {
        mf_runtime_options options = {.settings = f->settings, .models = f->models};
        assert_int_equal(mf_runtime_open(&options, &others[i], &f->err), MF_OK);
        assert_ptr_equal(mf_embedder_encoder(mf_runtime_embedder(others[i])),
                         mf_embedder_encoder(mf_runtime_embedder(f->runtime)));
    }
    assert_int_equal(mf_encoder_alive(), alive);
    mf_model_registry_stats stats = stats_of(f).models;
    assert_int_equal(stats.loads, 1);
    assert_int_equal(stats.hits, RUNTIMES);
    assert_int_equal(stats.expected, stats.actual);
    assert_true(mf_alloc_live_bytes() > one); /* lanes and queues are their own */
    for (int i = 0; i < RUNTIMES; i++) {
        mf_runtime_close(others[i]);
    }
    fixture_free(f);
}

/* --- queries --- */

/* The ranker's own scores for the texts, to compare with. */
static void score_directly(world *t, const char *question, const char *const *texts,
                           size_t count, float *scores) {
    mf_ranker *ranker;
    mf_str views[8];
    for (size_t i = 0; i < count; i++) {
        views[i] = mf_str_from(texts[i]);
    }
    OK(mf_runtime_ranker(t->runtime, &ranker, &t->err));
    OK(mf_ranker_score(ranker, mf_str_from(question), views, count, MF_NEVER, scores,
                       &t->err));
}

static void the_reranker_decides_the_order_and_the_score(void **state) {
    (void)state;
    static const char *const texts[] = {"red cat", "green dog", "the cat sat",
                                        "a dog and a cat", "cat"};
    enum { TEXTS = 5 };
    world *t = world_open(
        (world_options){.runtime = true,
                        .sets = {"rerank.use_rerank=true", "rerank.model=" RANKER_DIR,
                                 "server.data_dir=/nonexistent"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    for (int i = 0; i < TEXTS; i++) {
        (void)add_one(t, session, texts[i]);
    }
    flush_all(t);
    float scores[TEXTS];
    score_directly(t, "cat", texts, TEXTS, scores);
    mf_query query = query_for(user, "cat");
    query.top_k = 3;
    mf_results results = ask(t, query);
    assert_int_equal(results.count, 3);
    for (size_t i = 0; i < results.count; i++) {
        size_t better = 0;
        for (int k = 0; k < TEXTS; k++) {
            better += scores[k] > results.rows[i].score ? 1 : 0;
            if (mf_str_eq(results.rows[i].content, mf_str_from(texts[k]))) {
                assert_true(results.rows[i].score == scores[k]);
            }
        }
        assert_int_equal(better, i); /* the best three of all five */
    }
    assert_int_equal(status_of(t).reranked, 1);
    mf_results again = ask(t, query); /* kept as it was ordered */
    assert_int_equal(again.source, MF_ANSWER_CACHED);
    assert_true(again.rows[0].score == results.rows[0].score);
    assert_int_equal(status_of(t).reranked, 1);
    world_close(t);
}

static void a_reranker_that_fails_refuses_no_query(void **state) {
    (void)state;
    world *t = world_open((world_options){
        .runtime = true,
        .sets = {"rerank.use_rerank=true", "rerank.preload=false",
                 "rerank.model=none-such", "server.data_dir=/nonexistent"}});
    mf_str user = new_user(t, "alice");
    mf_str session = new_session(t, user, new_agent(t, "helper"), "s");
    (void)add_one(t, session, "red cat");
    (void)add_one(t, session, "green dog");
    mf_query query = query_for(user, "cat");
    query.top_k = 1;
    mf_results results = ask(t, query);
    assert_int_equal(results.count, 1);
    assert_text(results.rows[0].content, "red cat");
    assert_int_equal(status_of(t).rerank_failures, 1);
    assert_int_equal(status_of(t).reranked, 0);
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_made_that_is_off),
        cmocka_unit_test(a_reranker_is_made_at_first_use_or_when_told),
        cmocka_unit_test(a_missing_reranker_is_named),
        cmocka_unit_test(models_that_are_named_are_preloaded),
        cmocka_unit_test(a_language_model_is_made_without_a_connection),
        cmocka_unit_test(a_language_model_that_cannot_work_is_told_at_start),
        cmocka_unit_test(runtimes_share_their_models),
        cmocka_unit_test(the_reranker_decides_the_order_and_the_score),
        cmocka_unit_test(a_reranker_that_fails_refuses_no_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
