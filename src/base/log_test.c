/* log_test.c - one event is one line, whatever the values hold. */
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { CAPTURE_MAX = 1 << 20, THREADS = 4, LINES = 200 };

static char captured[CAPTURE_MAX];
static int capture_fd = -1;
static int stderr_fd = -1;

static int64_t fixed_wall(void *ctx) {
    (void)ctx;
    return INT64_C(1700000000000042); /* 2023-11-14 22:13:20 UTC */
}

static const mf_clock fixed_clock = {fixed_wall, fixed_wall, NULL};

/* Sends stderr into memory until capture_end, which puts what was written in
 * `captured`. */
static void capture_begin(void) {
    capture_fd = memfd_create("log", 0);
    stderr_fd = dup(STDERR_FILENO);
    assert_true(capture_fd >= 0 && stderr_fd >= 0);
    /* Unlike a file's, a memory file's position is not kept apart for two writers. */
    assert_int_equal(fcntl(capture_fd, F_SETFL, O_APPEND), 0);
    assert_true(dup2(capture_fd, STDERR_FILENO) >= 0);
    mf_clock_set(&fixed_clock);
}

static const char *capture_end(void) {
    mf_clock_set(NULL);
    assert_true(dup2(stderr_fd, STDERR_FILENO) >= 0);
    ssize_t n = pread(capture_fd, captured, sizeof captured - 1, 0);
    close(stderr_fd);
    close(capture_fd);
    assert_true(n >= 0);
    captured[n] = '\0';
    return captured;
}

static void text_line_has_time_level_event_and_pairs(void **state) {
    (void)state;
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_TEXT);
    capture_begin();
    mf_log(MF_LOG_INFO, "listening", "addr=%s port=%d size=%zu took_ms=%.1f",
           "127.0.0.1", 8000, (size_t)7, 1.25);
    assert_string_equal(capture_end(),
                        "2023-11-14T22:13:20.000042Z info listening addr=127.0.0.1 "
                        "port=8000 size=7 took_ms=1.2\n");
}

static void json_line_keeps_numbers_bare(void **state) {
    (void)state;
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_JSON);
    capture_begin();
    mf_log(MF_LOG_WARN, "slow", "path=%s n=%u at=%s:%d part=%.*s zero=%.2f", "/a \"b\"",
           3u, "f.c", 12, 2, "xyz", 0.0);
    assert_string_equal(capture_end(),
                        "{\"time\":\"2023-11-14T22:13:20.000042Z\",\"level\":\"warn\","
                        "\"event\":\"slow\",\"path\":\"/a \\\"b\\\"\",\"n\":3,"
                        "\"at\":\"f.c:12\",\"part\":\"xy\",\"zero\":0.00}\n");
}

static void all_integer_kinds_come_out_at_their_limits(void **state) {
    (void)state;
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_TEXT);
    capture_begin();
    mf_log(MF_LOG_DEBUG, "n", "d=%d u=%u ld=%ld lu=%lu lld=%lld llu=%llu zu=%zu p=%d%%",
           -2147483647 - 1, 4294967295u, INT64_MIN, UINT64_MAX, -1LL, 1ULL, SIZE_MAX,
           50);
    const char *line = capture_end();
    assert_non_null(strstr(line, " d=-2147483648 u=4294967295 ld=-9223372036854775808 "
                                 "lu=18446744073709551615 lld=-1 llu=1 "
                                 "zu=18446744073709551615 p=50%\n"));
}

static void levels_and_forms_go_by_the_names_of_the_settings(void **state) {
    (void)state;
    mf_log_setup_named("warn", "json");
    assert_false(mf_log_enabled(MF_LOG_INFO));
    assert_true(mf_log_enabled(MF_LOG_WARN));
    capture_begin();
    mf_log(MF_LOG_WARN, "n", "a=%d", 1);
    assert_int_equal(capture_end()[0], '{');
    mf_log_setup_named("off", "text");
    assert_false(mf_log_enabled(MF_LOG_ERROR));
    mf_log_setup_named("nonsense", "nonsense");
    assert_true(mf_log_enabled(MF_LOG_INFO));
    assert_false(mf_log_enabled(MF_LOG_DEBUG));
}

static void values_cannot_forge_a_line_or_a_pair(void **state) {
    (void)state;
    static const struct {
        const char *value;
        const char *shown;
    } rows[] = {
        {"plain", "plain"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"x admin=1", "\"x admin=1\""},
        {"a=b", "\"a=b\""},
        {"a\nb", "\"a\\u000ab\""},
        {"a\r\tb", "\"a\\u000d\\u0009b\""},
        {"\x1B[31m", "\"\\u001b[31m\""},
        {"\x7F", "\"\\u007f\""},
        {"\xC2\x9B", "\"\\u009b\""},
        {"q\"uote", "\"q\\\"uote\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"\xC3\xA4", "\"\xC3\xA4\""},
        {"\xF0\x9F\x98\x80", "\"\xF0\x9F\x98\x80\""},
        {"\xFF", "\"\\ufffd\""},
        {"\xE2\x82", "\"\\ufffd\\ufffd\""},
        {"\xE2\x41\x82", "\"\\ufffdA\\ufffd\""},
        {"\xC0\x8A", "\"\\ufffd\\ufffd\""},
    };
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_TEXT);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        capture_begin();
        mf_log(MF_LOG_INFO, "e", "v=%s last=%d", rows[i].value, 1);
        const char *line = capture_end();
        char want[128];
        (void)snprintf(want, sizeof want,
                       "2023-11-14T22:13:20.000042Z info e v=%s last=1\n",
                       rows[i].shown);
        assert_string_equal(line, want);
    }
}

