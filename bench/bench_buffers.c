/* bench_buffers.c - what buffers, tiers and bounds cost and bring, in one process and
 * one run, without HTTP.
 *
 *     bench_buffers [FOLDER [SECONDS [PART...]]]
 *
 * FOLDER should lie on the disk that will hold the data (default: the temporary
 * folder); SECONDS is how long each number of concurrent users is measured (60). The
 * parts, each in a process of its own; default: all of them, in this order.
 *
 * - sharing: ten users with a model of their own beside ten that share one.
 *
 * - budgets: each step beside its budget and beside the figure of the first design.
 *
 * - first: a user's first answer with the parts all share, and with parts of its own.
 *
 * - onoff: the same work with buffers, without them, and with every add waiting for its
 *   vector and its commit.
 *
 * - users: 10, 100 and 1,000 concurrent users who mix adds, questions and listings,
 *   with half a second of thought between two requests.
 *
 * - touch: 100,000 users touched one after the other; memory must not follow.
 *
 * Times are wall-clock; every figure is the median of several turns with the least and
 * the most beside it, taken by turns.  A gain is 1 - ours/other. */
#include <inttypes.h>
#include <math.h>
#include <sys/wait.h>

#include "bench_world.h"
#include "buffer/write_buffer.h"
#include "model/model_registry.h"

enum { TURNS = 9 };

static const char *model_dir = MF_BENCH_MODEL_DIR;
static int64_t users_ns;

static double us_since(int64_t start_ns) {
    return (double)(mf_now_ns() - start_ns) / MF_NS_PER_US;
}

/* --- sharing: ten private models beside one --- */

enum { INSTANCES = 10 };

typedef struct sharing_result {
    double start_ms, memory_mb, proportional_mb;
} sharing_result;

static mf_embedder *open_model(mf_encoder **encoder) {
    mf_err err;
    mf_embedder *embedder;
    mf_encoder_options options = mf_encoder_options_default();
    mf_embedder_options lanes = mf_embedder_options_default(mf_cpu_count());
    must(mf_encoder_open(model_dir, &options, encoder, &err), &err);
    must(mf_embedder_open(*encoder, &lanes, &embedder, &err), &err);
    return embedder;
}

/* In a process that has done nothing else, which ends with it. */
static sharing_result open_instances(bool share) {
    mf_encoder *encoder = NULL;
    mf_embedder *embedder = NULL;
    mf_err err;
    float vector[4096];
    mf_str text = MF_STR("one sentence to have the model at work");
    mf_embed_call call = {.cls = MF_EMBED_QUESTION, .deadline_ns = MF_NEVER};
    long rss = proc_kb("status", "VmRSS");
    long pss = proc_kb("smaps_rollup", "Pss");
    int64_t start = mf_now_ns();
    for (int i = 0; i < INSTANCES; i++) {
        if (i == 0 || !share) {
            embedder = open_model(&encoder);
        } else {
            (void)mf_encoder_ref(encoder);
        }
        must(mf_embedder_encode(embedder, &call, &text, 1, NULL, vector, &err), &err);
    }
    return (sharing_result){
        .start_ms = us_since(start) / 1e3,
        .memory_mb = (double)(proc_kb("status", "VmRSS") - rss) / 1024,
        .proportional_mb = (double)(proc_kb("smaps_rollup", "Pss") - pss) / 1024};
}

static sharing_result in_a_process(bool share) {
    int ends[2];
    sharing_result result = {0};
    must_sys(pipe(ends) == 0, "pipe");
    (void)fflush(NULL);
    pid_t pid = fork();
    must_sys(pid >= 0, "fork");
    if (pid == 0) {
        result = open_instances(share);
        must_sys(write(ends[1], &result, sizeof result) == sizeof result, "write");
        _exit(0);
    }
    (void)close(ends[1]);
    must_sys(read(ends[0], &result, sizeof result) == sizeof result, "a child failed");
    (void)close(ends[0]);
    must_sys(waitpid(pid, NULL, 0) == pid, "waitpid");
    return result;
}

