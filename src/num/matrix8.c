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

/* The factor from v to q, and the scale back.  Numbers so small that the factor would
 * overflow count as zero. */
static float row_scale(const float *v, size_t width, float *factor) {
    float largest = 0.0F;
    for (size_t i = 0; i < width; i++) {
        largest = fmaxf(largest, fabsf(v[i]));
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
    float scale = row_scale(v, width, &factor);
    for (size_t i = 0; i < width; i++) {
        out[i] = (int8_t)lrintf(v[i] * factor);
    }
    return scale;
}

/* What one output adds to the image. */
typedef struct output_facts {
    float scale;
    float bias;
    int32_t offset;
    int32_t sum; /* of its q */
} output_facts;

/* Writes the q of one output, whose first cell is `cells`.  `weights` are multiplied by
 * their factors already. */
static output_facts fill_output(unsigned char *cells, const float *weights,
                                size_t inputs, float bias, mf_coding8 coding) {
    float factor = 0.0F;
    output_facts facts = {.scale = row_scale(weights, inputs, &factor)};
    double weight_sum = 0.0;
    for (size_t k = 0; k < inputs; k++) {
        int32_t q = (int32_t)lrintf(weights[k] * factor);
        size_t step = k / MF_STEP8;
        cells[step * MF_PANEL8 * MF_STEP8 + k % MF_STEP8] = (unsigned char)(int8_t)q;
        facts.sum += q;
        weight_sum += (double)weights[k];
    }
    bool centred = coding == MF_CODING_CENTRED;
    facts.offset = centred ? -128 * facts.sum : 0;
    facts.bias =
        centred ? bias : (float)((double)bias + (double)MF_GELU_LOW * weight_sum);
    return facts;
}

void mf_matrix8_set(void *image, size_t outputs, size_t inputs,
                    const mf_matrix8_part *part) {
    MF_ASSERT(part->first <= outputs && part->count <= outputs - part->first);
    layout at = lay_out(outputs, inputs);
    unsigned char *bytes = image;
    size_t depth = (inputs + MF_STEP8 - 1) / MF_STEP8 * MF_STEP8;
    float row[MF_MATRIX8_INPUTS_MAX];
    MF_ASSERT(inputs <= MF_MATRIX8_INPUTS_MAX);
    for (size_t i = 0; i < part->count; i++) {
        size_t output = part->first + i;
        size_t column = output % MF_PANEL8;
        for (size_t k = 0; k < inputs; k++) {
            float factor = part->factors == NULL ? 1.0F : part->factors[k];
            row[k] = part->weights[i * inputs + k] * factor;
        }
        output_facts facts =
            fill_output(bytes + (output - column) * depth + column * MF_STEP8, row,
                        inputs, part->bias[i], part->coding);
        size_t place = output * sizeof(float);
        memcpy(bytes + at.scales + place, &facts.scale, sizeof facts.scale);
        memcpy(bytes + at.bias + place, &facts.bias, sizeof facts.bias);
        memcpy(bytes + at.offsets + place, &facts.offset, sizeof facts.offset);
        memcpy(bytes + at.sums + place, &facts.sum, sizeof facts.sum);
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