static void missing_strings_and_odd_numbers_are_shown(void **state) {
    (void)state;
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_JSON);
    capture_begin();
    const char *volatile none = NULL; /* the compiler must not see through it */
    mf_log(MF_LOG_INFO, "e", "s=%s inf=%.1f empty=%.*s", none, 1e308 * 10, 0, "x");
    const char *line = capture_end();
    assert_non_null(strstr(line, "\"s\":\"\",\"inf\":\"inf\",\"empty\":\"\"}\n"));
}

static void lines_below_the_level_are_not_written(void **state) {
    (void)state;
    capture_begin();
    mf_log_setup(MF_LOG_WARN, MF_LOG_TEXT);
    assert_false(mf_log_enabled(MF_LOG_INFO));
    assert_true(mf_log_enabled(MF_LOG_WARN));
    mf_log(MF_LOG_INFO, "no", "a=%d", 1);
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    assert_false(mf_log_enabled(MF_LOG_OFF));
    mf_log(MF_LOG_ERROR, "no", "a=%d", 1);
    assert_string_equal(capture_end(), "");
}

static void an_event_may_stand_alone(void **state) {
    (void)state;
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_TEXT);
    capture_begin();
    mf_log(MF_LOG_ERROR, "stopped", " ");
    assert_string_equal(capture_end(), "2023-11-14T22:13:20.000042Z error stopped\n");
}

static void long_values_are_cut_and_the_line_stays_whole(void **state) {
    (void)state;
    static char big[6000];
    memset(big, '\n', sizeof big - 1);
    for (int json = 0; json < 2; json++) {
        mf_log_setup(MF_LOG_DEBUG, json ? MF_LOG_JSON : MF_LOG_TEXT);
        capture_begin();
        mf_log(MF_LOG_INFO, "e", "first=%d big=%s n=%d again=%s", 1, big, 2, big);
        const char *line = capture_end();
        size_t len = strlen(line);
        assert_in_range(len, 4000, 4096);
        assert_ptr_equal(strchr(line, '\n'), line + len - 1);
        const char *end = json ? "\\u000a\"}\n" : "\\u000a\"\n";
        assert_string_equal(line + len - strlen(end), end);
    }
}

static void error_reports_are_logged_field_by_field(void **state) {
    (void)state;
    mf_err err;
    (void)MF_FAIL_FIELD(&err, MF_E_LIMIT, "top_k", "%d is too many", 9);
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_TEXT);
    capture_begin();
    mf_log_err(MF_LOG_WARN, "refused", &err);
    const char *line = capture_end();
    assert_non_null(strstr(line, " warn refused code=too_large sys=0 field=top_k at="));
    assert_non_null(strstr(line, " text=\"9 is too many\"\n"));
}

static void log_lines(void *arg) {
    for (int i = 0; i < LINES; i++) {
        mf_log(MF_LOG_INFO, "e", "who=%s n=%d", (const char *)arg, i);
    }
}

static void lines_of_many_threads_do_not_mix(void **state) {
    (void)state;
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    mf_thread threads[THREADS] = {{.started = false}};
    mf_log_setup(MF_LOG_DEBUG, MF_LOG_TEXT);
    capture_begin();
    for (size_t i = 0; i < THREADS; i++) {
        if (mf_thread_start(&threads[i], "log", log_lines, names[i], NULL) != MF_OK) {
            break;
        }
    }
    for (size_t i = 0; i < THREADS; i++) {
        mf_thread_join(&threads[i]);
    }
    mf_str rest = mf_str_from(capture_end());
    size_t lines = 0;
    while (rest.len > 0) {
        mf_str line = mf_str_split(&rest, '\n');
        assert_true(
            mf_str_starts(line, MF_STR("2023-11-14T22:13:20.000042Z info e who=")));
        lines++;
    }
    assert_int_equal(lines, (size_t)THREADS * LINES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line_has_time_level_event_and_pairs),
        cmocka_unit_test(json_line_keeps_numbers_bare),
        cmocka_unit_test(all_integer_kinds_come_out_at_their_limits),
        cmocka_unit_test(levels_and_forms_go_by_the_names_of_the_settings),
        cmocka_unit_test(values_cannot_forge_a_line_or_a_pair),
        cmocka_unit_test(missing_strings_and_odd_numbers_are_shown),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(an_event_may_stand_alone),
        cmocka_unit_test(long_values_are_cut_and_the_line_stays_whole),
        cmocka_unit_test(error_reports_are_logged_field_by_field),
        cmocka_unit_test(lines_of_many_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
