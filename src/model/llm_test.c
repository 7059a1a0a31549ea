/* llm_test.c - a language model's client asks over real HTTP, remembers, tries again,
 * gives up in time, and never tells its key. */
#include "model/llm.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/mutex.h"

enum { REPLIES_MAX = 16, REQUEST_MAX = 65536 };

/* A server that gives one scripted reply per connection, then closes it. */
typedef struct server {
    int fd;
    int port;
    mf_thread thread;
    const char *replies[REPLIES_MAX]; /* the last one is given again and again */
    atomic_int served;
    char request[REQUEST_MAX]; /* the newest */
} server;

#define OK_REPLY(text)                                                                 \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"   \
    "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"" text "\"}}]}"
#define STATUS_REPLY(status)                                                           \
    "HTTP/1.1 " status                                                                 \
    " No\r\nConnection: close\r\nContent-Length: 18\r\n\r\nbad key: sk-secret"

/* Reads head and body; the body's length is told by its header. */
static void read_request(server *s, int fd) {
    size_t len = 0;
    size_t want = SIZE_MAX;
    while (len < want && len < REQUEST_MAX - 1) {
        ssize_t n = read(fd, s->request + len, REQUEST_MAX - 1 - len);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
        s->request[len] = '\0';
        const char *end = strstr(s->request, "\r\n\r\n");
        const char *told = strstr(s->request, "Content-Length: ");
        if (end != NULL && told != NULL) {
            int64_t body = 0;
            mf_str rest = mf_str_from(told + 16);
            (void)mf_str_to_i64(mf_str_split(&rest, '\r'), &body);
            want = (size_t)(end + 4 - s->request) + (size_t)body;
        }
    }
}

static void serve(void *arg) {
    server *s = arg;
    for (;;) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0) {
            return;
        }
        read_request(s, fd);
        int n = atomic_load(&s->served);
        const char *reply = NULL;
        for (int i = 0; i <= n && i < REPLIES_MAX && s->replies[i] != NULL; i++) {
            reply = s->replies[i];
        }
        size_t len = strlen(reply);
        assert_int_equal(write(fd, reply, len), (ssize_t)len);
        (void)close(fd);
        atomic_fetch_add(&s->served, 1);
    }
}

typedef struct fixture {
    server server;
    mf_llm *llm;
    mf_arena *arena;
    mf_err err;
    size_t live;
} fixture;

static fixture *fixture_new(const char *const *replies, int64_t ttl_ms) {
    static fixture f;
    f = (fixture){.live = mf_alloc_live()};
    for (int i = 0; replies[i] != NULL; i++) {
        f.server.replies[i] = replies[i];
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    f.server.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(f.server.fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(f.server.fd, 16), 0);
    assert_int_equal(getsockname(f.server.fd, (struct sockaddr *)&address, &size), 0);
    f.server.port = ntohs(address.sin_port);
    assert_int_equal(
        mf_thread_start(&f.server.thread, "server", serve, &f.server, &f.err), MF_OK);
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", f.server.port);
    mf_llm_options options = {.base_url = url,
                              .model = "test-model",
                              .api_key = "sk-secret",
                              .timeout_ms = 5000,
                              .cache_ttl_ms = ttl_ms,
                              .cache_count_max = 10,
                              .cache_bytes_max = 1 << 20};
    assert_int_equal(mf_llm_open(&options, &f.llm, &f.err), MF_OK);
    assert_int_equal(mf_arena_new(1 << 24, &f.arena, &f.err), MF_OK);
    return &f;
}

static void fixture_free(fixture *f) {
    (void)shutdown(f->server.fd, SHUT_RDWR);
    mf_thread_join(&f->server.thread);
    (void)close(f->server.fd);
    mf_llm_close(f->llm);
    mf_arena_free(f->arena);
    assert_int_equal(mf_alloc_live(), f->live);
}

static mf_llm_call prompt(const char *text) {
    return (mf_llm_call){.system = MF_STR("Be brief."),
                         .user = mf_str_from(text),
                         .tokens_max = 7,
                         .deadline_ns = mf_deadline_in_ms(20000)};
}

static mf_llm_stats stats_of(fixture *f) {
    mf_llm_stats stats;
    mf_llm_get_stats(f->llm, &stats);
    return stats;
}

static void a_prompt_goes_out_and_the_answer_comes_back(void **state) {
    (void)state;
    const char *replies[] = {OK_REPLY("  Hello \\\"you\\\" \\n"), NULL};
    fixture *f = fixture_new(replies, 0);
    mf_llm_call call = prompt("What \"is\" this?");
    mf_str answer;
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err), MF_OK);
    assert_true(mf_str_eq(answer, MF_STR("Hello \"you\"")));
    const char *sent = f->server.request;
    assert_non_null(strstr(sent, "POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_non_null(strstr(sent, "Authorization: Bearer sk-secret\r\n"));
    assert_non_null(strstr(sent, "\"model\":\"test-model\""));
    assert_non_null(strstr(sent, "{\"role\":\"system\",\"content\":\"Be brief.\"}"));
    assert_non_null(strstr(sent, "\"content\":\"What \\\"is\\\" this?\""));
    assert_non_null(strstr(sent, "\"max_tokens\":7"));
    assert_int_equal(stats_of(f).request_ns.count, 1);
    fixture_free(f);
}

static void the_same_prompt_is_asked_once(void **state) {
    (void)state;
    const char *replies[] = {OK_REPLY("one"), OK_REPLY("two"), NULL};
    fixture *f = fixture_new(replies, 60000);
    mf_llm_call call = prompt("same");
    mf_str answer;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, NULL), MF_OK);
        assert_true(mf_str_eq(answer, MF_STR("one")));
    }
    call.user = MF_STR("other");
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, NULL), MF_OK);
    assert_true(mf_str_eq(answer, MF_STR("two")));
    mf_llm_stats stats = stats_of(f);
    assert_int_equal(stats.calls, 4);
    assert_int_equal(stats.cached, 2);
    assert_int_equal(stats.requests, 2);
    assert_int_equal(stats.cache.size, 2);
    mf_llm_forget(f->llm);
    assert_int_equal(stats_of(f).cache.size, 0);
    fixture_free(f);
}

