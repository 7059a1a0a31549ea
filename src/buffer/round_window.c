/* round_window.c - walks a session backwards until the window is full.
 *
 * Pages are small because a window is small, and the walk stops at the first message
 * that takes the tokens over the limit: a session of a million messages costs the same
 * as one of fifty.  The arrays are sized by the walk's own bound, rounds_max. */
#include "buffer/round_window.h"

enum { PAGE_ROWS = 24 };

typedef struct walk {
    mf_round_limits limits;
    mf_token_cache *counts;
    mf_round *rounds; /* newest first; [rounds_max] */
    size_t count;     /* complete rounds that fit */
    size_t tokens;    /* of those */
    mf_round open;    /* the round being gathered */
    mf_uuid open_id;
    bool has_open;
    bool full;
} walk;

/* The open round is complete: keep it if it fits. */
static void close_round(walk *w) {
    if (w->has_open && !w->full) {
        w->rounds[w->count++] = w->open;
        w->tokens += w->open.tokens;
    }
    w->has_open = false;
}

static void take_message(walk *w, const mf_message_row *row) {
    if (!w->has_open || !mf_uuid_eq(w->open_id, row->round_id)) {
        close_round(w);
        if (w->count == w->limits.rounds_max) {
            w->full = true;
            return;
        }
        w->open = (mf_round){0};
        w->open_id = row->round_id;
        w->has_open = true;
    }
    w->open.first_num = row->num;
    w->open.tokens += mf_token_cache_count(w->counts, row->content);
    if (w->tokens + w->open.tokens > w->limits.tokens_max) {
        w->full = true;
    }
}

static void reverse(mf_round *rounds, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        mf_round kept = rounds[i];
        rounds[i] = rounds[count - 1 - i];
        rounds[count - 1 - i] = kept;
    }
}

mf_rc mf_round_window_read(mf_conn *conn, mf_uuid user_id, mf_uuid session_id,
                           mf_token_cache *tokens, mf_round_limits limits,
                           mf_arena *arena, mf_round **rounds, size_t *count,
                           mf_err *err) {
    walk w = {.limits = limits, .counts = tokens};
    w.rounds = mf_arena_alloc_array(arena, limits.rounds_max, sizeof(w.rounds[0]));
    if (w.rounds == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a window of %zu rounds",
                       limits.rounds_max);
    }
    int64_t closed;
    MF_TRY(conn->ops->window_closed(conn, user_id, session_id, &closed, err));
    mf_message_range range = {.num_from = closed + 1,
                              .num_to = INT64_MAX,
                              .descending = true,
                              .limit = PAGE_ROWS};
    while (!w.full) {
        mf_message_row *rows;
        size_t got;
        MF_TRY(conn->ops->message_list(conn, user_id, session_id, &range, arena, &rows,
                                       &got, err));
        for (size_t i = 0; i < got && !w.full; i++) {
            take_message(&w, &rows[i]);
        }
        if (got < PAGE_ROWS) {
            break;
        }
        range.num_to = rows[got - 1].num - 1;
    }
    close_round(&w);
    reverse(w.rounds, w.count);
    *rounds = w.rounds;
    *count = w.count;
    return MF_OK;
}

mf_round_window mf_round_window_of(const mf_round *rounds, size_t count) {
    mf_round_window window = {.first_num = count > 0 ? rounds[0].first_num : INT64_MAX,
                              .rounds = count};
    for (size_t i = 0; i < count; i++) {
        window.tokens += rounds[i].tokens;
    }
    return window;
}
