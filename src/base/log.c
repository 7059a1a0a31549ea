/* log.c - structured log lines on stderr.
 *
 * mf_log reads the format itself, word by word: `key=` is copied, and what follows up
 * to the next blank of the format is one value, however many conversions it has.  So a
 * value is known as a whole before it is written and can be quoted or escaped as a
 * whole.  Lines are put together on the stack; one that does not fit loses the end of
 * its values, never its newline. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

enum { LINE_MAX_BYTES = 4096, LINE_TAIL = 4, VALUE_MAX = 2048 };

typedef struct log_line {
    mf_log_format format;
    size_t len;
    bool full;
    char bytes[LINE_MAX_BYTES];
} log_line;

/* One value while it is put together. */
typedef struct log_value {
    size_t len;
    bool bare; /* a single number: needs no quotes in JSON */
    char bytes[VALUE_MAX];
} log_value;

/* va_list may be an array type, which cannot be passed on by address portably. */
typedef struct log_args {
    va_list list;
} log_args;

static atomic_int least_level = MF_LOG_INFO;
static atomic_int line_format = MF_LOG_TEXT;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void mf_log_setup(mf_log_level least, mf_log_format format) {
    atomic_store(&least_level, (int)least);
    atomic_store(&line_format, (int)format);
}

/* Relaxed: the level orders nothing, a line more or less around a change does no
 * harm. */
void mf_log_setup_named(const char *least, const char *format) {
    static const char *const NAMES[] = {"debug", "info", "warn", "error", "off"};
    mf_log_level level = MF_LOG_INFO;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        if (strcmp(NAMES[i], least) == 0) {
            level = (mf_log_level)i;
        }
    }
    mf_log_setup(level, strcmp(format, "json") == 0 ? MF_LOG_JSON : MF_LOG_TEXT);
}

bool mf_log_enabled(mf_log_level level) {
    return level < MF_LOG_OFF &&
           (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

/* Adds all of the bytes or none, so an escape is never cut in two. */
static void line_add(log_line *line, const char *bytes, size_t len) {
    if (line->full || len > LINE_MAX_BYTES - LINE_TAIL - line->len) {
        line->full = true;
        return;
    }
    memcpy(line->bytes + line->len, bytes, len);
    line->len += len;
}

static void line_add_text(log_line *line, const char *text) {
    line_add(line, text, strlen(text));
}

/* Length of the UTF-8 sequence at the front of s, or 0 when it is not one. */
static size_t char_len(const unsigned char *s, size_t len) {
    size_t want = s[0] < 0x80   ? 1
                  : s[0] < 0xC2 ? 0
                  : s[0] < 0xE0 ? 2
                  : s[0] < 0xF0 ? 3
                                : 4;
    if (want == 0 || want > len || s[0] > 0xF4) {
        return 0;
    }
    for (size_t i = 1; i < want; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return want;
}

static bool is_control(unsigned char c) {
    return c < 0x20 || c == 0x7F;
}

/* JSON's own escapes serve for both formats.  Bytes that are no UTF-8 become U+FFFD. */
static void line_add_escaped(log_line *line, const char *bytes, size_t len) {
    for (size_t i = 0; i < len;) {
        const unsigned char *s = (const unsigned char *)bytes + i;
        size_t n = char_len(s, len - i);
        char escape[8];
        if (n == 0) {
            line_add_text(line, "\\ufffd");
            i++;
        } else if (is_control(*s)) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", *s);
            line_add_text(line, escape);
            i++;
        } else if (*s == '"' || *s == '\\') {
            line_add(line, (char[]){'\\', (char)*s}, 2);
            i++;
        } else if (n == 2 && s[0] == 0xC2 && s[1] < 0xA0) { /* U+0080 to U+009F */
            (void)snprintf(escape, sizeof escape, "\\u%04x", s[1]);
            line_add_text(line, escape);
            i += n;
        } else {
            line_add(line, bytes + i, n);
            i += n;
        }
    }
}

static bool needs_quotes(const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c <= ' ' || c >= 0x7F || c == '"' || c == '\\' || c == '=') {
            return true;
        }
    }
    return len == 0;
}

/* Adds a pair; when the line fills up, a quoted value is cut and any other pair left
 * out as a whole, so a JSON line stays well formed. */
static void line_add_pair(log_line *line, mf_str key, mf_str value, bool bare) {
    bool json = line->format == MF_LOG_JSON;
    bool quoted = json ? !bare : needs_quotes(value.p, value.len);
    size_t start = line->len;
    line_add_text(line, json ? ",\"" : " ");
    line_add(line, key.p, key.len);
    line_add_text(line, json ? "\":" : "=");
    line_add_text(line, quoted ? "\"" : "");
    if (!quoted) {
        line_add(line, value.p, value.len);
    }
    if (line->full) {
        line->len = start;
        return;
    }
    if (quoted) {
        line_add_escaped(line, value.p, value.len);
        line->bytes[line->len++] = '"'; /* LINE_TAIL keeps room for it */
    }
}

static void value_add(log_value *value, const char *bytes, size_t len) {
    size_t room = sizeof value->bytes - value->len;
    if (len > room) {
        len = room;
    }
    if (len > 0) {
        memcpy(value->bytes + value->len, bytes, len);
    }
    value->len += len;
}

/* One conversion of the format, behind its '%'. */
typedef struct log_spec {
    int precision; /* -1 when none is given, -2 for '*' */
    int longs;     /* how many 'l' */
    bool size;     /* 'z' */
    char kind;
} log_spec;

