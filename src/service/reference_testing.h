/* reference_testing.h - the trivial model that model_based_test.c compares memfuse
 * with: arrays of what was acknowledged, and nothing clever.
 *
 * It lies in memory that a parent shares with the children that drive memfuse, so that
 * a child can be killed at any moment and the next one still knows what was promised.
 * Of an operation under way it keeps the plan: whether that happened is asked
 * afterwards, and either answer is right, half of it is not.
 *
 * Every text has a word that no other text ever had ("zq17"), so that a question for
 * that word has one right answer; the rest of a text follows from word and size. */
#ifndef MF_SERVICE_REFERENCE_TESTING_H
#define MF_SERVICE_REFERENCE_TESTING_H

#include <stdarg.h>
#include <string.h>

#include "base/rng.h"
#include "service/service_testing.h"

enum {
    REF_USERS = 8,
    REF_AGENTS = 3,
    REF_SESSIONS = 3, /* of a user */
    REF_MESSAGES = 120,
    REF_FACTS = 20,
    REF_DEAD = 256,
    REF_ADD = 5,   /* messages of one add */
    REF_BURST = 8, /* adds under way at once */
    REF_LOG_LINES = 60,
    REF_TEXT = 3000,
    REF_ID = MF_UUID_TEXT + 1
};

typedef struct ref_text {
    uint32_t word;
    uint16_t fill; /* words after it */
} ref_text;

typedef struct ref_item {
    char id[REF_ID];
    ref_text text;
} ref_item;

/* One add as it was sent, for sending it again. */
typedef struct ref_add {
    char key[24]; /* empty: none */
    size_t count;
    ref_item items[REF_ADD];
} ref_add;

typedef struct ref_session {
    bool alive;
    int agent;
    char id[REF_ID], name[24];
    size_t count;
    ref_item messages[REF_MESSAGES];
    ref_add keyed; /* the latest with a key */
} ref_session;

typedef struct ref_user {
    bool alive;
    char id[REF_ID], name[24];
    ref_session sessions[REF_SESSIONS];
    size_t fact_count;
    ref_item facts[REF_FACTS];
} ref_user;

typedef enum ref_kind {
    REF_NOTHING,
    REF_USER_CREATE,
    REF_USER_DELETE,
    REF_AGENT_CREATE,
    REF_AGENT_DELETE,
    REF_SESSION_CREATE,
    REF_SESSION_DELETE,
    REF_ADDS,
    REF_EDIT,
    REF_DELETE,
    REF_LEARN,
    REF_FORGET
} ref_kind;

/* What is being done and not yet acknowledged. */
typedef struct ref_plan {
    ref_kind kind;
    int user, session, agent;
    char name[24];
    size_t add_count; /* of an edit or delete: one, whose items are the new state */
    ref_add adds[REF_BURST];
} ref_plan;

typedef struct ref_dead {
    int user; /* who had it */
    uint32_t word;
} ref_dead;

typedef struct reference {
    uint64_t seed;
    uint32_t life; /* number of the process that runs now */
    uint32_t next_word, next_name;
    uint64_t operations, kills, restarts, reloads, half_done, undone;
    bool clean; /* the life ended as it should */
    ref_user users[REF_USERS];
    bool agents_alive[REF_AGENTS];
    char agents[REF_AGENTS][REF_ID];
    ref_plan plan;
    ref_dead dead[REF_DEAD];
    size_t dead_count; /* ever; the newest REF_DEAD are kept */
    char log[REF_LOG_LINES][120];
    size_t log_count;
} reference;

static inline void ref_log(reference *r, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *line = r->log[r->log_count % REF_LOG_LINES];
    int n = snprintf(line, sizeof r->log[0], "life %u, %llu: ", r->life,
                     (unsigned long long)r->operations);
    (void)vsnprintf(line + n, sizeof r->log[0] - (size_t)n, fmt, args);
    va_end(args);
    r->log_count++;
}

static inline void ref_print_log(const reference *r) {
    size_t kept = r->log_count < REF_LOG_LINES ? r->log_count : REF_LOG_LINES;
    print_error("seed %llu; the last operations:\n", (unsigned long long)r->seed);
    for (size_t i = r->log_count - kept; i < r->log_count; i++) {
        print_error("  %s\n", r->log[i % REF_LOG_LINES]);
    }
}

