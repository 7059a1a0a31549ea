/* hybrid_buffer.c - a queue of embedded documents.
 *
 * A singly linked queue of blocks, each with its vectors behind it: entries are made by
 * embedding workers without any lock, linked in a few instructions under the owner's,
 * and leave all together.  Rounds are counted as the changes of round id along the
 * queue, which is exact because a round's messages are embedded one after the other,
 * and at worst counts a round twice when something came between. */
#include "buffer/hybrid_buffer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "num/half.h"

struct mf_hybrid_entry {
    mf_hybrid_entry *next;
    mf_hybrid_doc doc;
    size_t part_count, dim;
    size_t bytes;          /* of this block */
    uint16_t *vectors;     /* [part_count, dim], behind the keys */
    mf_content_key keys[]; /* [part_count] */
};

struct mf_hybrid_buffer {
    mf_hybrid_batch held;
};

mf_rc mf_hybrid_entry_new(const mf_hybrid_doc *doc, const float *vectors,
                          const mf_content_key *keys, size_t part_count, size_t dim,
                          mf_hybrid_entry **out, mf_err *err) {
    size_t values;
    size_t bytes;
    size_t key_bytes;
    if (!mf_mul_size(part_count, dim, &values) ||
        !mf_mul_size(values, sizeof(uint16_t), &bytes) ||
        !mf_mul_size(part_count, sizeof(mf_content_key), &key_bytes) ||
        !mf_add_size(bytes, key_bytes, &bytes) ||
        !mf_add_size(bytes, sizeof(mf_hybrid_entry), &bytes)) {
        return MF_FAIL(err, MF_E_LIMIT, "a document with %zu vectors", part_count);
    }
    mf_hybrid_entry *entry = mf_alloc(bytes);
    if (entry == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu vectors", part_count);
    }
    entry->next = NULL;
    entry->doc = *doc;
    entry->part_count = part_count;
    entry->dim = dim;
    entry->bytes = bytes;
    entry->vectors = (uint16_t *)(void *)(entry->keys + part_count);
    memcpy(entry->keys, keys, key_bytes);
    mf_half_from_float(vectors, entry->vectors, values);
    *out = entry;
    return MF_OK;
}

void mf_hybrid_entry_free(mf_hybrid_entry *entry) {
    mf_free(entry);
}

mf_rc mf_hybrid_buffer_open(mf_hybrid_buffer **out, mf_err *err) {
    mf_hybrid_buffer *buffer = mf_alloc_zero(1, sizeof(*buffer));
    if (buffer == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a hybrid buffer");
    }
    *out = buffer;
    return MF_OK;
}

void mf_hybrid_buffer_close(mf_hybrid_buffer *buffer) {
    if (buffer == NULL) {
        return;
    }
    mf_hybrid_batch_free(&buffer->held);
    mf_free(buffer);
}

static bool same_round(const mf_hybrid_doc *a, const mf_hybrid_doc *b) {
    return !mf_uuid_is_none(a->round_id) && mf_uuid_eq(a->round_id, b->round_id);
}

void mf_hybrid_buffer_put(mf_hybrid_buffer *buffer, mf_hybrid_entry *entry,
                          int64_t now_ns) {
    mf_hybrid_batch *held = &buffer->held;
    entry->next = NULL;
    if (held->last == NULL) {
        held->first = entry;
        held->since_ns = now_ns;
        held->rounds++;
    } else {
        held->rounds += same_round(&held->last->doc, &entry->doc) ? 0 : 1;
        held->last->next = entry;
    }
    held->last = entry;
    held->chunks += entry->part_count;
    held->bytes += entry->bytes;
}

bool mf_hybrid_buffer_holds(const mf_hybrid_buffer *buffer, mf_doc_kind kind,
                            int64_t num) {
    const mf_hybrid_entry *entry = buffer->held.first;
    while (entry != NULL && (entry->doc.kind != kind || entry->doc.num != num)) {
        entry = entry->next;
    }
    return entry != NULL;
}

void mf_hybrid_buffer_get_state(const mf_hybrid_buffer *buffer, mf_hybrid_state *out) {
    const mf_hybrid_batch *held = &buffer->held;
    *out = (mf_hybrid_state){.chunks = held->chunks,
                             .rounds = held->rounds,
                             .bytes = held->bytes,
                             .since_ns = held->since_ns};
}

size_t mf_hybrid_buffer_bytes(const mf_hybrid_buffer *buffer) {
    return sizeof(*buffer) + buffer->held.bytes;
}

mf_hybrid_batch mf_hybrid_buffer_take(mf_hybrid_buffer *buffer) {
    mf_hybrid_batch batch = buffer->held;
    buffer->held = (mf_hybrid_batch){0};
    return batch;
}

void mf_hybrid_buffer_give_back(mf_hybrid_buffer *buffer, mf_hybrid_batch *batch) {
    if (batch->first != NULL) {
        mf_hybrid_batch *held = &buffer->held;
        batch->last->next = held->first;
        held->first = batch->first;
        held->last = held->last != NULL ? held->last : batch->last;
        held->chunks += batch->chunks;
        held->rounds += batch->rounds;
        held->bytes += batch->bytes;
        held->since_ns = batch->since_ns;
    }
    *batch = (mf_hybrid_batch){0};
}

static mf_rc write_entry(const mf_hybrid_entry *entry, mf_conn *conn, mf_uuid user_id,
                         mf_str model, mf_err *err) {
    for (size_t part = 0; part < entry->part_count; part++) {
        mf_chunk_row row = {
            .kind = entry->doc.kind,
            .num = entry->doc.num,
            .part = (int32_t)part,
            .part_count = (int32_t)entry->part_count,
            .doc_updated_us = entry->doc.updated_us,
            .doc_revision = entry->doc.revision,
            .model = model,
            .vector = entry->vectors + part * entry->dim,
            .dim = entry->dim,
            .content = entry->keys[part],
        };
        MF_TRY(conn->ops->chunk_put(conn, user_id, &row, err));
    }
    return MF_OK;
}

mf_rc mf_hybrid_batch_write(const mf_hybrid_batch *batch, mf_conn *conn,
                            mf_uuid user_id, mf_str model, mf_err *err) {
    for (const mf_hybrid_entry *entry = batch->first; entry != NULL;
         entry = entry->next) {
        MF_TRY(write_entry(entry, conn, user_id, model, err));
    }
    return MF_OK;
}

void mf_hybrid_batch_free(mf_hybrid_batch *batch) {
    while (batch->first != NULL) {
        mf_hybrid_entry *entry = batch->first;
        batch->first = entry->next;
        mf_hybrid_entry_free(entry);
    }
    *batch = (mf_hybrid_batch){0};
}
