/* query_buffer.c - what is kept of an answer, over two levels of base/lru.
 *
 * A key is the question's fields written one behind the other, so two questions are
 * equal exactly when their bytes are.  The same question is found by its text, a near
 * duplicate by the key of its words: that finds the one list of candidates worth
 * comparing without a look at all the others, and the last question of these words is
 * as good as any other.
 *
 * Values are laid out as the structs below, numbers as this machine has them. */
#include "buffer/query_buffer.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/buf.h"
#include "buffer/answer_cache.h"
#include "num/half.h"

enum { KEY_BYTES_MAX = 16 * 1024, DIM_MAX = 4096 };

struct mf_query_buffer {
    mf_answer_level answers, likes;
    atomic_ullong cache_hits, similar_hits, cache_misses;
};

/* Value of `answers`. */
typedef struct kept_answer {
    uint64_t count, asked;
    mf_index_hit hits[];
} kept_answer;

/* Value of `likes`: the head, then `count` keys, then `dim` halves. */
typedef struct kept_list {
    uint64_t count, asked, dim;
    mf_index_key keys[];
} kept_list;

_Static_assert(sizeof(kept_list) + MF_QUERY_CANDIDATES_MAX * sizeof(mf_index_key) +
                       DIM_MAX * sizeof(uint16_t) <=
                   MF_ANSWER_BYTES_MAX,
               "a list of candidates fits a level");

mf_rc mf_query_buffer_open(size_t answers_max, int64_t ttl_ms, mf_cache_manager *caches,
                           mf_query_buffer **out, mf_err *err) {
    mf_query_buffer *buffer = mf_alloc_zero(1, sizeof(*buffer));
    if (buffer == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a query buffer");
    }
    mf_rc rc = mf_answer_cache_open("answers", answers_max, ttl_ms, caches,
                                    &buffer->answers, err);
    if (rc == MF_OK) {
        rc = mf_answer_cache_open("candidates", answers_max, ttl_ms, caches,
                                  &buffer->likes, err);
    }
    if (rc != MF_OK) {
        mf_query_buffer_close(buffer);
        return rc;
    }
    *out = buffer;
    return MF_OK;
}

static void level_close(const mf_answer_level *level) {
    if (level->ops != NULL) {
        level->ops->close(level->self);
    }
}

void mf_query_buffer_close(mf_query_buffer *buffer) {
    if (buffer == NULL) {
        return;
    }
    level_close(&buffer->answers);
    level_close(&buffer->likes);
    mf_free(buffer);
}

/* --- keys --- */

/* false when there is no room or the text is too long to be worth keeping. */
static bool key_write(const mf_query_key *key, mf_str last, mf_buf *buf) {
    uint32_t flags = (uint32_t)key->path << 2 | (key->messages ? 1U : 0U) |
                     (key->knowledge ? 2U : 0U);
    mf_buf_init(buf, KEY_BYTES_MAX);
    mf_buf_add(buf, &flags, sizeof flags);
    mf_buf_add(buf, &key->settings, sizeof key->settings);
    mf_buf_add(buf, key->user_id.b, sizeof key->user_id.b);
    mf_buf_add(buf, key->session_id.b, sizeof key->session_id.b);
    mf_buf_add(buf, key->agent_id.b, sizeof key->agent_id.b);
    mf_buf_add_str(buf, last);
    return buf->failed == MF_OK;
}

static mf_str words_view(const mf_question *question) {
    return (mf_str){(const char *)&question->words, sizeof question->words};
}

/* A value as it was put, 16-byte aligned in arena memory. */
static const void *level_get(const mf_answer_level *level, const mf_query_key *key,
                             mf_str last, uint64_t version, mf_arena *arena) {
    mf_buf name;
    mf_str value = MF_STR_NONE;
    bool found =
        key_write(key, last, &name) &&
        level->ops->get(level->self, mf_buf_view(&name), version, arena, &value);
    mf_buf_done(&name);
    return found ? value.p : NULL;
}

static void level_put(const mf_answer_level *level, const mf_query_key *key,
                      mf_str last, uint64_t version, const void *value, size_t len) {
    mf_buf name;
    if (key_write(key, last, &name)) {
        level->ops->put(level->self, mf_buf_view(&name), version, (mf_str){value, len});
    }
    mf_buf_done(&name);
}

/* --- the same question --- */

bool mf_query_buffer_get(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, size_t hits_max, mf_arena *arena,
                         mf_index_hit **hits, size_t *count) {
    const kept_answer *found =
        level_get(&buffer->answers, key, key->text, version, arena);
    if (found == NULL || found->asked < hits_max) {
        return false;
    }
    *count = found->count < hits_max ? (size_t)found->count : hits_max;
    *hits = mf_arena_alloc_array(arena, *count + 1, sizeof(**hits));
    if (*hits == NULL) {
        return false;
    }
    memcpy(*hits, found->hits, *count * sizeof(**hits));
    return true;
}

