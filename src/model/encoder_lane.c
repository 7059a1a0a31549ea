/* encoder_lane.c - the forward pass.
 *
 * Texts go through in groups: as many as fit in MF_GROUP_TOKENS tokens, or one longer
 * text.  A group's tokens are one matrix, so the linear layers work on full tiles
 * however short the texts are; only attention looks at texts one by one.  Nothing is
 * padded, and no kernel's result for a row depends on the other rows, which is why a
 * text has the same vector alone and in any batch.
 *
 * What follows attention works on each token by itself and is done in slices of
 * MF_GROUP_TOKENS tokens, so a long text needs no larger buffer for the widest layer.
 * In 8 bits the slices are smaller, MF_SLICE8_TOKENS: a layer's weights fit in the
 * second cache then, together with what a slice writes. */
#include "model/encoder.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "model/encoder_private.h"
#include "num/pool.h"

enum { CACHE_LINE = 64, LINE_FLOATS = CACHE_LINE / sizeof(float) };

_Static_assert(MF_STRIDE8 % CACHE_LINE == 0, "rows of 8 bits fill whole lines");

/* --- making a lane ---------------------------------------------------------------- */

/* Sets `count` floats aside, rounded up to whole cache lines; returns where they
 * begin. */
static size_t reserve(size_t *used, size_t count) {
    size_t at = *used;
    *used += (count + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
    return at;
}

/* Where rows of 8 bits begin, in floats. */
typedef struct rows8_place {
    size_t q;
    size_t scales;
} rows8_place;

static rows8_place reserve8(size_t *used, size_t rows, size_t width) {
    size_t q = reserve(used, rows * mf_stride8(width) / sizeof(float));
    return (rows8_place){q, reserve(used, rows)};
}

static mf_rows8 rows8_at(float *block, rows8_place place) {
    return (mf_rows8){(uint8_t *)(block + place.q), block + place.scales};
}

static mf_rc make_buffers(mf_lane *lane, mf_err *err) {
    const mf_encoder_config *config = &lane->encoder->config;
    size_t tokens = lane->tokens_max;
    size_t used = 0;
    size_t x = reserve(&used, tokens * config->hidden);
    size_t qkv = reserve(&used, tokens * 3 * config->hidden);
    size_t context = reserve(&used, tokens * config->hidden);
    size_t sum = reserve(&used, MF_GROUP_TOKENS * config->hidden);
    size_t inner = reserve(&used, MF_GROUP_TOKENS * config->inner);
    size_t scratch =
        reserve(&used, mf_attention_scratch(config->window, config->head_dim));
    rows8_place x8 = reserve8(&used, tokens, config->hidden);
    rows8_place context8 = reserve8(&used, MF_GROUP_TOKENS, config->hidden);
    rows8_place inner8 = reserve8(&used, MF_GROUP_TOKENS, config->inner);
    size_t narrow = tokens * mf_stride16(config->hidden);
    size_t wide = MF_GROUP_TOKENS * mf_stride16(config->inner);
    size_t x16 = reserve(&used, narrow > wide ? narrow : wide);
    lane->block = mf_alloc_aligned(CACHE_LINE, used * sizeof(float));
    lane->ids = mf_alloc_array(tokens + config->window, sizeof *lane->ids);
    lane->lengths = mf_alloc_array(MF_ENCODE_BATCH_MAX, sizeof *lane->lengths);
    lane->seconds = mf_alloc_array(MF_ENCODE_BATCH_MAX, sizeof *lane->seconds);
    lane->first = mf_alloc_array(tokens, sizeof *lane->first);
    bool ranks = config->labels > 0;
    if (ranks) {
        lane->pair_ids = mf_alloc_array(2 * config->window, sizeof *lane->pair_ids);
    }
    if (lane->block == NULL || lane->ids == NULL || lane->lengths == NULL ||
        lane->seconds == NULL || lane->first == NULL ||
        (ranks && lane->pair_ids == NULL)) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an encoder lane");
    }
    lane->x = lane->block + x;
    lane->qkv = lane->block + qkv;
    lane->context = lane->block + context;
    lane->sum = lane->block + sum;
    lane->inner = lane->block + inner;
    lane->scratch = lane->block + scratch;
    lane->x8 = rows8_at(lane->block, x8);
    lane->context8 = rows8_at(lane->block, context8);
    lane->inner8 = rows8_at(lane->block, inner8);
    lane->x16 = lane->block + x16;
    memset(lane->x8.q, 0, tokens * mf_stride8(config->hidden));
    memset(lane->context8.q, 0, MF_GROUP_TOKENS * mf_stride8(config->hidden));
    memset(lane->inner8.q, 0, MF_GROUP_TOKENS * mf_stride8(config->inner));
    return MF_OK;
}

