/* tokenizer_api.c - include/memfuse/tokenizer.h on top of src/model/: one handle for
 * two kinds of tokenizers. */
#include "memfuse/tokenizer.h"

#include <stdio.h>

#include "base/alloc.h"
#include "model/encoding.h"
#include "model/wordpiece.h"

/* Exactly one of the two. */
struct mf_tokenizer {
    mf_encoding *encoding;
    mf_wordpiece *wordpiece;
};

static int give(const mf_err *err, mf_rc rc, char *error) {
    if (error != NULL && rc != MF_OK) {
        (void)snprintf(error, MF_ENGINE_ERROR_TEXT, "%s", err->text);
    }
    return (int)rc;
}

const char *const *mf_tokenizer_encodings(void) {
    static const char *const names[] = {"o200k_base", "cl100k_base", NULL};
    _Static_assert(sizeof names / sizeof names[0] == MF_ENCODING_COUNT + 1,
                   "every encoding is listed");
    return names;
}

static mf_rc open_encoding(const char *name, const char *ranks_path, mf_tokenizer *made,
                           mf_err *err) {
    mf_encoding_kind kind;
    if (!mf_encoding_from_name(name, &kind)) {
        return MF_FAIL(err, MF_E_INVAL,
                       "there is no encoding '%.64s'; there are o200k_base and "
                       "cl100k_base",
                       name);
    }
    mf_rc rc = mf_encoding_open(kind, ranks_path, &made->encoding, err);
    return rc == MF_E_NOTFOUND ? MF_FAIL(err, rc,
                                         "there is no rank file '%s' for %s; "
                                         "`tools/setup.sh model` fetches it",
                                         ranks_path, name)
                               : rc;
}

/* Hands a tokenizer out, or takes it down. */
static int finish(mf_rc rc, const mf_err *err, mf_tokenizer *made, mf_tokenizer **out,
                  char *error) {
    if (rc != MF_OK) {
        mf_tokenizer_close(made);
    } else {
        *out = made;
    }
    return give(err, rc, error);
}

int mf_tokenizer_open_encoding(const char *name, const char *ranks_path,
                               mf_tokenizer **out, char *error) {
    mf_err err = {0};
    mf_tokenizer *made = mf_alloc_zero(1, sizeof *made);
    mf_rc rc = made != NULL ? open_encoding(name, ranks_path, made, &err)
                            : MF_FAIL(&err, MF_E_NOMEM, "out of memory");
    return finish(rc, &err, made, out, error);
}

int mf_tokenizer_open_model(const char *dir, mf_tokenizer **out, char *error) {
    mf_err err = {0};
    mf_tokenizer *made = mf_alloc_zero(1, sizeof *made);
    mf_rc rc = made != NULL ? mf_wordpiece_open(dir, &made->wordpiece, &err)
                            : MF_FAIL(&err, MF_E_NOMEM, "out of memory");
    return finish(rc, &err, made, out, error);
}

void mf_tokenizer_close(mf_tokenizer *tokenizer) {
    if (tokenizer == NULL) {
        return;
    }
    mf_encoding_close(tokenizer->encoding);
    mf_wordpiece_close(tokenizer->wordpiece);
    mf_free(tokenizer);
}

/* Ids of a vocabulary are never negative, so both types hold them alike. */
static size_t encode_wordpiece(const mf_wordpiece *wp, mf_str text, uint32_t *ids,
                               size_t ids_max) {
    if (ids_max >= 2) {
        bool truncated = false;
        size_t count =
            mf_wordpiece_encode(wp, text, (int32_t *)ids, ids_max, &truncated);
        if (!truncated) {
            return count;
        }
    }
    return mf_wordpiece_count(wp, text);
}

size_t mf_tokenizer_encode(const mf_tokenizer *tokenizer, const char *text, size_t len,
                           uint32_t *ids, size_t ids_max) {
    mf_str bytes = {text, len};
    return tokenizer->encoding != NULL
               ? mf_encoding_ids(tokenizer->encoding, bytes, ids, ids_max)
               : encode_wordpiece(tokenizer->wordpiece, bytes, ids, ids_max);
}

const char *mf_tokenizer_token(const mf_tokenizer *tokenizer, uint32_t id,
                               size_t *len) {
    mf_str bytes = MF_STR_NONE;
    if (tokenizer->encoding != NULL) {
        bytes = mf_encoding_token(tokenizer->encoding, id);
    } else if (id <= INT32_MAX) {
        bytes = mf_wordpiece_token(tokenizer->wordpiece, (int32_t)id);
    }
    *len = bytes.len;
    return bytes.len > 0 ? bytes.p : NULL;
}

size_t mf_tokenizer_size(const mf_tokenizer *tokenizer) {
    return tokenizer->encoding != NULL ? mf_encoding_token_count(tokenizer->encoding)
                                       : mf_wordpiece_vocab_size(tokenizer->wordpiece);
}
