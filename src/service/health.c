/* health.c - is the server doing well?
 *
 * Transfers per minute are judged only once the recent past is half a minute long:
 * twenty rounds in the first second of a server are no rate. */
#include "service/health.h"

enum { RATE_SECONDS_MIN = 30 };

static const struct {
    const char *name, *unit, *meaning;
    bool alert_below;
    uint64_t samples_min;
} rows[MF_HEALTH_COUNT] = {
#define ABOVE false
#define BELOW true
#define MF_HEALTH(name, wire, unit, side, low, high, alert, samples, meaning)          \
    {wire, unit, meaning, side, samples},
#include "service/health.def"
#undef MF_HEALTH
#undef ABOVE
#undef BELOW
};

static void set_ranges(const mf_config *c, mf_health_reading out[MF_HEALTH_COUNT]) {
#define MF_HEALTH(name, wire, unit, side, low_, high_, alert_, samples, meaning)       \
    out[MF_HEALTH_##name].low = (double)(low_);                                        \
    out[MF_HEALTH_##name].high = (double)(high_);                                      \
    out[MF_HEALTH_##name].alert = (double)(alert_);
#include "service/health.def"
#undef MF_HEALTH
}

const char *mf_health_state_name(mf_health_state state) {
    static const char *const names[] = {"unknown", "healthy", "outside", "alert"};
    return names[state];
}

void mf_health_judge(mf_health_reading *r) {
    if (r->samples < r->samples_min) {
        r->state = MF_HEALTH_STATE_UNKNOWN;
        r->value = 0;
    } else if (r->alert_below ? r->value < r->alert : r->value > r->alert) {
        r->state = MF_HEALTH_STATE_ALERT;
    } else if (r->value < r->low || r->value > r->high) {
        r->state = MF_HEALTH_STATE_OUTSIDE;
    } else {
        r->state = MF_HEALTH_STATE_HEALTHY;
    }
}

mf_health_state mf_health_worst(const mf_health_reading readings[MF_HEALTH_COUNT]) {
    mf_health_state worst = MF_HEALTH_STATE_UNKNOWN;
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        worst = readings[i].state > worst ? readings[i].state : worst;
    }
    return worst;
}

void mf_health_read(mf_metrics *metrics, const mf_config *config, uint64_t buffer_bytes,
                    mf_health_reading out[MF_HEALTH_COUNT]) {
    mf_operation_recent adds, transfers, queries, cached;
    mf_metrics_get_recent(metrics, MF_OPERATION_ADD, &adds);
    mf_metrics_get_recent(metrics, MF_OPERATION_TRANSFER, &transfers);
    mf_metrics_get_recent(metrics, MF_OPERATION_QUERY, &queries);
    mf_metrics_get_recent(metrics, MF_OPERATION_QUERY_CACHED, &cached);
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        out[i] = (mf_health_reading){.name = rows[i].name,
                                     .unit = rows[i].unit,
                                     .meaning = rows[i].meaning,
                                     .alert_below = rows[i].alert_below,
                                     .samples_min = rows[i].samples_min};
    }
    set_ranges(config, out);
    if (transfers.seconds >= RATE_SECONDS_MIN) {
        mf_health_reading *r = &out[MF_HEALTH_TRANSFERS];
        r->value = (double)transfers.latency.count * 60 / transfers.seconds;
        r->samples = adds.latency.count;
    }
    out[MF_HEALTH_BUFFER_MEMORY].value = (double)buffer_bytes / (1 << 20);
    out[MF_HEALTH_QUERY_LATENCY].value = (double)queries.latency.p95 / 1e6;
    out[MF_HEALTH_QUERY_LATENCY].samples = queries.latency.count;
    if (queries.latency.count > 0) {
        out[MF_HEALTH_CACHE_HIT_RATE].value =
            100.0 * (double)cached.latency.count / (double)queries.latency.count;
    }
    out[MF_HEALTH_CACHE_HIT_RATE].samples = queries.latency.count;
    for (size_t i = 0; i < MF_HEALTH_COUNT; i++) {
        mf_health_judge(&out[i]);
    }
}
