/* model_registry.c - the table of model instances.
 *
 * Two tables: rows, one per instance, and asks, which remember what was asked for by
 * its bytes (path, task, precision, dimensions) and lead to a row or to a load under
 * way.  Several asks may lead to one row.  An ask whose load fails goes away with it.
 *
 * registry_mu guards both and is never held while a model loads.  A row's encoder has
 * one reference of the registry; new ones are only given out under registry_mu or by
 * somebody who has one, so a count of 1 under it means that nobody uses the instance.
 */
#include "model/model_registry.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "model/encoder_private.h"
#include "os/file.h"
#include "os/file_stamp.h"

enum {
    ASKS_MAX = 8 * MF_MODELS_MAX,
    STAMPED = 4, /* files that make an instance what it is */
};

static const char *const stamped_files[STAMPED] = {"config.json", "model.safetensors",
                                                   "tokenizer.json", "vocab.txt"};

typedef struct stamps {
    mf_file_stamp of[STAMPED]; /* zero: not there */
} stamps;

typedef struct row {
    mf_encoder *encoder; /* NULL: the row is free */
    char dir[MF_PATH_MAX];
    mf_model_task task;
    stamps seen;
    bool pinned;
    uint64_t hits;
    uint64_t number; /* rises with every row made: the oldest is the lowest */
    int64_t load_ns, used_ns;
} row;

/* A load under way.  It outlives its ask, which a row may take along as soon as the
 * load is over: whoever is last to look at the outcome frees it. */
typedef struct loading {
    size_t waits; /* threads that wait for it */
    bool done;
    mf_rc rc; /* the outcome, from here on */
    mf_err err;
    mf_encoder *encoder; /* with a reference for each who waited */
} loading;

typedef struct ask {
    char *dir; /* NULL: the ask is free */
    uint64_t hash;
    mf_encoder_options options;
    row *to;       /* NULL: a load is under way */
    loading *load; /* that load */
} ask;

struct mf_model_registry {
    mf_mutex registry_mu; /* guards all below */
    mf_cond loaded;
    row rows[MF_MODELS_MAX];
    ask asks[ASKS_MAX];
    uint64_t numbers;
    mf_model_registry_stats stats; /* without the figures of the moment */
};

/* --- life --- */

mf_rc mf_model_registry_open(mf_model_registry **out, mf_err *err) {
    mf_model_registry *registry = mf_alloc_zero(1, sizeof *registry);
    if (registry == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the table of models");
    }
    mf_mutex_init(&registry->registry_mu, MF_RANK_POOL);
    mf_cond_init(&registry->loaded);
    *out = registry;
    return MF_OK;
}

void mf_model_registry_close(mf_model_registry *registry) {
    if (registry == NULL) {
        return;
    }
    for (size_t i = 0; i < ASKS_MAX; i++) {
        mf_free(registry->asks[i].dir); /* no load is under way */
    }
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        (void)mf_encoder_unref(registry->rows[i].encoder); /* always NULL */
    }
    mf_cond_done(&registry->loaded);
    mf_mutex_done(&registry->registry_mu);
    mf_free(registry);
}

static pthread_mutex_t process_mu = PTHREAD_MUTEX_INITIALIZER;
static mf_model_registry *process_registry; /* guarded by process_mu */

mf_model_registry *mf_model_registry_process(void) {
    (void)pthread_mutex_lock(&process_mu); /* fails only for a broken mutex */
    if (process_registry == NULL) {
        mf_rc rc = mf_model_registry_open(&process_registry, NULL);
        (void)rc; /* it stays NULL, which says so */
    }
    mf_model_registry *registry = process_registry;
    (void)pthread_mutex_unlock(&process_mu);
    return registry;
}

void mf_model_registry_process_reset(void) {
    (void)pthread_mutex_lock(&process_mu);
    mf_model_registry *registry = process_registry;
    process_registry = NULL;
    (void)pthread_mutex_unlock(&process_mu);
    mf_model_registry_close(registry);
}

