/* mailbox.c - bounded queue of pointers between threads.
 *
 * A ring under one mutex.  `waiting` counts the receivers asleep, so that a push into a
 * box whose receivers are all busy makes no call to the condition variable. */
#include "base/mailbox.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutex.h"

struct mf_mailbox {
    size_t capacity; /* constant after open */
    mf_mutex box_mu;
    mf_cond arrived;
    /* guarded by box_mu */
    size_t first;
    size_t count;
    size_t waiting;
    bool stopped;
    size_t depth_max;
    uint64_t pushed;
    uint64_t refused;
    void *ring[];
};

mf_rc mf_mailbox_open(size_t capacity, mf_mailbox **out, mf_err *err) {
    MF_ASSERT(capacity > 0);
    size_t size = 0;
    mf_mailbox *box = NULL;
    if (mf_mul_size(capacity, sizeof box->ring[0], &size) &&
        mf_add_size(size, sizeof *box, &size)) {
        box = mf_alloc_zero(1, size);
    }
    if (box == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a mailbox of %zu items",
                       capacity);
    }
    box->capacity = capacity;
    mf_mutex_init(&box->box_mu, MF_RANK_MAILBOX);
    mf_cond_init(&box->arrived);
    *out = box;
    return MF_OK;
}

void mf_mailbox_close(mf_mailbox *box) {
    if (box == NULL) {
        return;
    }
    MF_ASSERT(box->waiting == 0);
    mf_cond_done(&box->arrived);
    mf_mutex_done(&box->box_mu);
    mf_free(box);
}

mf_rc mf_mailbox_push(mf_mailbox *box, void *item) {
    MF_ASSERT(item != NULL);
    mf_rc rc = MF_OK;
    mf_mutex_lock(&box->box_mu);
    if (box->stopped) {
        rc = MF_E_STOPPING;
    } else if (box->count == box->capacity) {
        box->refused++;
        rc = MF_E_BUSY;
    } else {
        box->ring[(box->first + box->count) % box->capacity] = item;
        box->count++;
        box->pushed++;
        if (box->count > box->depth_max) {
            box->depth_max = box->count;
        }
        if (box->waiting > 0) {
            mf_cond_signal(&box->arrived);
        }
    }
    mf_mutex_unlock(&box->box_mu);
    return rc;
}

size_t mf_mailbox_take(mf_mailbox *box, void **items, size_t items_max,
                       int64_t deadline_ns) {
    MF_ASSERT(items_max > 0);
    mf_mutex_lock(&box->box_mu);
    bool in_time = true;
    while (box->count == 0 && !box->stopped && in_time) {
        box->waiting++;
        in_time = mf_cond_wait(&box->arrived, &box->box_mu, deadline_ns);
        box->waiting--;
    }
    size_t taken = box->count < items_max ? box->count : items_max;
    for (size_t i = 0; i < taken; i++) {
        items[i] = box->ring[box->first];
        box->first = (box->first + 1) % box->capacity;
    }
    box->count -= taken;
    mf_mutex_unlock(&box->box_mu);
    return taken;
}

void mf_mailbox_stop(mf_mailbox *box) {
    mf_mutex_lock(&box->box_mu);
    box->stopped = true;
    mf_cond_broadcast(&box->arrived);
    mf_mutex_unlock(&box->box_mu);
}

void mf_mailbox_get_stats(mf_mailbox *box, mf_mailbox_stats *out) {
    mf_mutex_lock(&box->box_mu);
    *out = (mf_mailbox_stats){.depth = box->count,
                              .depth_max = box->depth_max,
                              .capacity = box->capacity,
                              .pushed = box->pushed,
                              .refused = box->refused};
    mf_mutex_unlock(&box->box_mu);
}
