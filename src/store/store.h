/* store.h - what every storage backend does.
 *
 * A backend is one mf_store_ops table; the contract is written here once and checked by
 * one suite (contract_test.c) that every backend passes.  Backends: sqlite/ (default),
 * memory/ (tests), and two wrappers that implement the same table around another store:
 * trace.c (counts and logs calls) and faulty.c (makes chosen calls fail).
 *
 * Connections.  A store has one writer connection and any number of readers; a
 * connection serves one thread at a time.  Reads on the writer see its open
 * transaction; a reader sees the newest committed state at the start of each call, and
 * one fixed state between read_begin and read_end.
 *
 * Keys.  All data of a user is reached only with that user's id, as the first part of
 * the key; the two directory look-ups (a name or a session id to its owner) are the
 * only exceptions.  Messages and knowledge also carry `num`, a number the store gives
 * in order of insertion, never given twice; order within a session is the order of
 * `num`.
 *
 * Text handed in is borrowed for the call; rows handed out live in the caller's arena,
 * rows passed to a callback only for the call.  Handles and rows are written on success
 * only.  Times are microseconds since 1970 UTC and are given by the caller.
 *
 * Changes are made between begin and commit, on the writer; asking for one elsewhere is
 * a bug.  One that fails may have done a part of its work: the caller undoes to a
 * savepoint taken before it, or rolls back.  Some failures (a full disk, an I/O error)
 * take the whole transaction with them; then every further call up to and including the
 * commit fails with the same code.
 *
 * Errors every call may give: MF_E_IO, MF_E_FULL (disk), MF_E_CORRUPT, MF_E_NOMEM (also
 * an arena over its cap), MF_E_BUSY (a lock held too long by another process). */
#ifndef MF_STORE_STORE_H
#define MF_STORE_STORE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/content_key.h"
#include "base/err.h"
#include "base/str.h"
#include "base/uuid.h"

typedef struct mf_store mf_store;
typedef struct mf_conn mf_conn;

typedef enum mf_role { MF_ROLE_USER, MF_ROLE_ASSISTANT, MF_ROLE_SYSTEM } mf_role;
typedef enum mf_doc_kind { MF_DOC_MESSAGE = 0, MF_DOC_KNOWLEDGE = 1 } mf_doc_kind;

/* A user or an agent: both are a name with a description. */
typedef struct mf_named_row {
    mf_uuid id;
    mf_str name;
    mf_str description; /* .p NULL: none */
    int64_t created_us, updated_us;
} mf_named_row;

typedef struct mf_session_row {
    mf_uuid id, user_id, agent_id;
    mf_str name;
    int64_t created_us, updated_us;
} mf_session_row;

typedef struct mf_message_row {
    int64_t num; /* given by the store at insert */
    mf_uuid id, user_id, session_id;
    mf_uuid round_id; /* the messages of one add share it */
    mf_role role;
    mf_str content;
    mf_str metadata; /* JSON object text; .p NULL: none was sent */
    int64_t created_us, updated_us;
    int64_t revision; /* 0 at insert; raised by message_touch */
} mf_message_row;

typedef struct mf_knowledge_row {
    int64_t num;
    mf_uuid id, user_id;
    mf_str content;
    int64_t created_us, updated_us;
} mf_knowledge_row;

typedef struct mf_api_key_row {
    mf_uuid id, user_id;
    mf_str name;        /* .p NULL: none */
    uint8_t hash[32];   /* of the secret; the secret itself is never stored */
    mf_str permissions; /* JSON text; .p NULL: none */
    int64_t created_us;
    int64_t expires_us; /* 0: never */
} mf_api_key_row;

/* A setting in which a user differs from everybody else. */
typedef struct mf_user_setting_row {
    mf_str key, value; /* as in a settings file; the store does not judge them */
    int64_t updated_us;
} mf_user_setting_row;

/* One vector of one document.  A text longer than the model's window has several
 * parts. */
