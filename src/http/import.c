/* import.c - messages given as JSON Lines, by names instead of ids.
 *
 * Each line is {"user", "agent"?, "session", "role", "content", "created_at"?,
 * "metadata"?, "round"?}; what does not exist yet is created.  Neighbouring lines of
 * one session with the same `round` form one round, every other line is a round of its
 * own.
 *
 * All lines are read and checked before the first is stored.  Rounds are then handed to
 * the service in order: up to buffer.flush.batch_write_threshold neighbouring rounds of
 * one user as one write, and many writes at a time, so that they share its commits;
 * order within a session is the order of handing in.  Should storing fail half-way
 * (disk full, stop), the writes before the failure stay, and the reply says how many
 * messages there are. */
#include <stdio.h>

#include "base/clock.h"
#include "base/map.h"
#include "http/handlers.h"
#include "http/messages.h"
#include "text/timestamp.h"

enum {
    LINES_MAX = 1 << 20,
    IN_FLIGHT_MAX = 64 /* writes handed in and not yet answered */
};

static const char DEFAULT_AGENT[] = "agent_default";

typedef struct import_line {
    mf_str user, agent, session, round; /* round .p NULL: none */
    size_t session_index;
} import_line;

/* A session that lines name, once. */
typedef struct import_session {
    mf_str user, agent, name;
    char id[MF_UUID_TEXT + 1];
} import_session;

typedef struct importer {
    mf_call *call;
    mf_arena *arena;
    import_line *lines;
    mf_new_message *messages; /* parallel to `lines` */
    size_t line_count;
    import_session *sessions;
    size_t session_count, user_count;
    mf_map *users, *keys; /* names seen; keys name sessions */
} importer;

/* --- reading --- */

static mf_rc read_time(mf_call *call, int64_t *out, mf_err *err) {
    const mf_text_rule rule = {.blank = true, .bytes_max = MF_NAME_BYTES_MAX};
    mf_str text;
    MF_TRY(mf_call_text(call, "created_at", rule, &text, err));
    if (text.p != NULL && !mf_timestamp_parse(text, out)) {
        return mf_call_invalid(call, "datetime_parsing", "created_at", err,
                               "created_at must be an ISO 8601 time");
    }
    return MF_OK;
}

/* A label for the round: a string, or a number as its digits. */
static mf_rc read_round(mf_call *call, mf_str *out, mf_err *err) {
    yyjson_val *value = yyjson_obj_get(call->body, "round");
    if (yyjson_is_int(value)) {
        *out = mf_arena_printf(call->request.arena, "#%lld",
                               (long long)yyjson_get_sint(value));
        return out->p != NULL ? MF_OK
                              : MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    const mf_text_rule rule = {.blank = true, .bytes_max = MF_NAME_BYTES_MAX};
    return mf_call_text(call, "round", rule, out, err);
}

static mf_rc read_line(importer *im, mf_str text, import_line *line,
                       mf_new_message *message, mf_err *err) {
    const mf_text_rule name = {.required = true, .bytes_max = MF_NAME_BYTES_MAX};
    const mf_text_rule maybe = {.bytes_max = MF_NAME_BYTES_MAX};
    mf_call *call = im->call;
    yyjson_doc *doc = NULL;
    call->invalid_type = "json_invalid";
    MF_TRY(mf_json_parse(text, im->arena, &doc, err));
    call->body = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(call->body)) {
        return mf_call_invalid(call, "object_type", "", err,
                               "a line must be a JSON object");
    }
    MF_TRY(mf_call_text(call, "user", name, &line->user, err));
    MF_TRY(mf_call_text(call, "agent", maybe, &line->agent, err));
    MF_TRY(mf_call_text(call, "session", name, &line->session, err));
    MF_TRY(read_round(call, &line->round, err));
    if (line->agent.p == NULL) {
        line->agent = MF_STR(DEFAULT_AGENT);
    }
    MF_TRY(mf_message_read(call, call->body, "", message, err));
    return read_time(call, &message->created_us, err);
}

