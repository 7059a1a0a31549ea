/* bench_encoder.c - how fast texts become vectors, beside what the processor could do.
 *
 *   bench_encoder [model folder]
 *
 * Everything runs on one thread.  A figure is the median of several repeats, with the
 * lowest and highest behind it.  The limit is measured in the same run: a loop of
 * independent fused multiply-adds that never leaves the registers.  The share of that
 * limit counts the linear layers' operations only, two per weight and token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "model/encoder_private.h"
#include "os/file.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    REPEATS = 9,
    TEXTS = 64,
    TEXT_BYTES = 2048,
    SLICE_NS = 300 * MF_NS_PER_MS, /* least time of one repeat */
};

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

/* --- the limit -------------------------------------------------------------------- */

enum { CHAINS = 12, STEPS = 4000000 };

#if defined(__x86_64__)
/* Operations of STEPS rounds of CHAINS independent multiply-adds. */
__attribute__((target("avx512f"), noinline)) static double spin_avx512(void) {
    __m512 v[CHAINS];
    const __m512 a = _mm512_set1_ps(0.999F);
    const __m512 b = _mm512_set1_ps(0.001F);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
        v[i] = _mm512_set1_ps((float)i);
    }
    for (int step = 0; step < STEPS; step++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            v[i] = _mm512_fmadd_ps(v[i], a, b);
            __asm__ volatile("" : "+v"(v[i])); /* keeps every step */
        }
    }
    return 2.0 * 16 * CHAINS * STEPS;
}

__attribute__((target("avx2,fma"), noinline)) static double spin_avx2(void) {
    __m256 v[CHAINS];
    const __m256 a = _mm256_set1_ps(0.999F);
    const __m256 b = _mm256_set1_ps(0.001F);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
        v[i] = _mm256_set1_ps((float)i);
    }
    for (int step = 0; step < STEPS; step++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            v[i] = _mm256_fmadd_ps(v[i], a, b);
            __asm__ volatile("" : "+x"(v[i]));
        }
    }
    return 2.0 * 8 * CHAINS * STEPS;
}
#endif

/* GFLOP/s of one vector level. */
static spread measure_peak(mf_cpu_level level) {
    double gflops[REPEATS] = {0.0};
#if defined(__x86_64__)
    for (int i = 0; i < REPEATS; i++) {
        int64_t start = mf_now_ns();
        double operations = level == MF_CPU_AVX512 ? spin_avx512() : spin_avx2();
        gflops[i] = operations / (double)(mf_now_ns() - start);
    }
#else
    (void)level;
#endif
    return summarise(gflops);
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
static spread time_encode(mf_lane *lane, const mf_str *texts, size_t count,
                          float *out) {
    mf_err err;
    double seconds[REPEATS];
    must(mf_lane_encode(lane, texts, count, MF_NEVER, out, NULL, &err), &err);
    for (int i = 0; i < REPEATS; i++) {
        int64_t start = mf_now_ns();
        int64_t spent = 0;
        int calls = 0;
        while (spent < SLICE_NS) {
            must(mf_lane_encode(lane, texts, count, MF_NEVER, out, NULL, &err), &err);
            calls++;
            spent = mf_now_ns() - start;
        }
        seconds[i] = (double)spent / 1e9 / calls;
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

static void measure_open(const char *dir) {
    double ms[REPEATS];
    for (int i = 0; i < REPEATS; i++) {
        mf_err err;
        mf_encoder *encoder = NULL;
        int64_t start = mf_now_ns();
        must(mf_encoder_open(dir, &encoder, &err), &err);
        ms[i] = (double)(mf_now_ns() - start) / 1e6;
        (void)mf_encoder_unref(encoder);
    }
    print_spread("open the model, file in the page cache", summarise(ms), "ms");
}

static void measure_level(const char *dir, mf_cpu_level level, const mf_str *texts) {
    mf_err err;
    mf_encoder *encoder = NULL;
    mf_lane *lane = NULL;
    must(mf_encoder_open_at(dir, level, &encoder, &err), &err);
    must(mf_lane_open(encoder, &lane, &err), &err);
    printf("\n%s kernels\n", mf_cpu_level_name(level));
    if (level == mf_cpu_best()) {
        printf("%-44s %10.1f  MB\n", "resident memory, model and lane open",
               (double)mf_process_rss_bytes() / 1e6);
    }
    const mf_encoder_config *config = &encoder->config;
    float *out = mf_alloc_array(TEXTS * config->hidden, sizeof *out);
    if (out == NULL) {
        exit(1);
    }
    spread peak = {0.0, 0.0, 0.0};
    if (level != MF_CPU_SCALAR) { /* the reference is not meant to be fast */
        peak = measure_peak(level);
        print_spread("register loop, the limit", peak, "GFLOP/s");
    }
    double weights = (double)config->layers * (double)config->hidden *
                     (4.0 * (double)config->hidden + 2.0 * (double)config->inner);
    size_t tokens = count_tokens(encoder, texts, TEXTS);
    spread mixed = time_encode(lane, texts, TEXTS, out);
    print_spread("64 mixed texts in one call", scaled_inverse(mixed, TEXTS), "texts/s");
    print_spread("  tokens", scaled_inverse(mixed, (double)tokens), "tokens/s");
    double gflops = 2.0 * weights * (double)tokens / mixed.median / 1e9;
    printf("%-44s %10.1f  GFLOP/s", "  linear layers", gflops);
    if (peak.median > 0.0) {
        printf(", %.0f %% of the limit", 100.0 * gflops / peak.median);
    }
    printf("\n");
    const struct {
        const char *what;
        const char *text;
    } questions[] = {
        {"question", "when does the next train to hamburg leave"},
        {"message",
         "please remind me about the garden tickets because nobody could find our "
         "coffee and the train was late to the meeting so she moved the budget report "
         "to friday"},
    };
    for (size_t i = 0; i < 2; i++) {
        mf_str text = mf_str_from(questions[i].text);
        char what[64];
        (void)snprintf(what, sizeof what, "%s of %zu tokens", questions[i].what,
                       count_tokens(encoder, &text, 1));
        print_spread(what, scaled(time_encode(lane, &text, 1, out), 1e3), "ms");
    }
    if (level == mf_cpu_best()) {
        printf("%-44s %10.1f  MB\n", "resident memory after all this",
               (double)mf_process_rss_bytes() / 1e6);
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
    measure_open(dir);
    for (mf_cpu_level level = MF_CPU_LEVEL_COUNT; level-- > MF_CPU_SCALAR;) {
        if (mf_cpu_has(level)) {
            measure_level(dir, level, texts);
        }
    }
    return 0;
}
