/* query.c - what do we know that bears on this?
 *
 *   who asks (user, session, agent) -> the same question before? -> clean the text
 * -> encode the question -> a near duplicate before? -> search the user's index
 * -> keep the answer -> order -> fetch the texts
 *
 * One search answers from everything there is: a message is in the user's index from
 * the commit that made it durable, so the round and hybrid buffers hold nothing that
 * the index does not, and knowledge is in the same index.  Texts are always fetched,
 * also for a cached answer, which therefore holds no text and shows no text that is
 * gone.
 *
 * An answer is kept with the version the user's data had just before the search: a
 * write that lands in between makes it old at once.  Up to `buffer.query.max_size`
 * results, a search always finds that many and what is asked for is cut from them, so
 * one kept answer serves every smaller question.  For a large population it finds
 * candidates for near duplicates too: scoring those again is cheaper than the search;
 * for a small one it is not, and they are not kept.
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
    mf_index_weights weights;
    mf_str question; /* cleaned, for the encoder and the reranker */
    mf_index_query wanted;
    mf_query_buffer *answers; /* NULL: nothing is remembered */
    size_t hits_max;
    mf_index_hit *hits;
    size_t hit_count;
    mf_answer_source source;
    mf_result *rows;
    size_t row_count;
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

/* Fills call->wanted: the question as the index takes it. */
static mf_rc prepare_question(query_call *call, mf_err *err) {
    const mf_query *q = call->query;
    bool has_model = call->service->parts.embedder != NULL;
    mf_query_text text;
    MF_TRY(mf_query_text_clean(call->arena, q->text, &text, err));
    call->question = text.encoder;
    call->wanted = (mf_index_query){
        .text = text.words,
        .path = has_model ? q->path : MF_PATH_KEYWORD,
        .messages = q->messages,
        .knowledge = q->knowledge,
        .agent_id = call->agent_id,
        .session_also = call->session_id,
        .hits_max = call->hits_max,
    };
    if (call->wanted.path != MF_PATH_KEYWORD) {
        float *vector = NULL;
        MF_TRY(encode_question(call, text.encoder, &vector, err));
        call->wanted.vector = vector;
    }
    return MF_OK;
}

static mf_rc reserve_hits(query_call *call, size_t hits_max, mf_err *err) {
    call->hits = mf_arena_alloc_array(call->arena, hits_max + 1, sizeof(call->hits[0]));
    if (call->hits == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu hits", hits_max);
    }
    return MF_OK;
}

/* --- what is remembered --- */

/* Of everything that shapes an answer and is a setting. */
static uint64_t settings_key(const query_call *call) {
    const mf_index_weights *w = &call->weights;
    double values[] = {
        w->vector,
        w->keyword,
        w->neighbour,
        w->session,
        w->bm25_k1,
        w->bm25_b,
        (double)w->neighbour_span,
        call->config->rerank_use_rerank ? (double)call->config->rerank_candidates : 0,
        (double)call->config->buffer_query_max_size};
    return mf_str_hash((mf_str){(const char *)values, sizeof values});
}

static mf_query_key key_of(const query_call *call) {
    const mf_query *q = call->query;
    return (mf_query_key){.text = q->text,
                          .user_id = call->user_id,
                          .session_id = call->session_id,
                          .agent_id = call->agent_id,
                          .path = q->path,
                          .messages = q->messages,
                          .knowledge = q->knowledge,
                          .settings = settings_key(call)};
}

/* Can a near duplicate of this question be worth knowing?  Then *question is how it is
 * recognised.  A reranker reads question and texts anew each time. */
static bool name_question(const query_call *call, mf_question *question) {
    if (call->answers == NULL || call->wanted.vector == NULL ||
        call->config->rerank_use_rerank ||
        call->config->buffer_query_similar_threshold <= 0 ||
        mf_user_documents(call->user) < MF_INDEX_RESCORE_POPULATION) {
        return false;
    }
    question->vector = call->wanted.vector;
    question->dim = mf_embedder_dim(call->service->parts.embedder);
    return mf_index_words_key(call->wanted.text, &question->words, NULL) == MF_OK;
}

/* Answers from the candidates of a near duplicate, if there is one: then call->source
 * says so. */
static mf_rc search_candidates(query_call *call, const mf_query_key *key,
                               const mf_question *question, uint64_t version,
                               mf_err *err) {
    mf_index_key *keys;
    size_t key_count;
    bool done = false;
    if (!mf_query_buffer_get_like(call->answers, key, question,
                                  call->config->buffer_query_similar_threshold, version,
                                  call->hits_max, call->arena, &keys, &key_count)) {
        return MF_OK;
    }
    MF_TRY(reserve_hits(call, call->hits_max, err));
    MF_TRY(mf_user_rescore(call->user, &call->wanted, &call->weights, keys, key_count,
                           call->hits, &call->hit_count, &done, err));
    if (done) {
        call->source = MF_ANSWER_SIMILAR;
        mf_query_buffer_put(call->answers, key, version, call->hits, call->hit_count,
                            call->hits_max);
    }
    return MF_OK;
}

/* How many a search finds beyond what is asked for, to be remembered. */
static size_t search_depth(const query_call *call, bool candidates) {
    size_t most = (size_t)call->config->buffer_query_max_size;
    size_t depth = call->hits_max > most ? call->hits_max : most;
    if (call->config->rerank_use_rerank &&
        depth < (size_t)call->config->rerank_candidates) {
        return (size_t)call->config->rerank_candidates;
    }
    if (candidates && depth * MF_QUERY_CANDIDATES <= MF_QUERY_CANDIDATES_MAX) {
        depth *= MF_QUERY_CANDIDATES;
    }
    return depth;
}

