/* bench_store.c - durable single-message writes per second, beside what the disk and
 * SQLite allow.
 *
 *     bench_store [FOLDER [SECONDS]]    default: the temporary folder, 3 seconds each
 *
 * N threads send one message of 300 bytes after the other, each waiting for its own
 * acknowledgement, through the group-commit writer into the store.  Two limits stand
 * beside it, each with the same threads and the same kind of queue in front of one
 * thread that takes all who wait: a bare log (one write into a file of fixed size, one
 * fdatasync) and a bare SQLite loop (one transaction of inserts into a table of five
 * columns with one index, WAL, synchronous=FULL).  All run in turn in one process, and
 * the folder should lie on the disk that will hold the data. */
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
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

/* --- the limits: one thread that keeps whatever waits --- */

typedef struct record {
    mf_mutex done_mu;
    mf_cond ended;
    bool done; /* guarded by done_mu */
    int index;
} record;

typedef struct limit {
    void (*keep)(record *const *waiting, size_t count); /* durable when it returns */
    mf_mailbox *box;
    mf_thread thread;
} limit;

static void limit_main(void *arg) {
    limit *l = arg;
    record *waiting[GROUP];
    size_t count = 0;
    while ((count = mf_mailbox_take(l->box, (void **)waiting, GROUP, MF_NEVER)) > 0) {
        l->keep(waiting, count);
        for (size_t i = 0; i < count; i++) {
            mf_mutex_lock(&waiting[i]->done_mu);
            waiting[i]->done = true;
            mf_cond_signal(&waiting[i]->ended);
            mf_mutex_unlock(&waiting[i]->done_mu);
        }
    }
}

static void limit_open(limit *l) {
    mf_err err;
    must(mf_mailbox_open(QUEUE, &l->box, &err), &err);
    must(mf_thread_start(&l->thread, "limit", limit_main, l, &err), &err);
}

static void limit_close(limit *l) {
    mf_mailbox_stop(l->box);
    mf_thread_join(&l->thread);
    mf_mailbox_close(l->box);
}

static void limit_send(limit *l, int index) {
    record r = {.done = false, .index = index};
    mf_mutex_init(&r.done_mu, MF_RANK_LEAF);
    mf_cond_init(&r.ended);
    mf_err err = {.text = "the queue of a limit refused a record"};
    must(mf_mailbox_push(l->box, &r), &err);
    mf_mutex_lock(&r.done_mu);
    while (!r.done) {
        (void)mf_cond_wait(&r.ended, &r.done_mu, MF_NEVER); /* no deadline */
    }
    mf_mutex_unlock(&r.done_mu);
    mf_cond_done(&r.ended);
    mf_mutex_done(&r.done_mu);
}

/* --- the bare log --- */

static int log_fd;

static void log_keep(record *const *waiting, size_t count) {
    static char block[GROUP * TEXT_BYTES];
    static int64_t offset;
    (void)waiting;
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
}

static limit bare_log = {.keep = log_keep};

static void open_log(const char *path) {
    static char zeros[1 << 20];
    log_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    must_sys(log_fd >= 0, path);
    for (int64_t at = 0; at < LOG_BYTES; at += (int64_t)sizeof zeros) {
        must_sys(pwrite(log_fd, zeros, sizeof zeros, at) == (ssize_t)sizeof zeros,
                 "pwrite");
    }
    must_sys(fsync(log_fd) == 0, "fsync");
    limit_open(&bare_log);
}

static void send_to_log(int index) {
    limit_send(&bare_log, index);
}

/* --- the bare SQLite loop --- */

static sqlite3 *plain_db;
static sqlite3_stmt *plain_insert;

static void plain_run(const char *sql) {
    if (sqlite3_exec(plain_db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        (void)fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(plain_db));
        exit(1);
    }
}

static void plain_keep(record *const *waiting, size_t count) {
    plain_run("BEGIN IMMEDIATE");
    for (size_t i = 0; i < count; i++) {
        (void)sqlite3_bind_int(plain_insert, 1, waiting[i]->index);
        (void)sqlite3_bind_int(plain_insert, 2, waiting[i]->index);
        (void)sqlite3_bind_text(plain_insert, 3, text, sizeof text, SQLITE_STATIC);
        must_sys(sqlite3_step(plain_insert) == SQLITE_DONE, "sqlite insert");
        (void)sqlite3_reset(plain_insert); /* tells the step's result again */
    }
    plain_run("COMMIT");
}

static limit bare_sqlite = {.keep = plain_keep};

static void open_plain(const char *path) {
    must_sys(sqlite3_open(path, &plain_db) == SQLITE_OK, path);
    plain_run("PRAGMA journal_mode=WAL");
    plain_run("PRAGMA synchronous=FULL");
    plain_run("CREATE TABLE messages(id INTEGER PRIMARY KEY, user_id, session_id,"
              " created_at, content)");
    plain_run("CREATE INDEX messages_by_user ON messages(user_id, id)");
    must_sys(sqlite3_prepare_v2(plain_db,
                                "INSERT INTO messages(user_id, session_id, created_at,"
                                " content) VALUES(?1, ?2, 1, ?3)",
                                -1, &plain_insert, NULL) == SQLITE_OK,
             "sqlite prepare");
    limit_open(&bare_sqlite);
}

static void close_plain(void) {
    limit_close(&bare_sqlite);
    (void)sqlite3_finalize(plain_insert);
    (void)sqlite3_close(plain_db); /* a throw-away database */
}

static void send_to_plain(int index) {
    limit_send(&bare_sqlite, index);
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

static result median(result *results) {
    qsort(results, REPEATS, sizeof results[0], by_rate);
    return results[REPEATS / 2];
}

static void compare(int threads) {
    static const struct {
        const char *name;
        void (*send)(int index);
    } rows[] = {{"store", send_message},
                {"bare SQLite", send_to_plain},
                {"bare log", send_to_log}};
    enum { ROWS = sizeof rows / sizeof rows[0] };
    result results[ROWS][REPEATS];
    for (int i = 0; i < REPEATS; i++) {
        for (int k = 0; k < ROWS; k++) {
            results[k][i] = run(rows[k].send, threads);
        }
    }
    double ours = 0;
    for (int k = 0; k < ROWS; k++) {
        result r = median(results[k]);
        ours = k == 0 ? r.per_s : ours;
        printf("%7d  %-12s %9.0f [%.0f..%.0f] %9.0f %9.0f   %4.0f %%\n", threads,
               rows[k].name, r.per_s, results[k][0].per_s,
               results[k][REPEATS - 1].per_s, r.p50_us, r.p99_us, 100 * ours / r.per_s);
    }
}

int main(int argc, char **argv) {
    static const int thread_counts[] = {1, 8, 64};
    static const char *const names[] = {"store.db",    "store.db-wal", "store.db-shm",
                                        "log",         "plain.db",     "plain.db-wal",
                                        "plain.db-shm"};
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
    open_plain(path[4]);
    printf("durable writes of one %d-byte message each, medians of %d runs of %.0f s\n"
           "threads                 per s [min..max]      p50 us    p99 us   store's "
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
    limit_close(&bare_log);
    close_plain();
    (void)close(log_fd); /* its contents are of no use to anybody */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)unlink(path[i]); /* the log's companions are gone already */
    }
    must_sys(rmdir(dir) == 0, dir);
    return 0;
}
