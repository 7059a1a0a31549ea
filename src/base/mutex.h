/* mutex.h - locks with a rank, condition variables, threads.
 *
 * Debug builds check that ranks only rise within a thread and that the holder unlocks.
 * A lock is named for what it protects (`registry_mu`). */
#ifndef MF_BASE_MUTEX_H
#define MF_BASE_MUTEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/lock_rank.h"

#if defined(__clang__)
#define MF_TSA(x) __attribute__((x))
#else
#define MF_TSA(x)
#endif
#define MF_REQUIRES(...) MF_TSA(requires_capability(__VA_ARGS__))

typedef struct MF_TSA(capability("mutex")) mf_mutex {
    pthread_mutex_t os;
    mf_lock_rank rank;
} mf_mutex;

void mf_mutex_init(mf_mutex *mu, mf_lock_rank rank);
void mf_mutex_done(mf_mutex *mu);
void mf_mutex_lock(mf_mutex *mu) MF_TSA(acquire_capability(*mu));
void mf_mutex_unlock(mf_mutex *mu) MF_TSA(release_capability(*mu));

typedef struct MF_TSA(capability("rwlock")) mf_rwlock {
    pthread_rwlock_t os;
    mf_lock_rank rank;
} mf_rwlock;

void mf_rwlock_init(mf_rwlock *lock, mf_lock_rank rank);
void mf_rwlock_done(mf_rwlock *lock);
void mf_rwlock_read(mf_rwlock *lock) MF_TSA(acquire_shared_capability(*lock));
void mf_rwlock_write(mf_rwlock *lock) MF_TSA(acquire_capability(*lock));
void mf_rwlock_unlock_read(mf_rwlock *lock) MF_TSA(release_shared_capability(*lock));
void mf_rwlock_unlock_write(mf_rwlock *lock) MF_TSA(release_capability(*lock));

typedef struct mf_cond {
    pthread_cond_t os; /* on the monotonic clock */
} mf_cond;

void mf_cond_init(mf_cond *cond);
void mf_cond_done(mf_cond *cond);
/* Waits until signalled or `deadline_ns` (monotonic; INT64_MAX waits for ever).  false
 * when the deadline passed.  Spurious wake-ups happen: loop on the condition. */
bool mf_cond_wait(mf_cond *cond, mf_mutex *mu, int64_t deadline_ns);
void mf_cond_signal(mf_cond *cond);
void mf_cond_broadcast(mf_cond *cond);

typedef struct mf_thread {
    pthread_t os;
    bool started;
} mf_thread;

/* Starts `run(arg)`; `name` (15 bytes at most) shows up in top and in debuggers.  All
 * signals are blocked in the new thread.  MF_E_NOMEM when no thread can be had (fault
 * point thread.start). */
MF_CHECKED mf_rc mf_thread_start(mf_thread *thread, const char *name,
                                 void (*run)(void *), void *arg, mf_err *err);
void mf_thread_join(mf_thread *thread); /* fine on one never started */

#endif
