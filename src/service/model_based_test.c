/* model_based_test.c - thousands of random operations, with crashes, compared with a
 * trivial model after every step.
 *
 *     service_model_based_test [SEED [SECONDS]]
 *
 * (or MEMFUSE_TEST_SEED and MEMFUSE_TEST_SECONDS in the environment).  The parent holds
 * the model (reference_testing.h) in shared memory and starts one child after the other
 * on the same SQLite file.  A child opens the service with random settings, finds out
 * what became of the operation its predecessor was killed in, checks everything, and
 * then works: users, agents, sessions, knowledge, adds of one to five messages alone,
 * in bursts and with keys, edits, deletes, questions, flushes, reloaded settings,
 * restarts. It ends by leaving in order or by SIGKILL: between operations, at a random
 * moment, or before or after a commit.
 *
 * After every step the session it touched is listed whole, by window and without it,
 * and words of living and of dead texts are asked for; now and then everything is.  The
 * operations follow from the seed; where exactly a timer kills does not. */
/* ctest-label: contract */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "base/mutex.h"
#include "service/reference_testing.h"
#include "service/setting_choices_testing.h"

enum {
    LIFE_OPERATIONS = 120, /* most of one life */
    STEPS_TO_DIE = 400,
    LIST_ALL = 100000,
    SEED_DEFAULT = 4,
    SECONDS_DEFAULT = 8,
    LIVES_MIN = 3
};

/* Two copies, one of them in force, so that a kill never leaves half a change. */
typedef struct shared_reference {
    reference copies[2];
    atomic_int current;
} shared_reference;

typedef struct driver {
    world *t;
    reference *r; /* this process's own */
    shared_reference *shared;
    mf_rng rng;
    char config[160];
    int active_max; /* settings that stay for a life */
    bool buffers;
} driver;

static uint64_t pick(driver *d, uint64_t bound) {
    return mf_rng_below(&d->rng, bound);
}

/* From here on a successor knows this state, and that the plan may have happened. */
static void publish(driver *d) {
    int other = 1 - atomic_load(&d->shared->current);
    d->shared->copies[other] = *d->r;
    atomic_store(&d->shared->current, other);
}

#define NOTE(d, ...) (ref_log((d)->r, __VA_ARGS__), publish(d))

static mf_str str_of(const char *text) {
    return mf_str_from(text);
}

/* --- settings --- */

/* `life` tells a new process from a reload. */
static void write_settings(driver *d, bool life) {
    static const int tokens[] = {1, 12, 60, 200, 800};
    static const int rounds[] = {1, 2, 5, 9};
    static const int waits_ms[] = {10, 100, 60000};
    FILE *out = fopen(d->config, "w");
    assert_non_null(out);
    (void)fprintf(out,
                  "user.active_max: %d\n"
                  "buffer.enabled: %s\n"
                  "buffer.round_buffer.max_tokens: %d\n"
                  "buffer.round_buffer.max_size: %d\n"
                  "buffer.hybrid_buffer.max_size: %d\n"
                  "buffer.flush_interval_ms: %d\n"
                  "buffer.query.max_size: %d\n",
                  d->active_max, d->buffers ? "true" : "false", tokens[pick(d, 5)],
                  rounds[pick(d, 4)], rounds[pick(d, 4)], waits_ms[pick(d, 3)],
                  pick(d, 2) == 0 ? 0 : 200);
    choices_write(out, &d->rng, life);
    assert_int_equal(fclose(out), 0);
}

/* --- checks --- */

static mf_message_row *list(driver *d, const ref_session *s, mf_list_options options,
                            size_t *count) {
    world *t = d->t;
    mf_message_row *rows = NULL;
    options.limit = LIST_ALL;
    OK(mf_service_messages_list(t->service, str_of(s->id), &options, t->arena, &rows,
                                count, &t->err));
    return rows;
}

static void same_rows(driver *d, const mf_message_row *rows, const ref_item *items,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_text(id_text(d->t, rows[i].id), items[i].id);
        assert_true(ref_says(d->t->arena, items[i].text, rows[i].content));
    }
}

/* What is listed is what was acknowledged, in order; the window is its end and the rest
 * its beginning.  Time alone may empty a window between the two listings, so they are
 * read again when they do not meet. */
static void check_session(driver *d, const ref_session *s) {
    enum { TRIES = 20 };
    size_t count = 0;
    size_t rest = 0;
    size_t window = 0;
    mf_message_row *first = NULL;
    mf_message_row *last = NULL;
    mf_message_row *rows = list(d, s, (mf_list_options){.part = MF_LIST_ALL}, &count);
    assert_int_equal(count, s->count);
    same_rows(d, rows, s->messages, count);
    for (int i = 0; i < TRIES && (i == 0 || rest + window != s->count); i++) {
        first = list(d, s, (mf_list_options){.part = MF_LIST_REST}, &rest);
        last = list(d, s, (mf_list_options){.part = MF_LIST_WINDOW}, &window);
    }
    assert_int_equal(rest + window, s->count);
    assert_true(d->buffers || window == 0);
    same_rows(d, first, s->messages, rest);
    same_rows(d, last, s->messages + rest, window);
}

