/* llm.c - chat completions over libcurl: one call, its tries, and what is remembered.
 *
 *   call --known?--> answer cache
 *     |--breaker open?--> MF_E_BUSY
 *     `--try--> connection of the pool --> server
 *          `-- passing failure: wait as retry.def says, try again
 *
 * A connection (a curl handle) belongs to the call that took it; those given back are
 * kept for the next, up to IDLE_MAX, so that a busy client does not greet the server
 * each time.  pool_mu guards the list alone. */
#include "model/llm.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/retry.h"
#include "text/json.h"

enum {
    IDLE_MAX = 8,
    KEY_BYTES_MAX = MF_LLM_PROMPT_MAX + 1024,
    CONNECT_TIMEOUT_MS = 10000,
    FAILURES_MAX = 5,
    COOLDOWN_S = 30,
    CANCEL_LOOK_MS = 100, /* while it waits before another try */
    ENDPOINT_MAX = MF_LLM_URL_MAX + 32,
};

typedef struct kept_answer {
    atomic_size_t refs;
    size_t len;
    char text[];
} kept_answer;

typedef struct wire {
    struct wire *next;
    CURL *curl;
} wire;

struct mf_llm {
    /* constant after open */
    mf_llm_options options;
    char endpoint[ENDPOINT_MAX];
    char shown_url[MF_LLM_URL_MAX];
    char model[MF_LLM_MODEL_MAX];
    struct curl_slist *headers; /* with the key */
    mf_lru *answers;            /* NULL: none are kept */

    mf_breaker breaker;
    mf_histogram request_ns;
    atomic_ullong calls, cached, requests, retries, failed;

    mf_mutex pool_mu;
    wire *idle; /* guarded by pool_mu */
    size_t idle_count;

    mf_mutex wait_mu; /* for waits between tries; guards the generator */
    mf_cond wait_cond;
    mf_rng rng;
};

/* --- answers kept --- */

static void answer_release(void *value) {
    kept_answer *a = value;
    if (atomic_fetch_sub(&a->refs, 1) == 1) {
        mf_free(a);
    }
}

static void *answer_share(void *value) {
    kept_answer *a = value;
    atomic_fetch_add(&a->refs, 1);
    return a;
}

/* Two calls are equal when these bytes are: lengths first, so no text can pose as part
 * of another. */
static void key_write(const mf_llm_call *call, mf_buf *out) {
    mf_buf_init(out, KEY_BYTES_MAX);
    (void)mf_buf_printf(out, "%zu %zu ", call->tokens_max, call->system.len);
    (void)mf_buf_add_str(out, call->system);
    (void)mf_buf_add_str(out, call->user);
}

static bool recall(mf_llm *llm, const mf_buf *key, mf_arena *arena, mf_str *answer) {
    kept_answer *found = llm->answers != NULL && key->failed == MF_OK
                             ? mf_lru_get(llm->answers, mf_buf_view(key))
                             : NULL;
    if (found == NULL) {
        return false;
    }
    mf_str copy = mf_arena_str(arena, (mf_str){found->text, found->len});
    answer_release(found);
    if (copy.p != NULL) {
        *answer = copy;
        atomic_fetch_add(&llm->cached, 1);
    }
    return copy.p != NULL;
}

static void keep(mf_llm *llm, const mf_buf *key, mf_str answer) {
    if (llm->answers == NULL || key->failed != MF_OK) {
        return;
    }
    size_t bytes = sizeof(kept_answer) + answer.len;
    kept_answer *made = mf_alloc(bytes);
    if (made != NULL) {
        atomic_init(&made->refs, 1);
        made->len = answer.len;
        memcpy(made->text, answer.p, answer.len);
        mf_lru_put(llm->answers, mf_buf_view(key), made, bytes + key->len);
    }
}

/* --- open and close --- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void) {
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* a failure shows in curl_easy_init */
}

/* Puts the route of chats behind the path. */
static bool write_endpoint(mf_llm *llm, CURLU *url) {
    char *path = NULL;
    char *whole = NULL;
    char longer[ENDPOINT_MAX];
    bool ok = curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK;
    if (ok) {
        size_t len = strlen(path);
        (void)snprintf(longer, sizeof longer, "%s%schat/completions", path,
                       len > 0 && path[len - 1] == '/' ? "" : "/");
        ok = curl_url_set(url, CURLUPART_PATH, longer, 0) == CURLUE_OK &&
             curl_url_get(url, CURLUPART_URL, &whole, 0) == CURLUE_OK &&
             strlen(whole) < sizeof llm->endpoint;
    }
    if (ok) {
        (void)snprintf(llm->endpoint, sizeof llm->endpoint, "%s", whole);
        ok = curl_url_set(url, CURLUPART_PATH, path, 0) == CURLUE_OK;
    }
    curl_free(path);
    curl_free(whole);
    return ok;
}

