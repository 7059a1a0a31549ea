/* bench_encoder.c - see bench_encoder.h.
 *
 * Everything that is measured repeatedly is measured once in each turn, one after the
 * other: what slows the machine down for a while then hits the encoder and the limit it
 * is compared with alike.
 *
 * Two threads are compared with one by processor time as well: each thread's rate is
 * its tokens over its own time while the other runs.  So the ratio shows what they take
 * from each other in caches and memory, not what else runs on the machine. */
#include "lib/bench_encoder.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "lib/bench_texts.h"
#include "model/encoder_private.h"
#include "num/peak.h"
#include "os/cpu.h"
#include "os/file.h"

enum {
    FLUSH_BYTES = 128 << 20, /* more than caches hold, as a rule */
    CACHE_LINE = 64,
    COLD_QUERIES = 5,   /* in one repeat */
    QUERIES_MAX = 2000, /* in one repeat */
    SCALAR_BATCH = 2,   /* texts in one call of the plain kernels, which are slow */
    STEPS_BEFORE = 2,   /* opening and agreement, for the progress */
    LANES = 2,
};

/* What one thread measures with. */
typedef struct runner {
    const struct bench *bench;
    mf_lane *lane;
    float *out;
    size_t next; /* text */
    /* the last slice */
    size_t tokens;
    size_t texts;
    int64_t spent_ns;
    mf_rc rc;
    mf_err err;
} runner;

typedef struct bench {
    const mf_bench_plan *plan;
    mf_encoder *encoder;
    size_t *lengths; /* [plan->text_count] tokens of each text */
    size_t batch;    /* texts in one call */
    double operations_per_token;
    runner runners[LANES];
    unsigned char *flush; /* [FLUSH_BYTES] */
    double *query_us;     /* [QUERIES_MAX] */
    double *samples;      /* [MF_BENCH_FIGURES, plan->repeats] */
    bool measured[MF_BENCH_FIGURES];
} bench;

static int64_t thread_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail on Linux */
    return (int64_t)now.tv_sec * MF_NS_PER_S + now.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static void note(bench *b, mf_bench_figure figure, size_t repeat, double value) {
    b->samples[(size_t)figure * b->plan->repeats + repeat] = value;
    b->measured[figure] = true;
}

static mf_rc tell(const bench *b, const char *what, size_t done, mf_err *err) {
    const mf_bench_plan *plan = b->plan;
    if (plan->progress != NULL && plan->progress(plan->progress_ctx, what, done,
                                                 STEPS_BEFORE + plan->repeats) != 0) {
        return MF_FAIL(err, MF_E_STOPPING, "the caller gave up");
    }
    return MF_OK;
}

/* --- preparing -------------------------------------------------------------------- */

static mf_rc open_lane(const mf_bench_plan *plan, mf_encoder **encoder, mf_lane **lane,
                       mf_err *err) {
    const mf_encoder_options options = {.precision = plan->precision};
    MF_TRY(mf_encoder_open_at(plan->dir, plan->level, &options, encoder, err));
    return mf_lane_open(*encoder, lane, err);
}

static void close_lane(bench *b) {
    mf_lane_close(b->runners[0].lane);
    b->runners[0].lane = NULL;
    b->encoder = mf_encoder_unref(b->encoder);
}

/* Opens the model again and again; it stays open at last.  The first time makes the
 * packed weights where there are none, and is not counted. */
static mf_rc measure_open(bench *b, mf_err *err) {
    MF_TRY(open_lane(b->plan, &b->encoder, &b->runners[0].lane, err));
    for (size_t i = 0; i < b->plan->repeats; i++) {
        close_lane(b);
        int64_t start = mf_now_ns();
        MF_TRY(open_lane(b->plan, &b->encoder, &b->runners[0].lane, err));
        note(b, MF_BENCH_OPEN_MS, i, (double)(mf_now_ns() - start) / MF_NS_PER_MS);
    }
    return MF_OK;
}

static size_t token_count(const bench *b, mf_str text, int32_t *ids) {
    return mf_model_tokenizer_encode(mf_encoder_tokenizer(b->encoder), text, ids,
                                     b->encoder->config.window, NULL);
}

static double operations_per_token(const mf_encoder_config *config) {
    double hidden = (double)config->hidden;
    double weights = hidden * (4.0 * hidden + 2.0 * (double)config->inner);
    return 2.0 * (double)config->layers * weights;
}

static mf_rc count_tokens(bench *b, mf_bench_report *out, mf_err *err) {
    int32_t *ids = mf_alloc_array(b->encoder->config.window, sizeof *ids);
    if (ids == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to count tokens");
    }
    for (size_t i = 0; i < b->plan->text_count; i++) {
        b->lengths[i] = token_count(b, b->plan->texts[i], ids);
        out->tokens += b->lengths[i];
    }
    out->query_tokens = token_count(b, mf_bench_question(), ids);
    mf_free(ids);
    return MF_OK;
}

