/* embedder.c - shares a few encoder lanes between questions and ingest work.
 *
 * A lane is taken under a lock and used without it.  Who may take one:
 *
 *   question   any free lane
 *   ingest     a free lane, when no question waits, and never the last of several:
 *              with N >= 2 lanes ingest holds N - 1 at most
 *
 * Ingest work is cut into short slices and queues anew for each, so even a single lane
 * makes a question wait for one slice only.
 *
 * Every change that could let a waiter go on ends in wake_next_locked(), and so does a
 * waiter that gives up: a wake-up meant for it is passed on, never lost.
 *
 * Vectors are kept by a 128-bit hash of their text, seeded at random per process so
 * that nobody outside can aim at a collision. */
#include "model/embedder.h"

#include <stdatomic.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/lru.h"
#include "base/mutex.h"
#include "base/rng.h"

enum {
    LANES_MAX = 64,
    INGEST_SLICE = 8, /* texts: some tens of milliseconds */
};

typedef struct slot {
    mf_lane *lane;
    float *vectors; /* [MF_ENCODE_BATCH_MAX, dim]: what the lane has just computed */
} slot;

typedef struct cached_vector {
    atomic_size_t refs;
    float values[]; /* [dim] */
} cached_vector;

struct mf_embedder {
    /* constant after open */
    mf_encoder *encoder; /* one reference */
    size_t dim;
    size_t lane_count;
    slot *slots;   /* [lane_count] */
    mf_lru *cache; /* NULL when switched off */
    uint64_t seed;
    mf_mutex pool_mu;
    mf_cond question_turn;
    mf_cond ingest_turn;
    /* guarded by pool_mu */
    slot **free;
    size_t free_count;
    size_t questions_waiting;
    size_t ingest_busy;
    mf_embedder_stats stats;
};

/* A slice of work: texts that were not in the cache, each once. */
typedef struct slice {
    mf_str texts[MF_ENCODE_BATCH_MAX];
    XXH128_hash_t keys[MF_ENCODE_BATCH_MAX];
    size_t count;
    /* Where the vectors go: text position `to` gets the vector of texts[from]. */
    struct {
        size_t to;
        size_t from;
    } moves[MF_ENCODE_BATCH_MAX];
    size_t move_count;
} slice;

/* --- open and close --------------------------------------------------------------- */

static void release_vector(void *value) {
    cached_vector *vector = value;
    if (atomic_fetch_sub(&vector->refs, 1) == 1) {
        mf_free(vector);
    }
}

static void *share_vector(void *value) {
    cached_vector *vector = value;
    (void)atomic_fetch_add(&vector->refs, 1);
    return vector;
}

static size_t vector_bytes(const mf_embedder *emb) {
    return sizeof(cached_vector) + emb->dim * sizeof(float);
}

static mf_rc open_cache(mf_embedder *emb, size_t count_max, mf_err *err) {
    if (count_max == 0) {
        return MF_OK;
    }
    mf_lru_options options = {
        .name = "embeddings",
        .count_max = count_max,
        .release = release_vector,
        .share = share_vector,
    };
    if (!mf_mul_size(count_max, vector_bytes(emb), &options.bytes_max)) {
        return MF_FAIL(err, MF_E_LIMIT, "a cache of %zu vectors is too large",
                       count_max);
    }
    return mf_lru_open(&options, &emb->cache, err);
}

static mf_rc open_slots(mf_embedder *emb, mf_err *err) {
    size_t floats = MF_ENCODE_BATCH_MAX * emb->dim;
    emb->slots = mf_alloc_zero(emb->lane_count, sizeof *emb->slots);
    emb->free = mf_alloc_zero(emb->lane_count, sizeof *emb->free);
    if (emb->slots == NULL || emb->free == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu lanes", emb->lane_count);
    }
    for (size_t i = 0; i < emb->lane_count; i++) {
        slot *s = &emb->slots[i];
        MF_TRY(mf_lane_open(emb->encoder, &s->lane, err));
        s->vectors = mf_alloc_array(floats, sizeof *s->vectors);
        if (s->vectors == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for the vectors of a lane");
        }
        emb->free[emb->free_count++] = s;
    }
    return MF_OK;
}

