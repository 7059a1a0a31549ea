/* uuid.h - the ids of users, agents, sessions, messages, knowledge and keys. */
#ifndef MF_BASE_UUID_H
#define MF_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { MF_UUID_BYTES = 16, MF_UUID_TEXT = 36 };

typedef struct mf_uuid {
    uint8_t b[MF_UUID_BYTES];
} mf_uuid;

#define MF_UUID_NONE ((mf_uuid){{0}})

/* Version 4; begins with the wall clock's milliseconds, so later ids mostly sort behind
 * earlier ones, and has 74 bits from the kernel's random source. */
mf_uuid mf_uuid_new(void);
void mf_uuid_format(mf_uuid id,
                    char out[MF_UUID_TEXT + 1]); /* lower case, NUL-terminated */
bool mf_uuid_parse(mf_str text, mf_uuid *out);   /* 8-4-4-4-12 hex only, either case */
bool mf_uuid_eq(mf_uuid a, mf_uuid b);
bool mf_uuid_is_none(mf_uuid id);
static inline mf_str mf_uuid_key(const mf_uuid *id) { /* its bytes, as a map key */
    return (mf_str){(const char *)id->b, MF_UUID_BYTES};
}

#endif
