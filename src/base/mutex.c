/* mutex.c - locks with a rank, condition variables, threads.
 *
 * Debug builds keep, per thread, the list of locks it holds.  Taking a lock compares
 * its rank with the highest one on the list, which finds a deadlock in the making on
 * the first run through the code, not on the run in which two threads meet.  Waiting on
 * a condition leaves the mutex on the list: the thread holds it again before it can
 * take another. */
#include "base/mutex.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"

enum { THREAD_NAME_MAX = 15 };

#ifdef MF_DEBUG
enum { HELD_MAX = 16 };

typedef struct held_lock {
    const void *lock;
    mf_lock_rank rank;
} held_lock;

static _Thread_local held_lock held[HELD_MAX];
static _Thread_local size_t held_count;

static void held_check(mf_lock_rank rank) {
    for (size_t i = 0; i < held_count; i++) {
        MF_ASSERT(rank > held[i].rank);
    }
    MF_ASSERT(held_count < HELD_MAX);
}

static void held_add(const void *lock, mf_lock_rank rank) {
    held[held_count++] = (held_lock){lock, rank};
}

static bool held_has(const void *lock) {
    for (size_t i = 0; i < held_count; i++) {
        if (held[i].lock == lock) {
            return true;
        }
    }
    return false;
}

static void held_remove(const void *lock) {
    MF_ASSERT(held_has(lock));
    size_t i = held_count - 1;
    while (held[i].lock != lock) {
        i--;
    }
    held_count--;
    memmove(&held[i], &held[i + 1], (held_count - i) * sizeof held[0]);
}
#else
static void held_check(mf_lock_rank rank) {
    (void)rank;
}
static void held_add(const void *lock, mf_lock_rank rank) {
    (void)lock;
    (void)rank;
}
static void held_remove(const void *lock) {
    (void)lock;
}
#endif

/* A result other than 0 from these calls is a bug in the caller. */
static void must(int rc) {
    MF_ASSERT(rc == 0);
}

void mf_mutex_init(mf_mutex *mu, mf_lock_rank rank) {
    must(pthread_mutex_init(&mu->os, NULL));
    mu->rank = rank;
}

void mf_mutex_done(mf_mutex *mu) {
    must(pthread_mutex_destroy(&mu->os));
}

MF_TSA(no_thread_safety_analysis)
void mf_mutex_lock(mf_mutex *mu) {
    held_check(mu->rank);
    must(pthread_mutex_lock(&mu->os));
    held_add(mu, mu->rank);
}

MF_TSA(no_thread_safety_analysis)
void mf_mutex_unlock(mf_mutex *mu) {
    held_remove(mu);
    must(pthread_mutex_unlock(&mu->os));
}

void mf_rwlock_init(mf_rwlock *lock, mf_lock_rank rank) {
    must(pthread_rwlock_init(&lock->os, NULL));
    lock->rank = rank;
}

void mf_rwlock_done(mf_rwlock *lock) {
    must(pthread_rwlock_destroy(&lock->os));
}

MF_TSA(no_thread_safety_analysis)
void mf_rwlock_read(mf_rwlock *lock) {
    held_check(lock->rank);
    must(pthread_rwlock_rdlock(&lock->os));
    held_add(lock, lock->rank);
}

MF_TSA(no_thread_safety_analysis)
void mf_rwlock_write(mf_rwlock *lock) {
    held_check(lock->rank);
    must(pthread_rwlock_wrlock(&lock->os));
    held_add(lock, lock->rank);
}

MF_TSA(no_thread_safety_analysis)
void mf_rwlock_unlock_read(mf_rwlock *lock) {
    held_remove(lock);
    must(pthread_rwlock_unlock(&lock->os));
}

MF_TSA(no_thread_safety_analysis)
void mf_rwlock_unlock_write(mf_rwlock *lock) {
    held_remove(lock);
    must(pthread_rwlock_unlock(&lock->os));
}

void mf_cond_init(mf_cond *cond) {
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&cond->os, &attr));
    must(pthread_condattr_destroy(&attr));
}

void mf_cond_done(mf_cond *cond) {
    must(pthread_cond_destroy(&cond->os));
}

/* The kernel knows only the system's clock.  When a test has put another one in place,
 * what is left until the deadline is measured on that one and waited for on this. */
static struct timespec system_deadline(int64_t left_ns) {
    const mf_clock *clock = mf_clock_system();
    int64_t at = 0;
    if (__builtin_add_overflow(clock->mono_ns(clock->ctx), left_ns, &at)) {
        at = INT64_MAX;
    }
    return (struct timespec){.tv_sec = at / MF_NS_PER_S, .tv_nsec = at % MF_NS_PER_S};
}

bool mf_cond_wait(mf_cond *cond, mf_mutex *mu, int64_t deadline_ns) {
#ifdef MF_DEBUG
    MF_ASSERT(held_has(mu));
#endif
    if (deadline_ns == MF_NEVER) {
        must(pthread_cond_wait(&cond->os, &mu->os));
        return true;
    }
    int64_t now = mf_now_ns();
    if (deadline_ns <= now) {
        return false;
    }
    struct timespec until = system_deadline(deadline_ns - now);
    int rc = pthread_cond_timedwait(&cond->os, &mu->os, &until);
    MF_ASSERT(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void mf_cond_signal(mf_cond *cond) {
    must(pthread_cond_signal(&cond->os));
}

void mf_cond_broadcast(mf_cond *cond) {
    must(pthread_cond_broadcast(&cond->os));
}

typedef struct thread_start {
    void (*run)(void *);
    void *arg;
    char name[THREAD_NAME_MAX + 1];
} thread_start;

static void *thread_main(void *p) {
    thread_start start = *(thread_start *)p;
    mf_free(p);
    /* A thread without its name works as well, so a refusal is ignored. */
    (void)pthread_setname_np(pthread_self(), start.name);
    start.run(start.arg);
    return NULL;
}

mf_rc mf_thread_start(mf_thread *thread, const char *name, void (*run)(void *),
                      void *arg, mf_err *err) {
    thread_start *start = mf_alloc_zero(1, sizeof *start);
    if (start == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to start thread %s", name);
    }
    start->run = run;
    start->arg = arg;
    memcpy(start->name, name, strnlen(name, THREAD_NAME_MAX));
    /* A new thread inherits the mask, so none of its instructions can meet a signal. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    pthread_t os;
    int sys = MF_FAULT(MF_FAULT_THREAD_START)
                  ? EAGAIN
                  : pthread_create(&os, NULL, thread_main, start);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (sys != 0) {
        mf_free(start);
        return MF_FAIL_SYS(err, MF_E_NOMEM, sys, "cannot start thread %s", name);
    }
    thread->os = os;
    thread->started = true;
    return MF_OK;
}

void mf_thread_join(mf_thread *thread) {
    if (thread->started) {
        must(pthread_join(thread->os, NULL));
        thread->started = false;
    }
}
