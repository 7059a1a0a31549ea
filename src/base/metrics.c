/* metrics.c - what every operation costs, and how often it fails.
 *
 * Recent past.  Time is cut into epochs of a minute.  The first who records or reads in
 * a new epoch marks what the histogram holds (histogram.h): the mark of the epoch
 * before moves down, the new one takes its place, and what was recorded since the older
 * of the two is the recent past.  So the present minute and the whole one before it
 * count, a record costs nothing more than a look at the epoch, and memory is two marks.
 * When a minute or more went by without a record, nothing was recorded in it, and both
 * marks are the present.
 *
 * A thread that read the clock just before an epoch ends and records just after counts
 * in the new one: recent figures are right to a few records. */
#include "base/metrics.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"

typedef struct mark {
    mf_histogram_mark held;
    uint64_t failed;
} mark;

typedef struct operation {
    atomic_ullong started, failed, refused;
    mf_histogram latency;
    atomic_llong ends_ns; /* of the epoch of `current`; changed under recent_mu */
    mf_mutex recent_mu;   /* guards the rest */
    long long epoch;      /* of `current` */
    mark current;         /* at the first record or look of this epoch */
    mark previous;        /* the same of the epoch before */
} operation;

struct mf_metrics {
    int64_t opened_ns;
    mf_error_cache *errors;
    atomic_llong startup_ns;
    mf_mutex breakers_mu; /* guards the two below */
    mf_breaker *breakers[MF_METRICS_BREAKERS_MAX];
    size_t breaker_count;
    operation operations[MF_OPERATION_COUNT];
};

static const struct {
    const char *name, *meaning;
} names[MF_OPERATION_COUNT] = {
#define MF_OPERATION(name, wire, what) {wire, what},
#include "base/operations.def"
#undef MF_OPERATION
};

const char *mf_operation_name(mf_operation at) {
    MF_ASSERT((unsigned)at < MF_OPERATION_COUNT);
    return names[at].name;
}

const char *mf_operation_meaning(mf_operation at) {
    MF_ASSERT((unsigned)at < MF_OPERATION_COUNT);
    return names[at].meaning;
}

static long long epoch_of(const mf_metrics *m, int64_t now_ns) {
    return (now_ns - m->opened_ns) / ((int64_t)MF_METRICS_EPOCH_S * MF_NS_PER_S);
}

static int64_t start_of(const mf_metrics *m, long long epoch) {
    return m->opened_ns + epoch * MF_METRICS_EPOCH_S * (int64_t)MF_NS_PER_S;
}

mf_rc mf_metrics_open(mf_metrics **out, mf_err *err) {
    mf_metrics *m = mf_alloc_zero(1, sizeof *m);
    if (m == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the metrics");
    }
    mf_rc rc = mf_error_cache_open(MF_ERROR_CACHE_COUNT_MAX,
                                   (int64_t)MF_ERROR_CACHE_TTL_S * MF_NS_PER_S,
                                   &m->errors, err);
    if (rc != MF_OK) {
        mf_free(m);
        return rc;
    }
    m->opened_ns = mf_now_ns();
    mf_mutex_init(&m->breakers_mu, MF_RANK_MAILBOX); /* a breaker's own is a leaf */
    for (size_t i = 0; i < MF_OPERATION_COUNT; i++) {
        atomic_init(&m->operations[i].ends_ns, start_of(m, 1));
        mf_mutex_init(&m->operations[i].recent_mu, MF_RANK_LEAF);
    }
    *out = m;
    return MF_OK;
}

void mf_metrics_close(mf_metrics *m) {
    if (m == NULL) {
        return;
    }
    MF_ASSERT(m->breaker_count == 0);
    for (size_t i = 0; i < MF_OPERATION_COUNT; i++) {
        mf_mutex_done(&m->operations[i].recent_mu);
    }
    mf_mutex_done(&m->breakers_mu);
    mf_error_cache_close(m->errors);
    mf_free(m);
}

/* --- recording --- */

static void add_one(atomic_ullong *figure) {
    /* relaxed: a figure is only itself, nothing is read on the strength of it */
    atomic_fetch_add_explicit(figure, 1, memory_order_relaxed);
}

static uint64_t load(const atomic_ullong *figure) {
    return atomic_load_explicit(figure, memory_order_relaxed);
}

static void begin_epoch(const mf_metrics *m, operation *op, long long epoch) {
    mf_mutex_lock(&op->recent_mu);
    long long seen = op->epoch;
    if (epoch > seen) {
        if (epoch == seen + 1) {
            op->previous = op->current;
        }
        mf_histogram_take_mark(&op->latency, &op->current.held);
        op->current.failed = load(&op->failed);
        if (epoch > seen + 1) {
            op->previous = op->current;
        }
        op->epoch = epoch;
        atomic_store(&op->ends_ns, start_of(m, epoch + 1));
    }
    mf_mutex_unlock(&op->recent_mu);
}

