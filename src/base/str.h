/* str.h - borrowed text: a pointer and a length in bytes.
 *
 * Never assumed NUL-terminated; valid UTF-8 from the door inwards.  An empty string
 * may have any pointer, also NULL.  The owner of the bytes is named by whoever hands
 * out the view. */
#ifndef MF_BASE_STR_H
#define MF_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct mf_str {
    const char *p;
    size_t len;
} mf_str;

#define MF_STR(literal) ((mf_str){(literal), sizeof(literal) - 1})
#define MF_STR_NONE ((mf_str){NULL, 0})
/* For printf: printf("%.*s", MF_STR_ARGS(s)) */
#define MF_STR_ARGS(s) (int)(s).len, (s).p

mf_str mf_str_from(const char *text); /* NULL gives the empty string */
bool mf_str_eq(mf_str a, mf_str b);
bool mf_str_eq_ignore_case(mf_str a, mf_str b); /* ASCII letters only */
int mf_str_cmp(mf_str a, mf_str b);             /* as memcmp, shorter first */
bool mf_str_starts(mf_str s, mf_str prefix);
bool mf_str_ends(mf_str s, mf_str suffix);
mf_str mf_str_sub(mf_str s, size_t from, size_t len); /* clamped to s */
mf_str mf_str_trim(mf_str s); /* ASCII white space at both ends */
/* First position of `needle` in `s` at or after `from`; SIZE_MAX when absent. */
size_t mf_str_find(mf_str s, mf_str needle, size_t from);
/* Cuts `*rest` at the first `separator`: returns the part before it and moves *rest
 * behind it.  Without one, returns all of *rest and leaves it empty with p == NULL. */
mf_str mf_str_split(mf_str *rest, char separator);
/* Whole of `s` as a number; false when it is not one or out of range. */
bool mf_str_to_i64(mf_str s, int64_t *out);
bool mf_str_to_double(mf_str s,
                      double *out); /* finite values only; '.' in every locale */
uint64_t mf_str_hash(mf_str s);     /* XXH3, stable across runs and machines */

#endif
