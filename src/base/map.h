/* map.h - hash map from bytes to a pointer.
 *
 * Open addressing, keys copied in.  Created with the most entries it may hold.
 * One owner: callers lock. */
#ifndef MF_BASE_MAP_H
#define MF_BASE_MAP_H

#include "base/err.h"
#include "base/str.h"

typedef struct mf_map mf_map;

MF_CHECKED mf_rc mf_map_new(size_t count_max, mf_map **out, mf_err *err);
void mf_map_free(mf_map *map);                   /* values are the caller's */
void *mf_map_get(const mf_map *map, mf_str key); /* NULL when absent */
/* Adds or replaces; `*old`, unless NULL, gets the value replaced or NULL.  `value` must
 * not be NULL.  MF_E_LIMIT or MF_E_NOMEM leave the map as it was. */
MF_CHECKED mf_rc mf_map_put(mf_map *map, mf_str key, void *value, void **old);
void *mf_map_remove(mf_map *map, mf_str key); /* the value, or NULL */
size_t mf_map_count(const mf_map *map);
/* Walk: start with *cursor = 0; false at the end.  No changes meanwhile. */
bool mf_map_next(const mf_map *map, size_t *cursor, mf_str *key, void **value);

#endif
