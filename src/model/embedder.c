/* embedder.c - from texts to vectors, past those that are known already.
 *
 * A call is worked off in blocks of MF_ENCODE_BATCH_MAX texts.  Each text of a block is
 * looked for in memory, then, if it is a document's, in the source (all of the block at
 * once); what is left goes to the batcher in pieces of about MF_GROUP_TOKENS tokens.
 *
 * Nothing is encoded twice at the same time either: before a piece runs its call claims
 * the keys in it.  A call that finds one of its keys claimed waits and gathers its
 * piece again; by then the vector is in memory.  A question does not wait for a claim
 * of ingest work that has not begun to run: it takes the piece back, and the other call
 * gathers again.  A call holds no claim while it waits for others, so there is no
 * circle.
 *
 * Which vectors may be used for which texts is all in the key: its secret is made from
 * the source's secret and from the bits of one sentence's vector, which depend on every
 * layer's weights, on the precision and on the order of the arithmetic.  So a vector of
 * another model, or of the same model computed in other numbers, is never found. */
#include "model/embedder.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/lru.h"
#include "base/rng.h"
#include "model/batcher.h"
#include "model/encoder_private.h"
#include "num/half.h"

/* The sentence a model is known by. */
#define PROBE "On 24 March she moved to Lisbon, bought 3 maps & learnt to sail."

typedef struct known_vector {
    atomic_size_t refs;
    char values[]; /* [row_bytes] */
} known_vector;

/* Keys of a piece that waits or runs. */
typedef struct claim {
    mf_piece *piece;
    const mf_content_key *keys;
    size_t count;
    bool linked;
    struct claim *prev, *next;
} claim;

typedef struct call_counts {
    atomic_ullong texts, memory_hits, store_hits, encoded, store_failures, truncated,
        questions;
} call_counts;

struct mf_embedder {
    /* constant after open */
    mf_batcher *batcher;
    mf_encoder *encoder; /* one reference */
    size_t dim, window;
    size_t row_bytes; /* of a vector kept or handed on: of halves, or of floats */
    bool exact;
    mf_content_key fingerprint; /* of the model and its numbers */
    mf_lru *questions;          /* both NULL when switched off */
    mf_lru *documents;
    /* constant while calls are under way */
    mf_vector_source source;
    mf_content_key secret;

    atomic_ullong forgets; /* how often documents were forgotten */
    atomic_bool stopping;
    call_counts counts;

    mf_mutex claims_mu; /* guards the two below */
    mf_cond claims_changed;
    claim *claims;
};

/* One block of a call, and the piece of it that is being made. */
typedef struct work {
    mf_embedder *emb;
    const mf_embed_call *call;
    const mf_str *texts; /* [count], count <= MF_ENCODE_BATCH_MAX */
    size_t count;
    mf_content_key keys[MF_ENCODE_BATCH_MAX];
    bool have[MF_ENCODE_BATCH_MAX]; /* the vector is in `out` */
    float *out;
    uint64_t forgets; /* before the call */

    mf_piece piece;
    claim claim;
    mf_content_key piece_keys[MF_ENCODE_BATCH_MAX];
    size_t lengths[MF_ENCODE_BATCH_MAX];
    size_t from[MF_ENCODE_BATCH_MAX]; /* of text i: its place in the piece, or NONE */
    size_t cut;                       /* texts of the piece longer than the window */
    int32_t *ids;                     /* [MF_GROUP_TOKENS + window] */
    char *rows;                       /* [MF_ENCODE_BATCH_MAX, row_bytes] at most */

    size_t memory_hits, store_hits, encoded, truncated; /* of the whole call */
} work;

#define NONE SIZE_MAX

/* --- open and close --------------------------------------------------------------- */

static void release_vector(void *value) {
    known_vector *vector = value;
    if (atomic_fetch_sub(&vector->refs, 1) == 1) {
        mf_free(vector);
    }
}

static void *share_vector(void *value) {
    known_vector *vector = value;
    (void)atomic_fetch_add(&vector->refs, 1);
    return vector;
}

static size_t vector_bytes(const mf_embedder *emb) {
    return sizeof(known_vector) + emb->row_bytes;
}

