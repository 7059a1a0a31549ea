/* memory_jobs.c - background jobs in memory.
 *
 * A lane (one user's jobs of one kind) has at most one active job, READY to be claimed
 * or RUNNING, noted under 'x'; the others that still live are BEHIND it, in order,
 * under 'e'.  A claim looks only at the ready ones ('r').  A kind takes 32 bytes of a
 * key, filled up with zeros, so that numbers can follow it.
 *
 * A row is changed by taking its entries out of every index and putting those of its
 * new state in; the version it was read from is held meanwhile, because its texts live
 * there. */
#include "store/memory/memory_conn.h"

#include "base/assert.h"

typedef enum standing { BEHIND, READY, RUNNING, DEAD } standing;

typedef struct job_value {
    standing at;
    mf_job_row row; /* its `state` is not kept: it follows from `at` */
} job_value;

static const mf_text_field job_texts[] = {
    {offsetof(job_value, row.kind), false},
    {offsetof(job_value, row.key), true},
    {offsetof(job_value, row.payload), false},
    {offsetof(job_value, row.error), true},
};
static const mf_row_shape job_shape = {"job", sizeof(job_value), job_texts, 4};

/* --- keys --- */

static void key_kind(mf_key *key, mf_str kind) {
    mf_uuid halves[2] = {MF_UUID_NONE, MF_UUID_NONE};
    MF_ASSERT(kind.len <= sizeof halves);
    memcpy(halves, kind.p, kind.len);
    mf_key_id(key, halves[0]);
    mf_key_id(key, halves[1]);
}
_Static_assert(MF_JOB_KIND_MAX < 2 * MF_UUID_BYTES, "a kind fits two ids");

static mf_key lane_key(char table, mf_uuid user_id, mf_str kind) {
    mf_key key = mf_key_of_id(table, user_id);
    key_kind(&key, kind);
    return key;
}

static mf_key behind_key(const mf_job_row *row) {
    mf_key key = lane_key('e', row->user_id, row->kind);
    mf_key_num(&key, row->num);
    return key;
}

static mf_key ready_prefix(mf_str kind, int64_t priority) {
    mf_key key;
    mf_key_start(&key, 'r');
    key_kind(&key, kind);
    mf_key_num(&key, priority);
    return key;
}

static mf_key ready_key(const mf_job_row *row) {
    mf_key key = ready_prefix(row->kind, row->priority);
    mf_key_num(&key, row->due_us);
    mf_key_num(&key, row->num);
    return key;
}

static mf_key lease_key(const mf_job_row *row) {
    mf_key key = mf_key_of_num('W', row->lease_us);
    mf_key_num(&key, row->num);
    return key;
}

/* The length comes first, so that no key is the start of another. */
static mf_key dedupe_prefix(const mf_job_row *row) {
    mf_key key = lane_key('f', row->user_id, row->kind);
    mf_key_num(&key, (int64_t)row->key.len);
    mf_key_text(&key, row->key);
    return key;
}

static mf_key dedupe_key(const mf_job_row *row) {
    mf_key key = dedupe_prefix(row);
    mf_key_num(&key, row->num);
    return key;
}

/* --- rows and their entries --- */

static mf_rc job_read(const mf_tree *view, mf_uuid id, mf_arena *arena, job_value *out,
                      mf_err *err) {
    static const mf_job_state states[] = {[BEHIND] = MF_JOB_OPEN,
                                          [READY] = MF_JOB_OPEN,
                                          [RUNNING] = MF_JOB_RUNNING,
                                          [DEAD] = MF_JOB_DEAD};
    mf_key key = mf_key_of_id('g', id);
    MF_TRY(mf_memory_get_row(view, &key, &job_shape, "id", arena, out, err));
    out->row.state = states[out->at];
    return MF_OK;
}

