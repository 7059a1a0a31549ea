/* rng_test.c - seeded numbers repeat and spread evenly; the kernel's do not repeat. */
#include "base/rng.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void generator_is_xoshiro256_starstar(void **state) {
    (void)state;
    /* From the state 1, 2, 3, 4: worked out by hand from the definition. */
    mf_rng rng = {{1, 2, 3, 4}};
    assert_true(mf_rng_next(&rng) == 11520);
    assert_true(mf_rng_next(&rng) == 0);
    assert_true(mf_rng_next(&rng) == 1509978240);
}

static void one_seed_gives_one_stream(void **state) {
    (void)state;
    mf_rng a;
    mf_rng b;
    mf_rng c;
    mf_rng_init(&a, 1);
    mf_rng_init(&b, 1);
    mf_rng_init(&c, 2);
    size_t same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = mf_rng_next(&a);
        assert_true(x == mf_rng_next(&b));
        same += x == mf_rng_next(&c);
    }
    assert_int_equal(same, 0);
}

static void seed_zero_is_a_seed_like_any_other(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 0);
    assert_true((rng.state[0] | rng.state[1] | rng.state[2] | rng.state[3]) != 0);
    assert_true(mf_rng_next(&rng) != mf_rng_next(&rng));
}

static void below_is_in_range_and_even(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 42);
    size_t seen[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t x = mf_rng_below(&rng, 10);
        assert_true(x < 10);
        seen[x]++;
    }
    for (size_t i = 0; i < 10; i++) {
        assert_in_range(seen[i], 9500, 10500); /* five standard deviations */
    }
    assert_int_equal(mf_rng_below(&rng, 1), 0);
    uint64_t bound = (UINT64_C(1) << 63) + 1; /* nearly every second draw is refused */
    for (int i = 0; i < 100; i++) {
        assert_true(mf_rng_below(&rng, bound) < bound);
    }
}

static void unit_stays_below_one(void **state) {
    (void)state;
    mf_rng rng;
    mf_rng_init(&rng, 43);
    double sum = 0.0;
    for (int i = 0; i < 100000; i++) {
        double x = mf_rng_unit(&rng);
        assert_true(x >= 0.0 && x < 1.0);
        sum += x;
    }
    assert_true(sum > 49000.0 && sum < 51000.0);
}

static void kernel_fills_the_whole_range_asked_for(void **state) {
    (void)state;
    static unsigned char a[1 << 20];
    static unsigned char b[1 << 20];
    mf_random_bytes(a, sizeof a);
    mf_random_bytes(b, sizeof b);
    assert_memory_not_equal(a, b, 32);
    static const unsigned char zeros[64];
    assert_memory_not_equal(a + sizeof a - 64, zeros, 64);
    unsigned char guard[2] = {1, 2};
    mf_random_bytes(guard, 0);
    assert_int_equal(guard[0], 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator_is_xoshiro256_starstar),
        cmocka_unit_test(one_seed_gives_one_stream),
        cmocka_unit_test(seed_zero_is_a_seed_like_any_other),
        cmocka_unit_test(below_is_in_range_and_even),
        cmocka_unit_test(unit_stays_below_one),
        cmocka_unit_test(kernel_fills_the_whole_range_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
