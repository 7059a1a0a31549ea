/* bench_store.c - durable single-message writes per second, beside what the disk
 * allows.
 *
 *     bench_store [FOLDER [SECONDS]]        default: the temporary folder, 3 seconds
 * each
 *
 * N threads send one message of 300 bytes after the other, each waiting for its own
 * acknowledgement, through the group-commit writer into SQLite with a flush per commit.
 * The limit beside it is the plainest durable log there is: the same threads and the
 * same kind of queue in front of one thread that writes all waiting records into a file
 * of fixed size and calls fdatasync once.  Both run alternately in the same process,
 * and the folder should lie on the disk that will hold the data. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/mutex.h"
#include "store/sqlite/sqlite_store.h"
#include "store/writer.h"

enum {
    TEXT_BYTES = 300,
    SESSIONS = 64,
    THREADS_MAX = 64,
    SAMPLES_MAX = 1 << 20,
    LOG_BYTES = 64 << 20,
    QUEUE = 1024,
    GROUP = 256,
    REPEATS = 3,
};

static char text[TEXT_BYTES];
static const char *folder;
static int64_t run_ns;

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static void must_sys(bool good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

/* --- the store --- */

typedef struct subject {
    mf_store *store;
    mf_writer *writer;
    mf_uuid users[SESSIONS], sessions[SESSIONS];
} subject;

static subject sqlite;

static mf_rc insert_owners(mf_conn *conn, void *ctx, mf_err *err) {
    subject *s = ctx;
    mf_named_row agent = {.id = mf_uuid_new(), .name = MF_STR("agent")};
    MF_TRY(conn->ops->agent_insert(conn, &agent, err));
    for (int i = 0; i < SESSIONS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "user%d", i);
        s->users[i] = mf_uuid_new();
        s->sessions[i] = mf_uuid_new();
        mf_named_row user = {.id = s->users[i], .name = mf_str_from(name)};
        MF_TRY(conn->ops->user_insert(conn, &user, err));
        mf_session_row session = {.id = s->sessions[i],
                                  .user_id = s->users[i],
                                  .agent_id = agent.id,
                                  .name = MF_STR("session")};
        MF_TRY(conn->ops->session_insert(conn, &session, err));
    }
    return MF_OK;
}

static void open_subject(const char *path) {
    mf_err err;
    mf_sqlite_options options = mf_sqlite_options_default(path);
    mf_writer_options writer = {.queue_max = QUEUE, .group_max = GROUP};
    must(mf_sqlite_store_open(&options, &sqlite.store, &err), &err);
    must(mf_writer_open(sqlite.store, &writer, &sqlite.writer, &err), &err);
    must(mf_writer_run(sqlite.writer, insert_owners, &sqlite, &err), &err);
}

static mf_rc insert_message(mf_conn *conn, void *ctx, mf_err *err) {
    const int *index = ctx;
    mf_message_row row = {.id = mf_uuid_new(),
                          .user_id = sqlite.users[*index],
                          .session_id = sqlite.sessions[*index],
                          .round_id = mf_uuid_new(),
                          .content = {text, sizeof text},
                          .created_us = 1,
                          .updated_us = 1};
    return conn->ops->message_insert(conn, &row, 1, err);
}

static void send_message(int index) {
    mf_err err;
    must(mf_writer_run(sqlite.writer, insert_message, &index, &err), &err);
}

/* --- the bare log --- */

typedef struct record {
    mf_mutex done_mu;
    mf_cond ended;
    bool done; /* guarded by done_mu */
} record;

static mf_mailbox *log_box;
static mf_thread log_thread;
static int log_fd;

static void log_main(void *arg) {
    (void)arg;
    void *waiting[GROUP];
    static char block[GROUP * TEXT_BYTES];
    int64_t offset = 0;
    size_t count = 0;
    while ((count = mf_mailbox_take(log_box, waiting, GROUP, MF_NEVER)) > 0) {
        for (size_t i = 0; i < count; i++) {
            memcpy(block + i * TEXT_BYTES, text, TEXT_BYTES);
        }
        size_t len = count * TEXT_BYTES;
        if (offset + (int64_t)len > LOG_BYTES) {
            offset = 0;
        }
        must_sys(pwrite(log_fd, block, len, offset) == (ssize_t)len, "pwrite");
        must_sys(fdatasync(log_fd) == 0, "fdatasync");
        offset += (int64_t)len;
        for (size_t i = 0; i < count; i++) {
            record *r = waiting[i];
            mf_mutex_lock(&r->done_mu);
            r->done = true;
            mf_cond_signal(&r->ended);
            mf_mutex_unlock(&r->done_mu);
        }
    }
}

static void open_log(const char *path) {
    static char zeros[1 << 20];
    mf_err err;
    log_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    must_sys(log_fd >= 0, path);
    for (int64_t at = 0; at < LOG_BYTES; at += (int64_t)sizeof zeros) {
        must_sys(pwrite(log_fd, zeros, sizeof zeros, at) == (ssize_t)sizeof zeros,
                 "pwrite");
    }
    must_sys(fsync(log_fd) == 0, "fsync");
    must(mf_mailbox_open(QUEUE, &log_box, &err), &err);
    must(mf_thread_start(&log_thread, "log", log_main, NULL, &err), &err);
}

