/* sqlite_texts.c - cold texts of messages, compressed in SQLite.
 *
 * Messages are taken in the order of num, so one number tells how far the compressor
 * has come; a message that is edited behind that point is plain again and is put on a
 * short list.  Each call packs a bounded part inside the caller's transaction.  Readers
 * see a message as plain or packed, never in between, and get the same text.
 *
 * Packing leaves its gain inside the pages, which are half empty then.  The file gets
 * smaller when it is written anew, which is done at opening, before anybody reads, once
 * a quarter of it has been saved.
 *
 * The dictionary is trained on a sample of all texts.  A new one is due when the store
 * has four times the messages it had at the last training: texts change their subjects,
 * and the number of dictionaries stays small. */
#include "store/sqlite/sqlite_conn.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "text/utf8.h"

enum {
    SLICE_MESSAGES_MAX = 128,
    SLICE_ARENA_MAX = 64 << 20,
    SAMPLE_STRIPES = 256, /* evenly over the store */
    SAMPLE_STRIPE_MESSAGES = 64,
    SAMPLE_BYTES_MAX = 4 << 20,
    SAMPLE_TEXT_MAX = 4096, /* of one message */
    SAMPLE_BYTES_MIN = 256 << 10,
    DICTIONARY_BYTES = 64 << 10,
    TRAIN_GROWTH = 4,
};

/* --- reading --- */

static mf_rc load_dictionary(mf_sqlite_conn *conn, int64_t id, mf_err *err) {
    if (mf_text_codec_has(conn->store->texts, id)) {
        return MF_OK;
    }
    mf_query q;
    bool found = false;
    MF_TRY(mf_query_open(conn, MF_SQL_TEXT_DICTIONARY_GET, &q, err));
    mf_query_bind_int(&q, id);
    mf_rc rc = mf_query_step(&q, &found, err);
    if (rc == MF_OK) {
        rc = found
                 ? mf_text_codec_add(conn->store->texts, id, mf_query_bytes(&q, 0), err)
                 : MF_FAIL(err, MF_E_CORRUPT, "text dictionary %lld is missing",
                           (long long)id);
    }
    mf_query_close(&q);
    return rc;
}

static mf_rc open_lane(mf_sqlite_conn *conn, int64_t id, mf_err *err) {
    if (conn->texts == NULL) {
        MF_TRY(mf_text_lane_open(conn->store->texts, &conn->texts, err));
    }
    return load_dictionary(conn, id, err);
}

static mf_rc unpack(mf_query *q, int packed, mf_arena *arena, mf_str *text) {
    int64_t id = mf_query_int(q, packed + 2);
    MF_TRY(open_lane(q->conn, id, NULL));
    return mf_text_lane_unpack(q->conn->texts, id, mf_query_bytes(q, packed),
                               mf_query_int(q, packed + 1), arena, text, NULL);
}

mf_str mf_query_packed_text(mf_query *q, int64_t num, int content, int packed,
                            mf_arena *arena) {
    if (sqlite3_column_type(q->st, packed) == SQLITE_NULL) {
        return mf_query_text(q, content, arena);
    }
    mf_str text = MF_STR_NONE;
    mf_rc rc = unpack(q, packed, arena, &text);
    if (rc != MF_OK && q->read_rc == MF_OK) {
        q->read_rc = rc;
        q->bad_num = num;
    }
    return text;
}

mf_rc mf_sqlite_check_texts(mf_sqlite_conn *conn, mf_err *err) {
    mf_query q;
    bool found = true;
    mf_rc rc = MF_OK;
    MF_TRY(mf_query_open(conn, MF_SQL_TEXT_CHECK, &q, err));
    while (rc == MF_OK && (rc = mf_query_step(&q, &found, err)) == MF_OK && found) {
        int64_t num = mf_query_int(&q, 0);
        mf_str text = mf_query_packed_text(&q, num, 1, 2, NULL);
        rc = mf_query_check(&q, err);
        if (rc == MF_OK && (!mf_utf8_valid(text) || mf_query_bytes(&q, 1).len > 0)) {
            rc = MF_FAIL(err, MF_E_CORRUPT, "the text of message %lld cannot be read",
                         (long long)num);
        }
    }
    mf_query_close(&q);
    return rc;
}

/* --- training --- */

typedef struct text_state {
    int64_t packed_num, dictionary, trained_num, newest_num;
} text_state;

static mf_rc read_state(mf_sqlite_conn *conn, text_state *out, mf_err *err) {
    mf_query q;
    bool found = false;
    MF_TRY(mf_query_open(conn, MF_SQL_TEXT_STATE, &q, err));
    mf_rc rc = mf_query_step(&q, &found, err);
    if (rc == MF_OK) {
        *out = (text_state){.packed_num = mf_query_int(&q, 0),
                            .dictionary = mf_query_int(&q, 1),
                            .trained_num = mf_query_int(&q, 2),
                            .newest_num = mf_query_int(&q, 3)};
    }
    mf_query_close(&q);
    return rc;
}

typedef struct sampling {
    mf_rows texts;
    size_t bytes;
} sampling;

