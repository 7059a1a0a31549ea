/* json.h - JSON at the door, on yyjson: bounded, strict, and into an arena.
 *
 * yyjson does the grammar, numbers and UTF-8; this adds the bounds (depth, size),
 * refuses duplicate keys, and gives readers that name the field they complain about. */
#ifndef MF_TEXT_JSON_H
#define MF_TEXT_JSON_H

#include <yyjson.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum { MF_JSON_DEPTH_MAX = 64 };

/* Parses `text` (RFC 8259, nothing more; a lone surrogate escape or invalid UTF-8 is an
 * error) into memory of `arena`, which must outlive the document; nothing to free.
 * MF_E_FORMAT with the byte offset and what was expected; MF_E_FORMAT for more than
 * MF_JSON_DEPTH_MAX levels or a key twice in one object. */
MF_CHECKED mf_rc mf_json_parse(mf_str text, mf_arena *arena, yyjson_doc **out,
                               mf_err *err);

/* A member as text.  Absent or null gives *out = MF_STR_NONE unless `required`.  Wrong
 * type is MF_E_FORMAT with field = key.  A string holding U+0000 is refused. */
MF_CHECKED mf_rc mf_json_get_str(yyjson_val *object, const char *key, bool required,
                                 mf_str *out, mf_err *err);
/* Integers, integral floats and integral numeric strings; absent or null leaves
 * *out. */
MF_CHECKED mf_rc mf_json_get_i64(yyjson_val *object, const char *key, int64_t *out,
                                 mf_err *err);
/* true/false, 0/1 and "true"/"false"; absent or null leaves *out. */
MF_CHECKED mf_rc mf_json_get_bool(yyjson_val *object, const char *key, bool *out,
                                  mf_err *err);

/* yyjson allocator over an arena, for building replies (yyjson_mut_doc_new). */
void mf_json_arena_alc(mf_arena *arena, yyjson_alc *out);
/* Compact text of a document in arena memory; .p NULL when memory ran out. */
mf_str mf_json_write(yyjson_mut_doc *doc, mf_arena *arena);

#endif
