/* batcher.h - who may use an encoder lane, and with whose texts.
 *
 * Work comes in pieces: the tokens of some texts of one caller, as many as a lane takes
 * through the network at once.  A piece belongs to a class, and each class has a queue,
 * first in, first out, with a bound.  A free lane takes the first piece of a queue and
 * with it as many of the next ones as fit, so questions that wait together are answered
 * by one pass.  The caller whose piece is first does the work, on its own thread; the
 * others sleep until their vectors are there.
 *
 * Who is next:
 *   1. Questions go before ingest work.
 *   2. Ingest work holds at most `ingest_lanes_max` lanes.
 *   3. While ingest work waits that rule 2 lets run, at most MF_QUESTION_RUN batches of
 *      questions start before one of ingest does.
 * A lane that runs ingest work has it for one piece: a question waits for one piece at
 * most before its turn comes.
 *
 * Nobody is tied to the others of a batch.  A caller whose time is over or whose work
 * is called off leaves at once and the rest goes on; the lane itself stops, between two
 * layers, when nobody is left.  A batch that fails is run again piece by piece, so that
 * only the caller of a text that cannot be encoded gets the error.
 *
 * Thread-safe. */
#ifndef MF_MODEL_BATCHER_H
#define MF_MODEL_BATCHER_H

#include "base/mutex.h"
#include "model/embedder.h"

/* Batches of questions that may start in a row while ingest work waits. */
enum { MF_QUESTION_RUN = 8 };

typedef struct mf_batcher mf_batcher;
typedef struct mf_batch_slot mf_batch_slot;

typedef enum mf_piece_state {
    MF_PIECE_NEW,
    MF_PIECE_QUEUED,
    MF_PIECE_RUNNING,
    MF_PIECE_ENDED
} mf_piece_state;

typedef struct mf_piece {
    /* the caller's; constant while the batcher has it */
    mf_embed_class cls;
    int64_t deadline_ns;
    const atomic_bool *cancel; /* NULL: nobody calls it off */
    const int32_t *ids;        /* [tokens]: the texts' tokens, one after the other */
    const size_t *lengths;     /* [count], each 1..window */
    size_t count;              /* texts, 1..MF_ENCODE_BATCH_MAX */
    size_t tokens;             /* at most MF_GROUP_TOKENS unless there is one text */
    void *out; /* [count, dim] in half precision, or floats with options.exact */

    /* the batcher's, guarded by its lock */
    mf_piece_state state;
    struct mf_piece *prev, *next; /* in a queue or in a batch */
    mf_batch_slot *slot;          /* while RUNNING */
    size_t row;                   /* of its first text in the batch */
    int64_t queued_ns;
    bool alone;      /* goes without company: it was in a batch that failed */
    bool given_back; /* taken back before it ran */
    mf_rc rc;
    mf_err err;
    mf_cond changed; /* only between piece_init and piece_done */
} mf_piece;

/* `options` are checked by the embedder. */
MF_CHECKED mf_rc mf_batcher_open(mf_encoder *enc, const mf_embedder_options *options,
                                 mf_batcher **out, mf_err *err);
void mf_batcher_close(mf_batcher *batcher); /* no call may be under way */

/* Makes the batcher's part of a piece ready, and lets it go. */
void mf_piece_init(mf_piece *piece);
void mf_piece_done(mf_piece *piece);

/* Queues the piece and returns when its vectors are in `out`, or with MF_E_BUSY (the
 * queue of questions is full), MF_E_TIMEOUT, MF_E_STOPPING (called off, or the batcher
 * stops), or what the encoder says.  Ingest work waits for room in its queue.
 * *given_back, with MF_OK and no vectors, when mf_batcher_take_back got hold of it. */
MF_CHECKED mf_rc mf_batcher_run(mf_batcher *batcher, mf_piece *piece, bool *given_back,
                                mf_err *err);
/* Takes a piece that has not begun to run back out, and wakes its caller.  false when
 * it runs or has ended. */
bool mf_batcher_take_back(mf_batcher *batcher, mf_piece *piece);
/* Ends, with MF_E_STOPPING, every piece that carries this flag, which is set. */
void mf_batcher_cancel(mf_batcher *batcher, const atomic_bool *flag);
/* The same for all there are and will be. */
void mf_batcher_stop(mf_batcher *batcher);

/* Fills in what the batcher counts. */
void mf_batcher_get_stats(mf_batcher *batcher, mf_embedder_stats *out);

#endif