static mf_rc open_cache(mf_embedder *emb, const char *name,
                        const mf_embedder_options *embedder, mf_lru **out,
                        mf_err *err) {
    size_t count_max = embedder->cache_count_max;
    mf_lru_options options = {
        .name = name,
        .manager = embedder->caches,
        .count_max = count_max,
        .release = release_vector,
        .share = share_vector,
    };
    if (count_max == 0) {
        return MF_OK;
    }
    if (!mf_mul_size(count_max, vector_bytes(emb), &options.bytes_max)) {
        return MF_FAIL(err, MF_E_LIMIT, "a cache of %zu vectors is too large",
                       count_max);
    }
    return mf_lru_open(&options, out, err);
}

/* Encodes the probe on a lane of its own, in full precision. */
static mf_rc take_fingerprint(mf_embedder *emb, mf_err *err) {
    const mf_str probe = MF_STR(PROBE);
    mf_lane *lane = NULL;
    size_t floats = emb->dim + 2;
    float *bits = mf_alloc_array(floats, sizeof *bits);
    if (bits == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a vector");
    }
    mf_rc rc = mf_lane_open(emb->encoder, &lane, err);
    if (rc == MF_OK) {
        rc = mf_lane_encode(lane, &probe, 1, MF_NEVER, bits + 2, NULL, err);
    }
    if (rc == MF_OK) {
        bits[0] = (float)emb->dim;
        bits[1] = (float)emb->window;
        emb->fingerprint = mf_content_key_of(
            &MF_CONTENT_KEY_NONE, (mf_str){(const char *)bits, floats * sizeof *bits});
    }
    mf_lane_close(lane);
    mf_free(bits);
    return rc;
}

static mf_rc open_parts(mf_embedder *emb, const mf_embedder_options *options,
                        mf_err *err) {
    MF_TRY(open_cache(emb, "question_vectors", options, &emb->questions, err));
    MF_TRY(open_cache(emb, "document_vectors", options, &emb->documents, err));
    MF_TRY(mf_batcher_open(emb->encoder, options, &emb->batcher, err));
    MF_TRY(take_fingerprint(emb, err));
    mf_embedder_set_source(emb, NULL);
    return MF_OK;
}

mf_embedder_options mf_embedder_options_default(size_t lanes) {
    return (mf_embedder_options){.lane_count = lanes + 1,
                                 .ingest_lanes_max = lanes,
                                 .question_queue_max = MF_EMBED_QUESTION_QUEUE,
                                 .ingest_queue_max = MF_EMBED_INGEST_QUEUE};
}

static mf_rc check_options(const mf_embedder_options *options, mf_err *err) {
    if (options->lane_count < 1 || options->lane_count > MF_EMBED_LANES_MAX) {
        return MF_FAIL(err, MF_E_INVAL, "lane_count %zu is outside 1..%d",
                       options->lane_count, MF_EMBED_LANES_MAX);
    }
    if (options->ingest_lanes_max < 1 ||
        options->ingest_lanes_max > options->lane_count) {
        return MF_FAIL(err, MF_E_INVAL, "ingest_lanes_max %zu is outside 1..%zu",
                       options->ingest_lanes_max, options->lane_count);
    }
    if (options->question_queue_max < 1 || options->ingest_queue_max < 1) {
        return MF_FAIL(err, MF_E_INVAL, "a queue without room for one piece");
    }
    return MF_OK;
}

mf_rc mf_embedder_open(mf_encoder *enc, const mf_embedder_options *options,
                       mf_embedder **out, mf_err *err) {
    MF_TRY(check_options(options, err));
    mf_embedder *emb = mf_alloc_zero(1, sizeof *emb);
    if (emb == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the embedder");
    }
    mf_encoder_info info;
    mf_encoder_get_info(enc, &info);
    emb->encoder = mf_encoder_ref(enc);
    emb->dim = info.dim;
    emb->exact = options->exact;
    emb->row_bytes = info.dim * (options->exact ? sizeof(float) : sizeof(uint16_t));
    emb->window = info.window;
    mf_mutex_init(&emb->claims_mu, MF_RANK_CACHE);
    mf_cond_init(&emb->claims_changed);
    mf_rc rc = open_parts(emb, options, err);
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
    MF_ASSERT(emb->claims == NULL);
    mf_batcher_close(emb->batcher);
    mf_lru_close(emb->questions);
    mf_lru_close(emb->documents);
    mf_cond_done(&emb->claims_changed);
    mf_mutex_done(&emb->claims_mu);
    (void)mf_encoder_unref(emb->encoder); /* always NULL */
    mf_free(emb);
}

