/* vec_scan_variants.h - private to num/: the variants behind mf_scan_i8. */
#ifndef MF_NUM_VEC_SCAN_VARIANTS_H
#define MF_NUM_VEC_SCAN_VARIANTS_H

#include <stddef.h>
#include <stdint.h>

void mf_scan_i8_scalar(const int8_t *query, const int8_t *rows, size_t row_stride,
                       size_t count, size_t dim, int32_t *out);
void mf_scan_i8_neon(const int8_t *query, const int8_t *rows, size_t row_stride,
                     size_t count, size_t dim, int32_t *out);
void mf_scan_i8_avx2(const int8_t *query, const int8_t *rows, size_t row_stride,
                     size_t count, size_t dim, int32_t *out);
void mf_scan_i8_avx512(const int8_t *query, const int8_t *rows, size_t row_stride,
                       size_t count, size_t dim, int32_t *out);

#endif
