/* service.h - everything memfuse can do, for whichever door asks.
 *
 * A mf_service is tier 1: one per process, made in lib/, destroyed after every thread
 * that calls it is joined.  Behind it are tier-2 objects, one per active user (buffers,
 * index, query cache); requests (tier 3) are arguments.  Every function is safe from
 * any thread and may wait for the store; mf_service_add is the one that answers through
 * a callback, so that a thousand waiting writers need no thousand threads.
 *
 * Ids come in as text: one that is ill-formed or unknown is MF_E_NOTFOUND with the
 * message the HTTP contract gives and err->field set ("user_id", "session_id", "name",
 * ...).  Text is valid UTF-8 without NUL (the doors see to that).  Rows handed out live
 * in the caller's arena.  Deadlines are on the monotonic clock. */
#ifndef MF_SERVICE_SERVICE_H
#define MF_SERVICE_SERVICE_H

#include "base/cache_manager.h"
#include "base/metrics.h"
#include "buffer/query_buffer.h"
#include "buffer/token_cache.h"
#include "buffer/write_buffer.h"
#include "index/user_index.h"
#include "memory/chunk_strategy.h"
#include "model/embedder.h"
#include "model/token_counter.h"
#include "service/compress.h"
#include "service/flush_stats.h"
#include "service/health.h"
#include "service/jobs.h"
#include "service/memory_guard.h"
#include "service/registry_stats.h"
#include "service/runtime.h"
#include "store/conn_pool.h"
#include "store/store.h"
#include "store/writer.h"
#include "text/config.h"

typedef struct mf_service mf_service;

typedef struct mf_service_parts {
    mf_store *store; /* all borrowed; they outlive the service */
    mf_writer *writer;
    mf_conn_pool *readers;    /* of requests */
    mf_conn_pool *background; /* of work nobody waits for */
    mf_embedder *embedder;    /* NULL: no model; search goes by words alone */
    mf_token_counter *tokens;
    mf_token_cache *token_cache; /* the service makes it */
    mf_settings *settings;
    mf_runtime *runtime;          /* NULL: no reranker, no language model */
    mf_cache_manager *caches;     /* NULL: caches keep to their own limits only */
    mf_metrics *metrics;          /* NULL: the service counts for itself */
    mf_memory_figures model;      /* what it takes, outside memory.budget_mb */
    const mf_job_kind *job_kinds; /* of the background, besides the service's own */
    size_t job_kind_count;
    /* The rest is filled in by mf_service_open. */
    mf_chunk_rules chunks;
    char vectors_from[512]; /* what makes this service's vectors: the encoder's name,
                             * and the rules unless each message stands alone */
} mf_service_parts;

MF_CHECKED mf_rc mf_service_open(const mf_service_parts *parts, mf_service **out,
                                 mf_err *err);
/* Stops taking work, commits the vectors in memory, joins its threads; frees nothing of
 * `parts`.  Embedding still owed stays noted in the store's backlog. */
void mf_service_close(mf_service *service);
mf_metrics *mf_service_metrics(mf_service *service); /* never NULL; as long as it */
mf_runtime *mf_service_runtime(mf_service *service); /* NULL when `parts` had none */

/* --- users and agents ---------------------------------------------------------------
 * `which` tells the two apart; messages say "User ..." or "Agent ...". */
typedef enum mf_named { MF_NAMED_USER, MF_NAMED_AGENT } mf_named;

MF_CHECKED mf_rc mf_service_named_create(mf_service *, mf_named which, mf_str name,
                                         mf_str description, mf_arena *,
                                         mf_named_row *out, mf_err *err);
MF_CHECKED mf_rc mf_service_named_get(mf_service *, mf_named which, mf_str id,
                                      mf_arena *, mf_named_row *out, mf_err *err);
MF_CHECKED mf_rc mf_service_named_find(mf_service *, mf_named which, mf_str name,
                                       mf_arena *, mf_named_row *out, mf_err *err);
MF_CHECKED mf_rc mf_service_named_list(mf_service *, mf_named which, mf_arena *,
                                       mf_named_row **rows, size_t *count, mf_err *err);
/* A view with .p NULL keeps the old value. */
MF_CHECKED mf_rc mf_service_named_update(mf_service *, mf_named which, mf_str id,
                                         mf_str name, mf_str description, mf_arena *,
                                         mf_named_row *out, mf_err *err);
MF_CHECKED mf_rc mf_service_named_delete(mf_service *, mf_named which, mf_str id,
                                         mf_err *err);

/* --- sessions --- */

/* `name` .p NULL: one is made, "<user>-<agent>-<8 hex digits>". */
MF_CHECKED mf_rc mf_service_session_create(mf_service *, mf_str user_id,
                                           mf_str agent_id, mf_str name, mf_arena *,
                                           mf_session_row *out, mf_err *);
