/* histogram.h - how a figure is spread, in fixed memory.
 *
 * Made for durations in nanoseconds but takes any whole number.  Numbers below 16 have
 * a step each; above, every power of two is cut into 16 steps of equal width (the
 * layout of HdrHistogram with four significant bits).  A percentile is told as the
 * middle of its step, so it is off by at most 1/32 (3.2 %) of the true value; count,
 * sum and largest are exact.  Numbers of 2^40 (18 minutes in nanoseconds) and more
 * share the last step, whose percentiles are told as the largest number seen.
 *
 * Recording is a handful of relaxed atomic additions: no lock, no wait, no allocation,
 * any number of threads.  Reading while others record gives figures that are each right
 * for some moment but not all for the same one; count is summed from the steps, so
 * percentiles always fit it. */
#ifndef MF_BASE_HISTOGRAM_H
#define MF_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MF_HISTOGRAM_STEP_BITS = 4,   /* steps of a power of two, as a power of two */
    MF_HISTOGRAM_VALUE_BITS = 40, /* larger numbers share the last step */
    MF_HISTOGRAM_STEPS =          /* and one for those */
    ((MF_HISTOGRAM_VALUE_BITS - MF_HISTOGRAM_STEP_BITS + 1) << MF_HISTOGRAM_STEP_BITS) +
    1
};

typedef struct mf_histogram {
    atomic_ullong steps[MF_HISTOGRAM_STEPS];
    atomic_ullong sum;
    atomic_ullong max;
} mf_histogram;

_Static_assert(sizeof(mf_histogram) < 5 * 1024, "a histogram is a few kilobytes");

typedef struct mf_histogram_summary {
    uint64_t count, sum, max;
    uint64_t p50, p90, p95, p99, p999;
} mf_histogram_summary;

/* What a histogram held at some moment. */
typedef struct mf_histogram_mark {
    uint64_t steps[MF_HISTOGRAM_STEPS];
    uint64_t sum;
} mf_histogram_mark;

/* All zero is an empty histogram, so static and zeroed memory needs no init. */
void mf_histogram_reset(mf_histogram *h);
void mf_histogram_record(mf_histogram *h, uint64_t value);
/* Adds what `from` holds to `into`. */
void mf_histogram_merge(mf_histogram *into, const mf_histogram *from);
uint64_t mf_histogram_count(const mf_histogram *h);
uint64_t mf_histogram_sum(const mf_histogram *h);
/* The number that a `share` (0..1) of those recorded does not exceed; 0 when empty. */
uint64_t mf_histogram_percentile(const mf_histogram *h, double share);
void mf_histogram_get_summary(const mf_histogram *h, mf_histogram_summary *out);
/* Remembers what it holds now; all zero is the mark of an empty one. */
void mf_histogram_take_mark(const mf_histogram *h, mf_histogram_mark *out);
/* The same of what was recorded since the mark.  The largest is told as a percentile
 * is, to its step. */
void mf_histogram_get_summary_since(const mf_histogram *h,
                                    const mf_histogram_mark *mark,
                                    mf_histogram_summary *out);
/* For each of `count` rising `bounds`, how many numbers were at most that large (to one
 * step's width: a step counts when its middle is not above the bound).  Returns the
 * number of all of them, read in the same pass. */
uint64_t mf_histogram_cumulate(const mf_histogram *h, const uint64_t *bounds,
                               size_t count, uint64_t *below);

#endif