static mf_rc sample_from(mf_sqlite_conn *conn, int64_t num, size_t bytes_max,
                         sampling *s, mf_err *err) {
    mf_query q;
    bool found = true;
    mf_rc rc = MF_OK;
    size_t stripe_end = s->bytes + bytes_max;
    MF_TRY(mf_query_open(conn, MF_SQL_TEXT_SAMPLE, &q, err));
    mf_query_bind_int(&q, num);
    mf_query_bind_int(&q, SAMPLE_STRIPE_MESSAGES);
    while (rc == MF_OK && s->bytes < stripe_end &&
           (rc = mf_query_step(&q, &found, err)) == MF_OK && found) {
        mf_str text =
            mf_utf8_prefix(mf_query_packed_text(&q, num, 0, 1, NULL), SAMPLE_TEXT_MAX);
        rc = mf_query_check(&q, err);
        if (rc != MF_OK || text.len == 0) {
            continue;
        }
        mf_str copy = mf_arena_str(s->texts.arena, text);
        mf_str *row = copy.p != NULL ? mf_rows_add(&s->texts) : NULL;
        if (row == NULL) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for a sample of texts");
        } else {
            *row = copy;
            s->bytes += text.len;
        }
    }
    mf_query_close(&q);
    return rc;
}

static mf_rc take_samples(mf_sqlite_conn *conn, const text_state *state, sampling *s,
                          mf_err *err) {
    int64_t step = state->newest_num / SAMPLE_STRIPES;
    if (step < SAMPLE_STRIPE_MESSAGES) {
        step = SAMPLE_STRIPE_MESSAGES; /* a small store is read whole */
    }
    size_t stripes = (size_t)(state->newest_num / step) + 1;
    for (int64_t num = 0; num <= state->newest_num; num += step) {
        MF_TRY(sample_from(conn, num, SAMPLE_BYTES_MAX / stripes, s, err));
    }
    return MF_OK;
}

static bool is_due(const text_state *state) {
    return state->dictionary == 0 ||
           state->newest_num / TRAIN_GROWTH > state->trained_num;
}

mf_rc mf_sqlite_text_train(mf_conn *conn, mf_arena *arena, mf_str *dictionary,
                           mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    text_state state;
    sampling s = {.texts = mf_rows_of(arena, sizeof(mf_str))};
    MF_TRY(read_state(c, &state, err));
    *dictionary = MF_STR_NONE;
    if (!is_due(&state)) {
        return MF_OK;
    }
    MF_TRY(take_samples(c, &state, &s, err));
    if (s.bytes < SAMPLE_BYTES_MIN) {
        return MF_OK;
    }
    mf_str made;
    MF_TRY(mf_text_train(s.texts.rows, s.texts.count, DICTIONARY_BYTES, &made, err));
    if (made.p == NULL) {
        return MF_OK;
    }
    mf_str copy = mf_arena_str(arena, made);
    mf_free((char *)(uintptr_t)made.p);
    if (copy.p == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a text dictionary");
    }
    *dictionary = copy;
    return MF_OK;
}

mf_rc mf_sqlite_text_dictionary_add(mf_conn *conn, mf_str dictionary, mf_err *err) {
    mf_sqlite_conn *c = mf_sqlite_conn_of(conn);
    MF_ASSERT(c->in_transaction);
    MF_TRY(mf_text_dictionary_check(dictionary, err));
    mf_query q;
    MF_TRY(mf_query_open(c, MF_SQL_TEXT_DICTIONARY_ADD, &q, err));
    mf_query_bind_bytes(&q, dictionary.p, dictionary.len);
    return mf_query_run(&q, err);
}

/* --- compressing --- */

typedef struct cold_text {
    int64_t num;
    mf_str text;
} cold_text;

typedef struct packing {
    mf_sqlite_conn *conn;
    const mf_text_limits *limits;
    mf_arena *arena;
    text_state state;
    size_t bytes; /* of text taken so far */
    mf_text_slice slice;
} packing;

static bool is_full(const packing *p) {
    return p->slice.messages >= SLICE_MESSAGES_MAX || p->bytes >= p->limits->bytes_max;
}

static mf_rc pack_one(packing *p, const cold_text *cold, mf_err *err) {
    mf_str frame;
    mf_query q;
    p->slice.messages++;
    p->bytes += cold->text.len;
    MF_TRY(mf_text_lane_pack(p->conn->texts, p->state.dictionary, cold->text, &frame,
                             err));
    if (frame.p == NULL) {
        return MF_OK;
    }
    MF_TRY(mf_query_open(p->conn, MF_SQL_TEXT_PACK, &q, err));
    mf_query_bind_int(&q, cold->num);
    mf_query_bind_bytes(&q, frame.p, frame.len);
    mf_query_bind_size(&q, cold->text.len);
    mf_query_bind_int(&q, p->state.dictionary);
    MF_TRY(mf_query_run(&q, err));
    p->slice.packed++;
    p->slice.bytes_before += cold->text.len;
    p->slice.bytes_after += frame.len;
    return MF_OK;
}

