/* unigram.h - text to token ids the way sentencepiece's Unigram models do it (Kudo
 * 2018), as XLM-R and the multilingual sentence encoders made of it are fed.
 *
 * Characters are replaced by a table (charsmap.h), text is split at white space, each
 * word gets a U+2581 in front, and of all ways to cut it into pieces of the vocabulary
 * the one with the largest sum of scores is taken.  A character that is no piece
 * becomes the unknown token; neighbours share one.  The name of a special token
 * standing in the text becomes that token.
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_UNIGRAM_H
#define MF_MODEL_UNIGRAM_H

#include "model/wordpiece.h"

enum { MF_UNIGRAM_WORD_MAX = 4096 }; /* bytes of a word that are cut together */

typedef struct mf_unigram mf_unigram;

/* From tokenizer.json, which must be there.  MF_E_CORRUPT names the entry that is
 * wrong, MF_E_UNSUPPORTED the part of the file that is not built, MF_E_NOMEM. */
MF_CHECKED mf_rc mf_unigram_open(const struct mf_tokenizer_files *files,
                                 mf_unigram **out, mf_err *err);
void mf_unigram_close(mf_unigram *unigram); /* NULL is fine */
size_t mf_unigram_vocab_size(const mf_unigram *unigram);

/* As the functions of wordpiece.h.  A word of more than MF_UNIGRAM_WORD_MAX bytes is
 * cut in windows of that size: its pieces are those of the whole but for rare ties.  A
 * text without blanks is one word, so where even the first word does not fit, _fit ends
 * between two pieces of it. */
size_t mf_unigram_pieces(const mf_unigram *unigram, mf_str text, int32_t *ids,
                         size_t ids_max, bool *truncated);
mf_frame mf_unigram_frame(const mf_unigram *unigram);
size_t mf_unigram_fit(const mf_unigram *unigram, mf_str text, size_t ids_max);

#endif
