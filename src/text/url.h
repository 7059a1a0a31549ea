/* url.h - percent-encoding and query strings. */
#ifndef MF_TEXT_URL_H
#define MF_TEXT_URL_H

#include "base/arena.h"
#include "base/str.h"

/* Decodes %XX into arena memory; `plus_is_blank` for form data.  A malformed escape is
 * kept as it stands.  .p NULL when memory ran out. */
mf_str mf_url_decode(mf_str text, bool plus_is_blank, mf_arena *arena);
/* Encodes all but A-Z a-z 0-9 - _ . ~ */
mf_str mf_url_encode(mf_str text, mf_arena *arena);
/* Finds `name` in a raw query string ("a=1&b=2", no '?'): the raw, undecoded value of
 * its first appearance.  false when absent. */
bool mf_url_query_raw(mf_str query, mf_str name, mf_str *value);

#endif
