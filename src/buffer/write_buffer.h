/* write_buffer.h - the single way in for what a user writes.
 *
 * It owns the user's round buffer (which rounds are recent) and hybrid buffer (vectors
 * waiting to be committed) and counts what passes through.  Messages themselves are in
 * the store before they come here: nothing in these buffers is the only copy of
 * anything.
 *
 * One owner: callers lock. */
#ifndef MF_BUFFER_WRITE_BUFFER_H
#define MF_BUFFER_WRITE_BUFFER_H

#include "buffer/flush_policy.h"
#include "buffer/hybrid_buffer.h"
#include "buffer/round_buffer.h"

enum { MF_WRITE_BUFFER_SESSIONS_MAX = 32 }; /* windows remembered per user */

typedef struct mf_write_buffer mf_write_buffer;

typedef struct mf_write_round {
    mf_uuid session_id;
    mf_round round;
} mf_write_round;

typedef struct mf_write_outcome {
    mf_round_window window;  /* of the last round's session; zero when not known */
    bool transfer_triggered; /* rounds left a window */
} mf_write_outcome;

/* How the rounds of a batch go into the windows; the windows are the same afterwards.
 */
typedef enum mf_batch_strategy {
    MF_BATCH_SEQUENTIAL, /* one session: one round after the other */
    MF_BATCH_GROUPED,    /* several sessions: gathered by session first */
    MF_BATCH_BULK,       /* over twice the tokens of a window: only the end goes in */
    MF_BATCH_STRATEGIES
} mf_batch_strategy;
const char *mf_batch_strategy_name(mf_batch_strategy strategy);

/* Counts since the user became active, and what is held now. */
typedef struct mf_write_counts {
    uint64_t writes;                                /* rounds that came in */
    uint64_t transfers;                             /* rounds that left a window */
    uint64_t transfer_triggers[MF_TRANSFER_CAUSES]; /* how often, by cause */
    uint64_t batches[MF_BATCH_STRATEGIES];
    uint64_t flushes, flush_failures; /* batches of vectors committed, and not */
    uint64_t flush_triggers[MF_FLUSH_TRIGGERS]; /* of those committed */
    uint64_t flushed_chunks;                    /* vectors in them */
} mf_write_counts;

typedef struct mf_write_buffer_stats {
    mf_write_counts counts;
    mf_round_state round;   /* of the windows known */
    mf_hybrid_state hybrid; /* waiting to be committed */
} mf_write_buffer_stats;

MF_CHECKED mf_rc mf_write_buffer_open(mf_write_buffer **out, mf_err *err);
void mf_write_buffer_close(mf_write_buffer *buffer);

/* A round was committed.  Without windows it counts as transferred at once. */
void mf_write_buffer_add(mf_write_buffer *buffer, const mf_write_round *round,
                         const mf_flush_policy *policy, int64_t now_ns,
                         mf_write_outcome *out);
/* Rounds were committed together, in this order.  Reorders them: by session, in the
 * order of their first rounds. */
void mf_write_buffer_add_batch(mf_write_buffer *buffer, mf_write_round *rounds,
                               size_t count, const mf_flush_policy *policy,
                               int64_t now_ns, mf_write_outcome *out);

/* The store has closed a window, or all of the user's (session none): what is known of
 * them becomes empty.  Returns how many rounds left. */
size_t mf_write_buffer_close_window(mf_write_buffer *buffer, mf_uuid session_id,
                                    mf_transfer_cause cause);

mf_round_buffer *mf_write_buffer_rounds(mf_write_buffer *buffer);
mf_hybrid_buffer *mf_write_buffer_hybrid(mf_write_buffer *buffer);

/* Takes every vector out to be committed; mf_write_buffer_flushed tells how that went
 * and gets the batch back in either case. */
mf_hybrid_batch mf_write_buffer_flush_all(mf_write_buffer *buffer);
void mf_write_buffer_flushed(mf_write_buffer *buffer, mf_hybrid_batch *batch,
                             mf_flush_trigger trigger, bool committed);

/* Memory of the buffer and all it holds. */
size_t mf_write_buffer_bytes(const mf_write_buffer *buffer);
void mf_write_buffer_get_stats(const mf_write_buffer *buffer,
                               mf_write_buffer_stats *out);
void mf_write_counts_add(mf_write_counts *sum, const mf_write_counts *counts);

#endif
