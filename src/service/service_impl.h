/* service_impl.h - what the files of this folder share: the service itself, the ways
 * from an id in a request to the thing it names, and the one way to write. */
#ifndef MF_SERVICE_SERVICE_IMPL_H
#define MF_SERVICE_SERVICE_IMPL_H

#include <stdatomic.h>

#include "base/lru.h"
#include "base/mutex.h"
#include "service/compress.h"
#include "service/flush_manager.h"
#include "service/jobs.h"
#include "service/registry.h"
#include "service/user.h"
#include "service/user_data.h"

enum { MF_SERVICE_ARENA_MAX = 512 << 20 }; /* bytes of one write's working memory */

struct mf_service {
    mf_service_parts parts;
    mf_metrics *own_metrics;   /* NULL when `parts` has some */
    mf_breaker source_breaker; /* look-ups of vectors in the store */
    mf_registry *registry;
    mf_flush_manager *flusher;
    mf_jobs *jobs;
    mf_compress compress;
    mf_lru *sessions; /* session id -> its owner, see mf_service_find_session */
    mf_user_data *user_data;
    mf_memory_guard *guard;
    mf_recent *recent;
    atomic_ullong session_drops;
    int64_t opened_ns;

    mf_mutex writes_mu;
    mf_cond writes_cond;
    size_t writes; /* under way; guarded by writes_mu */
    bool stopping; /* guarded by writes_mu */

    atomic_ullong queries, cache_hits, similar_hits, cache_misses;
    atomic_ullong reranked, rerank_failures; /* queries */
    atomic_bool rerank_failing;              /* and it was logged */
    mf_user_totals totals;
};

/* Where a session belongs.  This never changes while it exists. */
typedef struct mf_session_owner {
    mf_uuid id, user_id, agent_id;
} mf_session_owner;

/* Starts the memory guard; everything it can act on is there. */
MF_CHECKED mf_rc mf_service_open_guard(mf_service *service, mf_err *err);

/* Opens the background queue and starts its workers. */
MF_CHECKED mf_rc mf_service_open_jobs(mf_service *service, mf_err *err);

/* The deadline of calls that are not given one: the request time-out from now. */
int64_t mf_service_deadline(const mf_service *service);

/* A reference to the user (mf_user_unref); MF_E_NOTFOUND in the contract's words. */
MF_CHECKED mf_rc mf_service_find_user(mf_service *service, mf_str id, mf_user **out,
                                      mf_err *err);
MF_CHECKED mf_rc mf_service_find_user_by_id(mf_service *service, mf_uuid id,
                                            mf_user **out, mf_err *err);
MF_CHECKED mf_rc mf_service_find_session(mf_service *service, mf_str id,
                                         mf_session_owner *out, mf_err *err);
/* Both at once: the session and a reference to its user. */
MF_CHECKED mf_rc mf_service_find_session_user(mf_service *service, mf_str id,
                                              mf_session_owner *out, mf_user **user,
                                              mf_err *err);
/* On the writer thread: sessions were deleted, nobody may believe in them any more. */
void mf_service_drop_sessions(mf_service *service);

mf_rc mf_service_user_missing(mf_str id, mf_err *err);
mf_rc mf_service_agent_missing(mf_str id, mf_err *err);
mf_rc mf_service_session_missing(mf_str id, mf_err *err);

/* Runs `read` on a reader connection, in one fixed state. */
MF_CHECKED mf_rc mf_service_read(mf_service *service, int64_t deadline_ns,
                                 mf_rc (*read)(mf_conn *, void *ctx, mf_err *),
                                 void *ctx, mf_err *err);

/* One write that the caller waits for. */
typedef struct mf_task {
    mf_user *user; /* whose data it changes; NULL: nobody's index */
    bool owes;     /* it leaves something to embed */
    bool forgets;  /* it deletes or replaces texts */
    mf_rc (*run)(mf_conn *conn, void *ctx, mf_err *err);
    void (*applied)(
        void *ctx); /* on the writer thread, after the commit; NULL: nothing */
    void *ctx;
} mf_task;

MF_CHECKED mf_rc mf_service_write(mf_service *service, const mf_task *task,
                                  mf_err *err);

/* A write begins, unless the service stops; end it exactly once. */
MF_CHECKED mf_rc mf_service_write_enter(mf_service *service, mf_err *err);
void mf_service_write_leave(mf_service *service);

/* A change in one block: the change, its documents and their texts.  Its release frees
 * it.  Texts are filled with mf_service_change_text. */
typedef struct mf_change_block {
    mf_change change;
    mf_change_doc *docs; /* [count] */
    int64_t *touched;    /* mf_free; NULL: none */
    char *text_at;
    char *text_end;
} mf_change_block;

MF_CHECKED mf_rc mf_change_block_new(mf_change_kind kind, size_t count,
                                     size_t text_bytes, mf_change_block **out,
                                     mf_err *err);
mf_str mf_change_block_text(mf_change_block *block, mf_str text);
/* The block owns `nums` from here on (mf_free); NULL is fine. */
void mf_change_block_touch(mf_change_block *block, int64_t *nums, size_t count);
void mf_change_block_free(mf_change_block *block); /* one nobody took; NULL is fine */

#endif
