/* user_index.h - everything searchable of one user, in memory: postings and vectors.
 *
 * A document is a message or a knowledge item, named by (kind, num).  Its words are
 * searchable as soon as it is added; its vectors come later (they cost a model run) and
 * until then it is found by words alone.  Nothing here is durable: the store rebuilds
 * it.
 *
 * Adding is split so that the costly half (words, stems) runs outside the owner's lock:
 * mf_index_doc_prepare makes a prepared document, mf_index_add moves it in.
 *
 * Threads: callers lock.  Functions taking a const index may run side by side. */
#ifndef MF_INDEX_USER_INDEX_H
#define MF_INDEX_USER_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/uuid.h"

typedef struct mf_index mf_index;
typedef struct mf_index_doc mf_index_doc; /* prepared, not yet in an index */

typedef struct mf_index_key {
    uint8_t kind; /* an mf_doc_kind of the store: 0 message, 1 knowledge */
    int64_t num;
} mf_index_key;

/* What a search needs to know of a document without reading its text. */
typedef struct mf_index_facts {
    mf_index_key key;
    mf_uuid session_id; /* none for knowledge */
    mf_uuid agent_id;   /* owner of the session; none for knowledge */
    int64_t created_us;
} mf_index_facts;

MF_CHECKED mf_rc mf_index_open(size_t dim, mf_index **out, mf_err *err);
void mf_index_close(mf_index *index);

/* `words` is the text to be found by words: content plus anything else worth matching,
 * such as the speaker's role.  The day, month and year of facts->created_us (UTC) are
 * added to it, unless that is 0, so that "in May 2023" finds what was said then.
 * MF_E_NOMEM. */
MF_CHECKED mf_rc mf_index_doc_prepare(const mf_index_facts *facts, mf_str words,
                                      mf_index_doc **out, mf_err *err);
void mf_index_doc_free(mf_index_doc *doc); /* one that was not added; NULL is fine */

/* Takes `doc` in any case.  A key already present is replaced, its vectors dropped.
 * MF_E_NOMEM and MF_E_LIMIT (2^24 documents) leave the index as it was. */
MF_CHECKED mf_rc mf_index_add(mf_index *index, mf_index_doc *doc, mf_err *err);
/* `part_count` vectors, row-major [part_count, dim], unit length.  Replaces what the
 * document had.  MF_E_NOTFOUND when it is not here; MF_E_INVAL for no vectors or a
 * value that is not finite; MF_E_NOMEM.  After an error the document has what it
 * had. */
MF_CHECKED mf_rc mf_index_set_vectors(mf_index *index, mf_index_key key,
                                      const float *vectors, size_t part_count,
                                      mf_err *err);
/* Takes the document's vectors away, so that it waits for new ones; one that is not
 * here is fine. */
void mf_index_drop_vectors(mf_index *index, mf_index_key key);
bool mf_index_remove(mf_index *index, mf_index_key key); /* true if it was here */
/* Removes every document of the session; returns how many. */
size_t mf_index_remove_session(mf_index *index, mf_uuid session_id);

bool mf_index_has(const mf_index *index, mf_index_key key);
size_t mf_index_count(const mf_index *index); /* documents */
size_t mf_index_vector_count(const mf_index *index);
size_t mf_index_bytes(const mf_index *index); /* memory held, as accounted */

/* Documents without vectors, those added first before others, up to `keys_max`; returns
 * how many. */
size_t mf_index_pending(const mf_index *index, mf_index_key *keys, size_t keys_max);
size_t mf_index_pending_count(const mf_index *index);

/* --- search ---------------------------------------------------------------------- */

/* What counts for the score.  Neighbours and session do on every path. */
typedef enum mf_index_path {
    MF_PATH_BLEND,
    MF_PATH_VECTOR,
    MF_PATH_KEYWORD
} mf_index_path;

typedef struct mf_index_query {
    mf_str text;         /* for words; one said twice weighs twice */
    const float *vector; /* [dim], unit length; NULL: words only */
    mf_index_path path;
    bool messages, knowledge; /* kinds wanted */
    mf_uuid agent_id;         /* none: every agent */
    mf_uuid session_also;     /* with agent_id: this session counts whoever owns it */
    size_t hits_max;
} mf_index_query;

typedef struct mf_index_weights {
    double vector;      /* of the calibrated cosine */
    double keyword;     /* of the calibrated BM25 */
    double neighbour;   /* share of each neighbour's score within +-neighbour_span */
    int neighbour_span; /* turns to each side in the same session, 0..100 */
    double session;     /* share of the best score of the document's session */
    double bm25_k1, bm25_b;
} mf_index_weights;

mf_index_weights mf_index_weights_default(void);

typedef struct mf_index_hit {
    mf_index_facts facts;
    float score;      /* 0..1, higher is better */
    float similarity; /* cosine of the best part; 0 without vectors */
    float keyword;    /* calibrated BM25 part, 0..1 */
} mf_index_hit;

/* The best documents, by score falling, ties newest (largest num) first; every document
 * of the population may come back, however low its score, until hits_max is reached.
 * Scores depend only on the query and this index.  Returns the count in *count.
 * MF_E_INVAL for a query vector with a value that is not finite; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_index_search(const mf_index *index, const mf_index_query *query,
                                 const mf_index_weights *weights, mf_index_hit *hits,
                                 size_t *count, mf_err *err);

enum {
    MF_INDEX_RESCORE_MAX = 256, /* keys in one call */
    /* A document looked up costs as much as this many scanned in order; measured. */
    MF_INDEX_RESCORE_COST = 8,
    /* Below this population a search is always the cheaper one. */
    MF_INDEX_RESCORE_POPULATION = 1024 * MF_INDEX_RESCORE_COST,
};

/* Searches among the documents `keys` alone: those still here and of the population,
 * best first, with the very scores that mf_index_search gives them.  What it costs are
 * their sessions and a sample for the mean, however large the population is.
 * *cheaper is false, and *count 0, when searching everything costs less.  Errors as
 * above. */
MF_CHECKED mf_rc mf_index_rescore(const mf_index *index, const mf_index_query *query,
                                  const mf_index_weights *weights,
                                  const mf_index_key *keys, size_t key_count,
                                  mf_index_hit *hits, size_t *count, bool *cheaper,
                                  mf_err *err);

/* Two texts have the same key when they are the same words to a search: case, order,
 * punctuation, endings and function words aside.  (Others share one by chance, one pair
 * in 2^64.)  MF_E_NOMEM. */
MF_CHECKED mf_rc mf_index_words_key(mf_str text, uint64_t *key, mf_err *err);

#endif
