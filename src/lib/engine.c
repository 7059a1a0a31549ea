/* engine.c - the composition root: builds the parts of memfuse and takes them down
 * again.
 *
 * An embedded engine owns, in this order: settings, the data directory's lock, the
 * cache manager, the store with its pools of connections and its writer, the runtime
 * (models, token counter), the service, and the door.  They are made top
 * to bottom and destroyed bottom to top, every thread joined before what it uses goes.
 * An attached engine owns only a client of the process that holds the lock.
 *
 * A missing model is not an error: memfuse then finds by words alone and says so in its
 * log and status.  A damaged one is. */
#include "memfuse/memfuse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mutex.h"
#include "http/door.h"
#include "http/server.h"
#include "lib/attach.h"
#include "lib/engine_service.h"
#include "lib/reply.h"
#include "os/file.h"
#include "os/lock_file.h"
#include "service/runtime.h"
#include "service/service.h"
#include "store/conn_manager.h"
#include "store/memory/memory_store.h"
#include "store/sqlite/sqlite_store.h"

extern char **environ;

enum {
    PATH_TEXT_MAX = 4096,
    URL_TEXT_MAX = PATH_TEXT_MAX + 16,
    CALL_ARENA_MAX = 1 << 30, /* bytes one call may use */
    REPORT_MAX = 1 << 20,
    ATTACH_WAIT_MS = 5000, /* for a server that holds the lock but is still starting */
};

#define MEMORY_URL "memory:"
#define SQLITE_URL "sqlite:"

struct mf_engine {
    mf_settings *settings;
    mf_cache_manager *caches;
    mf_metrics *metrics;
    char data_dir[PATH_TEXT_MAX];
    int stop_fd;
    mf_attach *attach; /* non-NULL: everything below is NULL */
    mf_lock_file *lock;
    mf_store *store;
    mf_writer *writer;
    mf_conn_pool *readers, *background;
    mf_conn_manager *conns; /* owns the store and both pools */
    mf_runtime *runtime;
    mf_memory_figures model; /* what the model takes */
    mf_service *service;
    mf_door *door;
};

/* --- errors and small things --- */

const char *mf_engine_code_name(int code) {
    return code >= 0 && code < MF_RC_COUNT ? mf_rc_name((mf_rc)code) : "unknown";
}

const char *mf_engine_version(void) {
    return MF_VERSION;
}

mf_engine_options mf_engine_options_default(void) {
    return (mf_engine_options){.mode = MF_ENGINE_AUTO, .use_environment = 1};
}

int mf_engine_is_attached(const mf_engine *engine) {
    return engine->attach != NULL;
}

mf_service *mf_engine_service(const mf_engine *engine) {
    return engine->service;
}

void mf_engine_free(char *reply) {
    mf_free(reply);
}

static void step(const mf_engine_options *options, const char *name) {
    if (options->progress != NULL) {
        options->progress(options->progress_ctx, name);
    }
}

static mf_rc open_settings(const mf_engine_options *options, mf_settings **out,
                           mf_err *err) {
    mf_config_sources sources = {.file = options->config_file,
                                 .environment =
                                     options->use_environment ? environ : NULL,
                                 .sets = options->sets,
                                 .set_count = options->set_count};
    return mf_settings_open(&sources, out, err);
}

/* --- building --- */

/* The connection manager's factory: the only place that knows what a URL means. */
static mf_rc store_of_url(void *ctx, mf_str url, mf_store **out, mf_err *err) {
    const mf_engine *e = ctx;
    const mf_config *c = mf_settings_get(e->settings);
    if (mf_str_eq(url, MF_STR(MEMORY_URL))) {
        return mf_memory_store_open(out, err);
    }
    char path[PATH_TEXT_MAX];
    mf_str rest = mf_str_sub(url, sizeof SQLITE_URL - 1, url.len);
    (void)snprintf(path, sizeof path, "%.*s", MF_STR_ARGS(rest));
    mf_sqlite_options options = mf_sqlite_options_default(path);
    options.cache_bytes = c->store_cache_bytes;
    options.busy_timeout_ms = c->store_busy_timeout_ms;
    options.sync = strcmp(c->store_synchronous, "full") == 0     ? MF_SYNC_FULL
                   : strcmp(c->store_synchronous, "normal") == 0 ? MF_SYNC_NORMAL
                                                                 : MF_SYNC_OFF;
    return mf_sqlite_store_open(&options, out, err);
}

