/* histogram.c - how a figure is spread, in fixed memory.
 *
 * Step of a number v >= 16 whose highest bit is number e: the four bits below that one
 * choose among 16 steps, and (e - 3) * 16 come before them.  Numbers below 16 are their
 * own step, and the two rules meet without a gap: 16 has e = 4 and step 16.
 *
 * Orders weaker than sequential consistency have no partner here: a figure is only
 * itself, nothing else is read on the strength of it. */
#include "base/histogram.h"

#include <stdbool.h>

enum { SUB = 1 << MF_HISTOGRAM_STEP_BITS };

static size_t step_of(uint64_t value) {
    if (value < SUB) {
        return (size_t)value;
    }
    unsigned e = 63 - (unsigned)__builtin_clzll(value);
    if (e >= MF_HISTOGRAM_VALUE_BITS) {
        return MF_HISTOGRAM_STEPS - 1;
    }
    uint64_t within = value >> (e - MF_HISTOGRAM_STEP_BITS) & (SUB - 1);
    return (size_t)(e - MF_HISTOGRAM_STEP_BITS + 1) * SUB + (size_t)within;
}

static uint64_t middle_of(size_t step) {
    if (step < SUB) {
        return step;
    }
    unsigned shift = (unsigned)(step / SUB) - 1;
    uint64_t low = (uint64_t)(SUB + step % SUB) << shift;
    return low + ((UINT64_C(1) << shift) >> 1);
}

static uint64_t load(const atomic_ullong *figure) {
    return atomic_load_explicit(figure, memory_order_relaxed);
}

void mf_histogram_reset(mf_histogram *h) {
    for (size_t i = 0; i < MF_HISTOGRAM_STEPS; i++) {
        atomic_store_explicit(&h->steps[i], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&h->sum, 0, memory_order_relaxed);
    atomic_store_explicit(&h->max, 0, memory_order_relaxed);
}

static void raise_max(mf_histogram *h, unsigned long long value) {
    unsigned long long seen = load(&h->max);
    while (seen < value &&
           !atomic_compare_exchange_weak_explicit(
               &h->max, &seen, value, memory_order_relaxed, memory_order_relaxed)) {
    }
}

void mf_histogram_record(mf_histogram *h, uint64_t value) {
    atomic_fetch_add_explicit(&h->steps[step_of(value)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
    raise_max(h, value);
}

void mf_histogram_merge(mf_histogram *into, const mf_histogram *from) {
    for (size_t i = 0; i < MF_HISTOGRAM_STEPS; i++) {
        uint64_t count = load(&from->steps[i]);
        if (count > 0) {
            atomic_fetch_add_explicit(&into->steps[i], count, memory_order_relaxed);
        }
    }
    atomic_fetch_add_explicit(&into->sum, load(&from->sum), memory_order_relaxed);
    raise_max(into, load(&from->max));
}

uint64_t mf_histogram_count(const mf_histogram *h) {
    uint64_t count = 0;
    for (size_t i = 0; i < MF_HISTOGRAM_STEPS; i++) {
        count += load(&h->steps[i]);
    }
    return count;
}

/* The numbers at the `count` rising shares, in one pass behind the one that counts. */
static uint64_t percentiles(const mf_histogram *h, const double *shares, size_t count,
                            uint64_t *out) {
    uint64_t total = mf_histogram_count(h);
    uint64_t max = load(&h->max);
    uint64_t seen = 0;
    size_t step = 0;
    for (size_t i = 0; i < count; i++) {
        double rank = shares[i] * (double)total;
        rank = rank > 1 ? rank : 1; /* the least one, not nothing, has share 0 */
        while (step < MF_HISTOGRAM_STEPS - 1 &&
               (double)(seen + load(&h->steps[step])) < rank) {
            seen += load(&h->steps[step]);
            step++;
        }
        uint64_t middle = step < MF_HISTOGRAM_STEPS - 1 ? middle_of(step) : max;
        out[i] = total == 0 ? 0 : middle < max ? middle : max;
    }
    return total;
}

uint64_t mf_histogram_percentile(const mf_histogram *h, double share) {
    uint64_t value = 0;
    (void)percentiles(h, &share, 1, &value); /* how many there are is not asked */
    return value;
}

void mf_histogram_get_summary(const mf_histogram *h, mf_histogram_summary *out) {
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    uint64_t at[4];
    out->count = percentiles(h, shares, 4, at);
    out->sum = load(&h->sum);
    out->max = load(&h->max);
    out->p50 = at[0];
    out->p90 = at[1];
    out->p99 = at[2];
    out->p999 = at[3];
}

uint64_t mf_histogram_cumulate(const mf_histogram *h, const uint64_t *bounds,
                               size_t count, uint64_t *below) {
    uint64_t seen = 0;
    size_t bound = 0;
    for (size_t step = 0; step < MF_HISTOGRAM_STEPS; step++) {
        bool last = step == MF_HISTOGRAM_STEPS - 1;
        while (bound < count && (last || middle_of(step) > bounds[bound])) {
            below[bound++] = seen;
        }
        seen += load(&h->steps[step]);
    }
    return seen;
}
