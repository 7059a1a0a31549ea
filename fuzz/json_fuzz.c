/* json_fuzz.c - the JSON reader takes any bytes: it accepts or refuses them, and what
 * it accepts is within its bounds, is valid UTF-8, and survives being written and read
 * again. */
#include <stdint.h>

#include "base/assert.h"
#include "text/json.h"
#include "text/utf8.h"

static size_t depth_of(yyjson_val *value) {
    size_t deepest = 0;
    size_t at;
    size_t max;
    yyjson_val *key;
    yyjson_val *child;
    if (yyjson_is_obj(value)) {
        yyjson_obj_foreach(value, at, max, key, child) {
            size_t depth = depth_of(child);
            deepest = depth > deepest ? depth : deepest;
        }
    }
    if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, at, max, child) {
            size_t depth = depth_of(child);
            deepest = depth > deepest ? depth : deepest;
        }
    }
    return deepest + (yyjson_is_ctn(value) ? 1 : 0);
}

static void use_readers(yyjson_val *root) {
    mf_str text = MF_STR_NONE;
    int64_t number = 0;
    bool yes = false;
    /* Any answer will do, as long as an error comes with its code. */
    mf_err err = {0};
    mf_rc rc = mf_json_get_str(root, "k", false, &text, &err);
    MF_ASSERT(rc == MF_OK || rc == err.rc);
    rc = mf_json_get_i64(root, "k", &number, &err);
    MF_ASSERT(rc == MF_OK || rc == err.rc);
    rc = mf_json_get_bool(root, "k", &yes, &err);
    MF_ASSERT(rc == MF_OK || rc == err.rc);
}

static void check_round_trip(yyjson_doc *doc, mf_arena *arena) {
    yyjson_alc alc;
    mf_json_arena_alc(arena, &alc);
    yyjson_mut_doc *copy = yyjson_doc_mut_copy(doc, &alc);
    mf_str text = copy != NULL ? mf_json_write(copy, arena) : MF_STR_NONE;
    MF_ASSERT(text.p != NULL);
    yyjson_doc *again = NULL;
    MF_ASSERT(mf_utf8_valid(text));
    MF_ASSERT(mf_json_parse(text, arena, &again, NULL) == MF_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mf_arena *arena = NULL;
    if (mf_arena_new(64 << 20, &arena, NULL) != MF_OK) {
        return 0;
    }
    yyjson_doc *doc = NULL;
    mf_str text = {(const char *)data, size};
    if (mf_json_parse(text, arena, &doc, NULL) == MF_OK) {
        yyjson_val *root = yyjson_doc_get_root(doc);
        MF_ASSERT(mf_utf8_valid(text));
        MF_ASSERT(depth_of(root) <= MF_JSON_DEPTH_MAX);
        use_readers(root);
        check_round_trip(doc, arena);
    }
    mf_arena_free(arena);
    return 0;
}
