/* prometheus.c - writes the Prometheus text exposition format, version 0.0.4. */
#include "http/prometheus.h"

#include "base/assert.h"
#include "base/clock.h"

static void add_text(mf_prometheus *page, const char *text) {
    (void)mf_buf_add_str(page->out, mf_str_from(text)); /* `failed` is sticky */
}

static void add_escaped(mf_prometheus *page, const char *text, bool quotes) {
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\n') {
            add_text(page, "\\n");
        } else {
            if (*p == '\\' || (*p == '"' && quotes)) {
                (void)mf_buf_add(page->out, "\\", 1);
            }
            (void)mf_buf_add(page->out, p, 1);
        }
    }
}

void mf_prometheus_family(mf_prometheus *page, const char *name, const char *type,
                          const char *help) {
    page->family = name;
    (void)mf_buf_printf(page->out, "# HELP %s ", name);
    add_escaped(page, help, false);
    (void)mf_buf_printf(page->out, "\n# TYPE %s %s\n", name, type);
}

static void add_name(mf_prometheus *page, const char *tail, const mf_label *labels,
                     size_t count) {
    MF_ASSERT(count <= MF_PROMETHEUS_LABELS_MAX);
    add_text(page, page->family);
    add_text(page, tail);
    for (size_t i = 0; i < count; i++) {
        (void)mf_buf_printf(page->out, "%s%s=\"", i == 0 ? "{" : ",", labels[i].name);
        add_escaped(page, labels[i].value, true);
        add_text(page, "\"");
    }
    add_text(page, count > 0 ? "} " : " ");
}

static void add_count(mf_prometheus *page, const char *tail, const mf_label *labels,
                      size_t count, uint64_t value) {
    add_name(page, tail, labels, count);
    (void)mf_buf_printf(page->out, "%llu\n", (unsigned long long)value);
}

/* Twelve digits: microseconds of a sum of years.  The program never leaves the C
 * locale, so the point is a point. */
static void add_real(mf_prometheus *page, const char *tail, const mf_label *labels,
                     size_t count, double value) {
    add_name(page, tail, labels, count);
    (void)mf_buf_printf(page->out, "%.12g\n", value);
}

void mf_prometheus_count(mf_prometheus *page, const mf_label *labels, size_t count,
                         uint64_t value) {
    add_count(page, "", labels, count, value);
}

void mf_prometheus_real(mf_prometheus *page, const mf_label *labels, size_t count,
                        double value) {
    add_real(page, "", labels, count, value);
}

static double seconds(uint64_t ns) {
    return (double)ns / MF_NS_PER_S;
}

/* The caller's labels and room for one more, whose name and value are to be set. */
static void copy_labels(const mf_label *labels, size_t count,
                        mf_label out[MF_PROMETHEUS_LABELS_MAX]) {
    MF_ASSERT(count < MF_PROMETHEUS_LABELS_MAX);
    for (size_t i = 0; i < count; i++) {
        out[i] = labels[i];
    }
}

void mf_prometheus_histogram(mf_prometheus *page, const mf_label *labels, size_t count,
                             const mf_histogram *h) {
    enum { BOUNDS = 16, US = 1000, MS = 1000000 };
    static const uint64_t bounds[BOUNDS] = {100 * US,
                                            250 * US,
                                            500 * US,
                                            1 * MS,
                                            UINT64_C(2500) * US,
                                            5 * MS,
                                            10 * MS,
                                            25 * MS,
                                            50 * MS,
                                            100 * MS,
                                            250 * MS,
                                            500 * MS,
                                            1000 * MS,
                                            UINT64_C(2500) * MS,
                                            UINT64_C(5000) * MS,
                                            UINT64_C(10000) * MS};
    static const char *const texts[BOUNDS] = {
        "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025",
        "0.05",   "0.1",     "0.25",   "0.5",   "1",      "2.5",   "5",    "10"};
    mf_label with[MF_PROMETHEUS_LABELS_MAX];
    uint64_t below[BOUNDS];
    copy_labels(labels, count, with);
    uint64_t total = mf_histogram_cumulate(h, bounds, BOUNDS, below);
    for (size_t i = 0; i < BOUNDS; i++) {
        with[count] = (mf_label){"le", texts[i]};
        add_count(page, "_bucket", with, count + 1, below[i]);
    }
    with[count] = (mf_label){"le", "+Inf"};
    add_count(page, "_bucket", with, count + 1, total);
    add_real(page, "_sum", labels, count, seconds(mf_histogram_sum(h)));
    add_count(page, "_count", labels, count, total);
}

void mf_prometheus_summary(mf_prometheus *page, const mf_label *labels, size_t count,
                           const mf_histogram_summary *s) {
    const struct {
        const char *quantile;
        uint64_t ns;
    } rows[] = {{"0.5", s->p50}, {"0.9", s->p90}, {"0.99", s->p99}, {"0.999", s->p999}};
    mf_label with[MF_PROMETHEUS_LABELS_MAX];
    copy_labels(labels, count, with);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        with[count] = (mf_label){"quantile", rows[i].quantile};
        add_real(page, "", with, count + 1, seconds(rows[i].ns));
    }
    add_real(page, "_sum", labels, count, seconds(s->sum));
    add_count(page, "_count", labels, count, s->count);
}
