/* cpu.c - what the processor offers, and a thread's share of it. */
#include "os/cpu.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { BACKGROUND_NICE = 10 };

size_t mf_cpu_count(void) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    int count =
        sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 0;
    if (count <= 0) { /* more cores than a cpu_set_t has bits */
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    return count > 0 ? (size_t)count : 1;
}

#if defined(__x86_64__)
/* Asked of the processor itself: not every compiler's list of features has this one. */
static bool has_f16c(void) {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool mf_cpu_has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           has_f16c();
}

bool mf_cpu_has_avx512vnni(void) {
    return mf_cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#else
bool mf_cpu_has_avx2(void) {
    return false;
}

bool mf_cpu_has_avx512vnni(void) {
    return false;
}
#endif

void mf_thread_set_background(void) {
    /* On Linux a thread's number stands for that thread alone.  A refusal only means
     * that background work competes with requests. */
    id_t self = (id_t)gettid();
    if (getpriority(PRIO_PROCESS, self) < BACKGROUND_NICE) {
        (void)setpriority(PRIO_PROCESS, self, BACKGROUND_NICE);
    }
}