static mf_rc store_url(const mf_engine *e, char out[URL_TEXT_MAX], mf_err *err) {
    if (strcmp(mf_settings_get(e->settings)->store_backend, "memory") == 0) {
        (void)snprintf(out, URL_TEXT_MAX, "%s", MEMORY_URL);
        return MF_OK;
    }
    (void)snprintf(out, URL_TEXT_MAX, "%s", SQLITE_URL);
    return mf_path_join(out + sizeof SQLITE_URL - 1, PATH_TEXT_MAX, e->data_dir,
                        "memfuse.db", err);
}

static mf_rc open_store(mf_engine *e, mf_err *err) {
    const mf_config *c = mf_settings_get(e->settings);
    mf_conn_manager_options conns = {
        .store_open = store_of_url,
        .ctx = e,
        .connections_max = {[MF_CONN_FOREGROUND] = (size_t)c->store_readers,
                            [MF_CONN_BACKGROUND] = (size_t)c->store_background_readers},
    };
    char text[URL_TEXT_MAX];
    MF_TRY(store_url(e, text, err));
    mf_str url = mf_str_from(text);
    MF_TRY(mf_conn_manager_open(&conns, &e->conns, err));
    MF_TRY(mf_conn_manager_store(e->conns, url, MF_NEVER, &e->store, err));
    MF_TRY(mf_conn_manager_pool(e->conns, url, MF_CONN_FOREGROUND, MF_NEVER,
                                &e->readers, err));
    MF_TRY(mf_conn_manager_pool(e->conns, url, MF_CONN_BACKGROUND, MF_NEVER,
                                &e->background, err));
    mf_writer_options writer = {.queue_max = (size_t)c->store_queue_max,
                                .group_max = (size_t)c->store_group_max};
    return mf_writer_open(e->store, &writer, &e->writer, err);
}

static mf_rc open_runtime(mf_engine *e, const mf_engine_options *options, mf_err *err) {
    mf_runtime_options runtime = {
        .settings = e->settings,
        .caches = e->caches,
        .environment = options->use_environment ? environ : NULL,
        .progress = options->progress,
        .progress_ctx = options->progress_ctx,
    };
    return mf_runtime_open(&runtime, &e->runtime, err);
}

static mf_rc open_parts(mf_engine *e, const mf_engine_options *options, mf_err *err) {
    int64_t started_ns = mf_now_ns();
    const mf_config *c = mf_settings_get(e->settings);
    MF_TRY(mf_cache_manager_open((size_t)c->memory_cache_budget_mb << 20,
                                 (unsigned)c->memory_cache_pressure_percent, &e->caches,
                                 err));
    MF_TRY(mf_metrics_open(&e->metrics, err));
    step(options, "opening the store");
    MF_TRY(open_store(e, err));
    step(options, "loading the model");
    mf_memory_figures before;
    mf_memory_figures_take(&before);
    MF_TRY(open_runtime(e, options, err));
    e->model = mf_memory_figures_since(&before);
    step(options, "starting");
    mf_service_parts parts = {.store = e->store,
                              .writer = e->writer,
                              .readers = e->readers,
                              .background = e->background,
                              .embedder = mf_runtime_embedder(e->runtime),
                              .tokens = mf_runtime_tokens(e->runtime),
                              .runtime = e->runtime,
                              .settings = e->settings,
                              .caches = e->caches,
                              .metrics = e->metrics,
                              .model = e->model};
    MF_TRY(mf_service_open(&parts, &e->service, err));
    MF_TRY(mf_door_open(e->service, e->settings, &e->door, err));
    mf_metrics_set_startup(e->metrics, mf_now_ns() - started_ns);
    return MF_OK;
}

