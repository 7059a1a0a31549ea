/* bpe_split.h - cuts text into the pieces that byte-pair encodings take one by one.
 *
 * An encoding comes with a regular expression over Unicode categories; these are the
 * expressions of o200k_base and cl100k_base as programs.  The alternatives of
 * o200k_base, tried in this order:
 *
 *   1  [^\r\n\p{L}\p{N}]?  [Lu Lt Lm Lo M]*  [Ll Lm Lo M]+   contraction?
 *   2  [^\r\n\p{L}\p{N}]?  [Lu Lt Lm Lo M]+  [Ll Lm Lo M]*   contraction?
 *   3  \p{N}{1,3}
 *   4  " "?  [^\s\p{L}\p{N}]+  [\r\n/]*
 *   5  \s*  [\r\n]+
 *   6  \s+  unless a character that is not white space follows
 *   7  \s+
 *
 * and of cl100k_base, whose repetitions never give back what they took:
 *
 *   1  contraction
 *   2  [^\r\n\p{L}\p{N}]?  \p{L}+
 *   3  \p{N}{1,3}
 *   4  " "?  [^\s\p{L}\p{N}]+  [\r\n]*
 *   5  \s+ up to the end of the text
 *   6  \s*  [\r\n]
 *   7  \s+  unless a character that is not white space follows
 *   8  \s
 *
 * A contraction is one of 's 't 're 've 'm 'll 'd in any case.  The categories are
 * those of the reference implementation (split_unicode.def).  Pure functions, any
 * thread. */
#ifndef MF_MODEL_BPE_SPLIT_H
#define MF_MODEL_BPE_SPLIT_H

#include "base/str.h"

/* The length of the first piece of `text`, which must not be empty; at least 1.  Bytes
 * that are not UTF-8 count as symbols.  Takes time in proportion to the piece, or to a
 * run of letters, marks or blanks that begins with it. */
size_t mf_split_o200k(mf_str text);
size_t mf_split_cl100k(mf_str text);

#endif