static void print_gain(const char *what, const char *promise, double *shared,
                       double *other, size_t count) {
    double gains[64];
    for (size_t i = 0; i < count; i++) {
        gains[i] = 100 * (1 - shared[i] / other[i]);
    }
    spread g = spread_of(gains, count);
    spread a = spread_of(shared, count);
    spread b = spread_of(other, count);
    (void)printf("  %-34s %9.1f [%.1f..%.1f] %9.1f [%.1f..%.1f]  gain %5.1f %% "
                 "[%.1f..%.1f]  promised %s\n",
                 what, a.median, a.least, a.most, b.median, b.least, b.most, g.median,
                 g.least, g.most, promise);
}

static void bench_sharing(void) {
    double ms[2][TURNS], mb[2][TURNS], pss[2][TURNS];
    (void)in_a_process(true); /* packs the model and warms the page cache */
    for (int i = 0; i < TURNS; i++) {
        for (int share = 0; share < 2; share++) {
            sharing_result r = in_a_process(share == 1);
            ms[1 - share][i] = r.start_ms;
            mb[1 - share][i] = r.memory_mb;
            pss[1 - share][i] = r.proportional_mb;
        }
    }
    (void)printf("\n%d users, one model for all beside one each; medians of %d turns "
                 "[least..most]\n",
                 INSTANCES, TURNS);
    print_gain("start to ten answers, ms", "90 %", ms[0], ms[1], TURNS);
    print_gain("resident memory, MB", "90 %", mb[0], mb[1], TURNS);
    print_gain("its proportional share, MB", "90 %", pss[0], pss[1], TURNS);
}

/* --- budgets --- */

typedef struct stage {
    world *w;
    world_user user;
    char agent[MF_UUID_TEXT + 1];
    mf_rng rng;
    size_t n;                  /* counts calls */
    char last[WORLD_TEXT_MAX]; /* question */
} stage;

/* One row: `calls` of `step` per turn, `prepare` before each turn unmeasured. */
static void budget_row(const char *what, const char *seed, const char *goal, stage *s,
                       int calls, void (*prepare)(stage *), void (*step)(stage *)) {
    double us[TURNS];
    for (int i = 0; i < TURNS; i++) {
        if (prepare != NULL) {
            prepare(s);
        }
        int64_t start = mf_now_ns();
        for (int k = 0; k < calls; k++) {
            step(s);
        }
        us[i] = us_since(start) / calls;
    }
    spread r = spread_of(us, TURNS);
    (void)printf("  %-44s %10.2f [%.2f..%.2f]   %-9s %s\n", what, r.median, r.least,
                 r.most, goal, seed);
    (void)fflush(stdout);
}

static void step_find_user(stage *s) {
    mf_user *user;
    mf_err err;
    must(mf_service_find_user(s->w->service, mf_str_from(s->user.user), &user, &err),
         &err);
    mf_user_unref(user);
}

static void step_connection(stage *s) {
    mf_conn *conn;
    mf_err err;
    must(mf_conn_acquire(s->w->parts->readers, MF_NEVER, &conn, &err), &err);
    mf_conn_release(s->w->parts->readers, conn, MF_OK);
}

/* The models of the process; here one that begins empty. */
static mf_model_registry *models;

static void prepare_models(stage *s) {
    mf_err err;
    (void)s;
    mf_model_registry_close(models);
    must(mf_model_registry_open(&models, &err), &err);
}

static void step_model(stage *s) {
    mf_err err;
    mf_encoder *encoder;
    mf_model_ask ask = {.dir = model_dir, .options = mf_encoder_options_default()};
    (void)s;
    must(mf_model_registry_get(models, &ask, &encoder, &err), &err);
    (void)mf_encoder_unref(encoder);
}

/* The write buffer alone, with windows of five rounds. */
static const mf_flush_policy rounds_policy = {
    .windows = true, .limits = {.tokens_max = 800, .rounds_max = 5}};
static mf_write_buffer *rounds;
static mf_uuid rounds_session;

static void prepare_rounds(stage *s) {
    mf_err err;
    mf_write_buffer_close(rounds);
    must(mf_write_buffer_open(&rounds, &err), &err);
    rounds_session = mf_uuid_new();
    mf_round_buffer *known = mf_write_buffer_rounds(rounds);
    uint64_t ticket = mf_round_buffer_load_begin(known, rounds_session);
    (void)mf_round_buffer_load_end(known, rounds_session, ticket, NULL, 0,
                                   rounds_policy.limits, 0);
    s->n = 0;
}

