/* text_train.c - a dictionary out of what many texts have in common.
 *
 * zstd's trainer copies pieces of its samples.  It is given only those parts of them in
 * which every two words side by side are shared by enough samples, so the pieces cannot
 * hold a name, a number or a phrase that few messages have.  The tables that follow the
 * pieces are then made from the whole samples: they hold how often bytes and lengths
 * come up, no text. */
#include <string.h>
#include <zdict.h>

#include "base/alloc.h"
#include "store/sqlite/text_codec.h"

enum {
    PAIR_BITS = 20, /* room for a million pairs; what does not fit counts as rare */
    PAIR_TRIES = 16,
    SAMPLES_MIN = 64,
    PACK_LEVEL = 6, /* the tables suit this level best */
};

typedef struct pair {
    uint64_t hash;          /* 0: free */
    uint32_t samples, last; /* how many have it; the newest of them + 1 */
} pair;

typedef struct training {
    const mf_str *samples;
    size_t count;
    pair *pairs; /* [1 << PAIR_BITS] */
    char *kept;  /* the shared parts, one sample behind the other */
    size_t kept_len;
    size_t *sizes; /* of them; [kept_count] */
    size_t kept_count;
} training;

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* The next word at or after *at, without blanks; empty at the end. */
static mf_str next_word(mf_str text, size_t *at) {
    while (*at < text.len && is_blank(text.p[*at])) {
        ++*at;
    }
    size_t from = *at;
    while (*at < text.len && !is_blank(text.p[*at])) {
        ++*at;
    }
    return mf_str_sub(text, from, *at - from);
}

static pair *pair_of(const training *t, mf_str a, mf_str b) {
    uint64_t hash = mf_str_hash(a) * 0x9E3779B97F4A7C15u + mf_str_hash(b);
    hash = hash != 0 ? hash : 1;
    size_t mask = ((size_t)1 << PAIR_BITS) - 1;
    for (size_t i = 0; i < PAIR_TRIES; i++) {
        pair *p = &t->pairs[((hash >> 20) + i) & mask];
        if (p->hash == hash || p->hash == 0) {
            p->hash = hash;
            return p;
        }
    }
    return NULL;
}

static void count_pairs(training *t) {
    for (size_t s = 0; s < t->count; s++) {
        size_t at = 0;
        mf_str word = next_word(t->samples[s], &at);
        for (mf_str next; (next = next_word(t->samples[s], &at)).len > 0; word = next) {
            pair *p = pair_of(t, word, next);
            if (p != NULL && p->last != s + 1) {
                p->last = (uint32_t)(s + 1);
                p->samples++;
            }
        }
    }
}

static void keep(training *t, mf_str text) {
    memcpy(t->kept + t->kept_len, text.p, text.len);
    t->kept_len += text.len;
}

/* Copies the runs of words of which each two neighbours are shared, with the blanks
 * they really have between them. */
static void keep_shared(training *t, mf_str sample) {
    size_t before = t->kept_len;
    size_t at = 0;
    mf_str word = next_word(sample, &at);
    bool running = false;
    for (mf_str next; (next = next_word(sample, &at)).len > 0; word = next) {
        const pair *p = pair_of(t, word, next);
        bool shared = p != NULL && p->samples >= MF_PACK_SHARED;
        size_t from = (size_t)(word.p - sample.p);
        if (shared && !running) {
            keep(t, word);
        }
        if (shared) {
            keep(t, mf_str_sub(sample, from + word.len, at - from - word.len));
        } else if (running) {
            keep(t, MF_STR("\n"));
        }
        running = shared;
    }
    if (t->kept_len > before) {
        t->sizes[t->kept_count++] = t->kept_len - before;
    }
}

/* The pieces zstd chooses, `*len` of them at the end of `out`. */
static size_t choose_pieces(const training *t, char *out, size_t bytes_max) {
    size_t size = ZDICT_trainFromBuffer(out, bytes_max, t->kept, t->sizes,
                                        (unsigned)t->kept_count);
    if (ZDICT_isError(size)) {
        return 0; /* too few samples, or too much alike */
    }
    size_t header = ZDICT_getDictHeaderSize(out, size);
    if (ZDICT_isError(header)) {
        return 0;
    }
    memmove(out, out + header, size - header);
    return size - header;
}

static mf_rc finish(training *t, size_t bytes_max, mf_str *out, mf_err *err) {
    char *pieces = mf_alloc(bytes_max);
    char *made = mf_alloc(bytes_max);
    mf_rc rc = MF_OK;
    if (pieces == NULL || made == NULL) {
        rc = MF_FAIL(err, MF_E_NOMEM, "no memory to train a dictionary");
    } else {
        size_t len = choose_pieces(t, pieces, bytes_max);
        /* From here on the whole samples, in the place of what was kept of them. */
        t->kept_len = 0;
        for (size_t i = 0; i < t->count; i++) {
            keep(t, t->samples[i]);
            t->sizes[i] = t->samples[i].len;
        }
        ZDICT_params_t params = {.compressionLevel = PACK_LEVEL};
        size_t size =
            len == 0 ? 0
                     : ZDICT_finalizeDictionary(made, bytes_max, pieces, len, t->kept,
                                                t->sizes, (unsigned)t->count, params);
        if (size > 0 && !ZDICT_isError(size)) {
            *out = (mf_str){made, size};
            made = NULL;
        }
    }
    mf_free(pieces);
    mf_free(made);
    return rc;
}

mf_rc mf_text_train(const mf_str *samples, size_t count, size_t bytes_max, mf_str *out,
                    mf_err *err) {
    *out = MF_STR_NONE;
    if (count < SAMPLES_MIN || count >= UINT32_MAX) {
        return MF_OK;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += samples[i].len + 1; /* with a line break for each run that ends */
    }
    training t = {.samples = samples, .count = count};
    t.pairs = mf_alloc_zero((size_t)1 << PAIR_BITS, sizeof *t.pairs);
    t.kept = mf_alloc(bytes);
    t.sizes = mf_alloc_array(count, sizeof *t.sizes);
    mf_rc rc = MF_OK;
    if (t.pairs == NULL || t.kept == NULL || t.sizes == NULL) {
        rc = MF_FAIL(err, MF_E_NOMEM, "no memory to train a dictionary");
    } else {
        count_pairs(&t);
        for (size_t i = 0; i < count; i++) {
            keep_shared(&t, samples[i]);
        }
        if (t.kept_count >= SAMPLES_MIN) {
            rc = finish(&t, bytes_max, out, err);
        }
    }
    mf_free(t.pairs);
    mf_free(t.kept);
    mf_free(t.sizes);
    return rc;
}
