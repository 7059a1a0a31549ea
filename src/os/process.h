/* process.h - what the operating system counts of this process. */
#ifndef MF_OS_PROCESS_H
#define MF_OS_PROCESS_H

#include <stddef.h>
#include <stdint.h>

/* A figure the system does not tell is 0. */
typedef struct mf_process_stats {
    double cpu_seconds;   /* of all threads, in user and system mode */
    double start_seconds; /* when it started, seconds since 1970 UTC */
    size_t rss_bytes;     /* memory in RAM */
    size_t virtual_bytes;
    size_t open_fds, fds_max;
    size_t threads;
} mf_process_stats;

void mf_process_get_stats(mf_process_stats *out);

#endif
