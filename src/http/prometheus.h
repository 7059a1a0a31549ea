/* prometheus.h - writes the Prometheus text exposition format, version 0.0.4.
 *
 * A page is families, one after the other; a family is its HELP and TYPE lines and then
 * all its samples.  The writer begins a family with mf_prometheus_family and adds
 * samples to it; label values and help texts are escaped here.  Names and label names
 * are the caller's constants and follow the format's rules.
 *
 * The format: one sample a line, `name{label="value",...} number`, with backslash,
 * newline and (in label values) the double quote escaped by a backslash. */
#ifndef MF_HTTP_PROMETHEUS_H
#define MF_HTTP_PROMETHEUS_H

#include "base/buf.h"
#include "base/histogram.h"

#define MF_PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

typedef struct mf_prometheus {
    mf_buf *out; /* look at ->failed once at the end */
    const char *family;
} mf_prometheus;

typedef struct mf_label {
    const char *name;
    const char *value;
} mf_label;

enum { MF_PROMETHEUS_LABELS_MAX = 4 };

/* `type`: "counter", "gauge", "histogram" or "summary"; `name` outlives the family. */
void mf_prometheus_family(mf_prometheus *page, const char *name, const char *type,
                          const char *help);
void mf_prometheus_count(mf_prometheus *page, const mf_label *labels, size_t count,
                         uint64_t value);
void mf_prometheus_real(mf_prometheus *page, const mf_label *labels, size_t count,
                        double value);
/* Durations in nanoseconds as a histogram in seconds, with buckets from 100 us to 10 s
 * whose bounds are met to one step of the histogram (1/32). */
void mf_prometheus_histogram(mf_prometheus *page, const mf_label *labels, size_t count,
                             const mf_histogram *h);
/* The same as a summary: the quantiles 0.5, 0.9, 0.99 and 0.999, sum and count. */
void mf_prometheus_summary(mf_prometheus *page, const mf_label *labels, size_t count,
                           const mf_histogram_summary *s);

#endif
