/* mailbox_test.c - a mailbox keeps order, says when it is full, and leaves a refused
 * item with its sender. */
#include "base/mailbox.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mutex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SENDERS = 4, RECEIVERS = 3, PER_SENDER = 4000 };

static mf_mailbox *box_of(size_t capacity) {
    mf_mailbox *box = NULL;
    assert_int_equal(mf_mailbox_open(capacity, &box, NULL), MF_OK);
    return box;
}

static void items_come_out_in_the_order_they_went_in(void **state) {
    (void)state;
    int items[50];
    mf_mailbox *box = box_of(7);
    size_t in = 0;
    size_t out = 0;
    while (out < 50) {
        while (in < 50 && mf_mailbox_push(box, &items[in]) == MF_OK) {
            in++;
        }
        void *got[3];
        size_t n = mf_mailbox_take(box, got, 3, MF_NEVER);
        assert_in_range(n, 1, 3);
        for (size_t i = 0; i < n; i++) {
            assert_ptr_equal(got[i], &items[out++]);
        }
    }
    mf_mailbox_close(box);
    mf_mailbox_close(NULL);
}

static void full_box_refuses_and_keeps_what_it_had(void **state) {
    (void)state;
    int a = 1;
    int b = 2;
    int c = 3;
    mf_mailbox *box = box_of(2);
    assert_int_equal(mf_mailbox_push(box, &a), MF_OK);
    assert_int_equal(mf_mailbox_push(box, &b), MF_OK);
    assert_int_equal(mf_mailbox_push(box, &c), MF_E_BUSY);
    assert_int_equal(mf_mailbox_push(box, &c), MF_E_BUSY);
    mf_mailbox_stats stats;
    mf_mailbox_get_stats(box, &stats);
    assert_int_equal(stats.depth, 2);
    assert_int_equal(stats.depth_max, 2);
    assert_int_equal(stats.capacity, 2);
    assert_int_equal(stats.pushed, 2);
    assert_int_equal(stats.refused, 2);
    void *got[4];
    assert_int_equal(mf_mailbox_take(box, got, 4, MF_NEVER), 2);
    assert_ptr_equal(got[0], &a);
    assert_ptr_equal(got[1], &b);
    assert_int_equal(mf_mailbox_push(box, &c), MF_OK); /* room again */
    mf_mailbox_get_stats(box, &stats);
    assert_int_equal(stats.depth, 1);
    assert_int_equal(stats.depth_max, 2);
    mf_mailbox_close(box);
}

static void empty_box_gives_nothing_at_the_deadline(void **state) {
    (void)state;
    void *got[1];
    mf_mailbox *box = box_of(1);
    assert_int_equal(mf_mailbox_take(box, got, 1, mf_now_ns()), 0);
    assert_int_equal(mf_mailbox_take(box, got, 1, mf_deadline_in_ms(1)), 0);
    int a = 1;
    assert_int_equal(mf_mailbox_push(box, &a), MF_OK);
    assert_int_equal(mf_mailbox_take(box, got, 1, 0), 1); /* there already: no wait */
    mf_mailbox_close(box);
}

static void stopped_box_refuses_but_gives_what_is_inside(void **state) {
    (void)state;
    int a = 1;
    void *got[1];
    mf_mailbox *box = box_of(4);
    assert_int_equal(mf_mailbox_push(box, &a), MF_OK);
    mf_mailbox_stop(box);
    assert_int_equal(mf_mailbox_push(box, &a), MF_E_STOPPING);
    mf_mailbox_stats stats;
    mf_mailbox_get_stats(box, &stats);
    assert_int_equal(stats.refused, 0); /* counts a full box only */
    assert_int_equal(mf_mailbox_take(box, got, 1, MF_NEVER), 1);
    assert_int_equal(mf_mailbox_take(box, got, 1, MF_NEVER), 0);
    mf_mailbox_close(box);
}

