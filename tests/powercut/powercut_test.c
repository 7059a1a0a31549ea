/* powercut_test.c - what was acknowledged survives a power cut, and the test would
 * notice if it did not.
 *
 * Sixteen threads write through the group-commit writer into a store on a disk that
 * loses power at a random moment (power_vfs.h).  Each thread keeps a journal of what it
 * sent and what was acknowledged.  The store is then opened on what the disk holds,
 * compared with the journals, and the next life goes on from there; every few lives a
 * new disk starts.
 *
 *   powercut_test [--seed N] [--rounds N]
 *
 * The default rounds make the test part of every run; a failing seed repeats the plan
 * of cuts, though not the threads' interleaving. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/alloc.h"
#include "base/mutex.h"
#include "power_vfs.h"
#include "store/sqlite/sqlite_store.h"
#include "store/writer.h"

enum {
    WRITERS = 16,
    USERS = 4,
    JOURNAL_MAX = 40000,  /* messages of one thread in the lives of one disk */
    FAULT_LIFE_MAX = 150, /* messages of one thread in a life with a fault and no cut */
    TEXT_MAX = 600,
    LIVES_PER_DISK = 8,
    SELF_CHECK_LIVES = 10,
    FAULTS_MAX = 60
};

static uint64_t seed = 20260101;
static uint64_t rounds = 100;

/* --- journals --- */

typedef enum fate { UNKNOWN, ACKED, ABSENT } fate;

typedef struct entry {
    fate fate;
    bool seen; /* during the check */
    int64_t num;
} entry;

typedef struct bed bed;

typedef struct client {
    bed *bed;
    uint32_t index;
    mf_thread thread;
    mf_uuid session;
    entry *journal; /* [JOURNAL_MAX] */
    uint32_t sent;
} client;

struct bed {
    char root[64], dir[96], path[128];
    mf_rng rng;
    mf_sync_mode sync;
    uint32_t disk, life;
    mf_store *store;
    mf_writer *writer;
    uint32_t life_max; /* a thread stops at so many messages */
    bool set_up;       /* users and sessions are acknowledged */
    mf_uuid users[USERS], agent;
    client clients[WRITERS];
};

/* An id tells whose message it is and which. */
static mf_uuid message_id(const bed *b, uint32_t writer, uint32_t sequence) {
    mf_uuid id = {{0}};
    memcpy(id.b, &writer, sizeof writer);
    memcpy(id.b + 4, &sequence, sizeof sequence);
    memcpy(id.b + 8, &b->disk, sizeof b->disk);
    id.b[15] = 1;
    return id;
}

/* The text follows from the id, so it needs not be kept to be compared. */
static mf_str message_text(mf_uuid id, char *space) {
    mf_rng rng;
    mf_rng_init(&rng, mf_str_hash(mf_uuid_key(&id)));
    size_t len = 1 + (size_t)mf_rng_below(&rng, TEXT_MAX);
    for (size_t i = 0; i < len; i++) {
        space[i] = (char)('a' + mf_rng_below(&rng, 26));
    }
    return (mf_str){space, len};
}

/* --- writing --- */

typedef struct sending {
    client *client;
    uint32_t sequence;
} sending;

static mf_rc insert_message(mf_conn *conn, void *ctx, mf_err *err) {
    const sending *s = ctx;
    char space[TEXT_MAX];
    mf_message_row row = {.id =
                              message_id(s->client->bed, s->client->index, s->sequence),
                          .user_id = s->client->bed->users[s->client->index % USERS],
                          .session_id = s->client->session,
                          .created_us = s->sequence};
    row.content = message_text(row.id, space);
    return conn->ops->message_insert(conn, &row, 1, err);
}

static void client_main(void *arg) {
    client *c = arg;
    mf_rc rc = MF_OK;
    while (rc == MF_OK && c->sent < c->bed->life_max) {
        sending s = {c, c->sent++};
        c->journal[s.sequence] = (entry){.fate = UNKNOWN};
        rc = mf_writer_run(c->bed->writer, insert_message, &s, NULL);
        if (rc == MF_OK) {
            c->journal[s.sequence].fate = ACKED;
        }
    }
}