static const ref_item *living(const ref_user *u, const char *id) {
    for (int s = 0; s < REF_SESSIONS; s++) {
        for (size_t i = 0; i < u->sessions[s].count; i++) {
            if (strcmp(u->sessions[s].messages[i].id, id) == 0) {
                return &u->sessions[s].messages[i];
            }
        }
    }
    for (size_t i = 0; i < u->fact_count; i++) {
        if (strcmp(u->facts[i].id, id) == 0) {
            return &u->facts[i];
        }
    }
    return NULL;
}

/* Asks for a word.  Every answer is a living text as it is now, and none comes twice.
 */
static mf_results ask_word(driver *d, const ref_user *u, uint32_t word,
                           mf_index_path path) {
    char text[24];
    (void)snprintf(text, sizeof text, "zq%u", word);
    mf_query query = query_for(str_of(u->id), text);
    query.path = path;
    query.top_k = 1000; /* all there are */
    mf_results results = ask(d->t, query);
    for (size_t i = 0; i < results.count; i++) {
        mf_str id = id_text(d->t, results.rows[i].id);
        const ref_item *item = living(u, id.p);
        assert_non_null(item);
        assert_true(ref_says(d->t->arena, item->text, results.rows[i].content));
        for (size_t k = 0; k < i; k++) {
            assert_false(mf_uuid_eq(results.rows[i].id, results.rows[k].id));
        }
    }
    return results;
}

static void check_living_word(driver *d, const ref_user *u, const ref_item *item) {
    mf_results words = ask_word(d, u, item->text.word, MF_PATH_KEYWORD);
    assert_int_equal(words.count, 1);
    assert_text(id_text(d->t, words.rows[0].id), item->id);
    mf_results blend = ask_word(d, u, item->text.word, MF_PATH_BLEND);
    bool found = false;
    for (size_t i = 0; i < blend.count; i++) {
        found = found || mf_uuid_eq(blend.rows[i].id, words.rows[0].id);
    }
    assert_true(found);
}

static void check_dead_words(driver *d, size_t most) {
    reference *r = d->r;
    size_t kept = r->dead_count < REF_DEAD ? r->dead_count : REF_DEAD;
    for (size_t i = 0; i < most && kept > 0; i++) {
        const ref_dead *dead = &r->dead[pick(d, kept)];
        const ref_user *u = &r->users[dead->user];
        if (u->alive) {
            mf_results none = ask_word(d, u, dead->word, MF_PATH_KEYWORD);
            assert_int_equal(none.count, 0);
        }
    }
}

static void check_facts(driver *d, const ref_user *u) {
    world *t = d->t;
    mf_knowledge_row *rows = NULL;
    size_t count = 0;
    OK(mf_service_knowledge_list(t->service, str_of(u->id), t->arena, &rows, &count,
                                 &t->err));
    assert_int_equal(count, u->fact_count);
    for (size_t i = 0; i < count; i++) {
        assert_text(id_text(t, rows[i].id), u->facts[i].id);
        assert_true(ref_says(t->arena, u->facts[i].text, rows[i].content));
    }
}

static void check_counts(driver *d) {
    const reference *r = d->r;
    size_t users = 0;
    size_t agents = 0;
    size_t sessions = 0;
    size_t messages = 0;
    size_t facts = 0;
    for (int u = 0; u < REF_USERS; u++) {
        const ref_user *user = &r->users[u];
        users += user->alive;
        for (int s = 0; s < REF_SESSIONS; s++) {
            sessions += user->sessions[s].alive;
        }
        messages += ref_messages_of(user);
        facts += user->fact_count;
    }
    for (int a = 0; a < REF_AGENTS; a++) {
        agents += r->agents_alive[a];
    }
    mf_service_status status = status_of(d->t);
    assert_int_equal(status.store.users, users);
    assert_int_equal(status.store.agents, agents);
    assert_int_equal(status.store.sessions, sessions);
    assert_int_equal(status.store.messages, messages);
    assert_int_equal(status.store.knowledge, facts);
}

static void check_user(driver *d, const ref_user *u, bool every_word) {
    for (int k = 0; k < REF_SESSIONS; k++) {
        const ref_session *s = &u->sessions[k];
        if (s->alive) {
            check_session(d, s);
        }
        for (size_t i = 0; every_word && i < s->count; i++) {
            check_living_word(d, u, &s->messages[i]);
            mf_arena_reset(d->t->arena);
        }
    }
    check_facts(d, u);
    for (size_t i = 0; every_word && i < u->fact_count; i++) {
        check_living_word(d, u, &u->facts[i]);
    }
}

static void check_all(driver *d) {
    for (int u = 0; u < REF_USERS; u++) {
        if (d->r->users[u].alive) {
            check_user(d, &d->r->users[u], pick(d, 4) == 0);
        }
        mf_arena_reset(d->t->arena);
    }
    check_dead_words(d, 20);
    check_counts(d);
    mf_arena_reset(d->t->arena);
}

