/* bpe.h - byte-pair encoding with a tiktoken rank table.
 *
 * A rank file has one token per line, "base64 rank", in rising rank.  A piece is
 * encoded by starting from its single bytes and joining, again and again, the
 * neighbours whose joined bytes have the lowest rank (the leftmost among equals) until
 * no two neighbours join to a token.  Immutable after open; any number of threads may
 * share it. */
#ifndef MF_MODEL_BPE_H
#define MF_MODEL_BPE_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    MF_BPE_TOKENS_MAX = 1 << 20,
    MF_BPE_TOKEN_BYTES_MAX = 1024,
    /* A longer piece is encoded in slices of this many bytes, so that its working
     * memory stays bounded; the count may then be higher than the exact one by a token
     * or two per slice. */
    MF_BPE_PIECE_MAX = 1 << 20,
};

typedef struct mf_bpe mf_bpe;

/* MF_E_NOTFOUND (no such file), MF_E_IO, MF_E_NOMEM; MF_E_CORRUPT, naming the line, for
 * anything but rank lines, a repeated token, ranks that do not rise, bounds exceeded,
 * or a file without all 256 single bytes. */
MF_CHECKED mf_rc mf_bpe_open(const char *path, mf_bpe **out, mf_err *err);
void mf_bpe_close(mf_bpe *bpe); /* NULL is fine */
size_t mf_bpe_token_count(const mf_bpe *bpe);

/* The ids of a piece.  Writes the first `ids_max` of them (ids may be NULL if that is
 * 0) and returns how many there are.  Takes O(n log n) steps and, beyond 128 bytes,
 * memory of 32 bytes per byte of the piece for the time of the call; should there be
 * none, the piece is encoded in slices of 128 bytes, which may give more tokens than
 * needed. */
size_t mf_bpe_encode(const mf_bpe *bpe, mf_str piece, uint32_t *ids, size_t ids_max);

#endif
