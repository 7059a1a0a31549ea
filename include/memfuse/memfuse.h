/* memfuse.h - memfuse as a library.
 *
 * An mf_engine is a whole memfuse in this process, or, when another process already
 * serves the same data directory, a line to that one: calls look the same.  A call is a
 * request of the HTTP API (docs/http-api.md) without the socket: method, path, JSON in;
 * status, JSON out.  The same engine can be served to others with mf_engine_serve.
 *
 * Threads: every function may be called from any thread once open has returned; close
 * must be the last.  The library never prints, exits or touches signals. */
#ifndef MEMFUSE_MEMFUSE_H
#define MEMFUSE_MEMFUSE_H

#include <stddef.h>

#if defined(__GNUC__)
#define MF_API __attribute__((visibility("default")))
#else
#define MF_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mf_engine mf_engine;

typedef enum mf_engine_mode {
    MF_ENGINE_AUTO = 0, /* attach to a running server of this data, else open it here */
    MF_ENGINE_EMBEDDED, /* open it here; fails when another process has it */
    MF_ENGINE_ATTACHED  /* only attach; fails when nobody serves it */
} mf_engine_mode;

typedef struct mf_engine_options {
    mf_engine_mode mode;
    const char *config_file; /* YAML; NULL: none */
    const char *const *sets; /* "key=value" settings, set_count of them */
    size_t set_count;
    int use_environment; /* non-zero: MEMFUSE_... variables count */
    void (*progress)(void *ctx,
                     const char *step); /* slow steps of opening; NULL: silent */
    void *progress_ctx;
} mf_engine_options;

MF_API mf_engine_options mf_engine_options_default(void);

enum { MF_ENGINE_ERROR_TEXT = 512 };

/* 0 on success.  Otherwise a non-zero code (mf_engine_code_name) and, in `error` (at
 * least MF_ENGINE_ERROR_TEXT bytes, or NULL), one sentence that says what is wrong and
 * what to do. */
MF_API int mf_engine_open(const mf_engine_options *options, mf_engine **out,
                          char *error);
MF_API void mf_engine_close(mf_engine *engine);
MF_API const char *mf_engine_code_name(int code);
MF_API int mf_engine_is_attached(const mf_engine *engine);

/* One request.  `body` may be NULL with length 0.  On success *status is an HTTP status
 * and *reply a NUL-terminated body of *reply_len bytes, to be freed with
 * mf_engine_free. A status >= 400 is not a failure of the call. */
MF_API int mf_engine_call(mf_engine *engine, const char *method,
                          const char *path_and_query, const char *body, size_t body_len,
                          int *status, char **reply, size_t *reply_len, char *error);
MF_API void mf_engine_free(char *reply);

/* Serves HTTP on `addresses` ("ADDR:PORT"; none: the settings decide) and on the data
 * directory's local socket until mf_engine_stop.  `ready` is called once with the
 * addresses in use when requests are accepted.  Embedded engines only. */
MF_API int
mf_engine_serve(mf_engine *engine, const char *const *addresses, size_t address_count,
                void (*ready)(void *ctx, const char *const *addresses, size_t count),
                void *ready_ctx, char *error);
/* Makes mf_engine_serve drain and return.  Safe in a signal handler. */
MF_API void mf_engine_stop(mf_engine *engine);
/* Reads the settings again.  `report` (mf_engine_free it) has a line per changed
 * key. */
MF_API int mf_engine_reload(mf_engine *engine, char **report, char *error);

/* The settings in force and where each came from, without opening any data: a JSON
 * array of {key, value, source, default, type, range, reloadable, help}. */
MF_API int mf_engine_settings(const mf_engine_options *options, char **json,
                              char *error);

MF_API const char *mf_engine_version(void);

#ifdef __cplusplus
}
#endif

#endif
