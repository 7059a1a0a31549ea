/* lists.c - walks along a session from a message, a few rows at a time. */
#include "service/lists.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { STEP_FIRST = 16, STEP_MAX = 1024 };

/* Messages of a session, read on in one direction. */
typedef struct walk {
    mf_conn *conn;
    mf_uuid user_id, session_id;
    mf_arena *arena;
    bool down;
    int64_t next; /* the num to go on at */
    size_t step;
    mf_message_row *rows; /* what was read last */
    size_t count, at;
    bool ended;
} walk;

static walk walk_from(mf_conn *conn, const mf_message_row *row, bool down,
                      mf_arena *arena) {
    return (walk){.conn = conn,
                  .user_id = row->user_id,
                  .session_id = row->session_id,
                  .arena = arena,
                  .down = down,
                  .next = row->num + (down ? -1 : 1),
                  .step = STEP_FIRST};
}

/* *row is NULL at the end of the session. */
static mf_rc walk_next(walk *w, const mf_message_row **row, mf_err *err) {
    *row = NULL;
    if (w->at == w->count && !w->ended) {
        mf_message_range range = {.num_from = w->down ? 0 : w->next,
                                  .num_to = w->down ? w->next : INT64_MAX,
                                  .descending = w->down,
                                  .limit = w->step};
        MF_TRY(w->conn->ops->message_list(w->conn, w->user_id, w->session_id, &range,
                                          w->arena, &w->rows, &w->count, err));
        w->at = 0;
        w->ended = w->count < w->step;
        w->step = w->step < STEP_MAX ? w->step * 2 : STEP_MAX;
        if (w->count > 0) {
            w->next = w->rows[w->count - 1].num + (w->down ? -1 : 1);
        }
    }
    if (w->at < w->count) {
        *row = &w->rows[w->at++];
    }
    return MF_OK;
}

typedef struct row_list {
    mf_arena *arena;
    mf_message_row *rows;
    size_t count, room;
} row_list;

static mf_rc push(row_list *list, const mf_message_row *row, mf_err *err) {
    if (list->count == list->room) {
        size_t room = list->room * 2 + STEP_FIRST;
        mf_message_row *grown = mf_arena_alloc_array(list->arena, room, sizeof *grown);
        if (grown == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of messages");
        }
        if (list->count > 0) {
            memcpy(grown, list->rows, list->count * sizeof *grown);
        }
        list->rows = grown;
        list->room = room;
    }
    list->rows[list->count++] = *row;
    return MF_OK;
}

static void reverse(mf_message_row *rows, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        mf_message_row row = rows[i];
        rows[i] = rows[count - 1 - i];
        rows[count - 1 - i] = row;
    }
}

static bool same_list(const mf_message_row *a, const mf_message_row *b) {
    return mf_uuid_eq(a->round_id, b->round_id);
}

/* Adds the messages of the round of `like` that follow in the walk, as long as they
 * stay within the bound.  *beyond, unless NULL, is the one that ended it, if any. */
static mf_rc take_round(walk *w, const mf_message_row *like, size_t *bytes,
                        row_list *out, const mf_message_row **beyond, mf_err *err) {
    const mf_message_row *row = NULL;
    MF_TRY(walk_next(w, &row, err));
    while (row != NULL && same_list(row, like) && *bytes <= MF_CHUNK_LIST_BYTES_MAX) {
        *bytes += row->content.len;
        MF_TRY(push(out, row, err));
        MF_TRY(walk_next(w, &row, err));
    }
    if (beyond != NULL) {
        *beyond = row;
    }
    return MF_OK;
}

static mf_rc read_own(mf_conn *conn, const mf_message_row *row, mf_arena *arena,
                      mf_list *out, mf_err *err) {
    row_list list = {.arena = arena};
    size_t bytes = row->content.len;
    walk back = walk_from(conn, row, true, arena);
    MF_TRY(take_round(&back, row, &bytes, &list, NULL, err));
    reverse(list.rows, list.count);
    MF_TRY(push(&list, row, err));
    walk on = walk_from(conn, row, false, arena);
    MF_TRY(take_round(&on, row, &bytes, &list, NULL, err));
    if (bytes > MF_CHUNK_LIST_BYTES_MAX) {
        list.rows[0] = *row;
        list.count = 1;
    }
    out->rows = list.rows;
    out->count = list.count;
    return MF_OK;
}

