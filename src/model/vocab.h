/* vocab.h - the pieces of a WordPiece vocabulary and the search for the longest one.
 *
 * A vocab.txt has one piece per line; the line number, from 0, is its id.  "##x" is the
 * piece "x" inside a word, everything else starts a word; the two kinds are looked up
 * apart.  Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_VOCAB_H
#define MF_MODEL_VOCAB_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    MF_VOCAB_COUNT_MAX = 1 << 20,
    MF_VOCAB_BYTES_MAX = 64 << 20, /* of the file */
    MF_VOCAB_PIECE_MAX = 400,      /* bytes; longer pieces match no word */
};

typedef struct mf_vocab mf_vocab;

/* MF_E_IO; MF_E_CORRUPT, naming the line, for an empty, repeated or non-UTF-8 entry, no
 * entry at all or more than MF_VOCAB_COUNT_MAX; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_vocab_open(const char *path, mf_vocab **out, mf_err *err);
void mf_vocab_close(mf_vocab *vocab); /* NULL is fine */
size_t mf_vocab_count(const mf_vocab *vocab);

/* The id of a whole line, "##" included; -1 when there is none. */
int32_t mf_vocab_find(const mf_vocab *vocab, mf_str entry);

/* Cuts `word` (UTF-8, at most MF_VOCAB_PIECE_MAX bytes, not empty) into pieces, the
 * longest match first from left to right.  `ids` has room for one id per byte.  Returns
 * the count, or 0 when some rest of the word matches nothing. */
size_t mf_vocab_cut(const mf_vocab *vocab, mf_str word, int32_t *ids);

#endif
