/* writer.c - the one thread that writes: group commit over any store.
 *
 *   callers --mailbox--> writer thread: begin, each operation in its own undo point,
 *                        commit once, then report to each
 *
 * There is no artificial delay.  While one group commits, the next one gathers in the
 * mailbox, so groups grow by themselves exactly when flushes are slow.
 *
 * The thread alone touches the connection and the group's arrays.  A group whose
 * transaction is lost (begin or commit fails) fails as a whole: every operation in it
 * that had not failed by itself gets the transaction's failure. */
#include "store/writer.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mutex.h"

typedef struct outcome {
    mf_rc rc;
    mf_err err;
} outcome;

struct mf_writer {
    /* constant after open */
    mf_mailbox *box;
    mf_conn *conn;
    size_t group_max;
    mf_thread thread;
    mf_write **group;  /* [group_max], owned by the thread, as is the next */
    outcome *outcomes; /* [group_max] */
    /* written by the thread, read by anybody */
    atomic_uint_fast64_t operations, failures, commits, commit_failures, commit_ns;
    atomic_size_t group_largest;
    atomic_bool failed;
};

static void run_one(mf_writer *w, mf_write *op, outcome *out) {
    const mf_store_ops *ops = w->conn->ops;
    out->rc = ops->savepoint(w->conn, &out->err);
    if (out->rc != MF_OK) {
        return;
    }
    out->rc = op->run(w->conn, op->ctx, &out->err);
    if (out->rc == MF_OK) {
        out->rc = ops->savepoint_keep(w->conn, &out->err);
    }
    if (out->rc != MF_OK) {
        ops->savepoint_undo(w->conn);
    }
}

static void fail_rest(mf_writer *w, size_t count, mf_rc rc, const mf_err *err) {
    for (size_t i = 0; i < count; i++) {
        if (w->outcomes[i].rc == MF_OK) {
            w->outcomes[i] = (outcome){rc, *err};
        }
    }
}

static void commit_group(mf_writer *w, size_t count) {
    mf_err err = {0};
    int64_t start = mf_now_ns();
    mf_rc rc = w->conn->ops->commit(w->conn, &err);
    atomic_fetch_add(&w->commit_ns, (uint64_t)(mf_now_ns() - start));
    atomic_fetch_add(&w->commits, 1);
    if (rc != MF_OK) {
        atomic_fetch_add(&w->commit_failures, 1);
        if (rc == MF_E_IO) {
            atomic_store(&w->failed, true);
        }
        fail_rest(w, count, rc, &err);
    }
}

static size_t run_all(mf_writer *w, size_t count) {
    size_t done_well = 0;
    for (size_t i = 0; i < count; i++) {
        run_one(w, w->group[i], &w->outcomes[i]);
        done_well += w->outcomes[i].rc == MF_OK;
    }
    return done_well;
}

static void run_group(mf_writer *w, size_t count) {
    for (size_t i = 0; i < count; i++) {
        w->outcomes[i] = (outcome){0};
    }
    mf_err err = {0};
    mf_rc rc = MF_E_IO;
    if (atomic_load(&w->failed)) {
        (void)MF_FAIL(&err, rc, "writes are refused since a flush to disk failed");
    } else {
        rc = w->conn->ops->begin(w->conn, &err);
    }
    if (rc != MF_OK) {
        fail_rest(w, count, rc, &err);
    } else if (run_all(w, count) > 0) {
        commit_group(w, count);
    } else {
        w->conn->ops->rollback(w->conn); /* nothing to flush for */
    }
}

static void report(mf_writer *w, size_t count) {
    if (count > atomic_load(&w->group_largest)) {
        atomic_store(&w->group_largest, count);
    }
    atomic_fetch_add(&w->operations, count);
    for (size_t i = 0; i < count; i++) {
        outcome *out = &w->outcomes[i];
        if (out->rc != MF_OK) {
            atomic_fetch_add(&w->failures, 1);
        }
        w->group[i]->done(w->group[i]->ctx, out->rc, &out->err);
    }
}

static void writer_main(void *arg) {
    mf_writer *w = arg;
    size_t count = 0;
    while ((count = mf_mailbox_take(w->box, (void **)w->group, w->group_max,
                                    MF_NEVER)) > 0) {
        run_group(w, count);
        report(w, count);
    }
}

static void free_writer(mf_writer *w) {
    if (w->conn != NULL) {
        w->conn->ops->conn_close(w->conn);
    }
    mf_mailbox_close(w->box);
    mf_free(w->group);
    mf_free(w->outcomes);
    mf_free(w);
}

