/* tree.c - a persistent treap.
 *
 * A treap is a search tree by key and a heap by priority.  The priority is a hash of
 * the key, so the shape depends on the contents alone and stays shallow without any
 * bookkeeping.  References count parents and versions; a node with one reference that
 * is reached through nodes with one reference each belongs to the changing version
 * alone and is changed in place (own() walks down from the root, which keeps this true:
 * copying a node adds a reference to each of its children). */
#include "store/memory/tree.h"

#include <stdatomic.h>
#include <stddef.h>

#include "base/alloc.h"

typedef struct cell {
    atomic_size_t refs;
    size_t value_len;
    size_t key_len;
    _Alignas(max_align_t) char bytes[]; /* the value, then the key */
} cell;

struct mf_tree {
    atomic_size_t refs;
    uint64_t priority;
    cell *cell;
    mf_tree *left, *right;
};

static mf_str cell_key(const cell *c) {
    return (mf_str){c->bytes + c->value_len, c->key_len};
}

static mf_entry cell_entry(const cell *c) {
    return (mf_entry){cell_key(c), {c->bytes, c->value_len}};
}

static cell *cell_new(mf_str key, mf_str part1, mf_str part2) {
    size_t size = 0;
    if (!mf_add_size(part1.len, part2.len, &size) ||
        !mf_add_size(size, key.len, &size) || !mf_add_size(size, sizeof(cell), &size)) {
        return NULL;
    }
    cell *c = mf_alloc(size);
    if (c == NULL) {
        return NULL;
    }
    atomic_init(&c->refs, 1);
    c->value_len = part1.len + part2.len;
    c->key_len = key.len;
    const mf_str parts[] = {part1, part2, key};
    char *to = c->bytes;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].len > 0) {
            memcpy(to, parts[i].p, parts[i].len);
            to += parts[i].len;
        }
    }
    return c;
}

static cell *cell_ref(cell *c) {
    atomic_fetch_add(&c->refs, 1);
    return c;
}

static void cell_unref(cell *c) {
    if (atomic_fetch_sub(&c->refs, 1) == 1) {
        mf_free(c);
    }
}

mf_tree *mf_tree_ref(mf_tree *root) {
    if (root != NULL) {
        atomic_fetch_add(&root->refs, 1);
    }
    return root;
}

void mf_tree_unref(mf_tree *root) {
    while (root != NULL && atomic_fetch_sub(&root->refs, 1) == 1) {
        mf_tree *right = root->right;
        mf_tree_unref(root->left);
        cell_unref(root->cell);
        mf_free(root);
        root = right;
    }
}

/* Makes the node at *slot, whose holder belongs to this version alone, so as well. */
static mf_tree *own(mf_tree **slot) {
    mf_tree *node = *slot;
    if (atomic_load(&node->refs) == 1) {
        return node;
    }
    mf_tree *copy = mf_alloc(sizeof *copy);
    if (copy == NULL) {
        return NULL;
    }
    atomic_init(&copy->refs, 1);
    copy->priority = node->priority;
    copy->cell = cell_ref(node->cell);
    copy->left = mf_tree_ref(node->left);
    copy->right = mf_tree_ref(node->right);
    mf_tree_unref(node);
    *slot = copy;
    return copy;
}

static void rotate_right(mf_tree **slot) {
    mf_tree *top = *slot;
    mf_tree *left = top->left;
    top->left = left->right;
    left->right = top;
    *slot = left;
}

static void rotate_left(mf_tree **slot) {
    mf_tree *top = *slot;
    mf_tree *right = top->right;
    top->right = right->left;
    right->left = top;
    *slot = right;
}

static bool put_leaf(mf_tree **slot, mf_str key, cell *c) {
    mf_tree *leaf = mf_alloc(sizeof *leaf);
    if (leaf == NULL) {
        return false;
    }
    atomic_init(&leaf->refs, 1);
    leaf->priority = mf_str_hash(key);
    leaf->cell = c;
    leaf->left = NULL;
    leaf->right = NULL;
    *slot = leaf;
    return true;
}

