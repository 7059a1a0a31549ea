/* flush_manager.h - the threads that flush: they embed, commit and empty windows.
 *
 * A user with something to embed or to commit is in the queue exactly once, with a
 * reference, and one worker at a time has it, so what belongs to a user happens in
 * order; users take turns, a slice each.  Users whose vectors only wait to be
 * committed, or whose work failed, wait for their time.  When there is nothing else to
 * do, workers take up the users the store's backlog named at start.
 *
 * A failed flush stays and is tried again, with the waits of MF_RETRY_FLUSH and after
 * the third failure with the longest of them; nothing is dropped.
 *
 * The workers are the embedding threads: what they do beside encoding is hand a batch
 * to the writer and wait, so threads of their own for that would only be idle.  Without
 * a model there is one, for the windows.
 *
 * The queue runs through the users themselves: to enter it allocates nothing, never
 * waits and cannot fail.  It has room for buffer.flush.queue_max users; one who comes
 * when it is full waits behind them all the same, and is counted as delayed.
 *
 * Windows: a few times per interval one of the threads looks which users' windows time
 * or idleness empties.  They do not keep a user in memory.
 *
 * Safe from any thread. */
#ifndef MF_SERVICE_FLUSH_MANAGER_H
#define MF_SERVICE_FLUSH_MANAGER_H

#include "service/flush_stats.h"
#include "service/registry.h"

typedef struct mf_flush_manager mf_flush_manager;

typedef struct mf_flush_manager_options {
    mf_registry *registry;
    mf_settings *settings;
    mf_embedder *embedder;  /* NULL: no model, nothing to embed or to commit */
    mf_error_cache *errors; /* what goes wrong is noted here */
    size_t thread_count;    /* 1 or more, named mf-embed, or mf-flush without a model */
    bool pin;               /* each thread to a core of its own, as far as they go */
    mf_uuid
        *backlog; /* users to take up; the manager's from open on, also on failure */
    size_t backlog_count;
    /* A reference to a user of the backlog; MF_E_NOTFOUND when it is deleted. */
    mf_rc (*resolve)(void *ctx, mf_uuid id, mf_user **out, mf_err *err);
    void *ctx;
} mf_flush_manager_options;

MF_CHECKED mf_rc mf_flush_manager_open(const mf_flush_manager_options *options,
                                       mf_flush_manager **out, mf_err *err);
/* Calls off what the workers are encoding, joins them, and commits the vectors in
 * memory. */
void mf_flush_manager_close(mf_flush_manager *manager);

/* The user has something new to embed. */
void mf_flush_manager_wake(mf_flush_manager *manager, mf_user *user);
/* The user may have something to commit: it enters the queue unless it is there. */
void mf_flush_manager_notice(mf_flush_manager *manager, mf_user *user);
/* Waits until the user (NULL: every user, and the backlog) owes nothing; its vectors
 * are committed without waiting for their time.  MF_E_TIMEOUT. */
MF_CHECKED mf_rc mf_flush_manager_flush(mf_flush_manager *manager, mf_user *user,
                                        int64_t deadline_ns, mf_err *err);

void mf_flush_manager_get_stats(mf_flush_manager *manager, mf_flush_stats *out);

#endif
