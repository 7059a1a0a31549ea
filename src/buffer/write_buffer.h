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

#include "buffer/hybrid_buffer.h"
#include "buffer/round_buffer.h"

enum { MF_WRITE_BUFFER_SESSIONS_MAX = 32 }; /* windows remembered per user */

typedef struct mf_write_buffer mf_write_buffer;

typedef struct mf_write_outcome {
    mf_round_window window;  /* after the round; zero when it is not known */
    bool transfer_triggered; /* rounds left the window */
} mf_write_outcome;

typedef struct mf_write_buffer_stats {
    uint64_t total_writes;              /* rounds that came in */
    uint64_t total_transfers;           /* rounds that left a window */
    uint64_t flush_operations;          /* batches committed */
    size_t current_tokens, round_count; /* in the windows known */
    size_t chunk_count;                 /* vectors waiting to be committed */
} mf_write_buffer_stats;

MF_CHECKED mf_rc mf_write_buffer_open(mf_write_buffer **out, mf_err *err);
void mf_write_buffer_close(mf_write_buffer *buffer);

/* A round of `session_id` was committed.  `limits` NULL is bypass: it has no window and
 * counts as transferred at once. */
void mf_write_buffer_add(mf_write_buffer *buffer, mf_uuid session_id,
                         const mf_round *round, const mf_round_limits *limits,
                         mf_write_outcome *out);

mf_round_buffer *mf_write_buffer_rounds(mf_write_buffer *buffer);
mf_hybrid_buffer *mf_write_buffer_hybrid(mf_write_buffer *buffer);

/* Takes every vector out to be committed; mf_write_buffer_flushed tells how that went
 * and gets the batch back in either case. */
mf_hybrid_batch mf_write_buffer_flush_all(mf_write_buffer *buffer);
void mf_write_buffer_flushed(mf_write_buffer *buffer, mf_hybrid_batch *batch,
                             bool committed);

/* Memory of the buffer and all it holds. */
size_t mf_write_buffer_bytes(const mf_write_buffer *buffer);
void mf_write_buffer_get_stats(const mf_write_buffer *buffer,
                               mf_write_buffer_stats *out);

#endif
