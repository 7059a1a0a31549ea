/* cpu.c - how many cores there are, and a thread's share of them. */
#include "os/cpu.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BACKGROUND_NICE = 10 };

size_t mf_cpu_count(void) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    int count =
        sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 0;
    if (count <= 0) { /* more cores than a cpu_set_t has bits */
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    return count > 0 ? (size_t)count : 1;
}

void mf_thread_set_background(void) {
    /* On Linux a thread's number stands for that thread alone.  A refusal only means
     * that background work competes with requests. */
    id_t self = (id_t)gettid();
    if (getpriority(PRIO_PROCESS, self) < BACKGROUND_NICE) {
        (void)setpriority(PRIO_PROCESS, self, BACKGROUND_NICE);
    }
}

void mf_thread_pin(size_t index) {
    cpu_set_t usable;
    cpu_set_t one;
    CPU_ZERO(&usable);
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof usable, &usable) != 0 || CPU_COUNT(&usable) == 0) {
        return; /* more cores than a cpu_set_t has bits */
    }
    size_t left = index % (size_t)CPU_COUNT(&usable);
    size_t core = 0;
    while (!CPU_ISSET(core, &usable) || left-- > 0) {
        core++;
    }
    CPU_SET(core, &one);
    /* A thread that may not be pinned works as well. */
    (void)sched_setaffinity(0, sizeof one, &one);
}
