/* call.h - one request on its way through the door: what handlers read and write with.
 *
 * An mf_call lives in its request's arena.  One thread works on it at a time; a LATER
 * route hands it to the thread that ends it.  Building a reply never fails half-way: a
 * put that finds no memory marks the call as spent, and ending it then answers
 * MF_E_NOMEM. */
#ifndef MF_HTTP_CALL_H
#define MF_HTTP_CALL_H

#include <stdatomic.h>

#include "base/histogram.h"
#include "http/door.h"
#include "http/memory_monitor.h"
#include "http/rate_limit.h"
#include "http/router.h"
#include "text/json.h"

enum {
    MF_LIST_MAX = 10000,           /* elements of an array in a body */
    MF_NAME_BYTES_MAX = 1024,      /* a name of a user, agent, session or key */
    MF_TEXT_BYTES_MAX = 4 << 20,   /* a message, a knowledge item, a description */
    MF_QUERY_BYTES_MAX = 1 << 20,  /* the text of a query */
    MF_METADATA_BYTES_MAX = 16384, /* a message's metadata as compact JSON */
    MF_METADATA_KEYS_MAX = 64,
    MF_IDEMPOTENCY_BYTES_MAX = 255
};

enum { MF_STATUS_CLASSES = 5 }; /* 1xx to 5xx */

/* What a route was asked and how long it took. */
typedef struct mf_route_figures {
    atomic_ullong answered[MF_STATUS_CLASSES];
    mf_histogram duration; /* nanoseconds */
} mf_route_figures;

struct mf_door {
    mf_service *service;
    mf_settings *settings;
    mf_rate_limit rate_limit;
    mf_memory_monitor monitor;
    mf_str openapi;     /* owned; made at open */
    uint64_t id_prefix; /* of request ids made here */
    _Atomic uint64_t id_next;
    atomic_bool draining;
    mf_route_figures *figures; /* [mf_route_count + 1]; the last: no route */
};

struct mf_call {
    mf_door *door;
    mf_http_request request;
    const mf_config *config;
    const mf_route *route; /* NULL until it is known */
    mf_str params[MF_ROUTE_PARAMS_MAX];
    bool admin; /* may do everything; otherwise only what is `caller`'s */
    mf_uuid caller;
    yyjson_val *body;           /* the root object, once mf_call_read_body was called */
    const char *invalid_type;   /* kind of the failure in hand; see mf_call_invalid */
    const char *invalid_place;  /* where it is: "query"; NULL is the body */
    const char *status_message; /* shown in place of the text of the error; or NULL */
    const char *detail; /* text of `detail` in a failure that is no MF_E_FORMAT */
    int status;         /* of a failure; 0: the one of its code */
    const char *reason; /* of a failure inside, for the log */
    int retry_after_s;  /* of a failure that may be tried again; 0 counts as 1 */
    yyjson_mut_doc *doc;
    yyjson_mut_val *data;
    bool spent;           /* memory ran out while the reply was built */
    mf_rc failed;         /* code of a failure; MF_OK: none */
    size_t memory_before; /* allocated as it began; only while monitored */
    int64_t started_ns;
    mf_reply_fn done;
    void *done_ctx;
    mf_http_reply reply;
};

/* --- reading ---------------------------------------------------------------------- */

/* Parses the body, which must be an object. */
MF_CHECKED mf_rc mf_call_read_body(mf_call *call, mf_err *err);
/* The same, but an empty body counts as {}. */
MF_CHECKED mf_rc mf_call_read_optional_body(mf_call *call, mf_err *err);

/* Fails with 422: `type` is the machine-readable kind in `detail`, `field` the dotted
 * path to the culprit ("messages.0.role"). */
mf_rc mf_call_invalid(mf_call *call, const char *type, const char *field, mf_err *err,
                      const char *fmt, ...) MF_PRINTF(5, 6);

/* A string of call->body.  `bytes_max` bounds it, `blank` allows "". */
typedef struct mf_text_rule {
    bool required, blank;
    size_t bytes_max;
} mf_text_rule;
MF_CHECKED mf_rc mf_call_text(mf_call *call, const char *key, mf_text_rule rule,
                              mf_str *out, mf_err *err);
