/* bench_metrics.c - what it costs to time an operation.
 *
 *     bench_metrics
 *
 * Each part is run by turns with the others, so that a slow moment of the machine hits
 * all of them; printed are the median over the turns and their spread, of processor
 * time, so that other processes count only by the caches they spoil.  The last part
 * runs on all cores at once on one operation, which is the worst case: every addition
 * is to a cache line that another core has just written. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "os/cpu.h"

enum { TURNS = 21, CALLS = 1000000, THREADS_MAX = 4, PARTS = 5 };

static mf_metrics *metrics;
static mf_histogram histogram;
static atomic_llong sink;

static void read_clock_twice(void *arg) {
    (void)arg;
    int64_t sum = 0;
    for (int i = 0; i < CALLS; i++) {
        int64_t before = mf_now_ns();
        sum += mf_now_ns() - before;
    }
    atomic_store(&sink, sum);
}

static void record_value(void *arg) {
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        mf_histogram_record(&histogram, (uint64_t)i & 0xffff);
    }
}

static void time_operation(void *arg) {
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        mf_metrics_end(mf_metrics_begin(metrics, MF_OPERATION_QUERY), MF_OK);
    }
}

static void without_metrics(void *arg) {
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        mf_metrics_end(mf_metrics_begin(NULL, MF_OPERATION_QUERY), MF_OK);
    }
}

static size_t threads_max(void) {
    return mf_cpu_count() < THREADS_MAX ? mf_cpu_count() : THREADS_MAX;
}

static void time_operation_on_all(void *arg) {
    (void)arg;
    mf_thread threads[THREADS_MAX];
    size_t count = threads_max();
    for (size_t i = 0; i < count; i++) {
        threads[i] = (mf_thread){.started = false};
        if (mf_thread_start(&threads[i], "bench", time_operation, NULL, NULL) !=
            MF_OK) {
            (void)fprintf(stderr, "no threads\n");
            exit(1);
        }
    }
    for (size_t i = 0; i < count; i++) {
        mf_thread_join(&threads[i]);
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(void) {
    static const struct {
        const char *what;
        void (*run)(void *arg);
    } parts[PARTS] = {
        {"two looks at the clock", read_clock_twice},
        {"histogram: record", record_value},
        {"metrics: begin and end", time_operation},
        {"the same without metrics", without_metrics},
        {"begin and end, all threads", time_operation_on_all},
    };
    static double ns[PARTS][TURNS];
    mf_err err;
    if (mf_metrics_open(&metrics, &err) != MF_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (size_t turn = 0; turn < TURNS; turn++) {
        for (size_t i = 0; i < PARTS; i++) {
            clock_t before = clock();
            parts[i].run(NULL);
            double calls = (double)CALLS * (double)(i == PARTS - 1 ? threads_max() : 1);
            ns[i][turn] = (double)(clock() - before) / CLOCKS_PER_SEC * 1e9 / calls;
        }
    }
    (void)printf(
        "%-28s %8s %8s %8s   (nanoseconds of processor time a call, %d turns)\n",
        "part", "median", "least", "most", TURNS);
    for (size_t i = 0; i < PARTS; i++) {
        qsort(ns[i], TURNS, sizeof ns[i][0], by_value);
        (void)printf("%-28s %8.1f %8.1f %8.1f\n", parts[i].what, ns[i][TURNS / 2],
                     ns[i][0], ns[i][TURNS - 1]);
    }
    mf_metrics_close(metrics);
    return 0;
}
