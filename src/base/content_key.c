/* content_key.c - SipHash-2-4-128.
 *
 * Two rounds for each word of eight bytes, four before each half of the result; the
 * last word holds what is left of the text and, in its top byte, the text's length.
 * Words are read in the machine's byte order, which is little-endian wherever memfuse
 * runs. */
#include "base/content_key.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "keys of a text are the same on every machine");

typedef struct sip_state {
    uint64_t v0, v1, v2, v3;
} sip_state;

static uint64_t rotate(uint64_t value, unsigned bits) {
    return value << bits | value >> (64 - bits);
}

static void rounds(sip_state *s, int count) {
    for (int i = 0; i < count; i++) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 = rotate(s->v0, 32) + s->v3;
        s->v2 += s->v1;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 = rotate(s->v2, 32);
    }
}

static void take_word(sip_state *s, uint64_t word) {
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

static uint64_t finish(sip_state *s) {
    rounds(s, 4);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

mf_content_key mf_content_key_of(const mf_content_key *secret, mf_str bytes) {
    uint64_t k[2];
    memcpy(k, secret->b, sizeof k);
    /* The numbers are the paper's; 0xee marks the variant with the long result. */
    sip_state s = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d ^ 0xee,
                   k[0] ^ 0x6c7967656e657261, k[1] ^ 0x7465646279746573};
    size_t whole = bytes.len / 8 * 8;
    for (size_t at = 0; at < whole; at += 8) {
        uint64_t word;
        memcpy(&word, bytes.p + at, sizeof word);
        take_word(&s, word);
    }
    uint64_t last = 0;
    if (bytes.len > whole) {
        memcpy(&last, bytes.p + whole, bytes.len - whole);
    }
    take_word(&s, last | (uint64_t)bytes.len << 56);
    uint64_t half[2];
    s.v2 ^= 0xee;
    half[0] = finish(&s);
    s.v1 ^= 0xdd;
    half[1] = finish(&s);
    mf_content_key key;
    memcpy(key.b, half, sizeof key.b);
    return key;
}

bool mf_content_key_eq(const mf_content_key *a, const mf_content_key *b) {
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool mf_content_key_is_none(const mf_content_key *key) {
    return mf_content_key_eq(key, &MF_CONTENT_KEY_NONE);
}
