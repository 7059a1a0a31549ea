/* download.c - see download.h.
 *
 * A model hub answers for a large file with a redirect, whose headers tell size and
 * SHA-256 of the file behind it (X-Linked-Size, X-Linked-Etag).  So headers are
 * gathered over the whole chain of answers, and the last one gives the body.
 *
 * Whether a body is the file or the rest of it shows at its first byte: 206 with the
 * right start and the same version is appended, 200 replaces what is there. */
#include "lib/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "os/file.h"

enum {
    TAG_MAX = 256,
    CONNECT_TIMEOUT_MS = 15000,
    SLOW_BYTES_PER_S = 100, /* slower than this ... */
    SLOW_S = 30,            /* ... for so long is a broken connection */
    REDIRECTS_MAX = 8,
    ATTEMPTS_MAX = 100,
    IDLE_ATTEMPTS_MAX = 4, /* in a row that bring no byte */
    PAUSE_MS = 250,        /* before the second of those, then twice as long each */
    SUM_LEN = MF_SHA256_TEXT - 1,
};

struct mf_downloader {
    CURL *curl;
    const char *schemes;
    const char *ca_file; /* NULL: the system's */
    char reason[CURL_ERROR_SIZE];
};

/* One attempt, and what its headers say. */
typedef struct transfer {
    CURL *curl;
    const mf_download *file;
    int fd;               /* of the part */
    uint64_t had;         /* bytes of it before this attempt, asked to be left out */
    uint64_t bytes;       /* of it now */
    const char *tag_path; /* where the version is noted */
    const char *had_tag;  /* version of the bytes before; "" when not known */
    /* from headers */
    long status;
    uint64_t range_start, range_total;
    bool has_total;
    char etag[TAG_MAX];   /* of the last answer */
    char linked[TAG_MAX]; /* X-Linked-Etag */
    uint64_t linked_bytes;
    bool has_linked_bytes;
    char commit[MF_DOWNLOAD_COMMIT_MAX];
    /* course */
    bool begun;    /* the first byte of the body was looked at */
    bool stale;    /* what is there is of another version */
    bool too_long; /* more than bytes_max */
    bool stopped;  /* progress said so */
    int disk;      /* errno of a failed write */
} transfer;

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void) {
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* a failure shows in curl_easy_init */
}

mf_rc mf_downloader_open(const mf_downloader_options *options, mf_downloader **out,
                         mf_err *err) {
    (void)pthread_once(&curl_once, curl_start);
    mf_downloader *down = mf_alloc_zero(1, sizeof *down);
    if (down != NULL) {
        down->curl = curl_easy_init();
        down->schemes = options->allow_plain ? "http,https" : "https";
        down->ca_file = options->ca_file;
    }
    if (down == NULL || down->curl == NULL) {
        mf_downloader_close(down);
        return MF_FAIL(err, MF_E_NOMEM, "out of memory for a download");
    }
    *out = down;
    return MF_OK;
}

void mf_downloader_close(mf_downloader *down) {
    if (down == NULL) {
        return;
    }
    if (down->curl != NULL) {
        curl_easy_cleanup(down->curl);
    }
    mf_free(down);
}

/* --- headers -----------------------------------------------------------------------
 */

/* Copies an entity tag without its quotes; a weak one counts for nothing. */
static void keep_tag(char out[TAG_MAX], mf_str value) {
    out[0] = '\0';
    if (mf_str_starts(value, MF_STR("W/")) || value.len < 3 || value.len >= TAG_MAX) {
        return;
    }
    if (value.p[0] == '"' && value.p[value.len - 1] == '"') {
        value = mf_str_sub(value, 1, value.len - 2);
    }
    (void)snprintf(out, TAG_MAX, "%.*s", MF_STR_ARGS(value));
}