static mf_rc lock_path(const mf_engine *e, char out[PATH_TEXT_MAX], mf_err *err) {
    return mf_path_join(out, PATH_TEXT_MAX, e->data_dir, "memfuse.lock", err);
}

static mf_rc attach_or_open(mf_engine *e, const mf_engine_options *options,
                            mf_err *err) {
    char path[PATH_TEXT_MAX];
    MF_TRY(lock_path(e, path, err));
    if (options->mode != MF_ENGINE_ATTACHED) {
        MF_TRY(mf_dir_make(e->data_dir, err));
        mf_rc rc = mf_lock_file_open(path, &e->lock, err);
        if (rc == MF_OK) {
            return open_parts(e, options, err);
        }
        if (rc != MF_E_LOCKED || options->mode == MF_ENGINE_EMBEDDED) {
            return rc;
        }
    }
    return mf_attach_open(path, mf_deadline_in_ms(ATTACH_WAIT_MS), &e->attach, err);
}

int mf_engine_open(const mf_engine_options *options, mf_engine **out, char *error) {
    mf_err err = {0};
    mf_engine *e = mf_alloc_zero(1, sizeof *e);
    if (e == NULL) {
        return mf_reply_error(&err, MF_FAIL(&err, MF_E_NOMEM, "out of memory"), error);
    }
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT); /* a library is silent until it serves */
    if (options->use_environment) {
        mf_fault_setup_from_env();
    }
    e->stop_fd = eventfd(0, EFD_CLOEXEC);
    mf_rc rc = e->stop_fd < 0
                   ? MF_FAIL_SYS(&err, MF_E_IO, errno, "cannot make an eventfd: %s",
                                 strerror(errno))
                   : open_settings(options, &e->settings, &err);
    if (rc == MF_OK) {
        const mf_config *c = mf_settings_get(e->settings);
        (void)snprintf(e->data_dir, sizeof e->data_dir, "%s", c->server_data_dir);
        rc = attach_or_open(e, options, &err);
    }
    if (rc != MF_OK) {
        mf_engine_close(e);
        return mf_reply_error(&err, rc, error);
    }
    *out = e;
    return 0;
}

void mf_engine_close(mf_engine *engine) {
    if (engine == NULL) {
        return;
    }
    mf_attach_close(engine->attach);
    mf_door_close(engine->door);
    mf_service_close(engine->service);
    mf_runtime_close(engine->runtime);
    mf_writer_close(engine->writer);
    mf_conn_manager_close(engine->conns);
    mf_cache_manager_close(engine->caches);
    mf_metrics_close(engine->metrics);
    mf_lock_file_close(engine->lock);
    mf_settings_close(engine->settings);
    if (engine->stop_fd >= 0) {
        (void)close(engine->stop_fd); /* nothing is buffered in an eventfd */
    }
    mf_free(engine);
}

/* --- calls --- */

typedef struct waiting_call {
    mf_mutex reply_mu;
    mf_cond replied;
    bool done;   /* guarded by reply_mu */
    int status;  /* the rest is written before done is set */
    char *reply; /* NULL: out of memory */
    size_t reply_len;
} waiting_call;

static void take_reply(void *ctx, const mf_http_reply *reply) {
    waiting_call *call = ctx;
    char *copy = mf_strndup(reply->body.p ? reply->body.p : "", reply->body.len);
    mf_mutex_lock(&call->reply_mu);
    call->status = reply->status;
    call->reply = copy;
    call->reply_len = reply->body.len;
    call->done = true;
    mf_cond_signal(&call->replied);
    mf_mutex_unlock(&call->reply_mu);
}

