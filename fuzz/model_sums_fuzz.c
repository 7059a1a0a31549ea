/* model_sums_fuzz.c - SHA256SUMS of a model folder is read without trust: what comes
 * out lies in the text, sums have their form, and what was read is found again. */
#include <stdint.h>

#include "base/assert.h"
#include "lib/model_sums.h"

static bool is_inside(mf_str part, mf_str text) {
    return part.p >= text.p && part.p + part.len <= text.p + text.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mf_str text = {(const char *)data, size};
    mf_str rest = text;
    mf_str sum = MF_STR_NONE;
    mf_str name = MF_STR_NONE;
    bool broken = false;
    for (int i = 0; i < 64 && mf_sums_next(&rest, &sum, &name, &broken); i++) {
        MF_ASSERT(is_inside(sum, text) && is_inside(name, text));
        MF_ASSERT(sum.len == MF_SHA256_TEXT - 1 && name.len > 0);
        MF_ASSERT(mf_sums_find(text, name).len == sum.len);
    }
    return 0;
}