mf_rc mf_lane_open(mf_encoder *enc, mf_lane **out, mf_err *err) {
    mf_lane *lane = mf_alloc_zero(1, sizeof *lane);
    if (lane == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an encoder lane");
    }
    size_t window = enc->config.window;
    lane->encoder = mf_encoder_ref(enc);
    lane->tokens_max = window > MF_GROUP_TOKENS ? window : MF_GROUP_TOKENS;
    mf_rc rc = make_buffers(lane, err);
    if (rc != MF_OK) {
        mf_lane_close(lane);
        return rc;
    }
    *out = lane;
    return MF_OK;
}

void mf_lane_close(mf_lane *lane) {
    if (lane != NULL) {
        mf_free(lane->block);
        mf_free(lane->ids);
        mf_free(lane->lengths);
        mf_free(lane->seconds);
        mf_free(lane->first);
        mf_free(lane->pair_ids);
        (void)mf_encoder_unref(lane->encoder); /* always NULL */
        mf_free(lane);
    }
}

void mf_lane_stop_on(mf_lane *lane, const atomic_bool *stop) {
    lane->stop = stop;
}

/* --- one group through the network ------------------------------------------------ */

static void norm(const mf_lane *lane, const mf_norm *weights, const float *from,
                 size_t rows, float *to) {
    const mf_encoder *enc = lane->encoder;
    enc->kernels->layer_norm(from, rows, enc->config.hidden, weights->gain,
                             weights->bias, enc->config.epsilon, to);
}

void mf_lane_embed32(mf_lane *lane, const mf_token_group *group) {
    const mf_encoder *enc = lane->encoder;
    const int32_t *ids = group->ids;
    size_t hidden = enc->config.hidden;
    float *x = lane->x;
    for (size_t text = 0; text < group->count; text++) {
        const float *position =
            enc->weights.positions + enc->config.position_first * hidden;
        for (size_t at = 0; at < group->lengths[text]; at++, ids++, x += hidden) {
            MF_ASSERT(*ids >= 0 && (size_t)*ids < enc->config.vocab);
            const float *word = enc->weights.words + (size_t)*ids * hidden;
            const float *type =
                enc->weights.types + mf_group_type(enc, group, text, at) * hidden;
            for (size_t i = 0; i < hidden; i++) {
                x[i] = word[i] + type[i] + position[i];
            }
            position += hidden;
        }
    }
    norm(lane, &enc->weights.input_norm, lane->x, group->tokens, lane->x);
}

/* Shows rows of what goes into a linear layer to whoever asked for it. */
static void show(const mf_lane *lane, mf_place place, const float *x, size_t first,
                 size_t rows) {
    if (lane->calibration != NULL) {
        mf_calibration_note(lane->calibration, place, x, first, rows);
    }
}

/* From queries, keys and values to the context, text by text. */
static void attend(mf_lane *lane, const size_t *lengths, size_t count) {
    const mf_encoder *enc = lane->encoder;
    size_t hidden = enc->config.hidden;
    size_t first = 0;
    for (size_t text = 0; text < count; text++) {
        const mf_attention_call call = {
            .qkv = lane->qkv + first * 3 * hidden,
            .tokens = lengths[text],
            .heads = enc->config.heads,
            .head_dim = enc->config.head_dim,
            .context = lane->context + first * hidden,
            .scratch = lane->scratch,
            .relative = enc->relative,
            .relative_span = enc->config.window,
        };
        if (enc->precision == MF_PRECISION_FP32) {
            enc->kernels->attention(&call);
        } else {
            enc->kernels->attention16(&call);
        }
        first += lengths[text];
    }
}

/* From the context of rows first..first+rows to their next x. */
static void feed_forward(mf_lane *lane, size_t index, size_t first, size_t rows) {
    const mf_kernels *kernels = lane->encoder->kernels;
    const mf_layer *layer = &lane->encoder->layers[index];
    const mf_layer_weights *norms = &lane->encoder->weights.layers[index];
    float *x = lane->x + first * lane->encoder->config.hidden;
    const float *context = lane->context + first * lane->encoder->config.hidden;
    show(lane, MF_PLACE_OUT, context, first, rows);
    kernels->linear(&(mf_linear_call){.matrix = layer->out,
                                      .x = context,
                                      .rows = rows,
                                      .epilogue = MF_EPILOGUE_ADD,
                                      .residual = x,
                                      .y = lane->sum});
    norm(lane, &norms->attention_norm, lane->sum, rows, x);
    show(lane, MF_PLACE_INNER, x, first, rows);
    kernels->linear(&(mf_linear_call){.matrix = layer->inner,
                                      .x = x,
                                      .rows = rows,
                                      .epilogue = MF_EPILOGUE_GELU,
                                      .y = lane->inner});
    show(lane, MF_PLACE_OUTER, lane->inner, first, rows);
    kernels->linear(&(mf_linear_call){.matrix = layer->outer,
                                      .x = lane->inner,
                                      .rows = rows,
                                      .epilogue = MF_EPILOGUE_ADD,
                                      .residual = x,
                                      .y = lane->sum});
    norm(lane, &norms->output_norm, lane->sum, rows, x);
}

