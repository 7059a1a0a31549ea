/* bench_tiers.c - what it costs to find what is shared: an active user and a model.
 *
 *   bench_tiers
 *
 * Users: the table of active users (service/registry.h) beside the plain way to keep
 * them in order of use, one map and one list under one lock; both find, take a
 * reference and give it back, on the same ids in the same random order, by turns, with
 * 1, 2 and 4 threads.  Models: a look into the table of models (model/model_registry.h)
 * and, with files looked at, an open that finds an instance.  Medians over the rounds,
 * and the spread. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mutex.h"
#include "base/rng.h"
#include "model/model_registry.h"
#include "service/registry.h"

enum {
    USERS = 1000,
    LOOKUPS = 400000,
    ROUNDS = 9,
    USER_BYTES = 448,
    THREADS_MAX = 4,
    MODEL_GETS = 200000
};

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "bench_tiers: %s\n", err->text);
        exit(1);
    }
}

/* --- one lock and a list in order of use --- */

typedef struct listed {
    struct listed *prev, *next;
    atomic_size_t refs;
    mf_uuid id;
    char rest[USER_BYTES]; /* a user's state lies around it, as in the registry */
} listed;

typedef struct one_lock {
    mf_mutex list_mu;
    mf_map *map;
    listed *hot, *cold;
    listed *users[USERS];
} one_lock;

static void link_hot(one_lock *table, listed *user) {
    user->prev = NULL;
    user->next = table->hot;
    *(table->hot != NULL ? &table->hot->prev : &table->cold) = user;
    table->hot = user;
}

static listed *one_lock_find(one_lock *table, mf_uuid id) {
    mf_mutex_lock(&table->list_mu);
    listed *user = mf_map_get(table->map, mf_uuid_key(&id));
    if (table->hot != user) {
        *(user->prev != NULL ? &user->prev->next : &table->hot) = user->next;
        *(user->next != NULL ? &user->next->prev : &table->cold) = user->prev;
        link_hot(table, user);
    }
    atomic_fetch_add(&user->refs, 1);
    mf_mutex_unlock(&table->list_mu);
    return user;
}

/* --- the two under the same load --- */

typedef struct bench {
    one_lock *plain;
    mf_registry *registry;
    mf_uuid ids[USERS];
} bench;

typedef struct runner {
    bench *b;
    bool plain;
    uint64_t seed;
} runner;

static void run(void *arg) {
    runner *r = arg;
    mf_rng rng;
    mf_rng_init(&rng, r->seed);
    for (int i = 0; i < LOOKUPS; i++) {
        mf_uuid id = r->b->ids[mf_rng_below(&rng, USERS)];
        if (r->plain) {
            atomic_fetch_sub(&one_lock_find(r->b->plain, id)->refs, 1);
        } else {
            mf_user_unref(mf_registry_find(r->b->registry, id));
        }
    }
}

/* Nanoseconds of one look-up, as its thread sees it. */
static double measure(bench *b, bool plain, size_t threads) {
    mf_thread running[THREADS_MAX] = {0};
    runner runners[THREADS_MAX];
    mf_err err = {0};
    int64_t start_ns = mf_now_ns();
    for (size_t i = 0; i < threads; i++) {
        runners[i] = (runner){.b = b, .plain = plain, .seed = i + 1};
        must(mf_thread_start(&running[i], "bench", run, &runners[i], &err), &err);
    }
    for (size_t i = 0; i < threads; i++) {
        mf_thread_join(&running[i]);
    }
    return (double)(mf_now_ns() - start_ns) / LOOKUPS;
}

static int rising(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *values) {
    qsort(values, ROUNDS, sizeof(values[0]), rising);
    (void)printf("  %-34s %8.0f ns  (%.0f to %.0f)\n", what, values[ROUNDS / 2],
                 values[0], values[ROUNDS - 1]);
}

