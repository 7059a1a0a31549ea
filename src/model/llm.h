/* llm.h - a language model behind an OpenAI-compatible HTTP API: a prompt in, a text
 * out.
 *
 * It is off unless `llm.provider` is set, and nothing may depend on it: whoever uses it
 * has something to do without.  A user of it gets it from the runtime
 * (service/runtime.h), which makes it on first use:
 *
 *     mf_llm *llm = mf_runtime_llm(runtime);      // NULL: off, go on without
 *     mf_llm_call call = {.system = MF_STR("Say in one sentence what this is about."),
 *                         .user = text,
 *                         .tokens_max = 80,
 *                         .deadline_ns = deadline_ns};
 *     mf_str answer;                               // in the arena
 *     if (llm != NULL && mf_llm_chat(llm, &call, arena, &answer, NULL) == MF_OK) ...
 *
 * The call waits for the network, seconds at times: it is for background work, never
 * for the writer thread and never under a lock.  The same call within the time to live
 * is answered from memory.  What fails for a passing reason (no connection, 429, 5xx)
 * is tried again as base/retry.def says; when it goes on failing a circuit breaker
 * answers MF_E_BUSY at once.  The key goes into the request's header and nowhere else:
 * no error, log line or statistic holds it, nor what the server says about it.
 *
 * Thread-safe; any number of calls run side by side, each on a connection of its own,
 * of which a few are kept open. */
#ifndef MF_MODEL_LLM_H
#define MF_MODEL_LLM_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/breaker.h"
#include "base/cache_manager.h"
#include "base/histogram.h"
#include "base/lru.h"

typedef struct mf_llm mf_llm;

enum {
    MF_LLM_URL_MAX = 1024,
    MF_LLM_MODEL_MAX = 256,
    MF_LLM_KEY_MAX = 1024,
    MF_LLM_PROMPT_MAX = 4 << 20, /* bytes of system and user together */
    MF_LLM_ANSWER_MAX = 4 << 20, /* bytes of a reply's body */
};

typedef struct mf_llm_options {
    const char *base_url;     /* "http(s)://HOST[:PORT][/PATH]"; "/chat/completions" is
                                 added */
    const char *model;        /* as the server calls it; not empty */
    const char *api_key;      /* NULL or empty: none is sent */
    int64_t timeout_ms;       /* of one attempt, > 0 */
    int64_t cache_ttl_ms;     /* <= 0: answers are not remembered */
    size_t cache_count_max;   /* answers */
    size_t cache_bytes_max;   /* of them */
    mf_cache_manager *caches; /* of whose budget they take; NULL: they stand alone */
} mf_llm_options;

/* Copies what it needs; makes no connection.  MF_E_INVAL (a bad URL or an empty model,
 * naming the setting) or MF_E_NOMEM. */
MF_CHECKED mf_rc mf_llm_open(const mf_llm_options *options, mf_llm **out, mf_err *err);
void mf_llm_close(mf_llm *llm); /* no call may be under way; NULL is fine */

typedef struct mf_llm_call {
    mf_str system; /* empty: none */
    mf_str user;
    size_t tokens_max; /* of the answer; 0: as many as the server likes */
    int64_t deadline_ns;
    const atomic_bool *stop; /* NULL: nobody calls it off; looked at every second */
} mf_llm_call;

/* *answer: the text, trimmed, in arena memory.  MF_E_LIMIT (a bound above), MF_E_BUSY
 * (the breaker is open, or the server is overloaded), MF_E_TIMEOUT, MF_E_STOPPING,
 * MF_E_AUTH (the key is refused), MF_E_IO (out of reach, or it failed), MF_E_FORMAT
 * (what came is no answer), MF_E_NOMEM. */
MF_CHECKED mf_rc mf_llm_chat(mf_llm *llm, const mf_llm_call *call, mf_arena *arena,
                             mf_str *answer, mf_err *err);

typedef struct mf_llm_stats {
    char model[MF_LLM_MODEL_MAX];
    char base_url[MF_LLM_URL_MAX]; /* without user, password and query */
    uint64_t calls, cached;        /* cached: of them, answered from memory */
    uint64_t requests, retries;    /* sent; retries: of them */
    uint64_t failed;               /* calls that failed in the end */
    mf_histogram_summary request_ns;
    mf_breaker_stats breaker;
    mf_lru_stats cache;
} mf_llm_stats;

void mf_llm_get_stats(mf_llm *llm, mf_llm_stats *out);
/* Drops the answers kept. */
void mf_llm_forget(mf_llm *llm);

#endif
