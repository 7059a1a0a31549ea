/* encoder_pack_fuzz.c - any bytes in place of a packed model are either refused or give
 * weights that can be multiplied with to their last byte.
 *
 * A checksum would refuse nearly every mutation, so an input of the right size is tried
 * twice: as it is, and with size and checksum put right. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/encoder_pack.h"
#include "num/kernels.h"

/* The shape the seeds have. */
static const mf_encoder_config shape = {.hidden = 16,
                                        .layers = 1,
                                        .heads = 1,
                                        .head_dim = 16,
                                        .inner = 20,
                                        .positions = 2,
                                        .vocab = 3,
                                        .types = 2,
                                        .buckets = 4,
                                        .labels = 2,
                                        .window = 2,
                                        .epsilon = 1e-12F};

enum { BYTES_AT = 16, WIDE = 64 }; /* where an image tells its size */

/* Two rows of the largest activations through one matrix, on every kind of kernel. */
static void multiply(const mf_matrix8 *matrix) {
    static _Alignas(64) uint8_t q[2 * MF_STRIDE8];
    float scales[2] = {1.0F, 1.0F};
    float y[2 * WIDE];
    memset(q, 255, sizeof q);
    for (mf_cpu_level level = MF_CPU_SCALAR; level < MF_CPU_LEVEL_COUNT; level++) {
        if (mf_kernels_at(level) != NULL) {
            mf_kernels_at(level)->linear8(&(mf_linear8_call){
                .matrix = matrix, .x = {q, scales}, .rows = 2, .y = y});
        }
    }
}

static void use(const mf_pack *pack) {
    const mf_kernels *kernels = mf_kernels_best();
    int sum = 0;
    for (size_t i = 0; i < shape.vocab * shape.hidden; i++) {
        sum += pack->words[i];
    }
    multiply(&pack->layers[0].qkv);
    multiply(&pack->layers[0].out);
    multiply(&pack->layers[0].inner);
    multiply(&pack->layers[0].outer);
    if (sum > 127 * 48 || !kernels->all_finite(pack->positions, 32) ||
        !kernels->all_finite(pack->word_scales, shape.vocab) ||
        !kernels->all_finite(pack->type_steps, shape.hidden) ||
        !kernels->all_finite(pack->distances, shape.buckets * shape.heads) ||
        !kernels->all_finite(pack->head.dense.weights, shape.hidden * shape.hidden) ||
        !kernels->all_finite(pack->head.classifier.bias, shape.labels) ||
        !kernels->all_finite(pack->layers[0].output_norm.shrink, shape.hidden)) {
        abort();
    }
}

static void try_open(mf_str bytes) {
    mf_pack pack = {0};
    mf_err err;
    mf_rc rc = mf_pack_open(&shape, bytes, &pack, &err);
    if (rc == MF_OK) {
        use(&pack);
    } else if (rc != MF_E_CORRUPT || pack.layers != NULL) {
        abort();
    }
    mf_pack_done(&pack);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t live = mf_alloc_live();
    /* A copy of exactly this size, aligned as a mapped file is. */
    char *bytes = mf_alloc_aligned(MF_IMAGE8_ALIGN, size == 0 ? 1 : size);
    if (bytes == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(bytes, data, size);
    }
    try_open((mf_str){bytes, size});
    if (size == mf_pack_bytes(&shape)) {
        const mf_pack_source source = {.stamp = {.bytes = 1}};
        uint64_t right = size;
        memcpy(bytes + BYTES_AT, &right, sizeof right);
        mf_pack_seal(bytes, &source, 1.0F);
        try_open((mf_str){bytes, size});
    }
    mf_free(bytes);
    if (mf_alloc_live() != live) {
        abort();
    }
    return 0;
}
