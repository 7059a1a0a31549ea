/* user_windows.c - the recent windows of a user's sessions, as part of the user.
 *
 * What a window holds follows from the store and the settings (buffer/round_buffer.h),
 * so a window that leaves memory loses nothing and one that is asked for is read again.
 *
 * Emptying one is a write: the store notes that everything so far is outside
 * (window_close), and only after that commit does the window in memory become empty.
 * Both happen on the writer thread, in the order of the commits, so no round can slip
 * between them: one committed before is out, one committed after is in.
 *
 * The session a user wrote to last, which decides what a change of session closes, is
 * known from the first write after the user became active. */
#include "base/alloc.h"
#include "base/clock.h"
#include "service/completion.h"
#include "service/user_impl.h"

enum { WINDOW_READ_TRIES = 3, WINDOW_ARENA_MAX = 256 << 20 };

mf_flush_policy mf_user_policy(mf_user *user) {
    mf_user_config own = mf_user_config_hold(user);
    mf_flush_policy policy = mf_flush_policy_of(own.config);
    mf_user_config_release(&own);
    return policy;
}

bool mf_user_has_windows(mf_user *user) {
    return mf_user_policy(user).windows;
}

void mf_user_add_rounds(mf_user *user, mf_write_round *rounds, size_t count,
                        mf_write_outcome *out) {
    mf_flush_policy policy = mf_user_policy(user);
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&user->state_mu);
    user->written_ns = now_ns;
    if (count == 1) {
        mf_write_buffer_add(user->buffer, rounds, &policy, now_ns, out);
    } else {
        mf_write_buffer_add_batch(user->buffer, rounds, count, &policy, now_ns, out);
    }
    mf_mutex_unlock(&user->state_mu);
    if (out->transfer_triggered) {
        mf_metrics_record(user->parts->metrics, MF_OPERATION_TRANSFER,
                          mf_now_ns() - now_ns, MF_OK);
    }
    mf_user_account(user);
}

void mf_user_forget_window(mf_user *user, mf_uuid session_id) {
    mf_mutex_lock(&user->state_mu);
    mf_round_buffer_forget(mf_write_buffer_rounds(user->buffer), session_id);
    mf_mutex_unlock(&user->state_mu);
}

void mf_user_new_window(mf_user *user, mf_uuid session_id) {
    mf_round_limits limits = mf_user_policy(user).limits;
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&user->state_mu);
    mf_round_buffer *rounds = mf_write_buffer_rounds(user->buffer);
    uint64_t ticket = mf_round_buffer_load_begin(rounds, session_id);
    (void)mf_round_buffer_load_end(rounds, session_id, ticket, NULL, 0, limits, now_ns);
    mf_mutex_unlock(&user->state_mu);
}

/* Reads the window from the store and tries to make it known; *settled is false when
 * the session changed meanwhile. */
static mf_rc read_window(mf_user *user, mf_uuid session_id, mf_round_limits limits,
                         int64_t deadline_ns, mf_arena *arena, mf_round_window *out,
                         bool *settled, mf_err *err) {
    mf_round_buffer *buffer = mf_write_buffer_rounds(user->buffer);
    mf_mutex_lock(&user->state_mu);
    uint64_t ticket = mf_round_buffer_load_begin(buffer, session_id);
    mf_mutex_unlock(&user->state_mu);

    mf_conn *conn;
    MF_TRY(mf_conn_acquire(user->parts->readers, deadline_ns, &conn, err));
    mf_round *rounds = NULL;
    size_t count = 0;
    mf_rc rc = conn->ops->read_begin(conn, err);
    if (rc == MF_OK) {
        rc = mf_round_window_read(conn, user->id, session_id, user->parts->token_cache,
                                  limits, arena, &rounds, &count, err);
        conn->ops->read_end(conn);
    }
    mf_conn_release(user->parts->readers, conn, rc);
    if (rc != MF_OK) {
        return rc;
    }
    int64_t now_ns = mf_now_ns();
    mf_mutex_lock(&user->state_mu);
    *settled = mf_round_buffer_load_end(buffer, session_id, ticket, rounds, count,
                                        limits, now_ns);
    mf_mutex_unlock(&user->state_mu);
    *out = mf_round_window_of(rounds, count);
    return MF_OK;
}

mf_rc mf_user_window(mf_user *user, mf_uuid session_id, int64_t deadline_ns,
                     mf_round_window *out, mf_err *err) {
    mf_flush_policy policy = mf_user_policy(user);
    if (!policy.windows) {
        *out = (mf_round_window){.first_num = INT64_MAX};
        return MF_OK;
    }
    mf_round_limits limits = policy.limits;
    mf_mutex_lock(&user->state_mu);
    bool known = mf_round_buffer_get(mf_write_buffer_rounds(user->buffer), session_id,
                                     limits, out);
    mf_mutex_unlock(&user->state_mu);
    if (known) {
        return MF_OK;
    }
    mf_arena *arena;
    MF_TRY(mf_arena_new(WINDOW_ARENA_MAX, &arena, err));
    mf_rc rc = MF_OK;
    bool settled = false;
    for (int i = 0; i < WINDOW_READ_TRIES && rc == MF_OK && !settled; i++) {
        rc = read_window(user, session_id, limits, deadline_ns, arena, out, &settled,
                         err);
        mf_arena_reset(arena);
    }
    mf_arena_free(arena);
    return rc;
}

