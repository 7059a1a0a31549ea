/* query.c - what do we know that bears on this?
 *
 *   who asks (user, session, agent) -> cache -> clean the text -> encode the question
 * -> search the user's index -> fetch the texts -> order -> keep in the cache
 *
 * An answer is kept with the version the user's data had just before the search: a
 * write that lands in between makes it old at once.  Texts are always fetched, also for
 * a cached answer, which therefore holds no text and shows no text that is gone.
 *
 * Without a model, words alone decide, and only documents that share some are results.
 * With one, every document has a likeness, and the best top_k come back. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "memory/query_text.h"
#include "service/rerank.h"
#include "service/service_impl.h"
#include "text/utf8.h"

typedef struct query_call {
    mf_service *service;
    const mf_query *query;
    const mf_config *config;
    mf_arena *arena;
    mf_user *user;
    mf_uuid user_id, session_id, agent_id;
    size_t hits_max;
    mf_index_hit *hits;
    size_t hit_count;
    mf_result *rows;
    size_t row_count;
    bool cached;
    bool has_sessions;
} query_call;

/* --- who asks --- */

static mf_rc find_session(query_call *call, mf_err *err) {
    const mf_query *q = call->query;
    if (q->session_id.len == 0) {
        return MF_OK;
    }
    mf_session_owner owner = {0};
    mf_rc rc = mf_service_find_session(call->service, q->session_id, &owner, err);
    if (rc == MF_E_NOTFOUND ||
        (rc == MF_OK && !mf_uuid_eq(owner.user_id, call->user_id))) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "session_id",
                             "Session '%.*s' not found for user '%.*s'",
                             MF_STR_ARGS(q->session_id), MF_STR_ARGS(q->user_id));
    }
    call->session_id = owner.id;
    return rc;
}

static mf_rc read_agent(mf_conn *conn, void *ctx, mf_err *err) {
    query_call *call = ctx;
    mf_named_row row;
    return conn->ops->agent_get(conn, call->agent_id, call->arena, &row, err);
}

static mf_rc find_agent(query_call *call, mf_err *err) {
    const mf_query *q = call->query;
    if (q->agent_id.len == 0) {
        return MF_OK;
    }
    mf_rc rc = MF_E_NOTFOUND;
    if (mf_uuid_parse(q->agent_id, &call->agent_id)) {
        rc = mf_service_read(call->service, q->deadline_ns, read_agent, call, err);
    }
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL_FIELD(err, rc, "agent_id", "Agent '%.*s' not found",
                             MF_STR_ARGS(q->agent_id));
    }
    return rc;
}

/* --- the search --- */

static mf_index_weights weights_of(const mf_config *config) {
    mf_index_weights weights = mf_index_weights_default();
    weights.vector = config->retrieval_vector_weight;
    weights.keyword = config->retrieval_keyword_weight;
    weights.neighbour = config->retrieval_neighbour_weight;
    weights.neighbour_span = (int)config->retrieval_neighbour_span;
    weights.session = config->retrieval_session_weight;
    weights.bm25_k1 = config->retrieval_bm25_k1;
    weights.bm25_b = config->retrieval_bm25_b;
    return weights;
}

static mf_rc encode_question(query_call *call, mf_str text, float **out, mf_err *err) {
    mf_embedder *embedder = call->service->parts.embedder;
    float *vector =
        mf_arena_alloc_array(call->arena, mf_embedder_dim(embedder), sizeof(*vector));
    if (vector == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a question");
    }
    if (text.len > MF_ENCODE_BYTES_MAX) {
        text = mf_utf8_prefix(text, MF_ENCODE_BYTES_MAX); /* far beyond any window */
    }
    mf_embed_call how = {.cls = MF_EMBED_QUESTION,
                         .deadline_ns = call->query->deadline_ns};
    MF_TRY(mf_embedder_encode(embedder, &how, &text, 1, NULL, vector, err));
    *out = vector;
    return MF_OK;
}

/* A reranker chooses among more hits than are wanted. */
static size_t searched_max(const query_call *call) {
    size_t candidates = (size_t)call->config->rerank_candidates;
    return call->config->rerank_use_rerank && candidates > call->hits_max
               ? candidates
               : call->hits_max;
}