typedef struct traffic {
    mf_mailbox *box;
    atomic_size_t next_sender;
    atomic_size_t received;
    atomic_size_t disorder;
    int items[SENDERS][PER_SENDER]; /* number within its sender */
} traffic;

static void send_items(void *arg) {
    traffic *t = arg;
    size_t sender = atomic_fetch_add(&t->next_sender, 1);
    for (int i = 0; i < PER_SENDER; i++) {
        t->items[sender][i] = i;
        while (mf_mailbox_push(t->box, &t->items[sender][i]) == MF_E_BUSY) {
            sched_yield();
        }
    }
}

/* One receiver alone meets the items of each sender in order, whoever else receives. */
static void receive_items(void *arg) {
    traffic *t = arg;
    int last[SENDERS] = {-1, -1, -1, -1};
    void *got[5];
    size_t n = 0;
    while ((n = mf_mailbox_take(t->box, got, 5, MF_NEVER)) > 0) {
        for (size_t i = 0; i < n; i++) {
            int *item = got[i];
            size_t sender = (size_t)(item - &t->items[0][0]) / PER_SENDER;
            if (*item <= last[sender]) {
                atomic_fetch_add(&t->disorder, 1);
            }
            last[sender] = *item;
        }
        atomic_fetch_add(&t->received, n);
    }
}

static void nothing_is_lost_between_many_threads(void **state) {
    (void)state;
    static traffic t;
    t.box = box_of(16);
    mf_thread senders[SENDERS] = {{.started = false}};
    mf_thread receivers[RECEIVERS] = {{.started = false}};
    for (size_t i = 0; i < RECEIVERS; i++) {
        assert_int_equal(
            mf_thread_start(&receivers[i], "receive", receive_items, &t, NULL), MF_OK);
    }
    for (size_t i = 0; i < SENDERS; i++) {
        assert_int_equal(mf_thread_start(&senders[i], "send", send_items, &t, NULL),
                         MF_OK);
    }
    for (size_t i = 0; i < SENDERS; i++) {
        mf_thread_join(&senders[i]);
    }
    mf_mailbox_stop(t.box); /* wakes the receivers; what is inside still gets out */
    for (size_t i = 0; i < RECEIVERS; i++) {
        mf_thread_join(&receivers[i]);
    }
    assert_int_equal(atomic_load(&t.received), (size_t)SENDERS * PER_SENDER);
    assert_int_equal(atomic_load(&t.disorder), 0);
    mf_mailbox_stats stats;
    mf_mailbox_get_stats(t.box, &stats);
    assert_int_equal(stats.depth, 0);
    assert_int_equal(stats.pushed, (size_t)SENDERS * PER_SENDER);
    assert_in_range(stats.depth_max, 1, 16);
    mf_mailbox_close(t.box);
}

static void open_survives_each_failed_allocation(void **state) {
    (void)state;
    size_t live = mf_alloc_live();
    MF_EACH_FAULT(MF_FAULT_ALLOC, n) {
        mf_mailbox *box = NULL;
        mf_err err;
        if (mf_mailbox_open(8, &box, &err) != MF_OK) {
            assert_true(mf_fault_fired());
            assert_int_equal(err.rc, MF_E_NOMEM);
            assert_null(box);
        }
        assert_in_range(n, 0, 1);
        mf_mailbox_close(box);
        assert_int_equal(mf_alloc_live(), live);
    }
    mf_mailbox *box = NULL;
    assert_int_equal(mf_mailbox_open(SIZE_MAX / 2, &box, NULL), MF_E_NOMEM);
    assert_null(box);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_the_order_they_went_in),
        cmocka_unit_test(full_box_refuses_and_keeps_what_it_had),
        cmocka_unit_test(empty_box_gives_nothing_at_the_deadline),
        cmocka_unit_test(stopped_box_refuses_but_gives_what_is_inside),
        cmocka_unit_test(nothing_is_lost_between_many_threads),
        cmocka_unit_test(open_survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