size_t mf_embedder_dim(const mf_embedder *emb) {
    return emb->dim;
}

const mf_encoder *mf_embedder_encoder(const mf_embedder *emb) {
    return emb->encoder;
}

static void clear_cache(mf_lru *cache) {
    if (cache != NULL) {
        mf_lru_clear(cache);
    }
}

void mf_embedder_set_source(mf_embedder *emb, const mf_vector_source *source) {
    emb->source = (mf_vector_source){.find = NULL};
    if (source != NULL) {
        MF_ASSERT(!emb->exact);
        emb->source = *source;
    } else {
        mf_random_bytes(emb->source.secret.b, sizeof emb->source.secret.b);
    }
    emb->secret = mf_content_key_of(
        &emb->source.secret,
        (mf_str){(const char *)emb->fingerprint.b, sizeof emb->fingerprint.b});
    clear_cache(emb->questions);
    clear_cache(emb->documents);
}

/* --- memory ----------------------------------------------------------------------- */

static mf_str key_bytes(const mf_content_key *key) {
    return (mf_str){(const char *)key->b, sizeof key->b};
}

/* A reference to the vector, or NULL. */
static known_vector *recall(const mf_embedder *emb, const mf_content_key *key,
                            bool document) {
    mf_lru *first = document ? emb->documents : emb->questions;
    mf_lru *second = document ? emb->questions : emb->documents;
    if (first == NULL) {
        return NULL;
    }
    known_vector *vector = mf_lru_get(first, key_bytes(key));
    return vector != NULL ? vector : mf_lru_get(second, key_bytes(key));
}

static void remember(const work *w, const mf_content_key *key, const char *values) {
    mf_embedder *emb = w->emb;
    mf_lru *cache = w->call->documents ? emb->documents : emb->questions;
    known_vector *vector = cache == NULL ? NULL : mf_alloc(vector_bytes(emb));
    if (vector == NULL) {
        return; /* a cache that cannot keep is not an error */
    }
    atomic_init(&vector->refs, 1);
    memcpy(vector->values, values, emb->row_bytes);
    mf_lru_put(cache, key_bytes(key), vector, vector_bytes(emb));
    /* Forgetting counts first and clears then: either it cleared this one too, or the
     * count is seen to have changed. */
    if (w->call->documents && atomic_load(&emb->forgets) != w->forgets) {
        mf_lru_remove(cache, key_bytes(key));
    }
}

void mf_embedder_forget(mf_embedder *emb) {
    (void)atomic_fetch_add(&emb->forgets, 1);
    clear_cache(emb->documents);
}

static void give_vector(work *w, size_t text, const char *values) {
    float *out = w->out + text * w->emb->dim;
    if (w->emb->exact) {
        memcpy(out, values, w->emb->row_bytes);
    } else {
        mf_half_to_float((const uint16_t *)(const void *)values, out, w->emb->dim);
    }
    w->have[text] = true;
}

static bool recall_text(work *w, size_t text) {
    known_vector *vector = recall(w->emb, &w->keys[text], w->call->documents);
    if (vector == NULL) {
        return false;
    }
    give_vector(w, text, vector->values);
    release_vector(vector);
    w->memory_hits++;
    return true;
}

/* --- source ----------------------------------------------------------------------- */

/* What is stored may be damaged; a vector of another length than one would spoil every
 * search. */
static bool is_unit(const float *vector, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++) {
        sum += vector[i] * vector[i];
    }
    return fabsf(sum - 1.0F) < 0.01F; /* false for NaN */
}

