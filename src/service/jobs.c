/* jobs.c - the workers of the background queue.
 *
 *   a worker   waits for its turn: a wake, or the time the next job is due
 *              --> one write: the end of the job it had, and a claim of the next
 *              --> runs the handler, without a lock
 *              --> the same write again ... until nothing is due
 *
 * There is no queue in memory: what is not claimed is in the store, so nothing here can
 * be full.  Ending one job and claiming the next is one operation of the writer, which
 * commits together with whatever requests wait, so a job costs one commit and a busy
 * queue shares it.
 *
 * Nobody but this process claims, so leases are renewed by the claims themselves: each
 * extends those of all running jobs that have less than half left, and a lease can only
 * end when the process has.  The start puts such jobs back at once.
 *
 * When the store fails, a worker that wanted a job waits and tries again, and one that
 * has to note the end of a job keeps it until that is noted or the process stops; the
 * job then runs again after the next start.
 *
 * `next_claim_ns` says when it is worth looking into the queue.  A worker that looks
 * sets it to never first, so the others sleep on; a wake sets it to now. */
#include "service/jobs.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/retry.h"
#include "base/uuid.h"
#include "service/completion.h"

enum {
    WORKERS_MAX = 64,
    CLAIM_ARENA_MAX = 1 << 20,
    RUN_ARENA_MAX = 256 << 20,
    COUNT_ARENA_MAX = 1 << 20,
    WAIT_ARENA_MAX = 16 << 20,
    WAIT_ROWS_MAX = 128,
    READ_MS = 5000,
    US_PER_MS = 1000,
    ADD_PAYLOAD_MAX = 256
};

/* What a worker runs, for those who renew leases. */
typedef struct slot {
    mf_jobs *jobs; /* constant */
    bool running;  /* guarded by jobs_mu, as is the rest */
    mf_uuid user_id, id;
    int32_t runs;
    int64_t lease_us;
} slot;

struct mf_jobs {
    /* constant after start */
    mf_jobs_options options;
    mf_job_kind kinds[MF_JOB_KINDS_MAX];
    mf_str names[MF_JOB_KINDS_MAX];
    size_t kind_count;
    int64_t base_us, base_ns; /* the time of day, and the clock, when it was opened */

    atomic_bool stop;
    mf_mutex jobs_mu;
    mf_cond work_cond;  /* a turn, or the end */
    mf_cond ended_cond; /* a job ended, or the workers did */
    /* guarded by jobs_mu */
    bool started, starting_worker;
    size_t slot_count, waiting, busy;
    slot slots[WORKERS_MAX];
    int64_t next_claim_ns;
    unsigned claim_failures; /* in a row */
    uint64_t ends;           /* jobs that left their worker */
    mf_rng rng;

    mf_thread threads[WORKERS_MAX]; /* of the slots; whoever starts or joins one */

    atomic_ullong queued, done, failed, retried, died, put_back, recovered;
    mf_histogram run_ns;
};

/* --- time --- */

static int64_t now_us(const mf_jobs *jobs) {
    return jobs->base_us + (mf_now_ns() - jobs->base_ns) / MF_NS_PER_US;
}

/* When the clock will be there; at once for a time that is past or absurdly far. */
static int64_t ns_of(const mf_jobs *jobs, int64_t due_us) {
    int64_t at_us = now_us(jobs);
    if (due_us == INT64_MAX) {
        return MF_NEVER;
    }
    return mf_job_is_due(due_us, at_us) ? mf_now_ns()
                                        : mf_now_ns() + (due_us - at_us) * MF_NS_PER_US;
}

/* --- putting --- */

static const mf_job_kind *find_kind(const mf_jobs *jobs, mf_str name) {
    for (size_t i = 0; i < jobs->kind_count; i++) {
        if (mf_str_eq(jobs->names[i], name)) {
            return &jobs->kinds[i];
        }
    }
    return NULL;
}

bool mf_jobs_has(const mf_jobs *jobs, const char *kind) {
    return find_kind(jobs, mf_str_from(kind)) != NULL;
}

mf_rc mf_jobs_enqueue(mf_jobs *jobs, mf_conn *conn, const mf_new_job *job, bool *added,
                      mf_err *err) {
    const mf_job_kind *kind = find_kind(jobs, mf_str_from(job->kind));
    MF_ASSERT(kind != NULL);
    mf_job_row row = {.id = mf_uuid_new(),
                      .user_id = job->user_id,
                      .kind = mf_str_from(job->kind),
                      .key = job->key,
                      .payload = job->payload,
                      .priority = job->priority >= 0 ? job->priority : kind->priority,
                      .created_us = mf_wall_us(),
                      .due_us = now_us(jobs) + job->delay_ms * US_PER_MS};
    bool stored = false;
    MF_TRY(conn->ops->job_put(conn, &row, &stored, err));
    atomic_fetch_add(&jobs->queued, stored);
    if (added != NULL) {
        *added = stored;
    }
    return MF_OK;
}

