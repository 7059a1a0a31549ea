/* round_buffer.h - which rounds of a session are its recent window.
 *
 * A round is what one add stored.  The window of a session is its newest rounds as long
 * as they have at most `tokens_max` tokens and `rounds_max` rounds together; a round
 * that is too large alone passes straight through and leaves the window empty.  So the
 * window is a function of what the store holds and of the two limits, and this buffer
 * only remembers its value: a session it does not know is computed from the store
 * (round_window.h), and a restart changes nothing that anyone can see.
 *
 * It keeps numbers, never text: a listing of the window is a listing of the store from
 * the window's first message on, so edits and deletes are always right.
 *
 * One owner: callers lock. */
#ifndef MF_BUFFER_ROUND_BUFFER_H
#define MF_BUFFER_ROUND_BUFFER_H

#include "base/err.h"
#include "base/uuid.h"

typedef struct mf_round_buffer mf_round_buffer;

typedef struct mf_round {
    int64_t first_num; /* of its oldest message */
    size_t tokens;
} mf_round;

typedef struct mf_round_limits {
    size_t tokens_max, rounds_max;
} mf_round_limits;

typedef struct mf_round_window {
    int64_t first_num; /* messages from here on are in it; INT64_MAX when it is empty */
    size_t rounds, tokens;
} mf_round_window;

/* Remembers the windows of up to `sessions_max` sessions, the longest unused leaves
 * first. */
MF_CHECKED mf_rc mf_round_buffer_open(size_t sessions_max, mf_round_buffer **out,
                                      mf_err *err);
void mf_round_buffer_close(mf_round_buffer *buffer);

/* false when the session's window under these limits is not known. */
bool mf_round_buffer_get(mf_round_buffer *buffer, mf_uuid session_id,
                         mf_round_limits limits, mf_round_window *out);

/* Adds the newest round of a session.  false when its window is not known, which stays
 * so.  *moved receives how many rounds left the window. */
bool mf_round_buffer_add(mf_round_buffer *buffer, mf_uuid session_id,
                         const mf_round *round, mf_round_limits limits,
                         mf_round_window *out, size_t *moved);

/* To make a window known: begin, read the store without any lock, end.  Begin returns a
 * ticket, 0 when memory is short.  End installs the rounds (oldest first, within the
 * limits) unless the session changed in between; it tells whether it did. */
uint64_t mf_round_buffer_load_begin(mf_round_buffer *buffer, mf_uuid session_id);
bool mf_round_buffer_load_end(mf_round_buffer *buffer, mf_uuid session_id,
                              uint64_t ticket, const mf_round *rounds, size_t count,
                              mf_round_limits limits);

/* The session was edited or deleted: its window is not known any more. */
void mf_round_buffer_forget(mf_round_buffer *buffer, mf_uuid session_id);

/* Sums over the windows known. */
size_t mf_round_buffer_tokens(const mf_round_buffer *buffer);
size_t mf_round_buffer_rounds(const mf_round_buffer *buffer);
size_t mf_round_buffer_bytes(const mf_round_buffer *buffer); /* memory it takes */

#endif
