/* chunks.h - a text as parts that each fit the encoder's window.
 *
 * An encoder drops what lies beyond its window, so a long message becomes several
 * parts, each with a vector of its own.  Pure; safe from any thread. */
#ifndef MF_MEMORY_CHUNKS_H
#define MF_MEMORY_CHUNKS_H

#include "base/err.h"
#include "base/str.h"
#include "model/tokenizer.h"

enum { MF_CHUNKS_MAX = 64 }; /* parts of one document; about 16,000 tokens */

/* Cuts `text` into parts of at most `window` ids of `wp` ([CLS] and [SEP] included, so
 * at least 3), behind a paragraph or sentence where one ends late in the window, else
 * behind a word.  The parts point into `text`, in order, without white space at their
 * ends; none is empty unless the text is blank, which gives one empty part.  What does
 * not fit in `parts_max` (>= 1) parts is left out: it is found by its words alone.
 * *count is 1 to parts_max.  MF_E_INVAL for a window below 3 or no room for parts. */
MF_CHECKED mf_rc mf_chunks_cut(const mf_model_tokenizer *wp, size_t window, mf_str text,
                               mf_str *parts, size_t parts_max, size_t *count,
                               mf_err *err);

#endif
