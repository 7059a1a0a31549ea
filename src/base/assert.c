/* assert.c - the end of a process that found a bug in itself. */
#include "base/assert.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static _Atomic(mf_assert_hook) assert_hook;

void mf_assert_set_hook(mf_assert_hook hook) {
    atomic_store(&assert_hook, hook);
}

void mf_assert_fail(const char *condition, const char *file, int line) {
    /* Exchanged, so that an assertion failing inside the hook cannot come back to
     * it. */
    mf_assert_hook hook = atomic_exchange(&assert_hook, NULL);
    if (hook != NULL) {
        hook(condition, file, line);
    }
    fprintf(stderr, "memfuse: assertion failed: %s (%s:%d)\n", condition, file, line);
    fflush(stderr);
    abort();
}
