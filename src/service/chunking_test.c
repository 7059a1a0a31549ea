/* chunking_test.c - whatever the strategy, a message's vectors are those of the texts
 * as they are now: after edits, deletions, restarts and a change of strategy. */
#include "service/service_testing.h"

#include "base/rng.h"

#define STRATEGY(name) "buffer.hybrid_buffer.chunk_strategy=" name

static const char *const strategies[] = {STRATEGY("turn"), STRATEGY("message"),
                                         STRATEGY("contextual"), STRATEGY("character"),
                                         STRATEGY("integrated")};
enum { STRATEGIES = 5, LISTS = 8, LIST_MAX = 4, TEXT_MAX = 160 };

/* What a session should hold. */
typedef struct said {
    mf_role role;
    char text[TEXT_MAX];
    mf_str id;
} said;
typedef struct talk {
    mf_str user, session;
    said lists[LISTS][LIST_MAX];
    size_t counts[LISTS];
} talk;

static world_options options_of(const char *strategy, bool sqlite) {
    return (world_options){.sqlite = sqlite,
                           .sets = {strategy, "buffer.hybrid_buffer.chunk_words=6",
                                    "buffer.hybrid_buffer.chunk_characters=20",
                                    "buffer.hybrid_buffer.chunk_overlap=5",
                                    "buffer.hybrid_buffer.chunk_integrated_words=5",
                                    "buffer.hybrid_buffer.chunk_integrated_tokens=6"}};
}

static void random_words(mf_rng *rng, char *out) {
    static const char *const words[] = {"red ", "cat ",   "runs ", "green ",
                                        "dog ", "dogs\n", "the ",  "red. "};
    size_t count = 1 + mf_rng_below(rng, 14);
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        const char *word = words[mf_rng_below(rng, 8)];
        memcpy(out + len, word, strlen(word));
        len += strlen(word);
    }
    out[len] = '\0';
}

static void add_list(world *t, talk *told, size_t list) {
    mf_new_message messages[LIST_MAX];
    mf_uuid ids[LIST_MAX];
    size_t count = told->counts[list];
    if (count == 0) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        said *s = &told->lists[list][i];
        messages[i] =
            (mf_new_message){.role = s->role, .content = mf_str_from(s->text)};
    }
    OK(mf_service_add_wait(t->service, told->session, messages, count, ids, &t->err));
    for (size_t i = 0; i < count; i++) {
        told->lists[list][i].id = id_text(t, ids[i]);
    }
}

static void open_talk(world *t, talk *told, const char *name) {
    told->user = new_user(t, name);
    told->session = new_session(t, told->user, new_agent(t, name), name);
}

static void make_talk(world *t, talk *told, mf_rng *rng) {
    open_talk(t, told, "first");
    for (size_t list = 0; list < LISTS; list++) {
        told->counts[list] = 1 + mf_rng_below(rng, LIST_MAX);
        for (size_t i = 0; i < told->counts[list]; i++) {
            said *s = &told->lists[list][i];
            s->role = (mf_role)mf_rng_below(rng, 3);
            random_words(rng, s->text);
        }
        add_list(t, told, list);
    }
}

/* The same texts, told to another user from the start. */
static void tell_again(world *t, const talk *from, talk *to, const char *name) {
    *to = *from;
    open_talk(t, to, name);
    for (size_t list = 0; list < LISTS; list++) {
        add_list(t, to, list);
    }
}

static float similarity_of(const mf_results *results, mf_str id) {
    for (size_t i = 0; i < results->count; i++) {
        char text[MF_UUID_TEXT + 1];
        mf_uuid_format(results->rows[i].id, text);
        if (mf_str_eq(mf_str_from(text), id)) {
            return results->rows[i].similarity;
        }
    }
    fail_msg("a message is not found");
    return 0.0F;
}

static mf_results ask_all(world *t, mf_str user) {
    mf_query query = query_for(user, "the green cat");
    query.top_k = 100;
    query.path = MF_PATH_VECTOR;
    return ask(t, query);
}

