/* cpu.c - asks the processor, through the compiler's own feature table where it knows
 * the feature: the table also checks that the operating system saves the wide
 * registers. */
#include "num/cpu.h"

#include "base/assert.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

/* --- tile registers --------------------------------------------------------------- */

enum {
    CPUID_AMX_BF16 = 1 << 22, /* in EDX of leaf 7 */
    CPUID_AMX_TILE = 1 << 24,
    CPUID_AMX_INT8 = 1 << 25,
    REQUEST_STATE = 0x1023, /* ARCH_REQ_XCOMP_PERM of the kernel's asm/prctl.h */
    STATE_TILE_DATA = 18,   /* the tile registers, by their number in XSAVE */
};

static pthread_once_t tiles_once = PTHREAD_ONCE_INIT;
static bool tiles_allowed; /* written once, by ask_for_tiles */

static void ask_for_tiles(void) {
    const unsigned wanted = CPUID_AMX_BF16 | CPUID_AMX_TILE | CPUID_AMX_INT8;
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & wanted) == wanted) {
        tiles_allowed = syscall(SYS_arch_prctl, REQUEST_STATE, STATE_TILE_DATA) == 0;
    }
}

static bool has_amx(void) {
    if (!has_avx512()) {
        return false;
    }
    (void)pthread_once(&tiles_once, ask_for_tiles); /* fails for no valid argument */
    return tiles_allowed;
}
#endif

/* --- levels ----------------------------------------------------------------------- */

bool mf_cpu_has(mf_cpu_level level) {
    switch (level) {
#if defined(__x86_64__)
    case MF_CPU_AVX2:
        return has_avx2();
    case MF_CPU_AVX512:
        return has_avx512();
    case MF_CPU_AMX:
        return has_amx();
#elif defined(__aarch64__)
    case MF_CPU_NEON:
        return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
    default:
        return level == MF_CPU_SCALAR;
    }
}

mf_cpu_level mf_cpu_best(void) {
    mf_cpu_level best = MF_CPU_SCALAR;
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        best = mf_cpu_has(level) ? level : best;
    }
    return best;
}

const char *mf_cpu_level_name(mf_cpu_level level) {
    static const char *const names[MF_CPU_LEVEL_COUNT] = {"scalar", "neon", "avx2",
                                                          "avx512", "amx"};
    MF_ASSERT(level < MF_CPU_LEVEL_COUNT);
    return names[level];
}

bool mf_cpu_has_bf16(void) {
#if defined(__x86_64__)
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}
