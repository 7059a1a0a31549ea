/* vectors_out.h - writes vectors as JSON Lines, an array per line, or as a NumPy file.
 *
 * A named file is written under a temporary name beside it and renamed when all of it
 * is there.  The header of a NumPy file holds the count, so what goes to standard
 * output in that form waits in a temporary file until the last vector is known. */
#ifndef MF_CLI_VECTORS_OUT_H
#define MF_CLI_VECTORS_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct vectors_out {
    const char *name; /* of the file, for messages */
    bool npy;
    size_t dim;
    size_t count;    /* vectors written */
    FILE *body;      /* what they are written to */
    char *place;     /* the file's path; NULL: standard output */
    char *temporary; /* the path of `body`; NULL: it has none */
    char *line;      /* room for a line of JSON */
} vectors_out;

/* `path` NULL or "-" is standard output.  false after telling why. */
bool vectors_open(vectors_out *out, const char *path, bool npy, size_t dim);
/* `count` rows of `dim` floats.  false after telling why. */
bool vectors_add(vectors_out *out, const float *rows, size_t count);
/* Puts the file in place.  false after telling why. */
bool vectors_finish(vectors_out *out);
/* Lets go of everything; what was not finished is removed.  Fine after a failed open.
 */
void vectors_close(vectors_out *out);

#endif
