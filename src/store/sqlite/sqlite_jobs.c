/* sqlite_jobs.c - background jobs in SQLite.
 *
 * Where a job stands in its lane is a column, kept by every change: at most one job of
 * a lane is READY or RUNNING, and those BEHIND are never looked at by a claim.  So a
 * claim is a few look-ups in the index of the ready ones, one for each kind and
 * priority, however long the queue is. */
#include "store/sqlite/sqlite_conn.h"

#include "base/assert.h"

typedef enum standing { BEHIND, READY, RUNNING, DEAD } standing;

static void read_job(mf_query *q, mf_arena *arena, void *out) {
    mf_job_row row = {.id = mf_query_id(q, 0),
                      .user_id = mf_query_id(q, 1),
                      .num = mf_query_int(q, 2),
                      .kind = mf_query_text(q, 3, arena),
                      .key = mf_query_text(q, 4, arena),
                      .payload = mf_query_text(q, 5, arena),
                      .error = mf_query_text(q, 6, arena),
                      .priority = (int32_t)mf_query_int(q, 7),
                      .runs = (int32_t)mf_query_int(q, 9),
                      .failures = (int32_t)mf_query_int(q, 10),
                      .lost = (int32_t)mf_query_int(q, 11),
                      .created_us = mf_query_int(q, 12),
                      .due_us = mf_query_int(q, 13),
                      .lease_us = mf_query_int(q, 14)};
    switch ((standing)mf_query_int(q, 8)) {
    case BEHIND:
    case READY:
        row.state = MF_JOB_OPEN;
        break;
    case RUNNING:
        row.state = MF_JOB_RUNNING;
        break;
    case DEAD:
        row.state = MF_JOB_DEAD;
        break;
    default:
        mf_query_corrupt(q);
    }
    *(mf_job_row *)out = row;
}

static const mf_shape job_shape = {"job", sizeof(mf_job_row), read_job};

/* --- lanes --- */

static mf_rc lane_change(mf_sqlite_conn *conn, mf_sql sql, const mf_uuid *user_id,
                         mf_str kind, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, sql, &q, err));
    mf_query_bind_id(&q, user_id);
    mf_query_bind_text(&q, kind);
    return mf_query_run(&q, err);
}

/* Runs a statement bound to one job that returns its kind; MF_E_NOTFOUND when it
 * touches none.  Closes the query. */
static mf_rc touch_job(mf_query *q, char kind[MF_JOB_KIND_MAX + 1], mf_err *err) {
    bool found = false;
    mf_rc rc = mf_query_step(q, &found, err);
    if (rc == MF_OK && found) {
        mf_str text = mf_query_text(q, 0, NULL);
        if (text.len > MF_JOB_KIND_MAX) {
            mf_query_corrupt(q);
        } else {
            memcpy(kind, text.p, text.len);
            kind[text.len] = '\0';
        }
        rc = mf_query_check(q, err);
    } else if (rc == MF_OK) {
        rc = MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such job");
    }
    mf_query_close(q);
    return rc;
}

/* The same, and its lane goes on with whoever is next now. */
static mf_rc touch_and_open(mf_query *q, const mf_uuid *user_id, mf_err *err) {
    char kind[MF_JOB_KIND_MAX + 1];
    mf_sqlite_conn *conn = q->conn;
    MF_TRY(touch_job(q, kind, err));
    return lane_change(conn, MF_SQL_JOB_LANE_OPEN, user_id, mf_str_from(kind), err);
}

/* --- putting --- */

static mf_rc need_user(mf_sqlite_conn *conn, const mf_uuid *id, mf_err *err) {
    if (mf_uuid_is_none(*id)) {
        return MF_OK;
    }
    mf_query q;
    bool exists = false;
    MF_TRY(mf_query_open(conn, MF_SQL_USER_GET, &q, err));
    mf_query_bind_id(&q, id);
    mf_rc rc = mf_query_step(&q, &exists, err);
    mf_query_close(&q);
    if (rc == MF_OK && !exists) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    return rc;
}

