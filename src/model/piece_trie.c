/* piece_trie.c - builds the trie of a vocabulary level by level.
 *
 * The pieces are sorted, so those that share a beginning are a range.  A node stands
 * for a range and a depth; its children are the ranges of equal next bytes.  Nodes are
 * made in the order of their depth, which puts children of one node side by side. */
#include "model/piece_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "text/utf8.h"

typedef struct piece {
    mf_str text;
    int32_t id;
} piece;

typedef struct node {
    uint32_t first; /* of its children */
    uint32_t count;
    int32_t id;
} node;

struct mf_piece_trie {
    node *nodes;
    char *labels; /* labels[i]: the byte that leads to node i */
    size_t count;
};

/* The pieces below a node while the trie is built. */
typedef struct range {
    uint32_t first, end;
    uint32_t depth;
} range;

static int by_text(const void *a, const void *b) {
    const piece *x = a;
    const piece *y = b;
    return mf_str_cmp(x->text, y->text);
}

static size_t shared(mf_str a, mf_str b) {
    size_t n = 0;
    while (n < a.len && n < b.len && a.p[n] == b.p[n]) {
        n++;
    }
    return n;
}

static mf_rc check_piece(mf_str text, size_t id, mf_err *err) {
    const char *wrong = text.len == 0                        ? "is empty"
                        : text.len > MF_PIECE_TRIE_BYTES_MAX ? "is too long"
                        : mf_utf8_valid(text)                ? NULL
                                                             : "is not UTF-8";
    if (wrong != NULL) {
        return MF_FAIL(err, MF_E_CORRUPT, "vocabulary entry %zu %s", id, wrong);
    }
    return MF_OK;
}

/* How many nodes sorted pieces take; names a repeated one. */
static mf_rc count_nodes(const piece *sorted, size_t count, size_t *nodes,
                         mf_err *err) {
    *nodes = 1;
    for (size_t i = 0; i < count; i++) {
        size_t common = i == 0 ? 0 : shared(sorted[i - 1].text, sorted[i].text);
        if (i > 0 && mf_str_eq(sorted[i - 1].text, sorted[i].text)) {
            return MF_FAIL(err, MF_E_CORRUPT, "vocabulary entries %d and %d are equal",
                           sorted[i - 1].id, sorted[i].id);
        }
        *nodes += sorted[i].text.len - common;
    }
    return MF_OK;
}

/* Fills node `at`, whose pieces are ranges[at], and appends its children. */
static void fill_node(mf_piece_trie *trie, range *ranges, const piece *sorted,
                      size_t at) {
    range r = ranges[at];
    node *n = &trie->nodes[at];
    *n = (node){.first = (uint32_t)trie->count, .id = -1};
    if (r.first < r.end && sorted[r.first].text.len == r.depth) {
        n->id = sorted[r.first++].id;
    }
    while (r.first < r.end) {
        char label = sorted[r.first].text.p[r.depth];
        uint32_t end = r.first + 1;
        while (end < r.end && sorted[end].text.p[r.depth] == label) {
            end++;
        }
        trie->labels[trie->count] = label;
        ranges[trie->count] = (range){r.first, end, r.depth + 1};
        trie->count++;
        n->count++;
        r.first = end;
    }
}

static mf_rc build(mf_piece_trie *trie, piece *sorted, size_t count, mf_err *err) {
    size_t node_count = 0;
    qsort(sorted, count, sizeof *sorted, by_text);
    MF_TRY(count_nodes(sorted, count, &node_count, err));
    trie->nodes = mf_alloc_array(node_count, sizeof *trie->nodes);
    trie->labels = mf_alloc_array(node_count, sizeof *trie->labels);
    range *ranges = mf_alloc_array(node_count, sizeof *ranges);
    if (trie->nodes == NULL || trie->labels == NULL || ranges == NULL) {
        mf_free(ranges);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu pieces", count);
    }
    ranges[0] = (range){0, (uint32_t)count, 0};
    trie->labels[0] = '\0';
    trie->count = 1;
    for (size_t at = 0; at < trie->count; at++) {
        fill_node(trie, ranges, sorted, at);
    }
    MF_ASSERT(trie->count == node_count);
    mf_free(ranges);
    return MF_OK;
}

mf_rc mf_piece_trie_open(const mf_str *pieces, size_t count, mf_piece_trie **out,
                         mf_err *err) {
    for (size_t i = 0; i < count; i++) {
        MF_TRY(check_piece(pieces[i], i, err));
    }
    mf_piece_trie *trie = mf_alloc_zero(1, sizeof *trie);
    piece *sorted = mf_alloc_array(count == 0 ? 1 : count, sizeof *sorted);
    if (trie == NULL || sorted == NULL) {
        mf_free(trie);
        mf_free(sorted);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu pieces", count);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = (piece){pieces[i], (int32_t)i};
    }
    mf_rc rc = build(trie, sorted, count, err);
    mf_free(sorted);
    if (rc != MF_OK) {
        mf_piece_trie_close(trie);
        return rc;
    }
    *out = trie;
    return MF_OK;
}

void mf_piece_trie_close(mf_piece_trie *trie) {
    if (trie != NULL) {
        mf_free(trie->nodes);
        mf_free(trie->labels);
        mf_free(trie);
    }
}

uint32_t mf_piece_trie_step(const mf_piece_trie *trie, uint32_t at, char byte) {
    const node *n = &trie->nodes[at];
    const char *labels = trie->labels + n->first;
    const char *found = n->count == 0 ? NULL : memchr(labels, byte, n->count);
    return found == NULL ? 0 : n->first + (uint32_t)(found - labels);
}

int32_t mf_piece_trie_id(const mf_piece_trie *trie, uint32_t at) {
    return trie->nodes[at].id;
}

int32_t mf_piece_trie_find(const mf_piece_trie *trie, mf_str text) {
    uint32_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        at = mf_piece_trie_step(trie, at, text.p[i]);
        if (at == 0) {
            return -1;
        }
    }
    return text.len == 0 ? -1 : mf_piece_trie_id(trie, at);
}
