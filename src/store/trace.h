/* trace.h - a store around a store that counts calls and time per operation. */
#ifndef MF_STORE_TRACE_H
#define MF_STORE_TRACE_H

#include "store/store.h"

typedef struct mf_trace_row {
    const char *op;
    uint64_t calls, failures, total_ns;
} mf_trace_row;

/* Takes ownership of `inner`, also on failure. */
MF_CHECKED mf_rc mf_trace_store_open(mf_store *inner, mf_store **out, mf_err *err);
/* The rows of every operation; returns how many there are (at most rows_max are
 * written). */
size_t mf_trace_store_rows(mf_store *trace, mf_trace_row *rows, size_t rows_max);

#endif