/* --- files --- */

/* A file that cannot be looked at counts as one that is not there: loading tells. */
static stamps stamps_of(const char *dir) {
    stamps found = {0};
    char path[MF_PATH_MAX];
    for (size_t i = 0; i < STAMPED; i++) {
        if (mf_path_join(path, sizeof path, dir, stamped_files[i], NULL) != MF_OK ||
            mf_file_stamp_get(path, &found.of[i], NULL) != MF_OK) {
            found.of[i] = (mf_file_stamp){0};
        }
    }
    return found;
}

static bool stamps_eq(const stamps *a, const stamps *b) {
    bool equal = true;
    for (size_t i = 0; i < STAMPED; i++) {
        equal = equal && mf_file_stamp_eq(&a->of[i], &b->of[i]);
    }
    return equal;
}

/* --- asks and rows --- */

static bool options_eq(const mf_encoder_options *a, const mf_encoder_options *b) {
    return a->precision == b->precision && a->task == b->task &&
           a->dimensions == b->dimensions;
}

static ask *find_ask_locked(mf_model_registry *registry, const mf_model_ask *wanted,
                            uint64_t hash) MF_REQUIRES(registry->registry_mu) {
    for (size_t i = 0; i < ASKS_MAX; i++) {
        ask *a = &registry->asks[i];
        if (a->dir != NULL && a->hash == hash &&
            options_eq(&a->options, &wanted->options) &&
            strcmp(a->dir, wanted->dir) == 0) {
            return a;
        }
    }
    return NULL;
}

static void free_ask_locked(ask *a) {
    mf_free(a->dir);
    *a = (ask){.dir = NULL};
}

/* A free place; else that of an ask whose row other asks or a new one will find again.
 */
static ask *place_for_ask_locked(mf_model_registry *registry)
    MF_REQUIRES(registry->registry_mu) {
    ask *settled = NULL;
    for (size_t i = 0; i < ASKS_MAX; i++) {
        ask *a = &registry->asks[i];
        if (a->dir == NULL) {
            return a;
        }
        settled = a->to != NULL ? a : settled;
    }
    if (settled != NULL) {
        free_ask_locked(settled);
    }
    return settled;
}

/* Takes the row out of the table; the caller gets the registry's reference. */
static mf_encoder *free_row_locked(mf_model_registry *registry, row *r)
    MF_REQUIRES(registry->registry_mu) {
    for (size_t i = 0; i < ASKS_MAX; i++) {
        ask *a = &registry->asks[i];
        if (a->dir != NULL && a->to == r) {
            free_ask_locked(a);
        }
    }
    mf_encoder *encoder = r->encoder;
    *r = (row){.encoder = NULL};
    registry->stats.released++;
    return encoder;
}

static bool is_used(const row *r) {
    return atomic_load(&r->encoder->refs) > 1;
}

/* A free row, or that of the longest unused instance, whose reference goes to *left. */
static row *place_for_row_locked(mf_model_registry *registry, mf_encoder **left)
    MF_REQUIRES(registry->registry_mu) {
    row *oldest = NULL;
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        row *r = &registry->rows[i];
        if (r->encoder == NULL) {
            return r;
        }
        if (!is_used(r) && !r->pinned &&
            (oldest == NULL || r->used_ns < oldest->used_ns)) {
            oldest = r;
        }
    }
    if (oldest != NULL) {
        *left = free_row_locked(registry, oldest);
    }
    return oldest;
}

/* The instance that gives the same vectors as `encoder` would. */
static row *find_same_locked(mf_model_registry *registry, const row *like)
    MF_REQUIRES(registry->registry_mu) {
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        row *r = &registry->rows[i];
        if (r->encoder != NULL && r->task == like->task &&
            strcmp(r->dir, like->dir) == 0 && stamps_eq(&r->seen, &like->seen) &&
            r->encoder->info.dim == like->encoder->info.dim &&
            strcmp(r->encoder->info.precision, like->encoder->info.precision) == 0) {
            return r;
        }
    }
    return NULL;
}

