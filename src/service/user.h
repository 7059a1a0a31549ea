/* user.h - one active user: index, buffers, query cache (tier 2).
 *
 * A mf_user is counted.  The registry holds one reference, each request, each write
 * under way and each piece of queued work one more; nothing in it is the only copy of
 * anything, so it can leave as soon as only the registry holds it, and is built again
 * from the store when somebody needs it.
 *
 * Changes.  What a committed write means for the index travels as a mf_change: the
 * writer thread only links it into a queue, and whoever needs the index next (a query
 * or an embedding worker) applies the queue first.  So a commit never waits for a
 * search, and changes are applied in the order of their commits, also those that arrive
 * while the index is being loaded.
 *
 * Every function is safe from any thread unless it names one. */
#ifndef MF_SERVICE_USER_H
#define MF_SERVICE_USER_H

#include <stdatomic.h>

#include "buffer/query_buffer.h"
#include "buffer/round_window.h"
#include "buffer/write_buffer.h"
#include "service/service.h"
#include "service/user_settings.h"

typedef struct mf_user mf_user;

/* What users that left have counted (a user adds its own figures as it goes), and what
 * those alive hold. */
enum { MF_WRITE_COUNT_WORDS = sizeof(mf_write_counts) / sizeof(uint64_t) };

typedef struct mf_user_totals {
    atomic_ullong counts[MF_WRITE_COUNT_WORDS]; /* an mf_write_counts, word by word */
    atomic_ullong answers_evicted, answers_expired;
    atomic_size_t instances, instances_peak; /* mf_user that are alive */
    atomic_size_t bytes, bytes_peak;         /* of all of them */
} mf_user_totals;

void mf_user_totals_read(mf_user_totals *totals, mf_write_counts *out);

/* `parts` and `totals` outlive the user.  Takes `own` (NULL: none) in any case. */
MF_CHECKED mf_rc mf_user_new(const mf_service_parts *parts, mf_user_totals *totals,
                             mf_uuid id, mf_user_overrides *own, mf_user **out,
                             mf_err *err);
mf_user *mf_user_ref(mf_user *user);
void mf_user_unref(mf_user *user); /* NULL is fine */
mf_uuid mf_user_id(const mf_user *user);

/* The user was deleted: background work on it stops.  For good. */
void mf_user_set_gone(mf_user *user);
bool mf_user_is_gone(const mf_user *user);

/* --- settings --- */

/* The settings as they are for this user, until released. */
typedef struct mf_user_config {
    const mf_config *config;
    mf_user_overrides *held; /* NULL: they are everybody's */
} mf_user_config;

mf_user_config mf_user_config_hold(mf_user *user);
void mf_user_config_release(mf_user_config *config);
/* Takes `own` (NULL: none) in the place of what the user had. */
void mf_user_set_overrides(mf_user *user, mf_user_overrides *own);

/* --- writes --------------------------------------------------------------------------
 * A write calls, on the writer thread: mf_user_write_begin first in its run, then
 * mf_user_note_backlog last in its run if it leaves something to embed; mf_user_change
 * and mf_user_write_end in its done. */

typedef enum mf_change_kind {
    MF_CHANGE_ADD,           /* new documents */
    MF_CHANGE_REPLACE,       /* new texts of old ones */
    MF_CHANGE_REMOVE,        /* only docs[i].facts.key counts */
    MF_CHANGE_REMOVE_SESSION /* all of session_id */
} mf_change_kind;

typedef struct mf_change_doc {
    mf_index_facts facts;
    mf_str text; /* empty: such a document is not in the index */
} mf_change_doc;

typedef struct mf_change {
    mf_change_kind kind;
    mf_uuid session_id;
    const mf_change_doc *docs;
    size_t count;
    const int64_t *touched; /* messages whose vectors no longer hold */
    size_t touched_count;
    size_t bytes;                              /* that waiting in the queue costs */
    void (*release)(struct mf_change *change); /* frees it with what it points to */
    struct mf_change *next;
} mf_change;

uint64_t mf_user_write_begin(mf_user *user);
/* Notes in the store, once, that the user owes embedding.  Nothing without a model. */
MF_CHECKED mf_rc mf_user_note_backlog(mf_user *user, mf_conn *conn, mf_err *err);
/* Takes the change in any case. */
void mf_user_change(mf_user *user, mf_change *change);
void mf_user_write_end(mf_user *user, uint64_t number, mf_rc rc);
/* Applies the changes when very many wait, so that a user who only writes keeps no long
 * queue.  For threads that have time: not the writer's. */
void mf_user_keep_up(mf_user *user);

/* Sessions have recent windows: neither bypass nor the strategy `immediate`. */
bool mf_user_has_windows(mf_user *user);
/* Committed rounds enter the write buffer, in this order; they are reordered. */
void mf_user_add_rounds(mf_user *user, mf_write_round *rounds, size_t count,
                        mf_write_outcome *out);
/* In a write's run, before it stores a round of `session_id`: closes the window of the
 * session the user wrote to before, if the settings say so.  *closed is that session,
 * or none; after the commit, mf_user_window_closed is told. */
MF_CHECKED mf_rc mf_user_change_session(mf_user *user, mf_conn *conn,
                                        mf_uuid session_id, mf_uuid *closed,
                                        mf_err *err);
