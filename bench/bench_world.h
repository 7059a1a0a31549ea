/* bench_world.h - for benchmarks inside the process: a whole service over an SQLite
 * store in a folder of its own, wired as src/lib/engine.c wires it, and small tools for
 * measuring by turns. */
#ifndef MF_BENCH_WORLD_H
#define MF_BENCH_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/rng.h"
#include "os/cpu.h"
#include "service/service.h"
#include "store/sqlite/sqlite_store.h"

enum { WORLD_SETS_MAX = 12, WORLD_ARENA_MAX = 256 << 20, WORLD_TEXT_MAX = 512 };

static const char *world_folder = P_tmpdir; /* on the disk that will hold the data */

typedef struct world_options {
    const char *model_dir; /* NULL: words only */
    mf_sync_mode sync;
    const char *sets[WORLD_SETS_MAX]; /* "key=value"; NULL ends them */
} world_options;

typedef struct world {
    char dir[512], path[600];
    mf_settings *settings;
    mf_cache_manager *caches;
    mf_store *store;
    mf_writer *writer;
    mf_reader_pool *readers;
    mf_encoder *encoder;
    mf_embedder *embedder;
    mf_token_counter *tokens;
    mf_service *service;
    mf_arena *arena; /* of the main thread */
} world;

static inline void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "%s: %s\n", mf_rc_name(rc), err->text);
        exit(1);
    }
}

static inline void must_sys(bool good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static inline void world_open_model(world *w, const char *dir) {
    mf_err err;
    mf_encoder_options options = mf_encoder_options_default();
    mf_embedder_options lanes = mf_embedder_options_default(mf_cpu_count());
    const mf_config *c = mf_settings_get(w->settings);
    lanes.cache_count_max = (size_t)c->embedding_cache_size;
    lanes.caches = w->caches;
    must(mf_encoder_open(dir, &options, &w->encoder, &err), &err);
    must(mf_embedder_open(w->encoder, &lanes, &w->embedder, &err), &err);
}

static inline void world_open(world *w, const world_options *options) {
    mf_err err;
    mf_log_setup(MF_LOG_WARN, MF_LOG_TEXT);
    *w = (world){.service = NULL};
    (void)snprintf(w->dir, sizeof w->dir, "%s/mf-bench-XXXXXX", world_folder);
    must_sys(mkdtemp(w->dir) != NULL, w->dir);
    (void)snprintf(w->path, sizeof w->path, "%s/db", w->dir);
    mf_config_sources sources = {.sets = options->sets};
    while (sources.set_count < WORLD_SETS_MAX &&
           options->sets[sources.set_count] != NULL) {
        sources.set_count++;
    }
    must(mf_settings_open(&sources, &w->settings, &err), &err);
    const mf_config *c = mf_settings_get(w->settings);
    must(mf_cache_manager_open((size_t)c->memory_cache_budget_mb << 20,
                               (unsigned)c->memory_cache_pressure_percent, &w->caches,
                               &err),
         &err);
    mf_sqlite_options sqlite = mf_sqlite_options_default(w->path);
    sqlite.sync = options->sync;
    must(mf_sqlite_store_open(&sqlite, &w->store, &err), &err);
    mf_writer_options writer = {.queue_max = (size_t)c->store_queue_max,
                                .group_max = (size_t)c->store_group_max};
    must(mf_writer_open(w->store, &writer, &w->writer, &err), &err);
    must(mf_reader_pool_open(w->store, (size_t)c->store_readers, &w->readers, &err),
         &err);
    must(mf_token_counter_open(NULL, &w->tokens, &err), &err);
    if (options->model_dir != NULL) {
        world_open_model(w, options->model_dir);
    }
    mf_service_parts parts = {.store = w->store,
                              .writer = w->writer,
                              .readers = w->readers,
                              .embedder = w->embedder,
                              .tokens = w->tokens,
                              .settings = w->settings,
                              .caches = w->caches};
    must(mf_service_open(&parts, &w->service, &err), &err);
    must(mf_arena_new(WORLD_ARENA_MAX, &w->arena, &err), &err);
}

static inline void world_close(world *w) {
    static const char *const tails[] = {"", "-wal", "-shm"};
    mf_arena_free(w->arena);
    mf_service_close(w->service);
    mf_embedder_close(w->embedder);
    w->encoder = mf_encoder_unref(w->encoder);
    mf_token_counter_close(w->tokens);
    mf_reader_pool_close(w->readers);
    mf_writer_close(w->writer);
    w->store->ops->close(w->store);
    mf_cache_manager_close(w->caches);
    mf_settings_close(w->settings);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        char path[620];
        (void)snprintf(path, sizeof path, "%s%s", w->path, tails[i]);
        (void)unlink(path); /* SQLite has removed some itself */
    }
    must_sys(rmdir(w->dir) == 0, w->dir);
}

/* --- who asks --- */

typedef struct world_user {
    char user[MF_UUID_TEXT + 1], session[MF_UUID_TEXT + 1];
} world_user;

