/* lists.h - the list a message belongs to, as the store has it, and who depends on it.
 *
 * Strategies other than turn cut chunks from a whole list, and contextual ones look at
 * the lists before it, so a message's vectors depend on more than its own text.  Both
 * directions are here: from a message to the texts its vectors are made of, and from a
 * message that changes to those whose vectors no longer hold.
 *
 * The messages of a list share a round id and follow each other in their session.  A
 * list longer than MF_CHUNK_LIST_BYTES_MAX is taken as lists of one message each. */
#ifndef MF_SERVICE_LISTS_H
#define MF_SERVICE_LISTS_H

#include "memory/chunk_strategy.h"
#include "store/store.h"

/* In arena memory. */
typedef struct mf_list {
    const mf_message_row *rows; /* by num; [count] */
    size_t count;
    const mf_message_row *earlier; /* what was said before, as far as the rules look */
    size_t earlier_count;
    bool cut; /* the rest is there */
    mf_chunk_list chunks;
    const mf_str *before; /* the last chunks of `earlier`, the newest last */
    size_t before_count;
} mf_list;

/* Reads the list of `row` and as many before it as the rules look at. */
MF_CHECKED mf_rc mf_list_read(mf_conn *conn, mf_uuid user_id, const mf_message_row *row,
                              const mf_chunk_rules *rules, mf_arena *arena,
                              mf_list *out, mf_err *err);
/* The place of the message in the list, or `count` when it is not there. */
size_t mf_list_find(const mf_list *list, int64_t num);
/* Cuts it into chunks, and for an encoder (`wp` not NULL) into windows.  Once is
 * enough. */
MF_CHECKED mf_rc mf_list_cut(mf_list *list, const mf_chunk_rules *rules,
                             const mf_model_tokenizer *wp, size_t window,
                             mf_arena *arena, mf_err *err);

/* How many of `rows`, which follow each other in a session, form the list that begins
 * with the first; at least 1. */
size_t mf_list_length(const mf_message_row *rows, size_t count);

/* Raises the revision of every message whose vectors depend on one of `rows`, which are
 * about to be changed or deleted, and drops their chunks.  *nums [*count] are the
 * caller's to free (mf_free), NULL when there are none.  On the writer, in its
 * transaction. */
MF_CHECKED mf_rc mf_lists_touch(mf_conn *conn, mf_uuid user_id,
                                const mf_message_row *rows, size_t row_count,
                                const mf_chunk_rules *rules, int64_t **nums,
                                size_t *count, mf_err *err);

#endif
