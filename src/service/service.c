/* service.c - the service's life, its status, and what its files share.
 *
 * Writes under way are counted, because each ends on the writer thread with a touch of
 * the service: close lets no new one in and waits for the last.
 *
 * Sessions.  Nearly every request names a session, and where it belongs never changes,
 * so its owner is cached.  An entry remembers how many deletions there had been before
 * its row was read, and counts only while there have been no more: after any deletion,
 * by whatever road (session, agent, user), each session is looked up again once. */
#include "service/service.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "os/cpu.h"
#include "os/file.h"
#include "service/completion.h"
#include "service/service_impl.h"
#include "service/user_impl.h"

enum {
    SESSIONS_CACHED_MAX = 65536,
    SESSION_BYTES = 256, /* roughly, of one cached */
    LOOKUP_ARENA_MAX = 4 << 20,
    BACKLOG_ARENA_MAX = 256 << 20,
    SOURCE_FAILURES_MAX = 5,
    SOURCE_COOLDOWN_MS = 5000
};

/* --- life --- */

typedef struct cached_owner {
    atomic_size_t refs;
    mf_session_owner owner;
    uint64_t drops; /* service->session_drops before the row was read */
} cached_owner;

static void owner_release(void *value) {
    cached_owner *cached = value;
    if (atomic_fetch_sub(&cached->refs, 1) == 1) {
        mf_free(cached);
    }
}

static void *owner_share(void *value) {
    cached_owner *cached = value;
    atomic_fetch_add(&cached->refs, 1);
    return cached;
}

static mf_rc open_sessions(mf_service *service, mf_err *err) {
    mf_lru_options options = {
        .name = "sessions",
        .manager = service->parts.caches,
        .count_max = SESSIONS_CACHED_MAX,
        .bytes_max = (size_t)SESSIONS_CACHED_MAX * SESSION_BYTES,
        .release = owner_release,
        .share = owner_share,
    };
    return mf_lru_open(&options, &service->sessions, err);
}

/* The embedder's source: vectors of documents by the key of their text. */
static mf_rc look_for_stored(mf_service *service, const mf_content_key *keys,
                             size_t count, size_t dim, uint16_t *vectors, bool *found,
                             int64_t deadline_ns, mf_err *err) {
    mf_conn *conn;
    MF_TRY(mf_conn_acquire(service->parts.readers, deadline_ns, &conn, err));
    mf_rc rc = conn->ops->chunk_find(conn, keys, count, dim, vectors, found, err);
    mf_conn_release(service->parts.readers, conn, rc);
    return rc;
}

/* A vector found saves encoding, no more, so a store that fails is not asked for a
 * while: waiting for it would cost more than computing. */
static mf_rc find_stored(void *ctx, const mf_content_key *keys, size_t count,
                         size_t dim, uint16_t *vectors, bool *found,
                         int64_t deadline_ns, mf_err *err) {
    mf_service *service = ctx;
    mf_breaker_ticket ticket;
    if (!mf_breaker_allow(&service->source_breaker, mf_now_ns(), &ticket)) {
        return MF_FAIL(err, MF_E_BUSY, "look-ups of vectors are paused after failures");
    }
    mf_err why = {0};
    mf_rc rc =
        look_for_stored(service, keys, count, dim, vectors, found, deadline_ns, &why);
    if (rc == MF_OK) {
        mf_breaker_success(&service->source_breaker, ticket);
        return rc;
    }
    mf_breaker_failure(&service->source_breaker, ticket, mf_now_ns());
    mf_error_cache_log(mf_metrics_errors(service->parts.metrics), MF_LOG_WARN,
                       "vector_lookup_failed", &why);
    if (err != NULL) {
        *err = why;
    }
    return rc;
}

static mf_rc read_secret(mf_conn *conn, void *ctx, mf_err *err) {
    return conn->ops->content_secret(conn, ctx, err);
}

