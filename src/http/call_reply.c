/* call_reply.c - one request on its way through the door: answering it.
 *
 * Every JSON reply is the same envelope: status, code, data, message, errors, and in
 * some failures `detail`.  Text of the request and of rows is referred to, not copied:
 * all of it lives in the request's arena, where the finished reply is written as
 * well. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/call.h"

#include "text/timestamp.h"
#include "text/utf8.h"
#include <string.h>

static const char JSON_TYPE[] = "application/json";

static yyjson_mut_doc *document(mf_call *call) {
    if (call->doc == NULL && !call->spent) {
        yyjson_alc alc;
        mf_json_arena_alc(call->request.arena, &alc);
        call->doc = yyjson_mut_doc_new(&alc);
        call->spent = call->doc == NULL;
    }
    return call->doc;
}

yyjson_mut_val *mf_call_data(mf_call *call) {
    if (call->data == NULL) {
        call->data = yyjson_mut_obj(document(call));
        call->spent = call->spent || call->data == NULL;
    }
    return call->data;
}

static yyjson_mut_val *put(mf_call *call, yyjson_mut_val *object, const char *key,
                           yyjson_mut_val *value) {
    yyjson_mut_val *name = yyjson_mut_str(document(call), key);
    if (value == NULL || !yyjson_mut_obj_add(object, name, value)) {
        call->spent = true;
    }
    return value;
}

static yyjson_mut_val *add(mf_call *call, yyjson_mut_val *array,
                           yyjson_mut_val *value) {
    if (value == NULL || !yyjson_mut_arr_append(array, value)) {
        call->spent = true;
    }
    return value;
}

static yyjson_mut_val *text_value(mf_call *call, mf_str value) {
    return value.p == NULL ? yyjson_mut_null(document(call))
                           : yyjson_mut_strn(document(call), value.p, value.len);
}

void mf_put_str(mf_call *call, yyjson_mut_val *object, const char *key, mf_str value) {
    (void)put(call, object, key, text_value(call, value));
}

static yyjson_mut_val *uuid_value(mf_call *call, mf_uuid value) {
    char text[MF_UUID_TEXT + 1];
    mf_uuid_format(value, text);
    return yyjson_mut_strncpy(document(call), text, MF_UUID_TEXT);
}

void mf_put_uuid(mf_call *call, yyjson_mut_val *object, const char *key,
                 mf_uuid value) {
    (void)put(call, object, key, uuid_value(call, value));
}

void mf_put_time(mf_call *call, yyjson_mut_val *object, const char *key, int64_t us) {
    char text[MF_TIMESTAMP_TEXT + 1];
    mf_timestamp_format(us, text);
    (void)put(call, object, key,
              yyjson_mut_strncpy(document(call), text, MF_TIMESTAMP_TEXT));
}

void mf_put_i64(mf_call *call, yyjson_mut_val *object, const char *key, int64_t value) {
    (void)put(call, object, key, yyjson_mut_sint(document(call), value));
}

void mf_put_u64(mf_call *call, yyjson_mut_val *object, const char *key,
                uint64_t value) {
    (void)put(call, object, key, yyjson_mut_uint(document(call), value));
}

void mf_put_real(mf_call *call, yyjson_mut_val *object, const char *key, double value) {
    (void)put(call, object, key,
              yyjson_mut_real(document(call), isfinite(value) ? value : 0.0));
}

void mf_put_bool(mf_call *call, yyjson_mut_val *object, const char *key, bool value) {
    (void)put(call, object, key, yyjson_mut_bool(document(call), value));
}

void mf_put_null(mf_call *call, yyjson_mut_val *object, const char *key) {
    (void)put(call, object, key, yyjson_mut_null(document(call)));
}

void mf_put_raw(mf_call *call, yyjson_mut_val *object, const char *key, mf_str json) {
    (void)put(call, object, key, yyjson_mut_rawn(document(call), json.p, json.len));
}

yyjson_mut_val *mf_put_object(mf_call *call, yyjson_mut_val *object, const char *key) {
    return put(call, object, key, yyjson_mut_obj(document(call)));
}

yyjson_mut_val *mf_put_array(mf_call *call, yyjson_mut_val *object, const char *key) {
    return put(call, object, key, yyjson_mut_arr(document(call)));
}

yyjson_mut_val *mf_add_object(mf_call *call, yyjson_mut_val *array) {
    return add(call, array, yyjson_mut_obj(document(call)));
}

void mf_add_str(mf_call *call, yyjson_mut_val *array, mf_str value) {
    (void)add(call, array, text_value(call, value));
}

void mf_add_uuid(mf_call *call, yyjson_mut_val *array, mf_uuid value) {
    (void)add(call, array, uuid_value(call, value));
}

/* --- ending ----------------------------------------------------------------------- */

