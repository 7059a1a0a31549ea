/* round_buffer.c - the remembered windows of one user's sessions.
 *
 * A user has few sessions in use at a time, so the windows are an array that is
 * searched from end to end; the bound keeps that short.  A window's rounds are a plain
 * array too: it holds a handful, and leaving rounds are a memmove.
 *
 * A load in progress is an entry that is not known but holds a ticket.  Any change to
 * the session meanwhile takes the ticket away, and the loader's result, which may lack
 * that change, is refused.
 *
 * Invariants: a known entry's `tokens` is the sum over its rounds; it is within the
 * limits it was made under; only known entries have rounds. */
#include "buffer/round_buffer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

typedef struct window_entry {
    mf_uuid session_id;
    bool known;
    uint64_t ticket; /* of the load in progress, 0: none */
    uint64_t used;   /* moment of the last use, for leaving */
    mf_round *rounds;
    size_t count, capacity;
    size_t tokens;
    mf_round_limits limits;
    int64_t since_ns; /* when it last became other than empty */
} window_entry;

struct mf_round_buffer {
    window_entry *entries;
    size_t count, capacity, sessions_max;
    uint64_t moment; /* rises with every use and every ticket */
};

mf_rc mf_round_buffer_open(size_t sessions_max, mf_round_buffer **out, mf_err *err) {
    MF_ASSERT(sessions_max > 0);
    mf_round_buffer *buffer = mf_alloc_zero(1, sizeof(*buffer));
    if (buffer == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for a round buffer");
    }
    buffer->sessions_max = sessions_max;
    *out = buffer;
    return MF_OK;
}

void mf_round_buffer_close(mf_round_buffer *buffer) {
    if (buffer == NULL) {
        return;
    }
    for (size_t i = 0; i < buffer->count; i++) {
        mf_free(buffer->entries[i].rounds);
    }
    mf_free(buffer->entries);
    mf_free(buffer);
}

static window_entry *find_entry(mf_round_buffer *buffer, mf_uuid session_id) {
    for (size_t i = 0; i < buffer->count; i++) {
        if (mf_uuid_eq(buffer->entries[i].session_id, session_id)) {
            buffer->entries[i].used = ++buffer->moment;
            return &buffer->entries[i];
        }
    }
    return NULL;
}

static bool limits_eq(mf_round_limits a, mf_round_limits b) {
    return a.tokens_max == b.tokens_max && a.rounds_max == b.rounds_max;
}

static void window_of(const window_entry *entry, mf_round_window *out) {
    *out = (mf_round_window){
        .first_num = entry->count > 0 ? entry->rounds[0].first_num : INT64_MAX,
        .rounds = entry->count,
        .tokens = entry->tokens,
    };
}

bool mf_round_buffer_get(mf_round_buffer *buffer, mf_uuid session_id,
                         mf_round_limits limits, mf_round_window *out) {
    window_entry *entry = find_entry(buffer, session_id);
    if (entry == NULL || !entry->known || !limits_eq(entry->limits, limits)) {
        return false;
    }
    window_of(entry, out);
    return true;
}

static void make_unknown(window_entry *entry) {
    entry->known = false;
    entry->ticket = 0;
    entry->count = 0;
    entry->tokens = 0;
}

static bool entry_reserve(window_entry *entry, size_t count) {
    if (count <= entry->capacity) {
        return true;
    }
    size_t capacity = entry->capacity > 0 ? entry->capacity : 8;
    while (capacity < count) {
        capacity *= 2;
    }
    size_t bytes;
    if (!mf_mul_size(capacity, sizeof(entry->rounds[0]), &bytes)) {
        return false;
    }
    mf_round *grown = mf_realloc(entry->rounds, bytes);
    if (grown == NULL) {
        return false;
    }
    entry->rounds = grown;
    entry->capacity = capacity;
    return true;
}