static mf_rc enqueue_layer(mf_jobs *jobs, const mf_job_kind *kind, mf_conn *conn,
                           const mf_message_row *first, size_t count, mf_err *err) {
    char session[MF_UUID_TEXT + 1];
    char round_id[MF_UUID_TEXT + 1];
    char payload[ADD_PAYLOAD_MAX];
    mf_uuid_format(first->session_id, session);
    mf_uuid_format(first->round_id, round_id);
    (void)snprintf(payload, sizeof payload,
                   "{\"session_id\":\"%s\",\"round_id\":\"%s\",\"first\":%lld,"
                   "\"count\":%zu}",
                   session, round_id, (long long)first->num, count);
    mf_new_job job = {.user_id = first->user_id,
                      .kind = kind->name,
                      .payload = mf_str_from(payload),
                      .priority = -1};
    return mf_jobs_enqueue(jobs, conn, &job, NULL, err);
}

mf_rc mf_jobs_enqueue_add(mf_jobs *jobs, mf_conn *conn, const mf_message_row *rows,
                          size_t count, bool *queued, mf_err *err) {
    *queued = false;
    for (size_t i = 0; i < jobs->kind_count; i++) {
        if (jobs->kinds[i].follows_adds) {
            MF_TRY(enqueue_layer(jobs, &jobs->kinds[i], conn, rows, count, err));
            *queued = true;
        }
    }
    return MF_OK;
}

/* The one job of a kind that comes again. */
static mf_rc put_periodic(mf_jobs *jobs, const mf_job_kind *kind, mf_conn *conn,
                          mf_err *err) {
    mf_new_job job = {.kind = kind->name,
                      .key = mf_str_from(kind->name),
                      .payload = MF_STR("{}"),
                      .priority = -1,
                      .delay_ms = kind->every_ms};
    return mf_jobs_enqueue(jobs, conn, &job, NULL, err);
}

/* --- the one write of a worker --- */

/* A job in a worker's hands. */
typedef struct held_job {
    mf_arena *arena; /* of the row */
    mf_job_row row;
    const mf_job_kind *kind;
    bool done;         /* else it goes back as `how` says */
    mf_job_return how; /* its error is in `failure` */
    mf_err failure;
} held_job;

typedef struct turn {
    mf_write write;
    mf_completion completion;
    mf_jobs *jobs;
    slot *mine;            /* of the worker whose turn it is */
    const held_job *ended; /* NULL: none */
    bool claims;
    mf_arena *arena; /* of the row claimed */
    /* results */
    mf_job_row *rows;
    size_t count;
    int64_t next_due_us, lease_us;
    bool renewed[WORKERS_MAX];
} turn;

/* A claim that is no longer ours ends nothing, and that is as it should be. */
static mf_rc forgive_lost(mf_rc rc) {
    return rc == MF_E_NOTFOUND ? MF_OK : rc;
}

static mf_rc note_end(const turn *t, mf_conn *conn, mf_err *err) {
    const held_job *h = t->ended;
    const mf_job_row *row = &h->row;
    mf_rc rc =
        h->done
            ? conn->ops->job_done(conn, row->user_id, row->id, row->runs, err)
            : conn->ops->job_fail(conn, row->user_id, row->id, row->runs, &h->how, err);
    MF_TRY(forgive_lost(rc));
    if (h->kind->every_ms > 0 && (h->done || h->how.dead)) {
        return put_periodic(t->jobs, h->kind, conn, err);
    }
    return MF_OK;
}

static mf_rc renew_leases(turn *t, mf_conn *conn, int64_t at_us, mf_err *err) {
    slot running[WORKERS_MAX];
    mf_mutex_lock(&t->jobs->jobs_mu);
    size_t count = t->jobs->slot_count;
    memcpy(running, t->jobs->slots, count * sizeof running[0]);
    mf_mutex_unlock(&t->jobs->jobs_mu);
    int64_t half_us = t->jobs->options.lease_ms * US_PER_MS / 2;
    for (size_t i = 0; i < count; i++) {
        const slot *s = &running[i];
        t->renewed[i] = s->running && s->lease_us - at_us < half_us;
        if (t->renewed[i]) {
            MF_TRY(forgive_lost(conn->ops->job_renew(conn, s->user_id, s->id, s->runs,
                                                     t->lease_us, err)));
        }
    }
    return MF_OK;
}

