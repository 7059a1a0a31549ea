/* error_cache.h - the same error again is counted, not processed again.
 *
 * An error is known by the operation it met and its code.  The first of a kind is
 * processed and logged; the same again within the time to live only raises a count.
 * After that time the next one is processed like the first, and its log line tells how
 * many went by in silence, so a dependency that fails ten thousand times a minute costs
 * one line a minute.
 *
 * Memory is fixed and taken at open: noting an error allocates nothing, also when the
 * error is that there is no memory.  When the table is full the kind not seen for
 * longest makes room.  Safe from any thread; the lock is a leaf. */
#ifndef MF_BASE_ERROR_CACHE_H
#define MF_BASE_ERROR_CACHE_H

#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

enum {
    MF_ERROR_CACHE_COUNT_MAX = 1000, /* kinds, unless told otherwise */
    MF_ERROR_CACHE_TTL_S = 60,
    MF_ERROR_OPERATION_MAX = 48, /* bytes of an operation's name, with the NUL */
    MF_ERROR_TEXT_MAX = 160      /* bytes kept of an error's text, with the NUL */
};

typedef struct mf_error_cache mf_error_cache;

typedef struct mf_error_kind {
    char operation[MF_ERROR_OPERATION_MAX];
    mf_rc rc;
    uint64_t count;  /* since it is known */
    uint64_t silent; /* of them since the last that was processed */
    int64_t first_ns, last_ns;
    char text[MF_ERROR_TEXT_MAX]; /* of the last that was processed */
} mf_error_kind;

typedef struct mf_error_cache_stats {
    size_t size, max_size; /* kinds known; kinds at most */
    int64_t ttl_ms;
    uint64_t total;      /* errors noted */
    uint64_t processed;  /* of them, those that were to be processed and logged */
    uint64_t suppressed; /* of them, those only counted */
    uint64_t evicted;    /* kinds forgotten to make room */
} mf_error_cache_stats;

/* `count_max` >= 1 kinds, each to be processed once in `ttl_ns` (> 0).  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_error_cache_open(size_t count_max, int64_t ttl_ns,
                                     mf_error_cache **out, mf_err *err);
void mf_error_cache_close(mf_error_cache *cache);
/* Counts the error; true when it is to be processed: the first of its kind, or the
 * first since the time to live went by.  *silent, unless NULL, then receives how many
 * of the kind were only counted since the last processed one.  A longer name of an
 * operation is cut. */
bool mf_error_cache_note(mf_error_cache *cache, const char *operation,
                         const mf_err *err, int64_t now_ns, uint64_t *silent);
/* Notes it now and logs it as `operation` if it is to be processed, with more_of_same=N
 * when some went by in silence.  `cache` NULL: just logs. */
void mf_error_cache_log(mf_error_cache *cache, mf_log_level level,
                        const char *operation, const mf_err *err);
/* The kinds seen last, newest first; returns how many were put into out[0..max). */
size_t mf_error_cache_list(mf_error_cache *cache, mf_error_kind *out, size_t max);
void mf_error_cache_get_stats(mf_error_cache *cache, mf_error_cache_stats *out);

#endif
