/* cpu.c - asks the processor through the compiler's own feature table, which also
 * checks that the operating system saves the wide registers. */
#include "num/cpu.h"

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
#endif
    return level == MF_CPU_SCALAR;
}

mf_cpu_level mf_cpu_best(void) {
    if (mf_cpu_has(MF_CPU_AVX512)) {
        return MF_CPU_AVX512;
    }
    return mf_cpu_has(MF_CPU_AVX2) ? MF_CPU_AVX2 : MF_CPU_SCALAR;
}

const char *mf_cpu_level_name(mf_cpu_level level) {
    static const char *const names[MF_CPU_LEVEL_COUNT] = {"scalar", "avx2", "avx512"};
    MF_ASSERT(level < MF_CPU_LEVEL_COUNT);
    return names[level];
}