/* The index entries that follow from where a job stands. */
static mf_rc standing_put(mf_memory_conn *c, const job_value *value, mf_err *err) {
    const mf_job_row *row = &value->row;
    if (value->at == BEHIND) {
        mf_key behind = behind_key(row);
        MF_TRY(mf_memory_put_id(c, &behind, row->id, err));
    } else if (value->at != DEAD) {
        mf_key active = lane_key('x', row->user_id, row->kind);
        mf_key place = value->at == READY ? ready_key(row) : lease_key(row);
        MF_TRY(mf_memory_put_id(c, &active, row->id, err));
        MF_TRY(mf_memory_put_id(c, &place, row->id, err));
    }
    if (row->key.p != NULL && (value->at == BEHIND || value->at == READY)) {
        mf_key dedupe = dedupe_key(row);
        MF_TRY(mf_memory_put_id(c, &dedupe, row->id, err));
    }
    return MF_OK;
}

static mf_rc standing_remove(mf_memory_conn *c, const job_value *value, mf_err *err) {
    const mf_job_row *row = &value->row;
    if (value->at == BEHIND) {
        mf_key behind = behind_key(row);
        MF_TRY(mf_memory_remove(c, &behind, err));
    } else if (value->at != DEAD) {
        mf_key active = lane_key('x', row->user_id, row->kind);
        mf_key place = value->at == READY ? ready_key(row) : lease_key(row);
        MF_TRY(mf_memory_remove(c, &active, err));
        MF_TRY(mf_memory_remove(c, &place, err));
    }
    if (row->key.p != NULL && (value->at == BEHIND || value->at == READY)) {
        mf_key dedupe = dedupe_key(row);
        MF_TRY(mf_memory_remove(c, &dedupe, err));
    }
    return MF_OK;
}

/* Puts `after` in the place of `before`, whose texts it may share. */
static mf_rc job_change(mf_memory_conn *c, const job_value *before,
                        const job_value *after, mf_err *err) {
    mf_key key = mf_key_of_id('g', after->row.id);
    MF_TRY(standing_remove(c, before, err));
    MF_TRY(mf_memory_put_row(c, &key, &job_shape, after, err));
    return standing_put(c, after, err);
}

static mf_rc job_remove(mf_memory_conn *c, const job_value *value, mf_err *err) {
    mf_key key = mf_key_of_id('g', value->row.id);
    mf_key by_num = mf_key_of_num('G', value->row.num);
    mf_key by_user = mf_key_of_id_num('v', value->row.user_id, value->row.num);
    MF_TRY(standing_remove(c, value, err));
    MF_TRY(mf_memory_remove(c, &by_num, err));
    MF_TRY(mf_memory_remove(c, &by_user, err));
    return mf_memory_remove(c, &key, err);
}

/* Lets the oldest of a lane be next, unless somebody is already. */
static mf_rc lane_open(mf_memory_conn *c, const mf_job_row *of, mf_err *err) {
    mf_key active = lane_key('x', of->user_id, of->kind);
    mf_key prefix = lane_key('e', of->user_id, of->kind);
    mf_tree *view = mf_view_open(c);
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    if (!mf_memory_has(view, &active) && mf_walk_next(&walk)) {
        mf_uuid id;
        job_value before;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        rc = job_read(view, id, NULL, &before, err);
        if (rc == MF_OK) {
            job_value after = before;
            after.at = READY;
            rc = job_change(c, &before, &after, err);
        }
    }
    mf_view_close(view);
    return rc;
}

/* --- putting --- */

static mf_rc check_put(const mf_tree *view, const mf_job_row *row, bool *waits,
                       mf_err *err) {
    mf_key user = mf_key_of_id('u', row->user_id);
    mf_key id = mf_key_of_id('g', row->id);
    if (!mf_uuid_is_none(row->user_id) && !mf_memory_has(view, &user)) {
        return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "user_id", "no such user");
    }
    if (mf_memory_has(view, &id)) {
        return MF_FAIL_FIELD(err, MF_E_EXISTS, "id", "the job's id is taken");
    }
    *waits = false;
    if (row->key.p != NULL) {
        mf_key prefix = dedupe_prefix(row);
        mf_walk walk = mf_walk_start(view, &prefix);
        *waits = mf_walk_next(&walk);
    }
    return MF_OK;
}