void mf_lane_layer32(mf_lane *lane, size_t index, size_t tokens, const size_t *lengths,
                     size_t count) {
    const mf_encoder *enc = lane->encoder;
    show(lane, MF_PLACE_QKV, lane->x, 0, tokens);
    enc->kernels->linear(&(mf_linear_call){.matrix = enc->layers[index].qkv,
                                           .x = lane->x,
                                           .rows = tokens,
                                           .y = lane->qkv});
    attend(lane, lengths, count);
    for (size_t first = 0; first < tokens; first += MF_GROUP_TOKENS) {
        size_t rest = tokens - first;
        feed_forward(lane, index, first,
                     rest < MF_GROUP_TOKENS ? rest : MF_GROUP_TOKENS);
    }
}

static void layer8(mf_lane *lane, const mf_layer8 *layer, size_t tokens,
                   const size_t *lengths, size_t count) {
    mf_lane_qkv8(lane, layer, tokens);
    attend(lane, lengths, count);
    for (size_t first = 0; first < tokens; first += MF_SLICE8_TOKENS) {
        size_t rest = tokens - first;
        mf_lane_feed_forward8(lane, layer, first,
                              rest < MF_SLICE8_TOKENS ? rest : MF_SLICE8_TOKENS);
    }
}

static void layer16(mf_lane *lane, size_t index, size_t tokens, const size_t *lengths,
                    size_t count) {
    mf_lane_qkv16(lane, index, tokens);
    attend(lane, lengths, count);
    for (size_t first = 0; first < tokens; first += MF_GROUP_TOKENS) {
        size_t rest = tokens - first;
        mf_lane_feed_forward16(lane, index, first,
                               rest < MF_GROUP_TOKENS ? rest : MF_GROUP_TOKENS);
    }
}

/* One vector per text from the last layer's tokens. */
static mf_rc pool(mf_lane *lane, const mf_token_group *group, float *out, mf_err *err) {
    const mf_encoder *enc = lane->encoder;
    size_t hidden = enc->config.hidden;
    const float *x = lane->x;
    for (size_t text = 0; text < group->count; text++, out += enc->dim) {
        size_t rows = group->lengths[text];
        if (enc->config.pooling == MF_POOLING_MAX) {
            mf_pool_max(x, rows, hidden, lane->sum);
        } else {
            bool first_only = enc->config.pooling == MF_POOLING_CLS;
            mf_pool_mean(x, first_only ? 1 : rows, hidden, lane->sum);
        }
        memcpy(out, lane->sum, enc->dim * sizeof *out);
        if (!mf_normalize(out, enc->dim)) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "model '%s' gives a text no finite vector", enc->info.name);
        }
        x += rows * hidden;
    }
    return MF_OK;
}

/* Leaves what the last layer makes of the group in lane->x. */
static mf_rc run_layers(mf_lane *lane, const mf_token_group *group, int64_t deadline_ns,
                        mf_err *err) {
    const mf_encoder *enc = lane->encoder;
    MF_ASSERT(group->tokens <= lane->tokens_max);
    bool int8 = enc->precision == MF_PRECISION_INT8;
    if (int8) {
        mf_lane_embed8(lane, group);
    } else {
        mf_lane_embed32(lane, group);
    }
    for (size_t i = 0; i < enc->config.layers; i++) {
        if (mf_now_ns() >= deadline_ns) {
            return MF_FAIL(err, MF_E_TIMEOUT, "encoding: deadline passed in layer %zu",
                           i);
        }
        if (lane->stop != NULL && atomic_load(lane->stop)) {
            return MF_FAIL(err, MF_E_STOPPING, "encoding: stopped in layer %zu", i);
        }
        if (int8) {
            layer8(lane, &enc->pack.layers[i], group->tokens, group->lengths,
                   group->count);
        } else if (enc->precision == MF_PRECISION_BF16) {
            layer16(lane, i, group->tokens, group->lengths, group->count);
        } else {
            mf_lane_layer32(lane, i, group->tokens, group->lengths, group->count);
        }
    }
    return MF_OK;
}

