/* encoder_relative_test.c - distances share the buckets that the reference gives them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "model/encoder_private.h"

enum { HEADS = 2, BUCKETS = 32, WINDOW = 512 };

/* Where each bucket begins, as MPNetEncoder.relative_position_bucket of transformers
 * 5.23 says for 32 buckets. */
static const struct {
    long first;
    int bucket;
} starts[] = {
    {-511, 15}, {-90, 14}, {-63, 13}, {-45, 12}, {-31, 11}, {-22, 10}, {-15, 9},
    {-11, 8},   {-7, 7},   {-6, 6},   {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},
    {-1, 1},    {0, 0},    {1, 17},   {2, 18},   {3, 19},   {4, 20},   {5, 21},
    {6, 22},    {7, 23},   {8, 24},   {12, 25},  {16, 26},  {23, 27},  {32, 28},
    {46, 29},   {64, 30},  {91, 31},  {512, -1},
};

static const mf_encoder_config config = {
    .heads = HEADS, .buckets = BUCKETS, .window = WINDOW};

static void fill(float distances[BUCKETS * HEADS]) {
    for (size_t i = 0; i < (size_t)BUCKETS * HEADS; i++) {
        distances[i] = (float)i;
    }
}

static void every_distance_has_the_bias_of_its_bucket(void **state) {
    (void)state;
    float distances[BUCKETS * HEADS];
    float *table = NULL;
    fill(distances);
    assert_int_equal(mf_relative_make(&config, distances, &table, NULL), MF_OK);
    size_t row = 0;
    for (long ahead = -(WINDOW - 1); ahead < WINDOW; ahead++) {
        row += ahead == starts[row + 1].first;
        for (size_t head = 0; head < HEADS; head++) {
            size_t at = head * (2 * WINDOW - 1) + (size_t)(ahead + WINDOW - 1);
            assert_int_equal((int)table[at], starts[row].bucket * HEADS + (int)head);
        }
    }
    mf_free(table);
}

static void making_survives_a_failed_allocation(void **state) {
    (void)state;
    float distances[BUCKETS * HEADS];
    fill(distances);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        float *table = NULL;
        mf_rc rc = mf_relative_make(&config, distances, &table, NULL);
        assert_int_equal(rc, mf_fault_fired() ? MF_E_NOMEM : MF_OK);
        mf_free(table);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_distance_has_the_bias_of_its_bucket),
        cmocka_unit_test(making_survives_a_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
