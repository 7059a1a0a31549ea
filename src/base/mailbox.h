/* mailbox.h - bounded queue of pointers between threads.
 *
 * Many senders, any number of receivers, first in first out.  A push that succeeds
 * moves ownership to the receiver; one that fails leaves it with the sender. */
#ifndef MF_BASE_MAILBOX_H
#define MF_BASE_MAILBOX_H

#include <stdint.h>

#include "base/err.h"

typedef struct mf_mailbox mf_mailbox;

typedef struct mf_mailbox_stats {
    size_t depth;
    size_t depth_max; /* high-water mark */
    size_t capacity;
    uint64_t pushed;
    uint64_t refused; /* pushes turned away because it was full */
} mf_mailbox_stats;

MF_CHECKED mf_rc mf_mailbox_open(size_t capacity, mf_mailbox **out, mf_err *err);
/* No thread may still be in a call.  Items left inside are not freed: drain first. */
void mf_mailbox_close(mf_mailbox *box);
/* MF_E_BUSY when full, MF_E_STOPPING after mf_mailbox_stop.  Never waits. */
MF_CHECKED mf_rc mf_mailbox_push(mf_mailbox *box, void *item);
/* Waits for at least one item, then takes up to `items_max` without waiting further.
 * Returns how many; 0 when `deadline_ns` (monotonic) passed, or when the box was
 * stopped and is empty. */
size_t mf_mailbox_take(mf_mailbox *box, void **items, size_t items_max,
                       int64_t deadline_ns);
/* Refuses further pushes and wakes every receiver; what is inside can still be
 * taken. */
void mf_mailbox_stop(mf_mailbox *box);
void mf_mailbox_get_stats(mf_mailbox *box, mf_mailbox_stats *out);

#endif
