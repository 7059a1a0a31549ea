/* user_data_test.c - the user-data caches hold their number for their time, and never
 * tell what was true before a write. */
#include "service/user_data.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, STEPS = 2000 };

static int64_t now_ns;

static int64_t test_time(void *ctx) {
    (void)ctx;
    return now_ns;
}

static const mf_clock test_clock = {test_time, test_time, NULL};

typedef struct world {
    mf_cache_manager *caches;
    mf_user_data *data;
    mf_arena *arena;
} world;

static void world_open(world *w) {
    mf_config config;
    mf_config_defaults(&config);
    assert_int_equal(mf_cache_manager_open(1 << 20, 80, &w->caches, NULL), MF_OK);
    assert_int_equal(mf_user_data_open(&config, w->caches, &w->data, NULL), MF_OK);
    assert_int_equal(mf_arena_new(1 << 20, &w->arena, NULL), MF_OK);
}

static void world_close(world *w) {
    mf_arena_free(w->arena);
    mf_user_data_close(w->data);
    mf_cache_manager_close(w->caches);
    mf_clock_set(NULL);
}

static mf_named_row row_of(const char *name, const char *description) {
    mf_named_row row = {.id = mf_uuid_new(),
                        .name = mf_str_from(name),
                        .created_us = 1,
                        .updated_us = 2};
    if (description != NULL) {
        row.description = mf_str_from(description);
    }
    return row;
}

static const mf_cache_stats *cache_stats(world *w, const char *name) {
    static mf_cache_manager_stats stats;
    mf_cache_manager_get_stats(w->caches, &stats);
    for (size_t i = 0; i < stats.name_count; i++) {
        if (strcmp(stats.names[i].name, name) == 0) {
            return &stats.names[i];
        }
    }
    fail_msg("no cache %s", name);
    return NULL;
}

static void the_three_caches_have_their_sizes_and_times(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t max_size;
        int64_t ttl_ms;
    } rows[] = {{"user_contexts", 50, 1800000},
                {"health_data", 30, 600000},
                {"sync_tracking", 100, 3600000}};
    world w;
    world_open(&w);
    for (size_t i = 0; i < 3; i++) {
        const mf_cache_stats *stats = cache_stats(&w, rows[i].name);
        assert_int_equal(stats->max_size, rows[i].max_size);
        assert_int_equal(stats->ttl_ms, rows[i].ttl_ms);
    }
    world_close(&w);
}

static void a_user_is_found_by_id_and_by_name_until_any_user_changes(void **state) {
    (void)state;
    world w;
    world_open(&w);
    mf_named_row row = row_of("ann", "likes parrots");
    mf_named_row bare = row_of("", NULL);
    uint64_t stamp = mf_user_data_directory(w.data);
    mf_user_data_put_user(w.data, stamp, &row);
    mf_user_data_put_user(w.data, stamp, &bare);
    mf_named_row found;
    assert_true(mf_user_data_get_user(w.data, row.id, w.arena, &found));
    assert_true(mf_str_eq(found.name, MF_STR("ann")));
    assert_true(mf_str_eq(found.description, MF_STR("likes parrots")));
    assert_int_equal(found.updated_us, 2);
    assert_true(mf_user_data_find_user(w.data, MF_STR("ann"), w.arena, &found));
    assert_true(mf_uuid_eq(found.id, row.id));
    assert_true(mf_user_data_find_user(w.data, MF_STR(""), w.arena, &found));
    assert_null(found.description.p);
    assert_false(mf_user_data_find_user(w.data, MF_STR("bob"), w.arena, &found));
    mf_user_data_directory_changed(w.data);
    assert_false(mf_user_data_get_user(w.data, row.id, w.arena, &found));
    assert_false(mf_user_data_find_user(w.data, MF_STR("ann"), w.arena, &found));
    world_close(&w);
}

static void what_was_read_before_a_change_is_not_believed_after_it(void **state) {
    (void)state;
    world w;
    world_open(&w);
    mf_named_row row = row_of("old name", NULL);
    uint64_t stamp = mf_user_data_directory(w.data);
    /* Read, then changed by somebody, then kept. */
    mf_user_data_directory_changed(w.data);
    mf_user_data_put_user(w.data, stamp, &row);
    mf_named_row found;
    assert_false(mf_user_data_get_user(w.data, row.id, w.arena, &found));
    mf_uuid user = mf_uuid_new();
    stamp = mf_user_data_writes(w.data, user);
    mf_user_data_written(w.data, user);
    mf_user_data_set_synced(w.data, user, stamp);
    assert_false(mf_user_data_is_synced(w.data, user));
    world_close(&w);
}

static void a_name_as_long_as_an_id_is_no_id(void **state) {
    (void)state;
    world w;
    world_open(&w);
    static const char *const names[] = {"0123456789abcde", "0123456789abcdef"};
    for (size_t i = 0; i < 2; i++) {
        mf_named_row row = row_of(names[i], NULL);
        mf_user_data_put_user(w.data, 0, &row);
    }
    static const char *const ids[] = {"n0123456789abcde", "0123456789abcdef"};
    for (size_t i = 0; i < 2; i++) {
        mf_uuid fake;
        mf_named_row found;
        memcpy(fake.b, ids[i], MF_UUID_BYTES);
        assert_false(mf_user_data_get_user(w.data, fake, w.arena, &found));
    }
    world_close(&w);
}

