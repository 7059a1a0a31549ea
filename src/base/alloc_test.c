/* alloc_test.c - what is allocated is counted, what is freed is counted off, on
 * whichever thread, and sizes that overflow are refused. */
#include "base/alloc.h"

#include <string.h>

#include "base/fault.h"
#include "base/mutex.h"
#include "base/test_death.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 80, BLOCKS = 50 }; /* more threads than there are count slots */

static void live_figures_follow_each_block(void **state) {
    (void)state;
    size_t blocks = mf_alloc_live();
    size_t bytes = mf_alloc_live_bytes();
    void *a = mf_alloc(100);
    void *b = mf_alloc_zero(10, 10);
    char *c = mf_strndup("hello, world", 5);
    assert_int_equal(mf_alloc_live(), blocks + 3);
    assert_true(mf_alloc_live_bytes() >= bytes + 206);
    assert_string_equal(c, "hello");
    a = mf_realloc(a, 100000);
    assert_non_null(a);
    assert_int_equal(mf_alloc_live(), blocks + 3);
    assert_true(mf_alloc_live_bytes() >= bytes + 100106);
    mf_free(a);
    mf_free(b);
    mf_free(c);
    mf_free(NULL);
    assert_int_equal(mf_alloc_live(), blocks);
    assert_int_equal(mf_alloc_live_bytes(), bytes);
}

static void size_zero_is_a_block_of_its_own(void **state) {
    (void)state;
    void *a = mf_alloc(0);
    void *b = mf_alloc_zero(0, 8);
    void *c = mf_alloc_array(0, 0);
    void *d = mf_realloc(NULL, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_non_null(d);
    assert_ptr_not_equal(a, b);
    d = mf_realloc(d, 0);
    assert_non_null(d);
    mf_free(a);
    mf_free(b);
    mf_free(c);
    mf_free(d);
}

static void zeroed_memory_is_zero(void **state) {
    (void)state;
    unsigned char *p = mf_alloc_zero(64, 16);
    assert_non_null(p);
    for (size_t i = 0; i < 1024; i++) {
        assert_int_equal(p[i], 0);
    }
    mf_free(p);
}

static void aligned_blocks_are_aligned(void **state) {
    (void)state;
    for (size_t alignment = 16; alignment <= 4096; alignment *= 2) {
        void *p = mf_alloc_aligned(alignment, 100);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % alignment, 0);
        mf_free(p);
    }
}

static void products_and_sums_that_overflow_are_refused(void **state) {
    (void)state;
    size_t out = 7;
    assert_false(mf_mul_size(SIZE_MAX, 2, &out));
    assert_false(mf_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(mf_add_size(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_true(mf_mul_size(SIZE_MAX, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_true(mf_add_size(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_true(mf_mul_size(0, SIZE_MAX, &out));
    assert_int_equal(out, 0);
    assert_null(mf_alloc_array(SIZE_MAX / 4, 8));
    assert_null(mf_alloc_zero(SIZE_MAX / 4, 8));
    assert_null(mf_strndup("", SIZE_MAX));
}

static void each_kind_of_allocation_can_be_made_to_fail(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_fault_arm(MF_FAULT_ALLOC, 0, true);
    assert_null(mf_alloc(1));
    assert_null(mf_alloc_zero(1, 1));
    assert_null(mf_alloc_array(1, 1));
    assert_null(mf_alloc_aligned(64, 1));
    assert_null(mf_realloc(NULL, 1));
    assert_null(mf_strndup("a", 1));
    mf_fault_disarm();
    assert_int_equal(mf_alloc_live(), live);
}

static void failed_realloc_keeps_the_old_block(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    char *p = mf_strndup("kept", 4);
    mf_fault_arm(MF_FAULT_ALLOC, 0, false);
    assert_null(mf_realloc(p, 100));
    mf_fault_disarm();
    assert_string_equal(p, "kept");
    assert_int_equal(mf_alloc_live(), live + 1);
    mf_free(p);
}

/* Every thread waits here after allocating, so that all of them are alive at once. */
static pthread_barrier_t all_alive;

typedef struct crossing {
    mf_thread thread;
    void *blocks[BLOCKS];
} crossing;

static void allocate_blocks(void *arg) {
    crossing *c = arg;
    for (size_t i = 0; i < BLOCKS; i++) {
        c->blocks[i] = mf_alloc(i + 1);
    }
    (void)pthread_barrier_wait(&all_alive);
}

static void blocks_freed_by_another_thread_are_counted_off(void **state) {
    (void)state;
    static crossing crossings[THREADS];
    assert_int_equal(pthread_barrier_init(&all_alive, NULL, THREADS), 0);
    size_t live = mf_alloc_live();
    size_t bytes = mf_alloc_live_bytes();
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&crossings[i].thread, "alloc", allocate_blocks,
                                         &crossings[i], NULL),
                         MF_OK);
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&crossings[i].thread);
    }
    assert_int_equal(pthread_barrier_destroy(&all_alive), 0);
    assert_int_equal(mf_alloc_live(), live + (size_t)THREADS * BLOCKS);
    for (size_t i = 0; i < THREADS; i++) {
        for (size_t k = 0; k < BLOCKS; k++) {
            mf_free(crossings[i].blocks[k]);
        }
    }
    assert_int_equal(mf_alloc_live(), live);
    assert_int_equal(mf_alloc_live_bytes(), bytes);
}

#ifdef MF_DEBUG
static void allocate_inside_guard(void) {
    mf_noalloc_begin();
    mf_noalloc_begin();
    mf_noalloc_end();
    mf_free(mf_alloc(1));
}

static void end_guard_twice(void) {
    mf_noalloc_begin();
    mf_noalloc_end();
    mf_noalloc_end();
}

static void allocating_inside_the_guard_aborts(void **state) {
    (void)state;
    assert_true(mf_test_aborts(allocate_inside_guard));
    assert_true(mf_test_aborts(end_guard_twice));
}

static void allocating_after_the_guard_works(void **state) {
    (void)state;
    void *p = mf_alloc(1);
    mf_noalloc_begin();
    mf_free(p); /* giving back is no allocation */
    mf_noalloc_end();
    p = mf_alloc(1);
    assert_non_null(p);
    mf_free(p);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_figures_follow_each_block),
        cmocka_unit_test(size_zero_is_a_block_of_its_own),
        cmocka_unit_test(zeroed_memory_is_zero),
        cmocka_unit_test(aligned_blocks_are_aligned),
        cmocka_unit_test(products_and_sums_that_overflow_are_refused),
        cmocka_unit_test(each_kind_of_allocation_can_be_made_to_fail),
        cmocka_unit_test(failed_realloc_keeps_the_old_block),
        cmocka_unit_test(blocks_freed_by_another_thread_are_counted_off),
#ifdef MF_DEBUG
        cmocka_unit_test(allocating_inside_the_guard_aborts),
        cmocka_unit_test(allocating_after_the_guard_works),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
