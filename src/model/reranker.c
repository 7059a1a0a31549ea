/* reranker.c - pairs of texts, and the head that reads what the network makes of them.
 *
 * A pair is one text to the network: first A sep B sep, with other token types for B
 * where the model has them; some tokenizers put two separators between A and B. */
#include "model/reranker.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "model/encoder_private.h"

/* --- pairs ------------------------------------------------------------------------ */

/* Tokens of the two texts together. */
static size_t pair_room(const mf_encoder *enc) {
    return enc->config.window - 2 - enc->frame.sep_count;
}

/* How many tokens of two texts are kept if `room` are to be had: first only the longer
 * one is cut; if that does not do, the room is halved, and an odd token goes to the
 * second text or, with `first_longer`, to the first one.  That is "longest_first" of
 * the tokenizers library. */
static void share_room(size_t room, bool first_longer, size_t *first, size_t *second) {
    size_t *shorter = first_longer ? second : first;
    size_t *longer = first_longer ? first : second;
    if (*shorter + *longer <= room) {
        return;
    }
    if (*shorter < room && room - *shorter >= *shorter) {
        *longer = room - *shorter;
        return;
    }
    *shorter = room / 2;
    *longer = room - room / 2;
}

void mf_pair_begin(const mf_encoder *enc, mf_str query, int32_t *ids,
                   mf_pair_query *out) {
    *out = (mf_pair_query){.text = query, .ids = ids};
    out->count = mf_model_tokenizer_pieces(enc->tokenizer, query, ids, pair_room(enc),
                                           &out->cut);
}

/* Is A longer than B?  Where both have more tokens than were kept, they are counted. */
static bool first_is_longer(const mf_encoder *enc, const mf_pair_query *query,
                            mf_str text, size_t text_count, bool text_cut) {
    if (!query->cut || !text_cut) {
        return query->count != text_count ? query->count > text_count : query->cut;
    }
    bool ignored = false;
    return mf_model_tokenizer_pieces(enc->tokenizer, query->text, NULL, SIZE_MAX,
                                     &ignored) >
           mf_model_tokenizer_pieces(enc->tokenizer, text, NULL, SIZE_MAX, &ignored);
}

size_t mf_pair_encode(const mf_encoder *enc, const mf_pair_query *query, mf_str text,
                      int32_t *text_ids, int32_t *out, size_t *second, bool *cut) {
    size_t room = pair_room(enc);
    size_t first_count = query->count;
    bool text_cut = false;
    size_t text_count =
        mf_model_tokenizer_pieces(enc->tokenizer, text, text_ids, room, &text_cut);
    *cut = text_cut || query->cut || first_count + text_count > room;
    if (*cut) {
        bool longer = first_is_longer(enc, query, text, text_count, text_cut);
        share_room(room, longer, &first_count, &text_count);
    }
    size_t at = 0;
    out[at++] = enc->frame.first;
    memcpy(out + at, query->ids, first_count * sizeof *out);
    at += first_count;
    for (size_t i = 0; i < enc->frame.sep_count; i++) {
        out[at++] = enc->frame.sep;
    }
    *second = at;
    memcpy(out + at, text_ids, text_count * sizeof *out);
    at += text_count;
    out[at++] = enc->frame.sep;
    return at;
}

/* --- the head --------------------------------------------------------------------- */

mf_rc mf_lane_classify(mf_lane *lane, const mf_token_group *group, float *logits,
                       mf_err *err) {
    const mf_encoder *enc = lane->encoder;
    size_t hidden = enc->config.hidden;
    const float *x = lane->x;
    float *firsts = lane->context; /* [count, hidden]: nobody needs it any more */
    float *dense = lane->sum;
    MF_ASSERT(group->count <= MF_GROUP_TOKENS);
    for (size_t text = 0; text < group->count; text++) {
        memcpy(firsts + text * hidden, x, hidden * sizeof *x);
        x += group->lengths[text] * hidden;
    }
    enc->kernels->linear(&(mf_linear_call){
        .matrix = enc->dense, .x = firsts, .rows = group->count, .y = dense});
    for (size_t i = 0; i < group->count * hidden; i++) {
        dense[i] = enc->config.network == MF_NETWORK_DISTILBERT ? fmaxf(dense[i], 0.0F)
                                                                : tanhf(dense[i]);
    }
    enc->kernels->linear(&(mf_linear_call){
        .matrix = enc->classes, .x = dense, .rows = group->count, .y = logits});
    if (!enc->kernels->all_finite(logits, group->count * enc->config.labels)) {
        return MF_FAIL(err, MF_E_CORRUPT, "model '%s' gives a pair no finite score",
                       enc->info.name);
    }
    return MF_OK;
}

/* --- texts ------------------------------------------------------------------------ */

mf_rc mf_lane_score(mf_lane *lane, mf_str query, const mf_str *texts, size_t count,
                    int64_t deadline_ns, float *logits, size_t *truncated,
                    mf_err *err) {
    if (lane->encoder->config.labels == 0) {
        return MF_FAIL(err, MF_E_INVAL,
                       "model '%s' is a sentence encoder; scoring takes a reranker",
                       lane->encoder->info.name);
    }
    const mf_lane_job job = {.query = &query,
                             .texts = texts,
                             .count = count,
                             .logits = true,
                             .deadline_ns = deadline_ns};
    return mf_lane_run(lane, &job, logits, truncated, err);
}