static bool to_bytes(mf_str text, uint64_t *out) {
    int64_t value = 0;
    if (!mf_str_to_i64(text, &value) || value < 0) {
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

/* "bytes 100-199/200", or "bytes *" "/200" where no byte is left. */
static void keep_range(transfer *t, mf_str value) {
    if (!mf_str_starts(value, MF_STR("bytes "))) {
        return;
    }
    mf_str total = mf_str_sub(value, 6, value.len);
    mf_str range = mf_str_split(&total, '/');
    t->has_total = to_bytes(total, &t->range_total);
    if (!to_bytes(mf_str_split(&range, '-'), &t->range_start)) {
        t->range_start = UINT64_MAX;
    }
}

static bool is_name(mf_str name, const char *wanted) {
    return mf_str_eq_ignore_case(name, mf_str_from(wanted));
}

static size_t take_header(char *bytes, size_t size, size_t count, void *ctx) {
    transfer *t = ctx;
    mf_str value = {bytes, size * count};
    if (mf_str_starts(value, MF_STR("HTTP/"))) { /* one more answer in the chain */
        t->etag[0] = '\0';
        t->has_total = false;
        t->range_start = UINT64_MAX;
        return size * count;
    }
    mf_str name = mf_str_split(&value, ':');
    value = mf_str_trim(value);
    if (is_name(name, "ETag")) {
        keep_tag(t->etag, value);
    } else if (is_name(name, "X-Linked-Etag")) {
        keep_tag(t->linked, value);
    } else if (is_name(name, "X-Linked-Size")) {
        t->has_linked_bytes = to_bytes(value, &t->linked_bytes);
    } else if (is_name(name, "Content-Range")) {
        keep_range(t, value);
    } else if (is_name(name, "X-Repo-Commit") && value.len < sizeof t->commit) {
        (void)snprintf(t->commit, sizeof t->commit, "%.*s", MF_STR_ARGS(value));
    }
    return size * count;
}

/* What the server calls this version of the file. */
static const char *version_of(const transfer *t) {
    return t->linked[0] != '\0' ? t->linked : t->etag;
}

static bool is_same_version(const transfer *t) {
    return t->had_tag[0] != '\0' && strcmp(t->had_tag, version_of(t)) == 0;
}

/* --- body --------------------------------------------------------------------------
 */

/* Starts the file anew and notes its version. */
static bool start_over(transfer *t) {
    const char *version = version_of(t);
    t->bytes = 0;
    (void)unlink(t->tag_path); /* one that stays is written over or met again */
    if (ftruncate(t->fd, 0) != 0 || lseek(t->fd, 0, SEEK_SET) != 0 ||
        (version[0] != '\0' &&
         mf_file_write_atomic(t->tag_path, mf_str_from(version), NULL) != MF_OK)) {
        t->disk = errno != 0 ? errno : EIO;
        return false;
    }
    return true;
}

static bool begin_body(transfer *t) {
    t->begun = true;
    if (t->status == 200) {
        return start_over(t);
    }
    t->stale = t->range_start != t->had || !is_same_version(t);
    return !t->stale;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *ctx) {
    transfer *t = ctx;
    size_t len = size * count;
    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->status);
    if (t->status != 200 && t->status != 206) {
        return len; /* the page that explains an error */
    }
    if (!t->begun && !begin_body(t)) {
        return 0;
    }
    t->too_long = len > t->file->bytes_max - t->bytes;
    if (t->too_long) {
        return 0;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = write(t->fd, bytes + done, len - done);
        if (n < 0 && errno != EINTR) {
            t->disk = errno;
            return 0;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    t->bytes += len;
    return len;
}

static int tell(void *ctx, curl_off_t down_total, curl_off_t down_now,
                curl_off_t up_total, curl_off_t up_now) {
    transfer *t = ctx;
    (void)down_now;
    (void)up_total;
    (void)up_now;
    const mf_model_progress *progress = t->file->progress;
    if (progress->step == NULL) {
        return 0;
    }
    uint64_t total = t->has_linked_bytes ? t->linked_bytes : 0;
    if (total == 0 && t->begun && down_total > 0) {
        total = (t->status == 206 ? t->had : 0) + (uint64_t)down_total;
    }
    t->stopped = progress->step(progress->ctx, t->file->what, t->bytes, total) != 0;
    return t->stopped;
}

/* --- one attempt -------------------------------------------------------------------
 */

static CURLcode set_up(mf_downloader *down, transfer *t, char range[32]) {
    CURL *curl = down->curl;
    curl_easy_reset(curl);
    CURLcode code = curl_easy_setopt(curl, CURLOPT_URL, t->file->url);
    if (code == CURLE_OK) {
        code = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, down->schemes);
    }
    if (code == CURLE_OK) {
        code = curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, down->schemes);
    }
    if (down->ca_file != NULL && code == CURLE_OK) {
        code = curl_easy_setopt(curl, CURLOPT_CAINFO, down->ca_file);
    }
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "memfuse/" MF_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_S);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)SLOW_S);
    (void)curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE,
                           (curl_off_t)t->file->bytes_max);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, down->reason);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, tell);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (t->had > 0 && code == CURLE_OK) {
        (void)snprintf(range, 32, "%llu-", (unsigned long long)t->had);
        code = curl_easy_setopt(curl, CURLOPT_RANGE, range);
    }
    return code;
}

