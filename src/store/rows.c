/* rows.c - a list of rows that grows in the caller's arena. */
#include "store/rows.h"

#include <string.h>

void *mf_rows_add(mf_rows *rows) {
    enum { FIRST_CAPACITY = 16 };
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? FIRST_CAPACITY : rows->capacity * 2;
        void *grown = mf_arena_alloc_array(rows->arena, capacity, rows->size);
        if (grown == NULL) {
            return NULL;
        }
        if (rows->count > 0) {
            memcpy(grown, rows->rows, rows->count * rows->size);
        }
        rows->rows = grown;
        rows->capacity = capacity;
    }
    return (char *)rows->rows + rows->size * rows->count++;
}
