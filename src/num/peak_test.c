/* peak_test.c - every level this processor has gets a figure of its own. */
#include "num/peak.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void every_level_has_a_peak_of_every_kind_it_can_do(void **state) {
    (void)state;
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        for (int k = 0; mf_cpu_has(level) && k < MF_PEAK_KIND_COUNT; k++) {
            mf_peak_kind kind = (mf_peak_kind)k;
            double gops = mf_peak_gops(level, kind);
            print_message("%s, kind %d: %.1f Gop/s\n", mf_cpu_level_name(level), k,
                          gops);
            assert_true(isfinite(gops));
            if (kind == MF_PEAK_INT8_TILE && level != MF_CPU_AMX) {
                assert_true(gops == 0.0);
            } else {
                assert_true(gops > 0.0);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_has_a_peak_of_every_kind_it_can_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
