/* vec_scan_avx2.c - int8 dot products with AVX2.
 *
 * The multiply-add of bytes wants one unsigned operand, so |query| is multiplied by the
 * row carrying the query's sign.  With values in [-127, 127] a pair of products is at
 * most 2 * 127 * 127 = 32258, which fits in 16 bits: the saturating instruction never
 * saturates and the sums are exact. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "num/vec_scan_variants.h"

static inline __m256i load(const int8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m256i add_products(__m256i sum, __m256i query, __m256i query_abs,
                                   const int8_t *row) {
    __m256i signed_row = _mm256_sign_epi8(load(row), query);
    __m256i pairs = _mm256_maddubs_epi16(query_abs, signed_row);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline int32_t sum_lanes(__m256i v) {
    __m128i four =
        _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

void mf_scan_i8_avx2(const int8_t *query, const int8_t *rows, size_t row_stride,
                     size_t count, size_t dim, int32_t *out) {
    size_t r = 0;
    for (; r + 4 <= count; r += 4) {
        const int8_t *row = rows + r * row_stride;
        __m256i s0 = _mm256_setzero_si256();
        __m256i s1 = s0;
        __m256i s2 = s0;
        __m256i s3 = s0;
        for (size_t i = 0; i < dim; i += 32) {
            __m256i q = load(query + i);
            __m256i q_abs = _mm256_abs_epi8(q);
            s0 = add_products(s0, q, q_abs, row + i);
            s1 = add_products(s1, q, q_abs, row + row_stride + i);
            s2 = add_products(s2, q, q_abs, row + 2 * row_stride + i);
            s3 = add_products(s3, q, q_abs, row + 3 * row_stride + i);
        }
        out[r] = sum_lanes(s0);
        out[r + 1] = sum_lanes(s1);
        out[r + 2] = sum_lanes(s2);
        out[r + 3] = sum_lanes(s3);
    }
    for (; r < count; r++) {
        const int8_t *row = rows + r * row_stride;
        __m256i s = _mm256_setzero_si256();
        for (size_t i = 0; i < dim; i += 32) {
            __m256i q = load(query + i);
            s = add_products(s, q, _mm256_abs_epi8(q), row + i);
        }
        out[r] = sum_lanes(s);
    }
}

#else
typedef int mf_vec_scan_avx2_is_empty;
#endif
