/* jobs_admin.c - what the administrator may ask of the background queue. */
#include "http/handlers.h"

static void put_job(mf_call *call, yyjson_mut_val *list, const mf_job_row *row) {
    yyjson_mut_val *item = mf_add_object(call, list);
    mf_put_uuid(call, item, "id", row->id);
    if (mf_uuid_is_none(row->user_id)) {
        mf_put_null(call, item, "user_id");
    } else {
        mf_put_uuid(call, item, "user_id", row->user_id);
    }
    mf_put_str(call, item, "kind", row->kind);
    mf_put_str(call, item, "state", mf_str_from(mf_job_state_name(row->state)));
    mf_put_i64(call, item, "priority", row->priority);
    mf_put_i64(call, item, "runs", row->runs);
    mf_put_i64(call, item, "failures", row->failures);
    mf_put_i64(call, item, "lost", row->lost);
    mf_put_time(call, item, "created_at", row->created_us);
    mf_put_time(call, item, "due_at", row->due_us);
    mf_put_str(call, item, "key", row->key);
    mf_put_str(call, item, "payload", row->payload);
    mf_put_str(call, item, "error", row->error);
}

static mf_rc put_kinds(mf_call *call, yyjson_mut_val *data, mf_err *err) {
    mf_job_counts *rows;
    size_t count;
    MF_TRY(mf_service_job_counts(call->door->service, call->request.arena, &rows,
                                 &count, err));
    yyjson_mut_val *list = mf_put_array(call, data, "kinds");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_str(call, item, "kind", rows[i].kind);
        mf_put_u64(call, item, "open", rows[i].open);
        mf_put_u64(call, item, "running", rows[i].running);
        mf_put_u64(call, item, "dead", rows[i].dead);
    }
    return MF_OK;
}

mf_rc mf_handle_jobs_list(mf_call *call, mf_err *err) {
    mf_jobs_query query = {.limit = 20};
    mf_job_row *rows;
    size_t count;
    MF_TRY(mf_call_limit(call, &query.limit, err));
    MF_TRY(mf_call_parameter(call, "state", &query.state, err));
    MF_TRY(mf_call_parameter(call, "kind", &query.kind, err));
    MF_TRY(mf_call_parameter(call, "user_id", &query.user_id, err));
    MF_TRY(mf_service_jobs_list(call->door->service, &query, call->request.arena, &rows,
                                &count, err));
    yyjson_mut_val *data = mf_call_data(call);
    yyjson_mut_val *list = mf_put_array(call, data, "jobs");
    for (size_t i = 0; i < count; i++) {
        put_job(call, list, &rows[i]);
    }
    MF_TRY(put_kinds(call, data, err));
    return mf_call_ok(call, 200, "Jobs retrieved successfully");
}

mf_rc mf_handle_job_retry(mf_call *call, mf_err *err) {
    MF_TRY(mf_service_job_retry(call->door->service, call->params[0], err));
    mf_put_str(call, mf_call_data(call), "job_id", call->params[0]);
    return mf_call_ok(call, 200, "Job is due now");
}

mf_rc mf_handle_job_drop(mf_call *call, mf_err *err) {
    MF_TRY(mf_service_job_drop(call->door->service, call->params[0], err));
    mf_put_str(call, mf_call_data(call), "job_id", call->params[0]);
    return mf_call_ok(call, 200, "Job dropped");
}
