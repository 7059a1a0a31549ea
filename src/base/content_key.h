/* content_key.h - a name for a text that only who knows a secret can work out.
 *
 * The key is SipHash-2-4 with 128 bits of result (Aumasson and Bernstein 2012), a
 * pseudo-random function of the text under a secret of 128 bits.  Whoever does not know
 * the secret cannot tell keys from random numbers, so nobody can make two texts with
 * the same key, not even somebody who chooses both and knows this program; by chance
 * it happens once in 2^64 texts.  Equal keys may therefore be taken for equal texts.
 *
 * Pure; safe from any thread. */
#ifndef MF_BASE_CONTENT_KEY_H
#define MF_BASE_CONTENT_KEY_H

#include <stdint.h>

#include "base/str.h"

enum { MF_CONTENT_KEY_BYTES = 16 };

typedef struct mf_content_key {
    uint8_t b[MF_CONTENT_KEY_BYTES];
} mf_content_key;

#define MF_CONTENT_KEY_NONE ((mf_content_key){{0}})

/* The secret and the result have the same form, so a key can be the secret of further
 * keys: the way to one family of keys for each purpose. */
mf_content_key mf_content_key_of(const mf_content_key *secret, mf_str bytes);

bool mf_content_key_eq(const mf_content_key *a, const mf_content_key *b);
bool mf_content_key_is_none(const mf_content_key *key);

#endif
