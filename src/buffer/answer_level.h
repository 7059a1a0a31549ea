/* answer_level.h - one level of the cache of answers: bytes under a key, at a version.
 *
 * The query buffer (query_buffer.h) decides what is kept and how it reads; a level only
 * keeps it.  The level in this process is answer_cache.h.  A level that several
 * processes share fits behind the same two functions, and then needs of its caller what
 * keys and versions already are:
 *
 *   - A key says everything that shapes the answer but the data: who asks, the text,
 *     the filters and a fingerprint of the settings.  It holds no address.
 *   - A version stands for one state of the user's data: an answer is given only for
 *     the version it was made at, so nobody has to be told what to forget.  Today's
 *     versions are counted by the user object in memory and mean nothing outside it; a
 *     shared level takes a version that the store counts instead.
 *
 * Values are opaque to a level.  Both functions are called by any number of threads,
 * and without a lock: they may take as long as the level takes. */
#ifndef MF_BUFFER_ANSWER_LEVEL_H
#define MF_BUFFER_ANSWER_LEVEL_H

#include <stdint.h>

#include "base/arena.h"

typedef struct mf_answer_level {
    const struct mf_answer_level_ops *ops;
    void *self;
} mf_answer_level;

typedef struct mf_answer_level_ops {
    /* true: *value (in arena memory, 16-byte aligned) is what was put under `key` at
     * this very version.  false when there is none, or it is too old in time, or memory
     * is short, or the level cannot be asked: the caller then does the work itself. */
    bool (*get)(void *self, mf_str key, uint64_t version, mf_arena *arena,
                mf_str *value);
    /* Copies.  Not being able to keep something is not an error; what was there under
     * this key is gone either way. */
    void (*put)(void *self, mf_str key, uint64_t version, mf_str value);
    void (*close)(void *self); /* NULL is fine */
} mf_answer_level_ops;

#endif
