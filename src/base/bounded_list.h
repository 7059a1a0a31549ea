/* bounded_list.h - the newest items of an endless stream.
 *
 * A ring of items of one size, copied in and out.  All memory is taken at open; when
 * the list is full the oldest item leaves.  Appending is O(1) and allocates nothing.
 *
 * Thread-safe. */
#ifndef MF_BASE_BOUNDED_LIST_H
#define MF_BASE_BOUNDED_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct mf_bounded_list mf_bounded_list;

/* Of a bounded list or map; the names of the fields are the ones to show. */
typedef struct mf_bounded_stats {
    const char *name;
    size_t current_size, max_size;
    uint64_t total_items_added; /* a map counts new keys only */
    double usage_percentage;    /* rounded to one decimal */
} mf_bounded_stats;

/* Fills the statistics of `size` items out of `max`. */
void mf_bounded_stats_set(mf_bounded_stats *out, const char *name, size_t size,
                          size_t max, uint64_t added);

/* `name` is static storage; `max_size` and `item_bytes` are 1 or more.  MF_E_NOMEM,
 * MF_E_LIMIT when their product is no size. */
MF_CHECKED mf_rc mf_bounded_list_open(const char *name, size_t max_size,
                                      size_t item_bytes, mf_bounded_list **out,
                                      mf_err *err);
void mf_bounded_list_close(mf_bounded_list *list); /* NULL is fine */

void mf_bounded_list_append(mf_bounded_list *list, const void *item);
/* `count` items one behind the other; of more than the bound, the last ones stay. */
void mf_bounded_list_extend(mf_bounded_list *list, const void *items, size_t count);
/* Copies up to `count` of the newest items to `items`, newest first; how many. */
size_t mf_bounded_list_get_recent(mf_bounded_list *list, void *items, size_t count);
/* Copies all to `items`, which has room for max_size, oldest first; how many. */
size_t mf_bounded_list_get_all(mf_bounded_list *list, void *items);
void mf_bounded_list_clear(mf_bounded_list *list); /* keeps total_items_added */
size_t mf_bounded_list_size(mf_bounded_list *list);
void mf_bounded_list_get_stats(mf_bounded_list *list, mf_bounded_stats *out);

#endif
