/* encoder_cache.c - keeps the 8-bit weights of a model in a file.
 *
 * The file is trusted when it is whole (encoder_pack.h) and its model file is the one
 * in the folder: the same by its stamp or, where that differs, say after copying the
 * folder, by the hash of its bytes.  Everything else is as good as no file: it is made
 * anew and replaced.  Processes that do so at the same time write equal files, each
 * atomically.
 *
 * How well 8 bits agree with fp32 is measured when a file is made and kept in it. */
#include "model/encoder_cache.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"

/* What a model is packed by.  None of it is in the comparison below. */
static const char *const calibration[] = {
#define MF_SENTENCE(text) text,
#include "model/calibration.def"
#undef MF_SENTENCE
};
enum {
    CALIBRATION = sizeof calibration / sizeof calibration[0],
    CALIBRATION_WINDOW = 128,      /* tokens of one sentence */
    CALIBRATION_TOKENS_MAX = 6000, /* of all of them; what is beyond is left out */
};

/* What the precisions are compared on: short and long, plain and odd. */
static const char *const sentences[] = {
    "When does the next train to Hamburg leave?",
    "She moved the budget meeting to Friday, because two people were on holiday.",
    "pip install numpy==1.26.4  # fails with error code 0x80070005",
    "My sister's birthday is on the 14th of March.",
    "ok",
    "I love hiking in the mountains, but my knee hurts after long walks.",
    "The quick brown fox jumps over the lazy dog.",
    "Thanks! That was really helpful :)",
    "Wo finde ich den Schl\u00fcssel f\u00fcr den Keller?",
    "def add(a, b): return a + b",
    "The invoice of $1,299.00 was paid on 2024-03-05 by credit card.",
    "He said he would never go back to that restaurant again.",
    "https://example.com/docs/index.html?page=2",
    "Can you recommend a good book about the history of medicine?",
    "THE SERVER IS DOWN AGAIN!!!",
    "Mix the flour with water and salt, then let the dough rest overnight.",
};
enum { SENTENCES = sizeof sentences / sizeof sentences[0] };

_Static_assert((int)SENTENCES <= (int)MF_ENCODE_BATCH_MAX, "one call takes them all");

/* --- the file it was made from ---------------------------------------------------- */

static mf_rc hash_source(const char *dir, uint64_t out[2], mf_err *err) {
    char path[MF_PATH_MAX];
    mf_file_view view;
    MF_TRY(mf_path_join(path, sizeof path, dir, MF_MODEL_FILE, err));
    MF_TRY(mf_file_map(path, &view, err));
    XXH128_hash_t hash = XXH3_128bits(view.p, view.size);
    mf_file_unmap(&view);
    out[0] = hash.low64;
    out[1] = hash.high64;
    return MF_OK;
}

static bool is_source(const char *dir, const mf_pack_source *source) {
    char path[MF_PATH_MAX];
    mf_file_stamp stamp;
    uint64_t hash[2];
    if (mf_path_join(path, sizeof path, dir, MF_MODEL_FILE, NULL) != MF_OK ||
        mf_file_stamp_get(path, &stamp, NULL) != MF_OK) {
        return false;
    }
    if (mf_file_stamp_eq(&stamp, &source->stamp)) {
        return true;
    }
    return stamp.bytes == source->stamp.bytes &&
           hash_source(dir, hash, NULL) == MF_OK && hash[0] == source->hash[0] &&
           hash[1] == source->hash[1];
}

/* --- loading ---------------------------------------------------------------------- */

bool mf_encoder_cache_load(mf_encoder *enc, const char *dir) {
    char path[MF_PATH_MAX];
    mf_file_view view;
    mf_pack pack = {0};
    if (mf_path_join(path, sizeof path, dir, MF_PACK_FILE, NULL) != MF_OK ||
        mf_file_map(path, &view, NULL) != MF_OK) {
        return false;
    }
    mf_str bytes = {(const char *)view.p, view.size};
    if (mf_pack_open(&enc->config, bytes, &pack, NULL) != MF_OK ||
        !is_source(dir, &pack.source)) {
        mf_pack_done(&pack);
        mf_file_unmap(&view);
        return false;
    }
    enc->pack = pack;
    enc->mapped = view;
    return true;
}

void mf_encoder_cache_drop(mf_encoder *enc) {
    mf_pack_done(&enc->pack);
    mf_file_unmap(&enc->mapped);
    mf_free(enc->image);
    enc->image = NULL;
}