/* --- loading --- */

static mf_rc load(const mf_model_ask *wanted, row *out, mf_err *err) {
    *out = (row){.task = wanted->options.task};
    char *real = realpath(wanted->dir, out->dir);
    if (real == NULL) {
        (void)snprintf(out->dir, sizeof out->dir, "%s",
                       wanted->dir); /* opening tells */
    }
    out->seen = stamps_of(out->dir);
    int64_t start_ns = mf_now_ns();
    MF_TRY(mf_encoder_open(wanted->dir, &wanted->options, &out->encoder, err));
    out->load_ns = mf_now_ns() - start_ns;
    out->used_ns = mf_now_ns();
    return MF_OK;
}

/* The loaded instance enters, or one that is the same takes its place.  The row it is
 * in, or NULL when there is no room.  *left: a reference to give up outside the lock.
 */
static row *enter_locked(mf_model_registry *registry, row *loaded, mf_encoder **left)
    MF_REQUIRES(registry->registry_mu) {
    registry->stats.load_ns += loaded->load_ns;
    row *same = find_same_locked(registry, loaded);
    if (same != NULL) {
        registry->stats.aliases++;
        *left = loaded->encoder;
        return same;
    }
    row *place = place_for_row_locked(registry, left);
    if (place != NULL) {
        registry->stats.loads++;
        loaded->number = ++registry->numbers;
        *place = *loaded;
    }
    return place;
}

/* The ask's load is over, and so is the ask if there is no row. */
static void settle_locked(mf_model_registry *registry, ask *a, row *to, mf_rc rc,
                          const mf_err *err) MF_REQUIRES(registry->registry_mu) {
    loading *l = a->load;
    l->done = true;
    l->rc = rc;
    if (to != NULL) {
        l->encoder = to->encoder;
        for (size_t i = 0; i < l->waits; i++) {
            (void)mf_encoder_ref(to->encoder);
        }
        a->to = to;
        a->load = NULL;
    } else {
        l->err = *err;
        free_ask_locked(a);
    }
    if (l->waits == 0) {
        mf_free(l);
    }
    mf_cond_broadcast(&registry->loaded);
}

static mf_rc load_shared(mf_model_registry *registry, const mf_model_ask *wanted,
                         ask *a, mf_encoder **out, mf_err *err) {
    row *loaded = mf_alloc(sizeof *loaded);
    mf_err why = {0};
    mf_encoder *left = NULL;
    mf_rc rc = loaded != NULL ? load(wanted, loaded, &why)
                              : MF_FAIL(&why, MF_E_NOMEM, "no memory to load a model");
    mf_mutex_lock(&registry->registry_mu);
    row *to = rc == MF_OK ? enter_locked(registry, loaded, &left) : NULL;
    if (to != NULL) {
        *out = mf_encoder_ref(to->encoder);
    } else if (rc == MF_OK) { /* no room: what was loaded is the caller's alone */
        *out = loaded->encoder;
        registry->stats.outside++;
        rc = MF_FAIL(&why, MF_E_BUSY, "all %d places for models are taken",
                     MF_MODELS_MAX);
    } else {
        registry->stats.failed++;
    }
    settle_locked(registry, a, to, rc, &why);
    mf_mutex_unlock(&registry->registry_mu);
    (void)mf_encoder_unref(left);
    bool outside = to == NULL && loaded != NULL && loaded->encoder != NULL;
    mf_free(loaded);
    if (outside) {
        mf_log(MF_LOG_WARN, "model_not_shared", "model=%s reason=%s", wanted->dir,
               "all places for models are taken by models in use");
        return MF_OK;
    }
    if (rc != MF_OK && err != NULL) {
        *err = why;
    }
    return rc;
}