MF_CHECKED mf_rc mf_call_i64(mf_call *call, const char *key, int64_t *out, mf_err *err);
MF_CHECKED mf_rc mf_call_bool(mf_call *call, const char *key, bool *out, mf_err *err);
/* A required array of strings. */
MF_CHECKED mf_rc mf_call_texts(mf_call *call, const char *key, size_t bytes_max,
                               mf_str **out, size_t *count, mf_err *err);
/* A required array of anything. */
MF_CHECKED mf_rc mf_call_array(mf_call *call, const char *key, yyjson_val **out,
                               mf_err *err);

/* The form-decoded value of a query parameter; .p NULL when absent.  MF_E_INVAL when it
 * is not valid text. */
MF_CHECKED mf_rc mf_call_parameter(mf_call *call, const char *name, mf_str *out,
                                   mf_err *err);
/* `limit`: 1 to 100, more is cut to 100; `*out` keeps its value when absent. */
MF_CHECKED mf_rc mf_call_limit(mf_call *call, size_t *out, mf_err *err);
/* A parameter with a closed set of values; *index receives which, and stays when
 * absent. */
MF_CHECKED mf_rc mf_call_choice(mf_call *call, const char *name,
                                const char *const *choices, size_t *index, mf_err *err);

/* Finds a thing by the `name` parameter.  Clients build URLs without encoding, so
 * several readings of the name are tried: form-decoded; with '+' kept; and all the rest
 * of the query up to &user_id= or &agent_id=, with '+' kept and with '+' as a blank.
 * `find` gives MF_E_NOTFOUND to go on.  *given is false when there is no name or an
 * empty one. */
typedef mf_rc (*mf_find_fn)(mf_call *call, mf_str name, void *ctx, mf_err *err);
MF_CHECKED mf_rc mf_call_find_by_name(mf_call *call, mf_find_fn find, void *ctx,
                                      bool *given, mf_err *err);

/* MF_E_NOTFOUND, as for an unknown id, when the caller may not see this user's data. */
MF_CHECKED mf_rc mf_call_own_user(mf_call *call, mf_str user_id, mf_err *err);
MF_CHECKED mf_rc mf_call_own_session(mf_call *call, mf_str session_id, mf_err *err);

/* --- writing ---------------------------------------------------------------------- */

yyjson_mut_val *
mf_call_data(mf_call *call); /* the reply's data object, made on first use */
void mf_put_str(mf_call *call, yyjson_mut_val *object, const char *key, mf_str value);
void mf_put_uuid(mf_call *call, yyjson_mut_val *object, const char *key, mf_uuid value);
void mf_put_time(mf_call *call, yyjson_mut_val *object, const char *key, int64_t us);
void mf_put_i64(mf_call *call, yyjson_mut_val *object, const char *key, int64_t value);
void mf_put_u64(mf_call *call, yyjson_mut_val *object, const char *key, uint64_t value);
void mf_put_real(mf_call *call, yyjson_mut_val *object, const char *key, double value);
void mf_put_bool(mf_call *call, yyjson_mut_val *object, const char *key, bool value);
void mf_put_null(mf_call *call, yyjson_mut_val *object, const char *key);
void mf_put_raw(mf_call *call, yyjson_mut_val *object, const char *key, mf_str json);
yyjson_mut_val *mf_put_object(mf_call *call, yyjson_mut_val *object, const char *key);
yyjson_mut_val *mf_put_array(mf_call *call, yyjson_mut_val *object, const char *key);
yyjson_mut_val *mf_add_object(mf_call *call, yyjson_mut_val *array);
void mf_add_str(mf_call *call, yyjson_mut_val *array, mf_str value);
void mf_add_uuid(mf_call *call, yyjson_mut_val *array, mf_uuid value);

/* --- ending ----------------------------------------------------------------------- */

/* The envelope of a success around call->data; `message` is static or in the arena. */
mf_rc mf_call_ok(mf_call *call, int status, const char *message);
/* A reply that is no envelope; `body` outlives the call. */
mf_rc mf_call_plain(mf_call *call, const char *content_type, mf_str body);
void mf_call_header(mf_call *call, const char *name, mf_str value);
/* The envelope of a failure. */
void mf_call_fail(mf_call *call, const mf_err *err);
/* Sends what mf_call_ok, mf_call_plain or mf_call_fail has prepared. */
void mf_call_end(mf_call *call);

#endif
