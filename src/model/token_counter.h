/* token_counter.h - how many tokens a text has for a chat model.
 *
 * Exact byte-pair counts of o200k_base (the encoding of gpt-4o and gpt-4o-mini) when
 * its rank file is there; otherwise an estimate, 1.3 x (words + CJK characters), which
 * mf_token_counter_is_exact() tells and `memfuse status` shows.  encoding.h has the
 * ids themselves, and says what special tokens and bytes that are not UTF-8 count.
 *
 * Immutable after open; any number of threads may share it. */
#ifndef MF_MODEL_TOKEN_COUNTER_H
#define MF_MODEL_TOKEN_COUNTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct mf_token_counter mf_token_counter;

/* `ranks_path` names a tiktoken rank file ("base64 rank" lines), NULL or a missing file
 * gives the estimating counter.  MF_E_CORRUPT for a damaged file, naming the line;
 * MF_E_IO, MF_E_NOMEM. */
MF_CHECKED mf_rc mf_token_counter_open(const char *ranks_path, mf_token_counter **out,
                                       mf_err *err);
void mf_token_counter_close(mf_token_counter *counter); /* NULL is fine */
bool mf_token_counter_is_exact(const mf_token_counter *counter);

/* 0 for empty text only, unless the estimate finds blanks alone. */
size_t mf_token_count(const mf_token_counter *counter, mf_str text);

#endif
