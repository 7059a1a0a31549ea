/* flush_manager.c - a queue of users, and the threads that serve it.
 *
 *          wake                     a worker is free
 *   IDLE ---------> READY (in turn) -----------------> RUNNING --nothing owed--> IDLE
 *                     ^                                 |   |
 *                     |            more, or woken again |   | vectors wait, or it
 * failed
 *                     +---------------------------------+   v
 *                     +---------- its time has come ----- LATER (by time)
 *
 * The lists run through the users themselves, so waking one allocates nothing and
 * cannot fail; that matters because the writer thread does it for every commit.
 *
 * "Hurry" means that vectors are committed now: somebody flushes, or there are more
 * active users than allowed and those here could leave if they owed nothing.  It never
 * shortens the wait after a failure. */
#include "service/flush_manager.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "os/cpu.h"
#include "service/user_impl.h"

typedef struct user_list {
    mf_user *first, *last;
} user_list;

struct mf_flush_manager {
    mf_flush_manager_options options;
    mf_thread *threads; /* [options.thread_count] */
    atomic_bool stop;
    atomic_size_t started; /* threads that have taken their number */

    mf_mutex pool_mu;    /* guards all below */
    mf_cond work_cond;   /* something to do */
    mf_cond idle_cond;   /* a user became idle */
    user_list ready;     /* first in, first out */
    user_list later;     /* rising due_ns */
    size_t busy;         /* users not IDLE */
    size_t flushing;     /* callers of flush */
    size_t backlog_at;   /* place in the options' backlog */
    size_t backlog_open; /* ids taken from it whose users are not yet in the pool */
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

static void make_ready_locked(mf_flush_manager *pool, mf_user *user)
    MF_REQUIRES(pool->pool_mu) {
    user->work.state = MF_WORK_READY;
    list_insert_after(&pool->ready, pool->ready.last, user);
    mf_cond_signal(&pool->work_cond);
}

/* Most users wait equally long, so the place is nearly always at the end. */
static void make_later_locked(mf_flush_manager *pool, mf_user *user,
                              mf_work_result result) MF_REQUIRES(pool->pool_mu) {
    user->work.state = MF_WORK_LATER;
    user->work.due_ns = result.due_ns;
    user->work.retry = result.retry;
    mf_user *place = pool->later.last;
    while (place != NULL && place->work.due_ns > result.due_ns) {
        place = place->work.prev;
    }
    list_insert_after(&pool->later, place, user);
    mf_cond_signal(&pool->work_cond);
}

void mf_flush_manager_wake(mf_flush_manager *pool, mf_user *user) {
    mf_mutex_lock(&pool->pool_mu);
    switch (user->work.state) {
    case MF_WORK_IDLE:
        (void)mf_user_ref(user);
        pool->busy++;
        make_ready_locked(pool, user);
        break;
    case MF_WORK_LATER:
        if (!user->work.retry) {
            list_unlink(&pool->later, user);
            make_ready_locked(pool, user);
        }
        break;
    case MF_WORK_RUNNING:
        user->work.again = true;
        break;
    case MF_WORK_READY:
        break;
    }
    mf_mutex_unlock(&pool->pool_mu);
}

void mf_flush_manager_notice(mf_flush_manager *pool, mf_user *user) {
    mf_mutex_lock(&pool->pool_mu);
    if (user->work.state == MF_WORK_IDLE) {
        (void)mf_user_ref(user);
        pool->busy++;
        make_ready_locked(pool, user);
    } else if (user->work.state == MF_WORK_RUNNING) {
        user->work.again = true;
    }
    mf_mutex_unlock(&pool->pool_mu);
}

/* --- workers --- */

typedef struct job {
    mf_user *user; /* NULL: make `backlog_id` a user and wake it */
    mf_uuid backlog_id;
    bool hurry;
} job;

static bool is_due(const mf_user *user, bool hurry, int64_t now_ns) {
    return user->work.due_ns <= now_ns || (hurry && !user->work.retry);
}

/* The first user of the later list whose time has come. */
static mf_user *find_due_locked(mf_flush_manager *pool, bool hurry)
    MF_REQUIRES(pool->pool_mu) {
    int64_t now_ns = mf_now_ns();
    mf_user *user = pool->later.first;
    while (hurry && user != NULL && !is_due(user, hurry, now_ns)) {
        user = user->work.next;
    }
    return user != NULL && is_due(user, hurry, now_ns) ? user : NULL;
}

static bool take_user_locked(mf_flush_manager *pool, bool hurry, job *out)
    MF_REQUIRES(pool->pool_mu) {
    mf_user *user = find_due_locked(pool, hurry);
    if (user != NULL) {
        list_unlink(&pool->later, user);
    } else if (pool->ready.first != NULL) {
        user = pool->ready.first;
        list_unlink(&pool->ready, user);
    } else {
        return false;
    }
    user->work.state = MF_WORK_RUNNING;
    user->work.again = false;
    *out = (job){.user = user, .hurry = hurry};
    return true;
}

/* Waits for something to do; false when the pool stops. */
static bool next_job(mf_flush_manager *pool, job *out) {
    bool got = false;
    mf_mutex_lock(&pool->pool_mu);
    while (!got && !atomic_load(&pool->stop)) {
        bool hurry = pool->flushing > 0 || mf_registry_is_over(pool->options.registry);
        if (take_user_locked(pool, hurry, out)) {
            got = true;
        } else if (pool->backlog_at < pool->options.backlog_count) {
            *out = (job){.backlog_id = pool->options.backlog[pool->backlog_at++]};
            pool->backlog_open++;
            got = true;
        } else {
            int64_t until_ns =
                pool->later.first != NULL ? pool->later.first->work.due_ns : INT64_MAX;
            (void)mf_cond_wait(&pool->work_cond, &pool->pool_mu, until_ns);
        }
    }
    mf_mutex_unlock(&pool->pool_mu);
    return got;
}

static void finish_user(mf_flush_manager *pool, mf_user *user, mf_work_result result) {
    bool idle = false;
    mf_mutex_lock(&pool->pool_mu);
    if (result.retry) {
        make_later_locked(pool, user, result);
    } else if (user->work.again || result.due_ns == INT64_MIN) {
        make_ready_locked(pool, user);
    } else if (result.due_ns == INT64_MAX) {
        user->work.state = MF_WORK_IDLE;
        pool->busy--;
        idle = true;
    } else {
        make_later_locked(pool, user, result);
    }
    mf_cond_broadcast(&pool->idle_cond);
    mf_mutex_unlock(&pool->pool_mu);
    if (idle) {
        mf_user_unref(user);
        mf_registry_trim(pool->options.registry);
    }
}

/* A user the store's backlog names.  One deleted since has nothing left to do. */
static void take_up(mf_flush_manager *pool, mf_uuid id) {
    mf_user *user;
    mf_err err = {0};
    mf_rc rc = pool->options.resolve(pool->options.ctx, id, &user, &err);
    if (rc == MF_OK) {
        mf_user_set_noted(user);
        mf_flush_manager_wake(pool, user);
        mf_user_unref(user);
    } else if (rc != MF_E_NOTFOUND) {
        mf_error_cache_log(pool->options.errors, MF_LOG_WARN, "backlog_user_failed",
                           &err);
    }
    mf_mutex_lock(&pool->pool_mu);
    pool->backlog_open--;
    mf_cond_broadcast(&pool->idle_cond);
    mf_mutex_unlock(&pool->pool_mu);
}

static void worker(void *arg) {
    mf_flush_manager *pool = arg;
    size_t number = atomic_fetch_add(&pool->started, 1);
    mf_thread_set_background();
    if (pool->options.pin) {
        mf_thread_pin(number);
    }
    job next;
    while (next_job(pool, &next)) {
        if (next.user == NULL) {
            take_up(pool, next.backlog_id);
        } else {
            finish_user(pool, next.user,
                        mf_user_work(next.user, next.hurry, &pool->stop));
        }
    }
}

/* --- life
 *
 *
 * -------------------------------------------------------------------------------------
 */

mf_rc mf_flush_manager_open(const mf_flush_manager_options *options,
                            mf_flush_manager **out, mf_err *err) {
    mf_flush_manager *pool = mf_alloc_zero(1, sizeof(*pool));
    mf_thread *threads = mf_alloc_zero(options->thread_count, sizeof(*threads));
    if (pool == NULL || threads == NULL) {
        mf_free(pool);
        mf_free(threads);
        mf_free(options->backlog);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu embedding threads",
                       options->thread_count);
    }
    pool->options = *options;
    pool->threads = threads;
    atomic_init(&pool->stop, false);
    mf_mutex_init(&pool->pool_mu, MF_RANK_POOL);
    mf_cond_init(&pool->work_cond);
    mf_cond_init(&pool->idle_cond);
    for (size_t i = 0; i < options->thread_count; i++) {
        mf_rc rc = mf_thread_start(&threads[i], "mf-embed", worker, pool, err);
        if (rc != MF_OK) {
            mf_flush_manager_close(pool);
            return rc;
        }
    }
    *out = pool;
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
        if (!mf_user_is_gone(user) && mf_user_commit(user, &err) != MF_OK) {
            mf_error_cache_log(errors, MF_LOG_WARN, "last_commit_failed", &err);
        }
        mf_user_unref(user);
    }
}

