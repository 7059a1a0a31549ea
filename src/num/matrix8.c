/* matrix8.c - quantises weights and puts them in the order of matrix8.h. */
#include "num/matrix8.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "num/matrix.h"

/* Where the parts of an image begin, in bytes. */
typedef struct layout {
    size_t scales;
    size_t bias;
    size_t offsets;
    size_t sums;
    size_t end;
} layout;

static layout lay_out(size_t outputs, size_t inputs) {
    MF_ASSERT(outputs > 0 && outputs <= MF_MATRIX_SIDE_MAX);
    MF_ASSERT(inputs > 0 && inputs <= MF_MATRIX8_INPUTS_MAX);
    size_t width = (outputs + MF_PANEL8 - 1) / MF_PANEL8 * MF_PANEL8;
    size_t depth = (inputs + MF_STEP8 - 1) / MF_STEP8 * MF_STEP8;
    size_t scales = width * depth;
    size_t part = width * sizeof(float);
    return (layout){scales, scales + part, scales + 2 * part, scales + 3 * part,
                    scales + 4 * part};
}

size_t mf_matrix8_bytes(size_t outputs, size_t inputs) {
    size_t end = lay_out(outputs, inputs).end;
    return (end + MF_IMAGE8_ALIGN - 1) / MF_IMAGE8_ALIGN * MF_IMAGE8_ALIGN;
}

/* The factor from v, whose numbers are `stride` apart, to q, and the scale back.
 * Numbers so small that the factor would overflow count as zero. */
static float row_scale(const float *v, size_t width, size_t stride, float *factor) {
    float largest = 0.0F;
    for (size_t i = 0; i < width; i++) {
        largest = fmaxf(largest, fabsf(v[i * stride]));
    }
    if (largest < 1e-30F) {
        *factor = 0.0F;
        return 0.0F;
    }
    *factor = 127.0F / largest;
    return largest / 127.0F;
}

float mf_quantize_row8(const float *v, size_t width, int8_t *out) {
    float factor = 0.0F;
    float scale = row_scale(v, width, 1, &factor);
    for (size_t i = 0; i < width; i++) {
        out[i] = (int8_t)lrintf(v[i] * factor);
    }
    return scale;
}

/* --- one output ------------------------------------------------------------------- */

/* A place for the parts of one output. */
typedef struct output_place {
    unsigned char *bytes; /* the image */
    layout at;
    size_t depth;
    size_t output;
} output_place;

/* Writes the q of one output, number k at q[k * stride], and what goes with them. */
static void write_output(const output_place *to, const int8_t *q, size_t stride,
                         size_t inputs, float scale, const mf_matrix8_part *part) {
    size_t column = to->output % MF_PANEL8;
    size_t place = to->output * sizeof(float);
    unsigned char *cells =
        to->bytes + (to->output - column) * to->depth + column * MF_STEP8;
    double bias = (double)part->bias[to->output - part->first];
    int32_t sum = 0;
    for (size_t k = 0; k < inputs; k++) {
        size_t step = k / MF_STEP8;
        cells[step * MF_PANEL8 * MF_STEP8 + k % MF_STEP8] =
            (unsigned char)q[k * stride];
        sum += q[k * stride];
    }
    bool centred = part->coding == MF_CODING_CENTRED;
    int32_t offset = centred ? -128 * sum : 0;
    double low = centred ? 0.0 : (double)MF_GELU_LOW * (double)scale * sum;
    float shifted = (float)(bias + low);
    memcpy(to->bytes + to->at.scales + place, &scale, sizeof scale);
    memcpy(to->bytes + to->at.bias + place, &shifted, sizeof shifted);
    memcpy(to->bytes + to->at.offsets + place, &offset, sizeof offset);
    memcpy(to->bytes + to->at.sums + place, &sum, sizeof sum);
}

/* One output's weights times their factors. */
static void scaled_weights(const mf_matrix8_part *part, size_t index, size_t inputs,
                           float *out, size_t stride) {
    for (size_t k = 0; k < inputs; k++) {
        float factor = part->factors == NULL ? 1.0F : part->factors[k];
        out[k * stride] = part->weights[index * inputs + k] * factor;
    }
}

/* --- many ------------------------------------------------------------------------- */

static void set_nearest(output_place *to, size_t inputs, const mf_matrix8_part *part) {
    float row[MF_MATRIX8_INPUTS_MAX];
    int8_t q[MF_MATRIX8_INPUTS_MAX];
    MF_ASSERT(inputs <= MF_MATRIX8_INPUTS_MAX);
    for (size_t i = 0; i < part->count; i++) {
        scaled_weights(part, i, inputs, row, 1);
        float scale = mf_quantize_row8(row, inputs, q);
        to->output = part->first + i;
        write_output(to, q, 1, inputs, scale, part);
    }
}

/* MF_ROUNDING_OUTPUTS outputs from number `index` of the part on, or what is left. */
static void set_rounded(output_place *to, size_t inputs, size_t index,
                        const mf_matrix8_part *part) {
    float scales[MF_ROUNDING_OUTPUTS] = {0};
    size_t count = part->count - index;
    count = count < MF_ROUNDING_OUTPUTS ? count : MF_ROUNDING_OUTPUTS;
    float *weights = mf_rounding_weights(part->rounding);
    memset(weights, 0, inputs * MF_ROUNDING_OUTPUTS * sizeof *weights);
    for (size_t n = 0; n < count; n++) {
        float factor = 0.0F;
        scaled_weights(part, index + n, inputs, weights + n, MF_ROUNDING_OUTPUTS);
        scales[n] = row_scale(weights + n, inputs, MF_ROUNDING_OUTPUTS, &factor);
    }
    mf_rounding_run(part->rounding, scales);
    for (size_t n = 0; n < count; n++) {
        to->output = part->first + index + n;
        write_output(to, mf_rounding_result(part->rounding) + n, MF_ROUNDING_OUTPUTS,
                     inputs, scales[n], part);
    }
}

void mf_matrix8_set(void *image, size_t outputs, size_t inputs,
                    const mf_matrix8_part *part) {
    MF_ASSERT(part->first <= outputs && part->count <= outputs - part->first);
    output_place to = {.bytes = image,
                       .at = lay_out(outputs, inputs),
                       .depth = (inputs + MF_STEP8 - 1) / MF_STEP8 * MF_STEP8};
    if (part->rounding == NULL) {
        set_nearest(&to, inputs, part);
        return;
    }
    for (size_t i = 0; i < part->count; i += MF_ROUNDING_OUTPUTS) {
        set_rounded(&to, inputs, i, part);
    }
}

mf_matrix8 mf_matrix8_view(const void *image, size_t outputs, size_t inputs) {
    MF_ASSERT((uintptr_t)image % MF_IMAGE8_ALIGN == 0);
    layout at = lay_out(outputs, inputs);
    const char *bytes = image;
    return (mf_matrix8){
        .outputs = outputs,
        .inputs = inputs,
        .panels = image,
        .scales = (const float *)(const void *)(bytes + at.scales),
        .bias = (const float *)(const void *)(bytes + at.bias),
        .offsets = (const int32_t *)(const void *)(bytes + at.offsets),
        .sums = (const int32_t *)(const void *)(bytes + at.sums),
    };
}
