/* token_cache_test.c - counts are the counter's, and the recent ones are remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "buffer/token_cache.h"

enum { TEXT_MAX = 256 };

/* A text of `n` words, long enough to be remembered. */
static mf_str text_of(int n, char buffer[TEXT_MAX]) {
    int len = snprintf(buffer, TEXT_MAX, "%064d", n);
    for (int i = 0; i < n % 20; i++) {
        len += snprintf(buffer + len, (size_t)(TEXT_MAX - len), " word");
    }
    return (mf_str){buffer, (size_t)len};
}

static void counts_are_the_counters(void **state) {
    (void)state;
    mf_token_counter *counter;
    mf_token_cache *cache;
    char text[TEXT_MAX];
    assert_int_equal(mf_token_counter_open(NULL, &counter, NULL), MF_OK);
    assert_int_equal(mf_token_cache_open(counter, 10, NULL, &cache, NULL), MF_OK);
    for (int i = 0; i < 60; i++) {
        mf_str words = text_of(i % 15, text);
        assert_int_equal(mf_token_cache_count(cache, words),
                         mf_token_count(counter, words));
    }
    assert_int_equal(mf_token_cache_count(cache, MF_STR("")), 0);
    assert_int_equal(mf_token_cache_count(cache, MF_STR("two words")),
                     mf_token_count(counter, MF_STR("two words")));
    assert_int_equal(mf_token_cache_is_exact(cache),
                     mf_token_counter_is_exact(counter));
    mf_token_cache_close(cache);
    mf_token_counter_close(counter);
}

static void recent_texts_are_remembered_up_to_the_bound(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_token_counter *counter;
    mf_token_cache *cache;
    mf_lru_stats stats;
    char text[TEXT_MAX];
    assert_int_equal(mf_token_counter_open(NULL, &counter, NULL), MF_OK);
    assert_int_equal(mf_token_cache_open(counter, 10, NULL, &cache, NULL), MF_OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 10; i++) {
            (void)mf_token_cache_count(cache, text_of(i, text));
        }
        (void)mf_token_cache_count(cache, MF_STR("short texts are counted anew"));
    }
    mf_token_cache_get_stats(cache, &stats);
    assert_int_equal(stats.hits, 10);
    assert_int_equal(stats.misses, 10);
    assert_int_equal(stats.size, 10);
    assert_int_equal(stats.max_size, 10);
    for (int i = 100; i < 200; i++) {
        (void)mf_token_cache_count(cache, text_of(i, text));
    }
    mf_token_cache_get_stats(cache, &stats);
    assert_int_equal(stats.size, 10);
    assert_int_equal(stats.evictions, 100);
    mf_token_cache_close(cache);
    assert_int_equal(mf_token_cache_open(counter, 0, NULL, &cache, NULL), MF_OK);
    assert_int_equal(mf_token_cache_count(cache, text_of(3, text)),
                     mf_token_count(counter, text_of(3, text)));
    mf_token_cache_get_stats(cache, &stats);
    assert_int_equal(stats.hits + stats.misses + stats.max_size, 0);
    mf_token_cache_close(cache);
    mf_token_counter_close(counter);
    assert_int_equal(mf_alloc_live(), live);
}

static void short_memory_still_counts(void **state) {
    (void)state;
    mf_token_counter *counter;
    assert_int_equal(mf_token_counter_open(NULL, &counter, NULL), MF_OK);
    char text[TEXT_MAX];
    mf_str words = text_of(7, text);
    size_t expected = mf_token_count(counter, words);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_token_cache *cache = NULL;
        if (mf_token_cache_open(counter, 4, NULL, &cache, NULL) == MF_OK) {
            assert_int_equal(mf_token_cache_count(cache, words), expected);
        } else {
            assert_null(cache);
        }
        mf_token_cache_close(cache);
    }
    mf_token_counter_close(counter);
}

typedef struct caller {
    const mf_token_counter *counter;
    mf_token_cache *cache;
    size_t wrong;
} caller;

static void run_caller(void *arg) {
    caller *c = arg;
    char text[TEXT_MAX];
    for (int i = 0; i < 2000; i++) {
        mf_str words = text_of(i % 30, text);
        c->wrong +=
            mf_token_cache_count(c->cache, words) != mf_token_count(c->counter, words);
    }
}

static void many_threads_get_the_right_counts(void **state) {
    (void)state;
    enum { THREADS = 4 };
    mf_token_counter *counter;
    mf_token_cache *cache;
    assert_int_equal(mf_token_counter_open(NULL, &counter, NULL), MF_OK);
    assert_int_equal(mf_token_cache_open(counter, 20, NULL, &cache, NULL), MF_OK);
    caller callers[THREADS];
    mf_thread threads[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (caller){.counter = counter, .cache = cache};
        assert_int_equal(
            mf_thread_start(&threads[i], "caller", run_caller, &callers[i], NULL),
            MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(callers[i].wrong, 0);
    }
    mf_token_cache_close(cache);
    mf_token_counter_close(counter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_the_counters),
        cmocka_unit_test(recent_texts_are_remembered_up_to_the_bound),
        cmocka_unit_test(short_memory_still_counts),
        cmocka_unit_test(many_threads_get_the_right_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