/* Moves `c` into the tree; false: out of memory, `c` is still the caller's. */
static bool put(mf_tree **slot, mf_str key, cell *c) {
    if (*slot == NULL) {
        return put_leaf(slot, key, c);
    }
    mf_tree *node = own(slot);
    if (node == NULL) {
        return false;
    }
    int order = mf_str_cmp(key, cell_key(node->cell));
    if (order == 0) {
        cell_unref(node->cell);
        node->cell = c;
        return true;
    }
    if (!put(order < 0 ? &node->left : &node->right, key, c)) {
        return false;
    }
    if (order < 0 && node->left->priority > node->priority) {
        rotate_right(slot);
    } else if (order > 0 && node->right->priority > node->priority) {
        rotate_left(slot);
    }
    return true;
}

mf_rc mf_tree_put(mf_tree **root, mf_str key, mf_str part1, mf_str part2, mf_err *err) {
    cell *c = cell_new(key, part1, part2);
    if (c == NULL || !put(root, key, c)) {
        mf_free(c);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an entry");
    }
    return MF_OK;
}

/* Turns the node at *slot, owned, down until it has at most one child, and cuts it out.
 * Each turn leaves a valid search tree, so running out of memory loses nothing. */
static bool sink_and_cut(mf_tree **slot) {
    mf_tree *node = *slot;
    while (node->left != NULL && node->right != NULL) {
        bool left_up = node->left->priority > node->right->priority;
        if (own(left_up ? &node->left : &node->right) == NULL) {
            return false;
        }
        if (left_up) {
            rotate_right(slot);
            slot = &(*slot)->right;
        } else {
            rotate_left(slot);
            slot = &(*slot)->left;
        }
    }
    *slot = node->left != NULL ? node->left : node->right;
    cell_unref(node->cell);
    mf_free(node);
    return true;
}

mf_rc mf_tree_remove(mf_tree **root, mf_str key, mf_err *err) {
    mf_entry entry;
    if (!mf_tree_get(*root, key, &entry)) {
        return MF_OK; /* nothing to copy a path for */
    }
    mf_tree **slot = root;
    bool cut = false;
    while (!cut) {
        mf_tree *node = own(slot);
        if (node == NULL) {
            break;
        }
        int order = mf_str_cmp(key, cell_key(node->cell));
        if (order == 0) {
            cut = sink_and_cut(slot);
            break;
        }
        slot = order < 0 ? &node->left : &node->right;
    }
    return cut ? MF_OK : MF_FAIL(err, MF_E_NOMEM, "no memory to remove an entry");
}

bool mf_tree_get(const mf_tree *root, mf_str key, mf_entry *out) {
    while (root != NULL) {
        int order = mf_str_cmp(key, cell_key(root->cell));
        if (order == 0) {
            *out = cell_entry(root->cell);
            return true;
        }
        root = order < 0 ? root->left : root->right;
    }
    return false;
}

bool mf_tree_after(const mf_tree *root, mf_str key, bool or_equal, mf_entry *out) {
    const cell *best = NULL;
    while (root != NULL) {
        int order = mf_str_cmp(key, cell_key(root->cell));
        if (order < 0 || (order == 0 && or_equal)) {
            best = root->cell;
            root = root->left;
        } else {
            root = root->right;
        }
    }
    if (best != NULL) {
        *out = cell_entry(best);
    }
    return best != NULL;
}

bool mf_tree_before(const mf_tree *root, mf_str key, bool or_equal, mf_entry *out) {
    const cell *best = NULL;
    while (root != NULL) {
        int order = mf_str_cmp(key, cell_key(root->cell));
        if (order > 0 || (order == 0 && or_equal)) {
            best = root->cell;
            root = root->right;
        } else {
            root = root->left;
        }
    }
    if (best != NULL) {
        *out = cell_entry(best);
    }
    return best != NULL;
}
