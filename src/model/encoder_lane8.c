/* encoder_lane8.c - the forward pass with 8-bit products.
 *
 * x is kept twice: in fp32, which the residual sums need, and in 8 bits, which the next
 * linear layer takes.  Attention rounds what it multiplies to bf16; norms and sums are
 * in fp32.
 *
 * A text's first token, [CLS], is nearly the same in every text until the last layers,
 * and all others look at it: an error there is an error everywhere.  So what is known
 * of it (mf_first8) is taken away before it is quantised, which leaves little to lose;
 * what the layer makes of that is in the bias of those rows. */
#include <math.h>

#include "base/assert.h"
#include "model/encoder_private.h"

/* Rows of x8 from `first` on. */
static mf_rows8 x8_from(const mf_lane *lane, size_t first) {
    size_t stride = mf_stride8(lane->encoder->config.hidden);
    return (mf_rows8){lane->x8.q + first * stride, lane->x8.scales + first};
}

static void norm8(const mf_lane *lane, const mf_norm8 *weights, const float *from,
                  size_t first, size_t rows) {
    const mf_encoder *enc = lane->encoder;
    mf_rows8 x8 = x8_from(lane, first);
    enc->kernels->layer_norm8(from, rows, enc->config.hidden, weights->exact.gain,
                              weights->exact.bias, weights->shrink, enc->config.epsilon,
                              lane->x + first * enc->config.hidden, &x8);
}

void mf_lane_embed8(mf_lane *lane, const mf_token_group *group) {
    const mf_encoder *enc = lane->encoder;
    const int32_t *ids = group->ids;
    size_t hidden = enc->config.hidden;
    float *x = lane->x;
    bool *first = lane->first;
    for (size_t text = 0; text < group->count; text++) {
        const float *position =
            enc->pack.positions + enc->config.position_first * hidden;
        for (size_t at = 0; at < group->lengths[text]; at++, ids++, x += hidden) {
            MF_ASSERT(*ids >= 0 && (size_t)*ids < enc->config.vocab);
            const int8_t *word = enc->pack.words + (size_t)*ids * hidden;
            float scale = enc->pack.word_scales[*ids];
            for (size_t i = 0; i < hidden; i++) {
                x[i] = (float)word[i] * scale + position[i];
            }
            *first++ = at == 0;
            size_t type = mf_group_type(enc, group, text, at);
            for (size_t i = 0; type > 0 && i < hidden; i++) {
                x[i] += enc->pack.type_steps[i];
            }
            position += hidden;
        }
    }
    norm8(lane, &enc->pack.input_norm, lane->x, 0, group->tokens);
}

/* Quantises the first tokens among rows from `first` on again: without what is known of
 * them.  `shrink` is that of the norm they come from; lane->sum serves as scratch. */
static void quantize_first(const mf_lane *lane, const mf_first8 *what,
                           const float *shrink, size_t first, size_t rows) {
    const mf_encoder *enc = lane->encoder;
    size_t hidden = enc->config.hidden;
    for (size_t row = first; row < first + rows; row++) {
        if (lane->first[row]) {
            const float *x = lane->x + row * hidden;
            mf_rows8 x8 = x8_from(lane, row);
            for (size_t i = 0; i < hidden; i++) {
                lane->sum[i] = (x[i] - what->known[i]) * shrink[i];
            }
            enc->kernels->quantize(lane->sum, 1, hidden, MF_CODING_CENTRED, &x8);
        }
    }
}

void mf_lane_qkv8(mf_lane *lane, const mf_layer8 *layer, size_t tokens) {
    quantize_first(lane, &layer->first_qkv, layer->qkv_shrink, 0, tokens);
    lane->encoder->kernels->linear8(
        &(mf_linear8_call){.matrix = &layer->qkv,
                           .x = lane->x8,
                           .rows = tokens,
                           .y = lane->qkv,
                           .apart = lane->first,
                           .apart_bias = layer->first_qkv.bias});
}

/* Takes what is known of it away from the first token's row of lane->inner, which stays
 * in the range that its coding has. */
static void take_known(float *row, const float *known, size_t count) {
    for (size_t i = 0; i < count; i++) {
        row[i] = fmaxf(row[i] - known[i], MF_GELU_LOW);
    }
}

/* From lane->inner, which belongs to rows from `first` on, to lane->sum. */
static void outer8(mf_lane *lane, const mf_layer8 *layer, size_t first, size_t rows) {
    const mf_kernels *kernels = lane->encoder->kernels;
    const mf_encoder_config *config = &lane->encoder->config;
    for (size_t row = 0; row < rows; row++) {
        if (lane->first[first + row]) {
            take_known(lane->inner + row * config->inner, layer->first_outer.known,
                       config->inner);
        }
    }
    kernels->quantize(lane->inner, rows, config->inner, MF_CODING_GELU, &lane->inner8);
    kernels->linear8(&(mf_linear8_call){.matrix = &layer->outer,
                                        .x = lane->inner8,
                                        .rows = rows,
                                        .epilogue = MF_EPILOGUE_ADD,
                                        .residual = lane->x + first * config->hidden,
                                        .y = lane->sum,
                                        .apart = lane->first + first,
                                        .apart_bias = layer->first_outer.bias});
}

void mf_lane_feed_forward8(mf_lane *lane, const mf_layer8 *layer, size_t first,
                           size_t rows) {
    const mf_kernels *kernels = lane->encoder->kernels;
    const mf_encoder_config *config = &lane->encoder->config;
    const float *x = lane->x + first * config->hidden;
    kernels->quantize(lane->context + first * config->hidden, rows, config->hidden,
                      MF_CODING_CENTRED, &lane->context8);
    kernels->linear8(&(mf_linear8_call){.matrix = &layer->out,
                                        .x = lane->context8,
                                        .rows = rows,
                                        .epilogue = MF_EPILOGUE_ADD,
                                        .residual = x,
                                        .y = lane->sum});
    norm8(lane, &layer->attention_norm, lane->sum, first, rows);
    quantize_first(lane, &layer->first_inner, layer->attention_norm.shrink, first,
                   rows);
    kernels->linear8(&(mf_linear8_call){.matrix = &layer->inner,
                                        .x = x8_from(lane, first),
                                        .rows = rows,
                                        .epilogue = MF_EPILOGUE_GELU,
                                        .y = lane->inner,
                                        .apart = lane->first + first,
                                        .apart_bias = layer->first_inner.bias});
    outer8(lane, layer, first, rows);
    norm8(lane, &layer->output_norm, lane->sum, first, rows);
}
