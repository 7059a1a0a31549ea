/* hybrid_buffer.h - embedded documents whose vectors are not committed yet.
 *
 * A vector costs a model run and is searchable at once, from the user's index, which
 * holds what is here and what is committed alike; putting it into the store only spares
 * the next start that run.  So vectors wait here, first in, first out, and are
 * committed many at a time.  How many may wait, and how long, is flush_policy.h.  What
 * a crash takes from here is embedded again, because the store's backlog still names
 * the user.
 *
 * The text of a round stays where it is, in the store: an entry names its document.
 *
 * Entries are made outside the owner's lock and only linked under it.  One owner:
 * callers lock. */
#ifndef MF_BUFFER_HYBRID_BUFFER_H
#define MF_BUFFER_HYBRID_BUFFER_H

#include "store/store.h"

typedef struct mf_hybrid_buffer mf_hybrid_buffer;
typedef struct mf_hybrid_entry mf_hybrid_entry; /* one document with its vectors */

typedef struct mf_hybrid_doc {
    mf_doc_kind kind;
    int64_t num;
    int64_t updated_us; /* of the text the vectors were made from */
    int64_t revision;   /* and of what else they depend on; 0 for knowledge */
    mf_uuid round_id;   /* none for knowledge: each item counts as a round */
} mf_hybrid_doc;

/* Entries taken out to be committed, oldest first. */
typedef struct mf_hybrid_batch {
    mf_hybrid_entry *first, *last;
    size_t chunks, rounds, bytes;
    int64_t since_ns; /* when the oldest came in */
} mf_hybrid_batch;

/* What is held; all zero when it is empty. */
typedef struct mf_hybrid_state {
    size_t chunks, rounds, bytes;
    int64_t since_ns;
} mf_hybrid_state;

/* `vectors` is row-major [part_count, dim]; it is copied as 16-bit floats, and with it
 * the keys [part_count] of the parts' texts. */
MF_CHECKED mf_rc mf_hybrid_entry_new(const mf_hybrid_doc *doc, const float *vectors,
                                     const mf_content_key *keys, size_t part_count,
                                     size_t dim, mf_hybrid_entry **out, mf_err *err);
void mf_hybrid_entry_free(mf_hybrid_entry *entry);

MF_CHECKED mf_rc mf_hybrid_buffer_open(mf_hybrid_buffer **out, mf_err *err);
void mf_hybrid_buffer_close(mf_hybrid_buffer *buffer);

void mf_hybrid_buffer_put(mf_hybrid_buffer *buffer, mf_hybrid_entry *entry,
                          int64_t now_ns);
bool mf_hybrid_buffer_holds(const mf_hybrid_buffer *buffer, mf_doc_kind kind,
                            int64_t num);
size_t mf_hybrid_buffer_bytes(const mf_hybrid_buffer *buffer); /* with the struct */
void mf_hybrid_buffer_get_state(const mf_hybrid_buffer *buffer, mf_hybrid_state *out);

/* Takes everything out; the batch may be empty. */
mf_hybrid_batch mf_hybrid_buffer_take(mf_hybrid_buffer *buffer);
/* Puts a batch that could not be committed back in front. */
void mf_hybrid_buffer_give_back(mf_hybrid_buffer *buffer, mf_hybrid_batch *batch);

/* Writes the batch as chunks of `model`, inside the caller's transaction.  Stale ones
 * are refused by the store without an error. */
MF_CHECKED mf_rc mf_hybrid_batch_write(const mf_hybrid_batch *batch, mf_conn *conn,
                                       mf_uuid user_id, mf_str model, mf_err *err);
void mf_hybrid_batch_free(mf_hybrid_batch *batch);

#endif
