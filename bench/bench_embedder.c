/* bench_embedder.c - how long a question waits while documents are embedded, and what
 * looking for known vectors costs when there are none.
 *
 *   bench_embedder [model folder] [seconds per case] [folder for a store]
 *
 * Turns.  As many threads as there are cores embed messages without end, at low
 * priority as the service's threads do; one or eight threads ask questions of about ten
 * tokens, one after the other.  Nothing is remembered.  Printed are the median and the
 * 99th percentile of the questions' times, by the clock on the wall, and the messages
 * embedded per second: with the lane that is kept for questions and without it, case by
 * case in turn, three times round; the figure is the middle one, the others beside it.
 *
 * Look-ups.  Different messages are embedded with and without a store of 100,000 other
 * vectors as the source, by turns, and vectors are stored with and without their keys;
 * by processor time of the thread. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/rng.h"
#include "model/embedder.h"
#include "os/cpu.h"
#include "os/file.h"
#include "store/sqlite/sqlite_store.h"

enum {
    ROUNDS = 3,
    ASKERS_MAX = 8,
    SAMPLES_MAX = 1 << 18,
    MESSAGES = 512,
    MESSAGE_BYTES = 640,
    BLOCK = 64,
    STORED = 100000,
    PUT_BATCH = 2000,
};

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "bench_embedder: %s\n", err->text);
        exit(1);
    }
}

/* --- texts ------------------------------------------------------------------------ */

static const char *const vocabulary[] = {
    "the",    "harbour", "moved", "to",       "Lisbon", "in",      "March", "and",
    "bought", "a",       "bike",  "because",  "trains", "are",     "slow",  "there",
    "sister", "works",   "at",    "hospital", "likes",  "coffee",  "from",  "Ethiopia",
    "next",   "week",    "we",    "meet",     "near",   "station", "about", "budget",
};
enum { VOCABULARY = sizeof vocabulary / sizeof vocabulary[0] };

typedef struct text {
    char bytes[MESSAGE_BYTES];
    size_t len;
} text;

/* `word_count` words; a number makes it different from all others. */
static void make_text(text *out, mf_rng *rng, size_t word_count) {
    int len = snprintf(out->bytes, sizeof out->bytes, "%06llu",
                       (unsigned long long)mf_rng_below(rng, 1000000));
    out->len = (size_t)len;
    for (size_t i = 0; i < word_count && out->len + 16 < sizeof out->bytes; i++) {
        len = snprintf(out->bytes + out->len, sizeof out->bytes - out->len, " %s",
                       vocabulary[mf_rng_below(rng, VOCABULARY)]);
        out->len += (size_t)len;
    }
}

/* Messages of 4 to 90 words, most of them short. */
static void make_messages(text *texts, mf_str *views, size_t count, uint64_t seed) {
    mf_rng rng;
    mf_rng_init(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        size_t longest = mf_rng_below(&rng, 4) == 0 ? 90 : 40;
        make_text(&texts[i], &rng, 4 + mf_rng_below(&rng, longest - 3));
        views[i] = (mf_str){texts[i].bytes, texts[i].len};
    }
}

/* --- turns ------------------------------------------------------------------------ */

typedef struct load {
    mf_embedder *emb;
    size_t dim;
    atomic_bool stop;
    atomic_ullong embedded;
    atomic_uint next;
    int64_t samples[ASKERS_MAX][SAMPLES_MAX];
    size_t counts[ASKERS_MAX];
} load;

static load the_load;

static void embed_without_end(void *arg) {
    load *l = arg;
    static text texts[8][MESSAGES];
    mf_str views[MESSAGES];
    unsigned id = atomic_fetch_add(&l->next, 1);
    float *out = mf_alloc_array(BLOCK * l->dim, sizeof *out);
    make_messages(texts[id % 8], views, MESSAGES, id);
    mf_thread_set_background();
    mf_embed_call call = {
        .cls = MF_EMBED_INGEST, .deadline_ns = MF_NEVER, .cancel = &l->stop};
    for (size_t at = 0; !atomic_load(&l->stop); at = (at + BLOCK) % MESSAGES) {
        if (mf_embedder_encode(l->emb, &call, views + at, BLOCK, NULL, out, NULL) ==
            MF_OK) {
            (void)atomic_fetch_add(&l->embedded, BLOCK);
        }
    }
    mf_free(out);
}

