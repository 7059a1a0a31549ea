/* lines.c - see lines.h. */
#include "cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

/* Room for the longest line and for enough short ones to keep every core at work. */
enum { ROOM = 4 * MF_MODEL_TEXT_BYTES_MAX };

bool lines_open(line_reader *in, const char *path) {
    bool is_stdin = path == NULL || strcmp(path, "-") == 0;
    *in = (line_reader){.fd = STDIN_FILENO, .name = is_stdin ? "stdin" : path};
    if (!is_stdin) {
        in->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (in->fd < 0) {
            cli_error("%s: %s", path, strerror(errno));
            return false;
        }
    }
    struct stat info;
    if (fstat(in->fd, &info) == 0 && S_ISREG(info.st_mode)) {
        in->total = (size_t)info.st_size;
    }
    in->bytes = malloc(ROOM);
    if (in->bytes == NULL) {
        cli_error("%s: out of memory", in->name);
        lines_close(in);
        return false;
    }
    return true;
}

void lines_close(line_reader *in) {
    if (in->fd > STDIN_FILENO) {
        (void)close(in->fd); /* it was only read */
    }
    free(in->bytes);
    *in = (line_reader){.fd = -1};
}

/* Whether a read would return at once. */
static bool is_ready(int fd) {
    struct pollfd input = {.fd = fd, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

/* Reads once behind what is there.  false after telling why. */
static bool read_more(line_reader *in) {
    ssize_t n = read(in->fd, in->bytes + in->len, ROOM - in->len);
    if (n < 0 && errno != EINTR) {
        cli_error("%s: %s", in->name, strerror(errno));
        return false;
    }
    in->ended = n == 0;
    in->len += n > 0 ? (size_t)n : 0;
    return true;
}

/* The line at in->at, if it is whole. */
static bool find_line(const line_reader *in, size_t scanned, mf_model_text *line,
                      size_t *taken) {
    const char *start = in->bytes + in->at;
    size_t rest = in->len - in->at;
    const char *end =
        rest > scanned ? memchr(start + scanned, '\n', rest - scanned) : NULL;
    if (end == NULL && (!in->ended || rest == 0)) {
        return false;
    }
    size_t len = end != NULL ? (size_t)(end - start) : rest;
    *line = (mf_model_text){start, len};
    *taken = len + (end != NULL);
    return true;
}

static bool tell_bad(const line_reader *in, const char *why) {
    cli_error("%s:%zu: %s", in->name, in->lines + 1, why);
    return false;
}

bool lines_next(line_reader *in, mf_model_text *texts, size_t max, size_t *count) {
    char error[MF_ENGINE_ERROR_TEXT];
    size_t scanned = 0; /* bytes of an unfinished line that hold no newline */
    *count = 0;
    memmove(in->bytes, in->bytes + in->at, in->len - in->at);
    in->len -= in->at;
    in->at = 0;
    while (*count < max && !cli_is_interrupted()) {
        size_t taken = 0;
        if (find_line(in, scanned, &texts[*count], &taken)) {
            if (mf_model_check_text(&texts[*count], error) != 0) {
                return *count > 0 || tell_bad(in, error);
            }
            (*count)++;
            in->lines++;
            in->at += taken;
            in->consumed += taken;
            scanned = 0;
            continue;
        }
        scanned = in->len - in->at;
        if (scanned > MF_MODEL_TEXT_BYTES_MAX) {
            return *count > 0 || tell_bad(in, "the line is longer than 1048576 bytes");
        }
        if (in->ended || (*count > 0 && (in->len == ROOM || !is_ready(in->fd)))) {
            return true;
        }
        if (!read_more(in)) {
            return false;
        }
    }
    return true;
}
