/* cpu.h - which set of kernels this processor can run.
 *
 * Levels, those of one architecture each a superset of the one before.  The answer
 * comes from the processor and the operating system at run time, so one binary runs
 * on every processor of its architecture.
 *
 * All functions may be called from any thread.  AMX needs more than a look: its
 * registers are large, so Linux saves them only for a process that has asked.  The
 * first call that wants to know asks, once, for the whole process and for good; where
 * the kernel refuses, the level is not there. */
#ifndef MF_NUM_CPU_H
#define MF_NUM_CPU_H

#include <stdbool.h>

typedef enum mf_cpu_level {
    MF_CPU_SCALAR, /* plain C, every processor */
    MF_CPU_NEON,   /* 64-bit ARM with dot products of bytes */
    MF_CPU_AVX2,   /* x86 with AVX2 and FMA */
    MF_CPU_AVX512, /* x86 with AVX-512 F, BW, DQ, VL and VNNI */
    MF_CPU_AMX,    /* the same with tile registers, for products of 8 bits and bf16 */
    MF_CPU_LEVEL_COUNT
} mf_cpu_level;

bool mf_cpu_has(mf_cpu_level level);
mf_cpu_level mf_cpu_best(void);
/* "scalar", "neon", "avx2", "avx512", "amx" */
const char *mf_cpu_level_name(mf_cpu_level level);

/* Whether there are AVX-512 instructions for products of bf16 numbers: some processors
 * of the level MF_CPU_AVX512 have them, some have not. */
bool mf_cpu_has_bf16(void);

#endif
