/* kernels_neon.c - the vector kernels for 64-bit ARM with dot products of bytes: a
 * vector of MF_LANES floats is four 128-bit registers. */
#if defined(__aarch64__)

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

/* 24 of 32 registers accumulate. */
#define TILE_ROWS 6
#define TILE_VECS 1
#define ATTENTION_ROWS 2
#define ATTENTION_VECS 1
#define TILE8_ROWS 6
#define TILE8_VECS 1

typedef float32x4x4_t vf;

#define EACH(expression)                                                               \
    ((vf){{                                                                            \
        (expression(0)),                                                               \
        (expression(1)),                                                               \
        (expression(2)),                                                               \
        (expression(3)),                                                               \
    }})

static inline vf vf_load(const float *p) {
#define AT(i) vld1q_f32(p + 4 * (i))
    return EACH(AT);
#undef AT
}

static inline void vf_store(float *p, vf a) {
    vst1q_f32(p, a.val[0]);
    vst1q_f32(p + 4, a.val[1]);
    vst1q_f32(p + 8, a.val[2]);
    vst1q_f32(p + 12, a.val[3]);
}

static inline vf vf_set(float a) {
    float32x4_t four = vdupq_n_f32(a);
    return (vf){{four, four, four, four}};
}

static inline vf vf_add(vf a, vf b) {
#define AT(i) vaddq_f32(a.val[i], b.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_sub(vf a, vf b) {
#define AT(i) vsubq_f32(a.val[i], b.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_mul(vf a, vf b) {
#define AT(i) vmulq_f32(a.val[i], b.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_fma(vf a, vf b, vf c) {
#define AT(i) vfmaq_f32(c.val[i], a.val[i], b.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_min(vf a, vf b) {
#define AT(i) vminq_f32(a.val[i], b.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_max(vf a, vf b) {
#define AT(i) vmaxq_f32(a.val[i], b.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_round(vf a) {
#define AT(i) vrndnq_f32(a.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_abs(vf a) {
#define AT(i) vabsq_f32(a.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_max_abs(vf a, vf b) {
    return vf_max(a, vf_abs(b));
}

static inline vf vf_fraction(vf a) {
    return vf_sub(a, vf_round(a));
}

/* Adds to the exponents. */
static inline float32x4_t quarter_scale(float32x4_t a, float32x4_t n) {
    int32x4_t up = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), up));
}

static inline vf vf_scale(vf a, vf n) {
#define AT(i) quarter_scale(a.val[i], n.val[i])
    return EACH(AT);
#undef AT
}

static inline vf vf_cut(vf a, size_t count, float rest) {
    const uint32_t first_lanes[4] = {0, 1, 2, 3};
    const uint32x4_t lanes = vld1q_u32(first_lanes);
    const uint32x4_t limit = vdupq_n_u32((uint32_t)count);
#define AT(i)                                                                          \
    vbslq_f32(vcltq_u32(vaddq_u32(lanes, vdupq_n_u32(4 * (i))), limit), a.val[i],      \
              vdupq_n_f32(rest))
    return EACH(AT);
#undef AT
}

static inline float32x4_t quarter_power_of_two(float32x4_t n) {
    int32x4_t biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(biased, 23));
}

/* 2^n for whole n in [-126, 127], built from the exponent bits. */
static inline vf vf_power_of_two(vf n) {
#define AT(i) quarter_power_of_two(n.val[i])
    return EACH(AT);
#undef AT
}

/* Halves are combined until one lane is left: the order is part of the result. */
static inline float vf_sum(vf a) {
    float32x4_t four =
        vaddq_f32(vaddq_f32(a.val[0], a.val[2]), vaddq_f32(a.val[1], a.val[3]));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline float vf_highest(vf a) {
    float32x4_t four =
        vmaxq_f32(vmaxq_f32(a.val[0], a.val[1]), vmaxq_f32(a.val[2], a.val[3]));
    return vmaxvq_f32(four);
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

/* --- sums of 8-bit products ------------------------------------------------------- */

/* The instruction multiplies signed bytes only.  So activations are taken as a - 128,
 * and 128 times the sum of an output's weights goes in at the start. */
typedef int32x4x4_t vi;
typedef int8x16_t act8;
typedef int8x16x4_t wgt8;

static inline vi vi_load(const int32_t *p) {
    return (vi){{vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}};
}

static inline vi vi_start(const int32_t *offsets, const int32_t *weight_sums) {
    vi start = vi_load(offsets);
    vi sums = vi_load(weight_sums);
    for (int i = 0; i < 4; i++) {
        start.val[i] = vaddq_s32(start.val[i], vshlq_n_s32(sums.val[i], 7));
    }
    return start;
}

static inline vf vf_from_vi(vi a) {
#define AT(i) vcvtq_f32_s32(a.val[i])
    return EACH(AT);
#undef AT
}

static inline act8 act8_load(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080U));
}