static void ask_without_end(void *arg) {
    load *l = arg;
    unsigned id = atomic_fetch_add(&l->next, 1) % ASKERS_MAX;
    text question;
    mf_rng rng;
    mf_rng_init(&rng, id + 100);
    float *out = mf_alloc_array(l->dim, sizeof *out);
    mf_embed_call call = {.cls = MF_EMBED_QUESTION, .deadline_ns = MF_NEVER};
    while (!atomic_load(&l->stop) && l->counts[id] < SAMPLES_MAX) {
        make_text(&question, &rng, 6);
        mf_str view = {question.bytes, question.len};
        int64_t start_ns = mf_now_ns();
        mf_err err;
        must(mf_embedder_encode(l->emb, &call, &view, 1, NULL, out, &err), &err);
        l->samples[id][l->counts[id]++] = mf_now_ns() - start_ns;
    }
    mf_free(out);
}

typedef struct turn_case {
    const char *name;
    size_t embedding_threads, lanes, askers;
    double p50_ms[ROUNDS], p99_ms[ROUNDS], messages_per_s[ROUNDS];
    double batch_mean[ROUNDS]; /* questions in a batch */
} turn_case;

static int by_time(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(load *l, turn_case *c, size_t round, double seconds) {
    size_t count = 0;
    static int64_t all[ASKERS_MAX * SAMPLES_MAX];
    for (size_t i = 0; i < ASKERS_MAX; i++) {
        memcpy(all + count, l->samples[i], l->counts[i] * sizeof all[0]);
        count += l->counts[i];
    }
    qsort(all, count, sizeof all[0], by_time);
    mf_embedder_stats stats;
    mf_embedder_get_stats(l->emb, &stats);
    c->p50_ms[round] = count > 0 ? (double)all[count / 2] / 1e6 : 0;
    c->p99_ms[round] = count > 0 ? (double)all[count * 99 / 100] / 1e6 : 0;
    c->messages_per_s[round] = (double)atomic_load(&l->embedded) / seconds;
    c->batch_mean[round] =
        stats.question_batches > 0 ? (double)count / (double)stats.question_batches : 0;
}

static void run_case(mf_encoder *encoder, turn_case *c, size_t round, double seconds) {
    load *l = &the_load;
    mf_thread threads[64 + ASKERS_MAX];
    mf_encoder_info info;
    mf_err err;
    mf_embedder_options options = mf_embedder_options_default(mf_cpu_count());
    options.lane_count = c->lanes;
    mf_encoder_get_info(encoder, &info);
    must(mf_embedder_open(encoder, &options, &l->emb, &err), &err);
    l->dim = info.dim;
    atomic_store(&l->stop, false);
    atomic_store(&l->embedded, 0);
    memset(l->counts, 0, sizeof l->counts);
    for (size_t i = 0; i < c->embedding_threads; i++) {
        must(mf_thread_start(&threads[i], "embed", embed_without_end, l, &err), &err);
    }
    for (size_t i = 0; i < c->askers; i++) {
        must(mf_thread_start(&threads[c->embedding_threads + i], "ask", ask_without_end,
                             l, &err),
             &err);
    }
    (void)usleep((useconds_t)(seconds * 1e6));
    atomic_store(&l->stop, true);
    mf_embedder_cancel(l->emb, &l->stop);
    for (size_t i = 0; i < c->embedding_threads + c->askers; i++) {
        mf_thread_join(&threads[i]);
    }
    summarise(l, c, round, seconds);
    mf_embedder_close(l->emb);
}

static void print_figure(const double values[ROUNDS]) {
    double sorted[ROUNDS];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof sorted[0], by_value);
    printf(" %8.2f (%.2f .. %.2f)", sorted[ROUNDS / 2], sorted[0], sorted[ROUNDS - 1]);
}

static void bench_turns(mf_encoder *encoder, double seconds) {
    size_t cores = mf_cpu_count() < 64 ? mf_cpu_count() : 64;
    turn_case cases[] = {
        {.name = "1 asks, nothing is embedded",
         .embedding_threads = 0,
         .lanes = cores + 1,
         .askers = 1},
        {.name = "1 asks, a lane is kept",
         .embedding_threads = cores,
         .lanes = cores + 1,
         .askers = 1},
        {.name = "1 asks, no lane is kept",
         .embedding_threads = cores,
         .lanes = cores,
         .askers = 1},
        {.name = "8 ask, nothing is embedded",
         .embedding_threads = 0,
         .lanes = cores + 1,
         .askers = 8},
        {.name = "8 ask, a lane is kept",
         .embedding_threads = cores,
         .lanes = cores + 1,
         .askers = 8},
        {.name = "8 ask, no lane is kept",
         .embedding_threads = cores,
         .lanes = cores,
         .askers = 8},
        {.name = "nobody asks",
         .embedding_threads = cores,
         .lanes = cores + 1,
         .askers = 0},
    };
    size_t count = sizeof cases / sizeof cases[0];
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < count; i++) {
            run_case(encoder, &cases[i], round, seconds);
        }
    }
    printf("%zu cores; question p50 ms, p99 ms, messages/s, questions per batch\n",
           cores);
    for (size_t i = 0; i < count; i++) {
        printf("%-28s", cases[i].name);
        print_figure(cases[i].p50_ms);
        print_figure(cases[i].p99_ms);
        print_figure(cases[i].messages_per_s);
        print_figure(cases[i].batch_mean);
        printf("\n");
    }
}

