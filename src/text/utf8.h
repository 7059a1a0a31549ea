/* utf8.h - UTF-8: validation at the door, decoding behind it.
 *
 * Pure functions on borrowed bytes: no state, no allocation, any thread. */
#ifndef MF_TEXT_UTF8_H
#define MF_TEXT_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* What a damaged byte decodes to. */
#define MF_UTF8_REPLACEMENT 0xFFFDu

/* True for well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates,
 * nothing above U+10FFFF).  NUL bytes count as well formed. */
bool mf_utf8_valid(mf_str text);

/* Decodes the code point at `*at` and moves `*at` behind it.  `text` must be valid and
 * *at < text.len. */
uint32_t mf_utf8_next(mf_str text, size_t *at);

/* As mf_utf8_next, for text nobody has checked: a byte that does not start a
 * well-formed sequence gives MF_UTF8_REPLACEMENT and moves `*at` by one.  Equal on
 * valid text. */
uint32_t mf_utf8_next_lossy(mf_str text, size_t *at);

/* Writes `code` as UTF-8; returns the length, 1 to 4.  `code` must be a Unicode scalar
 * value: at most U+10FFFF and no surrogate. */
size_t mf_utf8_put(uint32_t code, char out[4]);

size_t mf_utf8_count(mf_str text); /* code points in valid text */

/* The longest prefix of valid text that has at most `bytes_max` bytes and ends between
 * code points. */
mf_str mf_utf8_prefix(mf_str text, size_t bytes_max);

#endif
