/* admin.c - health, and what the people who run the server need. */
#include "base/clock.h"
#include "base/log.h"
#include "http/docs_page.h"
#include "http/handlers.h"

/* Asked before every request of the public SDK: touches no disk, no lock and no
 * model. */
mf_rc mf_handle_health(mf_call *call, mf_err *err) {
    (void)err;
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_str(call, data, "status", MF_STR("ok"));
    (void)mf_put_object(call, data, "config");
    mf_put_str(call, data, "version", MF_STR(MF_VERSION));
    return mf_call_ok(call, 200, "Server is healthy");
}

mf_rc mf_handle_openapi(mf_call *call, mf_err *err) {
    (void)err;
    return mf_call_plain(call, "application/json", call->door->openapi);
}

mf_rc mf_handle_docs(mf_call *call, mf_err *err) {
    (void)err;
    mf_call_header(call, "Content-Security-Policy", mf_str_from(mf_docs_page_policy));
    return mf_call_plain(call, "text/html; charset=utf-8", mf_str_from(mf_docs_page));
}

mf_rc mf_handle_flush(mf_call *call, mf_err *err) {
    mf_str text;
    int64_t deadline_ns = call->request.deadline_ns;
    MF_TRY(mf_call_parameter(call, "timeout_ms", &text, err));
    if (text.p != NULL) {
        int64_t timeout_ms = 0;
        if (!mf_str_to_i64(text, &timeout_ms) || timeout_ms < 0) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "timeout_ms",
                                 "timeout_ms must be a number of milliseconds");
        }
        int64_t asked_ns = mf_deadline_in_ms(timeout_ms);
        deadline_ns = asked_ns < deadline_ns ? asked_ns : deadline_ns;
    }
    MF_TRY(mf_call_own_user(call, call->params[0], err));
    MF_TRY(mf_service_flush(call->door->service, call->params[0], deadline_ns, err));
    mf_put_str(call, mf_call_data(call), "user_id", call->params[0]);
    return mf_call_ok(call, 200, "Everything is embedded and committed");
}

mf_rc mf_handle_reload(mf_call *call, mf_err *err) {
    enum { REPORT_MAX = 1 << 20 };
    mf_buf report;
    mf_buf_init(&report, REPORT_MAX);
    mf_rc rc = mf_settings_reload(call->door->settings, &report, err);
    if (rc != MF_OK) {
        mf_buf_done(&report);
        return rc;
    }
    const mf_config *config = mf_settings_get(call->door->settings);
    mf_log_setup_named(config->log_level, config->log_format);
    mf_str rest = mf_arena_str(call->request.arena, mf_buf_view(&report));
    mf_buf_done(&report);
    yyjson_mut_val *changed = mf_put_array(call, mf_call_data(call), "changed");
    while (rest.len > 0) {
        mf_str line = mf_str_split(&rest, '\n');
        if (line.len > 0) {
            mf_add_str(call, changed, line);
        }
    }
    return mf_call_ok(call, 200, "Settings reloaded");
}

static void put_pool(mf_call *call, yyjson_mut_val *data, const char *key,
                     const mf_conn_pool_stats *s) {
    yyjson_mut_val *pool = mf_put_object(call, data, key);
    mf_put_u64(call, pool, "open", s->open);
    mf_put_u64(call, pool, "busy", s->busy);
    mf_put_u64(call, pool, "connections_max", s->connections_max);
    mf_put_u64(call, pool, "acquired", s->acquired);
    mf_put_u64(call, pool, "waited", s->waited);
    mf_put_u64(call, pool, "timeouts", s->timeouts);
    mf_put_u64(call, pool, "created", s->created);
    mf_put_u64(call, pool, "replaced", s->replaced);
    mf_put_u64(call, pool, "wait_p99_us", s->wait_ns.p99 / 1000);
}

