/* cpu_test.c - cores are counted as they may be used, and background threads step
 * back. */
#include "os/cpu.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void count_follows_the_affinity(void **state) {
    (void)state;
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(mf_cpu_count(), CPU_COUNT(&before));
    size_t first = 0;
    while (!CPU_ISSET(first, &before)) {
        first++;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(mf_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void step_back(void *arg) {
    mf_thread_set_background();
    *(int *)arg = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void only_the_background_thread_steps_back(void **state) {
    (void)state;
    int before = getpriority(PRIO_PROCESS, (id_t)gettid());
    int inside = -99;
    mf_thread thread = {.started = false};
    assert_int_equal(mf_thread_start(&thread, "back", step_back, &inside, NULL), MF_OK);
    mf_thread_join(&thread);
    assert_int_equal(inside, before < 10 ? 10 : before);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)gettid()), before);
}

typedef struct pinned {
    size_t index;
    cpu_set_t cores;
} pinned;

static void pin(void *arg) {
    pinned *p = arg;
    mf_thread_pin(p->index);
    (void)sched_getaffinity(0, sizeof p->cores, &p->cores);
}

static void threads_are_pinned_one_after_the_other_and_around(void **state) {
    (void)state;
    cpu_set_t before;
    cpu_set_t seen;
    cpu_set_t after;
    cpu_set_t first;
    CPU_ZERO(&seen);
    CPU_ZERO(&first);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    size_t cores = mf_cpu_count();
    for (size_t i = 0; i <= cores; i++) {
        pinned p = {.index = i};
        mf_thread thread = {.started = false};
        assert_int_equal(mf_thread_start(&thread, "pin", pin, &p, NULL), MF_OK);
        mf_thread_join(&thread);
        assert_int_equal(CPU_COUNT(&p.cores), 1);
        CPU_OR(&seen, &seen, &p.cores);
        first = i == 0 ? p.cores : first;
        assert_true(i < cores || CPU_EQUAL(&p.cores, &first));
    }
    assert_true(CPU_EQUAL(&seen, &before));
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(count_follows_the_affinity),
        cmocka_unit_test(only_the_background_thread_steps_back),
        cmocka_unit_test(threads_are_pinned_one_after_the_other_and_around),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
