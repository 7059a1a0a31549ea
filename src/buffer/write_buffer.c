/* write_buffer.c - round buffer, hybrid buffer and the counts of one user.
 *
 * The way of a round:
 *
 *   committed --> window (round buffer) --over a limit, flushed--> older part of the
 *        |                                                         session
 *        \--> embedded (by a worker) --> hybrid buffer --full, old, flushed--> store
 *
 * The two ways are independent.  The window decides what a listing calls recent; the
 * hybrid buffer decides when vectors are written.  Embedding does not wait until a
 * round leaves the window, because a question asked a moment later should find it by
 * meaning. */
#include "buffer/write_buffer.h"

#include <string.h>

#include "base/alloc.h"

enum { GROUP_MAX = 64 }; /* rounds that go into a window in one call */

struct mf_write_buffer {
    mf_round_buffer *rounds;
    mf_hybrid_buffer *hybrid;
    mf_write_counts counts;
};

mf_rc mf_write_buffer_open(mf_write_buffer **out, mf_err *err) {
    mf_write_buffer *buffer = mf_alloc_zero(1, sizeof(*buffer));
    if (buffer == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a write buffer");
    }
    mf_rc rc = mf_round_buffer_open(MF_WRITE_BUFFER_SESSIONS_MAX, &buffer->rounds, err);
    if (rc == MF_OK) {
        rc = mf_hybrid_buffer_open(&buffer->hybrid, err);
    }
    if (rc != MF_OK) {
        mf_write_buffer_close(buffer);
        return rc;
    }
    *out = buffer;
    return MF_OK;
}

void mf_write_buffer_close(mf_write_buffer *buffer) {
    if (buffer == NULL) {
        return;
    }
    mf_round_buffer_close(buffer->rounds);
    mf_hybrid_buffer_close(buffer->hybrid);
    mf_free(buffer);
}

static void count_transfer(mf_write_buffer *buffer, mf_round_transfer moved) {
    if (moved.rounds > 0) {
        buffer->counts.transfers += moved.rounds;
        buffer->counts.transfer_triggers[moved.cause]++;
    }
}

/* Rounds of one session, oldest first. */
static void add_rounds(mf_write_buffer *buffer, const mf_write_round *rounds,
                       size_t count, bool bulk, const mf_flush_policy *policy,
                       int64_t now_ns, mf_write_outcome *out) {
    mf_round group[GROUP_MAX];
    size_t step = bulk ? GROUP_MAX : 1;
    for (size_t from = 0; from < count; from += step) {
        size_t n = count - from < step ? count - from : step;
        for (size_t i = 0; i < n; i++) {
            group[i] = rounds[from + i].round;
        }
        mf_round_transfer moved = {0};
        out->window = (mf_round_window){0};
        if (mf_round_buffer_add(buffer->rounds, rounds[0].session_id, group, n,
                                policy->limits, now_ns, &out->window, &moved)) {
            out->transfer_triggered |= moved.rounds > 0;
            count_transfer(buffer, moved);
        }
    }
}

void mf_write_buffer_add(mf_write_buffer *buffer, const mf_write_round *round,
                         const mf_flush_policy *policy, int64_t now_ns,
                         mf_write_outcome *out) {
    *out = (mf_write_outcome){0};
    buffer->counts.writes++;
    if (policy->windows) {
        add_rounds(buffer, round, 1, false, policy, now_ns, out);
    } else {
        count_transfer(buffer, (mf_round_transfer){1, MF_TRANSFER_IMMEDIATE});
    }
}

/* Moves the rounds of the first one's session to the front; how many they are. */
static size_t gather(mf_write_round *rounds, size_t count) {
    size_t gathered = 1;
    for (size_t i = 1; i < count; i++) {
        if (mf_uuid_eq(rounds[i].session_id, rounds[0].session_id)) {
            mf_write_round kept = rounds[i];
            memmove(rounds + gathered + 1, rounds + gathered,
                    (i - gathered) * sizeof(rounds[0]));
            rounds[gathered++] = kept;
        }
    }
    return gathered;
}

static bool is_bulk(const mf_write_round *rounds, size_t count,
                    const mf_flush_policy *policy) {
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++) {
        tokens += rounds[i].round.tokens;
    }
    return tokens / 2 > policy->limits.tokens_max;
}

