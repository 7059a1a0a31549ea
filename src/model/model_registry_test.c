/* model_registry_test.c - one instance of a model however many ask, and it stays until
 * nobody uses it and somebody clears. */
#include "model/model_registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mutex.h"
#include "model/tiny_model_testing.h"

enum { THREADS = 16, DIR_TEXT = 64 };

typedef struct fixture {
    char dir[DIR_TEXT];
    mf_model_registry *registry;
    mf_err err;
    size_t live;
} fixture;

static fixture *fixture_new(void) {
    static fixture f;
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    f = (fixture){.live = mf_alloc_live()};
    tiny_model_make(f.dir);
    assert_int_equal(mf_model_registry_open(&f.registry, &f.err), MF_OK);
    return &f;
}

static void fixture_free(fixture *f) {
    mf_model_registry_close(f->registry);
    tiny_model_remove(f->dir);
    assert_int_equal(mf_alloc_live(), f->live);
    assert_int_equal(mf_encoder_alive(), 0);
}

static mf_model_ask ask_for(const char *dir, mf_precision precision, size_t dims) {
    return (mf_model_ask){.dir = dir,
                          .options = {.precision = precision, .dimensions = dims}};
}

static mf_encoder *get(fixture *f, const char *dir, mf_precision precision,
                       size_t dims) {
    mf_model_ask ask = ask_for(dir, precision, dims);
    mf_encoder *encoder = NULL;
    mf_rc rc = mf_model_registry_get(f->registry, &ask, &encoder, &f->err);
    if (rc != MF_OK) {
        fail_msg("%s", f->err.text);
    }
    return encoder;
}

static mf_model_registry_stats stats_of(fixture *f) {
    mf_model_registry_stats stats;
    mf_model_registry_get_stats(f->registry, &stats);
    return stats;
}

static void the_second_who_asks_gets_the_same(void **state) {
    (void)state;
    fixture *f = fixture_new();
    mf_encoder *first = get(f, f->dir, MF_PRECISION_FP32, 0);
    size_t live_bytes = mf_alloc_live_bytes();
    mf_encoder *second = get(f, f->dir, MF_PRECISION_FP32, 0);
    assert_ptr_equal(first, second);
    assert_int_equal(mf_alloc_live_bytes(), live_bytes);
    mf_model_registry_stats stats = stats_of(f);
    assert_int_equal(stats.loads, 1);
    assert_int_equal(stats.hits, 1);
    assert_int_equal(stats.expected, 1);
    assert_int_equal(stats.actual, 1);
    mf_model_instance row;
    assert_int_equal(mf_model_registry_info(f->registry, &row, 1), 1);
    assert_int_equal(row.users, 2);
    assert_int_equal(row.hits, 1);
    assert_true(row.load_ns > 0);
    assert_string_equal(row.info.precision, "fp32");
    mf_encoder_unref(first);
    mf_encoder_unref(second);
    fixture_free(f);
}

static void another_precision_or_width_is_another_instance(void **state) {
    (void)state;
    fixture *f = fixture_new();
    mf_encoder *a = get(f, f->dir, MF_PRECISION_FP32, 0);
    mf_encoder *b = get(f, f->dir, MF_PRECISION_BF16, 0);
    mf_encoder *c = get(f, f->dir, MF_PRECISION_FP32, 2);
    assert_true(a != b && a != c && b != c);
    assert_int_equal(stats_of(f).expected, 3);
    mf_model_instance rows[2];
    assert_int_equal(mf_model_registry_info(f->registry, rows, 2), 3);
    assert_string_equal(rows[1].info.precision, "bf16");
    mf_encoder_unref(a);
    mf_encoder_unref(b);
    mf_encoder_unref(c);
    fixture_free(f);
}

static void the_same_thing_under_another_name_is_found(void **state) {
    (void)state;
    fixture *f = fixture_new();
    char other[DIR_TEXT + 8];
    (void)snprintf(other, sizeof other, "%s/.", f->dir);
    mf_encoder *a = get(f, f->dir, MF_PRECISION_FP32, 0);
    mf_encoder_info info;
    mf_encoder_get_info(a, &info);
    mf_encoder *b = get(f, other, MF_PRECISION_FP32, 0);
    mf_encoder *c = get(f, f->dir, MF_PRECISION_FP32, info.dim);
    assert_ptr_equal(a, b);
    assert_ptr_equal(a, c);
    assert_int_equal(stats_of(f).aliases, 2);
    assert_int_equal(stats_of(f).actual, 1);
    mf_encoder *again = get(f, other, MF_PRECISION_FP32, 0);
    assert_int_equal(stats_of(f).hits, 1); /* the name is known now */
    mf_encoder_unref(a);
    mf_encoder_unref(b);
    mf_encoder_unref(c);
    mf_encoder_unref(again);
    fixture_free(f);
}