mf_rc mf_sqlite_job_put(mf_conn *conn, const mf_job_row *row, bool *added,
                        mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    MF_TRY(mf_job_check(row, err));
    MF_TRY(need_user(c, &row->user_id, err));
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_JOB_PUT, &q, err));
    mf_query_bind_id(&q, &row->user_id);
    mf_query_bind_id(&q, &row->id);
    mf_query_bind_text(&q, row->kind);
    mf_query_bind_text_opt(&q, row->key);
    mf_query_bind_text(&q, row->payload);
    mf_query_bind_int(&q, row->priority);
    mf_query_bind_int(&q, row->created_us);
    mf_query_bind_int(&q, row->due_us);
    mf_rc rc = mf_query_run(&q, err);
    if (rc == MF_E_EXISTS) {
        return MF_FAIL_FIELD(err, rc, "id", "the job's id is taken");
    }
    MF_TRY(rc);
    *added = sqlite3_changes64(c->db) > 0;
    return MF_OK;
}

/* --- claiming --- */

static mf_rc lose(mf_sqlite_conn *conn, const mf_job_row *row, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_JOB_LOSE, &q, err));
    mf_query_bind_int(&q, row->num);
    mf_query_bind_int(&q, MF_JOB_LOST_MAX);
    mf_query_bind_text(&q, MF_STR(MF_JOB_LOST_TEXT));
    MF_TRY(mf_query_run(&q, err));
    return lane_change(conn, MF_SQL_JOB_LANE_OPEN, &row->user_id, row->kind, err);
}

/* Running jobs whose lease ends by a time go back; there are few of them. */
static mf_rc lose_all(mf_sqlite_conn *conn, int64_t lease_to_us, size_t *count,
                      mf_err *err) {
    for (bool found = true; found;) {
        char kind[MF_JOB_KIND_MAX + 1] = "";
        mf_job_row row = {0};
        mf_query q;
        MF_TRY(mf_query_open(conn, MF_SQL_JOB_EXPIRED, &q, err));
        mf_query_bind_int(&q, lease_to_us);
        mf_rc rc = mf_query_step(&q, &found, err);
        if (rc == MF_OK && found) {
            read_job(&q, NULL, &row);
            rc = mf_query_check(&q, err);
            if (rc == MF_OK && row.kind.len <= MF_JOB_KIND_MAX) {
                memcpy(kind, row.kind.p, row.kind.len);
            }
        }
        mf_query_close(&q);
        MF_TRY(rc);
        if (found) {
            row.kind = mf_str_from(kind); /* the text ended with the query */
            MF_TRY(lose(conn, &row, err));
            ++*count;
        }
    }
    return MF_OK;
}

typedef struct head {
    int64_t num, due_us;
} head;

static mf_rc find_head(mf_sqlite_conn *conn, mf_str kind, int priority, head *out,
                       bool *found, mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_JOB_HEAD, &q, err));
    mf_query_bind_text(&q, kind);
    mf_query_bind_int(&q, priority);
    mf_rc rc = mf_query_step(&q, found, err);
    if (rc == MF_OK && *found) {
        *out = (head){mf_query_int(&q, 0), mf_query_int(&q, 1)};
    }
    mf_query_close(&q);
    return rc;
}

/* The job that is next of all kinds; *found false: none is due. */
static mf_rc find_next(mf_sqlite_conn *conn, const mf_job_claim *claim, head *out,
                       bool *found, int64_t *next_due_us, mf_err *err) {
    *next_due_us = INT64_MAX;
    *found = false;
    for (int priority = MF_JOB_PRIORITY_MAX; priority >= 0 && !*found; priority--) {
        for (size_t i = 0; i < claim->kind_count; i++) {
            head one;
            bool there = false;
            MF_TRY(find_head(conn, claim->kinds[i], priority, &one, &there, err));
            if (there && mf_job_is_due(one.due_us, claim->now_us)) {
                if (!*found || one.due_us < out->due_us) {
                    *out = one;
                }
                *found = true;
            } else if (there && one.due_us < *next_due_us) {
                *next_due_us = one.due_us;
            }
        }
    }
    return MF_OK;
}