/* The lists before the first message of `out`, as many as the rules look at; each gives
 * one chunk at least. */
static mf_rc read_earlier(mf_conn *conn, const mf_chunk_rules *rules, mf_arena *arena,
                          mf_list *out, mf_err *err) {
    row_list list = {.arena = arena};
    walk back = walk_from(conn, &out->rows[0], true, arena);
    const mf_message_row *row = NULL;
    MF_TRY(walk_next(&back, &row, err));
    for (size_t i = 0; i < rules->context_chunks && row != NULL; i++) {
        const mf_message_row like = *row;
        size_t bytes = like.content.len;
        MF_TRY(push(&list, &like, err));
        MF_TRY(take_round(&back, &like, &bytes, &list, &row, err));
    }
    reverse(list.rows, list.count);
    out->earlier = list.rows;
    out->earlier_count = list.count;
    return MF_OK;
}

mf_rc mf_list_read(mf_conn *conn, mf_uuid user_id, const mf_message_row *row,
                   const mf_chunk_rules *rules, mf_arena *arena, mf_list *out,
                   mf_err *err) {
    MF_ASSERT(mf_uuid_eq(user_id, row->user_id));
    *out = (mf_list){0};
    MF_TRY(read_own(conn, row, arena, out, err));
    return rules->context_chunks > 0 ? read_earlier(conn, rules, arena, out, err)
                                     : MF_OK;
}

size_t mf_list_find(const mf_list *list, int64_t num) {
    size_t i = 0;
    while (i < list->count && list->rows[i].num != num) {
        i++;
    }
    return i;
}

size_t mf_list_length(const mf_message_row *rows, size_t count) {
    size_t length = 1;
    size_t bytes = rows[0].content.len;
    while (length < count && same_list(&rows[0], &rows[length])) {
        bytes += rows[length++].content.len;
    }
    return bytes > MF_CHUNK_LIST_BYTES_MAX ? 1 : length;
}

/* --- cutting --- */

static mf_rc cut_rows(const mf_message_row *rows, size_t count,
                      const mf_chunk_rules *rules, mf_arena *arena, mf_chunk_list *out,
                      mf_err *err) {
    mf_chunk_line *lines = mf_arena_alloc_array(arena, count, sizeof *lines);
    if (lines == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of %zu messages", count);
    }
    for (size_t i = 0; i < count; i++) {
        lines[i] = (mf_chunk_line){rows[i].role, rows[i].content};
    }
    return mf_chunk_list_cut(rules, lines, count, arena, out, err);
}

/* Keeps the last chunks of the lists before. */
static mf_rc cut_earlier(mf_list *list, const mf_chunk_rules *rules, mf_arena *arena,
                         mf_err *err) {
    mf_str *before = mf_arena_alloc_array(arena, rules->context_chunks, sizeof *before);
    if (before == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for the context of a list");
    }
    size_t count = 0;
    for (size_t at = 0; at < list->earlier_count;) {
        mf_chunk_list chunks;
        size_t length = mf_list_length(list->earlier + at, list->earlier_count - at);
        MF_TRY(cut_rows(list->earlier + at, length, rules, arena, &chunks, err));
        for (size_t i = 0; i < chunks.chunk_count; i++) {
            if (count == rules->context_chunks) {
                memmove(before, before + 1, (count - 1) * sizeof *before);
                count--;
            }
            before[count++] = mf_chunk_list_chunk(&chunks, i);
        }
        at += length;
    }
    list->before = before;
    list->before_count = count;
    return MF_OK;
}

mf_rc mf_list_cut(mf_list *list, const mf_chunk_rules *rules,
                  const mf_model_tokenizer *wp, size_t window, mf_arena *arena,
                  mf_err *err) {
    if (list->cut) {
        return MF_OK;
    }
    MF_TRY(cut_rows(list->rows, list->count, rules, arena, &list->chunks, err));
    if (wp != NULL) {
        MF_TRY(mf_chunk_list_fit(&list->chunks, wp, window, arena, err));
    }
    if (list->earlier_count > 0) {
        MF_TRY(cut_earlier(list, rules, arena, err));
    }
    list->cut = true;
    return MF_OK;
}