/* After a step: what it touched, a word that is there, a word that is not. */
static void check_step(driver *d, int user) {
    const ref_user *u = &d->r->users[user];
    if (u->alive) {
        const ref_session *s = &u->sessions[pick(d, REF_SESSIONS)];
        check_user(d, u, false);
        if (s->count > 0) {
            check_living_word(d, u, &s->messages[pick(d, s->count)]);
            check_living_word(d, u, &s->messages[s->count - 1]);
        }
    }
    check_dead_words(d, 2);
    if (pick(d, 8) == 0) {
        check_counts(d);
    }
}

/* --- choosing --- */

static int alive_user(driver *d) {
    int start = (int)pick(d, REF_USERS);
    for (int i = 0; i < REF_USERS; i++) {
        int u = (start + i) % REF_USERS;
        if (d->r->users[u].alive) {
            return u;
        }
    }
    return -1;
}

static int alive_session(driver *d, int user) {
    int start = (int)pick(d, REF_SESSIONS);
    for (int i = 0; user >= 0 && i < REF_SESSIONS; i++) {
        int s = (start + i) % REF_SESSIONS;
        if (d->r->users[user].sessions[s].alive) {
            return s;
        }
    }
    return -1;
}

static ref_plan *plan(driver *d, ref_kind kind, int user, int session) {
    d->r->plan = (ref_plan){.kind = kind, .user = user, .session = session};
    return &d->r->plan;
}

static void plan_done(driver *d) {
    d->r->plan.kind = REF_NOTHING;
    publish(d);
}

static void plan_name(driver *d, const char *prefix) {
    (void)snprintf(d->r->plan.name, sizeof d->r->plan.name, "%s%u", prefix,
                   ++d->r->next_name);
}

/* --- users, agents, sessions --- */

static void copy_id(char out[REF_ID], mf_uuid id) {
    mf_uuid_format(id, out);
    out[REF_ID - 1] = '\0';
}

static void user_made(reference *r, mf_uuid id) {
    ref_user *u = &r->users[r->plan.user];
    *u = (ref_user){.alive = true};
    copy_id(u->id, id);
    memcpy(u->name, r->plan.name, sizeof u->name);
}

static void agent_made(reference *r, mf_uuid id) {
    r->agents_alive[r->plan.agent] = true;
    copy_id(r->agents[r->plan.agent], id);
}

static void session_made(reference *r, mf_uuid id) {
    ref_session *s = ref_plan_session(r);
    *s = (ref_session){.alive = true, .agent = r->plan.agent};
    copy_id(s->id, id);
    memcpy(s->name, r->plan.name, sizeof s->name);
}

static int do_user(driver *d) {
    world *t = d->t;
    int u = (int)pick(d, REF_USERS);
    mf_named_row row;
    if (!d->r->users[u].alive) {
        (void)plan(d, REF_USER_CREATE, u, 0);
        plan_name(d, "user");
        NOTE(d, "create user %d", u);
        OK(mf_service_named_create(t->service, MF_NAMED_USER, str_of(d->r->plan.name),
                                   MF_STR_NONE, t->arena, &row, &t->err));
        user_made(d->r, row.id);
    } else if (pick(d, 3) == 0) {
        (void)plan(d, REF_USER_DELETE, u, 0);
        NOTE(d, "delete user %d", u);
        OK(mf_service_named_delete(t->service, MF_NAMED_USER, str_of(d->r->users[u].id),
                                   &t->err));
        ref_apply_user_delete(d->r);
    }
    plan_done(d);
    return u;
}

static int do_agent(driver *d) {
    world *t = d->t;
    int a = (int)pick(d, REF_AGENTS);
    mf_named_row row;
    if (!d->r->agents_alive[a]) {
        plan(d, REF_AGENT_CREATE, 0, 0)->agent = a;
        plan_name(d, "agent");
        NOTE(d, "create agent %d", a);
        OK(mf_service_named_create(t->service, MF_NAMED_AGENT, str_of(d->r->plan.name),
                                   MF_STR_NONE, t->arena, &row, &t->err));
        agent_made(d->r, row.id);
    } else if (pick(d, 6) == 0) {
        plan(d, REF_AGENT_DELETE, 0, 0)->agent = a;
        NOTE(d, "delete agent %d and its sessions", a);
        OK(mf_service_named_delete(t->service, MF_NAMED_AGENT, str_of(d->r->agents[a]),
                                   &t->err));
        ref_apply_agent_delete(d->r);
    }
    plan_done(d);
    return alive_user(d);
}

