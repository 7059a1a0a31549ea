/* service_testing.h - for tests in service/: a whole service over a store of the test's
 * choice, with a tiny model, and short ways to say what a test means.
 *
 * Functions stop the test at the line of the caller when something fails that should
 * not. */
#ifndef MF_SERVICE_SERVICE_TESTING_H
#define MF_SERVICE_SERVICE_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/tiny_model_testing.h"
#include "service/service.h"
#include "store/faulty.h"
#include "store/memory/memory_store.h"
#include "store/sqlite/sqlite_store.h"

enum { WORLD_SETS_MAX = 8, WORLD_ARENA_MAX = 256 << 20 };

typedef struct world_options {
    bool sqlite;                      /* else memory */
    bool faulty;                      /* with a faulty store around it */
    bool no_model;                    /* words only */
    bool runtime;                     /* with a runtime: reranker, language model */
    const char *model_dir;            /* a model to use instead of the tiny one */
    size_t dimensions;                /* of its vectors; 0: all */
    mf_precision precision;           /* of the model */
    size_t queue_max;                 /* of the writer; 0: plenty */
    const char *config_file;          /* YAML under the sets; NULL: none */
    const char *sets[WORLD_SETS_MAX]; /* "key=value"; NULL ends them */
} world_options;

typedef struct world {
    world_options options;
    char dir[64], path[128], model_dir[64];
    mf_store *store;
    mf_writer *writer;
    mf_conn_pool *readers, *background;
    mf_encoder *encoder;
    mf_embedder *embedder;
    mf_token_counter *tokens;
    mf_settings *settings;
    mf_runtime *runtime;
    mf_service *service;
    mf_arena *arena;
    mf_err err;
    size_t live_before;
} world;

#define OK(call) ok_at((call), &t->err, __LINE__)
#define FAILS(expected, call) fails_at((expected), (call), &t->err, __LINE__)

static inline void ok_at(mf_rc rc, const mf_err *err, int line) {
    if (rc != MF_OK) {
        fail_msg("line %d: %s: %s", line, mf_rc_name(rc), err->text);
    }
}

static inline void fails_at(mf_rc expected, mf_rc rc, const mf_err *err, int line) {
    if (rc != expected) {
        fail_msg("line %d: %s instead of %s (%s)", line, mf_rc_name(rc),
                 mf_rc_name(expected), rc != MF_OK ? err->text : "");
    }
}

static inline void world_open_service(world *t) {
    const world_options *o = &t->options;
    mf_config_sources sources = {.file = o->config_file,
                                 .sets = (const char *const *)o->sets};
    while (sources.set_count < WORLD_SETS_MAX && o->sets[sources.set_count] != NULL) {
        sources.set_count++;
    }
    OK(mf_settings_open(&sources, &t->settings, &t->err));
    if (o->sqlite) {
        mf_sqlite_options sqlite = mf_sqlite_options_default(t->path);
        sqlite.sync = MF_SYNC_OFF;
        OK(mf_sqlite_store_open(&sqlite, &t->store, &t->err));
    } else {
        OK(mf_memory_store_open(&t->store, &t->err));
    }
    if (o->faulty) {
        OK(mf_faulty_store_open(t->store, &t->store, &t->err));
    }
    mf_writer_options writer = {.queue_max = o->queue_max > 0 ? o->queue_max : 4096,
                                .group_max = 64};
    OK(mf_writer_open(t->store, &writer, &t->writer, &t->err));
    OK(mf_conn_pool_open(t->store, 6, &t->readers, &t->err));
    OK(mf_conn_pool_open(t->store, 4, &t->background, &t->err));
    OK(mf_token_counter_open(NULL, &t->tokens, &t->err));
    if (!o->no_model) {
        const char *dir = o->model_dir != NULL ? o->model_dir : t->model_dir;
        mf_embedder_options embedder = mf_embedder_options_default(1);
        embedder.cache_count_max = 1000;
        mf_encoder_options encoder = {.precision = o->precision,
                                      .dimensions = o->dimensions};
        OK(mf_encoder_open(dir, &encoder, &t->encoder, &t->err));
        OK(mf_embedder_open(t->encoder, &embedder, &t->embedder, &t->err));
    }
    if (o->runtime) {
        mf_runtime_options runtime = {.settings = t->settings};
        OK(mf_runtime_open(&runtime, &t->runtime, &t->err));
    }
    mf_service_parts parts = {.store = t->store,
                              .writer = t->writer,
                              .readers = t->readers,
                              .background = t->background,
                              .embedder = t->embedder,
                              .tokens = t->tokens,
                              .settings = t->settings,
                              .runtime = t->runtime};
    OK(mf_service_open(&parts, &t->service, &t->err));
}

static inline void world_close_service(world *t) {
    mf_service_close(t->service);
    mf_embedder_close(t->embedder);
    mf_runtime_close(t->runtime);
    mf_model_registry_process_reset();
    t->encoder = mf_encoder_unref(t->encoder);
    mf_token_counter_close(t->tokens);
    mf_conn_pool_close(t->readers);
    mf_conn_pool_close(t->background);
    mf_writer_close(t->writer);
    t->store->ops->close(t->store);
    mf_settings_close(t->settings);
    t->service = NULL;
    t->embedder = NULL;
    t->runtime = NULL;
}

