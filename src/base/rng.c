/* rng.c - random bytes from the kernel, and a repeatable generator.
 *
 * The generator is xoshiro256** by Blackman and Vigna ("Scrambled linear pseudorandom
 * number generators", 2018); its state is filled by SplitMix64, as they advise, so that
 * similar seeds give unrelated streams and the state is never all zero. */
#include "base/rng.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/types.h>

#include "base/assert.h"

void mf_random_bytes(void *out, size_t len) {
    unsigned char *p = out;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0) {
            MF_ASSERT(errno == EINTR);
            continue;
        }
        p += n;
        len -= (size_t)n;
    }
}

static uint64_t rotate_left(uint64_t x, int bits) {
    return (x << bits) | (x >> (64 - bits));
}

void mf_rng_init(mf_rng *rng, uint64_t seed) {
    for (size_t i = 0; i < 4; i++) {
        seed += 0x9E3779B97F4A7C15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        rng->state[i] = z ^ (z >> 31);
    }
}

uint64_t mf_rng_next(mf_rng *rng) {
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t mf_rng_below(mf_rng *rng, uint64_t bound) {
    MF_ASSERT(bound > 0);
    /* The lowest 2^64 mod bound values would make small results likelier. */
    uint64_t skip = (0 - bound) % bound;
    uint64_t x = mf_rng_next(rng);
    while (x < skip) {
        x = mf_rng_next(rng);
    }
    return x % bound;
}

double mf_rng_unit(mf_rng *rng) {
    return (double)(mf_rng_next(rng) >> 11) * 0x1.0p-53;
}
