/* query_buffer.h - answers to questions asked before, per user.
 *
 * Two ways to be spared a search:
 *
 *   the same question   Its answer is given again, also when fewer results are wanted
 *                       than were found.
 *   a near duplicate    A question of the same words (function words, order, case and
 *                       endings aside) whose vector is close has the same best
 *                       documents, in a slightly different order.  What is kept is the
 *                       list of these candidates, longer than any answer, for the index
 *                       to score for the new question.
 *
 * An answer is kept as what is needed to give it again (which documents, which scores),
 * never as text, and belongs to the version of the user's data it was made from.  Every
 * write raises that version, so an answer from before it is simply not found: nothing
 * has to be told to forget.
 *
 * Thread-safe. */
#ifndef MF_BUFFER_QUERY_BUFFER_H
#define MF_BUFFER_QUERY_BUFFER_H

#include "base/arena.h"
#include "base/cache_manager.h"
#include "index/user_index.h"

typedef struct mf_query_buffer mf_query_buffer;

enum {
    /* Candidates per result: of the ten best for a near duplicate, .9999 were among the
     * 40 best for the first question (docs/query-buffer.md). */
    MF_QUERY_CANDIDATES = 4,
    MF_QUERY_CANDIDATES_MAX = MF_INDEX_RESCORE_MAX,
};

/* Everything that shapes an answer but the data and the number of results. */
typedef struct mf_query_key {
    mf_str text;
    mf_uuid user_id, session_id, agent_id;
    mf_index_path path;
    bool messages, knowledge;
    uint64_t settings; /* a fingerprint: other weights, other answers */
} mf_query_key;

/* Keeps `answers_max` answers, and as many lists of candidates, for `ttl_ms` within the
 * budget of `caches` (NULL: none). */
MF_CHECKED mf_rc mf_query_buffer_open(size_t answers_max, int64_t ttl_ms,
                                      mf_cache_manager *caches, mf_query_buffer **out,
                                      mf_err *err);
void mf_query_buffer_close(mf_query_buffer *buffer); /* NULL is fine */

/* Memory of the caches and all they hold. */
size_t mf_query_buffer_bytes(mf_query_buffer *buffer);

/* true: *hits (in arena memory) and *count <= hits_max are the best documents, made at
 * this very version.  false also when memory is short. */
bool mf_query_buffer_get(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, size_t hits_max, mf_arena *arena,
                         mf_index_hit **hits, size_t *count);
/* Given for `asked`: there are no more. */
#define MF_QUERY_ALL UINT64_MAX

/* `hits` are the best `asked`.  Copies.  Not being able to keep an
 * answer is not an error. */
void mf_query_buffer_put(mf_query_buffer *buffer, const mf_query_key *key,
                         uint64_t version, const mf_index_hit *hits, size_t count,
                         uint64_t asked);

/* A question as near duplicates are recognised: `words` of mf_index_words_key and the
 * vector [dim]. */
typedef struct mf_question {
    uint64_t words;
    const float *vector;
    size_t dim;
} mf_question;

/* true: *keys (in arena memory), at least hits_max * MF_QUERY_CANDIDATES unless there
 * are no more, are the candidates of a question of the same words, filters and version
 * whose cosine with this one is at least `threshold`.  The text of `key` is not looked
 * at. */
bool mf_query_buffer_get_like(mf_query_buffer *buffer, const mf_query_key *key,
                              const mf_question *question, double threshold,
                              uint64_t version, size_t hits_max, mf_arena *arena,
                              mf_index_key **keys, size_t *count);
/* `hits` are the best `asked` documents, at most MF_QUERY_CANDIDATES_MAX.  Copies. */
void mf_query_buffer_put_like(mf_query_buffer *buffer, const mf_query_key *key,
                              const mf_question *question, uint64_t version,
                              const mf_index_hit *hits, size_t count, uint64_t asked);

/* How a question was answered, for the statistics. */
typedef enum mf_answer_source {
    MF_ANSWER_SEARCHED,
    MF_ANSWER_CACHED, /* the same question */
    MF_ANSWER_SIMILAR /* a near duplicate, scored again */
} mf_answer_source;

void mf_query_buffer_count(mf_query_buffer *buffer, mf_answer_source source);

typedef struct mf_query_buffer_stats {
    uint64_t cache_hits, similar_hits, cache_misses; /* they add up to the questions */
    uint64_t evictions, expirations;                 /* of answers and candidates */
    size_t answers, candidates; /* kept now: answers, lists of candidates */
    size_t bytes;               /* held by them */
} mf_query_buffer_stats;

void mf_query_buffer_get_stats(mf_query_buffer *buffer, mf_query_buffer_stats *out);

#endif