static void wait_for_reply(waiting_call *call) {
    mf_mutex_lock(&call->reply_mu);
    while (!call->done) {
        (void)mf_cond_wait(&call->replied, &call->reply_mu, MF_NEVER);
    }
    mf_mutex_unlock(&call->reply_mu);
}

static mf_rc call_embedded(mf_engine *e, const char *method, const char *path_and_query,
                           mf_str body, waiting_call *call, mf_err *err) {
    mf_arena *arena = NULL;
    MF_TRY(mf_arena_new(CALL_ARENA_MAX, &arena, err));
    mf_str query = mf_str_from(path_and_query);
    mf_str path = mf_str_split(&query, '?');
    mf_http_request request = {.method = mf_str_from(method),
                               .path = path,
                               .query = query,
                               .body = body,
                               .content_type = MF_STR("application/json"),
                               .trusted = true,
                               .deadline_ns = MF_NEVER,
                               .arena = arena};
    mf_mutex_init(&call->reply_mu, MF_RANK_LEAF);
    mf_cond_init(&call->replied);
    mf_door_handle(e->door, &request, take_reply, call);
    wait_for_reply(call);
    mf_cond_done(&call->replied);
    mf_mutex_done(&call->reply_mu);
    mf_arena_free(arena);
    return call->reply != NULL ? MF_OK
                               : MF_FAIL(err, MF_E_NOMEM, "out of memory for a reply");
}

int mf_engine_call(mf_engine *engine, const char *method, const char *path_and_query,
                   const char *body, size_t body_len, int *status, char **reply,
                   size_t *reply_len, char *error) {
    mf_err err = {0};
    mf_str bytes = {body, body_len};
    waiting_call call = {.done = false};
    mf_rc rc = engine->attach != NULL
                   ? mf_attach_call(engine->attach, method, path_and_query, bytes,
                                    &call.status, &call.reply, &call.reply_len, &err)
                   : call_embedded(engine, method, path_and_query, bytes, &call, &err);
    if (rc != MF_OK) {
        return mf_reply_error(&err, rc, error);
    }
    *status = call.status;
    *reply = call.reply;
    *reply_len = call.reply_len;
    return 0;
}

/* --- serving --- */

static void setup_log(const mf_config *c) {
    mf_log_setup_named(c->log_level, c->log_format);
}

/* What an operator should know although it stops nothing. */
static void warn_of_limits(const mf_engine *e) {
    const mf_config *c = mf_settings_get(e->settings);
    if (mf_runtime_embedder(e->runtime) == NULL) {
        mf_log(MF_LOG_WARN, "no_model", "effect=%s",
               "search goes by words alone; `make serve` fetches the model");
    }
    if (strcmp(c->store_synchronous, "full") != 0) {
        mf_log(MF_LOG_WARN, "relaxed_durability", "store.synchronous=%s effect=%s",
               c->store_synchronous, "a power cut may lose acknowledged writes");
    }
}

/* By the address itself: a name that only looks like one ("127.example.org") is not. */
static bool is_loopback(mf_str address) {
    char host[INET_ADDRSTRLEN];
    mf_str rest = address;
    mf_str first = mf_str_split(&rest, ':');
    struct in_addr ipv4;
    if (first.len < sizeof host) {
        (void)snprintf(host, sizeof host, "%.*s", MF_STR_ARGS(first));
        if (inet_pton(AF_INET, host, &ipv4) == 1) {
            return (ntohl(ipv4.s_addr) >> 24) == 127;
        }
    }
    return mf_str_starts(address, MF_STR("[::1]:")) ||
           mf_str_starts(address, MF_STR("localhost:"));
}

typedef struct bound_list {
    char text[MF_SERVER_LISTEN_MAX][MF_SERVER_ADDRESS_TEXT];
    const char *views[MF_SERVER_LISTEN_MAX];
    size_t count;
} bound_list;

