/* kernels_avx2.c - the vector kernels with pairs of 256-bit registers. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* 12 of 16 registers accumulate. */
#define TILE_ROWS 6
#define TILE_VECS 1
#define ATTENTION_ROWS 2
#define ATTENTION_VECS 1
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

static inline vf vf_abs(vf a) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return (vf){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

static inline vf vf_max_abs(vf a, vf b) {
    return vf_max(a, vf_abs(b));
}

static inline vf vf_fraction(vf a) {
    return vf_sub(a, vf_round(a));
}

/* Adds to the exponents. */
static inline __m256 half_scale(__m256 a, __m256 n) {
    __m256i up = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), up));
}

static inline vf vf_scale(vf a, vf n) {
    return (vf){half_scale(a.lo, n.lo), half_scale(a.hi, n.hi)};
}

static inline vf vf_cut(vf a, size_t count, float rest) {
    const __m256i limit = _mm256_set1_epi32((int32_t)count);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i upper = _mm256_add_epi32(lanes, _mm256_set1_epi32(8));
    const __m256 r = _mm256_set1_ps(rest);
    return (vf){
        _mm256_blendv_ps(r, a.lo,
                         _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, lanes))),
        _mm256_blendv_ps(r, a.hi,
                         _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, upper))),
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

/* --- pairs of bf16 numbers -------------------------------------------------------- */

typedef struct vp {
    __m256i lo;
    __m256i hi;
} vp;

static inline vp vp_load(const uint32_t *p) {
    return (vp){_mm256_loadu_si256((const __m256i *)(const void *)p),
                _mm256_loadu_si256((const __m256i *)(const void *)(p + 8))};
}

static inline void vp_store(uint32_t *p, vp a) {
    _mm256_storeu_si256((__m256i *)(void *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(void *)(p + 8), a.hi);
}

static inline vp vp_zero(void) {
    return (vp){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

static inline __m256i half_pack(__m256 low, __m256 high) {
    const __m256i half = _mm256_set1_epi32(0x8000);
    __m256i l = _mm256_add_epi32(_mm256_castps_si256(low), half);
    __m256i h = _mm256_add_epi32(_mm256_castps_si256(high), half);
    return _mm256_blend_epi16(_mm256_srli_epi32(l, 16), h, 0xAA);
}

static inline vp vp_pack(vf low, vf high) {
    return (vp){half_pack(low.lo, high.lo), half_pack(low.hi, high.hi)};
}

static inline vf vp_low(vp a) {
    return (vf){_mm256_castsi256_ps(_mm256_slli_epi32(a.lo, 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(a.hi, 16))};
}

static inline vf vp_high(vp a) {
    const __m256i mask = _mm256_set1_epi32((int32_t)0xFFFF0000);
    return (vf){_mm256_castsi256_ps(_mm256_and_si256(a.lo, mask)),
                _mm256_castsi256_ps(_mm256_and_si256(a.hi, mask))};
}

/* Transposes eight rows of eight words: neighbours, pairs, fours. */
static inline void transpose_eight(__m256i v[8]) {
    __m256i w[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 4) {
        __m256i a = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        __m256i b = _mm256_unpackhi_epi32(v[i], v[i + 1]);
        __m256i c = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
        __m256i d = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);
        w[i] = _mm256_unpacklo_epi64(a, c);
        w[i + 1] = _mm256_unpackhi_epi64(a, c);
        w[i + 2] = _mm256_unpacklo_epi64(b, d);
        w[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        v[k] = _mm256_permute2x128_si256(w[k], w[k + 4], 0x20);
        v[k + 4] = _mm256_permute2x128_si256(w[k], w[k + 4], 0x31);
    }
}

/* The four quarters of the square, of which two change places. */
static inline void vp_transpose(vp v[16]) {
    __m256i upper_left[8];
    __m256i upper_right[8];
    __m256i lower_left[8];
    __m256i lower_right[8];
    for (int i = 0; i < 8; i++) {
        upper_left[i] = v[i].lo;
        upper_right[i] = v[i].hi;
        lower_left[i] = v[i + 8].lo;
        lower_right[i] = v[i + 8].hi;
    }
    transpose_eight(upper_left);
    transpose_eight(upper_right);
    transpose_eight(lower_left);
    transpose_eight(lower_right);
    for (int i = 0; i < 8; i++) {
        v[i] = (vp){upper_left[i], lower_left[i]};
        v[i + 8] = (vp){upper_right[i], lower_right[i]};
    }
}

static inline void vf_sums(vf v[16], float *out) {
    for (int i = 0; i < 16; i++) {
        out[i] = vf_sum(v[i]);
    }
}

static inline void vf_highests(vf v[16], float *out) {
    for (int i = 0; i < 16; i++) {
        out[i] = vf_highest(v[i]);
    }
}

/* Two halves of a vector as 16-bit whole numbers. */
static inline __m256i half_words(__m256 a, __m256 b) {
    return _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
}

/* Packing works in halves of a register; this puts fours of bytes in order again. */
#define PACKED _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)

static inline void store_u8_four(uint8_t *p, const vf v[4]) {
    for (int i = 0; i < 4; i += 2, p += 32) {
        __m256i bytes = _mm256_packus_epi16(half_words(v[i].lo, v[i].hi),
                                            half_words(v[i + 1].lo, v[i + 1].hi));
        _mm256_storeu_si256((__m256i *)(void *)p,
                            _mm256_permutevar8x32_epi32(bytes, PACKED));
    }
}

static inline void store_centred_four(uint8_t *p, const vf v[4]) {
    for (int i = 0; i < 4; i += 2, p += 32) {
        __m256i bytes = _mm256_packs_epi16(half_words(v[i].lo, v[i].hi),
                                           half_words(v[i + 1].lo, v[i + 1].hi));
        bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8((char)0x80));
        _mm256_storeu_si256((__m256i *)(void *)p,
                            _mm256_permutevar8x32_epi32(bytes, PACKED));
    }
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
    .attention16 = attention16,
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