/* --- look-ups --------------------------------------------------------------------- */

static int64_t thread_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail on Linux */
    return (int64_t)now.tv_sec * MF_NS_PER_S + now.tv_nsec;
}

typedef struct stored {
    mf_store *store;
    mf_conn *writer, *reader;
    mf_uuid user;
    mf_rng rng;
    size_t dim;
    mf_knowledge_row *items; /* [PUT_BATCH], in the arena */
    mf_arena *arena;
} stored;

static mf_rc find_stored(void *ctx, const mf_content_key *keys, size_t count,
                         size_t dim, uint16_t *vectors, bool *found,
                         int64_t deadline_ns, mf_err *err) {
    stored *s = ctx;
    (void)deadline_ns;
    return s->reader->ops->chunk_find(s->reader, keys, count, dim, vectors, found, err);
}

/* Adds vectors of new documents in one transaction; returns the processor time of the
 * vectors alone, the commit included, in microseconds for each. */
static double put_vectors(stored *s, bool with_keys) {
    const mf_store_ops *ops = s->writer->ops;
    mf_err err;
    uint16_t vector[2048];
    must(ops->begin(s->writer, &err), &err);
    for (size_t i = 0; i < PUT_BATCH; i++) {
        s->items[i] = (mf_knowledge_row){
            .id = mf_uuid_new(), .user_id = s->user, .content = MF_STR("text")};
    }
    must(ops->knowledge_insert(s->writer, s->items, PUT_BATCH, &err), &err);
    must(ops->commit(s->writer, &err), &err);
    int64_t start_ns = thread_ns();
    must(ops->begin(s->writer, &err), &err);
    for (size_t i = 0; i < PUT_BATCH; i++) {
        mf_chunk_row row = {.kind = MF_DOC_KNOWLEDGE,
                            .num = s->items[i].num,
                            .part_count = 1,
                            .model = MF_STR("bench"),
                            .vector = vector,
                            .dim = s->dim};
        for (size_t k = 0; k < s->dim; k++) {
            vector[k] = (uint16_t)mf_rng_next(&s->rng);
        }
        for (size_t k = 0; with_keys && k < sizeof row.content.b; k++) {
            row.content.b[k] = (uint8_t)mf_rng_next(&s->rng);
        }
        must(ops->chunk_put(s->writer, s->user, &row, &err), &err);
    }
    must(ops->commit(s->writer, &err), &err);
    return (double)(thread_ns() - start_ns) / 1e3 / PUT_BATCH;
}

/* Microseconds for each of a block of keys that nobody has. */
static double ask_store(stored *s) {
    enum { TIMES = 50 };
    mf_content_key keys[BLOCK];
    bool found[BLOCK] = {false};
    uint16_t *vectors = mf_alloc_array(BLOCK * s->dim, sizeof *vectors);
    mf_err err;
    int64_t spent_ns = 0;
    for (size_t time = 0; time < TIMES; time++) {
        for (size_t i = 0; i < BLOCK; i++) {
            for (size_t k = 0; k < sizeof keys[i].b; k++) {
                keys[i].b[k] = (uint8_t)mf_rng_next(&s->rng);
            }
        }
        int64_t start_ns = thread_ns();
        must(find_stored(s, keys, BLOCK, s->dim, vectors, found, MF_NEVER, &err), &err);
        spent_ns += thread_ns() - start_ns;
    }
    mf_free(vectors);
    return (double)spent_ns / 1e3 / (TIMES * BLOCK);
}

static void open_stored(stored *s, const char *path, size_t dim) {
    mf_err err;
    mf_sqlite_options options = mf_sqlite_options_default(path);
    *s = (stored){.dim = dim < 2048 ? dim : 2048, .user = mf_uuid_new()};
    mf_rng_init(&s->rng, 5);
    must(mf_arena_new(64 << 20, &s->arena, &err), &err);
    s->items = mf_arena_alloc_array(s->arena, PUT_BATCH, sizeof *s->items);
    must(mf_sqlite_store_open(&options, &s->store, &err), &err);
    must(s->store->ops->conn_open(s->store, true, &s->writer, &err), &err);
    must(s->store->ops->conn_open(s->store, false, &s->reader, &err), &err);
    const mf_named_row user = {.id = s->user, .name = MF_STR("bench")};
    must(s->store->ops->begin(s->writer, &err), &err);
    must(s->store->ops->user_insert(s->writer, &user, &err), &err);
    must(s->store->ops->commit(s->writer, &err), &err);
}