void mf_query_buffer_put(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, const mf_index_hit *hits, size_t count,
                         uint64_t asked) {
    size_t bytes = sizeof(kept_answer) + count * sizeof(hits[0]);
    kept_answer *made = mf_alloc(bytes);
    if (made == NULL) {
        return;
    }
    *made = (kept_answer){.count = count, .asked = asked};
    if (count > 0) {
        memcpy(made->hits, hits, count * sizeof(hits[0]));
    }
    level_put(&buffer->answers, key, key->text, version, made, bytes);
    mf_free(made);
}

/* --- near duplicates --- */

static double cosine(const float *unit, const uint16_t *halves, size_t dim) {
    float other[DIM_MAX];
    mf_half_to_float(halves, other, dim);
    double dot = 0.0;
    double squares = 0.0;
    double own = 0.0;
    for (size_t i = 0; i < dim; i++) {
        dot += (double)unit[i] * (double)other[i];
        squares += (double)other[i] * (double)other[i];
        own += (double)unit[i] * (double)unit[i];
    }
    double norms = squares * own;
    return norms > 0.0 ? dot / sqrt(norms) : 0.0;
}

bool mf_query_buffer_get_like(mf_query_buffer *buffer, const mf_query_key *key,
                              const mf_question *question, double threshold,
                              uint64_t version, size_t hits_max, mf_arena *arena,
                              mf_index_key **keys, size_t *count) {
    const kept_list *found =
        level_get(&buffer->likes, key, words_view(question), version, arena);
    if (found == NULL || found->dim != question->dim) {
        return false;
    }
    size_t wanted = hits_max * MF_QUERY_CANDIDATES;
    if (found->asked < wanted) {
        return false;
    }
    const uint16_t *halves = (const uint16_t *)(const void *)&found->keys[found->count];
    if (cosine(question->vector, halves, question->dim) < threshold) {
        return false;
    }
    *count = found->count < wanted ? (size_t)found->count : wanted;
    *keys = mf_arena_alloc_array(arena, *count + 1, sizeof(**keys));
    if (*keys == NULL) {
        return false;
    }
    memcpy(*keys, found->keys, *count * sizeof(**keys));
    return true;
}

void mf_query_buffer_put_like(mf_query_buffer *buffer, const mf_query_key *key,
                              const mf_question *question, uint64_t version,
                              const mf_index_hit *hits, size_t count, uint64_t asked) {
    MF_ASSERT(count <= MF_QUERY_CANDIDATES_MAX);
    size_t bytes = sizeof(kept_list) + count * sizeof(mf_index_key) +
                   question->dim * sizeof(uint16_t);
    kept_list *made = question->dim <= DIM_MAX ? mf_alloc_zero(1, bytes) : NULL;
    if (made == NULL) {
        return;
    }
    *made = (kept_list){.count = count, .asked = asked, .dim = question->dim};
    for (size_t i = 0; i < count; i++) {
        made->keys[i] = hits[i].facts.key;
    }
    mf_half_from_float(question->vector, (uint16_t *)(void *)&made->keys[count],
                       question->dim);
    level_put(&buffer->likes, key, words_view(question), version, made, bytes);
    mf_free(made);
}

/* --- statistics --- */

void mf_query_buffer_count(mf_query_buffer *buffer, mf_answer_source source) {
    atomic_fetch_add(source == MF_ANSWER_CACHED    ? &buffer->cache_hits
                     : source == MF_ANSWER_SIMILAR ? &buffer->similar_hits
                                                   : &buffer->cache_misses,
                     1);
}

static size_t level_bytes(const mf_answer_level *level) {
    mf_lru_stats stats;
    mf_answer_cache_get_stats(level, &stats);
    return stats.held_bytes + stats.max_size * sizeof(void *);
}

size_t mf_query_buffer_bytes(mf_query_buffer *buffer) {
    return sizeof(*buffer) + level_bytes(&buffer->answers) +
           level_bytes(&buffer->likes);
}

void mf_query_buffer_get_stats(mf_query_buffer *buffer, mf_query_buffer_stats *out) {
    mf_lru_stats answers;
    mf_lru_stats likes;
    mf_answer_cache_get_stats(&buffer->answers, &answers);
    mf_answer_cache_get_stats(&buffer->likes, &likes);
    *out = (mf_query_buffer_stats){
        .cache_hits = atomic_load(&buffer->cache_hits),
        .similar_hits = atomic_load(&buffer->similar_hits),
        .cache_misses = atomic_load(&buffer->cache_misses),
        .evictions = answers.evictions + likes.evictions,
        .expirations = answers.expirations + likes.expirations,
        .answers = answers.size,
        .candidates = likes.size,
        .bytes = answers.held_bytes + likes.held_bytes,
    };
}