/* Gives the line its session, noting names seen for the first time. */
static mf_rc note_names(importer *im, import_line *line, mf_err *err) {
    if (mf_map_get(im->users, line->user) == NULL) {
        MF_TRY(mf_map_put(im->users, line->user, im, NULL));
        im->user_count++;
    }
    mf_str key = mf_arena_printf(im->arena, "%zu:%.*s%.*s", line->user.len,
                                 MF_STR_ARGS(line->user), MF_STR_ARGS(line->session));
    if (key.p == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    import_session *session = mf_map_get(im->keys, key);
    if (session == NULL) {
        session = &im->sessions[im->session_count];
        *session = (import_session){line->user, line->agent, line->session, {0}};
        MF_TRY(mf_map_put(im->keys, key, session, NULL));
        im->session_count++;
    }
    line->session_index = (size_t)(session - im->sessions);
    return MF_OK;
}

static size_t count_lines(mf_str body) {
    size_t count = 1;
    for (size_t i = 0; i < body.len; i++) {
        count += body.p[i] == '\n';
    }
    return count;
}

static mf_rc read_lines(importer *im, mf_err *err) {
    mf_str rest = im->call->request.body;
    for (size_t number = 1; rest.p != NULL; number++) {
        mf_str text = mf_str_trim(mf_str_split(&rest, '\n'));
        if (text.len == 0) {
            continue;
        }
        mf_rc rc = read_line(im, text, &im->lines[im->line_count],
                             &im->messages[im->line_count], err);
        rc = rc == MF_OK ? note_names(im, &im->lines[im->line_count], err) : rc;
        if (rc != MF_OK) {
            return mf_err_wrap(err, rc, "line %zu", number);
        }
        im->line_count++;
    }
    return MF_OK;
}

/* --- storing --- */

/* Finds a user or agent by name, or creates it; another request may be doing the
 * same. */
static mf_rc named_id(importer *im, mf_named which, mf_str name, mf_str *id,
                      mf_err *err) {
    mf_service *service = im->call->door->service;
    mf_named_row row;
    mf_rc rc = mf_service_named_find(service, which, name, im->arena, &row, err);
    if (rc == MF_E_NOTFOUND) {
        rc = mf_service_named_create(service, which, name, MF_STR_NONE, im->arena, &row,
                                     err);
    }
    if (rc == MF_E_EXISTS) {
        rc = mf_service_named_find(service, which, name, im->arena, &row, err);
    }
    MF_TRY(rc);
    char text[MF_UUID_TEXT + 1];
    mf_uuid_format(row.id, text);
    *id = mf_arena_str(im->arena, mf_str_from(text));
    return id->p != NULL ? MF_OK
                         : MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
}

static mf_rc open_session(importer *im, import_session *session, mf_err *err) {
    mf_service *service = im->call->door->service;
    mf_str user_id;
    mf_str agent_id;
    mf_session_row row;
    MF_TRY(named_id(im, MF_NAMED_USER, session->user, &user_id, err));
    mf_rc rc =
        mf_service_session_find(service, session->name, user_id, im->arena, &row, err);
    if (rc == MF_E_NOTFOUND) {
        MF_TRY(named_id(im, MF_NAMED_AGENT, session->agent, &agent_id, err));
        rc = mf_service_session_create(service, user_id, agent_id, session->name,
                                       im->arena, &row, err);
    }
    if (rc == MF_E_EXISTS) {
        rc = mf_service_session_find(service, session->name, user_id, im->arena, &row,
                                     err);
    }
    MF_TRY(rc);
    mf_uuid_format(row.id, session->id);
    return MF_OK;
}

/* Writes handed in and what became of them. */
typedef struct flight {
    mf_mutex flight_mu;
    mf_cond landed;
    size_t in_flight; /* the following three guarded by flight_mu */
    size_t stored;
    mf_err first; /* rc MF_OK: nothing failed yet */
} flight;

static void write_done(void *ctx, mf_rc rc, const mf_add_result *result,
                       const mf_err *err) {
    flight *f = ctx;
    mf_mutex_lock(&f->flight_mu);
    if (rc == MF_OK) {
        f->stored += result->count;
    } else if (f->first.rc == MF_OK) {
        f->first = *err;
    }
    f->in_flight--;
    mf_cond_signal(&f->landed);
    mf_mutex_unlock(&f->flight_mu);
}

/* Waits until at most `most` writes are under way; false when one has failed. */
static bool wait_below(flight *f, size_t most) {
    mf_mutex_lock(&f->flight_mu);
    while (f->in_flight > most) {
        (void)mf_cond_wait(&f->landed, &f->flight_mu, MF_NEVER);
    }
    bool good = f->first.rc == MF_OK;
    mf_mutex_unlock(&f->flight_mu);
    return good;
}

static size_t round_end(const importer *im, size_t from) {
    const import_line *first = &im->lines[from];
    size_t end = from + 1;
    while (first->round.p != NULL && end < im->line_count && end - from < MF_LIST_MAX &&
           im->lines[end].session_index == first->session_index &&
           im->lines[end].round.p != NULL &&
           mf_str_eq(im->lines[end].round, first->round)) {
        end++;
    }
    return end;
}

/* Gathers the rounds of one user that follow from `from` on; how many, and *end. */
static size_t gather_rounds(const importer *im, size_t from, mf_new_round *rounds,
                            size_t rounds_max, size_t *end) {
    mf_str user = im->lines[from].user;
    size_t count = 0;
    *end = from;
    while (count < rounds_max && *end < im->line_count &&
           mf_str_eq(im->lines[*end].user, user)) {
        const import_session *session = &im->sessions[im->lines[*end].session_index];
        size_t next = round_end(im, *end);
        rounds[count++] = (mf_new_round){.session_id = mf_str_from(session->id),
                                         .messages = &im->messages[*end],
                                         .count = next - *end};
        *end = next;
    }
    return count;
}

static mf_rc hand_in_rounds(importer *im, flight *f, mf_err *err) {
    size_t rounds_max = (size_t)im->call->config->buffer_flush_batch;
    mf_new_round *rounds = mf_arena_alloc_array(im->arena, rounds_max, sizeof(*rounds));
    if (rounds == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    for (size_t from = 0; from < im->line_count && wait_below(f, IN_FLIGHT_MAX - 1);) {
        size_t end;
        size_t count = gather_rounds(im, from, rounds, rounds_max, &end);
        mf_mutex_lock(&f->flight_mu);
        if (mf_now_ns() > im->call->request.deadline_ns) {
            (void)MF_FAIL(&f->first, MF_E_TIMEOUT, "the request's time is over");
            mf_mutex_unlock(&f->flight_mu);
            break;
        }
        f->in_flight++;
        mf_mutex_unlock(&f->flight_mu);
        mf_service_add_batch(im->call->door->service, rounds, count, write_done, f);
        from = end;
    }
    (void)wait_below(f, 0);
    return MF_OK;
}

static mf_rc store_all(importer *im, mf_err *err) {
    for (size_t i = 0; i < im->session_count; i++) {
        MF_TRY(open_session(im, &im->sessions[i], err));
    }
    flight f = {0};
    mf_mutex_init(&f.flight_mu, MF_RANK_LEAF);
    mf_cond_init(&f.landed);
    mf_rc rc = hand_in_rounds(im, &f, err);
    mf_cond_done(&f.landed);
    mf_mutex_done(&f.flight_mu);
    MF_TRY(rc);
    if (f.first.rc != MF_OK) {
        *err = f.first;
        return mf_err_wrap(err, err->rc, "after %zu of %zu messages", f.stored,
                           im->line_count);
    }
    return MF_OK;
}

static mf_rc import_all(importer *im, mf_err *err) {
    size_t most = count_lines(im->call->request.body);
    if (most > LINES_MAX) {
        return MF_FAIL(err, MF_E_LIMIT, "an import has at most %d lines", LINES_MAX);
    }
    im->lines = mf_arena_alloc_array(im->arena, most, sizeof *im->lines);
    im->messages = mf_arena_alloc_array(im->arena, most, sizeof *im->messages);
    im->sessions = mf_arena_alloc_array(im->arena, most, sizeof *im->sessions);
    if (im->lines == NULL || im->messages == NULL || im->sessions == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the request");
    }
    MF_TRY(mf_map_new(most, &im->users, err));
    MF_TRY(mf_map_new(most, &im->keys, err));
    MF_TRY(read_lines(im, err));
    return store_all(im, err);
}

mf_rc mf_handle_import(mf_call *call, mf_err *err) {
    importer im = {.call = call, .arena = call->request.arena};
    mf_rc rc = import_all(&im, err);
    mf_map_free(im.users);
    mf_map_free(im.keys);
    MF_TRY(rc);
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_u64(call, data, "imported", im.line_count);
    mf_put_u64(call, data, "users", im.user_count);
    mf_put_u64(call, data, "sessions", im.session_count);
    return mf_call_ok(call, 200, "Import finished");
}
