/* knowledge.c - a user's knowledge: texts that belong to no session.
 *
 * Unlike messages, unknown ids are left out instead of failing the request; the reply
 * says which ones counted. */
#include "http/handlers.h"

static void put_items(mf_call *call, const mf_knowledge_row *rows, size_t count) {
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "knowledge");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = mf_add_object(call, list);
        mf_put_uuid(call, item, "id", rows[i].id);
        mf_put_uuid(call, item, "user_id", rows[i].user_id);
        mf_put_str(call, item, "content", rows[i].content);
        mf_put_time(call, item, "created_at", rows[i].created_us);
        mf_put_time(call, item, "updated_at", rows[i].updated_us);
    }
}

static void put_done(mf_call *call, const mf_str *ids, const bool *done, size_t count) {
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "knowledge_ids");
    for (size_t i = 0; i < count; i++) {
        if (done[i]) {
            mf_add_str(call, list, ids[i]);
        }
    }
}

mf_rc mf_handle_knowledge_list(mf_call *call, mf_err *err) {
    mf_knowledge_row *rows = NULL;
    size_t count = 0;
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_knowledge_list(call->door->service, call->params[0],
                                     call->request.arena, &rows, &count, err));
    put_items(call, rows, count);
    return mf_call_ok(call, 200, "Knowledge items retrieved successfully");
}

mf_rc mf_handle_knowledge_add(mf_call *call, mf_err *err) {
    mf_str *texts = NULL;
    size_t count = 0;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_texts(call, "knowledge", MF_TEXT_BYTES_MAX, &texts, &count, err));
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    mf_uuid *ids = mf_arena_alloc_array(call->request.arena, count + 1, sizeof *ids);
    if (ids == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    MF_TRY(mf_service_knowledge_add(call->door->service, call->params[0], texts, count,
                                    ids, err));
    yyjson_mut_val *list = mf_put_array(call, mf_call_data(call), "knowledge_ids");
    for (size_t i = 0; i < count; i++) {
        mf_add_uuid(call, list, ids[i]);
    }
    return mf_call_ok(call, 201, "Knowledge items added successfully");
}

mf_rc mf_handle_knowledge_read(mf_call *call, mf_err *err) {
    mf_str *ids = NULL;
    size_t count = 0;
    size_t found = 0;
    mf_knowledge_row *rows = NULL;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_texts(call, "knowledge_ids", MF_NAME_BYTES_MAX, &ids, &count, err));
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_knowledge_read(call->door->service, call->params[0], ids, count,
                                     call->request.arena, &rows, &found, err));
    put_items(call, rows, found);
    return mf_call_ok(call, 200, "Knowledge items read successfully");
}

mf_rc mf_handle_knowledge_update(mf_call *call, mf_err *err) {
    mf_str *ids = NULL;
    mf_str *texts = NULL;
    size_t id_count = 0;
    size_t text_count = 0;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(
        mf_call_texts(call, "knowledge_ids", MF_NAME_BYTES_MAX, &ids, &id_count, err));
    MF_TRY(mf_call_texts(call, "new_knowledge", MF_TEXT_BYTES_MAX, &texts, &text_count,
                         err));
    if (text_count < id_count) {
        return MF_FAIL_FIELD(
            err, MF_E_INVAL, "new_knowledge",
            "new_knowledge must have an item for each of knowledge_ids");
    }
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    bool *done = mf_arena_alloc_array(call->request.arena, id_count + 1, sizeof *done);
    if (done == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    MF_TRY(mf_service_knowledge_update(call->door->service, call->params[0], ids, texts,
                                       id_count, done, err));
    put_done(call, ids, done, id_count);
    return mf_call_ok(call, 200, "Knowledge items updated successfully");
}

mf_rc mf_handle_knowledge_delete(mf_call *call, mf_err *err) {
    mf_str *ids = NULL;
    size_t count = 0;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_texts(call, "knowledge_ids", MF_NAME_BYTES_MAX, &ids, &count, err));
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    bool *done = mf_arena_alloc_array(call->request.arena, count + 1, sizeof *done);
    if (done == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    MF_TRY(mf_service_knowledge_delete(call->door->service, call->params[0], ids, count,
                                       done, err));
    put_done(call, ids, done, count);
    return mf_call_ok(call, 200, "Knowledge items deleted successfully");
}