static void compare(bench *b, size_t threads) {
    double plain[ROUNDS];
    double parts[ROUNDS];
    double ratio[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        plain[i] = measure(b, true, threads);
        parts[i] = measure(b, false, threads);
        ratio[i] = plain[i] / parts[i];
    }
    (void)printf("an active user found, %zu thread%s\n", threads,
                 threads > 1 ? "s" : "");
    print("one lock, list in order of use", plain);
    print("the registry, 64 parts", parts);
    qsort(ratio, ROUNDS, sizeof(ratio[0]), rising);
    (void)printf("  %-34s %8.2f     (%.2f to %.2f)\n", "ratio", ratio[ROUNDS / 2],
                 ratio[0], ratio[ROUNDS - 1]);
}

static mf_rc exists(void *ctx, mf_uuid id, mf_user_overrides **own, mf_err *err) {
    (void)ctx;
    (void)id;
    (void)own;
    (void)err;
    return MF_OK;
}

static void bench_users(void) {
    mf_err err = {0};
    mf_user_totals totals = {0};
    mf_settings *settings;
    must(mf_settings_open(&(mf_config_sources){0}, &settings, &err), &err);
    mf_service_parts parts = {.settings = settings};
    bench *b = mf_alloc_zero(1, sizeof(*b));
    one_lock *plain = mf_alloc_zero(1, sizeof(*plain));
    if (b == NULL || plain == NULL) {
        exit(1);
    }
    b->plain = plain;
    mf_mutex_init(&plain->list_mu, MF_RANK_REGISTRY);
    must(mf_map_new(USERS, &plain->map, &err), &err);
    must(mf_registry_open(&parts, &totals, &b->registry, &err), &err);
    for (size_t i = 0; i < USERS; i++) {
        mf_user *user;
        b->ids[i] = mf_uuid_new();
        listed *one = mf_alloc_zero(1, sizeof(*one));
        if (one == NULL) {
            exit(1);
        }
        one->id = b->ids[i];
        plain->users[i] = one;
        must(mf_map_put(plain->map, mf_uuid_key(&b->ids[i]), one, NULL), &err);
        link_hot(plain, one);
        must(mf_registry_get(b->registry, b->ids[i], exists, NULL, MF_NEVER, &user,
                             &err),
             &err);
        mf_user_unref(user);
    }
    (void)measure(b, true, 1); /* warm */
    (void)measure(b, false, 1);
    for (size_t threads = 1; threads <= THREADS_MAX; threads *= 2) {
        compare(b, threads);
    }
    mf_registry_close(b->registry);
    mf_map_free(plain->map);
    for (size_t i = 0; i < USERS; i++) {
        mf_free(plain->users[i]);
    }
    mf_mutex_done(&plain->list_mu);
    mf_settings_close(settings);
    mf_free(plain);
    mf_free(b);
}

/* --- models --- */

static double get_model(mf_model_registry *registry, bool check_files) {
    mf_err err = {0};
    mf_model_ask ask = {.dir = MF_BENCH_MODEL_DIR,
                        .options = mf_encoder_options_default(),
                        .check_files = check_files};
    int64_t start_ns = mf_now_ns();
    for (int i = 0; i < MODEL_GETS; i++) {
        mf_encoder *encoder;
        must(mf_model_registry_get(registry, &ask, &encoder, &err), &err);
        (void)mf_encoder_unref(encoder); /* always NULL */
    }
    return (double)(mf_now_ns() - start_ns) / MODEL_GETS;
}

static void bench_models(void) {
    mf_err err = {0};
    mf_model_registry *registry;
    must(mf_model_registry_open(&registry, &err), &err);
    mf_encoder *encoder;
    mf_model_ask ask = {.dir = MF_BENCH_MODEL_DIR,
                        .options = mf_encoder_options_default()};
    int64_t start_ns = mf_now_ns();
    must(mf_model_registry_get(registry, &ask, &encoder, &err), &err);
    double first_ms = (double)(mf_now_ns() - start_ns) / MF_NS_PER_MS;
    double found[ROUNDS];
    double checked[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        found[i] = get_model(registry, false);
        checked[i] = get_model(registry, true);
    }
    (void)printf("a model\n  %-34s %8.1f ms\n", "loaded the first time", first_ms);
    print("found", found);
    print("found, its files looked at", checked);
    (void)mf_encoder_unref(encoder); /* always NULL */
    mf_model_registry_close(registry);
}

int main(void) {
    bench_users();
    bench_models();
    return 0;
}
