/* watch.c - `memfuse status --watch`: what a running server does, tick by tick.
 *
 * Rates are differences of counters between two ticks, divided by the time between them
 * on the monotonic clock; percentiles are those of the server's recent past, one to two
 * minutes.  On a terminal the screen is drawn anew each time, elsewhere a tick is one
 * line (or one JSON object), so that it can be piped.  Ctrl-C is the way to end it and
 * no failure. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { OPERATIONS_MAX = 64, NAME_MAX_TEXT = 32 };

/* What the rates are made from. */
typedef struct tick {
    double at_s;
    size_t count;
    struct {
        char name[NAME_MAX_TEXT];
        double finished;
    } operations[OPERATIONS_MAX];
} tick;

static double now_s(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail on Linux */
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double number_at(yyjson_val *object, const char *key) {
    return yyjson_get_num(yyjson_obj_get(object, key));
}

static void take_tick(yyjson_val *data, tick *out) {
    size_t i = 0;
    size_t max = 0;
    yyjson_val *key = NULL;
    yyjson_val *one = NULL;
    *out = (tick){.at_s = now_s()};
    yyjson_obj_foreach(yyjson_obj_get(data, "operations"), i, max, key, one) {
        if (out->count < OPERATIONS_MAX) {
            (void)snprintf(out->operations[out->count].name, NAME_MAX_TEXT, "%s",
                           yyjson_get_str(key));
            out->operations[out->count++].finished = number_at(one, "finished");
        }
    }
}

/* Operations a second since the tick before; -1 at the first tick and for what the
 * tick before did not know. */
static double rate_of(const tick *before, const tick *now, const char *name,
                      double finished) {
    double seconds = now->at_s - before->at_s;
    for (size_t i = 0; i < before->count; i++) {
        if (strcmp(before->operations[i].name, name) == 0 && seconds > 0) {
            double more = finished - before->operations[i].finished;
            return more >= 0 ? more / seconds : -1; /* less: another server */
        }
    }
    return -1;
}

/* --- as a screen --- */

static void print_head(yyjson_val *data, double every_s) {
    long long up_s = (long long)(number_at(data, "uptime_ms") / 1000);
    yyjson_val *users = yyjson_obj_get(data, "users_active");
    yyjson_val *memory = yyjson_obj_get(data, "memory");
    (void)printf("memfuse %s  up %lld:%02lld:%02lld  every %g s  (Ctrl-C ends)\n",
                 cli_text(data, "version"), up_s / 3600, up_s / 60 % 60, up_s % 60,
                 every_s);
    (void)printf("memory %.1f MB of %.0f MB  in RAM %.1f MB  users %.0f of %.0f  "
                 "writes waiting %.0f  to embed %.0f\n\n",
                 number_at(memory, "used_bytes") / 1048576,
                 number_at(memory, "budget_bytes") / 1048576,
                 number_at(data, "rss_bytes") / 1048576, number_at(users, "count"),
                 number_at(users, "max"),
                 number_at(yyjson_obj_get(data, "writer"), "queue_depth"),
                 number_at(yyjson_obj_get(data, "buffer"), "embedding_pending"));
}

static void print_operations(yyjson_val *data, const tick *before, const tick *now) {
    size_t i = 0;
    size_t max = 0;
    yyjson_val *key = NULL;
    yyjson_val *one = NULL;
    (void)printf("%-14s %9s %9s %7s %7s %9s %9s\n", "operation", "a second", "total",
                 "failed", "now", "p50 ms", "p99 ms");
    yyjson_obj_foreach(yyjson_obj_get(data, "operations"), i, max, key, one) {
        yyjson_val *recent = yyjson_obj_get(one, "recent");
        double finished = number_at(one, "finished");
        double rate = rate_of(before, now, yyjson_get_str(key), finished);
        char text[32] = "-";
        if (number_at(one, "started") <= 0) {
            continue;
        }
        if (rate >= 0) {
            (void)snprintf(text, sizeof text, "%.1f", rate);
        }
        (void)printf("%-14s %9s %9.0f %7.0f %7.0f", yyjson_get_str(key), text, finished,
                     number_at(one, "failed"), number_at(one, "in_flight"));
        if (number_at(recent, "count") > 0) {
            (void)printf(" %9.3f %9.3f\n", number_at(recent, "p50_us") / 1000,
                         number_at(recent, "p99_us") / 1000);
        } else {
            (void)printf(" %9s %9s\n", "-", "-");
        }
    }
}

void cli_print_operations(yyjson_val *data) {
    static const tick none; /* nothing to compare with, so there are no rates */
    (void)printf("\n");
    print_operations(data, &none, &none);
}

void cli_print_health(yyjson_val *data) {
    size_t i = 0;
    size_t max = 0;
    yyjson_val *key = NULL;
    yyjson_val *one = NULL;
    yyjson_val *health = yyjson_obj_get(data, "health");
    (void)printf("\nhealth: %s\n", cli_text(health, "state"));
    yyjson_obj_foreach(health, i, max, key, one) {
        yyjson_val *value = yyjson_obj_get(one, "value");
        yyjson_val *below = yyjson_obj_get(one, "alert_below");
        char text[32] = "-";
        if (!yyjson_is_obj(one)) {
            continue;
        }
        if (yyjson_is_num(value)) {
            (void)snprintf(text, sizeof text, "%.1f", yyjson_get_num(value));
        }
        (void)printf("  %-22s %10s %-11s %-8s (%g to %g; alert %s %g)\n",
                     yyjson_get_str(key), text, cli_text(one, "unit"),
                     cli_text(one, "state"), number_at(one, "healthy_low"),
                     number_at(one, "healthy_high"), below != NULL ? "below" : "above",
                     below != NULL ? yyjson_get_num(below)
                                   : number_at(one, "alert_above"));
    }
}

/* --- as lines --- */

static void print_line(yyjson_val *data, const tick *before, const tick *now) {
    size_t i = 0;
    size_t max = 0;
    yyjson_val *key = NULL;
    yyjson_val *one = NULL;
    (void)printf("up_s=%.0f health=%s rss_mb=%.1f", number_at(data, "uptime_ms") / 1000,
                 cli_text(yyjson_obj_get(data, "health"), "state"),
                 number_at(data, "rss_bytes") / 1048576);
    yyjson_obj_foreach(yyjson_obj_get(data, "operations"), i, max, key, one) {
        const char *name = yyjson_get_str(key);
        double rate = rate_of(before, now, name, number_at(one, "finished"));
        if (rate > 0) {
            yyjson_val *recent = yyjson_obj_get(one, "recent");
            (void)printf(" %s=%.1f/s,p50=%.3fms,p99=%.3fms", name, rate,
                         number_at(recent, "p50_us") / 1000,
                         number_at(recent, "p99_us") / 1000);
        }
    }
    (void)printf("\n");
}

/* {"interval_s":..., "per_second":{"add":...}, "status":{...}} */
static bool print_json(yyjson_val *data, const tick *before, const tick *now) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *rates = yyjson_mut_obj(doc);
    bool good = before->count == 0 || yyjson_mut_obj_add_real(doc, root, "interval_s",
                                                              now->at_s - before->at_s);
    for (size_t i = 0; i < now->count; i++) {
        const char *name = now->operations[i].name;
        double rate = rate_of(before, now, name, now->operations[i].finished);
        if (rate >= 0) {
            good = yyjson_mut_obj_add_real(doc, rates, name, rate) && good;
        }
    }
    yyjson_mut_doc_set_root(doc, root);
    good = yyjson_mut_obj_add_val(doc, root, "per_second", rates) && good;
    good =
        yyjson_mut_obj_add_val(doc, root, "status", yyjson_val_mut_copy(doc, data)) &&
        good;
    char *text = good ? yyjson_mut_write(doc, 0, NULL) : NULL;
    yyjson_mut_doc_free(doc);
    if (text == NULL) {
        cli_error("out of memory");
        return false;
    }
    (void)printf("%s\n", text);
    free(text);
    return true;
}

