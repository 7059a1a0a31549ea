/* encoder_pack_fuzz.c - any bytes in place of a packed model are either refused or give
 * weights that can be multiplied with to their last byte.
 *
 * A checksum would refuse nearly every mutation, and the size all that is shorter.  So
 * an input is tried three times: as it is, over the sections of a good image, and over
 * its header as well but for magic and version; the last two with size and checksum put
 * right.  The good image comes from the writer, so that it has its version and layout
 * whatever seeds were made with; that it opens is checked first. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/encoder_pack.h"
#include "num/kernels.h"

/* A shape with everything a model can have. */
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

enum {
    FLAGS_AT = 12,     /* where the header goes on behind magic and version */
    BYTES_AT = 16,     /* where it tells the size */
    SECTIONS_AT = 128, /* where it ends */
    WIDE = 64,
};

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

static bool try_open(mf_str bytes) {
    mf_pack pack = {0};
    mf_err err;
    mf_rc rc = mf_pack_open(&shape, bytes, &pack, &err);
    if (rc == MF_OK) {
        use(&pack);
    } else if (rc != MF_E_CORRUPT || pack.layers != NULL) {
        abort();
    }
    mf_pack_done(&pack);
    return rc == MF_OK;
}

/* --- a good image ----------------------------------------------------------------- */

/* A text's first token and another one, all of it ones. */
static mf_rc observe(void *context, size_t layer, mf_calibration *out, mf_err *err) {
    static bool first[2] = {true, false};
    static float x[2 * WIDE];
    (void)context;
    (void)layer;
    (void)err;
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        x[i] = 1.0F;
    }
    out->first = first;
    for (mf_place place = 0; place < MF_PLACE_COUNT; place++) {
        mf_calibration_note(out, place, x, 0, 2);
    }
    return MF_OK;
}

/* Every weight is read from the same few numbers. */
static void make_good(void *image) {
    static float w[1024];
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) {
        w[i] = (float)(i % 7) * 0.125F - 0.25F;
    }
    const mf_linear_weights linear = {w, w};
    const mf_norm norm = {w, w};
    mf_layer_weights layer = {
        {linear, linear, linear}, linear, linear, linear, norm, norm};
    const mf_weights weights = {w, w, w, w, norm, &layer, {linear, linear}, NULL};
    const mf_pack_work work = {MF_CPU_SCALAR, observe, NULL};
    if (mf_pack_build(&shape, &weights, &work, image, NULL) != MF_OK) {
        abort();
    }
}

/* Made at the first call, kept for good. */
static const char *good_image(void) {
    static char *good;
    if (good == NULL) {
        size_t bytes = mf_pack_bytes(&shape);
        good = mf_alloc_aligned(MF_IMAGE8_ALIGN, bytes);
        if (good == NULL) {
            abort();
        }
        const mf_pack_source source = {.stamp = {.bytes = 1}};
        memset(good, 0, bytes);
        make_good(good);
        mf_pack_seal(good, &source, 1.0F);
        if (!try_open((mf_str){good, bytes})) {
            abort();
        }
    }
    return good;
}

/* The good image with the input over it from `from` on. */
static void try_over(const uint8_t *data, size_t size, size_t from) {
    const mf_pack_source source = {.stamp = {.bytes = 1}};
    size_t whole = mf_pack_bytes(&shape);
    uint64_t right = whole;
    char *bytes = mf_alloc_aligned(MF_IMAGE8_ALIGN, whole);
    if (bytes == NULL) {
        return;
    }
    memcpy(bytes, good_image(), whole);
    size = size < whole ? size : whole;
    if (size > from) {
        memcpy(bytes + from, data + from, size - from);
    }
    memcpy(bytes + BYTES_AT, &right, sizeof right);
    mf_pack_seal(bytes, &source, 1.0F);
    (void)try_open((mf_str){bytes, whole});
    mf_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    (void)good_image();
    size_t live = mf_alloc_live();
    /* A copy of exactly this size, aligned as a mapped file is. */
    char *bytes = mf_alloc_aligned(MF_IMAGE8_ALIGN, size == 0 ? 1 : size);
    if (bytes == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(bytes, data, size);
    }
    (void)try_open((mf_str){bytes, size});
    try_over(data, size, SECTIONS_AT);
    try_over(data, size, FLAGS_AT);
    mf_free(bytes);
    if (mf_alloc_live() != live) {
        abort();
    }
    return 0;
}
