/* door_fuzz.c - random requests, one after the other, against one living door.
 *
 * The input is a list of requests separated by bytes 0x1E; each is "METHOD
 * target\nheader value\n\nbody", where a header line is a letter and its value.  In
 * targets and bodies a byte 0x01 stands for the user's id, 0x02 for the agent's, 0x03
 * for the session's and 0x04 for a message's id, so that the fuzzer gets behind the
 * look-ups.  Whatever is asked, the answer comes once, is an envelope where it is JSON,
 * and agrees with its status. */
#include <stdint.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "http/door_testing.h"
#include "store/memory/memory_store.h"
#include "text/json.h"

enum { REQUEST_MAX = 64 * 1024, REQUESTS_MAX = 16 };

static mf_testing parts;
static mf_arena *arena;
static char ids[4][64]; /* user, agent, session, message */

static mf_mutex answer_mu;
static mf_cond answered;
static bool done; /* guarded by answer_mu */
static mf_http_reply last;

static void answer(void *ctx, const mf_http_reply *reply) {
    (void)ctx;
    mf_mutex_lock(&answer_mu);
    MF_ASSERT(!done);
    last = *reply;
    done = true;
    mf_cond_signal(&answered);
    mf_mutex_unlock(&answer_mu);
}

static yyjson_val *ask(mf_http_request *request) {
    request->arena = arena;
    request->deadline_ns = mf_deadline_in_ms(2000);
    done = false;
    mf_door_handle(parts.door, request, answer, NULL);
    mf_mutex_lock(&answer_mu);
    while (!done) {
        MF_ASSERT(mf_cond_wait(&answered, &answer_mu, mf_deadline_in_ms(30000)));
    }
    mf_mutex_unlock(&answer_mu);
    yyjson_doc *doc = NULL;
    if (last.body.len == 0 || strcmp(last.content_type, "application/json") != 0) {
        return NULL;
    }
    MF_ASSERT(mf_json_parse(last.body, arena, &doc, NULL) == MF_OK);
    return yyjson_doc_get_root(doc);
}

static void make(const char *path, mf_str body, const char *member, char id[64]) {
    mf_http_request request = {.method = MF_STR("POST"),
                               .path = mf_str_from(path),
                               .body = body,
                               .trusted = true};
    yyjson_val *value = yyjson_ptr_get(ask(&request), member);
    MF_ASSERT(yyjson_is_str(value));
    (void)snprintf(id, 64, "%s", yyjson_get_str(value));
}

/* The world the requests meet; made anew for each input, so that inputs replay
 * alike. */
static void make_world(void) {
    mf_err err = {0};
    static const char *const sets[] = {"server.rate_limit_per_minute=0"};
    mf_store *store = NULL;
    MF_ASSERT(mf_memory_store_open(&store, &err) == MF_OK);
    MF_ASSERT(mf_testing_open(&parts, store, sets, 1, &err) == MF_OK);
    make("/api/v1/users", MF_STR("{\"name\":\"u\"}"), "/data/user/id", ids[0]);
    make("/api/v1/agents", MF_STR("{\"name\":\"a\"}"), "/data/agent/id", ids[1]);
    mf_str body = mf_arena_printf(arena, "{\"user_id\":\"%s\",\"agent_id\":\"%s\"}",
                                  ids[0], ids[1]);
    make("/api/v1/sessions", body, "/data/session/id", ids[2]);
    mf_str path = mf_arena_printf(arena, "/api/v1/sessions/%s/messages", ids[2]);
    make(path.p,
         MF_STR("{\"messages\":[{\"role\":\"user\",\"content\":\"one two three\"}]}"),
         "/data/message_ids/0", ids[3]);
}

/* Puts the ids in place of their marks. */
static mf_str expand(mf_str text) {
    mf_buf out;
    mf_buf_init(&out, REQUEST_MAX * 40);
    for (size_t i = 0; i < text.len; i++) {
        unsigned mark = (unsigned char)text.p[i];
        if (mark >= 1 && mark <= 4) {
            (void)mf_buf_add_str(&out, mf_str_from(ids[mark - 1]));
        } else {
            (void)mf_buf_add(&out, &text.p[i], 1);
        }
    }
    mf_str kept = mf_arena_str(arena, mf_buf_view(&out));
    mf_buf_done(&out);
    return kept;
}

static void read_headers(mf_str *rest, mf_http_request *request) {
    while (rest->len > 0) {
        mf_str line = mf_str_split(rest, '\n');
        if (line.len == 0) {
            return;
        }
        mf_str value = mf_str_sub(line, 1, line.len);
        switch (line.p[0]) {
        case 'i':
            request->idempotency_key = value;
            break;
        case 't':
            request->content_type = value;
            break;
        case 'o':
            request->origin = value;
            break;
        case 'h':
            request->host = value;
            break;
        case 'x':
            request->request_id = value;
            break;
        default:
            break;
        }
    }
}

static void check_reply(yyjson_val *root, mf_str path) {
    MF_ASSERT(last.status >= 200 && last.status < 600 && last.status != 500);
    if (root == NULL || mf_str_find(path, MF_STR("openapi.json"), 0) != SIZE_MAX) {
        return;
    }
    MF_ASSERT(yyjson_obj_size(root) == 5 || yyjson_obj_size(root) == 6);
    MF_ASSERT(yyjson_get_int(yyjson_obj_get(root, "code")) == last.status);
    MF_ASSERT(yyjson_is_obj(yyjson_obj_get(root, "data")) == (last.status < 400));
    MF_ASSERT(yyjson_is_arr(yyjson_obj_get(root, "errors")) == (last.status >= 400));
}

static void send_request(mf_str text) {
    mf_http_request request = {0};
    mf_str line = mf_str_split(&text, '\n');
    request.method = mf_str_split(&line, ' ');
    line = expand(line);
    request.path = mf_str_split(&line, '?');
    request.query = line;
    read_headers(&text, &request);
    request.body = expand(text);
    check_reply(ask(&request), request.path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > REQUEST_MAX) {
        return 0;
    }
    mf_log_setup(MF_LOG_OFF, MF_LOG_TEXT);
    if (mf_arena_new(512 << 20, &arena, NULL) != MF_OK) {
        return 0;
    }
    mf_mutex_init(&answer_mu, MF_RANK_LEAF);
    mf_cond_init(&answered);
    make_world();
    mf_str rest = {(const char *)data, size};
    for (int i = 0; i < REQUESTS_MAX && rest.len > 0; i++) {
        send_request(mf_str_split(&rest, '\x1e'));
        mf_arena_reset(arena);
    }
    mf_testing_close(&parts);
    mf_cond_done(&answered);
    mf_mutex_done(&answer_mu);
    mf_arena_free(arena);
    return 0;
}
