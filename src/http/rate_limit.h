/* rate_limit.h - how many requests one address may send.
 *
 * A token bucket per address in a table of fixed size: when a set of the table is full,
 * the address not seen for longest is forgotten, which only ever gives it a fresh
 * bucket. Safe from any thread. */
#ifndef MF_HTTP_RATE_LIMIT_H
#define MF_HTTP_RATE_LIMIT_H

#include "base/mutex.h"
#include "base/str.h"

enum { MF_RATE_SETS = 512, MF_RATE_WAYS = 4 };

typedef struct mf_rate_bucket {
    uint64_t address; /* hash; 0: free */
    int64_t seen_ns;
    double tokens;
} mf_rate_bucket;

typedef struct mf_rate_limit {
    mf_mutex rate_mu;
    mf_rate_bucket buckets[MF_RATE_SETS][MF_RATE_WAYS]; /* guarded by rate_mu */
} mf_rate_limit;

void mf_rate_limit_init(mf_rate_limit *limit);
void mf_rate_limit_done(mf_rate_limit *limit);
/* Takes one of `per_minute` tokens of `address`; a minute's worth may come at once.  0
 * when the request may pass, otherwise the seconds, rounded up, until it may. */
int mf_rate_limit_take(mf_rate_limit *limit, mf_str address, int64_t per_minute,
                       int64_t now_ns);

#endif