/* --- emptying --- */

mf_rc mf_user_change_session(mf_user *user, mf_conn *conn, mf_uuid session_id,
                             mf_uuid *closed, mf_err *err) {
    mf_flush_policy policy = mf_user_policy(user);
    mf_uuid before = user->written;
    *closed = MF_UUID_NONE;
    user->written = session_id;
    if (!policy.session_change || !policy.windows || mf_uuid_is_none(before) ||
        mf_uuid_eq(before, session_id)) {
        return MF_OK;
    }
    int64_t through;
    mf_rc rc = conn->ops->window_close(conn, user->id, before, &through, err);
    if (rc == MF_OK) {
        *closed = before;
    }
    return rc == MF_E_NOTFOUND ? MF_OK : rc; /* that session was deleted */
}

size_t mf_user_window_closed(mf_user *user, mf_uuid session_id,
                             mf_transfer_cause cause) {
    int64_t started_ns = mf_now_ns();
    mf_mutex_lock(&user->state_mu);
    size_t left = mf_write_buffer_close_window(user->buffer, session_id, cause);
    mf_mutex_unlock(&user->state_mu);
    if (left > 0) {
        mf_metrics_record(user->parts->metrics, MF_OPERATION_TRANSFER,
                          mf_now_ns() - started_ns, MF_OK);
    }
    return left;
}

struct mf_window_work {
    mf_write write;
    mf_user *user;
    mf_flush_trigger trigger;
    mf_uuid sessions[MF_WRITE_BUFFER_SESSIONS_MAX]; /* one that is none: all */
    bool closed[MF_WRITE_BUFFER_SESSIONS_MAX];
    size_t count;
    uint64_t seen; /* writes whose outcome was known when it was decided */
    mf_completion completion;
};

static mf_rc windows_run(mf_conn *conn, void *ctx, mf_err *err) {
    mf_window_work *work = ctx;
    mf_user *user = work->user;
    if (work->trigger == MF_FLUSH_IDLE && user->begun != work->seen) {
        return MF_OK; /* it is not idle any more */
    }
    for (size_t i = 0; i < work->count; i++) {
        int64_t through;
        mf_rc rc =
            conn->ops->window_close(conn, user->id, work->sessions[i], &through, err);
        if (rc != MF_OK && rc != MF_E_NOTFOUND) { /* not found: it was deleted */
            return rc;
        }
        work->closed[i] = rc == MF_OK;
    }
    return MF_OK;
}

static void windows_done(void *ctx, mf_rc rc, const mf_err *err) {
    mf_window_work *work = ctx;
    mf_transfer_cause cause =
        work->trigger == MF_FLUSH_IDLE ? MF_TRANSFER_IDLE : MF_TRANSFER_TIME;
    for (size_t i = 0; i < work->count && rc == MF_OK; i++) {
        if (work->closed[i]) {
            (void)mf_user_window_closed(work->user, work->sessions[i], cause);
        }
    }
    mf_completion_finish(&work->completion, rc, err);
}

static mf_flush_due windows_due_locked(mf_user *user, const mf_flush_policy *policy)
    MF_REQUIRES(user->state_mu) {
    mf_round_state held;
    mf_round_buffer_get_state(mf_write_buffer_rounds(user->buffer), &held);
    return mf_flush_windows_due(policy, &held, user->written_ns);
}

bool mf_user_windows_due(mf_user *user, int64_t now_ns) {
    mf_flush_policy policy = mf_user_policy(user);
    mf_mutex_lock(&user->state_mu);
    mf_flush_due due = windows_due_locked(user, &policy);
    mf_mutex_unlock(&user->state_mu);
    return due.due_ns <= now_ns;
}

bool mf_user_windows_begin(mf_user *user, int64_t now_ns, mf_window_work **out) {
    mf_flush_policy policy = mf_user_policy(user);
    mf_window_work *work = mf_alloc_zero(1, sizeof(*work));
    if (work == NULL || mf_user_is_gone(user)) {
        mf_free(work);
        return false; /* the next look finds it due again */
    }
    work->user = user;
    work->write = (mf_write){.run = windows_run, .done = windows_done, .ctx = work};
    mf_mutex_lock(&user->state_mu);
    mf_flush_due due = windows_due_locked(user, &policy);
    work->trigger = due.trigger;
    work->seen = user->applied;
    if (due.due_ns <= now_ns && due.trigger == MF_FLUSH_TIME) {
        work->count = mf_round_buffer_older(mf_write_buffer_rounds(user->buffer),
                                            now_ns - policy.interval_ns, work->sessions,
                                            MF_WRITE_BUFFER_SESSIONS_MAX);
    } else if (due.due_ns <= now_ns) {
        work->count = 1; /* all of them */
    }
    mf_mutex_unlock(&user->state_mu);
    if (work->count == 0) {
        mf_free(work);
        return false;
    }
    mf_completion_init(&work->completion);
    mf_err refused = {0};
    mf_rc rc = mf_writer_submit(user->parts->writer, &work->write, &refused);
    if (rc != MF_OK) {
        mf_completion_finish(&work->completion, rc, &refused);
    }
    *out = work;
    return true;
}

mf_rc mf_user_windows_end(mf_window_work *work, mf_err *err) {
    mf_rc rc = mf_completion_wait(&work->completion, err);
    mf_user_account(work->user);
    mf_free(work);
    return rc;
}
