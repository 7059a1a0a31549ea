/* query_buffer.c - the exact result cache, on base/lru.
 *
 * The key is the question's fields written one behind the other, the text last, so two
 * questions are equal exactly when their bytes are.  A value is an immutable counted
 * block: a reader holds its own reference while it copies, so leaving the cache pulls
 * nothing away. */
#include "buffer/query_buffer.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/lru.h"

enum { BYTES_PER_ANSWER_MAX = 64 * 1024, KEY_BYTES_MAX = 16 * 1024, NODE_BYTES = 96 };

typedef struct answer {
    atomic_size_t refs;
    uint64_t version;
    size_t count;
    mf_index_hit hits[];
} answer;

struct mf_query_buffer {
    mf_lru *answers;
};

static void answer_release(void *value) {
    answer *a = value;
    if (atomic_fetch_sub(&a->refs, 1) == 1) {
        mf_free(a);
    }
}

static void *answer_share(void *value) {
    answer *a = value;
    atomic_fetch_add(&a->refs, 1);
    return a;
}

mf_rc mf_query_buffer_open(size_t answers_max, int64_t ttl_ms, mf_cache_manager *caches,
                           mf_query_buffer **out, mf_err *err) {
    mf_query_buffer *buffer = mf_alloc_zero(1, sizeof(*buffer));
    if (buffer == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a query buffer");
    }
    size_t bytes_max = 0;
    if (!mf_mul_size(answers_max, BYTES_PER_ANSWER_MAX, &bytes_max)) {
        bytes_max = SIZE_MAX;
    }
    mf_lru_options options = {
        .name = "answers",
        .manager = caches,
        .count_max = answers_max,
        .bytes_max = bytes_max,
        .ttl_ms = ttl_ms,
        .release = answer_release,
        .share = answer_share,
    };
    mf_rc rc = mf_lru_open(&options, &buffer->answers, err);
    if (rc != MF_OK) {
        mf_free(buffer);
        return rc;
    }
    *out = buffer;
    return MF_OK;
}

void mf_query_buffer_close(mf_query_buffer *buffer) {
    if (buffer == NULL) {
        return;
    }
    mf_lru_close(buffer->answers);
    mf_free(buffer);
}

size_t mf_query_buffer_bytes(mf_query_buffer *buffer) {
    mf_lru_stats stats;
    mf_lru_get_stats(buffer->answers, &stats);
    return sizeof(*buffer) + stats.bytes + stats.size * NODE_BYTES +
           stats.max_size * sizeof(void *);
}

/* The key's bytes in `buf`; false when there is no room or the text is too long to be
 * worth keeping. */
static bool key_write(const mf_query_key *key, mf_buf *buf) {
    uint32_t flags = (uint32_t)key->path << 2 | (key->messages ? 1U : 0U) |
                     (key->knowledge ? 2U : 0U);
    mf_buf_add(buf, &flags, sizeof flags);
    mf_buf_add(buf, &key->hits_max, sizeof key->hits_max);
    mf_buf_add(buf, &key->config, sizeof(key->config));
    mf_buf_add(buf, key->session_id.b, sizeof key->session_id.b);
    mf_buf_add(buf, key->agent_id.b, sizeof key->agent_id.b);
    mf_buf_add_str(buf, key->text);
    return buf->failed == MF_OK;
}

bool mf_query_buffer_get(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, mf_arena *arena, mf_index_hit **hits,
                         size_t *count) {
    mf_buf bytes;
    mf_buf_init(&bytes, KEY_BYTES_MAX);
    answer *found = NULL;
    if (key_write(key, &bytes)) {
        found = mf_lru_get(buffer->answers, mf_buf_view(&bytes));
    }
    mf_buf_done(&bytes);
    if (found == NULL) {
        return false;
    }
    mf_index_hit *copy = NULL;
    if (found->version == version) {
        copy = mf_arena_alloc_array(arena, found->count + 1, sizeof(*copy));
    }
    if (copy != NULL) {
        memcpy(copy, found->hits, found->count * sizeof(*copy));
        *hits = copy;
        *count = found->count;
    }
    answer_release(found);
    return copy != NULL;
}

void mf_query_buffer_put(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, const mf_index_hit *hits, size_t count) {
    size_t bytes = count * sizeof(hits[0]) + sizeof(answer);
    answer *made = mf_alloc(bytes);
    mf_buf name;
    mf_buf_init(&name, KEY_BYTES_MAX);
    if (made == NULL || !key_write(key, &name)) {
        mf_free(made);
        mf_buf_done(&name);
        return;
    }
    atomic_init(&made->refs, 1);
    made->version = version;
    made->count = count;
    if (count > 0) {
        memcpy(made->hits, hits, count * sizeof(hits[0]));
    }
    mf_lru_put(buffer->answers, mf_buf_view(&name), made, bytes + name.len);
    mf_buf_done(&name);
}