static const char *spec_parse(const char *p, log_spec *out) {
    *out = (log_spec){.precision = -1};
    if (*p == '.') {
        p++;
        if (*p == '*') {
            out->precision = -2;
            p++;
        } else {
            out->precision = 0;
            while (*p >= '0' && *p <= '9') {
                out->precision = out->precision * 10 + (*p++ - '0');
            }
        }
    }
    while (*p == 'l') {
        out->longs++;
        p++;
    }
    if (*p == 'z') {
        out->size = true;
        p++;
    }
    out->kind = *p;
    MF_ASSERT(*p != '\0' && strchr("sduf%", *p) != NULL); /* the kinds log.h promises */
    return p + 1;
}

static long long take_signed(const log_spec *spec, log_args *args) {
    if (spec->size || spec->longs == 1) {
        return va_arg(args->list, long);
    }
    return spec->longs == 2 ? va_arg(args->list, long long) : va_arg(args->list, int);
}

static unsigned long long take_unsigned(const log_spec *spec, log_args *args) {
    if (spec->size) {
        return va_arg(args->list, size_t);
    }
    if (spec->longs == 1) {
        return va_arg(args->list, unsigned long);
    }
    return spec->longs == 2 ? va_arg(args->list, unsigned long long)
                            : va_arg(args->list, unsigned);
}

static void value_add_string(log_value *value, const log_spec *spec, log_args *args) {
    int most = spec->precision == -2 ? va_arg(args->list, int) : spec->precision;
    const char *text = va_arg(args->list, const char *);
    if (text == NULL) {
        return;
    }
    value_add(value, text, most >= 0 ? strnlen(text, (size_t)most) : strlen(text));
}

static void value_add_spec(log_value *value, const log_spec *spec, log_args *args) {
    char number[352]; /* the longest double, in full, is shorter */
    int n = 0;
    switch (spec->kind) {
    case 's':
        value_add_string(value, spec, args);
        return;
    case 'd':
        n = snprintf(number, sizeof number, "%lld", take_signed(spec, args));
        break;
    case 'u':
        n = snprintf(number, sizeof number, "%llu", take_unsigned(spec, args));
        break;
    case 'f': {
        int digits =
            spec->precision >= 0 && spec->precision <= 17 ? spec->precision : 6;
        n = snprintf(number, sizeof number, "%.*f", digits, va_arg(args->list, double));
        break;
    }
    default:
        value_add(value, "%", 1);
        return;
    }
    MF_ASSERT(n > 0 && (size_t)n < sizeof number);
    value_add(value, number, (size_t)n);
}

/* JSON has no word for infinity or nan, so these stay in quotes. */
static bool is_finite_text(const log_value *value) {
    return value->len > 0 && value->bytes[value->len - 1] >= '0' &&
           value->bytes[value->len - 1] <= '9';
}

/* Reads one value of the format, up to the next blank or the end. */
static const char *value_parse(const char *p, log_value *value, log_args *args) {
    value->len = 0;
    size_t pieces = 0;
    bool number = false;
    while (*p != '\0' && *p != ' ') {
        pieces++;
        if (*p != '%') {
            value_add(value, p++, 1);
            continue;
        }
        log_spec spec;
        p = spec_parse(p + 1, &spec);
        value_add_spec(value, &spec, args);
        number = spec.kind == 'd' || spec.kind == 'u' || spec.kind == 'f';
    }
    value->bare = pieces == 1 && number && is_finite_text(value);
    return p;
}

static void line_start(log_line *line, mf_log_level level, const char *event) {
    line->format =
        (mf_log_format)atomic_load_explicit(&line_format, memory_order_relaxed);
    line->len = 0;
    line->full = false;
    int64_t wall_us = mf_wall_us();
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm utc;
    char time_text[64];
    MF_ASSERT(gmtime_r(&seconds, &utc) != NULL);
    size_t len = strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(time_text + len, sizeof time_text - len, ".%06dZ",
                   (int)(wall_us % 1000000));
    if (line->format == MF_LOG_JSON) {
        line_add_text(line, "{\"time\":\"");
        line_add_text(line, time_text);
        line_add_text(line, "\",\"level\":\"");
        line_add_text(line, level_names[level]);
        line_add_text(line, "\",\"event\":\"");
        line_add_escaped(line, event, strlen(event));
        line_add_text(line, "\"");
    } else {
        line_add_text(line, time_text);
        line_add_text(line, " ");
        line_add_text(line, level_names[level]);
        line_add_text(line, " ");
        line_add_escaped(line, event, strlen(event));
    }
}

static void line_write(log_line *line) {
    if (line->format == MF_LOG_JSON) {
        line->bytes[line->len++] = '}';
    }
    line->bytes[line->len++] = '\n';
    while (write(STDERR_FILENO, line->bytes, line->len) < 0 && errno == EINTR) {
        /* Any other failure of stderr has nowhere to be told. */
    }
}

void mf_log(mf_log_level level, const char *event, const char *fields, ...) {
    if (!mf_log_enabled(level)) {
        return;
    }
    log_line line;
    log_value value;
    log_args args;
    line_start(&line, level, event);
    va_start(args.list, fields);
    const char *p = fields + strspn(fields, " ");
    while (*p != '\0') {
        const char *equals = strchr(p, '=');
        MF_ASSERT(equals != NULL); /* a word of the format that is no pair */
        mf_str key = {p, (size_t)(equals - p)};
        p = value_parse(equals + 1, &value, &args);
        line_add_pair(&line, key, (mf_str){value.bytes, value.len}, value.bare);
        p += strspn(p, " ");
    }
    va_end(args.list);
    line_write(&line);
}

void mf_log_err(mf_log_level level, const char *event, const mf_err *err) {
    mf_log(level, event, "code=%s sys=%d field=%s at=%s:%d text=%s",
           mf_rc_name(err->rc), err->sys, err->field, err->file, err->line, err->text);
}
