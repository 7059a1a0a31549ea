/* purge.c - drops idempotency records that are a day old, as a job of the background.
 */
#include "service/purge.h"

#include "base/clock.h"

static const int64_t KEEP_US = INT64_C(24) * 3600 * 1000000;
static const int64_t EVERY_MS = INT64_C(3600) * 1000;

static mf_rc purge_write(mf_conn *conn, void *ctx, mf_err *err) {
    (void)ctx;
    return conn->ops->idempotency_purge(conn, mf_wall_us() - KEEP_US, err);
}

static mf_rc run_purge(void *ctx, const mf_job_run *run, mf_err *err) {
    (void)ctx;
    return mf_writer_run(run->writer, purge_write, NULL, err);
}

mf_job_kind mf_purge_kind(void) {
    return (mf_job_kind){.name = "purge",
                         .run = run_purge,
                         .priority = MF_JOB_PRIORITY_NORMAL - 1,
                         .every_ms = EVERY_MS};
}