static void counts_hold_for_one_state_of_the_store(void **state) {
    (void)state;
    world w;
    world_open(&w);
    mf_store_counts counts = {.users = 3, .messages = 70};
    mf_user_data_put_counts(w.data, 10, &counts);
    mf_store_counts found;
    assert_true(mf_user_data_get_counts(w.data, 10, &found));
    assert_int_equal(found.messages, 70);
    assert_false(mf_user_data_get_counts(w.data, 11, &found));
    world_close(&w);
}

static void a_user_is_synced_until_it_writes(void **state) {
    (void)state;
    world w;
    world_open(&w);
    mf_uuid user = mf_uuid_new();
    assert_false(mf_user_data_is_synced(w.data, user));
    mf_user_data_set_synced(w.data, user, mf_user_data_writes(w.data, user));
    assert_true(mf_user_data_is_synced(w.data, user));
    mf_user_data_written(w.data, user);
    assert_false(mf_user_data_is_synced(w.data, user));
    for (int i = 0; i < 150; i++) {
        mf_uuid other = mf_uuid_new();
        mf_user_data_set_synced(w.data, other, mf_user_data_writes(w.data, other));
    }
    assert_int_equal(cache_stats(&w, "sync_tracking")->size, 100);
    world_close(&w);
}

static void entries_leave_at_their_age(void **state) {
    (void)state;
    world w;
    now_ns = MF_NS_PER_S;
    mf_clock_set(&test_clock);
    world_open(&w);
    mf_named_row row = row_of("ann", NULL);
    mf_store_counts counts = {.users = 1};
    mf_user_data_put_user(w.data, 0, &row);
    mf_user_data_put_counts(w.data, 0, &counts);
    mf_user_data_set_synced(w.data, row.id, 0);
    mf_named_row found;
    now_ns += 600 * (int64_t)MF_NS_PER_S;
    assert_false(mf_user_data_get_counts(w.data, 0, &counts));
    assert_true(mf_user_data_get_user(w.data, row.id, w.arena, &found));
    now_ns += 1200 * (int64_t)MF_NS_PER_S;
    assert_false(mf_user_data_get_user(w.data, row.id, w.arena, &found));
    assert_true(mf_user_data_is_synced(w.data, row.id));
    now_ns += 1800 * (int64_t)MF_NS_PER_S;
    assert_false(mf_user_data_is_synced(w.data, row.id));
    world_close(&w);
}

/* The row's name is the number of the directory at the time it was "stored". */
static _Atomic uint64_t stored;
static mf_uuid shared_id;

static void change_rows(void *p) {
    mf_user_data *data = p;
    for (int i = 0; i < STEPS; i++) {
        atomic_fetch_add(&stored, 1); /* the commit */
        mf_user_data_directory_changed(data);
    }
}

static void read_rows(void *p) {
    mf_user_data *data = p;
    mf_arena *arena = NULL;
    assert_int_equal(mf_arena_new(1 << 20, &arena, NULL), MF_OK);
    for (int i = 0; i < STEPS; i++) {
        mf_arena_reset(arena);
        mf_named_row row;
        uint64_t acknowledged = mf_user_data_directory(data);
        if (mf_user_data_get_user(data, shared_id, arena, &row)) {
            assert_true((uint64_t)row.updated_us >= acknowledged);
            continue;
        }
        uint64_t stamp = mf_user_data_directory(data);
        row = (mf_named_row){.id = shared_id,
                             .name = MF_STR("x"),
                             .updated_us = (int64_t)atomic_load(&stored)};
        mf_user_data_put_user(data, stamp, &row);
    }
    mf_arena_free(arena);
}

static void no_reader_sees_what_was_before_an_acknowledged_change(void **state) {
    (void)state;
    world w;
    world_open(&w);
    atomic_store(&stored, 0);
    shared_id = mf_uuid_new();
    mf_thread threads[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mf_thread_start(&threads[i], "rows",
                                         i == 0 ? change_rows : read_rows, w.data,
                                         NULL),
                         MF_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    world_close(&w);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    mf_config config;
    mf_config_defaults(&config);
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_user_data *data = NULL;
        mf_err err;
        if (mf_user_data_open(&config, NULL, &data, &err) != MF_OK) {
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(data);
        }
        mf_user_data_close(data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_three_caches_have_their_sizes_and_times),
        cmocka_unit_test(a_user_is_found_by_id_and_by_name_until_any_user_changes),
        cmocka_unit_test(what_was_read_before_a_change_is_not_believed_after_it),
        cmocka_unit_test(a_name_as_long_as_an_id_is_no_id),
        cmocka_unit_test(counts_hold_for_one_state_of_the_store),
        cmocka_unit_test(a_user_is_synced_until_it_writes),
        cmocka_unit_test(entries_leave_at_their_age),
        cmocka_unit_test(no_reader_sees_what_was_before_an_acknowledged_change),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
