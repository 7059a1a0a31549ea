/* query_text.c - splits joined turns and weighs them.
 *
 * A separator counts only in front of a role, so that a question about "C:\new" or
 * about
 * "\n" itself stays whole.
 *
 * The newest turn is the question.  Older ones say what "it" or "there" in it refers
 * to, which matters most when it is short; so they fill a short one up for the encoder,
 * and a bounded number of their words count, once, beside those of the question. */
#include "memory/query_text.h"

#include "base/assert.h"
#include "text/utf8.h"

typedef struct turns {
    mf_str newest[MF_QUERY_TURNS_MAX]; /* [0] is the last one; none is blank */
    size_t count;
} turns;

/* Bytes of the role in front of `text`, 0 when there is none. */
static size_t role_len(mf_str text) {
    static const char *const roles[] = {"user:", "assistant:", "system:"};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        mf_str role = mf_str_from(roles[i]);
        if (mf_str_eq_ignore_case(mf_str_sub(text, 0, role.len), role)) {
            return role.len;
        }
    }
    return 0;
}

/* Bytes of the separator that ends right before `at`, where a role begins; 0: none. */
static size_t separator_len(mf_str text, size_t at) {
    if (at >= 1 && text.p[at - 1] == '\n') {
        return 1;
    }
    return at >= 2 && text.p[at - 2] == '\\' && text.p[at - 1] == 'n' ? 2 : 0;
}

static void push(turns *t, mf_str text) {
    text = mf_str_trim(text);
    while (mf_str_ends(text, MF_STR("\\n"))) { /* an empty turn's separator */
        text = mf_str_trim(mf_str_sub(text, 0, text.len - 2));
    }
    if (text.len > 0 && t->count < MF_QUERY_TURNS_MAX) {
        t->newest[t->count++] = text;
    }
}

/* Fills `t` from the end of `text`; false when it holds no role at all. */
static bool split(mf_str text, turns *t) {
    bool found = false;
    t->count = 0;
    size_t end = text.len;
    for (size_t at = text.len; at-- > 0 && t->count < MF_QUERY_TURNS_MAX;) {
        size_t separator = at == 0 ? 0 : separator_len(text, at);
        size_t role =
            at == 0 || separator > 0 ? role_len(mf_str_sub(text, at, end - at)) : 0;
        if (role > 0) {
            found = true;
            push(t, mf_str_sub(text, at + role, end - at - role));
            end = at - separator;
            at = end;
        }
    }
    if (end > 0) {
        push(t, mf_str_sub(text, 0, end)); /* a first turn without a role */
    }
    return found;
}

/* The beginning of `text`, at most `bytes_max`, cut behind a word where there is
 * one. */
static mf_str beginning(mf_str text, size_t bytes_max) {
    if (text.len <= bytes_max) {
        return text;
    }
    mf_str head = mf_utf8_prefix(text, bytes_max);
    for (size_t at = head.len; at > 0; at--) {
        if (head.p[at - 1] == ' ') {
            return mf_str_trim(mf_str_sub(head, 0, at));
        }
    }
    return head;
}

/* Joins the last turn, `repeat` times, and beginnings of older ones, newest first,
 * while those have less than `history_max` bytes. */
static mf_str join(mf_arena *arena, const turns *t, size_t repeat, size_t history_max) {
    size_t size = repeat * (t->newest[0].len + 1) + history_max + t->count;
    char *out = mf_arena_alloc(arena, size);
    if (out == NULL) {
        return MF_STR_NONE;
    }
    size_t len = 0;
    size_t history = 0;
    for (size_t i = 0; i < t->count; i++) {
        mf_str part = t->newest[i];
        if (i > 0) {
            part = beginning(part, history_max - history);
            history += part.len;
        }
        for (size_t n = 0; part.len > 0 && n < (i == 0 ? repeat : 1); n++) {
            out[len] = '\n';
            len += len > 0;
            memcpy(out + len, part.p, part.len);
            len += part.len;
        }
    }
    MF_ASSERT(len <= size);
    return (mf_str){out, len};
}

mf_rc mf_query_text_clean(mf_arena *arena, mf_str text, mf_query_text *out,
                          mf_err *err) {
    turns t;
    if (!split(text, &t)) {
        *out = (mf_query_text){text, text};
        return MF_OK;
    }
    if (t.count == 0) {
        *out = (mf_query_text){MF_STR(""), MF_STR("")};
        return MF_OK;
    }
    mf_str last = t.newest[0];
    if (last.len > MF_QUERY_REPEAT_MAX || t.count == 1) {
        *out = (mf_query_text){last, last};
        return MF_OK;
    }
    size_t fill =
        last.len < MF_QUERY_ENCODER_FILL ? MF_QUERY_ENCODER_FILL - last.len : 0;
    mf_query_text made = {
        .encoder = join(arena, &t, 1, fill),
        .words = join(arena, &t, MF_QUERY_LAST_WEIGHT, MF_QUERY_WORDS_HISTORY),
    };
    if (made.encoder.p == NULL || made.words.p == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a query of %zu bytes", text.len);
    }
    *out = made;
    return MF_OK;
}