void mf_call_header(mf_call *call, const char *name, mf_str value) {
    mf_http_reply *reply = &call->reply;
    if (reply->header_count < MF_HTTP_HEADERS_MAX) {
        reply->headers[reply->header_count].name = name;
        reply->headers[reply->header_count].value = value;
        reply->header_count++;
    }
}

/* The five keys; `data` is a value of the document or NULL for null. */
static yyjson_mut_val *envelope(mf_call *call, bool good, int status,
                                yyjson_mut_val *data, mf_str message) {
    yyjson_mut_doc *doc = document(call);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    mf_put_str(call, root, "status", good ? MF_STR("success") : MF_STR("error"));
    mf_put_i64(call, root, "code", status);
    (void)put(call, root, "data", data != NULL ? data : yyjson_mut_null(doc));
    mf_put_str(call, root, "message", message);
    yyjson_mut_doc_set_root(doc, root);
    return root;
}

static bool write_reply(mf_call *call, int status) {
    mf_str body =
        call->spent ? MF_STR_NONE : mf_json_write(call->doc, call->request.arena);
    if (body.p == NULL) {
        return false;
    }
    call->reply.status = status;
    call->reply.content_type = JSON_TYPE;
    call->reply.body = body;
    return true;
}

mf_rc mf_call_ok(mf_call *call, int status, const char *message) {
    yyjson_mut_val *data = mf_call_data(call);
    yyjson_mut_val *root = envelope(call, true, status, data, mf_str_from(message));
    mf_put_null(call, root, "errors");
    if (!write_reply(call, status)) {
        mf_err err;
        (void)MF_FAIL(&err, MF_E_NOMEM,
                      "the reply is larger than a request's memory allows");
        mf_call_fail(call, &err);
    }
    return MF_OK;
}

mf_rc mf_call_plain(mf_call *call, const char *content_type, mf_str body) {
    call->reply.status = 200;
    call->reply.content_type = content_type;
    call->reply.body = body;
    return MF_OK;
}

/* "messages.0.role" becomes "messages", 0, "role" behind the place. */
static void put_location(mf_call *call, yyjson_mut_val *item, const char *field) {
    yyjson_mut_val *loc = mf_put_array(call, item, "loc");
    const char *place = call->invalid_place != NULL ? call->invalid_place : "body";
    mf_add_str(call, loc, mf_str_from(place));
    mf_str rest = mf_str_from(field);
    while (rest.len > 0) {
        mf_str part = mf_str_split(&rest, '.');
        int64_t index = 0;
        if (mf_str_to_i64(part, &index)) {
            (void)add(call, loc, yyjson_mut_sint(document(call), index));
        } else {
            mf_add_str(call, loc, part);
        }
    }
}

static void put_detail(mf_call *call, yyjson_mut_val *root, const mf_err *err,
                       mf_str message) {
    if (err->rc == MF_E_FORMAT) {
        yyjson_mut_val *list = mf_put_array(call, root, "detail");
        yyjson_mut_val *item = mf_add_object(call, list);
        put_location(call, item, err->field);
        mf_put_str(call, item, "msg", message);
        const char *type =
            call->invalid_type != NULL ? call->invalid_type : "value_error";
        mf_put_str(call, item, "type", mf_str_from(type));
    } else if (call->detail != NULL) {
        mf_put_str(call, root, "detail", mf_str_from(call->detail));
    }
}

