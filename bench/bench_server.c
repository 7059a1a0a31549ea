/* bench_server.c - the whole product under load: the real binary, over loopback HTTP.
 *
 *   bench_server BINARY MODEL_DIR RANKS_FILE FOLDER [quick]
 *
 * Starts `BINARY serve` on an empty store in FOLDER, which should lie on the disk that
 * will hold the data, and prints, in one run:
 *   - durable adds/s at 1, 8 and 64 clients with p50 and p99, each beside a bare loop
 * that appends 300-byte records to a preallocated file with one fdatasync per group of
 *     waiting writers (the least any durable store must do), median of three rounds;
 *   - cold and cached query p50 and p99 at 1k, 10k and 100k chunks of one user;
 *   - texts embedded per second while those chunks were made;
 *   - resident memory: idle without and with the model, and per active user.
 * Clients are closed loops on keep-alive connections in this process, so client and
 * server share the machine, as they do on a developer's laptop.  `quick` stops at 1k
 * chunks and shorter rounds. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CLIENTS_MAX = 64,
    BODY_MAX = 1 << 20,
    SAMPLES_MAX = 4000000,
    RECORD_BYTES = 300,
    ROUNDS = 3,
};

static _Noreturn void die(const char *what) {
    (void)fprintf(stderr, "bench_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *sorted, size_t count, double p) {
    return count == 0 ? 0 : sorted[(size_t)(p * (double)(count - 1))];
}

/* --- the server process --- */

typedef struct server {
    pid_t pid;
    int port;
    char dir[1024];
} server;

static const char *folder;
static pid_t running; /* the server to end with this process; 0: none */

static void end_server(void) {
    if (running != 0) {
        (void)kill(running, SIGKILL);
    }
}

static server start_server(const char *binary, const char *model, const char *ranks) {
    server s = {.pid = 0};
    (void)snprintf(s.dir, sizeof s.dir, "%s/memfuse-bench-XXXXXX", folder);
    if (mkdtemp(s.dir) == NULL) {
        die("mkdtemp");
    }
    char model_set[4200];
    char ranks_set[4200];
    (void)snprintf(model_set, sizeof model_set, "model.dir=%s", model);
    (void)snprintf(ranks_set, sizeof ranks_set, "model.ranks_file=%s", ranks);
    int out[2];
    if (pipe(out) != 0) {
        die("pipe");
    }
    s.pid = fork();
    if (s.pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        const char *argv[] = {binary,
                              "serve",
                              "--data",
                              s.dir,
                              "--listen",
                              "127.0.0.1:0",
                              "--set",
                              "log.level=warn",
                              "--set",
                              "server.rate_limit_per_minute=0",
                              "--set",
                              ranks_set,
                              model[0] ? "--set" : NULL,
                              model_set,
                              NULL};
        (void)execv(binary, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    running = s.pid;
    (void)close(out[1]);
    FILE *lines = fdopen(out[0], "r");
    char line[256];
    while (lines != NULL && fgets(line, sizeof line, lines) != NULL) {
        if (sscanf(line, "ready http://127.0.0.1:%d", &s.port) == 1) {
            return s;
        }
    }
    errno = ECHILD;
    die("the server did not start");
}

static void stop_server(server *s) {
    char command[1100];
    (void)kill(s->pid, SIGTERM);
    (void)waitpid(s->pid, NULL, 0);
    running = 0;
    static const char *const NAMES[] = {"memfuse.db", "memfuse.db-wal",
                                        "memfuse.db-shm", "memfuse.lock",
                                        "memfuse.sock"};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        (void)snprintf(command, sizeof command, "%s/%s", s->dir, NAMES[i]);
        (void)unlink(command);
    }
    (void)rmdir(s->dir);
}

static double rss_mb(const server *s) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)s->pid);
    FILE *f = fopen(path, "r");
    long pages = 0;
    if (f == NULL || fscanf(f, "%*d %ld", &pages) != 1) {
        die(path);
    }
    (void)fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1048576.0;
}

/* --- one connection --- */

typedef struct client {
    int fd;
    char *out; /* the request being sent */
    size_t out_len, out_done;
    char *in; /* the reply so far */
    size_t in_len;
    int64_t started_ns;
} client;

