/* recent.c - what happened lately: requests, errors, performance figures, agents. */
#include "service/recent.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"

struct mf_recent {
    mf_bounded_list *requests;
    mf_bounded_list *errors;
    mf_bounded_list *performance;
    mf_bounded_map *agents; /* by their id */
};

static mf_rc open_collections(mf_recent *recent, mf_err *err) {
    const mf_bounded_map_options agents = {.name = "agents",
                                           .max_size = MF_RECENT_AGENTS,
                                           .key_bytes_max = MF_UUID_BYTES,
                                           .value_bytes = sizeof(mf_recent_agent)};
    MF_TRY(mf_bounded_list_open("requests", MF_RECENT_REQUESTS,
                                sizeof(mf_recent_request), &recent->requests, err));
    MF_TRY(mf_bounded_list_open("errors", MF_RECENT_ERRORS, sizeof(mf_recent_error),
                                &recent->errors, err));
    MF_TRY(mf_bounded_list_open("performance", MF_RECENT_PERFORMANCE,
                                sizeof(mf_recent_performance), &recent->performance,
                                err));
    return mf_bounded_map_open(&agents, &recent->agents, err);
}

mf_rc mf_recent_open(mf_recent **out, mf_err *err) {
    mf_recent *recent = mf_alloc_zero(1, sizeof *recent);
    if (recent == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the metrics collector");
    }
    mf_rc rc = open_collections(recent, err);
    if (rc != MF_OK) {
        mf_recent_close(recent);
        return rc;
    }
    *out = recent;
    return MF_OK;
}

void mf_recent_close(mf_recent *recent) {
    if (recent != NULL) {
        mf_bounded_list_close(recent->requests);
        mf_bounded_list_close(recent->errors);
        mf_bounded_list_close(recent->performance);
        mf_bounded_map_close(recent->agents);
        mf_free(recent);
    }
}

void mf_recent_add_request(mf_recent *recent, const mf_recent_request *request) {
    if (recent != NULL) {
        mf_recent_request item = *request;
        item.timestamp_us = mf_wall_us();
        mf_bounded_list_append(recent->requests, &item);
    }
}

void mf_recent_add_error(mf_recent *recent, const char *error_type,
                         const char *endpoint, const char *message) {
    if (recent != NULL) {
        mf_recent_error item = {.error_type = error_type,
                                .endpoint = endpoint,
                                .timestamp_us = mf_wall_us()};
        (void)snprintf(item.message, sizeof item.message, "%s", message);
        mf_bounded_list_append(recent->errors, &item);
    }
}

void mf_recent_add_performance(mf_recent *recent, const char *metric_name, double value,
                               const char *tags) {
    if (recent != NULL) {
        const mf_recent_performance item = {.metric_name = metric_name,
                                            .tags = tags,
                                            .value = value,
                                            .timestamp_us = mf_wall_us()};
        mf_bounded_list_append(recent->performance, &item);
    }
}

static void see(void *value, const void *arg) {
    mf_recent_agent *agent = value;
    const mf_recent_agent *seen = arg;
    uint64_t requests = agent->requests + 1;
    *agent = *seen;
    agent->requests = requests;
}

void mf_recent_see_agent(mf_recent *recent, mf_uuid agent_id) {
    if (recent != NULL) {
        const mf_recent_agent seen = {.agent_id = agent_id,
                                      .timestamp_us = mf_wall_us()};
        bool kept =
            mf_bounded_map_update(recent->agents, mf_uuid_key(&agent_id), see, &seen);
        (void)kept; /* an id is never longer than the table's keys */
    }
}

size_t mf_recent_requests(mf_recent *recent, mf_recent_request *out, size_t count) {
    return mf_bounded_list_get_recent(recent->requests, out, count);
}

size_t mf_recent_errors(mf_recent *recent, mf_recent_error *out, size_t count) {
    return mf_bounded_list_get_recent(recent->errors, out, count);
}

size_t mf_recent_performance_figures(mf_recent *recent, mf_recent_performance *out,
                                     size_t count) {
    return mf_bounded_list_get_recent(recent->performance, out, count);
}

size_t mf_recent_agents(mf_recent *recent, mf_recent_agent *out, size_t count) {
    return mf_bounded_map_get_recent(recent->agents, NULL, out, count);
}

void mf_recent_clear(mf_recent *recent) {
    mf_bounded_list_clear(recent->requests);
    mf_bounded_list_clear(recent->errors);
    mf_bounded_list_clear(recent->performance);
    mf_bounded_map_clear(recent->agents);
}

void mf_recent_get_stats(mf_recent *recent, mf_recent_stats *out) {
    mf_bounded_list_get_stats(recent->requests, &out->requests);
    mf_bounded_list_get_stats(recent->errors, &out->errors);
    mf_bounded_list_get_stats(recent->performance, &out->performance);
    mf_bounded_map_get_stats(recent->agents, &out->agents);
}
