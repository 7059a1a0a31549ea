/* jobs.h - work that is owed and done in the background.
 *
 * A layer that has something to do about a change registers a kind of job before the
 * service starts.  Whoever makes the change enqueues a job in the same operation of the
 * writer, so that either both are stored or neither; after the commit it wakes the
 * workers.  The queue is in the store, so a job survives a crash, and a long queue
 * delays work but refuses none.
 *
 * Promises to a handler.  A job runs at least once: again when it failed, when the
 * process died before its end was stored, or when it was called off; so running it
 * twice must do no harm.  The jobs of one user and kind run one at a time, in the order
 * in which they were enqueued.  A handler that fails is tried again after a growing
 * wait (policy JOB of base/retry.def); after its last try the job is dead, and stays in
 * the store until it is retried or dropped by hand.
 *
 * Promises of a handler.  It looks at `stop` at least every few hundred milliseconds
 * and, once that is set, comes back with MF_E_STOPPING; the job is put back and counts
 * as neither done nor failed.  It reads over connections of `readers` (never those of
 * requests) and changes the store by operations of `writer`, short ones, because
 * requests wait behind them.  It holds no connection while it computes.
 *
 * Workers are started when there is work, at most `background.workers` of them.  Due
 * times are counted on the monotonic clock from the time of day at which the queue was
 * opened, so a jump of the clock moves no job.
 *
 * Safe from any thread unless a function says otherwise. */
#ifndef MF_SERVICE_JOBS_H
#define MF_SERVICE_JOBS_H

#include <stdatomic.h>

#include "base/histogram.h"
#include "store/conn_pool.h"
#include "store/store.h"
#include "store/writer.h"

typedef struct mf_jobs mf_jobs;

/* What a running handler is given; all of it is borrowed for the call. */
typedef struct mf_job_run {
    const mf_job_row *job;
    const atomic_bool *stop; /* the process is stopping: come back soon */
    mf_conn_pool *readers;   /* the background's own */
    mf_writer *writer;
    mf_arena *arena; /* empty; freed afterwards */
} mf_job_run;

/* On a worker thread, without any lock. */
typedef mf_rc (*mf_job_fn)(void *ctx, const mf_job_run *run, mf_err *err);

enum { MF_JOB_KINDS_MAX = 16 };
_Static_assert(MF_JOB_KINDS_MAX <= (int)MF_JOB_CLAIM_KINDS_MAX, "one claim asks all");

typedef struct mf_job_kind {
    const char *name; /* constant; at most MF_JOB_KIND_MAX bytes */
    mf_job_fn run;
    void *ctx;
    unsigned tries_max; /* 0: as many as the retry policy has */
    int priority;       /* of its jobs unless they say otherwise */
    /* > 0: a job of nobody in particular that comes again so many milliseconds after
     * each end; the store has exactly one. */
    int64_t every_ms;
    /* A layer over the messages: each add of a round enqueues a job, with the payload
     * {"session_id":...,"round_id":...,"first":N,"count":n}, where N is the lowest num
     * of its n messages; the add's answer says background_queued. */
    bool follows_adds;
} mf_job_kind;

typedef struct mf_jobs_options {
    mf_store *store;
    mf_writer *writer;
    mf_conn_pool *readers; /* of the background */
    size_t workers_max;    /* 1 or more */
    int64_t lease_ms;      /* renewed at half of it while a handler runs */
} mf_jobs_options;

MF_CHECKED mf_rc mf_jobs_open(const mf_jobs_options *options, mf_jobs **out,
                              mf_err *err);
/* Before start, from one thread.  MF_E_LIMIT beyond MF_JOB_KINDS_MAX; a name given
 * twice is a bug. */
MF_CHECKED mf_rc mf_jobs_register(mf_jobs *jobs, const mf_job_kind *kind, mf_err *err);
/* Puts back what a dead process was running, at once, and begins to work. */
MF_CHECKED mf_rc mf_jobs_start(mf_jobs *jobs, mf_err *err);
/* Sets the handlers' stop flag and joins the workers.  Enqueuing stays possible; the
 * jobs wait for the next start. */
void mf_jobs_stop(mf_jobs *jobs);
void mf_jobs_close(mf_jobs *jobs); /* stops first; takes NULL */

typedef struct mf_new_job {
    mf_uuid user_id;  /* none: of nobody in particular */
    const char *kind; /* registered */
    mf_str key;       /* .p NULL: none; else see job_put of store.h */
    mf_str payload;
    int priority;     /* negative: the kind's */
    int64_t delay_ms; /* before it may run */
} mf_new_job;

/* On the writer thread, inside an operation: stores the job with everything else the
 * operation does.  *added (unless NULL) is false when an open job of its key waits
 * already.  Never waits.  After the operation has committed, call mf_jobs_wake.
 * Errors: those of job_put. */
MF_CHECKED mf_rc mf_jobs_enqueue(mf_jobs *jobs, mf_conn *conn, const mf_new_job *job,
                                 bool *added, mf_err *err);
/* Is there a handler for it? */
bool mf_jobs_has(const mf_jobs *jobs, const char *kind);
/* The same for a round just inserted, `count` rows of it, for every kind that follows
 * adds.  *queued: there is such a kind. */
MF_CHECKED mf_rc mf_jobs_enqueue_add(mf_jobs *jobs, mf_conn *conn,
                                     const mf_message_row *rows, size_t count,
                                     bool *queued, mf_err *err);
/* Something was enqueued and committed: quick, never waits. */
void mf_jobs_wake(mf_jobs *jobs);

/* Waits until none of the jobs that the user has now (open or running, of kinds with a
 * handler) is left; dead ones do not count, those put meanwhile neither.  MF_E_TIMEOUT
 * at the deadline, MF_E_STOPPING when the workers stop first. */
MF_CHECKED mf_rc mf_jobs_wait_user(mf_jobs *jobs, mf_uuid user_id, int64_t deadline_ns,
                                   mf_err *err);

/* --- the operator's hand --- */

/* A dead or waiting job is due now; or gone.  MF_E_NOTFOUND, MF_E_BUSY while it
 * runs. */
MF_CHECKED mf_rc mf_jobs_retry(mf_jobs *jobs, mf_uuid id, mf_err *err);
MF_CHECKED mf_rc mf_jobs_drop(mf_jobs *jobs, mf_uuid id, mf_err *err);

/* --- figures --- */

typedef struct mf_jobs_stats {
    /* in the store now */
    uint64_t open, running, dead;
    int64_t oldest_age_ms; /* how long the longest due one has been due; 0: none is */
    /* since the start */
    uint64_t queued, done, failed, retried, died, put_back, recovered;
    size_t workers, workers_busy, workers_max;
    bool store_failing; /* the last claim failed; it is tried again */
    mf_histogram_summary run_ns;
} mf_jobs_stats;

/* Reads the store for the first group. */
MF_CHECKED mf_rc mf_jobs_get_stats(mf_jobs *jobs, mf_jobs_stats *out, mf_err *err);
/* By kind, names ascending. */
MF_CHECKED mf_rc mf_jobs_get_counts(mf_jobs *jobs, mf_arena *arena,
                                    mf_job_counts **rows, size_t *count, mf_err *err);

#endif