/* Its folder and its model, and nothing that runs: a test that forks opens the service
 * in its children. */
static inline world *world_prepare(world_options options) {
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    size_t live_before = mf_alloc_live();
    world *t = mf_alloc_zero(1, sizeof *t);
    assert_non_null(t);
    t->live_before = live_before;
    t->options = options;
    (void)snprintf(t->dir, sizeof t->dir, "/tmp/mf-service-test-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    (void)snprintf(t->path, sizeof t->path, "%s/db", t->dir);
    if (!options.no_model && options.model_dir == NULL) {
        tiny_model_make(t->model_dir);
    }
    OK(mf_arena_new(WORLD_ARENA_MAX, &t->arena, &t->err));
    return t;
}

static inline world *world_open(world_options options) {
    world *t = world_prepare(options);
    world_open_service(t);
    return t;
}

/* Closes everything and opens it again over the same file. */
static inline void world_restart(world *t) {
    world_close_service(t);
    world_open_service(t);
}

/* Undoes world_prepare. */
static inline void world_remove(world *t) {
    static const char *const tails[] = {"", "-wal", "-shm"};
    mf_arena_free(t->arena);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        char path[160];
        (void)snprintf(path, sizeof path, "%s%s", t->path, tails[i]);
        (void)unlink(path); /* the memory store made none */
    }
    (void)rmdir(t->dir);
    if (t->model_dir[0] != '\0') {
        tiny_model_remove(t->model_dir);
    }
    size_t live_before = t->live_before;
    mf_free(t);
    assert_int_equal(mf_alloc_live(), live_before);
}

static inline void world_close(world *t) {
    world_close_service(t);
    world_remove(t);
}

/* --- short ways --- */

/* An id as text, good until the arena goes. */
static inline mf_str id_text(world *t, mf_uuid id) {
    char text[MF_UUID_TEXT + 1];
    mf_uuid_format(id, text);
    mf_str copy = mf_arena_str(t->arena, mf_str_from(text));
    assert_non_null(copy.p);
    return copy;
}

static inline mf_str new_user(world *t, const char *name) {
    mf_named_row row;
    OK(mf_service_named_create(t->service, MF_NAMED_USER, mf_str_from(name),
                               MF_STR_NONE, t->arena, &row, &t->err));
    return id_text(t, row.id);
}

static inline mf_str new_agent(world *t, const char *name) {
    mf_named_row row;
    OK(mf_service_named_create(t->service, MF_NAMED_AGENT, mf_str_from(name),
                               MF_STR_NONE, t->arena, &row, &t->err));
    return id_text(t, row.id);
}

static inline mf_str new_session(world *t, mf_str user, mf_str agent,
                                 const char *name) {
    mf_session_row row;
    mf_str text = name != NULL ? mf_str_from(name) : MF_STR_NONE;
    OK(mf_service_session_create(t->service, user, agent, text, t->arena, &row,
                                 &t->err));
    return id_text(t, row.id);
}

static inline mf_str add_one(world *t, mf_str session, const char *content) {
    mf_new_message message = {.role = MF_ROLE_USER, .content = mf_str_from(content)};
    mf_uuid id;
    OK(mf_service_add_wait(t->service, session, &message, 1, &id, &t->err));
    return id_text(t, id);
}

static inline mf_query query_for(mf_str user, const char *text) {
    return (mf_query){.user_id = user,
                      .text = mf_str_from(text),
                      .top_k = 10,
                      .path = MF_PATH_BLEND,
                      .messages = true,
                      .knowledge = true,
                      .deadline_ns = mf_deadline_in_ms(60000)};
}

static inline mf_results ask(world *t, mf_query query) {
    mf_results results;
    OK(mf_service_query(t->service, &query, t->arena, &results, &t->err));
    return results;
}

/* The place of a text among the results, or -1. */
static inline int place_of(const mf_results *results, const char *content) {
    for (size_t i = 0; i < results->count; i++) {
        if (mf_str_eq(results->rows[i].content, mf_str_from(content))) {
            return (int)i;
        }
    }
    return -1;
}

static inline size_t list_count(world *t, mf_str session, mf_list_part part) {
    mf_list_options options = {.limit = 1000, .part = part};
    mf_message_row *rows;
    size_t count;
    OK(mf_service_messages_list(t->service, session, &options, t->arena, &rows, &count,
                                &t->err));
    return count;
}

static inline void flush_all(world *t) {
    OK(mf_service_settle(t->service, mf_deadline_in_ms(60000), &t->err));
}

static inline mf_service_status status_of(world *t) {
    mf_service_status status;
    OK(mf_service_get_status(t->service, &status, &t->err));
    return status;
}

static inline void assert_text(mf_str text, const char *expected) {
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.p, expected, text.len);
}

/* The last failure's message and field. */
static inline void assert_blame(const world *t, const char *field,
                                const char *message) {
    assert_string_equal(t->err.text, message);
    assert_string_equal(t->err.field, field);
}

#endif
