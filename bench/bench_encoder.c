/* bench_encoder.c - how fast texts become vectors, beside what the processor could do.
 *
 *   bench_encoder [model folder]
 *
 * Everything runs on one thread and is timed by that thread's processor time, so that
 * other programs disturb it less.  A figure is the median of several repeats, with the
 * lowest and highest behind it.  The limit is measured between them, in the same run
 * (num/peak.h).  The share of that limit counts the linear layers' operations only, two
 * per weight and token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "model/encoder_private.h"
#include "num/peak.h"
#include "os/file.h"

enum {
    REPEATS = 9,
    TEXTS = 64,
    TEXT_BYTES = 2048,
    SLICE_NS = 100 * MF_NS_PER_MS, /* least time of one repeat */
};

static int64_t thread_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail on Linux */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

typedef struct spread {
    double low, median, high;
} spread;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static spread summarise(double values[REPEATS]) {
    qsort(values, REPEATS, sizeof *values, by_value);
    return (spread){values[0], values[REPEATS / 2], values[REPEATS - 1]};
}

static void print_spread(const char *what, spread s, const char *unit) {
    printf("%-44s %10.2f  (%.2f .. %.2f) %s\n", what, s.median, s.low, s.high, unit);
}

/* --- the texts -------------------------------------------------------------------- */

/* Lengths of chat messages: most short, some long. */
static void make_texts(mf_str texts[TEXTS], char *bytes) {
    static const char *const words[] = {
        "the",    "meeting", "moved",  "to",     "friday", "because", "our",
        "train",  "was",     "late",   "and",    "nobody", "could",   "find",
        "coffee", "please",  "remind", "me",     "about",  "garden",  "tickets",
        "she",    "prefers", "window", "seats",  "in",     "summer",  "house",
        "budget", "report",  "looks",  "better", "than",   "last",    "year"};
    mf_rng rng;
    mf_rng_init(&rng, 2024);
    for (size_t i = 0; i < TEXTS; i++) {
        char *start = bytes + i * TEXT_BYTES;
        double skew = mf_rng_unit(&rng);
        size_t count = 6 + (size_t)(skew * skew * 110.0);
        size_t len = 0;
        for (size_t w = 0; w < count; w++) {
            const char *word =
                words[mf_rng_below(&rng, sizeof words / sizeof words[0])];
            len += (size_t)snprintf(start + len, TEXT_BYTES - len, "%s ", word);
        }
        texts[i] = (mf_str){start, len};
    }
}

static size_t count_tokens(const mf_encoder *encoder, const mf_str *texts,
                           size_t count) {
    size_t tokens = 0;
    int32_t ids[1024];
    for (size_t i = 0; i < count; i++) {
        tokens += mf_wordpiece_encode(mf_encoder_tokenizer(encoder), texts[i], ids,
                                      encoder->config.window, NULL);
    }
    return tokens;
}

/* --- measuring -------------------------------------------------------------------- */

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

/* Seconds per call for `count` texts in one call. */
static double time_once(mf_lane *lane, const mf_str *texts, size_t count, float *out) {
    mf_err err;
    int64_t start = thread_ns();
    int64_t spent = 0;
    int calls = 0;
    while (spent < SLICE_NS) {
        must(mf_lane_encode(lane, texts, count, MF_NEVER, out, NULL, &err), &err);
        calls++;
        spent = thread_ns() - start;
    }
    return (double)spent / 1e9 / calls;
}

static spread time_encode(mf_lane *lane, const mf_str *texts, size_t count,
                          float *out) {
    double seconds[REPEATS];
    (void)time_once(lane, texts, count, out); /* caches */
    for (int i = 0; i < REPEATS; i++) {
        seconds[i] = time_once(lane, texts, count, out);
    }
    return summarise(seconds);
}

static spread scaled_inverse(spread seconds, double amount) {
    return (spread){amount / seconds.high, amount / seconds.median,
                    amount / seconds.low};
}

static spread scaled(spread s, double factor) {
    return (spread){s.low * factor, s.median * factor, s.high * factor};
}

static const char *const names[] = {"auto", "fp32", "int8"};

static mf_encoder *open_as(const char *dir, mf_cpu_level level,
                           mf_precision precision) {
    const mf_encoder_options options = {.precision = precision};
    mf_encoder *encoder = NULL;
    mf_err err;
    must(mf_encoder_open_at(dir, level, &options, &encoder, &err), &err);
    return encoder;
}