static void a_failure_is_told_and_the_next_try_is_fresh(void **state) {
    (void)state;
    fixture *f = fixture_new();
    mf_model_ask ask = ask_for("/nonexistent", MF_PRECISION_FP32, 0);
    mf_encoder *encoder = NULL;
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(
            mf_model_registry_get(f->registry, &ask, &encoder, &f->err), MF_OK);
        assert_null(encoder);
        assert_non_null(strstr(f->err.text, "/nonexistent"));
    }
    assert_int_equal(stats_of(f).failed, 2);
    assert_int_equal(stats_of(f).expected, 0);
    fixture_free(f);
}

/* --- many at once --- */

typedef struct getter {
    fixture *f;
    mf_encoder *encoder;
    atomic_int *ready;
    mf_rc rc;
} getter;

static void run_getter(void *arg) {
    getter *g = arg;
    mf_model_ask ask = ask_for(g->f->dir, MF_PRECISION_FP32, 0);
    atomic_fetch_sub(g->ready, 1);
    while (atomic_load(g->ready) > 0) {
    }
    g->rc = mf_model_registry_get(g->f->registry, &ask, &g->encoder, NULL);
}

static void first_loads_at_once_are_one_load(void **state) {
    (void)state;
    fixture *f = fixture_new();
    getter getters[THREADS];
    mf_thread threads[THREADS] = {0};
    atomic_int ready = THREADS;
    for (int i = 0; i < THREADS; i++) {
        getters[i] = (getter){.f = f, .ready = &ready};
        assert_int_equal(
            mf_thread_start(&threads[i], "getter", run_getter, &getters[i], &f->err),
            MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(getters[i].rc, MF_OK);
        assert_ptr_equal(getters[i].encoder, getters[0].encoder);
    }
    mf_model_registry_stats stats = stats_of(f);
    assert_int_equal(stats.loads, 1);
    assert_int_equal(stats.hits + stats.shared_loads, THREADS - 1);
    assert_int_equal(stats.actual, 1);
    for (int i = 0; i < THREADS; i++) {
        mf_encoder_unref(getters[i].encoder);
    }
    fixture_free(f);
}

static void run_churner(void *arg) {
    getter *g = arg;
    static const mf_precision precisions[] = {MF_PRECISION_FP32, MF_PRECISION_BF16};
    for (int i = 0; i < 200 && g->rc == MF_OK; i++) {
        mf_model_ask ask = ask_for(g->f->dir, precisions[i % 2], (size_t)(i % 3));
        ask.check_files = i % 5 == 0;
        mf_encoder *encoder = NULL;
        g->rc = mf_model_registry_get(g->f->registry, &ask, &encoder, NULL);
        if (i % 7 == 0) {
            mf_model_cleared cleared;
            mf_model_registry_clear(g->f->registry, &cleared);
        }
        mf_encoder_unref(encoder);
    }
}

static void instances_are_given_out_and_cleared_by_many_threads(void **state) {
    (void)state;
    fixture *f = fixture_new();
    getter getters[4];
    mf_thread threads[4] = {0};
    for (int i = 0; i < 4; i++) {
        getters[i] = (getter){.f = f};
        assert_int_equal(
            mf_thread_start(&threads[i], "churner", run_churner, &getters[i], &f->err),
            MF_OK);
    }
    for (int i = 0; i < 4; i++) {
        mf_thread_join(&threads[i]);
        assert_int_equal(getters[i].rc, MF_OK);
    }
    mf_model_cleared cleared;
    mf_model_registry_clear(f->registry, &cleared);
    assert_int_equal(cleared.stayed, 0);
    mf_model_registry_stats stats = stats_of(f);
    assert_int_equal(stats.loads, stats.released);
    assert_int_equal(stats.actual, 0);
    fixture_free(f);
}

/* --- leaving --- */

static void clearing_frees_the_unused_and_says_what_stayed(void **state) {
    (void)state;
    fixture *f = fixture_new();
    mf_encoder *used = get(f, f->dir, MF_PRECISION_FP32, 0);
    mf_encoder_unref(get(f, f->dir, MF_PRECISION_BF16, 0));
    mf_model_ask kept = ask_for(f->dir, MF_PRECISION_FP32, 2);
    assert_int_equal(mf_model_registry_preload(f->registry, &kept, &f->err), MF_OK);
    mf_model_cleared cleared;
    mf_model_registry_clear(f->registry, &cleared);
    assert_int_equal(cleared.released, 2); /* preloaded ones too */
    assert_int_equal(cleared.stayed, 1);
    assert_true(cleared.stayed_bytes > 0 && cleared.released_bytes > 0);
    assert_int_equal(mf_encoder_alive(), 1);
    mf_encoder *same = get(f, f->dir, MF_PRECISION_FP32, 0);
    assert_ptr_equal(same, used);
    mf_encoder_unref(used);
    mf_encoder_unref(same);
    mf_model_registry_clear(f->registry, &cleared);
    assert_int_equal(cleared.stayed, 0);
    assert_int_equal(mf_encoder_alive(), 0);
    fixture_free(f);
}

static void a_replaced_model_is_loaded_anew_by_who_checks(void **state) {
    (void)state;
    fixture *f = fixture_new();
    mf_encoder *old = get(f, f->dir, MF_PRECISION_FP32, 0);
    char path[DIR_TEXT + 32];
    (void)snprintf(path, sizeof path, "%s/config.json", f->dir);
    assert_int_equal(truncate(path, 0), 0);
    mf_model_ask ask = ask_for(f->dir, MF_PRECISION_FP32, 0);
    mf_encoder *found = NULL;
    assert_int_equal(mf_model_registry_get(f->registry, &ask, &found, NULL), MF_OK);
    assert_ptr_equal(found, old);
    mf_encoder_unref(found);
    ask.check_files = true;
    found = NULL;
    assert_int_not_equal(mf_model_registry_get(f->registry, &ask, &found, NULL), MF_OK);
    assert_null(found);
    assert_int_equal(stats_of(f).expected, 0);
    assert_int_equal(stats_of(f).actual, 1); /* whoever has it keeps it */
    mf_encoder_unref(old);
    fixture_free(f);
}

/* Fills the table with models in use; the next one works, unshared and counted. */
static void a_full_table_gives_an_instance_outside(void **state) {
    (void)state;
    fixture *f = fixture_new();
    char dirs[MF_MODELS_MAX + 1][DIR_TEXT];
    mf_encoder *used[MF_MODELS_MAX];
    for (size_t i = 0; i <= MF_MODELS_MAX; i++) {
        tiny_model_make(dirs[i]);
    }
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        used[i] = get(f, dirs[i], MF_PRECISION_FP32, 0);
    }
    mf_encoder *outside = get(f, dirs[MF_MODELS_MAX], MF_PRECISION_FP32, 0);
    mf_model_registry_stats stats = stats_of(f);
    assert_int_equal(stats.outside, 1);
    assert_int_equal(stats.expected, MF_MODELS_MAX);
    assert_int_equal(stats.actual, MF_MODELS_MAX + 1);
    mf_encoder_unref(outside);
    used[0] = mf_encoder_unref(used[0]); /* now one place can be had */
    outside = get(f, dirs[MF_MODELS_MAX], MF_PRECISION_FP32, 0);
    stats = stats_of(f);
    assert_int_equal(stats.outside, 1);
    assert_int_equal(stats.released, 1);
    assert_int_equal(stats.actual, MF_MODELS_MAX);
    mf_encoder_unref(outside);
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        mf_encoder_unref(used[i]);
    }
    for (size_t i = 0; i <= MF_MODELS_MAX; i++) {
        tiny_model_remove(dirs[i]);
    }
    fixture_free(f);
}