static int do_session(driver *d) {
    world *t = d->t;
    int u = alive_user(d);
    int s = (int)pick(d, REF_SESSIONS);
    int a = (int)pick(d, REF_AGENTS);
    mf_session_row row;
    if (u < 0) {
        return do_user(d);
    }
    ref_session *session = &d->r->users[u].sessions[s];
    if (!session->alive && d->r->agents_alive[a]) {
        plan(d, REF_SESSION_CREATE, u, s)->agent = a;
        plan_name(d, "session");
        NOTE(d, "create session %d of user %d", s, u);
        OK(mf_service_session_create(t->service, str_of(d->r->users[u].id),
                                     str_of(d->r->agents[a]), str_of(d->r->plan.name),
                                     t->arena, &row, &t->err));
        session_made(d->r, row.id);
    } else if (session->alive && pick(d, 3) == 0) {
        (void)plan(d, REF_SESSION_DELETE, u, s);
        NOTE(d, "delete session %d of user %d", s, u);
        OK(mf_service_session_delete(t->service, str_of(session->id), &t->err));
        ref_session_end(d->r, u, s);
    }
    plan_done(d);
    return u;
}

/* --- adding --- */

typedef struct burst {
    mf_mutex mu;
    mf_cond finished;
    size_t left; /* guarded by mu, like all below */
    struct burst_add {
        struct burst *burst;
        mf_rc rc;
        size_t count;
        char ids[REF_ADD][REF_ID];
        bool replayed;
    } adds[REF_BURST];
} burst;

static void add_answered(void *ctx, mf_rc rc, const mf_add_result *result,
                         const mf_err *err) {
    struct burst_add *add = ctx;
    (void)err;
    mf_mutex_lock(&add->burst->mu);
    add->rc = rc;
    if (rc == MF_OK) {
        add->replayed = result->replayed;
        add->count = result->count;
        for (size_t i = 0; i < result->count && i < REF_ADD; i++) {
            copy_id(add->ids[i], result->message_ids[i]);
        }
    }
    add->burst->left--;
    mf_cond_signal(&add->burst->finished);
    mf_mutex_unlock(&add->burst->mu);
}

/* Sends the adds one right after the other and waits for all answers. */
static void send_burst(driver *d, const char *session_id, const ref_add *adds,
                       size_t count, burst *b) {
    world *t = d->t;
    *b = (burst){.left = count};
    mf_mutex_init(&b->mu, MF_RANK_LEAF);
    mf_cond_init(&b->finished);
    for (size_t i = 0; i < count; i++) {
        mf_new_message messages[REF_ADD] = {0};
        for (size_t k = 0; k < adds[i].count; k++) {
            messages[k].role = k % 2 == 0 ? MF_ROLE_USER : MF_ROLE_ASSISTANT;
            messages[k].content = ref_text_make(t->arena, adds[i].items[k].text);
        }
        b->adds[i].burst = b;
        mf_service_add(t->service, str_of(session_id), messages, adds[i].count,
                       str_of(adds[i].key), add_answered, &b->adds[i]);
    }
    mf_mutex_lock(&b->mu);
    while (b->left > 0) {
        (void)mf_cond_wait(&b->finished, &b->mu, MF_NEVER); /* every add is answered */
    }
    mf_mutex_unlock(&b->mu);
    mf_cond_done(&b->finished);
    mf_mutex_done(&b->mu);
}

static void fill_add(driver *d, ref_add *add) {
    add->count = 1 + pick(d, REF_ADD);
    for (size_t i = 0; i < add->count; i++) {
        add->items[i].text = ref_text_new(d->r, &d->rng);
    }
}

static int do_adds(driver *d, size_t count, bool keyed) {
    int u = alive_user(d);
    int s = alive_session(d, u);
    if (s < 0) {
        return do_session(d);
    }
    ref_session *session = &d->r->users[u].sessions[s];
    if (session->count + count * REF_ADD > REF_MESSAGES) {
        return u;
    }
    ref_plan *p = plan(d, REF_ADDS, u, s);
    for (size_t i = 0; i < count; i++) {
        fill_add(d, &p->adds[i]);
        if (keyed) {
            (void)snprintf(p->adds[i].key, sizeof p->adds[i].key, "key%u",
                           ++d->r->next_name);
        }
    }
    p->add_count = count;
    NOTE(d, "%zu adds to session %d of user %d, first word zq%u%s", count, s, u,
         p->adds[0].items[0].text.word, keyed ? ", keyed" : "");
    static burst b;
    send_burst(d, session->id, p->adds, count, &b);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(b.adds[i].rc, MF_OK);
        assert_int_equal(b.adds[i].count, p->adds[i].count);
        for (size_t k = 0; k < p->adds[i].count; k++) {
            memcpy(p->adds[i].items[k].id, b.adds[i].ids[k], REF_ID);
        }
    }
    for (size_t i = 0; i < count; i++) {
        ref_apply_add(d->r, &p->adds[i]);
    }
    plan_done(d);
    return u;
}