/* Asks the source for the texts of the block that memory does not have. */
static void ask_source(work *w) {
    mf_embedder *emb = w->emb;
    mf_content_key keys[MF_ENCODE_BATCH_MAX];
    size_t texts[MF_ENCODE_BATCH_MAX];
    bool found[MF_ENCODE_BATCH_MAX] = {false};
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++) {
        if (!w->have[i]) {
            keys[count] = w->keys[i];
            texts[count++] = i;
        }
    }
    if (count == 0) {
        return;
    }
    mf_rc rc = emb->source.find(emb->source.ctx, keys, count, emb->dim,
                                (uint16_t *)(void *)w->rows, found,
                                w->call->deadline_ns, NULL);
    if (rc != MF_OK) {
        (void)atomic_fetch_add(&emb->counts.store_failures, 1);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *values = w->rows + i * emb->row_bytes;
        if (!found[i]) {
            continue;
        }
        give_vector(w, texts[i], values);
        w->have[texts[i]] = is_unit(w->out + texts[i] * emb->dim, emb->dim);
        if (w->have[texts[i]]) {
            remember(w, &keys[i], values);
            w->store_hits++;
        }
    }
}

/* --- pieces ----------------------------------------------------------------------- */

/* The place in the piece of a text with this key, or NONE. */
static size_t find_in_piece(const work *w, const mf_content_key *key) {
    for (size_t i = 0; i < w->piece.count; i++) {
        if (mf_content_key_eq(&w->piece_keys[i], key)) {
            return i;
        }
    }
    return NONE;
}

/* Adds a text's tokens to the piece; false when it has no room for them. */
static bool add_to_piece(work *w, size_t text) {
    mf_piece *piece = &w->piece;
    bool cut = false;
    if (piece->tokens >= MF_GROUP_TOKENS) {
        return false; /* one text longer than a group fills it, and more */
    }
    size_t length =
        mf_model_tokenizer_encode(mf_encoder_tokenizer(w->emb->encoder), w->texts[text],
                                  w->ids + piece->tokens, w->emb->window, &cut);
    if (piece->count > 0 && piece->tokens + length > MF_GROUP_TOKENS) {
        return false;
    }
    w->piece_keys[piece->count] = w->keys[text];
    w->lengths[piece->count] = length;
    w->from[text] = piece->count++;
    piece->tokens += length;
    w->cut += cut;
    return true;
}

/* Gathers the next texts without a vector; an empty piece means that all have one. */
static void gather(work *w) {
    w->piece = (mf_piece){.cls = w->call->cls,
                          .deadline_ns = w->call->deadline_ns,
                          .cancel = w->call->cancel,
                          .ids = w->ids,
                          .lengths = w->lengths,
                          .out = w->rows};
    w->cut = 0;
    bool room = true;
    for (size_t i = 0; i < w->count; i++) {
        w->from[i] = NONE;
        if (!w->have[i] && room && !recall_text(w, i)) {
            w->from[i] = find_in_piece(w, &w->keys[i]);
            room = w->from[i] != NONE || add_to_piece(w, i);
        }
    }
}

/* The vectors of a piece that ran. */
static void take_vectors(work *w) {
    size_t bytes = w->emb->row_bytes;
    for (size_t i = 0; i < w->piece.count; i++) {
        remember(w, &w->piece_keys[i], w->rows + i * bytes);
    }
    for (size_t i = 0; i < w->count; i++) {
        if (w->from[i] != NONE) {
            give_vector(w, i, w->rows + w->from[i] * bytes);
            w->memory_hits++;
        }
    }
    w->memory_hits -= w->piece.count;
    w->encoded += w->piece.count;
    w->truncated += w->cut;
}

/* --- claims ----------------------------------------------------------------------- */

static bool share_a_key(const claim *a, const claim *b) {
    for (size_t i = 0; i < a->count; i++) {
        for (size_t j = 0; j < b->count; j++) {
            if (mf_content_key_eq(&a->keys[i], &b->keys[j])) {
                return true;
            }
        }
    }
    return false;
}

