/* attach.c - see attach.h.
 *
 * One curl handle is kept open.  curl_mu is its turnstile and the one lock of memfuse
 * that is held across I/O: a client has nothing else to do meanwhile. */
#include "lib/attach.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "os/lock_file.h"

enum {
    REPLY_MAX = 1 << 30,
    URL_MAX = 16384,
    CONNECT_TIMEOUT_MS = 2000,
    RETRY_MS = 50,
    ADDRESS_MAX = 256,
    SOCKET_PATH_MAX = 4096,
};

struct mf_attach {
    mf_mutex curl_mu;
    CURL *curl;                        /* guarded by curl_mu */
    struct curl_slist *headers;        /* constant after open */
    char socket_path[SOCKET_PATH_MAX]; /* constant after open; "" without one */
    char base_url[ADDRESS_MAX + 16];   /* constant after open */
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void) {
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* a failure shows in curl_easy_init */
}

/* Fills the address from the lock file's text.  *found stays false while the owner has
 * not written one; MF_E_NOTFOUND when nobody holds the lock. */
static mf_rc read_address(mf_attach *a, const char *lock_path, bool *found,
                          mf_err *err) {
    mf_buf text;
    mf_buf_init(&text, MF_LOCK_TEXT_MAX);
    mf_rc rc = mf_lock_file_read_text(lock_path, &text, err);
    if (rc == MF_OK) {
        mf_str rest = mf_buf_view(&text);
        while (rest.p != NULL && !*found) {
            mf_str value = mf_str_split(&rest, '\n');
            mf_str kind = mf_str_split(&value, ' ');
            if (mf_str_eq(kind, MF_STR("socket"))) {
                const char *slash = strrchr(lock_path, '/');
                int folder = slash != NULL ? (int)(slash - lock_path + 1) : 0;
                (void)snprintf(a->socket_path, sizeof a->socket_path, "%.*s%.*s",
                               folder, lock_path, MF_STR_ARGS(value));
                (void)snprintf(a->base_url, sizeof a->base_url, "http://localhost");
                *found = true;
            } else if (mf_str_eq(kind, MF_STR("http"))) {
                (void)snprintf(a->base_url, sizeof a->base_url, "http://%.*s",
                               MF_STR_ARGS(value));
                *found = true;
            }
        }
    }
    mf_buf_done(&text);
    return rc;
}

static size_t collect(char *bytes, size_t size, size_t count, void *ctx) {
    return mf_buf_add(ctx, bytes, size * count) == MF_OK ? size * count : 0;
}

/* One transfer; `reply` is clear before. */
static CURLcode transfer(mf_attach *a, const char *method, const char *path,
                         mf_str body, mf_buf *reply, long *status) {
    char url[URL_MAX];
    int n = snprintf(url, sizeof url, "%s%s", a->base_url, path);
    if (n < 0 || (size_t)n >= sizeof url) {
        return CURLE_URL_MALFORMAT;
    }
    curl_easy_reset(a->curl);
    CURLcode code = curl_easy_setopt(a->curl, CURLOPT_URL, url);
    if (a->socket_path[0] != '\0' && code == CURLE_OK) {
        code = curl_easy_setopt(a->curl, CURLOPT_UNIX_SOCKET_PATH, a->socket_path);
    }
    (void)curl_easy_setopt(a->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(a->curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(a->curl, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, a->headers);
    if (body.len > 0 || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        (void)curl_easy_setopt(a->curl, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)body.len);
        (void)curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS,
                               body.p != NULL ? body.p : "");
    }
    (void)curl_easy_setopt(a->curl, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, collect);
    (void)curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, reply);
    if (code == CURLE_OK) {
        code = curl_easy_perform(a->curl);
    }
    if (code == CURLE_OK) {
        code = curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, status);
    }
    return code;
}

static bool answers(mf_attach *a) {
    mf_buf reply;
    mf_buf_init(&reply, REPLY_MAX);
    long status = 0;
    mf_mutex_lock(&a->curl_mu);
    CURLcode code = transfer(a, "GET", "/api/v1/health", MF_STR_NONE, &reply, &status);
    mf_mutex_unlock(&a->curl_mu);
    mf_buf_done(&reply);
    return code == CURLE_OK && status == 200;
}

/* Asks until the server answers. */
static mf_rc wait_for_server(mf_attach *a, const char *lock_path, int64_t deadline_ns,
                             mf_err *err) {
    for (;;) {
        bool found = false;
        mf_rc rc = read_address(a, lock_path, &found, err);
        if (rc != MF_OK) {
            return mf_err_wrap(err, rc, "no memfuse serves this data directory");
        }
        if (found && answers(a)) {
            return MF_OK;
        }
        if (mf_now_ns() >= deadline_ns) {
            return MF_FAIL(
                err, MF_E_TIMEOUT,
                "the process that holds '%s' does not answer; is it starting, "
                "stopping or stuck?",
                lock_path);
        }
        struct timespec pause = {.tv_nsec = RETRY_MS * (long)MF_NS_PER_MS};
        (void)nanosleep(&pause, NULL); /* cut short by a signal: the loop asks again */
    }
}

mf_rc mf_attach_open(const char *lock_path, int64_t deadline_ns, mf_attach **out,
                     mf_err *err) {
    (void)pthread_once(&curl_once, curl_start);
    mf_attach *a = mf_alloc_zero(1, sizeof *a);
    if (a == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "out of memory");
    }
    mf_mutex_init(&a->curl_mu, MF_RANK_POOL);
    a->curl = curl_easy_init();
    a->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (a->curl == NULL || a->headers == NULL) {
        mf_attach_close(a);
        return MF_FAIL(err, MF_E_NOMEM, "out of memory for the client");
    }
    mf_rc rc = wait_for_server(a, lock_path, deadline_ns, err);
    if (rc != MF_OK) {
        mf_attach_close(a);
        return rc;
    }
    *out = a;
    return MF_OK;
}

void mf_attach_close(mf_attach *attach) {
    if (attach == NULL) {
        return;
    }
    if (attach->curl != NULL) {
        curl_easy_cleanup(attach->curl);
    }
    curl_slist_free_all(attach->headers);
    mf_mutex_done(&attach->curl_mu);
    mf_free(attach);
}

mf_rc mf_attach_call(mf_attach *attach, const char *method, const char *path_and_query,
                     mf_str body, int *status, char **reply, size_t *reply_len,
                     mf_err *err) {
    mf_buf bytes;
    mf_buf_init(&bytes, REPLY_MAX);
    long http_status = 0;
    mf_mutex_lock(&attach->curl_mu);
    CURLcode code =
        transfer(attach, method, path_and_query, body, &bytes, &http_status);
    mf_mutex_unlock(&attach->curl_mu);
    if (code != CURLE_OK) {
        mf_buf_done(&bytes);
        return MF_FAIL(err, MF_E_IO, "the running memfuse did not answer: %s",
                       curl_easy_strerror(code));
    }
    char *text = mf_strndup(bytes.len > 0 ? bytes.p : "", bytes.len);
    size_t len = bytes.len;
    mf_buf_done(&bytes);
    if (text == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "out of memory for the reply");
    }
    *reply = text;
    *reply_len = len;
    *status = (int)http_status;
    return MF_OK;
}
