/* alloc.c - the C library's allocator, counted.
 *
 * Counting must not become the bottleneck of a server that allocates from every thread,
 * so each thread counts in a slot of its own: a plain load and store on a cache line
 * nobody else writes.  A block freed by another thread than the one that made it counts
 * down there; single slots may go below zero, their sum does not.  A slot is claimed at
 * a thread's first allocation and given back, with its counts, when the thread ends.
 * Threads beyond the last slot share one and pay for real atomic additions. */
#include "base/alloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fault.h"

enum { SLOT_COUNT = 64, SLOT_SHARED = SLOT_COUNT, CACHE_LINE = 64 };

typedef struct alloc_slot {
    _Alignas(CACHE_LINE) _Atomic int64_t blocks;
    _Atomic int64_t bytes;
    atomic_bool taken;
} alloc_slot;

static alloc_slot slots[SLOT_COUNT + 1];
static _Thread_local alloc_slot *my_slot;
static pthread_once_t slot_key_once = PTHREAD_ONCE_INIT;
static pthread_key_t slot_key;

#ifdef MF_DEBUG
static _Thread_local int noalloc_depth;

void mf_noalloc_begin(void) {
    noalloc_depth++;
}

void mf_noalloc_end(void) {
    MF_ASSERT(noalloc_depth > 0);
    noalloc_depth--;
}
#endif

/* Runs as the thread ends.  Whatever the thread still frees is counted in the shared
 * slot, because the next owner of this one may already be counting. */
static void slot_give_back(void *slot) {
    my_slot = &slots[SLOT_SHARED];
    atomic_store_explicit(&((alloc_slot *)slot)->taken, false, memory_order_release);
}

static void slot_key_make(void) {
    MF_ASSERT(pthread_key_create(&slot_key, slot_give_back) == 0);
}

static alloc_slot *slot_claim(void) {
    pthread_once(&slot_key_once, slot_key_make);
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        bool expected = false;
        /* Acquire pairs with the release in slot_give_back: the counts are seen. */
        if (atomic_compare_exchange_strong_explicit(&slots[i].taken, &expected, true,
                                                    memory_order_acquire,
                                                    memory_order_relaxed)) {
            if (pthread_setspecific(slot_key, &slots[i]) == 0) {
                return &slots[i];
            }
            atomic_store_explicit(&slots[i].taken, false, memory_order_release);
            break;
        }
    }
    return &slots[SLOT_SHARED];
}

/* Relaxed throughout: the figures are statistics and order nothing. */
static void count(int64_t blocks, int64_t bytes) {
    alloc_slot *slot = my_slot;
    if (slot == NULL) {
        my_slot = slot = slot_claim();
    }
    if (slot == &slots[SLOT_SHARED]) {
        atomic_fetch_add_explicit(&slot->blocks, blocks, memory_order_relaxed);
        atomic_fetch_add_explicit(&slot->bytes, bytes, memory_order_relaxed);
        return;
    }
    int64_t have = atomic_load_explicit(&slot->blocks, memory_order_relaxed);
    atomic_store_explicit(&slot->blocks, have + blocks, memory_order_relaxed);
    have = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
    atomic_store_explicit(&slot->bytes, have + bytes, memory_order_relaxed);
}

static bool refused(void) {
#ifdef MF_DEBUG
    MF_ASSERT(noalloc_depth == 0);
#endif
    return MF_FAULT(MF_FAULT_ALLOC);
}

static void *counted(void *block) {
    if (block != NULL) {
        count(1, (int64_t)malloc_usable_size(block));
    }
    return block;
}

void *mf_alloc(size_t size) {
    if (refused()) {
        return NULL;
    }
    return counted(malloc(size > 0 ? size : 1));
}

void *mf_alloc_zero(size_t count_of, size_t size) {
    size_t total = 0;
    if (!mf_mul_size(count_of, size, &total) || refused()) {
        return NULL;
    }
    return counted(calloc(1, total > 0 ? total : 1));
}

void *mf_alloc_array(size_t count_of, size_t size) {
    size_t total = 0;
    return mf_mul_size(count_of, size, &total) ? mf_alloc(total) : NULL;
}

void *mf_realloc(void *block, size_t size) {
    if (block == NULL) {
        return mf_alloc(size);
    }
    if (refused()) {
        return NULL;
    }
    int64_t before = (int64_t)malloc_usable_size(block);
    void *moved = realloc(block, size > 0 ? size : 1);
    if (moved != NULL) {
        count(0, (int64_t)malloc_usable_size(moved) - before);
    }
    return moved;
}

void *mf_alloc_aligned(size_t alignment, size_t size) {
    MF_ASSERT(alignment >= 16);
    MF_ASSERT((alignment & (alignment - 1)) == 0);
    void *block = NULL;
    if (refused() || posix_memalign(&block, alignment, size > 0 ? size : 1) != 0) {
        return NULL;
    }
    return counted(block);
}

void mf_free(void *block) {
    if (block != NULL) {
        count(-1, -(int64_t)malloc_usable_size(block));
        free(block);
    }
}

char *mf_strndup(const char *text, size_t len) {
    size_t size = 0;
    if (!mf_add_size(len, 1, &size)) {
        return NULL;
    }
    char *copy = mf_alloc(size);
    if (copy != NULL) {
        if (len > 0) {
            memcpy(copy, text, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

bool mf_mul_size(size_t a, size_t b, size_t *out) {
    size_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *out = product;
    return true;
}

bool mf_add_size(size_t a, size_t b, size_t *out) {
    size_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *out = sum;
    return true;
}

size_t mf_alloc_live(void) {
    int64_t sum = 0;
    for (size_t i = 0; i <= SLOT_COUNT; i++) {
        sum += atomic_load_explicit(&slots[i].blocks, memory_order_relaxed);
    }
    return sum > 0 ? (size_t)sum : 0;
}

size_t mf_alloc_live_bytes(void) {
    int64_t sum = 0;
    for (size_t i = 0; i <= SLOT_COUNT; i++) {
        sum += atomic_load_explicit(&slots[i].bytes, memory_order_relaxed);
    }
    return sum > 0 ? (size_t)sum : 0;
}

void mf_alloc_trim(void) {
    (void)malloc_trim(0); /* tells whether there was anything to give */
}
