/* docs.c - slots, the key table, groups in order, and the list of waiting documents.
 *
 * Invariants:
 *   1. A slot with a document is in the key table once, in exactly one group once, and
 *      on the pending list or off it; a slot without one is on the free list.
 *   2. The slots of a group are in rising order of num; a group that is empty owns no
 *      memory and is not in group_map, unless it is reserved.
 *
 * Everything an addition needs is reserved first; what follows cannot fail. */
#include "index/docs.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "index/postings.h"

enum {
    SLOTS_MIN = 16,
    TABLE_MIN = 32,
    GROUPS_MIN = 4,
    GROUPS_MAX = MF_POSTINGS_SLOTS_MAX,
    GROUP_KEY_BYTES = 1 + 2 * MF_UUID_BYTES,
};

typedef struct group_key {
    char bytes[GROUP_KEY_BYTES];
} group_key;

mf_rc mf_docs_init(mf_docs *docs, mf_err *err) {
    *docs = (mf_docs){.free_first = MF_DOCS_NONE,
                      .pending_first = MF_DOCS_NONE,
                      .pending_last = MF_DOCS_NONE,
                      .reserved_group = MF_DOCS_NONE};
    return mf_map_new(GROUPS_MAX, &docs->group_map, err);
}

void mf_docs_done(mf_docs *docs) {
    for (uint32_t i = 0; i < docs->slot_count; i++) {
        mf_free(docs->slots[i].doc);
    }
    for (uint32_t i = 0; i < docs->group_count; i++) {
        mf_free(docs->groups[i].slots);
    }
    mf_free(docs->slots);
    mf_free(docs->table);
    mf_free(docs->groups);
    mf_map_free(docs->group_map);
    *docs = (mf_docs){0};
}

static size_t doc_bytes(const mf_index_doc *doc) {
    return sizeof(*doc) + doc->term_count * sizeof(doc->terms[0]);
}

/* --- by key ---------------------------------------------------------------------- */

static size_t home_of(const mf_docs *docs, mf_index_key key) {
    uint64_t x =
        (uint64_t)key.num * 2 + (key.kind != 0); /* consecutive numbers spread */
    x ^= x >> 32;
    x *= 0x9E3779B97F4A7C15ULL;
    return (size_t)(x >> 20) & (docs->table_size - 1);
}

static mf_index_key key_at(const mf_docs *docs, size_t at) {
    return docs->slots[docs->table[at]].doc->facts.key;
}

/* Where `key` is in the table, or the free entry where it belongs. */
static size_t entry_of(const mf_docs *docs, mf_index_key key) {
    size_t at = home_of(docs, key);
    while (docs->table[at] != MF_DOCS_NONE) {
        mf_index_key other = key_at(docs, at);
        if (other.num == key.num && other.kind == key.kind) {
            break;
        }
        at = (at + 1) & (docs->table_size - 1);
    }
    return at;
}

uint32_t mf_docs_find(const mf_docs *docs, mf_index_key key) {
    return docs->table_size == 0 ? MF_DOCS_NONE : docs->table[entry_of(docs, key)];
}

static mf_rc reserve_table(mf_docs *docs, mf_err *err) {
    if (docs->count + 1 <= docs->table_size / 4 * 3) {
        return MF_OK;
    }
    mf_docs grown = *docs;
    grown.table_size = docs->table_size == 0 ? TABLE_MIN : docs->table_size * 2;
    grown.table = mf_alloc_array(grown.table_size, sizeof(*grown.table));
    if (grown.table == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a table of documents");
    }
    for (size_t i = 0; i < grown.table_size; i++) {
        grown.table[i] = MF_DOCS_NONE;
    }
    for (size_t i = 0; i < docs->table_size; i++) {
        if (docs->table[i] != MF_DOCS_NONE) {
            grown.table[entry_of(&grown, key_at(docs, i))] = docs->table[i];
        }
    }
    mf_free(docs->table);
    *docs = grown;
    return MF_OK;
}

static void drop_key(mf_docs *docs, mf_index_key key) {
    size_t mask = docs->table_size - 1;
    size_t hole = entry_of(docs, key);
    MF_ASSERT(docs->table[hole] != MF_DOCS_NONE);
    for (size_t at = (hole + 1) & mask; docs->table[at] != MF_DOCS_NONE;
         at = (at + 1) & mask) {
        size_t home = home_of(docs, key_at(docs, at));
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            docs->table[hole] = docs->table[at];
            hole = at;
        }
    }
    docs->table[hole] = MF_DOCS_NONE;
}

/* --- groups ---------------------------------------------------------------------- */

