/* token_counter.c - how many tokens a text has for a chat model.
 *
 * encoding.c counts exactly.  Without ranks the estimate stands in: English runs at
 * about 1.3 tokens per word, and scripts without blanks between words at about as many
 * per character. */
#include "model/token_counter.h"

#include <utf8proc.h>

#include "base/alloc.h"
#include "model/encoding.h"
#include "text/utf8.h"

struct mf_token_counter {
    mf_encoding *encoding; /* NULL: estimate */
};

mf_rc mf_token_counter_open(const char *ranks_path, mf_token_counter **out,
                            mf_err *err) {
    mf_token_counter *counter = mf_alloc_zero(1, sizeof *counter);
    if (counter == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a token counter");
    }
    mf_err found;
    mf_rc rc = ranks_path != NULL ? mf_encoding_open(MF_ENCODING_O200K_BASE, ranks_path,
                                                     &counter->encoding, &found)
                                  : MF_OK;
    if (rc != MF_OK && rc != MF_E_NOTFOUND) {
        mf_free(counter);
        if (err != NULL) {
            *err = found;
        }
        return rc;
    }
    *out = counter;
    return MF_OK;
}

void mf_token_counter_close(mf_token_counter *counter) {
    if (counter == NULL) {
        return;
    }
    mf_encoding_close(counter->encoding);
    mf_free(counter);
}

bool mf_token_counter_is_exact(const mf_token_counter *counter) {
    return counter->encoding != NULL;
}

/* Characters of scripts that do not put blanks between words. */
static bool is_cjk(uint32_t code) {
    return (code >= 0x3040 && code <= 0x30FF) || /* kana */
           (code >= 0x3400 && code <= 0x4DBF) || (code >= 0x4E00 && code <= 0x9FFF) ||
           (code >= 0xAC00 && code <= 0xD7A3) || /* Hangul */
           (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x20000 && code <= 0x3FFFF);
}

static bool is_blank(uint32_t code) {
    if (code < 0x80) {
        return code == ' ' || (code >= '\t' && code <= '\r');
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP || code == 0x85;
}

static size_t estimate(mf_str text) {
    size_t units = 0;
    bool in_word = false;
    for (size_t at = 0; at < text.len;) {
        uint32_t code = mf_utf8_next_lossy(text, &at);
        bool cjk = is_cjk(code);
        bool letter = !cjk && !is_blank(code);
        units += cjk || (letter && !in_word);
        in_word = letter;
    }
    return units + (units * 3 + 9) / 10; /* 1.3 times, rounded up */
}

size_t mf_token_count(const mf_token_counter *counter, mf_str text) {
    return counter->encoding != NULL ? mf_encoding_ids(counter->encoding, text, NULL, 0)
                                     : estimate(text);
}