/* The table has no place for another ask: everything is in use or being loaded. */
static mf_rc load_outside(mf_model_registry *registry, const mf_model_ask *wanted,
                          mf_encoder **out, mf_err *err) {
    MF_TRY(mf_encoder_open(wanted->dir, &wanted->options, out, err));
    mf_mutex_lock(&registry->registry_mu);
    registry->stats.outside++;
    mf_mutex_unlock(&registry->registry_mu);
    mf_log(MF_LOG_WARN, "model_not_shared", "model=%s reason=%s", wanted->dir,
           "there is no room to remember it");
    return MF_OK;
}

/* Another thread loads it.  Gives the lock back. */
static mf_rc join_load(mf_model_registry *registry, const mf_model_ask *wanted, ask *a,
                       mf_encoder **out, mf_err *err) {
    loading *l = a->load;
    l->waits++;
    registry->stats.shared_loads++;
    while (!l->done) {
        (void)mf_cond_wait(&registry->loaded, &registry->registry_mu, MF_NEVER);
    }
    mf_rc rc = l->rc;
    if (rc == MF_OK) {
        *out = l->encoder;
    } else if (err != NULL) {
        *err = l->err;
    }
    if (--l->waits == 0) {
        mf_free(l);
    }
    mf_mutex_unlock(&registry->registry_mu);
    return rc == MF_E_BUSY ? load_outside(registry, wanted, out, err) : rc;
}

/* --- getting --- */

/* true: the files are no longer those of the row, which has left the table then. */
static bool drop_stale(mf_model_registry *registry, const mf_model_ask *wanted,
                       uint64_t hash, const stamps *now) {
    mf_encoder *left = NULL;
    mf_mutex_lock(&registry->registry_mu);
    ask *a = find_ask_locked(registry, wanted, hash);
    bool stale = a != NULL && a->to != NULL && !stamps_eq(&a->to->seen, now);
    if (stale) {
        left = free_row_locked(registry, a->to);
    }
    mf_mutex_unlock(&registry->registry_mu);
    (void)mf_encoder_unref(left);
    return stale;
}

static mf_encoder *hit_locked(mf_model_registry *registry, row *r)
    MF_REQUIRES(registry->registry_mu) {
    registry->stats.hits++;
    r->hits++;
    r->used_ns = mf_now_ns();
    return mf_encoder_ref(r->encoder);
}

/* Takes `dir` and `load` when there is a place; then they are NULL. */
static ask *new_ask_locked(mf_model_registry *registry, const mf_model_ask *wanted,
                           uint64_t hash, char **dir, loading **load)
    MF_REQUIRES(registry->registry_mu) {
    ask *a = *dir != NULL && *load != NULL ? place_for_ask_locked(registry) : NULL;
    if (a != NULL) {
        *a =
            (ask){.dir = *dir, .hash = hash, .options = wanted->options, .load = *load};
        *dir = NULL;
        *load = NULL;
    }
    return a;
}

static mf_rc get_slow(mf_model_registry *registry, const mf_model_ask *wanted,
                      uint64_t hash, mf_encoder **out, mf_err *err) {
    mf_str text = mf_str_from(wanted->dir);
    char *dir = mf_strndup(text.p, text.len);
    loading *load = mf_alloc_zero(1, sizeof *load);
    mf_mutex_lock(&registry->registry_mu);
    ask *a = find_ask_locked(registry, wanted, hash);
    if (a != NULL && a->to == NULL) {
        mf_free(dir);
        mf_free(load);
        return join_load(registry, wanted, a, out, err);
    }
    if (a != NULL) {
        *out = hit_locked(registry, a->to);
        mf_mutex_unlock(&registry->registry_mu);
        mf_free(dir);
        mf_free(load);
        return MF_OK;
    }
    a = new_ask_locked(registry, wanted, hash, &dir, &load);
    mf_mutex_unlock(&registry->registry_mu);
    mf_free(dir);
    mf_free(load);
    return a != NULL ? load_shared(registry, wanted, a, out, err)
                     : load_outside(registry, wanted, out, err);
}

