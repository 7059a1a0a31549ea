/* cpu_test.c - the processor's features are told as the kernel tells them. */
#include "num/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#if defined(__x86_64__)
/* Whether the kernel's list of processor flags has the word. */
static bool kernel_lists(const char *flag) {
    static char flags[1 << 14];
    FILE *info = fopen("/proc/cpuinfo", "re");
    bool found = false;
    char word[32];
    (void)snprintf(word, sizeof word, " %s ", flag);
    while (info != NULL && !found && fgets(flags, sizeof flags, info) != NULL) {
        char *end = strchr(flags, '\n');
        if (end != NULL) {
            *end = ' ';
        }
        found = strncmp(flags, "flags", 5) == 0 && strstr(flags, word) != NULL;
    }
    if (info != NULL) {
        fclose(info);
    }
    return found;
}

static void features_agree_with_the_kernel(void **state) {
    (void)state;
    bool avx2 = kernel_lists("avx2") && kernel_lists("fma");
    bool avx512 = avx2 && kernel_lists("avx512f") && kernel_lists("avx512bw") &&
                  kernel_lists("avx512dq") && kernel_lists("avx512vl") &&
                  kernel_lists("avx512_vnni");
    assert_int_equal(mf_cpu_has(MF_CPU_AVX2), avx2);
    assert_int_equal(mf_cpu_has(MF_CPU_AVX512), avx512);
    assert_int_equal(mf_cpu_has_bf16(), avx512 && kernel_lists("avx512_bf16"));
    /* The kernel may list tiles and still refuse them. */
    assert_true(!mf_cpu_has(MF_CPU_AMX) ||
                (avx512 && kernel_lists("amx_tile") && kernel_lists("amx_int8") &&
                 kernel_lists("amx_bf16")));
}
#endif

static void every_processor_runs_the_scalar_kernels(void **state) {
    (void)state;
    assert_true(mf_cpu_has(MF_CPU_SCALAR));
    assert_true(mf_cpu_has(mf_cpu_best()));
}

static void every_level_has_a_name(void **state) {
    (void)state;
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        assert_non_null(mf_cpu_level_name(level));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
        cmocka_unit_test(features_agree_with_the_kernel),
#endif
        cmocka_unit_test(every_processor_runs_the_scalar_kernels),
        cmocka_unit_test(every_level_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
