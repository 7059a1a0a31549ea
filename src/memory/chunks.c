/* chunks.c - fills window after window and prefers to end them where a thought ends. */
#include "memory/chunks.h"

#include "base/assert.h"

enum { WINDOW_MIN = 3 };

/* Does a paragraph or a sentence end right before `at`, with white space behind it? */
static bool ends_thought(mf_str text, size_t at) {
    char last = text.p[at - 1];
    if (last == '\n') {
        return true;
    }
    static const mf_str full_stop = {"\xE3\x80\x82", 3}; /* of Chinese and Japanese */
    if (mf_str_ends(mf_str_sub(text, 0, at), full_stop)) {
        return true;
    }
    bool blank = text.p[at] == ' ' || text.p[at] == '\n' || text.p[at] == '\t';
    return blank && (last == '.' || last == '!' || last == '?');
}

/* Where to cut a text of which `fits` bytes fit: in the last third of them if a thought
 * ends there, else behind the last word. */
static size_t cut_before(mf_str text, size_t fits) {
    for (size_t at = fits; at > 0 && at >= fits - fits / 3; at--) {
        if (ends_thought(text, at)) {
            return at;
        }
    }
    return fits;
}

mf_rc mf_chunks_cut(const mf_model_tokenizer *wp, size_t window, mf_str text,
                    mf_str *parts, size_t parts_max, size_t *count, mf_err *err) {
    if (window < WINDOW_MIN || parts_max == 0) {
        return MF_FAIL(err, MF_E_INVAL, "a window of %zu ids, %zu parts", window,
                       parts_max);
    }
    mf_str rest = mf_str_trim(text);
    size_t made = 0;
    while (rest.len > 0 && made < parts_max) {
        size_t fits = mf_model_tokenizer_fit(wp, rest, window);
        MF_ASSERT(fits > 0 && fits <= rest.len);
        size_t cut = fits == rest.len ? fits : cut_before(rest, fits);
        parts[made++] = mf_str_trim(mf_str_sub(rest, 0, cut));
        rest = mf_str_trim(mf_str_sub(rest, cut, rest.len - cut));
    }
    if (made == 0) {
        parts[made++] = MF_STR("");
    }
    *count = made;
    return MF_OK;
}