static void close_stored(stored *s, const char *path) {
    static const char *const tails[] = {"", "-wal", "-shm"};
    s->store->ops->conn_close(s->reader);
    s->store->ops->conn_close(s->writer);
    s->store->ops->close(s->store);
    mf_arena_free(s->arena);
    for (size_t i = 0; i < 3; i++) {
        char full[4096];
        (void)snprintf(full, sizeof full, "%s%s", path, tails[i]);
        (void)unlink(full); /* not all of them exist */
    }
}

static void bench_lookups(mf_encoder *encoder, const char *folder) {
    enum { TURNS = 9 };
    static text texts[MESSAGES];
    static mf_str views[MESSAGES];
    char path[4000];
    mf_encoder_info info;
    mf_err err;
    stored s;
    double put[2][TURNS];
    double encode[2][TURNS];
    double asked[TURNS];
    double ratios[TURNS];
    mf_encoder_get_info(encoder, &info);
    (void)snprintf(path, sizeof path, "%s/bench_embedder.db", folder);
    open_stored(&s, path, info.dim);
    for (size_t i = 0; i < STORED / PUT_BATCH; i++) {
        (void)put_vectors(&s, true);
    }
    for (size_t turn = 0; turn < TURNS; turn++) {
        put[0][turn] = put_vectors(&s, false);
        put[1][turn] = put_vectors(&s, true);
        asked[turn] = ask_store(&s);
    }
    float *out = mf_alloc_array(BLOCK * info.dim, sizeof *out);
    for (size_t turn = 0; turn < TURNS; turn++) {
        for (size_t with = 0; with < 2; with++) {
            mf_embedder *emb = NULL;
            mf_embedder_options options = mf_embedder_options_default(1);
            options.cache_count_max = 10000;
            must(mf_embedder_open(encoder, &options, &emb, &err), &err);
            const mf_vector_source source = {.find = find_stored, .ctx = &s};
            mf_embedder_set_source(emb, with ? &source : NULL);
            make_messages(texts, views, MESSAGES, turn);
            mf_embed_call call = {
                .cls = MF_EMBED_INGEST, .documents = true, .deadline_ns = MF_NEVER};
            int64_t start_ns = thread_ns();
            for (size_t at = 0; at < MESSAGES; at += BLOCK) {
                must(mf_embedder_encode(emb, &call, views + at, BLOCK, NULL, out, &err),
                     &err);
            }
            encode[with][turn] = (double)(thread_ns() - start_ns) / 1e3 / MESSAGES;
            mf_embedder_close(emb);
        }
        ratios[turn] = encode[1][turn] / encode[0][turn];
    }
    mf_free(out);
    close_stored(&s, path);
    qsort(put[0], TURNS, sizeof(double), by_value);
    qsort(put[1], TURNS, sizeof(double), by_value);
    qsort(encode[0], TURNS, sizeof(double), by_value);
    qsort(encode[1], TURNS, sizeof(double), by_value);
    qsort(asked, TURNS, sizeof(double), by_value);
    qsort(ratios, TURNS, sizeof(double), by_value);
    printf("\nmicroseconds per message of processor time, medians of %d turns\n",
           TURNS);
    printf("embedded, no source      %8.1f\n", encode[0][TURNS / 2]);
    printf("embedded, store asked    %8.1f   ratio %.4f (%.4f .. %.4f)\n",
           encode[1][TURNS / 2], ratios[TURNS / 2], ratios[0], ratios[TURNS - 1]);
    printf("of which the look-up      %8.2f   (%.2f .. %.2f)\n", asked[TURNS / 2],
           asked[0], asked[TURNS - 1]);
    printf("vector stored, no key    %8.2f\n", put[0][TURNS / 2]);
    printf("vector stored, with key  %8.2f\n", put[1][TURNS / 2]);
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : MF_BENCH_MODEL_DIR;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 3;
    const char *folder = argc > 3 ? argv[3] : "/tmp";
    mf_encoder *encoder = NULL;
    mf_err err;
    mf_encoder_options options = mf_encoder_options_default();
    must(mf_encoder_open(dir, &options, &encoder, &err), &err);
    bench_turns(encoder, seconds);
    bench_lookups(encoder, folder);
    (void)mf_encoder_unref(encoder);
    return 0;
}
