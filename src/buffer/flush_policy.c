/* flush_policy.c - the table of strategies, as code. */
#include "buffer/flush_policy.h"

#include <string.h>

#include "base/clock.h"

/* A window that is only emptied by time is still bounded, by the most the settings of
 * the two limits can be. */
static const mf_round_limits no_limits = {.tokens_max = 1000000, .rounds_max = 10000};

static mf_flush_strategy strategy_of(const char *name) {
    static const char *const names[] = {"hybrid", "size_based", "time_based",
                                        "immediate"};
    int strategy = MF_FLUSH_STRATEGY_HYBRID;
    while (strategy < MF_FLUSH_STRATEGY_IMMEDIATE &&
           strcmp(name, names[strategy]) != 0) {
        strategy++;
    }
    return (mf_flush_strategy)strategy;
}

mf_flush_policy mf_flush_policy_of(const mf_config *config) {
    mf_flush_policy policy = {
        .strategy = config->buffer_enabled ? strategy_of(config->buffer_flush_strategy)
                                           : MF_FLUSH_STRATEGY_IMMEDIATE,
        .session_change = config->buffer_round_session_change,
        .auto_flush = config->buffer_hybrid_auto_flush,
        .limits = {.tokens_max = (size_t)config->buffer_round_max_tokens,
                   .rounds_max = (size_t)config->buffer_round_max_size},
        .rounds_max = (size_t)config->buffer_hybrid_max_size,
        .bytes_max = (size_t)config->buffer_hybrid_max_bytes,
        .interval_ns = config->buffer_flush_interval_ms * MF_NS_PER_MS,
        .idle_ns = config->buffer_flush_idle_timeout_ms * MF_NS_PER_MS,
    };
    policy.windows = policy.strategy != MF_FLUSH_STRATEGY_IMMEDIATE;
    if (policy.strategy == MF_FLUSH_STRATEGY_TIME) {
        policy.limits = no_limits;
    }
    return policy;
}

/* What is due earlier; `delay_ns` from `since_ns` on. */
static void consider(mf_flush_due *due, int64_t since_ns, int64_t delay_ns,
                     mf_flush_trigger trigger) {
    int64_t at_ns = since_ns > INT64_MAX - delay_ns ? INT64_MAX : since_ns + delay_ns;
    if (at_ns < due->due_ns) {
        *due = (mf_flush_due){at_ns, trigger};
    }
}

mf_flush_due mf_flush_vectors_due(const mf_flush_policy *policy,
                                  const mf_hybrid_state *held, int64_t written_ns) {
    mf_flush_strategy strategy = policy->strategy;
    mf_flush_due due = {INT64_MAX, MF_FLUSH_NONE};
    if (held->chunks == 0) {
        return due;
    }
    if (strategy == MF_FLUSH_STRATEGY_IMMEDIATE) {
        return (mf_flush_due){INT64_MIN, MF_FLUSH_IMMEDIATE};
    }
    bool by_size = policy->auto_flush && strategy != MF_FLUSH_STRATEGY_TIME;
    bool by_time = policy->auto_flush && strategy != MF_FLUSH_STRATEGY_SIZE;
    if (held->bytes > policy->bytes_max ||
        (by_size && held->rounds > policy->rounds_max)) {
        return (mf_flush_due){INT64_MIN, MF_FLUSH_SIZE};
    }
    if (by_time) {
        consider(&due, held->since_ns, policy->interval_ns, MF_FLUSH_TIME);
    }
    consider(&due, written_ns > held->since_ns ? written_ns : held->since_ns,
             policy->idle_ns, MF_FLUSH_IDLE);
    return due;
}

mf_flush_due mf_flush_windows_due(const mf_flush_policy *policy,
                                  const mf_round_state *held, int64_t written_ns) {
    mf_flush_due due = {INT64_MAX, MF_FLUSH_NONE};
    if (held->rounds == 0) {
        return due;
    }
    if (policy->strategy == MF_FLUSH_STRATEGY_TIME) {
        consider(&due, held->since_ns, policy->interval_ns, MF_FLUSH_TIME);
    }
    consider(&due, written_ns > held->since_ns ? written_ns : held->since_ns,
             policy->idle_ns, MF_FLUSH_IDLE);
    return due;
}

const char *mf_flush_trigger_name(mf_flush_trigger trigger) {
    static const char *const names[MF_FLUSH_TRIGGERS] = {
        "none", "size", "time", "idle", "immediate", "manual", "leaving", "shutdown"};
    return names[trigger];
}