static void claim_unlink_locked(mf_embedder *emb, claim *c)
    MF_REQUIRES(emb->claims_mu) {
    if (!c->linked) {
        return; /* taken back with its piece */
    }
    *(c->prev != NULL ? &c->prev->next : &emb->claims) = c->next;
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    c->linked = false;
}

static void claim_link_locked(mf_embedder *emb, claim *c) MF_REQUIRES(emb->claims_mu) {
    c->prev = NULL;
    c->next = emb->claims;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    emb->claims = c;
    c->linked = true;
}

/* A claim the piece has to wait for.  Ingest work that has not begun gives way to a
 * question. */
static claim *find_rival_locked(mf_embedder *emb, const claim *c)
    MF_REQUIRES(emb->claims_mu) {
    claim *next = NULL;
    for (claim *other = emb->claims; other != NULL; other = next) {
        next = other->next;
        if (!share_a_key(other, c)) {
            continue;
        }
        bool gives_way = c->piece->cls == MF_EMBED_QUESTION &&
                         other->piece->cls == MF_EMBED_INGEST &&
                         mf_batcher_take_back(emb->batcher, other->piece);
        if (!gives_way) {
            return other;
        }
        claim_unlink_locked(emb, other);
    }
    return NULL;
}

static bool is_called_off(const work *w) {
    return atomic_load(&w->emb->stopping) ||
           (w->call->cancel != NULL && atomic_load(w->call->cancel));
}

/* Claims the piece's keys, or waits until none of those that others hold is held any
 * more and says so in *waited: then there is something new in memory. */
static mf_rc claim_keys(work *w, bool *waited, mf_err *err) {
    mf_embedder *emb = w->emb;
    bool in_time = true;
    w->claim =
        (claim){.piece = &w->piece, .keys = w->piece_keys, .count = w->piece.count};
    *waited = false;
    mf_mutex_lock(&emb->claims_mu);
    while (find_rival_locked(emb, &w->claim) != NULL && in_time && !is_called_off(w)) {
        *waited = true;
        in_time =
            mf_cond_wait(&emb->claims_changed, &emb->claims_mu, w->call->deadline_ns);
    }
    bool called_off = is_called_off(w);
    if (!*waited && !called_off) {
        claim_link_locked(emb, &w->claim);
    }
    mf_mutex_unlock(&emb->claims_mu);
    if (called_off) {
        return MF_FAIL(err, MF_E_STOPPING, "encoding was called off");
    }
    return in_time ? MF_OK
                   : MF_FAIL(err, MF_E_TIMEOUT, "an equal text is still being encoded");
}

static void release_keys(work *w) {
    mf_embedder *emb = w->emb;
    mf_mutex_lock(&emb->claims_mu);
    claim_unlink_locked(emb, &w->claim);
    mf_cond_broadcast(&emb->claims_changed);
    mf_mutex_unlock(&emb->claims_mu);
}

/* Did a claim that ended between gathering and claiming leave something in memory? */
static bool is_known_by_now(const work *w) {
    for (size_t i = 0; i < w->piece.count; i++) {
        known_vector *vector = recall(w->emb, &w->piece_keys[i], w->call->documents);
        if (vector != NULL) {
            release_vector(vector);
            return true;
        }
    }
    return false;
}

/* --- calls ------------------------------------------------------------------------ */

/* Runs the piece; without vectors when it has to be gathered again. */
static mf_rc run_piece(work *w, mf_err *err) {
    bool again = false;
    bool remembers = w->emb->documents != NULL;
    mf_piece_init(&w->piece);
    if (remembers) {
        mf_rc rc = claim_keys(w, &again, err);
        if (rc != MF_OK || again) {
            mf_piece_done(&w->piece);
            return rc;
        }
        again = is_known_by_now(w);
    }
    mf_rc rc = again ? MF_OK : mf_batcher_run(w->emb->batcher, &w->piece, &again, err);
    if (rc == MF_OK && !again) {
        take_vectors(w);
    }
    if (remembers) {
        release_keys(w);
    }
    mf_piece_done(&w->piece);
    return rc;
}