/* A keyed add again: the same answer and no second effect; other content is refused. */
static int do_replay(driver *d) {
    int u = alive_user(d);
    int s = alive_session(d, u);
    if (s < 0 || d->r->users[u].sessions[s].keyed.count == 0) {
        return do_adds(d, 1, true);
    }
    ref_session *session = &d->r->users[u].sessions[s];
    static burst b;
    NOTE(d, "repeat %s in session %d of user %d", session->keyed.key, s, u);
    send_burst(d, session->id, &session->keyed, 1, &b);
    assert_int_equal(b.adds[0].rc, MF_OK);
    assert_true(b.adds[0].replayed);
    assert_int_equal(b.adds[0].count, session->keyed.count);
    for (size_t i = 0; i < session->keyed.count; i++) {
        assert_string_equal(b.adds[0].ids[i], session->keyed.items[i].id);
    }
    ref_add other = session->keyed;
    other.items[0].text.fill++;
    send_burst(d, session->id, &other, 1, &b);
    assert_int_equal(b.adds[0].rc, MF_E_INVAL);
    return u;
}

/* --- editing --- */

/* Up to three different messages of a session into the plan. */
static bool plan_change(driver *d, ref_kind kind) {
    int u = alive_user(d);
    int s = alive_session(d, u);
    if (s < 0 || d->r->users[u].sessions[s].count == 0) {
        return false;
    }
    const ref_session *session = &d->r->users[u].sessions[s];
    ref_plan *p = plan(d, REF_NOTHING, u, s);
    ref_add *change = &p->adds[0];
    size_t wanted = 1 + pick(d, 3);
    for (size_t i = 0; i < wanted; i++) {
        const ref_item *item = &session->messages[pick(d, session->count)];
        if (ref_find(change->items, change->count, item->id) == NULL) {
            change->items[change->count] = *item;
            if (kind == REF_EDIT) {
                change->items[change->count].text = ref_text_new(d->r, &d->rng);
            }
            change->count++;
        }
    }
    p->add_count = 1;
    p->kind = kind;
    return true;
}

static int do_change(driver *d, ref_kind kind) {
    world *t = d->t;
    if (!plan_change(d, kind)) {
        return do_adds(d, 1, false);
    }
    const ref_plan *p = &d->r->plan;
    const ref_add *change = &p->adds[0];
    const char *session = ref_plan_session(d->r)->id;
    mf_str ids[REF_ADD + 1];
    mf_new_message texts[REF_ADD + 1] = {0};
    for (size_t i = 0; i < change->count; i++) {
        ids[i] = str_of(change->items[i].id);
        texts[i].content = ref_text_make(t->arena, change->items[i].text);
    }
    if (pick(d, 8) == 0) { /* one that is not there: nothing happens at all */
        ids[change->count] = MF_STR("00000000-0000-4000-8000-000000000000");
        texts[change->count].content = MF_STR("nobody");
        FAILS(MF_E_NOTFOUND,
              mf_service_messages_update(t->service, str_of(session), ids, texts,
                                         change->count + 1, &t->err));
        FAILS(MF_E_NOTFOUND,
              mf_service_messages_delete(t->service, str_of(session), ids,
                                         change->count + 1, &t->err));
    }
    NOTE(d, "%s %zu in session %d of user %d, first now zq%u",
         kind == REF_EDIT ? "edit" : "delete", change->count, p->session, p->user,
         change->items[0].text.word);
    if (kind == REF_EDIT) {
        OK(mf_service_messages_update(t->service, str_of(session), ids, texts,
                                      change->count, &t->err));
    } else {
        OK(mf_service_messages_delete(t->service, str_of(session), ids, change->count,
                                      &t->err));
    }
    ref_apply_edit(d->r);
    plan_done(d);
    return p->user;
}

/* --- knowledge --- */

static int do_learn(driver *d) {
    world *t = d->t;
    int u = alive_user(d);
    if (u < 0 || d->r->users[u].fact_count + REF_ADD > REF_FACTS) {
        return u;
    }
    ref_plan *p = plan(d, REF_LEARN, u, 0);
    ref_add *change = &p->adds[0];
    fill_add(d, change);
    mf_str texts[REF_ADD];
    mf_uuid ids[REF_ADD];
    for (size_t i = 0; i < change->count; i++) {
        texts[i] = ref_text_make(t->arena, change->items[i].text);
    }
    NOTE(d, "%zu facts for user %d, first zq%u", change->count, u,
         change->items[0].text.word);
    OK(mf_service_knowledge_add(t->service, str_of(d->r->users[u].id), texts,
                                change->count, ids, &t->err));
    for (size_t i = 0; i < change->count; i++) {
        copy_id(change->items[i].id, ids[i]);
    }
    ref_apply_facts(d->r);
    plan_done(d);
    return u;
}

static int do_forget(driver *d) {
    world *t = d->t;
    int u = alive_user(d);
    if (u < 0 || d->r->users[u].fact_count == 0) {
        return do_learn(d);
    }
    const ref_user *user = &d->r->users[u];
    ref_plan *p = plan(d, REF_FORGET, u, 0);
    p->adds[0].count = 1;
    p->adds[0].items[0] = user->facts[pick(d, user->fact_count)];
    mf_str id = str_of(p->adds[0].items[0].id);
    bool done = false;
    NOTE(d, "forget zq%u of user %d", p->adds[0].items[0].text.word, u);
    OK(mf_service_knowledge_delete(t->service, str_of(user->id), &id, 1, &done,
                                   &t->err));
    assert_true(done);
    ref_apply_facts(d->r);
    plan_done(d);
    return u;
}