/* What may be secret in an address is not shown. */
static bool write_shown(mf_llm *llm, CURLU *url) {
    static const CURLUPart secret[] = {CURLUPART_USER, CURLUPART_PASSWORD,
                                       CURLUPART_QUERY, CURLUPART_FRAGMENT};
    char *shown = NULL;
    for (size_t i = 0; i < sizeof secret / sizeof secret[0]; i++) {
        (void)curl_url_set(url, secret[i], NULL, 0); /* one that is not there is fine */
    }
    bool ok = curl_url_get(url, CURLUPART_URL, &shown, 0) == CURLUE_OK;
    if (ok) {
        (void)snprintf(llm->shown_url, sizeof llm->shown_url, "%s", shown);
    }
    curl_free(shown);
    return ok;
}

static mf_rc read_url(mf_llm *llm, const char *base_url, mf_err *err) {
    CURLU *url = curl_url();
    bool ok = url != NULL && strlen(base_url) < MF_LLM_URL_MAX &&
              (strncmp(base_url, "http://", 7) == 0 ||
               strncmp(base_url, "https://", 8) == 0) &&
              curl_url_set(url, CURLUPART_URL, base_url, 0) == CURLUE_OK &&
              write_endpoint(llm, url) && write_shown(llm, url);
    curl_url_cleanup(url);
    return ok ? MF_OK
              : MF_FAIL_FIELD(err, MF_E_INVAL, "llm.base_url",
                              "llm.base_url: an address such as "
                              "http://127.0.0.1:11434/v1 is needed");
}

static mf_rc add_header(mf_llm *llm, const char *line, mf_err *err) {
    struct curl_slist *longer = curl_slist_append(llm->headers, line);
    if (longer == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a header");
    }
    llm->headers = longer;
    return MF_OK;
}

static mf_rc add_headers(mf_llm *llm, const char *api_key, mf_err *err) {
    MF_TRY(add_header(llm, "Content-Type: application/json", err));
    MF_TRY(add_header(llm, "Expect:", err)); /* no pause before a long body */
    if (api_key == NULL || api_key[0] == '\0') {
        return MF_OK;
    }
    if (strlen(api_key) > MF_LLM_KEY_MAX || strpbrk(api_key, "\r\n") != NULL) {
        return MF_FAIL(err, MF_E_INVAL, "the key of the language model is no key");
    }
    char line[MF_LLM_KEY_MAX + 32];
    (void)snprintf(line, sizeof line, "Authorization: Bearer %s", api_key);
    mf_rc rc = add_header(llm, line, err);
    explicit_bzero(line, sizeof line);
    return rc;
}

static mf_rc open_parts(mf_llm *llm, const mf_llm_options *options, mf_err *err) {
    MF_TRY(read_url(llm, options->base_url, err));
    size_t model_len = strlen(options->model);
    if (model_len == 0 || model_len >= sizeof llm->model) {
        return MF_FAIL_FIELD(
            err, MF_E_INVAL, "llm.model",
            "llm.model: name the model to ask, as the server calls it");
    }
    memcpy(llm->model, options->model, model_len + 1);
    MF_TRY(add_headers(llm, options->api_key, err));
    if (options->cache_ttl_ms <= 0 || options->cache_count_max == 0) {
        return MF_OK;
    }
    mf_lru_options lru = {.name = "llm_answers",
                          .count_max = options->cache_count_max,
                          .bytes_max = options->cache_bytes_max,
                          .ttl_ms = options->cache_ttl_ms,
                          .release = answer_release,
                          .share = answer_share,
                          .manager = options->caches};
    return mf_lru_open(&lru, &llm->answers, err);
}

mf_rc mf_llm_open(const mf_llm_options *options, mf_llm **out, mf_err *err) {
    (void)pthread_once(&curl_once, curl_start);
    mf_llm *llm = mf_alloc_zero(1, sizeof *llm);
    if (llm == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a language model's client");
    }
    llm->options = *options;
    llm->options.base_url = NULL; /* the caller's, as are the next two */
    llm->options.model = NULL;
    llm->options.api_key = NULL;
    mf_breaker_options breaker = {.name = "llm",
                                  .failures_max = FAILURES_MAX,
                                  .cooldown_ns = (int64_t)COOLDOWN_S * MF_NS_PER_S};
    mf_breaker_init(&llm->breaker, &breaker);
    mf_mutex_init(&llm->pool_mu, MF_RANK_LEAF);
    mf_mutex_init(&llm->wait_mu, MF_RANK_LEAF);
    mf_cond_init(&llm->wait_cond);
    uint64_t seed;
    mf_random_bytes(&seed, sizeof seed);
    mf_rng_init(&llm->rng, seed);
    mf_rc rc = open_parts(llm, options, err);
    if (rc != MF_OK) {
        mf_llm_close(llm);
        return rc;
    }
    *out = llm;
    return MF_OK;
}

