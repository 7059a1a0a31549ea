/* call.c - one request on its way through the door: reading it.
 *
 * Validation has two audiences: people read `message`, programs read `detail`.  So each
 * refusal carries the dotted path of the field, a sentence, and a kind; call_reply.c
 * turns them into both forms. */
#include "http/call.h"

#include <stdarg.h>
#include <stdio.h>

#include "text/url.h"
#include "text/utf8.h"

mf_rc mf_call_invalid(mf_call *call, const char *type, const char *field, mf_err *err,
                      const char *fmt, ...) {
    char text[MF_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    call->invalid_type = type;
    return MF_FAIL_FIELD(err, MF_E_FORMAT, field, "%s", text);
}

static mf_rc parse_body(mf_call *call, mf_err *err) {
    yyjson_doc *doc = NULL;
    call->invalid_type = "json_invalid";
    MF_TRY(mf_json_parse(call->request.body, call->request.arena, &doc, err));
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(root)) {
        return mf_call_invalid(call, "object_type", "", err,
                               "the body must be a JSON object");
    }
    call->body = root;
    return MF_OK;
}

mf_rc mf_call_read_body(mf_call *call, mf_err *err) {
    if (call->request.body.len == 0) {
        return mf_call_invalid(call, "missing", "", err, "a JSON body is required");
    }
    return parse_body(call, err);
}

mf_rc mf_call_read_optional_body(mf_call *call, mf_err *err) {
    if (call->request.body.len == 0) {
        return MF_OK;
    }
    return parse_body(call, err);
}

/* The kind of a refusal by one of the readers of json.h. */
static const char *kind(yyjson_val *value, const char *wrong_type) {
    return value == NULL ? "missing" : wrong_type;
}

mf_rc mf_call_text(mf_call *call, const char *key, mf_text_rule rule, mf_str *out,
                   mf_err *err) {
    mf_str text = MF_STR_NONE;
    call->invalid_type = kind(yyjson_obj_get(call->body, key), "string_type");
    MF_TRY(mf_json_get_str(call->body, key, rule.required, &text, err));
    if (text.p != NULL && text.len == 0 && !rule.blank) {
        return mf_call_invalid(call, "string_too_short", key, err,
                               "%s must have at least 1 character", key);
    }
    if (text.len > rule.bytes_max) {
        return mf_call_invalid(call, "string_too_long", key, err,
                               "%s must have at most %zu bytes", key, rule.bytes_max);
    }
    *out = text;
    return MF_OK;
}

mf_rc mf_call_i64(mf_call *call, const char *key, int64_t *out, mf_err *err) {
    call->invalid_type = "int_parsing";
    return mf_json_get_i64(call->body, key, out, err);
}

mf_rc mf_call_bool(mf_call *call, const char *key, bool *out, mf_err *err) {
    call->invalid_type = "bool_parsing";
    return mf_json_get_bool(call->body, key, out, err);
}

mf_rc mf_call_array(mf_call *call, const char *key, yyjson_val **out, mf_err *err) {
    yyjson_val *array = yyjson_obj_get(call->body, key);
    if (array == NULL) {
        return mf_call_invalid(call, "missing", key, err, "%s is required", key);
    }
    if (!yyjson_is_arr(array)) {
        return mf_call_invalid(call, "list_type", key, err, "%s must be a list", key);
    }
    if (yyjson_arr_size(array) > MF_LIST_MAX) {
        return mf_call_invalid(call, "too_long", key, err,
                               "%s must have at most %d items", key, MF_LIST_MAX);
    }
    *out = array;
    return MF_OK;
}

mf_rc mf_call_texts(mf_call *call, const char *key, size_t bytes_max, mf_str **out,
                    size_t *count, mf_err *err) {
    yyjson_val *array = NULL;
    MF_TRY(mf_call_array(call, key, &array, err));
    size_t n = yyjson_arr_size(array);
    mf_str *texts = mf_arena_alloc_array(call->request.arena, n + 1, sizeof *texts);
    if (texts == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    size_t at;
    size_t max;
    yyjson_val *item;
    yyjson_arr_foreach(array, at, max, item) {
        char field[MF_ERR_FIELD_MAX];
        mf_str text = {yyjson_get_str(item), yyjson_get_len(item)};
        if (text.p != NULL && text.len <= bytes_max &&
            memchr(text.p, '\0', text.len) == NULL) {
            texts[at] = text;
            continue;
        }
        (void)snprintf(field, sizeof field, "%s.%zu", key, at);
        if (text.p == NULL) {
            return mf_call_invalid(call, "string_type", field, err,
                                   "%s must be a string", field);
        }
        if (text.len > bytes_max) {
            return mf_call_invalid(call, "string_too_long", field, err,
                                   "%s must have at most %zu bytes", field, bytes_max);
        }
        return mf_call_invalid(call, "string_type", field, err,
                               "%s must not contain U+0000", field);
    }
    *out = texts;
    *count = n;
    return MF_OK;
}

static bool is_text(mf_str s) {
    return mf_utf8_valid(s) && (s.len == 0 || memchr(s.p, '\0', s.len) == NULL);
}

mf_rc mf_call_parameter(mf_call *call, const char *name, mf_str *out, mf_err *err) {
    mf_str raw = MF_STR_NONE;
    *out = MF_STR_NONE;
    if (!mf_url_query_raw(call->request.query, mf_str_from(name), &raw)) {
        return MF_OK;
    }
    mf_str value = mf_url_decode(raw, true, call->request.arena);
    if (value.p == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    if (!is_text(value)) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, name, "Parameter %s is not valid UTF-8",
                             name);
    }
    *out = value;
    return MF_OK;
}

