/* bounded_list.c - the newest items of an endless stream.
 *
 * `next` is the place the next item goes to; the newest is in front of it, counted
 * around.  Places are copied under the lock: an item is a small record. */
#include "base/bounded_list.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutex.h"

struct mf_bounded_list {
    /* constant after open */
    const char *name;
    size_t max_size;
    size_t item_bytes;
    mf_mutex items_mu;
    /* guarded by items_mu */
    size_t next;
    size_t size;
    uint64_t added;
    char items[];
};

void mf_bounded_stats_set(mf_bounded_stats *out, const char *name, size_t size,
                          size_t max, uint64_t added) {
    const double per_mille = 1000;
    double tenths = (double)size * per_mille / (double)max + 0.5;
    *out = (mf_bounded_stats){.name = name,
                              .current_size = size,
                              .max_size = max,
                              .total_items_added = added,
                              .usage_percentage = (double)(size_t)tenths / 10};
}

mf_rc mf_bounded_list_open(const char *name, size_t max_size, size_t item_bytes,
                           mf_bounded_list **out, mf_err *err) {
    MF_ASSERT(max_size > 0 && item_bytes > 0);
    size_t bytes = 0;
    if (!mf_mul_size(max_size, item_bytes, &bytes) ||
        !mf_add_size(bytes, sizeof(mf_bounded_list), &bytes)) {
        return MF_FAIL(err, MF_E_LIMIT, "a list of %zu %s is too large", max_size,
                       name);
    }
    mf_bounded_list *list = mf_alloc_zero(1, bytes);
    if (list == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu %s", max_size, name);
    }
    list->name = name;
    list->max_size = max_size;
    list->item_bytes = item_bytes;
    mf_mutex_init(&list->items_mu, MF_RANK_LEAF);
    *out = list;
    return MF_OK;
}

void mf_bounded_list_close(mf_bounded_list *list) {
    if (list != NULL) {
        mf_mutex_done(&list->items_mu);
        mf_free(list);
    }
}

static void append_locked(mf_bounded_list *list, const void *item)
    MF_REQUIRES(list->items_mu) {
    memcpy(list->items + list->next * list->item_bytes, item, list->item_bytes);
    list->next = list->next + 1 < list->max_size ? list->next + 1 : 0;
    list->size += list->size < list->max_size ? 1 : 0;
}

void mf_bounded_list_append(mf_bounded_list *list, const void *item) {
    mf_mutex_lock(&list->items_mu);
    append_locked(list, item);
    list->added++;
    mf_mutex_unlock(&list->items_mu);
}

void mf_bounded_list_extend(mf_bounded_list *list, const void *items, size_t count) {
    size_t skip = count > list->max_size ? count - list->max_size : 0;
    mf_mutex_lock(&list->items_mu);
    for (size_t i = skip; i < count; i++) {
        append_locked(list, (const char *)items + i * list->item_bytes);
    }
    list->added += count;
    mf_mutex_unlock(&list->items_mu);
}

/* The item `back` steps before the newest. */
static const char *item_locked(const mf_bounded_list *list, size_t back)
    MF_REQUIRES(list->items_mu) {
    size_t steps = back + 1;
    size_t at =
        list->next >= steps ? list->next - steps : list->next + list->max_size - steps;
    return list->items + at * list->item_bytes;
}

size_t mf_bounded_list_get_recent(mf_bounded_list *list, void *items, size_t count) {
    mf_mutex_lock(&list->items_mu);
    size_t take = count < list->size ? count : list->size;
    for (size_t i = 0; i < take; i++) {
        memcpy((char *)items + i * list->item_bytes, item_locked(list, i),
               list->item_bytes);
    }
    mf_mutex_unlock(&list->items_mu);
    return take;
}

size_t mf_bounded_list_get_all(mf_bounded_list *list, void *items) {
    mf_mutex_lock(&list->items_mu);
    size_t size = list->size;
    for (size_t i = 0; i < size; i++) {
        memcpy((char *)items + i * list->item_bytes, item_locked(list, size - 1 - i),
               list->item_bytes);
    }
    mf_mutex_unlock(&list->items_mu);
    return size;
}

void mf_bounded_list_clear(mf_bounded_list *list) {
    mf_mutex_lock(&list->items_mu);
    list->size = 0;
    list->next = 0;
    mf_mutex_unlock(&list->items_mu);
}

size_t mf_bounded_list_size(mf_bounded_list *list) {
    mf_mutex_lock(&list->items_mu);
    size_t size = list->size;
    mf_mutex_unlock(&list->items_mu);
    return size;
}

void mf_bounded_list_get_stats(mf_bounded_list *list, mf_bounded_stats *out) {
    mf_mutex_lock(&list->items_mu);
    mf_bounded_stats_set(out, list->name, list->size, list->max_size, list->added);
    mf_mutex_unlock(&list->items_mu);
}
