/* bench_texts.h - private to lib/: the texts that benchmarks of the encoder run on.
 *
 * Messages are sentences as people write them in chats, put together by a seeded
 * generator: most are short, some long, 9 to 115 tokens in English word pieces.  The
 * varied texts are what else comes along in a memory: code, numbers, addresses, other
 * languages, odd spacing.  All are UTF-8 without a NUL, always the same, and borrowed
 * from static or from the caller's memory. */
#ifndef MF_LIB_BENCH_TEXTS_H
#define MF_LIB_BENCH_TEXTS_H

#include "base/err.h"
#include "base/str.h"

enum {
    MF_BENCH_MESSAGES = 256,
    MF_BENCH_MESSAGE_BYTES = 1024, /* of one message at most */
    MF_BENCH_VARIED_MAX = 96,
};

/* Makes the messages; `bytes` holds MF_BENCH_MESSAGES * MF_BENCH_MESSAGE_BYTES. */
void mf_bench_messages(mf_str texts[MF_BENCH_MESSAGES], char *bytes);

/* The varied texts: returns how many there are, at most MF_BENCH_VARIED_MAX. */
size_t mf_bench_varied(mf_str texts[MF_BENCH_VARIED_MAX]);

/* A question that is ten tokens in English word pieces. */
mf_str mf_bench_question(void);

#endif
