/* cpu.h - what the processor offers, and a thread's share of it. */
#ifndef MF_OS_CPU_H
#define MF_OS_CPU_H

#include <stdbool.h>
#include <stddef.h>

size_t mf_cpu_count(void); /* cores this process may run on; at least 1 */

/* What the kernels named _avx2 (AVX2, FMA, F16C) and _avx512 (AVX-512 F, BW, DQ, VL and
 * VNNI, on top of those) need.  Always false on other processor families. */
bool mf_cpu_has_avx2(void);
bool mf_cpu_has_avx512vnni(void);

/* Lowers the calling thread's priority (nice 10): it gets what requests leave over. */
void mf_thread_set_background(void);

#endif
