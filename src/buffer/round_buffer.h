/* round_buffer.h - which rounds of a session are its recent window.
 *
 * A round is what one add stored.  The window of a session is its newest rounds as long
 * as they have at most `tokens_max` tokens and `rounds_max` rounds together; a round
 * that is too large alone passes straight through and leaves the window empty.  So the
 * window is a function of what the store holds and of the two limits, and this buffer
 * only remembers its value: a session it does not know is computed from the store
 * (round_window.h), and a restart changes nothing that anyone can see.
 *
 * A window is emptied at once by a flush, by time, or by a write to another session.
 * The store remembers how far (window_close in store.h), so that an emptied window
 * stays empty: what a window can hold begins behind that number.
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

/* Why rounds left a window. */
typedef enum mf_transfer_cause {
    MF_TRANSFER_NONE,
    MF_TRANSFER_TOKEN_LIMIT,
    MF_TRANSFER_SIZE_LIMIT,
    MF_TRANSFER_OVERSIZED,      /* a round larger than a window */
    MF_TRANSFER_SESSION_CHANGE, /* its user wrote to another session */
    MF_TRANSFER_MANUAL,         /* somebody flushed */
    MF_TRANSFER_TIME,           /* the oldest round was too old */
    MF_TRANSFER_IDLE,           /* its user has not written for long */
    MF_TRANSFER_IMMEDIATE,      /* there are no windows */
    MF_TRANSFER_CAUSES
} mf_transfer_cause;
const char *mf_transfer_cause_name(mf_transfer_cause cause);

typedef struct mf_round_transfer {
    size_t rounds;
    mf_transfer_cause cause; /* MF_TRANSFER_NONE when no round left */
} mf_round_transfer;

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

/* Adds the newest rounds of a session, oldest first, that came at `now_ns`.  false when
 * its window is not known, which stays so.  *moved receives what left the window, or
 * passed it by. */
bool mf_round_buffer_add(mf_round_buffer *buffer, mf_uuid session_id,
                         const mf_round *rounds, size_t count, mf_round_limits limits,
                         int64_t now_ns, mf_round_window *out,
                         mf_round_transfer *moved);

/* The store has closed this window, or all of them: what is known becomes empty, and a
 * load in progress is refused.  How many rounds left. */
size_t mf_round_buffer_empty(mf_round_buffer *buffer, mf_uuid session_id);
size_t mf_round_buffer_empty_all(mf_round_buffer *buffer);
/* Up to `most` sessions whose windows' oldest rounds came in at `ns` or before. */
size_t mf_round_buffer_older(const mf_round_buffer *buffer, int64_t ns, mf_uuid *out,
                             size_t most);

/* To make a window known: begin, read the store without any lock, end.  Begin returns a
 * ticket, 0 when memory is short.  End installs the rounds (oldest first, within the
 * limits) unless the session changed in between; it tells whether it did. */
uint64_t mf_round_buffer_load_begin(mf_round_buffer *buffer, mf_uuid session_id);
bool mf_round_buffer_load_end(mf_round_buffer *buffer, mf_uuid session_id,
                              uint64_t ticket, const mf_round *rounds, size_t count,
                              mf_round_limits limits, int64_t now_ns);

/* The session was edited or deleted: its window is not known any more. */
void mf_round_buffer_forget(mf_round_buffer *buffer, mf_uuid session_id);

/* What the windows known hold together. */
typedef struct mf_round_state {
    size_t tokens, rounds;
    size_t windows;   /* that hold a round */
    int64_t since_ns; /* when the first round of the oldest of them came into memory */
} mf_round_state;
size_t mf_round_buffer_bytes(const mf_round_buffer *buffer); /* memory it takes */
void mf_round_buffer_get_state(const mf_round_buffer *buffer, mf_round_state *out);

#endif
