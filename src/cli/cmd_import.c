/* cmd_import.c - `memfuse import`: many messages from JSON Lines, in batches.
 *
 * A line is {"user", "session", "role", "content"} with "agent", "created_at",
 * "metadata" and "round" optional.  Each batch is stored whole or not at all; after a
 * failure the lines of the batches before it stay, and the message says how many those
 * are. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

enum { BATCH_LINES = 1000, BATCH_BYTES = 4 << 20 };

typedef struct importer {
    cli_common *common;
    mf_engine *engine;
    const char *name; /* of the file, for messages */
    char *batch;      /* lines not yet sent */
    size_t batch_len, batch_room, batch_lines;
    size_t first_line; /* number of the batch's first line, from 1 */
    size_t lines_done, bytes_done, bytes_total;
    size_t imported;
} importer;

/* Tells a refusal as FILE:N.  The server counts lines within the batch and puts the
 * number in front of its message: "line 3: role is required". */
static void tell_line(const importer *im, yyjson_val *root) {
    const char *message = cli_text(root, "message");
    size_t line = 1;
    int prefix = 0;
    if (sscanf(message, "line %zu: %n", &line, &prefix) == 1 && prefix > 0 &&
        line > 0) {
        cli_error("%s:%zu: %s (%zu messages before this batch were stored)", im->name,
                  im->first_line + line - 1, message + prefix, im->imported);
    } else {
        cli_error("%s: %s (%zu messages before this batch were stored)", im->name,
                  message, im->imported);
    }
}

static bool send_batch(importer *im) {
    if (im->batch_lines == 0) {
        return true;
    }
    char error[MF_ENGINE_ERROR_TEXT];
    int status = 0;
    char *reply = NULL;
    size_t len = 0;
    if (mf_engine_call(im->engine, "POST", "/api/v1/import", im->batch, im->batch_len,
                       &status, &reply, &len, error) != 0) {
        cli_error("%s: %s (%zu messages were stored)", im->name, error, im->imported);
        return false;
    }
    yyjson_doc *doc = yyjson_read(reply, len, 0);
    mf_engine_free(reply);
    yyjson_val *root = yyjson_doc_get_root(doc);
    bool ok = status < 400;
    if (ok) {
        im->imported +=
            (size_t)yyjson_get_uint(yyjson_obj_get(cli_data(doc), "imported"));
        im->lines_done += im->batch_lines;
        im->first_line += im->batch_lines;
        im->batch_len = im->batch_lines = 0;
    } else {
        tell_line(im, root);
    }
    yyjson_doc_free(doc);
    return ok;
}

static bool add_line(importer *im, const char *line, size_t len) {
    if (im->batch_lines == BATCH_LINES ||
        (im->batch_lines > 0 && im->batch_len + len > BATCH_BYTES)) {
        if (!send_batch(im)) {
            return false;
        }
        cli_progress(im->common, "importing",
                     im->bytes_total > 0 ? im->bytes_done : im->imported,
                     im->bytes_total);
    }
    if (im->batch_len + len > im->batch_room) {
        size_t room = im->batch_len + len + BATCH_BYTES;
        char *bigger = realloc(im->batch, room);
        if (bigger == NULL) {
            cli_error("%s: out of memory for a line of %zu bytes", im->name, len);
            return false;
        }
        im->batch = bigger;
        im->batch_room = room;
    }
    memcpy(im->batch + im->batch_len, line, len);
    im->batch_len += len;
    im->batch_lines++;
    return true;
}

static bool import_file(importer *im, FILE *in) {
    char *line = NULL;
    size_t room = 0;
    bool ok = true;
    for (ssize_t n; ok && (n = getline(&line, &room, in)) > 0;) {
        im->bytes_done += (size_t)n;
        ok = add_line(im, line, (size_t)n);
    }
    free(line);
    if (ok && ferror(in)) {
        cli_error("%s: %s", im->name, strerror(errno));
        ok = false;
    }
    return ok && send_batch(im);
}

int cmd_import(cli_common *common, int argc, char **argv) {
    const cli_option none[] = {{.name = NULL}};
    int exit_code = CLI_OK;
    int operands =
        cli_parse(cli_find_command("import"), none, common, argc, argv, &exit_code);
    if (operands < 0) {
        return exit_code;
    }
    if (argc - operands != 1) {
        cli_error("usage: memfuse import FILE (or - for standard input)");
        return CLI_USAGE;
    }
    importer im = {.common = common, .name = argv[operands], .first_line = 1};
    bool is_stdin = strcmp(im.name, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(im.name, "rb");
    if (in == NULL) {
        cli_error("%s: %s", im.name, strerror(errno));
        return CLI_FAILED;
    }
    struct stat info;
    if (!is_stdin && fstat(fileno(in), &info) == 0) {
        im.bytes_total = (size_t)info.st_size;
    }
    im.engine = cli_open(common, MF_ENGINE_AUTO);
    bool ok = im.engine != NULL && import_file(&im, in);
    if (ok) {
        cli_progress(common, "importing", im.bytes_total, im.bytes_total);
        cli_progress_end(common);
        (void)printf(common->json ? "{\"imported\":%zu}\n" : "%zu messages imported\n",
                     im.imported);
    }
    mf_engine_close(im.engine);
    free(im.batch);
    if (!is_stdin) {
        (void)fclose(in);
    }
    return ok ? CLI_OK : CLI_FAILED;
}
