/* flush_manager.c - a queue of users, and the threads that serve it.
 *
 *          wake                     a worker is free
 *   IDLE ---------> READY (in turn) -----------------> RUNNING --nothing owed--> IDLE
 *                     ^                                 |   |
 *                     |            more, or woken again |   | vectors wait,
 *                     +---------------------------------+   v or it failed
 *                     +---------- its time has come ----- LATER (by time)
 *
 * The lists run through the users themselves, so waking one allocates nothing and
 * cannot fail; that matters because the writer thread does it for every commit.
 *
 * A turn is forced, that is, vectors are committed now, when somebody flushes the user,
 * or when there are more active users than allowed and those here could leave if they
 * owed nothing.  That never shortens the wait after a failure. */
#include "service/flush_manager.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/retry.h"
#include "base/rng.h"
#include "os/cpu.h"
#include "service/user_impl.h"

typedef struct user_list {
    mf_user *first, *last;
} user_list;

enum {
    EAGER_TRIES = 3,      /* failures in a row before only the longest wait is left */
    SWEEP_USERS_MAX = 16, /* users whose windows are emptied together */
    SWEEPS_PER_PERIOD = 4 /* looks in the shortest time a window may be due after */
};
static const int64_t SWEEP_MIN_NS = INT64_C(10) * MF_NS_PER_MS;
static const int64_t SWEEP_MAX_NS = INT64_C(15) * MF_NS_PER_S;

struct mf_flush_manager {
    mf_flush_manager_options options;
    mf_thread *threads; /* [options.thread_count] */
    atomic_bool stop;
    atomic_size_t started; /* threads that have taken their number */
    atomic_ullong window_flushes, window_failures;

    mf_mutex queue_mu; /* guards all below */
    mf_cond work_cond; /* something to do */
    mf_cond idle_cond; /* a user became idle */
    user_list ready;   /* first in, first out */
    user_list later;   /* rising due_ns */
    size_t ready_count, later_count, retry_count, running;
    size_t busy;         /* users not IDLE */
    size_t flushing;     /* callers that flush everybody */
    size_t backlog_at;   /* place in the options' backlog */
    size_t backlog_open; /* ids taken from it whose users are not yet in the queue */
    int64_t sweep_ns;    /* next look at the windows; INT64_MAX: somebody looks */
    uint64_t delayed, done, failed, retried;
    mf_rng rng; /* for the waits after failures */
};

/* --- the lists --- */

static void list_unlink(user_list *list, mf_user *user) {
    *(user->work.prev != NULL ? &user->work.prev->work.next : &list->first) =
        user->work.next;
    *(user->work.next != NULL ? &user->work.next->work.prev : &list->last) =
        user->work.prev;
    user->work.prev = NULL;
    user->work.next = NULL;
}

static void list_insert_after(user_list *list, mf_user *place, mf_user *user) {
    user->work.prev = place;
    user->work.next = place != NULL ? place->work.next : list->first;
    *(place != NULL ? &place->work.next : &list->first) = user;
    *(user->work.next != NULL ? &user->work.next->work.prev : &list->last) = user;
}

static void make_ready_locked(mf_flush_manager *manager, mf_user *user)
    MF_REQUIRES(manager->queue_mu) {
    const mf_config *config = mf_settings_get(manager->options.settings);
    manager->delayed +=
        manager->ready_count >= (size_t)config->buffer_flush_queue_max ? 1 : 0;
    user->work.state = MF_WORK_READY;
    manager->ready_count++;
    list_insert_after(&manager->ready, manager->ready.last, user);
    mf_cond_signal(&manager->work_cond);
}

/* Most users wait equally long, so the place is nearly always at the end. */
static void make_later_locked(mf_flush_manager *manager, mf_user *user, int64_t due_ns,
                              bool retry) MF_REQUIRES(manager->queue_mu) {
    user->work.state = MF_WORK_LATER;
    user->work.due_ns = due_ns;
    user->work.retry = retry;
    manager->later_count++;
    manager->retry_count += retry ? 1 : 0;
    mf_user *place = manager->later.last;
    while (place != NULL && place->work.due_ns > due_ns) {
        place = place->work.prev;
    }
    list_insert_after(&manager->later, place, user);
    mf_cond_signal(&manager->work_cond);
}

