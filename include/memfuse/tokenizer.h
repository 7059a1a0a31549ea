/* tokenizer.h - tokenizers as a library: a text in, the numbers of its tokens out.
 *
 * An mf_tokenizer is either a byte-pair encoding of chat models, read from a tiktoken
 * rank file, or the WordPiece tokenizer of a sentence encoder, read from its folder.
 * Ids are those of the reference implementations.  It needs no mf_engine, no data
 * directory and no server.
 *
 *     mf_tokenizer *tokenizer = NULL;
 *     char error[MF_ENGINE_ERROR_TEXT];
 *     if (mf_tokenizer_open_encoding("o200k_base", "models/o200k_base.tiktoken",
 *                                    &tokenizer, error) == 0) {
 *         size_t count = mf_tokenizer_encode(tokenizer, "hello", 5, NULL, 0);
 *         mf_tokenizer_close(tokenizer);
 *     }
 *
 * Texts are bytes and need not end in a NUL; the encoding never fails.  Bytes that are
 * not UTF-8 are symbols of their own in a byte-pair encoding, whose tokens put together
 * are always the text; WordPiece drops them.  Names of special tokens ("<|endoftext|>")
 * are ordinary text in a byte-pair encoding; WordPiece takes "[SEP]" and the like for
 * these tokens, as its reference does.
 *
 * Threads: a tokenizer never changes after open, so any number of threads may share
 * one; mf_tokenizer_close must be the last call on it. */
#ifndef MEMFUSE_TOKENIZER_H
#define MEMFUSE_TOKENIZER_H

#include <stdint.h>

#include "memfuse/memfuse.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mf_tokenizer mf_tokenizer;

/* The byte-pair encodings there are: "o200k_base", "cl100k_base", then NULL. */
MF_API const char *const *mf_tokenizer_encodings(void);

/* Opens the encoding `name` with the tiktoken rank file `ranks_path`, which takes some
 * tens of milliseconds.  0 on success; otherwise a code (mf_engine_code_name) and, in
 * `error` (at least MF_ENGINE_ERROR_TEXT bytes, or NULL), one sentence that says what
 * is wrong: "invalid" (no such encoding), "not_found" (no such file), "io", "corrupt"
 * (names the line and what was expected of it), "no_memory". */
MF_API int mf_tokenizer_open_encoding(const char *name, const char *ranks_path,
                                      mf_tokenizer **out, char *error);

/* Opens the WordPiece tokenizer of the Hugging Face folder `dir`: vocab.txt, and
 * tokenizer_config.json and tokenizer.json when present.  Codes as above, and
 * "unsupported" when these describe another kind of tokenizer. */
MF_API int mf_tokenizer_open_model(const char *dir, mf_tokenizer **out, char *error);

MF_API void mf_tokenizer_close(mf_tokenizer *tokenizer); /* NULL is fine */

/* How many tokens the `len` bytes at `text` have; WordPiece counts its [CLS] and [SEP].
 * Up to `ids_max` ids go to `ids` (which may be NULL if that is 0); when there are
 * more, `ids` holds nothing of use.  len + 2 ids are always enough.  Takes time in
 * proportion to len and no memory but the stack. */
MF_API size_t mf_tokenizer_encode(const mf_tokenizer *tokenizer, const char *text,
                                  size_t len, uint32_t *ids, size_t ids_max);

/* The bytes of a token, which may be part of a character only, and their number in
 * `*len`; of WordPiece the entry of the vocabulary, "##" included.  Borrowed until
 * close; not ended by a NUL.  NULL when there is no such id. */
MF_API const char *mf_tokenizer_token(const mf_tokenizer *tokenizer, uint32_t id,
                                      size_t *len);

/* Tokens in the vocabulary; ids of special tokens that no text has are not counted. */
MF_API size_t mf_tokenizer_size(const mf_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif

#endif
