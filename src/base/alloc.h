/* alloc.h - all heap memory of memfuse.
 *
 * Thin over the C library: counts live blocks and bytes (so tests can prove nothing
 * leaked), checks every size product, and is the site of the `alloc` fault point.
 * Safe from any thread.  tools/check_banned keeps raw malloc and free out of the tree.
 * Size 0 is treated as 1, so NULL always means failure. */
#ifndef MF_BASE_ALLOC_H
#define MF_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *mf_alloc(size_t size); /* uninitialised; NULL when out of memory */
void *mf_alloc_zero(size_t count, size_t size);  /* zeroed; checks the product */
void *mf_alloc_array(size_t count, size_t size); /* uninitialised; checks the product */
void *mf_realloc(void *block,
                 size_t size); /* as realloc; the old block stays on failure */
void *mf_alloc_aligned(size_t alignment,
                       size_t size); /* power of two >= 16; free with mf_free */
void mf_free(void *block);           /* NULL is fine */
char *mf_strndup(const char *text, size_t len); /* NUL-terminated copy */

/* *out = a * b, or false on overflow with *out untouched. */
bool mf_mul_size(size_t a, size_t b, size_t *out);
bool mf_add_size(size_t a, size_t b, size_t *out);

/* Exact while no other thread allocates, a close figure otherwise. */
size_t mf_alloc_live(void); /* blocks allocated and not freed */
size_t
mf_alloc_live_bytes(void); /* their usable bytes, as the C library accounts them */

/* Gives pages of free blocks back to the system, wherever they lie.  Milliseconds on a
 * large heap: for cleanups only. */
void mf_alloc_trim(void);

/* Debug builds abort on an allocation by this thread between the two calls; release
 * builds compile them to nothing.  They nest. */
#ifdef MF_DEBUG
void mf_noalloc_begin(void);
void mf_noalloc_end(void);
#else
static inline void mf_noalloc_begin(void) {}
static inline void mf_noalloc_end(void) {}
#endif

#endif