static mf_rc open_source(mf_service *service, mf_err *err) {
    mf_vector_source source = {.find = find_stored, .ctx = service};
    MF_TRY(mf_service_read(service, MF_NEVER, read_secret, &source.secret, err));
    mf_embedder_set_source(service->parts.embedder, &source);
    return MF_OK;
}

typedef struct backlog_read {
    mf_arena *arena;
    mf_uuid *ids; /* in the arena */
    size_t count;
} backlog_read;

static mf_rc read_backlog(mf_conn *conn, void *ctx, mf_err *err) {
    backlog_read *b = ctx;
    return conn->ops->backlog_list(conn, b->arena, &b->ids, &b->count, err);
}

static mf_rc resolve_backlog(void *ctx, mf_uuid id, mf_user **out, mf_err *err) {
    return mf_service_find_user_by_id(ctx, id, out, err);
}

static mf_rc open_flusher(mf_service *service, mf_err *err) {
    const mf_config *config = mf_settings_get(service->parts.settings);
    backlog_read b = {0};
    MF_TRY(mf_arena_new(BACKLOG_ARENA_MAX, &b.arena, err));
    mf_rc rc = MF_OK;
    if (service->parts.embedder != NULL) {
        rc = mf_service_read(service, MF_NEVER, read_backlog, &b, err);
    }
    mf_uuid *backlog = NULL;
    if (rc == MF_OK && b.count > 0) {
        backlog = mf_alloc_array(b.count, sizeof(*backlog));
        if (backlog == NULL) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for a backlog of %zu users",
                         b.count);
        } else {
            memcpy(backlog, b.ids, b.count * sizeof(*backlog));
        }
    }
    mf_arena_free(b.arena);
    if (rc != MF_OK) {
        return rc;
    }
    bool has_model = service->parts.embedder != NULL;
    size_t threads = config->embedding_threads > 0 ? (size_t)config->embedding_threads
                                                   : mf_cpu_count();
    mf_flush_manager_options options = {
        .registry = service->registry,
        .settings = service->parts.settings,
        .embedder = service->parts.embedder,
        .errors = mf_metrics_errors(service->parts.metrics),
        .pin = config->model_affinity,
        .thread_count = has_model ? threads : 1,
        .backlog = backlog,
        .backlog_count = b.count,
        .resolve = resolve_backlog,
        .ctx = service,
    };
    return mf_flush_manager_open(&options, &service->flusher, err);
}

static mf_rc open_metrics(mf_service *service, mf_err *err) {
    if (service->parts.metrics == NULL) {
        MF_TRY(mf_metrics_open(&service->own_metrics, err));
        service->parts.metrics = service->own_metrics;
    }
    mf_metrics_add_breaker(service->parts.metrics, &service->source_breaker);
    return MF_OK;
}

mf_runtime *mf_service_runtime(mf_service *service) {
    return service->parts.runtime;
}

mf_metrics *mf_service_metrics(mf_service *service) {
    return service->parts.metrics;
}

/* How texts are cut, and the name of what that and the model make of them. */
static mf_rc set_chunking(mf_service *service, mf_err *err) {
    mf_service_parts *parts = &service->parts;
    MF_TRY(mf_chunk_rules_of(mf_settings_get(parts->settings), parts->tokens,
                             &parts->chunks, err));
    if (parts->embedder == NULL) {
        return MF_OK;
    }
    mf_encoder_info info;
    char rules[MF_CHUNK_RULES_TEXT];
    mf_encoder_get_info(mf_embedder_encoder(parts->embedder), &info);
    mf_chunk_rules_text(&parts->chunks, rules);
    int len = snprintf(parts->vectors_from, sizeof parts->vectors_from, "%s%s%s",
                       info.name, rules[0] != '\0' ? " " : "", rules);
    if (len < 0 || (size_t)len >= sizeof parts->vectors_from) {
        return MF_FAIL(err, MF_E_LIMIT, "the encoder's name is too long");
    }
    return MF_OK;
}

