/* process_test.c - the figures of this very process are what it knows of itself. */
#include "os/process.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static mf_process_stats now(void) {
    mf_process_stats stats;
    mf_process_get_stats(&stats);
    return stats;
}

static void an_open_file_counts_until_it_is_closed(void **state) {
    (void)state;
    size_t before = now().open_fds;
    assert_true(before >= 3);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(now().open_fds, before + 1);
    assert_int_equal(close(fd), 0);
    assert_int_equal(now().open_fds, before);
    assert_true(now().fds_max >= before);
}

static void work_takes_processor_time(void **state) {
    (void)state;
    double before = now().cpu_seconds;
    volatile unsigned x = 1;
    clock_t until = clock() + CLOCKS_PER_SEC / 20;
    while (clock() < until) {
        x = x * 3 + 1;
    }
    assert_true(now().cpu_seconds > before + 0.03);
}

static void it_started_not_long_ago(void **state) {
    (void)state;
    double age = (double)time(NULL) - now().start_seconds;
    assert_true(age > -2 && age < 3600);
}

static void memory_in_ram_is_part_of_the_address_space(void **state) {
    (void)state;
    mf_process_stats stats = now();
    assert_true(stats.rss_bytes > 100 * 1024);
    assert_true(stats.rss_bytes < stats.virtual_bytes);
}

static void wait_at(void *arg) {
    char byte;
    int end = *(int *)arg;
    while (read(end, &byte, 1) < 0) {
    }
}

static void a_thread_counts_while_it_runs(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    mf_thread first = {.started = false};
    mf_thread second = {.started = false};
    /* A sanitizer starts a thread of its own with the first. */
    assert_int_equal(mf_thread_start(&first, "test", wait_at, &ends[0], NULL), MF_OK);
    size_t before = now().threads;
    assert_int_equal(mf_thread_start(&second, "test", wait_at, &ends[0], NULL), MF_OK);
    assert_int_equal(now().threads, before + 1);
    assert_int_equal(close(ends[1]), 0);
    mf_thread_join(&first);
    mf_thread_join(&second);
    assert_int_equal(close(ends[0]), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_file_counts_until_it_is_closed),
        cmocka_unit_test(work_takes_processor_time),
        cmocka_unit_test(it_started_not_long_ago),
        cmocka_unit_test(memory_in_ram_is_part_of_the_address_space),
        cmocka_unit_test(a_thread_counts_while_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
