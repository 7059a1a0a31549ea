/* embedder_testing.h - for tests of the embedder: a tiny model, batches that can be
 * held just before they run, and callers on threads of their own.
 *
 * Every batch reports to the gate.  A closed gate lets through as many as it was told
 * to; the others stand there, with their lane, until it is told more.  So a test says
 * what waits while what runs, and no test waits for time. */
#ifndef MF_MODEL_EMBEDDER_TESTING_H
#define MF_MODEL_EMBEDDER_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "model/embedder.h"
#include "model/encoder_private.h"
#include "model/tiny_model_testing.h"

enum { DIM = TINY_HIDDEN, LOG_MAX = 256 };

typedef struct fixture {
    char dir[64];
    mf_encoder *encoder;
} fixture;

static int open_model(void **state) {
    static fixture f;
    mf_err err;
    mf_encoder_options options = mf_encoder_options_default();
    tiny_model_make(f.dir);
    if (mf_encoder_open(f.dir, &options, &f.encoder, &err) != MF_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = &f;
    return 0;
}

static int close_model(void **state) {
    fixture *f = *state;
    (void)mf_encoder_unref(f->encoder);
    tiny_model_remove(f->dir);
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

/* --- the gate --------------------------------------------------------------------- */

typedef struct gate {
    mf_mutex mu;
    mf_cond changed;
    /* guarded by mu */
    size_t allowed; /* batches that may run; SIZE_MAX: all */
    size_t arrived; /* those that are logged */
    mf_embed_batch log[LOG_MAX];
} gate;

static gate the_gate;

static void gate_watch(void *ctx, const mf_embed_batch *batch) {
    gate *g = ctx;
    mf_mutex_lock(&g->mu);
    size_t mine = g->arrived++;
    if (mine < LOG_MAX) {
        g->log[mine] = *batch;
    }
    mf_cond_broadcast(&g->changed);
    while (g->allowed <= mine) {
        (void)mf_cond_wait(&g->changed, &g->mu, MF_NEVER);
    }
    mf_mutex_unlock(&g->mu);
}

static inline void gate_allow(size_t batches) {
    mf_mutex_lock(&the_gate.mu);
    the_gate.allowed = batches;
    mf_cond_broadcast(&the_gate.changed);
    mf_mutex_unlock(&the_gate.mu);
}

static inline void gate_wait_arrived(size_t batches) {
    mf_mutex_lock(&the_gate.mu);
    while (the_gate.arrived < batches) {
        (void)mf_cond_wait(&the_gate.changed, &the_gate.mu, MF_NEVER);
    }
    mf_mutex_unlock(&the_gate.mu);
}

/* --- embedders -------------------------------------------------------------------- */

/* All batches pass until gate_allow says otherwise. */
static mf_embedder *open_embedder_with(mf_encoder *encoder,
                                       mf_embedder_options options) {
    mf_embedder *emb = NULL;
    mf_err err;
    mf_mutex_init(&the_gate.mu, MF_RANK_LEAF);
    mf_cond_init(&the_gate.changed);
    the_gate.allowed = SIZE_MAX;
    the_gate.arrived = 0;
    options.watch = gate_watch;
    options.watch_ctx = &the_gate;
    if (mf_embedder_open(encoder, &options, &emb, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
    return emb;
}

/* Ingest work may use all lanes. */
static mf_embedder *open_embedder(mf_encoder *encoder, size_t lanes, size_t cached) {
    mf_embedder_options options = mf_embedder_options_default(lanes);
    options.lane_count = lanes;
    options.cache_count_max = cached;
    return open_embedder_with(encoder, options);
}

static void close_embedder(mf_embedder *emb) {
    mf_embedder_close(emb);
    mf_cond_done(&the_gate.changed);
    mf_mutex_done(&the_gate.mu);
}

static inline mf_embedder_stats stats_of(mf_embedder *emb) {
    mf_embedder_stats stats;
    mf_embedder_get_stats(emb, &stats);
    return stats;
}

/* Until so many pieces of a class wait. */
static inline void wait_for_queue(mf_embedder *emb, mf_embed_class cls, size_t count) {
    while (stats_of(emb).waiting[cls] != count) {
        sched_yield();
    }
}

static inline mf_rc encode(mf_embedder *emb, mf_embed_class cls, const mf_str *texts,
                           size_t count, int64_t deadline_ns, float *out, mf_err *err) {
    mf_embed_call call = {
        .cls = cls, .documents = cls == MF_EMBED_INGEST, .deadline_ns = deadline_ns};
    return mf_embedder_encode(emb, &call, texts, count, NULL, out, err);
}

static inline void must_encode(mf_embedder *emb, mf_embed_class cls,
                               const mf_str *texts, size_t count, float *out) {
    mf_err err;
    if (encode(emb, cls, texts, count, MF_NEVER, out, &err) != MF_OK) {
        fail_msg("%s", err.text);
    }
}

/* --- callers ---------------------------------------------------------------------- */

/* One call on a thread of its own. */
typedef struct caller {
    mf_thread thread;
    mf_embedder *emb;
    mf_embed_class cls;
    const mf_str *texts;
    size_t count;
    int64_t deadline_ns;
    atomic_bool cancel;
    atomic_bool back;
    mf_rc rc;
    mf_err err;
    float out[64 * DIM];
} caller;

static void call_encode(void *arg) {
    caller *c = arg;
    mf_embed_call call = {.cls = c->cls,
                          .documents = c->cls == MF_EMBED_INGEST,
                          .deadline_ns = c->deadline_ns,
                          .cancel = &c->cancel};
    c->rc =
        mf_embedder_encode(c->emb, &call, c->texts, c->count, NULL, c->out, &c->err);
    atomic_store(&c->back, true);
}

static inline void start_until(caller *c, mf_embedder *emb, mf_embed_class cls,
                               const mf_str *texts, size_t count, int64_t deadline_ns) {
    c->emb = emb;
    c->cls = cls;
    c->texts = texts;
    c->count = count;
    c->deadline_ns = deadline_ns;
    c->rc = MF_E_INTERNAL;
    c->thread = (mf_thread){.started = false};
    atomic_init(&c->cancel, false);
    atomic_init(&c->back, false);
    assert_true(count <= 64);
    assert_int_equal(mf_thread_start(&c->thread, "caller", call_encode, c, NULL),
                     MF_OK);
}

static inline void start(caller *c, mf_embedder *emb, mf_embed_class cls,
                         const mf_str *texts, size_t count) {
    start_until(c, emb, cls, texts, count, MF_NEVER);
}

static inline mf_rc finish(caller *c) {
    mf_thread_join(&c->thread);
    return c->rc;
}

static inline void cancel(caller *c) {
    atomic_store(&c->cancel, true);
    mf_embedder_cancel(c->emb, &c->cancel);
}

/* --- texts ------------------------------------------------------------------------ */

static const mf_str words[] = {
    {"red", 3}, {"green cat", 9}, {"", 0}, {"blue dog runs", 13}, {"dogs", 4},
};
enum { WORDS = sizeof words / sizeof words[0] };

enum { LONG_WORDS = TINY_WINDOW - 2, LONG_BYTES = 8 * LONG_WORDS };

/* Number `n` in words: different texts for different numbers, each as long as the
 * model's window. */
static inline mf_str long_text(char space[LONG_BYTES], size_t n) {
    static const char *const digits[] = {"red ", "green ", "blue ", "cat ", "dog "};
    size_t len = 0;
    for (size_t i = 0; i < LONG_WORDS; i++, n /= 5) {
        const char *digit = digits[n % 5];
        memcpy(space + len, digit, strlen(digit));
        len += strlen(digit);
    }
    return (mf_str){space, len};
}

#endif