/* --- comparing -------------------------------------------------------------------- */

static mf_rc encode_sentences(mf_encoder *enc, mf_lane *lane, mf_precision precision,
                              float *out, mf_err *err) {
    mf_str texts[SENTENCES];
    for (size_t i = 0; i < SENTENCES; i++) {
        texts[i] = mf_str_from(sentences[i]);
    }
    /* A reranker is compared on pairs, by the vector its head reads. */
    const mf_lane_job job = {.query = enc->config.labels > 0 ? &texts[0] : NULL,
                             .texts = texts,
                             .count = SENTENCES,
                             .deadline_ns = MF_NEVER};
    enc->precision = precision;
    mf_rc rc = mf_lane_run(lane, &job, out, NULL, err);
    enc->precision = MF_PRECISION_FP32;
    return rc;
}

/* The least cosine; both are [SENTENCES, dim] of norm 1. */
static float least_cosine(const float *a, const float *b, size_t dim) {
    double least = 1.0;
    for (size_t row = 0; row < SENTENCES; row++, a += dim, b += dim) {
        double dot = 0.0;
        for (size_t i = 0; i < dim; i++) {
            dot += (double)a[i] * (double)b[i];
        }
        least = fmin(least, dot);
    }
    return (float)least;
}

/* What making the image needs for a while: the texts of calibration on their way
 * through the network, all of them layer after layer. */
typedef struct workshop {
    mf_encoder *enc;
    mf_lane *lane;
    size_t tokens;
    size_t count;
    int32_t *ids;    /* [CALIBRATION_TOKENS_MAX]: `tokens` of them */
    size_t *lengths; /* [CALIBRATION]: of `count` texts */
    bool *first;     /* [CALIBRATION_TOKENS_MAX]: whether a text begins there */
    float *x;        /* [tokens, hidden] */
    float *vectors;  /* [2, SENTENCES, hidden]: fp32, then int8 */
} workshop;

static void workshop_done(workshop *w) {
    mf_lane_close(w->lane);
    mf_free(w->ids);
    mf_free(w->lengths);
    mf_free(w->first);
    mf_free(w->x);
    mf_free(w->vectors);
}

static void tokenize(workshop *w) {
    const mf_model_tokenizer *tokenizer = mf_encoder_tokenizer(w->enc);
    size_t window = w->enc->config.window;
    window = window < CALIBRATION_WINDOW ? window : CALIBRATION_WINDOW;
    for (; w->count < CALIBRATION; w->count++) {
        bool cut = false;
        if (CALIBRATION_TOKENS_MAX - w->tokens < window) {
            break;
        }
        w->first[w->tokens] = true;
        w->lengths[w->count] =
            mf_model_tokenizer_encode(tokenizer, mf_str_from(calibration[w->count]),
                                      w->ids + w->tokens, window, &cut);
        w->tokens += w->lengths[w->count];
    }
}

static mf_rc workshop_init(workshop *w, mf_encoder *enc, mf_err *err) {
    size_t hidden = enc->config.hidden;
    *w = (workshop){
        .enc = enc,
        .ids = mf_alloc_array(CALIBRATION_TOKENS_MAX, sizeof *w->ids),
        .lengths = mf_alloc_array(CALIBRATION, sizeof *w->lengths),
        .first = mf_alloc_zero(CALIBRATION_TOKENS_MAX, sizeof *w->first),
        .vectors = mf_alloc_array(2 * SENTENCES * hidden, sizeof *w->vectors),
    };
    mf_rc rc = MF_OK;
    if (w->ids != NULL && w->lengths != NULL && w->first != NULL) {
        tokenize(w);
        w->x = mf_alloc_array(w->tokens * hidden, sizeof *w->x);
    }
    if (w->x == NULL || w->vectors == NULL) {
        rc = MF_FAIL(err, MF_E_NOMEM, "no memory to calibrate");
    } else {
        rc = mf_lane_open(enc, &w->lane, err);
    }
    if (rc != MF_OK) {
        workshop_done(w);
    }
    return rc;
}

/* --- calibrating ------------------------------------------------------------------ */

/* Some texts that go through a lane together. */
typedef struct group {
    size_t text; /* the first */
    size_t count;
    size_t token; /* its first */
    size_t tokens;
} group;

