/* error_cache_test.c - a kind of error is processed once in its time to live and
 * counted always, in memory that does not grow. */
#include "base/error_cache.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { TTL = 1000, THREADS = 4, STEPS = 2000 };

static mf_err error_of(mf_rc rc, const char *text) {
    mf_err err = {0};
    (void)MF_FAIL(&err, rc, "%s", text);
    return err;
}

static mf_error_cache *cache_of(size_t count_max) {
    mf_error_cache *cache = NULL;
    assert_int_equal(mf_error_cache_open(count_max, TTL, &cache, NULL), MF_OK);
    return cache;
}

static void the_same_again_is_only_counted_until_its_time_is_over(void **state) {
    (void)state;
    mf_error_cache *cache = cache_of(10);
    mf_err err = error_of(MF_E_IO, "first");
    uint64_t silent = 99;
    assert_true(mf_error_cache_note(cache, "embed", &err, 0, &silent));
    assert_int_equal(silent, 0);
    for (int i = 1; i <= 5; i++) {
        assert_false(mf_error_cache_note(cache, "embed", &err, TTL - 6 + i, NULL));
    }
    err = error_of(MF_E_IO, "later");
    assert_true(mf_error_cache_note(cache, "embed", &err, TTL, &silent));
    assert_int_equal(silent, 5);
    assert_false(mf_error_cache_note(cache, "embed", &err, 2 * TTL - 1, NULL));
    mf_error_kind kind;
    assert_int_equal(mf_error_cache_list(cache, &kind, 1), 1);
    assert_string_equal(kind.operation, "embed");
    assert_string_equal(kind.text, "later");
    assert_int_equal(kind.rc, MF_E_IO);
    assert_int_equal(kind.count, 8);
    assert_int_equal(kind.silent, 1);
    assert_int_equal(kind.last_ns, 2 * TTL - 1);
    mf_error_cache_close(cache);
}

static void operation_and_code_tell_kinds_apart(void **state) {
    (void)state;
    mf_error_cache *cache = cache_of(10);
    mf_err io = error_of(MF_E_IO, "io");
    mf_err busy = error_of(MF_E_BUSY, "busy");
    assert_true(mf_error_cache_note(cache, "embed", &io, 0, NULL));
    assert_true(mf_error_cache_note(cache, "embed", &busy, 0, NULL));
    assert_true(mf_error_cache_note(cache, "query", &io, 0, NULL));
    assert_false(mf_error_cache_note(cache, "query", &io, 0, NULL));
    mf_error_cache_stats stats;
    mf_error_cache_get_stats(cache, &stats);
    assert_int_equal(stats.size, 3);
    assert_int_equal(stats.total, 4);
    assert_int_equal(stats.processed, 3);
    assert_int_equal(stats.suppressed, 1);
    mf_error_cache_close(cache);
}

static void a_full_table_forgets_the_kind_not_seen_for_longest(void **state) {
    (void)state;
    mf_error_cache *cache = cache_of(3);
    mf_err err = error_of(MF_E_IO, "io");
    assert_true(mf_error_cache_note(cache, "a", &err, 0, NULL));
    assert_true(mf_error_cache_note(cache, "b", &err, 0, NULL));
    assert_true(mf_error_cache_note(cache, "c", &err, 0, NULL));
    assert_false(mf_error_cache_note(cache, "a", &err, 0, NULL)); /* seen again */
    assert_true(mf_error_cache_note(cache, "d", &err, 0, NULL));  /* b leaves */
    assert_false(mf_error_cache_note(cache, "a", &err, 0, NULL));
    assert_false(mf_error_cache_note(cache, "c", &err, 0, NULL));
    assert_true(mf_error_cache_note(cache, "b", &err, 0, NULL));
    mf_error_cache_stats stats;
    mf_error_cache_get_stats(cache, &stats);
    assert_int_equal(stats.size, 3);
    assert_int_equal(stats.evicted, 2);
    mf_error_cache_close(cache);
}

static void ten_thousand_kinds_take_no_memory_and_the_last_are_kept(void **state) {
    (void)state;
    mf_error_cache *cache = cache_of(MF_ERROR_CACHE_COUNT_MAX);
    mf_err err = error_of(MF_E_IO, "io");
    char name[100];
    mf_noalloc_begin();
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(name, sizeof name, "operation %d", i);
        assert_true(mf_error_cache_note(cache, name, &err, i, NULL));
    }
    mf_noalloc_end();
    static mf_error_kind kinds[MF_ERROR_CACHE_COUNT_MAX + 1];
    assert_int_equal(mf_error_cache_list(cache, kinds, MF_ERROR_CACHE_COUNT_MAX + 1),
                     MF_ERROR_CACHE_COUNT_MAX);
    for (int i = 0; i < MF_ERROR_CACHE_COUNT_MAX; i++) {
        (void)snprintf(name, sizeof name, "operation %d", 9999 - i);
        assert_string_equal(kinds[i].operation, name);
    }
    mf_error_cache_close(cache);
}

static void long_names_are_cut_and_still_known(void **state) {
    (void)state;
    mf_error_cache *cache = cache_of(4);
    mf_err err = error_of(MF_E_IO, "io");
    char name[200];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_true(mf_error_cache_note(cache, name, &err, 0, NULL));
    assert_false(mf_error_cache_note(cache, name, &err, 0, NULL));
    mf_error_cache_close(cache);
}

static void note_many(void *arg) {
    mf_error_cache *cache = arg;
    mf_err err = error_of(MF_E_BUSY, "busy");
    char name[32];
    for (int i = 0; i < STEPS; i++) {
        (void)snprintf(name, sizeof name, "op%d", i % 16); /* more than there is room */
        (void)mf_error_cache_note(cache, name, &err, 0, NULL);
    }
}

static void threads_count_every_error_once(void **state) {
    (void)state;
    mf_error_cache *cache = cache_of(8);
    mf_thread threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (mf_thread){.started = false};
        assert_int_equal(mf_thread_start(&threads[i], "test", note_many, cache, NULL),
                         MF_OK);
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_error_cache_stats stats;
    mf_error_cache_get_stats(cache, &stats);
    assert_int_equal(stats.total, THREADS * STEPS);
    assert_int_equal(stats.size, 8);
    mf_error_cache_close(cache);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_error_cache *cache = NULL;
        mf_err err;
        if (mf_error_cache_open(8, TTL, &cache, &err) == MF_OK) {
            assert_false(mf_fault_fired());
        } else {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(cache);
        }
        mf_error_cache_close(cache);
        assert_int_equal(mf_alloc_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_again_is_only_counted_until_its_time_is_over),
        cmocka_unit_test(operation_and_code_tell_kinds_apart),
        cmocka_unit_test(a_full_table_forgets_the_kind_not_seen_for_longest),
        cmocka_unit_test(ten_thousand_kinds_take_no_memory_and_the_last_are_kept),
        cmocka_unit_test(long_names_are_cut_and_still_known),
        cmocka_unit_test(threads_count_every_error_once),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