static mf_rc insert_owners(mf_conn *conn, void *ctx, mf_err *err) {
    bed *b = ctx;
    char name[16];
    mf_named_row agent = {.id = b->agent, .name = MF_STR("agent")};
    MF_TRY(conn->ops->agent_insert(conn, &agent, err));
    for (uint32_t i = 0; i < USERS; i++) {
        (void)snprintf(name, sizeof name, "user%u", i);
        mf_named_row user = {.id = b->users[i], .name = mf_str_from(name)};
        MF_TRY(conn->ops->user_insert(conn, &user, err));
    }
    for (uint32_t i = 0; i < WRITERS; i++) {
        (void)snprintf(name, sizeof name, "session%u", i);
        mf_session_row session = {.id = b->clients[i].session,
                                  .user_id = b->users[i % USERS],
                                  .agent_id = b->agent,
                                  .name = mf_str_from(name)};
        MF_TRY(conn->ops->session_insert(conn, &session, err));
    }
    return MF_OK;
}

static mf_rc open_store(bed *b) {
    mf_sqlite_options options = mf_sqlite_options_default(b->path);
    options.sync = b->sync;
    mf_writer_options writer = {.queue_max = 64, .group_max = 64};
    mf_err err;
    mf_rc rc = mf_sqlite_store_open(&options, &b->store, &err);
    if (rc == MF_OK) {
        rc = mf_writer_open(b->store, &writer, &b->writer, &err);
    }
    if (rc != MF_OK && !power_is_cut()) {
        print_error("cannot open: %s\n", err.text);
    }
    return rc;
}

static void close_store(bed *b) {
    mf_writer_close(b->writer);
    b->writer = NULL;
    if (b->store != NULL) {
        b->store->ops->close(b->store);
        b->store = NULL;
    }
}

/* Writes from all threads until the disk refuses. */
static void write_until_refused(bed *b) {
    mf_rc rc = open_store(b);
    if (rc == MF_OK && !b->set_up) {
        rc = mf_writer_run(b->writer, insert_owners, b, NULL);
        b->set_up = rc == MF_OK;
    }
    if (rc == MF_OK) {
        for (uint32_t i = 0; i < WRITERS; i++) {
            assert_int_equal(mf_thread_start(&b->clients[i].thread, "client",
                                             client_main, &b->clients[i], NULL),
                             MF_OK);
        }
        for (uint32_t i = 0; i < WRITERS; i++) {
            mf_thread_join(&b->clients[i].thread);
        }
    }
    close_store(b);
}

/* --- checking --- */

typedef struct verdict {
    uint64_t messages, lost, foreign, changed, disordered, damaged;
    client *clients;
    bed *bed;
    int64_t newest[WRITERS];
    uint32_t next[WRITERS];
} verdict;

static bool is_clean(const verdict *v) {
    return v->lost + v->foreign + v->changed + v->disordered + v->damaged == 0;
}

static mf_rc check_message(void *ctx, const mf_message_row *row, mf_err *err) {
    (void)err;
    verdict *v = ctx;
    uint32_t writer = 0;
    uint32_t sequence = 0;
    char space[TEXT_MAX];
    memcpy(&writer, row->id.b, sizeof writer);
    memcpy(&sequence, row->id.b + 4, sizeof sequence);
    v->messages++;
    if (writer >= WRITERS || sequence >= v->clients[writer].sent ||
        !mf_uuid_eq(row->id, message_id(v->bed, writer, sequence))) {
        v->foreign++;
        return MF_OK;
    }
    entry *e = &v->clients[writer].journal[sequence];
    if (e->seen || e->fate == ABSENT) {
        v->foreign++; /* twice, or back from the dead */
    }
    e->seen = true;
    if (!mf_str_eq(row->content, message_text(row->id, space)) ||
        !mf_uuid_eq(row->session_id, v->clients[writer].session)) {
        v->changed++;
    }
    if (sequence < v->next[writer] || row->num <= v->newest[writer]) {
        v->disordered++;
    }
    v->next[writer] = sequence + 1;
    v->newest[writer] = row->num;
    return MF_OK;
}

