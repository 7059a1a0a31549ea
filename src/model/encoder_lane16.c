/* encoder_lane16.c - the forward pass with bf16 products.
 *
 * Everything is as in fp32 but the linear layers, whose activations are rounded to bf16
 * on the way in.  Residual sums, norms and attention see the numbers as they are. */
#include "model/encoder_private.h"

/* Rounds `rows` rows of `from` and takes them through a layer. */
static void linear16(const mf_lane *lane, const float *from, size_t width,
                     mf_linear16_call call) {
    const mf_kernels *kernels = lane->encoder->kernels;
    kernels->round16(from, call.rows, width, lane->x16);
    call.x = lane->x16;
    kernels->linear16(&call);
}

static void norm16(const mf_lane *lane, const mf_norm *weights, size_t rows,
                   float *to) {
    const mf_encoder *enc = lane->encoder;
    enc->kernels->layer_norm(lane->sum, rows, enc->config.hidden, weights->gain,
                             weights->bias, enc->config.epsilon, to);
}

void mf_lane_qkv16(mf_lane *lane, size_t index, size_t tokens) {
    const mf_encoder *enc = lane->encoder;
    linear16(lane, lane->x, enc->config.hidden,
             (mf_linear16_call){
                 .matrix = enc->layers16[index].qkv, .rows = tokens, .y = lane->qkv});
}

void mf_lane_feed_forward16(mf_lane *lane, size_t index, size_t first, size_t rows) {
    const mf_encoder *enc = lane->encoder;
    const mf_layer16 *layer = &enc->layers16[index];
    const mf_layer_weights *norms = &enc->weights.layers[index];
    size_t hidden = enc->config.hidden;
    float *x = lane->x + first * hidden;
    linear16(lane, lane->context + first * hidden, hidden,
             (mf_linear16_call){.matrix = layer->out,
                                .rows = rows,
                                .epilogue = MF_EPILOGUE_ADD,
                                .residual = x,
                                .y = lane->sum});
    norm16(lane, &norms->attention_norm, rows, x);
    linear16(lane, x, hidden,
             (mf_linear16_call){.matrix = layer->inner,
                                .rows = rows,
                                .epilogue = MF_EPILOGUE_GELU,
                                .y = lane->inner});
    linear16(lane, lane->inner, enc->config.inner,
             (mf_linear16_call){.matrix = layer->outer,
                                .rows = rows,
                                .epilogue = MF_EPILOGUE_ADD,
                                .residual = x,
                                .y = lane->sum});
    norm16(lane, &norms->output_norm, rows, x);
}