void mf_llm_close(mf_llm *llm) {
    if (llm == NULL) {
        return;
    }
    while (llm->idle != NULL) {
        wire *first = llm->idle;
        llm->idle = first->next;
        curl_easy_cleanup(first->curl);
        mf_free(first);
    }
    for (struct curl_slist *h = llm->headers; h != NULL; h = h->next) {
        explicit_bzero(h->data, strlen(h->data)); /* one of them is the key */
    }
    curl_slist_free_all(llm->headers);
    mf_lru_close(llm->answers);
    mf_cond_done(&llm->wait_cond);
    mf_mutex_done(&llm->wait_mu);
    mf_mutex_done(&llm->pool_mu);
    mf_breaker_done(&llm->breaker);
    mf_free(llm);
}

/* --- connections --- */

/* NULL when memory is short. */
static wire *take_wire(mf_llm *llm) {
    mf_mutex_lock(&llm->pool_mu);
    wire *l = llm->idle;
    if (l != NULL) {
        llm->idle = l->next;
        llm->idle_count--;
    }
    mf_mutex_unlock(&llm->pool_mu);
    if (l == NULL) {
        l = mf_alloc_zero(1, sizeof *l);
        if (l != NULL && (l->curl = curl_easy_init()) == NULL) {
            mf_free(l);
            l = NULL;
        }
    }
    return l;
}

static void give_wire(mf_llm *llm, wire *l) {
    mf_mutex_lock(&llm->pool_mu);
    if (llm->idle_count < IDLE_MAX) {
        l->next = llm->idle;
        llm->idle = l;
        llm->idle_count++;
        l = NULL;
    }
    mf_mutex_unlock(&llm->pool_mu);
    if (l != NULL) {
        curl_easy_cleanup(l->curl);
        mf_free(l);
    }
}

/* --- one request --- */

typedef struct request {
    mf_llm *llm;
    const mf_llm_call *call;
    mf_str body;
    mf_buf reply;
    long status;
} request;

static size_t take_reply(char *bytes, size_t size, size_t count, void *ctx) {
    request *r = ctx;
    return mf_buf_add(&r->reply, bytes, size * count) == MF_OK ? size * count : 0;
}

static bool called_off(const mf_llm_call *call) {
    return call->stop != NULL && atomic_load(call->stop);
}

static int watch(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    const request *r = ctx;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return called_off(r->call) ? 1 : 0;
}

/* Milliseconds this try may take; 0 when the deadline has passed. */
static int64_t time_left_ms(const mf_llm *llm, const mf_llm_call *call) {
    int64_t left_ms = call->deadline_ns == MF_NEVER
                          ? INT64_MAX
                          : (call->deadline_ns - mf_now_ns()) / MF_NS_PER_MS;
    int64_t most_ms = llm->options.timeout_ms;
    return left_ms < most_ms ? (left_ms > 0 ? left_ms : 0) : most_ms;
}

static CURLcode perform(request *r, CURL *curl, int64_t timeout_ms) {
    curl_easy_reset(curl); /* keeps its connections */
    CURLcode code = curl_easy_setopt(curl, CURLOPT_URL, r->llm->endpoint);
    if (code == CURLE_OK) {
        code = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    }
    if (code == CURLE_OK) {
        code = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, r->llm->headers);
    }
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "memfuse/" MF_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, r->body.p);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_reply);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, r);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, r);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (code == CURLE_OK) {
        code = curl_easy_perform(curl);
    }
    if (code == CURLE_OK) {
        code = curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &r->status);
    }
    return code;
}

/* Nothing the server says goes into a message: some repeat the key. */
static mf_rc judge_status(const request *r, bool *again, mf_err *err) {
    *again = r->status == 408 || r->status == 429 || r->status >= 500;
    if (r->status >= 200 && r->status < 300) {
        return MF_OK;
    }
    if (r->status == 401 || r->status == 403) {
        return MF_FAIL(err, MF_E_AUTH,
                       "the language model's server refuses the key (status %ld)",
                       r->status);
    }
    return MF_FAIL(err, r->status == 429 || r->status == 503 ? MF_E_BUSY : MF_E_IO,
                   "the language model's server answers with status %ld", r->status);
}

