/* tokenizer_files.h - private to model/: the JSON files that describe a tokenizer, read
 * once for all who look into them. */
#ifndef MF_MODEL_TOKENIZER_FILES_H
#define MF_MODEL_TOKENIZER_FILES_H

#include <yyjson.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

typedef struct mf_tokenizer_files {
    yyjson_doc *tokenizer; /* tokenizer.json; NULL: there is none */
    yyjson_doc *config;    /* tokenizer_config.json; NULL: there is none */
} mf_tokenizer_files;

/* MF_E_IO, MF_E_CORRUPT for a file that is no JSON object, MF_E_NOMEM.  `out` is to be
 * ended in any case. */
MF_CHECKED mf_rc mf_tokenizer_files_read(const char *dir, mf_tokenizer_files *out,
                                         mf_err *err);
void mf_tokenizer_files_done(mf_tokenizer_files *files);

/* The roots; NULL, which the JSON library takes for an object without keys, when there
 * is no such file. */
yyjson_val *mf_tokenizer_root(const mf_tokenizer_files *files);
yyjson_val *mf_tokenizer_config_root(const mf_tokenizer_files *files);

/* The text of a JSON string of any length; MF_STR_NONE for anything else. */
mf_str mf_json_text(yyjson_val *value);

/* The tokens put around a text and what stands between the two of a pair: first A sep
 * [sep] B sep. */
typedef struct mf_special_names {
    mf_str unk, first, sep; /* in the files */
    size_t sep_count;       /* between the texts of a pair: 1 or 2 */
    size_t second_type;     /* token type of the second text and what follows it */
} mf_special_names;

/* From the two files, tokenizer_config.json before tokenizer.json; where they tell
 * nothing the names stay what they were.  MF_E_UNSUPPORTED for another arrangement. */
MF_CHECKED mf_rc mf_special_names_get(const mf_tokenizer_files *files,
                                      mf_special_names *names, mf_err *err);

/* The entries of the vocabulary in tokenizer.json, added tokens included, one per line
 * in the order of their ids, appended to `out`.  MF_E_CORRUPT names an id that is
 * missing or given twice, or the entry that holds a line's end; MF_E_NOMEM. */
MF_CHECKED mf_rc mf_tokenizer_vocab_lines(const mf_tokenizer_files *files, mf_buf *out,
                                          mf_err *err);

#endif
