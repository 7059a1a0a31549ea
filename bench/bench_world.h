/* bench_world.h - for benchmarks inside the process: a whole service over an SQLite
 * store in a folder of its own, wired as src/lib/engine.c wires it, and small tools for
 * measuring by turns. */
#ifndef MF_BENCH_WORLD_H
#define MF_BENCH_WORLD_H

#include <dirent.h>
#include <fcntl.h>
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
#include "lib/engine_service.h"
#include "os/cpu.h"
#include "service/service_impl.h"

enum { WORLD_SETS_MAX = 8, WORLD_ARENA_MAX = 256 << 20, WORLD_TEXT_MAX = 512 };

static const char *world_folder = P_tmpdir; /* on the disk that will hold the data */

typedef struct world_options {
    const char *model_dir;            /* NULL: words only */
    bool careless;                    /* a power cut may lose what was acknowledged */
    const char *sets[WORLD_SETS_MAX]; /* "key=value"; NULL ends them */
} world_options;

typedef struct world {
    char dir[512];
    mf_engine *engine;
    mf_service *service;           /* of the engine */
    const mf_service_parts *parts; /* of the service */
    mf_arena *arena;               /* of the main thread */
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

/* Settings beside those of the options: where the data is, which model. */
enum { WORLD_OWN_SETS = 5 };

static inline void world_open(world *w, const world_options *options) {
    char own[WORLD_OWN_SETS][600];
    const char *sets[WORLD_SETS_MAX + WORLD_OWN_SETS];
    char error[MF_ENGINE_ERROR_TEXT];
    mf_err err;
    mf_engine_options engine = mf_engine_options_default();
    mf_log_setup(MF_LOG_WARN, MF_LOG_TEXT);
    *w = (world){.service = NULL};
    (void)snprintf(w->dir, sizeof w->dir, "%s/mf-bench-XXXXXX", world_folder);
    must_sys(mkdtemp(w->dir) != NULL, w->dir);
    (void)snprintf(own[0], sizeof own[0], "server.data_dir=%s", w->dir);
    (void)snprintf(own[1], sizeof own[1], "store.synchronous=%s",
                   options->careless ? "off" : "full");
    (void)snprintf(own[2], sizeof own[2], "log.level=warn");
    if (options->model_dir != NULL) {
        (void)snprintf(own[3], sizeof own[3], "model.dir=%s", options->model_dir);
        (void)snprintf(own[4], sizeof own[4],
                       "model.ranks_file=%s/../o200k_base.tiktoken",
                       options->model_dir);
    }
    while (engine.set_count < (options->model_dir != NULL ? 5 : 3)) {
        sets[engine.set_count] = own[engine.set_count];
        engine.set_count++;
    }
    for (int i = 0; i < WORLD_SETS_MAX && options->sets[i] != NULL; i++) {
        sets[engine.set_count++] = options->sets[i];
    }
    engine.mode = MF_ENGINE_EMBEDDED;
    engine.use_environment = 0;
    engine.sets = sets;
    if (mf_engine_open(&engine, &w->engine, error) != 0) {
        (void)fprintf(stderr, "%s\n", error);
        exit(1);
    }
    w->service = mf_engine_service(w->engine);
    w->parts = &w->service->parts;
    must(mf_arena_new(WORLD_ARENA_MAX, &w->arena, &err), &err);
}

static inline void world_close(world *w) {
    mf_arena_free(w->arena);
    mf_engine_close(w->engine);
    DIR *dir = opendir(w->dir);
    must_sys(dir != NULL, w->dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.') {
            must_sys(unlinkat(dirfd(dir), entry->d_name, 0) == 0, entry->d_name);
        }
    }
    (void)closedir(dir);
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
                          NULL, &err),
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
