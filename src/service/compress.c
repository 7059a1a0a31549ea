/* compress.c - slice after slice, each short. */
#include "service/compress.h"

#include <string.h>

#include "base/clock.h"

enum {
    SLICE_BYTES = 32 << 10, /* about two milliseconds on the writer thread */
    US_PER_S = 1000000,
    MS_PER_S = 1000
};

void mf_compress_init(mf_compress *compress, const mf_settings *settings) {
    memset(compress, 0, sizeof *compress);
    compress->settings = settings;
}

void mf_compress_get_stats(mf_compress *compress, mf_compress_stats *out) {
    *out = (mf_compress_stats){
        .runs = atomic_load(&compress->runs),
        .messages = atomic_load(&compress->messages),
        .packed = atomic_load(&compress->packed),
        .bytes_before = atomic_load(&compress->bytes_before),
        .bytes_after = atomic_load(&compress->bytes_after),
        .trained = atomic_load(&compress->trained),
    };
}

/* What one operation of the writer is given. */
typedef struct slice_op {
    mf_str dictionary;
    mf_text_limits limits;
    mf_text_slice slice;
} slice_op;

static mf_rc add_dictionary(mf_conn *conn, void *ctx, mf_err *err) {
    const slice_op *op = ctx;
    return conn->ops->text_dictionary_add(conn, op->dictionary, err);
}

static mf_rc pack_slice(mf_conn *conn, void *ctx, mf_err *err) {
    slice_op *op = ctx;
    return conn->ops->text_compress(conn, &op->limits, &op->slice, err);
}

static mf_rc train(mf_compress *compress, const mf_job_run *run, mf_err *err) {
    mf_conn *conn;
    slice_op op = {0};
    MF_TRY(mf_conn_acquire(run->readers, MF_NEVER, &conn, err));
    mf_rc rc = conn->ops->text_train(conn, run->arena, &op.dictionary, err);
    mf_conn_release(run->readers, conn, rc);
    if (rc != MF_OK || op.dictionary.p == NULL) {
        return rc;
    }
    MF_TRY(mf_writer_run(run->writer, add_dictionary, &op, err));
    atomic_fetch_add(&compress->trained, 1);
    return MF_OK;
}

static mf_text_limits limits_of(const mf_compress *compress) {
    const mf_config *config = mf_settings_get(compress->settings);
    return (mf_text_limits){
        .newest_kept = config->store_compress_after_messages,
        .made_before_us = mf_wall_us() - config->store_compress_after_s * US_PER_S,
        .bytes_max = SLICE_BYTES,
    };
}

static mf_rc run_compress(void *ctx, const mf_job_run *run, mf_err *err) {
    mf_compress *compress = ctx;
    slice_op op = {.limits = limits_of(compress), .slice = {.more = true}};
    MF_TRY(train(compress, run, err));
    while (op.slice.more) {
        if (atomic_load(run->stop)) {
            return MF_FAIL(err, MF_E_STOPPING, "the rest is packed after the stop");
        }
        MF_TRY(mf_writer_run(run->writer, pack_slice, &op, err));
        atomic_fetch_add(&compress->messages, op.slice.messages);
        atomic_fetch_add(&compress->packed, op.slice.packed);
        atomic_fetch_add(&compress->bytes_before, op.slice.bytes_before);
        atomic_fetch_add(&compress->bytes_after, op.slice.bytes_after);
    }
    atomic_fetch_add(&compress->runs, 1);
    return MF_OK;
}

mf_job_kind mf_compress_kind(mf_compress *compress) {
    const mf_config *config = mf_settings_get(compress->settings);
    return (mf_job_kind){
        .name = "compress",
        .run = run_compress,
        .ctx = compress,
        .every_ms = config->store_compress_every_s * MS_PER_S,
    };
}
