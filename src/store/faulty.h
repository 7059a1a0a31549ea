/* faulty.h - a store around a store that makes chosen calls fail.
 *
 * Tests use it to prove that callers survive every failure the contract allows. */
#ifndef MF_STORE_FAULTY_H
#define MF_STORE_FAULTY_H

#include "store/store.h"

/* Takes ownership of `inner`, also on failure. */
MF_CHECKED mf_rc mf_faulty_store_open(mf_store *inner, mf_store **out, mf_err *err);
/* From now on the calls numbered `skip` .. `skip + count - 1` of operation `op` (its
 * name in mf_store_ops, or "*" for any) return `rc` without reaching the inner
 * store. */
void mf_faulty_store_arm(mf_store *faulty, const char *op, uint64_t skip,
                         uint64_t count, mf_rc rc);
void mf_faulty_store_disarm(mf_store *faulty);
uint64_t mf_faulty_store_fired(mf_store *faulty);

#endif
