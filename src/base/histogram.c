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

uint64_t mf_histogram_sum(const mf_histogram *h) {
    return load(&h->sum);
}

static uint64_t total_of(const mf_histogram_mark *held) {
    uint64_t total = 0;
    for (size_t i = 0; i < MF_HISTOGRAM_STEPS; i++) {
        total += held->steps[i];
    }
    return total;
}

/* The number that a `share` of the `total` held does not exceed. */
static uint64_t at_share(const mf_histogram_mark *held, uint64_t total, uint64_t max,
                         double share) {
    double rank = share * (double)total;
    rank = rank > 1 ? rank : 1; /* the least one, not nothing, has share 0 */
    uint64_t seen = held->steps[0];
    size_t step = 0;
    while (step < MF_HISTOGRAM_STEPS - 1 && (double)seen < rank) {
        seen += held->steps[++step];
    }
    uint64_t middle = step < MF_HISTOGRAM_STEPS - 1 ? middle_of(step) : max;
    return total == 0 ? 0 : middle < max ? middle : max;
}

static void summarise(const mf_histogram_mark *held, uint64_t max,
                      mf_histogram_summary *out) {
    uint64_t total = total_of(held);
    *out = (mf_histogram_summary){
        .count = total,
        .sum = held->sum,
        .max = max,
        .p50 = at_share(held, total, max, 0.5),
        .p90 = at_share(held, total, max, 0.9),
        .p95 = at_share(held, total, max, 0.95),
        .p99 = at_share(held, total, max, 0.99),
        .p999 = at_share(held, total, max, 0.999),
    };
}

void mf_histogram_take_mark(const mf_histogram *h, mf_histogram_mark *out) {
    for (size_t i = 0; i < MF_HISTOGRAM_STEPS; i++) {
        out->steps[i] = load(&h->steps[i]);
    }
    out->sum = load(&h->sum);
}

uint64_t mf_histogram_percentile(const mf_histogram *h, double share) {
    mf_histogram_mark held;
    mf_histogram_take_mark(h, &held);
    return at_share(&held, total_of(&held), load(&h->max), share);
}

void mf_histogram_get_summary(const mf_histogram *h, mf_histogram_summary *out) {
    mf_histogram_mark held;
    mf_histogram_take_mark(h, &held);
    summarise(&held, load(&h->max), out);
}

void mf_histogram_get_summary_since(const mf_histogram *h,
                                    const mf_histogram_mark *mark,
                                    mf_histogram_summary *out) {
    mf_histogram_mark held;
    uint64_t max = 0;
    mf_histogram_take_mark(h, &held);
    for (size_t i = 0; i < MF_HISTOGRAM_STEPS; i++) {
        held.steps[i] -= mark->steps[i];
        if (held.steps[i] > 0) {
            max = i < MF_HISTOGRAM_STEPS - 1 ? middle_of(i) : load(&h->max);
        }
    }
    held.sum -= mark->sum;
    summarise(&held, max, out);
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
