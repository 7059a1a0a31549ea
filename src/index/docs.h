/* docs.h - the documents of one index: by key, by session in order, and those that wait
 * for vectors.
 *
 * Each document has a slot, a small number that postings and vectors know it by.  Slots
 * of removed documents are given again.
 *
 * Documents of one (kind, session, agent) form a group, kept in the order of `num`: who
 * spoke just before and after is read off it, and a search decides once per group, not
 * per document, whether it is asked for.
 *
 * Callers lock; functions taking a const pointer may run side by side. */
#ifndef MF_INDEX_DOCS_H
#define MF_INDEX_DOCS_H

#include "base/map.h"
#include "index/user_index.h"

#define MF_DOCS_NONE UINT32_MAX

struct mf_index_doc {
    mf_index_facts facts;
    uint32_t length; /* terms with repetitions */
    uint32_t term_count;
    uint64_t terms[]; /* packed, see postings.h */
};

typedef struct mf_docs_group {
    uint8_t kind;
    mf_uuid session_id, agent_id;
    uint32_t *slots; /* owned; by num rising */
    uint32_t count, capacity;
} mf_docs_group;

typedef struct mf_docs_slot {
    mf_index_doc *doc;      /* owned; NULL: the slot is free */
    uint32_t group;         /* index in groups */
    uint32_t before, after; /* on the list of those without vectors, or the free list */
} mf_docs_slot;

typedef struct mf_docs {
    mf_docs_slot *slots; /* owned */
    uint32_t slot_count, slots_max, free_first;
    uint32_t count;  /* documents */
    uint32_t *table; /* owned; open addressing, slot or MF_DOCS_NONE */
    size_t table_size;
    mf_docs_group *groups; /* owned; one with count 0 is free */
    uint32_t group_count, groups_max;
    uint32_t groups_free;                 /* among group_count */
    uint32_t reserved_group;              /* stays although empty; MF_DOCS_NONE: none */
    mf_map *group_map;                    /* key bytes -> index + 1 */
    uint32_t pending_first, pending_last; /* longest waiting first */
    size_t pending_count;
    size_t bytes; /* of documents and group arrays */
} mf_docs;

MF_CHECKED mf_rc mf_docs_init(mf_docs *docs, mf_err *err);
void mf_docs_done(mf_docs *docs);

/* The slot of the document with this key; MF_DOCS_NONE when it is not here. */
uint32_t mf_docs_find(const mf_docs *docs, mf_index_key key);

/* Adding takes two steps, so that a document can be replaced without a moment in which
 * neither the old nor the new one could be had: reserve what a document with `facts`
 * needs, which gives its slot and may fail (MF_E_NOMEM, MF_E_LIMIT) without a trace;
 * then either commit or cancel.  In between, other documents may be taken out, not
 * added. */
MF_CHECKED mf_rc mf_docs_reserve(mf_docs *docs, const mf_index_facts *facts,
                                 uint32_t *slot, mf_err *err);
void mf_docs_cancel(mf_docs *docs, uint32_t slot);
/* Files `doc`, with the facts given to reserve and a key that is not here (any more),
 * as one that waits for vectors.  docs owns it from then on. */
void mf_docs_commit(mf_docs *docs, uint32_t slot, mf_index_doc *doc);
/* Takes the document out; the caller owns it. */
mf_index_doc *mf_docs_take(mf_docs *docs, uint32_t slot);

void mf_docs_set_pending(mf_docs *docs, uint32_t slot, bool pending);
bool mf_docs_is_pending(const mf_docs *docs, uint32_t slot);

size_t mf_docs_bytes(const mf_docs *docs);

#endif