mf_rc mf_sqlite_job_claim(mf_conn *conn, const mf_job_claim *claim, mf_arena *arena,
                          mf_job_row **rows, size_t *count, int64_t *next_due_us,
                          mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction && claim->kind_count <= MF_JOB_CLAIM_KINDS_MAX);
    size_t lost = 0;
    MF_TRY(lose_all(c, claim->now_us - 1, &lost, err));
    mf_rows list = mf_rows_of(arena, sizeof(mf_job_row));
    int64_t next = INT64_MAX;
    for (bool found = true; found;) {
        head at = {0};
        MF_TRY(find_next(c, claim, &at, &found, &next, err));
        if (found && list.count == claim->count_max) {
            next = claim->now_us; /* more is due than was asked for */
            break;
        }
        if (found) {
            mf_query q;
            MF_TRY(mf_query_open(c, MF_SQL_JOB_CLAIM, &q, err));
            mf_query_bind_int(&q, at.num);
            mf_query_bind_int(&q, claim->lease_us);
            MF_TRY(mf_query_all(&q, &job_shape, &list, err));
        }
    }
    *rows = list.rows;
    *count = list.count;
    *next_due_us = next;
    return MF_OK;
}

mf_rc mf_sqlite_job_recover(mf_conn *conn, size_t *count, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    size_t lost = 0;
    MF_TRY(lose_all(c, INT64_MAX, &lost, err));
    *count = lost;
    return MF_OK;
}

/* --- the ends of a claim --- */

static mf_rc open_claimed(mf_conn *conn, mf_sql sql, const mf_uuid *user_id,
                          const mf_uuid *id, int32_t runs, mf_query *q, mf_err *err) {
    MF_ASSERT(mf_sqlite_conn_of(conn)->in_transaction);
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), sql, q, err));
    mf_query_bind_id(q, user_id);
    mf_query_bind_id(q, id);
    mf_query_bind_int(q, runs);
    return MF_OK;
}

mf_rc mf_sqlite_job_done(mf_conn *conn, mf_uuid user_id, mf_uuid id, int32_t runs,
                         mf_err *err) {
    mf_query q;
    MF_TRY(open_claimed(conn, MF_SQL_JOB_DONE, &user_id, &id, runs, &q, err));
    return touch_and_open(&q, &user_id, err);
}

mf_rc mf_sqlite_job_fail(mf_conn *conn, mf_uuid user_id, mf_uuid id, int32_t runs,
                         const mf_job_return *how, mf_err *err) {
    mf_query q;
    MF_TRY(open_claimed(conn, MF_SQL_JOB_FAIL, &user_id, &id, runs, &q, err));
    mf_query_bind_int(&q, how->dead ? DEAD : BEHIND);
    mf_query_bind_int(&q, how->failed);
    mf_query_bind_int(&q, how->due_us);
    mf_query_bind_text_opt(&q, mf_job_error_cut(how->error));
    return touch_and_open(&q, &user_id, err);
}

mf_rc mf_sqlite_job_renew(mf_conn *conn, mf_uuid user_id, mf_uuid id, int32_t runs,
                          int64_t lease_us, mf_err *err) {
    char kind[MF_JOB_KIND_MAX + 1];
    mf_query q;
    MF_TRY(open_claimed(conn, MF_SQL_JOB_RENEW, &user_id, &id, runs, &q, err));
    mf_query_bind_int(&q, lease_us);
    return touch_job(&q, kind, err);
}

/* --- looking, and the operator's hand --- */

mf_rc mf_sqlite_job_get(mf_conn *conn, mf_uuid id, mf_arena *arena, mf_job_row *out,
                        mf_err *err) {
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_JOB_GET, &q, err));
    mf_query_bind_id(&q, &id);
    return mf_query_one(&q, &job_shape, "id", arena, out, err);
}

static int64_t standing_bits(unsigned states) {
    static const unsigned bits[] = {[MF_JOB_OPEN] = 1U << BEHIND | 1U << READY,
                                    [MF_JOB_RUNNING] = 1U << RUNNING,
                                    [MF_JOB_DEAD] = 1U << DEAD};
    unsigned wanted = 0;
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
        wanted |= states == 0 || (states >> i & 1) != 0 ? bits[i] : 0;
    }
    return wanted;
}

mf_rc mf_sqlite_job_list(mf_conn *conn, const mf_job_filter *filter, mf_arena *arena,
                         mf_job_row **rows, size_t *count, mf_err *err) {
    bool any = mf_uuid_is_none(filter->user_id);
    mf_query q;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn),
                         any ? MF_SQL_JOB_LIST : MF_SQL_JOB_LIST_USER, &q, err));
    if (!any) {
        mf_query_bind_id(&q, &filter->user_id);
    }
    mf_query_bind_int(&q, filter->num_to);
    mf_query_bind_int(&q, standing_bits(filter->states));
    mf_query_bind_text_opt(&q, filter->kind);
    mf_query_bind_size(&q, filter->limit);
    mf_rows list = mf_rows_of(arena, sizeof(mf_job_row));
    MF_TRY(mf_query_all(&q, &job_shape, &list, err));
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}