static mf_rc turn_run(mf_conn *conn, void *ctx, mf_err *err) {
    turn *t = ctx;
    mf_jobs *jobs = t->jobs;
    int64_t at_us = now_us(jobs);
    t->count = 0;
    t->next_due_us = INT64_MAX;
    t->lease_us = at_us + jobs->options.lease_ms * US_PER_MS;
    memset(t->renewed, 0, sizeof t->renewed);
    if (t->ended != NULL) {
        MF_TRY(note_end(t, conn, err));
    }
    if (!t->claims) {
        return MF_OK;
    }
    mf_arena_reset(t->arena);
    MF_TRY(renew_leases(t, conn, at_us, err));
    mf_job_claim claim = {.kinds = jobs->names,
                          .kind_count = jobs->kind_count,
                          .now_us = at_us,
                          .lease_us = t->lease_us,
                          .count_max = 1};
    return conn->ops->job_claim(conn, &claim, t->arena, &t->rows, &t->count,
                                &t->next_due_us, err);
}

/* --- starting workers --- */

static void worker_main(void *arg);

/* One more worker, when there is something to do, nobody is free and one is allowed. */
static void start_worker_if_needed(mf_jobs *jobs) {
    mf_mutex_lock(&jobs->jobs_mu);
    bool wanted = jobs->started && !atomic_load(&jobs->stop) &&
                  !jobs->starting_worker && jobs->waiting == 0 &&
                  jobs->slot_count < jobs->options.workers_max &&
                  jobs->next_claim_ns != MF_NEVER;
    jobs->starting_worker = jobs->starting_worker || wanted;
    size_t at = jobs->slot_count;
    mf_mutex_unlock(&jobs->jobs_mu);
    if (!wanted) {
        return;
    }
    mf_err err = {0};
    mf_rc rc = mf_thread_start(&jobs->threads[at], "mf-job", worker_main,
                               &jobs->slots[at], &err);
    mf_mutex_lock(&jobs->jobs_mu);
    jobs->starting_worker = false;
    jobs->slot_count += rc == MF_OK;
    mf_cond_broadcast(&jobs->work_cond); /* a stop may wait for this */
    mf_mutex_unlock(&jobs->jobs_mu);
    if (rc != MF_OK) {
        mf_log_err(MF_LOG_WARN, "job_worker_not_started", &err); /* the next wake may */
    }
}

void mf_jobs_wake(mf_jobs *jobs) {
    mf_mutex_lock(&jobs->jobs_mu);
    jobs->next_claim_ns = mf_now_ns();
    mf_cond_broadcast(&jobs->work_cond);
    mf_mutex_unlock(&jobs->jobs_mu);
    start_worker_if_needed(jobs);
}

/* --- a worker's turns --- */

/* Waits until it is worth looking; false when the workers stop. */
static bool wait_for_turn(mf_jobs *jobs) {
    mf_mutex_lock(&jobs->jobs_mu);
    jobs->waiting++;
    while (!atomic_load(&jobs->stop) && jobs->next_claim_ns > mf_now_ns()) {
        (void)mf_cond_wait(&jobs->work_cond, &jobs->jobs_mu, jobs->next_claim_ns);
    }
    jobs->waiting--;
    jobs->next_claim_ns = MF_NEVER;
    bool stop = atomic_load(&jobs->stop);
    mf_mutex_unlock(&jobs->jobs_mu);
    return !stop;
}

/* Nobody looks before `at_ns` unless woken; somebody does then. */
static void look_again_locked(mf_jobs *jobs, int64_t at_ns) MF_REQUIRES(jobs->jobs_mu) {
    if (at_ns < jobs->next_claim_ns) {
        jobs->next_claim_ns = at_ns;
        mf_cond_signal(&jobs->work_cond);
    }
}

/* What follows from a turn that went well.  On the writer thread, so that the next turn
 * knows who runs what, however long the worker is kept from going on. */