static group_key group_key_of(uint8_t kind, mf_uuid session_id, mf_uuid agent_id) {
    group_key key;
    key.bytes[0] = (char)kind;
    memcpy(key.bytes + 1, session_id.b, MF_UUID_BYTES);
    memcpy(key.bytes + 1 + MF_UUID_BYTES, agent_id.b, MF_UUID_BYTES);
    return key;
}

static mf_str key_view(const group_key *key) {
    return (mf_str){key->bytes, sizeof(key->bytes)};
}

/* An index in `groups` that is free, growing the array when there is none. */
static mf_rc free_group(mf_docs *docs, uint32_t *out, mf_err *err) {
    if (docs->groups_free > 0) {
        uint32_t i = 0;
        while (docs->groups[i].count > 0) {
            i++;
        }
        *out = i;
        return MF_OK;
    }
    if (docs->group_count == docs->groups_max) {
        uint32_t groups_max = docs->groups_max == 0 ? GROUPS_MIN : docs->groups_max * 2;
        mf_docs_group *groups = mf_realloc(docs->groups, groups_max * sizeof(*groups));
        if (groups == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for %u sessions", groups_max);
        }
        docs->groups = groups;
        docs->groups_max = groups_max;
    }
    docs->groups[docs->group_count] = (mf_docs_group){0};
    docs->group_count++;
    docs->groups_free++;
    *out = docs->group_count - 1;
    return MF_OK;
}

static mf_rc grow_group(mf_docs *docs, mf_docs_group *group, mf_err *err) {
    if (group->count < group->capacity) {
        return MF_OK;
    }
    uint32_t capacity =
        group->capacity == 0 ? 4 : group->capacity + group->capacity / 2;
    uint32_t *slots = mf_realloc(group->slots, capacity * sizeof(*slots));
    if (slots == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the order of a session");
    }
    docs->bytes += (capacity - group->capacity) * sizeof(*slots);
    group->slots = slots;
    group->capacity = capacity;
    return MF_OK;
}

/* Finds or makes the group of `facts`, with room for one more document. */
static mf_rc reserve_group(mf_docs *docs, const mf_index_facts *facts, uint32_t *out,
                           mf_err *err) {
    group_key key = group_key_of(facts->key.kind, facts->session_id, facts->agent_id);
    void *known = mf_map_get(docs->group_map, key_view(&key));
    if (known != NULL) {
        *out = (uint32_t)((uintptr_t)known - 1);
        return grow_group(docs, &docs->groups[*out], err);
    }
    MF_TRY(free_group(docs, out, err));
    mf_docs_group *group = &docs->groups[*out];
    MF_TRY(grow_group(docs, group, err));
    if (mf_map_put(docs->group_map, key_view(&key), (void *)((uintptr_t)*out + 1),
                   NULL) != MF_OK) {
        docs->bytes -= group->capacity * sizeof(*group->slots);
        mf_free(group->slots);
        *group = (mf_docs_group){0};
        return MF_FAIL(err, MF_E_NOMEM, "no memory for one more session");
    }
    group->kind = facts->key.kind;
    group->session_id = facts->session_id;
    group->agent_id = facts->agent_id;
    docs->groups_free--;
    return MF_OK;
}