/* Both are found by the very same vectors, and by as many. */
static void assert_same(world *t, const talk *a, const talk *b) {
    flush_all(t);
    mf_results x = ask_all(t, a->user);
    mf_results y = ask_all(t, b->user);
    assert_int_equal(x.count, y.count);
    for (size_t list = 0; list < LISTS; list++) {
        for (size_t i = 0; i < a->counts[list]; i++) {
            float one = similarity_of(&x, a->lists[list][i].id);
            float other = similarity_of(&y, b->lists[list][i].id);
            if (one < other || other < one) {
                fail_msg("message %zu of list %zu: %f and %f", i, list, (double)one,
                         (double)other);
            }
        }
    }
}

static void change_one(world *t, talk *told, mf_rng *rng) {
    size_t list = mf_rng_below(rng, LISTS);
    size_t count = told->counts[list];
    if (count == 0) {
        return;
    }
    size_t at = mf_rng_below(rng, count);
    said *s = &told->lists[list][at];
    if (mf_rng_below(rng, 3) > 0) {
        random_words(rng, s->text);
        s->role = (mf_role)mf_rng_below(rng, 3);
        mf_new_message message = {.role = s->role, .content = mf_str_from(s->text)};
        OK(mf_service_messages_update(t->service, told->session, &s->id, &message, 1,
                                      &t->err));
        return;
    }
    OK(mf_service_messages_delete(t->service, told->session, &s->id, 1, &t->err));
    memmove(s, s + 1, (count - at - 1) * sizeof *s);
    told->counts[list]--;
}

static void vectors_follow_every_change(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * STRATEGIES; i++) {
        mf_rng rng;
        mf_rng_init(&rng, 40 + i);
        static talk first;
        static talk again;
        world *t = world_open(options_of(strategies[i / 2], i % 2 == 1));
        make_talk(t, &first, &rng);
        for (int round = 0; round < 6; round++) {
            if (round % 2 == 0) {
                flush_all(t); /* else changes meet texts still on their way */
            }
            for (int n = 0; n < 4; n++) {
                change_one(t, &first, &rng);
            }
            char name[16];
            (void)snprintf(name, sizeof name, "u%d", round);
            tell_again(t, &first, &again, name);
            assert_same(t, &first, &again);
        }
        world_close(t);
    }
}

static void vectors_read_back_are_the_same(void **state) {
    (void)state;
    for (size_t i = 0; i < STRATEGIES; i++) {
        mf_rng rng;
        mf_rng_init(&rng, 7);
        static talk first;
        static talk again;
        world *t = world_open(options_of(strategies[i], true));
        make_talk(t, &first, &rng);
        change_one(t, &first, &rng);
        flush_all(t);
        world_restart(t);
        uint64_t before = status_of(t).embedder.encoded;
        (void)ask_all(t, first.user);
        /* The question alone: everything else was read. */
        assert_int_equal(status_of(t).embedder.encoded, before + 1);
        tell_again(t, &first, &again, "again");
        assert_same(t, &first, &again);
        world_close(t);
    }
}

static void another_strategy_replaces_the_vectors(void **state) {
    (void)state;
    for (size_t i = 0; i < STRATEGIES; i++) {
        mf_rng rng;
        mf_rng_init(&rng, 9 + i);
        static talk first;
        static talk again;
        world *t = world_open(options_of(strategies[i], true));
        make_talk(t, &first, &rng);
        flush_all(t);
        t->options = options_of(strategies[(i + 1) % STRATEGIES], true);
        world_restart(t);
        (void)ask_all(t, first.user); /* loads the user, who owes vectors now */
        flush_all(t);
        uint64_t chunks = status_of(t).store.chunks;
        tell_again(t, &first, &again, "again");
        assert_same(t, &first, &again);
        /* As many rows as from scratch: none of the old ones is left. */
        assert_int_equal(status_of(t).store.chunks, 2 * chunks);
        world_close(t);
    }
}