static mf_rc open_token_cache(mf_service *service, mf_err *err) {
    mf_service_parts *parts = &service->parts;
    const mf_config *config = mf_settings_get(parts->settings);
    return mf_token_cache_open(parts->tokens, (size_t)config->buffer_round_token_cache,
                               parts->caches, &parts->token_cache, err);
}

mf_rc mf_service_open(const mf_service_parts *parts, mf_service **out, mf_err *err) {
    mf_service *service = mf_alloc_zero(1, sizeof(*service));
    if (service == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the service");
    }
    service->parts = *parts;
    service->parts.token_cache = NULL;
    service->opened_ns = mf_now_ns();
    static const mf_breaker_options source = {
        .name = "vector_lookup",
        .failures_max = SOURCE_FAILURES_MAX,
        .cooldown_ns = (int64_t)SOURCE_COOLDOWN_MS * MF_NS_PER_MS,
    };
    mf_breaker_init(&service->source_breaker, &source);
    mf_mutex_init(&service->writes_mu, MF_RANK_LEAF);
    mf_cond_init(&service->writes_cond);
    mf_rc rc = open_metrics(service, err);
    if (rc == MF_OK) {
        rc = open_token_cache(service, err);
    }
    if (rc == MF_OK) {
        rc = set_chunking(service, err);
    }
    if (rc == MF_OK) {
        rc = mf_registry_open(&service->parts, &service->totals, &service->registry,
                              err);
    }
    if (rc == MF_OK) {
        rc = open_sessions(service, err);
    }
    if (rc == MF_OK) {
        rc = mf_user_data_open(mf_settings_get(parts->settings), parts->caches,
                               &service->user_data, err);
    }
    if (rc == MF_OK && parts->embedder != NULL) {
        rc = open_source(service, err);
    }
    if (rc == MF_OK) {
        rc = mf_service_open_guard(service, err);
    }
    if (rc == MF_OK) {
        rc = open_flusher(service, err);
    }
    if (rc == MF_OK) {
        rc = mf_service_open_jobs(service, err);
    }
    if (rc == MF_OK) {
        rc = mf_memory_guard_start(service->guard, err);
    }
    if (rc != MF_OK) {
        mf_service_close(service);
        return rc;
    }
    *out = service;
    return MF_OK;
}

void mf_service_close(mf_service *service) {
    if (service == NULL) {
        return;
    }
    if (service->jobs != NULL) {
        mf_jobs_stop(service->jobs); /* its handlers may write */
    }
    mf_mutex_lock(&service->writes_mu);
    service->stopping = true;
    while (service->writes > 0) {
        (void)mf_cond_wait(&service->writes_cond, &service->writes_mu, MF_NEVER);
    }
    mf_mutex_unlock(&service->writes_mu);
    mf_memory_guard_stop(service->guard);
    mf_flush_manager_close(service->flusher);
    if (service->parts.embedder != NULL) {
        mf_embedder_set_source(service->parts.embedder, NULL);
    }
    mf_jobs_close(service->jobs);
    mf_registry_close(service->registry);
    mf_lru_close(service->sessions);
    mf_token_cache_close(service->parts.token_cache);
    mf_user_data_close(service->user_data);
    mf_memory_guard_close(service->guard);
    mf_recent_close(service->recent);
    mf_metrics_remove_breaker(service->parts.metrics, &service->source_breaker);
    mf_metrics_close(service->own_metrics);
    mf_breaker_done(&service->source_breaker);
    mf_cond_done(&service->writes_cond);
    mf_mutex_done(&service->writes_mu);
    mf_free(service);
}

int64_t mf_service_deadline(const mf_service *service) {
    return mf_deadline_in_ms(
        mf_settings_get(service->parts.settings)->server_request_timeout_ms);
}

/* --- reading --- */

mf_rc mf_service_read(mf_service *service, int64_t deadline_ns,
                      mf_rc (*read)(mf_conn *, void *ctx, mf_err *), void *ctx,
                      mf_err *err) {
    return mf_conn_read(service->parts.readers, deadline_ns, read, ctx, err);
}