static void what_fails_in_passing_is_tried_again(void **state) {
    (void)state;
    const char *replies[] = {STATUS_REPLY("503"), OK_REPLY("at last"), NULL};
    fixture *f = fixture_new(replies, 0);
    mf_llm_call call = prompt("x");
    mf_str answer;
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err), MF_OK);
    assert_true(mf_str_eq(answer, MF_STR("at last")));
    assert_int_equal(stats_of(f).retries, 1);
    assert_int_equal(stats_of(f).failed, 0);
    fixture_free(f);
}

static void a_refused_key_is_told_at_once_and_not_shown(void **state) {
    (void)state;
    const char *replies[] = {STATUS_REPLY("401"), NULL};
    fixture *f = fixture_new(replies, 0);
    mf_llm_call call = prompt("x");
    mf_str answer = MF_STR("untouched");
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err), MF_E_AUTH);
    assert_null(strstr(f->err.text, "sk-secret"));
    assert_true(mf_str_eq(answer, MF_STR("untouched")));
    assert_int_equal(stats_of(f).requests, 1);
    assert_int_equal(stats_of(f).breaker.failures, 0); /* the server is well */
    fixture_free(f);
}

static void answers_that_are_none_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nnot json",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"choices\":[]}",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        "{\"choices\":[{\"message\":{\"content\":null}}]}",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *replies[] = {bad[i], NULL};
        fixture *f = fixture_new(replies, 60000);
        mf_llm_call call = prompt("x");
        mf_str answer;
        assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err),
                         MF_E_FORMAT);
        assert_int_equal(stats_of(f).cache.size, 0); /* not remembered */
        fixture_free(f);
    }
}

static void a_server_that_goes_on_failing_is_left_alone(void **state) {
    (void)state;
    const char *replies[] = {STATUS_REPLY("500"), NULL};
    fixture *f = fixture_new(replies, 0);
    mf_llm_call call = prompt("x");
    mf_str answer;
    for (int i = 0; i < 5; i++) {
        call.deadline_ns = mf_now_ns() + 200 * MF_NS_PER_MS; /* not for a second try */
        assert_int_not_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, NULL),
                             MF_OK);
    }
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err), MF_E_BUSY);
    mf_llm_stats stats = stats_of(f);
    assert_int_equal(stats.requests, 5);
    assert_int_equal(stats.breaker.state, MF_BREAKER_OPEN);
    assert_int_equal(stats.failed, 6);
    fixture_free(f);
}

static void a_call_ends_at_its_deadline_and_when_called_off(void **state) {
    (void)state;
    const char *replies[] = {OK_REPLY("x"), NULL};
    fixture *f = fixture_new(replies, 0);
    mf_llm_call call = prompt("x");
    mf_str answer;
    call.deadline_ns = mf_now_ns() - 1;
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err),
                     MF_E_TIMEOUT);
    atomic_bool stop = true;
    call = prompt("x");
    call.stop = &stop;
    assert_int_equal(mf_llm_chat(f->llm, &call, f->arena, &answer, &f->err),
                     MF_E_STOPPING);
    fixture_free(f);
}