static CURLcode attempt(mf_downloader *down, transfer *t) {
    char range[32];
    down->reason[0] = '\0';
    CURLcode code = set_up(down, t, range);
    if (code == CURLE_OK) {
        code = curl_easy_perform(down->curl);
    }
    (void)curl_easy_getinfo(down->curl, CURLINFO_RESPONSE_CODE, &t->status);
    if (code == CURLE_OK && t->status == 200 && !t->begun && !begin_body(t)) {
        code = CURLE_WRITE_ERROR; /* an empty file has no body to begin with */
    }
    return code;
}

/* --- judging it --------------------------------------------------------------------
 */

typedef enum verdict { DONE, AGAIN, FRESH, FAILED } verdict;

static verdict judge_status(const transfer *t, mf_err *err, mf_rc *rc) {
    const char *url = t->file->url;
    switch (t->status) {
    case 200:
    case 206:
        return DONE;
    case 416: { /* nothing is left to send: all of it is here, or something else is */
        bool whole =
            is_same_version(t) && ((t->has_total && t->range_total == t->had) ||
                                   (t->has_linked_bytes && t->linked_bytes == t->had));
        return whole ? DONE : FRESH;
    }
    case 404:
    case 410:
        *rc = MF_FAIL(err, MF_E_NOTFOUND, "there is no %s", url);
        return FAILED;
    case 401:
    case 403:
        *rc = MF_FAIL(err, MF_E_DENIED, "%s: the server asks for permission", url);
        return FAILED;
    default:
        *rc = MF_FAIL(err, MF_E_IO, "%s: the server answers with status %ld", url,
                      t->status);
        return t->status == 429 || t->status >= 500 ? AGAIN : FAILED;
    }
}

static bool is_broken_line(CURLcode code) {
    return code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR ||
           code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING ||
           code == CURLE_OPERATION_TIMEDOUT || code == CURLE_HTTP2 ||
           code == CURLE_HTTP2_STREAM;
}

static verdict judge(const mf_downloader *down, const transfer *t, CURLcode code,
                     mf_err *err, mf_rc *rc) {
    const char *url = t->file->url;
    if (t->stale) {
        return FRESH;
    }
    if (t->stopped) {
        *rc = MF_FAIL(err, MF_E_STOPPING, "given up after %llu bytes of %s",
                      (unsigned long long)t->bytes, t->file->what);
        return FAILED;
    }
    if (t->disk != 0) {
        char reason[128];
        *rc = MF_FAIL_SYS(err, mf_rc_from_errno(t->disk), t->disk,
                          "cannot write '%s': %s", t->file->path,
                          strerror_r(t->disk, reason, sizeof reason));
        return FAILED;
    }
    if (t->too_long || code == CURLE_FILESIZE_EXCEEDED) {
        *rc = MF_FAIL(err, MF_E_LIMIT, "%s is larger than %llu bytes", url,
                      (unsigned long long)t->file->bytes_max);
        return FAILED;
    }
    if (code == CURLE_OK) {
        return judge_status(t, err, rc);
    }
    *rc =
        MF_FAIL_SYS(err, MF_E_IO, (int)code, "cannot fetch %s: %s", url,
                    down->reason[0] != '\0' ? down->reason : curl_easy_strerror(code));
    return is_broken_line(code) ? AGAIN : FAILED;
}

/* --- a file ------------------------------------------------------------------------
 */

typedef struct part {
    char path[MF_PATH_MAX];
    char tag_path[MF_PATH_MAX];
    char tag[TAG_MAX];
    int fd;
    uint64_t bytes;
} part;

/* Looks at what is there: a part with its tag, else nothing of use. */
static mf_rc look(part *p, uint64_t bytes_max, mf_err *err) {
    struct stat info;
    mf_buf tag;
    mf_buf_init(&tag, TAG_MAX - 1);
    p->tag[0] = '\0';
    if (mf_file_exists(p->tag_path) && mf_file_read(p->tag_path, &tag, NULL) == MF_OK) {
        (void)snprintf(p->tag, sizeof p->tag, "%.*s", MF_STR_ARGS(mf_buf_view(&tag)));
    }
    mf_buf_done(&tag);
    if (fstat(p->fd, &info) != 0) {
        return MF_FAIL_SYS(err, MF_E_IO, errno, "cannot look at '%s'", p->path);
    }
    bool known = p->tag[0] != '\0' && (uint64_t)info.st_size <= bytes_max;
    p->bytes = known ? (uint64_t)info.st_size : 0;
    if (lseek(p->fd, (off_t)p->bytes, SEEK_SET) < 0) {
        return MF_FAIL_SYS(err, MF_E_IO, errno, "cannot go on with '%s'", p->path);
    }
    return MF_OK;
}

