/* pool.c - mean, maximum and normalisation. */
#include "num/pool.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

void mf_pool_mean(const float *x, size_t rows, size_t width, float *out) {
    MF_ASSERT(rows > 0);
    memcpy(out, x, width * sizeof *out);
    for (size_t row = 1; row < rows; row++) {
        for (size_t i = 0; i < width; i++) {
            out[i] += x[row * width + i];
        }
    }
    float factor = 1.0F / (float)rows;
    for (size_t i = 0; i < width; i++) {
        out[i] *= factor;
    }
}

void mf_pool_max(const float *x, size_t rows, size_t width, float *out) {
    MF_ASSERT(rows > 0);
    memcpy(out, x, width * sizeof *out);
    for (size_t row = 1; row < rows; row++) {
        for (size_t i = 0; i < width; i++) {
            float value = x[row * width + i];
            out[i] = value > out[i] ? value : out[i];
        }
    }
}

bool mf_normalize(float *v, size_t width) {
    double squares = 0.0;
    for (size_t i = 0; i < width; i++) {
        squares += (double)v[i] * (double)v[i];
    }
    double norm = sqrt(squares);
    if (!isfinite(norm) || norm <= 0.0) {
        return false;
    }
    for (size_t i = 0; i < width; i++) {
        v[i] = (float)((double)v[i] / norm);
    }
    return true;
}
