/* kernels_avx512.c - the vector kernels with 512-bit registers. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* 24 of 32 registers accumulate; a row block of 12 reads each weight once. */
#define TILE_ROWS 12
#define TILE_VECS 2
#define ATTENTION_ROWS 6
/* Again 24: a tile is as wide as a panel, and a weight meets six rows. */
#define TILE8_ROWS 6
#define TILE8_VECS 4

typedef __m512 vf;

static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}

static inline void vf_store(float *p, vf a) {
    _mm512_storeu_ps(p, a);
}

static inline vf vf_set(float a) {
    return _mm512_set1_ps(a);
}

static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}

static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}

static inline vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for whole n in [-126, 127], built from the exponent bits. */
static inline vf vf_power_of_two(vf n) {
    __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

/* Halves are combined until one lane is left: the order is part of the result. */
static inline float vf_sum(vf a) {
    __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four =
        _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline float vf_highest(vf a) {
    return _mm512_reduce_max_ps(a);
}

/* --- sums of 8-bit products ------------------------------------------------------- */

typedef __m512i vi;
typedef __m512i act8;
typedef __m512i wgt8;

static inline vi vi_start(const int32_t *p, const int32_t *weight_sums) {
    (void)weight_sums;
    return _mm512_loadu_si512(p);
}

static inline vf vf_from_vi(vi a) {
    return _mm512_cvtepi32_ps(a);
}

static inline act8 act8_load(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

static inline wgt8 wgt8_load(const int8_t *p) {
    return _mm512_loadu_si512(p);
}

/* One instruction, written as such: around the intrinsic gcc 12 copies each sum to
 * another register and runs out of them, at half the speed. */
#define DOT8(sum, act, wgt)                                                            \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(act), "v"(wgt))

static inline void store_u8(uint8_t *p, vf a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

/* --- pairs of bf16 numbers -------------------------------------------------------- */

static inline vf pairs_low(const uint32_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}

static inline vf pairs_high(const uint32_t *p) {
    return _mm512_castsi512_ps(_mm512_and_si512(
        _mm512_loadu_si512(p), _mm512_set1_epi32((int32_t)0xFFFF0000)));
}

#include "num/kernels_vector.h"
#include "num/kernels_vector16.h"
#include "num/kernels_vector8.h"

#include "num/kernels_amx.h"
#include "num/kernels_avx512_bf16.h"

const mf_kernels mf_kernels_avx512 = {
    .level = MF_CPU_AVX512,
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

const mf_kernels mf_kernels_avx512_bf16 = {
    .level = MF_CPU_AVX512,
    .linear = linear,
    .layer_norm = layer_norm,
    .attention = attention,
    .quantize = quantize,
    .layer_norm8 = layer_norm8,
    .linear8 = linear8,
    .round16 = round16_pairs,
    .linear16 = linear16_pairs,
    .all_finite = all_finite,
};

/* No vdpbf16ps: on processors with tiles it is slower than multiply-adds of floats. */
const mf_kernels mf_kernels_amx = {
    .level = MF_CPU_AMX,
    .linear = linear,
    .layer_norm = layer_norm,
    .attention = attention,
    .quantize = quantize,
    .layer_norm8 = layer_norm8,
    .linear8 = linear8_tiles,
    .round16 = round16,
    .linear16 = linear16,
    .all_finite = all_finite,
};

#else
typedef int mf_kernels_avx512_is_empty;
#endif
