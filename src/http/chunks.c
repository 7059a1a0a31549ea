/* chunks.c - how sessions and rounds were cut for embedding (inspection only). */
#include <stdlib.h>

#include "http/handlers.h"

typedef enum store_type {
    STORE_ALL,
    STORE_VECTOR,
    STORE_KEYWORD,
    STORE_GRAPH,
    STORE_HYBRID
} store_type;

static const char *const store_names[] = {"all",   "vector", "keyword",
                                          "graph", "hybrid", NULL};

typedef struct chunk_options {
    size_t limit;
    bool by_id, descending;
    store_type store;
} chunk_options;

static mf_rc read_store(mf_call *call, store_type *out, mf_err *err) {
    size_t index = 0;
    MF_TRY(mf_call_choice(call, "store_type", store_names + 1, &index, err));
    mf_str given;
    MF_TRY(mf_call_parameter(call, "store_type", &given, err));
    *out = given.p != NULL ? (store_type)(index + 1) : STORE_ALL;
    return MF_OK;
}

static mf_rc read_options(mf_call *call, chunk_options *out, mf_err *err) {
    static const char *const sorts[] = {"created_at", "chunk_id", "strategy", NULL};
    static const char *const orders[] = {"desc", "asc", NULL};
    size_t sort = 0;
    size_t order = 0;
    *out = (chunk_options){.limit = 20};
    MF_TRY(mf_call_limit(call, &out->limit, err));
    MF_TRY(mf_call_choice(call, "sort_by", sorts, &sort, err));
    MF_TRY(mf_call_choice(call, "order", orders, &order, err));
    out->by_id = sort == 1;
    out->descending = order == 0;
    return read_store(call, &out->store, err);
}

/* Words of every chunk are searchable at once, vectors come later, a graph never. */
static bool is_in_store(const mf_chunk_view *chunk, store_type store) {
    return store == STORE_VECTOR ? chunk->embedded : store != STORE_GRAPH;
}

static int compare_ids(const void *a, const void *b) {
    const mf_chunk_view *x = a;
    const mf_chunk_view *y = b;
    int order = memcmp(x->message_id.b, y->message_id.b, MF_UUID_BYTES);
    return order != 0 ? order : (x->part > y->part) - (x->part < y->part);
}

static void put_chunk(mf_call *call, yyjson_mut_val *list, const mf_chunk_view *chunk) {
    char id[MF_UUID_TEXT + 1];
    mf_uuid_format(chunk->message_id, id);
    yyjson_mut_val *item = mf_add_object(call, list);
    mf_str chunk_id =
        mf_arena_printf(call->request.arena, "%s-%d", id, (int)chunk->part);
    call->spent = call->spent || chunk_id.p == NULL;
    mf_put_str(call, item, "chunk_id", chunk_id);
    mf_put_str(call, item, "content", chunk->content);
    yyjson_mut_val *metadata = mf_put_object(call, item, "metadata");
    mf_put_uuid(call, metadata, "message_id", chunk->message_id);
    mf_put_uuid(call, metadata, "round_id", chunk->round_id);
    mf_put_uuid(call, metadata, "session_id", chunk->session_id);
    mf_put_i64(call, metadata, "part", chunk->part);
    mf_put_i64(call, metadata, "part_count", chunk->part_count);
    mf_put_i64(call, metadata, "message_count", chunk->message_count);
    mf_put_str(call, metadata, "strategy",
               mf_str_from(mf_service_chunk_strategy(call->door->service)));
    mf_put_bool(call, metadata, "embedded", chunk->embedded);
    mf_put_time(call, metadata, "created_at", chunk->created_us);
}

static mf_rc answer_chunks(mf_call *call, const chunk_options *options,
                           mf_chunk_view *rows, size_t count, const char *parent) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_in_store(&rows[i], options->store)) {
            rows[kept++] = rows[i];
        }
    }
    if (options->by_id) {
        qsort(rows, kept, sizeof *rows, compare_ids);
    }
    yyjson_mut_val *data = mf_call_data(call);
    yyjson_mut_val *list = mf_put_array(call, data, "chunks");
    for (size_t i = 0; i < kept && i < options->limit; i++) {
        put_chunk(call, list, &rows[options->descending ? kept - 1 - i : i]);
    }
    mf_put_u64(call, data, "total_count", kept);
    mf_put_str(call, data, parent, call->params[0]);
    mf_put_str(call, data, "store_type", mf_str_from(store_names[options->store]));
    return mf_call_ok(call, 200, "Chunks retrieved successfully");
}

