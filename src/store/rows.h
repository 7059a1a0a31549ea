/* rows.h - for backends: a list of rows that grows in the caller's arena. */
#ifndef MF_STORE_ROWS_H
#define MF_STORE_ROWS_H

#include "base/arena.h"

typedef struct mf_rows {
    mf_arena *arena;
    size_t size; /* of one row */
    void *rows;  /* NULL while empty */
    size_t count, capacity;
} mf_rows;

static inline mf_rows mf_rows_of(mf_arena *arena, size_t size) {
    return (mf_rows){.arena = arena, .size = size};
}

/* Room for one more row, zeroed and counted; NULL when the arena is full.  Earlier rows
 * may move. */
void *mf_rows_add(mf_rows *rows);

#endif
