/* write_buffer.c - round buffer, hybrid buffer and the counts of one user.
 *
 * The way of a round:
 *
 *   committed --> window (round buffer) --limits passed--> older part of the session
 *        \--> embedded (by a worker) --> hybrid buffer --full, old or flushed--> store
 *
 * The two ways are independent.  The window decides what a listing calls recent; the
 * hybrid buffer decides when vectors are written.  Embedding does not wait until a
 * round leaves the window, because a question asked a moment later should find it by
 * meaning. */
#include "buffer/write_buffer.h"

#include "base/alloc.h"

struct mf_write_buffer {
    mf_round_buffer *rounds;
    mf_hybrid_buffer *hybrid;
    uint64_t total_writes, total_transfers, flush_operations;
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

void mf_write_buffer_add(mf_write_buffer *buffer, mf_uuid session_id,
                         const mf_round *round, const mf_round_limits *limits,
                         mf_write_outcome *out) {
    *out = (mf_write_outcome){0};
    buffer->total_writes++;
    if (limits == NULL) {
        buffer->total_transfers++;
        return;
    }
    size_t moved = 0;
    if (mf_round_buffer_add(buffer->rounds, session_id, round, *limits, &out->window,
                            &moved)) {
        out->transfer_triggered = moved > 0;
        buffer->total_transfers += moved;
    }
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
                             bool committed) {
    if (!committed) {
        mf_hybrid_buffer_give_back(buffer->hybrid, batch);
        return;
    }
    buffer->flush_operations += batch->first != NULL ? 1 : 0;
    mf_hybrid_batch_free(batch);
}

size_t mf_write_buffer_bytes(const mf_write_buffer *buffer) {
    return sizeof(*buffer) + mf_round_buffer_bytes(buffer->rounds) +
           mf_hybrid_buffer_bytes(buffer->hybrid);
}

void mf_write_buffer_get_stats(const mf_write_buffer *buffer,
                               mf_write_buffer_stats *out) {
    *out = (mf_write_buffer_stats){
        .total_writes = buffer->total_writes,
        .total_transfers = buffer->total_transfers,
        .flush_operations = buffer->flush_operations,
        .current_tokens = mf_round_buffer_tokens(buffer->rounds),
        .round_count = mf_round_buffer_rounds(buffer->rounds),
        .chunk_count = mf_hybrid_buffer_chunks(buffer->hybrid),
    };
}