static inline void world_id(mf_uuid id, char out[MF_UUID_TEXT + 1]) {
    mf_uuid_format(id, out);
    out[MF_UUID_TEXT] = '\0';
}

static inline void world_agent(world *w, char out[MF_UUID_TEXT + 1]) {
    mf_err err;
    mf_named_row row;
    must(mf_service_named_create(w->service, MF_NAMED_AGENT, MF_STR("bench"),
                                 MF_STR_NONE, w->arena, &row, &err),
         &err);
    world_id(row.id, out);
}

static inline void world_user_new(world *w, const char *agent, const char *name,
                                  world_user *out) {
    mf_err err;
    mf_named_row user;
    mf_session_row session;
    must(mf_service_named_create(w->service, MF_NAMED_USER, mf_str_from(name),
                                 MF_STR_NONE, w->arena, &user, &err),
         &err);
    world_id(user.id, out->user);
    must(mf_service_session_create(w->service, mf_str_from(out->user),
                                   mf_str_from(agent), MF_STR("s"), w->arena, &session,
                                   &err),
         &err);
    world_id(session.id, out->session);
    mf_arena_reset(w->arena);
}

static inline void world_add(world *w, const world_user *u, const char *text) {
    mf_err err;
    mf_uuid id;
    mf_new_message message = {.content = mf_str_from(text)};
    must(mf_service_add_wait(w->service, mf_str_from(u->session), &message, 1, &id,
                             &err),
         &err);
}

/* How many results; MF_E_BUSY and MF_E_TIMEOUT end the program like any other error. */
static inline size_t world_ask(world *w, const world_user *u, const char *text,
                               mf_arena *arena) {
    mf_err err;
    mf_results results;
    mf_query query = {.user_id = mf_str_from(u->user),
                      .text = mf_str_from(text),
                      .top_k = 10,
                      .path = MF_PATH_BLEND,
                      .messages = true,
                      .knowledge = true,
                      .deadline_ns = mf_deadline_in_ms(60000)};
    must(mf_service_query(w->service, &query, arena, &results, &err), &err);
    mf_arena_reset(arena);
    return results.count;
}

static inline size_t world_list(world *w, const world_user *u, mf_list_part part,
                                mf_arena *arena) {
    mf_err err;
    mf_message_row *rows;
    size_t count;
    mf_list_options options = {.limit = 20, .descending = true, .part = part};
    must(mf_service_messages_list(w->service, mf_str_from(u->session), &options, arena,
                                  &rows, &count, &err),
         &err);
    mf_arena_reset(arena);
    return count;
}

static inline void world_flush(world *w, const char *user) {
    mf_err err;
    must(mf_service_flush(w->service, mf_str_from(user), mf_deadline_in_ms(600000),
                          &err),
         &err);
}

/* --- texts --- */

static inline size_t world_sentence(mf_rng *rng, size_t words,
                                    char out[WORLD_TEXT_MAX]) {
    static const char *const all[] = {
        "garden",  "train",   "doctor",  "music",   "river",   "kitchen",
        "project", "holiday", "winter",  "budget",  "sister",  "laptop",
        "coffee",  "market",  "museum",  "bicycle", "meeting", "recipe",
        "weather", "ticket",  "school",  "puppy",   "guitar",  "painting",
        "running", "library", "dentist", "moved",   "bought",  "likes",
        "visited", "forgot",  "planned", "learned", "called",  "prefers"};
    size_t n = 0;
    for (size_t i = 0; i < words && n + 32 < WORLD_TEXT_MAX; i++) {
        uint64_t r = mf_rng_next(rng);
        n += (size_t)snprintf(out + n, WORLD_TEXT_MAX - n, "%s%s", i > 0 ? " " : "",
                              all[r % (sizeof all / sizeof all[0])]);
    }
    return n;
}

/* A sentence that nobody else has: its last word is a number. */
static inline void world_unique(mf_rng *rng, size_t words, char out[WORLD_TEXT_MAX]) {
    static atomic_ullong number;
    size_t n = world_sentence(rng, words, out);
    (void)snprintf(out + n, WORLD_TEXT_MAX - n, " n%llu", atomic_fetch_add(&number, 1));
}

/* --- figures --- */

static inline int by_double(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct spread {
    double median, least, most;
} spread;

/* Sorts. */
static inline spread spread_of(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_double);
    return (spread){values[count / 2], values[0], values[count - 1]};
}

/* A line of /proc/self/NAME in kilobytes; 0 when there is none. */
static inline long proc_kb(const char *name, const char *field) {
    char path[64];
    char line[256];
    long value = 0;
    (void)snprintf(path, sizeof path, "/proc/self/%s", name);
    FILE *in = fopen(path, "r");
    while (in != NULL && value == 0 && fgets(line, sizeof line, in) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            value = strtol(line + strlen(field) + 1, NULL, 10);
        }
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    return value;
}

static inline double rss_mb(void) {
    return (double)proc_kb("status", "VmRSS") / 1024;
}

#endif
