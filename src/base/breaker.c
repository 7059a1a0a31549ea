/* breaker.c - leaves a failing dependency alone for a while.
 *
 * The last outcomes are bits of one word, newest lowest, so the rate over the window is
 * a population count.  It is looked at only once the window is full: two failures of
 * three calls after a start are no rate. */
#include "base/breaker.h"

#include <string.h>

#include "base/assert.h"

void mf_breaker_init(mf_breaker *breaker, const mf_breaker_options *options) {
    MF_ASSERT(options->failures_max >= 1);
    MF_ASSERT(options->cooldown_ns > 0);
    MF_ASSERT(options->window <= MF_BREAKER_WINDOW_MAX);
    MF_ASSERT(options->window == 0 || options->rate_percent >= 1);
    MF_ASSERT(options->rate_percent <= 100);
    memset(breaker, 0, sizeof *breaker);
    breaker->options = *options;
    mf_mutex_init(&breaker->breaker_mu, MF_RANK_LEAF);
}

void mf_breaker_done(mf_breaker *breaker) {
    mf_mutex_done(&breaker->breaker_mu);
}

static int64_t after(int64_t now_ns, int64_t wait_ns) {
    return now_ns > INT64_MAX - wait_ns ? INT64_MAX : now_ns + wait_ns;
}

static void open_locked(mf_breaker *b, int64_t now_ns) MF_REQUIRES(b->breaker_mu) {
    b->state = MF_BREAKER_OPEN;
    b->era++;
    b->opened++;
    b->until_ns = after(now_ns, b->options.cooldown_ns);
}

static void close_locked(mf_breaker *b) MF_REQUIRES(b->breaker_mu) {
    b->state = MF_BREAKER_CLOSED;
    b->era++;
    b->failures_in_row = 0;
    b->outcomes = 0;
    b->outcome_count = 0;
}

static void note_locked(mf_breaker *b, bool failed) MF_REQUIRES(b->breaker_mu) {
    b->failures_in_row = failed ? b->failures_in_row + 1 : 0;
    b->outcomes = b->outcomes << 1 | (failed ? 1 : 0);
    if (b->outcome_count < b->options.window) {
        b->outcome_count++;
    }
}

static bool is_too_much_locked(const mf_breaker *b) MF_REQUIRES(b->breaker_mu) {
    unsigned window = b->options.window;
    if (b->failures_in_row >= b->options.failures_max) {
        return true;
    }
    if (window == 0 || b->outcome_count < window) {
        return false;
    }
    uint64_t mask = window == 64 ? UINT64_MAX : (UINT64_C(1) << window) - 1;
    unsigned failed = (unsigned)__builtin_popcountll(b->outcomes & mask);
    return failed * 100 >= b->options.rate_percent * window;
}

bool mf_breaker_allow(mf_breaker *b, int64_t now_ns, mf_breaker_ticket *ticket) {
    mf_mutex_lock(&b->breaker_mu);
    bool allowed = b->state == MF_BREAKER_CLOSED;
    if (!allowed && now_ns >= b->until_ns) {
        b->state = MF_BREAKER_HALF_OPEN;
        b->era++;
        b->probes++;
        b->until_ns = after(now_ns, b->options.cooldown_ns);
        allowed = true;
    }
    if (!allowed) {
        b->refused++;
    }
    *ticket = b->era;
    mf_mutex_unlock(&b->breaker_mu);
    return allowed;
}

void mf_breaker_success(mf_breaker *b, mf_breaker_ticket ticket) {
    mf_mutex_lock(&b->breaker_mu);
    b->successes++;
    if (ticket == b->era && b->state == MF_BREAKER_HALF_OPEN) {
        close_locked(b);
    } else if (ticket == b->era && b->state == MF_BREAKER_CLOSED) {
        note_locked(b, false);
    }
    mf_mutex_unlock(&b->breaker_mu);
}

void mf_breaker_failure(mf_breaker *b, mf_breaker_ticket ticket, int64_t now_ns) {
    mf_mutex_lock(&b->breaker_mu);
    b->failures++;
    if (ticket == b->era && b->state != MF_BREAKER_OPEN) {
        note_locked(b, true);
        if (b->state == MF_BREAKER_HALF_OPEN || is_too_much_locked(b)) {
            open_locked(b, now_ns);
        }
    }
    mf_mutex_unlock(&b->breaker_mu);
}

void mf_breaker_abandon(mf_breaker *b, mf_breaker_ticket ticket, int64_t now_ns) {
    mf_mutex_lock(&b->breaker_mu);
    if (ticket == b->era && b->state == MF_BREAKER_HALF_OPEN) {
        b->state = MF_BREAKER_OPEN; /* not a failure: the next caller probes at once */
        b->era++;
        b->until_ns = now_ns;
    }
    mf_mutex_unlock(&b->breaker_mu);
}

void mf_breaker_get_stats(mf_breaker *b, int64_t now_ns, mf_breaker_stats *out) {
    mf_mutex_lock(&b->breaker_mu);
    int64_t left_ns = b->until_ns > now_ns ? b->until_ns - now_ns : 0;
    *out = (mf_breaker_stats){
        .name = b->options.name,
        .state = b->state,
        .failures_in_row = b->failures_in_row,
        .successes = b->successes,
        .failures = b->failures,
        .refused = b->refused,
        .opened = b->opened,
        .probes = b->probes,
        .retry_after_ns = b->state == MF_BREAKER_OPEN ? left_ns : 0,
    };
    mf_mutex_unlock(&b->breaker_mu);
}

const char *mf_breaker_state_name(mf_breaker_state state) {
    static const char *const names[] = {"closed", "open", "half_open"};
    return names[state];
}