/* --- what changes nothing that anybody sees, but for windows that are emptied --- */

static void window_sizes(driver *d, size_t sizes[REF_USERS][REF_SESSIONS]) {
    for (int u = 0; u < REF_USERS; u++) {
        for (int s = 0; s < REF_SESSIONS; s++) {
            const ref_session *session = &d->r->users[u].sessions[s];
            sizes[u][s] = 0;
            if (session->alive) {
                (void)list(d, session, (mf_list_options){.part = MF_LIST_WINDOW},
                           &sizes[u][s]);
            }
        }
    }
}

static int do_flush(driver *d) {
    world *t = d->t;
    int u = alive_user(d);
    NOTE(d, "flush user %d", u);
    if (u < 0 || pick(d, 4) == 0) {
        flush_all(t);
        assert_true(t->options.no_model || status_of(t).embedding_pending == 0);
    } else {
        mf_flush_result result;
        OK(mf_service_flush(t->service, str_of(d->r->users[u].id),
                            mf_deadline_in_ms(60000), &result, &t->err));
        size_t sizes[REF_USERS][REF_SESSIONS];
        window_sizes(d, sizes);
        for (int s = 0; s < REF_SESSIONS; s++) {
            assert_int_equal(sizes[u][s], 0);
        }
    }
    return u;
}

static int do_touch_everybody(driver *d) {
    NOTE(d, "ask every user, so that some leave memory");
    for (int u = 0; u < REF_USERS; u++) {
        if (d->r->users[u].alive) {
            (void)ask_word(d, &d->r->users[u], 0, MF_PATH_BLEND);
        }
    }
    return alive_user(d);
}

static int do_reload(driver *d) {
    world *t = d->t;
    NOTE(d, "reload the settings");
    write_settings(d, false);
    OK(mf_settings_reload(t->settings, NULL, &t->err));
    d->r->reloads++;
    return alive_user(d);
}

/* A window is a function of what is stored and of the settings: it comes back as it
 * was.  Where time alone empties windows, it is one of how long the process has run
 * too. */
static int do_restart(driver *d) {
    size_t before[REF_USERS][REF_SESSIONS];
    size_t after[REF_USERS][REF_SESSIONS];
    bool timed = choice_is("buffer.flush.strategy", "time_based");
    NOTE(d, "restart in order");
    window_sizes(d, before);
    world_restart(d->t);
    window_sizes(d, after);
    for (int i = 0; !timed && i < REF_USERS * REF_SESSIONS; i++) {
        int u = i / REF_SESSIONS;
        int s = i % REF_SESSIONS;
        if (after[u][s] != before[u][s]) {
            fail_msg("session %d of user %d had %zu in its window, now %zu", s, u,
                     before[u][s], after[u][s]);
        }
    }
    d->r->restarts++;
    return alive_user(d);
}

static void step(driver *d) {
    uint64_t dice = pick(d, 100);
    int u = dice < 6    ? do_user(d)
            : dice < 9  ? do_agent(d)
            : dice < 17 ? do_session(d)
            : dice < 40 ? do_adds(d, 1, false)
            : dice < 48 ? do_adds(d, 1 + pick(d, REF_BURST), pick(d, 2) == 0)
            : dice < 54 ? do_replay(d)
            : dice < 67 ? do_change(d, REF_EDIT)
            : dice < 78 ? do_change(d, REF_DELETE)
            : dice < 83 ? do_learn(d)
            : dice < 86 ? do_forget(d)
            : dice < 91 ? do_flush(d)
            : dice < 95 ? do_touch_everybody(d)
            : dice < 98 ? do_reload(d)
                        : do_restart(d);
    d->r->operations++;
    if (u >= 0) {
        check_step(d, u);
    }
    mf_arena_reset(d->t->arena);
}

/* --- after a crash: what became of the operation under way? --- */

static bool exists(driver *d, ref_kind kind, mf_uuid *id) {
    world *t = d->t;
    mf_named_row named;
    mf_session_row session;
    mf_str name = str_of(d->r->plan.name);
    mf_rc rc;
    if (kind == REF_SESSION_CREATE) {
        rc = mf_service_session_find(t->service, name,
                                     str_of(d->r->users[d->r->plan.user].id), t->arena,
                                     &session, &t->err);
        *id = rc == MF_OK ? session.id : MF_UUID_NONE;
    } else {
        rc = mf_service_named_find(
            t->service, kind == REF_USER_CREATE ? MF_NAMED_USER : MF_NAMED_AGENT, name,
            t->arena, &named, &t->err);
        *id = rc == MF_OK ? named.id : MF_UUID_NONE;
    }
    assert_true(rc == MF_OK || rc == MF_E_NOTFOUND);
    return rc == MF_OK;
}

