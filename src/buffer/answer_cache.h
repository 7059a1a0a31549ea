/* answer_cache.h - the level of the answer cache that lives in this process: least
 * recently used leaves first, entries age, and all caches share one byte budget.
 *
 * What was put at an older version than the newest one seen is of no use to anybody; it
 * leaves when the first value of a newer version comes. */
#ifndef MF_BUFFER_ANSWER_CACHE_H
#define MF_BUFFER_ANSWER_CACHE_H

#include "base/lru.h"
#include "buffer/answer_level.h"

/* Keeps `values_max` values for `ttl_ms` under `name` (static storage) within the
 * budget of `caches` (NULL: none).  A value of more than MF_ANSWER_BYTES_MAX is not
 * kept. */
MF_CHECKED mf_rc mf_answer_cache_open(const char *name, size_t values_max,
                                      int64_t ttl_ms, mf_cache_manager *caches,
                                      mf_answer_level *out, mf_err *err);
/* Of a level that mf_answer_cache_open made. */
void mf_answer_cache_get_stats(const mf_answer_level *level, mf_lru_stats *out);

enum { MF_ANSWER_BYTES_MAX = 128 * 1024 };

#endif