MF_CHECKED mf_rc mf_service_session_get(mf_service *, mf_str id, mf_arena *,
                                        mf_session_row *, mf_err *err);
/* `user_id` empty: any user's. */
MF_CHECKED mf_rc mf_service_session_find(mf_service *, mf_str name, mf_str user_id,
                                         mf_arena *, mf_session_row *out, mf_err *err);
/* Empty ids do not filter; unknown ones are MF_E_NOTFOUND. */
MF_CHECKED mf_rc mf_service_session_list(mf_service *, mf_str user_id, mf_str agent_id,
                                         mf_arena *, mf_session_row **rows,
                                         size_t *count, mf_err *);
MF_CHECKED mf_rc mf_service_session_rename(mf_service *, mf_str id, mf_str name,
                                           mf_arena *, mf_session_row *out,
                                           mf_err *err);
MF_CHECKED mf_rc mf_service_session_delete(mf_service *, mf_str id, mf_err *err);

/* --- messages --- */

typedef struct mf_new_message {
    mf_role role;
    mf_str content;
    mf_str metadata;    /* JSON object text; .p NULL: none */
    int64_t created_us; /* 0: now */
} mf_new_message;

typedef struct mf_add_result {
    const mf_uuid *message_ids; /* in the order given */
    size_t count;
    bool transfer_triggered; /* this add pushed rounds out of the recent window */
    bool background_queued;  /* a layer over the messages owes work for it */
    bool replayed;           /* answered from an earlier request with the same key */
    size_t window_rounds, window_tokens; /* the session's recent window after the add */
} mf_add_result;

/* `rc` MF_OK: durable and findable.  `result` and `err` are valid for the call only. */
typedef void (*mf_add_fn)(void *ctx, mf_rc rc, const mf_add_result *result,
                          const mf_err *err);

/* Stores one round.  Everything is copied before it returns.  `done` is called exactly
 * once, from any thread, possibly before this returns; it must be quick.  With an
 * `idempotency_key` (else empty) a repetition has no second effect and gets the first
 * answer; the same key with another content is MF_E_INVAL. */
void mf_service_add(mf_service *, mf_str session_id, const mf_new_message *messages,
                    size_t count, mf_str idempotency_key, mf_add_fn done, void *ctx);
/* Stores rounds of one user together, in this order: all of them or none.  As
 * mf_service_add otherwise; the answer has the ids of all messages in order, and the
 * window of the last round's session.  MF_E_INVAL when the sessions are of several
 * users or a round has no message.  `count` is not 0. */
typedef struct mf_new_round {
    mf_str session_id;
    const mf_new_message *messages;
    size_t count;
} mf_new_round;
void mf_service_add_batch(mf_service *, const mf_new_round *rounds, size_t count,
                          mf_add_fn done, void *ctx);
/* As mf_service_add, waiting.  `ids` holds `count`. */
MF_CHECKED mf_rc mf_service_add_wait(mf_service *, mf_str session_id,
                                     const mf_new_message *messages, size_t count,
                                     mf_uuid *ids, mf_err *err);

typedef enum mf_list_part {
    MF_LIST_ALL,    /* the whole session */
    MF_LIST_WINDOW, /* the recent window only (buffer_only=true) */
    MF_LIST_REST    /* all but the window (buffer_only=false) */
} mf_list_part;

typedef struct mf_list_options {
    size_t limit;
    bool by_id, descending;
    mf_list_part part;
} mf_list_options;

MF_CHECKED mf_rc mf_service_messages_list(mf_service *, mf_str session_id,
                                          const mf_list_options *options, mf_arena *,
                                          mf_message_row **rows, size_t *count,
                                          mf_err *err);
/* Rows in the order of `ids`; any missing (also: of another session) is
 * MF_E_NOTFOUND. */
MF_CHECKED mf_rc mf_service_messages_read(mf_service *, mf_str session_id,
                                          const mf_str *ids, size_t count, mf_arena *,
                                          mf_message_row **rows, mf_err *err);
/* All or nothing; new text is findable and old text is not when it returns. */
MF_CHECKED mf_rc mf_service_messages_update(mf_service *, mf_str session_id,
                                            const mf_str *ids,
                                            const mf_new_message *messages,
                                            size_t count, mf_err *err);
MF_CHECKED mf_rc mf_service_messages_delete(mf_service *, mf_str session_id,
                                            const mf_str *ids, size_t count,
                                            mf_err *err);

/* --- knowledge --- */

MF_CHECKED mf_rc mf_service_knowledge_add(mf_service *, mf_str user_id,
                                          const mf_str *texts, size_t count,
                                          mf_uuid *ids, mf_err *err);
