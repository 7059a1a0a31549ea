/* lines.h - the lines of a file or pipe as texts, a batch at a time, in bounded memory.
 *
 * A line ends at a newline, which is not part of it, or at the end of the input.  What
 * was read stays where it is until the next batch is asked for. */
#ifndef MF_CLI_LINES_H
#define MF_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "memfuse/model.h"

typedef struct line_reader {
    int fd;
    const char *name; /* for messages */
    size_t total;     /* bytes of the whole input; 0: not known */
    size_t lines;     /* given out so far */
    size_t consumed;  /* bytes of those */
    char *bytes;      /* what is read ahead lies in [at, len) */
    size_t at, len;
    bool ended;
} line_reader;

/* "-" or NULL is standard input.  false after telling why. */
bool lines_open(line_reader *in, const char *path);
void lines_close(line_reader *in);

/* Waits for a line, then takes what else is there without waiting, at most `max` lines.
 * *count 0: the input has ended, or a signal came (cli_is_interrupted).  false after
 * telling of an error, by line when a line is to blame: not UTF-8, a NUL, too long.
 * Lines before a bad one come in a batch of their own. */
bool lines_next(line_reader *in, mf_model_text *texts, size_t max, size_t *count);

#endif