mf_rc mf_embedder_open(mf_encoder *enc, const mf_embedder_options *options,
                       mf_embedder **out, mf_err *err) {
    if (options->lane_count < 1 || options->lane_count > LANES_MAX) {
        return MF_FAIL(err, MF_E_INVAL, "lane_count %zu is outside 1..%d",
                       options->lane_count, LANES_MAX);
    }
    mf_embedder *emb = mf_alloc_zero(1, sizeof *emb);
    if (emb == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the embedder");
    }
    mf_encoder_info info;
    mf_encoder_get_info(enc, &info);
    emb->encoder = mf_encoder_ref(enc);
    emb->dim = info.dim;
    emb->lane_count = options->lane_count;
    mf_random_bytes(&emb->seed, sizeof emb->seed);
    mf_mutex_init(&emb->pool_mu, MF_RANK_POOL);
    mf_cond_init(&emb->question_turn);
    mf_cond_init(&emb->ingest_turn);
    mf_rc rc = open_cache(emb, options->cache_count_max, err);
    if (rc == MF_OK) {
        rc = open_slots(emb, err);
    }
    if (rc != MF_OK) {
        mf_embedder_close(emb);
        return rc;
    }
    *out = emb;
    return MF_OK;
}

void mf_embedder_close(mf_embedder *emb) {
    if (emb == NULL) {
        return;
    }
    for (size_t i = 0; emb->slots != NULL && i < emb->lane_count; i++) {
        mf_lane_close(emb->slots[i].lane);
        mf_free(emb->slots[i].vectors);
    }
    mf_free(emb->slots);
    mf_free(emb->free);
    mf_lru_close(emb->cache);
    mf_cond_done(&emb->question_turn);
    mf_cond_done(&emb->ingest_turn);
    mf_mutex_done(&emb->pool_mu);
    (void)mf_encoder_unref(emb->encoder); /* always NULL */
    mf_free(emb);
}

size_t mf_embedder_dim(const mf_embedder *emb) {
    return emb->dim;
}

const mf_encoder *mf_embedder_encoder(const mf_embedder *emb) {
    return emb->encoder;
}

/* --- taking turns ----------------------------------------------------------------- */

static bool may_take_locked(const mf_embedder *emb, mf_embed_class cls) {
    if (emb->free_count == 0) {
        return false;
    }
    if (cls == MF_EMBED_QUESTION) {
        return true;
    }
    size_t ingest_max = emb->lane_count > 1 ? emb->lane_count - 1 : 1;
    return emb->questions_waiting == 0 && emb->ingest_busy < ingest_max;
}

static void wake_next_locked(mf_embedder *emb) {
    if (emb->questions_waiting > 0) {
        mf_cond_signal(&emb->question_turn);
    } else {
        mf_cond_signal(&emb->ingest_turn);
    }
}

/* NULL when the deadline passed first. */
static slot *take_slot(mf_embedder *emb, mf_embed_class cls, int64_t deadline_ns) {
    bool question = cls == MF_EMBED_QUESTION;
    bool in_time = true;
    slot *taken = NULL;
    mf_mutex_lock(&emb->pool_mu);
    emb->questions_waiting += question;
    while (!may_take_locked(emb, cls) && in_time) {
        in_time = mf_cond_wait(question ? &emb->question_turn : &emb->ingest_turn,
                               &emb->pool_mu, deadline_ns);
    }
    emb->questions_waiting -= question;
    if (may_take_locked(emb, cls)) {
        taken = emb->free[--emb->free_count];
        emb->ingest_busy += !question;
    }
    if (emb->free_count > 0) {
        wake_next_locked(emb);
    }
    mf_mutex_unlock(&emb->pool_mu);
    return taken;
}

static void give_back(mf_embedder *emb, mf_embed_class cls, slot *s, int64_t busy_ns,
                      size_t truncated) {
    mf_mutex_lock(&emb->pool_mu);
    emb->free[emb->free_count++] = s;
    if (cls == MF_EMBED_INGEST) {
        emb->ingest_busy--;
        emb->stats.ingest_slices++;
    }
    emb->stats.busy_ns += (uint64_t)busy_ns;
    emb->stats.tokens_truncated_texts += truncated;
    wake_next_locked(emb);
    mf_mutex_unlock(&emb->pool_mu);
}

/* --- cache ------------------------------------------------------------------------ */

static mf_str key_bytes(const XXH128_hash_t *key) {
    return (mf_str){(const char *)key, sizeof *key};
}

static bool copy_from_cache(mf_embedder *emb, const XXH128_hash_t *key, float *out) {
    cached_vector *vector =
        emb->cache == NULL ? NULL : mf_lru_get(emb->cache, key_bytes(key));
    if (vector == NULL) {
        return false;
    }
    memcpy(out, vector->values, emb->dim * sizeof *out);
    release_vector(vector);
    return true;
}