static void leave_later_locked(mf_flush_manager *manager, mf_user *user)
    MF_REQUIRES(manager->queue_mu) {
    list_unlink(&manager->later, user);
    manager->later_count--;
    manager->retry_count -= user->work.retry ? 1 : 0;
}

static void enter_locked(mf_flush_manager *manager, mf_user *user)
    MF_REQUIRES(manager->queue_mu) {
    (void)mf_user_ref(user);
    manager->busy++;
    make_ready_locked(manager, user);
}

static void wake_locked(mf_flush_manager *manager, mf_user *user)
    MF_REQUIRES(manager->queue_mu) {
    switch (user->work.state) {
    case MF_WORK_IDLE:
        enter_locked(manager, user);
        break;
    case MF_WORK_LATER:
        if (!user->work.retry) {
            leave_later_locked(manager, user);
            make_ready_locked(manager, user);
        }
        break;
    case MF_WORK_RUNNING:
        user->work.again = true;
        break;
    case MF_WORK_READY:
        break;
    }
}

void mf_flush_manager_wake(mf_flush_manager *manager, mf_user *user) {
    if (manager->options.embedder == NULL) {
        return;
    }
    mf_mutex_lock(&manager->queue_mu);
    wake_locked(manager, user);
    mf_mutex_unlock(&manager->queue_mu);
}

void mf_flush_manager_notice(mf_flush_manager *manager, mf_user *user) {
    if (manager->options.embedder == NULL) {
        return;
    }
    mf_mutex_lock(&manager->queue_mu);
    if (user->work.state == MF_WORK_IDLE) {
        enter_locked(manager, user);
    } else if (user->work.state == MF_WORK_RUNNING) {
        user->work.again = true;
    }
    mf_mutex_unlock(&manager->queue_mu);
}

/* --- windows --- */

/* How long until the next look; INT64_MAX when nothing empties windows by itself. */
static int64_t sweep_period_ns(const mf_flush_manager *manager) {
    mf_flush_policy policy =
        mf_flush_policy_of(mf_settings_get(manager->options.settings));
    if (!policy.windows) {
        return SWEEP_MAX_NS; /* the settings may change */
    }
    bool timed = policy.strategy == MF_FLUSH_STRATEGY_TIME &&
                 policy.interval_ns < policy.idle_ns;
    int64_t period_ns =
        (timed ? policy.interval_ns : policy.idle_ns) / SWEEPS_PER_PERIOD;
    if (period_ns < SWEEP_MIN_NS) {
        return SWEEP_MIN_NS;
    }
    return period_ns < SWEEP_MAX_NS ? period_ns : SWEEP_MAX_NS;
}

typedef struct sweep {
    int64_t now_ns;
    mf_user *users[SWEEP_USERS_MAX]; /* a reference each */
    size_t count;
} sweep;

static void sweep_look(void *ctx, mf_user *user) {
    sweep *s = ctx;
    if (s->count < SWEEP_USERS_MAX && mf_user_windows_due(user, s->now_ns)) {
        s->users[s->count++] = mf_user_ref(user);
    }
}

/* Empties the windows of those found, together, so that they share a commit; how many
 * could be. */
static size_t sweep_flush(mf_flush_manager *manager, const sweep *s) {
    mf_window_work *works[SWEEP_USERS_MAX];
    size_t count = 0;
    size_t emptied = 0;
    for (size_t i = 0; i < s->count; i++) {
        count += mf_user_windows_begin(s->users[i], s->now_ns, &works[count]) ? 1 : 0;
    }
    for (size_t i = 0; i < count; i++) {
        mf_err err = {0};
        if (mf_user_windows_end(works[i], &err) == MF_OK) {
            emptied++;
        } else {
            atomic_fetch_add(&manager->window_failures, 1);
            mf_error_cache_log(manager->options.errors, MF_LOG_WARN,
                               "window_flush_failed", &err);
        }
    }
    atomic_fetch_add(&manager->window_flushes, emptied);
    return emptied;
}