static void step_add_round(stage *s) {
    mf_write_outcome out;
    mf_write_round round = {rounds_session,
                            {.first_num = (int64_t)++s->n, .tokens = 100}};
    mf_write_buffer_add(rounds, &round, &rounds_policy, mf_now_ns(), &out);
}

/* Five rounds leave the window at once, because the sixth fills it alone. */
static void step_transfer(stage *s) {
    mf_write_outcome out;
    for (int i = 0; i < 6; i++) {
        mf_write_round round = {
            rounds_session,
            {.first_num = (int64_t)++s->n, .tokens = i < 5 ? 100 : 800}};
        mf_write_buffer_add(rounds, &round, &rounds_policy, mf_now_ns(), &out);
    }
}

/* A text of 60 words is counted each time, counted and remembered, or remembered. */
static void step_count(stage *s) {
    (void)mf_token_count(s->w->parts->tokens, mf_str_from(s->last));
}

static void step_count_again(stage *s) {
    (void)mf_token_cache_count(s->w->parts->token_cache, mf_str_from(s->last));
}

static void step_count_new(stage *s) {
    (void)snprintf(s->last, 17, "%016zu", ++s->n); /* another text every time */
    s->last[16] = ' ';
    step_count_again(s);
}

static void prepare_count(stage *s) {
    world_unique(&s->rng, 60, s->last);
}

static mf_hybrid_entry *make_entry(stage *s, mf_str text, int64_t num) {
    mf_err err;
    mf_hybrid_entry *entry;
    float vector[4096];
    mf_content_key key;
    mf_embed_call call = {.cls = MF_EMBED_INGEST, .deadline_ns = MF_NEVER};
    must(mf_embedder_encode(s->w->parts->embedder, &call, &text, 1, &key, vector, &err),
         &err);
    mf_hybrid_doc doc = {.kind = MF_DOC_MESSAGE, .num = num, .round_id = mf_uuid_new()};
    must(mf_hybrid_entry_new(&doc, vector, &key, 1,
                             mf_embedder_dim(s->w->parts->embedder), &entry, &err),
         &err);
    return entry;
}

static void step_transfer_embedded(stage *s) {
    char text[WORLD_TEXT_MAX];
    for (int i = 0; i < 5; i++) {
        world_unique(&s->rng, 20, text);
        mf_hybrid_buffer_put(mf_write_buffer_hybrid(rounds),
                             make_entry(s, mf_str_from(text), (int64_t)++s->n),
                             mf_now_ns());
    }
}

static void step_add_durable(stage *s) {
    char text[WORLD_TEXT_MAX];
    world_unique(&s->rng, 20, text);
    world_add(s->w, &s->user, text);
}

/* Five rounds with their vectors wait in the hybrid buffer... */
static void prepare_flush(stage *s) {
    world_flush(s->w, s->user.user);
    for (int i = 0; i < 5; i++) {
        step_add_durable(s);
    }
    mf_service_status status;
    mf_err err;
    do { /* ... once the background has embedded them */
        (void)usleep(1000);
        must(mf_service_get_status(s->w->service, &status, &err), &err);
    } while (status.embedding_pending > 0);
}

/* ... and are committed. */
static void step_flush(stage *s) {
    world_flush(s->w, s->user.user);
}

static void ask_text(stage *s) {
    (void)world_ask(s->w, &s->user, s->last, s->w->arena);
}

static void prepare_question(stage *s) {
    world_unique(&s->rng, 6, s->last);
    ask_text(s);
}

/* The words of the last question in another order. */
static void step_near_question(stage *s) {
    enum { WORDS_MAX = 32 };
    mf_str words[WORDS_MAX];
    char text[WORLD_TEXT_MAX];
    size_t count = 0;
    size_t n = 0;
    (void)snprintf(text, sizeof text, "%s", s->last);
    for (mf_str rest = mf_str_from(text); rest.len > 0 && count < WORDS_MAX;) {
        words[count++] = mf_str_split(&rest, ' ');
    }
    for (; count > 0; count--) {
        size_t at = (size_t)mf_rng_below(&s->rng, count);
        n += (size_t)snprintf(s->last + n, sizeof s->last - n, "%s%.*s",
                              n > 0 ? " " : "", MF_STR_ARGS(words[at]));
        words[at] = words[count - 1];
    }
    ask_text(s);
}