MF_CHECKED mf_rc mf_service_knowledge_list(mf_service *, mf_str user_id, mf_arena *,
                                           mf_knowledge_row **rows, size_t *count,
                                           mf_err *err);
/* Unknown ids are left out: *found may be less than count. */
MF_CHECKED mf_rc mf_service_knowledge_read(mf_service *, mf_str user_id,
                                           const mf_str *ids, size_t count, mf_arena *,
                                           mf_knowledge_row **rows, size_t *found,
                                           mf_err *err);
/* done[i] tells whether ids[i] existed and was changed (or deleted). */
MF_CHECKED mf_rc mf_service_knowledge_update(mf_service *, mf_str user_id,
                                             const mf_str *ids, const mf_str *texts,
                                             size_t count, bool *done, mf_err *err);
MF_CHECKED mf_rc mf_service_knowledge_delete(mf_service *, mf_str user_id,
                                             const mf_str *ids, size_t count,
                                             bool *done, mf_err *err);

/* --- query --- */

/* In which order the best top_k are given. */
typedef enum mf_sort_by {
    MF_SORT_AS_SET, /* what buffer.query.default_sort_by says */
    MF_SORT_SCORE,
    MF_SORT_TIMESTAMP /* when they were created */
} mf_sort_by;
typedef enum mf_sort_order {
    MF_ORDER_AS_SET, /* what buffer.query.default_order says */
    MF_ORDER_DESC,
    MF_ORDER_ASC
} mf_sort_order;

/* A query that does not say how many results it wants: retrieval.top_k, as the user has
 * it. */
#define MF_TOP_K_OF_SETTINGS INT64_MIN

typedef struct mf_query {
    mf_str user_id;
    mf_str text;
    mf_str session_id, agent_id; /* empty: none */
    int64_t top_k;               /* <= 0: no results */
    mf_index_path path;
    bool messages, knowledge;
    mf_sort_by sort_by;
    mf_sort_order order;
    int64_t deadline_ns;
} mf_query;

typedef struct mf_result {
    mf_doc_kind kind;
    mf_uuid id;
    mf_role role; /* messages only */
    mf_str content;
    int64_t created_us, updated_us;
    float score, similarity, keyword;
    mf_uuid session_id, agent_id; /* none for knowledge */
    mf_str session_name;          /* .p NULL for knowledge */
    bool in_session;              /* belongs to the query's session */
    bool buffered;                /* still in the write buffers when found */
} mf_result;

typedef struct mf_results {
    mf_result *rows;
    size_t count;
    mf_answer_source source;
    bool user_has_sessions;
} mf_results;

MF_CHECKED mf_rc mf_service_query(mf_service *, const mf_query *query, mf_arena *,
                                  mf_results *out, mf_err *err);

/* --- chunks (inspection) --- */

typedef struct mf_chunk_view {
    mf_uuid message_id; /* the first one it has text of */
    mf_uuid round_id, session_id;
    int32_t message_count;    /* that it has text of */
    int32_t part, part_count; /* among the chunks of its message or list */
    mf_str content;
    int64_t created_us;
    bool embedded; /* its vectors exist, in memory or in the store */
} mf_chunk_view;

/* The chunks of a session, or of one round of it when `round_id` is given and
 * `session_id` is empty; oldest first. */
MF_CHECKED mf_rc mf_service_chunks_list(mf_service *, mf_str session_id,
                                        mf_str round_id, mf_arena *,
                                        mf_chunk_view **rows, size_t *count, mf_err *);
const char *mf_service_chunk_strategy(const mf_service *service); /* its name */

/* --- settings of a user
 * --------------------------------------------------------------- Those the table
 * (text/config.def) lets differ.  What a request says goes before what the user has,
 * and that before what is in force for all. */

typedef struct mf_user_setting {
    mf_str key, type, range, help;
    mf_str by_default;
    mf_str global, global_source; /* in force for all, and where that came from */
    mf_str own;                   /* .p NULL: none */
    mf_str value;                 /* of the two, the one that counts */
    mf_str parameter; /* of a request that goes before both; .p NULL: none */
} mf_user_setting;

/* All that may differ, or the one of `key` (empty: all); MF_E_INVAL names a key that
 * may not. */
MF_CHECKED mf_rc mf_service_settings_list(mf_service *, mf_str user_id, mf_str key,
                                          mf_arena *, mf_user_setting **rows,
                                          size_t *count, mf_err *err);

typedef struct mf_user_change_setting {
    mf_str key;
    mf_str value; /* .p NULL: from now on everybody's */
} mf_user_change_setting;

/* All or nothing; in force for requests that begin after it returns.  MF_E_INVAL names
 * key and what is allowed. */
MF_CHECKED mf_rc mf_service_settings_change(mf_service *, mf_str user_id,
                                            const mf_user_change_setting *changes,
                                            size_t count, mf_err *err);