static void forget(const part *p) {
    (void)unlink(p->tag_path); /* without its tag a part counts for nothing */
}

static void pause_before(size_t idle_attempts) {
    int64_t ms = idle_attempts > 1 ? PAUSE_MS << (idle_attempts - 2) : 0;
    struct timespec time = {.tv_sec = ms / 1000,
                            .tv_nsec = ms % 1000 * (long)MF_NS_PER_MS};
    (void)nanosleep(&time, NULL); /* a shorter pause does no harm */
}

/* Attempts until the part is the whole file; fills `last` with the last one. */
static mf_rc fetch(mf_downloader *down, const mf_download *file, part *p,
                   transfer *last, mf_err *err) {
    size_t idle = 0;
    mf_rc rc = MF_OK;
    for (size_t i = 0; i < ATTEMPTS_MAX && idle < IDLE_ATTEMPTS_MAX; i++) {
        pause_before(idle);
        MF_TRY(look(p, file->bytes_max, err));
        *last = (transfer){.curl = down->curl,
                           .file = file,
                           .fd = p->fd,
                           .had = p->bytes,
                           .bytes = p->bytes,
                           .tag_path = p->tag_path,
                           .had_tag = p->tag};
        CURLcode code = attempt(down, last);
        verdict v = judge(down, last, code, err, &rc);
        if (v == DONE) {
            return MF_OK;
        }
        if (v == FAILED) {
            return rc;
        }
        if (v == FRESH) {
            forget(p);
            rc = MF_FAIL(err, MF_E_IO, "%s keeps changing", file->url);
        }
        bool moved = last->begun && last->bytes > last->had;
        idle = moved ? 0 : idle + 1;
    }
    return rc;
}

/* Compares the whole part with what the hub says of it. */
static mf_rc check_part(const part *p, const transfer *last, mf_download_result *out,
                        mf_err *err) {
    out->bytes = last->bytes;
    (void)snprintf(out->commit, sizeof out->commit, "%s", last->commit);
    MF_TRY(mf_sha256_file(p->path, out->sha256, err));
    if (last->has_linked_bytes && last->linked_bytes != last->bytes) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s has %llu bytes, the hub says %llu",
                       last->file->url, (unsigned long long)last->bytes,
                       (unsigned long long)last->linked_bytes);
    }
    if (strlen(last->linked) == SUM_LEN && strcmp(last->linked, out->sha256) != 0) {
        return MF_FAIL(err, MF_E_CORRUPT, "%s has the SHA-256 %s, the hub says %s",
                       last->file->url, out->sha256, last->linked);
    }
    return MF_OK;
}

static mf_rc get_part(mf_downloader *down, const mf_download *file, part *p,
                      mf_download_result *out, mf_err *err) {
    transfer last;
    MF_TRY(fetch(down, file, p, &last, err));
    if (fsync(p->fd) != 0) {
        return MF_FAIL_SYS(err, mf_rc_from_errno(errno), errno, "cannot sync '%s'",
                           p->path);
    }
    mf_rc rc = check_part(p, &last, out, err);
    if (rc != MF_OK) {
        forget(p);
        return rc;
    }
    if (rename(p->path, file->path) != 0) {
        return MF_FAIL_SYS(err, mf_rc_from_errno(errno), errno, "cannot make '%s'",
                           file->path);
    }
    return MF_OK;
}

mf_rc mf_downloader_get(mf_downloader *down, const mf_download *file,
                        mf_download_result *out, mf_err *err) {
    part p = {.fd = -1};
    int n = snprintf(p.path, sizeof p.path, "%s.part", file->path);
    int m = snprintf(p.tag_path, sizeof p.tag_path, "%s.tag", file->path);
    if (n < 0 || (size_t)n >= sizeof p.path || m < 0 ||
        (size_t)m >= sizeof p.tag_path) {
        return MF_FAIL(err, MF_E_LIMIT, "a path is longer than %d bytes", MF_PATH_MAX);
    }
    (void)rename(file->path, p.path); /* whole already: only to be confirmed */
    p.fd = open(p.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (p.fd < 0) {
        return MF_FAIL_SYS(err, mf_rc_from_errno(errno), errno, "cannot make '%s'",
                           p.path);
    }
    mf_rc rc = get_part(down, file, &p, out, err);
    if (close(p.fd) != 0 && rc == MF_OK) {
        rc = MF_FAIL_SYS(err, MF_E_IO, errno, "cannot write '%s'", file->path);
    }
    if (rc == MF_E_NOTFOUND) {
        (void)unlink(p.path); /* nothing came into it */
        forget(&p);
    }
    return rc;
}