static void the_process_has_one_registry_until_it_is_reset(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    mf_model_registry *registry = mf_model_registry_process();
    assert_non_null(registry);
    assert_ptr_equal(registry, mf_model_registry_process());
    mf_model_registry_process_reset();
    assert_int_equal(mf_alloc_live(), live);
    mf_model_registry_process_reset(); /* fine on none */
}

#ifdef MF_FAULTS
static void getting_survives_each_failed_allocation(void **state) {
    (void)state;
    fixture *f = fixture_new();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_model_ask ask = ask_for(f->dir, MF_PRECISION_FP32, 0);
        mf_encoder *encoder = NULL;
        mf_rc rc = mf_model_registry_get(f->registry, &ask, &encoder, &f->err);
        assert_true(rc == MF_OK || (rc == MF_E_NOMEM && encoder == NULL));
        mf_encoder_unref(encoder);
        mf_model_cleared cleared;
        mf_model_registry_clear(f->registry, &cleared);
        assert_int_equal(mf_encoder_alive(), 0);
    }
    fixture_free(f);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_who_asks_gets_the_same),
        cmocka_unit_test(another_precision_or_width_is_another_instance),
        cmocka_unit_test(the_same_thing_under_another_name_is_found),
        cmocka_unit_test(a_failure_is_told_and_the_next_try_is_fresh),
        cmocka_unit_test(first_loads_at_once_are_one_load),
        cmocka_unit_test(instances_are_given_out_and_cleared_by_many_threads),
        cmocka_unit_test(clearing_frees_the_unused_and_says_what_stayed),
        cmocka_unit_test(a_replaced_model_is_loaded_anew_by_who_checks),
        cmocka_unit_test(a_full_table_gives_an_instance_outside),
        cmocka_unit_test(the_process_has_one_registry_until_it_is_reset),
#ifdef MF_FAULTS
        cmocka_unit_test(getting_survives_each_failed_allocation),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
