/* log.h - structured log lines on stderr.
 *
 * One line per event: time, level, event name, then key=value pairs.  Values with
 * blanks or control characters are quoted and escaped, so nobody can forge a line.
 * Message text of users never goes into a line at info or above.  Library code below
 * service/ logs at debug only.  Safe from any thread; each line is one write. */
#ifndef MF_BASE_LOG_H
#define MF_BASE_LOG_H

#include "base/err.h"
#include "base/str.h"

typedef enum mf_log_level {
    MF_LOG_DEBUG,
    MF_LOG_INFO,
    MF_LOG_WARN,
    MF_LOG_ERROR,
    MF_LOG_OFF
} mf_log_level;

typedef enum mf_log_format { MF_LOG_TEXT, MF_LOG_JSON } mf_log_format;

void mf_log_setup(mf_log_level least, mf_log_format format);
/* The same by the names of the settings: "debug", "info", "warn", "error" or "off", and
 * "text" or "json".  A name unknown counts as "info" or "text". */
void mf_log_setup_named(const char *least, const char *format);
bool mf_log_enabled(mf_log_level level);

/* mf_log(MF_LOG_INFO, "listening", "addr=%s port=%d", addr, port)
 * `fields` is a printf format of blank-separated key=value pairs whose %s values may
 * hold anything: they are escaped one by one; " " stands for no pairs.  Supported: %s
 * %d %u %zu %ld %lu %lld %llu %.Nf and %.*s. */
void mf_log(mf_log_level level, const char *event, const char *fields, ...)
    MF_PRINTF(3, 4);
void mf_log_err(mf_log_level level, const char *event, const mf_err *err);

#endif
