/* fault.c - the table of armed fault points.
 *
 * Allocation is a point, so this file allocates nothing and uses a bare pthread mutex:
 * a point may be hit under a lock of any rank.  While nothing is armed, which is always
 * so outside tests, a hit costs one load. */
#include "base/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/str.h"

enum { POINTS_MAX = 8 };

typedef enum fault_action {
    ACTION_FAIL,
    ACTION_KILL,
    ACTION_EXIT,
    ACTION_DELAY
} fault_action;

typedef struct fault_point {
    char name[MF_FAULT_NAME_MAX];
    uint64_t nth;
    uint64_t hits;
    bool for_ever;
    fault_action action;
} fault_point;

static pthread_mutex_t fault_mu = PTHREAD_MUTEX_INITIALIZER;
static fault_point points[POINTS_MAX]; /* guarded by fault_mu */
static size_t point_count;             /* guarded by fault_mu */
static atomic_bool any_armed;
static atomic_bool any_fired;

static fault_point *point_find(const char *name) {
    for (size_t i = 0; i < point_count; i++) {
        if (strcmp(points[i].name, name) == 0) {
            return &points[i];
        }
    }
    return NULL;
}

static bool act(fault_action action) {
    switch (action) {
    case ACTION_KILL:
        (void)raise(SIGKILL); /* cannot fail for the own process */
        break;
    case ACTION_EXIT:
        _exit(MF_FAULT_EXIT_STATUS);
    case ACTION_DELAY: {
        struct timespec pause = {.tv_nsec = (long)MF_FAULT_DELAY_MS * 1000000L};
        (void)nanosleep(&pause, NULL); /* a shorter pause does as well */
        return false;
    }
    case ACTION_FAIL:
        break;
    }
    return true;
}

bool mf_fault_hit(const char *name) {
    if (!atomic_load_explicit(&any_armed, memory_order_relaxed)) {
        return false; /* pairs with nothing: a test arms before it starts its threads */
    }
    bool fires = false;
    fault_action action = ACTION_FAIL;
    pthread_mutex_lock(&fault_mu);
    fault_point *point = point_find(name);
    if (point != NULL) {
        uint64_t hit = point->hits++;
        fires = hit == point->nth || (point->for_ever && hit > point->nth);
        action = point->action;
    }
    pthread_mutex_unlock(&fault_mu);
    if (fires) {
        atomic_store(&any_fired, true);
        return act(action);
    }
    return false;
}

static void arm(const char *name, uint64_t nth, bool for_ever, fault_action action) {
    MF_ASSERT(strlen(name) < MF_FAULT_NAME_MAX);
    pthread_mutex_lock(&fault_mu);
    fault_point *point = point_find(name);
    if (point == NULL) {
        MF_ASSERT(point_count < POINTS_MAX);
        point = &points[point_count++];
    }
    *point = (fault_point){.nth = nth, .for_ever = for_ever, .action = action};
    memcpy(point->name, name, strlen(name) + 1);
    atomic_store(&any_fired, false);
    atomic_store(&any_armed, true);
    pthread_mutex_unlock(&fault_mu);
}

void mf_fault_arm(const char *name, uint64_t nth, bool for_ever) {
    arm(name, nth, for_ever, ACTION_FAIL);
}

void mf_fault_disarm(void) {
    pthread_mutex_lock(&fault_mu);
    point_count = 0;
    atomic_store(&any_armed, false);
    pthread_mutex_unlock(&fault_mu);
}

bool mf_fault_fired(void) {
    return atomic_load(&any_fired);
}

#ifdef MF_FAULTS
static bool action_parse(mf_str text, fault_action *out) {
    static const struct {
        const char *name;
        fault_action action;
    } actions[] = {{"fail", ACTION_FAIL},
                   {"kill", ACTION_KILL},
                   {"exit", ACTION_EXIT},
                   {"delay", ACTION_DELAY}};
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (mf_str_eq(text, mf_str_from(actions[i].name))) {
            *out = actions[i].action;
            return true;
        }
    }
    return false;
}

void mf_fault_setup_from_env(void) {
    const char *value = getenv("MEMFUSE_FAULT");
    if (value == NULL || value[0] == '\0') {
        return;
    }
    mf_str rest = mf_str_from(value);
    mf_str name = mf_str_split(&rest, ':');
    mf_str hit = mf_str_split(&rest, ':');
    int64_t nth = 0;
    fault_action action = ACTION_FAIL;
    if (name.len == 0 || name.len >= MF_FAULT_NAME_MAX || !mf_str_to_i64(hit, &nth) ||
        nth < 0 || !action_parse(rest, &action)) {
        fprintf(stderr,
                "memfuse: MEMFUSE_FAULT is '%s', expected name:hit:action with action "
                "fail, kill, exit or delay\n",
                value);
        abort();
    }
    char text[MF_FAULT_NAME_MAX];
    memcpy(text, name.p, name.len);
    text[name.len] = '\0';
    arm(text, (uint64_t)nth, false, action);
}
#else
void mf_fault_setup_from_env(void) {}
#endif
