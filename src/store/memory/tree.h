/* tree.h - an ordered map from bytes to bytes whose old versions stay readable.
 *
 * A version is a pointer to a root; taking one costs a reference.  A change copies the
 * nodes on its path unless nobody else can see them, so older versions never change and
 * may be read and released by other threads at the same time.  NULL is the empty
 * tree. */
#ifndef MF_STORE_MEMORY_TREE_H
#define MF_STORE_MEMORY_TREE_H

#include "base/err.h"
#include "base/str.h"

typedef struct mf_tree mf_tree;

/* An entry; both views live as long as a version that holds it. */
typedef struct mf_entry {
    mf_str key;
    mf_str value; /* aligned for any type */
} mf_entry;

mf_tree *mf_tree_ref(mf_tree *root);
void mf_tree_unref(mf_tree *root);

/* Adds or replaces in the version at *root, which the caller owns.  The value is the
 * two parts one after the other.  MF_E_NOMEM leaves the contents as they were. */
MF_CHECKED mf_rc mf_tree_put(mf_tree **root, mf_str key, mf_str part1, mf_str part2,
                             mf_err *err);
/* Removing what is not there is fine. */
MF_CHECKED mf_rc mf_tree_remove(mf_tree **root, mf_str key, mf_err *err);

bool mf_tree_get(const mf_tree *root, mf_str key, mf_entry *out);
/* The first entry whose key is greater than `key`, or also equal with `or_equal`. */
bool mf_tree_after(const mf_tree *root, mf_str key, bool or_equal, mf_entry *out);
bool mf_tree_before(const mf_tree *root, mf_str key, bool or_equal, mf_entry *out);

#endif