static mf_rc judge(const request *r, CURLcode code, bool *again, mf_err *err) {
    switch (code) {
    case CURLE_OK:
        return judge_status(r, again, err);
    case CURLE_ABORTED_BY_CALLBACK:
        *again = false;
        return MF_FAIL(err, MF_E_STOPPING,
                       "the call of the language model is given up");
    case CURLE_WRITE_ERROR:
        *again = false;
        return MF_FAIL(err, MF_E_FORMAT,
                       "the language model's server answers with more than %d bytes",
                       MF_LLM_ANSWER_MAX);
    case CURLE_OPERATION_TIMEDOUT:
        *again = true;
        return MF_FAIL(err, MF_E_TIMEOUT,
                       "the language model's server did not answer in time");
    default:
        *again = true;
        return MF_FAIL(err, MF_E_IO, "the language model's server: %s",
                       curl_easy_strerror(code));
    }
}

/* One try.  *again: it failed for a reason that may pass. */
static mf_rc try_once(request *r, bool *again, mf_err *err) {
    *again = false;
    int64_t timeout_ms = time_left_ms(r->llm, r->call);
    if (timeout_ms == 0) {
        return MF_FAIL(err, MF_E_TIMEOUT,
                       "the deadline passed before the language model answered");
    }
    wire *l = take_wire(r->llm);
    if (l == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a connection");
    }
    mf_buf_clear(&r->reply);
    int64_t start_ns = mf_now_ns();
    atomic_fetch_add(&r->llm->requests, 1);
    CURLcode code = perform(r, l->curl, timeout_ms);
    mf_histogram_record(&r->llm->request_ns, (uint64_t)(mf_now_ns() - start_ns));
    give_wire(r->llm, l);
    return judge(r, code, again, err);
}

/* Waits before the next try; false when there is no time for one. */
static bool wait_for_retry(mf_llm *llm, const mf_llm_call *call, unsigned failures) {
    mf_mutex_lock(&llm->wait_mu);
    int64_t delay_ns = mf_retry_delay_ns(MF_RETRY_LLM, failures, &llm->rng);
    int64_t until_ns = mf_now_ns() + delay_ns;
    bool worth = until_ns < call->deadline_ns;
    int64_t now_ns = mf_now_ns();
    while (worth && now_ns < until_ns) {
        worth = !called_off(call);
        int64_t look_ns = now_ns + (int64_t)CANCEL_LOOK_MS * MF_NS_PER_MS;
        if (worth) {
            (void)mf_cond_wait(&llm->wait_cond, &llm->wait_mu,
                               look_ns < until_ns ? look_ns : until_ns);
        }
        now_ns = mf_now_ns();
    }
    mf_mutex_unlock(&llm->wait_mu);
    return worth;
}

/* One try as the breaker sees it: only what may pass tells that the server is ill. */
static mf_rc try_guarded(request *r, bool *again, mf_err *err) {
    mf_breaker_ticket ticket;
    *again = false;
    if (!mf_breaker_allow(&r->llm->breaker, mf_now_ns(), &ticket)) {
        return MF_FAIL(err, MF_E_BUSY,
                       "the language model has failed several times and is left alone "
                       "for a while");
    }
    mf_rc rc = try_once(r, again, err);
    if (rc == MF_OK) {
        mf_breaker_success(&r->llm->breaker, ticket);
    } else if (*again) {
        mf_breaker_failure(&r->llm->breaker, ticket, mf_now_ns());
    } else {
        mf_breaker_abandon(&r->llm->breaker, ticket, mf_now_ns());
    }
    return rc;
}

static mf_rc try_all(request *r, mf_err *err) {
    for (unsigned failures = 0;;) {
        bool again;
        mf_rc rc = try_guarded(r, &again, err);
        if (rc == MF_OK || !again) {
            return rc;
        }
        failures++;
        if (!mf_retry_allowed(MF_RETRY_LLM, failures) ||
            !wait_for_retry(r->llm, r->call, failures)) {
            return rc;
        }
        atomic_fetch_add(&r->llm->retries, 1);
    }
}

/* --- a call --- */

static void add_message(yyjson_mut_doc *doc, yyjson_mut_val *list, const char *role,
                        mf_str text) {
    yyjson_mut_val *message = yyjson_mut_arr_add_obj(doc, list);
    (void)yyjson_mut_obj_add_str(doc, message, "role", role);
    (void)yyjson_mut_obj_add_strn(doc, message, "content", text.p, text.len);
}

