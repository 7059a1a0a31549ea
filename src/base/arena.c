/* arena.c - memory of one request.
 *
 * A list of blocks; allocation moves a mark inside the first of the list.  Each new
 * block is twice the one before, up to BLOCK_BYTES_MAX, or as large as one request for
 * memory needs.  The cap counts the bytes of all blocks, so the gap left at the end
 * of a block counts as well.  Held releases are records in the arena's own memory. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { ALIGN = 16, FIRST_BLOCK_BYTES = 16 * 1024, BLOCK_BYTES_MAX = 1024 * 1024 };

typedef struct arena_block {
    struct arena_block *next;
    size_t size; /* of the bytes behind this header */
    _Alignas(ALIGN) char bytes[];
} arena_block;

typedef struct arena_hold {
    struct arena_hold *older;
    void (*release)(void *object);
    void *object;
} arena_hold;

struct mf_arena {
    size_t bytes_max;
    size_t bytes_blocks;  /* sum of the sizes of all blocks */
    arena_block *first;   /* kept by a reset */
    arena_block *filling; /* head of the list of all blocks */
    size_t filled;        /* bytes of it */
    size_t used;          /* handed out since the last reset */
    arena_hold *holds;
};

static size_t round_up(size_t size) {
    return (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static arena_block *block_new(mf_arena *arena, size_t size) {
    arena_block *block = mf_alloc(sizeof *block + size);
    if (block != NULL) {
        block->next = NULL;
        block->size = size;
        arena->bytes_blocks += size;
    }
    return block;
}

mf_rc mf_arena_new(size_t bytes_max, mf_arena **out, mf_err *err) {
    MF_ASSERT(bytes_max > 0);
    MF_ASSERT(bytes_max <= SIZE_MAX / 4);
    mf_arena *arena = mf_alloc_zero(1, sizeof *arena);
    if (arena == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an arena");
    }
    arena->bytes_max = round_up(bytes_max);
    size_t first =
        arena->bytes_max < FIRST_BLOCK_BYTES ? arena->bytes_max : FIRST_BLOCK_BYTES;
    arena->first = arena->filling = block_new(arena, first);
    if (arena->first == NULL) {
        mf_free(arena);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an arena");
    }
    *out = arena;
    return MF_OK;
}

static void run_holds(mf_arena *arena) {
    while (arena->holds != NULL) {
        arena_hold *hold = arena->holds;
        arena->holds = hold->older;
        hold->release(hold->object);
    }
}

void mf_arena_reset(mf_arena *arena) {
    run_holds(arena);
    for (arena_block *block = arena->filling; block != NULL;) {
        arena_block *next = block->next;
        if (block != arena->first) {
            mf_free(block);
        }
        block = next;
    }
    arena->first->next = NULL;
    arena->filling = arena->first;
    arena->filled = 0;
    arena->bytes_blocks = arena->first->size;
    arena->used = 0;
}

void mf_arena_free(mf_arena *arena) {
    if (arena == NULL) {
        return;
    }
    mf_arena_reset(arena);
    mf_free(arena->first);
    mf_free(arena);
}

static void *alloc_from_new_block(mf_arena *arena, size_t need) {
    size_t left = arena->bytes_max - arena->bytes_blocks;
    if (need > left) {
        return NULL;
    }
    size_t size = arena->filling->size < BLOCK_BYTES_MAX / 2 ? arena->filling->size * 2
                                                             : BLOCK_BYTES_MAX;
    size = size < left ? size : left;
    arena_block *block = block_new(arena, size > need ? size : need);
    if (block == NULL) {
        return NULL;
    }
    arena->used += need;
    if (block->size - need > arena->filling->size - arena->filled) {
        block->next = arena->filling;
        arena->filling = block;
        arena->filled = need;
    } else { /* the block being filled has more room left: go on with that one */
        block->next = arena->filling->next;
        arena->filling->next = block;
    }
    return block->bytes;
}

void *mf_arena_alloc(mf_arena *arena, size_t size) {
    if (size > arena->bytes_max) {
        return NULL;
    }
    size_t need = round_up(size > 0 ? size : 1);
    if (need > arena->filling->size - arena->filled) {
        return alloc_from_new_block(arena, need);
    }
    void *p = arena->filling->bytes + arena->filled;
    arena->filled += need;
    arena->used += need;
    return p;
}

void *mf_arena_alloc_array(mf_arena *arena, size_t count, size_t size) {
    size_t total = 0;
    void *p = mf_mul_size(count, size, &total) ? mf_arena_alloc(arena, total) : NULL;
    if (p != NULL) {
        memset(p, 0, total);
    }
    return p;
}

mf_str mf_arena_str(mf_arena *arena, mf_str text) {
    char *copy = text.len < SIZE_MAX ? mf_arena_alloc(arena, text.len + 1) : NULL;
    if (copy == NULL) {
        return MF_STR_NONE;
    }
    if (text.len > 0) {
        memcpy(copy, text.p, text.len);
    }
    copy[text.len] = '\0';
    return (mf_str){copy, text.len};
}

mf_str mf_arena_printf(mf_arena *arena, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n >= 0 ? mf_arena_alloc(arena, (size_t)n + 1) : NULL;
    if (text != NULL) {
        (void)vsnprintf(text, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    return text != NULL ? (mf_str){text, (size_t)n} : MF_STR_NONE;
}

bool mf_arena_hold(mf_arena *arena, void (*release)(void *object), void *object) {
    arena_hold *hold = mf_arena_alloc(arena, sizeof *hold);
    if (hold == NULL) {
        return false;
    }
    *hold = (arena_hold){arena->holds, release, object};
    arena->holds = hold;
    return true;
}

size_t mf_arena_used(const mf_arena *arena) {
    return arena->used;
}