mf_rc mf_service_user_missing(mf_str id, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "User with ID '%.*s' not found",
                         MF_STR_ARGS(id));
}

mf_rc mf_service_agent_missing(mf_str id, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "agent_id",
                         "Agent with ID '%.*s' not found", MF_STR_ARGS(id));
}

mf_rc mf_service_session_missing(mf_str id, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "session_id",
                         "Session with ID '%.*s' not found", MF_STR_ARGS(id));
}

typedef struct lookup {
    mf_uuid id;
    mf_user_data *keep; /* where the row of a user goes */
    uint64_t stamp;
    mf_arena *arena;
    mf_named_row user;
    mf_session_row session;
} lookup;

static mf_rc read_user(mf_conn *conn, void *ctx, mf_err *err) {
    lookup *l = ctx;
    MF_TRY(conn->ops->user_get(conn, l->id, l->arena, &l->user, err));
    mf_user_data_put_user(l->keep, l->stamp, &l->user);
    return MF_OK;
}

static mf_rc read_session(mf_conn *conn, void *ctx, mf_err *err) {
    lookup *l = ctx;
    return conn->ops->session_get(conn, l->id, l->arena, &l->session, err);
}

static mf_rc look_up(mf_service *service, lookup *l,
                     mf_rc (*read)(mf_conn *, void *, mf_err *), mf_err *err) {
    MF_TRY(mf_arena_new(LOOKUP_ARENA_MAX, &l->arena, err));
    mf_rc rc = mf_service_read(service, mf_service_deadline(service), read, l, err);
    mf_arena_free(l->arena);
    return rc;
}

typedef struct user_check {
    mf_service *service;
    bool made; /* the user was not active: the store was asked */
} user_check;

typedef struct user_read {
    lookup of;
    const mf_config *base;
    mf_user_overrides **own;
} user_read;

static mf_rc read_user_and_settings(mf_conn *conn, void *ctx, mf_err *err) {
    user_read *r = ctx;
    MF_TRY(read_user(conn, &r->of, err));
    return mf_user_overrides_read(conn, r->of.id, r->base, r->own, err);
}

static mf_rc user_exists(void *ctx, mf_uuid id, mf_user_overrides **own, mf_err *err) {
    user_check *check = ctx;
    mf_service *service = check->service;
    check->made = true;
    uint64_t stamp = mf_user_data_directory(service->user_data);
    user_read r = {.of = {.id = id, .keep = service->user_data, .stamp = stamp},
                   .base = mf_settings_get(service->parts.settings),
                   .own = own};
    MF_TRY(mf_arena_new(LOOKUP_ARENA_MAX, &r.of.arena, err));
    mf_rc rc = mf_service_read(service, mf_service_deadline(service),
                               read_user_and_settings, &r, err);
    mf_arena_free(r.of.arena);
    return rc;
}

mf_rc mf_service_find_user_by_id(mf_service *service, mf_uuid id, mf_user **out,
                                 mf_err *err) {
    user_check check = {.service = service};
    int64_t started_ns = mf_now_ns();
    mf_rc rc = mf_registry_get(service->registry, id, user_exists, &check,
                               mf_service_deadline(service), out, err);
    mf_metrics_record(service->parts.metrics,
                      check.made ? MF_OPERATION_USER_CREATE : MF_OPERATION_USER_LOOKUP,
                      mf_now_ns() - started_ns, rc);
    /* Also when nobody entered: who was in use the last time may be free by now. */
    mf_registry_trim(service->registry);
    return rc;
}

mf_rc mf_service_find_user(mf_service *service, mf_str id, mf_user **out, mf_err *err) {
    mf_uuid uuid;
    if (!mf_uuid_parse(id, &uuid)) {
        return mf_service_user_missing(id, err);
    }
    mf_rc rc = mf_service_find_user_by_id(service, uuid, out, err);
    return rc == MF_E_NOTFOUND ? mf_service_user_missing(id, err) : rc;
}

