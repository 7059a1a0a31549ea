/* half_test.c - every half survives the way to float and back, and rounding is
 * right. */
#include "num/half.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint16_t half(float value) {
    uint16_t out;
    mf_half_from_float(&value, &out, 1);
    return out;
}

static float back(uint16_t value) {
    float out;
    mf_half_to_float(&value, &out, 1);
    return out;
}

static void every_half_comes_back_as_it_was(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float value = back((uint16_t)bits);
        if ((bits & 0x7FFF) > 0x7C00) {
            assert_true(isnan(value));
            assert_true(isnan(back(half(value))));
        } else {
            assert_int_equal(half(value), bits);
        }
    }
}

static void known_values_have_their_bits(void **state) {
    (void)state;
    assert_int_equal(half(0.0F), 0x0000);
    assert_int_equal(half(-0.0F), 0x8000);
    assert_int_equal(half(1.0F), 0x3C00);
    assert_int_equal(half(-2.0F), 0xC000);
    assert_int_equal(half(65504.0F), 0x7BFF);
    assert_int_equal(half(65520.0F), 0x7C00); /* rounds to infinity */
    assert_int_equal(half(1e30F), 0x7C00);
    assert_int_equal(half(-INFINITY), 0xFC00);
    assert_int_equal(half(0x1p-24F), 0x0001); /* the smallest */
    assert_int_equal(half(0x1p-25F), 0x0000); /* a tie goes to even */
    assert_int_equal(half(0x1.8p-25F), 0x0001);
    assert_int_equal(half(0x1p-40F), 0x0000);
    assert_int_equal(half(0x1.ffcp-15F), 0x03FF + 0x0001); /* into the normal numbers */
}

static void rounding_picks_the_nearest_and_ties_go_to_even(void **state) {
    (void)state;
    for (uint16_t bits = 0; bits < 0x7BFF; bits++) {
        float low = back(bits);
        float high = back((uint16_t)(bits + 1));
        float middle = (low + high) / 2; /* exact in float */
        assert_int_equal(half(middle), bits % 2 == 0 ? bits : bits + 1);
        assert_int_equal(half(nextafterf(middle, 0.0F)), bits);
        assert_int_equal(half(nextafterf(middle, INFINITY)), bits + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_comes_back_as_it_was),
        cmocka_unit_test(known_values_have_their_bits),
        cmocka_unit_test(rounding_picks_the_nearest_and_ties_go_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