static inline wgt8 wgt8_load(const int8_t *p) {
    return (wgt8){{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}

static inline vi dot8(vi sum, act8 act, wgt8 wgt) {
    for (int i = 0; i < 4; i++) {
        sum.val[i] = vdotq_s32(sum.val[i], wgt.val[i], act);
    }
    return sum;
}

#define DOT8(sum, act, wgt) ((sum) = dot8((sum), (act), (wgt)))

static inline void store_u8(uint8_t *p, vf a) {
    int16x8_t low = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a.val[0])),
                                 vqmovn_s32(vcvtnq_s32_f32(a.val[1])));
    int16x8_t high = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a.val[2])),
                                  vqmovn_s32(vcvtnq_s32_f32(a.val[3])));
    vst1q_u8(p, vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)));
}

static inline void store_u8_four(uint8_t *p, const vf v[4]) {
    for (int i = 0; i < 4; i++) {
        store_u8(p + 16 * i, v[i]);
    }
}

static inline void store_centred_four(uint8_t *p, const vf v[4]) {
    for (int i = 0; i < 4; i++) {
        store_u8(p + 16 * i, vf_add(vf_round(v[i]), vf_set(128.0F)));
    }
}

/* --- pairs of bf16 numbers -------------------------------------------------------- */

typedef uint32x4x4_t vp;

static inline vp vp_load(const uint32_t *p) {
    return (vp){{vld1q_u32(p), vld1q_u32(p + 4), vld1q_u32(p + 8), vld1q_u32(p + 12)}};
}

static inline void vp_store(uint32_t *p, vp a) {
    for (int i = 0; i < 4; i++) {
        vst1q_u32(p + 4 * i, a.val[i]);
    }
}

static inline vp vp_zero(void) {
    uint32x4_t zero = vdupq_n_u32(0);
    return (vp){{zero, zero, zero, zero}};
}

static inline vp vp_pack(vf low, vf high) {
    const uint32x4_t half = vdupq_n_u32(0x8000);
    vp pairs;
    for (int i = 0; i < 4; i++) {
        uint32x4_t l = vaddq_u32(vreinterpretq_u32_f32(low.val[i]), half);
        uint32x4_t h = vaddq_u32(vreinterpretq_u32_f32(high.val[i]), half);
        pairs.val[i] = vsriq_n_u32(h, l, 16);
    }
    return pairs;
}

static inline vf vp_low(vp a) {
#define AT(i) vreinterpretq_f32_u32(vshlq_n_u32(a.val[i], 16))
    return EACH(AT);
#undef AT
}

static inline vf vp_high(vp a) {
    const uint32x4_t upper = vdupq_n_u32(0xFFFF0000);
#define AT(i) vreinterpretq_f32_u32(vandq_u32(a.val[i], upper))
    return EACH(AT);
#undef AT
}

/* Transposes four rows of four words. */
static inline void transpose_four(uint32x4_t v[4]) {
    uint32x4x2_t a = vtrnq_u32(v[0], v[1]);
    uint32x4x2_t b = vtrnq_u32(v[2], v[3]);
    v[0] = vcombine_u32(vget_low_u32(a.val[0]), vget_low_u32(b.val[0]));
    v[1] = vcombine_u32(vget_low_u32(a.val[1]), vget_low_u32(b.val[1]));
    v[2] = vcombine_u32(vget_high_u32(a.val[0]), vget_high_u32(b.val[0]));
    v[3] = vcombine_u32(vget_high_u32(a.val[1]), vget_high_u32(b.val[1]));
}

static inline void vp_transpose(vp v[16]) {
    vp w[16];
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) { /* fours of rows 4 i.. and columns 4 j.. */
            uint32x4_t square[4] = {v[4 * i].val[j], v[4 * i + 1].val[j],
                                    v[4 * i + 2].val[j], v[4 * i + 3].val[j]};
            transpose_four(square);
            for (int k = 0; k < 4; k++) {
                w[4 * j + k].val[i] = square[k];
            }
        }
    }
    memcpy(v, w, sizeof w);
}

static inline vf pairs_low(const uint32_t *p) {
#define AT(i) vreinterpretq_f32_u32(vshlq_n_u32(vld1q_u32(p + 4 * (i)), 16))
    return EACH(AT);
#undef AT
}

static inline vf pairs_high(const uint32_t *p) {
    const uint32x4_t upper = vdupq_n_u32(0xFFFF0000);
#define AT(i) vreinterpretq_f32_u32(vandq_u32(vld1q_u32(p + 4 * (i)), upper))
    return EACH(AT);
#undef AT
}

#include "num/kernels_vector.h"
#include "num/kernels_vector16.h"
#include "num/kernels_vector8.h"

const mf_kernels mf_kernels_neon = {
    .level = MF_CPU_NEON,
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
typedef int mf_kernels_neon_is_empty;
#endif
