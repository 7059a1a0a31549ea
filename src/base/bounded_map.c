/* bounded_map.c - the newest keys of an endless stream, with a value each.
 *
 * Places for `max_size` entries, made at open and known by their numbers: a place is
 * free, or it is in a hash chain and on the list from hot to cold.  Place NONE ends
 * both.  Free places are used in rising order until all are taken; from then on the
 * cold end gives up its place.
 *
 * Invariant, while the lock is free: places 0..size-1 are taken, each in the chain of
 * its hash and on the list. */
#include "base/bounded_map.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutex.h"

#define NONE SIZE_MAX

enum { BUCKETS_MIN = 8 };

typedef struct place {
    size_t chain; /* next of the same bucket */
    size_t hotter;
    size_t colder;
    uint64_t hash;
    size_t key_len;
} place;

struct mf_bounded_map {
    /* constant after open */
    mf_bounded_map_options options;
    size_t bucket_mask;
    mf_mutex places_mu;
    /* guarded by places_mu */
    size_t size;
    size_t hot;
    size_t cold;
    uint64_t added;
    size_t *buckets;
    place *places;
    char *keys;
    char *values;
};

static void empty_locked(mf_bounded_map *map) MF_REQUIRES(map->places_mu) {
    map->size = 0;
    map->hot = NONE;
    map->cold = NONE;
    for (size_t i = 0; i <= map->bucket_mask; i++) {
        map->buckets[i] = NONE;
    }
}

MF_TSA(no_thread_safety_analysis) /* nobody else has it yet */
mf_rc mf_bounded_map_open(const mf_bounded_map_options *options, mf_bounded_map **out,
                          mf_err *err) {
    MF_ASSERT(options->max_size > 0 && options->max_size <= SIZE_MAX / 4);
    MF_ASSERT(options->key_bytes_max > 0 && options->value_bytes > 0);
    size_t bucket_count = BUCKETS_MIN;
    while (bucket_count < options->max_size) {
        bucket_count *= 2;
    }
    mf_bounded_map *map = mf_alloc_zero(1, sizeof *map);
    if (map == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %s", options->name);
    }
    map->options = *options;
    map->bucket_mask = bucket_count - 1;
    map->buckets = mf_alloc_array(bucket_count, sizeof *map->buckets);
    map->places = mf_alloc_zero(options->max_size, sizeof *map->places);
    map->keys = mf_alloc_zero(options->max_size, options->key_bytes_max);
    map->values = mf_alloc_zero(options->max_size, options->value_bytes);
    mf_mutex_init(&map->places_mu, MF_RANK_LEAF);
    if (map->buckets == NULL || map->places == NULL || map->keys == NULL ||
        map->values == NULL) {
        mf_bounded_map_close(map);
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu %s", options->max_size,
                       options->name);
    }
    empty_locked(map);
    *out = map;
    return MF_OK;
}

void mf_bounded_map_close(mf_bounded_map *map) {
    if (map != NULL) {
        mf_mutex_done(&map->places_mu);
        mf_free(map->buckets);
        mf_free(map->places);
        mf_free(map->keys);
        mf_free(map->values);
        mf_free(map);
    }
}

static char *key_at(mf_bounded_map *map, size_t at) {
    return map->keys + at * map->options.key_bytes_max;
}

static char *value_at(mf_bounded_map *map, size_t at) {
    return map->values + at * map->options.value_bytes;
}

static size_t *bucket_of(mf_bounded_map *map, uint64_t hash) {
    return &map->buckets[(size_t)hash & map->bucket_mask];
}

static size_t find_locked(mf_bounded_map *map, mf_str key, uint64_t hash)
    MF_REQUIRES(map->places_mu) {
    size_t at = *bucket_of(map, hash);
    while (at != NONE) {
        const place *p = &map->places[at];
        if (p->hash == hash && mf_str_eq((mf_str){key_at(map, at), p->key_len}, key)) {
            return at;
        }
        at = p->chain;
    }
    return NONE;
}

static void list_cut_locked(mf_bounded_map *map, size_t at)
    MF_REQUIRES(map->places_mu) {
    const place *p = &map->places[at];
    *(p->hotter != NONE ? &map->places[p->hotter].colder : &map->hot) = p->colder;
    *(p->colder != NONE ? &map->places[p->colder].hotter : &map->cold) = p->hotter;
}

