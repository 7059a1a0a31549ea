/* json.c - JSON at the door, on yyjson: bounded, strict, and into an arena.
 *
 * Before yyjson sees a text, one pass over its bytes counts brackets and separators
 * outside of strings.  That gives the depth and an upper bound of the number of values,
 * so a hostile text is refused before memory is spent on it: a value costs 16 bytes,
 * eight times the two bytes that ask for one.  After parsing, a walk that can be no
 * deeper than the depth just checked looks for keys that appear twice; readers of JSON
 * disagree on which of the two counts, and a disagreement between two programs is an
 * attack. */
#include "text/json.h"

#include <math.h>
#include <stdlib.h>

enum {
    VALUES_MAX = 1 << 20, /* values in one document, 16 MiB of nodes */
    PAIRWISE_MAX = 12     /* keys in an object that are compared pair by pair */
};

static void *arena_malloc(void *ctx, size_t size) {
    return mf_arena_alloc(ctx, size);
}

static void *arena_realloc(void *ctx, void *old, size_t old_size, size_t size) {
    if (size <= old_size) {
        return old;
    }
    void *block = mf_arena_alloc(ctx, size);
    if (block != NULL && old != NULL && old_size > 0) {
        memcpy(block, old, old_size);
    }
    return block;
}

static void arena_free(void *ctx, void *block) {
    (void)ctx;
    (void)block; /* the arena lets go of everything at once */
}

void mf_json_arena_alc(mf_arena *arena, yyjson_alc *out) {
    *out = (yyjson_alc){arena_malloc, arena_realloc, arena_free, arena};
}

static size_t line_of(mf_str text, size_t at) {
    size_t line = 1;
    for (size_t i = 0; i < at && i < text.len; i++) {
        line += text.p[i] == '\n';
    }
    return line;
}

static mf_rc fail_at(mf_str text, size_t at, const char *what, mf_err *err) {
    return MF_FAIL(err, MF_E_FORMAT, "malformed JSON at byte %zu, line %zu: %s", at,
                   line_of(text, at), what);
}

/* The depth and number of values, from brackets and separators alone. */
static mf_rc check_bounds(mf_str text, mf_err *err) {
    size_t depth = 0;
    size_t values = 1;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '{':
        case '[':
            values++;
            if (++depth > MF_JSON_DEPTH_MAX) {
                return fail_at(text, i, "nested deeper than 64 levels", err);
            }
            break;
        case '}':
        case ']':
            depth -= depth > 0;
            break;
        case ',':
        case ':':
            values++;
            break;
        default:
            break;
        }
        if (values > VALUES_MAX) {
            return fail_at(text, i, "more than 1048576 values", err);
        }
    }
    return MF_OK;
}

static mf_str view(yyjson_val *value) {
    return (mf_str){yyjson_get_str(value), yyjson_get_len(value)};
}

static int compare_keys(const void *a, const void *b) {
    return mf_str_cmp(*(const mf_str *)a, *(const mf_str *)b);
}

static mf_rc fail_duplicate(mf_str key, mf_err *err) {
    mf_str shown = mf_str_sub(key, 0, MF_ERR_FIELD_MAX - 1);
    return MF_FAIL(err, MF_E_FORMAT,
                   "malformed JSON: the key \"%.*s\" appears twice in one object",
                   MF_STR_ARGS(shown));
}

static mf_rc check_keys_sorted(yyjson_val *object, mf_arena *arena, mf_err *err) {
    size_t count = yyjson_obj_size(object);
    mf_str *keys = mf_arena_alloc_array(arena, count, sizeof *keys);
    if (keys == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to read the JSON document");
    }
    size_t at;
    size_t max;
    yyjson_val *key;
    yyjson_val *value;
    yyjson_obj_foreach(object, at, max, key, value) {
        keys[at] = view(key);
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (mf_str_eq(keys[i - 1], keys[i])) {
            return fail_duplicate(keys[i], err);
        }
    }
    return MF_OK;
}

static mf_rc check_keys(yyjson_val *object, mf_arena *arena, mf_err *err) {
    size_t count = yyjson_obj_size(object);
    if (count > PAIRWISE_MAX) {
        return check_keys_sorted(object, arena, err);
    }
    mf_str keys[PAIRWISE_MAX];
    size_t at;
    size_t max;
    yyjson_val *key;
    yyjson_val *value;
    yyjson_obj_foreach(object, at, max, key, value) {
        keys[at] = view(key);
        for (size_t i = 0; i < at; i++) {
            if (mf_str_eq(keys[i], keys[at])) {
                return fail_duplicate(keys[at], err);
            }
        }
    }
    return MF_OK;
}

