/* cpu.c - asks the processor through the compiler's own feature table, which also
 * checks that the operating system saves the wide registers. */
#include "num/cpu.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/assert.h"

bool mf_cpu_has(mf_cpu_level level) {
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == MF_CPU_AVX2) {
        return avx2;
    }
    if (level == MF_CPU_AVX512) {
        return avx2 && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
    }
#elif defined(__aarch64__)
    if (level == MF_CPU_NEON) {
        return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    }
#endif
    return level == MF_CPU_SCALAR;
}

mf_cpu_level mf_cpu_best(void) {
    mf_cpu_level best = MF_CPU_SCALAR;
    for (mf_cpu_level level = best; level < MF_CPU_LEVEL_COUNT; level++) {
        best = mf_cpu_has(level) ? level : best;
    }
    return best;
}

const char *mf_cpu_level_name(mf_cpu_level level) {
    static const char *const names[MF_CPU_LEVEL_COUNT] = {"scalar", "neon", "avx2",
                                                          "avx512"};
    MF_ASSERT(level < MF_CPU_LEVEL_COUNT);
    return names[level];
}