mf_rc mf_model_registry_get(mf_model_registry *registry, const mf_model_ask *wanted,
                            mf_encoder **out, mf_err *err) {
    uint64_t hash = mf_str_hash(mf_str_from(wanted->dir));
    if (wanted->check_files) {
        stamps now = stamps_of(wanted->dir);
        (void)drop_stale(registry, wanted, hash, &now); /* loaded anew below */
    }
    mf_mutex_lock(&registry->registry_mu);
    ask *a = find_ask_locked(registry, wanted, hash);
    mf_encoder *found = a != NULL && a->to != NULL ? hit_locked(registry, a->to) : NULL;
    mf_mutex_unlock(&registry->registry_mu);
    if (found != NULL) {
        *out = found;
        return MF_OK;
    }
    return get_slow(registry, wanted, hash, out, err);
}

mf_rc mf_model_registry_preload(mf_model_registry *registry, const mf_model_ask *wanted,
                                mf_err *err) {
    mf_encoder *encoder;
    MF_TRY(mf_model_registry_get(registry, wanted, &encoder, err));
    mf_mutex_lock(&registry->registry_mu);
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        row *r = &registry->rows[i];
        r->pinned = r->pinned || r->encoder == encoder;
    }
    mf_mutex_unlock(&registry->registry_mu);
    (void)mf_encoder_unref(encoder);
    return MF_OK;
}

/* --- telling and clearing --- */

static void fill_instance(const row *r, mf_model_instance *out) {
    *out = (mf_model_instance){.task = r->task,
                               .info = r->encoder->info,
                               .users = atomic_load(&r->encoder->refs) - 1,
                               .pinned = r->pinned,
                               .hits = r->hits,
                               .load_ns = r->load_ns};
    (void)snprintf(out->dir, sizeof out->dir, "%.*s", (int)sizeof out->dir - 1, r->dir);
}

/* The row with the lowest number above `after`. */
static const row *next_row_locked(const mf_model_registry *registry, uint64_t after)
    MF_REQUIRES(registry->registry_mu) {
    const row *next = NULL;
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        const row *r = &registry->rows[i];
        if (r->encoder != NULL && r->number > after &&
            (next == NULL || r->number < next->number)) {
            next = r;
        }
    }
    return next;
}

size_t mf_model_registry_info(mf_model_registry *registry, mf_model_instance *out,
                              size_t max) {
    size_t count = 0;
    mf_mutex_lock(&registry->registry_mu);
    for (const row *r = next_row_locked(registry, 0); r != NULL;
         r = next_row_locked(registry, r->number)) {
        if (count < max) {
            fill_instance(r, &out[count]);
        }
        count++;
    }
    mf_mutex_unlock(&registry->registry_mu);
    return count;
}

void mf_model_registry_clear(mf_model_registry *registry, mf_model_cleared *out) {
    mf_encoder *left[MF_MODELS_MAX] = {NULL};
    *out = (mf_model_cleared){0};
    mf_mutex_lock(&registry->registry_mu);
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        row *r = &registry->rows[i];
        if (r->encoder == NULL) {
            continue;
        }
        size_t bytes = r->encoder->info.weight_bytes;
        r->pinned = false;
        if (is_used(r)) {
            out->stayed++;
            out->stayed_bytes += bytes;
        } else {
            out->released++;
            out->released_bytes += bytes;
            left[i] = free_row_locked(registry, r);
        }
    }
    mf_mutex_unlock(&registry->registry_mu);
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        (void)mf_encoder_unref(left[i]);
    }
}

void mf_model_registry_get_stats(mf_model_registry *registry,
                                 mf_model_registry_stats *out) {
    mf_mutex_lock(&registry->registry_mu);
    *out = registry->stats;
    for (size_t i = 0; i < MF_MODELS_MAX; i++) {
        const row *r = &registry->rows[i];
        out->expected += r->encoder != NULL ? 1 : 0;
        out->bytes += r->encoder != NULL ? r->encoder->info.weight_bytes : 0;
    }
    mf_mutex_unlock(&registry->registry_mu);
    out->actual = mf_encoder_alive();
}