/* How many of the oldest rounds must leave for the rest to be within the limits. */
static size_t excess_of(const window_entry *entry, mf_round_limits limits) {
    size_t excess = 0;
    size_t tokens = entry->tokens;
    while (excess < entry->count &&
           (tokens > limits.tokens_max || entry->count - excess > limits.rounds_max)) {
        tokens -= entry->rounds[excess].tokens;
        excess++;
    }
    return excess;
}

static void drop_oldest(window_entry *entry, size_t count) {
    if (count == 0) {
        return; /* perhaps of no rounds at all, which have no array */
    }
    for (size_t i = 0; i < count; i++) {
        entry->tokens -= entry->rounds[i].tokens;
    }
    entry->count -= count;
    memmove(entry->rounds, entry->rounds + count,
            entry->count * sizeof(entry->rounds[0]));
}

/* The newest rounds that fit a window by themselves: how many of the oldest do not. */
static size_t skip_of(const mf_round *rounds, size_t count, mf_round_limits limits) {
    size_t tokens = 0;
    size_t kept = 0;
    while (kept < count && kept < limits.rounds_max &&
           rounds[count - kept - 1].tokens <= limits.tokens_max - tokens) {
        tokens += rounds[count - kept - 1].tokens;
        kept++;
    }
    return count - kept;
}

static mf_transfer_cause cause_of(const window_entry *entry, const mf_round *rounds,
                                  size_t count, mf_round_limits limits) {
    size_t tokens = entry->tokens;
    bool oversized = false;
    for (size_t i = 0; i < count; i++) {
        tokens += rounds[i].tokens;
        oversized |= rounds[i].tokens > limits.tokens_max;
    }
    if (oversized) {
        return MF_TRANSFER_OVERSIZED;
    }
    return tokens > limits.tokens_max ? MF_TRANSFER_TOKEN_LIMIT
                                      : MF_TRANSFER_SIZE_LIMIT;
}

bool mf_round_buffer_add(mf_round_buffer *buffer, mf_uuid session_id,
                         const mf_round *rounds, size_t count, mf_round_limits limits,
                         int64_t now_ns, mf_round_window *out,
                         mf_round_transfer *moved) {
    window_entry *entry = find_entry(buffer, session_id);
    if (entry == NULL) {
        return false;
    }
    size_t skip = skip_of(rounds, count, limits);
    size_t kept = count - skip;
    if (!entry->known || !limits_eq(entry->limits, limits) ||
        !entry_reserve(entry, entry->count + kept)) {
        make_unknown(entry);
        return false;
    }
    mf_transfer_cause cause = cause_of(entry, rounds, count, limits);
    size_t left = skip;
    if (skip > 0) { /* what is newer than all that is here does not fit */
        left += entry->count;
        drop_oldest(entry, entry->count);
    }
    if (entry->count == 0) {
        entry->since_ns = now_ns;
    }
    for (size_t i = skip; i < count; i++) {
        entry->rounds[entry->count++] = rounds[i];
        entry->tokens += rounds[i].tokens;
    }
    size_t excess = excess_of(entry, limits);
    drop_oldest(entry, excess);
    left += excess;
    *moved = (mf_round_transfer){left, left > 0 ? cause : MF_TRANSFER_NONE};
    window_of(entry, out);
    return true;
}

static size_t empty_entry(window_entry *entry) {
    size_t left = entry->count;
    if (entry->known) {
        entry->count = 0;
        entry->tokens = 0;
    } else {
        make_unknown(entry);
    }
    return left;
}

size_t mf_round_buffer_empty(mf_round_buffer *buffer, mf_uuid session_id) {
    window_entry *entry = find_entry(buffer, session_id);
    return entry != NULL ? empty_entry(entry) : 0;
}

size_t mf_round_buffer_empty_all(mf_round_buffer *buffer) {
    size_t left = 0;
    for (size_t i = 0; i < buffer->count; i++) {
        left += empty_entry(&buffer->entries[i]);
    }
    return left;
}

