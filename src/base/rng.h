/* rng.h - random bytes: from the kernel for ids and keys, seeded for tests. */
#ifndef MF_BASE_RNG_H
#define MF_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

void mf_random_bytes(void *out,
                     size_t len); /* unpredictable; aborts if the kernel refuses */

/* Repeatable generator (xoshiro256**) for tests, jitter and sampling; not for
 * secrets. */
typedef struct mf_rng {
    uint64_t state[4];
} mf_rng;

void mf_rng_init(mf_rng *rng, uint64_t seed);
uint64_t mf_rng_next(mf_rng *rng);
uint64_t mf_rng_below(mf_rng *rng,
                      uint64_t bound); /* uniform in [0, bound), bound > 0 */
double mf_rng_unit(mf_rng *rng);       /* uniform in [0, 1) */

#endif
