/* o200k_split.h - cuts text into the pieces that o200k_base encodes one by one.
 *
 * The encoding comes with a regular expression over Unicode categories; this is that
 * expression as a program.  Its seven alternatives, tried in this order:
 *
 *   1  [^\r\n\p{L}\p{N}]?  [Lu Lt Lm Lo M]*  [Ll Lm Lo M]+   contraction?
 *   2  [^\r\n\p{L}\p{N}]?  [Lu Lt Lm Lo M]+  [Ll Lm Lo M]*   contraction?
 *   3  \p{N}{1,3}
 *   4  " "?  [^\s\p{L}\p{N}]+  [\r\n/]*
 *   5  \s*  [\r\n]+
 *   6  \s+  unless a character that is not white space follows
 *   7  \s+
 *
 * A contraction is one of 's 't 're 've 'm 'll 'd in any case.  Categories come from
 * utf8proc; a character newer than its Unicode version counts as a symbol. */
#ifndef MF_MODEL_O200K_SPLIT_H
#define MF_MODEL_O200K_SPLIT_H

#include "base/str.h"

/* The length of the first piece of `text`, which must not be empty; at least 1.  Bytes
 * that are not UTF-8 count as symbols.  Takes time in proportion to the piece, or to a
 * run of letters, marks or blanks that begins with it. */
size_t mf_o200k_piece(mf_str text);

#endif
