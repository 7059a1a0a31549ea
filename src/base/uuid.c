/* uuid.c - RFC 4122 identifiers, version 4, and their text form.
 *
 * The first six bytes of a new id are the time in milliseconds, the other 74 free bits
 * are random.  New ids so go to the end of a sorted index, where one page takes those
 * of every user; with random ids each insert dirties a page of its own, and a group
 * commit writes about twice as much. */
#include "base/uuid.h"

#include "base/clock.h"
#include "base/rng.h"

enum { TIME_BYTES = 6 };

mf_uuid mf_uuid_new(void) {
    mf_uuid id;
    mf_random_bytes(id.b, sizeof id.b);
    uint64_t ms = (uint64_t)mf_wall_us() / 1000;
    for (int i = TIME_BYTES - 1; i >= 0; i--, ms >>= 8) {
        id.b[i] = (uint8_t)ms;
    }
    id.b[6] = (uint8_t)((id.b[6] & 0x0F) | 0x40); /* version 4 */
    id.b[8] = (uint8_t)((id.b[8] & 0x3F) | 0x80); /* variant of RFC 4122 */
    return id;
}

/* A dash stands in front of bytes 4, 6, 8 and 10. */
static bool dash_before(size_t i) {
    return i == 4 || i == 6 || i == 8 || i == 10;
}

void mf_uuid_format(mf_uuid id, char out[MF_UUID_TEXT + 1]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < MF_UUID_BYTES; i++) {
        if (dash_before(i)) {
            *out++ = '-';
        }
        *out++ = digits[id.b[i] >> 4];
        *out++ = digits[id.b[i] & 0x0F];
    }
    *out = '\0';
}

/* The value of a hexadecimal digit, or -1. */
static int digit_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool mf_uuid_parse(mf_str text, mf_uuid *out) {
    if (text.len != MF_UUID_TEXT) {
        return false;
    }
    mf_uuid id;
    const char *p = text.p;
    for (size_t i = 0; i < MF_UUID_BYTES; i++) {
        if (dash_before(i) && *p++ != '-') {
            return false;
        }
        int high = digit_value(*p++);
        int low = digit_value(*p++);
        if (high < 0 || low < 0) {
            return false;
        }
        id.b[i] = (uint8_t)(high * 16 + low);
    }
    *out = id;
    return true;
}

bool mf_uuid_eq(mf_uuid a, mf_uuid b) {
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

bool mf_uuid_is_none(mf_uuid id) {
    return mf_uuid_eq(id, MF_UUID_NONE);
}
