/* safetensors_fuzz.c - any bytes are either refused or give tensors that can be read
 * to their last byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/safetensors.h"
#include "num/kernels.h"

/* A tensor of 16 bits is written as floats, all of them finite if it says so. */
static void convert(const mf_safetensors *file, const char *name, const size_t *shape,
                    size_t rank) {
    float values[8];
    mf_err err;
    if (!mf_safetensors_is_16bit(file, name) ||
        mf_safetensors_expect(file, name, shape, rank, &err) != MF_OK) {
        return;
    }
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) {
        count *= shape[i];
    }
    if (mf_safetensors_convert(file, name, values, &err) == MF_OK &&
        !mf_kernels_best()->all_finite(values, count)) {
        abort();
    }
}

/* Names and shapes the seeds use, so that mutations of them are looked up too. */
static void read_all(const mf_safetensors *file) {
    static const char *const names[] = {"a", "b", "t", "u", "scalar", "weight", ""};
    static const size_t shapes[][2] = {{1, 0}, {2, 0}, {4, 0}, {2, 3}, {0, 7}, {0, 0}};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            for (size_t rank = 0; rank <= 2; rank++) {
                const float *values = NULL;
                mf_err err;
                mf_rc rc = mf_safetensors_get_f32(file, names[n], shapes[s], rank,
                                                  &values, &err);
                if (rc == MF_OK && values == NULL) {
                    abort();
                }
                convert(file, names[n], shapes[s], rank);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t live = mf_alloc_live();
    mf_safetensors *file = NULL;
    mf_err err;
    /* A copy of exactly this size, aligned as a mapped file is. */
    char *bytes = mf_alloc_aligned(64, size == 0 ? 1 : size);
    if (bytes == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(bytes, data, size);
    }
    mf_rc rc = mf_safetensors_view((mf_str){bytes, size}, &file, &err);
    if (rc == MF_OK) {
        read_all(file);
    } else if (rc != MF_E_CORRUPT || file != NULL) {
        abort();
    }
    mf_safetensors_close(file);
    mf_free(bytes);
    if (mf_alloc_live() != live) {
        abort();
    }
    return 0;
}