static void measure_open(const char *dir, mf_precision precision) {
    double ms[REPEATS];
    char what[64];
    (void)mf_encoder_unref(
        open_as(dir, mf_cpu_best(), precision)); /* makes the cache */
    for (int i = 0; i < REPEATS; i++) {
        int64_t start = mf_now_ns();
        mf_encoder *encoder = open_as(dir, mf_cpu_best(), precision);
        ms[i] = (double)(mf_now_ns() - start) / 1e6;
        (void)mf_encoder_unref(encoder);
    }
    (void)snprintf(what, sizeof what, "open in %s, files in the page cache",
                   names[precision]);
    print_spread(what, summarise(ms), "ms");
}

static double linear_operations(const mf_encoder_config *config, size_t tokens) {
    return 2.0 * (double)tokens * (double)config->layers * (double)config->hidden *
           (4.0 * (double)config->hidden + 2.0 * (double)config->inner);
}

static double measure_peak(mf_cpu_level level, mf_precision precision) {
    if (precision == MF_PRECISION_FP32) {
        return mf_peak_gops(level, MF_PEAK_FP32);
    }
    return mf_peak_gops(level, level == MF_CPU_AMX ? MF_PEAK_INT8_TILE : MF_PEAK_INT8);
}

/* The batch and the limit by turns: what disturbs one disturbs the other. */
static void measure_batch(mf_lane *lane, const mf_str *texts, mf_cpu_level level,
                          mf_precision precision, float *out) {
    double seconds[REPEATS];
    double peaks[REPEATS];
    double shares[REPEATS];
    size_t tokens = count_tokens(lane->encoder, texts, TEXTS);
    double operations = linear_operations(&lane->encoder->config, tokens) / 1e9;
    (void)time_once(lane, texts, TEXTS, out);
    for (int i = 0; i < REPEATS; i++) {
        peaks[i] = measure_peak(level, precision);
        seconds[i] = time_once(lane, texts, TEXTS, out);
        shares[i] = 100.0 * operations / seconds[i] / peaks[i];
    }
    spread mixed = summarise(seconds);
    print_spread("64 mixed texts in one call", scaled_inverse(mixed, TEXTS), "texts/s");
    print_spread("  tokens", scaled_inverse(mixed, (double)tokens), "tokens/s");
    print_spread("  linear layers", scaled_inverse(mixed, operations), "Gop/s");
    print_spread("  register loop, the limit", summarise(peaks), "Gop/s");
    print_spread("  share of the limit", summarise(shares), "%");
}

/* Texts of 10, 32 and 128 tokens, the two special ones included: all words are one
 * token each. */
static void measure_lengths(mf_lane *lane, float *out) {
    static const size_t lengths[] = {10, 32, 128};
    static const char word[] = "train ";
    char text[6 * 128];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = word[i % 6];
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        mf_str one = {text, 6 * (lengths[i] - 2)};
        char what[64];
        (void)snprintf(what, sizeof what, "text of %zu tokens",
                       count_tokens(lane->encoder, &one, 1));
        print_spread(what, scaled(time_encode(lane, &one, 1, out), 1e3), "ms");
    }
}

static void measure_level(const char *dir, mf_cpu_level level, mf_precision precision,
                          const mf_str *texts) {
    mf_err err;
    size_t before = mf_process_rss_bytes();
    mf_encoder *encoder = open_as(dir, level, precision);
    mf_lane *lane = NULL;
    must(mf_lane_open(encoder, &lane, &err), &err);
    float *out = mf_alloc_array(TEXTS * encoder->config.hidden, sizeof *out);
    if (out == NULL) {
        exit(1);
    }
    printf("\n%s, %s kernels\n", names[precision], mf_cpu_level_name(level));
    measure_batch(lane, texts, level, precision, out);
    measure_lengths(lane, out);
    if (level == mf_cpu_best()) {
        printf("%-44s %10.1f  MB, %.1f of them new\n", "resident memory with one lane",
               (double)mf_process_rss_bytes() / 1e6,
               ((double)mf_process_rss_bytes() - (double)before) / 1e6);
    }
    mf_free(out);
    mf_lane_close(lane);
    (void)mf_encoder_unref(encoder);
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : MF_BENCH_MODEL_DIR;
    static char bytes[TEXTS * TEXT_BYTES];
    mf_str texts[TEXTS];
    make_texts(texts, bytes);
    printf("one thread, median of %d repeats (lowest .. highest)\n", REPEATS);
    measure_open(dir, MF_PRECISION_INT8);
    for (mf_cpu_level level = MF_CPU_LEVEL_COUNT; level-- > MF_CPU_SCALAR;) {
        /* The plain kernels are the reference, minutes slow; only where there is no
         * other do they matter to anybody. */
        if (mf_cpu_has(level) && (level != MF_CPU_SCALAR || mf_cpu_best() == level)) {
            measure_level(dir, level, MF_PRECISION_INT8, texts);
            measure_level(dir, level, MF_PRECISION_FP32, texts);
        }
    }
    measure_open(dir, MF_PRECISION_FP32);
    return 0;
}
