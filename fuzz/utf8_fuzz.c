/* utf8_fuzz.c - any bytes: validation agrees with decoding, and decoding with encoding.
 *
 * A text is valid exactly when lossy decoding and encoding again gives the same bytes:
 * a damaged byte comes back as the three bytes of U+FFFD. */
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mf_str text = {(const char *)data, size};
    bool valid = mf_utf8_valid(text);
    bool same = true;
    size_t count = 0;
    for (size_t at = 0; at < size; count++) {
        size_t from = at;
        uint32_t code = mf_utf8_next_lossy(text, &at);
        char bytes[4];
        size_t len = mf_utf8_put(code, bytes);
        MF_ASSERT(at > from && at <= size);
        same = same && len == at - from && memcmp(bytes, text.p + from, len) == 0;
        if (valid) {
            size_t strict_at = from;
            MF_ASSERT(mf_utf8_next(text, &strict_at) == code);
            MF_ASSERT(strict_at == at);
        }
    }
    MF_ASSERT(same == valid);
    if (valid) {
        MF_ASSERT(mf_utf8_count(text) == count);
        for (size_t cut = 0; cut <= size && cut < 64; cut++) {
            mf_str prefix = mf_utf8_prefix(text, cut);
            MF_ASSERT(prefix.len <= cut && cut - prefix.len < 4);
            MF_ASSERT(mf_utf8_valid(prefix));
        }
    }
    return 0;
}