/* Buffers; those of the model's size, so it is open. */
static mf_rc make_room(bench *b, mf_err *err) {
    size_t floats = MF_ENCODE_BATCH_MAX * b->encoder->config.hidden;
    MF_TRY(mf_lane_open(b->encoder, &b->runners[1].lane, err));
    for (size_t i = 0; i < LANES; i++) {
        b->runners[i].bench = b;
        b->runners[i].out = mf_alloc_array(floats, sizeof(float));
    }
    b->lengths = mf_alloc_array(b->plan->text_count, sizeof *b->lengths);
    b->flush = mf_alloc_zero(FLUSH_BYTES, 1);
    b->query_us = mf_alloc_array(QUERIES_MAX, sizeof *b->query_us);
    if (b->runners[0].out == NULL || b->runners[1].out == NULL || b->lengths == NULL ||
        b->flush == NULL || b->query_us == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to measure the encoder");
    }
    return MF_OK;
}

/* --- agreement with fp32 ---------------------------------------------------------- */

/* Vectors have length 1, so the product is the cosine. */
static double cosine(const float *a, const float *b, size_t dim) {
    double sum = 0.0;
    for (size_t i = 0; i < dim; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* The varied texts, one by one through both lanes. */
static mf_rc compare(bench *b, mf_lane *exact, mf_bench_report *out, mf_err *err) {
    mf_str texts[MF_BENCH_VARIED_MAX];
    size_t count = mf_bench_varied(texts);
    double sum = 0.0;
    out->cosine_min = 1.0;
    for (size_t i = 0; i < count; i++) {
        float *ours = b->runners[0].out;
        float *theirs = b->runners[1].out;
        MF_TRY(mf_lane_encode(b->runners[0].lane, &texts[i], 1, MF_NEVER, ours, NULL,
                              err));
        MF_TRY(mf_lane_encode(exact, &texts[i], 1, MF_NEVER, theirs, NULL, err));
        double one = cosine(ours, theirs, b->encoder->config.hidden);
        out->cosine_min = fmin(out->cosine_min, one);
        sum += one;
    }
    out->cosine_mean = sum / (double)count;
    return MF_OK;
}

/* The fp32 model runs on the best kernels of this machine. */
static mf_rc measure_agreement(bench *b, mf_bench_report *out, mf_err *err) {
    mf_bench_plan exact = *b->plan;
    exact.level = mf_cpu_best();
    exact.precision = MF_PRECISION_FP32;
    mf_encoder *encoder = NULL;
    mf_lane *lane = NULL;
    mf_rc rc = open_lane(&exact, &encoder, &lane, err);
    if (rc == MF_OK) {
        rc = compare(b, lane, out, err);
    }
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
    return rc;
}

/* --- one turn --------------------------------------------------------------------- */

static mf_rc encode_batch(runner *r, mf_err *err) {
    const mf_bench_plan *plan = r->bench->plan;
    size_t left = plan->text_count - r->next;
    size_t count = left < r->bench->batch ? left : r->bench->batch;
    MF_TRY(mf_lane_encode(r->lane, plan->texts + r->next, count, MF_NEVER, r->out, NULL,
                          err));
    for (size_t i = 0; i < count; i++) {
        r->tokens += r->bench->lengths[r->next + i];
    }
    r->texts += count;
    r->next = (r->next + count) % plan->text_count;
    return MF_OK;
}

/* Batches from where the last slice ended, for a slice of this thread's time. */
static void run_slice(void *arg) {
    runner *r = arg;
    int64_t start = thread_ns();
    r->tokens = 0;
    r->texts = 0;
    do {
        r->rc = encode_batch(r, &r->err);
        r->spent_ns = thread_ns() - start;
    } while (r->rc == MF_OK && r->spent_ns < r->bench->plan->slice_ns);
}

static double tokens_per_s(const runner *r) {
    return (double)r->tokens * MF_NS_PER_S / (double)r->spent_ns;
}

static mf_peak_kind peak_kind(mf_precision precision) {
    switch (precision) {
    case MF_PRECISION_INT8:
        return MF_PEAK_INT8;
    case MF_PRECISION_BF16:
        return MF_PEAK_BF16;
    default:
        return MF_PEAK_FP32;
    }
}

static mf_rc measure_batch(bench *b, size_t repeat, mf_err *err) {
    runner *r = &b->runners[0];
    mf_cpu_level level = b->plan->level;
    mf_precision precision = b->encoder->precision;
    double before = mf_peak_gops(level, peak_kind(precision));
    run_slice(r);
    if (r->rc != MF_OK) {
        return MF_FAIL(err, r->rc, "%s", r->err.text);
    }
    double peak = (before + mf_peak_gops(level, peak_kind(precision))) / 2.0;
    double rate = tokens_per_s(r);
    double gflops = rate * b->operations_per_token / 1e9;
    note(b, MF_BENCH_TOKENS_PER_S, repeat, rate);
    note(b, MF_BENCH_TEXTS_PER_S, repeat,
         (double)r->texts * MF_NS_PER_S / (double)r->spent_ns);
    note(b, MF_BENCH_GFLOPS, repeat, gflops);
    if (level != MF_CPU_SCALAR) { /* the compiler decides what plain C could reach */
        note(b, MF_BENCH_PEAK, repeat, peak);
        note(b, MF_BENCH_PEAK_FRACTION, repeat, gflops / peak);
    }
    if (level == MF_CPU_AMX && precision == MF_PRECISION_INT8) {
        note(b, MF_BENCH_TILE_PEAK, repeat, mf_peak_gops(level, MF_PEAK_INT8_TILE));
    }
    return MF_OK;
}

static mf_rc ask(bench *b, double *us, mf_err *err) {
    mf_str question = mf_bench_question();
    runner *r = &b->runners[0];
    int64_t start = thread_ns();
    MF_TRY(mf_lane_encode(r->lane, &question, 1, MF_NEVER, r->out, NULL, err));
    *us = (double)(thread_ns() - start) / MF_NS_PER_US;
    return MF_OK;
}

static mf_rc measure_queries(bench *b, size_t repeat, mf_err *err) {
    size_t count = 0;
    int64_t end = thread_ns() + b->plan->slice_ns / 4;
    MF_TRY(ask(b, &b->query_us[0], err)); /* warms the caches */
    do {
        MF_TRY(ask(b, &b->query_us[count++], err));
    } while (thread_ns() < end && count < QUERIES_MAX);
    note(b, MF_BENCH_QUERY_US, repeat, median(b->query_us, count));
    for (size_t i = 0; i < COLD_QUERIES; i++) {
        for (size_t at = 0; at < FLUSH_BYTES; at += CACHE_LINE) {
            b->flush[at]++;
        }
        MF_TRY(ask(b, &b->query_us[i], err));
    }
    note(b, MF_BENCH_QUERY_COLD_US, repeat, median(b->query_us, COLD_QUERIES));
    return MF_OK;
}

/* Behind measure_batch, whose rate of one thread is compared with. */
static mf_rc measure_two_threads(bench *b, size_t repeat, mf_err *err) {
    if (mf_cpu_count() < 2) {
        return MF_OK;
    }
    double alone = tokens_per_s(&b->runners[0]);
    mf_thread other = {.started = false};
    MF_TRY(mf_thread_start(&other, "mf-bench", run_slice, &b->runners[1], err));
    run_slice(&b->runners[0]);
    mf_thread_join(&other);
    for (size_t i = 0; i < LANES; i++) {
        if (b->runners[i].rc != MF_OK) {
            return MF_FAIL(err, b->runners[i].rc, "%s", b->runners[i].err.text);
        }
    }
    double both = tokens_per_s(&b->runners[0]) + tokens_per_s(&b->runners[1]);
    note(b, MF_BENCH_THREADS_2, repeat, both / alone);
    return MF_OK;
}

/* --- all of it -------------------------------------------------------------------- */

static mf_rc measure(bench *b, mf_bench_report *out, mf_err *err) {
    MF_TRY(measure_open(b, err));
    mf_encoder_get_info(b->encoder, &out->info);
    out->rss_mb = (double)mf_process_rss_bytes() / 1e6;
    MF_TRY(tell(b, "measuring", 1, err));
    MF_TRY(make_room(b, err));
    MF_TRY(count_tokens(b, out, err));
    b->operations_per_token = operations_per_token(&b->encoder->config);
    b->batch = b->plan->level == MF_CPU_SCALAR ? SCALAR_BATCH : MF_ENCODE_BATCH_MAX;
    MF_TRY(measure_agreement(b, out, err));
    MF_TRY(tell(b, "measuring", 2, err));
    for (size_t i = 0; i < b->plan->repeats; i++) {
        MF_TRY(measure_batch(b, i, err));
        MF_TRY(measure_two_threads(b, i, err));
        MF_TRY(measure_queries(b, i, err));
        MF_TRY(tell(b, "measuring", STEPS_BEFORE + i + 1, err));
    }
    return MF_OK;
}

static void summarise(bench *b, mf_bench_report *out) {
    size_t repeats = b->plan->repeats;
    for (size_t i = 0; i < MF_BENCH_FIGURES; i++) {
        double *values = b->samples + i * repeats;
        if (b->measured[i]) {
            double middle = median(values, repeats);
            out->figures[i] =
                (mf_bench_spread){true, values[0], middle, values[repeats - 1]};
        }
    }
}

mf_rc mf_bench_run(const mf_bench_plan *plan, mf_bench_report *out, mf_err *err) {
    bench b = {.plan = plan};
    *out = (mf_bench_report){.tokens = 0};
    b.samples = mf_alloc_array(MF_BENCH_FIGURES * plan->repeats, sizeof *b.samples);
    mf_rc rc = b.samples == NULL
                   ? MF_FAIL(err, MF_E_NOMEM, "no memory to measure the encoder")
                   : measure(&b, out, err);
    if (rc == MF_OK) {
        summarise(&b, out);
    }
    for (size_t i = 0; i < LANES; i++) {
        mf_lane_close(b.runners[i].lane);
        mf_free(b.runners[i].out);
    }
    (void)mf_encoder_unref(b.encoder);
    mf_free(b.lengths);
    mf_free(b.flush);
    mf_free(b.query_us);
    mf_free(b.samples);
    return rc;
}
