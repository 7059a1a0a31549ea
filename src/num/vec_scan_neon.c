/* vec_scan_neon.c - int8 dot products with the instruction of 64-bit ARM for them. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "num/vec_scan_variants.h"

void mf_scan_i8_neon(const int8_t *query, const int8_t *rows, size_t row_stride,
                     size_t count, size_t dim, int32_t *out) {
    size_t r = 0;
    for (; r + 4 <= count; r += 4) {
        const int8_t *row = rows + r * row_stride;
        int32x4_t s0 = vdupq_n_s32(0);
        int32x4_t s1 = s0;
        int32x4_t s2 = s0;
        int32x4_t s3 = s0;
        for (size_t i = 0; i < dim; i += 16) {
            int8x16_t q = vld1q_s8(query + i);
            s0 = vdotq_s32(s0, q, vld1q_s8(row + i));
            s1 = vdotq_s32(s1, q, vld1q_s8(row + row_stride + i));
            s2 = vdotq_s32(s2, q, vld1q_s8(row + 2 * row_stride + i));
            s3 = vdotq_s32(s3, q, vld1q_s8(row + 3 * row_stride + i));
        }
        out[r] = vaddvq_s32(s0);
        out[r + 1] = vaddvq_s32(s1);
        out[r + 2] = vaddvq_s32(s2);
        out[r + 3] = vaddvq_s32(s3);
    }
    for (; r < count; r++) {
        int32x4_t s = vdupq_n_s32(0);
        for (size_t i = 0; i < dim; i += 16) {
            s = vdotq_s32(s, vld1q_s8(query + i), vld1q_s8(rows + r * row_stride + i));
        }
        out[r] = vaddvq_s32(s);
    }
}

#else
typedef int mf_vec_scan_neon_is_empty;
#endif