static void read_all(bed *b, verdict *v) {
    mf_store *store = NULL;
    mf_conn *conn = NULL;
    mf_err err;
    mf_sqlite_options options = mf_sqlite_options_default(b->path);
    mf_rc rc = mf_sqlite_store_open(&options, &store, &err);
    if (rc == MF_OK) {
        rc = store->ops->conn_open(store, false, &conn, &err);
    }
    if (rc == MF_OK) {
        rc = conn->ops->verify(conn, &err);
    }
    for (uint32_t i = 0; i < USERS && rc == MF_OK; i++) {
        rc = conn->ops->message_scan(conn, b->users[i], check_message, v, &err);
    }
    if (rc != MF_OK) {
        print_message("found: %s\n", err.text);
        v->damaged++;
    }
    if (conn != NULL) {
        conn->ops->conn_close(conn);
    }
    if (store != NULL) {
        store->ops->close(store);
    }
}

/* Compares the store with the journals.  What is found is settled from then on. */
static verdict check(bed *b) {
    verdict v = {.clients = b->clients, .bed = b};
    read_all(b, &v);
    for (uint32_t i = 0; i < WRITERS; i++) {
        client *c = &b->clients[i];
        for (uint32_t j = 0; j < c->sent; j++) {
            entry *e = &c->journal[j];
            v.lost += e->fate == ACKED && !e->seen;
            e->fate = e->seen ? ACKED : ABSENT;
            e->seen = false;
        }
    }
    return v;
}

/* Were the owners there, though nobody was told?  Then the next life must not make them
 * again. */
static void settle_owners(bed *b) {
    mf_store *store = NULL;
    mf_conn *conn = NULL;
    mf_store_counts counts = {0};
    mf_sqlite_options options = mf_sqlite_options_default(b->path);
    assert_int_equal(mf_sqlite_store_open(&options, &store, NULL), MF_OK);
    assert_int_equal(store->ops->conn_open(store, false, &conn, NULL), MF_OK);
    assert_int_equal(conn->ops->counts(conn, &counts, NULL), MF_OK);
    assert_true(counts.sessions == 0 || counts.sessions == WRITERS); /* never half */
    assert_true(!b->set_up || counts.sessions == WRITERS);
    b->set_up = counts.sessions == WRITERS;
    conn->ops->conn_close(conn);
    store->ops->close(store);
}

/* --- lives --- */

static void remove_dir(const bed *b) {
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char path[160];
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        (void)snprintf(path, sizeof path, "%.127s%s", b->path, suffixes[i]);
        (void)unlink(path); /* not every one is there */
    }
    (void)rmdir(b->dir); /* nor the folder, at first */
}

static void next_dir(bed *b) {
    b->life++;
    (void)snprintf(b->dir, sizeof b->dir, "%.63s/%u", b->root, b->life);
    (void)snprintf(b->path, sizeof b->path, "%.95s/store.db", b->dir);
    assert_int_equal(mkdir(b->dir, 0700), 0);
}

static void new_disk(bed *b) {
    power_reset();
    remove_dir(b);
    next_dir(b);
    b->disk++;
    b->set_up = false;
    b->agent = mf_uuid_new();
    for (uint32_t i = 0; i < USERS; i++) {
        b->users[i] = mf_uuid_new();
    }
    for (uint32_t i = 0; i < WRITERS; i++) {
        b->clients[i].session = mf_uuid_new();
        b->clients[i].sent = 0;
    }
}

/* The store as it is found after the cut, in a new folder. */
static void power_back(bed *b, power_mode mode) {
    bed old = *b;
    next_dir(b);
    uint32_t unit = mf_rng_below(&b->rng, 2) == 0 ? 512 : 4096;
    power_restore(old.dir, b->dir, mode, unit, &b->rng);
    remove_dir(&old);
}

/* A third of the cuts come early, when files are being made, and a third late enough
 * that the log was moved into the database before, or is just then. */
static uint64_t random_moment(bed *b) {
    static const uint64_t spans[] = {300, 5000, 24000};
    return 1 + mf_rng_below(&b->rng, spans[mf_rng_below(&b->rng, 3)]);
}

static verdict live_and_die(bed *b, power_mode mode) {
    power_cut_after(random_moment(b));
    write_until_refused(b);
    power_cut_now(); /* journals are full: rare, and as good a moment as any */
    power_back(b, mode);
    return check(b);
}

static bed *the_bed(void) {
    static bed place;
    return &place;
}

