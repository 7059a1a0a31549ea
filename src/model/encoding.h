/* encoding.h - a named byte-pair encoding of a text: its split rules and its ranks.
 *
 * Ids are those of the reference implementation (tiktoken).  Names of special tokens
 * ("<|endoftext|>") are ordinary text.  A byte that is not part of well-formed UTF-8
 * counts as a symbol when the text is cut into pieces, and is encoded as it is: the
 * bytes of the tokens, one behind the other, are always the text.
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_ENCODING_H
#define MF_MODEL_ENCODING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef enum mf_encoding_kind {
    MF_ENCODING_O200K_BASE,  /* gpt-4o and later */
    MF_ENCODING_CL100K_BASE, /* gpt-4, gpt-3.5-turbo, text-embedding-3 */
    MF_ENCODING_COUNT
} mf_encoding_kind;

typedef struct mf_encoding mf_encoding;

/* "o200k_base" and the like. */
const char *mf_encoding_name(mf_encoding_kind kind);
bool mf_encoding_from_name(const char *name, mf_encoding_kind *out);

/* Reads a tiktoken rank file: errors as mf_bpe_open.  That the ranks are those of
 * `kind` is for the caller to know. */
MF_CHECKED mf_rc mf_encoding_open(mf_encoding_kind kind, const char *ranks_path,
                                  mf_encoding **out, mf_err *err);
void mf_encoding_close(mf_encoding *encoding); /* NULL is fine */

/* Writes the first `ids_max` ids of `text` (ids may be NULL if that is 0) and returns
 * how many there are: at most text.len, and 0 for empty text only.  bpe.h says what
 * memory a long piece may take. */
size_t mf_encoding_ids(const mf_encoding *encoding, mf_str text, uint32_t *ids,
                       size_t ids_max);

/* The bytes of a token, borrowed until close; empty when there is no such id. */
mf_str mf_encoding_token(const mf_encoding *encoding, uint32_t id);
size_t mf_encoding_token_count(const mf_encoding *encoding);

#endif
