/* download.h - private to lib/: files over HTTP, continued where they were cut.
 *
 * While a file is on its way it is "<path>.part"; beside it, "<path>.tag" says which
 * version of it that is, as the server names it (ETag, or what a model hub says of the
 * file behind its redirect).  A later call goes on from there when the server still has
 * that version, and starts again when not.
 *
 * One downloader is used by one thread at a time. */
#ifndef MF_LIB_DOWNLOAD_H
#define MF_LIB_DOWNLOAD_H

#include <stdint.h>

#include "lib/model_sums.h"
#include "memfuse/model.h"

typedef struct mf_downloader mf_downloader;

typedef struct mf_downloader_options {
    bool allow_plain;    /* plain HTTP too, for mirrors near by; else nothing but HTTPS,
                            through redirects as well */
    const char *ca_file; /* PEM certificates to trust, borrowed until close; NULL: the
                            system's */
} mf_downloader_options;

/* MF_E_NOMEM. */
MF_CHECKED mf_rc mf_downloader_open(const mf_downloader_options *options,
                                    mf_downloader **out, mf_err *err);
void mf_downloader_close(mf_downloader *down); /* NULL is fine */

typedef struct mf_download {
    const char *url;
    const char *path;                  /* of the file made, in a folder that is there */
    const char *what;                  /* told to `progress` */
    uint64_t bytes_max;                /* a larger file is refused */
    const mf_model_progress *progress; /* step NULL: silent */
} mf_download;

enum { MF_DOWNLOAD_COMMIT_MAX = 72 };

typedef struct mf_download_result {
    uint64_t bytes;
    char sha256[MF_SHA256_TEXT];
    char commit[MF_DOWNLOAD_COMMIT_MAX]; /* the hub's word for the state of the whole
                                            model; "" when it gives none */
} mf_download_result;

/* Fetches one file, synced before it gets its name.  A broken connection is taken up
 * again a few times.  MF_E_NOTFOUND (the server has no such file), MF_E_DENIED, MF_E_IO
 * (out of reach, or the disk), MF_E_LIMIT, MF_E_CORRUPT (size or SHA-256 differ from
 * what the hub says), MF_E_STOPPING (progress said so; what is there stays). */
MF_CHECKED mf_rc mf_downloader_get(mf_downloader *down, const mf_download *file,
                                   mf_download_result *out, mf_err *err);

#endif