void mf_write_buffer_add_batch(mf_write_buffer *buffer, mf_write_round *rounds,
                               size_t count, const mf_flush_policy *policy,
                               int64_t now_ns, mf_write_outcome *out) {
    *out = (mf_write_outcome){0};
    buffer->counts.writes += count;
    if (!policy->windows) {
        count_transfer(buffer, (mf_round_transfer){count, MF_TRANSFER_IMMEDIATE});
        return;
    }
    mf_batch_strategy strategy = MF_BATCH_SEQUENTIAL;
    for (size_t from = 0; from < count;) {
        size_t n = gather(rounds + from, count - from);
        bool bulk = is_bulk(rounds + from, n, policy);
        if (bulk) {
            strategy = MF_BATCH_BULK;
        } else if (n < count && strategy != MF_BATCH_BULK) {
            strategy = MF_BATCH_GROUPED;
        }
        add_rounds(buffer, rounds + from, n, bulk, policy, now_ns, out);
        from += n;
    }
    buffer->counts.batches[strategy]++;
}

size_t mf_write_buffer_close_window(mf_write_buffer *buffer, mf_uuid session_id,
                                    mf_transfer_cause cause) {
    size_t left = mf_uuid_is_none(session_id)
                      ? mf_round_buffer_empty_all(buffer->rounds)
                      : mf_round_buffer_empty(buffer->rounds, session_id);
    count_transfer(buffer, (mf_round_transfer){left, cause});
    return left;
}

mf_round_buffer *mf_write_buffer_rounds(mf_write_buffer *buffer) {
    return buffer->rounds;
}

mf_hybrid_buffer *mf_write_buffer_hybrid(mf_write_buffer *buffer) {
    return buffer->hybrid;
}

mf_hybrid_batch mf_write_buffer_flush_all(mf_write_buffer *buffer) {
    return mf_hybrid_buffer_take(buffer->hybrid);
}

void mf_write_buffer_flushed(mf_write_buffer *buffer, mf_hybrid_batch *batch,
                             mf_flush_trigger trigger, bool committed) {
    mf_write_counts *counts = &buffer->counts;
    if (!committed) {
        counts->flush_failures += batch->first != NULL ? 1 : 0;
        mf_hybrid_buffer_give_back(buffer->hybrid, batch);
        return;
    }
    if (batch->first != NULL) {
        counts->flushes++;
        counts->flush_triggers[trigger]++;
        counts->flushed_chunks += batch->chunks;
    }
    mf_hybrid_batch_free(batch);
}

size_t mf_write_buffer_bytes(const mf_write_buffer *buffer) {
    return sizeof(*buffer) + mf_round_buffer_bytes(buffer->rounds) +
           mf_hybrid_buffer_bytes(buffer->hybrid);
}

void mf_write_buffer_get_stats(const mf_write_buffer *buffer,
                               mf_write_buffer_stats *out) {
    *out = (mf_write_buffer_stats){.counts = buffer->counts};
    mf_round_buffer_get_state(buffer->rounds, &out->round);
    mf_hybrid_buffer_get_state(buffer->hybrid, &out->hybrid);
}

const char *mf_batch_strategy_name(mf_batch_strategy strategy) {
    static const char *const names[MF_BATCH_STRATEGIES] = {
        "sequential", "session_grouped", "bulk_transfer"};
    return names[strategy];
}

void mf_write_counts_add(mf_write_counts *sum, const mf_write_counts *counts) {
    sum->writes += counts->writes;
    sum->transfers += counts->transfers;
    for (int i = 0; i < MF_TRANSFER_CAUSES; i++) {
        sum->transfer_triggers[i] += counts->transfer_triggers[i];
    }
    for (int i = 0; i < MF_BATCH_STRATEGIES; i++) {
        sum->batches[i] += counts->batches[i];
    }
    sum->flushes += counts->flushes;
    sum->flush_failures += counts->flush_failures;
    for (int i = 0; i < MF_FLUSH_TRIGGERS; i++) {
        sum->flush_triggers[i] += counts->flush_triggers[i];
    }
    sum->flushed_chunks += counts->flushed_chunks;
}