static void step_cold_question(stage *s) {
    world_unique(&s->rng, 6, s->last);
    ask_text(s);
}

static void fill_user(stage *s, size_t documents) {
    enum { BATCH = 100 };
    char texts[BATCH][WORLD_TEXT_MAX];
    mf_new_message messages[BATCH];
    mf_uuid ids[BATCH];
    mf_err err;
    for (size_t n = 0; n < documents; n += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            world_unique(&s->rng, 12, texts[i]);
            messages[i] = (mf_new_message){.content = mf_str_from(texts[i])};
        }
        must(mf_service_add_wait(s->w->service, mf_str_from(s->user.session), messages,
                                 BATCH, ids, &err),
             &err);
    }
    world_flush(s->w, s->user.user);
}

static stage *stage_open(world *w, const char *name) {
    static stage s;
    s = (stage){.w = w};
    mf_rng_init(&s.rng, 1);
    world_agent(w, s.agent);
    world_user_new(w, s.agent, name, &s.user);
    return &s;
}

static void bench_budgets(void) {
    enum { DOCUMENTS = 10000 };
    world w;
    world_open(&w, &(world_options){.model_dir = model_dir,
                                    .sets = {"buffer.flush_interval_ms=600000",
                                             "buffer.hybrid_buffer.max_size=1000"}});
    stage *s = stage_open(&w, "budgets");
    (void)printf("\nsteps beside their budgets, us per call, medians of %d turns "
                 "[least..most]%*sgoal      seed\n",
                 TURNS, 3, "");
    budget_row("user service, active", "< 10 ms", "<= 1 us", s, 20000, NULL,
               step_find_user);
    budget_row("connection of the pool", "< 5 ms", "<= 5 us", s, 20000, NULL,
               step_connection);
    budget_row("model, first (mapped)", "2.5 s", "<= 60 ms", s, 1, prepare_models,
               step_model);
    budget_row("model, next", "10 ms", "<= 1 us", s, 20000, NULL, step_model);
    mf_model_registry_close(models);
    budget_row("round into its window", "-", "-", s, 20000, prepare_rounds,
               step_add_round);
    budget_row("tokens of 60 words, counted", "-", "-", s, 200, prepare_count,
               step_count);
    budget_row("tokens of 60 words, not yet remembered", "-", "-", s, 200,
               prepare_count, step_count_new);
    budget_row("tokens of 60 words, remembered", "-", "-", s, 200, prepare_count,
               step_count_again);
    budget_row("transfer of 5 rounds, adds included", "< 50 ms", "<= 5 ms", s, 2000,
               prepare_rounds, step_transfer);
    budget_row("transfer of 5 rounds, embedding included", "< 50 ms", "<= 5 ms", s, 1,
               prepare_rounds, step_transfer_embedded);
    budget_row("add, one writer, durable", "< 5 ms", "-", s, 100, NULL,
               step_add_durable);
    budget_row("flush of 5 rounds to the store, durable", "< 200 ms", "<= 10 ms", s, 1,
               prepare_flush, step_flush);
    fill_user(s, DOCUMENTS);
    (void)printf("  questions to a user of %d documents:\n", DOCUMENTS);
    budget_row("  the same again", "< 10 ms", "<= 150 us", s, 500, prepare_question,
               ask_text);
    budget_row("  nearly the same", "-", "-", s, 100, prepare_question,
               step_near_question);
    budget_row("  new", "< 100 ms", "p50 2 ms", s, 50, NULL, step_cold_question);
    mf_write_buffer_close(rounds);
    rounds = NULL;
    world_close(&w);
}

/* --- on and off --- */

typedef enum way { WITH, WITHOUT, WAITING, WAYS } way;

typedef enum task {
    TASK_ADD,
    TASK_RECENT,
    TASK_REPEAT,
    TASK_NEAR,
    TASK_CHAT,
    TASKS
} task;

/* One turn of a chat: what was said is stored, the recent messages are read, and three
 * questions are asked: a new one, the same again, and nearly the same. */
