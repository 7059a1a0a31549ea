/* words.h - text to index terms.
 *
 * A term is a 64-bit hash of a word's stem; the word itself is not kept.
 *
 *   - A word is a run of Unicode letters, digits and marks.  It is folded: lower case,
 *     compatibility forms undone, accents dropped ("Café" is "cafe").
 *   - English stop words give no term; words of ASCII letters are stemmed (porter.h).
 *   - "Ana's" counts as "Ana", "don't" as nothing, "rock'n" as "rockn".  A comma
 * between groups of three digits is skipped, so "1,000" is "1000".
 *   - Identifiers give one term as a whole and one for each part: "getUserName" and
 *     "get_user_name" both give "getusername", "get", "user", "name".
 *   - Scripts written without blanks (Chinese, Japanese, Korean, Thai, Lao, Khmer,
 *     Burmese) give each character and each pair of neighbours.
 *
 * The same text gives the same terms on every machine.  Bytes that are not UTF-8
 * separate words.  Functions on different lists may run side by side. */
#ifndef MF_INDEX_WORDS_H
#define MF_INDEX_WORDS_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    MF_WORD_BYTES_MAX =
        128, /* folded bytes of a word that count; the rest is ignored */
};

typedef struct mf_terms {
    uint64_t *hashes; /* owned; in order of appearance, with repetitions */
    size_t count, capacity;
} mf_terms;

/* An mf_terms of all zeros is an empty list. */
void mf_terms_done(mf_terms *terms);

/* Appends the terms of `text`.  MF_E_NOMEM; the list then holds some of them. */
MF_CHECKED mf_rc mf_words_cut(mf_str text, mf_terms *terms, mf_err *err);

/* The hash a single word gives; 0 for a stop word.  `word` holds letters and digits of
 * one word only. */
uint64_t mf_words_hash(mf_str word);

#endif
