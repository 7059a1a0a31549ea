/* writer.h - the one thread that writes: group commit over any store.
 *
 * Requests hand in operations; the thread takes all that wait, runs each inside its own
 * undo point of one transaction, commits once, and only then reports to each.  One
 * flush pays for everybody who was waiting, and nothing is acknowledged before it is
 * durable.
 *
 * Invariants: operations run in the order they were handed in; an operation that fails
 * changes nothing and disturbs no other; `done` is called exactly once for each
 * accepted operation, after the commit that holds it (or after its failure), in
 * order. */
#ifndef MF_STORE_WRITER_H
#define MF_STORE_WRITER_H

#include "base/mailbox.h"
#include "store/store.h"

typedef struct mf_writer mf_writer;

typedef struct mf_write {
    /* On the writer thread, inside the transaction.  Touches the store and `ctx`
     * only. */
    mf_rc (*run)(mf_conn *conn, void *ctx, mf_err *err);
    /* On the writer thread, after the commit: quick, never waits.  `err` describes a
     * failure and is valid for the call only. */
    void (*done)(void *ctx, mf_rc rc, const mf_err *err);
    void *ctx;
} mf_write;

typedef struct mf_writer_options {
    size_t queue_max; /* operations waiting; more is MF_E_BUSY */
    size_t group_max; /* operations in one transaction */
} mf_writer_options;

typedef struct mf_writer_stats {
    mf_mailbox_stats queue;
    uint64_t operations, failures, commits, commit_failures;
    uint64_t commit_ns; /* time in commit, summed */
    size_t group_largest;
    bool failed; /* a flush failed: writes are refused until the store is reopened */
} mf_writer_stats;

/* Opens the store's writer connection and starts the thread "mf-writer".  The store
 * outlives the writer. */
MF_CHECKED mf_rc mf_writer_open(mf_store *store, const mf_writer_options *options,
                                mf_writer **out, mf_err *err);
/* Refuses new operations, finishes those accepted, joins the thread. */
void mf_writer_close(mf_writer *writer);

/* Never waits.  `op` and its ctx stay the caller's and must live until `done`.  On
 * failure (MF_E_BUSY, MF_E_STOPPING, MF_E_IO after a failed flush) `done` is not
 * called. */
MF_CHECKED mf_rc mf_writer_submit(mf_writer *writer, mf_write *op, mf_err *err);
/* Submits and waits; returns the operation's own result.  There is no deadline: once
 * accepted, an operation's fate must be known. */
MF_CHECKED mf_rc mf_writer_run(mf_writer *writer,
                               mf_rc (*run)(mf_conn *, void *, mf_err *), void *ctx,
                               mf_err *err);
void mf_writer_get_stats(mf_writer *writer, mf_writer_stats *out);

#endif