static void keep_epoch(mf_metrics *m, operation *op, int64_t now_ns) {
    /* relaxed: begin_epoch looks again under its lock */
    if (now_ns >= atomic_load_explicit(&op->ends_ns, memory_order_relaxed)) {
        begin_epoch(m, op, epoch_of(m, now_ns));
    }
}

static void end_at(mf_metrics *m, operation *op, int64_t now_ns, int64_t duration_ns,
                   mf_rc rc) {
    keep_epoch(m, op, now_ns);
    if (rc != MF_OK) {
        add_one(mf_rc_http_status(rc) >= 500 ? &op->failed : &op->refused);
    }
    mf_histogram_record(&op->latency, duration_ns > 0 ? (uint64_t)duration_ns : 0);
}

mf_span mf_metrics_begin(mf_metrics *m, mf_operation at) {
    mf_span span = {.metrics = m, .operation = at};
    if (m != NULL) {
        span.started_ns = mf_now_ns();
        add_one(&m->operations[at].started);
    }
    return span;
}

void mf_metrics_end(mf_span span, mf_rc rc) {
    if (span.metrics != NULL) {
        int64_t now_ns = mf_now_ns();
        end_at(span.metrics, &span.metrics->operations[span.operation], now_ns,
               now_ns - span.started_ns, rc);
    }
}

void mf_metrics_record(mf_metrics *m, mf_operation at, int64_t duration_ns, mf_rc rc) {
    if (m != NULL) {
        add_one(&m->operations[at].started);
        end_at(m, &m->operations[at], mf_now_ns(), duration_ns, rc);
    }
}

/* --- reading --- */

void mf_metrics_get(mf_metrics *m, mf_operation at, mf_operation_stats *out) {
    const operation *op = &m->operations[at];
    *out = (mf_operation_stats){.name = mf_operation_name(at)};
    mf_histogram_get_summary(&op->latency, &out->latency);
    out->finished = out->latency.count;
    out->failed = load(&op->failed);
    out->refused = load(&op->refused);
    out->started = load(&op->started); /* last, so it is not behind the finished */
    out->in_flight = out->started > out->finished ? out->started - out->finished : 0;
}

const mf_histogram *mf_metrics_histogram(const mf_metrics *m, mf_operation at) {
    return &m->operations[at].latency;
}

void mf_metrics_get_recent(mf_metrics *m, mf_operation at, mf_operation_recent *out) {
    operation *op = &m->operations[at];
    int64_t now_ns = mf_now_ns();
    keep_epoch(m, op, now_ns);
    int64_t from_ns = start_of(m, epoch_of(m, now_ns) - 1);
    from_ns = from_ns > m->opened_ns ? from_ns : m->opened_ns;
    mf_mutex_lock(&op->recent_mu);
    mf_histogram_get_summary_since(&op->latency, &op->previous.held, &out->latency);
    uint64_t failed = load(&op->failed);
    out->failed = failed - op->previous.failed;
    mf_mutex_unlock(&op->recent_mu);
    out->seconds = (double)(now_ns - from_ns) / MF_NS_PER_S;
}

/* --- what is shown together --- */

mf_error_cache *mf_metrics_errors(mf_metrics *m) {
    return m != NULL ? m->errors : NULL;
}

void mf_metrics_add_breaker(mf_metrics *m, mf_breaker *breaker) {
    if (m == NULL) {
        return;
    }
    mf_mutex_lock(&m->breakers_mu);
    if (m->breaker_count < MF_METRICS_BREAKERS_MAX) {
        m->breakers[m->breaker_count++] = breaker;
    }
    mf_mutex_unlock(&m->breakers_mu);
}

void mf_metrics_remove_breaker(mf_metrics *m, mf_breaker *breaker) {
    if (m == NULL) {
        return;
    }
    mf_mutex_lock(&m->breakers_mu);
    for (size_t i = 0; i < m->breaker_count; i++) {
        if (m->breakers[i] == breaker) {
            m->breakers[i] = m->breakers[--m->breaker_count];
            break;
        }
    }
    mf_mutex_unlock(&m->breakers_mu);
}

size_t mf_metrics_breakers(mf_metrics *m, mf_breaker_stats *out, size_t max) {
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&m->breakers_mu);
    size_t count = m->breaker_count < max ? m->breaker_count : max;
    for (size_t i = 0; i < count; i++) {
        mf_breaker_get_stats(m->breakers[i], now_ns, &out[i]);
    }
    mf_mutex_unlock(&m->breakers_mu);
    return count;
}

void mf_metrics_set_startup(mf_metrics *m, int64_t duration_ns) {
    atomic_store(&m->startup_ns, duration_ns);
}

int64_t mf_metrics_startup_ns(const mf_metrics *m) {
    return atomic_load(&m->startup_ns);
}
