/* chunk_strategy.c - cuts a list's text by rule, then chunks into windows.
 *
 * Chunks and windows are spans of one text, so whether a message has a part in one is a
 * comparison of two pairs of numbers, and no strategy can lose or repeat a byte without
 * a test seeing it. */
#include "memory/chunk_strategy.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "memory/chunks.h"
#include "text/utf8.h"

static const char *const names[] = {"turn", "message", "contextual", "character",
                                    "integrated"};

const char *mf_chunk_strategy_name(mf_chunk_strategy strategy) {
    return names[strategy];
}

static mf_chunk_strategy strategy_of(const char *name) {
    size_t i = 0;
    while (strcmp(names[i], name) != 0) {
        i++;
        MF_ASSERT(i < sizeof names / sizeof names[0]);
    }
    return (mf_chunk_strategy)i;
}

mf_rc mf_chunk_rules_of(const mf_config *config, const mf_token_counter *tokens,
                        mf_chunk_rules *out, mf_err *err) {
    mf_chunk_strategy strategy = strategy_of(config->buffer_chunk_strategy);
    bool contextual = strategy == MF_CHUNK_CONTEXTUAL;
    if (strategy == MF_CHUNK_CHARACTER &&
        config->buffer_chunk_overlap >= config->buffer_chunk_characters) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "buffer.hybrid_buffer.chunk_overlap",
                             "buffer.hybrid_buffer.chunk_overlap (%lld) must be less "
                             "than buffer.hybrid_buffer.chunk_characters (%lld)",
                             (long long)config->buffer_chunk_overlap,
                             (long long)config->buffer_chunk_characters);
    }
    *out = (mf_chunk_rules){
        .strategy = strategy,
        .words_max = (size_t)(contextual ? config->buffer_chunk_words
                                         : config->buffer_chunk_integrated_words),
        .context_chunks = contextual ? (size_t)config->buffer_chunk_context : 0,
        .characters_max = (size_t)config->buffer_chunk_characters,
        .characters_overlap = (size_t)config->buffer_chunk_overlap,
        .tokens_max = (size_t)config->buffer_chunk_integrated_tokens,
        .tokens = tokens,
    };
    return MF_OK;
}

void mf_chunk_rules_text(const mf_chunk_rules *rules, char out[MF_CHUNK_RULES_TEXT]) {
    const char *name = names[rules->strategy];
    int len = 0;
    switch (rules->strategy) {
    case MF_CHUNK_TURN:
        break;
    case MF_CHUNK_MESSAGE:
        len = snprintf(out, MF_CHUNK_RULES_TEXT, "%s", name);
        break;
    case MF_CHUNK_CONTEXTUAL:
        len = snprintf(out, MF_CHUNK_RULES_TEXT, "%s/%zu/%zu", name, rules->words_max,
                       rules->context_chunks);
        break;
    case MF_CHUNK_CHARACTER:
        len = snprintf(out, MF_CHUNK_RULES_TEXT, "%s/%zu/%zu", name,
                       rules->characters_max, rules->characters_overlap);
        break;
    case MF_CHUNK_INTEGRATED: {
        /* Estimated token counts cut elsewhere than exact ones. */
        const char *how = mf_token_counter_is_exact(rules->tokens) ? "" : "~";
        len = snprintf(out, MF_CHUNK_RULES_TEXT, "%s/%zu/%s%zu", name, rules->words_max,
                       how, rules->tokens_max);
        break;
    }
    }
    MF_ASSERT(len >= 0 && len < MF_CHUNK_RULES_TEXT);
    out[len] = '\0';
}

/* --- words --- */