static void send_record(int index) {
    (void)index;
    record r = {.done = false};
    mf_mutex_init(&r.done_mu, MF_RANK_LEAF);
    mf_cond_init(&r.ended);
    mf_err err = {.text = "the log's queue refused a record"};
    must(mf_mailbox_push(log_box, &r), &err);
    mf_mutex_lock(&r.done_mu);
    while (!r.done) {
        (void)mf_cond_wait(&r.ended, &r.done_mu, MF_NEVER); /* no deadline */
    }
    mf_mutex_unlock(&r.done_mu);
    mf_cond_done(&r.ended);
    mf_mutex_done(&r.done_mu);
}

/* --- measuring --- */

typedef struct sender {
    mf_thread thread;
    void (*send)(int index);
    int index;
    int64_t until_ns;
} sender;

static uint32_t samples[SAMPLES_MAX]; /* nanoseconds */
static atomic_size_t sample_count;

static void sender_main(void *arg) {
    const sender *s = arg;
    int64_t now = mf_now_ns();
    while (now < s->until_ns) {
        s->send(s->index);
        int64_t after = mf_now_ns();
        size_t at = atomic_fetch_add(&sample_count, 1);
        if (at < SAMPLES_MAX) {
            samples[at] = (uint32_t)(after - now);
        }
        now = after;
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

typedef struct result {
    double per_s, p50_us, p99_us;
} result;

static result run(void (*send)(int index), int threads) {
    static sender senders[THREADS_MAX];
    mf_err err;
    atomic_store(&sample_count, 0);
    int64_t start = mf_now_ns();
    for (int i = 0; i < threads; i++) {
        senders[i] = (sender){.send = send, .index = i, .until_ns = start + run_ns};
        must(mf_thread_start(&senders[i].thread, "sender", sender_main, &senders[i],
                             &err),
             &err);
    }
    for (int i = 0; i < threads; i++) {
        mf_thread_join(&senders[i].thread);
    }
    double seconds = (double)(mf_now_ns() - start) / MF_NS_PER_S;
    size_t count = atomic_load(&sample_count);
    size_t kept = count < SAMPLES_MAX ? count : SAMPLES_MAX;
    qsort(samples, kept, sizeof samples[0], by_value);
    return (result){.per_s = (double)count / seconds,
                    .p50_us = samples[kept / 2] / 1e3,
                    .p99_us = samples[kept * 99 / 100] / 1e3};
}

/* The middle one of several runs, by rate. */
static int by_rate(const void *a, const void *b) {
    const result *x = a;
    const result *y = b;
    return (x->per_s > y->per_s) - (x->per_s < y->per_s);
}

static void compare(int threads) {
    result store[REPEATS];
    result bare[REPEATS];
    for (int i = 0; i < REPEATS; i++) {
        store[i] = run(send_message, threads);
        bare[i] = run(send_record, threads);
    }
    qsort(store, REPEATS, sizeof store[0], by_rate);
    qsort(bare, REPEATS, sizeof bare[0], by_rate);
    result s = store[REPEATS / 2];
    result b = bare[REPEATS / 2];
    printf("%7d  %9.0f %9.0f %9.0f  %9.0f %9.0f %9.0f  %5.0f %%\n", threads, s.per_s,
           s.p50_us, s.p99_us, b.per_s, b.p50_us, b.p99_us, 100 * s.per_s / b.per_s);
}

int main(int argc, char **argv) {
    static const int thread_counts[] = {1, 8, 64};
    static const char *const names[] = {"store.db", "store.db-wal", "store.db-shm",
                                        "log"};
    char path[sizeof names / sizeof names[0]][512];
    char dir[400];
    folder = argc > 1 ? argv[1] : P_tmpdir;
    run_ns = (argc > 2 ? strtol(argv[2], NULL, 10) : 3) * (int64_t)MF_NS_PER_S;
    (void)snprintf(dir, sizeof dir, "%s/mf-bench-XXXXXX", folder);
    must_sys(mkdtemp(dir) != NULL, dir);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path[i], sizeof path[i], "%s/%s", dir, names[i]);
    }
    memset(text, 'm', sizeof text);
    open_subject(path[0]);
    open_log(path[3]);
    printf("durable writes of one %d-byte message each, medians of %d runs of %.0f s\n"
           "         ------- store (FULL) -------  ----- bare log, fdatasync ----\n"
           "threads      per s    p50 us    p99 us      per s    p50 us    p99 us  "
           "share\n",
           (int)TEXT_BYTES, (int)REPEATS, (double)run_ns / MF_NS_PER_S);
    for (size_t i = 0; i < sizeof thread_counts / sizeof thread_counts[0]; i++) {
        compare(thread_counts[i]);
    }
    mf_writer_stats stats;
    mf_writer_get_stats(sqlite.writer, &stats);
    printf("%" PRIu64 " operations in %" PRIu64 " commits of "
           "%.0f us, largest group %zu\n",
           stats.operations, stats.commits,
           (double)stats.commit_ns / 1e3 / (double)stats.commits, stats.group_largest);
    mf_writer_close(sqlite.writer);
    sqlite.store->ops->close(sqlite.store);
    mf_mailbox_stop(log_box);
    mf_thread_join(&log_thread);
    mf_mailbox_close(log_box);
    (void)close(log_fd); /* its contents are of no use to anybody */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)unlink(path[i]); /* the log's companions are gone already */
    }
    must_sys(rmdir(dir) == 0, dir);
    return 0;
}