/* On the writer thread: the store has closed a window (none: all of the user's).  How
 * many rounds left those in memory. */
size_t mf_user_window_closed(mf_user *user, mf_uuid session_id,
                             mf_transfer_cause cause);
/* A session was edited: its window is computed anew when next asked for. */
void mf_user_forget_window(mf_user *user, mf_uuid session_id);
/* A session made just now has an empty window. */
void mf_user_new_window(mf_user *user, mf_uuid session_id);

/* --- reads --- */

/* The session's recent window, from memory or else from the store.  With the buffer
 * switched off it is always empty. */
MF_CHECKED mf_rc mf_user_window(mf_user *user, mf_uuid session_id, int64_t deadline_ns,
                                mf_round_window *out, mf_err *err);

/* Raised by every write, and by vectors that arrive. */
uint64_t mf_user_version(const mf_user *user);
/* The user's query cache; NULL when it is switched off or memory is short. */
mf_query_buffer *mf_user_answers(mf_user *user);

/* Loads the index if it is not there (requests that need it share one load) and applies
 * the changes that wait.  MF_E_TIMEOUT, or the store's errors. */
MF_CHECKED mf_rc mf_user_ready(mf_user *user, int64_t deadline_ns, mf_err *err);
/* As mf_index_search, on an index that has everything committed so far.  A few short
 * documents still without vectors are embedded first, so that what was said a moment
 * ago is found by meaning.  Every write up to *version is in the answer. */
MF_CHECKED mf_rc mf_user_search(mf_user *user, const mf_index_query *query,
                                const mf_index_weights *weights, int64_t deadline_ns,
                                mf_index_hit *hits, size_t *count, uint64_t *version,
                                mf_err *err);
/* As mf_index_rescore, on the index as it is: for `keys` found at a version that still
 * is the user's.  *done is false, and nothing else happens, when a search is cheaper or
 * the index has to be loaded first. */
MF_CHECKED mf_rc mf_user_rescore(mf_user *user, const mf_index_query *query,
                                 const mf_index_weights *weights,
                                 const mf_index_key *keys, size_t key_count,
                                 mf_index_hit *hits, size_t *count, bool *done,
                                 mf_err *err);
/* Documents of the index as last changed. */
size_t mf_user_documents(const mf_user *user);
/* Keys of the messages that have no vector, rising, in arena memory.  Everything when
 * there is no model. */
MF_CHECKED mf_rc mf_user_pending(mf_user *user, int64_t deadline_ns, mf_arena *arena,
                                 mf_index_key **keys, size_t *count, mf_err *err);
/* Bytes the user holds: index, buffers, query cache, changes that wait, and itself.  As
 * last accounted. */
size_t mf_user_bytes(const mf_user *user);
/* Adds them up again; by whoever changed the buffers or the cache. */
void mf_user_account(mf_user *user);
/* Something waits to be embedded or committed. */
bool mf_user_owes(mf_user *user);
/* Still in the write buffers: in its session's window, or its vector not committed. */
bool mf_user_holds(mf_user *user, const mf_index_facts *facts);

/* Does the user have sessions?  -1 unknown, 0, 1.  Writes set it (a deletion to
 * unknown); what somebody read from the store counts only where nothing is known. */
int mf_user_has_sessions(const mf_user *user);
void mf_user_set_has_sessions(mf_user *user, int has);
void mf_user_learn_has_sessions(mf_user *user, bool has);

/* --- background work: one worker at a time --- */

typedef struct mf_work_result {
    int64_t due_ns;    /* when to come back: INT64_MIN at once, INT64_MAX never */
    unsigned failures; /* in a row; not 0: it failed, come back after a wait */
} mf_work_result;

/* Embeds one slice of what is pending and commits vectors that are due, or all there
 * are for the reason `forced`.  Gives up when `*stop` is set and the embedder was told
 * (mf_embedder_cancel). */
mf_work_result mf_user_work(mf_user *user, mf_flush_trigger forced,
                            const atomic_bool *stop);
/* Commits the vectors in memory; drops the backlog note when nothing is owed.
 * MF_E_TIMEOUT when the store has not answered by then: the commit goes on, and who
 * comes next waits for its outcome first. */
MF_CHECKED mf_rc mf_user_commit(mf_user *user, mf_flush_trigger trigger,
                                int64_t deadline_ns, mf_err *err);

/* Windows that time or idleness empties.  Begin looks whether any is due and hands
 * their closing to the writer; false when there is nothing to do.  End waits, and frees
 * the work in any case. */
typedef struct mf_window_work mf_window_work;
bool mf_user_windows_due(mf_user *user, int64_t now_ns);
bool mf_user_windows_begin(mf_user *user, int64_t now_ns, mf_window_work **out);
MF_CHECKED mf_rc mf_user_windows_end(mf_window_work *work, mf_err *err);
/* The backlog names this user: known from the store at start. */
void mf_user_set_noted(mf_user *user);

typedef struct mf_user_stats {
    size_t documents, vectors, bytes, pending; /* of the index as last changed */
    size_t buffer_bytes; /* of the write buffers and the cached answers */
    mf_write_buffer_stats buffers;
    mf_query_buffer_stats queries; /* all zero while nobody has asked */
} mf_user_stats;
void mf_user_get_stats(mf_user *user, mf_user_stats *out);

#endif
