/* query_text_fuzz.c - any valid text as what a chat adapter sends for a query.
 *
 * The answers stay within their bounds, are valid UTF-8, and text without a role passes
 * unchanged. */
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "memory/query_text.h"
#include "text/utf8.h"

enum { ARENA_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mf_str text = {(const char *)data, size};
    if (!mf_utf8_valid(text)) {
        return 0; /* the door refuses it */
    }
    size_t live = mf_alloc_live();
    mf_arena *arena = NULL;
    MF_ASSERT(mf_arena_new(ARENA_BYTES, &arena, NULL) == MF_OK);
    mf_query_text out;
    MF_ASSERT(mf_query_text_clean(arena, text, &out, NULL) == MF_OK);
    MF_ASSERT(mf_utf8_valid(out.encoder) && mf_utf8_valid(out.words));
    MF_ASSERT(out.encoder.len <= size && out.encoder.len <= out.words.len);
    MF_ASSERT(out.words.len <= MF_QUERY_LAST_WEIGHT * (size + 1));
    if (mf_str_find(text, MF_STR(":"), 0) == SIZE_MAX) {
        MF_ASSERT(mf_str_eq(out.encoder, text) && mf_str_eq(out.words, text));
    }
    mf_arena_free(arena);
    MF_ASSERT(mf_alloc_live() == live);
    return 0;
}