/* The whole of a text; long ones show their word at the end again, in another part. */
static inline mf_str ref_text_make(mf_arena *arena, ref_text text) {
    static const char *const fill[] = {"red", "green", "blue", "cat", "dog", "runs"};
    char out[REF_TEXT];
    int n = snprintf(out, sizeof out, "zq%u", text.word);
    for (uint32_t i = 0; i < text.fill; i++) {
        n += snprintf(out + n, sizeof out - (size_t)n, " %s",
                      fill[(text.word + i * i) % 6]);
    }
    n += snprintf(out + n, sizeof out - (size_t)n, " zq%u", text.word);
    mf_str made = mf_arena_str(arena, (mf_str){out, (size_t)n});
    assert_non_null(made.p);
    return made;
}

static inline bool ref_says(mf_arena *arena, ref_text text, mf_str content) {
    return mf_str_eq(ref_text_make(arena, text), content);
}

static inline ref_text ref_text_new(reference *r, mf_rng *rng) {
    static const uint16_t fills[] = {1, 3, 8, 40, 400};
    uint64_t size = mf_rng_below(rng, 100);
    size_t which = size < 40 ? 0 : size < 70 ? 1 : size < 90 ? 2 : size < 97 ? 3 : 4;
    return (ref_text){.word = ++r->next_word, .fill = fills[which]};
}

static inline void ref_bury(reference *r, int user, ref_text text) {
    r->dead[r->dead_count++ % REF_DEAD] = (ref_dead){.user = user, .word = text.word};
}

static inline void ref_session_end(reference *r, int user, int session) {
    ref_session *s = &r->users[user].sessions[session];
    for (size_t i = 0; i < s->count; i++) {
        ref_bury(r, user, s->messages[i].text);
    }
    *s = (ref_session){.alive = false};
}

static inline ref_session *ref_plan_session(reference *r) {
    return &r->users[r->plan.user].sessions[r->plan.session];
}

/* --- an acknowledged plan becomes the state --- */

static inline void ref_apply_add(reference *r, const ref_add *add) {
    ref_session *s = ref_plan_session(r);
    for (size_t i = 0; i < add->count; i++) {
        s->messages[s->count++] = add->items[i];
    }
    if (add->key[0] != '\0') {
        s->keyed = *add;
    }
}

static inline ref_item *ref_find(ref_item *items, size_t count, const char *id) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(items[i].id, id) == 0) {
            return &items[i];
        }
    }
    return NULL;
}

static inline void ref_remove(ref_item *items, size_t *count, const char *id) {
    ref_item *found = ref_find(items, *count, id);
    assert_non_null(found);
    size_t at = (size_t)(found - items);
    memmove(found, found + 1, (*count - at - 1) * sizeof *items);
    (*count)--;
}

static inline void ref_apply_edit(reference *r) {
    ref_session *s = ref_plan_session(r);
    const ref_add *change = &r->plan.adds[0];
    for (size_t i = 0; i < change->count; i++) {
        ref_item *item = ref_find(s->messages, s->count, change->items[i].id);
        ref_bury(r, r->plan.user, item->text);
        if (r->plan.kind == REF_EDIT) {
            item->text = change->items[i].text;
        } else {
            ref_remove(s->messages, &s->count, change->items[i].id);
        }
    }
}

static inline void ref_apply_facts(reference *r) {
    ref_user *u = &r->users[r->plan.user];
    const ref_add *change = &r->plan.adds[0];
    for (size_t i = 0; i < change->count; i++) {
        if (r->plan.kind == REF_LEARN) {
            u->facts[u->fact_count++] = change->items[i];
        } else {
            ref_bury(r, r->plan.user, change->items[i].text);
            ref_remove(u->facts, &u->fact_count, change->items[i].id);
        }
    }
}

static inline void ref_apply_user_delete(reference *r) {
    ref_user *u = &r->users[r->plan.user];
    for (int s = 0; s < REF_SESSIONS; s++) {
        ref_session_end(r, r->plan.user, s);
    }
    for (size_t i = 0; i < u->fact_count; i++) {
        ref_bury(r, r->plan.user, u->facts[i].text);
    }
    *u = (ref_user){.alive = false};
}

static inline void ref_apply_agent_delete(reference *r) {
    r->agents_alive[r->plan.agent] = false;
    for (int u = 0; u < REF_USERS; u++) {
        for (int s = 0; s < REF_SESSIONS; s++) {
            ref_session *session = &r->users[u].sessions[s];
            if (session->alive && session->agent == r->plan.agent) {
                ref_session_end(r, u, s);
            }
        }
    }
}

/* --- sums --- */

static inline size_t ref_messages_of(const ref_user *u) {
    size_t sum = 0;
    for (int s = 0; s < REF_SESSIONS; s++) {
        sum += u->sessions[s].count;
    }
    return sum;
}

#endif
