/* file_advise.c - hints about mapped files. */
#include "os/file_advise.h"

#include <sys/mman.h>

void mf_file_view_cool(const mf_file_view *view) {
    if (view->p != NULL) {
        /* A read-only mapping has no changes to lose.  A refusal only means that the
         * pages stay. */
        (void)madvise((void *)(uintptr_t)view->p, view->size, MADV_DONTNEED);
    }
}