mf_rc mf_memory_job_put(mf_conn *conn, const mf_job_row *row, bool *added,
                        mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    bool waits = false;
    MF_TRY(mf_job_check(row, err));
    MF_TRY(check_put(c->root, row, &waits, err));
    if (waits) {
        *added = false;
        return MF_OK;
    }
    mf_key active = lane_key('x', row->user_id, row->kind);
    job_value value = {.at = mf_memory_has(c->root, &active) ? BEHIND : READY,
                       .row = {.id = row->id,
                               .user_id = row->user_id,
                               .num = ++c->store->seq_last,
                               .kind = row->kind,
                               .key = row->key,
                               .payload = row->payload,
                               .priority = row->priority,
                               .created_us = row->created_us,
                               .due_us = row->due_us}};
    mf_key key = mf_key_of_id('g', row->id);
    mf_key by_num = mf_key_of_num('G', value.row.num);
    mf_key by_user = mf_key_of_id_num('v', row->user_id, value.row.num);
    MF_TRY(mf_memory_put_row(c, &key, &job_shape, &value, err));
    MF_TRY(mf_memory_put_id(c, &by_num, row->id, err));
    MF_TRY(mf_memory_put_id(c, &by_user, row->id, err));
    MF_TRY(standing_put(c, &value, err));
    *added = true;
    return MF_OK;
}

/* --- claiming --- */

static mf_rc lose(mf_memory_conn *c, mf_uuid id, mf_err *err) {
    mf_tree *view = mf_view_open(c);
    job_value before;
    mf_rc rc = job_read(view, id, NULL, &before, err);
    if (rc == MF_OK) {
        job_value after = before;
        after.row.lost++;
        after.row.error = MF_STR(MF_JOB_LOST_TEXT);
        after.at = after.row.lost >= MF_JOB_LOST_MAX ? DEAD : BEHIND;
        rc = job_change(c, &before, &after, err);
        if (rc == MF_OK) {
            rc = lane_open(c, &after.row, err);
        }
    }
    mf_view_close(view);
    return rc;
}

/* The lease is the first number of the key, the row's the second. */
static int64_t lease_of(mf_str key) {
    return mf_key_last_num(mf_str_sub(key, 0, key.len - sizeof(int64_t)));
}

static mf_rc lose_all(mf_memory_conn *c, int64_t lease_to_us, size_t *count,
                      mf_err *err) {
    mf_tree *view = mf_view_open(c); /* stands still while jobs go back */
    mf_key prefix;
    mf_key_start(&prefix, 'W');
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk) &&
           lease_of(walk.entry.key) <= lease_to_us) {
        mf_uuid id;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        rc = lose(c, id, err);
        *count += rc == MF_OK;
    }
    mf_view_close(view);
    return rc;
}

typedef struct head {
    mf_uuid id;
    int64_t due_us;
} head;

static bool find_head(const mf_tree *view, mf_str kind, int priority, head *out) {
    mf_key prefix = ready_prefix(kind, priority);
    mf_walk walk = mf_walk_start(view, &prefix);
    if (!mf_walk_next(&walk)) {
        return false;
    }
    memcpy(out->id.b, walk.entry.value.p, sizeof out->id.b);
    mf_str key = walk.entry.key;
    out->due_us = mf_key_last_num(mf_str_sub(key, 0, key.len - sizeof(int64_t)));
    return true;
}