static mf_rc write_body(const mf_llm *llm, const mf_llm_call *call, mf_arena *arena,
                        mf_str *out, mf_err *err) {
    yyjson_alc alc;
    mf_json_arena_alc(arena, &alc);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(&alc);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    (void)yyjson_mut_obj_add_str(doc, root, "model", llm->model);
    yyjson_mut_val *messages = yyjson_mut_obj_add_arr(doc, root, "messages");
    if (call->system.len > 0) {
        add_message(doc, messages, "system", call->system);
    }
    add_message(doc, messages, "user", call->user);
    (void)yyjson_mut_obj_add_int(doc, root, "temperature", 0);
    if (call->tokens_max > 0) {
        (void)yyjson_mut_obj_add_uint(doc, root, "max_tokens", call->tokens_max);
    }
    *out = doc != NULL ? mf_json_write(doc, arena) : MF_STR_NONE;
    return out->p != NULL ? MF_OK : MF_FAIL(err, MF_E_NOMEM, "no memory for a prompt");
}

static mf_rc read_answer(mf_str reply, mf_arena *arena, mf_str *out, mf_err *err) {
    yyjson_doc *doc = NULL;
    mf_err problem = {0};
    if (mf_json_parse(reply, arena, &doc, &problem) != MF_OK) {
        return MF_FAIL(err, problem.rc == MF_E_NOMEM ? MF_E_NOMEM : MF_E_FORMAT,
                       "the language model's server answers with something that is no "
                       "JSON");
    }
    yyjson_val *choices = yyjson_obj_get(yyjson_doc_get_root(doc), "choices");
    yyjson_val *message = yyjson_obj_get(yyjson_arr_get_first(choices), "message");
    yyjson_val *content = yyjson_obj_get(message, "content");
    if (!yyjson_is_str(content)) {
        return MF_FAIL(err, MF_E_FORMAT,
                       "the language model's answer lacks choices[0].message.content");
    }
    *out = mf_arena_str(
        arena, mf_str_trim((mf_str){yyjson_get_str(content), yyjson_get_len(content)}));
    return out->p != NULL ? MF_OK : MF_FAIL(err, MF_E_NOMEM, "no memory for an answer");
}

static mf_rc ask(mf_llm *llm, const mf_llm_call *call, mf_arena *arena, mf_str *answer,
                 mf_err *err) {
    request r = {.llm = llm, .call = call};
    MF_TRY(write_body(llm, call, arena, &r.body, err));
    mf_buf_init(&r.reply, MF_LLM_ANSWER_MAX);
    mf_rc rc = try_all(&r, err);
    if (rc == MF_OK) {
        rc = read_answer(mf_buf_view(&r.reply), arena, answer, err);
    }
    mf_buf_done(&r.reply);
    return rc;
}

mf_rc mf_llm_chat(mf_llm *llm, const mf_llm_call *call, mf_arena *arena, mf_str *answer,
                  mf_err *err) {
    if (call->user.len + call->system.len > MF_LLM_PROMPT_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "a prompt of %zu bytes, allowed are %d",
                       call->user.len + call->system.len, MF_LLM_PROMPT_MAX);
    }
    atomic_fetch_add(&llm->calls, 1);
    mf_buf key;
    key_write(call, &key);
    mf_rc rc = MF_OK;
    if (!recall(llm, &key, arena, answer)) {
        rc = ask(llm, call, arena, answer, err);
        if (rc == MF_OK) {
            keep(llm, &key, *answer);
        } else {
            atomic_fetch_add(&llm->failed, 1);
        }
    }
    mf_buf_done(&key);
    return rc;
}

void mf_llm_get_stats(mf_llm *llm, mf_llm_stats *out) {
    *out = (mf_llm_stats){.calls = atomic_load(&llm->calls),
                          .cached = atomic_load(&llm->cached),
                          .requests = atomic_load(&llm->requests),
                          .retries = atomic_load(&llm->retries),
                          .failed = atomic_load(&llm->failed)};
    memcpy(out->model, llm->model, sizeof out->model);
    memcpy(out->base_url, llm->shown_url, sizeof out->base_url);
    mf_histogram_get_summary(&llm->request_ns, &out->request_ns);
    mf_breaker_get_stats(&llm->breaker, mf_now_ns(), &out->breaker);
    if (llm->answers != NULL) {
        mf_lru_get_stats(llm->answers, &out->cache);
    }
}

void mf_llm_forget(mf_llm *llm) {
    if (llm->answers != NULL) {
        mf_lru_clear(llm->answers);
    }
}
