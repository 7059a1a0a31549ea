/* recent.h - what happened lately: requests, errors, performance figures, agents.
 *
 * The metrics collector of the service: the newest 1000 requests, 500 errors and 200
 * performance figures, and for the 100 agents seen last how often they were.  All of it
 * is in bounded collections whose memory is taken at open; nothing a user wrote gets
 * in.  Histograms and totals are elsewhere (base/metrics.h): this is for the question
 * "what were the last ones?".
 *
 * Thread-safe. */
#ifndef MF_SERVICE_RECENT_H
#define MF_SERVICE_RECENT_H

#include "base/bounded_map.h"
#include "base/uuid.h"

typedef struct mf_recent mf_recent;

enum {
    MF_RECENT_REQUESTS = 1000,
    MF_RECENT_ERRORS = 500,
    MF_RECENT_PERFORMANCE = 200,
    MF_RECENT_AGENTS = 100,
    MF_RECENT_MESSAGE_MAX = 160 /* bytes with the NUL; longer ones are cut */
};

/* Texts by pointer are static storage.  Times are microseconds since 1970 UTC. */
typedef struct mf_recent_request {
    const char *endpoint; /* the route's pattern, never the path */
    const char *method;
    double duration_ms;
    int status_code;
    int64_t timestamp_us;
} mf_recent_request;

typedef struct mf_recent_error {
    const char *error_type; /* the code's wire name */
    const char *endpoint;
    int64_t timestamp_us;
    char message[MF_RECENT_MESSAGE_MAX];
} mf_recent_error;

typedef struct mf_recent_performance {
    const char *metric_name;
    const char *tags;
    double value;
    int64_t timestamp_us;
} mf_recent_performance;

typedef struct mf_recent_agent {
    mf_uuid agent_id;
    uint64_t requests; /* since it came into the table */
    int64_t timestamp_us;
} mf_recent_agent;

MF_CHECKED mf_rc mf_recent_open(mf_recent **out, mf_err *err); /* MF_E_NOMEM */
void mf_recent_close(mf_recent *recent);                       /* NULL is fine */

/* The timestamps are set here.  `recent` NULL: nobody keeps them. */
void mf_recent_add_request(mf_recent *recent, const mf_recent_request *request);
void mf_recent_add_error(mf_recent *recent, const char *error_type,
                         const char *endpoint, const char *message);
void mf_recent_add_performance(mf_recent *recent, const char *metric_name, double value,
                               const char *tags);
void mf_recent_see_agent(mf_recent *recent, mf_uuid agent_id);

/* Copies up to `count` of the newest, newest first; how many. */
size_t mf_recent_requests(mf_recent *recent, mf_recent_request *out, size_t count);
size_t mf_recent_errors(mf_recent *recent, mf_recent_error *out, size_t count);
size_t mf_recent_performance_figures(mf_recent *recent, mf_recent_performance *out,
                                     size_t count);
size_t mf_recent_agents(mf_recent *recent, mf_recent_agent *out, size_t count);

void mf_recent_clear(mf_recent *recent); /* all four */

typedef struct mf_recent_stats {
    mf_bounded_stats requests, errors, performance, agents;
} mf_recent_stats;
void mf_recent_get_stats(mf_recent *recent, mf_recent_stats *out);

#endif