/* --- API keys --- */

enum { MF_API_KEY_TEXT_MAX = 128 };

/* `secret` receives the key in clear, NUL-terminated, this once. */
MF_CHECKED mf_rc mf_service_api_key_create(mf_service *, mf_str user_id, mf_str name,
                                           mf_str permissions, int64_t expires_us,
                                           char secret[MF_API_KEY_TEXT_MAX], mf_arena *,
                                           mf_api_key_row *out, mf_err *err);
MF_CHECKED mf_rc mf_service_api_key_list(mf_service *, mf_str user_id, mf_arena *,
                                         mf_api_key_row **rows, size_t *count,
                                         mf_err *err);
MF_CHECKED mf_rc mf_service_api_key_delete(mf_service *, mf_str user_id, mf_str key_id,
                                           mf_err *);
/* MF_E_AUTH when the key is malformed, unknown, wrong or expired (one answer for all,
 * in constant time).  *user_id receives its owner. */
MF_CHECKED mf_rc mf_service_authenticate(mf_service *, mf_str key, mf_uuid *user_id,
                                         mf_err *err);

/* --- running it --- */

typedef struct mf_service_status {
    mf_store_counts store;
    mf_writer_stats writer;
    mf_conn_pool_stats readers, background_readers;
    mf_jobs_stats jobs;
    mf_compress_stats compress;
    mf_embedder_stats embedder;
    bool has_model, exact_tokens;
    mf_encoder_info model;
    mf_registry_stats users;
    bool has_runtime;
    mf_runtime_stats runtime;
    size_t index_documents, index_vectors, index_bytes;
    size_t embedding_pending; /* documents of active users without a vector */
    uint64_t total_writes, total_transfers, flush_operations;
    uint64_t queries, cache_hits, similar_hits, cache_misses;
    uint64_t reranked, rerank_failures; /* queries */
    uint64_t answers_evicted, answers_expired;
    size_t answers_bytes; /* held by the answers and candidates of active users */
    mf_write_buffer_stats buffers; /* of all users; counts since the start */
    int64_t hybrid_oldest_ms;      /* age of the oldest vector not committed */
    mf_flush_stats flush;
    mf_memory_guard_stats memory;
    mf_cache_manager_stats caches; /* all zero without a manager */
    size_t buffer_bytes;           /* of the write buffers and the cached answers */
    mf_health_reading health[MF_HEALTH_COUNT];
    size_t rss_bytes;
    int64_t uptime_ms, startup_ms;
} mf_service_status;

MF_CHECKED mf_rc mf_service_get_status(mf_service *, mf_service_status *out,
                                       mf_err *err);

/* Lives as long as the service. */
mf_memory_guard *mf_service_memory_guard(mf_service *service);
mf_recent *mf_service_recent(mf_service *service);
mf_cache_manager *mf_service_caches(mf_service *service); /* NULL: there is none */

/* --- jobs of the background (jobs.h) --- */

typedef struct mf_jobs_query {
    mf_str state;         /* "open", "running", "dead"; .p NULL: any, as for the next */
    mf_str kind, user_id; /* an unknown kind has no jobs, an unknown user is an error */
    size_t limit;
} mf_jobs_query;

/* Oldest first. */
MF_CHECKED mf_rc mf_service_jobs_list(mf_service *, const mf_jobs_query *query,
                                      mf_arena *, mf_job_row **rows, size_t *count,
                                      mf_err *err);
/* A dead or waiting job is due now, its failures forgotten; or gone for ever.
 * MF_E_NOTFOUND; MF_E_BUSY while it runs. */
MF_CHECKED mf_rc mf_service_job_retry(mf_service *, mf_str id, mf_err *err);
MF_CHECKED mf_rc mf_service_job_drop(mf_service *, mf_str id, mf_err *err);
MF_CHECKED mf_rc mf_service_job_counts(mf_service *, mf_arena *, mf_job_counts **rows,
                                       size_t *count, mf_err *err);

/* What a flush of a user did. */
typedef struct mf_flush_result {
    size_t rounds_transferred; /* that left windows in memory */
    size_t vectors_committed;
} mf_flush_result;

/* Empties the user's recent windows, and waits until nothing of the user waits for
 * embedding or for commit; MF_E_TIMEOUT at the deadline, and what is left goes on.
 * `out` may be NULL. */
MF_CHECKED mf_rc mf_service_flush(mf_service *, mf_str user_id, int64_t deadline_ns,
                                  mf_flush_result *out, mf_err *err);
/* Waits until nothing of anybody active or in the backlog waits for embedding or for
 * commit; windows stay. */
MF_CHECKED mf_rc mf_service_settle(mf_service *, int64_t deadline_ns, mf_err *err);

#endif