static int open_socket(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        die("connect");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void client_open(client *c, int port) {
    memset(c, 0, sizeof *c);
    c->fd = open_socket(port);
    c->out = malloc(BODY_MAX + 1024);
    c->in = malloc(BODY_MAX + 1024);
    if (c->out == NULL || c->in == NULL) {
        die("malloc");
    }
}

static void client_close(client *c) {
    (void)close(c->fd);
    free(c->out);
    free(c->in);
}

static void set_request(client *c, const char *method, const char *path,
                        const char *body) {
    int n = snprintf(
        c->out, BODY_MAX + 1024,
        "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        method, path, strlen(body), body);
    c->out_len = (size_t)n;
    c->out_done = c->in_len = 0;
}

/* The status once the reply is whole, else 0. */
static int reply_status(client *c) {
    c->in[c->in_len] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    char *length = strcasestr(c->in, "content-length:");
    if (end == NULL || length == NULL ||
        c->in_len < (size_t)(end + 4 - c->in) + strtoul(length + 15, NULL, 10)) {
        return 0;
    }
    return (int)strtol(c->in + 9, NULL, 10);
}

static int exchange(client *c, const char *method, const char *path, const char *body) {
    set_request(c, method, path, body);
    for (ssize_t n; c->out_done < c->out_len; c->out_done += (size_t)n) {
        if ((n = write(c->fd, c->out + c->out_done, c->out_len - c->out_done)) <= 0) {
            die("write");
        }
    }
    for (int status;;) {
        ssize_t n = read(c->fd, c->in + c->in_len, BODY_MAX - c->in_len);
        if (n <= 0) {
            die("read");
        }
        c->in_len += (size_t)n;
        if ((status = reply_status(c)) != 0) {
            return status;
        }
    }
}

static void expect(int status, int wanted, const client *c, const char *what) {
    if (status != wanted) {
        (void)fprintf(stderr, "bench_server: %s answered %d: %s\n", what, status,
                      c->in);
        exit(1);
    }
}

static void find_text(const client *c, const char *before, char *out, size_t size) {
    const char *p = strstr(c->in, before);
    size_t n = 0;
    for (p = p != NULL ? p + strlen(before) : "";
         *p != '"' && *p != '\0' && n + 1 < size;) {
        out[n++] = *p++;
    }
    out[n] = '\0';
}

typedef struct ids {
    char user[40], agent[40], session[40];
} ids;

static ids make_session(client *c, const char *name) {
    ids i;
    char body[256];
    (void)snprintf(body, sizeof body, "{\"name\":\"%s\"}", name);
    expect(exchange(c, "POST", "/api/v1/users", body), 201, c, "user");
    find_text(c, "\"id\":\"", i.user, sizeof i.user);
    (void)exchange(c, "POST", "/api/v1/agents", "{\"name\":\"bench\"}");
    expect(exchange(c, "GET", "/api/v1/agents?name=bench", ""), 200, c, "agent");
    find_text(c, "\"id\":\"", i.agent, sizeof i.agent);
    (void)snprintf(body, sizeof body,
                   "{\"user_id\":\"%s\",\"agent_id\":\"%s\",\"name\":\"s\"}", i.user,
                   i.agent);
    expect(exchange(c, "POST", "/api/v1/sessions", body), 201, c, "session");
    find_text(c, "\"id\":\"", i.session, sizeof i.session);
    return i;
}

/* --- text --- */

static uint64_t random_state = 88172645463325252u;

static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static const char *const WORDS[] = {
    "garden",  "train",   "doctor",  "music",   "river",   "kitchen",
    "project", "holiday", "winter",  "budget",  "sister",  "laptop",
    "coffee",  "market",  "museum",  "bicycle", "meeting", "recipe",
    "weather", "ticket",  "school",  "puppy",   "guitar",  "painting",
    "running", "library", "dentist", "moved",   "bought",  "likes",
    "visited", "forgot",  "planned", "learned", "called",  "prefers"};

enum { SENTENCE_MAX = 256 }; /* room for ten words with their numbers */

static void sentence(char out[SENTENCE_MAX], size_t words) {
    size_t n = 0;
    for (size_t i = 0; i < words; i++) {
        uint64_t r = random_next();
        char number[8] = "";
        if ((r >> 32) % 7 == 0) {
            (void)snprintf(number, sizeof number, " %u", (unsigned)((r >> 40) % 5000));
        }
        n += (size_t)snprintf(out + n, SENTENCE_MAX - n, "%s%s%s", i ? " " : "",
                              WORDS[r % (sizeof WORDS / sizeof WORDS[0])], number);
    }
}

/* --- adds --- */

typedef struct load {
    double per_s, p50_ms, p99_ms;
} load;

static double *samples;

static load summarise(size_t count, int64_t took_ns) {
    qsort(samples, count, sizeof *samples, by_value);
    return (load){(double)count * 1e9 / (double)took_ns,
                  percentile(samples, count, 0.5), percentile(samples, count, 0.99)};
}

/* A message of 300 bytes, the payload the bare loop writes too.  Each client makes its
 * own once and sends it again and again, so that little of the time is the client's. */
static void make_add(client *c, const char *path) {
    char body[512];
    int n =
        snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    char text[SENTENCE_MAX];
    sentence(text, 8);
    n += snprintf(body + n, sizeof body - (size_t)n, "%s %016llx", text,
                  (unsigned long long)random_next());
    for (; n < RECORD_BYTES - 4; n++) {
        body[n] = n % 9 ? 'x' : ' ';
    }
    memcpy(body + n, "\"}]}", 5);
    set_request(c, "POST", path, body);
}

static void next_add(client *c) {
    c->out_done = c->in_len = 0;
    c->started_ns = now_ns();
}

static void send_more(client *c) {
    ssize_t n =
        send(c->fd, c->out + c->out_done, c->out_len - c->out_done, MSG_NOSIGNAL);
    if (n > 0) {
        c->out_done += (size_t)n;
    } else if (errno != EAGAIN) {
        die("send");
    }
}

static load run_adds(const server *s, int count, int64_t duration_ns) {
    static client clients[CLIENTS_MAX];
    static char paths[CLIENTS_MAX][128];
    static int run;
    int poll_fd = epoll_create1(0);
    run++;
    for (int i = 0; i < count; i++) {
        char name[64];
        client_open(&clients[i], s->port);
        (void)snprintf(name, sizeof name, "add-%d-%d", run, i);
        ids made = make_session(&clients[i], name);
        (void)snprintf(paths[i], sizeof paths[i], "/api/v1/sessions/%s/messages",
                       made.session);
        (void)fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        (void)epoll_ctl(poll_fd, EPOLL_CTL_ADD, clients[i].fd, &e);
    }
    size_t done = 0;
    int64_t start = now_ns();
    for (int i = 0; i < count; i++) {
        make_add(&clients[i], paths[i]);
        next_add(&clients[i]);
        send_more(&clients[i]);
    }
    while (now_ns() - start < duration_ns) {
        struct epoll_event events[CLIENTS_MAX];
        int n = epoll_wait(poll_fd, events, CLIENTS_MAX, 1000);
        for (int k = 0; k < n; k++) {
            client *c = &clients[events[k].data.u32];
            ssize_t got = read(c->fd, c->in + c->in_len, BODY_MAX - c->in_len);
            if (got <= 0) {
                die("read");
            }
            c->in_len += (size_t)got;
            int status = reply_status(c);
            if (status != 0) {
                expect(status, 201, c, "add");
                samples[done++] = (double)(now_ns() - c->started_ns) / 1e6;
                next_add(c);
                send_more(c);
            }
        }
    }
    int64_t took = now_ns() - start;
    for (int i = 0; i < count; i++) {
        client_close(&clients[i]);
    }
    (void)close(poll_fd);
    return summarise(done, took);
}

/* --- the bare loop: group fdatasync on a preallocated file --- */

typedef struct bare {
    pthread_mutex_t mu;
    pthread_cond_t work, flushed;
    int waiting;
    uint64_t collecting; /* number of the group that takes writers now */
    uint64_t finished;   /* groups on disk */
    bool stop;
    size_t done;
    int fd;
    off_t at;
} bare;

static void *bare_writer(void *arg) {
    bare *b = arg;
    pthread_mutex_lock(&b->mu);
    while (!b->stop) {
        int64_t start = now_ns();
        b->waiting++;
        uint64_t mine = b->collecting;
        pthread_cond_signal(&b->work);
        while (b->finished <= mine && !b->stop) {
            pthread_cond_wait(&b->flushed, &b->mu);
        }
        if (!b->stop && b->done < SAMPLES_MAX) {
            samples[b->done++] = (double)(now_ns() - start) / 1e6;
        }
    }
    pthread_mutex_unlock(&b->mu);
    return NULL;
}

static load run_bare(const char *dir, int count, int64_t duration_ns) {
    enum { FILE_BYTES = 64 << 20 };
    char path[1100];
    static char record[RECORD_BYTES * CLIENTS_MAX];
    (void)snprintf(path, sizeof path, "%s/bare", dir);
    bare b = {.mu = PTHREAD_MUTEX_INITIALIZER,
              .work = PTHREAD_COND_INITIALIZER,
              .flushed = PTHREAD_COND_INITIALIZER};
    b.fd = open(path, O_RDWR | O_CREAT, 0600);
    static char zero[1 << 20];
    for (int i = 0; i < FILE_BYTES >> 20; i++) {
        if (write(b.fd, zero, sizeof zero) != (ssize_t)sizeof zero) {
            die("preallocate");
        }
    }
    (void)fsync(b.fd);
    pthread_t threads[CLIENTS_MAX];
    for (int i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, bare_writer, &b) != 0) {
            die("thread");
        }
    }
    int64_t start = now_ns();
    pthread_mutex_lock(&b.mu);
    while (now_ns() - start < duration_ns) {
        while (b.waiting == 0) {
            pthread_cond_wait(&b.work, &b.mu);
        }
        int group = b.waiting;
        b.waiting = 0;
        b.collecting++; /* whoever comes now waits for the next flush */
        pthread_mutex_unlock(&b.mu);
        size_t bytes = (size_t)group * RECORD_BYTES;
        if (b.at + (off_t)bytes > FILE_BYTES) {
            b.at = 0;
        }
        if (pwrite(b.fd, record, bytes, b.at) != (ssize_t)bytes ||
            fdatasync(b.fd) != 0) {
            die("bare write");
        }
        b.at += (off_t)bytes;
        pthread_mutex_lock(&b.mu);
        b.finished = b.collecting;
        pthread_cond_broadcast(&b.flushed);
    }
    int64_t took = now_ns() - start;
    b.stop = true;
    pthread_cond_broadcast(&b.flushed);
    pthread_mutex_unlock(&b.mu);
    for (int i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    (void)close(b.fd);
    (void)unlink(path);
    return summarise(b.done, took);
}

static load median_load(load *rounds) {
    double rate[ROUNDS], p50[ROUNDS], p99[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        rate[i] = rounds[i].per_s;
        p50[i] = rounds[i].p50_ms;
        p99[i] = rounds[i].p99_ms;
    }
    qsort(rate, ROUNDS, sizeof *rate, by_value);
    qsort(p50, ROUNDS, sizeof *p50, by_value);
    qsort(p99, ROUNDS, sizeof *p99, by_value);
    (void)printf("%9.0f /s [%.0f..%.0f]  p50 %.3f ms  p99 %.3f ms", rate[ROUNDS / 2],
                 rate[0], rate[ROUNDS - 1], p50[ROUNDS / 2], p99[ROUNDS / 2]);
    return (load){rate[ROUNDS / 2], p50[ROUNDS / 2], p99[ROUNDS / 2]};
}

static void bench_adds(const server *s, int64_t duration_ns) {
    static const int COUNTS[] = {1, 8, 64};
    (void)printf("\ndurable adds (one 300-byte message per request), median of %d "
                 "rounds [min..max]\n",
                 ROUNDS);
    for (size_t k = 0; k < sizeof COUNTS / sizeof COUNTS[0]; k++) {
        load ours[ROUNDS], bare_loop[ROUNDS];
        for (int i = 0; i < ROUNDS; i++) {
            ours[i] = run_adds(s, COUNTS[k], duration_ns);
            bare_loop[i] = run_bare(s->dir, COUNTS[k], duration_ns);
        }
        (void)printf("%3d clients  memfuse ", COUNTS[k]);
        load a = median_load(ours);
        (void)printf("\n             bare    ");
        load b = median_load(bare_loop);
        (void)printf("\n             ratio   %.2f\n", a.per_s / b.per_s);
        (void)fflush(stdout);
    }
}

/* --- queries --- */

static void import(client *c, size_t from, size_t to) {
    enum { LINES = 500 };
    static char body[BODY_MAX];
    for (size_t i = from; i < to;) {
        size_t n = 0;
        for (size_t k = 0; k < LINES && i < to; k++, i++) {
            char text[SENTENCE_MAX];
            sentence(text, 8);
            n += (size_t)snprintf(
                body + n, sizeof body - n,
                "{\"user\":\"asked\",\"session\":\"s%zu\",\"role\":\"user\","
                "\"content\":\"%s %zu\"}\n",
                i / 100, text, i);
        }
        int status = exchange(c, "POST", "/api/v1/import", body);
        expect(status, status == 200 ? 200 : 201, c, "import");
    }
}

static void ask(client *c, const char *path, int count, bool again, const char *label) {
    size_t done = 0;
    for (int i = 0; i < count; i++) {
        char text[SENTENCE_MAX];
        char body[512];
        if (!again || i == 0) {
            sentence(text, 5);
            (void)snprintf(body, sizeof body, "{\"query\":\"who %s?\",\"top_k\":10}",
                           text);
        }
        if (again && i == 0) {
            expect(exchange(c, "POST", path, body), 200, c, "query");
        }
        int64_t start = now_ns();
        expect(exchange(c, "POST", path, body), 200, c, "query");
        samples[done++] = (double)(now_ns() - start) / 1e6;
    }
    qsort(samples, done, sizeof *samples, by_value);
    (void)printf("  %s p50 %.3f ms  p99 %.3f ms", label, percentile(samples, done, 0.5),
                 percentile(samples, done, 0.99));
}

static void flush_user(client *c, const char *user) {
    char path[160];
    (void)snprintf(path, sizeof path, "/api/v1/users/%s/flush?timeout_ms=20000", user);
    int status = 0;
    do { /* one request is short; embedding may take many */
        status = exchange(c, "POST", path, "");
    } while (status == 503);
    expect(status, 200, c, "flush");
}

static void bench_queries(const server *s, size_t most) {
    client c;
    client_open(&c, s->port);
    (void)printf(
        "\nqueries (top 10, one client; a question of six words), and embedding\n");
    size_t have = 0;
    for (size_t chunks = 1000; chunks <= most; chunks *= 10) {
        int64_t start = now_ns();
        import(&c, have, chunks);
        expect(exchange(&c, "GET", "/api/v1/users?name=asked", ""), 200, &c, "user");
        char user[40];
        char path[128];
        find_text(&c, "\"id\":\"", user, sizeof user);
        flush_user(&c, user);
        double seconds = (double)(now_ns() - start) / 1e9;
        (void)snprintf(path, sizeof path, "/api/v1/users/%s/query", user);
        expect(exchange(&c, "POST", path, "{\"query\":\"first\"}"), 200, &c, "query");
        (void)printf("%7zu chunks", chunks);
        ask(&c, path, 500, false, "cold");
        ask(&c, path, 2000, true, "cached");
        (void)printf("  stored and embedded %.0f texts/s  RSS %.1f MB\n",
                     (double)(chunks - have) / seconds, rss_mb(s));
        (void)fflush(stdout);
        have = chunks;
    }
    client_close(&c);
}

static void bench_users(const server *s, int users) {
    client c;
    client_open(&c, s->port);
    double before = rss_mb(s);
    for (int i = 0; i < users; i++) {
        char name[64];
        char path[128];
        (void)snprintf(name, sizeof name, "active-%d", i);
        ids made = make_session(&c, name);
        (void)snprintf(path, sizeof path, "/api/v1/sessions/%s/messages", made.session);
        for (int k = 0; k < 5; k++) {
            char text[SENTENCE_MAX];
            char body[512];
            sentence(text, 8);
            (void)snprintf(body, sizeof body,
                           "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                           text);
            expect(exchange(&c, "POST", path, body), 201, &c, "add");
        }
        (void)snprintf(path, sizeof path, "/api/v1/users/%s/query", made.user);
        expect(exchange(&c, "POST", path, "{\"query\":\"what was bought?\"}"), 200, &c,
               "query");
    }
    (void)printf("RSS per active user (5 messages, asked once, %d users): %.1f KB\n",
                 users, (rss_mb(s) - before) * 1024 / users);
    client_close(&c);
}

int main(int argc, char **argv) {
    if (argc < 5) {
        (void)fprintf(
            stderr, "usage: bench_server BINARY MODEL_DIR RANKS_FILE FOLDER [quick]\n");
        return 2;
    }
    bool quick = argc > 5 && strcmp(argv[5], "quick") == 0;
    folder = argv[4];
    (void)signal(SIGPIPE, SIG_IGN);
    (void)atexit(end_server);
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    if (samples == NULL) {
        die("malloc");
    }
    server bare_server = start_server(argv[1], "", argv[3]);
    (void)printf("RSS idle without the model: %.1f MB\n", rss_mb(&bare_server));
    bench_adds(&bare_server, quick ? 500000000 : 2000000000);
    stop_server(&bare_server);

    server s = start_server(argv[1], argv[2], argv[3]);
    (void)printf("\nRSS idle with the model: %.1f MB\n", rss_mb(&s));
    bench_users(&s, quick ? 100 : 1000);
    bench_queries(&s, quick ? 1000 : 100000);
    stop_server(&s);
    free(samples);
    return 0;
}
