/* memory_monitor.c - what memory is used around each request. */
#include "http/memory_monitor.h"

#include "base/alloc.h"
#include "base/clock.h"

static const double MEGABYTE = 1 << 20;

mf_rc mf_memory_monitor_init(mf_memory_monitor *monitor, mf_err *err) {
    return mf_bounded_list_open("high_memory_requests", MF_MONITOR_RECORDS,
                                sizeof(mf_memory_record), &monitor->records, err);
}

void mf_memory_monitor_done(mf_memory_monitor *monitor) {
    mf_bounded_list_close(monitor->records);
}

size_t mf_memory_monitor_begin(void) {
    return mf_alloc_live_bytes();
}

void mf_memory_monitor_end(mf_memory_monitor *monitor, const mf_memory_guard *guard,
                           const mf_config *config, size_t before,
                           mf_memory_record *record) {
    size_t after = mf_alloc_live_bytes();
    double used = (double)mf_memory_guard_used(guard, after);
    record->memory_mb = used / MEGABYTE;
    record->memory_delta_mb = ((double)after - (double)before) / MEGABYTE;
    record->timestamp_us = mf_wall_us();
    record->request_count = atomic_fetch_add(&monitor->requests, 1) + 1;
    if (record->memory_mb > (double)config->memory_monitor_limit_mb) {
        atomic_fetch_add(&monitor->high, 1);
        mf_bounded_list_append(monitor->records, record);
    }
}

void mf_memory_monitor_reset(mf_memory_monitor *monitor) {
    mf_bounded_list_clear(monitor->records);
    atomic_store(&monitor->requests, 0);
    atomic_store(&monitor->high, 0);
}

void mf_memory_monitor_get_stats(mf_memory_monitor *monitor,
                                 const mf_memory_guard *guard, const mf_config *config,
                                 mf_memory_monitor_stats *out) {
    const double whole = 100;
    double limit = (double)config->memory_monitor_limit_mb;
    double used = (double)mf_memory_guard_used(guard, mf_alloc_live_bytes()) / MEGABYTE;
    *out = (mf_memory_monitor_stats){
        .current_memory_mb = used,
        .memory_limit_mb = limit,
        .memory_usage_percentage = used * whole / limit,
        .total_requests = atomic_load(&monitor->requests),
        .high_memory_requests_count = atomic_load(&monitor->high),
    };
    out->recent_count =
        mf_bounded_list_get_recent(monitor->records, out->recent, MF_MONITOR_SHOWN);
}
