/* embedder.h - the process's way to vectors: encoder lanes, shared by two classes of
 * work, and a memory of what was encoded before.
 *
 * Questions go before ingest work, and questions that wait together run as one batch;
 * the rules are in batcher.h.  Each text's vector is the one the encoder gives for it
 * alone, rounded to half precision (unless options.exact): so what comes from a batch,
 * from memory, from the store or from a fresh run is the same to the bit.
 *
 * Every text has a key (base/content_key.h) that depends on the text, on the model and
 * the numbers it computes with, and on the source's secret.  A text whose key is known
 * is not encoded: vectors are remembered in memory, those of questions and those of
 * documents apart so that an import does not wash out the questions, and a source may
 * know more, which is how vectors outlive a restart.  A text that somebody is encoding
 * at the moment is waited for.
 *
 * Thread-safe. */
#ifndef MF_MODEL_EMBEDDER_H
#define MF_MODEL_EMBEDDER_H

#include "base/cache_manager.h"
#include "base/content_key.h"
#include "base/histogram.h"
#include "model/encoder.h"

typedef struct mf_embedder mf_embedder;

typedef enum mf_embed_class { MF_EMBED_QUESTION, MF_EMBED_INGEST } mf_embed_class;
enum { MF_EMBED_CLASSES = MF_EMBED_INGEST + 1 };

enum {
    MF_EMBED_LANES_MAX = 512,
    MF_EMBED_QUESTION_QUEUE = 1024,
    MF_EMBED_INGEST_QUEUE = 256,
};

/* One batch about to run, for tests that want to hold it there. */
typedef struct mf_embed_batch {
    mf_embed_class cls;
    size_t calls, texts, tokens;
} mf_embed_batch;

typedef struct mf_embedder_options {
    size_t lane_count;         /* 1..MF_EMBED_LANES_MAX: batches that run at once */
    size_t ingest_lanes_max;   /* of them; 1..lane_count */
    size_t question_queue_max; /* pieces of questions waiting; more are refused */
    size_t ingest_queue_max;   /* pieces of ingest work; callers wait for room */
    size_t cache_count_max;    /* vectors remembered of each class; 0: none */
    mf_cache_manager *caches;  /* of whose budget they take; NULL: they stand alone */
    bool exact; /* vectors are not rounded to half precision; no source then */
    void (*watch)(void *ctx, const mf_embed_batch *batch); /* NULL: nobody looks */
    void *watch_ctx;
} mf_embedder_options;

typedef struct mf_embedder_stats {
    size_t lane_count, lanes_busy;
    uint64_t texts; /* asked for, in calls that succeeded */
    /* where their vectors came from; the last three add up to `texts` */
    uint64_t memory_hits; /* also from a text like it in the same call or at work */
    uint64_t store_hits;
    uint64_t encoded;
    uint64_t store_failures; /* look-ups that failed; they count as misses */
    uint64_t truncated;      /* encoded texts longer than the model's window */
    uint64_t questions;      /* calls of that class */
    uint64_t ingest_slices, question_batches;
    uint64_t coalesced;          /* pieces that shared a question batch with others */
    size_t question_batch_max;   /* most pieces in one */
    uint64_t refused;            /* questions that met a full queue */
    uint64_t expired, cancelled; /* pieces that ended so */
    uint64_t retried;            /* pieces of batches that failed */
    size_t waiting[MF_EMBED_CLASSES], waiting_max[MF_EMBED_CLASSES];
    /* nanoseconds that pieces of a class waited for a lane */
    mf_histogram_summary waits[MF_EMBED_CLASSES];
    uint64_t busy_ns; /* time lanes spent encoding, summed */
} mf_embedder_stats;

/* `lanes` for ingest work and one more for questions; queues of the sizes above; no
 * cache. */
mf_embedder_options mf_embedder_options_default(size_t lanes);

/* Takes a reference on `enc`, and encodes one sentence to know the model by. */
MF_CHECKED mf_rc mf_embedder_open(mf_encoder *enc, const mf_embedder_options *options,
                                  mf_embedder **out, mf_err *err);
void mf_embedder_close(mf_embedder *emb); /* no call may be under way */
size_t mf_embedder_dim(const mf_embedder *emb);
const mf_encoder *mf_embedder_encoder(const mf_embedder *emb);

/* Vectors known from elsewhere. */
typedef struct mf_vector_source {
    mf_content_key secret; /* of the keys */
    /* Fills row i of `vectors` [count, dim] and sets found[i], which comes in false,
     * for the keys it knows; at most MF_ENCODE_BATCH_MAX at a time.  A failure means
     * that nothing is known. */
    mf_rc (*find)(void *ctx, const mf_content_key *keys, size_t count, size_t dim,
                  uint16_t *vectors, bool *found, int64_t deadline_ns, mf_err *err);
    void *ctx;
} mf_vector_source;

/* Before the first call that encodes, or when none is under way: the source for texts
 * of documents, copied.  NULL takes it away.  Without one the secret is random.  What
 * is remembered in memory is dropped. */
void mf_embedder_set_source(mf_embedder *emb, const mf_vector_source *source);

typedef struct mf_embed_call {
    mf_embed_class cls;
    bool documents;            /* texts that are stored: the source may know them */
    int64_t deadline_ns;       /* monotonic clock */
    const atomic_bool *cancel; /* NULL: nobody calls it off; see mf_embedder_cancel */
} mf_embed_call;

/* Encodes `count` UTF-8 texts, any number, borrowed for the call, into `out`: row-major
 * [count, D], values of half precision unless options.exact, each row of L2 norm 1
 * within that precision. Unless NULL, `keys` [count] receives the texts' keys.
 * MF_E_LIMIT (a text over MF_ENCODE_BYTES_MAX), MF_E_BUSY (a question when too many
 * wait: at once), MF_E_TIMEOUT, MF_E_STOPPING (called off), or what the encoder says.
 */
MF_CHECKED mf_rc mf_embedder_encode(mf_embedder *emb, const mf_embed_call *call,
                                    const mf_str *texts, size_t count,
                                    mf_content_key *keys, float *out, mf_err *err);

/* Calls off every call that carries this flag, waiting or running: the flag is set,
 * then this is called.  A call that begins later sees the flag by itself. */
void mf_embedder_cancel(mf_embedder *emb, const atomic_bool *flag);
/* Calls off everything, also what comes later: for the end of the process. */
void mf_embedder_stop(mf_embedder *emb);

/* Drops the vectors of documents from memory, because texts were deleted or changed:
 * a vector tells much of its text.  What is still stored is found again. */
void mf_embedder_forget(mf_embedder *emb);

void mf_embedder_get_stats(mf_embedder *emb, mf_embedder_stats *out);

#endif
