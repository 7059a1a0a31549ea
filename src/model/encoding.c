/* encoding.c - a named byte-pair encoding of a text: bpe_split.c cuts the text into
 * pieces, bpe_merge.c encodes each. */
#include "model/encoding.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "model/bpe.h"
#include "model/bpe_split.h"

struct mf_encoding {
    mf_bpe *bpe;
    size_t (*split)(mf_str text);
};

static const struct {
    const char *name;
    size_t (*split)(mf_str text);
} kinds[MF_ENCODING_COUNT] = {
    [MF_ENCODING_O200K_BASE] = {"o200k_base", mf_split_o200k},
    [MF_ENCODING_CL100K_BASE] = {"cl100k_base", mf_split_cl100k},
};

const char *mf_encoding_name(mf_encoding_kind kind) {
    MF_ASSERT(kind < MF_ENCODING_COUNT);
    return kinds[kind].name;
}

bool mf_encoding_from_name(const char *name, mf_encoding_kind *out) {
    for (int kind = 0; kind < MF_ENCODING_COUNT; kind++) {
        if (strcmp(kinds[kind].name, name) == 0) {
            *out = (mf_encoding_kind)kind;
            return true;
        }
    }
    return false;
}

mf_rc mf_encoding_open(mf_encoding_kind kind, const char *ranks_path, mf_encoding **out,
                       mf_err *err) {
    MF_ASSERT(kind < MF_ENCODING_COUNT);
    mf_encoding *encoding = mf_alloc_zero(1, sizeof *encoding);
    if (encoding == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an encoding");
    }
    encoding->split = kinds[kind].split;
    mf_rc rc = mf_bpe_open(ranks_path, &encoding->bpe, err);
    if (rc != MF_OK) {
        mf_free(encoding);
        return rc;
    }
    *out = encoding;
    return MF_OK;
}

void mf_encoding_close(mf_encoding *encoding) {
    if (encoding == NULL) {
        return;
    }
    mf_bpe_close(encoding->bpe);
    mf_free(encoding);
}

size_t mf_encoding_ids(const mf_encoding *encoding, mf_str text, uint32_t *ids,
                       size_t ids_max) {
    size_t count = 0;
    while (text.len > 0) {
        size_t len = encoding->split(text);
        bool room = count < ids_max;
        count += mf_bpe_encode(encoding->bpe, text, len, room ? ids + count : NULL,
                               room ? ids_max - count : 0);
        text = (mf_str){text.p + len, text.len - len};
    }
    return count;
}

mf_str mf_encoding_token(const mf_encoding *encoding, uint32_t id) {
    return mf_bpe_token(encoding->bpe, id);
}

size_t mf_encoding_token_count(const mf_encoding *encoding) {
    return mf_bpe_token_count(encoding->bpe);
}