static mf_rc listen_one(mf_engine *e, mf_server *server, mf_str address,
                        bound_list *bound, mf_err *err) {
    /* What has no port is no address, which mf_server_listen tells better. */
    if (mf_str_find(address, MF_STR(":"), 0) != SIZE_MAX && !is_loopback(address) &&
        !mf_settings_get(e->settings)->server_api_key_validation) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "server.listen",
                             "%.*s can be reached from other machines: set "
                             "server.api_key_validation=true, or listen on 127.0.0.1",
                             MF_STR_ARGS(address));
    }
    if (bound->count == MF_SERVER_LISTEN_MAX) {
        return MF_FAIL_FIELD(err, MF_E_LIMIT, "server.listen", "more than %d addresses",
                             MF_SERVER_LISTEN_MAX);
    }
    MF_TRY(mf_server_listen(server, address, bound->text[bound->count], err));
    bound->views[bound->count] = bound->text[bound->count];
    bound->count++;
    return MF_OK;
}

/* Addresses of the caller, else server.listen, else server.host:server.port. */
static mf_rc listen_all(mf_engine *e, mf_server *server, const char *const *addresses,
                        size_t count, bound_list *bound, mf_err *err) {
    const mf_config *c = mf_settings_get(e->settings);
    for (size_t i = 0; i < count; i++) {
        MF_TRY(listen_one(e, server, mf_str_from(addresses[i]), bound, err));
    }
    if (count == 0 && c->server_listen[0] != '\0') {
        for (mf_str rest = mf_str_from(c->server_listen); rest.p != NULL;) {
            mf_str one = mf_str_trim(mf_str_split(&rest, ','));
            MF_TRY(listen_one(e, server, one, bound, err));
        }
    } else if (count == 0) {
        char one[MF_CONFIG_TEXT_MAX + 16];
        bool bare_v6 = strchr(c->server_host, ':') != NULL && c->server_host[0] != '[';
        (void)snprintf(one, sizeof one, bare_v6 ? "[%s]:%lld" : "%s:%lld",
                       c->server_host, (long long)c->server_port);
        MF_TRY(listen_one(e, server, mf_str_from(one), bound, err));
    }
    return MF_OK;
}

/* Tells other processes where to find this one. */
static mf_rc announce(mf_engine *e, mf_server *server, const bound_list *bound,
                      mf_err *err) {
    mf_buf lines;
    mf_buf_init(&lines, MF_LOCK_TEXT_MAX);
    char socket_path[PATH_TEXT_MAX];
    mf_err why = {0};
    mf_rc rc = mf_path_join(socket_path, sizeof socket_path, e->data_dir,
                            "memfuse.sock", &why);
    if (rc == MF_OK) {
        rc = mf_server_listen_unix(server, socket_path, &why);
    }
    if (rc == MF_OK) {
        (void)mf_buf_printf(&lines, "socket memfuse.sock\n");
    } else { /* a very long path: commands then come in over TCP */
        mf_log_err(MF_LOG_WARN, "no_local_socket", &why);
    }
    for (size_t i = 0; i < bound->count; i++) {
        (void)mf_buf_printf(&lines, "http %s\n", bound->text[i]);
    }
    rc = lines.failed != MF_OK
             ? MF_FAIL(err, lines.failed, "too many addresses to announce")
             : mf_lock_file_set_text(e->lock, mf_buf_view(&lines), err);
    mf_buf_done(&lines);
    return rc;
}

static void wait_for_stop(const mf_engine *e) {
    struct pollfd stop = {.fd = e->stop_fd, .events = POLLIN};
    while (poll(&stop, 1, -1) < 0 && errno == EINTR) {
    }
}

