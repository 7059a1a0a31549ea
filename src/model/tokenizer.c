/* tokenizer.c - picks the kind of tokenizer a folder has. */
#include "model/tokenizer.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "model/tokenizer_files.h"
#include "model/unigram.h"

/* One of the two is there. */
struct mf_model_tokenizer {
    mf_wordpiece *wordpiece;
    mf_unigram *unigram;
};

static mf_rc open_kind(const char *dir, const mf_tokenizer_files *files,
                       mf_model_tokenizer *out, mf_err *err) {
    yyjson_val *model = yyjson_obj_get(mf_tokenizer_root(files), "model");
    if (yyjson_equals_str(yyjson_obj_get(model, "type"), "Unigram")) {
        return mf_unigram_open(files, &out->unigram, err);
    }
    return mf_wordpiece_open_files(dir, files, &out->wordpiece, err);
}

mf_rc mf_model_tokenizer_open(const char *model_dir, mf_model_tokenizer **out,
                              mf_err *err) {
    mf_tokenizer_files files;
    mf_model_tokenizer *made = mf_alloc_zero(1, sizeof *made);
    if (made == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a tokenizer");
    }
    mf_rc rc = mf_tokenizer_files_read(model_dir, &files, err);
    if (rc == MF_OK) {
        rc = open_kind(model_dir, &files, made, err);
    }
    mf_tokenizer_files_done(&files);
    if (rc != MF_OK) {
        mf_model_tokenizer_close(made);
        return mf_err_wrap(err, rc, "tokenizer of '%s'", model_dir);
    }
    *out = made;
    return MF_OK;
}

void mf_model_tokenizer_close(mf_model_tokenizer *tokenizer) {
    if (tokenizer != NULL) {
        mf_wordpiece_close(tokenizer->wordpiece);
        mf_unigram_close(tokenizer->unigram);
        mf_free(tokenizer);
    }
}

size_t mf_model_tokenizer_vocab_size(const mf_model_tokenizer *t) {
    return t->wordpiece != NULL ? mf_wordpiece_vocab_size(t->wordpiece)
                                : mf_unigram_vocab_size(t->unigram);
}

size_t mf_model_tokenizer_pieces(const mf_model_tokenizer *t, mf_str text, int32_t *ids,
                                 size_t ids_max, bool *truncated) {
    return t->wordpiece != NULL
               ? mf_wordpiece_pieces(t->wordpiece, text, ids, ids_max, truncated)
               : mf_unigram_pieces(t->unigram, text, ids, ids_max, truncated);
}

mf_frame mf_model_tokenizer_frame(const mf_model_tokenizer *t) {
    return t->wordpiece != NULL ? mf_wordpiece_frame(t->wordpiece)
                                : mf_unigram_frame(t->unigram);
}

size_t mf_model_tokenizer_encode(const mf_model_tokenizer *t, mf_str text, int32_t *ids,
                                 size_t ids_max, bool *truncated) {
    MF_ASSERT(ids_max >= 2);
    mf_frame frame = mf_model_tokenizer_frame(t);
    bool cut = false;
    size_t count = mf_model_tokenizer_pieces(t, text, ids + 1, ids_max - 2, &cut);
    ids[0] = frame.first;
    ids[count + 1] = frame.sep;
    if (truncated != NULL) {
        *truncated = cut;
    }
    return count + 2;
}

size_t mf_model_tokenizer_fit(const mf_model_tokenizer *t, mf_str text,
                              size_t ids_max) {
    return t->wordpiece != NULL ? mf_wordpiece_fit(t->wordpiece, text, ids_max)
                                : mf_unigram_fit(t->unigram, text, ids_max);
}