static bool find_next(const mf_tree *view, const mf_job_claim *claim, head *out,
                      int64_t *next_due_us) {
    bool found = false;
    *next_due_us = INT64_MAX;
    for (int priority = MF_JOB_PRIORITY_MAX; priority >= 0 && !found; priority--) {
        for (size_t i = 0; i < claim->kind_count; i++) {
            head one;
            if (!find_head(view, claim->kinds[i], priority, &one)) {
                continue;
            }
            if (mf_job_is_due(one.due_us, claim->now_us)) {
                if (!found || one.due_us < out->due_us) {
                    *out = one;
                }
                found = true;
            } else if (one.due_us < *next_due_us) {
                *next_due_us = one.due_us;
            }
        }
    }
    return found;
}

static mf_rc claim_one(mf_memory_conn *c, mf_uuid id, int64_t lease_us, mf_rows *list,
                       mf_err *err) {
    job_value before;
    mf_job_row *row = mf_rows_add(list);
    if (row == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of jobs");
    }
    MF_TRY(job_read(c->root, id, list->arena, &before, err));
    job_value after = before;
    after.at = RUNNING;
    after.row.state = MF_JOB_RUNNING;
    after.row.runs++;
    after.row.lease_us = lease_us;
    *row = after.row;
    return job_change(c, &before, &after, err);
}

mf_rc mf_memory_job_claim(mf_conn *conn, const mf_job_claim *claim, mf_arena *arena,
                          mf_job_row **rows, size_t *count, int64_t *next_due_us,
                          mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction && claim->kind_count <= MF_JOB_CLAIM_KINDS_MAX);
    size_t lost = 0;
    MF_TRY(lose_all(c, claim->now_us - 1, &lost, err));
    mf_rows list = mf_rows_of(arena, sizeof(mf_job_row));
    int64_t next;
    head at;
    while (find_next(c->root, claim, &at, &next)) {
        if (list.count == claim->count_max) {
            next = claim->now_us; /* more is due than was asked for */
            break;
        }
        MF_TRY(claim_one(c, at.id, claim->lease_us, &list, err));
    }
    *rows = list.rows;
    *count = list.count;
    *next_due_us = next;
    return MF_OK;
}

mf_rc mf_memory_job_recover(mf_conn *conn, size_t *count, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    size_t lost = 0;
    MF_TRY(lose_all(c, INT64_MAX, &lost, err));
    *count = lost;
    return MF_OK;
}

/* --- changes of one job --- */

/* The job as it stands, when it is this user's. */
static mf_rc job_of_user(const mf_tree *view, mf_uuid user_id, mf_uuid id,
                         job_value *out, mf_err *err) {
    MF_TRY(job_read(view, id, NULL, out, err));
    return mf_uuid_eq(out->row.user_id, user_id)
               ? MF_OK
               : MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such job");
}

static mf_rc claimed_job(const mf_tree *view, mf_uuid user_id, mf_uuid id, int32_t runs,
                         job_value *out, mf_err *err) {
    MF_TRY(job_of_user(view, user_id, id, out, err));
    return out->at == RUNNING && out->row.runs == runs
               ? MF_OK
               : MF_FAIL_FIELD(err, MF_E_NOTFOUND, "id", "no such job");
}

static mf_rc waiting_job(const mf_tree *view, mf_uuid user_id, mf_uuid id,
                         job_value *out, mf_err *err) {
    MF_TRY(job_of_user(view, user_id, id, out, err));
    return out->at != RUNNING
               ? MF_OK
               : MF_FAIL_FIELD(err, MF_E_BUSY, "id", "the job is running");
}

static mf_rc remove_and_open(mf_memory_conn *c, const job_value *value, mf_err *err) {
    MF_TRY(job_remove(c, value, err));
    return lane_open(c, &value->row, err);
}

mf_rc mf_memory_job_done(mf_conn *conn, mf_uuid user_id, mf_uuid id, int32_t runs,
                         mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_tree *view = mf_view_open(c);
    job_value value;
    mf_rc rc = claimed_job(view, user_id, id, runs, &value, err);
    if (rc == MF_OK) {
        rc = remove_and_open(c, &value, err);
    }
    mf_view_close(view);
    return rc;
}

