/* vec_scan_avx512.c - int8 dot products with AVX-512 VNNI.
 *
 * vpdpbusd multiplies unsigned by signed bytes and adds four products into each 32-bit
 * lane without saturating.  The rows are made unsigned by adding 128 (flipping the top
 * bit), so each sum comes out too large by 128 * sum(query): one number per query,
 * taken off at the end.
 *
 * The instruction is written as assembly because gcc 12 copies the accumulator around
 * its intrinsic and spills registers, at half the speed. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "num/vec_scan_variants.h"

#define ADD_PRODUCTS(sum, unsigned_bytes, signed_bytes)                                \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes))

static inline __m512i load(const int8_t *p) {
    return _mm512_loadu_si512((const void *)p);
}

static inline __m512i load_unsigned(const int8_t *p) {
    return _mm512_xor_si512(load(p), _mm512_set1_epi8((char)-128));
}

void mf_scan_i8_avx512(const int8_t *query, const int8_t *rows, size_t row_stride,
                       size_t count, size_t dim, int32_t *out) {
    __m512i query_sum = _mm512_setzero_si512();
    for (size_t i = 0; i < dim; i += 64) {
        __m512i flipped = _mm512_set1_epi8((char)-128); /* 128 in every unsigned byte */
        ADD_PRODUCTS(query_sum, flipped, load(query + i));
    }
    int32_t excess = _mm512_reduce_add_epi32(query_sum);
    size_t r = 0;
    for (; r + 4 <= count; r += 4) {
        const int8_t *row = rows + r * row_stride;
        __m512i s0 = _mm512_setzero_si512();
        __m512i s1 = _mm512_setzero_si512();
        __m512i s2 = _mm512_setzero_si512();
        __m512i s3 = _mm512_setzero_si512();
        for (size_t i = 0; i < dim; i += 64) {
            __m512i q = load(query + i);
            ADD_PRODUCTS(s0, load_unsigned(row + i), q);
            ADD_PRODUCTS(s1, load_unsigned(row + row_stride + i), q);
            ADD_PRODUCTS(s2, load_unsigned(row + 2 * row_stride + i), q);
            ADD_PRODUCTS(s3, load_unsigned(row + 3 * row_stride + i), q);
        }
        out[r] = _mm512_reduce_add_epi32(s0) - excess;
        out[r + 1] = _mm512_reduce_add_epi32(s1) - excess;
        out[r + 2] = _mm512_reduce_add_epi32(s2) - excess;
        out[r + 3] = _mm512_reduce_add_epi32(s3) - excess;
    }
    for (; r < count; r++) {
        const int8_t *row = rows + r * row_stride;
        __m512i s = _mm512_setzero_si512();
        for (size_t i = 0; i < dim; i += 64) {
            ADD_PRODUCTS(s, load_unsigned(row + i), load(query + i));
        }
        out[r] = _mm512_reduce_add_epi32(s) - excess;
    }
}

#else
typedef int mf_vec_scan_avx512_is_empty;
#endif