mf_rc mf_lane_encode_ids(mf_lane *lane, const int32_t *ids, const size_t *lengths,
                         size_t count, int64_t deadline_ns, float *out, mf_err *err) {
    mf_token_group group = {.ids = ids, .lengths = lengths, .count = count};
    for (size_t text = 0; text < count; text++) {
        MF_ASSERT(lengths[text] > 0 && lengths[text] <= lane->encoder->config.window);
        group.tokens += lengths[text];
    }
    MF_TRY(run_layers(lane, &group, deadline_ns, err));
    return pool(lane, &group, out, err);
}

/* --- texts ------------------------------------------------------------------------ */

/* Runs the texts whose tokens wait in lane->ids for their group to be complete. */
static mf_rc run_group(mf_lane *lane, const mf_lane_job *job, mf_token_group *ready,
                       float **out, mf_err *err) {
    const mf_encoder *enc = lane->encoder;
    MF_TRY(run_layers(lane, ready, job->deadline_ns, err));
    MF_TRY(job->logits ? mf_lane_classify(lane, ready, *out, err)
                       : pool(lane, ready, *out, err));
    *out += ready->count * (job->logits ? enc->config.labels : enc->dim);
    ready->count = 0;
    ready->tokens = 0;
    return MF_OK;
}

static mf_rc run_texts(mf_lane *lane, const mf_lane_job *job, float *out,
                       size_t *truncated, mf_err *err) {
    const mf_encoder *enc = lane->encoder;
    size_t window = enc->config.window;
    mf_pair_query query = {.count = 0};
    mf_token_group ready = {.ids = lane->ids, .lengths = lane->lengths};
    if (job->query != NULL) {
        mf_pair_begin(enc, *job->query, lane->pair_ids, &query);
        ready.seconds = lane->seconds;
    }
    for (size_t text = 0; text < job->count; text++) {
        int32_t *ids = lane->ids + ready.tokens;
        bool cut = false;
        size_t second = 0;
        size_t length =
            job->query == NULL
                ? mf_model_tokenizer_encode(enc->tokenizer, job->texts[text], ids,
                                            window, &cut)
                : mf_pair_encode(enc, &query, job->texts[text], lane->pair_ids + window,
                                 ids, &second, &cut);
        *truncated += cut;
        if (ready.count > 0 && ready.tokens + length > MF_GROUP_TOKENS) {
            MF_TRY(run_group(lane, job, &ready, &out, err));
            memmove(lane->ids, ids, length * sizeof *ids);
        }
        lane->seconds[ready.count] = second;
        lane->lengths[ready.count++] = length;
        ready.tokens += length;
    }
    return ready.count == 0 ? MF_OK : run_group(lane, job, &ready, &out, err);
}

static mf_rc check_bytes(size_t bytes, size_t text, mf_err *err) {
    if (bytes > MF_ENCODE_BYTES_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "text %zu has %zu bytes, allowed are %d", text,
                       bytes, MF_ENCODE_BYTES_MAX);
    }
    return MF_OK;
}

mf_rc mf_lane_run(mf_lane *lane, const mf_lane_job *job, float *out, size_t *truncated,
                  mf_err *err) {
    if (job->count > MF_ENCODE_BATCH_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "%zu texts in one call, allowed are %d",
                       job->count, MF_ENCODE_BATCH_MAX);
    }
    if (job->query != NULL && job->query->len > MF_ENCODE_BYTES_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "the question has %zu bytes, allowed are %d",
                       job->query->len, MF_ENCODE_BYTES_MAX);
    }
    for (size_t text = 0; text < job->count; text++) {
        MF_TRY(check_bytes(job->texts[text].len, text, err));
    }
    size_t cut_count = 0;
    mf_noalloc_begin();
    mf_rc rc = run_texts(lane, job, out, &cut_count, err);
    mf_noalloc_end();
    if (rc == MF_OK && truncated != NULL) {
        *truncated = cut_count;
    }
    return rc;
}

mf_rc mf_lane_encode(mf_lane *lane, const mf_str *texts, size_t count,
                     int64_t deadline_ns, float *out, size_t *truncated, mf_err *err) {
    if (lane->encoder->config.labels > 0) {
        return MF_FAIL(err, MF_E_INVAL,
                       "model '%s' is a reranker; vectors take a sentence encoder",
                       lane->encoder->info.name);
    }
    const mf_lane_job job = {
        .texts = texts, .count = count, .deadline_ns = deadline_ns};
    return mf_lane_run(lane, &job, out, truncated, err);
}