static mf_rc encode_block(work *w, mf_err *err) {
    for (size_t i = 0; i < w->count; i++) {
        w->keys[i] = mf_content_key_of(&w->emb->secret, w->texts[i]);
        w->have[i] = w->emb->questions != NULL && recall_text(w, i);
    }
    if (w->call->documents && w->emb->source.find != NULL) {
        ask_source(w);
    }
    gather(w);
    while (w->piece.count > 0) {
        MF_TRY(run_piece(w, err));
        gather(w);
    }
    return MF_OK;
}

static mf_rc open_work(work *w, size_t count, mf_err *err) {
    size_t texts = count < MF_ENCODE_BATCH_MAX ? count : MF_ENCODE_BATCH_MAX;
    w->ids = mf_alloc_array(MF_GROUP_TOKENS + w->emb->window, sizeof *w->ids);
    w->rows = mf_alloc_array(texts, w->emb->row_bytes);
    if (w->ids == NULL || w->rows == NULL) {
        mf_free(w->ids);
        mf_free(w->rows);
        return MF_FAIL(err, MF_E_NOMEM, "no memory to encode %zu texts", count);
    }
    return MF_OK;
}

static void count_call(const work *w, size_t texts) {
    call_counts *c = &w->emb->counts;
    (void)atomic_fetch_add(&c->texts, texts);
    (void)atomic_fetch_add(&c->memory_hits, w->memory_hits);
    (void)atomic_fetch_add(&c->store_hits, w->store_hits);
    (void)atomic_fetch_add(&c->encoded, w->encoded);
    (void)atomic_fetch_add(&c->truncated, w->truncated);
    (void)atomic_fetch_add(&c->questions, w->call->cls == MF_EMBED_QUESTION);
}

mf_rc mf_embedder_encode(mf_embedder *emb, const mf_embed_call *call,
                         const mf_str *texts, size_t count, mf_content_key *keys,
                         float *out, mf_err *err) {
    for (size_t i = 0; i < count; i++) {
        if (texts[i].len > MF_ENCODE_BYTES_MAX) {
            return MF_FAIL(err, MF_E_LIMIT, "text %zu has %zu bytes, allowed are %d", i,
                           texts[i].len, MF_ENCODE_BYTES_MAX);
        }
    }
    work w = {.emb = emb, .call = call, .forgets = atomic_load(&emb->forgets)};
    MF_TRY(open_work(&w, count, err));
    mf_rc rc = MF_OK;
    for (size_t at = 0; at < count && rc == MF_OK; at += w.count) {
        size_t rest = count - at;
        w.texts = texts + at;
        w.count = rest < MF_ENCODE_BATCH_MAX ? rest : MF_ENCODE_BATCH_MAX;
        w.out = out + at * emb->dim;
        rc = encode_block(&w, err);
        if (keys != NULL) {
            memcpy(keys + at, w.keys, w.count * sizeof *keys);
        }
    }
    if (rc == MF_OK) {
        count_call(&w, count);
    }
    mf_free(w.ids);
    mf_free(w.rows);
    return rc;
}

static void wake_claimants(mf_embedder *emb) {
    mf_mutex_lock(&emb->claims_mu);
    mf_cond_broadcast(&emb->claims_changed);
    mf_mutex_unlock(&emb->claims_mu);
}

void mf_embedder_cancel(mf_embedder *emb, const atomic_bool *flag) {
    MF_ASSERT(atomic_load(flag));
    mf_batcher_cancel(emb->batcher, flag);
    wake_claimants(emb);
}

void mf_embedder_stop(mf_embedder *emb) {
    atomic_store(&emb->stopping, true);
    mf_batcher_stop(emb->batcher);
    wake_claimants(emb);
}

void mf_embedder_get_stats(mf_embedder *emb, mf_embedder_stats *out) {
    const call_counts *c = &emb->counts;
    mf_batcher_get_stats(emb->batcher, out);
    out->texts = atomic_load(&c->texts);
    out->memory_hits = atomic_load(&c->memory_hits);
    out->store_hits = atomic_load(&c->store_hits);
    out->encoded = atomic_load(&c->encoded);
    out->store_failures = atomic_load(&c->store_failures);
    out->truncated = atomic_load(&c->truncated);
    out->questions = atomic_load(&c->questions);
}