static void keep_in_cache(mf_embedder *emb, const XXH128_hash_t *key,
                          const float *values) {
    if (emb->cache == NULL) {
        return;
    }
    cached_vector *vector = mf_alloc(vector_bytes(emb));
    if (vector == NULL) {
        return; /* a cache that cannot keep is not an error */
    }
    atomic_init(&vector->refs, 1);
    memcpy(vector->values, values, emb->dim * sizeof *values);
    mf_lru_put(emb->cache, key_bytes(key), vector, vector_bytes(emb));
}

/* --- encoding --------------------------------------------------------------------- */

/* Puts a text on the slice, or only its destination when an equal one is there. */
static void add_to_slice(slice *work, mf_str text, const XXH128_hash_t *key,
                         size_t position) {
    size_t from = 0;
    while (from < work->count && !XXH128_isEqual(work->keys[from], *key)) {
        from++;
    }
    if (from == work->count) {
        work->texts[from] = text;
        work->keys[from] = *key;
        work->count++;
    }
    work->moves[work->move_count].to = position;
    work->moves[work->move_count].from = from;
    work->move_count++;
}

/* Encodes a slice and copies its vectors to their places in `out`. */
static mf_rc run_slice(mf_embedder *emb, mf_embed_class cls, slice *work,
                       int64_t deadline_ns, float *out, mf_err *err) {
    size_t truncated = 0;
    slot *s = take_slot(emb, cls, deadline_ns);
    if (s == NULL) {
        return MF_FAIL(err, MF_E_TIMEOUT, "no encoder lane became free in time");
    }
    int64_t start_ns = mf_now_ns();
    mf_rc rc = mf_lane_encode(s->lane, work->texts, work->count, deadline_ns,
                              s->vectors, &truncated, err);
    int64_t busy_ns = mf_now_ns() - start_ns;
    if (rc == MF_OK) {
        for (size_t i = 0; i < work->move_count; i++) {
            memcpy(out + work->moves[i].to * emb->dim,
                   s->vectors + work->moves[i].from * emb->dim, emb->dim * sizeof *out);
        }
        for (size_t i = 0; i < work->count; i++) {
            keep_in_cache(emb, &work->keys[i], s->vectors + i * emb->dim);
        }
    }
    give_back(emb, cls, s, busy_ns, truncated);
    work->count = 0;
    work->move_count = 0;
    return rc;
}

static void count_call(mf_embedder *emb, mf_embed_class cls, size_t texts,
                       size_t encoded) {
    mf_mutex_lock(&emb->pool_mu);
    emb->stats.texts += texts;
    emb->stats.questions += cls == MF_EMBED_QUESTION;
    emb->stats.cache_hits += texts - encoded;
    emb->stats.cache_misses += encoded;
    mf_mutex_unlock(&emb->pool_mu);
}

mf_rc mf_embedder_encode(mf_embedder *emb, mf_embed_class cls, const mf_str *texts,
                         size_t count, int64_t deadline_ns, float *out, mf_err *err) {
    size_t slice_max = cls == MF_EMBED_QUESTION ? MF_ENCODE_BATCH_MAX : INGEST_SLICE;
    size_t encoded = 0;
    slice work;
    work.count = 0;
    work.move_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (texts[i].len > MF_ENCODE_BYTES_MAX) {
            return MF_FAIL(err, MF_E_LIMIT, "text %zu has %zu bytes, allowed are %d", i,
                           texts[i].len, MF_ENCODE_BYTES_MAX);
        }
    }
    for (size_t i = 0; i < count; i++) {
        XXH128_hash_t key = XXH3_128bits_withSeed(texts[i].p, texts[i].len, emb->seed);
        if (!copy_from_cache(emb, &key, out + i * emb->dim)) {
            size_t before = work.count;
            add_to_slice(&work, texts[i], &key, i);
            encoded += work.count - before;
        }
        if (work.move_count == slice_max) {
            MF_TRY(run_slice(emb, cls, &work, deadline_ns, out, err));
        }
    }
    if (work.move_count > 0) {
        MF_TRY(run_slice(emb, cls, &work, deadline_ns, out, err));
    }
    count_call(emb, cls, count, encoded);
    return MF_OK;
}

void mf_embedder_get_stats(mf_embedder *emb, mf_embedder_stats *out) {
    mf_mutex_lock(&emb->pool_mu);
    *out = emb->stats;
    out->lane_count = emb->lane_count;
    out->lanes_busy = emb->lane_count - emb->free_count;
    mf_mutex_unlock(&emb->pool_mu);
}
