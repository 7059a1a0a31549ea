/* wordpiece.h - text to token ids the way BERT's tokenizers do it, cased or not.
 *
 * Clean-up (control characters out, white space folded), a blank around every CJK
 * ideograph, NFD with combining marks removed, lower case, split at punctuation, then
 * the longest matching pieces of the vocabulary; a word of more than 100 characters or
 * without a match becomes [UNK].  The name of a special token standing in the text,
 * like "[SEP]", becomes that token, as the reference has it.  Reference: Devlin et al.
 * 2018 and the tokenizer.json of the model folder, whose flags (lowercase,
 * strip_accents, handle_chinese_chars, clean_text) and names of special tokens are
 * honoured: MPNet's are <s>, </s> and [UNK].
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_WORDPIECE_H
#define MF_MODEL_WORDPIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    MF_WORDPIECE_WORD_MAX = 100,   /* characters; a longer word is [UNK] */
    MF_WORDPIECE_SPECIALS_MAX = 64 /* special tokens looked for in text */
};

typedef struct mf_wordpiece mf_wordpiece;
struct mf_tokenizer_files;

/* What stands around texts: first A sep, and for a pair first A sep{sep_count} B sep.
 */
typedef struct mf_frame {
    int32_t first, sep;
    size_t sep_count;   /* 1 or 2 */
    size_t second_type; /* token type of B and the sep behind it: 0 or 1 */
} mf_frame;

/* Reads vocab.txt (and tokenizer_config.json / tokenizer.json when present; the former
 * wins) of a Hugging Face model folder; without vocab.txt the vocabulary is that of
 * tokenizer.json.  MF_E_IO; MF_E_CORRUPT for a duplicate, empty or non-UTF-8 entry,
 * more than 2^20 entries (all naming the line), ids with gaps, a missing special token,
 * or a settings file that is no JSON object; MF_E_UNSUPPORTED when tokenizer.json
 * describes another kind of tokenizer; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_wordpiece_open(const char *model_dir, mf_wordpiece **out,
                                   mf_err *err);
/* The same with settings already read. */
MF_CHECKED mf_rc mf_wordpiece_open_files(const char *model_dir,
                                         const struct mf_tokenizer_files *files,
                                         mf_wordpiece **out, mf_err *err);
void mf_wordpiece_close(mf_wordpiece *wp); /* NULL is fine */
size_t mf_wordpiece_vocab_size(const mf_wordpiece *wp);

/* Token ids of `text` with [CLS] first and [SEP] last, at most `ids_max` (>= 2) in all:
 * what does not fit is dropped and `*truncated` (unless NULL) set to whether that
 * happened.  Returns the count.  Invalid UTF-8 bytes are taken as U+FFFD.  Allocates
 * nothing. */
size_t mf_wordpiece_encode(const mf_wordpiece *wp, mf_str text, int32_t *ids,
                           size_t ids_max, bool *truncated);

/* How many ids encode would give without a bound, [CLS] and [SEP] included. */
size_t mf_wordpiece_count(const mf_wordpiece *wp, mf_str text);

/* The name of an id, as it stands in the vocabulary, borrowed until close; empty when
 * there is no such id. */
mf_str mf_wordpiece_token(const mf_wordpiece *wp, int32_t id);

/* The same without [CLS] and [SEP], at most `ids_max` in all.  `ids` NULL: counts. */
size_t mf_wordpiece_pieces(const mf_wordpiece *wp, mf_str text, int32_t *ids,
                           size_t ids_max, bool *truncated);
mf_frame mf_wordpiece_frame(const mf_wordpiece *wp);

/* The byte offset in `text` behind the last whole word that fits in `ids_max` (>= 3)
 * ids, [CLS] and [SEP] included: where to cut a long text into windows.  text.len when
 * all of it fits; always > 0 for text that is not empty: a first word that does not fit
 * by itself (never with ids_max >= 102) is given whole, and encode then drops its
 * end. */
size_t mf_wordpiece_fit(const mf_wordpiece *wp, mf_str text, size_t ids_max);

#endif
