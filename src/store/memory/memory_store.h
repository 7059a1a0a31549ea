/* memory_store.h - a store in plain memory, for tests and throw-away servers.
 *
 * Passes the same contract suite as the others; nothing survives close.  Its only bound
 * of its own: a name or key is at most MF_MEMORY_NAME_MAX bytes, MF_E_LIMIT beyond. */
#ifndef MF_STORE_MEMORY_MEMORY_STORE_H
#define MF_STORE_MEMORY_MEMORY_STORE_H

#include "store/store.h"

enum { MF_MEMORY_NAME_MAX = 4096 };

MF_CHECKED mf_rc mf_memory_store_open(mf_store **out, mf_err *err);

#endif