/* A text cut to fit an mf_err may end inside a character. */
static mf_str shown_text(const char *text) {
    mf_str s = mf_str_from(text);
    while (s.len > 0 && !mf_utf8_valid(s)) {
        s.len--;
    }
    return s;
}

/* The field a failure of the whole request is filed under. */
static const char *general_field(mf_rc rc) {
    switch (rc) {
    case MF_E_FORMAT:
    case MF_E_LIMIT:
        return "body";
    case MF_E_AUTH:
    case MF_E_DENIED:
        return "api_key";
    case MF_E_RATE:
        return "rate_limit";
    default:
        return "request";
    }
}

static void use_static_failure(mf_call *call) {
    static const char body[] =
        "{\"status\":\"error\",\"code\":503,\"data\":null,\"message\":\"out of "
        "memory\","
        "\"errors\":[{\"field\":\"request\",\"message\":\"out of memory\"}]}";
    call->reply.status = 503;
    call->reply.content_type = JSON_TYPE;
    call->reply.body = MF_STR(body);
}

void mf_call_fail(mf_call *call, const mf_err *err) {
    call->failed = err->rc;
    int status = call->status != 0 ? call->status : mf_rc_http_status(err->rc);
    if (status >= 500) {
        mf_str reason = mf_arena_str(call->request.arena, mf_str_from(err->text));
        call->reason = reason.p != NULL ? reason.p : "out of memory";
    }
    /* What went wrong inside is for the log, not for the caller. */
    mf_str text =
        status == 500 ? MF_STR("Internal server error") : shown_text(err->text);
    mf_str message =
        call->status_message != NULL ? mf_str_from(call->status_message) : text;
    const char *field = err->field[0] != '\0' ? err->field : general_field(err->rc);

    call->doc = NULL;
    call->spent = false;
    yyjson_mut_val *root = envelope(call, false, status, NULL, message);
    yyjson_mut_val *item = mf_add_object(call, mf_put_array(call, root, "errors"));
    mf_put_str(call, item, "field", mf_str_from(field));
    mf_put_str(call, item, "message", text);
    put_detail(call, root, err, text);
    if (!write_reply(call, status)) {
        use_static_failure(call);
    }
    if (mf_rc_can_retry(err->rc)) {
        int seconds = call->retry_after_s > 0 ? call->retry_after_s : 1;
        mf_call_header(call, "Retry-After",
                       mf_arena_printf(call->request.arena, "%d", seconds));
    }
    if (status == 401) {
        mf_call_header(call, "WWW-Authenticate", MF_STR("Bearer"));
    }
}

static void count_request(const mf_call *call, int64_t duration_ns) {
    if (call->door == NULL) {
        return;
    }
    size_t at =
        call->route != NULL ? (size_t)(call->route - mf_routes) : mf_route_count;
    mf_route_figures *figures = &call->door->figures[at];
    size_t class = (size_t)call->reply.status / 100 - 1;
    /* relaxed: a figure is only itself */
    atomic_fetch_add_explicit(&figures->answered[class % MF_STATUS_CLASSES], 1,
                              memory_order_relaxed);
    mf_histogram_record(&figures->duration,
                        duration_ns > 0 ? (uint64_t)duration_ns : 0);
}

/* A failure inside is known by route and code: the same again within a minute is only
 * counted, so that a store that is down for an hour does not fill the log.  *silent
 * receives how many were only counted before this one. */