static void chat(stage *s, way how) {
    step_add_durable(s);
    if (how == WAITING) {
        world_flush(s->w, s->user.user);
    }
    (void)world_list(s->w, &s->user, how == WITH ? MF_LIST_WINDOW : MF_LIST_ALL,
                     s->w->arena);
    step_cold_question(s);
    ask_text(s);
    step_near_question(s);
}

static void one_call(stage *s, task what, way how) {
    switch (what) {
    case TASK_ADD:
        step_add_durable(s);
        if (how == WAITING) {
            world_flush(s->w, s->user.user);
        }
        break;
    case TASK_RECENT:
        (void)world_list(s->w, &s->user, how == WITH ? MF_LIST_WINDOW : MF_LIST_ALL,
                         s->w->arena);
        break;
    case TASK_REPEAT:
        ask_text(s);
        break;
    case TASK_NEAR:
        step_near_question(s);
        break;
    case TASK_CHAT:
    case TASKS:
        chat(s, how);
        break;
    }
}

/* Microseconds of one call. */
static double task_us(stage *s, task what, way how) {
    enum { CALLS = 60 };
    world_flush(s->w, s->user.user); /* nothing of the task before is still at work */
    prepare_question(s);
    int64_t start = mf_now_ns();
    for (int i = 0; i < CALLS; i++) {
        one_call(s, what, how);
    }
    return us_since(start) / CALLS;
}

static void bench_onoff(void) {
    enum { DOCUMENTS = 2000 };
    static const struct {
        const char *name, *promise;
    } tasks[TASKS] = {{"add, acknowledged", "60 %"},
                      {"recent messages", "60 %"},
                      {"the same question", "60 %"},
                      {"nearly the same question", "60 %"},
                      {"a turn of a chat", "70 %"}};
    static world worlds[WAYS];
    static stage stages[WAYS];
    static double us[WAYS][TASKS][TURNS];
    for (int how = 0; how < WAYS; how++) {
        world_options options = {.model_dir = model_dir};
        if (how != WITH) {
            options.sets[0] = "buffer.enabled=false";
            options.sets[1] = "buffer.query.cache_size=0";
        }
        world_open(&worlds[how], &options);
        stages[how] = *stage_open(&worlds[how], "onoff");
        fill_user(&stages[how], DOCUMENTS);
    }
    for (int i = 0; i < TURNS; i++) {
        for (int what = 0; what < TASKS; what++) {
            for (int how = 0; how < WAYS; how++) {
                us[how][what][i] = task_us(&stages[how], (task)what, (way)how);
            }
        }
    }
    (void)printf(
        "\nwith buffers beside without (buffer.enabled and the cache of answers "
        "off), us per call;\na user of %d documents, medians of %d turns "
        "[least..most]\n",
        DOCUMENTS, TURNS);
    for (int what = 0; what < TASKS; what++) {
        double with[TURNS];
        memcpy(with, us[WITH][what], sizeof with);
        print_gain(tasks[what].name, tasks[what].promise, with, us[WITHOUT][what],
                   TURNS);
    }
    (void)printf(
        "with buffers beside adds that wait for their vector and its commit\n");
    for (int what = 0; what < TASKS; what += TASK_CHAT) {
        print_gain(tasks[what].name, tasks[what].promise, us[WITH][what],
                   us[WAITING][what], TURNS);
    }
    for (int how = 0; how < WAYS; how++) {
        world_close(&worlds[how]);
    }
}

/* --- the first use of a user's services --- */

/* A user that is not in memory answers its first question: with what the process
 * shares, and with a model and a service made for it. */
