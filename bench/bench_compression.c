/* bench_compression.c - what packing the texts of a store saves, and what reading them
 * costs then.
 *
 *     bench_compression LINES.jsonl [FOLDER [DIMENSIONS]]
 *
 * LINES has {"user", "session", "role", "content"} on each line (bench/conversations.py
 * makes it of public sets).  Three stores get all of it: one stays plain, one is packed
 * without a dictionary, one with the dictionary that the store trains.  With DIMENSIONS
 * each message also has a vector of so many half-precision numbers, random ones, as a
 * store with a model has.  Reads are measured by turns, store after store, and told as
 * ratios to the plain one: listing 100 messages of a session, reading the texts of ten
 * messages here and there (what a query does), and reading all messages of all users (a
 * load). */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/rng.h"
#include "store/sqlite/sqlite_store.h"

enum {
    STORES = 3,
    ROUNDS = 9,
    LISTINGS = 200,
    LOOKUPS = 200,
    LOOKUP_TEXTS = 10,
    LIST_LIMIT = 100,
    GROUP = 200,
    SLICE_BYTES = 32 << 10,
    SLICES_MAX = 100000,
    SESSIONS_MAX = 1 << 20
};

typedef struct line {
    mf_role role;
    mf_str content;
    size_t session;
} line;

typedef struct session {
    mf_uuid user_id, id;
    char *user, *name;
} session;

static line *lines;
static size_t line_count;
static session *sessions;
static size_t session_count;
static size_t dimensions;