/* --- who depends on whom --- */

typedef struct num_list {
    int64_t *nums;
    size_t count, room;
} num_list;

static mf_rc push_num(num_list *list, int64_t num, mf_err *err) {
    if (list->count == list->room) {
        size_t bytes;
        size_t room = list->room * 2 + STEP_FIRST;
        int64_t *grown = mf_mul_size(room, sizeof *grown, &bytes)
                             ? mf_realloc(list->nums, bytes)
                             : NULL;
        if (grown == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu messages", room);
        }
        list->nums = grown;
        list->room = room;
    }
    list->nums[list->count++] = num;
    return MF_OK;
}

/* The whole round of `row`, and as many after it as look back at it. */
static mf_rc add_dependents(mf_conn *conn, const mf_message_row *row,
                            const mf_chunk_rules *rules, mf_arena *arena, num_list *out,
                            mf_err *err) {
    walk back = walk_from(conn, row, true, arena);
    const mf_message_row *other = NULL;
    MF_TRY(walk_next(&back, &other, err));
    while (other != NULL && same_list(other, row)) {
        MF_TRY(push_num(out, other->num, err));
        MF_TRY(walk_next(&back, &other, err));
    }
    MF_TRY(push_num(out, row->num, err));
    walk on = walk_from(conn, row, false, arena);
    mf_uuid round = row->round_id;
    size_t further = 0;
    MF_TRY(walk_next(&on, &other, err));
    while (other != NULL) {
        if (!mf_uuid_eq(other->round_id, round)) {
            round = other->round_id;
            further++;
        }
        if (further > rules->context_chunks) {
            break;
        }
        MF_TRY(push_num(out, other->num, err));
        MF_TRY(walk_next(&on, &other, err));
    }
    return MF_OK;
}

static int round_order(const void *a, const void *b) {
    const mf_message_row *const *x = a;
    const mf_message_row *const *y = b;
    return memcmp((*x)->round_id.b, (*y)->round_id.b, MF_UUID_BYTES);
}

/* One row of each round is enough: all of a round have the same dependents. */
static mf_rc collect(mf_conn *conn, const mf_message_row *rows, size_t row_count,
                     const mf_chunk_rules *rules, mf_arena *arena, num_list *out,
                     mf_err *err) {
    const mf_message_row **order =
        mf_arena_alloc_array(arena, row_count, sizeof *order);
    if (order == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu messages", row_count);
    }
    for (size_t i = 0; i < row_count; i++) {
        order[i] = &rows[i];
    }
    qsort(order, row_count, sizeof *order, round_order);
    for (size_t i = 0; i < row_count; i++) {
        if (i == 0 || !same_list(order[i - 1], order[i])) {
            MF_TRY(add_dependents(conn, order[i], rules, arena, out, err));
        }
    }
    return MF_OK;
}

mf_rc mf_lists_touch(mf_conn *conn, mf_uuid user_id, const mf_message_row *rows,
                     size_t row_count, const mf_chunk_rules *rules, int64_t **nums,
                     size_t *count, mf_err *err) {
    enum { ARENA_MAX = 256 << 20 };
    *nums = NULL;
    *count = 0;
    if (rules->strategy == MF_CHUNK_TURN || row_count == 0) {
        return MF_OK;
    }
    mf_arena *arena;
    num_list list = {0};
    MF_TRY(mf_arena_new(ARENA_MAX, &arena, err));
    mf_rc rc = collect(conn, rows, row_count, rules, arena, &list, err);
    mf_arena_free(arena);
    if (rc == MF_OK) {
        rc = conn->ops->message_touch(conn, user_id, list.nums, list.count, err);
    }
    if (rc != MF_OK) {
        mf_free(list.nums);
        return rc;
    }
    *nums = list.nums;
    *count = list.count;
    return MF_OK;
}
