/* cpu.h - how many cores there are, and a thread's share of them. */
#ifndef MF_OS_CPU_H
#define MF_OS_CPU_H

#include <stddef.h>

size_t mf_cpu_count(void); /* cores this process may run on; at least 1 */

/* Lowers the calling thread's priority (nice 10): it gets what requests leave over. */
void mf_thread_set_background(void);

/* Keeps the calling thread on one of the cores this process may run on: number `index`
 * of them, counted around.  A refusal leaves the thread as it was. */
void mf_thread_pin(size_t index);

#endif