/* *version: of the data the hits were found in. */
static mf_rc search(query_call *call, uint64_t *version, mf_err *err) {
    const mf_query *q = call->query;
    bool has_model = call->service->parts.embedder != NULL;
    mf_query_text text;
    MF_TRY(mf_query_text_clean(call->arena, q->text, &text, err));
    mf_index_query iq = {
        .text = text.words,
        .path = has_model ? q->path : MF_PATH_KEYWORD,
        .messages = q->messages,
        .knowledge = q->knowledge,
        .agent_id = call->agent_id,
        .session_also = call->session_id,
        .hits_max = searched_max(call),
    };
    if (iq.path != MF_PATH_KEYWORD) {
        float *vector = NULL;
        MF_TRY(encode_question(call, text.encoder, &vector, err));
        iq.vector = vector;
    }
    call->hits =
        mf_arena_alloc_array(call->arena, iq.hits_max + 1, sizeof(call->hits[0]));
    if (call->hits == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu hits", iq.hits_max);
    }
    mf_index_weights weights = weights_of(call->config);
    size_t count;
    MF_TRY(mf_user_search(call->user, &iq, &weights, q->deadline_ns, call->hits, &count,
                          version, err));
    call->hit_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (iq.vector != NULL || call->hits[i].keyword > 0) {
            call->hits[call->hit_count++] = call->hits[i];
        }
    }
    if (call->config->rerank_use_rerank) {
        const mf_rerank_call rerank = {.user_id = call->user_id,
                                       .question = text.encoder,
                                       .deadline_ns = q->deadline_ns,
                                       .hits_max = call->hits_max};
        mf_rerank_hits(call->service, &rerank, call->arena, call->hits,
                       &call->hit_count);
    }
    return MF_OK;
}

static mf_rc search_or_remember(query_call *call, mf_err *err) {
    const mf_query *q = call->query;
    mf_query_key key = {
        .text = q->text,
        .session_id = call->session_id,
        .agent_id = call->agent_id,
        .hits_max = (uint32_t)call->hits_max,
        .path = q->path,
        .messages = q->messages,
        .knowledge = q->knowledge,
        .config = call->config,
    };
    mf_query_buffer *answers = mf_user_answers(call->user);
    uint64_t version = mf_user_version(call->user);
    if (answers != NULL && mf_query_buffer_get(answers, &key, version, call->arena,
                                               &call->hits, &call->hit_count)) {
        call->cached = true;
        atomic_fetch_add(&call->service->cache_hits, 1);
        return MF_OK;
    }
    atomic_fetch_add(&call->service->cache_misses, 1);
    MF_TRY(search(call, &version, err));
    if (answers != NULL &&
        call->hit_count <= (size_t)call->config->buffer_query_max_size) {
        mf_query_buffer_put(answers, &key, version, call->hits, call->hit_count);
        mf_user_account(call->user);
    }
    return MF_OK;
}

/* --- order --- */

static int by_time_rising(const void *a, const void *b) {
    const mf_index_facts *x = &((const mf_index_hit *)a)->facts;
    const mf_index_facts *y = &((const mf_index_hit *)b)->facts;
    if (x->created_us != y->created_us) {
        return x->created_us < y->created_us ? -1 : 1;
    }
    return (x->key.num > y->key.num) - (x->key.num < y->key.num);
}

static void reverse(mf_index_hit *hits, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        mf_index_hit kept = hits[i];
        hits[i] = hits[count - 1 - i];
        hits[count - 1 - i] = kept;
    }
}

/* The best top_k are chosen by score; the settings say in which order they are
 * given. */
static void order_hits(query_call *call) {
    bool by_time = strcmp(call->config->buffer_query_sort_by, "timestamp") == 0;
    bool rising = strcmp(call->config->buffer_query_order, "asc") == 0;
    if (by_time && call->hit_count > 1) {
        qsort(call->hits, call->hit_count, sizeof(call->hits[0]), by_time_rising);
    }
    if (by_time != rising) { /* hits come with falling scores, times rising */
        reverse(call->hits, call->hit_count);
    }
}