static void turn_taken(turn *t) {
    mf_jobs *jobs = t->jobs;
    slot *mine = t->mine;
    mf_mutex_lock(&jobs->jobs_mu);
    jobs->claim_failures = 0;
    for (size_t i = 0; i < jobs->slot_count; i++) {
        if (t->renewed[i] && jobs->slots[i].lease_us < t->lease_us) {
            jobs->slots[i].lease_us = t->lease_us;
        }
    }
    if (t->ended != NULL) {
        mine->running = false;
        jobs->busy--;
        jobs->ends++;
        mf_cond_broadcast(&jobs->ended_cond);
    }
    if (t->claims && t->count > 0) {
        mine->running = true;
        mine->user_id = t->rows[0].user_id;
        mine->id = t->rows[0].id;
        mine->runs = t->rows[0].runs;
        mine->lease_us = t->rows[0].lease_us;
        jobs->busy++;
    }
    if (t->claims) {
        look_again_locked(jobs, ns_of(jobs, t->next_due_us));
    }
    mf_mutex_unlock(&jobs->jobs_mu);
}

static void turn_done(void *ctx, mf_rc rc, const mf_err *err) {
    turn *t = ctx;
    if (rc == MF_OK) {
        turn_taken(t);
    }
    mf_completion_finish(&t->completion, rc, err);
}

static mf_rc run_turn(turn *t, mf_err *err) {
    t->write = (mf_write){.run = turn_run, .done = turn_done, .ctx = t};
    mf_completion_init(&t->completion);
    mf_err refused = {0};
    mf_rc rc = mf_writer_submit(t->jobs->options.writer, &t->write, &refused);
    if (rc != MF_OK) {
        mf_completion_finish(&t->completion, rc, &refused);
    }
    return mf_completion_wait(&t->completion, err);
}

static int64_t store_delay_ns(mf_jobs *jobs, unsigned failures) {
    mf_mutex_lock(&jobs->jobs_mu);
    int64_t delay_ns = mf_retry_delay_ns(MF_RETRY_STORE, failures, &jobs->rng);
    mf_mutex_unlock(&jobs->jobs_mu);
    return delay_ns;
}

static void claim_failed(mf_jobs *jobs, const mf_err *err) {
    mf_mutex_lock(&jobs->jobs_mu);
    jobs->claim_failures++;
    look_again_locked(jobs, mf_now_ns() + mf_retry_delay_ns(MF_RETRY_STORE,
                                                            jobs->claim_failures,
                                                            &jobs->rng));
    bool first = jobs->claim_failures == 1;
    mf_mutex_unlock(&jobs->jobs_mu);
    if (first) {
        mf_log_err(MF_LOG_WARN, "job_claim_failed", err);
    }
}

/* Waits after a failed note of an end; false when the workers stop. */
static bool wait_before_retry(mf_jobs *jobs, unsigned failures) {
    int64_t until_ns = mf_now_ns() + store_delay_ns(jobs, failures);
    mf_mutex_lock(&jobs->jobs_mu);
    while (!atomic_load(&jobs->stop) && mf_now_ns() < until_ns) {
        (void)mf_cond_wait(&jobs->work_cond, &jobs->jobs_mu, until_ns);
    }
    bool stop = atomic_load(&jobs->stop);
    mf_mutex_unlock(&jobs->jobs_mu);
    return !stop;
}

/* The write of a turn.  Without an end to note it is tried once; else until it is noted
 * or the workers stop, and a stop claims nothing more. */
static mf_rc take_turn(turn *t, mf_err *err) {
    mf_jobs *jobs = t->jobs;
    mf_rc rc = MF_OK;
    for (unsigned failures = 1;; failures++) {
        t->claims = !atomic_load(&jobs->stop);
        rc = run_turn(t, err);
        if (rc == MF_OK) {
            if (t->claims && t->count > 0) {
                start_worker_if_needed(jobs);
            }
            return MF_OK;
        }
        if (t->ended == NULL) {
            claim_failed(jobs, err);
            return rc;
        }
        if (failures == 1) {
            mf_log_err(MF_LOG_WARN, "job_end_not_noted", err);
        }
        if (!wait_before_retry(jobs, failures)) {
            break;
        }
    }
    mf_mutex_lock(&jobs->jobs_mu);
    t->mine->running = false; /* the next start finds it and runs it again */
    jobs->busy--;
    mf_mutex_unlock(&jobs->jobs_mu);
    return rc;
}

/* --- running one job --- */

static void count_end(mf_jobs *jobs, const held_job *h) {
    if (h->done) {
        atomic_fetch_add(&jobs->done, 1);
    } else if (!h->how.failed) {
        atomic_fetch_add(&jobs->put_back, 1);
    } else {
        atomic_fetch_add(&jobs->failed, 1);
        atomic_fetch_add(h->how.dead ? &jobs->died : &jobs->retried, 1);
    }
}