static void put_store(mf_call *call, yyjson_mut_val *data, const mf_service_status *s) {
    yyjson_mut_val *store = mf_put_object(call, data, "store");
    mf_put_u64(call, store, "users", s->store.users);
    mf_put_u64(call, store, "agents", s->store.agents);
    mf_put_u64(call, store, "sessions", s->store.sessions);
    mf_put_u64(call, store, "messages", s->store.messages);
    mf_put_u64(call, store, "knowledge", s->store.knowledge);
    mf_put_u64(call, store, "chunks", s->store.chunks);
    mf_put_u64(call, store, "bytes", s->store.bytes);
    mf_put_str(call, store, "synchronous",
               mf_str_from(call->config->store_synchronous));
    yyjson_mut_val *writer = mf_put_object(call, data, "writer");
    mf_put_u64(call, writer, "operations", s->writer.operations);
    mf_put_u64(call, writer, "failures", s->writer.failures);
    mf_put_u64(call, writer, "commits", s->writer.commits);
    mf_put_u64(call, writer, "commit_failures", s->writer.commit_failures);
    mf_put_u64(call, writer, "commit_ms", s->writer.commit_ns / MF_NS_PER_MS);
    mf_put_u64(call, writer, "group_largest", s->writer.group_largest);
    mf_put_u64(call, writer, "queue_depth", s->writer.queue.depth);
    mf_put_u64(call, writer, "queue_depth_max", s->writer.queue.depth_max);
    mf_put_u64(call, writer, "queue_refused", s->writer.queue.refused);
    mf_put_bool(call, writer, "failed", s->writer.failed);
    put_pool(call, data, "readers", &s->readers);
    put_pool(call, data, "background_readers", &s->background_readers);
}

static void put_waits(mf_call *call, yyjson_mut_val *embedder, const char *name,
                      const mf_embedder_stats *s, mf_embed_class cls) {
    yyjson_mut_val *queue = mf_put_object(call, embedder, name);
    mf_put_u64(call, queue, "waiting", s->waiting[cls]);
    mf_put_u64(call, queue, "waiting_max", s->waiting_max[cls]);
    mf_put_u64(call, queue, "wait_p50_us", s->waits[cls].p50 / MF_NS_PER_US);
    mf_put_u64(call, queue, "wait_p99_us", s->waits[cls].p99 / MF_NS_PER_US);
    mf_put_u64(call, queue, "wait_max_us", s->waits[cls].max / MF_NS_PER_US);
}

static void put_embedder(mf_call *call, yyjson_mut_val *data,
                         const mf_embedder_stats *s) {
    yyjson_mut_val *embedder = mf_put_object(call, data, "embedder");
    mf_put_u64(call, embedder, "lanes", s->lane_count);
    mf_put_u64(call, embedder, "lanes_busy", s->lanes_busy);
    mf_put_u64(call, embedder, "busy_ms", s->busy_ns / MF_NS_PER_MS);
    mf_put_u64(call, embedder, "texts", s->texts);
    mf_put_u64(call, embedder, "memory_hits", s->memory_hits);
    mf_put_u64(call, embedder, "store_hits", s->store_hits);
    mf_put_u64(call, embedder, "encoded", s->encoded);
    mf_put_u64(call, embedder, "texts_truncated", s->truncated);
    mf_put_u64(call, embedder, "store_failures", s->store_failures);
    mf_put_u64(call, embedder, "questions", s->questions);
    mf_put_u64(call, embedder, "question_batches", s->question_batches);
    mf_put_u64(call, embedder, "question_batch_max", s->question_batch_max);
    mf_put_u64(call, embedder, "coalesced", s->coalesced);
    mf_put_u64(call, embedder, "ingest_slices", s->ingest_slices);
    mf_put_u64(call, embedder, "refused", s->refused);
    mf_put_u64(call, embedder, "expired", s->expired);
    mf_put_u64(call, embedder, "cancelled", s->cancelled);
    mf_put_u64(call, embedder, "retried", s->retried);
    put_waits(call, embedder, "question_queue", s, MF_EMBED_QUESTION);
    put_waits(call, embedder, "ingest_queue", s, MF_EMBED_INGEST);
}

