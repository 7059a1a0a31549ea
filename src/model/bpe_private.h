/* bpe_private.h - a loaded rank table, for bpe.c, which fills it, and bpe_merge.c,
 * which encodes with it. */
#ifndef MF_MODEL_BPE_PRIVATE_H
#define MF_MODEL_BPE_PRIVATE_H

#include "model/bpe.h"
#include "model/piece_table.h"

#define MF_BPE_NO_TOKEN MF_PIECE_NONE

/* Tokens are numbered in the order of their ranks.  One and two bytes, which are most
 * of the questions when pieces are merged, have tables of their own. */
struct mf_bpe {
    uint8_t *bytes;    /* of all tokens, one behind the other */
    uint32_t *offsets; /* [count + 1] token t is bytes[offsets[t] .. offsets[t + 1]) */
    uint32_t *ranks;   /* [count], but below `gap` a token's rank is its number and the
                        * memory here is never touched */
    size_t gap;
    size_t count;
    mf_piece_table table; /* tokens of three bytes and more */
    uint32_t one[256];
    uint32_t two[65536]; /* by first byte + 256 * second */
};

#endif