static void judge_failure(mf_jobs *jobs, held_job *h) {
    unsigned failures = (unsigned)h->row.failures + 1;
    unsigned tries_max = h->kind->tries_max;
    bool again =
        tries_max > 0 ? failures < tries_max : mf_retry_allowed(MF_RETRY_JOB, failures);
    mf_mutex_lock(&jobs->jobs_mu);
    int64_t delay_ns = mf_retry_delay_ns(MF_RETRY_JOB, failures, &jobs->rng);
    mf_mutex_unlock(&jobs->jobs_mu);
    h->how =
        (mf_job_return){.due_us = now_us(jobs) + (again ? delay_ns / MF_NS_PER_US : 0),
                        .failed = true,
                        .dead = !again,
                        .error = mf_str_from(h->failure.text)};
    mf_log(again ? MF_LOG_INFO : MF_LOG_WARN, again ? "job_failed" : "job_dead",
           "kind=%s failures=%u code=%s error=%s", h->kind->name, failures,
           mf_rc_name(h->failure.rc), h->failure.text);
}

static void run_job(mf_jobs *jobs, held_job *h) {
    mf_arena *arena = NULL;
    int64_t start_ns = mf_now_ns();
    mf_rc rc = mf_arena_new(RUN_ARENA_MAX, &arena, &h->failure);
    if (rc == MF_OK) {
        mf_job_run run = {.job = &h->row,
                          .stop = &jobs->stop,
                          .readers = jobs->options.readers,
                          .writer = jobs->options.writer,
                          .arena = arena};
        rc = MF_FAULT("job.run") ? MF_FAIL(&h->failure, MF_E_INTERNAL, "fault job.run")
                                 : h->kind->run(h->kind->ctx, &run, &h->failure);
    }
    mf_arena_free(arena);
    mf_histogram_record(&jobs->run_ns, (uint64_t)(mf_now_ns() - start_ns));
    h->done = rc == MF_OK;
    if (!h->done && atomic_load(&jobs->stop)) {
        h->how = (mf_job_return){.due_us = now_us(jobs)};
    } else if (!h->done) {
        judge_failure(jobs, h);
    }
    count_end(jobs, h);
}

static void hold(mf_jobs *jobs, held_job *h, const mf_job_row *row) {
    h->row = *row;
    h->kind = find_kind(jobs, row->kind);
    MF_ASSERT(h->kind != NULL); /* only these were asked for */
    h->failure = (mf_err){0};
}

/* Claims and runs until nothing is due.  The row of the job that ends and that of the
 * one claimed with it live in two arenas, which change places. */
static void work(mf_jobs *jobs, slot *mine, mf_arena *arenas[2]) {
    held_job held = {0};
    const held_job *ended = NULL;
    for (int at = 0;; at = !at) {
        turn t = {.jobs = jobs, .mine = mine, .ended = ended, .arena = arenas[at]};
        mf_err err = {0};
        if (take_turn(&t, &err) != MF_OK || !t.claims || t.count == 0) {
            return;
        }
        hold(jobs, &held, &t.rows[0]);
        run_job(jobs, &held);
        ended = &held;
    }
}

static void worker_main(void *arg) {
    slot *mine = arg;
    mf_jobs *jobs = mine->jobs;
    mf_arena *arenas[2] = {NULL, NULL};
    mf_err err = {0};
    mf_rc rc = mf_arena_new(CLAIM_ARENA_MAX, &arenas[0], &err);
    if (rc == MF_OK) {
        rc = mf_arena_new(CLAIM_ARENA_MAX, &arenas[1], &err);
    }
    if (rc != MF_OK) {
        mf_log_err(MF_LOG_WARN, "job_worker_not_started", &err);
    }
    while (rc == MF_OK && wait_for_turn(jobs)) {
        work(jobs, mine, arenas);
    }
    mf_arena_free(arenas[0]);
    mf_arena_free(arenas[1]);
}

/* --- life --- */

