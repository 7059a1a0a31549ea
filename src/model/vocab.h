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
#include "model/piece_table.h"

enum {
    MF_VOCAB_COUNT_MAX = MF_PIECE_COUNT_MAX,
    MF_VOCAB_BYTES_MAX = 64 << 20, /* of the file */
    MF_VOCAB_WORD_MAX = 400,       /* bytes of a word to cut */
    MF_VOCAB_WORD_SLACK = MF_PIECE_SLACK,
};

typedef struct mf_vocab mf_vocab;

/* MF_E_IO; MF_E_CORRUPT, naming the line, for an empty, repeated or non-UTF-8 entry,
 * one with a NUL byte or of more than MF_PIECE_BYTES_MAX bytes, no entry at all or more
 * than MF_VOCAB_COUNT_MAX; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_vocab_open(const char *path, mf_vocab **out, mf_err *err);
/* The same from lines in memory, which are copied; `name` is what messages call them.
 */
MF_CHECKED mf_rc mf_vocab_from_lines(mf_str lines, const char *name, mf_vocab **out,
                                     mf_err *err);
void mf_vocab_close(mf_vocab *vocab); /* NULL is fine */
size_t mf_vocab_count(const mf_vocab *vocab);

/* The id of a whole line, "##" included; -1 when there is none. */
int32_t mf_vocab_find(const mf_vocab *vocab, mf_str entry);

/* The line of an id, "##" included; empty when there is no such id. */
mf_str mf_vocab_entry(const mf_vocab *vocab, int32_t id);

/* The id of the piece that starts a word and is all of it, by its key; -1 when there is
 * none. */
int32_t mf_vocab_find_word(const mf_vocab *vocab, mf_piece_key key);

/* Cuts `word` (UTF-8, at most MF_VOCAB_WORD_MAX bytes, not empty, with
 * MF_VOCAB_WORD_SLACK readable bytes behind it) into pieces, the longest match first
 * from left to right.  `ids` has room for one id per byte.  Returns the count, or 0
 * when some rest of the word matches nothing. */
size_t mf_vocab_cut(const mf_vocab *vocab, mf_str word, int32_t *ids);

#endif