/* Scripts written without spaces: each of their characters counts as a word. */
static bool is_cjk(uint32_t code) {
    return (code >= 0x3040 && code <= 0x30FF) || /* kana */
           (code >= 0x3400 && code <= 0x4DBF) || (code >= 0x4E00 && code <= 0x9FFF) ||
           (code >= 0xAC00 && code <= 0xD7AF) || /* hangul */
           (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x20000 && code <= 0x3FFFF);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* Behind the next word at or after `at`, before `end`; `end` when none is left. */
static size_t word_end(mf_str text, size_t at, size_t end, bool *found) {
    while (at < end && is_blank(text.p[at])) {
        at++;
    }
    *found = at < end;
    size_t begin = at;
    while (at < end && !is_blank(text.p[at])) {
        size_t next = at;
        bool cjk = is_cjk(mf_utf8_next_lossy(text, &next));
        if (cjk && at > begin) {
            break; /* it begins a word of its own */
        }
        at = next;
        if (cjk) {
            break;
        }
    }
    return at;
}

/* Behind at most `words_max` words from `from` on; *words is how many there are. */
static size_t words_end(mf_str text, size_t from, size_t end, size_t words_max,
                        size_t *words) {
    size_t at = from;
    bool found = true;
    for (*words = 0; *words < words_max; ++*words) {
        at = word_end(text, at, end, &found);
        if (!found) {
            return end;
        }
    }
    size_t rest = at; /* blanks at the end belong to the last word */
    while (rest < end && is_blank(text.p[rest])) {
        rest++;
    }
    return rest == end ? end : at;
}

/* --- cutting --- */

typedef struct cutting {
    const mf_chunk_rules *rules;
    mf_arena *arena;
    mf_str text;
    const mf_chunk_span *lines;
    size_t line_count;
    mf_chunk_span *chunks;
    size_t count, room;
} cutting;

static mf_rc add_chunk(cutting *c, size_t from, size_t to, mf_err *err) {
    if (c->count == c->room) {
        size_t room = c->room * 2 + 4;
        mf_chunk_span *grown = mf_arena_alloc_array(c->arena, room, sizeof *grown);
        if (grown == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu chunks", room);
        }
        if (c->count > 0) {
            memcpy(grown, c->chunks, c->count * sizeof *grown);
        }
        c->chunks = grown;
        c->room = room;
    }
    c->chunks[c->count++] = (mf_chunk_span){from, to};
    return MF_OK;
}

/* Cuts one line that is too long for a chunk. */
static mf_rc cut_by_words(cutting *c, size_t from, size_t end, mf_err *err) {
    while (from < end) {
        size_t words;
        size_t to = words_end(c->text, from, end, c->rules->words_max, &words);
        MF_TRY(add_chunk(c, from, to, err));
        from = to;
    }
    return MF_OK;
}

/* Whole lines while they fit together. */
static mf_rc group_lines(cutting *c, mf_err *err) {
    size_t from = 0;
    size_t held = 0;
    for (size_t i = 0; i < c->line_count; i++) {
        size_t words;
        size_t begin = c->lines[i].from;
        size_t end = c->lines[i].to;
        bool whole = words_end(c->text, begin, end, c->rules->words_max, &words) == end;
        if (begin > from && (!whole || held + words > c->rules->words_max)) {
            MF_TRY(add_chunk(c, from, begin - 1, err)); /* without the line break */
            from = begin;
            held = 0;
        }
        if (whole) {
            held += words;
        } else {
            MF_TRY(cut_by_words(c, begin, end, err));
            from = end + 1;
        }
    }
    return from < c->text.len ? add_chunk(c, from, c->text.len, err) : MF_OK;
}

static mf_rc cut_by_tokens(cutting *c, mf_chunk_span chunk, mf_err *err) {
    const mf_chunk_rules *rules = c->rules;
    while (chunk.from < chunk.to) {
        size_t words_max = SIZE_MAX;
        size_t to = chunk.to;
        size_t words;
        size_t tokens;
        for (;;) {
            to = words_end(c->text, chunk.from, chunk.to, words_max, &words);
            tokens = mf_token_count(rules->tokens,
                                    mf_str_sub(c->text, chunk.from, to - chunk.from));
            if (tokens <= rules->tokens_max || words <= 1) {
                break;
            }
            size_t fewer = words * rules->tokens_max / tokens;
            words_max = fewer > 0 ? fewer : 1;
        }
        MF_TRY(add_chunk(c, chunk.from, to, err));
        chunk.from = to;
    }
    return MF_OK;
}

static mf_rc cut_integrated(cutting *c, mf_err *err) {
    MF_TRY(group_lines(c, err));
    mf_chunk_span *groups = c->chunks;
    size_t count = c->count;
    c->chunks = NULL;
    c->count = 0;
    c->room = 0;
    for (size_t i = 0; i < count; i++) {
        MF_TRY(cut_by_tokens(c, groups[i], err));
    }
    return MF_OK;
}

static mf_rc cut_characters(cutting *c, mf_err *err) {
    const mf_chunk_rules *rules = c->rules;
    size_t step = rules->characters_max - rules->characters_overlap;
    size_t from = 0;
    for (;;) {
        size_t at = from;
        size_t next = from; /* where the chunk after this one begins */
        for (size_t n = 0; n < rules->characters_max && at < c->text.len; n++) {
            (void)mf_utf8_next_lossy(c->text, &at);
            next = n + 1 == step ? at : next;
        }
        MF_TRY(add_chunk(c, from, at, err));
        if (at == c->text.len) {
            return MF_OK;
        }
        from = next;
    }
}

static mf_rc cut(cutting *c, mf_err *err) {
    switch (c->rules->strategy) {
    case MF_CHUNK_TURN:
        for (size_t i = 0; i < c->line_count; i++) {
            MF_TRY(add_chunk(c, c->lines[i].from, c->lines[i].to, err));
        }
        return MF_OK;
    case MF_CHUNK_CONTEXTUAL:
        return group_lines(c, err);
    case MF_CHUNK_CHARACTER:
        return cut_characters(c, err);
    case MF_CHUNK_INTEGRATED:
        return cut_integrated(c, err);
    case MF_CHUNK_MESSAGE:
        break;
    }
    return add_chunk(c, 0, c->text.len, err);
}

static mf_rc write_text(const mf_chunk_line *lines, size_t count, mf_arena *arena,
                        mf_str *text, mf_chunk_span **spans, mf_err *err) {
    size_t bytes = count; /* line breaks */
    for (size_t i = 0; i < count; i++) {
        bytes += lines[i].text.len;
    }
    char *out = mf_arena_alloc(arena, bytes);
    *spans = mf_arena_alloc_array(arena, count, sizeof **spans);
    if (out == NULL || *spans == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a list of %zu messages", count);
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            out[at++] = '\n';
        }
        if (lines[i].text.len > 0) {
            memcpy(out + at, lines[i].text.p, lines[i].text.len);
        }
        (*spans)[i] = (mf_chunk_span){at, at + lines[i].text.len};
        at += lines[i].text.len;
    }
    *text = (mf_str){out, at};
    return MF_OK;
}