/* --- texts --- */

typedef struct fetch {
    query_call *call;
    mf_message_row *messages;
    mf_knowledge_row *knowledge;
    size_t message_count, knowledge_count;
    mf_session_row *sessions; /* those seen so far */
    size_t session_count;
} fetch;

static mf_rc fetch_rows(fetch *f, mf_conn *conn, mf_err *err) {
    query_call *call = f->call;
    size_t count = call->hit_count;
    int64_t *nums = mf_arena_alloc_array(call->arena, count * 2, sizeof(*nums));
    f->messages = mf_arena_alloc_array(call->arena, count, sizeof(f->messages[0]));
    f->knowledge = mf_arena_alloc_array(call->arena, count, sizeof(f->knowledge[0]));
    f->sessions = mf_arena_alloc_array(call->arena, count, sizeof(f->sessions[0]));
    if (nums == NULL || f->messages == NULL || f->knowledge == NULL ||
        f->sessions == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu results", count);
    }
    for (size_t i = 0; i < count; i++) {
        const mf_index_key *key = &call->hits[i].facts.key;
        if (key->kind == MF_DOC_MESSAGE) {
            nums[f->message_count++] = key->num;
        } else {
            nums[count + f->knowledge_count++] = key->num;
        }
    }
    if (f->message_count > 0) {
        MF_TRY(conn->ops->message_get_by_num(conn, call->user_id, nums,
                                             f->message_count, call->arena, f->messages,
                                             err));
    }
    if (f->knowledge_count > 0) {
        MF_TRY(conn->ops->knowledge_get_by_num(conn, call->user_id, nums + count,
                                               f->knowledge_count, call->arena,
                                               f->knowledge, err));
    }
    return MF_OK;
}

/* The session's row, read once per answer; NULL with MF_OK when it is gone. */
static mf_rc session_of(fetch *f, mf_conn *conn, mf_uuid id, const mf_session_row **out,
                        mf_err *err) {
    for (size_t i = 0; i < f->session_count; i++) {
        if (mf_uuid_eq(f->sessions[i].id, id)) {
            *out = &f->sessions[i];
            return MF_OK;
        }
    }
    mf_session_row *row = &f->sessions[f->session_count];
    mf_rc rc = conn->ops->session_get(conn, id, f->call->arena, row, err);
    *out = rc == MF_OK ? row : NULL;
    f->session_count += rc == MF_OK ? 1 : 0;
    return rc == MF_E_NOTFOUND ? MF_OK : rc;
}

/* What the index told about a hit; the row tells the rest. */
static mf_result *add_result(query_call *call, mf_doc_kind kind,
                             const mf_index_hit *hit) {
    mf_result *result = &call->rows[call->row_count++];
    *result = (mf_result){
        .kind = kind,
        .score = hit->score,
        .similarity = hit->similarity,
        .keyword = hit->keyword,
        .buffered = mf_user_holds(call->user, &hit->facts),
    };
    return result;
}

static mf_rc add_message(fetch *f, mf_conn *conn, const mf_index_hit *hit,
                         const mf_message_row *row, mf_err *err) {
    query_call *call = f->call;
    const mf_session_row *session = NULL;
    if (row->num != 0) {
        MF_TRY(session_of(f, conn, row->session_id, &session, err));
    }
    if (session == NULL) {
        return MF_OK; /* deleted since the search */
    }
    mf_result *result = add_result(call, MF_DOC_MESSAGE, hit);
    result->id = row->id;
    result->role = row->role;
    result->content = row->content;
    result->created_us = row->created_us;
    result->updated_us = row->updated_us;
    result->session_id = row->session_id;
    result->agent_id = session->agent_id;
    result->session_name = session->name;
    result->in_session = !mf_uuid_is_none(call->session_id) &&
                         mf_uuid_eq(row->session_id, call->session_id);
    return MF_OK;
}

