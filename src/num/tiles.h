/* tiles.h - private to num/: the tile registers of AMX.
 *
 * There are eight, of up to 16 rows of 64 bytes each; a configuration says how much of
 * each is used.  One instruction multiplies a tile of activations, as many rows as it
 * has, by a tile of weights and adds to a tile of sums (Intel's Software Developer's
 * Manual, volume 1, chapter 18).
 *
 * The instructions are written as such, since compilers know them only where a whole
 * file may use them. */
#ifndef MF_NUM_TILES_H
#define MF_NUM_TILES_H

#include <stdint.h>

enum { MF_TILES = 8, MF_TILE_ROWS = 16, MF_TILE_BYTES = 64 };

/* What LDTILECFG reads. */
typedef struct mf_tile_shapes {
    uint8_t palette; /* 1 */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; /* of each tile, those beyond MF_TILES 0 */
    uint8_t rows[16];
} mf_tile_shapes;

_Static_assert(sizeof(mf_tile_shapes) == 64, "as the processor reads it");

#endif