/* A change that touched nothing: is the job another's or gone, or does it run? */
static mf_rc why_untouched(mf_conn *conn, mf_rc rc, const mf_uuid *user_id,
                           const mf_uuid *id, mf_err *err) {
    if (rc != MF_E_NOTFOUND) {
        return rc;
    }
    mf_query q;
    bool found = false;
    bool running = false;
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_JOB_GET, &q, err));
    mf_query_bind_id(&q, id);
    rc = mf_query_step(&q, &found, err);
    if (rc == MF_OK && found) {
        mf_job_row row;
        read_job(&q, NULL, &row);
        running = mf_uuid_eq(row.user_id, *user_id) && row.state == MF_JOB_RUNNING;
    }
    mf_query_close(&q);
    MF_TRY(rc);
    return running ? MF_FAIL_FIELD(err, MF_E_BUSY, "id", "the job is running")
                   : MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such job");
}

mf_rc mf_sqlite_job_retry(mf_conn *conn, mf_uuid user_id, mf_uuid id, int64_t due_us,
                          mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    char kind[MF_JOB_KIND_MAX + 1];
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_JOB_RETRY, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &id);
    mf_query_bind_int(&q, due_us);
    mf_rc rc = touch_job(&q, kind, err);
    if (rc != MF_OK) {
        return why_untouched(conn, rc, &user_id, &id, err);
    }
    /* It may be older than the one that is next now. */
    MF_TRY(lane_change(c, MF_SQL_JOB_LANE_SHUT, &user_id, mf_str_from(kind), err));
    return lane_change(c, MF_SQL_JOB_LANE_OPEN, &user_id, mf_str_from(kind), err);
}

mf_rc mf_sqlite_job_drop(mf_conn *conn, mf_uuid user_id, mf_uuid id, mf_err *err) {
    mf_query q;
    MF_ASSERT(mf_sqlite_conn_of(conn)->in_transaction);
    MF_TRY(mf_query_open(mf_sqlite_conn_of(conn), MF_SQL_JOB_DROP, &q, err));
    mf_query_bind_id(&q, &user_id);
    mf_query_bind_id(&q, &id);
    return why_untouched(conn, touch_and_open(&q, &user_id, err), &user_id, &id, err);
}

static void read_counts(mf_query *q, mf_arena *arena, void *out) {
    *(mf_job_counts *)out = (mf_job_counts){.kind = mf_query_text(q, 0, arena),
                                            .open = (uint64_t)mf_query_int(q, 1),
                                            .running = (uint64_t)mf_query_int(q, 2),
                                            .dead = (uint64_t)mf_query_int(q, 3),
                                            .oldest_due_us = INT64_MAX};
}

static mf_rc count_all(mf_sqlite_conn *conn, mf_rows *list, mf_err *err) {
    static const mf_shape shape = {"kind", sizeof(mf_job_counts), read_counts};
    mf_query q;
    MF_TRY(mf_query_open(conn, MF_SQL_JOB_COUNTS, &q, err));
    MF_TRY(mf_query_all(&q, &shape, list, err));
    mf_job_counts *rows = list->rows;
    for (size_t i = 0; i < list->count; i++) {
        for (int priority = 0; priority <= MF_JOB_PRIORITY_MAX; priority++) {
            head at;
            bool found = false;
            MF_TRY(find_head(conn, rows[i].kind, priority, &at, &found, err));
            if (found && at.due_us < rows[i].oldest_due_us) {
                rows[i].oldest_due_us = at.due_us;
            }
        }
    }
    return MF_OK;
}

mf_rc mf_sqlite_job_counts(mf_conn *conn, mf_arena *arena, mf_job_counts **rows,
                           size_t *count, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    mf_rows list = mf_rows_of(arena, sizeof(mf_job_counts));
    bool opened;
    MF_TRY(mf_sqlite_hold(c, &opened, err));
    mf_rc rc = count_all(c, &list, err);
    mf_sqlite_let_go(c, opened);
    MF_TRY(rc);
    *rows = list.rows;
    *count = list.count;
    return MF_OK;
}
