/* porter.h - English word stems.
 *
 * The suffix-stripping algorithm of M. F. Porter, "An algorithm for suffix stripping",
 * Program 14(3), 1980: "connected", "connecting" and "connections" all become
 * "connect". It knows no dictionary, so a stem need not be a word; what matters is that
 * related words share one.  Pure, allocates nothing, safe from any thread. */
#ifndef MF_INDEX_PORTER_H
#define MF_INDEX_PORTER_H

#include <stddef.h>

/* Stems `word`, `len` lower-case ASCII letters, in place and returns the new length: at
 * most `len`, never 0 unless `len` is.  Words of one or two letters stay as they
 * are. */
size_t mf_porter_stem(char *word, size_t len);

#endif
