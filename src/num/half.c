/* half.c - the conversions in integer arithmetic.
 *
 * binary16 has 1 sign, 5 exponent and 10 fraction bits, binary32 has 1, 8 and 23; the
 * exponents are biased by 15 and 127. */
#include "num/half.h"

#include <string.h>

enum {
    BIAS_GAP = 127 - 15,
    FRACTION_GAP = 23 - 10,
    HALF_INFINITE = 0x7C00,
    HALF_NAN = 0x7E00,
};

/* value / 2^shift, rounded to nearest, ties to even; shift is 1..31. */
static uint32_t shift_rounded(uint32_t value, uint32_t shift) {
    uint32_t result = value >> shift;
    uint32_t rest = value & ((1U << shift) - 1);
    uint32_t middle = 1U << (shift - 1);
    return result + (rest > middle || (rest == middle && (result & 1)));
}

static uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t exponent = bits >> 23 & 0xFF;
    uint32_t fraction = bits & 0x7FFFFF;
    uint32_t result;
    if (exponent == 0xFF) {
        result = fraction != 0 ? HALF_NAN : HALF_INFINITE;
    } else if (exponent > BIAS_GAP) {
        /* A round-up may carry into the exponent, which is right, up to infinity. */
        uint32_t joined = (exponent - BIAS_GAP) << 23 | fraction;
        result = shift_rounded(joined, FRACTION_GAP);
        result = result > HALF_INFINITE ? HALF_INFINITE : result;
    } else {
        uint32_t shift = FRACTION_GAP + 1 + BIAS_GAP - exponent; /* subnormal */
        result = shift > 25 ? 0 : shift_rounded(fraction | 0x800000, shift);
    }
    return (uint16_t)(sign | result);
}

static float float_of(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1F;
    uint32_t fraction = half & 0x3FF;
    uint32_t bits;
    if (exponent == 0x1F) {
        bits = sign | 0x7F800000 | fraction << FRACTION_GAP;
    } else if (exponent > 0) {
        bits = sign | (exponent + BIAS_GAP) << 23 | fraction << FRACTION_GAP;
    } else {
        float tiny = (float)fraction * 0x1p-24F; /* exact: a power of two */
        memcpy(&bits, &tiny, sizeof(bits));
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void mf_half_from_float(const float *in, uint16_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = half_of(in[i]);
    }
}

void mf_half_to_float(const uint16_t *in, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = float_of(in[i]);
    }
}