typedef struct mf_chunk_row {
    mf_doc_kind kind;
    int64_t num;              /* of the message or knowledge item */
    int32_t part, part_count; /* 0-based */
    int64_t doc_updated_us;   /* updated_us of the text the vector was made from */
    int64_t doc_revision;   /* and its revision; 0 for knowledge; only for chunk_put */
    mf_str model;           /* what made it: the encoder and how texts are cut */
    const uint16_t *vector; /* fp16 bit patterns, `dim` of them, native byte order */
    size_t dim;
    mf_content_key content; /* of the part's text, or none; only for chunk_put */
} mf_chunk_row;

/* --- background jobs: work that is owed, noted in the transaction that causes it ---
 */

enum {
    MF_JOB_KIND_MAX = 31,       /* bytes of a kind's name, at least 1 */
    MF_JOB_KEY_MAX = 128,       /* bytes of a key */
    MF_JOB_PAYLOAD_MAX = 16384, /* bytes of a payload */
    MF_JOB_ERROR_MAX = 240,     /* bytes kept of a failure's text; the rest is cut */
    MF_JOB_PRIORITY_MAX = 4,    /* 0 is the lowest */
    MF_JOB_PRIORITY_NORMAL = 2,
    MF_JOB_LOST_MAX = 5,        /* leases lost before a job is dead */
    MF_JOB_CLAIM_KINDS_MAX = 32 /* kinds of one claim */
};

typedef enum mf_job_state {
    MF_JOB_OPEN,    /* waits for its time, or for an older one of its lane */
    MF_JOB_RUNNING, /* claimed */
    MF_JOB_DEAD     /* given up; stays until it is retried or dropped */
} mf_job_state;

/* The jobs of one user and kind are a lane: they run one at a time, oldest (by `num`)
 * first, so that what depends on order keeps it; a dead one lets the next pass. */
typedef struct mf_job_row {
    mf_uuid id;
    mf_uuid user_id; /* none: the store's own */
    int64_t num;     /* order of insertion; given by the store */
    mf_str kind;
    mf_str key;     /* .p NULL: none; see job_put */
    mf_str payload; /* what the handler needs to know; JSON by custom */
    mf_str error;   /* of the last failure; .p NULL: none yet */
    mf_job_state state;
    int32_t priority;
    int32_t runs;     /* times it was claimed; names one claim */
    int32_t failures; /* runs that ended with a failure, since it was put or retried */
    int32_t lost;     /* runs of which nobody heard again */
    int64_t created_us, due_us;
    int64_t lease_us; /* running: until then it is the claimer's */
} mf_job_row;

typedef struct mf_job_claim {
    const mf_str *kinds; /* only these; at most MF_JOB_CLAIM_KINDS_MAX */
    size_t kind_count;
    int64_t now_us, lease_us; /* both absolute */
    size_t count_max;
} mf_job_claim;

/* How a claim ended without being done. */
typedef struct mf_job_return {
    int64_t due_us; /* when it may be claimed again */
    bool failed;    /* counts as a failure; else it was only put back */
    bool dead;
    mf_str error; /* .p NULL: keeps the one there was */
} mf_job_return;

typedef struct mf_job_filter {
    mf_uuid user_id; /* none: everybody's */
    mf_str kind;     /* .p NULL: any */
    unsigned states; /* bits 1 << mf_job_state; 0: any */
    int64_t num_to;  /* inclusive; INT64_MAX for all */
    size_t limit;
} mf_job_filter;

typedef struct mf_job_counts {
    mf_str kind;
    uint64_t open, running, dead;
    int64_t oldest_due_us; /* of those that could be next in their lanes; INT64_MAX:
                              none */
} mf_job_counts;

/* Which messages of a session to list. */
typedef struct mf_message_range {
    int64_t num_from, num_to; /* inclusive; 0 and INT64_MAX for all */
    bool by_id;               /* sort by id text instead of num */
    bool descending;
    size_t limit;
} mf_message_range;

typedef struct mf_store_counts {
    uint64_t users, agents, sessions, messages, knowledge, chunks;
    uint64_t bytes; /* on disk, 0 for the memory backend */
} mf_store_counts;