/* As long as there are full hands and all goes well; the rest waits for the next. */
static void sweep_windows(mf_flush_manager *manager) {
    bool more = true;
    while (more && !atomic_load(&manager->stop)) {
        sweep s = {.now_ns = mf_now_ns()};
        mf_registry_each(manager->options.registry, sweep_look, &s);
        more = sweep_flush(manager, &s) == SWEEP_USERS_MAX;
        for (size_t i = 0; i < s.count; i++) {
            mf_user_unref(s.users[i]);
        }
    }
    int64_t next_ns = mf_now_ns() + sweep_period_ns(manager);
    mf_mutex_lock(&manager->queue_mu);
    manager->sweep_ns = next_ns;
    mf_cond_signal(&manager->work_cond);
    mf_mutex_unlock(&manager->queue_mu);
}

/* --- workers --- */

typedef enum job_kind { JOB_USER, JOB_BACKLOG, JOB_WINDOWS } job_kind;

typedef struct job {
    job_kind kind;
    mf_user *user;
    mf_uuid backlog_id; /* make it a user and wake it */
    mf_flush_trigger forced;
} job;

static mf_flush_trigger forced_locked(const mf_flush_manager *manager,
                                      const mf_user *user, bool over)
    MF_REQUIRES(manager->queue_mu) {
    if (manager->flushing > 0 || user->work.wanted > 0) {
        return MF_FLUSH_MANUAL;
    }
    return over ? MF_FLUSH_LEAVING : MF_FLUSH_NONE;
}

/* The first user of the later list whose time has come. */
static mf_user *find_due_locked(mf_flush_manager *manager, bool over)
    MF_REQUIRES(manager->queue_mu) {
    int64_t now_ns = mf_now_ns();
    bool all = over || manager->flushing > 0;
    for (mf_user *user = manager->later.first; user != NULL; user = user->work.next) {
        if (user->work.due_ns <= now_ns || (all && !user->work.retry)) {
            return user;
        }
        if (!all) {
            break;
        }
    }
    return NULL;
}

static bool take_user_locked(mf_flush_manager *manager, job *out)
    MF_REQUIRES(manager->queue_mu) {
    bool over = mf_registry_is_over(manager->options.registry);
    mf_user *user = find_due_locked(manager, over);
    if (user != NULL) {
        leave_later_locked(manager, user);
        manager->retried += user->work.retry ? 1 : 0;
    } else if (manager->ready.first != NULL) {
        user = manager->ready.first;
        list_unlink(&manager->ready, user);
        manager->ready_count--;
    } else {
        return false;
    }
    user->work.state = MF_WORK_RUNNING;
    user->work.again = false;
    manager->running++;
    *out = (job){
        .kind = JOB_USER, .user = user, .forced = forced_locked(manager, user, over)};
    return true;
}

/* Waits for something to do; false when the manager stops. */
static bool next_job(mf_flush_manager *manager, job *out) {
    bool got = false;
    mf_mutex_lock(&manager->queue_mu);
    while (!got && !atomic_load(&manager->stop)) {
        if (manager->sweep_ns <= mf_now_ns()) {
            manager->sweep_ns = INT64_MAX;
            *out = (job){.kind = JOB_WINDOWS};
            got = true;
        } else if (take_user_locked(manager, out)) {
            got = true;
        } else if (manager->backlog_at < manager->options.backlog_count) {
            *out = (job){.kind = JOB_BACKLOG,
                         .backlog_id = manager->options.backlog[manager->backlog_at++]};
            manager->backlog_open++;
            got = true;
        } else {
            int64_t until_ns = manager->sweep_ns;
            if (manager->later.first != NULL &&
                manager->later.first->work.due_ns < until_ns) {
                until_ns = manager->later.first->work.due_ns;
            }
            (void)mf_cond_wait(&manager->work_cond, &manager->queue_mu, until_ns);
        }
    }
    mf_mutex_unlock(&manager->queue_mu);
    return got;
}