static void bench_first_use(void) {
    enum { DOCUMENTS = 100 };
    double shared[TURNS];
    double private[TURNS];
    double again[TURNS];
    world w;
    world_open(&w,
               &(world_options){.model_dir = model_dir, .sets = {"user.active_max=1"}});
    stage *s = stage_open(&w, "first");
    world_user other;
    world_user_new(&w, s->agent, "other", &other);
    fill_user(s, DOCUMENTS);
    for (int i = 0; i < TURNS; i++) {
        world_unique(&s->rng, 6, s->last);
        (void)world_ask(&w, &other, s->last, w.arena); /* drives the user out */
        int64_t start = mf_now_ns();
        ask_text(s);
        shared[i] = us_since(start) / 1e3;
        start = mf_now_ns();
        ask_text(s);
        again[i] = us_since(start) / 1e3;
        world own;
        mf_model_registry_process_reset(); /* so that it loads a model of its own */
        start = mf_now_ns();
        world_open(&own, &(world_options){.model_dir = model_dir});
        mf_embed_call call = {.cls = MF_EMBED_QUESTION, .deadline_ns = MF_NEVER};
        mf_str text = mf_str_from(s->last);
        float vector[4096];
        mf_err err;
        must(mf_embedder_encode(own.parts->embedder, &call, &text, 1, NULL, vector,
                                &err),
             &err);
        private[i] = us_since(start) / 1e3;
        world_close(&own);
    }
    (void)printf("\na user's services, first answer, ms: shared parts beside parts of "
                 "its own; a user of %d documents\n",
                 DOCUMENTS);
    double first[TURNS];
    memcpy(first, shared, sizeof first);
    print_gain("not in memory, first question", "50 %", first, private, TURNS);
    print_gain("in memory, beside not in memory", "-", again, shared, TURNS);
    world_close(&w);
}

/* --- concurrent users --- */

typedef enum request { REQUEST_ADD, REQUEST_ASK, REQUEST_LIST, REQUESTS } request;

enum { CROWD_MAX = 1000, THINK_MS = 500 };

typedef struct person {
    mf_thread thread;
    world *w;
    world_user id;
    mf_rng rng;
    int64_t until_ns;
    mf_histogram *times; /* [REQUESTS], shared by all */
} person;

static void think(person *p) {
    double ms = -log(1 - mf_rng_unit(&p->rng)) * THINK_MS;
    (void)usleep((useconds_t)(ms * 1000));
}

static void person_main(void *arg) {
    person *p = arg;
    char text[WORLD_TEXT_MAX];
    char question[WORLD_TEXT_MAX] = "what was it";
    mf_arena *arena;
    mf_err err;
    must(mf_arena_new(WORLD_ARENA_MAX, &arena, &err), &err);
    think(p);
    while (mf_now_ns() < p->until_ns) {
        uint64_t dice = mf_rng_below(&p->rng, 10);
        request what = dice < 4 ? REQUEST_ADD : dice < 8 ? REQUEST_ASK : REQUEST_LIST;
        world_unique(&p->rng, 15, text);
        if (what == REQUEST_ASK && mf_rng_below(&p->rng, 2) == 0) {
            (void)world_sentence(&p->rng, 6, question); /* else the one before */
        }
        int64_t start = mf_now_ns();
        if (what == REQUEST_ADD) {
            world_add(p->w, &p->id, text);
        } else if (what == REQUEST_ASK) {
            (void)world_ask(p->w, &p->id, question, arena);
        } else {
            (void)world_list(p->w, &p->id, MF_LIST_ALL, arena);
        }
        mf_histogram_record(&p->times[what], (uint64_t)(mf_now_ns() - start));
        think(p);
    }
    mf_arena_free(arena);
}

static void print_times(const char *what, const mf_histogram *times) {
    mf_histogram_summary s;
    mf_histogram_get_summary(times, &s);
    (void)printf("  %-6s %8" PRIu64 " %9.2f %9.2f %9.2f %9.2f\n", what, s.count,
                 (double)s.p50 / 1e6, (double)s.p99 / 1e6, (double)s.p999 / 1e6,
                 (double)s.max / 1e6);
}

static void crowd(int count) {
    static const char *const names[REQUESTS] = {"add", "ask", "list"};
    static mf_histogram times[REQUESTS];
    static person people[CROWD_MAX];
    world w;
    char agent[MF_UUID_TEXT + 1];
    mf_err err;
    world_open(&w, &(world_options){.model_dir = model_dir});
    world_agent(&w, agent);
    for (int i = 0; i < REQUESTS; i++) {
        mf_histogram_reset(&times[i]);
    }
    for (int i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "person-%d", i);
        people[i] = (person){.w = &w, .times = times};
        mf_rng_init(&people[i].rng, (uint64_t)i + 1);
        world_user_new(&w, agent, name, &people[i].id);
    }
    double before = rss_mb();
    int64_t until_ns = mf_now_ns() + users_ns;
    for (int i = 0; i < count; i++) {
        people[i].until_ns = until_ns;
        must(
            mf_thread_start(&people[i].thread, "person", person_main, &people[i], &err),
            &err);
    }
    for (int i = 0; i < count; i++) {
        mf_thread_join(&people[i].thread);
    }
    mf_service_status status;
    must(mf_service_get_status(w.service, &status, &err), &err);
    (void)printf("%d users for %.0f s: RSS %.1f MB before, %.1f MB after; %" PRIu64
                 " messages, %zu texts still to embed\n",
                 count, (double)users_ns / MF_NS_PER_S, before, rss_mb(),
                 status.store.messages, status.embedding_pending);
    for (int i = 0; i < REQUESTS; i++) {
        print_times(names[i], &times[i]);
    }
    (void)fflush(stdout);
    world_close(&w);
}

