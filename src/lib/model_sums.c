/* model_sums.c - see model_sums.h. */
#include "lib/model_sums.h"

#include <sodium.h>

#include "os/file.h"

enum { SUM_LEN = MF_SHA256_TEXT - 1 };

mf_rc mf_sha256_file(const char *path, char out[MF_SHA256_TEXT], mf_err *err) {
    mf_file_view view;
    unsigned char hash[crypto_hash_sha256_BYTES];
    MF_TRY(mf_file_map(path, &view, err));
    (void)crypto_hash_sha256(hash, view.p, view.size); /* cannot fail */
    mf_file_unmap(&view);
    (void)sodium_bin2hex(out, MF_SHA256_TEXT, hash, sizeof hash);
    return MF_OK;
}

mf_rc mf_sums_read(const char *dir, mf_buf *text, mf_err *err) {
    char path[MF_PATH_MAX];
    MF_TRY(mf_path_join(path, sizeof path, dir, MF_SUMS_FILE, err));
    return mf_file_exists(path) ? mf_file_read(path, text, err) : MF_OK;
}

static bool is_sum(mf_str s) {
    for (size_t i = 0; i < s.len; i++) {
        bool digit = s.p[i] >= '0' && s.p[i] <= '9';
        bool letter = s.p[i] >= 'a' && s.p[i] <= 'f';
        if (!digit && !letter) {
            return false;
        }
    }
    return s.len == SUM_LEN;
}

bool mf_sums_next(mf_str *rest, mf_str *sum, mf_str *name, bool *broken) {
    while (rest->p != NULL && rest->len > 0) {
        mf_str line = mf_str_split(rest, '\n');
        if (line.len == 0 || line.p[0] == '#') {
            continue;
        }
        *sum = mf_str_sub(line, 0, SUM_LEN);
        *name = mf_str_sub(line, SUM_LEN + 2, line.len);
        if (is_sum(*sum) && name->len > 0 &&
            mf_str_starts(mf_str_sub(line, SUM_LEN, 2), MF_STR("  "))) {
            return true;
        }
        *broken = true;
    }
    return false;
}

mf_str mf_sums_find(mf_str text, mf_str name) {
    mf_str sum;
    mf_str found;
    bool broken = false;
    while (mf_sums_next(&text, &sum, &found, &broken)) {
        if (mf_str_eq(found, name)) {
            return sum;
        }
    }
    return MF_STR_NONE;
}