static void keep_owner(mf_service *service, const mf_session_owner *owner,
                       uint64_t drops) {
    cached_owner *cached = mf_alloc(sizeof(*cached));
    if (cached == NULL) {
        return; /* it is only a cache */
    }
    atomic_init(&cached->refs, 1);
    cached->owner = *owner;
    cached->drops = drops;
    mf_lru_put(service->sessions, mf_uuid_key(&owner->id), cached, SESSION_BYTES);
}

mf_rc mf_service_find_session(mf_service *service, mf_str id, mf_session_owner *out,
                              mf_err *err) {
    mf_uuid uuid;
    if (!mf_uuid_parse(id, &uuid)) {
        return mf_service_session_missing(id, err);
    }
    uint64_t drops = atomic_load(&service->session_drops);
    cached_owner *cached = mf_lru_get(service->sessions, mf_uuid_key(&uuid));
    if (cached != NULL) {
        bool valid = cached->drops == drops;
        *out = cached->owner;
        owner_release(cached);
        if (valid) {
            mf_recent_see_agent(service->recent, out->agent_id);
            return MF_OK;
        }
    }
    lookup l = {.id = uuid};
    mf_rc rc = look_up(service, &l, read_session, err);
    if (rc != MF_OK) {
        return rc == MF_E_NOTFOUND ? mf_service_session_missing(id, err) : rc;
    }
    *out = (mf_session_owner){
        .id = uuid, .user_id = l.session.user_id, .agent_id = l.session.agent_id};
    keep_owner(service, out, drops);
    mf_recent_see_agent(service->recent, out->agent_id);
    return MF_OK;
}

mf_rc mf_service_find_session_user(mf_service *service, mf_str id,
                                   mf_session_owner *out, mf_user **user, mf_err *err) {
    MF_TRY(mf_service_find_session(service, id, out, err));
    mf_rc rc = mf_service_find_user_by_id(service, out->user_id, user, err);
    /* A user deleted in between took the session along. */
    return rc == MF_E_NOTFOUND ? mf_service_session_missing(id, err) : rc;
}

void mf_service_drop_sessions(mf_service *service) {
    atomic_fetch_add(&service->session_drops, 1);
    mf_lru_clear(service->sessions); /* none counts any more */
}

/* --- writing --- */

mf_rc mf_service_write_enter(mf_service *service, mf_err *err) {
    mf_mutex_lock(&service->writes_mu);
    bool stopping = service->stopping;
    service->writes += stopping ? 0 : 1;
    mf_mutex_unlock(&service->writes_mu);
    return stopping ? MF_FAIL(err, MF_E_STOPPING, "memfuse is shutting down") : MF_OK;
}

void mf_service_write_leave(mf_service *service) {
    mf_mutex_lock(&service->writes_mu);
    service->writes--;
    if (service->writes == 0 && service->stopping) {
        mf_cond_broadcast(&service->writes_cond);
    }
    mf_mutex_unlock(&service->writes_mu);
}

typedef struct task_op {
    mf_write write;
    mf_service *service;
    const mf_task *task;
    uint64_t number;
    mf_completion completion;
} task_op;

static mf_rc task_run(mf_conn *conn, void *ctx, mf_err *err) {
    task_op *op = ctx;
    const mf_task *task = op->task;
    if (task->user != NULL) {
        op->number = mf_user_write_begin(task->user);
    }
    MF_TRY(task->run(conn, task->ctx, err));
    if (task->user != NULL && task->owes) {
        return mf_user_note_backlog(task->user, conn, err);
    }
    return MF_OK;
}