static bool gone(driver *d) {
    world *t = d->t;
    const ref_plan *p = &d->r->plan;
    mf_named_row named;
    mf_session_row session;
    mf_rc rc;
    if (p->kind == REF_SESSION_DELETE) {
        rc = mf_service_session_get(t->service, str_of(ref_plan_session(d->r)->id),
                                    t->arena, &session, &t->err);
    } else if (p->kind == REF_USER_DELETE) {
        rc = mf_service_named_get(t->service, MF_NAMED_USER,
                                  str_of(d->r->users[p->user].id), t->arena, &named,
                                  &t->err);
    } else {
        rc = mf_service_named_get(t->service, MF_NAMED_AGENT,
                                  str_of(d->r->agents[p->agent]), t->arena, &named,
                                  &t->err);
    }
    assert_true(rc == MF_OK || rc == MF_E_NOTFOUND);
    return rc == MF_E_NOTFOUND;
}

/* Of several adds the first ones may have happened, each of them whole. */
static size_t settle_adds(driver *d) {
    ref_plan *p = &d->r->plan;
    ref_session *s = ref_plan_session(d->r);
    size_t count = 0;
    size_t happened = 0;
    mf_message_row *rows = list(d, s, (mf_list_options){.part = MF_LIST_ALL}, &count);
    for (; happened < p->add_count && s->count < count; happened++) {
        ref_add *add = &p->adds[happened];
        assert_true(s->count + add->count <= count);
        for (size_t i = 0; i < add->count; i++) {
            copy_id(add->items[i].id, rows[s->count + i].id);
        }
        ref_apply_add(d->r, add);
    }
    assert_int_equal(s->count, count); /* the contents are compared with all others */
    return happened;
}

static bool changed(driver *d) {
    const ref_plan *p = &d->r->plan;
    const ref_session *s = ref_plan_session(d->r);
    size_t count = 0;
    mf_message_row *rows = list(d, s, (mf_list_options){.part = MF_LIST_ALL}, &count);
    if (p->kind == REF_DELETE) {
        return count != s->count;
    }
    for (size_t i = 0; i < count; i++) {
        if (mf_str_eq(id_text(d->t, rows[i].id), str_of(p->adds[0].items[0].id))) {
            return ref_says(d->t->arena, p->adds[0].items[0].text, rows[i].content);
        }
    }
    return false;
}

static bool facts_changed(driver *d) {
    world *t = d->t;
    ref_plan *p = &d->r->plan;
    const ref_user *u = &d->r->users[p->user];
    mf_knowledge_row *rows = NULL;
    size_t count = 0;
    OK(mf_service_knowledge_list(t->service, str_of(u->id), t->arena, &rows, &count,
                                 &t->err));
    for (size_t i = u->fact_count; p->kind == REF_LEARN && i < count; i++) {
        assert_true(i - u->fact_count < p->adds[0].count);
        copy_id(p->adds[0].items[i - u->fact_count].id, rows[i].id);
    }
    return count != u->fact_count;
}

/* true when the plan happened, or some of its adds did. */
static bool settle(driver *d) {
    reference *r = d->r;
    mf_uuid id;
    bool happened = false;
    switch (r->plan.kind) {
    case REF_NOTHING:
        return true;
    case REF_USER_CREATE:
        happened = exists(d, REF_USER_CREATE, &id);
        happened ? user_made(r, id) : (void)0;
        break;
    case REF_AGENT_CREATE:
        happened = exists(d, REF_AGENT_CREATE, &id);
        happened ? agent_made(r, id) : (void)0;
        break;
    case REF_SESSION_CREATE:
        happened = exists(d, REF_SESSION_CREATE, &id);
        happened ? session_made(r, id) : (void)0;
        break;
    case REF_USER_DELETE:
        happened = gone(d);
        happened ? ref_apply_user_delete(r) : (void)0;
        break;
    case REF_AGENT_DELETE:
        happened = gone(d);
        happened ? ref_apply_agent_delete(r) : (void)0;
        break;
    case REF_SESSION_DELETE:
        happened = gone(d);
        happened ? ref_session_end(r, r->plan.user, r->plan.session) : (void)0;
        break;
    case REF_ADDS:
        happened = settle_adds(d) > 0;
        break;
    case REF_EDIT:
    case REF_DELETE:
        happened = changed(d);
        happened ? ref_apply_edit(r) : (void)0;
        break;
    case REF_LEARN:
    case REF_FORGET:
        happened = facts_changed(d);
        happened ? ref_apply_facts(r) : (void)0;
        break;
    }
    r->half_done += happened;
    r->undone += !happened;
    r->plan.kind = REF_NOTHING;
    NOTE(d, "the operation that was cut off %s", happened ? "happened" : "did not");
    return happened;
}

/* --- lives --- */

typedef enum fate { FATE_LEAVE, FATE_KILL, FATE_TIMER, FATE_STEP, FATES } fate;

