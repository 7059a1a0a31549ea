/* store.c - what all backends share. */
#include "store/store.h"

static const mf_str role_names[] = {
    [MF_ROLE_USER] = {"user", 4},
    [MF_ROLE_ASSISTANT] = {"assistant", 9},
    [MF_ROLE_SYSTEM] = {"system", 6},
};
enum { ROLE_COUNT = sizeof role_names / sizeof role_names[0] };

const char *mf_role_name(mf_role role) {
    return role_names[role].p;
}

bool mf_role_parse(mf_str text, mf_role *out) {
    for (int i = 0; i < ROLE_COUNT; i++) {
        if (mf_str_eq(text, role_names[i])) {
            *out = (mf_role)i;
            return true;
        }
    }
    return false;
}
