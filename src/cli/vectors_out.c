/* vectors_out.c - see vectors_out.h.
 *
 * A float32 is written with nine significant digits, which is enough to read the same
 * float back (2^24 < 10^8).  Numbers of vectors of length 1 are nearly all between 1e-4
 * and 1, where the digits are those of one integer; snprintf writes the others. */
#include "cli/vectors_out.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum {
    NUMBER_MAX = 20,  /* characters of one float, its comma included */
    NPY_HEADER = 128, /* bytes: a multiple of 64, and room for any count */
    COPY_PIECE = 1 << 16,
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "floats are written as they lie in memory");

/* --- forms -------------------------------------------------------------------------
 */

static size_t put_float(char *out, float value) {
    double size = fabs((double)value);
    if (!(size >= 1e-4 && size < 1.0)) {
        return (size_t)snprintf(out, NUMBER_MAX, "%.9g", (double)value);
    }
    size_t decimals = 9;
    double scale = 1e9;
    for (; size < 0.1 && size * scale < 1e8; scale *= 10.0) {
        decimals++;
    }
    unsigned long long digits = (unsigned long long)llround(size * scale);
    while (digits % 10 == 0) {
        digits /= 10;
        decimals--;
    }
    size_t n = 0;
    if (value < 0.0F) {
        out[n++] = '-';
    }
    out[n++] = '0';
    out[n++] = '.';
    for (size_t i = decimals; i > 0; i--, digits /= 10) {
        out[n + i - 1] = (char)('0' + digits % 10);
    }
    return n + decimals;
}

static size_t put_json_line(char *out, const float *row, size_t dim) {
    size_t n = 0;
    out[n++] = '[';
    for (size_t i = 0; i < dim; i++) {
        n += put_float(out + n, row[i]);
        out[n++] = ',';
    }
    out[n - 1] = ']';
    out[n++] = '\n';
    return n;
}

/* Version 1.0 of the format: magic, version, length of the text, the text, which is a
 * Python dictionary filled up with blanks. */
static void make_npy_header(size_t count, size_t dim, char header[NPY_HEADER]) {
    enum { START = 10, LENGTH = NPY_HEADER - START };
    char text[LENGTH + 1];
    int n = snprintf(text, sizeof text,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                     count, dim);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)LENGTH;
    header[9] = 0;
    memset(header + START, ' ', LENGTH);
    memcpy(header + START, text, (size_t)n);
    header[NPY_HEADER - 1] = '\n';
}

/* --- files -------------------------------------------------------------------------
 */

static bool fail(const vectors_out *out) {
    cli_error("%s: %s", out->name, strerror(errno));
    return false;
}

/* Makes the temporary file beside `place`, with the rights a new file would have. */
static bool open_beside(vectors_out *out) {
    size_t room = strlen(out->place) + sizeof ".XXXXXX";
    out->temporary = malloc(room);
    if (out->temporary == NULL) {
        return fail(out);
    }
    (void)snprintf(out->temporary, room, "%s.XXXXXX", out->place);
    int fd = mkostemp(out->temporary, O_CLOEXEC);
    if (fd < 0) {
        free(out->temporary);
        out->temporary = NULL;
        return fail(out);
    }
    mode_t mask = umask(0);
    (void)umask(mask);
    (void)fchmod(fd, 0666 & ~mask); /* else it stays the owner's alone */
    out->body = fdopen(fd, "w+b");
    return out->body != NULL || fail(out);
}

static char *copy_text(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

/* A device or a pipe cannot be replaced by a file: it is written as output is. */
static bool open_file(vectors_out *out, const char *path) {
    struct stat info;
    bool exists = stat(path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode)) {
        errno = EISDIR;
        if (S_ISDIR(info.st_mode) || freopen(path, "wb", stdout) == NULL) {
            return fail(out);
        }
        return true;
    }
    out->place = exists ? realpath(path, NULL) : copy_text(path); /* through a link */
    return out->place != NULL ? open_beside(out) : fail(out);
}

bool vectors_open(vectors_out *out, const char *path, bool npy, size_t dim) {
    bool is_stdout = path == NULL || strcmp(path, "-") == 0;
    *out = (vectors_out){
        .name = is_stdout ? "standard output" : path, .npy = npy, .dim = dim};
    out->line = malloc(dim * NUMBER_MAX + 3);
    if (out->line == NULL) {
        return fail(out);
    }
    if (!is_stdout && !open_file(out, path)) {
        return false;
    }
    if (out->body == NULL) {
        out->body = npy ? tmpfile() : stdout;
    }
    if (out->body == NULL) {
        return fail(out);
    }
    char header[NPY_HEADER] = {0};
    return !npy || fwrite(header, 1, sizeof header, out->body) == sizeof header ||
           fail(out);
}

bool vectors_add(vectors_out *out, const float *rows, size_t count) {
    out->count += count;
    if (out->npy) {
        return fwrite(rows, out->dim * sizeof *rows, count, out->body) == count ||
               fail(out);
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = put_json_line(out->line, rows + i * out->dim, out->dim);
        if (fwrite(out->line, 1, len, out->body) != len) {
            return fail(out);
        }
    }
    return fflush(out->body) == 0 || fail(out); /* a reader may be waiting for them */
}

/* --- the end -----------------------------------------------------------------------
 */

static bool copy_to_stdout(vectors_out *out) {
    char piece[COPY_PIECE];
    rewind(out->body);
    for (size_t n; (n = fread(piece, 1, sizeof piece, out->body)) > 0;) {
        if (fwrite(piece, 1, n, stdout) != n) {
            return fail(out);
        }
    }
    return (ferror(out->body) == 0 && fflush(stdout) == 0) || fail(out);
}

bool vectors_finish(vectors_out *out) {
    if (out->npy) {
        char header[NPY_HEADER];
        make_npy_header(out->count, out->dim, header);
        if (fseek(out->body, 0, SEEK_SET) != 0 ||
            fwrite(header, 1, sizeof header, out->body) != sizeof header) {
            return fail(out);
        }
    }
    if (fflush(out->body) != 0) {
        return fail(out);
    }
    if (out->place == NULL) {
        return !out->npy || copy_to_stdout(out);
    }
    if (rename(out->temporary, out->place) != 0) {
        return fail(out);
    }
    free(out->temporary);
    out->temporary = NULL; /* it has its name now */
    return true;
}

void vectors_close(vectors_out *out) {
    if (out->temporary != NULL) {
        (void)unlink(out->temporary);
    }
    if (out->body != NULL && out->body != stdout) {
        (void)fclose(out->body); /* all of it was flushed, or is thrown away */
    }
    free(out->temporary);
    free(out->place);
    free(out->line);
    *out = (vectors_out){.name = ""};
}