static bool is_digits(mf_str text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            return false;
        }
    }
    return text.len > 0;
}

mf_rc mf_call_limit(mf_call *call, size_t *out, mf_err *err) {
    enum { LIMIT_MAX = 100 };
    mf_str text;
    MF_TRY(mf_call_parameter(call, "limit", &text, err));
    if (text.p == NULL) {
        return MF_OK;
    }
    int64_t limit = 0;
    text = mf_str_trim(text);
    if (is_digits(text) && !mf_str_to_i64(text, &limit)) {
        limit = INT64_MAX; /* a number all the same */
    } else if (!mf_str_to_i64(text, &limit)) {
        call->status_message = "Invalid limit parameter";
        return MF_FAIL_FIELD(err, MF_E_INVAL, "limit", "Limit must be an integer");
    }
    if (limit <= 0) {
        call->status_message = "Invalid limit parameter";
        return MF_FAIL_FIELD(err, MF_E_INVAL, "limit", "Limit must be greater than 0");
    }
    *out = limit > LIMIT_MAX ? LIMIT_MAX : (size_t)limit;
    return MF_OK;
}

mf_rc mf_call_choice(mf_call *call, const char *name, const char *const *choices,
                     size_t *index, mf_err *err) {
    mf_str text;
    MF_TRY(mf_call_parameter(call, name, &text, err));
    if (text.p == NULL) {
        return MF_OK;
    }
    char known[96] = "";
    size_t len = 0;
    for (size_t i = 0; choices[i] != NULL; i++) {
        if (mf_str_eq(text, mf_str_from(choices[i]))) {
            *index = i;
            return MF_OK;
        }
        int n = snprintf(known + len, sizeof known - len, "%s'%s'", i > 0 ? ", " : "",
                         choices[i]);
        len += n > 0 && (size_t)n < sizeof known - len ? (size_t)n : 0;
    }
    mf_str message = mf_arena_printf(call->request.arena, "Invalid %s parameter", name);
    call->status_message = message.p;
    return MF_FAIL_FIELD(err, MF_E_INVAL, name, "%s must be one of %s", name, known);
}

/* All of the query behind "name=", up to another parameter of these routes. */
static mf_str rest_of_query(mf_str query, mf_str value) {
    mf_str rest = {value.p, query.len - (size_t)(value.p - query.p)};
    static const char *const ends[] = {"&user_id=", "&agent_id="};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t at = mf_str_find(rest, mf_str_from(ends[i]), 0);
        if (at != SIZE_MAX) {
            rest.len = at;
        }
    }
    return rest;
}

mf_rc mf_call_find_by_name(mf_call *call, mf_find_fn find, void *ctx, bool *given,
                           mf_err *err) {
    mf_arena *arena = call->request.arena;
    mf_str raw = MF_STR_NONE;
    *given = mf_url_query_raw(call->request.query, MF_STR("name"), &raw) && raw.len > 0;
    if (!*given) {
        return MF_OK;
    }
    mf_str rest = rest_of_query(call->request.query, raw);
    mf_str names[] = {
        mf_url_decode(raw, true, arena),
        mf_url_decode(raw, false, arena),
        mf_url_decode(rest, false, arena),
        mf_url_decode(rest, true, arena),
    };
    mf_rc first =
        MF_FAIL_FIELD(err, MF_E_INVAL, "name", "Parameter name is not valid UTF-8");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].p == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
        }
        bool tried = false;
        for (size_t k = 0; k < i; k++) {
            tried = tried || mf_str_eq(names[i], names[k]);
        }
        if (tried || !is_text(names[i])) {
            continue;
        }
        /* The refusal of the first reading is the one that is shown. */
        mf_err why = {0};
        mf_rc rc = find(call, names[i], ctx, &why);
        if (rc == MF_OK) {
            return MF_OK;
        }
        if (first == MF_E_INVAL || rc != MF_E_NOTFOUND) {
            first = rc;
            *err = why;
        }
        if (rc != MF_E_NOTFOUND) {
            return rc;
        }
    }
    return first;
}

static bool is_caller(const mf_call *call, mf_str user_id) {
    mf_uuid id;
    return mf_uuid_parse(user_id, &id) && mf_uuid_eq(id, call->caller);
}

mf_rc mf_call_own_user(mf_call *call, mf_str user_id, mf_err *err) {
    if (call->admin || is_caller(call, user_id)) {
        return MF_OK;
    }
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "User with ID '%.*s' not found",
                         MF_STR_ARGS(user_id));
}

mf_rc mf_call_own_session(mf_call *call, mf_str session_id, mf_err *err) {
    if (call->admin) {
        return MF_OK; /* the service tells an unknown one */
    }
    mf_session_row row;
    MF_TRY(mf_service_session_get(call->door->service, session_id, call->request.arena,
                                  &row, err));
    if (mf_uuid_eq(row.user_id, call->caller)) {
        return MF_OK;
    }
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "session_id",
                         "Session with ID '%.*s' not found", MF_STR_ARGS(session_id));
}