void mf_flush_manager_close(mf_flush_manager *pool) {
    if (pool == NULL) {
        return;
    }
    mf_mutex_lock(&pool->pool_mu);
    atomic_store(&pool->stop, true);
    mf_cond_broadcast(&pool->work_cond);
    mf_mutex_unlock(&pool->pool_mu);
    mf_embedder_cancel(pool->options.embedder, &pool->stop);
    for (size_t i = 0; i < pool->options.thread_count; i++) {
        mf_thread_join(&pool->threads[i]);
    }
    commit_list(&pool->ready, pool->options.errors);
    commit_list(&pool->later, pool->options.errors);
    mf_cond_done(&pool->idle_cond);
    mf_cond_done(&pool->work_cond);
    mf_mutex_done(&pool->pool_mu);
    mf_free(pool->options.backlog);
    mf_free(pool->threads);
    mf_free(pool);
}

static bool owes_locked(const mf_flush_manager *pool, const mf_user *user)
    MF_REQUIRES(pool->pool_mu) {
    if (user != NULL) {
        return user->work.state != MF_WORK_IDLE;
    }
    return pool->busy > 0 || pool->backlog_open > 0 ||
           pool->backlog_at < pool->options.backlog_count;
}

mf_rc mf_flush_manager_flush(mf_flush_manager *pool, mf_user *user, int64_t deadline_ns,
                             mf_err *err) {
    if (user != NULL) {
        mf_flush_manager_wake(pool, user);
    }
    mf_mutex_lock(&pool->pool_mu);
    pool->flushing++;
    mf_cond_broadcast(&pool->work_cond);
    bool in_time = true;
    while (in_time && owes_locked(pool, user)) {
        in_time = mf_cond_wait(&pool->idle_cond, &pool->pool_mu, deadline_ns);
    }
    bool owes = owes_locked(pool, user);
    pool->flushing--;
    mf_mutex_unlock(&pool->pool_mu);
    return owes ? MF_FAIL(err, MF_E_TIMEOUT, "not everything is embedded yet") : MF_OK;
}