/* Recursion is as deep as the document, so MF_JSON_DEPTH_MAX at most. */
static mf_rc check_tree(yyjson_val *value, mf_arena *arena, mf_err *err) {
    size_t at;
    size_t max;
    yyjson_val *key;
    yyjson_val *child;
    if (yyjson_is_obj(value)) {
        MF_TRY(check_keys(value, arena, err));
        yyjson_obj_foreach(value, at, max, key, child) {
            if (yyjson_is_ctn(child)) {
                MF_TRY(check_tree(child, arena, err));
            }
        }
    } else if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, at, max, child) {
            if (yyjson_is_ctn(child)) {
                MF_TRY(check_tree(child, arena, err));
            }
        }
    }
    return MF_OK;
}

mf_rc mf_json_parse(mf_str text, mf_arena *arena, yyjson_doc **out, mf_err *err) {
    if (text.len == 0) {
        return MF_FAIL(err, MF_E_FORMAT,
                       "malformed JSON at byte 0, line 1: nothing there");
    }
    MF_TRY(check_bounds(text, err));
    char *copy = mf_arena_alloc(arena, text.len + YYJSON_PADDING_SIZE);
    if (copy == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to read the JSON document");
    }
    memcpy(copy, text.p, text.len);
    memset(copy + text.len, 0, YYJSON_PADDING_SIZE);
    yyjson_alc alc;
    mf_json_arena_alc(arena, &alc);
    yyjson_read_err why;
    yyjson_doc *doc = yyjson_read_opts(copy, text.len, YYJSON_READ_INSITU, &alc, &why);
    if (doc == NULL && why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to read the JSON document");
    }
    if (doc == NULL) {
        return fail_at(text, why.pos, why.msg, err);
    }
    MF_TRY(check_tree(yyjson_doc_get_root(doc), arena, err));
    *out = doc;
    return MF_OK;
}

static bool is_absent(yyjson_val *value) {
    return value == NULL || yyjson_is_null(value);
}

mf_rc mf_json_get_str(yyjson_val *object, const char *key, bool required, mf_str *out,
                      mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, key);
    if (is_absent(value)) {
        if (required) {
            return MF_FAIL_FIELD(
                err, MF_E_FORMAT, key,
                value == NULL ? "%s is required" : "%s must be a string", key);
        }
        *out = MF_STR_NONE;
        return MF_OK;
    }
    if (!yyjson_is_str(value)) {
        return MF_FAIL_FIELD(err, MF_E_FORMAT, key, "%s must be a string", key);
    }
    mf_str text = view(value);
    if (text.len > 0 && memchr(text.p, '\0', text.len) != NULL) {
        return MF_FAIL_FIELD(err, MF_E_FORMAT, key, "%s must not contain U+0000", key);
    }
    *out = text;
    return MF_OK;
}

/* 2^63 as a double; every smaller integral double fits. */
#define I64_END 9223372036854775808.0

static bool to_i64(yyjson_val *value, int64_t *out) {
    if (yyjson_is_uint(value)) {
        uint64_t n = yyjson_get_uint(value);
        *out = (int64_t)n;
        return n <= INT64_MAX;
    }
    if (yyjson_is_sint(value)) {
        *out = yyjson_get_sint(value);
        return true;
    }
    if (yyjson_is_real(value)) {
        double n = yyjson_get_real(value);
        if (!(n >= -I64_END && n < I64_END) || n != floor(n)) {
            return false;
        }
        *out = (int64_t)n;
        return true;
    }
    return yyjson_is_str(value) && mf_str_to_i64(view(value), out);
}

mf_rc mf_json_get_i64(yyjson_val *object, const char *key, int64_t *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, key);
    if (is_absent(value)) {
        return MF_OK;
    }
    int64_t number = 0;
    if (!to_i64(value, &number)) {
        return MF_FAIL_FIELD(err, MF_E_FORMAT, key, "%s must be an integer", key);
    }
    *out = number;
    return MF_OK;
}

mf_rc mf_json_get_bool(yyjson_val *object, const char *key, bool *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(object, key);
    if (is_absent(value)) {
        return MF_OK;
    }
    if (yyjson_is_bool(value)) {
        *out = yyjson_get_bool(value);
        return MF_OK;
    }
    if (yyjson_is_uint(value) && yyjson_get_uint(value) <= 1) {
        *out = yyjson_get_uint(value) == 1;
        return MF_OK;
    }
    mf_str text = yyjson_is_str(value) ? view(value) : MF_STR_NONE;
    bool yes =
        mf_str_eq_ignore_case(text, MF_STR("true")) || mf_str_eq(text, MF_STR("1"));
    bool no =
        mf_str_eq_ignore_case(text, MF_STR("false")) || mf_str_eq(text, MF_STR("0"));
    if (!yes && !no) {
        return MF_FAIL_FIELD(err, MF_E_FORMAT, key, "%s must be true or false", key);
    }
    *out = yes;
    return MF_OK;
}

mf_str mf_json_write(yyjson_mut_doc *doc, mf_arena *arena) {
    yyjson_alc alc;
    mf_json_arena_alc(arena, &alc);
    size_t len = 0;
    char *text = yyjson_mut_write_opts(doc, YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
    return text != NULL ? (mf_str){text, len} : MF_STR_NONE;
}
