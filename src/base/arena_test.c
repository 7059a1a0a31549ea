/* arena_test.c - an arena hands out memory up to its cap and gives it back at once. */
#include "base/arena.h"

#include "base/alloc.h"
#include "base/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static mf_arena *arena_of(size_t bytes_max) {
    mf_arena *arena = NULL;
    assert_int_equal(mf_arena_new(bytes_max, &arena, NULL), MF_OK);
    return arena;
}

static void pieces_are_aligned_and_do_not_overlap(void **state) {
    (void)state;
    mf_arena *arena = arena_of(1 << 20);
    unsigned char *pieces[200];
    for (size_t i = 0; i < 200; i++) {
        pieces[i] = mf_arena_alloc(arena, i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_int_equal(pieces[i][k], i);
        }
    }
    mf_arena_free(arena);
}

static void the_cap_is_kept_and_smaller_requests_still_fit(void **state) {
    (void)state;
    mf_arena *arena = arena_of(100);
    assert_null(mf_arena_alloc(arena, 113));
    assert_null(mf_arena_alloc(arena, SIZE_MAX));
    assert_non_null(mf_arena_alloc(arena, 100));
    assert_null(mf_arena_alloc(arena, 1));
    mf_arena_free(arena);

    arena = arena_of(200000);
    size_t got = 0;
    while (mf_arena_alloc(arena, 1000) != NULL) {
        got += 1000;
    }
    assert_in_range(got, 190000, 200000); /* little is lost between blocks */
    assert_true(mf_arena_used(arena) <= 200000);
    mf_arena_free(arena);
}

static void one_request_may_take_the_whole_cap(void **state) {
    (void)state;
    mf_arena *arena = arena_of(16 * 1024 + (4 << 20));
    assert_non_null(mf_arena_alloc(arena, 4 << 20));
    assert_non_null(mf_arena_alloc(arena, 0));
    mf_arena_free(arena);
}

static void warm_use_allocates_nothing(void **state) {
    (void)state;
    mf_arena *arena = arena_of(1 << 20);
    size_t live = mf_alloc_live();
    assert_non_null(mf_arena_alloc(arena, 100000));
    assert_true(mf_alloc_live() > live);
    for (int round = 0; round < 3; round++) {
        mf_arena_reset(arena);
        assert_int_equal(mf_alloc_live(), live);
        assert_int_equal(mf_arena_used(arena), 0);
        mf_noalloc_begin();
        for (int i = 0; i < 100; i++) {
            assert_non_null(mf_arena_alloc(arena, 100));
        }
        mf_noalloc_end();
        assert_int_equal(mf_arena_used(arena), 100 * 112);
    }
    mf_arena_free(arena);
    mf_arena_free(NULL);
}

static void texts_are_copied_with_a_nul_behind(void **state) {
    (void)state;
    mf_arena *arena = arena_of(1000);
    char bytes[] = "abc";
    mf_str copy = mf_arena_str(arena, (mf_str){bytes, 2});
    bytes[0] = 'x';
    assert_int_equal(copy.len, 2);
    assert_string_equal(copy.p, "ab");
    assert_string_equal(mf_arena_str(arena, MF_STR_NONE).p, "");
    mf_str text = mf_arena_printf(arena, "%s=%d", "n", 12);
    assert_int_equal(text.len, 4);
    assert_string_equal(text.p, "n=12");
    assert_null(mf_arena_printf(arena, "%2000d", 1).p);
    char big[2000];
    memset(big, 'x', sizeof big);
    assert_null(mf_arena_str(arena, (mf_str){big, sizeof big}).p);
    mf_arena_free(arena);
}

static void arrays_are_zeroed_and_their_size_checked(void **state) {
    (void)state;
    mf_arena *arena = arena_of(4000);
    memset(mf_arena_alloc(arena, 1000), 0xFF, 1000);
    mf_arena_reset(arena);
    unsigned char *p = mf_arena_alloc_array(arena, 100, 10);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(p[i], 0);
    }
    assert_null(mf_arena_alloc_array(arena, SIZE_MAX / 2, 4));
    mf_arena_free(arena);
}

static int released[3];
static int release_count;

static void note_release(void *object) {
    released[release_count++] = *(int *)object;
}

static void held_objects_are_released_newest_first_and_once(void **state) {
    (void)state;
    int numbers[] = {1, 2, 3};
    release_count = 0;
    mf_arena *arena = arena_of(1000);
    for (size_t i = 0; i < 3; i++) {
        assert_true(mf_arena_hold(arena, note_release, &numbers[i]));
    }
    mf_arena_reset(arena);
    assert_int_equal(release_count, 3);
    assert_int_equal(released[0], 3);
    assert_int_equal(released[2], 1);
    mf_arena_reset(arena);
    assert_int_equal(release_count, 3);
    release_count = 0;
    assert_true(mf_arena_hold(arena, note_release, &numbers[1]));
    mf_arena_free(arena);
    assert_int_equal(release_count, 1);
}

static void hold_in_a_full_arena_holds_nothing(void **state) {
    (void)state;
    release_count = 0;
    int number = 1;
    mf_arena *arena = arena_of(16);
    assert_non_null(mf_arena_alloc(arena, 16));
    assert_false(mf_arena_hold(arena, note_release, &number));
    mf_arena_free(arena);
    assert_int_equal(release_count, 0);
}

static void each_failed_allocation_is_survived(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_arena *arena = NULL;
        mf_err err;
        if (mf_arena_new(1 << 20, &arena, &err) != MF_OK) {
            assert_true(mf_fault_fired());
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(arena);
        } else {
            void *big = mf_arena_alloc(arena, 100000);
            assert_int_equal(big == NULL, mf_fault_fired());
            assert_non_null(mf_arena_alloc(arena, 100)); /* the next try works */
        }
        assert_in_range(n, 0, 3);
        mf_arena_free(arena);
        assert_int_equal(mf_alloc_live(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(the_cap_is_kept_and_smaller_requests_still_fit),
        cmocka_unit_test(one_request_may_take_the_whole_cap),
        cmocka_unit_test(warm_use_allocates_nothing),
        cmocka_unit_test(texts_are_copied_with_a_nul_behind),
        cmocka_unit_test(arrays_are_zeroed_and_their_size_checked),
        cmocka_unit_test(held_objects_are_released_newest_first_and_once),
        cmocka_unit_test(hold_in_a_full_arena_holds_nothing),
        cmocka_unit_test(each_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