static void chunks_are_those_of_the_strategy(void **state) {
    (void)state;
    world *t = world_open(options_of(strategies[1], false));
    static talk told;
    open_talk(t, &told, "u");
    told.counts[0] = 2;
    told.lists[0][0] = (said){.role = MF_ROLE_USER, .text = "the red cat"};
    told.lists[0][1] = (said){.role = MF_ROLE_ASSISTANT, .text = "runs"};
    told.counts[1] = 1;
    told.lists[1][0] = (said){.role = MF_ROLE_USER, .text = "dogs"};
    add_list(t, &told, 0);
    add_list(t, &told, 1);
    flush_all(t);
    mf_chunk_view *rows;
    size_t count;
    OK(mf_service_chunks_list(t->service, told.session, MF_STR_NONE, t->arena, &rows,
                              &count, &t->err));
    assert_int_equal(count, 2);
    assert_text(rows[0].content, "[user]: the red cat\n[assistant]: runs");
    assert_int_equal(rows[0].message_count, 2);
    assert_true(rows[0].embedded);
    assert_text(id_text(t, rows[0].message_id), told.lists[0][0].id.p);
    assert_text(rows[1].content, "[user]: dogs");
    assert_string_equal(mf_service_chunk_strategy(t->service), "message");
    mf_str round = id_text(t, rows[0].round_id);
    OK(mf_service_chunks_list(t->service, MF_STR_NONE, round, t->arena, &rows, &count,
                              &t->err));
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].part_count, 1);
    world_close(t);
}

/* Longer than a list may be: its messages stand alone, and stay findable. */
static void a_very_long_list_is_cut_message_by_message(void **state) {
    (void)state;
    world *t = world_open(options_of(strategies[1], false));
    mf_str user = new_user(t, "u");
    mf_str session = new_session(t, user, new_agent(t, "a"), "s");
    size_t len = MF_CHUNK_LIST_BYTES_MAX - 10;
    char *text = mf_alloc(len + 1);
    assert_non_null(text);
    memset(text, ' ', len);
    memcpy(text, "green dogs", 10);
    text[len - 1] = '.';
    text[len] = '\0';
    mf_new_message messages[] = {
        {.role = MF_ROLE_USER, .content = {text, len}},
        {.role = MF_ROLE_USER, .content = MF_STR("the red cat runs")}};
    mf_uuid ids[2];
    OK(mf_service_add_wait(t->service, session, messages, 2, ids, &t->err));
    flush_all(t);
    mf_chunk_view *rows;
    size_t count;
    OK(mf_service_chunks_list(t->service, session, MF_STR_NONE, t->arena, &rows, &count,
                              &t->err));
    assert_int_equal(count, 2);
    assert_text(rows[1].content, "[user]: the red cat runs");
    mf_str id = id_text(t, ids[0]);
    OK(mf_service_messages_delete(t->service, session, &id, 1, &t->err));
    flush_all(t);
    mf_results results = ask(t, query_for(user, "red cat"));
    assert_int_equal(results.count, 1);
    assert_true(results.rows[0].similarity > 0.0F);
    mf_free(text);
    world_close(t);
}

static void an_overlap_as_long_as_a_chunk_is_refused(void **state) {
    (void)state;
    world *t = world_open((world_options){0});
    world_options good = t->options;
    mf_settings *settings;
    const char *sets[] = {STRATEGY("character"),
                          "buffer.hybrid_buffer.chunk_characters=50",
                          "buffer.hybrid_buffer.chunk_overlap=50"};
    mf_config_sources sources = {.sets = sets, .set_count = 3};
    OK(mf_settings_open(&sources, &settings, &t->err));
    mf_service_parts parts = {.store = t->store,
                              .writer = t->writer,
                              .readers = t->readers,
                              .embedder = t->embedder,
                              .tokens = t->tokens,
                              .settings = settings};
    mf_service *service = NULL;
    FAILS(MF_E_INVAL, mf_service_open(&parts, &service, &t->err));
    assert_string_equal(t->err.field, "buffer.hybrid_buffer.chunk_overlap");
    assert_null(service);
    mf_settings_close(settings);
    t->options = good;
    world_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_follow_every_change),
        cmocka_unit_test(vectors_read_back_are_the_same),
        cmocka_unit_test(another_strategy_replaces_the_vectors),
        cmocka_unit_test(chunks_are_those_of_the_strategy),
        cmocka_unit_test(a_very_long_list_is_cut_message_by_message),
        cmocka_unit_test(an_overlap_as_long_as_a_chunk_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
