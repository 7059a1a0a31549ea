/* bounded_map.h - the newest keys of an endless stream, with a value each.
 *
 * Keys of up to a given length and values of one size, copied in and out.  All memory
 * is taken at open; when the map is full, the key unused longest leaves, and reading a
 * key uses it as writing does.  Every call on one key is O(1) and allocates nothing.
 *
 * For small records that everybody may lose: values that are large, counted or age
 * belong into an mf_lru.  Thread-safe. */
#ifndef MF_BASE_BOUNDED_MAP_H
#define MF_BASE_BOUNDED_MAP_H

#include "base/bounded_list.h"
#include "base/str.h"

typedef struct mf_bounded_map mf_bounded_map;

/* `name` is static storage; the numbers are 1 or more. */
typedef struct mf_bounded_map_options {
    const char *name;
    size_t max_size;
    size_t key_bytes_max;
    size_t value_bytes;
} mf_bounded_map_options;

/* MF_E_NOMEM, also when the whole is no size. */
MF_CHECKED mf_rc mf_bounded_map_open(const mf_bounded_map_options *options,
                                     mf_bounded_map **out, mf_err *err);
void mf_bounded_map_close(mf_bounded_map *map); /* NULL is fine */

/* false: the key is longer than the map's keys may be, and nothing was kept. */
bool mf_bounded_map_set(mf_bounded_map *map, mf_str key, const void *value);
/* Runs `change(value, arg)` on the key's value, all zeros if it is new, under the lock:
 * it must do no more than compute.  false as above. */
bool mf_bounded_map_update(mf_bounded_map *map, mf_str key,
                           void (*change)(void *value, const void *arg),
                           const void *arg);
bool mf_bounded_map_get(mf_bounded_map *map, mf_str key, void *value); /* copies */
/* Copies up to `count` values to `values` and, unless NULL, their keys to `keys`, each
 * padded with zeros to key_bytes_max; the most recently used first; how many.  Uses
 * none. */
size_t mf_bounded_map_get_recent(mf_bounded_map *map, void *keys, void *values,
                                 size_t count);
void mf_bounded_map_clear(mf_bounded_map *map); /* keeps total_items_added */
size_t mf_bounded_map_size(mf_bounded_map *map);
void mf_bounded_map_get_stats(mf_bounded_map *map, mf_bounded_stats *out);

#endif
