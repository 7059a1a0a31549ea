/* query.c - what does a user's memory hold about a text? */
#include "http/handlers.h"

typedef struct path_names {
    const char *store_type; /* in retrieval.store_type */
    const char *source;     /* in retrieval.source */
} path_names;

static path_names names_of(mf_index_path path) {
    switch (path) {
    case MF_PATH_VECTOR:
        return (path_names){"vector", "vector_store"};
    case MF_PATH_KEYWORD:
        return (path_names){"keyword", "keyword_store"};
    default:
        return (path_names){"hybrid", "hybrid_retrieval"};
    }
}

/* Without a graph, a request for it gets the usual blend. */
static mf_rc read_path(mf_call *call, mf_index_path *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(call->body, "store_type");
    mf_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (value == NULL || yyjson_is_null(value) || mf_str_eq(text, MF_STR("graph"))) {
        *out = MF_PATH_BLEND;
    } else if (mf_str_eq(text, MF_STR("vector"))) {
        *out = MF_PATH_VECTOR;
    } else if (mf_str_eq(text, MF_STR("keyword"))) {
        *out = MF_PATH_KEYWORD;
    } else {
        return mf_call_invalid(
            call, "enum", "store_type", err,
            "store_type must be 'vector', 'graph', 'keyword' or null");
    }
    return MF_OK;
}

/* null and absence leave it to the settings. */
static mf_rc read_order(mf_call *call, mf_query *query, mf_err *err) {
    yyjson_val *sort_by = yyjson_obj_get(call->body, "sort_by");
    yyjson_val *order = yyjson_obj_get(call->body, "order");
    if (yyjson_equals_str(sort_by, "score")) {
        query->sort_by = MF_SORT_SCORE;
    } else if (yyjson_equals_str(sort_by, "timestamp")) {
        query->sort_by = MF_SORT_TIMESTAMP;
    } else if (sort_by != NULL && !yyjson_is_null(sort_by)) {
        return mf_call_invalid(call, "enum", "sort_by", err,
                               "sort_by must be 'score', 'timestamp' or null");
    }
    if (yyjson_equals_str(order, "desc")) {
        query->order = MF_ORDER_DESC;
    } else if (yyjson_equals_str(order, "asc")) {
        query->order = MF_ORDER_ASC;
    } else if (order != NULL && !yyjson_is_null(order)) {
        return mf_call_invalid(call, "enum", "order", err,
                               "order must be 'desc', 'asc' or null");
    }
    return MF_OK;
}

static mf_rc read_query(mf_call *call, mf_query *query, mf_err *err) {
    const mf_text_rule text_rule = {
        .required = true, .blank = true, .bytes_max = MF_QUERY_BYTES_MAX};
    const mf_text_rule id_rule = {.blank = true, .bytes_max = MF_NAME_BYTES_MAX};
    query->top_k = MF_TOP_K_OF_SETTINGS;
    query->messages = true;
    query->knowledge = true;
    query->user_id = call->params[0];
    query->deadline_ns = call->request.deadline_ns;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_text(call, "query", text_rule, &query->text, err));
    MF_TRY(mf_call_text(call, "session_id", id_rule, &query->session_id, err));
    MF_TRY(mf_call_text(call, "agent_id", id_rule, &query->agent_id, err));
    MF_TRY(mf_call_i64(call, "top_k", &query->top_k, err));
    MF_TRY(read_path(call, &query->path, err));
    MF_TRY(read_order(call, query, err));
    MF_TRY(mf_call_bool(call, "include_messages", &query->messages, err));
    MF_TRY(mf_call_bool(call, "include_knowledge", &query->knowledge, err));
    return MF_OK;
}

static double clamp_score(float score) {
    return score > 0.0F ? (score < 1.0F ? (double)score : 1.0) : 0.0; /* NaN gives 0 */
}

static void put_scope(mf_call *call, yyjson_mut_val *metadata, const mf_query *query,
                      const mf_result *row) {
    if (row->kind == MF_DOC_KNOWLEDGE || query->session_id.len == 0) {
        mf_put_null(call, metadata, "scope");
    } else {
        mf_put_str(call, metadata, "scope",
                   row->in_session ? MF_STR("in_session") : MF_STR("cross_session"));
    }
}

static void put_metadata(mf_call *call, yyjson_mut_val *item, const mf_query *query,
                         const mf_result *row) {
    path_names names = names_of(query->path);
    yyjson_mut_val *metadata = mf_put_object(call, item, "metadata");
    mf_put_str(call, metadata, "user_id", query->user_id);
    if (row->kind == MF_DOC_KNOWLEDGE) {
        mf_put_null(call, metadata, "agent_id");
        mf_put_null(call, metadata, "session_id");
        mf_put_null(call, metadata, "session_name");
    } else {
        mf_put_uuid(call, metadata, "agent_id", row->agent_id);
        mf_put_uuid(call, metadata, "session_id", row->session_id);
        mf_put_str(call, metadata, "session_name", row->session_name);
    }
    put_scope(call, metadata, query, row);
    mf_put_i64(call, metadata, "level", 0);
    yyjson_mut_val *retrieval = mf_put_object(call, metadata, "retrieval");
    mf_put_str(call, retrieval, "source", mf_str_from(names.source));
    mf_put_real(call, retrieval, "similarity", (double)row->similarity);
    mf_put_str(call, retrieval, "store_type", mf_str_from(names.store_type));
    mf_put_str(call, metadata, "source",
               row->buffered ? MF_STR("hybrid_buffer") : MF_STR("memory_database"));
}

static void put_result(mf_call *call, yyjson_mut_val *list, const mf_query *query,
                       const mf_result *row) {
    bool knowledge = row->kind == MF_DOC_KNOWLEDGE;
    yyjson_mut_val *item = mf_add_object(call, list);
    mf_put_uuid(call, item, "id", row->id);
    mf_put_str(call, item, "content", row->content);
    mf_put_real(call, item, "score", clamp_score(row->score));
    mf_put_str(call, item, "type", knowledge ? MF_STR("knowledge") : MF_STR("message"));
    mf_put_str(call, item, "role",
               knowledge ? MF_STR_NONE : mf_str_from(mf_role_name(row->role)));
    mf_put_time(call, item, "created_at", row->created_us);
    mf_put_time(call, item, "updated_at", row->updated_us);
    put_metadata(call, item, query, row);
}

mf_rc mf_handle_query(mf_call *call, mf_err *err) {
    mf_query query = {0};
    mf_results results = {0};
    MF_TRY(read_query(call, &query, err));
    MF_TRY(mf_call_own_user(call, query.user_id, err));
    MF_TRY(mf_service_query(call->door->service, &query, call->request.arena, &results,
                            err));
    yyjson_mut_val *data = mf_call_data(call);
    yyjson_mut_val *list = mf_put_array(call, data, "results");
    for (size_t i = 0; i < results.count; i++) {
        put_result(call, list, &query, &results.rows[i]);
    }
    mf_put_u64(call, data, "total", results.count);
    if (results.count == 0 && !results.user_has_sessions) {
        return mf_call_ok(call, 200, "No sessions found for query");
    }
    mf_str message =
        mf_arena_printf(call->request.arena, "Found %zu results", results.count);
    return mf_call_ok(call, 200, message.p != NULL ? message.p : "Found results");
}
