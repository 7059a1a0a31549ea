/* bench_encoder.h - private to lib/: measures an encoder; see include/memfuse/bench.h
 * for what each figure means. */
#ifndef MF_LIB_BENCH_ENCODER_H
#define MF_LIB_BENCH_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

#include "model/encoder.h"
#include "num/cpu.h"

/* The figures that are measured once per repeat. */
typedef enum mf_bench_figure {
    MF_BENCH_TOKENS_PER_S,
    MF_BENCH_TEXTS_PER_S,
    MF_BENCH_GFLOPS,
    MF_BENCH_PEAK,
    MF_BENCH_PEAK_FRACTION,
    MF_BENCH_TILE_PEAK,
    MF_BENCH_QUERY_US,
    MF_BENCH_QUERY_COLD_US,
    MF_BENCH_THREADS_2,
    MF_BENCH_OPEN_MS,
    MF_BENCH_FIGURES
} mf_bench_figure;

typedef struct mf_bench_spread {
    bool measured; /* else there is no such thing on this machine */
    double low, median, high;
} mf_bench_spread;

typedef struct mf_bench_plan {
    const char *dir;
    mf_cpu_level level; /* mf_cpu_has() allows it */
    mf_precision precision;
    const mf_str *texts; /* borrowed */
    size_t text_count;   /* at least 1 */
    size_t repeats;
    int64_t slice_ns;
    int (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *progress_ctx;
} mf_bench_plan;

typedef struct mf_bench_report {
    mf_bench_spread figures[MF_BENCH_FIGURES];
    mf_encoder_info info;
    size_t tokens; /* of all texts */
    size_t query_tokens;
    double cosine_min;
    double cosine_mean;
    double rss_mb;
} mf_bench_report;

MF_CHECKED mf_rc mf_bench_run(const mf_bench_plan *plan, mf_bench_report *out,
                              mf_err *err);

#endif
