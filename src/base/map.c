/* map.c - hash map from bytes to a pointer.
 *
 * Linear probing over a power-of-two table that is at most three quarters full.  A
 * removal moves the entries behind it back instead of leaving a mark, so probes stay
 * short however many come and go.  Keys of up to 16 bytes, ids above all, live inside
 * the entry; longer ones are copied to the heap.  Keys come from outside, so each map
 * hashes with a random seed: nobody can prepare names that all land in one place. */
#include "base/map.h"

#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/rng.h"

enum { FIRST_SLOTS = 8, KEY_INSIDE_MAX = 16 };

typedef struct map_entry {
    uint64_t hash;
    size_t key_len;
    union {
        char inside[KEY_INSIDE_MAX];
        char *heap;
    } key;
    void *value; /* NULL: the slot is empty */
} map_entry;

struct mf_map {
    size_t count_max;
    size_t count;
    size_t slot_count; /* 0 or a power of two */
    uint64_t seed;
    map_entry *slots;
};

mf_rc mf_map_new(size_t count_max, mf_map **out, mf_err *err) {
    MF_ASSERT(count_max > 0);
    mf_map *map = mf_alloc_zero(1, sizeof *map);
    if (map == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a map");
    }
    map->count_max = count_max;
    mf_random_bytes(&map->seed, sizeof map->seed);
    *out = map;
    return MF_OK;
}

static mf_str entry_key(const map_entry *entry) {
    const char *p =
        entry->key_len <= KEY_INSIDE_MAX ? entry->key.inside : entry->key.heap;
    return (mf_str){p, entry->key_len};
}

static void key_drop(map_entry *entry) {
    if (entry->key_len > KEY_INSIDE_MAX) {
        mf_free(entry->key.heap);
    }
}

void mf_map_free(mf_map *map) {
    if (map == NULL) {
        return;
    }
    for (size_t i = 0; i < map->slot_count; i++) {
        if (map->slots[i].value != NULL) {
            key_drop(&map->slots[i]);
        }
    }
    mf_free(map->slots);
    mf_free(map);
}

static uint64_t hash_of(const mf_map *map, mf_str key) {
    return XXH3_64bits_withSeed(key.len > 0 ? key.p : "", key.len, map->seed);
}

/* The slot that holds the key, or the empty one where it belongs. */
static map_entry *slot_find(const mf_map *map, mf_str key, uint64_t hash) {
    size_t mask = map->slot_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        map_entry *entry = &map->slots[i];
        if (entry->value == NULL ||
            (entry->hash == hash && mf_str_eq(entry_key(entry), key))) {
            return entry;
        }
    }
}

void *mf_map_get(const mf_map *map, mf_str key) {
    if (map->count == 0) {
        return NULL;
    }
    return slot_find(map, key, hash_of(map, key))->value;
}

static bool grow(mf_map *map) {
    size_t slot_count = map->slot_count > 0 ? map->slot_count * 2 : FIRST_SLOTS;
    map_entry *slots = mf_alloc_zero(slot_count, sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    size_t mask = slot_count - 1;
    for (size_t i = 0; i < map->slot_count; i++) {
        if (map->slots[i].value != NULL) {
            size_t at = (size_t)map->slots[i].hash & mask;
            while (slots[at].value != NULL) {
                at = (at + 1) & mask;
            }
            slots[at] = map->slots[i];
        }
    }
    mf_free(map->slots);
    map->slots = slots;
    map->slot_count = slot_count;
    return true;
}

mf_rc mf_map_put(mf_map *map, mf_str key, void *value, void **old) {
    MF_ASSERT(value != NULL);
    uint64_t hash = hash_of(map, key);
    map_entry *entry = map->slot_count > 0 ? slot_find(map, key, hash) : NULL;
    if (entry != NULL && entry->value != NULL) {
        if (old != NULL) {
            *old = entry->value;
        }
        entry->value = value;
        return MF_OK;
    }
    if (map->count >= map->count_max) {
        return MF_E_LIMIT;
    }
    map_entry fresh = {.hash = hash, .key_len = key.len, .value = value};
    if (key.len > KEY_INSIDE_MAX) {
        fresh.key.heap = mf_strndup(key.p, key.len);
        if (fresh.key.heap == NULL) {
            return MF_E_NOMEM;
        }
    } else if (key.len > 0) {
        memcpy(fresh.key.inside, key.p, key.len);
    }
    if (entry == NULL || (map->count + 1) * 4 > map->slot_count * 3) {
        if (!grow(map)) {
            key_drop(&fresh);
            return MF_E_NOMEM;
        }
        entry = slot_find(map, key, hash);
    }
    *entry = fresh;
    map->count++;
    if (old != NULL) {
        *old = NULL;
    }
    return MF_OK;
}

void *mf_map_remove(mf_map *map, mf_str key) {
    if (map->count == 0) {
        return NULL;
    }
    map_entry *entry = slot_find(map, key, hash_of(map, key));
    void *value = entry->value;
    if (value == NULL) {
        return NULL;
    }
    key_drop(entry);
    map->count--;
    /* Closes the hole: an entry may move back to it unless its home lies between. */
    size_t mask = map->slot_count - 1;
    size_t hole = (size_t)(entry - map->slots);
    for (size_t i = (hole + 1) & mask; map->slots[i].value != NULL;
         i = (i + 1) & mask) {
        size_t home = (size_t)map->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = NULL;
    return value;
}

size_t mf_map_count(const mf_map *map) {
    return map->count;
}

bool mf_map_next(const mf_map *map, size_t *cursor, mf_str *key, void **value) {
    for (; *cursor < map->slot_count; (*cursor)++) {
        const map_entry *entry = &map->slots[*cursor];
        if (entry->value != NULL) {
            *key = entry_key(entry);
            *value = entry->value;
            (*cursor)++;
            return true;
        }
    }
    return false;
}