mf_rc mf_chunk_list_cut(const mf_chunk_rules *rules, const mf_chunk_line *lines,
                        size_t count, mf_arena *arena, mf_chunk_list *out,
                        mf_err *err) {
    MF_ASSERT(count > 0);
    cutting c = {.rules = rules, .arena = arena, .line_count = count};
    mf_chunk_span *spans;
    MF_TRY(write_text(lines, count, arena, &c.text, &spans, err));
    c.lines = spans;
    MF_TRY(cut(&c, err));
    if (c.count == 0) { /* nothing but empty messages */
        MF_TRY(add_chunk(&c, 0, c.text.len, err));
    }
    *out = (mf_chunk_list){.text = c.text,
                           .roles = lines,
                           .lines = spans,
                           .line_count = count,
                           .chunks = c.chunks,
                           .chunk_count = c.count};
    return MF_OK;
}

mf_str mf_chunk_list_chunk(const mf_chunk_list *list, size_t index) {
    mf_chunk_span span = list->chunks[index];
    return mf_str_sub(list->text, span.from, span.to - span.from);
}

bool mf_chunk_list_holds(const mf_chunk_list *list, size_t index, size_t line) {
    mf_chunk_span chunk = list->chunks[index];
    mf_chunk_span own = list->lines[line];
    bool inside = own.from >= chunk.from && own.to <= chunk.to;
    return inside || (own.from < chunk.to && chunk.from < own.to);
}