/* The text column of the present row, copied. */
static mf_rc copy_text(packing *p, mf_query *q, int column, mf_str *out, mf_err *err) {
    *out = mf_query_text(q, column, p->arena);
    return mf_query_check(q, err);
}

static mf_rc pack_edited(packing *p, bool *any, mf_err *err) {
    mf_query q;
    cold_text cold = {0};
    MF_TRY(mf_query_open(p->conn, MF_SQL_TEXT_AGAIN, &q, err));
    mf_rc rc = mf_query_step(&q, any, err);
    if (rc == MF_OK && *any) {
        cold.num = mf_query_int(&q, 0);
        rc = copy_text(p, &q, 1, &cold.text, err);
    }
    mf_query_close(&q);
    if (rc != MF_OK || !*any) {
        return rc;
    }
    MF_TRY(pack_one(p, &cold, err));
    MF_TRY(mf_query_open(p->conn, MF_SQL_TEXT_AGAIN_REMOVE, &q, err));
    mf_query_bind_int(&q, cold.num);
    return mf_query_run(&q, err);
}

/* Ids begin with the milliseconds at which they were made. */
static int64_t made_us(mf_uuid id) {
    int64_t ms = 0;
    for (size_t i = 0; i < 6; i++) {
        ms = ms << 8 | id.b[i];
    }
    return ms * 1000;
}

/* Collects rows before any is changed: one statement's rows must not move under
 * another. */
static mf_rc collect_cold(packing *p, mf_rows *rows, int64_t *reached, mf_err *err) {
    mf_query q;
    bool found = true;
    size_t bytes = p->bytes;
    size_t seen = (size_t)p->slice.messages;
    mf_rc rc = MF_OK;
    MF_TRY(mf_query_open(p->conn, MF_SQL_TEXT_COLD, &q, err));
    mf_query_bind_int(&q, p->state.packed_num);
    mf_query_bind_int(&q, p->state.newest_num - p->limits->newest_kept);
    while ((rc = mf_query_step(&q, &found, err)) == MF_OK && found) {
        if (made_us(mf_query_id(&q, 1)) >= p->limits->made_before_us) {
            break;
        }
        if (seen >= SLICE_MESSAGES_MAX || bytes >= p->limits->bytes_max) {
            p->slice.more = true;
            break;
        }
        *reached = mf_query_int(&q, 0);
        seen++;
        bool packed = mf_query_int(&q, 3) != 0;
        cold_text *row = packed ? NULL : mf_rows_add(rows);
        if (!packed && row == NULL) {
            rc = MF_FAIL(err, MF_E_NOMEM, "no memory for cold texts");
        } else if (!packed) {
            row->num = *reached;
            rc = copy_text(p, &q, 2, &row->text, err);
            bytes += row->text.len;
        }
        if (rc != MF_OK) {
            break;
        }
    }
    mf_query_close(&q);
    return rc;
}

static mf_rc pack_cold(packing *p, mf_err *err) {
    mf_rows rows = mf_rows_of(p->arena, sizeof(cold_text));
    int64_t reached = p->state.packed_num;
    MF_TRY(collect_cold(p, &rows, &reached, err));
    const cold_text *cold = rows.rows;
    for (size_t i = 0; i < rows.count; i++) {
        MF_TRY(pack_one(p, &cold[i], err));
    }
    if (reached == p->state.packed_num) {
        return MF_OK;
    }
    mf_query q;
    MF_TRY(mf_query_open(p->conn, MF_SQL_TEXT_MARK, &q, err));
    mf_query_bind_int(&q, reached);
    return mf_query_run(&q, err);
}

static mf_rc note_saved(packing *p, mf_err *err) {
    mf_query q;
    if (p->slice.packed == 0) {
        return MF_OK;
    }
    MF_TRY(mf_query_open(p->conn, MF_SQL_TEXT_SAVED, &q, err));
    mf_query_bind_int(&q, (int64_t)(p->slice.bytes_before - p->slice.bytes_after));
    return mf_query_run(&q, err);
}

static mf_rc compress(packing *p, mf_err *err) {
    MF_TRY(read_state(p->conn, &p->state, err));
    MF_TRY(open_lane(p->conn, p->state.dictionary, err));
    bool any = true;
    while (any && !is_full(p)) {
        MF_TRY(pack_edited(p, &any, err));
    }
    p->slice.more = any;
    if (!any) {
        MF_TRY(pack_cold(p, err));
    }
    return note_saved(p, err);
}

mf_rc mf_sqlite_text_compress(mf_conn *conn, const mf_text_limits *limits,
                              mf_text_slice *out, mf_err *err) {
    packing p = {.conn = mf_sqlite_conn_of(conn), .limits = limits};
    MF_ASSERT(p.conn->in_transaction);
    MF_TRY(mf_arena_new(SLICE_ARENA_MAX, &p.arena, err));
    mf_rc rc = compress(&p, err);
    mf_arena_free(p.arena);
    if (rc == MF_OK) {
        *out = p.slice;
    }
    return rc;
}
