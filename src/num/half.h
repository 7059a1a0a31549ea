/* half.h - 32-bit floats to 16-bit ones (IEEE 754 binary16) and back.
 *
 * The store keeps vectors in half precision: a unit vector's cosine changes by less
 * than one in a thousand and its size halves.  Pure, exact the same on every
 * machine. */
#ifndef MF_NUM_HALF_H
#define MF_NUM_HALF_H

#include <stddef.h>
#include <stdint.h>

/* Rounds to nearest, ties to even.  Too large becomes infinite, NaN stays NaN. */
void mf_half_from_float(const float *in, uint16_t *out, size_t count);
void mf_half_to_float(const uint16_t *in, float *out, size_t count); /* exact */

#endif