static int64_t retry_at_locked(mf_flush_manager *manager, unsigned failures)
    MF_REQUIRES(manager->queue_mu) {
    int64_t delay_ns = failures <= EAGER_TRIES
                           ? mf_retry_delay_ns(MF_RETRY_FLUSH, failures, &manager->rng)
                           : mf_retry_get(MF_RETRY_FLUSH)->cap_ms * MF_NS_PER_MS;
    return mf_now_ns() + delay_ns;
}

static void finish_user(mf_flush_manager *manager, mf_user *user,
                        mf_work_result result) {
    bool idle = false;
    mf_mutex_lock(&manager->queue_mu);
    manager->running--;
    manager->done += result.failures == 0 ? 1 : 0;
    manager->failed += result.failures > 0 ? 1 : 0;
    if (result.failures > 0) {
        make_later_locked(manager, user, retry_at_locked(manager, result.failures),
                          true);
    } else if (user->work.again || result.due_ns == INT64_MIN) {
        make_ready_locked(manager, user);
    } else if (result.due_ns == INT64_MAX) {
        user->work.state = MF_WORK_IDLE;
        manager->busy--;
        idle = true;
    } else {
        make_later_locked(manager, user, result.due_ns, false);
    }
    mf_cond_broadcast(&manager->idle_cond);
    mf_mutex_unlock(&manager->queue_mu);
    if (idle) {
        mf_user_unref(user);
        mf_registry_trim(manager->options.registry);
    }
}

/* A user the store's backlog names.  One deleted since has nothing left to do. */
static void take_up(mf_flush_manager *manager, mf_uuid id) {
    mf_user *user;
    mf_err err = {0};
    mf_rc rc = manager->options.resolve(manager->options.ctx, id, &user, &err);
    if (rc == MF_OK) {
        mf_user_set_noted(user);
        mf_flush_manager_wake(manager, user);
        mf_user_unref(user);
    } else if (rc != MF_E_NOTFOUND) {
        mf_error_cache_log(manager->options.errors, MF_LOG_WARN, "backlog_user_failed",
                           &err);
    }
    mf_mutex_lock(&manager->queue_mu);
    manager->backlog_open--;
    mf_cond_broadcast(&manager->idle_cond);
    mf_mutex_unlock(&manager->queue_mu);
}

static void worker(void *arg) {
    mf_flush_manager *manager = arg;
    size_t number = atomic_fetch_add(&manager->started, 1);
    mf_thread_set_background();
    if (manager->options.pin) {
        mf_thread_pin(number);
    }
    job next;
    while (next_job(manager, &next)) {
        switch (next.kind) {
        case JOB_USER:
            finish_user(manager, next.user,
                        mf_user_work(next.user, next.forced, &manager->stop));
            break;
        case JOB_BACKLOG:
            take_up(manager, next.backlog_id);
            break;
        case JOB_WINDOWS:
            sweep_windows(manager);
            break;
        }
    }
}

/* --- life --- */

mf_rc mf_flush_manager_open(const mf_flush_manager_options *options,
                            mf_flush_manager **out, mf_err *err) {
    mf_flush_manager *manager = mf_alloc_zero(1, sizeof(*manager));
    mf_thread *threads = mf_alloc_zero(options->thread_count, sizeof(*threads));
    if (manager == NULL || threads == NULL) {
        mf_free(manager);
        mf_free(threads);
        mf_free(options->backlog);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu embedding threads",
                       options->thread_count);
    }
    manager->options = *options;
    manager->threads = threads;
    atomic_init(&manager->stop, false);
    mf_mutex_init(&manager->queue_mu, MF_RANK_POOL);
    mf_cond_init(&manager->work_cond);
    mf_cond_init(&manager->idle_cond);
    uint64_t seed;
    mf_random_bytes(&seed, sizeof seed);
    mf_rng_init(&manager->rng, seed);
    manager->sweep_ns = mf_now_ns() + sweep_period_ns(manager);
    const char *name = options->embedder != NULL ? "mf-embed" : "mf-flush";
    for (size_t i = 0; i < options->thread_count; i++) {
        mf_rc rc = mf_thread_start(&threads[i], name, worker, manager, err);
        if (rc != MF_OK) {
            mf_flush_manager_close(manager);
            return rc;
        }
    }
    *out = manager;
    return MF_OK;
}

