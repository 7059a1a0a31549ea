/* round_window.h - a session's recent window, computed from the store. */
#ifndef MF_BUFFER_ROUND_WINDOW_H
#define MF_BUFFER_ROUND_WINDOW_H

#include "base/arena.h"
#include "buffer/round_buffer.h"
#include "buffer/token_cache.h"
#include "store/store.h"

/* Reads the newest rounds of a session that fit the limits and that no close has put
 * outside, oldest first, into arena memory.  Messages of one add are one round; its
 * tokens are those of their contents as they are now.  Call between read_begin and
 * read_end.  Errors: the store's. */
MF_CHECKED mf_rc mf_round_window_read(mf_conn *conn, mf_uuid user_id,
                                      mf_uuid session_id, mf_token_cache *tokens,
                                      mf_round_limits limits, mf_arena *arena,
                                      mf_round **rounds, size_t *count, mf_err *err);

/* The window those rounds make. */
mf_round_window mf_round_window_of(const mf_round *rounds, size_t count);

#endif
