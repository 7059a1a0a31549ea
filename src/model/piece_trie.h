/* piece_trie.h - finds all pieces of a vocabulary that a text begins with.
 *
 * A node per distinct beginning of a piece.  The children of a node follow each other,
 * their bytes in an array of their own, so that a step is one memchr().
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_PIECE_TRIE_H
#define MF_MODEL_PIECE_TRIE_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum { MF_PIECE_TRIE_BYTES_MAX = 255 }; /* of one piece */

typedef struct mf_piece_trie mf_piece_trie;

/* Of `count` pieces; a piece's id is its index.  They are needed for this call only.
 * MF_E_CORRUPT names a piece that is empty, too long, not UTF-8, or there twice;
 * MF_E_NOMEM. */
MF_CHECKED mf_rc mf_piece_trie_open(const mf_str *pieces, size_t count,
                                    mf_piece_trie **out, mf_err *err);
void mf_piece_trie_close(mf_piece_trie *trie); /* NULL is fine */

/* One step from `node` (0: the root) along `byte`; 0 when nothing goes on so. */
uint32_t mf_piece_trie_step(const mf_piece_trie *trie, uint32_t node, char byte);
/* The id of the piece that ends at a node, -1: none. */
int32_t mf_piece_trie_id(const mf_piece_trie *trie, uint32_t node);
/* The id of exactly `piece`, -1: it is none. */
int32_t mf_piece_trie_find(const mf_piece_trie *trie, mf_str piece);

#endif
