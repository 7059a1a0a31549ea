/* charsmap.h - the table by which a sentencepiece normaliser replaces characters.
 *
 * tokenizer.json holds it in base64 as "precompiled_charsmap": the length of a trie in
 * bytes (4 bytes, little-endian), the trie, and the texts it leads to, each ended by a
 * NUL.  The trie is a double array as darts-clone lays it out (S. Yata): each unit of
 * 32 bits has the label of the edge that leads to it, the offset of its children, and a
 * flag that a text ends there.  Nothing in it is trusted: a step that leads outside
 * ends the search.
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_CHARSMAP_H
#define MF_MODEL_CHARSMAP_H

#include "base/err.h"
#include "base/str.h"

typedef struct mf_charsmap mf_charsmap;

/* MF_E_CORRUPT says what is wrong with the table; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_charsmap_open(mf_str base64, mf_charsmap **out, mf_err *err);
void mf_charsmap_close(mf_charsmap *map); /* NULL is fine */

/* What stands for `chunk`: the text of the shortest entry that `chunk` begins with, as
 * the reference has it.  MF_STR_NONE: no entry, the chunk stays. */
mf_str mf_charsmap_find(const mf_charsmap *map, mf_str chunk);

#endif