mf_rc mf_writer_open(mf_store *store, const mf_writer_options *options, mf_writer **out,
                     mf_err *err) {
    MF_ASSERT(options->group_max > 0);
    mf_writer *w = mf_alloc_zero(1, sizeof *w);
    if (w == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the writer");
    }
    w->group_max = options->group_max;
    w->group = mf_alloc_array(w->group_max, sizeof w->group[0]);
    w->outcomes = mf_alloc_array(w->group_max, sizeof w->outcomes[0]);
    mf_rc rc = MF_OK;
    if (w->group == NULL || w->outcomes == NULL) {
        rc = MF_FAIL(err, MF_E_NOMEM, "no memory for groups of %zu", w->group_max);
    }
    if (rc == MF_OK) {
        rc = mf_mailbox_open(options->queue_max, &w->box, err);
    }
    if (rc == MF_OK) {
        rc = store->ops->conn_open(store, true, &w->conn, err);
    }
    if (rc == MF_OK) {
        rc = mf_thread_start(&w->thread, "mf-writer", writer_main, w, err);
    }
    if (rc != MF_OK) {
        free_writer(w);
        return rc;
    }
    *out = w;
    return MF_OK;
}

void mf_writer_close(mf_writer *writer) {
    if (writer != NULL) {
        mf_mailbox_stop(writer->box);
        mf_thread_join(&writer->thread);
        free_writer(writer);
    }
}

mf_rc mf_writer_submit(mf_writer *writer, mf_write *op, mf_err *err) {
    if (atomic_load(&writer->failed)) {
        return MF_FAIL(err, MF_E_IO, "writes are refused since a flush to disk failed");
    }
    mf_rc rc = mf_mailbox_push(writer->box, op);
    if (rc == MF_E_STOPPING) {
        return MF_FAIL(err, rc, "the writer is stopping");
    }
    return rc == MF_OK ? MF_OK : MF_FAIL(err, rc, "too many writes are waiting");
}

/* --- waiting for the end --- */

typedef struct waiter {
    mf_rc (*run)(mf_conn *conn, void *ctx, mf_err *err);
    void *ctx;
    mf_err *err;
    mf_mutex done_mu;
    mf_cond ended;
    /* guarded by done_mu */
    bool done;
    mf_rc rc;
} waiter;

static mf_rc waiter_run(mf_conn *conn, void *ctx, mf_err *err) {
    waiter *wait = ctx;
    return wait->run(conn, wait->ctx, err);
}

static void waiter_done(void *ctx, mf_rc rc, const mf_err *err) {
    waiter *wait = ctx;
    if (rc != MF_OK && wait->err != NULL) {
        *wait->err = *err; /* the waiter looks at it only after `done` */
    }
    mf_mutex_lock(&wait->done_mu);
    wait->rc = rc;
    wait->done = true;
    mf_cond_signal(
        &wait->ended); /* under the lock: the waiter's stack frame ends soon */
    mf_mutex_unlock(&wait->done_mu);
}

mf_rc mf_writer_run(mf_writer *writer, mf_rc (*run)(mf_conn *, void *, mf_err *),
                    void *ctx, mf_err *err) {
    waiter wait = {.run = run, .ctx = ctx, .err = err};
    mf_write op = {waiter_run, waiter_done, &wait};
    mf_mutex_init(&wait.done_mu, MF_RANK_LEAF);
    mf_cond_init(&wait.ended);
    mf_rc rc = mf_writer_submit(writer, &op, err);
    if (rc == MF_OK) {
        mf_mutex_lock(&wait.done_mu);
        while (!wait.done) {
            (void)mf_cond_wait(&wait.ended, &wait.done_mu, MF_NEVER); /* no deadline */
        }
        rc = wait.rc;
        mf_mutex_unlock(&wait.done_mu);
    }
    mf_cond_done(&wait.ended);
    mf_mutex_done(&wait.done_mu);
    return rc;
}

void mf_writer_get_stats(mf_writer *writer, mf_writer_stats *out) {
    mf_mailbox_get_stats(writer->box, &out->queue);
    out->operations = atomic_load(&writer->operations);
    out->failures = atomic_load(&writer->failures);
    out->commits = atomic_load(&writer->commits);
    out->commit_failures = atomic_load(&writer->commit_failures);
    out->commit_ns = atomic_load(&writer->commit_ns);
    out->group_largest = atomic_load(&writer->group_largest);
    out->failed = atomic_load(&writer->failed);
}