mf_rc mf_chunk_list_show(const mf_chunk_list *list, const mf_chunk_rules *rules,
                         size_t index, mf_arena *arena, mf_str *out, mf_err *err) {
    enum { ROLE_MAX = 16 };
    mf_chunk_span chunk = list->chunks[index];
    if (rules->strategy == MF_CHUNK_TURN) {
        *out = mf_chunk_list_chunk(list, index);
        return MF_OK;
    }
    size_t bytes = chunk.to - chunk.from;
    for (size_t i = 0; i < list->line_count; i++) {
        bytes += mf_chunk_list_holds(list, index, i) ? ROLE_MAX : 0;
    }
    char *text = mf_arena_alloc(arena, bytes + 1);
    if (text == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a chunk of %zu bytes", bytes);
    }
    size_t len = 0;
    size_t at = chunk.from;
    for (size_t i = 0; i < list->line_count; i++) {
        mf_chunk_span line = list->lines[i];
        if (!mf_chunk_list_holds(list, index, i)) {
            continue;
        }
        if (line.from > at) { /* the line break before */
            text[len++] = '\n';
        }
        if (line.from >= chunk.from) {
            len += (size_t)snprintf(text + len, ROLE_MAX,
                                    "[%s]: ", mf_role_name(list->roles[i].role));
        }
        at = line.from > chunk.from ? line.from : chunk.from;
        size_t end = line.to < chunk.to ? line.to : chunk.to;
        memcpy(text + len, list->text.p + at, end - at);
        len += end - at;
        at = end;
    }
    *out = (mf_str){text, len};
    return MF_OK;
}

/* --- windows --- */

typedef struct fitting {
    mf_chunk_list *list;
    mf_arena *arena;
    mf_chunk_window *windows;
    size_t count, room;
} fitting;

static mf_rc add_windows(fitting *f, const mf_str *parts, size_t count, size_t chunk,
                         mf_err *err) {
    if (f->count + count > f->room) {
        size_t room = (f->count + count) * 2;
        mf_chunk_window *grown = mf_arena_alloc_array(f->arena, room, sizeof *grown);
        if (grown == NULL) {
            return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu windows", room);
        }
        if (f->count > 0) {
            memcpy(grown, f->windows, f->count * sizeof *grown);
        }
        f->windows = grown;
        f->room = room;
    }
    for (size_t i = 0; i < count; i++) {
        /* A blank chunk gives an empty part, which points nowhere. */
        size_t from = parts[i].len > 0 ? (size_t)(parts[i].p - f->list->text.p)
                                       : f->list->chunks[chunk].from;
        f->windows[f->count++] = (mf_chunk_window){
            .span = {from, from + parts[i].len},
            .chunk = chunk,
        };
    }
    return MF_OK;
}

/* MF_CHUNKS_MAX parts at a time, until the chunk is at its end. */
static mf_rc fit_chunk(fitting *f, const mf_model_tokenizer *wp, size_t window,
                       size_t chunk, mf_err *err) {
    mf_str rest = mf_str_trim(mf_chunk_list_chunk(f->list, chunk));
    do {
        mf_str parts[MF_CHUNKS_MAX];
        size_t count;
        MF_TRY(mf_chunks_cut(wp, window, rest, parts, MF_CHUNKS_MAX, &count, err));
        MF_TRY(add_windows(f, parts, count, chunk, err));
        if (rest.len > 0) {
            size_t done = (size_t)(parts[count - 1].p - rest.p) + parts[count - 1].len;
            rest = mf_str_trim(mf_str_sub(rest, done, rest.len - done));
        }
    } while (rest.len > 0);
    f->windows[f->count - 1].last = true;
    return MF_OK;
}