mf_rc mf_memory_job_fail(mf_conn *conn, mf_uuid user_id, mf_uuid id, int32_t runs,
                         const mf_job_return *how, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_tree *view = mf_view_open(c);
    job_value before;
    mf_rc rc = claimed_job(view, user_id, id, runs, &before, err);
    if (rc == MF_OK) {
        job_value after = before;
        after.at = how->dead ? DEAD : BEHIND;
        after.row.failures += how->failed;
        after.row.due_us = how->due_us;
        after.row.error =
            how->error.p != NULL ? mf_job_error_cut(how->error) : before.row.error;
        rc = job_change(c, &before, &after, err);
        if (rc == MF_OK) {
            rc = lane_open(c, &after.row, err);
        }
    }
    mf_view_close(view);
    return rc;
}

mf_rc mf_memory_job_renew(mf_conn *conn, mf_uuid user_id, mf_uuid id, int32_t runs,
                          int64_t lease_us, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_tree *view = mf_view_open(c);
    job_value before;
    mf_rc rc = claimed_job(view, user_id, id, runs, &before, err);
    if (rc == MF_OK) {
        job_value after = before;
        after.row.lease_us = lease_us;
        rc = job_change(c, &before, &after, err);
    }
    mf_view_close(view);
    return rc;
}

/* The ready job of a lane steps back. */
static mf_rc lane_shut(mf_memory_conn *c, const mf_job_row *of, mf_err *err) {
    mf_key active = lane_key('x', of->user_id, of->kind);
    mf_tree *view = mf_view_open(c);
    mf_uuid id = MF_UUID_NONE;
    job_value before;
    mf_rc rc = MF_OK;
    if (mf_memory_get_id(view, &active, &id)) {
        rc = job_read(view, id, NULL, &before, err);
        if (rc == MF_OK && before.at == READY) {
            job_value after = before;
            after.at = BEHIND;
            rc = job_change(c, &before, &after, err);
        }
    }
    mf_view_close(view);
    return rc;
}

mf_rc mf_memory_job_retry(mf_conn *conn, mf_uuid user_id, mf_uuid id, int64_t due_us,
                          mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_tree *view = mf_view_open(c);
    job_value before;
    mf_rc rc = waiting_job(view, user_id, id, &before, err);
    if (rc == MF_OK) {
        job_value after = before;
        after.at = BEHIND;
        after.row.failures = 0;
        after.row.lost = 0;
        after.row.due_us = due_us;
        rc = job_change(c, &before, &after, err);
        /* It may be older than the one that is next now. */
        if (rc == MF_OK) {
            rc = lane_shut(c, &after.row, err);
        }
        if (rc == MF_OK) {
            rc = lane_open(c, &after.row, err);
        }
    }
    mf_view_close(view);
    return rc;
}

mf_rc mf_memory_job_drop(mf_conn *conn, mf_uuid user_id, mf_uuid id, mf_err *err) {
    mf_memory_conn *c = mf_memory_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    mf_tree *view = mf_view_open(c);
    job_value value;
    mf_rc rc = waiting_job(view, user_id, id, &value, err);
    if (rc == MF_OK) {
        rc = remove_and_open(c, &value, err);
    }
    mf_view_close(view);
    return rc;
}

mf_rc mf_memory_remove_jobs_of_user(mf_memory_conn *conn, mf_uuid user_id,
                                    mf_err *err) {
    mf_key prefix = mf_key_of_id('v', user_id);
    mf_tree *view = mf_view_open(conn); /* stands still while jobs go */
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = MF_OK;
    while (rc == MF_OK && mf_walk_next(&walk)) {
        mf_uuid id;
        job_value value;
        memcpy(id.b, walk.entry.value.p, sizeof id.b);
        rc = job_read(view, id, NULL, &value, err);
        if (rc == MF_OK) {
            rc = job_remove(conn, &value, err);
        }
    }
    mf_view_close(view);
    return rc;
}

/* --- looking --- */

