/* breaker.h - leaves a failing dependency alone for a while.
 *
 *   CLOSED --too many failures--> OPEN --cool-down over--> HALF_OPEN
 *     ^                            ^                          |  |
 *     |                            +----the probe failed------+  |
 *     +----------------------------------the probe succeeded-----+
 *
 * CLOSED lets every call through; OPEN refuses at once, which costs a caller nothing
 * and the dependency nothing; HALF_OPEN lets exactly one call through, the probe, and
 * refuses the others until it is known how the probe went.  A probe that never reports
 * is given up after another cool-down, and the next caller becomes the probe.
 *
 * An allowed call gets a ticket and ends with exactly one of success, failure and
 * abandon.  Tickets of an earlier time in CLOSED do not count: a slow call that began
 * before the breaker opened neither closes it nor keeps it open.
 *
 * Times are on the monotonic clock and are passed in.  Safe from any thread; the lock
 * is a leaf and nothing is called under it. */
#ifndef MF_BASE_BREAKER_H
#define MF_BASE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mutex.h"

enum { MF_BREAKER_WINDOW_MAX = 64 };

typedef enum mf_breaker_state {
    MF_BREAKER_CLOSED,
    MF_BREAKER_OPEN,
    MF_BREAKER_HALF_OPEN
} mf_breaker_state;

typedef struct mf_breaker_options {
    const char *name;      /* of the dependency; outlives the breaker */
    unsigned failures_max; /* >= 1: this many in a row open it */
    unsigned window;       /* last calls the rate looks at; 0: no rate rule */
    unsigned rate_percent; /* 1..100: this share of a full window failed opens it */
    int64_t cooldown_ns;   /* > 0 */
} mf_breaker_options;

typedef struct mf_breaker_stats {
    const char *name;
    mf_breaker_state state;
    unsigned failures_in_row;
    uint64_t successes, failures, refused;
    uint64_t opened; /* how often it opened */
    uint64_t probes;
    int64_t retry_after_ns; /* OPEN: until the next probe; else 0 */
} mf_breaker_stats;

typedef struct mf_breaker {
    mf_breaker_options options; /* constant after init */
    mf_mutex breaker_mu;        /* guards all below */
    mf_breaker_state state;
    uint64_t era; /* rises with every change of state and every probe */
    unsigned failures_in_row;
    uint64_t outcomes; /* bit i: the call before the last i failed */
    unsigned outcome_count;
    int64_t until_ns; /* OPEN: end of the cool-down; HALF_OPEN: the probe is given up */
    uint64_t successes, failures, refused, opened, probes;
} mf_breaker;

typedef uint64_t mf_breaker_ticket;

void mf_breaker_init(mf_breaker *breaker, const mf_breaker_options *options);
void mf_breaker_done(mf_breaker *breaker);
/* false: do not call the dependency now.  true: call it and report with `*ticket`. */
bool mf_breaker_allow(mf_breaker *breaker, int64_t now_ns, mf_breaker_ticket *ticket);
void mf_breaker_success(mf_breaker *breaker, mf_breaker_ticket ticket);
void mf_breaker_failure(mf_breaker *breaker, mf_breaker_ticket ticket, int64_t now_ns);
/* The call ended in a way that tells nothing about the dependency (cancelled, a bad
 * argument).  After an abandoned probe the next caller may probe. */
void mf_breaker_abandon(mf_breaker *breaker, mf_breaker_ticket ticket, int64_t now_ns);
void mf_breaker_get_stats(mf_breaker *breaker, int64_t now_ns, mf_breaker_stats *out);
const char *mf_breaker_state_name(mf_breaker_state state);

#endif
