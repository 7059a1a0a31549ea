/* kernels_avx2.c - the vector kernels with pairs of 256-bit registers. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* 12 of 16 registers accumulate. */
#define TILE_ROWS 6
#define TILE_VECS 1
#define ATTENTION_ROWS 2
/* 8 of 16 registers accumulate; weights and activations are split in two each. */
#define TILE8_ROWS 4
#define TILE8_VECS 1

typedef struct vf {
    __m256 lo;
    __m256 hi;
} vf;

static inline vf vf_load(const float *p) {
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline void vf_store(float *p, vf a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

static inline vf vf_set(float a) {
    return (vf){_mm256_set1_ps(a), _mm256_set1_ps(a)};
}

static inline vf vf_add(vf a, vf b) {
    return (vf){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

static inline vf vf_sub(vf a, vf b) {
    return (vf){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

static inline vf vf_mul(vf a, vf b) {
    return (vf){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

static inline vf vf_fma(vf a, vf b, vf c) {
    return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

static inline vf vf_min(vf a, vf b) {
    return (vf){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

static inline vf vf_max(vf a, vf b) {
    return (vf){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

static inline vf vf_round(vf a) {
    return (vf){
        _mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
        _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
    };
}

static inline __m256 half_power_of_two(__m256 n) {
    __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

/* 2^n for whole n in [-126, 127], built from the exponent bits. */
static inline vf vf_power_of_two(vf n) {
    return (vf){half_power_of_two(n.lo), half_power_of_two(n.hi)};
}

/* Halves are combined until one lane is left: the order is part of the result. */
static inline float vf_sum(vf a) {
    __m256 eight = _mm256_add_ps(a.lo, a.hi);
    __m128 four =
        _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline float vf_highest(vf a) {
    __m256 eight = _mm256_max_ps(a.lo, a.hi);
    __m128 four =
        _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* --- sums of 8-bit products ------------------------------------------------------- */

/* The four bytes of a lane are spread over two registers of 16-bit numbers, bytes 0 and
 * 2 in one, 1 and 3 in the other: products of 16 bits are summed in pairs without ever
 * saturating, which those of 8 bits would. */
typedef struct vi {
    __m256i lo;
    __m256i hi;
} vi;

typedef struct act8 {
    __m256i even;
    __m256i odd;
} act8;

typedef struct wgt8 {
    act8 lo;
    act8 hi;
} wgt8;

static inline vi vi_start(const int32_t *p, const int32_t *weight_sums) {
    (void)weight_sums;
    return (vi){_mm256_loadu_si256((const __m256i *)(const void *)p),
                _mm256_loadu_si256((const __m256i *)(const void *)(p + 8))};
}

static inline vf vf_from_vi(vi a) {
    return (vf){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}

static inline act8 act8_load(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    __m256i all = _mm256_set1_epi32(four);
    return (act8){_mm256_and_si256(all, _mm256_set1_epi32(0x00FF00FF)),
                  _mm256_srli_epi16(all, 8)};
}

static inline act8 split_signed(const int8_t *p) {
    __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (act8){_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8),
                  _mm256_srai_epi16(all, 8)};
}

static inline wgt8 wgt8_load(const int8_t *p) {
    return (wgt8){split_signed(p), split_signed(p + 32)};
}

static inline __m256i dot_half(__m256i sum, act8 a, act8 w) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a.even, w.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a.odd, w.odd));
}

#define DOT8(sum, act, wgt)                                                            \
    ((sum) = (vi){dot_half((sum).lo, (act), (wgt).lo),                                 \
                  dot_half((sum).hi, (act), (wgt).hi)})

static inline void store_u8(uint8_t *p, vf a) {
    __m256i words =
        _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    words = _mm256_permute4x64_epi64(words, 0xD8); /* packing works in halves */
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm_packus_epi16(_mm256_castsi256_si128(words),
                                      _mm256_extracti128_si256(words, 1)));
}

/* --- pairs of bf16 numbers -------------------------------------------------------- */

static inline vf pairs_low(const uint32_t *p) {
    __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(p + 8));
    return (vf){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}

static inline vf pairs_high(const uint32_t *p) {
    const __m256i upper = _mm256_set1_epi32((int32_t)0xFFFF0000);
    __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(p + 8));
    return (vf){_mm256_castsi256_ps(_mm256_and_si256(lo, upper)),
                _mm256_castsi256_ps(_mm256_and_si256(hi, upper))};
}

#include "num/kernels_vector.h"
#include "num/kernels_vector16.h"
#include "num/kernels_vector8.h"

const mf_kernels mf_kernels_avx2 = {
    .level = MF_CPU_AVX2,
    .linear = linear,
    .layer_norm = layer_norm,
    .attention = attention,
    .quantize = quantize,
    .layer_norm8 = layer_norm8,
    .linear8 = linear8,
    .round16 = round16,
    .linear16 = linear16,
    .all_finite = all_finite,
};

#else
typedef int mf_kernels_avx2_is_empty;
#endif
