/* health.h - is the server doing well?  A few indicators, each with a healthy range and
 * a threshold for an alert (health.def); the ranges are settings.
 *
 * Indicators look at the recent past, the last one to two minutes on the monotonic
 * clock, so a bad hour is over when it is over.  An idle server is not an ill one: an
 * indicator that needs traffic to mean anything is unknown without it, never an alert.
 * Where low values can be a sign of health as well (few transfers because little is
 * written), they are outside the range at most. */
#ifndef MF_SERVICE_HEALTH_H
#define MF_SERVICE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/metrics.h"
#include "text/config.h"

typedef enum mf_health_indicator {
#define MF_HEALTH(name, wire, unit, side, low, high, alert, samples, meaning)          \
    MF_HEALTH_##name,
#include "service/health.def"
#undef MF_HEALTH
    MF_HEALTH_COUNT
} mf_health_indicator;

/* In rising order of worry. */
typedef enum mf_health_state {
    MF_HEALTH_STATE_UNKNOWN, /* too little happened to tell */
    MF_HEALTH_STATE_HEALTHY,
    MF_HEALTH_STATE_OUTSIDE, /* of the healthy range, short of an alert */
    MF_HEALTH_STATE_ALERT
} mf_health_state;

typedef struct mf_health_reading {
    const char *name, *unit, *meaning;
    double value; /* 0 when unknown */
    double low, high, alert;
    bool alert_below; /* values below `alert` are the bad ones */
    uint64_t samples, samples_min;
    mf_health_state state;
} mf_health_reading;

/* Sets ->state from the other fields. */
void mf_health_judge(mf_health_reading *reading);
void mf_health_read(mf_metrics *metrics, const mf_config *config, uint64_t buffer_bytes,
                    mf_health_reading out[MF_HEALTH_COUNT]);
/* The worst of them; unknown when all are. */
mf_health_state mf_health_worst(const mf_health_reading readings[MF_HEALTH_COUNT]);
const char *mf_health_state_name(mf_health_state state); /* "unknown", "healthy", ... */

#endif