static void task_done(void *ctx, mf_rc rc, const mf_err *err) {
    task_op *op = ctx;
    const mf_task *task = op->task;
    if (rc == MF_OK && task->applied != NULL) {
        task->applied(task->ctx);
    }
    if (rc == MF_OK && task->forgets && op->service->parts.embedder != NULL) {
        mf_embedder_forget(op->service->parts.embedder);
    }
    if (task->user != NULL) {
        mf_user_write_end(task->user, op->number, rc);
        mf_user_data_written(op->service->user_data, mf_user_id(task->user));
        if (rc == MF_OK && task->owes) {
            mf_flush_manager_wake(op->service->flusher, task->user);
        }
    }
    mf_completion_finish(&op->completion, rc, err);
}

mf_rc mf_service_write(mf_service *service, const mf_task *task, mf_err *err) {
    MF_TRY(mf_service_write_enter(service, err));
    task_op op = {.service = service, .task = task};
    op.write = (mf_write){.run = task_run, .done = task_done, .ctx = &op};
    mf_err refused = {0};
    mf_completion_init(&op.completion);
    mf_rc rc = mf_writer_submit(service->parts.writer, &op.write, &refused);
    if (rc != MF_OK) {
        mf_completion_finish(&op.completion, rc, &refused);
    }
    rc = mf_completion_wait(&op.completion, err);
    mf_service_write_leave(service);
    return rc;
}

/* --- changes in one block --- */

static void block_release(mf_change *change) {
    mf_change_block_free((mf_change_block *)(void *)change);
}

_Static_assert(offsetof(mf_change_block, change) == 0, "a change is its block's start");

mf_rc mf_change_block_new(mf_change_kind kind, size_t count, size_t text_bytes,
                          mf_change_block **out, mf_err *err) {
    size_t bytes;
    if (!mf_mul_size(count, sizeof(mf_change_doc), &bytes) ||
        !mf_add_size(bytes, sizeof(mf_change_block), &bytes) ||
        !mf_add_size(bytes, text_bytes, &bytes)) {
        return MF_FAIL(err, MF_E_LIMIT, "%zu documents in one change", count);
    }
    mf_change_block *block = mf_alloc(bytes);
    if (block == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu documents", count);
    }
    block->docs = (mf_change_doc *)(void *)(block + 1);
    memset(block->docs, 0, count * sizeof(block->docs[0]));
    block->touched = NULL;
    block->text_at = (char *)(block->docs + count);
    block->text_end = block->text_at + text_bytes;
    block->change = (mf_change){.kind = kind,
                                .docs = block->docs,
                                .count = count,
                                .bytes = bytes,
                                .release = block_release};
    *out = block;
    return MF_OK;
}

mf_str mf_change_block_text(mf_change_block *block, mf_str text) {
    MF_ASSERT((size_t)(block->text_end - block->text_at) >= text.len);
    mf_str copy = {block->text_at, text.len};
    if (text.len > 0) {
        memcpy(block->text_at, text.p, text.len);
    }
    block->text_at += text.len;
    return copy;
}

void mf_change_block_touch(mf_change_block *block, int64_t *nums, size_t count) {
    block->touched = nums;
    block->change.touched = nums;
    block->change.touched_count = count;
    block->change.bytes += count * sizeof nums[0];
}

void mf_change_block_free(mf_change_block *block) {
    if (block != NULL) {
        mf_free(block->touched);
        mf_free(block);
    }
}

/* --- status --- */

typedef struct status_sum {
    mf_service_status *out;
    int64_t hybrid_since_ns; /* INT64_MAX: nothing waits */
} status_sum;

