/* fault.h - places where a test can make something fail.
 *
 * `if (MF_FAULT("store.commit")) return MF_FAIL(...)`.  Compiled in with -DMF_FAULTS
 * (all builds but release); in release it is a constant false.  A test arms a point to
 * fire at its n-th hit, once or for ever; the environment does the same for a whole
 * process: MEMFUSE_FAULT=name:hit:action, action one of fail, kill, exit, delay.
 *
 * The actions: fail makes the point fail once, kill ends the process as SIGKILL does,
 * exit leaves at once with status MF_FAULT_EXIT_STATUS, delay waits MF_FAULT_DELAY_MS
 * and goes on.  A hit is counted only while its point is armed.  Safe from any
 * thread. */
#ifndef MF_BASE_FAULT_H
#define MF_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef MF_FAULTS
#define MF_FAULT(name) mf_fault_hit(name)
#else
#define MF_FAULT(name) (false)
#endif

#define MF_FAULT_ALLOC "alloc"               /* in base/alloc: no memory */
#define MF_FAULT_THREAD_START "thread.start" /* in base/mutex: no thread */

enum { MF_FAULT_EXIT_STATUS = 86, MF_FAULT_DELAY_MS = 200, MF_FAULT_NAME_MAX = 48 };

bool mf_fault_hit(const char *name);
/* The point fails at hit number `nth` (from 0), and at every later one if
 * `for_ever`. */
void mf_fault_arm(const char *name, uint64_t nth, bool for_ever);
void mf_fault_disarm(void); /* all points; forgets the counts */
bool mf_fault_fired(void);  /* since the last arm */
/* Reads MEMFUSE_FAULT; a malformed value aborts with a message.  Release builds have no
 * points and do not look at it. */
void mf_fault_setup_from_env(void);

/* Runs the block with the point failing at hit 0, 1, 2, ... until a run meets no
 * fault. */
#define MF_EACH_FAULT(name, n)                                                         \
    for (uint64_t n = (mf_fault_disarm(), 0), mf_fault_go_ = 1;                        \
         mf_fault_go_ && (mf_fault_arm((name), n, false), 1);                          \
         mf_fault_go_ = mf_fault_fired(), n++, mf_fault_disarm())

#endif