mf_rc mf_handle_session_chunks(mf_call *call, mf_err *err) {
    chunk_options options;
    mf_chunk_view *rows = NULL;
    size_t count = 0;
    MF_TRY(read_options(call, &options, err));
    MF_TRY(mf_call_own_session(call, call->params[0], err));
    MF_TRY(mf_service_chunks_list(call->door->service, call->params[0], MF_STR_NONE,
                                  call->request.arena, &rows, &count, err));
    return answer_chunks(call, &options, rows, count, "session_id");
}

mf_rc mf_handle_round_chunks(mf_call *call, mf_err *err) {
    chunk_options options;
    mf_chunk_view *rows = NULL;
    size_t count = 0;
    MF_TRY(read_options(call, &options, err));
    MF_TRY(mf_service_chunks_list(call->door->service, MF_STR_NONE, call->params[0],
                                  call->request.arena, &rows, &count, err));
    if (!call->admin && count > 0) {
        char session[MF_UUID_TEXT + 1];
        mf_uuid_format(rows[0].session_id, session);
        if (mf_call_own_session(call, mf_str_from(session), NULL) != MF_OK) {
            return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "round_id",
                                 "Round with ID '%.*s' not found",
                                 MF_STR_ARGS(call->params[0]));
        }
    }
    return answer_chunks(call, &options, rows, count, "round_id");
}

typedef struct chunk_counts {
    uint64_t all, vector, keyword;
} chunk_counts;

static mf_rc count_session(mf_call *call, mf_str session_id, store_type store,
                           chunk_counts *counts, mf_err *err) {
    mf_chunk_view *rows = NULL;
    size_t count = 0;
    MF_TRY(mf_service_chunks_list(call->door->service, session_id, MF_STR_NONE,
                                  call->request.arena, &rows, &count, err));
    for (size_t i = 0; i < count; i++) {
        counts->all += is_in_store(&rows[i], store);
        counts->vector += rows[i].embedded;
        counts->keyword++;
    }
    return MF_OK;
}

static mf_rc count_user(mf_call *call, mf_str user_id, mf_str only, store_type store,
                        chunk_counts *counts, mf_err *err) {
    mf_session_row *sessions = NULL;
    size_t count = 0;
    bool seen = only.len == 0;
    MF_TRY(mf_service_session_list(call->door->service, user_id, MF_STR_NONE,
                                   call->request.arena, &sessions, &count, err));
    for (size_t i = 0; i < count; i++) {
        char text[MF_UUID_TEXT + 1];
        mf_uuid_format(sessions[i].id, text);
        mf_str id = mf_arena_str(call->request.arena, mf_str_from(text));
        if (id.p == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
        }
        if (only.len == 0 || mf_str_eq_ignore_case(id, only)) {
            seen = true;
            MF_TRY(count_session(call, id, store, counts, err));
        }
    }
    return seen ? MF_OK
                : MF_FAIL_FIELD(err, MF_E_NOTFOUND, "session_id",
                                "Session with ID '%.*s' not found", MF_STR_ARGS(only));
}

mf_rc mf_handle_chunks_stats(mf_call *call, mf_err *err) {
    mf_str user_id;
    mf_str session_id;
    store_type store = STORE_ALL;
    chunk_counts counts = {0};
    MF_TRY(mf_call_parameter(call, "user_id", &user_id, err));
    MF_TRY(mf_call_parameter(call, "session_id", &session_id, err));
    if (user_id.len == 0) {
        call->invalid_place = "query";
        return mf_call_invalid(call, "missing", "user_id", err, "user_id is required");
    }
    MF_TRY(read_store(call, &store, err));
    MF_TRY(mf_call_own_user(call, user_id, err));
    MF_TRY(count_user(call, user_id, session_id, store, &counts, err));
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_u64(call, data, "total_chunks", counts.all);
    yyjson_mut_val *stores = mf_put_object(call, data, "by_store");
    mf_put_u64(call, stores, "vector", counts.vector);
    mf_put_u64(call, stores, "keyword", counts.keyword);
    mf_put_u64(call, stores, "graph", 0);
    yyjson_mut_val *filters = mf_put_object(call, data, "filters");
    mf_put_str(call, filters, "user_id", user_id);
    mf_put_str(call, filters, "session_id", session_id);
    mf_put_str(call, filters, "store_type", mf_str_from(store_names[store]));
    return mf_call_ok(call, 200, "Chunk statistics retrieved successfully");
}