static int setup(void **state) {
    bed *b = the_bed();
    *b = (bed){.sync = MF_SYNC_FULL, .life_max = JOURNAL_MAX};
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(b->root, sizeof b->root, "%.32s/mf-powercut-XXXXXX",
                   tmp != NULL ? tmp : P_tmpdir);
    assert_non_null(mkdtemp(b->root));
    mf_rng_init(&b->rng, seed);
    for (uint32_t i = 0; i < WRITERS; i++) {
        b->clients[i].bed = b;
        b->clients[i].index = i;
        b->clients[i].journal = mf_alloc_array(JOURNAL_MAX, sizeof(entry));
        assert_non_null(b->clients[i].journal);
    }
    new_disk(b);
    *state = b;
    return 0;
}

static int teardown(void **state) {
    bed *b = *state;
    power_reset();
    remove_dir(b);
    assert_int_equal(rmdir(b->root), 0);
    for (uint32_t i = 0; i < WRITERS; i++) {
        mf_free(b->clients[i].journal);
    }
    assert_int_equal(mf_alloc_live(), 0);
    return 0;
}

static void print_verdict(const char *what, const verdict *v) {
    print_message(
        "%s: %llu messages; %llu lost, %llu never sent or twice, %llu changed, "
        "%llu out of order, %llu damaged\n",
        what, (unsigned long long)v->messages, (unsigned long long)v->lost,
        (unsigned long long)v->foreign, (unsigned long long)v->changed,
        (unsigned long long)v->disordered, (unsigned long long)v->damaged);
}

/* --- the claims --- */

static void every_acknowledged_message_survives_a_power_cut(void **state) {
    bed *b = *state;
    uint64_t messages = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        if (i % LIVES_PER_DISK == 0) {
            new_disk(b);
        }
        power_mode mode = (power_mode)mf_rng_below(&b->rng, POWER_MODE_COUNT);
        verdict v = live_and_die(b, mode);
        messages += v.messages;
        if (!is_clean(&v)) {
            print_verdict("violation", &v);
            fail_msg("round %llu, mode %d, seed %llu", (unsigned long long)i, (int)mode,
                     (unsigned long long)seed);
        }
        settle_owners(b);
    }
    print_message("%llu cuts, %llu messages compared\n", (unsigned long long)rounds,
                  (unsigned long long)messages);
    assert_true(messages > rounds); /* the disk did hold something */
}

/* With less care than FULL the same test finds losses; if not, it is blind. */
static void expect_losses(bed *b, mf_sync_mode sync, const char *name) {
    verdict v = {0};
    b->sync = sync;
    uint32_t life = 0;
    for (; life < SELF_CHECK_LIVES && v.lost == 0; life++) {
        new_disk(b);
        v = live_and_die(b, POWER_DROP);
    }
    print_verdict(name, &v);
    assert_true(v.lost > 0);
}

static void the_test_sees_losses_without_flushes(void **state) {
    expect_losses(*state, MF_SYNC_OFF, "synchronous OFF");
}

static void the_test_sees_losses_with_flushes_at_checkpoints_only(void **state) {
    expect_losses(*state, MF_SYNC_NORMAL, "synchronous NORMAL");
}

static void normal_mode_loses_but_is_never_damaged(void **state) {
    bed *b = *state;
    b->sync = MF_SYNC_NORMAL;
    for (uint64_t i = 0; i < rounds / 10 + 1; i++) {
        new_disk(b);
        verdict v =
            live_and_die(b, (power_mode)mf_rng_below(&b->rng, POWER_MODE_COUNT));
        assert_int_equal(v.foreign + v.changed + v.disordered + v.damaged, 0);
    }
}

/* --- calls that fail while the power stays on --- */

/* One fault; the writers stop at their first refusal.  Then everything acknowledged is
 * there, in this process after opening again and after a cut. */
static void live_with_fault(bed *b, power_call call, uint64_t nth, int code) {
    new_disk(b);
    b->life_max = FAULT_LIFE_MAX;
    power_fail_at(call, nth, code);
    write_until_refused(b);
    assert_true(power_failed());
    verdict v = check(b);
    if (!is_clean(&v)) {
        print_verdict("after the fault", &v);
        fail_msg("call %d, number %llu, code %d", (int)call, (unsigned long long)nth,
                 code);
    }
    power_cut_now();
    power_back(b, POWER_DROP);
    v = check(b);
    if (!is_clean(&v)) {
        print_verdict("after the fault and a cut", &v);
        fail_msg("call %d, number %llu, code %d", (int)call, (unsigned long long)nth,
                 code);
    }
}

