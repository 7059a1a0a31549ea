/* process.c - what the operating system counts of this process.
 *
 * /proc/self/stat is one line: the second field is the program's name in parentheses,
 * which may hold anything, so fields are counted from behind its last parenthesis.  The
 * start is told in clock ticks since the machine booted, and /proc/stat tells when that
 * was. */
#include "os/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/str.h"
#include "os/file.h"

enum { STAT_MAX = 1024, BOOT_CHUNK = 4096, BOOT_CHUNKS_MAX = 64 };

/* Up to `size` bytes of a file; empty when there is none. */
static mf_str read_start(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size) : -1;
    if (fd >= 0) {
        (void)close(fd); /* nothing was written to it */
    }
    return (mf_str){text, n > 0 ? (size_t)n : 0};
}

/* Seconds since 1970 of the machine's start: the line "btime N" of /proc/stat, which on
 * a machine of many cores comes after tens of kilobytes about interrupts. */
static int64_t boot_seconds(void) {
    char text[BOOT_CHUNK];
    size_t kept = 0;
    int64_t seconds = 0;
    mf_str mark = MF_STR("\nbtime ");
    int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < BOOT_CHUNKS_MAX && seconds == 0; i++) {
        ssize_t n = read(fd, text + kept, sizeof text - kept);
        if (n <= 0) {
            break;
        }
        mf_str have = {text, kept + (size_t)n};
        size_t at = mf_str_find(have, mark, 0);
        size_t end =
            at == SIZE_MAX ? SIZE_MAX : mf_str_find(have, MF_STR("\n"), at + mark.len);
        if (end != SIZE_MAX) {
            mf_str number = mf_str_sub(have, at + mark.len, end - at - mark.len);
            (void)mf_str_to_i64(number, &seconds); /* stays 0 if it is none */
        }
        kept =
            have.len < 64 ? have.len : 64; /* a mark cut in two is found whole next */
        memmove(text, have.p + have.len - kept, kept);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return seconds;
}

static void read_stat(mf_process_stats *out) {
    char text[STAT_MAX];
    mf_str rest = read_start("/proc/self/stat", text, sizeof text);
    size_t at = 0;
    for (size_t next; (next = mf_str_find(rest, MF_STR(") "), at)) != SIZE_MAX;) {
        at = next + 2;
    }
    rest = mf_str_sub(rest, at, rest.len);
    enum { FIELD_STATE = 3, FIELD_THREADS = 20, FIELD_START = 22, FIELD_SIZE = 23 };
    int64_t ticks = 0;
    long ticks_per_s = sysconf(_SC_CLK_TCK);
    for (int field = FIELD_STATE; rest.len > 0; field++) {
        int64_t value = 0;
        bool good = mf_str_to_i64(mf_str_split(&rest, ' '), &value) && value > 0;
        if (good && field == FIELD_THREADS) {
            out->threads = (size_t)value;
        } else if (good && field == FIELD_START) {
            ticks = value;
        } else if (good && field == FIELD_SIZE) {
            out->virtual_bytes = (size_t)value;
        }
    }
    int64_t boot_s = boot_seconds();
    if (ticks > 0 && ticks_per_s > 0 && boot_s > 0) {
        out->start_seconds = (double)boot_s + (double)ticks / (double)ticks_per_s;
    }
}

static size_t count_fds(void) {
    DIR *folder = opendir("/proc/self/fd");
    size_t count = 0;
    if (folder == NULL) {
        return 0;
    }
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return count > 0 ? count - 1 : 0; /* without the one that reads the folder */
}

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

void mf_process_get_stats(mf_process_stats *out) {
    *out = (mf_process_stats){.rss_bytes = mf_process_rss_bytes(),
                              .open_fds = count_fds()};
    read_stat(out);
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        out->cpu_seconds = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        out->fds_max = (size_t)limit.rlim_cur;
    }
}
