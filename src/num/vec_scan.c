/* vec_scan.c - the reference variant, the choice between variants, and the
 * quantiser. */
#include "num/vec_scan.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "num/vec_scan_variants.h"

/* Below this the reciprocal of the scale leaves the range of float. */
static const float tiny_magnitude = 1e-30F;

void mf_scan_i8_scalar(const int8_t *query, const int8_t *rows, size_t row_stride,
                       size_t count, size_t dim, int32_t *out) {
    for (size_t r = 0; r < count; r++) {
        const int8_t *row = rows + r * row_stride;
        int32_t sum = 0;
        for (size_t i = 0; i < dim; i++) {
            sum += query[i] * row[i];
        }
        out[r] = sum;
    }
}

void mf_scan_i8_at(mf_cpu_level level, const int8_t *query, const int8_t *rows,
                   size_t row_stride, size_t count, size_t dim, int32_t *out) {
    MF_ASSERT(dim % MF_SCAN_DIM_STEP == 0 && dim <= MF_SCAN_DIM_MAX);
    MF_ASSERT(row_stride >= dim);
#if defined(__x86_64__)
    if (level == MF_CPU_AVX512 || level == MF_CPU_AMX) {
        mf_scan_i8_avx512(query, rows, row_stride, count, dim, out);
        return;
    }
    if (level == MF_CPU_AVX2) {
        mf_scan_i8_avx2(query, rows, row_stride, count, dim, out);
        return;
    }
#elif defined(__aarch64__)
    if (level == MF_CPU_NEON) {
        mf_scan_i8_neon(query, rows, row_stride, count, dim, out);
        return;
    }
#endif
    MF_ASSERT(level == MF_CPU_SCALAR);
    mf_scan_i8_scalar(query, rows, row_stride, count, dim, out);
}

void mf_scan_i8(const int8_t *query, const int8_t *rows, size_t row_stride,
                size_t count, size_t dim, int32_t *out) {
    mf_scan_i8_at(mf_cpu_best(), query, rows, row_stride, count, dim, out);
}

void mf_quantize_i8(const float *v, size_t dim, size_t dim_padded, int8_t *out,
                    float *scale) {
    MF_ASSERT(dim_padded >= dim);
    float largest = 0.0F;
    for (size_t i = 0; i < dim; i++) {
        float magnitude = fabsf(v[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    memset(out, 0, dim_padded);
    if (largest < tiny_magnitude) {
        *scale = 0.0F;
        return;
    }
    float inverse = 127.0F / largest;
    for (size_t i = 0; i < dim; i++) {
        out[i] = (int8_t)lrintf(v[i] * inverse);
    }
    *scale = largest / 127.0F;
}
