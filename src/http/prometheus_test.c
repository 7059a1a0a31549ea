/* prometheus_test.c - a page follows the text format: escapes, buckets that rise to the
 * count, seconds for nanoseconds. */
#include "http/prometheus.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { PAGE_MAX = 1 << 16 };

typedef struct page {
    mf_buf text;
    mf_prometheus out;
} page;

static void open_page(page *p) {
    mf_buf_init(&p->text, PAGE_MAX);
    p->out = (mf_prometheus){.out = &p->text};
}

static void expect(page *p, const char *text) {
    assert_int_equal(p->text.failed, MF_OK);
    assert_string_equal(p->text.p, text);
    mf_buf_done(&p->text);
}

static void a_family_is_told_before_its_samples(void **state) {
    (void)state;
    page p;
    open_page(&p);
    mf_prometheus_family(&p.out, "a_total", "counter", "What is counted");
    mf_prometheus_count(&p.out, NULL, 0, UINT64_MAX);
    mf_prometheus_real(&p.out, &(mf_label){"kind", "b"}, 1, 0.125);
    expect(&p, "# HELP a_total What is counted\n# TYPE a_total counter\n"
               "a_total 18446744073709551615\na_total{kind=\"b\"} 0.125\n");
}

static void values_of_labels_and_help_are_escaped(void **state) {
    (void)state;
    page p;
    open_page(&p);
    mf_prometheus_family(&p.out, "a", "gauge", "one\\two\n\"three\"");
    mf_label labels[] = {{"x", "quote\" back\\slash"}, {"y", "new\nline \xC3\xA9"}};
    mf_prometheus_count(&p.out, labels, 2, 1);
    expect(&p, "# HELP a one\\\\two\\n\"three\"\n# TYPE a gauge\n"
               "a{x=\"quote\\\" back\\\\slash\",y=\"new\\nline \xC3\xA9\"} 1\n");
}

static void buckets_rise_to_the_count(void **state) {
    (void)state;
    static mf_histogram h;
    mf_histogram_reset(&h);
    mf_histogram_record(&h, 200000);                /* 200 us */
    mf_histogram_record(&h, 3000000);               /* 3 ms */
    mf_histogram_record(&h, UINT64_C(60000000000)); /* a minute */
    page p;
    open_page(&p);
    mf_prometheus_family(&p.out, "t_seconds", "histogram", "Time");
    mf_prometheus_histogram(&p.out, &(mf_label){"op", "x"}, 1, &h);
    const char *text = p.text.p;
    assert_non_null(strstr(text, "t_seconds_bucket{op=\"x\",le=\"0.0001\"} 0\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{op=\"x\",le=\"0.00025\"} 1\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{op=\"x\",le=\"0.0025\"} 1\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{op=\"x\",le=\"0.005\"} 2\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{op=\"x\",le=\"10\"} 2\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{op=\"x\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "t_seconds_sum{op=\"x\"} 60.0032\n"));
    assert_non_null(strstr(text, "t_seconds_count{op=\"x\"} 3\n"));
    mf_buf_done(&p.text);
}

static void a_summary_tells_quantiles_in_seconds(void **state) {
    (void)state;
    page p;
    open_page(&p);
    mf_histogram_summary s = {.count = 9,
                              .sum = 4000000000,
                              .p50 = 1000,
                              .p90 = 2000000,
                              .p99 = 1500000000,
                              .p999 = 2500000000};
    mf_prometheus_family(&p.out, "w", "summary", "Wait");
    mf_prometheus_summary(&p.out, NULL, 0, &s);
    expect(&p, "# HELP w Wait\n# TYPE w summary\nw{quantile=\"0.5\"} 1e-06\n"
               "w{quantile=\"0.9\"} 0.002\nw{quantile=\"0.99\"} 1.5\n"
               "w{quantile=\"0.999\"} 2.5\nw_sum 4\nw_count 9\n");
}

static void a_page_that_does_not_fit_says_so(void **state) {
    (void)state;
    mf_buf text;
    mf_buf_init(&text, 64);
    mf_prometheus out = {.out = &text};
    mf_prometheus_family(&out, "a_total", "counter", "What is counted here and there");
    mf_prometheus_count(&out, NULL, 0, 1);
    assert_int_equal(text.failed, MF_E_LIMIT);
    mf_buf_done(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_is_told_before_its_samples),
        cmocka_unit_test(values_of_labels_and_help_are_escaped),
        cmocka_unit_test(buckets_rise_to_the_count),
        cmocka_unit_test(a_summary_tells_quantiles_in_seconds),
        cmocka_unit_test(a_page_that_does_not_fit_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
