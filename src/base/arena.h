/* arena.h - memory of one request: many small allocations, one release.
 *
 * Grows in blocks up to a byte cap given at init; past the cap allocation returns NULL
 * (the caller reports MF_E_NOMEM).  One owner, no locks.  Reset keeps the first block,
 * so a warm request allocates nothing from the heap. */
#ifndef MF_BASE_ARENA_H
#define MF_BASE_ARENA_H

#include "base/err.h"
#include "base/str.h"

typedef struct mf_arena mf_arena;

MF_CHECKED mf_rc mf_arena_new(size_t bytes_max, mf_arena **out, mf_err *err);
void mf_arena_free(mf_arena *arena);  /* NULL is fine */
void mf_arena_reset(mf_arena *arena); /* runs the held releases, newest first */

void *mf_arena_alloc(mf_arena *arena, size_t size); /* 16-byte aligned */
void *mf_arena_alloc_array(mf_arena *arena, size_t count, size_t size); /* zeroed */
/* Copies; the copy has a NUL behind it.  On failure .p is NULL. */
mf_str mf_arena_str(mf_arena *arena, mf_str text);
mf_str mf_arena_printf(mf_arena *arena, const char *fmt, ...) MF_PRINTF(2, 3);
/* Calls release(object) at reset or free.  false: out of memory, nothing held. */
bool mf_arena_hold(mf_arena *arena, void (*release)(void *object), void *object);
size_t mf_arena_used(const mf_arena *arena);

#endif