size_t mf_round_buffer_older(const mf_round_buffer *buffer, int64_t ns, mf_uuid *out,
                             size_t most) {
    size_t count = 0;
    for (size_t i = 0; i < buffer->count && count < most; i++) {
        const window_entry *entry = &buffer->entries[i];
        if (entry->count > 0 && entry->since_ns <= ns) {
            out[count++] = entry->session_id;
        }
    }
    return count;
}

/* A place for one more session: a new one, or the longest unused. */
static window_entry *place_for(mf_round_buffer *buffer) {
    if (buffer->count == buffer->capacity && buffer->capacity < buffer->sessions_max) {
        size_t capacity = buffer->capacity > 0 ? buffer->capacity * 2 : 2;
        if (capacity > buffer->sessions_max) {
            capacity = buffer->sessions_max;
        }
        window_entry *grown =
            mf_realloc(buffer->entries, capacity * sizeof(buffer->entries[0]));
        if (grown != NULL) {
            buffer->entries = grown;
            buffer->capacity = capacity;
        }
    }
    if (buffer->count < buffer->capacity) {
        window_entry *entry = &buffer->entries[buffer->count++];
        *entry = (window_entry){0};
        return entry;
    }
    window_entry *oldest = NULL;
    for (size_t i = 0; i < buffer->count; i++) {
        if (oldest == NULL || buffer->entries[i].used < oldest->used) {
            oldest = &buffer->entries[i];
        }
    }
    return oldest; /* NULL only when not even the first one could be had */
}

uint64_t mf_round_buffer_load_begin(mf_round_buffer *buffer, mf_uuid session_id) {
    window_entry *entry = find_entry(buffer, session_id);
    if (entry == NULL) {
        entry = place_for(buffer);
        if (entry == NULL) {
            return 0;
        }
        entry->session_id = session_id;
    }
    make_unknown(entry);
    entry->used = ++buffer->moment;
    entry->ticket = ++buffer->moment;
    return entry->ticket;
}

bool mf_round_buffer_load_end(mf_round_buffer *buffer, mf_uuid session_id,
                              uint64_t ticket, const mf_round *rounds, size_t count,
                              mf_round_limits limits, int64_t now_ns) {
    window_entry *entry = find_entry(buffer, session_id);
    if (entry == NULL || ticket == 0 || entry->ticket != ticket ||
        !entry_reserve(entry, count)) {
        return false;
    }
    entry->ticket = 0;
    entry->known = true;
    entry->limits = limits;
    entry->since_ns = now_ns;
    entry->count = count;
    entry->tokens = 0;
    for (size_t i = 0; i < count; i++) {
        entry->rounds[i] = rounds[i];
        entry->tokens += rounds[i].tokens;
    }
    MF_DEBUG_ASSERT(excess_of(entry, limits) == 0);
    return true;
}

void mf_round_buffer_forget(mf_round_buffer *buffer, mf_uuid session_id) {
    window_entry *entry = find_entry(buffer, session_id);
    if (entry != NULL) {
        make_unknown(entry);
    }
}

void mf_round_buffer_get_state(const mf_round_buffer *buffer, mf_round_state *out) {
    *out = (mf_round_state){.since_ns = INT64_MAX};
    for (size_t i = 0; i < buffer->count; i++) {
        const window_entry *entry = &buffer->entries[i];
        if (entry->count > 0) {
            out->windows++;
            out->rounds += entry->count;
            out->tokens += entry->tokens;
            out->since_ns =
                entry->since_ns < out->since_ns ? entry->since_ns : out->since_ns;
        }
    }
}

const char *mf_transfer_cause_name(mf_transfer_cause cause) {
    static const char *const names[MF_TRANSFER_CAUSES] = {
        "none",   "token_limit", "size_limit", "oversized", "session_change",
        "manual", "time",        "idle",       "immediate"};
    return names[cause];
}

size_t mf_round_buffer_bytes(const mf_round_buffer *buffer) {
    size_t bytes = sizeof(*buffer) + buffer->capacity * sizeof(buffer->entries[0]);
    for (size_t i = 0; i < buffer->count; i++) {
        bytes += buffer->entries[i].capacity * sizeof(mf_round);
    }
    return bytes;
}