static void list_add_locked(mf_bounded_map *map, size_t at)
    MF_REQUIRES(map->places_mu) {
    map->places[at].hotter = NONE;
    map->places[at].colder = map->hot;
    *(map->hot != NONE ? &map->places[map->hot].hotter : &map->cold) = at;
    map->hot = at;
}

/* A place for a new key: the next free one, or the coldest key's. */
static size_t take_place_locked(mf_bounded_map *map) MF_REQUIRES(map->places_mu) {
    if (map->size < map->options.max_size) {
        return map->size++;
    }
    size_t at = map->cold;
    size_t *link = bucket_of(map, map->places[at].hash);
    while (*link != at) {
        link = &map->places[*link].chain;
    }
    *link = map->places[at].chain;
    list_cut_locked(map, at);
    return at;
}

/* The key's place, made and zeroed if it is new, at the hot end. */
static size_t use_locked(mf_bounded_map *map, mf_str key, uint64_t hash)
    MF_REQUIRES(map->places_mu) {
    size_t at = find_locked(map, key, hash);
    if (at != NONE) {
        list_cut_locked(map, at);
    } else {
        at = take_place_locked(map);
        size_t *bucket = bucket_of(map, hash);
        map->places[at] = (place){.chain = *bucket, .hash = hash, .key_len = key.len};
        *bucket = at;
        memset(key_at(map, at), 0, map->options.key_bytes_max);
        memset(value_at(map, at), 0, map->options.value_bytes);
        if (key.len > 0) {
            memcpy(key_at(map, at), key.p, key.len);
        }
        map->added++;
    }
    list_add_locked(map, at);
    return at;
}

bool mf_bounded_map_set(mf_bounded_map *map, mf_str key, const void *value) {
    if (key.len > map->options.key_bytes_max) {
        return false;
    }
    uint64_t hash = mf_str_hash(key);
    mf_mutex_lock(&map->places_mu);
    size_t at = use_locked(map, key, hash);
    memcpy(value_at(map, at), value, map->options.value_bytes);
    mf_mutex_unlock(&map->places_mu);
    return true;
}

bool mf_bounded_map_update(mf_bounded_map *map, mf_str key,
                           void (*change)(void *value, const void *arg),
                           const void *arg) {
    if (key.len > map->options.key_bytes_max) {
        return false;
    }
    uint64_t hash = mf_str_hash(key);
    mf_mutex_lock(&map->places_mu);
    change(value_at(map, use_locked(map, key, hash)), arg);
    mf_mutex_unlock(&map->places_mu);
    return true;
}

bool mf_bounded_map_get(mf_bounded_map *map, mf_str key, void *value) {
    uint64_t hash = mf_str_hash(key);
    mf_mutex_lock(&map->places_mu);
    size_t at = find_locked(map, key, hash);
    if (at != NONE) {
        list_cut_locked(map, at);
        list_add_locked(map, at);
        memcpy(value, value_at(map, at), map->options.value_bytes);
    }
    mf_mutex_unlock(&map->places_mu);
    return at != NONE;
}

size_t mf_bounded_map_get_recent(mf_bounded_map *map, void *keys, void *values,
                                 size_t count) {
    size_t key_bytes = map->options.key_bytes_max;
    size_t value_bytes = map->options.value_bytes;
    size_t taken = 0;
    mf_mutex_lock(&map->places_mu);
    for (size_t at = map->hot; at != NONE && taken < count;
         at = map->places[at].colder) {
        if (keys != NULL) {
            memcpy((char *)keys + taken * key_bytes, key_at(map, at), key_bytes);
        }
        memcpy((char *)values + taken * value_bytes, value_at(map, at), value_bytes);
        taken++;
    }
    mf_mutex_unlock(&map->places_mu);
    return taken;
}

void mf_bounded_map_clear(mf_bounded_map *map) {
    mf_mutex_lock(&map->places_mu);
    empty_locked(map);
    mf_mutex_unlock(&map->places_mu);
}

size_t mf_bounded_map_size(mf_bounded_map *map) {
    mf_mutex_lock(&map->places_mu);
    size_t size = map->size;
    mf_mutex_unlock(&map->places_mu);
    return size;
}

void mf_bounded_map_get_stats(mf_bounded_map *map, mf_bounded_stats *out) {
    mf_mutex_lock(&map->places_mu);
    mf_bounded_stats_set(out, map->options.name, map->size, map->options.max_size,
                         map->added);
    mf_mutex_unlock(&map->places_mu);
}
