/* kernels.c - picks the table of kernels for this processor. */
#include "num/kernels.h"

#include "base/assert.h"
#include "num/kernels_variants.h"

const mf_kernels *mf_kernels_at(mf_cpu_level level) {
    if (!mf_cpu_has(level)) {
        return NULL;
    }
#if defined(__x86_64__)
    if (level == MF_CPU_AMX) {
        return &mf_kernels_amx;
    }
    if (level == MF_CPU_AVX512) {
        return mf_cpu_has_bf16() ? &mf_kernels_avx512_bf16 : &mf_kernels_avx512;
    }
    if (level == MF_CPU_AVX2) {
        return &mf_kernels_avx2;
    }
#elif defined(__aarch64__)
    if (level == MF_CPU_NEON) {
        return &mf_kernels_neon;
    }
#endif
    return &mf_kernels_scalar;
}

const mf_kernels *mf_kernels_best(void) {
    return mf_kernels_at(mf_cpu_best());
}

size_t mf_attention_scratch(size_t tokens_max, size_t head_dim) {
    MF_ASSERT(tokens_max <= MF_MATRIX_SIDE_MAX && head_dim <= MF_HEAD_DIM_MAX);
    /* Several heads at once are those of texts that all fit in one round of blocks. */
    size_t round = MF_ATTENTION_BLOCKS * MF_ATTENTION_STEP;
    size_t heads = tokens_max > round ? tokens_max : round;
    size_t tiles = mf_attention_head(heads, head_dim) +
                   MF_ATTENTION_BLOCKS * mf_attention_block(tokens_max, head_dim);
    size_t floats = 2 * mf_attention_head(tokens_max, head_dim) +
                    mf_attention_block(tokens_max, head_dim);
    return tiles > floats ? tiles : floats;
}
