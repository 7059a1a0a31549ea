/* admin.c - health, and what the people who run the server need. */
#include "base/clock.h"
#include "base/log.h"
#include "http/docs_page.h"
#include "http/handlers.h"

/* Asked before every request of the public SDK: touches no disk, no lock and no
 * model. */
mf_rc mf_handle_health(mf_call *call, mf_err *err) {
    (void)err;
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_str(call, data, "status", MF_STR("ok"));
    (void)mf_put_object(call, data, "config");
    mf_put_str(call, data, "version", MF_STR(MF_VERSION));
    return mf_call_ok(call, 200, "Server is healthy");
}

mf_rc mf_handle_openapi(mf_call *call, mf_err *err) {
    (void)err;
    return mf_call_plain(call, "application/json", call->door->openapi);
}

mf_rc mf_handle_docs(mf_call *call, mf_err *err) {
    (void)err;
    mf_call_header(call, "Content-Security-Policy", mf_str_from(mf_docs_page_policy));
    return mf_call_plain(call, "text/html; charset=utf-8", mf_str_from(mf_docs_page));
}

mf_rc mf_handle_flush(mf_call *call, mf_err *err) {
    mf_str text;
    int64_t deadline_ns = mf_deadline_in_ms(call->config->buffer_flush_timeout_ms);
    MF_TRY(mf_call_parameter(call, "timeout_ms", &text, err));
    if (text.p != NULL) {
        int64_t timeout_ms = 0;
        if (!mf_str_to_i64(text, &timeout_ms) || timeout_ms < 0) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "timeout_ms",
                                 "timeout_ms must be a number of milliseconds");
        }
        deadline_ns = mf_deadline_in_ms(timeout_ms);
    }
    if (deadline_ns > call->request.deadline_ns) {
        deadline_ns = call->request.deadline_ns;
    }
    mf_flush_result result;
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_flush(call->door->service, call->params[0], deadline_ns, &result,
                            err));
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_str(call, data, "user_id", call->params[0]);
    mf_put_u64(call, data, "rounds_transferred", result.rounds_transferred);
    mf_put_u64(call, data, "vectors_committed", result.vectors_committed);
    return mf_call_ok(call, 200,
                      "Windows are empty, everything is embedded and committed");
}

mf_rc mf_handle_reload(mf_call *call, mf_err *err) {
    enum { REPORT_MAX = 1 << 20 };
    mf_buf report;
    mf_buf_init(&report, REPORT_MAX);
    mf_rc rc = mf_settings_reload(call->door->settings, &report, err);
    if (rc != MF_OK) {
        mf_buf_done(&report);
        return rc;
    }
    const mf_config *config = mf_settings_get(call->door->settings);
    mf_log_setup_named(config->log_level, config->log_format);
    mf_str rest = mf_arena_str(call->request.arena, mf_buf_view(&report));
    mf_buf_done(&report);
    yyjson_mut_val *changed = mf_put_array(call, mf_call_data(call), "changed");
    while (rest.len > 0) {
        mf_str line = mf_str_split(&rest, '\n');
        if (line.len > 0) {
            mf_add_str(call, changed, line);
        }
    }
    return mf_call_ok(call, 200, "Settings reloaded");
}