static void die_at_a_random_moment(driver *d) {
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value.tv_nsec = 1 + (long)pick(d, 20000000)};
    timer_t timer;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &how, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &when, NULL), 0);
}

/* At a step of a commit or of a flush.  Without a model nothing is embedded. */
static void die_at_a_step(driver *d) {
    static const char *const steps[] = {"store.commit.before", "store.commit.after",
                                        "flush.taken", "flush.embedded",
                                        "flush.committed"};
    size_t step_count = d->t->options.no_model ? 2 : 5;
    char fault[64];
    (void)snprintf(fault, sizeof fault, "%s:%u:kill", steps[pick(d, step_count)],
                   (unsigned)pick(d, 20));
    NOTE(d, "will die at %s", fault);
    assert_int_equal(setenv("MEMFUSE_FAULT", fault, 1), 0);
    mf_fault_setup_from_env();
}

/* In the child.  Returns only when it leaves in order. */
static void live(driver *d, fate end) {
    world *t = d->t;
    size_t live_before = mf_alloc_live();
    world_open_service(t);
    (void)settle(d);
    check_all(d);
    uint64_t count = 1 + pick(d, LIFE_OPERATIONS);
    for (uint64_t i = 0; i < count; i++) {
        step(d);
    }
    switch (end) {
    case FATE_LEAVE:
    case FATES:
        check_all(d);
        NOTE(d, "leave in order");
        world_close_service(t);
        assert_int_equal(mf_alloc_live(), live_before);
        d->r->clean = true;
        publish(d);
        return;
    case FATE_KILL:
        NOTE(d, "die between two operations");
        (void)kill(getpid(), SIGKILL);
        break;
    case FATE_TIMER:
        NOTE(d, "will die soon");
        die_at_a_random_moment(d);
        break;
    case FATE_STEP:
        die_at_a_step(d);
        break;
    }
    for (int i = 0; i < STEPS_TO_DIE; i++) {
        step(d);
    }
    (void)kill(getpid(), SIGKILL); /* that step was never taken */
}

static void one_life(driver *d) {
    reference *r = d->r;
    mf_rng_init(&d->rng, r->seed * 1000003 + ++r->life);
    fate end = (fate)pick(d, FATES);
    d->active_max = 1 + (int)pick(d, REF_USERS);
    d->buffers = pick(d, 5) != 0;
    d->t->options.no_model = pick(d, 5) == 0;
    write_settings(d, true);
    r->clean = false;
    publish(d);
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        live(d, end);
        exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    *r = d->shared->copies[atomic_load(&d->shared->current)];
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    bool good = end == FATE_LEAVE
                    ? r->clean && WIFEXITED(status) && WEXITSTATUS(status) == 0
                    : killed;
    if (!good) {
        ref_print_log(r);
        fail_msg("life %u of seed %llu ended with status %d", r->life,
                 (unsigned long long)r->seed, status);
    }
    r->kills += killed;
}

static uint64_t seed_wanted = SEED_DEFAULT;
static int64_t seconds_wanted = SECONDS_DEFAULT;

static void what_was_acknowledged_is_there_whatever_happens(void **state) {
    (void)state;
    static driver d;
    d.t = world_prepare((world_options){.sqlite = true});
    d.shared = mmap(NULL, sizeof *d.shared, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(d.shared != MAP_FAILED);
    static reference own;
    d.r = &own;
    d.r->seed = seed_wanted;
    (void)snprintf(d.config, sizeof d.config, "%s/settings.yaml", d.t->dir);
    d.t->options.config_file = d.config;
    choices_find(d.t);
    int64_t end_ns = mf_now_ns() + seconds_wanted * MF_NS_PER_S;
    while (mf_now_ns() < end_ns || d.r->life < LIVES_MIN) {
        one_life(&d);
    }
    print_message("seed %llu: %llu operations, %u lives, %llu killed (of the "
                  "operations cut off %llu happened, %llu did not), %llu restarts in "
                  "order, %llu reloads\n",
                  (unsigned long long)d.r->seed, (unsigned long long)d.r->operations,
                  d.r->life, (unsigned long long)d.r->kills,
                  (unsigned long long)d.r->half_done, (unsigned long long)d.r->undone,
                  (unsigned long long)d.r->restarts, (unsigned long long)d.r->reloads);
    (void)unlink(d.config);
    assert_int_equal(munmap(d.shared, sizeof *d.shared), 0);
    world_remove(d.t);
}

int main(int argc, char **argv) {
    const char *seed = argc > 1 ? argv[1] : getenv("MEMFUSE_TEST_SEED");
    const char *seconds = argc > 2 ? argv[2] : getenv("MEMFUSE_TEST_SECONDS");
    seed_wanted = seed != NULL ? strtoull(seed, NULL, 10) : SEED_DEFAULT;
    seconds_wanted = seconds != NULL ? strtoll(seconds, NULL, 10) : SECONDS_DEFAULT;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_is_there_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