mf_rc mf_chunk_list_fit(mf_chunk_list *list, const mf_model_tokenizer *wp,
                        size_t window, mf_arena *arena, mf_err *err) {
    fitting f = {.list = list, .arena = arena};
    for (size_t i = 0; i < list->chunk_count; i++) {
        MF_TRY(fit_chunk(&f, wp, window, i, err));
    }
    list->windows = f.windows;
    list->window_count = f.count;
    return MF_OK;
}

/* --- the texts of one message --- */

/* Chunk number `back` before `chunk`: 1 is the one right before it. */
static mf_str chunk_before(const mf_chunk_list *list, const mf_str *before,
                           size_t before_count, size_t chunk, size_t back) {
    if (back <= chunk) {
        return mf_chunk_list_chunk(list, chunk - back);
    }
    size_t further = back - chunk;
    return further <= before_count ? before[before_count - further] : MF_STR_NONE;
}

/* `own`, and behind it what was said before, the nearest first, as far as the window
 * has room. */
static mf_rc with_context(const mf_chunk_list *list, const mf_chunk_rules *rules,
                          const mf_model_tokenizer *wp, size_t window,
                          const mf_str *before, size_t before_count, size_t chunk,
                          mf_str own, mf_arena *arena, mf_str *out, mf_err *err) {
    size_t bytes = own.len;
    for (size_t back = 1; back <= rules->context_chunks; back++) {
        bytes += 1 + chunk_before(list, before, before_count, chunk, back).len;
    }
    char *text = mf_arena_alloc(arena, bytes + 1);
    if (text == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a chunk with its context");
    }
    size_t at = own.len;
    if (own.len > 0) {
        memcpy(text, own.p, own.len);
    }
    for (size_t back = 1; back <= rules->context_chunks; back++) {
        mf_str more = chunk_before(list, before, before_count, chunk, back);
        if (more.len > 0) {
            text[at++] = '\n';
            memcpy(text + at, more.p, more.len);
            at += more.len;
        }
    }
    mf_str whole = {text, at};
    size_t fits = mf_model_tokenizer_fit(wp, whole, window);
    whole = mf_str_trim(mf_str_sub(whole, 0, fits));
    *out = whole.len > own.len ? whole : own; /* nothing to add, or no room for it */
    return MF_OK;
}

static bool overlap(mf_chunk_span a, mf_chunk_span b) {
    return a.from < b.to && b.from < a.to;
}

/* Both point into the list's text, so a copy never needs to be compared. */
static bool is_among(mf_str text, const mf_str *parts, size_t count) {
    size_t i = 0;
    while (i < count && (parts[i].p != text.p || parts[i].len != text.len)) {
        i++;
    }
    return i < count;
}

mf_rc mf_chunk_list_texts(const mf_chunk_list *list, const mf_chunk_rules *rules,
                          const mf_model_tokenizer *wp, size_t window,
                          const mf_str *before, size_t before_count, size_t line,
                          mf_arena *arena, mf_str *parts, size_t parts_max,
                          size_t *count, mf_err *err) {
    MF_ASSERT(list->windows != NULL && line < list->line_count && parts_max > 0);
    mf_chunk_span own = list->lines[line];
    size_t alone = 0; /* windows of its text by itself */
    if (list->line_count > 1 && own.to > own.from) {
        MF_TRY(mf_chunks_cut(wp, window,
                             mf_str_sub(list->text, own.from, own.to - own.from), parts,
                             parts_max / 2 + 1, &alone, err));
    }
    size_t made = alone;
    for (size_t i = 0; i < list->window_count && made < parts_max; i++) {
        const mf_chunk_window *w = &list->windows[i];
        if (own.from == own.to || !overlap(w->span, own)) {
            continue;
        }
        mf_str text = mf_str_sub(list->text, w->span.from, w->span.to - w->span.from);
        if (w->last && rules->context_chunks > 0) {
            MF_TRY(with_context(list, rules, wp, window, before, before_count, w->chunk,
                                text, arena, &text, err));
        }
        if (!is_among(text, parts, alone)) {
            parts[made++] = text;
        }
    }
    if (made == 0) { /* nothing but white space */
        parts[made++] = MF_STR("");
    }
    *count = made;
    return MF_OK;
}