mf_rc mf_memory_job_get(mf_conn *conn, mf_uuid id, mf_arena *arena, mf_job_row *out,
                        mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    job_value value;
    mf_rc rc = job_read(view, id, arena, &value, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *out = value.row;
    }
    return rc;
}

static bool passes(const mf_job_filter *filter, const mf_job_row *row) {
    return (filter->states == 0 || (filter->states >> row->state & 1) != 0) &&
           (filter->kind.p == NULL || mf_str_eq(filter->kind, row->kind));
}

static mf_rc collect(mf_walk *walk, const mf_job_filter *filter, mf_rows *list,
                     mf_err *err) {
    while (list->count < filter->limit && mf_walk_next(walk) &&
           mf_key_last_num(walk->entry.key) <= filter->num_to) {
        mf_uuid id;
        job_value value;
        memcpy(id.b, walk->entry.value.p, sizeof id.b);
        MF_TRY(job_read(walk->view, id, NULL, &value, err));
        if (!passes(filter, &value.row)) {
            continue;
        }
        mf_job_row *row = mf_rows_add(list);
        if (row == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of jobs");
        }
        MF_TRY(job_read(walk->view, id, list->arena, &value, err));
        *row = value.row;
    }
    return MF_OK;
}

mf_rc mf_memory_job_list(mf_conn *conn, const mf_job_filter *filter, mf_arena *arena,
                         mf_job_row **rows, size_t *count, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_job_row));
    mf_key prefix;
    mf_key_start(&prefix, 'G');
    if (!mf_uuid_is_none(filter->user_id)) {
        prefix = mf_key_of_id('v', filter->user_id);
    }
    mf_walk walk = mf_walk_start(view, &prefix);
    mf_rc rc = collect(&walk, filter, &list, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *rows = list.rows;
        *count = list.count;
    }
    return rc;
}

/* The row of a kind, kept in the order of names. */
static mf_job_counts *counts_of(mf_rows *list, mf_str kind) {
    mf_job_counts *rows = list->rows;
    size_t at = 0;
    while (at < list->count && mf_str_cmp(rows[at].kind, kind) < 0) {
        at++;
    }
    if (at < list->count && mf_str_eq(rows[at].kind, kind)) {
        return &rows[at];
    }
    mf_str copy = mf_arena_str(list->arena, kind);
    if (copy.p == NULL || mf_rows_add(list) == NULL) {
        return NULL;
    }
    rows = list->rows;
    memmove(&rows[at + 1], &rows[at], (list->count - 1 - at) * sizeof rows[0]);
    rows[at] = (mf_job_counts){.kind = copy, .oldest_due_us = INT64_MAX};
    return &rows[at];
}

static mf_rc count_all(const mf_tree *view, mf_rows *list, mf_err *err) {
    mf_key prefix;
    mf_key_start(&prefix, 'g');
    mf_walk walk = mf_walk_start(view, &prefix);
    while (mf_walk_next(&walk)) {
        job_value value;
        MF_TRY(mf_memory_read_row(walk.entry.value, &job_shape, NULL, &value, err));
        mf_job_counts *counts = counts_of(list, value.row.kind);
        if (counts == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of kinds");
        }
        counts->open += value.at == BEHIND || value.at == READY;
        counts->running += value.at == RUNNING;
        counts->dead += value.at == DEAD;
        if (value.at == READY && value.row.due_us < counts->oldest_due_us) {
            counts->oldest_due_us = value.row.due_us;
        }
    }
    return MF_OK;
}

mf_rc mf_memory_job_counts(mf_conn *conn, mf_arena *arena, mf_job_counts **rows,
                           size_t *count, mf_err *err) {
    mf_tree *view = mf_view_open(mf_memory_conn_of(conn));
    mf_rows list = mf_rows_of(arena, sizeof(mf_job_counts));
    mf_rc rc = count_all(view, &list, err);
    mf_view_close(view);
    if (rc == MF_OK) {
        *rows = list.rows;
        *count = list.count;
    }
    return rc;
}