static void bench_users(void) {
    static const int counts[] = {10, 100, CROWD_MAX};
    (void)printf(
        "\nconcurrent users (4 adds, 4 questions, 2 listings in 10, every other "
        "question is the one\nbefore; thought of %d ms between requests), ms\n"
        "  what      count       p50       p99     p99.9      most\n",
        (int)THINK_MS);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        crowd(counts[i]);
    }
}

/* --- many users, one after the other --- */

static void bench_touch(void) {
    enum { USERS = 100000, LINES = 20, SENTENCES = 1000 };
    world w;
    char agent[MF_UUID_TEXT + 1];
    char texts[SENTENCES][64];
    mf_rng rng;
    mf_err err;
    mf_rng_init(&rng, 1);
    for (int i = 0; i < SENTENCES; i++) {
        char text[WORLD_TEXT_MAX];
        (void)world_sentence(&rng, 6, text);
        (void)snprintf(texts[i], sizeof texts[i], "%.63s", text);
    }
    world_open(&w, &(world_options){.model_dir = model_dir, .careless = true});
    world_agent(&w, agent);
    const mf_config *c = mf_settings_get(w.parts->settings);
    (void)printf(
        "\n%d users touched in turn (made, one message, one question); at most "
        "%" PRId64 " users stay\n     users  RSS MB  own MB  active  made "
        "active\n",
        USERS, c->user_active_max);
    for (int i = 0; i < USERS; i++) {
        char name[32];
        world_user user;
        (void)snprintf(name, sizeof name, "touched-%d", i);
        world_user_new(&w, agent, name, &user);
        world_add(&w, &user, texts[i % SENTENCES]);
        (void)world_ask(&w, &user, texts[(i + 1) % SENTENCES], w.arena);
        if ((i + 1) % (USERS / LINES) == 0) {
            mf_service_status status;
            must(mf_service_get_status(w.service, &status, &err), &err);
            (void)printf("  %8d %7.1f %7.1f %7zu %8" PRIu64 "\n", i + 1, rss_mb(),
                         (double)mf_alloc_live_bytes() / 1048576, status.users.count,
                         status.users.created);
            (void)fflush(stdout);
        }
    }
    world_close(&w);
}

/* In a process of its own, so that no part finds memory that another left. */
static bool run_apart(void (*part)(void)) {
    int status = 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    must_sys(pid >= 0, "fork");
    if (pid == 0) {
        part();
        exit(0);
    }
    must_sys(waitpid(pid, &status, 0) == pid, "waitpid");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"sharing", bench_sharing}, {"budgets", bench_budgets},
                 {"first", bench_first_use}, {"onoff", bench_onoff},
                 {"users", bench_users},     {"touch", bench_touch}};
    if (argc > 1 && argv[1][0] == '-') {
        printf(
            "Usage: %s [FOLDER [SECONDS [PART...]]]\n"
            "Stores are made in FOLDER and removed; SECONDS for each number of users;\n"
            "parts:",
            argv[0]);
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            printf(" %s", parts[i].name);
        }
        printf("\n");
        return 0;
    }
    world_folder = argc > 1 ? argv[1] : P_tmpdir;
    users_ns = (argc > 2 ? strtol(argv[2], NULL, 10) : 60) * (int64_t)MF_NS_PER_S;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        bool wanted = argc <= 3;
        for (int k = 3; k < argc; k++) {
            wanted = wanted || strcmp(argv[k], parts[i].name) == 0;
        }
        if (wanted && !run_apart(parts[i].run)) {
            return 1;
        }
    }
    return 0;
}
