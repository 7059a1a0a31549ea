/* postings.h - which documents hold a term, and BM25 over them.
 *
 * Documents are named by slots: small numbers the caller gives and may give again after
 * a removal.  Everything is exact at all times: a removed document leaves no posting,
 * no share in a document frequency and none in the average length.
 *
 * A term list is packed: each distinct term once, `hash << 8 | frequency`, rising.  The
 * hash keeps 56 of its bits, the frequency stops at 255 (BM25 is flat long before).
 *
 * Callers lock; functions taking a const pointer may run side by side. */
#ifndef MF_INDEX_POSTINGS_H
#define MF_INDEX_POSTINGS_H

#include <stdint.h>

#include "base/err.h"

enum {
    MF_POSTINGS_SLOTS_MAX = 1 << 24, /* a posting is slot << 8 | frequency in 32 bits */
    MF_POSTINGS_TF_MAX = 255,
};

typedef struct mf_posting_list mf_posting_list;

typedef struct mf_postings {
    mf_posting_list *table; /* owned; open addressing, a power of two or 0 */
    size_t table_size;
    size_t term_count;
    uint32_t *lengths; /* owned; [slot]: all terms of the document, repeated ones too */
    size_t slots_max;  /* room in `lengths` */
    size_t doc_count;
    uint64_t length_sum; /* over all documents */
    size_t list_bytes;   /* held by lists outside the table */
} mf_postings;

typedef struct mf_bm25 {
    double k1, b;
} mf_bm25;

/* Sorts `hashes` and packs them in place; returns how many remain. */
size_t mf_terms_pack(uint64_t *hashes, size_t count);

/* An mf_postings of all zeros is empty. */
void mf_postings_done(mf_postings *p);

/* Adds a document with the packed `terms`.  `slot` holds none yet and is below
 * MF_POSTINGS_SLOTS_MAX.  MF_E_NOMEM leaves everything as it was. */
MF_CHECKED mf_rc mf_postings_add(mf_postings *p, uint32_t slot, const uint64_t *terms,
                                 size_t count, uint32_t length, mf_err *err);
/* Takes out what mf_postings_add put in, given the same terms and length. */
void mf_postings_remove(mf_postings *p, uint32_t slot, const uint64_t *terms,
                        size_t count, uint32_t length);

/* Adds the BM25 score of each document to scores[slot]; a query term counts as often as
 * its packed frequency says.  Returns what a perfect document could reach, the sum of
 * idf * (k1 + 1) over the query's terms; 0 for a query without terms. */
double mf_postings_score(const mf_postings *p, const uint64_t *terms, size_t count,
                         mf_bm25 bm25, float *scores);

/* Sets scores[slot] to the same value for the `slot_count` documents in `slots` alone,
 * each named once; other places of `scores` are left as they are. */
double mf_postings_score_some(const mf_postings *p, const uint64_t *terms, size_t count,
                              mf_bm25 bm25, const uint32_t *slots, size_t slot_count,
                              float *scores);

size_t mf_postings_frequency(const mf_postings *p,
                             uint64_t term); /* documents with it */
size_t mf_postings_bytes(const mf_postings *p);

#endif
