/* encoder_relative.c - the bias for the distance of two tokens, as MPNet has it.
 *
 * The model has a number per head for each of some buckets of distances, half of them
 * for keys before the query, half for keys behind it: a bucket for each small distance,
 * and then wider ones up to a distance of 128, which are those of T5 (Raffel et al.
 * 2020).  For attention the numbers are spread over all distances of a window. */
#include <math.h>

#include "base/alloc.h"
#include "model/encoder_private.h"

enum { DISTANCE_MAX = 128 }; /* all distances from here on share a bucket */

/* The bucket of a key `ahead` tokens behind its query; negative: before it. */
static size_t bucket_of(long ahead, size_t buckets) {
    size_t half = buckets / 2;
    size_t exact = half / 2; /* distances with a bucket of their own */
    size_t side = ahead > 0 ? half : 0;
    size_t distance = (size_t)(ahead > 0 ? ahead : -ahead);
    if (distance < exact) {
        return side + distance;
    }
    /* The small addition is for borders that are whole numbers but for rounding. */
    double share = log((double)distance / (double)exact) /
                   log((double)DISTANCE_MAX / (double)exact);
    double wide = floor(share * (double)(half - exact) + 1e-6);
    size_t last = half - 1;
    size_t found = wide < (double)last ? exact + (size_t)wide : last;
    return side + (found < last ? found : last);
}

mf_rc mf_relative_make(const mf_encoder_config *config, const float *distances,
                       float **out, mf_err *err) {
    size_t width = 2 * config->window - 1;
    float *table = mf_alloc_array(config->heads * width, sizeof *table);
    if (table == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of distances");
    }
    for (size_t at = 0; at < width; at++) {
        long ahead = (long)at - (long)(config->window - 1);
        size_t bucket = bucket_of(ahead, config->buckets);
        for (size_t head = 0; head < config->heads; head++) {
            table[head * width + at] = distances[bucket * config->heads + head];
        }
    }
    *out = table;
    return MF_OK;
}