static bool is_news(const mf_call *call, uint64_t *silent) {
    char operation[MF_ERROR_OPERATION_MAX];
    mf_err err = {.rc = call->failed};
    *silent = 0;
    if (call->door == NULL || call->route == NULL) {
        return true;
    }
    (void)snprintf(operation, sizeof operation, "%s %s", call->route->method,
                   call->route->pattern); /* cut if it must be */
    (void)snprintf(err.text, sizeof err.text, "%s",
                   call->reason != NULL ? call->reason : "");
    mf_metrics *metrics = mf_service_metrics(call->door->service);
    return mf_error_cache_note(mf_metrics_errors(metrics), operation, &err, mf_now_ns(),
                               silent);
}

/* One line per request, without anything a user wrote. */
static void log_request(const mf_call *call, int64_t duration_ns) {
    uint64_t silent = 0;
    bool told = call->reply.status >= 500 && is_news(call, &silent);
    mf_log_level level = told ? MF_LOG_INFO : MF_LOG_DEBUG;
    if (mf_log_enabled(level)) {
        mf_log(level, "request",
               "id=%.*s method=%.*s route=%s status=%d us=%lld more_of_same=%llu "
               "reason=%s",
               MF_STR_ARGS(call->request.request_id), MF_STR_ARGS(call->request.method),
               call->route != NULL ? call->route->pattern : "-", call->reply.status,
               (long long)(duration_ns / MF_NS_PER_US), (unsigned long long)silent,
               call->reason != NULL ? call->reason : "-");
    }
}

static const char *endpoint_of(const mf_call *call) {
    return call->route != NULL ? call->route->pattern : "-";
}

static const char *method_of(const mf_call *call) {
    return call->route != NULL ? call->route->method : "-";
}

static void put_memory_headers(mf_call *call, double duration_ms) {
    mf_arena *arena = call->request.arena;
    mf_memory_record record = {.endpoint = endpoint_of(call),
                               .method = method_of(call),
                               .duration_ms = duration_ms};
    mf_memory_monitor_end(&call->door->monitor,
                          mf_service_memory_guard(call->door->service), call->config,
                          call->memory_before, &record);
    mf_call_header(call, "X-Memory-Usage-MB",
                   mf_arena_printf(arena, "%.2f", record.memory_mb));
    mf_call_header(call, "X-Memory-Delta-MB",
                   mf_arena_printf(arena, "%.2f", record.memory_delta_mb));
    mf_call_header(call, "X-Request-Duration-MS",
                   mf_arena_printf(arena, "%.2f", record.duration_ms));
}

/* For those who ask what the last ones were; nothing a user wrote goes there. */
static void keep_in_mind(const mf_call *call, double duration_ms) {
    mf_recent *recent = mf_service_recent(call->door->service);
    const mf_recent_request request = {.endpoint = endpoint_of(call),
                                       .method = method_of(call),
                                       .duration_ms = duration_ms,
                                       .status_code = call->reply.status};
    mf_recent_add_request(recent, &request);
    if (call->failed != MF_OK) {
        mf_recent_add_error(recent, mf_rc_name(call->failed), request.endpoint,
                            call->reason != NULL ? call->reason
                                                 : mf_rc_meaning(call->failed));
    }
}

void mf_call_end(mf_call *call) {
    double duration_ms =
        (double)(mf_now_ns() - call->started_ns) / (double)MF_NS_PER_MS;
    keep_in_mind(call, duration_ms);
    if (call->config->memory_monitor) {
        put_memory_headers(call, duration_ms);
    }
    mf_call_header(call, "X-Content-Type-Options", MF_STR("nosniff"));
    if (call->request.request_id.len > 0) {
        mf_call_header(call, "X-Request-Id", call->request.request_id);
    }
    if (strcmp(call->config->store_synchronous, "full") != 0) {
        /* Whoever relies on an acknowledged write must be able to see that it is not
         * kept. */
        mf_call_header(call, "X-Memfuse-Durability",
                       mf_str_from(call->config->store_synchronous));
    }
    int64_t duration_ns = mf_now_ns() - call->started_ns;
    count_request(call, duration_ns);
    log_request(call, duration_ns);
    call->done(call->done_ctx, &call->reply);
}
