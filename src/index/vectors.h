/* vectors.h - the vectors of the documents of one index, in 8 bits per dimension.
 *
 * A document, named by its slot, has no vectors or some: one per part of its text. Rows
 * are quantised with one scale each (num/vec_scan.h) and scanned exactly, all of them
 * for each query: that filters, deletes and updates for free and its recall does not
 * depend on the data.
 *
 * Callers lock; functions taking a const pointer may run side by side. */
#ifndef MF_INDEX_VECTORS_H
#define MF_INDEX_VECTORS_H

#include <stdint.h>

#include "base/err.h"

typedef struct mf_vector_block mf_vector_block;

typedef struct mf_vectors {
    size_t dim, dim_padded;
    mf_vector_block *blocks; /* owned */
    size_t block_count, blocks_max;
    size_t row_count;
    uint32_t *heads;  /* owned; [slot]: its first row, or MF_VECTORS_NONE */
    size_t slots_max; /* room in `heads` */
} mf_vectors;

#define MF_VECTORS_NONE UINT32_MAX
#define MF_VECTORS_UNSEEN (-2.0F) /* less than any cosine */

void mf_vectors_init(mf_vectors *v, size_t dim); /* dim is 1..MF_SCAN_DIM_MAX */
void mf_vectors_done(mf_vectors *v);

/* Gives the document `count` >= 1 unit vectors, [count, dim], in place of those it had.
 * MF_E_NOMEM and MF_E_LIMIT leave everything as it was. */
MF_CHECKED mf_rc mf_vectors_set(mf_vectors *v, uint32_t slot, const float *vectors,
                                size_t count, mf_err *err);
void mf_vectors_clear(mf_vectors *v, uint32_t slot); /* one without is fine */
bool mf_vectors_has(const mf_vectors *v, uint32_t slot);

/* best[slot] = the cosine of the document's best part for each document with vectors;
 * MF_VECTORS_UNSEEN for the other slots below `slot_count`, which covers every
 * document. `query` is a unit vector, [dim].  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_vectors_score(const mf_vectors *v, const float *query, float *best,
                                  size_t slot_count, mf_err *err);

/* The same for the `count` documents in `slots` alone; other places of `best` are left
 * as they are. */
MF_CHECKED mf_rc mf_vectors_score_some(const mf_vectors *v, const float *query,
                                       const uint32_t *slots, size_t count, float *best,
                                       mf_err *err);

size_t mf_vectors_bytes(const mf_vectors *v);

#endif