static void put_model(mf_call *call, yyjson_mut_val *data, const mf_service_status *s) {
    mf_put_str(call, data, "token_counter",
               s->exact_tokens ? MF_STR("exact") : MF_STR("estimate"));
    if (!s->has_model) {
        mf_put_null(call, data, "model");
        mf_put_null(call, data, "embedder");
        return;
    }
    yyjson_mut_val *model = mf_put_object(call, data, "model");
    mf_str name = mf_arena_str(call->request.arena, mf_str_from(s->model.name));
    mf_put_str(call, model, "name", name);
    mf_put_u64(call, model, "dim", s->model.dim);
    mf_put_u64(call, model, "layers", s->model.layers);
    mf_put_u64(call, model, "window", s->model.window);
    mf_put_u64(call, model, "weight_bytes", s->model.weight_bytes);
    mf_put_str(call, model, "precision", mf_str_from(s->model.precision));
    mf_put_str(call, model, "kernel", mf_str_from(s->model.kernel));
    put_embedder(call, data, &s->embedder);
}

static void put_memory(mf_call *call, yyjson_mut_val *data,
                       const mf_service_status *s) {
    yyjson_mut_val *buffer = mf_put_object(call, data, "buffer");
    mf_put_u64(call, buffer, "total_writes", s->total_writes);
    mf_put_u64(call, buffer, "total_transfers", s->total_transfers);
    mf_put_u64(call, buffer, "flush_operations", s->flush_operations);
    mf_put_u64(call, buffer, "embedding_pending", s->embedding_pending);
    yyjson_mut_val *index = mf_put_object(call, data, "index");
    mf_put_u64(call, index, "documents", s->index_documents);
    mf_put_u64(call, index, "vectors", s->index_vectors);
    mf_put_u64(call, index, "bytes", s->index_bytes);
    yyjson_mut_val *queries = mf_put_object(call, data, "queries");
    mf_put_u64(call, queries, "total", s->queries);
    mf_put_u64(call, queries, "cache_hits", s->cache_hits);
    mf_put_u64(call, queries, "cache_misses", s->cache_misses);
}

/* Tier 2: who is in memory, what that costs, and why users left. */
static void put_users(mf_call *call, yyjson_mut_val *data, const mf_registry_stats *s) {
    yyjson_mut_val *users = mf_put_object(call, data, "users_active");
    mf_put_u64(call, users, "count", s->count);
    mf_put_u64(call, users, "max", s->count_max);
    mf_put_u64(call, users, "instances", s->instances);
    mf_put_u64(call, users, "instances_peak", s->instances_peak);
    mf_put_u64(call, users, "bytes", s->bytes);
    mf_put_u64(call, users, "bytes_max", s->bytes_max);
    mf_put_u64(call, users, "bytes_peak", s->bytes_peak);
    mf_put_u64(call, users, "bytes_per_user",
               s->instances > 0 ? s->bytes / s->instances : 0);
    mf_put_i64(call, users, "idle_timeout_s", s->idle_timeout_s);
    mf_put_u64(call, users, "hits", s->hits);
    mf_put_u64(call, users, "created", s->created);
    mf_put_u64(call, users, "coalesced", s->coalesced);
    mf_put_u64(call, users, "failed", s->failed);
    mf_put_u64(call, users, "bytes_freed", s->bytes_freed);
    yyjson_mut_val *left = mf_put_object(call, users, "left");
    for (mf_user_leaving cause = 0; cause < MF_LEFT_COUNT_OF; cause++) {
        mf_put_u64(call, left, mf_user_leaving_name(cause), s->left[cause]);
    }
}

mf_rc mf_handle_status(mf_call *call, mf_err *err) {
    mf_service_status status;
    MF_TRY(mf_service_get_status(call->door->service, &status, err));
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_str(call, data, "version", MF_STR(MF_VERSION));
    mf_put_i64(call, data, "uptime_ms", status.uptime_ms);
    mf_put_u64(call, data, "rss_bytes", status.rss_bytes);
    put_store(call, data, &status);
    put_model(call, data, &status);
    put_memory(call, data, &status);
    put_users(call, data, &status.users);
    return mf_call_ok(call, 200, "Status retrieved successfully");
}