mf_rc mf_jobs_open(const mf_jobs_options *options, mf_jobs **out, mf_err *err) {
    MF_ASSERT(options->workers_max > 0 && options->lease_ms > 0);
    mf_jobs *jobs = mf_alloc_zero(1, sizeof *jobs);
    if (jobs == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the background queue");
    }
    jobs->options = *options;
    if (jobs->options.workers_max > WORKERS_MAX) {
        jobs->options.workers_max = WORKERS_MAX;
    }
    jobs->base_us = mf_wall_us();
    jobs->base_ns = mf_now_ns();
    jobs->next_claim_ns = MF_NEVER;
    uint64_t seed;
    mf_random_bytes(&seed, sizeof seed);
    mf_rng_init(&jobs->rng, seed);
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        jobs->slots[i].jobs = jobs;
    }
    atomic_init(&jobs->stop, false);
    mf_mutex_init(&jobs->jobs_mu, MF_RANK_POOL);
    mf_cond_init(&jobs->work_cond);
    mf_cond_init(&jobs->ended_cond);
    *out = jobs;
    return MF_OK;
}

mf_rc mf_jobs_register(mf_jobs *jobs, const mf_job_kind *kind, mf_err *err) {
    mf_str name = mf_str_from(kind->name);
    MF_ASSERT(!jobs->started);
    MF_ASSERT(find_kind(jobs, name) == NULL);
    MF_ASSERT(name.len > 0 && name.len <= MF_JOB_KIND_MAX);
    if (jobs->kind_count == MF_JOB_KINDS_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "more than %d kinds of jobs", MF_JOB_KINDS_MAX);
    }
    jobs->kinds[jobs->kind_count] = *kind;
    jobs->names[jobs->kind_count] = name;
    jobs->kind_count++;
    return MF_OK;
}

typedef struct count_read {
    mf_arena *arena;
    mf_job_counts *rows;
    size_t count;
} count_read;

static mf_rc read_counts(mf_conn *conn, void *ctx, mf_err *err) {
    count_read *r = ctx;
    return conn->ops->job_counts(conn, r->arena, &r->rows, &r->count, err);
}

static mf_rc load_counts(mf_jobs *jobs, count_read *r, mf_err *err) {
    return mf_conn_read(jobs->options.readers, mf_deadline_in_ms(READ_MS), read_counts,
                        r, err);
}

static const mf_job_counts *counts_of(const count_read *r, mf_str kind) {
    static const mf_job_counts none = {.oldest_due_us = INT64_MAX};
    for (size_t i = 0; i < r->count; i++) {
        if (mf_str_eq(r->rows[i].kind, kind)) {
            return &r->rows[i];
        }
    }
    return &none;
}

/* What the start writes, if there is anything to write. */
typedef struct start_op {
    mf_jobs *jobs;
    const count_read *counts;
    size_t recovered;
} start_op;

static bool lacks_periodic(const start_op *op, size_t i) {
    const mf_job_counts *counts = counts_of(op->counts, op->jobs->names[i]);
    return op->jobs->kinds[i].every_ms > 0 && counts->open + counts->running == 0;
}

static mf_rc start_run(mf_conn *conn, void *ctx, mf_err *err) {
    start_op *op = ctx;
    MF_TRY(conn->ops->job_recover(conn, &op->recovered, err));
    for (size_t i = 0; i < op->jobs->kind_count; i++) {
        if (lacks_periodic(op, i)) {
            MF_TRY(put_periodic(op->jobs, &op->jobs->kinds[i], conn, err));
        }
    }
    return MF_OK;
}

/* *next_due_us: when there is something to do, INT64_MAX for nothing.  A store in which
 * nothing has to be changed is not written to. */
static mf_rc write_start(mf_jobs *jobs, const count_read *counts, int64_t *next_due_us,
                         mf_err *err) {
    start_op op = {.jobs = jobs, .counts = counts};
    bool writes = false;
    int64_t next_us = INT64_MAX;
    for (size_t i = 0; i < counts->count; i++) {
        writes = writes || counts->rows[i].running > 0;
    }
    for (size_t i = 0; i < jobs->kind_count; i++) {
        int64_t due_us = counts_of(counts, jobs->names[i])->oldest_due_us;
        if (lacks_periodic(&op, i)) {
            writes = true;
            due_us = now_us(jobs) + jobs->kinds[i].every_ms * US_PER_MS;
        }
        next_us = due_us < next_us ? due_us : next_us;
    }
    if (writes) {
        MF_TRY(mf_writer_run(jobs->options.writer, start_run, &op, err));
        atomic_fetch_add(&jobs->recovered, op.recovered);
    }
    *next_due_us = op.recovered > 0 ? now_us(jobs) : next_us;
    return MF_OK;
}