static void add_user_stats(void *ctx, mf_user *user) {
    status_sum *sum = ctx;
    mf_service_status *out = sum->out;
    mf_user_stats stats;
    mf_user_get_stats(user, &stats);
    out->index_documents += stats.documents;
    out->index_vectors += stats.vectors;
    out->index_bytes += stats.bytes;
    out->embedding_pending += stats.pending;
    out->buffer_bytes += stats.buffer_bytes;
    out->answers_evicted += stats.queries.evictions;
    out->answers_expired += stats.queries.expirations;
    out->answers_bytes += stats.queries.bytes;
    mf_write_counts_add(&out->buffers.counts, &stats.buffers.counts);
    out->buffers.round.tokens += stats.buffers.round.tokens;
    out->buffers.round.rounds += stats.buffers.round.rounds;
    out->buffers.round.windows += stats.buffers.round.windows;
    out->buffers.hybrid.chunks += stats.buffers.hybrid.chunks;
    out->buffers.hybrid.rounds += stats.buffers.hybrid.rounds;
    out->buffers.hybrid.bytes += stats.buffers.hybrid.bytes;
    if (stats.buffers.hybrid.chunks > 0 &&
        stats.buffers.hybrid.since_ns < sum->hybrid_since_ns) {
        sum->hybrid_since_ns = stats.buffers.hybrid.since_ns;
    }
}

static void add_buffer_stats(mf_service *service, mf_service_status *out) {
    status_sum sum = {.out = out, .hybrid_since_ns = INT64_MAX};
    mf_user_totals_read(&service->totals, &out->buffers.counts);
    mf_registry_each(service->registry, add_user_stats, &sum);
    if (sum.hybrid_since_ns != INT64_MAX) {
        out->hybrid_oldest_ms = (mf_now_ns() - sum.hybrid_since_ns) / MF_NS_PER_MS;
    }
    out->total_writes = out->buffers.counts.writes;
    out->total_transfers = out->buffers.counts.transfers;
    out->flush_operations = out->buffers.counts.flushes;
    mf_flush_manager_get_stats(service->flusher, &out->flush);
}

static mf_rc read_counts(mf_conn *conn, void *ctx, mf_err *err) {
    return conn->ops->counts(conn, ctx, err);
}

/* Counting walks whole tables, so what was counted holds until the next commit. */
static mf_rc count_store(mf_service *service, mf_store_counts *out, mf_err *err) {
    mf_writer_stats writer;
    mf_writer_get_stats(service->parts.writer, &writer);
    if (mf_user_data_get_counts(service->user_data, writer.commits, out)) {
        return MF_OK;
    }
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), read_counts, out, err));
    mf_user_data_put_counts(service->user_data, writer.commits, out);
    return MF_OK;
}

mf_rc mf_service_get_status(mf_service *service, mf_service_status *out, mf_err *err) {
    const mf_service_parts *parts = &service->parts;
    mf_service_status status = {0};
    MF_TRY(count_store(service, &status.store, err));
    mf_writer_get_stats(parts->writer, &status.writer);
    mf_conn_pool_get_stats(parts->readers, &status.readers);
    mf_conn_pool_get_stats(parts->background, &status.background_readers);
    status.has_model = parts->embedder != NULL;
    if (status.has_model) {
        mf_embedder_get_stats(parts->embedder, &status.embedder);
        mf_encoder_get_info(mf_embedder_encoder(parts->embedder), &status.model);
    }
    MF_TRY(mf_jobs_get_stats(service->jobs, &status.jobs, err));
    mf_compress_get_stats(&service->compress, &status.compress);
    status.exact_tokens = mf_token_counter_is_exact(parts->tokens);
    mf_registry_get_stats(service->registry, &status.users);
    status.has_runtime = parts->runtime != NULL;
    if (status.has_runtime) {
        mf_runtime_get_stats(parts->runtime, &status.runtime);
    }
    status.answers_evicted = atomic_load(&service->totals.answers_evicted);
    status.answers_expired = atomic_load(&service->totals.answers_expired);
    add_buffer_stats(service, &status);
    status.cache_hits = atomic_load(&service->cache_hits);
    status.similar_hits = atomic_load(&service->similar_hits);
    status.cache_misses = atomic_load(&service->cache_misses);
    status.queries = atomic_load(&service->queries);
    mf_memory_guard_get_stats(service->guard, &status.memory);
    if (parts->caches != NULL) {
        mf_cache_manager_get_stats(parts->caches, &status.caches);
    }
    mf_health_read(parts->metrics, mf_settings_get(parts->settings),
                   status.buffer_bytes, status.health);
    status.reranked = atomic_load(&service->reranked);
    status.rerank_failures = atomic_load(&service->rerank_failures);
    status.rss_bytes = mf_process_rss_bytes();
    status.startup_ms = mf_metrics_startup_ns(parts->metrics) / MF_NS_PER_MS;
    status.uptime_ms = (mf_now_ns() - service->opened_ns) / MF_NS_PER_MS;
    *out = status;
    return MF_OK;
}