/* Goes on to the next texts; false after the last. */
static bool next_group(const workshop *w, group *g) {
    *g = (group){.text = g->text + g->count, .token = g->token + g->tokens};
    while (g->text + g->count < w->count) {
        size_t length = w->lengths[g->text + g->count];
        if (g->count > 0 && g->tokens + length > MF_GROUP_TOKENS) {
            break;
        }
        g->tokens += length;
        g->count++;
    }
    return g->count > 0;
}

static void embed_texts(workshop *w) {
    size_t hidden = w->enc->config.hidden;
    for (group g = {0}; next_group(w, &g);) {
        mf_lane_embed32(w->lane, &(mf_token_group){.ids = w->ids + g.token,
                                                   .lengths = w->lengths + g.text,
                                                   .count = g.count,
                                                   .tokens = g.tokens});
        memcpy(w->x + g.token * hidden, w->lane->x, g.tokens * hidden * sizeof *w->x);
    }
}

/* Takes all texts through one layer. */
static mf_rc observe_layer(void *context, size_t layer, mf_calibration *out,
                           mf_err *err) {
    workshop *w = context;
    size_t hidden = w->enc->config.hidden;
    (void)err; /* nothing fails here */
    w->lane->calibration = out;
    for (group g = {0}; next_group(w, &g);) {
        size_t bytes = g.tokens * hidden * sizeof *w->x;
        out->first = w->first + g.token;
        memcpy(w->lane->x, w->x + g.token * hidden, bytes);
        mf_lane_layer32(w->lane, layer, g.tokens, w->lengths + g.text, g.count);
        memcpy(w->x + g.token * hidden, w->lane->x, bytes);
    }
    w->lane->calibration = NULL;
    return MF_OK;
}

/* --- making ----------------------------------------------------------------------- */

/* Writes the image and goes over to the file; where that fails, the image stays. */
static void keep(mf_encoder *enc, const char *dir, size_t bytes) {
    char path[MF_PATH_MAX];
    mf_str image = {enc->image, bytes};
    void *kept = enc->image;
    mf_pack pack = enc->pack;
    if (mf_path_join(path, sizeof path, dir, MF_PACK_FILE, NULL) == MF_OK &&
        mf_file_write_atomic(path, image, NULL) == MF_OK &&
        mf_encoder_cache_load(enc, dir)) {
        mf_pack_done(&pack);
        mf_free(kept);
        enc->image = NULL;
    }
}

static mf_rc make_image(mf_encoder *enc, workshop *w, const mf_pack_source *source,
                        mf_err *err) {
    size_t bytes = mf_pack_bytes(&enc->config);
    size_t dim = enc->config.hidden;
    float *vectors8 = w->vectors + SENTENCES * dim;
    MF_ASSERT(w->lane != NULL);
    MF_TRY(encode_sentences(enc, w->lane, MF_PRECISION_FP32, w->vectors, err));
    memset(enc->image, 0, bytes);
    embed_texts(w);
    const mf_pack_work work = {enc->kernels->level, observe_layer, w};
    MF_TRY(mf_pack_build(&enc->config, &enc->weights, &work, enc->image, err));
    mf_pack_seal(enc->image, source, 0.0F);
    mf_str image = {enc->image, bytes};
    MF_TRY(mf_pack_open(&enc->config, image, &enc->pack, err));
    MF_TRY(encode_sentences(enc, w->lane, MF_PRECISION_INT8, vectors8, err));
    enc->pack.agreement = least_cosine(w->vectors, vectors8, dim);
    mf_pack_seal(enc->image, source, enc->pack.agreement);
    return MF_OK;
}

mf_rc mf_encoder_cache_make(mf_encoder *enc, const char *dir,
                            const mf_file_stamp *stamp, mf_err *err) {
    mf_pack_source source = {.stamp = *stamp};
    size_t bytes = mf_pack_bytes(&enc->config);
    workshop w;
    MF_TRY(hash_source(dir, source.hash, err));
    enc->image = mf_alloc_aligned(MF_IMAGE8_ALIGN, bytes);
    if (enc->image == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu bytes of weights", bytes);
    }
    MF_TRY(workshop_init(&w, enc, err));
    mf_rc rc = make_image(enc, &w, &source, err);
    workshop_done(&w);
    if (rc == MF_OK) {
        keep(enc, dir, bytes);
    }
    return rc;
}
