/* clock.h - time, replaceable in tests. */
#ifndef MF_BASE_CLOCK_H
#define MF_BASE_CLOCK_H

#include <stdint.h>

typedef struct mf_clock {
    int64_t (*mono_ns)(void *ctx); /* never goes back; deadlines and durations */
    int64_t (*wall_us)(void *ctx); /* microseconds since 1970 UTC; what people see */
    void *ctx;
} mf_clock;

enum { MF_NS_PER_US = 1000, MF_NS_PER_MS = 1000000, MF_NS_PER_S = 1000000000 };
#define MF_NEVER INT64_MAX

const mf_clock *mf_clock_system(void);
/* The process-wide clock: the system's unless a test put another in its place. */
void mf_clock_set(const mf_clock *clock); /* NULL restores the system's */
int64_t mf_now_ns(void);
/* The same clock as of the kernel's last tick, 1 to 10 ms ago at most: for stamps on
 * paths that are too quick for an exact time.  With another clock in the system's
 * place, mf_now_ns. */
int64_t mf_now_coarse_ns(void);
int64_t mf_wall_us(void);
/* mf_now_ns() + ms, saturating; a negative ms gives MF_NEVER. */
int64_t mf_deadline_in_ms(int64_t ms);

#endif