/* `question` is NULL unless near duplicates are of use. */
static mf_rc search_all(query_call *call, const mf_query_key *key,
                        const mf_question *question, mf_err *err) {
    size_t most = (size_t)call->config->buffer_query_max_size;
    call->wanted.hits_max = search_depth(call, question != NULL);
    MF_TRY(reserve_hits(call, call->wanted.hits_max, err));
    uint64_t version;
    size_t found;
    MF_TRY(mf_user_search(call->user, &call->wanted, &call->weights,
                          call->query->deadline_ns, call->hits, &found, &version, err));
    size_t count = 0;
    for (size_t i = 0; i < found; i++) {
        if (call->wanted.vector != NULL || call->hits[i].keyword > 0) {
            call->hits[count++] = call->hits[i];
        }
    }
    bool all = found < call->wanted.hits_max;
    if (call->config->rerank_use_rerank) {
        const mf_rerank_call rerank = {.user_id = call->user_id,
                                       .question = call->question,
                                       .deadline_ns = call->query->deadline_ns,
                                       .hits_max = count};
        mf_rerank_hits(call->service, &rerank, call->arena, call->hits, &count);
    }
    if (question != NULL && call->wanted.hits_max <= MF_QUERY_CANDIDATES_MAX) {
        mf_query_buffer_put_like(call->answers, key, question, version, call->hits,
                                 count, all ? MF_QUERY_ALL : call->wanted.hits_max);
    }
    if (call->answers != NULL && all && count <= most) {
        mf_query_buffer_put(call->answers, key, version, call->hits, count,
                            MF_QUERY_ALL);
    } else if (call->answers != NULL && call->hits_max <= most) {
        mf_query_buffer_put(call->answers, key, version, call->hits,
                            count < most ? count : most, most);
    }
    call->hit_count = count < call->hits_max ? count : call->hits_max;
    return MF_OK;
}

static mf_rc search(query_call *call, const mf_query_key *key, uint64_t version,
                    mf_err *err) {
    mf_question question;
    MF_TRY(prepare_question(call, err));
    bool named = name_question(call, &question);
    if (named) {
        MF_TRY(search_candidates(call, key, &question, version, err));
    }
    return call->source == MF_ANSWER_SIMILAR
               ? MF_OK
               : search_all(call, key, named ? &question : NULL, err);
}

static void count_source(const query_call *call) {
    mf_service *service = call->service;
    atomic_fetch_add(call->source == MF_ANSWER_CACHED    ? &service->cache_hits
                     : call->source == MF_ANSWER_SIMILAR ? &service->similar_hits
                                                         : &service->cache_misses,
                     1);
    if (call->answers != NULL) {
        mf_query_buffer_count(call->answers, call->source);
    }
}

static mf_rc search_or_remember(query_call *call, mf_err *err) {
    call->answers = mf_user_answers(call->user);
    call->weights = weights_of(call->config);
    mf_query_key key = key_of(call);
    uint64_t version = mf_user_version(call->user);
    if (call->answers != NULL &&
        mf_query_buffer_get(call->answers, &key, version, call->hits_max, call->arena,
                            &call->hits, &call->hit_count)) {
        call->source = MF_ANSWER_CACHED;
    } else {
        MF_TRY(search(call, &key, version, err));
        mf_user_account(call->user);
    }
    count_source(call);
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

/* The best top_k are chosen by score; the question, or else the settings, say in which
 * order they are given. */
static void order_hits(query_call *call) {
    const mf_query *q = call->query;
    bool by_time = q->sort_by == MF_SORT_AS_SET
                       ? strcmp(call->config->buffer_query_sort_by, "timestamp") == 0
                       : q->sort_by == MF_SORT_TIMESTAMP;
    bool rising = q->order == MF_ORDER_AS_SET
                      ? strcmp(call->config->buffer_query_order, "asc") == 0
                      : q->order == MF_ORDER_ASC;
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
    int64_t top_k =
        q->top_k == MF_TOP_K_OF_SETTINGS ? call->config->retrieval_top_k : q->top_k;
    if (top_k <= 0 || (!q->messages && !q->knowledge) || q->text.len == 0) {
        return 0;
    }
    int64_t most = call->config->retrieval_top_k_max;
    return (size_t)(top_k < most ? top_k : most);
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
    if (mf_user_owes(call->user)) {
        mf_flush_manager_notice(call->service->flusher, call->user);
    }
    return MF_OK;
}

static mf_rc answer(mf_service *service, const mf_query *query, mf_arena *arena,
                    mf_results *out, mf_err *err) {
    query_call call = {
        .service = service,
        .query = query,
        .arena = arena,
    };
    MF_TRY(mf_service_find_user(service, query->user_id, &call.user, err));
    call.user_id = mf_user_id(call.user);
    mf_user_config own = mf_user_config_hold(call.user);
    call.config = own.config;
    mf_rc rc = run_query(&call, err);
    mf_user_config_release(&own);
    mf_user_unref(call.user);
    if (rc == MF_OK) {
        *out = (mf_results){.rows = call.rows,
                            .count = call.row_count,
                            .source = call.source,
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
    if (rc == MF_OK && out->source != MF_ANSWER_SEARCHED) {
        mf_metrics_record(metrics,
                          out->source == MF_ANSWER_CACHED ? MF_OPERATION_QUERY_CACHED
                                                          : MF_OPERATION_QUERY_SIMILAR,
                          mf_now_ns() - span.started_ns, rc);
    }
    return rc;
}