mf_rc mf_jobs_start(mf_jobs *jobs, mf_err *err) {
    count_read counts = {0};
    int64_t next_due_us = INT64_MAX;
    MF_TRY(mf_arena_new(COUNT_ARENA_MAX, &counts.arena, err));
    mf_rc rc = load_counts(jobs, &counts, err);
    if (rc == MF_OK) {
        rc = write_start(jobs, &counts, &next_due_us, err);
    }
    mf_arena_free(counts.arena);
    if (rc != MF_OK) {
        return rc;
    }
    mf_mutex_lock(&jobs->jobs_mu);
    jobs->started = true;
    look_again_locked(jobs, ns_of(jobs, next_due_us));
    mf_mutex_unlock(&jobs->jobs_mu);
    start_worker_if_needed(jobs);
    return MF_OK;
}

void mf_jobs_stop(mf_jobs *jobs) {
    mf_mutex_lock(&jobs->jobs_mu);
    atomic_store(&jobs->stop, true);
    mf_cond_broadcast(&jobs->work_cond);
    while (jobs->starting_worker) {
        (void)mf_cond_wait(&jobs->work_cond, &jobs->jobs_mu, MF_NEVER);
    }
    size_t count = jobs->slot_count;
    mf_mutex_unlock(&jobs->jobs_mu);
    for (size_t i = 0; i < count; i++) {
        mf_thread_join(&jobs->threads[i]);
    }
    mf_mutex_lock(&jobs->jobs_mu);
    mf_cond_broadcast(&jobs->ended_cond);
    mf_mutex_unlock(&jobs->jobs_mu);
}

void mf_jobs_close(mf_jobs *jobs) {
    if (jobs == NULL) {
        return;
    }
    mf_jobs_stop(jobs);
    mf_cond_done(&jobs->ended_cond);
    mf_cond_done(&jobs->work_cond);
    mf_mutex_done(&jobs->jobs_mu);
    mf_free(jobs);
}

/* --- waiting for a user --- */

typedef struct user_read {
    const mf_jobs *jobs;
    mf_uuid user_id;
    int64_t num_to;
    mf_arena *arena;
    size_t count;     /* live jobs found, up to WAIT_ROWS_MAX of a kind */
    int64_t num_last; /* the newest of them */
    bool cut;         /* a kind has more */
} user_read;

static mf_rc read_user_jobs(mf_conn *conn, void *ctx, mf_err *err) {
    user_read *r = ctx;
    r->count = 0;
    r->num_last = 0;
    r->cut = false;
    for (size_t i = 0; i < r->jobs->kind_count; i++) {
        mf_job_filter filter = {.user_id = r->user_id,
                                .kind = r->jobs->names[i],
                                .states = 1U << MF_JOB_OPEN | 1U << MF_JOB_RUNNING,
                                .num_to = r->num_to,
                                .limit = WAIT_ROWS_MAX};
        mf_job_row *rows;
        size_t count;
        MF_TRY(conn->ops->job_list(conn, &filter, r->arena, &rows, &count, err));
        for (size_t j = 0; j < count; j++) {
            r->num_last = rows[j].num > r->num_last ? rows[j].num : r->num_last;
        }
        r->count += count;
        r->cut = r->cut || count == WAIT_ROWS_MAX;
    }
    return MF_OK;
}

/* Reads until the user has none of the jobs it had at first. */
static mf_rc wait_until_none(mf_jobs *jobs, user_read *r, int64_t deadline_ns,
                             mf_err *err) {
    for (;;) {
        mf_mutex_lock(&jobs->jobs_mu);
        uint64_t ends = jobs->ends;
        mf_mutex_unlock(&jobs->jobs_mu);
        mf_arena_reset(r->arena);
        MF_TRY(
            mf_conn_read(jobs->options.readers, deadline_ns, read_user_jobs, r, err));
        if (r->count == 0) {
            return MF_OK;
        }
        if (!r->cut && r->num_to == INT64_MAX) {
            r->num_to = r->num_last; /* what comes later is not waited for */
        }
        bool in_time = true;
        mf_mutex_lock(&jobs->jobs_mu);
        while (in_time && jobs->ends == ends && !atomic_load(&jobs->stop)) {
            in_time = mf_cond_wait(&jobs->ended_cond, &jobs->jobs_mu, deadline_ns);
        }
        mf_mutex_unlock(&jobs->jobs_mu);
        if (atomic_load(&jobs->stop)) {
            return MF_FAIL(err, MF_E_STOPPING, "memfuse is shutting down");
        }
        if (!in_time) {
            return MF_FAIL(err, MF_E_TIMEOUT,
                           "%zu jobs of the background are not done yet", r->count);
        }
    }
}

