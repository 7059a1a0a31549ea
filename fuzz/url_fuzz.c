/* url_fuzz.c - percent-encoding takes any bytes: encoding is undone by decoding,
 * decoding never grows a text, a value found lies inside the query; and times are read
 * or refused. */
#include <stdint.h>

#include "base/assert.h"
#include "text/timestamp.h"
#include "text/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mf_arena *arena = NULL;
    if (size > 65536 || mf_arena_new(4 << 20, &arena, NULL) != MF_OK) {
        return 0;
    }
    mf_str text = {(const char *)data, size};
    mf_str encoded = mf_url_encode(text, arena);
    MF_ASSERT(mf_str_eq(mf_url_decode(encoded, true, arena), text));
    MF_ASSERT(mf_str_eq(mf_url_decode(encoded, false, arena), text));
    MF_ASSERT(mf_url_decode(text, true, arena).len <= size);
    mf_str value = MF_STR_NONE;
    if (mf_url_query_raw(text, MF_STR("name"), &value) && value.len > 0) {
        MF_ASSERT(value.p >= text.p && value.p + value.len <= text.p + size);
    }
    int64_t us = 0;
    if (mf_timestamp_parse(text, &us)) {
        char shown[MF_TIMESTAMP_TEXT + 1];
        int64_t again = 0;
        mf_timestamp_format(us, shown);
        MF_ASSERT(mf_timestamp_parse(mf_str_from(shown), &again) && again == us);
    }
    mf_arena_free(arena);
    return 0;
}
