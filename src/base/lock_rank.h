/* lock_rank.h - the order in which locks may be taken: always a higher rank than any
 * held.  Debug builds assert it. */
#ifndef MF_BASE_LOCK_RANK_H
#define MF_BASE_LOCK_RANK_H

typedef enum mf_lock_rank {
    MF_RANK_REGISTRY = 10,   /* service: the table of users */
    MF_RANK_USER = 20,       /* service: one user's index */
    MF_RANK_USER_STATE = 25, /* service: one user's queues and counters */
    MF_RANK_CACHE = 30,      /* caches */
    MF_RANK_POOL = 40,       /* connection, lane and worker pools */
    MF_RANK_STORE = 50,      /* inside a store backend */
    MF_RANK_MAILBOX = 60,
    MF_RANK_LEAF = 90 /* takes nothing else: logs, statistics, completions */
} mf_lock_rank;

#endif