mf_rc mf_jobs_wait_user(mf_jobs *jobs, mf_uuid user_id, int64_t deadline_ns,
                        mf_err *err) {
    user_read r = {.jobs = jobs, .user_id = user_id, .num_to = INT64_MAX};
    MF_ASSERT(!mf_uuid_is_none(user_id));
    MF_TRY(mf_arena_new(WAIT_ARENA_MAX, &r.arena, err));
    mf_rc rc = wait_until_none(jobs, &r, deadline_ns, err);
    mf_arena_free(r.arena);
    return rc;
}

/* --- the operator's hand --- */

typedef struct hand_op {
    mf_jobs *jobs;
    mf_uuid id;
    bool drop;
    mf_arena *arena;
} hand_op;

static mf_rc hand_run(mf_conn *conn, void *ctx, mf_err *err) {
    hand_op *op = ctx;
    mf_job_row row;
    MF_TRY(conn->ops->job_get(conn, op->id, op->arena, &row, err));
    return op->drop
               ? conn->ops->job_drop(conn, row.user_id, op->id, err)
               : conn->ops->job_retry(conn, row.user_id, op->id, now_us(op->jobs), err);
}

static mf_rc by_hand(mf_jobs *jobs, mf_uuid id, bool drop, mf_err *err) {
    hand_op op = {.jobs = jobs, .id = id, .drop = drop};
    MF_TRY(mf_arena_new(CLAIM_ARENA_MAX, &op.arena, err));
    mf_rc rc = mf_writer_run(jobs->options.writer, hand_run, &op, err);
    mf_arena_free(op.arena);
    if (rc == MF_OK) {
        mf_mutex_lock(&jobs->jobs_mu);
        jobs->ends += drop;
        mf_cond_broadcast(&jobs->ended_cond);
        mf_mutex_unlock(&jobs->jobs_mu);
        mf_jobs_wake(jobs); /* it is due, or the next of its lane may be */
    }
    return rc;
}

mf_rc mf_jobs_retry(mf_jobs *jobs, mf_uuid id, mf_err *err) {
    return by_hand(jobs, id, false, err);
}

mf_rc mf_jobs_drop(mf_jobs *jobs, mf_uuid id, mf_err *err) {
    return by_hand(jobs, id, true, err);
}

/* --- figures --- */

mf_rc mf_jobs_get_counts(mf_jobs *jobs, mf_arena *arena, mf_job_counts **rows,
                         size_t *count, mf_err *err) {
    count_read r = {.arena = arena};
    MF_TRY(load_counts(jobs, &r, err));
    *rows = r.rows;
    *count = r.count;
    return MF_OK;
}

static void add_counts(mf_jobs *jobs, const count_read *r, mf_jobs_stats *out) {
    int64_t at_us = now_us(jobs);
    for (size_t i = 0; i < r->count; i++) {
        const mf_job_counts *row = &r->rows[i];
        out->open += row->open;
        out->running += row->running;
        out->dead += row->dead;
        if (row->oldest_due_us < at_us) {
            int64_t age_ms = (at_us - row->oldest_due_us) / US_PER_MS;
            out->oldest_age_ms =
                age_ms > out->oldest_age_ms ? age_ms : out->oldest_age_ms;
        }
    }
}

mf_rc mf_jobs_get_stats(mf_jobs *jobs, mf_jobs_stats *out, mf_err *err) {
    count_read r = {0};
    mf_jobs_stats stats = {0};
    MF_TRY(mf_arena_new(COUNT_ARENA_MAX, &r.arena, err));
    mf_rc rc = load_counts(jobs, &r, err);
    if (rc == MF_OK) {
        add_counts(jobs, &r, &stats);
    }
    mf_arena_free(r.arena);
    if (rc != MF_OK) {
        return rc;
    }
    stats.queued = atomic_load(&jobs->queued);
    stats.done = atomic_load(&jobs->done);
    stats.failed = atomic_load(&jobs->failed);
    stats.retried = atomic_load(&jobs->retried);
    stats.died = atomic_load(&jobs->died);
    stats.put_back = atomic_load(&jobs->put_back);
    stats.recovered = atomic_load(&jobs->recovered);
    mf_mutex_lock(&jobs->jobs_mu);
    stats.workers = jobs->slot_count;
    stats.workers_busy = jobs->busy;
    stats.workers_max = jobs->options.workers_max;
    stats.store_failing = jobs->claim_failures > 0;
    mf_mutex_unlock(&jobs->jobs_mu);
    mf_histogram_get_summary(&jobs->run_ns, &stats.run_ns);
    *out = stats;
    return MF_OK;
}
