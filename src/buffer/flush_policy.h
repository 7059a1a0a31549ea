/* flush_policy.h - when windows transfer and when vectors are committed.
 *
 * All of it in one place and pure: what the settings ask for, and from what a buffer
 * holds and a moment on the monotonic clock, when it is due and why.  The strategies:
 *
 *   hybrid       limits and time: a window transfers what is over its limits; vectors
 *                are committed when they are many or old
 *   size_based   limits only
 *   time_based   time only: a window transfers as a whole, flush_interval after its
 *                oldest round came in; vectors flush_interval after the oldest of them
 *   immediate    no window, and vectors are committed as soon as they are made
 *
 * Under each of them a user who has not written for idle_timeout is flushed, and
 * vectors that take more than the byte bound are committed. */
#ifndef MF_BUFFER_FLUSH_POLICY_H
#define MF_BUFFER_FLUSH_POLICY_H

#include "buffer/hybrid_buffer.h"
#include "buffer/round_buffer.h"
#include "text/config.h"

typedef enum mf_flush_strategy {
    MF_FLUSH_STRATEGY_HYBRID,
    MF_FLUSH_STRATEGY_SIZE,
    MF_FLUSH_STRATEGY_TIME,
    MF_FLUSH_STRATEGY_IMMEDIATE
} mf_flush_strategy;

/* Why vectors were committed. */
typedef enum mf_flush_trigger {
    MF_FLUSH_NONE,
    MF_FLUSH_SIZE,      /* over the rounds or the bytes the buffer may hold */
    MF_FLUSH_TIME,      /* the oldest has waited flush_interval */
    MF_FLUSH_IDLE,      /* the user has not written for idle_timeout */
    MF_FLUSH_IMMEDIATE, /* the strategy, or the buffer is switched off */
    MF_FLUSH_MANUAL,    /* somebody asked */
    MF_FLUSH_LEAVING,   /* there are more active users than allowed */
    MF_FLUSH_SHUTDOWN,
    MF_FLUSH_TRIGGERS
} mf_flush_trigger;

typedef struct mf_flush_policy {
    mf_flush_strategy strategy;
    bool windows;                 /* sessions have recent windows */
    bool session_change;          /* a write elsewhere transfers the session before */
    bool auto_flush;              /* vectors are committed by size and time */
    mf_round_limits limits;       /* of a window */
    size_t rounds_max, bytes_max; /* of the hybrid buffer */
    int64_t interval_ns, idle_ns;
} mf_flush_policy;

typedef struct mf_flush_due {
    int64_t due_ns; /* INT64_MIN: now; INT64_MAX: nothing waits */
    mf_flush_trigger trigger;
} mf_flush_due;

mf_flush_policy mf_flush_policy_of(const mf_config *config);

/* When the vectors held should be committed; `written_ns` is the user's last write. */
mf_flush_due mf_flush_vectors_due(const mf_flush_policy *policy,
                                  const mf_hybrid_state *held, int64_t written_ns);
/* When windows should be emptied: MF_FLUSH_TIME means those whose oldest round came in
 * flush_interval ago, MF_FLUSH_IDLE all. */
mf_flush_due mf_flush_windows_due(const mf_flush_policy *policy,
                                  const mf_round_state *held, int64_t written_ns);

const char *mf_flush_trigger_name(mf_flush_trigger trigger);

#endif