static void must(mf_rc rc, const mf_err *err) {
    if (rc != MF_OK) {
        (void)fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static void must_be(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

/* --- lines --- */

static mf_str text_of(yyjson_val *object, const char *key) {
    yyjson_val *value = yyjson_obj_get(object, key);
    must_be(yyjson_is_str(value), "a line lacks user, session, role or content");
    return (mf_str){yyjson_get_str(value), yyjson_get_len(value)};
}

static size_t session_of(mf_map *map, mf_str user, mf_str name, mf_uuid *user_id) {
    char key[1024];
    int len =
        snprintf(key, sizeof key, "%.*s\n%.*s", MF_STR_ARGS(user), MF_STR_ARGS(name));
    must_be(len > 0 && (size_t)len < sizeof key, "a name is too long");
    uintptr_t found = (uintptr_t)mf_map_get(map, (mf_str){key, (size_t)len});
    if (found == 0) {
        sessions = realloc(sessions, (session_count + 1) * sizeof *sessions);
        must_be(sessions != NULL, "no memory");
        sessions[session_count] = (session){.user_id = *user_id,
                                            .id = mf_uuid_new(),
                                            .user = mf_strndup(user.p, user.len),
                                            .name = mf_strndup(key, (size_t)len)};
        found = ++session_count;
        mf_rc rc = mf_map_put(map, (mf_str){key, (size_t)len}, (void *)found, NULL);
        must_be(rc == MF_OK, "no memory");
    }
    return (size_t)found - 1;
}

static void read_lines(const char *path) {
    FILE *file = fopen(path, "r");
    must_be(file != NULL, "cannot open the lines");
    mf_map *by_name;
    mf_map *users;
    mf_err err;
    must(mf_map_new(SESSIONS_MAX, &by_name, &err), &err);
    must(mf_map_new(SESSIONS_MAX, &users, &err), &err);
    char *buffer = NULL;
    size_t size = 0;
    for (ssize_t len; (len = getline(&buffer, &size, file)) > 0;) {
        yyjson_doc *doc = yyjson_read(buffer, (size_t)len, 0);
        must_be(doc != NULL, "a line is not JSON");
        yyjson_val *root = yyjson_doc_get_root(doc);
        line one = {.content = text_of(root, "content")};
        must_be(mf_role_parse(text_of(root, "role"), &one.role), "an unknown role");
        mf_str user = text_of(root, "user");
        mf_uuid *id = mf_map_get(users, user);
        if (id == NULL) {
            id = malloc(sizeof *id);
            must_be(id != NULL, "no memory");
            *id = mf_uuid_new();
            must_be(mf_map_put(users, user, id, NULL) == MF_OK, "no memory");
        }
        one.session = session_of(by_name, user, text_of(root, "session"), id);
        lines = realloc(lines, (line_count + 1) * sizeof *lines);
        must_be(lines != NULL, "no memory");
        lines[line_count++] = one; /* the document stays: texts point into it */
    }
    free(buffer);
    (void)fclose(file);
    mf_map_free(by_name);
    mf_map_free(users);
    must_be(line_count > 0, "no lines");
}

/* --- stores --- */

typedef struct subject {
    const char *name;
    char path[512];
    mf_store *store;
    mf_conn *conn; /* the writer while filling, a reader while measuring */
    int64_t *nums; /* [line_count] */
    double ns[3][ROUNDS];
} subject;

static subject subjects[STORES] = {
    {.name = "plain"}, {.name = "packed"}, {.name = "packed, dictionary"}};

static void open_subject(subject *s, bool writer) {
    mf_err err;
    mf_sqlite_options options = mf_sqlite_options_default(s->path);
    options.sync = MF_SYNC_OFF;
    must(mf_sqlite_store_open(&options, &s->store, &err), &err);
    must(s->store->ops->conn_open(s->store, writer, &s->conn, &err), &err);
}

static void close_subject(subject *s) {
    s->store->ops->conn_close(s->conn);
    s->store->ops->close(s->store);
}

static void insert_owners(subject *s, mf_uuid agent) {
    mf_err err;
    const mf_store_ops *ops = s->conn->ops;
    mf_named_row row = {.id = agent, .name = MF_STR("agent")};
    must(ops->agent_insert(s->conn, &row, &err), &err);
    for (size_t i = 0; i < session_count; i++) {
        mf_named_row user = {.id = sessions[i].user_id,
                             .name = mf_str_from(sessions[i].user)};
        mf_rc rc = ops->user_insert(s->conn, &user, &err);
        must_be(rc == MF_OK || rc == MF_E_EXISTS, err.text);
        mf_session_row one = {.id = sessions[i].id,
                              .user_id = sessions[i].user_id,
                              .agent_id = agent,
                              .name = mf_str_from(sessions[i].name)};
        must(ops->session_insert(s->conn, &one, &err), &err);
    }
}

static void insert_line(subject *s, size_t i, mf_rng *rng) {
    mf_err err;
    const session *place = &sessions[lines[i].session];
    mf_message_row row = {.id = mf_uuid_new(),
                          .user_id = place->user_id,
                          .session_id = place->id,
                          .round_id = mf_uuid_new(),
                          .role = lines[i].role,
                          .content = lines[i].content,
                          .created_us = mf_wall_us()};
    row.updated_us = row.created_us;
    must(s->conn->ops->message_insert(s->conn, &row, 1, &err), &err);
    s->nums[i] = row.num;
    if (dimensions > 0) {
        uint16_t vector[4096];
        for (size_t d = 0; d < dimensions; d++) {
            vector[d] = (uint16_t)mf_rng_next(rng);
        }
        mf_chunk_row chunk = {.num = row.num,
                              .part_count = 1,
                              .doc_updated_us = row.updated_us,
                              .model = MF_STR("model"),
                              .vector = vector,
                              .dim = dimensions};
        must(s->conn->ops->chunk_put(s->conn, row.user_id, &chunk, &err), &err);
    }
}

static void fill(subject *s) {
    mf_err err;
    mf_rng rng;
    mf_rng_init(&rng, 1);
    s->nums = calloc(line_count, sizeof *s->nums);
    must_be(s->nums != NULL, "no memory");
    const mf_store_ops *ops = s->conn->ops;
    must(ops->begin(s->conn, &err), &err);
    insert_owners(s, mf_uuid_new());
    for (size_t i = 0; i < line_count; i++) {
        insert_line(s, i, &rng);
        if (i % GROUP == GROUP - 1) {
            must(ops->commit(s->conn, &err), &err);
            must(ops->begin(s->conn, &err), &err);
        }
    }
    must(ops->commit(s->conn, &err), &err);
}

static void train(subject *s) {
    mf_err err;
    mf_arena *arena;
    mf_str dictionary;
    must(mf_arena_new((size_t)256 << 20, &arena, &err), &err);
    int64_t start = mf_now_ns();
    must(s->conn->ops->text_train(s->conn, arena, &dictionary, &err), &err);
    printf("training: %.0f ms, %zu bytes\n", (double)(mf_now_ns() - start) / 1e6,
           dictionary.len);
    if (dictionary.p != NULL) {
        must(s->conn->ops->begin(s->conn, &err), &err);
        must(s->conn->ops->text_dictionary_add(s->conn, dictionary, &err), &err);
        must(s->conn->ops->commit(s->conn, &err), &err);
    }
    mf_arena_free(arena);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double share(double *values, size_t count, double part) {
    qsort(values, count, sizeof *values, compare);
    return values[(size_t)((double)(count - 1) * part)];
}

static void compress(subject *s) {
    static double slice_ms[SLICES_MAX];
    mf_err err;
    mf_text_limits limits = {.made_before_us = INT64_MAX, .bytes_max = SLICE_BYTES};
    mf_text_slice slice = {.more = true};
    mf_text_slice sum = {0};
    size_t count = 0;
    while (slice.more && count < SLICES_MAX) {
        int64_t start = mf_now_ns();
        must(s->conn->ops->begin(s->conn, &err), &err);
        must(s->conn->ops->text_compress(s->conn, &limits, &slice, &err), &err);
        slice_ms[count++] = (double)(mf_now_ns() - start) / 1e6;
        must(s->conn->ops->commit(s->conn, &err), &err);
        sum.packed += slice.packed;
        sum.bytes_before += slice.bytes_before;
        sum.bytes_after += slice.bytes_after;
    }
    printf("%s: %" PRIu64
           " of %zu texts packed, %.2f of their bytes; a slice of %d KiB "
           "takes %.2f ms (median), %.2f (p99)\n",
           s->name, sum.packed, line_count,
           (double)sum.bytes_after / (double)sum.bytes_before, SLICE_BYTES >> 10,
           share(slice_ms, count, 0.5), share(slice_ms, count, 0.99));
}

static double file_mib(const subject *s) {
    struct stat st;
    must_be(stat(s->path, &st) == 0, "no file");
    return (double)st.st_size / (1 << 20);
}

/* As opening does it by itself once a quarter of the file was saved. */
static void vacuum(const subject *s) {
    sqlite3 *db = NULL;
    must_be(sqlite3_open(s->path, &db) == SQLITE_OK, "cannot open the file");
    must_be(sqlite3_exec(db, "VACUUM", NULL, NULL, NULL) == SQLITE_OK, "cannot vacuum");
    must_be(sqlite3_close(db) == SQLITE_OK, "cannot close the file");
}

/* --- reading --- */

static size_t read_bytes;

static mf_rc count_message(void *ctx, const mf_message_row *row, mf_err *err) {
    (void)ctx;
    (void)err; /* it cannot fail */
    read_bytes += row->content.len;
    return MF_OK;
}

static void read_lists(subject *s, mf_arena *arena, mf_rng *rng) {
    mf_err err;
    for (size_t i = 0; i < LISTINGS; i++) {
        const session *one = &sessions[mf_rng_below(rng, session_count)];
        mf_message_range range = {.num_to = INT64_MAX, .limit = LIST_LIMIT};
        mf_message_row *rows;
        size_t count;
        must(s->conn->ops->message_list(s->conn, one->user_id, one->id, &range, arena,
                                        &rows, &count, &err),
             &err);
        mf_arena_reset(arena);
    }
}

static void read_texts(subject *s, mf_arena *arena, mf_rng *rng) {
    mf_err err;
    for (size_t i = 0; i < LOOKUPS * LOOKUP_TEXTS; i++) {
        size_t at = mf_rng_below(rng, line_count);
        mf_message_row row;
        must(s->conn->ops->message_get_by_num(s->conn,
                                              sessions[lines[at].session].user_id,
                                              &s->nums[at], 1, arena, &row, &err),
             &err);
        must_be(mf_str_eq(row.content, lines[at].content), "a text has changed");
        mf_arena_reset(arena);
    }
}

static void read_all(subject *s, mf_arena *arena, mf_rng *rng) {
    (void)arena;
    (void)rng;
    mf_err err;
    for (size_t i = 0; i < session_count; i++) {
        bool first = true; /* session of its user: a user is scanned once */
        for (size_t j = i; j > 0 && first && j + 64 > i; j--) {
            first = !mf_uuid_eq(sessions[j - 1].user_id, sessions[i].user_id);
        }
        if (first) {
            must(s->conn->ops->message_scan(s->conn, sessions[i].user_id, count_message,
                                            NULL, &err),
                 &err);
        }
    }
}

typedef void (*read_fn)(subject *s, mf_arena *arena, mf_rng *rng);
static const read_fn reads[3] = {read_lists, read_texts, read_all};
static const char *const read_names[3] = {"list 100 messages", "texts of 10 messages",
                                          "read everything"};

static void measure(void) {
    mf_err err;
    mf_arena *arena;
    must(mf_arena_new((size_t)256 << 20, &arena, &err), &err);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t what = 0; what < 3; what++) {
            for (size_t i = 0; i < STORES; i++) {
                mf_rng rng;
                mf_rng_init(&rng, round);
                int64_t start = mf_now_ns();
                reads[what](&subjects[i], arena, &rng);
                subjects[i].ns[what][round] = (double)(mf_now_ns() - start);
            }
        }
    }
    mf_arena_free(arena);
}

static void tell_reads(void) {
    static const double per[3] = {LISTINGS, LOOKUPS, 1};
    for (size_t what = 0; what < 3; what++) {
        double plain[ROUNDS];
        memcpy(plain, subjects[0].ns[what], sizeof plain);
        printf("%-22s %9.1f us plain;", read_names[what],
               share(plain, ROUNDS, 0.5) / per[what] / 1e3);
        for (size_t i = 1; i < STORES; i++) {
            double ratios[ROUNDS];
            for (size_t round = 0; round < ROUNDS; round++) {
                ratios[round] =
                    subjects[i].ns[what][round] / subjects[0].ns[what][round];
            }
            printf(" %s x %.2f", subjects[i].name, share(ratios, ROUNDS, 0.5));
            printf(" (%.2f-%.2f)", ratios[0], ratios[ROUNDS - 1]);
        }
        printf("\n");
    }
}

static void open_readers(void) {
    for (size_t i = 0; i < STORES; i++) {
        open_subject(&subjects[i], false);
    }
}

static void close_all(void) {
    for (size_t i = 0; i < STORES; i++) {
        close_subject(&subjects[i]);
    }
}

int main(int argc, char **argv) {
    must_be(argc >= 2 && argc <= 4,
            "bench_compression LINES.jsonl [FOLDER [DIMENSIONS]]");
    const char *folder = argc > 2 ? argv[2] : P_tmpdir;
    dimensions = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 0;
    must_be(dimensions <= 4096, "at most 4096 dimensions");
    read_lines(argv[1]);
    size_t bytes = 0;
    for (size_t i = 0; i < line_count; i++) {
        bytes += lines[i].content.len;
    }
    printf("%zu messages, %.1f MiB of text (%zu bytes each), %zu sessions, vectors of "
           "%zu\n",
           line_count, (double)bytes / (1 << 20), bytes / line_count, session_count,
           dimensions);
    for (size_t i = 0; i < STORES; i++) {
        subject *s = &subjects[i];
        (void)snprintf(s->path, sizeof s->path, "%.400s/mf-compression-%d-%zu.db",
                       folder, (int)getpid(), i);
        open_subject(s, true);
        fill(s);
        if (i == 2) {
            train(s);
        }
        if (i > 0) {
            compress(s);
        }
        close_subject(s);
    }
    for (size_t i = 0; i < STORES; i++) {
        printf("file, %-20s %8.1f MiB, x %.2f\n", subjects[i].name,
               file_mib(&subjects[i]), file_mib(&subjects[i]) / file_mib(&subjects[0]));
    }
    for (size_t i = 0; i < STORES; i++) {
        vacuum(&subjects[i]);
    }
    for (size_t i = 0; i < STORES; i++) {
        printf("vacuumed, %-16s %8.1f MiB, x %.2f\n", subjects[i].name,
               file_mib(&subjects[i]), file_mib(&subjects[i]) / file_mib(&subjects[0]));
    }
    open_readers();
    measure();
    close_all();
    tell_reads();
    for (size_t i = 0; i < STORES; i++) {
        (void)unlink(subjects[i].path);
    }
    return 0;
}