static void settings_that_cannot_work_are_named(void **state) {
    (void)state;
    static const struct {
        const char *url, *model, *field;
    } rows[] = {
        {"", "m", "llm.base_url"},
        {"ftp://127.0.0.1", "m", "llm.base_url"},
        {"http://[", "m", "llm.base_url"},
        {"http://127.0.0.1:1", "", "llm.model"},
    };
    size_t live = mf_alloc_live();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mf_llm_options options = {
            .base_url = rows[i].url, .model = rows[i].model, .timeout_ms = 1000};
        mf_llm *llm = NULL;
        mf_err err = {0};
        assert_int_equal(mf_llm_open(&options, &llm, &err), MF_E_INVAL);
        assert_string_equal(err.field, rows[i].field);
        assert_null(llm);
    }
    mf_llm_close(NULL);
    assert_int_equal(mf_alloc_live(), live);
}

static void an_address_is_shown_without_its_secrets(void **state) {
    (void)state;
    mf_llm_options options = {.base_url = "http://joe:pw@127.0.0.1:1/v1?key=abc",
                              .model = "m",
                              .timeout_ms = 1000};
    mf_llm *llm = NULL;
    mf_llm_stats stats;
    assert_int_equal(mf_llm_open(&options, &llm, NULL), MF_OK);
    mf_llm_get_stats(llm, &stats);
    assert_string_equal(stats.base_url, "http://127.0.0.1:1/v1");
    mf_llm_close(llm);
}

/* --- a server of its own --- */

typedef struct process {
    pid_t pid;
    char url[128];
} process;

/* A language model in another process that repeats its prompt (tests/integration). */
static process process_start(void) {
    process p = {.pid = -1};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    p.pid = fork();
    assert_true(p.pid >= 0);
    if (p.pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)execlp("python3", "python3",
                     MF_TEST_DATA_DIR "/../integration/echo_llm.py", (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && memchr(p.url, '\n', len) == NULL && len < sizeof p.url - 1) {
        n = read(ends[0], p.url + len, sizeof p.url - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    (void)close(ends[0]);
    assert_true(len > 0);
    p.url[strcspn(p.url, "\n")] = '\0';
    return p;
}

static void process_stop(const process *p) {
    int status = 0;
    assert_int_equal(kill(p->pid, SIGKILL), 0);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
}

static void another_process_answers_and_its_death_is_told(void **state) {
    (void)state;
    process p = process_start();
    mf_llm_options options = {.base_url = p.url, .model = "echo", .timeout_ms = 30000};
    mf_llm *llm = NULL;
    mf_arena *arena = NULL;
    mf_err err = {0};
    mf_str answer;
    assert_int_equal(mf_llm_open(&options, &llm, &err), MF_OK);
    assert_int_equal(mf_arena_new(1 << 24, &arena, &err), MF_OK);
    mf_llm_call call = prompt("Grüße \xF0\x9F\x90\xA6");
    call.deadline_ns = mf_deadline_in_ms(60000);
    assert_int_equal(mf_llm_chat(llm, &call, arena, &answer, &err), MF_OK);
    assert_true(
        mf_str_eq(answer, MF_STR("system: Be brief.\nuser: Grüße \xF0\x9F\x90\xA6")));
    process_stop(&p);
    call.deadline_ns = mf_now_ns() + 200 * MF_NS_PER_MS; /* not for a second try */
    assert_int_not_equal(mf_llm_chat(llm, &call, arena, &answer, &err), MF_OK);
    mf_arena_free(arena);
    mf_llm_close(llm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_process_answers_and_its_death_is_told),
        cmocka_unit_test(a_prompt_goes_out_and_the_answer_comes_back),
        cmocka_unit_test(the_same_prompt_is_asked_once),
        cmocka_unit_test(what_fails_in_passing_is_tried_again),
        cmocka_unit_test(a_refused_key_is_told_at_once_and_not_shown),
        cmocka_unit_test(answers_that_are_none_are_refused),
        cmocka_unit_test(a_server_that_goes_on_failing_is_left_alone),
        cmocka_unit_test(a_call_ends_at_its_deadline_and_when_called_off),
        cmocka_unit_test(settings_that_cannot_work_are_named),
        cmocka_unit_test(an_address_is_shown_without_its_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
