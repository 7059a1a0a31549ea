/* rounding_loops.h - private to num/: the loops of rounding.c that take its time,
 * written once and compiled for vectors of several sizes.
 *
 * A variant defines VECTOR_BYTES and NAME(function) and includes this file.  Every
 * number of a result goes through the same products and sums in the same order in each
 * variant, and none is fused, so all give the same bits. */
#include <stddef.h>
#include <string.h>

#include "num/rounding_variants.h"

enum { LANES = VECTOR_BYTES / sizeof(float), ROWS = MF_ROUNDING_ROWS };

typedef float vf __attribute__((vector_size(VECTOR_BYTES)));

_Static_assert(MF_ROUNDING_STEP % LANES == 0, "rows end with a whole vector");
_Static_assert(MF_ROUNDING_OUTPUTS % (2 * LANES) == 0, "outputs go two by two");

static inline vf load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}

void NAME(mf_rounding_take_out)(float *to, const float *last, size_t stride,
                                const float shares[ROWS], size_t count) {
    for (size_t j = 0; j < count; j += LANES) {
        vf value = load(to + j);
        for (size_t i = 0; i < ROWS; i++) {
            value -= shares[i] * load(last - i * stride + j);
        }
        store(to + j, value);
    }
}

/* Two vectors of outputs; their sums stay in registers. */
static inline void owed_by_two(const float *shares, size_t stride, const float *errors,
                               size_t count, float *owed) {
    vf sums[ROWS][2];
    memset(sums, 0, sizeof sums);
    for (size_t j = 0; j < count; j++) {
        vf a = load(errors + j * MF_ROUNDING_OUTPUTS);
        vf b = load(errors + j * MF_ROUNDING_OUTPUTS + LANES);
        for (size_t i = 0; i < ROWS; i++) {
            sums[i][0] += shares[i * stride + j] * a;
            sums[i][1] += shares[i * stride + j] * b;
        }
    }
    for (size_t i = 0; i < ROWS; i++) {
        store(owed + i * MF_ROUNDING_OUTPUTS, sums[i][0]);
        store(owed + i * MF_ROUNDING_OUTPUTS + LANES, sums[i][1]);
    }
}

void NAME(mf_rounding_owed)(const float *shares, size_t stride, const float *errors,
                            size_t count, float owed[ROWS * MF_ROUNDING_OUTPUTS]) {
    for (size_t n = 0; n < MF_ROUNDING_OUTPUTS; n += (size_t)2 * LANES) {
        owed_by_two(shares, stride, errors + n, count, owed + n);
    }
}
