/* peak.h - how fast this processor could multiply and add if nothing else were to do.
 *
 * A loop of independent multiply-adds that never leaves the registers: no program can
 * be faster with the same instructions.  What a kernel reaches is told as a share of
 * it. */
#ifndef MF_NUM_PEAK_H
#define MF_NUM_PEAK_H

#include "num/cpu.h"

typedef enum mf_peak_kind {
    MF_PEAK_FP32,      /* products of floats */
    MF_PEAK_BF16,      /* products of bf16 numbers, summed in floats */
    MF_PEAK_INT8,      /* products of 8-bit integers, vector instructions */
    MF_PEAK_INT8_TILE, /* products of 8-bit integers, tile instructions */
    MF_PEAK_KIND_COUNT
} mf_peak_kind;

/* Measures for some milliseconds of the calling thread's processor time; one figure is
 * as noisy as the machine, so ask several times.  The result is in thousand million
 * operations a second for one core, a product and its sum counted as two operations.
 *
 * `level` is one that mf_cpu_has() allows; the instructions are those its kernels use.
 * Where they do not use one for bf16 or 8 bits, their way of doing without is measured:
 * for bf16 multiply-adds of floats, in plain C whatever the compiler makes of integers.
 * MF_PEAK_INT8_TILE is 0 for every level but MF_CPU_AMX.  Any thread may call. */
double mf_peak_gops(mf_cpu_level level, mf_peak_kind kind);

#endif
