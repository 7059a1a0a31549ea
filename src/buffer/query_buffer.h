/* query_buffer.h - answers to questions asked before, per user.
 *
 * An answer is kept as what is needed to give it again (which documents, which scores),
 * never as text, and is stamped with the version of the user's data it was made from.
 * Every write raises that version, so an answer from before it is simply not found:
 * nothing has to be told to forget.
 *
 * Thread-safe. */
#ifndef MF_BUFFER_QUERY_BUFFER_H
#define MF_BUFFER_QUERY_BUFFER_H

#include "base/arena.h"
#include "base/cache_manager.h"
#include "index/user_index.h"

typedef struct mf_query_buffer mf_query_buffer;

/* Everything that shapes an answer. */
typedef struct mf_query_key {
    mf_str text;
    mf_uuid session_id, agent_id;
    uint32_t hits_max;
    mf_index_path path;
    bool messages, knowledge;
    const void *config; /* the settings' snapshot: other weights, other answers */
} mf_query_key;

/* Keeps `answers_max` answers of at most `hits_max` hits for `ttl_ms`, within the
 * budget of `caches` (NULL: none). */
MF_CHECKED mf_rc mf_query_buffer_open(size_t answers_max, int64_t ttl_ms,
                                      mf_cache_manager *caches, mf_query_buffer **out,
                                      mf_err *err);
void mf_query_buffer_close(mf_query_buffer *buffer);

/* Memory of the cache and all it holds. */
size_t mf_query_buffer_bytes(mf_query_buffer *buffer);

/* true: *hits (in arena memory) and *count are the answer made at this very version.
 * false also when memory is short. */
bool mf_query_buffer_get(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, mf_arena *arena, mf_index_hit **hits,
                         size_t *count);
/* Copies.  Not being able to keep an answer is not an error. */
void mf_query_buffer_put(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, const mf_index_hit *hits, size_t count);

#endif
