/* clock.c - the system's clocks, and the place to put another one. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include "base/assert.h"

static int64_t read_ns(clockid_t id) {
    struct timespec now;
    MF_ASSERT(clock_gettime(id, &now) == 0);
    return (int64_t)now.tv_sec * MF_NS_PER_S + now.tv_nsec;
}

static int64_t system_mono_ns(void *ctx) {
    (void)ctx;
    return read_ns(CLOCK_MONOTONIC);
}

static int64_t system_wall_us(void *ctx) {
    (void)ctx;
    return read_ns(CLOCK_REALTIME) / MF_NS_PER_US;
}

static const mf_clock system_clock = {system_mono_ns, system_wall_us, NULL};
static _Atomic(const mf_clock *) process_clock = &system_clock;

const mf_clock *mf_clock_system(void) {
    return &system_clock;
}

void mf_clock_set(const mf_clock *clock) {
    atomic_store(&process_clock, clock != NULL ? clock : &system_clock);
}

/* Acquire pairs with the store in mf_clock_set: the clock's own state is seen. */
static const mf_clock *current(void) {
    return atomic_load_explicit(&process_clock, memory_order_acquire);
}

int64_t mf_now_ns(void) {
    const mf_clock *clock = current();
    return clock->mono_ns(clock->ctx);
}

int64_t mf_now_coarse_ns(void) {
    const mf_clock *clock = current();
    return clock == &system_clock ? read_ns(CLOCK_MONOTONIC_COARSE)
                                  : clock->mono_ns(clock->ctx);
}

int64_t mf_wall_us(void) {
    const mf_clock *clock = current();
    return clock->wall_us(clock->ctx);
}

int64_t mf_deadline_in_ms(int64_t ms) {
    if (ms < 0) {
        return MF_NEVER;
    }
    int64_t deadline = 0;
    if (__builtin_mul_overflow(ms, (int64_t)MF_NS_PER_MS, &deadline) ||
        __builtin_add_overflow(deadline, mf_now_ns(), &deadline)) {
        return MF_NEVER;
    }
    return deadline;
}
