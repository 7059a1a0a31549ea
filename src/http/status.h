/* status.h - the table of figures (status.def) as GET /status and GET /metrics read
 * it. */
#ifndef MF_HTTP_STATUS_H
#define MF_HTTP_STATUS_H

#include "service/service.h"

typedef enum mf_stat_kind { MF_STAT_COUNTER, MF_STAT_GAUGE, MF_STAT_FLAG } mf_stat_kind;

typedef struct mf_stat_row {
    const char *group, *field; /* where in /status */
    mf_stat_kind kind;
    const char *metric; /* family of /metrics, with its labels */
    double unit;        /* the metric is the value divided by this */
    const char *help;
} mf_stat_row;

enum {
    MF_STAT_ROWS = 0
#define MF_STAT(group, field, kind, metric, unit, value, help) +1
#include "http/status.def"
#undef MF_STAT
};

extern const mf_stat_row mf_stat_rows[];

/* The values of all rows, in the order of the table. */
void mf_stat_read(const mf_service_status *status, uint64_t out[MF_STAT_ROWS]);
/* Whether the row means anything now: without a model its rows are left out. */
bool mf_stat_is_here(const mf_stat_row *row, const mf_service_status *status);

/* The circuit breakers of the process, also those that their owners show; how many. */
enum { MF_STATUS_BREAKERS_MAX = MF_METRICS_BREAKERS_MAX + 1 };
size_t mf_status_breakers(mf_metrics *metrics, const mf_service_status *status,
                          mf_breaker_stats out[MF_STATUS_BREAKERS_MAX]);

#endif
