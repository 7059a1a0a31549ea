/* tokenizer.h - text to the token ids of a model folder, whichever kind it has.
 *
 * Two kinds are built: WordPiece (wordpiece.h: BERT, DistilBERT, MPNet) and Unigram
 * (unigram.h: XLM-R and the multilingual models made of it).  tokenizer.json says
 * which; a folder without it has a vocab.txt and is WordPiece.
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_TOKENIZER_H
#define MF_MODEL_TOKENIZER_H

#include "base/err.h"
#include "base/str.h"
#include "model/wordpiece.h"

typedef struct mf_model_tokenizer mf_model_tokenizer;

/* MF_E_IO; MF_E_CORRUPT or MF_E_UNSUPPORTED naming file and part; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_model_tokenizer_open(const char *model_dir,
                                         mf_model_tokenizer **out, mf_err *err);
void mf_model_tokenizer_close(mf_model_tokenizer *tokenizer); /* NULL is fine */
size_t mf_model_tokenizer_vocab_size(const mf_model_tokenizer *tokenizer);

/* Token ids of `text` with the first special token in front and the last one behind, at
 * most `ids_max` (>= 2) in all: what does not fit is dropped and `*truncated` (unless
 * NULL) set to whether that happened.  Returns the count.  Invalid UTF-8 bytes are
 * taken as U+FFFD.  Allocates nothing. */
size_t mf_model_tokenizer_encode(const mf_model_tokenizer *tokenizer, mf_str text,
                                 int32_t *ids, size_t ids_max, bool *truncated);

/* The byte offset in `text` behind the last whole word that fits in `ids_max` (>= 3)
 * ids, the two special ones included; text.len when all of it fits; always > 0 for text
 * that is not empty (see mf_wordpiece_fit). */
size_t mf_model_tokenizer_fit(const mf_model_tokenizer *tokenizer, mf_str text,
                              size_t ids_max);

/* The ids of a text without special tokens, at most `ids_max`.  `ids` NULL: counts. */
size_t mf_model_tokenizer_pieces(const mf_model_tokenizer *tokenizer, mf_str text,
                                 int32_t *ids, size_t ids_max, bool *truncated);
mf_frame mf_model_tokenizer_frame(const mf_model_tokenizer *tokenizer);

#endif