/* --- the loop --- */

static bool show(const cli_common *common, yyjson_val *data, const tick *before,
                 const tick *now, double every_s) {
    bool good = true;
    if (common->json) {
        good = print_json(data, before, now);
    } else if (isatty(STDOUT_FILENO)) {
        (void)printf("\033[H\033[J");
        print_head(data, every_s);
        print_operations(data, before, now);
        cli_print_health(data);
    } else {
        print_line(data, before, now);
    }
    /* Whoever reads has gone: as good a way to end as Ctrl-C. */
    return fflush(stdout) == 0 && good;
}

/* Waits for that time; false when the user wants to end.  The signals are blocked, so
 * that one that comes while the server is asked is not lost but found here. */
static bool wait_until(const sigset_t *signals, double at_s) {
    double left_s = at_s - now_s();
    left_s = left_s > 0 ? left_s : 0;
    struct timespec left = {.tv_sec = (time_t)left_s};
    left.tv_nsec = (long)((left_s - (double)left.tv_sec) * 1e9);
    int which = -1;
    do {
        which = sigtimedwait(signals, NULL, &left);
    } while (which < 0 && errno == EINTR);
    return which < 0;
}

bool cli_watch_seconds(const char *text, double *out) {
    char *end = NULL;
    double seconds = text[0] == '\0' ? 2 : strtod(text, &end);
    bool whole = end == NULL || (*end == '\0' && end != text);
    if (!whole || !(seconds >= 0.1 && seconds <= 3600)) {
        cli_error("--watch=%s: give the seconds between two looks, 0.1 to 3600", text);
        return false;
    }
    *out = seconds;
    return true;
}

int cli_watch(const cli_common *common, mf_engine *engine, double every_s) {
    tick *before = calloc(1, sizeof *before);
    tick *now = calloc(1, sizeof *now);
    int code = before != NULL && now != NULL ? CLI_OK : CLI_FAILED;
    double next_s = now_s();
    sigset_t signals;
    sigset_t old;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, &old);
    while (code == CLI_OK) {
        yyjson_doc *reply = cli_call(engine, "GET", "/api/v1/status", NULL);
        if (reply == NULL) {
            code = CLI_FAILED;
            break;
        }
        take_tick(cli_data(reply), now);
        bool go_on = show(common, cli_data(reply), before, now, every_s);
        yyjson_doc_free(reply);
        tick *spare = before;
        before = now;
        now = spare;
        /* A look that took longer than the interval is followed by a whole wait. */
        next_s = next_s + every_s > now_s() ? next_s + every_s : now_s() + every_s;
        if (!go_on || !wait_until(&signals, next_s)) {
            break;
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    free(before);
    free(now);
    return code;
}
