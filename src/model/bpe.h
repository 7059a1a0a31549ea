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
    MF_BPE_TOKEN_BYTES_MAX = 512,
};

typedef struct mf_bpe mf_bpe;

/* MF_E_NOTFOUND (no such file), MF_E_IO, MF_E_NOMEM; MF_E_CORRUPT, naming the line and
 * what is expected there, for anything but rank lines, a repeated token, ranks that do
 * not rise, bounds exceeded, or a file without all 256 single bytes. */
MF_CHECKED mf_rc mf_bpe_open(const char *path, mf_bpe **out, mf_err *err);
void mf_bpe_close(mf_bpe *bpe); /* NULL is fine */
size_t mf_bpe_token_count(const mf_bpe *bpe);
/* The bytes of a token, borrowed until close; empty when there is no such id. */
mf_str mf_bpe_token(const mf_bpe *bpe, uint32_t id);

/* The ids of the first `len` bytes of `text` (at most text.len); what is behind them
 * may be read but does not count.  Writes the first `ids_max` of them (ids may be NULL
 * if that is 0) and returns how many there are.
 *
 * Takes O(len) steps with the tables in use, on the stack.  A table whose joins depend
 * on one another over more than 256 bytes makes it O(len log len), with memory of up to
 * 32 bytes per byte of the piece for the time of the call; should there be none, or
 * len exceed 2^30, the result may have more tokens than needed. */
size_t mf_bpe_encode(const mf_bpe *bpe, mf_str text, size_t len, uint32_t *ids,
                     size_t ids_max);

#endif