/* --- flushing --- */

typedef struct windows_flush {
    mf_user *user;
    size_t rounds;
} windows_flush;

static mf_rc windows_run(mf_conn *conn, void *ctx, mf_err *err) {
    windows_flush *flush = ctx;
    int64_t through;
    return conn->ops->window_close(conn, mf_user_id(flush->user), MF_UUID_NONE,
                                   &through, err);
}

static void windows_applied(void *ctx) {
    windows_flush *flush = ctx;
    flush->rounds =
        mf_user_window_closed(flush->user, MF_UUID_NONE, MF_TRANSFER_MANUAL);
}

static uint64_t committed_by(mf_user *user) {
    mf_user_stats stats;
    mf_user_get_stats(user, &stats);
    return stats.buffers.counts.flushed_chunks;
}

static mf_rc flush_buffers(mf_service *service, mf_user *user, int64_t deadline_ns,
                           mf_flush_result *out, mf_err *err) {
    windows_flush flush = {.user = user};
    mf_task task = {.run = windows_run, .applied = windows_applied, .ctx = &flush};
    uint64_t before = committed_by(user);
    MF_TRY(mf_service_write(service, &task, err));
    MF_TRY(mf_flush_manager_flush(service->flusher, user, deadline_ns, err));
    *out = (mf_flush_result){
        .rounds_transferred = flush.rounds,
        .vectors_committed = (size_t)(committed_by(user) - before),
    };
    return MF_OK;
}

/* A user whose buffers were flushed and who has not written since has nothing to flush:
 * that is known without a commit and without loading the user.  Jobs are asked about in
 * any case: an administrator may have them run again. */
static mf_rc flush_user(mf_service *service, mf_user *user, int64_t deadline_ns,
                        mf_flush_result *out, mf_err *err) {
    mf_uuid id = mf_user_id(user);
    mf_flush_result result = {0};
    if (!mf_user_data_is_synced(service->user_data, id)) {
        uint64_t stamp = mf_user_data_writes(service->user_data, id);
        MF_TRY(flush_buffers(service, user, deadline_ns, &result, err));
        mf_user_data_set_synced(service->user_data, id, stamp);
    }
    MF_TRY(mf_jobs_wait_user(service->jobs, id, deadline_ns, err));
    *out = result;
    return MF_OK;
}

mf_rc mf_service_flush(mf_service *service, mf_str user_id, int64_t deadline_ns,
                       mf_flush_result *out, mf_err *err) {
    mf_user *user;
    mf_flush_result result = {0};
    MF_TRY(mf_service_find_user(service, user_id, &user, err));
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_FLUSH);
    mf_rc rc = flush_user(service, user, deadline_ns, &result, err);
    mf_metrics_end(span, rc);
    mf_user_unref(user);
    if (rc == MF_E_NOTFOUND) {
        return mf_service_user_missing(user_id, err); /* deleted in between */
    }
    if (rc == MF_OK && out != NULL) {
        *out = result;
    }
    return rc;
}

mf_rc mf_service_settle(mf_service *service, int64_t deadline_ns, mf_err *err) {
    mf_span span = mf_metrics_begin(service->parts.metrics, MF_OPERATION_FLUSH);
    mf_rc rc = mf_flush_manager_flush(service->flusher, NULL, deadline_ns, err);
    mf_metrics_end(span, rc);
    return rc;
}
