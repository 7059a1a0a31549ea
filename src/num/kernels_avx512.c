/* kernels_avx512.c - the vector kernels with 512-bit registers. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* 24 of 32 registers accumulate; a row block of 12 reads each weight once. */
#define TILE_ROWS 12
#define TILE_VECS 2
#define ATTENTION_ROWS 6
#define ATTENTION_VECS 2
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

static inline vf vf_abs(vf a) {
    return _mm512_abs_ps(a);
}

static inline vf vf_max_abs(vf a, vf b) {
    return _mm512_range_ps(a, b, 0x0B); /* the larger magnitude, sign cleared */
}

static inline vf vf_fraction(vf a) {
    return _mm512_reduce_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_scale(vf a, vf n) {
    return _mm512_scalef_ps(a, n);
}

static inline vf vf_cut(vf a, size_t count, float rest) {
    return _mm512_mask_mov_ps(vf_set(rest), (__mmask16)((1U << count) - 1), a);
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

/* --- pairs of bf16 numbers -------------------------------------------------------- */

typedef __m512i vp;

static inline vp vp_load(const uint32_t *p) {
    return _mm512_loadu_si512(p);
}

static inline void vp_store(uint32_t *p, vp a) {
    _mm512_storeu_si512(p, a);
}

static inline vp vp_zero(void) {
    return _mm512_setzero_si512();
}

static inline vp vp_pack(vf low, vf high) {
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512i l = _mm512_add_epi32(_mm512_castps_si512(low), half);
    __m512i h = _mm512_add_epi32(_mm512_castps_si512(high), half);
    return _mm512_mask_mov_epi16(h, 0x55555555, _mm512_srli_epi32(l, 16));
}

static inline vf vp_low(vp a) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
}

static inline vf vp_high(vp a) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(a, _mm512_set1_epi32((int32_t)0xFFFF0000)));
}

/* Four steps, each exchanging halves: of neighbours, of pairs, of fours, of eights. */
static inline void vp_transpose(vp v[16]) {
    vp w[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { /* v[i + k]: columns k, k + 4, ... of four rows */
        v[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        w[k] = _mm512_shuffle_i32x4(v[k], v[k + 4], 0x88);
        w[k + 4] = _mm512_shuffle_i32x4(v[k], v[k + 4], 0xDD);
        w[k + 8] = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0x88);
        w[k + 12] = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0xDD);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        v[k] = _mm512_shuffle_i32x4(w[k], w[k + 8], 0x88);
        v[k + 8] = _mm512_shuffle_i32x4(w[k], w[k + 8], 0xDD);
        v[k + 4] = _mm512_shuffle_i32x4(w[k + 4], w[k + 12], 0x88);
        v[k + 12] = _mm512_shuffle_i32x4(w[k + 4], w[k + 12], 0xDD);
    }
}

/* vf_sum, or vf_highest, of sixteen vectors at once: lane i of v[0] is that of row i.
 * Each step halves the vectors and combines in each row what vf_sum does. */
#define FOLD(v, combine)                                                               \
    do {                                                                               \
        _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) { /* lanes eight apart */  \
            vf upper = combine(_mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0x44),        \
                               _mm512_shuffle_f32x4(v[i + 8], v[i + 12], 0xEE));       \
            v[i] = combine(_mm512_shuffle_f32x4(v[i], v[i + 4], 0x44),                 \
                           _mm512_shuffle_f32x4(v[i], v[i + 4], 0xEE));                \
            v[i + 4] = upper;                                                          \
        }                                                                              \
        _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) { /* four apart */         \
            v[i] = combine(_mm512_shuffle_f32x4(v[i], v[i + 4], 0x88),                 \
                           _mm512_shuffle_f32x4(v[i], v[i + 4], 0xDD));                \
        }                                                                              \
        _Pragma("GCC unroll 4") for (int i = 0; i < 2; i++) { /* two apart */          \
            __m512d one = _mm512_castps_pd(v[2 * i]);                                  \
            __m512d two = _mm512_castps_pd(v[2 * i + 1]);                              \
            v[i] = combine(_mm512_castpd_ps(_mm512_unpacklo_pd(one, two)),             \
                           _mm512_castpd_ps(_mm512_unpackhi_pd(one, two)));            \
        }                                                                              \
        v[0] = combine(_mm512_shuffle_ps(v[0], v[1], 0x88), /* neighbours */           \
                       _mm512_shuffle_ps(v[0], v[1], 0xDD));                           \
    } while (0)

static inline void vf_sums(vf v[16], float *out) {
    FOLD(v, vf_add);
    vf_store(out, v[0]);
}

static inline void vf_highests(vf v[16], float *out) {
    FOLD(v, vf_max);
    vf_store(out, v[0]);
}

/* Packs four vectors of whole numbers into bytes; packing works in quarters of a
 * register, and the last step puts those in order. */
#define PACK_FOUR(v, pack_bytes)                                                       \
    _mm512_permutexvar_epi32(                                                          \
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),       \
        pack_bytes(_mm512_packs_epi32(_mm512_cvtps_epi32((v)[0]),                      \
                                      _mm512_cvtps_epi32((v)[1])),                     \
                   _mm512_packs_epi32(_mm512_cvtps_epi32((v)[2]),                      \
                                      _mm512_cvtps_epi32((v)[3]))))

static inline void store_u8_four(uint8_t *p, const vf v[4]) {
    _mm512_storeu_si512(p, PACK_FOUR(v, _mm512_packus_epi16));
}

static inline void store_centred_four(uint8_t *p, const vf v[4]) {
    _mm512_storeu_si512(p, _mm512_xor_si512(PACK_FOUR(v, _mm512_packs_epi16),
                                            _mm512_set1_epi8((char)0x80)));
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
#include "num/kernels_attention_amx.h"
#include "num/kernels_avx512_bf16.h"

const mf_kernels mf_kernels_avx512 = {
    .level = MF_CPU_AVX512,
    .linear = linear,
    .layer_norm = layer_norm,
    .attention = attention,
    .attention16 = attention16,
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
    .attention16 = attention16,
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
    .attention16 = attention16_tiles,
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
