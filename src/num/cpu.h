/* cpu.h - which set of kernels this processor can run.
 *
 * Those of x86 are each a superset of the one before.  The answer comes from the
 * processor and the operating system at run time, so one binary runs on every processor
 * of its architecture. */
#ifndef MF_NUM_CPU_H
#define MF_NUM_CPU_H

#include <stdbool.h>

typedef enum mf_cpu_level {
    MF_CPU_SCALAR, /* plain C, every processor */
    MF_CPU_NEON,   /* 64-bit ARM with dot products of bytes */
    MF_CPU_AVX2,   /* x86 with AVX2 and FMA */
    MF_CPU_AVX512, /* x86 with AVX-512 F, BW, DQ, VL and VNNI */
    MF_CPU_LEVEL_COUNT
} mf_cpu_level;

bool mf_cpu_has(mf_cpu_level level);
mf_cpu_level mf_cpu_best(void);
const char *
mf_cpu_level_name(mf_cpu_level level); /* "scalar", "neon", "avx2", "avx512" */

#endif
