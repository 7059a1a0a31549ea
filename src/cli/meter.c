/* meter.c - a line on the terminal that says how far work is, how fast it goes and how
 * long it will take; and the signals that cut such work short. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { REDRAW_MS = 100, RATE_MIN_MS = 500, BAR_WIDTH = 24 };

static volatile sig_atomic_t caught; /* the signal's number */

static long long now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail on Linux */
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void cli_meter_start(cli_meter *meter, const cli_common *common) {
    *meter = (cli_meter){.shown = !common->quiet && isatty(STDERR_FILENO),
                         .start_ms = now_ms()};
}

void cli_meter_draw(cli_meter *meter, const char *what, double done, const char *unit,
                    double part, double whole) {
    long long now = now_ms();
    if (!meter->shown || now - meter->drawn_ms < REDRAW_MS) {
        return;
    }
    meter->drawn_ms = now;
    double seconds = (double)(now - meter->start_ms) / 1000.0;
    (void)fprintf(stderr, "\r\033[K%s ", what);
    if (whole > 0.0) {
        double share = fmin(part / whole, 1.0);
        int filled = (int)(BAR_WIDTH * share);
        (void)fprintf(stderr, "[%.*s%.*s] %3.0f %% ", filled,
                      "########################", BAR_WIDTH - filled,
                      "........................", 100.0 * share);
    } else {
        (void)fprintf(stderr, "%.0f %s ", done, unit);
    }
    if (now - meter->start_ms >= RATE_MIN_MS) {
        double rate = done / seconds;
        (void)fprintf(stderr, rate < 10.0 ? "%.1f %s/s" : "%.0f %s/s", rate, unit);
        if (whole > 0.0 && part > 0.0) {
            (void)fprintf(stderr, ", %.0f s left", seconds * (whole - part) / part);
        }
    }
}

void cli_meter_end(cli_meter *meter) {
    if (meter->shown && meter->drawn_ms != 0) {
        (void)fputs("\r\033[K", stderr);
    }
}

static void note_signal(int number) {
    caught = number;
}

void cli_catch_signals(void) {
    struct sigaction action = {.sa_handler = note_signal}; /* waiting calls are cut */
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

bool cli_is_interrupted(void) {
    return caught != 0;
}

void cli_die_as_asked(void) {
    int number = caught;
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}
