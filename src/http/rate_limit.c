/* rate_limit.c - how many requests one address may send. */
#include "http/rate_limit.h"

#include <math.h>

#include "base/clock.h"

void mf_rate_limit_init(mf_rate_limit *limit) {
    memset(limit->buckets, 0, sizeof limit->buckets);
    mf_mutex_init(&limit->rate_mu, MF_RANK_LEAF);
}

void mf_rate_limit_done(mf_rate_limit *limit) {
    mf_mutex_done(&limit->rate_mu);
}

/* The bucket of the address, or the one to be reused for it. */
static mf_rate_bucket *find(mf_rate_bucket *set, uint64_t address) {
    mf_rate_bucket *oldest = &set[0];
    for (size_t i = 0; i < MF_RATE_WAYS; i++) {
        if (set[i].address == address) {
            return &set[i];
        }
        if (set[i].seen_ns < oldest->seen_ns) {
            oldest = &set[i];
        }
    }
    return oldest;
}

int mf_rate_limit_take(mf_rate_limit *limit, mf_str address, int64_t per_minute,
                       int64_t now_ns) {
    uint64_t hash = mf_str_hash(address) | 1;
    double tokens_max = (double)per_minute;
    double per_ns = tokens_max / 60.0 / MF_NS_PER_S;
    mf_mutex_lock(&limit->rate_mu);
    mf_rate_bucket *bucket = find(limit->buckets[(hash >> 1) % MF_RATE_SETS], hash);
    if (bucket->address != hash) {
        *bucket = (mf_rate_bucket){hash, now_ns, tokens_max};
    }
    bucket->tokens += (double)(now_ns - bucket->seen_ns) * per_ns;
    bucket->tokens = bucket->tokens < tokens_max ? bucket->tokens : tokens_max;
    bucket->seen_ns = now_ns;
    double missing = bucket->tokens >= 1.0 ? 0.0 : 1.0 - bucket->tokens;
    if (missing <= 0.0) {
        bucket->tokens -= 1.0;
    }
    mf_mutex_unlock(&limit->rate_mu);
    if (missing <= 0.0) {
        return 0;
    }
    int seconds = (int)ceil(missing / per_ns / MF_NS_PER_S);
    return seconds > 0 ? seconds : 1;
}