/* First position in the group whose num is not below `num`. */
static uint32_t position_of(const mf_docs *docs, const mf_docs_group *group,
                            int64_t num) {
    uint32_t low = 0;
    uint32_t high = group->count;
    if (high > 0 && docs->slots[group->slots[high - 1]].doc->facts.key.num < num) {
        return high; /* the common case: the newest message of its session */
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (docs->slots[group->slots[middle]].doc->facts.key.num < num) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void drop_group_if_empty(mf_docs *docs, uint32_t at) {
    mf_docs_group *group = &docs->groups[at];
    if (group->count > 0 || at == docs->reserved_group) {
        return;
    }
    group_key key = group_key_of(group->kind, group->session_id, group->agent_id);
    (void)mf_map_remove(docs->group_map, key_view(&key)); /* the value is an index */
    docs->bytes -= group->capacity * sizeof(*group->slots);
    mf_free(group->slots);
    *group = (mf_docs_group){0};
    docs->groups_free++;
}

static void leave_group(mf_docs *docs, uint32_t slot) {
    mf_docs_group *group = &docs->groups[docs->slots[slot].group];
    uint32_t at = position_of(docs, group, docs->slots[slot].doc->facts.key.num);
    MF_ASSERT(at < group->count && group->slots[at] == slot);
    group->count--;
    memmove(group->slots + at, group->slots + at + 1,
            (group->count - at) * sizeof(*group->slots));
    drop_group_if_empty(docs, docs->slots[slot].group);
}

/* --- the list of those that wait -------------------------------------------------- */

bool mf_docs_is_pending(const mf_docs *docs, uint32_t slot) {
    return docs->pending_first == slot || docs->slots[slot].before != MF_DOCS_NONE;
}

void mf_docs_set_pending(mf_docs *docs, uint32_t slot, bool pending) {
    mf_docs_slot *s = &docs->slots[slot];
    if (pending == mf_docs_is_pending(docs, slot)) {
        return;
    }
    if (pending) {
        s->before = docs->pending_last;
        s->after = MF_DOCS_NONE;
        *(s->before == MF_DOCS_NONE ? &docs->pending_first
                                    : &docs->slots[s->before].after) = slot;
        docs->pending_last = slot;
        docs->pending_count++;
        return;
    }
    *(s->before == MF_DOCS_NONE ? &docs->pending_first
                                : &docs->slots[s->before].after) = s->after;
    *(s->after == MF_DOCS_NONE ? &docs->pending_last : &docs->slots[s->after].before) =
        s->before;
    s->before = s->after = MF_DOCS_NONE;
    docs->pending_count--;
}

/* --- adding and taking ------------------------------------------------------------ */

/* Sees to it that the free list is not empty. */
static mf_rc reserve_slot(mf_docs *docs, mf_err *err) {
    if (docs->free_first != MF_DOCS_NONE) {
        return MF_OK;
    }
    if (docs->slot_count == MF_POSTINGS_SLOTS_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "an index holds at most %d documents",
                       MF_POSTINGS_SLOTS_MAX);
    }
    if (docs->slot_count == docs->slots_max) {
        uint32_t slots_max =
            docs->slots_max == 0 ? SLOTS_MIN : docs->slots_max + docs->slots_max / 2;
        mf_docs_slot *slots = mf_realloc(docs->slots, slots_max * sizeof(*slots));
        if (slots == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for %u documents", slots_max);
        }
        docs->slots = slots;
        docs->slots_max = slots_max;
    }
    docs->slots[docs->slot_count] =
        (mf_docs_slot){.before = MF_DOCS_NONE, .after = MF_DOCS_NONE};
    docs->free_first = docs->slot_count++;
    return MF_OK;
}

mf_rc mf_docs_reserve(mf_docs *docs, const mf_index_facts *facts, uint32_t *slot,
                      mf_err *err) {
    MF_ASSERT(docs->reserved_group == MF_DOCS_NONE);
    uint32_t group = 0;
    MF_TRY(reserve_slot(docs, err));
    MF_TRY(reserve_table(docs, err));
    MF_TRY(reserve_group(docs, facts, &group, err));
    docs->reserved_group = group;
    *slot = docs->free_first;
    docs->free_first = docs->slots[*slot].after;
    return MF_OK;
}

void mf_docs_cancel(mf_docs *docs, uint32_t slot) {
    uint32_t group = docs->reserved_group;
    docs->reserved_group = MF_DOCS_NONE;
    drop_group_if_empty(docs, group);
    docs->slots[slot].after = docs->free_first;
    docs->free_first = slot;
}

void mf_docs_commit(mf_docs *docs, uint32_t slot, mf_index_doc *doc) {
    mf_docs_group *group = &docs->groups[docs->reserved_group];
    docs->slots[slot] =
        (mf_docs_slot){doc, docs->reserved_group, MF_DOCS_NONE, MF_DOCS_NONE};
    docs->reserved_group = MF_DOCS_NONE;

    size_t entry = entry_of(docs, doc->facts.key);
    MF_ASSERT(docs->table[entry] == MF_DOCS_NONE);
    docs->table[entry] = slot;

    uint32_t at = position_of(docs, group, doc->facts.key.num);
    memmove(group->slots + at + 1, group->slots + at,
            (group->count - at) * sizeof(*group->slots));
    group->slots[at] = slot;
    group->count++;

    docs->count++;
    docs->bytes += doc_bytes(doc);
    mf_docs_set_pending(docs, slot, true);
}

mf_index_doc *mf_docs_take(mf_docs *docs, uint32_t slot) {
    mf_index_doc *doc = docs->slots[slot].doc;
    MF_ASSERT(doc != NULL);
    mf_docs_set_pending(docs, slot, false);
    leave_group(docs, slot);
    drop_key(docs, doc->facts.key);
    docs->slots[slot] =
        (mf_docs_slot){.before = MF_DOCS_NONE, .after = docs->free_first};
    docs->free_first = slot;
    docs->count--;
    docs->bytes -= doc_bytes(doc);
    return doc;
}

size_t mf_docs_bytes(const mf_docs *docs) {
    return docs->slots_max * sizeof(*docs->slots) +
           docs->table_size * sizeof(*docs->table) +
           docs->groups_max * sizeof(*docs->groups) + docs->bytes;
}