static void a_failed_flush_never_ends_in_a_wrong_acknowledgement(void **state) {
    bed *b = *state;
    for (uint64_t i = 0; i < FAULTS_MAX * rounds / 100 + 1; i++) {
        live_with_fault(b, POWER_SYNC, 1 + mf_rng_below(&b->rng, 60),
                        SQLITE_IOERR_FSYNC);
    }
}

static void a_failed_write_never_ends_in_a_wrong_acknowledgement(void **state) {
    bed *b = *state;
    for (uint64_t i = 0; i < FAULTS_MAX * rounds / 100 + 1; i++) {
        live_with_fault(b, POWER_WRITE, 1 + mf_rng_below(&b->rng, 1500),
                        mf_rng_below(&b->rng, 2) == 0 ? SQLITE_IOERR_WRITE
                                                      : SQLITE_FULL);
    }
}

static mf_rc count_messages(mf_conn *conn, void *ctx, mf_err *err) {
    mf_store_counts counts;
    MF_TRY(conn->ops->counts(conn, &counts, err));
    *(uint64_t *)ctx = counts.messages;
    return MF_OK;
}

static void after_a_failed_flush_nothing_is_flushed_until_reopened(void **state) {
    bed *b = *state;
    assert_int_equal(open_store(b), MF_OK);
    assert_int_equal(mf_writer_run(b->writer, insert_owners, b, NULL), MF_OK);
    sending s = {&b->clients[0], b->clients[0].sent++};
    b->clients[0].journal[0] = (entry){.fate = UNKNOWN};
    power_fail_at(POWER_SYNC, 1, SQLITE_IOERR_FSYNC);
    assert_int_equal(mf_writer_run(b->writer, insert_message, &s, NULL), MF_E_IO);
    assert_true(power_failed());
    power_fail_at(POWER_SYNC, 1, SQLITE_IOERR_FSYNC);
    assert_int_equal(mf_writer_run(b->writer, insert_message, &s, NULL), MF_E_IO);
    uint64_t count = 99;
    assert_int_equal(mf_writer_run(b->writer, count_messages, &count, NULL), MF_E_IO);
    mf_conn *reader = NULL;
    mf_store_counts counts;
    assert_int_equal(b->store->ops->conn_open(b->store, false, &reader, NULL), MF_OK);
    assert_int_equal(reader->ops->counts(reader, &counts, NULL),
                     MF_OK); /* reads go on */
    assert_int_equal(counts.sessions, WRITERS);
    reader->ops->conn_close(reader);
    close_store(b);
    assert_false(power_failed()); /* nothing asked for a sync, not even the close */
    power_fail_at(POWER_SYNC, 0, SQLITE_OK);
    verdict v = check(b);
    assert_true(is_clean(&v));
    assert_int_equal(open_store(b), MF_OK);
    assert_int_equal(mf_writer_run(b->writer, count_messages, &count, NULL), MF_OK);
    assert_true(count <= 1);
    close_store(b);
}

static void read_arguments(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        int64_t value = 0;
        if (!mf_str_to_i64(mf_str_from(argv[i + 1]), &value) || value < 0) {
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            seed = (uint64_t)value;
        } else if (strcmp(argv[i], "--rounds") == 0) {
            rounds = (uint64_t)value;
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv) {
    read_arguments(argc, argv);
    print_message("seed %llu, %llu rounds\n", (unsigned long long)seed,
                  (unsigned long long)rounds);
    power_install();
    const struct CMUnitTest tests[] = {
        TEST(every_acknowledged_message_survives_a_power_cut),
        TEST(the_test_sees_losses_without_flushes),
        TEST(the_test_sees_losses_with_flushes_at_checkpoints_only),
        TEST(normal_mode_loses_but_is_never_damaged),
        TEST(a_failed_flush_never_ends_in_a_wrong_acknowledgement),
        TEST(a_failed_write_never_ends_in_a_wrong_acknowledgement),
        TEST(after_a_failed_flush_nothing_is_flushed_until_reopened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