/* Which texts are cold, and how many of them one call takes. */
typedef struct mf_text_limits {
    int64_t newest_kept;    /* messages of the store that stay as they are */
    int64_t made_before_us; /* younger ones stay too; by the time in their ids */
    size_t bytes_max;       /* of text in one call, of which one message may be more */
} mf_text_limits;

typedef struct mf_text_slice {
    uint64_t messages, packed;          /* looked at; of them now compressed */
    uint64_t bytes_before, bytes_after; /* of those packed */
    bool more;                          /* there are cold ones left */
} mf_text_slice;

typedef mf_rc (*mf_message_fn)(void *ctx, const mf_message_row *row, mf_err *err);
typedef mf_rc (*mf_knowledge_fn)(void *ctx, const mf_knowledge_row *row, mf_err *err);
typedef mf_rc (*mf_chunk_fn)(void *ctx, const mf_chunk_row *row, mf_err *err);

typedef struct mf_store_ops {
    const char *name;

    void (*close)(mf_store *store); /* every connection must be closed before */
    MF_CHECKED mf_rc (*conn_open)(mf_store *store, bool writer, mf_conn **out,
                                  mf_err *err);
    void (*conn_close)(mf_conn *conn);

    /* Writer: one transaction at a time, with nested undo points.  After a failed
     * commit the transaction is gone; if the failure was a flush (MF_E_IO) every later
     * begin fails with MF_E_IO until the store is opened again, because what the disk
     * holds is unknown. */
    MF_CHECKED mf_rc (*begin)(mf_conn *conn, mf_err *err);
    MF_CHECKED mf_rc (*commit)(mf_conn *conn,
                               mf_err *err); /* MF_OK: it survives a power cut */
    void (*rollback)(mf_conn *conn);
    MF_CHECKED mf_rc (*savepoint)(mf_conn *conn, mf_err *err);
    MF_CHECKED mf_rc (*savepoint_keep)(mf_conn *conn, mf_err *err);
    void (*savepoint_undo)(mf_conn *conn);

    /* Reader: fixes one state over several calls. */
    MF_CHECKED mf_rc (*read_begin)(mf_conn *conn, mf_err *err);
    void (*read_end)(mf_conn *conn);

    /* Users.  MF_E_EXISTS for a name taken, MF_E_NOTFOUND for an id or name unknown. */
    MF_CHECKED mf_rc (*user_insert)(mf_conn *, const mf_named_row *row, mf_err *err);
    MF_CHECKED mf_rc (*user_get)(mf_conn *, mf_uuid id, mf_arena *, mf_named_row *out,
                                 mf_err *);
    MF_CHECKED mf_rc (*user_find)(mf_conn *, mf_str name, mf_arena *, mf_named_row *out,
                                  mf_err *);
    MF_CHECKED mf_rc (*user_list)(mf_conn *, mf_arena *, mf_named_row **rows,
                                  size_t *count, mf_err *err); /* oldest first */
    MF_CHECKED mf_rc (*user_update)(mf_conn *, const mf_named_row *row, mf_err *err);
    /* Removes the user and everything of it: sessions, messages, knowledge, chunks,
     * keys, idempotency records, windows, backlog, jobs, settings. */
    MF_CHECKED mf_rc (*user_delete)(mf_conn *, mf_uuid id, mf_err *err);

    /* Agents, the same way; they belong to nobody.  Delete removes their sessions with
     * all that is in them. */
    MF_CHECKED mf_rc (*agent_insert)(mf_conn *, const mf_named_row *row, mf_err *err);
    MF_CHECKED mf_rc (*agent_get)(mf_conn *, mf_uuid id, mf_arena *, mf_named_row *out,
                                  mf_err *);
    MF_CHECKED mf_rc (*agent_find)(mf_conn *, mf_str name, mf_arena *,
                                   mf_named_row *out, mf_err *);
    MF_CHECKED mf_rc (*agent_list)(mf_conn *, mf_arena *, mf_named_row **rows,
                                   size_t *count, mf_err *err);
    MF_CHECKED mf_rc (*agent_update)(mf_conn *, const mf_named_row *row, mf_err *err);
    MF_CHECKED mf_rc (*agent_delete)(mf_conn *, mf_uuid id, mf_err *err);

    /* Sessions.  MF_E_EXISTS for a name this user has already; MF_E_NOTFOUND when the
     * user or agent of an insert is unknown, err->field then "user_id" or
     * "agent_id". */
    MF_CHECKED mf_rc (*session_insert)(mf_conn *, const mf_session_row *row,
                                       mf_err *err);
    MF_CHECKED mf_rc (*session_get)(mf_conn *, mf_uuid id, mf_arena *,
                                    mf_session_row *out,
                                    mf_err *err); /* directory: by id alone */
    /* `user_id` none: the oldest session of that name of any user. */
    MF_CHECKED mf_rc (*session_find)(mf_conn *, mf_uuid user_id, mf_str name,
                                     mf_arena *, mf_session_row *out, mf_err *err);
    /* Newest first (creation order, not clock); a none id does not filter. */
    MF_CHECKED mf_rc (*session_list)(mf_conn *, mf_uuid user_id, mf_uuid agent_id,
                                     mf_arena *, mf_session_row **rows, size_t *count,
                                     mf_err *err);
    MF_CHECKED mf_rc (*session_rename)(mf_conn *, mf_uuid user_id, mf_uuid id,
                                       mf_str name, int64_t updated_us, mf_err *err);
    /* Removes it with its messages and their chunks. */
    MF_CHECKED mf_rc (*session_delete)(mf_conn *, mf_uuid user_id, mf_uuid id,
                                       mf_err *err);

    /* Messages.  Insert sets rows[i].num, rising within the call.  MF_E_NOTFOUND when
     * the session is unknown or another user's, MF_E_EXISTS when the user has the
     * id. */
    MF_CHECKED mf_rc (*message_insert)(mf_conn *, mf_message_row *rows, size_t count,
                                       mf_err *);
    MF_CHECKED mf_rc (*message_list)(mf_conn *, mf_uuid user_id, mf_uuid session_id,
                                     const mf_message_range *range, mf_arena *,
                                     mf_message_row **rows, size_t *count, mf_err *err);
    /* rows[i] for ids[i]; one that is missing, or outside `session_id` unless that is
     * none, has num 0. */
    MF_CHECKED mf_rc (*message_get)(mf_conn *, mf_uuid user_id, mf_uuid session_id,
                                    const mf_uuid *ids, size_t count, mf_arena *,
                                    mf_message_row *rows, mf_err *err);
    MF_CHECKED mf_rc (*message_get_by_num)(mf_conn *, mf_uuid user_id,
                                           const int64_t *nums, size_t count,
                                           mf_arena *, mf_message_row *rows,
                                           mf_err *err); /* missing: num 0 */
    /* Sets role, content and updated_us of (user_id, id) and drops its chunks. */
    MF_CHECKED mf_rc (*message_update)(mf_conn *, const mf_message_row *row,
                                       mf_err *err);
    /* Something around these messages has changed that their vectors depend on: raises
     * their revisions and drops their chunks.  Nums the user does not have are passed
     * over. */
    MF_CHECKED mf_rc (*message_touch)(mf_conn *, mf_uuid user_id, const int64_t *nums,
                                      size_t count, mf_err *err);
    /* With their chunks; ids the user does not have are passed over. */
    MF_CHECKED mf_rc (*message_delete)(mf_conn *, mf_uuid user_id, const mf_uuid *ids,
                                       size_t count, mf_err *err);
    /* Every message of a user, rising num, into `each`; stops at its first failure and
     * returns it.  `each` does not change the store and does not scan it again. */
    MF_CHECKED mf_rc (*message_scan)(mf_conn *, mf_uuid user_id, mf_message_fn each,
                                     void *ctx, mf_err *err);

    /* Knowledge, the same way; MF_E_NOTFOUND when the user of an insert is unknown.  A
     * list is in order of num. */
    MF_CHECKED mf_rc (*knowledge_insert)(mf_conn *, mf_knowledge_row *rows,
                                         size_t count, mf_err *);
    MF_CHECKED mf_rc (*knowledge_list)(mf_conn *, mf_uuid user_id, mf_arena *,
                                       mf_knowledge_row **rows, size_t *count,
                                       mf_err *err);
    MF_CHECKED mf_rc (*knowledge_get)(mf_conn *, mf_uuid user_id, const mf_uuid *ids,
                                      size_t count, mf_arena *, mf_knowledge_row *rows,
                                      mf_err *);
    MF_CHECKED mf_rc (*knowledge_get_by_num)(mf_conn *, mf_uuid user_id,
                                             const int64_t *nums, size_t count,
                                             mf_arena *, mf_knowledge_row *rows,
                                             mf_err *err);
    MF_CHECKED mf_rc (*knowledge_update)(mf_conn *, const mf_knowledge_row *row,
                                         mf_err *err);
    MF_CHECKED mf_rc (*knowledge_delete)(mf_conn *, mf_uuid user_id, const mf_uuid *ids,
                                         size_t count, mf_err *err);
    MF_CHECKED mf_rc (*knowledge_scan)(mf_conn *, mf_uuid user_id, mf_knowledge_fn each,
                                       void *ctx, mf_err *err);

    /* Chunks: derived, rebuildable.  A put whose document is gone or was changed since
     * (doc_updated_us or doc_revision differs) stores nothing and succeeds.  The last
     * part takes those behind it away, which an earlier way of cutting left. */
    MF_CHECKED mf_rc (*chunk_put)(mf_conn *, mf_uuid user_id, const mf_chunk_row *row,
                                  mf_err *);
    MF_CHECKED mf_rc (*chunk_scan)(mf_conn *, mf_uuid user_id, mf_chunk_fn each,
                                   void *ctx,
                                   mf_err *err); /* ordered by kind, num, part */

    /* Vectors by the key of their text, whoever's document it is in.  For each of
     * `keys` that a chunk of `dim` numbers carries: row i of `vectors` [count, dim] and
     * found[i] = true; the rest stays as it was.  After a failure both hold anything.
     */
    MF_CHECKED mf_rc (*chunk_find)(mf_conn *, const mf_content_key *keys, size_t count,
                                   size_t dim, uint16_t *vectors, bool *found,
                                   mf_err *err);
    /* The secret of this store's content keys: random, made with the store, the same
     * for ever. */
    MF_CHECKED mf_rc (*content_secret)(mf_conn *, mf_content_key *out, mf_err *err);

    /* Recent windows: everything stored so far of the session (none: of every session
     * of the user) is outside of them for good.  *through receives the highest num
     * given so far; what comes later has a higher one.  MF_E_NOTFOUND when there is no
     * such user, or the user has no such session. */
    MF_CHECKED mf_rc (*window_close)(mf_conn *, mf_uuid user_id, mf_uuid session_id,
                                     int64_t *through, mf_err *err);
    /* The highest num that a close has put outside of the session's window; 0: none. */
    MF_CHECKED mf_rc (*window_closed)(mf_conn *, mf_uuid user_id, mf_uuid session_id,
                                      int64_t *through, mf_err *err);

    /* Users who have documents without vectors: the durable note that embedding is
     * owed. */
    MF_CHECKED mf_rc (*backlog_add)(mf_conn *, mf_uuid user_id,
                                    mf_err *err); /* twice is fine */
    MF_CHECKED mf_rc (*backlog_remove)(mf_conn *, mf_uuid user_id, mf_err *err);
    MF_CHECKED mf_rc (*backlog_list)(mf_conn *, mf_arena *, mf_uuid **ids,
                                     size_t *count, mf_err *);

    /* Idempotency: the reply once given to a keyed request.  get: MF_E_NOTFOUND when
     * new. put: MF_E_EXISTS when the key has a reply, MF_E_NOTFOUND when there is no
     * such user. purge drops those put before `older_than_us`. */
    MF_CHECKED mf_rc (*idempotency_get)(mf_conn *, mf_uuid user_id, mf_str key,
                                        mf_arena *, uint64_t *fingerprint,
                                        mf_str *reply, mf_err *err);
    MF_CHECKED mf_rc (*idempotency_put)(mf_conn *, mf_uuid user_id, mf_str key,
                                        uint64_t fingerprint, mf_str reply,
                                        int64_t now_us, mf_err *err);
    MF_CHECKED mf_rc (*idempotency_purge)(mf_conn *, int64_t older_than_us,
                                          mf_err *err);

    /* A user's own settings.  Put adds or replaces: MF_E_NOTFOUND when there is no such
     * user.  Delete: MF_E_NOTFOUND when the user has no such setting.  Listed by key;
     * an unknown user has none. */
    MF_CHECKED mf_rc (*user_setting_put)(mf_conn *, mf_uuid user_id,
                                         const mf_user_setting_row *row, mf_err *err);
    MF_CHECKED mf_rc (*user_setting_delete)(mf_conn *, mf_uuid user_id, mf_str key,
                                            mf_err *err);
    MF_CHECKED mf_rc (*user_setting_list)(mf_conn *, mf_uuid user_id, mf_arena *,
                                          mf_user_setting_row **rows, size_t *count,
                                          mf_err *err);

    /* API keys, oldest first.  MF_E_NOTFOUND as for sessions. */
    MF_CHECKED mf_rc (*api_key_insert)(mf_conn *, const mf_api_key_row *row,
                                       mf_err *err);
    MF_CHECKED mf_rc (*api_key_get)(mf_conn *, mf_uuid id, mf_arena *,
                                    mf_api_key_row *out,
                                    mf_err *err); /* directory: by id alone */
    MF_CHECKED mf_rc (*api_key_list)(mf_conn *, mf_uuid user_id, mf_arena *,
                                     mf_api_key_row **rows, size_t *count, mf_err *err);
    MF_CHECKED mf_rc (*api_key_delete)(mf_conn *, mf_uuid user_id, mf_uuid id,
                                       mf_err *err);

    /* Jobs.  put uses id, user_id, kind, key, payload, priority, created_us and due_us
     * of `row`; with a key it stores nothing, and says so in *added, when an open job
     * of that user, kind and key waits already (one that runs does not count: it may
     * have begun too early to see what this one is about).  MF_E_LIMIT for a bound
     * above, MF_E_NOTFOUND when there is no such user. */
    MF_CHECKED mf_rc (*job_put)(mf_conn *, const mf_job_row *row, bool *added,
                                mf_err *err);
    /* Claims up to count_max jobs that are due: highest priority first, then longest
     * due, at most one of a lane and none whose lane has one running.  Leases that
     * ended before now_us are lost first, as in job_recover.  A due time more than a
     * day ahead counts as come: only a clock set back can have made it.  *next_due_us:
     * when the next of these kinds may be claimed, INT64_MAX for none. */
    MF_CHECKED mf_rc (*job_claim)(mf_conn *, const mf_job_claim *claim, mf_arena *,
                                  mf_job_row **rows, size_t *count,
                                  int64_t *next_due_us, mf_err *err);
    /* The three ends of a claim, and its extension.  `runs` is the claimed row's;
     * MF_E_NOTFOUND when the claim is not this caller's any more: the job is gone, or
     * its lease was lost. */
    MF_CHECKED mf_rc (*job_done)(mf_conn *, mf_uuid user_id, mf_uuid id, int32_t runs,
                                 mf_err *err); /* removes it */
    MF_CHECKED mf_rc (*job_fail)(mf_conn *, mf_uuid user_id, mf_uuid id, int32_t runs,
                                 const mf_job_return *how, mf_err *err);
    MF_CHECKED mf_rc (*job_renew)(mf_conn *, mf_uuid user_id, mf_uuid id, int32_t runs,
                                  int64_t lease_us, mf_err *err);
    /* Every running job is open again, whatever its lease: for the start of the only
     * process there is.  One lost MF_JOB_LOST_MAX times is dead.  *count: how many. */
    MF_CHECKED mf_rc (*job_recover)(mf_conn *, size_t *count, mf_err *err);
    MF_CHECKED mf_rc (*job_get)(mf_conn *, mf_uuid id, mf_arena *, mf_job_row *out,
                                mf_err *err); /* directory: by id alone */
    MF_CHECKED mf_rc (*job_list)(mf_conn *, const mf_job_filter *filter, mf_arena *,
                                 mf_job_row **rows, size_t *count,
                                 mf_err *err); /* oldest first */
    /* A dead or waiting job is due at `due_us` with no failures; or gone.
     * MF_E_NOTFOUND, or MF_E_BUSY while it runs. */
    MF_CHECKED mf_rc (*job_retry)(mf_conn *, mf_uuid user_id, mf_uuid id,
                                  int64_t due_us, mf_err *err);
    MF_CHECKED mf_rc (*job_drop)(mf_conn *, mf_uuid user_id, mf_uuid id, mf_err *err);
    /* A row for each kind there is, by name. */
    MF_CHECKED mf_rc (*job_counts)(mf_conn *, mf_arena *, mf_job_counts **rows,
                                   size_t *count, mf_err *err);

    /* Compression of cold texts.  A store may keep the texts of old messages in less
     * space; every read gives them back byte for byte, an edit writes plain text.  A
     * store that does not compress has nothing to do: text_train gives nothing,
     * text_dictionary_add and text_compress change nothing and report zeros.
     *
     * text_train, on any connection, takes long: a dictionary of what the texts have in
     * common, in the arena; .p NULL when there is too little text or the newest one is
     * still good.  text_dictionary_add, on the writer, makes it the newest; a store
     * that compresses says MF_E_CORRUPT when it is none.  text_compress, on the writer,
     * packs the next cold texts with the newest dictionary; called again while `more`.
     */
    MF_CHECKED mf_rc (*text_train)(mf_conn *, mf_arena *, mf_str *dictionary,
                                   mf_err *err);
    MF_CHECKED mf_rc (*text_dictionary_add)(mf_conn *, mf_str dictionary, mf_err *err);
    MF_CHECKED mf_rc (*text_compress)(mf_conn *, const mf_text_limits *limits,
                                      mf_text_slice *out, mf_err *err);

    MF_CHECKED mf_rc (*counts)(mf_conn *, mf_store_counts *out, mf_err *err);
    /* Gives back memory that only makes later calls faster, such as cached pages; what
     * an open transaction needs stays. */
    MF_CHECKED mf_rc (*release_memory)(mf_conn *, mf_err *err);
    /* Full self-check; MF_E_CORRUPT with the first finding. */
    MF_CHECKED mf_rc (*verify)(mf_conn *, mf_err *err);
} mf_store_ops;

/* Every backend's store and connection begin with these. */
struct mf_store {
    const mf_store_ops *ops;
};
struct mf_conn {
    const mf_store_ops *ops;
    mf_store *store;
};

const char *mf_role_name(mf_role role); /* "user", "assistant", "system" */
bool mf_role_parse(mf_str text, mf_role *out);

const char *mf_job_state_name(mf_job_state state); /* "open", "running", "dead" */
bool mf_job_state_parse(mf_str text, mf_job_state *out);
/* For backends: are the bounds of a row to put kept?  MF_E_LIMIT names the field. */
MF_CHECKED mf_rc mf_job_check(const mf_job_row *row, mf_err *err);
/* For backends: the text kept of a failure, cut to its bound between characters. */
mf_str mf_job_error_cut(mf_str error);
/* For backends: may a job of that due time be claimed at that time? */
bool mf_job_is_due(int64_t due_us, int64_t now_us);
#define MF_JOB_LOST_TEXT "the process ended, or its lease did, while the job ran"

#endif