static void add_knowledge(fetch *f, const mf_index_hit *hit,
                          const mf_knowledge_row *row) {
    if (row->num == 0) {
        return;
    }
    mf_result *result = add_result(f->call, MF_DOC_KNOWLEDGE, hit);
    result->id = row->id;
    result->content = row->content;
    result->created_us = row->created_us;
    result->updated_us = row->updated_us;
}

static mf_rc read_sessions(query_call *call, mf_conn *conn, mf_err *err) {
    int has = mf_user_has_sessions(call->user);
    if (has < 0) {
        mf_session_row *rows;
        size_t count;
        MF_TRY(conn->ops->session_list(conn, call->user_id, MF_UUID_NONE, call->arena,
                                       &rows, &count, err));
        mf_user_learn_has_sessions(call->user, count > 0);
        has = count > 0 ? 1 : 0;
    }
    call->has_sessions = has == 1;
    return MF_OK;
}

static mf_rc fetch_read(mf_conn *conn, void *ctx, mf_err *err) {
    query_call *call = ctx;
    fetch f = {.call = call};
    MF_TRY(read_sessions(call, conn, err));
    if (call->hit_count == 0) {
        return MF_OK;
    }
    call->rows =
        mf_arena_alloc_array(call->arena, call->hit_count, sizeof(call->rows[0]));
    if (call->rows == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu results", call->hit_count);
    }
    MF_TRY(fetch_rows(&f, conn, err));
    size_t m = 0;
    size_t k = 0;
    for (size_t i = 0; i < call->hit_count; i++) {
        const mf_index_hit *hit = &call->hits[i];
        if (hit->facts.key.kind == MF_DOC_MESSAGE) {
            MF_TRY(add_message(&f, conn, hit, &f.messages[m++], err));
        } else {
            add_knowledge(&f, hit, &f.knowledge[k++]);
        }
    }
    return MF_OK;
}

/* --- the whole --- */

static size_t hits_wanted(const query_call *call) {
    const mf_query *q = call->query;
    if (q->top_k <= 0 || (!q->messages && !q->knowledge) || q->text.len == 0) {
        return 0;
    }
    int64_t most = call->config->retrieval_top_k_max;
    return (size_t)(q->top_k < most ? q->top_k : most);
}

static mf_rc run_query(query_call *call, mf_err *err) {
    MF_TRY(find_session(call, err));
    MF_TRY(find_agent(call, err));
    call->hits_max = hits_wanted(call);
    if (call->hits_max > 0) {
        MF_TRY(search_or_remember(call, err));
        order_hits(call);
    }
    MF_TRY(mf_service_read(call->service, call->query->deadline_ns, fetch_read, call,
                           err));
    if (call->service->pool != NULL && mf_user_owes(call->user)) {
        mf_flush_manager_notice(call->service->pool, call->user);
    }
    return MF_OK;
}

static mf_rc answer(mf_service *service, const mf_query *query, mf_arena *arena,
                    mf_results *out, mf_err *err) {
    query_call call = {
        .service = service,
        .query = query,
        .config = mf_settings_get(service->parts.settings),
        .arena = arena,
    };
    MF_TRY(mf_service_find_user(service, query->user_id, &call.user, err));
    call.user_id = mf_user_id(call.user);
    mf_rc rc = run_query(&call, err);
    mf_user_unref(call.user);
    if (rc == MF_OK) {
        *out = (mf_results){.rows = call.rows,
                            .count = call.row_count,
                            .cached = call.cached,
                            .user_has_sessions = call.has_sessions};
    }
    return rc;
}

mf_rc mf_service_query(mf_service *service, const mf_query *query, mf_arena *arena,
                       mf_results *out, mf_err *err) {
    mf_metrics *metrics = service->parts.metrics;
    mf_span span = mf_metrics_begin(metrics, MF_OPERATION_QUERY);
    atomic_fetch_add(&service->queries, 1);
    mf_rc rc = answer(service, query, arena, out, err);
    mf_metrics_end(span, rc);
    if (rc == MF_OK && out->cached) {
        mf_metrics_record(metrics, MF_OPERATION_QUERY_CACHED,
                          mf_now_ns() - span.started_ns, rc);
    }
    return rc;
}
