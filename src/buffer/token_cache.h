/* token_cache.h - token counts of texts, the recent ones remembered.
 *
 * Counting with a vocabulary of 200,000 pieces costs far more than a hash, and the same
 * texts are counted again whenever a window is read from the store: after an edit,
 * after a start, when a user comes back.  Counts are remembered by a keyed hash of the
 * text (base/content_key.h) under a secret made at open, so no text can pass for
 * another.
 *
 * Texts shorter than MF_TOKEN_CACHE_BYTES_MIN are counted each time: that is as fast as
 * looking.  Safe from any thread. */
#ifndef MF_BUFFER_TOKEN_CACHE_H
#define MF_BUFFER_TOKEN_CACHE_H

#include "base/lru.h"
#include "model/token_counter.h"

enum { MF_TOKEN_CACHE_BYTES_MIN = 64 };

typedef struct mf_token_cache mf_token_cache;

/* `counter` and `caches` (NULL: none) outlive the cache.  `texts_max` 0: nothing is
 * remembered. */
MF_CHECKED mf_rc mf_token_cache_open(const mf_token_counter *counter, size_t texts_max,
                                     mf_cache_manager *caches, mf_token_cache **out,
                                     mf_err *err);
void mf_token_cache_close(mf_token_cache *cache); /* NULL is fine */

/* As mf_token_count. */
size_t mf_token_cache_count(mf_token_cache *cache, mf_str text);
bool mf_token_cache_is_exact(const mf_token_cache *cache);
void mf_token_cache_get_stats(mf_token_cache *cache, mf_lru_stats *out);

#endif