int mf_engine_serve(mf_engine *engine, const char *const *addresses,
                    size_t address_count,
                    void (*ready)(void *ctx, const char *const *addresses,
                                  size_t count),
                    void *ready_ctx, char *error) {
    mf_err err = {0};
    if (engine->attach != NULL) {
        return mf_reply_error(
            &err,
            MF_FAIL(&err, MF_E_LOCKED,
                    "another process already serves '%s'; stop it first",
                    engine->data_dir),
            error);
    }
    setup_log(mf_settings_get(engine->settings));
    mf_server *server = NULL;
    bound_list *bound = mf_alloc_zero(1, sizeof *bound);
    mf_rc rc = bound == NULL ? MF_FAIL(&err, MF_E_NOMEM, "out of memory") : MF_OK;
    if (rc == MF_OK) {
        rc = mf_server_open(engine->door, engine->settings, &server, &err);
    }
    if (rc == MF_OK) {
        rc = listen_all(engine, server, addresses, address_count, bound, &err);
    }
    if (rc == MF_OK) {
        rc = announce(engine, server, bound, &err);
    }
    if (rc == MF_OK) {
        rc = mf_server_start(server, &err);
    }
    if (rc == MF_OK) {
        warn_of_limits(engine);
        if (ready != NULL) {
            ready(ready_ctx, bound->views, bound->count);
        }
        wait_for_stop(engine);
        mf_log(MF_LOG_INFO, "stopping", "pid=%d", (int)getpid());
        mf_door_drain(engine->door);
        int64_t drain_ms = mf_settings_get(engine->settings)->server_drain_timeout_ms;
        mf_server_close(server, mf_deadline_in_ms(drain_ms));
    } else {
        mf_server_close(server, mf_now_ns());
    }
    mf_free(bound);
    return mf_reply_error(&err, rc, error);
}

void mf_engine_stop(mf_engine *engine) {
    uint64_t one = 1;
    ssize_t n = write(engine->stop_fd, &one, sizeof one);
    (void)n; /* a counter already raised is as good */
}

int mf_engine_reload(mf_engine *engine, char **report, char *error) {
    mf_err err = {0};
    mf_buf lines;
    mf_buf_init(&lines, REPORT_MAX);
    mf_rc rc = mf_settings_reload(engine->settings, &lines, &err);
    if (rc == MF_OK) {
        setup_log(mf_settings_get(engine->settings));
        *report = mf_strndup(lines.p ? lines.p : "", lines.len);
        if (*report == NULL) {
            rc = MF_FAIL(&err, MF_E_NOMEM, "out of memory for the report");
        }
    }
    mf_buf_done(&lines);
    return mf_reply_error(&err, rc, error);
}

/* --- settings without data --- */

typedef struct settings_list {
    yyjson_mut_doc *doc;
    yyjson_mut_val *rows;
} settings_list;

static void list_setting(void *ctx, const mf_setting_info *info) {
    settings_list *list = ctx;
    yyjson_mut_doc *doc = list->doc;
    yyjson_mut_val *row = yyjson_mut_arr_add_obj(doc, list->rows);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "key", info->key);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "value", info->value);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "source", info->source);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "default", info->def);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "type", info->type);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "range", info->range);
    (void)yyjson_mut_obj_add_bool(doc, row, "reloadable", info->reloadable);
    (void)yyjson_mut_obj_add_bool(doc, row, "per_user", info->per_user);
    (void)yyjson_mut_obj_add_strcpy(doc, row, "help", info->help);
}

int mf_engine_settings(const mf_engine_options *options, char **json, char *error) {
    mf_err err = {0};
    mf_settings *settings = NULL;
    mf_reply reply = {.arena = NULL};
    mf_rc rc = open_settings(options, &settings, &err);
    if (rc == MF_OK) {
        rc = mf_reply_begin(&reply, &err);
    }
    if (rc == MF_OK) {
        settings_list list = {.doc = reply.doc, .rows = yyjson_mut_arr(reply.doc)};
        yyjson_mut_doc_set_root(list.doc, list.rows);
        mf_settings_each(settings, list_setting, &list);
        rc = mf_reply_end(&reply, json, &err);
    }
    mf_reply_done(&reply);
    mf_settings_close(settings);
    return mf_reply_error(&err, rc, error);
}