/* After the threads are joined.  What cannot be committed stays noted in the
 * backlog. */
static void commit_list(user_list *list, mf_error_cache *errors) {
    while (list->first != NULL) {
        mf_user *user = list->first;
        list_unlink(list, user);
        user->work.state = MF_WORK_IDLE;
        mf_err err = {0};
        if (mf_user_commit(user, MF_FLUSH_SHUTDOWN, MF_NEVER, &err) != MF_OK) {
            mf_error_cache_log(errors, MF_LOG_WARN, "last_commit_failed", &err);
        }
        mf_user_unref(user);
    }
}

void mf_flush_manager_close(mf_flush_manager *manager) {
    if (manager == NULL) {
        return;
    }
    mf_mutex_lock(&manager->queue_mu);
    atomic_store(&manager->stop, true);
    mf_cond_broadcast(&manager->work_cond);
    mf_mutex_unlock(&manager->queue_mu);
    if (manager->options.embedder != NULL) {
        mf_embedder_cancel(manager->options.embedder, &manager->stop);
    }
    for (size_t i = 0; i < manager->options.thread_count; i++) {
        mf_thread_join(&manager->threads[i]);
    }
    commit_list(&manager->ready, manager->options.errors);
    commit_list(&manager->later, manager->options.errors);
    mf_cond_done(&manager->idle_cond);
    mf_cond_done(&manager->work_cond);
    mf_mutex_done(&manager->queue_mu);
    mf_free(manager->options.backlog);
    mf_free(manager->threads);
    mf_free(manager);
}

static bool owes_locked(const mf_flush_manager *manager, const mf_user *user)
    MF_REQUIRES(manager->queue_mu) {
    if (user != NULL) {
        return user->work.state != MF_WORK_IDLE;
    }
    return manager->busy > 0 || manager->backlog_open > 0 ||
           manager->backlog_at < manager->options.backlog_count;
}

mf_rc mf_flush_manager_flush(mf_flush_manager *manager, mf_user *user,
                             int64_t deadline_ns, mf_err *err) {
    if (manager->options.embedder == NULL) {
        return MF_OK;
    }
    mf_mutex_lock(&manager->queue_mu);
    size_t *wanted = user != NULL ? &user->work.wanted : &manager->flushing;
    (*wanted)++;
    if (user != NULL) {
        wake_locked(manager, user);
    }
    mf_cond_broadcast(&manager->work_cond);
    bool in_time = true;
    while (in_time && owes_locked(manager, user)) {
        in_time = mf_cond_wait(&manager->idle_cond, &manager->queue_mu, deadline_ns);
    }
    bool owes = owes_locked(manager, user);
    (*wanted)--;
    mf_mutex_unlock(&manager->queue_mu);
    return owes ? MF_FAIL(err, MF_E_TIMEOUT, "not everything is embedded yet") : MF_OK;
}

void mf_flush_manager_get_stats(mf_flush_manager *manager, mf_flush_stats *out) {
    const mf_config *config = mf_settings_get(manager->options.settings);
    mf_mutex_lock(&manager->queue_mu);
    *out = (mf_flush_stats){
        .workers = manager->options.thread_count,
        .queued = manager->ready_count,
        .queue_max = (size_t)config->buffer_flush_queue_max,
        .running = manager->running,
        .waiting = manager->later_count,
        .retrying = manager->retry_count,
        .delayed = manager->delayed,
        .done = manager->done,
        .failed = manager->failed,
        .retried = manager->retried,
    };
    mf_mutex_unlock(&manager->queue_mu);
    out->window_flushes = atomic_load(&manager->window_flushes);
    out->window_failures = atomic_load(&manager->window_failures);
}
