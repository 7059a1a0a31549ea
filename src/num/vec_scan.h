/* vec_scan.h - one int8 query against many int8 rows, and the quantiser that makes
 * them.
 *
 * Every variant returns exactly the same integers: products of int8 values are summed
 * in 32 bits, where nothing rounds and nothing can overflow below MF_SCAN_DIM_MAX.  The
 * values must stay within [-127, 127] (never -128), which the quantiser guarantees; the
 * fast variants rely on it.  All functions are pure and safe from any thread. */
#ifndef MF_NUM_VEC_SCAN_H
#define MF_NUM_VEC_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "num/cpu.h"

enum {
    MF_SCAN_DIM_STEP = 64,     /* rows are zero-padded to a multiple of this */
    MF_SCAN_DIM_MAX = 1 << 16, /* 2^16 * 127 * 127 stays below 2^31 */
};

/* `dim` rounded up to what mf_scan_i8 takes. */
static inline size_t mf_scan_dim(size_t dim) {
    return (dim + MF_SCAN_DIM_STEP - 1) / MF_SCAN_DIM_STEP * MF_SCAN_DIM_STEP;
}

/* out[r] = dot(query, row r) for `count` rows that begin `row_stride` bytes apart.
 * `dim` is a multiple of MF_SCAN_DIM_STEP up to MF_SCAN_DIM_MAX, row_stride >= dim; no
 * alignment is needed, 64 bytes is fastest.  Uses the best variant of this
 * processor. */
void mf_scan_i8(const int8_t *query, const int8_t *rows, size_t row_stride,
                size_t count, size_t dim, int32_t *out);

/* The same by a named variant, which mf_cpu_has() must allow: for tests and
 * benchmarks. */
void mf_scan_i8_at(mf_cpu_level level, const int8_t *query, const int8_t *rows,
                   size_t row_stride, size_t count, size_t dim, int32_t *out);

/* Symmetric quantisation with one scale per vector: v[i] ~ out[i] * *scale, the largest
 * |v[i]| becoming 127.  Writes `dim_padded` >= dim values, zero beyond `dim`.  All v
 * must be finite.  A vector whose largest magnitude is below 1e-30 gives zeros and a
 * scale of 0. */
void mf_quantize_i8(const float *v, size_t dim, size_t dim_padded, int8_t *out,
                    float *scale);

#endif
